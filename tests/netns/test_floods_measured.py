"""The bars of issue 12 about floods, in full and with figures: ten minutes of forged messages, 200 tunnels beside 20,000 requests a
second, and what is left of the data plane.

    hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB

Floods leave from gwA's namespace for gwB, so the sender takes its processor time from both gateways; each measurement of the data
plane is taken beside one to a closed port, where it does the same.
"""

from __future__ import annotations

import statistics
import time
from functools import partial

import pytest

from benchmarks.tunnels import iperf
from ipsec_dp.rig.process import GatewayPair, GatewayProcess, IkePair
from tests.netns.flood import NAT_PORT, flood
from tests.netns.flood_watch import FLOOD_RATE, LONG_S, NOWHERE, OUTER, Requests, busy_s, lives_through_forged, resident, watching
from tests.netns.traffic import until

pytestmark = [pytest.mark.slow, pytest.mark.measure, pytest.mark.timeout(1200)]

TUNNELS = 200
FLOOD_S = 60.0
UP_MOST_S = 10.0
MEMORY_MOST = 16 << 20  # octets
MONITOR = '[tunnel.monitor]\ntarget = "{target}"\nsource = "{source}"\ninterval = "3s"\nthreshold = 2\naction = "wait-recover"\n'
ROUNDS, ROUND_S = 7, 4.0
SHARE_LEAST = 0.95
CLOSED_PORT = 501
MISHAPS = ("did not answer", "IKE SA down", "CHILD_SA down", "does not answer")


@pytest.fixture
def sites(sites_opened_again):
    sites_opened_again.gw_a.ip(*NOWHERE)
    yield sites_opened_again
    sites_opened_again.gw_a.ip(*(line.replace(" add ", " del ") for line in NOWHERE))


@pytest.mark.parametrize(("version", "encapsulation", "port"), [(4, "udp", NAT_PORT), (6, "auto", 500)])
def test_an_idle_tunnel_lives_through_ten_minutes_of_forged_messages(sites, tmp_path, version, encapsulation, port):
    ike = watching("1h"), watching("1s")
    with GatewayPair(sites, tmp_path, IkePair(outer=OUTER[version], encapsulation=encapsulation, ike=ike)) as gateways:
        print(f"\n{encapsulation} IPv{version}:", lives_through_forged(sites, gateways, version, port, LONG_S))


def inner(side, number):
    """The address that a tunnel joins on this side."""
    return f"10.{100 if side == 'a' else 150}.{number}.1"


def crowd(directory, side):
    """TUNNELS, half of them monitored, while the others ask each 5 s whether the peer lives; and one that is not called yet."""
    other = "ba"["ab".index(side)]
    text = f'[gateway]\nname = "gw{side.upper()}"\n'
    for number in range(TUNNELS + 1):
        start = "on-demand" if number == TUNNELS else "start"
        text += (
            f'[[tunnel]]\nname = "t{number}"\nremote = "{OUTER[4][side == "a"]}"\n'
            f'start = "{start if side == "a" else "respond"}"\n'
            f'[[tunnel.proxy_id]]\nlocal = "{inner(side, number)}/32"\nremote = "{inner(other, number)}/32"\n'
            f'[tunnel.auth]\nlocal_id = "{side}{number}.example"\nremote_id = "{other}{number}.example"\npsk_file = "crowd.psk"\n'
            '[tunnel.ike]\nliveness = { interval = "5s", retries = 1, action = "clear" }\n[tunnel.esp]\nrekey_after = "20s"\n'
        )
        if side == "b" and number % 2 and number < TUNNELS:
            text += MONITOR.format(target=inner("a", number), source=inner("b", number))
    file = directory / f"gw{side.upper()}.toml"
    file.write_text(text)
    return file


def mishaps(*logs):
    return [line for log in logs for line in log.splitlines() if any(each in line for each in MISHAPS)]


