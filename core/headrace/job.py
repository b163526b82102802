"""Declaring jobs: the `Job` base class and the `job` decorator.

Owns what a declaration may look like, and which jobs this process has declared. How a job
becomes bytes stands in ``codec.py``; where it is pushed, in ``queue.py``.
"""

import copy
import dataclasses
import inspect
import logging
import re
import sys
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Generic,
    Never,
    ParamSpec,
    TypeVar,
    Unpack,
    dataclass_transform,
    overload,
)

from headrace import context
from headrace.errors import HeadraceError, JobError, WrongContext
from headrace.options import OnDuplicate, OnTimeout, PushWords, Schedule, run_options
from headrace.settings import NAME_PATTERN, NAME_WORDS, RetrySeconds
from headrace.tables import unknown_word
from headrace.vocabulary import JOB_WORDS

if TYPE_CHECKING:
    from headrace.app import Headrace

logger = logging.getLogger("headrace")

#: Of two threads that push first, one loads the configuration.
_loading = threading.Lock()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """What a declaration says; ``None`` where it leaves the word to the queue."""

    name: str  #: the wire name
    queue: str = "default"
    max_retries: int | None = None
    retry_seconds: RetrySeconds | None = None
    handle_timeout: float | None = None
    on_timeout: OnTimeout | None = None
    unique: tuple[str, ...] = ()  #: fields whose values make the unique key
    on_duplicate: OnDuplicate = "replace"
    aliases: tuple[str, ...] = ()  #: further wire names that are understood
    is_async: bool = False
    source: str = ""  #: where it was declared, for people


#: What a declaration says of its runs, as a push may.
_OF_RUNS = ("max_retries", "retry_seconds", "handle_timeout", "on_timeout")
#: Options that a subclass inherits. Names are not: two jobs cannot share one.
_INHERITED = ("queue", *_OF_RUNS, "unique", "on_duplicate")
_OPTIONS = ("name", "aliases", *_INHERITED)

#: A wire name, as it stands in messages, commands and the log: so no space in it, and nothing of ``<lambda>``.
_NAME = re.compile(r"[^\s<>,\x00-\x20\x7f]{1,200}\Z")


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(dataclasses.field, dataclasses.Field))
class Job:
    """The base of job classes. Subclasses are frozen dataclasses with keyword-only fields.

    ::

        class SendWelcome(Job, queue="mail", max_retries=2):
            user_id: int
            async def handle(self) -> None: ...

    Options, inherited by subclasses but for the names:

    - ``name``: the wire name; the class's own by default. ``aliases``: names it had before.
    - ``queue``: where a bare push goes; ``"default"``.
    - ``max_retries``, ``retry_seconds``, ``handle_timeout`` (seconds), ``on_timeout``
      (``"continue"`` or ``"cancel"``): win over the queue's.
    - ``unique``: the field, or fields, of which only one pending message may exist;
      ``on_duplicate``: whether a push replaces or keeps it.

    A subclass without ``handle`` is abstract: a place for shared options and fields.
    """

    job_options: ClassVar[JobOptions] = JobOptions(name="Job")
    #: A newer definition has taken this one's name; what was made of it can still be pushed.
    job_superseded: ClassVar[bool] = False

    def __init_subclass__(
        cls,
        *,
        name: str | None = None,
        queue: str | None = None,
        max_retries: int | None = None,
        retry_seconds: Schedule | None = None,
        handle_timeout: float | None = None,
        on_timeout: OnTimeout | None = None,
        unique: str | Sequence[str] | None = None,
        on_duplicate: OnDuplicate | None = None,
        aliases: Sequence[str] = (),
        **unknown: Never,
    ) -> None:
        super().__init_subclass__()
        where = f"{cls.__module__}.{cls.__qualname__}"
        for word in unknown:
            raise JobError(f"{where}: the option {word!r} {unknown_word(word, _OPTIONS, JOB_WORDS)}")
        given: dict[str, Any] = {key: getattr(cls.job_options, key) for key in _INHERITED}
        of_runs = run_options(
            where, dict(zip(_OF_RUNS, (max_retries, retry_seconds, handle_timeout, on_timeout), strict=True))
        )
        stated = {
            "queue": queue,
            **{key: getattr(of_runs, key) for key in _OF_RUNS},
            "unique": None if unique is None else _names(where, "unique", unique),
            "on_duplicate": on_duplicate,
        }
        given |= {key: value for key, value in stated.items() if value is not None}
        for field in inspect.get_annotations(cls):
            if hasattr(Job, field):
                raise JobError(f"{where}: the field {field!r} would shadow Job.{field}; choose another name")
        dataclasses.dataclass(frozen=True, kw_only=True)(cls)
        options = JobOptions(
            name=cls.__name__ if name is None else name,
            aliases=_names(where, "aliases", aliases),
            is_async=inspect.iscoroutinefunction(cls.handle),
            source=where,
            **given,
        )
        _check(cls, options)
        if cls.handle is not Job.handle:
            _refuse_clash(cls, options)
        cls.job_options = options

    def handle(self) -> object:
        """Do the work; ``async def``, or ``def``, which runs in a thread. What it returns is not kept."""
        raise NotImplementedError

    def failed(self, error: Exception) -> object:
        """Called once when the retries are used up, after the message has come to rest in ``failed``."""
        return None

    def push(self, **words: Unpack[PushWords]) -> context.PushCoroutine:
        """Push to the job's own queue, on the app most recently entered; see `Queue.push`."""
        return _entered_app().queue(self.job_options.queue).push(self, **words)

    def push_sync(self, **words: Unpack[PushWords]) -> str:
        """As `push`, from code that runs on no event loop."""
        return _app_for_sync().queue(self.job_options.queue).push_sync(self, **words)


