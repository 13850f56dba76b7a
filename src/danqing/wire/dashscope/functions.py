"""The named functions of an editing model: what each asks for beyond a prompt and a picture. Pure.

A function is not a model of its own here: its parameters become a mask, margins or a larger size, and what its name
says is told to the checkpoint in words, before the prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from danqing.core.errors import BadOrder
from danqing.core.models import FunctionRule
from danqing.core.order import Knob

SCALES = ("top_scale", "bottom_scale", "left_scale", "right_scale")
"""How far a picture is extended: 1.5 adds half of its height or width on that side."""
FACTOR = "upscale_factor"
"""How many times as long the sides of an enlarged picture are."""
STRENGTH = "strength"
"""How far an edit may go, from 0 to 1."""
USUAL_STRENGTH = 0.5
"""From here on, the default, the instruction alone decides; an edit of less begins nearer to its input."""


def prompt(text: str, rule: FunctionRule | None) -> str:
    """The prompt, after what the function says in the prompt's own language."""
    if rule is None or not rule.instruction:
        return text
    return rule.instruction["zh" if any("\u4e00" <= letter <= "\u9fff" for letter in text) else "en"] + text


def members(rule: FunctionRule, knobs: Mapping[str, Knob]) -> dict[str, Any]:
    """The members of an Order that come from a function's parameters, and the parameters that are left. Raises
    BadOrder for an extension by nothing."""
    rest = dict(knobs)
    if rule.extends:
        above, below, left, right = (float(rest.pop(name)) - 1.0 for name in SCALES)
        if not any((above, below, left, right)):
            raise BadOrder(f"One of {', '.join(SCALES)} must be above 1", field=f"parameters.{SCALES[0]}")
        return {"margins": (above, below, left, right), "knobs": rest}
    if rule.enlarges:
        return {"enlarge": int(rest.pop(FACTOR)), "knobs": rest}
    if STRENGTH in rest:
        rest[STRENGTH] = min(1.0, float(rest[STRENGTH]) / USUAL_STRENGTH)
    return {"knobs": rest}
