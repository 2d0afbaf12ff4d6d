"""What a gateway in memory and the daemon in a namespace are asked alike, as a table; `rig_runner` carries it out on either.

A scenario is one tunnel from gateway a to gateway b, with outer addresses and inner networks of its own, so that those of a group
share two gateways and their time. Its steps are words, "WHO: WHAT", one after the other; what stands at the same place in other
scenarios of the group happens together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

ALL = 1000  # events of one tunnel, that is


@dataclass(frozen=True)
class Scenario:
    """`both`, `a`, `b`: keys of its [[tunnel]] that are not as usual, and its tables; "{a}", "{b}" in proxy IDs stand for the
    networks 10.n.1 and 10.n.2. `later`: of a and b, what the step "reload" makes of it; None: the tunnel goes.

    `first`: so many events of each side are compared, where time makes more of them, and no state. `ends`: the states of a and b
    and the number of their CHILD_SAs, "up/up 1/1", which both have to come to. `told`: a kind of event that a or b has to tell of.
    """

    name: str
    steps: str
    both: dict[str, Any] = field(default_factory=dict)
    a: dict[str, Any] = field(default_factory=dict)
    b: dict[str, Any] = field(default_factory=dict)
    later: tuple[dict[str, Any] | None, dict[str, Any] | None] | None = None
    there: bool = True  # before the reload
    first: int = ALL
    ends: str = "up/up 1/1"
    told: str = ""
    loose: bool = False  # chance decides who is first: only how it ends is compared

    @property
    def words(self) -> list[str]:
        return self.steps.split("; ")


@dataclass(frozen=True)
class Group:
    """Scenarios between two gateways; `nat`: gateway a is behind one; `mtu` of the wire. `crowd`: all have the same outer
    addresses, and b is to have asked for cookies."""

    name: str
    scenarios: tuple[Scenario, ...]
    nat: bool = False
    mtu: int = 1500
    crowd: bool = False


def ids(local, remote) -> dict[str, Any]:
    return {"auth": {"local_id": local, "remote_id": remote}}


def proposals(ike=None, esp=None) -> dict[str, Any]:
    return {**({"ike": {"proposals": ike}} if ike else {}), **({"esp": {"proposals": esp}} if esp else {})}


def proxies(*pairs, **more) -> dict[str, Any]:
    return {"proxy_id": [{"local": local, "remote": remote, **more} for local, remote in pairs]}


def certificate(kind, who, ca="ca") -> dict[str, Any]:
    """Of `rig_runner.authorities`."""
    files = {"certificate": f"{kind}-{who}.crt", "private_key": f"{kind}-{who}.key", "ca": [f"{ca}.crt"], "psk_file": None}
    other = "b" if who == "a" else "a"
    return {"auth": {**files, "local_id": f"{who}{{n}}.example", "remote_id": f"{other}{{n}}.example"}}


def certificates(kind) -> dict[str, Any]:
    return {"a": certificate(kind, "a"), "b": certificate(kind, "b")}


CALLED: dict[str, Any] = {"start": "respond"}
V1: dict[str, Any] = {"ike": {"version": "1"}}
UP = "up"
CARRIES = "up; a: sends; b: gets; b: sends; a: gets"
FAILS = "a: IKE SA failed"
NOTHING: dict[str, Any] = {"first": 1, "ends": "- 0/0", "told": "IKE SA failed"}
A_AND_B = (("{a}.0/25", "{b}.0/25"), ("{a}.128/26", "{b}.128/26"), ("{a}.192/26", "{b}.192/26"))
B_AND_A = tuple((remote, local) for local, remote in A_AND_B)
FIRST_A, FIRST_B = proxies(A_AND_B[0]), proxies(B_AND_A[0])


def silent(action, **more) -> dict[str, Any]:
    return {"ike": {"liveness": {"interval": "1s", "retries": 1, "action": action}, **more}}


AUTHENTICATION = (
    Scenario("psk", CARRIES),
    Scenario("ecdsa", UP, **certificates("ec")),
    Scenario("rsa", UP, **certificates("rsa")),
    Scenario("ed25519", UP, **certificates("ed25519")),
    Scenario("psk against certificate", FAILS, b=certificate("ec", "b"), **NOTHING),
    Scenario("another CA", FAILS, a=certificate("ec", "a", ca="other"), b=certificate("ec", "b"), **NOTHING),
    Scenario("addresses as identities", UP, a={"auth": {"local_id": None, "remote_id": None}}, b=ids(None, None)),
    Scenario("mail addresses", UP, a=ids("a@{n}.example", "b@{n}.example"), b=ids("b@{n}.example", "a@{n}.example")),
    Scenario("key identifiers", UP, a=ids("keyid:a", "keyid:b"), b=ids("keyid:b", "keyid:a")),
    Scenario("wrong psk", FAILS, a={"auth": {"psk_file": "wrong.psk"}}, **NOTHING),
    Scenario("wrong remote_id", FAILS, a={"auth": {"remote_id": "c.example"}}, **NOTHING),
    Scenario("wrong local_id", FAILS, a={"auth": {"local_id": "c.example"}}, **NOTHING),
)
SUITES = (
    Scenario("aes128gcm16", CARRIES, both=proposals(esp=["aes128gcm16"])),
    Scenario("aes256gcm16-esn", CARRIES, both=proposals(esp=["aes256gcm16-esn"])),
    Scenario("chacha20poly1305", CARRIES, both=proposals(["chacha20poly1305-prfsha256-x25519"], ["chacha20poly1305"])),
    Scenario("aes256-sha512", CARRIES, both=proposals(["aes256-sha512-ecp384"], ["aes256-sha512"])),
    Scenario("aes128-sha256", CARRIES, both=proposals(["aes128-sha256-modp3072"], ["aes128-sha256-esn"])),
    Scenario("the second proposal", UP, a=proposals(esp=["chacha20poly1305", "aes128gcm16"]), b=proposals(esp=["aes128gcm16"])),
    Scenario(
        "another group first",
        UP,
        a=proposals(["aes256gcm16-prfsha384-x25519-ecp256"]),
        b=proposals(["aes256gcm16-prfsha384-ecp256"]),
    ),
    Scenario(
        "no common IKE proposal",
        FAILS,
        a=proposals(["aes256gcm16-prfsha384-ecp384"]),
        b=proposals(["aes128-sha256-ecp256"]),
        **NOTHING,
    ),
    Scenario(
        "no common ESP proposal",
        "a: CHILD_SA failed",
        a=proposals(esp=["aes256gcm16"]),
        b=proposals(esp=["aes128-sha256"]),
        first=2,
        ends="- 0/0",
        told="CHILD_SA failed",
    ),
    Scenario("forward secrecy", f"{UP}; a: rekey; a: CHILD_SA rekeyed; one", both=proposals(esp=["aes256gcm16-x25519"])),
    Scenario("udp encapsulation", CARRIES, both={"encapsulation": "udp"}),
    Scenario("esp encapsulation", CARRIES, both={"encapsulation": "esp"}),
    Scenario("port 4500 at once", CARRIES, both={"ike": {"port": 4500}}),
)
SELECTORS = (
    Scenario("three proxy IDs", UP, a=proxies(*A_AND_B), b=proxies(*B_AND_A)),
    Scenario("one service", UP, a=proxies(("{a}.0/24", "{b}.0/24"), protocol="tcp", remote_ports=443),
             b=proxies(("{b}.0/24", "{a}.0/24"), protocol="tcp", local_ports=443)),
    Scenario("b narrows", UP, b=FIRST_B),
    Scenario("a asks for less", UP, a=FIRST_A),
    Scenario("one of two fits", "a: is partial", a=proxies(*A_AND_B[:2]), b=FIRST_B, ends="- 1/1", first=2, told="CHILD_SA up"),
    Scenario("none fits", "a: CHILD_SA failed", a=proxies(("{a}.0/24", "172.16.{n}.0/24")), first=2, ends="- 0/0",
             told="CHILD_SA failed"),
    Scenario("ipv6 inside", UP, a=proxies(("fd00:{n}:1::/64", "fd00:{n}:2::/64")),
             b=proxies(("fd00:{n}:2::/64", "fd00:{n}:1::/64"))),
    Scenario("ipv6 outside", CARRIES, a={"local": "2001:db8:{n}::1", "remote": "2001:db8:{n}::2"},
             b={"local": "2001:db8:{n}::2", "remote": "2001:db8:{n}::1"}),
)  # fmt: skip
STARTS = (
    Scenario("on demand", "a: sends; b: gets; up", a={"start": "on-demand"}),
    Scenario("when it is told", "a: initiate; up", a=CALLED),
    Scenario("both at once", "up; one", b={"start": "start"}, loose=True),
    Scenario("any remote", UP, b={"remote": "any"}),
    Scenario("nobody calls", "a: is waiting", a=CALLED, ends="waiting/waiting 0/0"),
)
KEYS = (
    Scenario("a rekeys the child", "up; a: rekey; b: CHILD_SA rekeyed; one; a: sends; b: gets"),
    Scenario("b rekeys the child", "up; b: rekey; a: CHILD_SA rekeyed; one; b: sends; a: gets"),
    Scenario("a rekeys IKE", "up; a: rekey ike; b: IKE SA rekeyed; a: IKE SA rekeyed; a: sends; b: gets"),
    Scenario("b rekeys IKE", "up; b: rekey ike; a: IKE SA rekeyed; b: IKE SA rekeyed; b: sends; a: gets"),
    Scenario("IKE and then the child", "up; a: rekey ike; b: IKE SA rekeyed; a: rekey; b: CHILD_SA rekeyed; one"),
    Scenario("both rekey the child", "up; both: rekey; a: CHILD_SA rekeyed; one", loose=True),
    Scenario("three proxy IDs rekeyed", "up; a: rekey; b: CHILD_SA rekeyed; one", a=proxies(*A_AND_B), b=proxies(*B_AND_A)),
    Scenario("child by time", "up; b: CHILD_SA rekeyed", a={"esp": {"rekey_after": "2s"}}, first=3, ends="- 1/1"),
    Scenario("child by time at b", "up; a: CHILD_SA rekeyed", b={"esp": {"rekey_after": "2s"}}, first=3, ends="- 1/1"),
    Scenario("IKE by time", "up; b: IKE SA rekeyed", a={"ike": {"rekey_after": "2s"}}, first=3, ends="- 1/1"),
    Scenario("authenticated again", "up; a: IKE SA authenticated again", a={"ike": {"reauth_after": "3s"}}, first=3, ends="- 1/1"),
    Scenario("forward secrecy of another group", "up; a: rekey; b: CHILD_SA failed", first=2, ends="- 1/1",
             a=proposals(esp=["aes256gcm16-x25519"]), b=proposals(esp=["aes256gcm16-ecp256"]), told="CHILD_SA failed"),
)  # fmt: skip
ENDS = (
    Scenario("a deletes", "up; a: terminate; b: IKE SA down", ends="down/waiting 0/0"),
    Scenario("b deletes", "a: initiate; up; b: terminate; a: IKE SA down", a=CALLED, ends="waiting/waiting 0/0"),
    Scenario("deleted and called again", "up; a: terminate; b: IKE SA down; a: initiate; up"),
    Scenario("idle", "a: IKE SA down; b: IKE SA down", a={"esp": {"idle_timeout": "2s"}}, ends="waiting/waiting 0/0"),
)
IKEV1 = (
    Scenario("v1 main mode", CARRIES, both=V1),
    Scenario("v1 aggressive mode", CARRIES, both={"ike": {"version": "1", "mode": "aggressive"}}),
    Scenario("v1 rsa", UP, both=V1, **certificates("rsa")),
    Scenario("v1 two proxy IDs", UP, both=V1, a=proxies(*A_AND_B[:2]), b=proxies(*B_AND_A[:2]), ends="up/up 2/2"),
    Scenario("v1 forward secrecy", UP, both=V1 | proposals(esp=["aes256-sha256-ecp256"])),
    Scenario("v1 a renews phase 2", "up; a: rekey; b: CHILD_SA rekeyed; one; a: sends; b: gets", both=V1),
    Scenario("v1 b renews phase 2", "up; b: rekey; a: CHILD_SA rekeyed; one; b: sends; a: gets", both=V1),
    Scenario("v1 a renews phase 1", "up; a: rekey ike; a: IKE SA rekeyed; b: IKE SA rekeyed; a: sends; b: gets", both=V1),
    Scenario("v1 deleted", "up; a: terminate; b: IKE SA down", both=V1, ends="down/waiting 0/0"),
    Scenario("v1 other proxy IDs", "a: CHILD_SA failed", both=V1, b=FIRST_B, first=2, ends="- 0/0", told="CHILD_SA failed"),
    Scenario("v1 no common proposal", FAILS, a={"ike": {"version": "1", "proposals": ["aes256-sha384-ecp384"]}},
             b={"ike": {"version": "1", "proposals": ["aes128-sha256-ecp256"]}}, **NOTHING),
)  # fmt: skip
RELOADS = (
    Scenario("comes by reload", "-; reload; up", there=False, later=({}, {})),
    Scenario("goes by reload", "up; reload; b: is waiting", later=(None, {}), ends="gone/waiting 0/0"),
    Scenario("other start by reload", "up; reload; up", later=({"start": "on-demand"}, {})),
    Scenario("other suite by reload", "up; reload; a: CHILD_SA up; up; one", later=({"esp": {"proposals": ["aes128gcm16"]}},) * 2,
             loose=True),
    Scenario("other secret by reload", "up; reload; up; one", later=({"auth": {"psk_file": "new.psk"}},) * 2, loose=True),
)  # fmt: skip
PLAIN = Group("plain", (*AUTHENTICATION, *SUITES, *SELECTORS, *STARTS, *KEYS, *ENDS, *IKEV1, *RELOADS))

DEATH = "up; cut; a: IKE SA down; mend"
SILENCE = Group("silence", (
    Scenario("dead: restart", f"{DEATH}; a: IKE SA up; up; one", a=silent("restart"), loose=True),
    Scenario("dead: trap", f"{DEATH}; a: sends; up; one", a=silent("trap"), loose=True),
    Scenario("dead: clear", f"{DEATH}; a: is down", a=silent("clear"), first=3, ends="- 0/1"),
    Scenario("rekey in silence", "up; cut; a: rekey; mend; b: CHILD_SA rekeyed; one"),
    Scenario("delete in silence", "up; cut; a: terminate; mend; b: IKE SA down", ends="down/waiting 0/0"),
    Scenario("call into silence", "nothing; cut; a: initiate; mend; up", a=CALLED),
    Scenario("v1 dead", f"{DEATH}; a: is down", a={"ike": V1["ike"] | silent("clear")["ike"]}, b=V1, first=3, ends="- 0/1"),
))  # fmt: skip

NAT = Group("nat", (
    Scenario("nat", CARRIES, b={"remote": "any"}),
    Scenario("nat ecdsa", CARRIES, a=certificate("ec", "a"), b={"remote": "any", **certificate("ec", "b")}),
    Scenario("nat by address", CARRIES, b={"remote": "203.0.113.1"}),
    Scenario("nat b rekeys", "up; b: rekey; a: CHILD_SA rekeyed; one; b: sends; a: gets", b={"remote": "any"}),
    Scenario("nat b rekeys IKE", "up; b: rekey ike; a: IKE SA rekeyed; b: sends; a: gets", b={"remote": "any"}),
    Scenario("nat v1", CARRIES, both=V1, b={"remote": "203.0.113.1"}),
), nat=True)  # fmt: skip

NARROW = Group("narrow", (
    Scenario("fragments of IKE", CARRIES, both={"ike": {"fragment_size": 576}}, **certificates("rsa")),
    Scenario("a long packet", "up; a: sends long; b: gets", both={"df": "clear"}),
    Scenario("keys on a narrow path", "up; a: rekey; b: CHILD_SA rekeyed; one", both=proposals(esp=["aes256gcm16-modp4096"])),
), mtu=1000)  # fmt: skip

CROWD = Group("crowd", tuple(
    Scenario(f"cookie {number}", "nothing; deaf; a: initiate; b: hears; mend; up", a=CALLED, ends="up/up 1/1 cookies")
    for number in range(1, 9)
), crowd=True)  # fmt: skip

END = Group("end", (
    Scenario("b goes down", "a: initiate; up; b: closes; a: IKE SA down", a=CALLED, ends="waiting/closed 0/0"),
))  # fmt: skip

GROUPS = (PLAIN, SILENCE, NAT, NARROW, CROWD, END)