P = ParamSpec("P")
R = TypeVar("R")


class JobFunction(Generic[P, R]):
    """A function declared with `job`. Called, it is the function itself, run here and unqueued."""

    def __init__(self, function: Callable[P, R], job_class: type[Job]) -> None:
        self.function = function
        self.job_class = job_class
        self._signature = inspect.signature(function)
        self.__name__ = function.__name__
        self.__qualname__ = function.__qualname__
        self.__module__ = function.__module__
        self.__doc__ = function.__doc__
        self.__wrapped__ = function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<job {self.job_class.job_options.name!r} at {self.__module__}.{self.__qualname__}>"

    def job(self, *args: P.args, **kwargs: P.kwargs) -> Job:
        """The call as a job, for ``queue.push`` and its options."""
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            words = [word for word in kwargs if word in PushWords.__annotations__]
            hint = f"; options go behind the call: {self.__name__}.job(...).push({words[0]}=...)" if words else ""
            raise TypeError(f"{self.__name__}: {error}{hint}") from None
        return self.job_class(**bound.arguments)

    def push(self, *args: P.args, **kwargs: P.kwargs) -> context.PushCoroutine:
        """Push the call to the job's own queue, on the app most recently entered."""
        return self.job(*args, **kwargs).push()

    def push_sync(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """As `push`, from code that runs on no event loop."""
        return self.job(*args, **kwargs).push_sync()


@overload
def job(function: Callable[P, R], /) -> JobFunction[P, R]: ...
@overload
def job(
    *,
    name: str | None = None,
    queue: str | None = None,
    max_retries: int | None = None,
    retry_seconds: Schedule | None = None,
    handle_timeout: float | None = None,
    on_timeout: OnTimeout | None = None,
    unique: str | Sequence[str] | None = None,
    on_duplicate: OnDuplicate | None = None,
    aliases: Sequence[str] = (),
) -> Callable[[Callable[P, R]], JobFunction[P, R]]: ...
def job(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Declare a function as a job; the options are those of `Job`, ``unique`` names parameters.

    ``await resize.push("a.png")`` pushes a call, ``resize.job("a.png")`` is the call as a job,
    and ``await resize("a.png")`` runs it here.
    """
    if function is None:
        return lambda decorated: JobFunction(decorated, _job_class(decorated, options))
    return JobFunction(function, _job_class(function, options))


def declared_jobs() -> dict[str, type[Job]]:
    """Every job that this process has declared, by wire name and by alias."""
    found: dict[str, type[Job]] = {}
    for each in _declared():
        for name in (each.job_options.name, *each.job_options.aliases):
            found[name] = each
    return found


def _entered_app() -> "Headrace":
    context.require_loop("push")
    app = context.entered()
    if app is None:
        raise WrongContext("no app was entered to push to; put this inside 'async with Headrace.load():'")
    return app


def _app_for_sync() -> "Headrace":
    """The app most recently entered, else made; without one, that of the config found from here, kept as if entered."""
    app = context.entered() or context.last_made()
    if app is None:
        from headrace.app import Headrace

        with _loading:
            app = context.entered() or context.last_made()
            if app is None:
                app = Headrace.load()
                context.enter(app)
                if app.config.source is None:
                    logger.warning("nobody made a Headrace here; pushing by %s", app.config.describe())
    return app


def _declared(base: type[Job] = Job) -> Iterator[type[Job]]:
    """Concrete subclasses, oldest first. Python itself keeps the list."""
    for each in base.__subclasses__():
        finished = "job_options" in each.__dict__  # not so where a declaration was refused
        if finished and each.handle is not Job.handle and not each.__dict__.get("job_superseded"):
            yield each
        yield from _declared(each)


def _refuse_clash(cls: type[Job], options: JobOptions) -> None:
    names = {options.name, *options.aliases}
    for other in list(_declared()):
        taken = {other.job_options.name, *other.job_options.aliases}
        if not names & taken or other is cls:
            continue
        if _supersedes(cls, other):
            other.job_superseded = True
            continue
        raise JobError(
            f"two jobs are called {min(names & taken)!r}: {other.job_options.source} and {options.source}; "
            "give one of them another name, as in name='...'"
        )


def _supersedes(cls: type[Job], other: type[Job]) -> bool:
    """Whether ``cls`` is a new edition of ``other``.

    It is where it was defined again in its place, be it that the file is ``__main__`` and
    was imported too; and where ``other`` is local to a call of another function.
    """
    if cls.__qualname__ == other.__qualname__ and _file(cls) == _file(other):
        return True
    scope, old_scope = (each.__qualname__.rpartition(".")[0] for each in (cls, other))
    return old_scope.endswith("<locals>") and (cls.__module__, scope) != (other.__module__, old_scope)


def _file(cls: type[Job]) -> str:
    """The file of a class's module, or the module's name where it has none."""
    return getattr(sys.modules.get(cls.__module__), "__file__", None) or cls.__module__


def _names(where: str, option: str, value: object) -> tuple[str, ...]:
    """One name or several."""
    names = (value,) if isinstance(value, str) else value
    if isinstance(names, Sequence) and all(isinstance(each, str) for each in names):
        return tuple(names)
    raise JobError(f"{where}: {option} is {value!r}; it must be a name, or a list of names")


def _check(cls: type[Job], options: JobOptions) -> None:
    where = options.source
    for each in (options.name, *options.aliases):
        if not isinstance(each, str) or not _NAME.match(each):
            raise JobError(
                f"{where}: {each!r} cannot be its name: that is up to 200 characters without spaces, and none of < > , "
                "in it; say name='...'"
            )
    if not isinstance(options.queue, str) or not re.match(NAME_PATTERN, options.queue):
        raise JobError(f"{where}: queue is {options.queue!r}; a queue's name is {NAME_WORDS}")
    _check_handler(where, cls.handle)
    for parameter in [*inspect.signature(cls.handle).parameters.values()][1:]:
        if parameter.default is parameter.empty and parameter.kind not in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
        ):
            raise JobError(f"{where}: handle() is called without {parameter.name!r}: a job's arguments are its fields")
    fields = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for each in options.unique:
        if each not in fields:
            raise JobError(f"{where}: unique={each!r} is not one of its fields: {', '.join(sorted(fields)) or 'none'}")
    if options.on_duplicate not in ("replace", "keep"):
        raise JobError(f"{where}: on_duplicate is {options.on_duplicate!r}; it must be 'replace' or 'keep'")


def _check_handler(where: str, handler: Callable[..., object]) -> None:
    """Refuse what would not run when it is called."""
    if inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler):
        raise JobError(f"{where}: a handler cannot 'yield': nobody would take what it gives, and it would never run")


def _job_class(function: Callable[..., Any], options: dict[str, Any]) -> type[Job]:
    """A Job subclass whose fields are the function's parameters."""
    if not inspect.isfunction(function):
        raise JobError(f"@job takes a function, not {function!r}; options have names, as in @job(queue='mail')")
    where = f"{function.__module__}.{function.__qualname__}"
    _check_handler(where, function)
    annotations: dict[str, Any] = {}
    namespace: dict[str, Any] = {}
    positional: list[str] = []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise JobError(f"{where}: a job cannot take {parameter}, since its fields must be known")
        if parameter.kind is parameter.POSITIONAL_ONLY:
            positional.append(name)
        annotations[name] = Any if parameter.annotation is parameter.empty else parameter.annotation
        if parameter.default is not parameter.empty:
            namespace[name] = _field_default(parameter.default)

    def call(self: Job) -> Any:
        arguments = dict(vars(self))
        return function(*[arguments.pop(name) for name in positional], **arguments)

    async def call_async(self: Job) -> Any:
        return await call(self)

    namespace |= {
        "__annotations__": annotations,
        "__module__": function.__module__,
        "__qualname__": function.__qualname__,
        "__doc__": function.__doc__,
        "handle": call_async if inspect.iscoroutinefunction(function) else call,
    }
    try:
        return types.new_class(function.__name__, (Job,), options, lambda body: body.update(namespace))
    except TypeError as error:
        raise HeadraceError(f"{where}: {error}") from error


def _field_default(default: Any) -> Any:
    if type(default).__hash__ is None:
        return dataclasses.field(default_factory=lambda: copy.copy(default))
    return default
