"""What only shows when all tables are seen together: names, rules that are never reached, SPIs and keys used twice."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ipsec_dp.config import bypass, model, shadows
from ipsec_dp.config.findings import Findings, Place, suggest
from ipsec_dp.config.nested import Nesting
from ipsec_dp.ipsec.addresses import AddressRange
from ipsec_dp.ipsec.spi import spi_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ipsec_dp.config.named_files import NamedFiles
    from ipsec_dp.ipsec.addresses import Address, Network
    from ipsec_dp.ipsec.rules import Rule
    from ipsec_dp.ipsec.selectors import SelectorPair

SHADOWS_NAMED = 3  # of rules that hold another together


def tunnel_place(name: str) -> str:
    """How findings name a tunnel."""
    return f'tunnel "{name}"'


def check_names(names: Sequence[str], config: model.Config, findings: Findings) -> None:
    """Every tunnel's name once (`names` has also those of unreadable tunnels), and policies and routes name tunnels there are."""
    for name, count in Counter(names).items():
        if count > 1:
            findings.at(tunnel_place(name)).error("name", f"{count} tunnels have this name", "give each tunnel its own")
    known = set(names)
    named = [(f"policy #{number}", policy.tunnel) for number, policy in enumerate(config.policies, 1)]
    named += [(f"route #{number}", route.tunnel) for number, route in enumerate(config.routes, 1)]
    for where, tunnel in named:
        if tunnel is not None and tunnel not in known:
            hint = suggest(tunnel, sorted(known)) if known else "write a [[tunnel]] of this name"
            findings.at(where).error("tunnel", f'no tunnel is named "{tunnel}"', hint)


def check_rules(policies: Sequence[tuple[int, model.Policy]], tunnels: Sequence[model.Tunnel], findings: Findings) -> None:
    """Rules wholly shadowed by an earlier one, rules no CHILD_SA could carry, and tunnels with the same selectors on one interface.

    `policies` come with their number in the file; both must have been found good by themselves.
    """
    by_name = {tunnel.name: tunnel for tunnel in tunnels}
    twins = _check_twins(tunnels, findings)
    _check_carriers(policies, by_name, findings)
    sound = [(number, policy) for number, policy in policies if policy.tunnel is None or policy.tunnel in by_name]
    rules = model.rules_of(tuple(policy for _, policy in sound), tuple(tunnels))
    numbers = [number for number, _ in sound]
    reported = set()
    for rule, holders in shadows.find_shadowed(rules):
        if rule.policy is None and all(each.policy is not None and each.tunnel == rule.tunnel for each in holders):
            continue  # policies lead into the same tunnel, where the proxy ID still selects the CHILD_SA
        if rule.policy is None and rule.tunnel in twins and any(each.policy is None and each.tunnel in twins for each in holders):
            continue
        where, key = _name_rule(rule, numbers)
        if (where, key) in reported:
            continue
        reported.add((where, key))
        findings.at(where).error(key, *_describe_shadow(rule, holders, numbers))


def check_bypass(policies: Sequence[tuple[int, model.Policy]], findings: Findings) -> None:
    """A bypass policy must be such that the kernel's routing can carry it out, in its place in the order."""
    reported = set()
    for refusal in bypass.plan([policy for _, policy in policies]).refusals:
        number = policies[refusal.policy][0]
        wrong = f"the kernel's routing, which carries bypass out, cannot tell {refusal.wrong} apart"
        if refusal.cut_by is not None:
            cut_by, action = policies[refusal.cut_by][0], policies[refusal.cut_by][1].action
            wrong = f"policy #{cut_by} ({action}) comes first and takes a part out of it, but {wrong}"
        if number not in reported:
            findings.at(f"policy #{number}").error("action", wrong, refusal.right)
        reported.add(number)


def _check_carriers(policies: Sequence[tuple[int, model.Policy]], tunnels: Mapping[str, model.Tunnel], findings: Findings) -> None:
    """A protect policy needs a tunnel that negotiates some of what it names: a CHILD_SA carries only what its selectors hold."""
    for number, policy in policies:
        tunnel = tunnels.get(policy.tunnel or "")
        if tunnel is None or any(one.overlaps(other) for one in policy.selectors for other in tunnel.selectors):
            continue
        findings.at(f"policy #{number}").error(
            "tunnel",
            f'tunnel "{tunnel.name}" carries none of {", ".join(map(str, policy.selectors))}',
            f"add a proxy ID for it there, or write a part of {', '.join(map(str, tunnel.selectors))}",
        )


