"""The commands that know Hydra: each takes the words after its name.

run(["experiment=town", "seed=1"])
inspect(["runs/town/seed1-1a2b3c4d"])
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.folder.layout import CONFIG, PAGE
from experiments.launch import UsageError, carry_out, console, guarded, identity_of, quiet_libraries
from experiments.multirun import is_sweep, sweep
from experiments.words import explained, understood

Work = Callable[[Any], None]
_FULL_ERROR = "HYDRA_FULL_ERROR"


def run(arguments: list[str]) -> None:
    """`synthpoll run`: one job of whichever kind, or a sweep of them with --multirun.

    Raises UsageError for words that mean something else than they say.
    """
    words = understood("run", arguments)
    _check_devices(words)
    if is_sweep(words):
        sweep(words)
    else:
        _hydra("config", "run", words, _carry_out)


def _check_devices(words: Sequence[str]) -> None:
    given = dict(word.lstrip("+").split("=", 1) for word in words if "=" in word)
    if re.fullmatch(r"[\d.e+_]+", given.get("devices", "")):
        raise UsageError(
            f"devices={given['devices']} would choose a source of devices, such as mail or town; the number of devices "
            f"of a use case is population={given['devices']}"
        )


def generate(arguments: list[str]) -> None:
    """`synthpoll generate`: texts without a poll."""
    _hydra("generate", "generate", understood("generate", arguments), _generate)


def audit(arguments: list[str]) -> None:
    """`synthpoll audit`: of a run folder, or of a mechanism (key=value)."""
    if arguments and "=" not in arguments[0] and not arguments[0].startswith("-"):
        _audit_folder(arguments)
    else:
        _hydra("audit", "audit", understood("audit", arguments), _audit_mechanism)


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


def device_texts(folder: Path) -> Sequence[str]:
    """The private texts of the devices that the run in `folder` simulates, for measures under oracle/ only."""
    from hydra.utils import instantiate

    from experiments.finished import read_config

    texts: Sequence[str] = instantiate(read_config(folder).devices, _convert_="object").load().texts
    return texts


def _hydra(configuration: str, command: str, arguments: list[str], work: Work) -> None:
    """Compose the configuration and do the work. Raises UsageError, one line, for words that cannot be composed."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    begun: list[bool] = []

    def job(config: Any) -> None:
        begun.append(True)
        guarded(lambda: work(config))

    sys.argv = [f"synthpoll {command}", *arguments]
    before = os.environ.get(_FULL_ERROR)
    os.environ[_FULL_ERROR] = "1"  # an error is raised and not printed, over many lines
    message = ""
    try:
        hydra.main(version_base="1.3", config_path="pkg://conf", config_name=configuration)(job)()
    except (HydraException, OmegaConfBaseException) as error:
        if begun:  # no word of the command line is at fault
            raise
        message = explained(error, configuration, arguments)
    finally:
        os.environ.pop(_FULL_ERROR, None)
        if before is not None:
            os.environ[_FULL_ERROR] = before
    if message:
        raise UsageError(message)


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

    from experiments.audit.mechanism import MechanismAudit

    found: MechanismAudit = instantiate(config, _convert_="object")
    sys.stdout.write(found.run().sentence + "\n")


def _audit_folder(arguments: list[str]) -> None:
    from experiments.audit.run import audit_run_folder
    from experiments.finished import load_run

    folder, numbers = Path(arguments[0]), {"trials": 2000, "seed": 0}
    for argument in arguments[1:]:
        name, _, value = argument.partition("=")
        if name not in numbers or not value.isdecimal():
            raise UsageError(f"synthpoll audit RUN takes trials=N and seed=N, not {argument!r}")
        numbers[name] = int(value)
    if numbers["trials"] < 4:
        raise UsageError(
            f"trials is {numbers['trials']}; expected 4 or more plays of each world, thousands for a verdict"
        )
    quiet_libraries()
    found = audit_run_folder(load_run(folder), **numbers, screen=console())
    sys.stdout.write(found.sentence + "\n")


def _written_config(folder: Path) -> Any:
    """The configuration of a folder with texts."""
    from experiments.finished import written_config

    if not (folder / CONFIG).is_file():
        raise UsageError(f"{folder} has no {CONFIG}; give the folder of a run or of synthpoll generate")
    config = written_config(folder)
    if "generator" not in config:
        raise UsageError(f"{folder} is a run of a use case, which writes no texts; open its {PAGE}")
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
