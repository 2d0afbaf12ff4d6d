"""One gateway: its life, reload, events, status, control socket."""
