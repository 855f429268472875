"""Which language a text is probably in: enough to tell a filter that a model slipped.

likely_language("could you send me the report by friday".split())          # 'English'
in_another_language("kan du sende mig rapporten inden fredag".split(), "English")   # True

The identifier is py3langid: 139 languages by their byte sequences, with its model in the package, so nothing is fetched
and equal texts get equal answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

# What requests call a language, by its code; in a request for any other language only these are found wrong.
_NAMES = {
    "en": "English", "de": "German", "fr": "French", "es": "Spanish", "it": "Italian", "pt": "Portuguese",
    "nl": "Dutch", "da": "Danish", "sv": "Swedish", "no": "Norwegian", "nb": "Norwegian", "nn": "Norwegian",
    "fi": "Finnish", "pl": "Polish", "cs": "Czech", "ro": "Romanian", "ca": "Catalan", "tr": "Turkish", "ru": "Russian",
}  # fmt: skip
_NO_LANGUAGE = "zxx"  # the identifier's code for what is no prose: tables, program text
_LEAST_WORDS = 8  # names and loanwords mislead in fewer
_LEAST_PROBABILITY = 0.9  # below it two languages are near, or the text is a mixture


def likely_language(words: Sequence[str]) -> str | None:
    """The language of lower-case `words`: its English name or, where requests have none for it, its ISO 639 code.

    None where it is undecided: fewer than eight words, or no language with a probability of 0.9.
    """
    if len(words) < _LEAST_WORDS:
        return None
    code, probability = _identifier().classify(" ".join(words))
    return None if probability < _LEAST_PROBABILITY or code == _NO_LANGUAGE else _NAMES.get(code, code)


def in_another_language(words: Sequence[str], asked: str) -> bool:
    """Whether lower-case `words` are clearly not in the language that was `asked` for, by its English name.

    A language whose name is not known here cannot be told from others that are not: only known ones are found wrong.
    """
    likely, known = likely_language(words), _NAMES.values()
    return likely not in (asked, None) and (asked in known or likely in known)


@cache
def _identifier() -> Any:
    """The identifier with its model, which takes half a second to load."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
