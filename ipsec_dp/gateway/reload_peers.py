"""The peers of a configuration that a reload takes over, with their secrets."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ipsec_dp.databases.pad import KeyFiles, peer_of, resources_of
from ipsec_dp.errors import Finding
from ipsec_dp.ike.errors import IkeError

if TYPE_CHECKING:
    from ipsec_dp.config import Tunnel
    from ipsec_dp.config.difference import Difference
    from ipsec_dp.ike.peer import Peer


def new_or_changed(difference: Difference) -> list[Tunnel]:
    """Tunnels that are added, or that a key changes."""
    return [*difference.added, *(change.new for change in difference.changed)]


async def load_peers(difference: Difference) -> tuple[dict[str, Peer], list[Finding]]:
    """Peers of tunnels that are new or changed, with their secrets; what cannot be read. In a thread: a file, or who opens it for
    this process, may be slow to answer."""
    return await asyncio.to_thread(read_peers, difference)


def read_peers(difference: Difference) -> tuple[dict[str, Peer], list[Finding]]:
    """`load_peers`, in this thread."""
    peers: dict[str, Peer] = {}
    wrong: list[Finding] = []
    tunnels, resources = new_or_changed(difference), resources_of(difference.new)
    with KeyFiles(tunnels) as read:
        for tunnel in tunnels:
            if tunnel.auth is None:
                continue
            try:
                peers[tunnel.name] = peer_of(tunnel, files_read=read, resources=resources)
            except (IkeError, OSError, ValueError) as error:
                place, right = f'tunnel "{tunnel.name}"', "make the file as check wants it"
                wrong.append(Finding("error", str(difference.new.path), place, "auth", str(error), right))
    return peers, wrong
