"""The .deb: its fields and files, and the program in it, without installing it.

It is made here of the extension that is built in place, and unpacked below a directory. tests/packaging/test_debian_root.py builds
it by `make dist`, asks lintian, and installs and removes it on a Debian of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import ipsec_dp
from tools import deb

ROOT = Path(__file__).resolve().parents[2]
WHEN = 1_700_000_000
REQUIRED = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
EXAMPLE = "usr/share/ipsec-dp/site-a.toml"
UNITS = "lib/systemd/system"


def wheel(path: Path) -> Path:
    """What `python -m build` makes of this tree, without compiling."""
    about = f"ipsec_dp-{ipsec_dp.__version__}"
    made = path / f"{about}-cp311-abi3-linux_x86_64.whl"
    stripped = path / "_native.abi3.so"  # as `make dist` links it
    subprocess.run(["strip", "-o", stripped, ROOT / "ipsec_dp" / stripped.name], check=True)
    with zipfile.ZipFile(made, "w") as archive:
        for file in sorted((ROOT / "ipsec_dp").rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts and file.suffix != ".so":
                archive.write(file, file.relative_to(ROOT))
        for file in sorted((ROOT / "conf").rglob("*")):
            if file.is_file():
                archive.write(file, f"{about}.data/data/share/ipsec-dp/{file.relative_to(ROOT / 'conf')}")
        archive.write(ROOT / "tools/ipsec-dp", f"{about}.data/scripts/ipsec-dp")
        archive.write(stripped, "ipsec_dp/_native.abi3.so")
        archive.writestr(f"{about}.dist-info/METADATA", "".join(f"Requires-Dist: {text}\n" for text in REQUIRED))
        archive.writestr(f"{about}.dist-info/direct_url.json", json.dumps({"url": str(ROOT)}))
    return made


def built(path: Path) -> Path:
    path.mkdir()
    return deb.make(wheel(path), path / "work", path, WHEN, "none")


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    return built(tmp_path_factory.mktemp("deb") / "first")


@pytest.fixture(scope="module")
def root(package, tmp_path_factory) -> Path:
    """What is in it, below a directory with this machine's own python3."""
    path = tmp_path_factory.mktemp("root") / "root"
    subprocess.run(["dpkg-deb", "-x", package, path], check=True)
    (path / "usr/bin/python3").symlink_to("/usr/bin/python3")
    return path


def fields(package: Path) -> dict[str, str]:
    said = subprocess.run(["dpkg-deb", "-f", package], capture_output=True, text=True, check=True).stdout
    return dict(re.findall(r"^(\S+): (.*)$", said, re.MULTILINE))


def scripts(package: Path, to: Path) -> dict[str, str]:
    subprocess.run(["dpkg-deb", "-e", package, to], check=True)
    return {file.name: file.read_text() for file in to.iterdir()}


def test_it_says_what_it_needs_and_takes_the_libraries_of_the_system(package):
    said = fields(package)
    assert (said["Package"], said["Version"]) == ("ipsec-dp", f"{ipsec_dp.__version__}-{deb.REVISION}")
    depends = {text.split()[0]: text for text in said["Depends"].split(", ")}
    assert {"python3", "libssl3", "libc6", "nftables", "adduser"} <= depends.keys()
    assert f"python3 (<< 3.{sys.version_info[1] + 1})" in said["Depends"], "extensions of Python packages are for one version of it"
    assert int(said["Installed-Size"]) > 10_000


def test_what_is_in_it_belongs_to_root_and_bears_no_path_of_the_builder(package, root):
    listed = subprocess.run(["dpkg-deb", "-c", package], capture_output=True, text=True, check=True).stdout
    assert {line.split()[1] for line in listed.splitlines()} == {"root/root"}
    assert {line.split()[0][0] for line in listed.splitlines()} <= {"-", "d", "l"}
    for file in root.rglob("*"):
        if file.is_symlink():
            assert file == root / "usr/bin/python3" or not file.readlink().is_absolute()
        elif file.is_file():
            assert not file.stat().st_mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IWGRP | stat.S_IWOTH)
            assert file.suffix != ".pyc", "policy: they are compiled where they are installed"
            if file.suffix != ".md":
                assert os.fsencode(ROOT) not in file.read_bytes(), file
    assert stat.S_IMODE((root / "etc/ipsec-dp").stat().st_mode) == 0o700


