"""How long IKE of ten thousand tunnels takes from one process to another: made in memory, over the real stream, with a data plane
that has their SAs already, as in an upgrade.

    pytest -m "slow and measure" -s tests/unit/test_upgrade_ten_thousand.py
"""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from ipsec_dp.gateway.upgrade.messages import Forwards, GoesOn, heard
from ipsec_dp.gateway.upgrade.stream import HandOverChannel
from ipsec_dp.util.collection import no_collection
from tests.unit.carried_drivers import given, giver

pytestmark = [pytest.mark.slow, pytest.mark.measure]

TUNNELS = 10_000
SECONDS = 10.0  # all of an upgrade, of which this is the most
MS_EACH = 0.65  # processor time of both processes together
PATIENCE_S = 600.0


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("tunnels", [1000, TUNNELS])
def test_ike_of_ten_thousand_tunnels_is_another_process_s_in_seconds(tmp_path, tunnels, record_property):
    ours, theirs = HandOverChannel.pair()
    with theirs:
        command = [sys.executable, "-m", "tests.unit.upgrade_taker", str(theirs.fileno()), str(tunnels), str(tmp_path)]
        there = subprocess.Popen(command, pass_fds=[theirs.fileno()])
    try:
        by = giver(tmp_path, tunnels, tunnels)
        assert ours.wait(PATIENCE_S)
        heard(ours, PATIENCE_S, Forwards)
        began, processor = time.monotonic(), time.process_time()
        with no_collection():
            for kind, body in given(by):
                ours.send(kind, body, seconds=PATIENCE_S)
        exported = time.process_time() - processor
        assert ours.wait(PATIENCE_S)
        goes_on = heard(ours, PATIENCE_S, GoesOn)
        seconds = time.monotonic() - began
    finally:
        ours.close()  # which ends it, wherever it is
        there.wait(PATIENCE_S)
    each = (1000 * exported + goes_on.gap_ms) / tunnels
    figures = (
        f"{tunnels} tunnels: {seconds:.2f} s; processor time {exported:.2f} s to export, {goes_on.gap_ms / 1000:.2f} s to import"
    )
    record_property("figures", f"{figures}, {each:.3f} ms each")
    print(figures, f"{each:.3f} ms each")
    assert (goes_on.ike_sas, goes_on.child_sas, goes_on.left_out) == (tunnels, tunnels, [])
    assert each <= MS_EACH
    assert seconds <= SECONDS
