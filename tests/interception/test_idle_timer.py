import asyncio

from entrepot.interception.idle_timer import IdleTimer

PATIENCE_S = 10.0


async def test_activity_puts_it_off() -> None:
    ended = asyncio.Event()
    timer = IdleTimer(0.05, ended.set)
    for _ in range(5):
        await asyncio.sleep(0.02)
        timer.register_activity()
    assert not ended.is_set()
    async with asyncio.timeout(PATIENCE_S):
        await ended.wait()


async def test_what_is_being_done_holds_it_off() -> None:
    ended = asyncio.Event()
    timer = IdleTimer(0.01, ended.set)
    with timer.disarm():
        await asyncio.sleep(0.05)
        assert not ended.is_set()
    async with asyncio.timeout(PATIENCE_S):
        await ended.wait()


async def test_it_can_be_stopped() -> None:
    ended = asyncio.Event()
    IdleTimer(0.01, ended.set).stop()
    await asyncio.sleep(0.03)
    assert not ended.is_set()
