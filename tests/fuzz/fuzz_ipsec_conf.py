"""Fuzz target: ipsec.conf and ipsec.secrets: see `migrate_sources`."""

from tests.fuzz import migrate_sources, target


def receive(data: bytes) -> None:
    migrate_sources.receive(migrate_sources.ipsec_conf, data)


if __name__ == "__main__":
    odd = (b"conn x\n also=x\n", b"conn x\n ike=" + b"aes-" * 2000)
    target.run("ipsec_conf", receive, (*migrate_sources.seeds("ipsec.conf"), *odd), longest=8192)
