"""Connections that NAT caught before they were routed into a tunnel: which they are, which are deleted, and what is said."""

from __future__ import annotations

import asyncio
import logging
from ipaddress import ip_address

import pytest

from ipsec_dp.host.conntrack import FlowTuple, NatFlow
from ipsec_dp.ipsec.selectors import PORT_OPAQUE
from ipsec_dp.services.nat_flows import AGAIN_S, DELETED_MOST, TOLD_MOST, CaughtFlows, NatFlows
from ipsec_dp.util.rest import MOST_S
from tests.doubles.clock import FakeClock
from tests.doubles.config import PSK, configured, proxy_id, tunnel
from tests.doubles.host import MemoryHost

A, B, OUTER = "10.1.0.2", "10.2.0.2", "192.0.2.1"
SITE = PSK + proxy_id("10.1.0.0/24", "10.2.0.0/24")
BYPASS = '[[policy]]\naction = "bypass"\nlocal = "10.1.0.0/24"\nremote = "10.2.0.128/25"\n'


def flow(source=A, destination=B, translated=OUTER, protocol=17, ports=(5555, 7000), number=1):
    ends = [ip_address(each) for each in (source, destination, translated)]
    return NatFlow(number, protocol, FlowTuple(ends[0], ends[1], *ports), FlowTuple(ends[1], ends[2], *reversed(ports)))


def judged(config, each):
    found = CaughtFlows(config).judge(each)
    return None if found is None else found.interface


@pytest.fixture
def config(tmp_path):
    return configured(
        tmp_path,
        BYPASS,
        tunnel("to-b", keys=SITE),
        tunnel("to-all", remote="192.0.2.9", interface="ipsec1", keys=PSK),
    )


# ---- which flows ----------------------------------------------------------------------------------------------------------------

NO_PORTS = (PORT_OPAQUE, PORT_OPAQUE)
REFUSED = {
    "not translated": flow(translated=A),
    "another destination": flow(destination="10.7.0.2"),
    "below": flow(destination="10.1.255.255"),
    "another source": flow(source="10.3.0.2"),
    "bypassed": flow(destination="10.2.0.129"),
    "translated into the selectors": flow(translated="10.1.0.1"),
    "towards us": flow(source=B, destination=A),
    "IKE": flow(ports=(500, 500)),
    "NAT-T": flow(ports=(4500, 61000)),
    "to the peer's NAT-T": flow(ports=(61000, 4500)),
    "ESP": flow(protocol=50, ports=NO_PORTS),
    "everything": flow(source="10.4.0.2", destination="203.0.113.1"),
    "the other IP version": flow("fd00:1::2", "fd00:2::2", "2001:db8::1"),
}


def test_a_flow_whose_translated_source_takes_it_out_of_its_tunnel(config):
    assert judged(config, flow()) == "ipsec0"
    assert judged(config, flow(protocol=6)) == "ipsec0"
    assert judged(config, flow(protocol=6, ports=(500, 4500))) == "ipsec0", "only UDP has our ports"
    assert judged(config, flow(protocol=89, ports=NO_PORTS)) == "ipsec0"


@pytest.mark.parametrize("name", REFUSED)
def test_all_others_are_left_alone(config, name):
    assert judged(config, REFUSED[name]) is None


@pytest.mark.parametrize(("remote", "other"), [("0.0.0.0/0", "203.0.113.1"), ("::/0", "2001:db8:9::1")])
def test_a_tunnel_for_everything_has_none(tmp_path, remote, other):
    local, source, outer = ("10.1.0.0/24", A, OUTER) if ":" not in remote else ("fd00:1::/64", "fd00:1::2", "2001:db8::1")
    everything = configured(tmp_path, tunnel(keys=PSK + proxy_id(local, remote)))
    assert judged(everything, flow(source, other, outer)) is None
    named = configured(tmp_path, tunnel(keys=PSK + proxy_id(local, f"{other}/{'128' if ':' in other else '32'}")))
    assert judged(named, flow(source, other, outer)) == "ipsec0"


