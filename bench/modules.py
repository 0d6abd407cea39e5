"""Parts of the bench that run as processes of their own."""

import sys
from pathlib import Path

from tests.support.processes import clean_environment


def module_command(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"bench.{name}", *arguments]


def module_environment() -> dict[str, str]:
    """Wherever they are started: a namespace's directory is another."""
    return clean_environment({"PYTHONPATH": str(Path(__file__).parents[1])})
