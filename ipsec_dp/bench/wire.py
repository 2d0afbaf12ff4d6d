"""What the two ends of a path benchmark send each other: JSON lines over TCP, then octets without meaning.

A client has one control connection. The server answers its first line with a token, by which its data connections and
datagrams are recognised; datagrams are counted only when they come from the client's address, and nothing is ever sent to an
address that has not completed a TCP handshake.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from ipsec_dp.errors import IpsecDpError

PORT = 5202
VERSION = 1
LINE_MAX = 4096  # octets
CHUNK = 1 << 20  # octets of one send or receive on a stream
TOKEN_OCTETS = 16
RUN_OCTETS = 8  # each datagram begins with the number of its run
USER_HZ = 100  # of /proc/stat
RECEIVE_BUFFER = 32 << 20  # octets

SOL_UDP, UDP_SEGMENT, UDP_GRO = socket.IPPROTO_UDP, 103, 104  # linux/udp.h; Python names none of the two


class BenchError(IpsecDpError):
    """A measurement over a path failed; the text says why, and what to do."""


class Lines:
    """JSON objects, one a line, over a connected TCP socket."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._rest = b""

    def send(self, **message: Any) -> None:
        """Sends one. OSError."""
        self.connection.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> dict[str, Any] | None:
        """The next one; None when the other side has closed. BenchError when it is none or longer than LINE_MAX."""
        while b"\n" not in self._rest:
            if len(self._rest) > LINE_MAX:
                raise BenchError("the other side does not speak this protocol")
            got = self.connection.recv(LINE_MAX)
            if not got:
                return None
            self._rest += got
        line, _, self._rest = self._rest.partition(b"\n")
        try:
            message = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BenchError("the other side does not speak this protocol") from error
        if not isinstance(message, dict):
            raise BenchError("the other side does not speak this protocol")
        return message


def busy_seconds() -> float:
    """CPU seconds that this machine, all its processors, has been busy since it started."""
    return busy_of(Path("/proc/stat").read_text())


def busy_of(stat: str) -> float:
    """The same from the text of /proc/stat."""
    columns = [int(column) for column in stat.partition("\n")[0].split()[1:]]
    user, nice, system, _idle, _iowait, irq, softirq = columns[:7]
    return (user + nice + system + irq + softirq) / USER_HZ
