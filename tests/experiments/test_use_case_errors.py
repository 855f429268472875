"""Bad input of use cases: one line that names the value, what was expected and what to do; exit status 2."""

from __future__ import annotations

import gzip
import re
import sys

import pytest

from experiments.cli import main
from tests.experiments.use_case_files import arguments, job_of, write_files


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("files"))


@pytest.fixture
def fails(files, tmp_path, monkeypatch, capsys):
    """Run `synthpoll run experiment=...` in this process; return the one error line."""

    def run(experiment: str, *overrides: str, status: int = 2) -> str:
        given = arguments(files, experiment, f"out={tmp_path / 'out'}", *overrides)
        monkeypatch.setattr(sys, "argv", ["synthpoll", "run", *given])
        with pytest.raises(SystemExit) as stopped:
            main()
        error = capsys.readouterr().err
        assert stopped.value.code == status, error
        assert "Traceback" not in error
        assert error.count("\n") == 1 or status == 1, error
        assert not (tmp_path / "out" / "segments").exists()
        return error

    return run


def test_the_command_runs(files, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["synthpoll", "run", *arguments(files, "emoji", f"out={tmp_path / 'out'}")])
    main()
    assert "emoji.en" in capsys.readouterr().out


def test_a_missing_file_is_named_before_any_work(fails, tmp_path):
    assert "vocabulary.path" in fails("emoji", "vocabulary.path=null")
    assert f"{tmp_path}/no.jsonl" in fails("emoji", f"vocabulary.path={tmp_path}/no.jsonl")
    assert "vocabulary.path" in fails("genmoji_fragments", "vocabulary.path=null")


def test_wrong_columns_list_those_found(fails, files):
    error = fails("safari_energy", "vocabulary.rank_column=rank_1999")
    assert "rank_1999" in error and "rank_tranco_2025" in error
    assert "domain" in fails("new_words", f"vocabulary.path={files / 'domains.tsv'}")


def test_an_empty_locale_lists_those_there_are(fails):
    error = fails("emoji", "segments=[en,zz]")
    assert "'zz'" in error and "fr" in error


def test_bytes_that_are_no_utf8(fails, tmp_path, files):
    path = tmp_path / "domains.tsv.gz"
    path.write_bytes(gzip.compress((files / "domains.tsv").read_bytes() + b"caf\xe9.example\t151\t151\n"))
    error = fails("safari_energy", f"vocabulary.path={path}")
    assert "UTF-8" in error and "152" in error
    # Counted and left out where asked for: see test_bad_rows_are_counted.


def test_bad_rows_are_counted(tmp_path, files, monkeypatch, capsys):
    path = tmp_path / "domains.tsv"
    path.write_bytes((files / "domains.tsv").read_bytes() + b"caf\xe9.example\t151\t151\n")
    given = arguments(
        files, "safari_autoplay", f"vocabulary.path={path}", "vocabulary.on_bad_row=skip", f"out={tmp_path / 'out'}"
    )
    monkeypatch.setattr(sys, "argv", ["synthpoll", "run", *given])
    main()
    shown = capsys.readouterr().out
    assert "Left out of the file of safari_autoplay: 1 undecodable (known only to the simulation)" in shown
    # An exact count of the devices' data is noise-free truth.
    assert "undecodable" not in (tmp_path / "out" / "run.json").read_text()
    assert '"undecodable": 1' in (tmp_path / "out" / "oracle" / "devices.json").read_text()


def test_a_word_longer_than_the_mechanism_takes_is_counted_not_cut(files, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["synthpoll", "run", *arguments(files, "new_words", f"out={tmp_path / 'out'}")])
    main()
    shown = capsys.readouterr().out
    assert "new_words.en: values that the mechanism cannot take: 1 too_long, 2 out_of_alphabet" in shown
    assert "out_of_alphabet (known only to the simulation)" in shown
    # How many different words of the devices there are is noise-free truth: nobody lists them.
    assert '"too_long": 1' in (tmp_path / "out" / "oracle" / "devices.json").read_text()
    assert "cannot take: 2 out of alphabet, 1 too long." in (tmp_path / "out" / "oracle" / "report.html").read_text()
    for name in ("run.json", "report.html", "privacy.json", "privacy.md", "../out.log"):
        assert not re.search("too.long", (tmp_path / "out" / name).read_text()), name


