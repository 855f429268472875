"""Vectors that were computed once: a content-addressed cache around any encoder, in one SQLite file.

    encoder = CachedEncoder(SentenceTransformerEncoder(), Path("cache/candidates.sqlite"))
    secret = load_or_create_secret(Path("cache/devices.secret"))
    private = CachedEncoder(SentenceTransformerEncoder(), Path("cache/devices.sqlite"), secret)

The file holds digests and vectors, never a text. But whoever has it could digest a guess and look it up, or encode a
guess and look for its vector. With a `secret` both fail: texts are digested with BLAKE2b keyed by the secret, and
vectors are encrypted with AES-256-GCM under a key derived from it. What remains visible is how many texts there are.
Secret and cache together give everything away: keep the secret out of backups and shared folders.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from embed.encoder import Encoder, EncoderError, Progress

_SECRET_BYTES = 32
_NONCE_BYTES = 12  # the length that NIST SP 800-38D recommends for GCM
_SLICE = 512  # texts that a killed run can lose
_LOOKUP = 500  # SQLite allows 999 parameters a statement in its oldest supported versions
_BUSY_SECONDS = 60.0
_APPLICATION_ID = 0x53504543  # "SPEC": marks the file as this cache, layout 1
# WAL last: until then every statement that succeeded is in the file itself. What is in a WAL gets there when the
# database is closed, and if the disk is full that fails without an error.
_SCHEMA = f"""
    PRAGMA application_id = {_APPLICATION_ID};
    CREATE TABLE vectors (encoder BLOB, text BLOB, vector BLOB NOT NULL, PRIMARY KEY (encoder, text));
    PRAGMA journal_mode = WAL;
