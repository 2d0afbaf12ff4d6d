"""The SPI of ESP in text: eight hexadecimal digits (RFC 4303 §2.1), as packet captures and other implementations show it."""

from __future__ import annotations


def spi_text(spi: int | None) -> str:
    """ "0x00001001"; "none" where there is no SA."""
    return "none" if spi is None else f"{spi:#010x}"
