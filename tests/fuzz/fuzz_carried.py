"""Fuzz target: state that was exported, with anything else in it, is taken whole or refused with one sentence and leaves nothing.

The fuzzer's octets are the model behind the envelope, whose digest it could not make; then as they are, as an envelope.
"""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["ipsec_dp.ike.carried"]):
    from ipsec_dp.ike.carried.carry import import_ike
    from ipsec_dp.ike.carried.envelope import HEAD, enveloped, open_model
    from ipsec_dp.ike.carried.model import MODEL
    from ipsec_dp.ike.carried.part import CarriedStateError
    from ipsec_dp.ike.core import IkeVersions
    from ipsec_dp.ike.environment import Environment

from tests.fuzz import target
from tests.ike.ladder import peer
from tests.ike.v1.gateways import peer as peer_v1

EXAMPLES = Path(__file__).parents[1] / "ike" / "carried" / "examples"
PEERS = [peer("a"), peer_v1("a", tunnel="old")]
DATE = datetime(2026, 1, 1, tzinfo=UTC)


def receive(data: bytes) -> None:
    """Whatever is refused leaves a core that holds nothing; whatever is taken can be asked for its status."""
    with contextlib.suppress(CarriedStateError):
        open_model(data)
    core = IkeVersions(Environment(bytes, lambda _: None, lambda _: DATE), PEERS)
    octets = enveloped(data, MODEL)
    try:
        import_ike(core, octets, 0.0)
    except CarriedStateError:
        assert core.counters().sessions == 0
    else:
        for tunnel in ("to-b", "old"):
            core.status(tunnel, 0.0)
    assert not any(octets)


def seeds() -> Iterator[bytes]:
    for path in sorted(EXAMPLES.glob("*.hex")):
        octets = bytes.fromhex(path.read_text())
        yield octets
        yield octets[HEAD:]


if __name__ == "__main__":
    target.run("carried", receive, seeds(), longest=16_384)
