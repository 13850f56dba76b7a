"""`python -m bench.tasks`: do a task's query and a page of a list take longer with 100,000 tasks than with 1,000?

A real server over a store that was filled while it was down, one client on one connection, one run. Lists are asked for
in turn by nothing, by state, by model, and for a page near the end. The last line is one JSON object; the ratios of the
slowest hundredths decide.
"""

from __future__ import annotations

import http.client
import itertools
import json
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from argparse import ArgumentParser
from collections.abc import Callable
from contextlib import closing
from os import environ, getloadavg
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.server import _start, _stop

FEW, MANY = 1_000, 100_000
QUERIES, LISTS = 1_000, 400
WARM = 50
MOST_RATIO = 3.0
"""What is wanted of both."""

MODELS = ("wan2.2-t2i-flash", "wan2.2-t2i-plus", "wanx2.1-t2i-turbo", "qwen-image-plus", "qwen-image")
STATES = ("succeeded",) * 90 + ("failed",) * 8 + ("cancelled",) * 2
SPREAD = 23.5 * 3600
"""Seconds over which the tasks were submitted: within the day that a list shows, however long the run takes."""

Figures = dict[str, float]


def row(number: int, total: int, tenant: str, now: float, draw: random.Random) -> dict[str, Any]:
    """One ended task, submitted at its place in the day."""
    name, state, model = str(uuid.UUID(int=draw.getrandbits(128))), draw.choice(STATES), draw.choice(MODELS)
    created = now - SPREAD * (1 - number / total)
    brief = {
        "model": model,
        "prompt": f"a red circle beside a blue square, number {number}",
        "negative_prompt": None,
        "inputs": [],
        "count": 1,
        "size": [1024, 1024],
        "seed": number,
        "watermark": False,
        "knobs": {"prompt_extend": True},
    }
    nonce = f"{draw.getrandbits(128):032x}"
    key = f"{nonce[:2]}/{nonce[2:4]}/20261121/{nonce}/{name}-0.png"
    return {
        "id": name,
        "tenant": tenant,
        "api": "dashscope/text2image",
        "model": model,
        "brief": json.dumps(brief),
        "state": state,
        "rank": 0.0,
        "deadline": 0.0,
        "queue_seconds": 3600.0,
        "run_seconds": 600.0,
        "cost": 1.0,
        "hold_images": 1,
        "result": json.dumps([[key, 1024, 1024, "0" * 64]]) if state == "succeeded" else None,
        "error_code": "EngineFailed" if state == "failed" else None,
        "error_msg": "" if state == "failed" else None,
        "created": created,
        "started": created + 0.1,
        "finished": created + 9.0,
        "expires": created + 9.0 + 86_400,
        "request_id": str(uuid.UUID(int=draw.getrandbits(128))),
        "key_id": "bench",
    }


def fill(data: Path, tasks: int) -> list[str]:
    """Put so many tasks in place of whatever there was; answers their ids."""
    draw = random.Random(tasks)
    with closing(sqlite3.connect(data / "danqing.sqlite3")) as connection, connection:
        tenant = connection.execute("SELECT tenant FROM api_key").fetchone()[0]
        connection.execute("DELETE FROM job")
        now = time.time()
        rows = [row(number, tasks, tenant, now, draw) for number in range(tasks)]
        columns = list(rows[0])
        marks = ", ".join(f":{column}" for column in columns)
        connection.executemany(f"INSERT INTO job ({', '.join(columns)}) VALUES ({marks})", rows)
    return [one["id"] for one in rows]


def timed(connection: http.client.HTTPConnection, path: str, key: str) -> tuple[float, Any]:
    """Milliseconds of one request, and its answer."""
    begun = time.perf_counter()
    connection.request("GET", f"/api/v1/tasks{path}", headers={"Authorization": f"Bearer {key}"})
    with connection.getresponse() as answer:
        told = json.load(answer)
        seconds = time.perf_counter() - begun
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status} {told}")
    return seconds * 1000, told


def spread(times: list[float]) -> tuple[float, float]:
    """The middle and the hundredth from the top."""
    ordered = sorted(times)
    return ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]


def ask(url: str, key: str, names: list[str]) -> Figures:
    """Queries and lists against a running server."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    draw = random.Random(7)
    last = len(names) // 10
    pages: list[Callable[[], str]] = [
        lambda: "",
        lambda: f"?status=FAILED&page_no={draw.randint(1, 5)}",
        lambda: f"?model_name={draw.choice(MODELS)}&page_no={draw.randint(1, 10)}",
        lambda: f"?page_no={draw.randint(last - 20, last)}",
    ]
    turns = itertools.cycle(pages)
    total = timed(connection, "", key)[1]["total"]
    if total != len(names):
        raise RuntimeError(f"the list says {total} of {len(names)} tasks")
    for _ in range(WARM):
        timed(connection, f"/{draw.choice(names)}", key)
        timed(connection, next(turns)(), key)
    queries = [timed(connection, f"/{draw.choice(names)}", key)[0] for _ in range(QUERIES)]
    lists = [timed(connection, next(turns)(), key)[0] for _ in range(LISTS)]
    connection.close()
    (query, worst_query), (page, worst_page) = spread(queries), spread(lists)
    return {"query_p50": query, "query_p99": worst_query, "list_p50": page, "list_p99": worst_page}


def measure() -> Figures:
    """Both sizes, one after the other, and the ratios."""
    environ["DANQING_LIMITS_POLLS"] = "0"
    found: dict[int, Figures] = {}
    with tempfile.TemporaryDirectory(prefix="danqing-bench-") as folder:
        data = Path(folder)
        process, _, _ = _start(data, 1, {}, None)
        made = [sys.executable, "-m", "danqing.cli", "keys", "create", "bench", "--data", str(data)]
        key = subprocess.run(made, check=True, capture_output=True, text=True).stdout.strip()
        _stop(process)
        for tasks in (FEW, MANY):
            names = fill(data, tasks)
            process, url, _ = _start(data, 1, {}, None)
            try:
                found[tasks] = ask(url, key, names)
            finally:
                _stop(process)
    figures = {
        f"task_{name}_{size}_ms": round(value, 2)
        for tasks, size in ((FEW, "1k"), (MANY, "100k"))
        for name, value in found[tasks].items()
    }
    for name in ("query_p99", "list_p99"):
        figures[f"task_{name}_ratio"] = round(found[MANY][name] / found[FEW][name], 2)
    return figures


def main() -> None:
    """The table and the line."""
    ArgumentParser(description=__doc__).parse_args()
    print(f"load average {getloadavg()[0]:.2f}, {QUERIES} queries and {LISTS} lists each")
    figures = measure()
    print(f"{'':12} {FEW:>10,} {MANY:>10,}   ratio (wanted at most {MOST_RATIO:g} at p99)")
    for name in ("query_p50", "query_p99", "list_p50", "list_p99"):
        few, many = figures[f"task_{name}_1k_ms"], figures[f"task_{name}_100k_ms"]
        print(f"{name:12} {few:>7.2f} ms {many:>7.2f} ms   {many / few:.2f}")
    print(f"load average at the end {getloadavg()[0]:.2f}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
