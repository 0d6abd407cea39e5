"""Many readers in one process: `python -m bench.clients.drain SPECIFICATION`, which is JSON.

They make a proper handshake and request, and then throw away what comes without decrypting or even
copying it (MSG_TRUNC): a core of these takes what several servers' cores encrypt, so that the
client is never what is measured. Whole bodies are told by the bytes that came and by the end of
the connection, which each asks for.

`count` readers connect first and ask at the same moment; `rate` bounds the bytes a second of each
(0: as fast as they come). With `is_endless` they ask again until they are killed; otherwise the
last line that is printed is what each took.
"""

import json
import os
import resource
import selectors
import socket
import ssl
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

_STEP = 4 << 20
_TICK_S = 0.05
_SLOW_BUFFER = 64 << 10  # of a slow reader's socket: what it does not read stays with the server
_HANDSHAKES = 16


@dataclass(frozen=True, slots=True)
class Specification:
    authority: str
    trust: str
    proxy: str
    path: str
    headers: tuple[str, ...]
    count: int
    rate: float
    is_endless: bool

    def json(self) -> str:
        return json.dumps(asdict(self))


@dataclass(slots=True)
class Reader:
    connection: socket.socket
    taken: int = 0
    ended_s: float = 0


def connect(spec: Specification, context: ssl.SSLContext) -> ssl.SSLSocket:
    host, _, port = spec.authority.partition(":")
    address = spec.proxy or spec.authority
    peer = address.partition(":")
    plain = socket.socket()
    if spec.rate:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SLOW_BUFFER)
    plain.connect((peer[0], int(peer[2])))
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if spec.proxy:
        target = f"{host}:{port or 443}"
        plain.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += plain.recv(1)
        assert b" 200 " in answer, answer
    return context.wrap_socket(plain, server_hostname=host)


def ask(spec: Specification, tls: ssl.SSLSocket) -> Reader:
    lines = [f"GET {spec.path} HTTP/1.1", f"Host: {spec.authority}", "Connection: close"]
    tls.sendall(("\r\n".join([*lines, *spec.headers]) + "\r\n\r\n").encode())
    # OpenSSL reads whole records and nothing beyond them: the rest is the socket's.
    plain = socket.socket(fileno=tls.detach())
    plain.setblocking(False)
    return Reader(plain)


def all_connected(spec: Specification) -> list[ssl.SSLSocket]:
    context = ssl.create_default_context(cafile=spec.trust)
    with ThreadPoolExecutor(_HANDSHAKES) as pool:
        return list(pool.map(lambda _: connect(spec, context), range(spec.count)))


class Crowd:
    def __init__(self, spec: Specification) -> None:
        self._spec = spec
        self._selector = selectors.DefaultSelector()
        self._scratch = bytearray(_STEP)
        self._context = ssl.create_default_context(cafile=spec.trust)
        connections = all_connected(spec)
        self.began_s = time.monotonic()
        self.readers = [ask(spec, tls) for tls in connections]
        for reader in self.readers:
            self._selector.register(reader.connection, selectors.EVENT_READ, reader)
        self._is_flowing = False

    def run(self) -> None:
        """Until all have ended, or for ever."""
        while self._selector.get_map():
            step_began = time.monotonic()
            for key, _ in self._selector.select():
                self._take(key.data)
            self._tell_once_all_flow()
            if self._spec.rate:
                time.sleep(max(0.0, step_began + _TICK_S - time.monotonic()))

    def _take(self, reader: Reader) -> None:
        most = int(self._spec.rate * _TICK_S) if self._spec.rate else _STEP
        try:
            count = reader.connection.recv_into(self._scratch, most, socket.MSG_TRUNC)
        except BlockingIOError:
            return
        except ConnectionResetError:
            count = 0
        reader.taken += count
        if count:
            return
        reader.ended_s = time.monotonic() - self.began_s
        self._selector.unregister(reader.connection)
        reader.connection.close()
        if self._spec.is_endless:
            again = ask(self._spec, connect(self._spec, self._context))
            reader.connection = again.connection
            self._selector.register(reader.connection, selectors.EVENT_READ, reader)

    def _tell_once_all_flow(self) -> None:
        if not self._is_flowing and all(reader.taken for reader in self.readers):
            self._is_flowing = True
            print("flowing", flush=True)


def main() -> None:
    spec = Specification(**json.loads(sys.argv[1]))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    crowd = Crowd(spec)
    crowd.run()
    seconds = [reader.ended_s for reader in crowd.readers]
    print(json.dumps({"seconds": seconds, "bytes": [each.taken for each in crowd.readers]}))
    sys.stdout.flush()
    os._exit(0)  # nothing is left to be tidied up, and a thousand sockets to be closed


if __name__ == "__main__":
    main()
