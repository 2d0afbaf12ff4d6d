"""A reload: what is asked of which part in which order, and what runs when something fails in between.

The file is read in this process; guard, interfaces, routes and the data plane are lists of calls.
"""

from __future__ import annotations

import asyncio
import json
import logging
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from ipsec_dp.config import difference
from ipsec_dp.databases.spd import Spd
from ipsec_dp.gateway.reload import Reloader, ReloadFailedError, ReloadParts
from ipsec_dp.host import HostError
from ipsec_dp.ike.effect import Effect
from tests.unit.gateway_doubles import TEXT, Calls, ManualClock, config_of, path_to

MORE = """
[[tunnel]]
name = "more"
remote = "192.0.2.9"
interface = "ipsec2"
  [[tunnel.proxy_id]]
  local = "10.1.0.0/16"
  remote = "10.9.0.0/16"
  [tunnel.auth]
  psk_file = "all.psk"
  remote_id = "more.example"
"""
WITHOUT_UP = TEXT[: TEXT.index('[[tunnel]]\nname = "up"')] + TEXT[TEXT.index('[[tunnel]]\nname = "waiting"') :]


class MemoryHost:
    """Notes what is asked of the host; `fails` at one of it."""

    def __init__(self, calls: list[Any]) -> None:
        self.calls = calls
        self.fails: str | None = None
        self.changing = asyncio.Lock()
        self.ways = SimpleNamespace(path=self._path, listen_at=self._listen_at)

    def _call(self, name: str, *arguments: Any) -> None:
        assert self.changing.locked(), "others change the host meanwhile"
        if self.fails == name:
            raise HostError(f"{name}: the kernel refuses")
        self.calls.append((f"host.{name}", *arguments))

    async def _path(self, tunnel, _links):
        self._call("path", tunnel.name)
        return path_to("192.0.2.2")

    async def _listen_at(self, tunnels):
        self._call("listen_at", *[tunnel.name for tunnel in tunnels])
        return {"192.0.2.1"}

    async def widen_guard(self, _config):
        self._call("widen_guard")

    async def narrow_guard(self):
        self._call("narrow_guard")

    async def settle_guard(self):
        self._call("settle_guard")

    async def follow(self, _config, mtus):
        self._call("follow", mtus)

    async def follow_routes(self, *, known):
        self._call("follow_routes", known)

    async def apply_zones(self, _config):
        self._call("apply_zones")

    def mtu_of(self, _tunnel):
        return 1400

    def finish(self):
        self._call("finish")
        return []


class Site:
    """A gateway with TEXT in force. `calls` is what was asked of its parts, in order."""

    def __init__(self, directory) -> None:
        self.directory = directory
        self.config = config_of(directory)
        self.calls: list[Any] = []
        self.in_force: list[Any] = []
        self.waiting = 0  # removed SAs that a loop still holds
        self.spd = Spd(self.config)
        self.host = MemoryHost(self.calls)
        self.service = Calls("services", self.calls, apply=self._applied)
        self.observer = Calls("observer", self.calls)
        parts = ReloadParts(
            self.spd,
            cast("Any", self.host),
            cast("Any", Calls("plane", self.calls)),
            cast("Any", Calls("sad", self.calls, reclaim=lambda: self.waiting)),
            cast("Any", None),
            cast("Any", Calls("manual", self.calls)),
            cast("Any", Calls("ike", self.calls)),
            cast("Any", self.service),
            (cast("Any", self.observer),),
            self._first_mtu,
        )
        self.reloader = Reloader(self.config, parts, self.in_force.append, ManualClock())

    async def _applied(self, _config):
        return None

    async def _first_mtu(self, _tunnel):
        return 1380

    def reload(self, text):
        (self.directory / "a.toml").write_text(text)
        return asyncio.run(self.reloader.reload(self.directory / "a.toml"))

    def asked(self, *names):
        """Those of the calls, in order."""
        return [call for call in self.calls if call[0] in names]

    @property
    def names(self):
        return [call[0] for call in self.calls]


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.setattr(difference, "ask", difference.answer)  # starts no process
    return Site(tmp_path)


