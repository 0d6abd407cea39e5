import errno
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from entrepot.ca import files
from entrepot.ca.files import PRIVATE, PUBLIC, DatedCertificate
from entrepot.ca.issuer import key_pem, make_root
from entrepot.errors import ConfigError

NOW = 1_700_000_000.0


def test_what_is_created_is_whole_and_for_the_owner(tmp_path: Path) -> None:
    files.create(tmp_path / "a.key", b"content", PRIVATE)
    files.create(tmp_path / "a.crt", b"content", PUBLIC)
    assert (tmp_path / "a.key").read_bytes() == b"content"
    assert (tmp_path / "a.key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "a.crt").stat().st_mode & 0o777 == 0o644
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.crt", "a.key"]


def test_nothing_is_created_over_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        files.create(path, b"other", PRIVATE)
    assert path.read_bytes() == b"precious"


def test_file_systems_without_links_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "as FAT says")

    monkeypatch.setattr(os, "link", refuse)
    files.create(tmp_path / "a.key", b"content", PRIVATE)
    with pytest.raises(FileExistsError):
        files.create(tmp_path / "a.key", b"other", PRIVATE)
    assert (tmp_path / "a.key").read_bytes() == b"content"
    assert (tmp_path / "a.key").stat().st_mode & 0o777 == 0o600


def test_leftovers_of_a_crash_are_swept(tmp_path: Path) -> None:
    (tmp_path / ".new-abc").write_bytes(b"a key nobody has seen")
    (tmp_path / "ca.key").write_bytes(b"precious")
    files.sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["ca.key"]


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with files.locked(tmp_path, wait=True) as first, files.locked(tmp_path, wait=False) as second:
        assert (first, second) == (True, False)
    with files.locked(tmp_path, wait=False) as third:
        assert third


def test_where_nothing_can_be_written_nobody_holds_the_lock(tmp_path: Path) -> None:
    with files.locked(tmp_path / "missing", wait=True) as is_held:
        assert not is_held


def test_a_lock_is_no_way_to_another_file(tmp_path: Path) -> None:
    (tmp_path / ".lock").symlink_to(tmp_path / "elsewhere")
    with files.locked(tmp_path, wait=True) as is_held:
        assert not is_held
    assert not (tmp_path / "elsewhere").exists()


def test_a_private_directory_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        files.make_private_directory(tmp_path / "data" / "ca")
    finally:
        os.umask(before)
    assert (tmp_path / "data" / "ca").stat().st_mode & 0o777 == 0o700


def test_a_directory_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    files.make_private_directory(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o750


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_makes_belongs_to_the_directorys_owner(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12346)
    home = tmp_path / "ca"
    files.make_private_directory(home)
    files.create(home / "ca.key", b"content", PRIVATE)
    with files.locked(home, wait=True) as is_held:
        assert is_held
    for path in (home, home / "ca.key", home / ".lock"):
        assert (path.stat().st_uid, path.stat().st_gid) == (12345, 12346)


@pytest.mark.parametrize(
    ("mode", "is_warned"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True)]
)
def test_a_key_that_others_can_read_is_warned_of(
    tmp_path: Path, mode: int, *, is_warned: bool
) -> None:
    path = tmp_path / "ca.key"
    path.touch()
    path.chmod(mode)
    assert bool(files.exposed(path)) == is_warned
    assert files.exposed(tmp_path / "missing") == ()


def test_keys_are_read_as_they_were_written(tmp_path: Path) -> None:
    root = make_root(NOW)
    (tmp_path / "ca.key").write_bytes(key_pem(root.key))
    key = files.read_key(tmp_path / "ca.key")
    assert key is not None
    assert key_pem(key) == key_pem(root.key)
    assert files.read_key(tmp_path / "missing") is None


def test_encrypted_keys_are_refused_with_what_to_do(tmp_path: Path) -> None:
    encrypted = make_root(NOW).key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"hunter2")
    )
    (tmp_path / "ca.key").write_bytes(encrypted)
    with pytest.raises(ConfigError, match=r"encrypted.*openssl pkey"):
        files.read_key(tmp_path / "ca.key")


@pytest.mark.parametrize(
    "key",
    [ed25519.Ed25519PrivateKey.generate(), rsa.generate_private_key(65537, 1024)],
    ids=["ed25519", "short RSA"],
)
def test_keys_that_clients_do_not_take_are_refused(
    tmp_path: Path, key: ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
) -> None:
    (tmp_path / "ca.key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    with pytest.raises(ConfigError, match="EC, or RSA of 2048"):
        files.read_key(tmp_path / "ca.key")


def test_what_is_no_pem_is_the_operators_error(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"secret, but no PEM")
    with pytest.raises(ConfigError, match="no private key") as refused:
        files.read_key(path)
    assert "secret" not in str(refused.value)
    with pytest.raises(ConfigError, match="no certificate"):
        files.read_certificates(path)
    with pytest.raises(ConfigError, match="no certificate"):
        files.read_dated(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        files.read_certificates(tmp_path)


def test_a_date_travels_with_its_certificate(tmp_path: Path) -> None:
    dated = DatedCertificate(make_root(NOW).certificate, NOW + 5)
    (tmp_path / "next.crt").write_bytes(dated.pem())
    assert files.read_dated(tmp_path / "next.crt") == dated
    assert files.read_certificates(tmp_path / "next.crt") == (dated.certificate,)


def test_certificates_may_be_undated_or_absent(tmp_path: Path) -> None:
    dated = DatedCertificate(make_root(NOW).certificate)
    (tmp_path / "ca.crt").write_bytes(dated.pem())
    assert files.read_dated(tmp_path / "ca.crt") == dated
    assert files.read_dated(tmp_path / "missing") is None
    assert files.read_certificates(tmp_path / "missing") == ()


def test_a_date_that_is_none_is_refused(tmp_path: Path) -> None:
    pem = DatedCertificate(make_root(NOW).certificate).pem()
    (tmp_path / "next.crt").write_bytes(b"Signs from: soon\n" + pem)
    with pytest.raises(ConfigError, match="no time in the line"):
        files.read_dated(tmp_path / "next.crt")
