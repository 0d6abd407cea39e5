"""Images built on the spot: manifests that are right, layers that really unpack."""

import gzip
import io
import json
import random
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from entrepot.oci.media_type import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from tests.support.content import Content, Given, sha256

Schema = Literal["oci", "docker"]
# bytes and Content are taken as the layer they are; a number asks for a layer of about that size.
LayerSource = bytes | int | Content

_MANIFEST = {"oci": OCI_MANIFEST, "docker": DOCKER_MANIFEST}
_INDEX = {"oci": OCI_INDEX, "docker": DOCKER_LIST}
_CONFIG = {
    "oci": "application/vnd.oci.image.config.v1+json",
    "docker": "application/vnd.docker.container.image.v1+json",
}
_LAYER = {
    "oci": "application/vnd.oci.image.layer.v1.tar+gzip",
    "docker": "application/vnd.docker.image.rootfs.diff.tar.gzip",
}
EMPTY_CONFIG = "application/vnd.oci.empty.v1+json"
_EPOCH = "1970-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class Layer:
    content: Content
    diff_id: str  # digest of the tar inside, which clients check when they unpack


@dataclass(frozen=True, slots=True)
class Manifest:
    """Bytes of a manifest or index, with what it names beneath it."""

    body: bytes
    media_type: str
    blobs: tuple[Content, ...] = ()
    children: tuple["Manifest", ...] = ()
    platform: str = ""

    @property
    def digest(self) -> str:
        return sha256(self.body)

    def all_manifests(self) -> Iterator["Manifest"]:
        yield self
        for child in self.children:
            yield from child.all_manifests()

    def all_blobs(self) -> dict[str, Content]:
        return {blob.digest: blob for each in self.all_manifests() for blob in each.blobs}

    @property
    def blob_bytes(self) -> int:
        return sum(blob.size for blob in self.all_blobs().values())


def random_layer(size: int, seed: int) -> Layer:
    """A gzipped tar of one file of random bytes, so that it is as large as it says."""
    return file_layer({f"data/{seed}": random.Random(seed).randbytes(size)})


def file_layer(files: Mapping[str, bytes]) -> Layer:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, body in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(body), 0o755
            tar.addfile(member, io.BytesIO(body))
    plain = buffer.getvalue()
    return Layer(Given(gzip.compress(plain, compresslevel=1, mtime=0)), sha256(plain))


def as_layer(source: LayerSource, seed: int) -> Layer:
    match source:
        case int():
            return random_layer(source, seed)
        case bytes():
            return Layer(Given(source), sha256(source))
        case _:
            return Layer(source, source.digest)


def build_image(
    layers: Iterable[LayerSource | Layer],
    *,
    seed: int = 0,
    platform: str = "linux/amd64",
    schema: Schema = "oci",
) -> Manifest:
    """`seed` makes the content of layers given by size differ between images."""
    built = [
        layer if isinstance(layer, Layer) else as_layer(layer, seed * 1000 + number)
        for number, layer in enumerate(layers)
    ]
    system, _, architecture = platform.partition("/")
    config = Given(
        _json(
            {
                "created": _EPOCH,
                "architecture": architecture.partition("/")[0],
                "os": system,
                "config": {"Cmd": ["/bin/true"], "Labels": {"seed": str(seed)}},
                "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in built]},
                "history": [{"created": _EPOCH} for _ in built],
            }
        )
    )
    document = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST[schema],
        "config": _descriptor(_CONFIG[schema], config),
        "layers": [_descriptor(_LAYER[schema], layer.content) for layer in built],
    }
    return Manifest(
        _json(document),
        _MANIFEST[schema],
        blobs=(config, *(layer.content for layer in built)),
        platform=platform,
    )


def build_index(images: Sequence[Manifest], *, schema: Schema = "oci") -> Manifest:
    document = {
        "schemaVersion": 2,
        "mediaType": _INDEX[schema],
        "manifests": [_child(image) for image in images],
    }
    return Manifest(_json(document), _INDEX[schema], children=tuple(images))


def build_artifact(
    artifact_type: str,
    files: Mapping[str, bytes],
    *,
    config_type: str = EMPTY_CONFIG,
    subject: Manifest | None = None,
) -> Manifest:
    """Not an image: a configuration of a type of its own, and layers that are plain files."""
    config = Given(b"{}")
    blobs = [Given(body) for body in files.values()]
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": _descriptor(config_type, config),
        "layers": [
            _descriptor("application/octet-stream", blob)
            | {"annotations": {"org.opencontainers.image.title": name}}
            for name, blob in zip(files, blobs, strict=True)
        ],
    }
    if subject is not None:
        document["subject"] = _child(subject)
    return Manifest(_json(document), OCI_MANIFEST, blobs=(config, *blobs))


def write_oci_layout(directory: Path, images: Mapping[str, Manifest]) -> None:
    """An OCI layout with an image for each tag: `skopeo copy oci:DIRECTORY:TAG …` reads it."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    (directory / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))
    for image in images.values():
        for manifest in image.all_manifests():
            (blobs / _hex(manifest.digest)).write_bytes(manifest.body)
        for digest, content in image.all_blobs().items():
            with (blobs / _hex(digest)).open("wb") as file:
                file.writelines(content.chunks(0, content.size))
    tagged = [
        _child(image) | {"annotations": {"org.opencontainers.image.ref.name": tag}}
        for tag, image in images.items()
    ]
    (directory / "index.json").write_bytes(_json({"schemaVersion": 2, "manifests": tagged}))


def _child(manifest: Manifest) -> dict[str, Any]:
    descriptor: dict[str, Any] = {
        "mediaType": manifest.media_type,
        "digest": manifest.digest,
        "size": len(manifest.body),
    }
    if manifest.platform:
        system, architecture, *variant = manifest.platform.split("/")
        descriptor["platform"] = {"os": system, "architecture": architecture}
        if variant:
            descriptor["platform"]["variant"] = variant[0]
    return descriptor


def _descriptor(media_type: str, content: Content) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": content.digest, "size": content.size}


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _hex(digest: str) -> str:
    return digest.partition(":")[2]
