"""Which keys may reach swap, and what helps: in the words of `status`, the log and `doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ipsec_dp.util.conditions import Conditions

SOURCE: Final = "memory"  # of conditions
SWAPS: Final = Path("/proc/swaps")
IKES: Final = "IKE's keys and secrets may reach swap"
ALL: Final = "keys may reach swap, those of the data plane too"
REMEDY: Final = "LimitMEMLOCK=infinity in the service unit, --ulimit memlock=-1 for a container, or ulimit -l unlimited"


def has_swap(swaps: str) -> bool:
    """`swaps`: what /proc/swaps says, a heading and a line for each. Nothing, where it cannot be read: there may be some."""
    return len(swaps.splitlines()) != 1


def tell(conditions: Conditions, *, locked: bool, swaps: Path = SWAPS) -> None:
    """`locked`: whether all memory of this process is, from now on."""
    text = f"{IKES}: this process may not lock all of its memory; {REMEDY}"
    conditions.become(SOURCE, {} if locked or not has_swap(_read(swaps)) else {"ike": text})


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
