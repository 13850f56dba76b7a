from __future__ import annotations

import asyncio

import pytest

from danqing.core.job import Image
from danqing.core.raster import Size
from danqing.core.writing import Panel
from danqing.lease.board import MOST, MOST_TALES, Board, Progress
from danqing.lease.messages import Outcome, Shown

IMAGE = Image("k", Size(1, 1), "0" * 64)


def test_a_job_nobody_touched_is_not_on_the_board() -> None:
    assert Board().get("job") is None


def test_steps_never_go_back_within_an_attempt() -> None:
    board = Board()
    board.see("job", 5, 8, 1.0)
    board.see("job", 4, 8, 2.0)
    assert board.get("job") == Progress(5, 8, 2.0), "made anew: the step stays, what is left is told"


def test_a_new_attempt_begins_from_nothing() -> None:
    board = Board()
    board.see("job", 5, 8, 1.0)
    board.stored("job", 1)
    board.claimed("job")
    assert board.get("job") == Progress()


def test_an_ended_job_keeps_its_times_and_hears_no_late_step() -> None:
    board = Board()
    board.see("job", 5, 8, 1.0)
    board.stored("job", 2)
    board.ended("job", Outcome.SUCCEEDED, seconds=1.5, wall=2.0)
    board.see("job", 8, 8, 0.0)
    assert board.get("job") == Progress(5, 8, None, 2, Outcome.SUCCEEDED, 1.5, 2.0)
    assert board.figures() == {"succeeded": 1, "failed": 0, "released": 0, "engine_seconds": 1.5}


def test_the_longest_untouched_job_is_forgotten_first() -> None:
    board = Board()
    for number in range(MOST):
        board.see(f"job-{number}", 1, 8, None)
    board.see("job-0", 2, 8, None)
    board.see("one more", 1, 8, None)
    assert board.get("job-1") is None
    assert board.get("job-0") is not None


def test_a_lost_attempt_leaves_the_board() -> None:
    board = Board()
    board.see("job", 1, 8, None)
    board.forget("job")
    assert board.get("job") is None


PANELS = (Panel("Once.", "a fox"), Panel("Then.", "a hen"))
PICTURE = Image("key", Size(8, 6), "digest")


async def test_a_follower_hears_of_panels_and_pictures_as_they_come() -> None:
    board = Board()
    with board.follow("job") as tale:
        assert (tale.panels, tale.pictures) == ((), {})
        waiting = asyncio.ensure_future(tale.more(0))
        await asyncio.sleep(0)
        assert not waiting.done()
        board.tell("job", PANELS)
        assert await asyncio.wait_for(waiting, 1.0) == 1
        assert tale.panels == PANELS
        board.show("job", 0, PICTURE)
        for seen in (0, 1):  # whoever comes late hears of it too
            assert await asyncio.wait_for(tale.more(seen), 1.0) == 2
        assert tale.pictures == {0: PICTURE}


async def test_the_first_word_about_a_job_stands() -> None:
    board = Board()
    assert board.tell("job", PANELS) == PANELS
    board.forget("job")
    board.ended("job", Outcome.RELEASED, seconds=0.0, wall=0.0)
    assert board.tell("job", PANELS[:1]) == PANELS


async def test_a_job_that_ended_is_told_no_more() -> None:
    board = Board()
    board.tell("job", PANELS)
    board.ended("job", Outcome.FAILED, seconds=0.0, wall=0.0)
    assert board.tell("job", PANELS[:1]) == PANELS[:1]


async def test_only_tales_that_nobody_follows_are_forgotten() -> None:
    board = Board()
    with board.follow("followed"):
        board.tell("followed", PANELS)
        for number in range(MOST_TALES + 1):
            board.tell(f"job {number}", PANELS)
        assert board.tell("followed", PANELS[:1]) == PANELS
        assert board.tell("job 0", PANELS[:1]) == PANELS[:1]
        assert board.followed("followed")
    assert not board.followed("followed")


# -- who watches


def seen(index: int = 0, step: int = 1) -> Shown:
    return Shown.of(index, step, 4, b"\xff\xd8\xff" + bytes(8) + b"\xff\xd9")


def test_previews_are_kept_for_who_watches_the_newest_of_each_picture() -> None:
    board = Board()
    board.glimpse("a", seen())
    assert not board.watched("a")
    with board.watch("a") as tale:
        assert board.watched("a")
        assert tale.glimpses == {}
        for step in (1, 2, 3):
            board.glimpse("a", seen(0, step))
        board.glimpse("a", seen(1))
        assert {index: shown.step for index, shown in tale.glimpses.items()} == {0: 3, 1: 1}
        with board.watch("a") as second:
            assert second is tale
        assert board.watched("a")
        assert tale.glimpses
    assert not board.watched("a")
    assert tale.glimpses == {}


def test_a_stored_picture_takes_the_place_of_its_preview() -> None:
    board = Board()
    with board.watch("a") as tale:
        board.glimpse("a", seen())
        board.show("a", 0, IMAGE)
        assert tale.glimpses == {}
        board.glimpse("a", seen(0, 4))  # one that was overtaken
        assert tale.glimpses == {}
        assert board.pictures("a") == {0: IMAGE}


@pytest.mark.parametrize("how", ["ended", "forgotten", "claimed"])
def test_previews_and_pictures_of_an_attempt_go_with_it(how: str) -> None:
    board = Board()
    board.claimed("a")
    with board.watch("a") as tale:
        board.glimpse("a", seen())
        board.show("a", 1, IMAGE)
        turns = tale.turns
        match how:
            case "ended":
                board.ended("a", Outcome.FAILED, seconds=0.0, wall=0.0)
            case "forgotten":
                board.forget("a")
            case "claimed":
                board.claimed("a")
        assert tale.turns > turns
        assert tale.glimpses == {}
        assert board.pictures("a") == {}


def test_who_follows_a_story_does_not_ask_for_previews() -> None:
    board = Board()
    with board.follow("a") as tale:
        board.glimpse("a", seen())
        assert not board.watched("a")
        assert tale.glimpses == {}


def test_pictures_are_remembered_of_a_bounded_number_of_jobs() -> None:
    board = Board()
    for number in range(MOST + 5):
        board.show(f"job-{number}", 0, IMAGE)
    assert board.pictures("job-0") == {}
    assert board.pictures(f"job-{MOST + 4}") == {0: IMAGE}
