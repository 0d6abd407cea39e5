import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.errors import InvalidReference
from entrepot.oci.digest import Digest

EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@given(st.binary(), st.sampled_from(["sha256", "sha512"]))
def test_what_is_printed_is_parsed(content: bytes, algorithm: str) -> None:
    digest = Digest.of(content, algorithm)
    assert Digest.parse(str(digest)) == digest
    assert digest.matches(content)
    assert not digest.matches(content + b"x")
    hasher = digest.hasher()
    hasher.update(content)
    assert hasher.hexdigest() == digest.hex == hashlib.new(algorithm, content).hexdigest()


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "sha256", "sha256:", EMPTY[:-1], EMPTY + "0", EMPTY.upper(), EMPTY + "\n",
        "md5:d41d8cd98f00b204e9800998ecf8427e", "sha512:" + "0" * 64, "sha256:" + "g" * 64,
        "sha256:" + "/" * 64, "sha256:../" + "0" * 61, "sha256:" + "\u0660" * 64,
    ],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidReference):
        Digest.parse(text)
