import asyncio
import logging
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from entrepot.ca.authority import Authority, with_colons
from entrepot.ca.issuer import key_pem, make_root, pem
from entrepot.ca.names import constraints_of
from entrepot.ca.own import Own
from entrepot.clock import SystemClock
from entrepot.config.model import Ca
from entrepot.errors import ConfigError
from tests.ca.conftest import NAMES
from tests.ca.verifying import openssl_verify, write_server_files
from tests.support.clock import ManualClock

DAY = 86400.0
OVERLAP = 30 * DAY


def _rotate(home: Path, clock: ManualClock) -> x509.Certificate:
    """As the command line does, beside the running process."""
    own = Own(home, names=NAMES, is_constrained=False)
    return own.rotate(clock.now(), OVERLAP).certificate


def _issuer(authority: Authority) -> x509.Certificate:
    return authority.standing.issuer.certificate


# ---- leaves -----------------------------------------------------------------------------------


def test_a_leaf_is_made_once(authority: Authority) -> None:
    leaf = authority.leaf("quay.io")
    assert authority.leaf("quay.io") is leaf
    assert authority.leaf("ghcr.io").key is leaf.key
    assert authority.statistics().leaves_made == 2


def test_the_cache_forgets_who_is_least_asked_for(authority: Authority) -> None:
    kept, forgotten = authority.leaf("kept.example"), authority.leaf("forgotten.example")
    for number in range(998):
        authority.leaf(f"h{number}.example")
    assert authority.leaf("kept.example") is kept
    authority.leaf("one-more.example")
    assert authority.statistics().leaves_cached == 1000
    assert authority.leaf("kept.example") is kept
    assert authority.leaf("forgotten.example") is not forgotten


def test_what_is_no_host_gets_no_leaf(authority: Authority) -> None:
    with pytest.raises(ValueError, match="not a host name"):
        authority.leaf("no host")
    assert authority.statistics().leaves_cached == 0


def test_leaves_renew_themselves_for_years(authority: Authority, clock: ManualClock) -> None:
    made = set()
    while authority.days_left(clock.now()) > 0:
        leaf = authority.leaf("quay.io")
        certificate = leaf.certificate
        made.add(certificate.serial_number)
        left = certificate.not_valid_after_utc.timestamp() - clock.now()
        assert certificate.not_valid_before_utc.timestamp() <= clock.now()
        assert 0 < left <= 30 * DAY
        assert left >= min(10 * DAY, (authority.expires_at - clock.now()) / 3)
        clock.advance(DAY / 2)
    assert 3650 / 20 < len(made) < 3650 / 20 + 15
    with pytest.raises(ConfigError, match="the clock says"):
        authority.leaf("quay.io")


def test_a_clock_that_goes_back_leaves_no_leaf_of_the_future(
    authority: Authority, clock: ManualClock
) -> None:
    clock.advance(10 * DAY)
    authority.leaf("quay.io")
    clock.advance(-9 * DAY)
    leaf = authority.leaf("quay.io")
    assert leaf.certificate.not_valid_before_utc.timestamp() == clock.now() - 2 * DAY


async def test_a_handshake_with_what_is_served(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path / "ca", Ca(name_constraints=True), SystemClock(), NAMES)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*write_server_files(tmp_path, authority.leaf("registry-1.docker.io")))
    trusting = ssl.create_default_context(cadata=authority.bundle_pem().decode())

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=trusting, server_hostname="registry-1.docker.io"
        )
        shown = writer.get_extra_info("ssl_object").getpeercert()
        assert shown["subjectAltName"] == (("DNS", "registry-1.docker.io"),)
        writer.close()
        await writer.wait_closed()


# ---- changes beside a running process ---------------------------------------------------------


