"""`python -m ipsec_dp` is the command `ipsec-dp`."""

import os
import signal
import sys

NO_THREADS_OF_NUMPY = {
    "OPENBLAS_NUM_THREADS": "1"
}  # it multiplies no matrices, and privileges are given up while there is one thread


def run() -> int:
    """The command as a process. Ctrl-C while it is loaded, or when it has ended, ends it at once: there is nothing to take away.

    `tools/ipsec-dp` blocks SIGINT until here, so that it never meets the interpreter's own start.
    """
    heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heeded:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    os.environ.update(NO_THREADS_OF_NUMPY)
    from ipsec_dp.cli import main

    try:
        return main(interruptible=heeded)
    finally:
        if heeded:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(run())
