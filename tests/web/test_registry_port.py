import json
from typing import Any

import pytest

from entrepot.config.local import LocalRegistry
from entrepot.config.model import Config
from entrepot.engine.local_names import LocalNames
from entrepot.engine.message import Request, Response
from entrepot.engine.sites import Site, Sites
from entrepot.upstream.fleet import Upstreams
from entrepot.web.registry_port import RegistryPort, not_here

NAME, PEER, PROXY = "docker-registry.test", "192.0.2.7", "proxy.test:3128"


def names(*local: str) -> LocalNames:
    settings = LocalRegistry(upstream=("http://127.0.0.1:9",))
    config = Config(registries={}, local_registries=dict.fromkeys(local, settings))
    fleet = Upstreams(config)
    sites = Sites(config.served, fleet.get, fleet.beside, config.local_registries)
    return LocalNames(sites, hostname="proxy.test", port=8443)


async def answer(request: Request, site: Site) -> Response:
    return Response(200, {}, f"{site.name} {request.host} {request.path}".encode())


async def ask(*local: str, **request: Any) -> Response:
    port = RegistryPort(
        names(*(local or (NAME,))), serves=lambda peer: peer == PEER, answer=answer, proxy=PROXY
    )
    usual = {"method": "GET", "path": "/v2/", "host": NAME, "client": PEER}
    return await port.respond(Request(**(usual | request)))


def body(response: Response) -> str:
    assert isinstance(response.body, bytes)
    return response.body.decode()


def message(response: Response) -> str:
    (error,) = json.loads(body(response))["errors"]
    return str(error["message"])


@pytest.mark.parametrize("host", [NAME, f"{NAME}:8443"])
async def test_a_local_registry_answers_by_the_name_it_was_given(host: str) -> None:
    assert body(await ask(host=host)) == f"{NAME} {host} /v2/"


@pytest.mark.parametrize("host", ["registry-1.docker.io", "proxy.test", "192.0.2.1", ""])
async def test_what_is_none_of_them_is_never_asked(host: str) -> None:
    response = await ask(host=host)
    assert response.status == 421
    assert f"it serves {NAME}" in message(response)


async def test_without_any_it_is_said_why() -> None:
    port = RegistryPort(names(), serves=lambda _: True, answer=answer, proxy=PROXY)
    response = await port.respond(Request(method="GET", path="/v2/", host=NAME, client=PEER))
    assert "names no local registry" in message(response)


@pytest.mark.parametrize("path", ["/v2/", "/", "/healthz"])
async def test_strangers_are_served_nothing(path: str) -> None:
    response = await ask(client="198.51.100.1", path=path)
    assert response.status == 403
    assert message(response) == "198.51.100.1 is not among the clients that are served here"


@pytest.mark.parametrize("path", ["/v2/", "/healthz"])
async def test_without_tls_it_is_said_what_to_do(path: str) -> None:
    response = await ask(scheme="http", host=f"{NAME}:8443", path=path)
    assert response.status == 400
    assert f"use https://{NAME}:8443. " in message(response)
    assert f"/etc/docker/certs.d/{NAME}:8443/ca.crt" in message(response)


@pytest.mark.parametrize("host", [NAME, "192.0.2.1", ""])
async def test_load_balancers_ask_by_whatever_name(host: str) -> None:
    response = await ask(path="/healthz", host=host)
    assert (response.status, body(response), response.trace.kind) == (200, "ok\n", "page")


async def test_people_are_told_what_it_is() -> None:
    response = await ask(NAME, "other.test", path="/")
    assert response.status == 200
    assert body(response).startswith(f"This is a container registry: {NAME}, other.test.")
    assert f"http://{PROXY}/" in body(response)


async def test_pages_are_for_reading() -> None:
    assert body(await ask(path="/healthz", method="POST")) == f"{NAME} {NAME} /healthz"


class TestNotHere:
    @pytest.mark.parametrize("path", ["/v2", "/v2/", "/v2/app/manifests/1.0"])
    def test_who_asks_the_proxy_for_a_registry_is_told_the_way(self, path: str) -> None:
        request = Request(method="GET", path=path, host=PROXY)
        response = not_here(request, names(NAME), proxy=PROXY)
        assert response is not None
        assert response.status == 421
        assert f"HTTPS_PROXY=http://{PROXY}" in message(response)
        assert f"{NAME}/NAME:TAG" in message(response)

    @pytest.mark.parametrize("path", ["/", "/ca.crt", "/v20"])
    def test_pages_are_none_of_it(self, path: str) -> None:
        request = Request(method="GET", path=path, host=PROXY)
        assert not_here(request, names(), proxy=PROXY) is None
