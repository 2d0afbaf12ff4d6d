"""One gateway of a name in a network namespace at a time: whoever runs holds the name, and the kernel takes it back when they end.

The name is an abstract Unix socket (unix(7)). It belongs to the network namespace, as guard and routes do, and no read-only
directory, long path or killed process can spoil it. Any user may bind one, so only a holder who could be a gateway counts as one.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import socket
import struct
from dataclasses import dataclass
from typing import Self

from ipsec_dp.host import HostError
from ipsec_dp.util import os_errors
from ipsec_dp.util.service_user import service_ids
from ipsec_dp.util.told import told

log = logging.getLogger(__name__)

PREFIX = b"\0ipsec-dp/"
NAME_OCTETS_MAX = 90  # of a gateway's name that is written as it is; unix(7) allows 107 in all
UCRED = struct.Struct("3i")  # pid, uid, gid
SOMEBODY = "somebody"


class RunningError(HostError):
    """A gateway of this name runs in this network namespace. Nothing was touched."""

    def __init__(self, gateway: str, who: str) -> None:
        super().__init__(
            f"gateway {gateway} is already running in this network namespace: {who}; stop it with `ipsec-dp down`, or give this "
            "one another name"
        )


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has a name. `uid` None: it does not tell."""

    pid: int = 0
    uid: int | None = None

    @property
    def may_be_a_gateway(self) -> bool:
        """Whether it is root, who we are, or whom gateways run as. Others cannot make a guard."""
        return self.uid in {0, os.geteuid(), *service_ids()}

    def __str__(self) -> str:
        return (
            SOMEBODY
            if self.uid is None
            else f"process {self.pid}" + ("" if self.uid == 0 or self.uid in service_ids() else f" of user {self.uid}")
        )


class Claim:
    """A name that is ours until `close`, or until this process ends."""

    def __init__(self, held: socket.socket | None) -> None:
        self._held = held

    @classmethod
    def inherited(cls, descriptor: int) -> Self:
        """One that another process of this gateway has taken."""
        return cls(socket.socket(fileno=descriptor))

    @property
    def descriptor(self) -> int | None:
        """By which it can be handed over; None: nothing is held."""
        return None if self._held is None else self._held.fileno()

    def close(self) -> None:
        if self._held is not None:
            self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def take(gateway: str) -> Claim:
    """The name of a gateway in the network namespace of the calling thread.

    Raises RunningError when a gateway of this name runs here, HostError when there can be no socket. Whoever else holds the name is
    warned of, and hinders nothing: a user must not be able to keep a gateway from closing its guard.
    """
    made = _socket()
    try:
        made.bind(_address(gateway))
        made.listen(1)
    except OSError as error:
        made.close()
        if error.errno != errno.EADDRINUSE:
            raise HostError(f"the name of gateway {gateway}: {os_errors.text_of(error)}") from error
    else:
        return Claim(made)
    who = holder(gateway) or Holder()
    if who.may_be_a_gateway:
        raise RunningError(gateway, str(who))
    log.warning(
        "%s holds the name of gateway %s and cannot be one; see `ss -xlp`; going on without it",
        who,
        gateway,
        extra=told("name_held"),
    )
    return Claim(None)


def holder(gateway: str) -> Holder | None:
    """Who has the name of a gateway; None: nobody. Raises HostError."""
    with _socket() as probe:
        probe.setblocking(False)
        try:
            probe.connect(_address(gateway))
            pid, uid, _ = UCRED.unpack(probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size))
        except BlockingIOError:  # asked by others at the same time
            return Holder()
        except OSError as error:
            if error.errno == errno.ECONNREFUSED:
                return None
            raise HostError(f"the name of gateway {gateway}: {os_errors.text_of(error)}") from error
    return Holder(pid, uid)


def names(sockets: str) -> list[str]:
    """The gateways that run in a network namespace, by the text of its /proc/net/unix, where any user can show up."""
    prefix = "@" + PREFIX.decode().removeprefix("\0")
    last = (line.split()[-1] for line in sockets.splitlines() if line.strip())
    return sorted({word.removeprefix(prefix) for word in last if word.startswith(prefix)})


def _socket() -> socket.socket:
    try:
        return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    except OSError as error:
        raise HostError(os_errors.text_of(error)) from error


def _address(gateway: str) -> bytes:
    name = gateway.encode()
    return PREFIX + (name if len(name) <= NAME_OCTETS_MAX else hashlib.sha256(name).hexdigest().encode())
