"""Two gateways' IKE on an in-memory wire: whole lifetimes as message ladders, in milliseconds, without sockets, threads or sleeps.

    site A (192.0.2.1) -- wire -- site B (192.0.2.2)

`Site` carries the core's actions out the way a driver does, against a SAD that asserts the order of installs and removals.
"""

import itertools
import random
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

from ipsec_dp.ike import actions as act
from ipsec_dp.ike.actions import Endpoint, Kind, Path
from ipsec_dp.ike.auth import PreSharedKey
from ipsec_dp.ike.environment import NO_TRACE, SILENT, Activity, Environment
from ipsec_dp.ike.identity import Identity
from ipsec_dp.ike.manager import IkeManager
from ipsec_dp.ike.peer import Life, Liveness, Peer, SharedKeyAuth
from ipsec_dp.ike.proposal import parse_esp, parse_ike
from ipsec_dp.ike.traffic_selectors import ProxyId, TrafficSelector
from ipsec_dp.ike.v2.wire import ExchangeType
from ipsec_dp.ipsec.addresses import AddressRange
from ipsec_dp.ipsec.selectors import Range, SelectorPair
from ipsec_dp.rig.clock import Clock
from ipsec_dp.rig.wire import Wire

from .watcher import NotingWatcher

IKE = parse_ike(["aes128gcm16-prfsha256-x25519-ecp256"])
ESP = parse_esp(["aes128gcm16-esn-noesn"])

ADDRESSES = {"a": "192.0.2.1", "b": "192.0.2.2"}
OTHER = {"a": "b", "b": "a"}
TUNNEL = {"a": "to-b", "b": "to-a"}
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = {exchange.value: exchange.name for exchange in ExchangeType}


def proxy_id(local, remote, protocol=0, ports=(0, 65535)):
    return ProxyId(TrafficSelector.from_prefix(local), TrafficSelector.from_prefix(remote, protocol, ports))


NETS = {"a": proxy_id("10.1.0.0/24", "10.2.0.0/24"), "b": proxy_id("10.2.0.0/24", "10.1.0.0/24")}


def peer(site, **changes):
    """What `site` knows of the other: PSK, identities gwa.example and gwb.example, one proxy ID."""
    other = OTHER[site]
    default: dict[str, Any] = {
        "tunnel": TUNNEL[site],
        "auth": SharedKeyAuth(PreSharedKey.from_text("a secret both of them know")),
        "ike_proposals": IKE,
        "esp_proposals": ESP,
        "proxy_ids": (NETS[site],),
        "remotes": (ip_address(ADDRESSES[other]),),
        "local_id": Identity.from_text(f"gw{site}.example"),
        "remote_id": Identity.from_text(f"gw{other}.example"),
        "liveness": Liveness(0.0),
        "ike_life": Life(8 * 3600.0),
        "child_life": Life(3600.0),
    }
    return Peer(**(default | changes))


def packet(local, remote, protocol=17, ports=(1000, 2000)):
    """Selectors of a packet that asks for an SA."""
    local, remote = (AddressRange(ip_address(end), ip_address(end)) for end in (local, remote))
    return SelectorPair(local, remote, Range(protocol, protocol), Range(ports[0], ports[0]), Range(ports[1], ports[1]))


