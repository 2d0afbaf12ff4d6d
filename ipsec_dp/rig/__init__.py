"""Test rigs: what builds peers, wires and hosts, for the tests of this project and of others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ipsec_dp.rig.aio import AsyncGateway
    from ipsec_dp.rig.clock import Clock
    from ipsec_dp.rig.inner import InnerHost
    from ipsec_dp.rig.loop import RigError
    from ipsec_dp.rig.memory_gateway import Gateway
    from ipsec_dp.rig.netns_network import NetnsNetwork, NetnsWire
    from ipsec_dp.rig.network import Network
    from ipsec_dp.rig.plane import PlaneRig
    from ipsec_dp.rig.security_association import SecurityAssociation
    from ipsec_dp.rig.wires import NatBox, Wire

__all__ = [
    "AsyncGateway",
    "Clock",
    "Gateway",
    "InnerHost",
    "NatBox",
    "NetnsNetwork",
    "NetnsWire",
    "Network",
    "PlaneRig",
    "RigError",
    "SecurityAssociation",
    "Wire",
]


def _whole_gateways() -> dict[str, Any]:
    """Loaded when one of them is asked for: who wants a namespace or a capture needs no gateway."""
    from ipsec_dp.rig.aio import AsyncGateway
    from ipsec_dp.rig.clock import Clock
    from ipsec_dp.rig.inner import InnerHost
    from ipsec_dp.rig.loop import RigError
    from ipsec_dp.rig.memory_gateway import Gateway
    from ipsec_dp.rig.netns_network import NetnsNetwork, NetnsWire
    from ipsec_dp.rig.network import Network
    from ipsec_dp.rig.plane import PlaneRig
    from ipsec_dp.rig.wires import NatBox, Wire

    found = AsyncGateway, Clock, Gateway, InnerHost, NatBox, NetnsNetwork, NetnsWire, Network, PlaneRig, RigError, Wire
    return {each.__name__: each for each in found}


def __getattr__(name: str) -> Any:
    if name == "SecurityAssociation":
        from ipsec_dp.rig.security_association import SecurityAssociation

        return SecurityAssociation
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _whole_gateways()[name]
