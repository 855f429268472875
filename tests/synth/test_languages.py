"""Languages are told apart, those that nobody asks for too, and short texts are not judged."""

from __future__ import annotations

import pytest

from synth.filters import words
from synth.languages import in_another_language, likely_language

TEXTS = {
    "English": "Could you send me the report by Friday? We have not seen it.",
    "German": "Können Sie mir den Bericht bis Freitag schicken? Wir haben ihn noch nicht gesehen und der Chef fragt.",
    "French": "Pouvez-vous m'envoyer le rapport avant vendredi? Nous ne l'avons pas vu.",
    "Spanish": "¿Puede enviarme el informe para el viernes? No lo hemos visto y los datos son muy importantes.",
    "Italian": "Puoi mandarmi il rapporto per venerdì? Non ho visto i numeri della riunione e il capo non è qui.",
    "Portuguese": "Você pode enviar o relatório para mim? Não vi os números e o chefe está com pressa, muito obrigado.",
    "Dutch": "Kunt u mij het verslag voor vrijdag sturen? We hebben het nog niet gezien en het is dringend.",
    "Danish": "Kan du sende mig rapporten inden fredag? Vi har ikke set den endnu, og bestyrelsen mødes på mandag.",
    "Swedish": "Kan du skicka mig rapporten innan fredag? Vi har inte sett den ännu och styrelsen träffas på måndag.",
    "Norwegian": "Jeg kom akkurat hjem og varmen er ødelagt igjen. Kjenner du en rørlegger som jobber i helgen?",
    "Polish": "Właśnie wróciłem do domu i ogrzewanie znowu nie działa. Znasz hydraulika, który pracuje w weekendy?",
    "Czech": "Právě jsem přišel domů a topení je zase rozbité. Znáš instalatéra, který pracuje o víkendu?",
    "Romanian": "Tocmai am ajuns acasă și căldura este iar stricată. Cunoști un instalator care lucrează în weekend?",
    "Catalan": "La meva germana ve a la ciutat dissabte, així que no puc anar al partit. Passeu-ho bé sense mi!",
    "Finnish": "Tulin juuri kotiin ja lämmitys on taas rikki. Tunnetko putkimiestä, joka tekee töitä viikonloppuisin?",
    "Turkish": "Eve yeni geldim ve kalorifer yine bozuk. Hafta sonu çalışan bir tesisatçı tanıyor musun?",
    "Russian": "Моя сестра приезжает в город в субботу, поэтому я не смогу пойти на матч. Повеселитесь без меня!",
    "is": "Ég var að koma heim og hitinn er aftur bilaður. Þekkir þú pípara sem vinnur um helgar?",
}


@pytest.mark.parametrize("language", TEXTS)
def test_each_language(language: str) -> None:
    assert likely_language(words(TEXTS[language])) == language


def test_too_little_is_not_judged() -> None:
    assert likely_language(words("Tennis tomorrow, court seven, bring water.")) is None
    assert likely_language([]) is None


@pytest.mark.parametrize("language", TEXTS)
def test_only_texts_in_another_language_are_found_wrong(language: str) -> None:
    assert in_another_language(words(TEXTS[language]), "English") is (language != "English")
    assert not in_another_language(words(TEXTS[language]), language)


def test_of_a_language_without_a_name_here_only_known_others_are_found_wrong() -> None:
    assert not in_another_language(words(TEXTS["is"]), "Icelandic")
    assert in_another_language(words(TEXTS["English"]), "Icelandic")


def test_addresses_are_not_portuguese() -> None:
    text = "See news.example.com and mail.example.com, then www.example.com and shop.example.com for the new prices."
    assert not in_another_language(words(text), "English")


def test_undecided_texts_are_kept() -> None:
    assert not in_another_language(words("Kan du sende rapporten?"), "English")
    assert not in_another_language(words("12 34 56 78 90 21 43 65 87"), "English")
