"""Words as codes: nothing is cut, folded or lost without being counted."""

from __future__ import annotations

import pytest

from privacy.word_codes import WordCodes


def test_words_that_do_not_fit_are_counted_or_refused():
    codes = WordCodes(alphabet="abcé", word_length=4)
    words = ["ab", "", "abcab", "Ab", "é", "b\0", "a b", "\ud800", "abca"]
    encoded = codes.encode(words, unfit="drop")
    assert codes.decode(encoded.codes) == ["ab", "é", "abca"]
    assert encoded.kept.tolist() == [0, 4, 8]
    assert (encoded.empty, encoded.too_long, encoded.out_of_alphabet, encoded.dropped) == (1, 1, 4, 6)
    with pytest.raises(ValueError, match=r"6 of 9 words do not fit: 1 are empty, 1 are longer than 4") as raised:
        codes.encode(words, unfit="refuse")
    assert "abcab" not in str(raised.value)
    assert codes.encode(["ab"], unfit="refuse").dropped == 0
    assert codes.encode([], unfit="refuse").codes.shape == (0, 4)
    for wrong in ("ab", ["ab", 3], [None]):
        with pytest.raises(TypeError, match="list of strings"):
            codes.encode(wrong, unfit="drop")
    with pytest.raises(ValueError, match="unfit is 'cut'"):
        codes.encode(["ab"], unfit="cut")
