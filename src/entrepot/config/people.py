"""Who has a password: one user by name, or several in a file. What is wrong in how it is said."""

from collections.abc import Iterator
from pathlib import Path

from entrepot.config.kinds import Secret
from entrepot.config.local import LocalRegistry
from entrepot.config.model import Clients
from entrepot.config.tree import KeyPath

type Finding = tuple[KeyPath, str]


def people_findings(path: KeyPath, people: Clients | LocalRegistry) -> Iterator[Finding]:
    one_user = (people.username, people.password, people.password_file)
    if people.htpasswd is None:
        yield from login_findings(path, *one_user)
    elif one_user != ("", None, None):
        yield (*path, "htpasswd"), "expected htpasswd, or username with its password, not both"


def login_findings(
    path: KeyPath,
    username: str,
    password: Secret | None,
    password_file: Path | None,
    *,
    prefix: str = "",
) -> Iterator[Finding]:
    """A name and one password, or neither."""
    given = [
        f"{prefix}{key}"
        for key, value in (("password", password), ("password_file", password_file))
        if value is not None
    ]
    if len(given) > 1:
        yield (*path, given[-1]), f"expected one of {given[0]} and {given[1]}"
    if username and not given:
        message = f"expected {prefix}password or {prefix}password_file beside {prefix}username"
        yield (*path, f"{prefix}username"), message
    elif given and not username:
        yield (*path, given[0]), f"expected {prefix}username beside {given[0]}"
    elif ":" in username:
        yield (*path, f"{prefix}username"), "expected a name without a colon"
