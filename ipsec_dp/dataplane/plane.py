"""The C core as an object. What each call does is documented in ``native/dp.h``."""

from __future__ import annotations

import errno
from dataclasses import astuple
from typing import TYPE_CHECKING, Any, Final

from ipsec_dp._native import ffi, lib
from ipsec_dp.dataplane.convert import (
    check,
    counters_of,
    endpoint_of,
    example_of,
    sa_params_of,
    selectors_of,
    set_endpoint,
    set_path,
    some_drops_of,
)
from ipsec_dp.dataplane.ike import IkeRates
from ipsec_dp.dataplane.moving import Moving
from ipsec_dp.dataplane.types import (
    ALL_OFFLOADS,
    DROP_NAMES,
    DROP_SENTENCES,
    ArenaInfo,
    Channel,
    Counters,
    Direction,
    DropExample,
    Endpoint,
    Offload,
    OuterPath,
    Provider,
    Punt,
    SaCondition,
    SaFlag,
    SaHandle,
    SaInfo,
    SaParams,
    TunnelSettings,
    TunnelTraffic,
    Unanswered,
)
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.ipsec.spi import spi_text

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from ipsec_dp.dataplane.batch import Batch
    from ipsec_dp.dataplane.policy import Policy
    from ipsec_dp.ipsec.selectors import SelectorPair


_DIRECTIONS: Final = {int(each): each for each in Direction}
_NO_FLAGS: Final = SaFlag(0)