def _check_twins(tunnels: Sequence[model.Tunnel], findings: Findings) -> set[str]:
    """Reports tunnels whose selectors are the same as an earlier one's on the same interface; the names of all concerned."""
    first: dict[tuple[str, frozenset[SelectorPair]], str] = {}
    twins: set[str] = set()
    for tunnel in tunnels:
        other = first.setdefault((tunnel.interface, frozenset(tunnel.selectors)), tunnel.name)
        if other != tunnel.name:
            twins |= {other, tunnel.name}
            findings.at(tunnel_place(tunnel.name)).error(
                "proxy_id" if tunnel.proxy_ids else "interface",
                f'selectors are those of tunnel "{other}" on the same interface {tunnel.interface}',
                "give each tunnel its own proxy IDs, or its own interface",
            )
    return twins


def _name_rule(rule: Rule, numbers: Sequence[int]) -> tuple[str, str]:
    if rule.policy is not None:
        return f"policy #{numbers[rule.policy]}", ""
    return tunnel_place(rule.tunnel or ""), "proxy_id" if rule.proxy_id is not None else "interface"


def _describe_shadow(rule: Rule, holders: Sequence[Rule], numbers: Sequence[int]) -> tuple[str, str]:
    """What is wrong and what would be right."""
    named = [_describe_earlier(rule, each, numbers) for each in holders[:SHADOWS_NAMED]]
    if len(holders) > len(named):
        named.append(f"{len(holders) - len(named)} more")
    if len(holders) > 1:
        wrong = f"never reached: {', '.join(named[:-1])} and {named[-1]} together hold all of {rule.selector}"
        return wrong, "write the narrower rule first, or take this one out"
    if holders[0].selector == rule.selector and holders[0].action != rule.action:
        return f"contradicts {named[0]}: the first one decides", "take one of both out"
    return f"never reached: {named[0]} holds all of {rule.selector}", "write the narrower rule first, or take one of both out"


def _describe_earlier(rule: Rule, earlier: Rule, numbers: Sequence[int]) -> str:
    if earlier.policy is not None:
        return f"policy #{numbers[earlier.policy]} ({earlier.action} {earlier.selector})"
    owner = "its own" if earlier.tunnel == rule.tunnel else f'tunnel "{earlier.tunnel}"\'s'
    return f"{owner} earlier {earlier.selector}"


def check_routes(config: model.Config, tunnels: Sequence[model.Tunnel], findings: Findings) -> None:
    """A route leads to a tunnel that can carry some of it, and no two of the same prefix have the same metric."""
    by_name = {tunnel.name: tunnel for tunnel in tunnels}
    seen: dict[tuple[object, int], int] = {}
    ways = _check_tunnel_routes(tunnels, findings)
    for number, route in enumerate(config.routes, 1):
        place = findings.at(f"route #{number}")
        tunnel = by_name.get(route.tunnel)
        if tunnel is not None:
            _check_carried(tunnel, route.prefix, place, "prefix")
        other = seen.setdefault((route.prefix, route.metric), number)
        if other != number:
            place.error("metric", f"route #{other} has the same prefix and metric", "write another metric")
        elif tunnel is not None:
            owner = ways.get((route.prefix, route.metric), tunnel)
            if owner.interface != tunnel.interface:
                wrong = f'{route.prefix} is routed into {owner.interface} with metric {route.metric} by tunnel "{owner.name}"'
                place.error("metric", wrong, "write another metric")


def _check_tunnel_routes(tunnels: Sequence[model.Tunnel], findings: Findings) -> dict[tuple[Network, int], model.Tunnel]:
    """What tunnels route by themselves leads into one interface each, where it can be carried. The tunnel by prefix and metric."""
    ways: dict[tuple[Network, int], model.Tunnel] = {}
    for tunnel in tunnels:
        place = findings.at(tunnel_place(tunnel.name))
        for prefix in tunnel.routes:
            _check_carried(tunnel, prefix, place, "routes")
            owner = ways.setdefault((prefix, model.ROUTE_METRIC), tunnel)
            if owner.interface != tunnel.interface:
                wrong = f'{prefix} is routed into {owner.interface} by tunnel "{owner.name}" already'
                right = f'write routes = "none", and a [[route]] with another metric than {model.ROUTE_METRIC}'
                place.error("routes", f"{wrong}, with the same metric", right)
        _check_peer_inside(tunnel, place)
    return ways


