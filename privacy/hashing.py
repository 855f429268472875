"""Hash functions of the sketches: strings to 64-bit values, and 64-bit values to the columns of each row.

Device and server must agree on them, so all of them follow from one public number, the `hash_seed`.

    values = hash_strings(["😂", "❤️"])                          # uint64[2], the same on every machine
    columns = hash_columns(values, hash_seed=1, row=7, columns=1024)   # int64[2] in 0 .. 1023

The row hashes are polynomials of degree 2 with random coefficients over the field of p = 2^61 - 1 elements:
h_j(x) = floor(((a_j x^2 + b_j x + c_j) mod p) * columns / 2^61). Over the choice of coefficients they are three-wise
independent (Carter and Wegman 1979; Wegman and Carter 1981, section 1; Mersenne arithmetic as in Thorup 2015, 'High
speed hashing for integers and strings', section 3.1), as Apple's Differential Privacy Team 2017 asks: pairs suffice
for the estimates to be unbiased, triples make their variance exact. A column holds p / columns field elements, give or
take 2, so two values share a column with a probability within 4 columns / p^2 < 2^-90 of 1 / columns.

The values themselves are taken modulo p: two 64-bit values that differ by a multiple of p are one value to a sketch.
For 250,000 hashed strings, the chance that any two are is 1.4e-8.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

LARGEST_SEED = (1 << 64) - 1
PRIME = (1 << 61) - 1

HASH_BLOCK = 256  # values hashed at a time: their coefficients stay in the L1 cache

_P = np.uint64(PRIME)
_LOW_29, _LOW_32 = np.uint64((1 << 29) - 1), np.uint64((1 << 32) - 1)
_3, _29, _32, _61 = (np.uint64(bits) for bits in (3, 29, 32, 61))


def check_hash_seed(hash_seed: int) -> None:
    """Raise ValueError unless 0 <= hash_seed < 2^64."""
    if isinstance(hash_seed, bool) or not isinstance(hash_seed, int | np.integer):
        raise ValueError(f"hash_seed is {hash_seed!r}; expected a whole number, 0 to 2^64 - 1")
    if not 0 <= hash_seed <= LARGEST_SEED:
        raise ValueError(f"hash_seed is {hash_seed}; expected 0 to 2^64 - 1")


def hash_strings(strings: Sequence[str], *, hash_seed: int = 0) -> NDArray[np.uint64]:
    """uint64[n]: BLAKE2b (RFC 7693) of the UTF-8 bytes, keyed with hash_seed; the same on every machine and version.

    Strings are hashed as they are: whoever wants 'é' typed in two ways to be one value normalizes first. Raises
    TypeError for anything but a list of strings, ValueError for text that has no UTF-8 form.
    """
    check_hash_seed(hash_seed)
    if isinstance(strings, str | bytes):
        raise TypeError(f"strings is one {type(strings).__name__}; expected a list of strings")
    keyed = hashlib.blake2b(digest_size=8, key=int(hash_seed).to_bytes(8, "little"), person=b"synthpoll value")
    out = np.empty(len(strings), dtype=np.uint64)
    for i, text in enumerate(strings):
        if not isinstance(text, str):
            raise TypeError(f"strings[{i}] is of type {type(text).__name__}; expected a string")
        state = keyed.copy()
        try:
            state.update(text.encode())
        except UnicodeEncodeError:
            # The text is private: the error must not show it, nor carry the error that does.
            raise ValueError(f"strings[{i}] has no UTF-8 form (a lone surrogate); repair or drop it") from None
        out[i] = int.from_bytes(state.digest(), "little")
    return out


def check_hashes(values: NDArray[Any]) -> NDArray[np.uint64]:
    """The values as uint64[n].

    Every unsigned integer is a value, and so is every signed one that is not negative. Raises TypeError for other
    dtypes (strings go through `hash_strings` first), ValueError for negative values or another number of axes.
    """
    values = np.asarray(values)
    if values.ndim != 1:
        raise ValueError(f"values have {values.ndim} axes; expected one (a 64-bit value per device)")
    if values.size == 0:
        return np.zeros(0, dtype=np.uint64)
    if not np.issubdtype(values.dtype, np.integer):
        raise TypeError(f"values have dtype {values.dtype}; expected 64-bit integers (privacy.hashing.hash_strings)")
    if np.issubdtype(values.dtype, np.signedinteger) and int(values.min()) < 0:
        raise ValueError(f"values reach down to {int(values.min())}; expected 0 to 2^64 - 1 (uint64 hashes)")
    return np.ascontiguousarray(values, dtype=np.uint64)


def derive_seed(hash_seed: int, purpose: str) -> int:
    """A seed below 2^64 for one purpose, so that the families of a mechanism's several sketches are independent."""
    key = int(hash_seed).to_bytes(8, "little")
    digest = hashlib.blake2b(purpose.encode(), digest_size=8, key=key, person=b"synthpoll seed").digest()
    return int.from_bytes(digest, "little")


