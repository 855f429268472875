"""Reading mbox files, Maildirs and folders of them."""

from __future__ import annotations

import gzip
import mailbox
from email.message import EmailMessage
from pathlib import Path

import pytest

from device_poll.sources.items import Fields, SourceError
from device_poll.sources.message import UndecodableError, address, body, parse, sent, subject
from device_poll.sources.read import read_items

POSTMARK = b"From ann@example.org Mon May  1 10:00:00 2023\n"


def mail(
    text: str, *, sender: str = "Ann <Ann@Example.org>", date: str = "Mon, 1 May 2023 10:00:00 +0000"
) -> EmailMessage:
    message = EmailMessage()
    message["From"] = sender
    message["To"] = "Carl <carl@example.org>, dora@example.org"
    message["Date"] = date
    message.set_content(text)
    return message


MAILS = [
    mail("The third note of ann\n\n> quoted\n", date="Wed, 3 May 2023 10:00:00 +0000"),
    mail("From here on it is a note\nof bob: grüße\n-- \nBob", sender="bob@example.org"),
    mail("The first note of ann", date="Mon, 1 May 2023 10:00:00 +0200"),
    mail("short", sender="bob@example.org"),
]
TEXTS = ("The first note of ann", "From here on it is a note\nof bob: grüße", "The third note of ann")
USERS = ("ann@example.org", "bob@example.org", "ann@example.org")


def write_mbox(path: Path, mails: list[EmailMessage]) -> Path:
    box = mailbox.mbox(path)
    for message in mails:
        box.add(message)
    box.close()
    return path


def write_maildir(path: Path, mails: list[EmailMessage]) -> Path:
    box = mailbox.Maildir(path)
    for number, message in enumerate(mails):
        with (path / "new" / f"{1700000000 + number}.{number}.host:2,S").open("wb") as file:
            file.write(message.as_bytes())
    box.close()
    return path


def test_mbox(tmp_path: Path) -> None:
    path = write_mbox(tmp_path / "inbox.mbox", MAILS)
    before = path.read_bytes()
    items = read_items(path)
    assert (items.texts, items.users, items.skipped) == (TEXTS, USERS, {"short": 1})
    assert path.read_bytes() == before
    (tmp_path / "inbox").write_bytes(before)  # found by its first line
    (tmp_path / "inbox.mbox.gz").write_bytes(gzip.compress(before))
    assert read_items(tmp_path / "inbox") == read_items(tmp_path / "inbox.mbox.gz") == items


def test_maildir(tmp_path: Path) -> None:
    path = write_maildir(tmp_path / "Mail", MAILS[:2])
    (path / "cur" / ".hidden").write_text("not a mail")
    write_maildir(path / ".Sent", MAILS[2:])
    items = read_items(path)
    assert (items.texts, items.users, items.skipped) == (TEXTS, USERS, {"short": 1})


def test_the_user_may_be_another_header(tmp_path: Path) -> None:
    path = write_mbox(tmp_path / "inbox.mbox", MAILS)
    assert set(read_items(path, Fields(user="To")).users) == {"carl@example.org"}
    assert len(set(read_items(path, Fields(user=None)).users)) == 3
    with pytest.raises(SourceError, match=r"message 1 \(byte 0\) has no field 'X-Owner'; it has: From, To, Date"):
        read_items(path, Fields(user="X-Owner"))


@pytest.mark.parametrize("kind", ["mbox", "mbox folder", "maildir"])
def test_a_folder_of_mailboxes_has_one_user_each(tmp_path: Path, kind: str) -> None:
    for name, mails in {"ann": MAILS[:2], "bob": MAILS[2:]}.items():
        if kind == "maildir":
            write_maildir(tmp_path / name, mails)
        elif kind == "mbox":
            write_mbox(tmp_path / f"{name}.mbox", mails)
        else:
            (tmp_path / f"{name}.mbox").mkdir()
            write_mbox(tmp_path / f"{name}.mbox" / "mbox", mails)
    items = read_items(tmp_path)
    assert (items.texts, items.users) == (TEXTS, ("bob", "ann", "ann"))
    assert read_items(tmp_path, Fields(user="From")).users == USERS


