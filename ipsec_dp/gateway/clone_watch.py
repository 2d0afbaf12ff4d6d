"""Every SA ends when this virtual machine was cloned or restored, so that no nonce is used twice."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from ipsec_dp.host import vmgenid

if TYPE_CHECKING:
    import socket
    from contextlib import AsyncExitStack

    from ipsec_dp.dataplane import DataPlane
    from ipsec_dp.keying.ike_driver import IkeDriver

log = logging.getLogger("ipsec_dp")


class CloneWatch:
    """Of one gateway."""

    def __init__(self, plane: DataPlane, ike: IkeDriver) -> None:
        self._plane, self._ike = plane, ike

    def listen(self, stack: AsyncExitStack) -> None:
        """Heeds the kernel's uevents until the stack is left."""
        loop = asyncio.get_running_loop()
        try:
            uevents = vmgenid.listen()
        except OSError as error:
            log.info("no kernel uevents here, so a cloned virtual machine goes unnoticed: %s", error.strerror)
            return
        loop.add_reader(uevents.fileno(), self.read, uevents)
        stack.callback(uevents.close)
        stack.callback(loop.remove_reader, uevents.fileno())

    def read(self, uevents: socket.socket) -> None:
        """ESP ends first: there a nonce would be used twice soonest."""
        if vmgenid.drain(uevents):
            self._plane.expire_all()
            self._ike.cloned()
            log.error("this virtual machine was cloned or restored: every SA is ended, so that no nonce is used twice")
