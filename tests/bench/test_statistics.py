"""What is computed from runs."""

import pytest

from headrace_bench import calibration
from headrace_bench.statistics import percentile, percentiles, ratio_to_bare, spread

from .conftest import measured, report_of, run


def test_a_figure_is_the_median_of_its_runs_with_the_lowest_and_the_highest() -> None:
    found = spread(measured("river", run(5), run(1), run(3)), "rate")
    assert found is not None
    assert (found.median, found.low, found.high, found.runs) == (3, 1, 5, 3)


def test_disturbed_runs_are_left_out_where_there_are_others() -> None:
    found = spread(measured("river", run(5), run(1, disturbed=True)), "rate")
    assert found is not None
    assert (found.median, found.runs, found.disturbed) == (5, 1, 1)
    alone = spread(measured("river", run(1, disturbed=True)), "rate")
    assert alone is not None
    assert (alone.median, alone.runs) == (1, 1)


def test_a_run_without_a_figure_is_no_zero() -> None:
    failed = run(0, error="it broke")
    failed.figures.clear()
    assert spread(measured("river", failed), "rate") is None
    found = spread(measured("river", failed, run(4)), "rate")
    assert found is not None
    assert found.median == 4


def test_ratios_are_taken_within_a_round_and_to_the_bare_clients_best_way() -> None:
    ours = measured("river", run(50, 0), run(10, 1), run(30, 2), body=100, handler="async")
    slow = measured("river, bare", run(1, 0), run(1, 1), run(1, 2), body=100, acks="each")
    fast = measured("river, bare", run(100, 0), run(20, 1), run(300, 2), body=100, acks="batch")
    other = measured("river, bare", run(1e9, 0), body=10_000, acks="batch")
    report = report_of(ours, slow, fast, other)
    assert ratio_to_bare(report, ours, "rate") == 0.5
    assert ratio_to_bare(report, fast, "rate") is None


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(each) for each in range(1, 101)]
    assert (percentile(values, 50), percentile(values, 99), percentile(values, 100)) == (50, 99, 100)
    assert dict(percentiles([7.0, 3.0]))[50.0] == 3.0
    assert percentiles([]) == []


def test_a_run_beside_a_slow_calibration_counts_as_disturbed() -> None:
    quiet, loud = run(1, calibration=0.011), run(1, calibration=0.02)
    judged = calibration.judge([quiet, loud], [0.01, 0.011, 0.02])
    assert judged is not None
    assert judged.reference == pytest.approx(0.01)
    assert (quiet.disturbed, loud.disturbed) == (False, True)
