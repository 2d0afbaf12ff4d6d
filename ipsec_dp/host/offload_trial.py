"""The process that tries the offloads of TUN devices (`host.super_packets`), from its start to its end."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from typing import Final, NoReturn

import msgspec

from ipsec_dp.host.super_packets import OffloadFaults, find_out

PROCESS_S: Final = 10  # the most that the process may live: each kind may lose its packets each time
END_S: Final = 1.0  # the most that anybody waits for its end
ANSWER_OCTETS_MAX: Final = 1 << 16


class OffloadTrial:
    """`result` may be asked once, and before `close`. `descriptor` is the process's pidfd, readable once it has ended; -1: it is
    closed. Who watches it calls `close` then, so that nothing is left of the process."""

    def __init__(self, descriptor: int, answer: int) -> None:
        self.descriptor = descriptor
        self._answer = answer

    @classmethod
    def start(cls) -> OffloadTrial:
        """Before there are threads, and secrets. OSError."""
        reading, writing = os.pipe()
        try:
            process = os.fork()
            if process == 0:
                _live(writing)
            return cls(_held(process), reading)
        except OSError:
            os.close(reading)
            raise
        finally:
            os.close(writing)

    def result(self, seconds: float) -> OffloadFaults:
        """What it found within that time. It ends then, whatever it does."""
        try:
            found = os.read(self._answer, ANSWER_OCTETS_MAX) if _readable(self._answer, seconds) else b""
        finally:
            os.close(self._answer)
            self._end()
        try:
            return msgspec.json.decode(found, type=OffloadFaults)
        except msgspec.DecodeError:
            return OffloadFaults(untried=f"there was no answer within {seconds:g} s")

    def close(self) -> None:
        """It has ended, or ends now; END_S at the most."""
        if self.descriptor < 0:
            return
        self._end()
        if _readable(self.descriptor, END_S):
            with contextlib.suppress(ChildProcessError):  # whoever began us has children reaped by the kernel (SIGCHLD ignored)
                os.waitid(os.P_PIDFD, self.descriptor, os.WEXITED | os.WNOHANG)
        os.close(self.descriptor)
        self.descriptor = -1

    def _end(self) -> None:
        # Who has given root up may not end what was begun with it: its alarm does.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            signal.pidfd_send_signal(self.descriptor, signal.SIGKILL)


def _held(process: int) -> int:
    """The pidfd of a child that was just begun. OSError: there is none to be had, and no child any more."""
    try:
        return os.pidfd_open(process)
    except OSError:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):  # it has gone already, and nobody is asked for it
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
        raise


def _readable(descriptor: int, seconds: float) -> bool:
    asked = select.poll()
    asked.register(descriptor, select.POLLIN)
    return bool(asked.poll(seconds * 1000))


def _live(writing: int) -> NoReturn:
    """The process: nothing of the other's is used, and it ends in any case."""
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGALRM,))
        signal.alarm(PROCESS_S)
        os.write(writing, msgspec.json.encode(find_out()))
    finally:
        os._exit(0)
