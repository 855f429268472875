"""Where in embedding space devices' items are: one posterior from all tallies of all rounds.

    density = fit_density(places, base, polls)
    density.shares            # float64[n]: the share of devices at each place; they sum to 1
    density.over(texts, base) # the same for any other texts, a million of them in seconds
    density.share_of(region)  # the share of a region, with its standard error
    density.expected(slate)   # what the next poll should find, before it is asked

The model. Devices are at `places`, the texts that were written so far, in proportion to base_i exp(f(x_i)); f is a
Gaussian process over the sphere with covariance amplitude^2 exp((cos - 1) / bandwidth^2) (a logistic Gaussian process:
Leonard 1978; Tokdar and Ghosh 2007). Its item is near x, not at it, so to which candidate it is nearest is a matter of
chance: an item at y answers candidate j of a slate with probability in proportion to exp(sharpness cos(y, s_j)), and
'none of these' to exp(sharpness outside), where y is x and normal noise with `blur` times the places' own spread, back
on the sphere (a mixed multinomial logit with an outside option; McFadden and Train 2000), so that candidates which are
alike stand in for each other. A tally is that, drawn by the cohort (multinomial), with the mechanism's own noise on
top, both as normal errors.

The posterior is found by Newton's method, with normal errors around its mode (Laplace; Rasmussen and Williams 2006,
section 3.4); blur, sharpness, bandwidth and amplitude have the largest marginal likelihood. All of it is made of
public numbers: the tallies' estimates, the texts, the mechanism. So it costs no privacy whatever is done with it.

It is fitted at no more than `most_places` of the texts, drawn at random, and f is held by `knots`, at most `most_knots`
of these (the subset of regressors; Quinonero-Candela and Rasmussen 2005): work is about places * knots * answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular

from privacy.mechanism import Estimate

Floats = NDArray[np.float64]
Place = tuple[int, int, int, int]

BLUR = (0.0, 0.5, 1.0, 1.5)
SHARPNESS = (5.0, 7.0, 10.0, 14.0, 20.0, 28.0, 40.0, 56.0)
BANDWIDTH = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0)
AMPLITUDE = (0.03, 0.1, 0.25, 0.5, 0.8, 1.2, 1.7, 2.4, 3.4, 4.8, 6.8, 9.6)
"""Where hyperparameters are looked for. The smallest amplitude is flat: without a signal nothing is made of noise."""
_START = (1, 4, 4, 7)
_DRAWS = 32  # of the noise around a place
_STEPS = 40  # Newton's, at most
_CLOSE = 0.02  # twice the nats that Newton's method could still gain where it ends
_HALVINGS = 12  # of a step that leads down
_JITTER = 1e-6
_BLOCK = 65536  # texts that are scored together
_SEARCHED = 2000  # places on which hyperparameters are looked for; on 1,000 of 3,000 texts, worse ones were found
_KNOTS = 250  # there


@dataclass(frozen=True, kw_only=True, eq=False)
class SlatePoll:
    """What one poll measured: `slate` float32[m, d]; `estimate` of its m candidates and of 'none of these', the last.

    `adds_up`: the mechanism's counts add up to the reports, so their errors hang together. Raises ValueError for other
    numbers of answers, without reports, and for a slate of one text, of which a poll says nothing.
    """

    slate: NDArray[np.float32] = field(repr=False)
    estimate: Estimate = field(repr=False)
    adds_up: bool = False

    def __post_init__(self) -> None:
        if len(self.estimate.counts) != len(self.slate) + 1 or self.estimate.reports < 1:
            raise ValueError(
                f"a poll has {len(self.estimate.counts)} counts of {self.estimate.reports} reports; expected one for "
                f"each of {len(self.slate)} candidates and for 'none of these', of 1 report or more"
            )
        if len(self.slate) < 2:
            raise ValueError(f"a slate has {len(self.slate)} candidates; expected 2 or more, to compare")

    @property
    def shares(self) -> Floats:
        """float64[m + 1]: the estimated share of each answer; noise takes some below 0."""
        return self.estimate.counts / self.estimate.reports

    def covariance(self, expected: Floats) -> Floats:
        """float64[m + 1, m + 1] of the shares, where `expected` is what they are on average."""
        n, answers = self.estimate.reports, len(expected)
        noise = np.diag((self.estimate.stderr / n) ** 2)
        if self.adds_up:  # errors whose sum is 0, each as large as it is
            noise -= noise.mean(axis=0) + noise.mean(axis=1)[:, None] - noise.mean()
            noise *= answers / (answers - 1)
        # A candidate can stand for a place that no text is at, so what is expected can be far too little.
        cohort = np.diag(np.maximum(expected, 1 / n)) - np.outer(expected, expected)
        matrix = noise + cohort / n
        matrix[np.diag_indices(answers)] *= 1 + _JITTER  # where both add up, there is no inverse
        return np.asarray(matrix)


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """See the module: places in the grids, and the cosine of 'none of these'."""

    blur: float
    sharpness: float
    bandwidth: float
    amplitude: float
    outside: float


@dataclass(frozen=True, kw_only=True, eq=False)
class VoteDensity:
    """The posterior. `evidence` is the logarithm of the marginal likelihood, by Laplace's method."""

    hyperparameters: Hyperparameters
    evidence: float
    shares: Floats = field(repr=False)
    _places: NDArray[np.float32] = field(repr=False)
    _spread: NDArray[np.float32] = field(repr=False)
    _knots: NDArray[np.float32] = field(repr=False)
    _features: Floats = field(repr=False)
    _mode: Floats = field(repr=False)
    _precision: tuple[Floats, bool] = field(repr=False)

    def over(self, vectors: NDArray[np.float32], base: Floats) -> Floats:
        """float64[n]: the share of devices at each of these texts, of which `base` is the base measure."""
        width = self.hyperparameters.bandwidth
        weights = solve_triangular(_root(self._knots, width), self._mode, lower=True, trans="T")
        values = np.empty(len(vectors))
        for start in range(0, len(vectors), _BLOCK):
            part = slice(start, start + _BLOCK)
            values[part] = _covariance(vectors[part], self._knots, width) @ weights
        shares = base * np.exp(values - values.max())
        return np.asarray(shares / shares.sum())

    def share_of(self, region: NDArray[np.bool_] | Floats) -> tuple[float, float]:
        """The share of devices in a region, given as bool[n] or weights float64[n] of the places; and its standard
        error."""
        weights = region.astype(np.float64)
        share = float(self.shares @ weights)
        slope = self._features.T @ (self.shares * (weights - share))
        return share, float(np.sqrt(max(slope @ cho_solve(self._precision, slope), 0.0)))

    def expected(self, slate: NDArray[np.float32]) -> Floats:
        """float64[m + 1]: the share of each answer that a poll about this slate should find, 'none of these' last."""
        known = self.hyperparameters
        around = _Around(self._places, self._spread * known.blur)
        return np.asarray(self.shares @ around.choices(slate, known.sharpness, known.outside))


