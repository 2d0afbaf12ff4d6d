"""Texts a person writes, turned into values. Each function raises BadValueError: what is wrong, and what would be right."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import TYPE_CHECKING

from ipsec_dp.errors import BadValueError
from ipsec_dp.ike.identity import FORMS, Identity, IdentityError
from ipsec_dp.ipsec.addresses import AddressRange
from ipsec_dp.ipsec.selectors import ANY_CODE, ANY_PORT, ANY_PROTOCOL, OPAQUE_PORTS, Range

if TYPE_CHECKING:
    from ipsec_dp.ipsec.addresses import Address, Interface, Network

_DURATION = re.compile(r"([0-9]{1,9})(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZE = re.compile(r"([0-9]{1,18}) ?([KkMGTP]?i?B)")
_OCTETS = {
    "B": 1,
    **{f"{letter}B": 1000**power for power, letter in enumerate("kMGTP", 1)},
    **{f"{letter}iB": 1024**power for power, letter in enumerate("KMGTP", 1)},
    "KB": 1000,
}
SAME_TEXTS = 256  # read once: of ten thousand tunnels many name the same network or the same end
_DNS_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_ZONE = re.compile(r"[A-Za-z0-9_.-]{1,15}")
_PREFIX = re.compile(r"[0-9A-Fa-f:.]+(?:/[0-9]{1,3})?")
_ANY = frozenset({"any", "%any", "%any4", "%any6", "*", "%defaultroute"})  # words for any address, here or in other programs
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
OPAQUE = "opaque"  # what a later fragment shows as ports, or ICMP type
PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58}


def parse_duration(text: str) -> int:
    """Seconds of "90s", "15m", "1h" or "2d"."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise BadValueError(f'"{text}" is not a time', 'write a number and s, m, h or d, e.g. "90s" or "1h"')
    return int(match[1]) * _SECONDS[match[2]]


def parse_size(value: str | int) -> int:
    """Octets of "20GB" (powers of ten), "64KiB" (powers of two) or a plain number."""
    if isinstance(value, int):
        octets = value
    else:
        match = _SIZE.fullmatch(value)
        if match is None or match[2] not in _OCTETS:
            raise BadValueError(f'"{value}" is not a size', 'write a number and a unit, e.g. "20GB" or "64KiB"')
        octets = int(match[1]) * _OCTETS[match[2]]
    if not 0 <= octets < 2**63:
        raise BadValueError(f"{value} octets cannot be counted", "write 0 (no limit) or a size below 8 EiB")
    return octets


@lru_cache(SAME_TEXTS)
def parse_address(text: str) -> Address:
    """A unicast IPv4 or IPv6 address; an IPv6 link-local one with its zone ("fe80::1%eth0")."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError as error:
        right = "leave it out, or write one address" if text in _ANY else 'write e.g. "192.0.2.1" or "2001:db8::1"'
        raise BadValueError(f'"{text}" is not an IP address', right) from error
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None and not _ZONE.fullmatch(address.scope_id):
        raise BadValueError(f'"{text}" has no interface as its zone', 'write e.g. "fe80::1%eth0"')
    if address.is_unspecified or address.is_multicast or address == ipaddress.IPv4Address(0xFFFFFFFF):
        raise BadValueError(f"{text} is no address of one host", "write the unicast address of an interface")
    return address


@lru_cache(SAME_TEXTS)
def parse_remote(text: str) -> Address | str:
    """A peer's address, or its DNS name as text."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        labels = text.rstrip(".").split(".")
        name = len(text) <= 253 and all(_DNS_LABEL.fullmatch(label) for label in labels) and not labels[-1].isdigit()
        if name:
            return text
        right = 'write remote = "any", by itself' if text in _ANY else 'write e.g. "192.0.2.2" or "gw.example"'
        raise BadValueError(f'"{text}" is neither an IP address nor a DNS name', right) from None
    return parse_address(text)


def parse_prefix(text: str) -> Network:
    """An IPv4 or IPv6 prefix without host bits; an address alone is a prefix of full length. Masks and zones are refused."""
    if _PREFIX.fullmatch(text) is None:
        right = 'leave it out, or write "0.0.0.0/0" or "::/0"' if text in _ANY else 'write e.g. "10.1.0.0/24" or "2001:db8::/32"'
        raise BadValueError(f'"{text}" is not a prefix', right)
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        pass
    try:
        rounded = ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise BadValueError(f'"{text}" is not a prefix', 'write e.g. "10.1.0.0/24" or "2001:db8::/32"') from error
    raise BadValueError(f'"{text}" has bits set behind its prefix length', f'write "{rounded}"')


