"""A root of our own making: first start, and rotation.

    ca.key  ca.crt          the root that signs
    next.key  next.crt      its successor, with the time from which it signs in the certificate file
    previous.crt            its predecessor, for clients that have not fetched a bundle since

Who signs follows from the successor's time and the clock, not from who has moved which file: the
moves that make `next` to `ca` once its time has come are tidying, done by whoever comes first and
may write. Each step is one atomic rename, and every state between two steps means the same.

First start:  ca.crt.staged, ca.key, ca.crt; a crash after the key is made good from the staged one.
Rotation:     next.key, next.crt; without the certificate there is no successor.
Change-over:  previous.crt, next.key to ca.key, next.crt to ca.crt.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from entrepot.ca import files
from entrepot.ca.files import PRIVATE, PUBLIC, DatedCertificate
from entrepot.ca.issuer import (
    Issuer,
    Rotation,
    SigningKey,
    Standing,
    belongs,
    key_pem,
    make_root,
    moment,
)
from entrepot.ca.names import constrain
from entrepot.errors import ConfigError, system_reason

# A node beside this one that has not been told yet still signs with the old root; a client that
# fetched a bundle without it would refuse that node.
PREVIOUS_KEPT_S = 30 * 86400.0
# An old root must not expire before the successor signs, whatever overlap was asked for.
_BEFORE_EXPIRY_S = 86400.0


@dataclass(frozen=True, slots=True)
class _Pair:
    key: SigningKey
    dated: DatedCertificate

    @property
    def issuer(self) -> Issuer:
        return Issuer(self.key, self.dated.certificate, (), self.dated.certificate)

    @property
    def signs_from(self) -> float:
        return self.dated.signs_from or 0.0


@dataclass(frozen=True, slots=True)
class _Generations:
    incumbent: _Pair | None
    heir: _Pair | None
    # What the incumbent's certificate file holds, whether or not its key is still there.
    current: DatedCertificate | None
    previous: DatedCertificate | None
    # The heir's key has taken the incumbent's place already: a change-over broke off.
    is_changing: bool

    def heir_signs(self, now: float) -> bool:
        return self.heir is not None and (self.is_changing or self.heir.signs_from <= now)


class Own:
    """The directory is shared: with other processes, the command line, the operator's hands."""

    remedy = "rotate it (entrepot ca rotate)"

    def __init__(self, directory: Path, *, names: Sequence[str], is_constrained: bool) -> None:
        self.directory = directory
        self._constraints = constrain(names) if is_constrained else None
        self._key, self._certificate = directory / "ca.key", directory / "ca.crt"
        self._next_key, self._next = directory / "next.key", directory / "next.crt"
        self._previous = directory / "previous.crt"
        self._staged = directory / "ca.crt.staged"

    @property
    def files(self) -> tuple[Path, ...]:
        return (self._next_key, self._key, self._next, self._certificate, self._previous)

    def exists(self) -> bool:
        return any(path.exists() for path in (self._key, self._certificate))

    def settle(self, now: float, *, create: bool) -> None:
        """Finish what a crash interrupted; make a root where there is none."""
        try:
            if create:
                files.make_private_directory(self.directory)
            with files.locked(self.directory, wait=True) as is_held:
                if is_held:
                    self._recover()
                if create and not self.exists():
                    if not is_held:
                        raise ConfigError(f"{self.directory} cannot be written to, or locked")
                    self._make_first(now)
        except OSError as error:
            raise ConfigError(
                f"the CA's directory {self.directory} cannot be used: {system_reason(error)}"
            ) from error

    def load(self, now: float) -> Standing:
        # Without waiting: this runs between two connections. And whatever keeps us from tidying,
        # a directory mounted read-only or a full disk, changes nothing in what holds.
        with files.locked(self.directory, wait=False) as is_held, suppress(OSError):
            if is_held:
                self._recover()
                self._change_over(now)
        return self._stand(self._read(), now)

    def rotate(self, now: float, overlap_s: float) -> Rotation:
        """A successor that signs after the overlap; at once without one."""
        try:
            with files.locked(self.directory, wait=True) as is_held:
                if not is_held:
                    raise ConfigError(f"{self.directory} cannot be written to, or locked")
                self._recover()
                return self._rotate(now, overlap_s)
        except OSError as error:
            raise ConfigError(f"rotation failed in {self.directory}: {error.strerror}") from error

    def _rotate(self, now: float, overlap_s: float) -> Rotation:
        self._change_over(now)
        standing = self._stand(self._read(), now)
        if standing.rotation is not None:
            raise ConfigError(
                "a rotation is pending: the next CA signs from"
                f" {moment(standing.rotation.signs_from)}; rotate again after that"
            )
        latest = max(now, standing.issuer.expires_at - _BEFORE_EXPIRY_S)
        signs_from = float(int(min(now + overlap_s, latest)))
        root = make_root(now, self._constraints)
        self._next_key.unlink(missing_ok=True)  # half a successor: nobody has seen its certificate
        self._next.unlink(missing_ok=True)
        files.create(self._next_key, key_pem(root.key), PRIVATE)
        files.create(self._next, DatedCertificate(root.certificate, signs_from).pem(), PUBLIC)
        self._change_over(now)
        return Rotation(root.certificate, signs_from)

    def _make_first(self, now: float) -> None:
        root = make_root(now, self._constraints)
        files.replace(self._staged, DatedCertificate(root.certificate).pem(), PUBLIC)
        files.create(self._key, key_pem(root.key), PRIVATE)
        self._recover()

    def _recover(self) -> None:
        """Under the lock."""
        files.sweep(self.directory)
        staged = files.read_dated(self._staged)
        if staged is None:
            return
        key = files.read_key(self._key)
        if key is not None and not self._certificate.exists():
            if not belongs(key, staged.certificate):
                return  # not from one start: for the operator to look at
            files.create(self._certificate, staged.pem(), PUBLIC)
        self._staged.unlink()

    def _change_over(self, now: float) -> None:
        """Under the lock: the successor becomes the CA in the files too, when its time has come."""
        generations = self._read()
        if not generations.heir_signs(now):
            return
        if generations.current is not None:
            files.replace(self._previous, generations.current.pem(), PUBLIC)
        if not generations.is_changing:
            files.move(self._next_key, self._key)
        files.move(self._next, self._certificate)

    def _read(self) -> _Generations:
        # Without the lock too. A change-over moves keys before certificates and `next` to `ca`, so
        # in this order what is read in the midst of one holds each pair at least once.
        next_key, key = files.read_key(self._next_key), files.read_key(self._key)
        following = files.read_dated(self._next)
        current = files.read_dated(self._certificate)
        previous = files.read_dated(self._previous)
        heir = _pair(following, next_key, key)
        return _Generations(
            incumbent=_pair(current, key, next_key),
            heir=heir,
            current=current,
            previous=previous,
            is_changing=heir is not None and heir.key is key,
        )

    def _stand(self, generations: _Generations, now: float) -> Standing:
        heir_signs = generations.heir_signs(now)
        signer = generations.heir if heir_signs else generations.incumbent
        if signer is None:
            raise ConfigError(self._describe_half(generations))
        bundle, changes, rotation = [signer.dated.certificate], [], None
        if generations.heir is not None and not heir_signs:
            rotation = Rotation(generations.heir.dated.certificate, generations.heir.signs_from)
            bundle.append(rotation.certificate)
            changes.append(rotation.signs_from)
        old = _predecessor(signer, generations)
        if old is not None and now < (leaves_at := _leaves_bundle_at(old, signer)):
            bundle.append(old)
            changes.append(leaves_at)
        return Standing(
            signer.issuer,
            tuple(bundle),
            rotation,
            until=min(changes, default=float("inf")),
            warnings=(*files.exposed(self._key), *files.exposed(self._next_key)),
        )

    def _describe_half(self, generations: _Generations) -> str:
        has_key, has_certificate = self._key.exists(), generations.current is not None
        if not has_key and not has_certificate:
            return f"there is no CA in {self.directory}: `entrepot ca init` makes one"
        if has_key and has_certificate:
            return f"{self._key} is not the key of {self._certificate}: restore both from a backup"
        there, missing = (
            (self._key, self._certificate) if has_key else (self._certificate, self._key)
        )
        return (
            f"{there} is there, {missing} is not: restore it from a backup, or move {there} away"
            " to have a new CA made, which clients must then be given to trust"
        )


def _pair(dated: DatedCertificate | None, *keys: SigningKey | None) -> _Pair | None:
    if dated is None:
        return None
    matching = (key for key in keys if key is not None and belongs(key, dated.certificate))
    return next((_Pair(key, dated) for key in matching), None)


def _predecessor(signer: _Pair, generations: _Generations) -> x509.Certificate | None:
    """Before the change-over in the files it is in `ca.crt` still, after it in `previous.crt`."""
    candidates = [generations.previous]
    if signer is generations.heir:
        candidates.insert(0, generations.current)
    others = (one.certificate for one in candidates if one is not None)
    return next((one for one in others if one != signer.dated.certificate), None)


def _leaves_bundle_at(old: x509.Certificate, signer: _Pair) -> float:
    expires_at = old.not_valid_after_utc.timestamp()
    if signer.dated.signs_from is None:  # not of a rotation of ours: only its expiry ends it
        return expires_at
    return min(expires_at, signer.dated.signs_from + PREVIOUS_KEPT_S)
