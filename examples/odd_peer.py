"""A gateway under test and an odd peer that it calls: late answers, payloads in the other order, a refused rekey, an early DELETE.

    python examples/odd_peer.py

Here the gateway is in memory. For one on the network, put `UdpWire("192.0.2.1", source=(500, 4500))` in the place of `OddEnd`.
"""

from __future__ import annotations

import logging

from ipsec_dp.ike.auth import PreSharedKey
from ipsec_dp.ike.identity import Identity
from ipsec_dp.ike.proposal import parse_esp, parse_ike
from ipsec_dp.ike.traffic_selectors import TrafficSelector
from ipsec_dp.ike.v2.wire import NotifyType
from ipsec_dp.rig import Network
from ipsec_dp.rig.odd_answers import changing, late, refusing
from ipsec_dp.rig.odd_end import OddEnd
from ipsec_dp.rig.odd_exchanges import create_child, delete_ike
from ipsec_dp.rig.odd_parts import Agreed
from ipsec_dp.rig.odd_responder import OddResponder, rightly_called

SECRET = "a secret of thirty-two characters"  # noqa: S105
GATEWAY = """
[gateway]
name = "under-test"
[[tunnel]]
name = "odd"
local = "192.0.2.1"
remote = "192.0.2.2"
interface = "ipsec0"
start = "start"
  [[tunnel.proxy_id]]
  local = "10.1.0.0/16"
  remote = "10.2.0.0/16"
  [tunnel.auth]
  local_id = "gw.example"
  remote_id = "odd.example"
  psk_file = "odd.psk"
"""
AGREED = Agreed(
    psk=PreSharedKey.from_text(SECRET),
    local_id=Identity.from_text("odd.example"),
    remote_id=Identity.from_text("gw.example"),
    ike=parse_ike(["aes256gcm16-prfsha384-ecp384"]),
    esp=parse_esp(["aes256gcm16-esn-noesn"]),
    local=(TrafficSelector.from_prefix("10.2.0.0/16"),),
    remote=(TrafficSelector.from_prefix("10.1.0.0/16"),),
)


def main() -> None:
    logging.disable()  # what the gateway says of such a peer
    with Network(seed=1) as network:
        peer = OddResponder(AGREED, OddEnd(network, "192.0.2.2", "192.0.2.1"))
        peer.answering = late(1, changing(lambda parts: parts[::-1], then=rightly_called))
        gateway = network.gateway(GATEWAY, files={"odd.psk": SECRET})
        print("it called, and proved who it is:", peer.await_call())
        gateway.wait("up")
        peer.answering = refusing(NotifyType.TEMPORARY_FAILURE, then=rightly_called)
        gateway.rekey()
        peer.listen(lambda _: len(peer.children) > 1, 60, 0)
        print("a rekey that was refused once came", "again" if len(peer.children) > 1 else "never again")
        create_child(peer, peer.children[-1])
        delete_ike(peer)
        print("after a DELETE right behind a rekey it has", len(gateway.sas()))
        print(network.ladder(16))


if __name__ == "__main__":
    main()
