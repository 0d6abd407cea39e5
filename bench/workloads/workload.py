"""What a workload is."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bench.results import Sheet
from bench.stage import Stage


@dataclass(frozen=True, slots=True)
class Workload:
    name: str
    title: str
    programs: tuple[str, ...]  # without which it cannot be
    run: Callable[[Stage, Sheet], None]


def rounds[T](count: int, contestants: Sequence[T]) -> Iterator[T]:
    """Each in turn, `count` times; who begins changes, so that none profits of its place."""
    for number in range(count):
        first = number % len(contestants)
        yield from (*contestants[first:], *contestants[:first])
