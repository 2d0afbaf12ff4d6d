"""What arrives for IKE is the core's, or that of a negotiation on trial, or nobody's."""

from __future__ import annotations

from typing import Any

import pytest

from ipsec_dp.databases.sad_events import IkeDatagram
from ipsec_dp.dataplane import Endpoint
from ipsec_dp.ike.environment import NO_TRACE
from ipsec_dp.keying.receiver import Receiver
from tests.doubles.clock import FakeClock

from .ike_driver_site import LOCAL, Double

END = Endpoint(LOCAL, 4500)


@pytest.mark.parametrize(
    ("on_trial", "refused", "expected"),
    [(True, False, "trial"), (False, False, "core"), (True, True, "nobody"), (False, True, "nobody")],
)
@pytest.mark.parametrize("port", [500, 4500])
def test_whose_a_message_is(on_trial, refused, expected, port):
    core: Any = Double(knows=True)
    trials: Any = Double(knows=on_trial)
    clock: Any = FakeClock()
    receiver = Receiver(core, trials, clock, NO_TRACE, refuses=lambda _: refused, carry_out=lambda _: None)
    if port == 500:
        receiver.received(b"message", END, END)
    else:
        receiver.datagram(IkeDatagram(0, END, END, b"message"))
    heard = {"trial": trials.of("receive"), "core": core.of("receive")}
    assert {who for who, calls in heard.items() if calls} == {expected} - {"nobody"}
    assert all(call[2].natt == (port == 4500) for calls in heard.values() for call in calls)
