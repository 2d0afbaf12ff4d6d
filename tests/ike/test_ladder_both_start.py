"""Two sides that both call: one IKE SA stays, no third one is made, and from the first packet that passed none is lost.

Every order in which the messages can arrive; then starts apart by 0 to 2 s, over a wire that takes its time, with each message lost
in turn. A packet arrives where it has an SPI that the other side receives on or has given out in a request under way: what comes
that early is kept.
"""

import heapq
import itertools
import random
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from ipsec_dp.ike.actions import Cause, Kind, Origin
from ipsec_dp.ike.v2 import delete, uniqueness
from ipsec_dp.ike.v2.sa import State
from ipsec_dp.keying.initiation import Intent

from .ladder import ADDRESSES, OTHER, TUNNEL, Ladder, peer, proxy_id

ENDS = frozenset({Kind.IKE_DOWN, Kind.IKE_FAILED})
LIVENESS = SimpleNamespace(action="restart", retries=5, interval_s=10)


def two(seed=0, **changes):
    return Ladder(**{site: [peer(site, start="start", **changes)] for site in "ab"}, seed=seed)


def arrives(one, other):
    """Whether what `one` sends now reaches an SA of the other's."""
    ready = other.sad.reserved | set(other.receives_on())
    return bool(one.sad.sending) and all(one.sad.outbound[child].spi in ready for child in one.sad.sending)


def made(ladder):
    """IKE SAs that anybody has begun."""
    return {delivery.data[0][:8] for delivery, _ in ladder.wire.log if delivery.data[0][18] == 34}


class Watch:
    """Fails as soon as a packet is lost after one has passed each way, or a side sends by two CHILD_SAs of the same pair."""

    def __init__(self, ladder):
        self.ladder, self.passed = ladder, False

    def look(self):
        both = arrives(self.ladder.a, self.ladder.b), arrives(self.ladder.b, self.ladder.a)
        assert all(both) or not self.passed, self.ladder.messages()
        assert all(len(site.sad.sending) <= 1 for site in self.ladder.sites.values()), self.ladder.messages()
        self.passed = all(both)


def one_stays(ladder):
    ladder.check()
    assert len(made(ladder)) <= 2
    for site in ladder.sites.values():
        assert len(site.sad.sending) == len(site.sad.inbound) == 1
        assert site.core.counters().sessions == 1
        assert not any(event.kind is Kind.IKE_DOWN and event.cause is not Cause.REPLACED for event in site.events)


# ---- every order


def orders(seed):
    """A calls, and B at any moment: runs it once for each order in which that and the messages can come; each ladder at its end."""
    waiting = [""]
    while waiting:
        order = waiting.pop()
        ladder = two(seed)
        ladder.initiate("a")
        watch = Watch(ladder)
        for number in itertools.count():
            there = [site for site in "ab" if ladder.wire.waiting(site)]
            there += ["c"] if "c" not in order[:number] else []
            if not there:
                break
            if number == len(order):
                order += there[0]
                waiting += [order[:number] + other for other in there[1:]]
            if order[number] == "c":
                ladder.initiate("b")
            else:
                ladder.deliver(order[number])
            watch.look()
        yield order, ladder


@pytest.mark.parametrize("seed", range(4))  # by chance the one that A began stays, or that of B
def test_whatever_the_order_one_stays(seed):
    found = {}
    for order, ladder in orders(seed):
        assert order not in found
        ladder.run(60)
        one_stays(ladder)
        found[order] = len(made(ladder))
    assert len(found) > 20
    assert set(found.values()) == {1, 2}  # B's call finds an IKE SA that is up, or not


def test_each_side_s_stays_at_times():
    roles = set()
    for seed in range(8):
        ladder = two(seed)
        ladder.initiate("a")
        ladder.initiate("b")
        for receiver in "abab":  # each has the other's IKE_SA_INIT before it sends IKE_AUTH
            ladder.deliver(receiver)
        ladder.run(60)
        one_stays(ladder)
        roles.add(ladder.a.status[0].role)
    assert roles == {"initiator", "responder"}


# ---- time


