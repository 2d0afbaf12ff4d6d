"""What `status` shows a person."""

from __future__ import annotations

import io
from typing import Any

import msgspec
import pytest
from rich.console import Console

from ipsec_dp.cli import render
from ipsec_dp.gateway.status import GatewayStatus

ANSWER: dict[str, Any] = {
    "schema": 1,
    "gateway": "site-a",
    "provider": "intel-ipsec-mb",
    "offloads": {"tun_tso": True, "udp_gro": False},
    "warnings": ['tunnel "to-b": keys are set by hand'],
    "tunnels": [
        {
            "name": "to-b",
            "state": "up",
            "state_text": "both SAs are installed",
            "last_error": "no route to 192.0.2.2 [at start]",
            "remote": "192.0.2.2",
            "nat": "none",
            "mtu": 1438,
            "ike": None,
            "children": [
                {
                    "spi_in": "0x00001001",
                    "spi_out": "0x00001002",
                    "suite": "aes256gcm16",
                    "esn": True,
                    "local_ts": ["10.1.0.0/24"],
                    "remote_ts": ["10.2.0.0/24[tcp/443]"],
                    "packets_in": 12,
                    "octets_in": 123456,
                    "packets_out": 0,
                    "octets_out": 0,
                    "age_s": 61.5,
                    "rekey_in_s": None,
                }
            ],
        }
    ],
    "drops": {"replay": 0, "icv": 7},
    "drop_sentences": {"icv": "integrity check value is wrong", "replay": "sequence number was already received"},
}


def shown(answer, *, terminal=None) -> str:
    file = io.StringIO()
    console = Console(file=file, width=80, force_terminal=terminal, color_system=None)
    render.print_status(msgspec.convert(answer, GatewayStatus), console)
    return file.getvalue()


def test_status_says_so_where_a_tunnel_speaks_ikev1():
    ike = {"spi_i": "1", "spi_r": "2", "role": "initiator", "proposal": "aes256", "rekey_in_s": 60.0}
    for version, said in ((2, "initiator"), (1, "IKEv1")):
        tunnel = ANSWER["tunnels"][0] | {"ike": ike | {"version": version}}
        assert said in shown(ANSWER | {"tunnels": [tunnel]})
    assert "IKEv1" not in shown(ANSWER | {"tunnels": [ANSWER["tunnels"][0] | {"ike": ike}]})


def test_it_says_so_where_the_table_has_no_room_for_it():
    ike = {"role": "initiator", "proposal": "aes256cbc-sha256-modp2048", "version": 1, "fallback": "refused by version"}
    tunnel = ANSWER["tunnels"][0] | {
        "name": "a-name-as-long-as-a-site-may-well-have",
        "remote": "2001:db8::1234:5678:9abc",
        "ike": ike,
    }
    text = shown(ANSWER | {"tunnels": [tunnel]}, terminal=True)
    assert "aes256cbc-sha256" not in text
    assert "both SAs are installed; by IKEv1 (fallback)" in " ".join(text.split())


def test_status_says_what_an_ikev1_peer_says_of_itself():
    ike = {"role": "initiator", "proposal": "aes256", "rekey_in_s": 60.0, "version": 1}
    for vendors, unknown, said in (
        (["strongSwan", "DPD"], 2, "strongSwan, DPD, 2 unknown"),
        (["DPD"], 0, "DPD"),
        ([], 1, "1 unknown"),
    ):
        tunnel = ANSWER["tunnels"][0] | {"ike": ike | {"vendors": vendors, "unknown_vendors": unknown}}
        assert f"to-b: the peer says: {said}\n" in " ".join(shown(ANSWER | {"tunnels": [tunnel]}).split(" ")).replace(" \n", "\n")
    assert "the peer says" not in shown(ANSWER | {"tunnels": [ANSWER["tunnels"][0] | {"ike": ike}]})


