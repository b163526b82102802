"""A driver that notes what is asked of another one and what it answers, and holds the answers to the contract's form.

A failed case shows these notes. That a batch verb answers each item, with values of the right
types, is checked at every call of every case, so that no case has to.
"""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

from headrace.driver import Channel, Delivery, Driver, Info, Message, Page, RestingChannel, Result, Settled
from headrace.errors import BackendError

Answer = TypeVar("Answer")

#: Calls that a report shows of a long case: the first, which set the scene, and the last, which led to the failure.
FIRST_CALLS: Final = 10
LAST_CALLS: Final = 30

#: Characters of an answer that the contract does not know; it may hold bodies of any length.
SHOWN_ANSWER: Final = 300

#: Receipts whose names are known, before all are forgotten: a bound for cases with a million messages.
NAMED_RECEIPTS: Final = 10_000


#: Characters of the time before a call.
_TIME: Final = 7


class BrokenForm(AssertionError):
    """A driver answered with something that the contract does not know."""


class Calls:
    """The calls of one case, over all its drivers, threads too, in the order in which they began."""

    def __init__(self) -> None:
        self._lines: list[list[str]] = []
        self._receipts: dict[int, tuple[Any, str]] = {}
        self._deliveries: Counter[str] = Counter()
        self._began = time.monotonic()

    def begin(self, call: str) -> list[str]:
        """Note a call; what is given back is its line, for `end`."""
        line = [f"{time.monotonic() - self._began:{_TIME}.3f}  {call}"]
        self._lines.append(line)
        return line

    def end(self, line: list[str], answer: str) -> None:
        line.append(f" -> {answer}")

    def hand_out(self, delivery: Delivery) -> str:
        """Name a receipt by its message, and by which delivery of that message it proves: ``a``, later ``a#2``."""
        if len(self._receipts) >= NAMED_RECEIPTS:
            self._receipts.clear()
            self._deliveries.clear()
        id_ = delivery.message.id
        self._deliveries[id_] += 1
        number = self._deliveries[id_]
        name = id_ if number == 1 else f"{id_}#{number}"
        # By identity, since a receipt may be of any kind; it is kept, so that no other has the same.
        self._receipts[id(delivery.receipt)] = (delivery.receipt, name)
        return name

    def name(self, receipt: Any, otherwise: str = "a receipt") -> str:
        return self._receipts.get(id(receipt), (None, otherwise))[1]

    def note(self, text: str) -> None:
        """A line for what is no call: time that passed, a server that was restarted."""
        self.begin(f"({text})")

    def shown(self) -> list[str]:
        """The calls as a report has them: one line for the same again and again, and a gap in the middle of many."""
        lines = _folded(["".join(line) for line in self._lines])
        hidden = len(lines) - FIRST_CALLS - LAST_CALLS
        if hidden <= 1:
            return lines
        return [*lines[:FIRST_CALLS], f"... {hidden} lines left out", *lines[-LAST_CALLS:]]


def _folded(lines: Sequence[str]) -> list[str]:
    """Many lines in a row that differ in nothing but the time become one. Two do not: they may be the very defect."""
    folded: list[str] = []
    for _, group in itertools.groupby(lines, key=lambda line: line[_TIME:]):
        same = list(group)
        if len(same) > 2:
            same = [f"{same[0]}   ({len(same)} times, until {same[-1][:_TIME].strip()})"]
        folded += same
    return folded


