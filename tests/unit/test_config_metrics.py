"""[metrics]: off without its table, at a loopback address by default, and a warning where others reach it."""

from __future__ import annotations

import pytest

from ipsec_dp.config.metrics import parse_listen
from ipsec_dp.errors import BadValueError, ConfigError
from tests.doubles.config import configured, tunnel


def test_without_its_table_nothing_listens_and_with_it_this_host_alone_may_read(tmp_path):
    assert configured(tmp_path, tunnel()).metrics is None
    config = configured(tmp_path, "[metrics]\n", tunnel())
    assert str(config.metrics) == "127.0.0.1:9551"
    assert config.metrics is not None
    assert config.metrics.address.is_loopback
    assert config.warnings == ()


@pytest.mark.parametrize("listen", ["192.0.2.1:9551", "0.0.0.0:9551", "[::]:9551"])
def test_where_others_reach_it_check_warns(tmp_path, listen):
    config = configured(tmp_path, f'[metrics]\nlisten = "{listen}"\n', tunnel())
    (warning,) = config.warnings
    assert warning.key == "listen"
    assert f"whoever reaches {listen} reads the names of all tunnels" in str(warning)


@pytest.mark.parametrize(
    "text",
    ["", "9551", "localhost:9551", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "::1:9551", "[::1]", "[::1]:x",
     "224.0.0.1:9551", "127.0.0.1:9551 ", "1.2.3:9551", "[127.0.0.1:1]:2"],
)  # fmt: skip
def test_what_is_no_address_with_a_port_is_refused(text):
    with pytest.raises(BadValueError):
        parse_listen(text)


@pytest.mark.parametrize("written", ["listen = 9551", 'listen = ""', 'lisen = "127.0.0.1:1"'])
def test_a_wrong_table_is_an_error_at_its_place(tmp_path, written):
    with pytest.raises(ConfigError, match="metrics"):
        configured(tmp_path, f"[metrics]\n{written}\n", tunnel())
