"""Transactions of nftables, from octets that a kernel (6.18) sent: whose they are, and which tables they touched."""

from __future__ import annotations

from ipsec_dp.host import nft_reports
from ipsec_dp.host.bulk import attribute
from ipsec_dp.host.nft_reports import DELTABLE, GENMSG, INET, NEWGEN, NEWTABLE, NftReports, Transaction, add_transactions
from ipsec_dp.host.requests import HEADER
from tests.doubles.netlink import MemoryNetlink

NEWRULE, DELRULE, IP = 6, 8, 2
PORT = 18355


def message(kind, *attributes, family=INET, port=PORT, subsystem=10):
    body = GENMSG.pack(family, 0, 5) + b"".join(attribute(number, value) for number, value in attributes)
    return HEADER.pack(HEADER.size + len(body), subsystem << 8 | kind, 0, 0, port) + body


def of_table(kind, table, **settings):
    return message(kind, (1, table.encode() + b"\0"), (2, b"whatever\0"), **settings)


def ended(program="nft", **settings):
    return message(NEWGEN, (1, bytes(4)), (2, bytes(4)), (3, program.encode() + b"\0"), family=0, **settings)


def read(*datagrams):
    done: list[Transaction] = []
    begun = Transaction()
    for data in datagrams:
        begun = add_transactions(done, begun, data)
    return done, begun


def test_a_flush_is_one_transaction_over_several_datagrams():
    flushed = of_table(DELRULE, "ours") + of_table(DELTABLE, "ours"), of_table(DELTABLE, "other") + ended()
    (done,), begun = read(*flushed)
    assert (done.port, done.program) == (PORT, "nft")
    assert done.tables == {"ours": {DELRULE, DELTABLE}, "other": {DELTABLE}}
    assert done.deleted("ours")
    assert not done.deleted("nobody's")
    assert begun == Transaction()


def test_a_table_that_is_made_anew_is_changed_and_not_deleted():
    (done,), _ = read(of_table(DELTABLE, "ours") + of_table(NEWTABLE, "ours") + of_table(NEWRULE, "ours") + ended())
    assert not done.deleted("ours")


def test_each_transaction_has_its_own_program():
    done, _ = read(
        of_table(NEWRULE, "ours", port=1) + ended("one", port=1) + of_table(NEWRULE, "other", port=2) + ended("two", port=2)
    )
    assert [(each.port, each.program, set(each.tables)) for each in done] == [(1, "one", {"ours"}), (2, "two", {"other"})]


def test_tables_of_other_families_and_messages_of_other_subsystems_are_not_ours():
    (done,), _ = read(of_table(DELTABLE, "ours", family=IP) + of_table(DELTABLE, "ours", subsystem=1) + ended())
    assert done.tables == {}


def test_what_is_cut_short_is_left_out():
    whole = of_table(DELTABLE, "ours")
    for length in range(len(whole)):
        assert read(whole[:length]) == ([], Transaction())


def test_what_did_not_fit_the_buffer_is_told_and_half_a_transaction_forgotten(monkeypatch):
    waiting = of_table(DELTABLE, "ours"), 105, of_table(DELTABLE, "other") + ended()
    monkeypatch.setattr(nft_reports, "open_reports", lambda *_: MemoryNetlink(*waiting))
    reports = NftReports()
    (done,) = reports.read()
    assert (reports.lost, done.tables) == (True, {"other": {DELTABLE}})
    assert reports.empty


def test_it_says_when_more_waits(monkeypatch):
    monkeypatch.setattr(nft_reports, "open_reports", lambda *_: MemoryNetlink(*[ended()] * 70))
    reports = NftReports()
    assert (len(reports.read()), reports.empty) == (64, False)
    assert (len(reports.read()), reports.empty) == (6, True)
