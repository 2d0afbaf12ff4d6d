"""Identities: text and wire both ways, what matches what, what is refused, and what may go into a log."""

import pytest
from cryptography import x509
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from ipsec_dp.ike.identity import Identity, IdentityError, IdType, canonical_name, explain_mismatch
from ipsec_dp.ike.strangers import LIMITS

TEXTS = {
    "192.0.2.1": (IdType.IPV4_ADDR, bytes([192, 0, 2, 1])),
    "2001:db8::1": (IdType.IPV6_ADDR, bytes.fromhex("20010db8000000000000000000000001")),
    "gwA.example": (IdType.FQDN, b"gwA.example"),
    "moon": (IdType.FQDN, b"moon"),
    "admin@gw.example": (IdType.RFC822_ADDR, b"admin@gw.example"),
    "keyid:blue": (IdType.KEY_ID, b"blue"),
    "keyid:0x00ff": (IdType.KEY_ID, b"\x00\xff"),
    "keyid:Ärger im Amt": (IdType.KEY_ID, "Ärger im Amt".encode()),
    "keyid:0x30786666": (IdType.KEY_ID, b"0xff"),
    "keyid:gw.example": (IdType.KEY_ID, b"gw.example"),
    "fqdn:gw a": (IdType.FQDN, b"gw a"),
    "fqdn:é.example": (IdType.FQDN, "é.example".encode()),
    "fqdn:192.0.2.1": (IdType.FQDN, b"192.0.2.1"),
    "fqdn:any": (IdType.FQDN, b"any"),
    "fqdn:*.example": (IdType.FQDN, b"*.example"),
    "fqdn:@gw": (IdType.FQDN, b"@gw"),
    "fqdn:admin@gw.example": (IdType.FQDN, b"admin@gw.example"),
    "fqdn:C=DE, CN=x": (IdType.FQDN, b"C=DE, CN=x"),
    "fqdn:keyid:blue": (IdType.FQDN, b"keyid:blue"),
    "fqdn:0xff": (IdType.FQDN, b"\xff"),
    "email:nobody": (IdType.RFC822_ADDR, b"nobody"),
    "email:two words@gw.example": (IdType.RFC822_ADDR, b"two words@gw.example"),
    "email:*@gw.example": (IdType.RFC822_ADDR, b"*@gw.example"),
    "type 10:0x820178": (10, b"\x82\x01x"),
    "C=DE, O=Org, CN=x": (
        IdType.DER_ASN1_DN,
        bytes.fromhex("30273" + "10b3009060355040613024445310c300a060355040a0c034f7267310a300806035504030c0178"),
    ),
}


@pytest.mark.parametrize("text", TEXTS)
def test_text_and_wire_both_ways(text):
    identity = Identity.from_text(text)
    assert (identity.type, identity.data) == TEXTS[text]
    assert Identity.from_wire(*TEXTS[text]) == identity
    assert str(identity) == text


def test_an_at_sign_in_front_makes_a_domain_name():
    assert Identity.from_text("@moon") == Identity.from_text("moon")
    assert Identity.from_text("@two words") == Identity.from_text("fqdn:two words")


@pytest.mark.parametrize(
    ("written", "same"),
    [
        ("dns:gw a", "fqdn:gw a"),
        ("FQDN:0x6777", "gw"),
        ("rfc822:nobody", "email:nobody"),
        ("userfqdn:a@b", "a@b"),
        ("asn1dn:C=DE, CN=x", "C=DE, CN=x"),
        ("dn:0x300c310a300806035504030c0178", "CN=x"),
    ],
)
def test_a_prefix_says_what_it_is(written, same):
    """The names of the types are strongSwan's too."""
    assert Identity.from_text(written) == Identity.from_text(same)


BAD_TEXTS = ["", " ", "a b", "é.example", "a@b c", "=", "x=1", "C=DEU", "keyid:", "keyid:0xzz", "-x", "a" * 1025, "@", "type 10:0x"]
BAD_TEXTS += ["fqdn:a\tb", "fqdn:0x0a", "email:0x00", "dn:0x3003020101", "dn:x", "keyid:0x1"]


@pytest.mark.parametrize("text", BAD_TEXTS)
def test_a_text_that_is_no_identity_is_refused(text):
    with pytest.raises(IdentityError):
        Identity.from_text(text)


@pytest.mark.parametrize(
    "text", ["any", "%any", "*", "ANY", "%any6", "%fromcert", "*.example", "*@gw.example", "C=DE, CN=*", "/CN=*"]
)
def test_a_word_for_anybody_is_refused_with_what_to_write(text):
    """It would be compared like any other name, and nobody has it."""
    with pytest.raises(IdentityError) as caught:
        Identity.from_text(text)
    assert "nobody" in caught.value.wrong or "no name" in caught.value.wrong
    assert "write an address, an FQDN" in caught.value.right


