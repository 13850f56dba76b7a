"""Negative controls: the tests of the checks of pictures must turn red when a check is taken out.

Each mutant takes one guard away and runs tests by name, in this process. A control passes when every one of them
fails; `test_the_named_tests_pass_without_a_mutant` shows that none is red for another reason.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from danqing.core.checking import Role, Verdict, pass_all
from danqing.core.errors import Fault
from danqing.core.raster import Raster
from danqing.intake.inputs import Inputs
from danqing.lease.desk import Desk
from danqing.prompts import check
from danqing.store import statements
from danqing.work import look, run
from tests.support.lease_place import lease_place
from tests.unit.prompts import test_check as checking
from tests.unit.work import test_look as looking
from tests.wire import test_checks as calling

Patch = pytest.MonkeyPatch
RED = (AssertionError, pytest.fail.Exception, Fault, TimeoutError)
"""How a test fails. Anything else means that the mutant is broken."""


@dataclass(frozen=True)
class Mutant:
    """A guard taken out, and the tests that must notice; `given` are further arguments of theirs."""

    name: str
    tests: tuple[tuple[Callable[..., Any], dict[str, Any]], ...]
    code: Callable[[Patch], None]


def outputs_unseen(patch: Patch) -> None:
    async def image(self: look.Looked, token: str, index: int, raster: Raster) -> None:
        await self._shelf.image(token, index, raster)

    patch.setattr(look.Looked, "image", image)


def outputs_seen_too_late(patch: Patch) -> None:
    async def image(self: look.Looked, token: str, index: int, raster: Raster) -> None:
        await self._shelf.image(token, index, raster)
        await self._inspect(raster, Role.OUTPUT, self._prompt)

    patch.setattr(look.Looked, "image", image)


def inputs_unseen_by_the_worker(patch: Patch) -> None:
    async def look_at_inputs(*_: Any) -> None:
        """Nothing."""

    patch.setattr(run, "look_at_inputs", look_at_inputs)


def inputs_unseen_at_the_door(patch: Patch) -> None:
    made = Inputs.__init__

    def init(self: Inputs, *args: Any, **more: Any) -> None:
        made(self, *args, **{**more, "inspect": pass_all})

    patch.setattr(Inputs, "__init__", init)


def inputs_stored_before_they_are_seen(patch: Patch) -> None:
    get = Inputs._get

    async def get_and_keep(self: Inputs, tenant: str, source: Any, **more: Any) -> Any:
        seen, self._inspect = self._inspect, pass_all
        try:
            got = await get(self, tenant, source, **more)
        finally:
            self._inspect = seen
        await self._keep(tenant, got)
        await seen(got.raster, Role.INPUT, more["prompt"])
        return got

    patch.setattr(Inputs, "_get", get_and_keep)


def refused_inputs_kept_by_the_desk(patch: Patch) -> None:
    async def forget(*_: Any) -> None:
        """Nothing."""

    patch.setattr(Desk, "_forget_inputs", forget)


def refused_inputs_kept_by_the_intake(patch: Patch) -> None:
    async def forget(*_: Any) -> None:
        """Nothing."""

    patch.setattr(Inputs, "forget", forget)


def names_kept(patch: Patch) -> None:
    purge = statements.purge_inputs
    patch.setattr(statements, "purge_inputs", lambda job_ids: purge(["none"]))


def silence_passes(patch: Patch) -> None:
    made = check.Checks.__init__

    def init(self: check.Checks, checkers: Any, **more: Any) -> None:
        made(self, checkers, **{**more, "lenient": True})

    patch.setattr(check.Checks, "__init__", init)


def nonsense_passes(patch: Patch) -> None:
    def verdict(answer: Any) -> Verdict:
        return Verdict(allowed=bool(answer.get("allowed", True)) if isinstance(answer, dict) else True)

    patch.setattr(checking, "verdict", verdict)


def one(test: Callable[..., Any], **given: Any) -> tuple[Callable[..., Any], dict[str, Any]]:
    return test, given


SOME = one(looking.test_a_refused_picture_is_missing_uncharged_and_not_stored)
ALL = one(
    looking.test_when_no_picture_may_leave_the_job_fails,
    faults={0: looking.OutputRefused, 1: looking.OutputRefused},
    fault=looking.OutputRefused,
)
BEGUN = one(looking.test_an_order_with_a_refused_input_is_never_begun_and_its_inputs_go)
CALL = one(calling.test_nothing_of_a_call_is_stored_or_charged, checker="red")
TASK = one(calling.test_nothing_of_a_task_is_stored_once_one_of_its_pictures_is_refused)
AWAY = one(checking.test_one_that_is_away_closes_the_door_unless_told_otherwise, role=Role.INPUT)

MUTANTS = (
    Mutant("outputs unseen", (SOME, ALL), outputs_unseen),
    Mutant("outputs seen too late", (SOME,), outputs_seen_too_late),
    Mutant("inputs unseen by the worker", (BEGUN,), inputs_unseen_by_the_worker),
    Mutant("inputs unseen at the door", (CALL,), inputs_unseen_at_the_door),
    Mutant("inputs stored before they are seen", (CALL,), inputs_stored_before_they_are_seen),
    Mutant("refused inputs kept by the desk", (BEGUN,), refused_inputs_kept_by_the_desk),
    Mutant("refused inputs kept by the intake", (TASK,), refused_inputs_kept_by_the_intake),
    Mutant("refused inputs still named", (BEGUN, TASK), names_kept),
    Mutant("silence passes", (AWAY,), silence_passes),
    Mutant("nonsense passes", (one(checking.test_anything_else_is_no_answer, answer={}),), nonsense_passes),
)


async def perform(test: Callable[..., Any], given: dict[str, Any], folder: Path) -> None:
    """Run a test with the fixtures that these tests ask for."""
    wanted = inspect.signature(test).parameters
    if "tmp_path" in wanted:
        given = {**given, "tmp_path": folder}
    if "place" in wanted:
        async with lease_place(folder) as place:
            await test(place, **given)
        return
    done = test(**given)
    if inspect.isawaitable(done):
        await done


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
async def test_a_check_taken_out_is_noticed(
    mutant: Mutant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant.code(monkeypatch)
    for module in (looking, calling):
        monkeypatch.setattr(module, "eventually", _brief)
    for number, (test, given) in enumerate(mutant.tests):
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.raises(RED):
            await perform(test, given, folder)


async def _brief(holds: Any, seconds: float = 1.0) -> None:
    """A mutant need not be waited for as long as the real thing."""
    from tests.support.eventually import eventually

    await eventually(holds, 1.0)


@pytest.mark.parametrize("named", [SOME, ALL, BEGUN, CALL, TASK, AWAY], ids=lambda named: named[0].__name__)
async def test_the_named_tests_pass_without_a_mutant(named: Any, tmp_path: Path) -> None:
    test, given = named
    await perform(test, given, tmp_path)
