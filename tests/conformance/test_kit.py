"""The kit itself: whatever a harness or a backend does, each case ends, says what was wrong, and the rest goes on."""

import asyncio
import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.conformance import Harness, PluginHarness, child, runner
from headrace.conformance.batch import Batch
from headrace.conformance.case import Case
from headrace.conformance.cases import claims
from headrace.conformance.lab import Lab
from headrace.conformance.outcome import Outcome
from headrace.conformance.runner import UnknownCase, run_case, run_cases, select
from headrace.conformance.threads import on_another_loop
from headrace.driver import ALL_CHANNELS, Backend, Settled
from headrace_memory.backend import MemoryBackend

from .misfits import (
    BlockingDriver,
    ClosedHarness,
    DyingHarness,
    ForeignDriver,
    HastyDriver,
    LitteringHarness,
    OddHarness,
    OnceHarness,
    SharingDriver,
    SilentDriver,
    SilentHarness,
    TalkativeDriver,
    UnpicklableHarness,
    UntidyDriver,
    answering,
)

pytest_plugins = ["pytester"]

#: A case that needs little: a push, and what comes of it.
PUSH = "a_pushed_message_comes_back_as_it_was_sent"

#: One that pushes nothing, and passes where pushing is what is broken.
LOOK = "an_empty_channel_is_an_empty_page"

#: One that needs another process.
ALONE = "what_is_not_durable_ends_with_its_process"


def one(name: str, time_limit: float = 30.0) -> Case:
    (case,) = select([name])
    return dataclasses.replace(case, time_limit=time_limit)


def outcomes(harness: Harness, *cases: Case, at_once: int = 2) -> dict[str, Outcome]:
    return {outcome.case: outcome for outcome in run_cases(harness, cases, at_once=at_once)}


def reason(outcome: Outcome) -> str:
    assert outcome.status == "failed"
    assert outcome.reason is not None
    assert outcome.reason in outcome.told()
    return outcome.reason


# Harnesses.


def test_a_harness_that_raises_fails_its_cases_in_words() -> None:
    found = outcomes(ClosedHarness(), one(PUSH), one(LOOK))
    assert [reason(outcome) for outcome in found.values()] == [
        "the harness could not make a backend: ConnectionRefusedError: no server at 127.0.0.1"
    ] * 2


def test_a_harness_that_does_not_say_how_is_told_what_to_define() -> None:
    assert "SilentHarness does not say how its backend is made: define backend()" in reason(
        run_case(SilentHarness(), one(PUSH))
    )


def test_a_harness_that_raises_once_costs_one_case() -> None:
    found = outcomes(OnceHarness(), one(PUSH), one(LOOK))
    assert sorted(outcome.status for outcome in found.values()) == ["failed", "passed"]


def test_a_harness_that_cannot_be_pickled_costs_the_cases_that_need_other_processes() -> None:
    found = outcomes(UnpicklableHarness(), one(ALONE), one(PUSH))
    assert "UnpicklableHarness cannot be pickled, so no other process can have it" in reason(found[ALONE])
    assert "leave servers and the like to a fixture" in reason(found[ALONE])
    assert found[PUSH].status == "passed"


def test_a_child_process_that_dies_is_told_with_its_exit_status() -> None:
    assert "a child process ended with the exit status 7" in reason(run_case(DyingHarness(), one(ALONE)))


def test_a_child_process_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "CHILD_PATIENCE", 2.0)
    found = run_case(OddHarness(SilentDriver), one(ALONE))
    assert "a child process did not end within 2 s" in reason(found)


def test_a_backend_that_is_built_with_a_file_is_told_which() -> None:
    outcome = run_case(LitteringHarness(), one("building_a_backend_touches_nothing"))
    assert reason(outcome) == "files that were made"
    assert "left.db" in str(outcome.found)


# Backends that hang.


def test_a_call_that_never_ends_is_given_up_and_named() -> None:
    found = outcomes(OddHarness(SilentDriver), one(PUSH, 0.3), one(LOOK))
    assert reason(found[PUSH]) == "was not done after 0.3 s"
    assert any(call.endswith("cancelled") and "push" in call for call in found[PUSH].calls)
    assert found[LOOK].status == "passed"


@pytest.fixture
def blocking(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[BlockingDriver]]:
    monkeypatch.setattr(runner, "GRACE", 1.0)
    BlockingDriver.let_go.clear()
    yield BlockingDriver
    BlockingDriver.let_go.set()


def test_a_call_that_blocks_its_thread_is_left_behind_and_its_place_told(blocking: type[BlockingDriver]) -> None:
    found = outcomes(OddHarness(blocking), one(PUSH, 0.3), one(LOOK))
    assert reason(found[PUSH]).startswith("hangs: it blocks its thread")
    assert "misfits.py" in str(found[PUSH].details)
    assert "queue.push(" in found[PUSH].calls[-1]
    assert found[LOOK].status == "passed"


# Drivers that answer wrongly.