class RecordingDriver(Driver):
    """Passes every call on to ``driver``; ``title`` says in the notes whose calls they are."""

    def __init__(self, driver: Driver, calls: Calls, title: str) -> None:
        self._driver = driver
        self._calls = calls
        self._title = title

    async def _call(
        self, words: str, awaitable: Awaitable[Answer], check: Callable[[Any], str], show: Callable[[Answer], str]
    ) -> Answer:
        line = self._calls.begin(f"{self._title}.{words}")
        try:
            answer = await awaitable
        except asyncio.CancelledError:
            self._calls.end(line, "cancelled")
            raise
        except BaseException as error:
            self._calls.end(line, f"raised {type(error).__name__}: {error}")
            raise
        problem = check(answer)
        self._calls.end(line, _cut(repr(answer)) if problem else show(answer))
        if problem:
            raise BrokenForm(f"{words.partition('(')[0]}: {problem}")
        return answer

    def _handed_out(self, deliveries: Sequence[Delivery]) -> str:
        return _listed(
            [_worded(self._calls.hand_out(each), each.message, f"count={each.count}") for each in deliveries]
        )

    def _named(self, receipts: Sequence[Any]) -> str:
        return _listed([self._calls.name(receipt) for receipt in receipts])

    def _changed(self, pairs: Sequence[tuple[Any, Message]]) -> str:
        return _listed([_worded(self._calls.name(receipt, message.id), message) for receipt, message in pairs])

    async def push(self, messages: Sequence[Message]) -> Sequence[str | BackendError]:
        words = f"push({_messages(messages)})"
        return await self._call(words, self._driver.push(messages), _each(len(messages), str), _ids)

    async def delay(self, messages: Sequence[Message]) -> Sequence[str | BackendError]:
        words = f"delay({_messages(messages)})"
        return await self._call(words, self._driver.delay(messages), _each(len(messages), str), _ids)

    async def pop(self, limit: int, wait: float) -> Sequence[Delivery]:
        words = f"pop({limit}, wait={wait:g})"
        return await self._call(words, self._driver.pop(limit, wait), _deliveries(limit), self._handed_out)

    async def ack(self, receipts: Sequence[Any]) -> Sequence[Result]:
        words = f"ack({self._named(receipts)})"
        return await self._call(words, self._driver.ack(receipts), _each(len(receipts), Settled), _results)

    async def retry(self, pairs: Sequence[tuple[Any, Message]]) -> Sequence[Result]:
        words = f"retry({self._changed(pairs)})"
        return await self._call(words, self._driver.retry(pairs), _each(len(pairs), Settled), _results)

    async def fail(self, pairs: Sequence[tuple[Any, Message]], channel: RestingChannel) -> Sequence[Result]:
        words = f"fail({self._changed(pairs)}, {channel!r})"
        return await self._call(words, self._driver.fail(pairs, channel), _each(len(pairs), Settled), _results)

    async def extend(self, receipts: Sequence[Any], seconds: float) -> Sequence[Result]:
        words = f"extend({self._named(receipts)}, {seconds:g})"
        return await self._call(words, self._driver.extend(receipts, seconds), _each(len(receipts), Settled), _results)

    async def reload(self, channel: RestingChannel, limit: int | None = None, ids: Sequence[str] | None = None) -> int:
        words = f"reload({channel!r}{_option('limit', limit)}{_option('ids', ids)})"
        return await self._call(words, self._driver.reload(channel, limit, ids), _is(int), str)

    async def flush(self, channel: Channel) -> int:
        return await self._call(f"flush({channel!r})", self._driver.flush(channel), _is(int), str)

    async def info(self) -> Info:
        return await self._call("info()", self._driver.info(), _info, _counts)

    async def destroy(self) -> None:
        await self._call("destroy()", self._driver.destroy(), lambda answer: "", lambda answer: "done")

    async def peek(
        self, channel: Channel, limit: int, *, cursor: str | None = None, ids: Sequence[str] | None = None
    ) -> Page:
        words = f"peek({channel!r}, {limit}{_option('cursor', cursor)}{_option('ids', ids)})"
        return await self._call(words, self._driver.peek(channel, limit, cursor=cursor, ids=ids), _page(limit), _shown)

    async def cancel(self, id: str) -> bool:  # noqa: A002 - the contract's word
        return await self._call(f"cancel({id!r})", self._driver.cancel(id), _is(bool), str)

    async def forget(self, channel: Channel, ids: Sequence[str]) -> int:
        words = f"forget({channel!r}, {list(ids)})"
        return await self._call(words, self._driver.forget(channel, ids), _is(int), str)

    async def wait_ready(self, seconds: float) -> bool:
        return await self._call(f"wait_ready({seconds:g})", self._driver.wait_ready(seconds), _is(bool), str)

    async def store(self, messages: Sequence[Message], channel: RestingChannel) -> Sequence[str | BackendError]:
        words = f"store({_messages(messages)}, {channel!r})"
        return await self._call(words, self._driver.store(messages, channel), _each(len(messages), str), _ids)

    async def lend(self, channel: Channel, limit: int) -> Sequence[Delivery]:
        words = f"lend({channel!r}, {limit})"
        return await self._call(words, self._driver.lend(channel, limit), _deliveries(limit), self._handed_out)


# What an answer must be. Each check gives what is wrong, or nothing.


