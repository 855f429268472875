"""`synthpoll export RUN --to DIR`: the arguments, the data set, and how much of it is verbatim on devices.

export(["runs/town/seed0-1a2b3c4d", "--to", "out", "--format", "sft"], Console(), device_texts)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments.compare.formats import size_in_words
from experiments.export_folder import write_folder
from experiments.folder.layout import ARMS, OVERLAP
from experiments.folder.store import RunFolder
from experiments.overlap import Overlap, measure_overlap
from experiments.refine.release import ExportError, PublicRun
from synth.chat import DEFAULT_TASKS, TASKS
from synth.export import Format, Release

DeviceTexts = Callable[[Path], Sequence[str]]
"""Loads the private texts of a run's simulated devices, given the run folder."""

USAGE = f"""\
synthpoll export RUN --to DIR [--format {"|".join(Format)}] [options]

  RUN                  a run folder
  --to DIR             a folder that is new or empty; the same export again changes nothing
  --format FORMAT      hf (default): a Hugging Face data set folder
                       jsonl, parquet: one file a split
                       sft: chats for supervised fine-tuning, several tasks an example
                       each with a card, README.md, and for each: datasets.load_dataset(DIR)
  --round N            the corpus that N polls have left; default: of a finished run, the last
  --top K              only the K examples with the largest share of the estimated votes
  --min-share S        only examples with at least this share
  --test-share S       share of the test split, 0 for none; default: that of the run
  --tasks LIST         for sft, some of {",".join(TASKS)}
                       default: {",".join(DEFAULT_TASKS)}
  --check-overlap      simulations only: count runs of words that are verbatim in the devices' texts; printed and kept
                       under RUN/oracle/, no part of the export
  --simulation         export a run with noise=seeded over texts of yours, whose noise anybody can take off who knows
                       the seed; its card says so
  --not-for-release    export, with a warning, what must not be released: a run whose trust model is a baseline, or
                       whose claim an audit has refuted (whatever later audits find)
"""
_VALUED = ("--to", "--format", "--round", "--top", "--min-share", "--test-share", "--tasks")
_FLAGS = ("--check-overlap", "--simulation", "--not-for-release")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the command line asks for."""

    run: Path
    to: Path
    format: Format = Format.HF
    polls: int | None = None
    top: int | None = None
    min_share: float = 0.0
    test_share: float | None = None
    tasks: tuple[str, ...] = DEFAULT_TASKS
    check_overlap: bool = False
    simulation: bool = False
    not_for_release: bool = False


def export(arguments: Sequence[str], console: Console, device_texts: DeviceTexts) -> None:
    """Carry the command out. `device_texts` is called for --check-overlap only.

    Raises ExportError, one line, for whatever cannot be exported.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        console.print(Text(USAGE), end="")
        return
    request = parse(arguments)
    run = PublicRun(request.run)
    release = choose(run, request)
    try:
        files = release.files(request.format)
    except ValueError as error:
        raise ExportError(str(error)) from None
    measured = _measure(run, release, device_texts) if request.check_overlap else None
    written = write_folder(request.to, files)
    console.print(Text(_told(request, release, files, written)), soft_wrap=True)
    for warning in release.warnings:
        console.print(Text(f"Not for release: {warning}"), soft_wrap=True)
    if measured:
        _report(run, release, measured, console)


def choose(run: PublicRun, request: Request) -> Release:
    """What of the run is asked for. Raises ExportError for what is not there, or may not be released."""
    if request.run.resolve().parent.parts[-2:] == Path(ARMS).parts:
        raise ExportError(f"{request.run} is an arm that only a simulation can have; give the folder of the run itself")
    planned, polled = run.planned, run.polled
    polls = planned if request.polls is None else request.polls
    if polls > planned:
        raise ExportError(f"--round is {polls}; {run.path} is a run of {planned} polls, so expected 0 to {planned}")
    if polls > polled:
        raise ExportError(
            f"{run.path} has {polled} of {planned} polls; give the run's command again to complete it, or export what "
            f"is there with --round {polled}"
        )
    if run.warnings and not request.not_for_release:
        raise ExportError(
            f"{run.path} is not for release: {run.warnings[0].rstrip('.')}; to get it labelled as such, add "
            "--not-for-release"
        )
    if run.simulation and run.statement["noise"]["brought"] and not request.simulation:
        raise ExportError(
            f"{run.path} polled texts of yours with noise=seeded, and whoever knows its seed can take the noise off: "
            "give the run's command again with noise=system, or, to get the data set labelled as a "
            "simulation, add --simulation"
        )
    try:
        release = dataclasses.replace(
            run.release(polls=polls), top=request.top, min_share=request.min_share, tasks=request.tasks
        )
        if request.test_share is not None:
            release = dataclasses.replace(release, test_share=request.test_share)
    except ValueError as error:
        raise ExportError(str(error)) from None
    return release


