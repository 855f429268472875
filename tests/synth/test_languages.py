"""Languages are told apart by function words, and short texts are not judged."""

from __future__ import annotations

import pytest

from synth.filters import words
from synth.languages import likely_language

TEXTS = {
    "English": "Could you send me the report by Friday? We have not seen it.",
    "German": "Können Sie mir den Bericht bis Freitag schicken? Wir haben ihn noch nicht gesehen und der Chef fragt.",
    "French": "Pouvez-vous m'envoyer le rapport avant vendredi? Nous ne l'avons pas vu.",
    "Spanish": "¿Puede enviarme el informe para el viernes? No lo hemos visto y los datos son muy importantes.",
    "Italian": "Puoi mandarmi il rapporto per venerdì? Non ho visto i numeri della riunione e il capo non è qui.",
    "Portuguese": "Você pode enviar o relatório para mim? Não vi os números e o chefe está com pressa, muito obrigado.",
}


@pytest.mark.parametrize("language", TEXTS)
def test_each_language(language: str) -> None:
    assert likely_language(words(TEXTS[language])) == language


def test_too_little_is_not_judged() -> None:
    assert likely_language(words("Tennis tomorrow, court seven, bring water.")) is None
    assert likely_language([]) is None
