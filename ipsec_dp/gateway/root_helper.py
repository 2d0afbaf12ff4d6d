"""The process that stays root when a gateway gives it up, and does what only root may: it opens the files that a checked
configuration names, also to write keys for Wireshark, and the TUN device, reads a configuration again, makes the control socket and
takes it away.

It is forked before anything is read, and told once, by `begin`, which configuration this is. After that it takes nobody's word:
what a configuration names it finds out itself, by reading and checking it in a child of its own, and it reads no other one than
`root_grants` lets it. So a gateway that is taken over gets what its own configuration gives it, and nothing else of root's.

It answers one request at a time (`root_messages`), and ends with the gateway: with the last that has a channel to it, where another
process is to take the gateway's place and has one of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import pickle
import select
import signal
import socket
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

import msgspec

from ipsec_dp.config.difference import READ_SECONDS, ReadRequest
from ipsec_dp.errors import IpsecDpError
from ipsec_dp.gateway.control_place import ControlPlace
from ipsec_dp.gateway.root_grants import Grants, HelpedGateway, Named, examined
from ipsec_dp.gateway.root_messages import (
    ANSWER_OCTETS_MAX,
    APPEND,
    BEGIN,
    HEAD,
    KEEP,
    LISTEN,
    NOT_OPENED,
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
from ipsec_dp.host.drop import become, end_with_nobody
from ipsec_dp.host.links import OpenedDirectories, open_by_links_of
from ipsec_dp.host.privilege import CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER
from ipsec_dp.host.roots_files import written_files
from ipsec_dp.keying.key_file import open_table, owners_of_tables
from ipsec_dp.util.opening import AHEAD_FILES, READING, USING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipsec_dp.host.roots_files import FileId

CAPABILITIES: Final = (DAC_READ_SEARCH, DAC_OVERRIDE, CHOWN, FOWNER)
PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15  # <linux/prctl.h>
CHANNELS_MAX: Final = 4  # the gateway's, its successor's, and those whose end was not heard yet


class Answered(NamedTuple):
    error: int = 0
    text: str = ""
    descriptors: tuple[int, ...] = ()


class Helper:
    """Answers requests. `serve` is its life."""

    def __init__(self, confine: Callable[[], object], written: frozenset[FileId] = frozenset(), top: str = "/") -> None:
        """`confine` is called when it has begun. `written`, `top`: as of `HelpedGateway`."""
        self._confine, self._written, self._top = confine, written, top
        self._served: HelpedGateway | None = None
        self._channels: list[socket.socket] = []

    def serve(self, channel: socket.socket) -> None:
        """Until nobody has the other side, nor that of a channel which was asked for."""
        self._channels.append(channel)
        while self._channels:
            poll = select.poll()
            for each in self._channels:
                poll.register(each, select.POLLIN)
            ready = {descriptor for descriptor, _ in poll.poll()}
            for each in [each for each in self._channels if each.fileno() in ready]:
                if not self._serve_one(each):
                    self._channels.remove(each)
                    each.close()

    def _serve_one(self, channel: socket.socket) -> bool:
        """Whether there is another side."""
        message, descriptors = received(channel, REQUEST_OCTETS_MAX + 1)
        if not message:
            return False
        try:
            given = self.answer(message, descriptors[0] if descriptors else None)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        text = given.text.encode(errors="replace")[: ANSWER_OCTETS_MAX - HEAD.size]
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            try:
                send(channel, HEAD.pack(given.error) + text, *given.descriptors)
            except OSError as error:
                if error.errno != errno.ETOOMANYREFS:  # so many are on their way already, of whomever
                    raise
                send(channel, HEAD.pack(error.errno))
            finally:
                for descriptor in given.descriptors:
                    os.close(descriptor)
        return True

    def answer(self, message: bytes, descriptor: int | None) -> Answered:
        """What a request comes to; never raises what a request could cause."""
        what, path = message[:1], os.fsdecode(message[1:])
        try:
            if len(message) > REQUEST_OCTETS_MAX or ("\0" in path and what != OPEN_SEVERAL):
                return Answered(errno.EINVAL)
            if self._served is None:
                return self._begin(descriptor) if what == BEGIN else Answered(errno.EPERM)
            return self._asked(self._served, what, path, descriptor)
        except OSError as error:
            return Answered(error.errno or errno.EIO, os.strerror(error.errno or errno.EIO))
        except (IpsecDpError, msgspec.MsgspecError) as error:
            return Answered(errno.EINVAL, str(error))

    def _begin(self, descriptor: int | None) -> Answered:
        """From here on nothing is taken on trust."""
        if descriptor is None:
            return Answered(errno.EINVAL)
        grants = msgspec.msgpack.decode(content_of(descriptor), type=Grants)
        place = ControlPlace(Path(grants.control), grants.group)
        owner = os.stat(grants.configuration).st_uid
        self._served = HelpedGateway(grants, place, owner, self._written, self._top)
        self._confine()
        return Answered()

    def _asked(self, served: HelpedGateway, what: bytes, path: str, descriptor: int | None) -> Answered:
        if what in (OPEN, OPEN_NO_LINK):
            return Answered(descriptors=(_opened(served, path, READING | (os.O_NOFOLLOW if what == OPEN_NO_LINK else 0)),))
        if what == OPEN_SEVERAL:
            return _several(served, path.split("\0"))
        if what == APPEND and served.writes(path):
            return Answered(descriptors=(_table(served.grants.user, Path(path)),))
        if what == APPEND:
            return Answered(errno.EACCES)
        if what == TUN:
            return Answered(descriptors=(os.open(tun.DEVICE, USING),))  # whoever has it still needs CAP_NET_ADMIN for an interface
        if what == LISTEN:
            with served.place.listen() as made:
                return Answered(descriptors=(made.detach(),))
        if what == REMOVE:
            served.place.remove()
            return Answered()
        if what == STAY:
            return self._stay()
        if what == READ and descriptor is not None:
            return self._read(served, path, descriptor)
        if what == KEEP and descriptor is not None:
            served.keep(msgspec.msgpack.decode(content_of(descriptor), type=Named))
            return Answered()
        return Answered(errno.EINVAL)

    def _stay(self) -> Answered:
        """The gateway goes on in another process, or does not: the end of all channels is the helper's from now on."""
        if len(self._channels) >= CHANNELS_MAX:
            return Answered(errno.EMFILE)
        end_with_nobody()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channels.append(ours)
        return Answered(descriptors=(theirs.detach(),))

    def _read(self, served: HelpedGateway, path: str, descriptor: int) -> Answered:
        """A configuration is read and checked in a child, which takes its memory with it."""
        path = served.place_of(path)
        if (refusal := served.refuses(path)) is not None:
            return Answered(errno.EACCES, f"{refusal}; copy it to where root alone writes, or start the gateway anew")
        wanted = msgspec.msgpack.decode(content_of(descriptor), type=KnownTunnels)
        made, names = memory_of(), memory_of()
        try:
            child = os.fork()
            if child == 0:
                _read_in_child(ReadRequest(Path(path), wanted.known, wanted.fingerprint_key), served.grants, made, names)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if status != 0:
                os.close(made)
                return Answered(errno.EIO, f"status {status}")
            served.learn(path, msgspec.msgpack.decode(content_of(names), type=Named))
        finally:
            os.close(names)
        return Answered(descriptors=(made,))


