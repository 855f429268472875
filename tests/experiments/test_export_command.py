"""`synthpoll export` as a user types it: what it writes, what it refuses, and that nothing private can reach it."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hydra import compose, initialize_config_module
from rich.console import Console

from device_poll.town.build import build_town
from experiments.cli import load_job, main
from experiments.export_run import USAGE, export
from experiments.overlap import measure_overlap
from experiments.refine.release import ExportError, PublicRun
from experiments.run import run_job
from synth.chat import TASKS
from synth.corpus import Corpus
from synth.export import Format
from synth.prompts import EmailForm, ImagePromptForm
from tests.experiments.conftest import contents

CANARY = "CANARY the surprise party for grandmother is on the fourteenth"


def town(folder: Path) -> list[str]:
    """The private texts of the runs below."""
    return list(build_town(900, 2, 0).texts)


def never(folder: Path) -> list[str]:
    raise AssertionError("an export without --check-overlap has no business with private texts")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """One run for all tests: they get copies."""
    place = tmp_path_factory.mktemp("made")
    overrides = [
        "experiment=smoke", "devices.devices=900", "rounds=2", "evaluation.sample=20", "watch=resident-000007",
        "arms=[no_privacy]", f"out={place / 'run'}", f"cache={place / 'cache'}",
    ]  # fmt: skip
    with initialize_config_module("conf", version_base="1.3"):
        job = load_job(compose("config", overrides=overrides))
    return run_job(*job, Console(file=io.StringIO(), width=150))


@pytest.fixture
def run(made, tmp_path) -> Path:
    return shutil.copytree(made, tmp_path / "run")


@pytest.fixture
def exported(run, tmp_path):
    """Export the run with some arguments; returns the folder and what was printed."""

    def command(*arguments: object, to: str = "out", texts=never, source: Path = run) -> tuple[Path, str]:
        screen = io.StringIO()
        given = [str(source), "--to", str(tmp_path / to), *map(str, arguments)]
        export(given, Console(file=screen, width=200), texts)
        return tmp_path / to, screen.getvalue()

    return command


def texts_in(folder: Path) -> str:
    """All text of an export, Parquet unpacked."""
    found = []
    for name, data in contents(folder).items():
        found.append(str(pq.read_table(io.BytesIO(data)).to_pylist()) if name.endswith("parquet") else data.decode())
    return "\n".join(found)


def test_what_each_format_writes(exported, run):
    names = {
        "hf": {"data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet", "README.md"},
        "jsonl": {"train.jsonl", "test.jsonl", "README.md"},
        "sft": {"train.jsonl", "test.jsonl", "README.md"},
        "parquet": {"train.parquet", "test.parquet", "README.md"},
    }
    assert set(names) == set(Format)
    for form, expected in names.items():
        folder, said = exported("--format", form, to=form)
        assert set(contents(folder)) == expected
        assert f"Exported: 40 of 40 examples after 2 polls ({form}, " in said and str(folder) in said
    hf = contents(exported(to="hf")[0])
    assert {name: run.joinpath("dataset", name).read_bytes() for name in hf} == hf
    ids = {row["id"] for name in ("train", "test") for row in pq.read_table(folder / f"{name}.parquet").to_pylist()}
    assert ids == set(Corpus.from_parquet(run / "rounds/002/corpus.parquet").ids)


def test_every_format_loads(exported, tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    for form in Format:
        folder, _ = exported("--format", form, to=form)
        loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
        assert set(loaded) == {"train", "test"}
        weight = sum(sum(loaded[split]["weight"]) for split in loaded)
        assert weight == pytest.approx(4 if form is Format.SFT else 1)  # four tasks
        assert not set(loaded["train"]["family"]) & set(loaded["test"]["family"])


def test_the_card_names_the_run(exported, run):
    card = (exported()[0] / "README.md").read_text()
    facts, statement, truth = (
        json.loads((run / name).read_text()) for name in ("run.json", "privacy.json", "oracle/devices.json")
    )
    assert statement["summary"] in card
    for told in (
        "# synthpoll smoke, seed 0\n", f"| commit | {facts['commit']} |", "| polls | 2 |",
        "| epsilon of a report | 4 |", "| trust model | local: each device adds the noise; ",
        f"| configuration, SHA-256 | {statement['run']['configuration_sha256']} |", "| generator | scripted fake |",
        "| encoder | fake-hashed-words-64 |", f"| reports in a poll | {statement['accuracy']['reports']} or more |",
    ):  # fmt: skip
        assert told in card
    # The number of private texts is not protected by any noise, and who has the places is nobody's business.
    assert str(truth["items"]) not in card and "resident-" not in card and str(run) not in card


def test_nothing_under_oracle_can_reach_an_export(run, exported, tmp_path):
    """Byte-identical with oracle/ full of canaries, with unreadable files there, and without oracle/."""
    true_votes = np.load(run / "rounds/001/oracle/votes.npy")
    plain = {form: contents(exported("--format", form, "--tasks=attributes,write" if form == "sft" else "--top=30",
                                     to=f"plain-{form}")[0]) for form in Format}  # fmt: skip
    places = [*run.glob("rounds/*/oracle"), run / "oracle"]
    assert len(places) == 4 and any(run.glob("oracle/arms/no_privacy/rounds/000/tally.npz"))
    for way in ("canary", "unreadable", "removed"):
        other = tmp_path / way
        shutil.copytree(run, other)
        for path in [path for place in places for path in (other / place.relative_to(run)).rglob("*")]:
            if path.is_file():
                path.unlink()
                if way == "canary":
                    path.write_text(CANARY)
                elif way == "unreadable":  # root may read every file, but nobody a folder as one
                    path.mkdir()
        if way == "removed":
            for place in places:
                shutil.rmtree(other / place.relative_to(run), ignore_errors=True)
        for form in Format:
            options = "--tasks=attributes,write" if form == "sft" else "--top=30"
            folder, _ = exported("--format", form, options, to=f"{way}-{form}", source=other)
            assert contents(folder) == plain[form], (way, form)
            assert "CANARY" not in texts_in(folder)
    # Negative control: what is made from an oracle file does change.
    released = np.load(run / "rounds/001/tally.npz")["sums"]
    assert (released != true_votes).any()


def test_only_public_files_can_be_named(run):
    public = PublicRun(run)
    for name in (
        "oracle/metrics.csv", "rounds/000/oracle/votes.npy", "rounds/000/../../oracle/metrics.csv", "privacy.md",
        "oracle/arms/no_privacy/rounds/000/corpus.parquet", "rounds/000/tally.npz", "report.html",
    ):  # fmt: skip
        with pytest.raises(ValueError, match="a release is made from"):
            public.place(name)


def test_no_private_text_is_in_any_export(exported):
    """Verbatim: no five words in a row of a device's mail, in any file of any format."""
    private = town(Path())
    for form in Format:
        folder, _ = exported("--format", form, *(["--tasks", ",".join(TASKS)] if form == "sft" else []), to=form)
        found = texts_in(folder)
        assert measure_overlap([[line] for line in found.splitlines()], private).longest < 5
        # Negative control: with one mail in it, the same search finds it.
        planted = [*([line] for line in found.splitlines()), [f"Hi. {private[7]} Bye."]]
        assert measure_overlap(planted, private, [8]).longest >= 8


