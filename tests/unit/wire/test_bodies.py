"""The four shapes of a body, what each family makes of its values, and what is told late."""

from __future__ import annotations

import json
import random
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from danqing.catalogue.loader import load
from danqing.core.errors import BadOrder, Fault, InputMalformed, InputMissing, InputNotObject
from danqing.core.models import Standing
from danqing.core.order import Remote
from danqing.core.raster import Size
from danqing.core.sizes import made
from danqing.wire.dashscope import decode
from tests.wire import transcript
from tests.wire.test_transcripts import CASES as FILES

MODELS = load()
URL = "https://host/a.png"
GENERIC = "Required parameter({}) missing or invalid, please check the request parameters."


def read(route: str, model: str, **body: Any) -> decode.Reading:
    envelope = decode.envelope(json.dumps({"model": model, **body}).encode())
    return decode.read(envelope, MODELS[model], route)


def prompt(model: str = "wan2.2-t2i-flash", parameters: Any = None, **given: Any) -> decode.Reading:
    given = {"prompt": "a red house", **given}
    return read(decode.TEXT_TO_IMAGE, model, input=given, parameters=parameters)


def edit(parameters: Any = None, model: str = "wanx2.1-imageedit", **given: Any) -> decode.Reading:
    given = {"function": "description_edit", "prompt": "p", "base_image_url": URL, **given}
    return read(decode.IMAGE_TO_IMAGE, model, input=given, parameters=parameters)


def say(model: str, images: int = 0, route: str = decode.SYNC, **parameters: Any) -> decode.Reading:
    content = [{"image": URL}] * images + [{"text": "a red house"}]
    messages = [{"role": "user", "content": content}]
    return read(route, model, input={"messages": messages}, parameters=parameters)


def flat(**body: Any) -> decode.Reading:
    return read(decode.COMPATIBLE, "qwen-image-3.0", **{"prompt": "p", **body})


# a prompt


@pytest.mark.parametrize(
    ("given", "parameters", "taken"),
    [
        ({"negative_prompt": "fog"}, {}, "fog"),
        ({}, {"negative_prompt": "rain"}, "rain"),
        ({"negative_prompt": "fog"}, {"negative_prompt": "rain"}, "fog"),
        ({"negative_prompt": None}, {"negative_prompt": "rain"}, "rain"),
        ({"negative_prompt": "x" * 600}, {}, "x" * 500),
        ({}, {}, None),
    ],
)
def test_a_negative_prompt_is_found_in_either_place_and_the_input_s_wins(
    given: dict[str, Any], parameters: Any, taken: str | None
) -> None:
    assert prompt(parameters=parameters, **given).order.negative_prompt == taken


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({}, InputMissing),
        ({"input": "p"}, InputNotObject),
        ({"input": {}}, BadOrder),
        ({"input": {"prompt": 7}}, BadOrder),
        ({"input": {"prompt": ""}}, BadOrder),
        ({"input": {"prompt": "p"}, "parameters": []}, BadOrder),
    ],
)
def test_a_wrong_structure_is_raised_where_a_task_would_tell_a_wrong_value(
    body: dict[str, Any], kind: type[Fault]
) -> None:
    with pytest.raises(kind):
        read(decode.TEXT_TO_IMAGE, "wan2.2-t2i-flash", **body)


@pytest.mark.parametrize("parameters", [{"size": "1x1"}, {"n": 9}, {"seed": -1}, {"watermark": "yes"}])
def test_a_wrong_value_of_a_task_is_told_late_beside_an_order_of_defaults(parameters: Any) -> None:
    reading = prompt(parameters=parameters)
    assert isinstance(reading.late, BadOrder)
    assert (reading.order.prompt, reading.order.count, reading.order.sources) == ("a red house", 4, ())


def test_the_same_value_is_refused_at_once_in_a_synchronous_call() -> None:
    with pytest.raises(BadOrder):
        say("wan2.6-t2i", n=9)
    assert isinstance(say("wan2.6-t2i", route=decode.IMAGES, n=9).late, BadOrder)


