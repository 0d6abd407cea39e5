import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.errors import InvalidReference
from entrepot.oci.digest import Digest
from entrepot.oci.reference import Repository, Tag
from entrepot.oci.route import (
    BlobRoute,
    Legacy,
    ListRoute,
    ManifestRoute,
    Other,
    Ping,
    Route,
    UploadRoute,
    parse_route,
)

DIGEST = Digest.of(b"")
ALPINE = Repository("library/alpine")


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/v2/", Ping()),
        ("/v2", Ping()),
        ("/v2/library/alpine/manifests/latest", ManifestRoute(ALPINE, Tag("latest"))),
        (f"/v2/library/alpine/manifests/{DIGEST}", ManifestRoute(ALPINE, DIGEST)),
        (
            f"/v2/library/alpine/manifests/{str(DIGEST).replace(':', '%3A')}",
            ManifestRoute(ALPINE, DIGEST),
        ),
        (f"/v2/library/alpine/blobs/{DIGEST}", BlobRoute(ALPINE, DIGEST)),
        ("/v2/library/alpine/tags/list", ListRoute(ALPINE)),
        (f"/v2/library/alpine/referrers/{DIGEST}", ListRoute(ALPINE)),
        ("/v2/_catalog", ListRoute(None)),
        ("/v2/library/alpine/blobs/uploads/", UploadRoute(ALPINE)),
        ("/v2/library/alpine/blobs/uploads/1234-5678", UploadRoute(ALPINE)),
        ("/v2/library/alpine/blobs/uploads", UploadRoute(ALPINE)),
        ("/v2/a/manifests/b/manifests/c", ManifestRoute(Repository("a/manifests/b"), Tag("c"))),
        ("/v2/blobs/manifests/c", ManifestRoute(Repository("blobs"), Tag("c"))),
        ("/v1/_ping", Legacy()),
        ("/v1", Legacy()),
        ("/", Other()),
        ("/token", Other()),
        ("/v2/auth", Other()),
        ("/v1x", Other()),
    ],
)
def test_routes(path: str, route: Route) -> None:
    assert parse_route(path) == route


@pytest.mark.parametrize(
    "path",
    [
        "/v2/../etc/passwd",
        "/v2/a/../manifests/x",
        "/v2/%2e%2e/manifests/x",
        "/v2/a/%2e%2e%2fb/manifests/x",
        "/v2/a//b/manifests/x",
        "/v2/a\\b/manifests/x",
        "/v2/a%00/manifests/x",
        "/v2/a%0d%0ab/manifests/x",
        "/v2/A/manifests/x",
        "/v2/a/manifests/-x",
        "/v2/a/manifests/sha256:abc",
        "/v2/a/blobs/latest",
        "/v2/a/blobs/sha256:../../x",
        "/v2/a/referrers/latest",
        f"/v2/{'a' * 300}/manifests/x",
        "/v2/a/manifests/x%2f..",
    ],
)
def test_hostile_paths_are_refused(path: str) -> None:
    with pytest.raises(InvalidReference):
        parse_route(path)


@given(st.text())
def test_any_path_is_a_route_or_refused(path: str) -> None:
    try:
        parse_route(f"/v2/{path}")
    except InvalidReference:
        return
