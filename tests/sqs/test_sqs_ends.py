"""What ends: calls that nobody answers, backends that are closed in the middle of something, queues, programs."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped]
import pytest
from helpers_sqs import Make, ids, message, messages, receipts, take
from meddling import Document, Meddler, refusal

from headrace.conformance.servers.moto import MotoServer
from headrace.conformance.servers.proxy import Proxy
from headrace.errors import BackendError, BackendUnavailable
from headrace_sqs.backend import SqsBackend

# Calls that nobody answers.


async def test_a_pop_into_a_black_hole_ends_soon_after_its_wait(make: Make, proxy: Proxy, prefix: str) -> None:
    backend = make(endpoint_url=f"http://127.0.0.1:{proxy.port}", timeout_seconds=1)
    await backend.open()
    driver = backend.driver(prefix, lease_seconds=2)
    await driver.push(messages(1))
    proxy.black_hole()
    for wait in (0.0, 1.0):
        began = time.monotonic()
        with pytest.raises(BackendUnavailable, match="did not answer in time"):
            await driver.pop(1, wait)
        assert time.monotonic() - began < wait + 5
    with pytest.raises(BackendUnavailable):
        await driver.reload("failed")
    proxy.heal()
    proxy.cut()
    await take(driver, 1)


async def test_what_comes_too_late_for_its_pop_is_there_for_the_next_one(
    make: Make, meddler: Meddler, prefix: str
) -> None:
    backend = make(endpoint_url=meddler.url, timeout_seconds=1)
    await backend.open()
    driver = backend.driver(prefix)
    await driver.push([message("a")])

    def late(operation: str, request: Document, answer: Document) -> Document:
        if operation == "ReceiveMessage":
            time.sleep(2.5)
        return answer

    meddler.after = late
    with pytest.raises(BackendUnavailable):
        await driver.pop(1, 0)
    meddler.after = lambda operation, request, answer: answer
    (delivery,) = await driver.pop(1, 5)
    assert (delivery.message.id, delivery.count) == ("a", 1)


async def test_a_send_whose_answer_does_not_come_is_not_sent_again(make: Make, meddler: Meddler, prefix: str) -> None:
    """It may have been stored, and the time is over in any case."""
    backend = make(endpoint_url=meddler.url, timeout_seconds=1)
    await backend.open()
    driver = backend.driver(prefix)
    await driver.push(messages(1))
    meddler.seen.clear()
    meddler.delay = 2.0
    began = time.monotonic()
    (error,) = await driver.push(messages(1))
    assert isinstance(error, BackendUnavailable)
    assert time.monotonic() - began < 1.9
    assert meddler.seen["SendMessageBatch"] == 1


async def test_what_a_request_has_brought_is_handed_out_though_another_one_fails(
    make: Make, meddler: Meddler, prefix: str
) -> None:
    backend = make(endpoint_url=meddler.url)
    await backend.open()
    driver = backend.driver(prefix)
    await driver.push(messages(40))
    assert len(await driver.pop(10, 1)) == 10
    failed: list[str] = []

    def fail_once(operation: str, request: Document) -> tuple[int, Document] | None:
        if operation == "ReceiveMessage" and not failed:
            failed.append(operation)
            return 503, refusal("ServiceUnavailable")
        return None

    meddler.before = fail_once
    assert len(await driver.pop(20, 1)) == 10
    assert failed


class _Anything(BaseHTTPRequestHandler):
    """Answers everything, and knows nothing of SQS."""

    answer = b"{}"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.answer)))
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's word
        """Nothing."""


@pytest.fixture(params=[b"{}", b"<html>", b"[]", b'{"QueueUrl": 1, "Successful": [{}], "Messages": [{}]}'])
def stranger(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of something that answers like no SQS."""
    handler = type("Handler", (_Anything,), {"answer": request.param})
    with HTTPServer(("127.0.0.1", 0), handler) as site:
        thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{site.server_port}"
        finally:
            site.shutdown()
            thread.join()


async def test_whatever_an_endpoint_answers_each_call_ends_with_an_error_of_ours(
    make: Make, stranger: str, prefix: str
) -> None:
    backend = make(endpoint_url=stranger, timeout_seconds=1)
    async with asyncio.timeout(20):
        try:
            await backend.open()
        except BackendError:
            return
        driver = backend.driver(prefix)
        for result in await driver.push(messages(2)):
            assert isinstance(result, BackendError)
        calls: list[Callable[[], Awaitable[Any]]] = [
            lambda: driver.pop(1, 0),
            lambda: driver.info(),
            lambda: driver.peek("failed", 1),
            lambda: driver.reload("failed"),
        ]
        for call in calls:
            with pytest.raises(BackendError):
                await call()


# Closing.


