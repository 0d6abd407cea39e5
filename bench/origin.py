"""A registry to fetch from: `python -m bench.origin PORT CERTIFICATE KEY`, told by its stdin.

As fast as a blocking writer over TLS is, or no faster than it is told, in all and for each
connection. Each line on stdin is a JSON object and is answered by one on stdout; the end of stdin
ends it. What it knows of registries is what a pull without tokens needs.
"""

import http.server
import json
import os
import re
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from bench.content import pieces

_STEP = 256 << 10
_SLOW_STEP = 16 << 10  # where there is a limit: what is sent flows, and does not come in bursts
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_OCTET_STREAM = "application/octet-stream"


class Limit:
    """So many bytes a second, for all who take; none where the rate is 0."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._lock = threading.Lock()
        self._next = 0.0

    def take(self, size: int) -> None:
        if not self.rate:
            return
        with self._lock:
            start = max(time.monotonic(), self._next)
            self._next = start + size / self.rate
        time.sleep(max(0.0, start - time.monotonic()))


@dataclass(frozen=True, slots=True)
class Item:
    """A blob by its nonce, or what lies in a file."""

    size: int
    digest: str
    media_type: str = _OCTET_STREAM
    nonce: bytes = b""
    file: str = ""

    def chunks(self, start: int, stop: int, step: int) -> Iterator[bytes | memoryview]:
        if not self.file:
            yield from pieces(self.size, self.nonce, start, stop, step)
            return
        descriptor = os.open(self.file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while start < stop:
                data = os.pread(descriptor, min(step, stop - start), start)
                yield data
                start += len(data)
        finally:
            os.close(descriptor)


@dataclass(slots=True)
class Shop:
    """What is offered, how fast, and what was sold. Counters are added to under the lock."""

    items: dict[str, Item] = field(default_factory=dict)
    total: Limit = field(default_factory=lambda: Limit(0))
    each_rate: float = 0
    is_limited: bool = False
    body_bytes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def sold(self, size: int) -> None:
        with self.lock:
            self.body_bytes += size

    def told(self, order: dict[str, Any]) -> dict[str, int]:
        match order["do"]:
            case "add":
                nonce = bytes.fromhex(order.pop("nonce", ""))
                path = order.pop("path")
                del order["do"]
                self.items[path] = Item(nonce=nonce, **order)
            case "limit":
                self.total, self.each_rate = Limit(order["total"]), order["each"]
                self.is_limited = bool(order["total"] or order["each"])
            case "forget":
                self.body_bytes = 0
        return {"body_bytes": self.body_bytes}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "Server"

    def setup(self) -> None:
        super().setup()
        self._each = Limit(0)

    def do_GET(self) -> None:
        item = self.server.shop.items.get(self.path)
        if item is None:
            self._small(200 if self.path == "/v2/" else 404)
            return
        span = self._span(item)
        self.send_response(200 if span is None else 206)
        start, stop = span or (0, item.size)
        if span is not None:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{item.size}")
        self._describe(item, stop - start)
        if self.command == "GET":
            self._send(item, start, stop)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Nobody reads it."""

    def _small(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        self.send_header("Content-Length", "2")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(b"{}")

    def _span(self, item: Item) -> tuple[int, int] | None:
        match = _RANGE.fullmatch(self.headers.get("Range", ""))
        if match is None:
            return None
        last = int(match[2]) if match[2] else item.size - 1
        return int(match[1]), min(last + 1, item.size)

    def _describe(self, item: Item, length: int) -> None:
        self.send_header("Content-Type", item.media_type)
        self.send_header("Content-Length", str(length))
        self.send_header("Docker-Content-Digest", item.digest)
        self.send_header("ETag", f'"{item.digest}"')
        self.send_header("Accept-Ranges", "bytes")
        # As content delivery networks say of blobs: caches that know no registries may keep them.
        self.send_header("Cache-Control", "public, max-age=86400")
        self.end_headers()

    def _send(self, item: Item, start: int, stop: int) -> None:
        shop = self.server.shop
        if self._each.rate != shop.each_rate:  # which may change while a connection is kept
            self._each = Limit(shop.each_rate)
        step = _SLOW_STEP if shop.is_limited else _STEP
        for piece in item.chunks(start, stop, step):
            self._each.take(len(piece))
            shop.total.take(len(piece))
            self.wfile.write(piece)
            shop.sold(len(piece))


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, port: int, context: ssl.SSLContext, shop: Shop) -> None:
        super().__init__(("0.0.0.0", port), Handler)
        self.shop = shop
        self._context = context

    def finish_request(self, request: Any, client_address: Any) -> None:
        with self._context.wrap_socket(request, server_side=True) as wrapped:
            super().finish_request(wrapped, client_address)

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that go away are part of what is measured."""


def main() -> None:
    port, certificate, key = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    shop = Shop()
    with Server(int(port), context, shop) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(json.dumps({"body_bytes": 0}), flush=True)
        for line in sys.stdin:
            print(json.dumps(shop.told(json.loads(line))), flush=True)
        server.shutdown()


if __name__ == "__main__":
    main()
