"""One of the addresses at which a registry is reached, and how it stands."""

import logging
from dataclasses import dataclass

from entrepot.upstream.realm import Origin
from entrepot.upstream.standing import Rest

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Endpoint:
    registry: str
    url: str
    origin: Origin
    rest: Rest
    # Then nothing but a checkup says that it is well again: no request is spent on finding out.
    is_watched: bool = False
    problem: str = ""  # why it was last found unwell, in plain words

    def is_resting(self, now: float) -> bool:
        return self.rest.has_failed if self.is_watched else self.rest.is_resting(now)

    def failed(self, reason: str, now: float) -> None:
        if not self.rest.has_failed:
            logger.warning("%s cannot be asked: %s", self.registry, reason)
        self.problem = reason
        self.rest.failed(now)

    def answered(self) -> None:
        """A request of a client's."""
        if not self.is_watched:
            self.recovered()

    def recovered(self) -> None:
        if self.rest.has_failed:
            logger.info("%s answers again: %s", self.registry, self.origin)
        self.problem = ""
        self.rest.answered()
