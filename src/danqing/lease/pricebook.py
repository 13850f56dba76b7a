"""What jobs cost, kept in a file over restarts of the server. Knows no job, and no way to learn.

The prices are those of one profile: what stands behind the same names in another costs something else. A file that
cannot be read, or says what was never written, is worth a fresh start and one line in the log.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import structlog

from danqing.schedule.prices import Prices

VERSION = 1
_log = structlog.get_logger("danqing.lease")


class PriceBook:
    """The prices and their file."""

    def __init__(self, file: Path, prices: Prices) -> None:
        """Nothing is read or written yet."""
        self._file, self._prices = file, prices
        self._kept = prices.lessons

    def recall(self) -> None:
        """Begin with what the file says; without one, with nothing."""
        try:
            told = json.loads(self._file.read_text("utf-8"))
            if told["version"] != VERSION:
                raise ValueError(f"version {told['version']!r} is not {VERSION}")
            self._prices.recall(told)
        except FileNotFoundError:
            return
        except (OSError, ValueError, LookupError, TypeError, OverflowError) as fault:
            _log.warning("prices are learned anew", file=str(self._file), reason=str(fault))

    def keep(self) -> None:
        """Write what was learned since the last time, if anything was, whole or not at all; a disk that is full is no
        reason to stop."""
        if self._prices.lessons == self._kept:
            return
        lessons, text = self._prices.lessons, json.dumps({"version": VERSION, **self._prices.told()})
        draft = self._file.with_suffix(".draft")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(text, "utf-8")
            draft.replace(self._file)
            self._kept = lessons
        except OSError:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
