"""Comparing runs: which folders are found, what is read, who is grouped with whom, who is best, and what is refused."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.compare.find import find_runs
from experiments.compare.formats import in_words, short, shown, spread
from experiments.compare.groups import Interval, group_runs
from experiments.compare.load import flatten, load_rounds, load_run
from experiments.compare.metrics import best_per_epsilon, find_metric, metric, metrics_of
from experiments.compare.page import render, write_page
from experiments.compare.runs import Timing
from experiments.folder.layout import SHOWN
from experiments.folder.reader import CompareError, RunFiles
from tests.experiments.run_folders import SECRET, make_run, put, similarity

OPENED: list[str] | None = None


def record(event: str, arguments: tuple[object, ...]) -> None:
    """Every file that Python opens, whoever opens it; an audit hook cannot be taken out again, only switched off."""
    if OPENED is not None and event == "open" and isinstance(arguments[0], str | bytes):
        OPENED.append(str(arguments[0]))


sys.addaudithook(record)


@pytest.fixture
def opened(monkeypatch):
    files: list[str] = []
    monkeypatch.setattr(sys.modules[__name__], "OPENED", files)
    return files


@pytest.fixture
def sweep(tmp_path):
    """Two budgets times three seeds."""
    for epsilon in (2.0, 10.0):
        for seed in (0, 1, 2):
            make_run(tmp_path / "sweep" / f"eps{epsilon:g}" / f"seed{seed}", epsilon=epsilon, seed=seed)
    return tmp_path / "sweep"


def groups_of(*folders: Path, oracle: bool = True):
    return group_runs([load_run(folder, oracle=oracle) for folder in folders])[0]


# ---- finding


def test_run_folders_sweep_folders_and_globs_are_found_in_natural_order(sweep, tmp_path):
    names = [str(path.relative_to(sweep)) for path in find_runs([str(sweep)]).folders]
    assert names == [f"eps{e}/seed{s}" for e in (2, 10) for s in (0, 1, 2)]
    assert find_runs([str(sweep / "eps2" / "seed1")]).folders == (sweep / "eps2" / "seed1",)
    assert len(find_runs([f"{sweep}/eps*/seed[01]"]).folders) == 4
    assert len(find_runs([f"{sweep}/eps*"]).folders) == 6


def test_a_run_named_twice_counts_once(sweep):
    assert len(find_runs([str(sweep), str(sweep / "eps2"), f"{sweep}/eps2/../eps2/seed0"]).folders) == 6


def test_arms_are_part_of_their_run(tmp_path):
    run = make_run(tmp_path / "sweep" / "a", arms=["no_privacy"])
    (run / "oracle/arms/no_privacy/rounds").mkdir()
    assert find_runs([str(tmp_path / "sweep")]).folders == (run,)


def test_what_lies_beside_runs_is_left_out_and_listed(sweep):
    put(sweep / "seed0.log", "")
    (sweep / "eps2" / "seed0" / "rounds" / "000" / "round.json").unlink()
    found = find_runs([str(path) for path in sorted(sweep.iterdir())])
    assert len(found.folders) == 5
    assert found.left_out == (
        f"{sweep}/eps2/seed0: no complete round yet",
        f"{sweep}/seed0.log: not a run folder (it has no config.yaml and run.json), and holds none",
    )


def test_what_cannot_be_compared_is_one_line(tmp_path, sweep):
    def error(*arguments: str) -> str:
        with pytest.raises(CompareError) as caught:
            find_runs(arguments)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "'nothing-here' does not exist; expected a run folder" in error("nothing-here")
    assert "'' does not exist" in error("")
    assert f"the glob {tmp_path}/x* matches nothing" in error(f"{tmp_path}/x*")
    (tmp_path / "other").mkdir()
    assert f"{tmp_path}/other: not a run folder" in error(str(tmp_path / "other"))
    assert "matches 1 paths, but no run folder" in error(f"{tmp_path}/oth*")
    young = make_run(tmp_path / "young")
    (young / "rounds/000/round.json").unlink()
    assert f"nothing to compare: {young}: no complete round yet" in error(str(young))
    # One that is wrong among others that are right is a mistake all the same.
    assert "does not exist" in error(str(sweep), str(tmp_path / "typo"))


# ---- reading


def test_a_run_is_what_its_files_say(tmp_path):
    folder = make_run(tmp_path / "a", epsilon=2, seed=5, arms=["no_privacy"])
    run = load_run(folder)
    assert (run.seed, run.epsilon, run.complete, run.planned, run.finished) == (5, 2.0, 3, 3, True)
    assert [row["similarity"] for row in run.truth] == pytest.approx([similarity(2, 5, r) for r in range(4)])
    assert run.metrics[2]["none_share"] == pytest.approx(0.08)
    assert "none_share" not in run.metrics[3]
    assert run.arms["no_privacy"][1] == {**run.metrics[1], **run.truth[1]}
    assert run.timings[0] == Timing(round=0, arm=None, stage="round", seconds=1.5)
    assert run.fact("devices.count") == 900
    assert run.fact("devices.count.x") is None
    history = load_rounds(run)
    assert [len(slate.ids) for slate in history.rounds] == [12] * 4
    assert [slate.poll is None for slate in history.rounds] == [False, False, False, True]
    poll = history.rounds[0].poll
    assert poll is not None
    assert poll.true_votes is not None
    assert len(poll.true_votes) == 12
    assert int((poll.rank >= 0).sum()) == 4
    child = history.candidates[history.rounds[1].ids[-1]]
    assert (child.operator, child.change, child.born) == ("entity_swap", "tennis -> soccer", 1)


def test_runs_from_before_changes_were_recorded_are_read(tmp_path):
    history = load_rounds(load_run(make_run(tmp_path / "a", change=False)))
    assert {candidate.change for candidate in history.candidates.values()} == {""}


def test_a_run_at_work_is_read_as_far_as_it_is(tmp_path):
    run = load_run(make_run(tmp_path / "a", complete=2))
    assert (run.complete, run.finished) == (2, False)
    assert len(load_rounds(run).rounds) == 2
    # The next slate, written but not polled yet, is not taken for the refined corpus.
    shutil.copytree(tmp_path / "a/rounds/001", tmp_path / "a/rounds/002")
    (tmp_path / "a/rounds/002/round.json").unlink()
    assert len(load_rounds(load_run(tmp_path / "a")).rounds) == 2


def test_only_listed_files_are_opened(tmp_path, opened):
    folder = make_run(tmp_path / "a", arms=["no_privacy"], central={"epsilon": 1, "delta": 1e-6, "trust_model": "x"})
    opened.clear()
    page = render(groups_of(folder), None, live=False)
    names = {str(Path(name).relative_to(folder)) for name in opened if str(folder) in name}
    assert {"config.yaml", "rounds/002/oracle/votes.npy", "oracle/arms/no_privacy/oracle/metrics.csv"} <= names
    assert [name for name in names if not SHOWN.fullmatch(name)] == []
    assert SECRET not in page
    assert "grandmother" not in page
    # The control: had anybody opened such a file, this test would know.
    (folder / "oracle/report_log.json").read_text()
    assert str(folder / "oracle/report_log.json") in opened


def test_released_only_opens_nothing_of_the_oracle(tmp_path, opened):
    folder = make_run(tmp_path / "a", arms=["no_privacy"])
    opened.clear()
    page = render(groups_of(folder, oracle=False), None, live=False)
    assert [name for name in opened if "/oracle/" in name] == []
    assert '"votes":' not in page
    assert '"similarity"' not in page


def test_a_file_that_is_not_listed_cannot_be_read(tmp_path):
    files = RunFiles(make_run(tmp_path / "a"))
    for name in ("oracle/report_log.json", "dataset/README.md", "../b/run.json", "rounds/000/oracle/../tally.npz"):
        with pytest.raises(ValueError, match="here only these are read"):
            files.json(name)
    with pytest.raises(ValueError, match="released numbers only"):
        RunFiles(tmp_path / "a", oracle=False).rows("oracle/metrics.csv")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config.yaml", f"{SECRET}: [", "not YAML"),
        ("config.yaml", "- 1", "not a YAML mapping"),
        ("config.yaml", "seed: x\nrounds: 3", "has seed: 'x'; expected a whole number"),
        ("run.json", SECRET, "not JSON"),
        ("run.json", "[1]", "not a JSON object"),
        ("metrics.csv", "similarity\n0.5\n", "without a round"),
        ("timings.csv", f"when\n{SECRET}\n", "expected round, stage, seconds"),
        ("rounds/001/corpus.parquet", SECRET, "not Parquet"),
        ("rounds/001/embeddings.npy", SECRET, "not a NumPy array"),
        (
            "privacy.json",
            '{"central": {"epsilon": 1}}',
            "'central' is not an object with epsilon, delta and trust_model",
        ),
    ],
)
def test_a_damaged_file_is_named_and_not_quoted(tmp_path, name, content, said):
    folder = make_run(tmp_path / "a")
    put(folder / name, content)
    with pytest.raises(CompareError) as caught:
        load_rounds(load_run(folder))
    message = str(caught.value)
    assert said in message
    assert str(folder / name) in message
    assert "\n" not in message
    assert SECRET not in message
    if "cannot be read" in message or "trust_model" in message:
        what = f"the folder {folder}/rounds/001" if "/" in name else "it"
        assert message.endswith(f"; delete {what}, then give the run's command again, or leave this run out")


@pytest.mark.parametrize("name", ["estimate.parquet", "embeddings.npy", "oracle/votes.npy", "next_weights.npy"])
def test_files_of_different_slates_are_not_mixed(tmp_path, name):
    folder = make_run(tmp_path / "a", candidates=12)
    shutil.copy(make_run(tmp_path / "b", candidates=13) / "rounds/001" / name, folder / "rounds/001" / name)
    with pytest.raises(CompareError, match=r"does not belong to corpus.parquet; delete the folder \S+/rounds/00[12],"):
        load_rounds(load_run(folder))


def test_a_missing_file_is_named(tmp_path):
    folder = make_run(tmp_path / "a")
    (folder / "rounds/001/estimate.parquet").unlink()
    with pytest.raises(CompareError, match=r"001/estimate.parquet cannot be read \(No such file"):
        load_rounds(load_run(folder))


# ---- grouping


def test_runs_that_differ_in_seeds_only_are_one_group(sweep):
    groups = groups_of(*find_runs([str(sweep)]).folders)
    assert [(group.label, [run.seed for run in group.runs]) for group in groups] == [
        ("epsilon 2", [0, 1, 2]),
        ("epsilon 10", [0, 1, 2]),
    ]
    interval = groups[1].last("similarity", oracle=True)
    values = [similarity(10, seed, 3) for seed in (0, 1, 2)]
    assert interval == Interval(
        mean=pytest.approx(np.mean(values)), low=min(values), high=max(values),
        stderr=pytest.approx(np.std(values, ddof=1) / np.sqrt(3)), seeds=3,
    )  # fmt: skip
    assert groups[0].per_round("similarity", oracle=True)[0].mean == pytest.approx(similarity(2, 1, 0))


def test_a_copy_of_a_run_is_no_second_seed(tmp_path):
    first, second = make_run(tmp_path / "a"), make_run(tmp_path / "b")
    groups, repeated = group_runs([load_run(first), load_run(second)])
    assert [len(group.runs) for group in groups] == [1]
    assert repeated == [f"{second}: same configuration and seed as {first}"]


def test_whole_numbers_are_the_same_with_and_without_a_point(tmp_path):
    groups = groups_of(make_run(tmp_path / "a", epsilon=4.0), make_run(tmp_path / "b", epsilon=4, seed=1))
    assert [group.label for group in groups] == ["made"]


def test_labels_name_what_differs_and_keys_that_change_together_once(tmp_path):
    other = {"_target_": "privacy.randomized_response.RandomizedResponse", "epsilon": 4.0}
    small = {"source": {"model": "small", "sha256": "aa"}}
    large = {"source": {"model": "large", "sha256": "bb"}}
    groups = groups_of(
        make_run(tmp_path / "a", epsilon=4, config={"generator": small}),
        make_run(tmp_path / "b", epsilon=4, config={"generator": large, "mechanism": other}),
        make_run(tmp_path / "c", epsilon=4, config={"generator": large, "keep": 3}),
    )
    assert [group.label for group in groups] == [
        "optimized unary encoding, model small, no keep",
        "randomized response, model large, no keep",
        "optimized unary encoding, model large, keep 3",
    ]


def test_settings_that_only_a_class_has_go_without_saying(tmp_path):
    local, shuffled = ({"_target_": f"aggregate.trust.{name}"} for name in ("LocalTrust", "Shuffled"))
    runs = [
        make_run(tmp_path / name, config={"trust": trust})
        for name, trust in (("a", local), ("b", shuffled | {"delta": 1e-6}), ("c", shuffled | {"delta": 1e-9}))
    ]
    assert [group.label for group in groups_of(*runs[:2])] == ["trust local trust", "trust shuffled"]
    assert [group.label for group in groups_of(*runs)] == [  # here the class does not say it
        "trust local trust, no delta", "trust shuffled, delta 1e-06", "trust shuffled, delta 1e-09"
    ]  # fmt: skip


def test_a_configuration_becomes_flat():
    assert flatten({"a": {"b": 1.0, "c": [1, 2]}, "d": None}) == {"a.b": 1, "a.c": "[1, 2]", "d": None}


# ---- which is best


def test_the_best_run_at_each_epsilon(tmp_path):
    def run(name: str, epsilon: float, seed: int, lift: float) -> Path:
        folder = make_run(tmp_path / name, epsilon=epsilon, seed=seed, config={"keep": int(100 * lift)})
        lines = [f"{r},{0.5 + lift + 0.001 * seed},{2 - lift}" for r in range(4)]
        put(folder / "oracle/metrics.csv", "\n".join(["round,similarity,fid_pca8", *lines]))
        return folder

    groups = groups_of(
        run("a0", 1, 0, 0.1), run("a1", 1, 1, 0.1), run("b0", 1, 0, 0.2), run("b1", 1, 1, 0.2), run("c0", 8, 0, 0.3)
    )
    best = best_per_epsilon(groups, find_metric(groups, "similarity"))
    assert [(one.epsilon, one.group.settings["keep"], one.others) for one in best] == [(1, "20", 1), (8, "30", 0)]
    assert best[0].interval.mean == pytest.approx(0.7005)
    assert best[0].close == ()
    lowest = best_per_epsilon(groups, find_metric(groups, "fid_pca8"))
    assert [one.group.settings["keep"] for one in lowest] == ["20", "30"]
    assert best_per_epsilon(groups, find_metric(groups, "topics")) == []


def test_groups_whose_seeds_overlap_are_called_close(tmp_path):
    folders = [make_run(tmp_path / f"{k}{s}", seed=s, config={"keep": k}) for k in (1, 2) for s in (0, 1)]
    (best,) = best_per_epsilon(groups := groups_of(*folders), find_metric(groups, "similarity"))
    assert [group.settings["keep"] for group in best.close] == ["2"]


def test_a_run_at_work_is_not_called_best(tmp_path):
    whole = make_run(tmp_path / "whole", epsilon=4, config={"keep": 1})
    young = make_run(tmp_path / "young", epsilon=4, complete=1, config={"keep": 2})
    put(young / "oracle/metrics.csv", "round,similarity\n0,0.99\n")
    groups = groups_of(young, whole)
    assert [one.group.runs[0].path for one in best_per_epsilon(groups, find_metric(groups, None))] == [whole]


def test_the_metric_that_decides(tmp_path):
    groups = groups_of(make_run(tmp_path / "a"))
    assert find_metric(groups, None).name == "similarity"
    assert find_metric(groups_of(tmp_path / "a", oracle=False), None).name == "none_share"
    with pytest.raises(
        CompareError, match=r"--metric is 'beauty'; expected a metric of these runs, such as .*none_share"
    ):
        find_metric(groups, "beauty")
    assert metric("fid_pca64", True).better == "down"
    assert metric("brand_new", False).title == "brand_new"
    names = [found.name for found in metrics_of(groups)]
    assert names.index("none_share") < names.index("similarity")


def test_numbers_in_words():
    assert [shown(0.2563, "percent"), shown(115204, "bytes"), shown(16.0, "count"), shown(0.42, "number")] == [
        "25.6%", "115 kB", "16", "0.420",
    ]  # fmt: skip
    assert spread(-0.117, 0.082, "percent") == "−11.7–8.2%"
    assert in_words(1, "run") + in_words(2000, "run") == "1 run2,000 runs"
    assert short("privacy.unary_encoding.OptimizedUnaryEncoding") == "optimized unary encoding"
    assert short("mail.jsonl.gz") == "mail.jsonl.gz"


def test_the_list_of_readable_files_is_exact():
    assert SHOWN.fullmatch("rounds/000/oracle/votes.npy")
    assert not SHOWN.fullmatch("rounds/000/oracle/shares.csv")
    assert not re.search(r"\*\.|dataset|report", SHOWN.pattern)


def test_a_central_guarantee_is_read(tmp_path):
    held = {"epsilon": 0.7, "delta": 1e-6, "trust_model": "shuffled"}
    assert load_run(make_run(tmp_path / "a", central=held)).central.delta == 1e-6
    assert load_run(make_run(tmp_path / "b")).central is None
    write_page(tmp_path / "a")
    assert "0.7" in (tmp_path / "a/report.html").read_text()