def test_the_overlap_is_measured_printed_and_kept_from_the_export(run, exported):
    plain = contents(exported(to="plain")[0])
    folder, said = exported("--check-overlap", texts=town)
    assert contents(folder) == plain
    kept = json.loads((run / "oracle" / "overlap.json").read_text())
    assert kept["device_texts"] == 1800 and kept["exported"]["texts"] == kept["seed_corpus"]["texts"] == 40
    assert kept["exported"]["shares"] == {"8": 0.0, "13": 0.0, "20": 0.0}
    assert (
        "Verbatim overlap with 1800 device texts" in said and "longest run" in said and "never to be released" in said
    )
    # A device that holds an exported text is seen, and the numbers are all that is.
    texts = Corpus.from_parquet(run / "rounds/002/corpus.parquet").texts
    _, said = exported(
        "--check-overlap", texts=lambda folder: [CANARY, texts[0].upper(), " ".join(texts[1].split()[:9])]
    )
    kept = json.loads((run / "oracle" / "overlap.json").read_text())
    assert kept["exported"]["shares"]["8"] == 2 / 40 and kept["exported"]["shares"]["13"] == 1 / 40
    assert kept["exported"]["longest"] == len(texts[0].split())
    for place in (said, (run / "oracle" / "overlap.json").read_text()):
        assert "CANARY" not in place and " ".join(texts[0].split()[:3]) not in place
    assert contents(folder) == plain


