import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.oci.challenge import Challenge, parse_challenges


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (
            'Bearer realm="https://auth.docker.io/token",service="registry.docker.io"',
            [
                Challenge(
                    "bearer",
                    {"realm": "https://auth.docker.io/token", "service": "registry.docker.io"},
                )
            ],
        ),
        ('Basic realm="a \\"b\\" c"', [Challenge("basic", {"realm": 'a "b" c'})]),
        ("Basic", [Challenge("basic")]),
        (
            'Basic realm="x", Bearer realm=y , scope="a b"',
            [
                Challenge("basic", {"realm": "x"}),
                Challenge("bearer", {"realm": "y", "scope": "a b"}),
            ],
        ),
        ("", []),
        ("=garbage", []),
    ],
)  # fmt: skip
def test_challenges(header: str, expected: list[Challenge]) -> None:
    assert list(parse_challenges(header)) == expected


_VALUES = st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S"]))
_NAMES = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)


@given(
    _NAMES,
    st.dictionaries(_NAMES, st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S"]))),
)
def test_what_is_printed_is_parsed(scheme: str, parameters: dict[str, str]) -> None:
    challenge = Challenge(scheme, parameters)
    assert parse_challenges(str(challenge)) == (challenge,)


@given(st.text())
def test_no_header_breaks_it(header: str) -> None:
    parse_challenges(header)
