"""The databases of RFC 4301 §4.4: SPD, SAD, PAD."""
