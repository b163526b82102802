"""The bare client of the ``sqs`` backend, for the benchmark suite: boto3 from threads, ten messages a request."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from typing import Any, Final

import boto3  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]

from headrace.plugin import BackendOptions
from headrace_sqs.clients import THREADS
from headrace_sqs.settings import SqsSettings

#: Entries of one request: a limit of SQS.
_TEN: Final = 10

#: Bytes of one request, below SQS's limit for all its entries together.
_LARGEST: Final = 250_000

#: Seconds for which one request waits for messages.
_POLL: Final = 20


class SqsBaseline:
    """SendMessageBatch, ReceiveMessage and DeleteMessageBatch, from as many threads as the backend has."""

    about = "boto3: SendMessageBatch; ReceiveMessage; DeleteMessageBatch, of ten at most"
    guarantee = "at least once"
    versions: Mapping[str, str] = {"boto3": version("boto3")}

    def __init__(self, options: BackendOptions, queue: str) -> None:
        self._settings = options.read(SqsSettings)
        self._name = f"{self._settings.queue_name_prefix}{queue}"
        self._client: Any = None
        self._url = ""
        self._threads = ThreadPoolExecutor(THREADS)

    async def open(self) -> None:
        await self._in_thread(self._open)

    def _open(self) -> None:
        self._client = boto3.client(
            "sqs",
            region_name=self._settings.region,
            endpoint_url=self._settings.endpoint_url,
            config=Config(max_pool_connections=THREADS),
        )
        self._url = self._client.create_queue(QueueName=self._name)["QueueUrl"]

    async def close(self) -> None:
        if self._url:
            await self._in_thread(lambda: self._client.delete_queue(QueueUrl=self._url))
        if self._client is not None:
            self._client.close()
        self._threads.shutdown()

    async def push(self, body: bytes) -> None:
        await self._in_thread(lambda: self._client.send_message(QueueUrl=self._url, MessageBody=body.decode()))

    async def push_many(self, bodies: Sequence[bytes]) -> None:
        largest = max(map(len, bodies))
        size = max(1, min(_TEN, _LARGEST // largest))
        batches = [bodies[start : start + size] for start in range(0, len(bodies), size)]
        await asyncio.gather(*(self._in_thread(partial(self._send, batch)) for batch in batches))

    def _send(self, batch: Sequence[bytes]) -> None:
        entries = [{"Id": str(number), "MessageBody": body.decode()} for number, body in enumerate(batch)]
        answer = self._client.send_message_batch(QueueUrl=self._url, Entries=entries)
        if answer.get("Failed"):
            raise RuntimeError(f"SQS did not take {len(answer['Failed'])} messages: {answer['Failed'][0]}")

    async def consume(self, count: int, batch: int, seen: Callable[[bytes], None]) -> None:
        size = min(batch, _TEN)
        shares = [count // THREADS + (number < count % THREADS) for number in range(THREADS)]
        await asyncio.gather(*(self._in_thread(partial(self._take, share, size, seen)) for share in shares))

    def _take(self, count: int, size: int, seen: Callable[[bytes], None]) -> None:
        while count > 0:
            answer = self._client.receive_message(
                QueueUrl=self._url, MaxNumberOfMessages=min(size, count), WaitTimeSeconds=_POLL
            )
            messages = answer.get("Messages", ())
            for each in messages:
                seen(each["Body"].encode())
            if messages:
                entries = [
                    {"Id": str(number), "ReceiptHandle": each["ReceiptHandle"]} for number, each in enumerate(messages)
                ]
                self._client.delete_message_batch(QueueUrl=self._url, Entries=entries)
            count -= len(messages)

    async def _in_thread(self, call: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)
