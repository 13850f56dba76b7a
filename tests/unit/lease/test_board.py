from __future__ import annotations

from danqing.lease.board import MOST, Board, Progress
from danqing.lease.messages import Outcome


def test_a_job_nobody_touched_is_not_on_the_board() -> None:
    assert Board().get("job") is None


def test_steps_never_go_back_within_an_attempt() -> None:
    board = Board()
    board.see("job", 5, 8, 1.0)
    board.see("job", 4, 8, 2.0)
    assert board.get("job") == Progress(5, 8, 1.0)


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
