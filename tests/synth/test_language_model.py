"""The generator: on a tiny model of random weights, and on a scripted fake writer so that every text is known."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from numpy.typing import NDArray

from synth.attributes import AttributeGrid
from synth.corpus import Corpus, Example
from synth.filters import Filters
from synth.generator import GenerationError
from synth.language_model import LanguageModelGenerator
from synth.local_writer import LocalWriter
from synth.prompts import EmailForm, ImagePromptForm, ShownExample
from synth.variation import OPERATORS, Operators
from synth.weights import ModelSource
from synth.writer import Answer, Failure, Prompt
from tests.synth.conftest import GRID

LENIENT = Filters(
    min_words=1, max_words=500, min_distinct_trigrams=0.0, max_copied_words=500, personal_data=False, language=None
)
FORM = EmailForm()


def stream(seed: int = 0) -> np.random.SeedSequence:
    return np.random.SeedSequence(seed)


def quiet(kept: int, wanted: int) -> None:
    pass


def tiny_generator(folder: Path, cache: Path, writer: Mapping[str, Any] | None = None, **changes: Any) -> Any:
    settings = {"temperature": 1.0, "top_k": 600, "top_p": 1.0, "chunk": 5, **(writer or {})}
    local = LocalWriter(source=ModelSource(model=str(folder)), cache=cache, **settings)
    return replace(LanguageModelGenerator(writer=local, grid=GRID, filters=LENIENT), **changes)


def test_the_same_seed_gives_the_same_texts(folder: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    first = tiny_generator(folder, tmp_path / "a").seed(8, stream(), lambda *now: told.append(now))
    assert len(first.corpus) == 8 and told[0] == (0, 8) and told[-1] == (8, 8)
    assert first.attempted == 8 + sum(first.drops.values()) and first.attempted % 5 == 0
    assert len(set(first.corpus.texts)) == 8
    for example in first.corpus:
        assert example.text[-1] in ".!?\"')" and example.operator == "seed" and example.parents == ()
    assert any(example.subject for example in first.corpus)
    again = tiny_generator(folder, tmp_path / "b").seed(8, stream(), quiet)
    assert again == first
    assert tiny_generator(folder, tmp_path / "b").seed(8, stream(1), quiet).corpus != first.corpus


def test_finished_chunks_are_not_written_again(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = tiny_generator(folder, tmp_path).seed(6, stream(), quiet)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "generation").iterdir()}
    assert len(kept) == first.attempted // 5

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the model must not be loaded")

    with monkeypatch.context() as patch:
        patch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", refuse)
        again = tiny_generator(folder, tmp_path).seed(6, stream(), quiet)
        assert again == first and (again.tokens, again.reused) == (0, again.attempted)
        assert first.tokens is not None and first.tokens > 5 * first.attempted and first.reused == 0
        assert {path: path.stat().st_mtime_ns for path in (tmp_path / "generation").iterdir()} == kept
        # Negative control: other numbers or settings are not served from these chunks.
        for other in ({"temperature": 0.9}, {"top_k": 7}, {"top_p": 0.5}):
            with pytest.raises(AssertionError, match="must not be loaded"):
                tiny_generator(folder, tmp_path, other).seed(6, stream(), quiet)
        with pytest.raises(AssertionError, match="must not be loaded"):
            tiny_generator(folder, tmp_path).seed(6, stream(1), quiet)
    # A killed run lost one chunk: it is written again, the same.
    next(iter(kept)).unlink()
    assert tiny_generator(folder, tmp_path).seed(6, stream(), quiet) == first


def test_chunks_of_equal_prompts_and_other_random_numbers_are_kept_apart(folder: Path, tmp_path: Path) -> None:
    one = AttributeGrid(
        axes={axis: entries[:1] for axis, entries in GRID.axes.items()},
        groups={"a late train": "any"},
        length_words={"short": (5, 10)},
    )
    generator = tiny_generator(folder, tmp_path, grid=one, form=ImagePromptForm())
    texts = [generator.seed(3, stream(seed), quiet).corpus for seed in (0, 1)]
    assert {example.prompt for corpus in texts for example in corpus} == {texts[0].examples[0].prompt}
    assert not set(texts[0].texts) & set(texts[1].texts)


def test_too_few_kept_texts_say_why(folder: Path, tmp_path: Path) -> None:
    strict = tiny_generator(folder, tmp_path, filters=replace(LENIENT, min_words=400), attempts=1.0)
    with pytest.raises(GenerationError, match=r"only 0 of 3 texts were kept after 8 attempts \(.*too short \d"):
        strict.seed(3, stream(), quiet)


# What is asked for and what becomes of it: a fake writes, so that every text is known.


@dataclass(frozen=True)
class ScriptedFakeWriter:
    """Fake: numbered emails, and every prompt it was given."""

    chunk: int = 5
    answers: Mapping[int, Answer | Failure] = field(default_factory=dict)
    chunks: list[list[Prompt]] = field(default_factory=list)
    shared: list[Sequence[Mapping[str, str]]] = field(default_factory=list)
    name: str = "scripted fake"
    reproducible: None = None
    continues: bool = False

    def check(self) -> None:
        pass

    def write(
        self, shared: Sequence[Mapping[str, str]], prompts: Sequence[Prompt], stream: np.random.SeedSequence
    ) -> list[Answer | Failure]:
        self.chunks.append(list(prompts))
        self.shared.append(shared)
        number = len(self.chunks)
        starts = [prompt.begin or f"Subject: S{i}\n\n" for i, prompt in enumerate(prompts)]
        texts = [f"{start} Text {number} {i} is here. And more" for i, start in enumerate(starts)]
        return [self.answers.get(i, Answer(text=text)) for i, text in enumerate(texts)]


def scripted(chunk: int = 5, **changes: Any) -> tuple[LanguageModelGenerator, ScriptedFakeWriter]:
    fields = {name: changes.pop(name) for name in ("answers", "continues") if name in changes}
    writer = ScriptedFakeWriter(chunk=chunk, **fields)
    return replace(LanguageModelGenerator(writer=writer, grid=GRID, filters=LENIENT), **changes), writer


def parents(n: int) -> Corpus:
    asked = GRID.sample(n, np.random.default_rng(0))
    return Corpus(
        tuple(
            Example(
                text=f"This is the parent number {i}. It goes on.",
                subject=f"About {i}",
                attributes=asked[i],
                operator="seed",
                round=0,
                model="m",
                prompt="p",
                family="" if i else "0123456789abcdef",
            )
            for i in range(n)
        )
    )


def test_children_follow_the_weights_and_record_their_lineage() -> None:
    corpus = parents(4)
    operators = Operators(shares={"attribute_change": 1, "winner_example": 1})
    generator, writer = scripted(7, operators=operators)
    made = generator.vary(corpus, np.array([4.0, 1.0, 0.0, 3.0]), 16, 3, stream(), quiet)
    by_id = dict(zip(corpus.ids, corpus, strict=True))
    assert Counter(child.parents[0] for child in made.corpus) == {corpus.ids[0]: 8, corpus.ids[1]: 2, corpus.ids[3]: 6}
    assert {child.operator for child in made.corpus} == {"attribute_change", "winner_example"}
    prompts = [prompt for chunk in writer.chunks for prompt in chunk]
    for child, prompt in zip(made.corpus, prompts, strict=False):
        parent = by_id[child.parents[0]]
        assert child.family == parent.root and child.round == 3 and child.model == generator.name
        assert child.attributes["topic"] == parent.attributes["topic"]
        assert child.attributes != parent.attributes and " -> " in child.change
        assert prompt.turns[-1]["content"] == FORM.request(child.attributes)
        # Only one of the two operators shows the model its parent.
        shown = ShownExample(attributes=parent.attributes, subject=parent.subject, body=parent.text)
        before = FORM.turns(shown) if child.operator == "winner_example" else []
        assert list(prompt.turns[:-1]) == before
    assert made.corpus.examples[0].text == "Text 1 0 is here." and made.corpus.examples[0].subject == "S0"
    assert made.attempted == 21 and made.drops == {"surplus": 5}


def test_a_chunk_shares_three_examples_behind_the_system_message() -> None:
    generator, writer = scripted(shown=3, system="Be brief.")
    generator.seed(12, stream(), quiet)
    for shared in writer.shared:
        assert [turn["role"] for turn in shared] == ["system", *["user", "assistant"] * 3]
        assert shared[0]["content"] == "Be brief."
        bodies = {example.body for example in generator.examples}
        assert all(turn["content"].partition("\n\n")[2] in bodies for turn in shared[2::2])
    assert writer.shared[0] != writer.shared[1], "examples change from chunk to chunk"


def test_answers_are_begun_where_the_writer_can_continue() -> None:
    generator, writer = scripted(continues=True)
    generator.seed(5, stream(), quiet)
    prompts = writer.chunks[0]
    assert all(prompt.begin.startswith("Subject: ") for prompt in prompts)
    assert len({prompt.begin for prompt in prompts}) == 5
    generator, writer = scripted()
    generator.seed(5, stream(), quiet)
    assert {prompt.begin for prompt in writer.chunks[0]} == {""}
    unable = replace(generator, operators=Operators(shares={"continuation": 1}))
    with pytest.raises(GenerationError, match="cannot continue a text"):
        unable.check()


def test_a_continuation_begins_with_the_parents_first_sentence() -> None:
    generator, _ = scripted(operators=Operators(shares={"continuation": 1}), continues=True)
    made = generator.vary(parents(2), np.ones(2), 4, 1, stream(), quiet)
    for child in made.corpus:
        assert re.match(r"This is the parent number [01]\. Text 1 \d is here\.$", child.text)
        assert child.operator == "continuation" and child.change == "all but the first 6 words"


def test_a_word_that_runs_on_from_the_words_begun_is_dropped() -> None:
    form = EmailForm(openings={"any": ["About {topic}"]})
    generator, writer = scripted(form=form, continues=True)
    generator.seed(5, stream(), quiet)
    begun = writer.chunks[0][0].begin
    generator, _ = scripted(form=form, continues=True, answers={0: Answer(text=f"{begun}ers are here. And more")})
    assert generator.seed(5, stream(), quiet).drops["word run on"] >= 1


def test_failures_are_counted_among_the_drops() -> None:
    generator, _ = scripted(answers={1: Failure(reason="endpoint: stalled"), 3: Answer(text="   ")})
    made = generator.seed(6, stream(), quiet)
    assert made.corpus.texts == [f"Text {chunk} {i} is here." for chunk in (1, 2) for i in (0, 2, 4)]
    assert made.drops == {"endpoint: stalled": 2, "no body": 2} and made.attempted == 10
    assert made.tokens is None, "this backend does not count"


def test_seeds_spread_over_the_topics_or_follow_stated_shares() -> None:
    generator, writer = scripted()
    made = generator.seed(30, stream(), quiet)
    topics = Counter(example.attributes["topic"] for example in made.corpus)
    assert set(topics) == set(GRID.axes["topic"]) and min(topics.values()) >= 3
    assert {len(chunk) for chunk in writer.chunks} == {5}
    dry, _ = scripted(shares={"tone": {"dry": 1.0, "warm": 0.0}})
    assert {e.attributes["tone"] for e in dry.seed(20, stream(), quiet).corpus} == {"dry"}


def test_the_topic_filter_is_used_once_an_encoder_is_given() -> None:
    def encode(texts: Any) -> NDArray[np.float32]:
        # Every other text of a chunk is off its topic; the others differ from each other.
        rows = []
        for text in texts:
            found = re.search(r"Text (\d) (\d) ", text)
            angle = 0.0 if not found else 1.5 if found[2] in "13" else 0.15 * int(found[1]) + 0.02 * int(found[2])
            rows.append([np.cos(angle), np.sin(angle)])
        return np.array(rows, dtype=np.float32)

    generator, _ = scripted(filters=replace(LENIENT, max_similarity=1.0))
    made = generator.with_encoder(encode).seed(6, stream(), quiet)
    assert made.corpus.texts == [f"Text {chunk} {i} is here." for chunk in (1, 2) for i in (0, 2, 4)]
    assert made.drops == {"off topic": 4}


def test_a_text_that_drifts_is_cut_and_dropped_if_too_short_then() -> None:
    def encode(texts: Any) -> NDArray[np.float32]:
        return np.array([[0.0, 1.0] if "whales" in text else [1.0, 0.0] for text in texts], dtype=np.float32)

    fewest = GRID.words({"length": "short"})[0]
    enough, few = " ".join(["word"] * fewest) + ".", " ".join(["word"] * (fewest - 1)) + "."
    answers = {0: Answer(text=f"{enough} I love whales."), 1: Answer(text=f"{few} I love whales.")}
    off = replace(LENIENT, max_similarity=1.0, min_topic_similarity=-1)
    for filters, kept, dropped in (
        (off, [f"{enough} I love whales.", f"{few} I love whales."], {}),
        (replace(off, min_sentence_similarity=0.5), [enough], {"drifting": 1}),
    ):
        grid = replace(GRID, length_words={"short": (fewest, 30)}, axes={**GRID.axes, "length": ("short",)})
        generator, _ = scripted(2, answers=answers, filters=filters, grid=grid)
        made = generator.with_encoder(encode).seed(len(kept), stream(), quiet)
        assert (made.corpus.texts, made.drops) == (kept, dropped)


def test_a_prompt_that_says_no_more_than_it_was_begun_with_is_dropped() -> None:
    grid = replace(GRID, axes={**GRID.axes, "action": ("dancing",)})
    generator, writer = scripted(1, form=ImagePromptForm(), grid=grid, continues=True)
    made = generator.seed(1, stream(), quiet)
    begun = writer.chunks[0][0].begin
    assert made.corpus.texts[0].startswith(begun) and begun
    generator, _ = scripted(1, form=ImagePromptForm(), grid=grid, continues=True, answers={0: Answer(text=begun)})
    assert generator.seed(1, stream(), quiet).drops == {"nothing added": 1}
    # Where a short prompt was asked for and nothing else, the topic alone will do.
    grid = replace(GRID, axes={**GRID.axes, "length": ("short",)}, length_words={"short": (5, 10)})
    generator, writer = scripted(1, form=ImagePromptForm(), grid=grid, continues=True)
    generator.seed(1, stream(), quiet)
    begun = writer.chunks[0][0].begin
    generator, _ = scripted(1, form=ImagePromptForm(), grid=grid, continues=True, answers={0: Answer(text=begun)})
    assert generator.seed(1, stream(), quiet).corpus.texts == [begun]


def test_a_text_with_a_subject_gets_more_tokens() -> None:
    limits = []
    for form in (EmailForm(), ImagePromptForm()):
        generator, writer = scripted(form=form, continues=True)
        generator.seed(5, stream(), quiet)
        limits.append([prompt.limit for prompt in writer.chunks[0]])
    assert [email - image for email, image in zip(*limits, strict=True)] == [20] * 5


def test_a_near_copy_of_a_winner_is_dropped() -> None:
    def encode(texts: Any) -> NDArray[np.float32]:
        angles = [0.0 if "parent" in text or re.search(r" [12] is here", text) else 1.2 for text in texts]
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    filters = replace(LENIENT, min_topic_similarity=-1, max_similarity=0.9)
    generator, _ = scripted(filters=filters)
    made = generator.with_encoder(encode).vary(parents(2), np.ones(2), 1, 1, stream(), quiet)
    assert made.corpus.texts == ["Text 1 0 is here."] and made.drops == {"near duplicate": 4}


@pytest.mark.parametrize(
    ("corpus", "weights"),
    [(Corpus(), []), (parents(2), [0.0, 0.0]), (parents(2), [2.0, -1.0]), (parents(2), [1.0, np.nan])],
)
def test_nothing_to_vary(corpus: Corpus, weights: list[float]) -> None:
    with pytest.raises(GenerationError, match=f"nothing to vary: {len(corpus)} parents"):
        scripted()[0].vary(corpus, np.array(weights), 3, 1, stream(), quiet)


def test_check_finds_missing_folders(folder: Path, tmp_path: Path) -> None:
    tiny_generator(folder, tmp_path).check()
    with pytest.raises(GenerationError, match="does not exist"):
        tiny_generator(tmp_path / "none", tmp_path).check()


@pytest.mark.parametrize("fields", [{"max_new_tokens": 0}, {"attempts": 0.5}])
def test_bad_settings(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"generator.{next(iter(fields))} is {next(iter(fields.values()))}"):
        scripted(**fields)


def test_shares_of_what_is_not_in_the_grid_are_refused() -> None:
    with pytest.raises(ValueError, match="furious"):
        scripted(shares={"tone": {"furious": 1.0}})


@pytest.mark.parametrize(
    "fields", [{"chunk": 0}, {"temperature": 0.0}, {"top_k": 0}, {"top_p": 1.5}, {"precision": "int4"}]
)
def test_bad_settings_of_the_local_writer(folder: Path, fields: dict[str, Any]) -> None:
    name, value = next(iter(fields.items()))
    with pytest.raises(ValueError, match=f"writer.{name} is {value!r}"):
        tiny_generator(folder, folder, fields)


def test_a_missing_gpu_is_told_before_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(GenerationError, match=r"writer\.device is cuda, but torch sees no CUDA device"):
        tiny_generator(folder, folder, {"device": "cuda", "precision": "bfloat16"}).check()


def test_int8_needs_a_llama(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from synth.llama import LlamaWeights

    monkeypatch.setattr(LlamaWeights, "supports", staticmethod(lambda config: False))
    with pytest.raises(GenerationError, match="precision is int8, which is for models of the Llama family"):
        tiny_generator(folder, tmp_path, {"precision": "int8"}).seed(1, stream(), quiet)


def test_rewriting_is_probed_before_it_is_used() -> None:
    """The scripted writer's answers never move: the operator is refused with the measured rate."""

    def encode(texts: Any) -> NDArray[np.float32]:
        return np.tile(np.array([[1.0, 0.0]], dtype=np.float32), (len(texts), 1))

    generator, writer = scripted(operators=Operators(shares={"rewrite": 1}))
    with pytest.raises(GenerationError, match=r"asked to rewrite \d+ texts about another topic, .* did so 0 times"):
        generator.with_encoder(encode).vary(parents(2), np.ones(2), 1, 1, stream(), quiet)
    with pytest.raises(GenerationError, match="needs an encoder"):
        generator.vary(parents(2), np.ones(2), 1, 1, stream(), quiet)
    asked = writer.chunks[0][0].turns[-1]["content"]
    assert asked.startswith("Rewrite") and generator.examples[0].body in asked

    def follows(texts: Any) -> NDArray[np.float32]:
        # A model that does as asked: its answers are near the new topic, away from the old one.
        topics = [example.attributes["topic"] for example in generator.examples]
        rows = [np.eye(len(topics) + 1)[topics.index(t) if t in topics else -1] for t in texts]
        vectors = np.array(rows, dtype=np.float32)
        for i, text in enumerate(texts):
            if found := re.search(r"Text 1 (\d+) is", text):
                vectors[i] = np.eye(len(topics) + 1)[(int(found[1]) + 1) % len(topics)]
        return vectors

    able, _ = scripted(
        operators=Operators(shares={"rewrite": 1}),
        filters=replace(LENIENT, min_topic_similarity=-1, max_similarity=1.0),
    )
    made = able.with_encoder(follows).vary(parents(2), np.ones(2), 1, 1, stream(), quiet)
    assert made.corpus.examples[0].operator == "rewrite" and "topic: " in made.corpus.examples[0].change
    assert "rewrite" in OPERATORS
