"""Single values: text to typed value and back, and what is expected where that fails."""

import errno
import ipaddress
import math
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from entrepot.config import patterns
from entrepot.config.kinds import FOREVER, Bytes, Expected, Form, ProxyUrl, Seconds, Secret
from entrepot.config.model import DOCKER_HUB
from entrepot.errors import system_reason

# What `config show` prints in place of a secret; nobody's password, so loading it is a mistake.
HIDDEN = "(hidden)"


# ---- durations and sizes -------------------------------------------------------------------

# In milliseconds, so that sums of whole units are exact.
_DURATIONS = {
    "ms": 1,
    "s": 1000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 7 * 86_400_000,
    "y": 365 * 86_400_000,
}
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?) *(ms|[smhdwy])")
_DURATION = re.compile(rf"(?:{_DURATION_PART.pattern} *)+\Z")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:e-?[0-9]+)?\Z")
_CENTURY_S = 100 * 365 * 86400
_EXPECTED_DURATION = 'a duration such as 60s, 5m, 1h, 30d, "unlimited"'


def parse_seconds(text: str) -> Seconds:
    if text.lower() in {"unlimited", ".inf"}:
        return FOREVER
    if _NUMBER.match(text):
        value = float(text)
    elif _DURATION.match(text):
        parts = _DURATION_PART.findall(text)
        value = sum(float(count) * _DURATIONS[unit] for count, unit in parts) / 1000
    else:
        raise Expected(_EXPECTED_DURATION)
    if value > _CENTURY_S:
        raise Expected('a duration of at most 100y, or "unlimited"')
    return Seconds(value)


def format_seconds(value: Seconds) -> str:
    if math.isinf(value):
        return "unlimited"
    milliseconds = round(value * 1000)
    if milliseconds / 1000 != value:
        return repr(float(value))
    for unit in ("d", "h", "m", "s"):
        if milliseconds and milliseconds % _DURATIONS[unit] == 0:
            return f"{milliseconds // _DURATIONS[unit]}{unit}"
    return f"{milliseconds}ms" if milliseconds else "0s"


_SIZE_UNITS = "kmgtp"
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) *(?:([kmgtp])i?b?|b)?\Z", re.IGNORECASE)


def parse_bytes(text: str) -> Bytes:
    """k, KB and KiB are all 1024, as nginx and Docker have it."""
    match = _SIZE.match(text)
    if not match:
        raise Expected("a size such as 32g, 512m, 10k, 1.5 GiB")
    number, unit = match[1], (match[2] or "").lower()
    factor = 1024 ** (_SIZE_UNITS.index(unit) + 1) if unit else 1
    value = float(number) * factor if "." in number else int(number[:30]) * factor
    if value >= 1 << 63:
        raise Expected("a size below 8 EiB")
    return Bytes(int(value))


def format_bytes(value: Bytes) -> str:
    for power in range(len(_SIZE_UNITS), 0, -1):
        if value and value % 1024**power == 0:
            return f"{value // 1024**power}{_SIZE_UNITS[power - 1]}"
    return str(value)


# ---- plain types ---------------------------------------------------------------------------

_BOOLEANS = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}


def parse_bool(text: str) -> bool:
    try:
        return _BOOLEANS[text.lower()]
    except KeyError:
        raise Expected("true or false") from None


def parse_int(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,15}", text):
        raise Expected("a whole number")
    return int(text)


def parse_secret(text: str) -> Secret:
    if text == HIDDEN:
        raise Expected(f"a secret, not the {HIDDEN} that stands for one in `config show`")
    if not text:
        raise Expected("a secret, not an empty text")
    return Secret(text)


def parse_path(text: str, base: Path) -> Path:
    if not text or "\0" in text:
        raise Expected("a path")
    return base / os.path.expanduser(text)  # noqa: PTH111 - Path's raises where there is no home


# ---- names and addresses -------------------------------------------------------------------

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\Z")
_PORT = re.compile(r"[0-9]{1,5}\Z")
SECRET_MIN = 16
_MAX_PORT = 65535
# How people call Docker Hub; all are one registry.
_DOCKER_HUB_NAMES = frozenset(
    {"docker.io", "registry-1.docker.io", "index.docker.io", "auth.docker.io"}
)


def _is_host(text: str) -> bool:
    """A DNS name, an IPv4 address, or an IPv6 address in brackets; lower case."""
    if text.startswith("[") and text.endswith("]"):
        return _is_address(text[1:-1], ipaddress.IPv6Address)
    if re.fullmatch(r"[0-9.]+", text):
        return _is_address(text, ipaddress.IPv4Address)
    return bool(_NAME.match(text))


def _is_address(text: str, kind: Callable[[str], object]) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return True


def _split_port(text: str) -> tuple[str, int | None]:
    """(host, port); a port that is none stays with the host, which then is no host."""
    host, colon, port = text.rpartition(":")
    if colon and _PORT.match(port) and 0 <= int(port) <= _MAX_PORT:
        return host, int(port)
    return text, None


def parse_address(text: str) -> tuple[str, int]:
    """(host, port) of a `listen` address; "" is every address, brackets are taken off."""
    host, port = _split_port(text.lower())
    if port is None or not (host in {"", "*"} or _is_host(host)):
        raise Expected("an address such as *:3128, 0.0.0.0:3128, [::1]:3128, :3128")
    return ("" if host == "*" else host.strip("[]")), port


def _address(text: str) -> str:
    host, port = parse_address(text)
    if ":" in host:
        host = f"[{host}]"
    return f"{host or '*'}:{port}"


def _further_address(text: str) -> str:
    return _address(text) if text else ""


def _host(text: str) -> str:
    if not _is_host(text.lower()):
        raise Expected("a host name or an address, without port")
    return text.lower()


