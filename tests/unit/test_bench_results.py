"""benchmarks/results/tunnel.json, the command line, the parsers of other programs' output, and the plots."""

from __future__ import annotations

import json
import os
import random
import signal

import pytest
from rich.console import Console

from benchmarks import tunnel
from benchmarks.tunnels import measures, offloads, plots, report, results
from benchmarks.tunnels.contenders import CONTENDERS
from benchmarks.tunnels.names import MEASURES, OURS, PLAIN, QUICK
from ipsec_dp.bench.statistics import times_us
from ipsec_dp.bench.wire import busy_of


@pytest.fixture
def run():
    """Two rounds of three contenders, every measure."""
    made = results.Results(commit="0123456789abcdef-dirty")
    numbers = random.Random(1)
    for _ in range(2):
        for measure in MEASURES:
            for name in (PLAIN, OURS, "strongswan"):
                if name != PLAIN or not measure.startswith("rss"):
                    made.add(name, {measure: numbers.uniform(10, 20) + (10 if name == "strongswan" else 0)})
    return made


def test_the_file_has_what_readers_rely_on(run, tmp_path):
    run.write(tmp_path / "results" / "tunnel.json")
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["tunnel.json"]
    found = json.loads((tmp_path / "results" / "tunnel.json").read_text())
    assert list(found) == [
        *("started", "commit", "environment", "rounds", "medians", "spread", "ratios"),
        *("taken", "cores", "void", "bars", "absent", "failures", "matched_gbit_s", "interrupted", "compared_with", "compare"),
    ]
    assert len(found["rounds"]["tcp_1"][OURS]) == 2
    assert set(found["medians"]) == set(MEASURES)
    assert found["ratios"]["tcp_1"]["strongswan"] == pytest.approx(
        found["medians"]["tcp_1"][OURS] / found["medians"]["tcp_1"]["strongswan"]
    )
    assert {"kernel", "processor", "cores", "congestion_control", "outer_mtu", "flags", "default_congestion_control"} <= set(
        found["environment"]
    )


def test_what_was_written_is_read_again(run, tmp_path):
    run.add_samples(OURS, {"rtt_p99": [51.5, 60.0]})
    run.lacks(PLAIN, ("tcp_1_esp",), "there is no tunnel")
    run.write(tmp_path / "tunnel.json")
    assert json.loads((tmp_path / "tunnel-samples.json").read_text()) == {"rtt_p99": {OURS: [[51.5, 60.0]]}}
    assert results.read(tmp_path / "tunnel.json") == run


def test_an_older_file_is_read_too(run, tmp_path):
    older = {name: value for name, value in run.as_json().items() if name in ("started", "commit", "environment", "rounds")}
    (tmp_path / "tunnel.json").write_text(json.dumps(older))
    found = results.read(tmp_path / "tunnel.json")
    assert found.rounds == run.rounds
    assert found.as_json()["void"]["reasons"] == ["strongswan: what its processes used was not measured"]


def test_the_plain_paths_cpu_time_is_taken_off_the_others():
    made = results.Results()
    for name, values in {PLAIN: [1.0, 1.2, 1.1], OURS: [3.1, 3.0, 3.2], "openvpn": [21.1, 21.1, 21.1]}.items():
        for value in values:
            made.add(name, {"cpu_s_per_gb": value})
    assert made.medians()["cpu_s_per_gb"] == {OURS: pytest.approx(2.0), "openvpn": pytest.approx(20.0)}
    assert made.as_json()["ratios"]["cpu_s_per_gb"] == {"openvpn": pytest.approx(10.0)}


def test_what_one_round_found_guides_the_next(run):
    assert run.earlier(OURS)["udp_64"] == run.rounds["udp_64"][OURS][-1]
    assert run.earlier("openvpn") == {}


def test_every_table_and_every_plot_is_made(run, tmp_path):
    console = Console(width=160, record=True)
    report.show(console, run)
    text = console.export_text()
    assert all(name in text for name in MEASURES)
    assert "strongswan" in text
    assert "best peer (strongswan)" in text
    files = plots.draw(run, tmp_path)
    assert {file.suffix for file in files} == {".png", ".svg"}
    assert {file.stem for file in files} == {
        "tunnel-tcp",
        "tunnel-kinds",
        "tunnel-sizes",
        "tunnel-udp",
        "tunnel-udp-gso",
        "tunnel-rtt",
        "tunnel-cost",
        "tunnel-memory",
        "tunnel-ratios",
    }
    assert all(file.stat().st_size > (10_000 if file.suffix == ".png" else 3_000) for file in files)


