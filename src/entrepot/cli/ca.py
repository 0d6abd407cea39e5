"""`entrepot ca`: make, show, export and rotate the authority that clients trust."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import click
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from entrepot.ca.authority import Authority, directory_of, source_of, with_colons
from entrepot.ca.issuer import fingerprint, moment
from entrepot.ca.names import constraints_of, vouched_names
from entrepot.ca.own import Own
from entrepot.cli.options import config_option, load_for_cli
from entrepot.clock import SystemClock
from entrepot.config.model import Config
from entrepot.errors import ConfigError


def _where[**P, T](command: Callable[P, T]) -> Callable[P, T]:
    """`--config` and `--data`, by which every verb finds the CA."""
    data = click.option("--data", metavar="DIR", help="Data directory, in place of the settings'.")
    return config_option(data(command))


@click.group("ca")
def ca_group() -> None:
    """The certificate authority that clients trust."""


@ca_group.command()
@_where
def init(config_path: Path | None, data: str | None) -> None:
    """Make the CA where there is none. Tells where it is, and its fingerprint."""
    config = _config(config_path, data)
    authority = _open(config, create=True)
    click.echo(f"CA           {config.ca.certificate or directory_of(config) / 'ca.crt'}")
    click.echo(f"Fingerprint  {with_colons(authority.fingerprint_sha256)}")


@ca_group.command()
@_where
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(config_path: Path | None, data: str | None, *, as_json: bool) -> None:
    """Show the CA that signs, and a pending rotation."""
    authority = _open(_config(config_path, data), create=False)
    facts = _facts(authority)
    if as_json:
        click.echo(json.dumps({**facts, "warnings": authority.warnings}, indent=2))
        return
    for name, fact in facts.items():
        for line in fact if isinstance(fact, list) else [fact]:
            click.echo(f"{name.replace('_', ' '):20}{'-' if line is None else line}")


@ca_group.command()
@_where
@click.option("--overlap", metavar="TIME", help="How long the old CA signs on (30d, 12h, 0s).")
@click.option("--yes", is_flag=True, help="Do not ask.")
def rotate(config_path: Path | None, data: str | None, overlap: str | None, *, yes: bool) -> None:
    """Make a CA that takes over after an overlap.

    In the overlap every client has to learn to trust it.
    """
    overrides = {"data": data, "ca.overlap": overlap}
    config = load_for_cli(config_path, {key: text for key, text in overrides.items() if text})
    now = SystemClock().now()
    with _told():
        source = source_of(directory_of(config), config.ca, vouched_names(config))
        if not isinstance(source, Own):
            raise ConfigError(
                "the CA is your own (ca.certificate): make its successor where you made it, let"
                " clients trust both, then replace both files; a running proxy takes them up"
                " within a minute"
            )
        source.load(now)  # what cannot be rotated is told before anything is asked
        signs_from = moment(now + min(config.ca.overlap, 3650 * 86400))
        if not yes:
            click.confirm(f"Make a new CA that signs from {signs_from}?", abort=True)
        rotation = source.rotate(now, config.ca.overlap)
    click.echo(f"The new CA signs from {moment(rotation.signs_from)}. Until then, every client")
    click.echo("must fetch /ca.crt again, which holds the old and the new one from now on.")
    click.echo(f"Fingerprint  {with_colons(fingerprint(rotation.certificate))}")


@ca_group.command()
@_where
@click.option(
    "--output", type=click.Path(path_type=Path), metavar="FILE", help="Where to; default: stdout."
)
@click.option(
    "--format",
    "encoding",
    type=click.Choice(["pem", "der"]),
    default="pem",
    help="pem: all of it; der: the CA that signs.",
)
def export(config_path: Path | None, data: str | None, output: Path | None, encoding: str) -> None:
    """Write out what clients are to trust."""
    authority = _open(_config(config_path, data), create=False)
    bundle = authority.standing.bundle
    content = authority.bundle_pem() if encoding == "pem" else bundle[0].public_bytes(Encoding.DER)
    if encoding == "der" and len(bundle) > 1:
        click.echo(f"Warning: DER holds one certificate; {len(bundle) - 1} left out", err=True)
    if output is None:
        click.echo(content, nl=False)
        return
    try:
        output.write_bytes(content)
    except OSError as error:
        raise click.ClickException(f"{output} cannot be written: {error.strerror}") from error


def _config(config_path: Path | None, data: str | None) -> Config:
    return load_for_cli(config_path, {"data": data} if data else None)


def _open(config: Config, *, create: bool) -> Authority:
    with _told():
        authority = Authority.open(
            directory_of(config), config.ca, SystemClock(), vouched_names(config), create=create
        )
    for warning in authority.warnings:
        click.echo(f"Warning: {warning}", err=True)
    return authority


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        raise click.ClickException(str(error)) from error


def _facts(authority: Authority) -> dict[str, str | float | list[str] | None]:
    standing = authority.standing
    issuer, coming = standing.issuer, standing.rotation
    return {
        "subject": issuer.certificate.subject.rfc4514_string(),
        "fingerprint": with_colons(authority.fingerprint_sha256),
        "fingerprint_sha256": authority.fingerprint_sha256,
        "valid_from": moment(issuer.valid_from).isoformat(),
        "expires_at": moment(issuer.expires_at).isoformat(),
        "days_left": round(authority.days_left(SystemClock().now()), 1),
        "permitted": _limits(issuer.certificate, "permitted_subtrees"),
        "excluded": _limits(issuer.certificate, "excluded_subtrees"),
        "next_signs_from": moment(coming.signs_from).isoformat() if coming else None,
        "next_fingerprint": with_colons(fingerprint(coming.certificate)) if coming else None,
        "bundle": [one.subject.rfc4514_string() for one in standing.bundle],
    }


def _limits(
    certificate: x509.Certificate, which: Literal["permitted_subtrees", "excluded_subtrees"]
) -> list[str] | None:
    """None where the certificate sets no limits of the kind."""
    trees: list[x509.GeneralName] | None = getattr(constraints_of(certificate), which, None)
    return None if trees is None else [str(tree.value) for tree in trees]
