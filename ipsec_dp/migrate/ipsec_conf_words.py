"""What is read of a `conn` in either dialect of ipsec.conf, and what has no counterpart, with why."""

from __future__ import annotations

import re
from typing import Final, Literal

from ipsec_dp.migrate import reasons

Dialect = Literal["strongswan", "libreswan"]

# Words that only one of them has.
LIBRESWAN_SETUP: Final = frozenset(
    """protostack virtual-private virtual_private nat_traversal logfile plutodebug dumpdir nhelpers ikev1-policy nflog-all
    listen-tcp seccomp plutostderrlog""".split()
)
LIBRESWAN_KEYS: Final = frozenset(
    """ikev2 phase2 phase2alg salifetime ipsec-lifetime ipsec-interface vti-interface vti-routing vti-shared leftvti rightvti
    narrowing leftaddresspool rightaddresspool leftmodecfgclient rightmodecfgclient leftmodecfgserver rightmodecfgserver
    leftxauthclient
    leftxauthserver rightxauthserver rightxauthclient encapsulation forceencaps pfs sha2-truncbug initial-contact leftsubnets
    rightsubnets overlapip nic-offload cisco-unity aggrmode leftnexthop rightnexthop leftinterface-ip esn intermediate
    ikev2-allow-narrowing negotiationshunt failureshunt decap-dscp""".split()
)
# Of `config setup`, what a tunnel takes over, or what is so anyhow.
SETUP: Final = {"strictcrlpolicy": ("yes", "no"), "uniqueids": ("yes", "replace", "never", "keep")}
LIBRESWAN_PROPOSAL: Final = re.compile(r"[;+]|(?:^|[-,\s])(?:sha2|dh[0-9]+|aes_\w+|null)(?:[-,\s]|$)")
LIBRESWAN_VALUES: Final = {"auto": ("ondemand", "keep"), "authby": ("rsa-sha2", "ecdsa", "null"), "type": ("reject",)}