def parse(arguments: Sequence[str]) -> Request:
    """The request; options may stand anywhere. Raises ExportError for what cannot be understood."""
    runs: list[str] = []
    values: dict[str, str] = {}
    flags: set[str] = set()
    rest = list(arguments)
    while rest:
        option, has_value, value = rest.pop(0).partition("=")
        if option in _VALUED:
            if not has_value and not rest:
                raise ExportError(f"{option} needs a value; see synthpoll export --help")
            values[option] = value if has_value else rest.pop(0)
        elif option in _FLAGS and not has_value:
            flags.add(option)
        elif option.startswith("-"):
            raise ExportError(f"unknown option {option}; expected {', '.join(_VALUED + _FLAGS)}")
        else:
            runs.append(option + has_value + value)
    if len(runs) != 1 or "--to" not in values:
        raise ExportError(f"expected one run folder and --to DIR, got {len(runs)} and --to {values.get('--to')}")
    if values.get("--format", "hf") not in list(Format):
        raise ExportError(f"--format is {values['--format']!r}; expected one of {', '.join(Format)}")
    form = Format(values.get("--format", "hf"))
    if "--tasks" in values and form is not Format.SFT:
        raise ExportError(f"--tasks is for --format sft, not for {form}")
    return Request(
        run=Path(runs[0]),
        to=Path(values["--to"]).expanduser(),
        format=form,
        polls=_whole(values, "--round", 0),
        top=_whole(values, "--top", 1),
        min_share=_share(values, "--min-share") or 0.0,
        test_share=_share(values, "--test-share"),
        tasks=_tasks(values),
        check_overlap="--check-overlap" in flags,
        simulation="--simulation" in flags,
        not_for_release="--not-for-release" in flags,
    )


def _whole(values: dict[str, str], option: str, least: int) -> int | None:
    if option not in values:
        return None
    if not values[option].isdecimal() or int(values[option]) < least:
        raise ExportError(f"{option} is {values[option]!r}; expected a whole number, {least} or more")
    return int(values[option])


def _share(values: dict[str, str], option: str) -> float | None:
    if option not in values:
        return None
    try:
        share = float(values[option])
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise ExportError(f"{option} is {values[option]!r}; expected a share in [0, 1)")
    return share


def _tasks(values: dict[str, str]) -> tuple[str, ...]:
    if "--tasks" not in values:
        return DEFAULT_TASKS
    named = tuple(dict.fromkeys(name.strip() for name in values["--tasks"].split(",")))
    if unknown := [name for name in named if name not in TASKS]:
        raise ExportError(f"--tasks has {unknown[0]!r}; expected some of {', '.join(TASKS)}, with commas between them")
    return named


def _told(request: Request, release: Release, files: dict[str, bytes], written: bool) -> str:
    size = size_in_words(sum(map(len, files.values())))
    polls = f"{release.polls} poll{'' if release.polls == 1 else 's'}"
    told = (
        f"{'Exported' if written else 'Unchanged, the same is there already'}: {int(release.kept.sum())} of "
        f"{len(release.corpus)} examples after {polls} ({request.format}, {size}): {request.to}"
    )
    names = [Path(name).name for name in files]
    for split in ("train", "test"):
        if release.test_share and not any(name.startswith(split) for name in names):
            told += f"\nThere is no {split} split: all the chosen examples are of families on the other side"
    return told


def _measure(run: PublicRun, release: Release, device_texts: DeviceTexts) -> tuple[Overlap, Overlap, int]:
    """Of the export, and of the seed corpus, which no device has influenced; and against how many texts."""
    private = device_texts(run.path)
    seeds = [(example.subject, example.text) for example in run.corpus(0)]
    return measure_overlap(release.texts, private), measure_overlap(seeds, private), len(private)


def _report(run: PublicRun, release: Release, measured: tuple[Overlap, Overlap, int], console: Console) -> None:
    """Print, and keep under oracle/: the numbers rest on private texts, without noise."""
    exported, seeds, texts = measured
    told = {name: dataclasses.asdict(found) for name, found in (("exported", exported), ("seed_corpus", seeds))}
    RunFolder(run.path).write_json(
        OVERLAP,
        {
            "device_texts": texts,
            "polls": release.polls,
            "top": release.top,
            "min_share": release.min_share,
            **told,
        },
    )
    table = Table(title=f"Verbatim overlap with {texts} device texts", title_justify="left")
    for heading in ("words in a row", f"export ({exported.texts} texts)", f"seed corpus ({seeds.texts})"):
        table.add_column(heading, justify="right")
    for n in exported.shares:
        table.add_row(f"{n} or more", f"{exported.shares[n]:.1%}", f"{seeds.shares[n]:.1%}")
    table.add_row("longest run", str(exported.longest), str(seeds.longest))
    console.print(table)
    console.print(
        Text(
            f"The seed corpus was written before any poll: what it shares with devices is chance and set phrases. Kept "
            f"in {run.path / OVERLAP}; measured without noise, so never to be released."
        ),
        soft_wrap=True,
    )
