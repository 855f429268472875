"""The use cases end to end: what a run leaves, that it repeats and resumes, and that withheld elements are nowhere."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hydra import compose, initialize_config_module
from rich.console import Console

import conf
from experiments.folder.store import StoreError
from privacy.hashing import hash_strings
from tests.experiments.conftest import contents
from tests.experiments.use_case_files import DOMAINS, EMOJI, FILE, NEW, job_of, play, write_files


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("files"))


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open(encoding="utf-8")))


def table(path: Path) -> dict[str, list]:
    return pq.read_table(path).to_pydict()


def test_every_experiment_says_itself_which_kind_of_job_it_is():
    """One primary configuration; what an experiment does not say is the main job."""
    packaged = {path.stem for path in (Path(str(conf.__file__)).parent / "experiment").glob("*.yaml")}
    with initialize_config_module("conf", version_base="1.3"):
        targets = {name: compose("config", [f"experiment={name}"])._target_ for name in packaged}
        assert compose("config", ["name=x"])._target_ == "experiments.refine.job.RefineJob"
    assert {name for name, made in targets.items() if made == "experiments.count.job.CountJob"} == set(FILE)
    assert set(targets.values()) == {"experiments.count.job.CountJob", "experiments.refine.job.RefineJob"}


@pytest.mark.parametrize("experiment", sorted(FILE))
def test_every_use_case_runs_and_leaves_what_the_documentation_says(tmp_path, files, experiment):
    screen = io.StringIO()
    folder = play(tmp_path / "run", files, experiment, "population=12000", console=Console(file=screen, width=150))
    keys = list(json.loads((folder / "run.json").read_text())["keys"])
    expected = {
        "config.yaml", "run.json", "privacy.json", "privacy.md", "metrics.csv", "metrics.parquet",
        "timings.csv", "report.html", "oracle",
        "segments",
    }  # fmt: skip
    assert {path.name for path in folder.iterdir()} == expected | ({"differences"} if experiment == "emoji" else set())
    assert {path.name for path in (folder / "segments").iterdir()} == set(keys)
    public, truth = rows(folder / "metrics.csv"), rows(folder / "oracle" / "metrics.csv")
    assert [row["key"] for row in public] == [row["key"] for row in truth] == keys
    assert set(public[0]) & set(truth[0]) == {"key"}
    for row in public:
        place = folder / "segments" / row["key"]
        assert {p.name for p in place.iterdir()} == {"histogram.parquet", "metrics.json", "segment.json", "oracle"}
        released = table(place / "histogram.parquet")
        assert len(released["element"]) == int(row["released"]) > 0
        assert int(row["released"]) + int(row["withheld"]) == int(row["looked_at"])
        assert released["count"] == sorted(released["count"], reverse=True)
        assert row["key"] in screen.getvalue()
    assert str(folder) in screen.getvalue()


def test_segments_are_keys_of_their_own_and_are_compared(tmp_path, files):
    folder = play(tmp_path / "run", files, "emoji", "population=20000", "segment_shares=[3,1]")
    devices = json.loads((folder / "run.json").read_text())["devices"]
    assert devices["segments"] == {"en": 15000, "fr": 5000}
    public = {row["key"]: row for row in rows(folder / "metrics.csv")}
    assert int(public["emoji.en"]["reports"]) > 2.5 * int(public["emoji.fr"]["reports"])
    found = table(folder / "differences" / "emoji.en-fr.parquet")
    english, french = (
        dict(zip(released["element"], released["count"], strict=True))
        for released in (table(folder / "segments" / key / "histogram.parquet") for key in public)
    )
    assert set(found["element"]) == set(english) & set(french)
    for i, element in enumerate(found["element"]):
        shares = (
            english[element] / int(public["emoji.en"]["reports"]),
            french[element] / int(public["emoji.fr"]["reports"]),
        )
        assert found["difference"][i] == pytest.approx(shares[0] - shares[1])
        assert found["lower"][i] < found["difference"][i] < found["upper"][i]


def test_two_use_cases_share_one_budget_and_one_run_asks_for_one_of_them(tmp_path, files, unbound_noise):
    """The daily two reports are picked over both; which of them the server asks for changes no report."""
    both = play(tmp_path / "costly", files, "safari_costly", "seed=3")
    energy = play(tmp_path / "energy", files, "safari_energy", "seed=3")
    memory = play(tmp_path / "memory", files, "safari_memory", "seed=3")
    for one in (energy, memory):
        (key,) = [path.name for path in (one / "segments").iterdir()]
        assert contents(one / "segments" / key) == contents(both / "segments" / key)
    reports = [int(row["reports"]) for row in rows(both / "metrics.csv")]
    # 60 and 40 of 100 events; at most two reports of each of 4000 devices.
    assert sum(reports) <= 8000
    assert sum(reports) == 8000 and reports[0] / sum(reports) == pytest.approx(0.6, abs=0.04)
    spent = {row["largest_spent"] for row in rows(both / "oracle" / "metrics.csv")}
    assert spent == {"8.0"}
    page = (energy / "privacy.md").read_text()
    assert "safari_energy, safari_memory, which share this budget" in page
    assert "the server asks for safari_energy in this run" in page


def test_opt_in_days_and_caps(tmp_path, files):
    whole = play(tmp_path / "all", files, "emoji", "segments=[en]")
    half = play(tmp_path / "half", files, "emoji", "segments=[en]", "opt_in=0.5", "days=3", "caps.lifetime=12")
    one, other = (int(rows(folder / "metrics.csv")[0]["reports"]) for folder in (whole, half))
    assert other / one == pytest.approx(1.5, abs=0.15)
    spent = json.loads((half / "privacy.json").read_text())["spent"]
    assert (spent["report"], spent["day"], spent["run"], spent["lifetime"]) == (4.0, 4.0, 12.0, 12)
    assert rows(half / "oracle" / "metrics.csv")[0]["largest_spent"] == "12.0"


def test_same_seed_same_bytes_other_seed_other_bytes(tmp_path, files):
    first = contents(play(tmp_path / "a", files, "emoji"))
    assert contents(play(tmp_path / "b", files, "emoji", "workers=3")) == first
    assert contents(play(tmp_path / "c", files, "emoji", "seed=1"))["metrics.csv"] != first["metrics.csv"]


def _found(data: bytes, name: str, values: list[str]) -> list[str]:
    """Which of the values a file holds: as text in any spelling, or as the number that a sketch knows them by."""
    if name.endswith(".parquet"):
        parquet = pq.read_table(io.BytesIO(data))
        text = json.dumps(parquet.to_pydict(), ensure_ascii=False, default=str) + str(parquet.schema.metadata)
    else:
        text = data.decode("utf-8", "replace")
    hashes = hash_strings(values).tolist()
    return [
        value
        for value, number in zip(values, hashes, strict=True)
        if value in text
        or json.dumps(value)[1:-1] in text
        or value.encode("unicode_escape").decode() in text
        or f"&#x{ord(value[0]):x};" in text.lower()
        or str(number) in text
    ]


@pytest.mark.parametrize(
    ("experiment", "values", "at_least"),
    [("emoji", EMOJI, 100), ("safari_costly", DOMAINS, 50), ("new_words", NEW, 680)],
)
def test_withheld_elements_are_nowhere_in_the_run_folder(tmp_path, files, experiment, values, at_least):
    rule = ["release.post_processing=threshold", f"release.minimum_count={at_least}", "population=8000"]
    folder = play(tmp_path / "run", files, experiment, *rule)
    released = set()
    for path in folder.glob("segments/*/histogram.parquet"):
        released |= set(table(path)["element"])
    withheld = [value for value in values if value not in released]
    assert len(withheld) > len(values) / 4
    everything = contents(folder) | {"timings.csv": (folder / "timings.csv").read_bytes()}
    everything |= {"the log": (tmp_path / "run.log").read_bytes()}
    assert {name: found for name, data in everything.items() if (found := _found(data, name, withheld))} == {}
    # Nothing has as many numbers as there are elements: no tally, no estimate without names.
    for name, data in everything.items():
        if name.endswith(".parquet"):
            assert pq.read_table(io.BytesIO(data)).num_rows <= len(released), name
        assert not name.endswith((".npy", ".npz")), name
    # Negative controls: the same search finds released elements, and withheld ones that were planted.
    shown = next(name for name in everything if name.endswith("histogram.parquet"))
    assert _found(everything[shown], shown, values)
    planted = io.BytesIO()
    pq.write_table(pa.table({"element": withheld[:1]}), planted)
    assert _found(planted.getvalue(), "planted.parquet", withheld) == withheld[:1]
    assert _found(str(int(hash_strings(withheld[:1])[0])).encode(), "planted.json", withheld) == withheld[:1]
    assert _found(json.dumps(withheld[0]).encode(), "planted.json", withheld) == withheld[:1]


def test_prompts_are_nowhere_and_withheld_fragments_neither(tmp_path, files):
    folder = play(tmp_path / "run", files, "genmoji_fragments", "release.minimum_count=300")
    pool = job_of(files, "genmoji_fragments")[0].vocabulary.load()
    released = set(table(folder / "segments" / "genmoji_fragments" / "histogram.parquet")["element"])
    withheld = [fragment for fragment in pool.candidates if fragment not in released]
    # Only whole fragments: a withheld 'red cat' is not found in a released 'red'.
    assert withheld and released
    text = "\n".join(
        data.decode("utf-8", "replace") for name, data in contents(folder).items() if ".parquet" not in name
    )
    assert [fragment for fragment in withheld if f">{fragment}<" in text or f'"{fragment}"' in text] == []
    assert any(f">{fragment}<" in text for fragment in released)


def test_public_files_have_no_truth(tmp_path, files):
    folder = play(tmp_path / "run", files, "health_types")
    truth = table(folder / "segments" / "health_types" / "oracle" / "truth.parquet")["true_count"]
    page, judged = (folder / name / "report.html" for name in ("", "oracle"))
    told = [f'<td class="number oracle">{count:,}</td>' for count in truth]
    assert all(cell in judged.read_text() for cell in told)
    assert "oracle" not in page.read_text().split("</style>")[1].replace("oracle/report.html", "")
    assert "true_count" not in table(folder / "segments" / "health_types" / "histogram.parquet")


def test_post_processing_is_labelled_and_the_unbiased_count_stays(tmp_path, files, unbound_noise):
    plain = play(tmp_path / "plain", files, "health_types")
    folder = play(tmp_path / "norm", files, "health_types", "release.post_processing=norm_sub")
    one, two = (table(f / "segments" / "health_types" / "histogram.parquet") for f in (plain, folder))
    assert one["count"] == two["count"]
    assert one["processed"] == one["count"] != two["processed"]
    assert "norm_sub (post-processed, biased)" in (folder / "report.html").read_text()


def test_the_exact_law_above_a_number_of_devices(tmp_path, files):
    """Another road to the same numbers: same law, no reports, and said so everywhere."""
    screen = io.StringIO()
    slow = play(tmp_path / "reports", files, "emoji", "population=20000", "segments=[en]", "days=2")
    fast = play(
        tmp_path / "law", files, "emoji", "population=20000", "segments=[en]", "days=2", "exact_above=19999",
        console=Console(file=screen, width=150),
    )  # fmt: skip
    assert "tallies from their exact law" in screen.getvalue()
    assert "drawn from their exact law" in (fast / "run.json").read_text()
    assert "no ledger was kept" in (fast / "privacy.md").read_text()
    one, two = ({**rows(f / "metrics.csv")[0], **rows(f / "oracle" / "metrics.csv")[0]} for f in (slow, fast))
    # All report on both days; about 4,700 have nothing to say: a standard deviation of sqrt(2 x 20000 x 0.77 x 0.23).
    assert int(one["reports"]) == int(two["reports"]) == 40_000
    nothing = [int(told["nothing_sent"]) for told in (one, two)]
    assert abs(nothing[0] - nothing[1]) < 5 * np.sqrt(2) * np.sqrt(2 * 20000 * 0.77 * 0.23)
    assert float(two["coverage"]) > 0.8
    assert two["largest_spent"] == ""


def test_other_configuration_and_damaged_files_are_refused(tmp_path, files):
    folder = play(tmp_path / "run", files, "emoji")
    with pytest.raises(StoreError, match="another configuration"):
        play(folder, files, "emoji", "epsilon=2")
    histogram = folder / "segments" / "emoji.en" / "histogram.parquet"
    histogram.write_bytes(histogram.read_bytes()[:-40])
    with pytest.raises(StoreError, match=r"histogram.parquet cannot be read .*delete the folder .*emoji\.en, then"):
        play(folder, files, "emoji")


def test_changed_data_on_a_run_folder_is_refused(tmp_path, files):
    place = write_files(tmp_path / "files")
    folder = play(tmp_path / "run", place, "emoji")
    lines = (place / "emoji.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    for changed in (lines[:-5], [*lines[1:], lines[0].replace("0", "1")], lines[::-1]):
        (place / "emoji.jsonl").write_text("".join(changed), encoding="utf-8")
        if changed == lines[::-1]:  # the same frequencies in another order are the same data
            play(folder, place, "emoji")
            continue
        with pytest.raises(StoreError, match="holds a run on devices that held something else"):
            play(folder, place, "emoji")
