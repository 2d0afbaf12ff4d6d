"""The outer sockets: UDP for IKE and encapsulated ESP (RFC 3948), raw ones for IP protocol 50.

Each local address has two: `receive` gets every datagram and sends with DF set, `other` only sends, with DF clear, because Linux
has no per-datagram DF on IPv4. Neither uses a path MTU that the kernel learned from an ICMP message: only the MTU of the interface
bounds them. On IPv6 no router may fragment, so the kernel fragments what `other` sends once it has learned that it must, to what
every path takes: a forged message can cause fragments, and nothing worse. All carry MARK, so that their packets never enter the
tunnel.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ipsec_dp.host import MARK, HostError
from ipsec_dp.host import steering as steer
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ipsec_dp.host.steering import Steering
    from ipsec_dp.ipsec.addresses import Address

log = logging.getLogger(__name__)

IKE_PORT = 500  # RFC 7296 §2
NAT_PORT = 4500  # RFC 3948 §2
PROTOCOL_ESP = 50
BUFFER_OCTETS = 4 << 20  # asked for; the kernel counts twice that

# <asm-generic/socket.h>, <linux/in.h>, <linux/in6.h>, <linux/udp.h>
SO_SNDBUFFORCE, SO_RCVBUFFORCE, SO_MARK = 32, 33, 36
IP_PKTINFO, IP_MTU_DISCOVER, IP_RECVTOS = 8, 10, 13
IPV6_MTU_DISCOVER, IPV6_MTU, IPV6_RECVPKTINFO, IPV6_RECVTCLASS, IPV6_AUTOFLOWLABEL = 23, 24, 49, 66, 70
UDP_NO_CHECK6_RX = 102
PMTUDISC_WANT, PMTUDISC_PROBE, PMTUDISC_OMIT = 1, 3, 5  # the last two: DF set or clear; neither follows ICMP
FRAGMENTING = {4: PMTUDISC_OMIT, 6: PMTUDISC_WANT}

_TCLASS_6 = ((socket.IPPROTO_IPV6, IPV6_RECVTCLASS, 1), (socket.IPPROTO_IPV6, IPV6_AUTOFLOWLABEL, 0))
UDP_OPTIONS = {
    4: ((socket.IPPROTO_IP, IP_PKTINFO, 1), (socket.IPPROTO_IP, IP_RECVTOS, 1)),
    6: (
        (socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1),
        *_TCLASS_6,
        (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1),
        (socket.IPPROTO_UDP, UDP_NO_CHECK6_RX, 1),  # peers may send no checksum (RFC 3948 §2.1): ESP has its own integrity
    ),
}
# A raw socket tells it of each packet, so nothing is asked for that is known: it is bound to an address, and an IPv4 one delivers
# the header, which has TOS.
RAW_OPTIONS = {4: (), 6: _TCLASS_6}
FRAGMENT_OCTETS = (socket.IPPROTO_IPV6, IPV6_MTU)
IPV6_MTU_MIN = 1280  # RFC 8200 §5
MTU_DISCOVER = {4: (socket.IPPROTO_IP, IP_MTU_DISCOVER), 6: (socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER)}

REASONS = {
    errno.EADDRINUSE: "taken by another program; `ss -ulpn` shows which, and on most hosts it is another IKE daemon",
    errno.EADDRNOTAVAIL: "not an address of this host",
    errno.EPERM: "not permitted: raw sockets and marks take CAP_NET_RAW and CAP_NET_ADMIN (run as root)",
    errno.EACCES: "not permitted: a port below 1024 takes CAP_NET_BIND_SERVICE (run as root)",
    errno.EAFNOSUPPORT: "this kernel has no support for the address family",
    errno.EPROTONOSUPPORT: "this kernel has no support for the address family",
}


# Why a datagram does not leave: for a moment, or because of its length; else what about this host may be the cause.
_PASSING: Final = frozenset({errno.EMSGSIZE, errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.EINTR, errno.ECONNREFUSED})
_NO_ROUTE: Final = "there is no route to it (`ip route get` shows what decides)"
_REFUSALS: Final = {
    errno.EPERM: "its own packet filter drops it (look at the output chains: `nft list ruleset`, `iptables-save`)",
    errno.EACCES: "a route or rule that says prohibit is for it (`ip route get` shows it), or a security module forbids it",
    errno.ENETUNREACH: _NO_ROUTE,
    errno.EHOSTUNREACH: "a route or rule that says unreachable is for it (`ip route get` shows it)",
    errno.EINVAL: "a route or rule that says blackhole is for it (`ip route get` shows it)",
    errno.ENETDOWN: "the interface that it would leave by is down",
}


@dataclass
class OuterSockets:
    """Those of one local address. Datagrams arrive at `receivers` only: one, or one for each worker.

    `port` is 0 under IP protocol 50.
    """

    local: Address
    port: int
    receivers: tuple[socket.socket, ...]
    other: socket.socket
    receive_df: bool = True  # what `receivers` send with; `other` sends with the opposite

    @property
    def receive(self) -> socket.socket:
        """The first worker's."""
        return self.receivers[0]

    def close(self) -> None:
        """Closes all, the first one last: none arrives at the others meanwhile."""
        for each in (self.other, *reversed(self.receivers)):
            each.close()


