"""IKEv2 (RFC 7296) as a pure core: octets, `now` and randomness go in, values come out; no socket, no clock."""
