"""What the pages say exists: links lead somewhere, commands and targets are real, Python blocks parse."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "architecture").glob("*.md"),
        *ROOT.glob("locks/*.md"),
    ]
)
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)]*)?\)")
OURS = re.compile(r"(?:^|`|\$ |\n)danqing ([a-z]+)((?: [a-z]+)?)", re.MULTILINE)


def blocks(page: Path, language: str) -> list[str]:
    return [body for kind, body in BLOCK.findall(page.read_text(encoding="utf-8")) if kind == language]


def test_there_are_pages() -> None:
    assert {"README.md", "README.zh-CN.md", "CHANGELOG.md", "CONTRIBUTING.md"} <= {
        page.name for page in PAGES
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_within_the_project_leads_somewhere(page: Path) -> None:
    targets = [target for target, _ in LINK.findall(page.read_text(encoding="utf-8"))]
    missing = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_make_target_named_exists(page: Path) -> None:
    known = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", page.read_text(encoding="utf-8"), re.MULTILINE))
    assert named <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_danqing_command_named_exists(page: Path) -> None:
    from danqing.cli.main import app

    root = typer.main.get_command(app)
    commands = root.commands  # type: ignore[attr-defined]
    for command, below in OURS.findall(page.read_text(encoding="utf-8")):
        assert command in commands, command
        children = getattr(commands[command], "commands", None)
        if children and below.strip():
            assert below.strip() in children, f"{command}{below}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_python_block_parses(page: Path) -> None:
    for body in blocks(page, "python"):
        compile(body, page.name, "exec")


def test_the_profiles_that_a_page_shows_are_ones_that_load(tmp_path: Path) -> None:
    from danqing.profiles.loader import load_profile

    shown = blocks(ROOT / "docs" / "howto" / "profiles.md", "toml")
    assert len(shown) == 3
    for number, profile in enumerate(shown):
        (tmp_path / f"{number}.toml").write_text(profile, encoding="utf-8")
        assert load_profile(tmp_path / f"{number}.toml").preset("qwen-image-edit-plus") is not None


def test_the_settings_that_a_page_shows_are_ones_that_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from danqing import settings

    page = (ROOT / "docs" / "howto" / "operate.md").read_text(encoding="utf-8")
    for name, value in re.findall(r"`(DANQING_[A-Z_]+)='([^']+)'`", page):
        monkeypatch.setenv(name, value)
    (shown,) = blocks(ROOT / "docs" / "howto" / "operate.md", "toml")
    (tmp_path / "danqing.toml").write_text(shown, encoding="utf-8")
    read = settings.load(data=tmp_path)
    assert read.server.public_url == "https://pictures.example.org"
    assert read.inputs.allow == ("images.internal:8080",)


def test_both_readmes_say_the_same_commands_and_code() -> None:
    english, chinese = ROOT / "README.md", ROOT / "README.zh-CN.md"

    def commands(page: Path) -> list[str]:
        return [
            line.split("#")[0].split('"')[0].strip()
            for body in blocks(page, "sh")
            for line in body.splitlines()
        ]

    assert commands(english) == commands(chinese)
    assert len(blocks(english, "python")) == len(blocks(chinese, "python"))
