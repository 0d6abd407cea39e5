"""Where the end-to-end tests play: namespaces, three upstreams, and the clients.

    client namespace          proxy namespace              upstream namespace
    dockerd, containerd,  →   entrepot serve           →   Docker Hub, its tokens and its CDN
    podman, skopeo            docker-registry.local:3128   private.test, tunnelled.test

Names are the real ones: the proxy finds the upstreams by /etc/hosts, the clients know the proxy's
name alone. Upstreams' certificates are of a test CA that the proxy trusts as its system's.
"""

import http.client
import shutil
import socket
import ssl
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.e2e import clients
from tests.support import distribution, netns
from tests.support.distribution import Distribution
from tests.support.netns import Topology
from tests.support.pki import TestAuthority
from tests.support.processes import Seat
from tests.support.proxy import ProxyProcess
from tests.support.registry import Place, ScriptedRegistry
from tests.support.token_service import Auth

PROXY_NAME, PROXY_PORT = "docker-registry.local", 3128
HUB, HUB_TOKENS, HUB_CDN = "registry-1.docker.io", "auth.docker.io", "production.cdn.test"
PRIVATE, TUNNELLED = "private.test", "tunnelled.test"
ANN = clients.Credentials("ann", "correct horse")

_HUB_ADDRESS, _PRIVATE_ADDRESS, _TUNNELLED_ADDRESS = netns.UPSTREAMS
_TUNNEL_S = 20.0
_KINDS = (clients.Docker, clients.Ctr, clients.Cri, clients.Podman, clients.Skopeo)
CLIENT_NAMES = tuple(kind.__name__.lower() for kind in _KINDS)


def missing_programs() -> list[str]:
    needed = {program for kind in _KINDS for program in kind.programs}
    missing = {program for program in needed if shutil.which(program) is None}
    return sorted(missing | (set() if distribution.is_installed() else {distribution.PROGRAM}))


class Lab:
    """Lives as long as the session; upstreams and proxies that tests change are made for each."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._authority = TestAuthority(directory / "upstream-ca", "Upstreams' CA")
        self._ca = directory / "proxy-ca"
        self._trusted = directory / "trusted.pem"
        self._clients: dict[str, clients.Client] = {}
        self._containerd: clients.Containerd | None = None
        with ExitStack() as stack:
            self.topology = stack.enter_context(Topology(directory / "namespaces"))
            self._prepare_names()
            self.private = stack.enter_context(
                self._distribution(PRIVATE, _PRIVATE_ADDRESS, user=(ANN.user, ANN.password))
            )
            self.tunnelled = stack.enter_context(self._distribution(TUNNELLED, _TUNNELLED_ADDRESS))
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def hub(self) -> ScriptedRegistry:
        """Docker Hub: tokens from another host, blobs from a third that takes a signature once."""
        place = Place(
            address=_HUB_ADDRESS,
            port=443,
            cdn_port=8443,
            host=HUB,
            cdn_host=HUB_CDN,
            names=(HUB, HUB_TOKENS, HUB_CDN),
            entered=self.topology.upstream.entered,
        )
        auth = Auth("bearer", service="registry.docker.io")
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
            environment={"SSL_CERT_FILE": str(self._authority.ca_file)},
        )

    def client(self, name: str) -> clients.Client:
        """Started when it is first asked for, and kept."""
        if not self._trusted.exists():
            self._establish_trust()
        if name not in self._clients:
            made = self._make(name)
            self._stack.callback(made.close)
            self._clients[name] = made
        return self._clients[name]

    def docker(self) -> clients.Docker:
        client = self.client("docker")
        assert isinstance(client, clients.Docker)
        return client

    def certificate_shown(self, host: str) -> dict[str, Any]:
        """What a client that goes through the proxy to `host` is shown, checked by its trust."""
        with self.topology.client.entered():
            sock = _tunnel(host)
        context = ssl.create_default_context(cafile=str(self._trusted))
        with context.wrap_socket(sock, server_hostname=host) as tls:
            certificate = tls.getpeercert()
        assert certificate is not None
        return dict(certificate)

    def _prepare_names(self) -> None:
        hub = dict.fromkeys((HUB, HUB_TOKENS, HUB_CDN), _HUB_ADDRESS)
        others = {PRIVATE: _PRIVATE_ADDRESS, TUNNELLED: _TUNNELLED_ADDRESS}
        self.topology.proxy.resolve(hub | others)
        self.topology.client.resolve({PROXY_NAME: netns.PROXY_TO_CLIENT})

    def _distribution(
        self, name: str, address: str, user: tuple[str, str] | None = None
    ) -> Distribution:
        upstream = self.topology.upstream
        return Distribution(
            self._directory / name,
            seat=Seat(address, 443, prefix=upstream.command(), entered=upstream.entered),
            certificate=self._authority.issue(name),
            user=user,
        )

    def _establish_trust(self) -> None:
        """As people do it: the proxy is started, its CA fetched from it, and then trusted."""
        with self.proxy(self._directory / "first") as proxy:
            pem = proxy.ca_pem()
        both = pem + "\n" + self._authority.pem
        self.topology.client.trust(both)
        self._trusted.write_text(both)

    def _make(self, name: str) -> clients.Client:
        makers: dict[str, Callable[[], clients.Client]] = {
            "docker": lambda: clients.Docker(self._surroundings("docker")),
            "ctr": lambda: clients.Ctr(self._shared_containerd()),
            "cri": lambda: clients.Cri(self._shared_containerd()),
            "podman": lambda: clients.Podman(self._surroundings("podman")),
            "skopeo": lambda: clients.Skopeo(self._surroundings("skopeo")),
        }
        return makers[name]()

    def _shared_containerd(self) -> clients.Containerd:
        if self._containerd is None:
            self._containerd = clients.Containerd(self._surroundings("containerd"))
            self._stack.callback(self._containerd.close)
        return self._containerd

    def _surroundings(self, name: str) -> clients.Surroundings:
        directory = self._directory / name
        directory.mkdir()
        return clients.Surroundings(
            self.topology.client, directory, f"http://{PROXY_NAME}:{PROXY_PORT}", self._trusted
        )


def _tunnel(host: str) -> socket.socket:
    """What CONNECT makes of a connection to the proxy."""
    address = (netns.PROXY_TO_CLIENT, PROXY_PORT)
    connection = http.client.HTTPConnection(*address, timeout=_TUNNEL_S)
    connection.set_tunnel(host, 443)
    connection.connect()
    sock = connection.sock
    connection.sock = None  # it is ours to close
    return sock
