"""The pushes to one registry that are on their way through this process.

A push is uploads and then a manifest under a tag. Between these steps nothing is running, and
still it has not ended.
"""

from dataclasses import dataclass
from enum import Enum, auto

from entrepot.clock import Clock
from entrepot.oci.reference import Repository

# Between two steps of a push. Docker, buildx and skopeo leave less than a second; who has given up
# delays a collection by no more than this.
IDLE_S = 60.0


class Step(Enum):
    UPLOAD = auto()  # POST: a blob is begun, or mounted
    PART = auto()  # all that follows it
    MANIFEST = auto()  # by digest: of an index that is still to come
    TAG = auto()  # the last one
    DELETION = auto()
    OTHER = auto()


@dataclass(frozen=True, slots=True)
class Write:
    registry: str
    repository: Repository | None
    client: str
    step: Step

    @property
    def is_of_push(self) -> bool:
        return self.step not in {Step.DELETION, Step.OTHER}


@dataclass(slots=True)
class _Push:
    running: int = 0
    is_begun: bool = False  # and awaits its end
    last: float = 0.0


class Pushes:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pushes: dict[tuple[Repository, str], _Push] = {}
        self.running = 0

    def began(self, write: Write) -> None:
        self.running += 1
        if write.repository is not None and write.is_of_push:
            push = self._pushes.setdefault((write.repository, write.client), _Push())
            push.running += 1
            push.last = self._clock.now()

    def ended(self, write: Write, *, is_done: bool | None) -> None:
        """None: there was no answer, and it may have been done."""
        self.running -= 1
        key = (write.repository or Repository(""), write.client)
        push = self._pushes.get(key)
        if push is None or not write.is_of_push:
            return
        push.running -= 1
        push.last = self._clock.now()
        if write.step is Step.TAG and is_done:
            push.is_begun = push.running > 0
        elif is_done is not False:
            push.is_begun = True
        if not push.running and not push.is_begun:
            del self._pushes[key]

    def has_begun(self, repository: Repository | None) -> bool:
        return repository in self.repositories()

    def repositories(self) -> tuple[Repository, ...]:
        """With a push that has begun; those that have gone silent are dropped."""
        now = self._clock.now()
        for key, push in list(self._pushes.items()):
            if not push.running and not 0 <= now - push.last < IDLE_S:
                del self._pushes[key]
        return tuple(sorted({repository for repository, _ in self._pushes}))
