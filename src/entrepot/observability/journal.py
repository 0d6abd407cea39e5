"""The log: one line an exchange, for people (console) or machines (json)."""

import json
import logging
import sys
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TextIO

from entrepot.config.model import Log
from entrepot.engine.message import Exchange

_ACCESS = logging.getLogger("entrepot.access")
# mitmproxy says each connection at info, and for clients that leave without a word at warning.
# That it cannot listen we say ourselves.
_QUIETER = {
    "mitmproxy": logging.ERROR,
    "mitmproxy.addons.proxyserver": logging.CRITICAL,
    "aiohttp": logging.WARNING,
    "asyncio": logging.WARNING,
}
_SERVER_ERROR = 500


def set_up_logging(settings: Log, stream: TextIO = sys.stderr) -> None:
    is_json = settings.format == "json" or (settings.format == "auto" and not stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if is_json else ConsoleFormatter())
    # Neither format has them, and they are looked up for each line.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger()
    root.handlers[:] = [handler]
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    root.setLevel(level)
    for name, quietest in _QUIETER.items():
        is_debugging = level <= logging.DEBUG
        logging.getLogger(name).setLevel(level if is_debugging else max(level, quietest))


def log_exchange(exchange: Exchange) -> None:
    trace = exchange.trace
    level = logging.INFO
    if exchange.status >= _SERVER_ERROR or not exchange.is_whole:
        level = logging.WARNING
    elif trace.kind == "page":
        level = logging.DEBUG  # health checks and scrapes come every few seconds
    if _ACCESS.isEnabledFor(level):
        _ACCESS.handle(_record(exchange, level))


@dataclass(frozen=True, slots=True)
class _Sentence:
    """Formatted by who wants it: one of the two formats does."""

    exchange: Exchange

    def __str__(self) -> str:
        return _sentence(self.exchange)


def _record(exchange: Exchange, level: int) -> logging.LogRecord:
    """As `Logger.log` makes it, which looks up the stack who has called: half of what it costs."""
    text = (_Sentence(exchange),)
    record = logging.LogRecord(_ACCESS.name, level, __file__, 0, "%s", text, None, "log_exchange")
    record.fields = _fields(exchange)
    return record


def _fields(exchange: Exchange) -> dict[str, object]:
    request, trace = exchange.request, exchange.trace
    fields: dict[str, object] = {
        "client": request.client,
        "method": request.method,
        "registry": trace.registry,
        "kind": trace.kind,
        "repository": trace.repository,
        "reference": trace.reference,
        "status": exchange.status,
        "cache": trace.cache,
        "bytes": exchange.sent,
        "seconds": round(exchange.seconds, 4),
        "upstream_seconds": round(trace.upstream_s, 4),
        "whole": exchange.is_whole,
        "agent": request.headers.get("user-agent", ""),
    }
    if not trace.repository:
        fields["path"] = request.path  # without its query, which may hold what is secret
    if trace.user:
        fields["user"] = trace.user
    if trace.error:
        fields["error"] = trace.error
    return fields


def _sentence(exchange: Exchange) -> str:
    request, trace = exchange.request, exchange.trace
    name = request.path
    if trace.repository:
        separator = "@" if ":" in trace.reference else ":"
        name = f"{trace.registry}/{trace.repository}{separator}{trace.reference[:19]}"
    elif trace.registry:
        name = f"{trace.registry}{request.path}"
    who = f"{trace.user}@{request.client}" if trace.user else request.client
    text = (
        f"{who} {request.method} {name} {exchange.status} {trace.cache or '-'} "
        f"{_size(exchange.sent)} {exchange.seconds:.3f}s"
    )
    if trace.upstream_s:
        text += f" upstream {trace.upstream_s:.3f}s"
    if not exchange.is_whole:
        text += " broken off"
    return f"{text}: {trace.error}" if trace.error else text


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":  # noqa: PLR2004 - as the units say
            return f"{size:.0f}{unit}" if unit == "B" else f"{size:.1f}{unit}"
        size /= 1000
    raise AssertionError


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": _timestamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        line |= getattr(record, "fields", None) or {"message": record.getMessage()}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)  # in ASCII: some readers end lines at U+0085 and U+2028


class ConsoleFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%H:%M:%S", time.localtime(record.created))
        text = f"{moment} {record.levelname.lower():7} {_printable(record.getMessage())}"
        if record.exc_info:
            lines = self.formatException(record.exc_info).splitlines()
            text += "".join(f"\n    {_printable(line)}" for line in lines)
        return text


def _timestamp(seconds: float) -> str:
    return f"{_second(int(seconds))}.{int(seconds * 1000) % 1000:03}Z"


@lru_cache(maxsize=2)  # lines come many a second
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _printable(text: str) -> str:
    """Names come from clients: a line end or an escape code in one must not forge a line."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
