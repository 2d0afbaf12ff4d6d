"""What a service manager wants to hear of a daemon that it started, where one asks: sd_notify(3), sd_watchdog_enabled(3).

Datagrams to the socket that NOTIFY_SOCKET names. It is connected at once, so that it is reached whatever is dropped later, and is
waited for with one thing alone: which process the service is.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from typing import TYPE_CHECKING, Self

from ipsec_dp.util import os_errors
from ipsec_dp.util.text import LINE, shown
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

log = logging.getLogger(__name__)

READY, STOPPING, ALIVE = "READY=1", "STOPPING=1", "WATCHDOG=1"
HEARS_S = 0.25  # packets wait meanwhile
WATCHDOG_MIN_S = 0.01  # less is no time in which anybody could answer


class ServiceManager:
    """One that may be there. `watchdog_s`: it expects to hear `alive` within so many seconds, again and again; None: never."""

    def __init__(
        self, connection: socket.socket | None = None, watchdog_s: float | None = None, unreached: str | None = None
    ) -> None:
        """`unreached`: why there is no connection where one is wanted."""
        self._connection, self.watchdog_s, self._unreached = connection, watchdog_s, unreached
        self._told_status = ""
        self._lost = False
        self._reloads = 0  # under way

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self:
        """The one that started this process; none where it cannot be reached, which `ready` has a warning of."""
        address = environment.get("NOTIFY_SOCKET", "")
        if not address:
            return cls()
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            made.connect("\0" + address[1:] if address.startswith("@") else address)
        except OSError as error:
            made.close()
            return cls(unreached=f"{shown(address, LINE)}: {os_errors.text_of(error)}")
        return cls(made, _watchdog_s(environment))

    @property
    def asks(self) -> bool:
        return self._connection is not None

    def ready(self) -> None:
        if self._unreached is not None:
            log.warning("the service manager could not be told at %s", self._unreached, extra=told("manager_unreached"))
        self._tell(READY)

    def stopping(self) -> None:
        self._tell(STOPPING)

    def alive(self) -> None:
        """For its watchdog."""
        self._tell(ALIVE)

    def status(self, text: str) -> None:
        """One line that `systemctl status` shows; nothing where it was told so last."""
        if text != self._told_status:
            self._told_status = text
            self._tell(f"STATUS={shown(text, LINE)}")

    def hand_over(self, process: int) -> None:
        """The service is that process from now on, and nothing more is said by this one. Raises OSError: the manager does not hear
        it within HEARS_S, and would end that process with this one."""
        if self._connection is None:
            return
        self._connection.settimeout(HEARS_S)
        try:
            self._connection.send(f"MAINPID={process}".encode())
        except OSError:
            self._connection.setblocking(False)
            raise
        self.close()

    @contextlib.contextmanager
    def reloading(self) -> Iterator[None]:
        """A reload begins, and is over, whatever came of it. One that begins meanwhile is part of it."""
        if self._reloads == 0:
            microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            self._tell(f"RELOADING=1\nMONOTONIC_USEC={microseconds}")
        self._reloads += 1
        try:
            yield
        finally:
            self._reloads -= 1
            if self._reloads == 0:
                self._tell(READY)

    def _tell(self, state: str) -> None:
        if self._connection is None:
            return
        try:
            self._connection.send(state.encode())
            self._lost = False
        except OSError as error:
            if not self._lost:
                why = os_errors.text_of(error)
                log.warning("the service manager could not be told: %s", why, extra=told("manager_unreached"))
            self._lost = True

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    """WATCHDOG_USEC, unless WATCHDOG_PID says that another process is meant, or it is no time."""
    if environment.get("WATCHDOG_PID", "") not in ("", str(os.getpid())):
        return None
    text = environment.get("WATCHDOG_USEC", "")
    seconds = int(text) / 1e6 if text.isascii() and text.isdigit() else 0.0
    return seconds if seconds >= WATCHDOG_MIN_S else None
