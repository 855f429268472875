"""Devices that are asked once which of the listed fragments occur in their prompts.

answers = PromptAnswers(pool=pool, devices=1_000_000, activity=Activity(), seed=0)
fleet = SimulatedFleet(answers=answers, cohorts=everybody(agreed), noise=noise, accounts=accounts)
ask = Ask(use_case="genmoji_fragments", round=0, mechanism=mechanism, needs=pool)
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from device_poll.answering import Answers
from device_poll.cohorts import Cohorts
from device_poll.events.activity import Activity
from device_poll.events.fragments import BLOCK, FragmentAnswers, PromptPool
from privacy.poll import Choice


@dataclass(frozen=True, kw_only=True, eq=False)
class PromptAnswers:
    """Devices that answer with one of their fragments, each as likely, or 'none of these' (no match)."""

    pool: PromptPool = field(repr=False)
    devices: int
    activity: Activity
    seed: int

    block: ClassVar[int] = BLOCK

    @cached_property
    def digest(self) -> str:
        """Of the private prompts, as far as they can be asked about, and how many a device holds."""
        digest = hashlib.sha256(f"{self.devices} {self.activity} {self.seed}".encode())
        for array in (self.pool.offsets, self.pool.ids):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def choice(self, needs: PromptPool) -> Choice:
        """The fragments asked about, or none."""
        return Choice(len(needs.candidates))

    def of(self, needs: PromptPool, devices: NDArray[np.int64], round: int) -> Answers:
        """The answers of these devices."""
        return Answers(values=self.all(round).values[devices], similarity=None)

    def all(self, round: int = 0) -> FragmentAnswers:
        """The answers of all devices, and how many of them hold each fragment."""
        return self.pool.answers(self.devices, self.activity, self.seed, round)


def everybody(agreed: NDArray[np.bool_]) -> Cohorts:
    """One round in which all devices are asked; those whose owners did not agree stay silent."""
    devices = np.arange(len(agreed), dtype=np.int64)
    return Cohorts(members=np.flatnonzero(agreed), asked=(devices,), answering=(devices,))
