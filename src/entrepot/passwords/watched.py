"""A small file that is read again when it has changed."""

import logging
from collections.abc import Callable
from os import stat_result
from pathlib import Path

from entrepot.errors import ConfigError, system_reason

logger = logging.getLogger(__name__)

# Thousands of users; a file of another kind is not read whole.
_SIZE_MAX = 4 << 20

type _Version = tuple[int, int, int, int]


class Watched[T]:
    """`where` is the setting that names it. ConfigError where it is of no use at the start."""

    def __init__(self, where: str, path: Path, parse: Callable[[str], T]) -> None:
        self._name = f"{where}: {path}"
        self._path = path
        self._parse = parse
        self._version: _Version | None = None
        self._problem = ""
        self._content = self._read()

    def current(self) -> T:
        """The same object as long as the file is the same. Of a new version that is of no use the
        log tells, and the one before it holds: a slip of the pen locks nobody out.
        """
        try:
            if self._version != _version_of(self._path.stat()):
                self._content = self._read()
                self._problem = ""
                logger.info("%s has changed and was read again", self._name)
        except OSError as error:
            self._keep(f"{self._name}: {system_reason(error)}")
        except ConfigError as error:
            self._keep(str(error))
        return self._content

    def _keep(self, problem: str) -> None:
        if problem != self._problem:
            logger.error("%s; what it said before holds", problem)
        self._problem = problem

    def _read(self) -> T:
        try:
            with self._path.open("rb") as file:
                # Before it is read: what is written meanwhile is then found to be a change.
                self._version = _version_of(self._path.stat())
                data = file.read(_SIZE_MAX + 1)
        except OSError as error:
            raise ConfigError(f"{self._name}: {system_reason(error)}") from error
        try:
            return self._parse(_text(data))
        except ConfigError as error:
            raise ConfigError(f"{self._name}: {error}") from None


def _text(data: bytes) -> str:
    if len(data) > _SIZE_MAX:
        raise ConfigError("it is too large")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError("it is not UTF-8 text") from None


def _version_of(found: stat_result) -> _Version:
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev
