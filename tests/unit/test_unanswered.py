"""Traffic that goes one way alone is told while it lasts, and nothing is told of flows that do so by their nature."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import msgspec
import pytest

from ipsec_dp.dataplane import Direction, Unanswered
from ipsec_dp.keying.status import KeyingStatus
from ipsec_dp.rig.clock import NS_PER_S
from ipsec_dp.rig.plane import pair
from ipsec_dp.services.monitor_health import MonitorStatus
from ipsec_dp.services.unanswered import LEAST, LEAST_EVER, NAMED, PATIENCE_S, WAIT_S, UnansweredTraffic
from ipsec_dp.util.conditions import Conditions
from tests.doubles.clock import FakeClock
from tests.unit.sites import to_a, to_b
from tests.unit.test_tunnel_traffic import ECHO, ECHO_REPLY, GOES_ON, OPENS, data

ESP = KeyingStatus(state="up", state_text="up", remote="192.0.2.2", encapsulation="esp", heard_at=float("inf"))
LOST = Unanswered(0, Direction.OUTBOUND, False, 20, 30, 0)


class Site:
    """What the data plane finds is `found`; what IKE and the monitor say can be set."""

    def __init__(self):
        self.clock = FakeClock()
        self.conditions = Conditions(self.clock)
        self.found = [LOST]
        self.keying, self.monitor = ESP, None
        self.names = {number: f"t{number}" for number in range(50)}
        self.another: list[str] = []  # tunnels for which another way was tried
        self.goes = False  # there is one
        self.service = self.made(lambda: self.found)

    def made(self, scan):
        known = (lambda _: self.keying), (lambda _: self.monitor)
        return UnansweredTraffic(scan, self.names.get, *known, self.conditions, self.clock, self.tries)

    def tries(self, name):
        """Another way for a tunnel."""
        self.another.append(name)
        return self.goes

    def look(self, seconds=0.0):
        """A look each second, for so long, and now."""
        asyncio.run(self._look(int(seconds)))
        return self.conditions.texts

    async def _look(self, seconds):
        self.service.look()
        for _ in range(seconds):
            await self.clock.leap(1.0)
            self.service.look()


@pytest.fixture
def site():
    return Site()


def test_nothing_comes_back_over_ip_protocol_50(site, caplog):
    assert site.look(WAIT_S - 1) == []
    with caplog.at_level(logging.WARNING):
        (text,) = site.look(1)
    assert text.startswith(
        'tunnel "t0": nothing comes back: 20 packets that want an answer (of 30) were sealed within 10 s, and none came in, nor '
        'ever before: IP protocol 50 (ESP) is blocked on the way, while IKE passes: let it pass, or try encapsulation = "udp"'
        " here; or the peer has no policy or route for the way back, or the host that is asked does not answer"
    )
    site.look(60)
    assert [record.getMessage() for record in caplog.records] == [text], "once"
    assert f'tunnel "t0": {site.service.trouble("t0")}' == text
    assert site.service.trouble("t1") is None
    site.found = []
    assert site.look() == []
    assert site.service.trouble("t0") is None


@pytest.mark.parametrize(
    ("found", "least"), [(LOST, LEAST_EVER), (replace(LOST, last=NS_PER_S), LEAST)], ids=["nothing ever", "something before"]
)
def test_one_question_is_none(site, found, least):
    site.found = [replace(found, asked=least - 1)]
    assert site.look(30) == []
    site.found = [replace(found, asked=least)]
    assert len(site.look()) == 1


def test_what_came_before_makes_other_causes_likelier(site):
    site.found = [replace(LOST, last=round((site.clock.now() - 30) * NS_PER_S))]
    (text,) = site.look(WAIT_S)
    assert "none came in, the last one 40 s ago: the peer has no policy or route for the way back" in text
    assert text.endswith(
        'or IP protocol 50 (ESP) is blocked on the way, while IKE passes: let it pass, or try encapsulation = "udp" here'
    )


def test_in_udp_the_way_is_free(site):
    site.keying = msgspec.structs.replace(ESP, encapsulation="udp")
    (text,) = site.look(WAIT_S)
    assert "protocol 50" not in text
    assert "UDP as such passes, since IKE does on the same port" in text


def test_whether_ike_passes_is_waited_for_and_not_claimed(site):
    site.keying = msgspec.structs.replace(ESP, heard_at=site.clock.now() - 1)
    assert site.look(PATIENCE_S - 1) == []
    (text,) = site.look(1)
    assert "while IKE passes" not in text
    assert 'IP protocol 50 (ESP) is blocked on the way: let it pass, or try encapsulation = "udp" here' in text


def test_a_peer_that_does_not_answer_ike_is_told_of_by_that(site):
    site.keying = msgspec.structs.replace(ESP, silent=True)
    assert site.look(60) == []
    site.keying = ESP
    assert len(site.look()) == 1


def test_tcp_that_goes_on_has_answers_by_another_way(site):
    site.found = [replace(LOST, goes_on=True)]
    assert site.look(60) == []
    site.found = [replace(LOST, goes_on=True, last=NS_PER_S)]
    assert len(site.look()) == 1, "it had them here before"


def test_a_monitor_with_answers_knows_better(site):
    site.monitor = MonitorStatus(state="up", rtt_ms=1.0)
    assert site.look(60) == []
    site.monitor = MonitorStatus(state="up")  # it has none yet
    assert len(site.look()) == 1


def test_what_comes_in_and_is_not_answered_here(site):
    site.found = [replace(LOST, direction=Direction.INBOUND)]
    (text,) = site.look(WAIT_S)
    assert "nothing goes back: 20 packets that want an answer (of 30) came in within 10 s, and none was sealed" in text
    for words in ("ip_forward", "filter", "route back", "policy explain SRC DST --inbound"):
        assert words in text


def test_an_answer_and_new_questions_begin_the_time_anew(site):
    site.look(WAIT_S - 1)
    site.found = []
    site.look()
    site.found = [LOST]
    assert site.look(WAIT_S - 1) == []


def test_of_very_many_tunnels_the_first_are_named_each(site):
    site.found = [replace(LOST, tunnel=number) for number in range(NAMED + 3)]
    texts = site.look(WAIT_S)
    assert len(texts) == NAMED + 1
    assert texts[-1] == "over further tunnels packets that want an answer get none: t16, t17, t18"
    assert site.service.trouble("t18") is not None


def test_a_tunnel_that_is_gone_is_not_told_of(site):
    site.names.clear()
    assert site.look(60) == []


# ---- with a data plane: one packet a second


@pytest.fixture
def path():
    """Gateways a and b with a service each, between which `blocked` directions lose everything."""
    with pair("aes128gcm16") as sites:
        yield Path(sites)


class Path:
    def __init__(self, sites):
        self.sites, self.blocked = sites, set()
        self.at = {}
        for name in "ab":
            site = Site()
            site.service = site.made(getattr(sites, name).plane.unanswered)
            self.at[name] = site

    def second(self, *packets, back=()):
        """A second in which `packets` go from a to b, and then `back` from b to a."""
        for name, sent in (("a", packets), ("b", back)):
            gateway = getattr(self.sites, name)
            gateway.push(*sent)
            gateway.step()
            self.sites.carry(gateway)
            other = self.sites.peer(gateway)
            while (delivery := self.sites.wire.take(other.name)) is not None:
                if name not in self.blocked:
                    other.arrive(delivery.data)
            other.step()
        self.sites.clock.advance(1)
        for site in self.at.values():
            site.look(1)

    def told(self):
        return {name for name, site in self.at.items() if site.conditions.texts}


def test_fifteen_seconds_of_pings_into_a_blocked_path(path):
    path.blocked = {"a"}
    for _ in range(15):
        path.second(ECHO)
    assert path.told() == {"a"}
    path.blocked = set()
    path.second(ECHO, back=[ECHO_REPLY])
    assert path.told() == set()


def test_the_way_back_is_blocked(path):
    path.blocked = {"b"}
    for _ in range(15):
        path.second(ECHO, back=[ECHO_REPLY])
    assert path.told() == {"a"}, "b sees both"


def test_b_gives_no_answer(path):
    for _ in range(15):
        path.second(ECHO)
    assert path.told() == {"a", "b"}


def test_a_stream_goes_one_way_for_ever(path):
    for _ in range(60):
        path.second(*[to_b(b"stream")] * 15)
    assert path.told() == set()
    for _ in range(15):
        path.second(OPENS)
    assert path.told() == {"a", "b"}, "the counter-test"


def test_a_path_that_works_and_rests_in_between(path):
    for _ in range(20):
        path.second(ECHO, OPENS, back=[ECHO_REPLY])
        path.second()
    for _ in range(20):
        path.second(to_b(b"stream"), back=[to_a(b"now and then")])
    assert path.told() == set()


@pytest.mark.parametrize("blocked", ["a", "b"])
def test_a_tcp_connection_that_hangs(path, blocked):
    path.second(data(1), back=[to_a(b"acknowledges")])
    path.blocked = {blocked}
    sent = {0: 3, 1: 1, 3: 1, 6: 1, 12: 1}  # at 0, 0.2, 0.6, 1.4, 3, 6.2 and 12.6 s (RFC 6298)
    for second in range(15):
        path.second(*[data(11)] * sent.get(second, 0))
    assert path.told() == {"a"} | ({"b"} if blocked == "b" else set())


def test_tcp_whose_answers_take_another_way(path):
    for _ in range(30):
        path.second(OPENS, GOES_ON)
    assert path.told() == set()


# ---- another way ----------------------------------------------------------------


UDP = msgspec.structs.replace(ESP, encapsulation="udp", encapsulation_why="auto", came_up_at=1000.0)


def test_where_nothing_came_since_it_is_up_another_way_is_tried(site):
    site.keying, site.goes = UDP, True
    assert site.look(WAIT_S - 1) == []
    assert site.another == []
    (text,) = site.look(1)
    assert "nothing comes back" in text, "it is told all the same"
    assert site.another == ["t0"]
    site.look(60)
    assert site.another == ["t0"], "what was asked before says nothing of the other way"
    site.found = [replace(LOST, asked=LOST.asked + LEAST_EVER)]
    assert site.look(1) == [text]
    assert site.another == ["t0", "t0"], "nor does anything come by that one"
    site.found = []
    assert site.look(1) == []


@pytest.mark.parametrize(
    ("found", "keying"),
    [
        (replace(LOST, last=1001 * NS_PER_S), UDP),  # something came since it is up
        (LOST, msgspec.structs.replace(UDP, heard_at=float("-inf"))),  # nobody knows that IKE passes
        (replace(LOST, direction=Direction.INBOUND), UDP),
        (replace(LOST, goes_on=True), UDP),  # there are answers, by another tunnel
    ],
    ids=["carried", "IKE silent", "inbound", "answered elsewhere"],
)
def test_else_none_is(site, found, keying):
    site.keying, site.goes, site.found = keying, True, [found]
    site.look(60)
    assert site.another == []
