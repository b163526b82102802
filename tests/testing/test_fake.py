"""A fake records what every route would have sent, refuses what production refuses, and answers questions."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from headrace import Headrace, Job, job
from headrace.driver import Capabilities
from headrace.errors import (
    CapabilityError,
    ConfigError,
    InvalidPayload,
    JobError,
    MessageTooLarge,
    UnknownQueue,
    WrongContext,
)
from headrace.events import JobPushed, listen
from headrace.testing import Fake, fake
from headrace_memory.backend import MemoryBackend


class Greeting(Job):
    user_id: int
    locale: str = "en"

    async def handle(self) -> None: ...


class Preview(Job, queue="images", unique="path"):
    path: str

    def handle(self) -> None: ...


@dataclass
class Address:
    streets: list[str]


class Parcel(Job):
    address: Address

    def handle(self) -> None: ...


class Wire(Job):
    """Its fields are called as the words of a question are."""

    queue: str
    times: int
    delay: float = 0.0

    def handle(self) -> None: ...


@job(queue="images")
async def crop(path: str, width: int = 100) -> None: ...


class SmallBackend(MemoryBackend):
    """Can do less than the fake could."""

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, max_body=30, unique=False, cancel=False)


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    assert list(tmp_path.iterdir()) == []


ASYNC_ROUTES: dict[str, Callable[[Headrace], Any]] = {
    "job.push": lambda app: Greeting(user_id=1).push(),
    "queue.push": lambda app: app.queue().push(Greeting(user_id=1)),
    "queue.push_many": lambda app: app.queue().push_many([Greeting(user_id=1)]),
}

SYNC_ROUTES: dict[str, Callable[[Headrace], Any]] = {
    "job.push_sync": lambda app: Greeting(user_id=1).push_sync(),
    "queue.push_sync": lambda app: app.queue().push_sync(Greeting(user_id=1)),
    "app.sync().queue().push": lambda app: app.sync().queue().push(Greeting(user_id=1)),
    "app.sync().queue().push_sync": lambda app: app.sync().queue().push_sync(Greeting(user_id=1)),
    "app.sync().queue().push_many": lambda app: app.sync().queue().push_many([Greeting(user_id=1)]),
}


@pytest.mark.parametrize("route", ASYNC_ROUTES)
@pytest.mark.parametrize("entered", [True, False])
async def test_every_awaited_route_is_recorded_and_nothing_is_sent(route: str, entered: bool) -> None:
    app = Headrace({"listeners": []})
    async with fake() as jobs:
        if entered:
            async with app:
                identifier = await ASYNC_ROUTES[route](app)
        else:
            identifier = await ASYNC_ROUTES[route](app)
        (pushed,) = jobs.pushed()
    assert (pushed.job, pushed.queue) == (Greeting(user_id=1), "default")
    assert pushed.id in (identifier, *identifier)


@pytest.mark.parametrize("route", SYNC_ROUTES)
def test_every_blocking_route_is_recorded_and_nothing_is_sent(route: str) -> None:
    app = Headrace({"listeners": []})
    with fake() as jobs:
        identifier = SYNC_ROUTES[route](app)
        (pushed,) = jobs.pushed()
    assert pushed.job == Greeting(user_id=1)
    assert pushed.id in (identifier, *identifier)


async def test_a_function_is_recorded_by_its_own_push(headrace_fake: Fake) -> None:
    await crop.push("a.png", width=64)
    await asyncio.to_thread(crop.push_sync, "b.png")
    headrace_fake.assert_pushed(crop, times=2, queue="images")
    headrace_fake.assert_pushed(crop, "a.png", width=64)
    headrace_fake.assert_pushed(crop, "b.png")
    headrace_fake.assert_pushed(crop.job("b.png"))
    headrace_fake.assert_not_pushed(crop, "b.png", width=64)
    headrace_fake.assert_not_pushed(crop.job("a.png"))


def test_pushes_of_every_thread_are_recorded(headrace_fake: Fake) -> None:
    threads = [threading.Thread(target=Greeting(user_id=number).push_sync) for number in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(each.job.user_id for each in headrace_fake.pushed(Greeting)) == list(range(8))


async def test_of_nested_fakes_the_inner_one_records() -> None:
    with fake() as outer:
        await Greeting(user_id=1).push()
        with fake() as inner:
            await Greeting(user_id=2).push()
        await Greeting(user_id=3).push()
    assert [each.job.user_id for each in outer.pushed(Greeting)] == [1, 3]
    assert [each.job.user_id for each in inner.pushed(Greeting)] == [2]


async def test_after_a_fake_pushes_are_sent_again(tmp_path: Path) -> None:
    async with Headrace({"backend": "memory", "listeners": []}) as app:
        with fake() as jobs:
            await Greeting(user_id=1).push()
            assert (await app.queue().info()).waiting == 1
        assert (await app.queue().info()).waiting == 0
        await Greeting(user_id=2).push()
        assert (await app.queue().info()).waiting == 1
    jobs.assert_not_pushed(Greeting, user_id=2)


async def test_a_record_tells_what_the_push_said(headrace_fake: Fake) -> None:
    await Preview(path="a.png").push(
        delay=timedelta(minutes=1), id="mine", headers={"trace": "7"}, max_retries=5, retry_seconds=[1, 2]
    )
    await crop.job("b.png").push(unique="b")
    thumbnail, resized = headrace_fake.pushed()
    assert (thumbnail.queue, thumbnail.delay, thumbnail.id) == ("images", 60.0, "mine")
    assert (thumbnail.unique, resized.unique) == ('["a.png"]', "b")
    assert (thumbnail.headers, resized.headers) == ({"trace": "7"}, {})
    assert thumbnail.options == {"max_retries": 5, "retry_seconds": [1, 2]}


async def test_a_record_is_what_a_worker_would_get_whatever_becomes_of_the_pushed(headrace_fake: Fake) -> None:
    address = Address(streets=["High Street"])
    await Parcel(address=address).push()
    address.streets.append("Low Street")
    (pushed,) = headrace_fake.pushed(Parcel)
    assert pushed.job.address == Address(streets=["High Street"])


async def test_unique_pushes_and_ids_and_cancelling_behave(headrace_fake: Fake) -> None:
    app = Headrace({"backend": "memory", "listeners": [], "queues": {"images": {}}})
    queue = app.queue("images")
    first = await queue.push(Preview(path="a.png"))
    assert await queue.push(Preview(path="a.png"), on_duplicate="keep") == first
    assert len(headrace_fake.pushed(Preview)) == 1
    second = await queue.push(Preview(path="a.png"))
    assert second != first
    assert (await queue.info()).waiting == 1
    assert await queue.cancel(second)
    assert (await queue.info()).waiting == 0


async def test_listeners_hear_of_pushes_as_ever(headrace_fake: Fake) -> None:
    app, heard = Headrace({"listeners": []}), []

    @listen(JobPushed)
    def note(event: JobPushed) -> None:
        heard.append(event.job)

    app.events.add(note)
    await app.queue().push(Greeting(user_id=1))
    await asyncio.to_thread(app.queue().push_sync, Greeting(user_id=2))
    assert heard == [Greeting(user_id=1), Greeting(user_id=2)]


# What production refuses


async def test_arguments_that_do_not_fit_are_refused(headrace_fake: Fake) -> None:
    with pytest.raises(InvalidPayload, match="user_id"):
        await Greeting(user_id="one").push()  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="height"):
        await crop.push("a.png", height=1)  # type: ignore[call-arg]
    headrace_fake.assert_nothing_pushed()


async def test_options_that_are_wrong_are_refused(headrace_fake: Fake) -> None:
    with pytest.raises(JobError, match="negative"):
        await Greeting(user_id=1).push(delay=-1)
    with pytest.raises(JobError, match="max_retries"):
        await Greeting(user_id=1).push(max_retries=-1)
    with pytest.raises(JobError, match="headrace's own"):
        await Greeting(user_id=1).push(headers={"headrace-options": "{}"})
    with pytest.raises(TypeError, match="countdown"):
        await Greeting(user_id=1).push(countdown=1)  # type: ignore[call-arg]
    headrace_fake.assert_nothing_pushed()


async def test_unknown_queues_are_refused(headrace_fake: Fake) -> None:
    class Elsewhere(Job, queue="elsewhere"):
        def handle(self) -> None: ...

    with pytest.raises(UnknownQueue, match="elsewhere"):
        await Elsewhere().push()
    with pytest.raises(UnknownQueue, match="elsewhere"):
        await Headrace({"listeners": []}).queue("elsewhere").push(Greeting(user_id=1))


async def test_what_the_configured_backend_would_not_take_is_refused(headrace_fake: Fake) -> None:
    app = Headrace({"backend": "small", "listeners": []}, backends={"small": SmallBackend()})
    with pytest.raises(MessageTooLarge, match="small"):
        await app.queue().push(crop.job("a" * 30))
    with pytest.raises(CapabilityError, match="unique"):
        await app.queue().push(Preview(path="a"))
    with pytest.raises(CapabilityError, match="cancel"):
        await app.queue().cancel("some id")
    with pytest.raises(ConfigError, match='no backend "nowhere"'):
        await Headrace({"backend": "nowhere", "listeners": []}).queue().push(Greeting(user_id=1))


async def test_pushing_on_the_wrong_side_of_an_event_loop_is_refused(headrace_fake: Fake) -> None:
    with pytest.raises(WrongContext, match="await"):
        Greeting(user_id=1).push_sync()
    with pytest.raises(WrongContext, match="push_sync"):
        await (await asyncio.to_thread(lambda: Greeting(user_id=1).push()))
    with pytest.raises(WrongContext, match=r"await run\(\)"):
        headrace_fake.run_sync()


# Questions


async def test_a_question_may_name_some_fields_and_none(headrace_fake: Fake) -> None:
    await Greeting(user_id=1).push()
    await Greeting(user_id=2, locale="de").push()
    assert len(headrace_fake.pushed(Greeting)) == len(headrace_fake.pushed(Job)) == 2
    (found,) = headrace_fake.assert_pushed(Greeting, locale="de")
    assert found.job.user_id == 2
    headrace_fake.assert_pushed(Greeting(user_id=1))
    headrace_fake.assert_not_pushed(Greeting(user_id=2))
    headrace_fake.assert_not_pushed(Preview)


async def test_a_question_may_be_about_queue_delay_and_number(headrace_fake: Fake) -> None:
    await Greeting(user_id=1).push()
    await Greeting(user_id=1).push(delay=30)
    await Greeting(user_id=2).push(delay=datetime.now(UTC) + timedelta(hours=1))
    headrace_fake.assert_pushed(Greeting, times=3)
    headrace_fake.assert_pushed(Greeting, user_id=1, times=2, queue="default")
    headrace_fake.assert_pushed(Greeting, user_id=1, times=1, delay=30)
    headrace_fake.assert_pushed(Greeting, delay=0, times=1)
    headrace_fake.assert_pushed(Greeting, user_id=2, delay=timedelta(hours=1))
    headrace_fake.assert_pushed(Greeting, user_id=3, times=0)
    headrace_fake.assert_not_pushed(Greeting, queue="images")
    headrace_fake.assert_not_pushed(Greeting, user_id=1, delay=60)


async def test_where_a_job_has_a_field_of_a_questions_words_the_word_is_the_field(headrace_fake: Fake) -> None:
    await Wire(queue="night", times=3).push(delay=5)
    headrace_fake.assert_pushed(Wire, queue="night", times=3, delay=0.0)
    headrace_fake.assert_pushed(Wire(queue="night", times=3), queue="default", times=1, delay=5)


async def test_a_question_that_no_push_could_answer_is_refused(headrace_fake: Fake) -> None:
    with pytest.raises(JobError, match="no field 'usr_id'; it has user_id, locale"):
        headrace_fake.assert_not_pushed(Greeting, usr_id=1)
    with pytest.raises(JobError, match="height"):
        headrace_fake.assert_not_pushed(crop, "a.png", height=1)  # type: ignore[call-arg]
    with pytest.raises(JobError, match="no job"):
        headrace_fake.assert_not_pushed(str)  # type: ignore[arg-type]
    with pytest.raises(JobError, match="times"):
        headrace_fake.assert_not_pushed(Greeting, times=1)
    with pytest.raises(JobError, match="as it is"):
        headrace_fake.assert_not_pushed(Greeting(user_id=1), locale="de")  # type: ignore[call-overload]
    with pytest.raises(JobError, match="positional"):
        headrace_fake.pushed(Greeting, 1)  # type: ignore[call-overload]


async def test_what_failed_to_be_pushed_is_told_with_what_was(headrace_fake: Fake) -> None:
    with pytest.raises(AssertionError, match="Greeting\\(user_id=1\\) was not pushed; nothing was"):
        headrace_fake.assert_pushed(Greeting, user_id=1)
    await Greeting(user_id=2).push(delay=30)
    await Preview(path="a.png").push(max_retries=1, headers={"trace": "7"})
    with pytest.raises(AssertionError) as caught:
        headrace_fake.assert_pushed(Greeting, user_id=1, queue="images")
    assert str(caught.value).splitlines() == [
        "Greeting(user_id=1) on 'images' was not pushed; these were:",
        "  Greeting(user_id=2, locale='en') on 'default', in 30 s",
        "  Preview(path='a.png') on 'images', unique '[\"a.png\"]', max_retries 1, trace '7'",
    ]
    with pytest.raises(AssertionError, match="Greeting\\(\\) was pushed once, not twice; these were:"):
        headrace_fake.assert_pushed(Greeting, times=2)
    with pytest.raises(AssertionError, match="Greeting\\(\\) was pushed once; these were:"):
        headrace_fake.assert_not_pushed(Greeting)
    with pytest.raises(AssertionError, match="nothing should have been pushed; these were:"):
        headrace_fake.assert_nothing_pushed()


async def test_a_long_list_is_cut(headrace_fake: Fake) -> None:
    for number in range(30):
        await crop.push("a" * 1000, width=number)
    with pytest.raises(AssertionError) as caught:
        headrace_fake.assert_nothing_pushed()
    lines = str(caught.value).splitlines()
    assert lines[-1] == "  and 10 more"
    assert max(map(len, lines)) < 220


async def test_clearing_forgets_what_was_pushed_and_what_would_run(headrace_fake: Fake) -> None:
    await Greeting(user_id=1).push()
    headrace_fake.clear()
    headrace_fake.assert_nothing_pushed()
    assert len(await headrace_fake.run()) == 0
