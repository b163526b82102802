"""A Redis that has no memory left, or takes no more connections, under load."""

import asyncio
import os
import socket
from pathlib import Path

import pytest
from load import Load

from headrace.conformance.servers.redis import RedisServer

LONG = "HEADRACE_TEST_LONG" in os.environ
JOBS = 5_000 if LONG else 600
TIMES = 10 if LONG else 1

#: Seconds between two pushes, so that a limit strikes amid them.
PAUSE = 0.002

pytestmark = pytest.mark.timeout(600)


async def test_no_job_is_lost_while_redis_is_out_of_memory(tmp_path: Path) -> None:
    with RedisServer(append_only=True, maxmemory_policy="noeviction") as server:
        async with Load(tmp_path, "redis", url=server.url) as load:
            load.start_worker()
            async with load.pushing(JOBS, PAUSE):
                for _ in range(TIMES):
                    await load.until_more_runs()
                    refused = load.unconfirmed
                    server.ask("CONFIG", "SET", "maxmemory", "1mb")
                    await asyncio.sleep(0.5)
                    assert load.unconfirmed > refused
                    server.ask("CONFIG", "SET", "maxmemory", "0")
            await load.until_done()
            assert await load.lost(f"Redis out of memory {TIMES} times") == 0


@pytest.mark.skipif(not LONG, reason="left to the long form, tox -e faults")
async def test_no_job_is_lost_while_redis_takes_no_more_connections(tmp_path: Path) -> None:
    with RedisServer(append_only=True) as server:
        async with Load(tmp_path, "redis", url=server.url) as load:
            load.start_worker()
            async with load.pushing(JOBS, PAUSE):
                for _ in range(TIMES):
                    await load.until_more_runs()
                    # One connection that is there already, as afterwards nobody would be let in to raise the limit.
                    with socket.create_connection(("127.0.0.1", server.port)) as operator:
                        operator.sendall(b"CONFIG SET maxclients 2\r\nCLIENT KILL TYPE normal SKIPME yes\r\n")
                        await asyncio.sleep(1)
                        operator.sendall(b"CONFIG SET maxclients 10000\r\n")
                        await load.until_more_runs()
            await load.until_done()
            refused = int(server.info("stats")["rejected_connections"])
            assert await load.lost(f"Redis at its limit {TIMES} times, {refused} connections refused") == 0
            assert refused
