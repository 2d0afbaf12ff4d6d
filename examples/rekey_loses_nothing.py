"""A proof that a rekey loses no packet: traffic both ways while both kinds of SA get new keys.

python examples/rekey_loses_nothing.py
"""

from __future__ import annotations

from ipsec_dp.rig import Network
from ipsec_dp.rig.packets import udp

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


def main() -> None:
    with Network(seed=1) as network:
        b, a = network.gateway(B), network.gateway(A)
        a.wait("up")
        sent, there, back = 0, 0, 0
        before = a.sas()[0].spi_in
        for step in range(100):
            if step in (20, 60):
                a.rekey(ike=step == 60)
            a.inject(udp("10.1.0.5", "10.2.0.5", step.to_bytes(2)))
            b.inject(udp("10.2.0.5", "10.1.0.5", step.to_bytes(2)))
            sent += 1
            network.clock.advance(0.01)
            there, back = there + len(b.received()), back + len(a.received())
        after = a.sas()[-1].spi_in
        print(f"SPI {before} became {after}; of {sent} packets each way {there} and {back} arrived")
        if before == after or (there, back) != (sent, sent):
            raise SystemExit("a rekey did not happen, or lost a packet")


if __name__ == "__main__":
    main()
