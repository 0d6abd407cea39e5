"""What is said to the log once in a while for each client, however often it happens."""

import time
from collections import OrderedDict
from collections.abc import Callable

_EVERY_S = 300.0
# Bounds what clients of many addresses can fill; the one that was told longest ago is forgotten.
_CLIENTS_MAX = 1000


class Reminders:
    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._told: OrderedDict[str, float] = OrderedDict()

    def is_due(self, client: str) -> bool:
        """Whether to say it; it then counts as said."""
        now = self._now()
        if now < self._told.get(client, float("-inf")) + _EVERY_S:
            return False
        self._told[client] = now
        self._told.move_to_end(client)
        if len(self._told) > _CLIENTS_MAX:
            self._told.popitem(last=False)
        return True
