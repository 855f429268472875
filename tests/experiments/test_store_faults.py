"""A disk that is full or read-only, and files that were damaged: one line, exit status 2, and nothing is lost.

The commands are real, in children of fault_children.py; the disks are small tmpfs where the user may mount them, and
everywhere errors that the system calls give from a certain step on.
"""

from __future__ import annotations

import errno
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.experiments.fault_driver import Driver, Outcome, in_namespace, shared_driver, small_generation, small_job


@dataclass(frozen=True)
class Whole:
    """An uninterrupted run and an uninterrupted generation, and where to put others like them."""

    driver: Driver
    place: Path
    run: Outcome
    run_contents: dict[str, str]
    generation: Outcome
    generated_contents: dict[str, str]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    driver, place = shared_driver(), tmp_path_factory.mktemp("faults")
    run = driver.run(*small_job(place, "run", "run-cache"))
    generation = driver.run(*small_generation(place, "generated", 4, "generated-cache"))
    assert (run.code, generation.code) == (0, 0), run.error + generation.error
    yield Whole(
        driver, place, run, driver.contents(place / "run"), generation, driver.contents(place / "generated")
    )  # fmt: skip


@pytest.fixture
def disk(whole: Whole, tmp_path: Path) -> Path:
    """A place where a small disk can be mounted."""
    if not whole.driver.mounts:
        pytest.skip("this user may not mount a tmpfs in a namespace of its own (unshare --mount)")
    return tmp_path


def said(outcome: Outcome) -> str:
    """The one line of a command that was refused."""
    assert outcome.code == 2, (outcome.code, outcome.error)
    assert outcome.error.count("\n") == 1 and outcome.error.startswith("synthpoll: "), outcome.error
    return outcome.error


# A full disk


@pytest.mark.parametrize(
    ("number", "stride"),
    [
        pytest.param(errno.ENOSPC, 11, id="full"),
        pytest.param(errno.ENOSPC, 1, id="full-every-step", marks=pytest.mark.soak),
        pytest.param(errno.EROFS, 11, id="read-only"),
    ],
)
def test_a_generation_refused_at_every_step(whole: Whole, number: int, stride: int) -> None:
    """From a step on the disk refuses: one line; then it does not, and the texts are the same."""
    for step in range(0, len(whole.generation.steps), stride):
        name = f"generation-{number}-{step}"
        arguments = small_generation(whole.place, name, 4, f"{name}-cache")
        error = said(whole.driver.run(*arguments, fail=[step, number]))
        assert re.search("No space left on device|Read-only file system|database or disk is full", error)
        if step % 11 == 0:
            again = whole.driver.run(*arguments)
            assert again.code == 0, again.error
            assert whole.driver.contents(whole.place / name) == whole.generated_contents


def test_a_run_on_a_disk_that_fills_up_at_ever_later_steps(whole: Whole) -> None:
    """One run that is refused again and again, a little later each time, keeps what it had and ends the same."""
    arguments = small_job(whole.place, "refused", "refused-cache")
    before: dict[str, str] = {}
    for step in range(0, len(whole.run.steps), 23):
        outcome = whole.driver.run(*arguments, fail=[step, errno.ENOSPC])
        if outcome.code == 0:  # it had fewer steps left
            break
        said(outcome)
        now = whole.driver.contents(whole.place / "refused") if (whole.place / "refused").exists() else {}
        assert not [name for name in now if ".writing-" in name]
        rounds = {name: digest for name, digest in before.items() if re.match(r"rounds/\d+/|config|run\.json", name)}
        assert rounds.items() <= now.items()
        before = now
    assert whole.driver.run(*arguments).code == 0
    assert whole.driver.contents(whole.place / "refused") == whole.run_contents


@pytest.mark.parametrize("largest", [0, 60_000])
def test_files_that_may_not_grow(whole: Whole, largest: int) -> None:
    """The kernel's own limit, which databases and the log meet too."""
    arguments = small_job(whole.place, f"limited-{largest}", f"limited-{largest}-cache")
    said(whole.driver.run(*arguments, largest=largest))
    assert whole.driver.run(*arguments).code == 0
    assert whole.driver.contents(whole.place / f"limited-{largest}") == whole.run_contents


