"""How this host is administered, whether a configuration takes that way, and the one policy that keeps it.

Whoever configures 0.0.0.0/0 on a machine that he reaches by SSH has cut himself off with the next `up`. What is looked at is the
way back, from our address to his: what the guard drops, and what routes lead into a tunnel. The policy that is offered lets one TCP
port of one of our addresses through to one address, and never where that lies in a network that is protected by name.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import TYPE_CHECKING

from ipsec_dp.config import bypass
from ipsec_dp.config.model import Policy
from ipsec_dp.errors import Finding
from ipsec_dp.host import HostError, guard, ssh
from ipsec_dp.host.bulk import FAMILIES, Bulk
from ipsec_dp.host.netlink import open_netlink
from ipsec_dp.host.outer import inside_networks, outer_route
from ipsec_dp.host.routes import MAIN
from ipsec_dp.ipsec.addresses import AddressRange, merge, subtract
from ipsec_dp.ipsec.selectors import Range, SelectorPair
from ipsec_dp.network.desired import guard_selectors, routed_prefixes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pyroute2 import AsyncIPRoute

    from ipsec_dp.config import Config
    from ipsec_dp.ipsec.addresses import Address, Network

TCP, SSH_PORT = 6, 22
ANY_CLIENT_PORT = 50000  # stands for those that clients have
PEERS_ASKED = 64  # for the interfaces by which they are reached
# No address of another host: local, multicast and reserved networks, and what is no unicast of IPv6 (RFC 4291 §2.4).
NOBODY = {4: ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3"), 6: ("::/3", "4000::/2", "8000::/1")}


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody at `remote` administers this host at `local`, TCP `port`. `ssh`: he does now; else his way is the default route."""

    remote: Address
    local: Address
    port: int = SSH_PORT
    remote_port: int = ANY_CLIENT_PORT
    ssh: bool = True

    @property
    def policy(self) -> Policy:
        """Lets it through, and nothing else."""
        ends = AddressRange(self.local, self.local), AddressRange(self.remote, self.remote)
        selector = SelectorPair(*ends, Range(TCP, TCP), local_ports=Range(self.port, self.port))
        return Policy(action="bypass", tunnel=None, selectors=(selector,))


@dataclass(frozen=True, slots=True)
class Lockout:
    """A configuration takes the way of a session. `named`: the protected network in which its remote address lies, by name."""

    session: Session
    named: AddressRange | None

    def finding(self, file: str) -> Finding:
        """For `check` and `up`."""
        session = self.session
        who = (
            f"this SSH session from {session.remote}" if session.ssh else f"who comes by the default route, from {session.remote},"
        )
        if self.named is None:
            wrong = f"packets from {session.local} port {session.port} to {session.remote} are protected: {who} is cut off"
            return Finding("warning", file, "policy", "", wrong, "write this one before all others:")
        wrong = f"{session.remote} lies in {self.named.prefix_text}, which is protected: {who} is cut off outside the tunnel"
        return Finding("warning", file, "policy", "", wrong, "administer this host through the tunnel, or from another address")

    @property
    def kept(self) -> str:
        """What the policy lets through; empty where none may."""
        session = self.session
        return "" if self.named is not None else f"TCP port {session.port} of {session.local} to {session.remote}"

    @property
    def toml(self) -> str:
        """The policy that keeps the session, as the configuration has it; empty where none may."""
        if self.named is not None:
            return ""
        session = self.session
        return (
            f'[[policy]]\naction = "bypass"\nlocal = "{session.local}"\nremote = "{session.remote}"\nprotocol = "tcp"\n'
            f"local_ports = {session.port}\n"
        )


def with_bypass(config: Config, lockout: Lockout | None) -> Config:
    """The configuration that does not take the session's way, where that may be kept."""
    if lockout is None or lockout.named is not None:
        return config
    return replace(config, policies=(lockout.session.policy, *config.policies))


