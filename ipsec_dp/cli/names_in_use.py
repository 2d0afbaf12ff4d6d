"""What `check` and `doctor` say of somebody else's interfaces that have a name which a configuration gives to one of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.errors import Finding, IpsecDpError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipsec_dp.config import Config

REMEDY = "choose another name, or take that interface away: a gateway makes its interfaces, and takes over none"


def names_in_use(config: Config) -> Iterator[Finding]:
    """A warning for each tunnel whose interface cannot be made. None where the gateway of this configuration has made it."""
    from ipsec_dp.host.link_names import taken_names  # pyroute2 takes a tenth of a second to load
    from ipsec_dp.host.tun import alias_of

    try:
        taken = taken_names(tunnel.interface for tunnel in config.tunnels)
    except (IpsecDpError, OSError):  # a host without rtnetlink: what `up` says of it is clearer
        return
    for tunnel in config.tunnels:
        kind, alias = taken.get(tunnel.interface, ("", ""))
        if tunnel.interface not in taken or alias == alias_of(config.name):
            continue
        whose = ", ".join(part for part in (kind, alias) if part)
        wrong = f"an interface named {tunnel.interface} is there already{f' ({whose})' if whose else ''}, and `up` will be refused"
        yield Finding("warning", str(config.path), f'tunnel "{tunnel.name}"', "interface", wrong, REMEDY)
