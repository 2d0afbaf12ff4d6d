"""SIGHUP, whenever it comes: none is lost while a gateway starts, takes another process's place or is handed over itself."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any

from ipsec_dp.errors import IpsecDpError
from ipsec_dp.gateway.messages import ReloadRequest
from ipsec_dp.gateway.upgrade.executable import RunningProgram
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from contextlib import AbstractContextManager

    from ipsec_dp.gateway.verbs import GatewayVerbs

log = logging.getLogger(__name__)


class AskedReloads:
    """Of one gateway. What is asked for while they are held back is done once after that: it reads what the file says then."""

    def __init__(
        self,
        verbs: GatewayVerbs,
        begin: Callable[[Coroutine[Any, Any, object]], object],
        *,
        reloading: Callable[[], AbstractContextManager[object]],
        stopping: Callable[[], bool],
        passed_on: Callable[[], bool],
    ) -> None:
        """`begin` begins a task, `reloading` is around each reload. `passed_on`: to another process, where that is the gateway."""
        self._verbs, self._begin, self._reloading = verbs, begin, reloading
        self._stopping, self._passed_on = stopping, passed_on
        self._program = RunningProgram()
        self._held = 1  # until the gateway is there
        self._asked = False

    def ask(self) -> None:
        """One now, or later."""
        if self._held:
            self._asked = True
        elif not self._passed_on() and not self._stopping():
            self._begin(self._reload())

    def release(self) -> None:
        """What holds them back is over; at first: the gateway is there."""
        self._held -= 1
        if not self._held and self._asked:
            self._asked = False
            self.ask()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Back: what is read now another process may have read already."""
        self._held += 1
        try:
            yield
        finally:
            self.release()

    async def _reload(self) -> None:
        """Another program that is installed goes on, and takes over what the file says. Where none is, or it does not, the
        configuration is read again here. What comes of it is logged."""
        with self._reloading():
            if self._program.is_replaced and await self._verbs.follow_program():
                return
            if self._stopping():  # somebody wants that, or nobody has the SAs any more
                return
            try:
                await self._verbs.reload(ReloadRequest())
            except IpsecDpError as error:
                log.error("%s", error, extra=told("reload_failed"))
