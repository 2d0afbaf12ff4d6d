"""Values of the standards: addresses, selectors, rules, algorithms (RFC 4301, 4303). No I/O, no state."""
