"""``headrace conform``: what it prints, what it writes, and how it ends. What the cases prove is not its business."""

import json
from pathlib import Path

import msgspec

from headrace.conformance.report import Report

from .conftest import Shop

FEW = ("--case", "a_pushed_message_comes_back_as_it_was_sent", "--case", "identical_messages_are_separate_messages")


def test_a_backend_that_keeps_the_contract_conforms(shop: Shop) -> None:
    done = shop.run("conform", "memory", *FEW)
    assert "at least once" in done.stdout
    assert "memory keeps what the chosen cases ask: 2 passed, 0 failed, 0 skipped" in done.stdout
    assert "timed leases  untested" in done.stdout


def test_its_report_is_written_as_json_and_as_markdown(shop: Shop) -> None:
    shop.run("conform", "sqlite", *FEW, "--json", "report.json", "--markdown", "report.md")
    report = msgspec.json.decode((shop.folder / "report.json").read_bytes(), type=Report)
    assert (report.schema, report.backend, report.score.passed, report.conforms) == (1, "sqlite", 2, True)
    assert {each.case for each in report.cases} == {FEW[1], FEW[3]}
    assert "sqlite" in report.versions
    assert "| at least once | 1 | 0 | 0 |" in (shop.folder / "report.md").read_text()


def test_it_uses_the_given_options_and_no_others(shop: Shop) -> None:
    shop.configure('[backends.sqlite]\npath = "configured.db"\n')
    shop.run("conform", "sqlite", *FEW, "--option", f"path={shop.folder / 'given.db'}")
    assert (shop.folder / "given.db").exists()
    assert not (shop.folder / "configured.db").exists()


def test_it_leaves_nothing_in_a_place_that_others_use(shop: Shop) -> None:
    path = shop.folder / "headrace.db"
    shop.run("push", "Send", '{"user_id": 1}')
    shop.run("conform", "sqlite", *FEW, "--option", f"path={path}")
    mail = next(each for each in json.loads(shop.run("info", "--json").stdout) if each["queue"] == "mail")
    assert mail["waiting"] == 1
    assert not list(Path(shop.environment["TMPDIR"]).iterdir())


def test_what_cannot_be_reached_fails_case_by_case_with_its_reason(shop: Shop) -> None:
    done = shop.run("conform", "sqlite", *FEW, "--option", "path=missing/folder/jobs.db", status=1)
    assert "FAILED a_pushed_message_comes_back_as_it_was_sent" in done.stdout
    assert "there is no folder" in done.stdout
    assert "sqlite does NOT conform: 0 passed, 2 failed, 0 skipped" in done.stdout


def test_a_wrong_backend_option_or_case_is_refused_in_words(shop: Shop) -> None:
    for arguments, words in (
        (("squlite",), "did you mean 'sqlite'?"),
        (("sqlite", "--option", "pat=x"), "did you mean 'path'?"),
        (("sqlite", "--option", "path"), "is not KEY=VALUE"),
        (("sqlite", "--case", "no_such_case"), "no case is named no_such_case"),
        (("sqlite", "--json", "missing/report.json"), "is no file that could be written"),
    ):
        done = shop.run("conform", *arguments, status=2)
        assert words in " ".join(done.stderr.replace("│", "").split()).replace('"', "'"), arguments
