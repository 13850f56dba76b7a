"""Word lists: whether a text names something that this installation does not paint. Knows no protocol and no person.

All terms are looked for in one pass over the text (Aho and Corasick, 1975), so a long list costs no more than a short
one. A list stops those who ask openly. It does not understand: whoever spells around it passes, and the checks of
pictures and the operator's own rules have to do the rest.
"""

from __future__ import annotations

import unicodedata
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

SHIPPED = "refused.txt"


class BadWords(ValueError):
    """A word list that cannot be read; a start must stop on it."""


@dataclass(slots=True)
class _Node:
    """A place in the automaton: what has been read since some place of the text is the beginning of a term."""

    after: dict[str, _Node] = field(default_factory=dict)
    back: _Node | None = None
    """The place for the longest of what was read that also begins a term."""
    ends: list[str] = field(default_factory=list)


class Words:
    """Terms to be found in texts. Upper and lower case, full and half width, and invisible characters make no
    difference; a term in letters of an alphabet is found as whole words only, one in Chinese characters anywhere."""

    def __init__(self, terms: Iterable[str]) -> None:
        """Builds the automaton; empty terms do not count."""
        self._root = _Node()
        for term in {plain(term) for term in terms} - {""}:
            node = self._root
            for letter in term:
                node = node.after.setdefault(letter, _Node())
            node.ends.append(term)
        self._link()

    def _link(self) -> None:
        waiting = deque(self._root.after.values())
        for node in waiting:
            node.back = self._root
        while waiting:
            node = waiting.popleft()
            for letter, child in node.after.items():
                child.back = self._step(node.back or self._root, letter)
                child.ends += child.back.ends
                waiting.append(child)

    def _step(self, node: _Node, letter: str) -> _Node:
        while letter not in node.after and node.back is not None:
            node = node.back
        return node.after.get(letter, self._root)

    def find(self, text: str) -> str | None:
        """A term that the text has, as `plain` spells it; None if it has none."""
        text = plain(text)
        node = self._root
        for end, letter in enumerate(text, 1):
            node = self._step(node, letter)
            for term in node.ends:
                if _whole(text, end - len(term), end):
                    return term
        return None

    def refuse(self, text: str) -> bool:
        """Whether the text has any of the terms."""
        return self.find(text) is not None


def plain(text: str) -> str:
    """The text as terms are compared: compatible forms made one (NFKC), without case and without invisible
    characters, any white space as one blank."""
    text = unicodedata.normalize("NFKC", text).casefold()
    shown = (letter for letter in text if unicodedata.category(letter) != "Cf")
    return " ".join("".join(shown).split())


def read(text: str) -> list[str]:
    """The terms of a list: one a line; empty lines and what follows a `#` do not count."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def load(files: Iterable[Path] = ()) -> Words:
    """The shipped list and those in `files`. Raises BadWords for a file that is not text."""
    terms = read(resources.files(__package__).joinpath(SHIPPED).read_text("utf-8"))
    for file in files:
        try:
            terms += read(file.read_text("utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise BadWords(f"cannot read the word list {file}: {error}") from error
    return Words(terms)


def _whole(text: str, start: int, end: int) -> bool:
    """Whether a find does not lie within a longer word."""
    begins = start == 0 or not (_spelt(text[start - 1]) and _spelt(text[start]))
    return begins and (end == len(text) or not (_spelt(text[end - 1]) and _spelt(text[end])))


def _spelt(letter: str) -> bool:
    """Whether words are made of such letters with blanks between them. Han, kana and Hangul are written without."""
    return letter.isalnum() and not "\u2e80" <= letter <= "\U0003ffff"
