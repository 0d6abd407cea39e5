import json

import pytest

from entrepot.errors import InvalidReference
from entrepot.oci.digest import Digest
from entrepot.oci.manifest import Descriptor, Manifest, is_manifest
from entrepot.oci.media_type import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, accept_key, essence

A, B = Digest.of(b"a"), Digest.of(b"b")


def descriptor(digest: Digest, media_type: str = "x/y") -> dict[str, object]:
    return {"mediaType": media_type, "digest": str(digest), "size": 1}


def test_an_image_names_its_configuration_and_layers() -> None:
    body = json.dumps({"config": descriptor(A), "layers": [descriptor(B)]}).encode()
    manifest = Manifest.parse(body, OCI_MANIFEST)
    assert manifest.media_type == OCI_MANIFEST
    assert manifest.blobs == (Descriptor("x/y", A, 1), Descriptor("x/y", B, 1))
    assert manifest.manifests == ()


def test_a_layer_may_be_to_be_had_elsewhere() -> None:
    foreign = descriptor(B) | {"urls": ["https://elsewhere.test/b"]}
    body = json.dumps({"layers": [descriptor(A) | {"urls": []}, foreign]}).encode()
    blobs = Manifest.parse(body, OCI_MANIFEST).blobs
    assert [blob.is_foreign for blob in blobs] == [False, True]


def test_an_index_names_its_manifests() -> None:
    body = json.dumps({"mediaType": OCI_INDEX, "manifests": [descriptor(A), descriptor(B)]})
    manifest = Manifest.parse(body.encode(), "application/json")
    assert manifest.media_type == OCI_INDEX
    assert [part.digest for part in manifest.manifests] == [A, B]


@pytest.mark.parametrize(
    "document",
    [
        {"layers": None},
        {"layers": "x"},
        {"layers": [1, None, {}, {"digest": "md5:x", "mediaType": "a", "size": 1}]},
        {"layers": [{"mediaType": "a", "digest": str(A), "size": "many"}]},
        {"config": {"mediaType": "a", "digest": 5, "size": 1}},
    ],
)
def test_what_is_not_understood_names_nothing(document: object) -> None:
    assert Manifest.parse(json.dumps(document).encode(), DOCKER_MANIFEST).blobs == ()


@pytest.mark.parametrize("body", [b"", b"\xff", b"[]", b"[" * 100_000])
def test_what_is_no_manifest_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidReference):
        Manifest.parse(body, OCI_MANIFEST)


def test_accept_headers_of_one_meaning_have_one_key() -> None:
    assert accept_key("a/b;q=0.5, c/d") == accept_key("C/D,a/b") == "a/b,c/d"
    assert accept_key("") == ""
    assert essence("A/B; charset=utf-8") == "a/b"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"schemaVersion": 2}', True),
        (b'{"mediaType": "a/b"}', True),
        (b'{"errors": []}', False),
        (b"[]", False),
        (b"<html>", False),
        (b"[" * 100_000, False),
    ],
)
def test_manifests_are_told_from_pages(body: bytes, *, expected: bool) -> None:
    assert is_manifest(body) is expected
