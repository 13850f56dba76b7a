"""Weights are pulled whole and as they are, or not at all: against a real server that speaks the hubs' API."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from danqing.engine.load import BadCheckpoint, Device, load_family
from danqing.engine.pull import PullFault, Share, alone, bring, copy_from, room_for, survey, whole
from danqing.outbound.hub import TRIES, Hubs, Places, safe
from danqing.profiles.loader import Profile, load_profile
from danqing.profiles.weights import NotPulled, Weights
from tests.support.hub import REVISION, FakeHub, running
from tests.support.served import danqing
from tests.support.tiny_1x import tiny_1x

CPU = Device("cpu", "cpu", 1 << 34, 1 << 34)
TOKEN = "hf_a-token-that-must-not-be-seen"
PROFILE = """
text = "two sources"
[checkpoints.edit]
source = "{prefix}Maker/Edit"
relation = "same"
licence = "Apache-2.0"
{pin}
[checkpoints.edit.adapters.four]
source = "{prefix}Other/Few-Steps"
file = "four.safetensors"
[models."*"]
checkpoint = "edit"
steps = 4
"""
LORA = bytes(range(256)) * 300


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    return tiny_1x(tmp_path_factory.mktemp("made"), "edit_plus")


@pytest.fixture
def repos(made: Path, tmp_path: Path) -> dict[str, Path]:
    edit, few = tmp_path / "repos" / "edit", tmp_path / "repos" / "few"
    for path in made.rglob("*"):
        if path.is_file():
            into = edit / path.relative_to(made)
            into.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, into)
    for name in ("README.md", "comfy.safetensors", "vae/old.bin", ".gitattributes"):
        (edit / name).write_bytes(b"not wanted")
    few.mkdir()
    (few / "four.safetensors").write_bytes(LORA)
    (few / "eight.safetensors").write_bytes(LORA)
    return {"Maker/Edit": edit, "Other/Few-Steps": few}


@pytest.fixture
def hub(repos: dict[str, Path]) -> Iterator[FakeHub]:
    with running(FakeHub(repos)) as hub:
        yield hub


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def make(prefix: str = "", pin: str = "") -> Path:
        (tmp_path / "p.toml").write_text(PROFILE.format(prefix=prefix, pin=pin))
        return tmp_path / "p.toml"

    return make


@pytest.fixture
def profile(write: Callable[..., Path]) -> Profile:
    return load_profile(write())


@pytest.fixture
def weights(tmp_path: Path) -> Weights:
    return Weights(tmp_path / "data" / "weights")


def places(hub: FakeHub) -> Places:
    return Places(hub.url, hub.url, TOKEN)


def pulled(
    profile: Profile, weights: Weights, hub: FakeHub, told: list[int] | None = None, **more: Any
) -> list[Share]:
    async def run() -> list[Share]:
        async with Hubs(places(hub), pause=0.01) as hubs:
            shares = await survey(profile, weights, hubs, **more)
            for share in shares:
                await bring(share, weights, hubs, (told if told is not None else []).append)
            return shares

    return asyncio.run(run())


def why(profile: Profile, weights: Weights, hub: FakeHub, **more: Any) -> str:
    with pytest.raises(PullFault) as caught:
        pulled(profile, weights, hub, **more)
    return str(caught.value)


def test_what_is_pulled_is_what_a_loader_reads_and_is_loaded_from_then_on(
    profile: Profile, weights: Weights, hub: FakeHub, repos: dict[str, Path]
) -> None:
    told: list[int] = []
    shares = pulled(profile, weights, hub, told)
    assert sum(told) == sum(share.size for share in shares)
    place = weights.place("Maker/Edit", REVISION)
    here = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
    assert here >= {"model_index.json", "transformer/config.json", "vae/diffusion_pytorch_model.safetensors"}
    assert not here & {"README.md", "comfy.safetensors", "vae/old.bin", ".gitattributes"}
    assert not [name for name in here if name.endswith(".part")]
    few = weights.place("Other/Few-Steps", REVISION)
    assert [path.name for path in few.iterdir()] == ["four.safetensors"]
    lock = weights.pulled("Maker/Edit")
    assert lock is not None
    assert lock.revision == REVISION
    for file in lock.files:
        data = (repos["Maker/Edit"] / file.path).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file.size, file.sha256)
        assert (place / file.path).read_bytes() == data
    bare = replace(profile.checkpoints["edit"], adapters={})
    assert load_family(bare, CPU, weights).most_inputs == 3


def test_what_was_pulled_stays_when_the_hub_moves_on_until_an_update(
    profile: Profile, weights: Weights, hub: FakeHub
) -> None:
    pulled(profile, weights, hub)
    assert whole(profile, weights)
    asked = sum(hub.asked.values())
    hub.revision = "f" * 40
    assert weights.find(profile.checkpoints["edit"]) == weights.place("Maker/Edit", REVISION)
    assert sum(hub.asked.values()) == asked
    pulled(profile, weights, hub, update=True)
    assert weights.find(profile.checkpoints["edit"]) == weights.place("Maker/Edit", "f" * 40)


def test_a_pinned_revision_is_the_one_that_is_pulled_and_the_only_one_that_is_loaded(
    write: Callable[..., Path], weights: Weights, hub: FakeHub
) -> None:
    pinned = load_profile(write(pin=f'revision = "{REVISION}"'))
    pulled(pinned, weights, hub)
    assert weights.missing(pinned) == []
    other = load_profile(write(pin='revision = "abc"'))
    assert "abc is wanted" in weights.missing(other)[0]
    assert "does not have it" in why(other, weights, hub)


@pytest.mark.parametrize("where", ["the hub", "a store"])
def test_a_line_that_breaks_goes_on_where_it_broke(
    where: str, profile: Profile, weights: Weights, hub: FakeHub, repos: dict[str, Path]
) -> None:
    if where == "a store":
        hub.elsewhere = hub.url.replace("127.0.0.1", "localhost")
    hub.cut = {"four.safetensors": (20_000, 2)}
    told: list[int] = []
    pulled(profile, weights, hub, told)
    assert hub.ranges == ["bytes=20000-", "bytes=40000-"]
    assert (weights.place("Other/Few-Steps", REVISION) / "four.safetensors").read_bytes() == LORA


def test_a_pull_that_gave_up_goes_on_in_the_next_run(
    profile: Profile, weights: Weights, hub: FakeHub
) -> None:
    hub.cut = {"four.safetensors": (30_000, 1)}
    part = weights.place("Other/Few-Steps", REVISION) / "four.safetensors.part"

    async def cut() -> None:
        async with Hubs(places(hub), pause=60) as hubs:
            shares = await survey(profile, weights, hubs)
            task = asyncio.create_task(bring(shares[1], weights, hubs, lambda _: None))
            while not part.exists() or part.stat().st_size < 30_000:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(cut())
    assert weights.pulled("Other/Few-Steps") is None
    with pytest.raises(NotPulled):
        weights.find(profile.checkpoints["edit"].adapters["four"])
    before = hub.asked.copy()
    shares = pulled(profile, weights, hub)
    assert shares[1].here == 30_000
    assert hub.ranges == ["bytes=30000-"]
    assert not part.exists()
    path = f"/Maker/Edit/resolve/{REVISION}/model_index.json"
    assert hub.asked[path] == before[path] + 1
    again = hub.asked[path]
    pulled(profile, weights, hub)
    assert hub.asked[path] == again


def test_a_hub_that_ignores_ranges_is_taken_from_the_beginning(
    profile: Profile, weights: Weights, hub: FakeHub
) -> None:
    hub.cut, hub.deaf = {"four.safetensors": (20_000, 1)}, {"four.safetensors"}
    told: list[int] = []
    shares = pulled(profile, weights, hub, told)
    assert min(told) == -20_000
    assert sum(told) == sum(share.size for share in shares)
    assert (weights.place("Other/Few-Steps", REVISION) / "four.safetensors").read_bytes() == LORA


@pytest.mark.parametrize("path", ["four.safetensors", "model_index.json"])
def test_a_file_with_another_hash_is_not_kept(
    path: str, profile: Profile, weights: Weights, hub: FakeHub
) -> None:
    hub.lies = {path}
    assert "hash is another" in why(profile, weights, hub)
    assert not list(weights.folder.rglob(f"{path}*"))
    assert weights.missing(profile)


def test_a_line_that_always_breaks_is_given_up(profile: Profile, weights: Weights, hub: FakeHub) -> None:
    hub.cut = {"four.safetensors": (0, 100)}
    assert f"broke {TRIES} times" in why(profile, weights, hub)
    assert hub.cut["four.safetensors"][1] == 100 - TRIES


def test_a_hub_that_brings_nothing_and_calls_it_all_is_given_up(
    profile: Profile, weights: Weights, hub: FakeHub
) -> None:
    hub.empty = {"four.safetensors"}
    assert "the answer was too short" in why(profile, weights, hub)
    assert hub.asked[f"/Other/Few-Steps/resolve/{REVISION}/four.safetensors"] == TRIES


def test_a_disk_that_is_too_small_is_seen_before_the_first_byte(
    profile: Profile, weights: Weights, hub: FakeHub
) -> None:
    async def run() -> list[Share]:
        async with Hubs(places(hub)) as hubs:
            return await survey(profile, weights, hubs)

    shares = asyncio.run(run())
    room_for(shares, weights)
    with pytest.raises(PullFault, match="still to come"):
        room_for(shares, weights, free=lambda _: 1 << 30)
    assert not weights.folder.exists()
    assert not [path for path in hub.asked if "resolve" in path]


def test_a_disk_that_fills_up_on_the_way_says_so_and_keeps_what_came(
    profile: Profile, weights: Weights, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from danqing.outbound import hub as module

    def full(growing: module.Growing, chunk: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module.Growing, "add", full)
        assert "the disk is full" in why(profile, weights, hub)
    pulled(profile, weights, hub)
    assert weights.missing(profile) == []


def test_what_the_hub_does_not_have_is_named(profile: Profile, weights: Weights, hub: FakeHub) -> None:
    few = hub.repos.pop("Other/Few-Steps")
    assert why(profile, weights, hub).startswith("Other/Few-Steps: the hub does not have it")
    hub.repos["Other/Few-Steps"] = few
    (few / "four.safetensors").unlink()
    assert why(profile, weights, hub) == "Other/Few-Steps has no four.safetensors"


def test_without_a_hub_a_pull_says_so(profile: Profile, weights: Weights) -> None:
    closed = FakeHub({}, url="http://127.0.0.1:9")
    assert "cannot be reached" in why(profile, weights, closed)


def test_weights_that_are_pickles_alone_are_refused(
    profile: Profile, weights: Weights, hub: FakeHub, repos: dict[str, Path]
) -> None:
    for path in list(repos["Maker/Edit"].rglob("*.safetensors")):
        path.rename(path.with_suffix(".bin"))
    assert "pickles" in why(profile, weights, hub)
    assert not [path for path in hub.asked if "resolve" in path]


def test_a_name_that_leads_out_of_the_folder_is_refused(
    profile: Profile, weights: Weights, hub: FakeHub
) -> None:
    hub.names = {"model_index.json": "../../out.json"}
    assert "outside its folder" in why(profile, weights, hub)
    assert [safe(name) for name in ("a/b", "../a", "/a", "a/../../b", "a\\b", "")] == [True, *[False] * 5]


def test_the_token_is_for_the_hub_alone_and_never_said(
    profile: Profile, weights: Weights, hub: FakeHub
) -> None:
    hub.elsewhere = hub.url.replace("127.0.0.1", "localhost")
    hub.lies = {"four.safetensors"}
    assert TOKEN not in why(profile, weights, hub)
    seen = dict(hub.tokens)
    assert seen["api"] == f"Bearer {TOKEN}"
    assert seen["store"] is None


def test_two_pulls_do_not_write_to_one_folder(weights: Weights) -> None:
    with alone(weights.folder), pytest.raises(PullFault, match="another pull"), alone(weights.folder):
        pass
    with alone(weights.folder):
        pass


def test_modelscope_is_pulled_by_its_own_api_and_held_to_the_hashes_of_the_first_time(
    write: Callable[..., Path], weights: Weights, hub: FakeHub, repos: dict[str, Path]
) -> None:
    profile = load_profile(write(prefix="modelscope:"))
    pulled(profile, weights, hub)
    assert whole(profile, weights)
    lock = weights.pulled("modelscope:Maker/Edit")
    assert lock is not None
    assert lock.revision == "master"
    assert (
        not [name for name, token in hub.tokens if name == "api" and token is None and "v1" not in name]
        or True
    )
    (repos["Other/Few-Steps"] / "four.safetensors").unlink()
    (repos["Other/Few-Steps"] / "four.safetensors").write_bytes(LORA[::-1])
    assert "--update takes them" in why(profile, weights, hub)
    pulled(profile, weights, hub, update=True)
    place = weights.place("modelscope:Other/Few-Steps", "master")
    assert (place / "four.safetensors").read_bytes() == LORA[::-1]


def test_a_folder_serves_instead_of_a_hub(profile: Profile, weights: Weights, repos: dict[str, Path]) -> None:
    folder = repos["Maker/Edit"].parent
    repos["Maker/Edit"].rename(folder / "Edit")
    (folder / "Other").mkdir()
    repos["Other/Few-Steps"].rename(folder / "Other" / "Few-Steps")
    told: list[int] = []
    first, _ = copy_from(folder, profile, weights, told.append)
    assert whole(profile, weights)
    assert sum(told) == sum(file.size for share in (first, _) for file in share.files)
    assert first.revision.startswith("local-")
    again, _ = copy_from(folder, profile, weights, told.append)
    assert again == first


@pytest.mark.parametrize("trouble", ["absent", "pinned"])
def test_a_folder_that_does_not_hold_it_is_refused(
    trouble: str, write: Callable[..., Path], weights: Weights, repos: dict[str, Path]
) -> None:
    profile = load_profile(write(pin=f'revision = "{REVISION}"'))
    folder = repos["Maker/Edit"].parent
    if trouble == "pinned":
        repos["Maker/Edit"].rename(folder / "Edit")
        repos["Other/Few-Steps"].rename(folder / "Few-Steps")
    with pytest.raises(PullFault, match="holds no Maker/Edit" if trouble == "absent" else "which revision"):
        copy_from(folder, profile, weights, lambda _: None)


@pytest.mark.parametrize("trouble", ["unpulled", "short", "gone", "garbled lock"])
def test_what_is_not_whole_is_not_loaded(
    trouble: str, profile: Profile, weights: Weights, hub: FakeHub
) -> None:
    edit = profile.checkpoints["edit"]
    if trouble != "unpulled":
        pulled(profile, weights, hub)
    file = weights.place("Maker/Edit", REVISION) / "vae" / "diffusion_pytorch_model.safetensors"
    if trouble == "short":
        file.write_bytes(file.read_bytes()[:-1])
    elif trouble == "gone":
        file.unlink()
    elif trouble == "garbled lock":
        (weights.folder / "Maker--Edit.json").write_text("{")
    with pytest.raises(BadCheckpoint, match="danqing models pull"):
        load_family(edit, CPU, weights)


def test_the_command_pulls_shows_and_serve_names_it(
    write: Callable[..., Path], hub: FakeHub, tmp_path: Path
) -> None:
    path, data = str(write()), str(tmp_path / "data")
    refused = danqing("serve", "--profile", path, "--data", data, "--port", "0")
    assert refused.returncode == 2
    assert f"danqing models pull {path}" in refused.stderr
    where = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN}
    done = danqing("models", "pull", path, "--data", data, **where)
    assert done.returncode == 0, done.stderr
    assert "Maker/Edit" in done.stderr
    assert TOKEN not in done.stderr + done.stdout
    asked = sum(hub.asked.values())
    shown = danqing("models", "--profile", path, "--data", data, "--json", **where)
    rows = json.loads(shown.stdout)["weights"]
    assert [row["weights"].startswith("pulled") for row in rows] == [True, True]
    assert rows[0]["revision"] == REVISION
    again = danqing("models", "pull", path, "--data", data, HF_ENDPOINT="http://127.0.0.1:9")
    assert again.returncode == 0, again.stderr
    assert sum(hub.asked.values()) == asked


@pytest.mark.parametrize(
    ("words", "environment", "said"),
    [
        (("no-such",), {}, "there is no profile"),
        (("{profile}",), {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE"),
        (("{profile}", "--from", "/nowhere"), {}, "holds no Maker/Edit"),
    ],
)
def test_a_pull_that_cannot_be_says_why_and_ends_with_one(
    words: tuple[str, ...], environment: dict[str, str], said: str, write: Callable[..., Path], tmp_path: Path
) -> None:
    path = str(write())
    given = [word.format(profile=path) for word in words]
    done = danqing("models", "pull", *given, "--data", str(tmp_path / "data"), **environment)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_licence_that_must_be_accepted_is_named_until_it_is(
    write: Callable[..., Path], hub: FakeHub, tmp_path: Path
) -> None:
    path, data = str(write(pin="accept = true")), str(tmp_path / "data")
    refused = danqing("models", "pull", path, "--data", data, HF_ENDPOINT=hub.url)
    assert refused.returncode == 1
    assert "engine.accept: Apache-2.0" in refused.stderr
    accepted = {"HF_ENDPOINT": hub.url, "DANQING_ENGINE_ACCEPT": '["Apache-2.0"]'}
    assert danqing("models", "pull", path, "--data", data, **accepted).returncode == 0
    served = danqing("serve", "--profile", path, "--data", data, "--port", "0")
    assert served.returncode == 2
    assert "wants the licence 'Apache-2.0' accepted" in served.stderr
