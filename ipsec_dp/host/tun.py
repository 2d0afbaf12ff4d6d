"""TUN interfaces: made, addressed and brought up; their descriptors handed to the data plane.

The device lives as long as a descriptor of it is open: when the process dies, however it dies, interface, addresses and its routes
are gone (what then holds traffic back is the guard). Settings are written only for the interface that was made here.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from array import array
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytun

from ipsec_dp.host import INTERFACE_NAME, HostError
from ipsec_dp.host.netlink import ask
from ipsec_dp.util.opening import helped_to_use

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pyroute2 import AsyncIPRoute

Interface = IPv4Interface | IPv6Interface

DEVICE = Path("/dev/net/tun")
TUNSETIFF, TUNGETIFF, TUNSETCARRIER = 0x400454CA, 0x800454D2, 0x400454E2  # <linux/if_tun.h>
SIOCGIFFLAGS, SIOCGIFMTU, SIOCETHTOOL = 0x8913, 0x8921, 0x8946  # <linux/sockios.h>
ETHTOOL_GLINK = 0xA  # <linux/ethtool.h>
IFREQ_OCTETS, IFNAMSIZ = 40, 16
IFF_UP, IFF_RUNNING = 0x1, 0x40
QUEUE_PACKETS = 4096  # the default of 500 drops the tail of one burst; more than this only adds delay
QUEUES_MAX = 64
MTU_MIN, MTU_MAX = 576, 65535

# Per interface. No IPv6 address of the kernel's own making, no duplicate address detection, no solicitations, no membership in the
# group of all routers and no report of having left it (version 1 of MLD keeps no list of those): nothing of that may enter the
# tunnel. Whether IPv6 is forwarded is decided for the host as a whole.
SETTINGS = (
    ("ipv6", "addr_gen_mode", "1"),
    ("ipv6", "accept_ra", "0"),
    ("ipv6", "autoconf", "0"),
    ("ipv6", "accept_dad", "0"),
    ("ipv6", "router_solicitations", "0"),
    ("ipv6", "force_mld_version", "1"),
    ("ipv6", "forwarding", "0"),
    # Without a carrier no route leads here: what the next best one says, or the guard's, holds.
    ("ipv4", "ignore_routes_with_linkdown", "1"),
    ("ipv6", "ignore_routes_with_linkdown", "1"),
)

AS_GOOD = {"accept_dad": "-1"}  # what the kernel gives an interface without link layer addresses

NO_DEVICE = "load the module (modprobe tun) or give the container the device (--device /dev/net/tun)"
REASONS = {
    errno.ENOENT: f"/dev/net/tun is not there: {NO_DEVICE}",
    errno.ENODEV: f"the kernel has no TUN driver behind /dev/net/tun: {NO_DEVICE}",
    errno.EPERM: "not permitted: making an interface takes CAP_NET_ADMIN (run as root)",
    errno.EACCES: "not permitted: /dev/net/tun cannot be opened (run as root, or give it mode 0666 as udev does)",
    errno.EBUSY: "an interface of this name exists already: stop what uses it or choose another name",
    errno.EEXIST: "an interface of this name exists already: stop what uses it or choose another name",
    errno.EINVAL: "the kernel does not take these flags, or an interface of another kind has this name",
}


class Fault(Enum):
    """What others do to an interface of ours: what it is like then, who usually does that."""

    DELETED = "was deleted, as `ip link delete` or a network manager that tidies up does"
    MOVED = "was moved into another network namespace, as `ip link set … netns` or a container's start does"
    FAILED = "cannot be read any more: {}"
    RENAMED = "was renamed to {}, as `ip link set … name` or a rule of udev's does"
    DOWN = "was set down, as `ip link set … down`, ifdown or a network manager does"
    RESIZED = "was given an MTU of {}, as `ip link set … mtu` or a network manager does"
    CARRIER = "had its carrier set {}, as `ip link set … carrier` does"
    UNSET = "has {} now, as `sysctl -w` or a network manager sets"
    UNADDRESSED = "lost {}, as `ip address flush` or a network manager that tidies up does"

    @property
    def gone(self) -> bool:
        """Whether only another device helps."""
        return self in (Fault.DELETED, Fault.MOVED, Fault.FAILED)


class Trouble(NamedTuple):
    """A fault, and what belongs to it: the other name, the MTU in octets, the carrier, the addresses, the error."""

    fault: Fault
    detail: str = ""

    def __str__(self) -> str:
        return self.fault.value.format(self.detail)


@dataclass
class Tun:
    """One TUN interface. `descriptors` (one for each queue, close-on-exec) belong to it and close with it."""

    name: str
    index: int
    vnet_header: bool
    descriptors: list[int] = field(default_factory=list)
    reader: int = 0  # the worker that reads for all, where there is one queue
    alias: str = ""  # what a person reads at the interface, and `check`: whose it is
    carrier: bool = True  # as we set it
    unset: list[str] = field(default_factory=list)  # what this host does not let us set and is otherwise: "setting: reason"
    written: list[tuple[str, str]] = field(default_factory=list)  # those that it did, as family and name
    configured: bool = False  # `configure` has had all that it asked of the link, since this process has it

    def vanished(self) -> bool:
        """Whether the device was taken away under us (`ip link delete`, or its namespace went)."""
        request = bytearray(IFREQ_OCTETS)
        try:
            fcntl.ioctl(self.descriptors[0], TUNGETIFF, request)
        except OSError as error:
            if error.errno in (errno.EBADFD, errno.EBADF):
                return True
            raise
        return False

    def trouble(self, mtu: int, asking: socket.socket) -> Trouble | None:
        """What somebody made of the device, beside its addresses. `mtu` it was given; `asking` is any socket of its namespace."""
        request = struct.pack("16s24x", self.name.encode())
        if self.vanished():
            return Trouble(Fault.DELETED)
        try:
            name = socket.if_indextoname(self.index)
            if name != self._own_name():  # another device has this number in our namespace
                return Trouble(Fault.MOVED)
            if name != self.name:
                return Trouble(Fault.RENAMED, name)
            (flags,) = struct.unpack_from("=H", fcntl.ioctl(asking, SIOCGIFFLAGS, request), IFNAMSIZ)
            (now,) = struct.unpack_from("=i", fcntl.ioctl(asking, SIOCGIFMTU, request), IFNAMSIZ)
            # The flag may be late, but is the same where nothing is wrong, and costs nobody the kernel's one lock.
            carrier = self.carrier if bool(flags & IFF_RUNNING) == self.carrier else _has_carrier(asking, self.name)
        except OSError:
            return Trouble(Fault.MOVED)
        if not flags & IFF_UP:
            return Trouble(Fault.DOWN)
        if now != mtu:
            return Trouble(Fault.RESIZED, str(now))
        if carrier != self.carrier:
            return Trouble(Fault.CARRIER, "on" if carrier else "off")
        changed = ", ".join(self._changed_settings())
        return Trouble(Fault.UNSET, changed) if changed else None

    def _changed_settings(self) -> Iterator[str]:
        """What somebody else wrote since, as sysctl names it."""
        wanted = {(family, setting): value for family, setting, value in _settings()}
        for family, setting in self.written:
            try:
                now = _setting(family, self.name, setting).read_text().strip()
            except OSError:
                continue
            if now != wanted[family, setting]:
                yield f"net.{family}.conf.{self.name}.{setting} = {now}"

    def _own_name(self) -> str:
        """As its descriptor has it, wherever the device is. OSError."""
        request = bytearray(IFREQ_OCTETS)
        fcntl.ioctl(self.descriptors[0], TUNGETIFF, request)
        return request[:IFNAMSIZ].split(b"\0")[0].decode(errors="replace")

    def set_carrier(self, on: bool) -> None:
        """Whether the interface shows a carrier; a new one does. HostError: the kernel is older than 5.0, or the device is gone."""
        try:
            fcntl.ioctl(self.descriptors[0], TUNSETCARRIER, struct.pack("i", on))
        except OSError as error:
            raise HostError(f"interface {self.name}: its carrier stays as it was: {error.strerror}") from error
        self.carrier = on

    def close(self) -> None:
        """Closes the descriptors; the interface goes when no duplicate of them is open either."""
        while self.descriptors:
            os.close(self.descriptors.pop())


def _has_carrier(asking: socket.socket, name: str) -> bool:
    """Of an interface in the socket's namespace. OSError."""
    value = array("I", (ETHTOOL_GLINK, 0))
    fcntl.ioctl(asking, SIOCETHTOOL, struct.pack("16sP16x", name.encode(), value.buffer_info()[0]))
    return bool(value[1])


