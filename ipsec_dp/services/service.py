"""What follows the configuration on the host beside guard, interfaces, policy, IKE and routes: zones, monitors, MTUs, ….

A component takes the wanted state and makes the kernel (or itself) so from whatever is there. Start, reload and adoption after a
kill are the same call, so a component needs no code of its own for any of them.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from ipsec_dp.errors import IpsecDpError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipsec_dp.config import Config

log = logging.getLogger("ipsec_dp")


class Component(Protocol):
    """One concern of the host. `name` is how messages call it ("zones")."""

    name: str

    async def apply(self, config: Config) -> None:
        """Makes what there is as `config` wants it, from nothing, from an earlier configuration or from what a killed process left.

        Calling it twice changes nothing the second time. It never opens, even for a moment, what both the former and the new
        configuration keep closed, and does not block the event loop for more than 50 ms. Raises IpsecDpError (say what stays).
        """

    async def close(self) -> None:
        """Takes everything of it away: the gateway stops. Also called after an `apply` that failed, or when none came."""


class ComponentError(IpsecDpError):
    """A component could not follow the configuration: which, and why."""


class Components:
    """All of a gateway, in the order in which they are applied; closed in reverse.

    They are applied when guard, interfaces, policy and routes are as the configuration wants them, at start as at each reload.
    """

    def __init__(self, components: Iterable[Component] = ()) -> None:
        self._components = tuple(components)

    async def apply(self, config: Config) -> None:
        """Raises ComponentError for the first that fails; those after it are left as they were."""
        for component in self._components:
            try:
                await component.apply(config)
            except IpsecDpError as error:
                raise ComponentError(f"{component.name}: {error}") from error

    async def close(self) -> None:
        for component in reversed(self._components):
            try:
                await component.close()
            except IpsecDpError as error:
                log.warning("%s: %s", component.name, error)
