"""Bars say how much better, whichever way a metric goes."""

from xml.etree import ElementTree as ET

import pytest

from bench.chart import bars, svg
from bench.results import RATE, SECONDS, Metric, Results, Sheet


@pytest.mark.parametrize(("metric", "advantage"), [(RATE, 2.0), (SECONDS, 0.5)])
def test_more_is_not_always_better(metric: Metric, advantage: float) -> None:
    results = Results()
    sheet = Sheet(results, "W4")
    sheet.add("unlimited", "entrepot", metric, 20)
    sheet.add("unlimited", "nginx", metric, 10)
    (bar,) = bars(results)
    assert bar.advantage == pytest.approx(advantage)


def test_what_nobody_else_was_measured_in_has_no_bar() -> None:
    results = Results()
    Sheet(results, "W9").add("1,000 objects", "entrepot", SECONDS, 1)
    assert bars(results) == []


def test_the_chart_is_xml_whatever_names_hold() -> None:
    results = Results()
    sheet = Sheet(results, "W1")
    sheet.add("<&>", "entrepot", RATE, 1e9)
    sheet.add("<&>", "nginx", RATE, 1)
    assert any("<&>" in (each.text or "") for each in ET.fromstring(svg(bars(results))))
