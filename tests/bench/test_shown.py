"""What is made of a report: tables, charts, the page."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from headrace_bench import charts, page, saving, tables
from headrace_bench.choosing import answer
from headrace_bench.results import Question, Report, Run, Skip

from .conftest import measured, report_of, run


def full_report() -> Report:
    """One with everything that is drawn, and with what went wrong."""
    lost = Run(round=0, lost=7, jobs=100, error="of 100 jobs 7 never ran")
    curve = [(50.0, 1.0), (99.0, 4.0), (100.0, 9.0)]
    latency = Run(round=0, figures={"p50": 1.0, "p99": 4.0, "held": 99.9}, percentiles=curve)
    return report_of(
        measured("river", run(100, 0), run(120, 1), body=100, concurrency=10),
        measured("river", lost, body=100, concurrency=1),
        measured("river, bare", run(300, 0), run(330, 1), body=100, acks="batch"),
        measured("river", latency, scenario="latency", rate=100),
        measured("river", Run(round=0, figures={"cost": 20.0}), scenario="backlog", backlog=1000),
        measured("river", Run(round=0, figures={"cost": 25.0}), scenario="backlog", backlog=100_000),
        skipped=[Skip(scenario="kill", participant="river", reason="its jobs end with the process")],
    )


def texts(table: tables.Table) -> list[str]:
    return [" | ".join(each.text for each in row) for row in table.rows]


def test_what_lost_a_job_shows_that_in_place_of_a_figure() -> None:
    consume, *_ = tables.of_scenarios(full_report())
    assert any("1 at once, 100 B | LOST 7" in row for row in texts(consume))


def test_a_row_has_the_median_the_range_and_the_share_of_the_bare_client() -> None:
    consume, *_ = tables.of_scenarios(full_report())
    assert "river | 10 at once, 100 B | 110 | 100 to 120 | 0.35 | " in texts(consume)


def test_every_chart_is_made_in_both_forms(tmp_path: Path) -> None:
    drawn = charts.draw(full_report())
    assert [each.name for each in drawn] == ["consume", "latency", "backlog"]
    charts.write(drawn, tmp_path / "charts")
    for each in drawn:
        assert (tmp_path / "charts" / f"{each.name}.png").read_bytes().startswith(b"\x89PNG")
        assert ElementTree.fromstring((tmp_path / "charts" / f"{each.name}.svg").read_bytes()).tag.endswith("svg")


def test_one_report_makes_one_chart() -> None:
    report = full_report()
    assert [each.png for each in charts.draw(report)] == [each.png for each in charts.draw(report)]


def test_a_report_without_any_figure_has_no_charts_and_is_still_a_page() -> None:
    report = report_of()
    assert charts.draw(report) == []
    assert "headrace bench" in page.render(report, [])


def test_the_page_needs_nothing_else_and_shows_the_guarantee_beside_the_name() -> None:
    report = full_report()
    text = page.render(report, charts.draw(report))
    assert '<td class="text">river</td><td class="text">at least once</td>' in text
    assert "LOST 7" in text
    assert text.count("data:image/svg+xml;base64,") == 3
    assert "http://" not in text
    assert "https://" not in text


def test_the_page_escapes_what_comes_from_outside() -> None:
    assert "a &lt;processor&gt;" in page.render(full_report(), [])


def test_a_page_of_an_incomplete_report_says_so() -> None:
    report = full_report()
    report.complete, report.ended = False, "interrupted"
    assert "Incomplete: interrupted" in page.render(report, [])


def test_everything_is_saved_in_one_folder(tmp_path: Path) -> None:
    saving.save(full_report(), tmp_path)
    names = {str(each.relative_to(tmp_path)) for each in tmp_path.rglob("*") if each.is_file()}
    assert {"report.json", "report.html", "report.schema.json", "charts/consume.svg"} <= names


def test_who_chooses_is_told_whether_the_rate_is_held_and_what_a_kill_leaves() -> None:
    (row,) = texts(answer(full_report(), Question(rate=10, body=100)))
    assert row.startswith("river | yes | ")
    assert "its jobs end with the process" in row
    assert row.endswith("keep order")
