"""Wrong passwords in the log: with the client's address, and never so many that they fill it."""

import logging
from collections.abc import Callable

logger = logging.getLogger(__name__)

_LINES_MAX = 60
_WINDOW_S = 60.0
_NAME_MAX = 64


class FailureLog:
    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._since = float("-inf")
        self._lines = self._untold = self._refused = 0

    def wrong(self, client: str, user: str, count: int) -> None:
        self._turn()
        if self._lines >= _LINES_MAX:
            self._untold += 1
            return
        self._lines += 1
        # As a literal: a name with line ends, or with another client in it, is one name.
        shown = repr(user if len(user) <= _NAME_MAX else user[:_NAME_MAX] + "…")
        logger.warning(
            "login failed: client %s, user %s: wrong user name or password, %d from there so far",
            client,
            shown,
            count,
        )

    def refused(self) -> None:
        self._turn()
        self._refused += 1

    def _turn(self) -> None:
        """What was left out is told when the next one comes after the window."""
        now = self._now()
        if self._since <= now < self._since + _WINDOW_S:
            return
        if self._untold or self._refused:
            logger.warning(
                "logins failed besides: %d with a wrong user name or password, and %d that were"
                " refused unheard, as too many wrong ones came from where they came from",
                self._untold,
                self._refused,
            )
        self._since = now
        self._lines = self._untold = self._refused = 0
