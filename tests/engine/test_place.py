"""Where an upload goes on, as the client is told it."""

from dataclasses import replace

import pytest

from entrepot.config.local import LocalRegistry
from entrepot.config.model import Config, Registry
from entrepot.engine.ask import Ask
from entrepot.engine.identity import PROXY
from entrepot.engine.message import Request, Trace
from entrepot.engine.place import place_for_client
from entrepot.engine.sites import Sites
from entrepot.oci.route import Other
from entrepot.upstream.fleet import Upstreams

SIGNED = "?X-Amz-Signature=a%2Fb%2bc&_state=x==&n=1"
CONFIG = Config(
    registries={
        "quay.io": Registry(),
        "mirrored.test": Registry(
            hosts=("other.test",),
            endpoints=("https://one.internal", "http://two.internal:5000", "http://three/prefix"),
        ),
    },
    local_registries={
        "local.test": LocalRegistry(hosts=("alias.test",), upstream=("http://registry:5000",))
    },
)


async def told(host: str, location: str, scheme: str = "https") -> str:
    upstreams = Upstreams(CONFIG)
    try:
        sites = Sites(CONFIG.served, upstreams.get, upstreams.beside, CONFIG.local_registries)
        site = sites.by_authority(host)
        assert site is not None
        request = Request(method="POST", path="/v2/app/blobs/uploads/", host=host)
        request = replace(request, scheme=scheme)
        return place_for_client(Ask(request, site, Other(), None, PROXY, Trace()), location)
    finally:
        await upstreams.aclose()


@pytest.mark.parametrize(
    "location",
    [
        f"/v2/app/blobs/uploads/1{SIGNED}",
        f"https://quay.io/v2/app/blobs/uploads/1{SIGNED}",
        f"https://QUAY.io:443/v2/app/blobs/uploads/1{SIGNED}",
        f"https://bucket.s3.amazonaws.com/upload/1{SIGNED}",
        "uploads/1",
        "?_state=1",
        "",
        "https://",
        "https://[/",
        "mailto:somebody",
    ],
)
async def test_nothing_is_changed_that_need_not_be(location: str) -> None:
    assert await told("quay.io", location) == location


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        (f"https://one.internal/v2/x{SIGNED}", f"https://mirrored.test/v2/x{SIGNED}"),
        (f"https://ONE.internal:443/v2/x{SIGNED}", f"https://mirrored.test/v2/x{SIGNED}"),
        (f"//one.internal/v2/x{SIGNED}", f"https://mirrored.test/v2/x{SIGNED}"),
        (f"http://two.internal:5000/v2/x{SIGNED}", f"https://mirrored.test/v2/x{SIGNED}"),
        ("http://two.internal:5000", "https://mirrored.test/"),
        ("http://two.internal:5000?a", "https://mirrored.test/?a"),
        (f"http://three/prefix/v2/x{SIGNED}", f"https://mirrored.test/v2/x{SIGNED}"),
        (f"/prefix/v2/x{SIGNED}", f"/v2/x{SIGNED}"),
        ("/prefixed/v2/x", "/prefixed/v2/x"),
        ("https://other.test/v2/x", "https://other.test/v2/x"),
        ("https://one.internal.evil.test/v2/x", "https://one.internal.evil.test/v2/x"),
        ("http://two.internal:5001/v2/x", "http://two.internal:5001/v2/x"),
    ],
)
async def test_endpoints_are_not_for_clients(location: str, expected: str) -> None:
    assert await told("mirrored.test", location) == expected


async def test_who_came_by_another_name_goes_on_by_it() -> None:
    location = f"https://one.internal/v2/x{SIGNED}"
    assert await told("other.test", location) == f"https://other.test/v2/x{SIGNED}"


@pytest.mark.parametrize(
    "location",
    [
        "http://registry:5000/v2/x?_state=a%3D",
        "https://registry:5000/v2/x?_state=a%3D",  # told that it is reached over TLS
        "http://local.test/v2/x?_state=a%3D",
        "http://alias.test:80/v2/x?_state=a%3D",
    ],
)
async def test_a_local_registry_is_reached_through_us_alone(location: str) -> None:
    assert await told("alias.test", location) == "https://alias.test/v2/x?_state=a%3D"
    assert await told("alias.test", "/v2/x") == "/v2/x"
