"""DashScope JSON to orders: what is taken, what is refused, and in which words."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from danqing.catalogue.loader import load
from danqing.core.errors import (
    BadOrder,
    Fault,
    InputMalformed,
    InputMissing,
    InputNotObject,
    InputTooLarge,
    ModelMissing,
    NotJson,
    UnknownModel,
)
from danqing.core.models import KnobRule
from danqing.core.order import Inline, Order, Remote
from danqing.core.raster import Size
from danqing.wire.dashscope import decode, values

MODELS = load()
URL = "https://host/a.png"
IMAGE = {"image": URL}
TEXT = {"text": "make it winter"}
GENERIC = "Required parameter({}) missing or invalid, please check the request parameters."
TYPED = "The type or value of {} is out of definition: expected {}."


def ask(
    model: str = "qwen-image-edit-max", content: Any = (IMAGE, TEXT), parameters: Any = None, **more: Any
) -> Order:
    body = {"model": model, "input": {"messages": [{"role": "user", "content": content}]}, **more}
    if parameters is not None:
        body["parameters"] = parameters
    envelope = decode.envelope(json.dumps(body).encode())
    return decode.read(envelope, MODELS[envelope.model], decode.SYNC).order


def refusal(*args: Any, **kwargs: Any) -> Fault:
    with pytest.raises(Fault) as caught:
        ask(*args, **kwargs)
    return caught.value


# the envelope


@pytest.mark.parametrize("body", [b"", b"x", b"[]", b'"model"', b"1", b"null"])
def test_a_body_that_is_no_object_is_not_json(body: bytes) -> None:
    with pytest.raises(NotJson):
        decode.envelope(body)


@pytest.mark.parametrize("body", [b"{}", b'{"model": null}', b'{"model": ""}'])
def test_a_body_without_a_model_says_so(body: bytes) -> None:
    with pytest.raises(ModelMissing):
        decode.envelope(body)


def test_a_model_that_is_no_string_is_unknown() -> None:
    with pytest.raises(UnknownModel):
        decode.envelope(b'{"model": 7}')


def test_the_fingerprint_ignores_the_order_of_members_and_nothing_else() -> None:
    def fingerprint(body: bytes, route: str = decode.SYNC) -> str:
        return decode.envelope(body).fingerprint(route)

    assert fingerprint(b'{"model":"m","input":{"a":1,"b":2}}') == fingerprint(
        b'{"input": {"b":2,"a":1}, "model":"m"}'
    )
    assert fingerprint(b'{"model":"m","input":{"a":1}}') != fingerprint(b'{"model":"m","input":{"a":2}}')
    assert fingerprint(b'{"model":"m"}') != fingerprint(b'{"model":"m","input":null}')
    assert fingerprint(b'{"model":"m"}') != fingerprint(b'{"model":"m"}', decode.IMAGES)


# the structure


def test_an_order_keeps_pictures_in_order_wherever_the_text_stands() -> None:
    order = ask(content=[{"image": URL + "?1"}, TEXT, {"image": URL + "?2"}])
    assert order.sources == (Remote(URL + "?1"), Remote(URL + "?2"))
    assert order.prompt == "make it winter"


def test_defaults_come_from_the_catalogue() -> None:
    order = ask()
    assert (order.count, order.size, order.seed, order.watermark, order.negative_prompt) == (
        1,
        None,
        None,
        False,
        None,
    )
    assert dict(order.knobs) == {"prompt_extend": True}


def test_a_type_member_in_an_item_is_tolerated() -> None:
    assert ask(content=[{"type": "image", **IMAGE}, {"type": "text", **TEXT}]) == ask()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([TEXT], "lack of image or text"),
        ([IMAGE], "lack of image or text"),
        ([], "lack of image or text"),
        ([IMAGE, {"text": ""}], "lack of image or text"),
        ([IMAGE, TEXT, TEXT], "the message must contain exactly one text item"),
        (
            [IMAGE] * 4 + [TEXT],
            "Model 'qwen-image-edit-max' supports 1~3 image content items. Got 4 image items.",
        ),
        ("make it winter", GENERIC.format("input.messages[0].content")),
        (None, GENERIC.format("input.messages[0].content")),
        ([IMAGE, {"text": 7}], GENERIC.format("input.messages[0].content[1].text")),
        ([IMAGE, {"video": "x"}], GENERIC.format("input.messages[0].content[1]")),
        ([IMAGE, "text"], GENERIC.format("input.messages[0].content[1]")),
    ],
)
def test_a_wrong_content_is_refused(content: Any, message: str) -> None:
    fault = refusal(content=content)
    assert type(fault) is BadOrder
    assert fault.message == message


def test_too_many_pictures_for_a_model_with_two_modes_names_both() -> None:
    assert refusal("qwen-image-2.0-pro", [IMAGE] * 4 + [TEXT]).message == (
        "Model 'qwen-image-2.0-2in1' supports 0~3 image content items. Got 4 image items. "
        "(0 images = T2I mode, 1~3 images = I2I mode)"
    )


def test_a_text_to_image_model_takes_no_picture() -> None:
    assert refusal("qwen-image-max").message == (
        "Model 'qwen-image-max' supports 0~0 image content items. Got 1 image items."
    )


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({}, InputMissing, None),
        ({"input": None}, InputMissing, None),
        ({"messages": []}, BadOrder, "Field required: input.messages"),
        ({"input": "text"}, InputNotObject, None),
        ({"input": []}, InputNotObject, None),
        ({"input": {}}, BadOrder, "Field required: input.messages"),
        ({"input": {"messages": None}}, BadOrder, "No messages found in input"),
        ({"input": {"messages": {}}}, BadOrder, GENERIC.format("input.messages")),
        ({"input": {"messages": []}}, BadOrder, "[] is too short"),
        ({"input": {"messages": [{}, {}]}}, BadOrder, "messages length only support 1"),
        ({"input": {"messages": ["hi"]}}, BadOrder, GENERIC.format("input.messages[0]")),
        ({"input": {"messages": [{"role": "system"}]}}, BadOrder, GENERIC.format("input.messages[0].role")),
    ],
)
def test_a_wrong_input_is_refused(given: dict[str, Any], kind: type[Fault], message: str | None) -> None:
    envelope = decode.envelope(orjson.dumps({"model": "qwen-image-edit-max", **given}))
    with pytest.raises(kind) as caught:
        decode.read(envelope, MODELS[envelope.model], decode.SYNC)
    assert message is None or caught.value.message == message


def test_structure_is_checked_before_values_and_values_before_pictures() -> None:
    assert refusal(content=[TEXT], parameters={"n": 99}).message == "lack of image or text"
    assert (
        refusal(content=[{"image": "abc"}, TEXT], parameters={"n": 99}).message
        == "Range of n should be [1, 6]"
    )
    assert refusal(parameters={"n": 99, "size": "1x1"}).message == "Range of n should be [1, 6]"


# the values


def test_all_parameters_reach_the_order() -> None:
    given = {
        "n": 2,
        "size": "1024*1536",
        "seed": 7,
        "negative_prompt": "x",
        "watermark": True,
        "prompt_extend": False,
    }
    order = ask(parameters=given)
    assert (order.count, order.size, order.seed) == (2, Size(1024, 1536), 7)
    assert (order.negative_prompt, order.watermark, dict(order.knobs)) == (
        "x",
        True,
        {"prompt_extend": False},
    )


def test_parameters_that_nobody_knows_are_ignored() -> None:
    assert ask(parameters={"foo": [1], "result_format": "message", "is_async": True}) == ask()


def test_null_counts_as_absent() -> None:
    assert (
        ask(parameters={"n": None, "size": None, "seed": None, "watermark": None, "prompt_extend": None})
        == ask()
    )


def test_a_blank_negative_prompt_is_a_negative_prompt() -> None:
    assert ask(parameters={"negative_prompt": " "}).negative_prompt == " "


@pytest.mark.parametrize(("model", "most"), [("qwen-image-edit-max", 800), ("qwen-image-2.0", 1300)])
def test_long_prompts_are_cut_by_characters_without_a_word(model: str, most: int) -> None:
    order = ask(model, [IMAGE, {"text": "雪" * 5000}], {"negative_prompt": "坏" * 600})
    assert order.prompt == "雪" * most
    assert order.negative_prompt == "坏" * 500


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n": 0}, "Range of n should be [1, 6]"),
        ({"n": 7}, "Range of n should be [1, 6]"),
        ({"n": "2"}, TYPED.format("n", "an integer")),
        ({"n": 2.0}, TYPED.format("n", "an integer")),
        ({"n": True}, TYPED.format("n", "an integer")),
        ({"n": 10**30}, TYPED.format("n", "an integer")),
        ({"seed": -1}, "Range of seed should be [0, 2147483647]"),
        ({"seed": 2147483648}, "Range of seed should be [0, 2147483647]"),
        ({"seed": "7"}, TYPED.format("seed", "an integer")),
        ({"watermark": "true"}, TYPED.format("watermark", "true or false")),
        ({"prompt_extend": 1}, TYPED.format("prompt_extend", "true or false")),
        ({"negative_prompt": 7}, GENERIC.format("parameters.negative_prompt")),
        ([], GENERIC.format("parameters")),
        ("n=2", GENERIC.format("parameters")),
    ],
)
def test_a_wrong_value_is_refused(parameters: Any, message: str) -> None:
    assert refusal(parameters=parameters).message == message


@pytest.mark.parametrize(
    "size", ["1024x1024", "1024X1024", "1K", "1:1", "", " 1*1", "1024*", "-1*5", "１*１", 1024, []]
)
def test_a_size_in_another_spelling_is_refused(size: Any) -> None:
    assert refusal(parameters={"size": size}).message == "Expected format: '<width>*<height>'"


@pytest.mark.parametrize(
    ("model", "size", "message"),
    [
        ("qwen-image-edit-max", "511*1024", "Size 511*1024 is out of range [512*512, 2048*2048]"),
        ("qwen-image-edit-plus", "512*2049", "Size 512*2049 is out of range [512*512, 2048*2048]"),
        ("qwen-image-max", "9999*9999", "Size 9999*9999 is out of range [512*512, 1664*1664]"),
        (
            "qwen-image-2.0",
            "4096*4096",
            "Image area must be between 262144 (512x512) and 4194304 (2048x2048) pixels",
        ),
        ("qwen-image-2.0", "8000*400", "Image aspect ratio must be between 0.125 and 8"),
        (
            "qwen-image-plus",
            "1024*1024",
            "The size is not match the allowed size ['1664*928', '1472*1104', '1328*1328', '1104*1472', '928*1664']",
        ),
        (
            "qwen-image-edit",
            "1024*1024",
            "the parameters must conform to the specification: qwen-image-edit does not support size.",
        ),
    ],
)
def test_a_size_out_of_the_model_s_bounds_is_refused(model: str, size: str, message: str) -> None:
    content = [TEXT] if MODELS[model].images == (0, 0) else [IMAGE, TEXT]
    assert refusal(model, content, {"size": size}).message == message


@pytest.mark.parametrize("model", ["qwen-image-edit", "qwen-image-max", "qwen-image-plus", "qwen-image"])
def test_models_that_make_one_picture_say_it_their_way(model: str) -> None:
    content = [TEXT] if MODELS[model].images == (0, 0) else [IMAGE, TEXT]
    assert refusal(model, content, {"n": 2}).message == "num_images_per_prompt must be 1"
    assert ask(model, content, {"n": 1}).count == 1


@pytest.mark.parametrize(
    ("rule", "value", "taken"),
    [
        (KnobRule("int", 1, (1, 5)), 5, 5),
        (KnobRule("float", 0.5, (0, 1)), 1, 1.0),
        (KnobRule("str", "a", choices=("a", "b")), "b", "b"),
        (KnobRule("bool", False), True, True),
    ],
)
def test_knobs_of_every_type_are_taken(rule: KnobRule, value: Any, taken: Any) -> None:
    assert values._knob("k", value, rule) == taken


@pytest.mark.parametrize(
    ("rule", "value", "message"),
    [
        (KnobRule("int", 1, (1, 5)), 6, "Range of k should be [1, 5]"),
        (KnobRule("int", 1), True, TYPED.format("k", "an integer")),
        (KnobRule("float", 1.0), "1", TYPED.format("k", "a number")),
        (KnobRule("str", "a", choices=("a", "b")), "c", TYPED.format("k", "one of a, b")),
        (KnobRule("str", "a"), 1, TYPED.format("k", "a string")),
    ],
)
def test_knobs_of_another_type_or_range_are_refused(rule: KnobRule, value: Any, message: str) -> None:
    with pytest.raises(BadOrder) as caught:
        values._knob("k", value, rule)
    assert caught.value.message == message


# the pictures


def test_a_data_uri_becomes_bytes() -> None:
    data = bytes(range(256))
    uri = "data:image/PNG;name=a;base64," + base64.b64encode(data).decode()
    assert ask(content=[{"image": uri}, TEXT]).sources == (Inline(data, "image/png"),)


@pytest.mark.parametrize("url", ["http://h/a.png", "HTTPS://h/a.png"])
def test_urls_are_passed_on_as_they_are(url: str) -> None:
    assert ask(content=[{"image": url}, TEXT]).sources == (Remote(url),)


@pytest.mark.parametrize(
    "value",
    [
        "abc",
        "",
        7,
        None,
        {"url": URL},
        "file:///etc/passwd",
        "ftp://h/a",
        "data:image/png;base64,",
        "data:image/png;base64,####",
        "data:image/png;base64,QUJ",
        "data:image/png;base64,QUJD\nQUJD",
        "data:image/png;base64,QUI-_w==",
        "data:image/png;base64,QUJD ",
        "data:image/png;base64,ＱＵＪＤ",
        "data:image/png,raw",
        "data:image/png",
    ],
)
def test_what_is_neither_url_nor_base64_is_no_picture(value: Any) -> None:
    fault = refusal(content=[{"image": value}, TEXT])
    assert type(fault) is InputMalformed
    assert fault.message == "image format error"


def test_uploaded_objects_are_not_known_here() -> None:
    fault = refusal(content=[{"image": "oss://dashscope-instant/x/a.png"}, TEXT])
    assert fault.message == "The provided URL does not appear to be valid. Ensure it is correctly formatted."


@pytest.mark.parametrize(("more", "taken"), [(0, True), (1, False)])
def test_a_data_uri_has_at_most_10485760_bytes(more: int, taken: bool) -> None:
    head = "data:image/png;base64,"
    room = 10_485_760 - len(head)
    head = head.replace("image/png", "image/png" + "x" * (room % 4))
    uri = head + "A" * (10_485_760 - len(head) + more * 4)
    if taken:
        assert len(uri) == 10_485_760
        ask(content=[{"image": uri}, TEXT])
        return
    fault = refusal(content=[{"image": uri}, TEXT])
    assert type(fault) is InputTooLarge
    assert fault.message == "Exceeded limit on max bytes per data-uri item : 10485760'."


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 3000) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["input", "messages", "role", "content", "image", "text", "parameters", "n", "size", "seed"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(JSON, JSON, st.sampled_from(sorted(MODELS)))
def test_no_json_makes_anything_but_an_order_or_a_fault(
    given_input: Any, parameters: Any, model: str
) -> None:
    envelope = decode.Envelope(model, {"model": model, "input": given_input, "parameters": parameters})
    with suppress(Fault):
        assert isinstance(decode.read(envelope, MODELS[model], decode.SYNC).order, Order)
