"""`entrepot config`: what is in force, whether it is right, and a file to start from."""

import json
from pathlib import Path

import click

from entrepot.cli.options import config_option, load_for_cli, load_loudly
from entrepot.config.render import plain, render
from entrepot.config.template import render_documented, shipped


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
    if loaded.obstacles:
        raise click.ClickException("\n".join(loaded.obstacles))
    click.echo("The configuration is right.")


@config_group.command()
def template() -> None:
    """Print a settings file with every setting explained."""
    click.echo(render_documented(shipped()), nl=False)
