"""Tags: believed for their time, then asked for by a HEAD that costs nothing."""

import asyncio
import gzip

import pytest

from tests.integration.conftest import Setting
from tests.integration.tagged import Tagged, digest_of
from tests.integration.waiting import eventually
from tests.support.client import ACCEPT, Answer
from tests.support.faults import AnswerWith, Chunked, GzipIfAsked, HeadWithoutLength, Hold
from tests.support.images import build_artifact

CONFIG = {
    "tags": {
        "ttl": "500ms",
        "rules": [
            {"match": "registry.test/*:fixed-*", "immutable": True},
            {"match": "registry.test/*:never-*", "never": True},
            {"match": "/:long$/", "ttl": "1h"},
        ],
    },
    "upstream": {"max_manifest": "100k"},
}


@pytest.fixture
def tagged(shared: Setting) -> Tagged:
    return Tagged(shared)


async def test_a_tag_that_moved_is_seen_at_the_cost_of_a_head_and_a_get(
    shared: Setting, tagged: Tagged
) -> None:
    client = shared.client
    old = await tagged.get(client)
    assert tagged.asked == (0, 1)
    moved = tagged.move()
    new = await eventually(lambda: tagged.get(client), lambda answer: answer.body != old.body)
    assert (new.body, digest_of(new)) == (moved.body, moved.digest)
    assert tagged.asked == (1, 2)


async def test_a_tag_that_did_not_move_costs_a_head(shared: Setting, tagged: Tagged) -> None:
    client = shared.client
    cold = await tagged.get(client)
    answer = await tagged.revalidated(client)
    assert answer.body == cold.body
    assert answer.headers["cache-status"] == "Entrepot; hit; detail=revalidated"
    assert answer.headers["age"] == "0"
    assert tagged.asked == (1, 1)


async def test_within_its_time_nothing_is_asked(shared: Setting) -> None:
    tagged = Tagged(shared, "long")
    client = shared.client
    cold = await tagged.get(client)
    tagged.move()
    for _ in range(3):
        answer = await tagged.get(client)
        assert answer.body == cold.body
        assert answer.headers["cache-status"] == "Entrepot; hit"
        head = await tagged.get(client, method="HEAD")
        assert (digest_of(head), head.length) == (digest_of(cold), len(cold.body))
    assert tagged.asked == (0, 1)


async def test_the_herd_that_comes_when_time_is_up_costs_one_head(
    shared: Setting, tagged: Tagged
) -> None:
    client = shared.client
    await tagged.get(client)
    gate = shared.registry.gate()
    shared.registry.fault(Hold(-1, gate), path=tagged.path)
    asking: list[asyncio.Task[Answer]] = []
    async with asyncio.TaskGroup() as group:
        while tagged.asked == (0, 1) or len(asking) < 20:
            asking.append(group.create_task(tagged.get(client)))
            await asyncio.wait(asking[-1:], timeout=0.1)
        gate.open()
    assert {task.result().body for task in asking} == {tagged.image.body}
    assert tagged.asked == (1, 1)


async def test_an_immutable_tag_is_never_asked_for_again(shared: Setting) -> None:
    fixed, usual = Tagged(shared, "fixed-1"), Tagged(shared)
    client = shared.client
    cold = await fixed.get(client)
    await usual.get(client)
    fixed.move()
    await usual.revalidated(client)  # so the time of both is up
    assert (await fixed.get(client)).body == cold.body
    assert fixed.asked == (0, 1)


async def test_a_tag_that_is_never_kept_asks_each_time(shared: Setting) -> None:
    tagged = Tagged(shared, "never-1")
    client = shared.client
    for count in (1, 2, 3):
        moved = tagged.move()
        answer = await tagged.get(client)
        assert (answer.body, digest_of(answer)) == (moved.body, moved.digest)
        assert answer.headers["cache-status"] == "Entrepot; fwd=bypass"
        assert tagged.asked == (0, count)


