"""Which configuration a command line of `synthpoll run` starts from: the main job's, or that of the use cases.

    primary_config(["experiment=emoji", "population=1e6"])     # "use_case"
    primary_config(["experiment=town"])                     # "config"

An experiment says so itself: it is one of a use case if it chooses a vocabulary, which the main job has none of.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

from device_poll.population import PopulationError

MAIN, USE_CASE = "config", "use_case"


def primary_config(arguments: Sequence[str]) -> str:
    """The name of the primary configuration. An experiment that does not exist is left to Hydra's own message.

    Raises PopulationError for `devices=1e6` with a use case: there, Hydra would look for a part of the main job.
    """
    given = dict(argument.lstrip("+").split("=", 1) for argument in arguments if "=" in argument)
    # experiment=a,b is a sweep; its members must share one primary configuration, so the first tells.
    if not is_use_case(given.get("experiment", "").split(",")[0].strip("'\"")):
        return MAIN
    if "devices" in given:
        raise PopulationError(
            f"devices={given['devices']} would choose a part of the main job; the number of devices of a use case is "
            f"population={given['devices']}"
        )
    return USE_CASE


def use_cases() -> tuple[str, ...]:
    """The packaged experiments of use cases, in alphabetical order."""
    folder = resources.files("conf") / "experiment"
    names = (entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    return tuple(sorted(name for name in names if is_use_case(name)))


def is_use_case(experiment: str) -> bool:
    """Whether a packaged experiment chooses a vocabulary."""
    from omegaconf import DictConfig, OmegaConf

    path = resources.files("conf") / "experiment" / f"{experiment}.yaml"
    if not path.is_file():
        return False
    config = OmegaConf.create(path.read_text(encoding="utf-8"))
    defaults = config.get("defaults") if isinstance(config, DictConfig) else None
    return any("override /vocabulary" in entry for entry in defaults or () if not isinstance(entry, str))
