"""`synthpoll run --multirun`: a run for each combination of comma-separated values, by any of Hydra's launchers.

    sweep(["--multirun", "experiment=smoke", "epsilon=1,2", "seed=0,1", "hydra/launcher=joblib"])

Hydra's sweeper makes the combinations and its launcher carries each to a `Carrier`, in this process or in others. A run
that fails is written down and the others go on; a run that is complete is not played again. experiments/sweep.py keeps
the list. With experiments/commands.py and words.py the only files that know Hydra.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.launch import NOT_IDENTITY, UsageError, carry_out, console, digest_of, identity_of, load_job, told

if TYPE_CHECKING:
    from experiments.compare.sweeps import Member
    from experiments.job import Job
    from experiments.sweep import SweepFolder

_FLAGS = ("--multirun", "-m")
_HYDRA = ("hydra.", "hydra/", "+hydra.", "++hydra.")
# Launcher: the plugin's module, and the extra that installs it.
_PLUGINS = {"joblib": ("hydra_joblib_launcher", "sweep"), "ray": ("hydra_ray_launcher", "ray")}


def is_sweep(arguments: Sequence[str]) -> bool:
    """Whether these words ask for a sweep, and not only for help or a look at the configuration."""
    given = {argument.partition("=")[0] for argument in arguments}
    wanted = not given.isdisjoint(_FLAGS) or "hydra.mode=MULTIRUN" in arguments
    return wanted and given.isdisjoint(("--help", "-h", "--hydra-help", "--cfg", "-c", "--info", "-i"))


def sweep(arguments: Sequence[str]) -> None:
    """Carry out all runs, print how they compare, and exit with a status above 0 if any failed.

    Raises UsageError for a sweep that cannot be, StoreError for a folder that cannot be used.
    """
    words = [argument for argument in arguments if argument not in _FLAGS]
    if options := [word for word in words if word.startswith("-")]:
        raise UsageError(
            f"synthpoll run --multirun takes key=value only, not {options[0]!r}; for more configuration files set "
            "hydra.searchpath=[file://FOLDER]"
        )
    launcher = _launcher(words)
    folder, first = _planned(words)
    _tell_spend(words, folder)
    given = [word for word in words if word.partition("=")[0].lstrip("+") != "out"]
    places = ["out=null", f"hydra.sweep.dir={_quoted(folder.of_hydra.resolve())}"]
    settings = _settings(launcher, len(folder.values), first.get("workers", 1), words)
    with folder.opened():
        before = folder.restart()
        status = _launch(folder, [*given, *settings, *places])
        after = folder.read()
        if status and after == before:
            folder.forget()
            sys.exit(status)  # Hydra has said why not one run began
        _conclude(folder, before, after, status)


@dataclass(frozen=True)
class Carrier:
    """What a launcher carries to wherever a run happens, and calls with the run's configuration.

    `here` is where the command was given: relative paths mean the same in every process.
    """

    folder: SweepFolder
    here: str
    loud: bool

    def __call__(self, config: Any) -> None:
        """Carry the run out unless it is complete; write down how it ended."""
        from hydra.core.hydra_config import HydraConfig

        from experiments.folder.store import RunFolder

        number = self.folder.number_of(HydraConfig.get().overrides.task)
        os.chdir(self.here)
        identity = identity_of(config)
        place = RunFolder.of(
            out=config.out, runs=config.runs, name=config.name, seed=config.seed, digest=digest_of(identity)
        ).path
        if self.folder.is_complete(number, place, identity):
            self._say(number, f"was complete, {place}")
            return
        screen = console()
        screen.quiet = not self.loud
        self.folder.record(number, "begun", place)
        # Stays so after an interrupt, which ends the sweep, and a defect, which Hydra collects: the others go on.
        error: str | None = f"stopped before its end; {place}.log says by what"
        try:
            error = told(lambda: carry_out(config, screen, self.folder.path))
        finally:
            self.folder.record(number, "failed" if error else "complete", place, error)
        self._say(number, f"failed: {error}" if error else f"complete, {place}")

    def _say(self, number: int, how: str) -> None:
        label = self.folder.read()[number].label
        sys.stdout.write(f"[{number + 1}/{len(self.folder.values)}] {label}: {how}\n")
        sys.stdout.flush()


def _launcher(words: Sequence[str]) -> str:
    """The launcher's name. Raises UsageError if its plugin is missing, or for a sweeper that chooses values itself."""
    chosen = {name: value for name, _, value in (word.partition("=") for word in words)}
    if chosen.get("hydra/sweeper", "basic") != "basic":
        raise UsageError(
            f"hydra/sweeper is {chosen['hydra/sweeper']!r}; expected none: the runs of a sweep are listed when it "
            "begins, so give values with commas between them"
        )
    launcher = chosen.get("hydra/launcher", "basic")
    module, extra = _PLUGINS.get(launcher, ("", ""))
    if extra and (find_spec("hydra_plugins") is None or find_spec(f"hydra_plugins.{module}") is None):
        raise UsageError(
            f"hydra/launcher={launcher} is not installed; install it with: pip install 'synthpoll[{extra}]'"
        )
    return launcher


