"""Writes folders and files so that a reader never meets half of one. Knows nothing of what is in them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

LOG = "log.jsonl"  # in the folder of a run


def save_state(state: dict[str, Any], path: Path) -> None:
    """Writes what a stopped run needs to go on, whole or not at all."""
    fresh = path.with_name(path.name + ".new")
    torch.save(state, fresh)
    fresh.replace(path)


def add_line(run: Path, line: dict[str, Any]) -> None:
    """One more line of what happened to the run in that folder."""
    with (run / LOG).open("a", encoding="utf-8") as log:
        log.write(json.dumps(line) + "\n")


@contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """Hands out an empty folder beside the wanted one and puts it in its place when the work is done."""
    fresh, stale = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    for leftover in (fresh, stale):
        shutil.rmtree(leftover, ignore_errors=True)
    fresh.mkdir(parents=True)
    yield fresh
    if folder.exists():
        folder.rename(stale)
    fresh.rename(folder)
    shutil.rmtree(stale, ignore_errors=True)