def _host_port(text: str) -> str:
    if not _is_authority(text):
        raise Expected("host or host:port")
    return text.lower()


def _is_authority(text: str) -> bool:
    host, port = _split_port(text.lower())
    return _is_host(host) and port != 0


def _pattern(text: str) -> str:
    lowered = text.lower()
    if not _is_host(lowered.removeprefix("*.")):
        raise Expected("a host name, an address or a pattern such as *.example.com")
    return lowered


def _network(text: str) -> str:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        message = "a network such as 10.0.0.0/8 or fc00::/7, or an address"
        try:
            loose = ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise Expected(message) from None
        raise Expected(f"{message}; perhaps {loose}") from None
    return text


def registry_name(text: str) -> str:
    """The canonical name of a registry: lower case, and one name for Docker Hub."""
    lowered = text.lower()
    if "/" in lowered or "@" in lowered:
        authority = re.sub(r"\A[a-z0-9+.-]*://", "", lowered).partition("/")[0]
        host = authority.rpartition("@")[2]
        # The text is not shown: a URL may hold a password.
        hint = f"; write {host}" if _is_host(_split_port(host)[0]) else ""
        raise Expected(f"a registry's name without scheme, path or credentials{hint}")
    host, port = _split_port(lowered)
    pattern = host.startswith("*.")
    if not _is_host(host.removeprefix("*.")) or port == 0 or (pattern and port):
        raise Expected(f"a registry's name: host, host:port or *.example.com; got {text[:60]!r}")
    if host in _DOCKER_HUB_NAMES and port in {None, 443}:
        return DOCKER_HUB
    return host if port is None else f"{host}:{port}"


def _user(text: str) -> str:
    if not text or ":" in text:
        raise Expected("a user's name, which holds no colon")
    return text


# ---- URLs ----------------------------------------------------------------------------------


def _split_url(text: str) -> SplitResult | None:
    if re.search(r"[\s\x00-\x1f]", text):
        return None
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        return None
    host = f"[{url.hostname}]" if url.hostname and ":" in url.hostname else url.hostname
    if url.scheme not in {"http", "https"} or not host or not _is_host(host) or port == 0:
        return None
    return url


def _endpoint(text: str) -> str:
    url = _split_url(text)
    if url is None or url.query or url.fragment or text[-1] in "?#":
        hint = "; begin with http:// or https://" if _is_authority(text) else ""
        raise Expected(f"an http:// or https:// URL without query{hint}")
    if url.username is not None or url.password is not None:
        raise Expected("a URL without credentials (which are settings beside it)")
    return text.rstrip("/")


def _proxy(text: str) -> str:
    if text.lower() in {"", "none"}:
        return text.lower()
    url = text if "://" in text else f"http://{text}"
    split = _split_url(url)
    plain = split and not split.query and not split.fragment and split.path in {"", "/"}
    if not plain or HIDDEN in text:
        raise Expected("a proxy such as http://proxy.example.com:3128, or none")
    return ProxyUrl(url.rstrip("/"))


# ---- what the marks of the model ask for ---------------------------------------------------


def _readable(path: Path) -> Path:
    # Not by opening it: a pipe can be opened once.
    try:
        is_directory = stat.S_ISDIR(path.stat().st_mode)
    except OSError as error:
        raise Expected(f"a file that can be read; {path}: {system_reason(error)}") from None
    if is_directory:
        raise Expected(f"a file that can be read; {path} is a directory")
    if not os.access(path, os.R_OK):
        denied = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        raise Expected(f"a file that can be read; {path}: {system_reason(denied)}")
    return path


def _timeout(value: Seconds) -> Seconds:
    if not 0 < value < FOREVER:
        raise Expected("a duration of more than nothing, and not unlimited")
    return value


def _finite(value: Seconds) -> Seconds:
    if value == FOREVER:
        raise Expected("a duration, and not unlimited")
    return value


def _positive(value: int) -> int:
    if value <= 0:
        raise Expected("more than 0")
    return value


def _count(value: int) -> int:
    if value < 0:
        raise Expected("0 or more")
    return value


def _port(value: int) -> int:
    if not 0 < value <= _MAX_PORT:
        raise Expected("a port from 1 to 65535")
    return value


def _long(value: Secret) -> Secret:
    """Who guesses it seals tokens of its own: short ones are guessed from one token, offline."""
    if len(value.reveal()) < SECRET_MIN:
        raise Expected(f"a secret of at least {SECRET_MIN} characters")
    return value


_SCHEDULE = re.compile(
    r"(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day +)?(?:[01][0-9]|2[0-3]):[0-5][0-9]\Z"
)


def _schedule(text: str) -> str:
    if text and not _SCHEDULE.match(text.lower()):
        raise Expected("a time of day such as 03:30, or a day and a time such as sunday 03:30")
    return " ".join(text.lower().split())


FORMS: dict[Form, Callable[[Any], Any]] = {
    Form.ADDRESS: _address,
    Form.FURTHER_ADDRESS: _further_address,
    Form.NETWORK: _network,
    Form.HOST: _host,
    Form.HOST_PORT: _host_port,
    Form.PATTERN: _pattern,
    Form.ENDPOINT: _endpoint,
    Form.PROXY: _proxy,
    Form.MATCH: patterns.match,
    Form.REPOSITORY: patterns.repository_match,
    Form.TAG: patterns.tag_match,
    Form.USER: _user,
    Form.READABLE: _readable,
    Form.TIMEOUT: _timeout,
    Form.FINITE: _finite,
    Form.POSITIVE: _positive,
    Form.COUNT: _count,
    Form.PORT: _port,
    Form.LONG: _long,
    Form.SCHEDULE: _schedule,
}
