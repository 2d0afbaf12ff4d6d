"""Identities as text: what a peer sends is printed so that it reads back as the same, and names are read as people write them."""

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from ipsec_dp.ike.identity import Identity, IdentityError, IdType
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.util.text import shown

# --- distinguished names as people write them -------------------------------------------------------------------------

ORG = ("2.5.4.10", "Org")
NAMES = {
    'O="Acme, Inc", CN=x': [[("2.5.4.10", "Acme, Inc")], [("2.5.4.3", "x")]],
    r'CN="say \"hello\"", O=Org': [[("2.5.4.3", 'say "hello"')], [ORG]],
    "/O=Org/CN=x": [[ORG], [("2.5.4.3", "x")]],
    "/O=Acme, Inc/CN=IKE/gw.example": [[("2.5.4.10", "Acme, Inc")], [("2.5.4.3", "IKE/gw.example")]],
    "/O=Org+CN=a+b/CN=x": [[ORG, ("2.5.4.3", "a+b")], [("2.5.4.3", "x")]],
    "CN=a+O=Org, CN=b": [[("2.5.4.3", "a"), ORG], [("2.5.4.3", "b")]],
    "2.5.4.10=Org, oid.2.5.4.3=x, 1.2.3.4=y": [[ORG], [("2.5.4.3", "x")], [("1.2.3.4", "y")]],
    r"O=Org, CN=\ x\ ": [[ORG], [("2.5.4.3", " x ")]],
    r"CN=\#x\2b\c3\a9": [[("2.5.4.3", "#x+é")]],
    "CN=#0c0178 , O=Org": [[("2.5.4.3", "x")], [ORG]],
    "CN = x ;O= Org": [[("2.5.4.3", "x")], [ORG]],
    "E=a@b.example, GN=Eva, EMAIL=c@d.example": [
        [("1.2.840.113549.1.9.1", "a@b.example")],
        [("2.5.4.42", "Eva")],
        [("1.2.840.113549.1.9.1", "c@d.example")],
    ],
}


@pytest.mark.parametrize("text", NAMES)
def test_a_name_as_people_write_it(text):
    name = x509.Name(
        [
            x509.RelativeDistinguishedName([x509.NameAttribute(x509.ObjectIdentifier(oid), value) for oid, value in rdn])
            for rdn in NAMES[text]
        ]
    )
    read = Identity.from_text(text)
    assert read.data == name.public_bytes()
    assert Identity.from_text(str(read)) == read


NO_NAMES = ["CN=x,", ",CN=x", "CN=", "CN=x, y", 'CN="x" y', "CN=#0c01", "CN=#0203010203", "CN=x+", "/=", "/x=", "/CN=", "CN=a, CN"]
NO_NAMES += [r"CN=\ff", "CN=x+CN=x", "9.9.9.9=x"]


@pytest.mark.parametrize("text", NO_NAMES)
def test_what_is_no_name_is_refused(text):
    with pytest.raises(IdentityError):
        Identity.from_text(text)


# --- from the wire to text and back -----------------------------------------------------------------------------------

printable = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=40).map(str.encode)
no_controls = st.binary(min_size=1, max_size=60).map(lambda octets: bytes(each for each in octets if each >= 0x20 and each != 0x7F))
awkward = st.sampled_from(
    [
        b"any",
        b"0xff",
        b"@gw",
        b"@@a",
        b"@#00",
        b"fqdn:x",
        b"keyid:x",
        b"dn:CN=x",
        b"type 2:0x67",
        b"10.0.0.1",
        b"::1",
        b"CN=x",
        b"*",
    ]
)
tricky = st.from_regex(r"[a-z.@=:*%\"\\,/+#]{1,12}", fullmatch=True).map(str.encode)
words = printable | no_controls.filter(bool) | awkward | tricky


def tlv(tag, content):
    size = len(content)
    length = bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2, "big") if size > 255 else bytes([0x81, size])
    return bytes([tag]) + length + content