@pytest.mark.parametrize(
    ("verb", "answer", "words"),
    [
        ("push", [], "push: answered 0 results to 1"),
        ("push", ["a", "b"], "push: answered 2 results to 1"),
        ("push", None, "push: answered None instead of a sequence of results"),
        ("push", "m1", "push: answered a str instead of a sequence of results"),
        ("push", [None], "push: answered None instead of str or BackendError"),
        ("push", [ValueError("no")], "push: answered a ValueError instead of str or BackendError"),
        ("pop", None, "pop: answered None instead of a sequence of deliveries"),
        ("pop", [("m1", 1)], "pop: answered a tuple instead of a Delivery of a Message"),
    ],
)
def test_an_answer_of_the_wrong_form_is_told(verb: str, answer: Any, words: str) -> None:
    found = outcomes(OddHarness(answering(verb, answer)), one(PUSH), one(LOOK))
    assert reason(found[PUSH]) == words
    assert found[LOOK].status == "passed"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ([], "ack: answered 0 results to 1"),
        ([True], "ack: answered a bool instead of Settled or BackendError"),
        ([Settled.DONE] * 2, "ack: answered 2 results to 1"),
    ],
)
def test_a_result_of_the_wrong_form_is_told(answer: Any, words: str) -> None:
    case = one("an_acked_message_is_gone_for_good")
    assert reason(run_case(OddHarness(answering("ack", answer)), case)) == words


@pytest.mark.parametrize(
    ("verb", "answer", "case", "words"),
    [
        ("flush", True, "what_is_reserved_is_not_flushed", "flush"),
        ("reload", None, "a_reload_starts_messages_afresh", "reload: answered None instead of int"),
        ("info", {}, "counts_of_full_channels_are_right", "info: answered a dict instead of Info"),
        ("peek", [], LOOK, "peek: answered a list instead of a Page"),
        ("cancel", None, "what_is_pending_can_be_cancelled", "cancel: answered None instead of bool"),
        ("destroy", 0, "a_destroyed_queue_is_made_anew_by_a_push", ""),
    ],
)
def test_a_foreign_type_is_told_for_every_verb(verb: str, answer: Any, case: str, words: str) -> None:
    assert words in reason(run_case(OddHarness(answering(verb, answer)), one(case)))


def test_more_deliveries_than_were_asked_for_are_told() -> None:
    assert reason(run_case(OddHarness(SharingDriver), one(PUSH))) == "pop: answered 2 deliveries at a limit of 1"


def test_a_foreign_exception_is_told_with_the_line_that_raised_it() -> None:
    found = outcomes(OddHarness(ForeignDriver), one(PUSH), one(LOOK))
    assert reason(found[PUSH]) == "raised ConnectionResetError: the line is dead"
    assert "misfits.py" in str(found[PUSH].details)
    assert found[LOOK].status == "passed"


def test_a_queue_that_cannot_be_removed_is_a_failure() -> None:
    assert reason(run_case(OddHarness(UntidyDriver), one(LOOK))) == (
        "raised BackendUnavailable: the queue cannot be removed"
    )


def test_a_queue_that_cannot_be_removed_keeps_none_of_the_others() -> None:
    UntidyDriver.tried = 0
    reason(run_case(OddHarness(UntidyDriver), one("queues_of_one_backend_do_not_see_each_other")))
    assert UntidyDriver.tried == 2


def test_a_driver_that_hands_out_the_latest_first_is_caught() -> None:
    found = run_case(OddHarness(HastyDriver, ordered=False), one("what_waits_longest_is_not_left_for_last"))
    assert reason(found).startswith("the mean place")


def test_a_driver_that_logs_messages_is_caught() -> None:
    found = run_case(OddHarness(TalkativeDriver), one("a_backend_logs_nothing_of_jobs"))
    assert reason(found) == "what was logged of a message"


# Ended before their time.


@pytest.mark.parametrize("at_once", [1, 2])
def test_a_run_that_is_left_early_cancels_what_runs_and_lets_it_clean_up(at_once: int) -> None:
    begun = threading.Event()
    running = run_cases(
        OddHarness(SilentDriver),
        [one(LOOK), one(PUSH, 600.0)],
        at_once=at_once,
        began=lambda case: begun.set() if case.name == PUSH else None,
    )
    assert next(running).case == LOOK
    if at_once > 1:
        assert begun.wait(60)
    running.close()
    assert not [each.name for each in threading.enumerate() if each.name.startswith("headrace-case-")]


def test_a_batch_that_is_closed_cancels_what_runs() -> None:
    batch = Batch(OddHarness(SilentDriver), [one(PUSH, 600.0)], at_once=2, long=False)
    batch.close()
    assert not [each.name for each in threading.enumerate() if each.name.startswith("headrace-c")]


async def test_work_on_another_loop_is_cancelled_with_who_waits_for_it() -> None:
    begun, ended = threading.Event(), threading.Event()

    async def wait_for_ever(backend: Backend) -> None:
        begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    waiting = asyncio.create_task(on_another_loop(MemoryBackend(), wait_for_ever))
    assert await asyncio.to_thread(begun.wait, 60)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert ended.is_set()


# Claims that do not hold.


