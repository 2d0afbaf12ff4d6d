"""What the system refused, as one line for a person: the cause, and what helps where that is known."""

from __future__ import annotations

import errno
from typing import Final

REMEDIES: Final = {
    errno.EMFILE: "this process may open no more files: raise the limit with `ulimit -n 1024` or LimitNOFILE=1024",
    errno.ENFILE: "the system may open no more files: raise fs.file-max with sysctl",
    errno.EROFS: "nothing can be written there: mount it read-write, or name another place",
    errno.ENOSPC: "make room there",
    errno.ENOTDIR: "a file is where a directory should be: remove it, or name another place",
    errno.EEXIST: "a file is where a directory should be: remove it, or name another place",
    errno.EPERM: "run it as root, or by the service unit",
    errno.EACCES: "run it as root, or by the service unit",
    errno.ENOMEM: "memory is exhausted: end something else",
    errno.ENAMETOOLONG: "write a shorter name",
}


def text_of(error: OSError) -> str:
    """On one line; begins with the file that the error names."""
    cause = error.strerror or str(error) or type(error).__name__
    file = "" if error.filename is None else f"{error.filename}: "
    remedy = REMEDIES.get(error.errno or 0)
    return " ".join(f"{file}{cause}{'' if remedy is None else f'; {remedy}'}".split())
