"""Several gateways on one clock, and what joins them.

with Network(seed=1) as network:
    a, b = network.gateway(SITE_A), network.gateway(SITE_B)
    network.advance(3600)
    print(network.ladder())
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ipsec_dp.rig.medium import Medium
from ipsec_dp.rig.memory_gateway import Gateway

if TYPE_CHECKING:
    from ipsec_dp.rig.configs import Written


class Network(Medium):
    """A medium that makes its gateways."""

    def gateway(self, config: Written, **options: Any) -> Gateway:
        """A gateway on this network, up; `options`: those of `Gateway`."""
        self.check()
        return Gateway(config, network=self, **options)
