"""Every setting, its default and what it does: the shipped file and the docs are made from here."""

from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Annotated, Any, Literal, NewType

Seconds = NewType("Seconds", float)
Bytes = NewType("Bytes", int)

FOREVER = Seconds(float("inf"))
MINUTE, HOUR, DAY = 60, 3600, 86400
GIB = 1 << 30


class Secret:
    """Text that shows itself only to who asks by name."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


class Form(Enum):
    """What a value must be beyond its type: `convert` checks and normalises by these marks."""

    ADDRESS = auto()  # what to listen on: *:3128, 0.0.0.0:3128, [::1]:3128
    NETWORK = auto()  # 10.0.0.0/8 or an address
    HOST = auto()  # a name or address without port
    HOST_PORT = auto()  # the same, with or without port
    PATTERN = auto()  # a name, an address or *.example.com
    ENDPOINT = auto()  # http(s) URL without credentials and query
    PROXY = auto()  # http(s) URL or none
    COMMAND = auto()  # split as a shell would when it is one text
    MATCH = auto()  # of a tag rule
    READABLE = auto()  # a file that is there
    TIMEOUT = auto()  # more than nothing, less than forever
    FINITE = auto()  # less than forever
    POSITIVE = auto()
    PORT = auto()
    LONG = auto()  # a text that nobody guesses


Host = Annotated[str, Form.HOST]
HostPort = Annotated[str, Form.HOST_PORT]
Pattern = Annotated[str, Form.PATTERN]
Network = Annotated[str, Form.NETWORK]
Endpoint = Annotated[str, Form.ENDPOINT]
Proxy = Annotated[str, Form.PROXY]
LongSecret = Annotated[Secret, Form.LONG]
Port = Annotated[int, Form.PORT]
ReadableFile = Annotated[Path, Form.READABLE]
Timeout = Annotated[Seconds, Form.TIMEOUT]
Span = Annotated[Seconds, Form.FINITE]
PositiveBytes = Annotated[Bytes, Form.POSITIVE]


class ProxyUrl(str):
    """A text that is not shown whole in a `repr`: parent proxies may need a password."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(redact_url(str(self)))


def redact_url(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "", url
    at, address = rest.rpartition("@")[1:]
    return f"{scheme}{separator}(hidden)@{address}" if at else url


def setting(default: Any, doc: str) -> Any:
    """A field with its documentation; a callable default makes a new value each time."""
    metadata = {"doc": doc}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


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
    exec: Annotated[tuple[str, ...], Form.COMMAND] = setting(
        (), "Command that prints {Username, Secret, ExpiresAt?} as JSON."
    )
    realms: tuple[Host, ...] = setting(
        (),
        "Hosts beside its own domain whose token service may be sent the credentials.",
    )
    push: Literal["allow", "deny"] = setting(
        "deny", "Whether writes are passed on; with the client's rights, or the operator's."
    )
    ca_bundle: ReadableFile | None = setting(
        None, "PEM file trusted for this upstream beside the system's."
    )
    verify: bool = setting(True, "Check the upstream's certificate.")
    proxy: Proxy = setting(
        "", "Parent proxy for this upstream: a URL, or none; default: see upstream.proxy."
    )
    connections: Annotated[int, Form.POSITIVE] = setting(
        64, "Simultaneous connections to this upstream at the most."
    )


DOCKER_HUB = "docker.io"
# Docker Hub's registry, its older name (crane and kaniko use it, `docker search` too), its tokens.
_DOCKER_HUB_HOSTS = ("registry-1.docker.io", "index.docker.io", "auth.docker.io")


def docker_hub() -> Registry:
    return Registry(hosts=_DOCKER_HUB_HOSTS, endpoints=("https://registry-1.docker.io",))


@dataclass(frozen=True, slots=True, kw_only=True)
class TagRule:
    match: Annotated[str, Form.MATCH] = setting(
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    max_size: PositiveBytes = setting(Bytes(32 * GIB), "What the cache may hold.")
    inactive: Seconds = setting(Seconds(60 * DAY), "What nobody asked for this long is removed.")
    min_free: Bytes = setting(Bytes(GIB), "What is left of the disk for others.")
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
    listen: Annotated[str, Form.ADDRESS] = setting(
        "*:3128", "Address and port of the proxy; * is every address."
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
    tags: Tags = setting(Tags, "How long movable names are believed.")
    auth: Auth = setting(Auth, "Who may read what.")
    upstream: Upstream = setting(Upstream, "How registries are reached.")
    storage: Storage = setting(Storage, "What is kept.")
    ca: Ca = setting(Ca, "The authority that clients trust.")
