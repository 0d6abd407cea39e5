"""The scripted registry goes wrong as it is told to, and is right again after."""

import asyncio
import gzip
import ssl

import pytest

from tests.support.client import ProxyClient
from tests.support.content import Given, sha256
from tests.support.faults import (
    AnswerWith,
    Chunked,
    Corrupt,
    Fault,
    GzipIfAsked,
    Header,
    HeadWithoutLength,
    Hold,
    IgnoreRange,
    RateLimit,
    Redirect,
    Slow,
    Truncate,
    WrongContentRange,
    WrongLength,
    abuse_limit_reached,
    pull_limit_reached,
)
from tests.support.registry import ScriptedRegistry

BLOB = Given(bytes(range(256)) * 2000)
BLOBS = "/v2/*/blobs/*"


@pytest.fixture
def blob_url(registry: ScriptedRegistry) -> str:
    registry.add_blob("lib/app", BLOB)
    return f"{registry.url}/v2/lib/app/blobs/{BLOB.digest}"


class TestFaults:
    @pytest.mark.parametrize(
        "fault",
        [Truncate(300_000), Truncate(fraction=0.5), WrongLength(10), Truncate(0, resets=True)],
    )
    async def test_broken_bodies_break(
        self, registry: ScriptedRegistry, direct: ProxyClient, blob_url: str, fault: Fault
    ) -> None:
        registry.fault(fault, path=BLOBS, times=1)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await direct.request("GET", blob_url)
        assert (await direct.request("GET", blob_url)).body == BLOB.body

    async def test_truncation_counts_what_is_sent(
        self, registry: ScriptedRegistry, direct: ProxyClient, blob_url: str
    ) -> None:
        registry.fault(Truncate(300_000))
        async with direct.stream("GET", blob_url, {"Range": "bytes=1000-"}) as (connection, _):
            assert len(await connection.reader.read(-1)) == 300_000

    async def test_one_byte_is_another(
        self, registry: ScriptedRegistry, direct: ProxyClient, blob_url: str
    ) -> None:
        registry.fault(Corrupt(at=400_001))
        whole = (await direct.request("GET", blob_url)).body
        different = [i for i, (a, b) in enumerate(zip(whole, BLOB.body, strict=True)) if a != b]
        assert different == [400_001]
        rest = await direct.request("GET", blob_url, {"Range": "bytes=400000-"})
        assert rest.body[:2] == bytes([BLOB.body[400_000], BLOB.body[400_001] ^ 0xFF])

    @pytest.mark.parametrize("after", [-1, 0, 300_000, BLOB.size])
    async def test_held_until_the_gate_opens(
        self, registry: ScriptedRegistry, direct: ProxyClient, blob_url: str, after: int
    ) -> None:
        gate = registry.gate()
        registry.fault(Hold(after, gate), path=BLOBS)
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(direct.request("GET", blob_url))
            await registry.log.wait_until_async(lambda: registry.blob_bytes == max(after, 0))
            assert not asking.done() or after == BLOB.size
            gate.open()
        assert asking.result().body == BLOB.body

    async def test_held_for_ever_does_not_keep_the_registry_from_closing(
        self, registry: ScriptedRegistry, direct: ProxyClient, blob_url: str
    ) -> None:
        registry.fault(Hold(after=1000))
        async with direct.stream("GET", blob_url) as (connection, _):
            assert await connection.reader.readexactly(1000) == BLOB.body[:1000]
            registry.die()
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await connection.reader.readexactly(1)

    async def test_slow(
        self, registry: ScriptedRegistry, direct: ProxyClient, blob_url: str
    ) -> None:
        registry.fault(Slow(bytes_per_s=BLOB.size * 4))
        loop = asyncio.get_running_loop()
        begun = loop.time()
        assert (await direct.request("GET", blob_url)).body == BLOB.body
        assert loop.time() - begun >= 0.2

    async def test_shorter_length_than_what_comes(
        self, registry: ScriptedRegistry, direct: ProxyClient, blob_url: str
    ) -> None:
        registry.fault(WrongLength(-10))
        assert (await direct.request("GET", blob_url)).body == BLOB.body[:-10]

    async def test_chunked_tells_no_length(
        self, registry: ScriptedRegistry, direct: ProxyClient, blob_url: str
    ) -> None:
        registry.fault(Chunked())
        answer = await direct.request("GET", blob_url)
        assert (answer.length, answer.body) == (None, BLOB.body)

    async def test_chunked_and_truncated_has_no_last_chunk(
        self, registry: ScriptedRegistry, direct: ProxyClient, blob_url: str
    ) -> None:
        registry.fault(Chunked())
        registry.fault(Truncate(1000))
        with pytest.raises(asyncio.IncompleteReadError):
            await direct.request("GET", blob_url)

    async def test_head_without_length(
        self, registry: ScriptedRegistry, direct: ProxyClient, blob_url: str
    ) -> None:
        registry.fault(HeadWithoutLength())
        assert (await direct.request("HEAD", blob_url)).length is None
        assert (await direct.request("GET", blob_url)).length == BLOB.size

    async def test_range_ignored_or_answered_wrongly(
        self, registry: ScriptedRegistry, direct: ProxyClient, blob_url: str
    ) -> None:
        undo = registry.fault(IgnoreRange())
        assert (await direct.request("GET", blob_url, {"Range": "bytes=5-"})).status == 200
        undo()
        registry.fault(WrongContentRange(shift=3))
        answer = await direct.request("GET", blob_url, {"Range": "bytes=5-9"})
        assert answer.headers["content-range"] == f"bytes 8-12/{BLOB.size}"

    async def test_gzip_when_asked(
        self, registry: ScriptedRegistry, direct: ProxyClient, blob_url: str
    ) -> None:
        registry.fault(GzipIfAsked())
        packed = await direct.request("GET", blob_url, {"Accept-Encoding": "gzip"})
        assert gzip.decompress(packed.body) == BLOB.body
        assert (await direct.request("GET", blob_url)).body == BLOB.body

    @pytest.mark.parametrize(
        ("fault", "status"),
        [
            (AnswerWith(500), 500),
            (AnswerWith(503, headers=(("Retry-After", "7"),)), 503),
            (pull_limit_reached(7), 429),
            (abuse_limit_reached(7), 429),
        ],
    )
    async def test_other_answers_after_some_and_for_some_time(
        self,
        registry: ScriptedRegistry,
        direct: ProxyClient,
        blob_url: str,
        fault: Fault,
        status: int,
    ) -> None:
        registry.fault(fault, path=BLOBS, method="GET", skip=1, times=2)
        seen = [(await direct.request("GET", blob_url)).status for _ in range(4)]
        assert seen == [200, status, status, 200]

    async def test_a_wrong_digest_header(
        self, registry: ScriptedRegistry, direct: ProxyClient, blob_url: str
    ) -> None:
        wrong = sha256(b"something else")
        registry.fault(Header("Docker-Content-Digest", wrong))
        registry.fault(Header("ETag", None))
        answer = await direct.request("HEAD", blob_url)
        assert answer.headers["docker-content-digest"] == wrong
        assert "etag" not in answer.headers

    async def test_limits_count_down(self, registry: ScriptedRegistry, direct: ProxyClient) -> None:
        registry.add_image("lib/app", "1")
        registry.fault(RateLimit(100, 1), path="*/manifests/*")
        url = f"{registry.url}/v2/lib/app/manifests/1"
        first, second, third = [
            await direct.request(method, url) for method in ("GET", "HEAD", "GET")
        ]
        assert first.headers["ratelimit-remaining"] == "0;w=21600"
        assert (second.status, third.status) == (200, 429)

    async def test_everything_is_elsewhere(
        self, registry: ScriptedRegistry, direct: ProxyClient, blob_url: str
    ) -> None:
        registry.fault(Redirect("https://other.test"), path="/v2/?*")
        location = (await direct.request("GET", blob_url)).headers["location"]
        assert location == blob_url.replace(registry.url, "https://other.test")


