"""What a gateway does by its configuration beside the packet path: path MTU, tunnel monitors, host watch, zone log."""
