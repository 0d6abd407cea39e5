"""What a manifest names: its children, layers, configuration and subject."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from entrepot.errors import InvalidReference
from entrepot.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class Descriptor:
    media_type: str
    digest: Digest
    size: int
    is_foreign: bool = False  # to be had at URLs that it names, and maybe not at the registry


@dataclass(frozen=True, slots=True)
class Manifest:
    media_type: str
    manifests: tuple[Descriptor, ...]  # of an index
    blobs: tuple[Descriptor, ...]  # configuration and layers of an image

    @classmethod
    def parse(cls, body: bytes, media_type: str) -> "Manifest":
        """Read leniently: what is not understood names nothing, and the bytes pass as they are."""
        try:
            document = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise InvalidReference("manifest is not JSON") from error
        if not isinstance(document, dict):
            raise InvalidReference("manifest is not a JSON object")
        named = document.get("mediaType")
        return cls(
            media_type=named if isinstance(named, str) else media_type,
            manifests=tuple(_descriptors(document.get("manifests"))),
            blobs=tuple(
                _descriptors(
                    [
                        document.get("config"),
                        *_list(document.get("layers")),
                        *_list(document.get("blobs")),
                    ]
                )
            ),
        )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _descriptors(value: Any) -> Iterator[Descriptor]:
    for item in _list(value):
        try:
            yield Descriptor(
                str(item["mediaType"]),
                Digest.parse(item["digest"]),
                int(item["size"]),
                is_foreign=bool(item.get("urls")),
            )
        except (KeyError, TypeError, ValueError, AttributeError, InvalidReference):
            continue  # future algorithms are not ours to fetch


def is_manifest(body: bytes) -> bool:
    """Whether it is what registries call so, of any version: not a portal's page, not an error."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and bool({"schemaVersion", "mediaType"} & document.keys())
