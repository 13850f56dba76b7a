"""The demonstration: a server, a key, and the official SDK making pictures with it, judged and shown on one sheet.

`python -m tools.demo` leaves `.demo/` with the pictures, `contact-sheet.png` and a data folder that `danqing serve` can
go on with. Ends with 1 if a picture does not show what was asked.
"""

from __future__ import annotations

import base64
import io
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from danqing.core.raster import Raster, Size
from danqing.judge.demo import DemoCase, demo_cases
from danqing.judge.score import judge
from danqing.pixels.png import encode
from tools.sheet import Row, draw_sheet

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / ".demo"
DATA = PLACE / "data"
MODELS = {0: "qwen-image-2.0", 1: "qwen-image-edit-plus", 3: "qwen-image-edit-max"}
LANGUAGES = {"en": "English", "zh": "Chinese"}
DANQING = [sys.executable, "-m", "danqing.cli"]


@dataclass(slots=True)
class Made:
    """One case and what came back: pictures as files, their verdicts, and the seconds that the call took."""

    case: DemoCase
    model: str
    files: list[Path] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0


def say(line: str = "") -> None:
    """A line for the person who watches."""
    print(line, flush=True)


@contextmanager
def server() -> Iterator[str]:
    """`danqing serve` on a free port; yields its URL when it is ready."""
    environment = {**os.environ, "DANQING_LOG_LEVEL": "error"}
    command = [*DANQING, "serve", "--port", "0", "--data", str(DATA)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        if "http" not in line:
            raise SystemExit(f"the server did not start (it ended with {process.wait()})")
        say(line)
        yield next(word for word in line.split() if word.startswith("http"))
    finally:
        process.terminate()
        process.wait(timeout=30)
        if process.stdout is not None:
            process.stdout.close()


def new_key() -> str:
    """A key, as a user makes one."""
    command = [*DANQING, "keys", "create", "demo", "--data", str(DATA)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def png(pixels: np.ndarray[Any, Any]) -> bytes:
    """An array of height × width × 3 as a PNG file."""
    height, width = pixels.shape[:2]
    return encode(Raster(Size(width, height), 3, np.ascontiguousarray(pixels).tobytes()))


def call(url: str, key: str, case: DemoCase) -> Made:
    """One request through the official SDK, as its documentation shows it, and the pictures behind its links."""
    import dashscope
    from dashscope import MultiModalConversation

    dashscope.base_http_api_url = url + "/api/v1"
    files = [base64.b64encode(png(pixels)).decode() for pixels in case.case.inputs]
    content = [{"image": f"data:image/png;base64,{file}"} for file in files]
    content.append({"text": case.case.instruction})
    made = Made(case, MODELS[len(case.case.inputs)])
    width, height = case.case.size
    begun = time.monotonic()
    answer = MultiModalConversation.call(
        api_key=key,
        model=made.model,
        messages=[{"role": "user", "content": content}],
        n=case.count,
        size=f"{width}*{height}",
        seed=1,
        watermark=False,
    )
    made.seconds = time.monotonic() - begun
    if answer.status_code != 200:
        raise SystemExit(f"{case.name}: {answer.status_code} {answer.code}: {answer.message}")
    for index, item in enumerate(answer.output.choices[0].message.content, start=1):
        keep(made, item["image"], index)
    return made


def keep(made: Made, link: str, index: int) -> None:
    """Download a picture, save it, judge it."""
    with urllib.request.urlopen(link, timeout=60) as answer:
        data = answer.read()
    path = PLACE / f"{made.case.name.replace(' ', '-').replace(',', '')}-{index}.png"
    path.write_bytes(data)
    verdict = judge(made.case.case, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    made.files.append(path)
    if not verdict.right:
        made.faults.append(f"{path.name}: {'; '.join(verdict.reasons)}")


def row(made: Made) -> Row:
    """The case as a row of the sheet."""
    inputs = [Image.fromarray(pixels) for pixels in made.case.case.inputs]
    outputs = [Image.open(path).convert("RGB") for path in made.files]
    width, height = made.case.case.size
    note = f"{made.model}, {width}x{height} (drawn at about 128x128, scaled up), {made.seconds:.1f} s"
    plain = f"({made.case.name}, asked in {LANGUAGES[made.case.case.language]})"
    return Row(made.case.case.instruction, plain, inputs, outputs, note)


def main() -> int:
    """Start, call, save, show."""
    PLACE.mkdir(exist_ok=True)
    begun = time.monotonic()
    with server() as url:
        key = new_key()
        made = [call(url, key, case) for case in demo_cases()]
    sheet = PLACE / "contact-sheet.png"
    draw_sheet([row(one) for one in made]).save(sheet)
    for one in made:
        verdict = "as asked" if not one.faults else "NOT as asked"
        say(f"  {one.case.name}: “{one.case.case.instruction}”  {verdict}, {one.seconds:.1f} s")
        for path in one.files:
            say(f"      {os.path.relpath(path)}")
        for fault in one.faults:
            say(f"      {fault}")
    say(f"\nAll on one sheet: {os.path.relpath(sheet)}   ({time.monotonic() - begun:.0f} s)")
    command = f"{os.path.relpath(Path(sys.executable).parent)}/danqing serve --data {os.path.relpath(DATA)}"
    say(f"Go on with this server:  {command}")
    say(f"and with this key:       {key}")
    return 1 if any(one.faults for one in made) else 0


if __name__ == "__main__":
    sys.exit(main())
