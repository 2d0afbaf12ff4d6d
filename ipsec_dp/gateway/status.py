"""What `status --json` says: schema 1, to which later versions only add."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ipsec_dp.dataplane import DROP_SENTENCES
from ipsec_dp.network import workers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ipsec_dp.databases.sad import ChildSa, Sad
    from ipsec_dp.dataplane import DataPlane

SCHEMA = 1
NS_PER_S = 1e9


def child_status(sad: Sad, child: ChildSa, now: float) -> dict[str, Any]:
    """One CHILD_SA; a side that has no SA at the moment shows null for its SPI and 0 for its counters."""
    inbound = None if child.inbound is None else sad.records[child.inbound]
    outbound = None if child.outbound is None else sad.records[child.outbound]
    record = outbound or inbound
    entry: dict[str, Any] = {
        "spi_in": None if inbound is None else f"{inbound.spi:#x}",
        "spi_out": None if outbound is None else f"{outbound.spi:#x}",
        "suite": None if record is None else record.suite.keyword,
        "esn": None if record is None else record.suite.esn,
        "local_ts": list(dict.fromkeys(pair.local_text for pair in child.selectors)),
        "remote_ts": list(dict.fromkeys(pair.remote_text for pair in child.selectors)),
        "age_s": None if record is None else round(now - record.installed, 1),
        "rekey_in_s": None,
    }
    drops: dict[str, int] = {}
    for way, handle in (("in", child.inbound), ("out", child.outbound)):
        info = None if handle is None else sad.read(handle)
        entry[f"packets_{way}"] = 0 if info is None else info.packets
        entry[f"octets_{way}"] = 0 if info is None else info.octets
        entry[f"sequence_{way}"] = 0 if info is None else info.sequence
        entry[f"last_{way}_s"] = None if info is None or info.last_use == 0 else round(now - info.last_use / NS_PER_S, 1)
        for reason, count in ({} if info is None else info.drops).items():
            drops[reason] = drops.get(reason, 0) + count
    entry["drops"] = {reason: count for reason, count in drops.items() if count}
    return entry


def gateway_status(*, name: str, plane: DataPlane, offloads: Mapping[str, bool], warnings: Sequence[str]) -> dict[str, Any]:
    """The whole answer but for `tunnels`."""
    counters = plane.counters()
    arena = plane.arena()
    return {
        "schema": SCHEMA,
        "gateway": name,
        "provider": plane.provider,
        "provider_reason": plane.provider_reason,
        "offloads": dict(offloads),
        "warnings": list(warnings),
        "drops": counters.drops,
        "drop_sentences": DROP_SENTENCES,
        "traffic": {
            "packets_in": counters.packets_in,
            "octets_in": counters.octets_in,
            "packets_out": counters.packets_out,
            "octets_out": counters.octets_out,
            "keepalives_in": counters.keepalives_in,
            "ike_in": counters.ike_in,
        },
        "workers": workers.status(plane),
        "punts": {"limited": counters.punts_limited, "lost": counters.punts_lost},
        "keys": {"octets": arena.in_use, "locked": arena.locked, "undumped": arena.undumped, "wiped_on_fork": arena.wiped_on_fork},
    }
