"""`ipsec-dp bench`: this machine's ESP (`esp`), and a path between two machines (`server` on the one, `client` on the other)."""
