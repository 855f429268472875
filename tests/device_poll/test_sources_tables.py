"""Reading JSON lines, CSV and Parquet: what comes out, and one test for each error."""

from __future__ import annotations

import csv
import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from device_poll.sources.gather import count_words, seconds
from device_poll.sources.items import Fields, Items, SourceError
from device_poll.sources.read import read_items

ROWS: list[dict[str, object]] = [
    {"user": "ann", "text": "the second note of ann", "at": "2024-05-02T10:00:00+00:00"},
    {"user": "bob", "text": 'a note, with "quotes"\nand two lines', "at": "2024-05-01T10:00:00+00:00"},
    {"user": "ann", "text": "the first note of ann, grüße", "at": "2024-05-01T09:00:00+00:00"},
    {"user": "bob", "text": "too short", "at": "2024-05-03T09:00:00+00:00"},
]


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    """`rows` in the format of the path's suffix."""
    name = path.name
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    if name.endswith((".csv", ".csv.gz")):
        lines = path.with_name("draft")
        with lines.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        content = lines.read_bytes()
        lines.unlink()
    else:
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


@pytest.mark.parametrize(
    "name", ["m.jsonl", "m.jsonl.gz", "m.ndjson", "m.JSONL", "m.json", "m.csv", "m.csv.gz", "m.parquet"]
)
def test_reads_every_table(tmp_path: Path, name: str) -> None:
    if name == "m.JSONL":
        write(tmp_path / "m.jsonl", ROWS).rename(tmp_path / name)
    else:
        write(tmp_path / name, ROWS)
    items = read_items(tmp_path / name, Fields(time="at"))
    assert items.texts == tuple(str(ROWS[i]["text"]) for i in (2, 1, 0))  # oldest first
    assert items.users == ("ann", "bob", "ann")
    assert items.skipped == {"short": 1}
    assert len(items) == 3


def test_without_a_time_field_file_order_is_kept(tmp_path: Path) -> None:
    items = read_items(write(tmp_path / "m.jsonl", ROWS))
    assert items.texts[0] == ROWS[0]["text"]
    assert items.users == ("ann", "bob", "ann")


def test_equal_times_keep_file_order(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"user": "a", "text": f"note number {i}", "at": 7} for i in range(20)]
    items = read_items(write(tmp_path / "m.jsonl", rows), Fields(time="at"))
    assert items.texts == tuple(str(row["text"]) for row in rows)


def test_every_item_its_own_user(tmp_path: Path) -> None:
    items = read_items(write(tmp_path / "m.jsonl", ROWS), Fields(user=None))
    assert len(set(items.users)) == 3


def test_a_path_may_be_a_string_and_users_may_be_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "m.jsonl", [{"user": 7, "text": "one two three"}])
    assert read_items(str(path)).users == ("7",)


def test_texts_are_left_as_they_are(tmp_path: Path) -> None:
    text = "  > not a quote here \n-- \nkept  "
    assert read_items(write(tmp_path / "m.jsonl", [{"user": "a", "text": text}])).texts == (text,)


def test_long_texts_are_left_out_whole_and_counted(tmp_path: Path) -> None:
    items = read_items(write(tmp_path / "m.jsonl", ROWS), max_words=5)
    assert items.skipped == {"long": 2, "short": 1}
    assert items.texts == ("the second note of ann",)


def test_a_cell_longer_than_the_csv_limit(tmp_path: Path) -> None:
    long = "word " * 40_000
    limit = csv.field_size_limit()
    assert read_items(write(tmp_path / "m.csv", [{"user": "a", "text": long}])).texts == (long,)
    assert csv.field_size_limit() == limit


def test_byte_order_mark(tmp_path: Path) -> None:
    for name, content in {
        "m.csv": "text,user\none two three,a\n",
        "m.jsonl": '{"text":"one two three","user":"a"}\n',
    }.items():
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + content.encode())
        assert len(read_items(tmp_path / name)) == 1


