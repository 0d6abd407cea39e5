import socket
from collections.abc import Sequence

import pytest

from entrepot.interception.hidden import Hidden

PORT = 5000
BEHIND, OTHER = "10.0.0.5", "10.0.0.6"


class Names:
    def __init__(self, known: dict[str, Sequence[str]]) -> None:
        self.known = known
        self.error: OSError = socket.gaierror(socket.EAI_NONAME, "unknown")

    async def find(self, host: str, _port: int) -> Sequence[str]:
        if host not in self.known:
            raise self.error
        return self.known[host]


@pytest.fixture
def names() -> Names:
    return Names({"registry": [BEHIND, "2001:db8::5"], "elsewhere": [OTHER]})


@pytest.fixture
def hidden(names: Names) -> Hidden:
    return Hidden([("registry", PORT), ("elsewhere", 443)], names.find)


@pytest.mark.parametrize(
    "address",
    [BEHIND, f"::ffff:{BEHIND}", "64:ff9b::a00:5", "2002:a00:5::", "2001:db8::5", "2001:db8:0::5"],
)
async def test_an_address_is_hidden_however_it_is_spelled(hidden: Hidden, address: str) -> None:
    assert (await hidden.at(PORT)).includes(address)


@pytest.mark.parametrize(("address", "port"), [(OTHER, PORT), (BEHIND, 443), ("127.0.0.1", PORT)])
async def test_others_and_other_ports_are_not(hidden: Hidden, address: str, port: int) -> None:
    assert not (await hidden.at(port)).includes(address)


@pytest.mark.parametrize("own", ["127.0.0.1", "::1"])
async def test_one_on_this_machine_hides_all_that_the_machine_is_called(own: str) -> None:
    found = await Hidden([("here", PORT)], Names({"here": [own]}).find).at(PORT)
    assert found.includes("127.0.0.2")
    assert not found.includes(BEHIND)


async def test_what_a_name_server_no_longer_knows_stays_hidden(
    hidden: Hidden, names: Names
) -> None:
    assert not (await hidden.at(443)).includes(BEHIND)
    await hidden.at(PORT)
    del names.known["registry"]
    assert (await hidden.at(PORT)).includes(BEHIND)


async def test_a_name_that_was_never_known_hides_nothing(hidden: Hidden, names: Names) -> None:
    names.known.clear()
    assert not (await hidden.at(PORT)).includes(BEHIND)


async def test_one_that_nobody_answers_for_is_not_taken_for_unknown(
    hidden: Hidden, names: Names
) -> None:
    await hidden.at(PORT)
    names.known.clear()
    names.error = TimeoutError()
    with pytest.raises(TimeoutError):
        await hidden.at(PORT)
