"""Declaring jobs, and carrying their fields."""

import dataclasses
import enum
import math
import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest

from headrace import Job, Retry, job
from headrace.codec import JobCodec
from headrace.config import Backoff
from headrace.errors import InvalidPayload, JobError, UnknownJob
from headrace.job import declared_jobs
from headrace.options import check_words
from headrace.retry import retry_delay


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass(frozen=True)
class Address:
    street: str
    lines: tuple[str, ...] = ()


class Everything(Job):
    number: int
    ratio: float
    text: str
    raw: bytes
    when: datetime
    naive: datetime
    day: date
    clock: time
    span: timedelta
    price: Decimal
    key: uuid.UUID
    colour: Colour
    home: Address
    homes: list[Address]
    tags: set[str]
    table: dict[str, int]
    by_number: dict[int, Address]
    maybe: str | None
    either: int | str
    anything: dict[str, Any]
    nothing: None = None
    names: list[str] = dataclasses.field(default_factory=list)

    async def handle(self) -> None: ...


def everything(**changed: Any) -> Everything:
    values: dict[str, Any] = {
        "number": 2**60,
        "ratio": 0.1,
        "text": 'né "\x00\u2028 😀',
        "raw": bytes(range(256)),
        "when": datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        "naive": datetime(2026, 1, 2, 3, 4, 5),  # noqa: DTZ001 - carried as it is
        "day": date(2026, 1, 2),
        "clock": time(3, 4, 5),
        "span": timedelta(days=3, microseconds=7),
        "price": Decimal("12.300"),
        "key": uuid.UUID(int=7),
        "colour": Colour.RED,
        "home": Address("Main", ("a", "b")),
        "homes": [Address("x")],
        "tags": {"a", "b"},
        "table": {"": 1, "é": 2},
        "by_number": {7: Address("y")},
        "maybe": None,
        "either": "5",
        "anything": {"a": [1, 2.5, None, True, {"b": "c"}]},
    }
    return Everything(**values | changed)


def test_every_kind_of_field_comes_back_unchanged() -> None:
    codec = JobCodec(Everything)
    for each in (everything(), everything(maybe="x", either=5, names=["a"])):
        back = codec.decode(codec.encode(each))
        assert back == each
        assert type(back.price) is Decimal
        assert str(back.price) == "12.300"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"number": "5"}, "Expected `int`, got `str` - at `$.number`"),
        ({"number": True}, "Expected `int`, got `bool` - at `$.number`"),
        ({"ratio": float("nan")}, "Expected `float`, got `null` - at `$.ratio`"),
        ({"home": Address(5)}, "Expected `str`, got `int` - at `$.home.street`"),  # type: ignore[arg-type]
        ({"homes": [Address("a", (1,))]}, "at `$.homes[0].lines[0]`"),  # type: ignore[arg-type]
        ({"anything": {"a": (1, 2)}}, "at `$.anything`; annotate the field with the type that it holds"),
        ({"anything": {"when": datetime(2026, 1, 1, tzinfo=UTC)}}, "at `$.anything`"),
        ({"anything": object()}, "Everything: "),
        ({"text": "\ud800"}, "Everything: "),
    ],
)
def test_what_a_worker_would_not_get_back_is_refused_naming_the_field(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidPayload) as error:
        JobCodec(Everything).encode(everything(**changed))
    assert message in str(error.value)


def test_a_field_that_is_not_known_here_is_no_damage_but_news() -> None:
    class Small(Job):
        number: int

        async def handle(self) -> None: ...

    codec = JobCodec(Small)
    with pytest.raises(UnknownJob, match="Small has no field 'colour' here"):
        codec.decode(b'{"number": 1, "colour": "red"}')
    with pytest.raises(UnknownJob, match="Small has no field 'count' here"):
        codec.decode(b'{"count": 1}')  # renamed by a newer version
    with pytest.raises(InvalidPayload, match="missing required field `number`"):
        codec.decode(b"{}")
    with pytest.raises(InvalidPayload, match="Expected `object`"):
        codec.decode(b"[]")


def test_a_field_that_cannot_be_carried_is_named() -> None:
    class Odd(Job):
        thing: Job | int | dataclasses.Field[int]

        async def handle(self) -> None: ...

    with pytest.raises(JobError, match="Odd: its fields cannot be carried"):
        JobCodec(Odd)

    class Text(str):
        __slots__ = ()

    for kind in (complex, Text, list[complex], dict[str, Text | None]):

        class Foreign(Job):
            fine: object
            thing: kind  # type: ignore[valid-type]

            async def handle(self) -> None: ...

        with pytest.raises(JobError, match="Foreign: its fields cannot be carried: 'thing' holds <class"):
            JobCodec(Foreign)


def test_a_job_without_a_handler_is_refused_when_it_is_pushed() -> None:
    class Misspelt(Job):
        number: int

        async def hanlde(self) -> None: ...

    with pytest.raises(JobError, match=r"Misspelt has no handle\(\)"):
        JobCodec(Misspelt)


