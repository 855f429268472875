"""Sweeps: a real one of twelve tiny runs, and with faked runs what happens when some fail, stop or are complete."""

from __future__ import annotations

import csv
import io
import multiprocessing
import os
import shlex
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import experiments.refine.refinement
import experiments.run
from experiments.cli import main
from experiments.compare.command import compare
from experiments.compare.find import find_runs
from experiments.compare.sweeps import read_sweep
from experiments.folder.reader import CompareError
from experiments.folder.store import StoreError
from experiments.job import Job
from experiments.ledger import ledger
from experiments.multirun import _settings
from experiments.sweep import SweepFolder, digest_of
from synth.kept_answers import keep, kept
from synth.writer import Answer
from tests.experiments.conftest import contents
from tests.experiments.run_folders import make_run
from tests.experiments.use_case_files import arguments, write_files

TINY = "experiment=smoke candidates=16 rounds=1 devices.devices=200 devices.mails_per_device=1 evaluation.sample=40"
TWELVE = f"{TINY} mechanism=optimized_unary_encoding,subset_selection epsilon=1,4 seed=0,1,2"
MECHANISMS = ("optimized_unary_encoding", "subset_selection")


def synthpoll(words: str) -> str:
    """What `synthpoll run --multirun` prints. Raises SystemExit as the command does."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said):
        patch.setattr(sys, "argv", ["synthpoll", "run", "--multirun", *shlex.split(words)])
        main()
    return said.getvalue()


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The sweep of twelve: where it was given, and what it printed."""
    place = tmp_path_factory.mktemp("sweep")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("SYNTHPOLL_CACHE", str(place / "cache"))
        patch.setattr(
            experiments.refine.refinement, "write_plots", lambda *_: None
        )  # half of the time, and no part of a sweep
        return place, synthpoll(TWELVE)


@pytest.fixture
def again(swept, monkeypatch) -> Path:
    """The place of the sweep of twelve, for more commands there."""
    monkeypatch.chdir(swept[0])
    monkeypatch.setenv("SYNTHPOLL_CACHE", str(swept[0] / "cache"))
    return swept[0]


def sweep_folder(place: Path) -> Path:
    (found,) = (place / "runs" / "smoke").glob("sweep-*")
    return found


# A real sweep


def test_a_sweep_of_twelve_lists_its_runs(swept):
    place, said = swept
    assert "12 of 12 runs of the sweep are complete, 0 of them from before" in said
    assert "[12/12] mechanism=subset_selection epsilon=4 seed=2: complete, runs/smoke/seed2-" in said
    sweep = read_sweep(sweep_folder(place))
    assert sweep.overrides["epsilon"] == ("1", "4") and sweep.overrides["experiment"] == ("smoke",)
    assert [tuple(member.values.values()) for member in sweep.members] == list(product(MECHANISMS, "14", "012"))
    assert {member.status for member in sweep.members} == {"complete"}
    folders = {member.folder for member in sweep.members}
    assert folders == set((place / "runs" / "smoke").glob("seed*[!g]")) and len(folders) == 12
    assert all((folder / "dataset" / "README.md").is_file() for folder in folders if folder)


def test_compare_on_a_sweep_folder_names_the_best_run_per_epsilon(swept):
    place, said = swept
    screen = io.StringIO()
    compare([str(sweep_folder(place)), "--oracle", "--metric", "similarity"], Console(file=screen, width=200))
    assert "12 runs, each after its last poll" in screen.getvalue()
    for epsilon in ("1", "4"):
        means = {}
        for mechanism in MECHANISMS:
            last = []
            for member in read_sweep(sweep_folder(place)).members:
                if (member.values["mechanism"], member.values["epsilon"]) == (mechanism, epsilon) and member.folder:
                    with (member.folder / "oracle" / "metrics.csv").open() as file:
                        last.append(float(list(csv.DictReader(file))[-1]["similarity"]))
            assert len(last) == 3
            means[mechanism.replace("_", " ")] = np.mean(last)
        best = max(means, key=means.__getitem__)
        assert f"epsilon {epsilon}: epsilon {epsilon}, {best}, {means[best]:.3f} (" in screen.getvalue()
    assert "Best per epsilon by coverage after the last poll" in said


