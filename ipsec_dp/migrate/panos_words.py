"""What of a PAN-OS configuration has no counterpart, with why; and its own profiles, for a source that does not have them."""

from __future__ import annotations

from typing import Final

from ipsec_dp.migrate import reasons

OBJECT: Final = "an address object: write its value"
EXPORT: Final = "certificates and keys are not taken out of a configuration: export them from the firewall, and name the files"
ZONES: Final = "zones and security rules are not translated: write [[zone]] and [[zone_rule]] with the tunnel's interface"
OTHER_TUNNELS: Final = {
    "global-protect-gateway": "remote access (GlobalProtect) is not there: EAP, pools of addresses and XAUTH belong to it",
    "global-protect-site-to-site": "GlobalProtect satellites are not there",
    "gre": "GRE is not there",
}
TUNNEL_LEFT_OUT: Final[dict[str, str]] = {
    "manual-key": "keys set by hand are [tunnel.manual_unsafe], for rigs alone",
    "global-protect-satellite": "GlobalProtect satellites are not there",
    "enable-gre-encapsulation": "GRE is not there",
    "copy-flow-label": "is [[tunnel]] flow_label",
    "ipsec-mode": reasons.TRANSPORT,
    "tunnel-monitor/proxy-id": "the probe goes by the proxy ID that holds it",
    "comment": "a comment",
}
WITHHOLDING: Final = frozenset({"manual-key", "global-protect-satellite", "enable-gre-encapsulation", "ipsec-mode"})
GATEWAY_LEFT_OUT: Final[dict[str, str]] = {
    "protocol/ikev2/require-cookie": "cookies are demanded where there are many half-open IKE SAs",
    "protocol/ikev2/pq-ppk": reasons.PPK,
    "protocol/ikev2/pq-kem": "additional key exchanges are words of a proposal, ke1_mlkem768",
    "protocol-common/nat-traversal/keep-alive-interval": reasons.DELAY,
    "protocol-common/nat-traversal/udp-checksum-enable": reasons.DELAY,
    "authentication/certificate/allow-id-payload-mismatch": "an identity that the certificate does not hold is refused",
    "authentication/certificate/strict-validation-revocation": 'is [tunnel.auth] revocation = "strict", with CRL files',
    "comment": "a comment",
}
TUNNEL: Final = frozenset(
    """auto-key tunnel-interface tunnel-monitor anti-replay anti-replay-window copy-tos copy-flow-label enable-gre-encapsulation
    ipsec-mode disabled comment manual-key global-protect-satellite ipv6""".split()
)
GATEWAY: Final = frozenset(
    "authentication protocol protocol-common local-address peer-address local-id peer-id disabled comment ipv6".split()
)
VERSIONS: Final = {"ikev1": "1", "ikev2": "2", "ikev2-preferred": "2-preferred"}
IDENTITIES: Final = {"ipaddr": "{}", "fqdn": "fqdn:{}", "ufqdn": "email:{}", "keyid": "keyid:0x{}", "dn": "{}"}
WINDOW: Final = 1024

# Profiles that every PAN-OS has: encryption, hashes, groups, seconds.
Profile = tuple[list[str], list[str], list[str], int]
IKE_PROFILES: Final[dict[str, Profile]] = {
    "default": (["aes-128-cbc", "3des"], ["sha1"], ["group2"], 8 * 3600),
    "Suite-B-GCM-128": (["aes-128-cbc"], ["sha256"], ["group19"], 8 * 3600),
    "Suite-B-GCM-256": (["aes-256-cbc"], ["sha384"], ["group20"], 8 * 3600),
}
IPSEC_PROFILES: Final[dict[str, Profile]] = {
    "default": (["aes-128-cbc", "3des"], ["sha1"], ["group2"], 3600),
    "Suite-B-GCM-128": (["aes-128-gcm"], ["none"], ["group19"], 3600),
    "Suite-B-GCM-256": (["aes-256-gcm"], ["none"], ["group20"], 3600),
}