def row_coefficients(hash_seed: int, row: int) -> tuple[int, int, int]:
    """(a, b, c) of one row, each in 0 .. p - 1: all that a device computes, since it uses one row.

    192 bits of keyed BLAKE2b reduced modulo p, which is uniform up to 2^-61.
    """
    key = int(hash_seed).to_bytes(8, "little")
    digest = hashlib.blake2b(row.to_bytes(8, "little"), digest_size=24, key=key, person=b"synthpoll row").digest()
    a, b, c = (int.from_bytes(digest[i : i + 8], "little") % PRIME for i in (0, 8, 16))
    return a, b, c


@lru_cache(maxsize=32)
def hash_family(hash_seed: int, rows: int) -> NDArray[np.uint64]:
    """uint64[rows, 3], read-only: the coefficients of rows 0 .. rows - 1 (1.5 MiB and 0.1 s at 65,536 rows)."""
    family = np.array([row_coefficients(hash_seed, row) for row in range(rows)], dtype=np.uint64)
    family.flags.writeable = False
    return family


def hash_columns(values: NDArray[Any], *, hash_seed: int, row: int, columns: int) -> NDArray[np.int64]:
    """int64[n] in 0 .. columns - 1: what row number `row` makes of the values."""
    a, b, c = (np.uint64(x) for x in row_coefficients(hash_seed, row))
    found: NDArray[np.int64] = _columns(check_hashes(values), a, b, c, np.uint64(columns))
    return found


# The field arithmetic is written in halves of 32 bits, so that loops over it become vector instructions (a 128-bit
# product exists for scalars only, and made the device half of the Hadamard sketch twice as slow).


@njit(inline="always")
def folded_product(a, b):  # type: ignore[no-untyped-def]
    """A number below 2^61 + 8 that is a b modulo p, for a < 2^63 and b < 2^61."""
    a_low, a_high, b_low, b_high = a & _LOW_32, a >> _32, b & _LOW_32, b >> _32
    low, middle, high = a_low * b_low, a_high * b_low + a_low * b_high, a_high * b_high
    # a b = high 2^64 + middle 2^32 + low, and 2^61 = 1 modulo p: so 2^64 = 8, and the bits of `middle` from 29 up,
    # which stand at 2^61 and above, are added at the bottom. No sum exceeds 2^63 + 2^62 + 2^35.
    total = (high << _3) + (middle >> _29) + ((middle & _LOW_29) << _32) + (low & _P) + (low >> _61)
    return (total & _P) + (total >> _61)


@njit(inline="always")
def field_element(value):  # type: ignore[no-untyped-def]
    """A 64-bit value modulo p."""
    x = (value & _P) + (value >> _61)
    return x - _P if x >= _P else x


@njit(inline="always")
def field_hash(x, a, b, c):  # type: ignore[no-untyped-def]
    """(a x^2 + b x + c) mod p for field elements."""
    y = folded_product(folded_product(a, x) + b, x) + c
    y = (y & _P) + (y >> _61)
    return y - _P if y >= _P else y


@njit(inline="always")
def row_column(x, a, b, c, columns):  # type: ignore[no-untyped-def]
    """floor(hash * columns / 2^61), uint64, for a field element x and columns <= 2^32."""
    y = field_hash(x, a, b, c)
    return ((y >> _32) * columns + ((y & _LOW_32) * columns >> _32)) >> _29


@njit(cache=True, nogil=True)
def _columns(values, a, b, c, columns):  # type: ignore[no-untyped-def]
    out = np.empty(len(values), dtype=np.int64)
    for i in range(len(values)):
        out[i] = row_column(field_element(values[i]), a, b, c, columns)
    return out


