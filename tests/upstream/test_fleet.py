import ssl
from pathlib import Path
from typing import Any

import pytest

from entrepot.config.model import Config, Registry
from entrepot.config.model import Upstream as Settings
from entrepot.errors import ConfigError
from entrepot.upstream import fleet as fleet_module
from entrepot.upstream.fleet import Upstreams
from tests.upstream.bench import SECRET, Bench, answering, failure, fetch, get, with_password


async def test_a_registry_goes_by_all_its_names(bench: Bench) -> None:
    fleet = bench.upstreams({"Docker.io": Registry(hosts=("registry-1.docker.io",))})
    assert fleet.get("docker.io") is fleet.get("REGISTRY-1.docker.io")
    assert fleet.get("docker.io").name == "Docker.io"
    assert len(fleet.statistics()) == 1


async def test_what_is_not_configured_is_not_there(bench: Bench) -> None:
    fleet = bench.upstreams({"ghcr.io": Registry(), "*.example.com": Registry()})
    for name in (
        "quay.io",
        "example.com",
        "a.example.org",
        "evil@a.example.com",
        "",
        "a/.example.com",
    ):
        with pytest.raises(KeyError):
            fleet.get(name)


async def test_the_default_configuration_reaches_docker_hub(bench: Bench) -> None:
    for registries in (Config().registries, {"docker.io": Registry()}):
        upstream = bench.upstreams(registries).get("docker.io")
        assert [endpoint.url for endpoint in upstream._endpoints] == [
            "https://registry-1.docker.io"
        ]


async def test_patterns_make_an_upstream_for_each_host(bench: Bench) -> None:
    fleet = bench.upstreams(
        {"*.example.com": Registry(), "*.b.example.com": Registry(**with_password())}
    )
    one = fleet.get("a.example.com")
    assert one is fleet.get("A.example.com")
    assert one.name == "a.example.com"
    assert one._endpoints[0].url == "https://a.example.com"
    assert not one.has_credentials
    assert fleet.get("x.b.example.com").has_credentials  # the more specific pattern


async def test_hosts_of_patterns_are_bounded(bench: Bench) -> None:
    fleet = bench.upstreams({"*.example.com": Registry()})
    for number in range(1005):
        fleet.get(f"h{number}.example.com")
    assert len(fleet._of_patterns) == 1000


async def test_hosts_of_a_pattern_are_counted_as_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_module, "_PATTERN_HOSTS_MAX", 1)
    fleet = bench.upstreams({"*.example.com": Registry(), "*.b.example.com": Registry()})
    assert fleet.statistics() == ()
    for name in ("one.example.com", "two.example.com"):
        await failure(fleet.get(name).send(get()))
    (found,) = fleet.statistics()
    assert (found.name, found.errors, found.is_resting) == ("*.example.com", 2, True)
    fleet.get("three.example.com")
    (found,) = fleet.statistics()
    assert (found.errors, found.is_resting) == (2, False)


async def test_hosts_of_patterns_are_judged_by_their_address(bench: Bench) -> None:
    """They are the clients' choice, within what the operator named."""
    bench.names.table["metadata.example.com"] = ["169.254.169.254"]
    upstream = bench.upstreams({"*.example.com": Registry()}).get("metadata.example.com")
    assert "nobody may send us to" in str(await failure(upstream.send(get())))


async def test_a_helper_is_asked_for_the_host_itself(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "docker-credential-fake"
    program.write_text('#!/bin/sh\nprintf \'{"Username":"u","Secret":"%s"}\' "$(cat)"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    fleet = bench.upstreams({"*.dkr.ecr.aws": Registry(helper="fake")})
    for name in ("1.dkr.ecr.aws", "2.dkr.ecr.aws"):
        source = fleet.get(name)._parts.ownership.credentials
        assert source is not None
        assert (await source.get()).secret.reveal() == name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"ca_bundle": Path("/nonexistent.pem")},
            r"ca_bundle: /nonexistent.pem cannot be used: No",
        ),
        ({"ca_bundle": Path("/dev/null")}, "no certificate in it"),
        ({"endpoints": ("ftp://x",)}, "endpoints: expected https://"),
        ({"endpoints": ("x",)}, "endpoints: expected https://"),
        ({"endpoints": (f"https://user:{SECRET}@x",)}, "endpoints: expected https://"),
        ({"endpoints": (f"https://x/?{SECRET}",)}, "endpoints: expected https://"),
        ({"endpoints": ("https://[x",)}, "endpoints: expected https://"),
        ({"hosts": ("[x",)}, "is no host"),
        ({"proxy": f"socks5://u:{SECRET}@x"}, "expected http://"),
        ({"username": "robot"}, "expected a password"),
    ],
)
def test_what_cannot_be_used_is_told_at_the_start(settings: dict[str, Any], message: str) -> None:
    config = Config(registries={"r.example": Registry(**settings)})
    with pytest.raises(ConfigError, match=message) as caught:
        Upstreams(config)
    assert SECRET not in str(caught.value)


def test_a_common_proxy_that_cannot_be_used_is_told_too() -> None:
    with pytest.raises(ConfigError, match="expected http://"):
        Upstreams(Config(upstream=Settings(proxy="ldap://x")))


async def test_registries_alike_share_what_they_trust(bench: Bench) -> None:
    fleet = bench.upstreams(
        {"a.example": Registry(), "b.example": Registry(), "c.example": Registry(verify=False)}
    )
    contexts = [
        fleet.get(f"{name}.example")._parts.transport._setup.tls for name in ("a", "b", "c")
    ]
    assert contexts[0] is contexts[1]
    assert contexts[0].verify_mode is ssl.CERT_REQUIRED
    assert contexts[2].verify_mode is ssl.CERT_NONE


async def test_a_fleet_of_its_own_resolves_names_by_the_system(bench: Bench) -> None:
    server = await bench.serve(answering(text="content"))
    registry = Registry(endpoints=(server.url("localhost"),))
    fleet = Upstreams(Config(registries={"r.example": registry}))
    assert await fetch(fleet.get("r.example")) == (200, b"content")
    await fleet.aclose()
    await fleet.aclose()
