"""The order of a run of the tunnel benchmark, how long it will take, and two trees beside each other."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from benchmarks import tunnel
from benchmarks.tunnels import compare, iperf, measures, report
from benchmarks.tunnels.compare import CompareError
from benchmarks.tunnels.contenders import CONTENDERS, Contender
from benchmarks.tunnels.measures import PROBES, Effort, probes_for
from benchmarks.tunnels.names import OURS
from benchmarks.tunnels.results import Results
from benchmarks.tunnels.rounds import Forecast, duration, order, plan

NAMED = {contender.name: contender for contender in CONTENDERS}
THEN = f"{OURS}@0123456789"


def nobody(name):
    return Contender(name, start=cast("Any", None), version=lambda: "")


# ---- whose turn it is ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", range(1, 12))
def test_each_begins_in_one_of_as_many_rounds_as_there_are(count):
    rounds = [order(count, number) for number in range(count)]
    assert all(sorted(row) == list(range(count)) for row in rounds)
    assert sorted(row[0] for row in rounds) == list(range(count))


@pytest.mark.parametrize("count", [2, 4, 6, 8, 10])
def test_nobody_always_follows_the_same_one(count):
    follows = [(row[at], row[at + 1]) for row in (order(count, number) for number in range(count)) for at in range(count - 1)]
    assert len(set(follows)) == len(follows) == count * (count - 1)


def test_a_round_has_one_kind_of_tunnel_of_everybody_before_the_next():
    steps = plan([nobody("a"), nobody("b")], PROBES, 2)
    first = [(step.variant.name, step.contender.name) for step in steps if step.number == 1]
    assert first[:4] == [("base", "a"), ("base", "b"), ("default", "a"), ("default", "b")]
    assert [name for name, _ in first][-1] == "matched"  # when everybody's tcp_1 is known
    assert [step.contender.name for step in steps if step.number == 2][:2] == ["b", "a"]


def test_what_a_contender_cannot_do_is_no_step():
    steps = plan([NAMED["strongswan"]], PROBES, 1)
    assert {step.variant.name for step in steps} == {"base", "v6", "aes256", "chacha", "nooffload", "matched"}
    every = {name for probe in PROBES for name in probe.measures}
    assert all(set(contender.cannot) <= every and all(contender.cannot.values()) for contender in CONTENDERS)


def test_latency_beside_the_best_peers_load_needs_that_load():
    assert [probe.measures[0] for probe in probes_for({"rtt_p99_matched"})] == ["tcp_1", "rtt_p50_matched"]
    assert [probe.measures[0] for probe in probes_for({"rtt_p50"})] == ["rtt_p50"]


def test_without_a_peers_load_its_measure_says_so():
    bench = measures.Bench(sites=cast("Any", None), tunnel=cast("Any", None), effort=Effort())
    with pytest.raises(measures.MeasureError, match="no userspace peer's tcp_1 was measured"):
        measures.rtt_matched(bench)


class Host:
    """Echo requests are answered in a millisecond."""

    def run(self, *argv, **_):
        lines = "".join(f"64 bytes: icmp_seq={at} time=1.00 ms\n" for at in range(int(argv[argv.index("-c") + 1])))
        return subprocess.CompletedProcess(argv, 0, lines, "")


@pytest.mark.parametrize("carried", [2.0, 1.7, 1.5])
def test_latency_is_that_of_the_load_or_none(monkeypatch, carried):
    asked = []

    def stream(sites, seconds, *options):
        asked.append(options)
        return carried

    monkeypatch.setattr(iperf, "gbit_s", stream)
    monkeypatch.setattr(measures, "STREAM_STARTS_S", 0)
    sites = cast("Any", SimpleNamespace(host_a=Host()))
    bench = measures.Bench(sites, cast("Any", None), Effort(replies=10), matched_gbit_s=2.0)
    if carried >= 1.6:
        assert measures.rtt_matched(bench) == {"rtt_p50_matched": 1000.0, "rtt_p99_matched": 1000.0}
    else:
        with pytest.raises(measures.MeasureError, match=r"it carries 1\.50 of the 2\.00 Gb/s"):
            measures.rtt_matched(bench)
    assert asked == [("--fq-rate", "2000000000")]
    assert bool(bench.samples) is (carried >= 1.6)


# ---- how long --------------------------------------------------------------------------------------------------------------------


def test_what_is_left_takes_as_long_as_it_took():
    steps = plan([nobody("a"), nobody("b")], probes_for({"tcp_1"}), 2)
    forecast = Forecast(steps, Effort(tcp_s=3.0))
    guess = forecast.seconds() / 4
    assert guess == pytest.approx(6.0)  # a tunnel to be brought up, and the stream
    forecast.done(20.0)  # a, in the first round
    assert forecast.seconds() == pytest.approx(guess + guess + 20.0)
    forecast.done(2.0)
    assert forecast.seconds() == pytest.approx(22.0)
    assert (duration(62.4), duration(125)) == ("62 s", "2 min")


# ---- two trees -------------------------------------------------------------------------------------------------------------------


def test_of_two_trees_the_one_is_first_as_often_as_the_other():
    then, now = nobody(THEN), NAMED[OURS]
    steps = plan([NAMED["plain"], NAMED["openvpn"], then, now], probes_for({"tcp_1", "tcp_1_default"}), 6, pair=(then, now))
    rows = [
        [step.contender.name for step in steps if step.number == number and step.variant.name == "base"] for number in range(1, 7)
    ]
    assert [row[-2:] for row in rows] == [[THEN, OURS], [OURS, THEN]] * 3
    assert all(set(row[:2]) == {"plain", "openvpn"} for row in rows)
    defaults = [step.contender.name for step in steps if step.variant.name == "default"]
    assert defaults == [THEN, OURS, OURS, THEN] * 3


def test_as_many_rounds_begin_with_the_one_as_with_the_other_unless_asked_otherwise():
    assert tunnel.rounds_of(tunnel.arguments(["--compare", "HEAD"])) % 2 == 0
    assert tunnel.rounds_of(tunnel.arguments(["--compare", "HEAD", "--rounds", "3"])) == 3
    assert tunnel.rounds_of(tunnel.arguments([])) == 5
    assert tunnel.rounds_of(tunnel.arguments(["--quick"])) == 1


FIVE = range(1, 6)  # rounds


def of_two(measure, then, now):
    made = Results(compared_with=THEN)
    for name, values in ((THEN, then), (OURS, now)):
        for number, value in values.items():
            made.add(name, {measure: value}, number)
    return made.comparisons()


def test_rounds_are_compared_with_themselves():
    then = dict(zip(FIVE, (4.0, 8.0, 2.0, 4.0, 6.0), strict=True))
    (one,) = of_two("tcp_1", then, {number: 1.25 * value for number, value in then.items()})
    assert (one.ratio, one.lowest, one.highest) == (pytest.approx(1.25),) * 3
    assert (one.then, one.now, one.rounds, one.verdict) == (4.0, 5.0, 5, "better")


def test_above_one_is_better_for_times_too():
    (one,) = of_two("rtt_p50", dict.fromkeys(FIVE, 100.0), {number: 200.0 if number == 1 else 125.0 for number in FIVE})
    assert (one.lowest, one.highest, one.verdict) == (pytest.approx(0.5), pytest.approx(0.8), "worse")


@pytest.mark.parametrize("now", [[4.4, 3.9, 4.4, 4.4, 4.4], [9.0], [9.0] * 4])
def test_a_difference_that_a_round_contradicts_or_that_has_few_rounds_is_none(now):
    (one,) = of_two("tcp_1", dict.fromkeys(FIVE, 4.0), dict(enumerate(now, 1)))
    assert one.verdict == "within the spread"


def test_a_round_that_one_tree_lacks_is_left_out():
    (one,) = of_two("tcp_1", {1: 4.0, 3: 4.0}, {2: 1.0, 3: 6.0})
    assert (one.ratio, one.rounds) == (pytest.approx(1.5), 1)
    assert of_two("tcp_1", {1: 4.0}, {2: 4.0}) == of_two("tcp_1", {1: 0.0}, {1: 4.0}) == []


def test_the_comparison_fits_a_terminal():
    made = Results(compared_with=THEN)
    for number in FIVE:
        made.add(THEN, {"rtt_p99_matched": 20_000.0, "udp_1400_gso": 1e6}, number)
        made.add(OURS, {"rtt_p99_matched": 10_000.0, "udp_1400_gso": 5e5 + 1.25e5 * (number - 1)}, number)
    console = Console(width=80, record=True)
    report.show(console, made)
    table = console.export_text().partition(f"{OURS} beside {THEN}: above 1 it is better now")[2]
    rows = [line.replace("│", " ").split() for line in table.splitlines() if line.startswith(("rtt", "udp"))]
    assert rows == [
        ["rtt_p99_matched", "µs", "20,000", "10,000", "2.00", "2.00–2.00", "better"],
        ["udp_1400_gso", "k", "packets/s", "1,000", "750", "0.75", "0.50–1.00", "–"],
    ]


BUILD = "import pathlib\npathlib.Path('ipsec_dp/_native.py').write_text('age = ' + open('age').read())\n"


@pytest.fixture
def repository(tmp_path):
    """Two commits: of the first, `built` has all that it asks for; the second has no package."""

    def git(*argv):
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b.example", *argv], cwd=tmp_path, check=True, capture_output=True
        )

    (tmp_path / "native").mkdir()
    (tmp_path / "ipsec_dp").mkdir()
    (tmp_path / "native/build_ffi.py").write_text(BUILD)
    (tmp_path / "ipsec_dp/__init__.py").touch()
    (tmp_path / "age").write_text("1")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    git("tag", "first")
    git("rm", "-q", "-r", "ipsec_dp")
    git("commit", "-q", "-m", "second")
    return tmp_path


def test_a_tree_is_built_beside_this_one_and_goes_away(repository):
    with compare.built(compare.full_name("first", repository), repository) as tree:
        assert (tree / "ipsec_dp/_native.py").read_text() == "age = 1"
        assert tree.stat().st_mode & 0o777 == 0o755  # for a gateway that gave root up
        assert f"PYTHONPATH={tree}" in compare.program(tree)
    assert not tree.exists()
    assert not (repository / "ipsec_dp").exists()


def test_a_tree_that_cannot_be_built_or_named_is_told(repository):
    with pytest.raises(CompareError, match="_native"), compare.built("HEAD", repository):
        pass
    with pytest.raises(CompareError, match="nothing"):
        compare.full_name("nothing", repository)


def test_a_tree_that_would_run_this_ones_code_is_refused(repository):
    (repository / "native/build_ffi.py").write_text("")
    subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b.example", "commit", "-qam", "third"], cwd=repository, check=True
    )
    with pytest.raises(CompareError, match="which is not its own"), compare.built("HEAD", repository):
        pass
