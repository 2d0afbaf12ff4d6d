"""The states of an IKE SA: each pair that the table has is taken by a ladder here, and no other one anywhere.

`enter` refuses a pair that the table does not have, so a missing one fails in whichever test takes it; a pair without a ladder
fails here, and so does a ladder that does not take its pair.
"""

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

import ipsec_dp.ike
from ipsec_dp.ike.auth import PreSharedKey
from ipsec_dp.ike.peer import Life, SharedKeyAuth
from ipsec_dp.ike.proposal import parse_ike
from ipsec_dp.ike.v2 import transitions
from ipsec_dp.ike.v2.message import Header
from ipsec_dp.ike.v2.payloads import Encrypted
from ipsec_dp.ike.v2.protect import seal_payload
from ipsec_dp.ike.v2.sa import ChildState, State
from ipsec_dp.ike.v2.session import IkeSession, initiator
from ipsec_dp.ike.v2.wire import ExchangeType, PayloadType

from .ladder import OTHER, Ladder, peer

ROOM = Path(ipsec_dp.ike.__file__).parent
S = State


@pytest.fixture
def entered(monkeypatch):
    """Every pair of states that an IKE SA has gone through."""
    pairs = set()
    enter = IkeSession.enter

    def recorded(session, state):
        before = session.state
        enter(session, state)
        pairs.add((before, state))

    monkeypatch.setattr(IkeSession, "enter", recorded)
    return pairs


# --- ladders to where a state is held --------------------------------------------------------------------------------


def init_sent():
    ladder = Ladder()
    ladder.initiate("a")
    return ladder


def half_open():
    """A has sent IKE_AUTH, B has answered IKE_SA_INIT and not got it yet."""
    ladder = init_sent()
    ladder.deliver("b")
    ladder.deliver("a")
    return ladder


def half_open_further():
    """A has sent IKE_INTERMEDIATE, B has answered IKE_SA_INIT and not got it yet."""
    peers = {site: [peer(site, ike_proposals=parse_ike(["aes128gcm16-prfsha256-x25519-ke1_mlkem768"]))] for site in "ab"}
    ladder = Ladder(**peers)
    ladder.initiate("a")
    ladder.deliver("b")
    ladder.deliver("a")
    return ladder


def rekey(ladder, *sites):
    for site in (ladder.sites[name] for name in sites):
        site.do(site.core.rekey(site.tunnel, ladder.clock(), ike=True))


def at_last(ladder):
    """What was held arrives after all."""
    for sender, receiver in ("ab", "ba"):
        ladder.wire.release(sender, receiver, ladder.wire.sent(sender, receiver))
    ladder.settle()


def undecided(seed=0):
    """Both rekey at once, each has answered the other, and no answer has come: each holds a provisional IKE SA."""
    ladder = Ladder(seed=seed).up()
    rekey(ladder, "a", "b")
    for sender, receiver in ("ab", "ba"):
        ladder.wire.hold(sender, receiver, ladder.wire.sent(sender, receiver) + 1)
    assert ladder.deliver("a")
    assert ladder.deliver("b")
    assert [len(site.core.sessions()) for site in ladder.sites.values()] == [2, 2]
    return ladder


def replaced():
    """A has rekeyed the IKE SA, and B waits for the DELETE of the old one."""
    ladder = Ladder().up()
    rekey(ladder, "a")
    ladder.deliver("b")
    return ladder


def expired():
    """A's IKE SA is over, with its rekey under way."""
    ladder = Ladder(a=[peer("a", ike_life=Life(100.0))], b=[peer("b")]).up()
    ladder.wire.cut("a", "b")
    rekey(ladder, "a")
    ladder.clock.advance(101.0)
    ladder.a.do(ladder.a.core.timer(ladder.clock()))
    assert ladder.a.core.sessions()[0].state is S.EXPIRED
    return ladder


def expired_undecided():
    """B has rekeyed it too, and whose rekey stands A sees only after the end of its own."""
    for seed in range(8):  # by chance each side's is the redundant one
        ladder = Ladder(a=[peer("a", ike_life=Life(100.0))], b=[peer("b")], seed=seed).up()
        rekey(ladder, "a", "b")
        ladder.wire.hold("b", "a", ladder.wire.sent("b", "a") + 1)  # B's answer
        ladder.deliver("b")
        ladder.deliver("a")
        ladder.clock.advance(101.0)
        ladder.a.do(ladder.a.core.timer(ladder.clock()))
        ladder.wire.release("b", "a", 4)
        ladder.settle()


def deleting_expired():
    """The peer is there again."""
    ladder = expired()
    ladder.wire.mend("a", "b")
    ladder.run(40)


def told_to_delete_expired():
    ladder = expired()
    ladder.b.do(ladder.b.core.terminate("to-a", ladder.clock()))
    ladder.settle()


