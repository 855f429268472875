"""The commands that know Hydra: each takes the words after its name. With experiments/multirun.py the only such files.

    run(["experiment=town", "seed=1"])
    inspect(["runs/town/seed1-1a2b3c4d"])

After one `instantiate` no configuration object is left: everything below works on frozen dataclasses.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

Work = Callable[[Any], None]

# Speed and place cannot change a result, so they are no part of what identifies a run.
NOT_IDENTITY = frozenset({"cache", "ledger", "out", "runs", "tracker", "workers"})


class UsageError(Exception):
    """The command line cannot be understood; the message says what would be."""


def run(arguments: list[str]) -> None:
    """`synthpoll run`: one job of whichever kind, or a sweep of them with --multirun."""
    from experiments.multirun import is_sweep, sweep
    from experiments.use_cases.which import primary_config

    if is_sweep(arguments):
        sweep(primary_config(arguments), arguments)
    else:
        _hydra(primary_config(arguments), "run", arguments, _carry_out)


def generate(arguments: list[str]) -> None:
    """`synthpoll generate`: texts without a poll."""
    _hydra("generate", "generate", arguments, _generate)


def audit(arguments: list[str]) -> None:
    """`synthpoll audit`: of a run folder, or of a mechanism (key=value)."""
    if arguments and "=" not in arguments[0] and not arguments[0].startswith("-"):
        _audit_folder(arguments)
    else:
        _hydra("audit", "audit", arguments, _audit_mechanism)


def inspect(arguments: list[str]) -> None:
    """`synthpoll inspect`: 30 texts of a folder, and numbers; of several folders the numbers, side by side."""
    from hydra.utils import instantiate

    from experiments.inspection import inspect_folder, print_numbers, print_texts

    folders = [Path(argument) for argument in arguments if not argument.startswith("encoder=")]
    judged = [argument for argument in arguments if argument.startswith("encoder=")]
    if not folders or len(judged) > 1:
        raise UsageError("synthpoll inspect takes folders of runs or of synthpoll generate, and at most one encoder=")
    quiet_libraries()
    configs = {folder: _written_config(folder) for folder in folders}
    found = {}
    for folder, config in configs.items():
        encoder = instantiate(_encoder_of(judged[0]) if judged else config.encoder, _convert_="object")
        encoder.check()
        grid = instantiate(config.generator.grid, _convert_="object")
        found[str(folder)] = inspect_folder(folder, encoder, grid)
    if len(found) == 1:
        print_texts(console(120), next(iter(found.values())))
    print_numbers(console(), found)


def load_job(config: Any) -> tuple[Any, str, str]:
    """The Job or UseCaseJob that a composed configuration describes, its identity as YAML, and that's short digest.

    Raises InstantiationException, caused by the part's own error, for values out of range.
    """
    from hydra.utils import instantiate

    identity = identity_of(config)
    return instantiate(config, _convert_="object"), identity, digest_of(identity)


def identity_of(config: Any) -> str:
    """What identifies a run, as YAML: the composed configuration without places and speed knobs."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(_without_place(OmegaConf.to_container(config, resolve=True))))


def digest_of(identity: str) -> str:
    """The short digest in a run folder's name."""
    return hashlib.sha256(identity.encode()).hexdigest()[:8]


def carry_out(config: Any, screen: Console, sweep: Path | None = None) -> Path:
    """Run or continue the job of a composed configuration; return its run folder.

    `sweep` is the folder of the sweep that it is part of, for trackers. Raises the parts' own errors.
    """
    from experiments.job import Job
    from experiments.run import run_job

    quiet_libraries()
    job, identity, digest = load_job(config)
    if isinstance(job, Job):
        return run_job(job, identity, digest, screen, sweep)
    from experiments.use_cases.run import run_use_case

    return run_use_case(job, identity, digest, screen)


def console(width: int = 150) -> Console:
    """What to print on. A pipe has no width of its own; 80 columns would cut a table's headings to pieces."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else width)


def guarded(work: Callable[[], None]) -> None:
    """Run `work`; errors that a user can act on become one line and exit status 2, others keep their traceback."""
    try:
        message = told(work)
    except KeyboardInterrupt:
        sys.stderr.write("\nsynthpoll: interrupted; run the same command again to continue\n")
        sys.exit(130)
    if message is not None:
        sys.stderr.write(f"synthpoll: {message}\n")
        sys.exit(2)


def told(work: Callable[[], object]) -> str | None:
    """Run `work`; the message, one line, of an error that a user can act on. None where all went well."""
    from hydra.errors import InstantiationException

    from aggregate.ingest import BatchError
    from device_poll.population import PopulationError
    from device_poll.sources.items import SourceError
    from embed.encoder import EncoderError
    from experiments.store import StoreError
    from experiments.trackers.tracker import TrackerError
    from privacy.budget import LedgerError
    from synth.generator import GenerationError

    try:
        work()
    except InstantiationException as error:
        # A part refused its values: its own message, without Hydra's wrapping.
        return str(error.__cause__ or error).split("\n", 1)[0]
    except (
        UsageError, SourceError, PopulationError, GenerationError, EncoderError, BatchError, StoreError, LedgerError,
        TrackerError,
    ) as error:  # fmt: skip
        return str(error)
    return None


def quiet_libraries() -> None:
    """Loading bars of model libraries would tear the run's own. By environment, so that none is imported for it."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # forked tokenizers would only warn


