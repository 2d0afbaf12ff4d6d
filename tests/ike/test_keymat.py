"""Key material against NIST's published values and against a computation that shares no code with ours."""

import json
from pathlib import Path

import pytest

from ipsec_dp.ike.proposal import parse_esp, parse_ike
from ipsec_dp.ike.suites import esp_suite, ike_suite
from ipsec_dp.ike.v2 import keymat
from ipsec_dp.ipsec.transforms import PRFS

VECTORS = Path(__file__).parents[1] / "vectors" / "ike"
PRF_BY_HASH = {prf.hash: prf for prf in PRFS}


def cases(name):
    return json.loads((VECTORS / name).read_text())["cases"]


def octets(case, *names):
    return [bytes.fromhex(case[name]) for name in names]


def suites(case):
    protection = "-".join(filter(None, (case["encryption"], case["integrity"])))
    ike = ike_suite(parse_ike([f"{protection}-prf{case['prf']}-{case['group']}"])[0])
    return ike, esp_suite(parse_esp([protection])[0])


@pytest.mark.parametrize("case", cases("nist_ikev2_kdf.json"), ids=lambda case: case["prf"])
def test_nist_values(case):
    prf = PRF_BY_HASH[case["prf"]]
    ni, nr, spi_i, spi_r, g_ir, g_ir_new = octets(case, "nonce_i", "nonce_r", "spi_i", "spi_r", "g_ir", "g_ir_new")
    seed = keymat.skeyseed(prf, ni, nr, g_ir)
    assert seed.hex() == case["skeyseed"]
    stream = keymat.prf_plus(prf, seed, ni + nr + spi_i + spi_r, 132)
    assert stream.hex() == case["dkm"]
    sk_d = stream[: prf.octets]
    assert keymat.next_skeyseed(prf, sk_d, ni, nr, [g_ir_new]).hex() == case["skeyseed_rekey"]
    if "dkm_child" in case:
        assert keymat.prf_plus(prf, sk_d, ni + nr, 132).hex() == case["dkm_child"]
        assert keymat.prf_plus(prf, sk_d, g_ir_new + ni + nr, 132).hex() == case["dkm_child_dh"]


@pytest.mark.parametrize("case", cases("keymat.json"), ids=lambda case: f"{case['encryption']}-{case['prf']}")
def test_ike_keys(case):
    suite, _ = suites(case)
    ni, nr, spi_i, spi_r = octets(case, "nonce_i", "nonce_r", "spi_i", "spi_r")
    seed = keymat.skeyseed(suite.prf, ni, nr, bytes.fromhex(case["shared_secrets"][0]))
    assert seed.hex() == case["skeyseed"]
    keys = keymat.ike_keys(suite, seed, ni, nr, spi_i, spi_r)
    assert {name: getattr(keys, name).hex() for name in case["keys"]} == case["keys"]


@pytest.mark.parametrize("case", cases("keymat.json"), ids=lambda case: f"{case['encryption']}-{case['prf']}")
def test_rekeying_and_child_keys_take_any_number_of_shared_secrets(case):
    suite, esp = suites(case)
    ni, nr = octets(case, "nonce_i", "nonce_r")
    sk_d = bytes.fromhex(case["keys"]["sk_d"])
    _, second, third = map(bytes.fromhex, case["shared_secrets"])
    for secrets, name in (([second], "skeyseed_rekey"), ([second, third], "skeyseed_rekey_two_exchanges")):
        assert keymat.next_skeyseed(suite.prf, sk_d, ni, nr, secrets).hex() == case[name]
    for secrets, name in (([], "keymat"), ([second], "keymat_pfs"), ([second, third], "keymat_two_exchanges")):
        keys = keymat.child_keys(suite.prf, sk_d, esp, ni, nr, secrets)
        assert (keys.encr_i + keys.integ_i + keys.encr_r + keys.integ_r).hex() == case[name]
        assert len(keys.encr_i) == esp.encryption.key + esp.encryption.salt
        assert len(keys.integ_i) == (0 if esp.integrity is None else esp.integrity.key)


@pytest.mark.parametrize("wanted", [0, 1, 31, 32, 33, 255 * 32])
def test_prf_plus_gives_exactly_what_is_asked(wanted):
    prf = PRF_BY_HASH["sha256"]
    whole = keymat.prf_plus(prf, b"key", b"seed", 255 * 32)
    assert keymat.prf_plus(prf, b"key", b"seed", wanted) == whole[:wanted]


def test_prf_plus_ends_with_its_one_octet_counter():
    with pytest.raises(ValueError, match="8161"):
        keymat.prf_plus(PRF_BY_HASH["sha256"], b"key", b"seed", 255 * 32 + 1)


def test_wiped_keys_are_zero_and_a_repr_never_holds_any():
    suite, esp = suites(cases("keymat.json")[3])
    for keys in (
        keymat.ike_keys(suite, b"seed", b"i" * 16, b"r" * 16, b"s" * 8, b"t" * 8),
        keymat.child_keys(suite.prf, b"d" * 32, esp, b"i" * 16, b"r" * 16),
    ):
        assert repr(keys) == f"<{type(keys).__name__}>"
        held = [getattr(keys, name) for name in keys.__slots__]
        assert any(any(key) for key in held)
        keys.wipe()
        assert not any(any(key) for key in held)