def test_a_small_disk_that_is_full_again_and_again(whole: Whole, disk: Path) -> None:
    """A real one, which holds the run, its log and its caches; after each refusal it grows a little."""
    whole.driver.mount("-t", "tmpfs", "-o", "size=64k", "none", str(disk))
    arguments = small_job(whole.place, str(disk / "run"), str(disk / "cache"))
    refusals = set()
    for size in (64, 128, 256, 512, 1024, 2048):
        whole.driver.mount("-o", f"remount,size={size}k", str(disk))
        outcome = whole.driver.run(*arguments)
        if outcome.code == 0:
            break
        refusals.add(re.sub(r".*(cache|run/|log).*", r"\1", said(outcome).strip()))
    assert outcome.code == 0, outcome.error
    assert len(refusals) >= 2  # the caches and the run folder met the end of the disk
    assert whole.driver.contents(disk / "run") == whole.run_contents


FILL_UP = """
import subprocess, sys
from pathlib import Path
from embed.cache import CachedEncoder
from embed.encoder import EncoderError
from embed.hashed import HashedFakeEncoder

place, texts = Path(sys.argv[1]), [f"text {i}" for i in range(600)]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(place)], check=True)
for free in range(0, 640, 16):
    for file in place.iterdir():
        file.unlink()
    (place / "others").write_bytes(bytes((2048 - free) * 1024))
    cached, answer = CachedEncoder(HashedFakeEncoder(16), place / "vectors.sqlite"), "written"
    try:
        cached.encode(texts)
    except EncoderError as error:
        answer = str(error)
    (place / "others").unlink()
    cached.encode(texts)
    print(answer)
"""


def test_an_embedding_cache_survives_a_full_disk_at_any_size(disk: Path) -> None:
    """Also while it is made: a file that appears is complete (closing a database can fail without an error)."""
    done = in_namespace(sys.executable, "-c", FILL_UP, str(disk))
    assert done.returncode == 0, done.stderr
    answers = done.stdout.splitlines()
    assert len(answers) == 40 and answers[-1] == "written"
    full = [answer for answer in answers if re.search(r"cannot be read or written \(.*(No space|full|I/O)", answer)]
    assert len(full) == answers.index("written") >= 10


# A read-only disk


def test_a_read_only_disk(whole: Whole, disk: Path) -> None:
    whole.driver.mount("-t", "tmpfs", "none", str(disk))
    arguments = small_job(whole.place, str(disk / "run"), str(disk / "cache"))
    assert whole.driver.run(*arguments, kill=["rename rounds/000/round.json"]).code == -9
    before = whole.driver.contents(disk)
    whole.driver.mount("-o", "remount,ro", str(disk))
    assert re.search(
        rf"cannot write to the run folder {disk}/run \(Read-only file system\); .*out=DIR",
        said(whole.driver.run(*arguments)),
    )
    assert re.search(
        rf"cannot write to the run folder {disk}/other \(Read-only file system\)",
        said(whole.driver.run(*small_job(whole.place, str(disk / "other"), "other-cache"))),
    )
    # The folder can be written, its caches cannot: what is in them would do, but not all is.
    error = said(whole.driver.run(*small_job(whole.place, "outside", str(disk / "cache"))))
    assert re.search(rf"cannot be kept in {disk}/cache|{disk}/cache/embeddings/\S+ cannot be", error)
    assert whole.driver.contents(disk) == before
    whole.driver.mount("-o", "remount,rw", str(disk))
    for name in (str(disk / "run"), "outside"):
        ended = whole.driver.run(*small_job(whole.place, name, str(disk / "cache")))
        assert ended.code == 0, ended.error
        assert whole.driver.contents(whole.place / name) == whole.run_contents


def test_a_log_that_cannot_be_written(whole: Whole) -> None:
    (whole.place / "nolog.log").mkdir()
    error = said(whole.driver.run(*small_job(whole.place, "nolog", "run-cache")))
    assert f"cannot write the log {whole.place}/nolog.log (Is a directory)" in error


