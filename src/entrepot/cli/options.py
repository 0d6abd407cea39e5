"""What several verbs share: which configuration is meant, and how a bad one is told."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import click

from entrepot.config.environment import CONFIG_VARIABLE
from entrepot.config.load import Loaded, load_config
from entrepot.config.model import Config
from entrepot.errors import ConfigError

DEFAULT_FILE = Path("/etc/entrepot/entrepot.yaml")


def config_option[**P, T](command: Callable[P, T]) -> Callable[P, T]:
    """`--config FILE`, handed on as `config_path`: Path or None."""
    return click.option(
        "--config",
        "config_path",
        type=click.Path(path_type=Path, readable=False),  # what cannot be read `load` says
        envvar=CONFIG_VARIABLE,
        show_envvar=True,
        metavar="FILE",
        default=_default_file,
        help=f"Settings in YAML; default: {DEFAULT_FILE} where it exists.",
    )(command)


def _default_file() -> Path | None:
    """Also when it may not be looked at: without it the proxy would be another one."""
    try:
        DEFAULT_FILE.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        pass
    return DEFAULT_FILE


def load_for_cli(path: Path | None, overrides: Mapping[str, str] | None = None) -> Config:
    """The configuration with its warnings on stderr; a bad one ends the command with status 1."""
    return load_loudly(path, overrides, serves=False).config


def load_loudly(
    path: Path | None, overrides: Mapping[str, str] | None = None, *, serves: bool
) -> Loaded:
    try:
        loaded = load_config(path, os.environ, overrides or {}, serves=serves)
    except ConfigError as error:
        raise click.ClickException(str(error)) from error
    for warning in loaded.warnings:
        click.echo(f"Warning: {warning}", err=True)
    return loaded
