"""What an IKE SA is made of goes along, all of it: whoever gives it another attribute carries that too, or says here why not.

Everything of the core that can be reached from an IKE SA is looked at, attribute by attribute.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from math import inf
from typing import TYPE_CHECKING, Any

import msgspec

from ipsec_dp.ike.carried import ikev1, ikev2
from ipsec_dp.ike.carried import isakmp_model as i
from ipsec_dp.ike.carried import model as m
from ipsec_dp.ike.carried.carry import export_ike, import_ike
from ipsec_dp.ike.proposal import parse_esp, parse_ike
from ipsec_dp.ike.v2.standing import Abilities as KnownAbilities
from tests.ike.carried.carrying import as_core, fresh, keys_of
from tests.ike.carried.test_carry import example_site
from tests.ike.ladder import Ladder, peer
from tests.ike.test_ladder_followup import ESP_ONE, ONE

if TYPE_CHECKING:
    from collections.abc import Iterator

CORE = "ipsec_dp.ike."
OWN = "its own attributes say"
HANDSHAKE = "nothing of it matters once both sides have proven themselves"
MADE = "it is made of what is carried"
AT_ONCE = "it is over before anybody exports"
PLACED = "by its place, or the places of its own, in the lists of all"
PARTS: dict[str, tuple[type[msgspec.Struct], dict[str, str]]] = {
    # of IKEv2
    "IkeSession": (m.IkeSaPart, {"children": "table", "_state": "state"}),
    "IkeSa": (m.IkeSaPart, {"post_quantum": "own_quantum"}),
    "Abilities": (m.AbilitiesPart, {"notes": "told"}),
    "Notes": (m.AbilitiesPart, {}),
    "Ends": (m.EndsPart, {}),
    "Handshake": (m.IkeSaPart, {}),
    "Succession": (m.IkeSaPart, {}),
    "Deadlines": (m.IkeSaPart, {}),
    "Window": (m.WindowPart, {"sealed_reply": "reply"}),
    "OutstandingRequest": (m.OutstandingPart, {}),
    "Sealed": (m.SealedPart, {}),
    "Content": (m.ClearPart, {"payloads": "octets"}),
    "Header": (m.ClearPart, {"spi_i": "header", "spi_r": "header"}),
    "Reassembler": (m.WindowPart, {"_message_id": "requests", "_partial": "requests"}),
    "_Partial": (m.FragmentsPart, {"pieces": "parts"}),
    "Queue": (m.IkeSaPart, {"_waiting": "queue"}),
    "ChildTable": (m.TablePart, {"_came": "came", "_went": "went", "_holder": "holder"}),
    "Child": (m.ChildPart, {}),
    "ChildCreate": (m.ChildCreatePart, {"exchange": "following"}),
    "Offer": (m.OfferPart, {"ts_local": "local", "ts_remote": "remote"}),
    "IkeRekey": (m.IkeRekeyPart, {"exchange": "following"}),
    "IkeAgreement": (m.AgreementPart, {}),
    "AwaitedIkeSa": (m.TheirSeriesPart, {"agreed": "ike"}),
    "ChildDelete": (m.ChildDeletePart, {}),
    "IkeDelete": (m.IkeDeletePart, {}),
    "LivenessCheck": (m.LivenessPart, {}),
    "PathProbe": (m.ProbePart, {}),
    "OurSeries": (m.OurSeriesPart, {}),
    "TheirSeries": (m.TheirSeriesPart, {"purpose": "child", "of_ike": "ike"}),
    "Prepared": (m.PreparedPart, {"selectors": "local", "agreed": "fragments_also"}),
    "Agreement": (m.PreparedPart, {}),
    "Message": (m.ClearPart, {"payloads": "octets", "inner": "octets"}),
    "KeyExchange": (m.HalfPart, {"_private": "private"}),
    "IkeKeys": (m.KeysPart, {}),
    "SkIvs": (m.Exact, {"reservations": "serial"}),
    "Account": (m.EndsPart, {"_left": "account", "_at": "account", "_told": "account"}),
    "Allowance": (m.WindowPart, {"_left": "repeats", "_at": "repeats"}),
    "Wanted": (m.WantedPart, {f"_{name}": name for name in m.WantedPart.__struct_fields__}),
    "Wish": (m.WishValue, {}),
    # of IKEv1
    "IsakmpContext": (i.IsakmpSaPart, {}),
    "IsakmpSa": (i.IsakmpSaPart, {}),
    "Negotiation": (i.IsakmpSaPart, {}),
    "PeersAbilities": (i.IsakmpSaPart, {}),
    "Proven": (i.IsakmpSaPart, {}),
    "IsakmpDeadlines": (i.IsakmpSaPart, {}),
    "Liveliness": (i.IsakmpSaPart, {}),
    "Skeyids": (i.IsakmpKeysPart, {}),
    "Peering": (i.PeeringPart, {}),
    "IpsecSa": (i.IpsecSaPart, {}),
    "QuickMode": (i.QuickPart, {}),
    "Waiting": (i.WaitingPart, {}),
    # of both
    "Nat": (m.NatValue, {}),
    "Path": (m.PathValue, {}),
    "Identity": (m.IdentityValue, {}),
    "ChildLimits": (m.LimitsValue, {}),
    "TrafficSelector": (m.SelectorValue, {}),
    "Proposal": (m.ProposalValue, {}),
    "EspSuite": (m.SuiteValue, {}),
    "IkeSuite": (m.SuiteValue, {}),
}
"""By class: what carries it, and under which name where that is another."""

WHY_NOT: dict[str, dict[str, str]] = {
    "IkeSession": {
        "_actions": AT_ONCE,
        "after_reply": AT_ONCE,
        "host": "the gateway that it comes to",
        "peer": "what is configured there, by the tunnel",
        "handshake": OWN,
        "sa": OWN,
        "succession": OWN,
    },
    "IkeSa": dict.fromkeys(("outgoing", "incoming", "answered"), MADE),
    "Handshake": dict.fromkeys(
        (
            "candidates",
            "floated",
            "nonces",
            "messages",
            "further",
            "int_auth",
            "ppk",
            "repeated",
            "other_request",
            "unreachable",
            "spoken",
            "unspoken",
        ),
        HANDSHAKE,
    ),
    "IsakmpContext": {
        "host": "the gateway that it comes to",
        "peer": "what is configured there, by the tunnel",
        "peering": PLACED,
        "_state": "it is established, or closed where it has no keys",
        "abilities": OWN,
        "liveliness": OWN,
        "negotiation": OWN,
        "proven": OWN,
        "sa": OWN,
    },
    "IsakmpSa": {"retired": "it is not, where it is carried to"},
    "Negotiation": dict.fromkeys(
        (
            "asked",
            "candidates",
            "floated",
            "initial_contact",
            "iv",
            "key",
            "nonces",
            "peer_id",
            "publics",
            "refused",
            "repeated",
            "sa_body",
            "unreachable",
        ),
        HANDSHAKE,
    ),
    "Peering": {
        "host": "the gateway that it comes to",
        "peer": "what is configured there, by the tunnel",
        "key": MADE,
        "gone": AT_ONCE,
        "over": AT_ONCE,
        "withdrawn": "such a one is not carried",
    },
    "TrafficSelector": {"version": "by the octets of its addresses"},
    "Wanted": dict.fromkeys(
        ("_lacks", "_lasting", "_questions", "_refused", "_untried", "served"), "its `parts` say what of it is"
    ),
    "Content": {"protection": MADE, "header": OWN},
    "Reassembler": {"longest": AT_ONCE},
    "ChildTable": dict.fromkeys(("_timers", "_changed", "_up", "_rekeyed", "_by_spi_out", "_selectors"), MADE),
    "Child": {"table": PLACED, "asked": "`asked` of the request"},
    "ChildCreate": {"shape": MADE, "priority": MADE, "waits": MADE},
    "IkeRekey": {"waits": MADE},
    "ChildDelete": {"waits": MADE},
    "IkeDelete": {"waits": MADE},
    "LivenessCheck": {"waits": MADE},
    "PathProbe": {"waits": MADE},
    "Agreement": {
        "nonces": "those of the series",
        "initiator": "never, in a series of the peer's",
        "secrets": "those of the series",
        "rekeys": "that of the series",
    },
    "Message": {"header": OWN, "unknown": AT_ONCE},
    "KeyExchange": {"public": MADE},
    "SkIvs": {"end": "whoever has it has all of them", "retired": "it is not, where it is carried to"},
    "Account": {"_most": "by the limits of then", "_rate": "by the limits of then"},
    "Allowance": {"_at_once": "by the limits of then", "_rate": "by the limits of then"},
}


TIMES: dict[str, tuple[str, ...]] = {
    "Deadlines": ikev2.TIMES,
    "IsakmpDeadlines": ikev1.TIMES,
    "IpsecSa": ikev1.SA_TIMES,
}
"""Instants that are carried together, by their names."""

AS_OCTETS = {"payloads", "_private", "pieces", "_packets"}  # which are looked into no further


def attributes(one: Any) -> set[str]:
    """Of an object of the core."""
    slots = {name for each in type(one).__mro__ for name in vars(each).get("__slots__", ())} - {"__weakref__", "__dict__"}
    named = {each.name for each in fields(one)} if is_dataclass(one) else set()
    return slots | named | set(getattr(one, "__dict__", {}))


def reached(*roots: Any) -> Iterator[Any]:
    """Every object of the core that is reached from these, but for what is in those that are not carried."""
    seen: dict[int, Any] = {}  # which holds them, so that no number is another's
    waiting = deque(roots)
    while waiting:
        one = waiting.popleft()
        if id(one) in seen or isinstance(one, Enum | type):
            continue
        seen[id(one)] = one
        if isinstance(one, dict):
            waiting.extend([*one, *one.values()])
        elif isinstance(one, list | tuple | set | frozenset | deque):
            waiting.extend(one)
        if type(one).__module__.startswith(CORE) and not isinstance(one, tuple):
            yield one
            why = WHY_NOT.get(type(one).__name__, {})
            if type(one).__name__ in PARTS:
                waiting.extend(getattr(one, name, None) for name in attributes(one) - AS_OCTETS if why.get(name, OWN) == OWN)


def forgotten(one: Any) -> set[str]:
    """The attributes of which nothing says what becomes of them."""
    name = type(one).__name__
    if name not in PARTS:
        return {f"{name}: the whole of it"}
    part, names = PARTS[name]
    carried = {each for each in attributes(one) if names.get(each, each) in part.__struct_fields__}
    carried |= {each for each in attributes(one) if each in TIMES.get(name, ())}
    return {f"{name}.{each}" for each in attributes(one) - carried - WHY_NOT.get(name, {}).keys()}


def scenes() -> Iterator[Any]:
    """IKE SAs of both versions with whatever may be under way."""
    common = {"ike_proposals": parse_ike([ONE]), "esp_proposals": parse_esp([ESP_ONE])}
    ladder = Ladder([peer("a", **common)], [peer("b", **common)]).up()
    for ike in (False, True):
        ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock(), ike=ike))
        while any(ladder.deliver(site) for site in ladder.sites):
            for site in ladder.sites.values():
                yield from site.core.sessions()
    for ask in (ladder.a.core.check_liveness, ladder.a.core.terminate):
        ladder.a.do(ask("to-b", ladder.clock()))
        yield from ladder.a.core.sessions()
        ladder.settle()
    core = as_core(example_site().core)
    yield from core.ikev2.sessions()
    yield from core.ikev1.carried()[0]


def test_every_attribute_is_carried_or_says_why_not():
    found, kinds = set(), set()
    for root in scenes():
        for one in reached(root):
            found |= forgotten(one)
            kinds.add(type(one).__name__)
    assert found == set()
    assert {
        "IkeSession",
        "Abilities",
        "Content",
        "IkeRekey",
        "ChildCreate",
        "OurSeries",
        "Nat",
        "PeersAbilities",
        "QuickMode",
    } <= kinds


def test_what_is_listed_is_there():
    """A name that was changed is no reason any more."""
    there: dict[str, set[str]] = {}
    for root in scenes():
        for one in reached(root):
            there.setdefault(type(one).__name__, set()).update(attributes(one))
    for name, why in WHY_NOT.items():
        assert set(why) <= there.get(name, set(why)), name


def test_an_attribute_that_nobody_carries_is_found():
    @dataclass(slots=True)
    class Abilities(KnownAbilities):
        forgotten: bool = False

    assert forgotten(KnownAbilities()) == set()
    assert forgotten(Abilities()) == {"Abilities.forgotten"}
    Abilities.__module__ = f"{CORE}v2.standing"
    ladder = Ladder().up()
    (session,) = ladder.a.core.sessions()
    session.abilities = Abilities()
    assert {name for one in reached(session) for name in forgotten(one)} == {"Abilities.forgotten"}


def test_a_class_that_nobody_carries_is_found():
    class Another:
        pass

    Another.__module__ = f"{CORE}v2.another"
    ladder = Ladder().up()
    (session,) = ladder.a.core.sessions()
    session.window.sealed_reply = Another()
    assert {name for one in reached(session) for name in forgotten(one)} == {"Another: the whole of it"}


# ---- whatever it says


def another(value: Any) -> Any:
    """Another value of its kind; None: of that kind no other is tried."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float) and not isinstance(value, Enum):
        return 12_345.0 if value in (inf, -inf) else value + 1
    return None


