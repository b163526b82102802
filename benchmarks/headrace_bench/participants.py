"""Who takes part: the backends that are installed and can be reached, each with its bare client.

Owns the choice, and what a report says of each. Every look at a backend is taken by a process of its own, so that a
plugin that cannot be imported, or ends its process, spoils nothing but itself.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import msgspec

from headrace import __version__
from headrace.app import Headrace
from headrace.errors import ConfigError, UnknownBackend
from headrace.tables import show, suggest
from headrace_bench import baseline
from headrace_bench.process import Child
from headrace_bench.results import Participant
from headrace_bench.scenario import Traits
from headrace_bench.seat import Seat
from headrace_bench.servers import NEED_SERVER, Instance, ServerNotFound, private
from headrace_bench.tasks import Failed, Found, Look, Unfit, read_answer

#: Seconds that a look may take: a client library, and a server that does not answer.
_LOOKING: Final = 30.0

#: Words in an option's name whose value a report never shows. Addresses may hold passwords.
_SECRET: Final = ("url", "password", "secret", "token", "key", "user")


@dataclass(frozen=True, slots=True)
class Member:
    """One participant, and how it is reached."""

    seat: Seat
    participant: Participant
    traits: Traits


@dataclass(frozen=True, slots=True)
class Absent:
    """A backend that does not take part, and why."""

    name: str
    reason: str
    wanted: bool  #: it was named, or configured, so that its absence is a failure


@dataclass(frozen=True, slots=True)
class _Candidate:
    name: str
    plugin: str
    options: dict[str, Any]
    instance: Instance | None = None


class Gathering:
    """Finds participants, and owns the private servers: ``with Gathering(...) as gathering``."""

    def __init__(self, app: Headrace, folder: Path, *, start_servers: bool) -> None:
        """``folder``: where relative paths of backends start, and looks have their scratch files."""
        self._app = app
        self._folder = folder
        self._start_servers = start_servers
        self._stack = ExitStack()

    def __enter__(self) -> "Gathering":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def check(self, names: Sequence[str]) -> None:
        """Raises `UnknownBackend`, with the nearest name, for one that is neither installed nor configured."""
        known = self._known()
        for name in names:
            if name not in known:
                raise UnknownBackend(f"no backend {show(name)} is installed or configured; {suggest(name, known)}")

    def members(self, names: Sequence[str], options: Mapping[str, Any]) -> Iterator[list[Member] | Absent]:
        """Each backend with its bare client, or why it does not take part, as they are found.

        ``names``: those that are wanted; without any, all that can be reached. ``options``: over those configured, for
        the one that is named.
        """
        for name in names or self._known():
            wanted = bool(names) or name in self._app.config.backends
            try:
                candidate = self._candidate(name, options, wanted)
            except (ConfigError, ServerNotFound, RuntimeError) as error:
                yield Absent(name, str(error), wanted)
                continue
            if candidate is None:
                yield Absent(name, "name it, configure it, or --start-servers", wanted=False)
                continue
            yield self._looked_at(candidate, wanted)

    def _known(self) -> list[str]:
        """Configured ones first, then those that are only installed."""
        installed = [each.name for each in self._app.registry.names()]
        return list(dict.fromkeys([*self._app.config.backends, *installed]))

    def _candidate(self, name: str, options: Mapping[str, Any], wanted: bool) -> _Candidate | None:
        configured = self._app.config.backend_options(name)
        table = {**configured.values, **options}
        if self._start_servers and not table and configured.plugin in NEED_SERVER:
            instance = self._stack.enter_context(private(configured.plugin))
            return _Candidate(name, configured.plugin, instance.options, instance)
        if configured.plugin in NEED_SERVER and not table and not wanted:
            return None
        return _Candidate(name, configured.plugin, table)

    def _looked_at(self, candidate: _Candidate, wanted: bool) -> list[Member] | Absent:
        instance = candidate.instance
        seat = Seat(
            name=candidate.name,
            backend=candidate.name,
            plugin=candidate.plugin,
            options=candidate.options,
            root=str(self._folder),
            server=instance.pid if instance else None,
            environment=instance.environment if instance else {},
        )
        found = self._look(seat)
        if isinstance(found, str):
            return Absent(candidate.name, found, wanted)
        place = found.place.replace(str(self._folder), "a scratch folder")
        settings = dict(instance.settings) if instance else {"place": place}
        settings |= {
            key: str(value)
            for key, value in candidate.options.items()
            if not any(word in key.lower() for word in _SECRET)
        }
        if found.checks:
            settings["remarks"] = "; ".join(found.checks)
        member = Member(
            seat,
            Participant(
                name=candidate.name,
                kind="backend",
                broker=candidate.plugin,
                versions={"headrace": __version__, **found.versions},
                settings=settings,
                durability=instance.durability if instance else found.durability,
                guarantee=found.guarantee,
                lacks=found.lacks,
                bare="",
            ),
            found.traits,
        )
        bare = self._bare(member)
        if bare is None:
            return [member]
        linked = msgspec.structs.replace(member.participant, bare=bare.participant.name)
        return [Member(seat, linked, found.traits), bare]

    def _bare(self, member: Member) -> Member | None:
        """The bare client of a backend, if its plugin brings one that works with these options."""
        if not metadata.entry_points(group=baseline.ENTRY_POINTS, name=member.seat.plugin):
            return None
        seat = msgspec.structs.replace(member.seat, name=f"{member.seat.name}, bare", bare=True)
        found = self._look(seat)
        if isinstance(found, str):
            return None
        participant = Participant(
            name=seat.name,
            kind="bare",
            broker=seat.plugin,
            versions=found.versions,
            settings={"does": found.about},
            durability=member.participant.durability,
            guarantee=found.guarantee,
        )
        return Member(seat, participant, found.traits)

    def _look(self, seat: Seat) -> Found | str:
        """What a process of its own has found out, or why it has not."""
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            task = msgspec.json.encode(Look(seat=seat, folder=folder))
            child = Child(task, Path(folder, "log"), environment=seat.environment, own_session=True)
            try:
                problem = child.wait(_LOOKING)
            finally:
                child.end()
            answer = read_answer(folder)
        if isinstance(answer, Found):
            return answer
        if isinstance(answer, Unfit):
            return answer.reason
        return answer.error if isinstance(answer, Failed) else problem or "its process left no answer"
