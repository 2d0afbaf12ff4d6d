"""Which interfaces show by their carrier whether there is a tunnel, and when they have one."""

from __future__ import annotations

import asyncio

import pytest

from ipsec_dp.config import load
from ipsec_dp.network.carrier import InterfaceCarriers, carrier_interfaces

AUTH = '[tunnel.auth]\npsk_file = "x.psk"\n'
PROXY_ID = '[[tunnel.proxy_id]]\nlocal = "10.1.0.0/24"\nremote = "10.2.0.0/24"\n'
TO_EVERYTHING = '[[tunnel.proxy_id]]\nlocal = "10.1.0.0/24"\nremote = "0.0.0.0/0"\n'
ELSEWHERE = PROXY_ID.replace("10.1.", "10.9.")
MANUAL = (
    '[tunnel.manual_unsafe]\nsuite = "aes128gcm16"\nspi_in = 0x1001\nspi_out = 0x1002\n'
    'key_in_file = "in.key"\nkey_out_file = "out.key"\n'
)


def tunnel(name="b", start="start", rest=AUTH, interface="ipsec0"):
    return f'[[tunnel]]\nname = "{name}"\nremote = "192.0.2.2"\ninterface = "{interface}"\nstart = "{start}"\n{rest}'


@pytest.fixture
def loaded(tmp_path):
    for name, text in (("x.psk", "a secret of some length\n"), ("in.key", "0a" * 20), ("out.key", "0b" * 20)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)

    def loaded(*tunnels):
        (tmp_path / "a.toml").write_text("".join(tunnels))
        return load(tmp_path / "a.toml")

    return loaded


@pytest.mark.parametrize(
    ("tunnels", "shown"),
    [
        ([tunnel()], {"b": "ipsec0"}),
        ([tunnel(start="respond")], {"b": "ipsec0"}),
        ([tunnel(rest=TO_EVERYTHING + AUTH)], {"b": "ipsec0"}),
        ([tunnel(), tunnel("c", interface="ipsec1")], {"b": "ipsec0", "c": "ipsec1"}),
        ([tunnel(start="on-demand")], {}),
        ([tunnel(rest=PROXY_ID + AUTH)], {}),
        ([tunnel(), tunnel("c", rest=PROXY_ID + AUTH)], {}),
        ([tunnel("c", rest=ELSEWHERE + AUTH), tunnel(rest=TO_EVERYTHING + AUTH)], {}),
        ([tunnel(start="respond", rest=MANUAL)], {}),
    ],
    ids=[
        "calls",
        "is called",
        "everything beyond",
        "two interfaces",
        "on demand",
        "proxy IDs",
        "shared",
        "shared, the other way round",
        "manual keys",
    ],
)
def test_who_is_followed(loaded, tunnels, shown):
    assert carrier_interfaces(loaded(*reversed(tunnels)).tunnels) == shown


def test_the_carrier_is_that_of_the_tunnel(loaded):
    up: set[str] = set()
    carriers: dict[str, bool] = {}
    service = InterfaceCarriers(carriers.__setitem__, up.__contains__)
    config = loaded(tunnel(), tunnel("c", "on-demand", interface="ipsec1"))
    asyncio.run(service.apply(config))
    assert carriers == {"ipsec0": False, "ipsec1": True}
    up.add("b")
    service.changed("b")
    service.changed("c")
    assert carriers == {"ipsec0": True, "ipsec1": True}
    up.clear()
    service.changed("b")
    assert carriers == {"ipsec0": False, "ipsec1": True}


def test_a_new_configuration_may_follow_no_longer(loaded):
    carriers: dict[str, bool] = {}
    service = InterfaceCarriers(carriers.__setitem__, lambda _: False)
    asyncio.run(service.apply(loaded(tunnel())))
    asyncio.run(service.apply(loaded(tunnel(start="on-demand"))))
    assert carriers == {"ipsec0": True}
    service.changed("b")
    assert carriers == {"ipsec0": True}


def test_one_that_was_made_anew_shows_its_tunnel_again(loaded):
    shown: dict[str, bool] = {}

    async def story():
        carriers = InterfaceCarriers(shown.__setitem__, lambda name: name == "b")
        await carriers.apply(loaded(tunnel(), tunnel("c", interface="ipsec1")))
        shown.clear()
        carriers.restored("ipsec0")
        assert shown == {"ipsec0": True}
        carriers.restored("ipsec1")
        assert shown == {"ipsec0": True, "ipsec1": False}
        carriers.restored("ipsec7")
        assert len(shown) == 2

    asyncio.run(story())