def _planned(words: Sequence[str]) -> tuple[SweepFolder, Any]:
    """The sweep, and the configuration of its first run. Raises UsageError for words that do not compose."""
    from hydra import compose, initialize_config_module
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    from experiments.sweep import SweepFolder
    from experiments.sweep import digest_of as digest_of_sweep

    try:
        with initialize_config_module("conf", version_base="1.3"):
            parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
            # Of a key that is given twice the last counts, as with Hydra's sweeper.
            given = {override.get_key_element(): override for override in parser.parse_overrides(list(words))}
            task = {key: override for key, override in given.items() if not key.startswith(_HYDRA)}
            swept = {
                key: tuple(override.sweep_string_iterator())
                for key, override in task.items()
                if override.is_sweep_override()
            }
            alike = [str(override.input_line) for key, override in given.items() if key not in swept]
            firsts = [f"{key}={values[0]}" for key, values in swept.items()]
            first = compose("config", overrides=[*alike, *firsts], return_hydra_config=True)
    except HydraException as error:
        raise UsageError(" ".join(f"{error} {error.__cause__ or ''}".split())) from None
    if first.hydra.sweeper.params:
        raise UsageError("hydra.sweeper.params is set; expected all values of a sweep on the command line")
    for key, chosen in swept.items():
        if _is_place(key):
            raise UsageError(f"{key} cannot change a result, so it cannot be swept over; give it one value")
        if len(set(chosen)) < len(chosen):
            raise UsageError(f"{key} is {','.join(chosen)}; expected each value once")
    identity = {
        key: swept.get(key) or (override.get_value_element_as_str(),)
        for key, override in task.items()
        if not _is_place(key)
    }
    # Runs of several experiments have several names.
    name = "" if {"experiment", "name"} & set(swept) else first.name
    path = Path(first.out) if first.out else Path(first.runs) / name / f"sweep-{digest_of_sweep(identity)}"
    values = [dict(zip(swept, combination, strict=True)) for combination in itertools.product(*swept.values())]
    return SweepFolder(path=path, overrides=identity, values=values), first


def _tell_spend(words: Sequence[str], folder: SweepFolder) -> None:
    """Say what all runs that spend for good take together of a device: their configurations differ, so they add up.

    These are runs whose noise is the operating system's, and runs that debit a ledger file. Raises UsageError if it is
    above the lifetime cap, before any of them begins.
    """
    from hydra import compose, initialize_config_module
    from hydra.errors import HydraException, InstantiationException

    from privacy.budget import MICRO

    spends: dict[str, Job] = {}  # by what identifies a run: the same run spends once
    swept = {key for values in folder.values for key in values}
    alike = [word for word in words if word.partition("=")[0] not in swept and not word.startswith(_HYDRA)]
    with initialize_config_module("conf", version_base="1.3"):
        for values in folder.values:
            try:
                job, _, digest = load_job(compose("config", [*alike, *(f"{key}={of}" for key, of in values.items())]))
            except (HydraException, InstantiationException):
                continue  # the run itself says why it cannot be
            if job.system_noise or job.ledger is not None:
                spends[digest] = job
    if not spends:
        return
    ledgers = list(dict.fromkeys(job.ledger for job in spends.values() if job.ledger is not None))
    taken = sum(round(job.takes * MICRO) for job in spends.values())  # whole numbers, as a ledger counts
    lifetime = min(job.caps.budget.lifetime for job in spends.values())
    why = "with noise of the operating system"
    if ledgers:
        alone = any(job.ledger is None for job in spends.values())
        why = f"{why}, or" * alone + " " * alone + f"that debit {' or '.join(ledgers)}"
    told = f"{len(spends)} runs {why} take epsilon {taken / MICRO:g} of a device together"
    if taken > lifetime:
        todo = " or lower epsilon" if ledgers else ", lower epsilon, or simulate with noise=seeded"
        raise UsageError(f"the {told}, but caps.lifetime is {lifetime / MICRO:g}; sweep over fewer values{todo}")
    sys.stdout.write(f"{told}: each is a spend of its own, and they add up.\n")
    for ledger in ledgers:
        if Path(ledger).expanduser().exists():
            sys.stdout.write(
                f"{ledger} is there already: what other runs have debited counts as well, and was not added here; see "
                f"synthpoll ledger {ledger}\n"
            )
    sys.stdout.flush()


