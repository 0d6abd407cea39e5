import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.oci.byte_range import ByteRange, RangeRequest, parse_content_range


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-99", ByteRange(0, 100)),
        ("bytes=0-", ByteRange(0, 1000)),
        ("bytes=999-", ByteRange(999, 1000)),
        ("bytes=500-5000", ByteRange(500, 1000)),
        ("bytes=-1", ByteRange(999, 1000)),
        ("bytes=-5000", ByteRange(0, 1000)),
        ("BYTES = 1 - 2", ByteRange(1, 3)),
        ("bytes=1000-", None),
        ("bytes=-0", None),
    ],
)
def test_single_ranges(header: str, expected: ByteRange | None) -> None:
    request = RangeRequest.parse(header)
    assert request is not None
    assert request.resolve(1000) == expected


@pytest.mark.parametrize(
    "header",
    [None, "", "bytes", "bytes=", "bytes=-", "bytes=5-4", "bytes=0-1,3-4", "items=0-1", "bytes=a-b",
     "bytes=0x1-2", "bytes=" + "9" * 30 + "-", "bytes=\u0661-\u0662"],
)  # fmt: skip
def test_what_is_ignored(header: str | None) -> None:
    assert RangeRequest.parse(header) is None


@given(st.integers(0, 2000), st.integers(0, 2000), st.integers(0, 3000))
def test_a_range_lies_within_the_body(first: int, last: int, size: int) -> None:
    request = RangeRequest.parse(f"bytes={first}-{last}")
    span = request.resolve(size) if request else None
    if span is not None:
        assert 0 <= span.start < span.stop <= size
        assert len(span) <= last - first + 1


@given(st.integers(0, 10**12), st.integers(1, 10**12))
def test_content_range_round_trip(start: int, length: int) -> None:
    span = ByteRange(start, start + length)
    size = start + length + 7
    assert parse_content_range(span.content_range(size)) == (span, size)
    assert parse_content_range(span.content_range(None)) == (span, None)


@pytest.mark.parametrize(
    "header", ["", "bytes", "bytes 5-4/10", "bytes */10", "bytes a-b/c", "items 0-1/2"]
)
def test_bogus_content_ranges(header: str) -> None:
    assert parse_content_range(header) is None