async def test_variants_of_accept_do_not_meet(shared: Setting) -> None:
    """To one client the tag is an index, to another there is nothing that it takes."""
    index = shared.registry.add_image("multi", "long", platforms=("linux/amd64", "linux/arm64"))
    client = shared.client
    url = f"{shared.url}/v2/multi/manifests/long"
    old_client = "application/vnd.docker.distribution.manifest.v2+json"
    for _ in range(2):
        answer = await client.request("GET", url, {"Accept": old_client})
        assert answer.status == 404
        answer = await client.request("GET", url, {"Accept": ACCEPT})
        assert (answer.status, digest_of(answer)) == (200, index.digest)


async def test_404_is_an_answer_also_for_a_tag_once_cached(shared: Setting, tagged: Tagged) -> None:
    client = shared.client
    await tagged.get(client)
    shared.registry.delete_tag(tagged.repository, tagged.tag)
    gone = await eventually(lambda: tagged.get(client), lambda answer: answer.status != 200)
    assert (gone.status, gone.json()["errors"][0]["code"]) == (404, "MANIFEST_UNKNOWN")
    undo = shared.registry.fault(AnswerWith(500), path=tagged.path)  # from here on: no word

    answers = [await tagged.get(client)]
    asked = tagged.asked
    answers.append(await eventually(lambda: tagged.get(client), lambda _: tagged.asked != asked))
    undo()
    assert answers[0].status == 404
    assert answers[1].status == 500  # and not the image that was there once


@pytest.mark.parametrize("status", [404, 401, 403])
async def test_a_no_is_believed_for_a_moment(shared: Setting, status: int) -> None:
    tagged = Tagged(shared, "long")
    undo = shared.registry.fault(AnswerWith(status), path=tagged.path)
    client = shared.client
    answers = [await tagged.get(client) for _ in range(5)]
    assert {answer.status for answer in answers} == {status}
    assert sum(tagged.asked) == 1
    undo()


async def test_a_no_is_forgotten_with_the_time_of_tags(shared: Setting) -> None:
    tagged = Tagged(shared, is_there=False)
    client = shared.client
    assert (await tagged.get(client)).status == 404
    image = tagged.move()
    answer = await eventually(lambda: tagged.get(client), lambda answer: answer.status == 200)
    assert digest_of(answer) == image.digest
    assert tagged.asked == (0, 2)


async def test_head_tells_the_length_also_where_the_upstream_does_not(
    shared: Setting, tagged: Tagged
) -> None:
    shared.registry.fault(HeadWithoutLength(), path=tagged.path)
    client = shared.client
    for _ in ("cold", "warm"):
        head = await tagged.get(client, method="HEAD")
        assert (head.status, head.length, head.body) == (200, len(tagged.image.body), b"")
        assert digest_of(head) == tagged.image.digest


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_manifest_that_is_too_large_to_keep_passes(
    shared: Setting, *, is_chunked: bool
) -> None:
    files = {f"file-{number}": b"%d" % number for number in range(600)}
    large = build_artifact("application/vnd.test", files)
    assert len(large.body) > 100_000
    repository = f"large-{is_chunked}".lower()
    shared.registry.add(repository, "1.0", large)
    if is_chunked:
        shared.registry.fault(Chunked(), path=f"/v2/{repository}/manifests/*")
    client = shared.client
    for reference in ("1.0", large.digest):
        answer = await client.request("GET", f"{shared.url}/v2/{repository}/manifests/{reference}")
        assert (answer.status, answer.body) == (200, large.body)
        assert answer.headers["content-type"] == large.media_type
        assert answer.headers["cache-status"] == "Entrepot; fwd=bypass"


async def test_content_is_never_encoded_whatever_the_client_accepts(
    shared: Setting, tagged: Tagged
) -> None:
    """Containerd accepts this, and some CDNs then do it to any content."""
    shared.registry.fault(GzipIfAsked(), path=f"/v2/{tagged.repository}/*")
    client = shared.client
    blob = tagged.image.blobs[0]
    paths = (f"manifests/{tagged.tag}", f"blobs/{blob.digest}")
    for path in paths * 2:
        answer = await client.request(
            "GET",
            f"{shared.url}/v2/{tagged.repository}/{path}",
            {"Accept-Encoding": "zstd;q=1.0, gzip;q=0.8, deflate;q=0.5"},
        )
        assert answer.status == 200
        assert "content-encoding" not in answer.headers
        assert not answer.body.startswith(gzip.compress(b"")[:2])
