"""A process that is killed, or that shares the store: started by the tests of this folder."""

import asyncio
import os
import random
import sys
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from entrepot.clock import SystemClock
from entrepot.config.kinds import Bytes
from entrepot.config.model import Storage
from entrepot.errors import StorageError
from entrepot.oci.digest import Digest
from entrepot.oci.media_type import OCTET_STREAM
from entrepot.storage.disk import DiskStore, open_disk_store
from entrepot.storage.disk.index import ContentIndex

BODY = random.Random(1).randbytes(3 << 20)
DIGEST = Digest.of(BODY)
WRITTEN = 2 << 20
SHARED_MAX = 2 << 20


def shared_body(number: int) -> bytes:
    """Rows and files, the same in every process."""
    return random.Random(number).randbytes(200 + number % 7 * 30_000)


def say(word: object) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


class DiesBeforeRename(ContentIndex):
    def admit(self, *_: Any) -> None:
        os._exit(9)


class DiesAfterRename(ContentIndex):
    def _row_insert(self, *_: Any) -> None:
        os._exit(9)


class DiesAfterInsert(ContentIndex):
    def admit(self, *arguments: Any) -> None:
        super().admit(*arguments)
        os._exit(9)


class DiesBeforeUnlink(ContentIndex):
    def unlink(self, filenames: Iterable[str]) -> None:
        os._exit(9)


STEPS: dict[str, type[ContentIndex]] = {
    "before-rename": DiesBeforeRename,
    "after-rename": DiesAfterRename,
    "after-insert": DiesAfterInsert,
}


async def fill(store: DiskStore) -> None:
    """Write a part of a draft, say so, and hold it until killed."""
    draft = await store.draft(DIGEST)
    for start in range(0, WRITTEN, 1 << 20):
        await draft.write(BODY[start : start + (1 << 20)])
    say("written")
    await asyncio.Event().wait()


async def die(store: DiskStore, step: str) -> None:
    store._index.__class__ = STEPS[step]
    draft = await store.draft(DIGEST)
    await draft.write(BODY)
    await draft.commit(OCTET_STREAM)


async def take_in(store: DiskStore) -> None:
    """As `fill`, of what has no name yet."""
    intake = await store.intake()
    for start in range(0, WRITTEN, 1 << 20):
        await intake.write(BODY[start : start + (1 << 20)])
    say("written")
    await asyncio.Event().wait()


async def die_taking_in(store: DiskStore, step: str) -> None:
    store._index.__class__ = STEPS[step]
    intake = await store.intake()
    await intake.write(BODY)
    await intake.commit(DIGEST, OCTET_STREAM)


async def remove(store: DiskStore) -> None:
    store._index.__class__ = DiesBeforeUnlink
    await store.remove(DIGEST)


async def use(store: DiskStore, seed: str, count: str) -> None:
    """Put, fill, open, remove and evict as it comes, and say each step; fail on a wrong byte."""
    chance = random.Random(seed)
    for number in range(int(count)):
        body = shared_body(chance.randrange(60))
        digest = Digest.of(body)
        match chance.randrange(6):
            case 0 | 1:
                await store.put(digest, body, OCTET_STREAM)
            case 2:
                draft = await store.draft(digest)
                await draft.write(body[draft.size :])
                await draft.commit(OCTET_STREAM)
                draft.close()
            case 3 | 4 if (content := await store.open(digest)) is not None:
                assert await content.read(0, len(body)) == body
                content.close()
            case 5:
                await store.remove(digest)
            case _:
                await store.ledger.put(f"{seed}/{number}", b"", 60)
        say(number)


async def fill_up(store: DiskStore) -> None:
    """Write until the disk is full; what is stored must stay, and what was written readable."""
    small = b"small"
    await store.put(Digest.of(small), small, OCTET_STREAM)
    draft = await store.draft(DIGEST)
    try:
        for start in range(0, len(BODY), 100_000):
            await draft.write(BODY[start : start + 100_000])
    except StorageError as error:
        say(error)
    assert draft.size < len(BODY)
    assert await draft.read(0, draft.size) == BODY[: draft.size]
    await draft.discard()
    draft.close()
    large = BODY[:300_000]
    await store.put(Digest.of(large), large, OCTET_STREAM)
    for body in (small, large):
        content = await store.open(Digest.of(body))
        assert content is not None
        assert await content.read(0, len(body)) == body
        content.close()
    say("served")


VERBS: dict[str, Callable[..., Awaitable[None]]] = {
    "fill": fill,
    "die": die,
    "take-in": take_in,
    "die-taking-in": die_taking_in,
    "remove": remove,
    "use": use,
    "fill-up": fill_up,
}


async def main(verb: str, directory: str, *arguments: str) -> None:
    size = SHARED_MAX if verb == "use" else 1 << 30
    settings = replace(Storage(), min_free=Bytes(0), max_size=Bytes(size))
    store = open_disk_store(Path(directory), settings, SystemClock())
    await VERBS[verb](store, *arguments)
    await store.aclose()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
