"""Questions for tests of the server half.

ask_of(mechanism)                     # of every value of the mechanism
ask_of(sketch, asked=hashes)          # of these
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from privacy.poll import Ask


@dataclass(frozen=True)
class FakeNeeds:
    """Stands for what devices need in order to answer."""

    asked: np.ndarray | None = None
    digest: str = "fake"
    nbytes: int = 0


def ask_of(mechanism: Any, use_case: str = "mail", asked: np.ndarray | None = None, **changes: Any) -> Ask:
    """The question of a mechanism's values."""
    return Ask(use_case=use_case, round=0, mechanism=mechanism, needs=FakeNeeds(asked), **changes)