def test_a_rotation_walks_through_a_running_process(
    authority: Authority, clock: ManualClock, home: Path, tmp_path: Path
) -> None:
    old = _issuer(authority)
    new = _rotate(home, clock)
    clock.advance(60)
    both = x509.load_pem_x509_certificates(authority.bundle_pem())
    assert both == [old, new]
    while clock.now() < authority.expires_at - 3560 * DAY:
        leaf, now = authority.leaf("quay.io"), clock.now()
        # Who fetched the bundle in the overlap is served throughout.
        assert openssl_verify(tmp_path, leaf, both, "quay.io", now) == ""
        clock.advance(5 * DAY)
    assert _issuer(authority) == new
    assert authority.standing.bundle == (new,)


def test_the_change_over_is_to_the_second(
    authority: Authority, clock: ManualClock, home: Path
) -> None:
    new = _rotate(home, clock)
    clock.advance(60)
    old = authority.leaf("quay.io")
    rotation = authority.standing.rotation
    assert rotation is not None
    clock.advance(rotation.signs_from - 1 - clock.now())
    assert authority.leaf("quay.io").certificate.issuer == old.certificate.issuer
    clock.advance(1)
    assert authority.leaf("quay.io").certificate.issuer == new.subject


def test_others_changes_are_noticed_within_a_minute(
    authority: Authority, clock: ManualClock, home: Path
) -> None:
    _rotate(home, clock)
    clock.advance(59)
    assert authority.standing.rotation is None
    assert not authority.statistics().is_rotating
    clock.advance(1)
    assert authority.statistics().is_rotating
    assert authority.statistics().reloads == 1
    clock.advance(60)
    assert authority.statistics().reloads == 1


def test_two_processes_agree_without_talking(
    authority: Authority, clock: ManualClock, home: Path
) -> None:
    other = Authority.open(home, Ca(), clock, NAMES)
    _rotate(home, clock)
    for _ in range(80):
        clock.advance(DAY)
        assert other.standing.bundle == authority.standing.bundle
        assert _issuer(other) == _issuer(authority)
    assert len(authority.standing.bundle) == 1


@pytest.fixture
def brought(tmp_path: Path, clock: ManualClock) -> Ca:
    settings = Ca(certificate=tmp_path / "corp.pem", key=tmp_path / "corp.key")
    _bring(settings, clock)
    return settings


def _bring(settings: Ca, clock: ManualClock) -> x509.Certificate:
    assert settings.certificate is not None
    assert settings.key is not None
    root = make_root(clock.now())
    settings.key.write_bytes(key_pem(root.key))
    settings.key.chmod(0o600)
    settings.certificate.write_bytes(pem([root.certificate]))
    return root.certificate


def test_replaced_files_of_the_operators_are_taken_up(
    tmp_path: Path, clock: ManualClock, brought: Ca
) -> None:
    authority = Authority.open(tmp_path / "ca", brought, clock, NAMES)
    assert not (tmp_path / "ca").exists()
    before = authority.leaf("quay.io")
    replacing = _bring(brought, clock)
    assert authority.leaf("quay.io") is before
    clock.advance(60)
    assert authority.leaf("quay.io").certificate.issuer == replacing.subject
    assert authority.bundle_pem() == pem([replacing])


def test_files_in_disorder_change_nothing_until_they_are_put_right(
    tmp_path: Path, clock: ManualClock, brought: Ca, caplog: pytest.LogCaptureFixture
) -> None:
    authority = Authority.open(tmp_path / "ca", brought, clock, NAMES)
    before = authority.leaf("quay.io")
    assert brought.certificate is not None
    good = brought.certificate.read_bytes()
    brought.certificate.write_bytes(b"half a fi")
    for _ in range(3):
        clock.advance(60)
        assert authority.leaf("quay.io") is before
    assert any("no certificate in PEM" in warning for warning in authority.warnings)
    warned = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == 1
    brought.certificate.write_bytes(good)
    clock.advance(60)
    assert authority.leaf("quay.io") is before
    assert authority.warnings == ()


