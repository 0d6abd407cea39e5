"""Who guesses passwords of the local registry is slowed down, and named in the log."""

import asyncio
import base64
import json
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlencode

from tests.e2e.clients import Credentials
from tests.e2e.lab import ANN, LOCAL, Lab, local_registry
from tests.support import netns
from tests.support.client import Answer, ProxyClient
from tests.support.proxy import ProxyProcess

GUESSES = 100
HEARD_MAX = 12  # what is free, and what a short queue holds
PROMPT_S = 3.0
TOKEN = f"https://{LOCAL}/entrepot/token"
SETTINGS = {"local_registries": local_registry(username=ANN.user, password=ANN.password)}


def _basic(credentials: Credentials) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(credentials.pair.encode()).decode()}"}


async def _try(client: ProxyClient, credentials: Credentials, way: int) -> Answer:
    """In the three ways in which clients bring a password."""
    match way % 3:
        case 0:
            return await client.request("GET", TOKEN, _basic(credentials))
        case 1:
            return await client.request("GET", f"https://{LOCAL}/v2/", _basic(credentials))
        case _:
            form = {
                "grant_type": "password",
                "username": credentials.user,
                "password": credentials.password,
                "service": LOCAL,
            }
            types = {"Content-Type": "application/x-www-form-urlencoded"}
            return await client.request("POST", TOKEN, types, urlencode(form).encode())


def _said_of_logins(proxy: ProxyProcess) -> list[str]:
    messages = [json.loads(line).get("message", "") for line in proxy.log.read_text().splitlines()]
    return [message for message in messages if "login failed" in message]


async def test_a_hundred_guesses(lab: Lab, tmp_path: Path) -> None:
    client = lab.raw()
    with lab.proxy(tmp_path, settings=SETTINGS) as proxy, lab.topology.client.entered():
        assert (await _try(client, ANN, 0)).status == 200
        guesses = [
            Credentials(ANN.user if number % 2 else f"user{number}", f"guess-{number}-wrong")
            for number in range(GUESSES)
        ]
        answers = await asyncio.gather(
            *(_try(client, guess, way) for way, guess in enumerate(guesses))
        )
        begun = time.monotonic()
        assert (await _try(client, ANN, 0)).status == 200
        assert time.monotonic() - begun < PROMPT_S

    statuses = Counter(answer.status for answer in answers)
    assert set(statuses) == {401, 429}
    assert statuses[401] <= HEARD_MAX
    assert all(answer.headers["retry-after"] for answer in answers if answer.status == 429)
    said = _said_of_logins(proxy)
    assert len(said) == statuses[401]
    assert all(netns.CLIENT in line for line in said)
    assert not [guess.password for guess in guesses if guess.password in proxy.log.read_text()]
