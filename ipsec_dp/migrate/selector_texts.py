"""Traffic selectors as others write them: prefixes with a protocol and a port, made into proxy IDs, and never into wider ones."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ipsec_dp.config import tables
from ipsec_dp.errors import BadValueError
from ipsec_dp.migrate.draft import PROXY_IDS_MOST

if TYPE_CHECKING:
    from collections.abc import Sequence

PROTOCOLS: Final[dict[str, str | int]] = {
    "tcp": "tcp",
    "udp": "udp",
    "icmp": "icmp",
    "ipv6-icmp": "icmpv6",
    "icmpv6": "icmpv6",
    "gre": 47,
    "esp": 50,
    "sctp": 132,
    "ospf": 89,
    "any": "any",
    "%any": "any",
    "": "any",
}
PORTS: Final = {"ssh": 22, "smtp": 25, "domain": 53, "http": 80, "ntp": 123, "bgp": 179, "https": 443, "l2tp": 1701, "l2f": 1701}
_SELECTOR: Final = re.compile(r"([^\[\]]*)(?:\[([^\[\]/]*)(?:/([^\[\]]*))?\])?")
_PORT: Final = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class OneSide:
    """A selector of one side; `addresses` None: any."""

    addresses: str | None
    protocol: str | int = "any"
    ports: str | int = "any"


def protocol_of(text: str) -> str | int:
    """Our word for a protocol. Raises BadValueError."""
    word = text.strip().lower()
    if word in PROTOCOLS:
        return PROTOCOLS[word]
    if word.isdecimal() and len(word) <= 3 and int(word) <= 255:
        return "any" if int(word) == 0 else int(word)
    raise BadValueError(f'protocol "{text}" is not known', "write its number")


def ports_of(text: str) -> str | int:
    """Our word for a port or a range of them. Raises BadValueError."""
    word = text.strip().lower()
    if word in ("", "any", "%any", "0", "0-65535"):
        return "any"
    if word in PORTS:
        return PORTS[word]
    match = _PORT.fullmatch(word)
    if match is None:
        raise BadValueError(f'port "{text}" is not known', "write its number")
    return word if match[2] else int(word)


def addresses_of(text: str) -> str | None:
    """A prefix as ours are written: the bits behind its length cleared, as others do. Raises BadValueError."""
    word = text.strip()
    try:
        if "-" in word:
            low, _, high = word.partition("-")
            return f"{ipaddress.ip_address(low.strip())}-{ipaddress.ip_address(high.strip())}"
        return str(ipaddress.ip_network(word, strict=False))
    except ValueError:
        raise BadValueError(f'"{text}" is no prefix', 'write e.g. "10.1.0.0/24"') from None


def one_side(text: str, own: str | None) -> OneSide:
    """A selector of strongSwan's: `10.1.0.0/16[tcp/80]`, `dynamic` (`own`: the address of that side). Raises BadValueError."""
    match = _SELECTOR.fullmatch(text.strip())
    if match is None:
        raise BadValueError(f'"{text}" is no traffic selector', 'write e.g. "10.1.0.0/16[tcp/80]"')
    addresses, protocol, ports = match[1].strip(), match[2] or "", match[3] or ""
    word = protocol_of(protocol)
    if word in ("icmp", "icmpv6", 1, 58) and ports_of(ports) != "any":
        raise BadValueError(f'"{text}" names an ICMP type by a port', "write icmp_type and icmp_code of the proxy ID")
    if addresses in ("", "dynamic", "%dynamic"):
        if own is None:
            raise BadValueError(f'"{text}" is an address that only the negotiation gives', "write the prefix")
        return OneSide(addresses_of(own), word, ports_of(ports))
    return OneSide(addresses_of(addresses), word, ports_of(ports))


def proxy_ids(local: Sequence[OneSide], remote: Sequence[OneSide]) -> list[tables.ProxyId]:
    """Each of one side with each of the other, as far as IP version and protocol agree. BadValueError: none do, too many do."""
    if len(local) * len(remote) > PROXY_IDS_MOST:
        raise BadValueError(f"{len(local)} × {len(remote)} selectors", f"write {PROXY_IDS_MOST} at the most")
    made = []
    for ours in local:
        for theirs in remote:
            protocols = {each.protocol for each in (ours, theirs)} - {"any"}
            if len(protocols) > 1 or _version(ours) != _version(theirs):
                continue
            made.append(
                tables.ProxyId(
                    local=ours.addresses,
                    remote=theirs.addresses,
                    protocol=next(iter(protocols), "any"),
                    local_ports=ours.ports,
                    remote_ports=theirs.ports,
                )
            )
    if not made:
        raise BadValueError("no selector of one side fits one of the other", "write both as IPv4 or both as IPv6")
    return list(dict.fromkeys(made))


def _version(side: OneSide) -> int:
    return 6 if ":" in (side.addresses or "") else 4
