"""The job of a run folder, made again from its config.yaml: for commands that look at a run or add to it.

    run = load_run(Path("runs/emoji/seed0-1a2b3c4d"))
    run.job                          # a RefineJob or a CountJob, as it was carried out

A configuration in a run folder holds no places (experiments.launch.NOT_IDENTITY), so the cache is today's, and a ledger
file has to be named again. Folders of the main job of earlier versions are read too: only two names changed.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.folder.damage import StoreError, refuse_earlier
from experiments.folder.layout import CONFIG
from experiments.folder.reader import RunFiles
from experiments.folder.store import RunFolder
from experiments.job import Job
from experiments.launch import cache_folder

_RENAMED = {
    "experiments.job.Job": "experiments.refine.job.RefineJob",
    "experiments.evaluate.EvaluationRule": "experiments.refine.evaluate.EvaluationRule",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """A run folder, the text of its configuration, and the job that this describes."""

    folder: RunFolder
    config: str = field(repr=False)
    job: Job


def read_config(path: Path) -> Any:
    """The configuration of the run in the folder `path`, with today's names and cache.

    Raises StoreError for a folder that is no run, or one of an earlier version that cannot be read.
    """
    from omegaconf import OmegaConf

    if not (path / CONFIG).is_file():
        raise StoreError(f"{path} has no {CONFIG}; give the folder of a run")
    config = written_config(path)
    refuse_earlier(path, config.get("_target_"))
    if "trust" not in config:
        raise StoreError(f"{path} is no run with a trust model; give the folder of a run of this version")
    return OmegaConf.create(_today(OmegaConf.to_container(config, resolve=True)))


def written_config(path: Path) -> Any:
    """The configuration in the folder `path` as it stands there. Raises StoreError for a damaged one."""
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    files = RunFiles.everything(path)
    try:
        config = OmegaConf.create(files.bytes(CONFIG).decode())
    except (ValueError, YAMLError, OmegaConfBaseException) as error:
        raise files.damaged(CONFIG, type(error).__name__) from None
    if not isinstance(config, DictConfig):
        raise files.damaged(CONFIG, "not a YAML mapping")
    return config


def load_run(path: Path, ledger: str | None = None) -> Run:
    """The run in the folder `path`; `ledger` is the file that it debited.

    Raises StoreError as `read_config`, and InstantiationException, caused by the part's own error, for a configuration
    that today's parts refuse.
    """
    from hydra.utils import instantiate

    config = read_config(path)
    job = instantiate(config, ledger=ledger, _convert_="object")
    if not isinstance(job, Job):
        raise StoreError(f"{path} holds a {type(job).__name__} and no run; give the folder of a run")
    return Run(folder=RunFolder(path), config=RunFiles.everything(path).bytes(CONFIG).decode(), job=job)


def _today(node: Any) -> Any:
    """The node with today's names of classes, and today's cache in every part that has one."""
    from hydra.utils import get_object

    if isinstance(node, list):
        return [_today(each) for each in node]
    if not isinstance(node, dict):
        return node
    node = {key: _today(each) for key, each in node.items()}
    target = node.get("_target_")
    if isinstance(target, str):
        node["_target_"] = target = _RENAMED.get(target, target)
        made: Any = get_object(target)
        if dataclasses.is_dataclass(made) and "cache" in {each.name for each in dataclasses.fields(made)}:
            node["cache"] = cache_folder()
    return node
