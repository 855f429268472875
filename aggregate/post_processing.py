"""Counts made consistent: nothing negative, a known total. Every one of these trades unbiasedness for consistency.

    norm_sub([70.0, 40.0, -10.0], total=100)                          # [65, 35, 0]
    threshold_counts([70.0, 4.0, -10.0], [5.0, 5.0, 5.0], z=3.0)      # [70, 0, 0]

The unbiased estimate stays the result; what is computed here is released beside it under the name of its method, has no
standard error, and must not be averaged over days or added over keys: the bias of small counts, which are pushed up to
0 or cut down to it, does not average out.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from privacy.mechanism import Estimate

PostProcessing = Literal["none", "norm_sub", "simplex", "threshold"]
POST_PROCESSINGS: tuple[str, ...] = get_args(PostProcessing)


def post_process(
    estimate: Estimate, how: PostProcessing, *, total: float | None = None, z: float = 0.0
) -> NDArray[np.float64]:
    """The estimate's counts, float64[d], after the method named `how`.

    "none": the counts as they are, unbiased, perhaps negative. "norm_sub" and "simplex": non-negative, and they sum to
    `total` (the number of reports if None: right only where the values are all that a device can report). "threshold":
    0 where the count is below `z` of its standard errors. Raises ValueError for another name, and for what the methods
    refuse.
    """
    total = float(estimate.reports) if total is None else total
    if how == "none":
        return estimate.counts.copy()
    if how == "norm_sub":
        return norm_sub(estimate.counts, total)
    if how == "simplex":
        return project_on_simplex(estimate.counts, estimate.stderr, total)
    if how == "threshold":
        return threshold_counts(estimate.counts, estimate.stderr, z)
    raise ValueError(f"post_processing is {how!r}; expected one of {', '.join(POST_PROCESSINGS)}")


def norm_sub(counts: ArrayLike, total: float) -> NDArray[np.float64]:
    """Negative counts become 0 and one number is subtracted from all others, so that the sum is `total`.

    Wang, Lopuhaä-Zwakenberg, Li, Skoric, Li 2020, 'Locally differentially private frequency estimation with
    consistency' (there named Norm-Sub), which is also the nearest point, in squared distance, with these properties.
    Biased: values that nobody holds get more than 0 on average, and frequent values pay for it, all the same amount.
    Raises ValueError for a total that is not above 0, or counts that are no list of finite numbers.
    """
    held = _checked(counts, "counts")
    return _shifted(held, np.ones(len(held)), _check_total(total))


def project_on_simplex(counts: ArrayLike, stderr: ArrayLike, total: float) -> NDArray[np.float64]:
    """The likeliest counts, all >= 0 with the sum `total`, for independent normal errors with these standard errors.

    The projection on the simplex in the distance sum ((x - count) / stderr)^2: uncertain counts move more than certain
    ones. With equal standard errors it is `norm_sub`. Biased like it. Raises ValueError also for standard errors that
    are not all above 0 (or all 0, as without privacy: then they count as equal).
    """
    held, errors = _checked(counts, "counts"), _checked(stderr, "stderr")
    if len(held) != len(errors):
        raise ValueError(f"stderr has {len(errors)} entries and counts {len(held)}; expected one for each count")
    if (errors < 0).any() or ((errors == 0).any() and (errors > 0).any()):
        raise ValueError(f"stderr reaches down to {errors.min():g}; expected all above 0 (or all 0)")
    return _shifted(held, errors**2 if (errors > 0).all() else np.ones(len(held)), _check_total(total))


def threshold_counts(counts: ArrayLike, stderr: ArrayLike, z: float) -> NDArray[np.float64]:
    """Counts below `z` standard errors become 0, the others stay as they are (Base-Cut in Wang et al. 2020).

    Biased: downwards for values that few hold, upwards for those that only just pass. Raises ValueError for a negative
    z, or for lists of different lengths or with something that is no finite number.
    """
    held, errors = _checked(counts, "counts"), _checked(stderr, "stderr")
    if len(held) != len(errors):
        raise ValueError(f"stderr has {len(errors)} entries and counts {len(held)}; expected one for each count")
    if not z >= 0:
        raise ValueError(f"z is {z}; expected a number of standard errors >= 0")
    return np.where(held >= z * errors, np.maximum(held, 0.0), 0.0)


def _shifted(counts: NDArray[np.float64], weights: NDArray[np.float64], total: float) -> NDArray[np.float64]:
    """max(0, counts + shift weights), with the shift that makes the sum `total`.

    The sum grows with the shift in straight pieces; a count starts to matter at shift -count / weight. In that order,
    the right piece is the last one whose start has not yet reached the total.
    """
    starts = -counts / weights
    order = np.argsort(starts, kind="stable")
    sums, slopes = np.cumsum(counts[order]), np.cumsum(weights[order])
    at_start = sums + starts[order] * slopes
    at_start[0] = 0.0  # exactly, so that there is always a last one
    last = np.flatnonzero(at_start < total)[-1]
    shift = (total - float(sums[last])) / float(slopes[last])
    return np.asarray(np.maximum(counts + shift * weights, 0.0))


def _checked(numbers: ArrayLike, name: str) -> NDArray[np.float64]:
    array: NDArray[Any] = np.asarray(numbers, dtype=np.float64)
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all():
        raise ValueError(f"{name} has shape {array.shape} or holds no finite numbers; expected a list of numbers")
    return array


def _check_total(total: float) -> float:
    if not 0 < total < np.inf:
        raise ValueError(f"total is {total}; expected the number of reports that the counts share, above 0")
    return float(total)
