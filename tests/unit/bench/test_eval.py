"""The evaluation's last line has every name that is promised of it, and a service that stumbles costs one answer."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from bench.answers import ServerAnswers, Unanswered, colour_in_the_middle, raster, seconds_of_an_edit
from bench.eval import Asked, distance, figures, measured
from danqing.judge.exam import Tally
from danqing.judge.scenes import ROWS, draw_case
from danqing.judge.score import judge
from danqing.pixels.png import encode
from training.card import write_card

PROMISED = {
    *("overall", "rows", "languages", "seen", "unseen", "edit_512_one_input_s", "edit_512_three_inputs_s"),
    *("megabytes", "native"),
}


@pytest.fixture(scope="module")
def tally() -> Tally:
    counted = Tally()
    for row, tasks in ROWS.items():
        for seed in (0, 1):
            case = draw_case(tasks[0], seed, "en")
            counted.add(case, judge(case, case.truth if row != "style" else np.zeros_like(case.truth)))
    return counted


def test_every_name_is_in_the_line_and_the_card_can_be_written_of_it(tally: Tally, tmp_path: Path) -> None:
    line = figures(tally, tuple(ROWS)) | measured(Asked(None, None, None, ("a", "b"), 7), times=False)
    assert set(line) >= PROMISED
    assert (line["native"], line["steps"]) == (128, 7)
    assert 10 < line["megabytes"] < 32
    assert line["rows"]["style"] == 0
    assert line["overall"] == pytest.approx(21 / 22, abs=1e-3)
    write_card(tmp_path, tmp_path, line | {"side": 128, "count": 2})
    assert "| `style` | 0.0% |" in (tmp_path / "MODEL_CARD.md").read_text("utf-8")


def test_a_distance_is_in_levels_and_only_between_pictures_of_one_size() -> None:
    case = draw_case(ROWS["recolour"][0], 0, "en")
    near = np.where(case.truth < 128, case.truth + 3, case.truth - 3).astype(np.uint8)
    assert (distance(case, case.truth), distance(case, near)) == (0.0, 3.0)
    assert distance(case, near[:-1]) is distance(case, None) is None


def test_of_a_service_what_cannot_be_known_is_null() -> None:
    line = measured(Asked(None, "http://127.0.0.1:9", "k", ("a", "b"), None), times=False)
    assert line["megabytes"] is line["native"] is line["edit_512_one_input_s"] is None


@contextmanager
def service(*statuses: int) -> Iterator[str]:
    """Answers calls with these statuses in turn, 200 with a red picture."""
    left = list(statuses)
    red = encode(raster(np.full((64, 64, 3), (255, 0, 0), np.uint8)))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            status = left.pop(0)
            link = f"data:image/png;base64,{base64.b64encode(red).decode()}"
            told = {"output": {"choices": [{"message": {"content": [{"image": link}]}}]}}
            body = json.dumps(told if status == 200 else {"code": "Throttling"}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_service_that_is_busy_is_asked_again_and_one_that_refuses_is_not() -> None:
    case = draw_case("text_to_image", 1, "en")
    with service(429, 503, 200, 400, 200) as url:
        answers = ServerAnswers(url, "key", ("a", "b"), pause=0.01)
        busy, refused, after = (answers.ask([case])[0] for _ in range(3))
    for picture in (busy, after):
        assert isinstance(picture, np.ndarray)
        assert picture[0, 0].tolist() == [255, 0, 0]
    assert refused == Unanswered('HTTP 400: {"code": "Throttling"}')


def test_a_service_that_is_not_there_leaves_the_question_unanswered() -> None:
    answers = ServerAnswers("http://127.0.0.1:9", "key", ("a", "b"), pause=0.001)
    (answer,) = answers.ask([draw_case("text_to_image", 1, "en")])
    assert isinstance(answer, Unanswered)
    assert "refused" in answer.why
    assert set(seconds_of_an_edit(answers, repeats=1).values()) == {None}


def test_a_middle_in_which_nothing_stands_has_no_colour() -> None:
    picture = np.full((128, 128, 3), 255, np.uint8)
    assert colour_in_the_middle(picture) is None
    picture[40:90, 40:90] = (230, 30, 30)
    assert colour_in_the_middle(picture) == "red"