def test_an_error_in_a_folder_of_mailboxes_does_not_name_the_owner(tmp_path: Path) -> None:
    write_mbox(tmp_path / "ann@example.org.mbox", MAILS)
    (tmp_path / "zoe@example.org.mbox").write_text("not an mbox")
    with pytest.raises(SourceError, match=r"mailbox 2 in name order: .* does not start with a 'From ' line") as caught:
        read_items(tmp_path)
    assert "zoe" not in str(caught.value)


def test_a_from_line_in_a_body_does_not_cut_the_mail(tmp_path: Path) -> None:
    raw = b"From: ann@example.org\nDate: Mon, 1 May 2023 10:00:00 +0000\n\nOne two three\n\nFrom there on it is easy\n"
    (tmp_path / "m.mbox").write_bytes((POSTMARK + raw + b"\n") * 2)
    items = read_items(tmp_path / "m.mbox")
    assert items.texts == ("One two three\n\nFrom there on it is easy",) * 2


@pytest.mark.parametrize(
    "postmark", [b"From \n", b"From - \n", b"From 123@xxx Mon May 01 10:00:00 +0000 2023\n", POSTMARK]
)
def test_postmarks_of_many_programs(tmp_path: Path, postmark: bytes) -> None:
    raw = b"From: ann@example.org\nDate: Mon, 1 May 2023 10:00:00 +0000\n\none two three\n\n"
    content = (postmark + raw) * 3
    for variant in (content, content.replace(b"\n", b"\r\n"), b"\n" + content):
        (tmp_path / "m.mbox").write_bytes(variant)
        assert read_items(tmp_path / "m.mbox").texts == ("one two three",) * 3


@pytest.mark.parametrize("date", [b"", b"Date: someday\n"])
def test_a_mail_without_date_is_dated_by_its_delivery(tmp_path: Path, date: bytes) -> None:
    def raw(word: bytes) -> bytes:
        return b"From: ann@example.org\n" + date + b"\nthe note " + word + b"\n\n"

    later = POSTMARK.replace(b"2023", b"2024")
    (tmp_path / "m.mbox").write_bytes(later + raw(b"later") + POSTMARK + raw(b"sooner"))
    assert read_items(tmp_path / "m.mbox").texts == ("the note sooner", "the note later")
    (tmp_path / "m.mbox").write_bytes(b"From nobody\n" + raw(b"x"))
    with pytest.raises(SourceError, match=r"message 1 \(byte 0\) has no date"):
        read_items(tmp_path / "m.mbox")
    for part in ("cur", "new", "tmp"):
        (tmp_path / "Mail" / part).mkdir(parents=True)
    (tmp_path / "Mail" / "new" / "1700000002.a").write_bytes(raw(b"later"))
    (tmp_path / "Mail" / "cur" / "1700000001.b:2,S").write_bytes(raw(b"sooner"))
    assert read_items(tmp_path / "Mail").texts == ("the note sooner", "the note later")


@pytest.mark.parametrize("charset", ["utf-8", "euc-jp", "no-such-charset", ""])
def test_a_text_that_is_not_in_its_charset(tmp_path: Path, charset: str) -> None:
    declared = f"Content-Type: text/plain; charset={charset}\n".encode() if charset else b""
    bad = b"From: ann@example.org\n" + declared + b"\none two \xff three\n\n"
    good = b"From: ann@example.org\n\nfour five six\n\n"
    (tmp_path / "m.mbox").write_bytes(POSTMARK + good + POSTMARK + bad)
    with pytest.raises(
        SourceError, match=r"the text of message 2 \(byte \d+\) cannot be decoded; expected the charset"
    ):
        read_items(tmp_path / "m.mbox")
    items = read_items(tmp_path / "m.mbox", on_bad_row="skip")
    assert (items.texts, items.skipped) == (("four five six",), {"undecodable": 1})


def test_a_mail_without_sender(tmp_path: Path) -> None:
    (tmp_path / "m.mbox").write_bytes(POSTMARK + b"Subject: x\n\none two three\n\n" + POSTMARK + MAILS[0].as_bytes())
    with pytest.raises(SourceError, match=r"message 1 .* has no field 'From'; it has: Subject"):
        read_items(tmp_path / "m.mbox")
    assert read_items(tmp_path / "m.mbox", on_bad_row="skip").skipped == {"missing": 1}


