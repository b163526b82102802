"""Telling systemd how a supervisor is: ``Type=notify``, ``Type=notify-reload`` and ``WatchdogSec=``.

Owns the protocol of sd_notify(3), which is a datagram of a few lines; the libraries for it that
need no C compiler are no longer looked after. What is told stands in `headrace.health`.
"""

import contextlib
import os
import socket
import time
from collections.abc import MutableMapping
from typing import Final

from headrace.health import Health, Phase
from headrace.printing import printable

#: Seconds between two notes where there is no watchdog: for the age of what ``systemctl status`` shows.
_EVERY: Final = 5.0


class Systemd:
    """The service manager that started this process."""

    def __init__(self, address: str, watchdog: float | None) -> None:
        """``watchdog``: seconds within which it wants a sign of life; ``None``: it does not."""
        self.every = _EVERY if watchdog is None else min(_EVERY, watchdog / 2)
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._watchdog = watchdog is not None
        self._phase: Phase = "running"
        self._told_ready = False

    @classmethod
    def of(cls, environ: MutableMapping[str, str]) -> "Systemd | None":
        """What the environment tells of, if anything. It is taken out: the processes we start are not meant."""
        address = environ.pop("NOTIFY_SOCKET", "")
        period, process = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        if not address.startswith(("/", "@")):
            return None
        meant = period.isdecimal() and int(period) > 0 and process in ("", str(os.getpid()))
        return cls(address, int(period) / 1e6 if meant else None)

    def show(self, health: Health) -> None:
        lines = []
        if health.phase != self._phase:
            if health.phase == "stopping":
                lines.append("STOPPING=1")
            elif health.phase == "reloading":
                lines += ["RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"]
            elif self._told_ready:
                # After a reload: it is over, however it went.
                lines.append("READY=1")
            self._phase = health.phase
        if health.ready and not self._told_ready:
            self._told_ready = True
            lines.append("READY=1")
        if self._watchdog and health.live:
            lines.append("WATCHDOG=1")
        self._send("\n".join([*lines, f"STATUS={printable(str(health))}"]))

    def _send(self, text: str) -> None:
        # That nobody listens any more is no reason to work less.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            line.setblocking(False)
            line.sendto(text.encode(), self._address)
