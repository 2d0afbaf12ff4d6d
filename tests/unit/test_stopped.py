"""A gateway that does not run: what is asked of the kernel, in which order, and what is refused."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from ipsec_dp.errors import ControlError
from ipsec_dp.gateway import stopped
from ipsec_dp.host import HostError, claim
from ipsec_dp.ipsec.addresses import AddressRange
from ipsec_dp.network import remains
from ipsec_dp.network.remains import Remains
from tests.doubles.clock import FakeClock
from tests.doubles.config import configured, tunnel
from tests.doubles.host import MemoryHost

PREFIX = AddressRange.of("10.2.0.0/24").prefixes[0]


@pytest.fixture
def kernel(monkeypatch):
    """A gateway's remains, which `remove` takes away, and who holds its name; `calls` in order."""

    class Kernel:
        found = Remains("a", guard=True, unreachable=(PREFIX,))
        lives: claim.Holder | None = None

        def __init__(self) -> None:
            self.calls: list[str] = []
            self.nameless: list[remains.Nameless] = []

        def take(self, gateway: str) -> claim.Claim:
            self.calls.append("take")
            if self.lives is not None:
                raise claim.RunningError(gateway, str(self.lives))
            return claim.Claim(None)

        async def find(self, _gateway: str) -> Remains:
            self.calls.append("find")
            return self.found

        async def remove(self, gateway: str) -> None:
            self.calls.append(f"remove {gateway}")

        async def dead(self, candidates: Any) -> list[Remains]:
            self.calls.append(f"dead {list(candidates)}")
            return [self.found]

        async def without_names(self, _candidates: Any) -> list[remains.Nameless]:
            return self.nameless

    kernel = Kernel()
    monkeypatch.setattr(claim, "take", kernel.take)
    monkeypatch.setattr(claim, "holder", lambda _: kernel.lives)
    monkeypatch.setattr(remains, "nameless", kernel.without_names)
    for name in ("find", "remove", "dead"):
        monkeypatch.setattr(remains, name, getattr(kernel, name))
    return kernel


def test_it_is_opened_while_its_name_is_ours_and_that_is_a_warning(kernel, caplog):
    asyncio.run(stopped.open_up("a"))
    assert kernel.calls == ["take", "find", "remove a"]
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith("gateway a was opened by hand: packets to 10.2.0.0/24 leave in clear now")


@pytest.mark.parametrize("lives", [claim.Holder(7, 0), claim.Holder(7, 65533), claim.Holder()])
def test_whoever_holds_its_name_it_is_not_looked_at_for_opening(kernel, lives):
    kernel.lives = lives
    with pytest.raises(ControlError, match=r"gateway a is running .*`ipsec-dp down`"):
        asyncio.run(stopped.left("a"))


@pytest.mark.parametrize("do", [stopped.left, stopped.open_up])
def test_one_whose_routes_lead_into_a_tunnel_runs(kernel, do):
    kernel.found = Remains("a", guard=True, routed=(PREFIX,))
    with pytest.raises(ControlError, match=r"10\.2\.0\.0/24 leads into its tunnel"):
        asyncio.run(do("a"))
    assert "remove a" not in kernel.calls


def test_one_that_starts_meanwhile_is_not_opened(kernel):
    kernel.lives = claim.Holder(7, 0)
    with pytest.raises(claim.RunningError):
        asyncio.run(stopped.open_up("a"))
    assert kernel.calls == ["take"]


def test_what_dead_gateways_left_is_said_with_what_helps(kernel):
    assert stopped.advice(["b"]).startswith("gateway a does not run, but the guard and unreachable routes keep")
    assert kernel.calls == ["dead ['b']"]


def test_what_cannot_be_seen_is_not_spoken_of(kernel, monkeypatch):
    async def refused(_: object) -> None:
        raise HostError("nft is not installed")

    monkeypatch.setattr(remains, "dead", refused)
    assert stopped.advice([]) == ""


def test_whose_configurations_lie_here_is_asked_for_too(tmp_path):
    """Where nft is missing a start has left routes alone, whose numbers tell no name."""
    for name, text in {"a": '[gateway]\nname = "site-a"\n', "b": "nonsense", "c": "[gateway]\nname = 3\n", "d": "x = 1\n"}.items():
        (tmp_path / f"{name}.toml").write_text(text)
    (tmp_path / "other.txt").write_text('[gateway]\nname = "other"\n')
    assert stopped.configured_names(tmp_path) == ["site-a"]
    assert stopped.configured_names(tmp_path / "none") == []


def test_closing_alone_closes_and_nothing_else(tmp_path):
    config = configured(tmp_path, tunnel())

    async def life() -> MemoryHost:
        host = MemoryHost(config, FakeClock())
        assert (await stopped.close(config, cast("Any", host))).guard
        return host

    host = asyncio.run(life())
    assert host.calls == ["guard closed", "routes unreachable"]


def test_what_could_not_be_closed_is_said_with_what_holds(tmp_path, monkeypatch):
    config = configured(tmp_path, tunnel())

    async def life() -> None:
        host = MemoryHost(config, FakeClock())

        async def refused() -> None:
            raise HostError("nft is not installed")

        monkeypatch.setattr(host, "close_guard", refused)
        with pytest.raises(HostError, match=r"^nft is not installed; nothing keeps protected traffic from leaving in clear"):
            await stopped.close(config, cast("Any", host))

    asyncio.run(life())


def test_who_ran_here_is_asked_for_too(tmp_path):
    """By a control socket that a killed one left, and by the directory of its state."""
    (tmp_path / "run").mkdir()
    (tmp_path / "state" / "site-c").mkdir(parents=True)
    (tmp_path / "run" / "site.b.sock").touch()
    assert stopped.recorded_names(tmp_path / "run", tmp_path / "none", tmp_path / "state") == ["site.b", "site-c"]


def test_routes_that_tell_no_name_are_said_to_be_there(kernel):
    kernel.nameless = [remains.Nameless(3842049024, (PREFIX,))]
    text = stopped.advice(["b"])
    assert (
        "; a gateway whose name is not known here left unreachable routes to 10.2.0.0/24 (routing tables from 3842049024)" in text
    )
    assert "`ipsec-dp open NAME`" in text


def test_what_is_found_is_said_though_the_rest_cannot_be_read(kernel, monkeypatch):
    async def unreadable(_candidates: Any) -> list[remains.Nameless]:
        raise HostError("no routes can be read")

    monkeypatch.setattr(remains, "nameless", unreadable)
    assert stopped.advice(["b"]).startswith("gateway a does not run, but ")
