"""How long the upstream's word on who may read a repository is believed."""

from enum import Enum, auto

from entrepot.cache.record import Verdict
from entrepot.config.model import Auth


class Standing(Enum):
    FRESH = auto()  # serve
    AGED = auto()  # ask; serve if the upstream cannot answer
    UNKNOWN = auto()  # ask; refuse if it cannot


def standing(verdict: Verdict | None, settings: Auth, now: float) -> Standing:
    if verdict is None:
        return Standing.UNKNOWN
    age = now - verdict.checked_at
    if 0 <= age < settings.verdict_ttl:
        return Standing.FRESH
    return (
        Standing.AGED if age < settings.verdict_ttl + settings.offline_grace else Standing.UNKNOWN
    )
