"""hypothesis strategies for everything an IKE message may hold, valid by construction."""

from hypothesis import strategies as st

from ipsec_dp.ike.proposal import Proposal
from ipsec_dp.ike.traffic_selectors import MAX_PORT, TrafficSelector
from ipsec_dp.ike.v2 import payloads as p
from ipsec_dp.ike.v2.message import REPEATABLE, Header, Message
from ipsec_dp.ipsec.transforms import Transform

u8, u16, u32 = st.integers(0, 0xFF), st.integers(0, 0xFFFF), st.integers(0, 0xFFFF_FFFF)
some = st.binary(min_size=1, max_size=64)
transforms = st.builds(
    Transform,
    u8,
    u16,
    st.none() | st.integers(1, 0xFFFF),
    st.lists(
        st.tuples(st.integers(15, 0x7FFF), st.binary(max_size=8))
        | st.tuples(st.integers(0x8000 + 15, 0xFFFF), st.binary(min_size=2, max_size=2)),
        max_size=3,
    ).map(tuple),
)
_spis = st.sampled_from([(1, 0), (1, 8), (2, 4), (3, 4), (77, 3)]).flatmap(
    lambda rule: st.tuples(st.just(rule[0]), st.binary(min_size=rule[1], max_size=rule[1]).map(lambda s: s and b"\x7f" + s[1:]))
)


@st.composite
def sa_payloads(draw):
    count = draw(st.integers(1, 4))
    proposals = []
    for number in range(1, count + 1):
        protocol, spi = draw(_spis)
        proposals.append(Proposal(number, protocol, spi, draw(st.lists(transforms, min_size=1, max_size=5).map(tuple))))
    return p.SecurityAssociation(tuple(proposals))


@st.composite
def selectors(draw):
    version = draw(st.sampled_from([4, 6]))
    top = (1 << (32 if version == 4 else 128)) - 1
    start, end = sorted((draw(st.integers(0, top)), draw(st.integers(0, top))))
    ports = draw(st.just((MAX_PORT, 0)) | st.tuples(u16, u16).map(sorted).map(tuple))
    return TrafficSelector(version, start, end, draw(u8), *ports)


_ids = st.tuples(st.just(1), st.binary(min_size=4, max_size=4)) | st.tuples(st.just(5), st.binary(min_size=16, max_size=16))
_ids |= st.tuples(st.sampled_from([2, 3, 9, 11, 200]), some)
_selector_lists = st.lists(selectors(), min_size=1, max_size=4).map(tuple)
_esp_spi = st.binary(min_size=4, max_size=4)

payloads = st.one_of(
    sa_payloads(),
    st.builds(p.KeyExchangePayload, u16, some),
    _ids.map(lambda i: p.IdentificationInitiator(*i)),
    _ids.map(lambda i: p.IdentificationResponder(*i)),
    st.builds(p.Certificate, u8, some),
    st.builds(p.CertificateRequest, st.just(4), st.integers(0, 3).map(lambda n: bytes(20 * n))),
    st.builds(p.Authentication, u8, some),
    st.builds(p.Nonce, st.binary(min_size=16, max_size=256)),
    st.builds(p.Notify, u16, st.binary(max_size=64)),
    st.builds(p.Notify, u16, st.binary(max_size=64), st.sampled_from([2, 3]), _esp_spi),
    st.just(p.Delete(1)),
    st.builds(p.Delete, st.sampled_from([2, 3]), st.lists(_esp_spi, unique=True, max_size=5).map(tuple)),
    st.builds(p.VendorId, st.binary(max_size=64)),
    st.builds(p.TrafficSelectorsInitiator, _selector_lists),
    st.builds(p.TrafficSelectorsResponder, _selector_lists),
    st.builds(p.Configuration, u8, st.lists(st.tuples(st.integers(0, 0x7FFF), st.binary(max_size=16)), max_size=4).map(tuple)),
    st.builds(p.Eap, st.sampled_from([1, 2]), u8, some),
    st.builds(p.Eap, st.sampled_from([3, 4]), u8),
)


def _once_each(found):
    seen: set[int] = set()
    kept = []
    for payload in found:
        if payload.type in REPEATABLE or payload.type not in seen:
            seen.add(payload.type)
            kept.append(payload)
    return tuple(kept)


chains = st.lists(payloads, max_size=8).map(_once_each)
spis = st.binary(min_size=8, max_size=8)
headers = st.builds(Header, spis.map(lambda s: b"\x01" + s[1:]), spis, u8, u8, u32)
protected = st.builds(p.Encrypted, u8, st.binary(max_size=64)) | st.builds(
    lambda number, more, data: p.EncryptedFragment(35 if number == 1 else 0, number, number + more, data),
    st.integers(1, 60),
    st.integers(0, 60),
    st.binary(max_size=64),
)
messages = st.builds(
    lambda header, chain, last: Message(header, chain + last), headers, chains, st.just(()) | protected.map(lambda s: (s,))
)
