import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.cache.record import (
    Absence,
    Binding,
    Fact,
    Listing,
    Verdict,
    absence_key,
    decode,
    encode,
    holder_of,
    listing_key,
    member_key,
    member_prefix,
    tag_key,
    tag_prefix,
    verdict_key,
)
from entrepot.oci.digest import Digest
from entrepot.oci.reference import Repository, Tag

_TIMES = st.floats(0, 10**10)
_FACTS: st.SearchStrategy[Fact] = st.one_of(
    st.builds(Binding, st.binary().map(Digest.of), st.text(), st.integers(0), _TIMES),
    st.builds(Absence, st.integers(400, 499), _TIMES),
    st.builds(Verdict, _TIMES),
    st.builds(Listing, _TIMES, st.dictionaries(st.text(), st.text())),
)


@given(_FACTS)
def test_what_is_written_is_read(fact: Fact) -> None:
    assert decode(encode(fact)) == fact


@pytest.mark.parametrize(
    "data",
    [
        None, b"", b"{", b"[]", b"1", b'{"v": 2, "kind": "Verdict", "checked_at": 1}',
        b'{"v": 1, "kind": "Unheard", "checked_at": 1}', b'{"v": 1, "kind": "Verdict"}',
        b'{"v": 1, "kind": "Binding", "digest": "x", "media_type": "", "size": 1, "checked_at": 1}',
        b'{"v": 1, "kind": "Verdict", "checked_at": 1, "more": 1}',
    ],
)  # fmt: skip
def test_what_is_not_understood_is_not_known(data: bytes | None) -> None:
    assert decode(data) is None


def test_keys_tell_apart_what_must_be_told_apart() -> None:
    a, b, tag, digest = Repository("a"), Repository("b"), Tag("x"), Digest.of(b"")
    keys = [
        tag_key("r", a, tag, "a/b"),
        tag_key("r", a, tag, "a/c"),
        tag_key("r", b, tag, "a/b"),
        tag_key("s", a, tag, "a/b"),
        tag_key("r", a, Tag("y"), "a/b"),
        verdict_key("r", a, "me"),
        verdict_key("r", a, "you"),
        verdict_key("r", None, "me"),
        member_key("r", a, digest),
        member_key("r", b, digest),
        absence_key("r", "/p", "me", ""),
        absence_key("r", "/p", "me", "a/b"),
        absence_key("r", "/q", "me", ""),
        absence_key("r", "/p", "you", ""),
        listing_key("r", "/p?n=1", ""),
        listing_key("r", "/p?n=2", ""),
    ]
    assert len(set(keys)) == len(keys)


def test_all_keys_of_a_tag_have_its_prefix_and_no_other_tag_has() -> None:
    prefix = tag_prefix("r", Repository("a"), Tag("x"))
    assert tag_key("r", Repository("a"), Tag("x"), "a/b").startswith(prefix)
    assert not tag_key("r", Repository("a"), Tag("x1"), "a/b").startswith(prefix)


def test_who_holds_content_is_read_off_the_key() -> None:
    digest = Digest.of(b"")
    for registry, repository in (("r", "a"), ("r:5000", "a/b/c")):
        key = member_key(registry, Repository(repository), digest)
        assert key.startswith(member_prefix(digest))
        assert holder_of(key) == (registry, repository)
    assert not member_key("r", Repository("a"), Digest.of(b"x")).startswith(member_prefix(digest))
