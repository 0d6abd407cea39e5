import pytest

from entrepot.interception.first_head import (
    authority,
    in_origin_form,
    is_proxied,
    proxy_authorization,
    single,
)


@pytest.mark.parametrize(
    ("text", "default", "expected"),
    [
        ("Registry.TEST:443", None, ("registry.test", 443)),
        ("registry.test.", 80, ("registry.test", 80)),
        ("[2001:DB8::1]:5000", None, ("2001:db8::1", 5000)),
        ("registry.test", None, None),
        ("user@registry.test:443", None, None),
        ("registry.test:99999", None, None),
        ("régistry.test:443", None, None),
    ],
)
def test_where_to(text: str, default: int | None, expected: tuple[str, int] | None) -> None:
    assert authority(text, default) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"CONNECT registry.test:443 HTTP/1.1", True),
        (b"CONNECT /x HTTP/1.1", True),
        (b"GET http://registry.test/ HTTP/1.1", True),
        (b"OPTIONS * HTTP/1.1", True),
        (b"GET  /two-spaces HTTP/1.1", True),
        (b"", True),
        (b"GET / HTTP/1.1", False),
        (b"GET //registry.test/ HTTP/1.1", False),
    ],
)
def test_whether_a_password_is_asked_for(line: bytes, *, expected: bool) -> None:
    """What cannot be read counts as what leads elsewhere."""
    assert is_proxied(line) is expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            b"Host: x\r\nPROXY-authorization:Basic one\r\nProxy-Authorization: Basic two",
            "Basic one",
        ),
        (b"Authorization: Basic one", ""),
        (b"X: Proxy-Authorization: Basic one", ""),
        (b"", ""),
    ],
)
def test_what_is_brought_for_the_proxy(fields: bytes, expected: str) -> None:
    assert proxy_authorization(fields).strip() == expected


def test_what_was_said_to_the_proxy_is_not_passed_on() -> None:
    data = (
        b"GET http://other.test/a#b HTTP/1.1\r\nproxy-AUTHORIZATION: Basic one\r\nHost: x\r\n"
        b"Authorization: Basic two\r\n\r\nbody"
    )
    assert in_origin_form(single(data, "other.test")) == (
        b"GET /a HTTP/1.1\r\nHost: other.test\r\nAuthorization: Basic two\r\n"
        b"Connection: close\r\n\r\nbody"
    )