def test_an_unserved_mode_is_refused_at_once_even_in_a_task() -> None:
    model = MODELS["wan2.6-image"]
    mode = replace(model.modes["enable_interleave"], standing=Standing.REFUSED, note="nobody tells stories")
    refusing = replace(model, modes={"enable_interleave": mode})
    content = [{"role": "user", "content": [{"text": "a red house"}]}]
    body = {"model": model.name, "input": {"messages": content}, "parameters": {"enable_interleave": True}}
    with pytest.raises(BadOrder, match="enable_interleave is not available on this service: nobody tells"):
        decode.read(decode.envelope(json.dumps(body).encode()), refusing, decode.IMAGES)


# pictures by name


def test_pictures_by_name_keep_their_order() -> None:
    given = {"prompt": "p", "images": [URL + "?1", URL + "?2"]}
    order = read(decode.IMAGE_TO_IMAGE, "wan2.5-i2i-preview", input=given).order
    assert order.sources == (Remote(URL + "?1"), Remote(URL + "?2"))
    assert order.count == 4


@pytest.mark.parametrize("images", [None, "https://host/a.png", {}, [], [URL] * 4])
def test_pictures_are_a_list_of_one_to_three(images: Any) -> None:
    with pytest.raises(BadOrder):
        read(decode.IMAGE_TO_IMAGE, "wan2.5-i2i-preview", input={"prompt": "p", "images": images})


def test_a_picture_that_is_none_is_told_late() -> None:
    given = {"prompt": "p", "images": [{"url": URL}]}
    late = read(decode.IMAGE_TO_IMAGE, "wan2.5-i2i-preview", input=given).late
    assert isinstance(late, InputMalformed)


# functions


def test_an_edit_by_function_is_an_order_like_any_other_that_keeps_the_picture_s_size() -> None:
    order = edit({"strength": 1, "size": "1*1", "n": 2}).order
    assert (order.prompt, order.sources, order.count, order.size) == ("p", (Remote(URL),), 2, None)
    assert order.knobs["strength"] == 1.0
    assert made(MODELS["wanx2.1-imageedit"], order, Size(777, 555)) == Size(777, 555)


@pytest.mark.parametrize(
    ("given", "parameters", "message"),
    [
        ({"function": None}, {}, "Field required: input.function"),
        ({"function": []}, {}, "expected one of description_edit"),
        ({"base_image_url": None}, {}, "Field required: input.base_image_url"),
        ({"prompt": None}, {}, "Field required: input.prompt"),
        ({"function": "description_edit_with_mask"}, {}, "Field required: input.mask_image_url"),
    ],
)
def test_a_wrong_function_is_refused_at_once(given: Any, parameters: Any, message: str) -> None:
    with pytest.raises(BadOrder) as caught:
        edit(parameters, **given)
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("function", "parameters", "message"),
    [
        ("expand", {"left_scale": 0.5}, "Range of left_scale should be [1, 2]"),
        ("expand", {}, "One of top_scale, bottom_scale, left_scale, right_scale must be above 1"),
        ("super_resolution", {"upscale_factor": 5}, "Range of upscale_factor should be [1, 4]"),
        ("description_edit", {"strength": 1.5}, "Range of strength should be [0, 1]"),
    ],
)
def test_a_wrong_value_of_a_function_ends_the_task(function: str, parameters: Any, message: str) -> None:
    late = edit(parameters, function=function).late
    assert late is not None
    assert late.message == message


@pytest.mark.parametrize("name", MODELS["wanx2.1-imageedit"].functions)
def test_every_function_is_done(name: str) -> None:
    reading = edit({"top_scale": 1.5}, function=name, mask_image_url=URL)
    assert reading.late is None
    assert reading.order.prompt.endswith("p")


def test_a_mask_belongs_to_the_function_that_needs_one() -> None:
    assert edit(function="description_edit_with_mask", mask_image_url=URL).order.mask == Remote(URL)
    assert edit(function="description_edit", mask_image_url=URL).order.mask is None
    late = edit(function="description_edit_with_mask", mask_image_url="nowhere").late
    assert isinstance(late, InputMalformed)


def test_an_extension_is_margins_and_no_longer_a_parameter() -> None:
    scales = {"top_scale": 1.5, "left_scale": 2}
    order = edit(scales, function="expand").order
    assert order.margins == (0.5, 0.0, 1.0, 0.0)
    assert not set(scales) & set(order.knobs)


def test_an_enlarged_picture_is_larger_than_its_input_within_reason() -> None:
    order = edit({"upscale_factor": 2}, function="super_resolution").order
    assert made(MODELS["wanx2.1-imageedit"], order, Size(640, 512)) == Size(1280, 1024)
    assert made(MODELS["wanx2.1-imageedit"], order, Size(4000, 3000)).area <= 4096**2


