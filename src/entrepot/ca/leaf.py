"""What the proxy shows a client in the name of a registry."""

from dataclasses import dataclass, field
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from entrepot.ca.issuer import BACKDATED, Issuer, key_usage, moment
from entrepot.ca.names import HostName, parse_host
from entrepot.errors import ConfigError

LIFE = timedelta(days=30)
_RENEWED_AFTER = 2 / 3
_COMMON_NAME_MAX = 64  # ub-common-name, RFC 5280 appendix A


@dataclass(frozen=True, slots=True)
class Leaf:
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    valid_from: float
    renew_at: float  # by this time a fresh one should be made


def issue_leaf(issuer: Issuer, host: str, key: ec.EllipticCurvePrivateKey, now: float) -> Leaf:
    """ValueError for what is no host; ConfigError while the CA itself is not valid."""
    if not issuer.valid_from <= now < issuer.expires_at:
        raise ConfigError(
            f"the CA is valid from {moment(issuer.valid_from)} to {moment(issuer.expires_at)}"
            f" only, and the clock says {moment(now)}"
        )
    name = parse_host(host)
    first = max(moment(now) - BACKDATED, moment(issuer.valid_from))
    last = min(moment(now) + LIFE, moment(issuer.expires_at))
    subject = _subject(name)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(first)
        .not_valid_after(last)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        # Critical where it is the only name (RFC 5280 section 4.2.1.6).
        .add_extension(x509.SubjectAlternativeName([name]), critical=not list(subject))
        # No SubjectKeyIdentifier: optional for a leaf (4.2.1.2).
        .add_extension(_authority_key(issuer), critical=False)
        .sign(issuer.key, hashes.SHA256())
    )
    life = last.timestamp() - now
    return Leaf(key, certificate, issuer.chain, first.timestamp(), now + _RENEWED_AFTER * life)


def _subject(name: HostName) -> x509.Name:
    # An address as common name would be taken for a DNS name by OpenSSL, and be refused under
    # name constraints that permit the address (it checks the common name where the alternative
    # names hold no DNS name).
    if isinstance(name, x509.DNSName) and len(name.value) <= _COMMON_NAME_MAX:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name.value)])
    return x509.Name([])


def _authority_key(issuer: Issuer) -> x509.AuthorityKeyIdentifier:
    """As the issuer names its own key. Recomputed it would be a SHA-1 digest, which an issuer need
    not have used (RFC 7093; cert-manager uses SHA-256), and strict verifiers, as Python's `ssl` is
    by default since 3.13, refuse a leaf whose identifier differs.
    """
    try:
        own = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own.value)