# Damaged files


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    path.write_bytes({"empty": b"", "half": content[: len(content) // 2], "garbage": b"\x93" * len(content)}[how])


def follow(error: str) -> None:
    """Do what the message says."""
    told = re.search(
        r"^synthpoll: (\S+) cannot be read \(.*\); delete (?:the folder (\S+)|it), then give the run's", error
    )
    assert told is not None, error
    if told[2]:
        shutil.rmtree(told[2])
    else:
        Path(told[1]).unlink()


@pytest.mark.parametrize(
    "damaged",
    [
        # Round 1 goes, and with it what round 0 wrote for it: round 0 is played again.
        [("rounds/001/corpus.parquet", "half")],
        [
            ("config.yaml", "empty"),
            ("run.json", "garbage"),
            ("rounds/001/tally.npz", "garbage"),
            ("rounds/002/corpus.parquet", "empty"),
            ("rounds/001/round.json", "empty"),
            ("seed_corpus.json", "half"),
            ("rounds/000/next_weights.npy", "half"),
        ],
    ],
    ids=["one", "many"],
)
def test_a_run_with_damaged_files_says_what_to_do_and_then_ends_the_same(
    whole: Whole, damaged: list[tuple[str, str]]
) -> None:
    name = f"damaged-{len(damaged)}"
    folder = Path(shutil.copytree(whole.place / "run", whole.place / name))
    for file, how in damaged:
        damage(folder / file, how)
    arguments = small_job(whole.place, name, "run-cache")
    named = []
    while (outcome := whole.driver.run(*arguments)).code != 0:
        error = said(outcome)
        named += [file for file, _ in damaged if f"{folder / file} cannot be read (damaged: " in error]
        assert len(named) <= len(damaged), named
        follow(error)
    assert named[0] == damaged[0][0]
    assert whole.driver.contents(folder) == whole.run_contents


@pytest.mark.parametrize("how", ["empty", "half", "garbage"])
def test_a_damaged_chunk_of_texts_is_written_again_the_same(whole: Whole, how: str) -> None:
    """The cache is no part of a run: what cannot be read in it counts as never written."""
    cache = whole.place / f"chunks-{how}"
    shutil.copytree(whole.place / "generated-cache", cache)
    chunks = {path: path.read_bytes() for path in (cache / "generation").iterdir()}
    for path in chunks:
        damage(path, how)
    outcome = whole.driver.run(*small_generation(whole.place, f"out-{how}", 4, cache.name))
    assert outcome.code == 0, outcome.error
    assert outcome.count("a chunk is written") == len(chunks)
    assert {path: path.read_bytes() for path in chunks} == chunks
    assert whole.driver.contents(whole.place / f"out-{how}") == whole.generated_contents


def test_a_damaged_embedding_cache_is_named_and_filled_again(whole: Whole) -> None:
    arguments = small_generation(whole.place, "database", 4, "database-cache")
    assert whole.driver.run(*arguments).code == 0
    cache = whole.place / "database-cache" / "embeddings" / "synthetic.sqlite"
    damage(cache, "garbage")
    error = said(whole.driver.run(*arguments))
    assert f"{cache} is damaged" in error
    assert "delete it, with synthetic.sqlite-wal and synthetic.sqlite-shm if there are any" in error
    cache.unlink()
    ended = whole.driver.run(*arguments)
    assert ended.code == 0, ended.error
    assert whole.driver.contents(whole.place / "database") == whole.generated_contents


# Another configuration, and another folder


def test_another_configuration_is_refused_by_the_command(whole: Whole) -> None:
    more = ("epsilon=2", "arms=[no_privacy]")
    error = said(whole.driver.run(*small_job(whole.place, "run", "run-cache"), *more))
    assert "epsilon: 4.0 -> 2; " in error and "arms: [] -> [no_privacy]" in error
    assert error.endswith("; choose another with out=DIR\n")
    error = said(whole.driver.run(*small_generation(whole.place, "generated", 5, "generated-cache")))
    assert "holds a run with another configuration (n: 4 -> 5)" in error
    assert whole.driver.contents(whole.place / "run") == whole.run_contents
    assert whole.driver.contents(whole.place / "generated") == whole.generated_contents
