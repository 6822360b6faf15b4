r"""A lexer that takes the longest match of any regular expression, as generated scanners do.

The rule that matches the longest text wins; among equals, the first one does. Python's `re` cannot
replace such a scanner, because it takes the first alternative that matches. The automaton is built
lazily, one state at a time.

Patterns support `|`, `(…)`, `*`, `+`, `?`, `{m,n}`, `.`, `[…]`, `[^…]`, `\uXXXX`, and a backslash
before a character that is meant literally. Letters match in either case, except in brackets and as
`\uXXXX`, where they match exactly. The caller defines the character classes (`\l`, …).
"""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

CharClass = Callable[[str], bool]  # whether a character belongs to a class
Classes = dict[str, CharClass]  # the classes by the letter after the backslash


Vain = set[tuple[int, int]]  # (state, index of the character that led to it), without a match after


class Rule(NamedTuple):
    """One rule of a lexer.

    Attributes:
      pattern: the regular expression of the text that the rule consumes.
      action: turns that text into a token.
      before: a regular expression that must match what follows, which is not consumed.
    """

    pattern: str
    action: Callable[[str], str]
    before: str = ""


class CharSet:
    """A set of characters, given by single characters and by classes."""

    def __init__(
        self, chars: Collection[str], classes: Sequence[CharClass], negated: bool = False
    ) -> None:
        """Makes the set, or with `negated` the set of all other characters."""
        self.chars, self.classes, self.negated = frozenset(chars), classes, negated

    def __contains__(self, char: str) -> bool:
        inside = char in self.chars or any(is_in(char) for is_in in self.classes)
        return inside != self.negated


# Further characters that equal a letter in another case: Kelvin sign, long s, Turkish i.
_SAME = {"k": "\u212a", "s": "\u017f", "i": "\u0130\u0131"}
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "f": "\f"}


class _Sequence(NamedTuple):
    parts: "list[_Node]"


class _Choice(NamedTuple):
    parts: "list[_Node]"


class _Repeat(NamedTuple):
    part: "_Node"
    low: int
    high: int | None  # None means any number.


_Node = CharSet | _Sequence | _Choice | _Repeat  # a parsed pattern


class _Parser:
    """Parses one pattern."""

    def __init__(self, pattern: str, classes: Classes) -> None:
        self.pattern, self.classes, self.at = pattern, classes, 0

    def parse(self) -> _Node:
        """Returns the parsed pattern, or raises ValueError if its parentheses are unbalanced."""
        node = self._choice()
        if self.at != len(self.pattern):
            raise ValueError(f"The pattern {self.pattern!r} ends too early, at {self.at}.")
        return node

    def _next(self) -> str:
        self.at += 1
        return self.pattern[self.at - 1]

    def _peek(self, chars: str) -> bool:
        return self.at < len(self.pattern) and self.pattern[self.at] in chars

    def _choice(self) -> _Node:
        parts = [self._sequence()]
        while self._peek("|"):
            self.at += 1
            parts.append(self._sequence())
        return _Choice(parts)

    def _sequence(self) -> _Node:
        parts: list[_Node] = []
        while self.at < len(self.pattern) and not self._peek("|)"):
            parts.append(self._repeated(self._atom()))
        return _Sequence(parts)

    def _repeated(self, part: _Node) -> _Node:
        if not self._peek("*+?{"):
            return part
        sign = self._next()
        if sign == "{":
            stop = self.pattern.index("}", self.at)
            low, _, high = self.pattern[self.at : stop].partition(",")
            self.at = stop + 1
            return _Repeat(part, int(low), int(high or low))
        return _Repeat(part, int(sign == "+"), 1 if sign == "?" else None)

    def _atom(self) -> _Node:
        char = self._next()
        if char == "(":
            node = self._choice()
            if self.at == len(self.pattern):
                raise ValueError(f"The pattern {self.pattern!r} lacks a ')'.")
            self.at += 1
            return node
        if char == "[":
            return self._brackets()
        if char == ".":
            return CharSet("", (), negated=True)
        if char == "\\":
            escaped = self._escaped()
            return CharSet("", (escaped,)) if callable(escaped) else CharSet(escaped, ())
        return CharSet({char.lower(), char.upper(), *_SAME.get(char.lower(), "")}, ())

    def _escaped(self) -> str | CharClass:
        """Reads what follows a backslash: a character or a class."""
        char = self._next()
        if char == "u":
            self.at += 4
            return chr(int(self.pattern[self.at - 4 : self.at], 16))
        return self.classes.get(char) or _ESCAPES.get(char, char)

    def _brackets(self) -> CharSet:
        negated = self._peek("^")
        self.at += negated
        chars: set[str] = set()
        classes: list[CharClass] = []
        while not self._peek("]"):
            first = self._member()
            if callable(first):
                classes.append(first)
            elif self._peek("-") and self.pattern[self.at + 1] != "]":
                self.at += 1
                last = self._member()
                if callable(last):
                    raise ValueError(f"The pattern {self.pattern!r} has a range up to a class.")
                chars.update(map(chr, range(ord(first), ord(last) + 1)))
            else:
                chars.add(first)
        self.at += 1
        return CharSet(chars, classes, negated)

    def _member(self) -> str | CharClass:
        char = self._next()
        return self._escaped() if char == "\\" else char


