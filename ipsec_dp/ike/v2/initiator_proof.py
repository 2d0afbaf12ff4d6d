"""An initiator's AUTH for the tunnels that it may be for, each with its PPK (RFC 7296 §2.15, RFC 8784 §3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.ike.auth import AuthenticationError
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.ike.v2 import ppk_auth
from ipsec_dp.ike.v2.peer_proof import PeerProof

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipsec_dp.ike.identity import Identity
    from ipsec_dp.ike.peer import Peer, SharedKeyAuth, SignatureAuth
    from ipsec_dp.ike.ppk import Ppk
    from ipsec_dp.ike.v2.context import Context
    from ipsec_dp.ike.v2.payloads import Authentication
    from ipsec_dp.ike.v2.ppk_auth import PpkVerdict
    from ipsec_dp.ike.v2.sa import ReceivedMessage


def proven(
    context: Context,
    fitting: Sequence[Peer],
    theirs: Identity,
    body: bytes,
    proof: Authentication,
    received: ReceivedMessage,
) -> list[tuple[Peer, Ppk | None]]:
    """Those of the tunnels that AUTH holds for, and by which PPK: several may have one key, or trust one authority. It comes before
    all else. AuthenticationError: for none."""
    checks = _Checks(context, fitting, theirs, body, received)
    found: list[tuple[Peer, Ppk | None]] = []
    refused: AuthenticationError | None = None
    for peer in fitting:
        try:
            verdict = ppk_auth.judge(context, peer, received.message, proof)
            checks.check(peer, verdict)
        except AuthenticationError as error:
            refused = refused or error
        else:
            found.append((peer, verdict.ppk))
    if not found:
        raise refused or AuthenticationError("no tunnel expects it")
    return found


class _Checks:
    """What was asked already is not computed again, and no more than the limit is."""

    def __init__(self, context: Context, fitting: Sequence[Peer], theirs: Identity, body: bytes, received: ReceivedMessage) -> None:
        self._context, self._fitting, self._theirs, self._body, self._received = context, fitting, theirs, body, received
        self._proofs: list[tuple[PpkVerdict, PeerProof]] = []
        self._known: list[tuple[SharedKeyAuth | SignatureAuth, PpkVerdict, AuthenticationError | None]] = []

    def check(self, peer: Peer, verdict: PpkVerdict) -> None:
        """Raises AuthenticationError unless the proof holds for this tunnel."""
        for how, asked, refused in self._known:
            if how.asks_the_same(peer.auth) and asked.asks_the_same(verdict):
                if refused is not None:
                    raise refused
                return
        if len(self._known) == LIMITS.proofs:
            raise AuthenticationError("so many others were asked that this tunnel is not")
        try:
            self._of(verdict).check(peer)
        except AuthenticationError as error:
            told = AuthenticationError(f"{error}{ppk_auth.blamed(verdict.ppk)}")
            self._known.append((peer.auth, verdict, told))
            raise told from None
        self._known.append((peer.auth, verdict, None))

    def _of(self, verdict: PpkVerdict) -> PeerProof:
        for asked, one in self._proofs:
            if asked.asks_the_same(verdict):
                return one
        made = PeerProof(self._context, self._theirs, self._body, verdict.proof, self._received, self._fitting, verdict.ppk)
        self._proofs.append((verdict, made))
        return made