class FakeSad:
    """Records SAs by CHILD_SA number, and fails on any order the data plane could not carry out."""

    def __init__(self):
        self.reserved: set[int] = set()
        self.inbound: dict[int, act.InstallInbound] = {}
        self.outbound: dict[int, act.InstallOutbound] = {}
        self.sending: list[int] = []  # numbers of CHILD_SAs that send now
        self.log: list[tuple[str, int]] = []
        self.expected: dict[int, act.ExpectInbound] = {}  # by SPI, in requests under way
        self._next = itertools.count(0x1000)

    def allocate_spi(self, _tunnel):
        spi = next(self._next)
        self.reserved.add(spi)
        return spi

    def carry_out(self, action):
        name = type(action).__name__
        child: int = getattr(action, "child", 0)
        if not isinstance(action, act.ExpectInbound):  # it changes no SA
            self.log.append((name, child))
        match action:
            case act.ExpectInbound():
                assert action.spi in self.reserved
                self.expected[action.spi] = action
            case act.InstallInbound():
                assert action.spi in self.reserved
                self.expected.pop(action.spi, None)
                assert len(action.keymat) == action.suite.keymat_octets
                assert any(action.keymat)
                self.reserved.remove(action.spi)
                self.inbound[child] = replace(action, keymat=bytearray(bytes(action.keymat)))
                action.keymat[:] = bytes(len(action.keymat))
            case act.InstallOutbound():
                assert child in self.inbound, "outbound before inbound"
                self.outbound[child] = replace(action, keymat=bytearray(bytes(action.keymat)))
                action.keymat[:] = bytes(len(action.keymat))
            case act.SwitchOutbound():
                assert child in self.outbound, "switched to what is not installed"
                if action.replaces in self.sending:
                    self.sending.remove(action.replaces)
                self.sending.append(child)
            case act.RemoveOutbound():
                assert child in self.inbound
                self.outbound.pop(child, None)
                if child in self.sending:
                    self.sending.remove(child)
            case act.RemoveChild():
                del self.inbound[child]
                self.outbound.pop(child, None)
                if child in self.sending:
                    self.sending.remove(child)
            case act.ReleaseSpi():
                self.reserved.remove(action.spi)
                self.expected.pop(action.spi, None)


class NotingKeys:
    """`KeyEar`: the keys that were told, by the initiator's SPI and the first of them."""

    def __init__(self):
        self.told: list[tuple[bytes, bytes]] = []

    def ike(self, sa):
        self.told.append((sa.spi_i, bytes(sa.keys.sk_ei)))

    def isakmp(self, sa):
        self.told.append((sa.cookie_i, bytes(sa.keys.cipher)))


class Site:
    """One gateway's core and the little that a driver adds."""

    def __init__(self, name, wire, clock, peers, seed, epoch, trace=NO_TRACE):
        self.name, self.wire, self.clock, self.trace, self.peers = name, wire, clock, trace, peers
        self.sad = FakeSad()
        self.events: list[act.Event] = []
        self.keepalives: list[Path] = []
        self.moved: list[act.MovePath] = []
        self.watcher, self.keys = NotingWatcher(), NotingKeys()
        self.activity: defaultdict[int, Activity] = defaultdict(lambda: SILENT)
        self.calendar = epoch  # what it shows at second 0 of the clock
        self.randbytes = random.Random(f"{name}{seed}").randbytes
        environment = Environment(
            self.randbytes,
            self.sad.allocate_spi,
            lambda now: self.calendar + timedelta(seconds=now),
            lambda child: self.activity[child],
            self.watcher,
            trace,
            keys=self.keys,
        )
        self.core = IkeManager(environment, peers)

    def do(self, actions):
        """Carry out what the core wants; returns nothing, as a driver's would."""
        assert actions is not None
        for action in actions:
            match action:
                case act.Send():
                    self.trace.left(action.datagram, action.path)
                    self.wire.send(self.name, OTHER[self.name], (action.datagram, action.path))
                case act.Report():
                    self.events.append(action.event)
                case act.SendKeepalive():
                    self.keepalives.append(action.path)
                case act.MovePath():
                    self.moved.append(action)
                case _:
                    self.sad.carry_out(action)

    @property
    def tunnel(self):
        return TUNNEL[self.name]

    @property
    def status(self):
        return self.core.status(self.tunnel, self.clock())

    @property
    def ups(self):
        """IKE SAs that are up."""
        return [status for status in self.status if status.state in ("up", "rekeying")]

    def kinds(self):
        return [event.kind for event in self.events]

    def causes(self):
        return [event.cause for event in self.events if event.kind in (Kind.IKE_DOWN, Kind.IKE_FAILED)]

    def sends_to(self):
        """The peer's SPIs that packets go to now."""
        return sorted(self.sad.outbound[child].spi for child in self.sad.sending)

    def receives_on(self):
        return sorted(action.spi for action in self.sad.inbound.values())


