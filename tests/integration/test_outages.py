"""Upstreams in trouble: what is stale is served, says so, and is not long in coming."""

import asyncio

import pytest

from tests.integration.conftest import Setting
from tests.integration.tagged import Tagged, digest_of
from tests.integration.waiting import eventually
from tests.support.client import Answer, ProxyClient
from tests.support.faults import AnswerWith, Hold, pull_limit_reached

REVALIDATE_TIMEOUT_S = 0.5
QUICK_S = 0.4  # for an answer that asks nobody
CONFIG = {
    "tags": {"ttl": "300ms"},
    "upstream": {"revalidate_timeout": f"{int(REVALIDATE_TIMEOUT_S * 1000)}ms"},
}
STALE = "Entrepot; fwd=stale; detail=upstream-unavailable"
STALE_UNASKED = "Entrepot; hit; detail=upstream-unavailable"


def is_stale(answer: Answer) -> bool:
    return "upstream-unavailable" in answer.headers.get("cache-status", "")


async def assert_stale(tagged: Tagged, client: ProxyClient, *, within_s: float) -> Answer:
    """Now and in a moment: right, said to be stale, and in time."""
    loop = asyncio.get_running_loop()

    async def ask() -> Answer:
        began = loop.time()
        answer = await tagged.get(client)
        assert loop.time() - began < within_s
        assert (answer.status, answer.body) == (200, tagged.image.body)
        return answer

    answer = await eventually(ask, is_stale)
    assert int(answer.headers["age"]) >= 0
    assert digest_of(answer) == tagged.image.digest
    return answer


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
async def test_stale_is_served_while_the_upstream_is_unwell(shared: Setting, status: int) -> None:
    tagged, client = Tagged(shared), shared.client
    await tagged.get(client)
    undo = shared.registry.fault(AnswerWith(status), path=tagged.path)
    answer = await assert_stale(tagged, client, within_s=1)
    assert answer.headers["cache-status"] == STALE
    head = await tagged.get(client, method="HEAD")
    assert (head.status, digest_of(head)) == (200, tagged.image.digest)
    assert is_stale(head)
    undo()
    await eventually(lambda: tagged.get(client), lambda answer: not is_stale(answer))


async def test_an_image_with_the_upstream_unwell_is_pulled_whole(shared: Setting) -> None:
    tagged, client = Tagged(shared), shared.client
    cold = await client.pull(shared.url, tagged.repository, tagged.tag)
    undo = shared.registry.fault(AnswerWith(503), path=f"/v2/{tagged.repository}/*")
    await assert_stale(tagged, client, within_s=1)
    assert await client.pull(shared.url, tagged.repository, tagged.tag) == cold
    undo()


async def test_what_is_not_cached_is_refused_with_what_the_upstream_said(shared: Setting) -> None:
    tagged, client = Tagged(shared), shared.client
    undo = shared.registry.fault(AnswerWith(500), path=tagged.path)
    answer = await tagged.get(client)
    undo()
    assert answer.status == 500
    assert answer.json()["errors"][0]["message"] == "registry.test answers 500"


async def test_one_503_is_tried_again_for_the_client(shared: Setting) -> None:
    """Podman, skopeo and ctr would give up."""
    tagged, client = Tagged(shared), shared.client
    shared.registry.fault(AnswerWith(503), path=f"/v2/{tagged.repository}/*", times=1)
    pulled = await client.pull(shared.url, tagged.repository, tagged.tag)
    assert pulled.digest == tagged.image.digest


async def test_when_the_tag_has_moved_to_what_cannot_be_had(shared: Setting) -> None:
    """Docker Hub counts GETs alone: HEAD tells of the new image, and GET is refused."""
    tagged, client = Tagged(shared), shared.client
    old = await tagged.get(client)
    tagged.move()
    undo = shared.registry.fault(AnswerWith(500), path=tagged.path, method="GET")
    answer = await eventually(lambda: tagged.get(client), is_stale)
    assert answer.body == old.body
    undo()
    answer = await eventually(lambda: tagged.get(client), lambda answer: not is_stale(answer))
    assert answer.body == tagged.image.body


