"""What follows the configuration beside the packet path: `apply` at start and reload, `close` at the end."""
