"""One peer that was taken over sends as fast as it can, each kind of request: nobody else waits, and memory stays bounded."""

import gc
import time
import tracemalloc
from dataclasses import replace
from ipaddress import ip_address

import pytest

from ipsec_dp.ike.actions import Kind, Origin, Send
from ipsec_dp.ike.identity import Identity
from ipsec_dp.ike.negotiation import with_spi
from ipsec_dp.ike.peer import Life, Liveness
from ipsec_dp.ike.proposal import ProtocolId, parse_esp
from ipsec_dp.ike.traffic_selectors import ProxyId, TrafficSelector
from ipsec_dp.ike.v2 import payloads as p
from ipsec_dp.ike.v2.fragment import seal_datagrams
from ipsec_dp.ike.v2.message import Header, Message
from ipsec_dp.ike.v2.prices import price
from ipsec_dp.ike.v2.protect import seal_message
from ipsec_dp.ike.v2.wire import ExchangeType, Flag, NotifyType
from ipsec_dp.util.collection import no_collection

from .ladder import IKE, NETS, Ladder, peer, proxy_id
from .test_session_attacks import Traitor

CREATE, INFORMATIONAL = ExchangeType.CREATE_CHILD_SA, ExchangeType.INFORMATIONAL
PUBLIC = bytes([9]) + bytes(31)  # a value of x25519
MANY = tuple(TrafficSelector(4, (10 << 24) + n, (10 << 24) + n) for n in range(255))


NETS_A = NETS["a"]


def child(traitor, *more, selectors=((NETS_A.local,), (NETS_A.remote,)), ke=None):
    spi = (0x10_0000 + traitor.asked).to_bytes(4, "big")
    offer = with_spi(parse_esp(["aes128gcm16" if ke is None else "aes128gcm16-x25519"]), spi)
    tsi, tsr = selectors
    middle = () if ke is None else (p.KeyExchangePayload(31, ke),)
    last = p.TrafficSelectorsInitiator(tsi), p.TrafficSelectorsResponder(tsr)
    return CREATE, (*more, p.SecurityAssociation(offer), p.Nonce(bytes(32)), *middle, *last)


def rekey_child(traitor):
    children = traitor.ladder.b.core.sessions("to-a")[-1].children
    newest = list(children.values())[-1] if children else None
    spi = bytes(4) if newest is None else newest.spi_out.to_bytes(4, "big")
    return child(traitor, p.Notify(NotifyType.REKEY_SA, b"", ProtocolId.ESP, spi))


def rekey_ike(traitor):
    sa = p.SecurityAssociation(with_spi(IKE, (1 + traitor.asked).to_bytes(8, "big")))
    return CREATE, (sa, p.Nonce(bytes(32)), p.KeyExchangePayload(31, PUBLIC))


def delete(_traitor):
    return INFORMATIONAL, (p.Delete(ProtocolId.ESP, tuple(number.to_bytes(4, "big") for number in range(300, 1300))),)


REQUESTS = {
    "CREATE_CHILD_SA": child,
    "CREATE_CHILD_SA with a key exchange": lambda traitor: child(traitor, ke=PUBLIC),
    "selectors": lambda traitor: child(traitor, selectors=(MANY, MANY)),
    "selectors that all fit": lambda traitor: child(traitor, selectors=(MANY[:16], MANY[:16])),
    "rekeys of a CHILD_SA": rekey_child,
    "rekeys of the IKE SA": rekey_ike,
    "DELETE": delete,
    "nothing at all": lambda _traitor: (INFORMATIONAL, ()),
    "notifies": lambda _traitor: (INFORMATIONAL, tuple(p.Notify(50_000 + number % 100) for number in range(400))),
}


class Hostile(Traitor):
    """Speaks with A's keys, as fast as it can: the request with the number that B waits for, again and again until it is served."""

    def __init__(self, ladder, kind):
        super().__init__(ladder)
        self.kind, self.asked, self.made = kind, 0, -1
        self.datagrams: tuple[bytes, ...] = ()

    def next(self):
        """The datagrams that it sends next."""
        sessions = [one for one in self.ladder.b.core.sessions("to-a") if one.sa.spi_i == self.session.sa.spi_i]
        expected = sessions[0].window.expected if sessions else self.made
        if expected != self.made:
            self.asked, self.made = self.asked + 1, expected
            exchange, payloads = REQUESTS.get(self.kind, REQUESTS["nothing at all"])(self)
            header = Header(self.session.sa.spi_i, self.session.sa.spi_r, exchange, Flag.INITIATOR, expected)
            if self.kind == "fragments":
                many = tuple(p.Notify(50_000, bytes(500)) for _ in range(40))
                pieces = seal_datagrams(self.session.sa.outgoing, header, many, self.ladder.a.randbytes, room=600, fragment=True)
                self.datagrams = pieces[:-1]  # never whole
            else:
                self.datagrams = (seal_message(self.session.sa.outgoing, header, payloads, self.ladder.a.randbytes),)
        return self.datagrams


OTHERS = [f"w{number}" for number in range(50)]


def party():
    """A's first tunnel is the hostile one; 50 others have liveness checks and rekeys every few seconds, and one more is to come."""
    quick = {"liveness": Liveness(1.0), "child_life": Life(8.0, soft_s=3.0), "ike_life": Life(20.0, soft_s=7.0)}
    names = [*OTHERS, "late"]

    def peers(site):
        nets = [proxy_id(f"10.100.{number}.0/24", f"10.200.{number}.0/24") for number in range(len(names))]
        who = "local_id" if site == "a" else "remote_id"
        pairs = nets if site == "a" else [ProxyId(one.remote, one.local) for one in nets]
        return [
            peer(site),
            *(
                peer(site, tunnel=name, proxy_ids=(pair,), **quick, **{who: Identity.from_text(f"{name}.example")})
                for name, pair in zip(names, pairs, strict=True)
            ),
        ]

    ladder = Ladder(a=peers("a"), b=peers("b")).up()
    for name in OTHERS:
        ladder.a.do(ladder.a.core.initiate(name, ladder.path("a"), ladder.clock()))
    ladder.settle()
    return ladder