def test_empty_mailboxes(tmp_path: Path) -> None:
    (tmp_path / "m.mbox").write_bytes(b"")
    with pytest.raises(SourceError, match=r"no usable rows \(it is empty\)"):
        read_items(tmp_path / "m.mbox")
    mailbox.Maildir(tmp_path / "Mail").close()
    with pytest.raises(SourceError, match=r"no usable rows \(it is empty\)"):
        read_items(tmp_path / "Mail")
    (tmp_path / "none").mkdir()
    with pytest.raises(SourceError, match=r"holds no mailboxes"):
        read_items(tmp_path / "none", format="mailboxes")
    with pytest.raises(SourceError, match=r"is not a Maildir"):
        read_items(tmp_path / "none", format="maildir")
    (tmp_path / "x.txt").write_text("one two three")
    with pytest.raises(SourceError, match=r"does not start with a 'From ' line"):
        read_items(tmp_path / "x.txt", format="mbox")


def test_a_maildir_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_maildir(tmp_path / "Mail", MAILS)

    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)  # mode bits do not stop root
    with pytest.raises(SourceError, match=r"not readable .permission denied"):
        read_items(path)


def test_plain_text_is_preferred_to_html_and_attachments_are_left_out() -> None:
    message = mail("the plain text")
    message.add_alternative("<p>the <b>HTML</b> text</p>", subtype="html")
    message.add_attachment("the attached text", filename="notes.txt")
    message.add_attachment(mail("the forwarded mail"))
    assert body(parse(message.as_bytes())).strip() == "the plain text"


def test_html_is_read_where_there_is_no_plain_text() -> None:
    only = EmailMessage()
    only.set_content("<html><p>the <b>HTML</b> text</p></html>", subtype="html")
    assert body(parse(only.as_bytes())) == "the HTML text"
    blank = mail(" \n")
    blank.add_alternative("<p>the HTML text</p>", subtype="html")
    assert body(parse(blank.as_bytes())) == "the HTML text"
    mislabelled = mail("<html><body><p>the HTML text</p></body></html>")
    assert body(parse(mislabelled.as_bytes())) == "the HTML text"


def test_all_text_parts_of_a_mixed_mail_are_read() -> None:
    message = mail("before the picture")
    message.add_attachment(b"\x89PNG", maintype="image", subtype="png", disposition="inline")
    message.attach(mail("after the picture"))
    assert body(parse(message.as_bytes())) == "before the picture\n\nafter the picture"


@pytest.mark.parametrize("encoding", ["7bit", "quoted-printable", "base64", "8bit"])
def test_transfer_encodings(encoding: str) -> None:
    message = EmailMessage()
    text = "a plain note\n" if encoding == "7bit" else "grüße — alle\n"
    message.set_content(text, cte=encoding)
    assert body(parse(message.as_bytes())) == text


def test_charsets_and_headers() -> None:
    raw = b"From: =?utf-8?q?An=C3=A9?= <A.B@Example.org>\nSubject: =?latin-1?q?gr=FC=DFe?= an\n alle\n"
    latin = parse(raw + b"Content-Type: text/plain; charset=ISO-8859-1\n\n\x93gr\xfc\xdfe\x94")
    assert body(latin) == "“grüße”"
    assert subject(latin) == "grüße an alle"
    assert address(latin, "From") == "a.b@example.org"
    assert address(latin, "Sender") is None
    assert sent(latin) is None
    assert address(parse(b"List-Id: The  Plans\n\n"), "List-Id") == "the plans"
    assert subject(parse(b"Subject: =?no-such?q?a=FCb?=\n\n")) == "a\ufffdb"
    with pytest.raises(UndecodableError):
        body(parse(b"From: a@example.org\n\ngr\xfc\xdfe"))
    assert body(parse(b"From: a@example.org\n\ngr\xfc\xdfe"), fallback="cp1252") == "grüße"
    assert body(parse(b"Content-Type: multipart/mixed\n\nno parts here")) == ""