def cache_folder() -> str:
    """Where models, texts and vectors are kept, unless a configuration says otherwise."""
    return os.environ.get("SYNTHPOLL_CACHE", "~/.cache/synthpoll")


def device_texts(folder: Path) -> Sequence[str]:
    """The private texts of the devices that the run in `folder` simulates, for measures under oracle/ only."""
    from hydra.utils import instantiate

    texts: Sequence[str] = instantiate(_devices_of(_config_of(folder)), _convert_="object").load().texts
    return texts


def _hydra(configuration: str, command: str, arguments: list[str], work: Work) -> None:
    import hydra

    def job(config: Any) -> None:
        guarded(lambda: work(config))

    sys.argv = [f"synthpoll {command}", *arguments]
    hydra.main(version_base="1.3", config_path="pkg://conf", config_name=configuration)(job)()


def _carry_out(config: Any) -> None:
    carry_out(config, console())


def _generate(config: Any) -> None:
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    from experiments.generate import generate

    quiet_libraries()
    if OmegaConf.is_missing(config, "out"):
        raise UsageError("out is missing; give a folder for the texts, as in out=emails")
    generate(instantiate(config, _convert_="object"), identity_of(config), console())


def _audit_mechanism(config: Any) -> None:
    from hydra.utils import instantiate

    from experiments.audit_run import MechanismAudit

    found: MechanismAudit = instantiate(config, _convert_="object")
    sys.stdout.write(found.run().sentence + "\n")


def _audit_folder(arguments: list[str]) -> None:
    from hydra.utils import instantiate

    from experiments.audit_run import Polling, audit_folder
    from experiments.store import RunFolder

    folder, numbers = Path(arguments[0]), {"trials": 1000, "seed": 0}
    for argument in arguments[1:]:
        name, _, value = argument.partition("=")
        if name not in numbers or not value.isdecimal():
            raise UsageError(f"synthpoll audit RUN takes trials=N and seed=N, not {argument!r}")
        numbers[name] = int(value)
    if numbers["trials"] < 4:
        raise UsageError(
            f"trials is {numbers['trials']}; expected 4 or more plays of each world, a thousand for a bound"
        )
    quiet_libraries()
    config = _config_of(folder)
    config.devices = _devices_of(config)
    parts = {
        name: instantiate(config[name], _convert_="object")
        for name in ("devices", "participation", "answer", "mechanism", "trust", "encoder")
    }
    values = {name: config[name] for name in ("name", "seed", "rounds", "minimum_batch")}
    found = audit_folder(RunFolder(folder), Polling(**parts, **values, cache=cache_folder()), **numbers)
    sys.stdout.write(found.sentence + "\n")


def _written_config(folder: Path) -> Any:
    """The configuration of a folder with texts."""
    from omegaconf import OmegaConf

    if not (folder / "config.yaml").is_file():
        raise UsageError(f"{folder} has no config.yaml; give the folder of a run or of synthpoll generate")
    config = OmegaConf.load(folder / "config.yaml")
    if "generator" not in config:
        raise UsageError(f"{folder} is a run of a use case, which writes no texts; open its report.html")
    if "grid" not in config.generator:
        raise UsageError(f"{folder} was written by {config.generator._target_}, which has no attribute grid to look at")
    return config


def _encoder_of(choice: str) -> Any:
    """The configuration of the encoder that `choice`, such as 'encoder=minilm', names."""
    from hydra import compose, initialize_config_module
    from hydra.errors import HydraException

    refused = UsageError(f"{choice} names no encoder; give one of conf/encoder, such as encoder=minilm")
    if not re.fullmatch(r"encoder=[a-z]\w*", choice) or choice == "encoder=null":
        raise refused
    with initialize_config_module("conf", version_base="1.3"):
        try:
            return compose("generate", [choice, "out=nowhere"]).encoder
        except HydraException:
            raise refused from None


def _config_of(folder: Path) -> Any:
    """The configuration of a run of the main job."""
    from omegaconf import OmegaConf

    if not (folder / "config.yaml").is_file():
        raise UsageError(f"{folder} has no config.yaml; give the folder of a run")
    config = OmegaConf.load(folder / "config.yaml")
    if "trust" not in config:
        raise UsageError(f"{folder} is no run with a trust model; give the folder of a run of this version")
    return config


def _devices_of(config: Any) -> Any:
    """The devices of a run: its configuration holds no places (NOT_IDENTITY), so the cache is today's."""
    from hydra.utils import get_class

    if "cache" in {field.name for field in dataclasses.fields(get_class(config.devices._target_))}:
        config.devices.cache = cache_folder()
    return config.devices


def _without_place(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_place(value) for key, value in node.items() if key not in NOT_IDENTITY}
    return [_without_place(value) for value in node] if isinstance(node, list) else node
