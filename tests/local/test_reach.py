"""What nothing leads to: with indexes, and what refers to images."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.local.catalogue import Version
from entrepot.local.reach import descendants, leftovers, subject_of
from entrepot.oci.digest import Digest
from entrepot.oci.manifest import Descriptor
from entrepot.oci.media_type import OCI_INDEX, OCI_MANIFEST
from entrepot.oci.reference import Tag


def digest(name: str) -> Digest:
    return Digest.of(name.encode())


def version(name: str, *children: str, subject: str | None = None) -> Version:
    named = tuple(Descriptor(OCI_MANIFEST, digest(child), 1) for child in children)
    about = digest(subject) if subject else None
    return Version(digest(name), OCI_INDEX, 1, named, subject=about)


def all_of(*versions: Version) -> dict[Digest, Version]:
    return {one.digest: one for one in versions}


def tagged(**tags: str) -> dict[Tag, Digest]:
    return {Tag(tag): digest(name) for tag, name in tags.items()}


def left(tags: dict[Tag, Digest], *versions: Version) -> tuple[set[Digest], set[str]]:
    found = leftovers(tags, all_of(*versions))
    return set(found.versions), set(found.tags)


def referrers_tag(name: str, suffix: str = "") -> Tag:
    return Tag(f"sha256-{digest(name).hex}{suffix}")


def test_children_of_what_is_tagged_stay() -> None:
    versions = (version("index", "amd64", "arm64"), version("amd64"), version("arm64"))
    assert left(tagged(v1="index"), *versions) == (set(), set())
    assert left({}, *versions)[0] == {digest(name) for name in ("index", "amd64", "arm64")}


def test_a_child_that_another_index_has_stays() -> None:
    versions = (version("old", "a", "b"), version("new", "b", "c"), *map(version, "abc"))
    assert left(tagged(v1="new"), *versions)[0] == {digest("old"), digest("a")}


def test_indexes_go_before_what_they_name() -> None:
    found = leftovers({}, all_of(version("a"), version("index", "a"), version("b")))
    assert found.versions[0] == digest("index")


def test_what_is_not_there_is_not_missed() -> None:
    assert left(tagged(v1="index"), version("index", "never pushed")) == (set(), set())


class TestWhatRefersToAnImage:
    def test_lives_as_long(self) -> None:
        versions = (version("image"), version("sbom", subject="image"))
        assert left(tagged(v1="image"), *versions) == (set(), set())
        assert left({}, *versions)[0] == {digest("image"), digest("sbom")}

    def test_of_what_refers_to_an_image(self) -> None:
        versions = (
            version("image"),
            version("sbom", subject="image"),
            version("signature", subject="sbom"),
        )
        assert left(tagged(v1="image"), *versions) == (set(), set())

    @pytest.mark.parametrize("suffix", ["", ".sig", ".att", ".sbom"])
    def test_by_a_tag_of_its_own(self, suffix: str) -> None:
        tag = referrers_tag("image", suffix)
        versions = (version("image"), version("referrers", "signature"), version("signature"))
        tags = {tag: digest("referrers")}
        assert left({**tags, **tagged(v1="image")}, *versions) == (set(), set())
        gone, tags_gone = left(tags, *versions)
        assert gone == {digest(name) for name in ("image", "referrers", "signature")}
        assert tags_gone == {tag}

    def test_that_is_in_another_repository_stays(self) -> None:
        tags = {referrers_tag("elsewhere", ".sig"): digest("signature")}
        assert left(tags, version("signature")) == (set(), set())


@pytest.mark.parametrize("tag", ["v1", "sha256-zz", "sha256-abc-def", "sha1-abc"])
def test_other_tags_are_nobodys(tag: str) -> None:
    assert subject_of(Tag(tag)) is None


NAMES = "abcdefgh"
GRAPHS = st.dictionaries(
    st.sampled_from(NAMES),
    st.tuples(st.lists(st.sampled_from(NAMES), max_size=3), st.none() | st.sampled_from(NAMES)),
)


@given(graph=GRAPHS, roots=st.lists(st.sampled_from(NAMES), max_size=3))
def test_nothing_that_a_tag_leads_to_is_left_over(
    graph: dict[str, tuple[list[str], str | None]], roots: list[str]
) -> None:
    versions = all_of(
        *(version(name, *children, subject=about) for name, (children, about) in graph.items())
    )
    tags = {Tag(f"t{number}"): digest(name) for number, name in enumerate(roots)}
    found = set(leftovers(tags, versions).versions)
    live = versions.keys() - found
    assert descendants(tags.values(), versions) <= live
    assert descendants(live, versions) == live
    assert all(versions[one].subject not in live for one in found)
