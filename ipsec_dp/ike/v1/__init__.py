"""IKEv1: ISAKMP's messages (RFC 2408), main, aggressive and quick mode (RFC 2409), the IPsec DOI (RFC 2407); loaded when a tunnel asks."""
