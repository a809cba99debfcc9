"""Where the time comes from, so that a test may stand still."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol, final

__all__ = ["Clock", "SystemClock", "rfc3339"]


class Clock(Protocol):
    """Wall time for records, monotonic seconds for durations."""

    def now(self) -> datetime:
        """The aware UTC time."""
        ...

    def monotonic_s(self) -> float:
        """Seconds since some fixed instant; only differences mean something."""
        ...


@final
class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        return time.perf_counter()


def rfc3339(moment: datetime) -> str:
    """`2026-01-31T12:00:00.123456Z`."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
