"""Other estimates of where devices are, from the same tallies, for aggregate/density.py to be held against.

Each gives float64[n], the share of each text of the pool.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aggregate.slate_poll import SlatePoll
from synth.corpus import Corpus

Shares = NDArray[np.float64]
BANDWIDTH = 0.3  # of the kernel, in sqrt(1 - cosine)
SHARPNESS = 20.0  # of who is nearest to whom
PASSES = 200


def smoothed(texts: NDArray[np.float32], polls: Sequence[SlatePoll]) -> Shares:
    """Nadaraya (1964) and Watson (1964): the kernel-weighted mean of the candidates' counts, held at 0."""
    above, below = np.zeros(len(texts)), np.zeros(len(texts))
    for poll in polls:
        near = np.exp((texts @ poll.slate.T - 1).astype(np.float64) / BANDWIDTH**2)
        above += near @ poll.shares[:-1]
        below += near.sum(axis=1)
    return _positive(above / below)


def deconvolved(texts: NDArray[np.float32], polls: Sequence[SlatePoll]) -> Shares:
    """Nonnegative least squares of the tallies, each answer in its standard errors: the image space reconstruction
    algorithm (Daube-Witherspoon and Muehllehner 1986), from even shares, stopped after PASSES."""
    rows, wanted = [], []
    for poll in polls:
        near = np.exp(SHARPNESS * (texts @ poll.slate.T).astype(np.float64))
        near /= near.sum(axis=1, keepdims=True)
        heard = max(1e-9, float(poll.shares[:-1].sum()))  # of those who did not answer 'none of these'
        error = np.maximum(poll.estimate.stderr[:-1], 1.0) / poll.estimate.reports
        rows.append((near / error).T)
        wanted.append(np.maximum(poll.shares[:-1], 0) / heard / error)
    matrix, found = np.concatenate(rows), np.full(len(texts), 1 / len(texts))
    aim = matrix.T @ np.concatenate(wanted)
    for _ in range(PASSES):
        found = found * aim / np.maximum(matrix.T @ (matrix @ found), 1e-300)
    return _positive(found)


def shrunk(
    corpus: Corpus, headings: Sequence[str], polls: Sequence[SlatePoll], slates: Sequence[NDArray[np.int64]]
) -> Shares:
    """Means of headings and of topics, each shrunk to what it is part of by its own noise (empirical Bayes; Efron and
    Morris 1973), the same for all texts of a topic."""
    topics = [example.attributes.get("template", example.attributes.get("topic", "")) for example in corpus]
    total = np.zeros(len(corpus))
    noise, asked = np.zeros(len(corpus)), np.zeros(len(corpus))
    for poll, slate in zip(polls, slates, strict=True):
        total[slate] += poll.shares[:-1]
        variance = poll.estimate.stderr[:-1] ** 2 + np.maximum(poll.estimate.counts[:-1], 1)
        noise[slate] += variance / poll.estimate.reports**2
        asked[slate] += 1
    overall = float(total.sum() / asked.sum())
    by_heading = _shrunk(np.array(headings), total, noise, asked, np.full(len(corpus), overall))
    return _positive(_shrunk(np.array(topics), total, noise, asked, by_heading))


def _shrunk(names: NDArray[np.str_], total: Shares, noise: Shares, asked: Shares, to: Shares) -> Shares:
    """float64[n]: of each text the mean of its group, drawn to `to` by as much as the group's mean is noise."""
    distinct, group = np.unique(names, return_inverse=True)
    count = np.bincount(group, weights=asked, minlength=len(distinct))
    some = count > 0
    mean, variance = np.zeros(len(distinct)), np.full(len(distinct), np.inf)
    mean[some] = np.bincount(group, weights=total, minlength=len(distinct))[some] / count[some]
    variance[some] = np.bincount(group, weights=noise, minlength=len(distinct))[some] / count[some] ** 2
    aim = np.bincount(group, weights=to, minlength=len(distinct)) / np.bincount(group, minlength=len(distinct))
    between = max(float(np.mean((mean[some] - aim[some]) ** 2 - variance[some])), 0.0)
    kept = np.where(some, between / (between + np.where(some, variance, 1.0)) if between else 0.0, 0.0)
    return np.asarray((kept * mean + (1 - kept) * aim)[group])


def _positive(shares: Shares) -> Shares:
    """Held at 0; all the same where nothing is above it."""
    held = np.maximum(shares, 0.0)
    return held / held.sum() if held.sum() > 0 else np.full(len(held), 1 / len(held))
