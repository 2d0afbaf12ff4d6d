"""The policy snapshot as Python holds it before a data plane has it."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from ipsec_dp._native import ffi, lib
from ipsec_dp.dataplane.convert import check, set_selector
from ipsec_dp.errors import DataPlaneError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipsec_dp.dataplane.types import PolicyRule


class Policy:
    """An immutable snapshot of rules; `lookup.lookup` asks it."""

    def __init__(self, rules: Sequence[PolicyRule]) -> None:
        array = ffi.new("struct dp_rule[]", len(rules))
        for c, rule in zip(array, rules, strict=True):
            set_selector(c.selector, rule.selector)
            c.action = rule.action
            c.interface = rule.interface
            c.tunnel = rule.tunnel
        out, bad = ffi.new("struct dp_policy **"), ffi.new("size_t *")
        result = lib.dp_policy_build(array, len(rules), out, bad)
        if result == -errno.EINVAL:
            raise DataPlaneError(errno.EINVAL, f"policy rule {bad[0]} is malformed: {rules[bad[0]]}")
        check(result, "building the policy snapshot")
        self._c = out[0]
        self._owned = ffi.gc(self._c, lib.dp_policy_free)

    @property
    def c(self) -> Any:
        """The C structure. Raises DataPlaneError after `release`."""
        if self._c == ffi.NULL:
            raise DataPlaneError(errno.EBADF, "this policy snapshot belongs to a data plane already")
        return self._c

    @property
    def octets(self) -> int:
        """Memory that the snapshot takes."""
        return int(lib.dp_policy_octets(self.c))

    def release(self) -> Any:
        """Gives the C snapshot away (to `DataPlane.install_policy`)."""
        c = self.c
        ffi.gc(self._owned, None)
        self._c = self._owned = ffi.NULL
        return c
