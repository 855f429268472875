"""What mail programs write around replies, in the languages that they speak: words, and expressions made of them.

The words are those that Gmail, Outlook, Apple Mail, Thunderbird, Yahoo and phones write by themselves.
"""

from __future__ import annotations

import re

# 'On ... Ann WROTE:'
_WROTE = (
    "wrote|writes|schrieb|schreef|geschreven|a écrit|escribió|escribio|ha scritto|scrive|escreveu|skrev|kirjoitti"
    r"|napisał(?:\(a\)|a|-a)?|pisze|napsal(?:\(a\)|a)?|napísal(?:\(a\)|a)?|írta|a scris|yazdı|va escriure|rašė"
    r"|написал(?:\(а\)|а)?|пишет|пише|написав|написа|έγραψε|đã viết|menulis|wrote on"
)
_WROTE_UNSPACED = "写道|寫道|のメール|書きました|님이 작성|썼습니다|작성하였습니다|เขียนว่า|כתב|كتب"

# FROM: TO: SUBJECT: DATE: of a mail that a reply copies. A sender's name comes first.
_SENDER = (
    "From|Von|De|Da|Van|Från|Fra|Lähettäjä|Od|Feladó|De la|Kimden|От|Від|Από|差出人|送信者|发件人|寄件者|보낸 ?사람"
)
_SUBJECT = (
    "Subject|Betreff|Objet|Asunto|Oggetto|Onderwerp|Assunto|Ämne|Emne|Aihe|Temat|Předmět|Predmet|Tárgy|Subiect|Konu"
    "|Тема|Θέμα|件名|主题|主旨|제목"
)
# When it was sent; 'Date:' is not among them, which many other lists have, too.
_SENT = (
    "Sent|Gesendet|Gesendet am|Envoyé|Envoyé le|Message du|Enviado|Enviado el|Enviada em|Enviada|Inviato|Verzonden"
    "|Skickat|Sendt|Lähetetty|Wysłano|Odesláno|Odoslané|Küldve|Trimis|Gönderildi|Отправлено|Надіслано|Στάλθηκε"
    "|送信日時|发送时间|寄件日期|보낸 ?날짜"
)
_OTHERS = (
    "To|Cc|Bcc|Date|Reply-To|Importance|Attachments|Organization|An|Datum|Kopie|Cci|À|A|Copie à|Sujet|Para|Fecha|Data"
    "|Aan|Till|Kopia|Til|Dato|Vastaanottaja|Kopio|Päivämäärä|Do|DW|Komu|Címzett|Dátum|Către|Gönderilen|Tarih|Kime|Bilgi"
    "|Дата|Кому|Копия|Копія|Προς|Κοιν|Ημερομηνία|日時|宛先|日期|收件人|抄送|收件者|副本|날짜|받는 ?사람|참조"
)

_ORIGINAL = (
    "Original Message|Original Appointment|Reply Message|Ursprüngliche Nachricht|Originalnachricht|Message d.origine"
    "|Message original|Mensaje original|Messaggio originale|Oorspronkelijk bericht|Origineel bericht|Mensagem original"
    "|Ursprungligt meddelande|Originalmeddelande|Oprindelig meddelelse|Opprinnelig melding|Alkuperäinen viesti"
    "|Oryginalna wiadomość|Wiadomość oryginalna|Původní zpráva|Pôvodná správa|Eredeti üzenet|Mesaj original"
    "|Orijinal [Mm]esaj|Исходное сообщение|Оригінальне повідомлення|Αρχικό μήνυμα|元のメッセージ|原始邮件"
    "|原邮件|原始郵件|원본 메시지"
)
_FORWARDED = (
    "(?:Begin )?Forwarded (?:message|text|by)|(?:Anfang der )?Weitergeleitete(?:n)? (?:Nachricht|E-Mail)"
    "|Message transféré|Début du message (?:transféré|réexpédié)|Mensaje reenviado|Inicio del mensaje reenviado"
    "|Messaggio inoltrato|Inizio messaggio inoltrato|Doorgestuurd bericht|Begin doorgestuurd bericht"
    "|Mensagem encaminhada|Vidarebefordrat (?:meddelande|brev)|Vidarebefordrat"
    "|Videresendt (?:meddelelse|melding|besked)|Edelleenlähetetty viesti"
    "|Przekazana wiadomość|Wiadomość przekazana|Přeposlaná zpráva|Továbbított üzenet"
    "|Mesaj redirecționat|İletilen mesaj|Пересылаемое сообщение|Переслане повідомлення|Προωθημένο μήνυμα"
    "|転送(?:された)?メッセージ|转发的邮件|轉寄郵件|전달된 메시지"
)

