"""Gateways in network namespaces of their own, each on a link to a router, which is the wire between all of them.

    with NetnsNetwork(wire=NetnsWire(loss=0.1)) as network:
        a, b = network.gateway(SITE_A), network.gateway(SITE_B)

It is asked as `Network` is, so that a test runs on both. The router forwards, and does what wires do by nftables and the MTU of its
links. Needs root, iproute2 and nftables.
"""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, Self

from ipsec_dp.rig.configs import loaded
from ipsec_dp.rig.ladder import Arrow, drawn
from ipsec_dp.rig.loop import RigError
from ipsec_dp.rig.medium import described
from ipsec_dp.rig.netns import Lab, NetnsError, Port
from ipsec_dp.rig.netns_gateway import NetnsGateway
from ipsec_dp.rig.real_clock import ADVANCE_MAX_S, RealClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from ipsec_dp.ipsec.addresses import Address
    from ipsec_dp.rig.configs import Written
    from ipsec_dp.rig.wires import NatBox

ROUTER: Final = ("169.254.0.1", "fe80::1")  # as every gateway sees it
OUTER: Final = "wan"
OF_MEMORY: Final = ("delay", "jitter", "reorder", "duplicate", "corrupt", "seed")  # of `Wire`; the kernel needs more than nftables
THOUSANDTHS: Final = 1000
NAT_PORTS: Final = "20000-29999"
POLL_S: Final = 0.05


def _alone(address: Address) -> str:
    """As a prefix."""
    return f"{address}/{address.max_prefixlen}"


class NetnsWire:
    """`Wire` of namespaces: `loss`, `mtu`, `nat`, `cut` and `mend`, which can be changed at any time. Its other options, a NAT that
    expires or rebinds, and rules are refused with RigError: a gateway in memory has them."""

    def __init__(self, *, loss: float = 0.0, mtu: int = 1500, nat: NatBox | None = None, **others: Any) -> None:
        if others:
            unknown = ", ".join(sorted(others.keys() - set(OF_MEMORY)))
            what = f"a wire has no {unknown}" if unknown else f"{', '.join(others)}: not in namespaces"
            raise RigError(f"{what}; it has loss, mtu, nat there: use a gateway in memory for the rest")
        if nat is not None and nat.expires is not None:
            raise RigError("a NAT of namespaces does not expire: use a gateway in memory")
        if nat is not None:
            nat.of_kernel = True
        self._network: NetnsNetwork | None = None
        self._cut: set[tuple[str | None, str | None]] = set()
        self._loss, self._mtu, self.nat = loss, mtu, nat
        self._check(loss, mtu)

    @staticmethod
    def _check(loss: float, mtu: int) -> None:
        if not 0 <= loss <= 1:
            raise RigError(f"loss={loss:g} is no probability: write 0 to 1")
        if mtu < 576:
            raise RigError(f"mtu={mtu}: every path takes 576 octets (RFC 791)")

    def join(self, network: NetnsNetwork) -> None:
        """It is this network's wire. RigError: it is another's."""
        if self._network not in (None, network):
            raise RigError("this wire is in another network: one wire joins gateways of one network")
        self._network = network

    @property
    def loss(self) -> float:
        """Probability for each datagram."""
        return self._loss

    @loss.setter
    def loss(self, loss: float) -> None:
        self._check(loss, self._mtu)
        self._loss = loss
        self._changed()

    @property
    def mtu(self) -> int:
        """Octets of the largest outer packet."""
        return self._mtu

    @mtu.setter
    def mtu(self, mtu: int) -> None:
        self._check(self._loss, mtu)
        self._mtu = mtu
        self._changed()

    @property
    def rules(self) -> list[Any]:
        """RigError: what becomes of single datagrams is not ours to say."""
        raise RigError("rules and impairments are of wires in memory: in a namespace the kernel forwards")

    def cut(self, sender: str | None = None, receiver: str | None = None) -> None:
        """Loses everything from `sender` to `receiver` (None: anybody) until `mend`. RigError: the wire has no such end."""
        ends = {} if self._network is None else self._network.gateways
        for name in (sender, receiver):
            if name is not None and name not in ends:
                raise RigError(f"the wire has no end {name!r}; it has: {', '.join(ends) or 'none'}")
        self._cut.add((sender, receiver))
        self._changed()

    def mend(self) -> None:
        """Carries everything again."""
        self._cut.clear()
        self._changed()

    def _changed(self) -> None:
        if self._network is not None:
            self._network.rewire()

    def _losing(self) -> str:
        lost = max(1, round(self._loss * THOUSANDTHS))
        return "drop" if lost >= THOUSANDTHS else f"numgen random mod {THOUSANDTHS} < {lost} drop"

    def of_pair(self, ports: Mapping[str, str], ends: tuple[str, str]) -> Iterator[str]:
        """Rules of a wire that joins these two alone: what it does not lose passes, whatever the wire of all others does."""
        for sender, receiver in (ends, ends[::-1]):
            head = f"iifname {ports[sender]} oifname {ports[receiver]}"
            if any(cut[0] in (None, sender) and cut[1] in (None, receiver) for cut in self._cut):
                yield f"{head} drop"
            elif self._loss:
                yield f"{head} {self._losing()}"
            yield f"{head} accept"

    def ruleset(self, ports: Mapping[str, str], inside: Sequence[Address], first: Iterable[str] = ()) -> str:
        """For nftables. `ports`: the router's interface to each gateway; `inside`: addresses behind the NAT; `first`: rules of
        wires between two."""
        drops = [
            " ".join(
                [
                    *(f"iifname {ports[sender]}" for _ in "1" if sender),
                    *(f"oifname {ports[receiver]}" for _ in "1" if receiver),
                    "drop",
                ]
            )
            for sender, receiver in self._cut
        ]
        if self._loss:
            drops.append(self._losing())
        lines = ["table inet wire {", "}", "delete table inet wire", "table inet wire {", "chain forward {"]
        lines += ["type filter hook forward priority 0;", *first, *drops, "}", "}"]
        if self.nat is not None and inside:  # the gateway is there
            lines += self._nat_rules(self.nat, [address for address in inside if address.version == self.nat.address.version])
        return "\n".join(lines) + "\n"

    @staticmethod
    def _nat_rules(nat: NatBox, inside: Iterable[Address]) -> list[str]:
        family = "ip" if nat.address.version == 4 else "ip6"
        sources = f"{family} saddr {{ {', '.join(map(str, inside))} }}"
        head = [f"table {family} nat {{", "}", f"delete table {family} nat", f"table {family} nat {{", "chain out {"]
        rules = [f"{sources} meta l4proto udp snat to {nat.address}:{NAT_PORTS}", f"{sources} snat to {nat.address}"]
        return [*head, "type nat hook postrouting priority 100;", *rules, "}", "}"]


