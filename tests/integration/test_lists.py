"""Tag lists, referrers and the catalog: kept for a moment, and for when the upstream is down."""

import itertools

import pytest

from tests.integration.conftest import Setting
from tests.integration.waiting import eventually
from tests.support.client import Answer
from tests.support.content import sha256
from tests.support.faults import AnswerWith, Chunked
from tests.support.images import build_artifact

CONFIG = {"tags": {"list_ttl": "500ms"}}
SIGNATURE = "application/vnd.test.signature"
HIT = "Entrepot; hit"
_numbers = itertools.count(1)


@pytest.fixture
def repository(shared: Setting) -> str:
    """With the tags a, b and c."""
    name = f"app{next(_numbers)}"
    for tag in "abc":
        shared.registry.add_image(name, tag)
    return name


async def listed(setting: Setting, path: str) -> Answer:
    return await setting.client.request("GET", setting.url + path)


async def test_tags_are_listed_from_the_cache_for_a_moment(
    shared: Setting, repository: str
) -> None:
    path = f"/v2/{repository}/tags/list"
    cold = await listed(shared, path)
    assert cold.json() == {"name": repository, "tags": ["a", "b", "c"]}
    shared.registry.add_image(repository, "d")
    warm = await listed(shared, path)
    assert (warm.body, warm.headers["cache-status"]) == (cold.body, HIT)
    assert warm.headers["content-type"] == "application/json"
    later = await eventually(lambda: listed(shared, path), lambda answer: answer.body != cold.body)
    assert later.json()["tags"] == ["a", "b", "c", "d"]
    assert shared.registry.log.count(path) == 2


async def test_pages_are_each_their_own(shared: Setting, repository: str) -> None:
    path = f"/v2/{repository}/tags/list"
    for _ in ("cold", "warm"):
        first = await listed(shared, f"{path}?n=2")
        assert first.json()["tags"] == ["a", "b"]
        assert first.headers["link"] == f'<{path}?last=b&n=2>; rel="next"'
        second = await listed(shared, f"{path}?last=b&n=2")
        assert second.json()["tags"] == ["c"]
        assert "link" not in second.headers


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_lists_are_served_stale(
    shared: Setting, repository: str, *, is_chunked: bool
) -> None:
    """Go's server tells no length of what is longer than its buffer."""
    path = f"/v2/{repository}/tags/list"
    if is_chunked:
        shared.registry.fault(Chunked(), path=path)
    cold = await listed(shared, f"{path}?n=2")
    undo = shared.registry.fault(AnswerWith(503), path=path)
    stale = await eventually(
        lambda: listed(shared, f"{path}?n=2"), lambda answer: answer.headers["cache-status"] != HIT
    )
    undo()
    assert (stale.status, stale.body) == (200, cold.body)
    assert "upstream-unavailable" in stale.headers["cache-status"]
    assert stale.headers["link"] == cold.headers["link"]


async def test_a_list_that_is_too_long_to_keep_passes(shared: Setting, repository: str) -> None:
    path = f"/v2/{repository}/tags/list"
    body = b"[" + b"1," * (1 << 20) + b"1]"
    headers = (("Content-Type", "application/json"),)
    shared.registry.fault(AnswerWith(200, body, headers), path=path)
    assert (await listed(shared, path)).body == body
    shared.registry.fault(Chunked(), path=path)
    assert (await listed(shared, path)).body == body


@pytest.mark.parametrize("is_filtered", [False, True])
async def test_referrers(shared: Setting, *, is_filtered: bool) -> None:
    repository = f"signed{next(_numbers)}"
    image = shared.registry.add_image(repository, "1.0")
    signature = build_artifact(SIGNATURE, {"sig": b"signed"}, subject=image)
    shared.registry.add(repository, None, signature)
    path = f"/v2/{repository}/referrers/{image.digest}"
    query = f"?artifactType={SIGNATURE}" if is_filtered else ""
    for status in ("Entrepot; fwd=uri-miss; stored", HIT):
        answer = await listed(shared, path + query)
        assert answer.headers["cache-status"] == status
        assert [each["digest"] for each in answer.json()["manifests"]] == [signature.digest]
        assert answer.headers["content-type"] == "application/vnd.oci.image.index.v1+json"
        assert ("oci-filters-applied" in answer.headers) == is_filtered


async def test_no_referrers_are_a_list_too(shared: Setting, repository: str) -> None:
    answer = await listed(shared, f"/v2/{repository}/referrers/{sha256(b'none')}")
    assert (answer.status, answer.json()["manifests"]) == (200, [])


async def test_the_catalog(shared: Setting, repository: str) -> None:
    first = await listed(shared, "/v2/_catalog?n=1")
    assert first.status == 200
    assert 'rel="next"' in first.headers["link"]
    again = await listed(shared, "/v2/_catalog?n=1")
    assert (again.body, again.headers["cache-status"]) == (first.body, HIT)


async def test_head_of_a_list_has_its_length(shared: Setting, repository: str) -> None:
    path = f"{shared.url}/v2/{repository}/tags/list"
    client = shared.client
    cold = await client.request("HEAD", path)
    whole = await client.request("GET", path)
    warm = await client.request("HEAD", path)
    assert cold.length == warm.length == len(whole.body)
