"""Time as a collaborator, so that rules about time can be tested without waiting."""

import time
from typing import Protocol


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since the epoch: what is stored must mean the same after a restart."""
        ...


class SystemClock:
    def now(self) -> float:
        return time.time()
