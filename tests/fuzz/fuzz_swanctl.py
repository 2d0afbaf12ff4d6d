"""Fuzz target: swanctl.conf, in strongSwan's settings format: see `migrate_sources`."""

from tests.fuzz import migrate_sources, target


def receive(data: bytes) -> None:
    migrate_sources.receive(migrate_sources.swanctl, data)


if __name__ == "__main__":
    odd = (b"a{" * 4000, b"a : a { }")
    target.run("swanctl", receive, (*migrate_sources.seeds("swanctl.conf", "*/conf.d/*.conf"), *odd), longest=8192)
