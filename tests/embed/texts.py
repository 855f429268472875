"""Small made-up emails of many lengths, for the tests of this folder."""

from itertools import pairwise

import numpy as np

SENTENCES = (
    "Hi Dana, the printer on floor two is broken again.",
    "Can we move the budget meeting to Thursday at ten?",
    "The plumber will come on Monday, please leave the key under the mat.",
    "Thanks for the photos of the garden, the roses look wonderful!",
    "Attached is the draft contract; section 4.2 still needs your signature.",
    "Our train leaves at 7:45, so let us meet at the north entrance.",
    "Grüße aus München, das Wetter ist großartig.",
    "The quarterly numbers are 12% above plan 🎉 and everybody is invited to cake.",
    "I will be out of the office until further notice.",
    "Could you review the pull request before lunch?",
)


def emails(n: int, *, seed: int = 0, most: int = 8) -> list[str]:
    """n distinct texts of 1 to `most` sentences."""
    rng = np.random.default_rng(seed)
    return [
        f"{i}. " + " ".join(SENTENCES[j] for j in rng.integers(len(SENTENCES), size=rng.integers(1, most + 1)))
        for i in range(n)
    ]


class Steps:
    """A progress callback that remembers; `check` says that it was called properly for `total` texts."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def __call__(self, done: int, total: int) -> None:
        self.seen.append((done, total))

    def check(self, total: int) -> None:
        assert self.seen[-1] == (total, total)
        assert {t for _, t in self.seen} == {total}
        assert all(a <= b for (a, _), (b, _) in pairwise(self.seen))
