"""The secrets that seal tokens: as the settings give them, or kept in the data directory.

A file holds one to a line: the first seals, what follows are former ones, which open only. So a
secret is replaced by putting another before it, and reloading.
"""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from entrepot.config.convert import SECRET_MIN
from entrepot.config.kinds import Secret
from entrepot.config.model import Config
from entrepot.engine.sealing import Secrets
from entrepot.errors import ConfigError, system_reason


def secrets_of(config: Config) -> Secrets:
    """ConfigError where a file of them cannot be used."""
    auth = config.auth
    if auth.secret is not None:
        found = [auth.secret]
    elif auth.secret_file is not None:
        found = _read(auth.secret_file, "auth.secret_file")
    else:
        found = _kept(config.data / "secret")
    current, *former = found
    return Secrets(current, (*former, *auth.former_secrets))


def _read(path: Path, name: str) -> list[Secret]:
    try:
        lines = path.read_text("utf-8").split("\n")
    except OSError as error:
        message = f"{name}: {path} cannot be read: {system_reason(error)}"
        raise ConfigError(message) from error
    except UnicodeDecodeError:  # its text shows a part of the file
        raise ConfigError(f"{name}: {path} is not UTF-8 text") from None
    found = [(number, text) for number, line in enumerate(lines, 1) if (text := line.strip())]
    if not found:
        raise ConfigError(f"{name}: {path} is empty; expected a secret in its first line")
    for number, text in found:
        if len(text) < SECRET_MIN:
            raise ConfigError(
                f"{name}: {path}, line {number}: expected a secret of at least {SECRET_MIN}"
                " characters"
            )
    return [Secret(text) for _, text in found]


def _kept(path: Path) -> list[Secret]:
    """Made once, and then the same: tokens given before a restart are good after it."""
    try:
        if not path.exists():
            _make(path)
    except OSError as error:
        raise ConfigError(
            f"{path}, which seals tokens, cannot be made: {system_reason(error)}"
        ) from error
    return _read(path, "the secret that seals tokens")


def _make(path: Path) -> None:
    # Not by the process's number, which is 1 in every container that shares the directory.
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
            file.flush()
            os.fsync(descriptor)  # else power loss could leave the name without the text
        with suppress(FileExistsError):  # another process was faster: its secret holds
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
