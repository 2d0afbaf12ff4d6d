"""A table that is compared with what it was, while others and we ourselves change it: with nftables in memory."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

import pytest

from ipsec_dp.host import kept_table
from ipsec_dp.host.kept_table import KeptTable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ipsec_dp.host.nft import Count


async def at_once() -> None:
    pass


class Nftables:
    """In the place of `NftState`. `while_read` happens while a digest is taken."""

    def __init__(self) -> None:
        self.number, self.text = 1, b"as made"
        self.while_read: Callable[[], Awaitable[None]] = at_once

    def __call__(self) -> Self:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def write(self, text: bytes) -> None:
        self.number, self.text = self.number + 1, text

    async def generation(self) -> int:
        return self.number

    async def digest(self, table: str) -> bytes | None:
        assert table == "ours"
        found = self.text
        await self.while_read()
        return found

    async def counts(self, table: str) -> dict[str, Count]:
        assert table == "ours"
        return {}


@pytest.fixture
def kernel(monkeypatch):
    made = Nftables()
    monkeypatch.setattr(kept_table, "NftState", made)
    return made


async def written() -> KeptTable:
    table = KeptTable("ours")
    await table.written()
    return table


def test_what_another_wrote_is_found_and_another_table_is_nothing(kernel):
    async def life() -> None:
        table = await written()
        assert await table.is_as_written()
        kernel.write(b"as made")
        assert await table.is_as_written()
        kernel.write(b"changed")
        assert not await table.is_as_written()

    asyncio.run(life())


def test_a_look_in_which_we_begin_to_write_it_finds_no_fault(kernel):
    async def life() -> None:
        table = await written()
        kernel.write(b"by us")

        async def begin() -> None:
            table.forget()

        kernel.while_read = begin
        assert await table.is_as_written()
        assert not await table.is_as_written(), "and nothing is taken for known"

    asyncio.run(life())


def test_a_look_in_which_we_write_it_finds_no_fault_and_keeps_what_we_wrote(kernel):
    async def life() -> None:
        table = await written()

        async def rewrite() -> None:
            kernel.while_read = at_once
            kernel.write(b"by us")
            await table.written()

        kernel.write(b"as made")
        kernel.while_read = rewrite
        assert await table.is_as_written()
        assert await table.is_as_written()
        kernel.write(b"changed")
        assert not await table.is_as_written()

    asyncio.run(life())
