"""Looks, by hypothesis, for a script that the backend under test and the reference answer differently.

Owns which scripts are likely, how long is searched, and which failure is told: the shortest that was found.
Only what imports this module needs hypothesis, which the extra ``conformance`` brings.
"""

import asyncio
import os
import secrets
import time
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeAlias, get_args

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.errors import Flaky

from headrace.conformance import steps
from headrace.conformance.lab import PATIENCE, Lab, Mismatch
from headrace.conformance.model import CALL, ENDLESS, Twins, reference
from headrace.conformance.recording import Calls
from headrace.driver import Capabilities, Note, RestingChannel, in_order

if TYPE_CHECKING:
    from headrace.testing.clock import FakeClock

Script: TypeAlias = Sequence[steps.Step]

#: Set it in the environment to begin a search of the long form with the seed that its report names.
SEED: Final = "HEADRACE_TEST_SEED"

#: Scripts that are tried from one seed.
SCRIPTS: Final = 200

#: Seconds after which no more are tried. The short form tries those of one seed, so that it fails today
#: where it failed yesterday, and takes so long with a slow network only. The long form goes on from seed to seed.
SHORT: Final = 15.0
LONG: Final = 90.0

#: Seconds, from the first failure on, for finding shorter scripts that fail as well.
SHRINKING: Final = 20.0

#: Seconds after which a step is taken to hang. A pop that misses something waits for it, and is to say so itself.
HANGING: Final = 3 * PATIENCE

#: Steps of one script at most: enough to fill a queue, to lose and stir what it holds, and to see what became of it.
STEPS: Final = 30

#: Seconds, where time is under control: delays, what extensions of a lease ask for, and leaps of the time.
#: Short and long ones of each, measured by `LEASE`. Where it is not, any delay stands for one that does not end.
DELAYS: Final = (1.0, 2.0, 7.0)
EXTENSIONS: Final = (1.07, 20.07)
LEAPS: Final = (30.0, 1.0, 5.0)

RESTING: Final[tuple[RestingChannel, ...]] = get_args(RestingChannel)


def search(lab: Lab, clock: "FakeClock | None" = None) -> None:
    """Raise what is wrong with the shortest failing script, whose calls are then those of ``lab``.

    Opens the lab's backend, on an event loop of its own, and closes it; ``clock`` is its time, if under control.
    """
    with asyncio.Runner() as runner, _leaving_nothing_behind(lab):
        try:
            runner.run(lab.open())
            _Search(lab, runner, clock).run()
        except BaseException:
            with suppress(Exception):  # what was found goes before what cleaning up meets
                runner.run(lab.close())
            raise
        runner.run(lab.close())


@contextmanager
def _leaving_nothing_behind(lab: Lab) -> Iterator[None]:
    # Hypothesis keeps what it learns of the program's modules in the working directory, which is the user's.
    set_hypothesis_home_dir(lab.harness.folder / "hypothesis")
    try:
        yield
    finally:
        set_hypothesis_home_dir(None)  # where it was: hypothesis finds out again


class _Search:
    """The scripts that are tried, and what came of them."""

    def __init__(self, lab: Lab, runner: asyncio.Runner, clock: "FakeClock | None") -> None:
        self._lab = lab
        self._runner = runner
        self._clock = clock
        self._reference = reference(lab, clock)
        self._failed: list[Script] = []
        self._failure: tuple[Exception, Calls] | None = None
        self._deadline = time.monotonic() + (LONG if lab.long else SHORT)

    def run(self) -> None:
        """Search until a script fails, or the time is over."""
        number = int(os.environ.get(SEED, secrets.randbits(32))) if self._lab.long else 0
        self._run_seed(number)
        while self._lab.long and not self._is_over:
            number += 1
            self._run_seed(number)

    @property
    def _is_over(self) -> bool:
        return time.monotonic() > self._deadline or self._lab.over.is_set()

    def _run_seed(self, number: int) -> None:
        """Let hypothesis try scripts. It would tell of functions and arguments; what is raised here tells of calls."""

        @seed(number)
        @settings(
            max_examples=SCRIPTS,
            phases=(Phase.generate, Phase.shrink),
            database=None,
            deadline=None,
            derandomize=False,
            print_blob=False,
            report_multiple_bugs=False,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
            verbosity=Verbosity.quiet,
        )
        @given(script=scripts(self._lab.capabilities, controlled=self._clock is not None))
        def agree(script: Script) -> None:
            self._try(script)

        remark = f"found by the seed {number}"
        try:
            agree()
        except Flaky:
            remark += "; when it was tried again, there was nothing wrong"
        except Exception:
            if self._failure is None:
                raise
        if self._failure is not None:
            error, self._lab.calls = self._failure
            self._lab.calls.note(remark)
            raise error

    def _try(self, script: Script) -> None:
        # Late scripts pass unseen, which ends the search. Those that are known to fail must fail again.
        if self._is_over and script not in self._failed:
            return
        self._lab.calls = Calls()
        try:
            self._runner.run(self._play(script))
        except Exception as error:
            if not self._failed:
                self._deadline = time.monotonic() + SHRINKING
            self._failed.append(script)
            self._failure = (error, self._lab.calls)
            raise

    async def _play(self, script: Script) -> None:
        twins = Twins(self._lab, self._reference, self._clock)
        for step in script:
            await _in_time(step.play(twins))
            await _in_time(twins.compare_counts())
            twins.elapse(CALL)
        await _in_time(twins.compare())
        for step in () if twins.transparent else steps.LAST:
            await _in_time(step.play(twins))
        await _in_time(twins.destroy())


