import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.config.model import Log
from entrepot.observability.journal import (
    ConsoleFormatter,
    JsonFormatter,
    log_exchange,
    set_up_logging,
)
from tests.observability.exchanges import exchange

# Ends a line, or moves a terminal's cursor, for one reader of logs or another.
NASTY = "\n\r\t\x00\x1b[2J\x7f\x85\u2028\u2029\u202e"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Logging is the process's."""
    root = logging.getLogger()
    names = ("mitmproxy", "aiohttp", "asyncio")
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in names}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, known in levels.items():
        logging.getLogger(name).setLevel(known)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def log_to(stream: io.StringIO, **settings: Any) -> io.StringIO:
    set_up_logging(Log(**settings), stream)
    return stream


def fields_of(**about: Any) -> dict[str, Any]:
    stream = log_to(io.StringIO(), format="json", level="debug")
    log_exchange(exchange(**about))
    (line,) = stream.getvalue().splitlines()
    fields: dict[str, Any] = json.loads(line)
    return fields


def sentence_of(**about: Any) -> str:
    stream = log_to(io.StringIO(), format="console", level="debug")
    log_exchange(exchange(**about))
    return stream.getvalue()


class TestJson:
    def test_one_object_a_line(self) -> None:
        fields = fields_of(upstream_s=0.12345, headers={"User-Agent": "docker/28"})
        assert fields.pop("time").endswith("Z")
        assert fields == {
            "level": "info",
            "logger": "entrepot.access",
            "client": "192.0.2.7",
            "method": "GET",
            "registry": "registry.test",
            "kind": "manifest",
            "repository": "app",
            "reference": "1.0",
            "status": 200,
            "cache": "hit",
            "bytes": 1234,
            "seconds": 0.25,
            "upstream_seconds": 0.1235,
            "whole": True,
            "agent": "docker/28",
        }

    def test_a_user_is_named(self) -> None:
        assert fields_of(user="alice")["user"] == "alice"

    def test_what_has_no_repository_is_named_by_its_path(self) -> None:
        fields = fields_of(path="/entrepot/token", repository="", query="account=alice")
        assert fields["path"] == "/entrepot/token"

    def test_what_went_wrong(self) -> None:
        fields = fields_of(status=504, error="nobody answers", is_whole=False)
        assert (fields["level"], fields["error"], fields["whole"]) == (
            "warning",
            "nobody answers",
            False,
        )

    @given(st.text() | st.just(NASTY))
    def test_nothing_forges_a_line(self, text: str) -> None:
        record = logging.LogRecord("x", logging.INFO, "", 0, "%s", (text,), None)
        line = JsonFormatter().format(record)
        assert len(line.splitlines()) == 1
        assert line.isascii()
        assert json.loads(line)["message"] == text

    def test_exceptions_are_within(self) -> None:
        line = JsonFormatter().format(_failure("with\nlines"))
        assert len(line.splitlines()) == 1
        assert "ValueError: with\nlines" in json.loads(line)["exception"]


def _failure(message: str) -> logging.LogRecord:
    error = ValueError(message)
    raised = (ValueError, error, None)
    return logging.LogRecord("x", logging.ERROR, "", 0, "it failed", (), raised)