# ---- one that succeeds -----------------------------------------------------------------------------------------------------------


def test_a_tunnel_more_is_begun_and_nothing_else(site):
    result = site.reload(TEXT + MORE)
    assert (result.added, result.removed, result.changed, result.kept) == (("more",), (), (), 3)
    assert site.asked("host.reconfigure") == [("host.reconfigure", {"more": 1380})]
    assert site.asked("host.listen_at") == [("host.listen_at", "more")]
    ((_, tunnels, peers, effects),) = site.asked("ike.follow")
    assert ([tunnel.name for tunnel in tunnels], list(peers), effects) == (["more"], ["more"], {})
    assert "more" in site.spd.tunnel_numbers


def test_the_guard_is_closed_for_both_first_and_for_the_new_one_last(site):
    site.reload(TEXT + MORE)
    assert site.names == [
        "sad.reclaim",
        "guard.widen",
        "host.reconfigure",
        "host.listen_at",
        "ike.listen",
        "plane.install_policy",
        "ike.follow",
        "manual.install",
        "observer.reconfigure",
        "guard.apply_zones",
        "routing.apply",
        "services.apply",
        "guard.settle",
        "host.remove_unused_interfaces",
    ]


def test_the_new_configuration_is_in_force_for_everybody(site):
    site.reload(TEXT + MORE)
    (config,) = site.in_force
    assert config.has_tunnel("more")
    assert site.asked("observer.reconfigure") == [("observer.reconfigure", config)]
    assert site.asked("services.apply") == [("services.apply", config)]
    assert site.reload(TEXT + MORE).kept == 4, "the next one is compared with it"


def test_a_tunnel_less_is_ended_and_its_number_is_free(site):
    number = site.spd.tunnel_numbers["up"]
    result = site.reload(WITHOUT_UP)
    assert (result.added, result.removed, result.kept) == ((), ("up",), 2)
    assert site.asked("ike.follow")[0][1:] == ([], {}, {"up": Effect.RESTART})
    assert site.asked("plane.take_acquire") == [("plane.take_acquire", number)]
    assert "up" not in site.spd.tunnel_numbers


def test_a_changed_tunnel_keeps_what_its_effect_lets_it_keep(site):
    result = site.reload(TEXT.replace('name = "waiting"\nremote = "any"', 'name = "waiting"\nremote = "192.0.2.4"'))
    (change,) = result.changed
    assert (change.name, change.keys) == ("waiting", ("remotes",))
    ((_, tunnels, peers, effects),) = site.asked("ike.follow")
    assert [tunnel.name for tunnel in tunnels] == list(peers) == list(effects) == ["waiting"]
    assert effects["waiting"].text == change.effect


def test_a_manual_tunnel_with_other_keys_begins_anew(site):
    site.reload(TEXT.replace("0x2001", "0x2002"))
    ((_, ended),) = site.asked("manual.remove")
    ((_, begun, paths),) = site.asked("manual.install")
    assert (ended.manual.spi_out, [tunnel.manual.spi_out for tunnel in begun]) == (0x2001, [0x2002])
    assert list(paths) == ["by-hand"]
    assert site.names.index("manual.remove") < site.names.index("ike.follow") < site.names.index("manual.install")


def test_the_answer_is_the_one_that_programs_know(site, caplog):
    caplog.set_level(logging.INFO, "ipsec_dp")
    result = site.reload(TEXT.replace("0x2001", "0x2002") + MORE)
    findings = [{key: getattr(finding, key) for key in finding.__slots__} for finding in result.findings]
    assert {finding["severity"] for finding in findings} == {"warning"}
    assert json.dumps(msgspec.to_builtins(result)) == json.dumps(
        {
            "schema": 1,
            "applied": True,
            "file": str(site.directory / "a.toml"),
            "added": ["more"],
            "removed": [],
            "changed": [{"name": "by-hand", "keys": ["manual.spi_out"], "effect": Effect.RESTART.text}],
            "kept": 2,
            "findings": findings,
            "read_s": 0.0,
            "applied_s": 0.0,
        }
    )
    assert "1 added, 0 removed, 1 changed, 2 kept; read in 0.0 s, applied in 0.0 s" in caplog.text


