"""How long a tunnel takes to come up on a wire that loses packets: a table, and a plot where matplotlib is installed.

    python examples/loss_and_convergence.py [FILE.svg]

Ten runs for each share of loss, all in memory; each wire has 20 ms each way. One seed gives the same picture again.
"""

from __future__ import annotations

import importlib.util
import logging
import statistics
import sys

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
"""
A, B = SITE.format(me=1, peer=2, start="start"), SITE.format(me=2, peer=1, start="respond")
LOSSES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
RUNS = range(1, 11)


def seconds_until_up(loss: float, seed: int) -> float:
    with Network(wire=Wire(loss=loss, delay=0.02), seed=seed) as network:
        network.gateway(B)
        a = network.gateway(A)
        begun = network.clock.now()
        a.wait("up", timeout=3600)
        return network.clock.now() - begun


def draw(found: dict[float, list[float]], file: str) -> None:
    from matplotlib import pyplot as plt

    percents = [100 * loss for loss in found]
    plt.plot(percents, [statistics.median(times) for times in found.values()], "o-", label="median")
    plt.plot(percents, [max(times) for times in found.values()], "x--", label="longest")
    plt.xlabel("packets lost, %")
    plt.ylabel("seconds until the tunnel is up")
    plt.legend()
    plt.savefig(file)
    print(f"drawn in {file}")


def main() -> None:
    logging.disable()  # that an answer is late
    found = {loss: [seconds_until_up(loss, seed) for seed in RUNS] for loss in LOSSES}
    for loss, times in found.items():
        print(f"{loss:4.0%} lost: up after {statistics.median(times):6.2f} s (median), {max(times):6.2f} s at the latest")
    if importlib.util.find_spec("matplotlib"):
        draw(found, sys.argv[1] if len(sys.argv) > 1 else "loss_and_convergence.svg")


if __name__ == "__main__":
    main()
