"""Rekeys each second with strongSwan under a numbered stream: nothing is lost by us, and what is missing was lost in the peer.

The bar, on a machine with nothing else to do (three of three, CHILD and IKE SA, both directions; prints a table):

    IPSEC_DP_BAR_MBIT=200 python -m pytest -m slow -s tests/interop/test_rekey_bar.py

Those of IKEv1 alone, of which only what we lose is judged: the same with `-k ikev1`.

IPSEC_DP_BAR_MBIT is the stream's rate, 200 if not given; it must be at most half of what the peer carries without loss, which is
measured first. strongSwan's userspace ESP is given its own limits out of the way: with `rekey_time` alone it would end SAs instead.
"""

from __future__ import annotations

import os

import pytest

from benchmarks.tunnels import generator
from tests.interop import rekey_bar
from tests.interop.ikev1_meeting import AGREED
from tests.interop.rekey_bar import DIRECTIONS, FOUND, OCTETS
from tests.interop.strongswan_versions import VERSIONS, usr_of

pytestmark = [pytest.mark.root, pytest.mark.timeout(240)]

BAR_MBIT = float(os.environ.get("IPSEC_DP_BAR_MBIT", "200"))
BAR_REKEYS, BAR_SECONDS = 20, 28.0
SHORT_RATE, SHORT_REKEYS, SHORT_SECONDS = 500.0, 3, 6.0
MEASURE_S = 1.0
SOON = 'rekey_after = "1s"\nlifetime = "4s"'  # ours after 1.00 to 1.15 s
KINDS = {
    # what is replaced: our lines, and by what our log tells it
    "CHILD_SA": ({"our_esp": SOON}, "CHILD_SA rekeyed ["),
    "IKE SA": ({"our_ike": SOON}, "IKE SA rekeyed ["),
}
# Ten in a row where nobody has configured a proposal, by either side: what is configured besides, and by what our log tells it.
BY_EITHER = {
    ("we", "CHILD_SA"): KINDS["CHILD_SA"],
    ("we", "IKE SA"): KINDS["IKE SA"],
    ("they", "CHILD_SA"): ({"their_child": "rekey_time = 1s\n life_time = 10s\n rand_time = 0"}, "CHILD_SA rekeyed ["),
    ("they", "IKE SA"): ({"their_connection": "rekey_time = 1s\n over_time = 10s\n rand_time = 0"}, "IKE SA rekeyed ["),
}
TEN, TEN_SECONDS = 10, 16.0
# By IKEv1: who renews which phase.
BY_IKEV1 = {
    "phase 2 by us": ({"our_esp": SOON}, "CHILD_SA rekeyed ["),
    "phase 2 by them": ({"their_child": "rekey_time = 1s\n life_time = 10s\n rand_time = 0"}, "CHILD_SA rekeyed ["),
    "phase 1 by us": ({"our_ike": SOON}, "IKE SA rekeyed ["),
}


@pytest.fixture(scope="module", autouse=True)
def program():
    generator.build()


@pytest.fixture(scope="module")
def table():
    """One row for each run, shown at the end."""
    rows: list[str] = []
    yield rows
    print("\n" + "\n".join(rows))


def rekeyed(meet, configured, told, **more):
    """A meeting that rekeys each second, whose captures show every packet by itself."""
    meeting = meet(**configured, **more)
    for gateway in (meeting.sites.gw_a, meeting.sites.gw_b):
        gateway.run("ethtool", "-K", "wan", "tx-udp-segmentation", "off")
    meeting.bring_up("we")
    return meeting, told


def crossed(meeting, told, direction, rate, seconds, directory):
    """The crossing, how many rekeys there were meanwhile, and what we dropped for reasons that must not occur."""
    before = meeting.ours.text().count(told)
    crossing = rekey_bar.cross(meeting, direction, rate, seconds, directory)
    rekeys = meeting.ours.text().count(told) - before
    drops = meeting.ours.status()["drops"]
    return crossing, rekeys, {reason: drops[reason] for reason in FOUND}


