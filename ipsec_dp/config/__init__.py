"""The configuration: `load(path)` gives a frozen `Config`, or raises ConfigError with all that is wrong at once.

`tables` is the file as written, `model` what the rest of the program gets; `resolve` leads from one to the other, `check` looks at
all of it together, `files` reads the secrets it names.
"""

from ipsec_dp.config.files import ManualKeys, load_manual_keys
from ipsec_dp.config.load import examine, load, load_to_close, located
from ipsec_dp.config.model import (
    CertificateAuth,
    Config,
    Esp,
    Ike,
    Liveness,
    ManualSa,
    Monitor,
    Policy,
    PskAuth,
    Route,
    Tunnel,
    Zone,
    ZoneRule,
    control_socket,
)

__all__ = [
    "CertificateAuth",
    "Config",
    "Esp",
    "Ike",
    "Liveness",
    "ManualKeys",
    "ManualSa",
    "Monitor",
    "Policy",
    "PskAuth",
    "Route",
    "Tunnel",
    "Zone",
    "ZoneRule",
    "control_socket",
    "examine",
    "load",
    "load_manual_keys",
    "load_to_close",
    "located",
]
