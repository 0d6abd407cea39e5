"""A small raw client: CONNECT, TLS, and HTTP/1.1 spelled out, so that a test sees every byte.

A body that ends before its length or its last chunk raises `asyncio.IncompleteReadError`, as real
clients take it.
"""

import asyncio
import hashlib
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

from entrepot.oci.challenge import Challenge, parse_challenges
from entrepot.oci.media_type import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST

# What docker sends, which takes all that registries have.
ACCEPT = f"{DOCKER_MANIFEST}, {DOCKER_LIST}, {OCI_INDEX}, {OCI_MANIFEST}"
_BUFFER = 1 << 16  # what a reader that pauses holds; the rest stays in the socket


@dataclass(frozen=True, slots=True)
class Head:
    status: int
    headers: dict[str, str]  # lower-case names

    @property
    def length(self) -> int | None:
        value = self.headers.get("content-length")
        return None if value is None else int(value)

    @property
    def challenge(self) -> Challenge:
        return parse_challenges(self.headers["www-authenticate"])[0]


@dataclass(frozen=True, slots=True)
class Answer(Head):
    body: bytes = field(repr=False)

    def json(self) -> Any:
        return json.loads(self.body)


class RefusedError(Exception):
    """The proxy did not open the tunnel."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"CONNECT was answered {answer.status}: {answer.body[:200]!r}")
        self.answer = answer


class Connection:
    """One connection on which requests follow each other."""

    def __init__(
        self, host: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.host = host
        self.reader = reader
        self.writer = writer

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.abort()
        with suppress(OSError):
            await self.writer.wait_closed()

    def abort(self) -> None:
        """Gone without a word, whatever was still to be read."""
        self.writer.transport.abort()

    @property
    def peer_certificate(self) -> bytes:
        """What the other side showed, in DER."""
        tls = self.writer.get_extra_info("ssl_object")
        certificate = tls.getpeercert(binary_form=True)
        assert isinstance(certificate, bytes)
        return certificate

    async def send(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> None:
        fields = {"Host": self.host, **(headers or {})}
        if body and "Transfer-Encoding" not in fields:
            fields["Content-Length"] = str(len(body))
        lines = [f"{method} {target} HTTP/1.1", *(f"{k}: {v}" for k, v in fields.items())]
        await self.send_raw(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body)

    async def send_raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> Head:
        """Of the next answer; what is only provisional (1xx) is passed over."""
        while True:
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            status = int(lines[0].split(" ", 2)[1])
            pairs = (line.partition(":") for line in lines[1:] if line)
            headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
            if status >= 200:
                return Head(status, headers)

    async def pieces(self, head: Head, method: str = "GET") -> AsyncIterator[bytes]:
        if method == "HEAD" or head.status in {204, 304}:
            return
        if "chunked" in head.headers.get("transfer-encoding", ""):
            async for piece in self._chunks():
                yield piece
        elif head.length is None:
            while piece := await self.reader.read(_BUFFER):
                yield piece
        else:
            missing = head.length
            while missing:
                piece = await self.reader.read(min(missing, _BUFFER))
                if not piece:
                    raise asyncio.IncompleteReadError(b"", missing)
                missing -= len(piece)
                yield piece

    async def answer(self, method: str = "GET") -> Answer:
        head = await self.head()
        body = b"".join([piece async for piece in self.pieces(head, method)])
        return Answer(head.status, head.headers, body)

    async def request(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Answer:
        await self.send(method, target, headers, body)
        return await self.answer(method)

    async def _chunks(self) -> AsyncIterator[bytes]:
        while size := int((await self.reader.readuntil(b"\r\n")).partition(b";")[0], 16):
            yield await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        while await self.reader.readuntil(b"\r\n") != b"\r\n":
            pass


@dataclass(frozen=True, slots=True)
class Pulled:
    digest: str
    manifest: bytes
    blobs: dict[str, int]  # digest to size, each verified


class ProxyClient:
    """Opens connections through a proxy (host, port), or straight to where it is told."""

    def __init__(self, proxy: tuple[str, int] | None, trust: ssl.SSLContext) -> None:
        self._proxy = proxy
        self._trust = trust

    async def plain(self) -> Connection:
        """To the proxy itself: its own pages, and absolute-form requests."""
        assert self._proxy is not None
        host, port = self._proxy
        streams = await asyncio.open_connection(host, port, limit=_BUFFER)
        return Connection(f"{host}:{port}", *streams)

    async def connect(
        self, host: str, port: int = 443, *, sni: str | None = None, tls: bool = True
    ) -> Connection:
        """A tunnel, and TLS in it for `sni` (default: the host)."""
        name = host if port == 443 else f"{host}:{port}"
        if self._proxy is None:
            streams = await asyncio.open_connection(host, port, limit=_BUFFER)
            connection = Connection(name, *streams)
        else:
            connection = await self.plain()
            authority = f"{host}:{port}"
            answer_to = await _open_tunnel(connection, authority)
            if answer_to.status != 200:
                connection.abort()
                raise RefusedError(answer_to)
            connection.host = name
        if tls:
            try:
                await connection.writer.start_tls(self._trust, server_hostname=sni or host)
            except BaseException:
                connection.abort()
                raise
        return connection

    async def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Answer:
        """On a connection of its own, as docker, podman and skopeo do it."""
        async with self.stream(method, url, headers, body) as (connection, head):
            pieces = [piece async for piece in connection.pieces(head, method)]
            return Answer(head.status, head.headers, b"".join(pieces))

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> AsyncIterator[tuple[Connection, Head]]:
        """The head has come; the body is read from the connection at the test's own pace."""
        parts = urlsplit(url)
        is_tls = parts.scheme == "https"
        port = parts.port or (443 if is_tls else 80)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        async with await self.connect(parts.hostname or "", port, tls=is_tls) as connection:
            await connection.send(method, target, {"Connection": "close", **(headers or {})}, body)
            yield connection, await connection.head()

    async def token(self, challenge: Challenge, authorization: str = "") -> str:
        """The token dance, through the same proxy."""
        query = {"service": challenge.service, "scope": challenge.scope}
        url = f"{challenge.realm}?{urlencode({k: v for k, v in query.items() if v})}"
        headers = {"Authorization": authorization} if authorization else {}
        answer = await self.request("GET", url, headers)
        if answer.status != 200:
            raise PermissionError(f"{challenge.realm} answered {answer.status}")
        document = answer.json()
        return str(document.get("token") or document["access_token"])

    async def authorized(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        credentials: str = "",
    ) -> Answer:
        """As `request`; a challenge is met with a token, or with the credentials as they are."""
        answer = await self.request(method, url, headers)
        if answer.status != 401:
            return answer
        if answer.challenge.scheme == "basic":
            authorization = credentials
        else:
            authorization = f"Bearer {await self.token(answer.challenge, credentials)}"
        return await self.request(method, url, {**(headers or {}), "Authorization": authorization})

    async def pull(
        self, registry_url: str, repository: str, reference: str, *, credentials: str = ""
    ) -> Pulled:
        """A manifest and its blobs, each checked against its digest; of an index, the first."""
        base = f"{registry_url}/v2/{repository}"

        async def get(path: str) -> Answer:
            answer = await self.authorized(
                "GET", f"{base}/{path}", {"Accept": ACCEPT}, credentials=credentials
            )
            if answer.status != 200:
                raise LookupError(f"{path} was answered {answer.status}: {answer.body[:200]!r}")
            return answer

        manifest = await get(f"manifests/{reference}")
        digest = _digest(manifest.body)
        document = manifest.json()
        if children := document.get("manifests"):
            return await self.pull(
                registry_url, repository, children[0]["digest"], credentials=credentials
            )
        blobs = {}
        for descriptor in (document["config"], *document["layers"]):
            body = (await get(f"blobs/{descriptor['digest']}")).body
            if _digest(body) != descriptor["digest"]:
                raise ValueError(f"{descriptor['digest']} came with other bytes")
            blobs[descriptor["digest"]] = len(body)
        return Pulled(digest, manifest.body, blobs)


async def _open_tunnel(connection: Connection, authority: str) -> Answer:
    await connection.send("CONNECT", authority, {"Host": authority})
    head = await connection.head()
    if head.status == 200:
        return Answer(200, head.headers, b"")
    pieces = [piece async for piece in connection.pieces(head)]
    return Answer(head.status, head.headers, b"".join(pieces))


def _digest(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"