def test_parquet_column_types(tmp_path: Path) -> None:
    when = [datetime(2024, 1, 2, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC)]
    table = pa.table(
        {
            "text": pa.array(["b b b", "a a a"]).dictionary_encode(),
            "user": pa.array([2, 1], pa.int32()),
            "at": pa.array(when, pa.timestamp("ns", "Europe/Berlin")),
            "day": pa.array([when[0].date(), when[1].date()]),
            "large": pa.array(["b b b", "a a a"], pa.large_string()),
        }
    )
    pq.write_table(table, tmp_path / "m.parquet")
    for fields in (Fields(time="at"), Fields(time="day"), Fields(text="large", time="at")):
        items = read_items(tmp_path / "m.parquet", fields)
        assert (items.texts, items.users) == (("a a a", "b b b"), ("1", "2"))


@pytest.mark.parametrize("name", ["m.jsonl", "m.csv", "m.parquet"])
@pytest.mark.parametrize("fields", [Fields(text="body"), Fields(user="body"), Fields(time="body")])
@pytest.mark.parametrize("mode", ["error", "skip"])
def test_a_wrong_field_name_lists_the_fields(tmp_path: Path, name: str, fields: Fields, mode: str) -> None:
    path = write(tmp_path / name, ROWS)
    with pytest.raises(SourceError, match=r"no field 'body'; it has: user, text, at; name one"):
        read_items(path, fields, on_bad_row=mode)  # type: ignore[arg-type]


def test_a_csv_without_header_does_not_print_its_first_row(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("ann@example.org,my secret plan is this and that\n")
    with pytest.raises(SourceError, match=r"2 fields, not shown .* header line") as caught:
        read_items(tmp_path / "m.csv")
    assert "ann" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["m.jsonl", "m.csv"])
def test_undecodable_bytes(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, ROWS)
    path.write_bytes(path.read_bytes().replace("grüße".encode(), "grüße".encode("latin-1")))
    position = path.read_bytes().index(b"\xfc")
    row = "line 3" if name == "m.jsonl" else r"row 3 \(up to line 5\)"  # row 2 has two lines
    with pytest.raises(SourceError, match=f"{row} is not UTF-8 .byte {position} of the file"):
        read_items(path)
    items = read_items(path, on_bad_row="skip")
    assert items.skipped == {"short": 1, "undecodable": 1}
    assert len(items) == 2


def test_undecodable_bytes_in_parquet(tmp_path: Path) -> None:
    texts = pa.array([b"one two three", b"one tw\xff three"], pa.binary())
    broken = pa.Array.from_buffers(pa.string(), 2, texts.buffers())
    pq.write_table(pa.table({"text": broken, "user": ["a", "b"]}), tmp_path / "m.parquet")
    with pytest.raises(SourceError, match=r"row 2 of m\.parquet is not UTF-8"):
        read_items(tmp_path / "m.parquet")
    assert read_items(tmp_path / "m.parquet", on_bad_row="skip").skipped == {"undecodable": 1}