class TestConsole:
    def test_a_sentence_a_line(self) -> None:
        text = sentence_of(upstream_s=0.5)
        assert text.endswith(
            " info    192.0.2.7 GET registry.test/app:1.0 200 hit 1.2kB 0.250s upstream 0.500s\n"
        )

    def test_a_user_is_named(self) -> None:
        assert " alice@192.0.2.7 GET registry.test/app:1.0 " in sentence_of(user="alice")

    def test_digests_are_shortened(self) -> None:
        assert "registry.test/app@sha256:0123456789ab 200" in sentence_of(
            reference="sha256:0123456789abcdef"
        )

    @pytest.mark.parametrize(
        ("registry", "shown"), [("registry.test", "registry.test/v2/"), ("", " /v2/ ")]
    )
    def test_without_a_repository(self, registry: str, shown: str) -> None:
        assert shown in sentence_of(path="/v2/", repository="", registry=registry)

    def test_what_went_wrong(self) -> None:
        text = sentence_of(is_whole=False, error="it broke", cache="")
        assert " warning " in text
        assert " - " in text
        assert text.endswith(" broken off: it broke\n")

    @pytest.mark.parametrize(
        ("sent", "shown"),
        [(0, "0B"), (999, "999B"), (1000, "1.0kB"), (5_500_000, "5.5MB"), (10**13, "10000.0GB")],
    )
    def test_sizes(self, sent: int, shown: str) -> None:
        assert f" {shown} " in sentence_of(sent=sent)

    @given(st.text() | st.just(NASTY))
    def test_nothing_forges_a_line_or_moves_the_cursor(self, text: str) -> None:
        record = logging.LogRecord("x", logging.INFO, "", 0, "%s", (text,), None)
        line = ConsoleFormatter().format(record)
        assert len(line.splitlines()) == 1
        assert line.isprintable()

    def test_exceptions_are_indented_and_forge_none(self) -> None:
        message = f"first{NASTY}12:00:00 info forged"
        head, *rest = ConsoleFormatter().format(_failure(message)).split("\n")
        assert head.endswith("error   it failed")
        assert all(line.startswith("    ") and line.isprintable() for line in rest)
        assert "ValueError: first" in "\n".join(rest)


class TestSecrets:
    @pytest.mark.parametrize("form", ["json", "console"])
    @pytest.mark.parametrize("repository", ["app", ""])
    def test_neither_queries_nor_headers_are_told(self, form: str, repository: str) -> None:
        stream = log_to(io.StringIO(), format=form, level="debug")
        log_exchange(
            exchange(
                path="/token",
                query="password=s3cr3t",
                headers={"Authorization": "Bearer s3cr3t", "Cookie": "s3cr3t"},
                repository=repository,
            )
        )
        assert stream.getvalue()
        assert "s3cr3t" not in stream.getvalue()


class TestSettingUp:
    @pytest.mark.parametrize(
        ("form", "stream", "is_json"),
        [
            ("auto", io.StringIO(), True),
            ("auto", Terminal(), False),
            ("json", Terminal(), True),
            ("console", io.StringIO(), False),
        ],
    )
    def test_the_form_follows_the_stream(
        self, form: str, stream: io.StringIO, *, is_json: bool
    ) -> None:
        log_to(stream, format=form)
        logging.getLogger("entrepot").info("hello")
        assert stream.getvalue().startswith("{") == is_json

    def test_again_replaces_what_was(self) -> None:
        first, second = log_to(io.StringIO()), log_to(io.StringIO(), level="error")
        logging.getLogger("entrepot").warning("hello")
        logging.getLogger("entrepot").error("ouch")
        assert first.getvalue() == ""
        assert len(second.getvalue().splitlines()) == 1

    def test_own_pages_are_for_debugging(self) -> None:
        page = exchange(kind="page", registry="", repository="", path="/metrics", cache="")
        stream = log_to(io.StringIO())
        log_exchange(page)
        assert stream.getvalue() == ""
        log_to(stream, level="debug")
        log_exchange(page)
        assert "/metrics" in stream.getvalue()

    @pytest.mark.parametrize(
        ("level", "name", "heard"),
        [
            ("info", "mitmproxy.proxy", "error"),
            ("debug", "mitmproxy.proxy", "debug"),
            ("info", "asyncio", "warning"),
            ("error", "asyncio", "error"),
            ("info", "entrepot", "info"),
        ],
    )
    def test_libraries_are_quieter(self, level: str, name: str, heard: str) -> None:
        log_to(io.StringIO(), level=level)
        logger = logging.getLogger(name)
        number = logging.getLevelNamesMapping()[heard.upper()]
        assert logger.isEnabledFor(number)
        assert not logger.isEnabledFor(number - 10)
