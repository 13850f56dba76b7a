"""An operator's own classifier, over HTTP, in front of a real server: through the official SDK, unmodified."""

from __future__ import annotations

import base64
import io
import sqlite3
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import dashscope
import pytest
from dashscope import ImageSynthesis, MultiModalConversation
from PIL import Image

from tests.support.classifier import Classifier, Question, classifying
from tests.support.folders import files_below
from tests.support.served import Served, danqing, serve, until

pytestmark = pytest.mark.usefixtures("left_open")

GIVEN = {"model": "wan2.2-t2i-flash", "prompt": "a red circle", "size": "512*512"}
RED = (200, 30, 40)


@pytest.fixture(scope="module")
def service() -> Iterator[Classifier]:
    with classifying() as found:
        yield found


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, profile: Path, service: Classifier) -> Iterator[Served]:
    data = tmp_path_factory.mktemp("guarded") / "data"
    environment = {"DANQING_CHECKS_CLASSIFIER": service.url, "DANQING_CHECKS_CLASSIFIER_TOKEN": "s3cret"}
    server = serve(data, profile, **environment)
    dashscope.base_http_api_url = server.url + "/api/v1"
    yield server
    assert server.stop() == 0
    log = (data.parent / "data.log").read_text()
    assert "s3cret" not in log
    assert GIVEN["prompt"] not in log


@pytest.fixture(autouse=True)
def fresh(service: Classifier) -> None:
    service.decide = lambda question: {"allowed": True}
    service.asked.clear()


def refuses(*numbers: int) -> Any:
    """Refuse those finished pictures, in the order in which they are shown."""

    def decide(question: Question) -> dict[str, Any]:
        refused = question.role == "output" and question.number in numbers
        return {"allowed": not refused, "reason": "test", "score": 0.9 if refused else 0.1}

    return decide


def is_red(question: Question) -> bool:
    return question.image.convert("RGB").getpixel((0, 0)) == RED


