"""The process's environment, read as texts with origins, secrets from files too."""

from collections.abc import Mapping
from pathlib import Path

from entrepot.config.convert import parse_bool
from entrepot.config.kinds import Expected
from entrepot.config.tree import Origin, Report, Scalar, read_text
from entrepot.errors import ConfigError


def unquoted(text: str) -> str:
    """Without one pair of matching quotes around it, which Compose leaves in lists."""
    if len(text) >= len("''") and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return text


class Variables:
    """An empty variable counts as not set: that is how Compose passes on what is not there."""

    def __init__(self, environ: Mapping[str, str], report: Report) -> None:
        self._environ = environ
        self._report = report

    def names(self) -> list[str]:
        return sorted(name for name, text in self._environ.items() if text)

    def text(self, name: str) -> Scalar | None:
        text = self._environ.get(name, "")
        return Scalar(Origin(name), text.strip()) if text.strip() else None

    def raw(self, name: str) -> str:
        """The text with its white space, which for a delimiter is what counts."""
        return self._environ.get(name, "")

    def first(self, *names: str) -> Scalar | None:
        return next((value for name in names if (value := self.text(name))), None)

    def flag(self, name: str) -> bool | None:
        value = self.text(name)
        if value is None:
            return None
        try:
            return parse_bool(value.text)
        except Expected as expected:
            self._report.problem(value.origin, (), f"expected {expected}; got {value.text[:60]!r}")
            return None

    def secret(self, name: str) -> Scalar | None:
        """The variable, or the content of the file that NAME_FILE names."""
        value = self.text(name)
        if not self.text(f"{name}_FILE"):
            return value
        if value:
            self._report.problem(Origin(f"{name}_FILE"), (), f"expected this or {name}, not both")
            return None
        return self.file(f"{name}_FILE")

    def file(self, name: str) -> Scalar | None:
        """The content of the file that the variable names, without its last newlines."""
        path = self.text(name)
        if path is None:
            return None
        try:
            content = read_text(Path(path.text).expanduser(), path.text)
        except (ConfigError, RuntimeError) as error:
            self._report.problem(Origin(name), (), str(error))
            return None
        text = content.rstrip("\r\n")
        if not text:
            self._report.problem(Origin(name), (), f"{path.text}: expected a secret; it is empty")
            return None
        return Scalar(Origin(name), text)