async def test_max_stale_ends_it(setting: Setting) -> None:
    setting.config |= {"tags": {"ttl": "300ms", "max_stale": "300ms"}}
    tagged, client = Tagged(setting), setting.start()
    await tagged.get(client)
    setting.registry.fault(AnswerWith(500), path=tagged.path)
    answer = await eventually(lambda: tagged.get(client), lambda answer: answer.status != 200)
    assert answer.status == 500


class TestNoAnswer:
    """Each has a proxy of its own: while its upstream rests, it asks for nothing else either."""

    @pytest.fixture
    def tagged(self, setting: Setting) -> Tagged:
        setting.config |= CONFIG
        return Tagged(setting)

    async def test_in_time(self, setting: Setting, tagged: Tagged) -> None:
        client = setting.start()
        await tagged.get(client)
        undo = setting.registry.fault(Hold(-1), path=tagged.path)
        await assert_stale(tagged, client, within_s=REVALIDATE_TIMEOUT_S + 1)
        undo()
        await eventually(lambda: tagged.get(client), lambda answer: not is_stale(answer))

    async def test_because_connections_are_refused(self, setting: Setting, tagged: Tagged) -> None:
        client = setting.start()
        await tagged.get(client)
        setting.registry.die()
        await assert_stale(tagged, client, within_s=1)
        answer = await assert_stale(tagged, client, within_s=QUICK_S)
        assert answer.headers["cache-status"] == STALE_UNASKED
        setting.registry.revive()
        await eventually(lambda: tagged.get(client), lambda answer: not is_stale(answer))

    @pytest.mark.parametrize("is_connected", [True, False])
    async def test_of_a_black_hole(
        self, setting: Setting, tagged: Tagged, *, is_connected: bool
    ) -> None:
        """Also on a connection that is open: it never fails to connect, and never says a word."""
        client = setting.start()
        await tagged.get(client)
        if not is_connected:
            setting.registry.die()
            setting.registry.revive()
        setting.registry.black_hole()
        answer = await assert_stale(tagged, client, within_s=REVALIDATE_TIMEOUT_S + 0.5)
        assert answer.headers["cache-status"] == STALE
        asked = setting.registry.connection_count, len(setting.registry.log.entries)
        for _ in range(5):
            answer = await assert_stale(tagged, client, within_s=QUICK_S)
            assert answer.headers["cache-status"] == STALE_UNASKED
        assert asked == (setting.registry.connection_count, len(setting.registry.log.entries))
        setting.registry.black_hole(on=False)
        await eventually(lambda: tagged.get(client), lambda answer: not is_stale(answer))

    async def test_for_now_since_too_much_was_asked(self, setting: Setting, tagged: Tagged) -> None:
        client = setting.start()
        await tagged.get(client)
        undo = setting.registry.fault(pull_limit_reached(retry_after_s=2), path=tagged.path)
        await assert_stale(tagged, client, within_s=1)
        asked = tagged.asked
        for _ in range(5):  # it is left alone as long as it said
            answer = await assert_stale(tagged, client, within_s=QUICK_S)
            assert answer.headers["cache-status"] == STALE_UNASKED
        assert tagged.asked == asked
        metrics = await asyncio.to_thread(setting.proxy.metrics)
        assert metrics.value("entrepot_upstream_resting", registry="registry.test") == 1
        undo()
        await eventually(lambda: tagged.get(client), lambda answer: not is_stale(answer))

    async def test_429_for_what_is_not_cached_says_when_to_come_again(
        self, setting: Setting, tagged: Tagged
    ) -> None:
        client = setting.start()
        setting.registry.fault(pull_limit_reached(retry_after_s=7), path=tagged.path)
        answer = await tagged.get(client)
        assert (answer.status, answer.headers["retry-after"]) == (429, "7")
        assert answer.json()["errors"][0]["code"] == "TOOMANYREQUESTS"