class NetnsNetwork:
    """`wire`: what joins all gateways. Close it, or use `with`: that closes every gateway and takes the namespaces away. `lab`: one
    of the caller's, which stays."""

    def __init__(self, *, wire: NetnsWire | None = None, lab: Lab | None = None) -> None:
        self.wire = NetnsWire() if wire is None else wire
        self.wire.join(self)
        self.clock = RealClock()
        self.gateways: dict[str, NetnsGateway] = {}
        self._own_lab = lab is None
        self.lab = Lab() if lab is None else lab
        self._addresses: dict[str, list[Address]] = {}
        self._ports: dict[str, str] = {}
        self._between: dict[tuple[str, str], NetnsWire] = {}
        self.closed = False
        try:
            self._router = self.lab.namespace("wire", forwarding=True)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing when it is closed."""
        if self.closed:
            return
        self.closed = True
        try:
            for gateway in list(self.gateways.values()):
                gateway.close()
        finally:
            if self._own_lab:
                self.lab.close()

    def gateway(self, config: Written, *, files: Mapping[str, str | bytes] | None = None, **others: Any) -> NetnsGateway:
        """A gateway in a namespace of its own, up; `addresses` as of `Gateway`. RigError: its name or an address is taken."""
        if self.closed:
            raise RigError("the network is closed")
        given = others.pop("addresses", None)
        if others:
            raise RigError(f"{', '.join(others)}: not in namespaces")
        with TemporaryDirectory(prefix="ipsec-dp-rig-") as directory:
            read = loaded(config, Path(directory), files or {})
        local = [tunnel.local for tunnel in read.tunnels if tunnel.local is not None] if given is None else list(given)
        name, addresses = read.name, list(dict.fromkeys(map(str, local)))
        if name in self.gateways:
            raise RigError(f"a wire has two ends of the name {name!r}: give gateways different names, by [gateway] name")
        if not addresses:
            raise RigError(f"gateway {name} has no outer address: write local = in a [[tunnel]], or give addresses=")
        taken = {str(address): owner for owner, theirs in self._addresses.items() for address in theirs}
        for address in addresses:
            if address in taken:
                raise RigError(f"{name} and {taken[address]} both have the address {address}")
        return self._made(config, name, addresses, files)

    def _made(self, config: Written, name: str, addresses: list[str], files: Mapping[str, str | bytes] | None) -> NetnsGateway:
        namespace = self.lab.namespace(name, forwarding=True)
        port = f"port{len(self._ports)}"
        self._ports[name], self._addresses[name] = port, list(map(ip_address, addresses))
        own = [*map(_alone, self._addresses[name])]
        self.lab.link(Port(namespace, OUTER, own), Port(self._router, port, (f"{ROUTER[0]}/32", f"{ROUTER[1]}/64")))
        namespace.ip(f"route add default via {ROUTER[0]} dev {OUTER} onlink", f"route add default via {ROUTER[1]} dev {OUTER}")
        self.rewire()
        gateway = NetnsGateway(config, namespace, files=files)
        self.gateways[name] = gateway
        return gateway

    def between(self, one: str, other: str, wire: NetnsWire) -> NetnsWire:
        """`wire` joins these two from now on, instead of what joins all: it loses and cuts. RigError: there is no such gateway, or
        it has a NAT or an MTU of its own, which in namespaces the wire of all has."""
        for name in (one, other):
            if name not in self.gateways:
                raise RigError(f"no gateway {name!r} on this network; there are: {', '.join(self.gateways) or 'none'}")
        if one == other:
            raise RigError(f"a wire has two ends of the name {one!r}")
        if wire.nat is not None or wire.mtu != self.wire.mtu:
            raise RigError("NAT and MTU are of the wire that joins all: write them there, or use gateways in memory")
        wire.join(self)
        self._between = {ends: each for ends, each in self._between.items() if set(ends) != {one, other}}
        self._between[one, other] = wire
        self.rewire()
        return wire

    def rewire(self) -> None:
        """The router does what the wire says."""
        if self.closed:
            return
        nat = self.wire.nat
        inside = self._addresses.get(nat.inside, []) if nat is not None else []
        for name, port in self._ports.items():  # a link of a smaller MTU would take nothing longer in, and tell nobody
            self._router.ip(
                *(f"route replace {_alone(each)} dev {port} mtu lock {self.wire.mtu}" for each in self._addresses[name])
            )
        try:
            pairs = [rule for ends, wire in self._between.items() for rule in wire.of_pair(self._ports, ends)]
            self._router.run("nft", "-f", "-", stdin=self.wire.ruleset(self._ports, inside, pairs))
        except NetnsError as error:
            raise RigError(str(error)) from error

    def advance(self, seconds: float) -> None:
        """Waits, as `RealClock.advance`."""
        self.clock.advance(seconds)

    def jump(self) -> float:
        """Waits for the next event of any gateway; the time then. RigError: there was none for a long time."""
        met = self._events()
        if not self.run(lambda: self._events() > met, ADVANCE_MAX_S):
            raise RigError(f"nothing happened in {ADVANCE_MAX_S:g} s")
        return self.clock.now()

    def run(self, goal: Callable[[], bool], timeout: float) -> bool:
        """Waits until `goal` holds, for `timeout` seconds at the most; whether it does."""
        end = self.clock.now() + timeout
        while not goal():
            if self.clock.now() >= end:
                return False
            self.clock.advance(POLL_S)
        return True

    def _events(self) -> int:
        return sum(len(gateway.events()) for gateway in self.gateways.values())

    # ---- what happened

    def ladder(self, last: int | None = None) -> str:
        """The datagrams that left gateways, as a drawing; those that did not come to where they were sent are lost."""
        arrows = sorted(arrow for name in self.gateways for arrow in self._arrows(name))
        return drawn(arrows if last is None else arrows[-last:], tuple(self.gateways))

    def _arrows(self, name: str) -> Iterator[Arrow]:
        owners = {address: owner for owner, theirs in self._addresses.items() for address in theirs}
        if self.wire.nat is not None:
            owners[self.wire.nat.address] = self.wire.nat.inside
        came = {owner: {each.datagram.data for each in self.gateways[owner].passed() if not each.left} for owner in self.gateways}
        for each in self.gateways[name].passed():
            receiver = owners.get(each.datagram.destination.address)
            if each.left and receiver in came:
                text = f"{described(each.datagram)}, {each.datagram.octets}"
                yield Arrow(each.at, name, receiver, text, int(each.datagram.data in came[receiver]))
