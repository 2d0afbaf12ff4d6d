"""Where a configuration lets two identities have one prefix, `check` says so."""

from __future__ import annotations

import time

import pytest

from ipsec_dp.config.findings import Findings
from ipsec_dp.config.identities import check_identities
from ipsec_dp.util.collection import no_collection
from tests.doubles.config import PSK, configured, proxy_id, tunnel


def road(name: str, remote: str, who: str = "", local: str = "10.0.0.0/16", at: str = "any") -> str:
    """A tunnel on an interface of its own, whose peer is NAME.example unless it is said who."""
    keys = PSK + f'  remote_id = "{who or name}.example"\n'
    made = tunnel(name, 'routes = "none"', remote=at, interface=f"i-{name}", keys=keys)
    return made + (proxy_id(local, remote) if remote else "")


def warned(directory, *tables):
    return [finding for finding in configured(directory, *tables).warnings if "whoever is" in finding.wrong]


def test_both_are_warned_of_with_identity_tunnel_and_prefix(tmp_path):
    one, two = warned(tmp_path, road("alice", "10.9.0.0/24"), road("bob", "10.9.0.0/24"))
    assert (one.where, one.key) == ('tunnel "alice"', "proxy_id")
    assert one.wrong == (
        'whoever is alice.example may have 10.0.0.0/16 <-> 10.9.0.0/24, of which tunnel "bob" has '
        "10.0.0.0/16 <-> 10.9.0.0/24 for another"
    )
    assert two.where == 'tunnel "bob"'


GOOD = {
    "prefixes of their own": (road("a", "10.9.1.0/24"), road("b", "10.9.2.0/24")),
    "one identity for both": (road("a", "10.9.0.0/24"), road("b", "10.9.0.0/24", who="a")),
    "the same name in other letters": (road("a", "10.9.0.0/24", who="CN=a"), road("b", "10.9.0.0/24", who="cn=A")),
    "other local addresses": (road("a", "10.9.0.0/24"), road("b", "10.9.0.0/24", local="10.1.0.0/16")),
    "wholly within a site's": (road("a", "10.9.0.0/24"), road("b", "10.0.0.0/8", at="192.0.2.9")),
    "two sites with addresses": (road("a", "10.9.0.0/24", at="192.0.2.8"), road("b", "10.9.0.0/24", at="192.0.2.9")),
}


@pytest.mark.parametrize("tables", GOOD.values(), ids=GOOD)
def test_where_nobody_could_take_anything_nothing_is_said(tmp_path, tables):
    assert warned(tmp_path, *tables) == []


def test_the_wider_one_of_two_is_warned_of(tmp_path):
    (finding,) = warned(tmp_path, road("a", "10.9.0.0/24"), road("b", "10.0.0.0/8"))
    assert finding.where == 'tunnel "b"'


def test_everything_is_everybodys(tmp_path):
    found = warned(tmp_path, road("a", ""), road("b", "10.9.0.0/24", at="192.0.2.9"))
    assert [(finding.where, finding.key) for finding in found] == [('tunnel "a"', "interface")]


def test_a_thousand_of_them_take_no_time(tmp_path):
    tables = [road(f"a{number}", f"10.{number >> 8}.{number & 255}.0/24", local="172.16.0.0/16") for number in range(1000)]
    config = configured(tmp_path, *tables)
    with no_collection():
        began = time.process_time()
        check_identities(config.tunnels, Findings(str(tmp_path)))
        assert time.process_time() - began < 0.5