def test_every_file_has_its_sum_but_conffiles_which_have_their_list(package, root, tmp_path):
    control = scripts(package, tmp_path / "control")
    sums = dict(line.split("  ")[::-1] for line in control["md5sums"].splitlines())
    files = {str(file.relative_to(root)) for file in root.rglob("*") if file.is_file() and not file.is_symlink()}
    conffiles = {line.removeprefix("/") for line in control["conffiles"].splitlines()}
    assert conffiles == {"etc/ipsec-dp/README"}
    assert sums.keys() == files - conffiles
    assert sums[EXAMPLE] == hashlib.md5((root / EXAMPLE).read_bytes(), usedforsecurity=False).hexdigest()


def test_installing_starts_and_enables_nothing_and_only_purging_takes_keys(package, root, tmp_path):
    control = scripts(package, tmp_path / "control")
    assert not re.search(r"systemctl (.* )?(start|enable|\S*restart)\b|deb-systemd|update-rc|invoke-rc", control["postinst"])
    assert not list(root.glob("etc/systemd/**/*"))
    units = {path.name for path in (root / "lib/systemd/system").iterdir()}
    assert units == {path.name for path in (ROOT / "conf").glob("*.service")}
    removal, _, purge = control["postrm"].partition('"$1" = purge')
    assert "/etc/ipsec-dp" not in control["prerm"] + removal
    assert "rm -rf /etc/ipsec-dp /var/lib/ipsec-dp" in purge
    for name in deb.MAINTAINER_SCRIPTS:
        subprocess.run(["sh", "-n", tmp_path / "control" / name], check=True)
        assert (tmp_path / "control" / name).stat().st_mode & 0o111


SYSTEMCTL = """#!/bin/sh
echo "$*" >> "$SAID"
case "$*" in
*list-units*) printf 'ipsec-dp@a.service loaded active running a gateway\\nipsec-dp@b.service loaded reloading reload b\\n' ;;
*a.service*) exit 1 ;;
esac
"""


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ((), ["--system daemon-reload"]),
        (
            ("0.0.9-1",),
            [
                "--system daemon-reload",
                "list-units --plain --no-legend --full --state=active,reloading ipsec-dp.service ipsec-dp@*.service",
                "--no-block reload ipsec-dp@a.service",
                "--no-block reload ipsec-dp@b.service",
            ],
        ),
    ],
    ids=["first", "upgrade"],
)
def test_gateways_that_run_are_asked_to_go_on_by_the_new_program_and_no_other(tmp_path, before, said):
    """One that refuses hinders neither the others nor the installation."""
    script = tmp_path / "postinst"
    script.write_text((deb.HERE / "postinst").read_text().replace("/run/systemd/system", str(tmp_path)))
    for name, text in {"systemctl": SYSTEMCTL, "systemd-sysusers": "#!/bin/sh\n", "py3compile": "#!/bin/sh\n"}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    around = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SAID": str(tmp_path / "said")}
    subprocess.run(["sh", script, "configure", *before], env=around, check=True)
    assert (tmp_path / "said").read_text().splitlines() == said


def test_a_unit_that_reloads_has_the_gateway_do_it(root):
    """Which lets another program that is installed go on; the gateway is to tell who that is."""
    units = [path.read_text() for path in (root / UNITS).glob("ipsec-dp*.service") if "guard" not in path.name]
    assert len(units) == 2
    for text in units:
        assert "\nType=notify\n" in text
        assert "\nExecReload=/bin/sh -c 'kill -HUP \"$$MAINPID\"'\n" in text


