"""How much of an unlikely line a foreign server's tokens let show."""

import math

import pytest

from tabwise_server.backends.beginning import likely_beginning
from tabwise_server.backends.tokens import Token


def token(text: str, probability: float, **others: float) -> Token:
    """others: what else was likely there; `_` stands for a blank."""
    names = {text: probability} | {k.replace("_", " "): v for k, v in others.items()}
    likeliest = {name: math.log(share) for name, share in names.items()}
    return Token(text, math.log(probability), likeliest if others else {})


@pytest.mark.parametrize(
    ("tokens", "least", "expected"),
    [
        # up to the end of the last word that something else follows
        ([token("self", 0.9), token(".na", 0.9), token("me", 0.5)], 0.7, "self"),
        # or to a sign that shows
        ([token("print", 0.9), token("(", 0.9), token("x", 0.1)], 0.7, "print("),
        # a blank at its end is none
        ([token("return", 0.9), token(" ", 0.9), token("x", 0.1)], 0.7, "return"),
        # a word is over where that is likely, whatever comes behind it
        ([token("name", 0.9), token(" =", 0.4, _in=0.5, s=0.1)], 0.7, "name"),
        ([token("name", 0.9), token("s", 0.4, _in=0.5)], 0.4, "name"),
        ([token("name", 0.9), token("s", 0.5, _in=0.4)], 0.7, ""),
        # without others to compare, what came is all that is known
        ([token("name", 0.9), token(" ", 0.9)], 0.8, "name"),
        ([token("name", 0.9), token(" ", 0.8)], 0.8, ""),
        ([token("name", 0.9)], 0.5, ""),
        # letters of all the world
        ([token("größ", 0.9), token("e", 0.9), token("(", 0.9)], 0.7, "größe("),
        ([token("x", 0.6), token("(", 0.9)], 0.7, ""),
        ([], 0.5, ""),
        ([token("", 0.9), token("a", 0.9), token("", 0.9), token(",", 1)], 0.7, "a,"),
    ],
)
def test_the_longest_beginning_that_is_likely_enough(
    tokens: list[Token], least: float, expected: str
) -> None:
    assert likely_beginning(tokens, least) == expected


def test_a_place_without_any_probability_ends_nothing() -> None:
    nowhere = Token(" ", -math.inf, {" ": -math.inf, "s": -math.inf})
    assert likely_beginning([token("name", 0.9), nowhere], 0.5) == ""
