"""The configuration: what a good file becomes, and the one line that each bad thing gets."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import replace
from pathlib import Path

import pytest

from ipsec_dp.config import Config, PskAuth, examine, load, model, tables
from ipsec_dp.errors import ConfigError, Finding
from ipsec_dp.host import routes
from ipsec_dp.host.sockets import BUFFER_OCTETS
from ipsec_dp.ike.proposal import DEFAULT_ESP, DEFAULT_IKE, parse_esp, parse_ike
from ipsec_dp.ipsec.selectors import ANY_PORT, Range

TUNNEL = """
[[tunnel]]
name = "to-b"
remote = "192.0.2.2"
"""
AUTH = """
[tunnel.auth]
psk_file = "to-b.psk"
"""
PROXY = """
[[tunnel.proxy_id]]
local = "10.1.0.0/24"
remote = "10.2.0.0/24"
"""
SECOND = TUNNEL.replace("to-b", "to-c")
SECOND_PROXY = PROXY.replace("10.2", "10.3")
MANUAL = """
[tunnel.manual_unsafe]
suite = "aes128gcm16"
spi_in = 0x1001
spi_out = 0x1002
key_in_file = "in.key"
key_out_file = "out.key"
"""


@pytest.fixture
def write(tmp_path):
    """Writes a configuration beside the files it may name, and returns its path."""
    for name, text in [("to-b.psk", "correct horse battery staple\n"), ("in.key", "0a" * 20), ("out.key", "0b" * 20)]:
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)

    def write(text: str) -> Path:
        path = tmp_path / "a.toml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def errors_of(write):
    """The lines that a text's errors get, without the file's name."""

    def errors_of(text: str) -> list[str]:
        path = write(text)
        config, findings = examine(path)
        errors = [str(finding).removeprefix(f"{path}:").split(" ", 1)[1] for finding in findings if finding.severity == "error"]
        assert all(finding.line for finding in findings), "each finding has its place"
        assert (config is None) == bool(errors)
        return errors

    return errors_of


def expect(lines: list[str], *patterns: str) -> None:
    """Exactly these lines, each matching its pattern."""
    assert len(lines) == len(patterns), lines
    for line, pattern in zip(lines, patterns, strict=True):
        assert re.search(pattern, line), line


# ---- good files ----------------------------------------------------------------------------------------------------------------


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


# ---- bad files, one line each ----------------------------------------------------------------------------------------------------

ONE_LINE = [
    # text, what its line says
    ("[gatewai]", '^gatewai: unknown table; did you mean "gateway"\\?$'),
    ("[gateway]\nworkrs = 2", '^gateway: workrs: unknown key; did you mean "workers"\\?$'),
    (
        "[gateway]\nsocket_buffer = 65535",
        "buffer of 65535 octets cannot be; write a number from 65536 to 67108864$",
    ),
    ("[gateway]\nsocket_buffer = 67108865", "^gateway: socket_buffer: a buffer of 67108865 octets cannot be; "),
    ("[gateway]\nworkers = 0", "^gateway: workers: 0 workers cannot be; write a number from 1 to 64$"),
    ("[gateway]\npin = []", "^gateway: pin: holds no CPU; write the numbers of CPUs, true or false$"),
    ("[gateway]\npin = [1, 1024]", "^gateway: pin: 1024 is the number of no CPU; write numbers from 0 to 1023$"),
    (
        '[gateway]\noffloads = "some"',
        '^gateway: offloads: "some" is not taken here; write "all" or "none" or an array, each "tun_csum" or ',
    ),
    ('[gateway]\noffloads = ["gro"]', '^gateway: offloads: an array is not taken here; .* each "tun_csum" or '),
    ('[gateway]\nname = "a/b"', "^gateway: name: 'a/b' cannot be a name; "),
    ("gateway = 5", "^gateway: is an integer, not a table; "),
    ("[tunnel]\nname = 5", r"^tunnel: is a table, not an array of tables; write \[\[tunnel\]\]"),
    ("a = 1\nx = ]", r"^not TOML: invalid value \(at line 2, column 5\); "),
    ("a = " + "[" * 100_000, "^not TOML: arrays or tables are nested too deeply; "),
    ("a = " + "9" * 5000, "^not TOML: exceeds the limit "),
    ("[[tunnel]]\nremote = '192.0.2.2'" + AUTH, "^tunnel #1: name: is missing; "),
    ("[[tunnel]]\nname = 'x'" + AUTH, '^tunnel "x": remote: is missing; write a string'),
    (TUNNEL, '^tunnel "to-b": auth: is missing; write \\[tunnel.auth\\]'),
    (TUNNEL + "[tunnel.auth]", '^tunnel "to-b": auth: names no psk_file and no certificate; '),
    (TUNNEL + AUTH + MANUAL, '^tunnel "to-b": auth: stands beside manual_unsafe; '),
    (TUNNEL + MANUAL + "[tunnel.ike]", '^tunnel "to-b": ike: stands beside manual_unsafe; '),
    (TUNNEL + AUTH + 'certificate = "x.pem"', "auth.certificate: stands beside psk_file; "),
    (TUNNEL + 'strat = "start"' + AUTH, 'strat: unknown key; did you mean "start"\\?$'),
    (TUNNEL + 'start = "never"' + AUTH, 'start: "never" is not taken here; write "start" or "on-demand" or "respond"$'),
    (TUNNEL + "legacy = 1" + AUTH, "legacy: an integer is not taken here; write a boolean$"),
    (TUNNEL + 'interface = "a-very-long-name"' + AUTH, "interface: .* has 16 characters; an interface name has 15 at the most"),
    (TUNNEL + 'interface = "a/b"' + AUTH, 'interface: "a/b" cannot be an interface; '),
    (TUNNEL + 'interface = "lo"' + AUTH, 'interface: "lo" cannot be an interface; '),
    (TUNNEL + 'local = "2001:db8::1"' + AUTH, "remote: 192.0.2.2 is not of the IP version of local = 2001:db8::1; write an IPv6"),
    (TUNNEL + 'local = "192.0.2.2"' + AUTH, "remote: 192.0.2.2 is also local; "),
    (TUNNEL + 'local = "192.0.2.256"' + AUTH, 'local: "192.0.2.256" is not an IP address; '),
    (TUNNEL + 'local = "%any"' + AUTH, 'local: "%any" is not an IP address; leave it out, or write one address'),
    (TUNNEL.replace("192.0.2.2", "%any") + AUTH, 'remote: "%any" is neither an IP address nor a DNS name; write remote = "any"'),
    (TUNNEL + AUTH + 'local_id = "any"\n', 'auth.local_id: "any" is nobody; write an address, an FQDN'),
    (TUNNEL + AUTH + 'remote_id = "*.example"\n', r"auth.remote_id: '\*.example' is a pattern, which nobody fits; write"),
    (TUNNEL + AUTH + PROXY.replace("10.1.0.0/24", "any"), 'proxy_id #1.local: "any" is not a prefix; leave it out, or write'),
    (TUNNEL.replace("192.0.2.2", "192.0.2.256") + AUTH, 'remote: "192.0.2.256" is neither an IP address nor a DNS name; '),
    (TUNNEL.replace("192.0.2.2", "224.0.0.1") + AUTH, "remote: 224.0.0.1 is no address of one host; "),
    (TUNNEL.replace('"192.0.2.2"', '["any", "192.0.2.2"]') + AUTH, 'remote: "any" stands in a list; '),
    (TUNNEL.replace('"192.0.2.2"', "[]") + AUTH, "remote: is empty; "),
    (TUNNEL.replace("192.0.2.2", "any") + AUTH, 'auth.remote_id: is missing, and remote is "any"; '),
    (TUNNEL.replace("192.0.2.2", "any") + 'start = "start"' + AUTH + 'remote_id = "x"', 'start: "start" needs a peer to call'),
    (TUNNEL.replace("192.0.2.2", "any") + MANUAL, "remote: manual keys belong to one peer; write its address$"),
    (TUNNEL.replace("192.0.2.2", "gw.example") + MANUAL, "remote: gw.example is a name, and manual keys belong to one address; "),
    (TUNNEL + 'address = ["169.254.1.1/33"]' + AUTH, 'address: "169.254.1.1/33" is not an address with prefix length; '),
    (
        TUNNEL + 'routes = ["10.2.0.1/24"]' + AUTH,
        'routes: "10.2.0.1/24" has bits set behind its prefix length; write "10.2.0.0/24"$',
    ),
    (
        TUNNEL + AUTH + PROXY.replace("10.1.0.0/24", "10.1.0.0/255.255.0.0"),
        'proxy_id #1.local: "10.1.0.0/255.255.0.0" is not a prefix; ',
    ),
    (TUNNEL + AUTH + PROXY.replace("10.1.0.0/24", "10.1.0.9-10.1.0.1"), 'proxy_id #1.local: "10.1.0.9-10.1.0.1" runs backwards; '),
    (TUNNEL + AUTH + PROXY.replace("10.1.0.0/24", "10.1.0.9-fd00::1"), 'local: "10.1.0.9-fd00::1" is not a range of addresses; '),
    (TUNNEL + AUTH + PROXY.replace("10.1.0.0/24", "10.1.0.9-x"), 'local: "10.1.0.9-x" is not a range of addresses; '),
    (TUNNEL + AUTH + PROXY + "icmp_type = 8", 'proxy_id #1.icmp_type: protocol "any" has no ICMP types; '),
    (TUNNEL + AUTH + PROXY + 'protocol = "icmp"\nicmp_type = 256', 'proxy_id #1.icmp_type: "256" is not an ICMP type; '),
    (TUNNEL + AUTH + PROXY + 'protocol = "icmp"\nicmp_code = 1', "proxy_id #1.icmp_code: means nothing without a type; "),
    (
        TUNNEL + AUTH + PROXY + 'protocol = "icmp"\nicmp_type = 3\nicmp_code = "3-1"',
        'icmp_code: "3-1" is not an ICMP code or range',
    ),
    (TUNNEL + AUTH + PROXY.replace("10.1.0.0/24", "fe80::%eth0/64"), 'proxy_id #1.local: "fe80::%eth0/64" is not a prefix; '),
    (TUNNEL + AUTH.replace("to-b.psk", "a\\u0000b"), "auth.psk_file: .* is no file name; "),
    (TUNNEL + AUTH + PROXY + 'protocol = "tpc"', 'proxy_id #1.protocol: "tpc" is not a protocol; write any, tcp'),
    (TUNNEL + AUTH + PROXY + "protocol = 0", 'proxy_id #1.protocol: "0" is not a protocol; '),
    (TUNNEL + AUTH + PROXY + "local_ports = 53", 'proxy_id #1.local_ports: protocol "any" has no ports; write protocol = "tcp"'),
    (TUNNEL + AUTH + PROXY + 'protocol = 6\nremote_ports = "9-7"', 'remote_ports: "9-7" runs backwards; write "7-9"$'),
    (TUNNEL + AUTH + PROXY + "protocol = 6\nremote_ports = 65536", "remote_ports: .* above the last port; "),
    (TUNNEL + AUTH + PROXY + 'protocol = "icmpv6"', 'protocol: "icmpv6" is not of IPv4; write "icmp"$'),
    (TUNNEL + AUTH + PROXY.replace("10.2.0.0/24", "2001:db8::/32"), "remote: .* is not of the IP version of local = 10.1.0.0/24; "),
    (TUNNEL + AUTH + "[tunnel.ike]\nproposals = []", "ike.proposals: is empty; "),
    (TUNNEL + AUTH + "[tunnel.ike]\nproposals = ['aes128-sha256-modp1024']", "ike.proposals: .*'modp1024' .* legacy = true"),
    (
        TUNNEL + AUTH + "[tunnel.ike]\nlifetime = '8 hours'",
        'ike.lifetime: "8 hours" is not a time; write a number and s, m, h or d',
    ),
    (TUNNEL + AUTH + "[tunnel.ike]\nreauth_after = 'daily'", 'ike.reauth_after: "daily" is not a time; '),
    (TUNNEL + AUTH + "[tunnel.ike]\nreauth_after = '366d'", "ike.reauth_after: 366 days are longer than a year; .* 0s"),
    (TUNNEL + AUTH + "[tunnel.ike]\nport = 501", "ike.port: 501 is no port that IKE starts on; write 500 or 4500 "),
    (TUNNEL + AUTH + "[tunnel.ike]\nfragment_size = 575", "ike.fragment_size: 575 octets cannot be; write 576 to 65535, e.g. 1280"),
    (TUNNEL + AUTH + "[tunnel.ike]\nfragment_size = 65536", "ike.fragment_size: 65536 octets cannot be; "),
    (TUNNEL + AUTH + "unique = 'maybe'", 'auth.unique: "maybe" is not taken here; write "replace" or "keep" or "never"'),
    (TUNNEL + AUTH + "[tunnel.ike]\nliveness = { retries = 0 }", "ike.liveness.retries: 0 retries cannot be; "),
    (
        TUNNEL + AUTH + "[tunnel.esp]\nproposals = ['3des-md5']",
        "esp.proposals: .*'3des' is not known here; .*; the words are aes128gcm16 .* sha256 .* esn noesn$",
    ),
    (TUNNEL + AUTH + "[tunnel.esp]\nlifetime = '0s'", "esp.lifetime: 0s is too little; write 1s or more$"),
    (
        TUNNEL + AUTH + "[tunnel.esp]\nlifetime = '1h'\nrekey_after = '1h'",
        "esp.rekey_after: 3600s is not before the lifetime of 3600s",
    ),
    (TUNNEL + AUTH + "[tunnel.esp]\nlifetime = '9999d'", "esp.lifetime: 9999 days are no lifetime; "),
    (TUNNEL + AUTH + "[tunnel.esp]\nlife_octets = '5 gigs'", 'esp.life_octets: "5 gigs" is not a size; .*"20GB"'),
    (TUNNEL + AUTH + "[tunnel.esp]\nlife_packets = -1", "esp.life_packets: -1 is too little; write 0 or more$"),
    (
        TUNNEL + AUTH + "[tunnel.esp]\nreplay_window = 1000",
        "esp.replay_window: 1000 is not a power of two from 64 to 8192; write 1024$",
    ),
    (TUNNEL + AUTH + "[tunnel.esp]\nreplay_window = 16384", "esp.replay_window: 16384 is not .*; write 8192$"),
    (TUNNEL + MANUAL.replace("0x1001", "255"), "manual_unsafe.spi_in: 0xff is no SPI of an SA; write 0x100 to 0xffffffff"),
    (TUNNEL + MANUAL.replace("spi_in = 0x1001", ""), "manual_unsafe.spi_in: is missing; write an integer, e.g. 4097$"),
    (TUNNEL + MANUAL.replace("in.key", "none.key"), "manual_unsafe.key_in_file: no such file: .*none.key; create it"),
    (TUNNEL + MANUAL.replace("in.key", "out.key"), "manual_unsafe.key_out_file: holds the same key as .*out.key"),
    (TUNNEL + AUTH.replace("to-b.psk", "none.psk"), "auth.psk_file: no such file: "),
    (TUNNEL + AUTH + TUNNEL + 'interface = "ipsec1"' + AUTH, '^tunnel "to-b": name: 2 tunnels have this name; '),
    (TUNNEL + AUTH + '[[policy]]\naction = "protect"\nlocal = "10.0.0.0/8"', "^policy #1: tunnel: is missing under protect; "),
    (TUNNEL + AUTH + '[[policy]]\naction = "discard"\ntunnel = "to-b"', "^policy #1: tunnel: has no meaning under discard; "),
    (
        TUNNEL + AUTH + '[[policy]]\naction = "protect"\ntunnel = "to-c"',
        '^policy #1: tunnel: no tunnel is named "to-c"; did you mean "to-b"',
    ),
    (TUNNEL + AUTH + '[[policy]]\naction = "drop"', '^policy #1: action: "drop" is not taken here; write "protect" or "bypass" or'),
    (TUNNEL + AUTH + '[[route]]\nprefix = "10.3.0.0/16"\ntunnel = "x"', '^route #1: tunnel: no tunnel is named "x"; '),
    (
        TUNNEL + AUTH + PROXY + '[[route]]\nprefix = "10.3.0.0/16"\ntunnel = "to-b"',
        "^route #1: prefix: 10.3.0.0/16 lies outside what",
    ),
    (TUNNEL + AUTH + '[[route]]\nprefix = "10.3.0.0/16"\ntunnel = "to-b"\nmetric = 0', "^route #1: metric: 0 cannot be a metric; "),
    (
        TUNNEL + AUTH + '[[route]]\nprefix = "10.3.0.0/16"\ntunnel = "to-b"\nmetric = 4000000000',
        "^route #1: metric: 4000000000 cannot be a metric; write a number from 1 to 3999999999$",
    ),
    (
        TUNNEL + PROXY + 'protocol = "tcp"\n' + AUTH + '[[route]]\nprefix = "fd00:2::/64"\ntunnel = "to-b"\n',
        '^route #1: prefix: fd00:2::/64 is IPv6, and no proxy ID of tunnel "to-b" is; add a proxy ID of IPv6, ',
    ),
    (
        TUNNEL + 'routes = ["10.2.0.0/24", "10.7.0.0/16"]\n' + PROXY + AUTH,
        '^tunnel "to-b": routes: 10.7.0.0/16 lies outside what tunnel "to-b" protects; write a part of 10.2.0.0/24$',
    ),
    (
        TUNNEL
        + 'address = ["169.254.10.1/30"]\n'
        + PROXY
        + AUTH
        + SECOND
        + 'address = ["169.254.10.2/30"]\n'
        + SECOND_PROXY
        + AUTH,
        '^tunnel "to-c": address: 169.254.10.2/30 and 169.254.10.1/30 of tunnel "to-b" are in one network of one interface; ',
    ),
    (
        TUNNEL
        + 'address = ["169.254.10.1/30"]\n'
        + PROXY
        + AUTH
        + SECOND
        + 'address = ["169.254.10.1/24"]\n'
        + SECOND_PROXY
        + AUTH,
        '^tunnel "to-c": address: 169.254.10.1/24 and 169.254.10.1/30 of tunnel "to-b" are in one network of one interface; ',
    ),
    (
        TUNNEL + AUTH + 2 * '[[route]]\nprefix = "10.3.0.0/16"\ntunnel = "to-b"\n',
        "^route #2: metric: route #1 has the same prefix and",
    ),
]


@pytest.mark.parametrize(("text", "says"), ONE_LINE)
def test_each_bad_thing_gets_one_line(errors_of, text, says):
    expect(errors_of(text), says)


def test_everything_wrong_is_said_at_once(errors_of):
    text = (
        "[gateway]\nworkers = 99\n[[tunnel]]\nname = 'x'\nstart = 'no'\n[[tunnel.proxy_id]]\nlocal = '10.0.0.1/8'\nremote = 7\n"
        "[tunnel.manual_unsafe]\nsuite = 'rot13'\nspi_in = 1\nspi_out = 2\n[[policy]]\naction = 'protect'\ntunnel = 'y'\n"
    )
    lines = errors_of(text)
    for key in (
        "workers",
        "start",
        "remote",
        "proxy_id #1.remote",
        "proxy_id #1.local",
        "suite",
        "spi_in",
        "spi_out",
        "key_in_file",
    ):
        assert any(f"{key}: " in line for line in lines), (key, lines)
    assert any(line.startswith('policy #1: tunnel: no tunnel is named "y"') for line in lines)


def test_a_finding_names_file_tunnel_key_wrong_and_right(write):
    path = write(TUNNEL + AUTH + "[tunnel.esp]\nreplay_window = 1000")
    last = len(path.read_text().splitlines())
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert caught.value.findings == (
        Finding(
            "error",
            str(path),
            'tunnel "to-b"',
            "esp.replay_window",
            "1000 is not a power of two from 64 to 8192",
            "write 1024",
            line=last,
            column=1,
        ),
    )
    assert (
        str(caught.value)
        == f'{path}:{last}:1: tunnel "to-b": esp.replay_window: 1000 is not a power of two from 64 to 8192; write 1024'
    )
    assert caught.value.exit_status == 2


def test_a_missing_or_unreadable_file_is_a_finding(tmp_path):
    for path, says in [(tmp_path / "none.toml", "No such file"), (tmp_path, "directory")]:
        config, (finding,) = examine(path)
        assert config is None
        assert says in finding.wrong
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"')
    assert "octet 8 is not UTF-8" in str(examine(tmp_path / "latin.toml")[1][0])


# ---- bypass, which the kernel's routing has to be able to carry out -------------------------------------------------------------

BYPASS = '[[policy]]\naction = "bypass"\nremote = "10.2.0.0/24"\n'
DISCARD = '[[policy]]\naction = "discard"\nremote = "10.2.0.0/24"\n'
INEXPRESSIBLE = [
    ('protocol = "icmp"\nicmp_type = 8\n', "the ICMP type apart; leave icmp_type out of it$"),
    ('local = "10.1.0.1-10.1.255.254"\n', "30 pairs of prefixes apart; write ranges that are 16 at the most$"),
    ('protocol = "udp"\nlocal_ports = "1024-65535"\n', r"ports 1024-65535 \(its rules take 1 to 65534\) apart; write 1024-65534$"),
    ('protocol = "udp"\nremote_ports = "0-9"\n', r"ports 0-9 \(its rules take 1 to 65534\) apart; write 1-9$"),
]


@pytest.mark.parametrize(("keys", "says"), INEXPRESSIBLE)
def test_a_bypass_that_routing_cannot_express_is_refused(errors_of, keys, says):
    (line,) = errors_of(TUNNEL + AUTH + PROXY.replace(".0/24", ".0/16") + BYPASS + keys)
    assert re.search("^policy #1: action: the kernel's routing, which carries bypass out, cannot tell .*" + says, line)


@pytest.mark.parametrize(("keys", "says"), INEXPRESSIBLE)
def test_a_bypass_that_an_earlier_policy_cuts_inexpressibly_is_refused(errors_of, keys, says):
    first = DISCARD.replace('remote = "10.2.0.0/24"', 'remote = "10.2.0.0/25"')
    (line,) = errors_of(TUNNEL + AUTH + PROXY.replace(".0/24", ".0/16") + first + keys + BYPASS)
    assert re.search(r"^policy #2: action: policy #1 \(discard\) comes first and takes a part out of it, but .*" + says, line)


def test_a_policy_that_takes_nothing_out_of_a_bypass_may_be_anything(write):
    elsewhere = DISCARD.replace("10.2.0.0/24", "10.2.7.0/24") + 'protocol = "icmp"\nicmp_type = 8\n'
    text = TUNNEL + AUTH + PROXY.replace(".0/24", ".0/16") + elsewhere + BYPASS
    assert [policy.action for policy in load(write(text)).policies] == ["discard", "bypass"]


# ---- rules that are never reached ----------------------------------------------------------------------------------------------


def tunnel_text(name: str, interface: str, *proxy_ids: tuple[str, str], keys: str = "") -> str:
    proxies = "".join(f'[[tunnel.proxy_id]]\nlocal = "{local}"\nremote = "{remote}"\n' for local, remote in proxy_ids)
    return f'[[tunnel]]\nname = "{name}"\nremote = "192.0.2.2"\ninterface = "{interface}"\n{keys}{proxies}{AUTH}'


def policy_text(action: str, **keys: str) -> str:
    return f'[[policy]]\naction = "{action}"\n' + "".join(f'{key} = "{value}"\n' for key, value in keys.items())


A, B = ("10.1.0.0/24", "10.2.0.0/24"), ("10.1.0.0/16", "10.2.0.0/16")

UNROUTED = 'routes = "none"\n'

REACH = [
    # tunnels and policies, the lines they get
    (tunnel_text("x", "i0", A, B), []),
    (
        tunnel_text("x", "i0", B, A),
        ['tunnel "x": proxy_id: never reached: its own earlier 10.1.0.0/16 <-> 10.2.0.0/16 holds all of 10.1'],
    ),
    (tunnel_text("x", "i0", A) + tunnel_text("y", "i1", A, keys=UNROUTED), []),
    (
        tunnel_text("x", "i0", A) + tunnel_text("y", "i0", A),
        ['tunnel "y": proxy_id: selectors are those of tunnel "x" on the same interf'],
    ),
    (
        tunnel_text("x", "i0") + tunnel_text("y", "i0"),
        ['tunnel "y": interface: selectors are those of tunnel "x" on the same interface i0'],
    ),
    (tunnel_text("x", "i0") + tunnel_text("y", "i1"), []),
    (tunnel_text("x", "i0", B) + tunnel_text("y", "i0", A), ['tunnel "y": proxy_id: never reached: tunnel "x"\'s earlier']),
    (
        tunnel_text("x", "i0", A) + policy_text("discard", remote="10.2.0.0/16"),
        ['tunnel "x": proxy_id: never reached: policy #1 \\(discard'],
    ),
    (tunnel_text("x", "i0", A) + policy_text("protect", tunnel="x", remote="10.2.0.0/16"), []),
    (
        tunnel_text("x", "i0", B) + policy_text("discard", local="10.1.0.0/16") + policy_text("discard", local="10.1.2.0/24"),
        ["^policy #2: never reached: policy #1", 'tunnel "x": proxy_id: never reached: policy #1'],
    ),
    (
        tunnel_text("x", "i0", B)
        + policy_text("discard", local="10.1.9.0/24", protocol="udp")
        + policy_text("discard", local="10.1.9.0/24"),
        [],
    ),
    (
        tunnel_text("x", "i0", B)
        + policy_text("discard", local="10.1.9.0/24", protocol="udp", remote_ports="1-100")
        + policy_text("discard", local="10.1.9.0/25", protocol="udp", remote_ports="50-60"),
        ["^policy #2: never reached: policy #1 "],
    ),
    (
        tunnel_text("x", "i0", B)
        + policy_text("discard", local="10.1.0.0-10.1.0.99")
        + policy_text("discard", local="10.1.0.100-10.1.0.255")
        + policy_text("protect", tunnel="x", local="10.1.0.0/24"),
        [r"^policy #3: never reached: policy #1 \(discard .*\) and policy #2 \(discard .*\) together hold all of 10.1.0.0/24"],
    ),
    (
        tunnel_text("x", "i0", B)
        + policy_text("discard", local="10.1.9.0/24")
        + policy_text("protect", tunnel="x", local="10.1.9.0/24"),
        [r"^policy #2: contradicts policy #1 \(discard 10.1.9.0/24 <-> 0.0.0.0/0\): the first one decides; take one of both out"],
    ),
    (
        tunnel_text("x", "i0", B)
        + policy_text("discard", protocol="icmp", icmp_type="8")
        + policy_text("discard", protocol="icmp", icmp_type="8", icmp_code="0")
        + policy_text("discard", protocol="icmp", icmp_type="0"),
        ["^policy #2: never reached: policy #1 "],
    ),
    (
        tunnel_text("x", "i0", A)
        + tunnel_text("y", "i1", A, keys=UNROUTED)
        + policy_text("protect", tunnel="x", local="10.1.0.0/16"),
        [],
    ),
]


ROUTED = [
    # a configuration, and the lines that its routes get
    (tunnel_text("x", "i0", A) + tunnel_text("y", "i0", B), []),
    (
        tunnel_text("x", "i0", A) + tunnel_text("y", "i1", A),
        ['^tunnel "y": routes: 10.2.0.0/24 is routed into i0 by tunnel "x" already, with the same metric; write routes = "none"'],
    ),
    (
        tunnel_text("x", "i0", A, keys='routes = ["10.2.0.0/25", "10.3.0.0/24"]\n'),
        ['^tunnel "x": routes: 10.3.0.0/24 lies outside what tunnel "x" protects; write a part of 10.2.0.0/24$'],
    ),
    (tunnel_text("x", "i0", keys='routes = ["10.3.0.0/24"]\n'), []),
    (
        tunnel_text("x", "i0", A) + tunnel_text("y", "i1", A, keys=UNROUTED) + '[[route]]\nprefix = "10.2.0.0/24"\ntunnel = "y"\n',
        ['^route #1: metric: 10.2.0.0/24 is routed into i0 with metric 50 by tunnel "x"; write another metric$'],
    ),
    (
        tunnel_text("x", "i0", A)
        + tunnel_text("y", "i1", A, keys=UNROUTED)
        + '[[route]]\nprefix = "10.2.0.0/24"\ntunnel = "y"\nmetric = 60\n',
        [],
    ),
]


@pytest.mark.parametrize(("text", "says"), ROUTED)
def test_a_route_leads_into_one_interface_and_to_what_is_protected(errors_of, text, says):
    lines = errors_of(text)
    assert len(lines) == len(says)
    assert all(re.search(pattern, line) for pattern, line in zip(says, lines, strict=True))


def test_the_metric_of_routes_is_the_same_everywhere():
    assert model.ROUTE_METRIC == routes.METRIC == tables.Route.__struct_defaults__[-1]


@pytest.mark.parametrize(
    ("remote", "prefix", "warned"),
    [
        ("192.0.2.2", "192.0.2.0/24", True),
        ("2001:db8::2", "2001:db8::/32", True),
        ("192.0.2.2", "192.0.2.2/32", False),
        ("192.0.2.2", "0.0.0.0/0", False),
        ("192.0.2.2", "10.2.0.0/24", False),
        ("gw.example", "10.2.0.0/24", False),
    ],
)
def test_a_peer_inside_its_own_tunnel_is_warned_of(write, remote, prefix, warned):
    """It works: our own packets are marked. But who wants that writes the peer's address, or a default route."""
    text = tunnel_text("x", "i0", keys=f'routes = ["{prefix}"]\n').replace("192.0.2.2", remote)
    told = [str(finding) for finding in load(write(text)).warnings]
    assert any(f"the peer {remote} lies in {prefix}, which is routed into its own tunnel" in line for line in told) == warned


