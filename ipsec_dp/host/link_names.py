"""Who has the names that interfaces of ours are to have."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from ipsec_dp.host.netlink import ask, open_netlink

if TYPE_CHECKING:
    from collections.abc import Iterable


def taken_names(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Those of `names` that interfaces here have, with the kind ("veth", "tun"; empty: a plain one) and the alias of each.

    For a thread without an event loop. HostError.
    """
    present = sorted(set(names) & {name for _, name in socket.if_nameindex()})
    return asyncio.run(_kinds(present)) if present else {}


async def _kinds(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    found = {}
    async with open_netlink() as ipr:
        for name in names:
            (row, *_) = await ask(f"interface {name}", ipr.link("get", ifname=name))
            kind = (row.get("IFLA_LINKINFO") or {}).get("IFLA_INFO_KIND") or ""
            found[name] = str(kind), str(row.get("IFLA_IFALIAS") or "")
    return found
