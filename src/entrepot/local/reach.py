"""What the tags of a repository lead to, and what nothing leads to: pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from entrepot.local.catalogue import Version
from entrepot.oci.digest import Digest
from entrepot.oci.reference import Tag

# How what refers to an image is found at registries without an API for it: the specification's
# fallback tag, and cosign's.
_REFERRERS = re.compile(r"(sha256|sha512)-([0-9a-f]+)(?:\.(?:sig|att|sbom))?\Z")


@dataclass(frozen=True, slots=True)
class Leftovers:
    tags: tuple[Tag, ...]  # that were made for what is gone now
    versions: tuple[Digest, ...]  # those that name others before these


def subject_of(tag: Tag) -> Digest | None:
    """What this tag was made for by a tool, if it was."""
    match = _REFERRERS.match(tag)
    return Digest(match[1], match[2]) if match else None


def descendants(roots: Iterable[Digest], versions: Mapping[Digest, Version]) -> set[Digest]:
    """The roots and what they name, as far as it is there."""
    found: set[Digest] = set()
    waiting = [root for root in roots if root in versions]
    while waiting:
        digest = waiting.pop()
        if digest not in found:
            found.add(digest)
            waiting += [
                child.digest for child in versions[digest].children if child.digest in versions
            ]
    return found


def leftovers(tags: Mapping[Tag, Digest], versions: Mapping[Digest, Version]) -> Leftovers:
    """Of all `versions` in a repository, those that no tag leads to.

    What refers to something (signatures, SBOMs) lives as long as that does. A tag that a tool made
    for this purpose is no reason to keep, but where its subject is not in this repository: then it
    is somebody's who keeps signatures elsewhere, and stays.
    """
    made_for = {tag: subject for tag in tags if (subject := subject_of(tag)) in versions}
    live = descendants((tags[tag] for tag in tags if tag not in made_for), versions)
    while True:
        referring = {d for d, version in versions.items() if version.subject in live}
        referring |= {tags[tag] for tag, subject in made_for.items() if subject in live}
        grown = live | descendants(referring, versions)
        if grown == live:
            break
        live = grown
    dead = versions.keys() - live
    return Leftovers(
        tuple(sorted(tag for tag, subject in made_for.items() if tags[tag] in dead)),
        tuple(sorted(dead, key=lambda digest: (not versions[digest].children, str(digest)))),
    )


def blobs_of(versions: Iterable[Version]) -> dict[Digest, int]:
    """All that these need, with sizes: they themselves, too."""
    found: dict[Digest, int] = {}
    for version in versions:
        found[version.digest] = version.size
        found |= {blob.digest: blob.size for blob in version.blobs}
    return found