def test_a_budget_that_the_plan_does_not_fit(fails):
    assert "takes 2 x 8000000 = 16000000 micro-epsilons from one device, but the daily cap is 8000000" in fails(
        "new_words", "caps.daily=8", "caps.lifetime=100"
    )
    assert "but the lifetime cap is 10000000" in fails("emoji", "days=3", "caps.lifetime=10")


def test_too_few_reports(fails):
    assert "fewer than the minimum batch of 100000" in fails("emoji", "minimum_batch=100000")


@pytest.mark.parametrize(
    ("experiment", "override", "said"),
    [
        (
            "emoji",
            "devices=1e6",
            "devices=1e6 would choose a source of devices, such as mail or town; the number of devices of a use case "
            "is population=1e6",
        ),
        ("emoji", "population=1.5", "population is 1.5; expected a whole number, 1 to 1000000000, such as 1e6"),
        ("emoji", "population=0", "population is 0"),
        ("emoji", "population=1", "gets none of 1 devices"),
        ("emoji", "population=nan", "population is nan"),
        ("emoji", "days=0", "days is 0; expected a whole number, 1 or more"),
        ("emoji", "epsilon=0", "epsilon is 0"),
        ("emoji", "mechanism.epsilon=2", "mechanism.epsilon is 2, but a report costs epsilon=4"),
        ("emoji", "opt_in=0", "opt_in is 0; expected a share in (0, 1]"),
        ("emoji", "segment_shares=[1]", "segment_shares is [1] for 2 segments (en, fr)"),
        ("emoji", "segments=[en,en]", "segments is ['en', 'en']; expected one or more names, each once"),
        ("emoji", "segments=[../en]", "expected names of letters and digits"),
        ("emoji", "name=../up", "name is '../up'"),
        ("emoji", "collect=[words]", "collect has 'words'; the devices hold emoji"),
        ("emoji", "release.threshold=-1", "release.threshold is -1"),
        ("emoji", "release.post_processing=magic", "expected one of none, norm_sub, simplex, threshold"),
        ("emoji", "release=fragments", "vocabulary=prompts and release=fragments go together"),
        ("emoji", "activity.mean=0", "activity.mean is 0"),
        ("emoji", "caps.lifetime=0", "caps.lifetime is 0"),
        ("safari_costly", "holds.safari_energy.share=0.7", "safari_energy 0.7, safari_memory 0.4; expected a sum of 1"),
        ("safari_autoplay", "segments=[en]", "has the segments all, but segments is [en]; set segments=[all]"),
        ("new_words", "search=null", "search go together"),
        ("new_words", "search.lexicon=[in_oxford]", "search.lexicon has 'in_oxford'"),
        ("new_words", "release.post_processing=simplex", "their total is unknown"),
        ("new_words", "search.frequencies=[2]", "search.frequencies is [2]"),
        ("health_types", "mechanism=no", "mechanism is 'no'; expected one of count_mean_sketch"),
        ("genmoji_fragments", "days=2", "a device is asked for a fragment once"),
        (
            "genmoji_fragments",
            "mechanism=subset_selection",
            "the tally of subset_selection is no sum of two binomials, as exact bounds need; use "
            "mechanism=randomized_response",
        ),
        ("emoji", "frequency_oracle=subset_selection", "frequency_oracle is called mechanism now"),
        ("emoji", "frequency_oracle.rows=8", "frequency_oracle.rows is called mechanism.rows now"),
        ("genmoji_fragments", "vocabulary.kinds=[image]", "emoji"),
    ],
)
def test_values_out_of_range(fails, experiment, override, said):
    assert said in fails(experiment, override)


def test_a_list_with_more_values_than_a_mechanism_takes(fails, tmp_path):
    path = tmp_path / "many.txt"
    path.write_text("\n".join(f"type{i}" for i in range(70_000)) + "\n", encoding="utf-8")
    error = fails("health_types", f"vocabulary.path={path}", "mechanism=subset_selection")
    assert "health_types has 70000 values and 'nothing to report': domain_size is 70001" in error


def test_a_pronounced_share_of_devices_is_kept_whole(files):
    """Whatever the shares, every device is in one segment."""
    for population in (7, 101, 4001):
        job = job_of(files, "emoji", f"population={population}", "segments=[en,fr]", "segment_shares=[0.3,0.1]")[0]
        assert sum(job.devices_of.values()) == population