def test_the_pages_keep_truth_apart(swept):
    folder = sweep_folder(swept[0])
    released, whole = (folder / "report.html").read_text(), (folder / "oracle" / "report.html").read_text()
    for page in (released, whole):
        assert page.count('"label":"epsilon 4, subset selection"') == 1
        assert '"best":[[1' in page
    assert '"name":"coverage"' in whole and "coverage" not in released.split('id="data">')[1].split("</script>")[0]


def test_the_same_sweep_again_plays_nothing(again, monkeypatch):
    def refuse(*arguments: object) -> None:
        raise AssertionError("a complete run must not be played")

    monkeypatch.setattr(experiments.run, "run_job", refuse)
    before = {path: path.stat().st_mtime_ns for path in again.rglob("seed*-*/**/*")}
    reordered = TWELVE.replace("epsilon=1,4 seed=0,1,2", "seed=2,1,0 epsilon=4,1")
    said = synthpoll(reordered)
    assert "12 of 12 runs of the sweep are complete, 12 of them from before" in said
    assert {path: path.stat().st_mtime_ns for path in again.rglob("seed*-*/**/*")} == before
    # Negative control: a run that is not there yet would be played.
    with pytest.raises(SystemExit) as stopped:
        synthpoll(f"{TINY} seed=0,1 runs=elsewhere")
    assert stopped.value.code == 1


def test_joblib_s_processes_write_the_same_runs_into_one_cache(again, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="needs the extra 'sweep'")
    some = f"{TINY} mechanism=subset_selection epsilon=1,4 seed=0 hydra/launcher=joblib hydra.launcher.n_jobs=2"
    said = synthpoll(f"{some} runs={tmp_path / 'r'} cache={tmp_path / 'c'}")
    assert "2 of 2 runs of the sweep are complete, 0 of them from before" in said
    made = sorted((tmp_path / "r" / "smoke").glob("seed0-????????"))
    assert len(made) == 2
    for folder in made:
        made_here = {name: data for name, data in contents(folder).items() if not name.endswith(".png")}
        assert made_here == contents(again / "runs" / "smoke" / folder.name)


@pytest.mark.parametrize("more", ["", "hydra.output_subdir=.hydra hydra/job_logging=default"])
def test_whom_a_sweep_watches_is_told_under_oracle_only(again, tmp_path, more):
    watched, runs = "resident-000007", tmp_path / "r"
    (old := runs / "smoke" / "mine").mkdir(parents=True)
    (old / "multirun.yaml").write_text(f"watch: {watched}")  # as earlier versions left it
    said = synthpoll(f"{TINY} seed=0,1 runs={runs} out={old} watch={watched} tracker=none {more}")
    assert "2 of 2 runs of the sweep are complete" in said
    told = [path.relative_to(runs) for path in holders(watched, runs)]
    assert [path for path in told if "oracle" not in path.parts] == []
    # The control: the search finds it where it may be, Hydra's own file among it.
    assert old.relative_to(runs) / "oracle" / "multirun.yaml" in told
    assert len([path for path in told if path.name == "watched.json"]) == 2
    assert any(".hydra" in path.parts for path in told) == bool(more)
    assert "2 of them from before" in synthpoll(f"{TINY} seed=0,1 runs={runs} out={old} watch={watched} tracker=none")
    assert {path.relative_to(runs) for path in holders(watched, runs)} <= set(told)


def holders(text: str, place: Path) -> list[Path]:
    """The files below a folder that hold a text, or have it in their name."""
    files = sorted(path for path in place.rglob("*") if path.is_file())
    return [path for path in files if text.encode() in path.read_bytes() or text in str(path)]


# Use cases


