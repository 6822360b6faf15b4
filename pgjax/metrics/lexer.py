r"""Longest-match lexing by regular expressions, as generated scanners do it; plain Python.

Of all rules the one that matches the longest text wins, the first of equals. Python's `re` takes
the first alternative instead, and so cannot say what such a scanner would do. The automaton is
built state by state as texts ask for it.

Patterns know `|`, `(…)`, `*`, `+`, `?`, `{m,n}`, `.`, `[…]`, `[^…]`, `\uXXXX`, and backslashes
before what is not meant so. Letters match in either case, but in brackets and by number as they
are. Classes of characters (`\l`, …) are the caller's.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

Classes = dict[str, Callable[[str], bool]]  # what `\l`, `\d`, … match


class Rule(NamedTuple):
    """A pattern, what is done with its text, and a pattern that must follow and is left there."""

    pattern: str
    action: Any
    before: str = ""


class CharSet:
    """Characters, some by name and some by class."""

    def __init__(self, chars: Collection[str], classes: Sequence[Callable], negated: bool = False):
        self.chars, self.classes, self.negated = frozenset(chars), classes, negated

    def __contains__(self, char: str) -> bool:
        inside = char in self.chars or any(is_in(char) for is_in in self.classes)
        return inside != self.negated


# Letters that are one letter in another case: Kelvin, long s, Turkish i.
_SAME = {"k": "\u212a", "s": "\u017f", "i": "\u0130\u0131"}
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "f": "\f"}


# A parsed pattern: a CharSet, or a sequence, a choice or a repetition of such.
Node = Any


class _Sequence(NamedTuple):
    parts: list[Node]


class _Choice(NamedTuple):
    parts: list[Node]


class _Repeat(NamedTuple):
    part: Node
    low: int
    high: int | None  # None: any number


class _Parser:
    """Reads one pattern."""

    def __init__(self, pattern: str, classes: Classes):
        self.pattern, self.classes, self.at = pattern, classes, 0

    def parse(self) -> Node:
        """Raises ValueError for a pattern with unbalanced parentheses."""
        node = self._choice()
        if self.at != len(self.pattern):
            raise ValueError(f"pattern {self.pattern!r} ends too early, at {self.at}")
        return node

    def _next(self) -> str:
        self.at += 1
        return self.pattern[self.at - 1]

    def _peek(self, chars: str) -> bool:
        return self.at < len(self.pattern) and self.pattern[self.at] in chars

    def _choice(self) -> Node:
        parts = [self._sequence()]
        while self._peek("|"):
            self.at += 1
            parts.append(self._sequence())
        return _Choice(parts)

    def _sequence(self) -> Node:
        parts = []
        while self.at < len(self.pattern) and not self._peek("|)"):
            parts.append(self._repeated(self._atom()))
        return _Sequence(parts)

    def _repeated(self, part: Node) -> Node:
        if not self._peek("*+?{"):
            return part
        sign = self._next()
        if sign == "{":
            stop = self.pattern.index("}", self.at)
            low, _, high = self.pattern[self.at : stop].partition(",")
            self.at = stop + 1
            return _Repeat(part, int(low), int(high or low))
        return _Repeat(part, int(sign == "+"), 1 if sign == "?" else None)

    def _atom(self) -> Node:
        char = self._next()
        if char == "(":
            node = self._choice()
            if self.at == len(self.pattern):
                raise ValueError(f"pattern {self.pattern!r} lacks a ')'")
            self.at += 1
            return node
        if char == "[":
            return self._brackets()
        if char == ".":
            return CharSet("", (), negated=True)
        if char == "\\":
            char = self._escaped()
            return CharSet("", (char,)) if callable(char) else CharSet(char, ())
        return CharSet({char.lower(), char.upper(), *_SAME.get(char.lower(), "")}, ())

    def _escaped(self) -> str | Callable[[str], bool]:
        """What a backslash stands for: a character or a class."""
        char = self._next()
        if char == "u":
            self.at += 4
            return chr(int(self.pattern[self.at - 4 : self.at], 16))
        return self.classes.get(char) or _ESCAPES.get(char, char)

    def _brackets(self) -> CharSet:
        negated = self._peek("^")
        self.at += negated
        chars, classes = set(), []
        while not self._peek("]"):
            first = self._member()
            if callable(first):
                classes.append(first)
            elif self._peek("-") and self.pattern[self.at + 1] != "]":
                self.at += 1
                chars.update(map(chr, range(ord(first), ord(self._member()) + 1)))
            else:
                chars.add(first)
        self.at += 1
        return CharSet(chars, classes, negated)

    def _member(self) -> str | Callable[[str], bool]:
        char = self._next()
        return self._escaped() if char == "\\" else char


class _Automaton:
    """A nondeterministic automaton: `edges[state]` are (CharSet, state), `free[state]` states."""

    def __init__(self):
        self.edges: list[list[tuple[CharSet, int]]] = []
        self.free: list[list[int]] = []

    def state(self) -> int:
        """Adds a state."""
        self.edges.append([])
        self.free.append([])
        return len(self.edges) - 1

    def add(self, node: Node, start: int) -> int:
        """Adds what begins in a state, and returns the state in which it ends (Thompson 1968)."""
        match node:
            case _Sequence(parts):
                for part in parts:
                    start = self.add(part, start)
                return start
            case _Choice(parts):
                end = self.state()
                for part in parts:
                    begin = self.state()
                    self.free[start].append(begin)
                    self.free[self.add(part, begin)].append(end)
                return end
            case _Repeat(part, low, high):
                for _ in range(low):
                    start = self.add(part, start)
                end = self.state()
                self.free[start].append(end)
                if high is None:
                    self.free[self.add(part, end)].append(end)
                for _ in range((high or low) - low):
                    start = self.add(part, start)
                    self.free[start].append(end)
                return end
        end = self.state()
        self.edges[start].append((node, end))
        return end


class Matcher:
    """A deterministic automaton of several patterns, built as it is used."""

    def __init__(self, patterns: Sequence[str], classes: Classes):
        self._nfa = _Automaton()
        start = self._nfa.state()
        self._accepts = {}
        for i, pattern in enumerate(patterns):
            begin = self._nfa.state()
            self._nfa.free[start].append(begin)
            self._accepts[self._nfa.add(_Parser(pattern, classes).parse(), begin)] = i
        self._sets: list[frozenset[int]] = []
        self._index: dict[frozenset[int], int] = {}
        self.accepts: list[int | None] = []
        self.steps: list[dict[str, int | None]] = []
        self.start = self._state({start})

    def _state(self, states: Collection[int]) -> int:
        stack, closed = list(states), set(states)
        while stack:
            for state in self._nfa.free[stack.pop()]:
                if state not in closed:
                    closed.add(state)
                    stack.append(state)
        # Only where it can go from there, and whether it may stop there, tells states apart.
        key = frozenset(s for s in closed if self._nfa.edges[s] or s in self._accepts)
        if key not in self._index:
            self._index[key] = len(self._sets)
            self._sets.append(key)
            self.accepts.append(
                min((self._accepts[s] for s in key if s in self._accepts), default=None)
            )
            self.steps.append({})
        return self._index[key]

    def step(self, state: int, char: str) -> int | None:
        """The state after one more character; None where no pattern goes on."""
        steps = self.steps[state]
        if char not in steps:
            reached = {
                end for s in self._sets[state] for chars, end in self._nfa.edges[s] if char in chars
            }
            steps[char] = self._state(reached) if reached else None
        return steps[char]

    def longest(self, text: str, at: int) -> tuple[int | None, int]:
        """The first pattern with the longest match from `at` on, and where that ends."""
        state, found, end = self.start, None, at
        for i in range(at, len(text)):
            char = text[i]
            steps = self.steps[state]
            state = steps[char] if char in steps else self.step(state, char)
            if state is None:
                break
            if self.accepts[state] is not None:
                found, end = self.accepts[state], i + 1
        return found, end

    def ends(self, text: str) -> list[int]:
        """The lengths of the beginnings of a text that match, shortest first."""
        state, found = self.start, []
        for i, char in enumerate(text, 1):
            state = self.step(state, char)
            if state is None:
                break
            if self.accepts[state] is not None:
                found.append(i)
        return found


class Lexer:
    """Rules in the order of their precedence."""

    def __init__(self, rules: Sequence[Rule], classes: Classes):
        self.rules = rules
        self._matcher = Matcher([f"({rule.pattern})({rule.before})" for rule in rules], classes)
        self._parts = {
            i: (Matcher([rule.pattern], classes), Matcher([rule.before], classes))
            for i, rule in enumerate(rules)
            if rule.before
        }

    def match(self, text: str, at: int) -> tuple[Rule | None, str]:
        """The rule that matches a text from `at` on, and its part without what must follow."""
        i, end = self._matcher.longest(text, at)
        if i is None:
            return None, text[at : at + 1]
        found = text[at:end]
        if i in self._parts:
            pattern, before = self._parts[i]
            for length in reversed(pattern.ends(found)):
                if len(found) - length in before.ends(found[length:]):
                    found = found[:length]
                    break
        return self.rules[i], found
