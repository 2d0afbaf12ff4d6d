"""The conformance kit: cases of RFC 7296, 4303, 3948 and 7383 run against a gateway on the network, and a report of them."""
