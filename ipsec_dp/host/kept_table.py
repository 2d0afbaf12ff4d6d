"""An nftables table that nobody but us may change: what it counted is remembered, and how the kernel showed it when it was made."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ipsec_dp.host import nft
from ipsec_dp.host.nft_state import NftState

if TYPE_CHECKING:
    from ipsec_dp.host.nft import Count

PATIENCE_S, PATIENCE_MOST_S = 2.0, 64.0  # for nft, at first and after many times that it did not end


class KeptTable:
    """One table of the family inet in the network namespace of the calling thread."""

    def __init__(self, table: str) -> None:
        self.table = table
        self.turn = asyncio.Lock()  # held by whoever writes it
        self._patience = PATIENCE_S
        self._counted: dict[str, Count] = {}
        self._seen: tuple[int, bytes] | None = None  # the rule set's generation, and a digest of the table

    async def counts(self) -> dict[str, Count]:
        """Its named counters; empty without the table. HostError."""
        with NftState() as state:
            found = await state.counts(self.table)
        self._counted |= found
        return found

    async def carried_over(self) -> dict[str, Count]:
        """What counters of a table made anew go on from: what they count now, or did when they were last seen. HostError."""
        return await self.counts() or self._counted

    async def make_again(self, text: str) -> None:
        """Carries `text` out. A nft that hangs is not waited for as long as usually: the table is missing. HostError."""
        patience, self._patience = self._patience, min(PATIENCE_MOST_S, 2 * self._patience)
        await nft.transact(text, patience)
        self._patience = PATIENCE_S

    def forget(self) -> None:
        """Nothing is known of the kernel's table."""
        self._seen = None

    async def written(self) -> None:
        """It is in the kernel as it should be, by a transaction of ours. HostError."""
        with NftState() as state:
            generation, digest = await state.generation(), await state.digest(self.table)
        self._seen = None if digest is None else (generation, digest)

    async def is_as_written(self) -> bool:
        """Whether the kernel has just what it had at the last call of `written`; cheap while nobody changes nftables. HostError.

        Also True when we began to write it meanwhile: then nothing is known, and whoever writes it knows soon.
        """
        seen = self._seen
        if seen is None:
            return False
        with NftState() as state:
            generation = await state.generation()
            if generation != seen[0]:
                digest = await state.digest(self.table)
                if self._seen is not seen:
                    return True
                if digest != seen[1]:
                    return False
                self._seen = generation, seen[1]
        await self.counts()
        return True

    async def is_there(self) -> bool:
        """Whether there is a table of this name, whoever made it. HostError."""
        with NftState() as state:
            return await state.exists(self.table)
