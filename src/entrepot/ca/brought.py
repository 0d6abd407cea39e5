"""A root or intermediate that the operator brings along, with its chain."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from cryptography import x509

from entrepot.ca import files
from entrepot.ca.issuer import Issuer, SigningKey, Standing, belongs, is_issued_by, moment
from entrepot.errors import ConfigError


class Brought:
    """Read from where it lies and never written; replaced files are noticed as rotated ones are."""

    remedy = "replace the files of ca.certificate and ca.key"

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate, self._key = certificate, key

    @property
    def files(self) -> tuple[Path, ...]:
        return (self._certificate, self._key)

    def load(self, now: float) -> Standing:
        certificates = files.read_certificates(self._certificate)
        if not certificates:
            raise ConfigError(f"ca.certificate: there is no {self._certificate}")
        key = files.read_key(self._key)
        if key is None:
            raise ConfigError(f"ca.key: there is no {self._key}")
        where = f"ca.certificate: {self._certificate}"
        _check_key(where, key, certificates)
        for certificate in certificates:
            _check_signs(where, certificate, now)
        _check_order(where, certificates)
        anchor = certificates[-1]
        issuer = Issuer(
            key,
            certificates[0],
            chain=tuple(one for one in certificates if not is_issued_by(one, one)),
            anchor=anchor,
        )
        warnings = (*files.exposed(self._key), *_warn(self._certificate, issuer))
        return Standing(issuer, (anchor,), warnings=warnings)


def _check_key(where: str, key: SigningKey, certificates: Sequence[x509.Certificate]) -> None:
    if belongs(key, certificates[0]):
        return
    if any(belongs(key, certificate) for certificate in certificates[1:]):
        raise ConfigError(
            f"{where}: ca.key belongs to a certificate further down; the one that signs comes"
            " first, then the one that issued it, and so on"
        )
    raise ConfigError(f"{where}: ca.key is not its key")


def _check_signs(where: str, certificate: x509.Certificate, now: float) -> None:
    name = certificate.subject.rfc4514_string()
    extensions = certificate.extensions
    try:
        is_ca = extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        is_ca = False
    if not is_ca:
        raise ConfigError(f"{where}: {name} is not a CA (basicConstraints)")
    try:
        may_sign = extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        may_sign = True  # then all uses are allowed (RFC 5280 section 4.2.1.3)
    if not may_sign:
        raise ConfigError(f"{where}: {name} may not sign certificates (keyUsage)")
    if not certificate.not_valid_before_utc <= moment(now) < certificate.not_valid_after_utc:
        raise ConfigError(
            f"{where}: {name} is valid from {certificate.not_valid_before_utc} to"
            f" {certificate.not_valid_after_utc} only, and the clock says {moment(now)}"
        )


def _check_order(where: str, certificates: Sequence[x509.Certificate]) -> None:
    for depth, (certificate, issuer) in enumerate(pairwise(certificates)):
        name, above = certificate.subject.rfc4514_string(), issuer.subject.rfc4514_string()
        if is_issued_by(certificate, certificate):
            raise ConfigError(f"{where}: {name} is a root, nothing can follow it; found {above}")
        if not is_issued_by(certificate, issuer):
            raise ConfigError(
                f"{where}: {name} was not issued by {above}, which follows it; the CA that signs"
                " comes first, then the one that issued it, and so on"
            )
        length = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
        if length is not None and length < depth + 1:
            raise ConfigError(f"{where}: {above} allows only {length} CAs below it (pathlen)")


def _warn(path: Path, issuer: Issuer) -> Iterator[str]:
    if not is_issued_by(issuer.anchor, issuer.anchor):
        yield (
            f"{path} does not hold the root: /ca.crt serves"
            f" {issuer.anchor.subject.rfc4514_string()}, which OpenSSL does not take as a root of"
            " trust; append the root"
        )
    for certificate in issuer.all:
        try:
            certificate.extensions.get_extension_for_class(x509.KeyUsage)
        except x509.ExtensionNotFound:
            name = certificate.subject.rfc4514_string()
            yield f"{path}: {name} has no keyUsage, which strict clients refuse"
