"""What the gateway makes of its host: interfaces, routes, outer sockets, guard."""