@pytest.fixture
def emoji(tmp_path, monkeypatch) -> str:
    """The words of a small run of emoji, given in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return shlex.join(arguments(write_files(tmp_path / "files"), "emoji"))


def test_a_sweep_of_a_use_case_has_the_same_pages(emoji, tmp_path):
    said = synthpoll(f"{emoji} epsilon=1,2 seed=0,1")
    assert "4 of 4 runs of the sweep are complete, 0 of them from before" in said
    assert "4 runs, each after its last key" in said and "emoji.fr" in said
    (folder,) = (tmp_path / "runs" / "emoji").glob("sweep-*")
    released, whole = (folder / "report.html").read_text(), (folder / "oracle" / "report.html").read_text()
    for page in (released, whole):
        assert page.count('"label":"epsilon 2"') == 1 and '"seeds":[0,1]' in page and 'id="elements"' in page
    assert '"name":"recall"' in whole and '"name":"recall"' not in released
    assert 'href="oracle/report.html"' in released and 'href="../report.html"' in whole
    assert "4 of them from before" in synthpoll(f"{emoji} epsilon=1,2 seed=0,1")


def test_a_sweep_over_both_kinds_has_no_page_and_says_why(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SYNTHPOLL_CACHE", str(tmp_path / "cache"))
    said = synthpoll("experiment=smoke,health_types tracker=none seed=0")
    assert "2 of 2 runs of the sweep are complete" in said
    (line,) = [line for line in said.splitlines() if line.startswith("No page of all runs: ")]
    assert "runs of different kinds cannot be compared: runs/smoke/seed0-" in line
    (folder,) = (tmp_path / "runs").glob("sweep-*")
    assert not list(folder.rglob("report.html"))


# Sharing the cores


def test_parallel_runs_share_the_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    joblib = ["hydra.launcher.n_jobs=16", "hydra.launcher.batch_size=1", "hydra.launcher.pre_dispatch=all"]
    assert _settings("joblib", 40, 1, []) == joblib
    assert _settings("joblib", 3, 1, [])[0] == "hydra.launcher.n_jobs=3"
    assert _settings("joblib", 40, 4, [])[0] == "hydra.launcher.n_jobs=4"
    assert _settings("joblib", 40, "many", ["hydra.launcher.n_jobs=2"]) == joblib[1:]
    assert "+hydra.launcher.ray.remote.num_cpus=5" in _settings("ray", 3, 1, [])
    mine = "+hydra.launcher.ray.remote.num_cpus=1"
    assert not any("remote.num_cpus" in setting for setting in _settings("ray", 3, 1, [mine]))
    assert _settings("ray", 3, 1, ["hydra.launcher.ray.init.address=auto"]) == []
    assert _settings("basic", 3, 1, []) == []


def test_joblib_divides_the_threads_by_its_jobs(monkeypatch):
    joblib = pytest.importorskip("joblib", reason="needs the extra 'sweep'")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    given = joblib.Parallel(n_jobs=2, backend="loky")(joblib.delayed(os.getenv)("OMP_NUM_THREADS") for _ in range(2))
    assert given == [str(max(1, joblib.cpu_count() // 2))] * 2


# Faked runs: what happens when some fail, stop or are there already


class FakeRuns:
    """Stands for `run_job`: makes a run folder by hand, and does what it is told for some seeds."""

    def __init__(self) -> None:
        self.played: list[int] = []
        self.errors: dict[int, BaseException] = {}

    def __call__(self, job: Job, config: str, digest: str, console: Console, sweep: Path) -> Path:
        assert sweep.is_dir()
        if job.seed in self.errors:
            raise self.errors[job.seed]
        folder = Path(job.runs) / job.name / f"seed{job.seed}-{digest}"
        make_run(folder, epsilon=job.epsilon, seed=job.seed, rounds=1)
        (folder / "config.yaml").write_text(config)
        self.played.append(job.seed)
        return folder


@pytest.fixture
def runs(tmp_path, monkeypatch) -> FakeRuns:
    fake = FakeRuns()
    monkeypatch.setattr(experiments.run, "run_job", fake)
    monkeypatch.chdir(tmp_path)
    return fake


def fails(words: str, status: int, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stopped:
        synthpoll(words)
    assert stopped.value.code == status
    error: str = capsys.readouterr().err
    if status == 2:
        assert "Traceback" not in error
    return error


def test_a_run_that_fails_loses_no_other(runs, tmp_path, capsys):
    runs.errors = {1: StoreError("the disk is full; free space")}
    error = fails(f"{TINY} seed=0,1,2", 2, capsys)
    assert error == (
        "synthpoll: 1 of 3 runs are not complete; the others are kept, and the same command tries these again:\n"
        "  seed=1: the disk is full; free space\n"
    )
    assert runs.played == [0, 2]
    assert (sweep_folder(tmp_path) / "report.html").is_file()
    found = find_runs([str(sweep_folder(tmp_path))])
    assert len(found.folders) == 2 and "failed: the disk is full; free space" in found.left_out[0]
    runs.errors = {}
    assert "3 of 3 runs of the sweep are complete, 2 of them from before" in synthpoll(f"{TINY} seed=0,1,2")
    assert runs.played == [0, 2, 1]


def test_a_configuration_that_a_part_refuses_is_one_of_the_failures(runs, capsys):
    error = fails(f"{TINY} decision=survival decision.keep=6,16 candidates=16,20", 2, capsys)
    (failure,) = error.splitlines()[1:]
    assert failure.startswith(
        "  candidates=16 decision.keep=16: decision.keep is 16; expected 1 to candidates - 1 = 15"
    )
    assert runs.played == [0, 0, 0]


def test_a_defect_shows_its_traceback_and_loses_no_other(runs, tmp_path, capsys):
    runs.errors = {0: ZeroDivisionError("by a defect")}
    error = fails(f"{TINY} seed=0,1", 1, capsys)
    assert "ZeroDivisionError: by a defect" in error and "seed=0: stopped before its end" in error
    assert runs.played == [1]
    # The same again, and the failures are listed again.
    assert "seed=0: stopped before its end" in fails(f"{TINY} seed=0,1", 1, capsys)
    # The text of an error that nobody foresaw could hold anything, so it is in no file.
    assert "by a defect" not in (sweep_folder(tmp_path) / "sweep.json").read_text()


def test_an_interrupted_sweep_goes_on(runs, tmp_path, capsys):
    runs.errors = {1: KeyboardInterrupt()}
    assert "run the same command again" in fails(f"{TINY} seed=0,1,2", 130, capsys)
    statuses = [member.status for member in read_sweep(sweep_folder(tmp_path)).members]
    assert statuses == ["complete", "failed", "planned"]
    runs.errors = {}
    synthpoll(f"{TINY} seed=0,1,2")
    assert runs.played == [0, 1, 2]


def test_a_run_whose_folder_was_deleted_or_changed_is_played_again(runs, tmp_path):
    synthpoll(f"{TINY} seed=0,1")
    for member in read_sweep(sweep_folder(tmp_path)).members:
        assert member.folder is not None
        (member.folder / "config.yaml").write_text("seed: 0\nrounds: 1\n")
    synthpoll(f"{TINY} seed=0,1")
    assert runs.played == [0, 1, 0, 1]


def test_out_names_the_sweep_folder_and_runs_stay_where_they_are(runs, tmp_path, capsys):
    said = synthpoll(f"{TINY} seed=0,1 out=mine/first")
    assert "Sweep folder: mine/first" in said and list(Path("mine").iterdir()) == [Path("mine/first")]
    assert len(list((tmp_path / "runs" / "smoke").glob("seed*-????????"))) == 2
    assert len(find_runs(["mine"]).folders) == 2
    error = fails(f"{TINY} seed=1,2 epsilon=2 out=mine/first", 2, capsys)
    assert "mine/first holds another sweep (seed: 0,1 -> 1,2; epsilon: (absent) -> 2); choose another" in error
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.txt").write_text("mine")
    assert "thesis is not empty and not a sweep folder" in fails(f"{TINY} seed=0,1 out=thesis", 2, capsys)
    (tmp_path / "theses" / "oracle").mkdir(parents=True)
    (tmp_path / "theses" / "oracle" / "thesis.txt").write_text("mine")
    assert "theses is not empty and not a sweep folder" in fails(f"{TINY} seed=0,1 out=theses", 2, capsys)
    (tmp_path / "file").touch()
    assert "cannot write to the sweep folder file/x" in fails(f"{TINY} seed=0,1 out=file/x", 2, capsys)


def test_a_second_process_on_the_sweep_is_refused(runs, tmp_path, capsys):
    synthpoll(f"{TINY} seed=0,1")
    folder = sweep_folder(tmp_path)
    sweep = read_sweep(folder)
    with SweepFolder(path=folder, overrides=sweep.overrides, values=[m.values for m in sweep.members]).opened():
        assert "another process is working on the sweep" in fails(f"{TINY} seed=0,1", 2, capsys)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("workers=1,2", "workers cannot change a result, so it cannot be swept over"),
        ("out=a,b", "out cannot change a result"),
        ("seed=1,1", "seed is 1,1; expected each value once"),
        ("epsilonn=1,2", "Key 'epsilonn' is not in struct"),
        ("seed=1,2 --config-dir x", "takes key=value only, not '--config-dir'"),
        ("seed=1,2 hydra/sweeper=optuna", "hydra/sweeper is 'optuna'"),
    ],
)
def test_a_sweep_that_cannot_be(runs, tmp_path, capsys, words, said):
    error = fails(f"{TINY} {words}", 2, capsys)
    assert said in error and error.count("\n") == 1
    assert runs.played == [] and not (tmp_path / "runs").exists()


def test_values_that_a_configuration_file_sweeps_over_are_refused(runs, tmp_path, capsys):
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\nhydra:\n  sweeper:\n    params:\n      rounds: 1,2\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    error = fails(f"experiment=mine hydra.searchpath=[file://{tmp_path}]", 2, capsys)
    assert error == "synthpoll: hydra.sweeper.params is set; expected all values of a sweep on the command line\n"


def test_an_option_that_does_not_exist_leaves_no_folder(runs, tmp_path, capsys):
    assert "Could not find 'mechanism/nothing'" in fails(f"{TINY} mechanism=subset_selection,nothing", 1, capsys)
    assert list((tmp_path / "runs" / "smoke").iterdir()) == []


@pytest.mark.parametrize(("launcher", "extra"), [("joblib", "sweep"), ("ray", "ray")])
def test_a_launcher_that_is_not_installed_names_its_extra(runs, capsys, monkeypatch, launcher, extra):
    monkeypatch.setattr("experiments.multirun.find_spec", lambda name: None)
    error = fails(f"{TINY} seed=0,1 hydra/launcher={launcher}", 2, capsys)
    assert error == (
        f"synthpoll: hydra/launcher={launcher} is not installed; install it with: pip install 'synthpoll[{extra}]'\n"
    )


# Several processes


def _keep_texts(place: Path, first: int) -> None:
    """Write chunks that the other process writes, too, in another order; each is whole as soon as it is there."""
    for round in range(20):
        for number in range(first, first + 30):
            path = place / f"{number % 30}.json"
            answers = [Answer(text="word " * 400 + str(number % 30), log_likelihood=-1.0)] * 8
            if path.exists():
                assert kept(path, 8) == answers
            if round % 2 or not path.exists():
                keep(path, answers)


def test_two_processes_keep_the_same_texts(tmp_path):
    together(_keep_texts, (tmp_path / "generation", 0), (tmp_path / "generation", 15))
    assert sorted(path.name for path in (tmp_path / "generation").iterdir()) == sorted(f"{i}.json" for i in range(30))


def together(work: Callable[..., None], *arguments: tuple[object, ...]) -> None:
    """Do the work in processes of their own at the same time."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=work, args=given) for given in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * len(processes)


