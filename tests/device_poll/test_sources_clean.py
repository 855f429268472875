"""What is left of a mail body: only what its writer wrote."""

from __future__ import annotations

import pytest

from device_poll.sources.clean import clean_mail
from device_poll.sources.html_text import html_to_text

OWN = "Noon is fine for me.\n\nSee you there"


@pytest.mark.parametrize(
    "around",
    [
        "{}",
        "\r\n\r\n{}\r\n",
        "{}\n\n> Is noon fine?\n> Ann",
        "> Is noon fine?\n{}",
        "{}\n\nOn Mon, 1 May 2023 at 10:00, Ann Example <ann@example.org> wrote:\n> Is noon fine?",
        "{}\n\nOn Mon, 1 May 2023 at 10:00, Ann Example\n<ann@example.org> wrote:\n\n> Is noon fine?",
        "Am 1. Mai 2023 um 10:00 schrieb Ann Example:\n> Passt zwölf Uhr?\n\n{}",
        "Le lun. 1 mai 2023 à 10:00, Ann a écrit :\n> Midi ?\n\n{}",
        "El lun, 1 may 2023 a las 10:00, Ann escribió:\n> ¿Mediodía?\n\n{}",
        "Ann Example writes:\n> Is noon fine?\n{}",
        "According to the calendar of the office, Ann\nExample said:\n\n> Is noon fine?\n\n{}",
        "{}\n\nAnn> Is noon fine?\nAE> or later?",
        "| Is noon fine?\n\n{}",
        "{}\n\n-----Original Message-----\nFrom: Ann\nSent: Monday\n\nIs noon fine?",
        "{}\n-- \nBob Example\nExample Inc.\n\n\nand much more\n" + "line\n" * 30,
        "{}\n\n--\nBob Example",
        "{}\n\n_______________________________________________\nPlans mailing list\nPlans@example.org\nhttp://example.org/mailman/listinfo/plans",
        "{}\n\n-------------------------------------------------------\nThis email is sponsored by: Example\nhttp://example.org\n"
        "_______________________________________________\nPlans mailing list\nPlans@example.org",
        "{}\n\n------------ Yahoo! Groups Sponsor ------------~-->\nBuy now\n--------------------------------~->\n\n"
        "To unsubscribe from this group, send an email to:\nx@example.org\n\n"
        "Your use of Yahoo! Groups is subject to terms",
        "{}\n\n--\nBob\n\n__________________\nDo You Yahoo!?\nhttp://example.org",
        "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA1\n\n{}\n-----BEGIN PGP SIGNATURE-----\n"
        "Version: 1\n\niD8DBQ\n-----END PGP SIGNATURE-----\n",
        "\ufeff{}\x00",
    ],
)
def test_own_words_stay_and_the_rest_goes(around: str) -> None:
    assert clean_mail(around.replace("{}", OWN)) == OWN


@pytest.mark.parametrize(
    "text",
    [
        "On the whole I like what she wrote:\nit is short.",
        "The price is 5 > 3.\n--> see above\n<- and below",
        "First part\n--\n" + "second part\n" * 30,
        "Heading\n==========\n" + "line\n" * 12 + "To unsubscribe, you open the settings.\n\n" + "line\n" * 8,
        "How do I unsubscribe from this mailing list?",
        "Agenda:\n  one\n\n  two | three | four |",
    ],
)
def test_what_only_looks_like_furniture_stays(text: str) -> None:
    assert clean_mail(text) == text.strip("\n")


def test_the_text_of_a_forwarded_mail_stays() -> None:
    header = "From: Ann <ann@example.org>\nDate: Mon, 1 May 2023"
    text = f"Look:\n\n---------- Forwarded message ---------\n{header}\n\nIs noon fine?"
    assert clean_mail(text) == "Look:\n\nIs noon fine?"
    assert clean_mail("From: Ann <ann@example.org>\nSubject: a long\n one\n\nIs noon fine?") == "Is noon fine?"


def test_a_mail_that_only_quotes_comes_out_empty() -> None:
    assert clean_mail("> all\n> of it\n") == ""
    assert clean_mail("") == ""


def test_quotes_between_answers_go() -> None:
    assert clean_mail("> Noon?\nYes.\n\n> Where?\nAt Ann's.") == "Yes.\n\nAt Ann's."


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>See you <b>so</b>on &amp; bye</p>", "See you soon & bye"),
        ("one<br>two<br/>three<div>four</div>", "one\ntwo\nthree\nfour"),
        ("<style>p {color: red}</style><script>var a = '<p>';</script><title>T</title>text", "text"),
        (
            "<p>Noon</p><blockquote type=cite><p>When?<blockquote>deep</blockquote></p></blockquote><p>Bye</p>",
            "Noon\n\nBye",
        ),
        ('<div>Noon<div class="gmail_quote">On Monday<div>When?</div></div></div>', "Noon"),
        ("<!-- note --><![if mso]>a<![endif]><!DOCTYPE html>b", "ab"),
        ("vi<!-- x -->sible", "visible"),
        ("a < b and <unclosed", "a < b and"),  # as browsers do it
        ("<pre>one\n  two\n&gt; three</pre>four<br>five", "one\n  two\n> three\nfour\nfive"),
        ("source\n  line   breaks", "source line breaks"),
        ("", ""),
    ],
)
def test_html(html: str, text: str) -> None:
    assert html_to_text(html) == text
