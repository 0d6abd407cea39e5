"""`entrepot serve`"""

import asyncio
import logging
import os
from pathlib import Path

import click

from entrepot.cli.options import config_option, load_loudly
from entrepot.config.load import load_config
from entrepot.config.model import Config
from entrepot.errors import ConfigError, StorageError

logger = logging.getLogger(__name__)


@click.command("serve")
@config_option
@click.option(
    "--listen",
    metavar="ADDR:PORT",
    help="Where to listen, in place of the settings'; their default: *:3128.",
)
@click.option(
    "--registry-listen",
    metavar="ADDR:PORT",
    help="Where to serve the local registries over TLS to clients that do not use the proxy, in"
    " place of the settings'; their default: nowhere.",
)
@click.option("--data", metavar="DIR", help="Data directory, in place of the settings'.")
def serve_command(
    config_path: Path | None, listen: str | None, registry_listen: str | None, data: str | None
) -> None:
    """Run the proxy in the foreground.

    SIGTERM stops it when running transfers are done, SIGHUP reloads the configuration.
    """
    # Here and not above: it brings mitmproxy along, which the other verbs need not wait for.
    from entrepot.process import serve  # noqa: PLC0415

    flags = {"listen": listen, "registry_listen": registry_listen, "data": data}
    overrides = {name: value for name, value in flags.items() if value is not None}

    def reload() -> Config:
        """ConfigError, and not the end of the command."""
        loaded = load_config(config_path, os.environ, overrides)
        for warning in (*loaded.warnings, *loaded.obstacles):
            logger.warning("configuration: %s", warning)
        return loaded.config

    loaded = load_loudly(config_path, overrides, serves=True)
    for obstacle in loaded.obstacles:  # other registries can be served all the same
        click.echo(f"Warning: {obstacle}", err=True)
    try:
        asyncio.run(serve(loaded.config, reload))
    except* (ConfigError, StorageError) as group:
        raise click.ClickException("; ".join(map(str, group.exceptions))) from group
