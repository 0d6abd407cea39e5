"""`entrepot config`: what is in force, whether it is right, and a file to start from."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import click

from entrepot.cli.options import config_option, load_for_cli, load_loudly
from entrepot.config.local import LocalRegistry
from entrepot.config.model import Clients, Config
from entrepot.config.render import plain, render
from entrepot.config.template import render_documented, shipped
from entrepot.errors import ConfigError


@click.group("config")
def config_group() -> None:
    """Show and check the settings."""


@config_group.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of YAML.")
def show(config_path: Path | None, *, as_json: bool) -> None:
    """Print the settings in force, with secrets hidden."""
    config = load_for_cli(config_path)
    text = json.dumps(plain(config), indent=2) + "\n" if as_json else render(config)
    click.echo(text, nl=False)


@config_group.command()
@config_option
def check(config_path: Path | None) -> None:
    """Say what is wrong with the settings.

    Exits with 0 when nothing is, else with 1.
    """
    loaded = load_loudly(config_path, serves=True)
    if wrong := [*loaded.obstacles, *_useless_files(loaded.config)]:
        raise click.ClickException("\n".join(wrong))
    click.echo("The configuration is right.")


def _useless_files(config: Config) -> Iterator[str]:
    """Those that `serve` reads at its start, and does not start with."""
    # Here and not above: the engine comes along, which the other verbs need not wait for.
    from entrepot.secret_files import secrets_of  # noqa: PLC0415 - see above

    reads: list[Callable[[], object]] = [partial(_read_users, "clients", config.clients)]
    for name, local in config.local_registries.items():
        reads.append(partial(_read_users, f"local_registries.{name}", local))
    if config.auth.secret_file is not None:  # else one is made, which is for `serve` to do
        reads.append(partial(secrets_of, config))
    for read in reads:
        try:
            read()
        except ConfigError as error:
            yield str(error)


def _read_users(where: str, people: Clients | LocalRegistry) -> None:
    from entrepot.passwords.users import Users  # noqa: PLC0415 - as above

    Users.of(
        where,
        username=people.username,
        password=people.password,
        password_file=people.password_file,
        htpasswd=people.htpasswd,
    )


@config_group.command()
def template() -> None:
    """Print a settings file with every setting explained."""
    click.echo(render_documented(shipped()), nl=False)