class Starts:
    """Both sites call as soon as they are there and again when it fails, as their gateways do; datagrams take their time."""

    def __init__(self, seed, offset, latency, lost=()):
        self.ladder, self.random, self.latency = two(seed), random.Random(seed), latency
        self.begin = {"a": self.ladder.clock(), "b": self.ladder.clock() + offset}
        tunnel: Any = SimpleNamespace(start="start", remotes=("there",), ike=SimpleNamespace(liveness=LIVENESS))
        self.intents = {site: Intent(tunnel, self.random.random) for site in "ab"}
        self.seen, self.under_way, self.numbers = {"a": 0, "b": 0}, [], itertools.count()
        self.watch, self.started = Watch(self.ladder), set()
        for sender, number in lost:
            self.ladder.wire.drop(sender, OTHER[sender], number)

    def run(self, seconds):
        clock = self.ladder.clock
        end = clock() + seconds
        while clock() < end:
            self.step()
            timers = [at for site in self.started if (at := self.ladder.sites[site].core.next_timeout()) is not None]
            attempts = [at for site in self.started if (at := self.intents[site].next_attempt) is not None]
            starts = [at for site, at in self.begin.items() if site not in self.started]
            due = min([*timers, *attempts, *starts, *(at for at, *_ in self.under_way), end])
            clock.advance(max(due - clock(), 0.0) + 1e-6)

    def step(self):
        now = self.ladder.clock()
        for site, at in self.begin.items():
            if at <= now and site not in self.started:
                self.started.add(site)
                self.intents[site].start(now)
        while self.under_way and self.under_way[0][0] <= now:
            _, _, receiver, (datagram, path) = heapq.heappop(self.under_way)
            if receiver in self.started:  # nobody is there before
                core = self.ladder.sites[receiver].core
                self.ladder.sites[receiver].do(core.receive(datagram, self.ladder.translate(path, receiver), now))
                self.heard(receiver)
        for site in self.started:
            self.ladder.sites[site].do(self.ladder.sites[site].core.timer(now))
            self.heard(site)
            if self.intents[site].attempt(now) is not None:
                self.ladder.initiate(site)
            self.heard(site)
        self.watch.look()

    def heard(self, site):
        """The events of a site, then what it sends."""
        ladder, who, now = self.ladder, self.ladder.sites[site], self.ladder.clock()
        for event in who.events[self.seen[site] :]:
            if event.origin in (Origin.OURS, Origin.PEER):
                self.intents[site].event(event, now, others=event.kind in ENDS and any(sa.state != "closing" for sa in who.status))
        self.seen[site] = len(who.events)
        while (delivery := ladder.wire.take(OTHER[site])) is not None:
            at = now + self.random.uniform(*self.latency)
            heapq.heappush(self.under_way, (at, next(self.numbers), OTHER[site], delivery.data))


OFFSETS = [number / 10 for number in range(21)]
LATENCIES = {"a LAN": (0.0003, 0.0005), "a satellite": (0.25, 0.35), "out of order": (0.001, 0.4)}


@pytest.mark.parametrize("latency", LATENCIES)
@pytest.mark.parametrize("offset", OFFSETS)
def test_starts_apart(offset, latency):
    for seed in range(3):
        starts = Starts(seed, offset, LATENCIES[latency])
        starts.run(120)
        one_stays(starts.ladder)
        assert starts.watch.passed


@pytest.mark.parametrize("lost", [(sender, number) for sender in "ab" for number in range(1, 6)], ids=str)
@pytest.mark.parametrize("offset", [0.0, 0.0002, 0.5, 0.9999, 1.0003])
def test_a_lost_message_changes_nothing_in_the_end(offset, lost):
    for seed in range(2):
        starts = Starts(seed, offset, LATENCIES["a LAN"], lost=[lost])
        starts.run(120)
        one_stays(starts.ladder)


# ---- a call in vain


def called_in_vain(ladder):
    """A calls and is not heard; then B does."""
    ladder.wire.cut("a", "b")
    ladder.initiate("a")
    ladder.wire.mend("a", "b")
    ladder.initiate("b")
    ladder.settle()


def test_a_call_that_nobody_has_answered_is_given_up_when_the_peer_calls():
    ladder = two()
    called_in_vain(ladder)
    ladder.check()
    assert [session.sa.initiator for session in ladder.a.core.sessions("to-b")] == [False]
    ladder.run(60)
    assert ladder.messages("a").count("ab IKE_SA_INIT") == 1  # it is not sent again
    assert Kind.IKE_FAILED not in ladder.a.kinds()


