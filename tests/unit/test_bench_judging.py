"""Whether a peer of the tunnel benchmark worked as hard as it could: what its processes used, and which rounds are void."""

from __future__ import annotations

from typing import Any, cast

import pytest

from benchmarks.tunnels import iperf, judging, measures, processor
from benchmarks.tunnels.judging import judge, sound_rounds, void_reasons
from benchmarks.tunnels.names import OURS, PLAIN
from benchmarks.tunnels.results import Results
from ipsec_dp.rig.peers import PeerError

SECOND = processor.TICKS


@pytest.fixture
def proc(tmp_path):
    """A /proc: 10 started 11, which started 12; 13 is another's."""

    def process(pid: int, parent: int, user: int, system: int, waited_for: int = 0, name: str = "peer") -> None:
        (tmp_path / str(pid)).mkdir(exist_ok=True)
        spent = f"{user * SECOND} {system * SECOND} {waited_for * SECOND} 0"
        (tmp_path / str(pid) / "stat").write_text(
            f"{pid} ({name}) S {parent} {pid} {pid} 0 -1 4194560 9 9 9 9 {spent} 20 0 8 0 77\n"
        )

    process(10, 1, user=2, system=3, waited_for=4, name="odd) S 13 (name")
    process(11, 10, user=1, system=0)
    process(12, 11, user=0, system=1)
    process(13, 1, user=100, system=100)
    (tmp_path / "self").mkdir()
    (tmp_path / "14").mkdir()  # it ended while we looked
    return tmp_path


def test_what_processes_used_counts_all_that_they_started_in_every_thread(proc):
    assert processor.seconds_of([10], proc) == pytest.approx(2 + 3 + 4 + 1 + 1)
    assert processor.seconds_of([11], proc) == pytest.approx(2)
    assert processor.seconds_of([10, 13], proc) == pytest.approx(11 + 200)


def test_a_process_that_has_ended_is_told(proc):
    with pytest.raises(PeerError, match="process 14 has ended"):
        processor.seconds_of([10, 14], proc)


class Busy:
    """A tunnel whose processes have used so many seconds when asked."""

    def __init__(self, *seconds):
        self.seconds = list(seconds)

    def processor_seconds(self):
        return self.seconds.pop(0) if self.seconds else None


@pytest.mark.parametrize(("seconds", "cores"), [((10.0, 12.4), 0.8), ((), None)])
def test_cores_are_of_the_time_that_the_stream_took(monkeypatch, seconds, cores):
    monkeypatch.setattr(iperf, "gbit_s", lambda *_, **__: 5.0)
    bench = measures.Bench(sites=cast("Any", None), tunnel=cast("Any", Busy(*seconds)), effort=measures.Effort(tcp_s=3.0))
    assert measures.tcp_1(bench) == {"tcp_1": 5.0}
    assert bench.cores == (pytest.approx(cores) if cores else None)


def judged(cores, values=None):
    return judge({"tcp_1": {"openvpn": values or [0.3] * len(cores)}}, {"openvpn": cores})


@pytest.mark.parametrize(("cores", "void"), [(0.699, True), (0.7, False), (1.9, False), (None, True)])
def test_a_peer_that_used_less_than_seven_tenths_of_a_core_was_not_measured(cores, void):
    (one,) = judged([cores])
    assert one.void == ((0,) if void else ())
    assert bool(void_reasons([one])) is void


def test_how_little_a_peer_carries_voids_nothing():
    rounds = {"tcp_1": {PLAIN: [69.0], OURS: [10.0], "strongswan": [0.01]}}
    cores: dict[str, list[float | None]] = {PLAIN: [None], OURS: [0.2], "strongswan": [0.9]}
    assert void_reasons(judge(rounds, cores)) == []


def test_only_userspace_peers_are_judged():
    rounds = {"tcp_1": {PLAIN: [69.0], OURS: [10.0], "kernel-esp": [6.0], "wireguard-go-13": [2.0]}}
    cores: dict[str, list[float | None]] = {PLAIN: [None], OURS: [0.2], "kernel-esp": [None], "wireguard-go-13": [0.1]}
    assert [one.peer for one in judge(rounds, cores)] == ["wireguard-go-13"]


def test_void_rounds_are_left_out_and_void_the_run_when_they_are_not_the_fewer():
    few = judged([1.5, 0.2, 1.6], [0.5, 0.1, 0.7])
    assert void_reasons(few) == []
    assert sound_rounds({"tcp_1": {"openvpn": [0.5, 0.1, 0.7]}}, few) == {"tcp_1": {"openvpn": [0.5, 0.7]}}
    half = judged([1.5, 0.2])
    assert void_reasons(half) == [
        "openvpn used 0.20 of a core in 1 of 2 rounds of tcp_1, less than 0.7: it did not work as hard as it can"
    ]
    every = judged([0.1, 0.3], [0.1, 0.2])
    assert "a median of 0.20 of a core in 2 of 2 rounds" in void_reasons(every)[0]
    assert sound_rounds({"tcp_1": {"openvpn": [0.1, 0.2]}}, every) == {"tcp_1": {"openvpn": [0.1, 0.2]}}


def test_what_is_not_known_is_not_taken_for_work():
    assert void_reasons(judge({"tcp_1": {"openvpn": [0.3]}}, {})) == ["openvpn: what its processes used was not measured"]


def test_a_hobbled_round_flatters_nobody_in_the_results():
    made = Results()
    for number, (own, peer, cores) in enumerate([(8.0, 0.5, 1.4), (8.0, 0.1, 0.3), (8.0, 0.6, 1.5)], 1):
        made.add(OURS, {"tcp_1": own}, number, 1.2)
        made.add("strongswan", {"tcp_1": peer}, number, cores)
    answer = made.as_json()
    assert answer["medians"]["tcp_1"]["strongswan"] == pytest.approx(0.55)
    assert answer["rounds"]["tcp_1"]["strongswan"] == [0.5, 0.1, 0.6]
    assert answer["void"] == {"reasons": [], "rounds": {"strongswan": [2]}}
    assert made.best_peer_gbit_s() == pytest.approx(0.55)


def test_the_needed_share_is_that_of_the_readme():
    assert judging.CORES_NEEDED == 0.7
