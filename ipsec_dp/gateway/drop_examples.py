"""The last packets that each reason dropped: in `status` with their likely cause, and in the log when a reason begins."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from datetime import timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Final

from ipsec_dp.dataplane import DROP_SENTENCES, Direction
from ipsec_dp.errors import IpsecDpError
from ipsec_dp.gateway.drop_causes import Scene, cause_of
from ipsec_dp.gateway.status import DropExampleStatus
from ipsec_dp.ipsec.flow import flow_text, icmp_of, port_of, protocol_text
from ipsec_dp.ipsec.spi import spi_text
from ipsec_dp.util.loops import Rounds
from ipsec_dp.util.slices import in_slices
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
    from contextlib import AsyncExitStack

    from ipsec_dp.config import Config, Tunnel
    from ipsec_dp.databases.spd import Spd
    from ipsec_dp.dataplane import DataPlane, DropExample
    from ipsec_dp.gateway.notices import Notices
    from ipsec_dp.ipsec.addresses import Address
    from ipsec_dp.ipsec.rules import Rule
    from ipsec_dp.util.clock import Clock
    from ipsec_dp.util.conditions import Conditions

SHOWN_MOST = 4  # of one reason
NS_PER_S = 1e9
LOOK_S = 1.0
OVER_S = 60.0  # a reason that dropped nothing for so long begins anew
AGAIN_S = 600.0  # while it goes on
# What a stranger can cause, and what is no fault: not worth a warning. Those of the last line are told elsewhere or harmless.
QUIET: Final = frozenset(
    {
        "runt",
        "esp_length",
        "replay",
        "too_old",
        "icv",
        "ike_limited",
        "ike_icv",
        "punt_full",
        "mtu",
        "ecn",
        "policy_discard",
        "policy_inbound",
    }
)
SILENT: Final = frozenset({"dummy", "unknown_spi"})


class DropExamples:
    """Those of one data plane. `state` says how a tunnel is; `own_addresses` are this host's."""

    def __init__(
        self,
        config: Config,
        *,
        plane: DataPlane,
        spd: Spd,
        own_addresses: Callable[[], Awaitable[Collection[Address]]],
        state: Callable[[Tunnel], str],
        clock: Clock,
    ) -> None:
        self._plane, self._spd, self._own_addresses, self._state, self._clock = plane, spd, own_addresses, state, clock
        self.reconfigure(config)

    def reconfigure(self, config: Config) -> None:
        """Causes are judged by this configuration from now on."""
        self._config = config
        self._rules: Mapping[str | None, Sequence[Rule]] | None = None  # by interface, None: all; made at the first question

    async def of(self, reasons: Collection[str]) -> dict[str, tuple[DropExampleStatus, ...]]:
        """The examples of each of these reasons that has some, the newest first."""
        found = [(reason, each) for reason in reasons for each in self._plane.drop_examples(reason)[:SHOWN_MOST]]
        if not found:
            return {}
        try:
            own = await self._own_addresses()
        except IpsecDpError:  # the cause is less certain then
            own = ()
        rules = await self._by_interface()
        told = [(reason, self._status(reason, each, own, rules)) async for reason, each in in_slices(found)]
        return {reason: tuple(each for _, each in rows) for reason, rows in groupby(told, key=lambda row: row[0])}

    def _status(
        self, reason: str, example: DropExample, own: Collection[Address], rules: Mapping[str | None, Sequence[Rule]]
    ) -> DropExampleStatus:
        interface = None if example.interface is None else self._spd.interface_names.get(example.interface)
        carrier = None if example.tunnel is None else self._spd.tunnel_names.get(example.tunnel)
        scene = Scene(example, rules.get(interface, ()), self._config.tunnels, own, interface, carrier, self._state_of)
        ago = self._clock.now() - example.at / NS_PER_S
        icmp = icmp_of(example.protocol, example.source_port)
        return DropExampleStatus(
            text=_text(example, interface, carrier),
            direction="out" if example.direction is Direction.OUTBOUND else "in",
            source=None if example.source is None else str(example.source),
            destination=None if example.destination is None else str(example.destination),
            protocol=protocol_text(example.protocol),
            source_port=port_of(example.protocol, example.source_port),
            destination_port=port_of(example.protocol, example.destination_port),
            icmp_type=None if icmp is None else icmp[0],
            icmp_code=None if icmp is None else icmp[1],
            interface=interface,
            tunnel=carrier,
            spi=None if example.spi is None else spi_text(example.spi),
            outer=example.outer,
            at=(self._clock.utc() - timedelta(seconds=ago)).isoformat(timespec="seconds"),
            ago_s=round(ago, 1),
            cause=cause_of(reason, scene),
        )

    def _state_of(self, name: str) -> str:
        return self._state(self._config.tunnel(name)) if self._config.has_tunnel(name) else "gone"

    async def _by_interface(self) -> Mapping[str | None, Sequence[Rule]]:
        """The rules that count on each interface, in the order of decision; None: all."""
        if self._rules is not None:
            return self._rules
        config = self._config
        found: defaultdict[str | None, list[Rule]] = defaultdict(list)
        everywhere = [None, *dict.fromkeys(tunnel.interface for tunnel in config.tunnels)]
        async for rule in in_slices(config.rules):
            for name in everywhere if rule.interface is None else (None, rule.interface):
                found[name].append(rule)
        if config is self._config:
            self._rules = found
        return found


