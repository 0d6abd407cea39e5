from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from entrepot.ca.brought import Brought
from entrepot.ca.issuer import SigningKey, key_pem, key_usage, moment, pem
from entrepot.ca.leaf import issue_leaf
from entrepot.errors import ConfigError
from tests.ca.verifying import openssl_verify

NOW = 1_700_000_000.0
DAY = 86400.0
CA_USAGE = key_usage(signs_certificates=True)


@dataclass(frozen=True, slots=True)
class Made:
    key: SigningKey
    certificate: x509.Certificate


def _make(
    name: str,
    issuer: Made | None = None,
    *,
    key: SigningKey | None = None,
    is_ca: bool | None = True,
    usage: x509.KeyUsage | None = CA_USAGE,
    path_length: int | None = None,
    days: tuple[float, float] = (-10, 1000),
) -> Made:
    key = key or ec.generate_private_key(ec.SECP384R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signing = issuer.key if issuer else key
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), False),
    ]
    if is_ca is not None:
        length = path_length if is_ca else None
        extensions.append((x509.BasicConstraints(ca=is_ca, path_length=length), True))
    if usage is not None:
        extensions.append((usage, True))
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment(NOW + days[0] * DAY))
        .not_valid_after(moment(NOW + days[1] * DAY))
    )
    for extension, is_critical in extensions:
        builder = builder.add_extension(extension, is_critical)
    return Made(key, builder.sign(signing, hashes.SHA256()))


type Bring = Callable[..., Brought]


@pytest.fixture
def bring(tmp_path: Path) -> Bring:
    def write(key: SigningKey, *chain: Made) -> Brought:
        certificate, key_file = tmp_path / "corp.pem", tmp_path / "corp.key"
        certificate.write_bytes(pem(made.certificate for made in chain))
        key_file.write_bytes(key_pem(key))
        key_file.chmod(0o600)
        return Brought(certificate, key_file)

    return write


@pytest.fixture(scope="module")
def root() -> Made:
    return _make("Corp root")


@pytest.fixture(scope="module")
def middle(root: Made) -> Made:
    return _make("Corp middle", root)


@pytest.fixture(scope="module")
def low(middle: Made) -> Made:
    return _make("Corp low", middle, path_length=0)


@pytest.mark.parametrize(
    "key", [rsa.generate_private_key(65537, 2048), None], ids=["RSA", "EC P-384"]
)
def test_a_root_signs_and_is_the_bundle(
    bring: Bring, tmp_path: Path, key: SigningKey | None
) -> None:
    root = _make("Corp root", key=key)
    standing = bring(root.key, root).load(NOW)
    assert standing.bundle == (root.certificate,)
    assert standing.issuer.chain == ()
    assert standing.warnings == ()
    leaf = issue_leaf(standing.issuer, "quay.io", ec.generate_private_key(ec.SECP256R1()), NOW)
    assert openssl_verify(tmp_path, leaf, standing.bundle, "quay.io", NOW) == ""


def test_an_intermediate_sends_its_chain_without_the_root(
    bring: Bring, tmp_path: Path, root: Made, middle: Made, low: Made
) -> None:
    standing = bring(low.key, low, middle, root).load(NOW)
    assert standing.bundle == (root.certificate,)
    assert standing.issuer.chain == (low.certificate, middle.certificate)
    leaf = issue_leaf(standing.issuer, "quay.io", ec.generate_private_key(ec.SECP256R1()), NOW)
    assert openssl_verify(tmp_path, leaf, standing.bundle, "quay.io", NOW) == ""


def test_without_the_root_the_topmost_is_served_and_that_is_said(
    bring: Bring, middle: Made, low: Made
) -> None:
    standing = bring(low.key, low, middle).load(NOW)
    assert standing.bundle == (middle.certificate,)
    assert standing.issuer.chain == (low.certificate, middle.certificate)
    (warning,) = standing.warnings
    assert "does not hold the root" in warning
    assert "CN=Corp middle" in warning


