"""The configuration: what a good file becomes, and what of it is warned of."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from pathlib import Path

import pytest

from ipsec_dp.config import Config, PskAuth, examine, load
from ipsec_dp.errors import ConfigError
from ipsec_dp.host.sockets import BUFFER_OCTETS
from ipsec_dp.ike.proposal import DEFAULT_ESP, DEFAULT_IKE, parse_esp, parse_ike
from ipsec_dp.ipsec.selectors import ANY_PORT, Range

from .config_files import AUTH, MANUAL, PROXY, TUNNEL, writer


@pytest.fixture
def write(tmp_path):
    return writer(tmp_path)


def test_every_key_of_a_tunnel_becomes_a_value(write, tmp_path):
    config = load(
        write(
            """
            [gateway]
            name = "site-a"
            workers = 2
            keep_closed = true
            strict = true
            offloads = ["udp_gro"]
            nat_flows = "delete"
            [[tunnel]]
            name = "to-b"
            local = "192.0.2.1"
            remote = ["192.0.2.2", "gw.example"]
            interface = "ipsec7"
            address = ["169.254.10.1/30"]
            start = "start"
            encapsulation = "esp"
            routes = "auto"
            legacy = true
            [[tunnel.proxy_id]]
            local = "10.1.0.0/24"
            remote = "10.2.0.0/24"
            protocol = "tcp"
            local_ports = 443
            remote_ports = "5000-5010"
            [tunnel.auth]
            local_id = "gwA.example"
            remote_id = "keyid:gwB"
            psk_file = "to-b.psk"
            unique = "keep"
            [tunnel.ike]
            proposals = ["aes128-sha1-modp1024"]
            lifetime = "4h"
            reauth_after = "1d"
            port = 4500
            fragment_size = 576
            liveness = { interval = "30s", retries = 3, action = "trap" }
            [tunnel.esp]
            proposals = ["aes128gcm16-ecp256"]
            lifetime = "15m"
            rekey_after = "10m"
            life_octets = "64KiB"
            life_packets = 7
            idle_timeout = "90s"
            replay_window = 64
            [[policy]]
            action = "discard"
            remote = "2001:db8::/32"
            [[route]]
            prefix = "10.2.0.128/25"
            tunnel = "to-b"
            """
        )
    )
    assert (config.name, config.workers, config.keep_closed, config.strict) == ("site-a", 2, True, True)
    assert config.offloads == frozenset({"udp_gro"})
    assert config.nat_flows == "delete"
    assert config.control_path == Path("/run/ipsec-dp/site-a.sock")
    tunnel = config.tunnel("to-b")
    assert tunnel.local == ipaddress.ip_address("192.0.2.1")
    assert tunnel.remotes == (ipaddress.ip_address("192.0.2.2"), "gw.example")
    assert (tunnel.interface, tunnel.start, tunnel.encapsulation, tunnel.legacy) == ("ipsec7", "start", "esp", True)
    assert tunnel.addresses == (ipaddress.ip_interface("169.254.10.1/30"),)
    assert tunnel.routes == (ipaddress.ip_network("10.2.0.0/24"),)
    (selector,) = tunnel.selectors
    assert str(selector) == "10.1.0.0/24 <-> 10.2.0.0/24 protocol 6 ports 443 <-> 5000-5010"
    assert (selector.local_ports, selector.remote_ports) == (Range(443, 443), Range(5000, 5010))
    expected = PskAuth(local_id="gwA.example", remote_id="keyid:gwB", psk_file=tmp_path / "to-b.psk", unique="keep")
    assert isinstance(tunnel.auth, PskAuth)
    assert tunnel.auth.material  # a keyed fingerprint of what the file holds: no value to know beforehand
    assert replace(tunnel.auth, material=b"") == expected
    assert (tunnel.ike.reauth_after_s, tunnel.ike.port, tunnel.ike.fragment_size) == (86400, 4500, 576)
    assert tunnel.ike.proposals == parse_ike(["aes128-sha1-modp1024"], legacy=True)
    assert tunnel.esp.proposals == parse_esp(["aes128gcm16-ecp256"])
    assert (tunnel.ike.lifetime_s, tunnel.ike.liveness.interval_s, tunnel.ike.liveness.retries) == (14400, 30, 3)
    assert (tunnel.esp.lifetime_s, tunnel.esp.life_octets, tunnel.esp.life_packets) == (900, 65536, 7)
    assert (tunnel.ike.rekey_after_s, tunnel.esp.rekey_after_s) == (0, 600)
    assert (tunnel.esp.idle_timeout_s, tunnel.esp.replay_window) == (90, 64)
    assert [str(selector) for selector in config.policies[0].selectors] == ["::/0 <-> 2001:db8::/32"]
    assert (str(config.routes[0].prefix), config.routes[0].metric) == ("10.2.0.128/25", 50)


def test_what_is_left_out_has_the_documented_default(write):
    tunnel = load(write(TUNNEL + AUTH)).tunnel("to-b")
    assert (tunnel.interface, tunnel.start, tunnel.encapsulation, tunnel.routes) == ("ipsec0", "on-demand", "auto", ())
    assert [str(selector) for selector in tunnel.selectors] == ["0.0.0.0/0 <-> 0.0.0.0/0", "::/0 <-> ::/0"]
    assert tunnel.selectors[0].local_ports == ANY_PORT
    assert (tunnel.ike.proposals, tunnel.esp.proposals) == (parse_ike(DEFAULT_IKE), parse_esp(DEFAULT_ESP))
    assert (tunnel.ike.lifetime_s, tunnel.esp.lifetime_s, tunnel.esp.life_octets) == (28800, 3600, 500 * 10**9)
    assert tunnel.esp.replay_window == 1024
    assert (tunnel.ike.reauth_after_s, tunnel.ike.port, tunnel.ike.fragment_size) == (0, 500, 1280)
    assert tunnel.auth is not None
    assert tunnel.auth.unique == "replace"


def test_any_peer_is_one_that_only_calls_us(write):
    tunnel = load(write(TUNNEL.replace("192.0.2.2", "any") + AUTH + 'remote_id = "road@example"\n')).tunnel("to-b")
    assert (tunnel.remotes, tunnel.start) == ((), "respond")


@pytest.mark.parametrize(("written", "pin"), [("", False), ("pin = true", True), ("pin = [0, 3]", (0, 3))])
def test_several_workers_are_taken_as_they_are(write, written, pin):
    config, findings = examine(write(f"[gateway]\nname = 'a'\nworkers = 2\n{written}\n"))
    assert config is not None
    assert (config.workers, config.pin) == (2, pin)
    assert [finding for finding in findings if finding.key in ("workers", "pin")] == []


def test_manual_keys_are_used_with_a_warning(write):
    config = load(write(TUNNEL + 'encapsulation = "udp"\n' + MANUAL))
    manual = config.tunnel("to-b").manual
    assert manual is not None
    assert (str(manual.suite), manual.spi_in, manual.spi_out) == ("aes128gcm16", 0x1001, 0x1002)
    assert [finding.key for finding in config.warnings] == ["manual_unsafe"]


def test_manual_keys_without_a_word_on_encapsulation_are_protocol_50(write):
    config = load(write(TUNNEL + MANUAL))
    assert config.tunnel("to-b").encapsulation == "esp"
    assert [finding.key for finding in config.warnings] == ["manual_unsafe", "encapsulation"]


def test_rules_come_in_the_order_of_decision(write):
    config = load(
        write(
            TUNNEL + PROXY + AUTH + '[[policy]]\naction = "discard"\nprotocol = "udp"\nlocal = "10.1.0.7"\nremote = "10.2.0.0/24"\n'
        )
    )
    first, second = config.rules
    assert (first.action, first.interface, first.policy, first.selector.local.prefix_text) == ("discard", None, 0, "10.1.0.7/32")
    assert (second.action, second.interface, second.tunnel, second.proxy_id) == ("protect", "ipsec0", "to-b", 0)


def test_ranges_and_icmp_types_stand_in_the_rules(write):
    policy = '[[policy]]\naction = "discard"\nlocal = "10.1.0.10-10.1.0.20"\nprotocol = "icmp"\nicmp_type = 3\nicmp_code = "1-3"\n'
    selector = load(write(TUNNEL + PROXY + AUTH + policy)).rules[0].selector
    assert str(selector) == "10.1.0.10-10.1.0.20 <-> 0.0.0.0/0 protocol 1 ICMP type 3 code 1-3"
    assert selector.local_ports == selector.remote_ports == (0x0301, 0x0303)


def test_a_range_is_routed_as_prefixes(write):
    proxy = '[[tunnel.proxy_id]]\nlocal = "10.1.0.0/24"\nremote = "10.2.0.1-10.2.0.4"\n'
    routes = load(write(TUNNEL + proxy + AUTH)).tunnels[0].routes
    assert list(map(str, routes)) == ["10.2.0.1/32", "10.2.0.2/31", "10.2.0.4/32"]


def test_socket_buffers_are_as_ever_or_as_written(write):
    assert load(write('[gateway]\nname = "x"\n')).socket_buffer == BUFFER_OCTETS
    assert load(write('[gateway]\nname = "x"\nsocket_buffer = 1048576\n')).socket_buffer == 1 << 20


@pytest.mark.parametrize(("text", "count"), [("", 8), ('offloads = "all"', 8), ('offloads = "none"', 0), ("offloads = []", 0)])
def test_offloads_are_all_none_or_named(write, text, count):
    assert len(load(write(f'[gateway]\nname = "x"\n{text}\n')).offloads) == count


# ---- what is doubtful ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "octets"), [("mlkem768", 1376), ("x25519-mlkem1024-mlkem768", 1776)])
def test_ml_kem_as_the_first_key_exchange_is_warned_of_with_the_octets_of_ike_sa_init(write, words, octets):
    ike = f"[tunnel.ike]\nproposals = ['aes256gcm16-prfsha384-{words}']\n"
    (finding,) = load(write(TUNNEL + AUTH + ike)).warnings
    assert finding.key == "ike.proposals"
    assert f"IKE_SA_INIT has {octets} octets" in str(finding)
    assert not load(write(TUNNEL + AUTH + ike.replace(words, "x25519-ke1_mlkem768"))).warnings


def test_ml_kem_512_cannot_be_written_and_says_why(write):
    for words in ("mlkem512", "x25519-ke1_mlkem512"):
        with pytest.raises(ConfigError, match="of ML-KEM there are mlkem768 and mlkem1024"):
            load(write(TUNNEL + AUTH + f"[tunnel.ike]\nproposals = ['aes256gcm16-prfsha384-{words}']\n"))


def test_doubtful_things_are_warned_of_and_taken(write):
    (write("").parent / "to-b.psk").write_text("short\n")
    text = TUNNEL + AUTH + "[tunnel.esp]\nlifetime = '1h'\nidle_timeout = '2h'\nlife_octets = '1B'\n"
    config = load(write(text))
    assert isinstance(config, Config)
    assert [finding.key for finding in config.warnings] == ["auth.psk_file", "esp.life_octets", "esp.idle_timeout"]
    assert all(": warning: " in str(finding) for finding in config.warnings)