@pytest.mark.parametrize(("text", "said"), [("p", "Colour this"), ("蓝天", "给这张")])
def test_what_a_function_s_name_says_is_told_in_the_prompt_s_language(text: str, said: str) -> None:
    assert edit(function="colorization", prompt=text).order.prompt.startswith(said)
    assert edit(function="description_edit", prompt=text).order.prompt == text


# the flat body


def test_the_flat_body_spells_sizes_with_an_x_and_knows_a_word_for_none() -> None:
    assert flat(size="1024x768").order.size == Size(1024, 768)
    assert flat(size="auto").order.size is None
    with pytest.raises(BadOrder, match="<width>x<height>"):
        flat(size="1024*768")


def test_the_flat_body_has_its_parameters_at_the_top() -> None:
    order = flat(n=2, seed=7, negative_prompt="fog", watermark=True, image=URL, stream=True).order
    assert (order.count, order.seed, order.negative_prompt, order.watermark) == (2, 7, "fog", True)
    assert order.sources == (Remote(URL),)


@pytest.mark.parametrize("prompt", [None, "", 7, ["p"]])
def test_the_flat_body_needs_a_prompt(prompt: Any) -> None:
    with pytest.raises(BadOrder, match="Field 'prompt'"):
        flat(prompt=prompt)


@pytest.mark.parametrize("image", [None, [], {}, 7])
def test_the_flat_body_has_a_picture_or_no_such_member(image: Any) -> None:
    with pytest.raises(BadOrder, match="Field 'image'"):
        flat(image=image)


# sizes by family


@pytest.mark.parametrize(
    ("model", "parameters", "last", "size"),
    [
        ("wan2.7-image", {}, None, (2048, 2048)),
        ("wan2.7-image", {"size": "1K"}, None, (1024, 1024)),
        ("wan2.7-image-pro", {"size": "4K"}, None, (4096, 4096)),
        ("wan2.7-image", {}, (900, 506), (2720, 1520)),
        ("wan2.6-image", {}, (1600, 900), (1696, 960)),
        ("wan2.6-image", {"size": "1033*1032"}, (1600, 900), (1040, 1024)),
        ("qwen-image-3.0", {}, (768, 1376), (1520, 2736)),
        ("qwen-image-3.0", {"size": "2304*1728"}, None, (2304, 1728)),
        ("qwen-image-2.0", {}, (1600, 900), (1360, 768)),
        ("z-image-turbo", {}, None, (1024, 1536)),
        ("wan2.6-t2i", {}, None, (1280, 1280)),
    ],
)
def test_every_family_makes_the_size_that_the_contract_says(
    model: str, parameters: Any, last: tuple[int, int] | None, size: tuple[int, int]
) -> None:
    order = say(model, images=last is not None, **parameters).order
    assert made(MODELS[model], order, Size(*last) if last else None) == Size(*size)


@pytest.mark.parametrize(
    ("model", "count"),
    [("wan2.7-image", 4), ("wan2.6-t2i", 4), ("qwen-image-3.0", 1), ("z-image-turbo", 1)],
)
def test_the_count_without_n_is_the_family_s(model: str, count: int) -> None:
    assert say(model).order.count == count


def test_a_series_has_its_own_count_and_says_that_it_is_one() -> None:
    order = say("wan2.7-image", enable_sequential=True).order
    assert (order.count, order.knobs["enable_sequential"]) == (12, True)
    assert "enable_sequential" not in say("wan2.7-image").order.knobs


@pytest.mark.parametrize(
    ("given", "count"), [({}, 5), ({"max_images": 2}, 2), ({"max_images": 2, "n": 1}, 2)]
)
def test_a_story_orders_the_most_pictures_it_may_have(given: dict[str, int], count: int) -> None:
    order = say("wan2.6-image", route=decode.IMAGES, enable_interleave=True, **given).order
    assert (order.count, order.knobs["enable_interleave"]) == (count, True)


