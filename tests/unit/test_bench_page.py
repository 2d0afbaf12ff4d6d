"""The page that a run of the tunnel benchmark leaves: its figures are those of the JSON, and it needs nothing else."""

from __future__ import annotations

import json
import random
import re
from html.parser import HTMLParser

import pytest

from benchmarks.tunnels import page, plots, report, results
from benchmarks.tunnels.names import MEASURES, OURS, PLAIN

VOID_TAGS = {"meta", "link", "img", "br", "input"}
LOADS = {"src", "href", "xlink:href", "data", "srcset", "action"}


class Read(HTMLParser):
    """Figures in the cells, texts by where they stand, whatever names a resource, and whether every element is closed."""

    def __init__(self, text):
        super().__init__()
        self.figures, self.texts, self.outside, self.open, self.inside = {}, {}, [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        if "data-value" in named:
            self.figures[named["data-measure"], named["data-contender"]] = float(named["data-value"])
        self.outside += [value for name, value in attributes if name in LOADS and not value.startswith("#")]
        self.outside += [tag] if tag in {"script", "link", "iframe", "img"} else []
        if tag not in VOID_TAGS:
            self.open.append((tag, named.get("id")))

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID_TAGS:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for tag, name in self.open:
            self.texts.setdefault(name or tag, []).append(data)

    def text(self, place):
        return " ".join(" ".join(self.texts.get(place, [])).split())


def measured():
    """Two rounds of every measure, single round trips, a missing figure and a void round."""
    made = results.Results(commit="0123456789abcdef", started="2030-01-02T03:04:05+00:00")
    numbers = random.Random(1)
    for number in (1, 2):
        for measure in MEASURES:
            for name in (PLAIN, OURS, "strongswan"):
                if name != PLAIN or not measure.startswith("rss"):
                    made.add(name, {measure: numbers.uniform(10, 2000)}, number, None if name == PLAIN else 0.6 + number / 10)
        made.add_samples(OURS, {"rtt_p99": [numbers.uniform(50, 900) for _ in range(100)]})
    made.lacks(PLAIN, ("rss_idle_mb",), "no process <of its own>")
    made.environment["flags"] = ["avx2", "vaes"]
    made.environment["route"] = "default via 10.1.0.1 dev eth0 congctl cubic"
    return made


@pytest.fixture
def run():
    return measured()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Page and JSON of such a run."""
    directory, run = tmp_path_factory.mktemp("run"), measured()
    run.write(directory / "tunnel.json")
    page.write(run, plots.draw(run, directory, ("svg",)), directory / "tunnel.html")
    return (directory / "tunnel.html").read_text(), json.loads((directory / "tunnel.json").read_text())


def test_its_figures_are_those_of_the_json(made):
    text, answer = made
    read = Read(text)
    assert read.figures == {(measure, name): value for measure, row in answer["medians"].items() for name, value in row.items()}
    assert len(read.figures) > 60
    shown = re.findall(r'data-measure="(\w+)" data-contender="([\w-]+)" data-value="[^"]*">([\d,.]+)', text)
    assert all(number == report.shown(measure, answer["medians"][measure][name]) for measure, name, number in shown)
    assert len(shown) == len(read.figures)
    assert all(report.figure(bar[side]) in read.text("bars") for bar in answer["bars"] for side in ("measured", "needed"))


def test_the_numbers_on_its_bars_are_those_of_the_json(made):
    text, answer = made
    drawn = Read(text).text("svg")
    for measure in ("tcp_1", "tcp_1_vxlan", "udp_quic", "rtt_p99_matched", "cpu_s_per_gb"):
        for value in answer["medians"][measure].values():
            assert report.shown(measure, value) in drawn


def test_it_needs_nothing_from_elsewhere(made):
    read = Read(made[0])
    assert read.open == []
    assert read.outside == []
    assert re.findall(r"@import|url\((?!#)", made[0]) == []
    assert set(re.findall(r"https?://[^\"'\s<]+", made[0])) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_it_is_readable_in_light_and_dark(made):
    text, _ = made
    assert "prefers-color-scheme: dark" in text
    assert '<meta name="color-scheme" content="light dark">' in text
    drawn = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert not re.search(r"#ffffff|(stroke|fill): #000000|#30363d", drawn)  # white on white, black on black
    assert drawn.count("<svg") == 10


def test_it_says_what_was_measured_on_what(made):
    read = Read(made[0])
    machine = read.text("machine")
    assert all(text in machine for text in ("0123456789abcdef", "2030-01-02", "avx2 vaes", "congctl cubic", "cubic"))
    assert "plain, rss_idle_mb : no process <of its own>" in read.text("absent").replace("rss_idle_mb:", "rss_idle_mb :")


def test_a_void_run_and_one_that_was_interrupted_say_so_first(run, made, tmp_path):
    assert 'class="told"' not in made[0]
    run.cores["strongswan"] = [0.1, 0.2]
    run.interrupted = True
    run.failures.append("round 2, openvpn, base: <nothing> passes")
    page.write(run, [], tmp_path / "void.html")
    text = (tmp_path / "void.html").read_text()
    assert "This run is void: strongswan used a median of 0.15 of a core" in text
    assert "This run was interrupted." in text
    assert "&lt;nothing&gt; passes" in text
    assert text.index('class="told"') < text.index("The machine")


def test_two_trees_have_a_table_of_their_own(run, tmp_path):
    run.compared_with = "ipsec-dp@0123456789"
    for number, value in ((1, 1.0), (2, 2.0)):
        run.add(run.compared_with, {"tcp_1": value}, number)
    page.write(run, [], tmp_path / "compared.html")
    (one,) = run.comparisons()
    assert f"{one.ratio:.2f}" in Read((tmp_path / "compared.html").read_text()).text("compared")
