"""Decoded texts are in their space, and encode to the same tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pgkeras.spaces import Text, tokenizer

CHARACTERS = " \tABCDEXYZabcdxyz019!?.,-_éÄß\ufffd"


@st.composite
def spaces_and_texts(draw: st.DrawFn) -> tuple[Text, list[str]]:
    """Draws a space whose vocabulary is from some of its texts, and a list of these and other texts."""
    charset = "".join(sorted(draw(st.sets(st.sampled_from(CHARACTERS), min_size=1, max_size=12))))
    charset = draw(st.sampled_from([charset, charset + " " * (" " not in charset), ""]))
    least = draw(st.sampled_from([0, 1, 7, 30, 100]))
    space = Text(least, least + draw(st.sampled_from([0, 1, 5, 200])), "".join(sorted(charset)))
    texts = st.text(charset or CHARACTERS, min_size=space.min_length, max_size=space.max_length)
    vocabulary = draw(st.lists(texts, min_size=1, max_size=3))
    return tokenizer.with_vocabulary(space, vocabulary), [*vocabulary, *draw(st.lists(texts, max_size=3))]


@given(spaces_and_texts())
@example((Text(7, 7, "", ("000000", "?", "\ufffd"), 3), ["000000."]))  # too short for a space before a word
def test_decoded_texts_are_in_the_space_and_encode_alike(found: tuple[Text, list[str]]) -> None:
    space, texts = found
    rows = tokenizer.encode(space, texts)
    written = tokenizer.decode(space, rows)
    assert space.batched(written) == (written, True)
    np.testing.assert_array_equal(tokenizer.encode(space, written), rows)


@given(spaces_and_texts(), st.integers(0, 2**32 - 1))
def test_any_token_numbers_decode_to_texts_in_the_space(found: tuple[Text, list[str]], seed: int) -> None:
    space, _ = found
    rows = np.random.default_rng(seed).integers(0, len(space.vocabulary) + tokenizer.FIRST, (5, space.max_tokens))
    space.batched(tokenizer.decode(space, rows))


@pytest.mark.parametrize(
    ("space", "examples", "text", "expected"),
    [
        (Text(1, 20, " EGHNORTSU"), ["GO NORTH", "GO SOUTH"], "GO  SOUTH", "GO SOUTH"),
        (Text(100, 200, "ab"), ["ab" * 50], "ba" * 50, "ba" * 32 + "a" * 36),
        (Text(), ["Go to the key!"], "go to the KEY!", "go to the key!"),
        (Text(12, 20, " !abc"), ["abc cab!"], "abc! abc cab", "abc!abc cab "),
        (Text(1, 9, " Xabc"), ["abc cab"], "abc bbb", "abc X"),
    ],
)
def test_decode_returns_the_expected_text(space: Text, examples: list[str], text: str, expected: str) -> None:
    space = tokenizer.with_vocabulary(space, examples)
    assert tokenizer.decode(space, tokenizer.encode(space, [text])) == [expected]
