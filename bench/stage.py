"""What every workload plays on: the upstream, peers on request, and how much of everything."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.content import MIB, Blob, Mint
from bench.machine import Cores
from bench.peers.distribution import distribution
from bench.peers.entrepot import entrepot
from bench.peers.nginx import nginx_cache, nginx_files
from bench.peers.server import Server
from bench.peers.squid import squid
from bench.results import OURS
from bench.targets import DIRECT, DISTRIBUTION, FILES, NGINX, SQUID, UNPINNED
from bench.upstream import Upstream, manifest_path
from tests.support.closing import Closing
from tests.support.content import Given
from tests.support.images import Layer, build_image
from tests.support.pki import TestAuthority
from tests.support.processes import Seat


@dataclass(frozen=True, slots=True)
class Scale:
    rounds: int
    is_quick: bool

    def choose[T](self, full: T, quick: T) -> T:
        return quick if self.is_quick else full

    def fewer_rounds(self) -> int:
        """Of what takes long and spreads little."""
        return max(1, self.rounds // 3)

    def mib(self, full: int, quick: int) -> int:
        """In bytes."""
        return self.choose(full, quick) * MIB


class Stage(Closing):
    def __init__(self, directory: Path, cores: Cores, scale: Scale) -> None:
        # Squid, started by root, becomes somebody else and has to get through.
        directory.chmod(0o711)
        self.directory = directory
        self.cores = cores
        self.scale = scale
        self.mint = Mint(seed=1)
        self.authority = TestAuthority(directory / "authority")
        (directory / "authority").chmod(0o711)
        self.upstream = Upstream(self.authority, cores.on_client())
        self._made = 0

    def close(self) -> None:
        self.upstream.close()

    @contextmanager
    def servers(self, names: Sequence[str], *, root: Path | None = None) -> Iterator[list[Server]]:
        """Each started anew, with nothing cached; `root` is what a server of files has."""
        with ExitStack() as stack:
            yield [stack.enter_context(self._server(name, root)) for name in names]

    def new_directory(self, name: str) -> Path:
        self._made += 1
        return self.directory / f"{self._made}-{name.partition(',')[0].replace(' ', '-')}"

    def new_blob(self, size: int) -> tuple[str, Blob]:
        """One that no cache has, and its path."""
        blob = self.mint.blob(size)
        return self.upstream.stock(blob), blob

    def small_manifest(self) -> tuple[str, bytes]:
        """An ordinary one of some 2 kB."""
        layers = [Layer(Given(bytes([number])), "sha256:" + "0" * 64) for number in range(9)]
        image = build_image(layers)
        file = self.directory / "small-manifest"
        file.write_bytes(image.body)
        for reference in ("small", image.digest):
            path = manifest_path(reference)
            self.upstream.stock_file(path, file, image.digest, image.media_type)
        return manifest_path("small"), image.body

    def _server(self, name: str, root: Path | None) -> AbstractContextManager[Server]:
        directory, prefix = self.new_directory(name), self.cores.on_server()
        common = (directory, self.upstream, self.authority)
        match name:
            case _ if name == OURS:
                return self.entrepot(directory, name, Seat(prefix=prefix))
            case _ if name == UNPINNED:
                return self.entrepot(directory, name, Seat())
            case _ if name == NGINX:
                return nginx_cache(*common, prefix)
            case _ if name == SQUID:
                return squid(*common, prefix)
            case _ if name == DISTRIBUTION:
                return distribution(*common, prefix)
            case _ if name == FILES and root is not None:
                return nginx_files(directory, self.authority, prefix, root)
            case _ if name == DIRECT:
                return self._direct()
        raise ValueError(f"there is no server {name!r}")

    def entrepot(self, directory: Path, name: str, seat: Seat) -> AbstractContextManager[Server]:
        ca = self.directory / "ca"  # the same for all: clients that stay trust it
        return entrepot(directory, self.upstream, self.authority, seat=seat, name=name, ca=ca)

    @contextmanager
    def _direct(self) -> Iterator[Server]:
        yield Server(DIRECT, self.upstream.authority, self.authority.ca_file, self.upstream.pid)
