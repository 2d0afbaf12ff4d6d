"""What may fail when nobody else has the SAs any more: packets pass all the same, and it is told."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, TypeVar

from ipsec_dp.errors import DataPlaneError, IpsecDpError
from ipsec_dp.gateway.reload import UPGRADED
from ipsec_dp.util.faults import unexpected
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from ipsec_dp.dataplane import DataPlane
    from ipsec_dp.gateway.reload import Reloader
    from ipsec_dp.util.conditions import Conditions

log = logging.getLogger(__name__)

STEP_S: Final = 60.0  # ten thousand tunnels' routes and rules are compared in a few seconds
PORT: Final = "port 500"  # of a condition, which no reload ends

Given = TypeVar("Given")


def without(what: str, step: Callable[[], Given]) -> Given | None:
    """What the step gives. None where it fails: the SAs are worth more than what does not come along."""
    try:
        return step()
    except Exception as error:  # noqa: BLE001 - whatever is wrong with it, packets pass
        log.warning("%s did not come along: %s", what, unexpected(what, error), extra=told("upgrade_not_taken"))
    return None


def read_ike(plane: DataPlane, conditions: Conditions) -> None:
    """From now on, at port 500. Where there is no thread to be had for it, it is a condition."""
    try:
        plane.start_ike()
    except DataPlaneError as error:
        conditions.begin(PORT, PORT, f"since an upgrade IKE is not read at port 500: {error}; restart the gateway")


async def settled(
    conditions: Conditions, reloader: Reloader, steps: Mapping[str, Callable[[], Awaitable[None]]], lives: Callable[[float], object]
) -> None:
    """Each step, whatever becomes of the others. What fails is a condition until a reload has done it all. `lives` is told after
    each how long the next one may take."""
    for what, step in steps.items():
        try:
            await step()
        except IpsecDpError as error:  # packets pass meanwhile
            log.error("after the upgrade: %s: %s", what, error, extra=told("upgrade_unsettled"))
            conditions.begin(UPGRADED, what, f"after an upgrade, {what}: {error}; `ipsec-dp reload` tries again")
            reloader.make_all()
        lives(STEP_S)
