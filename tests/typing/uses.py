"""Right and wrong uses of headrace, read by both type checkers and never run.

A line that must be refused ends with ``# wrong``; every other line must be accepted.
"""

from datetime import datetime, timedelta

from headrace import Drop, Headrace, Job, Retry, current, job, listen
from headrace.events import FailedHandle


class SendWelcome(Job, queue="mail", max_retries=2, retry_seconds=[1, 5], handle_timeout=10, unique="user_id"):
    user_id: int
    locale: str = "en"

    async def handle(self) -> None:
        name: str = self.locale
        run: int = current().attempt
        if run:
            raise Retry(delay=5)
        raise Drop(name)

    async def failed(self, error: Exception) -> None: ...


class SendLater(SendWelcome, on_timeout="cancel"):
    minutes: int

    async def handle(self) -> None: ...


class InThread(Job):
    def handle(self) -> None: ...


class WrongOption(Job, tries=2):  # wrong
    ...


class WrongOptionType(Job, max_retries="two"):  # wrong
    ...


class WrongChoice(Job, on_timeout="kill"):  # wrong
    ...


@job
async def plain(text: str) -> int:
    return len(text)


@job(queue="images", max_retries=2)
async def resize(path: str, width: int = 100) -> bool:
    return bool(path) and width > 0


@job(tries=2)  # wrong
async def wrong_option() -> None: ...


@listen(FailedHandle)
def audit(event: FailedHandle) -> None:
    seconds: float = event.seconds
    print(seconds)


@listen(FailedHandle)
def audit_wrongly(event: FailedHandle) -> None:
    event.no_such_field  # wrong


async def main() -> None:
    SendWelcome(user_id=1)
    SendWelcome(user_id=1, locale="de")
    SendLater(user_id=1, minutes=5)
    SendWelcome()  # wrong
    SendWelcome(user_id="1")  # wrong
    SendWelcome(1)  # wrong
    SendWelcome(user_id=1, colour="red")  # wrong
    SendLater(user_id=1)  # wrong
    SendWelcome(user_id=1).user_id = 2  # wrong

    identifier: str = await SendWelcome(user_id=1).push(delay=5)
    await SendWelcome(user_id=1).push(delay=timedelta(minutes=1), on_duplicate="keep")
    await SendWelcome(user_id=1).push(delay="5")  # wrong
    await SendWelcome(user_id=1).push(countdown=5)  # wrong
    await SendWelcome(user_id=1).push(on_duplicate="merge")  # wrong
    await SendWelcome(user_id=1).push(retry_seconds=[1, 5], headers={"a": "b"})
    await SendWelcome(user_id=1).push(retry_seconds={"base": 1})
    await SendWelcome(user_id=1).push(retry_seconds="5")  # wrong
    pushed: str = SendWelcome(user_id=1).push_sync(delay=5)
    SendWelcome(user_id=1).push_sync(dealy=5)  # wrong
    SendWelcome(user_id=1).push_sync(max_retries="two")  # wrong
    wrong_identifier: int = await SendWelcome(user_id=1).push()  # wrong

    length: int = await plain("a")
    done: bool = await resize("a.png", width=64)
    await resize.push("a.png", width=64)
    await resize.push("a.png", height=64)  # wrong
    await resize.push(5)  # wrong
    await resize.push()  # wrong
    resize.push_sync("a.png")
    resize.push_sync(width=5)  # wrong
    work: Job = resize.job("a.png")

    async with Headrace.load() as app:
        queue = app.queue("default")
        await queue.push(work, delay=datetime.now().astimezone(), id=identifier)
        await queue.push(resize)  # wrong
        await queue.push("SendWelcome")  # wrong
        await queue.push(work, dealy=5)  # wrong
        queue.push_sync(work, delay=5)
        queue.push_sync(work, dealy=5)  # wrong
        queue.capabilities.require("sqlite", "peek")
        queue.capabilities.require("sqlite", "peak")  # wrong
        queue.capabilities.require("sqlite", "peek", channel="waiting")
        queue.capabilities.require("sqlite", "peek", channel="wating")  # wrong
        identifiers: list[str] = await queue.push_many([SendWelcome(user_id=n) for n in range(3)])
        waiting: int | None = (await queue.info()).waiting
        await queue.reload("failed", limit=5)
        await queue.reload("waiting")  # wrong
        await queue.flush("delayed")
        await queue.list("nowhere")  # wrong
        count: int = await app.worker("default", concurrency=10).run(until_empty=True)
        print(length, done, identifiers, waiting, count, wrong_identifier)
    sync = Headrace({}).sync().queue("default")
    sync.push(work)
    sync.push("work")  # wrong
    sync.push(work, delay=timedelta(minutes=1))
    sync.push(work, dealy=5)  # wrong
