"""An upstream that takes pushes and throws them away: `python -m bench.sink PORT CERTIFICATE KEY`.

As fast as a blocking reader is; what it knows of HTTP is what one upload needs.
"""

import socketserver
import ssl
import sys

_BUFFER = 256 << 10


class _Handler(socketserver.StreamRequestHandler):
    rbufsize = _BUFFER

    def handle(self) -> None:
        while line := self.rfile.readline():
            method, target, _ = line.decode("latin-1").split(" ", 2)
            headers = self._headers()
            self._swallow(headers)
            self._answer(method, target)

    def _headers(self) -> dict[str, str]:
        headers = {}
        while (line := self.rfile.readline().decode("latin-1").strip()) != "":
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return headers

    def _swallow(self, headers: dict[str, str]) -> None:
        if headers.get("transfer-encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                self._skip(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            self._skip(int(headers.get("content-length", "0")))

    def _skip(self, size: int) -> None:
        scratch = memoryview(bytearray(_BUFFER))
        while size:
            count = self.rfile.readinto(scratch[: min(size, _BUFFER)])
            if not count:
                raise ConnectionResetError
            size -= count

    def _answer(self, method: str, target: str) -> None:
        digest = target.rpartition("digest=")[2].replace("%3A", ":")
        status, field = {
            "POST": ("202 Accepted", "Location: /v2/app/blobs/uploads/1"),
            "PATCH": ("202 Accepted", "Location: /v2/app/blobs/uploads/1"),
            "PUT": ("201 Created", f"Docker-Content-Digest: {digest}"),
            "HEAD": ("404 Not Found", "Content-Type: application/json"),
        }.get(method, ("200 OK", "Content-Type: application/json"))
        self.wfile.write(f"HTTP/1.1 {status}\r\n{field}\r\nContent-Length: 0\r\n\r\n".encode())


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self._context = context

    def finish_request(self, request: object, client_address: object) -> None:
        wrapped = self._context.wrap_socket(request, server_side=True)  # type: ignore[arg-type] # a socket
        super().finish_request(wrapped, client_address)

    def handle_error(self, request: object, client_address: object) -> None:
        """Who only looks whether it listens makes no handshake."""


def main() -> None:
    port, certificate, key = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with _Server(int(port), context) as server:
        server.serve_forever()


main()