# The last line of a phone's or a program's mail.
_SENT_FROM = (
    r"Sent (?:from|via|with|using)\b.*|Get Outlook for\b.*|Von (?:meinem|meiner)\b.*\bgesendet|Gesendet (?:von|mit)\b.*"
    r"|Diese Nachricht wurde von\b.*\bgesendet|(?:Holen Sie sich|Laden Sie) Outlook für\b.*|Outlook für\b.*"
    r"|Envoyé (?:de mon|depuis|à partir de|avec)\b.*|(?:Télécharger|Obtenez?) Outlook pour\b.*"
    r"|Enviado (?:desde|do meu|a partir d[oe]|de meu|por)\b.*|(?:Obtener|Descargar|Obter|Obtenha) o?\s?Outlook para\b.*"
    r"|Inviato da(?:l mio|lla mia|l)?\b.*|(?:Scarica|Ottieni) Outlook per\b.*"
    r"|Verzonden (?:vanaf|van|met|via)\b.*|Verstuurd (?:vanaf|van|met)\b.*|Outlook voor\b.*"
    r"|Skickat från\b.*|Hämta Outlook för\b.*|Sendt fra\b.*|(?:Hent|Få) Outlook (?:til|for)\b.*|Lähetetty\b.*"
    r"|Wysłan[eo] z\b.*|Pobierz (?:aplikację )?Outlook\b.*|Odesláno z\b.*|Odoslané z\b.*|Trimis de pe\b.*"
    r"|Elküldve\b.*|.*\bgönderildi|Отправлено (?:с|из)\b.*|Надіслано з\b.*|Στάλθηκε από\b.*|Gửi từ\b.*|Dikirim dari\b.*"
    r"|.*から送信|发自我的.*|發自我的.*|從我的 ?.* ?傳送|.*에서 보냄"
)


def _name(words: str) -> str:
    """'From:', '*From:* ', 'De :' at the beginning of a line."""
    return rf"[\s*_]*(?:{words})[ \xa0]?[*_]*[:：]"


WROTE = re.compile(rf"(?:\b(?:{_WROTE})\b|{_WROTE_UNSPACED})", re.IGNORECASE)
"""A verb of an attribution."""
ENDS_ATTRIBUTION = re.compile(rf"(?:[:：]|-{{2,}}|(?:\b(?:{_WROTE})|{_WROTE_UNSPACED}))\s*$", re.IGNORECASE)
DATED = re.compile(r"\b(?:19|20)\d\d\b|\b\d{1,2}[:.h]\d\d\b|\b\d{1,2}[./-]\d{1,2}\b|\d{4}\s?[年년]", re.IGNORECASE)
"""A year, a time of day or a date in an attribution."""
BY_ADDRESS = re.compile(r"<[^<>]{0,90}@[^<>]{1,90}>[^<>]{0,40}$")
"""An attribution that needs no verb: it ends with an address."""
OLD_GMAIL = re.compile(r"\s*\d{4}[/-]\d{1,2}[/-]\d{1,2}\s.{1,80}<[^<>\s]+@[^<>\s]+>[:：]?\s*$")
UNDATED = re.compile(rf"\s*-{{2,}}\s?[^-].{{0,80}}\b(?:{_WROTE})\s?-{{2,}}\s*$", re.IGNORECASE)
SENDER_LINE = re.compile(_name(_SENDER) + r"\s*\S", re.IGNORECASE)
SENT_LINE = re.compile(_name(_SENT), re.IGNORECASE)
SUBJECT_LINE = re.compile(_name(_SUBJECT), re.IGNORECASE)
COPIED_LINE = re.compile(_name(f"{_SENDER}|{_SENT}|{_SUBJECT}|{_OTHERS}"), re.IGNORECASE)
"""A line of the header that a reply copies."""
ORIGINAL = re.compile(rf"\s*[-_*=]{{2,}}\s*(?:{_ORIGINAL})\s*[-_*=]*\s*$", re.IGNORECASE)
FORWARDED = re.compile(
    rf"\s*-{{2,}}\s*(?:{_FORWARDED}|{_ORIGINAL})\b.*$|\s*(?:Begin forwarded message|Anfang der weitergeleiteten"
    r" (?:Nachricht|E-Mail)|Début du message (?:transféré|réexpédié)|Inicio del mensaje reenviado|Inizio messaggio"
    r" inoltrato|Begin doorgestuurd bericht|Vidarebefordrat brev)\s*:\s*$",
    re.IGNORECASE,
)
SENT_FROM = re.compile(rf"\s*(?:{_SENT_FROM})\s*$", re.IGNORECASE)
