"""The compatibility page tells what the catalogue and the transcripts tell."""

from __future__ import annotations

from danqing.catalogue.loader import load
from tools import compatibility


def test_nothing_that_the_page_says_by_itself_is_contradicted() -> None:
    assert compatibility.unsound() == []


def test_every_model_and_every_parameter_is_on_the_page() -> None:
    page = compatibility.page()
    for model in load().values():
        names = {model.name, *model.knobs, *model.modes, *model.functions, *model.refuses}
        assert [name for name in names if f"`{name}`" not in page] == []


def test_what_a_title_and_a_body_say_is_found() -> None:
    shown = {case: exchange for exchange in compatibility._shown() for case in exchange.cases}
    assert shown[61].model == "qwen-image-3.0"
    assert shown[143].parameters >= {"prompt", "size", "response_format"}
    assert "enable_sequential" in shown[85].parameters


def test_runs_of_numbers_are_written_short() -> None:
    assert compatibility._runs([3, 1, 2, 7, 9, 10]) == "1–3, 7, 9–10"
    assert compatibility._runs([]) == ""
