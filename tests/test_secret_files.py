"""Where the secrets come from that seal tokens."""

import stat
from pathlib import Path

import pytest

from entrepot.config.kinds import Secret
from entrepot.config.model import Auth, Config
from entrepot.engine.sealing import Secrets
from entrepot.errors import ConfigError
from entrepot.secret_files import secrets_of

NEW, OLD, OLDER = "the-new-secret-of-all", "the-old-secret-of-all", "the-older-secret-of-all"


def of(*texts: str) -> Secrets:
    current, *former = map(Secret, texts)
    return Secrets(current, tuple(former))


class TestOfTheSettings:
    def test_given(self, tmp_path: Path) -> None:
        auth = Auth(secret=Secret(NEW), former_secrets=(Secret(OLD), Secret(OLDER)))
        assert secrets_of(Config(data=tmp_path, auth=auth)) == of(NEW, OLD, OLDER)
        assert not (tmp_path / "secret").exists()

    @pytest.mark.parametrize("text", [f"{NEW}\n{OLD}\n", f"\n{NEW}\r\n\r\n  {OLD} "])
    def test_a_file(self, tmp_path: Path, text: str) -> None:
        file = tmp_path / "file"
        file.write_text(text, newline="")
        auth = Auth(secret_file=file, former_secrets=(Secret(OLDER),))
        assert secrets_of(Config(data=tmp_path, auth=auth)) == of(NEW, OLD, OLDER)
        assert not (tmp_path / "secret").exists()

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"", "is empty; expected a secret in its first line"),
            (b" \n\n", "is empty"),
            (b"short\n", "line 1: expected a secret of at least 16 characters"),
            (f"{NEW}\n\nshort-one".encode(), "line 3: expected a secret of at least 16"),
            (b"\xff" * 20, "is not UTF-8 text"),
        ],
    )
    def test_a_file_that_cannot_be_used(self, tmp_path: Path, content: bytes, said: str) -> None:
        file = tmp_path / "file"
        file.write_bytes(content)
        with pytest.raises(ConfigError) as caught:
            secrets_of(Config(data=tmp_path, auth=Auth(secret_file=file)))
        assert said in str(caught.value)
        assert str(caught.value).startswith(f"auth.secret_file: {file}")
        assert "short-one" not in str(caught.value)

    def test_a_file_that_is_gone(self, tmp_path: Path) -> None:
        auth = Auth(secret_file=tmp_path / "gone")
        with pytest.raises(ConfigError, match=r"auth.secret_file: .*gone cannot be read: No such"):
            secrets_of(Config(data=tmp_path, auth=auth))


class TestKept:
    @pytest.fixture
    def config(self, tmp_path: Path) -> Config:
        return Config(data=tmp_path)

    def test_is_made_once_for_its_owner_alone(self, config: Config, tmp_path: Path) -> None:
        made = secrets_of(config)
        assert len(made.current.reveal()) >= 32
        assert secrets_of(config) == made
        (file,) = tmp_path.iterdir()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600

    def test_another_before_it_takes_its_place(self, config: Config, tmp_path: Path) -> None:
        made = secrets_of(config).current
        file = tmp_path / "secret"
        file.write_text(f"{NEW}\n{file.read_text()}")
        assert secrets_of(config) == Secrets(Secret(NEW), (made,))

    def test_settings_add_former_ones(self, tmp_path: Path) -> None:
        auth = Auth(former_secrets=(Secret(OLD),))
        assert secrets_of(Config(data=tmp_path, auth=auth)).former == (Secret(OLD),)

    def test_one_that_was_cut_short_is_not_sealed_with(
        self, config: Config, tmp_path: Path
    ) -> None:
        (tmp_path / "secret").write_text("")
        with pytest.raises(ConfigError, match="secret is empty"):
            secrets_of(config)

    def test_a_directory_to_make_it_in_is_needed(self, tmp_path: Path) -> None:
        config = Config(data=tmp_path / "none")
        with pytest.raises(ConfigError, match=r"seals tokens, cannot be made: No such file"):
            secrets_of(config)
