"""`danqing doctor`: what is installed, which device and profile, what is missing, which profile fits here."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from danqing.cli.options import DataOption, JsonOption

if TYPE_CHECKING:
    from danqing.settings import Settings

PARTS = (
    "torch",
    "diffusers",
    "transformers",
    "safetensors",
    "peft",
    "granian",
    "fastapi",
    "aiohttp",
    "pillow",
)
ROOM_WANTED = 1 << 30
GIB = 1 << 30
REAL_WEIGHTS = 46_000_000_000  # a transformer of 20.4 B numbers in bf16, and what works need beside it


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report: `level` is ok, note or bad; a bad one keeps the server from working."""

    level: str
    what: str
    said: str


def doctor(
    profile: Annotated[
        str | None, typer.Option(help="profile to examine (default: the configured one)")
    ] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what is installed, which device and profile are used, what is missing, and which profile fits."""
    from danqing.settings import BadSettings, load

    try:
        settings = load(data=data, engine={"profile": profile})
        findings = [*examine(settings)]
    except BadSettings as fault:
        findings = [Finding("bad", "settings", str(fault))]
    if as_json:
        typer.echo(json.dumps({"findings": [asdict(finding) for finding in findings]}, ensure_ascii=False))
    else:
        marks = {"ok": "✓", "note": "•", "bad": "✗"}
        for finding in findings:
            typer.echo(f"{marks[finding.level]} {finding.what:12} {finding.said}")
    if any(finding.level == "bad" for finding in findings):
        raise typer.Exit(1)


def examine(settings: Settings) -> Iterator[Finding]:
    """Every finding, in the order of a start."""
    yield Finding("ok", "python", f"{platform.python_version()} on {platform.platform(terse=True)}")
    yield from _parts()
    yield _sqlite()
    yield from _folder(settings.data)
    yield from _device(settings.engine.device)
    yield from _profile(settings.engine.profile, settings.weights)
    yield _checks(settings)
    yield _port(settings.server.host, settings.server.port, settings.data)
    if sys.platform == "darwin":
        yield Finding(
            "note", "decoders", "macOS has no limit on a process's address space: decoders run without one"
        )


def _parts() -> Iterator[Finding]:
    found, missing = [], []
    for name in PARTS:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    yield Finding("ok", "installed", ", ".join(found))
    if missing:
        yield Finding("bad", "missing", f"{', '.join(missing)}; `make setup` installs them")


def _sqlite() -> Finding:
    from danqing.store.sqlite import library

    version, warning = library()
    return Finding("note", "sqlite", warning) if warning else Finding("ok", "sqlite", version)


def _folder(data: Path) -> Iterator[Finding]:
    near = next(path for path in (data, *data.parents) if path.exists())
    free = shutil.disk_usage(near).free
    level = "ok" if free >= ROOM_WANTED else "bad"
    yield Finding(
        level, "data", f"{data}, {free / GIB:.1f} GiB free" + ("" if data.exists() else " (made at start)")
    )


def _device(wanted: str) -> Iterator[Finding]:
    from danqing.engine.memory import find_device

    try:
        device = find_device(wanted)
    except ValueError as fault:
        yield Finding("bad", "device", str(fault))
        return
    yield Finding("ok", "device", f"{device.kind}: {device.name}, {device.memory / GIB:.0f} GiB")
    if device.kind == "cuda" and device.memory >= REAL_WEIGHTS:
        yield Finding("note", "fits", "the profile qwen-apache, for photographs: docs/howto/gpu.md")
    else:
        yield Finding(
            "note", "fits", "the bundled miniature; qwen-apache wants a GPU of 48 GB, or of 32 GB with float8"
        )


def _profile(name: str, pulled: Path) -> Iterator[Finding]:
    from danqing.engine.load import BadCheckpoint, check_folder
    from danqing.profiles.loader import BadProfile, load_profile
    from danqing.profiles.weights import NotPulled, Weights

    weights = Weights(pulled)
    try:
        profile = load_profile(name)
    except BadProfile as fault:
        yield Finding("bad", "profile", str(fault))
        return
    yield Finding("ok", "profile", f"{profile.name}: {profile.text}")
    for checkpoint in profile.checkpoints.values():
        said = f"{checkpoint.name} ({checkpoint.relation}, {checkpoint.licence})"
        try:
            yield Finding("ok", "checkpoint", f"{said}: {check_folder(weights.find(checkpoint))}")
        except (BadCheckpoint, NotPulled) as fault:
            yield Finding("bad", "checkpoint", f"{said}: {fault}")


def _checks(settings: Settings) -> Finding:
    """Who looks at pictures. Whether a classifier answers is not tried: it would be asked about a picture."""
    from danqing.app_worker import StartRefused, judging
    from danqing.profiles.loader import BadProfile, load_profile
    from danqing.prompts.check import BadChecker, plugin

    checks = settings.checks
    try:
        for name in checks.plugins:
            plugin(name)
        judging(settings, load_profile(settings.engine.profile))
    except BadProfile:
        return Finding("note", "checks", "not examined: the profile cannot be read")
    except (BadChecker, StartRefused) as fault:
        return Finding("bad", "checks", str(fault))
    words = "words in prompts" if checks.enabled else "no words in prompts"
    lookers = [f"plug-in {name}" for name in checks.plugins]
    lookers += ["a classifier"] if checks.classifier else []
    lookers += ["the encoder as judge"] if checks.judge else []
    kinds = [kind for kind, on in (("inputs", checks.inputs), ("outputs", checks.outputs)) if on]
    if not lookers or not kinds:
        return Finding("ok", "checks", f"{words}; nobody looks at pictures (docs/howto/checks.md)")
    away = "let pass" if checks.away == "allow" else "refused"
    said = f"{words}; {' and '.join(kinds)} by {', '.join(lookers)}; what cannot be checked is {away}"
    return Finding("ok", "checks", said)


def _port(host: str, port: int, data: Path) -> Finding:
    from danqing.app import port_taken
    from danqing.cli.local import running

    url = running(data)
    if url is not None:
        return Finding("ok", "server", f"running at {url}")
    if port and port_taken(host, port):
        return Finding("bad", "server", f"{host}:{port} is taken by another program; choose one with --port")
    return Finding("ok", "server", f"not running; {host}:{port} is free")
