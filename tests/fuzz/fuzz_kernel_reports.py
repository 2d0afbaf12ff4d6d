"""Fuzz target: datagrams of rtnetlink and nfnetlink raise nothing, whatever is in them, and what is read keeps its bounds.

`python -m tests.fuzz.fuzz_kernel_reports` from the top of the repository; `target` says for how long and where findings go.
"""

import atheris

from tests.fuzz import target

with atheris.instrument_imports(include=["ipsec_dp.host"]):
    from ipsec_dp.host.bulk import ROUTE, attribute
    from ipsec_dp.host.changes import Losses, add_losses
    from ipsec_dp.host.nft_reports import NAME_OCTETS, Transaction, add_transactions
    from ipsec_dp.host.requests import HEADER

V4, V6 = 2, 10


def message(kind: int, body: bytes) -> bytes:
    return HEADER.pack(HEADER.size + len(body), kind, 0, 1, 77) + body


ROUTE_HEAD = ROUTE.pack(V4, 24, 0, 0, 252, 229, 0, 7, 0)
SEEDS = (
    b"\0" + message(25, ROUTE_HEAD + attribute(1, bytes([10, 2, 0, 0])) + attribute(15, b"\x18\0\0\xe5")),
    b"\0" + message(33, ROUTE.pack(V6, 0, 0, 0, 252, 0, 0, 1, 2) + attribute(6, bytes(4)) + attribute(21, b"\xe5")),
    b"\0" + message(33, ROUTE.pack(V4, 8, 0, 0, 0, 0, 0, 2, 0) + attribute(1, b"\n\0\0\0") + attribute(24, b"\1\0\2\0")),
    b"\1" + message(0x0A02, b"\1\0\0\5" + attribute(1, b"ipsec_dp_gw\0")) + message(0x0A0F, b"\0\0\0\5" + attribute(3, b"nft\0")),
)


def one(data: bytes) -> None:
    if data[:1] == b"\0":
        losses = Losses()
        add_losses(losses, data[1:])
        assert all(route.protocol in range(256) and 0 <= route.prefix.prefixlen <= 128 for route, _ in losses.routes)
        assert all(rule.version in (4, 6) and 0 <= rule.target < 2**32 and rule.words for rule, _ in losses.rules)
        return
    done: list[Transaction] = []
    begun = add_transactions(done, Transaction(), data[1:])
    for each in (*done, begun):
        assert len(each.program) <= NAME_OCTETS
        assert all(len(name) <= NAME_OCTETS for name in each.tables)


if __name__ == "__main__":
    target.run("kernel_reports", one, SEEDS)
