import asyncio
import ssl
import string
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot.ca.issuer import Issuer, make_root, pem
from entrepot.ca.leaf import Leaf, issue_leaf
from entrepot.ca.names import constrain
from entrepot.errors import ConfigError
from tests.ca.verifying import openssl_verify, write_server_files

NOW = 1_700_000_000.0
DAY = 86400.0
KEY = ec.generate_private_key(ec.SECP256R1())
LONG = ".".join(["registry-with-a-long-name"] * 5)

_LABEL = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=63)
_HOSTS = st.one_of(
    st.lists(_LABEL, min_size=2, max_size=3).map(".".join).map(lambda name: name + ".example"),
    st.ip_addresses().map(str),
)


@pytest.fixture(scope="module")
def root() -> Issuer:
    return make_root(NOW)


def _leaf(issuer: Issuer, host: str, now: float = NOW) -> Leaf:
    return issue_leaf(issuer, host, KEY, now)


@settings(max_examples=40, deadline=None)  # each starts a process
@given(_HOSTS)
def test_openssl_accepts_a_leaf_for_any_host(host: str) -> None:
    root = make_root(NOW)
    with TemporaryDirectory() as directory:
        trusted = [root.certificate]
        assert openssl_verify(Path(directory), _leaf(root, host), trusted, host, NOW) == ""


@pytest.mark.parametrize("host", ["registry-1.docker.io", "192.0.2.1", "2001:db8::1", "r_1", LONG])
def test_openssl_accepts_the_host_and_no_other(tmp_path: Path, root: Issuer, host: str) -> None:
    leaf = _leaf(root, host)
    assert openssl_verify(tmp_path, leaf, [root.certificate], host, NOW) == ""
    assert "mismatch" in openssl_verify(tmp_path, leaf, [root.certificate], "quay.io", NOW)


def test_openssl_refuses_what_the_constraints_leave_out(tmp_path: Path) -> None:
    root = make_root(NOW, constrain(["docker.io", "*.example.com", "10.0.0.7:5000"]))
    trusted = [root.certificate]
    for host in ("docker.io", "registry-1.docker.io", "a.b.example.com", "10.0.0.7"):
        assert openssl_verify(tmp_path, _leaf(root, host), trusted, host, NOW) == ""
    for host in ("bank.example", "notdocker.io", "10.0.0.8", "::1"):
        refusal = openssl_verify(tmp_path, _leaf(root, host), trusted, host, NOW)
        assert "permitted subtree violation" in refusal


def test_openssl_refuses_addresses_where_only_names_are_configured(tmp_path: Path) -> None:
    root = make_root(NOW, constrain(["docker.io"]))
    for host in ("10.0.0.8", "::1"):
        leaf = _leaf(root, host)
        refusal = openssl_verify(tmp_path, leaf, [root.certificate], host, NOW)
        assert "excluded subtree violation" in refusal


def test_openssl_refuses_names_where_only_addresses_are_configured(tmp_path: Path) -> None:
    root = make_root(NOW, constrain(["10.0.0.7"]))
    for host, complaint in (("10.0.0.7", ""), ("docker.io", "excluded subtree violation")):
        said = openssl_verify(tmp_path, _leaf(root, host), [root.certificate], host, NOW)
        assert complaint in said
        assert bool(complaint) == bool(said)


async def test_a_handshake_by_pythons_ssl(tmp_path: Path) -> None:
    root = make_root(time.time(), constrain(["localhost"]))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(
        *write_server_files(tmp_path, _leaf(root, "localhost", time.time())),
    )
    trusting = ssl.create_default_context(cadata=pem([root.certificate]).decode())
    trusting.verify_flags |= ssl.VERIFY_X509_STRICT  # Python's default since 3.13

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"through")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=trusting, server_hostname="localhost"
        )
        assert await reader.read() == b"through"
        writer.close()
        await writer.wait_closed()


def test_a_leaf_is_for_servers_and_signs_nothing(root: Issuer) -> None:
    extensions = _leaf(root, "quay.io").certificate.extensions
    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.SERVER_AUTH
    ]
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature
    assert not usage.key_cert_sign


@pytest.mark.parametrize(
    ("host", "subject"),
    [
        ("quay.io", "CN=quay.io"),
        ("a" * 60 + ".com", "CN=" + "a" * 60 + ".com"),
        ("a" * 61 + ".com", ""),
        ("10.0.0.1", ""),
    ],
)
def test_the_only_name_is_critical(root: Issuer, host: str, subject: str) -> None:
    certificate = _leaf(root, host).certificate
    assert certificate.subject.rfc4514_string() == subject
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.critical == (not subject)


def test_a_leaf_names_its_issuers_key_as_the_issuer_does() -> None:
    root = make_root(NOW)
    own = x509.SubjectKeyIdentifier(b"not a SHA-1 digest of the key")
    issuer = _with_identifier(root, own)
    aki = _leaf(issuer, "quay.io").certificate.extensions.get_extension_for_class(
        x509.AuthorityKeyIdentifier
    )
    assert aki.value.key_identifier == own.digest


def test_a_leaf_of_an_issuer_that_does_not_say_names_its_key_anyway() -> None:
    root = make_root(NOW)
    aki = _leaf(_with_identifier(root, None), "quay.io").certificate.extensions
    digest = x509.SubjectKeyIdentifier.from_public_key(root.key.public_key()).digest
    found = aki.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    assert found == digest


def _with_identifier(root: Issuer, identifier: x509.SubjectKeyIdentifier | None) -> Issuer:
    builder = (
        x509.CertificateBuilder()
        .subject_name(root.certificate.subject)
        .issuer_name(root.certificate.subject)
        .public_key(root.key.public_key())
        .serial_number(1)
        .not_valid_before(root.certificate.not_valid_before_utc)
        .not_valid_after(root.certificate.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    )
    if identifier is not None:
        builder = builder.add_extension(identifier, critical=False)
    certificate = builder.sign(root.key, root.certificate.signature_hash_algorithm)  # type: ignore[arg-type]  # SHA-256, as make_root signs
    return Issuer(root.key, certificate, (), certificate)


def test_a_leaf_lasts_thirty_days_and_is_renewed_after_twenty(root: Issuer) -> None:
    later = NOW + 100 * DAY
    leaf = _leaf(root, "quay.io", later)
    assert leaf.valid_from == leaf.certificate.not_valid_before_utc.timestamp() == later - 2 * DAY
    assert leaf.certificate.not_valid_after_utc.timestamp() == later + 30 * DAY
    assert leaf.renew_at == pytest.approx(later + 20 * DAY)


def test_a_leaf_stays_within_its_issuers_life(root: Issuer) -> None:
    early = _leaf(root, "quay.io", root.valid_from + 5)
    assert early.valid_from == root.valid_from
    late = _leaf(root, "quay.io", root.expires_at - 3 * DAY)
    assert late.certificate.not_valid_after_utc.timestamp() == root.expires_at
    assert late.renew_at == pytest.approx(root.expires_at - DAY)


@pytest.mark.parametrize("off", [-3 * DAY, 3650 * DAY])
def test_a_ca_that_is_not_valid_issues_nothing(root: Issuer, off: float) -> None:
    with pytest.raises(ConfigError, match="the clock says"):
        _leaf(root, "quay.io", NOW + off)


def test_the_key_is_in_no_repr(root: Issuer) -> None:
    assert "key" not in repr(_leaf(root, "quay.io")).lower()
