"""Userspace IPsec for Linux: a Python control plane over a C data plane that seals and opens ESP (RFC 4303)."""

__version__ = "0.1.0"
