"""Where the end-to-end tests play: namespaces, upstreams, and the clients.

    client namespace          proxy namespace              upstream namespace
    dockerd, containerd,  →   entrepot serve           →   Docker Hub, its tokens and its CDN
    podman, skopeo            docker-registry.local:3128   private.test, tunnelled.test,
                              (and :443)                   guarded.example.com and its tokens,
                                                           the local registry's process

Names are the real ones: the proxy finds the upstreams by /etc/hosts, the clients know the proxy's
name alone. Upstreams' certificates are of a test CA that the proxy trusts as its system's.
"""

import http.client
import shutil
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.clients import Client, Credentials, Pusher, Surroundings, WithLogin
from tests.e2e.containerd_client import Containerd, Cri, Ctr
from tests.e2e.containers_clients import Podman, Skopeo
from tests.e2e.docker_client import Docker
from tests.e2e.upstreams import TokenDistribution
from tests.support import distribution, netns
from tests.support.client import ProxyClient
from tests.support.closing import Closing
from tests.support.distribution import Distribution
from tests.support.netns import Topology
from tests.support.pki import TestAuthority
from tests.support.processes import Seat
from tests.support.proxy import ProxyProcess
from tests.support.registry import Place, ScriptedRegistry
from tests.support.token_server import TokenServer
from tests.support.token_service import Auth

PROXY_NAME, PROXY_PORT = "docker-registry.local", 3128
DIRECT = f"{netns.PROXY_TO_CLIENT}:443"  # where the local registry is without a proxy
HUB, HUB_TOKENS, HUB_CDN = "registry-1.docker.io", "auth.docker.io", "production.cdn.test"
PRIVATE, TUNNELLED = "private.test", "tunnelled.test"
GUARDED, GUARDED_TOKENS = "guarded.example.com", "auth.example.com"  # of one domain
LOCAL = PROXY_NAME
ANN = Credentials("ann", "correct horse")
BOB = Credentials("bob", "battery staple")
SECRET = "secret/*"  # what of GUARDED's only ann may read

_SHARED = {HUB: netns.UPSTREAMS[0], PRIVATE: netns.UPSTREAMS[1], TUNNELLED: netns.UPSTREAMS[2]}
_GUARDED = {GUARDED: netns.UPSTREAMS[3], GUARDED_TOKENS: netns.UPSTREAMS[4]}
_LOCAL_SEAT = netns.UPSTREAMS[5], 5000
_ADDRESSES = {**_SHARED, **_GUARDED, HUB_TOKENS: _SHARED[HUB], HUB_CDN: _SHARED[HUB]}
_CERTS_D = Path("/etc/docker/certs.d")
_TUNNEL_S = 20.0
_KINDS = (Docker, Ctr, Cri, Podman, Skopeo)
CLIENT_NAMES = tuple(kind.__name__.lower() for kind in _KINDS)
PUSHER_NAMES = ("docker", "ctr", "podman", "skopeo")
WITH_LOGIN = ("docker", "podman", "skopeo")


def missing_programs() -> list[str]:
    needed = {program for kind in _KINDS for program in kind.programs} | {"curl"}
    missing = {program for program in needed if shutil.which(program) is None}
    return sorted(missing | (set() if distribution.is_installed() else {distribution.PROGRAM}))


