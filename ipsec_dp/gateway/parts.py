"""The parts of a gateway that is up, for whoever asks them how they are: `status` and metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ipsec_dp.databases.sad import Sad
    from ipsec_dp.databases.spd import Spd
    from ipsec_dp.dataplane import DataPlane
    from ipsec_dp.keying.ike_driver import IkeDriver
    from ipsec_dp.keying.manual import ManualSas
    from ipsec_dp.network.host import Host
    from ipsec_dp.services.path_mtu import PathMtuDiscovery
    from ipsec_dp.services.tunnel_monitor import TunnelMonitors


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayParts:
    """One of each."""

    spd: Spd
    plane: DataPlane
    sad: Sad
    manual: ManualSas
    ike: IkeDriver
    host: Host
    mtus: PathMtuDiscovery
    monitors: TunnelMonitors