def test_a_round_in_the_middle_and_the_seeds(run, exported):
    folder, said = exported("--round", 1, "--format=jsonl", "--test-share", 0)
    assert set(contents(folder)) == {"train.jsonl", "README.md"} and "after 1 poll " in said
    lines = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == Corpus.from_parquet(run / "rounds/001/corpus.parquet").ids
    np.testing.assert_array_equal([line["weight"] for line in lines], np.load(run / "rounds/000/next_weights.npy"))
    card = (folder / "README.md").read_text()
    assert "# synthpoll smoke, seed 0, after 1 of 2 polls" in card and "| polls | 1 of 2 |" in card
    folder, _ = exported("--round", 0, "--format=jsonl", to="seeds")
    lines = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    assert {line["operator"] for line in lines} == {"seed"} and {line["weight"] for line in lines} == {1 / 40}
    assert contents(exported("--round", 2, to="last")[0]) == contents(exported(to="default")[0])


def test_choosing_examples(run, exported):
    weights = np.load(run / "rounds/001/next_weights.npy")
    folder, said = exported("--top", 5, "--format=parquet", "--test-share=0.5")
    assert "5 of 40 examples" in said
    rows = [row for path in folder.glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    assert sorted(row["weight"] for row in rows) == sorted(weights)[-5:]
    least = float(np.median(weights))
    said = exported("--min-share", least, to="shares")[1]
    assert f"{(weights >= least).sum()} of 40 examples" in said
    assert "no example has so large a share" in refused(exported, "--min-share", 0.99, to="none")


def test_a_split_that_ends_up_empty_is_said(run, exported):
    tested = {row["family"] for row in pq.read_table(run / "dataset/data/test-00000-of-00001.parquet").to_pylist()}
    heaviest = Corpus.from_parquet(run / "rounds/002/corpus.parquet").examples[
        int(np.argmax(np.load(run / "rounds/001/next_weights.npy")))
    ]
    there, lacking = ("test", "train") if heaviest.root in tested else ("train", "test")
    folder, said = exported("--top", 1)
    assert f"There is no {lacking} split: all the chosen examples are of families on the other side" in said
    assert [path.name[: len(there)] for path in folder.glob("data/*")] == [there]


def test_wording_follows_the_form_of_the_generator(run):
    for target, found in (
        ("synth.prompts.EmailForm", EmailForm), ("synth.prompts.ImagePromptForm", ImagePromptForm),
        ("my.own.Form", type(None)),
    ):  # fmt: skip
        public = PublicRun(run)
        public.__dict__["config"] = {"generator": {"form": {"_target_": target}}}
        assert type(public.form) is found
    assert type(PublicRun(run).form) is EmailForm  # a fake without a form, whose texts have subjects


def test_an_incomplete_run(run, exported):
    (run / "rounds" / "001" / "round.json").unlink()
    said = refused(exported)
    assert "has 1 of 2 polls" in said and "--round 1" in said
    assert "has 1 of 2 polls" in refused(exported, "--round", 2)
    assert "after 1 poll " in exported("--round", 1)[1]


def refused(exported, *arguments: object, **more: object) -> str:
    """The one line that a refusal says; nothing is left behind."""
    with pytest.raises(ExportError) as error:
        exported(*arguments, **more)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_baseline_is_refused_or_labelled(smoke, exported):
    central = smoke("central", "rounds=1", "evaluation.sample=20", "trust=central")
    said = refused(exported, source=central)
    assert "is not for release: the trust model central is a baseline" in said and "--not-for-release" in said
    for form in Format:
        folder, said = exported("--not-for-release", "--format", form, source=central, to=form)
        card = (folder / "README.md").read_text()
        assert "Not for release: the trust model central is a baseline" in said
        assert "> **Not for release:** the trust model central is a baseline" in card and "- not-for-release" in card
        assert "# synthpoll smoke, seed 0 (baseline, not for release)\n" in card


def test_a_run_whose_audit_refutes_its_claim_is_refused(run, exported):
    statement = json.loads((run / "privacy.json").read_text())
    standing, refuting = (
        {"refutes_claim": refutes, "sentence": "measured epsilon >= 9.876", "epsilon_lower": 9.876, "plays": 8}
        for refutes in (False, True)
    )
    earlier = {name: value for name, value in statement.items() if name != "audits"}
    # Whichever of the audits it is, in the record or in the statement; earlier versions had one, called audit.
    for stated, kept in (
        (statement | {"audits": [standing, refuting, standing]}, None),
        (statement, [refuting, standing]),
        (earlier | {"audit": refuting}, None),
        (earlier | {"audit": None}, refuting),
    ):
        (run / "privacy.json").write_text(json.dumps(stated))
        (run / "audit.json").unlink(missing_ok=True)
        if kept:
            (run / "audit.json").write_text(json.dumps(kept))
        assert "an audit of this run refutes" in refused(exported)
        folder, _ = exported("--not-for-release")
        assert "(not for release)" in (folder / "README.md").read_text()
        shutil.rmtree(folder)
    (run / "audit.json").write_text(json.dumps([standing, {"refutes_claim": "no"}]))
    assert "audit.json cannot be read (not a list of audits); delete it" in refused(exported)
    (run / "audit.json").write_text(json.dumps([standing, standing]))
    (run / "privacy.json").write_text(json.dumps(earlier | {"audit": standing}))
    # What an audit measured rests on private data without noise: the card does not have it.
    assert "9.876" not in (exported()[0] / "README.md").read_text()


def test_arms_and_other_folders_are_no_runs(run, exported, tmp_path):
    assert "is an arm that only a simulation can have" in refused(exported, source=run / "oracle/arms/no_privacy")
    assert "has no config.yaml" in refused(exported, source=tmp_path / "nothing")
    (run / "privacy.json").rename(run / "kept.json")
    assert "no data set goes out without a privacy statement" in refused(exported)
    (run / "privacy.json").write_text('{"headline": "x"}')
    assert "privacy.json has no 'run'" in refused(exported)
    (run / "kept.json").rename(run / "privacy.json")
    with (run / "config.yaml").open("a") as file:
        file.write("# changed\n")
    assert "is not the configuration that its privacy.json is about" in refused(exported)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rounds/002/corpus.parquet", b"PAR1"),
        ("rounds/001/next_weights.npy", b"x"),
        ("rounds/001/next_weights.npy", np.zeros(3)),
        ("run.json", b"{"),
        ("run.json", b"[]"),
        ("run.json", b"{}"),
        ("privacy.json", b"{"),
    ],
)
def test_damaged_files_are_named(run, exported, name, content):
    if isinstance(content, bytes):
        (run / name).write_bytes(content)
    else:
        np.save(run / name, content)
    said = refused(exported)
    assert name.rpartition("/")[2] in said
    if "cannot be read" in said:
        what = f"the folder {run / name.rpartition('/')[0]}" if "/" in name else "it"
        assert said.endswith(f"; delete {what}, then give the run's command again")


