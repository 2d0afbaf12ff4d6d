"""Whether a peer's AUTH proves who it is, for one tunnel after the other (RFC 7296 §2.15).

What is the same for all of them is computed once. The signature comes before the certificates, since whoever has only seen those of
others has no key for them, and then whether anybody at all vouches for them: so a stranger costs one signature and one look for a
chain, however many sets of authorities there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.ike import auth, certificates
from ipsec_dp.ike.auth import AuthenticationError, method_text
from ipsec_dp.ike.certificates import Revocation, Trust
from ipsec_dp.ike.peer import SharedKeyAuth, SignatureAuth
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.ike.v2 import keymat
from ipsec_dp.ike.v2.cert_payloads import from_payloads
from ipsec_dp.ike.v2.payloads import Certificate

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from cryptography import x509

    from ipsec_dp.ike.certificates import Verified
    from ipsec_dp.ike.identity import Identity
    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ike.ppk import Ppk
    from ipsec_dp.ike.suites import IkeSuite
    from ipsec_dp.ike.v2.context import Context
    from ipsec_dp.ike.v2.keymat import IkeKeys
    from ipsec_dp.ike.v2.payloads import Authentication
    from ipsec_dp.ike.v2.sa import ReceivedMessage


class PeerProof:
    """One AUTH payload with all that belongs to it, for one tunnel after the other."""

    def __init__(
        self,
        context: Context,
        theirs: Identity,
        body: bytes,
        payload: Authentication,
        received: ReceivedMessage,
        tunnels: Sequence[Peer],
        ppk: Ppk | None = None,
    ) -> None:
        """`body`: of the peer's ID payload, which says that it is `theirs`. `tunnels`: those that it may be for. `ppk`: what its
        SK_p is yet to be mixed with (RFC 8784)."""
        keys, suite, role = keys_of(context)
        secret, ni_or_nr = (keys.sk_pr, context.handshake.nonces[0]) if role else (keys.sk_pi, context.handshake.nonces[1])
        secret = secret if ppk is None else keymat.mixed(suite.prf, ppk.key.octets(), secret)
        covered = context.handshake.int_auth.over(received.message.header.message_id)
        self._signed = [auth.signed_octets(suite.prf, first, ni_or_nr, secret, body, covered) for first in _first_messages(context)]
        self._context, self._suite, self._theirs, self._message = context, suite, theirs, received.message
        self._at = context.host.environment.utc(received.now)
        self._proof = auth.Proof(payload.method, payload.data)
        trusts = dict.fromkeys(peer.auth.trust for peer in tunnels if isinstance(peer.auth, SignatureAuth))
        self._trusts = tuple(trusts)[: LIMITS.proofs]  # no others are asked
        self._certificates: tuple[x509.Certificate, ...] = ()
        self._verified: dict[Trust, Verified] = {}
        self._known: dict[Hashable, AuthenticationError | None] = {}

    def check(self, peer: Peer) -> None:
        """Raises AuthenticationError unless it proves, to this tunnel, that the peer is who it says."""
        how = peer.auth
        if isinstance(how, SharedKeyAuth):
            key = how.key
            _verify_one(lambda octets: key.verify(self._suite.prf, octets, self._proof), self._signed)
            return
        if self._proof.method == auth.AuthMethod.SHARED_KEY:
            raise AuthenticationError(f"it authenticates by {method_text(self._proof.method)}, certificates are configured")
        self._once(("signature", how.sha1), lambda: self._check_signature(sha1=how.sha1))
        if len(self._trusts) > 1:
            self._once("anybody", self._check_anybody)
        self._once(how.trust, lambda: self._check_chain(how.trust))
        self._context.ends.certificates = self._certificates
        self._context.ends.hold(self._verified[how.trust])

    def _once(self, what: Hashable, compute: Callable[[], object]) -> None:
        """Computes it the first time; raises what that raised each time."""
        if what not in self._known:
            try:
                compute()
            except AuthenticationError as error:
                self._known[what] = error
            else:
                self._known[what] = None
        refused = self._known[what]
        if refused is not None:
            raise refused

    def _check_signature(self, *, sha1: bool) -> None:
        self._certificates = from_payloads(self._message.all(Certificate))
        key = certificates.key_of(self._certificates)
        _verify_one(lambda octets: auth.verify(key, octets, self._proof, sha1=sha1), self._signed)

    def _check_anybody(self) -> None:
        """Whether one of all authorities vouches for the certificates."""
        authorities = dict.fromkeys(authority for trust in self._trusts for authority in trust.authorities)
        self._check_chain(Trust(tuple(authorities), revocation=Revocation.OFF))

    def _check_chain(self, trust: Trust) -> None:
        self._verified[trust] = certificates.judge(self._certificates, self._theirs, trust, self._at)


def keys_of(context: Context) -> tuple[IkeKeys, IkeSuite, bool]:
    """Keys and algorithms of an IKE SA, and whether we began it. AuthenticationError while there are none."""
    keys, suite = context.sa.keys, context.sa.suite
    if keys is None or suite is None:
        raise AuthenticationError("no keys yet")
    return keys, suite, context.sa.initiator


def _first_messages(context: Context) -> list[bytes]:
    """What the peer's AUTH may be over: its response, or any of its requests that we have answered with ours."""
    if context.sa.initiator:
        return [context.handshake.messages[1]]
    return [request for request in (context.handshake.messages[0], context.handshake.other_request) if request]


def _verify_one(verify: Callable[[bytes], object], signed: list[bytes]) -> None:
    """Raises AuthenticationError unless the proof is over one of `signed`, of which there is one at least."""
    for octets in signed[:-1]:
        try:
            verify(octets)
        except AuthenticationError:
            continue
        return
    verify(signed[-1])