# ---- one that is refused ---------------------------------------------------------------------------------------------------------


def refused(site, text):
    """The findings; nothing was asked of any part."""
    refusal = site.reload(text)
    assert (refusal.applied, site.calls, site.in_force) == (False, [], [])
    return [(finding.where, finding.key) for finding in refusal.findings if finding.severity == "error"]


def test_a_file_that_is_wrong_changes_nothing(site):
    assert refused(site, TEXT + MORE.replace("192.0.2.9", "192.0.2")) == [('tunnel "more"', "remote")]


@pytest.mark.parametrize("line", ['name = "b"', "workers = 2", 'offloads = { tun_tso = "off" }'])
def test_what_the_process_was_made_with_cannot_be_changed(site, line):
    text = TEXT.replace('name = "a"', 'name = "a"\n' + line if line != 'name = "b"' else line, 1)
    assert refused(site, text) == [("gateway", line.split()[0])]


def test_a_refusal_has_the_keys_that_programs_know(site):
    refusal = msgspec.to_builtins(site.reload(TEXT.replace('name = "a"', 'name = "b"', 1)))
    assert list(refusal) == ["schema", "applied", "file", "findings"]
    assert list(refusal["findings"][0]) == ["severity", "file", "where", "key", "wrong", "right"]


# ---- one that fails --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["widen_guard", "path"])
def test_until_the_interfaces_are_there_a_failure_leaves_everything_as_it_was(site, step):
    site.host.fails = step
    with pytest.raises(ReloadFailedError, match=f"{step}: the kernel refuses; nothing was changed"):
        site.reload(TEXT.replace("0x2001", "0x2002") + MORE)
    assert site.names[-3:] == ["host.reconfigure", "host.remove_unused_interfaces", "guard.narrow"]
    assert site.asked("host.reconfigure")[-1] == ("host.reconfigure", {})
    assert (site.in_force, site.asked("ike.follow"), site.asked("manual.remove")) == ([], [], [])
    assert "more" not in site.spd.tunnel_numbers


def test_afterwards_the_guard_stays_closed_for_both_and_the_next_one_completes_it(site):
    site.host.fails = "apply"
    with pytest.raises(ReloadFailedError, match=r"broke off half-way: follow_routes: .* stays closed until a reload succeeds"):
        site.reload(TEXT + MORE)
    assert site.asked("guard.settle", "guard.narrow", "services.apply") == []
    assert [config.has_tunnel("more") for config in site.in_force] == [True], "what was changed is what runs"

    site.host.fails = None
    site.calls.clear()
    result = site.reload(TEXT + MORE)
    assert (result.added, result.kept) == ((), 4)
    assert site.asked("routing.apply") == [("routing.apply", False)], "what the broken one left is not known"
    assert site.names[-2:] == ["guard.settle", "host.remove_unused_interfaces"]

    site.calls.clear()
    site.reload(TEXT + MORE)
    assert site.asked("routing.apply") == [("routing.apply", True)]


def test_a_number_is_given_again_only_when_no_loop_holds_an_sa_of_its_former_owner(site):
    """A loop could take the next tunnel of this number for the one that went."""
    freed = site.spd.tunnel_numbers["up"]
    site.spd.tunnels.capacity = len(site.config.tunnels)  # no number was never used
    site.reload(WITHOUT_UP)
    site.waiting = 1
    with pytest.raises(ReloadFailedError, match="nothing was changed"):
        site.reload(WITHOUT_UP + MORE)
    site.waiting = 0
    site.reload(WITHOUT_UP + MORE)
    assert site.spd.tunnel_numbers["more"] == freed


def test_reloads_are_carried_out_one_after_the_other(site):
    """Two that are asked for at once do not mix."""
    (site.directory / "a.toml").write_text(TEXT + MORE)

    async def both():
        path = site.directory / "a.toml"
        return await asyncio.gather(site.reloader.reload(path), site.reloader.reload(path))

    assert [result.added for result in asyncio.run(both())] == [("more",), ()]
