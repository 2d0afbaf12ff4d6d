"""The packets that zone rules with `log` match, in the gateway's own log."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ipsec_dp.host import zones
from ipsec_dp.ipsec.packet import selectors_of_packet
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from ipsec_dp.config import Config
    from ipsec_dp.host.nflog import Line
    from ipsec_dp.network.host import Closable, HostReports

log = logging.getLogger(__name__)


class ZoneLog:
    """A service: listens while a rule of the configuration is to be logged."""

    name = "zone log"

    def __init__(self, reports: HostReports) -> None:
        self._reports = reports
        self._reader: Closable | None = None
        self._config: Config | None = None

    async def apply(self, config: Config) -> None:
        """Raises HostError when another program has the log group."""
        self._config = config
        wanted = any(rule.log for rule in config.zone_rules)
        if wanted and self._reader is None:
            self._reader = self._reports.zone_log(zones.log_group(config.name), self._log)
        elif not wanted:
            await self.close()

    async def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _log(self, line: Line) -> None:
        number = int(line.prefix.removeprefix(zones.LOG_PREFIX))
        rules = () if self._config is None else self._config.zone_rules
        if 1 <= number <= len(rules):
            rule = rules[number - 1]
            verb = "allows" if rule.allow else "denies"
            log.info(
                '%s %s from "%s" to "%s": %s',
                line.prefix,
                verb,
                rule.from_zone,
                rule.to_zone,
                describe(line.packet),
                extra=told("zone_packet", rule=number, verb=verb),
            )


def describe(packet: bytes) -> str:
    """Source and destination of a packet as a person reads them: "10.1.0.2 -> 10.2.0.2 [17/53-…]"."""
    pair = selectors_of_packet(packet)
    return "a packet of no IP version" if pair is None else f"{pair.local_text} -> {pair.remote_text}"
