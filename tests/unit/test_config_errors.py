"""The configuration: the one line that each bad thing gets."""

from __future__ import annotations

import pytest

from ipsec_dp.config import examine, load
from ipsec_dp.errors import ConfigError, Finding

from .config_files import AUTH, MANUAL, PROXY, SECOND, SECOND_PROXY, TUNNEL, errors_in, expect, writer


@pytest.fixture
def write(tmp_path):
    return writer(tmp_path)


@pytest.fixture
def errors_of(write):
    return lambda text: errors_in(write(text))


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
