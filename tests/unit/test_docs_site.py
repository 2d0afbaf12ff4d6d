"""The documentation site: its links lead somewhere, its pages have all that the code has, its examples are taken."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ipsec_dp.cli.commands import program
from ipsec_dp.config import examine
from ipsec_dp.config.schema import schema
from ipsec_dp.dataplane import DROP_SENTENCES
from ipsec_dp.ike.actions import Cause

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PEERS = sorted(path for path in (DOCS / "peers").glob("*.md") if path.name != "index.md")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The pages, and what the builder said of them."""
    directory = tmp_path_factory.mktemp("site")
    pages = directory / "build/docs/pages"
    subprocess.run((sys.executable, "tools/docs_site.py", str(pages)), cwd=ROOT, check=True)
    shutil.copyfile(ROOT / "zensical.toml", directory / "zensical.toml")
    command = (sys.executable, "-m", "zensical", "build", "--strict", "--config-file", "zensical.toml")
    built = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    return pages, built, directory / "build/docs/site"


def test_each_link_leads_somewhere(site):
    _, built, html = site
    assert built.returncode == 0, built.stdout + built.stderr
    assert "Mistake" not in built.stdout
    assert (html / "index.html").is_file()


def test_a_link_that_leads_nowhere_would_fail_it(site, tmp_path):
    pages, _, _ = site
    shutil.copytree(pages, tmp_path / "build/docs/pages")
    shutil.copyfile(ROOT / "zensical.toml", tmp_path / "zensical.toml")
    with (tmp_path / "build/docs/pages/mtu.md").open("a") as page:
        page.write("\n[nowhere](no-such-page.md)\n")
    command = (sys.executable, "-m", "zensical", "build", "--strict", "--config-file", "zensical.toml")
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode != 0


def test_each_page_is_in_the_menu(site):
    pages, _, _ = site
    menu = (ROOT / "zensical.toml").read_text()
    found = {path.relative_to(pages).as_posix() for path in pages.rglob("*.md") if "files" not in path.relative_to(pages).parts}
    assert {name for name in found if f'"{name}"' not in menu} == set()


def test_nothing_is_fetched_from_elsewhere(site):
    _, _, html = site
    page = (html / "index.html").read_text()
    assert re.findall(r'(?:src|<link[^>]*href)="https?://(?!127\.)[^"]*"', page) == []


def test_its_own_style_is_loaded_by_each_page(site):
    _, _, html = site
    assert 'href="./site.css"' in (html / "start.html").read_text()
    assert 'href="../site.css"' in (html / "reference/keys.html").read_text()
    assert (html / "site.css").read_text() == (DOCS / "site.css").read_text()


def headings(page: Path, below: str, until: str | None = None) -> list[str]:
    text = page.read_text().partition(f"\n{below}\n")[2]
    text = text if until is None else text.partition(f"\n{until}\n")[0]
    return re.findall(r"^### (.+)$", text, re.MULTILINE)


def test_each_drop_reason_has_a_paragraph():
    found = headings(DOCS / "dropped.md", "## Packets on their way out", "## Why an SA ended or failed")
    assert sorted(found) == sorted(DROP_SENTENCES)


def test_each_cause_has_a_paragraph():
    assert sorted(headings(DOCS / "dropped.md", "## Why an SA ended or failed")) == sorted(Cause)


def test_each_key_is_in_the_reference_and_explained(site):
    pages, _, _ = site
    reference, explained = (pages / "reference/keys.md").read_text(), (DOCS / "configuration.md").read_text()
    made = schema()["$defs"]
    keys = {
        key for name, table in made.items() if name != "File" for key, value in table["properties"].items() if "$ref" not in value
    }
    assert {key for key in keys if f"`{key}`" not in reference and f"{key}]]`" not in reference} == set()
    assert {key for key in keys if key not in explained} == set()


def test_each_verb_is_in_the_reference(site):
    pages, _, _ = site
    text = (pages / "reference/verbs.md").read_text()
    assert {name for name in program.commands if f"## ipsec-dp {name}\n" not in text} == set()


@pytest.mark.parametrize("page", PEERS, ids=lambda page: page.stem)
def test_a_peers_example_is_taken_as_it_is(page, tmp_path):
    (example,) = re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL)
    file = tmp_path / "site-a.toml"
    file.write_text(example)
    secret = tmp_path / tomllib.loads(example)["tunnel"][0]["auth"]["psk_file"]
    secret.touch(0o600)
    secret.write_text("correct-horse-battery-staple-of-good-length\n")
    config, findings = examine(file)
    assert config is not None
    assert findings == ()
