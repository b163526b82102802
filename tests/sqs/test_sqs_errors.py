"""What a driver says, and does, when SQS refuses, credentials are missing, or nobody answers."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from botocore import exceptions, parsers  # type: ignore[import-untyped]
from helpers_sqs import Make, ids, message, messages, receipts, take
from meddling import Document, Meddler, refusal

from headrace.conformance.servers.moto import MotoServer
from headrace.conformance.servers.process import free_port
from headrace.conformance.servers.proxy import Proxy
from headrace.errors import BackendError, BackendUnavailable
from headrace_sqs.errors import QueueMissing, translate

#: What a secret looks like that no text may show.
SECRET = "hunter2"


def answer(code: str, status: int = 400) -> exceptions.ClientError:
    response = {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return exceptions.ClientError(response, "SendMessageBatch")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (answer("RequestThrottled"), BackendUnavailable),
        (answer("ThrottlingException"), BackendUnavailable),
        (answer("InternalFailure", 500), BackendUnavailable),
        (answer("Whatever", 503), BackendUnavailable),
        (answer("503", 503), BackendUnavailable),
        (answer("OverLimit"), BackendUnavailable),
        (answer("AWS.SimpleQueueService.QueueDeletedRecently"), BackendUnavailable),
        (answer("ExpiredToken", 403), BackendUnavailable),
        (answer("ExpiredTokenException", 403), BackendUnavailable),
        (answer("AccessDenied", 403), BackendError),
        (answer("InvalidClientTokenId", 403), BackendError),
        (answer("UnrecognizedClientException", 400), BackendError),
        (answer("SignatureDoesNotMatch", 403), BackendError),
        (answer("InvalidParameterValue"), BackendError),
        (answer("404", 404), BackendError),
        (answer("AWS.SimpleQueueService.NonExistentQueue"), QueueMissing),
        (answer("QueueDoesNotExist"), QueueMissing),
        (exceptions.EndpointConnectionError(endpoint_url="u", error="e"), BackendUnavailable),
        (exceptions.ReadTimeoutError(endpoint_url="u"), BackendUnavailable),
        (exceptions.ConnectTimeoutError(endpoint_url="u"), BackendUnavailable),
        (exceptions.ConnectionClosedError(endpoint_url="u"), BackendUnavailable),
        (exceptions.HTTPClientError(error="e"), BackendUnavailable),
        (exceptions.CredentialRetrievalError(provider="process", error_msg=SECRET), BackendUnavailable),
        (exceptions.MetadataRetrievalError(error_msg=SECRET), BackendUnavailable),
        (exceptions.SSOTokenLoadError(error_msg=SECRET), BackendError),
        (exceptions.TokenRetrievalError(provider="sso", error_msg=SECRET), BackendError),
        (exceptions.NoCredentialsError(), BackendError),
        (exceptions.PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"), BackendError),
        (exceptions.ProfileNotFound(profile="shop"), BackendError),
        (exceptions.NoRegionError(), BackendError),
        (exceptions.SSLError(endpoint_url="u", error="e"), BackendError),
        (exceptions.ParamValidationError(report="r"), BackendError),
        (parsers.ResponseParserError("no"), BackendError),
        (ConnectionResetError(), BackendUnavailable),
        (RuntimeError("Credentials were refreshed, but are still expired."), BackendUnavailable),
        (AttributeError("'list' object has no attribute 'get'"), BackendError),
        (ValueError("Invalid endpoint"), BackendError),
    ],
    ids=lambda value: getattr(value, "__name__", repr(value))[:60],
)
def test_each_error_becomes_one_of_ours(error: Exception, kind: type[BackendError]) -> None:
    translated = translate(error, "a place")
    assert type(translated) is kind
    assert "\n" not in str(translated)
    assert SECRET not in str(translated)


# Opening.


async def test_an_endpoint_that_is_not_there_is_out_of_reach(make: Make) -> None:
    port = free_port()
    with pytest.raises(BackendUnavailable, match=str(port)):
        await make(endpoint_url=f"http://127.0.0.1:{port}").open()


class _WebSite(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's word
        """Nothing."""


async def test_an_endpoint_that_is_no_sqs_is_told_at_once(make: Make) -> None:
    with HTTPServer(("127.0.0.1", 0), _WebSite) as site:
        thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            with pytest.raises(BackendError, match="does not answer as SQS does") as raised:
                await make(endpoint_url=f"http://127.0.0.1:{site.server_port}").open()
        finally:
            site.shutdown()
            thread.join()
    assert not isinstance(raised.value, BackendUnavailable)


async def test_missing_credentials_are_told_at_once(
    make: Make, server: MotoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(BackendError, match="no credentials") as raised:
        await make(endpoint_url=server.url).open()
    assert not isinstance(raised.value, BackendUnavailable)


async def test_a_missing_region_is_told_at_once(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(BackendError, match="set the option region"):
        await make().open()


async def test_an_emulator_needs_no_region(make: Make, server: MotoServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    backend = make(endpoint_url=server.url)
    await backend.open()
    driver = backend.driver("{mail}")
    assert await driver.push([message("sent")]) == ["sent"]
    await driver.destroy()


async def test_a_region_that_is_misspelt_is_told_at_once(make: Make) -> None:
    with pytest.raises(BackendError, match="'eu-centrall-1'"):
        await make(region="eu-centrall-1", timeout_seconds=1).open()


@pytest.mark.parametrize("code", ["InvalidClientTokenId", "SignatureDoesNotMatch", "UnrecognizedClientException"])
async def test_credentials_that_sqs_does_not_accept_are_told_at_once(make: Make, meddler: Meddler, code: str) -> None:
    meddler.before = lambda operation, request: (403, refusal(code))
    with pytest.raises(BackendError, match="these credentials") as raised:
        await make(endpoint_url=meddler.url).open()
    assert not isinstance(raised.value, BackendUnavailable)


async def test_whoever_may_not_list_queues_may_use_them(make: Make, meddler: Meddler, prefix: str) -> None:
    meddler.before = lambda operation, request: (403, refusal("AccessDenied")) if operation == "ListQueues" else None
    backend = make(endpoint_url=meddler.url)
    await backend.open()
    await backend.driver(prefix).push([message("a")])
    assert ids(await take(backend.driver(prefix), 1)) == ["a"]


async def test_what_is_forbidden_is_told_with_the_action(make: Make, meddler: Meddler, prefix: str) -> None:
    told = "User: arn:aws:iam::1:user/x is not authorized to perform: sqs:sendmessage"
    backend = make(endpoint_url=meddler.url)
    await backend.open()
    meddler.before = lambda operation, request: (
        (403, refusal("AccessDenied", told)) if operation == "SendMessageBatch" else None
    )
    (error,) = await backend.driver(prefix).push(messages(1))
    assert isinstance(error, BackendError)
    assert not isinstance(error, BackendUnavailable)
    assert "sqs:sendmessage" in str(error)


# Credentials that expire.


@pytest.mark.parametrize(
    ("code", "kind"), [("ExpiredToken", BackendUnavailable), ("InvalidClientTokenId", BackendError)]
)
async def test_credentials_that_end_are_found_again_when_they_are_renewed(
    make: Make,
    meddler: Meddler,
    prefix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    kind: type[BackendError],
) -> None:
    file = tmp_path / "credentials"
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    file.write_text(f"[default]\naws_access_key_id = OLD\naws_secret_access_key = {SECRET}\n")
    backend = make(endpoint_url=meddler.url)
    await backend.open()
    driver = backend.driver(prefix)
    await driver.push([message("a")])
    meddler.before = lambda operation, request: (403, refusal(code)) if "=OLD/" in meddler.authorizations[-1] else None
    with pytest.raises(BackendError, match=r"these credentials|have expired") as raised:
        await driver.pop(1, 0)
    assert type(raised.value) is kind
    assert SECRET not in str(raised.value)
    file.write_text("[default\n")  # as it is when somebody is just writing it
    await asyncio.sleep(1.1)
    with pytest.raises(BackendError) as raised:
        await driver.pop(1, 0)
    assert type(raised.value) is kind
    file.write_text(f"[default]\naws_access_key_id = NEW\naws_secret_access_key = {SECRET}\n")
    began = time.monotonic()
    while True:
        try:
            delivery = (await driver.pop(1, 1))[0]
            break
        except BackendError:
            assert time.monotonic() - began < 20
            await asyncio.sleep(0.1)
    assert await driver.ack([delivery.receipt])
    assert "=NEW/" in meddler.authorizations[-1]


# Nobody answers.


async def test_a_black_hole_ends_each_call_and_a_healed_network_is_used_at_once(
    make: Make, proxy: Proxy, prefix: str
) -> None:
    backend = make(endpoint_url=f"http://127.0.0.1:{proxy.port}", timeout_seconds=0.5)
    await backend.open()
    driver = backend.driver(prefix)
    await driver.push(messages(2))
    held = await take(driver, 1)
    proxy.black_hole()
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: driver.push(messages(1)),
        lambda: driver.ack(receipts(held)),
        lambda: driver.info(),
    ]
    for call in calls:
        began = time.monotonic()
        try:
            (result,) = await call()
        except BackendUnavailable:
            pass
        else:
            assert isinstance(result, BackendUnavailable)
        assert time.monotonic() - began < 10
    proxy.heal()
    proxy.cut()
    assert len(await driver.pop(1, 5)) == 1


async def test_a_refusal_for_reasons_of_its_own_is_tried_again_entry_by_entry(
    make: Make, meddler: Meddler, prefix: str
) -> None:
    """Every third entry is refused the first time; the others are not sent again."""
    refused: set[str] = set()

    def before(operation: str, request: Document) -> tuple[int, Document] | None:
        if operation != "SendMessageBatch":
            return None
        bad = [entry["Id"] for at, entry in enumerate(request["Entries"]) if at % 3 == 0 and not refused]
        request["Entries"] = [entry for entry in request["Entries"] if entry["Id"] not in bad]
        refused.update(bad)
        return None

    def after(operation: str, request: Document, answer: Document) -> Document:
        if operation == "SendMessageBatch" and refused and "done" not in refused:
            failed = [{"Id": each, "SenderFault": False, "Code": "InternalError"} for each in sorted(refused)]
            refused.add("done")
            return {**answer, "Failed": failed}
        return answer

    backend = make(endpoint_url=meddler.url)
    await backend.open()
    meddler.before, meddler.after = before, after
    driver = backend.driver(prefix)
    sent = messages(10)
    assert list(await driver.push(sent)) == [each.id for each in sent]
    assert refused == {"0", "3", "6", "9", "done"}
    assert sorted(ids(await take(driver, 10))) == sorted(each.id for each in sent)


async def test_an_entry_that_is_refused_for_its_sake_fails_alone(make: Make, meddler: Meddler, prefix: str) -> None:
    def after(operation: str, request: Document, answer: Document) -> Document:
        if operation != "SendMessageBatch":
            return answer
        first, *rest = answer["Successful"]
        return {
            "Successful": rest,
            "Failed": [{"Id": first["Id"], "SenderFault": True, "Code": "InvalidMessageContents"}],
        }

    backend = make(endpoint_url=meddler.url)
    await backend.open()
    meddler.after = after
    error, second = await backend.driver(prefix).push([message("a"), message("b")])
    assert second == "b"
    assert type(error) is BackendError
    assert "characters" in str(error)


async def test_an_entry_without_an_answer_is_in_doubt(make: Make, meddler: Meddler, prefix: str) -> None:
    backend = make(endpoint_url=meddler.url)
    await backend.open()
    meddler.after = lambda operation, request, answer: {} if operation == "SendMessageBatch" else answer
    (error,) = await backend.driver(prefix).push(messages(1))
    assert isinstance(error, BackendUnavailable)


async def test_throttled_requests_are_sent_again(make: Make, meddler: Meddler, prefix: str) -> None:
    backend = make(endpoint_url=meddler.url)
    await backend.open()
    driver = backend.driver(prefix)
    await driver.push(messages(1))
    throttled: list[str] = []

    def before(operation: str, request: Document) -> tuple[int, Document] | None:
        if operation == "SendMessageBatch" and not throttled:
            throttled.append(operation)
            return 400, refusal("ThrottlingException")
        return None

    meddler.before = before
    assert await driver.push([message("a")]) == ["a"]
    assert throttled
