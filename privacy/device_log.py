"""The report log of a device, in the JSON shape in which Apple's devices show what they sent.

    segment = segment_of(mechanism, reports, key="com.example.emoji.en")
    text = write_log([segment])
    {"version":21,"segments":[{"algorithm":"CMS","key":"com.example.emoji.en",
      "parameters":{"epsilon":4.0,"k":65536,"m":1024},"records":["50211,0010...04"]}]}
    (segment,) = read_log(text)
    reports = reports_of(segment, mechanism)     # the same, to the last bit

Records, one a report (k = rows, m = columns):

    CMS   row, then the bits as 2 ceil(m / 8) hexadecimal digits, column 0 first:    50211,0010...04
    HCMS  row, coordinate, sign:                                                     686,28635,-1
    SFP   position; CMS record of the piece; CMS record of the word:                 3;17,08...20;901,40...00

Every other mechanism has its own name as algorithm, its own parameters, and as a record the numbers of its report with
commas between them; a report of bytes (unary encodings) as two hexadecimal digits a byte:

    randomized_response   the symbol; with a null, domain_size stands for 'no match':   17
    subset_selection      the values of the subset, in increasing order:                3,17,40
    unary encodings       value 8 i + j is bit j of byte i, least significant first:    0010...04

The shape, CMS and HCMS records follow logs seen in public; which bit of the first digit is column 0 is not known from
them (here: the highest), and the other records are this project's own. The log holds what left the device and nothing
else. It does not hold the hash seed, so reading it back takes the mechanism.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privacy.count_mean_sketch import CountMeanSketch
from privacy.fragment_puzzle import SequenceFragmentPuzzle
from privacy.hadamard_sketch import HadamardCountMeanSketch
from privacy.mechanism import Mechanism, Reports

VERSION = 21

Sketch = CountMeanSketch | HadamardCountMeanSketch | SequenceFragmentPuzzle
LoggedMechanism = Sketch | Mechanism

_NUMBER = "(0|[1-9][0-9]{0,8})"
_CMS_RECORD = re.compile(rf"{_NUMBER},([0-9a-fA-F]+)")
_HCMS_RECORD = re.compile(rf"{_NUMBER},{_NUMBER},(-?1)")
_SFP_RECORD = re.compile(rf"{_NUMBER};([^;]+);([^;]+)")
_WIDE_NUMBER = re.compile("0|[1-9][0-9]{0,19}")
_BYTES = re.compile("(?:[0-9a-f]{2})+")


@dataclass(frozen=True)
class LogSegment:
    """The reports of one use case, which `key` names.

    `parameters` of CMS, HCMS and SFP are epsilon, k (rows) and m (columns); of other mechanisms all that they have.
    """

    algorithm: str
    key: str
    parameters: Mapping[str, int | float]
    records: tuple[str, ...]


def write_log(segments: Iterable[LogSegment]) -> str:
    """The log as JSON text without spaces."""
    log = {
        "version": VERSION,
        "segments": [
            {
                "algorithm": segment.algorithm,
                "key": segment.key,
                "parameters": dict(segment.parameters),
                "records": list(segment.records),
            }
            for segment in segments
        ],
    }
    return json.dumps(log, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def read_log(text: str) -> tuple[LogSegment, ...]:
    """What `write_log` wrote. Raises ValueError for another version or shape."""
    try:
        log = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"the log is no JSON: {error}") from error
    _expect_keys(log, "the log", {"version", "segments"})
    if log["version"] != VERSION:
        raise ValueError(f"the log has version {log['version']!r}; expected {VERSION}")
    if not isinstance(log["segments"], list):
        raise ValueError("the log's segments are no list")
    return tuple(_segment(entry, f"segment {i}") for i, entry in enumerate(log["segments"]))


def segment_of(mechanism: LoggedMechanism, reports: Reports, *, key: str) -> LogSegment:
    """The reports as a segment of the log. Raises ValueError for reports of another mechanism."""
    return LogSegment(
        algorithm=_algorithm(mechanism),
        key=key,
        parameters=_parameters(mechanism),
        records=tuple(_records(mechanism, reports)),
    )


def reports_of(segment: LogSegment, mechanism: LoggedMechanism) -> Reports:
    """The reports of a segment, as `privatize` of the mechanism made them.

    Raises ValueError if the segment's algorithm or parameters are not the mechanism's, or for a malformed record.
    """
    logged = (segment.algorithm, dict(segment.parameters))
    own = (_algorithm(mechanism), _parameters(mechanism))
    if logged != own:
        raise ValueError(f"the segment holds (algorithm, parameters) = {logged}; the mechanism is {own}")
    return _reports(mechanism, segment.records)


def _algorithm(mechanism: LoggedMechanism) -> str:
    if isinstance(mechanism, CountMeanSketch):
        return "CMS"
    if isinstance(mechanism, HadamardCountMeanSketch):
        return "HCMS"
    return "SFP" if isinstance(mechanism, SequenceFragmentPuzzle) else mechanism.name


def _parameters(mechanism: LoggedMechanism) -> dict[str, int | float]:
    if isinstance(mechanism, Sketch):
        return {"epsilon": mechanism.epsilon, "k": int(mechanism.rows), "m": int(mechanism.columns)}
    return {key: value for key, value in mechanism.parameters.items() if not isinstance(value, str)}


def _records(mechanism: LoggedMechanism, reports: Reports) -> list[str]:
    if isinstance(mechanism, CountMeanSketch):
        rows, bits = mechanism.split(reports)
        return [f"{row},{bytes(b).hex()}" for row, b in zip(rows.tolist(), _reversed_bits(bits), strict=True)]
    if isinstance(mechanism, HadamardCountMeanSketch):
        columns = (part.tolist() for part in mechanism.decode(reports))
        return [f"{row},{coordinate},{sign}" for row, coordinate, sign in zip(*columns, strict=True)]
    if not isinstance(mechanism, SequenceFragmentPuzzle):
        return _plain_records(reports)
    positions, pieces, words = mechanism.split(reports)
    parts = (positions.tolist(), _records(mechanism.fragment_sketch, pieces), _records(mechanism.word_sketch, words))
    return [f"{position};{piece};{word}" for position, piece, word in zip(*parts, strict=True)]


def _reports(mechanism: LoggedMechanism, records: Sequence[str]) -> Reports:
    if isinstance(mechanism, CountMeanSketch):
        width = (mechanism.columns + 7) // 8
        fields = _fields(records, _CMS_RECORD, "row,hexadecimal bits")
        for i, (_, digits) in enumerate(fields):
            if len(digits) != 2 * width:
                raise ValueError(f"record {i} has {len(digits)} hexadecimal digits; expected {2 * width}")
        rows = np.array([int(row) for row, _ in fields], dtype=np.int64)
        packed = np.frombuffer(bytes.fromhex("".join(digits for _, digits in fields)), dtype=np.uint8)
        return mechanism.join(rows, _reversed_bits(packed.reshape(len(fields), width)))
    if isinstance(mechanism, HadamardCountMeanSketch):
        numbers = [[int(x) for x in f] for f in _fields(records, _HCMS_RECORD, "row,coordinate,1 or -1")]
        rows, coordinates, signs = np.array(numbers, dtype=np.int64).reshape(len(numbers), 3).T
        return mechanism.encode(rows, coordinates, signs)
    if not isinstance(mechanism, SequenceFragmentPuzzle):
        return _plain_reports(mechanism, records)
    fields = _fields(records, _SFP_RECORD, "position;piece;word")
    reports = np.concatenate(
        [
            np.array([[int(f[0])] for f in fields], dtype=np.int64).reshape(len(fields), 1).astype(np.uint32),
            _reports(mechanism.fragment_sketch, [f[1] for f in fields]),
            _reports(mechanism.word_sketch, [f[2] for f in fields]),
        ],
        axis=1,
    )
    mechanism.split(reports)
    return reports


def _plain_records(reports: Reports) -> list[str]:
    """The numbers of each report, or its bytes in hexadecimal digits."""
    if reports.dtype == np.uint8 and reports.ndim == 2:
        return [bytes(row).hex() for row in reports]
    if reports.ndim == 1 and reports.dtype.names is None:
        return [str(report) for report in reports.tolist()]
    return [",".join(str(number) for number in row) for row in reports.tolist()]


def _plain_reports(mechanism: Mechanism, records: Sequence[str]) -> Reports:
    # A mechanism says what its reports look like by making none, and refuses what is none of them when it tallies.
    form = mechanism.privatize(np.zeros(0, dtype=np.int64), np.random.default_rng(0))
    width = len(form.dtype.names or ()) or (form.shape[1] if form.ndim == 2 else 1)
    in_bytes = form.dtype == np.uint8 and form.ndim == 2
    rows = []
    for i, record in enumerate(records):
        numbers = record.split(",")
        if in_bytes and _BYTES.fullmatch(record):
            rows.append(tuple(bytes.fromhex(record)))
        elif not in_bytes and all(_WIDE_NUMBER.fullmatch(number) for number in numbers):
            rows.append(tuple(int(number) for number in numbers))
        if len(rows) <= i or len(rows[i]) != width:
            raise ValueError(f"record {i} is not {width} {'bytes in hexadecimal digits' if in_bytes else 'numbers'}")
    try:
        if form.dtype.names:
            reports = np.array(rows, dtype=form.dtype)
        else:
            reports = np.array(rows, dtype=form.dtype).reshape(len(rows), *form.shape[1:])
    except OverflowError:
        raise ValueError(f"a record has a number that {form.dtype} cannot hold") from None
    mechanism.tally(reports)
    return reports


def _fields(records: Sequence[str], pattern: re.Pattern[str], shape: str) -> list[tuple[str, ...]]:
    matches = [pattern.fullmatch(record) for record in records]
    for i, match in enumerate(matches):
        if match is None:
            raise ValueError(f"record {i} is not of the form '{shape}'")
    return [match.groups() for match in matches if match]


def _reversed_bits(packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The bits of every byte in reverse order."""
    return np.packbits(np.unpackbits(packed, axis=1, bitorder="little"), axis=1, bitorder="big")


def _segment(entry: Any, where: str) -> LogSegment:
    _expect_keys(entry, where, {"algorithm", "key", "parameters", "records"})
    parameters, records = entry["parameters"], entry["records"]
    if not isinstance(parameters, dict) or "epsilon" not in parameters:
        raise ValueError(f"the parameters of {where} have no epsilon; expected numbers by name")
    for name, value in parameters.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{where} has {name} {value!r}; expected a number")
    if not all(isinstance(x, str) for x in (entry["algorithm"], entry["key"])):
        raise ValueError(f"{where} has an algorithm or key that is no string")
    if not isinstance(records, list) or not all(isinstance(record, str) for record in records):
        raise ValueError(f"{where} has records that are no list of strings")
    return LogSegment(entry["algorithm"], entry["key"], parameters, records=tuple(records))


def _expect_keys(value: Any, where: str, keys: set[str]) -> None:
    if not isinstance(value, dict) or set(value) != keys:
        got = sorted(value) if isinstance(value, dict) else type(value).__name__
        raise ValueError(f"{where} holds {got}; expected the keys {sorted(keys)}")
