"""What has changed from one report to another."""

from headrace_bench.compare import Change, compare
from headrace_bench.results import Measurement, Run

from .conftest import measured, report_of, run


def river(*rates: float) -> Measurement:
    return measured("river", *(run(rate, number) for number, rate in enumerate(rates)), body=100)


def changes(old: Measurement, new: Measurement | None) -> list[tuple[str, bool]]:
    found: list[Change] = compare(report_of(old), report_of(*([new] if new else [])))
    return [(each.verdict, each.is_loss) for each in found]


def test_a_median_that_fell_out_of_the_old_range_is_a_loss() -> None:
    assert changes(river(100, 105, 110), river(60, 65, 70)) == [("worse", True)]


def test_a_median_that_rose_out_of_the_old_range_is_told_and_no_loss() -> None:
    assert changes(river(100, 105, 110), river(160, 165, 170)) == [("better", False)]


def test_what_overlaps_has_not_changed() -> None:
    assert changes(river(80, 105, 110), river(70, 75, 81)) == []


def test_a_small_step_beside_narrow_ranges_has_not_changed() -> None:
    assert changes(river(100, 100.1, 100.2), river(95, 95.1, 95.2)) == []


def test_one_run_each_must_differ_by_more() -> None:
    assert changes(river(100), river(80)) == []
    assert changes(river(100), river(60)) == [("worse", True)]


def test_less_is_better_where_the_figure_says_so() -> None:
    def latencies(*figures: float) -> Measurement:
        runs = [Run(round=number, figures={"p50": each, "p99": 9.0}) for number, each in enumerate(figures)]
        return measured("river", *runs, scenario="latency")

    assert changes(latencies(1, 1.1, 1.2), latencies(2, 2.1, 2.2)) == [("worse", True)]
    assert changes(latencies(2, 2.1, 2.2), latencies(1, 1.1, 1.2)) == [("better", False)]


def test_a_job_that_is_lost_now_is_a_loss_whatever_the_figures() -> None:
    lost = river(200, 210, 220)
    lost.runs.append(Run(round=3, lost=2, jobs=100))
    assert changes(river(100, 105, 110), lost) == [("lost", True)]


def test_a_figure_that_none_of_the_runs_has_any_more_is_a_loss() -> None:
    broken = river()
    broken.runs.append(Run(round=0, error="it broke"))
    assert changes(river(100, 105, 110), broken) == [("lost", True)]


def test_what_was_not_measured_again_is_told_and_no_loss() -> None:
    assert changes(river(100, 105, 110), None) == [("gone", False)]
