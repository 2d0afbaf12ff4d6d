"""Small helpers that know nothing of IPsec."""
