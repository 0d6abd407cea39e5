"""What a setting can be, and how it is declared."""

from dataclasses import field
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


class Expected(Exception):  # noqa: N818 - completes "expected …", and never leaves the package
    """What was expected of a text that is something else."""


class Form(Enum):
    """What a value must be beyond its type: `convert` checks and normalises by these marks."""

    ADDRESS = auto()  # what to listen on: *:3128, 0.0.0.0:3128, [::1]:3128
    FURTHER_ADDRESS = auto()  # the same, or nothing
    NETWORK = auto()  # 10.0.0.0/8 or an address
    HOST = auto()  # a name or address without port
    HOST_PORT = auto()  # the same, with or without port
    PATTERN = auto()  # a name, an address or *.example.com
    ENDPOINT = auto()  # http(s) URL without credentials and query
    PROXY = auto()  # http(s) URL or none
    COMMAND = auto()  # split as a shell would when it is one text
    MATCH = auto()  # of a tag rule
    REPOSITORY = auto()  # of a rule for repositories
    TAG = auto()  # a tag, or several by * and ?
    USER = auto()  # a name that a password can go with
    READABLE = auto()  # a file that is there
    TIMEOUT = auto()  # more than nothing, less than forever
    FINITE = auto()  # less than forever
    POSITIVE = auto()
    COUNT = auto()  # nothing or more
    PORT = auto()
    LONG = auto()  # a text that nobody guesses
    SCHEDULE = auto()  # 03:30, sunday 03:30, or nothing


Host = Annotated[str, Form.HOST]
HostPort = Annotated[str, Form.HOST_PORT]
Pattern = Annotated[str, Form.PATTERN]
Network = Annotated[str, Form.NETWORK]
Endpoint = Annotated[str, Form.ENDPOINT]
Proxy = Annotated[str, Form.PROXY]
LongSecret = Annotated[Secret, Form.LONG]
Port = Annotated[int, Form.PORT]
Schedule = Annotated[str, Form.SCHEDULE]
ReadableFile = Annotated[Path, Form.READABLE]
Timeout = Annotated[Seconds, Form.TIMEOUT]
Span = Annotated[Seconds, Form.FINITE]
PositiveBytes = Annotated[Bytes, Form.POSITIVE]

PositiveInt = Annotated[int, Form.POSITIVE]
Count = Annotated[int, Form.COUNT]
Match = Annotated[str, Form.MATCH]
RepositoryMatch = Annotated[str, Form.REPOSITORY]
TagMatch = Annotated[str, Form.TAG]
User = Annotated[str, Form.USER]
Address = Annotated[str, Form.ADDRESS]
FurtherAddress = Annotated[str, Form.FURTHER_ADDRESS]
Command = Annotated[tuple[str, ...], Form.COMMAND]
Policy = Literal["allow", "deny"]
Action = Literal["pull", "push", "delete"]


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
