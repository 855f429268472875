"""One configuration carried out, and its errors told in one line: what every command line of ours rests on.

    job, identity, digest = load_job(config)      # a composed Hydra configuration
    guarded(lambda: carry_out(config, console()))

After one `instantiate` no configuration object is left: everything below works on frozen dataclasses.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

# Speed, place and whose reports are kept cannot change a result, so they are no part of what identifies a run.
NOT_IDENTITY = frozenset({"cache", "ledger", "out", "runs", "tracker", "watch", "workers"})


class UsageError(Exception):
    """The command line cannot be understood; the message says what would be."""


def load_job(config: Any) -> tuple[Any, str, str]:
    """The Job that a composed configuration describes, its identity as YAML, and that's short digest.

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
    from experiments.run import run_job

    quiet_libraries()
    job, identity, digest = load_job(config)
    return run_job(job, identity, digest, screen, sweep)


def console(width: int = 150) -> Console:
    """What to print on. A pipe has no width of its own; 80 columns would cut a table's headings to pieces.

    Names of folders, elements and texts are printed as they are: '[/b]' and ':smile:' mean nothing here. What is to be
    bold is a rich.text.Text.
    """
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else width, markup=False, emoji=False)


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
    from omegaconf.errors import MissingMandatoryValue

    from aggregate.intake import BatchError
    from device_poll.population import PopulationError
    from device_poll.sources.items import SourceError
    from embed.encoder import EncoderError
    from experiments.folder.store import StoreError
    from experiments.trackers.tracker import TrackerError
    from privacy.budget import LedgerError
    from synth.generator import GenerationError

    try:
        work()
    except InstantiationException as error:
        # A part refused its values: its own message, without Hydra's wrapping.
        message = str(error.__cause__ or error).split("\n", 1)[0]
        unknown = re.search(r"got an unexpected keyword argument '(\w+)'", message)
        return f"there is no key {unknown[1]!r} where it is given; leave it out" if unknown else message
    except MissingMandatoryValue as error:
        key = str(getattr(error, "full_key", "") or "a value")
        return f"{key} is missing; give {key}=VALUE"
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


def _without_place(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_place(value) for key, value in node.items() if key not in NOT_IDENTITY}
    return [_without_place(value) for value in node] if isinstance(node, list) else node
