"""Huey, on Redis or SQLite: its consumer with threads, its default."""

# Another job queue, which is installed for `peers` alone: the type checkers may not find it.
# mypy: disable-error-code="import-not-found, import-untyped, untyped-decorator, misc, no-any-return"
# pyright: reportMissingImports=false, reportMissingModuleSource=false

import logging
from collections.abc import Sequence
from typing import ClassVar

from huey import Huey, RedisHuey, SqliteHuey

from peers.base import Adapter, Place


class HueyAdapter(Adapter):
    """Options: ``storage`` and ``consumer``, the arguments of either class."""

    distributions: ClassVar = ("huey", "redis")

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._huey = _huey(place)
        self._job = self._huey.task(name="job")(self.run)

    async def close(self) -> None:
        self._huey.storage.close()

    async def push(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self._job(number)

    async def left(self) -> int:
        return self._huey.pending_count()

    def work(self) -> None:
        logging.getLogger("huey").setLevel(logging.ERROR)
        self._huey.create_consumer(
            workers=self.place.concurrency,
            periodic=False,
            graceful_signal="TERM",
            **self.place.options.get("consumer", {}),
        ).run()


def _huey(place: Place) -> Huey:
    options = place.options.get("storage", {})
    if place.url.startswith("redis"):
        return RedisHuey(place.queue, url=place.url, results=False, **options)
    return SqliteHuey(place.queue, filename=place.url, results=False, **options)
