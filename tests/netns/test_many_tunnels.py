"""Ten thousand tunnels on one interface, and two hundred with an interface each: what a gateway of that size takes, and that one of
them can be added under traffic without the others noticing.

    hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB

Tunnel "a" joins 10.1.0.0/24 and 10.2.0.0/24 and carries a numbered stream; the others wait for peers that never call.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ipsec_dp.gateway import control
from ipsec_dp.rig import netns
from ipsec_dp.rig.process import GatewayProcess
from tests.netns.numbered import numbered
from tests.netns.strangers_calls import IkeDelays
from tests.netns.traffic import until

TURNS = 3
START_S = 300.0
STOP_S = 60.0
RELOAD_S = 180.0
APPLIED_MOST_S = 0.250  # after parsing
DELAY_MOST_S = 0.050  # of an IKE request, from the wire to its answer on the wire
RESIDENT_MOST = 20 * 1024  # octets for each idle tunnel
QUIET_S = 2.0  # of the measurement without a reload
SMALL = 100  # tunnels of the gateway that the growth is measured from

pytestmark = [
    pytest.mark.slow,
    pytest.mark.alone("measures time, memory, and how late others are answered"),
    pytest.mark.timeout(900),
]


def tunnel(name, number, *, interface, side="a"):
    """An idle one, for a network of its own."""
    third, fourth = divmod(number * 16, 256)
    second = 16 + third // 256
    return (
        f'[[tunnel]]\nname = "{name}"\nlocal = "{netns.GW_A_OUTER[0]}"\nremote = "198.51.100.{number % 250 + 1}"\n'
        f'interface = "{interface}"\nstart = "respond"\n'
        f'[[tunnel.proxy_id]]\nlocal = "10.1.0.0/24"\nremote = "172.{second}.{third % 256}.{fourth}/28"\n'
        f'[tunnel.auth]\nlocal_id = "a.example"\nremote_id = "{name}.example"\npsk_file = "all.psk"\n'
    )


def real(side):
    ends = (netns.GW_A_OUTER[0], netns.GW_B_OUTER[0])[:: 1 if side == "a" else -1]
    nets = (netns.SITE_A_NETS[0], netns.SITE_B_NETS[0])[:: 1 if side == "a" else -1]
    return (
        f'[gateway]\nname = "gw{side.upper()}"\n[[tunnel]]\nname = "a"\nlocal = "{ends[0]}"\nremote = "{ends[1]}"\n'
        f'interface = "ipsec0"\nstart = "{"start" if side == "a" else "respond"}"\n'
        f'[[tunnel.proxy_id]]\nlocal = "{nets[0]}"\nremote = "{nets[1]}"\n'
        f'[tunnel.auth]\nlocal_id = "{side}.example"\nremote_id = "{"ba"["ab".index(side)]}.example"\npsk_file = "all.psk"\n'
    )


def resident(gateway):
    """Octets of the daemon in memory."""
    text = Path(f"/proc/{gateway.process.pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0]) * 1024


def busy_s(gateway):
    """Processor time that the daemon has used until now."""
    fields = Path(f"/proc/{gateway.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def started(site, directory, tunnels):
    """gwA with these tunnels beside "a", once "a" is up; and how long that took."""
    path = directory / "gwA.toml"
    path.write_text(real("a") + "".join(tunnels))
    gateway = GatewayProcess(site.gw_a, path)
    began = time.monotonic()
    gateway.start()
    gateway.wait_up(START_S)
    seconds = time.monotonic() - began
    until(lambda: gateway.ask("status", name="a")["tunnels"][0]["state"] == "up", 'tunnel "a" is up', 30)
    return gateway, seconds


def stopped(gateway):
    began = time.monotonic()
    gateway.process.terminate()
    assert gateway.wait(STOP_S) == 0, gateway.text()
    return time.monotonic() - began


def asked(site):
    """gwB asks gwA by IKE; where B is, a tunnel's peer lives, so that what it asks is looked at."""
    return IkeDelays(site.gw_b, netns.GW_A_OUTER[0])


@pytest.fixture
def site(shared_sites, tmp_path):
    (tmp_path / "all.psk").touch(mode=0o600)
    (tmp_path / "all.psk").write_text("one secret for all, long enough")
    (tmp_path / "gwB.toml").write_text(real("b"))
    other = GatewayProcess(shared_sites.gw_b, tmp_path / "gwB.toml")
    other.start()
    other.wait_up()
    yield shared_sites
    assert other.terminate() == 0


@pytest.mark.parametrize(("count", "interface"), [(10_000, "ipsec0"), (200, "tun{}")])
def test_one_more_is_added_without_the_others_noticing(site, tmp_path, count, interface):
    few, _ = started(site, tmp_path, [tunnel(f"t{n}", n, interface=interface.format(n)) for n in range(SMALL)])
    small = resident(few)
    stopped(few)

    many = [tunnel(f"t{n}", n, interface=interface.format(n)) for n in range(count)]
    gateway, start_s = started(site, tmp_path, many)
    start_busy_s = busy_s(gateway)
    each = (resident(gateway) - small) / (count - SMALL)
    rows = []
    with numbered(site.host_a, site.host_b, netns.HOST_B[0]) as stream:
        until(lambda: len(stream.arrived) > 20, "the stream arrives")
        with asked(site) as quiet:
            time.sleep(QUIET_S)
        rows.append(("nothing", 0.0, 0.0, 0.0, quiet))
        with asked(site) as delays:
            began, before = time.monotonic(), busy_s(gateway)
            assert len(gateway.status()["tunnels"]) == count + 1
            rows.append(("status", time.monotonic() - began, 0.0, busy_s(gateway) - before, delays))
        for turn in range(TURNS):
            extra = tunnel(f"more{turn}", count + turn, interface=interface.format(count + turn))
            many.append(extra)
            gateway.config.write_text(real("a") + "".join(many))
            before = busy_s(gateway)
            with asked(site) as delays:
                answer = control.request(gateway.control, {"verb": "reload"}, RELOAD_S)
            assert (answer["added"], answer["removed"], answer["changed"]) == ([f"more{turn}"], [], [])
            rows.append(("reload", answer["read_s"], answer["applied_s"], busy_s(gateway) - before, delays))
    assert stream.lost() == []
    stop_s = stopped(gateway)

    print(f"\n{count} tunnels, interface {interface}; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    print(
        f"up in {start_s:.1f} s (daemon's processor time {start_busy_s:.1f} s), down in {stop_s:.1f} s, {each / 1024:.1f} KiB each"
    )
    print("            read or took s   applied ms   daemon's processor ms   longest IKE answer ms   of requests")
    for what, took, applied, busy, asking in rows:
        print(
            f"{what:10} {took:15.2f} {1000 * applied:12.0f} {1000 * busy:23.0f} {1000 * asking.longest:23.1f} {len(asking.took):13}"
        )
    # The machine may be busy with other things: the best turn is what the gateway can do.
    reloads = [row for row in rows if row[0] == "reload"]
    assert min(applied for _, _, applied, _, _ in reloads) < APPLIED_MOST_S
    assert min(asking.longest for *_, asking in reloads) < DELAY_MOST_S
    assert each < RESIDENT_MOST
