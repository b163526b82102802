"""``headrace check``: find what is wrong before it goes wrong."""

import asyncio
import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import typer

from headrace.app import Headrace
from headrace.cli.options import Json
from headrace.cli.output import console, on_terminal, plural, say, say_json
from headrace.cli.session import DONE, FAILED, exit_code, session_of
from headrace.driver import Backend, Capabilities
from headrace.errors import BackendError, HeadraceError
from headrace.imports import import_object
from headrace.job import Job, declared_jobs
from headrace.needs import hint_of, refuse_too_long, require_declared
from headrace.plans import Middleware, Plans, load_middleware
from headrace.printing import printable_block
from headrace.tables import suggest
from headrace.threads import Threads

EXAMPLES = (
    "headrace check",
    "headrace --config production.toml check --json",
)

#: Seconds for one backend to answer: as long as a person waits, longer than any that is well.
PATIENCE: Final = 10.0

Level = Literal["ok", "warning", "problem"]

_MARKS: Final = {"ok": ("✓", "green"), "warning": ("!", "bold yellow"), "problem": ("✗", "bold red")}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    subject: str
    text: str
    status: int = DONE  #: the exit code that it asks for

    def as_object(self) -> dict[str, str]:
        return {"level": self.level, "subject": self.subject, "text": self.text}


def check(context: typer.Context, as_json: Json = False) -> None:
    """Check configuration, connections, versions, and the declared jobs against what backends can do.

    Exits with 2 if configuration or jobs are wrong, and with 1 if the only problem is a backend
    that is out of reach or refuses; a warning is no problem. With --json, an object with ok,
    problems, warnings (both numbers) and findings: an array of level, subject and text.
    """
    inspection = Inspection(session_of(context).app)
    asyncio.run(inspection.run())
    problems, warnings = inspection.count("problem"), inspection.count("warning")
    if as_json:
        findings = [each.as_object() for each in inspection.findings]
        say_json({"ok": not problems, "problems": problems, "warnings": warnings, "findings": findings})
    else:
        for each in inspection.findings:
            _print(each)
        say(f"\n{plural(problems, 'problem')}, {plural(warnings, 'warning')}")
    raise typer.Exit(max(each.status for each in inspection.findings))


