"""Nothing that the proxy writes or shows has a password or a token in it."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from tests.e2e.clients import ClientError, Credentials, forms
from tests.e2e.curl import Curl
from tests.e2e.lab import (
    ANN,
    GUARDED,
    LOCAL,
    PRIVATE,
    PUSHER_NAMES,
    WITH_LOGIN,
    Lab,
    local_registry,
)
from tests.e2e.pushes import archive, htpasswd
from tests.support.proxy import ProxyProcess

PAGES = ("/", "/metrics", "/healthz", "/readyz", "/setup/docker", "/ca.crt")
UPSTREAMS_OWN = Credentials("dora", "Hex4-pony:staple/9%+=Q")
LOCALLY = Credentials("emil", "Oct0-mule,clip;7$~=R")
WRONG = Credentials("dora", "Bad5-wrong:try/3%+=S")
TO_THE_PROXY = Credentials("fred", "Pent6-gate.keeper_8T")


def _settings(users: Path) -> dict[str, Any]:
    return {
        "log": {"level": "debug"},
        "registries": {
            GUARDED: {"push": "allow"},
            PRIVATE: {"username": ANN.user, "password": ANN.password},
        },
        "local_registries": local_registry(htpasswd=str(htpasswd(users, LOCALLY))),
    }


def test_of_registries(lab: Lab, tmp_path: Path, seed: int) -> None:
    lab.tokens.add_user(UPSTREAMS_OWN.user, UPSTREAMS_OWN.password)
    lab.tokens.grant(UPSTREAMS_OWN.user, "open/*", "pull", "push")
    issued = len(lab.tokens.issued)
    with lab.proxy(tmp_path / "proxy", settings=_settings(tmp_path / "users")) as proxy:
        for name in WITH_LOGIN:
            _log_in_and_out(lab, name)
        for name in PUSHER_NAMES:
            _push_and_pull(lab, name, tmp_path, seed)
        given = _ask_by_hand(lab, tmp_path, f"open/secrets{seed}")
        pages = [(path, proxy.page(path)[1]) for path in PAGES]
        files = tuple(_files(proxy))

    assert _found(files, [f"open/secrets{seed}"])  # it is looked for where things are written
    tokens = [part for token in (*lab.tokens.issued[issued:], *given) for part in _parts(token)]
    assert len(tokens) > len(given)
    for user in (UPSTREAMS_OWN, LOCALLY, WRONG, ANN):
        tokens += forms(user)
    assert _found((*files, *pages), tokens) == []


def test_of_the_proxy_itself(lab: Lab, tmp_path: Path) -> None:
    clients = {"username": TO_THE_PROXY.user, "password": TO_THE_PROXY.password}
    settings = {"log": {"level": "debug"}, "clients": clients, "registries": {GUARDED: {}}}
    url = f"https://{GUARDED}/v2/"
    with lab.proxy(tmp_path, settings=settings) as proxy:
        assert lab.curl("--proxy-user", TO_THE_PROXY.pair, "--write-out", "%{http_connect}", url)
        with pytest.raises(OSError, match="407"):
            lab.curl("--proxy-user", WRONG.pair, url)
        pages = [(path, proxy.page(path)[1]) for path in PAGES]
        files = tuple(_files(proxy))
    assert _found(files, ["407"])
    assert _found((*files, *pages), (*forms(TO_THE_PROXY), *forms(WRONG))) == []


def _ask_by_hand(lab: Lab, directory: Path, repository: str) -> list[str]:
    """Credentials where clients do not bring them. Returns the tokens that were given."""
    tokens = []
    for host, user in ((GUARDED, UPSTREAMS_OWN), (LOCAL, LOCALLY), (PRIVATE, ANN)):
        curl = Curl(lab, host, directory)
        tokens.append(curl.token(repository, user))
        curl.token(repository, WRONG)
        proof = ("--header", f"Authorization: Bearer {tokens[-1]}")
        curl.ask(f"/v2/{repository}/tags/list", *proof)
        curl.ask(f"/v2/{repository}/tags/list", "--user", user.pair)
        curl.ask(f"/v2/{repository}/manifests/none?password={quote(user.password)}", *proof)
        form = {"grant_type": "password", "username": user.user, "password": user.password}
        curl.ask("/entrepot/token", "--data", urlencode(form | {"service": host}))
    return tokens


def _parts(token: str) -> list[str]:
    """Of which one at least is whole wherever a page of a database ends."""
    assert len(token) >= 32
    return [part for part in (token[-32:], token[-100:-60]) if part]


def _log_in_and_out(lab: Lab, name: str) -> None:
    client = lab.with_login(name)
    for host, user in ((GUARDED, UPSTREAMS_OWN), (LOCAL, LOCALLY)):
        client.login(host, user)
        with pytest.raises(ClientError):
            client.login(host, WRONG)
        client.logout(host, user)


def _push_and_pull(lab: Lab, name: str, directory: Path, seed: int) -> None:
    client = lab.pusher(name)
    for host, user in ((GUARDED, UPSTREAMS_OWN), (LOCAL, LOCALLY)):
        image = f"{host}/open/secrets{seed}:{name}"
        client.push(archive(directory, image, (100_000,), seed), image, user)
        client.remove_all()
        client.pull(image, user)
        client.remove_all()
    with pytest.raises(ClientError):  # where guessing is not slowed down
        client.pull(f"{GUARDED}/open/secrets{seed}:{name}", WRONG)


def _files(proxy: ProxyProcess) -> Iterator[tuple[str, bytes]]:
    yield str(proxy.log), proxy.log.read_bytes()
    for path in proxy.data.rglob("*"):
        if path.is_file():
            yield str(path), path.read_bytes()


def _found(places: Iterable[tuple[str, bytes]], hidden: Iterable[str]) -> list[tuple[str, str]]:
    needles = [text.encode() for text in hidden]
    return [
        (place, needle.decode())
        for place, content in places
        for needle in needles
        if needle in content
    ]
