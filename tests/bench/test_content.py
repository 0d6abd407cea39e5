"""Blobs that are made up as they are sent are what their digests say."""

import hashlib
from pathlib import Path

import pytest

from bench.clients.hey import parse
from bench.content import BLOCK, Mint, pieces, write


@pytest.mark.parametrize("size", [100, BLOCK, 3 * BLOCK + 5])
def test_a_blob_has_the_digest_that_it_says(size: int, tmp_path: Path) -> None:
    blob = Mint(seed=7).blob(size)
    file = tmp_path / "blob" / "file"
    write(blob, file)
    body = file.read_bytes()
    assert len(body) == size
    assert f"sha256:{hashlib.sha256(body).hexdigest()}" == blob.digest


def test_blobs_of_a_size_differ() -> None:
    mint = Mint(seed=7)
    assert mint.blob(100).digest != mint.blob(100).digest


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 0), (0, 7), (5, BLOCK + 9), (BLOCK + 90, BLOCK + 100), (7, BLOCK + 100)]
)
def test_parts_are_those_of_the_whole(start: int, stop: int) -> None:
    size, nonce = BLOCK + 100, b"0123456789abcdef"
    whole = b"".join(pieces(size, nonce, 0, size))
    assert whole.endswith(nonce)
    assert b"".join(pieces(size, nonce, start, stop, step=1000)) == whole[start:stop]


_HEADINGS = (
    "response-time,DNS+dialup,DNS,Request-write,Response-delay,Response-read,status-code,offset"
)


def test_requests_are_counted_by_their_lines() -> None:
    lines = [f"0.0100,0,0,0,0,0,200,{number / 100:.4f}" for number in range(100)]
    done = parse("\n".join([_HEADINGS, *lines]))
    assert done.count == 100
    assert (done.per_s, done.median_ms, done.tail_ms) == pytest.approx((100, 10, 10))


@pytest.mark.parametrize("lines", [[], ["0.01,0,0,0,0,0,200,0.1", "0.01,0,0,0,0,0,401,0.1"]])
def test_answers_that_are_none_are_no_figures(lines: list[str]) -> None:
    with pytest.raises(AssertionError):
        parse("\n".join([_HEADINGS, *lines]))
