"""An IKE SA that ends is gone at once, without the garbage collector: a reload keeps what is there out of later collections."""

import gc
from weakref import ref

import pytest

from .ladder import Ladder


@pytest.fixture(autouse=True)
def without_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("how", ["terminated", "rekeyed", "never up"])
def test_an_ike_sa_that_ends_leaves_nothing_behind(how):
    ladder = Ladder()
    if how == "never up":
        ladder.initiate("a")
    else:
        ladder.up()
    sas = [ref(session) for site in ladder.sites.values() for session in site.core.sessions()]
    assert sas
    if how == "rekeyed":
        ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock(), ike=True))
        ladder.settle()
    else:
        ladder.a.do(ladder.a.core.terminate("to-b", ladder.clock()))
        ladder.settle()
    ladder.run(200)
    assert [sa for sa in sas if sa() is not None] == []