def _record_half(folder: SweepFolder, first: int) -> None:
    for number in range(first, 40, 2):
        folder.record(number, "complete", folder.path.parent / f"run{number}")


def test_two_processes_write_down_their_runs(tmp_path):
    folder = SweepFolder(path=tmp_path / "s", overrides={"seed": ["0"]}, values=[{"seed": str(i)} for i in range(40)])
    with folder.opened():
        together(_record_half, (folder, 0), (folder, 1))
    members = read_sweep(tmp_path / "s").members
    assert [(m.status, m.folder) for m in members] == [("complete", tmp_path / f"run{i}") for i in range(40)]


def test_the_digest_is_of_the_runs_and_not_of_their_order():
    digest = digest_of({"seed": ["0", "1"], "epsilon": ["2"]})
    assert digest == digest_of({"epsilon": ["2"], "seed": ["1", "0"]})
    assert digest != digest_of({"epsilon": ["2"], "seed": ["1", "2"]})


@pytest.mark.parametrize("content", ["", "[]", '{"overrides": {}}', '{"overrides": {}, "runs": [{"values": {}}]}'])
def test_a_damaged_list_is_said(tmp_path, content):
    (tmp_path / "sweep.json").write_text(content)
    with pytest.raises(CompareError, match=r"sweep\.json is damaged and cannot be read .*; delete it and give"):
        find_runs([str(tmp_path)])


