"""CHILD_SAs that the IKE core has made and this host cannot: what is left of them in the same list of actions is passed over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipsec_dp.ike.actions import InstallInbound, InstallOutbound, Kind, Report, SwitchOutbound

if TYPE_CHECKING:
    from ipsec_dp.ike.actions import Action

_MADE: Final = frozenset({Kind.CHILD_UP, Kind.CHILD_REKEYED})


class Unmade:
    """Of one list."""

    def __init__(self) -> None:
        self._numbers: set[int] = set()

    def add(self, number: int) -> None:
        """An action about it failed."""
        self._numbers.add(number)

    def passes_over(self, action: Action) -> bool:
        """True when there is nothing that it could be about; keys of its are wiped then."""
        match action:
            case InstallInbound() | InstallOutbound() if action.child in self._numbers:
                action.keymat[:] = bytes(len(action.keymat))
                return True
            case SwitchOutbound():
                return action.child in self._numbers
            case Report():
                event = action.event
                return (event.kind in _MADE and event.child in self._numbers) or (event.kind is Kind.WHOLE and bool(self._numbers))
        return False
