"""How much of a device each tenant has had, so that those who wait get equal parts. Knows no job and no clock.

Start-time fair queueing (Goyal, Vin and Cheng, 1996): every unit of work is put on its tenant's account, at its
predicted cost, and the smallest account is served next. Whoever comes back after a pause starts at the smallest account
of those who are there: being away saves nothing up, and costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable


class Shares:
    """The accounts, in seconds of predicted work."""

    def __init__(self) -> None:
        """No tenant has had anything."""
        self._spent: dict[str, float] = {}

    def of(self, tenant: str) -> float:
        """What the tenant's account stands at."""
        return self._spent.get(tenant, 0.0)

    def enter(self, tenant: str, present: Iterable[str]) -> None:
        """A job of the tenant came; `present` are the tenants that had jobs here before it."""
        others = set(present)
        if tenant not in others and others:
            self._spent[tenant] = max(self.of(tenant), min(map(self.of, others)))

    def charge(self, tenant: str, seconds: float) -> None:
        """A unit of work of that predicted cost was done for the tenant."""
        self._spent[tenant] = self.of(tenant) + seconds

    def keep(self, present: Iterable[str]) -> None:
        """Forget all others: an account matters only beside others."""
        self._spent = {tenant: self._spent.get(tenant, 0.0) for tenant in present}
