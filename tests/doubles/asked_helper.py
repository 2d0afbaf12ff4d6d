"""A process that may open some files only with the help of another, and what it asks that one."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from pathlib import Path

import pytest

from ipsec_dp.util import opening


@contextmanager
def asking(closed):
    """The names in each question. `closed`: those of files that the process may not open."""
    questions: list[list[str]] = []
    really = os.open

    def own(file, flags, *rest, **more):
        if Path(file).name in closed:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return really(file, flags, *rest, **more)

    def one(file, flags):
        questions.append([Path(file).name])
        return really(file, flags)

    def several(files):
        questions.append([Path(file).name for file in files])
        return {file: really(file, opening.READING | os.O_NOFOLLOW) for file in files if not os.path.islink(file)}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", own)
        opening.help_by(one, several)
        before = os.listdir("/proc/self/fd")
        try:
            yield questions
        finally:
            opening.help_by(None)
        assert len(os.listdir("/proc/self/fd")) == len(before), "nothing stays open"