def _is(kind: type) -> Callable[[Any], str]:
    # A bool is an int to Python, but no count.
    return lambda answer: "" if type(answer) is kind else f"answered {_kind(answer)} instead of {kind.__name__}"


def _each(count: int, kind: type) -> Callable[[Any], str]:
    def check(answer: Any) -> str:
        if not isinstance(answer, Sequence) or isinstance(answer, str | bytes):
            return f"answered {_kind(answer)} instead of a sequence of results"
        if len(answer) != count:
            return f"answered {_several(answer, 'result')} to {count}"
        wrong = [each for each in answer if not isinstance(each, kind | BackendError)]
        return f"answered {_kind(wrong[0])} instead of {kind.__name__} or BackendError" if wrong else ""

    return check


def _deliveries(limit: int) -> Callable[[Any], str]:
    def check(answer: Any) -> str:
        if not isinstance(answer, Sequence):
            return f"answered {_kind(answer)} instead of a sequence of deliveries"
        for each in answer:
            if not isinstance(each, Delivery) or not isinstance(each.message, Message):
                return f"answered {_kind(each)} instead of a Delivery of a Message"
            if type(each.count) is not int or each.count < 1:
                return f"handed out {each.message.id} with the count {each.count!r}; the first delivery's is 1"
        return f"answered {_several(answer, 'delivery')} at a limit of {limit}" if len(answer) > limit else ""

    return check


def _info(answer: Any) -> str:
    if not isinstance(answer, Info):
        return f"answered {_kind(answer)} instead of Info"
    for name in ("waiting", "reserved", "delayed", "failed", "timeout"):
        count = getattr(answer, name)
        if count is not None and (type(count) is not int or count < 0):
            return f"counted {count!r} {name}"
    oldest = answer.oldest_seconds
    # Clocks of a server tick on between two of its own readings.
    return "" if oldest is None or oldest >= -0.001 else f"the oldest has been due for {oldest!r} s"


def _page(limit: int) -> Callable[[Any], str]:
    def check(answer: Any) -> str:
        if not isinstance(answer, Page):
            return f"answered {_kind(answer)} instead of a Page"
        if len(answer.messages) > limit:
            return f"showed {len(answer.messages)} messages at a limit of {limit}"
        wrong = [each for each in answer.messages if not isinstance(each, Message)]
        return f"showed {_kind(wrong[0])} instead of a Message" if wrong else ""

    return check


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_ANSWER else f"{text[:SHOWN_ANSWER]}... ({len(text)} characters)"


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


# How calls and answers read. Long batches are told by their ends.


def _messages(messages: Sequence[Message]) -> str:
    return _listed([_worded(message.id, message) for message in messages])


def _worded(name: str, message: Message, *more: str) -> str:
    said = [name]
    if message.delay:
        said.append(f"delay={message.delay:g}")
    if message.unique_key is not None:
        said.append(f"unique_key={message.unique_key!r} {message.on_duplicate}")
    if message.attempt:
        said.append(f"attempt={message.attempt}")
    if message.deaths:
        said.append(f"deaths={message.deaths}")
    return " ".join([*said, *more])


def _listed(texts: Sequence[str]) -> str:
    if len(texts) > 6:
        texts = [*texts[:3], f"... {len(texts)} in all ...", *texts[-1:]]
    return f"[{', '.join(texts)}]"


def _ids(answers: Sequence[str | BackendError]) -> str:
    return _listed([each if isinstance(each, str) else f"{type(each).__name__}: {each}" for each in answers])


def _results(results: Sequence[Result]) -> str:
    return _listed([each.name if isinstance(each, Settled) else f"{type(each).__name__}: {each}" for each in results])


def _counts(info: Info) -> str:
    counts = {name: getattr(info, name) for name in ("waiting", "reserved", "delayed", "failed", "timeout")}
    told = ", ".join(f"{count if count is not None else '?'} {name}" for name, count in counts.items() if count != 0)
    return told or "all empty"


def _shown(page: Page) -> str:
    return _messages(page.messages) + (" and more" if page.cursor is not None else "")


def _several(items: Sequence[Any], noun: str) -> str:
    plural = f"{noun.removesuffix('y')}ies" if noun.endswith("y") else f"{noun}s"
    return f"{len(items)} {noun if len(items) == 1 else plural}"


def _option(name: str, value: Any) -> str:
    return "" if value is None else f", {name}={value!r}"