def test_a_sweep_folder_that_moved_with_its_runs_is_found(tmp_path):
    make_run(tmp_path / "a" / "seed0", seed=0)
    values = [{"seed": "0"}, {"seed": "1"}]
    folder = SweepFolder(path=tmp_path / "a" / "s", overrides={"seed": ["0", "1"]}, values=values)
    with folder.opened():
        folder.record(0, "complete", tmp_path / "a" / "seed0")
    (tmp_path / "a").rename(tmp_path / "b")
    for named in (tmp_path / "b" / "s", tmp_path / "b"):  # a folder above is searched, too, and each run counts once
        found = find_runs([str(named)])
        assert found.folders == (tmp_path / "b" / "seed0",)
        assert found.left_out == (f"{tmp_path}/b/s/seed=1: not begun yet",)


def test_a_sweep_says_what_all_its_runs_take_of_a_device_and_stops_at_the_cap(runs, tmp_path, capsys):
    """Under system noise every run is a spend of its own; a seeded sweep is a simulation and says nothing."""
    words = f"{TINY} noise=system epsilon=1,2 seed=0,1"
    told = "4 runs with noise of the operating system take epsilon 6 of a device together"
    assert told in synthpoll(f"{words} caps.lifetime=6")
    with pytest.raises(SystemExit):
        synthpoll(f"{words} caps.lifetime=5 name=more")
    assert f"{told}, but caps.lifetime is 5; sweep over fewer values" in capsys.readouterr().err
    assert "take epsilon" not in synthpoll(f"{TINY} epsilon=1,2 name=seeded")


