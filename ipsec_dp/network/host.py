"""The host as a gateway needs it: one interface, implemented by this machine's kernel (`linux_host`) or a double in memory.

The order of calls: `close_guard` before all else → `interfaces.make`, `interfaces.set_mtus` → `outer_links` → `start_workers` →
`routing.start` → … → what the gateway's exit stack undoes → `open_guard` after all else → `close`. Whatever fails raises HostError.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from ipsec_dp.network.peer_routes import LinkSource

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from contextlib import AsyncExitStack

    from ipsec_dp.config import Config, Tunnel
    from ipsec_dp.databases.spd import Spd
    from ipsec_dp.dataplane import DataPlane, Encapsulation, Endpoint
    from ipsec_dp.host.conntrack import NatFlow
    from ipsec_dp.host.echo import Echo
    from ipsec_dp.host.filters import Filter
    from ipsec_dp.host.nflog import Line
    from ipsec_dp.host.too_big import TooBig
    from ipsec_dp.host.tun import Trouble
    from ipsec_dp.host.unreachable import Unreachable
    from ipsec_dp.ipsec.addresses import Address
    from ipsec_dp.network.peer_routes import PeerRoutes
    from ipsec_dp.network.remains import Remains
    from ipsec_dp.util.conditions import Conditions


class HostGuard(Protocol):
    """What keeps protected traffic from leaving or coming in clear, and what may pass between zones."""

    async def widen(self, config: Config) -> None:
        """Keeps closed what the present configuration keeps closed, and what `config` does, whose interfaces may be used too."""

    async def narrow(self) -> None:
        """Keeps closed what the present configuration does, and nothing else."""

    async def settle(self) -> None:
        """Keeps closed what the configuration says that the guard was widened for, and nothing else."""

    async def apply_zones(self, config: Config) -> None:
        """Lets pass between zones what `config` allows, and nothing else."""

    async def counts(self) -> dict[str, int]:
        """Packets that the guard dropped, by counter."""

    async def host_filter(self) -> Filter:
        """The packet filter of the host beside it; what is ours is left out. Raises HostError."""

    async def zone_counts(self) -> dict[str, Any] | None:
        """Of `status`: packets dropped because no rule allowed them, and what each rule matched; None without zones."""


class HostInterfaces(Protocol):
    """The TUN interfaces, their addresses, MTUs and carriers."""

    async def make(self, stack: AsyncExitStack, plane: DataPlane, spd: Spd) -> None:
        """Makes every interface and attaches it to the data plane, down until `set_mtus`; the stack takes all of them away."""

    async def set_mtus(self, mtus: Mapping[str, int]) -> None:
        """Addresses every interface, gives it the largest MTU of its tunnels (octets, by tunnel) and brings it up."""

    def mtu_of(self, tunnel: str) -> int:
        """The largest packet that a tunnel gets from the host, in octets."""

    def set_carrier(self, interface: str, on: bool) -> None:
        """Whether an interface shows a carrier."""

    @property
    def indices(self) -> dict[str, int]:
        """The kernel's number of each interface that there is, by name."""

    async def troubles(self, names: Iterable[str] | None = None) -> dict[str, Trouble]:
        """The interfaces (of these, or all) that somebody took away or changed, and what is wrong with them."""

    async def restore(self, interface: str, trouble: Trouble) -> None:
        """Makes it what it was. HostError: something stands in the way; what cannot be made stays away, and nothing is opened."""


class HostRouting(Protocol):
    """The routes into the tunnel interfaces, and what bypasses them."""

    @property
    def notes(self) -> list[str]:
        """What a person should know about routes now."""

    async def start(self, stack: AsyncExitStack) -> None:
        """Routes every prefix of the configuration into its interface; unreachable again when the stack is left."""

    async def apply(self, *, known: bool = False) -> None:
        """Routes what the configuration says, as the host is now. `known`: what the last call made is taken to be there still.

        What stands in the way is in `notes`, and in the log when it is new.
        """

    async def withdraw(self, interfaces: frozenset[str]) -> None:
        """Removes our routes into these interfaces, and restores those into others; what is protected stays unreachable.

        A route stays where no other of ours takes over: the answers that say that the tunnel is back go by it.
        """

    async def probe_source(self, tunnel: Tunnel, target: Address) -> Address | None:
        """Our address from which a tunnel carries echo requests to `target`: its interface's own, else another of this host."""


class OuterLinks(LinkSource, Protocol):
    """The outer sockets: opened at their first use, shared by all tunnels of a local address."""

    def unavailable(self, encapsulation: Encapsulation) -> str | None:
        """Why this host permits no link of that kind, in words; None: it does."""

    def listen_ike(self, local: Address, received: Callable[[bytes, Endpoint, Endpoint], None]) -> None:
        """Opens ports 500 and 4500 of an address, once.

        `received` gets each message that comes to port 500 and passes the data plane's gate, with its local and remote end; those
        that come to port 4500 are events of the data plane.
        """

    def send_ike(self, local: Address, remote: Endpoint, message: bytes, *, natt: bool, whole: bool = False) -> str | None:
        """Sends an IKE message from port 500, or with `natt` behind the non-ESP marker from port 4500; `whole`: with the DF bit.

        A datagram that the host refuses is lost, as one that the network loses; it is repeated. Why it refuses, in words; None: it
        does not, or for the moment, or because of what this one is.
        """

    def send_keepalive(self, local: Address, remote: Endpoint) -> None:
        """One octet that keeps a NAT's mapping (RFC 3948 §2.3)."""

    def reconfigure(self, config: Config) -> None:
        """The sockets' buffers are as large as this says, as far as the host permits."""

    @property
    def buffers(self) -> tuple[int, int] | None:
        """Octets of the smallest receive and the smallest send buffer that the host gave. None: no socket is open."""

    def broken(self) -> dict[str, str]:
        """The sockets that cannot do their work any more, and why, by what they are."""

    def reopen(self, what: str) -> None:
        """Opens one that is broken anew, in its place. Raises HostError; it stays broken then."""

    def close(self) -> None:
        """Closes all of them."""