def deleting():
    """A's DELETE is under way."""
    ladder = Ladder().up()
    ladder.a.do(ladder.a.core.terminate("to-b", ladder.clock()))
    return ladder


def lingering():
    """B was told to delete, and answers duplicates."""
    ladder = deleting()
    ladder.deliver("b")
    return ladder


def forget(ladder, site):
    """What ends an IKE SA in every state at once: the machine was cloned."""
    ladder.sites[site].do(ladder.sites[site].core.forget(ladder.clock()))


def close(ladder, site):
    """The gateway ends, and waits for nobody."""
    ladder.sites[site].do(ladder.sites[site].core.close(ladder.clock()))
    assert ladder.sites[site].core.empty


def ask_brokenly(ladder, receiver):
    """The other side's newest IKE SA asks, protected as it should be, with a payload inside that ends before it begins."""
    site, sender = ladder.sites[receiver], ladder.sites[OTHER[receiver]].core.sessions()[-1]
    expected = site.core.sessions()[-1].window.expected
    header = Header(sender.sa.spi_i, sender.sa.spi_r, ExchangeType.INFORMATIONAL, sender.sa.request_flags, expected)
    datagram = seal_payload(sender.sa.outgoing, header, Encrypted(PayloadType.NOTIFY, b""), b"\0", site.randbytes)
    site.do(site.core.receive(datagram, ladder.path(receiver), ladder.clock()))


# --- one ladder for each pair ----------------------------------------------------------------------------------------


def to_lingering_half_open():
    ask_brokenly(half_open(), "b")


def to_lingering_while_authenticating():
    ask_brokenly(half_open(), "a")


def to_lingering_undecided():
    """A's answer arrives, B sees that its own rekey is redundant, and deletes it before A has B's answer."""
    for seed in range(8):  # by chance each side's is the redundant one
        ladder = undecided(seed)
        ladder.wire.release("a", "b", ladder.wire.sent("a", "b"))
        ladder.deliver("b")
        ladder.deliver("a")


def from_refused():
    ladder = Ladder(b=[peer("b", auth=SharedKeyAuth(PreSharedKey.from_text("another secret altogether")))])
    ladder.initiate("a")
    ladder.settle()
    return ladder


def crossing_deletes():
    ladder = deleting()
    ladder.b.do(ladder.b.core.terminate("to-a", ladder.clock()))
    ladder.settle()


WAYS: dict[tuple[State, State], Callable[[], object]] = {
    (S.NEW, S.INIT_SENT): init_sent,
    (S.NEW, S.INIT_ANSWERED): half_open,
    (S.NEW, S.INTERMEDIATE_AWAITED): half_open_further,
    (S.INIT_SENT, S.INTERMEDIATE_SENT): half_open_further,
    (S.INTERMEDIATE_AWAITED, S.INIT_ANSWERED): lambda: half_open_further().settle(),
    (S.INTERMEDIATE_AWAITED, S.LINGERING): lambda: ask_brokenly(half_open_further(), "b"),
    (S.INTERMEDIATE_AWAITED, S.CLOSED): lambda: forget(half_open_further(), "b"),
    (S.INTERMEDIATE_SENT, S.AUTH_SENT): lambda: half_open_further().settle(),
    (S.INTERMEDIATE_SENT, S.LINGERING): lambda: ask_brokenly(half_open_further(), "a"),
    (S.INTERMEDIATE_SENT, S.CLOSED): lambda: forget(half_open_further(), "a"),
    (S.NEW, S.PROVISIONAL): undecided,
    (S.INIT_SENT, S.AUTH_SENT): half_open,
    (S.INIT_SENT, S.CLOSED): lambda: forget(init_sent(), "a"),
    (S.INIT_ANSWERED, S.ESTABLISHED): lambda: half_open().settle(),
    (S.INIT_ANSWERED, S.LINGERING): to_lingering_half_open,
    (S.INIT_ANSWERED, S.CLOSED): lambda: forget(half_open(), "b"),
    (S.AUTH_SENT, S.ESTABLISHED): lambda: half_open().settle(),
    (S.AUTH_SENT, S.LINGERING): to_lingering_while_authenticating,
    (S.AUTH_SENT, S.CLOSED): from_refused,
    (S.PROVISIONAL, S.ESTABLISHED): replaced,
    (S.PROVISIONAL, S.REKEYED): lambda: at_last(undecided()),
    (S.PROVISIONAL, S.LINGERING): to_lingering_undecided,
    (S.PROVISIONAL, S.CLOSED): lambda: close(undecided(), "a"),
    (S.ESTABLISHED, S.REKEYED): replaced,
    (S.ESTABLISHED, S.DELETING): deleting,
    (S.ESTABLISHED, S.LINGERING): lingering,
    (S.ESTABLISHED, S.CLOSED): lambda: forget(Ladder().up(), "a"),
    (S.ESTABLISHED, S.EXPIRED): expired,
    (S.EXPIRED, S.REKEYED): expired_undecided,
    (S.EXPIRED, S.DELETING): deleting_expired,
    (S.EXPIRED, S.LINGERING): told_to_delete_expired,
    (S.EXPIRED, S.CLOSED): lambda: forget(expired(), "a"),
    (S.REKEYED, S.LINGERING): lambda: replaced().settle(),
    (S.REKEYED, S.CLOSED): lambda: forget(replaced(), "b"),
    (S.DELETING, S.LINGERING): crossing_deletes,
    (S.DELETING, S.CLOSED): lambda: deleting().settle(),
    (S.LINGERING, S.CLOSED): lambda: lingering().run(40),
}