class DataPlane(Moving):
    """One data plane: SA table, policy, devices, loops. Close it (or use `with`): that wipes every key.

    sa_slots: inbound SAs at the most, a power of two. stranger_rate: punts a second that one unknown source may cause.
    hold_octets: packets of one tunnel that wait for an SA, while it is negotiated; 0: they are dropped.
    offloads: those that a device may have when it is attached. ike: how many messages of whom reach the control plane.
    seed: 0 to 2**64 - 1, for rigs: what the core draws at random follows from it, CBC's IVs too, so that the same calls make the
    same octets; such a plane takes in-memory devices alone (DataPlaneError, EPERM). None: the system's randomness.
    """

    def __init__(
        self,
        *,
        sa_slots: int = 65536,
        tunnels: int = 16384,
        interfaces: int = 256,
        workers: int = 1,
        provider: Provider = Provider.AUTO,
        stranger_rate: int = 50,
        stranger_burst: int = 200,
        hold_octets: int = 0,
        offloads: Offload = ALL_OFFLOADS,
        ike: IkeRates = IkeRates(),  # noqa: B008 - frozen
        seed: int | None = None,
    ) -> None:
        if seed is not None and not 0 <= seed < 2**64:
            raise ValueError(f"a seed is a number of 64 bits, not {seed}")
        sizes = sa_slots, tunnels, interfaces, workers, int(provider), stranger_rate, stranger_burst, hold_octets
        config = ffi.new("struct dp_config *", [*sizes, *astuple(ike), seed is not None, seed or 0])
        out = ffi.new("struct dp **")
        check(lib.dp_create(config, out), "creating the data plane")
        super().__init__(out[0], offloads)
        self.workers = workers
        self.sa_slots = sa_slots

    @property
    def provider(self) -> str:
        return str(ffi.string(lib.dp_provider_name(self.c)).decode())

    @property
    def provider_reason(self) -> str:
        """Why intel-ipsec-mb is not in use; empty when it is."""
        return str(ffi.string(lib.dp_provider_reason(self.c)).decode())

    def arena(self) -> ArenaInfo:
        c = ffi.new("struct dp_arena_info *")
        lib.dp_arena_read(self.c, c)
        return ArenaInfo(c.octets, c.in_use, bool(c.locked), bool(c.undumped), bool(c.wiped_on_fork))

    # ---- SAs

    def allocate_spi(self, random: int, receiver: int = 0) -> int:
        """A free inbound SPI, its upper bits from `random` (32 bits), whose datagrams the sockets steer to worker `receiver`."""
        spi = ffi.new("uint32_t *")
        check(lib.dp_spi_allocate_for(self.c, receiver, random, spi), "allocating an SPI")
        return int(spi[0])

    def expect_spi(self, spi: int, peer: Endpoint) -> None:
        """An allocated SPI is about to be named to `peer`: what comes from there on it is kept until it is installed, 2 s and 1 MiB
        at the most, and goes first then; `release_spi` wipes it. Raises DataPlaneError (ENOSPC: too many are under way)."""
        c = ffi.new("struct dp_addr *")
        set_endpoint(c, peer)
        check(lib.dp_spi_expect(self.c, spi, c), f"expecting packets on SPI {spi_text(spi)}")

    def release_spi(self, spi: int) -> None:
        lib.dp_spi_release(self.c, spi)

    def install(self, params: SaParams, worker: int = 0) -> SaHandle:
        """Installs an SA that `worker` owns. An inbound one receives at once, an outbound one sends nothing before `switch`. Raises
        DataPlaneError (EEXIST: the slot of an inbound SPI is taken)."""
        suite, keymat, direction = params.suite, params.keymat, params.direction
        if len(keymat) != suite.keymat_octets:
            raise DataPlaneError(errno.EINVAL, f"{suite.keyword} takes {suite.keymat_octets} octets of key, not {len(keymat)}")
        c, handle = sa_params_of(params, worker), ffi.new("dp_sa_id *")
        key, selectors = ffi.from_buffer("uint8_t[]", keymat), selectors_of(params.selectors)
        result = lib.dp_sa_install(self.c, direction, c, key, len(keymat), selectors, len(selectors), handle)
        check(result, f"installing the {direction.name.lower()} SA {spi_text(params.spi)}")
        return SaHandle(handle[0])

    def install_inbound(self, *, worker: int = 0, **values: Any) -> SaHandle:
        """`install`, of an inbound SA; `values`: those of `SaParams`."""
        return self.install(SaParams(direction=Direction.INBOUND, **values), worker)

    def install_outbound(self, *, worker: int = 0, **values: Any) -> SaHandle:
        """`install`, of an outbound SA; `values`: those of `SaParams`."""
        return self.install(SaParams(direction=Direction.OUTBOUND, **values), worker)

    def remove(self, handle: SaHandle) -> None:
        check(lib.dp_sa_remove(self.c, handle), "removing an SA")

    def set_path(self, handle: SaHandle, path: OuterPath) -> None:
        c = ffi.new("struct dp_path *")
        set_path(c, path)
        check(lib.dp_sa_set_path(self.c, handle, c), "changing an SA's path")

    def skip(self, handle: SaHandle, packets: int) -> None:
        """For rigs: an outbound SA goes on as if so many packets more had been sent. Raises DataPlaneError (EPERM: the plane has no
        seed; ERANGE: it has not so many sequence numbers left)."""
        check(lib.dp_sa_skip(self.c, handle, packets), "skipping sequence numbers of an SA")

    def read_sa(self, handle: SaHandle) -> SaInfo:
        c = ffi.new("struct dp_sa_info *")
        check(lib.dp_sa_read(self.c, handle, c), "reading an SA")
        return SaInfo(
            c.spi,
            c.tunnel,
            _DIRECTIONS[c.direction],
            SaFlag(c.flags) if c.flags else _NO_FLAGS,
            c.packets,
            c.octets,
            c.sequence,
            c.first_use,
            c.last_use,
            c.recent,
            endpoint_of(c.peer),
            some_drops_of(c.drops),
            DROP_NAMES[c.last_drop] if c.last_drop else None,
        )

    def last_use(self, handle: SaHandle) -> int:
        """When an SA was last used, nanoseconds; 0: never."""
        c = ffi.new("struct dp_sa_info *")
        check(lib.dp_sa_read(self.c, handle, c), "reading an SA")
        return int(c.last_use)

    def conditions(self) -> list[SaCondition]:
        """Every SA whose sticky flags are raised."""
        found: list[SaCondition] = []
        array, cursor = ffi.new("struct dp_sa_condition[256]"), ffi.new("uint64_t *")
        while True:
            n = check(lib.dp_sa_scan(self.c, array, 256, cursor), "scanning SAs")
            found.extend(SaCondition(SaHandle(c.id), c.tunnel, c.spi, SaFlag(c.flags)) for c in array[0:n])
            if cursor[0] == 0:
                return found

    def clear(self, handle: SaHandle, flags: SaFlag) -> None:
        check(lib.dp_sa_clear(self.c, handle, int(flags)), "clearing flags of an SA")

    def expire_all(self) -> None:
        """Ends every SA at once and for good (a cloned virtual machine would repeat nonces)."""
        lib.dp_sa_expire_all(self.c)

    def ike_sent(self, local: Endpoint, remote: Endpoint, message: bytes) -> None:
        """An IKE message is about to leave: should it come out of a TUN interface, it is dropped there as our own."""
        ends = _ends(local, remote)
        lib.dp_ike_sent(self.c, ends, ends + 1, message, len(message))

    def keepalive_sent(self, local: Endpoint, remote: Endpoint) -> None:
        """A NAT keepalive is about to leave."""
        ends = _ends(local, remote)
        lib.dp_keepalive_sent(self.c, ends, ends + 1)

    def reclaim(self) -> int:
        """Frees and wipes what was removed; how much still waits for a loop."""
        return int(lib.dp_reclaim(self.c))

    # ---- CHILD_SAs

    def add_child(self, tunnel: int, selectors: Sequence[SelectorPair]) -> int:
        child = ffi.new("uint32_t *")
        array = selectors_of(selectors)
        check(lib.dp_child_add(self.c, tunnel, array, len(array), child), "adding a CHILD_SA")
        return int(child[0])

    def switch(self, tunnel: int, child: int, outbound: SaHandle | None) -> None:
        """The CHILD's packets take this SA from now on; None: none."""
        check(lib.dp_child_switch(self.c, tunnel, child, 0 if outbound is None else outbound), "switching a CHILD_SA")

    def remove_child(self, tunnel: int, child: int) -> None:
        check(lib.dp_child_remove(self.c, tunnel, child), "removing a CHILD_SA")

    def set_tunnel(self, tunnel: int, settings: TunnelSettings) -> None:
        """How a tunnel treats inner packets from now on. Raises DataPlaneError (EINVAL)."""
        c = ffi.new(
            "struct dp_tunnel_settings *",
            [settings.mtu, settings.mss4, settings.mss6, settings.fragment_after, settings.dscp_in],
        )
        check(lib.dp_tunnel_set(self.c, tunnel, c), "setting up a tunnel")

    def take_acquire(self, tunnel: int) -> bool:
        """Whether a packet of this tunnel found no SA since the last call."""
        return bool(check(lib.dp_tunnel_take_acquire(self.c, tunnel), "reading the acquire flag"))

    def tunnel_traffic(self, tunnel: int, handles: Collection[SaHandle]) -> TunnelTraffic:
        """What a tunnel has carried since `forget_tunnel`; `handles`: its SAs now."""
        c, drops = ffi.new("struct dp_tunnel_traffic *"), ffi.new("uint64_t[]", len(DROP_NAMES))
        ids = ffi.new("dp_sa_id[]", list(handles))
        check(lib.dp_tunnel_read(self.c, tunnel, ids, len(ids), c, drops), "reading a tunnel")
        return TunnelTraffic(c.packets_in, c.octets_in, c.packets_out, c.octets_out, some_drops_of(drops))

    def forget_tunnel(self, tunnel: int) -> None:
        """The number is another tunnel's from now on, which has carried nothing and asked for nothing yet."""
        check(lib.dp_tunnel_forget(self.c, tunnel), "forgetting a tunnel")

    def unanswered(self) -> list[Unanswered]:
        """The tunnels of which packets that want an answer went one way alone lately. One caller, about once a second."""
        found: list[Unanswered] = []
        array, cursor = ffi.new("struct dp_unanswered[256]"), ffi.new("uint32_t *")
        while True:
            n = check(lib.dp_unanswered_scan(self.c, array, 256, cursor), "looking at tunnels")
            found.extend(
                Unanswered(c.tunnel, Direction(c.direction), bool(c.goes_on), c.asked, c.packets, c.last) for c in array[0:n]
            )
            if cursor[0] == 0:
                return found

    # ---- policy

    def install_policy(self, policy: Policy) -> None:
        plane = self.c
        lib.dp_policy_install(plane, policy.release())

    # ---- loops

    def step_outbound(self, now: int, budget: int = 256, worker: int = 0) -> int:
        """One outbound step at `now` (ns); packets moved or dropped."""
        return check(lib.dp_outbound_step(self.c, worker, budget, now), "outbound step")

    def step_inbound(self, now: int, budget: int = 256, worker: int = 0) -> int:
        return check(lib.dp_inbound_step(self.c, worker, budget, now), "inbound step")

    def start(self, pins: Sequence[tuple[int, int]] = ()) -> None:
        """Starts every worker's two threads; `pins`: the CPUs of each one's outbound and inbound thread."""
        for worker, (outbound, inbound) in enumerate(pins):
            check(lib.dp_worker_pin(self.c, worker, outbound, inbound), "binding a worker to CPUs")
        for worker in range(self.workers):
            check(lib.dp_worker_start(self.c, worker), "starting a worker")

    def loops_pass(self) -> bool:
        """Whether every loop has let go of its packets since the last call that said so; one that never does hangs."""
        return bool(lib.dp_loops_pass(self.c))

    def stop(self) -> None:
        for worker in range(self.workers):
            check(lib.dp_worker_stop(self.c, worker), "stopping a worker")
        lib.dp_ike_port_stop(self.c)

    # ---- what the loops report

    def punt_descriptor(self, channel: Channel) -> int:
        return check(lib.dp_punt_fd(self.c, channel), "punt channel")

    def read_punt(self, channel: Channel) -> Punt | None:
        """The oldest record of a channel, or None."""
        return self.read_record(self.punt_descriptor(channel))

    def counters(self) -> Counters:
        """Of all workers together."""
        c = ffi.new("struct dp_counters *")
        lib.dp_counters_read(self.c, c)
        return counters_of(c)

    def worker_counters(self) -> list[Counters]:
        """Of each worker."""
        found, c = [], ffi.new("struct dp_counters *")
        for worker in range(self.workers):
            check(lib.dp_worker_counters_read(self.c, worker, c), "reading a worker's counters")
            found.append(counters_of(c))
        return found

    def worker_octets(self, worker: int) -> int:
        """What a worker and its buffers for packets take, once traffic has touched all of them."""
        return check(lib.dp_worker_octets(self.c, worker), "reading a worker's memory")

    def drop_examples(self, reason: str) -> list[DropExample]:
        """The last packets that were dropped for a reason, the newest first: a few of each loop. ValueError: no such reason."""
        if reason not in DROP_SENTENCES:
            raise ValueError(f"no reason is called {reason!r}")
        array = ffi.new("struct dp_example[]", 2 * lib.DP_EXAMPLES * self.workers)
        found = check(lib.dp_examples_read(self.c, DROP_NAMES.index(reason), array, len(array)), "reading dropped packets")
        return sorted((example_of(c) for c in array[0:found]), key=lambda each: -each.at)

    # ---- whole batches

    def seal(self, outbound: SaHandle, plain: Batch, sealed: Batch, now: int = 0) -> int:
        """Seals every row of `plain` into `sealed`; how many. Reasons are in `sealed`. Rows of `plain` need TAILROOM octets
        more than their packets. Raises ValueError when `sealed` has fewer rows."""
        if sealed.rows < plain.rows:
            raise ValueError(f"{plain.rows} packets do not fit {sealed.rows} rows")
        result = lib.dp_seal_burst(
            self.c,
            outbound,
            plain.c_data,
            plain.c_octets,
            plain.stride,
            sealed.c_data,
            sealed.c_octets,
            sealed.stride,
            plain.rows,
            sealed.c_reasons,
            now,
        )
        return int(result) if result >= 0 else check(result, "sealing a batch")

    def open(self, sealed: Batch, plain: Batch, now: int = 0) -> int:
        """Opens every row of `sealed` (SAs by SPI) into `plain`; how many. Reasons are in `plain`."""
        if plain.rows < sealed.rows:
            raise ValueError(f"{sealed.rows} packets do not fit {plain.rows} rows")
        result = lib.dp_open_burst(
            self.c,
            sealed.c_data,
            sealed.c_octets,
            sealed.stride,
            plain.c_data,
            plain.c_octets,
            plain.stride,
            sealed.rows,
            plain.c_reasons,
            now,
        )
        return int(result) if result >= 0 else check(result, "opening a batch")


def _ends(local: Endpoint, remote: Endpoint) -> Any:
    """Both as the core has them, one behind the other."""
    ends = ffi.new("struct dp_addr[2]")
    set_endpoint(ends[0], local)
    set_endpoint(ends[1], remote)
    return ends