def picture(colour: tuple[int, int, int]) -> str:
    file = io.BytesIO()
    Image.new("RGB", (512, 512), colour).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def figures(server: Served) -> dict[str, float]:
    with urllib.request.urlopen(server.url + "/metrics", timeout=30) as page:
        lines = [line for line in page.read().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def files(server: Served) -> set[Path]:
    return set(files_below(server.data / "blobs"))


def charged(server: Served) -> int:
    """Pictures charged so far, read beside the running server."""
    with closing(sqlite3.connect(f"file:{server.data}/danqing.sqlite3?mode=ro", uri=True)) as database:
        return int(database.execute("SELECT coalesce(sum(images), 0) FROM charge").fetchone()[0])


def test_92_two_of_four_pictures_are_refused(guarded: Served, service: Classifier) -> None:
    service.decide = refuses(0, 2)
    before, paid, told = files(guarded), charged(guarded), figures(guarded)
    answer = ImageSynthesis.call(api_key=guarded.key, n=4, **GIVEN)
    assert (answer.status_code, answer.output.task_status) == (200, "SUCCEEDED")
    first, second, third, fourth = answer.output.results
    for lost in (first, third):
        assert (lost["code"], lost["message"]) == (
            "DataInspectionFailed",
            "Output data may contain inappropriate content.",
        )
    for made in (second, fourth):
        with urllib.request.urlopen(made.url, timeout=30) as got:
            assert Image.open(io.BytesIO(got.read())).size == (512, 512)
    assert answer.output.task_metrics == {"TOTAL": 4, "SUCCEEDED": 2, "FAILED": 2}
    assert answer.usage.image_count == 2
    assert len(files(guarded) - before) == 2
    assert charged(guarded) - paid == 2
    refused = 'danqing_refused{name="output"}'
    assert figures(guarded)[refused] - told[refused] == 2
    assert [(one.role, one.prompt, one.token) for one in service.asked] == [
        ("output", "a red circle", "Bearer s3cret")
    ] * 4


def test_93_all_pictures_of_a_task_are_refused(guarded: Served, service: Classifier) -> None:
    service.decide = refuses(0, 1)
    before, paid = files(guarded), charged(guarded)
    answer = ImageSynthesis.call(api_key=guarded.key, n=2, **GIVEN)
    assert (answer.output.task_status, answer.output.code) == ("FAILED", "DataInspectionFailed")
    assert answer.usage is None
    assert files(guarded) == before
    assert charged(guarded) == paid


def conversation(key: str, model: str, *content: dict[str, str], **more: Any) -> Any:
    messages = [{"role": "user", "content": list(content)}]
    return MultiModalConversation.call(api_key=key, model=model, messages=messages, **more)


def test_46_a_call_all_of_whose_pictures_are_refused(guarded: Served, service: Classifier) -> None:
    service.decide = refuses(0, 1)
    before, paid = files(guarded), charged(guarded)
    answer = conversation(guarded.key, "qwen-image-2.0", {"text": "a red circle"}, n=2, size="512*512")
    assert (answer.status_code, answer.code, answer.message) == (
        400,
        "DataInspectionFailed",
        "Output data may contain inappropriate content.",
    )
    assert files(guarded) == before
    assert charged(guarded) == paid


def test_45_a_refused_input_never_reaches_the_engine_or_the_store(
    guarded: Served, service: Classifier
) -> None:
    service.decide = lambda question: {"allowed": not is_red(question)}
    before, paid, told = files(guarded), charged(guarded), figures(guarded)
    images = [{"image": picture((20, 60, 200))}, {"image": picture(RED)}]
    answer = conversation(guarded.key, "qwen-image-edit-plus", *images, {"text": "make it winter"}, n=1)
    assert (answer.status_code, answer.code, answer.message) == (
        400,
        "DataInspectionFailed",
        "Input data may contain inappropriate content.",
    )
    assert {one.role for one in service.asked} == {"input"}
    assert files(guarded) == before
    assert charged(guarded) == paid
    refused = 'danqing_refused{name="input"}'
    assert figures(guarded)[refused] - told[refused] == 1


@pytest.mark.parametrize("answer", [{}, {"allowed": "maybe"}])
def test_a_classifier_that_talks_nonsense_closes_the_door(
    guarded: Served, service: Classifier, answer: dict[str, Any]
) -> None:
    service.decide = lambda question: answer
    before, paid = files(guarded), charged(guarded)
    refused = conversation(guarded.key, "qwen-image-2.0", {"text": "a red circle"}, n=1, size="512*512")
    assert (refused.status_code, refused.code) == (503, "ModelUnavailable")
    assert files(guarded) == before
    assert charged(guarded) == paid


def test_without_its_classifier_a_lenient_server_goes_on(tmp_path: Path, profile: Path) -> None:
    with classifying() as gone:
        url = gone.url
    server = serve(tmp_path / "data", profile, DANQING_CHECKS_CLASSIFIER=url, DANQING_CHECKS_AWAY="allow")
    try:
        body = {"model": "qwen-image-2.0", "parameters": {"size": "512*512", "n": 1}}
        body["input"] = {"messages": [{"role": "user", "content": [{"text": "a red circle"}]}]}
        status, _, _ = server.post(body)
        assert status == 200
        assert until(lambda: "checker away" in (tmp_path / "data.log").read_text())
    finally:
        server.stop()


def test_the_encoder_as_judge_sees_inputs_before_the_engine_and_pictures_before_the_store(
    tmp_path: Path, profile: Path
) -> None:
    """With random weights it says neither yes nor no; at a threshold of 0 that is enough to refuse."""
    server = serve(tmp_path / "data", profile, DANQING_CHECKS_JUDGE="true", DANQING_CHECKS_THRESHOLD="0")
    try:
        empty = files(server)
        for content, said in (
            ([{"image": picture(RED)}, {"text": "make it winter"}], "Input"),
            ([{"text": "a red circle"}], "Output"),
        ):
            model = "qwen-image-edit-plus" if said == "Input" else "qwen-image-2.0"
            body = {"model": model, "parameters": {"size": "512*512", "n": 1}}
            status, told, _ = server.post(
                {**body, "input": {"messages": [{"role": "user", "content": content}]}}
            )
            assert (status, told["code"]) == (400, "DataInspectionFailed")
            assert told["message"] == f"{said} data may contain inappropriate content."
            assert until(lambda: files(server) == empty)
        assert charged(server) == 0
        told = figures(server)
        counts = {
            kind: told[f'danqing_refused{{name="{kind}"}}'] for kind in ("input", "output", "unchecked")
        }
        assert counts == {"input": 1, "output": 1, "unchecked": 0}
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"DANQING_CHECKS_PLUGINS": '["nobody"]'}, "no checker 'nobody' is installed"),
        ({"DANQING_CHECKS_CLASSIFIER": "ftp://here"}, "checks.classifier"),
        (
            {"DANQING_CHECKS_JUDGE": "true", "DANQING_PROFILE": "miniature"},
            "no checkpoint of the profile miniature has an encoder with language",
        ),
    ],
)
def test_a_check_that_cannot_be_made_stops_the_start_and_the_doctor_says_so(
    tmp_path: Path, environment: dict[str, str], said: str
) -> None:
    for command in (("serve", "--port", "0"), ("doctor",)):
        done = danqing(*command, "--data", str(tmp_path), timeout=60, **environment)
        assert done.returncode != 0
        assert said in done.stdout + done.stderr
