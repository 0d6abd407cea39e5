"""Every setting, its default and what it does: the shipped file and the docs are made from here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from entrepot.config.kinds import (
    DAY,
    FOREVER,
    GIB,
    MINUTE,
    Address,
    Bytes,
    Command,
    Endpoint,
    FurtherAddress,
    Host,
    HostPort,
    LongSecret,
    Match,
    Network,
    Pattern,
    Policy,
    Port,
    PositiveBytes,
    PositiveInt,
    Proxy,
    ReadableFile,
    RepositoryMatch,
    Seconds,
    Secret,
    Span,
    Timeout,
    setting,
)
from entrepot.config.local import LocalRegistry


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    level: Literal["debug", "info", "warning", "error"] = setting("info", "How much is said.")
    format: Literal["auto", "console", "json"] = setting(
        "auto", "One line a request, for people or machines; auto: console on a terminal."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Clients:
    allow: tuple[Network, ...] = setting(
        (
            "127.0.0.0/8",
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "100.64.0.0/10",
            "169.254.0.0/16",
            "::1/128",
            "fc00::/7",
            "fe80::/10",
        ),
        "Networks whose hosts are served; others are refused.",
    )
    username: str = setting(
        "",
        "With a password: what clients must bring in HTTPS_PROXY=http://user:password@host:3128.",
    )
    password: Secret | None = setting(None, "Beside username; better: password_file.")
    password_file: ReadableFile | None = setting(None, "File that holds the password.")
    htpasswd: ReadableFile | None = setting(
        None, "In place of these: a file of several users as `htpasswd -B` writes it (bcrypt)."
    )
    header_timeout: Timeout = setting(Seconds(60), "For a request's head to come in whole.")
    idle_timeout: Timeout = setting(Seconds(300), "For a connection on which nothing happens.")
    send_timeout: Timeout = setting(
        Seconds(60), "For a client that reads nothing while there is something to send."
    )
    drain: Span = setting(Seconds(30), "For running transfers to finish after SIGTERM.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tunnel:
    policy: Literal["allow", "deny"] = setting(
        "allow", "What becomes of hosts that are no registry: tunnelled untouched, or refused."
    )
    hosts: tuple[Pattern, ...] = setting(
        (), "Exceptions from the policy: names or *.patterns, denied or allowed in turn."
    )
    ports: tuple[Port, ...] = setting((443, 80, 5000, 8443), "Ports that may be reached.")
    connect_timeout: Timeout = setting(Seconds(10), "For an address to answer.")


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryRule:
    match: RepositoryMatch = setting(
        "*", "Repository with * and ?, or /regular expression/ on the same."
    )
    pull: Policy | None = setting(None, "Whether it may be read; by default rules do not say.")
    push: Policy | None = setting(None, "Whether it may be written to.")
    delete: Policy | None = setting(None, "Whether anything in it may be deleted.")
    message: str = setting("", "What a client is told that is refused.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    hosts: tuple[HostPort, ...] = setting(
        (), "Further host[:port] names under which clients know this registry."
    )
    endpoints: tuple[Endpoint, ...] = setting(
        (), "URLs to fetch from, in order of preference; default: https:// and its name."
    )
    username: str = setting("", "Used for clients that bring no credentials of their own.")
    password: Secret | None = setting(None, "Beside username; better: password_file.")
    password_file: ReadableFile | None = setting(None, "File that holds the password.")
    helper: str = setting(
        "", "A docker credential helper to ask: ecr-login runs docker-credential-ecr-login."
    )
    exec: Command = setting((), "Command that prints {Username, Secret, ExpiresAt?} as JSON.")
    realms: tuple[Host, ...] = setting(
        (),
        "Hosts beside its own domain whose token service may be sent the credentials.",
    )
    audience: tuple[Network, ...] = setting(
        (),
        "Networks of clients that the credentials serve; others are as if there were none."
        " Default: all.",
    )
    push: Policy = setting("deny", "Whether writes are passed on, deletions too.")
    push_as: Literal["client", "operator"] = setting(
        "client",
        "With whose rights writes are made that bring no credentials: client: they are asked for"
        " some; operator: the credentials given here are used.",
    )
    rules: tuple[RepositoryRule, ...] = setting(
        (),
        "What may be done in which repositories: of those that match, the first that says"
        " something of the action decides. Without one: pull is allowed, the rest is as push.",
    )
    ca_bundle: ReadableFile | None = setting(
        None, "PEM file trusted for this upstream beside the system's."
    )
    verify: bool = setting(True, "Check the upstream's certificate.")
    proxy: Proxy = setting(
        "", "Parent proxy for this upstream: a URL, or none; default: see upstream.proxy."
    )
    connections: PositiveInt = setting(64, "Simultaneous connections to this upstream at the most.")


DOCKER_HUB = "docker.io"
# Docker Hub's registry, its older name (crane and kaniko use it, `docker search` too), its tokens.
_DOCKER_HUB_HOSTS = ("registry-1.docker.io", "index.docker.io", "auth.docker.io")


def docker_hub() -> Registry:
    return Registry(hosts=_DOCKER_HUB_HOSTS, endpoints=("https://registry-1.docker.io",))


@dataclass(frozen=True, slots=True, kw_only=True)
class TagRule:
    match: Match = setting(
        "*", "registry/repository:tag with * and ?, or /regular expression/ on the same."
    )
    ttl: Seconds | None = setting(None, "How long such a tag is fresh.")
    immutable: bool = setting(False, "Never asked for again once known.")
    never: bool = setting(False, "Never kept: each request asks the upstream.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tags:
    ttl: Seconds = setting(
        Seconds(60), "How long a tag is served without asking whether it moved (by a free HEAD)."
    )
    max_stale: Seconds = setting(
        FOREVER, "How long after that it is still served while the upstream is unreachable."
    )
    list_ttl: Seconds = setting(
        Seconds(30),
        "The same for tag lists, referrers and the catalog, which are stale for a day at most.",
    )
    rules: tuple[TagRule, ...] = setting((), "The first rule that matches a tag decides.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Auth:
    verdict_ttl: Seconds = setting(
        Seconds(5 * MINUTE), "How long an upstream's word on who may read a repository is believed."
    )
    offline_grace: Seconds = setting(
        FOREVER, "How long that word lives on while the upstream is unreachable."
    )
    secret: LongSecret | None = setting(
        None,
        "Seals the tokens given to clients, 16 characters or more; made and kept in the data"
        " directory when not given.",
    )
    secret_file: ReadableFile | None = setting(
        None, "File that holds it in its first line; further lines are former secrets."
    )
    former_secrets: tuple[LongSecret, ...] = setting(
        (), "Secrets of before: what they sealed can still be opened, nothing is sealed with them."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    proxy: Proxy = setting("", "Parent proxy: a URL, or none; default: HTTPS_PROXY, HTTP_PROXY.")
    no_proxy: tuple[str, ...] = setting((), "Hosts reached without it; default: NO_PROXY.")
    connect_timeout: Timeout = setting(Seconds(10), "For a connection to be made.")
    header_timeout: Timeout = setting(Seconds(60), "For an answer to begin.")
    read_timeout: Timeout = setting(Seconds(60), "For the next bytes of a body.")
    revalidate_timeout: Timeout = setting(
        Seconds(5), "For an answer to begin where something stale can be served instead."
    )
    retries: int = setting(5, "Attempts without progress before a download is given up.")
    retry_pause: Span = setting(Seconds(30), "How long an unreachable upstream is left alone.")
    ipv6: bool = setting(True, "Use IPv6 addresses too.")
    max_manifest: PositiveBytes = setting(
        Bytes(8 << 20), "Larger manifests are passed through, not kept."
    )
    read_ahead: bool = setting(
        True, "Fetch the layers of an image that is new here before the client asks for them."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    max_size: PositiveBytes = setting(Bytes(32 * GIB), "What the cache may hold.")
    inactive: Seconds = setting(Seconds(60 * DAY), "What nobody asked for this long is removed.")
    min_free: Bytes = setting(Bytes(GIB), "What is left of the disk for others.")
    keep_pushes: bool = setting(
        True, "Keep what clients push through the proxy, so that the first pull finds it."
    )
    scrub_interval: Span = setting(
        Seconds(7 * DAY), "How often all that is stored is read and checked; 0: never."
    )
    scrub_rate: PositiveBytes = setting(Bytes(50 << 20), "Bytes a second that this may read.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ca:
    directory: Path | None = setting(
        None, "Where the CA is kept; default: ca in the data directory."
    )
    certificate: ReadableFile | None = setting(
        None, "Your own root or intermediate, with its chain, in place of a made one."
    )
    key: ReadableFile | None = setting(None, "Its private key.")
    name_constraints: bool = setting(
        False, "Make a CA that can vouch for the configured registries only."
    )
    overlap: Span = setting(
        Seconds(30 * DAY), "After `entrepot ca rotate`: how long the old CA signs on."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    listen: Address = setting("*:3128", "Address and port of the proxy; * is every address.")
    registry_listen: FurtherAddress = setting(
        "",
        "Further address, such as *:443, where the local registries are served over TLS to clients"
        " that do not use the proxy; default: none.",
    )
    hostname: Host = setting("docker-registry.local", "The name by which clients know the proxy.")
    data: Path = setting(Path("/var/lib/entrepot"), "Directory of the CA and the cache.")
    log: Log = setting(Log, "What is said, and how.")
    clients: Clients = setting(Clients, "Who is served, and with how much patience.")
    tunnel: Tunnel = setting(Tunnel, "Connections to hosts that are no configured registry.")
    registries: dict[str, Registry] = setting(
        lambda: {DOCKER_HUB: docker_hub()},
        "Registries by host[:port] or *.pattern. Docker Hub is always one of them.",
    )
    local_registries: dict[str, LocalRegistry] = setting(
        dict, "Registries of your own behind this proxy, by the host[:port] clients name them by."
    )
    tags: Tags = setting(Tags, "How long movable names are believed.")
    auth: Auth = setting(Auth, "Who may read what.")
    upstream: Upstream = setting(Upstream, "How registries are reached.")
    storage: Storage = setting(Storage, "What is kept.")
    ca: Ca = setting(Ca, "The authority that clients trust.")

    @property
    def served(self) -> dict[str, Registry]:
        """All that is intercepted, the local registries as what they are to the proxy."""
        local = {name: _as_registry(own) for name, own in self.local_registries.items()}
        return self.registries | local


def _as_registry(local: LocalRegistry) -> Registry:
    """As the proxy sees it: who may do what there is decided before it is asked."""
    return Registry(
        hosts=local.hosts,
        endpoints=local.upstream,
        username=local.upstream_username,
        password=local.upstream_password,
        password_file=local.upstream_password_file,
        push="allow",
        push_as="operator",
        ca_bundle=local.ca_bundle,
        verify=local.verify,
        proxy="none",
        connections=local.connections,
    )
