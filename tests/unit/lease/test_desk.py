from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from danqing.core.blobkeys import input_key
from danqing.core.errors import EngineFailed, Fault, OutputRefused, Unavailable
from danqing.core.job import Closing, Draft, Image, Lease, News, Said, State
from danqing.core.order import Brief, Mask
from danqing.core.raster import Raster, Size
from danqing.core.writing import Panel
from danqing.lease.messages import (
    BadMessage,
    Beats,
    Claim,
    End,
    Gone,
    ImagesMissing,
    Lost,
    Outcome,
    Pulse,
    Script,
    Shown,
    Text,
    TokenGone,
    Wrong,
)
from tests.support.clock import VirtualClock
from tests.support.lease_place import HELLO, SIZE, TENANT, Place, hello, lease_place, raster


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with lease_place(tmp_path, clock=VirtualClock()) as made:
        yield made


async def claim(
    place: Place, worker: str = "w1", *, room: int = 1, holding: tuple[str, ...] = ()
) -> list[Lease]:
    return list((await place.desk.claim(Claim(hello(worker), room, 0.0, holding))).leases)


async def upload(place: Place, lease: Lease, *indices: int) -> None:
    for index in indices:
        await place.desk.image(lease.token, index, raster(f"{lease.token} {index}").pack())


def succeeded(lease: Lease) -> End:
    return End(lease.token, Outcome.SUCCEEDED, seconds=1.0, wall=2.0)


def failed(lease: Lease) -> End:
    return End(lease.token, Outcome.FAILED, Wrong.of(EngineFailed("not finite")))


def advance(place: Place, seconds: float) -> None:
    assert isinstance(place.clock, VirtualClock)
    place.clock.advance(seconds)


async def test_a_job_is_claimed_uploaded_ended_and_charged_once(place: Place) -> None:
    job_id = await place.submit(count=2)
    [lease] = await claim(place)
    await upload(place, lease, 1, 0)
    assert await place.desk.end(succeeded(lease)) is Closing.DONE
    job = await place.job(job_id, 0)
    assert job.state is State.SUCCEEDED
    assert [image.key.rsplit("-", 1)[1] for image in job.images] == ["0.png", "1.png"]
    assert [await place.blobs.read(image.key) for image in job.images] == [
        f"{raster(f'{lease.token} {index}').digest()} False".encode() for index in (0, 1)
    ]
    assert await place.charged() == 2
    assert await place.audited()


async def test_a_success_may_lack_pictures_say_why_and_say_more(place: Place) -> None:
    job_id = await place.submit(count=4)
    [lease] = await claim(place)
    await upload(place, lease, 0, 2)
    lost = (Lost(1, Wrong.of(OutputRefused())),)
    end = End(
        lease.token, Outcome.SUCCEEDED, lost=lost, made=3, prompt="a red fox", texts=(Text(0, "Once."),)
    )
    assert await place.desk.end(end) is Closing.DONE
    job = await place.job(job_id, 0)
    assert [image.key.rsplit("-", 1)[1] for image in job.images] == ["0.png", "2.png"]
    assert {place_: type(fault) for place_, fault in job.lost.items()} == {1: OutputRefused}
    assert job.said == Said("a red fox", ((0, "Once."),))
    assert await place.charged() == 2
    assert await place.audited()


@pytest.mark.parametrize(
    ("made", "lost"), [(0, ()), (3, ()), (None, (0, 1)), (1, (1,))], ids=["none", "more", "all", "beyond"]
)
async def test_a_success_that_does_not_fit_the_order_is_no_message(
    made: int | None, lost: tuple[int, ...], place: Place
) -> None:
    await place.submit(count=2)
    [lease] = await claim(place)
    await upload(place, lease, 0, 1)
    wrong = tuple(Lost(one, Wrong.of(OutputRefused())) for one in lost)
    with pytest.raises(BadMessage, match="is no success"):
        await place.desk.end(End(lease.token, Outcome.SUCCEEDED, lost=wrong, made=made))


