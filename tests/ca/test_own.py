import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from entrepot.ca import files
from entrepot.ca.issuer import Standing, belongs, fingerprint, key_pem, make_root, pem
from entrepot.ca.own import Own
from entrepot.errors import ConfigError
from tests.ca.crashing import dies_before

NOW = 1_700_000_000.0
DAY = 86400.0
OVERLAP = 30 * DAY


def _own(home: Path) -> Own:
    return Own(home, names=("docker.io",), is_constrained=False)


@pytest.fixture
def own(home: Path) -> Own:
    own = _own(home)
    own.settle(NOW, create=True)
    return own


def _names(home: Path) -> list[str]:
    return sorted(path.name for path in home.iterdir() if path.name != ".lock")


def _untidied(own: Own, now: float) -> Standing:
    """As one sees it who may not write: what holds must not depend on the tidying."""
    with files.locked(own.directory, wait=True):
        return own.load(now)


# ---- first start ------------------------------------------------------------------------------


def test_a_first_start_makes_a_private_root(own: Own, home: Path) -> None:
    standing = own.load(NOW)
    assert standing.bundle == (standing.issuer.anchor,)
    assert standing.warnings == ()
    assert _names(home) == ["ca.crt", "ca.key"]
    assert home.stat().st_mode & 0o777 == 0o700
    assert (home / "ca.key").stat().st_mode & 0o777 == 0o600


def test_a_second_start_keeps_it(own: Own, home: Path) -> None:
    before = (home / "ca.key").read_bytes(), (home / "ca.crt").read_bytes()
    other = _own(home)
    other.settle(NOW + 1, create=True)
    assert other.load(NOW + 1).issuer.certificate == own.load(NOW).issuer.certificate
    assert ((home / "ca.key").read_bytes(), (home / "ca.crt").read_bytes()) == before


def test_nothing_is_made_unasked(home: Path) -> None:
    own = _own(home)
    own.settle(NOW, create=False)
    with pytest.raises(ConfigError, match=r"there is no CA in .*entrepot ca init"):
        own.load(NOW)
    assert not home.exists()


@pytest.mark.parametrize(("left", "lost"), [("ca.key", "ca.crt"), ("ca.crt", "ca.key")])
def test_half_a_ca_is_refused_and_kept(own: Own, home: Path, left: str, lost: str) -> None:
    (home / lost).unlink()
    before = (home / left).read_bytes()
    own.settle(NOW, create=True)
    with pytest.raises(ConfigError, match=f"{left} is there, .*{lost} is not: restore it"):
        own.load(NOW)
    assert (home / left).read_bytes() == before
    assert not (home / lost).exists()


def test_a_key_of_another_certificate_is_refused_and_kept(own: Own, home: Path) -> None:
    other = key_pem(make_root(NOW).key)
    (home / "ca.key").write_bytes(other)
    own.settle(NOW, create=True)
    with pytest.raises(ConfigError, match="is not the key of"):
        own.load(NOW)
    assert (home / "ca.key").read_bytes() == other


def test_a_certificate_staged_for_another_key_completes_nothing(own: Own, home: Path) -> None:
    (home / "ca.crt").unlink()
    (home / "ca.crt.staged").write_bytes(pem([make_root(NOW).certificate]))
    own.settle(NOW, create=True)
    with pytest.raises(ConfigError, match=r"ca\.key is there"):
        own.load(NOW)


def test_a_crash_at_any_step_of_the_first_start_is_made_good(tmp_path: Path) -> None:
    step, died = 0, True
    while died:
        home = tmp_path / str(step)
        died = dies_before(step, lambda home=home: _own(home).settle(NOW, create=True))  # type: ignore[misc]  # a lambda's default has no type
        key = (home / "ca.key").read_bytes() if (home / "ca.key").exists() else None
        own = _own(home)
        own.settle(NOW, create=True)
        own.load(NOW)
        assert _names(home) == ["ca.crt", "ca.key"]
        assert key in {None, (home / "ca.key").read_bytes()}
        step += 1
    assert step > 8


