"""Who asks, as far as a request shows it."""

import hashlib
import hmac
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Identity:
    """The client's own Authorization, or the proxy's rights (the operator's, else anonymous).

    `key` names an identity in what is kept: a keyed hash, from which nothing can be told.
    """

    key: str
    authorization: str | None = field(default=None, repr=False)
    is_expired: bool = False  # known from before an outage; its Authorization opens nothing now

    is_passing: bool = False  # its key is of one token, after which comes another
    is_stranger: bool = False  # has nobody's rights upstream, not even the operator's
    user: str = ""  # of a local registry: who logged in there
    former_keys: tuple[str, ...] = ()  # by which it was known under former secrets

    @property
    def is_own(self) -> bool:
        return self.authorization is not None

    @property
    def is_proxys(self) -> bool:
        """Whether it has the proxy's own rights, whichever those are there."""
        return not self.is_own and not self.is_stranger


PROXY = Identity("proxy")
# At registries of our own, where all that is let through is alike.
HOME = Identity("home")
# Where the operator's credentials do not serve this client.
STRANGER = Identity("stranger", is_stranger=True)


def operator_identity(username: str, helper: str) -> Identity:
    """By another name for each account: what one opened is not for who comes after it, be that
    another account or nobody.
    """
    name = hashlib.sha256(f"{username}\0{helper}".encode()).hexdigest()[:16]
    return Identity(f"operator-{name}")


def own_identity(authorization: str, secret: bytes) -> Identity:
    key = hmac.new(secret, authorization.encode(), hashlib.sha256).hexdigest()[:32]
    return Identity(key, authorization)
