"""Jobs as tasks: their shapes, their times, and what a list's query string means."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from danqing.catalogue.loader import load
from danqing.core.errors import BadOrder, EngineFailed, OutputRefused
from danqing.core.job import Image, Job, Page, Search, State
from danqing.core.order import Brief
from danqing.core.raster import Size
from danqing.wire.dashscope import decode, shapes, tasks
from danqing.wire.dashscope.task_schema import Submitted, Task, TaskList

NOW = 1_763_712_000.25  # 2025-11-21 08:00:00.25 UTC
DAY = 86_400.0
MODELS = load()


def job(model: str = "wan2.2-t2i-flash", state: State = State.SUCCEEDED, **more: Any) -> Job:
    brief = Brief(model, "a circle", None, (), 2, Size(512, 512), 0, knobs={"prompt_extend": True})
    images = tuple(Image(f"k{n}", Size(512, 512), "d") for n in range(2))
    given: dict[str, Any] = {
        "api": decode.TEXT_TO_IMAGE,
        "created": NOW,
        "started": NOW + 1,
        "finished": NOW + 2,
        "images": images if state is State.SUCCEEDED else (),
        "request_id": "r",
        "key_id": "k",
        **more,
    }
    return Job("id", "t", brief=brief, state=state, attempt=1, **given)


def shown(one: Job, links: tuple[str, ...] = ("u1", "u2")) -> dict[str, Any]:
    body = tasks.shown(one, MODELS.get(one.brief.model), links, "r").body
    Task.model_validate(body)
    return dict(body)


def test_times_are_china_s_to_the_millisecond() -> None:
    assert tasks.moment(NOW) == "2025-11-21 16:00:00.250"
    assert tasks.moment(NOW - 0.2501) == "2025-11-21 15:59:59.999"


@pytest.mark.parametrize("state", list(State))
def test_every_state_has_a_name_and_a_shape(state: State) -> None:
    fault = EngineFailed("CUDA at /srv/models") if state is State.FAILED else None
    body = shown(job(state=state, fault=fault))
    assert body["output"]["task_status"] == tasks.STATES[state]
    assert ("usage" in body) == ("results" in body["output"]) == (state is State.SUCCEEDED)
    assert "/srv" not in str(body)


@pytest.mark.parametrize("route", [decode.IMAGES, decode.TEXT_TO_IMAGE, decode.IMAGE_TO_IMAGE])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_model_has_a_shape_on_every_route_it_is_a_task_of(name: str, route: str) -> None:
    if "async" not in MODELS[name].routes.get(route, ()):
        return
    output = shown(job(name, api=route))["output"]
    assert ("choices" in output) == (route == decode.IMAGES)
    assert ("results" in output) == (route != decode.IMAGES)


def test_results_are_flat_strings_and_their_order_is_the_pictures_own() -> None:
    lost = job(lost={1: OutputRefused()}, images=(job().images[0], job().images[1]))
    results = shown(replace(lost, brief=replace(lost.brief, count=3)))["output"]["results"]
    assert [sorted(item) for item in results] == [
        ["actual_prompt", "orig_prompt", "url"],
        ["code", "message"],
        ["actual_prompt", "orig_prompt", "url"],
    ]
    assert all(isinstance(value, str) for item in results for value in item.values())


@pytest.mark.parametrize("model", ["wanx-v1", "wanx2.1-imageedit"])
def test_some_models_show_links_alone(model: str) -> None:
    assert shown(job(model))["output"]["results"] == [{"url": "u1"}, {"url": "u2"}]


def test_a_model_that_left_the_catalogue_can_still_be_asked_for() -> None:
    assert shown(job("gone", api=decode.IMAGES))["output"]["choices"]


def test_a_submit_is_pending_whatever_became_of_it() -> None:
    body = tasks.submitted(job(state=State.FAILED), "r").body
    Submitted.model_validate(body)
    assert body["output"]["task_status"] == "PENDING"


def test_a_series_stays_in_one_choice() -> None:
    one = job("wan2.7-image")
    series = replace(one, brief=replace(one.brief, knobs={shapes.SERIES: True}))
    assert len(shapes.choices(one, "W27", ["a", "b"])) == 2
    assert len(shapes.choices(series, "W27", ["a", "b"])) == 1


def test_the_prompt_used_stands_beside_the_picture_of_one_family() -> None:
    (choice,) = shapes.choices(job(), "Z", ["a"])
    assert choice["message"] == {
        "role": "assistant",
        "content": [{"image": "a"}, {"text": "a circle"}],
        "reasoning_content": "",
    }


# lists


def test_a_list_is_of_the_last_day_and_of_ten() -> None:
    assert tasks.search({}, NOW) == (Search(NOW - DAY, NOW), 1, 10)


def test_one_end_of_a_span_gives_the_other() -> None:
    after, _, _ = tasks.search({"start_time": "20251121160000"}, NOW)
    before, _, _ = tasks.search({"end_time": "20251121160000"}, NOW)
    assert (after.since, after.until) == (NOW - 0.25, NOW - 0.25 + DAY)
    assert (before.since, before.until) == (NOW - 0.25 - DAY, NOW - 0.25)


@pytest.mark.parametrize(
    ("status", "states"),
    [
        ("PENDING", (State.ACCEPTED, State.QUEUED)),
        ("canceled", (State.CANCELLED,)),
        ("SUSPENDED", ()),
        ("UNKNOWN", ()),
        ("", None),
    ],
)
def test_a_name_stands_for_its_states(status: str, states: tuple[State, ...] | None) -> None:
    assert tasks.search({"status": status}, NOW)[0].states == states


@pytest.mark.parametrize(
    "query",
    [
        {"page_no": "0"},
        {"page_no": "-1"},
        {"page_no": "1.5"},
        {"page_no": "٣"},
        {"page_no": "9" * 30},
        {"page_size": "0"},
        {"page_size": "101"},
        {"start_time": "yesterday"},
        {"end_time": "20251301000000"},
        {"start_time": "٢٠٢٥١١٢١١٦٠٠٠٠"},
        {"start_time": "20251120000000", "end_time": "20251121000001"},
    ],
)
def test_what_is_no_page_and_no_span_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(BadOrder):
        tasks.search(query, NOW)


def test_a_running_entry_has_no_end_and_pages_are_rounded_up() -> None:
    running = job(state=State.RUNNING, finished=None)
    body = tasks.listed(Page((running,), 21), 1, 10, "r").body
    TaskList.model_validate(body)
    assert (body["total"], body["total_page"]) == (21, 3)
    assert "end_time" not in body["data"][0]
    assert body["data"][0]["gmt_create"] == 1_763_712_000_250