def test_a_changed_text_is_noticed(run, exported):
    path = run / "rounds/002/corpus.parquet"
    table = pq.read_table(path)
    texts = [CANARY, *table["text"].to_pylist()[1:]]
    pq.write_table(table.set_column(1, "text", pa.array(texts)), path)
    said = refused(exported)
    assert "does not match its id" in said and "CANARY" not in said


def test_a_second_time_changes_nothing_and_other_content_is_refused(exported, tmp_path):
    folder, _ = exported()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert "Unchanged, the same is there already: 40 of 40" in exported()[1]
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert "is not empty; give a new folder" in refused(exported, "--top", 3)
    (folder / "note.txt").write_text("mine")
    assert "is not empty" in refused(exported)
    assert (folder / "note.txt").read_text() == "mine"
    (tmp_path / "file").write_text("mine")
    assert "is not empty" in refused(exported, to="file")
    (tmp_path / "empty").mkdir()
    assert contents(exported(to="empty")[0]) == contents(exported(to="deep/er/place")[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "expected one run folder and --to DIR, got 1 and --to None"),
        (["a", "b", "--to", "c"], "expected one run folder and --to DIR, got 2"),
        (["run", "--to"], "--to needs a value"),
        (["run", "--to=d", "--fast"], "unknown option --fast; expected --to, --format"),
        (["run", "--to=d", "--check-overlap=yes"], "unknown option --check-overlap"),
        (["run", "--to=d", "--format", "csv"], "--format is 'csv'; expected one of hf, jsonl, sft, parquet"),
        (["run", "--to=d", "--round=-1"], "--round is '-1'; expected a whole number, 0 or more"),
        (["run", "--to=d", "--top=0"], "--top is '0'; expected a whole number, 1 or more"),
        (["run", "--to=d", "--min-share=x"], "--min-share is 'x'; expected a share in"),
        (["run", "--to=d", "--test-share=nan"], "--test-share is 'nan'; expected a share in"),
        (["run", "--to=d", "--tasks=write"], "--tasks is for --format sft, not for hf"),
        (["run", "--to=d", "--format=sft", "--tasks=write,,x"], "--tasks has ''; expected some of write, subject"),
    ],
)
def test_arguments_that_cannot_be_understood(arguments, message):
    with pytest.raises(ExportError) as error:
        export(arguments, Console(file=io.StringIO()), never)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_the_command_line_loads_the_devices_of_the_run(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        sys, "argv", ["synthpoll", "export", str(run), "--to", str(tmp_path / "out"), "--check-overlap"]
    )
    main()
    said = capsys.readouterr().out
    assert "Exported: 40 of 40 examples after 2 polls (hf, " in said and "with 1800 device texts" in said
    with pytest.raises(SystemExit) as stopped:
        monkeypatch.setattr(sys, "argv", [*sys.argv, "--top=3"])
        main()
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and error.count("\n") == 1 and "is not empty" in error


