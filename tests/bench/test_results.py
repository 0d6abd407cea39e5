"""Statistics, targets and their rendering, of figures that are made up."""

import pytest

from bench.document import BEGIN, END, NoMarkersError, filled
from bench.results import RATE, SECONDS, Place, Results, Series, Sheet, from_rows
from bench.tables import markdown, number, text
from bench.targets import TARGETS, Target, median, quotient, to_peer, verdicts
from bench.workloads.catalogue import WORKLOADS
from bench.workloads.workload import rounds


def some_results() -> Results:
    results = Results()
    sheet = Sheet(results, "W1")
    for value in (1200, 1000, 1100):
        sheet.add("one stream", "entrepot", RATE, value)
    for value in (900, 1000, 1100):
        sheet.add("one stream", "nginx", RATE, value)
    return results


def test_a_series_has_a_median_and_a_spread() -> None:
    series = Series((3.0, 1.0, 10.0))
    assert (series.median, series.low, series.high) == (3.0, 1.0, 10.0)


def test_targets_are_judged_by_medians() -> None:
    judged = {each.target.says: each for each in verdicts(some_results())}
    assert judged["rate >= 1.1 x nginx"].value == pytest.approx(1.1)
    assert judged["rate >= 1.1 x nginx"].word == "met"


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    judged = {each.target.says: each for each in verdicts(some_results())}
    assert judged["rate >= 3 x Squid"].word == "not measured"


def test_targets_of_workloads_that_were_not_run_are_left_out() -> None:
    assert {each.target.workload for each in verdicts(some_results())} == {"W1"}


@pytest.mark.parametrize(
    ("value", "is_met"), [(0.9, False), (1.0, True), (2.0, True), (2.1, False)]
)
def test_bounds_belong_to_what_is_met(value: float, *, is_met: bool) -> None:
    target = Target("W1", "", median("W1", "", RATE), least=1.0, most=2.0)
    assert target.is_met_by(value) is is_met


def test_a_quotient_by_nothing_is_not_measured() -> None:
    results = Results()
    results.add(Place("W1", "", SECONDS.name, "entrepot"), 1)
    results.add(Place("W1", "", SECONDS.name, "direct"), 0)
    assert to_peer("W1", "", SECONDS, "direct")(results) is None
    assert quotient(median("W1", "", SECONDS), median("W1", "", RATE))(results) is None


def test_every_workload_has_targets_and_every_target_a_workload() -> None:
    assert {target.workload for target in TARGETS} == set(WORKLOADS)


def test_results_survive_json() -> None:
    results = some_results()
    assert from_rows(results.rows()).groups() == results.groups()


def test_the_table_tells_median_spread_and_ratio() -> None:
    lines = text(some_results(), []).splitlines()
    (nginx,) = (line for line in lines if "nginx" in line)
    assert nginx.split() == ["nginx", "1,000", "900", "-", "1,100", "1.10"]


def test_markdown_tells_what_was_left_out() -> None:
    results = some_results()
    results.notes.append("W6 was left out: no skopeo")
    said = markdown(results, verdicts(results))
    assert said.endswith("- W6 was left out: no skopeo")
    assert "| W1 | rate >= 1.1 x nginx | 1.10 | met |" in said


@pytest.mark.parametrize(
    ("value", "shown"), [(0.114, "0.11"), (12.34, "12.3"), (123.4, "123"), (12345.6, "12,346")]
)
def test_numbers_show_what_counts(value: float, shown: str) -> None:
    assert number(value) == shown


def test_the_document_keeps_what_is_around_the_markers() -> None:
    document = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    new = filled(document, "new")
    assert new == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    assert filled(new, "new") == new


@pytest.mark.parametrize("document", ["", BEGIN, END + BEGIN])
def test_a_document_without_markers_is_not_written(document: str) -> None:
    with pytest.raises(NoMarkersError):
        filled(document, "new")


def test_who_begins_a_round_changes() -> None:
    assert list(rounds(3, "ab")) == ["a", "b", "b", "a", "a", "b"]
