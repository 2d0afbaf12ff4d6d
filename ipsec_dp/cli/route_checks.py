"""What `ipsec-dp doctor` asks the kernel's routing, for the configurations that the service unit starts: the way to each peer, as
our sockets' packets go, and which rules of others take what is to enter a tunnel. No gateway needs to run."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ipsec_dp.cli.checks import Check
from ipsec_dp.cli.network_checks import tunnel_interfaces
from ipsec_dp.config import examine
from ipsec_dp.errors import IpsecDpError
from ipsec_dp.gateway.host_steps import decided, rules_in_the_way
from ipsec_dp.host import MARK, HostError
from ipsec_dp.host.decision import Decisions
from ipsec_dp.host.netlink import open_netlink
from ipsec_dp.host.outer import outer_route
from ipsec_dp.host.routing_rules import RouteQuestion
from ipsec_dp.util.text import named

if TYPE_CHECKING:
    from pyroute2 import AsyncIPRoute

    from ipsec_dp.cli.checks import Host
    from ipsec_dp.config import Config, Tunnel
    from ipsec_dp.host.foreign_rules import Taken
    from ipsec_dp.host.routing_rules import RoutingRule
    from ipsec_dp.ipsec.addresses import Address

CONFIGURATIONS = "etc/ipsec-dp/*.toml"  # of conf/ipsec-dp@.service
SHOWN = 5  # ways, good and bad ones
ROUTES_HELP = "ip route get shows what the kernel decides: PEER from ADDRESS mark 0xe5; add a route, or set local"


def configurations(host: Host) -> list[Config]:
    """Those that can be read."""
    return [config for path in sorted(host.root.glob(CONFIGURATIONS)) if (config := examine(path)[0]) is not None]


def peer_ways(host: Host) -> list[Check]:
    """The way to each peer that is given as an address: with the source and the mark of our packets."""
    ends = [
        (config, tunnel, remote)
        for config in configurations(host)
        for tunnel in config.tunnels
        for remote in tunnel.remotes
        if not isinstance(remote, str)
    ]
    if not ends:
        return []
    ours = {tunnel.interface for _, tunnel, _ in ends}
    good, bad = asyncio.run(_ways(ends, ours))
    means = "the tunnel does not come up, and what it protects is dropped"
    found = [Check("way to peer", "warn", text, means, ROUTES_HELP) for text in bad[:SHOWN]]
    if len(bad) > SHOWN:
        found.append(Check("way to peer", "warn", f"and {len(bad) - SHOWN} more peers without one", means, ROUTES_HELP))
    if good:
        found.append(Check("way to peer", "ok", named(good, SHOWN, ", ")))
    return found


async def _ways(ends: list[tuple[Config, Tunnel, Address]], ours: set[str]) -> tuple[list[str], list[str]]:
    good: dict[str, None] = {}
    bad: list[str] = []
    async with open_netlink() as ipr:
        with Decisions() as kernel:
            for config, tunnel, remote in ends:
                try:
                    good[await _way(kernel, ipr, tunnel, remote, ours)] = None
                except IpsecDpError as error:
                    bad.append(f'{config.path}: tunnel "{tunnel.name}": {error}')
    return list(good), bad


async def _way(kernel: Decisions, ipr: AsyncIPRoute, tunnel: Tunnel, remote: Address, ours: set[str]) -> str:
    """How the kernel sends our packets to a peer. HostError, saying why it does not."""
    try:
        source = (await outer_route(ipr, remote, local=tunnel.local)).source
    except HostError as error:
        way = kernel.way(RouteQuestion(remote, tunnel.local, mark=MARK))
        raise HostError(f"{error}{decided(way)}") from error
    way = kernel.way(RouteQuestion(remote, source, mark=MARK))
    if way.interface in ours:
        raise HostError(f"the way to {remote} leads into {way.interface}, a tunnel's interface, in spite of the mark{decided(way)}")
    return f"{remote} from {source} by {way.interface}{decided(way)}"


def rules_before_ours(host: Host) -> list[Check]:
    """Rules of others that take what is to enter a tunnel."""
    configs = configurations(host)
    if not configs:
        return []
    tunnels = {tunnel.interface for config in configs for tunnel in config.tunnels} | set(tunnel_interfaces())
    try:
        found = asyncio.run(_taken(configs, tunnels))
    except HostError as error:
        return [Check("rules of others", "warn", str(error), "whether others take what is to enter a tunnel is not known")]
    return found or [Check("rules of others", "ok", "none takes what is to enter a tunnel")]


async def _taken(configs: list[Config], tunnels: set[str]) -> list[Check]:
    found: dict[RoutingRule, tuple[int, Taken]] = {}
    for config in configs:
        for number, taken in await rules_in_the_way(config, tunnels):
            found.setdefault(taken.rule, (number, taken))
    means = "the guard drops what it leads away, so nothing leaves in clear, and nothing arrives"
    return [Check("rules of others", "warn", taken.what, means, taken.remedy(number)) for number, taken in found.values()]
