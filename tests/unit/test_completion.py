"""What a shell completes: verbs, options, and the tunnels of the gateway that runs."""

from __future__ import annotations

import shutil
import subprocess
from types import SimpleNamespace

import pytest

from ipsec_dp.cli import completion, main
from ipsec_dp.errors import NoDaemonError

NAMES = ("to-berlin", "to-bern", "office")


def completed(monkeypatch, capsys, words, incomplete):
    """What bash is told, as its script asks it."""
    monkeypatch.setenv("_IPSEC_DP_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", f"{words} {incomplete}")
    monkeypatch.setenv("COMP_CWORD", str(len(words.split())))
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 0
    return [line.split(",", 1)[1] for line in capsys.readouterr().out.splitlines() if line]


@pytest.fixture
def gateway(monkeypatch):
    """One that runs, with tunnels; `asked` holds what it was asked and how long one waited at the most."""
    asked = []

    def ask(control, request, timeout):
        asked.append((control, type(request).__name__, timeout))
        return {"schema": 1, "gateway": "a", "tunnels": [{"name": name} for name in NAMES]}

    monkeypatch.setattr(completion, "ask", ask)
    return SimpleNamespace(asked=asked)


def test_verbs_and_options(monkeypatch, capsys):
    assert completed(monkeypatch, capsys, "ipsec-dp", "sta") == ["status"]
    assert "--watch" in completed(monkeypatch, capsys, "ipsec-dp status", "--w")


@pytest.mark.parametrize("verb", ["status", "initiate", "rekey", "terminate", "unpin"])
def test_a_tunnel_by_its_name(monkeypatch, capsys, gateway, verb):
    assert completed(monkeypatch, capsys, f"ipsec-dp {verb}", "to-b") == ["to-berlin", "to-bern"]
    assert gateway.asked == [(None, "StatusRequest", completion.WAITS_S)]


def test_of_the_gateway_that_is_meant(monkeypatch, capsys, gateway):
    completed(monkeypatch, capsys, "ipsec-dp rekey --control /run/x.sock", "o")
    assert str(gateway.asked[0][0]) == "/run/x.sock"


def test_without_a_gateway_there_are_no_names_and_no_words(monkeypatch, capsys):
    def ask(*_):
        raise NoDaemonError("no gateway runs here")

    monkeypatch.setattr(completion, "ask", ask)
    assert completed(monkeypatch, capsys, "ipsec-dp status", "to") == []
    assert capsys.readouterr().err == ""


def test_each_shell_has_a_script_that_asks_this_program(capsys):
    for shell in completion.SHELLS:
        assert main(["completion", shell]) == 0
        script = capsys.readouterr().out
        assert f"_IPSEC_DP_COMPLETE={shell}_complete" in script
        assert "ipsec-dp" in script
    assert main(["completion", "tcsh"]) == 2


def test_bash_takes_its_script(capsys):
    main(["completion", "bash"])
    bash = shutil.which("bash")
    assert bash is not None
    asked = f"{capsys.readouterr().out}\ncomplete -p ipsec-dp"
    done = subprocess.run((bash, "--norc", "-c", asked), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "ipsec-dp" in done.stdout
