"""Keys: their shape, their check, their end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from danqing.core.errors import BadKey, NoKey
from danqing.intake.keys import ALPHABET, CACHE_SECONDS, Keys, key_id, new_secret
from danqing.store.sqlite import SqliteStore
from tests.support.clock import VirtualClock

PEPPER = bytes(range(32))


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def store(tmp_path: Path, clock: VirtualClock) -> AsyncIterator[SqliteStore]:
    async with SqliteStore(tmp_path / "danqing.sqlite3", clock=clock) as opened:
        yield opened


@pytest.fixture
def keys(store: SqliteStore, clock: VirtualClock) -> Keys:
    return Keys(store, pepper=PEPPER, clock=clock)


def test_a_key_is_sk_then_8_then_32_then_6_characters_of_base62() -> None:
    secret = new_secret()
    assert secret.startswith("sk-")
    assert len(secret) == 3 + 8 + 32 + 6
    assert set(secret[3:]) <= set(ALPHABET)
    assert key_id(secret) == secret[3:11]


def test_keys_do_not_repeat() -> None:
    assert len({new_secret() for _ in range(1000)}) == 1000


@pytest.mark.parametrize("place", [3, 11, 42, 43, 48])
def test_one_wrong_character_fails_the_checksum(place: int) -> None:
    secret = new_secret()
    other = "a" if secret[place] != "a" else "b"
    assert key_id(secret[:place] + other + secret[place + 1 :]) is None


@pytest.mark.parametrize("text", ["", "sk-", "sk-abc", "x" * 49, "sk-" + "ä" * 46, "sk-" + "0" * 46 + "\n"])
def test_other_strings_are_no_keys(text: str) -> None:
    assert key_id(text) is None


async def test_a_created_key_is_recognised(keys: Keys) -> None:
    made = await keys.create("laptop", tenant="acme")
    caller = await keys.check(made.secret)
    assert (caller.tenant, caller.key_id) == ("acme", made.record.key_id)


async def test_the_store_never_sees_the_secret(keys: Keys, store: SqliteStore) -> None:
    made = await keys.create("laptop", tenant="acme")
    record = await store.key(made.record.key_id)
    assert record is not None
    assert made.secret[11:].encode() not in record.mac
    assert made.secret not in repr(record)


async def test_no_key_and_a_wrong_key_are_told_apart(keys: Keys) -> None:
    with pytest.raises(NoKey):
        await keys.check(None)
    with pytest.raises(NoKey):
        await keys.check("")
    with pytest.raises(BadKey):
        await keys.check(new_secret())
    with pytest.raises(BadKey):
        await keys.check("nonsense")


async def test_the_same_id_with_another_secret_is_refused(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await keys.create("laptop", tenant="acme")
    other = Keys(keys._store, pepper=bytes(32), clock=keys._clock)
    with pytest.raises(BadKey):
        await other.check(made.secret)


async def test_an_expired_key_is_refused(keys: Keys, clock: VirtualClock) -> None:
    made = await keys.create("laptop", tenant="acme", expires=clock.wall() + 60)
    await keys.check(made.secret)
    clock.advance(60)
    with pytest.raises(BadKey):
        await keys.check(made.secret)


async def test_a_revoked_key_is_refused_at_once_here(keys: Keys) -> None:
    made = await keys.create("laptop", tenant="acme")
    await keys.check(made.secret)
    assert await keys.revoke(made.record.key_id)
    with pytest.raises(BadKey):
        await keys.check(made.secret)


async def test_a_key_revoked_elsewhere_is_refused_within_five_seconds(
    keys: Keys, store: SqliteStore, clock: VirtualClock
) -> None:
    made = await keys.create("laptop", tenant="acme")
    await keys.check(made.secret)
    await store.revoke_key(made.record.key_id)
    clock.advance(CACHE_SECONDS)
    assert CACHE_SECONDS < 5
    with pytest.raises(BadKey):
        await keys.check(made.secret)


async def test_revoking_nothing_says_so(keys: Keys) -> None:
    assert not await keys.revoke("00000000")


async def test_keys_are_listed_oldest_first(keys: Keys, clock: VirtualClock) -> None:
    first = await keys.create("a", tenant="t")
    clock.advance(1)
    second = await keys.create("b", tenant="t")
    assert [key.key_id for key in await keys.list()] == [first.record.key_id, second.record.key_id]


def test_a_short_pepper_is_refused(store: SqliteStore, clock: VirtualClock) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Keys(store, pepper=b"short", clock=clock)