def roots(site: Any) -> list[Any]:
    core = as_core(site.core)
    return [*core.ikev2.sessions(), *core.ikev1.carried()[0]]


def values(site: Any) -> dict[tuple[str, int, str], tuple[Any, Any]]:
    """What can be changed, by class, number and name: whose it is, and what it says."""
    found, numbers = {}, Counter[str]()
    for one in reached(*roots(site)):
        name = type(one).__name__
        numbers[name] += 1
        for each in sorted(attributes(one) - WHY_NOT.get(name, {}).keys()) if name in CHANGED else ():
            value = getattr(one, each)
            if another(value) is not None:
                found[name, numbers[name], each] = one, value
    return found


CHANGED = {"Abilities", "Ends", "Window", "OutstandingRequest", "Deadlines", "Nat", "Succession", "PeersAbilities", "Liveliness"}
CHANGED |= {"IsakmpDeadlines", "Waiting", "Wish", "Child", "IpsecSa", "QuickMode", "ChildCreate", "ChildLimits"}
KNOWN_BY = {("Child", "number"), ("IpsecSa", "number"), ("QuickMode", "message_id")}  # others name it so
KNOWN_BY |= {("Child", "replaces"), ("IpsecSa", "replaces"), ("QuickMode", "replaces")}


def test_whatever_an_attribute_says_it_says_after_the_import():
    """Each by itself: what had no part in this scene may have one in another."""
    site = example_site()
    carry_unchecked(site)
    different, tried = [], set()
    for key in values(site):
        name, _, each = key
        if (name, each) in KNOWN_BY:
            continue
        one, before = values(site)[key]
        object.__setattr__(one, each, another(before))
        carry_unchecked(site)
        one, after = values(site)[key]
        if after != another(before):
            different.append(key)
        object.__setattr__(one, each, before)
        tried.add((name, each))
    assert different == []
    assert {("Abilities", "longest"), ("Window", "asked_again"), ("Nat", "forced_there"), ("PeersAbilities", "dpd")} <= tried


def carry_unchecked(site: Any) -> None:
    octets = export_ike(as_core(site.core), site.clock(), keys_of(site.sad)).octets
    site.core = fresh(site)
    import_ike(as_core(site.core), octets, site.clock())
