"""A gateway's life: up, down, killed, adopted; what it answers, with which exit status, and what it leaves behind.

hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB
"""

from __future__ import annotations

import json
import signal
import socket
import stat
import sys

import pytest

from ipsec_dp.dataplane import DROP_NAMES
from ipsec_dp.gateway import control
from ipsec_dp.rig import capture, netns
from ipsec_dp.rig.process import GatewayProcess
from tests.netns import harness, held
from tests.netns.traffic import echoes, ping, tcp_both_ways, udp_both_ways, udp_payload, until

IPSEC_DP = (sys.executable, "-m", "ipsec_dp")


@pytest.fixture
def sites(sites_opened_again):
    return sites_opened_again


def state(namespace):
    """Links, addresses, routes, rules, nftables and open sockets of a namespace."""
    sockets = namespace.run("ss", "-Hanuwx").stdout.splitlines()
    return {**namespace.call(harness.picture), "sockets": sorted(line for line in sockets if "ipsec" in line or "4500" in line)}


def cli(gateway, verb, *options):
    return gateway.namespace.run(*IPSEC_DP, verb, *options, "--control", str(gateway.control), check=False)


# ---- nothing left behind -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "down", "ipsec-dp down"])
def test_a_stop_leaves_nothing_behind(sites, pair, how):
    before = state(sites.gw_a)
    pair.a.start()
    pair.a.wait_up()
    assert harness.difference(before, state(sites.gw_a))
    if how == "down":
        assert pair.a.down() == 0
    elif how == "ipsec-dp down":
        done = cli(pair.a, "down")
        assert (done.returncode, done.stdout) == (0, "stopped\n")
        # the answer came when everything was gone
        assert harness.difference(before, state(sites.gw_a)) == []
    else:
        pair.a.process.send_signal(getattr(signal, how))
    assert pair.a.wait(10) == 0
    assert harness.difference(before, state(sites.gw_a)) == []
    assert not pair.a.control.exists()


def test_an_interrupt_stops_it_though_it_was_started_with_interrupts_ignored(sites, pair):
    pair.a.program = (*harness.WITH_INTERRUPTS_IGNORED, *pair.a.program)
    pair.a.start()
    pair.a.wait_up()
    pair.a.process.send_signal(signal.SIGINT)
    assert pair.a.wait(10) == 0


def test_a_stop_while_it_starts_leaves_nothing_behind(sites, pair):
    before = state(sites.gw_a)
    pair.a.start()
    until(pair.a.control.exists, "the control socket")
    assert pair.a.terminate() == 0
    assert harness.difference(before, state(sites.gw_a)) == []


def test_status_before_it_is_up_says_so(pair):
    pair.a.program = held.PROGRAM
    pair.a.start()
    with socket.socket(socket.AF_UNIX) as early:
        early.settimeout(10)
        until(lambda: early.connect_ex(str(pair.a.control)) == 0, "the control socket")
        early.sendall(b'{"verb": "status"}\n')
        answer = json.loads(early.makefile("rb").readline())
    assert answer == {"ok": False, "error": "the gateway is starting or stopping; ask again"}
    held.let_go(pair.a)
    pair.a.wait_up()


def test_kill_leaves_the_guard_and_unreachable_routes_and_up_adopts_them(sites, pair):
    before = state(sites.gw_a)
    pair.start()
    up = sites.gw_a.call(harness.picture)
    pair.a.kill()
    left = harness.difference(before, sites.gw_a.call(harness.picture) | {"sockets": before["sockets"]})
    routes = [json.loads(line.partition(": ")[2]) for line in left if line.startswith(("+ routes: ", "+ routes6: "))]
    assert {(route["type"], route["dst"]) for route in routes} == {("unreachable", net) for net in netns.SITE_B_NETS}
    assert [line for line in left if "nft" in line] == ["+ nft: table inet ipsec_dp_gwA"]
    assert not [line for line in left if "links" in line or line.startswith("-")]
    assert cli(pair.a, "status").returncode == 3
    pair.a.start()
    pair.a.wait_up()
    again = sites.gw_a.call(harness.picture)
    assert (again["routes"], again["rules"], again["nft"]) == (up["routes"], up["rules"], up["nft"])
    assert pair.a.terminate() == 0
    assert harness.difference(before, state(sites.gw_a)) == []


# ---- one of a name at a time, and errors ---------------------------------------------------------------------------------------


def test_a_second_gateway_at_the_same_control_socket_is_refused(sites, pair):
    pair.start()
    second = cli(pair.a, "up", str(pair.a.config))
    assert second.returncode == 1
    assert "gateway gwA is already running in this network namespace" in second.stderr
    ping(sites.host_a, netns.HOST_B[0])


