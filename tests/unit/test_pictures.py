"""The pictures of docs/performance.md show what its table says, where it was measured, and can be read in light and in dark."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tools import pictures

DIRECTORY = pictures.PAGE.parent / "pictures"
TEXT = pictures.PAGE.read_text()
SVG = "{http://www.w3.org/2000/svg}"
POINT = re.compile(r"[ML] (\S+) (\S+)")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """What the page would have now."""
    return {file.stem: file for file in pictures.draw(TEXT, tmp_path_factory.mktemp("drawn"))}


def texts(file: Path) -> list[str]:
    return ["".join(each.itertext()).strip() for each in ET.parse(file).iter(f"{SVG}text")]


def bars(file: Path) -> dict[str, float]:
    """How long each is, in points."""
    found = {}
    for group in ET.parse(file).iter(f"{SVG}g"):
        name = group.get("id", "")
        if ": " in name:
            (path,) = group.iter(f"{SVG}path")
            across = [float(x) for x, _ in POINT.findall(path.get("d", ""))]
            found[name] = max(across) - min(across)
    return found


@pytest.mark.parametrize("name", pictures.PICTURES)
def test_a_picture_is_what_the_table_says(drawn, name):
    """Or the table was changed and tools/pictures.py was not run."""
    committed = DIRECTORY / f"{name}.svg"
    assert texts(committed) == texts(drawn[name])
    assert bars(committed) == pytest.approx(bars(drawn[name]), abs=0.5)


@pytest.mark.parametrize("name", pictures.PICTURES)
def test_each_figure_is_one_of_the_page_and_as_long_as_it_says(name):
    """Read from the picture and from the page by themselves."""
    _, panels = pictures.PICTURES[name]
    file = DIRECTORY / f"{name}.svg"
    cells = {part.strip() for cell in re.split(r"[|\n]", TEXT) for part in cell.split(";")}
    lengths, run = bars(file), pictures.recorded(TEXT)
    for panel in panels:
        figures = run.figures(panel)
        assert set(figures.values()) <= cells & set(texts(file))
        for_one = {bar: lengths[f"{panel.title}: {bar}"] / pictures.number(text) for bar, text in figures.items()}
        largest = max(for_one, key=lambda bar: pictures.number(figures[bar]))
        for bar, length in for_one.items():
            assert length * pictures.number(figures[bar]) == pytest.approx(
                for_one[largest] * pictures.number(figures[bar]), abs=0.1
            )


def test_another_figure_in_the_table_is_another_picture(drawn, tmp_path):
    assert TEXT.count("| 4.34; 4.65; 4.12 |") == 1
    other = tmp_path / "other.svg"
    other.write_text(pictures.svg(pictures.recorded(TEXT.replace("4.34; 4.65", "5.34; 4.65")), *pictures.PICTURES["throughput"]))
    assert set(texts(other)) ^ set(texts(drawn["throughput"])) == {"5.34", "4.34"}
    assert bars(other) != pytest.approx(bars(drawn["throughput"]), abs=0.5)


@pytest.mark.parametrize("name", pictures.PICTURES)
def test_it_names_command_commit_and_machine(name):
    said = " ".join(texts(DIRECTORY / f"{name}.svg"))
    section = TEXT.partition(f"\n## {pictures.RUN}\n")[2]
    commit = re.search(r"commit (\w+)", said)
    assert commit is not None
    assert f"(commit {commit[1]})" in section
    assert "make bench-tunnel" in said
    assert "machine B: two Zen 3 cores" in said


def test_a_run_without_its_source_is_refused():
    with pytest.raises(ValueError, match="name no command, commit or machine"):
        pictures.recorded(TEXT.replace("(commit d5383f9)", ""))


def test_the_page_shows_each_with_words_for_who_does_not_see_it():
    shown = dict(re.findall(r"^!\[(.{40,})\]\(pictures/([\w-]+)\.svg\)$", TEXT, re.MULTILINE))
    assert sorted(shown.values()) == sorted(pictures.PICTURES)
    assert sorted(path.stem for path in DIRECTORY.iterdir()) == sorted(pictures.PICTURES)


@pytest.mark.parametrize("name", pictures.PICTURES)
def test_it_needs_no_other_file(name):
    text = (DIRECTORY / f"{name}.svg").read_text()
    assert not re.findall(r"(?:href|src)=\"(?!#)|url\((?!#)|@import|<image|<script", text)


@pytest.mark.parametrize("name", pictures.PICTURES)
def test_each_colour_has_one_in_the_dark(name):
    text = (DIRECTORY / f"{name}.svg").read_text()
    light, dark = zip(*pictures.COLOURS.values(), strict=True)
    assert set(re.findall(r"(?:fill|stroke): (#\w{6})[;\"]", text)) <= set(light)
    assert all(colour in text for colour in dark)


def luminance(colour: str) -> float:
    """WCAG 2.2."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("name", "least"), [(pictures.INK, 7), (pictures.FAINT, 4.5), (pictures.OURS, 3), ("others", 3)])
def test_it_stands_out(scheme, name, least):
    """As WCAG 2.2 asks of text (1.4.3, 1.4.6) and of what else must be seen (1.4.11)."""
    one, other = sorted(luminance(pictures.COLOURS[each][scheme]) for each in (name, pictures.GROUND))
    assert (other + 0.05) / (one + 0.05) >= least
