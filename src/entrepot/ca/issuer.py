"""Who signs: a key with its certificate and chain, and what holds of it at one moment."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

ROOT_LIFE = timedelta(days=3650)
# Hosts that boot without a battery clock, and virtual machines that slept, live in the past.
BACKDATED = timedelta(days=2)

type SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class Issuer:
    key: SigningKey = field(repr=False)
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]  # sent to clients with each leaf; without the root
    anchor: x509.Certificate  # what clients trust

    @property
    def all(self) -> tuple[x509.Certificate, ...]:
        return tuple(dict.fromkeys((self.certificate, *self.chain, self.anchor)))

    @property
    def valid_from(self) -> float:
        return max(one.not_valid_before_utc.timestamp() for one in self.all)

    @property
    def expires_at(self) -> float:
        return min(one.not_valid_after_utc.timestamp() for one in self.all)


@dataclass(frozen=True, slots=True)
class Rotation:
    """A successor that waits for its time."""

    certificate: x509.Certificate
    signs_from: float


@dataclass(frozen=True, slots=True)
class Standing:
    """Who signs, what clients are to trust and what comes, until files or the time change it."""

    issuer: Issuer
    bundle: tuple[x509.Certificate, ...]  # the signer's own anchor first
    rotation: Rotation | None = None
    until: float = float("inf")  # when the clock alone changes something of this
    warnings: tuple[str, ...] = ()


def make_root(now: float, constraints: x509.NameConstraints | None = None) -> Issuer:
    key = ec.generate_private_key(ec.SECP256R1())
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    # The key's fingerprint in the name keeps old and new apart during a rotation: verifiers look
    # for issuers by name first.
    name = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, f"Entrepot CA {identifier.digest.hex()[:8]}")]
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment(now) - BACKDATED)
        .not_valid_after(moment(now) + ROOT_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(signs_certificates=True), critical=True)
        .add_extension(identifier, critical=False)
    )
    if constraints is not None:
        builder = builder.add_extension(constraints, critical=True)
    certificate = builder.sign(key, hashes.SHA256())
    return Issuer(key, certificate, (), certificate)


def key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def moment(seconds: float) -> datetime:
    """Certificates tell whole seconds."""
    return datetime.fromtimestamp(int(seconds), UTC)


def belongs(key: SigningKey, certificate: x509.Certificate) -> bool:
    return _spki(key) == _spki(certificate)


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()


def pem(certificates: Iterable[x509.Certificate]) -> bytes:
    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates)


def key_pem(key: SigningKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _spki(holder: SigningKey | x509.Certificate) -> bytes:
    return holder.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
