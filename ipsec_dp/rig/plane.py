"""Bare data planes in memory: TUN devices and outer link of each are queues, and a wire joins two of them.

    with pair("aes256gcm16-esn", encapsulation=Encapsulation.UDP) as site:
        site.wire.drop("a", "b", 3)
        arrived = site.transfer([udp("10.1.0.1", "10.2.0.1", b"hello")])

No root, no sockets, no threads, no real time: the steps are those that the threads run. Site a protects 10.1.0.0/16 and
2001:db8:1::/48, site b 10.2.0.0/16 and 2001:db8:2::/48. The keys are derived from `seed` and protect nothing.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
from typing import TYPE_CHECKING, Any, Self

from ipsec_dp.databases.sad import Sad
from ipsec_dp.dataplane import (
    GROWTH,
    NO_LIMITS,
    Action,
    Batch,
    Channel,
    DataPlane,
    Direction,
    Encapsulation,
    Endpoint,
    Limits,
    MemoryDatagram,
    OuterPath,
    Policy,
    PolicyRule,
    SaParams,
)
from ipsec_dp.ipsec.addresses import AddressRange
from ipsec_dp.ipsec.selectors import SelectorPair
from ipsec_dp.ipsec.suites import Suite, parse_suite
from ipsec_dp.rig.clock import Clock
from ipsec_dp.rig.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ipsec_dp.databases.sad_events import Event
    from ipsec_dp.databases.sad_records import ChildSa
    from ipsec_dp.dataplane import SaHandle

NAT_T_PORT = 4500  # RFC 3948
INNER = {"a": ("10.1.0.0/16", "2001:db8:1::/48"), "b": ("10.2.0.0/16", "2001:db8:2::/48")}
OUTER = {4: {"a": "192.0.2.1", "b": "192.0.2.2"}, 6: {"a": "2001:db8:f::1", "b": "2001:db8:f::2"}}


def selector(local: str, remote: str, **bounds: Any) -> SelectorPair:
    """A selector pair of two prefixes; `bounds`: protocol, local_ports, remote_ports as `Range`."""
    return SelectorPair(AddressRange.of(ipaddress.ip_network(local)), AddressRange.of(ipaddress.ip_network(remote)), **bounds)


def selectors_of(site: str) -> tuple[SelectorPair, ...]:
    """What site "a" or "b" protects, IPv4 first, seen from itself."""
    other = "b" if site == "a" else "a"
    return tuple(selector(local, remote) for local, remote in zip(INNER[site], INNER[other], strict=True))


def keymat(suite: Suite, seed: str) -> bytearray:
    """Keying material of the right length that is the same each time."""
    return bytearray(hashlib.shake_256(seed.encode()).digest(suite.keymat_octets))


class PlaneRig:
    """A data plane on memory doubles: `plane` and `sad` to use directly, `clock` for its time.

    Interfaces 0..interfaces-1 are TUN doubles, `link` is the one outer link, at `endpoint`. `options` go to `DataPlane`. Close it,
    or use `with`.
    """

    def __init__(
        self,
        name: str,
        address: str,
        *,
        clock: Clock | None = None,
        encapsulation: Encapsulation = Encapsulation.UDP,
        interfaces: int = 1,
        queue: int = 4096,
        **options: Any,
    ) -> None:
        self.name = name
        self.clock = clock or Clock()
        self.encapsulation = encapsulation
        self.endpoint = Endpoint(ipaddress.ip_address(address), NAT_T_PORT if encapsulation is Encapsulation.UDP else 0)
        small = {"sa_slots": 256, "tunnels": 16, "interfaces": max(interfaces, 2)}
        self.plane = DataPlane(**{**small, **options})
        self.sad = Sad(self.plane, self.clock, os.urandom)
        for interface in range(interfaces):
            self.plane.attach_memory_tun(interface, queue)
        self.link = self.plane.attach_memory_link(encapsulation, self.endpoint, queue)

    def close(self) -> None:
        self.plane.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- policy and SAs

    def set_policy(self, rules: Iterable[PolicyRule]) -> None:
        """These rules decide from now on, in this order."""
        self.plane.install_policy(Policy(tuple(rules)))

    def protect(self, selectors: Iterable[SelectorPair], *, tunnel: int = 0, interface: int = 0) -> None:
        """The policy: only this, into one tunnel."""
        self.set_policy(PolicyRule(pair, Action.PROTECT, interface, tunnel) for pair in selectors)

    def path_to(self, peer: Endpoint, **settings: Any) -> OuterPath:
        """The path from here to `peer`; `settings`: df, dscp."""
        return OuterPath(self.endpoint, peer, self.encapsulation, self.link, **settings)

    # ---- packets

    def push(self, *packets: bytes, interface: int = 0) -> None:
        """Inner packets come from the host."""
        for packet in packets:
            self.plane.push_tun(interface, packet)

    def pulled(self, interface: int = 0) -> list[bytes]:
        """Inner packets that went to the host since the last call."""
        return list(iter(lambda: self.plane.pull_tun(interface), None))

    def arrive(self, *datagrams: MemoryDatagram) -> None:
        """Datagrams come from the outer network: `remote` is who sent them."""
        for datagram in datagrams:
            self.plane.push_link(self.link, datagram)

    def sent(self) -> list[MemoryDatagram]:
        """Datagrams that went to the outer network since the last call: `remote` is where to."""
        return list(iter(lambda: self.plane.pull_link(self.link), None))

    def step(self) -> int:
        """Runs both steps until neither moves anything; how many packets moved or were dropped."""
        total = 0
        while moved := self.plane.step_outbound(self.clock.ns) + self.plane.step_inbound(self.clock.ns):
            total += moved
        return total

    # ---- what it says

    @property
    def drops(self) -> dict[str, int]:
        """Drops by reason, those that happened."""
        return {reason: count for reason, count in self.plane.counters().drops.items() if count}

    def events(self, channel: Channel = Channel.TRUSTED) -> list[Event]:
        """Everything that the loops reported since the last call."""
        return list(self.sad.events(channel))


class Pair:
    """Gateways `a` and `b` with one CHILD_SA between them (`children`), a `wire` and a `clock`. See `pair`."""

    def __init__(
        self,
        suite: Suite,
        *,
        encapsulation: Encapsulation,
        outer: int,
        replay_window: int,
        limits: Limits,
        sequence: int,
        tfc_octets: int,
        settings: dict[str, Any],
        options: dict[str, Any],
    ) -> None:
        self.suite = suite
        self.clock = Clock()
        self.wire: Wire[MemoryDatagram] = Wire()
        self._replay_window, self._limits, self._tfc_octets = replay_window, limits, tfc_octets
        self._settings = settings
        self._generation = 0
        self.a, self.b = (
            PlaneRig(name, OUTER[outer][name], clock=self.clock, encapsulation=encapsulation, **options) for name in ("a", "b")
        )
        self.children: dict[str, ChildSa] = {}
        for gateway in (self.a, self.b):
            selectors = selectors_of(gateway.name)
            gateway.protect(selectors)
            self.children[gateway.name] = gateway.sad.add_child(0, selectors)
        self.install_inbound()
        self.switch(sequence=sequence)

    def close(self) -> None:
        self.a.close()
        self.b.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def peer(self, gateway: PlaneRig) -> PlaneRig:
        return self.b if gateway is self.a else self.a

    def outbound(self, name: str) -> SaHandle:
        """The SA by which gateway "a" or "b" sends. Raises ValueError when it has none."""
        return _there(self.children[name].outbound, name, "send")

    def inbound(self, name: str) -> SaHandle:
        """The newest SA by which gateway "a" or "b" receives. Raises ValueError when it has none."""
        return _there(self.children[name].inbound, name, "receive")

    # ---- SAs, in the order of a rekey: both inbound, then switch, then remove the old inbound

    def install_inbound(self) -> dict[str, int]:
        """New keys: each gateway receives by a new SA beside what it has. The SPIs, by gateway."""
        self._generation += 1
        self.spis = {gateway.name: self._install_inbound(gateway) for gateway in (self.a, self.b)}
        return self.spis

    def _install_inbound(self, gateway: PlaneRig) -> int:
        spi = gateway.sad.allocate_spi(0x5A000000 | self._generation << 12)
        child = self.children[gateway.name]
        handle = gateway.sad.install(
            SaParams(
                direction=Direction.INBOUND,
                spi=spi,
                suite=self.suite,
                keymat=keymat(self.suite, f"to {gateway.name} {self._generation}"),
                tunnel=0,
                limits=self._limits,
                interface=0,
                selectors=child.selectors,
                replay_window=self._replay_window,
                peer=self.peer(gateway).endpoint,
            )
        )
        gateway.sad.receive_by(child, handle)
        return spi

    def switch(self, *, sequence: int = 0) -> None:
        """Both gateways send by the keys that `install_inbound` brought; their old outbound SAs are removed."""
        for gateway in (self.a, self.b):
            child, old = self.children[gateway.name], self.children[gateway.name].outbound
            peer = self.peer(gateway)
            new = gateway.sad.install(
                SaParams(
                    direction=Direction.OUTBOUND,
                    spi=self.spis[peer.name],
                    suite=self.suite,
                    keymat=keymat(self.suite, f"to {peer.name} {self._generation}"),
                    tunnel=0,
                    limits=self._limits,
                    path=gateway.path_to(peer.endpoint, **self._settings),
                    tfc_octets=self._tfc_octets,
                    sequence=sequence,
                )
            )
            gateway.sad.switch(child, new)
            if old is not None:
                gateway.sad.remove(old)

    # ---- traffic

    def carry(self, gateway: PlaneRig) -> None:
        """What `gateway` has sent goes onto the wire."""
        for datagram in gateway.sent():
            arriving = MemoryDatagram(datagram.data, datagram.remote, datagram.local, datagram.tos, datagram.df)
            self.wire.send(gateway.name, self.peer(gateway).name, arriving)

    def deliver(self, gateway: PlaneRig) -> None:
        """What waits on the wire for `gateway` arrives there."""
        while (delivery := self.wire.take(gateway.name)) is not None:
            gateway.arrive(delivery.data)

    def exchange(self) -> None:
        """Runs both gateways and the wire until nothing moves."""
        moved = 1
        while moved:
            moved = 0
            for gateway in (self.a, self.b):
                self.deliver(gateway)
                moved += gateway.step()
                self.carry(gateway)

    def transfer(self, packets: Sequence[bytes], *, back: bool = False) -> list[bytes]:
        """Sends inner packets from a to b (`back`: from b to a); those that arrive."""
        sender = self.b if back else self.a
        sender.push(*packets)
        self.exchange()
        return self.peer(sender).pulled()

    # ---- whole batches

    def seal(self, plain: Batch, *, back: bool = False) -> Batch:
        """Seals every row at a (`back`: at b) without devices. Reasons are in what is returned."""
        sender = self.b if back else self.a
        sealed = Batch(plain.rows, plain.stride + GROWTH)
        sender.plane.seal(self.outbound(sender.name), plain, sealed, self.clock.ns)
        return sealed

    def open(self, sealed: Batch, *, back: bool = False) -> Batch:
        """Opens every row at b (`back`: at a) without devices. Reasons are in what is returned."""
        plain = Batch(sealed.rows, sealed.stride)
        (self.a if back else self.b).plane.open(sealed, plain, self.clock.ns)
        return plain


def _there(handle: SaHandle | None, name: str, what: str) -> SaHandle:
    if handle is None:
        raise ValueError(f"{name} has no SA to {what} by")
    return handle


def pair(
    suite: str | Suite = "aes128gcm16",
    *,
    encapsulation: Encapsulation = Encapsulation.UDP,
    outer: int = 4,
    replay_window: int = 1024,
    limits: Limits = NO_LIMITS,
    sequence: int = 0,
    tfc_octets: int = 0,
    settings: dict[str, Any] | None = None,
    **options: Any,
) -> Pair:
    """Two gateways, joined and keyed both ways.

    suite: a keyword such as "aes128gcm16-esn" (`ipsec_dp.ipsec.suites`). outer: IP version between them. limits, tfc_octets: of all
    their SAs. sequence: the last sequence number already used both ways. settings: df, dscp of the paths. options: of `PlaneRig`.
    """
    return Pair(
        parse_suite(suite) if isinstance(suite, str) else suite,
        encapsulation=encapsulation,
        outer=outer,
        replay_window=replay_window,
        limits=limits,
        sequence=sequence,
        tfc_octets=tfc_octets,
        settings=settings or {},
        options=options,
    )
