"""`python -m ipsec_dp` is the command `ipsec-dp`."""

import sys

from ipsec_dp.cli import main

sys.exit(main())
