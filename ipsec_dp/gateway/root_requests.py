"""The gateway's side of the helper that stays root (`gateway.root_helper`): what it asks, and what it takes of the answers."""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import socket
import threading
from typing import TYPE_CHECKING, Final, Self

import msgspec

from ipsec_dp.config.difference import READ_SECONDS, ReadAnswer, ReadError, ReadRequest
from ipsec_dp.errors import ControlError
from ipsec_dp.gateway.root_grants import Grants, Named
from ipsec_dp.gateway.root_helper import live
from ipsec_dp.gateway.root_messages import (
    ANSWER_OCTETS_MAX,
    APPEND,
    BEGIN,
    HEAD,
    KEEP,
    LISTEN,
    OPEN,
    OPEN_NO_LINK,
    OPEN_SEVERAL,
    OPENED,
    READ,
    REMOVE,
    REQUEST_OCTETS_MAX,
    STAY,
    TUN,
    KnownTunnels,
)
from ipsec_dp.host import tun
from ipsec_dp.host.descriptors import content_of, memory_of, received, send
from ipsec_dp.util.opening import AHEAD_FILES, APPENDING, USING
from ipsec_dp.util.text import LINE, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipsec_dp.util.conditions import Conditions

ANSWER_S: Final = 30.0  # the files are on this host
GONE: Final = "the helper that reads files as root has ended; start the gateway anew"


