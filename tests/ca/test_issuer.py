from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from entrepot.ca.issuer import (
    Issuer,
    belongs,
    fingerprint,
    is_issued_by,
    key_pem,
    make_root,
    moment,
    pem,
)
from entrepot.ca.names import constrain

NOW = 1_700_000_000.7


@pytest.fixture(scope="module")
def root() -> Issuer:
    return make_root(NOW, constrain(["docker.io"]))


def test_a_root_may_sign_leaves_and_nothing_else(root: Issuer) -> None:
    extensions = root.certificate.extensions
    basic = extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.key_cert_sign
    assert usage.value.crl_sign
    assert not usage.value.digital_signature
    assert extensions.get_extension_for_class(x509.NameConstraints).critical


def test_a_root_lasts_ten_years_from_two_days_back(root: Issuer) -> None:
    made = datetime.fromtimestamp(int(NOW), UTC)
    assert root.certificate.not_valid_before_utc == made - timedelta(days=2)
    assert root.certificate.not_valid_after_utc == made + timedelta(days=3650)
    assert root.valid_from == (made - timedelta(days=2)).timestamp()
    assert root.expires_at == (made + timedelta(days=3650)).timestamp()


def test_roots_are_told_apart_by_name(root: Issuer) -> None:
    subject = root.certificate.subject.rfc4514_string()
    identifier = root.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    assert subject == f"CN=Entrepot CA {identifier.value.digest.hex()[:8]}"
    assert make_root(NOW).certificate.subject != root.certificate.subject


def test_a_root_is_p256_and_its_own_issuer(root: Issuer) -> None:
    assert isinstance(root.key, ec.EllipticCurvePrivateKey)
    assert root.key.curve.name == "secp256r1"
    assert is_issued_by(root.certificate, root.certificate)
    assert belongs(root.key, root.certificate)
    assert root.all == (root.certificate,)


def test_strangers_do_not_belong(root: Issuer) -> None:
    other = make_root(NOW)
    assert not belongs(other.key, root.certificate)
    assert not is_issued_by(root.certificate, other.certificate)


def test_the_key_is_in_no_repr(root: Issuer) -> None:
    assert "key" not in repr(root).lower()


def test_what_is_written_can_be_read(root: Issuer) -> None:
    key = load_pem_private_key(key_pem(root.key), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.private_numbers() == root.key.private_numbers()
    assert x509.load_pem_x509_certificates(pem([root.certificate])) == [root.certificate]


def test_a_fingerprint_is_64_hex_digits(root: Issuer) -> None:
    assert len(bytes.fromhex(fingerprint(root.certificate))) == 32


def test_times_are_whole_seconds() -> None:
    assert moment(NOW).microsecond == 0
