"""What is wrong with what is said of the operator's own registries.

Fails closed: where the settings could be read in two ways, one of which opens a registry or
deletes from it, they are an error that says how to write the one or the other.
"""

from collections.abc import Iterator

from entrepot.config.convert import parse_address
from entrepot.config.local import EVERY_USER, NO_USER, AccessRule, LocalRegistry, RetentionRule
from entrepot.config.model import Config
from entrepot.config.people import Finding, login_findings, people_findings
from entrepot.config.tree import KeyPath

_NOBODY = (
    "nobody may use it; expected username and password_file for one user, htpasswd for several,"
    " or anonymous: [pull] for everybody without a password; as variables: USERNAME and PASSWORD,"
    " HTPASSWD_FILE, ANONYMOUS=pull"
)


def local_findings(path: KeyPath, local: LocalRegistry) -> Iterator[Finding]:
    if path[-1].startswith("*."):
        yield path, "expected the name of one registry, host or host:port, and no pattern"
    if not local.upstream:
        message = "expected at least one URL of the registry behind, such as http://registry:5000"
        yield (*path, "upstream"), message
    yield from login_findings(
        path,
        local.upstream_username,
        local.upstream_password,
        local.upstream_password_file,
        prefix="upstream_",
    )
    yield from people_findings(path, local)
    yield from _users(path, local)
    for number, rule in enumerate(local.retention):
        yield from _retention((*path, "retention", f"[{number}]"), rule)
    if not local.gc.command:
        yield (*path, "gc", "command"), "expected the command that collects garbage"


def _users(path: KeyPath, local: LocalRegistry) -> Iterator[Finding]:
    if local.username in {EVERY_USER, NO_USER}:
        message = f"expected a user's name: {local.username} stands for others in access rules"
        yield (*path, "username"), message
    if not (_has_users(local) or _is_open(local)):
        yield path, _NOBODY
        return
    for number, rule in enumerate(local.access):
        yield from _rule_users((*path, "access", f"[{number}]", "users"), local, rule)


def _has_users(local: LocalRegistry) -> bool:
    """A password without a name counts: what it lacks is told already."""
    sources = (local.password, local.password_file, local.htpasswd)
    return bool(local.username) or any(source is not None for source in sources)


def _is_open(local: LocalRegistry) -> bool:
    return bool(local.anonymous) or any(
        NO_USER in rule.users and rule.allow for rule in local.access
    )


def _rule_users(path: KeyPath, local: LocalRegistry, rule: AccessRule) -> Iterator[Finding]:
    named = [user for user in rule.users if user not in {EVERY_USER, NO_USER}]
    if not rule.users:
        yield path, f'expected users by name, "{EVERY_USER}" or {NO_USER}'
    elif not _has_users(local) and (named or NO_USER not in rule.users):
        message = (
            f"expected {NO_USER}, as nobody has a password here; username and password_file, or"
            " htpasswd, make users"
        )
        yield path, message
    elif local.username and (unknown := [user for user in named if user != local.username]):
        message = (
            f"there is no user {' or '.join(map(repr, unknown))}: username names the only one,"
            f" {local.username!r}; htpasswd in its place makes several"
        )
        yield path, message


def _retention(path: KeyPath, rule: RetentionRule) -> Iterator[Finding]:
    if not (rule.keep_last or rule.keep_for or rule.keep_tags):
        message = (
            "expected keep_last, keep_for or keep_tags: without one, every tag that it matches"
            " would be deleted; to keep all of them write keep_for: unlimited"
        )
        yield path, message


# ---- where clients reach them --------------------------------------------------------------


def listener_findings(config: Config) -> Iterator[Finding]:
    if not config.registry_listen:
        return
    if not config.local_registries:
        message = "expected local_registries beside it: there is nothing else to serve there"
        yield ("registry_listen",), message
    port = parse_address(config.registry_listen)[1]
    if port and port == parse_address(config.listen)[1]:
        yield ("registry_listen",), f"expected another port than listen's, which is {port}"
