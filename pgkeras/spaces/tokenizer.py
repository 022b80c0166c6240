"""Tokens: texts as the numbers that a policy reads.

A policy's vocabulary is fixed when it is made and part of its spec, so that every caller's texts become the same
numbers. A vocabulary of single characters reads character by character, any other word by word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
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
_MOST_TOKENS = 64
_MOST_WORDS = 10_000


def with_vocabulary(space: Text, texts: Iterable[str]) -> Text:
    """Returns the space with a vocabulary for texts like these.

    Words and punctuation marks, in lower case, if any of the texts has a space in it or the space allows any
    character; otherwise the space's characters. Texts whose words all have one character are read by their characters,
    too. The policy reads half as many tokens again as the longest of the texts
    has, up to 64.

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
    """Texts with these tokens, which :func:`encode` gives the same numbers again."""
    separator = "" if _reads_characters(space.vocabulary) else " "
    names = ("", "\N{REPLACEMENT CHARACTER}", *space.vocabulary)
    return [separator.join(names[int(number)] for number in row if number != PADDING) for row in rows]


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
