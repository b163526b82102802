"""What is measured in a soak: of processes, what the system tells of them; of brokers, what they tell of themselves."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import boto3  # type: ignore[import-untyped]
import psutil  # type: ignore[import-untyped]
from places import Place, RabbitPlace, RedisPlace, SqsPlace

_MIB: Final = 2**20


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure of one thing, at one moment."""

    thing: str  #: a process, or the broker
    what: str
    value: float
    slack: float  #: by how much it may differ, in the end, from what it was

    @property
    def key(self) -> tuple[str, str]:
        return self.thing, self.what


#: By how much figures of a process come and go: connections are made and dropped, a pool grows to its size.
SLACK: Final = {"descriptors": 4, "threads": 3, "tasks": 5, "connections": 3}

#: MiB by which memory may grow: pools, caches and what the allocator keeps; a leak of 1 kB for each job would be more.
MEMORY_SLACK: Final = 10.0


def of_process(name: str, process: int, vitals: dict[int, tuple[int, int]]) -> Iterator[Measure]:
    """The figures of a process that lives."""
    found = psutil.Process(process)
    with found.oneshot():
        yield Measure(name, "MiB", found.memory_info().rss / _MIB, MEMORY_SLACK)
        yield Measure(name, "descriptors", found.num_fds(), SLACK["descriptors"])
        yield Measure(name, "threads", found.num_threads(), SLACK["threads"])
    yield Measure(name, "connections", len(found.net_connections("tcp")), SLACK["connections"])
    if process in vitals:
        yield Measure(name, "tasks", vitals[process][0], SLACK["tasks"])


def of_broker(place: Place, folder: Path) -> Iterator[Measure]:
    """What there is in a broker beside messages: keys, queues and connections that nobody needs would show."""
    match place:
        case RedisPlace():
            yield Measure("broker", "keys", place.broker.ask("DBSIZE"), 3)
            yield Measure("broker", "connections", int(place.broker.info("clients")["connected_clients"]), 6)
        case RabbitPlace():
            yield Measure("broker", "queues", int(place.broker.evaluate("length(rabbit_amqqueue:list())")), 1)
            yield Measure("broker", "connections", place.broker.connections(), 6)
        case SqsPlace():
            client = boto3.client("sqs", endpoint_url=place.server.url)
            yield Measure("broker", "queues", len(client.list_queues().get("QueueUrls", ())), 1)
            client.close()
        case _:
            # Deleted rows leave room in the file, which is used again: it has the size of the largest backlog.
            size = sum(file.stat().st_size for file in folder.glob("headrace.db*"))
            yield Measure("broker", "MiB", size / _MIB, MEMORY_SLACK)


def vitals_in(file: Path) -> dict[int, tuple[int, int]]:
    """What processes told of themselves last: tasks and threads, by process."""
    if not file.exists():
        return {}
    lines = (line.split() for line in file.read_text().splitlines())
    return {int(process): (int(tasks), int(threads)) for process, tasks, threads in lines}