def fit_density(
    places: NDArray[np.float32],
    base: Floats,
    polls: Sequence[SlatePoll],
    rng: np.random.Generator,
    *,
    most_places: int = 5000,
    most_knots: int = 500,
) -> VoteDensity:
    """The density after these polls. `places` float32[n, d] unit vectors; `base` float64[n], above 0, sums to 1.

    Of more than `most_places`, so many are drawn, and the density's own `shares` are of these.

    Hyperparameters are searched one at a time, until none improves.
    Raises ValueError for no poll, for fewer than two places, for polls about vectors of another encoder, or a base that
    is none.
    """
    if not polls or len(places) < 2:
        raise ValueError(f"there are {len(polls)} polls and {len(places)} places; expected 1 or more, and 2 or more")
    for poll in polls:
        if poll.slate.shape[1] != places.shape[1]:
            raise ValueError(
                f"a slate has vectors of {poll.slate.shape[1]} numbers and the places of {places.shape[1]}; expected "
                "those of one encoder"
            )
    if base.shape != (len(places),) or not (base > 0).all() or not np.isclose(base.sum(), 1):
        raise ValueError("base is not a share above 0 for each place; expected shares that sum to 1")
    if len(places) > most_places:
        drawn = np.sort(rng.permutation(len(places))[:most_places])
        places, base = places[drawn], base[drawn] / base[drawn].sum()
    order = rng.permutation(len(places))
    some = np.sort(order[:_SEARCHED])
    spread = _spread(places, base, rng)
    search = _Search(
        spread=spread,
        places=places[some],
        base=base[some] / base[some].sum(),
        polls=polls,
        knots=places[np.sort(order[: min(most_knots, _KNOTS)])],
    )
    at = search.best()
    whole = _Search(spread=spread, places=places, base=base, polls=polls, knots=places[np.sort(order[:most_knots])])
    return whole.fit(at)


