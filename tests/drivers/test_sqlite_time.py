"""The file's time: across reboots, wall clocks that jump, and machines without a boot id."""

from collections.abc import Callable

import pytest

from headrace.testing import FakeClock
from headrace_sqlite.backend import SqliteBackend

from .helpers import counts, ids, message

Make = Callable[..., SqliteBackend]


@pytest.mark.parametrize("jump", [-1e6, -1.0, 1.0, 1e6])
async def test_a_jumping_wall_clock_changes_neither_lease_nor_delay(
    sqlite: Make, clock: FakeClock, jump: float
) -> None:
    backend = sqlite(machine=clock)
    await backend.open()
    driver = backend.driver("{q}", lease_seconds=30)
    await driver.push([message("held")])
    await driver.pop(1, 0)
    await driver.delay([message("delayed", delay=20)])
    clock.wall_seconds += jump
    assert await counts(driver) == {"reserved": 1, "delayed": 1}
    other = sqlite(machine=clock)
    await other.open()
    clock.advance(19.9)
    assert await other.driver("{q}").pop(9, 0) == []
    clock.advance(0.1)
    assert ids(await other.driver("{q}").pop(9, 0)) == ["delayed"]
    clock.advance(10)
    assert ids(await driver.pop(9, 0)) == ["held"]


@pytest.mark.parametrize("off", [0.0, 5.0])
async def test_a_reboot_ends_every_lease_and_delays_go_on(sqlite: Make, clock: FakeClock, off: float) -> None:
    first = sqlite(machine=clock)
    await first.open()
    driver = first.driver("{q}", lease_seconds=1000)
    await driver.push([message("held")])
    await driver.pop(1, 0)
    await driver.delay([message("delayed", delay=20)])
    await first.close()
    clock.boot_id, clock.seconds = "second boot", 3.0
    clock.wall_seconds += off
    second = sqlite(machine=clock)
    await second.open()
    driver = second.driver("{q}")
    (delivery,) = await driver.pop(9, 0)
    assert (delivery.message.id, delivery.count) == ("held", 2)
    clock.advance(19.9 - off)
    assert await driver.pop(9, 0) == []
    clock.advance(0.1)
    assert ids(await driver.pop(9, 0)) == ["delayed"]


async def test_after_a_reboot_with_a_wall_clock_far_behind_nothing_is_stuck(sqlite: Make, clock: FakeClock) -> None:
    first = sqlite(machine=clock)
    await first.open()
    driver = first.driver("{q}")
    clock.advance(100)
    await driver.push([message("a")])
    await first.close()
    clock.boot_id, clock.seconds, clock.wall_seconds = "second boot", 1.0, 0.0
    second = sqlite(machine=clock)
    await second.open()
    driver = second.driver("{q}")
    assert ids(await driver.pop(9, 0)) == ["a"]
    await driver.push([message("b")])
    assert ids(await driver.pop(9, 0)) == ["b"]


async def test_opening_again_within_a_boot_keeps_leases(sqlite: Make, clock: FakeClock) -> None:
    first = sqlite(machine=clock)
    await first.open()
    await first.driver("{q}").push([message()])
    await first.driver("{q}").pop(1, 0)
    await first.close()
    clock.advance(1)
    second = sqlite(machine=clock)
    await second.open()
    assert await counts(second.driver("{q}")) == {"reserved": 1}


async def test_without_a_boot_id_a_clock_that_went_back_tells_of_a_reboot(sqlite: Make, clock: FakeClock) -> None:
    clock.boot_id = ""
    first = sqlite(machine=clock)
    await first.open()
    await first.driver("{q}").push([message("a")])
    await first.driver("{q}").pop(1, 0)
    await first.close()
    same = sqlite(machine=clock)
    await same.open()
    assert await counts(same.driver("{q}")) == {"reserved": 1}
    await same.close()
    clock.seconds = 3.0
    second = sqlite(machine=clock)
    await second.open()
    assert ids(await second.driver("{q}").pop(9, 0)) == ["a"]
