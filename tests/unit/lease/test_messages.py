from __future__ import annotations

import base64
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from danqing.core.errors import EngineFailed, Internal
from danqing.core.job import Closing, Contract, Lease, News, Quality
from danqing.core.order import Brief
from danqing.core.raster import Size
from danqing.lease.messages import (
    MOST_PREVIEW,
    BadMessage,
    Beats,
    Claim,
    End,
    Ended,
    Gone,
    Hello,
    Outcome,
    Pulse,
    Shown,
    Wrong,
    decode,
    encode,
)

KNOBS = MappingProxyType({"fast": True, "steps": 8, "scale": 4.0, "style": "ink"})
BRIEF = Brief(
    "m", "画一只猫", "noise", ("a" * 64,), 2, Size(512, 768), 2**31 - 1, watermark=True, knobs=KNOBS
)
LEASE = Lease("t" * 32, "job-1", "tenant", BRIEF, attempt=1, cost=1.5, run_seconds=600.0)
JPEG = b"\xff\xd8\xff" + bytes(range(256)) + b"\xff\xd9"
HELLO = Hello("w", "miniature", ("m",), "cpu", {"m": ((1, 2), (0, 1))})
MESSAGES = [
    Claim(HELLO, 4, 20.0, ("t1",)),
    News((LEASE,), ("t2",)),
    News((replace(LEASE, priority=-3),)),
    Beats("w", (Pulse("t", 3, 8, 0.5), Pulse("u", 0, 0))),
    Beats("w", (), {"units_step": 12.0}),
    Gone(("t",), ("u",)),
    Beats("w", (Pulse("t", 3, 8, 0.5, Shown.of(1, 3, 4, JPEG)),)),
    End("t", Outcome.SUCCEEDED, seconds=1.0, wall=2.0),
    End("t", Outcome.SUCCEEDED, quality=Quality(Contract.EXACT, "miniature", "quality", 40)),
    End("t", Outcome.FAILED, Wrong.of(EngineFailed("not finite"))),
    Ended(Closing.STALE),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_every_message_survives_the_way(message: Any) -> None:
    assert decode(type(message), encode(message)) == message


def test_a_lease_without_a_priority_has_none_and_one_that_is_no_number_is_refused() -> None:
    lease = orjson.loads(encode(LEASE))
    del lease["priority"]
    assert decode(Lease, orjson.dumps(lease)) == LEASE
    with pytest.raises(BadMessage, match=r"Lease\.priority: expected int, got str"):
        decode(Lease, orjson.dumps({**lease, "priority": "3"}))


def test_knobs_keep_their_types_on_the_way() -> None:
    knobs = decode(News, encode(News((LEASE,)))).leases[0].brief.knobs
    assert {name: type(value) for name, value in knobs.items()} == {
        "fast": bool,
        "steps": int,
        "scale": float,
        "style": str,
    }


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"room": "4"}, "Claim.room: expected int, got str"),
        ({"room": True}, "Claim.room: expected int, got bool"),
        ({"room": 17}, "room is between 0 and 16"),
        ({"room": -1}, "room is between 0 and 16"),
        ({"seconds": 21}, "seconds is between 0 and 20"),
        ({"holding": ["t", 1]}, "Claim.holding[1]: expected str, got int"),
        ({"hello": {"worker": "w"}}, "Claim.hello: 'profile' is missing"),
        ({"surprise": 1}, "Claim: unknown member 'surprise'"),
        ({"hello": None}, "Claim.hello: expected dict, got NoneType"),
    ],
)
def test_what_is_not_a_claim_is_refused_and_the_place_is_named(change: dict[str, Any], where: str) -> None:
    body = {**orjson.loads(encode(Claim(HELLO, 4, 20.0))), **change}
    with pytest.raises(BadMessage) as refused:
        decode(Claim, orjson.dumps(body))
    assert where in str(refused.value)


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b'{"token": NaN}', b"\xff"])
def test_what_is_not_a_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(BadMessage):
        decode(End, body)


def test_a_fault_goes_with_failure_and_only_with_that() -> None:
    with pytest.raises(ValueError, match="only with that"):
        End("t", Outcome.FAILED)
    with pytest.raises(ValueError, match="only with that"):
        End("t", Outcome.RELEASED, Wrong("Internal", ""))


def test_a_step_beyond_the_last_is_refused() -> None:
    with pytest.raises(BadMessage, match="step 9 of 8"):
        decode(Beats, b'{"worker": "w", "beats": [{"token": "t", "step": 9, "steps": 8}]}')


def test_a_fault_of_a_newer_worker_reads_as_internal() -> None:
    assert type(Wrong("Novelty", "what").fault()) is Internal


def test_half_a_surrogate_pair_becomes_a_replacement_character() -> None:
    news = News(
        (
            Lease(
                "t", "j", "x", Brief("m", "cat \ud83d", None, (), 1, Size(8, 8), 1, knobs=KNOBS), 1, 0.0, 1.0
            ),
        )
    )
    lease = decode(News, encode(news)).leases[0]
    assert lease.brief.prompt == "cat \ufffd"
    assert lease.brief.knobs == KNOBS


@given(st.text(), st.text(), st.integers(0, 2**53), st.floats(0, 1e9))
def test_any_text_and_number_survives(prompt: str, tenant: str, seed: int, cost: float) -> None:
    brief = Brief("m", prompt, None, (), 1, Size(8, 8), seed)
    lease = Lease("t", "j", tenant, brief, 1, cost, 1.0)
    assert decode(News, encode(News((lease,)))) == News((lease,))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
        lambda s: st.lists(s) | st.dictionaries(st.sampled_from(["token", "outcome", "fault", "seconds"]), s),
    )
)
def test_any_other_json_is_a_bad_message_and_nothing_worse(value: Any) -> None:
    try:
        end = decode(End, orjson.dumps(value))
    except BadMessage:
        return
    assert isinstance(end, End)


def text(file: bytes) -> str:
    return base64.b64encode(file).decode()


@pytest.mark.parametrize(
    "change",
    [
        {"jpeg": text(JPEG[:-2] + bytes(MOST_PREVIEW) + JPEG[-2:])},
        {"jpeg": "A" * 5_000_000},
        {"jpeg": text(b"<script>alert(1)</script>")},
        {"jpeg": text(JPEG[:-1])},
        {"jpeg": text(JPEG) + "\n"},
        {"jpeg": text(JPEG).replace("/", "_", 1)},
        {"jpeg": "not base64"},
        {"jpeg": ""},
        {"jpeg": 7},
        {"index": -1},
        {"index": 64},
        {"index": 1.0},
        {"step": 0},
        {"step": 5},
        {"more": 1},
    ],
    ids=str,
)
def test_what_is_no_preview_is_refused(change: dict[str, Any]) -> None:
    sent = {"index": 0, "step": 1, "steps": 4, "jpeg": text(JPEG)}
    pulse = {"token": "t", "step": 3, "steps": 8}
    assert decode(Beats, orjson.dumps({"worker": "w", "beats": [{**pulse, "preview": sent}]}))
    with pytest.raises(BadMessage):
        decode(Beats, orjson.dumps({"worker": "w", "beats": [{**pulse, "preview": {**sent, **change}}]}))


def test_the_largest_preview_passes() -> None:
    file = JPEG[:3] + bytes(MOST_PREVIEW - 5) + JPEG[-2:]
    assert decode(Shown, encode(Shown.of(0, 1, 1, file))).jpeg == text(file)