def test_undecodable_csv_header(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes(b"text,us\xe9r\none two three,a\n")
    with pytest.raises(SourceError, match=r"header line is not UTF-8 \(byte 7"):
        read_items(tmp_path / "m.csv", on_bad_row="skip")


GOOD = '{"text": "one two three", "user": "a", "at": 5}'


@pytest.mark.parametrize(
    ("line", "reason", "message"),
    [
        ('{"text": "one two', "malformed", "line 2 is not valid JSON"),
        ("[" * 100_000, "malformed", "line 2 is not valid JSON"),
        ('["one two three"]', "malformed", "line 2 is a JSON list; expected an object"),
        ('{"text": 5, "user": "a", "at": 5}', "not_text", "the text of line 2 is of type int; expected a string"),
        ('{"text": null, "user": "a", "at": 5}', "not_text", "the text of line 2 is null; expected a string"),
        ('{"text": "a b c", "user": " ", "at": 5}', "no_user", "the user of line 2 is empty"),
        ('{"text": "a b c", "user": null, "at": 5}', "no_user", "the user of line 2 is null"),
        ('{"text": "a b c", "user": "a", "at": "noon"}', "undated", "line 2 has no date that can be read"),
        ('{"text": "a b c", "user": "a", "at": null}', "undated", "line 2 has no date that can be read"),
        ('{"user": "a", "at": 5}', "missing", "line 2 has no field 'text'; it has: user, at"),
        (r'{"text": "a b \ud83d c", "user": "a", "at": 5}', "undecodable", "line 2 holds half a surrogate pair"),
    ],
)
def test_bad_json_lines(tmp_path: Path, line: str, reason: str, message: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(f"{GOOD}\n{line}\n\n{GOOD}\n")
    with pytest.raises(SourceError) as caught:
        read_items(path, Fields(time="at"))
    assert message in str(caught.value)
    assert str(caught.value).endswith("or skip bad rows with on_bad_row=skip")
    items = read_items(path, Fields(time="at"), on_bad_row="skip")
    assert items.skipped == {reason: 1}
    assert len(items) == 2


def test_a_json_array_is_read_over_any_lines(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(f"[{GOOD}]")
    assert len(read_items(tmp_path / "m.json")) == 1
    (tmp_path / "m.json").write_text("\n[\n" + GOOD.replace(",", ",\n") + ",\n3]\n")
    with pytest.raises(SourceError, match="element 2 is a JSON int; expected an object"):
        read_items(tmp_path / "m.json")
    assert read_items(tmp_path / "m.json", on_bad_row="skip").skipped == {"malformed": 1}
    (tmp_path / "m.json").write_text(f"[\n{GOOD},\n")
    with pytest.raises(SourceError, match=r"not valid JSON \(line 3, column 1\); expected one array of objects"):
        read_items(tmp_path / "m.json")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("one two three,a,extra", "row 2 (up to line 3) has 3 cells, the header has 2"),
        ("one two three", "row 2 (up to line 3) has 1 cells, the header has 2"),
        ('"one two" three,a', "row 2 (from line 3) is not valid CSV"),
    ],
)
def test_bad_csv_rows(tmp_path: Path, row: str, message: str) -> None:
    path = tmp_path / "m.csv"
    path.write_text(f"text,user\none two three,a\n{row}\n\nfour five six,b\n")
    with pytest.raises(SourceError) as caught:
        read_items(path)
    assert message in str(caught.value)
    items = read_items(path, on_bad_row="skip")
    assert items.skipped == {"malformed": 1}
    assert items.texts == ("one two three", "four five six")


def test_a_csv_quote_that_is_never_closed_cannot_be_skipped(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text('text,user\none two three,a\n"four five,b\nsix seven eight,c\n')
    with pytest.raises(SourceError, match=r"quote opened in line 3 is never closed"):
        read_items(tmp_path / "m.csv", on_bad_row="skip")


@pytest.mark.parametrize("type_", [pa.int64(), pa.list_(pa.string()), pa.binary()])
def test_a_parquet_column_that_holds_no_text(tmp_path: Path, type_: pa.DataType) -> None:
    pq.write_table(pa.table({"text": pa.nulls(2, type_), "user": ["a", "b"]}), tmp_path / "m.parquet")
    with pytest.raises(SourceError, match=r"column 'text' of .* holds .*; expected strings"):
        read_items(tmp_path / "m.parquet", on_bad_row="skip")


@pytest.mark.parametrize("name", ["m.jsonl", "m.csv", "m.jsonl.gz"])
def test_empty_files(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(b"") if name.endswith(".gz") else b"")
    with pytest.raises(SourceError, match=r"no usable rows \(it is empty\)"):
        read_items(tmp_path / name)


def test_no_usable_rows_says_why(tmp_path: Path) -> None:
    path = write(tmp_path / "m.jsonl", ROWS)
    with pytest.raises(SourceError, match=r"no usable rows \(4 short\).*min_words"):
        read_items(path, min_words=50)


def test_files_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError, match=r"does not exist"):
        read_items(tmp_path / "none.jsonl")
    (tmp_path / "m.jsonl.gz").write_bytes(gzip.compress(GOOD.encode() * 1000)[:-20])
    with pytest.raises(SourceError, match=r"not a complete gzip file"):
        read_items(tmp_path / "m.jsonl.gz")
    (tmp_path / "plain.jsonl.gz").write_text(GOOD)
    with pytest.raises(SourceError, match=r"not a complete gzip file"):
        read_items(tmp_path / "plain.jsonl.gz")
    (tmp_path / "m.parquet").write_bytes(b"PAR1 and nothing else PAR1")
    with pytest.raises(SourceError, match=r"not a complete Parquet file"):
        read_items(tmp_path / "m.parquet")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = write(tmp_path / "m.jsonl", ROWS)
    monkeypatch.setattr(Path, "open", refuse)  # mode bits do not stop root
    with pytest.raises(SourceError, match=r"not readable .permission denied"):
        read_items(path)


def test_unknown_formats_and_settings(tmp_path: Path) -> None:
    path = write(tmp_path / "m.jsonl", ROWS)
    (tmp_path / "notes.txt").write_text("dear diary")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match=r"suffix \.txt: unknown format; expected one of jsonl, csv"):
        read_items(tmp_path / "notes.txt")
    with pytest.raises(SourceError, match=r"a folder without mailboxes or data files: unknown format"):
        read_items(tmp_path / "empty")
    with pytest.raises(SourceError, match=r"format is 'excel'; expected auto or one of jsonl"):
        read_items(path, format="excel")  # type: ignore[arg-type]
    with pytest.raises(SourceError, match=r"is a file; format maildir expects a folder"):
        read_items(path, format="maildir")
    with pytest.raises(SourceError, match=r"on_bad_row is 'ignore'; expected one of error, skip"):
        read_items(path, on_bad_row="ignore")  # type: ignore[arg-type]
    with pytest.raises(SourceError, match=r"min_words=5, max_words=4"):
        read_items(path, min_words=5, max_words=4)