class RootHelper:
    """The helper, as the gateway asks it. From any thread, one question at a time."""

    def __init__(self, channel: socket.socket, process: int) -> None:
        self._channel, self.process = channel, process
        self._one_at_a_time = threading.Lock()
        self._opens_several = True  # as far as is known: one that stays over upgrades may be older than this

    @classmethod
    def start(cls) -> Self:
        """Before there are threads. Raises OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        process = os.fork()
        if process == 0:
            ours.close()
            live(theirs, parent)
        theirs.close()
        return cls(ours, process)

    def begin(self, grants: Grants) -> None:
        """It takes nothing on trust from now on. Raises OSError."""
        self._ask(BEGIN, "", msgspec.msgpack.encode(grants)).close()

    def open(self, path: str, flags: int) -> int:
        """A descriptor to read or to append by, or of the TUN device. Raises OSError: the file's, EACCES for what the configuration
        does not name."""
        if flags == USING and path == str(tun.DEVICE):
            return self._ask(TUN, "").taken()
        reading = OPEN_NO_LINK if flags & os.O_NOFOLLOW else OPEN
        return self._ask(APPEND if flags & APPENDING == APPENDING else reading, path).taken()

    def open_ahead(self, paths: Sequence[str]) -> dict[str, int]:
        """Descriptors, which the caller closes, of those of the paths (AHEAD_FILES, AHEAD_OCTETS) that can be opened to read with
        others, and are no links; `open` says of each other one why not."""
        if not paths or not self._opens_several:
            return {}
        try:
            got = self._ask(OPEN_SEVERAL, "\0".join(paths), seconds=ANSWER_S * (len(paths) - 1), most=AHEAD_FILES)
        except OSError as error:
            self._opens_several = error.errno != errno.EINVAL
            return {}
        with got:
            return got.several(paths)

    def read(self, request: ReadRequest) -> ReadAnswer:
        """A configuration as it is now. Raises ReadError."""
        try:
            with self._read(request) as got:
                made: ReadAnswer = pickle.loads(got.content())  # noqa: S301 - the helper, which is root, wrote it
        except OSError as error:
            raise ReadError(f"{request.path} could not be read again: {error.strerror}") from error
        return made

    def learn(self, request: ReadRequest) -> None:
        """It opens what this configuration names from now on, as far as it understands that itself, in whichever version it is.
        Raises OSError."""
        self._read(request).close()

    def _read(self, request: ReadRequest) -> _Got:
        known = msgspec.msgpack.encode(KnownTunnels(request.known, request.fingerprint_key))
        return self._ask(READ, str(request.path.absolute()), known, READ_SECONDS)

    def keep(self, named: Named) -> None:
        """It opens nothing any more beside these, of what it opened until now, and what configurations name that are read from now
        on. Raises OSError."""
        self._ask(KEEP, "", msgspec.msgpack.encode(named)).close()

    def listen(self) -> socket.socket:
        """Raises ControlError."""
        try:
            return socket.socket(fileno=self._ask(LISTEN, "").taken())
        except OSError as error:
            raise ControlError(str(error.strerror)) from error

    def remove(self) -> None:
        """The control socket. Raises ControlError."""
        try:
            self._ask(REMOVE, "").close()
        except OSError as error:
            raise ControlError(f"the control socket stays: {error.strerror}") from error

    # ---- with another process of the gateway

    @classmethod
    def inherited(cls, channel: int, process: int) -> Self:
        """One that stays with us from now on."""
        return cls(socket.socket(fileno=channel), process)

    def stay(self) -> int:
        """A channel to it for another process, whose questions and ours it tells apart; the caller closes it. It ends with the last
        one that has a channel, and not with this process. Raises OSError."""
        return self._ask(STAY, "").taken()

    def leave(self) -> None:
        """It is another process's."""
        self._channel.close()

    def close(self) -> None:
        """It ends."""
        self._channel.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.process, 0)

    def ended(self, conditions: Conditions) -> None:
        """It has, and nobody wanted that."""
        conditions.begin("root helper", "ended", f"secrets and a changed configuration can be read no more: {GONE}")

    def _ask(self, what: bytes, path: str, memory: bytes | None = None, seconds: float = 0.0, most: int = 1) -> _Got:
        """`most`: descriptors of the answer."""
        if 1 + len(os.fsencode(path)) > REQUEST_OCTETS_MAX:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        given = None if memory is None else memory_of(memory)
        try:
            with self._one_at_a_time:
                self._channel.settimeout(ANSWER_S + seconds)
                send(self._channel, what + os.fsencode(path), *(() if given is None else (given,)))
                message, descriptors = received(self._channel, ANSWER_OCTETS_MAX, most)
        except (OSError, ValueError) as error:
            self._channel.close()  # an answer that comes late would be taken for the next one's
            raise OSError(errno.EPIPE, GONE) from error
        finally:
            if given is not None:
                os.close(given)
        got = _Got(descriptors, message[HEAD.size :].decode(errors="replace"))
        if len(message) < HEAD.size:
            got.close()
            self._channel.close()
            raise OSError(errno.EPIPE, GONE)
        (error_number,) = HEAD.unpack_from(message)
        if error_number != 0:
            got.close()
            raise OSError(error_number, shown(got.text, LINE * 4) or os.strerror(error_number))
        return got


class _Got:
    """What came with an answer. A context manager: descriptors that nobody took are closed when left."""

    def __init__(self, descriptors: list[int], text: str) -> None:
        self._descriptors, self.text = descriptors, text

    def taken(self) -> int:
        """The caller closes it. Raises OSError when there is none."""
        self._there()
        return self._descriptors.pop()

    def several(self, paths: Sequence[str]) -> dict[str, int]:
        """By path, those that were opened; the caller closes them. None where fewer came, for which there was no room, or a path
        stands twice."""
        opened = [path for path, said in zip(paths, self.text, strict=False) if said == OPENED]
        if not len(opened) == len(set(opened)) == len(self._descriptors):
            return {}
        descriptors, self._descriptors = self._descriptors, []
        return dict(zip(opened, descriptors, strict=True))

    def content(self) -> bytes:
        self._there()
        return content_of(self._descriptors[0])

    def _there(self) -> None:
        if not self._descriptors:
            raise OSError(errno.EPROTO, os.strerror(errno.EPROTO))

    def close(self) -> None:
        while self._descriptors:
            os.close(self._descriptors.pop())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
