"""Who may read what in the local registry: by its access rules, cached or not, and in an outage."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.e2e.clients import Client, ClientError, Credentials
from tests.e2e.lab import ANN, BOB, LOCAL, Lab, local_registry
from tests.e2e.pushes import htpasswd
from tests.support.images import Manifest, build_image

FOLDERS = ("secret", "team", "open")
ACCESS = [
    {"match": "secret/*", "users": [ANN.user], "allow": ["pull"]},
    {"match": "team/*", "users": ["*"], "allow": ["pull"]},
    {"match": "open/*", "users": ["*", "anonymous"], "allow": ["pull"]},
    {"match": "*"},
]
MAY = [("secret", ANN), ("team", ANN), ("team", BOB), ("open", BOB), ("open", None)]
MAY_NOT = [("secret", BOB), ("secret", None), ("team", None), ("none", ANN)]


@dataclass(frozen=True, slots=True)
class Shelf:
    tag: str
    image: Manifest

    def name(self, folder: str) -> str:
        return f"{LOCAL}/{folder}/shelf:{self.tag}"


@pytest.fixture(scope="module", params=["up", "down"])
def shelf(
    request: pytest.FixtureRequest,
    lab: Lab,
    seeds: Iterator[int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Shelf]:
    seed = next(seeds)
    shelf = Shelf(f"v{seed}", build_image((200_000,), seed=seed))
    for folder in (*FOLDERS, "none"):
        lab.local.push(f"{folder}/shelf", shelf.tag, shelf.image)
    directory = tmp_path_factory.mktemp("shelf")
    users = htpasswd(directory / "users", ANN, BOB)
    settings = {"local_registries": local_registry(htpasswd=str(users), access=ACCESS)}
    with lab.proxy(directory, settings=settings):
        for folder in FOLDERS:
            lab.client("skopeo").pull(shelf.name(folder), ANN)
        if request.param == "down":
            lab.local.stop()
        yield shelf
        if request.param == "down":
            lab.local.start()


@pytest.mark.parametrize(("folder", "who"), MAY)
def test_who_may(shelf: Shelf, client: Client, folder: str, who: Credentials | None) -> None:
    assert client.pull(shelf.name(folder), who) == shelf.image.digest


@pytest.mark.parametrize(("folder", "who"), MAY_NOT)
def test_who_may_not(shelf: Shelf, client: Client, folder: str, who: Credentials | None) -> None:
    with pytest.raises(ClientError, match=r"(?i)denied|unauthorized|authorization|40[13]"):
        client.pull(shelf.name(folder), who)