def test_status_shows_tunnels_children_warnings_and_drops_with_their_meaning():
    text = shown(ANSWER)
    for part in (
        "gateway site-a  provider intel-ipsec-mb  offloads tun_tso",
        'warning: tunnel "to-b": keys are set by hand',
        "to-b: both SAs are installed",
        "to-b: no route to 192.0.2.2 [at start]",
        "0x00001001 / 0x00001002",
        "aes256gcm16-esn",
        "10.1.0.0/24 <-> 10.2.0.0/24[tcp/443]",
        "12 (123.5 kB)",
        "1m 01s",
        "integrity check value is wrong",
    ):
        assert part in text, part


def test_the_mtu_inside_and_that_of_the_path():
    (tunnel,) = ANSWER["tunnels"]
    assert "1438 of 1500" in shown({**ANSWER, "tunnels": [{**tunnel, "path_mtu": 1500}]})
    assert " of " not in shown({**ANSWER, "tunnels": [{**tunnel, "path_mtu": None}]})


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"encapsulation": "esp"}, "ESP"),
        ({"encapsulation": "esp", "encapsulation_why": "configured"}, "ESP"),
        ({"encapsulation": "esp", "encapsulation_why": "fallback"}, "ESP (fallback)"),
        ({"encapsulation": "esp", "encapsulation_why": "peer"}, "ESP (peer)"),
        ({"encapsulation": "udp", "encapsulation_why": "auto"}, "UDP"),
        ({"encapsulation": "udp", "encapsulation_why": "peer"}, "UDP (peer)"),
        ({"encapsulation": "udp", "encapsulation_why": "configured"}, "UDP (configured)"),
        ({"encapsulation": "udp", "encapsulation_why": "nat", "nat": "remote"}, "UDP (NAT remote)"),
        ({"encapsulation": "udp", "encapsulation_why": "configured", "nat": "both"}, "UDP (configured, NAT both)"),
        ({"nat": "local"}, "NAT local"),
        ({}, "-"),
    ],
)
def test_how_esp_travels_and_why(fields, text):
    (tunnel,) = ANSWER["tunnels"]
    answer = msgspec.convert({**ANSWER, "tunnels": [{**tunnel, **fields}]}, GatewayStatus)
    file = io.StringIO()
    render.print_status(answer, Console(file=file, width=200))
    row = next(line for line in file.getvalue().splitlines() if line.startswith("to-b") and "192.0.2.2" in line)
    assert [cell.strip() for cell in row.split("\u2502")][3] == text


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"encapsulation": "esp", "encapsulation_why": "fallback"}, "UDP does not get through"),
        ({"encapsulation": "esp", "encapsulation_why": "peer"}, "the peer does not detect NATs"),
        ({"encapsulation": "esp", "encapsulation_why": "configured"}, 'encapsulation = "esp" is written here'),
        ({"encapsulation": "udp", "encapsulation_why": "auto"}, None),
        ({"encapsulation": "esp"}, None),
    ],
)
def test_what_goes_slower_than_it_could_is_said_with_its_cost(fields, words):
    (tunnel,) = ANSWER["tunnels"]
    text = " ".join(shown({**ANSWER, "tunnels": [{**tunnel, **fields}]}).split())
    assert ("to-b: ESP goes as IP protocol 50, which costs throughput" in text) is (words is not None)
    assert words is None or words in text


def test_what_a_tunnel_carried_in_all_and_what_happened_to_it():
    (tunnel,) = ANSWER["tunnels"]
    totals = {"packets_in": 12, "octets_in": 3400, "packets_out": 10, "octets_out": 2000, "drops": {"icv": 2, "replay": 1}}
    happened = {"attempts": 3, "failures": 1, "flaps": 0, "retransmissions": 4}
    text = " ".join(shown({**ANSWER, "tunnels": [{**tunnel, "totals": totals, **happened}]}).split())
    assert "to-b: since the start 12 packets (3.4 kB) in, 10 (2.0 kB) out; 3 packets dropped, 3 attempts, 1 failure" in text
    assert "4 retransmissions" in text
    assert "since the start 3 attempts" in " ".join(shown({**ANSWER, "tunnels": [{**tunnel, "attempts": 3}]}).split())
    assert "since the start" not in shown(ANSWER)


