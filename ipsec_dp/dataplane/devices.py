"""A data plane's devices: TUN interfaces and links, real ones and their in-memory doubles, and their offloads."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Self

from ipsec_dp._native import ffi, lib
from ipsec_dp.dataplane.convert import check, endpoint_of, set_endpoint
from ipsec_dp.dataplane.types import ALL_OFFLOADS, TUN_OFFLOADS, Df, Encapsulation, Endpoint, MemoryDatagram, MemoryPacket, Offload
from ipsec_dp.errors import DataPlaneError

if TYPE_CHECKING:
    from ipsec_dp.ipsec.addresses import Address


class Devices:
    """The C structure of a data plane, `wanted` being the offloads that its devices may have, and what is attached to it."""

    def __init__(self, dp: Any, wanted: Offload) -> None:
        self._dp = dp
        self._wanted = wanted
        self._tuns: set[tuple[int, int]] = set()  # (worker, number) of what is attached
        self._links: set[tuple[int, int]] = set()
        self._addresses: dict[tuple[int, int], Address] = {}  # of links with real sockets
        self._given_up: dict[Address | None, Offload] = {}  # by devices that are gone: of a local address, or of TUN devices (None)

    def close(self) -> None:
        if self._dp != ffi.NULL:
            lib.dp_destroy(self._dp)
            self._dp = ffi.NULL

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def c(self) -> Any:
        """The C structure. Raises DataPlaneError after close."""
        if self._dp == ffi.NULL:
            raise DataPlaneError(errno.EBADF, "the data plane is closed")
        return self._dp

    def attach_tun(self, interface: int, descriptor: int, worker: int = 0, *, on: Offload | None = None) -> None:
        """`on`: another process has this device too, with these offloads, and nothing about it is changed; else what the device can
        do and may have is turned on."""
        if on is not None:
            check(lib.dp_tun_inherit(self.c, worker, interface, descriptor, on), "attaching a TUN device of another process")
            self._tuns.add((worker, interface))
            return
        check(lib.dp_tun_attach(self.c, worker, interface, descriptor), "attaching a TUN device")
        allowed = self._wanted & ~self._given_up_for(None)
        self._tuns.add((worker, interface))
        if allowed != ALL_OFFLOADS:
            self.set_tun_offloads(interface, self.tun_offloads(interface, worker) & allowed, worker)

    def detach_tun(self, interface: int, worker: int = 0) -> None:
        given_up = _given_up_by(self.c, worker, interface, link=False)
        check(lib.dp_tun_detach(self.c, worker, interface), "detaching a TUN device")
        if given_up:
            self._given_up[None] = self._given_up.get(None, Offload(0)) | given_up
        self._tuns.discard((worker, interface))

    def _given_up_for(self, local: Address | None) -> Offload:
        """What the kernel did not do for any TUN device (None), or any socket of a local address, since this process began."""
        found = self._given_up.get(local, Offload(0))
        if local is None:
            for worker, interface in self._tuns:
                found |= _given_up_by(self.c, worker, interface, link=False)
            return found
        for (worker, link), address in self._addresses.items():
            if address == local:
                found |= _given_up_by(self.c, worker, link, link=True)
        return found

    def given_up(self) -> list[str]:
        """Names of the offloads that the kernel said it does and then did not, for one device at least."""
        found = Offload(0)
        for local in {None, *self._given_up, *self._addresses.values()}:
            found |= self._given_up_for(local)
        return [str(flag.name).lower() for flag in Offload if flag in found]

    def attach_link(
        self,
        encapsulation: Encapsulation,
        local: Endpoint,
        receive: int,
        receive_df: Df,
        other: int = -1,
        worker: int = 0,
        *,
        on: Offload | None = None,
    ) -> int:
        """Gives the core the outer sockets of one local address; the link's index. `on`: as for `attach_tun`."""
        c = ffi.new("struct dp_addr *")
        set_endpoint(c, local)
        arguments = self.c, worker, encapsulation, c, receive, int(receive_df), other
        result = lib.dp_link_attach(*arguments) if on is None else lib.dp_link_inherit(*arguments, on)
        link = check(result, f"attaching sockets of {local.address}")
        allowed = self._wanted & ~self._given_up_for(local.address)
        self._links.add((worker, link))
        self._addresses[worker, link] = local.address
        if on is None and allowed != ALL_OFFLOADS:
            self.set_link_offloads(link, self.link_offloads(link, worker) & allowed, worker)
        return link

    def detach_link(self, link: int, worker: int = 0) -> None:
        given_up = _given_up_by(self.c, worker, link, link=True)
        check(lib.dp_link_detach(self.c, worker, link), "detaching sockets")
        self._links.discard((worker, link))
        if (local := self._addresses.pop((worker, link), None)) is not None and given_up:
            self._given_up[local] = self._given_up.get(local, Offload(0)) | given_up

    def receive_off_tun(self, interface: int, worker: int) -> None:
        """This worker only writes to the interface: another one has the same descriptor and reads it. Before `start`."""
        check(lib.dp_receive_off(self.c, worker, 0, interface), "leaving a TUN device to another worker")

    def receive_off_link(self, link: int, worker: int) -> None:
        """The same for the sockets of a link."""
        check(lib.dp_receive_off(self.c, worker, 1, link), "leaving sockets to another worker")

    def tun_offloads(self, interface: int, worker: int = 0) -> Offload:
        """What is on for a TUN interface."""
        return Offload(check(lib.dp_offloads_read(self.c, worker, 0, interface), "reading offloads"))

    def link_offloads(self, link: int, worker: int = 0) -> Offload:
        """What is on for a link."""
        return Offload(check(lib.dp_offloads_read(self.c, worker, 1, link), "reading offloads"))

    def offloads(self) -> dict[str, bool]:
        """By name, whether an offload is on for every device there is that could have it."""
        tuns = [self.tun_offloads(interface, worker) for worker, interface in self._tuns]
        links = [self.link_offloads(link, worker) for worker, link in self._links]
        every = {flag: tuns if flag in TUN_OFFLOADS else links for flag in Offload}
        return {str(flag.name).lower(): bool(devices) and all(flag in on for on in devices) for flag, devices in every.items()}

    def set_tun_offloads(self, interface: int, wanted: Offload, worker: int = 0) -> Offload:
        """Turns on what of `wanted` the device can do and the rest off; what is on."""
        return Offload(check(lib.dp_offloads_set(self.c, worker, 0, interface, wanted), "setting offloads"))

    def set_link_offloads(self, link: int, wanted: Offload, worker: int = 0) -> Offload:
        """Turns on what of `wanted` the sockets can do and the rest off; what is on."""
        return Offload(check(lib.dp_offloads_set(self.c, worker, 1, link, wanted), "setting offloads"))

    def attach_memory_tun(self, interface: int, packets: int = 1024, worker: int = 0) -> None:
        check(lib.dp_mem_tun_attach(self.c, worker, interface, packets), "attaching an in-memory TUN")
        self._tuns.add((worker, interface))

    def push_tun(self, interface: int, packet: bytes | MemoryPacket, worker: int = 0) -> None:
        """An inner packet for the outbound loop. Raises DataPlaneError (ENOBUFS: the queue is full)."""
        whole = MemoryPacket(packet) if isinstance(packet, bytes) else packet
        offload = ffi.new(
            "struct dp_mem_offload *",
            [
                whole.gso,
                whole.needs_checksum,
                whole.gso_size,
                whole.checksum_start,
                whole.checksum_offset,
                whole.network,
                whole.tunnel_checksum,
            ],
        )
        result = lib.dp_mem_tun_push_super(self.c, worker, interface, offload, whole.data, len(whole.data))
        check(result, "pushing a packet")

    def pull_super(self, interface: int, worker: int = 0) -> MemoryPacket | None:
        """The oldest inner packet or super-packet that came out, or None."""
        buffer, c = ffi.new("uint8_t[65536]"), ffi.new("struct dp_mem_offload *")
        n = check(lib.dp_mem_tun_pull_super(self.c, worker, interface, c, buffer, 65536), "pulling a packet")
        if not n:
            return None
        data = bytes(ffi.buffer(buffer, n))
        return MemoryPacket(
            data,
            c.gso_type,
            c.gso_size,
            bool(c.needs_checksum),
            c.checksum_start,
            c.checksum_offset,
            c.network,
            bool(c.tunnel_checksum),
        )

    def pull_tun(self, interface: int, worker: int = 0) -> bytes | None:
        """The octets of the oldest inner packet that came out, or None."""
        packet = self.pull_super(interface, worker)
        return None if packet is None else packet.data

    def attach_memory_link(
        self, encapsulation: Encapsulation, local: Endpoint | None = None, packets: int = 1024, worker: int = 0
    ) -> int:
        c = ffi.new("struct dp_addr *")
        set_endpoint(c, local)
        link = check(lib.dp_mem_link_attach(self.c, worker, encapsulation, c, packets), "attaching an in-memory link")
        self._links.add((worker, link))
        return link

    def push_link(self, link: int, datagram: MemoryDatagram, worker: int = 0) -> None:
        meta = ffi.new("struct dp_mem_meta *")
        set_endpoint(meta.local, datagram.local)
        set_endpoint(meta.remote, datagram.remote)
        meta.tos, meta.df, meta.gso_size = datagram.tos, int(datagram.df), datagram.gso_size
        check(lib.dp_mem_link_push(self.c, worker, link, meta, datagram.data, len(datagram.data)), "pushing a datagram")

    def pull_link(self, link: int, worker: int = 0) -> MemoryDatagram | None:
        meta, buffer = ffi.new("struct dp_mem_meta *"), ffi.new("uint8_t[65536]")
        n = check(lib.dp_mem_link_pull(self.c, worker, link, meta, buffer, 65536), "pulling a datagram")
        if not n:
            return None
        return MemoryDatagram(
            bytes(ffi.buffer(buffer, n)),
            endpoint_of(meta.local),
            endpoint_of(meta.remote),
            meta.tos,
            Df(meta.df),
            hop_limit=meta.hop_limit,
            flow_label=meta.flow_label,
        )


def _given_up_by(c: Any, worker: int, number: int, *, link: bool) -> Offload:
    return Offload(check(lib.dp_offloads_given_up(c, worker, link, number), "reading what was given up"))