def _is_place(key: str) -> bool:
    return key.rsplit(".", 1)[-1].lstrip("+~") in NOT_IDENTITY


def _settings(launcher: str, runs: int, workers: object, words: Sequence[str]) -> list[str]:
    """How parallel runs share the cores, as overrides; what the user sets is left alone.

    Both plugins give a run's numerical libraries as many threads as the run has cores: joblib divides the cores by its
    jobs, Ray gives each run the processors that it reserves. Left to themselves, the libraries of each run would take
    all cores.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jobs = max(1, min(runs, cores // workers if isinstance(workers, int) and workers > 0 else cores))
    defaults: dict[str, object] = {}
    if launcher == "joblib":
        # One run at a time to each process: joblib would put short tasks together, and runs take minutes.
        defaults = {"n_jobs": jobs, "batch_size": 1, "pre_dispatch": "all"}
    elif launcher == "ray" and not any(".ray.init.address=" in word for word in words):  # else, a cluster of its own
        defaults = {
            "+ray.init.num_cpus": cores, "+ray.init.include_dashboard": "false", "+ray.remote.num_cpus": cores // jobs
        }  # fmt: skip
    named = {word.partition("=")[0].lstrip("+") for word in words}
    return [
        f"{'+' * key.startswith('+')}hydra.launcher.{key.lstrip('+')}={value}"
        for key, value in defaults.items()
        if f"hydra.launcher.{key.lstrip('+')}" not in named
    ]


def _launch(folder: SweepFolder, words: Sequence[str]) -> int:
    """Let Hydra carry out the runs; returns its exit status, above 0 after an error that is none of ours."""
    import hydra

    os.environ.setdefault("RAY_DEDUP_LOGS", "0")  # the lines of runs look alike and are not the same
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anyone
    alone = not any(word.startswith("hydra/launcher=") for word in words)
    carrier = Carrier(folder, str(Path.cwd()), loud=alone and sys.stdout.isatty())
    sys.argv = ["synthpoll run", "--multirun", *words]
    try:
        hydra.main(version_base="1.3", config_path="pkg://conf", config_name="config")(carrier)()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    return 0


def _conclude(folder: SweepFolder, before: Sequence[Member], after: Sequence[Member], status: int) -> None:
    """Say how the runs ended and compare them; exit if not all is well."""
    from experiments.folder.reader import CompareError

    complete, earlier = (sum(member.status == "complete" for member in members) for members in (after, before))
    sys.stdout.write(f"{complete} of {len(after)} runs of the sweep are complete, {earlier} of them from before.\n")
    no_page = ""
    try:
        folder.collect(console())
    except CompareError as error:
        no_page = f"synthpoll: no page: {error}\n"
    sys.stdout.write(f"Sweep folder: {folder.path}\n")
    sys.stdout.flush()
    sys.stderr.write(no_page)
    missing = [member for member in after if member.status != "complete"]
    if missing:
        lines = [f"  {member.label}: {member.error or member.absence}\n" for member in missing]
        sys.stderr.write(
            f"synthpoll: {len(missing)} of {len(after)} runs are not complete; the others are kept, and the same "
            f"command tries these again:\n{''.join(lines)}"
        )
    if missing or no_page or status:
        sys.exit(status or 2)


def _quoted(path: Path) -> str:
    text = str(path).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"
