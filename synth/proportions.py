"""How often each entry of a grid is asked for, and what goes with what.

    laws = Proportions(axes=axes, groups=groups, shares={"language": {"English": 1.0}}, fits={})
    templates = laws.spread(2_000, rng)                                  # topics, in their shares
    chosen = laws.draw({"heading": "jokes", "topic": templates[0]}, rng)     # an entry for every other axis

Shares are proportions of one axis; entries that are not named divide what is left evenly. Fits restrict an axis by what
was drawn before it: a joke is not told by an insurance agent.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

Shares = Mapping[str, Mapping[str, float]]
"""Axis, or 'heading', to entry to proportion."""

Fits = Mapping[str, Mapping[str, Mapping[str, tuple[str, ...]]]]
"""Axis, or 'heading', to entry to a later axis to those of its entries that go with it."""

_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class Proportions:
    """Which entries of a grid are drawn together, and how often.

    `axes` gives the entries of each axis, topic first; `groups` the heading of each topic. Axes are drawn in this
    order: topics in even shares, unless shares of topics or of headings are stated, then each axis by its shares among
    what fits. Where nothing that fits has a share above 0, the shares win. Raises ValueError, in one line, if shares or
    fits name what is not in the grid or shares are no proportions.
    """

    axes: Mapping[str, tuple[str, ...]]
    groups: Mapping[str, str]
    shares: Shares
    fits: Fits

    def __post_init__(self) -> None:
        if "heading" in self.shares and "topic" in self.shares:
            raise ValueError("shares names both heading and topic; give the shares of one of them")
        for axis, parts in self.shares.items():
            self._check_shares(axis, parts)
        for given, by_entry in self.fits.items():
            known = self._entries(given, "fits")
            for entry, suited in by_entry.items():
                _check_entries([entry], known, given, f"fits.{given}")
                for axis, listed in suited.items():
                    where = f"fits.{given}.{entry}"
                    if axis not in self._after(given):
                        raise ValueError(f"{where} has '{axis}'; expected one of {', '.join(self._after(given))}")
                    _check_entries(listed, self.axes[axis], axis, f"{where}.{axis}")

    def with_shares(self, shares: Shares) -> Proportions:
        """The same, with other shares for the axes that `shares` names."""
        kept = dict(self.shares)
        if "heading" in shares or "topic" in shares:
            kept = {axis: parts for axis, parts in kept.items() if axis not in ("heading", "topic")}
        return replace(self, shares={**kept, **shares})

    def check_fits(self) -> None:
        """Raise ValueError if a combination that can be drawn leaves some axis without a fitting entry."""
        # Only what restricts an axis together with something else can leave it nothing that fits both.
        branching = {name for names in self._restricting.values() if len(names) > 1 for name in names}

        def walk(given: dict[str, str], axes: list[str]) -> None:
            if not axes:
                return
            fitting = self._fitting(axes[0], given)
            if not fitting:
                causes = ", ".join(f"{name} '{given[name]}'" for name in self.fits if name in given)
                raise ValueError(f"fits leaves no {axes[0]} with a share above 0 for {causes}; add one that suits all")
            for entry in fitting if axes[0] in branching else fitting[:1]:
                walk({**given, axes[0]: entry}, axes[1:])

        for topic in self.axes["topic"] if "topic" in self.fits else {h: t for t, h in self.groups.items()}.values():
            walk({"heading": self.groups[topic], "topic": topic}, list(self.axes)[1:])

    def spread(self, n: int, rng: np.random.Generator) -> list[str]:
        """n topics in shuffled order; each appears n times its share, rounded down or up."""
        order = rng.permutation(len(self.axes["topic"]))
        steps = np.cumsum(self._topic_weights[order])
        # Systematic sampling: one uniform number places a comb of n teeth on the cumulative shares.
        teeth = (rng.random() + np.arange(n)) / n if n else np.empty(0)
        drawn = order[np.searchsorted(steps / steps[-1], teeth, side="right").clip(max=len(order) - 1)]
        return [self.axes["topic"][i] for i in rng.permutation(drawn)]

    def offered(self, axis: str) -> tuple[str, ...]:
        """The entries of `axis`, or the headings, whose share is above 0."""
        weights = dict(zip(self.axes["topic"], self._topic_weights, strict=True))
        if axis == "heading":
            return tuple(dict.fromkeys(self.groups[topic] for topic, weight in weights.items() if weight > 0))
        entries = weights if axis == "topic" else self._weights[axis]
        return tuple(entry for entry, weight in entries.items() if weight > 0)

    def possible(self, axis: str, given: Mapping[str, str]) -> tuple[str, ...]:
        """The entries of `axis` that can be drawn after `given` ('heading', and axes to their entries)."""
        return self._law(axis, given)[0]

    def draw(self, given: Mapping[str, str], rng: np.random.Generator) -> dict[str, str]:
        """`given` and an entry for each axis that it lacks; 'heading' and 'topic' are always given."""
        chosen = dict(given)
        for axis in self.axes:
            if axis not in given:
                entries, steps = self._law(axis, chosen)
                chosen[axis] = entries[min(bisect_right(steps, rng.random() * steps[-1]), len(entries) - 1)]
        return chosen

    def _law(self, axis: str, given: Mapping[str, str]) -> tuple[tuple[str, ...], list[float]]:
        """Entries of `axis` and their cumulative weights."""
        key = (axis, *(given.get(name) for name in self._restricting[axis]))
        if key not in self._laws:
            weights = self._weights[axis]
            entries = self._fitting(axis, given) or tuple(entry for entry, weight in weights.items() if weight > 0)
            self._laws[key] = (entries, list(accumulate(weights[entry] for entry in entries)))
        return self._laws[key]

    @cached_property
    def _restricting(self) -> dict[str, list[str]]:
        """Per axis, what restricts it: axes before it, or 'heading'."""
        return {
            axis: [name for name, by in self.fits.items() if any(axis in suited for suited in by.values())]
            for axis in self.axes
        }

    @cached_property
    def _laws(self) -> dict[tuple[str | None, ...], tuple[tuple[str, ...], list[float]]]:
        return {}

    def _fitting(self, axis: str, given: Mapping[str, str]) -> tuple[str, ...]:
        weights = self._weights[axis]
        entries = [entry for entry in self.axes[axis] if weights[entry] > 0]
        for name in self._restricting[axis]:
            listed = self.fits[name].get(given.get(name, ""), {}).get(axis)
            if listed is not None:
                entries = [entry for entry in entries if entry in listed]
        return tuple(entries)

    @cached_property
    def _weights(self) -> dict[str, dict[str, float]]:
        """The share of each entry of each axis but topic."""
        return {axis: self._divided(entries, axis) for axis, entries in self.axes.items() if axis != "topic"}

    @cached_property
    def _topic_weights(self) -> NDArray[np.float64]:
        topics = self.axes["topic"]
        if "heading" not in self.shares:
            divided = self._divided(topics, "topic")
            return np.array([divided[topic] for topic in topics])
        headings = list(self.groups.values())
        divided = self._divided(tuple(dict.fromkeys(headings)), "heading")
        return np.array([divided[self.groups[topic]] / headings.count(self.groups[topic]) for topic in topics])

    def _divided(self, entries: tuple[str, ...], axis: str) -> dict[str, float]:
        """Stated shares; the entries that are not named divide what is left."""
        stated = self.shares.get(axis, {})
        left = 1 - math.fsum(stated.values())
        rest = len(entries) - len(stated)
        each = left / rest if rest and left > _ROUNDING else 0.0
        return {entry: stated.get(entry, each) for entry in entries}

    def _check_shares(self, axis: str, parts: Mapping[str, float]) -> None:
        known = self._entries(axis, "shares")
        _check_entries(parts, known, axis, f"shares.{axis}")
        for entry, share in parts.items():
            if not 0 <= share <= 1 + _ROUNDING:
                raise ValueError(f"shares.{axis}.{entry} is {share:g}; expected a proportion, 0 to 1")
        total = math.fsum(parts.values())
        if total > 1 + _ROUNDING or (len(parts) == len(known) and total < 1 - _ROUNDING):
            raise ValueError(f"the shares of {axis} sum to {total:.6g}; expected 1, or less where entries are left out")

    def _entries(self, axis: str, where: str) -> tuple[str, ...]:
        if axis == "heading":
            return tuple(dict.fromkeys(self.groups.values()))
        if axis not in self.axes:
            raise ValueError(f"{where} has the unknown key '{axis}'; expected one of heading, {', '.join(self.axes)}")
        return self.axes[axis]

    def _after(self, given: str) -> list[str]:
        """The axes that are drawn after `given`."""
        axes = list(self.axes)
        return axes[1:] if given == "heading" else axes[axes.index(given) + 1 :]


def _check_entries(named: Iterable[str], known: tuple[str, ...], axis: str, where: str) -> None:
    for entry in named:
        if entry not in known:
            shown = f"one of {', '.join(known)}" if len(known) <= 12 else f"an entry of {axis}"
            raise ValueError(f"{where} names '{entry}', which is not in the grid; expected {shown}")
