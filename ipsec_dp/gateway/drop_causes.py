"""Why a packet was dropped, most likely: a table of reasons, of what tells one case from another, and of what to say to a person.

The data plane knows the reason, and of the packet where it came from and went; the configuration and the host's addresses say the
rest. Of a reason the first row that fits gives the sentence, in which {s.…} are properties of the `Scene`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, NamedTuple

from ipsec_dp.dataplane import DROP_SENTENCES, Direction
from ipsec_dp.host.conntrack import exemption
from ipsec_dp.ipsec.selectors import ANY_PORT, PORT_OPAQUE, PORT_PROTOCOLS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from ipsec_dp.config import Tunnel
    from ipsec_dp.dataplane import DropExample
    from ipsec_dp.ipsec.addresses import Address
    from ipsec_dp.ipsec.rules import Rule
    from ipsec_dp.ipsec.selectors import SelectorPair


@dataclass(frozen=True)
class Scene:
    """A dropped packet and what is around it.

    `rules`: those that count on its interface, in the order of decision. `own`: this host's addresses. `interface`, `carrier`:
    names of the TUN interface and of the tunnel that brought it, where they are known. `state` says how a tunnel is.
    """

    example: DropExample
    rules: Sequence[Rule]
    tunnels: Sequence[Tunnel]
    own: Collection[Address]
    interface: str | None
    carrier: str | None
    state: Callable[[str], str]

    @property
    def source(self) -> Address | None:
        return self.example.source

    @property
    def destination(self) -> Address | None:
        return self.example.destination

    @cached_property
    def ends(self) -> tuple[Address, Address] | None:
        """Local and remote end; None where the packet shows none."""
        if self.source is None or self.destination is None:
            return None
        outbound = self.example.direction is Direction.OUTBOUND
        return (self.source, self.destination) if outbound else (self.destination, self.source)

    # ---- the rules that say something about it

    def _first(self, fits: Callable[[SelectorPair, Address, Address], bool], *, named: bool = False) -> Rule | None:
        """The first protect rule that fits local and remote end; `named`: of those that do not have everything as remote."""
        if self.ends is None:
            return None
        for rule in self.rules:
            if rule.action == "protect" and not (named and rule.selector.remote.everything) and fits(rule.selector, *self.ends):
                return rule
        return None

    @cached_property
    def rule(self) -> Rule | None:
        """The first of all that holds it."""
        if self.ends is None:
            return None
        e = self.example
        ports = (e.source_port, e.destination_port)[:: 1 if e.direction is Direction.OUTBOUND else -1]
        return next((rule for rule in self.rules if rule.selector.holds(*self.ends, e.protocol, *ports)), None)

    @cached_property
    def near(self) -> Rule | None:
        """Its addresses hold the packet, whatever protocol and ports say."""
        return self._first(lambda pair, local, remote: pair.local.contains(local) and pair.remote.contains(remote))

    @cached_property
    def towards(self) -> Rule | None:
        """It names the remote end."""
        return self._first(lambda pair, _, remote: pair.remote.contains(remote), named=True)

    @cached_property
    def from_here(self) -> Rule | None:
        """It has the local end."""
        return self._first(lambda pair, local, _: pair.local.contains(local))

    @cached_property
    def backwards(self) -> Rule | None:
        """It holds the packet the other way round."""
        return self._first(lambda pair, local, remote: pair.local.contains(remote) and pair.remote.contains(local), named=True)

    @cached_property
    def peer(self) -> str | None:
        """The tunnel that has the source as its peer."""
        return next((tunnel.name for tunnel in self.tunnels if self.source is not None and self.source in tunnel.remotes), None)

    # ---- words of the sentences

    @property
    def rule_name(self) -> str:
        return "a policy" if self.rule is None or self.rule.policy is None else f"policy #{self.rule.policy + 1}"

    @property
    def near_text(self) -> str:
        return "no proxy ID" if self.near is None else str(self.near.selector)

    @property
    def tunnel(self) -> str | None:
        """The one that brought it, else the one that it would take."""
        return self.carrier if self.carrier is not None or self.rule is None else self.rule.tunnel

    @property
    def tunnel_state(self) -> str:
        return "unknown" if self.tunnel is None else self.state(self.tunnel)

    @property
    def exemption(self) -> str:
        return exemption(self.interface or "the tunnel's interface", 4 if self.source is None else self.source.version)


# ---- what tells one case from another


def _always(_: Scene) -> bool:
    return True


def _to_a_group(s: Scene) -> bool:
    return s.destination is not None and s.destination.is_multicast


def _from_this_host(s: Scene) -> bool:
    """With a source that no proxy ID has, or none with this destination."""
    return s.source in s.own and s.near is None and (s.from_here is None or s.towards is not None)


def _backwards(s: Scene) -> bool:
    return s.backwards is not None


def _without_ports(s: Scene) -> bool:
    """A later fragment, where a selector wants ports."""
    hidden = s.example.protocol in PORT_PROTOCOLS and s.example.source_port == PORT_OPAQUE
    return hidden and s.near is not None and (s.near.selector.local_ports, s.near.selector.remote_ports) != (ANY_PORT, ANY_PORT)


def _near(s: Scene) -> bool:
    return s.near is not None


def _towards(s: Scene) -> bool:
    return s.towards is not None


def _from_here(s: Scene) -> bool:
    return s.from_here is not None


def _inbound(s: Scene) -> bool:
    return s.example.direction is Direction.INBOUND


def _in_a_tunnel(s: Scene) -> bool:
    return s.tunnel is not None


def _in_a_tunnel_that_is_up(s: Scene) -> bool:
    return s.tunnel_state == "up"


def _from_a_peer(s: Scene) -> bool:
    return s.peer is not None


def _configured(s: Scene) -> bool:
    return s.rule is not None and s.rule.action == "protect"


class Case(NamedTuple):
    """Reasons by their names, the case, and its sentence."""

    reasons: str
    fits: Callable[[Scene], bool]
    sentence: str


CAUSES: Final = (
    Case("policy_none", _to_a_group, "{s.destination} is a group, and no proxy ID has it as remote"),
    Case(
        "policy_none",
        _from_this_host,
        "{s.source} is this host's own address and in no proxy ID with this destination: something masquerades (exempt the "
        "interface: {s.exemption}), or a program of this host is bound to it",
    ),
    Case("policy_none", _backwards, "it goes the wrong way: {s.source} lies on the peer's side (a loop, or a forged source)"),
    Case(
        "policy_none selectors fragment_ports",
        _without_ports,
        "a later fragment shows no ports, and {s.near_text} wants them: make the sender's packets smaller, leave the ports out, or "
        "have a proxy_id with opaque ports at both ends",
    ),
    Case("policy_none", _near, "the addresses are those of {s.near_text}, protocol or ports are not"),
    Case(
        "policy_none",
        _towards,
        "{s.destination} is protected, but {s.source} is in no proxy ID with it: a network that was left "
        "out, or something translated the source",
    ),
    Case("policy_none", _from_here, "a route leads {s.destination} into {s.interface}, and no proxy ID has it as remote"),
    Case("policy_none", _always, "a route leads it into {s.interface}, and no proxy ID names either end"),
    Case("policy_discard", _always, "{s.rule_name} of the configuration says discard"),
    Case(
        "policy_bypass",
        _always,
        "{s.rule_name} says bypass, but a route or rule in front of ours leads into {s.interface}, or it is a fragment",
    ),
    Case(
        "own_outer",
        _always,
        "a rule of this host sets the mark of our packets, or leads them into {s.interface} by their addresses",
    ),
    Case(
        "fragment_ports",
        _always,
        "its first fragment did not come before it, or the peer did not agree to take it (NON_FIRST_FRAGMENTS_ALSO)",
    ),
    Case(
        "fragment_refused", _always, "somebody tries to get round the ports that are checked, or a network delivers fragments twice"
    ),
    Case("multicast_shared", _always, "give the tunnel that is to carry the group an interface of its own"),
    Case("no_sa", _in_a_tunnel_that_is_up, 'tunnel "{s.tunnel}" is up now, and had no CHILD_SA for it when it came'),
    Case("no_sa", _in_a_tunnel, 'tunnel "{s.tunnel}" is {s.tunnel_state}'),
    Case("no_sa", _always, "the tunnel is not up"),
    Case(
        "hard_limit sequence_exhausted", _always, "no new SA came in time: the tunnel's last error says why, or its keys are manual"
    ),
    Case(
        "retired",
        _always,
        "another program has the SA now, to which it was handed over (no command of ipsec-dp does that): nothing is to be done",
    ),
    Case(
        "unreserved unpublished",
        _always,
        "the program that embeds the data plane, and keeps its state elsewhere, did not go on in time",
    ),
    Case("guest_cloned", _always, "the next negotiation gives new SAs; manual keys have to be replaced"),
    Case(
        "mtu",
        _always,
        "it must not be fragmented, and its sender was told; one that goes on does not get or heed ICMP (mss_clamp helps TCP)",
    ),
    Case("too_big", _always, "the path to the peer takes less than the tunnel's MTU allows, until it is measured anew"),
    Case("send_full", _always, "more is sent than the outer interface takes"),
    Case("send_error", _always, "no route to the peer from this address, or a packet filter of this host refuses it"),
    Case("no_link", _always, "the outer address is not this host's at the moment"),
    Case("crypto_fault", _always, "a fault of the cryptographic library: please report it"),
    Case(
        "offload_kind offload_fields", _always, 'a fault of the kernel or ours; offloads = "none" gets round it: please report it'
    ),
    Case("inner_version inner_length inner_header", _inbound, "the peer sealed something that is no sound IP packet"),
    Case("inner_version inner_length inner_header", _always, "something wrote to the interface what is no sound IP packet"),
    Case(
        "unknown_spi",
        _from_a_peer,
        'the peer of tunnel "{s.peer}" uses an SA that is not here: one of the two was restarted, or keys '
        "were replaced and it does not know",
    ),
    Case("unknown_spi", _always, "no tunnel names this peer: a stranger, or a peer that moved"),
    Case(
        "reserved_dropped",
        _always,
        "the peer sent on an SA that then was refused or answered too late, or somebody floods what is under negotiation",
    ),
    Case("runt esp_length", _always, "no ESP as our SAs have it: a stranger, or cut on the way"),
    Case("replay", _always, "the network delivered it twice, or somebody sends again what was recorded"),
    Case("too_old", _always, "more packets overtook it than replay_window holds"),
    Case("icv", _always, "forged or damaged on the way, or the two ends have different keys"),
    Case("pad next_header", _always, "the peer sealed it wrongly, or the two ends do not agree on what is inside"),
    Case("dummy", _always, "the peer hides how much it sends: nothing is lost"),
    Case("selectors", _from_a_peer, "{s.source} is the peer's outer address: something masquerades there"),
    Case("selectors", _configured, 'tunnel "{s.tunnel}" may carry it by the configuration, but this SA was agreed for less'),
    Case(
        "selectors",
        _always,
        "the peer seals what was not agreed: its policy is wider than ours, or something there translates addresses",
    ),
    Case("policy_inbound", _always, "{s.rule_name} discards the other direction of this traffic"),
    Case("ecn", _always, "a router on the way marked congestion on what does not take such marks"),
    Case("tun_full", _always, "the host reads its packets more slowly than they come"),
    Case("tun_gone", _always, "the interface was deleted or is down"),
    Case("ike_limited", _always, "many in a short time: somebody floods, or a peer repeats itself without an end"),
    Case("ike_icv", _always, "forged, by somebody who can see the messages of this IKE SA or guess their SPIs"),
    Case("punt_full handover_full", _always, "this host is too busy"),
)
BY_REASON: Final = {
    reason: [row for row in CAUSES if reason in row.reasons.split()]
    for reason in {each for row in CAUSES for each in row.reasons.split()}
}


def cause_of(reason: str, scene: Scene) -> str:
    """One sentence; what the reason itself says where nothing more is known."""
    for row in BY_REASON.get(reason, ()):
        if row.fits(scene):
            return row.sentence.format(s=scene)
    return DROP_SENTENCES.get(reason, reason)
