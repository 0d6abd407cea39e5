import pytest

from entrepot.engine.spelling import hides_something, is_of_registry
from entrepot.oci.route import parse_route


@pytest.mark.parametrize(
    "path",
    [
        "/v2",
        "/v2/",
        "/v2/app/manifests/1.0",
        "//v2/app",
        "/./v2/app",
        "/x/../v2/app",
        "/x/%2e%2e/v2/app",
        "/%76%32/app",
        "/%2576%2532/app",
        "/x/..;/v2/app",
        "/v2;x=1/app",
        "/x\\..\\v2/app",
        "/x%5c..%5cv2/app",
        "/V2/app",
        "/artifactory/api/docker/local/v2/app/manifests/1.0",  # below a prefix
        "/x%2fv2%2fapp",
    ],
)
def test_what_an_upstream_may_take_for_the_api(path: str) -> None:
    assert is_of_registry(path)


@pytest.mark.parametrize(
    "path", ["/", "/page", "/v1/search", "/v2.0/ping", "/v2/../page", "/xv2/app", "/api/v2x"]
)
def test_what_it_may_not(path: str) -> None:
    assert not is_of_registry(path)


@pytest.mark.parametrize(
    ("path", "hides"),
    [
        ("/v2/app/blobs/uploads/77", False),
        ("/v2/app/blobs/uploads/a.b_c~d-e=+", False),
        ("/v2/app/blobs/uploads/%252e%252e/%252e%252e/x", True),
        ("/v2/app/blobs/uploads/..;/..;/..;/_catalog", True),
        ("/v2/app/tags/list", False),
        ("/page;x", False),
    ],
)
def test_the_end_of_an_uploads_path_leads_nowhere_else(path: str, *, hides: bool) -> None:
    assert hides_something(path, parse_route(path)) == hides