class Lab(Closing):
    """Lives as long as the session; upstreams and proxies that tests change are made for each."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._authority = TestAuthority(directory / "upstream-ca", "Upstreams' CA")
        self._ca = directory / "proxy-ca"
        self.trusted = directory / "trusted.pem"  # by clients
        self._clients: dict[str, Client] = {}
        self._containerds: dict[bool, Containerd] = {}
        with ExitStack() as stack:
            self.topology = stack.enter_context(Topology(directory / "namespaces"))
            self._prepare_names()
            self.private = stack.enter_context(self._distribution(PRIVATE, ANN))
            self.tunnelled = stack.enter_context(self._distribution(TUNNELLED))
            self.tokens = stack.enter_context(self._token_server())
            self.guarded = stack.enter_context(self._guarded())
            self.local = stack.enter_context(
                Distribution(directory / "local", seat=self._seat(*_LOCAL_SEAT))
            )
            self._stack = stack.pop_all()

    def close(self) -> None:
        self._stack.close()

    def hub(self, users: Mapping[str, str] | None = None) -> ScriptedRegistry:
        """Docker Hub: tokens from another host, blobs from a third that takes a signature once."""
        place = Place(
            address=_SHARED[HUB],
            port=443,
            cdn_port=8443,
            host=HUB,
            cdn_host=HUB_CDN,
            names=(HUB, HUB_TOKENS, HUB_CDN),
            entered=self.topology.upstream.entered,
        )
        service = "registry.docker.io"
        auth = Auth("bearer", dict(users or {}), speaks_oauth2=True, service=service)
        registry = ScriptedRegistry(self._authority, auth=auth, place=place)
        registry.send_for_tokens_to(f"https://{HUB_TOKENS}/token")
        registry.redirect_blobs()
        return registry

    def proxy(
        self,
        directory: Path,
        *,
        settings: Mapping[str, Any] | None = None,
        ca: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> ProxyProcess:
        """One at a time, always at the same place, and with the same CA unless told otherwise."""
        namespace = self.topology.proxy
        config = {
            "hostname": PROXY_NAME,
            "ca": {"directory": str(ca or self._ca)},
            **(settings or {}),
        }
        return ProxyProcess(
            config,
            directory,
            seat=Seat(
                netns.PROXY_TO_CLIENT,
                PROXY_PORT,
                prefix=namespace.command(),
                entered=namespace.entered,
            ),
            environment={"SSL_CERT_FILE": str(self._authority.ca_file), **(environment or {})},
        )

    def client(self, name: str, *, is_direct: bool = False) -> Client:
        """Started when it is first asked for, and kept. Those that are direct use no proxy."""
        if not self.trusted.exists():
            self._establish_trust()
        key = f"direct-{name}" if is_direct else name
        if key not in self._clients:
            made = self._make(name, is_direct=is_direct)
            self._stack.callback(made.close)
            self._clients[key] = made
        return self._clients[key]

    def pusher(self, name: str, *, is_direct: bool = False) -> Pusher:
        client = self.client(name, is_direct=is_direct)
        assert isinstance(client, Docker | Ctr | Podman | Skopeo)
        return client

    def with_login(self, name: str, *, is_direct: bool = False) -> WithLogin:
        client = self.client(name, is_direct=is_direct)
        assert isinstance(client, Docker | Podman | Skopeo)
        return client

    @contextmanager
    def logged_in(self, client: Client, host: str, credentials: Credentials) -> Iterator[None]:
        """Where there is a login to be kept; the others bring their password each time."""
        if not isinstance(client, Docker | Podman | Skopeo):
            yield
            return
        client.login(host, credentials)
        try:
            yield
        finally:
            client.logout(host, credentials)

    def docker(self) -> Docker:
        client = self.client("docker")
        assert isinstance(client, Docker)
        return client

    def curl(self, *arguments: str) -> str:
        """What it prints, of the client's side; it uses the proxy and trusts as the others do."""
        if not self.trusted.exists():
            self._establish_trust()
        proxy = ("--proxy", f"http://{PROXY_NAME}:{PROXY_PORT}", "--cacert", str(self.trusted))
        return self.topology.client.check("curl", "--silent", "--show-error", *proxy, *arguments)

    def raw(self) -> ProxyClient:
        """Connects from where it is entered: `with lab.topology.client.entered()`."""
        if not self.trusted.exists():
            self._establish_trust()
        trust = ssl.create_default_context(cafile=str(self.trusted))
        return ProxyClient((netns.PROXY_TO_CLIENT, PROXY_PORT), trust)

    def certificate_shown(self, host: str) -> dict[str, Any]:
        """What a client that goes through the proxy to `host` is shown, checked by its trust."""
        with self.topology.client.entered():
            sock = _tunnel(host)
        context = ssl.create_default_context(cafile=str(self.trusted))
        with context.wrap_socket(sock, server_hostname=host) as tls:
            certificate = tls.getpeercert()
        assert certificate is not None
        return dict(certificate)

    def _prepare_names(self) -> None:
        self.topology.proxy.resolve(_ADDRESSES)
        client = self.topology.client
        client.resolve({PROXY_NAME: netns.PROXY_TO_CLIENT})
        etc_docker = self._directory / "etc-docker"
        (etc_docker / "certs.d").mkdir(parents=True)
        client.check("mkdir", "-p", str(_CERTS_D.parent))
        client.mount_over(str(_CERTS_D.parent), etc_docker)

    def _seat(self, address: str, port: int) -> Seat:
        upstream = self.topology.upstream
        return Seat(address, port, prefix=upstream.command(), entered=upstream.entered)

    def _distribution(self, name: str, user: Credentials | None = None) -> Distribution:
        return Distribution(
            self._directory / name,
            seat=self._seat(_ADDRESSES[name], 443),
            certificate=self._authority.issue(name),
            user=None if user is None else (user.user, user.password),
        )

    def _token_server(self) -> TokenServer:
        seat = self._seat(_GUARDED[GUARDED_TOKENS], 443)
        tokens = TokenServer(self._authority, GUARDED_TOKENS, seat)
        for user in (ANN, BOB):
            tokens.add_user(user.user, user.password)
            tokens.grant(user.user, "open/*", "pull", "push")
        tokens.grant(ANN.user, SECRET, "pull", "push")
        return tokens

    def _guarded(self) -> TokenDistribution:
        return TokenDistribution(
            self._directory / GUARDED,
            self.tokens,
            self._authority.ca_file,
            seat=self._seat(_GUARDED[GUARDED], 443),
            certificate=self._authority.issue(GUARDED),
            service="the guarded registry",
        )

    def _establish_trust(self) -> None:
        """As people do it: the proxy is started, its CA fetched from it, and then trusted."""
        with self.proxy(self._directory / "first") as proxy:
            pem = proxy.ca_pem()
        both = pem + "\n" + self._authority.pem
        self.topology.client.trust(both)
        self.trusted.write_text(both)
        certs = self._directory / "etc-docker" / "certs.d" / LOCAL
        certs.mkdir()
        (certs / "ca.crt").write_text(pem)

    def _make(self, name: str, *, is_direct: bool) -> Client:
        makers: dict[str, Callable[[], Client]] = {
            "docker": lambda: Docker(self._surroundings("docker", is_direct=is_direct)),
            "ctr": lambda: Ctr(self._shared_containerd(is_direct=is_direct)),
            "cri": lambda: Cri(self._shared_containerd(is_direct=is_direct)),
            "podman": lambda: Podman(self._surroundings("podman", is_direct=is_direct)),
            "skopeo": lambda: Skopeo(self._surroundings("skopeo", is_direct=is_direct)),
        }
        return makers[name]()

    def _shared_containerd(self, *, is_direct: bool) -> Containerd:
        if is_direct not in self._containerds:
            made = Containerd(self._surroundings("containerd", is_direct=is_direct))
            self._containerds[is_direct] = made
            self._stack.callback(made.close)
        return self._containerds[is_direct]

    def _surroundings(self, name: str, *, is_direct: bool) -> Surroundings:
        directory = self._directory / (f"direct-{name}" if is_direct else name)
        directory.mkdir()
        proxy = "" if is_direct else f"http://{PROXY_NAME}:{PROXY_PORT}"
        certs_d = _CERTS_D if is_direct else None
        return Surroundings(self.topology.client, directory, self.trusted, proxy, certs_d)


def local_registry(**settings: Any) -> dict[str, Any]:
    """Settings that make the lab's local registry one of the proxy's."""
    address, port = _LOCAL_SEAT
    return {LOCAL: {"upstream": [f"http://{address}:{port}"], **settings}}


def _tunnel(host: str) -> socket.socket:
    """What CONNECT makes of a connection to the proxy."""
    address = (netns.PROXY_TO_CLIENT, PROXY_PORT)
    connection = http.client.HTTPConnection(*address, timeout=_TUNNEL_S)
    connection.set_tunnel(host, 443)
    connection.connect()
    sock = connection.sock
    connection.sock = None  # it is ours to close
    return sock
