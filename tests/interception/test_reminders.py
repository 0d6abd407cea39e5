from entrepot.interception.reminders import Reminders
from tests.support.clock import ManualClock


def test_each_client_once_in_a_while() -> None:
    clock = ManualClock()
    reminders = Reminders(clock.now)
    assert reminders.is_due("192.0.2.7")
    assert reminders.is_due("192.0.2.8")
    clock.advance(299)
    assert not reminders.is_due("192.0.2.7")
    clock.advance(1)
    assert reminders.is_due("192.0.2.7")


def test_it_forgets_who_was_told_longest_ago() -> None:
    clock = ManualClock()
    reminders = Reminders(clock.now)
    for number in range(1001):
        assert reminders.is_due(str(number))
    assert not reminders.is_due("1")
    assert reminders.is_due("0")
