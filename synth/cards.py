"""The card of a released data set: README.md with the header that the datasets library reads, and what a reader needs.

    Card(title="synthpoll town, seed 0", ...).render()

A card is made of names, released numbers and the privacy statement's paragraph; nothing in it is measured on device
data. It holds no date, so equal releases have equal cards.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import yaml

_CODES = {
    "English": "en", "German": "de", "French": "fr", "Spanish": "es", "Italian": "it", "Portuguese": "pt",
}  # fmt: skip
_POOL = re.compile(r"(pool:.* [0-9a-f]{12})(?: \+ (.+))?")
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_COLUMNS = {
    "text, subject": "what the model wrote (an empty subject: none was written)",
    "weight": "share of devices that this one of all {all} examples stands for, estimated from noisy votes",
    "attributes": "what the model was asked for, or columns of a pool; `template` and `entities` are the topic's "
    "pattern and its fillings",
    "id, parents, family": "lineage: content address, what it was made from, the seed text that it descends from",
    "operator, change, round": "how it was made, what that changed, and in which round",
    "model, prompt": "who wrote it, and the digest of the prompt",
}
_CHAT_COLUMNS = {
    "messages": "one user and one assistant turn",
    "task": "which of the tasks below",
    "weight": "share of devices that the example behind it stands for, estimated from noisy votes. The same in each of "
    "its tasks, so take one task or divide",
    "id, family": "the example behind it, and the seed text that it descends from",
}


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a card says.

    `counts`, `sizes` and `paths` give each split's rows, bytes as a table in memory, and file; `schema` the columns;
    `kept` and `total` how many examples of the corpus are in it, `share` their part of the votes; `polls` how many
    polls the corpus has behind it; `tasks` (task -> rows, explained in `explained`) only for chat data; `warnings` why
    it must not be released, if so; `simulation` why the noise protects nobody, if so.
    """

    title: str
    noun: str
    warnings: tuple[str, ...]
    simulation: str
    facts: Mapping[str, str]
    privacy: str
    generator: str
    languages: tuple[str, ...]
    polls: int
    kept: int
    total: int
    share: float
    counts: Mapping[str, int]
    sizes: Mapping[str, int]
    paths: Mapping[str, str]
    schema: pa.Schema
    tasks: Mapping[str, int]
    explained: Mapping[str, str]

    def render(self) -> str:
        """The text of README.md."""
        sections = {
            "How it was made": self._made(),
            "Privacy": self._privacy(),
            "Intended use": self._use(),
            "Columns": self._columns(),
            "Tasks": self._tasks(),
            "Split": self._split(),
            "Limits": self._limits(),
            "Licences and terms": f"{terms_of(self.generator)} No licence is set for the data: whoever publishes it "
            "chooses one that fits these terms.",
        }
        body = "".join(f"\n## {name}\n\n{text}\n" for name, text in sections.items() if text)
        return f"---\n{self._header()}---\n\n# {self.title}\n\n{self._opening()}\n{body}"

    def _header(self) -> str:
        header = {
            "pretty_name": self.title,
            "language": sorted({_CODES[name] for name in self.languages if name in _CODES}),
            "task_categories": ["text-generation"],
            "size_categories": [next((name for most, name in _SIZES if sum(self.counts.values()) < most), "n>1M")],
            "tags": [
                "synthetic",
                "differential-privacy",
                "synthpoll",
                *(["not-for-release"] if self.warnings else []),
                *(["simulation"] if self.simulation else []),
            ],
            "configs": [
                {
                    "config_name": "default",
                    "data_files": [{"split": split, "path": path} for split, path in self.paths.items()],
                }
            ],
            # The datasets library checks what it loads against this.
            "dataset_info": {
                "features": features(self.schema),
                "splits": [
                    {"name": split, "num_bytes": self.sizes[split], "num_examples": count}
                    for split, count in self.counts.items()
                ],
            },
        }
        header = {name: value for name, value in header.items() if value}
        return yaml.safe_dump(header, sort_keys=False, allow_unicode=True, width=1000)

    def _opening(self) -> str:
        warned = "".join(f"> **Not for release:** {warning}\n\n" for warning in self.warnings)
        warned += f"> {self.simulation}\n\n" if self.simulation else ""
        told = " and ".join(
            f"{count} {name} {'conversations' if self.tasks else 'examples'}"
            for name, count in (("training", self.counts.get("train", 0)), ("test", self.counts.get("test", 0)))
        )
        chosen = (
            "no device has been polled for them: this is the corpus that a run starts from"
            if not self.polls
            else "private polls of devices decided which were kept and varied"
        )
        told += f", all written by a language model; {chosen}. No example was written by a person whose device was "
        told += "polled: devices download texts and send noisy votes, never a text."
        if self.kept < self.total:
            told += (
                f" These are {self.kept} of the {self.total} examples of the corpus, with {self.share:.1%} of the "
                "estimated votes."
            )
        return warned + told

    def _made(self) -> str:
        return _table(["", ""], self.facts)

    def _privacy(self) -> str:
        told = "" if self.polls else "The statement is about the run; no report has gone into these examples.\n\n"
        return (
            f"{self.privacy}\n\n{told}Choosing, splitting and formatting examples is post-processing and costs no "
            "further privacy. No noise-free number about the devices is in this folder."
        )

    def _use(self) -> str:
        things = f"{self.noun}s"
        loaded = ", ".join(f'data["{split}"]' for split in self.counts)
        chats = "Column `messages` is what trainers for supervised fine-tuning take.\n\n" if self.tasks else ""
        return (
            f"Training and testing small models on {things} where real ones must not be collected: fine-tuning, "
            "classifiers, test data for pipelines. Weights can serve as sampling probabilities.\n\n"
            "```python\nfrom datasets import load_dataset\n\n"
            f"data = load_dataset(FOLDER)  # the folder of this file; then {loaded}\n```\n\n{chats}"
            "Not for conclusions about a person or about what devices hold: votes are noisy, and the texts are a "
            "model's. Not as labels for tone, purpose or roles, which were asked for and not checked."
        )

    def _columns(self) -> str:
        columns = _CHAT_COLUMNS if self.tasks else _COLUMNS
        present = set(self.schema.names)
        rows = {name: text.format(all=self.total) for name, text in columns.items() if present & set(name.split(", "))}
        if not self.polls:
            rows["weight"] = "the same for all: nothing has been polled yet"
        return _table(["column", "meaning"], rows)

    def _tasks(self) -> str:
        rows = {task: f"{count} | {self.explained[task]}" for task, count in self.tasks.items()}
        return _table(["task", "rows", "from what to what"], rows) if rows else ""

    def _split(self) -> str:
        if "test" not in self.counts or "train" not in self.counts:
            return f"There is no {'test' if 'train' in self.counts else 'training'} split."
        return (
            "By family: no test example has a parent, child or other relative in the training split. Two families can "
            "share a topic. An example is on the same side in every export of this corpus with the same test share."
        )

    def _limits(self) -> str:
        return (
            "Statements in synthetic text are invented, names in it are made up, and texts of small models can be "
            "incoherent or miss what was asked for. The generator may have seen public texts in pre-training, so a "
            "text can resemble a public one without any device having shown it. What the generator cannot write, no "
            "poll can find: the corpus is a choice among what it wrote, not a copy of what devices hold. Weights of "
            "rare kinds of text are mostly noise; the standard error above says how much."
        )


