"""The settings of registries of one's own."""

from dataclasses import dataclass
from pathlib import Path

from entrepot.config.kinds import (
    HOUR,
    MINUTE,
    Action,
    Command,
    Count,
    Endpoint,
    HostPort,
    PositiveInt,
    ReadableFile,
    RepositoryMatch,
    Schedule,
    Seconds,
    Secret,
    TagMatch,
    Timeout,
    User,
    setting,
)

EVERY_USER, NO_USER = "*", "anonymous"


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRule:
    match: RepositoryMatch = setting(
        "*", "Repository with * and ?, or /regular expression/ on the same."
    )
    users: tuple[User, ...] = setting(
        (EVERY_USER,), "Names; *: all with a password; anonymous: who brings none."
    )
    allow: tuple[Action, ...] = setting((), "What they may do there.")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionRule:
    match: RepositoryMatch = setting(
        "*", "Repository with * and ?, or /regular expression/ on the same."
    )
    keep_last: Count = setting(0, "How many of the newest tags are kept.")
    keep_for: Seconds = setting(Seconds(0), "How long after its push a tag is kept.")
    keep_tags: tuple[TagMatch, ...] = setting((), "Tags that are kept in any case, with * and ?.")


@dataclass(frozen=True, slots=True, kw_only=True)
class GarbageCollection:
    command: Command = setting(
        ("registry", "garbage-collect", "/etc/docker/registry/config.yml"),
        "What removes from the registry's storage what no manifest needs.",
    )
    storage: Path | None = setting(
        None,
        "The storage's directory (its rootdirectory) where it is one and to be seen from here:"
        " then it can be told how much is freed.",
    )
    schedule: Schedule = setting(
        "", "When it runs by itself, retention first: 03:30, or sunday 03:30; default: never."
    )
    untagged: bool = setting(
        False, "Whether the schedule deletes versions first that no tag leads to any more."
    )
    wait: Timeout = setting(
        Seconds(10 * MINUTE), "For running uploads to end; after that it is put off."
    )
    timeout: Timeout = setting(Seconds(6 * HOUR), "For the command; after that it is stopped.")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalRegistry:
    hosts: tuple[HostPort, ...] = setting((), "Further host[:port] names of it.")
    upstream: tuple[Endpoint, ...] = setting(
        (),
        "URLs of the registry processes behind it, in order of preference: all on one storage, and"
        " reached by nobody but this proxy.",
    )
    upstream_username: str = setting("", "What those ask for, if they do.")
    upstream_password: Secret | None = setting(
        None, "Beside upstream_username; better: upstream_password_file."
    )
    upstream_password_file: ReadableFile | None = setting(None, "File that holds it.")
    ca_bundle: ReadableFile | None = setting(
        None, "PEM file trusted for https:// upstreams beside the system's."
    )
    verify: bool = setting(True, "Check the upstream's certificate.")
    connections: PositiveInt = setting(64, "Simultaneous connections to the upstream at the most.")
    health_interval: Timeout = setting(
        Seconds(10), "How often each upstream is asked whether it is well."
    )
    username: str = setting("", "With a password: the one user there is.")
    password: Secret | None = setting(None, "Beside username; better: password_file.")
    password_file: ReadableFile | None = setting(None, "File that holds the password.")
    htpasswd: ReadableFile | None = setting(
        None, "In place of these: a file of several users as `htpasswd -B` writes it (bcrypt)."
    )
    anonymous: tuple[Action, ...] = setting(
        (), "What those may do who bring no password; default: nothing."
    )
    access: tuple[AccessRule, ...] = setting(
        (),
        "Who may do what in which repositories: the first rule that matches both decides; where"
        " none does, what anonymous says holds for all. Without rules: users may do everything.",
    )
    read_only: bool = setting(False, "Refuse all writes.")
    tag_ttl: Seconds = setting(
        Seconds(0), "How long a tag is served without asking the upstream whether it moved."
    )
    retention: tuple[RetentionRule, ...] = setting(
        (),
        "Which tags are deleted: the first rule that matches the repository decides, and a tag goes"
        " that nothing in it keeps. Where none does, all are kept.",
    )
    gc: GarbageCollection = setting(GarbageCollection, "How its storage is kept small.")
