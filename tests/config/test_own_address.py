"""What leads back to the proxy itself."""

import pytest

from tests.config.loading import Loading


@pytest.mark.parametrize(
    ("listen", "proxy", "is_wrong"),
    [
        ("*:3128", "http://localhost:3128", True),
        ("*:3128", "http://127.0.0.1:3128", True),
        ("*:3128", "http://docker-registry.local:3128", True),
        ("10.1.1.1:3128", "http://10.1.1.1:3128", True),
        ("*:80", "http://localhost", True),
        ("*:443", "https://localhost", True),
        ("10.1.1.1:3128", "http://127.0.0.1:3128", False),
        ("*:3128", "http://127.0.0.1:8080", False),
        ("*:3128", "http://proxy.example.com:3128", False),
    ],
)
def test_the_parent_proxy_is_another(
    loading: Loading, listen: str, proxy: str, *, is_wrong: bool
) -> None:
    text = f"listen: '{listen}'\nupstream: {{proxy: '{proxy}'}}\n"
    if is_wrong:
        expected = (
            "upstream.proxy: expected another proxy: this is the address of this one; without a"
            " parent proxy write `upstream.proxy: none`, or ENTREPOT_UPSTREAM__PROXY=none"
        )
        assert loading.errors(text) == [f"file:2: {expected}"]
        assert loading.errors(None, {"HTTPS_PROXY": proxy}, {"listen": listen}) == [
            f"HTTPS_PROXY: {expected}"
        ]
    else:
        loading.config(text)


OWN = "this is the address of the proxy itself"


@pytest.mark.parametrize(
    ("local", "error"),
    [
        ("upstream: 'http://localhost:3128'", f"upstream[0]: expected the registry behind: {OWN}"),
        (
            "upstream: ['http://b:1', 'https://docker-registry.local']",
            f"upstream[1]: expected the registry behind: {OWN}",
        ),
        (
            "upstream: 'http://b:1', hosts: ['docker-registry.local:3128']",
            (
                "hosts: expected another port: docker-registry.local:3128 is the address of the"
                " proxy itself"
            ),
        ),
    ],
)
def test_a_local_registry_is_elsewhere(loading: Loading, local: str, error: str) -> None:
    text = f"registry_listen: :443\nlocal_registries: {{a.lan: {{anonymous: pull, {local}}}}}"
    assert loading.errors(text) == [f"file:2: local_registries.a.lan.{error}"]


def test_a_local_registry_is_not_named_as_the_proxy_with_its_port(loading: Loading) -> None:
    name = "docker-registry.local:3128"
    local = "{upstream: 'http://b:1', anonymous: pull}"
    assert loading.errors(f"local_registries: {{'{name}': {local}}}") == [
        (
            f"file:1: local_registries.{name}: expected another port: {name} is the address of the"
            " proxy itself"
        )
    ]
    loading.config(f"local_registries: {{docker-registry.local: {local}}}")
