"""The C core with Python types: the only importer of the native module.

Lengths are checked here, before the core sees a buffer. Handles, addresses and selectors are translated; what the core does is
documented in ``native/dp.h``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.dataplane.carried import SA_MODEL, CarriedTraffic, ExportedSa
from ipsec_dp.dataplane.ike import IkeRates, IkeSaKey
from ipsec_dp.dataplane.plane import DataPlane
from ipsec_dp.dataplane.policy import Policy
from ipsec_dp.dataplane.process import memory_is_locked, protect_process
from ipsec_dp.dataplane.types import (
    ALL_OFFLOADS,
    DROP_NAMES,
    DROP_SENTENCES,
    GROWTH,
    LINK_OFFLOADS,
    NO_DROPS,
    NO_LIMITS,
    TAILROOM,
    TUN_OFFLOADS,
    Action,
    ArenaInfo,
    Channel,
    Counters,
    Df,
    Direction,
    DropExample,
    Dscp,
    Encapsulation,
    Endpoint,
    Gso,
    Limits,
    MemoryDatagram,
    MemoryPacket,
    Offload,
    Outer,
    OuterPath,
    PolicyRule,
    Provider,
    Punt,
    PuntKind,
    SaCondition,
    SaFlag,
    SaHandle,
    SaInfo,
    SaParams,
    TunnelSettings,
    TunnelTraffic,
    Unanswered,
    counted,
    offloads_named,
    owner_of,
)

if TYPE_CHECKING:
    from ipsec_dp.dataplane.batch import Batch

__all__ = [
    "ALL_OFFLOADS",
    "DROP_NAMES",
    "DROP_SENTENCES",
    "GROWTH",
    "LINK_OFFLOADS",
    "NO_DROPS",
    "NO_LIMITS",
    "SA_MODEL",
    "TAILROOM",
    "TUN_OFFLOADS",
    "Action",
    "ArenaInfo",
    "Batch",
    "CarriedTraffic",
    "Channel",
    "Counters",
    "DataPlane",
    "Df",
    "Direction",
    "DropExample",
    "Dscp",
    "Encapsulation",
    "Endpoint",
    "ExportedSa",
    "Gso",
    "IkeRates",
    "IkeSaKey",
    "Limits",
    "MemoryDatagram",
    "MemoryPacket",
    "Offload",
    "Outer",
    "OuterPath",
    "Policy",
    "PolicyRule",
    "Provider",
    "Punt",
    "PuntKind",
    "SaCondition",
    "SaFlag",
    "SaHandle",
    "SaInfo",
    "SaParams",
    "TunnelSettings",
    "TunnelTraffic",
    "Unanswered",
    "counted",
    "memory_is_locked",
    "offloads_named",
    "owner_of",
    "protect_process",
]


def __getattr__(name: str) -> type[Batch]:
    """Batches come with numpy, which a running gateway has no use for: it is loaded at the first use (PEP 562)."""
    if name != "Batch":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ipsec_dp.dataplane.batch import Batch

    return Batch
