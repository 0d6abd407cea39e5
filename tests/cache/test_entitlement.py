import pytest

from entrepot.cache.entitlement import Standing, standing
from entrepot.cache.record import Verdict
from entrepot.config.kinds import Seconds
from entrepot.config.model import Auth

SETTINGS = Auth(verdict_ttl=Seconds(300), offline_grace=Seconds(1000))


@pytest.mark.parametrize(
    ("age", "expected"),
    [(0, Standing.FRESH), (299, Standing.FRESH), (300, Standing.AGED), (1299, Standing.AGED),
     (1300, Standing.UNKNOWN), (-1, Standing.AGED)],
)  # fmt: skip
def test_a_word_ages(age: float, expected: Standing) -> None:
    assert standing(Verdict(10_000 - age), SETTINGS, 10_000) is expected


def test_no_word_is_no_right() -> None:
    assert standing(None, SETTINGS, 10_000) is Standing.UNKNOWN
