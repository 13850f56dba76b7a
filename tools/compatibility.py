"""The compatibility page: endpoint by family by parameter, from the catalogue and from the transcripts that show it.

Knows what the contract has and this service has not; everything else it reads.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from danqing.catalogue.loader import load
from danqing.core.models import FunctionRule, KnobRule, Model, SizeRule, Standing

CASES = Path(__file__).resolve().parent.parent / "tests" / "wire" / "cases"
"""Where transcripts lie."""

ENDPOINTS: Mapping[str, tuple[str, str, str]] = {
    "dashscope/multimodal-generation": (
        *("multimodal-generation", "/api/v1/services/aigc/multimodal-generation/generation"),
        "with the pictures",
    ),
    "dashscope/image-generation": (
        *("image-generation", "/api/v1/services/aigc/image-generation/generation"),
        "with a task",
    ),
    "dashscope/text2image": ("text2image", "/api/v1/services/aigc/text2image/image-synthesis", "with a task"),
    "dashscope/image2image": (
        *("image2image", "/api/v1/services/aigc/image2image/image-synthesis"),
        "with a task",
    ),
    "dashscope/compatible": (
        *("compatible mode", "/compatible-mode/v1/images/generations"),
        "with the pictures",
    ),
}
"""Each route's short name, its path under any prefix, and how it answers."""

FAMILIES: Mapping[str, str] = {
    "QE": "Qwen-Image-Edit",
    "Q1": "Qwen-Image, first generation",
    "Q2": "Qwen-Image 2.0",
    "Q21": "Qwen-Image 2.1",
    "Q3": "Qwen-Image 3.0",
    "W27": "Wan 2.7 image",
    "W26I": "Wan 2.6 image",
    "W26T": "Wan 2.6 text to image",
    "WT": "Wan text to image, older",
    "W25I": "Wan 2.5 image editing",
    "WIE": "Wanx 2.1 image editing by functions",
    "Z": "Z-Image-Turbo",
}
"""In the order of the page."""

ABSENT: Mapping[str, str] = {
    "qwen-mt-image": "translates the text in a picture: nothing here finds and sets text",
    "wanx-sketch-to-image-lite": "paints after a sketch: nothing here is trained for it",
    "wanx-x-painting": "an older model that paints under a mask: `wanx2.1-imageedit` does that here",
    "wanx-style-repaint-v1": "repaints portraits in fixed styles: nothing here is trained for it",
}
"""Image models of the service that have no real engine here; each answers `Model not exist.`"""

WORDS: Mapping[Standing, str] = {
    Standing.SAME: "same",
    Standing.STAND_IN: "stand-in",
    Standing.IDLE: "checked, without effect",
    Standing.REFUSED: "refused",
}
IGNORED = "ignored"
DIFFERENT: Mapping[int, str] = {}
"""Cases whose transcripts show another answer than the contract's, and why."""

REASONS: Mapping[int, str] = {
    131: "permissions of workspaces come with accounts",
    132: "the standing of accounts comes with accounts",
    133: "free tiers come with accounts",
    135: "limits on running tasks come with accounts",
}
"""Cases that no transcript shows, where that is on purpose."""

ELSEWHERE: Mapping[int, str] = {
    124: "tests/e2e/test_sdk_uploads.py: local files through the official SDK, blocking and asyncio",
}
"""Cases that are shown by other tests than transcripts."""

CLIENTS: Sequence[tuple[str, str, str, str]] = (
    (
        "the official Python SDK `dashscope`",
        "2.0.2; by `make sdks` 1.27.8, 1.26.7, 1.25.24, 1.25.0, 1.24.10, 1.24.0",
        "classic, asyncio and v2 classes, its command line: calls, streams, tasks, lists, cancels, local files",
        "`tests/e2e/test_sdk*.py`",
    ),
    (
        "the official Java SDK `dashscope-sdk-java`",
        "2.22.29, its requests replayed as its source writes them: the SDK itself is not run",
        "conversations, pictures, tasks, lists, cancels, permits, OkHttp's forms, streams",
        "`27_java`, `31_uploads`",
    ),
    (
        "the official OpenAI SDKs for Python and Node",
        "3.54.0; 6.49.0",
        "`images.generate` in the OpenAI-compatible mode, and what is refused",
        "`tests/e2e`, `make clients`",
    ),
    (
        "Alibaba's skill for agents, `QwenCloud/qwencloud-ai`",
        "2907b4c",
        "Wan 2.5 to 2.7 and Qwen-Image, at once and as tasks, local files by upload",
        "`make clients`",
    ),
    (
        "`JimLiu/baoyu-skills`, in TypeScript",
        "7c5e81f",
        "Z-Image-Turbo and Qwen-Image 2.0, sizes and shapes",
        "`make clients`",
    ),
    ("LiteLLM", "1.106.2", "`image_generation` in the OpenAI-compatible mode", "`make clients`"),
)
"""Clients of other people that were run unchanged: name, release, what they were asked for, where."""

