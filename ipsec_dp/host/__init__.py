"""What touches the host's kernel: routes and rules, the nftables guard, TUN interfaces, outer sockets.

Nothing here changes a setting of the host as a whole; what it makes is its own and carries the numbers of `MARK` and `PROTOCOL`, by
which the next start finds what a killed process left.
"""

import re
from typing import Final

from ipsec_dp.errors import IpsecDpError

# SO_MARK of every packet that we send outside the tunnel. Its bits stay clear of those that kube-proxy (0x4000, 0x8000), Cilium
# (0x0f00), Calico (0xffff0000) and Tailscale (0xff0000) give a meaning to.
MARK: Final = 0xE5
# Routing protocol number of our routes and rules: unassigned in <linux/rtnetlink.h> and /etc/iproute2/rt_protos.
PROTOCOL: Final = 0xE5
# What we name an interface, and what can stand unharmed in an nftables set: no pattern, no quote, no path (IFNAMSIZ is 16).
INTERFACE_NAME: Final = re.compile(r"[^\s/:%*\"\\]{1,15}")


class HostError(IpsecDpError):
    """The kernel or a host program refused something; the text says what, why and what would help."""
