"""A registry of one's own, cleaned up behind a running proxy by `entrepot registry`."""

import asyncio
import json
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from entrepot.local.hold import HOLD_TTL_S
from tests.integration.conftest import Setting
from tests.integration.test_push import Pusher
from tests.integration.waiting import eventually
from tests.local.registry import NAME, OwnRegistry
from tests.support.client import ACCEPT, Answer, ProxyClient
from tests.support.distribution import is_installed
from tests.support.images import Manifest, build_image, build_index
from tests.support.proxy import ProxyProcess

pytestmark = pytest.mark.skipif(not is_installed(), reason="needs docker-registry and htpasswd")
URL = f"https://{NAME}"
REPOSITORY = "team/app"


@dataclass(frozen=True, slots=True)
class House:
    setting: Setting
    own: OwnRegistry
    entry: dict[str, Any]

    def start(self) -> ProxyClient:
        return self.setting.start()

    @property
    def gate(self) -> Path:
        """While this is there, the collection waits."""
        return self.own.storage.parent / "gate"

    @property
    def begun(self) -> Path:
        """There when the collection has begun, its process in it."""
        return self.own.storage.parent / "begun"

    def break_collection(self) -> None:
        """From now on it fails when it is no dry run."""
        script = Path(self.entry["gc"]["command"][0])
        script.write_text(script.read_text().replace(") ;;\n*)", ") ;;\n*) exit 9;", 1))

    async def begin(self, *arguments: str) -> Process:
        config = str(self.setting.proxy._config_file)
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "entrepot", "registry", *arguments,
            "--config", config, "--data", str(self.setting.proxy.data),
            stdin=asyncio.subprocess.DEVNULL, stdout=PIPE, stderr=PIPE,
        )  # fmt: skip

    async def run(self, *arguments: str, status: int = 0) -> str:
        """What it said: on stdout, or where it failed, on stderr."""
        process = await self.begin(*arguments)
        try:
            out, err = (part.decode() for part in await process.communicate())
        except BaseException:
            process.kill()
            await process.wait()
            raise
        assert process.returncode == status, f"{out}\n{err}"
        return err if status else out

    async def result(self, *arguments: str) -> Any:
        return json.loads(await self.run(*arguments, "--json"))

    @asynccontextmanager
    async def collecting(self) -> AsyncIterator[Process]:
        """A collection that has begun, and waits for `gate` to go."""
        await asyncio.to_thread(self.gate.touch)
        job = await self.begin("gc")
        try:
            await eventually(lambda: asyncio.to_thread(self.begun.exists), bool)
            yield job
        finally:
            await asyncio.to_thread(self.gate.unlink, missing_ok=True)
            if job.returncode is None:
                job.kill()
            await job.communicate()


@pytest.fixture
def house(setting: Setting, tmp_path: Path) -> Iterator[House]:
    with OwnRegistry(tmp_path / "own") as own:
        own.storage.mkdir()
        script = tmp_path / "collect"
        script.write_text(
            _SCRIPT.format(directory=own.storage.parent, command=" ".join(own.command))
        )
        script.chmod(0o755)
        entry = {
            "upstream": [own.url],
            "anonymous": ["pull", "push", "delete"],
            "gc": {"command": [str(script)], "storage": str(own.storage), "wait": "20s"},
        }
        setting.config["local_registries"] = {NAME: entry}
        yield House(setting, own, entry)


_SCRIPT = """#!/bin/sh
case "$*" in
*--dry-run*) ;;
*)  echo $$ >{directory}/begun
    while [ -e {directory}/gate ]; do sleep 0.05; done ;;
esac
exec {command} "$@"
"""


def image(seed: int, size: int = 50_000) -> Manifest:
    return build_image([size], seed=seed)


async def push(client: ProxyClient, pushed: Manifest, tag: str) -> None:
    for child in pushed.children:
        await push(client, child, child.digest)
    await Pusher(client, f"{URL}/v2/{REPOSITORY}").push(pushed, tag)


async def begin_push(client: ProxyClient) -> Answer:
    return await client.request("POST", f"{URL}/v2/{REPOSITORY}/blobs/uploads/")


async def get(client: ProxyClient, path: str) -> Answer:
    return await client.request("GET", f"{URL}/v2/{REPOSITORY}/{path}", {"Accept": ACCEPT})


async def writes_pass(client: ProxyClient, within_s: float) -> None:
    await eventually(lambda: begin_push(client), lambda answer: answer.status == 202, within_s)


async def gone_from(client: ProxyClient, path: str) -> Answer:
    return await eventually(lambda: get(client, path), lambda answer: answer.status == 404)