def test_a_discard_before_the_tunnel_wins_and_one_behind_it_does_not(tmp_path):
    discard = '[[policy]]\naction = "discard"\nremote = "10.2.0.0/25"\n'
    assert judged(configured(tmp_path, discard, tunnel(keys=SITE)), flow()) is None
    protect = '[[policy]]\naction = "protect"\ntunnel = "to-b"\nlocal = "10.1.0.0/24"\nremote = "10.2.0.0/24"\n'
    assert judged(configured(tmp_path, protect, discard, tunnel(keys=SITE)), flow()) == "ipsec0"


def test_ports_of_a_selector_count(tmp_path):
    web = '  [[tunnel.proxy_id]]\n  local = "10.1.0.0/24"\n  remote = "10.2.0.0/24"\n  protocol = "tcp"\n  remote_ports = 443\n'
    config = configured(tmp_path, tunnel(keys=PSK + web))
    assert judged(config, flow(protocol=6, ports=(1, 443))) == "ipsec0"
    assert judged(config, flow(protocol=6, ports=(1, 80))) is None


def test_overlapping_remotes_are_all_asked(tmp_path):
    keys = PSK + proxy_id("10.1.0.0/24", "10.2.0.0/16") + proxy_id("10.6.0.0/24", "10.2.3.0/24")
    config = configured(tmp_path, tunnel(keys=keys))
    assert judged(config, flow(source="10.6.0.2", destination="10.2.3.4")) == "ipsec0"
    assert judged(config, flow(source="10.6.0.2", destination="10.2.4.4")) is None
    assert judged(config, flow(destination="10.2.255.255")) == "ipsec0"


# ---- what is done about them ----------------------------------------------------------------------------------------------------


class Site:
    """The service on a host in memory."""

    def __init__(self, directory, what="tell", *tables):
        self.directory, self.clock = directory, FakeClock()
        self.config = self.configured(what, *tables)
        self.host = MemoryHost(self.config, self.clock)
        self.service = NatFlows(self.host, self.clock)

    def configured(self, what, *tables):
        head = f'nat_flows = "{what}"\n'
        return configured(self.directory, head, *(tables or (tunnel(keys=SITE),)))

    @property
    def flows(self):
        return self.host.flows

    @property
    def told(self):
        return self.host.conditions.texts

    async def transition(self, config=None, *, meanwhile=()):
        """Routes begin to lead in; `meanwhile` come after that."""
        config = self.config if config is None else config
        await self.service.before_routes(config)
        self.flows.present += meanwhile
        await self.service.apply(config)

    def lives(self, *steps):
        async def life():
            try:
                for step in steps:
                    await step()
            finally:
                await self.service.close()

        asyncio.run(life())


def numbered(count, first=1):
    return [flow(ports=(10000 + number, 7000), number=number) for number in range(first, first + count)]


def test_tell_names_each_with_the_command_that_frees_it_and_deletes_nothing(tmp_path, caplog):
    site = Site(tmp_path)
    site.flows.present = [flow(), flow(translated=A, number=2)]
    told = []

    async def look():
        await site.transition()
        told.extend(site.told)

    site.lives(look)
    (text,) = told
    assert text == (
        "udp 10.1.0.2:5555 -> 10.2.0.2:7000: NAT gave this connection the source 192.0.2.1 before it was routed into ipsec0, and "
        "keeps it, so it is dropped; to free it: conntrack -D -f ipv4 -p udp -s 10.1.0.2 -d 10.2.0.2 --sport 5555 --dport 7000"
    )
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [(logging.WARNING, told[0])]
    assert site.flows.deleted == []
    assert site.told == [], "it ends with the gateway"


def test_delete_takes_what_was_there_before_the_routes_and_says_so(tmp_path, caplog):
    site = Site(tmp_path, "delete")
    old, new = flow(), flow(ports=(1, 2), number=2)
    site.flows.present = [old, flow(destination="203.0.113.1", number=3)]

    async def look():
        await site.transition(meanwhile=[new])
        assert site.flows.deleted == [old]
        assert new in site.flows.present, "a rule that covers the interface would catch it again"
        (told,) = site.told
        assert 'exempt it: nft insert rule ip nat POSTROUTING oifname "ipsec0" return' in told

    site.lives(look)
    assert "nat_flows = delete: deleted 1 tracked connections" in caplog.text
    assert old.text in caplog.text