def test_a_second_gateway_of_the_same_name_is_refused_and_the_first_goes_on(sites, pair, tmp_path):
    pair.start()
    second = sites.gw_a.run(*IPSEC_DP, "up", str(pair.a.config), "--control", str(tmp_path / "other.sock"), check=False)
    assert second.returncode == 1
    assert "gateway gwA is already running in this network namespace" in second.stderr
    for address in netns.HOST_B:
        ping(sites.host_a, address)
    assert pair.stop() == (0, 0)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda config: config.write_text(config.read_text().replace("aes128gcm16-esn", "rot13")), "rot13"),
        (lambda config: (config.parent / "a-to-b.key").chmod(0o640), "mode 0640"),
        (lambda config: (config.parent / "b-to-a.key").write_text("00" * 20 + "zz"), "not hex"),
        (lambda config: config.unlink(), "gwA.toml"),
    ],
    ids=["suite", "mode", "hex", "missing"],
)
def test_a_bad_configuration_is_exit_status_2_and_touches_nothing(sites, pair, spoil, said):
    before = state(sites.gw_a)
    spoil(pair.a.config)
    done = cli(pair.a, "up", str(pair.a.config))
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert harness.difference(before, state(sites.gw_a)) == []


def test_no_daemon_is_exit_status_3(pair):
    assert cli(pair.a, "status").returncode == cli(pair.a, "down").returncode == 3


# ---- what it answers -----------------------------------------------------------------------------------------------------------

# INTERFACES, `status --json`: each field with its type. A list: of these; None: null as long as there is no IKE.
NUMBER = (int, float)
CHILD = {
    **dict.fromkeys(("spi_in", "spi_out", "suite"), str),
    "esn": bool,
    "local_ts": [str],
    "remote_ts": [str],
    **dict.fromkeys(("packets_in", "octets_in", "packets_out", "octets_out"), int),
    "age_s": NUMBER,
    "rekey_in_s": None,
}
TUNNEL = {
    **dict.fromkeys(("name", "state", "state_text", "remote", "nat"), str),
    "last_error": None,
    "mtu": int,
    "ike": None,
    "children": [CHILD],
}
STATUS = {
    "schema": int,
    "gateway": str,
    "provider": str,
    "offloads": dict,
    "tunnels": [TUNNEL],
    "drops": dict,
}


def conforms(value, shape, where="status"):
    if isinstance(shape, dict):
        assert shape.keys() <= value.keys(), f"{where}: {shape.keys() - value.keys()} missing"
        for key, inner in shape.items():
            conforms(value[key], inner, f"{where}.{key}")
    elif isinstance(shape, list):
        assert value, where
        for each in value:
            conforms(each, shape[0], f"{where}[]")
    elif shape is None:
        assert value is None, where
    else:
        assert isinstance(value, shape), f"{where}: {value!r}"


def test_status_has_every_field(sites, pair):
    pair.start()
    for address in netns.HOST_B:
        assert echoes(sites.host_a, address) == 3
    until(lambda: pair.a.status()["tunnels"][0]["children"][0]["packets_in"] == 6, "each is counted, a moment after it passed")
    done = cli(pair.a, "status", "--json")
    assert done.returncode == 0
    status = json.loads(done.stdout)
    conforms(status, STATUS)
    assert (status["schema"], status["gateway"]) == (1, "gwA")
    assert status["drops"] == dict.fromkeys(DROP_NAMES[1:], 0)
    (tunnel,) = status["tunnels"]
    assert (tunnel["name"], tunnel["state"], tunnel["remote"], tunnel["nat"]) == ("a-to-b", "up", "192.0.2.2", "none")
    (child,) = tunnel["children"]
    assert (child["spi_in"], child["spi_out"], child["suite"], child["esn"]) == ("0x00001002", "0x00001001", "aes128gcm16", True)
    assert (child["local_ts"], child["remote_ts"]) == (list(netns.SITE_A_NETS), list(netns.SITE_B_NETS))
    assert (child["packets_in"], child["packets_out"]) == (6, 6)
    assert (child["octets_in"], child["octets_out"]) == (3 * 84 + 3 * 104, 3 * 84 + 3 * 104)
    assert any("manual_unsafe" in warning for warning in status["warnings"])
    for_people = cli(pair.a, "status").stdout
    assert "a-to-b" in for_people
    assert "aes128gcm16-esn" in for_people


def test_control_socket_is_the_owners_alone(pair):
    pair.a.start()
    pair.a.wait_up()
    assert stat.S_IMODE(pair.a.control.stat().st_mode) == 0o600


def test_clients_that_are_stuck_hold_nobody_up(sites, pair):
    pair.start()
    stuck = [socket.socket(socket.AF_UNIX) for _ in range(control.CLIENTS_MAX - 4)]
    for number, each in enumerate(stuck):
        each.connect(str(pair.a.control))
        if number % 2:
            each.sendall(b'{"verb": "stat')
        else:
            each.sendall(b'{"verb": "status"}\n' * 50)  # answered, and never read
    assert pair.a.status()["gateway"] == "gwA"
    ping(sites.host_a, netns.HOST_B[0])
    assert pair.stop() == (0, 0)
    for each in stuck:
        each.close()


