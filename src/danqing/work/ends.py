"""What a worker process ends with when it ends by itself, for whoever started it; numbers as in `sysexits.h`."""

from __future__ import annotations

LOST = 70
"""The engine can make nothing any more (`EX_SOFTWARE`): the next process may."""
UNREADY = 78
"""The settings, the profile or a checkpoint cannot be used (`EX_CONFIG`): it stays so until a person changes them."""
WHY = {
    LOST: "the engine was lost",
    UNREADY: "its settings, its profile or a checkpoint cannot be used: the log says why",
}
