"""What a gateway answers to IKE_SA_INIT: whether it speaks IKEv2, with what, and what it says of itself.

The first question is a whole request, by which a responder that accepts it makes a half-open IKE SA and forgets it half a minute
later. The others, one for each key exchange and encryption, carry a public value of a method that they do not offer: a responder
that takes the proposal asks for the right one (INVALID_KE_PAYLOAD, RFC 7296 §1.2) and keeps and computes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike import dh, negotiation, suites
from ipsec_dp.ike.actions import NO_SPI
from ipsec_dp.ike.auth import hash_algorithms_data
from ipsec_dp.ike.errors import IkeError
from ipsec_dp.ike.nat import detect, detection_hash
from ipsec_dp.ike.proposal import Proposal, ProtocolId, default_ike, parse_ike
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.ike.survey import Question
from ipsec_dp.ike.v2 import payloads as p
from ipsec_dp.ike.v2.errors import Ikev1MessageError, InvalidMajorVersionError
from ipsec_dp.ike.v2.groups import groups_of
from ipsec_dp.ike.v2.message import Header, Message, build_message, parse_message
from ipsec_dp.ike.v2.refusals import errors_in
from ipsec_dp.ike.v2.sa import nonce, nonzero_spi
from ipsec_dp.ike.v2.wire import IKE_SPI, MAX_COOKIE, ExchangeType, Flag, NotifyType
from ipsec_dp.ipsec import iana
from ipsec_dp.ipsec.transforms import ENCRYPTIONS, GROUP_OF_ID, GROUPS, INTEGRITIES, PRFS, Encryption, Group

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipsec_dp.ike.actions import Path
    from ipsec_dp.ike.environment import Rng
    from ipsec_dp.ike.nat import NatSides
    from ipsec_dp.ike.survey import Interview

VENDORS_MOST: Final = 8  # vendor IDs that are kept
_AEADS: Final = tuple(each for each in ENCRYPTIONS if each.is_aead)
_OTHERS: Final = tuple(each for each in ENCRYPTIONS if not each.is_aead)
_GROUPS: Final = tuple(sorted(GROUPS, key=lambda one: (one.legacy, -one.id)))  # those that one would like first


@dataclass(slots=True)
class Ikev2Found:
    """What is known of a gateway by IKEv2. None: nothing is. `accepts`: by keyword, whether it takes a key exchange or an
    encryption; those that it did not answer are left out."""

    spoken: bool = False
    says: str = ""  # what came instead
    suite: str | None = None  # that it chose of ours, its first choice
    legacy: bool = False  # only of what RFC 8247 calls SHOULD NOT
    wants_group: str | None = None  # before it was asked with that
    cookie: bool = False
    fragmentation: bool = False
    signature_hashes: bool = False
    intermediate: bool = False
    childless: bool = False
    certificates: bool = False  # it asks for them
    nat: NatSides | None = None  # None: it does not look for one
    vendors: list[bytes] = field(default_factory=list)
    accepts: dict[str, bool] = field(default_factory=dict)
    nat_port: bool = False  # it answers on port 4500


class Ikev2Survey:
    """`path` is that of the questions to port 500. `found` fills while it goes on."""

    def __init__(self, path: Path, rng: Rng) -> None:
        self.found = Ikev2Found()
        self._path, self._rng = path, rng

    def interview(self) -> Interview:
        """Everything, from the first question on; nothing further where nobody speaks IKEv2."""
        for legacy in (False, True):
            proposals = _made_of(GROUPS, ENCRYPTIONS) if legacy else parse_ike(default_ike())
            yield from self._whole(proposals)
            if not self.found.spoken:
                return
            if self.found.suite is not None:
                self.found.legacy = legacy
                break
        for group in _GROUPS:
            yield from self._about(group.keyword, group)
        taken = next((group for group in _GROUPS if self.found.accepts.get(group.keyword)), None)
        if taken is not None:
            for encryption in ENCRYPTIONS:
                yield from self._about(encryption.keyword, taken, encryption)
        yield from self._about("", _GROUPS[0], natt=True)

    # ---- the whole request

    def _whole(self, proposals: tuple[Proposal, ...]) -> Interview:
        spi, own_nonce, cookie = nonzero_spi(self._rng), nonce(self._rng), b""
        key = dh.initiate(groups_of(proposals)[0], self._rng)
        for _ in range(LIMITS.rounds + 1):
            answer = yield self._question(spi, proposals, (key.group, key.public), own_nonce, cookie)
            message = self._read(answer)
            if message is None:
                return
            asked, other = message.notify(NotifyType.COOKIE), message.notify(NotifyType.INVALID_KE_PAYLOAD)
            if asked is not None and 0 < len(asked.data) <= MAX_COOKIE:
                self.found.cookie, cookie = True, asked.data
                continue
            wanted = None if other is None else GROUP_OF_ID.get(int.from_bytes(other.data[:2], "big"))
            if wanted is not None and wanted in groups_of(proposals) and wanted != key.group:
                self.found.wants_group = wanted.keyword
                key = dh.initiate(wanted, self._rng)
                continue
            self._note(message, proposals)
            return

    def _read(self, answer: bytes | None) -> Message | None:
        """None: nothing that IKEv2 could go on with."""
        if answer is None:
            return None
        try:
            message = parse_message(answer)
        except Ikev1MessageError:
            self.found.says = "it answers IKEv2 by IKEv1"
        except InvalidMajorVersionError as error:
            self.found.says = f"it answers with {error}"
        except IkeError as error:
            self.found.says = f"its answer cannot be read: {error}"
        else:
            if not message.header.is_response or NotifyType.INVALID_MAJOR_VERSION in errors_in(message):
                self.found.says = "it refuses the version: INVALID_MAJOR_VERSION"
                return None
            self.found.spoken = True
            return message
        return None

    def _note(self, message: Message, proposals: tuple[Proposal, ...]) -> None:
        found = self.found
        found.says = ", ".join(iana.notify_text(kind) for kind in errors_in(message)[:VENDORS_MOST])
        sa = message.get(p.SecurityAssociation)
        if sa is not None:
            try:
                found.suite = str(suites.ike_suite(negotiation.accept(proposals, sa.proposals)))
            except IkeError as error:
                found.says = f"its choice cannot be used: {error}"
        found.fragmentation |= message.notify(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED) is not None
        found.signature_hashes |= message.notify(NotifyType.SIGNATURE_HASH_ALGORITHMS) is not None
        found.intermediate |= message.notify(NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED) is not None
        found.childless |= message.notify(NotifyType.CHILDLESS_IKEV2_SUPPORTED) is not None
        found.certificates |= message.get(p.CertificateRequest) is not None
        found.vendors += [one.data for one in message.all(p.VendorId) if one.data not in found.vendors]
        del found.vendors[VENDORS_MOST:]
        self._note_nat(message)

    def _note_nat(self, message: Message) -> None:
        sources = [one.data for one in message.all(p.Notify) if one.notify_type == NotifyType.NAT_DETECTION_SOURCE_IP]
        destination = message.notify(NotifyType.NAT_DETECTION_DESTINATION_IP)
        spis = message.header.spi_i, message.header.spi_r
        nat = detect(*spis, self._path, sources, None if destination is None else destination.data)
        self.found.nat = nat.sides if nat.supported else self.found.nat

    # ---- the others

    def _about(self, name: str, group: Group, encryption: Encryption | None = None, *, natt: bool = False) -> Interview:
        """Whether it takes them. With the public value of another method."""
        spi, own_nonce, cookie = nonzero_spi(self._rng), nonce(self._rng), b""
        offered = _made_of((group,), ENCRYPTIONS if encryption is None else (encryption,))
        wrong = next(each for each in _GROUPS if each is not group)
        key = wrong, dh.initiate(wrong, self._rng).public
        for _ in range(LIMITS.rounds):
            answer = yield self._question(spi, offered, key, own_nonce, cookie, natt=natt)
            message = self._read(answer)
            if message is None:
                return
            asked = message.notify(NotifyType.COOKIE)
            if asked is None or not 0 < len(asked.data) <= MAX_COOKIE:
                break
            self.found.cookie, cookie = True, asked.data
        else:
            return
        self.found.nat_port |= natt
        errors = errors_in(message)
        takes = NotifyType.INVALID_KE_PAYLOAD in errors or message.get(p.SecurityAssociation) is not None
        if name and (takes or NotifyType.NO_PROPOSAL_CHOSEN in errors):
            self.found.accepts[name] = takes

    def _question(
        self,
        spi: bytes,
        proposals: tuple[Proposal, ...],
        key: tuple[Group, bytes],
        own_nonce: bytes,
        cookie: bytes,
        *,
        natt: bool = False,
    ) -> Question:
        local, remote = self._path.local, self._path.remote
        header = Header(spi, NO_SPI, ExchangeType.IKE_SA_INIT, Flag.INITIATOR, 0)
        payloads: list[p.Payload] = [
            *([p.Notify(NotifyType.COOKIE, cookie)] if cookie else []),
            p.SecurityAssociation(proposals),
            p.KeyExchangePayload(key[0].id, key[1]),
            p.Nonce(own_nonce),
            p.Notify(NotifyType.NAT_DETECTION_SOURCE_IP, detection_hash(spi, NO_SPI, local)),
            p.Notify(NotifyType.NAT_DETECTION_DESTINATION_IP, detection_hash(spi, NO_SPI, remote)),
            p.Notify(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED),
            p.Notify(NotifyType.SIGNATURE_HASH_ALGORITHMS, hash_algorithms_data()),
            p.Notify(NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED),
        ]
        return Question(build_message(Message(header, tuple(payloads))), lambda datagram: datagram[:IKE_SPI] == spi, natt)


def _made_of(groups: Sequence[Group], encryptions: Sequence[Encryption]) -> tuple[Proposal, ...]:
    """These, with every PRF and integrity that there is."""
    found: list[Proposal] = []
    for ciphers, further in ((_AEADS, PRFS), (_OTHERS, (*PRFS, *INTEGRITIES))):
        chosen = [each for each in ciphers if each in encryptions]
        if chosen:
            transforms = tuple(each.transform for each in (*chosen, *further, *groups))
            found.append(Proposal(len(found) + 1, ProtocolId.IKE, b"", transforms))
    return tuple(found)
