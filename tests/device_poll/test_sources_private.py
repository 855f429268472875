"""No error, repr or log of a reader holds anything of the mail that it read."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from device_poll.sources.items import Fields, Items, SourceError
from device_poll.sources.read import read_items

SECRET = "zyzzyva"
ROW = {"text": f"my {SECRET} plan is ready", "user": f"{SECRET}@example.org", "at": 1}


def deep(levels: int) -> bytes:
    """A mail with parts in parts."""
    head = b"From: a@example.org\n"
    for level in range(levels):
        head += f'Content-Type: multipart/mixed; boundary="b{level}"\n\n--b{level}\n'.encode()
    return head + f"\nmy {SECRET} plan is ready\n".encode()


BROKEN: dict[str, tuple[str, bytes, Fields]] = {
    "half a JSON line": ("m.jsonl", json.dumps(ROW).encode() + b"\n" + json.dumps(ROW).encode()[:-9], Fields()),
    "JSON without quotes": ("m.jsonl", f"{{'text': '{SECRET}'}}".encode(), Fields()),
    "half a JSON array": ("m.jsonl", json.dumps([ROW])[:-3].encode(), Fields()),
    "JSON array not UTF-8": ("m.jsonl", json.dumps([ROW]).encode().replace(b"plan", b"pl\xffn"), Fields()),
    "CSV with semicolons": ("m.csv", f"text;user;{SECRET}\nmy plan;x;y\n".encode(), Fields()),
    "mail nested too deeply": ("m.mbox", b"From x\n" + deep(1500), Fields()),
    "not UTF-8 in JSON": ("m.jsonl", json.dumps(ROW).encode().replace(b"plan", b"pl\xffn"), Fields()),
    "text is a list": ("m.jsonl", json.dumps(ROW | {"text": [SECRET]}).encode(), Fields()),
    "user is a list": ("m.jsonl", json.dumps(ROW | {"user": [SECRET]}).encode(), Fields()),
    "date is text": ("m.jsonl", json.dumps(ROW | {"at": SECRET}).encode(), Fields(time="at")),
    "no such field": ("m.jsonl", json.dumps({f"{SECRET} says hello to you": 1}).encode(), Fields()),
    "field is an address": ("m.jsonl", json.dumps({f"{SECRET}@example.org": "a b c"}).encode(), Fields()),
    "gzip that is none": ("m.jsonl.gz", SECRET.encode(), Fields()),
    "CSV without header": ("m.csv", f"my {SECRET} plan is quite ready,{SECRET}@example.org\n".encode(), Fields()),
    "CSV with a bad quote": ("m.csv", f'text,user\n"my {SECRET}" plan,x\n'.encode(), Fields()),
    "CSV with an open quote": ("m.csv", f'text,user\n"my {SECRET} plan,x\n'.encode(), Fields()),
    "CSV with a cell too many": ("m.csv", f"text,user\nmy {SECRET} plan,x,y\n".encode(), Fields()),
    "CSV not UTF-8": ("m.csv", f"text,user\nmy {SECRET} plan\xff,x\n".encode("latin-1"), Fields()),
    "no mbox": ("m.mbox", f"my {SECRET} plan".encode(), Fields()),
    "mail without sender": ("m.mbox", f"From {SECRET}\nSubject: {SECRET}\n\nmy {SECRET} plan".encode(), Fields()),
    "mail in no charset": ("m.mbox", f"From x\nFrom: {SECRET}@a.b\n\n{SECRET} \xff".encode("latin-1"), Fields()),
    "mail without date": ("m.mbox", f"From x\nFrom: {SECRET}@a.b\n\nmy {SECRET} plan".encode(), Fields()),
    "nothing is long enough": ("m.jsonl", json.dumps(ROW | {"text": SECRET}).encode(), Fields()),
}


def attached(error: BaseException) -> Iterator[str]:
    """Everything that a crash report could print: the error, its chain, and the variables of its frames."""
    pending: list[BaseException | None] = [error]
    while pending:
        one = pending.pop()
        if one is None:
            continue
        yield f"{one!r} {one.args!r} {vars(one)!r}"
        pending += [one.__cause__, one.__context__]
        trace = one.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename != __file__:
                yield repr(trace.tb_frame.f_locals)
            trace = trace.tb_next


@pytest.mark.parametrize("case", list(BROKEN))
def test_errors_hold_no_text(tmp_path: Path, case: str, caplog: pytest.LogCaptureFixture) -> None:
    name, content, fields = BROKEN[case]
    (tmp_path / name).write_bytes(content)
    caplog.set_level(logging.DEBUG)
    with pytest.raises(SourceError) as caught:
        read_items(tmp_path / name, fields)
    assert all(SECRET not in text for text in attached(caught.value))
    assert "\n" not in str(caught.value)
    assert SECRET not in caplog.text


def test_the_check_finds_text_in_a_chain() -> None:
    """The control: the exception of the standard library does hold its input."""
    with pytest.raises(ValueError, match=r"column") as caught:
        json.loads(SECRET)
    assert any(SECRET in text for text in attached(caught.value))


def test_parquet_errors_hold_no_text(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [ROW["text"]], "user": pa.array([1.5])}), tmp_path / "m.parquet")
    with pytest.raises(SourceError, match=r"the user of row 1 of m\.parquet is of type float") as caught:
        read_items(tmp_path / "m.parquet")
    assert all(SECRET not in text for text in attached(caught.value))


def test_reprs_hold_no_text() -> None:
    items = Items(texts=(str(ROW["text"]),), users=(str(ROW["user"]),), skipped={"short": 2})
    assert repr(items) == str(items) == "Items(skipped={'short': 2})"
