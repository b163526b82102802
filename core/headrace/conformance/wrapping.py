"""A backend around another one: the ground of what the kit puts between the engine and a driver."""

import dataclasses
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Self

from headrace.conformance.recording import Calls, RecordingDriver
from headrace.driver import Backend, Capabilities, Driver


class WrappedBackend(Backend):
    """Passes everything on to ``inner``. A subclass says what it puts around drivers, and how a clone has it too."""

    def __init__(self, inner: Backend) -> None:
        self._inner = inner

    @property
    def capabilities(self) -> Capabilities:
        return self._inner.capabilities

    @property
    def place(self) -> str:
        return self._inner.place

    async def open(self) -> None:
        await self._inner.open()

    async def close(self) -> None:
        await self._inner.close()

    def clone(self) -> Self:
        return self._around(self._inner.clone())

    def driver(self, prefix: str, *, lease_seconds: float = 30.0) -> Driver:
        return self._inner.driver(prefix, lease_seconds=lease_seconds)

    async def check(self) -> Sequence[str]:
        return await self._inner.check()

    @property
    def versions(self) -> Mapping[str, str]:
        return self._inner.versions

    @abstractmethod
    def _around(self, inner: Backend) -> Self:
        """The same around a clone of the inner backend."""


class RecordingBackend(WrappedBackend):
    """Notes all calls of its drivers, and those of its clones, in ``calls``."""

    def __init__(self, inner: Backend, calls: Calls, title: str) -> None:
        super().__init__(inner)
        self._calls = calls
        self._title = title

    def driver(self, prefix: str, *, lease_seconds: float = 30.0) -> Driver:
        return RecordingDriver(super().driver(prefix, lease_seconds=lease_seconds), self._calls, self._title)

    def _around(self, inner: Backend) -> Self:
        return type(self)(inner, self._calls, self._title)


class LimitedBackend(WrappedBackend):
    """Declares less than the inner one: ``changes`` are fields of `Capabilities`."""

    def __init__(self, inner: Backend, **changes: Any) -> None:
        super().__init__(inner)
        self._changes = changes

    @property
    def capabilities(self) -> Capabilities:
        return dataclasses.replace(super().capabilities, **self._changes)

    def _around(self, inner: Backend) -> Self:
        return type(self)(inner, **self._changes)