@lru_cache(SAME_TEXTS)
def parse_addresses(text: str) -> AddressRange:
    """A prefix as `parse_prefix` takes it, or a range of addresses, both ends included ("10.1.0.10-10.1.0.20")."""
    low_text, dash, high_text = text.partition("-")
    if not dash:
        return AddressRange.of(parse_prefix(text))
    try:
        low, high = ipaddress.ip_address(low_text.strip()), ipaddress.ip_address(high_text.strip())
    except ValueError as error:
        raise BadValueError(f'"{text}" is not a range of addresses', 'write e.g. "10.1.0.10-10.1.0.20"') from error
    if "%" in text or low.version != high.version:
        raise BadValueError(f'"{text}" is not a range of addresses', "write two addresses of one IP version, without zones")
    if int(low) > int(high):
        raise BadValueError(f'"{text}" runs backwards', f'write "{high}-{low}"')
    return AddressRange(low, high)


def parse_interface_address(text: str) -> Interface:
    """An address of the tunnel interface with its prefix length."""
    try:
        interface = ipaddress.ip_interface(text)
    except ValueError as error:
        raise BadValueError(f'"{text}" is not an address with prefix length', 'write e.g. "169.254.10.1/30"') from error
    if interface.ip.is_unspecified or interface.ip.is_multicast or "%" in text:
        raise BadValueError(f"{text} is no address of one host", 'write e.g. "169.254.10.1/30"')
    return interface


def parse_protocol(value: str | int) -> Range:
    """One IP protocol number, or all of them for "any". 0 cannot be selected: it means any in IKE (RFC 7296 §3.13.1)."""
    if value == "any":
        return ANY_PROTOCOL
    if isinstance(value, str) and value in PROTOCOLS:
        number = PROTOCOLS[value]
    else:
        number = int(value) if isinstance(value, int) or re.fullmatch(r"[0-9]{1,3}", value) else 0
    if not 1 <= number <= 255:
        raise BadValueError(f'"{value}" is not a protocol', "write any, tcp, udp, icmp, icmpv6 or a number from 1 to 255")
    return Range(number, number)


def parse_ports(value: str | int) -> Range:
    """A port, a range of ports, or all of them for "any", which IKE writes as 0 to 65535 (RFC 7296 §3.13.1); "opaque": those that
    are not shown."""
    if value == "any":
        return ANY_PORT
    if value == OPAQUE:
        return OPAQUE_PORTS
    match = _PORTS.fullmatch(str(value))
    if match is None:
        raise BadValueError(f'"{value}" is not a port or range of ports', 'write "any", 443, "5000-5010" or "opaque"')
    low = int(match[1])
    high = int(match[2]) if match[2] is not None else low
    if low > high:
        raise BadValueError(f'"{value}" runs backwards', f'write "{high}-{low}"')
    if high > 65535:
        raise BadValueError(f'"{value}" lies above the last port', "ports go from 0 to 65535")
    return ANY_PORT if (low, high) == (0, 65535) else Range(low, high)


def parse_icmp_type(value: str | int) -> int | None:
    """An ICMP type, None for any."""
    if value == "any":
        return None
    if re.fullmatch(r"[0-9]{1,3}", str(value)) is None or int(value) > 255:
        raise BadValueError(f'"{value}" is not an ICMP type', 'write "any" or a number from 0 to 255, e.g. 8 for echo request')
    return int(value)


def parse_icmp_code(value: str | int) -> Range:
    """An ICMP code, a range of codes, or all of them for "any"."""
    if value == "any":
        return ANY_CODE
    match = re.fullmatch(r"([0-9]{1,3})(?:-([0-9]{1,3}))?", str(value))
    codes = None if match is None else Range(int(match[1]), int(match[2] or match[1]))
    if codes is None or codes.low > codes.high or codes.high > 255:
        raise BadValueError(f'"{value}" is not an ICMP code or range of codes', 'write "any", 4 or "0-3"; codes go from 0 to 255')
    return codes


def parse_identity(text: str) -> str:
    """An identity stays text."""
    if not text.isprintable():
        raise BadValueError(f"{text!r} is no identity", f"{FORMS}, where there are controls in it")
    try:
        Identity.from_text(text)
    except IdentityError as error:
        raise BadValueError(error.wrong, error.right or FORMS) from None
    return text