def test_a_connection_with_the_same_ends_that_came_later_is_another_one(tmp_path):
    site = Site(tmp_path, "delete")
    site.flows.present = [flow(number=1)]

    async def look():
        await site.service.before_routes(site.config)
        site.flows.present = [flow(number=2)]
        await site.service.apply(site.config)
        assert site.flows.deleted == []

    site.lives(look)


def test_no_more_than_a_thousand_at_a_transition(tmp_path):
    site = Site(tmp_path, "delete")
    site.flows.present = numbered(DELETED_MOST + 7)

    async def look():
        await site.transition()
        assert len(site.flows.deleted) == DELETED_MOST
        assert len(site.told) == TOLD_MOST + 1
        assert site.told[-1].startswith("2 more connections keep a translated source")

    site.lives(look)


def test_a_reload_deletes_only_what_its_own_routes_lead_in(tmp_path):
    """What the former configuration led in already was translated all the same."""
    site = Site(tmp_path, "delete")
    led_in, elsewhere = flow(), flow(destination="10.6.0.2", number=2)
    more = site.configured("delete", tunnel(keys=SITE + proxy_id("10.1.0.0/24", "10.6.0.0/24")))

    async def look():
        await site.transition()
        site.flows.present = [led_in, elsewhere]
        await site.transition(more)
        assert site.flows.deleted == [elsewhere]

    site.lives(look)


def test_the_same_configuration_again_deletes_nothing(tmp_path):
    site = Site(tmp_path, "delete")

    async def look():
        await site.transition()
        site.flows.present = [flow()]
        await site.transition()
        await site.service.apply(site.config)
        assert site.flows.deleted == []

    site.lives(look)


def test_ignore_does_not_look(tmp_path):
    site = Site(tmp_path, "ignore")
    site.flows.present = [flow()]

    async def look():
        await site.transition()
        site.service.ask()
        await site.clock.advance(AGAIN_S)
        assert (site.flows.asked, site.told) == (0, [])

    site.lives(look)


def test_it_looks_again_while_there_is_something_to_tell_and_not_otherwise(tmp_path):
    site = Site(tmp_path)
    site.flows.present = [flow()]

    async def look():
        await site.transition()
        assert len(site.told) == 1
        site.flows.present = []
        await site.clock.advance(AGAIN_S + 1)
        assert site.told == []
        asked = site.flows.asked
        await site.clock.advance(10 * AGAIN_S)
        assert site.flows.asked == asked

    site.lives(look)


def test_it_looks_when_asked_but_not_again_and_again(tmp_path):
    site = Site(tmp_path)

    async def look():
        await site.transition()
        site.flows.present = [flow()]
        asked = site.flows.asked
        for _ in range(5):
            site.service.ask()
            await site.clock.advance(1)
        assert site.flows.asked == asked + 1
        assert len(site.told) == 1

    site.lives(look)


def test_a_fault_in_one_look_does_not_end_it(tmp_path):
    site = Site(tmp_path)

    async def look():
        await site.transition()
        translated = site.flows.translated

        async def broken():
            raise ValueError("a flow without ends")

        site.flows.translated = broken
        site.service.ask()
        await site.clock.advance(1)
        site.flows.translated = translated
        site.flows.present = [flow()]
        site.service.ask()
        await site.clock.advance(AGAIN_S)
        assert len(site.told) == 1

    site.lives(look)


def test_a_suspension_in_the_middle_of_a_look_makes_it_blind_for_a_minute_at_the_most(tmp_path):
    site = Site(tmp_path)

    async def look():
        await site.transition()
        translated = site.flows.translated

        async def slow():
            await site.clock.sleep(1.0)
            return await translated()

        site.flows.translated = slow
        site.service.ask()
        await site.clock.leap(8 * 3600.0)
        site.flows.translated = translated
        site.flows.present = [flow()]
        site.service.ask()
        await site.clock.advance(MOST_S)
        assert len(site.told) == 1

    site.lives(look)
