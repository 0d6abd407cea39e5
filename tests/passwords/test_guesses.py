import asyncio
from dataclasses import dataclass, field

import pytest

from entrepot.errors import TooManyGuesses
from entrepot.passwords.guesses import Guesses, GuessStatistics, network_of
from entrepot.passwords.users import Users
from tests.support.clock import ManualClock

PEER, OTHER = "192.0.2.7", "192.0.2.8"


class Known(Users):
    """Of whom one has a password; what is asked can be held up."""

    def __init__(self) -> None:
        self.known: set[tuple[str, str]] = set()
        self.asked: list[tuple[str, str]] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.was_asked = asyncio.Event()

    def remembers(self, user: str, password: str) -> bool:
        return (user, password) in self.known

    async def knows(self, user: str, password: str) -> bool:
        self.asked.append((user, password))
        self.was_asked.set()
        await self.may_answer.wait()
        if (user, password) == ("ann", "right"):
            self.known.add((user, password))
        return self.remembers(user, password)

    def mark_of(self, user: str, key: bytes) -> str | None:
        raise NotImplementedError


@dataclass
class House:
    clock: ManualClock = field(default_factory=ManualClock)
    users: Known = field(default_factory=Known)
    pauses: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.guesses = Guesses(self.clock, sleep=self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.clock.advance(seconds)
        await asyncio.sleep(0)

    async def check(self, password: str, client: str = PEER, user: str = "ann") -> bool:
        return await self.guesses.check(self.users, client, user, password)

    async def fail(self, times: int, client: str = PEER) -> None:
        for number in range(times):
            assert not await self.check(f"wrong {number}", client)

    async def at_once(self, *passwords: str, client: str = PEER) -> list[bool | BaseException]:
        return await asyncio.gather(
            *(self.check(password, client) for password in passwords), return_exceptions=True
        )


@pytest.fixture
async def house() -> House:
    return House()


def refused(found: list[bool | BaseException]) -> int:
    return sum(isinstance(each, TooManyGuesses) for each in found)


class TestOneAfterTheOther:
    async def test_a_few_are_free_and_then_each_waits_longer(self, house: House) -> None:
        await house.fail(5)
        assert house.pauses == []
        await house.fail(6)
        assert house.pauses == [1, 2, 4, 8, 8, 8]

    async def test_the_time_since_the_last_one_counts(self, house: House) -> None:
        await house.fail(8)
        house.pauses.clear()
        house.clock.advance(5)
        await house.fail(1)
        assert house.pauses == [3]
        house.clock.advance(8)
        await house.fail(1)
        assert house.pauses == [3]

    async def test_a_clock_that_goes_back_makes_nobody_wait_for_long(self, house: House) -> None:
        await house.fail(8)
        house.clock.advance(-86400)
        house.pauses.clear()
        await house.fail(1)
        assert house.pauses == [8]

    async def test_a_quarter_of_an_hour_without_any_is_a_new_start(self, house: House) -> None:
        await house.fail(8)
        house.pauses.clear()
        house.clock.advance(901)
        await house.fail(5)
        assert house.pauses == []

    async def test_others_do_not_wait(self, house: House) -> None:
        await house.fail(10)
        house.pauses.clear()
        assert await house.check("right", OTHER)
        assert house.pauses == []

    async def test_a_right_one_among_them_starts_nothing_anew(self, house: House) -> None:
        """Or who has a password could guess others' between two logins."""
        await house.fail(6)
        house.clock.advance(60)
        assert await house.check("right")
        house.pauses.clear()
        await house.fail(1)
        assert house.pauses == []
        await house.fail(1)
        assert house.pauses == [4]

    async def test_a_hundred_take_a_quarter_of_an_hour(self, house: House) -> None:
        start = house.clock.now()
        await house.fail(100)
        assert house.clock.now() - start > 700
        assert await house.check("right")


class TestWhatIsKnownToBeRight:
    async def test_never_waits(self, house: House) -> None:
        assert await house.check("right")
        await house.fail(20)
        house.pauses.clear()
        assert await house.check("right")
        assert house.pauses == []

    async def test_is_what_was_right_from_there(self, house: House) -> None:
        """Or who guesses without waiting would be told of the right one at once."""
        assert await house.check("right", OTHER)
        await house.fail(7)
        house.pauses.clear()
        found = await house.at_once(*(f"at once {n}" for n in range(20)), "right")
        assert isinstance(found[-1], TooManyGuesses)
        house.clock.advance(8)
        house.pauses.clear()
        assert await house.check("right")
        await house.fail(1)
        assert await house.check("right")
        assert house.pauses == []

    async def test_is_not_told_while_others_are_looked_at(self, house: House) -> None:
        assert await house.check("right", OTHER)
        house.users.was_asked.clear()
        house.users.may_answer.clear()
        async with asyncio.TaskGroup() as tasks:
            guess = tasks.create_task(house.check("wrong"))
            await house.users.was_asked.wait()
            assert not house.guesses.is_known(house.users, PEER, "ann", "right")
            assert house.guesses.is_known(house.users, OTHER, "ann", "right")
            house.users.may_answer.set()
        assert not guess.result()
        assert house.guesses.is_known(house.users, PEER, "ann", "right")

    async def test_is_no_longer_what_is_no_longer_right(self, house: House) -> None:
        assert await house.check("right")
        house.users.known.clear()
        assert not house.guesses.is_known(house.users, PEER, "ann", "right")

    async def test_nor_is_it_held_up_by_others_that_do(self, house: House) -> None:
        assert await house.check("right")
        house.users.may_answer.clear()
        async with asyncio.TaskGroup() as tasks:
            guess = tasks.create_task(house.check("wrong"))
            await house.users.was_asked.wait()
            assert await house.check("right")
            assert not guess.done()
            house.users.may_answer.set()


class TestAtTheSameTime:
    async def test_one_is_looked_at_at_a_time(self, house: House) -> None:
        house.users.may_answer.clear()
        async with asyncio.TaskGroup() as tasks:
            guesses = [tasks.create_task(house.check(f"wrong {n}")) for n in range(3)]
            await house.users.was_asked.wait()
            for _ in range(20):
                await asyncio.sleep(0)
            assert len(house.users.asked) == 1
            house.users.may_answer.set()
        assert not any(guess.result() for guess in guesses)
        assert len(house.users.asked) == 3

    async def test_beyond_a_small_queue_they_are_refused_unheard(self, house: House) -> None:
        await house.fail(5)
        found = await house.at_once(*(f"at once {n}" for n in range(20)))
        assert refused(found) == 17
        assert len(house.users.asked) == 5 + 3
        (error, *_) = [each for each in found if isinstance(each, TooManyGuesses)]
        assert error.retry_after_s == 8
        assert "again in 8 s" in str(error)

    async def test_a_crowd_that_comes_first_is_looked_at_no_more_than_that(
        self, house: House
    ) -> None:
        house.users.may_answer.clear()
        async with asyncio.TaskGroup() as tasks:
            crowd = tasks.create_task(house.at_once(*(f"at once {n}" for n in range(200))))
            await house.users.was_asked.wait()
            assert len(house.users.asked) == 1
            house.users.may_answer.set()
        assert len(house.users.asked) == 5 + 3
        assert refused(crowd.result()) == 192
        assert house.pauses == [1, 2, 4]

    async def test_others_among_them_are_not_refused(self, house: House) -> None:
        await house.fail(5)
        house.users.may_answer.clear()
        async with asyncio.TaskGroup() as tasks:
            for number in range(3):
                tasks.create_task(house.check(f"wrong {number}"))
            await house.users.was_asked.wait()
            other = tasks.create_task(house.check("right", OTHER))
            house.users.may_answer.set()
        assert other.result()

    @pytest.mark.parametrize("password", ["right", "wrong"])
    async def test_a_host_that_brings_the_same_for_all_its_connections(
        self, house: House, password: str
    ) -> None:
        house.users.may_answer.clear()
        async with asyncio.TaskGroup() as tasks:
            checks = [tasks.create_task(house.check(password)) for _ in range(100)]
            await house.users.was_asked.wait()
            house.users.may_answer.set()
        assert {check.result() for check in checks} == {password == "right"}
        assert len(house.users.asked) == 1

    async def test_the_same_that_is_wrong_is_one_guess(self, house: House) -> None:
        house.users.may_answer.clear()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(10):
                tasks.create_task(house.check("wrong"))
            await house.users.was_asked.wait()
            house.users.may_answer.set()
        assert house.guesses.statistics() == GuessStatistics(wrong=1, refused=0)

    async def test_users_of_something_else_are_not_the_same(self, house: House) -> None:
        others = Known()
        found = await asyncio.gather(
            house.check("right"), house.guesses.check(others, PEER, "ann", "right")
        )
        assert all(found)
        assert len(others.asked) == 1


class TestWhoLeaves:
    async def test_has_guessed_all_the_same(self, house: House) -> None:
        house.users.may_answer.clear()
        for number in range(6):
            house.users.was_asked.clear()
            async with asyncio.TaskGroup() as tasks:
                guess = tasks.create_task(house.check(f"wrong {number}"))
                await house.users.was_asked.wait()
                guess.cancel()
        house.users.may_answer.set()
        house.pauses.clear()
        await house.fail(1)
        assert house.pauses == [2]

    async def test_leaves_the_others_with_the_same_to_themselves(self, house: House) -> None:
        house.users.may_answer.clear()
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(house.check("right"))
            others = [tasks.create_task(house.check("right")) for _ in range(3)]
            await house.users.was_asked.wait()
            first.cancel()
            house.users.may_answer.set()
        assert all(other.result() for other in others)
        assert len(house.users.asked) == 2


class TestMemory:
    async def test_of_addresses_without_wrong_ones_nothing_is_counted(self, house: House) -> None:
        assert await house.check("right")
        assert await house.check("right", OTHER)
        assert len(house.guesses._origins) == 0

    async def test_of_what_was_right_as_much_is_kept_as_there_is_room(
        self, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("entrepot.passwords.guesses._RIGHT_MAX", 2)
        for client in ("192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.3"):
            assert await house.check("right", client)
        assert [name for name, _ in house.guesses._right] == ["192.0.2.1", "192.0.2.3"]

    async def test_of_many_addresses_those_that_came_last_are_kept(
        self, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("entrepot.passwords.guesses._ORIGINS_MAX", 3)
        for number in (1, 2, 3, 1, 4):
            await house.fail(1, f"192.0.2.{number}")
        assert list(house.guesses._origins) == ["192.0.2.3", "192.0.2.1", "192.0.2.4"]

    async def test_one_that_is_being_looked_at_is_not_forgotten(
        self, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("entrepot.passwords.guesses._ORIGINS_MAX", 1)
        house.users.may_answer.clear()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(house.check("wrong"))
            await house.users.was_asked.wait()
            with pytest.raises(TooManyGuesses):
                await house.check("wrong", OTHER)
            house.users.may_answer.set()
        assert not await house.check("wrong", OTHER)


async def test_figures(house: House) -> None:
    assert house.guesses.statistics() == GuessStatistics(wrong=0, refused=0)
    assert await house.check("right")
    await house.fail(5)
    await house.at_once(*(f"at once {n}" for n in range(10)))
    assert house.guesses.statistics() == GuessStatistics(wrong=8, refused=7)


async def test_each_wrong_one_is_told_of(house: House, caplog: pytest.LogCaptureFixture) -> None:
    assert not await house.check("hunter2", "2001:db8::7", "bob\n")
    assert await house.check("right")
    (record,) = caplog.records
    assert record.message == (
        r"login failed: client 2001:db8::7, user 'bob\n': wrong user name or password,"
        " 1 from there so far"
    )


@pytest.mark.parametrize(
    ("client", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("nonsense", "nonsense"),
    ],
)
def test_what_counts_as_one_address(client: str, network: str) -> None:
    assert network_of(client) == network