def _told(value: Any) -> str:
    """Alike in every process: the order of a set is not."""
    if isinstance(value, str):
        return value
    ((name, claimed),) = value.items()
    return f"{name}={sorted(claimed) if isinstance(claimed, frozenset) else claimed}"


@pytest.mark.parametrize(
    ("claim", "case"),
    [
        ({"durable": True}, "what_is_durable_outlives_the_process_that_pushed_it"),
        ({"shared": True}, "processes_that_share_a_queue_see_one_queue"),
        ({"idempotent": False}, "repeated_ids_that_are_not_claimed_to_be_known_are_stored_twice"),
        ({"unique": False}, "unique_keys_that_are_not_claimed_are_not_honoured"),
        ({"peek": frozenset()}, "peek_that_is_not_claimed_is_not_there"),
        ({"peek": ALL_CHANNELS - {"timeout"}}, "peek_that_is_not_claimed_is_not_there"),
        ({"cancel": False}, "cancel_that_is_not_claimed_is_not_there"),
        ({"selective": frozenset()}, "choosing_that_is_not_claimed_is_not_there"),
        ({"selective": frozenset({"failed", "timeout"})}, "choosing_that_is_not_claimed_is_not_there"),
        ({"flush": ALL_CHANNELS - {"reserved", "delayed"}}, "flushing_that_is_not_claimed_is_not_there"),
        ({"wait_ready": False}, "waiting_for_readiness_that_is_not_claimed_is_not_there"),
        ({"store": False}, "storing_that_is_not_claimed_is_not_there"),
        ({"lend": ALL_CHANNELS}, "capabilities_are_data_that_make_sense"),
        ({"contract": 2}, "capabilities_are_data_that_make_sense"),
        ({"max_batch": 0}, "capabilities_are_data_that_make_sense"),
        ({"max_run": 0.0}, "capabilities_are_data_that_make_sense"),
        ({"granularity": -1.0}, "capabilities_are_data_that_make_sense"),
        ({"peek": True}, "capabilities_are_data_that_make_sense"),
        ({"selective": ALL_CHANNELS}, "capabilities_are_data_that_make_sense"),
    ],
    ids=_told,
)
def test_a_claim_that_does_not_hold_is_caught(
    claim: dict[str, Any], case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "PATIENCE", 0.5)  # what will not come need not be waited for
    monkeypatch.setattr(Lab.take, "__kwdefaults__", {"patience": 0.5})
    reason(run_case(OddHarness(**claim), one(case)))


# Choosing.


def test_an_unknown_case_is_refused_by_name() -> None:
    with pytest.raises(UnknownCase, match="no_such_case"):
        select(["no_such_case"])


def test_cases_are_chosen_by_the_beginning_of_their_names() -> None:
    assert {case.name for case in select(["peek_*"])} == {
        case.name for case in select() if case.name.startswith("peek_")
    }


def test_a_skipped_case_names_what_it_needs() -> None:
    durable = one("what_was_settled_is_settled_for_who_opens_the_place_later")
    restarted = one("a_pop_that_waits_through_a_restart_ends")
    found = outcomes(PluginHarness("memory"), durable, restarted)
    assert {(outcome.status, outcome.reason) for outcome in found.values()} == {
        ("skipped", "needs the capability durable"),
        ("skipped", "needs a harness with restart()"),
    }


# Under pytest.

SUITES = f"""
import pytest
from headrace.conformance import DriverSuite, PluginHarness


class MemoryHarness(PluginHarness):
    def __init__(self):
        super().__init__("memory")


class TestClass(DriverSuite):
    harness = MemoryHarness


class TestInstance(DriverSuite):
    harness = PluginHarness("memory")


class TestFixtureOfItsOwn(DriverSuite):
    @pytest.fixture
    def harness(self):
        return MemoryHarness()


@pytest.fixture
def harness():
    return MemoryHarness()


class TestFixtureOfTheModule(DriverSuite):
    pass


class TestOwnWords(DriverSuite):
    harness = MemoryHarness

    def test_{PUSH}(self):
        pytest.skip("replaced by the author")
"""


def test_a_suite_takes_its_harness_as_class_instance_or_fixture(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(SUITES)
    result = pytester.runpytest_subprocess(
        "-p", "no:cacheprovider", "-rs", "-k", f"{PUSH} or {LOOK} or what_was_settled"
    )
    result.assert_outcomes(passed=9, skipped=6)
    result.stdout.fnmatch_lines(["*needs the capability durable*", "*replaced by the author*"], consecutive=False)


BROKEN = f"""
from headrace.conformance import DriverSuite
from {__package__}.misfits import ClosedHarness, ForeignDriver, OddHarness


class TestForeign(DriverSuite):
    harness = OddHarness(ForeignDriver)


class TestNothing(DriverSuite):
    harness = 3
"""


def test_a_suite_tells_failures_as_the_report_does(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    pytester.makepyfile(BROKEN)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-k", PUSH)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        [
            f"*{PUSH}: raised ConnectionResetError: the line is dead",
            "*promise:  at least once",
            "*sentence: A push stores every field of a message*",
            "*fixture 'harness' not found*",
        ],
        consecutive=False,
    )