def _as_received(path, _receiver):
    return Path(path.remote, path.local, path.natt)


class Ladder:
    """Both sites and the wire between them."""

    def __init__(self, a=None, b=None, seed=0, epoch=EPOCH, trace=NO_TRACE):
        """`trace`: of what A gets and sends."""
        self.clock = Clock()
        self.wire: Wire[tuple[bytes, Path]] = Wire()
        self.a = Site("a", self.wire, self.clock, a or [peer("a")], seed, epoch, trace)
        self.b = Site("b", self.wire, self.clock, b or [peer("b")], seed, epoch)
        self.sites = {"a": self.a, "b": self.b}
        self.translate = _as_received

    def path(self, site, natt=False):
        port = 4500 if natt else 500
        local, remote = (Endpoint(ip_address(ADDRESSES[name]), port) for name in (site, OTHER[site]))
        return Path(local, remote, natt)

    def initiate(self, site="a", natt=False, asks=None):
        who = self.sites[site]
        who.do(who.core.initiate(who.tunnel, self.path(site, natt), self.clock(), asks))

    def deliver(self, receiver):
        """One datagram to `receiver`; False when none waits."""
        delivery = self.wire.take(receiver)
        if delivery is None:
            return False
        datagram, path = delivery.data
        site, path = self.sites[receiver], self.translate(path, receiver)
        site.trace.arrived(datagram, path)
        actions = site.core.receive(datagram, path, self.clock())
        site.trace.handled()
        site.do(actions)
        return True

    def settle(self):
        """Deliver until nothing waits."""
        for _ in range(1000):
            if not self.deliver("b") and not self.deliver("a"):
                return
        raise AssertionError("the sites never stop talking")

    def run(self, seconds, step=None):
        """Let time pass: every timer at its time, every datagram at once."""
        end = self.clock() + seconds
        self.settle()
        for _ in range(20_000):
            times = [at for site in self.sites.values() if (at := site.core.next_timeout()) is not None]
            at = max(min(times, default=end), self.clock())
            if at > end or (not times):
                break
            self.clock.advance(at - self.clock() + 1e-6)
            for site in self.sites.values():
                site.do(site.core.timer(self.clock()))
                if step is not None:
                    step()
            self.settle()
        else:
            raise AssertionError("timers never rest")
        if self.clock() < end:
            self.clock.advance(end - self.clock())

    def up(self, site="a"):
        """An IKE SA and its CHILD_SA, begun by `site`."""
        self.initiate(site)
        self.settle()
        self.check()
        return self

    def check(self, ikes=1):
        """Both sides agree on everything: one IKE SA, and each sends where the other receives."""
        spis = [{(status.spi_i, status.spi_r) for status in site.ups} for site in self.sites.values()]
        assert spis[0] == spis[1]
        assert len(spis[0]) == ikes
        for one, other in ((self.a, self.b), (self.b, self.a)):
            assert one.sad.sending, f"{one.name} sends nothing"
            for child in one.sad.sending:
                out = one.sad.outbound[child]
                match = [action for action in other.sad.inbound.values() if action.spi == out.spi]
                assert match, f"{one.name} sends to an SPI that {other.name} does not receive on"
                assert match[0].keymat == out.keymat
                assert match[0].suite == out.suite
            assert not one.sad.reserved, "an SPI was neither installed nor released"

    def messages(self, sender=None):
        """Every message sent so far, as "a>b IKE_SA_INIT", responses with a dash."""
        shown = []
        for delivery, _ in self.wire.log:
            datagram = delivery.data[0]
            dash = "-" if datagram[19] & 0x20 else ""
            if sender in (None, delivery.sender):
                shown.append(f"{delivery.sender}{delivery.receiver} {NAMES.get(datagram[18], '?')}{dash}")
        return shown
