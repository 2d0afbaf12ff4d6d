"""The one way in which this package calls nft: whole transactions as text in, JSON out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ipsec_dp.host import HostError
from ipsec_dp.util import os_errors

if TYPE_CHECKING:
    from collections.abc import Iterable

NAME_OCTETS_MAX = 200  # of a gateway's name when escaped; nftables allows 255 in all
NFT_SECONDS = 60.0
TRANSACTION_SECONDS = 10.0  # for a transaction, and one more for each so many octets
OCTETS_PER_SECOND = 50_000

_running: set[int] = set()  # process IDs of those that this process runs
_unread: set[int] = set()  # and of those that have ended, while reports of what they did may wait


@dataclass(frozen=True)
class Count:
    """What a rule let through or dropped."""

    packets: int = 0
    octets: int = 0


def escaped(gateway: str) -> str:
    """A gateway's name within that of a table: letters, digits, "-" and "." stay, other octets become _xx. ValueError: too long."""
    octets = (chr(o) if re.match(r"[A-Za-z0-9.-]", chr(o)) else f"_{o:02x}" for o in gateway.encode())
    text = "".join(octets)
    if not 1 <= len(text) <= NAME_OCTETS_MAX:
        raise ValueError(f"a gateway name of {len(text)} octets: 1 to {NAME_OCTETS_MAX} make a name for an nftables table")
    return text


def chain(name: str, rules: Iterable[str]) -> list[str]:
    """The lines of a chain."""
    return [f"chain {name} {{", *(f"  {rule}" for rule in rules), "}"]


def named_set(name: str, kind: str, elements: Iterable[str]) -> list[str]:
    """The lines of a set; of interfaces (`ifname`, also beside others), or of ranges of any other kind."""
    joined = ", ".join(elements)
    flags = "" if kind.endswith("ifname") else " flags interval;"
    return [f"set {name} {{ type {kind};{flags}{f' elements = {{ {joined} }}' if joined else ''} }}"]


def table(name: str, lines: Iterable[str]) -> str:
    """One transaction that replaces the table `name`, or makes it."""
    body = "\n".join(f"  {line}" for line in lines)
    return f"add table inet {name}\ndelete table inet {name}\ntable inet {name} {{\n{body}\n}}\n"


def is_ours(port: int) -> bool:
    """Whether a netlink port is that of a nft which this process has run just now (see `nft_reports`)."""
    return port in _running or port in _unread


def all_read() -> None:
    """No report waits: what those did that have ended was reported."""
    _unread.clear()


def program() -> str:
    """Where nft is. Raises HostError."""
    found = shutil.which("nft", path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
    if found is None:
        raise HostError("nft is not installed, and without it there is no guard: apt-get install nftables")
    return found


async def _nft(*arguments: str, text: str = "", seconds: float = NFT_SECONDS) -> str:
    # In a thread: a cancelled asyncio subprocess can leave its task waiting for ever.
    running = asyncio.ensure_future(asyncio.to_thread(_run, [program(), *arguments], text, seconds))
    running.add_done_callback(_ended)
    try:
        done = await asyncio.shield(running)
    except asyncio.CancelledError:
        await _over(running)
        raise
    except OSError as error:
        raise HostError(f"nft {' '.join(arguments)}: {os_errors.text_of(error)}") from error
    if done.status is None:
        raise HostError(f"nft {' '.join(arguments)}: no end after {seconds:g} s")
    if done.status != 0:
        raise HostError(f"nft {' '.join(arguments)}: {_reason(done.errors) or done.status}")
    return done.output


async def _over(running: asyncio.Future[_Done]) -> None:
    """Whoever is cancelled goes on when nft has ended, so that nothing comes after what he does next, as taking the table away."""
    while not running.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([running])


def _ended(running: asyncio.Future[_Done]) -> None:
    if not running.cancelled() and running.exception() is None:
        _unread.add(running.result().process)
        _running.discard(running.result().process)


class _Done(NamedTuple):
    """`status` None: it was killed because it did not end."""

    process: int
    status: int | None
    output: str
    errors: str


def _run(command: list[str], text: str, seconds: float) -> _Done:
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, errors="replace") as process:
        _running.add(process.pid)  # before it can have read what it is to do
        try:
            output, errors = process.communicate(text, seconds)
        except subprocess.TimeoutExpired:
            process.kill()  # and what it may have started is not waited for
            return _Done(process.pid, None, "", "")
        return _Done(process.pid, process.returncode, output, errors)


def _reason(said: str) -> str:
    """What nft said, on one line: the first one that is an error, without the text that it quotes."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return next((line for line in lines if "Error:" in line), lines[0] if lines else "")


async def listed(kind: str, *scope: str) -> list[dict[str, Any]]:
    """What `nft list KIND SCOPE` has, as its JSON objects. HostError."""
    answer = json.loads(await _nft("-j", "list", kind, *scope))
    single = kind.removesuffix("s")
    return [item[single] for item in answer["nftables"] if single in item]


async def ruleset() -> list[dict[str, Any]]:
    """Every object that nft has, but for the elements of named sets. HostError."""
    objects: list[dict[str, Any]] = json.loads(await _nft("-t", "-j", "list", "ruleset"))["nftables"]
    return objects


async def tables() -> list[str]:
    """The names of all tables of the family inet. HostError."""
    return [row["name"] for row in await listed("tables", "inet")]


async def transact(text: str, seconds: float = TRANSACTION_SECONDS) -> None:
    """Carries out all of `text` or nothing of it. HostError, also for a nft that hangs: it is killed.

    `seconds`: how long it may take beside what a text of that length does.
    """
    await _nft("-f", "-", text=text, seconds=seconds + len(text) / OCTETS_PER_SECOND)


async def remove(name: str) -> None:
    """Takes a table away, if there is one. HostError."""
    await transact(f"add table inet {name}\ndelete table inet {name}\n")
