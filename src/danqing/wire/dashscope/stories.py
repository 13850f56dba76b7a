"""Text and pictures in turn as an event stream: a frame for each as soon as it is there. Knows no worker and no model.

A turn that was sent is not sent again, whatever becomes of the attempt that made it: a job that starts anew keeps its
texts, and its pictures at those places are made again for the record alone. The last picture waits for the job's own
end, so that its frame is the last and carries the final count; what the frames so far left out comes before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator

from starlette.requests import Request

from danqing.core.errors import Fault
from danqing.core.job import Job
from danqing.lease.board import Tale
from danqing.wire.dashscope import calls, encode, replies, shapes
from danqing.wire.desk import Desk

Turn = tuple[int, str | None]
"""A place, and the text before its picture; None for the picture itself."""


def foreseen(tale: Tale) -> Iterator[Turn]:
    """The turns that may be shown by now, in order, but for the last picture. A picture that is passed over by a later
    one does not come."""
    for place, panel in enumerate(tale.panels):
        if panel.text:
            yield place, panel.text
        if place in tale.pictures and place < len(tale.panels) - 1:
            yield place, None
        elif not any(later > place for later in tale.pictures):
            return


class Teller:
    """What one stream has told so far, and its next frames."""

    def __init__(self, request: Request, desk: Desk, job: Job) -> None:
        """Nothing is told yet."""
        self._request, self._desk, self._job = request, desk, job
        self._sent: set[tuple[int, bool]] = set()
        self._frames = self._images = 0

    def so_far(self, tale: Tale) -> Iterator[bytes]:
        """A frame for each turn that is new."""
        for place, text in list(foreseen(tale)):
            if (place, text is None) not in self._sent:
                image = None if text else self._desk.link(self._request, tale.pictures[place])
                yield self._turn((place, text), image)

    def rest(self, job: Job) -> Iterator[bytes]:
        """The frames that remain once the job has ended well; there is one at least."""
        links = iter(self._desk.links(self._request, job))
        left = [(turn, None if turn[1] else next(links)) for turn in shapes.turns(job)]
        left = [(turn, link) for turn, link in left if (turn[0], turn[1] is None) not in self._sent]
        for turn, link in left[:-1]:
            yield self._turn(turn, link)
        content = [shapes.item(text=turn[1], image=link) for turn, link in left[-1:]]
        yield self._frame(content, shapes.usage(job, ""), last=True)

    def wrong(self, problem: Fault, family: str) -> bytes:
        """The frame that ends a stream which went wrong."""
        self._frames += 1
        return replies.frame(self._frames, encode.fault(problem, self._request.state.request_id, family))

    def _turn(self, turn: Turn, link: str | None) -> bytes:
        self._sent.add((turn[0], turn[1] is None))
        self._images += link is not None
        brief = self._job.brief
        usage = shapes.told(brief, self._images, brief.size if self._images else None)
        return self._frame([shapes.item(text=turn[1], image=link)], usage, last=False)

    def _frame(self, content: list[dict[str, str]], usage: dict[str, object], *, last: bool) -> bytes:
        """As the service writes it: until the end its reason is the word null."""
        self._frames += 1
        message = {"content": content, "role": "assistant"}
        choice = {"message": message, "finish_reason": "stop" if last else "null"}
        body = {
            "output": {"choices": [choice], "finished": last},
            "usage": usage,
            "request_id": self._request.state.request_id,
        }
        return replies.frame(self._frames, encode.Answer(200, body))


async def frames(request: Request, desk: Desk, asked: calls.Ask, job: Job) -> AsyncGenerator[bytes]:
    """The frames of a story until its end, or until the client leaves, upon which its job is dealt with."""
    teller, seen = Teller(request, desk, job), 0
    with desk.board.follow(job.id) as tale:
        ending = asyncio.ensure_future(
            calls.delivered(request, desk, asked.caller, job, began=asked.ticket.began)
        )
        try:
            while not ending.done():
                more = asyncio.ensure_future(tale.more(seen))
                await asyncio.wait({ending, more}, return_when=asyncio.FIRST_COMPLETED)
                more.cancel()
                seen = tale.turns
                for frame in [] if ending.done() else teller.so_far(tale):
                    yield frame
            for frame in teller.rest(ending.result()):
                yield frame
        except Fault as problem:
            yield teller.wrong(problem, asked.model.family)
        finally:
            ending.cancel()