def test_a_narrow_terminal_gets_several_tables_with_ours_in_each(run):
    run.lacks("strongswan", ("tcp_1_esp",), "its userspace ESP is in UDP only")
    for name in ("wireguard-go", "openvpn", "kernel-esp"):
        run.add(name, {"tcp_1": 1.0}, cores=0.5)
    console = Console(width=80, record=True)
    report.show(console, run)
    text = console.export_text()
    assert all(len(line.rstrip()) <= 80 for line in text.splitlines())
    assert len([line for line in text.splitlines() if line.startswith("measure") and "unit" in line and OURS in line]) > 1
    assert "– strongswan, tcp_1_esp: its userspace ESP is in UDP only" in text
    assert all(name in text for name in ("wireguard-go", "openvpn", "kernel-esp", "used in tcp_1"))


def test_only_who_has_a_void_round_is_marked(run):
    for name, cores in (("wireguard-go-13", 0.5), ("openvpn", 1.2)):
        run.add(name, {"tcp_1": 1.0}, cores=cores)
    console = Console(width=160, record=True)
    report.show(console, run)
    (void,) = (line for line in console.export_text().splitlines() if line.startswith("void"))
    assert void.replace("│", " ").split() == ["void", "rounds", "1,", "2", "1"]  # of strongswan nothing is known


def test_a_quick_run_has_plots_of_what_it_measured_only(tmp_path):
    made = results.Results()
    made.add(OURS, dict.fromkeys(QUICK, 1.0))
    made.add(PLAIN, dict.fromkeys(QUICK, 2.0))
    assert {file.stem for file in plots.draw(made, tmp_path)} == {"tunnel-tcp", "tunnel-udp", "tunnel-rtt", "tunnel-ratios"}


def test_an_earlier_runs_results_are_removed_before_a_new_one(tmp_path):
    for name in ("tunnel.json", "tunnel-tcp.png", "bench.json"):
        (tmp_path / name).write_text("old")
    assert tunnel.empty(tmp_path) == tmp_path / "tunnel.json"
    assert [path.name for path in tmp_path.iterdir()] == ["bench.json"]


@pytest.mark.parametrize("argv", [("--compare", "no-such-commit"), ("--contender", "wireguard-go-2025")])
def test_a_run_that_cannot_begin_leaves_them(tmp_path, monkeypatch, argv):
    (tmp_path / "tunnel.json").write_text("old")
    monkeypatch.setenv("PATH", os.defpath)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.chdir(tmp_path)  # which it leaves
    assert tunnel.main([*argv, "--output", str(tmp_path)]) == tunnel.FAILED
    assert (tmp_path / "tunnel.json").read_text() == "old"


def test_every_measure_has_one_probe():
    assert sorted(name for probe in measures.PROBES for name in probe.measures) == sorted(MEASURES)


def test_the_required_contenders_are_measured_even_if_they_are_missing_here(monkeypatch):
    monkeypatch.setenv("PATH", "")
    names = [contender.name for contender in tunnel.chosen(None)]
    assert set(names) >= {"plain", "ceiling", "ipsec-dp", "strongswan", "wireguard-go", "wireguard-go-13", "openvpn"}
    assert "wireguard-go-2025" not in names
    assert [contender.name for contender in tunnel.chosen(["openvpn"])] == ["openvpn"]


@pytest.mark.parametrize("wrong", [["--contender", "ipsec"], ["--measure", "tcp"], ["--rounds", "0"]])
def test_names_that_do_not_exist_are_a_usage_error(wrong):
    with pytest.raises(SystemExit) as stop:
        tunnel.arguments(wrong)
    assert stop.value.code == 2


def test_contenders_have_the_names_of_the_results_file():
    assert [contender.name for contender in CONTENDERS] == (
        "plain ceiling ipsec-dp strongswan wireguard-go wireguard-go-13 openvpn wireguard-go-2025 kernel-esp kernel-wireguard"
    ).split()


PING = """PING 10.2.0.2 (10.2.0.2) 56(84) bytes of data.
64 bytes from 10.2.0.2: icmp_seq=1 ttl=62 time=0.068 ms
64 bytes from 10.2.0.2: icmp_seq=2 ttl=62 time=12.3 ms
--- 10.2.0.2 ping statistics ---
2 packets transmitted, 2 received, 0% packet loss, time 2ms
"""


def test_the_times_in_what_ping_prints():
    assert times_us(PING) == pytest.approx([68.0, 12_300.0])


def test_busy_time_counts_neither_idling_nor_waiting():
    assert busy_of("cpu  100 20 300 9999 8888 7 3 5 0 0\ncpu0 1 2 3\n") == pytest.approx(4.30)


def test_offloads_that_are_on_and_can_be_switched():
    listing = (
        "rx-checksumming: on\ntx-checksumming: on [fixed]\ntcp-segmentation-offload: on\n\ttx-udp-segmentation: on\nhighdma: on\n"
    )
    assert offloads.switched_on(listing) == ["rx-checksumming", "tcp-segmentation-offload", "tx-udp-segmentation"]
