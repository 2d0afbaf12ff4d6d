"""What the build says when the system lacks something, and what it takes from where."""

from __future__ import annotations

import platform

import pytest

from native import build_ffi


@pytest.fixture
def lacking(monkeypatch):
    """Pretends that the parts with these names are not there."""

    def pretend(*names: str) -> None:
        monkeypatch.setattr(build_ffi, "is_there", lambda need: need.what not in names)

    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.delenv("IPSEC_DP_WITHOUT_IPSEC_MB", raising=False)
    return pretend


def test_a_complete_system_passes():
    build_ffi.check_system()


@pytest.mark.parametrize(
    ("names", "packages"),
    [
        (["Python.h"], "python3-dev"),
        (["OpenSSL"], "libssl-dev"),
        (["intel-ipsec-mb"], "libipsec-mb-dev"),
        (["OpenSSL", "intel-ipsec-mb"], "libssl-dev libipsec-mb-dev"),
        (["a C compiler", "Python.h", "OpenSSL"], "gcc libc6-dev"),
    ],
)
def test_the_message_names_each_missing_package_and_one_line_that_installs_them(lacking, names, packages):
    lacking(*names)
    with pytest.raises(SystemExit) as stop:
        build_ffi.check_system()
    lines = str(stop.value).splitlines()
    assert lines[0].startswith(f"ipsec-dp cannot be built: {names[0]} is missing (Debian package {packages.split()[0]}")
    assert lines[-1].endswith(f"apt-get install -y {packages}")


def test_without_ipsec_mb_the_build_does_not_ask_for_it(lacking, monkeypatch):
    lacking("intel-ipsec-mb")
    monkeypatch.setenv("IPSEC_DP_WITHOUT_IPSEC_MB", "1")
    build_ffi.check_system()
    assert not build_ffi.with_ipsec_mb()


def test_other_processors_do_without_ipsec_mb(lacking, monkeypatch):
    lacking("intel-ipsec-mb")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    build_ffi.check_system()
    assert not build_ffi.with_ipsec_mb()


@pytest.mark.parametrize("compiler", ["/nonexistent/cc", "false"])
def test_a_compiler_that_is_not_there_or_fails_is_a_missing_compiler(monkeypatch, compiler):
    monkeypatch.setenv("CC", compiler)
    with pytest.raises(SystemExit, match="a C compiler is missing"):
        build_ffi.check_system()


def test_a_library_that_is_not_there_is_seen():
    need = build_ffi.Need("x", "libx-dev", "#include <no-such-header.h>\nint main(void) { return 0; }\n")
    assert not build_ffi.is_there(need)
    need = build_ffi.Need("x", "libx-dev", "int main(void) { return 0; }\n", libraries=("no_such_library",))
    assert not build_ffi.is_there(need)


def test_the_declarations_hold_no_directive_and_every_drop_reason(monkeypatch):
    monkeypatch.chdir(build_ffi.ROOT)
    text = build_ffi.declarations()
    assert "#" not in text
    assert "DP_OK = 0" in text
    assert "DP_DROP_replay" in text
