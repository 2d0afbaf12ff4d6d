"""`status --check`: what a monitor reads of a gateway."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipsec_dp.cli import main, monitoring
from ipsec_dp.cli.render import STATE_STYLES
from ipsec_dp.errors import ControlError, NoDaemonError
from ipsec_dp.gateway import control
from ipsec_dp.gateway.status import GatewayStatus, TunnelStatus
from ipsec_dp.services.monitor_health import MonitorStatus

DATA = "| up={} rekeying=0 waiting=0 partial={} negotiating=0 down=0 failed={}"


def tunnel(name: str, state: str, error: str | None = None, text: str = "", monitor: str | None = None) -> TunnelStatus:
    watched = None if monitor is None else MonitorStatus(state=monitor)
    return TunnelStatus(name=name, state=state, state_text=text or state, last_error=error, monitor=watched)


def answer(*tunnels: TunnelStatus, warnings: tuple[str, ...] = ()) -> GatewayStatus:
    return GatewayStatus(gateway="site-a", tunnels=tunnels, warnings=warnings)


@pytest.mark.parametrize(
    ("of", "level"),
    [
        ((tunnel("a", "up"), tunnel("b", "rekeying"), tunnel("c", "waiting")), 0),
        ((), 0),
        ((tunnel("a", "up", "a proxy ID of the peer's was refused"),), 0),
        ((tunnel("a", "waiting", "the peer did not answer"),), 1),
        ((tunnel("a", "partial"),), 1),
        ((tunnel("a", "negotiating"),), 1),
        ((tunnel("a", "up", monitor="up"),), 0),
        ((tunnel("a", "up", monitor="down"),), 1),
        ((tunnel("a", "down"),), 2),
        ((tunnel("a", "failed"), tunnel("b", "up"), tunnel("c", "partial")), 2),
        ((tunnel("a", "of another version"),), 3),
        ((tunnel("a", "of another version"), tunnel("b", "down")), 2),
    ],
)
def test_the_worst_tunnel_decides(of, level):
    found, line = monitoring.check(answer(*of))
    assert found == level
    assert line.startswith(f"{monitoring.Level(level).name}: site-a: ")
    assert line.count("\n") == 0


def test_every_state_has_its_level():
    assert set(monitoring.LEVELS) == set(STATE_STYLES)


def test_the_line_names_what_is_wrong_first_and_counts_the_rest():
    many = [tunnel(f"t{number}", "partial", "lacks 10.1.1.0/24") for number in range(9)]
    _, line = monitoring.check(answer(tunnel("well", "up"), *many, tunnel("bad", "failed", "did not answer | IKE_SA_INIT")))
    assert line == (
        "CRITICAL: site-a: 9 partial, 1 up, 1 failed; bad failed (did not answer / IKE_SA_INIT); t0 partial (lacks 10.1.1.0/24); "
        "t1 partial (lacks 10.1.1.0/24) and 7 more " + DATA.format(1, 9, 1)
    )


def test_what_is_wrong_with_the_host_is_a_warning():
    assert monitoring.check(answer(tunnel("a", "up"), warnings=("the guard was gone",))) == (
        1,
        "WARNING: site-a: 1 up; warnings: the guard was gone " + DATA.format(1, 0, 0),
    )


@pytest.mark.parametrize("error", [NoDaemonError("no gateway runs here"), ControlError('no tunnel "b"')])
def test_where_no_gateway_answers_it_is_unknown(capsys, monkeypatch, error):
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(control, "request", fails)
    assert main(["status", "--check", "b", "--control", "/tmp/x.sock"]) == 3
    assert capsys.readouterr().out == f"UNKNOWN: {error}\n"


def test_the_gateway_is_asked_for_one_tunnel_or_all(capsys, monkeypatch):
    asked = []

    def answers(path: Path, message: object, **_: object) -> object:
        asked.append((path, message))
        return {"schema": 1, "gateway": "site-a", "tunnels": [{"name": "to-b", "state": "failed", "last_error": "why"}]}

    monkeypatch.setattr(control, "request", answers)
    assert main(["status", "to-b", "--check", "--control", "/tmp/x.sock"]) == 2
    assert main(["status", "--check", "--control", "/tmp/x.sock"]) == 2
    assert capsys.readouterr().out.splitlines() == ["CRITICAL: site-a: 1 failed; to-b failed (why) " + DATA.format(0, 0, 1)] * 2
    path = Path("/tmp/x.sock")
    assert asked == [(path, {"verb": "status", "name": "to-b"}), (path, {"verb": "status"})]
    assert main(["status", "--control", "/tmp/x.sock"]) == 0, "without --check it says what there is"


@pytest.mark.parametrize("other", ["--watch", "--json", "--state=up"])
def test_it_goes_with_nothing_else(capsys, other):
    assert main(["status", "--check", other]) == 2
    assert "--check is for monitoring" in capsys.readouterr().err
