"""Writes to a local registry as they come in: held back with a reason, and noted."""

from collections.abc import AsyncIterator

import pytest

from entrepot.config.local import LocalRegistry
from entrepot.config.model import Config
from entrepot.engine.ask import Ask
from entrepot.engine.door import _step
from entrepot.engine.identity import PROXY
from entrepot.engine.message import Request, Trace
from entrepot.local.pushed import PushTimes
from entrepot.local.pushes import Step
from entrepot.local.records import Hold, Phase, encode, hold_key
from entrepot.oci.reference import Repository
from entrepot.oci.route import parse_route
from tests.support.clock import ManualClock
from tests.support.content import sha256
from tests.support.engine import NAME, Rig, impatient, manifest_path, open_engine
from tests.support.faults import AnswerWith
from tests.support.images import build_artifact
from tests.support.registry import ScriptedRegistry

APP = Repository("app")
PUSHED = build_artifact("application/x.nothing", {})


@pytest.fixture
async def rig(registry: ScriptedRegistry, clock: ManualClock) -> AsyncIterator[Rig]:
    local = LocalRegistry(upstream=(registry.url,), anonymous=("pull", "push", "delete"))
    config = Config(registries={}, local_registries={NAME: local}, upstream=impatient())
    async with open_engine(registry, clock, config=config) as rig:
        yield rig


async def push(rig: Rig, reference: str) -> int:
    for blob in PUSHED.blobs:
        rig.registry.add_blob("app", blob)
    headers = {"Content-Type": PUSHED.media_type}
    path = manifest_path(reference)
    return (await rig.ask(path, headers, method="PUT", body=PUSHED.body)).status


async def test_when_a_tag_was_pushed_is_noted(rig: Rig, clock: ManualClock) -> None:
    times = PushTimes(rig.ledger, clock)
    assert await push(rig, PUSHED.digest) == 201
    assert await times.of(NAME, APP) == {}
    assert await push(rig, "1.0") == 201
    ((tag, pushed),) = (await times.of(NAME, APP)).items()
    assert (tag, pushed.at, pushed.digest, pushed.is_seen) == (
        "1.0",
        clock.now(),
        PUSHED.digest,
        False,
    )


async def test_what_was_refused_is_not(rig: Rig, clock: ManualClock) -> None:
    rig.registry.fault(AnswerWith(400), method="PUT")
    assert await push(rig, "1.0") == 400
    assert await PushTimes(rig.ledger, clock).of(NAME, APP) == {}


async def test_writes_are_held_back_and_reads_are_not(rig: Rig, clock: ManualClock) -> None:
    image = rig.registry.add_image("app", "1.0")
    hold = Hold("somebody", "it is being cleaned", Phase.CLOSED, clock.now())
    await rig.ledger.put(hold_key(NAME, "somebody"), encode(hold), 30)
    path = manifest_path("1.0")
    for method in ("PUT", "DELETE"):
        refused = await rig.ask(path, {}, method=method, body=b"{}")
        assert (refused.status, refused.code) == (503, "UNAVAILABLE")
        assert int(refused.headers["Retry-After"]) > 0
    answer = await rig.ask(path, {"Accept": image.media_type})
    assert answer.body == image.body


@pytest.mark.parametrize(
    ("method", "path", "step"),
    [
        ("POST", "/v2/app/blobs/uploads/", Step.UPLOAD),
        ("PATCH", "/v2/app/blobs/uploads/1", Step.PART),
        ("PUT", "/v2/app/blobs/uploads/1", Step.PART),
        ("DELETE", "/v2/app/blobs/uploads/1", Step.PART),
        ("PUT", manifest_path("1.0"), Step.TAG),
        ("PUT", manifest_path(sha256(b"")), Step.MANIFEST),
        ("DELETE", manifest_path("1.0"), Step.DELETION),
        ("DELETE", f"/v2/app/blobs/{sha256(b'')}", Step.DELETION),
        ("POST", "/v2/app/manifests/1.0", Step.OTHER),
        ("PUT", "/elsewhere", Step.OTHER),
    ],
)
def test_steps_of_a_push(rig: Rig, method: str, path: str, step: Step) -> None:
    site = rig.engine.sites.by_authority(NAME)
    assert site is not None
    request = Request(method=method, path=path, host=NAME)
    route = parse_route(path)
    ask = Ask(request, site, route, getattr(route, "repository", None), PROXY, Trace())
    assert _step(ask) is step
