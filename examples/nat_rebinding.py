"""A NAT that forgets its mapping: how long the tunnel is without the way back, and that it comes to itself.

python examples/nat_rebinding.py
"""

from __future__ import annotations

from ipsec_dp.rig import NatBox, Network, Wire
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
  [tunnel.ike]
  liveness = {{ interval = "10s", retries = 3, action = "restart" }}
"""
A, B = SITE.format(me=1, peer=2, start="start"), SITE.format(me=2, peer=1, start="respond")


def main() -> None:
    nat = NatBox("site-1", "203.0.113.1")
    with Network(wire=Wire(nat=nat, delay=0.01), seed=1) as network:
        b, a = network.gateway(B.replace('remote = "192.0.2.1"', 'remote = "any"')), network.gateway(A)
        a.wait("up")
        for what in ("before", "after"):
            begun = network.clock.now()
            while not a.received():
                b.inject(udp("10.2.0.5", "10.1.0.5", b"from outside"))
                a.inject(udp("10.1.0.5", "10.2.0.5", b"from inside"))
                network.clock.advance(0.1)
            print(f"{what} the NAT forgot: a packet came back within {network.clock.now() - begun:.1f} s")
            nat.rebind()
        print(network.ladder(6))


if __name__ == "__main__":
    main()