def polynomial_values(codes: NDArray[np.uint8], point: int) -> NDArray[np.uint64]:
    """uint64[n]: the polynomial with each row of codes, uint8[n, length], as coefficients, at a point of the field.

    Two rows are one value for at most length - 1 of the p points (Carter and Wegman 1979).
    """
    values: NDArray[np.uint64] = _polynomials(np.ascontiguousarray(codes), np.uint64(point))
    return values


@njit(cache=True, nogil=True)
def _polynomials(codes, point):  # type: ignore[no-untyped-def]
    out = np.empty(len(codes), dtype=np.uint64)
    for i in range(len(codes)):
        total = np.uint64(0)
        for code in codes[i]:
            total = folded_product(total, point) + np.uint64(code)
        total = (total & _P) + (total >> _61)
        out[i] = total - _P if total >= _P else total
    return out


def columns_in_rows(
    values: NDArray[np.uint64], rows: NDArray[np.uint64], family: NDArray[np.uint64], columns: int
) -> NDArray[np.int64]:
    """int64[n]: the column of each value in the row that stands beside it."""
    found: NDArray[np.int64] = _columns_in_rows(values, rows, family, np.uint64(columns))
    return found


@njit(inline="always")
def gather_coefficients(rows, family, a, b, c):  # type: ignore[no-untyped-def]
    """Copy the coefficients of each row: after it, a loop over a, b and c needs no scattered memory."""
    for i in range(len(rows)):
        a[i], b[i], c[i] = family[rows[i], 0], family[rows[i], 1], family[rows[i], 2]


@njit(cache=True, nogil=True)
def _columns_in_rows(values, rows, family, columns):  # type: ignore[no-untyped-def]
    out = np.empty(len(values), dtype=np.int64)
    a, b, c = np.empty(HASH_BLOCK, np.uint64), np.empty(HASH_BLOCK, np.uint64), np.empty(HASH_BLOCK, np.uint64)
    for start in range(0, len(values), HASH_BLOCK):
        stop = min(start + HASH_BLOCK, len(values))
        gather_coefficients(rows[start:stop], family, a, b, c)
        part, found = values[start:stop], out[start:stop]
        for i in range(stop - start):
            found[i] = np.int64(row_column(field_element(part[i]), a[i], b[i], c[i], columns))
    return out


def collision_counts(
    values: NDArray[np.uint64], others: NDArray[np.uint64], family: NDArray[np.uint64], columns: int
) -> NDArray[np.int32]:
    """int32[d, e]: in how many rows each of d values shares a column with each of e others.

    Time: one hash per value and row, and one step per collision; memory: d e.
    """
    found: NDArray[np.int32] = _collision_counts(values, others, family, np.uint64(columns))
    return found


@njit(cache=True, nogil=True)
def _collision_counts(values, others, family, columns):  # type: ignore[no-untyped-def]
    counts = np.zeros((len(values), len(others)), dtype=np.int32)
    newest, older = np.full(columns, -1, dtype=np.int64), np.empty(len(others), dtype=np.int64)  # chained by column
    found, taken = np.empty(HASH_BLOCK, np.uint64), np.empty(len(others), np.uint64)
    for j in range(len(family)):
        a, b, c = family[j, 0], family[j, 1], family[j, 2]
        for h in range(len(others)):
            taken[h] = row_column(field_element(others[h]), a, b, c, columns)
            older[h], newest[taken[h]] = newest[taken[h]], h
        for start in range(0, len(values), HASH_BLOCK):
            part, into = values[start : start + HASH_BLOCK], counts[start : start + HASH_BLOCK]
            for i in range(len(part)):  # vector instructions
                found[i] = row_column(field_element(part[i]), a, b, c, columns)
            for i in range(len(part)):
                h = newest[found[i]]
                while h >= 0:
                    into[i, h] += 1
                    h = older[h]
        for h in range(len(others)):
            newest[taken[h]] = -1
    return counts


@njit(cache=True, nogil=True)
def add_row_cells(row_sums, values, a, b, c, totals):  # type: ignore[no-untyped-def]
    """totals[i] += the cell of row_sums that values[i] hashes to."""
    columns, found = np.uint64(len(row_sums)), np.empty(HASH_BLOCK, np.uint64)
    for start in range(0, len(values), HASH_BLOCK):
        part, into = values[start : start + HASH_BLOCK], totals[start : start + HASH_BLOCK]
        for i in range(len(part)):  # vector instructions
            found[i] = row_column(field_element(part[i]), a, b, c, columns)
        for i in range(len(part)):  # scattered memory
            into[i] += row_sums[found[i]]
