"""Tokenizer: converts texts to the token numbers that a policy reads.

A policy's vocabulary is fixed when the policy is created, and part of its spec, so all callers get the same numbers. If
all tokens of a vocabulary have one character, texts are read by character; otherwise by word.
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
"""Numbers of padding, of a token outside the vocabulary, and of the first token of the vocabulary."""

_WORDS = re.compile(r"\w+|[^\w\s]")
_LETTER = re.compile(r"\w")
_REDUNDANT = re.compile(r"(?<!\w) | (?!\w)")  # spaces that do not separate words
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_MAX_TOKENS = 64
_MAX_WORDS = 10_000


def with_vocabulary(space: Text, texts: Iterable[str]) -> Text:
    """Returns the space with a vocabulary for texts like the examples.

    The vocabulary is the words and punctuation marks in lower case if an example contains a space or the space allows
    any character; otherwise it is the space's characters. Texts whose words all have one character are read by
    character, too. The policy reads up to 64 tokens: 1.5 times as many as the longest example has, or, for a vocabulary
    of the space's characters, the maximum length of its texts.

    Args:
        space: The space. Its other properties do not change.
        texts: Example texts.
    """
    texts = list(texts)
    if space.charset and not any(" " in text for text in texts):
        return replace(space, vocabulary=tuple(space.charset), max_tokens=min(space.max_length, _MAX_TOKENS))
    words = [_WORDS.findall(text.lower()) for text in texts]
    vocabulary = sorted({word for text in words for word in text})[:_MAX_WORDS]
    if _reads_characters(tuple(vocabulary)):  # then texts are read by character, with case and spaces
        words = [list(text) for text in texts]
        vocabulary = sorted({character for text in words for character in text})[:_MAX_WORDS]
    longest = max((len(text) for text in words), default=1)
    return replace(space, vocabulary=tuple(vocabulary), max_tokens=max(1, min(longest * 3 // 2, _MAX_TOKENS)))


def encode(space: Text, texts: Iterable[str]) -> NDArray[np.float32]:
    """Returns the token numbers of texts: ``[B, max_tokens]``, padded at the end."""
    return np.stack([_encode(space.vocabulary, space.max_tokens, text) for text in texts])


def decode(space: Text, rows: NDArray[Any]) -> list[str]:
    """Returns texts of the space with the given token numbers.

    :func:`encode` returns the same numbers again if they are those of a text in the space. Other numbers also give
    texts in the space, but those may encode differently.
    """
    names = _names(space.vocabulary, space.charset)
    blank = next((c for c in space.charset or " " if c.isspace()), space.charset[:1])
    texts = []
    for row in rows:
        tokens = [names[int(number)] for number in row if number != PADDING]
        if _reads_characters(space.vocabulary):
            text = "".join(tokens)
        else:  # as short as possible, because the original text may have had the maximum length
            text = _REDUNDANT.sub("", " ".join(tokens)).replace(" ", blank)
        # Padding adds no tokens: spaces are not words, and characters beyond max_tokens are not read.
        texts.append(text[: space.max_length].ljust(space.min_length, blank))
    return texts


@lru_cache(maxsize=64)
def _names(vocabulary: tuple[str, ...], charset: str) -> tuple[str, ...]:
    """Returns the spelling of each token number, in characters of the space."""
    alphabet = charset or f"{_REPLACEMENT}?{string.punctuation}{string.ascii_lowercase}"
    cased = {c.lower(): c for c in charset} | {c: c for c in charset}
    words = ("".join(cased.get(c, c) for c in word) for word in vocabulary)
    known = frozenset(vocabulary)
    reads_characters = _reads_characters(vocabulary)
    unknown = (c for c in alphabet if c not in known) if reads_characters else _unknown_tokens(alphabet, known)
    return "", next(unknown, alphabet[0]), *words


def _unknown_tokens(alphabet: str, known: frozenset[str]) -> Iterator[str]:
    """Yields tokens outside the vocabulary: first marks, which need no spaces around them, then words by length."""
    letters = [c for c in alphabet if _LETTER.fullmatch(c)]
    marks = (c for c in alphabet if not _LETTER.fullmatch(c) and not c.isspace())
    # With more lengths than there are known tokens, at least one word is unknown.
    words = (word for length in range(1, len(known) + 2) for word in itertools.product(letters, repeat=length))
    return (token for token in itertools.chain(marks, map("".join, words)) if token.lower() not in known)


@lru_cache(maxsize=4096)  # environments repeat their texts
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