def test_a_sweep_that_debits_a_ledger_says_so_whatever_its_noise(runs, tmp_path, capsys):
    """Its runs differ in their configuration, so a ledger file counts each, also in a simulation."""
    words = f"{TINY} noise=seeded ledger=devices.db"
    told = "2 runs that debit devices.db take epsilon 5 of a device together"
    error = fails(f"{words} epsilon=2,3 caps.lifetime=4", 2, capsys)
    assert error == f"synthpoll: the {told}, but caps.lifetime is 4; sweep over fewer values or lower epsilon\n"
    assert runs.played == [] and not (tmp_path / "runs").exists()
    said = synthpoll(f"{words} epsilon=2,3 caps.lifetime=5")
    assert f"{told}: each is a spend of its own, and they add up." in said and "there already" not in said
    # Sums are of whole numbers: three times 0.1 is not above 0.3.
    assert "take epsilon 0.3 of" in synthpoll(f"{words} epsilon=0.1 seed=0,1,2 caps.lifetime=0.3")
    (tmp_path / "devices.db").touch()
    warned = "devices.db is there already: what other runs have debited counts as well, and was not added here; see"
    for noise in ("seeded", "system"):
        said = synthpoll(f"{words} noise={noise} epsilon=2,3 caps.lifetime=5")
        assert told in said and f"{warned} synthpoll ledger devices.db\n" in said


def test_runs_of_a_seeded_sweep_add_up_in_a_ledger(tmp_path, monkeypatch):
    """What the sweep says is what the ledger then holds: by real runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SYNTHPOLL_CACHE", str(tmp_path / "cache"))
    words = f"{TINY} tracker=none noise=seeded ledger=devices.db epsilon=2,3 caps.lifetime=5"
    assert "take epsilon 5 of a device together" in synthpoll(words)
    screen = io.StringIO()
    ledger(["devices.db"], Console(file=screen, width=200))
    assert "The most that any device has spent: 5," in screen.getvalue()
    # Given again, the sweep does not count its own debits twice.
    assert "2 of 2 runs of the sweep are complete, 2 of them from before" in synthpoll(words)