def test_what_ike_counted_where_it_led_to_nothing():
    text = shown({**ANSWER, "ike_counters": {"malformed": 3, "out_of_window": 1, "unauthenticated": 0, "sessions": 7}})
    assert "IKE since the start: 3 malformed, 1 out of window" in text
    assert "IKE since" not in shown({**ANSWER, "ike_counters": {"sessions": 7, "half_open": 1}})


def test_each_zone_rule_with_what_it_held_and_what_none_did():
    rules = [
        {"from": "lan", "to": "vpn", "action": "allow", "packets": 12, "octets": 3400},
        {"from": "vpn", "to": "lan", "action": "deny", "packets": 0, "octets": 0},
    ]
    text = shown({**ANSWER, "zones": {"denied": 7, "rules": rules}})
    lines = [line.replace("│", " ").split() for line in text.splitlines()]
    assert ["#1", "lan", "vpn", "allow", "12", "(3.4", "kB)"] in lines
    assert ["#2", "vpn", "lan", "deny", "0", "(0", "B)"] in lines
    assert ["none", "deny", "7"] in lines
    assert "Zones" not in shown({**ANSWER, "zones": None})


def test_a_reason_that_dropped_nothing_is_not_shown():
    assert "already received" not in shown(ANSWER)
    assert "Dropped" not in shown({**ANSWER, "drops": {"icv": 0}})


LONG6 = "[2001:db8:1234:5678:9abc:def0:1234:5678]:65535"


def test_the_last_dropped_packets_with_their_likely_cause_within_80_columns():
    cause = "192.0.2.1 is this host's own address: something masquerades (exempt the interface: nft insert rule ip nat …)"
    examples = [
        {"text": "udp 192.0.2.1:5 -> 10.2.0.2:53, ipsec0", "ago_s": 12.3, "cause": cause},
        {"text": f"tcp {LONG6} -> {LONG6}, ipsec0", "ago_s": 70, "cause": cause},
        {"text": "udp 10.1.0.2:5 -> 10.7.0.2:53, ipsec0", "ago_s": 71, "cause": "another [one]"},
    ]
    answer = msgspec.convert({"drops": {"policy_none": 24}, "drop_examples": {"policy_none": examples}}, GatewayStatus)
    file = io.StringIO()
    Console(file=file, width=80).print(render.drop_examples(answer))
    text = file.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    lines = text.splitlines()
    at = lines.index(next(line for line in lines if line.startswith("Last dropped")))
    assert [line.strip() for line in lines[at + 1 : at + 3]] == ["policy_none", "12s ago  udp 192.0.2.1:5 -> 10.2.0.2:53, ipsec0"]
    assert text.count("likely:") == 2
    assert "likely: another [one]" in text
    for part in (LONG6, "something masquerades", "nft insert rule ip nat"):
        assert part in " ".join(text.split()), part
    assert "Last dropped" in shown({**ANSWER, "drop_examples": {"policy_none": examples}})


def test_without_examples_there_is_no_list_of_them():
    assert "Last dropped" not in shown(ANSWER)


def test_an_answer_of_another_version_is_shown_as_far_as_it_goes():
    assert "gateway ?" in shown({})
    assert "to-b" in shown({"tunnels": [{"name": "to-b"}]})


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0, "0s"), (59.9, "59s"), (60, "1m 00s"), (3599, "59m 59s"), (3660, "1h 01m"), (90000, "1d 01h")],
)
def test_durations(seconds, text):
    assert render.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_950, "1.0 MB"), (17_200_000, "17.2 MB"), (5 * 10**15, "5000.0 TB")],
)
def test_octets(count, text):
    assert render.octets(count) == text


def test_watch_shows_it_again_after_each_interval_until_interrupted():
    fetched, slept = [], []

    def fetch():
        fetched.append(1)
        return msgspec.convert(ANSWER, GatewayStatus)

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 3:
            raise KeyboardInterrupt

    render.watch(fetch, sleep, 1.0, Console(file=io.StringIO(), force_terminal=True, width=120))
    assert (len(fetched), slept) == (3, [1.0, 1.0, 1.0])
