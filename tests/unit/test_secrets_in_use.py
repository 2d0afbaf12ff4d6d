"""`check` says who will read the files that a configuration names."""

from __future__ import annotations

import os

import pytest

from ipsec_dp.cli import main
from ipsec_dp.cli.secrets_in_use import how_read
from ipsec_dp.config import load
from ipsec_dp.util.service_user import service_user
from tests.doubles.served_root import CONFIG


@pytest.fixture
def config(tmp_path):
    (tmp_path / "t.psk").write_text("a secret of sufficient length for everybody")
    (tmp_path / "t.psk").chmod(0o600)
    (tmp_path / "a.toml").write_text(CONFIG.format("t.psk"))
    return load(tmp_path / "a.toml")


def test_root_is_told_of_the_helper_and_what_a_service_takes(config, tmp_path):
    text = str(how_read(config, 0, {}))
    assert "`up` of root has a helper that opens them" in text
    assert f"1 of 1 must be credentials: LoadCredential=ipsec-dp:{tmp_path}" in text


def test_what_a_service_may_read_takes_no_credential(config, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    os.chown(tmp_path / "t.psk", service_user().uid, -1)
    for path in (tmp_path, *tmp_path.parents):
        if not path.stat().st_mode & 0o001:
            path.chmod(path.stat().st_mode | 0o001)
    assert how_read(config, 0, {}) == "its files: user ipsec-dp may read them all"


def test_whoever_else_runs_it_reads_them(config):
    assert "read by user 1000" in str(how_read(config, 1000, {}))


def test_a_service_is_told_how_many_are_its_credentials(config, tmp_path):
    (tmp_path / "credentials").mkdir()
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")}
    assert "0 of 1 are credentials" in str(how_read(config, 1000, environment))
    (tmp_path / "credentials/ipsec-dp_t.psk").write_text("secret")
    assert "1 of 1 are credentials" not in str(how_read(config, 1000, {}))
    (tmp_path / "credentials/t.psk").write_text("secret")
    assert "1 of 1 are credentials" in str(how_read(config, 1000, environment))


def test_check_says_it_beside_the_result(config, capsys):
    assert main(["check", str(config.path)]) == 0
    good, files, ports = capsys.readouterr().out.splitlines()
    assert "good: 1 tunnel" in good
    assert files.startswith("its files: ")
    assert ports.endswith("let UDP ports 500 and 4500 pass")
