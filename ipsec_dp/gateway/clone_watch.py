"""Every SA ends when this virtual machine was cloned or restored, so that no nonce is used twice."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from ipsec_dp.dataplane import DataPlane
    from ipsec_dp.keying.ike_driver import IkeDriver

log = logging.getLogger(__name__)


class CloneWatch:
    """Of one gateway."""

    def __init__(self, plane: DataPlane, ike: IkeDriver) -> None:
        self._plane, self._ike = plane, ike

    def cloned(self) -> None:
        """This machine is a copy of another. ESP ends first: there a nonce would be used twice soonest."""
        self._plane.expire_all()
        self._ike.cloned()
        log.warning(
            "this virtual machine was cloned or restored: every SA is ended, so that no nonce is used twice", extra=told("cloned")
        )