async def test_p6_a_job_cannot_succeed_before_every_picture_is_stored(place: Place) -> None:
    job_id = await place.submit(count=3)
    [lease] = await claim(place)
    await upload(place, lease, 1)
    with pytest.raises(ImagesMissing, match="0, 2"):
        await place.desk.end(succeeded(lease))
    assert (await place.job(job_id, 0)).state is State.RUNNING
    await upload(place, lease, 0, 2)
    assert await place.desk.end(succeeded(lease)) is Closing.DONE


async def test_k3_an_end_whose_answer_was_lost_is_answered_again_and_charges_once(place: Place) -> None:
    job_id = await place.submit()
    [lease] = await claim(place)
    await upload(place, lease, 0)
    assert [await place.desk.end(succeeded(lease)) for _ in range(3)] == [Closing.DONE] * 3
    assert len(place.files()) == 1
    assert (await place.job(job_id, 0)).state is State.SUCCEEDED
    assert await place.charged() == 1


async def test_two_ends_at_once_are_one_end(place: Place) -> None:
    await place.submit()
    [lease] = await claim(place)
    await upload(place, lease, 0)
    ends = await asyncio.gather(*(place.desk.end(succeeded(lease)) for _ in range(4)))
    assert ends == [Closing.DONE] * 4
    assert len(place.files()) == 1
    assert await place.charged() == 1


async def test_a_failed_attempt_is_uncharged_and_its_files_go(place: Place) -> None:
    job_id = await place.submit(count=2)
    [lease] = await claim(place)
    await upload(place, lease, 0)
    assert await place.desk.end(failed(lease)) is Closing.DONE
    job = await place.job(job_id, 0)
    assert (job.state, str(job.fault)) == (State.FAILED, "not finite")
    assert place.files() == []
    assert await place.charged() == 0
    assert await place.audited()


async def test_a_failure_told_after_success_changes_nothing(place: Place) -> None:
    job_id = await place.submit()
    [lease] = await claim(place)
    await upload(place, lease, 0)
    await place.desk.end(succeeded(lease))
    assert await place.desk.end(failed(lease)) is Closing.STALE
    assert (await place.job(job_id, 0)).state is State.SUCCEEDED
    assert len(place.files()) == 1


async def test_a_stale_token_is_refused_and_its_files_are_removed(place: Place) -> None:
    job_id = await place.submit()
    [old] = await claim(place, "w1")
    await upload(place, old, 0)
    advance(place, 31.0)
    [new] = await claim(place, "w2")
    assert await place.desk.end(succeeded(old)) is Closing.STALE
    assert place.files() == []
    with pytest.raises(TokenGone):
        await upload(place, old, 0)
    await upload(place, new, 0)
    assert await place.desk.end(succeeded(new)) is Closing.DONE
    assert (await place.job(job_id, 0)).state is State.SUCCEEDED
    assert await place.charged() == 1


async def test_a_beat_extends_the_lease_and_tells_what_is_gone(place: Place) -> None:
    job_id = await place.submit()
    [lease] = await claim(place)
    for step in range(4):
        advance(place, 20.0)
        beats = Beats("w1", (Pulse(lease.token, step, 8, 1.0), Pulse("nothing", 0, 0)))
        assert (await place.desk.beat(beats)).gone == ("nothing",)
    progress = place.desk.board.get(job_id)
    assert progress is not None
    assert (progress.step, progress.steps, progress.left) == (3, 8, 1.0)
    assert (await place.job(job_id, 0)).step == 3


async def test_a_cancel_ends_an_open_poll_at_once_and_takes_the_files_along(place: Place) -> None:
    job_id = await place.submit()
    [lease] = await claim(place)
    await upload(place, lease, 0)
    poll = asyncio.ensure_future(place.desk.claim(Claim(HELLO, 0, 20.0, (lease.token,))))
    await asyncio.sleep(0)
    await place.store.cancel(TENANT, job_id)
    news = await asyncio.wait_for(poll, 2.0)
    assert news.cancelled == (lease.token,)
    assert place.files() == []
    with pytest.raises(TokenGone):
        await place.desk.input(lease.token, "0" * 64)


