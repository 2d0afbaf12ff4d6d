"""`ipsec-dp` whose path MTU has shorter intervals: `python -m tests.netns.with_intervals raise_s=3 -- up …`."""

import sys
from dataclasses import replace

from ipsec_dp.cli import main
from ipsec_dp.services import path_mtu

if __name__ == "__main__":
    end = sys.argv.index("--")
    changes = {name: float(value) for name, _, value in (each.partition("=") for each in sys.argv[1:end])}
    path_mtu.INTERVALS = replace(path_mtu.INTERVALS, **changes)
    sys.argv[1 : end + 1] = []
    sys.exit(main())
