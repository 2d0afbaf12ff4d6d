"""Fuzz target: PAN-OS's set commands and XML exports: see `migrate_sources`."""

from tests.fuzz import migrate_sources, target


def receive(data: bytes) -> None:
    migrate_sources.receive(migrate_sources.panos, data)


if __name__ == "__main__":
    odd = (b"<a>" * 2500, b"set network " + b"a " * 4000)
    target.run("panos", receive, (*migrate_sources.seeds("running.set", "export.xml"), *odd), longest=8192)
