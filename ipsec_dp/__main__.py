"""`python -m ipsec_dp` is the command `ipsec-dp`."""

import signal
import sys


def run() -> int:
    """The command as a process. Ctrl-C while it is loaded, or when it has ended, ends it at once: there is nothing to take away."""
    heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heeded:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from ipsec_dp.cli import main

    if heeded:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return main()
    finally:
        if heeded:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(run())
