"""Attack: from all that a run may release, compute its noise and take it off.

The attacker has every file that is not under oracle/, knows all that devices hold (the strongest attacker there is),
and plays the polls again with every secret that the files could name. If a tally comes out, its noise is known.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from rich.console import Console

import experiments.noise
from experiments.folder.layout import CONFIG, NOISE_KEY, Round
from experiments.folder.store import RunFolder, StoreError
from experiments.refine.refinement import Refinement
from experiments.setting import Setting
from experiments.stages import Timings
from privacy.mechanism import Tally
from privacy.randomness import NoiseSource
from tests.experiments.use_case_files import play, write_files

QUICK = ("rounds=1", "evaluation.sample=20", "candidates=20", "devices.devices=400")


def published(folder: Path) -> dict[str, bytes]:
    """What a careless owner of the run hands on: all but oracle/."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in files
        if "oracle" not in path.relative_to(folder).parts
    }


def secrets_in(files: dict[str, bytes], deep: bool = True) -> Iterator[NoiseSource]:
    """Every secret that the files could name: numbers as seeds, words and whole files hashed, hex of the right size."""
    numbers: set[int] = set()
    words: set[bytes] = set()
    for content in files.values():
        text = content.decode("utf-8", "ignore")
        numbers |= {int(found) for found in re.findall(r"\b\d{1,15}\b", text)}
        words |= {found.encode() for found in re.findall(r"[A-Za-z0-9_.:/-]{3,80}", text)}
        words.add(content)
    for number in sorted(numbers)[:400]:
        yield NoiseSource.seeded(number)
    for word in sorted(words, key=len)[: 20_000 if deep else 0]:
        yield NoiseSource(hashlib.sha256(word).digest(), simulated=True)
        if re.fullmatch(rb"[0-9a-f]{64}", word):
            yield NoiseSource(bytes.fromhex(word.decode()), simulated=True)


def first_tally(folder: Path, noise: NoiseSource, tmp_path: Path) -> np.ndarray:
    """The tally of round 0, played again over the run's devices with this noise."""
    return Attacker(folder, tmp_path).tally(noise)


class Attacker:
    """Knows the devices and the slate of round 0; is after the noise."""

    def __init__(self, folder: Path, tmp_path: Path) -> None:
        import contextlib

        config = OmegaConf.load(folder / CONFIG)
        job = instantiate(config, cache=str(tmp_path / "cache"), noise="seeded", _convert_="object")
        self._folder, self._stack = folder, contextlib.ExitStack()
        scratch = RunFolder(tmp_path / "attacker")
        scratch.path.mkdir(exist_ok=True)
        setting = Setting(
            folder=scratch,
            config="",
            noise=NoiseSource.seeded(0),
            console=Console(file=io.StringIO()),
            timings=Timings(scratch),
            stack=self._stack,
        )
        self._refinement = Refinement.of(job, setting)

    def tally(self, noise: NoiseSource) -> np.ndarray:
        from dataclasses import replace

        from aggregate.round import slate_of
        from privacy.randomness import Stage
        from synth.corpus import Corpus

        rules = self._refinement.rules
        # A run binds its secret to its configuration, which is published.
        noise = noise.of("configuration", experiments.noise.configuration_digest((self._folder / CONFIG).read_text()))
        fleet = replace(self._refinement.fleet, noise=noise, accounts=None, closing=None)
        slate = slate_of(rules.encoder, Corpus.from_parquet(self._folder / Round(0).corpus))[1]
        rng = noise.of(rules.use_case, slate.digest).generator(Stage.SHUFFLE, round=0)
        ask = rules.ask(slate, 0, rng)
        return rules.trust.collect(fleet.answer([ask]), [ask], 1, {ask.use_case: rng})[ask.use_case].tally.sums


@pytest.mark.parametrize("trust", ["local", "secure_aggregation"])
def test_no_published_field_gives_the_noise_away(smoke, tmp_path, trust):
    folder = smoke("run", *QUICK, "noise=system", f"trust={trust}")
    true = Tally.load(folder / Round(0).tally).sums
    attacker = Attacker(folder, tmp_path)
    secret = NoiseSource(bytes.fromhex((folder / NOISE_KEY).read_text()), simulated=False)
    assert np.array_equal(attacker.tally(secret), true), "whoever has the key has the noise: the attack works"
    guesses = list(secrets_in(published(folder), deep=False))
    assert len(guesses) > 20
    assert not any(np.array_equal(attacker.tally(guess), true) for guess in guesses)
    # Negative control: under seeded noise the seed is in the files, and one guess is right.
    seeded = smoke("seeded", *QUICK, "noise=seeded", f"trust={trust}", "seed=3")
    true = Tally.load(seeded / Round(0).tally).sums
    attacker = Attacker(seeded, tmp_path)
    assert any(np.array_equal(attacker.tally(guess), true) for guess in secrets_in(published(seeded), deep=False))