def _queue(name: str, flags: int) -> int:
    """One descriptor of the device. pytun's own lacks close-on-exec and closes with its object, so it is duplicated."""
    try:
        device = pytun.TunTapDevice(name=name, flags=flags)
    except OSError as error:
        if error.errno == errno.EACCES:
            return _helped_queue(name, flags, error)
        raise _refused(name, error) from error
    try:
        return fcntl.fcntl(device.fileno(), fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        device.close()


def _helped_queue(name: str, flags: int, refused: OSError) -> int:
    """As `_queue`, of a device that only root may open: whoever helps to open it. pytun takes no descriptor."""
    try:
        opened = helped_to_use(DEVICE, refused)
        try:
            fcntl.ioctl(opened, TUNSETIFF, struct.pack(f"16sH{IFREQ_OCTETS - 18}x", name.encode(), flags))
        except OSError:
            os.close(opened)
            raise
    except OSError as error:
        raise _refused(name, error) from error
    return opened


def _refused(name: str, error: OSError) -> HostError:
    return HostError(f"interface {name}: {REASONS.get(error.errno or 0, error.strerror or error)}")


def make(name: str, *, queues: int = 1, vnet_header: bool = True) -> Tun:
    """Makes a TUN interface that must not exist yet, down and without addresses, in the network namespace of the calling thread.

    `queues` 1..64: one descriptor each. `vnet_header`: packets carry a virtio header, which offloads need. HostError says why not.
    """
    if not INTERFACE_NAME.fullmatch(name):
        raise ValueError(f'{name!r} is not the name of an interface: 1 to 15 octets without blanks and any of / : % * " \\')
    if not 1 <= queues <= QUEUES_MAX:
        raise ValueError(f"{queues} queues: 1 to {QUEUES_MAX}")
    flags = pytun.IFF_TUN | pytun.IFF_NO_PI
    flags |= pytun.IFF_VNET_HDR if vnet_header else 0
    flags |= pytun.IFF_MULTI_QUEUE if queues > 1 else 0
    tun = Tun(name, 0, vnet_header)
    try:
        for queue in range(queues):
            tun.descriptors.append(_queue(name, flags | (pytun.IFF_TUN_EXCL if queue == 0 else 0)))
        tun.index = socket.if_nametoindex(name)
    except BaseException:
        tun.close()
        raise
    return tun


def _reverse_path_filter() -> str:
    """Off, or loose where the host is strict: the kernel takes the larger of an interface's value and that for all.

    What comes out of the tunnel has passed the SA's selectors, and the route back may lead elsewhere. Even a loose filter drops
    such packets on an interface without an IPv4 address, so it is not set where it need not be.
    """
    return "2" if Path("/proc/sys/net/ipv4/conf/all/rp_filter").read_text().strip() == "1" else "0"


def has_ipv6(name: str) -> bool:
    """Whether an interface may have IPv6 addresses and routes: the host may have none, or have it disabled by sysctl."""
    try:
        return Path("/proc/sys/net/ipv6/conf", name, "disable_ipv6").read_text().strip() == "0"
    except OSError:
        return False


def _settings() -> Iterable[tuple[str, str, str]]:
    """Family, name and value of each, as they should be now."""
    return ("ipv4", "rp_filter", _reverse_path_filter()), *SETTINGS


def _setting(family: str, interface: str, name: str) -> Path:
    return Path("/proc/sys/net", family, "conf", interface, name)


def _write_settings(tun: Tun) -> None:
    tun.written.clear()
    for family, setting, value in _settings():
        path = _setting(family, tun.name, setting)
        try:
            path.write_text(value)
        except FileNotFoundError:
            continue  # a kernel without IPv6
        except OSError as error:  # a read-only /proc/sys in a container
            if path.read_text().strip() not in (value, AS_GOOD.get(setting)):
                tun.unset.append(f"net.{family}.conf.{tun.name}.{setting}: {error.strerror}")
        else:
            tun.written.append((family, setting))


async def configure(ipr: AsyncIPRoute, tun: Tun, addresses: Sequence[Interface | str], mtu: int) -> set[Interface]:
    """Sets MTU, queue length and addresses ("169.254.10.1/30", "fd00::1/64") and brings the interface up; the addresses it has now.

    `mtu` 576..65535 octets of inner packet. What could not be set is in `tun.unset`, an IPv6 address where IPv6 is disabled too.
    The kernel is not asked for what it has: it reports each request as a change of the link, which has all routes looked at.
    HostError names the address or value that the kernel refused.
    """
    if not MTU_MIN <= mtu <= MTU_MAX:
        raise ValueError(f"an MTU of {mtu} octets: {MTU_MIN} to {MTU_MAX}")
    tun.unset.clear()
    done: set[Interface] = set()
    _write_settings(tun)
    present, tun.configured = tun.configured and _as_left(tun, mtu), False
    if not present:
        what = f"interface {tun.name}: MTU {mtu}"
        await ask(what, ipr.link("set", index=tun.index, mtu=mtu, txqlen=QUEUE_PACKETS, ifalias=tun.alias))
    for each in addresses:
        address = ip_interface(each)
        if address.version == 6 and not has_ipv6(tun.name):
            tun.unset.append(f"address {address}: IPv6 is disabled by sysctl")
            continue
        what = f"interface {tun.name}: address {address}"
        request = ipr.addr("add", index=tun.index, address=str(address.ip), prefixlen=address.network.prefixlen)
        await ask(what, request, done=(errno.EEXIST,))
        done.add(address)
    if not present:
        await ask(f"interface {tun.name}: up", ipr.link("set", index=tun.index, state="up"))
    tun.configured = True
    return done


def _as_left(tun: Tun, mtu: int) -> bool:
    """Whether it is up with this MTU, and nobody has touched it, as far as that shows."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asking:
        return tun.trouble(mtu, asking) is None


def alias_of(gateway: str) -> str:
    """Of the interfaces of a gateway."""
    return f"ipsec-dp {gateway}"


async def rename(ipr: AsyncIPRoute, tun: Tun) -> None:
    """Gives an interface that was renamed its own name again. HostError: another one has it."""
    what = f"interface {tun.name}: renaming it back"
    try:
        await ask(what, ipr.link("set", index=tun.index, ifname=tun.name))
    except HostError:  # before Linux 6.2 only while it is down
        await ask(what, ipr.link("set", index=tun.index, state="down"))
        await ask(what, ipr.link("set", index=tun.index, ifname=tun.name))


async def remove_addresses(ipr: AsyncIPRoute, tun: Tun, addresses: Iterable[Interface]) -> None:
    """Takes addresses off an interface, if it has them."""
    for address in addresses:
        request = ipr.addr("delete", index=tun.index, address=str(address.ip), prefixlen=address.network.prefixlen)
        await ask(f"interface {tun.name}: address {address}", request, done=(errno.EADDRNOTAVAIL,))


async def set_mtu(ipr: AsyncIPRoute, tun: Tun, mtu: int) -> None:
    """Changes the MTU of a running interface, 576..65535 octets."""
    if not MTU_MIN <= mtu <= MTU_MAX:
        raise ValueError(f"an MTU of {mtu} octets: {MTU_MIN} to {MTU_MAX}")
    await ask(f"interface {tun.name}: MTU {mtu}", ipr.link("set", index=tun.index, mtu=mtu))
