import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.errors import InvalidReference
from entrepot.oci.digest import Digest
from entrepot.oci.reference import parse_reference, parse_repository, parse_tag

DIGEST = Digest.of(b"")


@pytest.mark.parametrize(
    "name", ["alpine", "library/alpine", "a/b/c/d", "a.b-c_d__e---f", "0", "x" * 255]
)
def test_repositories(name: str) -> None:
    assert parse_repository(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "", "/", "a/", "/a", "a//b", "A", "a/../b", "..", ".", "a b", "a:b", "a@b", "-a", "a-",
        "a..b", "a___b", "a/b\n", "a\x00", "ä", "x" * 256, "%61", "a\\b",
    ],
)  # fmt: skip
def test_bogus_repositories(name: str) -> None:
    with pytest.raises(InvalidReference):
        parse_repository(name)


@pytest.mark.parametrize("tag", ["latest", "1.2.3", "_x", "A-b.c_d", "x" * 128])
def test_tags(tag: str) -> None:
    assert parse_tag(tag) == tag
    assert parse_reference(tag) == tag


@pytest.mark.parametrize("tag", ["", ".x", "-x", "x" * 129, "a/b", "a b", "a\n", "ä", "a\x00"])
def test_bogus_tags(tag: str) -> None:
    with pytest.raises(InvalidReference):
        parse_tag(tag)


def test_a_digest_is_no_tag() -> None:
    assert parse_reference(str(DIGEST)) == DIGEST
    with pytest.raises(InvalidReference):
        parse_reference("sha256:short")


@given(st.text())
def test_no_text_does_anything_but_parse_or_be_refused(text: str) -> None:
    for parse in (parse_repository, parse_reference):
        try:
            value = parse(text)
        except InvalidReference:
            continue
        assert str(value) == text
