"""A backend around another one: the ground of what the kit puts between the engine and a driver."""

import dataclasses
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Self

from headrace.conformance.recording import Calls, RecordingDriver
from headrace.driver import (
    Backend,
    Capabilities,
    Channel,
    Delivery,
    Driver,
    Info,
    Message,
    Page,
    RestingChannel,
    Result,
)
from headrace.errors import BackendError


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


class WrappedDriver(Driver):
    """Passes every call on to ``inner``. A subclass says which it makes otherwise."""

    def __init__(self, inner: Driver) -> None:
        self._inner = inner

    async def push(self, messages: Sequence[Message]) -> Sequence[str | BackendError]:
        return await self._inner.push(messages)

    async def delay(self, messages: Sequence[Message]) -> Sequence[str | BackendError]:
        return await self._inner.delay(messages)

    async def pop(self, limit: int, wait: float) -> Sequence[Delivery]:
        return await self._inner.pop(limit, wait)

    async def ack(self, receipts: Sequence[Any]) -> Sequence[Result]:
        return await self._inner.ack(receipts)

    async def retry(self, pairs: Sequence[tuple[Any, Message]]) -> Sequence[Result]:
        return await self._inner.retry(pairs)

    async def fail(self, pairs: Sequence[tuple[Any, Message]], channel: RestingChannel) -> Sequence[Result]:
        return await self._inner.fail(pairs, channel)

    async def extend(self, receipts: Sequence[Any], seconds: float) -> Sequence[Result]:
        return await self._inner.extend(receipts, seconds)

    async def reload(self, channel: RestingChannel, limit: int | None = None, ids: Sequence[str] | None = None) -> int:
        return await self._inner.reload(channel, limit, ids)

    async def flush(self, channel: Channel) -> int:
        return await self._inner.flush(channel)

    async def info(self) -> Info:
        return await self._inner.info()

    async def destroy(self) -> None:
        await self._inner.destroy()

    async def peek(
        self, channel: Channel, limit: int, *, cursor: str | None = None, ids: Sequence[str] | None = None
    ) -> Page:
        return await self._inner.peek(channel, limit, cursor=cursor, ids=ids)

    async def cancel(self, id: str) -> bool:  # noqa: A002 - the contract's word
        return await self._inner.cancel(id)

    async def forget(self, channel: Channel, ids: Sequence[str]) -> int:
        return await self._inner.forget(channel, ids)

    async def wait_ready(self, seconds: float) -> bool:
        return await self._inner.wait_ready(seconds)

    async def store(self, messages: Sequence[Message], channel: RestingChannel) -> Sequence[str | BackendError]:
        return await self._inner.store(messages, channel)

    async def lend(self, channel: Channel, limit: int) -> Sequence[Delivery]:
        return await self._inner.lend(channel, limit)


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
    """Declares less than the inner one: ``changes`` are fields of `Capabilities`.

    The verbs and channels that it does not declare are not there, as on any other backend.
    """

    def __init__(self, inner: Backend, **changes: Any) -> None:
        super().__init__(inner)
        self._changes = changes

    @property
    def capabilities(self) -> Capabilities:
        return dataclasses.replace(super().capabilities, **self._changes)

    def driver(self, prefix: str, *, lease_seconds: float = 30.0) -> Driver:
        return _LimitedDriver(super().driver(prefix, lease_seconds=lease_seconds), self.capabilities)

    def _around(self, inner: Backend) -> Self:
        return type(self)(inner, **self._changes)


class _LimitedDriver(WrappedDriver):
    """Has the verbs by capability that are declared."""

    def __init__(self, inner: Driver, capabilities: Capabilities) -> None:
        super().__init__(inner)
        self._capabilities = capabilities

    async def reload(self, channel: RestingChannel, limit: int | None = None, ids: Sequence[str] | None = None) -> int:
        _refuse_unless(ids is None or channel in self._capabilities.selective)
        return await super().reload(channel, limit, ids)

    async def flush(self, channel: Channel) -> int:
        _refuse_unless(channel in self._capabilities.flush or channel == "reserved")
        return await super().flush(channel)

    async def peek(
        self, channel: Channel, limit: int, *, cursor: str | None = None, ids: Sequence[str] | None = None
    ) -> Page:
        _refuse_unless(channel in self._capabilities.peek)
        return await super().peek(channel, limit, cursor=cursor, ids=ids)

    async def cancel(self, id: str) -> bool:  # noqa: A002 - the contract's word
        _refuse_unless(self._capabilities.cancel)
        return await super().cancel(id)

    async def forget(self, channel: Channel, ids: Sequence[str]) -> int:
        _refuse_unless(channel in self._capabilities.selective)
        return await super().forget(channel, ids)

    async def wait_ready(self, seconds: float) -> bool:
        _refuse_unless(self._capabilities.wait_ready)
        return await super().wait_ready(seconds)

    async def store(self, messages: Sequence[Message], channel: RestingChannel) -> Sequence[str | BackendError]:
        _refuse_unless(self._capabilities.store)
        return await super().store(messages, channel)

    async def lend(self, channel: Channel, limit: int) -> Sequence[Delivery]:
        _refuse_unless(channel in self._capabilities.lend)
        return await super().lend(channel, limit)


def _refuse_unless(declared: bool) -> None:
    if not declared:
        raise NotImplementedError