def test_format_overrides_the_suffix(tmp_path: Path) -> None:
    path = write(tmp_path / "m.jsonl", ROWS).rename(tmp_path / "export.txt")
    assert len(read_items(path, format="jsonl")) == 3
    assert len(read_items(write(tmp_path / "m.parquet", ROWS).rename(tmp_path / "x"))) == 3  # by its first bytes


def test_words_and_times() -> None:
    assert count_words(" one  two\nthree ") == 3
    assert count_words("grüße an alle") == 3
    assert count_words("今日は hello") == 4
    noon = 1714564800.0
    for date in (noon, int(noon), "2024-05-01T12:00:00Z", "2024-05-01 14:00:00+02:00", "2024-05-01T12:00:00"):
        assert seconds(date) == noon
    assert seconds("Wed, 1 May 2024 14:00:00 +0200") == noon
    assert seconds(datetime(2024, 5, 1, 12, tzinfo=UTC)) == noon
    junk: object
    for junk in (None, True, float("nan"), "", "soon", [], "Wed, 99 Foo 2024"):
        assert seconds(junk) is None


def test_items_need_one_user_for_each_text() -> None:
    with pytest.raises(ValueError, match=r"1 texts but 2 users"):
        Items(texts=("a",), users=("a", "b"), skipped={})


@pytest.mark.parametrize("name", ["m.jsonl", "m.csv", "m.parquet"])
def test_only_some_rows(tmp_path: Path, name: str) -> None:
    kinds = ["emoji", "image", "query", "emoji"]
    path = write(tmp_path / name, [{"text": f"a prompt {i}", "user": "a", "kind": k} for i, k in enumerate(kinds)])
    items = read_items(path, Fields(only={"kind": ["emoji", "image"]}))
    assert items.texts == ("a prompt 0", "a prompt 1", "a prompt 3") and items.skipped == {"other": 1}
    with pytest.raises(SourceError, match="no field 'sort'"):
        read_items(path, Fields(only={"sort": ["emoji"]}))


def test_only_takes_lists_and_tables(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"fields\.only\.kind is 'emoji'; expected a list"):
        Fields(only={"kind": "emoji"})
    (tmp_path / "m.mbox").write_text("From a\n\nhello\n")
    with pytest.raises(SourceError, match=r"fields\.only is set, but .* is of format mbox"):
        read_items(tmp_path / "m.mbox", Fields(only={"kind": ["emoji"]}))
