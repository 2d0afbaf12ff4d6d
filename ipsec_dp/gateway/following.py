"""A stream on a connection of the control socket: written as fast as it is read, until one of both sides ends it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import msgspec

from ipsec_dp.util.slices import Slice, turn
from ipsec_dp.util.text import shown_all

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class FollowedLines(Protocol):
    """What is followed; it bounds itself what it keeps for a reader that does not read."""

    def lines(self) -> AsyncIterator[bytes]:
        """Each with its end of line."""

    def close(self) -> None:
        """Nobody reads it any more."""


@dataclass(frozen=True, slots=True)
class FollowedAnswer:
    """An answer after whose line others follow, until the connection ends."""

    head: msgspec.Struct
    followed: FollowedLines

    @property
    def line(self) -> bytes:
        """The answer itself."""
        return json.dumps({"ok": True, "result": shown_all(msgspec.to_builtins(self.head))}).encode() + b"\n"

    async def send(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """All of it. A client that closes, or says anything more, ends it. Raises ConnectionError."""
        sending = asyncio.ensure_future(self._send(writer))
        leaving = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
            await self.end(sending)
        finally:
            self.followed.close()
            for task in (sending, leaving):
                task.cancel()
            with contextlib.suppress(ConnectionError):
                await asyncio.gather(sending, leaving, return_exceptions=True)

    async def end(self, sending: asyncio.Future[None]) -> None:
        """The client wants no more, or `sending` is over: what may still be sent is."""

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        writer.write(self.line)
        await writer.drain()
        part = Slice()
        async for line in self.followed.lines():
            writer.write(line)
            await writer.drain()  # which waits for a client that is slow, and lets nobody else go on where it is not
            if part.over:
                await turn()
                part = Slice()