async def delete_old(house: House, client: ProxyClient) -> Manifest:
    """Something that nothing needs, seen by the cache before."""
    old = image(9, 300_000)
    await push(client, old, "old")
    await client.pull(URL, REPOSITORY, "old")
    await house.run("rm", f"{NAME}/{REPOSITORY}@{old.digest}")
    return old


async def test_what_was_deleted_is_served_no_more(house: House) -> None:
    client = house.start()
    index = build_index([image(1), image(2)])
    await push(client, index, "1.0")
    old = await delete_old(house, client)
    for path in ("manifests/old", f"manifests/{old.digest}"):
        answer = await gone_from(client, path)
        assert answer.json()["errors"][0]["code"] == "MANIFEST_UNKNOWN"
    assert (await get(client, "tags/list")).json()["tags"] == ["1.0"]
    announced = await house.result("gc", "--dry-run")
    before = house.own.stored()
    gone = await house.result("gc")
    assert gone["bytes"] == announced["bytes"] == before - house.own.stored() > 300_000
    assert gone["deleted_blobs"] == announced["would_delete_blobs"]
    assert (await get(client, f"blobs/{old.blobs[1].digest}")).status == 404
    assert (await client.pull(URL, REPOSITORY, "1.0")).digest == index.children[0].digest
    assert house.own.has_all_of(REPOSITORY, index)
    await push(client, old, "again")  # leaves nothing out
    assert house.own.has_all_of(REPOSITORY, old)


async def test_pulls_go_on_and_pushes_wait_with_a_reason(house: House) -> None:
    client = house.start()
    await push(client, image(1), "1.0")
    await delete_old(house, client)
    async with house.collecting() as job:
        refused = await begin_push(client)
        assert (refused.status, refused.json()["errors"][0]["code"]) == (503, "UNAVAILABLE")
        assert int(refused.headers["retry-after"]) > 0
        assert "its storage is being cleaned" in refused.json()["errors"][0]["message"]
        for path in ("manifests/1.0", f"manifests/{image(1).digest}"):
            url = f"{URL}/v2/{REPOSITORY}/{path}"
            headers = {"Content-Type": image(1).media_type}
            for method, body in (("PUT", image(1).body), ("DELETE", b"")):
                assert (await client.request(method, url, headers, body)).status == 503
        ready = await asyncio.to_thread(house.setting.proxy.page, "/readyz")
        assert ready[0] == 200
        assert b"its storage is being cleaned" in ready[1]
        for _ in range(20):
            assert (await client.pull(URL, REPOSITORY, "1.0")).digest == image(1).digest
        await asyncio.to_thread(house.gate.unlink)
        assert await job.wait() == 0
    await writes_pass(client, 5)
    await push(client, image(3), "3.0")


async def test_pulls_while_collections_come_and_go(house: House) -> None:
    client = house.start()
    index = build_index([image(seed) for seed in (1, 2)])
    await push(client, index, "1.0")
    stop = asyncio.Event()
    pulls = 0

    async def pull_on() -> None:
        nonlocal pulls
        while not stop.is_set():
            assert (await client.pull(URL, REPOSITORY, "1.0")).blobs
            pulls += 1

    async with asyncio.TaskGroup() as tasks:
        for _ in range(3):
            tasks.create_task(pull_on())
        for seed in (10, 11):
            await push(client, image(seed), "old")
            await push(client, image(seed + 10), "old")
            await house.run("gc", "--untagged")
        stop.set()
    assert pulls > 20
    assert house.own.has_all_of(REPOSITORY, index)


class Refused(Exception):  # noqa: N818 - reads as what it says
    pass


