"""Facts as they are kept in a ledger: JSON with a schema version, so that releases can differ."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

from entrepot.errors import InvalidReference
from entrepot.oci.digest import Digest
from entrepot.oci.media_type import accept_key
from entrepot.oci.reference import Repository, Tag
from entrepot.oci.route import parse_route

_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Binding:
    """A tag pointed to this content when the upstream was last asked."""

    digest: Digest
    media_type: str
    size: int
    checked_at: float


@dataclass(frozen=True, slots=True)
class Absence:
    """The upstream refused, or had nothing of that name."""

    status: int
    checked_at: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """The upstream let somebody read a repository."""

    checked_at: float


@dataclass(frozen=True, slots=True)
class Listing:
    """The answer to a tags, referrers or catalog request."""

    checked_at: float
    headers: dict[str, str] = field(default_factory=dict)


Fact = Binding | Absence | Verdict | Listing
_KINDS: dict[str, type[Fact]] = {
    kind.__name__: kind for kind in (Binding, Absence, Verdict, Listing)
}


def encode(fact: Fact) -> bytes:
    values = asdict(fact)
    if isinstance(fact, Binding):
        values["digest"] = str(fact.digest)
    return json.dumps({"v": _SCHEMA, "kind": type(fact).__name__, **values}).encode()


def decode(data: bytes | None) -> Fact | None:
    """None for what is not there or was written by a release that meant something else by it."""
    try:
        values: dict[str, Any] = json.loads(data) if data else {}
        if values.pop("v", None) != _SCHEMA:
            return None
        kind = _KINDS[values.pop("kind")]
        if kind is Binding:
            values["digest"] = Digest.parse(values["digest"])
        return kind(**values)
    except (ValueError, KeyError, TypeError, AttributeError, InvalidReference):
        return None


def tag_key(registry: str, repository: Repository, tag: Tag, accept: str) -> str:
    """Bound by what is accepted too: a registry answers with another type to an older client."""
    return f"{tag_prefix(registry, repository, tag)}{_short(accept_key(accept))}"


def tag_prefix(registry: str, repository: Repository, tag: Tag) -> str:
    return f"tag/{registry}/{repository}:{tag}#"


def verdict_key(registry: str, repository: Repository | None, identity: str) -> str:
    return f"verdict/{registry}/{repository or ''}#{identity}"


def member_key(registry: str, repository: Repository, digest: Digest) -> str:
    """Present when the upstream is known to hold this content in this repository."""
    return f"{member_prefix(digest)}{registry}/{repository}"


def member_prefix(digest: Digest) -> str:
    return f"member/{digest}#"


def holder_of(key: str) -> tuple[str, Repository]:
    """Registry and repository of a member's key."""
    registry, _, repository = key.partition("#")[2].partition("/")
    return registry, Repository(repository)


def absence_key(registry: str, path: str, identity: str, accept: str) -> str:
    """Of what is accepted too: there may be something for another client."""
    return f"{absence_prefix(registry, path)}{identity}#{_short(accept_key(accept))}"


def absence_prefix(registry: str, path: str) -> str:
    return f"absence/{registry}/{_short(path)}#"


def listing_key(registry: str, target: str, accept: str) -> str:
    repository = getattr(parse_route(target.partition("?")[0]), "repository", None)
    prefix = listing_prefix(registry, repository)
    return f"{prefix}{_short(target)}#{_short(accept_key(accept))}"


def listing_prefix(registry: str, repository: Repository | None) -> str:
    """Of all lists of a repository, or with none of those of the registry."""
    return f"list/{registry}/{repository or ''}#"


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]
