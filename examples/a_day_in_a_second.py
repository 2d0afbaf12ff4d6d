"""A day of two gateways: liveness each ten minutes, an IKE SA of eight hours, CHILD_SAs of six, on a wire that loses a tenth.

python examples/a_day_in_a_second.py
"""

from __future__ import annotations

import logging
import time
from collections import Counter

from ipsec_dp.rig import Network, Wire

SITE = """
[gateway]
name = "site-{me}"
[[tunnel]]
name = "peer"
local = "192.0.2.{me}"
remote = "192.0.2.{peer}"
interface = "ipsec0"
start = "{start}"
  [[tunnel.proxy_id]]
  local = "10.{me}.0.0/16"
  remote = "10.{peer}.0.0/16"
  [tunnel.auth]
  local_id = "{me}.example"
  remote_id = "{peer}.example"
  psk_file = "shared.psk"
  [tunnel.ike]
  lifetime = "8h"
  liveness = {{ interval = "10m", retries = 5, action = "restart" }}
  [tunnel.esp]
  lifetime = "6h"
"""
A, B = SITE.format(me=1, peer=2, start="start"), SITE.format(me=2, peer=1, start="respond")


def main() -> None:
    logging.disable()  # that an answer is late, as a tenth of them are
    begun = time.perf_counter()
    with Network(wire=Wire(loss=0.1, reorder=0.05), seed=1) as network:
        network.gateway(B)
        a = network.gateway(A)
        a.wait("up")
        network.clock.advance(24 * 3600)
        for kind, count in Counter(str(event.kind) for event in a.events()).items():
            print(f"{count:4} × {kind}")
        if not a.sas():
            raise SystemExit("the tunnel is not up after a day")
        print(f"{len(network.log)} datagrams in a day, which took {time.perf_counter() - begun:.2f} s")


if __name__ == "__main__":
    main()
