"""Drafts where the disk, another process or the caller does not do what one would like."""

import errno
import os
from pathlib import Path

import pytest

from entrepot.errors import DigestMismatch, StorageError
from entrepot.oci.digest import Digest
from entrepot.oci.media_type import OCTET_STREAM
from entrepot.storage.disk.index import Row
from entrepot.storage.disk.layout import Layout
from entrepot.storage.disk.parts import lock_part, open_part, sweep_parts
from tests.storage.disk.child import BODY, DIGEST
from tests.storage.disk.conftest import Disk, has


async def test_a_disk_that_fails_at_the_sync_keeps_nothing(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = disk.open()
    draft = await store.draft(DIGEST)
    await draft.write(BODY)

    def fails(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fails)
    with pytest.raises(StorageError, match="Input/output error"):
        await draft.commit(OCTET_STREAM)
    assert disk.parts == []
    assert await draft.read(0, 10) == BODY[:10]
    draft.close()
    assert not await has(store, DIGEST)


async def test_a_write_that_fails_halfway_can_be_written_again(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = disk.open()
    draft = await store.draft(DIGEST)
    await draft.write(BODY[:1000])
    written = os.pwrite
    quota = 5000

    def limited(descriptor: int, data: bytes, offset: int) -> int:
        if offset >= quota:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        return written(descriptor, data[: quota - offset], offset)

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", limited)
        with pytest.raises(StorageError, match="quota"):
            await draft.write(BODY[1000:])
    assert draft.size == 1000
    assert (disk.directory / "cache/fills" / disk.parts[0]).stat().st_size == 1000
    await draft.write(BODY[1000:])
    await draft.commit(OCTET_STREAM)
    draft.close()
    assert await has(store, DIGEST)


async def test_small_content_that_the_file_lost_is_not_admitted(disk: Disk) -> None:
    store = disk.open()
    draft = await store.draft(Digest.of(b"small"))
    await draft.write(b"small")
    (disk.directory / "cache/fills" / disk.parts[0]).write_bytes(b"smell")
    with pytest.raises(StorageError, match="does not hold"):
        await draft.commit(OCTET_STREAM)
    await draft.discard()
    draft.close()


async def test_a_draft_that_was_closed_commits_nothing(disk: Disk) -> None:
    store = disk.open()
    draft = await store.draft(DIGEST)
    await draft.write(BODY)
    draft.close()
    await draft.commit(OCTET_STREAM)
    assert not await has(store, DIGEST)
    with pytest.raises(ValueError, match="closed"):
        await draft.write(b"more")
    draft = await store.draft(DIGEST)
    assert draft.size == len(BODY)
    await draft.commit(OCTET_STREAM)
    draft.close()
    assert await has(store, DIGEST)


async def test_a_private_draft_is_not_kept(disk: Disk) -> None:
    store = disk.open()
    shared, private = [await store.draft(DIGEST) for _ in range(2)]
    await private.write(BODY)
    assert len(disk.parts) == 2
    await private.suspend()
    assert len(disk.parts) == 1
    for draft in (shared, private):
        await draft.suspend()
        draft.close()
    assert disk.parts == [], "there was nothing in it"


async def test_large_content_is_put_beside_a_fill_of_it(disk: Disk) -> None:
    store = disk.open()
    draft = await store.draft(DIGEST)
    await draft.write(BODY[:1000])
    await store.put(DIGEST, BODY, OCTET_STREAM)
    assert await has(store, DIGEST)
    await draft.write(BODY[1000:])
    await draft.commit(OCTET_STREAM)
    draft.close()
    assert len(disk.files) == 1
    with pytest.raises(DigestMismatch):
        await store.put(Digest.of(b"other"), BODY, OCTET_STREAM)
    assert disk.parts == []


async def test_an_entry_replaced_between_look_up_and_opening_is_opened(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = disk.open()
    await store.put(DIGEST, BODY, OCTET_STREAM)
    index = store._index
    find = index.find
    looks = 0

    def find_and_replace(key: str) -> tuple[Row, bytes | None] | None:
        nonlocal looks
        found = find(key)
        if (looks := looks + 1) == 1:
            old = disk.file(DIGEST)
            new = old.with_name(f"{old.name}0")
            old.rename(new)
            index._sql("UPDATE Cache SET filename = ?", (f"content/{DIGEST.hex[:2]}/{new.name}",))
        return found

    monkeypatch.setattr(index, "find", find_and_replace)
    assert await has(store, DIGEST)
    assert looks == 2
    assert store.statistics().corrupt == 0


def test_a_lock_on_what_was_removed_meanwhile_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "part"
    opened = os.open
    openings = 0

    def open_and_remove(*arguments: object) -> int:
        nonlocal openings
        descriptor = opened(*arguments)  # type: ignore[arg-type] # passed on as they are
        if (openings := openings + 1) == 1:
            path.unlink()
        return descriptor

    monkeypatch.setattr(os, "open", open_and_remove)
    descriptor = lock_part(path)
    assert descriptor is not None
    assert openings == 2
    assert os.fstat(descriptor).st_ino == path.stat().st_ino
    os.close(descriptor)


def test_a_part_that_cannot_be_read_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(tmp_path)
    layout.prepare()
    layout.part(DIGEST).write_bytes(b"something")

    def fails(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "preadv", fails)
        with pytest.raises(OSError, match="Input/output"):
            open_part(layout, DIGEST)
    assert sweep_parts(layout.fills, before=None) == 1, "nobody holds it"