def _text(example: DropExample, interface: str | None, tunnel: str | None) -> str:
    ends = (example.source, example.source_port, example.destination, example.destination_port)
    text = flow_text(example.protocol, *ends)
    if example.outer and example.spi is not None:
        text += f", SPI {spi_text(example.spi)}"
    if tunnel is not None:
        text += f', tunnel "{tunnel}"'
    return text if interface is None else f"{text}, {interface}"


class DropWatch:
    """Says in the log when a reason begins to drop packets, with one of them and its likely cause; `began` hears of the reason,
    `told` of how many were dropped until then and of the text too."""

    def __init__(
        self,
        plane: DataPlane,
        examples: DropExamples,
        notices: Notices,
        began: Callable[[str], None],
        conditions: Conditions,
        clock: Clock,
        told: Callable[[str, int, str], None] = lambda *_: None,
    ) -> None:
        self._rounds, self._say = Rounds("drops", conditions, clock), told
        self._plane, self._examples, self._notices, self._began, self._clock = plane, examples, notices, began, clock
        self._counts: dict[str, int] = {}
        self._rose: dict[str, float] = {}  # when each last dropped something
        self._told: dict[str, float] = {}

    def start(self, stack: AsyncExitStack) -> None:
        """Goes on until the stack is left."""
        task = asyncio.get_running_loop().create_task(self._rounds.run(self._turn))
        stack.callback(task.cancel)

    async def _turn(self) -> None:
        await self._clock.pause(LOOK_S)
        await self.look()

    async def look(self) -> None:
        """Once: what dropped packets since the last time."""
        counts, now = self._plane.counters().drops, self._clock.now()
        rose = [reason for reason, count in counts.items() if count > self._counts.get(reason, 0) and reason not in SILENT]
        new = [
            reason
            for reason in rose
            if now - self._rose.get(reason, -OVER_S) >= OVER_S or now - self._told.get(reason, -AGAIN_S) >= AGAIN_S
        ]
        self._counts = counts
        self._rose |= dict.fromkeys(rose, now)
        self._told |= dict.fromkeys(new, now)
        examples = await self._examples.of(new) if new else {}
        for reason in new:
            self._tell(reason, counts[reason], next(iter(examples.get(reason, ())), None))
            self._began(reason)

    def _tell(self, reason: str, count: int, example: DropExampleStatus | None) -> None:
        text = f"packets are dropped as {reason} ({DROP_SENTENCES[reason]}), {count} until now"
        if example is not None:
            text += f", e.g. {example.text}: {example.cause}"
        level = logging.INFO if reason in QUIET else logging.WARNING
        self._notices.add(level, text, told("drops", reason=reason, count=count), key=f"drops {reason}")
        self._say(reason, count, text)
