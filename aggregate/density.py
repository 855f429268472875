"""Where in embedding space devices' items are: one posterior from all tallies of all rounds.

    density = fit_density(places, base, polls, rng)
    density.shares            # float64[n]: the share of devices at each place; they sum to 1
    density.over(texts, base) # the same for any other texts, a million of them in seconds
    density.share_of(region)  # the share of a region, with its standard error
    density.expected(slate)   # what the next poll should find, before it is asked

The model. Devices are at `places`, the texts that were written so far, in proportion to base_i exp(f(x_i)); f is a
Gaussian process over the sphere with covariance amplitude^2 exp((cos - 1) / bandwidth^2) (a logistic Gaussian process:
Leonard 1978; Tokdar and Ghosh 2007). Its item is near x, not at it, so to which candidate it is nearest is a matter of
chance: aggregate/forward.py. A tally is that, drawn by the cohort (multinomial), with the mechanism's own noise on top,
both as normal errors.

The posterior is found by Newton's method, with normal errors around its mode (Laplace; Rasmussen and Williams 2006,
section 3.4); bandwidth and amplitude have the largest marginal likelihood. How far items are from texts and how surely
the nearest candidate is the answer (LAWS) is not left to the marginal likelihood alone: no law of them is true, so it
is far too sure of one (docs/refinement.md has what that costs). The posterior is found under each law, and f is the
mean over them, weighted by the marginal likelihood to the power 1 / TEMPERATURE: a logarithmic opinion pool (Genest
and Zidek 1986) with a likelihood that is coarsened since the model is not true (Miller and Dunson 2019). All of it is
made of public numbers: the tallies' estimates, the texts, the mechanism. So it costs no privacy whatever is done with
it.

It is fitted at no more than `most_places` of the texts, drawn at random, and f is held by `knots`, at most `most_knots`
of these (the subset of regressors; Quinonero-Candela and Rasmussen 2005): work is about places * knots * answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular

from aggregate.forward import Around, Floats, Law, spread_of
from aggregate.slate_poll import JITTER, SlatePoll

LAWS = tuple(Law(blur=blur, sharpness=sharpness) for blur, sharpness in product((0.0, 1.5), (10.0, 20.0, 40.0)))
TEMPERATURE = 10.0  # nats of evidence that a law must be behind another to have 1/e of its weight
Place = tuple[int, int]  # in the next two
BANDWIDTH = (0.5, 0.7, 1.0, 1.4, 2.0)
AMPLITUDE = (0.03, 0.1, 0.25, 0.5, 0.8, 1.2, 1.7, 2.4, 3.4, 4.8, 6.8, 9.6)
"""Where hyperparameters are looked for. A narrower bandwidth would say nothing of texts that are not in a slate. The
smallest amplitude is flat: without a signal nothing is made of noise."""
_START = (3, 6)
_STEPS = 40  # Newton's, at most
_CLOSE = 0.02  # twice the nats that Newton's method could still gain where it ends
_CLOSE_ENOUGH = 0.3  # the same where hyperparameters are looked for: their evidence differs by more
_HALVINGS = 12  # of a step that leads down
_BLOCK = 65536  # texts that are scored together
_SEARCHED = 2000  # places on which hyperparameters are looked for; on 1,000 of 3,000 texts, worse ones were found
_KNOTS = 250  # there


@dataclass(frozen=True, kw_only=True, eq=False)
class Fit:
    """The posterior under one law. `evidence` is the logarithm of the marginal likelihood, by Laplace's method."""

    law: Law
    bandwidth: float
    amplitude: float
    outside: float  # the cosine of 'none of these'
    evidence: float
    shares: Floats = field(repr=False)
    _knots: NDArray[np.float32] = field(repr=False)
    _features: Floats = field(repr=False)
    _mode: Floats = field(repr=False)
    _precision: tuple[Floats, bool] = field(repr=False)

    @property
    def of_knots(self) -> Floats:
        """float64[q]: f at the mode is the covariance with the knots times this."""
        return np.asarray(solve_triangular(_root(self._knots, self.bandwidth), self._mode, lower=True, trans="T"))

    def share_of(self, weights: Floats) -> tuple[float, float]:
        """The share of a region, and its variance."""
        share = float(self.shares @ weights)
        slope = self._features.T @ (self.shares * (weights - share))
        return share, max(float(slope @ cho_solve(self._precision, slope)), 0.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class VoteDensity:
    """The posterior: `fits` has one under each law, `weights` float64[laws] what each counts."""

    fits: tuple[Fit, ...]
    weights: Floats
    shares: Floats = field(repr=False)
    _places: NDArray[np.float32] = field(repr=False)
    _spread: NDArray[np.float32] = field(repr=False)

    def over(self, vectors: NDArray[np.float32], base: Floats) -> Floats:
        """float64[n]: the share of devices at each of these texts, of which `base` is the base measure."""
        return _shares(base, vectors, self.fits, self.weights)

    def share_of(self, region: NDArray[np.bool_] | Floats) -> tuple[float, float]:
        """The share of devices in a region, given as bool[n] or weights float64[n] of the places; and its standard
        error: that under a law, and how far laws are apart."""
        weights = region.astype(np.float64)
        share = float(self.shares @ weights)
        each = [fit.share_of(weights) for fit in self.fits]
        return share, float(np.sqrt(self.weights @ [variance + (other - share) ** 2 for other, variance in each]))

    def expected(self, slate: NDArray[np.float32]) -> Floats:
        """float64[m + 1]: the share of each answer that a poll about this slate should find, 'none of these' last."""
        each = [
            fit.shares @ Around(self._places, self._spread, fit.law).choices(slate, fit.outside) for fit in self.fits
        ]
        return np.asarray(self.weights @ each)


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

    Under each law bandwidth and amplitude are searched one at a time, until none improves.
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
    spread = spread_of(places, base, rng)
    few = places[np.sort(order[: min(most_knots, _KNOTS)])]
    search = _Fitter(spread, places[some], base[some] / base[some].sum(), polls, few, _CLOSE_ENOUGH)
    whole = _Fitter(spread, places, base, polls, places[np.sort(order[:most_knots])], _CLOSE)
    at, fits = _START, []
    for law in LAWS:
        at = search.best(law, at)
        fits.append(whole.fit(law, at))
    evidence = np.array([fit.evidence for fit in fits])
    weights = np.exp((evidence - evidence.max()) / TEMPERATURE)
    weights /= weights.sum()
    shares = _shares(base, places, fits, weights)
    return VoteDensity(fits=tuple(fits), weights=weights, shares=shares, _places=places, _spread=spread)


def _shares(base: Floats, vectors: NDArray[np.float32], fits: Sequence[Fit], weights: Floats) -> Floats:
    """Shares in proportion to base exp(f), f the weighted mean over the fits; in float32 until there is one f."""
    knots = fits[0]._knots
    of_knots: dict[float, Floats] = {}  # laws with one bandwidth share the covariance, which takes the time
    for fit, weight in zip(fits, weights, strict=True):
        of_knots[fit.bandwidth] = of_knots.get(fit.bandwidth, 0.0) + weight * fit.of_knots
    values = np.empty(len(vectors))
    for start in range(0, len(vectors), _BLOCK):
        cosines = vectors[start : start + _BLOCK] @ knots.T
        values[start : start + _BLOCK] = sum(
            np.exp((cosines - np.float32(1)) / np.float32(width**2)) @ one.astype(np.float32)
            for width, one in of_knots.items()
        )
    shares = base * np.exp(values - values.max())
    return np.asarray(shares / shares.sum())


class _Fitter:
    """All fits that were tried at these places, by their law and their places in the grids."""

    def __init__(
        self,
        spread: NDArray[np.float32],
        places: NDArray[np.float32],
        base: Floats,
        polls: Sequence[SlatePoll],
        knots: NDArray[np.float32],
        close: float,
    ) -> None:
        self._spread, self._places, self._base, self._polls, self._knots = spread, places, base, polls, knots
        self._close = close
        self._fits: dict[tuple[Law, Place], Fit] = {}
        self._answers: dict[Law, tuple[Floats, float]] = {}
        self._features: dict[int, Floats] = {}

    def best(self, law: Law, start: Place) -> Place:
        """Where the evidence is largest, as far as steps along one axis at a time lead."""
        at, settled = start, False
        while not settled:
            settled = True
            for axis, step in product((0, 1), (1, -1)):
                while 0 <= at[axis] + step < len((BANDWIDTH, AMPLITUDE)[axis]):
                    moved = (at[0] + step, at[1]) if axis == 0 else (at[0], at[1] + step)
                    if self.fit(law, moved).evidence <= self.fit(law, at).evidence + 1e-6:
                        break
                    at, settled = moved, False
        return at

    def fit(self, law: Law, at: Place) -> Fit:
        """Under this law, with the bandwidth and the amplitude at these places in the grids."""
        if (law, at) not in self._fits:
            self._fits[law, at] = self._laplace(law, at)
        return self._fits[law, at]

    def _answered(self, law: Law) -> tuple[Floats, float]:
        """float64[n, answers of all polls]: how devices at each place answer; and the cosine of 'none of these'."""
        if law not in self._answers:
            around = Around(self._places, self._spread, law)
            slates = [poll.slate for poll in self._polls]
            reports = np.array([poll.estimate.reports for poll in self._polls], dtype=np.float64)
            none = float(sum(poll.estimate.counts[-1] for poll in self._polls))
            outside = around.outside(self._base, slates, reports, none)
            self._answers = {
                law: (np.concatenate([around.choices(slate, outside) for slate in slates], axis=1), outside)
            }
        return self._answers[law]

    def _laplace(self, law: Law, at: Place) -> Fit:
        bandwidth, amplitude = BANDWIDTH[at[0]], AMPLITUDE[at[1]]
        if at[0] not in self._features:
            self._features[at[0]] = _features(self._places, self._knots, bandwidth)
        features, (answers, outside) = self._features[at[0]], self._answered(law)
        near = [fit for (_, known), fit in self._fits.items() if known[0] == at[0]]
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
            if step >= 3 and float(gradient @ move) < self._close:
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
            + sum(float(np.log(np.diag(each)).sum()) for each in whiten)
            - 0.5 * float(mode @ mode) / amplitude**2
            - len(mode) * float(np.log(amplitude))
            - float(np.log(np.diag(factor[0])).sum())
        )
        return Fit(
            law=law,
            bandwidth=bandwidth,
            amplitude=amplitude,
            outside=outside,
            evidence=evidence,
            shares=shares,
            _knots=self._knots,
            _features=features,
            _mode=mode,
            _precision=factor,
        )

    def _whitening(self, expected: Floats) -> list[Floats]:
        ends = np.cumsum([len(poll.shares) for poll in self._polls])[:-1]
        parts = np.split(expected, ends)
        each = zip(self._polls, parts, strict=True)
        return [_inverse_root(poll.covariance(part)) for poll, part in each]


def _inverse_root(matrix: Floats) -> Floats:
    """float64[m, m], lower triangular: the inverse of the matrix's Cholesky factor. Many right sides follow, for which
    a product is several times faster than a solution."""
    return np.asarray(solve_triangular(cholesky(matrix, lower=True), np.eye(len(matrix)), lower=True))


def _whitened(inverses: Sequence[Floats], rows: Floats) -> Floats:
    """The rows, those of each poll times the inverse of its errors' root."""
    ends = np.cumsum([len(inverse) for inverse in inverses])[:-1]
    return np.concatenate([inverse @ part for inverse, part in zip(inverses, np.split(rows, ends), strict=True)])


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
    among[np.diag_indices_from(among)] += JITTER
    return np.asarray(cholesky(among, lower=True))