class Closable(Protocol):
    """Something that was opened."""

    def close(self) -> None:
        """It ends."""


class EchoProbes(Protocol):
    """Echo requests put straight into tunnel interfaces, past routes and packet filter."""

    @property
    def identifier(self) -> int:
        """Of the requests, 16 bits."""

    def listen(self, interface: str, version: int) -> None:
        """Opens what `send` needs for an IP version, and listens there."""

    def reopen(self, interface: str) -> None:
        """An interface was made anew: what listened at the former one listens at this. Raises HostError."""

    def keep(self, interfaces: set[str]) -> None:
        """Closes what listens at other interfaces than these."""

    def send(self, interface: str, echo: Echo) -> None:
        """Asks once. A packet that the interface does not take is lost, as one that the network loses."""


class HostReports(Protocol):
    """What the kernel reports to whoever listens; each until what is returned is closed."""

    def network_changes(self, changed: Callable[[], None]) -> Closable:
        """Links, addresses or routes of the host changed."""

    def interface_changes(self, changed: Callable[[set[int] | None], None]) -> Closable:
        """Links or addresses of interfaces with these numbers changed, at once; None: reports were lost, so it may be any."""

    def machine_clones(self, cloned: Callable[[], None]) -> Closable:
        """This virtual machine is a copy of another, or was restored."""

    def zone_log(self, group: int, logged: Callable[[Line], None]) -> Closable:
        """Lines that zone rules log to this group."""

    def packets_too_big(self, reported: Callable[[TooBig], None]) -> Closable:
        """ICMP messages that an outer packet was too big. They may be forged."""

    def unreachable(self, reported: Callable[[Unreachable], None]) -> Closable:
        """ICMP messages that an IKE message did not reach its peer. They may be forged."""

    def hear_too_big(self, remote: Address, local: Address | None = None) -> Closable:
        """The kernel itself learns that bare ESP from `local` to this IPv6 peer was too big, and fragments it."""

    def echoes(self, identifier: int, answered: Callable[[Echo], None]) -> EchoProbes:
        """Replies with this identifier that come out of tunnel interfaces; `keep(set())` ends them."""


class HostFlows(Protocol):
    """Connections that the kernel tracks and whose source it translates."""

    async def translated(self) -> list[NatFlow]:
        """Those that there are, `conntrack.READ_MOST` of an IP version at the most; none where that cannot be asked."""

    async def delete(self, flows: Sequence[NatFlow]) -> list[NatFlow]:
        """Forgets these; those that were still there. Their next packets begin anew."""


class Host(Protocol):
    """All that a gateway needs of the machine on which it runs."""

    changing: asyncio.Lock  # held by whoever makes the host as a configuration, or as its own changes, want it

    @property
    def guard(self) -> HostGuard: ...

    @property
    def interfaces(self) -> HostInterfaces: ...

    @property
    def routing(self) -> HostRouting: ...

    @property
    def peers(self) -> PeerRoutes:
        """The way to the peers; from `close_guard` to `close`."""

    @property
    def reports(self) -> HostReports: ...

    @property
    def flows(self) -> HostFlows: ...

    @property
    def conditions(self) -> Conditions:
        """What is wrong with the host at the moment; of `status`, its warnings."""

    async def close_guard(self) -> None:
        """Lets nothing protected past the tunnels from now on; adopts what a killed process left.

        Raises RunningError, with nothing touched, when a gateway of this name still runs here; HostError when not all of it could
        be closed: what could be is, and `remains` tells.
        """

    async def close_for(self, config: Config) -> None:
        """As `close_guard`, for another configuration and when nothing leads into the tunnels any more."""

    async def remains(self) -> Remains:
        """What keeps protected traffic back now, as the kernel has it."""

    async def open_guard(self) -> None:
        """Takes the guard and every route of ours away."""

    @property
    def restored(self) -> Mapping[str, int]:
        """How often each part of what others may not touch (guard, zones, rules, routes) was gone and made again."""

    async def verify(self) -> None:
        """Compares guard, zones, rules and routes with the kernel, and makes what is missing.

        They are kept from `close_guard` to `open_guard` without being asked, too. HostError: something cannot be made.
        """

    async def close(self) -> None:
        """Ends all dealings with the host; the guard stays as it is."""

    def outer_links(self, plane: DataPlane) -> OuterLinks:
        """The outer sockets of a data plane."""

    def start_workers(self, plane: DataPlane) -> None:
        """Has the data plane's loops run, until its `stop`."""

    async def reconfigure(self, config: Config, mtus: Mapping[str, int]) -> None:
        """Interfaces and their addresses as another configuration wants them; none goes before `remove_unused_interfaces`.

        `mtus`: of tunnels that are new or changed, in octets by name. Guard, zones and routes follow by their own methods.
        """

    def remove_unused_interfaces(self) -> list[str]:
        """Takes away the interfaces that no tunnel has any more, and that the guard exempts no longer; their names."""

    async def apply_mtus(self, mtus: Mapping[str, int]) -> None:
        """Gives interfaces and routes the MTUs of their tunnels (octets, by tunnel)."""

    async def renew(self) -> None:
        """The host's addresses and routes are others now: guard and routes become what they then should be."""