def test_jobs_are_frozen_keyword_only_dataclasses() -> None:
    greeting = everything()
    with pytest.raises(dataclasses.FrozenInstanceError):
        greeting.number = 5  # type: ignore[misc]
    with pytest.raises(TypeError):
        Everything(5)  # type: ignore[misc, call-arg]
    assert dataclasses.replace(greeting, number=6).number == 6


def test_options_are_inherited_but_names_are_not() -> None:
    class Base(Job, queue="mail", max_retries=3, retry_seconds=[1, 5], aliases=["OldBase"]):
        user: int

    class Child(Base, max_retries=7, name="child"):
        async def handle(self) -> None: ...

    options = Child.job_options
    assert (options.name, options.queue, options.max_retries, options.aliases) == ("child", "mail", 7, ())
    assert options.retry_seconds == (1.0, 5.0)
    assert declared_jobs()["child"] is Child
    assert "Base" not in declared_jobs()


def test_aliases_find_the_job() -> None:
    class Renamed(Job, aliases=["FormerlyKnown"]):
        async def handle(self) -> None: ...

    assert declared_jobs()["FormerlyKnown"] is declared_jobs()["Renamed"] is Renamed


def test_two_jobs_of_one_name_are_refused_naming_both() -> None:
    class First(Job, name="the-same"):
        async def handle(self) -> None: ...

    with pytest.raises(JobError) as error:

        class Second(Job, aliases=["the-same"]):
            async def handle(self) -> None: ...

    assert "two jobs are called 'the-same'" in str(error.value)
    assert "test_two_jobs_of_one_name_are_refused_naming_both.<locals>.First" in str(error.value)
    assert "<locals>.Second" in str(error.value)
    assert declared_jobs()["the-same"] is First


def test_defining_a_job_again_in_its_place_replaces_it() -> None:
    def define() -> type[Job]:
        class Again(Job):
            async def handle(self) -> None: ...

        return Again

    define()
    newest = define()
    assert declared_jobs()["Again"] is newest


@pytest.mark.parametrize("field", ["handle", "failed", "push", "push_sync", "job_options"])
def test_a_field_that_would_shadow_a_method_is_refused(field: str) -> None:
    with pytest.raises(JobError, match=f"the field '{field}' would shadow Job.{field}"):
        type(Job)("Shadow", (Job,), {"__annotations__": {field: int}, "__module__": __name__})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unique": "nobody"}, "unique='nobody' is not one of its fields: user"),
        ({"max_retries": -1}, "max_retries: found -1; allowed: a whole number, 0 or more"),
        ({"max_retries": True}, "max_retries: found true"),
        ({"retry_seconds": "5s"}, 'retry_seconds: found "5s"; allowed: a number of seconds'),
        ({"retry_seconds": [1, -1]}, "retry_seconds[1]: found -1"),
        ({"retry_seconds": math.inf}, "retry_seconds: found inf"),
        ({"retry_seconds": {"bass": 1}}, 'retry_seconds.bass: is unknown; did you mean "base"?'),
        ({"retry_seconds": {"base": "x"}}, 'retry_seconds.base: found "x"'),
        ({"retry_seconds": Backoff(base=-1)}, "retry_seconds.base: found -1"),
        ({"handle_timeout": -5}, "handle_timeout: found -5; allowed: a number of seconds, 0 or more"),
        ({"handle_timeout": math.nan}, "handle_timeout: found nan"),
        ({"on_timeout": "kill"}, 'on_timeout: found "kill"; allowed: "cancel" or "continue"'),
        ({"on_duplicate": "merge"}, "on_duplicate is 'merge'"),
    ],
)
def test_a_wrong_option_is_refused_where_it_stands(options: dict[str, Any], message: str) -> None:
    with pytest.raises(JobError) as error:

        class Wrong(Job, **options):
            user: int

    assert message in str(error.value)
    assert "Wrong: " in str(error.value)