_FIRST_START = """
import sys
from pathlib import Path
from entrepot.ca.issuer import fingerprint
from entrepot.ca.own import Own
own = Own(Path(sys.argv[1]), names=(), is_constrained=False)
print("ready", flush=True)
sys.stdin.readline()
own.settle(1_700_000_000.0, create=True)
print(fingerprint(own.load(1_700_000_000.0).issuer.certificate))
"""


def test_processes_that_start_at_once_end_with_one_ca(home: Path) -> None:
    command = [sys.executable, "-c", _FIRST_START, str(home)]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    said = set()
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in started:
        said.add(process.communicate()[0])
        assert process.returncode == 0
    assert said == {fingerprint(_own(home).load(NOW).issuer.certificate) + "\n"}
    assert _names(home) == ["ca.crt", "ca.key"]


def test_a_directory_that_cannot_be_made_is_the_operators_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be used"):
        _own(tmp_path / "file" / "ca").settle(NOW, create=True)


def test_without_the_lock_no_root_is_made(tmp_path: Path) -> None:
    (tmp_path / ".lock").mkdir()
    with pytest.raises(ConfigError, match="cannot be written to, or locked"):
        _own(tmp_path).settle(NOW, create=True)
    with pytest.raises(ConfigError, match="cannot be written to, or locked"):
        _own(tmp_path).rotate(NOW, OVERLAP)


def test_without_the_lock_a_ca_that_is_there_will_do(own: Own, home: Path) -> None:
    (home / ".lock").unlink()
    (home / ".lock").mkdir()
    own.settle(NOW, create=True)
    assert own.load(NOW).issuer.certificate == files.read_certificates(home / "ca.crt")[0]


def test_an_exposed_key_is_a_warning(own: Own, home: Path) -> None:
    (home / "ca.key").chmod(0o640)
    (warning,) = own.load(NOW).warnings
    assert "mode 0640" in warning


# ---- rotation ---------------------------------------------------------------------------------


def test_a_rotation_announces_then_changes_then_forgets(own: Own) -> None:
    old = own.load(NOW).issuer.certificate
    new = own.rotate(NOW, OVERLAP).certificate
    announced = own.load(NOW)
    assert (announced.issuer.certificate, announced.bundle) == (old, (old, new))
    assert announced.rotation is not None
    assert announced.until == announced.rotation.signs_from == NOW + OVERLAP
    before = own.load(NOW + OVERLAP - 1)
    assert (before.issuer.certificate, before.bundle) == (old, (old, new))
    changed = own.load(NOW + OVERLAP)
    assert (changed.issuer.certificate, changed.bundle) == (new, (new, old))
    assert changed.rotation is None
    assert changed.until == NOW + OVERLAP + 30 * DAY
    last = own.load(NOW + OVERLAP + 30 * DAY - 1)
    assert last.bundle == (new, old)
    assert own.load(NOW + OVERLAP + 30 * DAY).bundle == (new,)


def test_the_same_holds_without_any_tidying(own: Own, home: Path) -> None:
    old = own.load(NOW).issuer.certificate
    new = own.rotate(NOW, OVERLAP).certificate
    assert _untidied(own, NOW + 1).bundle == (old, new)
    changed = _untidied(own, NOW + OVERLAP)
    assert (changed.issuer.certificate, changed.bundle) == (new, (new, old))
    assert _untidied(own, NOW + OVERLAP + 30 * DAY).bundle == (new,)
    assert _names(home) == ["ca.crt", "ca.key", "next.crt", "next.key"]


def test_the_files_follow(own: Own, home: Path) -> None:
    old = own.load(NOW).issuer.certificate
    new = own.rotate(NOW, OVERLAP).certificate
    own.load(NOW + OVERLAP)
    assert _names(home) == ["ca.crt", "ca.key", "previous.crt"]
    assert files.read_certificates(home / "ca.crt") == (new,)
    assert files.read_certificates(home / "previous.crt") == (old,)
    key = files.read_key(home / "ca.key")
    assert key is not None
    assert belongs(key, new)
    assert (home / "ca.key").stat().st_mode & 0o777 == 0o600