def test_a_story_is_told_in_a_stream_or_as_a_task() -> None:
    message = {"role": "user", "content": [{"text": "a red house"}]}
    body = {
        "model": "wan2.6-image",
        "input": {"messages": [message]},
        "parameters": {"enable_interleave": True},
    }
    envelope = decode.envelope(json.dumps(body).encode())
    model = MODELS["wan2.6-image"]
    assert decode.read(envelope, model, decode.SYNC, frames=True).order.count == 5
    assert decode.read(envelope, model, decode.IMAGES).late is None
    with pytest.raises(BadOrder, match="for streaming calls only"):
        decode.read(envelope, model, decode.SYNC)


def test_a_story_needs_no_picture_and_takes_one() -> None:
    assert say("wan2.6-image", 1, decode.IMAGES, enable_interleave=True).late is None
    with pytest.raises(BadOrder, match="0 to 1 images"):
        say("wan2.6-image", 2, decode.IMAGES, enable_interleave=True)
    with pytest.raises(BadOrder, match="1 to 4 images"):
        say("wan2.6-image", 0, decode.IMAGES)


@pytest.mark.parametrize(
    ("given", "size"),
    [(None, (1280, 1280)), ((640, 320), (640, 320)), ((500, 701), (496, 688)), ((4000, 2000), (1808, 896))],
)
def test_a_story_s_pictures_are_as_large_as_the_given_one_up_to_1280(
    given: tuple[int, int] | None, size: tuple[int, int]
) -> None:
    order = say("wan2.6-image", route=decode.IMAGES, enable_interleave=True).order
    assert made(MODELS["wan2.6-image"], order, Size(*given) if given else None) == Size(*size)


@pytest.mark.parametrize(
    ("model", "characters"),
    [("wan2.7-image", 5000), ("wan2.6-t2i", 2100), ("qwen-image-3.0", 4500), ("z-image-turbo", 800)],
)
def test_prompts_are_cut_where_the_family_cuts_them(model: str, characters: int) -> None:
    messages = [{"role": "user", "content": [{"text": "雪" * 10_000}]}]
    assert read(decode.SYNC, model, input={"messages": messages}).order.prompt == "雪" * characters


# colours and boxes

THIRDS = [{"hex": "#C2D1E6", "ratio": "33.33%"}, {"hex": "636574", "ratio": "33.33%"}]


@pytest.mark.parametrize(
    "palette",
    [
        [*THIRDS, {"hex": "#000000", "ratio": "33.34%"}],
        [{"hex": "#000000", "ratio": part} for part in (50, 25.5, 24.5)],
        [{"hex": "#000000", "ratio": part} for part in (0.5, 0.25, 0.25)],
        [{"hex": "#000000", "ratio": part} for part in (0.3333, 0.3333, 0.3334)],
        [{"hex": "#000000", "ratio": part} for part in (0.225, 0.225, 0.55)],
        [{"hex": "#000000", "ratio": part} for part in (33.333, 33.333, 33.334)],
        [{"hex": "#000000", "ratio": 1 / 7}] * 7,
        [{"hex": "#000000", "ratio": "10%"}] * 10,
    ],
)
def test_a_palette_that_makes_a_whole_is_taken(palette: Any) -> None:
    knob = say("wan2.7-image", color_palette=palette).order.knobs["color_palette"]
    assert isinstance(knob, str)
    entries = [entry.split() for entry in knob.split(", ")]
    assert [colour for colour, _ in entries] == ["#" + item["hex"].lstrip("#").lower() for item in palette]
    assert sum(int(share) for _, share in entries) == 10_000


def test_shares_of_one_keep_their_hundredths_of_a_percent() -> None:
    palette = [{"hex": f"#00000{at}", "ratio": part} for at, part in enumerate((0.2351, 0.5149, 0.25))]
    knob = say("wan2.7-image", color_palette=palette).order.knobs["color_palette"]
    assert knob == "#000000 2351, #000001 5149, #000002 2500"


