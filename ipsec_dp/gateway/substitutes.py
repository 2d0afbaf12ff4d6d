"""What a rig puts in the place of parts of a gateway that are neither host nor clock."""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ipsec_dp.config.difference import read_again
from ipsec_dp.dataplane import DataPlane
from ipsec_dp.gateway.control_place import ControlPlace
from ipsec_dp.ike.environment import NO_INTERFERENCE
from ipsec_dp.keying.ike_trace import ike_trace
from ipsec_dp.keying.ikev2_pins import PinFiles, pins_of
from ipsec_dp.services.metrics_server import StartListening, listen_here
from ipsec_dp.util.collection import no_full_collection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from ipsec_dp.config import Config
    from ipsec_dp.config.difference import Difference
    from ipsec_dp.errors import Finding
    from ipsec_dp.gateway.control_place import ListeningPlace
    from ipsec_dp.ike.actions import Event
    from ipsec_dp.ike.environment import Interference, Pins, Trace
    from ipsec_dp.util.clock import Clock
    from ipsec_dp.util.conditions import Conditions


def _pins(gateway: str, conditions: Conditions) -> Pins:
    """The files of a gateway, by its name."""
    return PinFiles(pins_of(gateway, os.environ), conditions)


@dataclass(frozen=True, slots=True)
class Substitutes:
    """`plane` makes the data plane, `reported` hears of each event of IKE, `shaped` and `interference` are `Environment`'s, `pins`
    gives those of a gateway, `reread` reads the configuration anew, `starting` is around the making of all parts, `listen` gives
    the page of metrics its socket, `place` makes the control socket, `reloading` is around each reload, `in_force` is told which
    configurations are needed after one (it may wait, and is called in a thread), `offload_faults` is what the kernel does wrongly,
    by the offload's name."""

    plane: Callable[..., DataPlane] = DataPlane
    reported: Callable[[Event], None] = lambda _: None
    trace: Callable[[Clock], Trace] = ike_trace
    shaped: Callable[[Any, list[Any]], list[Any]] = lambda _header, payloads: payloads
    interference: Interference = NO_INTERFERENCE
    pins: Callable[[str, Conditions], Pins] = _pins
    reread: Callable[[Config, Path], Awaitable[tuple[Difference | None, tuple[Finding, ...]]]] = read_again
    starting: Callable[[], AbstractContextManager[object]] = no_full_collection
    listen: StartListening = listen_here
    place: Callable[[Path, str | None], ListeningPlace] = ControlPlace
    reloading: Callable[[], AbstractContextManager[object]] = nullcontext
    in_force: Callable[[Sequence[Config]], None] | None = None
    offload_faults: Mapping[str, str] = field(default_factory=dict)


NO_SUBSTITUTES = Substitutes()
