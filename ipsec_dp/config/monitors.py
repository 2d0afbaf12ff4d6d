"""[tunnel.monitor]: read, and checked against the selectors, policies and routes that its probes meet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.config import model
from ipsec_dp.config.quantities import parse_address, parse_duration
from ipsec_dp.ipsec.addresses import AddressRange
from ipsec_dp.ipsec.selectors import ICMP_OF_VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipsec_dp.config import tables
    from ipsec_dp.config.findings import Findings, Place
    from ipsec_dp.ipsec.addresses import Address
    from ipsec_dp.ipsec.selectors import SelectorPair


def resolve_monitor(table: tables.Monitor | None, place: Place) -> model.Monitor | None:
    """The monitor of a tunnel; None: it has none, or none that can be read."""
    if table is None:
        return None
    target = place.optional("target", parse_address, table.target)
    source = place.optional("source", parse_address, table.source)
    interval = place.value("interval", parse_duration, table.interval, 3)
    if interval < 1:
        place.error("interval", f"{interval}s is too little", "write 1s or more")
    if not 1 <= table.threshold <= 100:
        place.error("threshold", f"{table.threshold} cannot be", "write a number from 1 to 100")
    if target is None:
        return None
    return model.Monitor(target=target, source=source, interval_s=interval, threshold=table.threshold, action=table.action)


def check_monitors(config: model.Config, tunnels: Sequence[model.Tunnel], findings: Findings) -> None:
    """Probes that no selector carries, or that a policy sends elsewhere, and fail-over with nothing to move or nowhere to go."""
    for tunnel in tunnels:
        if tunnel.monitor is not None:
            place = findings.at(f'tunnel "{tunnel.name}"').below("monitor")
            carriers = _check_ends(tunnel, tunnel.monitor, place)
            _check_policies(config, tunnel, tunnel.monitor, carriers, place)
            if tunnel.monitor.action == "fail-over":
                _check_fail_over(config, tunnel, place)


def _echo(selector: SelectorPair, target: Address) -> bool:
    """Whether a selector carries echo requests to this address, as far as only the address and the protocol say."""
    return selector.remote.contains(target) and selector.protocol.contains(ICMP_OF_VERSION[target.version])


def _check_ends(tunnel: model.Tunnel, monitor: model.Monitor, place: Place) -> list[SelectorPair]:
    """The selectors that carry probes."""
    carriers = [selector for selector in tunnel.selectors if _echo(selector, monitor.target)]
    source = monitor.source
    if not carriers:
        remotes = ", ".join(selector.remote.prefix_text for selector in tunnel.selectors)
        place.error("target", f"no proxy ID carries a ping to {monitor.target}", f"write an address inside {remotes}")
        return []
    if source is not None:
        carriers = [selector for selector in carriers if selector.local.contains(source)]
        if not carriers:
            place.error(
                "source",
                f"no proxy ID carries a ping from {source} to {monitor.target}",
                "write one inside local",
            )
    elif all(selector.local.everything for selector in carriers) and not any(
        address.version == monitor.target.version for address in tunnel.addresses
    ):
        place.error("source", "is missing where any would do", "write an address of this gateway")
    return carriers


def _check_policies(
    config: model.Config, tunnel: model.Tunnel, monitor: model.Monitor, carriers: Sequence[SelectorPair], place: Place
) -> None:
    """Among tunnels of one interface the policy decides: the first rule that holds a probe must be one of this tunnel."""
    for rule in config.rules:
        if rule.interface not in (None, tunnel.interface) or not _echo(rule.selector, monitor.target):
            continue
        sources = (
            [AddressRange(monitor.source, monitor.source)] if monitor.source is not None else [each.local for each in carriers]
        )
        if not any(rule.selector.local.covers(each) for each in sources):
            continue
        if rule.tunnel != tunnel.name:
            owner = f'goes to tunnel "{rule.tunnel}"' if rule.tunnel else f"is under {rule.action}"
            place.error(
                "target", f"a ping to {monitor.target} {owner}, by {rule.selector}", "write a target that only this tunnel has"
            )
        return


def _check_fail_over(config: model.Config, tunnel: model.Tunnel, place: Place) -> None:
    """Routes decide between interfaces: a tunnel that may lose its own needs an interface for itself, and one to take over."""
    others = [each.name for each in config.tunnels if each.interface == tunnel.interface and each.name != tunnel.name]
    if others:
        place.error(
            "action",
            f'fail-over takes the routes of {tunnel.interface} away, which tunnel "{others[0]}" shares',
            "give this tunnel an interface of its own, or write wait-recover",
        )
    mine = {*tunnel.routes, *(route.prefix for route in config.routes if route.tunnel == tunnel.name)}
    theirs = {prefix for each in config.tunnels if each.name != tunnel.name for prefix in each.routes}
    theirs |= {route.prefix for route in config.routes if route.tunnel != tunnel.name}
    if not mine & theirs:
        place.warn(
            "action",
            "no other tunnel has a route for the same prefix: there is nothing to fail over to",
            "write a [[route]] for the prefix into another tunnel, with a larger metric",
        )
