"""Repositories, tags and references (distribution-spec, "Pulling manifests")."""

import re
from typing import NewType

from entrepot.errors import InvalidReference
from entrepot.oci.digest import Digest

Repository = NewType("Repository", str)
Tag = NewType("Tag", str)
Reference = Tag | Digest

# The grammar of the specification. `\Z` and not `$`: a trailing newline is not a name.
_REPOSITORY = re.compile(
    r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*\Z"
)
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}\Z")
# CNCF distribution and Docker Hub refuse longer names; the specification says clients may, too.
_REPOSITORY_MAX = 255


def parse_repository(text: str) -> Repository:
    if len(text) > _REPOSITORY_MAX or not _REPOSITORY.match(text):
        raise InvalidReference(f"not a repository name: {text[:300]!r}")
    return Repository(text)


def parse_tag(text: str) -> Tag:
    if not _TAG.match(text):
        raise InvalidReference(f"not a tag: {text[:150]!r}")
    return Tag(text)


def parse_reference(text: str) -> Reference:
    """A tag cannot hold a colon and a digest must, so one character tells them apart."""
    return Digest.parse(text) if ":" in text else parse_tag(text)