def test_the_user_is_that_of_the_units_by_one_definition(package, root, tmp_path):
    users = root / "usr/lib/sysusers.d/ipsec-dp.conf"
    assert users.read_text() == (ROOT / "conf/ipsec-dp.sysusers").read_text()
    assert not (root / "usr/share/ipsec-dp/ipsec-dp.sysusers").exists()
    control = scripts(package, tmp_path / "control")
    assert "systemd-sysusers ipsec-dp.conf\n" in control["postinst"]
    assert not re.search(r"\b(adduser|useradd)\b", control["postinst"])
    assert "systemd-standalone-sysusers" in control["control"]
    units = (root / "lib/systemd/system").glob("ipsec-dp*.service")
    named = {name for unit in units for name in re.findall(r"^User=(.+)$", unit.read_text(), re.MULTILINE)}
    assert named == {re.findall(r"^u (\S+)", users.read_text(), re.MULTILINE)[0]}


@pytest.mark.root
@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="no systemd-sysusers")
def test_the_user_has_no_home_and_no_shell(root, tmp_path):
    """As systemd makes it of the definition."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "usr/lib/sysusers.d").mkdir(parents=True)
    shutil.copy(root / "usr/lib/sysusers.d/ipsec-dp.conf", tmp_path / "usr/lib/sysusers.d")
    subprocess.run(["systemd-sysusers", f"--root={tmp_path}", "ipsec-dp.conf"], check=True, capture_output=True)
    (line,) = (tmp_path / "etc/passwd").read_text().splitlines()
    name, _, number, _, gecos, home, shell = line.split(":")
    assert (name, gecos, home, shell) == ("ipsec-dp", "ipsec_dp gateways", "/nonexistent", "/usr/sbin/nologin")
    assert 0 < int(number) < 1000


def test_manuals_and_completion_come_in_where_they_were_made(tmp_path, monkeypatch):
    made = tmp_path / "build"
    for name in ("man/ipsec-dp.1", "completion/ipsec-dp", "completion/_ipsec-dp", "completion/ipsec-dp.fish"):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(name)
    monkeypatch.setattr(deb, "ROOT", tmp_path)
    deb.generated(tmp_path / "root")
    assert {str(file.relative_to(tmp_path / "root")) for file in (tmp_path / "root").rglob("*") if file.is_file()} == {
        "usr/share/man/man1/ipsec-dp.1.gz",
        "usr/share/bash-completion/completions/ipsec-dp",
        "usr/share/zsh/vendor-completions/_ipsec-dp",
        "usr/share/fish/vendor_completions.d/ipsec-dp.fish",
    }


def test_the_program_runs_from_there_with_what_it_brings_and_nothing_else(root, tmp_path):
    (tmp_path / "ipsec_dp").mkdir()
    (tmp_path / "ipsec_dp/__init__.py").write_text("raise SystemExit('imported from where somebody stood')")
    program = root / "usr/bin/ipsec-dp"
    said = subprocess.run([program, "version", "--json"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    libraries = {each["name"]: each for each in json.loads(said)["libraries"]}
    assert not libraries["libcrypto"]["bundled"]
    assert Path(libraries["libcrypto of cryptography"]["file"]).is_relative_to(root)
    (tmp_path / "to-b.psk").touch(mode=0o600)
    (tmp_path / "to-b.psk").write_text("0123456789abcdef0123456789abcdef")
    (tmp_path / "site-a.toml").write_text((root / EXAMPLE).read_text())
    checked = subprocess.run([program, "check", "site-a.toml"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "good: 1 tunnel" in checked.stdout
    python = root / "usr/lib/ipsec-dp/bin/python3"
    every = (
        "import numpy, cffi, msgspec, cryptography.x509, pyroute2, pytun, rich, click, prometheus_client, sys; print(sys.path[1:])"
    )
    paths = subprocess.run([python, "-P", "-c", every], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "dist-packages" not in paths


def test_two_builds_are_the_same_octets(package, tmp_path):
    again = built(tmp_path / "again")
    assert (again.name, hashlib.sha256(again.read_bytes()).digest()) == (
        package.name,
        hashlib.sha256(package.read_bytes()).digest(),
    )
