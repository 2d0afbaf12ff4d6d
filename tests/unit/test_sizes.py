"""What is large is large for a reason: a file over 400 lines, a class over 25 methods or 18 attributes is named here with its own.

No limit: what belongs together is not cut to come below. It is asked, once, whether it is still one concern.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DIRECTORIES = ("ipsec_dp", "native", "tests", "benchmarks")
LINES, METHODS, ATTRIBUTES = 400, 25, 18

LONG = {
    "benchmarks/strangers_messages.py": "every kind of message of a stranger, with all that it is made of",
    "ipsec_dp/ike/certificates.py": "by what a certificate is believed: files, chain, identity, revocation, in the order of use",
    "ipsec_dp/gateway/composition.py": "who is made of what, part by part",
    "ipsec_dp/services/path_mtu.py": "what is known of paths, who hears of it, and how it goes to another process",
    "ipsec_dp/rig/memory_host.py": "one host in memory: every part of the interface Host",
    "native/inbound.c": "one packet's way in, from the link to the TUN",
    "tests/mutants/run.py": "a program that takes nothing from the tree that it copies",
    "tests/native/test_handover.c": "what one worker hands to another, case by case",
    "tests/native/test_tun_io.c": "what becomes of super-packets that a TUN device refuses, refusal by refusal",
    "tests/netns/test_reload.py": "what each kind of changed key does to a gateway that carries packets",
    "tests/unit/test_dataplane.py": "the interface of the data plane, call by call",
    "tests/unit/test_ike_gate.py": "what passes the gate in a flood, by whom it is from",
    "tests/unit/test_interfaces.py": "the life of an interface, and what others may do to it",
    "tests/unit/test_kernel_watch.py": "what others may do to each part of the kernel's state, and what follows",
    "tests/unit/test_offloads.py": "what is merged and cut on the way in and on the way out, which are looked at side by side",
    "tests/unit/test_outbound.py": "one packet's way out, from the TUN to the wire",
}
LARGE = {
    "ipsec_dp/config/tables.py: Tunnel": "the keys of [[tunnel]], which the schema is made of",
    "ipsec_dp/databases/sad.py: Sad": "a method for each step in the life of an SA, and for what is asked of those that are there",
    "ipsec_dp/dataplane/carried.py: ExportedSa": "all that an SA has used of itself, field by field",
    "ipsec_dp/dataplane/kept.py: KeptPacket": "all that belongs to a packet that waits, field by field",
    "ipsec_dp/dataplane/plane.py: DataPlane": "a method for each call of dp.h",
    "ipsec_dp/ike/core.py: IkeVersions": "the interface IkeCore",
    "ipsec_dp/config/model.py: Config": "a field for each thing that [gateway] and the other tables say",
    "ipsec_dp/gateway/composition.py: Composition": "every part of a gateway, once",
    "ipsec_dp/gateway/gateway.py: Gateway": "its life: up, while it is up, in another process, down",
    "ipsec_dp/gateway/status.py: GatewayStatus": "what `status --json` says of a gateway, field by field",
    "ipsec_dp/keying/initiation.py: Intent": "what may happen to a tunnel that is wanted, and what is asked about it",
    "ipsec_dp/network/interfaces.py: LinuxInterfaces": "the life of an interface, also with others and in another process",
    "ipsec_dp/gateway/status.py: ChildSaStatus": "what `status --json` says of a CHILD_SA, field by field",
    "ipsec_dp/gateway/status.py: TunnelStatus": "what `status --json` says of a tunnel, field by field",
    "ipsec_dp/gateway/upgrade/messages.py: GatewayOffer": "what a successor is to be, field by field",
    "ipsec_dp/ike/interface.py: IkeStatus": "all that is said of an IKE SA, frozen",
    "ipsec_dp/ike/interface.py: IkeCore": "a method for each call of the driver",
    "ipsec_dp/ike/carried/isakmp_model.py: IpsecSaPart": "a pair of IPsec SAs as it is carried, field by field",
    "ipsec_dp/ike/carried/isakmp_model.py: IsakmpSaPart": "one ISAKMP SA as it is carried, field by field",
    "ipsec_dp/ike/carried/model/ike_sas.py: IkeSaPart": "one IKE SA as it is carried, field by field",
    "ipsec_dp/ike/carried/model/children.py: ChildPart": "one CHILD_SA as it is carried, field by field",
    "ipsec_dp/ike/manager.py: IkeManager": "the interface IkeCore, and what is asked of what is carried",
    "ipsec_dp/gateway/trial_answer.py: TrialAnswer": "what `test --json` says, field by field",
    "ipsec_dp/ike/peer.py: Peer": "all that the configuration says of a peer, frozen",
    "ipsec_dp/ike/strangers.py: Limits": "every limit on what is not authenticated, frozen",
    "ipsec_dp/ike/v1/context.py: IsakmpContext": "what handlers may ask of an ISAKMP SA, and change in it",
    "ipsec_dp/ike/v1/manager.py: IsakmpManager": "the interface IkeCore, and what is asked of what is carried",
    "ipsec_dp/ike/v1/sa.py: IpsecSa": "one pair of IPsec SAs with all its times, a value",
    "ipsec_dp/ike/v2/context.py: Context": "what handlers may ask of an IKE SA, and change in it",
    "ipsec_dp/ike/v2/sa.py: Child": "one CHILD_SA as RFC 7296 has it, a value",
    "ipsec_dp/ike/trial.py: NegotiationTrial": "one way through its stages, and what may happen on it",
    "ipsec_dp/ike/wanted.py: Wanted": "what may happen to a proxy ID, and what is asked about it",
    "ipsec_dp/keying/ike_driver.py: IkeDriver": "a method for each thing that may happen, and for each that is asked",
    "ipsec_dp/rig/memory_gateway.py: Gateway": "a method for each thing that a rig's gateway is asked",
    "ipsec_dp/rig/netns_gateway.py: NetnsGateway": "a method for each thing that a rig's gateway is asked",
    "tests/interop/strongswan_meeting.py: Agreement": "all that two peers are configured with, frozen",
    "ipsec_dp/services/path_mtu.py: PathMtuDiscovery": "one tunnel after the other through the same tables",
}


def sources(*endings: str) -> list[Path]:
    return sorted(path for name in DIRECTORIES for ending in endings for path in (ROOT / name).rglob(f"*.{ending}"))


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def is_enumeration(node: ast.ClassDef) -> bool:
    return any(ast.unparse(base).endswith(("Enum", "Flag")) for base in node.bases)


def size(node: ast.ClassDef) -> tuple[int, int]:
    """Methods, and attributes: those of the class and those that a method gives to `self`. An enumeration has values instead."""
    methods = [each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
    attributes = {
        ast.unparse(target)
        for each in node.body
        if isinstance(each, ast.Assign | ast.AnnAssign) and not is_enumeration(node)
        for target in (each.targets if isinstance(each, ast.Assign) else [each.target])
    }
    attributes |= {
        each.attr
        for method in methods
        for each in ast.walk(method)
        if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store) and ast.unparse(each.value) == "self"
    }
    return len(methods), len(attributes - {"__slots__"})


def is_large(node: ast.ClassDef) -> bool:
    methods, attributes = size(node)
    return methods > METHODS or attributes > ATTRIBUTES


def test_a_long_file_is_one_concern():
    found = {named(path): lines for path in sources("py", "c", "h") if (lines := len(path.read_text().splitlines())) > LINES}
    assert {name: lines for name, lines in found.items() if name not in LONG} == {}, f"over {LINES} lines: cut it, or say why not"
    assert LONG.keys() - found.keys() == set(), "no longer long: take it out of the list"
    assert all(LONG.values())


def test_a_large_class_is_one_concern():
    found = {
        f"{named(path)}: {node.name}": size(node)
        for path in sources("py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and is_large(node)
    }
    unknown = {name: sizes for name, sizes in found.items() if name not in LARGE}
    assert unknown == {}, f"over {METHODS} methods or {ATTRIBUTES} attributes: cut it, or say why not"
    assert LARGE.keys() - found.keys() == set(), "no longer large: take it out of the list"
    assert all(LARGE.values())


def class_of(*lines: str, base: str = "object") -> ast.ClassDef:
    (node,) = ast.parse("\n    ".join([f"class C({base}):", *lines])).body
    assert isinstance(node, ast.ClassDef)
    return node


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (class_of("a: int", "b = c = 1", "__slots__ = ()"), (0, 3)),
        (class_of("def __init__(self): self.a, self.b = 1, 2", "async def f(self): self.a += 1; other.d = 3"), (2, 2)),
        (class_of("A = 1", "B = 2", base="IntEnum"), (0, 0)),
    ],
)
def test_a_class_is_measured(node, expected):
    assert size(node) == expected


def test_the_limits_are_met_and_passed():
    assert [is_large(class_of(*(f"a{number} = 0" for number in range(count)))) for count in (ATTRIBUTES, ATTRIBUTES + 1)] == [
        False,
        True,
    ]
    assert [is_large(class_of(*(f"def f{number}(self): ..." for number in range(count)))) for count in (METHODS, METHODS + 1)] == [
        False,
        True,
    ]
