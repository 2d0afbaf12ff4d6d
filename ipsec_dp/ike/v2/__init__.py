"""IKEv2 (RFC 7296): its octets, its keys, and the machine of one IKE SA."""