def test_each_pair_of_the_table_has_a_ladder_and_no_other_has():
    assert set(WAYS) == transitions.PAIRS


@pytest.mark.parametrize("pair", WAYS, ids=lambda pair: f"{pair[0].name}-{pair[1].name}")
def test_a_ladder_takes_the_pair(pair, entered):
    WAYS[pair]()
    assert pair in entered
    assert entered <= transitions.PAIRS


def way_to(state):
    """The states that an IKE SA enters to be in `state`."""
    ways: dict[State, tuple[State, ...]] = {S.NEW: ()}
    while state not in ways:
        ways |= {after: (*ways[before], after) for before, after in transitions.PAIRS if before in ways and after not in ways}
    return ways[state]


@pytest.mark.parametrize("after", State)
@pytest.mark.parametrize("before", State)
def test_every_other_pair_is_refused(before, after):
    ladder = Ladder()
    session = initiator(ladder.a.core.gateway, peer("a"), ladder.path("a"), ladder.clock())
    for state in way_to(before):
        session.enter(state)
    assert session.state is before
    if (before, after) in transitions.PAIRS:
        session.enter(after)
        assert session.state is after
    else:
        with pytest.raises(RuntimeError, match="no IKE SA goes from"):
            session.enter(after)
        assert session.state is before


def test_a_child_sa_never_goes_back():
    child = Ladder().up().a.core.sessions()[-1].children[1]
    for number, state in enumerate(ChildState):
        child.enter(state)
        for earlier in list(ChildState)[:number]:
            with pytest.raises(RuntimeError, match="no CHILD_SA goes from"):
                child.enter(earlier)


# --- who writes it ---------------------------------------------------------------------------------------------------


def functions_of(tree):
    """(name of the innermost function, node) of everything in a module."""
    waiting = [("", tree)]
    while waiting:
        name, node = waiting.pop()
        yield name, node
        inside = node.name if isinstance(node, ast.FunctionDef) else name
        waiting += [(inside, child) for child in ast.iter_child_nodes(node)]


def written(node):
    """The attribute that is assigned or deleted here, in whichever statement."""
    if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
        return node.attr
    return None


def by_name(node):
    """Whether it can write an attribute that a string names."""
    return isinstance(node, ast.Name | ast.Attribute) and ast.unparse(node).rpartition(".")[2] in (
        "setattr",
        "__setattr__",
        "__dict__",
    )


def test_the_state_is_written_only_by_enter():
    writers = set()
    for path in ROOM.rglob("*.py"):
        for name, node in functions_of(ast.parse(path.read_text())):
            if written(node) in ("state", "_state"):
                writers.add((path.name, name))
            assert not by_name(node), f"{path.name}:{node.lineno}"
    assert writers == {("session.py", "enter"), ("sa.py", "enter"), ("context.py", "enter")}


def test_the_states_that_the_code_enters_are_those_of_the_table():
    entered = set()
    for path in (ROOM / "v2").glob("*.py"):
        for _, node in functions_of(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "enter":
                (state,) = node.args
                assert isinstance(state, ast.Attribute)
                assert isinstance(state.value, ast.Name)
                if state.value.id == "State":
                    entered.add(State[state.attr])
    assert entered == {after for _, after in transitions.PAIRS}


def test_a_provisional_ike_sa_is_not_in_use():
    """Neither does status show it, nor is a request of ours sent on it, nor does the peer get a CHILD_SA on it."""
    ladder = undecided()
    for site in ladder.sites.values():
        old, undecided_one = site.core.sessions()
        assert [one.state for one in (old, undecided_one)] == [S.ESTABLISHED, S.PROVISIONAL]
        assert [one.in_use for one in (old, undecided_one)] == [True, False]
        assert [status.spi_i for status in site.status] == [old.sa.spi_i]
        assert not undecided_one.children
