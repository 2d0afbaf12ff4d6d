"""IKEv1: ISAKMP (RFC 2408), main, aggressive and quick mode (RFC 2409), IPsec DOI (RFC 2407); loaded when a tunnel asks."""
