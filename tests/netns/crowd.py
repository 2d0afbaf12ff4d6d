"""Many tunnels between the two sites beside the first one, each with networks, addresses of hosts and identities of its own."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ipsec_dp.rig import netns
from ipsec_dp.rig.process import IkePair

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ipsec_dp.rig.netns import Namespace, TwoSites

    Ends = tuple[str, str]  # addresses of two hosts that talk by one tunnel

PORT = 7300
LATE_S = 20.0
NO_CHECKS = 'liveness = { interval = "0s" }'  # then nothing of IKE is due but probes of the path


def ends_of(further: int) -> list[Ends]:
    """Of the first tunnel, and of so many further ones."""
    return [(netns.HOST_A[0], netns.HOST_B[0]), *((f"10.100.{each}.2", f"10.150.{each}.2") for each in range(further))]


def nets_of(ends: Ends) -> Ends:
    first, second = (f"{each.rpartition('.')[0]}.0/24" for each in ends)
    return first, second


@dataclass(frozen=True, kw_only=True)
class Crowd(IkePair):
    """`further`: tunnels beside the first one."""

    further: int
    encapsulation: str = "udp"
    ike: tuple[str, str] = (NO_CHECKS, NO_CHECKS)

    def keys(self, directory: Path) -> tuple[str, str]:
        first, second = super().keys(directory)
        return first + self._tables(0), second + self._tables(1)

    def _tables(self, side: int) -> str:
        other, tables = 1 - side, ""
        for number, ends in enumerate(ends_of(self.further)[1:]):
            nets, names = nets_of(ends), [f"{letter}{number}.example" for letter in "ab"]
            tables += (
                f'[[tunnel]]\nname = "t{number}"\nlocal = "{self.outer[side]}"\nremote = "{self.outer[other]}"\n'
                f'interface = "ipsec0"\nencapsulation = "{self.encapsulation}"\nstart = "{self.start[side]}"\n'
                f'  [[tunnel.proxy_id]]\n  local = "{nets[side]}"\n  remote = "{nets[other]}"\n'
                f'  [tunnel.auth]\n  local_id = "{names[side]}"\n  remote_id = "{names[other]}"\n  psk_file = "tunnel.psk"\n'
                f"  [tunnel.ike]\n{self.ike[side]}\n"
            )
        return tables


@contextmanager
def hosts_of(sites: TwoSites, ends: Sequence[Ends]) -> Iterator[None]:
    """Both hosts have these addresses, too, while the block runs."""
    sides = ((sites.host_a, sites.gw_a, netns.HOST_A[0], 0), (sites.host_b, sites.gw_b, netns.HOST_B[0], 1))

    def each(verb: str) -> None:
        for host, gateway, own, side in sides:
            further = sorted({pair[side] for pair in ends} - {own})
            host.ip(*(f"address {verb} {one}/32 dev eth0" for one in further))
            gateway.ip(*(f"route {verb} {one}/32 via {own}" for one in further))

    each("add")
    try:
        yield
    finally:
        each("del")


def unreached(near: Namespace, far: Namespace, ends: Sequence[Ends]) -> list[Ends]:
    """Those between which not one datagram goes there and another one back."""

    def bound(address: str) -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.settimeout(LATE_S)
        made.bind((address, PORT))
        return made

    def answered(pair: Ends) -> bool:
        first, second = pair
        with near.call(partial(bound, first)) as here, far.call(partial(bound, second)) as there:
            here.sendto(b"question", (second, PORT))
            try:
                there.sendto(there.recv(64), (first, PORT))
                return here.recv(64) == b"question"
            except TimeoutError:
                return False

    return [pair for pair in ends if not answered(pair)]
