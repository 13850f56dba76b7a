"""What a policy would make of a traffic, on devices that exist on paper. Knows no model, no thread and no clock.

The engine's own policies choose, unit by unit, with the costs that its cost model predicts; what is left out is all
that costs nothing in comparison: decoding of inputs, the way of the pictures, the policy's own time. Requests go to
the device that will be done first with what it has, as a server's queue sends them, and stay there.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from danqing.schedule.cost import Stage
from danqing.schedule.forecast import Ahead, Outlook
from danqing.schedule.policy import PROMISE, Lane, Policy
from danqing.schedule.shares import Shares


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of request: its share of the traffic, the seconds it takes alone, and the units it is done in."""

    share: float
    seconds: float
    units: int = 8


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a traffic: when it comes, what it takes alone in how many units, and whose it is."""

    arrived: float
    seconds: float
    units: int
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request: when it was done, and how many times its own time that took."""

    request: Request
    finished: float

    @property
    def took(self) -> float:
        """Seconds from its coming to its end."""
        return self.finished - self.request.arrived

    @property
    def stretch(self) -> float:
        """How many times what it would have taken alone."""
        return self.took / self.request.seconds


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a traffic: one outcome a request, in the order in which they came."""

    outcomes: tuple[Outcome, ...]

    def on_time(self, promise: float = PROMISE) -> float:
        """The share done within `promise` times their own time."""
        return sum(one.stretch <= promise for one in self.outcomes) / max(1, len(self.outcomes))

    def waits(self, *parts: float) -> tuple[float, ...]:
        """Seconds beyond their own time within which those parts of the requests were done."""
        waits = sorted(one.took - one.request.seconds for one in self.outcomes)
        return tuple(waits[min(len(waits) - 1, int(part * len(waits)))] for part in parts)


def traffic(
    mix: Sequence[Kind], *, load: float, devices: int, count: int, seed: int = 0, tenants: int = 1
) -> list[Request]:
    """`count` requests of the mix that come at random (Poisson) and keep that share of so many devices busy."""
    if not mix or load <= 0 or devices < 1 or count < 1 or tenants < 1:
        raise ValueError("a traffic needs a mix, a load above 0, and at least one device, request and tenant")
    draw = random.Random(seed)  # repeatable, not secret
    shares = [kind.share for kind in mix]
    mean = sum(kind.share * kind.seconds for kind in mix) / sum(shares)
    now, made = 0.0, []
    for _ in range(count):
        now += draw.expovariate(load * devices / mean)
        kind = draw.choices(mix, shares)[0]
        made.append(Request(now, kind.seconds, kind.units, f"tenant {draw.randrange(tenants)}"))
    return made


def simulate(requests: Iterable[Request], policy: Policy, *, devices: int = 1) -> Report:
    """Send every request to a device and let the policy choose there."""
    queue = [(0.0, device) for device in range(devices)]
    given: list[list[tuple[int, Request]]] = [[] for _ in range(devices)]
    for place, request in enumerate(requests):
        # A device is never idle while it has work, so when it will be done does not depend on the order.
        done, device = heapq.heappop(queue)
        given[device].append((place, request))
        heapq.heappush(queue, (max(done, request.arrived) + request.seconds, device))
    ended: dict[int, Outcome] = {}
    for share in given:
        ended |= _Device(policy).run(share)
    return Report(tuple(ended[place] for place in sorted(ended)))


def needed(
    mix: Sequence[Kind],
    policy: Policy,
    *,
    rate: float,
    goal: float = 0.95,
    count: int = 2000,
    most: int = 1024,
    seed: int = 0,
) -> int | None:
    """The fewest devices that do the share `goal` of `rate` requests a second on time; None if `most` do not."""
    mean = sum(kind.share * kind.seconds for kind in mix) / sum(kind.share for kind in mix)
    low, high = 0, most + 1
    while high - low > 1:
        tried = (low + high) // 2
        load = rate * mean / tried
        requests = traffic(mix, load=load, devices=tried, count=count, seed=seed)
        if load < 1 and simulate(requests, policy, devices=tried).on_time() >= goal:
            high = tried
        else:
            low = tried
    return high if high <= most else None


@dataclass(slots=True)
class _Job:
    """A request on a device: how many units are done, and when it last advanced."""

    place: int
    request: Request
    served: float
    done: int = 0
    promised: float | None = None

    @property
    def unit(self) -> float:
        return self.request.seconds / self.request.units

    @property
    def left(self) -> float:
        return self.request.seconds * (1 - self.done / self.request.units)


@dataclass(slots=True)
class _Device:
    """One device and the jobs on it."""

    policy: Policy
    shares: Shares = field(default_factory=Shares)
    jobs: dict[str, _Job] = field(default_factory=dict)
    now: float = 0.0
    outlook: Outlook = field(init=False)

    def __post_init__(self) -> None:
        self.outlook = Outlook(self.policy, lambda: self.now)

    def run(self, requests: Sequence[tuple[int, Request]]) -> dict[int, Outcome]:
        ended: dict[int, Outcome] = {}
        coming = iter(requests)
        following = next(coming, None)
        while following is not None or self.jobs:
            if not self.jobs and following is not None:
                self.now = max(self.now, following[1].arrived)
            while following is not None and following[1].arrived <= self.now:
                self._take(*following)
                following = next(coming, None)
            until = following[1].arrived if following is not None else None
            for job in self._advance(until):
                ended[job.place] = Outcome(job.request, self.now)
        return ended

    def _take(self, place: int, request: Request) -> None:
        self.shares.enter(request.tenant, {job.request.tenant for job in self.jobs.values()})
        self.jobs[str(place)] = _Job(place, request, request.arrived)

    def _advance(self, until: float | None) -> list[_Job]:
        """One unit of the job that the policy chooses; the jobs that ended with it."""
        if len(self.jobs) == 1:
            job = next(iter(self.jobs.values()))
            units = job.request.units - job.done
            if until is not None:  # alone until the next one comes: those units need no choice
                units = min(units, max(1, int((until - self.now) / job.unit)))
        else:
            lanes = [self._lane(name, job) for name, job in self.jobs.items()]
            job, units = self.jobs[self.policy.choose(lanes, self.now)[0].job], 1
        if self.policy.heeds and not job.done:
            self._foretell(job)
        job.done += units
        self.now += units * job.unit
        job.served = self.now
        self.shares.charge(job.request.tenant, units * job.unit)
        if job.done < job.request.units:
            return []
        del self.jobs[str(job.place)]
        self.outlook.end(str(job.place), finished=True)
        return [job]

    def _foretell(self, job: _Job) -> None:
        """As the engine does when a job begins."""
        name = str(job.place)
        self.outlook.look(lambda: [Ahead(self._lane(n, j), j.unit) for n, j in self.jobs.items()], until=name)
        job.promised = self.outlook.begin(name)

    def _lane(self, name: str, job: _Job) -> Lane:
        request = job.request
        return Lane(
            job=name,
            index=0,
            stage=Stage.STEP,
            step=job.done,
            tokens=1,
            arrived=request.arrived,
            served=job.served,
            left=job.left,
            tenant=request.tenant,
            solo=request.seconds,
            spent=self.shares.of(request.tenant),
            promised=job.promised,
        )
