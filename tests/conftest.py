"""What holds for every test: repeatable randomness, nothing left behind, no silent skips in CI."""

import asyncio
import inspect
import os
import random
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.pki import TestAuthority
from tests.support.users import as_nobody

_IS_CI = os.environ.get("CI", "").lower() in {"1", "true"}

# Machines of CI are slow in bursts: there a deadline would only make tests fail by chance.
settings.register_profile(
    "ci",
    deadline=None,
    derandomize=True,
    max_examples=200,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("dev", deadline=None, max_examples=50)
settings.load_profile("ci" if _IS_CI else "dev")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a test that cannot run has failed: what is not proven there is not proven."""
    report = yield
    if _IS_CI and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was to run in CI: {reason}"
    return report


@pytest.fixture(autouse=True)
def _seeded() -> None:
    random.seed(0)


@pytest.fixture(autouse=True)
def _watched(request: pytest.FixtureRequest) -> None:
    """Sockets and files are watched by warnings being errors, tasks by this."""
    if inspect.iscoroutinefunction(getattr(request.node, "function", None)):
        request.getfixturevalue("no_leftover_tasks")


@pytest.fixture
async def no_leftover_tasks() -> AsyncIterator[None]:
    """Every task has an owner that ended it."""
    yield
    mine = asyncio.current_task()
    left = {task for task in asyncio.all_tasks() if task is not mine and not task.done()}
    if left:
        # What was cancelled or has ended by now needs a round of the loop to be gone.
        _, left = await asyncio.wait(left, timeout=1)
    assert not left, f"tasks were left running: {left}"


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TestAuthority:
    """Issues what the upstreams of a session show."""
    return TestAuthority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def repository_root() -> Path:
    return Path(__file__).resolve().parent.parent


@pytest.fixture
def nobody() -> Callable[[], AbstractContextManager[None]]:
    """A while as a user who owns nothing; only root can be another."""
    if os.geteuid() != 0:
        pytest.skip("to be another user takes root")
    return as_nobody