def test_keys_are_locked_and_out_of_dumps(pair):
    pair.a.start()
    keys = pair.a.wait_up()["keys"]
    assert (keys["locked"], keys["undumped"], keys["wiped_on_fork"]) == (True, True, True)
    assert keys["octets"] > 0


# ---- a host that changes under it ----------------------------------------------------------------------------------------------


def both_carry(sites):
    for address in netns.HOST_B:
        udp_both_ways(sites.host_a, sites.host_b, address)
    tcp_both_ways(sites.host_a, sites.host_b, netns.HOST_B[0], 1 << 16)


def answered(sites):
    return all(harness.pings(sites.host_a, address) for address in netns.HOST_B)


@pytest.fixture
def outer_mended(sites):
    """What the tests take from gwA's outer interface is there again afterwards."""
    yield
    (address, address6), (peer, peer6) = netns.GW_A_OUTER, netns.GW_B_OUTER
    sites.gw_a.ip("link set wan up", f"address replace {address}/24 dev wan", f"address replace {address6}/64 dev wan nodad")
    sites.gw_a.ip(f"route replace default via {peer}", f"route replace default via {peer6}")


def test_outer_interface_down_and_up(sites, outer_mended, pair):
    pair.start()
    both_carry(sites)
    sites.gw_a.ip("link set wan down")
    assert not harness.pings(sites.host_a, netns.HOST_B[0])
    error = until(lambda: pair.a.status()["tunnels"][0]["last_error"], "the error in status")
    assert error == 'tunnel "a-to-b": outer socket of 192.0.2.1: Network is unreachable'
    until(lambda: error in pair.a.text(), "it is in the log")
    sites.gw_a.ip("link set wan up")
    until(lambda: answered(sites), "traffic after the interface came back")
    both_carry(sites)


def test_outer_address_removed_and_added(sites, outer_mended, pair):
    pair.start()
    both_carry(sites)
    sites.gw_a.ip(f"address delete {netns.GW_A_OUTER[0]}/24 dev wan")
    assert not harness.pings(sites.host_a, netns.HOST_B[0])
    error = until(lambda: pair.a.status()["tunnels"][0]["last_error"], "the error in status")
    assert "outer socket of 192.0.2.1" in error
    sites.gw_a.ip(f"address add {netns.GW_A_OUTER[0]}/24 dev wan")
    until(lambda: answered(sites), "traffic after the address came back")
    both_carry(sites)


def test_both_gateways_restarted(sites, pair):
    for _ in range(2):
        pair.start()
        both_carry(sites)
        assert pair.stop() == (0, 0)


def test_a_restarted_gateway_starts_from_another_iv(sites, pair, tmp_path):
    """Sequence numbers start anew under the same key, so the IV, and with it the nonce, must not (RFC 4106 §3.1)."""
    starts = []
    for run in range(2):
        pair.a.start()
        pair.a.wait_up()
        path = tmp_path / f"run-{run}"
        harness.crossed(sites.gw_a, "wan", path, lambda: harness.pings(sites.host_a, netns.HOST_B[0]))
        esp = next(udp_payload(packet) for _, packet in capture.read(path) if capture.kind(packet) == "esp-udp")
        starts.append(esp[4:16])
        pair.a.terminate()
    (first, first_iv), (second, second_iv) = ((start[:4], int.from_bytes(start[4:], "big")) for start in starts)
    assert first == second == (1).to_bytes(4, "big")
    assert abs(first_iv - second_iv) > 1 << 32  # but for a chance of one in two thousand million


def test_one_gateway_restarted_sends_replays_until_the_other_is_too(sites, pair):
    """What manual keys cannot do (RFC 4303 §3.3.3), and what is said about it."""
    pair.start()
    for _ in range(3):
        ping(sites.host_a, netns.HOST_B[0])
    pair.a.terminate()
    pair.a.start()
    pair.a.wait_up()
    assert not harness.pings(sites.host_a, netns.HOST_B[0])
    assert until(lambda: pair.b.status()["drops"]["replay"], "a replay counted") >= 1


def test_service_manager_is_told(sites, pair, tmp_path):
    """sd_notify(3): READY=1 when up, STOPPING=1 before it ends."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        process = sites.gw_a.spawn(
            "env", f"NOTIFY_SOCKET={tmp_path / 'notify'}", *IPSEC_DP, "up", str(pair.a.config), "--control", str(pair.a.control)
        )
        assert manager.recv(100) == b"READY=1"
        assert GatewayProcess(sites.gw_a, pair.a.config).status()["gateway"] == "gwA"
        process.terminate()
        while (said := manager.recv(100)).startswith(b"STATUS="):
            pass
        assert said == b"STOPPING=1"
        assert process.wait(10) == 0