class _Search:
    """All fits that were tried, by their places in the grids."""

    def __init__(
        self,
        *,
        spread: NDArray[np.float32],
        places: NDArray[np.float32],
        base: Floats,
        polls: Sequence[SlatePoll],
        knots: NDArray[np.float32],
    ) -> None:
        self._spread = spread
        self._places, self._base, self._polls, self._knots = places, base, polls, knots
        self._fits: dict[Place, VoteDensity] = {}
        self._answers: dict[tuple[int, int], tuple[Floats, float]] = {}
        self._held: dict[int, Floats] = {}

    def best(self) -> Place:
        """Where the evidence is largest, as far as steps along one axis at a time lead."""
        at: Place = _START
        settled = False
        while not settled:
            settled = True
            for axis, grid in enumerate(_GRIDS):
                for step in (1, -1):
                    while 0 <= at[axis] + step < len(grid):
                        moved: Place = (*at[:axis], at[axis] + step, *at[axis + 1 :])  # type: ignore[assignment]
                        if self.fit(moved).evidence <= self.fit(at).evidence + 1e-6:
                            break
                        at, settled = moved, False
        return at

    def fit(self, at: Place) -> VoteDensity:
        """With these hyperparameters, by their places in the grids."""
        if at not in self._fits:
            self._fits[at] = self._laplace(at)
        return self._fits[at]

    def _laplace(self, at: Place) -> VoteDensity:
        blur, sharpness, bandwidth, amplitude = (grid[i] for grid, i in zip(_GRIDS, at, strict=True))
        if at[2] not in self._held:
            self._held[at[2]] = _features(self._places, self._knots, bandwidth)
        if at[:2] not in self._answers:
            around = _Around(self._places, self._spread * blur)
            outside = around.outside(self._base, self._polls, sharpness)
            each = [around.choices(poll.slate, sharpness, outside) for poll in self._polls]
            self._answers[at[:2]] = (np.concatenate(each, axis=1), outside)
        features, (answers, outside) = self._held[at[2]], self._answers[at[:2]]
        near = [fit for known, fit in self._fits.items() if known[2] == at[2]]
        mode = near[-1]._mode.copy() if near else np.zeros(features.shape[1])
        measured = np.concatenate([poll.shares for poll in self._polls])

        def expect(mode: Floats) -> tuple[Floats, Floats]:
            values = features @ mode
            shares = self._base * np.exp(values - values.max())
            shares /= shares.sum()
            return shares, shares @ answers

        def lack(mode: Floats, residual: Floats) -> float:
            return 0.5 * float(residual @ residual) + 0.5 * float(mode @ mode) / amplitude**2

        narrow = answers.astype(np.float32)  # for slopes, which lead to the mode and are not part of it
        shares, expected = expect(mode)
        for step in range(_STEPS):
            if step < 3:  # the errors' size follows what is expected, and is then kept, so that the method converges
                whiten = self._whitening(expected)
            weighted = (features * shares[:, None]).astype(np.float32)
            slope = (weighted.T @ narrow).astype(np.float64) - np.outer(features.T @ shares, expected)
            white = _whitened(whiten, slope.T)
            precision = white.T @ white
            precision[np.diag_indices_from(precision)] += amplitude**-2
            factor = cho_factor(precision, lower=True)
            residual = _whitened(whiten, measured - expected)
            gradient = white.T @ residual - mode / amplitude**2
            move = cho_solve(factor, gradient)
            if step >= 3 and float(gradient @ move) < _CLOSE:
                break
            size, before = 1.0, lack(mode, residual)
            for _ in range(_HALVINGS):
                moved = mode + size * move
                shares, expected = expect(moved)
                residual = _whitened(whiten, measured - expected)
                if lack(moved, residual) <= before:
                    break
                size /= 2
            mode = moved
        evidence = (
            -0.5 * float(residual @ residual)
            - sum(float(np.log(np.diag(each)).sum()) for each in whiten)
            - 0.5 * float(mode @ mode) / amplitude**2
            - len(mode) * float(np.log(amplitude))
            - float(np.log(np.diag(factor[0])).sum())
        )
        return VoteDensity(
            hyperparameters=Hyperparameters(
                blur=blur, sharpness=sharpness, bandwidth=bandwidth, amplitude=amplitude, outside=outside
            ),
            evidence=evidence,
            shares=shares,
            _places=self._places,
            _spread=self._spread,
            _knots=self._knots,
            _features=features,
            _mode=mode,
            _precision=factor,
        )

    def _whitening(self, expected: Floats) -> list[Floats]:
        ends = np.cumsum([len(poll.shares) for poll in self._polls])[:-1]
        parts = np.split(expected, ends)
        each = zip(self._polls, parts, strict=True)
        return [cholesky(poll.covariance(part), lower=True) for poll, part in each]


