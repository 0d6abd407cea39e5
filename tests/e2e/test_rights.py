"""What only one user may read upstream: never had by another, cached or not, nor in an outage."""

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.clients import Client, ClientError, Credentials
from tests.e2e.curl import Curl
from tests.e2e.lab import ANN, BOB, CLIENT_NAMES, GUARDED, WITH_LOGIN, Lab
from tests.e2e.upstreams import blob_gets
from tests.support.content import Content
from tests.support.images import Manifest, build_image

LAYERS = (200_000, 400_000)
SETTINGS: dict[str, Any] = {"registries": {GUARDED: {}}}
# Nothing is fresh in an outage: what goes on goes on by grace.
NEVER_FRESH = {"tags": {"ttl": 0}, "auth": {"verdict_ttl": 0}}
REFUSAL = r"(?i)denied|unauthorized|authorization failed|not found|unknown|forbidden|40[134]"
NO_WORD = r"502 Bad Gateway"  # of the upstream: who was never let in is not let in
STATES = ("cold", "warm", "dead")
OTHERS = pytest.mark.parametrize("who", [BOB, None], ids=["other", "nobody"])
OPEN = "open/app"  # to all who have a password
METHODS = (("--request", "GET"), ("--head",), ("--range", "0-9"))
ROUTES = pytest.mark.parametrize("route", ["tag", "digest"])


@dataclass(frozen=True, slots=True)
class Held:
    """An image that only ann may read, and what the proxy and the upstream are like."""

    state: str
    repository: str
    image: Manifest

    @property
    def layer(self) -> Content:
        return self.image.blobs[1]

    def paths(self) -> tuple[str, ...]:
        base = f"/v2/{self.repository}"
        return (
            f"{base}/manifests/v1",
            f"{base}/manifests/{self.image.digest}",
            f"{base}/blobs/{self.layer.digest}",
            f"{base}/tags/list",
        )

    def detours(self) -> tuple[str, ...]:
        """By a repository that is open to others."""
        base = f"/v2/{OPEN}"
        return f"{base}/manifests/{self.image.digest}", f"{base}/blobs/{self.layer.digest}"

    def name(self, route: str = "tag") -> str:
        reference = ":v1" if route == "tag" else f"@{self.image.digest}"
        return f"{GUARDED}/{self.repository}{reference}"


@pytest.fixture(scope="module", params=STATES)
def held(
    request: pytest.FixtureRequest,
    lab: Lab,
    seeds: Iterator[int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Held]:
    seed = next(seeds)
    held = Held(request.param, f"secret/held{seed}", build_image(LAYERS, seed=seed))
    lab.guarded.push(held.repository, "v1", held.image)
    lab.guarded.push(OPEN, "v1", build_image((1000,)))
    with ExitStack() as stack:
        settings = SETTINGS | (NEVER_FRESH if held.state == "dead" else {})
        directory = tmp_path_factory.mktemp("rights")
        stack.enter_context(lab.proxy(directory, settings=settings))
        _log_all_in(lab, stack)
        if held.state != "cold":
            _pull_with_all(lab, held, Curl(lab, GUARDED, directory))
        if held.state == "dead":
            stack.callback(lab.guarded.start)
            lab.guarded.stop()
        yield held


@pytest.fixture
def own(lab: Lab, held: Held, seed: int) -> Held:
    """Where nobody has had it before, each test has one of its own."""
    if held.state != "cold":
        return held
    own = Held("cold", f"secret/own{seed}", build_image(LAYERS, seed=seed))
    lab.guarded.push(own.repository, "v1", own.image)
    return own


def _log_all_in(lab: Lab, stack: ExitStack) -> None:
    """Before anything dies, as people have."""
    for name, user in itertools.product(WITH_LOGIN, (ANN, BOB)):
        client = lab.with_login(name)
        client.login(GUARDED, user)
        stack.callback(client.logout, GUARDED, user)


def _pull_with_all(lab: Lab, held: Held, curl: Curl) -> None:
    proof = curl.bearer(held.repository, ANN)
    for path in held.paths():
        curl.ask(path, *proof)
    for name in CLIENT_NAMES:
        client = lab.client(name)
        client.pull(held.name(), ANN)
        client.remove_all()


@ROUTES
def test_who_may(lab: Lab, own: Held, client: Client, route: str) -> None:
    before = blob_gets(lab.guarded, own.repository)
    assert client.pull(own.name(route), ANN) == own.image.digest
    fetched = len(own.image.all_blobs()) if own.state == "cold" else 0
    assert blob_gets(lab.guarded, own.repository) - before == fetched


@ROUTES
@OTHERS
def test_who_may_not(
    lab: Lab, own: Held, client: Client, route: str, who: Credentials | None
) -> None:
    before = blob_gets(lab.guarded, own.repository)
    refusal = f"{REFUSAL}|{NO_WORD}" if own.state == "dead" else REFUSAL
    with pytest.raises(ClientError, match=refusal):
        client.pull(own.name(route), who)
    assert blob_gets(lab.guarded, own.repository) == before


@pytest.fixture
def curl(lab: Lab, tmp_path: Path) -> Curl:
    return Curl(lab, GUARDED, tmp_path)


def _proof(curl: Curl, held: Held, who: str) -> tuple[str, ...]:
    match who:
        case "other":
            return curl.bearer(held.repository, BOB)
        case "other's password":
            return ("--user", BOB.pair)
        case "anonymous":
            return curl.bearer(held.repository, None)
        case "forger":
            token = curl.token(held.repository, ANN)
            return ("--header", f"Authorization: Bearer {token[:-9]}{token[:9]}")
        case _:
            return ()


@pytest.mark.parametrize("who", ["other", "other's password", "anonymous", "forger", "nobody"])
def test_who_may_not_by_hand(own: Held, curl: Curl, who: str) -> None:
    """Digests are known, and asked for straight."""
    proof = _proof(curl, own, who)
    for path, method in itertools.product((*own.paths(), *own.detours()), METHODS):
        said = curl.ask(path, *method, *proof)
        refusals = {401, 403, 404} | ({502} if own.state == "dead" else set())
        assert said.status in refusals, (path, method)
        assert own.layer.digest.encode() not in said.body, (path, method)
        assert "Docker-Content-Digest" not in said.head, (path, method)


def test_who_may_by_hand(own: Held, curl: Curl) -> None:
    proof = curl.bearer(own.repository, ANN)
    for path in own.paths():
        assert curl.ask(path, *proof).status == 200, path