class _Automaton:
    """A nondeterministic automaton, whose states are numbered.

    `edges[state]` are pairs of the characters that lead on and the next state; `free[state]` are
    the states that are reached without any character.
    """

    def __init__(self) -> None:
        self.edges: list[list[tuple[CharSet, int]]] = []
        self.free: list[list[int]] = []

    def state(self) -> int:
        """Adds a state and returns its number."""
        self.edges.append([])
        self.free.append([])
        return len(self.edges) - 1

    def add(self, node: _Node, start: int) -> int:
        """Adds a pattern that begins in the state `start`, and returns the state in which it ends.

        This is the construction of Thompson, "Regular Expression Search Algorithm" (1968).
        """
        match node:
            case CharSet():
                end = self.state()
                self.edges[start].append((node, end))
                return end
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


class Matcher:
    """A deterministic automaton of several patterns, which is built as it is used."""

    def __init__(self, patterns: Sequence[str], classes: Classes) -> None:
        """Parses the patterns; a malformed one raises ValueError."""
        self._nfa = _Automaton()
        start = self._nfa.state()
        self._accepts: dict[int, int] = {}
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
        # States without edges that accept nothing make no difference.
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
        """Returns the state after one more character, or None if no pattern continues with it."""
        steps = self.steps[state]
        if char not in steps:
            reached = {
                end for s in self._sets[state] for chars, end in self._nfa.edges[s] if char in chars
            }
            steps[char] = self._state(reached) if reached else None
        return steps[char]

    def longest(self, text: str, at: int, vain: Vain) -> tuple[int | None, int]:
        """Returns the first pattern with the longest match from `at` on, and where it ends.

        Where a scan goes on in vain after its last match, a later scan that comes to the same state
        at the same place need not go there again. This makes lexing linear in the length of the
        text (Reps, "Maximal-munch" tokenization in linear time, 1998).

        Args:
          text: the text.
          at: where the match begins.
          vain: what earlier calls for the same text have found; this call adds to it.
        """
        state, found, end = self.start, None, at
        beyond: list[tuple[int, int]] = []  # since the last match
        for i in range(at, len(text)):
            char = text[i]
            steps = self.steps[state]
            after = steps[char] if char in steps else self.step(state, char)
            if after is None or (after, i) in vain:
                break
            state = after
            if self.accepts[state] is not None:
                found, end = self.accepts[state], i + 1
                beyond.clear()
            else:
                beyond.append((state, i))
        vain.update(beyond)
        return found, end

    def ends(self, text: str) -> list[int]:
        """Returns the lengths of the prefixes of a text that match, shortest first."""
        state, found = self.start, []
        for i, char in enumerate(text, 1):
            after = self.step(state, char)
            if after is None:
                break
            state = after
            if self.accepts[state] is not None:
                found.append(i)
        return found


class Lexer:
    """Finds the rule that matches a text."""

    def __init__(self, rules: Sequence[Rule], classes: Classes) -> None:
        """Takes rules in descending order of precedence; a malformed pattern raises ValueError."""
        self.rules = rules
        self._matcher = Matcher([f"({rule.pattern})({rule.before})" for rule in rules], classes)
        self._parts = {
            i: (Matcher([rule.pattern], classes), Matcher([rule.before], classes))
            for i, rule in enumerate(rules)
            if rule.before
        }

    def match(self, text: str, at: int, vain: Vain) -> tuple[Rule | None, str]:
        """Returns the rule that matches a text from `at` on, and the text that it consumes.

        If no rule matches, returns None and one character.

        Args:
          text: the text.
          at: where the match begins.
          vain: an empty set for a new text; further matches in the same text share it.
        """
        i, end = self._matcher.longest(text, at, vain)
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
