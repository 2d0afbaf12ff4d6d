"""The host's own packet filter: which of its base chains may drop a packet, judged from what nft lists as JSON.

A rule compares what is known of a packet or what is not. What certainly accepts ends a chain, as does what certainly drops; the
rest is passed over, so a chain is named when nothing in it certainly accepts. Nothing here runs a program: see `filter_listing`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

OURS = ("ipsec_dp_", "ipsec_dp-zones_")  # tables of gateways
FAMILIES = {"ip": (4,), "ip6": (6,), "inet": (4, 6)}
PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 50: "esp", 51: "ah", 58: "icmpv6", 132: "sctp"}
SAME = {"ipv6-icmp": "icmpv6"}
DEPTH_MAX = 16
REFUSING = ("drop", "reject")
REFUSING_TARGETS = ("DROP", "REJECT")


@dataclass(frozen=True, slots=True)
class FilterPacket:
    """A packet at a hook; None: not known. `state`: of connection tracking. Ports count under UDP and TCP."""

    hook: str
    version: int
    iif: str | None = None
    oif: str | None = None
    protocol: str | None = None
    sport: int | None = None
    dport: int | None = None
    source: str | None = None
    destination: str | None = None
    mark: int = 0
    state: str = "new"


@dataclass(frozen=True, slots=True)
class DroppingChain:
    """A base chain that may drop a packet; `how`: "policy drop", or the rule that does."""

    family: str
    table: str
    chain: str
    hook: str
    how: str

    def __str__(self) -> str:
        return f"{self.family} {self.table} {self.chain} ({self.how})"


@dataclass
class _Chain:
    name: str
    family: str = ""
    hook: str = ""
    policy: str = "accept"
    rules: list[list[Any]] = field(default_factory=list)


class Filter:
    """The objects of `nft -j list ruleset`."""

    def __init__(self, objects: Iterable[Mapping[str, Any]]) -> None:
        self._chains: dict[tuple[str, str, str], _Chain] = {}
        for each in objects:
            kind = next((kind for kind in ("chain", "rule") if kind in each), "")
            row: Mapping[str, Any] = each.get(kind, {})
            if not kind or row["family"] not in FAMILIES or row["table"].startswith(OURS):
                continue
            at = row["family"], row["table"], row["name" if kind == "chain" else "chain"]
            chain = self._chains.setdefault(at, _Chain(at[2], row["family"]))
            if kind == "rule":
                chain.rules.append(row.get("expr", []))
            elif row.get("type") == "filter":
                chain.hook, chain.policy = row.get("hook", ""), row.get("policy", "accept")

    def dropping(self, packet: FilterPacket) -> list[DroppingChain]:
        """The base chains that may drop a packet, in the order in which they are listed."""
        found = []
        for (family, table, name), chain in self._chains.items():
            if chain.hook != packet.hook or packet.version not in FAMILIES[family]:
                continue
            verdict, how = self._judge(family, table, chain, packet, 0)
            if verdict == "drop" or (verdict == "" and chain.policy == "drop"):
                found.append(DroppingChain(family, table, name, chain.hook, how or "policy drop"))
        return found

    def _judge(self, family: str, table: str, chain: _Chain, packet: FilterPacket, depth: int) -> tuple[str, str]:
        """What certainly becomes of it ("accept", "drop", "": neither), and by which rule it is dropped."""
        for number, expressions in enumerate(chain.rules, 1):
            kind, target = _outcome(expressions, packet)
            if kind in ("jump", "goto") and depth < DEPTH_MAX:
                called = self._chains.get((family, table, target))
                found = ("", "") if called is None else self._judge(family, table, called, packet, depth + 1)
                if found[0] or kind == "goto":
                    return found
            elif kind == "return":
                return "", ""
            elif kind == "accept":
                return "accept", ""
            elif kind in REFUSING:
                return "drop", f"rule {number} of {chain.name}: {kind}"
        return "", ""


def _outcome(expressions: list[Any], packet: FilterPacket) -> tuple[str, str]:
    """The verdict of a rule where it certainly is for the packet, and the chain that it calls; "" otherwise."""
    for each in expressions:
        kind, value = _single(each)
        if kind == "match":
            if not _matches(value, packet):  # False, or not known
                return "", ""
        elif kind in ("accept", "return", *REFUSING):
            return kind, ""
        elif kind in ("jump", "goto"):
            return kind, value["target"]
        elif kind == "vmap":
            return _mapped(value, packet)
        elif kind == "xt":
            if value.get("type") == "target" and value.get("name") in REFUSING_TARGETS:
                return "drop", ""
            if value.get("type") == "match":
                return "", ""
        elif kind in ("limit", "quota", "unknown"):
            return "", ""
    return "", ""


def _single(expression: Any) -> tuple[str, Any]:
    """The only member of an object of one member."""
    if not isinstance(expression, dict) or len(expression) != 1:
        return "unknown", None
    return next(iter(expression.items()))


def _mapped(value: Mapping[str, Any], packet: FilterPacket) -> tuple[str, str]:
    known = _known(value["key"], packet)
    pairs = value["data"].get("set", ()) if isinstance(value["data"], dict) else ()
    for element, verdict in pairs:
        if known is not None and _equal(known, element):
            return _outcome([verdict], packet)
    return "", ""


def _matches(match: Mapping[str, Any], packet: FilterPacket) -> bool | None:
    """None: it cannot be known."""
    known = _known(match["left"], packet)
    if known is ABSENT:
        return False
    same = None if known is None else _equal(known, match["right"])
    if same is None:
        return None
    return not same if match["op"] == "!=" else same if match["op"] in ("==", "in") else None


ABSENT = object()  # of a field that the packet does not have


def _known(left: Any, packet: FilterPacket) -> Any:
    """What a field of the packet holds; None: not known."""
    if not isinstance(left, dict):
        return None
    if "meta" in left:
        return _meta(left["meta"].get("key"), packet)
    if "payload" in left:
        return _payload(left["payload"], packet)
    if "ct" in left:
        return packet.state if left["ct"].get("key") == "state" else None
    if "&" in left and isinstance(left["&"][1], int):
        inner = _known(left["&"][0], packet)
        return inner & left["&"][1] if isinstance(inner, int) else None
    return None


def _meta(key: str | None, packet: FilterPacket) -> Any:
    known = {
        "iifname": packet.iif,
        "iif": packet.iif,
        "oifname": packet.oif,
        "oif": packet.oif,
        "l4proto": packet.protocol,
        "mark": packet.mark,
        "nfproto": f"ipv{packet.version}",
        "protocol": "ip" if packet.version == 4 else "ip6",
    }
    return known.get(key or "")


def _payload(field_of: Mapping[str, Any], packet: FilterPacket) -> Any:
    protocol, name = field_of.get("protocol"), field_of.get("field")
    if protocol in ("ip", "ip6"):
        if packet.version != (4 if protocol == "ip" else 6):
            return ABSENT
        return {"saddr": packet.source, "daddr": packet.destination, "protocol": packet.protocol, "nexthdr": packet.protocol}.get(
            name or ""
        )
    if packet.protocol is None:
        return None
    if protocol not in ("th", packet.protocol):
        return ABSENT
    return {"sport": packet.sport, "dport": packet.dport}.get(name or "")


def _any(known: Any, elements: Iterable[Any]) -> bool | None:
    found = [_equal(known, each) for each in elements]
    return True if True in found else None if None in found else False


def _equal(known: Any, right: Any) -> bool | None:
    """Whether a value is that of a rule, in its set, range or prefix; None: it cannot be known (a named set)."""
    if isinstance(right, dict):
        if "set" in right:
            return _any(known, right["set"])
        if "range" in right and isinstance(known, int):
            return all(isinstance(each, int) for each in right["range"]) and right["range"][0] <= known <= right["range"][1]
        if "prefix" in right and isinstance(known, str):
            return ip_address(known) in ip_network(f"{right['prefix']['addr']}/{right['prefix']['len']}")
        return _equal(known, right["elem"]["val"]) if "elem" in right else None
    if isinstance(right, list):
        return _any(known, right)
    if isinstance(right, str) and right.startswith("@"):
        return None
    if isinstance(known, str):
        other = PROTOCOLS.get(right, str(right)) if isinstance(right, int) else SAME.get(right, right)
        return fnmatchcase(known, other) if isinstance(other, str) and other.endswith("*") else known == other
    return bool(known == right)