def lost_nothing(crossing, found, logs):
    assert crossing.uncaptured == 0, f"{crossing}: the captures are not whole; nothing is shown"
    assert found == dict.fromkeys(FOUND, 0), logs
    assert (crossing.steps["us"], crossing.steps["wire"], crossing.duplicates) == (0, 0, 0), f"{crossing}\n{logs}"
    assert crossing.missing == crossing.steps["peer"]


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_few_rekeys_under_a_slow_stream(meet, tmp_path, kind, direction):
    meeting, told = rekeyed(meet, *KINDS[kind])
    crossing, rekeys, found = crossed(meeting, told, direction, SHORT_RATE, SHORT_SECONDS, tmp_path)
    lost_nothing(crossing, found, meeting.both_logs())
    assert rekeys >= SHORT_REKEYS
    assert crossing.received > crossing.sent / 2


@pytest.mark.slow
@pytest.mark.measure
@pytest.mark.parametrize("run", [1, 2, 3])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_twenty_rekeys_under_a_fast_stream(meet, tmp_path, table, record_property, kind, direction, run):
    meeting, told = rekeyed(meet, *KINDS[kind])
    free = rekey_bar.loss_free_rate(meeting, MEASURE_S) * OCTETS * 8 / 1e6
    assert free >= 2 * BAR_MBIT, (
        f"the peer carries {free:.0f} Mb/s without loss, not {2 * BAR_MBIT:.0f}: a quieter machine, or a lower IPSEC_DP_BAR_MBIT"
    )
    rate = BAR_MBIT * 1e6 / 8 / OCTETS * 1.01
    crossing, rekeys, found = crossed(meeting, told, direction, rate, BAR_SECONDS, tmp_path)
    row = (
        f"{kind:8} {direction:13} run {run}: {rekeys} rekeys, {crossing.mbit_per_s:.0f} Mb/s (peer loss-free at {free:.0f}), "
        f"sent {crossing.sent}, at our end {crossing.ours}, at the peer's {crossing.theirs}, received {crossing.received}; "
        f"missing {crossing.missing}: lost in {crossing.steps}; ours {found}"
    )
    table.append(row)
    record_property("figures", row)
    lost_nothing(crossing, found, meeting.both_logs())
    assert rekeys >= BAR_REKEYS
    assert crossing.mbit_per_s >= BAR_MBIT


@pytest.mark.slow
@pytest.mark.measure
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("who", BY_IKEV1)
def test_twenty_renewals_by_ikev1(meet, tmp_path, table, record_property, who, direction):
    configured, told = BY_IKEV1[who]
    meeting, told = rekeyed(meet, AGREED | configured, told)
    rate = BAR_MBIT * 1e6 / 8 / OCTETS * 1.01
    crossing, rekeys, found = crossed(meeting, told, direction, rate, BAR_SECONDS, tmp_path)
    row = (
        f"IKEv1, {who:15} {direction:13}: {rekeys} renewals, {crossing.mbit_per_s:.0f} Mb/s, "
        f"sent {crossing.sent}, received {crossing.received}; missing {crossing.missing}: lost in {crossing.steps}; ours {found}"
    )
    table.append(row)
    record_property("figures", row)
    lost_nothing(crossing, found, meeting.both_logs())
    assert rekeys >= BAR_REKEYS
    assert crossing.mbit_per_s >= BAR_MBIT


@pytest.mark.slow
@pytest.mark.measure
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("who", BY_EITHER, ids=" ".join)
@pytest.mark.parametrize("version", VERSIONS)
def test_ten_rekeys_on_everybody_s_defaults(meet, tmp_path, table, record_property, version, who, direction):
    meeting, told = rekeyed(meet, *BY_EITHER[who], ike=None, esp=None, usr=usr_of(version))
    rate = BAR_MBIT * 1e6 / 8 / OCTETS * 1.01
    crossing, rekeys, found = crossed(meeting, told, direction, rate, TEN_SECONDS, tmp_path)
    row = (
        f"strongSwan {version}, {' '.join(who):13} {direction:13}: {rekeys} rekeys, {crossing.mbit_per_s:.0f} Mb/s, "
        f"sent {crossing.sent}, received {crossing.received}; missing {crossing.missing}: lost in {crossing.steps}; ours {found}"
    )
    table.append(row)
    record_property("figures", row)
    lost_nothing(crossing, found, meeting.both_logs())
    assert rekeys >= TEN
    assert crossing.mbit_per_s >= BAR_MBIT