def test_a_round_beyond_the_plan(exported):
    assert "--round is 3; " in (said := refused(exported, "--round", 3)) and "expected 0 to 2" in said


def test_help_names_every_option():
    screen = io.StringIO()
    export(["--help"], Console(file=screen, width=200), never)
    assert screen.getvalue() == USAGE
    for option in ("--to", "--format", "--round", "--top", "--min-share", "--test-share", "--tasks"):
        assert option in USAGE


def test_a_seeded_run_over_texts_of_ones_own_is_exported_as_a_simulation_only(exported, run, made, tmp_path):
    """The town is made up, so its seeded run goes out, labelled; the noise on mail could be taken off with the seed."""
    folder, _ = exported(to="town")
    assert "> SIMULATION: the noise of this run comes from its seed" in (folder / "README.md").read_text()
    path = run / "privacy.json"
    statement = json.loads(path.read_text())
    assert statement["noise"]["from"] == "seed" and statement["noise"]["brought"] is False
    statement["noise"]["brought"] = True
    path.write_text(json.dumps(statement))
    with pytest.raises(ExportError, match=r"polled texts of yours with noise=seeded, .* add --simulation") as refused:
        exported(to="mail")
    assert "\n" not in str(refused.value) and not (tmp_path / "mail").exists()
    folder, _ = exported("--simulation", to="mail")
    card = (folder / "README.md").read_text()
    assert "> SIMULATION: the noise of this run comes from its seed" in card and "- simulation\n" in card
    # Negative control: with the operating system's noise nothing has to be said.
    statement["noise"]["from"] = "system"
    path.write_text(json.dumps(statement))
    assert "SIMULATION" not in (exported(to="system")[0] / "README.md").read_text().split("## Privacy")[0]
