"""[log]: how the log is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ipsec_dp.config import model, tables
from ipsec_dp.config.read import read_table

if TYPE_CHECKING:
    from ipsec_dp.config.findings import Findings


def resolve_log(document: dict[str, Any], findings: Findings) -> model.LogOutput:
    """As the table says; without one, or where it cannot be read, as ever."""
    table = read_table(tables.Log, document.get("log", {}), findings.at("log")) or tables.Log()
    return model.LogOutput(form=table.format, level=table.level)