LAST = 150
"""The number of the contract's last conformance case."""

_TITLE = re.compile(r"=== (\d+(?:, \d+)*)(?::|$)")
Row = Sequence[str]


@dataclass(frozen=True, slots=True)
class Shown:
    """One exchange of a transcript: the cases its title names, and what its body asks for."""

    file: str
    cases: tuple[int, ...]
    model: str
    parameters: frozenset[str]


def page() -> str:
    """The page in Markdown."""
    models = load()
    parts = [INTRO, _endpoints(models)]
    for key, name in FAMILIES.items():
        family = [model for model in models.values() if model.family == key]
        parts.append(_family(name, family))
    parts += [_absent(), _clients(), _cases()]
    return "\n".join(parts)


INTRO = """# Compatibility

What a program written against the image API of Alibaba Cloud Model Studio (DashScope) finds here: endpoint by family by
parameter. The page is written from the catalogue and from the transcripts in `tests/wire/cases`, which every test run
plays against the real routes; the last column of a table names the transcripts in which a parameter is used.

| word | means |
|---|---|
| same | does what the service's documentation says |
| stand-in | does something like it; the note says what |
| checked, without effect | a wrong value is refused as the service refuses it, a right one changes nothing |
| refused | a clear error says that it is not available here |
| ignored | not looked at, as the service does with parameters that a model does not have |

Which checkpoint paints for a name is the profile's; its relation to the hosted model is in `danqing models`.
"""


