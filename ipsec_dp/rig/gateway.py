"""The former place of `ipsec_dp.rig.plane`. Its `Gateway` is `PlaneRig` now; `ipsec_dp.rig.Gateway` is a whole gateway.

What was here can still be imported from here in this release, `Gateway` with a DeprecationWarning.
"""

from __future__ import annotations

import warnings

from ipsec_dp.ipsec.selectors import SelectorPair
from ipsec_dp.rig.plane import INNER, NAT_T_PORT, OUTER, Pair, PlaneRig, keymat, pair, selector, selectors_of

__all__ = ["INNER", "NAT_T_PORT", "OUTER", "Pair", "SelectorPair", "keymat", "pair", "selector", "selectors_of"]


def __getattr__(name: str) -> type[PlaneRig]:
    if name == "Gateway":
        warnings.warn("the Gateway of this module is ipsec_dp.rig.plane.PlaneRig now", DeprecationWarning, stacklevel=2)
        return PlaneRig
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
