"""`Range` and `Content-Range` (RFC 9110 section 14), single ranges only.

Several ranges in one request are answered whole, as section 14.2 allows a server to ignore them.
"""

import re
from dataclasses import dataclass

_RANGE = re.compile(r"\s*bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*\Z", re.ASCII | re.IGNORECASE)
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)\Z", re.ASCII | re.IGNORECASE)
# Longer numbers are no offsets of anything; int() would take quadratic time on them.
_MAX_DIGITS = 18


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes `start` to `stop`, `stop` not included."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def content_range(self, size: int | None) -> str:
        return f"bytes {self.start}-{self.stop - 1}/{'*' if size is None else size}"


@dataclass(frozen=True, slots=True)
class RangeRequest:
    """What a client asked for, before the size is known: `first-last`, `first-` or `-suffix`."""

    first: int | None
    last: int | None

    @classmethod
    def parse(cls, header: str | None) -> "RangeRequest | None":
        """None where there is no range, or one that is to be ignored."""
        match = _RANGE.match(header) if header else None
        if match is None or max(map(len, match.groups())) > _MAX_DIGITS:
            return None
        first, last = (int(group) if group else None for group in match.groups())
        if (first is None and last is None) or (
            first is not None and last is not None and last < first
        ):
            return None
        return cls(first, last)

    def resolve(self, size: int) -> ByteRange | None:
        """The bytes of a body of this size; None if there are none (416)."""
        if self.first is None:
            assert self.last is not None
            start, stop = max(0, size - self.last), size
        else:
            start = self.first
            stop = size if self.last is None else min(self.last + 1, size)
        return ByteRange(start, stop) if start < stop else None


def parse_content_range(header: str) -> tuple[ByteRange, int | None] | None:
    match = _CONTENT_RANGE.match(header.strip())
    if match is None or max(map(len, match.groups())) > _MAX_DIGITS:
        return None
    first, last, size = match.groups()
    if int(last) < int(first):
        return None
    return ByteRange(int(first), int(last) + 1), None if size == "*" else int(size)
