"""Says in the log that the operator's credentials are refused.

To clients that is a 401 like any other: without this line, credentials that have run out look like
a private repository.
"""

import logging

from entrepot.clock import Clock
from entrepot.upstream.credentials import Credential

_log = logging.getLogger(__name__)

# Every pull would say it again.
_PAUSE_S = 300.0


class Refusals:
    def __init__(self, registry: str, clock: Clock) -> None:
        self._registry = registry
        self._clock = clock
        self._quiet_until = float("-inf")

    def refused(self, credential: Credential, said: str) -> None:
        """`said`: by whom, and in what words."""
        now = self._clock.now()
        if now < self._quiet_until:
            return
        self._quiet_until = now + _PAUSE_S
        user = (
            "by identity token" if credential.is_identity_token else f"user {credential.username}"
        )
        _log.warning("%s refuses the configured credentials (%s): %s", self._registry, user, said)
