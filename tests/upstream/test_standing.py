import pytest

from entrepot.upstream.standing import RateLimit, Rest, parse_rate_limit, parse_retry_after

NOW = 1_700_000_000.0


def test_a_pause_doubles_up_to_the_longest() -> None:
    rest, now, pauses = Rest(30), NOW, []
    for _ in range(6):
        rest.failed(now)
        start = now
        while rest.is_resting(now):
            now += 1
        pauses.append(now - start)
    assert pauses == [2, 4, 8, 16, 30, 30]


def test_failures_of_one_herd_count_once() -> None:
    rest = Rest(30)
    for _ in range(100):
        rest.failed(NOW)
    assert not rest.is_resting(NOW + 2)


def test_an_answer_ends_the_rest() -> None:
    rest = Rest(30)
    rest.failed(NOW)
    rest.answered()
    assert not rest.is_resting(NOW)
    assert not rest.has_failed


def test_one_request_probes_while_the_others_wait() -> None:
    rest = Rest(30)
    rest.failed(NOW)
    rest.begin(NOW + 3, longest_s=10)
    assert rest.is_resting(NOW + 4)
    assert not rest.is_resting(NOW + 14)  # the probe never came back
    rest.failed(NOW + 4)
    assert rest.is_resting(NOW + 7)


def test_a_request_to_what_is_well_is_no_probe() -> None:
    rest = Rest(30)
    rest.begin(NOW, longest_s=10)
    assert not rest.is_resting(NOW)


def test_thousands_of_failures_overflow_nothing() -> None:
    rest, now = Rest(float("inf")), NOW
    for _ in range(2000):
        rest.failed(now)
        now += 2.0**40
    assert not rest.is_resting(now)


def test_docker_hubs_quota() -> None:
    headers = {
        "ratelimit-limit": "100;w=21600",
        "ratelimit-remaining": "76;w=21600",
        "docker-ratelimit-source": "192.0.2.1",
    }
    assert parse_rate_limit(headers, NOW) == RateLimit(100, 76, 21600, "192.0.2.1", NOW)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"ratelimit-limit": "100"},
        {"ratelimit-limit": "x", "ratelimit-remaining": "1"},
        {"ratelimit-limit": "9" * 5000, "ratelimit-remaining": "1"},
        {"ratelimit-limit": "-1", "ratelimit-remaining": "1"},
    ],
)
def test_what_is_no_quota_is_none(headers: dict[str, str]) -> None:
    assert parse_rate_limit(headers, NOW) is None


def test_a_quota_without_a_window() -> None:
    found = parse_rate_limit({"ratelimit-limit": "5", "ratelimit-remaining": "0"}, NOW)
    assert found == RateLimit(5, 0, 0, "", NOW)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("Tue, 14 Nov 2023 22:14:20 GMT", 60.0),
        ("Tue, 14 Nov 2000 22:14:20 GMT", 0.0),
        ("-5", None),
        ("soon", None),
        ("", None),
        (None, None),
        ("9" * 5000, None),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header, NOW) == seconds
