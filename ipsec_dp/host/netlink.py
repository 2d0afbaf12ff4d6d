"""The one way in which this package opens rtnetlink and reads its tables."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkDumpInterrupted, NetlinkError

from ipsec_dp.host import HostError
from ipsec_dp.util import os_errors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

DUMP_ATTEMPTS = 5
_dumping: WeakKeyDictionary[Any, asyncio.Lock] = (
    WeakKeyDictionary()
)  # by socket: the kernel refuses a second dump meanwhile (EBUSY)


def open_netlink() -> AsyncIPRoute:
    """An rtnetlink socket in the calling thread's network namespace, for `async with`.

    With strict checking the kernel itself picks the table asked for, which matters on hosts with very many routes.
    """
    return AsyncIPRoute(strict_check=True)


async def dump(method: Callable[..., Awaitable[Any]], *arguments: str, **filters: int) -> list[Any]:
    """All rows of a netlink dump, a method of the socket; asked again when the table changed meanwhile."""
    async with _dumping.setdefault(getattr(method, "__self__", None), asyncio.Lock()):
        for _ in range(DUMP_ATTEMPTS):
            try:
                return [row async for row in await method(*arguments, **filters)]
            except NetlinkDumpInterrupted:
                continue
            except NetlinkError as error:
                raise HostError(f"the kernel's tables cannot be read: {os.strerror(error.code)}") from error
            except OSError as error:
                raise HostError(f"rtnetlink: {os_errors.text_of(error)}") from error
    raise HostError("the kernel's tables change faster than they can be read")


async def ask(what: str, request: Awaitable[Any], *, done: tuple[int, ...] = ()) -> Any:
    """Awaits one netlink request. HostError beginning with `what`; the error numbers in `done` mean that it is so already."""
    try:
        return await request
    except NetlinkError as error:
        if error.code in done:
            return None
        raise HostError(f"{what}: {os.strerror(error.code)}") from error
    except OSError as error:
        raise HostError(f"{what}: rtnetlink: {error.strerror}") from error
