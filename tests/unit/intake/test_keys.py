"""Keys: their shape, their check, their end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from danqing.core.errors import BadKey, NoKey, NotPermitted, WorkspaceUnknown
from danqing.core.keys import Place
from danqing.intake.keys import ALPHABET, CACHE_SECONDS, REGION, Keys, key_id, new_secret
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


# regions and workspaces


async def test_a_key_of_another_region_is_refused_and_good_under_its_own(keys: Keys) -> None:
    made = await keys.create("abroad", tenant="acme", region="ap-southeast-1")
    with pytest.raises(BadKey):
        await keys.check(made.secret)
    with pytest.raises(BadKey):
        await keys.check(made.secret, Place("cn-beijing"))
    assert (await keys.check(made.secret, Place("ap-southeast-1"))).tenant == "acme"


async def test_a_key_of_this_region_is_refused_under_another(keys: Keys) -> None:
    made = await keys.create("laptop", tenant="acme")
    assert made.record.region == REGION
    assert (await keys.check(made.secret, Place(REGION))).tenant == "acme"
    with pytest.raises(BadKey):
        await keys.check(made.secret, Place("us-east-1"))


async def test_a_key_from_before_regions_belongs_to_whatever_region_this_is(
    store: SqliteStore, clock: VirtualClock, keys: Keys
) -> None:
    made = await keys.create("old", tenant="acme")
    await store.add_key(replace(made.record, key_id="00000000", region=""))
    moved = Keys(store, pepper=PEPPER, clock=clock, region="eu-central-1")
    with pytest.raises(BadKey):
        await moved.check(made.secret)
    assert (await store.key("00000000")).region == ""  # type: ignore[union-attr]


async def test_a_key_of_the_account_names_any_of_its_workspaces(keys: Keys) -> None:
    main = await keys.create("main", tenant="acme")
    one = await keys.create("one", tenant="acme", workspace="ws-1")
    await keys.create("two", tenant="acme", workspace="ws-2")
    await keys.create("theirs", tenant="other", workspace="ws-3")
    assert (await keys.check(main.secret)).workspace == ""
    assert (await keys.check(one.secret)).workspace == "ws-1"
    assert (await keys.check(main.secret, Place(workspace="ws-2"))).workspace == "ws-2"
    assert (await keys.check(one.secret, Place(workspace="ws-1"))).workspace == "ws-1"
    for secret, workspace in (
        *((main.secret, wrong) for wrong in ("ws-3", "ws-4", "ws 1", "'; --", "ws-1\n", "x" * 99)),
        (one.secret, "ws-2"),
    ):
        with pytest.raises(WorkspaceUnknown):
            await keys.check(secret, Place(workspace=workspace))


async def test_a_workspace_goes_with_its_last_key(keys: Keys) -> None:
    main = await keys.create("main", tenant="acme")
    one = await keys.create("one", tenant="acme", workspace="ws-1")
    await keys.revoke(one.record.key_id)
    with pytest.raises(WorkspaceUnknown):
        await keys.check(main.secret, Place(workspace="ws-1"))


async def test_a_key_that_no_request_could_use_is_not_made(keys: Keys) -> None:
    with pytest.raises(ValueError, match=r"no request can name the region 'mars'; there are: .*cn-beijing"):
        await keys.create("far away", tenant="acme", region="mars")
    with pytest.raises(ValueError, match="needs a name"):
        await keys.create(" ", tenant="acme")


async def test_a_region_of_one_s_own_name_is_one(store: SqliteStore, clock: VirtualClock) -> None:
    mine = Keys(store, pepper=PEPPER, clock=clock, region="cellar")
    assert (await mine.create("here", tenant="acme", region="cellar")).record.region == "cellar"


@pytest.mark.parametrize("name", ["", " ", "a/b", "ä", "x" * 65, "-a", "a\n"])
async def test_a_region_or_workspace_that_is_no_name_makes_no_key(name: str, keys: Keys) -> None:
    with pytest.raises(ValueError, match="not a name"):
        await keys.create("bad", tenant="acme", region=name)
    if name:
        with pytest.raises(ValueError, match="not a name"):
            await keys.create("bad", tenant="acme", workspace=name)
    assert list(await keys.list()) == []


async def test_a_key_gives_its_priority_to_its_callers_and_to_temporary_ones(keys: Keys) -> None:
    caller = await keys.check((await keys.create("fast", tenant="acme", priority=10)).secret)
    assert caller.priority == 10
    assert (await keys.check(keys.lend(caller, 60).secret)).priority == 10
    assert (await keys.check((await keys.create("plain", tenant="acme")).secret)).priority == 0
    assert {key.name: key.priority for key in await keys.list()} == {"fast": 10, "plain": 0}


@pytest.mark.parametrize("priority", [11, -11, "3", 2.0, True, None])
async def test_a_priority_beyond_the_bounds_makes_no_key(priority: Any, keys: Keys) -> None:
    with pytest.raises(ValueError, match="priority is a whole number from -10 to 10, not"):
        await keys.create("bad", tenant="acme", priority=priority)
    assert list(await keys.list()) == []


# temporary keys


async def test_a_temporary_key_has_its_parents_rights_until_its_time(keys: Keys, clock: VirtualClock) -> None:
    made = await keys.create("laptop", tenant="acme", region="us-east-1", workspace="ws-1")
    parent = await keys.check(made.secret, Place("us-east-1"))
    token = keys.lend(parent, 60)
    assert token.secret.startswith("st-")
    assert token.expires == int(clock.wall()) + 60
    caller = await keys.check(token.secret, Place("us-east-1"))
    assert caller == replace(parent, temporary=True)
    with pytest.raises(BadKey):
        await keys.check(token.secret)
    clock.advance(60.0)
    with pytest.raises(BadKey):
        await keys.check(token.secret, Place("us-east-1"))


async def test_a_temporary_key_ends_with_its_parent_and_makes_no_other(keys: Keys) -> None:
    made = await keys.create("laptop", tenant="acme")
    token = keys.lend(await keys.check(made.secret), 1800)
    caller = await keys.check(token.secret)
    with pytest.raises(NotPermitted):
        keys.lend(caller, 1800)
    await keys.revoke(made.record.key_id)
    with pytest.raises(BadKey):
        await keys.check(token.secret)


async def test_a_temporary_key_that_was_changed_anywhere_is_refused(keys: Keys) -> None:
    made = await keys.create("laptop", tenant="acme")
    secret = keys.lend(await keys.check(made.secret), 60).secret
    for place in range(len(secret)):
        other = "1" if secret[place] != "1" else "2"
        with pytest.raises(BadKey):
            await keys.check(secret[:place] + other + secret[place + 1 :])
    for wrong in (secret + "0", secret[:-1], secret + "\n", secret.upper(), "st-", "st-" + "ä" * 98):
        with pytest.raises(BadKey):
            await keys.check(wrong)
