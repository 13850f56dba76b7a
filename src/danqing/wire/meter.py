"""What is counted about requests, and how it is written for Prometheus. Knows no route by name."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest

Counts = Mapping[str, float]
BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


class Meter:
    """One server's figures, in a registry of their own: two servers in one process do not mix."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._seconds = Histogram(
            "danqing_request_seconds",
            "Time from the request's head to the end of its answer.",
            ("route", "method", "status"),
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._figures = Gauge(
            "danqing_figures",
            "Jobs by state, and what else the store counts.",
            ("name",),
            registry=self._registry,
        )
        self._audit = Gauge(
            "danqing_audit", "The auditor's counts; every one must be 0.", ("name",), registry=self._registry
        )
        self._work = Gauge(
            "danqing_work",
            "Attempts ended since the start, by outcome, and the engine's seconds.",
            ("name",),
            registry=self._registry,
        )
        self._engine = Gauge(
            "danqing_engine",
            "What each worker's engine counts of itself since it started.",
            ("worker", "name"),
            registry=self._registry,
        )
        self._refused = Gauge(
            "danqing_refused",
            "Refusals told since the start, by what was refused; unchecked: nobody could say.",
            ("name",),
            registry=self._registry,
        )
        self._ready = Gauge("danqing_ready", "1 when a picture can be made.", registry=self._registry)

    def observe(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one answered request; `route` is the template, never the path."""
        self._seconds.labels(route, method, str(status)).observe(seconds)

    def show(
        self,
        *,
        figures: Counts,
        audit: Counts,
        work: Counts,
        refused: Counts,
        engines: Mapping[str, Counts],
        ready: bool,
    ) -> bytes:
        """The page for a scrape, in Prometheus' text format 0.0.4. `engines` by worker: those that are gone are shown
        no more."""
        self._engine.clear()
        for worker, counts in engines.items():
            for name, value in counts.items():
                self._engine.labels(worker, name).set(value)
        shown = (self._figures, figures), (self._audit, audit), (self._work, work), (self._refused, refused)
        for gauge, counts in shown:
            for name, value in counts.items():
                gauge.labels(name).set(value)
        self._ready.set(int(ready))
        return generate_latest(self._registry)
