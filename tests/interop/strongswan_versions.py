"""The versions of strongSwan that tests meet: Debian's own, and a newer one, which `make setup-dev` unpacks beside .venv."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ipsec_dp.rig.peers import PeerError

OWN, NEWER = "5.9", "6.1"
VERSIONS = (OWN, NEWER)
NEWER_USR = Path(os.environ.get("IPSEC_DP_STRONGSWAN6", Path(sys.prefix).parent / "build" / "strongswan6" / "usr"))


def usr_of(version: str) -> Path | None:
    """What `Agreement.usr` is for a version. PeerError where it is not there."""
    if version == OWN:
        return None
    if not (NEWER_USR / "sbin" / "swanctl").exists():
        raise PeerError(f"no strongSwan {version} in {NEWER_USR}: `make setup-dev` unpacks it")
    return NEWER_USR
