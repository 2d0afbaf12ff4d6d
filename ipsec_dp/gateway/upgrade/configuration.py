"""The configuration of a gateway that is handed over: what is in force, and what its file says by now.

The successor takes over with what is in force, read again from the text that the other process kept of it; the files that it names
are read where they lie. What the file says since then is looked at before anything stops, as far as it can be without doing it, and
taken over by a reload once everything else is settled.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Final

from ipsec_dp.config import examine, files, located
from ipsec_dp.config.difference import ReadRequest, as_known, between, known
from ipsec_dp.config.load import examine_text
from ipsec_dp.databases.spd import Spd
from ipsec_dp.errors import ConfigError, IpsecDpError
from ipsec_dp.gateway.messages import ReloadRefusal
from ipsec_dp.gateway.reload import UPGRADED, unchangeable
from ipsec_dp.gateway.reload_peers import read_peers
from ipsec_dp.gateway.upgrade.stream import HandOverError
from ipsec_dp.util.faults import explained
from ipsec_dp.util.text import named
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from ipsec_dp.config import Config
    from ipsec_dp.config.difference import Difference
    from ipsec_dp.config.named_files import KeptKeys
    from ipsec_dp.errors import Finding
    from ipsec_dp.gateway.reload import Reloader
    from ipsec_dp.gateway.upgrade.messages import GatewayOffer
    from ipsec_dp.util.conditions import Conditions

log = logging.getLogger(__name__)

NAMED_MOST: Final = 3
FILE: Final = "configuration"  # of a condition: what became of it
BESIDE: Final = frozenset({"path", "tunnels", "warnings"})  # which say nothing of what is configured beside tunnels


@dataclass(frozen=True, slots=True)
class FoundConfiguration:
    """`file` None: it says what is in force. `changes`: what it says otherwise, in words."""

    in_force: Config
    file: Config | None = None
    changes: str | None = None


def read(offer: GatewayOffer, path: Path, learn: Callable[[ReadRequest], bool], kept: KeptKeys) -> FoundConfiguration:
    """`learn` tells whoever opens files for this process which ones a configuration names; False: nobody does. `kept` gets what its
    PSKs and PPKs are. Raises IpsecDpError: what a reload would not take over, or what this program does not understand of what is
    in force."""
    files.share_fingerprints(offer.key)
    config, findings = examine(path, kept)
    if config is None and learn(ReadRequest(path, offer.known, offer.key)):
        config, findings = examine(path, kept)
    if config is None:
        raise ConfigError(findings)
    same = config.text == offer.text and {tunnel.name: known(tunnel) for tunnel in config.tunnels} == offer.known
    if same and _is_of(config, offer):
        return FoundConfiguration(config)
    difference = between(_in_force(offer, path, kept), config)
    if (changes := _changes(difference)) is None:
        return FoundConfiguration(config)
    _try(difference, path)
    return FoundConfiguration(difference.old, difference.new, changes)


def _in_force(offer: GatewayOffer, path: Path, kept: KeptKeys) -> Config:
    """With the fingerprints of then, so that files whose content has changed are noticed."""
    config, findings = examine_text(offer.text, path, kept)
    if config is None:
        wrong = [f"{finding.where}: {finding.wrong}" for finding in findings if finding.severity == "error"]
        raise HandOverError(
            "this program cannot read the configuration that is in force, with the files that it names as they are now: "
            f"{named(wrong, NAMED_MOST, '; ')}; put back what is gone, or restart"
        )
    if {tunnel.name for tunnel in config.tunnels} != offer.known.keys():
        raise HandOverError("this program finds other tunnels in the configuration that is in force: restart")
    if not _is_of(config, offer):
        raise HandOverError("this program finds another name or number of workers in the configuration that is in force: restart")
    return replace(config, tunnels=tuple(as_known(tunnel, offer.known[tunnel.name]) for tunnel in config.tunnels))


def _is_of(config: Config, offer: GatewayOffer) -> bool:
    """Whether it makes the same gateway: what it has is laid out for so many workers."""
    return (config.name, config.workers) == (offer.gateway, offer.workers)


def _changes(difference: Difference) -> str | None:
    old, new = difference.old, difference.new
    found = [
        f"tunnels {what}: {named(names, NAMED_MOST)}"
        for what, names in (
            ("added", [tunnel.name for tunnel in difference.added]),
            ("removed", [tunnel.name for tunnel in difference.removed]),
            ("changed", [change.new.name for change in difference.changed]),
        )
        if names
    ]
    keys = [each.name for each in fields(old) if each.compare and each.name not in BESIDE]
    differ = [name for name in keys if getattr(old, name) != getattr(new, name)]
    if not found and [tunnel.name for tunnel in old.tunnels] != [tunnel.name for tunnel in new.tunnels]:
        differ.append("the order of tunnels")
    if differ:
        found.append(f"changed: {named(differ, NAMED_MOST)}")
    return "; ".join(found) or None


def _try(difference: Difference, path: Path) -> None:
    """All of a reload that changes nothing. Raises IpsecDpError."""
    wrong: Iterable[Finding] = [*unchangeable(difference.old, difference.new)] or read_peers(difference)[1]
    if wrong:
        raise ConfigError(located(wrong, path))
    Spd(difference.old).reconfigure(difference.new)  # whether there is room


async def take_over(file: Config, reloader: Reloader, conditions: Conditions) -> None:
    """What the file said when it was looked at. What fails is a condition, until a reload has done it."""

    async def ready_made(old: Config, _path: Path) -> tuple[Difference, tuple[Finding, ...]]:
        return await asyncio.to_thread(between, old, file), file.warnings

    try:
        with explained("taking the configuration file over"):
            came_of_it = await reloader.reload(file.path, reread=ready_made)
    except IpsecDpError as error:
        why = str(error)
    else:
        if not isinstance(came_of_it, ReloadRefusal):
            return
        why = named([str(finding) for finding in came_of_it.findings], NAMED_MOST, "; ")
    log.error("after the upgrade: the configuration file is not in force: %s", why, extra=told("upgrade_file_refused"))
    conditions.begin(
        UPGRADED, FILE, f"after an upgrade, the configuration file is not in force: {why}; `ipsec-dp reload` tries again"
    )
