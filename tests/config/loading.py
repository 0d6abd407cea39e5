"""Loads what a test writes down, and tells what was wrong with it."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from entrepot.config.load import Loaded, load_config
from entrepot.config.model import Config
from entrepot.errors import ConfigError

NOTHING: Mapping[str, str] = {}


class Loading:
    def __init__(self, directory: Path) -> None:
        self.path = directory / "entrepot.yaml"

    def load(
        self,
        text: str | None = None,
        environ: Mapping[str, str] = NOTHING,
        overrides: Mapping[str, str] = NOTHING,
    ) -> Loaded:
        if text is not None:
            self.path.write_text(text)
        return load_config(None if text is None else self.path, environ, overrides)

    def config(
        self,
        text: str | None = None,
        environ: Mapping[str, str] = NOTHING,
        overrides: Mapping[str, str] = NOTHING,
    ) -> Config:
        loaded = self.load(text, environ, overrides)
        assert loaded.warnings == ()
        return loaded.config

    def errors(
        self,
        text: str | None = None,
        environ: Mapping[str, str] = NOTHING,
        overrides: Mapping[str, str] = NOTHING,
    ) -> list[str]:
        """The lines of the ConfigError, with the file's name short."""
        with pytest.raises(ConfigError) as caught:
            self.load(text, environ, overrides)
        return str(caught.value).replace(f"{self.path}:", "file:").split("\n")
