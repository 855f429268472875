"""The Hadamard count mean sketch, beyond the contract that every mechanism passes (cases_sketches.py)."""

from __future__ import annotations

import math
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from scipy.linalg import hadamard

from privacy.hadamard_sketch import HadamardCountMeanSketch
from privacy.hashing import hash_columns, hash_strings
from privacy.randomness import DeviceStream
from privacy.sketch_kernels import transform
from privacy.thresholds import WORD, exp_below
from tests.privacy.cases_sketches import hadamard_channel
from tests.privacy.contract import check_channel, check_two_samples, largest_ratio, stream


def sketch(**changes) -> HadamardCountMeanSketch:
    return HadamardCountMeanSketch(**{"epsilon": 4.0, "rows": 16, "columns": 64, "hash_seed": 1} | changes)


def by_hand(mechanism: HadamardCountMeanSketch, value: int, word: int, rest: int | None) -> tuple[int, int, int]:
    """Row, coordinate and sign that the docstring promises for this random word; `rest` decides a tie."""
    upper, lower = divmod(word, 1 << 32)
    coordinate = upper % mechanism.columns
    row = (upper // mechanism.columns) * mechanism.rows // ((1 << 32) // mechanism.columns)
    column = hash_columns(np.array([value]), hash_seed=mechanism.hash_seed, row=row, columns=mechanism.columns)[0]
    true = -1 if (int(column) & coordinate).bit_count() % 2 else 1
    high, low = divmod(mechanism.threshold, 1 << 32)
    flipped = lower < high or (lower == high and rest is not None and rest < low)
    return row, coordinate, -true if flipped else true


# Privacy


@pytest.mark.parametrize("epsilon", [1e-7, 0.001, 0.1, 1, 2.5, 4, 8, 11.99, 12])
def test_the_threshold_keeps_epsilon_exactly_and_wastes_nothing(epsilon):
    threshold = sketch(epsilon=epsilon).threshold
    assert Fraction(WORD - threshold, threshold) <= exp_below(epsilon)
    assert Fraction(WORD - threshold + 1, threshold - 1) > exp_below(epsilon)


@pytest.mark.parametrize(("rows", "columns"), [(16, 64), (1, 2), (5, 8), (1000, 32768), (48, 1024)])
def test_every_bit_of_a_report_follows_from_its_word(rows, columns):
    mechanism = sketch(rows=rows, columns=columns, epsilon=0.3)
    values = np.arange(700) % 101
    got = np.stack(mechanism.split(mechanism.privatize(values, stream())), axis=1).tolist()
    words = np.frombuffer(stream().bytes(8 * 700), dtype="<u8").tolist()
    assert got == [list(by_hand(mechanism, int(v), w, None)) for v, w in zip(values, words, strict=True)]


class ScriptedStream(DeviceStream):
    """Gives these words; the companion stays that of its key."""

    def __init__(self, words: list[int]):
        super().__init__(bytes(32), simulated=True)
        self.words = np.array(words, dtype=np.uint64)

    def fill(self, out: np.ndarray) -> None:
        out[:], self.words = self.words[: len(out)], self.words[len(out) :]


def test_all_64_bits_of_the_comparison_decide():
    """Words whose lower half equals the upper half of T are decided by the companion; their neighbours are not."""
    mechanism, n = sketch(epsilon=1.0), 400
    high, low = divmod(mechanism.threshold, 1 << 32)
    numbers = np.random.default_rng(4).integers(0, 1 << 32, n)
    words = [(int(upper) << 32) + high + (i % 4 - 1) % 3 - 1 for i, upper in enumerate(numbers)]  # 1, -1, 0, 1 away
    ties = [i for i, word in enumerate(words) if word % (1 << 32) == high]
    rest = np.frombuffer(DeviceStream(bytes(32), simulated=True).companion.bytes(8 * len(ties)), dtype="<u8") >> 32
    decides = dict(zip(ties, rest.tolist(), strict=True))
    values = np.arange(n)
    expected = [list(by_hand(mechanism, i, word, decides.get(i))) for i, word in enumerate(words)]
    got = np.stack(mechanism.split(mechanism.privatize(values, ScriptedStream(words))), axis=1).tolist()
    assert got == expected
    flips = [rest < low for rest in decides.values()]
    assert 10 < sum(flips) < len(flips) - 10  # both outcomes were seen
    # The same in two calls: the companion, too, is consumed in report order.
    halves = ScriptedStream(words)
    parts = [mechanism.privatize(part, halves) for part in (values[:151], values[151:])]
    assert np.stack(mechanism.split(np.concatenate(parts)), axis=1).tolist() == expected


def test_the_law_of_row_and_coordinate_costs_no_privacy(monkeypatch):
    mechanism = sketch(rows=3, columns=4)
    even = largest_ratio(hadamard_channel(mechanism))
    uneven = [Fraction(1, 1000), Fraction(9, 10), Fraction(99, 1000)]
    monkeypatch.setattr("tests.privacy.cases_sketches.row_probabilities", lambda rows, bits: uneven)
    channel = hadamard_channel(mechanism)
    check_channel(channel, mechanism.epsilon)
    assert largest_ratio(channel) == even


def test_negative_control_flipping_too_seldom_is_caught():
    leaky = sketch(rows=2, columns=4)
    leaky.__dict__["threshold"] = leaky.threshold - 1
    with pytest.raises(AssertionError, match="more than epsilon"):
        check_channel(hadamard_channel(leaky), leaky.epsilon)


# Reports


@pytest.mark.parametrize(("rows", "columns", "bits"), [(1024, 32768, 26), (1, 2, 2), (3, 8, 6)])
def test_reports_decode_and_encode(rows, columns, bits):
    mechanism = sketch(rows=rows, columns=columns)
    reports = mechanism.privatize(np.arange(3000), stream())
    assert reports.dtype == np.uint32
    assert mechanism.report_bits == bits
    r, coordinates, signs = mechanism.split(reports)
    assert set(signs.tolist()) == {1, -1}
    assert r.min() >= 0
    assert r.max() < rows
    assert coordinates.max() < columns
    assert (mechanism.join(r, coordinates, signs) == reports).all()


@pytest.mark.parametrize("part", ["rows", "coordinates"])
def test_rows_and_coordinates_are_even(part):
    mechanism, n = sketch(rows=48, columns=64), 60_000
    r, coordinates, _ = mechanism.split(mechanism.privatize(np.zeros(n, dtype=np.int64), stream()))
    seen, cells = (r, 48) if part == "rows" else (coordinates, 64)
    assert (np.abs(np.bincount(seen, minlength=cells) - n / cells) < 5 * math.sqrt(n / cells)).all()


def test_reports_of_another_mechanism_are_refused():
    mechanism = sketch()
    reports = mechanism.privatize(np.arange(5), stream())
    for wrong in (reports[:, None], reports.astype(np.int64)):
        with pytest.raises(ValueError, match=r"expected uint32\[n\]"):
            mechanism.tally(wrong)
    with pytest.raises(ValueError, match=r"reach to 2048; expected 0 \.\. 2047"):
        mechanism.tally(np.array([2048], dtype=np.uint32))
    for row, coordinate, sign, message in ((16, 0, 1, "row"), (0, 64, 1, "coordinate"), (0, 0, 0, "sign")):
        with pytest.raises(ValueError, match=f"a {message} is"):
            mechanism.join(np.array([row]), np.array([coordinate]), np.array([sign]))


# The server


@pytest.mark.parametrize(("rows", "columns", "n"), [(16, 64, 3000), (3, 32768, 40_000), (5, 16384, 10_240)])
def test_tallies_add_up_signs_however_they_are_added(rows, columns, n):
    """The second and third shape are large enough for reports to be sorted first; the last row is partly filled."""
    mechanism = sketch(rows=rows, columns=columns)
    reports = mechanism.privatize(np.arange(n), stream())
    r, coordinates, signs = mechanism.split(reports)
    dense = np.zeros((rows, columns), dtype=np.int64)
    np.add.at(dense, (r, coordinates), signs)
    whole = mechanism.tally(reports)
    assert (whole.sums == dense).all()
    streamed, array = mechanism.tally(reports[:100]), None
    for start in range(100, n, n // 2):
        array = streamed.sums if array is None else array
        streamed = mechanism.tally(reports[start : start + n // 2], onto=streamed)
    assert np.shares_memory(streamed.sums, array)
    assert (streamed.sums == dense).all()
    assert streamed.reports == whole.reports == n


@pytest.mark.parametrize("size", [1, 2, 4, 64, 1024])
def test_the_transform_is_that_of_the_hadamard_matrix(size):
    row = np.random.default_rng(size).integers(-1000, 1000, size)
    expected = hadamard(size) @ row
    transform(row)
    assert (row == expected).all()


BOUNDED = """
import resource
import numpy as np
from privacy import DeviceStream, HadamardCountMeanSketch

sketch = HadamardCountMeanSketch(epsilon=8.0, rows=4, columns=32768, hash_seed=1)
values = np.zeros(2000, dtype=np.uint64)
tally = sketch.tally(sketch.privatize(values, DeviceStream.from_system()))
sketch.estimate(tally, values[:1])  # compiles
with open("/proc/self/statm") as file:
    pages = int(file.read().split()[0])
limit = pages * resource.getpagesize() + (256 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
print(abs(sketch.estimate(tally, values[:1]).counts[0] - 2000) < 5 * sketch.standard_error(2000, 2000))
try:
    np.ones((32768, 32768))
except MemoryError:
    print("a dense matrix does not fit")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not hold a process to an address space")
def test_apples_size_needs_no_matrix_of_8_gib():
    """The published fault: a library forms the m x m matrix of the transform. Here 256 MiB are plenty."""
    done = subprocess.run([sys.executable, "-c", BOUNDED], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["True", "a dense matrix does not fit"]


def test_estimates_follow_the_published_formula():
    """REFERENCE: M[j, l] += k c bit, M := M H; the count is m/(m-1) (mean over rows of M[j, h_j(d)] - n/m)."""
    mechanism, n, k, m = sketch(), 500, 16, 64
    values = hash_strings([f"{i % 9}" for i in range(n)])
    reports = mechanism.privatize(values, stream())
    c = (math.exp(4) + 1) / (math.exp(4) - 1)
    matrix = np.zeros((k, m))
    rows, coordinates, signs = mechanism.split(reports)
    np.add.at(matrix, (rows, coordinates), k * c * signs)
    matrix = matrix @ hadamard(m)
    expected = [
        m
        / (m - 1)
        * (np.mean([matrix[j, hash_columns(v, hash_seed=1, row=j, columns=m)[0]] for j in range(k)]) - n / m)
        for v in np.unique(values)[:, None]
    ]
    got = mechanism.estimate(mechanism.tally(reports), np.unique(values)).counts
    np.testing.assert_allclose(got, expected, rtol=1e-9)


def stderr_and_errors(rows: int, polls: int = 400) -> tuple[np.ndarray, np.ndarray, HadamardCountMeanSketch]:
    """Claimed standard errors and true errors of a rare value beside one that 90% of the devices hold."""
    stderr, errors = [], []
    values, asked = np.array([7] * 900 + list(range(100, 190)) + [3] * 10), np.array([3, 7, 55])
    for family in range(polls):
        mechanism = sketch(rows=rows, columns=8, hash_seed=family)
        estimate = mechanism.estimate(mechanism.tally(mechanism.privatize(values, stream(family))), asked)
        stderr.append(estimate.stderr)
        errors.append(estimate.counts - [10, 900, 0])
    return np.array(stderr), np.array(errors), mechanism


@pytest.mark.parametrize("rows", [1, 4, 64])
def test_stderr_knows_the_collisions_with_values_that_were_not_asked_for(rows):
    """As for the count mean sketch; the heavy value itself only where there are cells enough (CollisionModel)."""
    stderr, errors, mechanism = stderr_and_errors(rows)
    for value, (claimed, error) in enumerate(zip(stderr.T, errors.T, strict=True)):
        if value == 1 and rows < 64:
            continue
        squares = error**2
        claim, gap = (claimed**2).mean(), squares.std(ddof=1) / math.sqrt(len(squares))
        assert abs(squares.mean() - claim) < 5 * gap
    exact = mechanism.standard_error(1000, 10, 900**2 + 90 + 10**2)
    assert np.sqrt((stderr[:, 0] ** 2).mean()) == pytest.approx(exact, rel=0.1)


def test_negative_control_without_the_collisions_of_heavy_values_the_stderr_is_wrong():
    _, errors, mechanism = stderr_and_errors(rows=4)
    blind = mechanism.standard_error(1000, 10)
    squares = errors[:, 0] ** 2
    assert squares.mean() - blind**2 > 5 * squares.std(ddof=1) / math.sqrt(len(squares))


def test_standard_errors_of_the_reference():
    big, n, m, k = sketch(rows=1024, columns=32768), 10**7, 32768, 1024
    c = (math.exp(4) + 1) / (math.exp(4) - 1)
    assert c**2 == pytest.approx(1.076, abs=0.0005)
    own = 2e5
    others = np.array([5e5] * 18 + [1.0] * 800_000)
    inner = own * (c**2 - 1) + (others * (c**2 - m**-2) + others * (others - 1) * (1 / k) * (1 / m) * (1 - 1 / m)).sum()
    expected = m / (m - 1) * math.sqrt(inner)
    assert big.standard_error(n, own, float((others**2).sum() + own**2)) == pytest.approx(expected, rel=1e-9)
    assert sketch(epsilon=12.0, columns=1024).standard_error(n) > math.sqrt(n)  # never below 1 a report


def test_tallies_of_other_families_do_not_mix():
    a, b = sketch(hash_seed=1), sketch(hash_seed=2)
    reports = a.privatize(np.arange(5), stream())
    with pytest.raises(ValueError, match=r"hash_seed.: 1.*hash_seed.: 2"):
        a.tally(reports) + b.tally(reports)
    with pytest.raises(ValueError, match="the tally was made with"):
        b.tally(reports, onto=a.tally(reports))
    with pytest.raises(ValueError, match="values is None"):
        a.estimate(a.tally(reports))


# The shortcut that does not exist


def estimates_of(mechanism: HadamardCountMeanSketch, tallies: list, values: np.ndarray) -> np.ndarray:
    return np.array([mechanism.estimate(tally, values).counts for tally in tallies])


def test_one_multinomial_over_users_is_not_the_law_of_a_fixed_histogram():
    """Why `simulate_tally` makes the reports: drawing the devices' values anew from the histogram adds their sampling
    variance, and the two-sample test sees it in the estimates.
    """
    mechanism, values, rng = sketch(epsilon=6.0), hash_strings([f"{i}" for i in range(6)]), np.random.default_rng(8)
    truth, polls = np.array([200, 100, 40, 30, 20, 10]), 1600
    reported = [mechanism.tally(mechanism.privatize(np.repeat(values, truth), stream(i))) for i in range(polls)]
    simulated = [mechanism.simulate_tally(truth, rng, values) for _ in range(polls)]
    redrawn = [mechanism.simulate_tally(rng.multinomial(400, truth / 400), rng, values) for _ in range(polls)]
    real, exact, wrong = (estimates_of(mechanism, tallies, values) for tallies in (reported, simulated, redrawn))
    check_two_samples(real, exact)
    with pytest.raises(AssertionError, match="variances differ"):
        check_two_samples(real, wrong)


def test_a_simulated_tally_takes_one_count_per_value():
    mechanism, rng = sketch(), np.random.default_rng(0)
    assert mechanism.simulate_tally(np.array([5, 0]), rng, hash_strings(["a", "b"])).reports == 5
    assert mechanism.simulate_tally(np.zeros(0, dtype=np.int64), rng, np.zeros(0, dtype=np.uint64)).reports == 0
    with pytest.raises(ValueError, match="counts"):
        mechanism.simulate_tally(np.array([5]), rng, hash_strings(["a", "b"]))
    with pytest.raises(ValueError, match="values is None"):
        mechanism.simulate_tally(np.array([5]), rng)


# Errors


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": 0}, "rows is 0; expected 1 or more"),
        ({"columns": 48}, "columns is 48; hadamard_count_mean_sketch needs a power of two"),
        ({"columns": 1}, "columns is 1; expected 2 or more"),
        ({"rows": 1 << 20, "columns": 1 << 10}, r"at most 2\^28 cells"),
        ({"hash_seed": 1 << 64}, "hash_seed is 18446744073709551616"),
        ({"epsilon": 1e-10}, "epsilon is 1e-10; .*expected at least"),
        ({"epsilon": 13}, "epsilon is 13"),
    ],
)
def test_senseless_parameters_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        sketch(**changes)
