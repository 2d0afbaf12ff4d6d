"""The policy snapshot as Python holds it before a data plane has it."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Self

from ipsec_dp._native import ffi, lib
from ipsec_dp.dataplane.convert import check, selector_of, set_selector
from ipsec_dp.dataplane.types import Action, PolicyRule
from ipsec_dp.errors import DataPlaneError

if TYPE_CHECKING:
    from collections.abc import Sequence

RULE_OCTETS = ffi.sizeof("struct dp_rule")


def pack_rule(rule: PolicyRule) -> bytes:
    """A rule as the C core has it, RULE_OCTETS long: what `Policy.of_packed` takes any number of."""
    c = ffi.new("struct dp_rule *")
    set_selector(c.selector, rule.selector)
    c.action, c.interface, c.tunnel = rule.action, rule.interface, rule.tunnel
    return bytes(ffi.buffer(c))


def unpack_rules(packed: bytes) -> tuple[PolicyRule, ...]:
    """The rules that were packed. ValueError: octets that are no whole number of rules."""
    array = ffi.from_buffer("struct dp_rule[]", packed)
    if len(array) * RULE_OCTETS != len(packed):
        raise ValueError(f"{len(packed)} octets are no rules of {RULE_OCTETS}")
    return tuple(PolicyRule(selector_of(c.selector), Action(c.action), c.interface, c.tunnel) for c in array)


class Policy:
    """An immutable snapshot of rules; `lookup.lookup` asks it."""

    def __init__(self, rules: Sequence[PolicyRule]) -> None:
        self._build(b"".join(map(pack_rule, rules)), rules)

    @classmethod
    def of_packed(cls, packed: bytes) -> Self:
        """From rules that `pack_rule` made, one behind the other. The work is done without the interpreter's lock."""
        policy = cls.__new__(cls)
        policy._build(packed)
        return policy

    def _build(self, packed: bytes, rules: Sequence[PolicyRule] = ()) -> None:
        out, bad = ffi.new("struct dp_policy **"), ffi.new("size_t *")
        result = lib.dp_policy_build(ffi.from_buffer("struct dp_rule[]", packed), len(packed) // RULE_OCTETS, out, bad)
        if result == -errno.EINVAL:
            raise DataPlaneError(errno.EINVAL, f"policy rule {bad[0]} is malformed: {rules[bad[0]] if rules else 'packed'}")
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
