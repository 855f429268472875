"""A small grid as a file and built by hand, attributes from it, and what is checked of attributes in several tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from synth.attributes import AttributeGrid

SMALL = """
topics:
  office:
    - a late report
    - a broken {device}
  home: [a leaking roof, "{animal} and {animal2} at play"]
entities:
  device: [phone, old phone, oven]
  animal: [owl, cat]
axes:
  purpose: [ask, tell]
  tone: [kind, curt, sad]
  length: {short: [5, 10], long: [10, 40]}
  sender_role: [manager, parent]
  language: [English, German]
shares:
  language: {English: 1}
fits:
  heading:
    office: {sender_role: [manager]}
  purpose:
    ask: {tone: [kind, curt]}
style: [tone, length]
"""


def small_grid() -> AttributeGrid:
    return AttributeGrid(
        axes={
            "topic": ("a late report", "a broken {device}", "a leaking roof", "{animal} and {animal2} at play"),
            "purpose": ("ask", "tell"),
            "tone": ("kind", "curt", "sad"),
            "length": ("short", "long"),
            "sender_role": ("manager", "parent"),
            "language": ("English", "German"),
        },
        groups={
            "a late report": "office",
            "a broken {device}": "office",
            "a leaking roof": "home",
            "{animal} and {animal2} at play": "home",
        },
        length_words={"short": (5, 10), "long": (10, 40)},
        entities={"device": ("phone", "old phone", "oven"), "animal": ("owl", "cat")},
        shares={"language": {"English": 1.0}},
        fits={"heading": {"office": {"sender_role": ("manager",)}}, "purpose": {"ask": {"tone": ("kind", "curt")}}},
        style=("tone", "length"),
    )


def asked(topic: str = "a late report", **changes: str) -> dict[str, str]:
    made = {"topic": topic, "purpose": "tell", "tone": "kind", "length": "long", "sender_role": "manager"}
    return made | {"language": "English", "template": topic} | changes


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def write(folder: Path, text: str) -> Path:
    path = folder / "grid.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def template(attributes: Mapping[str, str]) -> str:
    return attributes["template"]


def fits(grid: AttributeGrid, attributes: Mapping[str, str]) -> bool:
    """Whether every entry suits the heading and the entries before it, read off `grid.fits` in another way."""
    entries = {**attributes, "heading": grid.heading(attributes), "topic": template(attributes)}
    return not any(
        entries[given] == entry and entries[axis] not in listed
        for given, by_entry in grid.fits.items()
        for entry, suited in by_entry.items()
        for axis, listed in suited.items()
    )
