"""What the proxy holds: leaves for hosts, and the bundle that clients are to trust."""

import logging
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from cryptography.hazmat.primitives.asymmetric import ec

from entrepot.ca.brought import Brought
from entrepot.ca.issuer import Issuer, Standing, fingerprint, moment, pem
from entrepot.ca.leaf import Leaf, issue_leaf
from entrepot.ca.names import constraints_of, uncovered
from entrepot.ca.own import Own
from entrepot.clock import Clock
from entrepot.config.model import Ca, Config
from entrepot.errors import ConfigError

DAY_S = 86400.0
# How soon a rotated CA or replaced files are noticed.
_LOOK_EVERY_S = 60.0
# Far more than anyone intercepts; it bounds what clients that make up names can fill.
_LEAVES_MAX = 1000
# Three times the default overlap of a rotation.
_WARN_DAYS = 90.0

logger = logging.getLogger(__name__)


class Source(Protocol):
    """Where the CA is from: `Own` or `Brought`."""

    @property
    def files(self) -> tuple[Path, ...]: ...

    @property
    def remedy(self) -> str:
        """What the operator does about a CA that will not do."""
        ...

    def load(self, now: float) -> Standing: ...


@dataclass(frozen=True, slots=True)
class Statistics:
    leaves_cached: int
    leaves_made: int
    reloads: int
    expires_at: float
    is_rotating: bool


class Authority:
    """For one thread. What it says is at most a minute behind the files.

    Files that cannot be read later on change nothing: the last good state signs on, until it
    expires, and `warnings` says why.
    """

    def __init__(self, source: Source, clock: Clock, expectations: "Expectations") -> None:
        self._source, self._clock, self._expectations = source, clock, expectations
        # One key for all leaves of a process: it only signs handshakes, whose secrecy rests on
        # their ephemeral keys, and who can read this one from memory finds the CA's beside it.
        self._leaf_key = ec.generate_private_key(ec.SECP256R1())
        self._leaves: OrderedDict[str, Leaf] = OrderedDict()
        self._made = self._reloads = 0
        self._problem = ""
        self._looked_at = clock.now()
        self._stamps = _stamps(source.files)
        self._standing = source.load(self._looked_at)

    @classmethod
    def open(
        cls,
        directory: Path,
        settings: Ca,
        clock: Clock,
        registries: Sequence[str],
        *,
        create: bool = True,
    ) -> Self:
        """Makes a root of our own where none is configured nor in the directory.

        `registries` is all that is to be vouched for: `names.vouched_names` of the configuration.
        """
        source = source_of(directory, settings, registries)
        if isinstance(source, Own):
            source.settle(clock.now(), create=create)
        expectations = Expectations(tuple(registries), is_constrained=settings.name_constraints)
        return cls(source, clock, expectations)

    def leaf(self, host: str) -> Leaf:
        """ValueError for what is no host name; ConfigError while the CA itself is not valid."""
        now = self._clock.now()
        issuer = self._look(now).issuer
        leaf = self._leaves.get(host)
        # A clock that was set back makes leaves of the future.
        if leaf is not None and leaf.valid_from <= now < leaf.renew_at:
            self._leaves.move_to_end(host)
            return leaf
        try:
            leaf = issue_leaf(issuer, host, self._leaf_key, now)
        except ConfigError as error:
            raise ConfigError(f"{error}: {self._source.remedy}") from None
        self._made += 1
        self._leaves[host] = leaf
        self._leaves.move_to_end(host)
        if len(self._leaves) > _LEAVES_MAX:
            self._leaves.popitem(last=False)
        return leaf

    @property
    def standing(self) -> Standing:
        return self._look(self._clock.now())

    def bundle_pem(self) -> bytes:
        """What `/ca.crt` serves: the root, in a rotation then the coming or the old one."""
        return pem(self.standing.bundle)

    @property
    def fingerprint_sha256(self) -> str:
        """Of the root that clients trust, in hex; see `with_colons` for people."""
        return fingerprint(self.standing.issuer.anchor)

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """Of all that `bundle_pem` holds, the signing one first."""
        return tuple(fingerprint(certificate) for certificate in self.standing.bundle)

    @property
    def expires_at(self) -> float:
        """When the first of root, chain and signing certificate does."""
        return self.standing.issuer.expires_at

    def days_left(self, now: float) -> float:
        return (self.expires_at - now) / DAY_S

    @property
    def warnings(self) -> tuple[str, ...]:
        now = self._clock.now()
        standing = self._look(now)
        problem = (self._problem,) if self._problem else ()
        unmet = self._expectations.unmet(standing.issuer, now)
        expected = (f"{one}: {self._source.remedy}" for one in unmet)
        return (*problem, *standing.warnings, *expected)

    def statistics(self) -> Statistics:
        standing = self.standing
        return Statistics(
            leaves_cached=len(self._leaves),
            leaves_made=self._made,
            reloads=self._reloads,
            expires_at=standing.issuer.expires_at,
            is_rotating=standing.rotation is not None,
        )

    def _look(self, now: float) -> Standing:
        """Cheap: a comparison of times, and five `stat` a minute."""
        until = self._standing.until
        is_due = self._looked_at < until <= now
        if 0 <= now - self._looked_at < _LOOK_EVERY_S and not is_due:
            return self._standing
        self._looked_at = now
        # Before reading: what changes while we read is then seen as a change next time.
        stamps = _stamps(self._source.files)
        if stamps != self._stamps or now >= until or self._problem:
            self._reload(now, stamps)
        return self._standing

    def _reload(self, now: float, stamps: tuple["_Stamp", ...]) -> None:
        try:
            standing = self._source.load(now)
        except ConfigError as error:
            if str(error) != self._problem:
                logger.warning(
                    "the CA on disk cannot be used, the one in memory goes on: %s", error
                )
            self._problem = str(error)
            return
        self._problem = ""
        self._stamps = stamps
        self._reloads += 1
        if standing.issuer.all != self._standing.issuer.all:
            logger.info("the CA is another one: %s", fingerprint(standing.issuer.anchor))
            self._leaves.clear()
        self._standing = standing


