"""The zones' log: listened to while a rule is to be logged, and each line says which rule, from where to where, and what packet."""

from __future__ import annotations

import asyncio
import logging

import pytest

from ipsec_dp.host.nflog import Line
from ipsec_dp.host.zones import log_group
from ipsec_dp.rig.packets import udp
from ipsec_dp.services.zone_log import ZoneLog, describe
from tests.doubles.config import configured, tunnel
from tests.doubles.host import MemoryReports

ZONES = '[[zone]]\nname = "vpn"\ninterfaces = ["ipsec0"]\n[[zone]]\nname = "lan"\ninterfaces = ["eth1"]\n'
SILENT = '[[zone_rule]]\nfrom = "lan"\nto = "vpn"\n'
LOGGED = '[[zone_rule]]\nfrom = "vpn"\nto = "lan"\naction = "deny"\nlog = true\n'
GROUP = f"log group {log_group('gw')}"
PACKET = udp("10.2.0.2", "10.1.0.2", ports=(4000, 53))


@pytest.fixture
def configs(tmp_path):
    def made(*rules):
        return configured(tmp_path, tunnel(), ZONES, *rules)

    return made


def test_it_listens_only_while_a_rule_is_to_be_logged(configs):
    calls: list[str] = []
    service = ZoneLog(MemoryReports(calls.append))
    asyncio.run(service.apply(configs(SILENT)))
    assert calls == []
    for _ in range(2):
        asyncio.run(service.apply(configs(SILENT, LOGGED)))
    assert calls == [f"{GROUP} heard"]
    asyncio.run(service.apply(configs(SILENT)))
    assert calls == [f"{GROUP} heard", f"{GROUP} no longer heard"]


def test_it_ends_with_the_gateway_and_ending_twice_is_nothing(configs):
    calls: list[str] = []
    service = ZoneLog(MemoryReports(calls.append))
    asyncio.run(service.apply(configs(LOGGED)))
    asyncio.run(service.close())
    asyncio.run(service.close())
    assert calls == [f"{GROUP} heard", f"{GROUP} no longer heard"]


def test_a_line_names_the_rule_as_it_is_configured_now(configs, caplog):
    reports = MemoryReports(lambda _: None)
    service = ZoneLog(reports)
    asyncio.run(service.apply(configs(SILENT, LOGGED)))
    with caplog.at_level(logging.INFO):
        reports.report(GROUP, Line("zone_rule #2", PACKET))
        asyncio.run(service.apply(configs(LOGGED.replace("deny", "allow"))))
        reports.report(GROUP, Line("zone_rule #1", PACKET))
        reports.report(GROUP, Line("zone_rule #2", PACKET))  # of the former configuration: there is no such rule any more
    packet = describe(PACKET)
    assert [record.message for record in caplog.records] == [
        f'zone_rule #2 denies from "vpn" to "lan": {packet}',
        f'zone_rule #1 allows from "vpn" to "lan": {packet}',
    ]


@pytest.mark.parametrize(
    ("source", "destination", "text"),
    [
        ("10.2.0.2", "10.1.0.2", "10.2.0.2/32[17/4000] -> 10.1.0.2/32[17/53]"),
        ("fd02::2", "fd01::2", "fd02::2/128[17/4000] -> fd01::2/128[17/53]"),
    ],
)
def test_a_packet_is_described_by_its_ends(source, destination, text):
    assert describe(udp(source, destination, ports=(4000, 53))) == text


@pytest.mark.parametrize("packet", [b"", b"\x45", b"\x00" * 40])
def test_what_is_no_packet_is_not_taken_for_one(packet):
    assert describe(packet) == "a packet of no IP version"