async def _in_time(call: Awaitable[None]) -> None:
    clock = asyncio.timeout(HANGING)
    try:
        async with clock:
            await call
    except TimeoutError as error:
        if clock.expired():
            raise Mismatch("the last call", f"it has not ended after {HANGING:g} s", "an answer") from error
        raise


# What scripts are made of. Hypothesis is slow at composing and quick at choosing, so most steps are
# chosen from lists; what stands first in a list is what a failure is made simpler by.

_NOTES: Final = (None, Note(type="E", message="\N{SNOWMAN}\0", traceback="", time=1.5))
#: Which of the deliveries, or of the messages, that there are so far.
_PICKS: Final = (*((one,) for one in range(12)), *((one, one + 1) for one in range(8)), (0, 1, 2, 3), (9, 5, 2))


def scripts(capabilities: Capabilities, *, controlled: bool) -> st.SearchStrategy[Script]:
    """Sequences of the steps that a backend claims to be able to do."""
    step = st.one_of(list(_steps(capabilities, controlled=controlled)))
    # Left alone, hypothesis makes most lists short, and they reach little. What it makes by the
    # second of these it can shorten by the first.
    return st.lists(step, max_size=STEPS) | st.lists(step, min_size=STEPS // 2, max_size=STEPS)


def _steps(capabilities: Capabilities, *, controlled: bool) -> Iterator[st.SearchStrategy[steps.Step]]:
    """One strategy for each kind of step; kinds that lead on to others are there more than once."""
    sent = st.lists(st.sampled_from(_sent(capabilities)), min_size=1, max_size=4).map(tuple)
    delays = [seconds for seconds in (DELAYS if controlled else [ENDLESS]) if seconds + 1 < capabilities.max_delay]
    for _ in range(3):
        yield st.builds(steps.Push, sent)
    if delays:
        yield st.builds(steps.Delay, sent, st.sampled_from(delays))
    selective = capabilities.selective
    pops: list[steps.Step] = [steps.Pop(limit) for limit in (1, 2, 4)]
    leaps: list[steps.Step] = [steps.Elapse(seconds) for seconds in LEAPS if controlled]
    kinds: list[list[steps.Step]] = [
        *[pops] * 3,
        *[leaps] * 2,
        [steps.Ack(picks) for picks in _PICKS],
        [steps.Retry(picks, delay, note) for delay in (0.0, *delays) for picks in _PICKS for note in _NOTES],
        [steps.Fail(picks, channel, note) for channel in RESTING for picks in _PICKS for note in _NOTES],
        [steps.Reload(channel, limit) for channel in RESTING for limit in (None, 1, 2, 0)],
        [steps.Extend(picks, seconds) for seconds in EXTENSIONS for picks in _PICKS if capabilities.leases == "timed"],
        [steps.Cancel(pick) for pick in range(20) if capabilities.cancel],
        [steps.ReloadChosen(channel, picks) for channel in RESTING for picks in _PICKS if channel in selective],
        [steps.Forget(channel, picks) for channel in in_order(selective) for picks in _PICKS],
        [steps.Look(channel, size) for channel in in_order(capabilities.peek) for size in (1, 2, 3)],
        [*[steps.Flush(channel) for channel in in_order(capabilities.flush)], steps.Destroy()],
    ]
    yield from (st.sampled_from(kind) for kind in kinds if kind)


def _sent(capabilities: Capabilities) -> list[steps.Sent]:
    """Messages to be pushed: new ones, such with an id that is known, and such with a unique key."""
    plain = steps.Sent()
    rich = steps.Sent(body=b"\0", attempt=2, deaths=1, headers=(("\N{SNOWMAN}", ""),), note=_NOTES[1])
    repeated = [replace(plain, again=pick) for pick in range(10) if capabilities.idempotent]
    unique = [replace(plain, key=key, keep=keep) for key in "kl" for keep in (False, True) if capabilities.unique]
    return [plain, rich, *unique, *repeated]
