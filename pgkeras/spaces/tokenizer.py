"""Tokens: texts as the numbers that a policy reads.

A policy's vocabulary is fixed when it is made and part of its spec, so that every caller's texts become the same
numbers. A vocabulary of single characters reads character by character, any other word by word.
"""

from __future__ import annotations

import itertools
import re
import string
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.spaces import Text

__all__ = ["FIRST", "PADDING", "UNKNOWN", "decode", "encode", "with_vocabulary"]

PADDING, UNKNOWN, FIRST = 0, 1, 2
"""Number of what follows a text's end, of a token outside the vocabulary, and of the vocabulary's first token."""

_WORDS = re.compile(r"\w+|[^\w\s]")
_LETTER = re.compile(r"\w")
_NEEDLESS = re.compile(r"(?<!\w) | (?!\w)")  # blanks that part no words
_STRANGE = "\N{REPLACEMENT CHARACTER}"
_MOST_TOKENS = 64
_MOST_WORDS = 10_000


def with_vocabulary(space: Text, texts: Iterable[str]) -> Text:
    """Returns the space with a vocabulary for texts like these.

    Words and punctuation marks, in lower case, if any of the texts has a space in it or the space allows any
    character; otherwise the space's characters. Texts whose words all have one character are read by their characters,
    too. The policy reads up to 64 tokens: half as many again as the longest of the texts has, or of the space's
    characters, as many as its texts may have.

    Args:
        space: The space, of which nothing else changes.
        texts: Examples.
    """
    texts = list(texts)
    if space.charset and not any(" " in text for text in texts):
        return replace(space, vocabulary=tuple(space.charset), max_tokens=min(space.max_length, _MOST_TOKENS))
    words = [_WORDS.findall(text.lower()) for text in texts]
    vocabulary = sorted({word for text in words for word in text})[:_MOST_WORDS]
    if _reads_characters(tuple(vocabulary)):  # which then is how they will be read: as they are, spaces and all
        words = [list(text) for text in texts]
        vocabulary = sorted({character for text in words for character in text})[:_MOST_WORDS]
    longest = max((len(text) for text in words), default=1)
    return replace(space, vocabulary=tuple(vocabulary), max_tokens=max(1, min(longest * 3 // 2, _MOST_TOKENS)))


def encode(space: Text, texts: Iterable[str]) -> NDArray[np.float32]:
    """Numbers the tokens of some texts: ``[B, max_tokens]``, padded at the end."""
    return np.stack([_encode(space.vocabulary, space.max_tokens, text) for text in texts])


def decode(space: Text, rows: NDArray[Any]) -> list[str]:
    """Texts of the space with these tokens, which :func:`encode` gives the same numbers again.

    That holds for the tokens of texts that are in the space. Others become texts of the space, too, but may be read
    otherwise.
    """
    names = _names(space.vocabulary, space.charset)
    blank = next((c for c in space.charset or " " if c.isspace()), space.charset[:1])
    texts = []
    for row in rows:
        tokens = [names[int(number)] for number in row if number != PADDING]
        if _reads_characters(space.vocabulary):
            text = "".join(tokens)
        else:  # as short as it can be: the text that the tokens are of may have been of the greatest length
            text = _NEEDLESS.sub("", " ".join(tokens)).replace(" ", blank)
        # Blanks are no tokens; where characters are read, what is missing lies beyond the last one that is read.
        texts.append(text[: space.max_length].ljust(space.min_length, blank))
    return texts


@lru_cache(maxsize=64)
def _names(vocabulary: tuple[str, ...], charset: str) -> tuple[str, ...]:
    """What each number is written as, in characters of the space."""
    alphabet = charset or f"{_STRANGE}?{string.punctuation}{string.ascii_lowercase}"
    cased = {c.lower(): c for c in charset} | {c: c for c in charset}
    words = ("".join(cased.get(c, c) for c in word) for word in vocabulary)
    known = frozenset(vocabulary)
    reads_characters = _reads_characters(vocabulary)
    strange = (c for c in alphabet if c not in known) if reads_characters else _strange(alphabet, known)
    return "", next(strange, alphabet[0]), *words


def _strange(alphabet: str, known: frozenset[str]) -> Iterator[str]:
    """Tokens that are not known: marks first, which need no blanks beside them, then words from the shortest on."""
    letters = [c for c in alphabet if _LETTER.fullmatch(c)]
    marks = (c for c in alphabet if not _LETTER.fullmatch(c) and not c.isspace())
    # Words of more lengths than there are tokens: one of them is not known.
    words = (word for length in range(1, len(known) + 2) for word in itertools.product(letters, repeat=length))
    return (token for token in itertools.chain(marks, map("".join, words)) if token.lower() not in known)


@lru_cache(maxsize=4096)  # environments repeat themselves
def _encode(vocabulary: tuple[str, ...], length: int, text: str) -> NDArray[np.float32]:
    numbers = _numbers(vocabulary)
    tokens = list(text) if _reads_characters(vocabulary) else _WORDS.findall(text.lower())
    row = np.full(length, PADDING, np.float32)
    row[: len(tokens)] = [numbers.get(token, UNKNOWN) for token in tokens[:length]]
    row.flags.writeable = False
    return row


@lru_cache(maxsize=64)
def _reads_characters(vocabulary: tuple[str, ...]) -> bool:
    return all(len(token) == 1 for token in vocabulary)


@lru_cache(maxsize=64)
def _numbers(vocabulary: tuple[str, ...]) -> dict[str, int]:
    return {token: FIRST + i for i, token in enumerate(vocabulary)}