def set_buffers(target: socket.socket, octets: int) -> None:
    """Asks for buffers beyond the host's limit, and without the privilege for those within it."""
    pairs = ((SO_RCVBUFFORCE, socket.SO_RCVBUF), (SO_SNDBUFFORCE, socket.SO_SNDBUF))
    for force, plain in pairs:
        try:
            target.setsockopt(socket.SOL_SOCKET, force, octets)
        except PermissionError:
            target.setsockopt(socket.SOL_SOCKET, plain, octets)


def buffers(of: Iterable[socket.socket]) -> tuple[int, int] | None:
    """Octets of the smallest receive and the smallest send buffer, as they are asked for: the kernel counts twice that. None: there
    is no socket."""
    granted = [[each.getsockopt(socket.SOL_SOCKET, option) // 2 for option in (socket.SO_RCVBUF, socket.SO_SNDBUF)] for each in of]
    if not granted:
        return None
    receive, send = zip(*granted, strict=True)
    return min(receive), min(send)


def _make(local: Address, kind: int, protocol: int, *, df: bool, buffer: int) -> socket.socket:
    family = socket.AF_INET if local.version == 4 else socket.AF_INET6
    made = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, SO_MARK, MARK)
        for level, option, value in (UDP_OPTIONS if kind == socket.SOCK_DGRAM else RAW_OPTIONS)[local.version]:
            made.setsockopt(level, option, value)
        made.setsockopt(*MTU_DISCOVER[local.version], PMTUDISC_PROBE if df else FRAGMENTING[local.version])
        if local.version == 6 and not df:
            made.setsockopt(*FRAGMENT_OCTETS, IPV6_MTU_MIN)
        set_buffers(made, buffer)
    except BaseException:
        made.close()
        raise
    return made


def _name(local: Address, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    """The address to bind to; a link-local one needs its interface's index."""
    zone = getattr(local, "scope_id", None)
    if not zone:
        return str(local), port
    index = int(zone) if zone.isdecimal() else socket.if_nametoindex(zone)
    return str(local).partition("%")[0], port, 0, index


def refused(what: str, error: OSError) -> HostError:
    """What could not be opened, and why."""
    return HostError(f"{what}: {REASONS.get(error.errno or 0, error.strerror)}")


def _must_be_free(local: Address, port: int) -> None:
    """Sockets that share a port by SO_REUSEPORT would share it with another gateway's too: this one does not, and finds out."""
    family = socket.AF_INET if local.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
        if local.version == 6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        probe.bind(_name(local, port))


def _sockets(what: str, make: Callable[[list[socket.socket], Steering], OuterSockets], steering: Steering) -> OuterSockets:
    """What `make` opens into a list, for all workers, or for one where the kernel does not share by our program. HostError."""
    for shared in dict.fromkeys((steering, steer.ALONE)):
        made: list[socket.socket] = []
        try:
            return make(made, shared)
        except steer.RefusedError as error:
            _close(made)
            if shared == steer.ALONE:
                raise refused(what, error) from error
            log.warning(
                "%s: one worker receives for all: the kernel does not take the program that shares: %s",
                what,
                error,
                extra=told("receivers_unshared"),
            )
        except OSError as error:
            _close(made)
            raise refused(what, error) from error
    raise AssertionError("the last try returns or raises")


def udp_pair(
    local: Address, port: int = NAT_PORT, *, buffer: int = BUFFER_OCTETS, steering: Steering = steer.ALONE
) -> OuterSockets:
    """The UDP sockets of one address, non-blocking, in the network namespace of the calling thread.

    `buffer` is the size of each socket's buffers in octets. `steering` says how many receive, and which gets what; IKE and
    keepalives come to the first. HostError: the port is taken, the address is not ours, not permitted.
    """

    def make(made: list[socket.socket], shared: Steering) -> OuterSockets:
        _must_be_free(local, port)
        for df in (*[True] * shared.workers, False):
            made.append(_make(local, socket.SOCK_DGRAM, socket.IPPROTO_UDP, df=df, buffer=buffer))
            made[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        # The kernel asks this program which socket of the group gets a datagram: a number in the order in which they were bound.
        # It is there before the second one joins, so none is lost to a socket that nobody reads.
        steer.attach(made[0], steer.SO_ATTACH_REUSEPORT_CBPF, shared.datagrams())
        for each in made:
            each.bind(_name(local, port))
        return OuterSockets(local, port, tuple(made[:-1]), made[-1])

    return _sockets(f"UDP port {port} of {local}", make, steering)


def esp_pair(local: Address, *, buffer: int = BUFFER_OCTETS, steering: Steering = steer.ALONE) -> OuterSockets:
    """The raw sockets of one address for IP protocol 50, non-blocking. An IPv4 one receives with the IP header, an IPv6 one not.

    The kernel gives a copy of each packet to every such socket of our address; the sending one refuses all, and has a peer that
    sends none, and each of several workers' refuses all but its share. HostError as for `udp_pair`.
    """

    def make(made: list[socket.socket], shared: Steering) -> OuterSockets:
        dfs = (*[True] * shared.workers, False)
        made += (_make(local, socket.SOCK_RAW, PROTOCOL_ESP, df=df, buffer=buffer) for df in dfs)
        steer.attach(made[-1], steer.SO_ATTACH_FILTER, steer.REFUSE)
        for worker in range(shared.workers if shared.workers > 1 else 0):
            steer.attach(made[worker], steer.SO_ATTACH_FILTER, shared.packets(local.version, worker))
        for each in made:
            each.bind(_name(local, 0))
        # From itself nothing comes: the kernel need not copy each packet for a filter that refuses it. Sending names its own peer.
        with contextlib.suppress(OSError):
            made[-1].connect(_name(local, 0))
        return OuterSockets(local, 0, tuple(made[:-1]), made[-1])

    return _sockets(f"IP protocol 50 of {local}", make, steering)


def ike_socket(local: Address, port: int = IKE_PORT, *, buffer: int = BUFFER_OCTETS) -> socket.socket:
    """The UDP socket for IKE without encapsulation, non-blocking, not shared. HostError as for `udp_pair`.

    DF clear: an IKE message may be larger than the path takes, and RFC 7383 fragments are the peer's choice too.
    """
    made: list[socket.socket] = []
    try:
        made.append(_make(local, socket.SOCK_DGRAM, socket.IPPROTO_UDP, df=False, buffer=buffer))
        made[0].bind(_name(local, port))
    except OSError as error:
        _close(made)
        raise refused(f"UDP port {port} of {local}", error) from error
    return made[0]


def no_esp() -> str | None:
    """Why this process can have no socket of IP protocol 50; None: it can, as far as the kernel says."""
    try:
        socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, PROTOCOL_ESP).close()
    except PermissionError:
        return "IP protocol 50 is not permitted here: it takes CAP_NET_RAW, which some containers do not give (--cap-add NET_RAW)"
    except OSError:  # as of that address family
        return None
    return None


def trouble(made: Iterable[socket.socket]) -> str | None:
    """What keeps these from doing their work, if anything does: all of them closed, the mark lost, an interface that is gone."""
    checked = 0
    for each in made:
        checked += 1
        try:
            if each.getsockopt(socket.SOL_SOCKET, SO_MARK) != MARK:
                return "lost its mark, without which its packets enter the tunnel"
            name = each.getsockname()
            scope = name[3] if len(name) > 3 else 0
            if scope:
                socket.if_indextoname(scope)
        except OSError as error:
            return f"works no longer: {error.strerror or error}"
    return None if checked else "is closed"


@contextlib.contextmanager
def unfragmented(target: socket.socket, version: int) -> Iterator[None]:
    """What an IKE socket sends meanwhile is not fragmented, here or on the way."""
    target.setsockopt(*MTU_DISCOVER[version], PMTUDISC_PROBE)
    if version == 6:
        target.setsockopt(*FRAGMENT_OCTETS, 0)
    try:
        yield
    finally:
        target.setsockopt(*MTU_DISCOVER[version], FRAGMENTING[version])
        if version == 6:
            target.setsockopt(*FRAGMENT_OCTETS, IPV6_MTU_MIN)


def refusal(code: int) -> str | None:
    """Why this host does not let a datagram leave, by the errno; None: only for the moment, or because of its length."""
    if code in _PASSING:
        return None
    return f"{errno.errorcode.get(code, str(code))}: {_REFUSALS.get(code, os.strerror(code))}"


def _close(sockets: list[socket.socket]) -> None:
    for each in sockets:
        each.close()
