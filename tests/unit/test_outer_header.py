"""What a tunnel's keys make of the outer header: the words of the configuration as those of the data plane."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from ipsec_dp.config.packets import Packets
from ipsec_dp.dataplane import Df, Dscp, Encapsulation, Endpoint, Outer, OuterPath
from ipsec_dp.network.outer_header import with_outer_header

PATH = OuterPath(Endpoint(ip_address("192.0.2.1"), 4500), Endpoint(ip_address("192.0.2.2"), 4500), Encapsulation.UDP, 7)

ALL = Outer.HOP_LIMIT_COPY | Outer.FLOW_LABEL | Outer.NO_ECN


def header(**keys: Any) -> OuterPath:
    return with_outer_header(PATH, Packets(**keys))


def test_by_default_df_and_dscp_are_the_inner_packets_and_the_rest_is_the_hosts():
    path = header()
    assert (path.df, path.dscp, path.dscp_value, path.hop_limit, path.outer) == (Df.COPY, Dscp.COPY, 0, 0, Outer(0))


@pytest.mark.parametrize(("word", "df"), [("copy", Df.COPY), ("set", Df.SET), ("clear", Df.CLEAR)])
def test_df(word, df):
    assert header(df=word).df is df


@pytest.mark.parametrize("value", [0, 46])
def test_a_dscp_that_is_given_is_written_even_0(value):
    path = header(dscp=value)
    assert (path.dscp, path.dscp_value) == (Dscp.VALUE, value)


@pytest.mark.parametrize(
    ("keys", "hop_limit", "outer"),
    [
        ({"hop_limit": 0}, 0, Outer(0)),
        ({"hop_limit": 200}, 200, Outer(0)),
        ({"hop_limit": "copy"}, 0, Outer.HOP_LIMIT_COPY),
        ({"flow_label": "flow"}, 0, Outer.FLOW_LABEL),
        ({"ecn": "compatibility"}, 0, Outer.NO_ECN),
        (
            {"hop_limit": "copy", "flow_label": "flow", "ecn": "compatibility"},
            0,
            ALL,
        ),
    ],
)
def test_each_word_has_a_flag_of_its_own(keys, hop_limit, outer):
    path = header(**keys)
    assert (path.hop_limit, path.outer) == (hop_limit, outer)


def test_where_the_packets_go_stays():
    path = header(df="clear", dscp=46)
    assert (path.local, path.remote, path.encapsulation, path.link) == (PATH.local, PATH.remote, PATH.encapsulation, 7)