def test_a_change_over_while_nothing_can_be_read_waits(
    authority: Authority, clock: ManualClock, home: Path
) -> None:
    old, new = _issuer(authority), _rotate(home, clock)
    clock.advance(60)
    assert authority.standing.rotation is not None
    (home / "next.crt").rename(home / "away")
    (home / "next.crt").mkdir()
    clock.advance(OVERLAP)
    assert _issuer(authority) == old
    assert "cannot be read" in authority.warnings[0]
    (home / "next.crt").rmdir()
    (home / "away").rename(home / "next.crt")
    clock.advance(60)
    assert _issuer(authority) == new


# ---- what it says of itself -------------------------------------------------------------------


def test_a_fingerprint_for_machines_and_for_people(authority: Authority) -> None:
    hexadecimal = authority.fingerprint_sha256
    assert hexadecimal == hexadecimal.lower()
    colons = with_colons(hexadecimal)
    assert len(colons) == 64 + 31
    assert bytes.fromhex(colons.replace(":", "")) == bytes.fromhex(hexadecimal)


def test_expiry_is_told_in_days(authority: Authority, clock: ManualClock) -> None:
    assert authority.days_left(clock.now()) == 3650
    assert authority.statistics().expires_at == authority.expires_at
    clock.advance(3600 * DAY)
    assert authority.warnings == ("the CA expires in 50 days: rotate it (entrepot ca rotate)",)


def test_a_ca_that_has_expired_says_what_to_do(authority: Authority, clock: ManualClock) -> None:
    clock.advance(3650 * DAY)
    (warning,) = authority.warnings
    expired_on = _issuer(authority).not_valid_after_utc.strftime("%Y-%m-%d")
    assert warning == (
        f"the CA expired on {expired_on}, and signs no more: rotate it (entrepot ca rotate)"
    )
    with pytest.raises(ConfigError, match=r"the clock says .*: rotate it \(entrepot ca rotate\)"):
        authority.leaf("quay.io")


def test_constraints_are_those_of_the_configuration(home: Path, clock: ManualClock) -> None:
    authority = Authority.open(home, Ca(name_constraints=True), clock, NAMES)
    constraints = constraints_of(_issuer(authority))
    assert constraints is not None
    assert constraints.permitted_subtrees == [
        x509.DNSName("docker-registry.local"),
        x509.DNSName("docker.io"),
        x509.DNSName("example.com"),
    ]
    assert authority.warnings == ()


def test_a_registry_that_the_constraints_leave_out_is_warned_of(
    home: Path, clock: ManualClock
) -> None:
    Authority.open(home, Ca(name_constraints=True), clock, NAMES)
    later = Authority.open(home, Ca(name_constraints=True), clock, (*NAMES, "quay.io"))
    (warning,) = later.warnings
    assert warning == (
        "clients will refuse quay.io, which the CA's name constraints omit:"
        " rotate it (entrepot ca rotate)"
    )


def test_a_ca_that_lacks_the_constraints_asked_for_is_warned_of(
    tmp_path: Path, clock: ManualClock, brought: Ca
) -> None:
    settings = Ca(certificate=brought.certificate, key=brought.key, name_constraints=True)
    (warning,) = Authority.open(tmp_path / "ca", settings, clock, NAMES).warnings
    assert warning.startswith("ca.name_constraints is set, but the CA was made without: replace")


def test_nothing_is_made_unasked(home: Path, clock: ManualClock) -> None:
    with pytest.raises(ConfigError, match="there is no CA"):
        Authority.open(home, Ca(), clock, NAMES, create=False)
    assert not home.exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (Ca(certificate=Path("/corp.pem")), r"ca\.certificate is set, ca\.key is not"),
        (Ca(key=Path("/corp.key")), r"ca\.key is set, ca\.certificate is not"),
    ],
)
def test_half_of_ones_own_is_refused(
    home: Path, clock: ManualClock, settings: Ca, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        Authority.open(home, settings, clock, NAMES)