_GRIDS = (BLUR, SHARPNESS, BANDWIDTH, AMPLITUDE)


def _whitened(factors: Sequence[Floats], rows: Floats) -> Floats:
    """The rows, those of each poll times the inverse of its factor."""
    ends = np.cumsum([len(factor) for factor in factors])[:-1]
    parts = np.split(rows, ends)
    return np.concatenate([solve_triangular(f, part, lower=True) for f, part in zip(factors, parts, strict=True)])


def _features(vectors: NDArray[np.float32], knots: NDArray[np.float32], bandwidth: float) -> Floats:
    """float64[n, q], so that f = features @ (standard normal numbers) has the covariance of the process."""
    across = _covariance(vectors, knots, bandwidth)
    return np.asarray(solve_triangular(_root(knots, bandwidth), across.T, lower=True).T)


def _covariance(rows: NDArray[np.float32], knots: NDArray[np.float32], bandwidth: float) -> Floats:
    """float64[n, q], of the process at the rows and at the knots, amplitude 1."""
    return np.asarray(np.exp(((rows @ knots.T).astype(np.float64) - 1) / bandwidth**2))


def _root(knots: NDArray[np.float32], bandwidth: float) -> Floats:
    """float64[q, q], lower triangular, whose square is the covariance at the knots."""
    among = _covariance(knots, knots, bandwidth)
    among[np.diag_indices_from(among)] += _JITTER
    return np.asarray(cholesky(among, lower=True))


def _spread(places: NDArray[np.float32], base: Floats, rng: np.random.Generator) -> NDArray[np.float32]:
    """float32[draws, d]: normal noise with the places' own covariance, each draw with its opposite."""
    mean = base @ places
    root = np.sqrt(base)[:, None] * (places - mean)
    half = rng.standard_normal((_DRAWS // 2, len(places))) @ root
    return np.concatenate([half, -half]).astype(np.float32)


class _Around:
    """Items around places, float32[n, d]: each place and each of the offsets, back on the sphere."""

    def __init__(self, places: NDArray[np.float32], offsets: NDArray[np.float32]) -> None:
        self._places = places
        self._offsets = offsets if offsets.any() else offsets[:1]
        self._length = np.sqrt(1 + 2 * (places @ self._offsets.T) + np.einsum("ij,ij->i", self._offsets, self._offsets))

    def _exponentials(self, slate: NDArray[np.float32], sharpness: float) -> Iterator[NDArray[np.float32]]:
        """float32[n, m] for each offset: exp(sharpness cos)."""
        near, moved = self._places @ slate.T, self._offsets @ slate.T
        for draw, shift in enumerate(moved):
            scores = near + shift
            scores *= sharpness / self._length[:, draw, None]
            yield np.exp(scores, out=scores)

    def choices(self, slate: NDArray[np.float32], sharpness: float, outside: float) -> Floats:
        """float64[n, m + 1]: the probability of each answer of a device at each place."""
        found = np.zeros((len(self._places), len(slate) + 1))
        weight = np.exp(sharpness * outside)
        for exponentials in self._exponentials(slate, sharpness):
            total = exponentials.sum(axis=1, dtype=np.float64) + weight
            found[:, :-1] += exponentials / total[:, None]
            found[:, -1] += weight / total
        return found / len(self._offsets)

    def outside(self, base: Floats, polls: Sequence[SlatePoll], sharpness: float) -> float:
        """The cosine of 'none of these', with which the base measure would answer it as often as devices did."""
        reports = np.array([poll.estimate.reports for poll in polls], dtype=np.float64)
        wanted = float(sum(poll.estimate.counts[-1] for poll in polls) / reports.sum())
        wanted = min(max(wanted, 1e-4), 1 - 1e-4)
        others = [
            np.stack([each.sum(axis=1, dtype=np.float64) for each in self._exponentials(poll.slate, sharpness)])
            for poll in polls
        ]
        low, high = -2.0, 3.0
        for _ in range(50):
            middle = (low + high) / 2
            weight = np.exp(sharpness * middle)
            found = sum(
                n * float((weight / (weight + other) @ base).mean()) for n, other in zip(reports, others, strict=True)
            )
            low, high = (middle, high) if found < wanted * reports.sum() else (low, middle)
        return (low + high) / 2
