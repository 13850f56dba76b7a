"""Jobs whose callers come back for them: accepted first, then queued or refused; listed by page; taken back."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from danqing.core.blobkeys import input_key
from danqing.core.errors import BadOrder, InputRefused, InputUnreachable, OutputRefused, QuotaExhausted
from danqing.core.job import Closing, Job, Search, State
from danqing.core.order import Order, Remote, Taken
from danqing.core.ports import JobStore
from danqing.core.raster import Size
from tests.contract.stores import Implementation
from tests.support.clock import VirtualClock
from tests.support.jobs import audited, claim, digest, draft, no_claim, pictures

DAY = 24 * 3600.0
ORDER = Order(
    "miniature",
    "一只红色的圆",
    negative_prompt="blue",
    sources=(Remote("https://h/a.png"), Taken(digest("one"), Size(400, 600))),
    count=2,
    size=Size(512, 768),
    seed=7,
    knobs={"prompt_extend": True, "boxes": ((), ((1, 2, 3, 4),))},  # type: ignore[dict-item]
)


def task(name: str, **more: Any) -> Any:
    return draft(name, **{"request_id": f"r-{name}", "key_id": "k1", "count": 2, **more})


def search(clock: VirtualClock, **more: Any) -> Search:
    return Search(clock.wall() - DAY, clock.wall(), **more)


async def names(store: JobStore, tenant: str, asked: Search, skip: int = 0, limit: int = 10) -> list[str]:
    return [job.id for job in (await store.find(tenant, asked, skip=skip, limit=limit)).jobs]


# accepted


async def test_an_accepted_job_waits_for_its_brief_and_no_worker_gets_it(store: JobStore) -> None:
    submitted = (await store.submit("ann", task("a", order=ORDER))).job
    assert submitted.state is State.ACCEPTED
    assert await store.get("ann", "a") == submitted
    assert await no_claim(store)
    (arrival,) = await store.arrivals(10)
    assert (arrival.job_id, arrival.tenant, arrival.order) == ("a", "ann", ORDER)


async def test_it_is_queued_with_its_brief_once(store: JobStore) -> None:
    await store.submit("ann", task("a", order=ORDER))
    brief = replace(draft(count=2, inputs=("one", "two")).brief, prompt="definite")
    assert await store.ready("a", brief) is Closing.DONE
    assert await store.ready("a", brief) is Closing.STALE
    assert await store.refuse("a", BadOrder()) is Closing.STALE
    assert list(await store.arrivals(10)) == []
    assert (await claim(store)).brief == brief


async def test_it_is_refused_with_its_fault_and_holds_nothing_any_more(store: JobStore) -> None:
    await store.submit("ann", task("a", order=ORDER))
    assert await store.refuse("a", InputUnreachable()) is Closing.DONE
    job = await store.get("ann", "a")
    assert job is not None
    assert (job.state, type(job.fault)) == (State.FAILED, InputUnreachable)
    assert job.fault is not None
    assert not job.fault.explicit, "a fault without words of its own comes back as one"
    assert await audited(store)
    account = await store.account("ann")
    assert account is not None
    assert account.held == 0


async def test_one_that_was_refused_before_is_stored_as_failed_at_its_birth(
    store: JobStore, clock: VirtualClock
) -> None:
    await store.set_quota("ann", 2)
    job = (await store.submit("ann", task("a", fault=BadOrder("no such size")))).job
    assert (job.state, job.finished) == (State.FAILED, clock.wall())
    seen = await store.get("ann", "a")
    assert seen is not None
    assert seen.fault is not None
    assert (seen.state, seen.fault.message) == (State.FAILED, "no such size")
    await store.submit("ann", task("b"))
    with pytest.raises(QuotaExhausted):
        await store.submit("ann", task("c"))
    assert await audited(store)


async def test_what_was_accepted_is_there_after_a_restart_of_the_machine(
    implementation: Implementation, clock: VirtualClock, tmp_path: Path
) -> None:
    async with implementation.open(tmp_path, clock, boot="one") as store:
        await store.submit("ann", task("a", order=ORDER))
    clock.advance(DAY)
    async with implementation.open(tmp_path, clock, boot="two") as store:
        (arrival,) = await store.arrivals(10)
        assert arrival.order == ORDER
        await store.ready("a", draft(count=2).brief)
        assert (await claim(store)).job_id == "a"


async def test_inputs_that_came_with_the_request_stay_as_long_as_the_job(
    store: JobStore, clock: VirtualClock
) -> None:
    await store.submit("ann", task("a", order=ORDER, inputs=("one",)))
    await store.ready("a", draft(count=2, inputs=("one", "two")).brief)
    await store.cancel("ann", "a")
    clock.advance(DAY + 1)
    assert len(set(await store.sweep())) == 2


# taken back


@pytest.mark.parametrize("accepted", [True, False])
async def test_a_job_that_waits_can_be_taken_back_once(store: JobStore, *, accepted: bool) -> None:
    await store.submit("ann", task("a", order=ORDER if accepted else None))
    assert await store.withdraw("bob", "a") is False
    assert await store.withdraw("ann", "a") is True
    assert await store.withdraw("ann", "a") is False
    job = await store.get("ann", "a")
    assert job is not None
    assert job.state is State.CANCELLED
    assert await audited(store)


async def test_a_job_that_was_begun_cannot(store: JobStore) -> None:
    await store.submit("ann", task("a"))
    lease = await claim(store)
    assert await store.withdraw("ann", "a") is False
    await store.succeed(lease.token, pictures("a", 2))
    assert await store.withdraw("ann", "a") is False
    assert await store.withdraw("ann", "nothing") is False


# a success with something missing


async def test_only_what_was_delivered_is_charged_and_the_rest_says_why(store: JobStore) -> None:
    await store.submit("ann", task("a"))
    lease = await claim(store)
    await store.succeed(lease.token, pictures("a", 1), {0: OutputRefused()})
    job = await store.get("ann", "a")
    assert job is not None
    assert (len(job.images), {place: type(fault) for place, fault in job.lost.items()}) == (
        1,
        {0: OutputRefused},
    )
    account = await store.account("ann")
    assert account is not None
    assert (account.held, account.used) == (0, 1)
    assert await audited(store)


# lists


async def test_only_jobs_that_somebody_comes_back_for_are_listed(
    store: JobStore, clock: VirtualClock
) -> None:
    await store.submit("ann", draft("sync"))
    await store.submit("ann", task("a"))
    await store.submit("bob", task("b"))
    assert await names(store, "ann", search(clock)) == ["a"]


async def test_a_list_is_the_same_however_it_is_narrowed_and_paged(
    store: JobStore, clock: VirtualClock
) -> None:
    """Against a list made by hand of the same jobs, over many quarters of an hour."""
    draw = random.Random(4)
    jobs: list[Job] = []
    for number in range(120):
        clock.advance(draw.choice([0.0, 1.0, 400.0, 2000.0]))
        model = draw.choice(["m1", "m2", "m3"])
        one = task(f"t{number:03}", key_id=draw.choice(["k1", "k2"]))
        await store.submit("ann", replace(one, brief=replace(one.brief, model=model)))
        if draw.random() < 0.6:
            lease = await claim(store, f"worker-{number}")  # of one tenant a worker holds twelve at most
            if draw.random() < 0.5:
                await store.succeed(lease.token, pictures(lease.job_id, 2))
            elif draw.random() < 0.5:
                await store.fail(lease.token, BadOrder())
        elif draw.random() < 0.3:
            await store.withdraw("ann", f"t{number:03}")
    for number in range(120):
        found = await store.get("ann", f"t{number:03}")
        if found is not None:
            jobs.append(found)
    assert len({job.state for job in jobs}) >= 4
    for _ in range(150):
        asked = Search(
            since=clock.wall() - draw.choice([500.0, 3000.0, 40_000.0, DAY]),
            until=clock.wall() - draw.choice([0.0, 0.0, 1200.0, 9000.0]),
            model=draw.choice([None, None, "m1", "m9"]),
            states=draw.choice([None, (State.SUCCEEDED,), (State.ACCEPTED, State.QUEUED), ()]),
            job_id=draw.choice([None] * 6 + ["t100"]),
            key_id=draw.choice([None] * 6 + ["k2"]),
        )
        wanted = sorted(
            (job for job in jobs if fits(job, asked)), key=lambda job: (job.created, job.id), reverse=True
        )
        skip, limit = draw.randrange(0, 40), draw.choice([1, 10, 100])
        page = await store.find("ann", asked, skip=skip, limit=limit)
        assert page.total == len(wanted)
        assert [job.id for job in page.jobs] == [job.id for job in wanted[skip : skip + limit]]


def fits(job: Job, asked: Search) -> bool:
    return (
        asked.since <= job.created <= asked.until
        and asked.model in (None, job.brief.model)
        and (asked.states is None or job.state in asked.states)
        and asked.job_id in (None, job.id)
        and asked.key_id in (None, job.key_id)
    )


async def test_the_tallies_forget_what_is_purged(
    store: JobStore, clock: VirtualClock, implementation: Implementation, tmp_path: Path
) -> None:
    for number in range(3):
        await store.submit("ann", task(f"t{number}"))
        await store.withdraw("ann", f"t{number}")
    assert implementation.execute(tmp_path, "SELECT jobs FROM tally") == [(3,)]
    clock.advance(DAY + 1)
    await store.sweep()
    assert implementation.execute(tmp_path, "SELECT jobs FROM tally") == []
    asked = Search(clock.wall() - 2 * DAY, clock.wall())
    assert (await store.find("ann", asked, skip=0, limit=10)).total == 0


# inputs that may not be kept


async def test_a_job_refused_for_an_input_names_none_and_one_refused_otherwise_all(store: JobStore) -> None:
    for fault, named in ((InputRefused(), False), (OutputRefused(), True)):
        name = type(fault).__name__
        key = input_key("acme", digest(name))
        await store.submit("acme", draft(f"run-{name}", inputs=(name,)))
        lease = await claim(store)
        assert await store.unnamed([key]) == []
        await store.fail(lease.token, fault)
        assert await store.unnamed([key]) == ([] if named else [key])


async def test_an_accepted_task_refused_for_an_input_names_none(store: JobStore) -> None:
    key = input_key("acme", digest("one"))
    await store.submit("acme", task("late", order=ORDER, inputs=("one",)))
    await store.refuse("late", InputRefused())
    await store.submit("acme", task("at once", fault=InputRefused(), inputs=("one",)))
    assert await store.unnamed([key]) == [key]


async def test_an_input_stays_named_by_the_jobs_that_were_not_refused(store: JobStore) -> None:
    key = input_key("acme", digest("one"))
    await store.submit("acme", task("fine", inputs=("one",)))
    await store.submit("acme", task("refused", order=ORDER, inputs=("one",)))
    await store.refuse("refused", InputRefused())
    assert await store.unnamed([key]) == []
