"""Which cryptographic libraries this program runs with: what a list of vulnerable versions is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import ipsec_dp
from ipsec_dp.dataplane.libraries import Library, loaded


@dataclass(frozen=True)
class Used:
    """`bundled`: it came with this program and is updated with it, not by the system. `file`: None where that is not known."""

    name: str
    version: str
    bundled: bool
    file: str | None


def libraries() -> list[Used]:
    """Of ESP, and of IKE, whose OpenSSL is linked into the package `cryptography`."""
    return [*map(_of_esp, loaded()), _of_ike()]


def _of_esp(library: Library) -> Used:
    ours = Path(ipsec_dp.__file__).resolve().parents[1]  # a wheel's own libraries lie beside its package, beside it
    bundled = library.file is not None and library.file.is_relative_to(ours)
    return Used(library.name, library.version, bundled, None if library.file is None else str(library.file))


def _of_ike() -> Used:
    from cryptography.hazmat.backends.openssl import backend
    from cryptography.hazmat.bindings._rust import __file__ as extension

    return Used("libcrypto of cryptography", backend.openssl_version_text(), bundled=True, file=extension)