class CarefulPusher(Pusher):
    """Gives up at the first refusal, as clients do."""

    async def ask(
        self, method: str, url: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        answer = await super().ask(method, url, headers, body)
        if answer.status >= 400 and method != "HEAD":
            raise Refused(str(answer.status))
        return answer


async def test_pushes_through_two_processes_are_whole_or_refused(
    house: House, tmp_path: Path
) -> None:
    """Both on the same data, and what they push is garbage half of the time."""
    first = house.start()
    second = ProxyProcess(house.setting.config, tmp_path / "second")
    second.data = house.setting.proxy.data
    stop = asyncio.Event()
    pushed: dict[str, Manifest] = {}
    refused: list[str] = []

    async def push_on(client: ProxyClient, name: str) -> None:
        pusher = CarefulPusher(client, f"{URL}/v2/{name}")
        number = 0
        while not stop.is_set():
            number += 1
            # Three in turn, so that what is pushed may be gone, or about to go.
            image = build_image([30_000, 20_000], seed=number % 3 + 10 * len(name))
            try:
                await pusher.push(image, "latest")
            except Refused as error:
                refused.append(str(error))
            else:
                pushed[name] = image

    with second:
        clients = (first, ProxyClient(second.address, first._trust))
        async with asyncio.TaskGroup() as tasks:
            for number, name in enumerate(("a", "bb", "ccc", "dddd")):
                tasks.create_task(push_on(clients[number % 2], name))
            for _ in range(4):
                await house.run("gc", "--untagged")
            stop.set()
        await house.run("gc", "--untagged")
    assert set(pushed) == {"a", "bb", "ccc", "dddd"}
    assert "503" in refused
    for name, image in pushed.items():
        assert house.own.has_all_of(name, image)


async def test_a_push_that_has_begun_is_waited_for(house: House) -> None:
    client = house.start()
    await push(client, image(1), "1.0")
    await delete_old(house, client)
    pushed = image(3)
    pusher = Pusher(client, f"{URL}/v2/{REPOSITORY}")
    await pusher.push_blob(pushed.blobs[0])
    job = await house.begin("gc")

    async def other_push() -> Answer:
        path = "/v2/team/other/manifests/1.0"
        headers = {"Content-Type": image(1).media_type}
        return await client.request("PUT", f"{URL}{path}", headers, image(1).body)

    await eventually(other_push, lambda answer: answer.status == 503)
    await pusher.push(pushed, "3.0")
    assert await job.wait() == 0
    await job.communicate()
    assert house.own.has_all_of(REPOSITORY, pushed)


async def test_a_push_that_does_not_end_puts_it_off(house: House) -> None:
    house.entry["gc"]["wait"] = "2s"
    client = house.start()
    await push(client, image(1), "1.0")
    await delete_old(house, client)
    assert (await begin_push(client)).status == 202
    said = await house.run("gc", status=1)
    assert f"put off after 2 s (gc.wait): somebody is still pushing to {REPOSITORY}" in said
    await push(client, image(3), "3.0")


async def test_a_job_killed_half_way_lets_writes_in_in_time(house: House) -> None:
    client = house.start()
    await push(client, image(1), "1.0")
    old = await delete_old(house, client)
    async with house.collecting() as job:
        collector = int(await asyncio.to_thread(house.begun.read_text))
        job.kill()
        began = time.monotonic()
        await eventually(lambda: asyncio.to_thread(_is_alive, collector), lambda alive: not alive)
        assert (await begin_push(client)).status == 503
        await writes_pass(client, HOLD_TTL_S + 5)
        assert time.monotonic() - began < HOLD_TTL_S + 5
    await push(client, old, "again")
    assert await house.run("gc")
    assert house.own.has_all_of(REPOSITORY, old)


async def test_ctrl_c_ends_it_in_order(house: House) -> None:
    client = house.start()
    await push(client, image(1), "1.0")
    await delete_old(house, client)
    async with house.collecting() as job:
        collector = int(await asyncio.to_thread(house.begun.read_text))
        job.send_signal(signal.SIGINT)
        assert await job.wait() == 1
        assert not _is_alive(collector)
        await writes_pass(client, 5)


async def test_the_proxy_restarts_meanwhile(house: House) -> None:
    client = house.start()
    await push(client, image(1), "1.0")
    await delete_old(house, client)
    async with house.collecting() as job:
        await asyncio.to_thread(house.setting.proxy.kill9)
        await asyncio.to_thread(house.setting.proxy.start)
        assert (await begin_push(client)).status == 503
        await asyncio.to_thread(house.gate.unlink)
        assert await job.wait() == 0
    await writes_pass(client, 5)


async def test_a_second_job_says_so(house: House) -> None:
    client = house.start()
    await push(client, image(1), "1.0")
    await delete_old(house, client)
    async with house.collecting():
        assert "another job is at work" in await house.run("gc", status=1)
        assert "another job is at work" in await house.run("rm", REPOSITORY, "--all", status=1)


async def test_a_collection_that_fails_lets_writes_in(house: House) -> None:
    client = house.start()
    await push(client, image(1), "1.0")
    await delete_old(house, client)
    house.break_collection()
    assert "status 9" in await house.run("gc", status=1)
    await writes_pass(client, 5)


async def test_retention_goes_by_when_it_was_pushed(house: House) -> None:
    house.entry["retention"] = [{"match": "team/*", "keep_last": 1}]
    client = house.start()
    await push(client, image(1), "b")
    await push(client, image(2), "a")
    rows = {row["tag"]: row for row in await house.result("tags", REPOSITORY)}
    assert rows["b"]["pushed"] <= rows["a"]["pushed"]
    assert rows["a"]["platforms"] == ["linux/amd64"]
    assert await house.run("retain") == f"deleted {REPOSITORY}:b\n"
    assert (await get(client, "tags/list")).json()["tags"] == ["a"]
    assert (await get(client, "manifests/b")).status == 404


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
