"""`ipsec-dp bench server` and `client` between two hosts:

hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB
"""

from __future__ import annotations

import json
import sys

from ipsec_dp.rig import netns
from tests.netns.traffic import until

PROGRAM = (sys.executable, "-m", "ipsec_dp", "bench")


def test_the_client_measures_the_path_to_the_server():
    with netns.Lab() as lab:
        sites = netns.two_sites(lab)
        server = sites.host_b.spawn(*PROGRAM, "server", "--bind", netns.HOST_B[0])
        listening = ("sh", "-c", "ss -Hltn sport = :5202")
        until(lambda: netns.HOST_B[0] in sites.host_b.run(*listening).stdout, "the server listens")
        wanted = [word for name in ("tcp_1", "rtt_p50", "udp_1400_gso") for word in ("--measure", name)]
        answer = json.loads(sites.host_a.run(*PROGRAM, "client", netns.HOST_B[0], "--json", *wanted, timeout=120).stdout)
        assert answer["failed"] == {}
        assert set(answer["measures"]) == {"tcp_1", "rtt_p50", "rtt_p99", "udp_1400_gso"}
        assert all(value > 0 for value in answer["measures"].values())
        assert (answer["from"], answer["to"]) == (netns.HOST_A[0], netns.HOST_B[0])
        server.terminate()
