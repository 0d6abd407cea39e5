"""Debian's registry as an operator runs it: deletions on, its own collection at hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from entrepot.config.kinds import Seconds
from entrepot.config.local import GarbageCollection, LocalRegistry
from entrepot.config.model import Config
from tests.support.distribution import PROGRAM, Distribution
from tests.support.images import Manifest

NAME = "docker-registry.local"


class OwnRegistry(Distribution):
    """`options` go into its configuration's `storage`."""

    def __init__(self, directory: Path, **options: Any) -> None:
        self._options = {"delete": {"enabled": True}} | options
        super().__init__(directory)

    @property
    def command(self) -> tuple[str, ...]:
        return (PROGRAM, "garbage-collect", str(self._directory / "config.yml"))

    @property
    def storage(self) -> Path:
        return self._directory / "storage"

    def stored(self) -> int:
        """Bytes of all blobs."""
        return sum(file.stat().st_size for file in self.storage.glob("docker/*/v2/blobs/**/data"))

    def tag(self, repository: str, tag: str, manifest: Manifest) -> None:
        """What is there already."""
        headers = {"Content-Type": manifest.media_type}
        path = f"/v2/{repository}/manifests/{tag}"
        self._request("PUT", path, manifest.body, headers, 201)

    def has(self, path: str) -> bool:
        accept = "*/*, application/vnd.oci.image.index.v1+json"
        headers = {"Accept": f"{accept}, application/vnd.oci.image.manifest.v1+json"}
        return self._exchange("GET", f"/v2/{path}", b"", headers).status == 200

    def has_all_of(self, repository: str, manifest: Manifest) -> bool:
        """As far as a pull by digest would find it."""
        paths = [f"manifests/{each.digest}" for each in manifest.all_manifests()]
        paths += [f"blobs/{digest}" for digest in manifest.all_blobs()]
        return all(self.has(f"{repository}/{path}") for path in paths)

    def settings(self, **changes: Any) -> LocalRegistry:
        gc = GarbageCollection(command=self.command, storage=self.storage, wait=Seconds(20))
        return replace(LocalRegistry(upstream=(self.url,), gc=gc), **changes)

    def config(self, data: Path, **changes: Any) -> Config:
        return Config(data=data, local_registries={NAME: self.settings(**changes)})

    def _config(self) -> dict[str, Any]:
        config = super()._config()
        config["storage"] |= self._options
        return config
