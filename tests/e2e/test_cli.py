"""The command line against a real server, as a person uses it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from PIL import Image

from danqing.cli.operate import operator
from danqing.cli.remote import CallFailed
from tests.support.served import Served, danqing, until


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.new("RGB", (300, 200), "teal").save(path)
    return path


def test_edit_saves_every_picture_and_prints_where(served: Served, photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = danqing("edit", str(photo), "make it red", "-n", "2", "-o", str(out), "--data", str(served.data))
    assert done.returncode == 0, done.stderr
    files = [Path(line) for line in done.stdout.split()]
    assert [file.name for file in files] == ["photo-1.png", "photo-2.png"]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files)


def test_generate_with_json_writes_one_object_and_nothing_else(served: Served, tmp_path: Path) -> None:
    words = ("generate", "a red star", "--size", "512*512", "--seed", "5", "--json", "-o", str(tmp_path))
    done = danqing(*words, "--data", str(served.data))
    told = json.loads(done.stdout)
    assert told["usage"] == {"image_count": 1, "width": 512, "height": 512}
    with Image.open(told["files"][0]) as picture:
        assert picture.size == (512, 512)
    assert done.stderr == ""


def test_a_key_of_the_hosted_service_in_the_environment_is_for_servers_elsewhere(
    served: Served, tmp_path: Path
) -> None:
    words = ("generate", "a red star", "--size", "512*512", "-o", str(tmp_path), "--data", str(served.data))
    here = danqing(*words, DASHSCOPE_API_KEY="sk-of-the-hosted-service")
    assert here.returncode == 0, here.stderr
    elsewhere = danqing(*words, "--server", served.url, DASHSCOPE_API_KEY="sk-of-the-hosted-service")
    assert elsewhere.returncode == 1
    assert "key" in elsewhere.stderr
    assert danqing(*words, "--server", served.url, DASHSCOPE_API_KEY=served.key).returncode == 0


def test_no_picture_is_overwritten(served: Served, photo: Path, tmp_path: Path) -> None:
    words = ("edit", str(photo), "red", "-o", str(tmp_path), "--data", str(served.data))
    first, second = danqing(*words).stdout.strip(), danqing(*words).stdout.strip()
    assert first != second
    assert Path(first).is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("edit", "nothing.png", "red"), "cannot read nothing.png"),
        (("generate", "a", "--size", "10x10"), "Expected format: '<width>*<height>'"),
        (("generate", "a", "--seed", "-1"), "seed"),
        (
            ("generate", "a", "--model", "wan2.2-t2i-flash"),
            "not called in the way in which the command line calls",
        ),
    ],
)
def test_a_mistake_is_told_in_one_line_and_ends_with_1(
    served: Served, words: tuple[str, ...], said: str
) -> None:
    done = danqing(*words, "--data", str(served.data))
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_key_is_printed_alone_works_and_dies_when_revoked(served: Served) -> None:
    key = danqing("keys", "create", "short", "--data", str(served.data)).stdout
    assert key.count("\n") == 1
    mine = Served(served.process, served.url, served.data, key.strip())
    body = {"model": "nothing"}
    assert mine.post(body)[1]["message"] == "Model not exist."
    listed = json.loads(danqing("keys", "list", "--json", "--data", str(served.data)).stdout)["keys"]
    key_id = next(row["key_id"] for row in listed if row["name"] == "short")
    assert key.strip() not in json.dumps(listed)
    assert danqing("keys", "revoke", key_id, "--data", str(served.data)).returncode == 0
    begun = time.monotonic()
    until(lambda: mine.post(body)[0] == 401, seconds=5.0)
    assert time.monotonic() - begun < 5.0


def test_a_second_server_on_the_same_folder_says_who_holds_it(served: Served) -> None:
    done = danqing("serve", "--port", "0", "--data", str(served.data))
    assert done.returncode == 2
    assert f"process {served.process.pid}" in done.stderr
    assert served.url in done.stderr


def test_a_port_that_is_taken_stops_the_start_before_a_worker_is_there(
    served: Served, tmp_path: Path
) -> None:
    port = served.url.rsplit(":", 1)[1]
    done = danqing("serve", "--port", port, "--data", str(tmp_path))
    assert done.returncode == 2
    assert f"127.0.0.1:{port} is taken" in done.stderr
    assert "worker" not in done.stderr


def test_a_setting_that_is_unknown_or_bad_stops_the_start_and_is_named(tmp_path: Path) -> None:
    assert "DANQING_LIMTS_QUEUE" in danqing("serve", "--data", str(tmp_path), DANQING_LIMTS_QUEUE="3").stderr
    known = danqing("models", "--data", str(tmp_path), DANQING_CLI_SERVER="http://elsewhere")
    assert known.returncode == 0, known.stderr
    assert "server.port" in danqing("serve", "--data", str(tmp_path), DANQING_PORT="many").stderr
    no_list = danqing("serve", "--data", str(tmp_path), DANQING_INPUTS_ALLOW="images.internal:80").stderr
    assert "setting inputs.allow: DANQING_INPUTS_ALLOW is not JSON" in no_list
    (tmp_path / "danqing.toml").write_text("[server]\nprot = 1\n")
    assert "unknown setting server.prot" in danqing("serve", "--data", str(tmp_path)).stderr


def test_models_lists_every_name_with_its_relation(served: Served) -> None:
    rows = json.loads(danqing("models", "--json", "--data", str(served.data)).stdout)["models"]
    named = {row["model"]: row for row in rows}
    assert named["qwen-image-edit-max-2026-01-16"]["relation"] == "miniature"


def test_doctor_says_device_profile_and_server(served: Served) -> None:
    done = danqing("doctor", "--data", str(served.data))
    for word in ("python", "installed", "device", "profile", served.url):
        assert word in done.stdout, done.stdout


def test_keys_work_on_a_folder_without_a_server(tmp_path: Path) -> None:
    made = danqing("keys", "create", "early", "--data", str(tmp_path))
    assert made.stdout.startswith("sk-"), made.stderr
    assert "early" in danqing("keys", "list", "--data", str(tmp_path)).stdout


def test_a_key_is_made_for_a_region_and_a_workspace(tmp_path: Path) -> None:
    more = ("--account", "acme", "--region", "us-east-1", "--workspace", "llm-1", "--data", str(tmp_path))
    assert danqing("keys", "create", "abroad", *more).stdout.startswith("sk-")
    home = danqing("keys", "create", "home", "--data", str(tmp_path), DANQING_SERVER_REGION="eu-central-1")
    assert home.stdout.startswith("sk-"), home.stderr
    refused = danqing("keys", "create", "bad", "--workspace", "a b", "--data", str(tmp_path))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "'a b' is not a name" in refused.stderr
    listed = json.loads(danqing("keys", "list", "--json", "--data", str(tmp_path)).stdout)["keys"]
    assert [key["priority"] for key in listed] == [0, 0]
    found = [(key["name"], key["tenant"], key["region"], key["workspace"]) for key in listed]
    assert found == [("abroad", "acme", "us-east-1", "llm-1"), ("home", "default", "eu-central-1", "")]


@pytest.mark.parametrize("running", [True, False])
def test_a_key_is_made_with_a_priority(running: bool, served: Served, tmp_path: Path) -> None:
    data = str(served.data if running else tmp_path)
    for name, priority in (("before", "10"), ("after", "-3")):
        made = danqing("keys", "create", name, "--priority", priority, "--data", data)
        assert made.stdout.startswith("sk-"), made.stderr
    refused = danqing("keys", "create", "beyond", "--priority", "11", "--data", data)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--priority" in refused.stderr
    listed = json.loads(danqing("keys", "list", "--json", "--data", data).stdout)["keys"]
    found = {key["name"]: key["priority"] for key in listed}
    assert (found["before"], found["after"], "beyond" in found) == (10, -3, False)
    shown = danqing("keys", "list", "--data", data).stdout.splitlines()
    assert any(" +10 " in line and line.endswith("before") for line in shown)


def test_a_running_server_refuses_a_priority_beyond_the_bounds_and_names_it(served: Served) -> None:
    with (
        operator(served.data) as talk,
        pytest.raises(CallFailed, match="priority is a whole number from -10"),
    ):
        talk.create_key("beyond", tenant="default", priority=-11)
