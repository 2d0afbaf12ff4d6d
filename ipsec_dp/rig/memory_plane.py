"""The data plane of a gateway in memory: the C core, which notes the keys that it gets and whether it has something to do."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ipsec_dp.dataplane import DataPlane, Direction
from ipsec_dp.rig.key_lines import key_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipsec_dp.dataplane import MemoryDatagram, MemoryPacket, OuterPath, Policy, SaHandle, SaParams

SA_SLOTS = 4096  # inbound SAs at the most


class MemoryPlane(DataPlane):
    """`busy` is called whenever it gets something to do."""

    def __init__(self, busy: Callable[[], None], *, seed: int, **options: Any) -> None:
        super().__init__(sa_slots=SA_SLOTS, seed=seed, **options)
        self.closed = False
        self._busy = busy
        self.keys: list[str] = []
        self.first_sequence = 0  # the last number that new outbound SAs have used already

    def install(self, params: SaParams, worker: int = 0) -> SaHandle:
        self._busy()
        self.keys.append(key_line(params))
        if self.first_sequence and params.direction is Direction.OUTBOUND:
            params = replace(params, sequence=self.first_sequence)
        return super().install(params, worker)

    def switch(self, tunnel: int, child: int, outbound: SaHandle | None) -> None:
        self._busy()
        super().switch(tunnel, child, outbound)

    def set_path(self, handle: SaHandle, path: OuterPath) -> None:
        self._busy()
        super().set_path(handle, path)

    def install_policy(self, policy: Policy) -> None:
        self._busy()
        super().install_policy(policy)

    def push_tun(self, interface: int, packet: bytes | MemoryPacket, worker: int = 0) -> None:
        self._busy()
        super().push_tun(interface, packet, worker)

    def push_link(self, link: int, datagram: MemoryDatagram, worker: int = 0) -> None:
        self._busy()
        super().push_link(link, datagram, worker)

    def close(self) -> None:
        self.closed = True
        super().close()

    def step(self, now: int) -> int:
        """Both loops of every worker, once; packets moved or dropped."""
        return sum(self.step_outbound(now, worker=each) + self.step_inbound(now, worker=each) for each in range(self.workers))