def _opened(served: HelpedGateway, path: str, flags: int) -> int:
    """Raises OSError: the file's, EACCES for what no configuration names."""
    _check_named(served, path)
    return open_by_links_of(_owners(served), path, flags)


def _owners(served: HelpedGateway) -> frozenset[int]:
    """Whose links are followed."""
    return frozenset((0, served.owner))


def _check_named(served: HelpedGateway, path: str) -> None:
    if not served.reads(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _several(served: HelpedGateway, paths: list[str]) -> Answered:
    """Those of the paths that can be opened one by one. Why another one cannot is said when it is asked for by itself."""
    if len(paths) > AHEAD_FILES:
        return Answered(errno.EINVAL)
    opened: list[int] = []
    said = ""
    with OpenedDirectories(_owners(served)) as directories:
        for path in paths:
            try:
                _check_named(served, path)
                opened.append(directories.open(path, READING))
            except OSError:
                said += NOT_OPENED
            else:
                said += OPENED
    return Answered(text=said, descriptors=tuple(opened))


def _table(user: tuple[int, int] | None, path: Path) -> int:
    """A file of the key log. It becomes the gateway's, so that nobody takes it for one of root's. Raises OSError."""
    opened = open_table(path.parent, path.name, owners_of_tables() | frozenset(() if user is None else user[:1]))
    try:
        if user is not None and os.fstat(opened).st_uid != user[0]:
            os.fchown(opened, *user)
    except OSError:
        os.close(opened)
        raise
    return opened


def _read_in_child(request: ReadRequest, grants: Grants, made: int, names: int) -> NoReturn:
    signal.alarm(int(READ_SECONDS))
    status = 1
    try:
        got, named = examined(request, grants)
        for descriptor, content in ((made, pickle.dumps(got)), (names, msgspec.msgpack.encode(named))):
            with open(descriptor, "wb", closefd=False) as file:
                file.write(content)
        status = 0
    finally:
        os._exit(status)


def live(channel: socket.socket, parent: int) -> NoReturn:
    """The life of the forked process: nothing of what it was forked from."""
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)  # a terminal's and a manager's are for the gateway, with which this one ends
        libc = ctypes.CDLL(None)
        libc.prctl(PR_SET_NAME, b"ipsec-dp-root", 0, 0, 0)
        libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0)
        if os.getppid() == parent:
            written = written_files()
            silence = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(silence, stream)
            Helper(partial(become, None, CAPABILITIES), written).serve(channel)
    finally:
        os._exit(0)
