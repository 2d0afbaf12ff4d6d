"""What a gateway made once in the kernel and nobody else may change: each part can be compared with the kernel, and made again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ipsec_dp.host import PROTOCOL
from ipsec_dp.host.held import place
from ipsec_dp.util.text import named

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipsec_dp.host.bulk import KernelRoute
    from ipsec_dp.host.bypass import HeldBypass
    from ipsec_dp.host.held import Held, Place

RESTART = "`nft flush ruleset` does that, the first line of /etc/nftables.conf, so each `systemctl restart nftables` does too"
MANY = 256  # routes
CHANGED = "was not as it was made"
NAMED = 3  # routes of others that a message names
NETWORKD = "systemd-networkd does that to what is not its own, unless networkd.conf has {}=no"


class Kept(Protocol):
    """One part. `name` is its key in `status`, `what` what messages call it, and `usual` who usually takes it away.

    `how`: what it was like when it was found not to be whole, for a sentence that `what` begins.
    """

    name: str
    what: str
    usual: str

    @property
    def how(self) -> str: ...

    async def is_whole(self, *, cheaply: bool = True) -> bool:
        """Whether the kernel has it as it was made; what it lacks is remembered for `restore`.

        `cheaply`: by a digest of the kernel's tables where that is the same as at the last time. HostError.
        """

    async def restore(self) -> bool:
        """Makes again what is not there; False: nothing was missing. HostError; then the rest is made by the next call."""


class NftTable(Protocol):
    """Guard or zones."""

    @property
    def table(self) -> str: ...

    async def is_whole(self) -> bool: ...

    async def restore(self) -> bool:
        """False: there is to be no such table."""


class KeptNft:
    """A table of nftables."""

    usual, how = RESTART, CHANGED

    def __init__(self, name: str, what: str, table: NftTable) -> None:
        self.name, self._table = name, table
        self.what = f"{what} (nftables table inet {table.table})"

    async def is_whole(self, *, cheaply: bool = True) -> bool:
        del cheaply  # its digest is by handle, which no two rules share
        return await self._table.is_whole()

    async def restore(self) -> bool:
        return await self._table.restore()


class KeptRules:
    """The rules that lead to the routing tables of the gateway."""

    name, what = "rules", f"routing rules (protocol {PROTOCOL})"
    usual, how = NETWORKD.format("ManageForeignRoutingPolicyRules"), CHANGED

    def __init__(self, held: Held) -> None:
        self._held = held

    async def is_whole(self, *, cheaply: bool = True) -> bool:
        if cheaply and await self._held.unchanged("rules"):
            return True
        whole = self._held.rules.issubset(await self._held.present_rules())
        if whole:
            await self._held.compared("rules")
        return whole

    async def restore(self) -> bool:
        made = await self._held.restore_rules()
        await self._held.compared("rules")
        return made > 0


class KeptBypass:
    """The rules that lead past the tunnels what may bypass them."""

    name, what = "bypass", f"routing rules of bypass policies (protocol {PROTOCOL})"
    usual, how = NETWORKD.format("ManageForeignRoutingPolicyRules"), CHANGED

    def __init__(self, bypass: HeldBypass) -> None:
        self._bypass = bypass

    async def is_whole(self, *, cheaply: bool = True) -> bool:
        return await self._bypass.are_whole(cheaply=cheaply)

    async def restore(self) -> bool:
        return await self._bypass.restore() > 0


class KeptRoutes:
    """The routes into the tunnels, and the unreachable ones behind them."""

    name, what = "routes", f"routes (protocol {PROTOCOL})"
    usual = NETWORKD.format("ManageForeignRoutes")

    def __init__(self, held: Held) -> None:
        self._held = held
        self._gone: dict[Place, KernelRoute] = {}

    @property
    def many(self) -> bool:
        """So many are gone that it is quicker to compare them all than to hear of each."""
        return len(self._gone) >= MANY

    def lose(self, routes: Iterable[KernelRoute]) -> list[KernelRoute]:
        """They went; those of them that are to be there."""
        mine = {at: route for route in routes if (at := place(route)) in self._held.routes}
        self._gone |= mine
        return list(mine.values())

    async def is_whole(self, *, cheaply: bool = True) -> bool:
        if cheaply and await self._held.unchanged("routes"):
            return True
        missing = await self._held.missing_routes()
        if not missing and not self._held.foreign:
            await self._held.compared("routes")
        return not self.lose(missing) and not self._held.foreign

    @property
    def how(self) -> str:
        if not self._held.foreign:
            return CHANGED
        routes = named([f"{route.prefix} (protocol {route.protocol})" for route in self._held.foreign], NAMED)
        return f"had routes of somebody else's in their tables, {routes}, which took what is to enter a tunnel"

    async def restore(self) -> bool:
        gone, self._gone = self._gone, {}
        try:
            made = await self._held.restore_routes(gone.values()) + await self._held.remove_foreign()
        except BaseException:
            self._gone = gone | self._gone
            raise
        await self._held.compared("routes")
        return made > 0
