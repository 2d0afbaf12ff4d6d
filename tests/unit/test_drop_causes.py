"""The likely cause of a drop: each row of the table is the answer to some packet."""

from __future__ import annotations

import re
from ipaddress import ip_address

import pytest

from ipsec_dp.dataplane import DROP_SENTENCES, Direction, DropExample
from ipsec_dp.gateway.drop_causes import CAUSES, Scene, cause_of
from ipsec_dp.ipsec.selectors import PORT_OPAQUE
from tests.doubles.config import PSK, configured, proxy_id, tunnel

OUT, IN = Direction.OUTBOUND, Direction.INBOUND
WEB = '  [[tunnel.proxy_id]]\n  local = "10.1.0.0/24"\n  remote = "10.5.0.0/24"\n  protocol = "tcp"\n  remote_ports = 443\n'
POLICY = '[[policy]]\naction = "discard"\nremote = "10.9.0.0/16"\n[[policy]]\naction = "bypass"\nremote = "10.8.0.0/16"\n'
OWN = frozenset(map(ip_address, ("192.0.2.1", "10.1.0.1")))


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return configured(tmp_path_factory.mktemp("causes"), POLICY, tunnel(keys=PSK + proxy_id("10.1.0.0/24", "10.2.0.0/24") + WEB))


def packet(source=None, destination=None, protocol=17, ports=(5555, 53), direction=OUT, spi=None) -> DropExample:
    ends = [None if end is None else ip_address(end) for end in (source, destination)]
    return DropExample(1, direction, ends[0], ends[1], protocol, ports[0], ports[1], 0, None, spi, spi is not None)


def cause(config, reason, example, carrier=None, state="down: no answer"):
    return cause_of(reason, Scene(example, config.rules, config.tunnels, OWN, "ipsec0", carrier, lambda _: state))


NO_PORTS = (PORT_OPAQUE, PORT_OPAQUE)
EXEMPTION = 'nft insert rule ip nat POSTROUTING oifname "ipsec0" return'
ROWS = {
    "a group": ("policy_none", packet("10.1.0.2", "224.0.0.5", 89, NO_PORTS), "224.0.0.5 is a group"),
    "masqueraded": ("policy_none", packet("192.0.2.1", "10.2.0.2"), f"own address .* masquerades .*{EXEMPTION}"),
    "masqueraded elsewhere": ("policy_none", packet("192.0.2.1", "10.7.0.2"), "this host's own address"),
    "own and inside": ("policy_none", packet("10.1.0.1", "10.7.0.2"), "no proxy ID has it as remote"),
    "backwards": ("policy_none", packet("10.2.0.2", "10.1.0.2"), "10.2.0.2 lies on the peer's side"),
    "a later fragment": ("policy_none", packet("10.1.0.2", "10.5.0.2", 6, NO_PORTS), "a later fragment shows no ports"),
    "other ports": ("policy_none", packet("10.1.0.2", "10.5.0.2", 6, (1, 80)), "<-> 10.5.0.0/24 protocol 6 .* ports are not"),
    "another source": ("policy_none", packet("10.3.0.2", "10.2.0.2"), "10.2.0.2 is protected, but 10.3.0.2 is in no proxy ID"),
    "another destination": ("policy_none", packet("10.1.0.2", "10.7.0.2"), "leads 10.7.0.2 into ipsec0, and no proxy ID has it"),
    "neither": ("policy_none", packet("10.3.0.2", "10.7.0.2"), "names either end"),
    "without addresses": ("policy_none", packet(), "names either end"),
    "discarded": ("policy_discard", packet("10.1.0.2", "10.9.0.2"), "policy #1 of the configuration says discard"),
    "bypass": ("policy_bypass", packet("10.1.0.2", "10.8.0.2"), "policy #2 says bypass"),
    "no SA": ("no_sa", packet("10.1.0.2", "10.2.0.2"), 'tunnel "to-b" is down: no answer'),
    "an old SA": ("unknown_spi", packet("192.0.2.2", "192.0.2.1", spi=7, direction=IN), 'peer of tunnel "to-b" uses an SA'),
    "a stranger": ("unknown_spi", packet("198.51.100.1", "192.0.2.1", spi=7, direction=IN), "a stranger"),
    "masqueraded there": ("selectors", packet("192.0.2.2", "10.1.0.2", direction=IN), "outer address: something masquerades"),
    "agreed for less": ("selectors", packet("10.2.0.2", "10.1.0.2", direction=IN), 'tunnel "to-b" may carry it .* agreed for less'),
    "not agreed": ("selectors", packet("10.7.0.2", "10.1.0.2", direction=IN), "seals what was not agreed"),
    "discarded inbound": ("policy_inbound", packet("10.9.0.2", "10.1.0.2", direction=IN), "policy #1 discards the other direction"),
    "no packet came": ("inner_length", packet(direction=IN, spi=7), "the peer sealed something"),
    "no packet goes": ("inner_length", packet(), "something wrote to the interface"),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_a_packet_has_its_cause(config, name):
    reason, example, expected = ROWS[name]
    assert re.search(expected, cause(config, reason, example)), cause(config, reason, example)


def test_a_packet_that_came_before_its_tunnel_was_up_is_not_explained_by_what_is_now(config):
    text = cause(config, "no_sa", packet("10.1.0.2", "10.2.0.2"), state="up")
    assert text == 'tunnel "to-b" is up now, and had no CHILD_SA for it when it came'


def test_every_reason_has_a_cause_that_is_more_than_its_sentence(config):
    known = {reason for case in CAUSES for reason in case.reasons.split()}
    assert known <= DROP_SENTENCES.keys()
    for reason, sentence in DROP_SENTENCES.items():
        assert cause(config, reason, packet("10.1.0.2", "10.2.0.2"))
        if reason in known:
            assert cause(config, reason, packet("10.1.0.2", "10.2.0.2")) != sentence


def test_what_the_table_does_not_know_says_what_the_reason_says(config):
    assert cause(config, "a new reason", packet()) == "a new reason"


@pytest.mark.parametrize("reason", DROP_SENTENCES)
@pytest.mark.parametrize("direction", [OUT, IN])
@pytest.mark.parametrize("ends", [(None, None), ("10.1.0.2", "10.2.0.2"), ("fd00::1", "ff02::1"), ("192.0.2.2", "192.0.2.1")])
def test_no_packet_is_without_an_answer(config, reason, direction, ends):
    for carrier in (None, "to-b"):
        text = cause(config, reason, packet(ends[0], ends[1], direction=direction), carrier)
        assert text
        assert "None" not in text
