"""Which language a text is probably in, by its function words. Enough to tell a filter that a model slipped.

likely_language("could you send me the report by friday".split())     # 'English'
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

# Frequent words of each language. Some are shared (que, con, una): what counts is which language has the most.
_FUNCTION_WORDS: Mapping[str, frozenset[str]] = {
    "English": frozenset(
        "the and of to is that it you for with are this have be was not your we will can from would there our".split()  # noqa: SIM905
    ),
    "German": frozenset(
        "der die das und ist nicht ich sie wir ein eine mit auf für dem den zu von sich auch wird ihre bitte".split()  # noqa: SIM905
    ),
    "French": frozenset(
        "le les des est et vous nous je une dans pour pas que qui sur avec votre notre sont ce cette être mais".split()  # noqa: SIM905
    ),
    "Spanish": frozenset(
        "el los las y es una por con para su que como está pero más muy nuestro gracias usted ha son también".split()  # noqa: SIM905
    ),
    "Italian": frozenset(
        "il gli della di che è per una con sono non questo nostra anche più del nella essere grazie ho ci".split()  # noqa: SIM905
    ),
    "Portuguese": frozenset(
        "os não uma com para você que é da em por mais como obrigado são nosso também muito está ao foi".split()  # noqa: SIM905
    ),
}


def likely_language(words: Sequence[str]) -> str | None:
    """The language with the most function words among lower-case `words`; None if fewer than three or a tie."""
    counts = {name: sum(word in known for word in words) for name, known in _FUNCTION_WORDS.items()}
    best = max(counts.values())
    leaders = [name for name, count in counts.items() if count == best]
    return leaders[0] if best >= 3 and len(leaders) == 1 else None
