"""Unit tests of a policy: what becomes of which packet, asked of the real gateway and its C core, in memory and without root.

    python examples/policy_unit_test.py        or        pytest examples/policy_unit_test.py

`explain` says what would be decided and why; `inject` sends the packet and shows that it is.
"""

from __future__ import annotations

from ipsec_dp.rig import Gateway, Wire
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
POLICY = """
[[policy]]
action = "discard"
local = "10.1.0.0/16"
remote = "10.2.0.66"
[[policy]]
action = "protect"
tunnel = "peer"
local = "10.1.0.0/16"
remote = "10.2.0.0/16"
"""
EXPECTED = {"10.2.0.5": "protect", "10.2.0.66": "discard"}


def test_the_policy() -> None:
    wire = Wire()
    with (
        Gateway(SITE.format(me=2, peer=1, start="respond"), wire=wire) as b,
        Gateway(SITE.format(me=1, peer=2, start="start") + POLICY, wire=wire) as a,
    ):
        a.wait("up")
        for destination, verdict in EXPECTED.items():
            answer = a.explain("10.1.0.5", destination, "udp")
            print(f"{destination}: {answer.verdict}: {answer.text}")
            assert answer.verdict == verdict
            a.inject(udp("10.1.0.5", destination, b"hello"))
        b.wait("packet")
        assert b.received() == [udp("10.1.0.5", "10.2.0.5", b"hello")]
        print("carried:", a.counters())


if __name__ == "__main__":
    test_the_policy()
