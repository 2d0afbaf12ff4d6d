"""Services: what a gateway does by its configuration beside guard, interfaces, policy, IKE and routes (MTUs, monitors, …).

A service gets what is wanted and makes the kernel, or itself, match it, whatever there was before. Start, reload and adoption
after a kill are the same call, so that a service needs no code of its own for any of them.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from ipsec_dp.errors import IpsecDpError
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipsec_dp.config import Config

log = logging.getLogger(__name__)


class Service(Protocol):
    """One concern. `name` is what messages call it ("zone log")."""

    name: str

    async def apply(self, config: Config) -> None:
        """Makes things as `config` wants them: from nothing, from an earlier configuration, or from what a killed process left.

        A second call with the same configuration changes nothing. It never opens, even for a moment, what both the former and the
        new configuration keep closed, and does not block the event loop for more than 50 ms. Raises IpsecDpError, which says what
        stays as it was.
        """

    async def close(self) -> None:
        """Takes away all that it made: the gateway stops. Also called after an `apply` that failed, or without any."""


class ServiceError(IpsecDpError):
    """A service could not apply the configuration: which, and why."""


class Services:
    """All services of a gateway, in the order in which they are applied; closed in reverse.

    They are applied when guard, interfaces, policy and routes are as the configuration wants them, at start as at each reload.
    """

    def __init__(self, services: Iterable[Service] = ()) -> None:
        self._services = tuple(services)

    async def apply(self, config: Config) -> None:
        """Raises ServiceError for the first that fails; those after it are left as they were."""
        for service in self._services:
            await asyncio.sleep(0)  # each looks at all tunnels once: others have their turn in between
            try:
                await service.apply(config)
            except IpsecDpError as error:
                raise ServiceError(f"{service.name}: {error}") from error

    async def close(self) -> None:
        for service in reversed(self._services):
            try:
                await service.close()
            except IpsecDpError as error:
                log.warning("%s: %s", service.name, error, extra=told("service_failed", service=service.name))
