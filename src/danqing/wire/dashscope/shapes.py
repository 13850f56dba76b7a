"""How each family of models shows its pictures: choices, what stands beside them, and usage. Pure; the differences
between families are the tables below, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from danqing.core.job import Job
from danqing.core.order import Brief
from danqing.core.raster import Size

WAN = frozenset({"W25I", "W26I", "W26T", "W27", "WIE", "WT"})
ONE_EACH = frozenset({"W26I", "W26T", "W27"})
"""Families that answer with one choice a picture; the others put all pictures in one."""

SERIES = "enable_sequential"
"""The knob that makes a series of pictures, which belong together in one choice."""

STORY = "enable_interleave"
"""The knob that makes text and pictures in turn, which stand in one choice in their order."""

TIER = 2_250_000
"""Pixels up to which a picture of the newer families counts as 1k."""

PER_INPUT, PER_CALL, PER_PICTURE = 9_400, 720, 2
"""Tokens that the service counts for an input picture, for a call, and for a picture made: seen, not explained, and
not billed."""

PER_TURN = 125
"""Tokens that the service counts for a picture between texts; the texts themselves count for nothing."""


def tells(job: Job) -> bool:
    """Whether the job is one of text and pictures in turn."""
    return job.brief.knobs.get(STORY) is True


def turns(job: Job) -> list[tuple[int, str | None]]:
    """What a finished job of that kind consists of, in order: (place, text), the text being None for the picture of
    that place."""
    places = [place for place in range(len(job.images) + len(job.lost)) if place not in job.lost]
    found: list[tuple[int, str | None]] = [*job.said.texts, *((place, None) for place in places)]
    return sorted(found, key=lambda turn: (turn[0], turn[1] is None))


def item(*, text: str | None = None, image: str | None = None) -> dict[str, str]:
    """A turn as it is shown."""
    return {"type": "text", "text": text} if text is not None else {"type": "image", "image": image or ""}


def told(brief: Brief, images: int, size: Size | None) -> dict[str, Any]:
    """The usage of a story after so many pictures; before the first its size is 0*0."""
    taken = len(brief.prompt) + PER_INPUT * len(brief.inputs)
    given = PER_TURN * images
    return {
        "total_tokens": taken + given,
        "image_count": images,
        "output_tokens": given,
        "size": f"{size.width}*{size.height}" if size is not None else "0*0",
        "input_tokens": taken,
    }


def choices(job: Job, family: str, links: Sequence[str], *, typed: bool = False) -> list[dict[str, Any]]:
    """The pictures behind `links` as choices. `typed` is how tasks show them in every family."""
    if tells(job):
        made = iter(links)
        return [_choice([item(text=text, image=None if text else next(made)) for _, text in turns(job)])]
    kind = {"type": "image"} if typed or family in WAN else {}
    items = [{"image": link, **kind} for link in links]
    if family in ONE_EACH and not job.brief.knobs.get(SERIES):
        return [_choice([item]) for item in items]
    if family == "Z":
        text: dict[str, str] = {"text": used(job)}
        return [_choice([*items, text], reasoning_content="")]
    return [_choice(items)]


def _choice(content: Sequence[Mapping[str, str]], **more: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": list(content), **more}
    return {"finish_reason": "stop", "message": message}


def used(job: Job) -> str:
    """The prompt that the pictures were drawn from."""
    return job.brief.prompt if job.said.prompt is None else job.said.prompt


def counts(job: Job) -> dict[str, int]:
    """How many pictures were asked for, made and lost so far."""
    made = len(job.images)
    lost = job.brief.count if job.fault is not None else len(job.lost)
    return {"TOTAL": job.brief.count, "SUCCEEDED": made, "FAILED": lost}


def extras(job: Job, family: str) -> dict[str, Any]:
    """What stands beside the choices of a synchronous answer."""
    return _EXTRAS.get(family, _nothing)(job)


def usage(job: Job, family: str) -> dict[str, Any]:
    """What was delivered, as the family counts it; sizes are those of the files."""
    if tells(job):
        return told(job.brief, len(job.images), job.images[0].size)
    return _USAGE.get(family, _plain)(job)


def _nothing(_: Job) -> dict[str, Any]:
    return {}


def _task_metric(job: Job) -> dict[str, Any]:
    return {"task_metric": counts(job)}


def _finished(_: Job) -> dict[str, Any]:
    return {"finished": True}


def _rewritten(job: Job) -> dict[str, Any]:
    """Whether the prompt was rewritten; by what is not told."""
    return {"rewrite_status": "not_use" if job.said.prompt is None else "success"}


def _plain(job: Job) -> dict[str, Any]:
    size = job.images[0].size
    return {"image_count": len(job.images), "width": size.width, "height": size.height}


def _no_tokens(job: Job) -> dict[str, Any]:
    return {**_sized(job), "input_tokens": 0, "output_tokens": 0, "total_tokens": 0}


def _some_tokens(job: Job) -> dict[str, Any]:
    taken = PER_CALL + len(job.brief.prompt) + PER_INPUT * len(job.brief.inputs)
    given = PER_PICTURE * len(job.images)
    return {**_sized(job), "input_tokens": taken, "output_tokens": given, "total_tokens": taken + given}


def _sized(job: Job) -> dict[str, Any]:
    size = job.images[0].size
    return {"image_count": len(job.images), "size": f"{size.width}*{size.height}"}


def _tiered(job: Job) -> dict[str, Any]:
    size = job.images[0].size
    tier = "1k" if size.area <= TIER else "2k"
    return {
        "output_width": size.width,
        "output_height": size.height,
        "input_image_count": len(job.brief.inputs),
        "input_image_type": f"qima_input_{tier}",
        "output_image_count": len(job.images),
        "output_image_type": f"qima_output_{tier}",
    }


def _thought(job: Job) -> dict[str, Any]:
    thoughts = {} if job.said.prompt is None else {"output_tokens_details": {"reasoning_tokens": 0}}
    return {**_plain(job), "input_tokens": 0, "output_tokens": 0, "total_tokens": 0, **thoughts}


_EXTRAS: Mapping[str, Callable[[Job], dict[str, Any]]] = {
    "Q1": _task_metric,
    "Q21": _rewritten,
    "Q3": _rewritten,
    "W26I": _finished,
    "W26T": _finished,
    "W27": _finished,
}
_USAGE: Mapping[str, Callable[[Job], dict[str, Any]]] = {
    "Q21": _tiered,
    "Q3": _tiered,
    "W26I": _no_tokens,
    "W26T": _no_tokens,
    "W27": _some_tokens,
    "Z": _thought,
}