def lockout_of(config: Config, session: Session, host: Iterable[Network], inside: Sequence[AddressRange]) -> Lockout | None:
    """Whether packets of a session would be dropped by the guard, or led into a tunnel; None: neither.

    `host`: the prefixes of this host's main table; `inside`: the networks on this side (`guard.separate`).
    """
    remote = AddressRange(session.remote, session.remote)
    for rule in guard_selectors(config)[0]:
        if not rule.selector.holds(session.local, session.remote, TCP, session.port, session.remote_port):
            continue
        if rule.bypass:
            return None
        if any(part.remote.covers(remote) for part in guard.separate([rule], inside)):
            return Lockout(session, None if rule.remote.everything else rule.remote)
    matches, ports = bypass.plan(config.policies).matches, (session.port, session.remote_port)
    past = bypass.held_by(matches, session.local, session.remote, TCP, ports)
    if past is not None and past.past:
        return None
    ours = [prefix for prefix in routed_prefixes(config) if session.remote in prefix]
    longest = max((prefix.prefixlen for prefix in host if session.remote in prefix), default=0)
    if not any(prefix.prefixlen > longest or prefix.prefixlen == longest == 0 for prefix in ours):
        return None
    version = session.remote.version
    whole = merge(AddressRange.of(prefix) for prefix in routed_prefixes(config) if prefix.version == version)
    (named,) = [each for each in whole if each.covers(remote)]
    return Lockout(session, None if named.everything else named)


def ssh_session(text: str) -> Session | None:
    """Of the text of SSH_CONNECTION; None: it says nothing of use. A link-local address is never taken."""
    try:
        remote, remote_port, local, port = text.split()
        session = Session(ip_address(remote), ip_address(local), int(port), int(remote_port))
    except ValueError:
        return None
    local_link = session.remote.is_link_local or session.remote.is_loopback
    return None if local_link or session.remote.version != session.local.version else session


async def look(config: Config) -> Lockout | None:
    """Whether a configuration takes the way by which this host is administered now: the SSH session that we were started in, else
    the default route. None: it does not, or nothing is known of it.

    A default route alone says little: who has written any bypass for the port of SSH has thought of it.
    """
    text = ssh.connection()
    session = None if text is None else ssh_session(text)
    if text is None and any(
        _is_for_ssh(selector) for policy in config.policies if policy.action == "bypass" for selector in policy.selectors
    ):
        return None
    try:
        with Bulk() as bulk:
            host = {version: [row.prefix for row in await bulk.routes(version, table=MAIN)] for version in FAMILIES}
        async with open_netlink() as ipr:
            session = session or (await _by_default_route(ipr, host) if text is None else None)
            if session is None:
                return None
            networks = await inside_networks(ipr, await _outer_interfaces(ipr, config))
            inside = [AddressRange.of(network.prefix) for network in networks if network.fixed or not config.strict]
    except (HostError, OSError):
        return None
    return lockout_of(config, session, host[session.remote.version], inside)


def _is_for_ssh(selector: SelectorPair) -> bool:
    return selector.protocol.contains(TCP) and selector.local_ports.contains(SSH_PORT)


async def _by_default_route(ipr: AsyncIPRoute, host: dict[int, list[Network]]) -> Session | None:
    """Who may come by the router that the default route leads to stands for all who come that way."""
    for version, prefixes in host.items():
        if not any(prefix.prefixlen == 0 for prefix in prefixes):
            continue
        longer = [AddressRange.of(prefix) for prefix in (*prefixes, *NOBODY[version]) if not str(prefix).endswith("/0")]
        elsewhere = subtract(AddressRange.of("0.0.0.0/0" if version == 4 else "::/0"), longer)
        if not elsewhere:
            continue
        route = await outer_route(ipr, elsewhere[0].low)
        if route.gateway is not None:
            return Session(route.gateway, route.source, ssh=False)
    return None


async def _outer_interfaces(ipr: AsyncIPRoute, config: Config) -> set[int]:
    """By which the first peers are reached now."""
    remotes = [remote for tunnel in config.tunnels for remote in tunnel.remotes if not isinstance(remote, str)]
    found: set[int] = set()
    for remote in remotes[:PEERS_ASKED]:
        try:
            found.add((await outer_route(ipr, remote)).interface)
        except HostError:
            continue
    return found
