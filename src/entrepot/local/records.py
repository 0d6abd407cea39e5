"""What jobs, proxies and pushes leave in the ledger: JSON with a schema version."""

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from entrepot.oci.reference import Repository, Tag

_SCHEMA = 1


class Phase(StrEnum):
    CLAIMING = "claiming"  # not yet sure to be the only job
    PREPARING = "preparing"  # the only job; writes pass
    CLOSING = "closing"  # new pushes are refused, running ones end
    CLOSED = "closed"  # nothing is written


@dataclass(frozen=True, slots=True)
class Hold:
    """A job's claim on a registry. Expires by itself unless it is renewed."""

    owner: str
    job: str  # what for, in words
    phase: Phase
    since: float

    @property
    def stage(self) -> str:
        """What a proxy acknowledges."""
        return f"{self.owner}/{self.phase}"


@dataclass(frozen=True, slots=True)
class Presence:
    """A proxy process that may write to a registry, and what it is about."""

    process: str
    seen: str = ""  # the stage of the hold that it obeys
    running: int = 0  # writes that are on their way
    pushes: tuple[str, ...] = ()  # repositories with a push that has begun and not ended


@dataclass(frozen=True, slots=True)
class Pushed:
    """When a tag came to point where it does; `is_seen`: when that was first noticed."""

    at: float
    digest: str
    is_seen: bool = False


def encode(record: Hold | Presence | Pushed) -> bytes:
    return json.dumps({"v": _SCHEMA, **asdict(record)}).encode()


def decode_hold(data: bytes) -> Hold:
    """What cannot be read holds everything back: it is another release's, and still a hold."""
    values = _values(data)
    try:
        return Hold(**{**values, "phase": Phase(values["phase"])})
    except (KeyError, TypeError, ValueError):
        return Hold("", "it is looked after by another release of this program", Phase.CLOSED, 0)


def decode_presence(data: bytes) -> Presence:
    """What cannot be read is a process that acknowledges nothing."""
    values = _values(data)
    try:
        return Presence(**{**values, "pushes": tuple(values["pushes"])})
    except (KeyError, TypeError):
        return Presence("")


def decode_pushed(data: bytes | None) -> Pushed | None:
    try:
        return Pushed(**_values(data or b""))
    except TypeError:
        return None


def _values(data: bytes) -> dict[str, Any]:
    """Empty for what another release meant something else by."""
    try:
        values: dict[str, Any] = json.loads(data)
        return values if values.pop("v", None) == _SCHEMA else {}
    except (ValueError, AttributeError):
        return {}


def hold_prefix(registry: str) -> str:
    return f"hold/{registry}#"


def hold_key(registry: str, owner: str) -> str:
    return f"{hold_prefix(registry)}{owner}"


def presence_prefix(registry: str) -> str:
    return f"presence/{registry}#"


def presence_key(registry: str, process: str) -> str:
    return f"{presence_prefix(registry)}{process}"


def pushed_prefix(registry: str, repository: Repository) -> str:
    return f"push/{registry}/{repository}:"


def pushed_key(registry: str, repository: Repository, tag: Tag) -> str:
    return f"{pushed_prefix(registry, repository)}{tag}"


def slot_key(registry: str) -> str:
    """Which of the scheduled times has been seen to."""
    return f"slot/{registry}"


def doomed_prefix(registry: str) -> str:
    """What a collection is about to remove, and the cache must then not say that it is there."""
    return f"doomed/{registry}#"


def doomed_key(registry: str, number: int) -> str:
    return f"{doomed_prefix(registry)}{number}"
