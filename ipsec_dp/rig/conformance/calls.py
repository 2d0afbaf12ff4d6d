"""What a case has to work with where the gateway under test calls: one call for each case, and a control that is one more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.ike.v2.wire import ExchangeType
from ipsec_dp.rig.conformance.kit import CaseFailedError, Kit, demand, farewell
from ipsec_dp.rig.odd_responder import OddResponder, rightly_called

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipsec_dp.rig.odd_answers import Answering
    from ipsec_dp.rig.odd_parts import Agreed
    from ipsec_dp.rig.odd_wire import OddWire

CASE_S = 20.0  # beyond the wait for a call
PATIENCE_S = 3.0  # for what must not come


class CallKit(Kit):
    """`call` has the gateway call, or does nothing where it does so by itself; `wait`: seconds until it has."""

    def __init__(
        self,
        agreed: Agreed,
        wire: OddWire,
        call: Callable[[], None] = lambda: None,
        *,
        wait: float = 60.0,
        patience: float = PATIENCE_S,
    ) -> None:
        super().__init__(agreed, wire, case_seconds=2 * wait + CASE_S)
        self.wait, self.patience, self._call = wait, patience, call
        self._called: list[OddResponder] = []

    def called(self, answering: Answering) -> OddResponder:
        """Who will be called, and answers so. What is still under way to an older one is not for it."""
        while self.wire.receive(0) is not None:
            pass
        peer = OddResponder(self.agreed, self.wire)
        peer.answering = answering
        self._called.append(peer)
        self._call()
        return peer

    def up(self, answering: Answering) -> OddResponder:  # type: ignore[override]
        """A call that came up, with a CHILD_SA. CaseFailedError: none did."""
        peer = self.called(answering)
        if not peer.await_call(self.wait):
            raise CaseFailedError("its call comes to no IKE_AUTH that holds" if peer.calls else "it does not call")
        demand(peer.children, "its IKE_AUTH asks for no CHILD_SA that it may have")
        demand(peer.ask(ExchangeType.INFORMATIONAL) is not None, "its IKE SA does not come up: it answers no request")
        return peer

    def control(self) -> bool:
        """Whether a right call comes up."""
        try:
            self.up(rightly_called)
        except CaseFailedError:
            return False
        self.close()
        return True

    def close(self) -> None:
        """Deletes the IKE SAs that cases have left."""
        for peer in self._called:
            if peer.authentic and not peer.gone:
                farewell(peer)
        self._called.clear()
