"""Plots of one run, as PNG and SVG: how fast, how prompt, how much better. Bars are medians, lines on them the range of rounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("Agg")  # no display is needed, nor looked for

import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks.tunnels.names import CEILING, MEASURES, OURS, PLAIN, WIREGUARD_13
from benchmarks.tunnels.report import figure as number

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from benchmarks.tunnels.results import Results

# Ours stands out; the path without a tunnel and the ceiling are background.
COLOURS = {
    OURS: "#0b6e4f",
    PLAIN: "#b8bec6",
    CEILING: "#8fd0b5",
    "strongswan": "#c8553d",
    "wireguard-go": "#e09f3e",
    "openvpn": "#7a5c99",
    WIREGUARD_13: "#d4b72c",
    "wireguard-go-2025": "#b57b1d",
    "openconnect": "#4f7cac",
    "kernel-esp": "#6b7280",
    "kernel-wireguard": "#9aa1ac",
}
CURVE_POINTS = 400
CROWDED = 1000  # largest ratio ÷ smallest, from where an axis shows fewer figures
UDP_TITLE = "UDP rate without loss (≤ 0.1 %)"
TITLES = {
    "tcp_1": "one stream",
    "tcp_8": "eight streams",
    "tcp_bidir": "both directions",
    "tcp_1_nooffload": "no offloads",
    "udp_64": "64 octets",
    "udp_512": "512 octets",
    "udp_1400": "1400 octets",
    "udp_imix": "mix of sizes",
    "udp_64_gso": "64 octets",
    "udp_1400_gso": "1400 octets",
    "rtt_p50": "idle, median",
    "rtt_p99": "idle, 99 %",
    "rtt_p99_loaded": "beside a full\nTCP stream, 99 %",
    "cpu_s_per_gb": "CPU time",
    "rss_idle_mb": "idle",
    "rss_flood_mb": "under a flood",
    "tcp_1_default": "encapsulation\nnot written",
    "tcp_1_esp": "IP protocol 50",
    "tcp_1_vxlan": "in VXLAN",
    "tcp_1_v6": "IPv6",
    "tcp_1_aes256": "AES-256",
    "tcp_1_chacha": "ChaCha20",
    "udp_quic": "as QUIC,\n1252 octets",
    "rtt_p50_matched": "beside the best\npeer's load, median",
    "rtt_p99_matched": "beside the best\npeer's load, 99 %",
}
# The samples under a measure's name, as they are drawn.
DISTRIBUTIONS = {"rtt_p99": "idle", "rtt_p99_matched": "beside the best peer's load", "rtt_p99_loaded": "beside a full TCP stream"}
SIZES = {"udp_64": 64, "udp_512": 512, "udp_1400": 1400}  # octets
# One figure each: file, title, axis, measures, whether its axis is logarithmic.
FIGURES = (
    ("tunnel-tcp", "TCP throughput", "Gb/s", ("tcp_1", "tcp_8", "tcp_bidir", "tcp_1_nooffload"), False),
    (
        "tunnel-kinds",
        "TCP throughput, one stream, by kind of tunnel and packet",
        "Gb/s",
        ("tcp_1_default", "tcp_1_esp", "tcp_1_vxlan", "tcp_1_v6", "tcp_1_aes256", "tcp_1_chacha"),
        False,
    ),
    ("tunnel-udp", UDP_TITLE, "thousand packets/s", ("udp_64", "udp_512", "udp_1400", "udp_imix"), False),
    (
        "tunnel-udp-gso",
        f"{UDP_TITLE}, sender with UDP_SEGMENT",
        "thousand packets/s",
        ("udp_64_gso", "udp_1400_gso", "udp_quic"),
        False,
    ),
    ("tunnel-rtt", "Round-trip time", "µs", ("rtt_p50", "rtt_p99", "rtt_p50_matched", "rtt_p99_matched", "rtt_p99_loaded"), True),
    ("tunnel-cost", "CPU time for a gigabyte, beyond the plain path's", "s/GB", ("cpu_s_per_gb",), False),
    ("tunnel-memory", "Memory of the larger gateway process", "MiB", ("rss_idle_mb", "rss_flood_mb"), False),
)
SVG_METADATA = ("Date", "Creator", "Format", "Type")  # left out: they would differ from run to run
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#e4e7eb",
    "ytick.left": False,
    "xtick.bottom": False,
    "svg.hashsalt": "ipsec-dp",
    "svg.fonttype": "none",  # text stays text: it is found, read aloud, and takes the colours of a page
}


def _scale(unit: str) -> float:
    return 1000.0 if unit == "thousand packets/s" else 1.0


def _groups(axes: Axes, results: Results, answer: dict[str, Any], measures: tuple[str, ...], unit: str) -> None:
    """Grouped bars: one group a measure, one bar a contender, its value above it, the range of its rounds as a line."""
    names = [name for name in results.contenders() if any(name in answer["medians"].get(m, {}) for m in measures)]
    width, scale = 0.84 / len(names), _scale(unit)
    for position, name in enumerate(names):
        for group, measure in enumerate(measures):
            if name not in answer["medians"].get(measure, {}):
                continue
            value = answer["medians"][measure][name] / scale
            at = group + (position - (len(names) - 1) / 2) * width
            label = name if group == 0 or name not in axes.get_legend_handles_labels()[1] else None
            axes.bar(at, value, width * 0.92, color=COLOURS.get(name, "#999999"), label=label)
            raw = [one / scale for one in results.rounds[measure][name]]
            top = value
            if len(raw) > 1 and measure != "cpu_s_per_gb":
                axes.vlines(at, min(raw), max(raw), color="#30363d", linewidth=1)
                top = max(raw)
            weight = "bold" if name == OURS else "normal"
            axes.annotate(
                number(value), (at, top), (0, 3), textcoords="offset points", ha="center", fontsize=7.5, fontweight=weight
            )
    axes.set_xticks(range(len(measures)), [TITLES[measure] for measure in measures])


def _title(axes: Axes, title: str, note: str) -> None:
    axes.set_title(title, loc="left", fontweight="bold", pad=20)
    axes.annotate(
        note,
        (0, 1),
        (0, 8),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=7.5,
        color="#6e7781",
        annotation_clip=False,
    )


def _grouped(results: Results, answer: dict[str, Any], row: tuple[str, str, tuple[str, ...], bool], note: str) -> Figure:
    title, unit, measures, log = row
    figure, axes = plt.subplots(figsize=(max(6.4, 2.7 * len(measures) + 1.6), 4.4), layout="constrained")
    _groups(axes, results, answer, measures, unit)
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.margins(y=0.12)
    axes.set_ylabel(unit + (" (logarithmic)" if log else ""))
    _title(axes, title, note)
    figure.legend(loc="outside lower center", ncols=6 if figure.get_figwidth() > 8 else 3, frameon=False, fontsize=9)
    return figure


def _ratios(results: Results, answer: dict[str, Any], note: str) -> Figure | None:
    """How many times better ours is, every measure and peer, on one logarithmic axis with 1 in the middle."""
    rows = [(name, answer["ratios"][name]) for name in MEASURES if answer["ratios"].get(name)]
    if not rows:
        return None
    figure, axes = plt.subplots(figsize=(9, 0.42 * len(rows) + 1.7), layout="constrained")
    for at, (_, row) in enumerate(reversed(rows)):
        axes.hlines(at, min(*row.values(), 1), max(*row.values(), 1), color="#d7dbe0", linewidth=1, zorder=1)
    for name in results.contenders():
        points = [(row[name], at) for at, (_, row) in enumerate(reversed(rows)) if name in row]
        if points:
            across, up = zip(*points, strict=True)
            axes.scatter(across, up, s=46, color=COLOURS.get(name, "#999999"), label=name, zorder=3)
    axes.axvline(1, color="#30363d", linewidth=1, zorder=2)
    axes.set_xscale("log")
    values = [value for _, row in rows for value in row.values()]
    crowded = max(values) / min(values) > CROWDED  # then there is no room for three figures a decade
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3) if crowded else (1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
    axes.set_yticks(range(len(rows)), [MEASURES[name].title for name, _ in reversed(rows)])
    axes.set_xlabel(f"{OURS} against each; right of 1: {OURS} is better")
    _title(axes, f"{OURS} beside the others", note)
    figure.legend(loc="outside lower center", ncols=6, frameon=False, fontsize=9)
    return figure


def _sizes(results: Results, answer: dict[str, Any], note: str) -> Figure | None:
    """Loss-free rate by size of packet, in bits: what is lost to work for each packet, and what to work for each octet."""
    there = [measure for measure in SIZES if answer["medians"].get(measure)]
    if len(there) <= 1:
        return None
    figure, axes = plt.subplots(figsize=(7.4, 4.4), layout="constrained")
    for name in results.contenders():
        points = [(SIZES[m], answer["medians"][m][name] * SIZES[m] * 8 / 1e9) for m in there if answer["medians"][m].get(name)]
        if points:
            across, up = zip(*points, strict=True)
            axes.plot(across, up, marker="o", markersize=4, color=COLOURS.get(name, "#999999"), label=name)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xticks([SIZES[measure] for measure in there])
    axes.set_xlabel("octets of an IPv4 packet")
    axes.set_ylabel("Gb/s (logarithmic)")
    _title(axes, f"{UDP_TITLE}, by size", note)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def _distributions(results: Results, note: str) -> Figure | None:
    """How many of the round trips of all rounds took no longer, one panel a load."""
    there = [measure for measure in DISTRIBUTIONS if results.samples.get(measure)]
    if not there:
        return None
    figure, panels = plt.subplots(
        1, len(there), figsize=(4.2 * len(there) + 1, 4.4), layout="constrained", sharey=True, squeeze=False
    )
    drawn: dict[str, Any] = {}
    for axes, measure in zip(panels[0], there, strict=True):
        for name, rounds in results.samples[measure].items():
            times = sorted(time for row in rounds for time in row)
            shares = [100 * (at + 1) / len(times) for at in range(len(times))]
            every = max(1, len(times) // CURVE_POINTS)
            kept = [*range(0, len(times), every), len(times) - 1]
            colour = COLOURS.get(name, "#999999")
            (line,) = axes.plot([times[at] for at in kept], [shares[at] for at in kept], color=colour, linewidth=1.6)
            drawn.setdefault(name, line)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(f"µs, {DISTRIBUTIONS[measure]}")
        axes.grid(visible=True, axis="x")
    panels[0][0].set_ylabel("% of round trips that took no longer")
    _title(panels[0][0], "Round-trip times", note)
    columns = 3 if len(there) == 1 else 7
    figure.legend(drawn.values(), drawn.keys(), loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
    return figure


def _save(figure: Figure, directory: Path, name: str, kinds: Sequence[str]) -> list[Path]:
    files = [directory / f"{name}.{kind}" for kind in kinds]
    for file in files:
        figure.savefig(file, dpi=150, metadata=dict.fromkeys(SVG_METADATA) if file.suffix == ".svg" else None)
    plt.close(figure)
    return files


def draw(results: Results, directory: Path, kinds: Sequence[str] = ("png", "svg")) -> list[Path]:
    """Every figure for which there are values, in each of these kinds of file; the files."""
    answer = results.as_json()
    machine = results.environment
    head, _, changed = results.commit.partition("-")
    commit = head[:10] + (" with changes" if changed else "")
    note = f"{results.started[:10]}, {commit}, {machine['processor']} with {machine['cores']} cores, Linux {machine['kernel']}"
    files: list[Path] = []
    with mpl.rc_context(STYLE):
        for name, title, unit, measures, log in FIGURES:
            there = tuple(measure for measure in measures if answer["medians"].get(measure))
            if there:
                files += _save(_grouped(results, answer, (title, unit, there, log), note), directory, name, kinds)
        further = {
            "tunnel-sizes": _sizes(results, answer, note),
            "tunnel-rtt-distribution": _distributions(results, note),
            "tunnel-ratios": _ratios(results, answer, note),
        }
        for name, figure in further.items():
            if figure is not None:
                files += _save(figure, directory, name, kinds)
    return files