async def test_inputs_are_given_out_to_their_own_job_only(place: Place) -> None:
    mine, foreign = raster("mine"), raster("foreign")
    await place.submit(inputs=(mine,))
    [lease] = await claim(place)
    await place.submit(inputs=(foreign,))
    assert await place.desk.input(lease.token, mine.digest()) == mine.pack()
    with pytest.raises(BadMessage):
        await place.desk.input(lease.token, foreign.digest())
    with pytest.raises(TokenGone):
        await place.desk.input("0" * 32, mine.digest())


async def test_a_mask_is_given_out_with_its_job_and_is_no_picture(place: Place) -> None:
    mask = Raster(SIZE, 1, bytes(SIZE.area))
    await place.blobs.write(input_key(TENANT, mask.digest()), mask.pack())
    brief = Brief("qwen-image-edit-plus", "p", None, (), 1, SIZE, seed=7, mask=Mask(mask.digest()))
    await place.store.submit(TENANT, Draft(id="masked", api="test", brief=brief))
    [lease] = await claim(place)
    assert lease.brief == brief
    assert await place.desk.input(lease.token, mask.digest()) == mask.pack()
    with pytest.raises(BadMessage):
        await place.desk.image(lease.token, 0, mask.pack())


async def test_a_picture_that_was_not_ordered_is_refused(place: Place) -> None:
    await place.submit()
    [lease] = await claim(place)
    for index, packed in (
        (1, raster("x").pack()),
        (-1, raster("x").pack()),
        (0, raster("x", Size(9, 6)).pack()),
        (0, b"DQR1 and nothing"),
    ):
        with pytest.raises(BadMessage):
            await place.desk.image(lease.token, index, packed)
    assert place.files() == []


async def test_a_picture_sent_twice_is_kept_once(place: Place) -> None:
    await place.submit()
    [lease] = await claim(place)
    await upload(place, lease, 0, 0, 0)
    assert len(place.files()) == 1
    assert await place.desk.end(succeeded(lease)) is Closing.DONE


async def test_a_lease_whose_answer_was_lost_is_back_in_the_queue_with_the_next_poll(place: Place) -> None:
    job_id = await place.submit()
    [lost] = await claim(place)
    [lease] = await claim(place, holding=())
    assert lease.job_id == job_id
    assert lease.token != lost.token
    assert lease.attempt == 1


async def test_a_crash_gives_everything_back_at_once_and_counts(place: Place) -> None:
    first, second = await place.submit(), await place.submit()
    leases = await claim(place, room=2)
    await upload(place, leases[0], 0)
    assert await place.desk.bury("w1", crashed=True) == 2
    assert place.files() == []
    assert place.desk.vital("w1") is None
    [again] = await claim(place, "w2")
    assert (again.job_id, again.attempt) == (first, 2)
    assert (await place.job(second, 0)).state is State.QUEUED


async def test_after_a_crash_of_several_each_is_tried_alone_until_they_have_ended(place: Place) -> None:
    jobs = [await place.submit() for _ in range(3)]
    assert len(await claim(place, room=4)) == 3
    await place.desk.bury("w1", crashed=True)
    for job_id in jobs:
        [lease] = await claim(place, "w2", room=4)
        assert lease.job_id == job_id
        assert await claim(place, "w2", room=3, holding=(lease.token,)) == []
        await upload(place, lease, 0)
        await place.desk.end(succeeded(lease))
    await place.submit()
    await place.submit()
    assert len(await claim(place, "w2", room=4)) == 2


async def test_a_crash_after_the_end_takes_nothing_back(place: Place) -> None:
    job_id = await place.submit()
    [lease] = await claim(place)
    await upload(place, lease, 0)
    await asyncio.gather(place.desk.end(succeeded(lease)), place.desk.bury("w1", crashed=True))
    assert (await place.job(job_id, 0)).state is State.SUCCEEDED
    assert len(place.files()) == 1
    assert await place.audited()


async def test_a_worker_that_hangs_up_while_it_polls_is_given_no_job(place: Place) -> None:
    poll = asyncio.ensure_future(place.desk.claim(Claim(HELLO, 1, 20.0)))
    await asyncio.sleep(0.01)
    poll.cancel()
    await asyncio.gather(poll, return_exceptions=True)
    await place.submit()
    assert [lease.attempt for lease in await claim(place, "w2")] == [1]


