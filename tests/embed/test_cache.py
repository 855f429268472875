import multiprocessing
import os
import sqlite3
import stat
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from embed.cache import CachedEncoder, load_or_create_secret
from embed.encoder import EncoderError, Progress
from embed.hashed import HashedFakeEncoder
from tests.embed.texts import Steps, emails

SECRET = bytes(range(32))


@dataclass(frozen=True)
class Spy:
    """A fake that remembers what it was asked to encode, and fails when it was called `dies_after` times."""

    name: str = "spy"
    dies_after: int = 1_000_000
    calls: list[list[str]] = field(default_factory=list)
    dimension: int = 16

    def check(self) -> None: ...

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        if len(self.calls) == self.dies_after:
            raise KeyboardInterrupt
        self.calls.append(list(texts))
        return HashedFakeEncoder(self.dimension).encode(texts, progress)

    @property
    def encoded(self) -> list[str]:
        return [text for call in self.calls for text in call]


def entries(path: Path) -> list[tuple[bytes, bytes, bytes]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT encoder, text, vector FROM vectors").fetchall()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "vectors.sqlite"


@pytest.mark.parametrize("secret", [None, SECRET], ids=["plain", "secret"])
def test_gives_the_bits_of_the_inner_encoder_cold_and_warm(path: Path, secret: bytes | None) -> None:
    texts = emails(1300)
    plain = HashedFakeEncoder(16).encode(texts)
    for inner in (Spy(), Spy(dies_after=0)):  # the second may not be called at all
        cached = CachedEncoder(inner, path, secret)
        np.testing.assert_array_equal(cached.encode(texts), plain)


def test_each_text_is_encoded_once(path: Path) -> None:
    spy = Spy()
    cached = CachedEncoder(spy, path)
    vectors = cached.encode(["b", "a", "b", "b", "c"])
    assert sorted(spy.encoded) == ["a", "b", "c"]
    np.testing.assert_array_equal(vectors[0], vectors[3])
    cached.encode(["d", "a", "c"])
    assert sorted(spy.encoded) == ["a", "b", "c", "d"]


def test_encoders_and_secrets_do_not_share_entries(path: Path) -> None:
    for name in ("one", "two"):
        for secret in (None, SECRET, bytes(32)):
            spy = Spy(name=name)
            CachedEncoder(spy, path, secret).encode(["a"])
            assert spy.encoded == ["a"]
    assert len(entries(path)) == 6


def test_a_killed_run_keeps_its_work(path: Path) -> None:
    texts = emails(1200)
    killed, resumed = Spy(dies_after=2), Spy()
    with pytest.raises(KeyboardInterrupt):
        CachedEncoder(killed, path).encode(texts)
    np.testing.assert_array_equal(
        CachedEncoder(resumed, path).encode(texts), CachedEncoder(Spy(), path.with_name("other")).encode(texts)
    )
    assert len(killed.encoded) == 1024
    assert sorted(killed.encoded + resumed.encoded) == sorted(texts)


def test_progress_counts_hits_first_and_duplicates_too(path: Path) -> None:
    cached = CachedEncoder(Spy(), path)
    cached.encode(["a", "b"])
    steps = Steps()
    cached.encode(["a", "c", "b", "c", *emails(600)], steps)
    steps.check(604)
    assert steps.seen[0] == (3, 604)  # a, b and the second c
    warm = Steps()
    cached.encode(["a", "b"], warm)
    assert warm.seen == [(2, 2)]


@pytest.mark.parametrize("secret", [None, SECRET], ids=["plain", "secret"])
def test_the_file_holds_no_text(path: Path, secret: bytes | None) -> None:
    CachedEncoder(Spy(), path, secret).encode(["meet me at the harbour"])
    content = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert b"harbour" not in content


def test_a_guess_cannot_be_confirmed_without_the_secret(path: Path) -> None:
    guess = "meet me at the harbour"
    vector = HashedFakeEncoder(16).encode([guess])[0].tobytes()
    for secret, seen in ((SECRET, False), (None, None)):
        file = path.with_name(f"{secret is None}.sqlite")
        CachedEncoder(Spy(), file, secret).encode([guess])
        ((_, digest, sealed),) = entries(file)
        assert vector not in sealed
        # Who has the file but not the secret tries all that can be computed: it hits only where there is no secret.
        spy = Spy()
        CachedEncoder(spy, file).encode([guess])
        assert spy.encoded == ([guess] if seen is False else [])
        assert digest != b""
    assert SECRET.hex() not in repr(CachedEncoder(Spy(), path, SECRET))
    assert repr(SECRET) not in repr(CachedEncoder(Spy(), path, SECRET))


def test_only_the_owner_may_read(path: Path) -> None:
    cached = CachedEncoder(Spy(), path)
    cached.encode(["a"])
    with closing(sqlite3.connect(path)) as database:
        database.execute("SELECT * FROM vectors")  # an open connection keeps the side files of WAL alive
        cached.encode(["b"])
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert path.name + "-wal" in modes
    assert set(modes.values()) == {0o600}
    assert [file.name for file in path.parent.iterdir()] == [path.name]  # no scratch file stays


# Damage


def tamper(path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(statement, values)


@pytest.mark.parametrize("secret", [None, SECRET], ids=["plain", "secret"])
@pytest.mark.parametrize(
    "change",
    [
        lambda blob: blob[:-1],
        lambda blob: blob + b"\0",
        lambda blob: b"",
        lambda blob: blob[:20] + bytes([blob[20] ^ 1]) + blob[21:],
        lambda blob: 7,
        lambda blob: "text",
    ],
    ids=["short", "long", "empty", "one bit", "number", "string"],
)
def test_a_changed_entry_is_an_error(path: Path, secret: bytes | None, change: object) -> None:
    cached = CachedEncoder(Spy(), path, secret)
    cached.encode(["harbour"])
    ((_, _, blob),) = entries(path)
    assert callable(change)
    tamper(path, "UPDATE vectors SET vector = ?", change(blob))
    with pytest.raises(EncoderError, match=r"vectors\.sqlite is damaged .*delete it") as caught:
        cached.encode(["harbour"])
    assert "harbour" not in str(caught.value)


def test_exchanged_entries_are_an_error(path: Path) -> None:
    cached = CachedEncoder(Spy(), path)
    cached.encode(["a", "b"])
    (_, a, blob_a), (_, b, blob_b) = entries(path)
    tamper(path, "UPDATE vectors SET vector = ? WHERE text = ?", blob_a, b)
    tamper(path, "UPDATE vectors SET vector = ? WHERE text = ?", blob_b, a)
    with pytest.raises(EncoderError, match="checksum"):
        cached.encode(["a"])


def test_another_dimension_is_an_error(path: Path) -> None:
    CachedEncoder(Spy(dimension=16), path).encode(["a"])
    with pytest.raises(EncoderError, match="64 bytes, expected 32"):
        CachedEncoder(Spy(dimension=8), path).encode(["a"])


@pytest.mark.parametrize("content", [b"", b"this is no database at all" * 200], ids=["empty", "text"])
def test_a_file_that_is_no_cache_is_an_error(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    for use in (CachedEncoder(Spy(), path).check, lambda: CachedEncoder(Spy(), path).encode(["a"])):
        with pytest.raises(EncoderError, match=r"vectors\.sqlite is damaged .*delete it"):
            use()
    assert path.read_bytes() == content


def test_overwritten_pages_are_an_error(path: Path) -> None:
    cached = CachedEncoder(Spy(), path)
    texts = emails(500)
    cached.encode(texts)
    content = bytearray(path.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)  # the first page says that it is ours
    path.write_bytes(content)
    with pytest.raises(EncoderError, match=r"vectors\.sqlite is damaged .*delete it"):
        cached.encode(texts)


def test_another_database_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE letters (a)")
    with pytest.raises(EncoderError, match="not an embedding cache"):
        CachedEncoder(Spy(), path).encode(["a"])


def test_no_place_to_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "cache.sqlite", tmp_path):
        with pytest.raises(EncoderError, match="cannot be read or written"):
            CachedEncoder(Spy(), path).check()
        with pytest.raises(EncoderError, match="cannot be read or written"):
            CachedEncoder(Spy(), path).encode(["a"])


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_no_permission_to_write(path: Path) -> None:
    cached = CachedEncoder(Spy(), path)
    cached.encode(["known"])
    path.chmod(0o400)
    cached.encode(["known"])  # reading is enough for this
    with pytest.raises(EncoderError, match="cannot be read or written"):
        cached.check()
    with pytest.raises(EncoderError, match="cannot be read or written"):
        cached.encode(["a"])


def test_an_error_of_the_inner_encoder_is_not_blamed_on_the_cache(path: Path) -> None:
    class Broken(Spy):
        def encode(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
            raise OSError("weights vanished")

    with pytest.raises(OSError, match="weights vanished"):
        CachedEncoder(Broken(), path).encode(["a"])


def test_check_checks_the_inner_encoder_and_makes_the_file(path: Path) -> None:
    class Missing(Spy):
        def check(self) -> None:
            raise EncoderError("no weights")

    with pytest.raises(EncoderError, match="no weights"):
        CachedEncoder(Missing(), path).check()
    CachedEncoder(Spy(), path).check()
    assert entries(path) == []


def test_texts_of_broken_mail_have_digests_of_their_own(path: Path) -> None:
    cached = CachedEncoder(Spy(), path)
    cached.encode(["\ud800", "\ud801", "\ufffd"])
    assert len(entries(path)) == 3


# Secrets


def test_secret_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "new" / "secret"
    secret = load_or_create_secret(path)
    assert len(secret) == 32
    assert load_or_create_secret(path) == secret
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["secret"]
    assert load_or_create_secret(tmp_path / "other") != secret


def test_bad_secrets(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"short")
    with pytest.raises(EncoderError, match="5 bytes"):
        load_or_create_secret(path)
    path.write_bytes(SECRET)
    path.chmod(0o644)
    with pytest.raises(EncoderError, match=r"0644.*chmod 600"):
        load_or_create_secret(path)
    with pytest.raises(EncoderError, match="cannot be made or read"):
        load_or_create_secret(path / "below a file")
    with pytest.raises(ValueError, match="secret has 3 bytes"):
        CachedEncoder(Spy(), path, b"abc")


# Several processes


def _work(folder: Path, worker: int, start: Barrier) -> None:
    start.wait()
    secret = load_or_create_secret(folder / "secret")
    (folder / f"secret-{worker}").write_bytes(secret)
    texts = emails(700) + emails(300, seed=worker + 1, most=3)
    vectors = CachedEncoder(HashedFakeEncoder(16), folder / "vectors.sqlite", secret).encode(texts)
    np.testing.assert_array_equal(vectors, HashedFakeEncoder(16).encode(texts))


def test_three_processes_make_and_fill_one_cache(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(3)
    workers = [context.Process(target=_work, args=(tmp_path, i, start)) for i in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert len({(tmp_path / f"secret-{i}").read_bytes() for i in range(3)}) == 1
    everything = emails(700) + [text for i in range(3) for text in emails(300, seed=i + 1, most=3)]
    assert len(entries(tmp_path / "vectors.sqlite")) == len(set(everything))
    # What the three left behind is complete and right.
    spy = Spy(name=HashedFakeEncoder(16).name)
    cached = CachedEncoder(spy, tmp_path / "vectors.sqlite", load_or_create_secret(tmp_path / "secret"))
    np.testing.assert_array_equal(cached.encode(everything), HashedFakeEncoder(16).encode(everything))
    assert spy.encoded == []