@pytest.mark.parametrize("text", ["@#c0ffee", "@[blue]", "@@a@b", "@~3000"])
def test_what_others_write_for_another_type_is_no_domain_name(text):
    with pytest.raises(IdentityError, match=r"write (keyid|email|dn):"):
        Identity.from_text(text)


@pytest.mark.parametrize(
    ("id_type", "data"),
    [
        (1, bytes(3)),
        (1, bytes(16)),
        (5, bytes(4)),
        (2, b""),
        (2, b"gw\0.example"),
        (2, b"gw.example\n"),
        (3, b"a@b\r\nlog line"),
        (9, b"\x30\x03\x02\x01\x01"),
        (9, b"\x30\x80\x00\x00"),
        (9, bytes.fromhex("300d310b300906035504030c02ffff")),
        (11, bytes(LIMITS.identity_octets + 1)),
    ],
)
def test_octets_that_their_type_forbids_are_refused(id_type, data):
    """Bug class: identity length and content unchecked."""
    with pytest.raises(IdentityError):
        Identity.from_wire(id_type, data)


@given(st.integers(0, 255), st.binary(max_size=80))
def test_arbitrary_octets_raise_only_the_identity_error_and_print_on_one_line(id_type, data):
    try:
        identity = Identity.from_wire(id_type, data)
    except IdentityError:
        return
    assert str(identity).isprintable()
    assert identity.matches(identity)


@given(st.binary(max_size=64))
def test_arbitrary_names_raise_only_the_identity_error(data):
    for der in (data, b"\x30" + bytes([len(data)]) + data):
        try:
            canonical_name(der)
        except IdentityError:
            continue


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("gwA.example", "gwA.example", True),
        ("gwA.example", "GWa.example", False),  # octet by octet
        ("gw.example", "gw.example.", False),
        ("gwA.example", "gwB.example", False),
        ("admin@GW.example", "admin@gw.example", False),
        ("keyid:Blue", "keyid:blue", False),
        ("Admin@gw.example", "admin@gw.example", False),
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "keyid:0xc0000201", False),
        ("gw.example", "keyid:gw.example", False),
        ("C=DE, O=Org, CN=x", "c=de,o=ORG,cn=X", True),
        ("O=Two  Words", "O=two words", True),
        ("C=DE, O=Org, CN=x", "CN=x, O=Org, C=DE", False),  # the order counts
        ("CN=a+OU=b", "OU=b+CN=a", True),  # but not inside one RDN
        ("C=DE, CN=x", "C=DE, CN=x, CN=x", False),
        ("E=a@b.example, CN=x", "emailAddress=a@b.example, CN=x", True),
        (r"O=Acme\, Inc, CN=x", r"O=Acme\2c Inc, CN=x", True),
    ],
)
def test_matching(one, other, same):
    assert Identity.from_text(one).matches(Identity.from_text(other)) is same


def test_names_match_whatever_their_string_types():
    texts = [
        x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Org", _type=kind)]).public_bytes()
        for kind in (_ASN1Type.UTF8String, _ASN1Type.PrintableString, _ASN1Type.BMPString)
    ]
    assert len(set(texts)) == 3
    assert all(Identity(IdType.DER_ASN1_DN, der).matches(Identity.from_text("O=Org")) for der in texts)


def test_an_unknown_type_is_kept_and_matches_only_itself():
    unknown = Identity.from_wire(10, b"\x82\x01x")
    assert str(unknown) == "type 10:0x820178"
    assert not unknown.matches(Identity.from_text("keyid:0x820178"))


def test_control_characters_of_a_name_are_escaped():
    der = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x\n\x1b[31m")]).public_bytes()
    assert str(Identity.from_wire(9, der)) == r"CN=x\0a\1b[31m"


def test_a_mismatch_prints_both_and_what_differs():
    said = explain_mismatch(Identity.from_text("gwB.example"), Identity.from_text("192.0.2.2"))
    assert said == "expected gwB.example; the peer says it is 192.0.2.2; they differ in type (FQDN and IPV4_ADDR)"
    assert explain_mismatch(Identity.from_text("a"), Identity.from_text("b")).endswith("they differ in value")
    assert "upper and lower case" in explain_mismatch(Identity.from_text("gw.example"), Identity.from_text("GW.example"))


def test_one_that_is_cut_says_so_and_is_none():
    long = Identity.from_wire(IdType.FQDN, b"gw " * 300)
    assert str(long).endswith("… (900 octets)")
    assert len(str(long)) == LIMITS.identity_shown
    assert Identity.from_text(long.text()) == long
    with pytest.raises(IdentityError, match="write the whole"):
        Identity.from_text(str(long))
