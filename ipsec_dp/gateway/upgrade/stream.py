"""The form of what two processes of one gateway say to each other while the one takes the other's place.

A message is a head (what it is, of which form, how long, how many descriptors, a digest), its descriptors, its body. The socket is
one of a pair that the one made and the other inherited, so nobody else has it. What comes is bounded and checked all the same: the
digest is against a cut or a slip, and a successor may be another program than the one that it says it is.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import hashlib
import math
import os
import select
import socket
import struct
import sys
import termios
import time
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from ipsec_dp.errors import IpsecDpError
from ipsec_dp.host.sockets import set_buffers
from ipsec_dp.util import os_errors
from ipsec_dp.util.wiping import wipe

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipsec_dp.ike.octets import Buffer

FORM: Final = 1
"""Of this number. A later program speaks it as long as it can; what it cannot begin anew is refused before anything stops."""

MAGIC: Final = b"ipsec-dp"
FRONT: Final = struct.Struct("!8sHHIQ")  # magic, form, kind, descriptors, octets of the body
_DIGEST: Final = 32
HEAD_OCTETS: Final = FRONT.size + _DIGEST
BODY_MAX: Final = 512 << 20  # octets: ten thousand tunnels take about 100 MB
DESCRIPTORS_MAX: Final = 65536
KIND_MAX: Final = 15
ALIVE_S: Final = 1.0  # between two words to the service manager while the other process is waited for
_AT_ONCE: Final = 200  # descriptors with one octet of the stream; the kernel takes 253 (SCM_MAX_FD)
_PIECE: Final = 8 << 20  # octets: ten thousand tunnels' SAs are 5.2 MB
_INT: Final = struct.calcsize("i")


class HandOverError(IpsecDpError):
    """What the other process said, or did not say, or why it cannot be reached."""


class Head(NamedTuple):
    """Of a message. `front`: the octets that the digest covers besides the body."""

    kind: int
    descriptors: int
    octets: int
    digest: bytes
    front: bytes


def head_of(octets: Buffer) -> Head:
    """HEAD_OCTETS octets as a head. Raises HandOverError for what is none, of another form, or beyond what is taken."""
    if len(octets) != HEAD_OCTETS:
        raise HandOverError(f"the head of a message was cut: {len(octets)} of {HEAD_OCTETS} octets are there")
    front, digest = bytes(octets[: FRONT.size]), bytes(octets[FRONT.size :])
    magic, form, kind, descriptors, length = FRONT.unpack(front)
    if magic != MAGIC:
        raise HandOverError("what came is no message of a gateway")
    if form != FORM:
        raise HandOverError(f"the other program speaks form {form} of the hand-over, and this one form {FORM}")
    if kind > KIND_MAX or descriptors > DESCRIPTORS_MAX or length > BODY_MAX:
        raise HandOverError("the head of a message says what none has")
    return Head(kind, descriptors, length, digest, front)


def check_body(head: Head, body: Buffer) -> None:
    """Raises HandOverError unless it is the body that belongs to the head."""
    if len(body) != head.octets:
        raise HandOverError(f"a message was cut: {len(body)} of {head.octets} octets are there")
    digest = hashlib.sha256(head.front)
    digest.update(body)
    if digest.digest() != head.digest:
        raise HandOverError("a message was changed on its way: its digest does not hold")


def head_for(kind: int, body: Buffer, descriptors: int = 0) -> bytes:
    """The octets that go before a body."""
    front = FRONT.pack(MAGIC, FORM, kind, descriptors, len(body))
    digest = hashlib.sha256(front)
    digest.update(body)
    return front + digest.digest()


class Received(NamedTuple):
    """A message. Whoever has it wipes `body` and closes `descriptors`."""

    kind: int
    body: bytearray
    descriptors: list[int]

    def close(self) -> None:
        wipe(self.body)
        while self.descriptors:
            os.close(self.descriptors.pop())


class HandOverChannel:
    """One end of the pair. Every call ends within the seconds that it is given: HandOverError."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    @classmethod
    def pair(cls) -> tuple[Self, socket.socket]:
        """Our end, and that of the process which is about to be started. OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        set_buffers(ours, _PIECE)  # the two need not take turns while nobody forwards
        return cls(ours), theirs

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    @property
    def unread(self) -> int:
        """How much of what was sent the other side has not read: octets of the kernel's memory (SIOCOUTQ), a little more than were
        sent. It grows less with every few pages that are read."""
        left = bytearray(_INT)
        fcntl.ioctl(self._socket, termios.TIOCOUTQ, left)
        return int.from_bytes(left, sys.byteorder)

    def send(
        self,
        kind: int,
        body: Buffer,
        descriptors: list[int] | None = None,
        *,
        seconds: float,
        waiting: Callable[[], object] = lambda: None,
    ) -> None:
        """The whole of a message; `waiting` is called before and after each part of its body that is taken, and every ALIVE_S while
        none is. HandOverError: the other side is gone, or takes nothing; or it is too long, and none was sent."""
        given, deadline = descriptors or [], time.monotonic() + seconds
        if len(body) > BODY_MAX:
            raise HandOverError(f"{len(body)} octets are more than the {BODY_MAX} that a message has")
        try:
            self._send_all(head_for(kind, body, len(given)), deadline)
            for first in range(0, len(given), _AT_ONCE):
                self._wait(deadline)
                rights = array.array("i", given[first : first + _AT_ONCE])
                self._socket.sendmsg([b"D"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
            self._send_all(body, deadline, waiting)
        except OSError as error:
            raise HandOverError(_lost(error)) from None

    def _wait(self, deadline: float, most: float = math.inf) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(min(left, most))

    def _send_all(self, octets: Buffer, deadline: float, waiting: Callable[[], object] = lambda: None) -> None:
        view = memoryview(octets)
        while view:
            self._wait(deadline, ALIVE_S)
            there_is_room = self._polled(select.POLLOUT, ALIVE_S)
            waiting()
            if there_is_room:
                with contextlib.suppress(TimeoutError):  # the deadline says when it is too late
                    view = view[self._socket.send(view[:_PIECE]) :]
                waiting()

    def receive(self, *, seconds: float, waiting: Callable[[], object] = lambda: None) -> Received:
        """The next message, whole and checked; `waiting` is called every ALIVE_S while nothing of it comes. HandOverError; then
        nothing of it is left open."""
        deadline = time.monotonic() + seconds
        got = Received(0, bytearray(), [])
        try:
            head = head_of(self._exactly(HEAD_OCTETS, deadline, waiting))
            while len(got.descriptors) < head.descriptors:
                self._take_descriptors(head.descriptors, got.descriptors, deadline)
            got = got._replace(kind=head.kind, body=self._exactly(head.octets, deadline, waiting))
            check_body(head, got.body)
        except OSError as error:
            got.close()
            raise HandOverError(_lost(error)) from None
        except HandOverError:
            got.close()
            raise
        return got

    def _exactly(self, count: int, deadline: float, waiting: Callable[[], object]) -> bytearray:
        """Memory grows by a piece with what comes, not with what is announced. Keys may be in it: none is left elsewhere."""
        pieces: list[bytearray] = []
        try:
            for at in range(0, count, _PIECE):
                pieces.append(bytearray(min(_PIECE, count - at)))
                self._fill(memoryview(pieces[-1]), deadline, waiting)
            if len(pieces) == 1:
                return pieces.pop()
            whole = bytearray(count)
            for at, piece in zip(range(0, count, _PIECE), pieces, strict=True):
                whole[at : at + len(piece)] = piece
            return whole
        finally:
            for piece in pieces:
                wipe(piece)

    def _fill(self, room: memoryview, deadline: float, waiting: Callable[[], object]) -> None:
        while room:
            self._wait(deadline, ALIVE_S)
            try:
                count = self._socket.recv_into(room)
            except TimeoutError:  # the deadline says when it is too late
                waiting()
                continue
            if not count:
                raise HandOverError("the other process has gone")
            room = room[count:]

    def _take_descriptors(self, count: int, into: list[int], deadline: float) -> None:
        self._wait(deadline)
        octet, ancillary, flags, _ = self._socket.recvmsg(1, socket.CMSG_SPACE(_AT_ONCE * _INT), socket.MSG_CMSG_CLOEXEC)
        before = len(into)
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                into += array.array("i", data[: len(data) - len(data) % _INT])
        if not octet:
            raise HandOverError("the other process has gone")
        if flags & socket.MSG_CTRUNC or len(into) == before:
            raise HandOverError(f"{count} descriptors do not fit this process: raise its limit (`ulimit -n`, LimitNOFILE)")
        if len(into) > count:
            raise HandOverError("more descriptors came than were announced")

    def wait(self, seconds: float) -> bool:
        """Whether something comes within so many seconds, or the other side goes."""
        return self._polled(select.POLLIN, seconds)

    def has_ended(self) -> bool:
        """Whether the other side is gone; nothing is read."""
        return self.wait_end(0.0)

    def wait_end(self, seconds: float) -> bool:
        """Whether the other side goes within so many seconds, whatever it said that is unread."""
        return self._polled(select.POLLRDHUP, seconds)

    def _polled(self, what: int, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._socket, what)
        return bool(poll.poll(seconds * 1000))


def _lost(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "the other process did not go on in time"
    return f"the other process cannot be reached: {os_errors.text_of(error)}"
