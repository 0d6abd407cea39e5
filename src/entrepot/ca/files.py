"""Reading and writing keys and certificates: whole or not at all, and for the right eyes only."""

import errno
import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from entrepot.ca.issuer import SigningKey, moment, pem
from entrepot.errors import ConfigError, system_reason

PRIVATE, PUBLIC = 0o600, 0o644
_LOCK = ".lock"
_TEMPORARY = ".new-"
# Verifiers at OpenSSL's security level 2 (Debian's and Fedora's default) refuse shorter ones.
_RSA_BITS_MIN = 2048
# RFC 7468 section 5.2 lets text stand before a block; so the time is as atomic as the certificate.
_SIGNS_FROM = "Signs from: "
_SIGNS_FROM_LINE = re.compile(rb"^Signs from: (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class DatedCertificate:
    certificate: x509.Certificate
    signs_from: float | None = None

    def pem(self) -> bytes:
        if self.signs_from is None:
            return pem([self.certificate])
        return f"{_SIGNS_FROM}{moment(self.signs_from).isoformat()}\n".encode() + pem(
            [self.certificate]
        )


def read_certificates(path: Path) -> tuple[x509.Certificate, ...]:
    """None at all where there is no such file."""
    content = _read(path)
    return () if content is None else _parse_certificates(path, content)


def read_dated(path: Path) -> DatedCertificate | None:
    """None where there is no such file."""
    content = _read(path)
    if content is None:
        return None
    line = _SIGNS_FROM_LINE.search(content)
    try:
        time = datetime.fromisoformat(line[1].decode()).timestamp() if line else None
    except ValueError as error:
        raise ConfigError(f"{path}: no time in the line that begins with {_SIGNS_FROM}") from error
    return DatedCertificate(_parse_certificates(path, content)[0], time)


def read_key(path: Path) -> SigningKey | None:
    """None where there is no such file."""
    content = _read(path)
    if content is None:
        return None
    try:
        key = load_pem_private_key(content, None)
    except TypeError as error:  # what cryptography says to a missing password
        raise ConfigError(
            f"{path} is encrypted; the CA's key must be readable without a password"
            f" (openssl pkey -in {path} -out plain.key)"
        ) from error
    except ValueError as error:
        raise ConfigError(f"{path} holds no private key in PEM that can be read") from error
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= _RSA_BITS_MIN:
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key
    raise ConfigError(f"{path}: the CA's key must be EC, or RSA of {_RSA_BITS_MIN} bits or more")


def exposed(path: Path) -> tuple[str, ...]:
    """A warning where others than the owner may read; mounted secrets often are so."""
    with suppress(OSError):
        mode = path.stat().st_mode & 0o777
        if mode & 0o077:
            return (f"{path} can be read by others (mode {mode:04o}): chmod 600 {path}",)
    return ()


@contextmanager
def locked(directory: Path, *, wait: bool) -> Iterator[bool]:
    """Whether we are the only writer; never where the directory cannot be written to."""
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        lock = os.open(directory / _LOCK, flags, PRIVATE)
    except OSError:
        yield False
        return
    try:
        _give_to_owner(lock, directory)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            yield False
            return
        yield True
    finally:
        os.close(lock)


def make_private_directory(directory: Path) -> None:
    parent = directory.parent
    parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700)
        # Not by name: in a service user's directory a name can come to mean something else.
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            os.fchmod(descriptor, 0o700)  # whatever the umask
            _give_to_owner(descriptor, parent)
        finally:
            os.close(descriptor)


def create(path: Path, content: bytes, mode: int) -> None:
    """FileExistsError rather than over what is there, whoever put it there."""
    temporary = _write_temporary(path.parent, content, mode)
    link_new(temporary, path)
    temporary.unlink()
    _sync_directory(path.parent)


def replace(path: Path, content: bytes, mode: int) -> None:
    _write_temporary(path.parent, content, mode).replace(path)
    _sync_directory(path.parent)


def move(source: Path, target: Path) -> None:
    source.replace(target)
    _sync_directory(source.parent)


def link_new(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        # Shared folders of virtual machines and FAT know no links. There the lock that callers
        # hold keeps the other processes of ours away.
        if error.errno not in {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS}:
            raise
        if target.exists():
            raise FileExistsError(errno.EEXIST, "exists", str(target)) from error
        replace(target, source.read_bytes(), source.stat().st_mode & 0o777)


def sweep(directory: Path) -> None:
    """Under the lock: what a crashed writer left, keys that nobody has seen among it."""
    for leftover in directory.glob(f"{_TEMPORARY}*"):
        leftover.unlink()


def _write_temporary(directory: Path, content: bytes, mode: int) -> Path:
    descriptor, name = tempfile.mkstemp(prefix=_TEMPORARY, dir=directory)  # made 0600
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        os.fchmod(descriptor, mode)
        _give_to_owner(descriptor, directory)
        file.flush()
        os.fsync(descriptor)
    return Path(name)


def _give_to_owner(descriptor: int, directory: Path) -> None:
    """Root at the command line must not leave files that the service's user cannot read."""
    owner = directory.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {system_reason(error)}") from error


def _parse_certificates(path: Path, content: bytes) -> tuple[x509.Certificate, ...]:
    try:
        return tuple(x509.load_pem_x509_certificates(content))
    except ValueError as error:
        raise ConfigError(f"{path} holds no certificate in PEM that can be read") from error