def features(schema: pa.Schema) -> list[dict[str, object]]:
    """The columns as the datasets library declares them in YAML. Raises ValueError for a type that no release has."""
    return [{"name": column.name, **_feature(column.type)} for column in schema]


def _feature(kind: pa.DataType) -> dict[str, object]:
    if pa.types.is_struct(kind):
        return {"struct": [{"name": part.name, **_feature(part.type)} for part in kind]}
    if pa.types.is_list(kind):
        inner = _feature(kind.value_type)
        return {"list": inner["struct"] if "struct" in inner else inner["dtype"]}
    for known, name in ((pa.string(), "string"), (pa.int32(), "int32"), (pa.float64(), "float64")):
        if kind == known:
            return {"dtype": name}
    raise ValueError(f"a column is of type {kind}; expected text, int32, float64, lists or structs of these")


def public_name(model: str) -> str:
    """A model's name without the folders of the machine it ran on: '/home/me/models/x.gguf int8' is 'x.gguf int8'."""
    if (pool := _POOL.fullmatch(model)) and pool[2]:
        return f"{pool[1]} + {public_name(pool[2])}"
    return re.sub(r"^(?:~|\.{1,2})?/(?:[^ ]*/)?(?=[^ /])", "", model)


def terms_of(generator: str) -> str:
    """What the terms of the weights say about texts written with them, in words; `generator` as in run.json."""
    if pool := _POOL.fullmatch(generator):
        unknown = (
            f"Texts come from a file ({pool[1]}), and who or what wrote them is not known to synthpoll: find out whose "
            "terms apply before you publish or train."
        )
        return f"{unknown} Of the others: {terms_of(pool[2])}" if pool[2] else unknown
    name = generator.lower()
    if " endpoint " in name:
        return (
            "The texts come from a model behind an endpoint. The terms of its provider and of its weights apply; some "
            "forbid to train other models on what theirs write. Read them before you publish or train."
        )
    if "smollm2" in name:
        return "The generator's weights, SmolLM2, are under Apache-2.0, which sets no terms for what a model writes."
    if "gemma" in name:
        return (
            "The generator's weights are bound to the Gemma Terms of Use (https://ai.google.dev/gemma/terms). These do "
            "not claim the texts, but may count a model that is trained on them to perform like Gemma as a derivative, "
            "to which the terms and their use policy then apply. Read them before you train."
        )
    if name == "scripted fake":
        return "The generator is a fake for tests of the program: its texts are word salad, and no weights were used."
    return (
        f"The terms of the generator's weights ({public_name(generator)}) are not known to synthpoll. Read them "
        "before you publish or train."
    )


def _table(head: list[str], rows: Mapping[str, str]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {name} | {value} |" for name, value in rows.items())])
