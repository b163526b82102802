"""A report's document: what it holds comes back, and what is none is refused."""

from pathlib import Path

import msgspec
import pytest

from headrace_bench.results import SCHEMA, Report, UnreadableReport, from_json, json_schema, read, to_json

from .conftest import measured, report_of, run


def test_a_report_comes_back_from_its_document_as_it_was() -> None:
    report = report_of(measured("river", run(1.5, percentiles=[(50.0, 1.0)]), body=100, handler="async"))
    assert from_json(to_json(report)) == report


def test_the_document_of_another_version_is_refused_naming_both() -> None:
    document = to_json(report_of()).replace(b'"schema": 1', b'"schema": 99')
    with pytest.raises(UnreadableReport, match=f"version 99 .* reads {SCHEMA}"):
        from_json(document)


@pytest.mark.parametrize("document", [b"", b"[]", b"{}", b'{"schema": 1}', b"\xff"])
def test_what_is_no_report_is_refused_in_words(document: bytes, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(document)
    with pytest.raises(UnreadableReport, match=r"report\.json: it is no report"):
        read(path)


def test_the_schema_names_every_field_of_a_report() -> None:
    properties = json_schema()["$defs"]["Report"]["properties"]
    assert set(properties) == {each.name for each in msgspec.structs.fields(Report)}