def test_what_it_was_made_for_is_wanted_of_the_peer_s():
    ladder = two()
    called_in_vain(ladder)
    (session,) = ladder.a.core.sessions("to-b")
    assert session.wanted.all == session.peer.proxy_ids


def test_a_call_to_another_address_goes_on():
    """The peer that has authenticated itself is another one of the same tunnel."""
    ladder = two()
    path = ladder.path("a")
    elsewhere = path.remote._replace(address=type(path.remote.address)("192.0.2.77"))
    ladder.a.core.set_peers([peer("a", remotes=(elsewhere.address,))])
    ladder.a.do(ladder.a.core.initiate("to-b", type(path)(path.local, elsewhere), ladder.clock()))
    while ladder.wire.take("b") is not None:
        pass
    ladder.a.core.set_peers([peer("a", remotes=())])
    ladder.initiate("b")
    ladder.settle()
    assert {session.state for session in ladder.a.core.sessions("to-b")} == {State.INIT_SENT, State.ESTABLISHED}
    assert ADDRESSES["b"] != str(elsewhere.address)


# ---- peers that decide otherwise


def other_rule(ladder, monkeypatch, rule):
    """B does `rule(new, others, now)` where ours would settle it."""
    there, known = ladder.b.core.gateway, uniqueness.consequences
    monkeypatch.setattr(there, "came_up", lambda *_: None)
    monkeypatch.setattr(uniqueness, "consequences", lambda new, *more: (rule if new.host is there else known)(new, *more))


def crossing(ladder):
    """Both are up at both ends, A's last."""
    ladder.wire.drop("a", "b", 2)  # A's IKE_AUTH comes when B's own IKE SA is up
    ladder.initiate("a")
    ladder.deliver("b")
    ladder.deliver("a")  # A has sent IKE_AUTH, with INITIAL_CONTACT
    ladder.initiate("b")
    ladder.settle()
    assert ladder.a.core.sessions("to-b")[0].ends.initial_contact


@pytest.mark.parametrize("seed", range(6))
def test_the_one_with_an_initial_contact_stays(seed, monkeypatch):
    """A peer that obeys it forgets the other without a word, whatever the nonces say."""

    def forgets(new, others, now):
        for other in others:
            if new.ends.initial_contact:
                yield other, partial(other.end, Cause.REPLACED, "INITIAL_CONTACT", now)

    ladder = two(seed)
    other_rule(ladder, monkeypatch, forgets)
    crossing(ladder)
    ladder.run(60)
    ladder.check()
    assert ladder.a.status[0].role == "initiator"
    assert len(made(ladder)) == 2


@pytest.mark.parametrize("seed", range(6))
def test_when_the_peer_deletes_the_one_that_was_to_stay_the_other_goes_on(seed, monkeypatch):
    """It keeps the newest, by `replace`, and knows nothing of nonces."""

    def replaces(_new, others, now):
        for other in others:
            yield other, partial(delete_it, other, now)

    def delete_it(other, now):
        delete.ike(other, Cause.REPLACED, "a newer one is there", now)
        other.send_next(now)

    ladder = two(seed)
    other_rule(ladder, monkeypatch, replaces)
    crossing(ladder)
    ladder.run(60)
    ladder.check()
    assert len(made(ladder)) == 2


def test_of_two_tunnels_of_the_same_identities_begun_at_once_neither_ends():
    """Each side begins one of them: they are not two of one tunnel."""
    nets = {"a": proxy_id("10.1.9.0/24", "10.2.9.0/24"), "b": proxy_id("10.2.9.0/24", "10.1.9.0/24")}
    second = {site: peer(site, tunnel="second", proxy_ids=(nets[site],)) for site in nets}
    ladder = Ladder(a=[peer("a"), second["a"]], b=[peer("b"), second["b"]])
    ladder.initiate("a")
    ladder.b.do(ladder.b.core.initiate("second", ladder.path("b"), ladder.clock()))
    ladder.run(60)
    for site in ladder.sites.values():
        assert [len(site.core.status(name, ladder.clock())) for name in (TUNNEL[site.name], "second")] == [1, 1]
        assert len(site.sad.sending) == 2
