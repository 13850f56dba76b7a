"""Secrets never reach a log line, whatever path they take there."""

from __future__ import annotations

import io
import json
import logging

import pytest
import structlog

from danqing import logs

KEY = "sk-abcd1234" + "Z9" * 16 + "ffffff"
CANARIES = {
    "a key in a message": f"call with {KEY} failed",
    "a bearer token": "header Authorization: Bearer canary-token-123",
    "a data URI": "image data:image/png;base64,CANARYCANARY==",
    "a query string": "fetching https://host/a.png?token=canary&x=1",
    "a signature": "path Signature=canary%3D&Expires=1",
}


@pytest.fixture
def lines() -> io.StringIO:
    out = io.StringIO()
    logs.configure("debug", form="json", prompts=False, stream=out)
    return out


@pytest.mark.parametrize("what", CANARIES)
def test_no_secret_survives_in_a_message_or_a_value(what: str, lines: io.StringIO) -> None:
    text = CANARIES[what]
    structlog.get_logger().info(text, detail=text, deep={"inner": [text]})
    logging.getLogger("a.library").warning(text)
    written = lines.getvalue()
    assert written.count("\n") == 2
    assert "canary" not in written.lower()
    assert KEY not in written


def test_values_named_like_secrets_are_dropped_whatever_they_hold(lines: io.StringIO) -> None:
    structlog.get_logger().info(
        "made", api_key="plain-canary", secret="plain-canary", headers={"authorization": "canary"}
    )
    assert "canary" not in lines.getvalue()


def test_prompts_are_written_as_length_and_hash(lines: io.StringIO) -> None:
    structlog.get_logger().info("order", prompt="把星星变成红色")
    told = json.loads(lines.getvalue())
    assert told["prompt"].startswith("[7 characters, ")


def test_prompts_are_written_in_full_when_the_operator_asks() -> None:
    out = io.StringIO()
    logs.configure("info", form="json", prompts=True, stream=out)
    structlog.get_logger().info("order", prompt="a red star")
    assert json.loads(out.getvalue())["prompt"] == "a red star"


def test_a_request_cannot_forge_a_line_or_draw_on_a_terminal(lines: io.StringIO) -> None:
    structlog.get_logger().info('name\n{"level":"error"}\x1b[31mred\x07', field="a\r\nb\u202e")
    written = lines.getvalue()
    assert written.count("\n") == 1
    assert "\x1b" not in json.loads(written)["event"]
    assert "\u202e" not in written


def test_an_exception_text_is_scrubbed_too(lines: io.StringIO) -> None:
    try:
        raise ValueError(f"bad {KEY}")
    except ValueError:
        structlog.get_logger().exception("failed")
    assert KEY not in lines.getvalue()
