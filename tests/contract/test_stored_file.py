"""Content that threads read themselves, where a store keeps it in files."""

import os

import pytest

from entrepot.oci.digest import Digest
from entrepot.oci.media_type import OCTET_STREAM
from entrepot.storage.base import ContentStore, StoredFile

SMALL = b'{"schemaVersion": 2}'
LARGE = bytes(range(256)) * 1024


def bytes_of(file: StoredFile, offset: int, size: int) -> bytes:
    with file.borrowed() as descriptor:
        return os.pread(descriptor, size, offset)


@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "large"])
async def test_a_file_has_what_read_gives(store: ContentStore, body: bytes) -> None:
    digest = Digest.of(body)
    await store.put(digest, body, OCTET_STREAM)
    content = await store.open(digest)
    assert content is not None
    file = content.file
    if file is not None:
        assert bytes_of(file, 0, len(body) + 1) == body
        assert bytes_of(file, 10, 5) == await content.read(10, 5)
    content.close()
    if file is not None:
        with pytest.raises(ValueError, match="closed"):
            bytes_of(file, 0, 1)


async def test_it_stays_readable_when_the_entry_is_removed(store: ContentStore) -> None:
    digest = Digest.of(LARGE)
    await store.put(digest, LARGE, OCTET_STREAM)
    content = await store.open(digest)
    assert content is not None
    await store.remove(digest)
    assert content.file is None or bytes_of(content.file, 0, len(LARGE)) == LARGE
    content.close()


async def test_a_draft_s_has_what_was_written(store: ContentStore) -> None:
    draft = await store.draft(Digest.of(LARGE))
    await draft.write(LARGE[:1000])
    file = draft.file
    assert file is None or bytes_of(file, 0, 2000) == LARGE[:1000]
    await draft.write(LARGE[1000:])
    await draft.commit(OCTET_STREAM)
    assert file is None or bytes_of(file, 0, len(LARGE)) == LARGE
    draft.close()