OIDS = ("0603550403", "060355040a", "0603550406", "060a0992268993f22c640119", "06092a864886f70d010901", "06042a030405")
CODECS = {0x0C: "utf-8", 0x12: "ascii", 0x13: "ascii", 0x14: "latin-1", 0x16: "ascii", 0x1C: "utf-32-be", 0x1E: "utf-16-be"}
NO_STRINGS = (0x02, 0x03)  # INTEGER, BIT STRING
strings = st.text(max_size=12) | st.text(' ,+"\\<>;#=/*aé\n\x00', max_size=8) | st.sampled_from(["DE", "Acme, Inc", "x"])


@st.composite
def names(draw):
    """DER of a Name: every string type, attributes that nobody knows, several in an RDN, and values that are no strings."""

    def attribute():
        tag = draw(st.sampled_from([*CODECS, *NO_STRINGS]))
        if tag in CODECS:
            content = draw(strings).encode(CODECS[tag], errors="replace")
        else:
            content = b"\0" + draw(st.binary(min_size=1, max_size=4))
        return tlv(0x30, bytes.fromhex(draw(st.sampled_from(OIDS))) + tlv(tag, content))

    rdns = [sorted({attribute() for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3])))}) for _ in range(draw(st.integers(0, 4)))]
    return tlv(0x30, b"".join(tlv(0x31, b"".join(rdn)) for rdn in rdns))


wire = (
    st.tuples(st.just(IdType.IPV4_ADDR), st.binary(min_size=4, max_size=4))
    | st.tuples(st.just(IdType.IPV6_ADDR), st.binary(min_size=16, max_size=16))
    | st.tuples(st.sampled_from([IdType.FQDN, IdType.RFC822_ADDR]), words)
    | st.tuples(st.just(IdType.KEY_ID), words | st.binary(min_size=1, max_size=60))
    | st.tuples(st.sampled_from([0, 4, 10, 12, 255]), st.binary(min_size=1, max_size=20))
    | st.tuples(st.just(IdType.DER_ASN1_DN), names())
)


@settings(max_examples=600, deadline=None)
@given(wire)
def test_what_is_printed_reads_back_as_the_same_identity(received):
    try:
        identity = Identity.from_wire(*received)
    except IdentityError:
        assert received[0] == IdType.DER_ASN1_DN  # octets that are no string of their type
        return
    text = identity.text()
    assert text.isprintable()
    assert shown(text, len(text)) == text
    read = Identity.from_text(text)
    assert read.matches(identity)
    assert read == identity or identity.type == IdType.DER_ASN1_DN
    assert str(identity) == text or len(text) > LIMITS.identity_shown


@settings(deadline=None)
@given(words, words)
def test_two_are_the_same_when_their_octets_are(one, other):
    for kind in (IdType.FQDN, IdType.RFC822_ADDR, IdType.KEY_ID):
        assert Identity(kind, one).matches(Identity(kind, other)) is (one == other)


@pytest.mark.parametrize("tag", CODECS)
def test_a_string_of_each_type_is_text(tag):
    der = tlv(0x30, tlv(0x31, tlv(0x30, bytes.fromhex("060355040a") + tlv(tag, "123 Org".encode(CODECS[tag])))))
    assert str(Identity.from_wire(9, der)) == "O=123 Org"


def test_two_values_of_other_types_are_not_the_same_name():
    """An INTEGER is no BIT STRING of the same octets, nor the text that could be shown for it."""
    values = tlv(2, b"\0\1"), tlv(3, b"\0\1"), tlv(12, b"#02020001")
    names_ = [tlv(0x30, tlv(0x31, tlv(0x30, bytes.fromhex("0603550403") + value))) for value in values]
    assert len({Identity.from_wire(9, name).meaning() for name in names_}) == 3


@given(st.ip_addresses())
def test_every_address_is_one_as_text(address):
    made = Identity.from_text(str(address))
    assert (made.type, made.data) == (IdType.IPV4_ADDR if address.version == 4 else IdType.IPV6_ADDR, address.packed)


@pytest.mark.parametrize("text", ["1.2.3.4.example", "1.2.3", "1.2.3.4.5", "256.1.1.1", "0.0.0.0.", "a.b.c.d"])
def test_what_only_looks_like_an_address_is_a_name(text):
    assert Identity.from_text(text) == Identity(IdType.FQDN, text.encode())
