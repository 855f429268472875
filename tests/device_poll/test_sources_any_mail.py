"""Mail and tables as programs really write them: charsets, MIME, mailboxes, replies in many languages, table dialects.

Every kind of fault was met by somebody and reported in public; the inputs are of our own writing.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from device_poll.sources.charsets import decoded
from device_poll.sources.clean import clean_mail
from device_poll.sources.gather import count_words
from device_poll.sources.html_text import html_to_text
from device_poll.sources.items import Fields, SourceError
from device_poll.sources.message import address, body, parse
from device_poll.sources.read import read_items

POSTMARK = b"From ann@example.org Mon May  1 10:00:00 2023\n"
HEAD = b"From: Ann <ann@example.org>\nDate: Mon, 1 May 2023 10:00:00 +0000\n"
OWN = "The boat is under the bridge."


def mbox(path: Path, *mails: bytes) -> Path:
    path.write_bytes(b"".join(POSTMARK + mail + b"\n\n" for mail in mails))
    return path


@pytest.mark.parametrize(
    ("text", "label", "codec"),
    [
        ("镕基先生 明天见", "gb2312", "gbk"),
        ("会議 ｱｼﾀ", "iso-2022-jp", "iso2022_jp_ext"),
        ("①会議", "shift_jis", "cp932"),
        ("똠방각하", "euc-kr", "cp949"),
        ("“quoted” – dash", "iso-8859-1", "cp1252"),
        ("“quoted” – dash", "us-ascii", "cp1252"),
        ("“quoted”", "latin1", "cp1252"),
        ("Żółw „x”", "iso-8859-2", "iso8859_2"),
        ("grüße – heute", "windows-1252", "utf-8"),
        ("grüße", '"utf-8"', "utf-8"),
        ("plain words", "x-unknown", "ascii"),
        ("plain words", "charset=", "ascii"),
        ("grüße", None, "utf-8"),
    ],
)
def test_a_label_means_what_everybody_writes_under_it(text: str, label: str | None, codec: str) -> None:
    payload = text.replace("„x”", "x").encode(codec)
    assert decoded(payload, label) == text.replace("„x”", "x")


def test_a_page_says_its_charset_itself() -> None:
    page = '<html><head><meta charset="windows-1251"></head><body>привет</body></html>'.encode("cp1251")
    assert "привет" in str(decoded(page, None, html=True))
    assert decoded(page, None) is None and decoded(b"gr\xfc\xdfe", "no-such") is None, "nobody guesses"


@pytest.mark.parametrize(
    "mail",
    [
        b"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable \n\ngr=C3=BC=C3=9Fe an"
        b" alle",
        b"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 'Quoted-Printable'\n\ngr=C3=BC=C3=9Fe"
        b" an=\n alle",
        b"Content-Type: text/plain; charset=utf-8\n\ngr=C3=BC=C3=9Fe=\n an alle",
        b"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64;\n\nZ3LDvMOfZSBhbiBhbGxl\n",
        b"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\nZ3LDvMOfZSBhbiBhbGxl=\n=",
        "Content-Transfer-Encoding: base64\n\ngrüße an alle".encode(),
        "Content-Transfer-Encoding: 8-bit\n\ngrüße an alle".encode(),
        "Content-Type: text/plain charset=utf-8\n\ngrüße an alle".encode(),
        'Content-Type: multipart/mixed; boundary="a\n b"\n\n--a b\n\ngrüße an alle\n--a b--\n'.encode(),
        "Content-Type: multipart/mixed; boundary=B\n\n--B\nContent-Type: text/plain; name=a.txt\n\ngrüße an alle\n"
        "--B--".encode(),
        'Content-Type: text/html; charset=utf-8\nContent-Disposition: inline; filename="b.html"\n\n<p>grüße an '
        "alle".encode(),
        "Content-Type: multipart/mixed; boundary=B\n\n--B\nContent-Type: text/plain\n\ngrüße an alle\n--B\n"
        "Content-Type: text/html\n\n<p>grüße <b>an</b> alle</p>\n--B--".encode(),
        "garbage of a gateway\nSubject: x\n\ngrüße an alle".encode(),
        ">From ann@example.org Mon May  1 10:00:00 2023\nSubject: x\n\ngrüße an alle".encode(),
    ],
)
def test_the_text_of_a_mail_as_it_was_sent(mail: bytes) -> None:
    assert body(parse(mail)).strip() == "grüße an alle"


def test_what_only_looks_encoded_stays() -> None:
    for text in ("see http://x.example/?a=12&b=34&c=56", "a =\nb", "AAAA plain words under base64"):
        mail = parse(b"Content-Transfer-Encoding: 7bit\n\n" + text.encode())
        assert body(mail) == (text if text != "a =\nb" else "a b")
    assert body(parse(b"Content-Transfer-Encoding: base64\n\nonly plain words")) == "only plain words"


def test_an_attached_text_is_read_only_where_there_is_no_other() -> None:
    named = b"--B\nContent-Type: text/plain; name=a.txt\n\nthe notes\n"
    plain = b"--B\n\nsee the notes\n"
    head = b"Content-Type: multipart/mixed; boundary=B\n\n"
    assert body(parse(head + plain + named + b"--B--")) == "see the notes"
    assert body(parse(head + named + b"--B--")) == "the notes"


def test_parts_in_parts_without_end(tmp_path: Path) -> None:
    deep = HEAD
    for level in range(1500):
        deep += f'Content-Type: multipart/mixed; boundary="b{level}"\n\n--b{level}\n'.encode()
    path = mbox(tmp_path / "m.mbox", deep + b"\none two three", HEAD + b"\nfour five six")
    with pytest.raises(SourceError, match=r"message 1 .* has hundreds of parts in parts; expected a mail"):
        read_items(path)
    assert read_items(path, on_bad_row="skip").skipped == {"malformed": 1}


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ('"ann@desk.example" <team@example.org>', "team@example.org"),
        ("ann@desk.example <team@example.org>", "team@example.org"),
        ("=?utf-8?q?An=40na?= <Ann@Example.org>", "ann@example.org"),
        ('"Doe, Ann" <ann@example.org>, bob@example.org', "ann@example.org"),
        ("bob@example.org, Ann <ann@example.org>", "bob@example.org"),
        ("ann@example.org (Ann)", "ann@example.org"),
        ("undisclosed-recipients:;", "undisclosed-recipients:;"),
    ],
)
def test_whose_mail_it_is(value: str, found: str) -> None:
    assert address(parse(f"From: {value}\n\n".encode()), "From") == found


def test_where_a_mail_begins(tmp_path: Path) -> None:
    text = b"Here is the plan.\n\nFrom next week on\nMonday: closed\n\nFrom Monday\nTuesday: open"
    assert read_items(mbox(tmp_path / "a.mbox", HEAD + b"\n" + text)).texts == (text.decode(),)
    quoted = HEAD + b"\nHe says:\n\n>From here it is easy\n>>From there it is not"
    assert read_items(mbox(tmp_path / "b.mbox", quoted)).texts[0].startswith("He says:\n\nFrom here it is easy")


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_mail_that_says_how_long_it_is(tmp_path: Path, end: bytes) -> None:
    """mboxcl: an unescaped 'From ' line with a date inside; a length that is wrong does not count."""
    inside = POSTMARK + b"is how a mailbox begins"
    long = (
        HEAD
        + b"Content-Length: %d\n\n" % len((b"One two.\n\n" + inside).replace(b"\n", end))
        + b"One two.\n\n"
        + inside
    )
    path = tmp_path / "m.mbox"
    path.write_bytes(((POSTMARK + long + b"\n\n") * 2 + POSTMARK + HEAD + b"\nfour five six\n").replace(b"\n", end))
    assert [len(text.split()) for text in read_items(path).texts] == [14, 14, 3]
    wrong = HEAD + b"Content-Length: 3\n\none two three"
    path.write_bytes((POSTMARK + wrong + b"\n\n") * 2)
    assert read_items(path).texts == ("one two three",) * 2


def test_maildirs_as_they_are_copied(tmp_path: Path) -> None:
    for number, folder in enumerate(["", ".Sent", ".Sent.2023", "Archive/2022"]):
        part = tmp_path / "M" / folder / ("cur" if number else "new")
        part.mkdir(parents=True)
        (part / f"170000000{number}.a").write_bytes(HEAD + b"\nthe note number %d" % number)
    assert len(read_items(tmp_path / "M")) == 4
    (tmp_path / "none" / "new").mkdir(parents=True)
    with pytest.raises(SourceError, match="unknown format"):
        read_items(tmp_path / "none")


ATTRIBUTIONS = {
    "English": "On Mon, 1 May 2023 at 10:00, Bob <bob@example.org> wrote:",
    "English, broken": "On Mon, 1 May 2023 at 10:00, Bob Example\n<bob@example.org> wrote:",
    "German": "Am Mo., 1. Mai 2023 um 10:00 Uhr schrieb Bob <bob@example.org>:",
    "French": "Le lun. 1 mai 2023 à 10:00, Bob <bob@example.org> a écrit :",
    "Spanish": "El lun, 1 may 2023 a las 10:00, Bob (<bob@example.org>) escribió:",
    "Italian": "Il giorno lun 1 mag 2023 alle ore 10:00 Bob <bob@example.org> ha scritto:",
    "Dutch": "Op ma 1 mei 2023 om 10:00 schreef Bob <bob@example.org>:",
    "Portuguese": "Em seg., 1 de mai. de 2023 às 10:00, Bob <bob@example.org> escreveu:",
    "Swedish": "Den mån 1 maj 2023 kl 10:00 skrev Bob <bob@example.org>:",
    "Norwegian, broken": "man. 1. mai 2023 kl. 10:00 skrev Bob <bob@example.org\n>:",
    "Finnish": "ma 1. toukok. 2023 klo 10.00 Bob (bob@example.org) kirjoitti:",
    "Polish": "pon., 1 maj 2023 o 10:00 Bob <bob@example.org> napisał(a):",
    "Czech": "po 1. 5. 2023 v 10:00 odesílatel Bob <bob@example.org> napsal:",
    "Hungarian": "Bob <bob@example.org> ezt írta (időpont: 2023. máj. 1., H, 10:00):",
    "Turkish": "Bob <bob@example.org>, 1 May 2023 Pzt, 10:00 tarihinde şunu yazdı:",
    "Russian": "пн, 1 мая 2023 г. в 10:00, Bob <bob@example.org>:",
    "Greek": "Στις Δευ 1 Μαΐ 2023 στις 10:00 π.μ., ο χρήστης Bob <bob@example.org> έγραψε:",
    "Japanese": "2023年5月1日(月) 10:00 Bob <bob@example.org>:",
    "Chinese": "Bob <bob@example.org> 于2023年5月1日周一 10:00写道：",
    "Korean": "2023년 5월 1일 (월) 오전 10:00, Bob <bob@example.org>님이 작성:",
    "Zoho": "---- On Mon, 01 May 2023 10:00:00 +0000 Bob <bob@example.org> wrote ----",
    "old Gmail": "2023/5/1 Bob Example <bob@example.org>",
    "without colon": "On Mon, 1 May 2023 10:00:00 +0200 Bob <bob@example.org> wrote",
}


@pytest.mark.parametrize("language", list(ATTRIBUTIONS))
@pytest.mark.parametrize("quote", ["> is it under the bridge?\n> or not?", "is it under the bridge?\n\nor not?"])
def test_answers_above_what_is_answered(language: str, quote: str) -> None:
    assert clean_mail(f"{OWN}\n\n{ATTRIBUTIONS[language]}\n\n{quote}\n") == OWN


@pytest.mark.parametrize("language", list(ATTRIBUTIONS))
def test_answers_below_what_is_answered(language: str) -> None:
    assert clean_mail(f"{ATTRIBUTIONS[language]}\n> is it under the bridge?\n\n{OWN}") == OWN


@pytest.mark.parametrize(
    "copied",
    [
        "________________________________\nFrom: Bob <bob@example.org>\nSent: Monday, May 1, 2023\nTo: Ann\n"
        "Subject: Boat",
        "*From:* Bob [mailto:\nbob@example.org]\n*Sent:* Monday, May 1, 2023 10:00 AM\n*To:* Ann\n*Subject:* Boat",
        "-----Ursprüngliche Nachricht-----\nVon: Bob\nGesendet: Montag, 1. Mai 2023\nAn: Ann\nBetreff: Boot",
        "Von: Bob\nGesendet: Montag, 1. Mai 2023 10:00\nAn: Ann\nBetreff: Boot",
        "De : Bob<mailto:bob@example.org>\nEnvoyé le :lundi 1 mai 2023\nÀ : Ann\nObjet :Bateau",
        "-----Mensaje original-----\nDe: Bob\nEnviado: lunes\nPara: Ann\nAsunto: Barco",
        "Da: Bob\nInviato: lunedì 1 maggio 2023\nA: Ann\nOggetto: Barca",
        "Van: Bob\nVerzonden: maandag 1 mei 2023\nAan: Ann\nOnderwerp: Boot",
        "Från: Bob\nSkickat: den 1 maj 2023\nTill: Ann\nÄmne: Båt",
        "Od: Bob\nWysłano: 1 maja 2023\nDo: Ann\nTemat: Łódź",
        "От: Bob\nОтправлено: 1 мая 2023 г. 10:00\nКому: Ann",
        "发件人: Bob <bob@example.org>\n发送时间: 2023年5月1日\n收件人: Ann\n主题: 船",
        "Date: Mon, 1 May 2023 10:00:00 +0000\nFrom: bob@example.org",
        "-----Original Message-----\nis it there?",
        "-------- Oprindelig meddelelse --------\nFra: Bob",
    ],
)
def test_the_header_of_the_mail_that_is_answered(copied: str) -> None:
    assert clean_mail(f"{OWN}\n\n{copied}\n\nis it under the bridge?\n") == OWN


@pytest.mark.parametrize(
    "line",
    [
        "Sent from my iPhone", "Sent from Yahoo Mail on Android", "Get Outlook for Android<https://example.org/x>",
        "Von meinem iPhone gesendet", "Gesendet mit der Mail App", "Envoyé de mon iPhone", "Enviado desde mi iPhone",
        "Inviato da iPhone", "Verzonden vanaf mijn iPhone", "Enviado do meu iPhone", "Skickat från min iPhone",
        "Sendt fra min iPad", "Lähetetty iPhonesta", "Wysłane z iPhone'a", "Odesláno z iPhonu", "Отправлено с iPhone",
        "iPhoneから送信", "发自我的iPhone", "나의 iPhone에서 보냄", "iPhone'umdan gönderildi",
    ],
)  # fmt: skip
def test_the_last_line_of_a_phone(line: str) -> None:
    assert clean_mail(f"{OWN}\n\n{line}\n") == OWN
    assert clean_mail(f"{OWN}\n\n{line}\n\nOn Mon, 1 May 2023 at 10:00, Bob wrote:\n> is it?") == OWN
    assert clean_mail(f"{OWN}\n\n{line}\n\nis it under the bridge?") == OWN


@pytest.mark.parametrize(
    "block",
    [
        "-----BEGIN PGP MESSAGE-----\n\nhQEMA1234\n=abcd\n-----END PGP MESSAGE-----",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        "begin 644 boat.gif\nM1TE&.#EA`0`!`(``\n`\nend",
        "begin-base64 644 boat.gif\nR0lGODlh\n====",
    ],
)
def test_blocks_for_machines(block: str) -> None:
    assert clean_mail(f"{OWN}\n\n{block}\n") == OWN


@pytest.mark.parametrize(
    "text",
    [
        "Hi all,\n\nplease read the new privacy policy by Friday and send comments to Bob.",
        "Dear all,\n\nYou can opt out of the dental plan until Friday, the form is on my desk.",
        "Hello,\n\nI will put you on the mailing list of the choir.",
        "Hello,\n\nHotmail is down again, can somebody look at it?",
        "I ran this on both:\n\nSQL> select count(*) from orders;\nRouter> show version\n\nforty-two rows came back",
        "mysql> show tables;\nand then nothing",
        "Our trip:\n\nFrom: Boston\nTo: Rome\nDate: 3 May 2023\n\nsee you there",
        "Form for you:\n\nTo: the office\nSubject to change: yes\n\nplease fill it in",
        "On Friday I wrote:\nnobody answered so far.",
        "The bill of 3.5.2023 was sent:\nplease pay it",
        "In 2021 my aunt wrote to me, and I never answered.\nShe writes 10:30 is fine.",
        "The note was sent from my desk to the printer on the third floor and nobody took it from there.",
        "Visit us:\n>>> www.example.org <<<\nfor more",
        "begin 644 is what uuencode writes first.",
        "On gate 7 the latch is loose again.",
        "Who is on it:\n\nTo: ann@example.org\nCc: bob@example.org\n\nWe meet on 3.5. at 10:00.",
    ],
)
def test_own_words_stay(text: str) -> None:
    assert clean_mail(f"{text}\n") == text
    assert clean_mail(f"{text}\n\nOn 3 May 2021, at 8:15, Bob Example wrote:\n\n> is the gate shut?\n") == text


def test_own_words_on_the_line_of_an_attribution() -> None:
    assert clean_mail("Fine with me. On Mon, 1 May 2023, Bob wrote:\n> noon?") == "Fine with me."


@pytest.mark.parametrize(
    "page",
    [
        '<p>{}</p><div style="border-top:solid #E1E1E1 1.0pt"><p><b>From:</b> Bob &lt;bob@example.org&gt;<br>'
        "<b>Sent:</b> Monday<br><b>To:</b> Ann<br><b>Subject:</b> Boat</p></div><p>is it?</p>",
        '<div>{}</div><div id="divRplyFwdMsg"><b>From:</b> Bob<br><b>Sent:</b> May 1, 2023<br><b>To:</b> Ann</div>'
        "is it?",
        "<pre>{}\n\nOn Mon, 1 May 2023, Bob wrote:\n&gt; is it?\n-- \nAnn</pre>",
        '<p>{}</p><p>On Mon, 1 May 2023, Bob wrote:</p><blockquote type="cite"><p>is it?</p></blockquote>',
        '{}<div class="gmail_quote"><div class="gmail_attr">On 1 May 2023 Bob wrote:</div>is it?</div>',
        '{}<div id="mail-editor-reference-message-container">is it?</div>',
        '<p>On Mon, 1 May 2023, Bob wrote:</p><blockquote type="cite">is it?</blockquote><p>{}</p>',
    ],
)
def test_quotes_in_pages(page: str) -> None:
    raw = b"Content-Type: text/html; charset=utf-8\n\n" + page.replace("{}", OWN).encode()
    assert clean_mail(body(parse(raw))) == OWN


def test_long_mails_that_were_slow() -> None:
    """Each took minutes, in proportion to the square of its length; docs/mail.md has the times."""
    assert clean_mail("\n" * 50_000 + OWN) == OWN
    assert clean_mail(OWN + "\n>" + " " * 50_000 + "x") == OWN
    assert clean_mail("begin 644 x\n" * 3000 + OWN).endswith(OWN)
    assert html_to_text("<div>" * 20_000 + OWN) == OWN
    assert html_to_text(OWN + "<a@b " * 20_000) == OWN


def test_a_length_that_is_far_too_large(tmp_path: Path) -> None:
    for length in (10**6, 10**12):
        mails = [HEAD + b"Content-Length: %d\n\none two three" % length] * 200
        assert len(read_items(mbox(tmp_path / "m.mbox", *mails))) == 200


def test_a_file_that_is_utf_16_for_a_while(tmp_path: Path) -> None:
    whole = "text,user\none two three,a\n".encode("utf-16")
    for broken in (whole[:-1], whole + b"\x00\xdc"):
        (tmp_path / "m.csv").write_bytes(broken)
        with pytest.raises(SourceError, match="begins as UTF-16 and does not go on so"):
            read_items(tmp_path / "m.csv")


def test_scripts_without_blanks() -> None:
    for text in ("សួស្តីអ្នកទាំងអស់គ្នា", "မင်္ဂလာပါအားလုံး", "ｱｼﾀ ﾉ ｶｲｷﾞ", "สวัสดีทุกคน", "会議は明日です"):
        assert count_words(text) > 3
    assert count_words("one two three") == 3


def test_a_user_whose_number_a_program_made_a_float(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("text,user\none two three,7\nfour five six,7.0\nseven eight nine,v1.0\n")
    assert read_items(tmp_path / "m.csv").users == ("7", "7", "v1.0")
    table = pa.table({"text": ["one two three"] * 3, "user": [7.0, None, 8.0]})
    pq.write_table(table, tmp_path / "m.parquet")
    items = read_items(tmp_path / "m.parquet", on_bad_row="skip")
    assert (items.users, items.skipped) == (("7", "8"), {"no_user": 1})
    pq.write_table(pa.table({"text": ["one two three"], "user": [7.5]}), tmp_path / "m.parquet")
    with pytest.raises(SourceError, match=r"the user of row 1 of m\.parquet is of type float"):
        read_items(tmp_path / "m.parquet")


def test_a_date_that_is_no_number_of_seconds(tmp_path: Path) -> None:
    good = '{"text": "one two three", "user": "a", "at": 5}\n'
    (tmp_path / "m.jsonl").write_text(good + good.replace("5", "9" * 400))
    assert read_items(tmp_path / "m.jsonl", Fields(time="at"), on_bad_row="skip").skipped == {"undated": 1}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_of_many_programs(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "m.CSV").write_bytes("\n,\ntext,user\nüber zwei drei,a\n".encode(encoding))
    assert read_items(tmp_path / "m.CSV").texts == ("über zwei drei",)
    (tmp_path / "m.JSONL").write_bytes('{"text": "über zwei drei", "user": 1}\n'.encode(encoding))
    assert read_items(tmp_path / "m.JSONL").texts == ("über zwei drei",)


@pytest.mark.parametrize(("name", "sign"), [("semicolon", ";"), ("tab", "\t"), ("pipe", "|")])
def test_other_signs_between_cells(tmp_path: Path, name: str, sign: str) -> None:
    """The error says what to give, and that works."""
    (tmp_path / "m.csv").write_text(f"text{sign}user\none, two three{sign}a\n")
    with pytest.raises(SourceError, match=f"has a {name} between the names .* give devices.fields.delimiter={name}$"):
        read_items(tmp_path / "m.csv")
    assert read_items(tmp_path / "m.csv", Fields(delimiter=name)).texts == ("one, two three",)
    with pytest.raises(
        SourceError, match=r"devices\.fields\.delimiter is ';'; expected one of comma, semicolon, tab, pipe"
    ):
        read_items(tmp_path / "m.csv", Fields(delimiter=";"))


def test_columns_that_are_there_twice(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("text,text,user\none two three,x,a\n")
    with pytest.raises(SourceError, match="has 2 fields 'text'; expected one"):
        read_items(tmp_path / "m.csv")
    arrays = [pa.array(["one two three"]), pa.array(["x"]), pa.array(["a"])]
    pq.write_table(pa.Table.from_arrays(arrays, names=["text", "text", "user"]), tmp_path / "m.parquet")
    with pytest.raises(SourceError, match="has 2 columns 'text'; expected one"):
        read_items(tmp_path / "m.parquet")


def test_what_spark_leaves_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "P/_temporary/0").mkdir(parents=True)
    for file, text in {"part-0.parquet": "one two three", "_temporary/0/part-1.parquet": "half of it"}.items():
        pq.write_table(pa.table({"text": [text], "user": ["a"]}), tmp_path / "P" / file)
    (tmp_path / "P/_SUCCESS").touch()
    assert read_items(tmp_path / "P").texts == ("one two three",)


def test_a_missing_column_names_the_key_to_set(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("body,sender\none two three,a\n")
    with pytest.raises(SourceError, match=r"it has: body, sender; name one of these with devices\.fields\.text=NAME"):
        read_items(tmp_path / "m.csv")
    with pytest.raises(SourceError, match=r"with devices.fields.user=NAME \(or devices.fields.user=null"):
        read_items(tmp_path / "m.csv", Fields(text="body"))
