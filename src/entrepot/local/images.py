"""A tag as people look at it: platforms, size, when it was made."""

from dataclasses import dataclass
from datetime import UTC, datetime

from entrepot.local.catalogue import Catalogue, Version, platform_of
from entrepot.local.failure import together
from entrepot.local.reach import blobs_of, descendants
from entrepot.oci.digest import Digest
from entrepot.oci.reference import Repository, Tag

_CONFIGURATIONS = frozenset(
    {
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.container.image.v1+json",
    }
)


@dataclass(frozen=True, slots=True)
class Image:
    tag: Tag
    digest: Digest
    media_type: str
    platforms: tuple[str, ...]
    size: int  # of all that it needs
    created: float | None


async def describe(catalogue: Catalogue, repository: Repository, tag: Tag) -> Image | None:
    """None where it has gone meanwhile."""
    root = await catalogue.version(repository, tag)
    if root is None:
        return None
    versions = await catalogue.reached(repository, [root.digest])
    versions.setdefault(root.digest, root)
    platforms, created = root.platforms, await created_at(catalogue, repository, root)
    if not root.children:
        configuration = await _configuration(catalogue, repository, root)
        platform = platform_of(configuration)
        platforms = (platform,) if platform else ()
    return Image(
        tag, root.digest, root.media_type, platforms, sum(blobs_of(versions.values()).values()),
        created,
    )  # fmt: skip


async def created_at(
    catalogue: Catalogue, repository: Repository, version: Version
) -> float | None:
    """As the image says; of an index, its newest."""
    images = [version]
    if version.children:
        reached = await catalogue.reached(repository, [version.digest])
        images = [reached[digest] for digest in descendants([version.digest], reached)]
    documents = await together(
        _configuration(catalogue, repository, image) for image in images if not image.children
    )
    moments = [_moment(document.get("created")) for document in documents]
    return max((moment for moment in moments if moment is not None), default=None)


async def _configuration(
    catalogue: Catalogue, repository: Repository, version: Version
) -> dict[str, object]:
    """Of an image the first of its blobs; of anything else what may be no JSON at all."""
    if not version.blobs or version.blobs[0].media_type not in _CONFIGURATIONS:
        return {}
    return await catalogue.document(repository, version.blobs[0].digest)


def _moment(text: object) -> float | None:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp()
