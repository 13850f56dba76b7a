"""Does a server stay as small as it was after a thousand hostile requests? (S1 to S6; goal: resident memory within 5 %)

    python -m bench.hostile [--requests 1000]

Starts a server of its own, sends as many hostile requests as asked for to fill what is filled once (threads and
their arenas, tables built at first use: some 40 MiB), measures, sends as many again, measures again. Counts the
answers: every one must be a 4xx, and a good request must still pass. Prints a table and, last, one line of JSON; ends
with 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from urllib.parse import urlsplit

import psutil

from bench.server import GENERATION, Served, serving
from tests.hostile.test_mutants import mutate, seeds
from tests.hostile.test_pictures import BROKEN, TOO_LARGE
from tests.support import places

GOAL = 0.05
MODEL = "qwen-image-edit-plus"
SMALL = 300_000
"""Bytes of a picture that is sent many times; the larger ones are sent by the tests."""


def edit(*images: str) -> bytes:
    content = [*({"image": image} for image in images), {"text": "make it blue"}]
    body = {
        "model": MODEL,
        "input": {"messages": [{"role": "user", "content": content}]},
        "parameters": {"n": 1},
    }
    return json.dumps(body).encode()


def data_uri(data: bytes, mime: str = "image/png") -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


def requests() -> list[tuple[str, bytes]]:
    """Every kind of hostile request, named by what it attacks."""
    found = [
        ("picture", edit(data_uri(data)))
        for data in (*BROKEN.values(), *TOO_LARGE.values())
        if len(data) < SMALL
    ]
    found += [("place", edit(f"http://{host}/x.png")) for host in places.NOTATIONS]
    literal = (f"[{address}]" if ":" in address else address for address in places.FORBIDDEN)
    found += [("place", edit(f"http://{host}/x.png")) for host in literal]
    found += [("url", edit(url)) for url in places.MALFORMED if "\ud800" not in url]
    found += [
        ("body", b""),
        ("body", b"{" * 100_000),
        ("body", b"[" * 100_000),
        ("body", b'{"a":' * 50_000),
        ("body", b'{"model":NaN}'),
        ("body", edit("data:image/png;base64,!!!!")),
        ("body", edit("data:image/png;base64," + "A" * 999)),
        ("body", edit("data:text/html;base64,PGh0bWw+")),
        ("body", b"a=1&" * 1_000_000),
        ("body", b"\xff\xfe\x00" * 1000),
        ("body", json.dumps({f"k{n}": n for n in range(100_000)}).encode()),
    ]
    return found


def endless(count: int) -> Iterator[tuple[str, bytes]]:
    """`count` requests: each of the above in random order, and mutated pictures between them."""
    dice, parents, known = random.Random(5), seeds(), requests()
    for number in range(count):
        if number % 4 == 3:
            # The second picture is never one, so that a mutant that lives is decoded and still makes no job.
            yield "mutant", edit(data_uri(mutate(dice.choice(parents), dice) or b"?"), data_uri(b"junk"))
        else:
            yield dice.choice(known)


class Client:
    """Sends one request at a time and never minds the answer."""

    def __init__(self, served: Served) -> None:
        place = urlsplit(served.url)
        self._place = (place.hostname or "127.0.0.1", place.port or 80)
        self._headers = {"Authorization": f"Bearer {served.key}", "Content-Type": "application/json"}

    def post(self, body: bytes) -> int:
        """The status; 0 where the server hung up."""
        connection = http.client.HTTPConnection(*self._place, timeout=120)
        try:
            connection.request("POST", GENERATION, body=body, headers=self._headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()


def resident(pid: int) -> dict[str, float]:
    """MiB of the server process, and of everything it started."""
    server = psutil.Process(pid)
    own = server.memory_info().rss
    rest = sum(child.memory_info().rss for child in server.children(recursive=True))
    return {"server": own / 2**20, "all": (own + rest) / 2**20}


def measure(count: int) -> dict[str, object]:
    with serving(starts=1) as served:
        client = Client(served)
        start = resident(served.pid)
        for _, body in (*requests(), *endless(count)):
            client.post(body)
        before, begun = resident(served.pid), time.perf_counter()
        answers: dict[str, Counter[int]] = {}
        for kind, body in endless(count):
            answers.setdefault(kind, Counter())[client.post(body)] += 1
        seconds, after = time.perf_counter() - begun, resident(served.pid)
        good = client.post(edit(data_uri(seeds()[0])))
    growth = {name: after[name] / before[name] - 1 for name in before}
    wrong = sum(n for kind in answers.values() for status, n in kind.items() if not 400 <= status < 500)
    return {
        "bench": "hostile",
        "requests": count,
        "seconds": round(seconds, 1),
        "answers": {kind: dict(counts) for kind, counts in answers.items()},
        "not_4xx": wrong,
        "good_request": good,
        "mib_start": {name: round(value, 1) for name, value in start.items()},
        "mib_before": {name: round(value, 1) for name, value in before.items()},
        "mib_after": {name: round(value, 1) for name, value in after.items()},
        "growth": {name: round(value, 4) for name, value in growth.items()},
        "load": os.getloadavg()[0],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=1000)
    found = measure(parser.parse_args().requests)
    for name, value in found.items():
        print(f"{name:>14}  {value}")
    print(json.dumps(found))
    growth = found["growth"]
    assert isinstance(growth, dict)
    return int(growth["server"] > GOAL or found["not_4xx"] != 0 or found["good_request"] != 200)


if __name__ == "__main__":
    sys.exit(main())
