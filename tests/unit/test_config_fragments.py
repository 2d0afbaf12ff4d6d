"""What `check` says of selectors with ports: hosts' datagrams in fragments do not pass."""

from __future__ import annotations

import pytest

from ipsec_dp.config.fragments import UNLESS, WHAT_IS_LOST
from ipsec_dp.errors import ConfigError
from ipsec_dp.ipsec.selectors import OPAQUE_PORTS
from tests.doubles.config import MANUAL, PSK, configured, proxy_id, tunnel

PAIR = proxy_id("10.1.0.0/24", "10.2.0.0/24")
POLICY = '[[policy]]\naction = "{}"\n{}remote = "10.2.0.0/24"\nprotocol = "udp"\nremote_ports = 53\n'


def refusals(directory, *tables):
    with pytest.raises(ConfigError) as refused:
        configured(directory, *tables)
    return [finding for finding in refused.value.findings if finding.severity == "error"]


def told(directory, *tables):
    return [(finding.where, finding.key, finding.wrong) for finding in configured(directory, *tables).warnings]


@pytest.mark.parametrize(
    "bounds",
    ['protocol = "udp"\nremote_ports = 9000', 'protocol = "udp"\nlocal_ports = "1024-65535"', 'protocol = "icmp"\nicmp_type = 8'],
)
def test_one_line_says_what_does_not_pass(tmp_path, bounds):
    assert told(tmp_path, tunnel(keys=f"{PAIR}{bounds}\n{PSK}")) == [
        ('tunnel "to-b"', "proxy_id", f"asks for ports: {WHAT_IS_LOST}")
    ]
    assert "16395" not in UNLESS, "a name tells more than its number"


def test_of_several_the_first_is_named_and_the_others_are_counted(tmp_path):
    tables = [
        tunnel(f"t{n}", keys=proxy_id("10.1.0.0/24", f"10.{n}.0.0/24") + f'protocol = "udp"\nremote_ports = 1\n{PSK}')
        for n in (2, 3)
    ]
    assert told(tmp_path, *tables) == [('tunnel "t2"', "proxy_id", f"asks for ports (and 1 more): {WHAT_IS_LOST}")]


def test_a_policy_into_a_tunnel_may_ask_for_them(tmp_path):
    made = tunnel(keys=PAIR + PSK)
    assert [where for where, *_ in told(tmp_path, made, POLICY.format("protect", 'tunnel = "to-b"\n'))] == ["policy #1"]
    assert told(tmp_path, made, POLICY.format("discard", "")) == []


@pytest.mark.parametrize("bounds", ["", 'protocol = "udp"', 'protocol = "tcp"\nremote_ports = 443'])
def test_nothing_is_said_where_nothing_is_lost(tmp_path, bounds):
    """TCP cuts its stream to what passes."""
    assert told(tmp_path, tunnel(keys=f"{PAIR}{bounds}\n{PSK}")) == []


# ---- later fragments by an SA of their own (RFC 4301 §7.2)

PORTED = f'{PAIR}protocol = "udp"\nremote_ports = 53\n'
OPAQUE = f'{PAIR}protocol = "udp"\nremote_ports = "opaque"\n'
WIDER = proxy_id("10.1.0.0/16", "10.0.0.0/8") + 'protocol = "udp"\nlocal_ports = "opaque"\n'
ECHO = f'{PAIR}protocol = "icmp"\nicmp_type = 8\n'
LATER_ICMP = f'{PAIR}protocol = "icmp"\nicmp_type = "opaque"\n'


@pytest.mark.parametrize("proxy_ids", [PORTED + OPAQUE, OPAQUE + PORTED, PORTED + WIDER, ECHO + LATER_ICMP])
def test_nothing_is_lost_where_a_proxy_id_is_for_later_fragments(tmp_path, proxy_ids):
    assert told(tmp_path, tunnel(keys=proxy_ids + PSK)) == []


@pytest.mark.parametrize(
    "other", [LATER_ICMP, proxy_id("10.1.0.0/24", "10.2.0.0/25") + 'protocol = "udp"\nlocal_ports = "opaque"\n']
)
def test_one_for_others_helps_nothing(tmp_path, other):
    wrongs = [wrong for *_, wrong in told(tmp_path, tunnel(keys=PORTED + other + PSK))]
    assert f"asks for ports: {WHAT_IS_LOST}" in wrongs


def test_either_side_means_both(tmp_path):
    """A packet that hides one port hides the other."""
    _, later = configured(tmp_path, tunnel(keys=PORTED + OPAQUE + PSK)).tunnels[0].selectors
    assert (later.local_ports, later.remote_ports, later.opaque) == (OPAQUE_PORTS, OPAQUE_PORTS, True)
    assert str(later) == "10.1.0.0/24 <-> 10.2.0.0/24 protocol 17 ports opaque"
    assert later.remote_text == "10.2.0.0/24[17/opaque]"


@pytest.mark.parametrize(
    ("keys", "key", "wrong"),
    [
        ('protocol = "udp"\nlocal_ports = "opaque"\nremote_ports = 53\n', "proxy_id #1.remote_ports", "53 is shown by no packet"),
        ('local_ports = "opaque"\n', "proxy_id #1.local_ports", 'protocol "any" has no ports'),
        ('protocol = 47\nlocal_ports = "opaque"\n', "proxy_id #1.local_ports", 'protocol "47" has no ports'),
        ('protocol = "icmp"\nicmp_type = "opaque"\nicmp_code = 0\n', "proxy_id #1.icmp_code", "means nothing without a type"),
    ],
)
def test_what_no_packet_shows_is_refused(tmp_path, keys, key, wrong):
    (error,) = refusals(tmp_path, tunnel(keys=PAIR + keys + PSK))
    assert (f"{error.where} {error.key}".endswith(key), wrong in error.wrong) == (True, True), error


def test_keys_set_by_hand_have_no_second_pair_of_sas(tmp_path):
    (error,) = refusals(tmp_path, tunnel(keys=PORTED + OPAQUE + MANUAL))
    assert "take SAs of their own" in error.wrong
    assert configured(tmp_path, tunnel(keys=OPAQUE + MANUAL)).tunnels[0].manual is not None


def test_alone_it_carries_no_datagram(tmp_path):
    ((_, key, wrong),) = told(tmp_path, tunnel(keys=OPAQUE + PSK))
    assert (key, "nothing here carries their first ones" in wrong) == ("proxy_id", True)


def test_bypass_and_zones_know_no_later_fragments(tmp_path):
    made = tunnel(keys=PAIR + PSK)
    bypass = '[[policy]]\naction = "bypass"\nremote = "10.9.0.0/24"\nprotocol = "udp"\nremote_ports = "opaque"\n'
    zones = (
        '[[zone]]\nname = "a"\ninterfaces = ["eth1"]\n[[zone]]\nname = "b"\ninterfaces = ["ipsec0"]\n'
        '[[zone_rule]]\nfrom = "a"\nto = "b"\nprotocol = "udp"\ndestination_ports = "opaque"\n'
    )
    assert "later fragments" in refusals(tmp_path, made, bypass)[0].wrong
    (error,) = refusals(tmp_path, made, zones)
    assert (error.where, error.key) == ("zone_rule #1", "destination_ports")


def test_a_discard_of_later_fragments_is_a_policy_as_any(tmp_path):
    made = tunnel(keys=PAIR + PSK)
    discard = '[[policy]]\naction = "discard"\nremote = "10.2.0.0/24"\nprotocol = "udp"\nremote_ports = "opaque"\n'
    assert told(tmp_path, made, discard) == []
