"""Small weights beside a transformer (LoRA), one worn at a time, each with a schedule of its own. Knows no family.

They are read in once and never merged: taking one off leaves the transformer as it was, to the bit, which subtracting
merged weights would not. A distilled one expects other noise levels than the checkpoint, hence the schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Load = Callable[[Path, Any, str], None]
"""Reads a file into a transformer under a name."""


class Adapters:
    """Those of one transformer. Changing is for the engine's thread alone."""

    def __init__(self, transformer: Any, scheduler: Any, load: Load) -> None:
        """None yet; `scheduler` is the checkpoint's own."""
        self._transformer, self._load = transformer, load
        self._schedulers: dict[str | None, Any] = {None: scheduler}
        self._worn: str | None = None
        self._sure = True
        """False while it is being changed, and after a change that broke off."""

    def add(self, name: str, file: Path, schedule: Mapping[str, float]) -> None:
        """Read one in, not worn yet. `schedule` replaces settings of the checkpoint's scheduler; a `shift_terminal`
        of 0 means none. Raises what `load` raises."""
        self._load(file, self._transformer, name)
        own = self._schedulers[None]
        settings = {**own.config, **schedule}
        settings["shift_terminal"] = settings.get("shift_terminal") or None
        self._schedulers[name] = type(own).from_config(settings)
        self._transformer.disable_lora()

    def wear(self, name: str | None) -> None:
        """From now on the transformer has this one on, and no other. Raises KeyError for an unknown name."""
        if name not in self._schedulers:
            raise KeyError(name)
        if name == self._worn and self._sure:
            return
        self._sure = False
        if name is None:
            self._transformer.disable_lora()
        else:
            self._transformer.enable_lora()
            self._transformer.set_adapters(name, 1.0)
        self._worn, self._sure = name, True

    def scheduler(self, name: str | None) -> Any:
        """The scheduler that goes with it, to be copied."""
        return self._schedulers[name]
