"""The way to a server of this machine, as a process: what is killed is the network before it, and not the server.

Run as a program, with a port and another one, this module passes connections on from the first to the second.
"""

import asyncio
import socket
import sys

from headrace.conformance.servers.process import ServerProcess


class Gate(ServerProcess):
    """Passes connections on to a port of this machine."""

    def __init__(self, target: int) -> None:
        super().__init__()
        self._target = target

    def command(self) -> list[str]:
        return [sys.executable, __file__, str(self.port), str(self._target)]

    def answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), 5):
            return True


async def _serve(port: int, target: int) -> None:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pass_on(reader, far_writer), _pass_on(far_reader, writer))

    server = await asyncio.start_server(accept, "127.0.0.1", port)
    await server.serve_forever()


async def _pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    except OSError:
        pass
    sink.close()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2])))
