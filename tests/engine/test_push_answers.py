"""What a pusher hears, what is asked for it, and what others see of it at once."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from entrepot.config.kinds import Secret
from tests.support.clock import ManualClock
from tests.support.content import Given, sha256
from tests.support.engine import (
    NAME,
    Rig,
    accepting,
    config_for,
    manifest_path,
    open_engine,
)
from tests.support.faults import AnswerWith, Header
from tests.support.images import Manifest, build_artifact, build_image
from tests.support.registry import ScriptedRegistry
from tests.support.token_service import Auth

BEGIN = "/v2/app/blobs/uploads/"


@pytest.fixture
async def rig(registry: ScriptedRegistry, clock: ManualClock) -> AsyncIterator[Rig]:
    config = config_for(registry, push="allow", hosts=("other.test",))
    async with open_engine(registry, clock, config=config) as rig:
        yield rig


async def put(rig: Rig, image: Manifest, reference: str) -> int:
    headers = {"Content-Type": image.media_type}
    path = manifest_path(reference)
    return (await rig.ask(path, headers, method="PUT", body=image.body)).status


async def test_headers_of_uploads_pass(rig: Rig) -> None:
    said = {
        "OCI-Chunk-Min-Length": "5242880",
        "Docker-Upload-UUID": "1-2-3",
        "Range": "0-0",
        "Location": "/v2/app/blobs/uploads/1?_state=a%2Bb%3d",
    }
    for name, value in said.items():
        rig.registry.fault(Header(name, value), path=BEGIN)
    answer = await rig.ask(BEGIN, method="POST", body=b"")
    assert said.items() <= answer.headers.items()
    assert rig.registry.url not in str(answer.headers)


@pytest.mark.parametrize("status", [202, 307])
async def test_an_endpoint_is_not_named(rig: Rig, status: int) -> None:
    location = f"{rig.registry.url}/v2/app/blobs/uploads/1?sig=a%2Bb"
    rig.registry.fault(AnswerWith(status, b"", (("Location", location),)), path=BEGIN)
    answer = await rig.ask(BEGIN, method="POST", body=b"")
    assert answer.status == status
    assert answer.headers["Location"] == f"https://{NAME}/v2/app/blobs/uploads/1?sig=a%2Bb"


async def test_a_chunk_arrives_as_it_was_sent(rig: Rig) -> None:
    place = (await rig.ask(BEGIN, method="POST", body=b"")).headers["Location"]
    headers = {"Content-Range": "0-4", "Content-Type": "application/octet-stream"}
    await rig.ask(place, headers, method="PATCH", body=b"layer")
    (seen,) = rig.registry.log.find("*", method="PATCH")
    assert headers.items() <= {name.title(): value for name, value in seen.headers.items()}.items()


async def test_a_mount_asks_for_a_token_of_both_repositories(clock: ManualClock) -> None:
    with ScriptedRegistry(auth=Auth("bearer", {"robot": "s3cr3t"})) as registry:
        content = registry.add_blob("base", Given(b"layer"))
        rights: dict[str, Any] = {"username": "robot", "password": Secret("s3cr3t")}
        config = config_for(registry, push="allow", push_as="operator", **rights)
        async with open_engine(registry, clock, config=config) as rig:
            headers = await rig.login()
            path = f"{BEGIN}?mount={content.digest}&from=base"
            for _ in range(2):
                answer = await rig.ask(path, headers, method="POST", body=b"")
            assert answer.status == 201
        asked = [entry.target for entry in registry.log.find("/token*")]
        scopes = "scope=repository%3Aapp%3Apull%2Cpush&scope=repository%3Abase%3Apull"
        assert any(scopes in target for target in asked)


@pytest.mark.parametrize(
    "query", ["from=base", "mount=x", "mount=x&from=a&from=b", "from=/&mount=x"]
)
async def test_what_is_no_mount_asks_for_one(rig: Rig, query: str) -> None:
    """And is the upstream's to answer."""
    assert (await rig.ask(f"{BEGIN}?{query}", method="POST", body=b"")).status == 202


@pytest.mark.parametrize("reference", ["1.0", "digest"])
async def test_further_tags_are_seen_at_once(rig: Rig, reference: str) -> None:
    old = rig.registry.add_image("app", "latest", seed=1)
    new = build_image([], seed=2)
    rig.registry.add("app", None, new)
    path = manifest_path("latest")
    assert (await rig.ask(path, accepting(old))).body == old.body
    assert (await rig.ask(manifest_path("new"), accepting(old))).status == 404
    target = new.digest if reference == "digest" else reference
    assert await put(rig, new, f"{target}?tag=latest&tag=new&tag=/odd&tag={sha256(b'')}") == 201
    for tag in ("latest", "new"):
        rig.registry.add("app", tag, new)  # as the upstream has understood it
        assert (await rig.ask(manifest_path(tag), accepting(old))).body == new.body


async def test_so_is_a_push_by_another_name_of_the_registry(rig: Rig) -> None:
    old = rig.registry.add_image("app", "1.0", seed=1)
    new = build_image([], seed=2)
    rig.registry.add("app", None, new)
    path = manifest_path("1.0")
    for host in (NAME, "other.test"):
        assert (await rig.ask(path, accepting(old), host=host)).body == old.body
    headers = {"Content-Type": new.media_type}
    await rig.ask(path, headers, method="PUT", body=new.body, host="other.test")
    for host in (NAME, "other.test"):
        assert (await rig.ask(path, accepting(old), host=host)).body == new.body


async def tags(rig: Rig, path: str = "/v2/app/tags/list") -> list[str]:
    answer = await rig.ask(path)
    assert answer.status == 200
    document = json.loads(answer.body)
    return list(document.get("tags") or document.get("repositories") or ())


async def test_lists_show_at_once_what_was_written(rig: Rig) -> None:
    image = rig.registry.add_image("app", "1.0")
    rig.registry.add_image("application", "1.0")
    for path in ("/v2/app/tags/list", "/v2/app/tags/list?n=100"):
        assert await tags(rig, path) == ["1.0"]
    assert await tags(rig, "/v2/application/tags/list") == ["1.0"]
    rig.registry.forget()
    assert await put(rig, image, "2.0") == 201
    for path in ("/v2/app/tags/list", "/v2/app/tags/list?n=100"):
        assert await tags(rig, path) == ["1.0", "2.0"]
    assert await tags(rig, "/v2/application/tags/list") == ["1.0"]
    assert rig.registry.log.count("/v2/application/tags/list") == 0
    assert (await rig.ask(manifest_path("2.0"), method="DELETE")).status == 202
    assert await tags(rig) == ["1.0"]


async def test_so_do_referrers(rig: Rig) -> None:
    image = rig.registry.add_image("app", "1.0")
    path = f"/v2/app/referrers/{image.digest}"
    assert json.loads((await rig.ask(path)).body)["manifests"] == []
    artifact = build_artifact("application/x-signature", {"signature": b"signed"}, subject=image)
    for blob in artifact.blobs:
        rig.registry.add_blob("app", blob)
    assert await put(rig, artifact, artifact.digest) == 201
    assert len(json.loads((await rig.ask(path)).body)["manifests"]) == 1


async def test_a_write_that_failed_forgets_no_list(rig: Rig) -> None:
    rig.registry.add_image("app", "1.0")
    assert await tags(rig) == ["1.0"]
    rig.registry.fault(AnswerWith(403), method="PUT")
    assert await put(rig, build_image([]), "2.0") == 403
    rig.registry.forget()
    assert await tags(rig) == ["1.0"]
    assert rig.registry.log.count("/v2/app/tags/list") == 0
