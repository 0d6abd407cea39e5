"""A real small registry over real sockets that does what a test tells it to, right or wrong.

`ScriptedRegistry` runs in a thread of its own and is used from any other. It has two origins: the
registry, and a CDN to which blobs can be redirected. Tests add images, script faults, and read the
log of what was asked.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from tests.support.closing import Closing
from tests.support.content import Content
from tests.support.faults import Fault, Script
from tests.support.http_server import Gate, Listener, Reply, Request, listening_socket
from tests.support.images import LayerSource, Manifest, Schema, build_image, build_index
from tests.support.loop_thread import LoopThread
from tests.support.pki import TestAuthority
from tests.support.ports import ReservedPort
from tests.support.registry_answers import Redirects, RegistryAnswers
from tests.support.request_log import RequestLog
from tests.support.token_service import Auth, TokenService

REGISTRY, CDN = "registry", "cdn"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a registry listens and by which names it and its CDN are known."""

    address: str = "127.0.0.1"
    port: int = 0
    cdn_port: int = 0
    host: str = ""  # in its URL; default: the address
    cdn_host: str = "localhost"  # another host than the address, for who compares
    names: tuple[str, ...] = ("registry.test", "cdn.test")
    # Entered while sockets are made: they stay in the network namespace they were born in.
    entered: Callable[[], AbstractContextManager[None]] = nullcontext


class ScriptedRegistry(Closing):
    def __init__(
        self,
        authority: TestAuthority | None = None,
        *,
        auth: Auth | None = None,
        place: Place | None = None,
    ) -> None:
        """Without an authority it speaks plain HTTP."""
        self.place = place or Place()
        self.tokens = TokenService(auth or Auth())
        self.log = RequestLog()
        self.script = Script()
        self._answers = RegistryAnswers(self, self.tokens)
        self._past_connections = 0  # of listeners that are gone
        self._scheme = "http" if authority is None else "https"
        place_names = (self.place.address, "localhost", *self.place.names)
        self._context = None if authority is None else authority.issue(*place_names).context()
        self._ports = {REGISTRY: self.place.port, CDN: self.place.cdn_port}
        self._reserved: list[ReservedPort] = []
        for name, port in self._ports.items():
            if not port:
                self._reserve(name)
        self._listeners: dict[str, Listener] = {}
        self._thread = LoopThread("scripted-registry")
        self.revive(REGISTRY, CDN)

    def close(self) -> None:
        self.die(*self._listeners)
        self._thread.close()

    # Where it is

    @property
    def port(self) -> int:
        return self._ports[REGISTRY]

    @property
    def url(self) -> str:
        return self._url(self.place.host or self.place.address, self.port)

    @property
    def cdn_url(self) -> str:
        return self._url(self.place.cdn_host, self._ports[CDN])

    def _url(self, host: str, port: int) -> str:
        usual = {"https": 443, "http": 80}[self._scheme]
        return f"{self._scheme}://{host}" + (f":{port}" if port != usual else "")

    # What it holds

    def add_image(
        self,
        repository: str,
        tag: str | None = None,
        layers: Sequence[LayerSource] = (1000,),
        *,
        seed: int = 0,
        platforms: Sequence[str] = (),
        schema: Schema = "oci",
    ) -> Manifest:
        """An image, or with `platforms` an index with an image for each."""
        if not platforms:
            return self.add(repository, tag, build_image(layers, seed=seed, schema=schema))
        images = [
            build_image(layers, seed=seed + number, platform=platform, schema=schema)
            for number, platform in enumerate(platforms)
        ]
        return self.add(repository, tag, build_index(images, schema=schema))

    def add(self, repository: str, tag: str | None, manifest: Manifest) -> Manifest:
        """`manifest` may be one of artifacts, indexes, or other than it should be."""
        self._answers.blobs |= manifest.all_blobs()
        self._answers.repository(repository).add(manifest, tag)
        return manifest

    def add_blob(self, repository: str, content: Content) -> Content:
        self._answers.blobs[content.digest] = content
        self._answers.repository(repository).blobs.add(content.digest)
        return content

    def delete_tag(self, repository: str, tag: str) -> None:
        del self._answers.repository(repository).tags[tag]

    def make_private(self, repository: str, *users: str) -> None:
        """Only these users may read it from now on."""
        self.tokens.readers[repository] = frozenset(users)

    # How it behaves

    def redirect_blobs(self, redirects: Redirects | None = Redirects()) -> None:  # noqa: B008 - frozen
        self._answers.redirects = redirects

    def send_for_tokens_to(self, realm: str) -> None:
        """Name another realm in challenges than its own."""
        self._answers.realm = realm

    # What goes wrong with it

    def fault(
        self,
        fault: Fault,
        *,
        path: str = "*",
        method: str = "*",
        skip: int = 0,
        times: int | None = None,
    ) -> Callable[[], None]:
        """For requests that match, `times` of them after the first `skip`; returns the undoing."""
        return self.script.add(fault, path=path, method=method, skip=skip, times=times)

    def gate(self) -> Gate:
        return Gate(self._thread.loop)

    def die(self, *listeners: str) -> None:
        """Nobody listens any more, and who is connected is reset."""
        for name in listeners or tuple(self._listeners):
            listener = self._listeners.pop(name)
            self._past_connections += listener.connections
            self._thread.run(listener.stop())

    def revive(self, *listeners: str) -> None:
        """On the ports they had."""
        for name in listeners or (REGISTRY, CDN):
            with self.place.entered():
                sock = listening_socket(self.place.address, self._ports[name])
            listener = Listener(name, sock, self._answer, self._context)
            self._listeners[name] = listener
            self._thread.loop.call_soon_threadsafe(listener.start, self._thread)

    def black_hole(self, *, on: bool = True) -> None:
        """Connections are accepted, and nothing is ever said on them, old ones included."""
        for listener in self._listeners.values():
            listener.is_black_hole = on

    def _reserve(self, name: str) -> None:
        """Dead, it is to be refused: not to be another's."""
        with self.place.entered():
            reserved = ReservedPort(self.place.address)
        self._reserved.append(reserved)
        self._ports[name] = reserved.number

    # What was asked of it

    @property
    def connection_count(self) -> int:
        return self._past_connections + sum(each.connections for each in self._listeners.values())

    @property
    def blob_bytes(self) -> int:
        """Sent in bodies of blobs, by the registry or its CDN."""
        served = (*self.log.find("/v2/*/blobs/*"), *self.log.find("/signed/*"))
        return sum(entry.sent_bytes for entry in served)

    def blob_gets(self, digest: str = "*") -> int:
        """Requests for blob content, however often they were redirected."""
        return self.log.count(f"/v2/*/blobs/{digest}", method="GET")

    def manifest_gets(self) -> int:
        return self.log.count("/v2/*/manifests/*", method="GET")

    def forget(self) -> None:
        """Start counting anew."""
        self.log.clear()

    async def _answer(self, request: Request) -> Reply:
        entry = self.log.add(request, self.tokens.user_of(request))
        is_cdn = request.listener == CDN
        reply = self._answers.at_cdn(request) if is_cdn else self._answers.at_registry(request)
        self.script.apply(request, reply)
        reply.on_sent = lambda size: self.log.sent(entry, size)
        self.log.answered(entry, reply.status)
        return reply