"""


@dataclass(frozen=True)
class CachedEncoder:
    """An encoder with the name, the dimension and, bit for bit, the vectors of `inner`, which sees each text only once.

    Any number of processes may share `path`. Misses are committed in slices, so a killed run keeps its work. A file
    that is damaged or changed gives an error, never a wrong vector: every entry is authenticated. It has mode 0600.

    Raises ValueError if `secret` is not 32 bytes long.
    """

    inner: Encoder
    path: Path
    secret: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.secret is not None and len(self.secret) != _SECRET_BYTES:
            raise ValueError(
                f"secret has {len(self.secret)} bytes; expected {_SECRET_BYTES}, see load_or_create_secret"
            )

    @property
    def name(self) -> str:
        """The inner encoder's name: caching changes no vector."""
        return self.inner.name

    @property
    def dimension(self) -> int:
        """The inner encoder's dimension."""
        return self.inner.dimension

    def check(self) -> None:
        """Raise EncoderError if the inner encoder cannot be used, or the cache file cannot be written."""
        self.inner.check()
        with closing(self._open()) as database, self._explained():
            # A real write: under WAL, SQLite lets a transaction begin on a file that it may not write.
            database.execute("INSERT INTO vectors VALUES (x'', x'', x'')")
            database.rollback()

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """float32[len(texts), dimension] with unit rows. `progress` counts texts that were found, and then the rest.

        Raises EncoderError if the file is damaged or cannot be written.
        """
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        if len(texts) == 0:
            return vectors
        rows: dict[bytes, list[int]] = {}
        for i, text in enumerate(texts):
            rows.setdefault(self._digest(text), []).append(i)
        with closing(self._open()) as database:
            found = self._read(database, list(rows), rows, vectors)
            missing = [digest for digest in rows if digest not in found]
            done = len(texts) - len(missing)
            if progress is not None:
                progress(done, len(texts))
            # Texts of like length together: encoders pad less, and a row does not depend on its neighbours.
            missing.sort(key=lambda digest: len(texts[rows[digest][0]]))
            for start in range(0, len(missing), _SLICE):
                digests = missing[start : start + _SLICE]
                report = None if progress is None else _shifted(progress, done + start, len(texts))
                new = self.inner.encode([texts[rows[digest][0]] for digest in digests], report)
                for digest, vector in zip(digests, new, strict=True):
                    vectors[rows[digest]] = vector
                self._write(database, digests, new)
        return vectors

    def _read(
        self,
        database: sqlite3.Connection,
        digests: list[bytes],
        rows: dict[bytes, list[int]],
        vectors: NDArray[np.float32],
    ) -> set[bytes]:
        """Fill `vectors` with what the file has, and say which digests that was."""
        found = set()
        encoder, box = self._encoder_key, self._box
        for start in range(0, len(digests), _LOOKUP):
            wanted = digests[start : start + _LOOKUP]
            marks = ",".join("?" * len(wanted))
            query = f"SELECT text, vector FROM vectors WHERE encoder = ? AND text IN ({marks})"
            with self._explained():
                entries = database.execute(query, [encoder, *wanted]).fetchall()
            for digest, sealed in entries:
                try:
                    plain = box.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], encoder + digest)
                except (InvalidTag, ValueError, TypeError):  # changed; too short; not even bytes
                    raise self._damaged("an entry does not match its checksum") from None
                if len(plain) != 4 * self.dimension:
                    raise self._damaged(f"an entry has {len(plain)} bytes, expected {4 * self.dimension}")
                vectors[rows[digest]] = np.frombuffer(plain, dtype="<f4")
                found.add(digest)
        return found

    def _write(self, database: sqlite3.Connection, digests: list[bytes], vectors: NDArray[np.float32]) -> None:
        encoder, box = self._encoder_key, self._box
        entries = []
        for digest, vector in zip(digests, vectors, strict=True):
            nonce = os.urandom(_NONCE_BYTES)
            sealed = nonce + box.encrypt(nonce, vector.astype("<f4").tobytes(), encoder + digest)
            entries.append((encoder, digest, sealed))
        with self._explained(), database:  # one transaction
            # Another process may have written the same texts meanwhile, with the same vectors.
            database.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?, ?)", entries)

    def _open(self) -> sqlite3.Connection:
        """A connection for one call, so that an encoder can be pickled and forked."""
        with self._explained():
            if not self.path.exists():
                _create(self.path)
            database = sqlite3.connect(self.path, timeout=_BUSY_SECONDS)
            try:
                (identity,) = database.execute("PRAGMA application_id").fetchone()
                if identity != _APPLICATION_ID:
                    raise self._damaged("it is not an embedding cache of this version")
                # Safe under WAL: a power failure can lose the last slices, but cannot damage the file.
                database.execute("PRAGMA synchronous = NORMAL")
            except BaseException:
                database.close()
                raise
            return database

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns errors of SQLite and of the file system into EncoderError."""
        try:
            yield
        except (OSError, sqlite3.OperationalError) as error:
            raise EncoderError(
                f"the embedding cache {self.path} cannot be read or written ({error}); check its permissions and free "
                f"space, or choose another path"
            ) from None
        except sqlite3.DatabaseError as error:
            raise self._damaged(str(error)) from None

    def _damaged(self, how: str) -> EncoderError:
        # A -wal file that stays behind would be played into the new file.
        return EncoderError(
            f"the embedding cache {self.path} is damaged ({how}); delete it, with {self.path.name}-wal and "
            f"{self.path.name}-shm if there are any, and it will be filled again"
        )

    def _digest(self, text: str) -> bytes:
        # surrogatepass: text from broken mail may hold lone surrogates, and must still get a digest of its own.
        return hashlib.blake2b(
            text.encode("utf-8", "surrogatepass"), digest_size=32, key=self.secret or b"", person=b"synthpoll-text"
        ).digest()

    @property
    def _encoder_key(self) -> bytes:
        return hashlib.blake2b(self.name.encode(), digest_size=32, person=b"synthpoll-model").digest()

    @property
    def _box(self) -> AESGCM:
        """Encrypts and authenticates vectors. Without a secret the key is public: a checksum, no more."""
        return AESGCM(hashlib.blake2b(digest_size=32, key=self.secret or b"", person=b"synthpoll-vector").digest())


def _shifted(progress: Progress, before: int, total: int) -> Progress:
    """Progress of a slice, told as progress of the whole."""
    return lambda done, _: progress(before + done, total)


def load_or_create_secret(path: Path) -> bytes:
    """32 random bytes kept at `path` (mode 0600): made on the first call, the same ever after, in every process.

    Raises EncoderError if the file cannot be made or read, has another length, or others may read it.
    """
    try:
        if not path.exists():
            with _published(path) as scratch:
                scratch.write_bytes(os.urandom(_SECRET_BYTES))
        secret, mode = path.read_bytes(), path.stat().st_mode & 0o777
    except OSError as error:
        raise EncoderError(
            f"the secret {path} cannot be made or read ({error}); check its permissions and free space, or choose "
            "another path"
        ) from None
    if len(secret) != _SECRET_BYTES:
        raise EncoderError(
            f"the secret {path} has {len(secret)} bytes, expected {_SECRET_BYTES}; delete it and its caches"
        )
    if mode & 0o077:
        raise EncoderError(f"the secret {path} has mode {mode:04o}, so others may read it; run: chmod 600 {path}")
    return secret


def _create(path: Path) -> None:
    """An empty cache, complete before it appears: no process ever sees a file without its table."""
    with _published(path) as scratch, closing(sqlite3.connect(scratch)) as database:
        database.executescript(_SCHEMA)


@contextmanager
def _published(path: Path) -> Iterator[Path]:
    """A scratch file (mode 0600) that becomes `path` at the end, unless another process made `path` meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    os.close(handle)
    scratch = Path(name)
    try:
        yield scratch
        # A hard link, because a rename would replace what another process has just published.
        with suppress(FileExistsError):
            os.link(scratch, path)
    finally:
        scratch.unlink()
