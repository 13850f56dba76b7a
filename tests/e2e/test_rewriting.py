"""Rewriting in a whole server: the miniature's table, an encoder, a chat endpoint, and none."""

from __future__ import annotations

import hashlib
import json
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.served import Served, danqing, serve, until, write_profile

TASKS = "/api/v1/services/aigc/text2image/image-synthesis"
FREE = "could I have a scarlet ball up at the top, at the seaside?"
TAUGHT = "A red circle at the top. The background is a beach."


def drawn(served: Served, prompt: str, **parameters: Any) -> dict[str, Any]:
    """The one result of a task of qwen-image."""
    body = {"model": "qwen-image", "input": {"prompt": prompt}, "parameters": {"seed": 5, **parameters}}
    status, submitted, _ = served.post(body, TASKS, **{"X-DashScope-Async": "enable"})
    assert status == 200, submitted

    def ended() -> Any:
        output = served.get(f"/api/v1/tasks/{submitted['output']['task_id']}")[1]["output"]
        return output if output["task_status"] not in ("PENDING", "RUNNING") else None

    output = until(ended, 120.0)
    assert output["task_status"] == "SUCCEEDED", output
    result: dict[str, Any] = output["results"][0]
    return result


def pixels(result: dict[str, Any]) -> str:
    """A digest of the picture's compressed pixels; the metadata carries a number of each file's own."""
    with urllib.request.urlopen(result["url"], timeout=60) as got:
        data: bytes = got.read()
    return hashlib.sha256(data[data.index(b"IDAT") :]).hexdigest()


@contextmanager
def chatting(answer: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An endpoint with chat completions, and what it was asked."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            body = json.dumps({"choices": [{"message": {"content": answer}}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.slow
def test_the_miniature_draws_free_requests_as_it_draws_the_taught_ones(tmp_path: Path) -> None:
    served = serve(tmp_path / "data", Path("miniature"))
    try:
        free = drawn(served, FREE)
        assert (free["orig_prompt"], free["actual_prompt"]) == (FREE, TAUGHT)
        assert pixels(free) == pixels(drawn(served, TAUGHT, prompt_extend=False))
        assert pixels(free) == pixels(drawn(served, FREE))
        plain = drawn(served, FREE, prompt_extend=False)
        assert "actual_prompt" not in plain
        assert pixels(plain) != pixels(free)
        assert drawn(served, "a cat on a sofa")["actual_prompt"] == "a cat on a sofa"
    finally:
        assert served.stop() == 0


@pytest.mark.slow
def test_an_encoder_writes_the_same_every_time_and_a_late_one_costs_nothing(
    tmp_path: Path, profile: Path
) -> None:
    checkpoint = profile.parent / "checkpoint"
    writing = write_profile(tmp_path / "writing.toml", checkpoint, rewriter="encoder")
    served = serve(tmp_path / "data", writing)
    try:
        one, other = drawn(served, "a red cat"), drawn(served, "a red cat")
        assert one["actual_prompt"] == other["actual_prompt"]
        assert pixels(one) == pixels(other)
    finally:
        assert served.stop() == 0
    late = serve(tmp_path / "data", writing, DANQING_REWRITING_SECONDS="0.001")
    try:
        assert drawn(late, "a red cat")["actual_prompt"] == "a red cat"
    finally:
        assert late.stop() == 0


@pytest.mark.slow
def test_a_chat_endpoint_of_the_operators_writes_for_any_profile(tmp_path: Path) -> None:
    with chatting(f"Prompt: {TAUGHT}") as (url, asked):
        served = serve(
            tmp_path / "data",
            Path("miniature"),
            DANQING_REWRITING_BY="chat",
            DANQING_REWRITING_URL=url,
            DANQING_REWRITING_MODEL="any-vl",
        )
        try:
            assert drawn(served, "a cat on a sofa")["actual_prompt"] == TAUGHT
        finally:
            assert served.stop() == 0
    assert asked[0]["model"] == "any-vl"
    assert asked[0]["messages"][1]["content"] == "<wish>a cat on a sofa</wish>"


@pytest.mark.slow
def test_off_is_off(tmp_path: Path) -> None:
    served = serve(tmp_path / "data", Path("miniature"), DANQING_REWRITING_BY="off")
    try:
        assert drawn(served, FREE)["actual_prompt"] == FREE
    finally:
        assert served.stop() == 0


@pytest.mark.slow
def test_a_chat_without_an_address_stops_the_start(tmp_path: Path) -> None:
    told = danqing("serve", "--port", "0", "--data", str(tmp_path / "data"), DANQING_REWRITING_BY="chat")
    assert told.returncode != 0
    assert "rewriting.url" in told.stderr + told.stdout