@pytest.mark.parametrize(
    ("local", "remote", "warned"),
    [
        ("10.1.0.0/24", "10.1.0.0/24", True),
        ("fd00:1::/64", "fd00:1::/64", True),
        ("10.1.0.0/24", "10.0.0.0/8", False),
        ("0.0.0.0/0", "0.0.0.0/0", False),
    ],
)
def test_one_prefix_on_both_sides_is_warned_of(write, local, remote, warned):
    text = tunnel_text("x", "i0", (local, remote), keys=UNROUTED)
    told = [str(finding) for finding in load(write(text)).warnings]
    assert any(f"{local} is the prefix of both sides" in line and "renumber one side" in line for line in told) == warned


@pytest.mark.parametrize(
    ("keys", "carried"),
    [
        ({"remote": "10.2.0.128/25"}, True),
        ({"remote": "10.0.0.0/8"}, True),
        ({"protocol": "tcp", "remote_ports": "20-25"}, True),
        ({"remote": "10.3.0.0/24"}, False),
        ({"local": "10.2.0.0/24"}, False),
        ({"remote": "2001:db8::/32"}, False),
        ({"protocol": "udp"}, False),
        ({"protocol": "tcp", "remote_ports": "26-30"}, False),
    ],
)
def test_a_protect_policy_needs_a_tunnel_that_carries_some_of_it(errors_of, keys, carried):
    tunnel = TUNNEL + PROXY + 'protocol = "tcp"\nremote_ports = "22-25"\n' + AUTH
    lines = errors_of(tunnel + policy_text("protect", tunnel="to-b", **keys))
    expect(lines, *([] if carried else ['^policy #1: tunnel: tunnel "to-b" carries none of ']))


@pytest.mark.parametrize(("text", "says"), REACH)
def test_a_rule_wholly_shadowed_by_an_earlier_one_is_told(errors_of, text, says):
    expect(errors_of(text), *says)


def test_interfaces_do_not_share_an_address(errors_of):
    text = (TUNNEL + 'address = ["169.254.1.1/30"]' + AUTH) + tunnel_text("y", "i1").replace("[tunnel.auth]", "").replace(
        'interface = "i1"', 'interface = "i1"\naddress = ["169.254.1.1/24"]\n[tunnel.auth]'
    )
    expect(errors_of(text), 'tunnel "y": address: 169.254.1.1 is also on ipsec0')


def test_two_manual_tunnels_need_two_spis(errors_of):
    second = TUNNEL.replace("to-b", "to-c").replace("192.0.2.2", "192.0.2.3") + 'interface = "ipsec1"' + MANUAL
    lines = errors_of(TUNNEL + MANUAL + second)
    expect(
        lines,
        'tunnel "to-c": manual_unsafe.spi_in: 0x00001001 is also that of tunnel "to-b"',
        "key_in_file: holds the same key",
        "key_out_file: holds the same key",
    )


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