def _table(head: Row, rows: Iterable[Row]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _endpoints(models: Mapping[str, Model]) -> str:
    rows = []
    for route, (short, path, how) in ENDPOINTS.items():
        served = [model for model in models.values() if route in model.routes]
        names = [name for key, name in FAMILIES.items() if any(model.family == key for model in served)]
        partly = {model.family for model in served if model.family not in _whole(models, route)}
        shown = [f"{name} (some)" if any(FAMILIES[key] == name for key in partly) else name for name in names]
        rows.append((short, f"`POST {path}`", how, "; ".join(shown)))
    table = _table(("endpoint", "path", "answers", "families"), rows)
    return f"## Endpoints\n\nUnder any prefix, with or without a slash at the end.\n\n{table}\n{LINKS}"


LINKS = """Links to results begin with the scheme and host that the request was sent to, so that whoever could ask can
fetch; with `server.public_url` they begin with that instead. They work for 24 hours, without a key. The hosted
service's links name a host of its object store: a client that checks for that host must be told yours.

The compatible mode answers with links, as the hosted service does: `response_format` (`b64_json`), `output_format`,
`quality`, `style`, `stream` and every other member that OpenAI's images have and DashScope's have not are read past.
`size` is written `1024x1024` there, and `1024*1024` everywhere else.
"""


def _whole(models: Mapping[str, Model], route: str) -> set[str]:
    """Families of which every model is served by the route."""
    keys = {model.family for model in models.values()}
    return {
        key for key in keys if all(route in model.routes for model in models.values() if model.family == key)
    }


def _family(name: str, family: Sequence[Model]) -> str:
    parts = [f"## {name}\n"]
    head = ("model", "endpoints", "input pictures", "prompt, characters", "sizes")
    parts.append(_table(head, map(_model, family)))
    parts.append(_table(("parameter", "values", "default", "here", "shown in"), _parameters(family)))
    functions = {name: rule for model in family for name, rule in model.functions.items()}
    if functions:
        parts.append(_table(("function", "here", "its own parameters"), _functions(functions)))
    refused = {member: why for model in family for member, why in model.refuses.items()}
    if refused:
        parts.append(
            _table(
                ("member of `input`", "here"), [(f"`{m}`", f"refused: {why}") for m, why in refused.items()]
            )
        )
    return "\n".join(parts)


def _model(model: Model) -> Row:
    label = f"`{model.name}`" + (f", today `{model.alias_of}`" if model.alias_of else "")
    answers = ", ".join(ENDPOINTS[route][0] for route in model.routes)
    sizes = _size(model.size)
    if model.edit_size is not None:
        sizes = f"{sizes}; with pictures: {_size(model.edit_size)}"
    return label, answers, _range(model.images), str(model.prompt_chars), sizes


def _size(rule: SizeRule) -> str:
    if rule.follow:
        return "that of the picture"
    parts = []
    if not rule.settable:
        parts.append("none may be asked")
    if rule.presets:
        parts.append(", ".join(f"{preset.width}\\*{preset.height}" for preset in rule.presets))
    if rule.sides:
        parts.append(f"sides {_range(rule.sides)}")
    if rule.area:
        parts.append(f"{_square(rule.area[0])} to {_square(rule.area[1])} pixels")
    if rule.ratio:
        parts.append(f"1:{1 / rule.ratio[0]:g} to {rule.ratio[1]:g}:1")
    if rule.multiple > 1:
        parts.append(f"rounded to {rule.multiple}")
    if rule.tokens:
        parts.append(" or ".join(f"{word} ({_square(area)})" for word, area in rule.tokens.items()))
    default = f"{rule.default.width}\\*{rule.default.height}" if rule.default else ""
    if rule.default_area:
        like = f"{_square(rule.default_area)} in the last picture's aspect"
        default = f"{default}, with pictures {like}" if default else like
    return ", ".join(parts) + f"; else {default}"


def _square(area: int) -> str:
    side = round(area**0.5)
    return f"{side}²" if side * side == area else f"{area:,}"


def _range(bounds: tuple[float, float]) -> str:
    low, high = bounds
    return f"{low:g}" if low == high else f"{low:g}–{high:g}"


def _parameters(family: Sequence[Model]) -> Iterator[Row]:
    def seen(name: str) -> str:
        files = {s.file for s in _shown() if name in s.parameters and s.model in {m.name for m in family}}
        return ", ".join(sorted(files)) or "unit tests"

    one = family[0]
    counts = sorted({(model.count, model.default_count) for model in family})
    yield (
        *("`n`", " or ".join(_range(bounds) for bounds, _ in counts)),
        *(" or ".join(sorted({str(default) for _, default in counts})), "same", seen("n")),
    )
    if not one.size.follow:
        yield "`size`", "as above", "as above", "same", seen("size")
    yield "`seed`", "0–2147483647", "drawn", "same: picture i is made from seed + i", seen("seed")
    negative = sorted({model.negative_chars for model in family})
    for chars in negative:
        which = (
            ""
            if len(negative) == 1
            else ", ".join(f"`{m.name}`" for m in family if m.negative_chars == chars)
        )
        here = "same" if chars else IGNORED
        values = f"text, cut to {chars} characters" if chars else "any"
        yield (
            "`negative_prompt`",
            values,
            "none",
            f"{here} ({which})" if which else here,
            seen("negative_prompt"),
        )
    mark = f"same: “{one.labels.get('watermark', '')}” at the bottom right" if one.watermark else IGNORED
    yield "`watermark`", "true, false", "false", mark, seen("watermark")
    for name, rule in {name: rule for model in family for name, rule in model.knobs.items()}.items():
        yield f"`{name}`", _values(rule), _default(rule), _here(rule.standing, rule.note), seen(name)
    for name, mode in {name: mode for model in family for name, mode in model.modes.items()}.items():
        values = f"true, false; then pictures {_range(mode.images)}, `n` {_range(mode.count)}"
        yield f"`{name}`", values, "false", _here(mode.standing, mode.note), seen(name)


def _functions(functions: Mapping[str, FunctionRule]) -> Iterator[Row]:
    for name, rule in functions.items():
        knobs = "; ".join(
            f"`{knob}` {_values(own)}, {_default(own)} ({_here(own.standing, own.note)})"
            for knob, own in rule.knobs.items()
        )
        yield f"`{name}`", _here(rule.standing, rule.note or "the prompt is the instruction"), knobs


def _values(rule: KnobRule) -> str:
    match rule.type:
        case "bool":
            return "true, false"
        case "palette":
            return "three to ten colours whose shares make 100 %"
        case "boxes":
            return "up to two boxes in each picture"
    return (
        _range(rule.bounds) if rule.bounds else ", ".join(f"`{choice}`" for choice in rule.choices) or "text"
    )


def _default(rule: KnobRule) -> str:
    return "none" if rule.default == "" else json.dumps(rule.default, ensure_ascii=False).strip('"')


def _here(standing: Standing, note: str) -> str:
    return f"{WORDS[standing]}: {note}" if note else WORDS[standing]


def _absent() -> str:
    rows = [(f"`{name}`", why) for name, why in ABSENT.items()]
    return (
        "## What is not here\n\nThese models of the service answer `Model not exist.`, as nothing real stands behind "
        "them.\n\n" + _table(("model", "why"), rows)
    )


def _clients() -> str:
    return (
        "## Clients\n\nUnchanged but for a base URL and a key; each was answered as it expects.\n\n"
        + _table(("client", "release", "asked for", "where"), CLIENTS)
    )


def _cases() -> str:
    files = defaultdict[str, set[int]](set)
    for shown in _shown():
        files[shown.file].update(shown.cases)
    missing = set(range(1, LAST + 1)).difference(*files.values())
    rows = [(f"`{file}`", _runs(cases)) for file, cases in sorted(files.items()) if cases]
    said = [(str(case), why) for case, why in sorted({**DIFFERENT, **REASONS}.items())]
    others = [(str(case), where) for case, where in ELSEWHERE.items()]
    rest = missing - REASONS.keys() - ELSEWHERE.keys()
    return (
        "## Conformance cases\n\nOf the 150 cases of the wire contract, each named in the title of the transcript that "
        f"shows it.\n\n{_table(('transcript', 'cases'), rows)}\nOtherwise than in the contract, and why:\n\n"
        f"{_table(('case', 'here'), said)}\nShown by other tests:\n\n{_table(('case', 'where'), others)}\n"
        f"Shown by none: {_runs(rest) or 'none'}.\n"
    )


def unsound() -> list[str]:
    """What the tables above say that the transcripts or the catalogue contradict."""
    shown = {case for exchange in _shown() for case in exchange.cases}
    problems = [f"case {case} is shown and has a reason not to be" for case in REASONS if case in shown]
    problems += [
        f"case {case} is said to be elsewhere and is in a transcript" for case in ELSEWHERE if case in shown
    ]
    everywhere = {*shown, *REASONS, *ELSEWHERE}
    problems += [f"case {case} is nowhere" for case in range(1, LAST + 1) if case not in everywhere]
    problems += [f"case {case} differs and is not shown" for case in DIFFERENT if case not in shown]
    problems += [f"{name} is absent and in the catalogue" for name in ABSENT if name in load()]
    families = {model.family for model in load().values()}
    problems += [f"family {key} has no name here" for key in families ^ FAMILIES.keys()]
    return problems


def _runs(numbers: Iterable[int]) -> str:
    """Numbers in order, runs of them as first–last."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


@cache
def _shown() -> tuple[Shown, ...]:
    return tuple(shown for path in sorted(CASES.glob("*.txt")) for shown in _read(path))


def _read(path: Path) -> Iterator[Shown]:
    for exchange in re.split(r"(?m)^(?==== )", path.read_text("utf-8")):
        if not exchange.startswith("=== "):
            continue
        match = _TITLE.match(exchange.splitlines()[0])
        cases = tuple(map(int, match[1].split(", "))) if match else ()
        body = _body(exchange.split("\n--- ")[0])
        given = body.get("parameters")
        members = {*body, *(given if isinstance(given, dict) else ())}
        yield Shown(path.stem, cases, str(body.get("model")), frozenset(members))


def _body(request: str) -> dict[str, object]:
    """The request's body where it is a JSON object; empty where it is not."""
    at = request.find("\n{")
    try:
        found = json.loads(request[at:]) if at >= 0 else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
