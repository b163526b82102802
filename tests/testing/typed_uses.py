"""Right and wrong uses of `headrace.testing`, read by both type checkers and never run.

A line that must be refused ends with ``# wrong``; every other line must be accepted.
"""

from datetime import timedelta

from headrace import Headrace, Job, job
from headrace.testing import Fake, FakeClock, MemoryApp, Ran, app, fake, inline


class Invite(Job):
    user_id: int
    locale: str = "en"

    async def handle(self) -> None: ...


@job
async def trim(path: str, width: int = 100) -> None: ...


async def main() -> None:
    async with fake() as jobs:
        asserted: Fake = jobs
        asserted.assert_pushed(Invite, user_id=1)
        user_id: int = jobs.assert_pushed(Invite, times=1, queue="mail", delay=timedelta(minutes=1))[0].job.user_id
        name: str = jobs.assert_pushed(Invite)[0].job.user_id  # wrong
        jobs.assert_pushed(Invite(user_id=1), delay=30)
        jobs.assert_pushed(Invite(user_id="1"))  # wrong
        jobs.assert_pushed(Invite(user_id=1), locale="de")  # wrong
        jobs.assert_pushed(Invite, times="once")  # wrong
        jobs.assert_pushed(Headrace)  # wrong
        jobs.assert_pushed(trim, "a.png", width=64)
        jobs.assert_pushed(trim, times=2, queue="images")
        jobs.assert_pushed(trim.job("a.png"), times=2)
        jobs.assert_pushed(trim, "a.png", height=64)  # wrong
        jobs.assert_pushed(trim, 5)  # wrong
        jobs.assert_not_pushed(Invite, user_id=2)
        jobs.assert_not_pushed(Invite(user_id=2), queue="mail")
        jobs.assert_not_pushed(trim, "b.png")
        jobs.assert_not_pushed(trim, 5)  # wrong
        jobs.assert_not_pushed(Invite, queue=5)  # wrong
        locale: str = jobs.pushed(Invite, user_id=1)[0].job.locale
        jobs.pushed(trim, "a.png")
        jobs.pushed(trim, 5)  # wrong
        first: Job = jobs.pushed()[0].job
        ran: Ran = await jobs.run(concurrency=2)
        jobs.run_sync(raise_errors=False)
        jobs.run_sync(retries=1)  # wrong
        print(user_id, name, locale, first, [each.error for each in ran.failed], ran.of("done"))
        ran.of("finished")  # wrong
    with inline({"listeners": []}, state={}, middleware=False) as jobs:
        jobs.assert_nothing_pushed()
    clock = FakeClock()
    clock.advance(30)
    await clock.advance(30)
    clock.advance("30")  # wrong
    with app({"listeners": []}, clock=clock) as memory:
        entered: MemoryApp = memory
        await entered.run_due("mail", "images")
        await entered.run_due(5)  # wrong
        entered.clock.advance(1)
    async with app("headrace.toml", leases=True) as memory:
        memory.run_due_sync()
    app(5)  # wrong
