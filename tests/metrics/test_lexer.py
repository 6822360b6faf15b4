"""Longest match against `re`, which is asked for every length."""

import random
import re

import pytest

from pgjax.metrics.lexer import Lexer, Matcher, Rule


def random_pattern(rng, depth):
    r = rng.random()
    if depth == 0 or r < 0.35:
        return rng.choice(["a", "b", "c", "[ab]", "[^a]", "[a-b]", "."])
    if r < 0.6:
        return random_pattern(rng, depth - 1) + random_pattern(rng, depth - 1)
    if r < 0.8:
        return f"({random_pattern(rng, depth - 1)}|{random_pattern(rng, depth - 1)})"
    count = rng.choice(["*", "+", "?", "{1,3}", "{2}", "{0,2}"])
    return f"({random_pattern(rng, depth - 1)}){count}"


def test_longest_match_and_first_of_equals():
    rng = random.Random(0)
    for _ in range(1000):
        patterns = [random_pattern(rng, 3) for _ in range(3)]
        matcher = Matcher(patterns, {})
        for _ in range(4):
            text = "".join(rng.choices("abc", k=rng.randint(0, 6)))
            expected = (None, 0)
            for length in range(len(text), 0, -1):
                first = [i for i, p in enumerate(patterns) if re.fullmatch(p, text[:length])]
                if first:
                    expected = (first[0], length)
                    break
            assert matcher.longest(text, 0, set()) == expected, (patterns, text)


def test_case_classes_and_escapes():
    matcher = Matcher(
        [r"kiss", r"[x]\.", r"\d+", r"\u00e9", r"[\u0041-\u0043\]\d]{2}"], {"d": str.isdigit}
    )
    for text in ("KISS", "kiſs", "\u212aISS", "k\u0131ss"):
        assert matcher.longest(text, 0, set()) == (0, 4)
    assert matcher.longest("X.", 0, set()) == (None, 0)
    assert matcher.longest("x.", 0, set()) == (1, 2)
    assert matcher.longest("a123", 1, set()) == (2, 4)
    assert matcher.longest("é", 0, set())[0] == 3 and matcher.longest("É", 0, set())[0] is None
    assert matcher.longest("A]", 0, set()) == (4, 2)


def test_what_must_follow_is_left_there():
    lexer = Lexer([Rule("can", 1, "not"), Rule("[a-z]+", 2), Rule("a+", 3, "ab")], {})
    rule, found = lexer.match("cannot", 0, set())
    assert (rule.action, found) == (1, "can")
    assert lexer.match("cannots", 0, set())[1] == "cannots"
    assert lexer.match("!", 0, set()) == (None, "!")
    assert Lexer([Rule("a+", 3, "ab")], {}).match("aaab", 0, set())[1] == "aa"


@pytest.mark.parametrize("pattern", ["(a", "a)"])
def test_unbalanced(pattern):
    with pytest.raises(ValueError, match=r"lacks|too early"):
        Matcher([pattern], {})