async def test_closing_in_the_middle_of_tries_ends_them_and_leaves_nothing(
    make: Make, meddler: Meddler, prefix: str
) -> None:
    backend = make(endpoint_url=meddler.url)
    await backend.open()
    driver = backend.driver(prefix)
    await driver.push(messages(1))

    def refuse(operation: str, request: Document, answer: Document) -> Document:
        if operation != "SendMessageBatch":
            return answer
        return {
            "Failed": [{"Id": each["Id"], "SenderFault": False, "Code": "InternalError"} for each in request["Entries"]]
        }

    meddler.after = refuse
    meddler.delay = 0.3
    push = asyncio.create_task(driver.push(messages(1)))
    await asyncio.sleep(0.45)
    await backend.close()
    assert asyncio.all_tasks() - {asyncio.current_task(), push} == set()
    try:
        (error,) = await push
    except BackendUnavailable:
        pass
    else:
        assert isinstance(error, BackendUnavailable)


async def test_calls_that_closing_interrupts_are_told_so(make: Make, proxy: Proxy, prefix: str) -> None:
    backend = make(endpoint_url=f"http://127.0.0.1:{proxy.port}")
    await backend.open()
    driver = backend.driver(prefix)
    await driver.push(messages(1))
    proxy.black_hole()
    calls = [asyncio.create_task(driver.info()) for _ in range(25)]  # more than there are threads
    await asyncio.sleep(0.2)
    await backend.close()
    for result in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(result, BackendUnavailable)


async def test_closing_ends_requests_that_were_sent_with_older_credentials(
    make: Make, meddler: Meddler, prefix: str
) -> None:
    """Else their threads would keep the program from ending, until SQS answers."""
    backend = make(endpoint_url=meddler.url)
    await backend.open()
    driver = backend.driver(prefix)
    await driver.push(messages(1))
    await take(driver, 1)
    pop = asyncio.create_task(driver.pop(1, 20))
    await asyncio.sleep(1.2)
    meddler.before = lambda operation, request: (
        (403, refusal("ExpiredToken")) if operation == "SendMessageBatch" else None
    )
    (error,) = await driver.push(messages(1))
    assert isinstance(error, BackendUnavailable)
    pop.cancel()
    await backend.close()
    began = time.monotonic()
    while any(thread.name.startswith("headrace-sqs") for thread in threading.enumerate()):
        await asyncio.sleep(0.05)
        assert time.monotonic() - began < 5


# Queues.


async def test_a_pop_does_not_make_a_queue_again_that_was_destroyed_meanwhile(
    make: Make, server: MotoServer, meddler: Meddler, prefix: str
) -> None:
    """Its request meets no queue any more."""
    backend = make(endpoint_url=meddler.url)
    await backend.open()
    driver = backend.driver(prefix)
    await driver.push(messages(1))
    await take(driver, 1)
    meddler.seen.clear()
    meddler.delay = 3.0
    pop = asyncio.create_task(driver.pop(1, 5))
    while not meddler.seen:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    meddler.delay = 0.0
    pop.cancel()
    await asyncio.wait((pop,))
    await driver.destroy()
    await asyncio.sleep(4)
    client = boto3.client("sqs", endpoint_url=server.url)
    assert client.list_queues(QueueNamePrefix=prefix[1:-1]).get("QueueUrls", []) == []
    client.close()


# Programs.

PROGRAM = """
import atexit, os, sys
from headrace import Headrace, Job

class Sale(Job):
    number: int
    async def handle(self) -> None: ...

app = Headrace({"backend": "sqs", "backends": {"sqs": {"endpoint_url": sys.argv[1]}},
                "queues": {"default": {"prefix": sys.argv[2]}}})
queue = app.sync().queue()
"""


def run(tmp_path: Path, server: MotoServer, prefix: str, program: str) -> "subprocess.CompletedProcess[str]":
    file = tmp_path / "program.py"
    file.write_text(PROGRAM + program)
    return subprocess.run(
        [sys.executable, str(file), server.url, prefix], capture_output=True, text=True, timeout=30, check=False
    )


async def test_a_push_that_an_ending_program_makes_ends(
    tmp_path: Path, server: MotoServer, backend: SqsBackend, prefix: str
) -> None:
    """Python starts no threads any more by then, so it may fail; but it is told at once."""
    program = """
queue.push(Sale(number=1))
def last():
    import time
    began = time.monotonic()
    try:
        queue.push(Sale(number=2))
        print("pushed")
    except Exception as error:
        print(type(error).__name__, error)
    print(time.monotonic() - began < 3)
atexit.register(last)
"""
    done = await asyncio.to_thread(run, tmp_path, server, prefix, program)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "True"


async def test_a_forked_child_pushes_by_itself_and_leaves_its_parents_connections_alone(
    tmp_path: Path, server: MotoServer, backend: SqsBackend, prefix: str
) -> None:
    program = """
queue.push(Sale(number=1))
child = os.fork()
queue.push(Sale(number=2))
queue.push(Sale(number=3))
if child == 0:
    sys.exit(0)
_, status = os.waitpid(child, 0)
queue.push(Sale(number=4))
sys.exit(status)
"""
    done = await asyncio.to_thread(run, tmp_path, server, prefix, program)
    assert (done.returncode, done.stderr) == (0, "")
    driver = backend.driver(prefix)
    held = await take(driver, 6)
    assert len(set(ids(held))) == 6
    await driver.ack(receipts(held))
