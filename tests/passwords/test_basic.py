import base64

import pytest

from entrepot.passwords.basic import basic_credentials


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize(
    ("data", "credentials"),
    [
        (b"ann:one", ("ann", "one")),
        (b"ann:one:two", ("ann", "one:two")),
        (b"ann:", ("ann", "")),
        (b":one", ("", "one")),
        ("änn:größe".encode(), ("änn", "größe")),
        ("änn:größe".encode("latin-1"), ("änn", "größe")),
    ],
)
@pytest.mark.parametrize("form", ["Basic {}", "basic {}", "BASIC  {} ", " Basic {}"])
def test_user_and_password(data: bytes, form: str, credentials: tuple[str, str]) -> None:
    assert basic_credentials(form.format(encoded(data))) == credentials


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Basic",
        "Basic ",
        "Basic é",
        "Basic YW5uOm9uZ",
        "Basic YW5u!m9uZQ==",
        f"Basic {encoded(b'ann')}",
        f"Bearer {encoded(b'ann:one')}",
        encoded(b"ann:one"),
    ],
)
def test_what_is_none(authorization: str) -> None:
    assert basic_credentials(authorization) is None
