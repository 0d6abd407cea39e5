"""What a configuration names outside itself, and is not there or not as it should be.

Found out by looking, so it may be otherwise a minute later: what is said of it is for people.
"""

import ssl
from collections.abc import Iterator
from pathlib import Path
from shutil import which

from entrepot.config.local import GarbageCollection, LocalRegistry
from entrepot.config.model import Config, Registry
from entrepot.config.tree import KeyPath
from entrepot.errors import system_reason

# More than any password; a file of another kind is not read whole.
_PASSWORD_MAX = 64 << 10

type Finding = tuple[KeyPath, str]


def lacking(config: Config, search_path: str | None) -> Iterator[Finding]:
    """What requests to a registry will fail on, and jobs for it. `search_path` is $PATH."""
    for name, registry in config.registries.items():
        for key, message in _of_registry(registry, search_path):
            yield ("registries", name, key), message
    for name, local in config.local_registries.items():
        path = ("local_registries", name)
        for key, message in _of_local(local):
            yield (*path, key), message
        for key, message in _of_collection(local.gc, search_path):
            yield (*path, "gc", key), message


def _of_registry(registry: Registry, search_path: str | None) -> Iterator[tuple[str, str]]:
    program = f"docker-credential-{registry.helper}" if registry.helper else ""
    if program and not which(program, path=search_path):
        yield "helper", f"expected {program} on the PATH ({search_path or 'which is empty'})"
    if registry.exec and not which(registry.exec[0], path=search_path):
        yield "exec", _no_program(registry.exec[0])
    if registry.password_file and (problem := _of_password(registry.password_file)):
        yield "password_file", f"expected a password; {registry.password_file}: {problem}"
    if registry.ca_bundle and (problem := _of_bundle(registry.ca_bundle)):
        yield "ca_bundle", f"expected certificates in PEM; {registry.ca_bundle}: {problem}"


def _of_local(local: LocalRegistry) -> Iterator[tuple[str, str]]:
    file = local.upstream_password_file
    if file and (problem := _of_password(file)):
        yield "upstream_password_file", f"expected a password; {file}: {problem}"
    if local.ca_bundle and (problem := _of_bundle(local.ca_bundle)):
        yield "ca_bundle", f"expected certificates in PEM; {local.ca_bundle}: {problem}"


def _of_collection(
    settings: GarbageCollection, search_path: str | None
) -> Iterator[tuple[str, str]]:
    if settings.storage and not settings.storage.is_dir():
        yield "storage", f"expected a directory; {settings.storage} is none"
    # The default's is seldom here; by hand it is started where it is.
    if settings.schedule and not which(settings.command[0], path=search_path):
        yield "command", _no_program(settings.command[0])


def _no_program(name: str) -> str:
    return f"expected a program that can be started; {name} is none"


def _of_password(path: Path) -> str:
    try:
        with path.open("rb") as file:
            text = file.read(_PASSWORD_MAX).decode().rstrip("\r\n")
    except OSError as error:
        return system_reason(error)
    except UnicodeDecodeError:
        return "it is not UTF-8 text"
    return "" if text else "it is empty"


def _of_bundle(path: Path) -> str:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except ssl.SSLError:
        return "there is none in it"
    except OSError as error:
        return system_reason(error)
    return ""
