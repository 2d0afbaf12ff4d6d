"""What the guard lets pass although selectors hold it: what carries the tunnel, and what a link needs for itself.

Only reached by packets between protected addresses, so it matters where selectors hold the host's own addresses (0.0.0.0/0).
Nothing here lets a *forwarded* packet through: `fib … type local` says that the address is the host's own, hop limit 255 that no
router passed the packet on (RFC 4861 §7.1), a hop limit of 1 and a link-local source that none will (RFC 2710 §3). Of multicast and
link-local addresses no more is let through than neighbour discovery, membership reports and DHCP take: names asked for by mDNS or
LLMNR are the host's own traffic, and what else a link speaks (OSPF, VRRP) is what a `bypass` policy names.
"""

from __future__ import annotations

from ipsec_dp.host import MARK

IKE_PORTS = "{ 500, 4500 }"
LINK_LOCAL6 = "fe80::/10"

# RFC 4861 §4; RFC 2710 §3 and RFC 3810 §5 (a source is `::` until the host has an address); RFC 3376 §4, RFC 2236 §2.
NEIGHBOURS = "icmpv6 type 133-137 ip6 hoplimit 255 accept"
LISTENERS = f"icmpv6 type {{ 130, 131, 132, 143 }} ip6 hoplimit 1 ip6 saddr {{ ::, {LINK_LOCAL6} }} accept"
MEMBERSHIP = "meta l4proto 2 ip ttl 1 ip daddr 224.0.0.0/4"

EXEMPT_OUT = (
    f"meta mark {MARK:#x} fib saddr type local accept",  # our ESP, IKE and ESP in UDP
    f"{MEMBERSHIP} fib saddr type local accept",
    # DHCP, as client (RFC 2131 §4.1) and as server
    "ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept",
    "udp sport 68 udp dport 67 fib saddr type local accept",
    "udp sport 67 udp dport 68 fib saddr type local accept",
    # DHCPv6 (RFC 8415 §7.2), between link-local addresses: never forwarded (RFC 4291 §2.5.6)
    f"udp dport 547 ip6 saddr {LINK_LOCAL6} ip6 daddr {{ {LINK_LOCAL6}, ff02::1:2 }} accept",
    f"udp dport 546 ip6 saddr {LINK_LOCAL6} ip6 daddr {LINK_LOCAL6} accept",
    LISTENERS,
    NEIGHBOURS,
)
EXEMPT_IN = (
    "meta l4proto 50 fib daddr type local accept",
    f"udp dport {IKE_PORTS} fib daddr type local accept",
    "ip frag-off & 0x1fff != 0 fib daddr type local accept",  # of no use without the first fragment, which has its port
    "frag frag-off != 0 fib daddr type local accept",
    f"{MEMBERSHIP} accept",
    "udp sport 67 udp dport 68 fib daddr type { local, broadcast } accept",
    "udp sport 68 udp dport 67 fib daddr type { local, broadcast } accept",
    f"udp dport 547 ip6 saddr {LINK_LOCAL6} ip6 daddr {{ {LINK_LOCAL6}, ff02::1:2 }} accept",
    f"udp dport 546 ip6 saddr {LINK_LOCAL6} ip6 daddr {LINK_LOCAL6} accept",
    LISTENERS,
    NEIGHBOURS,
    # ICMP errors about our own outer packets (path MTU): protocol and source port of the packet they quote
    "icmp type { 3, 11, 12 } fib daddr type local @th,136,8 50 accept",
    f"icmp type {{ 3, 11, 12 }} fib daddr type local @th,136,8 17 @th,224,16 {IKE_PORTS} accept",
    "icmpv6 type 1-4 fib daddr type local @th,112,8 50 accept",
    f"icmpv6 type 1-4 fib daddr type local @th,112,8 17 @th,384,16 {IKE_PORTS} accept",
)
