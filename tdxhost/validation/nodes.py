# SPDX-License-Identifier: GPL-2.0-or-later
"""A YAML file read node by node, so that each mistake in it is told with its line, all at once."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Protocol, TypeVar, cast

from tdxhost.errors import Usage
from tdxhost.words import count

T = TypeVar("T")

#: Of a value that can't be read, the characters that a message repeats.
MOST_TOLD = 60
TAG = "tag:yaml.org,2002:"
#: Scalars that are more than their text.
CONSTRUCTED = frozenset({"int", "float", "bool", "null"})
#: Dates and the like are no kind of value here, but words.
WORDS = frozenset({"str", "timestamp", "merge", "value"})


class Node(Protocol):
    """What is used of PyYAML's nodes; id is scalar, sequence or mapping."""

    id: str
    tag: str
    value: Any
    start_mark: Any


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """What is wrong in a line, and what is wanted."""

    line: int
    says: str
    hint: str = ""


class PlanErrors(Usage):
    """Everything that is wrong with a plan; nothing of it was run."""

    def __init__(self, file: str, mistakes: Sequence[Mistake]) -> None:
        self.file = file
        self.mistakes = tuple(sorted(set(mistakes)))
        told = [f"{file}:{mistake.line}: {mistake.says}" for mistake in self.mistakes]
        found = f"{file}: {count(len(told), 'error')}; nothing was run"
        hints = dict.fromkeys(mistake.hint for mistake in self.mistakes if mistake.hint)
        super().__init__("\n".join([found, *told]), " ".join(hints))


@dataclass(frozen=True, slots=True)
class Entry:
    """A value of a mapping; line is its key's."""

    line: int
    node: Node


@dataclass(frozen=True, slots=True)
class Reader:
    """Takes values out of nodes, and collects what is wrong with them."""

    mistakes: list[Mistake] = field(default_factory=list)

    def wrong(self, line: int, says: str, hint: str = "") -> None:
        """Notes a mistake."""
        self.mistakes.append(Mistake(line, says, hint))

    def root(self, text: str) -> Node | None:
        """The top of a YAML document; None where there is none, which is noted."""
        import yaml

        try:
            node = cast(Node | None, yaml.compose(text, Loader=yaml.SafeLoader))
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            self.wrong(line, f"this is no YAML: the character U+{error.character:04X} can't be")
            return None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            why = ", ".join(filter(None, (error.context, error.problem)))
            self.wrong(mark.line + 1 if mark else 1, f"this is no YAML: {why}")
            return None
        except RecursionError:
            self.wrong(1, "lists or mappings are nested too deeply")
            return None
        if node is None:
            self.wrong(1, "the file is empty, but a mapping is wanted")
        return node

    def members(
        self,
        node: Node,
        where: str,
        known: Collection[str],
        required: Collection[str] = (),
        *,
        kind: str = "key",
    ) -> dict[str, Entry]:
        """The members of a mapping; where names it in messages, kind its keys.

        A key that is misspelled counts as the one that it is nearest to, so that one mistake is
        told once.
        """
        if node.id != "mapping":
            self.wrong(line_of(node), f"{where} is {told(node)}, but a mapping is wanted")
            return {}
        found: dict[str, Entry] = {}
        guessed: dict[str, Entry] = {}
        for key, value in node.value:
            name = str(key.value) if key.id == "scalar" else ""
            if name in found:
                first = found[name].line
                self.wrong(line_of(key), f"{where} has {name} twice, first in line {first}")
            elif name in known:
                found[name] = Entry(line_of(key), value)
            else:
                near = nearest(name, known)
                self.wrong(line_of(key), _unknown(where, told(key), known, near, kind))
                guessed.setdefault(near, Entry(line_of(key), value))
        guessed.pop("", None)
        found = guessed | found
        for name in required:
            if name not in found:
                self.wrong(line_of(node), f"{where} lacks {name}")
        return found

    def elements(self, entry: Entry, name: str) -> list[Node]:
        """The elements of a list, which has to have some."""
        node = entry.node
        if node.id != "sequence":
            self.wrong(line_of(node), f"{name} is {told(node)}, but a list is wanted")
            return []
        if not node.value:
            self.wrong(line_of(node), f"{name} is an empty list, but something has to be in it")
        return list(node.value)

    def value(self, entry: Entry, name: str, parse: Callable[[Any], T]) -> T | None:
        """A value as parse makes it, which raises ValueError; None where it is noted as wrong."""
        try:
            return parse(value_of(entry.node))
        except (ValueError, TypeError) as error:
            self.wrong(line_of(entry.node), f"{name} is {told(entry.node)}, but {error}")
            return None


def line_of(node: Node) -> int:
    """The line of a file in which a node begins, from 1 on."""
    return int(node.start_mark.line) + 1


def told(node: Node) -> str:
    """A node as a message repeats it."""
    if node.id != "scalar":
        return "a list" if node.id == "sequence" else "a mapping"
    text = str(node.value)
    if not text:
        return "empty"
    shown = text if text.isprintable() else ascii(text)
    return shown if len(shown) <= MOST_TOLD else f"{shown[:MOST_TOLD]}..."


def value_of(node: Node) -> Any:
    """A scalar, or a list of scalars, as Python has it; ValueError for anything else."""
    if node.id == "scalar":
        return _scalar(node)
    if node.id == "sequence" and all(element.id == "scalar" for element in node.value):
        return [_scalar(element) for element in node.value]
    raise ValueError("a word, a number or a list of them is wanted")


def _scalar(node: Node) -> Any:
    from yaml.constructor import SafeConstructor

    kind = str(node.tag).removeprefix(TAG)
    if kind in WORDS:
        return str(node.value)
    if kind not in CONSTRUCTED:
        raise ValueError(f"a value without the tag {node.tag} is wanted")
    try:
        return SafeConstructor().construct_object(cast(Any, node))
    except (ValueError, KeyError, IndexError) as error:
        raise ValueError(f"one of the kind that its tag says, {kind}, is wanted") from error


def nearest(word: str, known: Collection[str]) -> str:
    """The word that somebody may have meant; empty where none is near."""
    return next(iter(get_close_matches(word, known, n=1)), "")


def _unknown(where: str, word: str, known: Collection[str], near: str, kind: str) -> str:
    if not known:
        return f"{where} takes no {kind}s, but has {word}"
    wanted = f"did you mean {near}?" if near else f"it may have {', '.join(known)}"
    return f"{where} has no {kind} {word}; {wanted}"
