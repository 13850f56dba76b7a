"""Writes locks/user.txt and locks/dev.txt: every dependency pinned and hashed, torch left out.

torch depends on the machine, and so do the CUDA packages that its default Linux wheel pulls in: `make setup`
installs it first, so neither belongs in a lock. `python -m tools.lock [--upgrade]`, with pip-tools installed.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

LOCKS = Path(__file__).resolve().parent.parent / "locks"
MACHINE_PARTS = re.compile(r"^(nvidia-|cuda-|triton|setuptools)")
FLAGS = ["-q", "--generate-hashes", "--no-header", "--no-annotate", "--strip-extras"]
FLAGS += ["--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host"]
FLAGS += ["--unsafe-package", "torch", "--unsafe-package", "triton"]
HEAD = "# Written by `make lock`. torch is not here: see README.md beside this file.\n"


def compile_lock(name: str, *flags: str) -> None:
    """Run pip-compile for one lock and drop what belongs to torch's wheel."""
    target = LOCKS / name
    sources = ["pyproject.toml", str(LOCKS / "build.in")]
    subprocess.run(
        [sys.executable, "-m", "piptools", "compile", *FLAGS, *flags, "-o", str(target), *sources], check=True
    )
    target.write_text(HEAD + prune(target.read_text(encoding="utf-8")), encoding="utf-8")


def prune(text: str) -> str:
    """The lock without comments, without torch and without the packages of a CUDA build."""
    kept: list[str] = []
    keeping = True
    for line in text.splitlines():
        if line.startswith("#") or not line.strip():
            continue
        if not line.startswith(" "):
            keeping = MACHINE_PARTS.match(line) is None
        if keeping and not line.lstrip().startswith("#"):
            kept.append(line)
    return "\n".join(kept) + "\n"


def main() -> None:
    """Both locks; the second follows the first."""
    compile_lock("user.txt", *sys.argv[1:], "--extra", "sdk")
    compile_lock("dev.txt", "-c", str(LOCKS / "user.txt"), "--extra", "sdk", "--extra", "dev")


if __name__ == "__main__":
    main()
