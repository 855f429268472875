"""The embedded town: simulated devices whose mail this project wrote itself, so that the truth can be shown.

    town = build_town(devices=20_000, mails_per_device=3, seed=0)
    town.texts[0], town.users[0], town.topics[0]     # a mail, 'resident-000000', 'soccer practice'
    town.proportions["soccer practice"]              # what a poll of the town should find

town.yaml holds the topics' mail fragments and the personas; its head explains the format. A town of one's own is a copy
of that file. Only a simulation may know `topics` and `proportions`: no poll reads them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synth.attributes import check_keys, read_mapping, text_list, text_mapping

_PARTS = ("openings", "middles", "closings")
_SLOT = re.compile(r"\{([a-z_]+)([2-9]?)\}")
# A grammar may be able to make fewer distinct mails than asked for: stop after this many repeats in a row.
_REPEATS = 500


@dataclass(frozen=True, kw_only=True)
class Town:
    """The mail of a town, one entry of each tuple per mail, device after device.

    `topics` is the topic of each text and `personas` the persona of its user; `proportions` is the probability of each
    topic for a mail drawn from the town as a whole, in the order of the file (it sums to 1).
    """

    texts: tuple[str, ...]
    users: tuple[str, ...]
    topics: tuple[str, ...]
    personas: tuple[str, ...]
    proportions: Mapping[str, float]


def build_town(
    devices: int, mails_per_device: int, seed: int, path: str | Path | None = None, variants: int = 220
) -> Town:
    """A town of `devices` residents with `mails_per_device` mails each; the same arguments give the same town.

    At most `variants` distinct mails are written per topic (fewer if its fragments cannot make so many), so that texts
    repeat between devices and embedding the distinct ones stays cheap. Each device draws its persona by share, and each
    of its mails independently by the persona's proportions. `path` is a town file of one's own; None reads the packaged
    one. Raises ValueError if a number is out of range or, in one line, if the file does not describe a town.
    """
    for name, value, least in (
        ("devices", devices, 1),
        ("mails_per_device", mails_per_device, 1),
        ("variants", variants, 1),
        ("seed", seed, 0),
    ):
        if value < least:
            raise ValueError(f"{name} is {value}; expected a whole number >= {least}")
    grammar = read_grammar(path)
    # The mails have streams of their own, so that the same seed writes the same mails for any number of devices.
    mails = [_write_mails(grammar, t, variants, _stream(seed, 1, t)) for t in range(len(grammar.topics))]

    rng = _stream(seed, 0, 0)
    shape = (devices, mails_per_device)
    persona = _draw(grammar.shares, rng.random(devices))
    position, which = rng.random(shape), rng.random(shape)
    topic = np.empty(shape, dtype=np.int64)
    for number, row in enumerate(grammar.mix):
        members = persona == number
        topic[members] = _draw(row, position[members])
    counts = np.array([len(texts) for texts in mails])
    variant = (which * counts[topic]).astype(np.int64)

    names, personas = grammar.topics, grammar.personas
    return Town(
        texts=tuple(mails[t][v] for t, v in zip(topic.ravel().tolist(), variant.ravel().tolist(), strict=True)),
        users=tuple(user for d in range(devices) for user in (f"resident-{d:06d}",) * mails_per_device),
        topics=tuple(names[t] for t in topic.ravel().tolist()),
        personas=tuple(personas[p] for p in np.repeat(persona, mails_per_device).tolist()),
        proportions=grammar.proportions(),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Grammar:
    """A parsed town file: what can be written, and who writes how much of it.

    `fragments[t]` holds the openings, middles and closings of topic t; `mix` is float64[personas, topics], its rows sum
    to 1; `shares` is float64[personas] and sums to 1.
    """

    slots: Mapping[str, tuple[str, ...]]
    greetings: tuple[str, ...]
    sign_offs: tuple[str, ...]
    topics: tuple[str, ...]
    fragments: tuple[tuple[tuple[str, ...], ...], ...]
    personas: tuple[str, ...]
    shares: NDArray[np.float64]
    mix: NDArray[np.float64]

    def proportions(self) -> dict[str, float]:
        """The probability of each topic for a mail drawn from the town as a whole."""
        return dict(zip(self.topics, (self.shares @ self.mix).tolist(), strict=True))


def read_grammar(path: str | Path | None = None) -> Grammar:
    """The town file at `path`; None reads the packaged one.

    Raises ValueError, in one line that begins with the file and never quotes a fragment, if the file is missing, is not
    valid YAML or does not describe a town.
    """
    source = files("device_poll.town") / "town.yaml" if path is None else Path(path)
    content = read_mapping(source)
    try:
        return _parse(content)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None


def _parse(content: Mapping[str, object]) -> Grammar:
    check_keys(content, ("slots", "greetings", "sign_offs", "topics", "personas"), "the town")
    slots = {name: text_list(pool, f"slots.{name}") for name, pool in text_mapping(content["slots"], "slots").items()}
    greetings, sign_offs = (text_list(content[part], part, blank=True) for part in ("greetings", "sign_offs"))
    places = {"greetings": greetings, "sign_offs": sign_offs}

    fragments = []
    topics = text_mapping(content["topics"], "topics")
    for topic, value in topics.items():
        parts = text_mapping(value, f"topics.{topic}")
        check_keys(parts, _PARTS, f"topics.{topic}")
        texts = {
            f"topics.{topic}.{part}": text_list(parts[part], f"topics.{topic}.{part}", blank=part == "closings")
            for part in _PARTS
        }
        fragments.append(tuple(texts.values()))
        places |= texts
    _check_slots(places, slots)

    personas = text_mapping(content["personas"], "personas")
    shares = np.zeros(len(personas))
    mix = np.zeros((len(personas), len(topics)))
    for number, (persona, value) in enumerate(personas.items()):
        where = f"personas.{persona}"
        fields = text_mapping(value, where)
        check_keys(fields, ("share", "topics"), where)
        shares[number] = _proportion(fields["share"], f"{where}.share")
        for topic, part in text_mapping(fields["topics"], f"{where}.topics").items():
            if topic not in topics:
                raise ValueError(f"{where}.topics has the unknown topic '{topic}'; add it under topics or remove it")
            mix[number, list(topics).index(topic)] = _proportion(part, f"{where}.topics.{topic}")
        _check_sum(mix[number], f"the topics of {where}")
    _check_sum(shares, "the shares of personas")
    for topic, total in zip(topics, mix.sum(axis=0), strict=True):
        if total == 0:
            raise ValueError(f"topics.{topic} is not used by any persona; give it to one or remove it")
    return Grammar(
        slots=slots,
        greetings=greetings,
        sign_offs=sign_offs,
        topics=tuple(topics),
        fragments=tuple(fragments),
        personas=tuple(personas),
        # Exact normalization: the file's decimals sum to 1 only within rounding.
        shares=shares / shares.sum(),
        mix=mix / mix.sum(axis=1, keepdims=True),
    )


def _proportion(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise ValueError(f"{where} is {value!r}; expected a number above 0 and at most 1")
    return float(value)


def _check_sum(parts: NDArray[np.float64], what: str) -> None:
    if not math.isclose(total := float(parts.sum()), 1.0, abs_tol=1e-6):
        raise ValueError(f"{what} sum to {total:.6g}; expected 1")


def _check_slots(places: Mapping[str, Sequence[str]], slots: Mapping[str, Sequence[str]]) -> None:
    used = set()
    for where, texts in places.items():
        for number, text in enumerate(texts, start=1):
            for pool, copy in _SLOT.findall(text):
                if pool not in slots:
                    raise ValueError(f"{where}: entry {number} has the unknown slot {{{pool}}}; add it under slots")
                if int(copy or 1) > len(slots[pool]):
                    raise ValueError(
                        f"{where}: entry {number} uses {{{pool}{copy}}}; slots.{pool} has {len(slots[pool])} texts only"
                    )
                used.add(pool)
            if set("{}") & set(_SLOT.sub("", text)):
                raise ValueError(f"{where}: entry {number} has a stray brace; write slots as {{name}} or {{name2}}")
    for pool, texts in slots.items():
        if any(set("{}") & set(text) for text in texts):
            raise ValueError(f"slots.{pool} has a text with a brace; the texts of a slot cannot hold slots")
        if pool not in used:
            raise ValueError(f"slots.{pool} is not used by any fragment; use it or remove it")


def _stream(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _draw(probabilities: NDArray[np.float64], uniform: NDArray[np.float64]) -> NDArray[np.int64]:
    """The numbers of the entries drawn by inverting the distribution at `uniform` in [0, 1)."""
    steps = np.cumsum(probabilities)
    # Division makes the last used step exactly 1, so that no uniform number falls behind it.
    return np.searchsorted(steps / steps[-1], uniform, side="right")


def _write_mails(grammar: Grammar, topic: int, variants: int, rng: np.random.Generator) -> list[str]:
    """Up to `variants` distinct mails of a topic, in the order in which they were first drawn."""
    mails: dict[str, None] = {}
    repeats = 0
    while len(mails) < variants and repeats < _REPEATS:
        mail = _write_mail(grammar, topic, rng)
        repeats = repeats + 1 if mail in mails else 0
        mails[mail] = None
    return list(mails)


def _write_mail(grammar: Grammar, topic: int, rng: np.random.Generator) -> str:
    body = " ".join(_pick(part, rng) for part in grammar.fragments[topic]).rstrip()
    lines = [_pick(grammar.greetings, rng), body, _pick(grammar.sign_offs, rng)]
    orders: dict[str, list[int]] = {}

    def fill(slot: re.Match[str]) -> str:
        # One shuffled order per pool and mail: {day} stays what it is, and {day2} is another day.
        pool, copy = str(slot[1]), int(slot[2] or 1)
        if pool not in orders:
            orders[pool] = rng.permutation(len(grammar.slots[pool])).tolist()
        return grammar.slots[pool][orders[pool][copy - 1]]

    return _SLOT.sub(fill, "\n".join(line for line in lines if line))


def _pick(texts: Sequence[str], rng: np.random.Generator) -> str:
    return texts[int(rng.integers(len(texts)))]
