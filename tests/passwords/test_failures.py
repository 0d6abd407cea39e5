import pytest

from entrepot.passwords.failures import FailureLog
from tests.support.clock import ManualClock

PEER = "192.0.2.7"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def log(clock: ManualClock) -> FailureLog:
    return FailureLog(clock.now)


def test_each_is_a_warning_with_address_and_name(
    log: FailureLog, caplog: pytest.LogCaptureFixture
) -> None:
    log.wrong(PEER, "ann", 3)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.message == (
        "login failed: client 192.0.2.7, user 'ann': wrong user name or password, 3 from there"
        " so far"
    )


@pytest.mark.parametrize(
    ("user", "shown"),
    [
        ("änn", "'änn'"),
        ("", "''"),
        ("a\r\nlogin failed: client x", r"'a\r\nlogin failed: client x'"),
        ("\x1b[2J\u202e\ud800", r"'\x1b[2J\u202e\ud800'"),
        ("', client 10.0.0.1", '"\', client 10.0.0.1"'),
        ("x" * 64, f"'{'x' * 64}'"),
        ("x" * 65, f"'{'x' * 64}…'"),
    ],
)
def test_whatever_a_name_holds_it_is_one_line(
    log: FailureLog, user: str, shown: str, caplog: pytest.LogCaptureFixture
) -> None:
    log.wrong(PEER, user, 1)
    (record,) = caplog.records
    assert f"client {PEER}, user {shown}: wrong" in record.message
    record.message.encode()


def test_of_a_flood_the_rest_is_summed_up(
    log: FailureLog, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(100):
        log.wrong(PEER, "ann", number)
    for _ in range(7):
        log.refused()
    assert len(caplog.records) == 60
    caplog.clear()
    clock.advance(60)
    log.wrong(PEER, "ann", 101)
    assert [record.message.split(",")[0] for record in caplog.records] == [
        "logins failed besides: 40 with a wrong user name or password",
        f"login failed: client {PEER}",
    ]
    assert "and 7 that were refused unheard" in caplog.records[0].message


def test_without_a_flood_there_is_no_sum(
    log: FailureLog, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(100):
        log.wrong(PEER, "ann", number)
        clock.advance(10)
    assert len(caplog.records) == 100