def test_the_first_to_expire_of_the_chain_decides(bring: Bring, root: Made) -> None:
    soon = _make("Corp middle", root, days=(-1, 7))
    standing = bring(soon.key, soon, root).load(NOW)
    assert standing.issuer.expires_at == NOW + 7 * DAY
    assert standing.issuer.valid_from == NOW - DAY


def test_a_missing_key_usage_is_a_warning(bring: Bring) -> None:
    root = _make("Corp root", usage=None)
    (warning,) = bring(root.key, root).load(NOW).warnings
    assert "no keyUsage" in warning


def test_an_exposed_key_is_a_warning(bring: Bring, root: Made) -> None:
    brought = bring(root.key, root)
    brought.files[1].chmod(0o644)
    (warning,) = brought.load(NOW).warnings
    assert "mode 0644" in warning


@pytest.mark.parametrize("is_ca", [False, None])
def test_a_leaf_is_no_ca(bring: Bring, *, is_ca: bool | None) -> None:
    made = _make("server", is_ca=is_ca)
    with pytest.raises(ConfigError, match="CN=server is not a CA"):
        bring(made.key, made).load(NOW)


def test_a_ca_that_may_not_sign_is_refused(bring: Bring) -> None:
    made = _make("Corp root", usage=key_usage(signs_certificates=False))
    with pytest.raises(ConfigError, match="may not sign certificates"):
        bring(made.key, made).load(NOW)


@pytest.mark.parametrize("days", [(-100, -1), (1, 100)])
def test_the_ca_and_its_chain_must_be_valid(bring: Bring, days: tuple[float, float]) -> None:
    root = _make("Corp root", days=days)
    made = _make("Corp middle", root)
    with pytest.raises(ConfigError, match=r"CN=Corp root is valid from .* the clock says"):
        bring(made.key, made, root).load(NOW)


def test_a_key_of_something_else_is_refused(bring: Bring, root: Made, middle: Made) -> None:
    with pytest.raises(ConfigError, match=r"ca\.key is not its key"):
        bring(middle.key, root).load(NOW)
    with pytest.raises(ConfigError, match="further down; the one that signs comes first"):
        bring(middle.key, root, middle).load(NOW)


def test_a_chain_in_disorder_is_refused(bring: Bring, root: Made, middle: Made, low: Made) -> None:
    with pytest.raises(ConfigError, match="CN=Corp low was not issued by CN=Corp root"):
        bring(low.key, low, root, middle).load(NOW)
    with pytest.raises(ConfigError, match="CN=Corp root is a root, nothing can follow it"):
        bring(low.key, low, middle, root, middle).load(NOW)


def test_a_namesake_is_not_the_issuer(bring: Bring, middle: Made) -> None:
    with pytest.raises(ConfigError, match="was not issued by"):
        bring(middle.key, middle, _make("Corp root")).load(NOW)


def test_a_chain_longer_than_allowed_is_refused(bring: Bring) -> None:
    root = _make("Corp root", path_length=0)
    middle = _make("Corp middle", root)
    with pytest.raises(ConfigError, match="allows only 0 CAs below"):
        bring(middle.key, middle, root).load(NOW)


def test_missing_files_are_named(bring: Bring, root: Made) -> None:
    brought = bring(root.key, root)
    certificate, key = brought.files
    key.unlink()
    with pytest.raises(ConfigError, match=r"ca\.key: there is no .*corp\.key"):
        brought.load(NOW)
    certificate.unlink()
    with pytest.raises(ConfigError, match=r"ca\.certificate: there is no .*corp\.pem"):
        brought.load(NOW)


def test_key_and_certificate_may_share_a_file(tmp_path: Path, root: Made) -> None:
    both = tmp_path / "corp.pem"
    both.write_bytes(key_pem(root.key) + pem([root.certificate]))
    both.chmod(0o600)
    assert Brought(both, both).load(NOW).bundle == (root.certificate,)