def _check_carried(tunnel: model.Tunnel, prefix: Network, place: Place, key: str) -> None:
    if any(selector.remote.overlaps(AddressRange.of(prefix)) for selector in tunnel.selectors):
        return
    remotes = ", ".join(selector.remote.prefix_text for selector in tunnel.selectors)
    if all(selector.version != prefix.version for selector in tunnel.selectors):
        wrong = f'{prefix} is IPv{prefix.version}, and no proxy ID of tunnel "{tunnel.name}" is'
        place.error(key, wrong, f"add a proxy ID of IPv{prefix.version}, or write a part of {remotes}")
        return
    place.error(key, f'{prefix} lies outside what tunnel "{tunnel.name}" protects', f"write a part of {remotes}")


def _check_peer_inside(tunnel: model.Tunnel, place: Place) -> None:
    """A peer may lie inside what is routed to it: our own packets are marked and stay outside. Who writes a default route or the
    peer's address itself knows that the rest does not; in a network between them it may be an oversight."""
    for remote in tunnel.remotes:
        for prefix in () if isinstance(remote, str) else tunnel.routes:
            if remote in prefix and 0 < prefix.prefixlen < prefix.max_prefixlen:
                wrong = f"the peer {remote} lies in {prefix}, which is routed into its own tunnel, and with it all but ESP and IKE"
                place.warn("remote", wrong, f"if that is not meant, leave {remote} out of the routes")


def check_sides(tunnels: Sequence[model.Tunnel], findings: Findings) -> None:
    """Hosts look for their own prefix on their own link: what has it on both sides of a tunnel gets nothing through."""
    for tunnel in tunnels:
        for selector in tunnel.selectors:
            if selector.local == selector.remote and not selector.local.everything:
                findings.at(tunnel_place(tunnel.name)).warn(
                    "proxy_id",
                    f"{selector.local.prefix_text} is the prefix of both sides, and hosts look for it on their own link, not here",
                    "renumber one side, or translate it (NAT) into a prefix that neither side has, and write that one",
                )


def check_nesting(config: model.Config, tunnels: Sequence[model.Tunnel], findings: Findings) -> None:
    """No peer lies behind another tunnel. Peers without an address here are to be looked at when they have one."""
    nesting = Nesting(config.policies, tunnels, config.routes)
    for tunnel in tunnels:
        for remote in tunnel.remotes:
            if not isinstance(remote, str):
                _check_nested(nesting, tunnel, remote, findings.at(tunnel_place(tunnel.name)))


def _check_nested(nesting: Nesting, tunnel: model.Tunnel, remote: Address, place: Place) -> None:
    holder = nesting.holder(tunnel.name, remote, tunnel.local, shortest=0)
    if holder is None:
        return
    if holder.prefix.prefixlen:
        wrong = f'{remote} lies behind tunnel "{holder.tunnel}", which protects {holder.prefix}; a tunnel inside it is not made'
        place.error("remote", wrong, holder.remedy(remote))
    else:
        wrong = f'ESP and IKE to {remote} leave beside tunnel "{holder.tunnel}", which protects {holder.prefix}'
        place.warn("remote", wrong, f"where that is meant, say so: {holder.bypass(remote)}")


def check_manual(tunnels: Sequence[model.Tunnel], named_files: NamedFiles, findings: Findings) -> None:
    """Every inbound SPI once, every key file sound, and no key under two SAs: GCM would repeat nonces (RFC 4106 §3)."""
    spis: dict[int, str] = {}
    keys: dict[bytes, tuple[str, Path]] = {}
    for tunnel in tunnels:
        if tunnel.manual is None:
            continue
        manual, place = tunnel.manual, findings.at(tunnel_place(tunnel.name)).below("manual_unsafe")
        other = spis.setdefault(manual.spi_in, tunnel.name)
        if other != tunnel.name:
            place.error(
                "spi_in",
                f'{spi_text(manual.spi_in)} is also that of tunnel "{other}"',
                "inbound SPIs are this gateway's: write another",
            )
        for key, path in (("key_in_file", manual.key_in_file), ("key_out_file", manual.key_out_file)):
            found = named_files.key(path, manual.suite.keymat_octets)
            if found.wrong is not None:
                place.error(key, *found.wrong)
                continue
            if found.key in keys:
                owner, first = keys[found.key]
                place.error(key, f'holds the same key as {first} (tunnel "{owner}")', "every SA needs a key of its own")
            keys.setdefault(found.key, (tunnel.name, path))