async def test_a_worker_buried_while_it_polls_is_given_no_job(place: Place) -> None:
    poll = asyncio.ensure_future(place.desk.claim(Claim(HELLO, 1, 20.0)))
    await asyncio.sleep(0.01)
    await place.desk.bury("w1", crashed=True)
    await place.submit()
    assert (await asyncio.wait_for(poll, 5.0)).leases == ()
    assert [lease.attempt for lease in await claim(place, "w2")] == [1]


async def test_room_that_comes_back_ends_a_poll_without_room(place: Place) -> None:
    await place.submit()
    [lease] = await claim(place)
    await upload(place, lease, 0)
    poll = asyncio.ensure_future(place.desk.claim(Claim(HELLO, 0, 20.0, (lease.token,))))
    await asyncio.sleep(0.01)
    await place.desk.end(succeeded(lease))
    assert (await asyncio.wait_for(poll, 2.0)).leases == ()
    late = Claim(HELLO, 0, 20.0, (lease.token,))  # sent before the worker heard of its end
    assert (await asyncio.wait_for(place.desk.claim(late), 2.0)).leases == ()


async def test_after_a_restart_of_the_server_a_repeated_end_is_still_known(
    place: Place, tmp_path: Path
) -> None:
    await place.submit()
    [lease] = await claim(place)
    await upload(place, lease, 0)
    await place.desk.end(succeeded(lease))
    place.desk.__init__(place.store, place.blobs, finish=lambda r, b, n: b"", clock=place.clock)  # type: ignore[misc]
    assert await place.desk.end(succeeded(lease)) is Closing.DONE
    assert len(place.files()) == 1


async def test_after_a_restart_of_the_server_pictures_come_again(place: Place) -> None:
    await place.submit()
    [lease] = await claim(place)
    await upload(place, lease, 0)
    place.desk.__init__(place.store, place.blobs, finish=lambda r, b, n: b"", clock=place.clock)  # type: ignore[misc]
    with pytest.raises(ImagesMissing):
        await place.desk.end(succeeded(lease))
    await upload(place, lease, 0)
    assert await place.desk.end(succeeded(lease)) is Closing.DONE


