"""What rtnetlink reports, from octets: what of ours went, by whom, and what else changed."""

from __future__ import annotations

import socket
import struct
from dataclasses import replace
from ipaddress import ip_network

import pytest

from ipsec_dp.host import HostError, changes
from ipsec_dp.host.bulk import DELROUTE, NEWROUTE, ROUTE, U32, attribute
from ipsec_dp.host.changes import Changes, ChangesSocket, Losses, LossesSocket, add_losses
from ipsec_dp.host.requests import HEADER
from ipsec_dp.host.routing_rules import (
    DELRULE,
    FRA_FWMARK,
    FRA_FWMASK,
    FRA_PRIORITY,
    FRA_PROTOCOL,
    FRA_SUPPRESS_PREFIXLEN,
    FRA_TABLE,
    NEWRULE,
    RoutingRule,
)
from tests.doubles.netlink import MemoryNetlink

TABLE, STATIC, OURS = 0xE5001218, 4, 229
RTA_DST, RTA_TABLE, RTA_PRIORITY = 1, 15, 6


def message(kind, body, port=77):
    return HEADER.pack(HEADER.size + len(body), kind, 0, 1, port) + body


def route(kind, *, protocol=OURS, table=TABLE, unreachable=True, port=77):
    head = ROUTE.pack(socket.AF_INET, 24, 0, 0, 252, protocol, 0, 7 if unreachable else 1, 0)
    parts = (
        attribute(RTA_DST, bytes([10, 2, 0, 0])),
        attribute(RTA_TABLE, U32.pack(table)),
        attribute(RTA_PRIORITY, U32.pack(4_000_000_000)),
    )
    return message(kind, head + b"".join(parts), port)


def rule(kind, *, protocol=OURS, port=77, suppress=0xFFFFFFFF):
    head = ROUTE.pack(socket.AF_INET6, 0, 0, 0, 252, 0, 0, 1, 2)
    parts = (
        attribute(FRA_PRIORITY, U32.pack(20209)),
        attribute(FRA_TABLE, U32.pack(TABLE)),
        attribute(FRA_FWMARK, U32.pack(0xE5)),
        attribute(FRA_FWMASK, U32.pack(0xFFFFFFFF)),
        attribute(FRA_SUPPRESS_PREFIXLEN, U32.pack(suppress)),
        attribute(FRA_PROTOCOL, bytes([protocol])),
    )
    return message(kind, head + b"".join(parts), port)


RULE = RoutingRule(version=6, priority=20209, target=TABLE, mark=(0xE5, 0xFFFFFFFF), invert=True)


def losses(*data):
    into = Losses()
    for each in data:
        add_losses(into, each)
    return into


def test_a_route_with_our_number_that_goes_is_ours_and_one_of_the_hosts_is_not():
    found = losses(route(DELROUTE) + route(DELROUTE, protocol=STATIC) + route(NEWROUTE))
    ((gone, port),) = found.routes
    assert (gone.prefix, gone.table, gone.metric, gone.kind) == (ip_network("10.2.0.0/24"), TABLE, 4_000_000_000, 7)
    assert port == 77


def test_a_route_of_another_protocol_in_a_table_like_ours_may_have_replaced_one():
    assert len(losses(route(NEWROUTE, protocol=STATIC)).routes) == 1


def test_a_rule_that_goes_is_reported_with_all_that_it_compares():
    assert losses(rule(DELRULE)).rules == [(RULE, 77)]
    assert losses(rule(DELRULE, protocol=STATIC)).rules == [(RULE, 77)], "the same rule of somebody else's stood for ours"
    assert losses(rule(DELRULE, suppress=24)).rules == [(replace(RULE, suppress=24), 77)]


def test_who_did_it_is_kept_with_each():
    """The kernel takes a route with its interface, and somebody deletes another, in one reading."""
    found = losses(rule(DELRULE, port=1), route(DELROUTE, port=0), route(DELROUTE, port=2) + rule(DELRULE, port=3))
    assert ([port for _, port in found.routes], [port for _, port in found.rules]) == ([0, 2], [1, 3])


def test_a_rule_that_comes_takes_nothing_of_ours_away_whoever_made_it():
    assert losses(rule(NEWRULE), rule(NEWRULE, protocol=STATIC)) == Losses()


def test_the_kernel_itself_has_no_port():
    assert [port for _, port in losses(route(DELROUTE, port=0)).routes] == [0]


@pytest.mark.parametrize("whole", [route(DELROUTE), rule(DELRULE), rule(NEWRULE, protocol=STATIC)])
def test_what_is_cut_short_adds_nothing(whole):
    for length in range(len(whole)):
        found = losses(whole[:length])
        assert found == Losses()


def opened(monkeypatch, *waiting):
    monkeypatch.setattr(changes, "open_reports", lambda *_: MemoryNetlink(*waiting))


def test_reports_that_did_not_fit_are_told_and_the_rest_is_read(monkeypatch):
    opened(monkeypatch, 105, rule(DELRULE))
    found = LossesSocket().read()
    assert (found.lost, found.rules) == (True, [(RULE, 77)])
    opened(monkeypatch, 105, rule(NEWRULE, protocol=STATIC))
    into = Changes()
    ChangesSocket().read(into)
    assert into == Changes(rules=True, lost=True)


def test_what_goes_of_ours_is_no_change_of_the_host(monkeypatch):
    """Whoever keeps it makes it again, and that is all there is to do."""
    opened(monkeypatch, rule(DELRULE), route(DELROUTE), rule(NEWRULE), route(NEWROUTE))
    into = Changes()
    ChangesSocket().read(into)
    assert not into
    opened(monkeypatch, rule(DELRULE, protocol=STATIC))
    ChangesSocket().read(into)
    assert into


def test_a_flood_is_read_in_parts(monkeypatch):
    opened(monkeypatch, *[rule(DELRULE)] * 100)
    made = LossesSocket()
    assert (len(made.read().rules), len(made.read().rules), len(made.read().rules)) == (64, 36, 0)


def test_a_socket_that_is_refused_is_a_host_error(monkeypatch):
    def refused(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(socket, "socket", refused)
    with pytest.raises(HostError, match="netlink: Operation not permitted"):
        LossesSocket()


def test_headers_are_as_long_as_the_kernels():
    assert (HEADER.size, ROUTE.size, struct.calcsize("=8BI")) == (16, 12, 12)