# Keys of a side stand without left and right.
COMMON: Final = frozenset(
    """auto keyexchange ike esp ikelifetime lifetime keylife margintime rekeymargin rekeyfuzz rekey reauth authby type aggressive
    dpdaction dpddelay mobike inactivity replay_window forceencaps""".split()
)
SIDE: Final = frozenset("subnet id cert auth ca protoport sendcert ikeport".split())
LIBRESWAN_READ: Final = frozenset(
    """ikev2 phase2 phase2alg salifetime ipsec-lifetime pfs esn encapsulation replay-window mtu subnets aggrmode sourceip
    metric""".split()
)
LEFT_OUT: Final[dict[str, str]] = {
    "mobike": reasons.MOBIKE,
    "dpdtimeout": "liveness counts questions, [tunnel.ike] liveness retries",
    "keyingtries": reasons.TRIES,
    "rekeyfuzz": reasons.FUZZ,
    "closeaction": 'what the peer closes is asked for again where start = "start"',
    "fragmentation": "IKE messages go in fragments where the peer takes them, [tunnel.ike] fragment_size",
    "compress": reasons.COMPRESSION,
    "ah": reasons.AH,
    "installpolicy": reasons.KERNEL_POLICY,
    "reqid": reasons.KERNEL_POLICY,
    "priority": reasons.KERNEL_POLICY,
    "tfc": reasons.PADDING,
    "tfcpad": reasons.PADDING,
    "ikedscp": "the DSCP of IKE messages is not set",
    "eap_identity": reasons.EAP,
    "aaa_identity": reasons.EAP,
    "xauth": reasons.XAUTH,
    "xauth_identity": reasons.XAUTH,
    "modeconfig": reasons.XAUTH,
    "mediation": reasons.MEDIATION,
    "mediated_by": reasons.MEDIATION,
    "me_peerid": reasons.MEDIATION,
    "hw_offload": reasons.HARDWARE,
    "nic-offload": reasons.HARDWARE,
    "leftupdown": reasons.HOOK,
    "rightupdown": reasons.HOOK,
    "leftfirewall": reasons.FIREWALL,
    "rightfirewall": reasons.FIREWALL,
    "lefthostaccess": reasons.FIREWALL,
    "righthostaccess": reasons.FIREWALL,
    "nflog-group": reasons.FIREWALL,
    "cisco-unity": reasons.XAUTH,
    "narrowing": "selectors are narrowed as the RFC says",
    "ikev2-allow-narrowing": "selectors are narrowed as the RFC says",
    "overlapip": "selectors that overlap are told apart by the identity of the peer, or by the tunnel's interface",
    "initial-contact": "INITIAL_CONTACT is sent where it is true",
    "sha2-truncbug": "SHA-256 cut to 96 bits is not there",
    "connalias": "a group of connections has no name of its own",
    "leftnexthop": "the route to the peer is the kernel's",
    "rightnexthop": "the route to the peer is the kernel's",
    "ppk": reasons.PPK,
    "labeled-ipsec": reasons.LABEL,
    "policy-label": reasons.LABEL,
    "sec-label": reasons.LABEL,
    "negotiationshunt": "nothing protected leaves in clear",
    "failureshunt": "nothing protected leaves in clear",
    "nopmtudisc": "the path's MTU is always looked for",
    "decap-dscp": "is [[tunnel]] dscp_in",
    "intermediate": "IKE_INTERMEDIATE is used where a proposal has keN_ words",
    **dict.fromkeys("mark mark_in mark_out mark-in mark-out".split(), reasons.MARK),
    **dict.fromkeys(
        "ipsec-interface vti-interface vti-routing vti-shared leftvti rightvti leftinterface-ip if_id_in if_id_out".split(),
        reasons.INTERFACE,
    ),
    **dict.fromkeys("modecfgpull modecfgdns modecfgdomains modecfgbanner pam-authorize xauthby xauthfail".split(), reasons.XAUTH),
    **{
        f"{side}{word}": why
        for side in ("left", "right")
        for word, why in {
            "sourceip": reasons.VIRTUAL_IP,
            "addresspool": reasons.VIRTUAL_IP,
            "dns": reasons.VIRTUAL_IP,
            "auth2": reasons.ROUNDS,
            "cert2": reasons.ROUNDS,
            "id2": reasons.ROUNDS,
            "ca2": reasons.ROUNDS,
            "groups": "groups of peers are not there yet",
            "groups2": "groups of peers are not there yet",
            "certpolicy": "the policies of certificates are not chosen here",
            "sendcert": reasons.CERTIFICATE_REQUEST,
            "sigkey": reasons.RAW_KEY,
            "rsasigkey": reasons.RAW_KEY,
            "ecdsakey": reasons.RAW_KEY,
            "pubkey": reasons.RAW_KEY,
            "ckaid": reasons.NSS,
            "allowany": "whoever proves the identity may come from any address where remote is a name",
            "ikeport": "IKE uses ports 500 and 4500",
            "modecfgserver": reasons.XAUTH,
            "modecfgclient": reasons.XAUTH,
            "xauthserver": reasons.XAUTH,
            "xauthclient": reasons.XAUTH,
            "xauthusername": reasons.XAUTH,
            "username": reasons.XAUTH,
            "subnetwithin": "a range of subnets that peers may choose is not there yet",
        }.items()
    },
}
# Of these the tunnel says nothing that would hold without them.
WITHHOLDING: Final = frozenset(
    """leftauth2 rightauth2 xauth_identity leftxauthclient leftxauthserver rightxauthserver rightxauthclient eap_identity
    leftmodecfgclient rightsourceip rightaddresspool leftrsasigkey rightrsasigkey rightgroups rightsubnetwithin
    leftsigkey rightsigkey""".split()
)
# What of these makes no difference: rightrsasigkey = %cert and the like say what is so here anyhow.
HARMLESS: Final = {
    "rsasigkey": ("%cert", "%dnsondemand", "%dns"),
    "sendcert": ("always", "yes", "ifasked"),
    "fragmentation": ("yes",),
}

START: Final[dict[str, str]] = {
    "start": "start",
    "route": "on-demand",
    "ondemand": "on-demand",
    "keep": "respond",
    "add": "respond",
}
DPD: Final = {"none": "clear", "clear": "clear", "hold": "trap", "trap": "trap", "restart": "restart"}
TYPES: Final = {
    "transport": reasons.TRANSPORT,
    "transport_proxy": reasons.TRANSPORT,
    "passthrough": reasons.POLICIES,
    "pass": reasons.POLICIES,
    "drop": reasons.POLICIES,
    "reject": reasons.POLICIES,
}
VERSIONS: Final = {
    "strongswan": {"ike": "2", "ikev2": "2", "ikev1": "1"},
    "libreswan": {"ike": "2", "ikev2": "2", "ikev1": "1"},
}
IKEV2_WORDS: Final = {"insist": "2", "yes": "2", "propose": "2", "no": "1", "never": "1", "permit": "1"}
