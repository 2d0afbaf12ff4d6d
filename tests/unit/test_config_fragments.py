"""What `check` says of selectors with ports: hosts' datagrams in fragments do not pass."""

from __future__ import annotations

import pytest

from ipsec_dp.config.fragments import UNLESS, WHAT_IS_LOST
from tests.doubles.config import PSK, configured, proxy_id, tunnel

PAIR = proxy_id("10.1.0.0/24", "10.2.0.0/24")
POLICY = '[[policy]]\naction = "{}"\n{}remote = "10.2.0.0/24"\nprotocol = "udp"\nremote_ports = 53\n'


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
