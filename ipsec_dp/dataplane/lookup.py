"""Policy look-ups of whole batches of flows: for tests, benchmarks and `policy explain`. The loops call the same C function."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ipsec_dp._native import ffi, lib

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ipsec_dp.dataplane.policy import Policy
    from ipsec_dp.ipsec.addresses import Address

# struct dp_flow_key: IPv4 addresses in the first four octets
FLOW = np.dtype(
    [
        ("family", np.uint8),
        ("pad", np.uint8),
        ("protocol", np.uint16),
        ("local_port", np.uint32),
        ("remote_port", np.uint32),
        ("local", np.uint8, (16,)),
        ("remote", np.uint8, (16,)),
    ]
)
if ffi.sizeof("struct dp_flow_key") != FLOW.itemsize:
    raise ImportError("struct dp_flow_key is not laid out as FLOW says")


class Flow(NamedTuple):
    """What a packet shows to the policy. Protocol 256 and port 65536 are OPAQUE; ICMP has type << 8 | code in both ports."""

    local: Address
    remote: Address
    protocol: int
    local_port: int
    remote_port: int


def flow_array(flows: Sequence[Flow]) -> NDArray[np.void]:
    """The flows as an array of FLOW."""
    array = np.zeros(len(flows), FLOW)
    for row, flow in zip(array, flows, strict=True):
        row["family"] = flow.local.version
        row["protocol"] = flow.protocol
        row["local_port"] = flow.local_port
        row["remote_port"] = flow.remote_port
        for name, address in (("local", flow.local), ("remote", flow.remote)):
            packed = address.packed
            row[name][: len(packed)] = np.frombuffer(packed, np.uint8)
    return array


def lookup(policy: Policy, interface: int, flows: NDArray[np.void], *, linear: bool = False) -> NDArray[np.int32]:
    """The index of the rule that decides for each row of FLOW, -1: none. `linear` tries rule by rule instead."""
    if flows.dtype != FLOW or not flows.flags.c_contiguous:
        raise ValueError("flows are no contiguous array of FLOW")
    rules = np.empty(len(flows), np.int32)
    lib.dp_policy_lookup(
        policy.c,
        interface,
        ffi.from_buffer("struct dp_flow_key[]", flows),
        ffi.from_buffer("int32_t[]", rules),
        len(flows),
        linear,
    )
    return rules
