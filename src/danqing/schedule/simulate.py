"""What a policy would make of a traffic, on devices that exist on paper. Knows no model, no thread and no clock.

The engine's own policies choose, unit by unit, with the costs that its cost model predicts, and who steps together
takes as long as the engine's own table says; what is left out is all that costs nothing in comparison: decoding of
inputs, the way of the pictures, the policy's own time. Requests go to the device that would be done first with what it
has, were nothing shared there, as a server's queue sends them, and stay there.
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

_CROWD = 1024
"""More lanes than any policy steps together."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of request: its share of the traffic, the seconds it takes alone, and the units it is done in."""

    share: float
    seconds: float
    units: int = 8
    tokens: int = 0
    """Target tokens of its picture; 0 for one that steps with no other."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a traffic: when it comes, what it takes alone in how many units, and whose it is."""

    arrived: float
    seconds: float
    units: int
    tenant: str = ""
    tokens: int = 0
    """Target tokens of its picture: those of as many may step together. 0 for one that steps with no other."""
    before: int = 0
    """Units before the first step: they are not shared."""


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
        whose = f"tenant {draw.randrange(tenants)}"
        made.append(Request(now, kind.seconds, kind.units, whose, tokens=kind.tokens))
    return made


def simulate(requests: Iterable[Request], policy: Policy, *, devices: int = 1) -> Report:
    """Send every request to a device and let the policy choose there."""
    ended: dict[int, Outcome] = {}
    for share in _shared_out(requests, devices):
        ended |= _Device(policy).run(share)
    return Report(tuple(ended[place] for place in sorted(ended)))


def _shared_out(requests: Iterable[Request], devices: int) -> list[list[tuple[int, Request]]]:
    """What each device is sent, and at which place of the traffic."""
    queue = [(0.0, device) for device in range(devices)]
    given: list[list[tuple[int, Request]]] = [[] for _ in range(devices)]
    for place, request in enumerate(requests):
        # A device is never idle while it has work, so when it would be done does not depend on the order.
        done, device = heapq.heappop(queue)
        given[device].append((place, request))
        heapq.heappush(queue, (max(done, request.arrived) + request.seconds, device))
    return given


def keeps(requests: Sequence[Request], policy: Policy, *, devices: int, goal: float) -> bool:
    """Whether so many devices do the share `goal` of the requests on time. As `simulate`, but for devices that need not
    be played since too many are late already."""
    late = 0
    for share in _shared_out(requests, devices):
        late += sum(one.stretch > PROMISE for one in _Device(policy).run(share).values())
        if (len(requests) - late) / len(requests) < goal:
            return False
    return True


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
    """The fewest devices that do the share `goal` of `rate` requests a second on time; None if `most` do not. Fewer are
    tried first than would be busy all the time, and more and more from there: few are nearly always enough."""
    mean = sum(kind.share * kind.seconds for kind in mix) / sum(kind.share for kind in mix)

    def enough(devices: int) -> bool:
        load = rate * mean / devices
        asked = traffic(mix, load=load, devices=devices, count=count, seed=seed)
        return keeps(asked, policy, devices=devices, goal=goal)

    low, step = int(rate * _least(mix, policy)), 1
    while low < most:
        high = min(most, low + step)
        if enough(high):
            break
        low, step = high, 2 * step
    else:
        return None
    while high - low > 1:
        tried = (low + high) // 2
        low, high = (low, tried) if enough(tried) else (tried, high)
    return high


def _least(mix: Sequence[Kind], policy: Policy) -> float:
    """Seconds that a request of the mix takes of a device on which it never steps but in the best company."""
    best = [
        policy.together(kind.tokens, policy.width(kind.tokens, _CROWD)) if kind.tokens else 1.0
        for kind in mix
    ]
    work = sum(kind.share * kind.seconds * saved for kind, saved in zip(mix, best, strict=True))
    return work / sum(kind.share for kind in mix)


@dataclass(slots=True)
class _Job:
    """A request on a device: how many units are done, and when it last advanced."""

    place: int
    request: Request
    served: float
    done: int = 0
    promised: float | None = None
    lane: Lane | None = None
    """What a policy saw of it last, if it stands as it stood then."""

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
        """One unit of the jobs that the policy chooses; those that ended with it."""
        if len(self.jobs) == 1:
            group = [*self.jobs.values()]
            (job,) = group
            units = job.request.units - job.done
            if until is not None:  # alone until the next one comes: those units need no choice
                units = min(units, max(1, int((until - self.now) / job.unit)))
        else:
            group, units = [self.jobs[lane.job] for lane in self.policy.choose(self._lanes(), self.now)], 1
        for job in group:
            if self.policy.heeds and not job.done:
                self._foretell(job)
        saved = self.policy.together(group[0].request.tokens, len(group)) if len(group) > 1 else 1.0
        self.now += units * saved * sum(job.unit for job in group)
        return [job for job in group if self._book(job, units, saved)]

    def _book(self, job: _Job, units: int, saved: float) -> bool:
        """So many units of the job were done, at a part of what they take alone; whether it is at its end."""
        job.done += units
        job.served, job.lane = self.now, None
        self.shares.charge(job.request.tenant, units * saved * job.unit)
        if job.done < job.request.units:
            return False
        del self.jobs[str(job.place)]
        self.outlook.end(str(job.place), finished=True)
        return True

    def _foretell(self, job: _Job) -> None:
        """As the engine does when a job begins."""
        name = str(job.place)
        self.outlook.look(
            lambda: [Ahead(lane, self.jobs[lane.job].unit) for lane in self._lanes()], until=name
        )
        job.promised = self.outlook.begin(name)

    def _lanes(self) -> list[Lane]:
        """What a policy sees. An account is of use beside others only: where there is one, it stands at nothing, and
        what was seen of jobs that stand still is good for longer."""
        several = len({job.request.tenant for job in self.jobs.values()}) > 1
        for name, job in self.jobs.items():
            spent = self.shares.of(job.request.tenant) if several else 0.0
            if job.lane is None or job.lane.spent != spent:
                job.lane = _lane(name, job, spent)
        return [job.lane for job in self.jobs.values() if job.lane]


def _lane(name: str, job: _Job, spent: float) -> Lane:
    request = job.request
    return Lane(
        job=name,
        index=0,
        stage=Stage.PREFILL if job.done < request.before else Stage.STEP,
        step=job.done,
        tokens=request.tokens or 1,
        arrived=request.arrived,
        served=job.served,
        left=job.left,
        tenant=request.tenant,
        solo=request.seconds,
        spent=spent,
        promised=job.promised,
        company=request.tokens or None,
    )
