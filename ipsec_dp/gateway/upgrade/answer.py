"""What the one who asked for an upgrade hears, and the log; and when it is tried once more before anybody hears of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from ipsec_dp import __version__
from ipsec_dp.errors import ControlError
from ipsec_dp.gateway.messages import UpgradeAnswer, UpgradeLeftOut
from ipsec_dp.gateway.upgrade.stream import HandOverError
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ipsec_dp.errors import IpsecDpError
    from ipsec_dp.gateway.upgrade.messages import GoesOn

log = logging.getLogger(__name__)

ATTEMPTS: Final = 3  # each with a successor of its own


class ChangedMeanwhileError(HandOverError):
    """The gateway is not what it was when its successor got ready, as may be once and hardly again: it is worth another attempt."""


async def attempted(attempt: Callable[[], Awaitable[UpgradeAnswer]]) -> UpgradeAnswer:
    """Of a busy gateway: whoever asked, a service manager perhaps, would not ask again. Raises what the last attempt does."""
    for _ in range(ATTEMPTS - 1):
        try:
            return await attempt()
        except ChangedMeanwhileError as error:
            log.info("handing over begins again: %s", error, extra=told("upgrade_again"))
    return await attempt()


def answered(gateway: str, version: str, process: int, goes_on: GoesOn, took: float) -> UpgradeAnswer:
    """`took`: seconds, from the question on."""
    for each in goes_on.left_out:
        log.warning(
            'tunnel "%s" is negotiated anew: %s',
            each.tunnel,
            each.why,
            extra=told("upgrade_left_out", tunnel=each.tunnel or None),
        )
    log.info(
        "process %d goes on, version %s; carried: IKE SAs %d, CHILD_SAs %d; nobody forwarded for %s ms",
        process,
        version,
        goes_on.ike_sas,
        goes_on.child_sas,
        round(goes_on.gap_ms, 1),
        extra=told("upgraded"),
    )
    if goes_on.changes is not None:
        log.info(
            "the configuration file says something else than what was in force (%s), and is taken over next",
            goes_on.changes,
            extra=told("upgrade_file"),
        )
    return UpgradeAnswer(
        gateway=gateway,
        before=__version__,
        version=version,
        process=process,
        ike_sas=goes_on.ike_sas,
        child_sas=goes_on.child_sas,
        left_out=tuple(UpgradeLeftOut(tunnel=each.tunnel, why=each.why) for each in goes_on.left_out),
        changes=goes_on.changes,
        gap_ms=round(goes_on.gap_ms, 3),
        took_s=round(took, 3),
    )


def refused(error: IpsecDpError, *, unchanged: bool = True) -> ControlError:
    """`unchanged`: nothing else has become of it."""
    what = "not upgraded, and everything goes on as before" if unchanged else "not upgraded"
    log.warning("%s: %s", what, error, extra=told("upgrade_refused"))
    return ControlError(f"{what}: {error}")