@pytest.mark.parametrize("rate", [FLOOD_RATE, 0], ids=["flood", "control"])
def test_200_tunnels_are_undisturbed_by_a_minute_of_20_000_requests_a_second(sites, tmp_path, request, rate):
    (tmp_path / "crowd.psk").touch(mode=0o600)
    (tmp_path / "crowd.psk").write_text("one secret for all, long enough")
    gateways = [GatewayProcess(namespace, crowd(tmp_path, side)) for namespace, side in ((sites.gw_a, "a"), (sites.gw_b, "b"))]
    for gateway in gateways:
        request.addfinalizer(gateway.kill)
    for namespace, side in ((sites.gw_a, "a"), (sites.gw_b, "b")):
        inside = [f"{inner(side, number)}/32 dev lan" for number in range(TUNNELS + 1)]
        namespace.ip(*(f"address add {each}" for each in inside))
        request.addfinalizer(partial(namespace.ip, *(f"address del {each}" for each in inside)))
    for gateway in reversed(gateways):
        gateway.start()
        gateway.wait_up(60)
    a, b = gateways

    def up(gateway):
        return sum(tunnel["state"] == "up" for tunnel in gateway.status()["tunnels"])

    until(lambda: up(a) == up(b) == TUNNELS, "all are up", 90)
    logs, before, busy = (len(a.text()), len(b.text())), resident(b), busy_s(b)
    answers = []
    with Requests(sites.gw_b, "wan", 4) as asked, flood(sites.gw_a, OUTER[4][1], rate, FLOOD_S, "half-open") as running:
        began, called, came_up = time.monotonic(), None, None
        while (now := time.monotonic()) - began < FLOOD_S - 5:
            b.status()
            answers.append(time.monotonic() - now)
            if called is None and now - began > FLOOD_S / 3:
                called = now
                a.ask("initiate", name=f"t{TUNNELS}")
            if called is not None and came_up is None and a.ask("status", name=f"t{TUNNELS}")["tunnels"][0]["state"] == "up":
                came_up = time.monotonic() - called
            time.sleep(1.0)
        sent = running.wait(60)
    took, grown = time.monotonic() - began, resident(b) - before
    control, whole = ((later - then) / took for later, then in zip(busy_s(b), busy, strict=True))
    log_a, log_b = a.text()[logs[0] :], b.text()[logs[1] :]
    rekeys = log_a.count("CHILD_SA rekeyed [") + log_b.count("CHILD_SA rekeyed [")
    print(
        f"\n{sent} requests in {took:.1f} s; a new peer was up after {came_up} s; {rekeys} rekeys; {len(asked.sent)} requests of "
        f"ours, {len(asked.repeated)} repeated; status {statistics.median(answers) * 1e3:.0f} ms, longest {max(answers) * 1e3:.0f}"
        f"; +{grown / 2**20:.1f} MiB; processor: {control:.1%} of one in the control plane, {whole:.1%} in all"
    )
    assert sent >= 0.8 * rate * FLOOD_S
    assert came_up is not None
    assert came_up <= UP_MOST_S
    assert up(a) == up(b) == TUNNELS + 1
    assert mishaps(log_a, log_b) == []
    assert rekeys >= TUNNELS
    assert asked.repeated == []
    assert grown <= MEMORY_MOST
    for gateway in gateways:
        assert gateway.terminate() == 0


def test_the_data_plane_loses_little_to_what_it_does_not_let_pass(sites, tmp_path):
    """Under the same flood, to port 500 and to a closed one, in turns."""
    with GatewayPair(sites, tmp_path, IkePair(encapsulation="udp")) as gateways:
        gateways.a.wait_negotiated()
        rates: dict[int, list[float]] = {500: [], CLOSED_PORT: []}
        for _ in range(ROUNDS):
            for port, found in rates.items():
                with flood(sites.gw_a, OUTER[4][1], FLOOD_RATE, ROUND_S + 20, port=port):
                    found.append(iperf.gbit_s(sites, ROUND_S))
    open_port, closed = (statistics.median(found) for found in rates.values())
    pairs = sorted(one / other for one, other in zip(*rates.values(), strict=True))
    print(
        f"\n{open_port:.2f} Gb/s beside {closed:.2f} Gb/s: {open_port / closed:.3f}; by pairs {[f'{each:.2f}' for each in pairs]}"
    )
    assert open_port / closed >= SHARE_LEAST