@pytest.mark.parametrize(
    "palette",
    [
        "red",
        [],
        THIRDS,
        [*THIRDS, {"hex": "#000000", "ratio": "33.33%"}],
        [*THIRDS, {"hex": "#00000", "ratio": "33.34%"}],
        [*THIRDS, {"hex": "#000000", "ratio": "33.340%"}],
        [*THIRDS, {"hex": "#000000", "ratio": True}],
        [*THIRDS, {"hex": 123456, "ratio": "33.34%"}],
        [{"hex": "#000000", "ratio": part} for part in (0.504, 0.254, 0.254)],
        [{"hex": "#000000", "ratio": 0}] * 3,
        [*THIRDS, {"hex": "#000000"}],
        [*THIRDS, "#000000"],
        [{"hex": "#000000", "ratio": "1%"}] * 3,
        [{"hex": "#000000", "ratio": part} for part in ("0.50%", "0.25%", "0.25%")],
        [{"hex": "#000000", "ratio": -1}] * 3,
        [{"hex": "#000000", "ratio": 9}] * 11,
    ],
)
def test_any_other_palette_is_refused(palette: Any) -> None:
    with pytest.raises(BadOrder) as caught:
        say("wan2.7-image", color_palette=palette)
    assert caught.value.field == "parameters.color_palette"


@pytest.mark.parametrize("boxes", [[[]], [[[0, 0, 10, 10]]], [[[0, 0, 10, 10], [5, 5, 6, 6]]]])
def test_boxes_for_each_picture_are_taken(boxes: Any) -> None:
    order = say("wan2.7-image", 1, bbox_list=boxes).order
    assert order.boxes == tuple(tuple(tuple(box) for box in given) for given in boxes)


@pytest.mark.parametrize(
    "boxes",
    [
        "x",
        [],
        [[], []],
        [[[0, 0, 10]]],
        [[[0, 0, 0, 10]]],
        [[[0, 0, 1.5, 10]]],
        [[[-1, 0, 1, 1]]],
        ["x"],
        [["x"]],
    ],
)
def test_any_other_boxes_are_refused(boxes: Any) -> None:
    with pytest.raises(BadOrder, match="bbox_list"):
        say("wan2.7-image", 1, bbox_list=boxes)


# anything at all

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 3000) | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
MEMBERS = sorted(
    {
        "n",
        "size",
        "seed",
        "watermark",
        "negative_prompt",
        "prompt",
        "images",
        "function",
        "base_image_url",
        "image",
    }
    | {name for model in MODELS.values() for name in (*model.knobs, *model.modes)}
)
ROUTES = sorted({route for model in MODELS.values() for route in model.routes})


@settings(suppress_health_check=[HealthCheck.too_slow])  # how long a draw takes is the machine's
@given(
    st.sampled_from(sorted(MODELS)),
    st.sampled_from(ROUTES),
    st.dictionaries(st.sampled_from(MEMBERS), VALUES, max_size=4),
    st.dictionaries(st.sampled_from(MEMBERS), VALUES, max_size=4),
)
def test_no_body_makes_anything_but_a_reading_or_a_fault(
    model: str, route: str, given_input: dict[str, Any], parameters: dict[str, Any]
) -> None:
    document = {
        **parameters,
        "model": model,
        "input": {"prompt": "p", **given_input},
        "parameters": parameters,
    }
    with suppress(Fault):
        decode.read(decode.Envelope(model, document), MODELS[model], route)


ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1.5, 1e308, 2**63, "", " ", "1", "true", "x" * 9000, "\u0000", "1*1", "0*0"),
    *("999999*999999", "4K", "auto", [], [None], [[]], [[[]]], [{}], {}, {"hex": 1}, [[0] * 4], "oss://k"),
)


def bodies() -> list[dict[str, Any]]:
    """Every body of every transcript that is JSON and names a model of ours."""
    found = []
    for path in FILES:
        for exchange in transcript.read(path):
            with suppress(ValueError):
                body = json.loads(exchange.body)
                if isinstance(body, dict) and body.get("model") in MODELS:
                    found.append(body)
    return found


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container and key in a body."""
    pairs = list(
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    return [(value, key) for key, _ in pairs] + [place for _, inner in pairs for place in places(inner)]


def test_no_body_of_a_transcript_with_one_odd_member_breaks_the_reader() -> None:
    chance = random.Random(7)
    kinds = set()
    for body in bodies():
        model = MODELS[body["model"]]
        for number in range(len(places(body))):
            twin = json.loads(json.dumps(body))
            container, key = places(twin)[number]
            container[key] = chance.choice(ODD)
            for route in model.routes:
                try:
                    reading = decode.read(decode.Envelope(model.name, twin), model, route)
                    kinds.add(type(reading.late))
                except Fault as fault:
                    kinds.add(type(fault))
    assert kinds >= {type(None), BadOrder, InputMissing, InputNotObject, InputMalformed}
