"""Single values, and what is expected where one is wrong."""

import contextlib
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.config import convert
from entrepot.config.convert import FORMS
from entrepot.config.kinds import FOREVER, Bytes, Expected, Form, ProxyUrl, Seconds, redact_url


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("60", 60),
        ("2.5", 2.5),
        ("500ms", 0.5),
        ("60s", 60),
        ("5m", 300),
        ("1h", 3600),
        ("30d", 30 * 86400),
        ("2w", 14 * 86400),
        ("1y", 365 * 86400),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("1.5h", 5400),
        ("unlimited", math.inf),
        ("Unlimited", math.inf),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert convert.parse_seconds(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["soon", "", "5 minutes", "-1s", "1M", "10d5", "nan", "inf", "101y", "9" * 400, "1e400"],
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(Expected, match="a duration"):
        convert.parse_seconds(text)


@given(st.floats(min_value=0, max_value=3e9) | st.just(math.inf))
def test_durations_survive_a_round_trip(value: float) -> None:
    assert convert.parse_seconds(convert.format_seconds(Seconds(value))) == value


@given(st.integers(min_value=0, max_value=3_000_000_000_000))
def test_milliseconds_survive_a_round_trip(milliseconds: int) -> None:
    text = convert.format_seconds(Seconds(milliseconds / 1000))
    assert text[-1] in "smhd"
    assert convert.parse_seconds(text) == milliseconds / 1000


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1024", 1024),
        ("512b", 512),
        ("10k", 10 << 10),
        ("512m", 512 << 20),
        ("32g", 32 << 30),
        ("32G", 32 << 30),
        ("32GB", 32 << 30),
        ("32 GiB", 32 << 30),
        ("1.5g", 3 << 29),
        ("2t", 2 << 40),
        ("1p", 1 << 50),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert convert.parse_bytes(text) == size


@pytest.mark.parametrize("text", ["lots", "", "-1", "1e9", "32 gigs", "1x", "8192p", "9" * 40])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(Expected, match="a size"):
        convert.parse_bytes(text)


@given(st.integers(min_value=0, max_value=(1 << 63) - 1))
def test_sizes_survive_a_round_trip(value: int) -> None:
    assert convert.parse_bytes(convert.format_bytes(Bytes(value))) == value


@given(st.text(max_size=30))
def test_any_text_is_a_value_or_what_was_expected(text: str) -> None:
    parsers = (
        convert.parse_seconds,
        convert.parse_bytes,
        convert.parse_bool,
        convert.parse_int,
        convert.parse_secret,
        convert.registry_name,
        convert.parse_address,
        *(FORMS[form] for form in FORMS if form not in NOT_TEXT),
    )
    for parse in parsers:
        with contextlib.suppress(Expected):
            parse(text)


NOT_TEXT = {
    Form.READABLE,
    Form.TIMEOUT,
    Form.FINITE,
    Form.POSITIVE,
    Form.COUNT,
    Form.PORT,
    Form.LONG,
}


@pytest.mark.parametrize("text", ["true", "True", "yes", "ON", "1"])
def test_true(text: str) -> None:
    assert convert.parse_bool(text) is True


@pytest.mark.parametrize("text", ["false", "No", "off", "0"])
def test_false(text: str) -> None:
    assert convert.parse_bool(text) is False


def test_neither_true_nor_false() -> None:
    with pytest.raises(Expected, match="true or false"):
        convert.parse_bool("maybe")


@pytest.mark.parametrize("text", ["5.0", "five", "", "1_000", "1" * 20, "٣"])
def test_what_is_no_whole_number(text: str) -> None:
    with pytest.raises(Expected, match="a whole number"):
        convert.parse_int(text)


def test_a_hidden_secret_is_none() -> None:
    with pytest.raises(Expected, match="config show"):
        convert.parse_secret(convert.HIDDEN)


def test_paths_are_relative_to_where_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    base = Path("/etc/entrepot")
    assert convert.parse_path("ca", base) == Path("/etc/entrepot/ca")
    assert convert.parse_path("/srv", base) == Path("/srv")
    assert convert.parse_path("~/x", base) == Path("/home/somebody/x")


@pytest.mark.parametrize(
    ("form", "text", "value"),
    [
        (Form.ADDRESS, "*:3128", "*:3128"),
        (Form.ADDRESS, ":3128", "*:3128"),
        (Form.ADDRESS, "0.0.0.0:3128", "0.0.0.0:3128"),
        (Form.ADDRESS, "[::1]:3128", "[::1]:3128"),
        (Form.ADDRESS, "localhost:0", "localhost:0"),
        (Form.NETWORK, "10.0.0.0/8", "10.0.0.0/8"),
        (Form.NETWORK, "10.1.2.3", "10.1.2.3"),
        (Form.NETWORK, "fc00::/7", "fc00::/7"),
        (Form.HOST, "GitLab.com", "gitlab.com"),
        (Form.HOST_PORT, "Registry:5000", "registry:5000"),
        (Form.HOST_PORT, "ghcr.io", "ghcr.io"),
        (Form.PATTERN, "*.Example.com", "*.example.com"),
        (Form.PATTERN, "192.168.1.1", "192.168.1.1"),
        (Form.ENDPOINT, "https://mirror.example.com/hub/", "https://mirror.example.com/hub"),
        (Form.ENDPOINT, "http://[::1]:5000", "http://[::1]:5000"),
        (Form.PROXY, "proxy:3128", "http://proxy:3128"),
        (Form.PROXY, "http://u:p@proxy:3128/", "http://u:p@proxy:3128"),
        (Form.PROXY, "NONE", "none"),
        (Form.MATCH, "quay.io/*", "quay.io/*"),
        (Form.MATCH, r"/:v\d+$/", r"/:v\d+$/"),
        (Form.REPOSITORY, "team/*", "team/*"),
        (Form.REPOSITORY, "*", "*"),
        (Form.REPOSITORY, "a__b/c-d.e?", "a__b/c-d.e?"),
        (Form.REPOSITORY, "/^team(/|$)/", "/^team(/|$)/"),
        (Form.TAG, "v*", "v*"),
        (Form.TAG, "Release-1.?", "Release-1.?"),
        (Form.USER, "ann@example.com", "ann@example.com"),
        (Form.FURTHER_ADDRESS, "", ""),
        (Form.FURTHER_ADDRESS, ":443", "*:443"),
    ],
)
def test_forms(form: Form, text: str, value: str) -> None:
    assert FORMS[form](text) == value


@pytest.mark.parametrize(
    ("form", "value"),
    [
        (Form.ADDRESS, "3128"),
        (Form.ADDRESS, "*:99999"),
        (Form.ADDRESS, "::1:3128"),
        (Form.ADDRESS, "http://x:3128"),
        (Form.ADDRESS, "256.1.1.1:80"),
        (Form.NETWORK, "10.0.0.1/8"),
        (Form.NETWORK, "everyone"),
        (Form.HOST, "host:80"),
        (Form.HOST, "a b"),
        (Form.HOST_PORT, "host:0"),
        (Form.HOST_PORT, "https://host"),
        (Form.PATTERN, "*"),
        (Form.PATTERN, "a.*.com"),
        (Form.ENDPOINT, "ftp://x"),
        (Form.ENDPOINT, "registry.example.com"),
        (Form.ENDPOINT, "https://u:p@x"),
        (Form.ENDPOINT, "https://x?a=b"),
        (Form.ENDPOINT, "https://x?"),
        (Form.ENDPOINT, "https://x:99999"),
        (Form.ENDPOINT, "https://[::1"),
        (Form.PROXY, "socks5://x:1080"),
        (Form.PROXY, "http://x/path"),
        (Form.PROXY, "http://(hidden)@x"),
        (Form.MATCH, ""),
        (Form.MATCH, "/x"),
        (Form.MATCH, "//"),
        (Form.MATCH, "/[/"),
        (Form.MATCH, "/(?i)x/"),
        (Form.MATCH, "/a)(b/"),
        (Form.REPOSITORY, ""),
        (Form.REPOSITORY, "team/app:v1"),
        (Form.REPOSITORY, "Team/app"),
        (Form.REPOSITORY, "team//app"),
        (Form.REPOSITORY, "team/"),
        (Form.REPOSITORY, "/team/app"),
        (Form.REPOSITORY, "/[/"),
        (Form.TAG, ""),
        (Form.TAG, "app:v1"),
        (Form.TAG, "/v1/"),
        (Form.USER, ""),
        (Form.USER, "ann:b"),
        (Form.FURTHER_ADDRESS, "443"),
        (Form.COUNT, -1),
        (Form.TIMEOUT, 0.0),
        (Form.TIMEOUT, FOREVER),
        (Form.FINITE, FOREVER),
        (Form.POSITIVE, 0),
        (Form.PORT, 0),
        (Form.PORT, 65536),
    ],
)
def test_what_does_not_have_the_form(form: Form, value: object) -> None:
    with pytest.raises(Expected):
        FORMS[form](value)


def test_a_network_with_host_bits_is_put_right() -> None:
    with pytest.raises(Expected, match=r"perhaps 10\.0\.0\.0/8"):
        FORMS[Form.NETWORK]("10.1.2.3/8")


def test_a_readable_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    with pytest.raises(Expected, match=f"{file}: No such file or directory"):
        FORMS[Form.READABLE](file)
    file.write_text("x")
    assert FORMS[Form.READABLE](file) == file
    with pytest.raises(Expected, match="is a directory"):
        FORMS[Form.READABLE](tmp_path)


def test_a_file_that_may_not_be_read_is_not_said_to_be_missing(
    tmp_path: Path, nobody: Callable[[], AbstractContextManager[None]]
) -> None:
    file = tmp_path / "password"
    file.touch(mode=0o600)
    with nobody(), pytest.raises(Expected, match=f"{file}: Permission denied for user nobody"):
        FORMS[Form.READABLE](file)


@pytest.mark.parametrize(
    ("text", "address"),
    [("*:3128", ("", 3128)), ("[::1]:80", ("::1", 80)), ("127.0.0.1:0", ("127.0.0.1", 0))],
)
def test_addresses_are_taken_apart(text: str, address: tuple[str, int]) -> None:
    assert convert.parse_address(text) == address


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("ghcr.io", "ghcr.io"),
        ("GHCR.io", "ghcr.io"),
        ("registry.lan:5000", "registry.lan:5000"),
        ("localhost", "localhost"),
        ("192.168.1.5:5000", "192.168.1.5:5000"),
        ("[::1]:5000", "[::1]:5000"),
        ("*.pkg.dev", "*.pkg.dev"),
        ("docker.io", "docker.io"),
        ("registry-1.docker.io", "docker.io"),
        ("index.docker.io", "docker.io"),
        ("auth.docker.io", "docker.io"),
        ("Docker.io:443", "docker.io"),
    ],
)
def test_registry_names(text: str, name: str) -> None:
    assert convert.registry_name(text) == name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://ghcr.io", "without scheme, path or credentials; write ghcr.io$"),
        ("https://ghcr.io/v2/", "write ghcr.io$"),
        ("ghcr.io/owner", "write ghcr.io$"),
        ("https://me:hunter2@reg.lan:5000/x", "write reg.lan:5000$"),
        ("https:///", "without scheme, path or credentials$"),
        ("*", "host, host:port or"),
        ("*.example.com:5000", "host, host:port or"),
        ("ghcr.*", "host, host:port or"),
        ("a b", "host, host:port or"),
        ("", "host, host:port or"),
        ("host:0", "host, host:port or"),
    ],
)
def test_what_is_no_registry_name(text: str, expected: str) -> None:
    with pytest.raises(Expected, match=expected) as caught:
        convert.registry_name(text)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://proxy:80", "http://proxy:80"),
        ("http://me:hunter2@proxy:80", "http://(hidden)@proxy:80"),
        ("http://me:a@b://c@proxy", "http://(hidden)@proxy"),
        ("me:hunter2@proxy", "(hidden)@proxy"),
        ("", ""),
    ],
)
def test_credentials_of_a_url_are_not_shown(url: str, shown: str) -> None:
    assert redact_url(url) == shown
    assert repr(ProxyUrl(url)) == repr(shown)
