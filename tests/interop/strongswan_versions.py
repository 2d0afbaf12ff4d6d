"""The versions of strongSwan that tests meet: Debian's own, and a newer one whose /usr is kept below `build` or somewhere else.

Nothing makes that of the newer one yet (`mmdebstrap forky` has it), so what asks for it is marked slow, and is no part of
`make test`.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

OWN = "5.9"
VERSIONS = (OWN, pytest.param("6.1", marks=pytest.mark.slow))
NEWER = Path(os.environ.get("IPSEC_DP_STRONGSWAN6", Path(__file__).parents[2] / "build" / "strongswan6" / "usr"))


def usr_of(version: str) -> Path | None:
    """What `Agreement.usr` is for a version; the test is skipped where it is not there."""
    if version == OWN:
        return None
    if not (NEWER / "sbin" / "swanctl").exists():
        pytest.skip(f"no strongSwan {version} in {NEWER}")
    return NEWER
