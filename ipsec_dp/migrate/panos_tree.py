"""A PAN-OS configuration as one tree, from `set` commands or from the XML export.

Both say the same: `set network ike gateway to-b protocol version ikev2`, and <entry name="to-b"><protocol><version>ikev2.
A value is a node without children. DTDs and entities are refused; depth and size are bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final
from xml.parsers import expat

from ipsec_dp.migrate.draft import SourceError, SourceLine

DEPTH_MOST: Final = 64
NODES_MOST: Final = 500_000
_WORD: Final = re.compile(r'"([^"]*)"|([^\s"]+)')


@dataclass(slots=True)
class PanosNode:
    """One word of a command, or one element; `at` is where it first stands."""

    name: str
    at: SourceLine
    children: dict[str, PanosNode] = field(default_factory=dict)

    def below(self, *names: str) -> PanosNode | None:
        """The node at a path of names; None: there is none."""
        found: PanosNode | None = self
        for name in names:
            found = None if found is None else found.children.get(name)
        return found

    def values(self, *names: str) -> list[str]:
        """All that stands at a path."""
        found = self.below(*names)
        return [] if found is None else list(found.children)

    def text(self, *names: str, default: str = "") -> str:
        """The one value at a path."""
        found = self.values(*names)
        return found[0] if found else default

    def each(self, *names: str) -> Iterator[PanosNode]:
        """The entries at a path."""
        found = self.below(*names)
        yield from () if found is None else found.children.values()

    def everywhere(self, name: str) -> Iterator[PanosNode]:
        """Every node of a name, at any depth."""
        for child in self.children.values():
            if child.name == name:
                yield child
            yield from child.everywhere(name)


class _Growth:
    """Adds nodes, within what a configuration may have."""

    def __init__(self) -> None:
        self._left = NODES_MOST

    def child(self, node: PanosNode, name: str, at: SourceLine) -> PanosNode:
        found = node.children.get(name)
        if found is None:
            self._left -= 1
            if self._left < 0:
                raise SourceError(at, f"more than {NODES_MOST} settings")
            found = node.children[name] = PanosNode(name, at)
        return found


def parse_panos(text: str, name: str) -> PanosNode:
    """The tree of either form, told apart by the first character. Raises SourceError."""
    return parse_xml(text, name) if text.lstrip().startswith("<") else parse_set(text, name)


def parse_set(text: str, name: str) -> PanosNode:
    """`set` commands, one a line."""
    root, growth = PanosNode("", SourceLine(name, 1)), _Growth()
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        at = SourceLine(name, number)
        if not stripped.startswith("set "):
            raise SourceError(at, "every line is to be a set command, or the file an XML export")
        _set(root, _words(stripped, at)[1:], at, growth)
    if not root.children:
        raise SourceError(SourceLine(name, 1), "holds no set command")
    return root


def _words(line: str, at: SourceLine) -> list[str]:
    words = []
    position = 0
    while position < len(line):
        if line[position].isspace():
            position += 1
            continue
        match = _WORD.match(line, position)
        if match is None:
            raise SourceError(at, "a quote has no end")
        words.append(match[0] if match[1] is None else match[1])
        position = match.end()
    return words


def _set(root: PanosNode, words: list[str], at: SourceLine, growth: _Growth) -> None:
    node = root
    for number, word in enumerate(words):
        if word == "[":
            if words[-1] != "]" or number == len(words) - 1:
                raise SourceError(at, 'a list has no end: its "]" is missing')
            for member in words[number + 1 : -1]:
                growth.child(node, member, at)
            return
        if number == DEPTH_MOST:
            raise SourceError(at, f"more than {DEPTH_MOST} words")
        node = growth.child(node, word, at)


class _XmlReader:
    """expat's calls, made a tree."""

    def __init__(self, name: str) -> None:
        self._name, self._growth = name, _Growth()
        self.root = PanosNode("", SourceLine(name, 1))
        self._open = [self.root]
        self._text: list[str] = []
        self._lists: list[bool] = []  # of each open element: whether it is a <member>, whose text stands in its parent
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text.append
        self.parser.StartDoctypeDeclHandler = self._refuse_dtd
        self.parser.EntityDeclHandler = self._refuse_dtd
        self.parser.ExternalEntityRefHandler = self._refuse_dtd

    def at(self) -> SourceLine:
        return SourceLine(self._name, self.parser.CurrentLineNumber)

    def _refuse_dtd(self, *_: object) -> int:
        raise SourceError(self.at(), "holds a DTD or entities, which no export of PAN-OS does")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if len(self._open) > DEPTH_MOST:
            raise SourceError(self.at(), f"elements are more than {DEPTH_MOST} deep")
        self._text.clear()
        parent = self._open[-1]
        member = tag == "member"
        name = attributes.get("name", tag) if tag == "entry" else tag
        self._lists.append(member)
        self._open.append(parent if member else self._growth.child(parent, name, self.at()))

    def _end(self, _: str) -> None:
        node = self._open.pop()
        text = "".join(self._text).strip()
        self._text.clear()
        if self._lists.pop():
            node = self._open[-1]
        if text:
            self._growth.child(node, text, self.at())


def parse_xml(text: str, name: str) -> PanosNode:
    """The XML export."""
    reader = _XmlReader(name)
    try:
        reader.parser.Parse(text.encode(), True)
    except expat.ExpatError as error:
        raise SourceError(SourceLine(name, error.lineno), f"is no XML: {expat.ErrorString(error.code)}") from None
    except (ValueError, LookupError):  # an encoding that nobody knows
        raise SourceError(SourceLine(name, 1), "is in an encoding that is not known; save it as UTF-8") from None
    return reader.root