def test_the_key_is_in_no_published_file(smoke, tmp_path):
    pytest.importorskip("mlflow")
    store = tmp_path / "runs"
    folder = smoke("run", *QUICK, "noise=system", "arms=[no_privacy]", "tracker=mlflow", f"runs={store}")
    key = bytes.fromhex((folder / NOISE_KEY).read_text())
    assert (folder / NOISE_KEY).stat().st_mode & 0o777 == 0o600
    forms = [key, key.hex().encode(), base64.b64encode(key), str(int.from_bytes(key, "big")).encode(), key[::-1]]
    others = [path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "noise.key"]
    others += [path.read_bytes() for path in [*tmp_path.glob("*.log"), *store.rglob("*")] if path.is_file()]
    assert (store / "mlflow.db").is_file()
    assert len(others) > 10 and not any(form in content for form in forms for content in others)
    # What is published names no secret either that hashing any of its words would give.
    assert not any(guess.secret == key for guess in secrets_in(published(folder)))
    # Negative control: the search finds a key that is there.
    (folder / "leak.txt").write_text(f"key {key.hex()}")
    assert any(guess.secret == key for guess in secrets_in(published(folder)))


def test_a_seeded_run_says_that_it_is_a_simulation_and_a_system_one_does_not(smoke):
    for noise, words in (("seeded", "SIMULATION: the noise of this run comes from its seed"), ("system", None)):
        folder = smoke(noise, *QUICK, f"noise={noise}")
        statement = json.loads((folder / "privacy.json").read_text())
        told = [statement["summary"], (folder / "privacy.md").read_text(), (folder / "dataset/README.md").read_text()]
        run = json.loads((folder / "run.json").read_text())["privacy"]["randomness"]
        if words:
            assert all(words in text for text in told) and "from the seed: a simulation" in run
        else:
            assert not any("SIMULATION" in text for text in told) and "from the operating system" in run


def test_a_killed_run_under_system_noise_ends_with_the_same_bits_and_two_folders_never_do(smoke, tmp_path, monkeypatch):
    overrides = ("rounds=2", *QUICK[1:], "noise=system")
    whole = smoke("whole", *overrides)

    class Killed(BaseException): ...

    write = RunFolder.write_bytes
    key = (whole / NOISE_KEY).read_text()

    def dying(self, name, *args, **kwargs):
        if name == Round(1).tally:
            raise Killed
        write(self, name, *args, **kwargs)

    (tmp_path / "broken" / "oracle").mkdir(parents=True)
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_bytes", dying)
        patch.setattr(NoiseSource, "system", classmethod(lambda cls: cls(bytes.fromhex(key), simulated=False)))
        (tmp_path / "broken" / "oracle").rmdir()
        with pytest.raises(Killed):
            smoke("broken", *overrides)
    broken, other = smoke("broken", *overrides), smoke("other", *overrides)
    tallies = [Tally.load(folder / Round(r).tally).sums for r in (0, 1) for folder in (whole, broken, other)]
    assert np.array_equal(tallies[0], tallies[1]) and np.array_equal(tallies[3], tallies[4])
    assert not np.array_equal(tallies[0], tallies[2]), "another folder, another key"
    (broken / NOISE_KEY).unlink()
    with pytest.raises(StoreError, match=r"noise.key is missing: the noise of this run cannot be drawn again") as said:
        smoke("broken", *overrides)
    assert "\n" not in str(said.value)
    (broken / NOISE_KEY).write_text("not hexadecimal")
    with pytest.raises(StoreError, match=r"noise.key cannot be read \(damaged"):
        smoke("broken", *overrides)


def test_a_count_under_system_noise(tmp_path):
    files = write_files(tmp_path / "files")
    one, again, other = (
        play(tmp_path / name, files, "health_types", "noise=system") for name in ("one", "one", "other")
    )
    tables = [(folder / "segments/health_types/histogram.parquet").read_bytes() for folder in (one, again, other)]
    assert tables[0] == tables[1] != tables[2]
    # Negative control: of seeded noise two folders have the same.
    seeded = [play(tmp_path / f"seeded-{name}", files, "health_types", "noise=seeded") for name in ("one", "other")]
    tables = [(folder / "segments/health_types/histogram.parquet").read_bytes() for folder in seeded]
    assert tables[0] == tables[1]
    key = (one / NOISE_KEY).read_text().encode()
    assert not any(key in content or bytes.fromhex(key.decode()) in content for content in published(one).values())
