"""How a gateway's workers share its tunnels, interfaces and processors.

A tunnel belongs to one worker: its number modulo the workers. That worker's loops own all of its SAs, so each has one writer of its
sequence number or window, and no order is lost.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from ipsec_dp.dataplane import owner_of
from ipsec_dp.host import HostError, tun
from ipsec_dp.host.steering import queue_program, steer_queues
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from ipsec_dp.config import Config
    from ipsec_dp.dataplane import DataPlane, Offload
    from ipsec_dp.ipsec.addresses import Network

log = logging.getLogger(__name__)

CONTROL_NICE = -10


def receiver(config: Config, numbers: Mapping[str, int], name: str) -> int:
    """The worker whose sockets receive a tunnel's datagrams; the SPI that we announce decides that.

    It is the tunnel's owner, except that tunnels to the same peer share that of the first one: the kernel joins datagrams of one
    peer whatever SA they belong to, and parts of a flow by two sockets would overtake each other. What another worker owns is
    handed over, in order.
    """
    if config.workers == 1 or not config.has_tunnel(name):
        return 0
    tunnel = config.tunnel(name)
    if tunnel.remotes:
        tunnel = next(each for each in config.tunnels if each.remotes == tunnel.remotes)
    return owner_of(numbers[tunnel.name], config.workers)


def attach_interface(plane: DataPlane, name: str, number: int, destinations: Sequence[tuple[Network, int]]) -> tun.Tun:
    """Makes a TUN interface with a queue for each worker, and gives it to the data plane.

    `destinations` (prefix, owner of what goes there) say which queue a packet takes. Where the kernel has no
    such queues or does not let us steer them, one worker reads the interface for all. Raises HostError.
    """
    device = _queues(name, plane.workers, destinations) if plane.workers > 1 else tun.make(name)
    device.reader = destinations[0][1] if destinations else 0
    _attach(plane, number, device, [None] * plane.workers)
    return device


def attach_inherited(plane: DataPlane, number: int, device: tun.Tun, on: Sequence[Offload]) -> None:
    """As `attach_interface`, of one that another process still reads: nothing about it is changed. `on`: of each worker.

    Raises DataPlaneError, HostError."""
    if len(device.descriptors) not in (1, plane.workers) or len(on) != plane.workers or not 0 <= device.reader < plane.workers:
        raise HostError(f"interface {device.name}: {len(device.descriptors)} queues for {plane.workers} workers")
    _attach(plane, number, device, on)


def _attach(plane: DataPlane, number: int, device: tun.Tun, on: Sequence[Offload | None]) -> None:
    """A queue to each worker, or the only one to all, of which one reads it."""
    alone = len(device.descriptors) == 1
    for worker, offloads in enumerate(on):
        plane.attach_tun(number, device.descriptors[0 if alone else worker], worker, on=offloads)
        if alone and worker != device.reader:
            plane.receive_off_tun(number, worker)


def detach_interface(plane: DataPlane, number: int) -> None:
    """Takes it from every worker."""
    for worker in range(plane.workers):
        plane.detach_tun(number, worker)


def _queues(name: str, workers: int, destinations: Sequence[tuple[Network, int]]) -> tun.Tun:
    try:
        device = tun.make(name, queues=workers)
    except HostError as error:
        log.warning(
            "interface %s: no queue for each worker, so one reads for all: %s",
            name,
            error,
            extra=told("queues_missing", interface=name),
        )
        return tun.make(name)
    try:
        steer_queues(device.descriptors[0], queue_program(destinations))
    except OSError as error:
        # Unsteered, the kernel moves flows between queues, and packets would overtake each other.
        device.close()
        reason = os.strerror(error.errno or 0)
        log.warning(
            "interface %s: its queues cannot be steered, so one worker reads for all: %s; it takes CAP_BPF or root, and bpf(2)",
            name,
            reason,
            extra=told("queues_unsteered", interface=name),
        )
        return tun.make(name)
    return device


def pins(pin: bool | Sequence[int], workers: int) -> list[tuple[int, int]]:
    """For each worker the CPUs of its outbound and its inbound thread; empty: none is bound.

    `pin`: CPUs by turns, or True: all that this process may use. Raises HostError when one is not among those.
    """
    usable = sorted(os.sched_getaffinity(0))
    cpus = usable if pin is True else list(pin or ())
    if missing := sorted(set(cpus) - set(usable)):
        raise HostError(
            f"[gateway] pin: CPU {missing[0]} is none that this process may use; there are {', '.join(map(str, usable))}"
        )
    return [(cpus[2 * worker % len(cpus)], cpus[(2 * worker + 1) % len(cpus)]) for worker in range(workers)] if cpus else []


def threads() -> frozenset[int]:
    """Of this process, by their ids."""
    return frozenset(map(int, os.listdir("/proc/self/task")))


def prefer_control_plane(loops: Collection[int] = ()) -> None:
    """Puts the calling thread (nice is each thread's own) before the loops, which are busy as long as there are packets.

    The control plane has little to do, but SAs end when it is late. `loops`: threads that inherited its priority, where it had that
    already because it may take it no more.
    """
    if os.getpriority(os.PRIO_PROCESS, 0) <= CONTROL_NICE:
        for thread in loops:
            os.setpriority(os.PRIO_PROCESS, thread, 0)
        return
    try:
        os.setpriority(os.PRIO_PROCESS, 0, CONTROL_NICE)
    except OSError as error:
        log.info(
            "the control plane runs with the host's usual priority: %s", os.strerror(error.errno or 0), extra=told("usual_priority")
        )
