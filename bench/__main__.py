"""`make bench`: every figure that the project holds itself to, with the load of the machine beside it.

The last line is one JSON object. Absolute times are of this machine at this moment; ratios decide.
"""

from __future__ import annotations

import json
import os
import subprocess

from bench import alone, alone_1x, cancels, memory, previews, promises, serving, shared, tasks


def commit() -> str:
    """The commit that was measured."""
    asked = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()


def main() -> None:
    """Run all scripts, the engine first: the machine is quietest before a server runs."""
    print(
        f"commit {commit()}, load average {os.getloadavg()[0]:.2f}, {os.cpu_count()} cores, torch on one thread"
    )
    figures: dict[str, float] = {}
    ratio = alone.measure() | alone_1x.measure()
    together = shared.measure()
    figures.update(promises.measure())
    figures.update(memory.measure())
    figures.update(serving.measure())
    figures.update(tasks.measure())
    figures.update(cancels.measure())
    figures.update(previews.measure())
    figures |= {name: ratio[name] for name in ("alone_min_ratio", "alone_1x_ratio", "vae_ratio")}
    figures |= {name: together[name] for name in shared.NAMES}
    figures["prefix_first_step"] = ratio["known_first_step"]
    for name, value in figures.items():
        print(f"{name:24} {value}")
    print(f"load average at the end {os.getloadavg()[0]:.2f}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