def test_retry_seconds_may_be_written_in_every_way_that_the_configuration_takes() -> None:
    def schedule(value: Any) -> Any:
        class Scheduled(Job, retry_seconds=value):
            async def handle(self) -> None: ...

        return Scheduled.job_options.retry_seconds

    assert schedule(5) == 5.0
    assert schedule(range(3)) == schedule((0, 1, 2)) == (0.0, 1.0, 2.0)
    assert schedule({"base": 1, "max": 9}) == schedule(Backoff(base=1, max=9)) == Backoff(base=1.0, max=9.0)
    assert schedule([]) == 10.0


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("tries", "use max_retries"),
        ("autoretry_for", "leave it out: each exception is retried"),
        ("retry_backoff", "use retry_seconds"),
        ("time_limit", "use handle_timeout"),
        ("timeout", "use handle_timeout"),
        ("bind", "current()"),
        ("rate_limit", "concurrent = { limit = N }"),
        ("max_retrys", 'is unknown; did you mean "max_retries"?'),
    ],
)
def test_an_option_that_does_not_exist_is_answered_with_ours(word: str, answer: str) -> None:
    with pytest.raises(JobError) as error:

        class Wrong(Job, **{word: 3}):  # type: ignore[arg-type]
            user: int

    assert f"Wrong: the option '{word}' " in str(error.value)
    assert answer in str(error.value)
    with pytest.raises(JobError, match=f"wrong: the option '{word}' "):

        @job(**{word: 3})  # type: ignore[call-overload, untyped-decorator]
        def wrong() -> None: ...


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": 5}, "5 cannot be its name"),
        ({"name": ""}, "'' cannot be its name"),
        ({"name": "a b"}, "'a b' cannot be its name"),
        ({"aliases": ["a\n"]}, "'a\\n' cannot be its name"),
        ({"aliases": 5}, "aliases is 5; it must be a name, or a list of names"),
        ({"queue": 5}, "queue is 5; a queue's name is letters"),
        ({"queue": "a b"}, "queue is 'a b'"),
        ({"unique": True}, "unique is True; it must be a name, or a list of names"),
    ],
)
def test_a_name_that_is_none_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(JobError) as error:

        @job(**options)
        def wrong(user: int) -> None: ...

    assert message in str(error.value)


def test_a_handler_that_would_never_run_is_refused() -> None:
    def sync(a: int) -> Any:
        yield a

    async def several(a: int) -> Any:
        yield a

    for function in (sync, several):
        with pytest.raises(JobError, match=f"{function.__name__}: a handler cannot 'yield'"):
            job(function)
    with pytest.raises(JobError, match="a handler cannot 'yield'"):

        class Yields(Job):
            async def handle(self) -> Any:
                yield 1

    with pytest.raises(JobError, match="handle\\(\\) is called without 'user'"):

        class Asks(Job):
            def handle(self, user: int) -> None: ...

    with pytest.raises(JobError, match=r"say name='\.\.\.'"):
        job(lambda: None)
    with pytest.raises(JobError, match=r"not 'mail'; options have names, as in @job\(queue='mail'\)"):
        job("mail")  # type: ignore[call-overload]


def test_a_function_with_open_arguments_is_refused() -> None:
    with pytest.raises(JobError, match=r"cannot take \*args"):

        @job
        def open_ended(*args: int) -> None: ...


def test_a_function_keeps_its_name_and_text_and_mutable_defaults() -> None:
    @job
    def collect(items: list[int] = [1]) -> list[int]:  # noqa: B006 - what is tested
        """Collect."""
        return items

    assert (collect.__name__, collect.__doc__) == ("collect", "Collect.")
    first, second = collect.job(), collect.job()
    assert vars(first)["items"] == [1]
    assert vars(first)["items"] is not vars(second)["items"]


def test_retry_schedules() -> None:
    assert [retry_delay(3.0, n) for n in range(3)] == [3, 3, 3]
    assert [retry_delay((1.0, 5.0, 30.0), n) for n in range(5)] == [1, 5, 30, 30, 30]
    growing = Backoff(base=1, factor=2, max=10)
    assert [retry_delay(growing, n) for n in range(6)] == [1, 2, 4, 8, 10, 10]
    assert retry_delay(growing, 100_000) == 10
    jittered = [retry_delay(Backoff(base=1, factor=1, max=1, jitter=0.5), 0) for _ in range(200)]
    assert min(jittered) >= 0.5
    assert max(jittered) <= 1
    assert max(jittered) - min(jittered) > 0.25


@pytest.mark.parametrize(
    "delay",
    [
        -1,
        math.nan,
        math.inf,
        timedelta(seconds=-1),
        pytest.param(10**400, id="10**400"),
        pytest.param(-(10**5000), id="-10**5000"),
        True,
        "5",
        datetime(2030, 1, 1, tzinfo=UTC),
    ],
)
def test_a_retry_cannot_be_asked_for_in_the_past_or_never(delay: Any) -> None:
    with pytest.raises(ValueError, match="Retry: delay is"):
        Retry(delay=delay)
    assert Retry(timedelta(minutes=1)).delay == 60


def test_a_word_that_no_push_takes_is_answered_with_the_one_that_is_meant() -> None:
    @job
    async def resize(path: str) -> None: ...

    for words, answer in (
        ({"dealy": 3}, 'push() takes no "dealy"; did you mean "delay"?'),
        ({"countdown": 3}, 'push() takes no "countdown"; say delay='),
    ):
        with pytest.raises(TypeError) as caught:
            check_words(words)
        assert str(caught.value) == answer
    with pytest.raises(TypeError, match=r"options go behind the call: resize\.job\(\.\.\.\)\.push\(delay="):
        resize.job("a.png", delay=5)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="resize: missing a required argument: 'path'"):
        resize.job()  # type: ignore[call-arg]
