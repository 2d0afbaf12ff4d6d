"""The successor as a process: started by the gateway itself, with its user and its capabilities, and ended when it is not needed.

Nobody with more than the gateway has takes part: the helper that stays root goes on with the successor and starts nothing.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import threading
from typing import TYPE_CHECKING, Final

from ipsec_dp.gateway.upgrade.executable import environment
from ipsec_dp.gateway.upgrade.stream import HandOverChannel, HandOverError
from ipsec_dp.host.drop import pass_on
from ipsec_dp.util import os_errors

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

WORDS: Final = ("upgrade", "--take-over")  # behind which the descriptor stands
END_S: Final = 5.0  # after SIGKILL


class SuccessorProcess:
    """One that was started, and our end of the channel to it."""

    def __init__(self, process: subprocess.Popen[bytes], channel: HandOverChannel, over: threading.Event) -> None:
        """`over` lets the thread end that started it, and with which it ends until it is alone."""
        self._process, self.channel, self._over = process, channel, over

    @classmethod
    def start(cls, command: Sequence[str], keep: Collection[int]) -> SuccessorProcess:
        """`keep`: the capabilities that it is to have, of those that we have. Raises HandOverError."""
        try:
            channel, theirs = HandOverChannel.pair()
        except OSError as error:
            raise HandOverError(f"there can be no channel to a successor: {os_errors.text_of(error)}") from None
        over = threading.Event()
        try:
            process = _started([*command, *WORDS, str(theirs.fileno())], theirs.fileno(), keep, over)
        except OSError as error:
            channel.close()
            raise HandOverError(f"{command[0]} cannot be started: {os_errors.text_of(error)}") from None
        finally:
            theirs.close()
        return cls(process, channel, over)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def kill(self) -> None:
        """Whoever waits for what it says hears of it. `end` is to follow."""
        self._process.kill()

    def end(self) -> None:
        """It is killed, and gone on return: nothing of it reads a device any more. One that the kernel does not let end within
        END_S reads nothing either."""
        try:
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(END_S)
        finally:
            self.channel.close()
            self._over.set()

    def leave(self) -> None:
        """It is the service, and nobody here looks whether it has ended: how it did is for a service manager to see, whose child it
        is when this process has gone. What this one saw first that would take for a stop that somebody wanted."""
        self._process.returncode = 0  # else Popen asks for it, at the latest when it is deleted
        self._over.set()

    def abandon(self) -> None:
        """`end`, of one that is the service."""
        self.leave()
        try:
            self.pass_on(signal.SIGKILL)
            with contextlib.suppress(OSError):
                _await_end(self.pid, END_S)
        finally:
            self.channel.close()

    def pass_on(self, number: signal.Signals) -> None:
        """To one that is the service; nothing where it has ended. Nobody here sees that, so its number stays its own."""
        with contextlib.suppress(OSError):
            os.kill(self.pid, number)


def _await_end(process: int, seconds: float) -> None:
    """It stays to be seen. OSError."""
    watched = os.pidfd_open(process)
    try:
        poll = select.poll()
        poll.register(watched, select.POLLIN)
        poll.poll(seconds * 1000)
    finally:
        os.close(watched)


def _started(argv: Sequence[str], descriptor: int, keep: Collection[int], over: threading.Event) -> subprocess.Popen[bytes]:
    """Capabilities are each thread's own, so that what this one passes on no other one does. It stays, since a process is told of
    the end of the thread that made it (PR_SET_PDEATHSIG of prctl(2)). OSError."""
    made: list[subprocess.Popen[bytes]] = []
    failed: list[OSError] = []
    tried = threading.Event()

    def run() -> None:
        try:
            pass_on(keep)
            made.append(subprocess.Popen(argv, stdin=subprocess.DEVNULL, pass_fds=[descriptor], env=environment(os.environ)))
        except OSError as error:
            failed.append(error)
            return
        finally:
            tried.set()
        over.wait()

    threading.Thread(target=run, name="successor", daemon=True).start()
    tried.wait()
    if failed:
        raise failed[0]
    return made[0]