async def test_k5_a_full_disk_is_told_and_the_upload_may_be_repeated(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.submit()
    [lease] = await claim(place)

    async def full(key: str, data: bytes) -> None:
        raise Unavailable

    with monkeypatch.context() as patched:
        patched.setattr(place.blobs, "write", full)
        with pytest.raises(Unavailable):
            await upload(place, lease, 0)
    await upload(place, lease, 0)
    assert await place.desk.end(succeeded(lease)) is Closing.DONE


async def test_files_of_a_success_whose_answer_is_unknown_are_left_alone(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await place.submit()
    [lease] = await claim(place)
    await upload(place, lease, 0)
    succeed = place.store.succeed

    async def committed_but_unheard(token: str, images: list[Image], *more: object) -> Closing:
        await succeed(token, images)
        raise Fault("the answer was lost")

    with monkeypatch.context() as patched:
        patched.setattr(place.store, "succeed", committed_but_unheard)
        with pytest.raises(Fault):
            await place.desk.end(succeeded(lease))
    await place.desk.bury("w1", crashed=True)
    job = await place.job(job_id, 0)
    assert job.state is State.SUCCEEDED
    assert await place.blobs.read(job.images[0].key) is not None


async def test_the_vital_signs_tell_silence_standstill_and_the_longest_unit(place: Place) -> None:
    assert place.desk.vital("w1") is None
    await place.submit(cost=30.0)
    [lease] = await claim(place)
    advance(place, 7.0)
    vital = place.desk.vital("w1")
    assert vital is not None
    assert (vital.silent, vital.stuck, vital.holding, vital.unit) == (7.0, 7.0, 1, 30.0)
    await place.desk.beat(Beats("w1", (Pulse(lease.token, 2, 10, 16.0),)))
    advance(place, 3.0)
    await place.desk.beat(Beats("w1", (Pulse(lease.token, 2, 10, 16.0),)))
    vital = place.desk.vital("w1")
    assert vital is not None
    assert (vital.silent, vital.stuck, vital.unit) == (0.0, 3.0, 2.0)
    await place.desk.end(End(lease.token, Outcome.RELEASED))
    advance(place, 3.0)
    vital = place.desk.vital("w1")
    assert vital is not None
    assert (vital.stuck, vital.holding) == (0.0, 0)


async def test_k11_of_a_cancel_and_an_end_exactly_one_wins(place: Place) -> None:
    for turn in range(30):
        job_id = await place.submit()
        [lease] = await claim(place)
        await upload(place, lease, 0)
        closing, job = await asyncio.gather(
            *(
                (place.desk.end(succeeded(lease)), place.store.cancel(TENANT, job_id))[
                    :: 1 if turn % 2 else -1
                ]
            )
        )
        if not turn % 2:
            closing, job = job, closing
        state = (await place.job(job_id, 0)).state
        assert state is (State.SUCCEEDED if closing is Closing.DONE else State.CANCELLED)
        assert job is not None
        assert job.state is state
    assert len(place.files()) == await place.charged()
    assert await place.audited()


async def test_a_picture_that_arrives_as_its_job_is_cancelled_is_removed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await place.submit()
    [lease] = await claim(place)
    write = place.blobs.write

    async def overtaken(key: str, data: bytes) -> None:
        await write(key, data)
        await place.store.cancel(TENANT, job_id)
        await place.desk.beat(Beats("w1", (Pulse(lease.token, 1, 8),)))

    monkeypatch.setattr(place.blobs, "write", overtaken)
    with pytest.raises(TokenGone):
        await upload(place, lease, 0)
    assert place.files() == []


async def test_leases_that_come_as_the_worker_hangs_up_go_back_to_the_queue(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.submit()
    news = place.store.news

    async def late(worker: str, *, room: int, seconds: float) -> News:
        try:
            await asyncio.sleep(60.0)
        except asyncio.CancelledError:
            return await news(worker, room=room, seconds=0.0)
        raise AssertionError

    with monkeypatch.context() as patched:
        patched.setattr(place.store, "news", late)
        poll = asyncio.ensure_future(place.desk.claim(Claim(HELLO, 1, 20.0)))
        await asyncio.sleep(0.01)
        poll.cancel()
        await asyncio.gather(poll, return_exceptions=True)
        await asyncio.sleep(0.1)
    assert [lease.attempt for lease in await claim(place, "w2")] == [1]


async def test_a_worker_that_stopped_beating_is_not_given_its_lapsed_job_back(place: Place) -> None:
    job_id = await place.submit()
    [lease] = await claim(place)
    poll = asyncio.ensure_future(place.desk.claim(Claim(HELLO, 1, 20.0, (lease.token,))))
    await asyncio.sleep(0.01)
    advance(place, 13.0)
    await asyncio.sleep(1.3)  # a slice of the poll, after which its room is looked at again
    advance(place, 18.0)
    await asyncio.sleep(1.3)
    [again] = await claim(place, "w2")
    assert (again.job_id, again.attempt) == (job_id, 2)
    assert (await asyncio.wait_for(poll, 2.0)).cancelled == (lease.token,)


PANELS = (Panel("Once.", "a fox"), Panel("Then.", "a hen"))


async def test_a_later_attempt_is_bound_to_the_script_of_the_first(place: Place) -> None:
    await place.submit(count=3)
    [lease] = await claim(place)
    assert await place.desk.script(Script(lease.token, PANELS)) == Script(lease.token, PANELS)
    await place.desk.bury("w1", crashed=True)
    [again] = await claim(place, "w2")
    assert await place.desk.script(Script(again.token, PANELS[:1])) == Script(again.token, PANELS)
    with pytest.raises(TokenGone):
        await place.desk.script(Script(lease.token, PANELS))


async def test_a_script_of_more_pictures_than_ordered_is_no_message(place: Place) -> None:
    await place.submit(count=1)
    [lease] = await claim(place)
    with pytest.raises(BadMessage, match="2 pictures for an order of 1"):
        await place.desk.script(Script(lease.token, PANELS))


async def lapse(place: Place, lease: Lease) -> None:
    advance(place, 31.0)
    assert await claim(place, "w2")
    assert (await place.desk.beat(Beats("w1", (Pulse(lease.token, 0, 0),)))).gone == (lease.token,)


async def crash(place: Place, _: Lease) -> None:
    await place.desk.bury("w1", crashed=True)


async def give_back(place: Place, lease: Lease) -> None:
    await place.desk.end(End(lease.token, Outcome.RELEASED))


async def fail(place: Place, lease: Lease) -> None:
    await place.desk.end(failed(lease))


@pytest.mark.parametrize("lose", [lapse, crash, give_back])
async def test_a_picture_that_a_stream_has_shown_outlives_a_lost_attempt(place: Place, lose: Any) -> None:
    job_id = await place.submit(count=2)
    with place.desk.board.follow(job_id) as tale:
        [lease] = await claim(place)
        await place.desk.script(Script(lease.token, PANELS))
        await upload(place, lease, 0)
        shown = tale.pictures[0]
        await upload(place, lease, 0)
        await lose(place, lease)
        assert await place.store.leased(lease.token) is None
        assert await place.blobs.has(shown.key)


async def test_and_not_an_attempt_that_failed(place: Place) -> None:
    job_id = await place.submit(count=2)
    with place.desk.board.follow(job_id):
        [lease] = await claim(place)
        await upload(place, lease, 0)
        await fail(place, lease)
    assert place.files() == []


# -- previews


def shown(index: int = 0) -> Shown:
    return Shown.of(index, 1, 4, b"\xff\xd8\xff\xe0\xff\xd9")


async def test_a_worker_learns_who_is_watched_with_the_lease_and_with_every_beat(place: Place) -> None:
    watched, other = await place.submit(), await place.submit()
    with place.desk.board.watch(watched) as tale:
        first, second = await claim(place, room=2)
        assert {lease.job_id: lease.watched for lease in (first, second)} == {watched: True, other: False}
        pulses = tuple(Pulse(lease.token, 1, 4, None, shown()) for lease in (first, second))
        answer = await place.desk.beat(Beats("w1", pulses))
        assert answer == Gone((), (first.token,))
        assert tale.glimpses == {0: shown()}
    assert (await place.desk.beat(Beats("w1", pulses))) == Gone()


async def test_a_preview_of_a_picture_that_was_not_ordered_is_refused(place: Place) -> None:
    job = await place.submit(count=2)
    (lease,) = await claim(place)
    with place.desk.board.watch(job) as tale:
        with pytest.raises(BadMessage):
            await place.desk.beat(Beats("w1", (Pulse(lease.token, 1, 4, None, shown(2)),)))
        assert tale.glimpses == {}
        await place.desk.beat(Beats("w1", (Pulse(lease.token, 1, 4, None, shown(1)),)))
        assert set(tale.glimpses) == {1}


async def test_a_token_that_holds_nothing_shows_nothing(place: Place) -> None:
    job = await place.submit()
    (lease,) = await claim(place)
    with place.desk.board.watch(job) as tale:
        await place.store.cancel(TENANT, job)
        await place.desk.beat(Beats("w1", (Pulse(lease.token, 1, 4),)))
        assert (await place.desk.beat(Beats("w1", (Pulse(lease.token, 1, 4, None, shown()),)))).watched == ()
        assert tale.glimpses == {}


async def test_what_workers_could_ever_make_is_told_while_they_are_there(place: Place) -> None:
    assert list(place.desk.reaches()) == []
    one = replace(hello("one"), reach={"*": ((10, 20),)})
    for who in (one, hello("other")):
        await place.desk.claim(Claim(who, 0, 0.0))
    assert list(place.desk.reaches()) == [{"*": ((10, 20),)}, {}]
    await place.desk.bury("other", crashed=False)
    assert list(place.desk.reaches()) == [{"*": ((10, 20),)}]
