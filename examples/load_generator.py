"""A load generator: UDP packets for a thousand SAs, sealed in bursts of numpy arrays, as a peer would send them.

    python examples/load_generator.py [--sas 1000] [--seconds 0.5] [--octets 1420] [--suite aes128gcm16-esn]

It prints how many packets a second one core seals and opens, and that what was sealed opens again. To put load on a real peer, send
the rows of `burst` by a socket: they are ESP from the SPI to the ICV.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from ipsec_dp.dataplane import GROWTH, Batch
from ipsec_dp.ipsec.suites import parse_suite
from ipsec_dp.rig.packets import udp_of_size
from ipsec_dp.rig.security_association import Burst, SecurityAssociation

ROWS = 256  # packets of an SA at a time


def main() -> None:
    ask = argparse.ArgumentParser(description="seals and opens UDP packets by many SAs")
    ask.add_argument("--sas", type=int, default=1000)
    ask.add_argument("--seconds", type=float, default=0.5)
    ask.add_argument("--octets", type=int, default=1420)
    ask.add_argument("--suite", default="aes128gcm16-esn")
    given = ask.parse_args()

    octets = parse_suite(given.suite).keymat_octets
    keys = np.random.default_rng(1).bytes(octets * given.sas)
    sas = [SecurityAssociation(given.suite, keys[at * octets : (at + 1) * octets], spi=0x1000 + at) for at in range(given.sas)]
    print(f"{len(sas)} SAs of {given.suite}: {sum(sa.memory.key_octets for sa in sas) / 1e6:.1f} MB of keys")

    plain = Batch.of([udp_of_size("10.1.0.1", "10.2.0.1", given.octets)] * ROWS)
    burst, opened = Burst(ROWS, plain.stride + GROWTH), Burst(ROWS, plain.stride + GROWTH)
    spent = {"sealed": 0.0, "opened": 0.0}
    bursts = 0
    while bursts == 0 or sum(spent.values()) < given.seconds:
        sa = sas[bursts % len(sas)]
        before = time.perf_counter()
        sa.seal_burst(plain, out=burst)
        between = time.perf_counter()
        sa.open_burst(burst, out=opened)
        spent["sealed"] += between - before
        spent["opened"] += time.perf_counter() - between
        if burst.reasons.any() or opened.packet(ROWS - 1) != plain.packet(ROWS - 1):
            raise SystemExit(f"a packet was lost: {burst.reason(0)}, {opened.reason(0)}")
        bursts += 1
    for what, seconds in spent.items():
        rate = bursts * ROWS / seconds
        print(f"{what}: {rate / 1e6:.2f} million packets a second, {rate * given.octets * 8 / 1e9:.1f} Gb/s")
    for sa in sas:
        sa.close()


if __name__ == "__main__":
    main()
