"""One lab for the session; each test has a Docker Hub of its own and clients that hold nothing."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.clients import Client
from tests.e2e.lab import CLIENT_NAMES, Lab, missing_programs
from tests.support import netns
from tests.support.registry import ScriptedRegistry


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker("e2e")


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    if reason := netns.why_impossible():
        pytest.skip(reason)
    if missing := missing_programs():
        pytest.skip(f"not installed: {', '.join(missing)}")
    with Lab(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest.fixture
def hub(lab: Lab) -> Iterator[ScriptedRegistry]:
    with lab.hub() as hub:
        yield hub


@pytest.fixture(params=CLIENT_NAMES)
def client(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Client]:
    client = lab.client(request.param)
    yield client
    client.remove_all()


@pytest.fixture(scope="session")
def seeds() -> Iterator[int]:
    """No two images of a session are made of the same bytes: nothing is there from before."""
    return itertools.count(1)


@pytest.fixture
def seed(seeds: Iterator[int]) -> int:
    return next(seeds)
