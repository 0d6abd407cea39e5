"""`login` behaves as it does without a proxy, with the right password and with a wrong one."""

import re
from collections.abc import Iterator

import pytest

from tests.e2e.clients import ClientError, Credentials, WithLogin
from tests.e2e.lab import ANN, GUARDED, LOCAL, PRIVATE, WITH_LOGIN, Lab, local_registry

WRONG = Credentials(ANN.user, "incorrect pony")
UPSTREAMS = (GUARDED, PRIVATE)  # the one asks for tokens, the other for Basic
SETTINGS = {
    "registries": {host: {} for host in UPSTREAMS},
    "local_registries": local_registry(username=ANN.user, password=ANN.password),
}


@pytest.fixture(scope="module", params=WITH_LOGIN)
def client(request: pytest.FixtureRequest, lab: Lab) -> WithLogin:
    return lab.with_login(request.param)


@pytest.fixture(scope="module")
def without(
    lab: Lab, client: WithLogin, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """What the client says of a wrong password to each upstream when nobody is between."""
    with lab.proxy(tmp_path_factory.mktemp("tunnelling")):
        return {host: _refused(client, host) for host in UPSTREAMS}


@pytest.fixture(scope="module")
def proxy(
    lab: Lab, without: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    with lab.proxy(tmp_path_factory.mktemp("login"), settings=SETTINGS):
        yield


def _refused(client: WithLogin, host: str) -> str:
    with pytest.raises(ClientError) as refusal:
        client.login(host, WRONG)
    return re.sub(r'time="[^"]*"', "", str(refusal.value))


@pytest.mark.parametrize("host", [*UPSTREAMS, LOCAL])
def test_right_password(proxy: None, client: WithLogin, host: str) -> None:
    assert "Login Succeeded" in client.login(host, ANN)
    client.logout(host, ANN)


def test_wrong_password(proxy: None, client: WithLogin, without: dict[str, str]) -> None:
    assert _refused(client, GUARDED) == without[GUARDED]


@pytest.mark.parametrize("host", [PRIVATE, LOCAL])
def test_wrong_password_where_the_proxy_gives_tokens(
    proxy: None, client: WithLogin, without: dict[str, str], host: str
) -> None:
    """Docker words it differently for Basic and for tokens; it says the same."""
    for said in (without[PRIVATE], _refused(client, host)):
        assert re.search(r"(?i)unauthorized|invalid username/password", said)