@dataclass(frozen=True, slots=True)
class Expectations:
    """What the configuration asks of the CA, whoever made it and when."""

    names: tuple[str, ...]
    is_constrained: bool

    def unmet(self, issuer: Issuer, now: float) -> Iterator[str]:
        days = (issuer.expires_at - now) / DAY_S
        if days <= 0:
            yield f"the CA expired on {moment(issuer.expires_at):%Y-%m-%d}, and signs no more"
        elif days < _WARN_DAYS:
            yield f"the CA expires in {days:.0f} days"
        if missing := uncovered(issuer.all, self.names):
            yield f"clients will refuse {', '.join(missing)}, which the CA's name constraints omit"
        if self.is_constrained and not any(map(constraints_of, issuer.all)):
            yield "ca.name_constraints is set, but the CA was made without"


def directory_of(config: Config) -> Path:
    return config.ca.directory or config.data / "ca"


def source_of(directory: Path, settings: Ca, names: Sequence[str]) -> Own | Brought:
    match settings.certificate, settings.key:
        case None, None:
            return Own(directory, names=names, is_constrained=settings.name_constraints)
        case Path() as certificate, Path() as key:
            return Brought(certificate, key)
        case None, _:
            raise ConfigError("ca.key is set, ca.certificate is not: both or none")
        case _:
            raise ConfigError("ca.certificate is set, ca.key is not: both or none")


def with_colons(fingerprint_hex: str) -> str:
    """As OpenSSL and browsers show it."""
    digits = fingerprint_hex.upper()
    return ":".join(digits[i : i + 2] for i in range(0, len(digits), 2))


type _Stamp = tuple[int, int, int] | None


def _stamps(paths: Sequence[Path]) -> tuple[_Stamp, ...]:
    return tuple(map(_stamp, paths))


def _stamp(path: Path) -> _Stamp:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
