"""What protects this process's memory as a whole: from being read by others, and from swap."""

from __future__ import annotations

import resource

from ipsec_dp._native import lib
from ipsec_dp.dataplane.convert import check


def protect_process() -> None:
    """Makes this process undumpable: no core file, and nobody but root reads its memory. Raises DataPlaneError.

    Where RLIMIT_MEMLOCK is no limit all of its memory stays out of swap as well, with the keys that are Python's, and what is
    mapped later; the limit must not be lowered then. Under a limit, or where the kernel refuses, none of it does
    (`memory_is_locked`) but what is locked by itself, as the data plane's keys.
    """
    check(lib.dp_process_protect(), "making the process undumpable")
    if resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY:
        lib.dp_process_lock()


def memory_is_locked() -> bool:
    """Whether all memory of this process stays out of swap."""
    return bool(lib.dp_process_is_locked())
