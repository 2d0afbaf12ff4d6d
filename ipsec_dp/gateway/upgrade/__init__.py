"""A gateway goes on in another process: how the one hands itself over, and the other takes it (docs/upgrade.md)."""
