"""What `status --json` and the page of metrics take with a thousand tunnels up, while one of them carries 1 Gb/s.

hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB
"""

from __future__ import annotations

import os
import statistics
import threading
import time

import pytest

from benchmarks.tunnels import iperf
from ipsec_dp.rig import netns
from ipsec_dp.rig.process import GatewayPair, IkePair
from tests.netns.test_metrics import METRICS, PORT, fetch
from tests.netns.traffic import ping, until

pytestmark = [pytest.mark.slow, pytest.mark.measure, pytest.mark.timeout(600)]

TUNNELS = 1000
UP_S = 180.0
CARRIED_S = 20
RATE_GBIT_S = 1.0
RATE_LEAST = 0.9
ANSWER_MOST_S = 0.2
OUTER = netns.GW_A_OUTER[0], netns.GW_B_OUTER[0]


def crowd(side: int) -> str:
    """All but the first."""
    ours, theirs = (100, 150) if side == 0 else (150, 100)
    names = "ab" if side == 0 else "ba"
    return "".join(
        f'[[tunnel]]\nname = "t{n}"\nlocal = "{OUTER[side]}"\nremote = "{OUTER[1 - side]}"\ninterface = "ipsec1"\n'
        f'start = "{("start", "respond")[side]}"\n'
        f'[[tunnel.proxy_id]]\nlocal = "10.{ours}.{n // 250}.{n % 250}/32"\nremote = "10.{theirs}.{n // 250}.{n % 250}/32"\n'
        f'[tunnel.auth]\nlocal_id = "{names[0]}{n}.example"\nremote_id = "{names[1]}{n}.example"\npsk_file = "tunnel.psk"\n'
        for n in range(1, TUNNELS)
    )


@pytest.fixture
def gateways(sites_opened_again, tmp_path):
    made = GatewayPair(sites_opened_again, tmp_path, IkePair())
    for side, gateway in enumerate((made.a, made.b)):
        gateway.config.write_text(gateway.config.read_text() + METRICS + crowd(side))
    yield made
    made.a.kill()
    made.b.kill()


def timed(work):
    began = time.monotonic()
    work()
    return time.monotonic() - began


def test_both_take_less_than_200_ms_beside_1_gbit_s(sites_opened_again, gateways):
    sites, gateway = sites_opened_again, gateways.a
    gateways.start()

    def up():
        return sum(tunnel["state"] == "up" for tunnel in gateway.status()["tunnels"])

    until(lambda: up() == TUNNELS, "all are up", UP_S)
    ping(sites.host_a, netns.HOST_B[0])
    rates = list[float]()
    rate = f"--bitrate={RATE_GBIT_S:g}G"
    carrying = threading.Thread(target=lambda: rates.append(iperf.gbit_s(sites, CARRIED_S, rate)))
    carrying.start()
    answers, pages = list[float](), list[float]()
    while carrying.is_alive():
        answers.append(timed(gateway.status))
        pages.append(timed(lambda: fetch(sites.gw_a, PORT, "/metrics")))
        time.sleep(1.1)  # or it would be the same page
    carrying.join()
    print(
        f"\n{rates[0]:.2f} Gb/s; of {len(answers)} the median and the longest: status {statistics.median(answers) * 1e3:.0f} and "
        f"{max(answers) * 1e3:.0f} ms, metrics {statistics.median(pages) * 1e3:.0f} and {max(pages) * 1e3:.0f} ms; "
        f"load average {os.getloadavg()[0]:.1f}"
    )
    assert rates[0] >= RATE_LEAST * RATE_GBIT_S
    assert statistics.median(answers) < ANSWER_MOST_S
    assert statistics.median(pages) < ANSWER_MOST_S
