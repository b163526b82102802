"""The files that a session leaves: the report, its schema, the page, the same as Markdown, the charts."""

from pathlib import Path
from typing import Final

import msgspec

from headrace_bench.results import Report, json_schema, to_json

REPORT: Final = "report.json"
SCHEMA: Final = "report.schema.json"
PAGE: Final = "report.html"
MARKDOWN: Final = "report.md"
CHARTS: Final = "charts"


def save_report(report: Report, folder: Path) -> None:
    """The report alone: cheap, and so after every run, whatever comes next."""
    waiting = folder / f"{REPORT}.new"
    waiting.write_bytes(to_json(report))
    waiting.replace(folder / REPORT)


def save(report: Report, folder: Path) -> None:
    """Everything."""
    # Imported here, as drawing takes half a second to import, and runs are short.
    from headrace_bench import charts, markdown, page

    save_report(report, folder)
    (folder / SCHEMA).write_bytes(msgspec.json.format(msgspec.json.encode(json_schema()), indent=1) + b"\n")
    drawn = charts.draw(report)
    charts.write(drawn, folder / CHARTS)
    (folder / PAGE).write_text(page.render(report, drawn), encoding="utf-8")
    pictures = {each.scenario: f"{CHARTS}/{each.name}.png" for each in drawn}
    (folder / MARKDOWN).write_text(f"# headrace bench\n\n{markdown.render(report, pictures)}", encoding="utf-8")
