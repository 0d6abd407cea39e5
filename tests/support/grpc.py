"""One gRPC call over a socket in the file system: enough to ask containerd as a kubelet does.

gRPC is HTTP/2 with five bytes before each message; the messages here have nothing but strings and
messages in them, for which protocol buffers need no compiler.
"""

import socket
import struct
from pathlib import Path

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, TrailersReceived

_READ = 1 << 16


class CallFailedError(Exception):
    """The service answered with a status other than OK."""


def text(number: int, value: str) -> bytes:
    return message(number, value.encode())


def message(number: int, body: bytes) -> bytes:
    """A field of wire type 2, which strings and messages share."""
    return bytes([number << 3 | 2]) + _varint(len(body)) + body


def call(path: Path, method: str, request: bytes, timeout_s: float) -> bytes:
    """The response message, undecoded."""
    connection = H2Connection(H2Configuration(client_side=True))
    connection.initiate_connection()
    connection.send_headers(
        1,
        [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", method),
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ],
    )
    connection.send_data(1, struct.pack(">BI", 0, len(request)) + request, end_stream=True)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(timeout_s)
        sock.connect(str(path))
        return _converse(sock, connection)


def _converse(sock: socket.socket, connection: H2Connection) -> bytes:
    headers: dict[bytes, bytes] = {}
    body = bytearray()
    while True:
        sock.sendall(connection.data_to_send())
        data = sock.recv(_READ)
        if not data:
            raise CallFailedError("the connection ended before the answer did")
        for event in connection.receive_data(data):
            _take(event, connection, headers, body)
            if isinstance(event, StreamEnded):
                return _outcome(headers, bytes(body))


def _take(
    event: Event, connection: H2Connection, headers: dict[bytes, bytes], body: bytearray
) -> None:
    match event:
        case ResponseReceived() | TrailersReceived():
            headers.update((bytes(k), bytes(v)) for k, v in event.headers or ())
        case DataReceived():
            body += event.data or b""
            connection.acknowledge_received_data(event.flow_controlled_length or 0, 1)
        case _:
            pass


def _outcome(headers: dict[bytes, bytes], body: bytes) -> bytes:
    if headers.get(b"grpc-status") != b"0":
        raise CallFailedError(headers.get(b"grpc-message", b"no status").decode())
    return body[5:]


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])