@contextmanager
def _full_disk() -> Iterator[None]:
    """No byte more can be written to any file (Python ignores the signal that goes with it)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_does_not_hold_up_the_change(own: Own, home: Path) -> None:
    new = own.rotate(NOW, OVERLAP).certificate
    with _full_disk():
        assert own.load(NOW + OVERLAP).issuer.certificate == new
    assert "next.key" in _names(home)
    own.load(NOW + OVERLAP)
    assert _names(home) == ["ca.crt", "ca.key", "previous.crt"]


def test_a_full_disk_is_the_operators_to_clear(own: Own, home: Path) -> None:
    before = own.load(NOW)
    with _full_disk(), pytest.raises(ConfigError, match="rotation failed"):
        own.rotate(NOW, OVERLAP)
    with _full_disk(), pytest.raises(ConfigError, match="cannot be used"):
        _own(home / "other").settle(NOW, create=True)
    assert own.load(NOW).bundle == before.bundle
    assert _names(home) == ["ca.crt", "ca.key", "other"]


def test_one_rotation_at_a_time(own: Own, home: Path) -> None:
    own.rotate(NOW, OVERLAP)
    before = {name: (home / name).read_bytes() for name in _names(home)}
    with pytest.raises(ConfigError, match="pending: the next CA signs from 2023-12-14"):
        own.rotate(NOW + OVERLAP - 1, OVERLAP)
    assert before == {name: (home / name).read_bytes() for name in _names(home)}


def test_after_one_rotation_comes_the_next(own: Own) -> None:
    certificates = [own.load(NOW).issuer.certificate]
    for turn in range(3):
        now = NOW + turn * OVERLAP
        certificates.append(own.rotate(now, OVERLAP).certificate)
        assert own.load(now).bundle[:2] == tuple(certificates[-2:])
        assert own.load(now + OVERLAP).bundle == (certificates[-1], certificates[-2])
    assert len(set(certificates)) == 4


def test_the_last_predecessor_stays_beside_the_next_successor(own: Own) -> None:
    first = own.load(NOW).issuer.certificate
    second = own.rotate(NOW, OVERLAP).certificate
    third = own.rotate(NOW + OVERLAP, OVERLAP).certificate
    standing = own.load(NOW + OVERLAP)
    assert standing.bundle == (second, third, first)
    assert standing.until == NOW + 2 * OVERLAP


def test_without_an_overlap_the_successor_signs_at_once(own: Own, home: Path) -> None:
    old = own.load(NOW).issuer.certificate
    new = own.rotate(NOW + 0.5, 0).certificate
    standing = own.load(NOW + 0.5)
    assert (standing.issuer.certificate, standing.bundle) == (new, (new, old))
    (home / "previous.crt").unlink()  # as one does when the old key has leaked
    assert own.load(NOW + 0.5).bundle == (new,)


def test_the_old_root_does_not_expire_before_the_new_one_signs(own: Own) -> None:
    expires_at = own.load(NOW).issuer.expires_at
    assert own.rotate(expires_at - 5 * DAY, OVERLAP).signs_from == expires_at - DAY


def test_an_expired_root_is_replaced_at_once_and_leaves_the_bundle(own: Own) -> None:
    expires_at = own.load(NOW).issuer.expires_at
    rotation = own.rotate(expires_at + DAY, float("inf"))
    assert rotation.signs_from == expires_at + DAY
    assert own.load(expires_at + DAY).bundle == (rotation.certificate,)


def test_an_old_root_leaves_the_bundle_when_it_expires(own: Own) -> None:
    expires_at = own.load(NOW).issuer.expires_at
    rotation = own.rotate(expires_at - 2 * DAY, 0)
    assert len(own.load(expires_at - 1).bundle) == 2
    assert own.load(expires_at - 1).until == expires_at
    assert own.load(expires_at).bundle == (rotation.certificate,)


def test_there_is_nothing_to_rotate_without_a_ca(home: Path) -> None:
    home.mkdir(parents=True)
    with pytest.raises(ConfigError, match="there is no CA"):
        _own(home).rotate(NOW, OVERLAP)
    assert _names(home) == []


def test_a_predecessor_put_there_by_hand_stays_until_it_expires(own: Own, home: Path) -> None:
    by_hand = make_root(NOW)
    (home / "previous.crt").write_bytes(pem([by_hand.certificate]))
    assert own.load(NOW + 3000 * DAY).bundle[1] == by_hand.certificate
    assert len(own.load(by_hand.expires_at).bundle) == 1


def test_a_clock_that_goes_back_undoes_no_change(own: Own) -> None:
    own.load(NOW)
    new = own.rotate(NOW, OVERLAP).certificate
    own.load(NOW + OVERLAP)
    assert own.load(NOW).issuer.certificate == new


# ---- crashes in a rotation --------------------------------------------------------------------


@pytest.fixture
def crash_everywhere(tmp_path: Path) -> Callable[..., int]:
    def run(
        prepare: Callable[[Own], None],
        action: Callable[[Own], object],
        check: Callable[[Own], None],
    ) -> int:
        step, died = 0, True
        while died:
            own = _own(tmp_path / str(step))
            own.settle(NOW, create=True)
            prepare(own)
            died = dies_before(step, lambda own=own: action(own))  # type: ignore[misc]  # a lambda's default has no type
            check(own)
            step += 1
        return step

    return run


def test_a_crash_at_any_step_of_a_rotation_leaves_none_or_one(
    crash_everywhere: Callable[..., int],
) -> None:
    def check(own: Own) -> None:
        old = files.read_certificates(own.directory / "ca.crt")[0]
        standing = _untidied(own, NOW + 1)
        assert standing.issuer.certificate == old
        if standing.rotation is None:
            own.rotate(NOW + 1, OVERLAP)
        rotation = own.load(NOW + 1).rotation
        assert rotation is not None
        assert own.load(NOW + 1).bundle == (old, rotation.certificate)
        changed = own.load(NOW + 1 + OVERLAP)
        assert changed.issuer.certificate == rotation.certificate
        assert changed.bundle == (rotation.certificate, old)
        assert _names(own.directory) == ["ca.crt", "ca.key", "previous.crt"]

    steps = crash_everywhere(lambda own: None, lambda own: own.rotate(NOW, OVERLAP), check)
    assert steps > 8


def test_a_crash_at_any_step_of_a_change_over_changes_nothing(
    crash_everywhere: Callable[..., int],
) -> None:
    seen: list[Standing] = []

    def prepare(own: Own) -> None:
        own.rotate(NOW, OVERLAP)
        seen[:] = [_untidied(own, NOW + OVERLAP)]

    def check(own: Own) -> None:
        (expected,) = seen
        for standing in (_untidied(own, NOW + OVERLAP), own.load(NOW + OVERLAP)):
            assert standing.bundle == expected.bundle
            assert standing.issuer.certificate == expected.issuer.certificate
            assert standing.rotation is None
        assert _names(own.directory) == ["ca.crt", "ca.key", "previous.crt"]

    steps = crash_everywhere(prepare, lambda own: own.load(NOW + OVERLAP), check)
    assert steps > 8


def test_a_clock_set_back_amid_a_change_over_does_not_lose_the_ca(own: Own, home: Path) -> None:
    new = own.rotate(NOW, OVERLAP).certificate
    (home / "next.key").replace(home / "ca.key")
    assert _untidied(own, NOW).issuer.certificate == new
    assert own.load(NOW).issuer.certificate == new
    assert _names(home) == ["ca.crt", "ca.key", "previous.crt"]
