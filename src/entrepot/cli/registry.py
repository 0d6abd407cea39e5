"""`entrepot registry`: look after a registry of one's own. What is done is in `registry_jobs`."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from entrepot.cli.options import config_option, load_for_cli
from entrepot.cli.registry_names import Name, Names
from entrepot.config.model import Config
from entrepot.errors import EntrepotError

if TYPE_CHECKING:
    from entrepot.cli.registry_jobs import Jobs

type Options = str | Path | bool | None

_CARE = ("is_dry", "is_sure", "is_offline")


@dataclass(frozen=True, slots=True)
class Where:
    """Which registry, and how results are told."""

    config: Config
    names: Names
    options: dict[str, Options]

    def run(
        self, texts: tuple[str, ...], job: "Callable[[Jobs], Coroutine[None, None, None]]"
    ) -> None:
        # Here and not above: it brings the upstream client along, which other verbs do not need.
        from entrepot.cli.registry_jobs import Care, Jobs  # noqa: PLC0415

        care = Care(*(bool(self.options.get(name)) for name in _CARE))
        # What is waited for, beside warnings.
        logging.basicConfig(format="%(message)s")
        logging.getLogger("entrepot.local").setLevel(logging.INFO)
        try:
            registry = self.names.registry(texts)
            jobs = Jobs(self.config, registry, care, as_json=bool(self.options["as_json"]))
            asyncio.run(job(jobs))
        except EntrepotError as error:
            raise click.ClickException(str(error)) from error


def _where[**P, T](command: Callable[P, T]) -> Callable[P, T]:
    options = (
        config_option,
        click.option("--data", metavar="DIR", help="Data directory, in place of the settings'."),
        click.option("--registry", metavar="NAME", help="Which one, where there are several."),
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _careful[**P, T](command: Callable[P, T]) -> Callable[P, T]:
    """Of what deletes."""
    options = (
        click.option(
            "--dry-run", "is_dry", is_flag=True, help="Say what would go, and change nothing."
        ),
        click.option("--yes", "is_sure", is_flag=True, help="Do not ask."),
        click.option(
            "--offline",
            "is_offline",
            is_flag=True,
            help="The proxy is stopped: do not wait for it to hold pushes back.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.group("registry")
def registry_group() -> None:
    """Look after a registry of your own (local_registries).

    Names are written as for docker, with or without the registry's host in front.
    """


@registry_group.command("ls")
@click.argument("pattern", default="*")
@click.option("--all", "with_empty", is_flag=True, help="Those without a tag, too.")
@_where
def list_command(pattern: str, *, with_empty: bool, **options: Options) -> None:
    """List repositories.

    All, or those that match a pattern with * and ?.
    """
    at = _at(options)
    at.run(
        (pattern,),
        lambda jobs: jobs.list_repositories(at.names.path(pattern), with_empty=with_empty),
    )


@registry_group.command("tags")
@click.argument("repository")
@_where
def tags_command(repository: str, **options: Options) -> None:
    """List the tags of a repository.

    With digest, platforms and size, and when each was pushed and created.
    """
    at = _at(options)
    name = _parsed(at, (repository,))[0]
    at.run((repository,), lambda jobs: jobs.list_tags(name.repository))


@registry_group.command("du")
@click.argument("pattern", default="*")
@_where
def usage_command(pattern: str, **options: Options) -> None:
    """Show what repositories weigh.

    That is what their tags lead to, and counts once what is shared; below it all of them together,
    and what is in the storage (gc.storage).
    """
    at = _at(options)
    at.run((pattern,), lambda jobs: jobs.show_usage(at.names.path(pattern)))


@registry_group.command("rm")
@click.argument("names", nargs=-1, metavar="[REPO:TAG | REPO@DIGEST | REPO]...")
@click.option("--all", "whole", is_flag=True, help="Repositories, with all tags and versions.")
@click.option(
    "--untagged", is_flag=True, help="Versions that no tag leads to, in one repository or all."
)
@_careful
@_where
def remove_command(
    names: tuple[str, ...],
    *,
    whole: bool,
    untagged: bool,
    **options: Options,
) -> None:
    """Delete tags, versions, or whole repositories.

    Of tags these alone, also where others lead to the same version. Room is made by `entrepot
    registry gc` after it.
    """
    at = _at(options)
    parsed = _parsed(at, names)
    _check_targets(parsed, whole=whole, untagged=untagged)
    if untagged:
        only = parsed[0].repository if parsed else None
        at.run(names, lambda jobs: jobs.remove_untagged(only))
    elif whole:
        repositories = [name.repository for name in parsed]
        at.run(names, lambda jobs: jobs.remove_repositories(repositories))
    else:
        at.run(names, lambda jobs: jobs.remove_named(parsed))


@registry_group.command("gc")
@click.option("--untagged", is_flag=True, help="Versions that no tag leads to, too.")
@_careful
@_where
def collect_command(
    *,
    untagged: bool,
    **options: Options,
) -> None:
    """Remove from the storage what nothing needs.

    Pushes are held back meanwhile, with 503; pulls go on. Whatever becomes of this, pushes are let
    in again.
    """
    at = _at(options)
    at.run((), lambda jobs: jobs.collect(untagged=untagged))


@registry_group.command("retain")
@_careful
@_where
def retain_command(**options: Options) -> None:
    """Delete the tags that the rules of `retention` do not keep."""
    at = _at(options)
    at.run((), lambda jobs: jobs.retain())


def _at(options: dict[str, Options]) -> Where:
    path, data, registry = options["config_path"], options["data"], options["registry"]
    assert path is None or isinstance(path, Path)
    config = load_for_cli(path, {"data": str(data)} if data else None)
    try:
        names = Names(config, str(registry) if registry else None)
    except EntrepotError as error:
        raise click.ClickException(str(error)) from error
    return Where(config, names, options)


def _parsed(at: Where, texts: tuple[str, ...]) -> list[Name]:
    try:
        return [at.names.parse(text) for text in texts]
    except EntrepotError as error:
        raise click.UsageError(str(error)) from error


def _check_targets(names: list[Name], *, whole: bool, untagged: bool) -> None:
    has_target = [name.tag is not None or name.digest is not None for name in names]
    if whole and untagged:
        raise click.UsageError("--all deletes what is untagged, too: give one of both")
    if (whole or untagged) and any(has_target):
        raise click.UsageError("a repository is expected here, without tag or digest")
    if untagged and len(names) > 1:
        raise click.UsageError("--untagged takes one repository, or none for all")
    if not untagged and not names:
        raise click.UsageError("nothing to delete is named")
    if not (whole or untagged) and not all(has_target):
        raise click.UsageError("a tag or digest is missing; a whole repository goes with --all")