class Inspection:
    """Looks at everything that an app's configuration leads to, and goes on after a problem."""

    def __init__(self, app: Headrace) -> None:
        self.app = app
        self.findings: list[Finding] = []
        self._backends: dict[str, Backend] = {}
        self._middleware: Sequence[Middleware] = ()

    def count(self, level: Level) -> int:
        return sum(each.level == level for each in self.findings)

    async def run(self) -> None:
        """Fill `findings`, the causes before what they cause."""
        self._add("ok", "configuration", self.app.config.describe())
        self._look_at_modules()
        async with self.app:
            queues = self.app.config.queues.values()
            names = list(dict.fromkeys(each.backend for each in queues))
            self._warn_of_unusable(names)
            # At once: one that does not answer takes its time, and no other's.
            for findings in await asyncio.gather(*(self._look_at_backend(name) for name in names)):
                self.findings += findings
            for settings in queues:
                if settings.backend in self._backends:
                    await self._look_at_queue(settings.name)
            for job_class in dict.fromkeys(declared_jobs().values()):
                self._look_at_job(job_class)

    def _add(self, level: Level, subject: str, text: str, status: int = DONE) -> None:
        self.findings.append(Finding(level, subject, text, status))

    @contextlib.contextmanager
    def _finding(self, subject: str) -> Iterator[None]:
        """What is raised inside is a problem of ``subject``."""
        try:
            yield
        except HeadraceError as error:
            self._add("problem", subject, str(error), exit_code(error))

    def _look_at_modules(self) -> None:
        config = self.app.config
        with self._finding("imports"):
            self.app.load_jobs()
            known = len(set(declared_jobs().values()))
            modules = ", ".join(config.imports)
            if known:
                self._add("ok", "imports", f"{plural(known, 'job')} declared by {modules}")
            elif modules:
                self._add("warning", "imports", f"no job is declared by {modules}")
            else:
                self._add("warning", "imports", "no module is imported, so that workers know no job")
        with self._finding("listeners"):
            _ = self.app.events
        with self._finding("middleware"):
            self._middleware = load_middleware(config.middleware)
        if config.lifespan is not None:
            with self._finding("lifespan"):
                import_object(config.lifespan, "lifespan")

    def _warn_of_unusable(self, used: Sequence[str]) -> None:
        """A table that no queue uses and no plugin could: its name may be misspelt, and jobs go elsewhere."""
        installed = {each.name for each in self.app.registry.names()}
        for name, options in self.app.config.backends.items():
            if name not in used:
                with self._finding(f"backend {name}"):
                    if options.plugin not in installed:
                        text = f"no queue uses it, and no backend {options.plugin!r} is installed; "
                        self._add("warning", f"backend {name}", text + suggest(options.plugin, installed))

    async def _look_at_backend(self, name: str) -> list[Finding]:
        subject = f"backend {name}"
        try:
            async with asyncio.timeout(PATIENCE):
                backend = await self.app.opened(name)
                await self._make_drivers(name)
                warnings = await backend.check()
        except TimeoutError:
            text = f"{self.app.backend(name).place} gave no answer in {PATIENCE:g} s"
            return [Finding("problem", subject, text, FAILED)]
        except HeadraceError as error:
            return [Finding("problem", subject, str(error), exit_code(error))]
        self._backends[name] = backend
        versions = ", ".join(f"{what} {version}" for what, version in backend.versions.items())
        findings = [Finding("ok", subject, f"{backend.place}{f' ({versions})' if versions else ''}")]
        if not backend.capabilities.shared:
            text = "its messages never leave the process that pushed them; the command line can neither push nor work"
            findings.append(Finding("warning", subject, text))
        return findings + [Finding("warning", subject, each) for each in warnings]

    async def _make_drivers(self, backend: str) -> None:
        """So that the backend knows its queues. What one of them meets is found again when the queue is looked at."""
        for settings in self.app.config.queues.values():
            if settings.backend == backend:
                with contextlib.suppress(HeadraceError):
                    await self.app.queue(settings.name).driver()

    async def _look_at_queue(self, name: str) -> None:
        subject = f"queue {name}"
        queue = self.app.queue(name)
        settings = queue.settings
        try:
            async with asyncio.timeout(PATIENCE):
                await queue.info()
        except TimeoutError:
            self._add("problem", subject, f"{settings.backend} gave no answer in {PATIENCE:g} s", FAILED)
        except BackendError as error:
            self._add("problem", subject, str(error), exit_code(error))
        else:
            work = (
                f"{plural(settings.processes, 'process', 'processes')}, {settings.concurrent.limit} at once in each"
                if settings.enabled
                else "not enabled: workers leave it alone unless they name it"
            )
            self._add("ok", subject, f"on {settings.backend}, as {settings.prefix}; {work}")
        with self._finding(subject):
            refuse_too_long(subject, settings.handle_timeout, settings.backend, self._capabilities(settings.backend))
        self._warn_of_no_end(subject, settings.handle_timeout, settings.backend)

    def _capabilities(self, backend: str) -> Capabilities:
        """What a backend can do, as it knows it now that it is open."""
        return self._backends[backend].capabilities

    def _warn_of_no_end(self, subject: str, handle_timeout: float | None, backend: str) -> None:
        """A handler without a timeout may outlive its delivery, where that cannot be held for ever."""
        capabilities = self._capabilities(backend)
        if handle_timeout == 0 and not math.isinf(capabilities.max_run):
            self._add(
                "warning",
                subject,
                "no handle_timeout is set, and a handler that runs longer than the "
                f"{capabilities.max_run:g} s that the backend {backend!r} can hold a delivery is run a second "
                f"time beside itself{hint_of(capabilities)}",
            )

    def _look_at_job(self, job_class: type[Job]) -> None:
        options = job_class.job_options
        subject = f"job {options.name}"
        with self._finding(subject):
            queue = self.app.queue(options.queue)
            # The same plan that a worker makes before its first message, and refuses.
            backend = queue.settings.backend
            plans = Plans(self.app, queue.settings, self._middleware, Threads(1, "headrace-job"))  # starts none
            if backend in self._backends:
                plans.hold_to(self._capabilities(backend))
            plan = plans.get(options.name)
            if backend in self._backends:
                require_declared(options, backend, queue.capabilities)
                self._warn_of_no_end(subject, options.handle_timeout, backend)
            limits = []
            if plan.terms.handle_timeout:
                limits.append(f"{plan.terms.handle_timeout:g} s, then {plan.terms.on_timeout}")
            if plan.terms.max_retries:
                limits.append(plural(plan.terms.max_retries, "retry", "retries"))
            self._add("ok", subject, "; ".join([f"on {options.queue}", *limits]))


def _print(finding: Finding) -> None:
    text = printable_block(f"{finding.subject}: {finding.text}").replace("\n", "\n    ")
    if not on_terminal():
        say(f"{finding.level:7}  {text}")
        return
    from rich.text import Text

    mark, style = _MARKS[finding.level]
    console().print(Text.assemble((mark, style), f" {text}"))
