"""Fixtures that several tests of packages share."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.packaging.debian import ROOT
from tests.packaging.fresh_root import OUTSIDE, make


@pytest.fixture(scope="module")
def debootstrap(tmp_path_factory) -> Path:
    """The /usr in which debootstrap is."""
    unpacked = tmp_path_factory.mktemp("debootstrap") / "unpacked"
    subprocess.run([*OUTSIDE, ROOT / "tools/packages.sh", "unpack", unpacked, "debootstrap"], check=True)
    return (unpacked if unpacked.exists() else Path("/")) / "usr"


@pytest.fixture(params=["bookworm"])
def debian(request, debootstrap, tmp_path):
    """A minimal Debian with tools/ in it."""
    made = make(tmp_path / "root", request.param, debootstrap)
    shutil.copytree(ROOT / "tools", made.path / "src/tools")
    yield made
    made.close()
