"""What README.md and `make` tell a newcomer is true: the example is good, the targets exist, the links lead somewhere."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from ipsec_dp.config import load

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
TARGETS = """
    setup setup-dev demo test test-unit test-interop test-netns test-slow mutants asan tsan
    fuzz lint bench bench-strangers bench-tunnel man dist docs clean
""".split()


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_example_configuration_is_good(tmp_path):
    (example,) = re.findall(r"^```toml\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    (tmp_path / "to-b.psk").write_text("0123456789abcdef0123456789abcdef")
    (tmp_path / "to-b.psk").chmod(0o600)
    (tmp_path / "site-a.toml").write_text(example)
    assert [tunnel.name for tunnel in load(tmp_path / "site-a.toml").tunnels] == ["to-b"]


def blocks(heading: str) -> list[str]:
    """The shell commands below a heading."""
    section = README.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)


def test_the_service_s_commands_name_what_there_is():
    """tests/packaging/test_fresh_root.py runs them in a Debian of its own."""
    install, start = blocks("As a service")
    shared = set(re.findall(r"/opt/ipsec-dp/share/ipsec-dp/(\S+)", install))
    assert shared == {"site-a.toml", "ipsec-dp*.service"}
    assert all(list((ROOT / "conf").glob(name)) for name in shared)
    said = subprocess.run(["make", "-n", "setup", "PYTHON=/usr/bin/python3"], cwd=ROOT, capture_output=True, text=True, check=True)
    (needed,) = re.findall(r"packages\.sh install (.*)", said.stdout)
    (named,) = re.findall(r"apt-get install -y --no-install-recommends (.*)", install)
    assert set(needed.split()) <= set(named.split())
    assert "systemctl enable --now ipsec-dp@site-a" in start


def test_make_alone_explains_exactly_the_agreed_targets():
    explained = re.findall(r"^  make (\S+) +\S", make().stdout, re.MULTILINE)
    assert explained == ["help", *TARGETS]


def test_every_make_target_that_the_readme_names_exists():
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE)) <= {*TARGETS, "-"}  # `make -C native`


def test_the_links_lead_to_files_of_the_project():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert [link for link in links if not (ROOT / link).exists()] == []