class Loop:
    """B's control plane as one thread: what it handles takes the processor time that it takes, and the clock goes on by that."""

    def __init__(self, ladder):
        self.ladder, self.late, self.spent, self.came_up = ladder, 0.0, 0.0, float("inf")

    def handle(self, step):
        began = time.process_time()
        actions = step()
        took = time.process_time() - began
        self.ladder.b.do(actions)
        return took

    def serve_others(self):
        """Timers of both sides that are due, and what they and their answers send. B's are late by what it did meanwhile."""
        ladder = self.ladder
        for site in (ladder.b, ladder.a):
            while (due := site.core.next_timeout()) is not None and due <= ladder.clock():
                self.late = max(self.late, ladder.clock() - due) if site is ladder.b else self.late
                site.do(site.core.timer(ladder.clock()))
        while (delivery := ladder.wire.take("b")) is not None:
            datagram, path = delivery.data
            back = replace(path, local=path.remote, remote=path.local)
            took = self.handle(lambda datagram=datagram, back=back: ladder.b.core.receive(datagram, back, ladder.clock()))
            ladder.clock.advance(took)
        while ladder.deliver("a"):
            pass


@pytest.fixture
def uncollected():
    """A collection of what all the other tests made would count as the hostile peer's."""
    with no_collection():
        yield


SENT_EVERY = 2e-4  # seconds: 5,000 datagrams a second


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("kind", [*REQUESTS, "fragments"])
def test_a_hostile_peer_takes_its_share_and_nobody_else_is_late(kind):
    ladder = party()
    hostile, loop = Hostile(ladder, kind), Loop(ladder)
    end, called, began = ladder.clock() + 3.0, False, 0.0
    measured_from = ladder.clock() + 1.5  # when what it may have at once is gone
    path = ladder.path("b")
    while ladder.clock() < end:
        for datagram in hostile.next():
            took = loop.handle(
                lambda datagram=datagram: [
                    one for one in ladder.b.core.receive(datagram, path, ladder.clock()) if not isinstance(one, Send)
                ]
            )
            loop.spent += took if ladder.clock() > measured_from else 0.0
            ladder.clock.advance(max(took, SENT_EVERY))
        loop.serve_others()
        if not called and ladder.clock() > measured_from:
            called = True
            ladder.a.do(ladder.a.core.initiate("late", ladder.path("a"), ladder.clock()))
            began = ladder.clock()
        if called and loop.came_up == float("inf") and ladder.b.core.status("late", ladder.clock()):
            loop.came_up = ladder.clock() - began
    assert loop.late < 0.25, "timers of the others"
    assert loop.came_up < 0.25, "somebody new"
    assert loop.spent / 1.5 < 0.4, "its share, most of it for passing requests over"
    for name in [*OTHERS, "late"]:
        (status,) = [one for one in ladder.b.core.status(name, ladder.clock()) if one.state in ("up", "rekeying")]
        assert status.children
    assert not [event for event in ladder.b.events if event.kind in (Kind.IKE_DOWN, Kind.CHILD_DOWN) and event.tunnel != "to-a"]
    told = [event for event in ladder.b.events if "more than its share" in event.text]
    assert [(event.tunnel, event.origin) for event in told] in ([], [("to-a", Origin.PEER)])
    assert bool(told) is (ladder.b.core.counters().limited > 0)


@pytest.mark.parametrize("kind", REQUESTS)
def test_memory_stays_bounded_whatever_it_sends(kind):
    ladder = Ladder().up()
    hostile = Hostile(ladder, kind)
    gc.collect()
    tracemalloc.start()
    for _ in range(500):
        for datagram in hostile.next():
            for action in ladder.b.core.receive(datagram, ladder.path("b"), ladder.clock()):
                del action
        ladder.clock.advance(0.01)
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 2 * 2**20


@pytest.mark.parametrize("kind", REQUESTS)
def test_no_price_is_far_below_what_a_request_costs(kind):
    """Milliseconds; the least of several, since others have the processor too."""
    ladder = Ladder().up()
    hostile, took = Hostile(ladder, kind), []
    for _ in range(8):
        (datagram,) = hostile.next()
        ladder.clock.advance(1.0)
        began = time.process_time()
        actions = ladder.b.core.receive(datagram, ladder.path("b"), ladder.clock())
        took.append((time.process_time() - began) * 1000.0)
        ladder.b.do(actions)
        while ladder.wire.take("a") is not None:
            pass
    exchange, payloads = REQUESTS[kind](hostile)
    message = Message(Header(bytes(8), bytes(8), exchange, Flag.INITIATOR, 1), payloads)
    assert min(took) < 2.0 * price(message, (NETS_A,))


def test_the_share_is_the_peers_not_the_addresss():
    """Another identity from the same address has its own."""
    ladder = party()
    account = ladder.b.core.sessions("to-a")[0].ends.account
    assert account is not None
    account.spend(10_000.0, ladder.clock())
    ladder.a.do(ladder.a.core.rekey(OTHERS[0], ladder.clock(), ike=True))
    ladder.settle()
    assert ip_address("192.0.2.1") in {status.path.remote.address for status in ladder.b.core.status(OTHERS[0], ladder.clock())}
    assert Kind.IKE_REKEYED in [event.kind for event in ladder.b.events if event.tunnel == OTHERS[0]]
