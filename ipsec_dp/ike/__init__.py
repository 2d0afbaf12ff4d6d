"""IKE as a pure core: octets, `now` and randomness go in, values come out; no socket, no clock. Each version has a package."""