class TestOutages:
    async def test_dies_and_comes_back_on_its_port(
        self, registry: ScriptedRegistry, direct: ProxyClient, blob_url: str
    ) -> None:
        async with await direct.connect("127.0.0.1", registry.port) as connection:
            assert (await connection.request("GET", "/v2/")).status == 200
            registry.die()
            with pytest.raises(ConnectionError):
                await connection.reader.read(-1)
        with pytest.raises(ConnectionRefusedError):
            await direct.request("GET", blob_url)
        registry.revive()
        assert (await direct.request("GET", blob_url)).status == 200
        assert registry.connection_count == 2

    async def test_a_black_hole_says_nothing(
        self, registry: ScriptedRegistry, direct: ProxyClient, blob_url: str
    ) -> None:
        async with await direct.connect("127.0.0.1", registry.port) as connection:
            assert (await connection.request("GET", "/v2/")).status == 200
            registry.black_hole()
            await connection.send("GET", "/v2/")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(connection.head(), 0.1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(direct.request("GET", blob_url), 0.1)
        registry.black_hole(on=False)
        assert (await direct.request("GET", blob_url)).status == 200

    async def test_who_does_not_trust_it_hears_so(self, registry: ScriptedRegistry) -> None:
        stranger = ProxyClient(None, ssl.create_default_context())
        with pytest.raises(ssl.SSLCertVerificationError):
            await stranger.request("GET", f"{registry.url}/v2/")

    async def test_plain_http(self, direct: ProxyClient) -> None:
        with ScriptedRegistry() as registry:
            registry.add_image("lib/app", "1")
            await direct.pull(registry.url, "lib/app", "1")
