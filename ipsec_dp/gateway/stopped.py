"""A gateway that does not run: what it protects is closed before it starts, and what it left closed is opened by who says so."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tomllib
from typing import TYPE_CHECKING

from ipsec_dp.errors import ControlError, IpsecDpError
from ipsec_dp.host import HostError, claim
from ipsec_dp.network import remains
from ipsec_dp.network.linux_host import LinuxHost
from ipsec_dp.util.clock import SystemClock
from ipsec_dp.util.faults import explained
from ipsec_dp.util.text import named
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ipsec_dp.config import Config
    from ipsec_dp.network.host import Host
    from ipsec_dp.network.remains import Remains

log = logging.getLogger(__name__)

NAMED_MOST = 20  # prefixes in one log line


async def close(config: Config, host: Host | None = None) -> Remains:
    """Closes what a configuration protects, and starts nothing; what holds it then. `host` None: this machine.

    Guard, zones, bypass rules, unreachable routes: what is there already is adopted, as the next `up` adopts this. Raises
    RunningError when the gateway runs, HostError when not all of it could be closed.
    """
    host = LinuxHost(config, SystemClock()) if host is None else host
    try:
        with explained("not all is closed"):
            try:
                await host.close_guard()
            except claim.RunningError:
                raise
            except HostError as error:
                raise HostError(f"{error}; {(await host.remains()).text}") from error
            return await host.remains()
    finally:
        await host.close()


async def left(gateway: str) -> Remains:
    """What a gateway left. Raises ControlError when it still runs, HostError."""
    who = claim.holder(gateway)
    found = await remains.find(gateway)
    if who is None and found.routed:  # of another user, or from a time before it held its name
        raise _lives(gateway, f"{found.routed[0]} leads into its tunnel")
    if who is not None:
        raise _lives(gateway, str(who))
    return found


async def open_up(gateway: str) -> None:
    """Takes away all that `left` finds. Raises ControlError when it runs, HostError when something stays."""
    with claim.take(gateway):
        found = await remains.find(gateway)
        if found.routed:
            raise _lives(gateway, f"{found.routed[0]} leads into its tunnel")
        await remains.remove(gateway)
    log.warning(
        "gateway %s was opened by hand: packets to %s leave in clear now, where this host routes them",
        gateway,
        named(found.held, NAMED_MOST) or "nowhere",
        extra=told("opened_by_hand"),
    )


def _lives(gateway: str, who: str) -> ControlError:
    return ControlError(
        f"gateway {gateway} is running ({who}), and its guard is its own to open: stop it first with `ipsec-dp down`"
    )


def configured_names(directory: Path) -> list[str]:
    """Of the gateways that the configurations in a directory are of, as far as they may be read."""
    found = []
    for path in sorted(directory.glob("*.toml")):
        try:
            gateway = tomllib.loads(path.read_text()).get("gateway")
        except (OSError, ValueError):
            continue
        if isinstance(gateway, dict) and isinstance(name := gateway.get("name"), str):
            found.append(name)
    return found


def recorded_names(*directories: Path) -> list[str]:
    """Of gateways that ran here, by what they left in a directory: their control sockets, and their directories of state."""
    found = []
    for directory in directories:
        with contextlib.suppress(OSError):
            found += [path.stem if path.suffix == ".sock" else path.name for path in sorted(directory.iterdir())]
    return found


def advice(candidates: Iterable[str]) -> str:
    """What gateways that do not run left closed here, and what can be done about it; empty: nothing, or it cannot be seen.

    `candidates`: names to ask for beside those that the kernel's tables have.
    """
    names = tuple(candidates)
    texts: list[str] = []
    with contextlib.suppress(IpsecDpError, OSError):
        texts += [f"gateway {each.gateway} does not run, but {each.advice}" for each in asyncio.run(remains.dead(names))]
        texts += [each.advice for each in asyncio.run(remains.nameless(names))]
    return "; ".join(texts)
