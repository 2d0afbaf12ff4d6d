"""`reload --dry-run`: what a reload would do, by the same reading and checking, and nothing of it done."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from ipsec_dp.config import difference
from tests.unit.gateway_doubles import TEXT
from tests.unit.reload_site import MORE, WITHOUT_BY_HAND, Site


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.setattr(difference, "ask", difference.answer)  # starts no process
    return Site(tmp_path)


def test_a_dry_run_says_what_a_reload_would_do_and_changes_nothing(site):
    text = WITHOUT_BY_HAND.replace('remote = "any"', 'remote = "192.0.2.4"') + MORE
    (site.directory / "a.toml").write_text(text)
    before = site.config
    told = asyncio.run(site.reloader.preview(site.directory / "a.toml"))
    assert (told.applied, told.dry_run) == (False, True)
    assert (site.calls, site.in_force) == ([], [])
    assert list(site.spd.tunnel_numbers) == [tunnel.name for tunnel in before.tunnels]
    done = site.reload(text)
    assert (told.added, told.removed, told.changed, told.kept) == (done.added, done.removed, done.changed, done.kept)
    assert (told.added, told.removed, [change.name for change in told.changed], told.kept) == (
        ("more",),
        ("by-hand",),
        ["waiting"],
        1,
    )
    assert (done.applied, done.dry_run) == (True, msgspec.UNSET)


def test_a_dry_run_refuses_what_a_reload_refuses(site, caplog):
    for text in (TEXT.replace('name = "a"', 'name = "b"'), TEXT.replace("10.2.0.0/16", "10.2.0.1/16")):
        (site.directory / "a.toml").write_text(text)
        told = asyncio.run(site.reloader.preview(site.directory / "a.toml"))
        assert caplog.records == [], "it is the answer, and nothing for the log"
        assert site.reload(text).findings == told.findings
        caplog.clear()
    assert site.calls == []
