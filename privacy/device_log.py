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

    randomized_response   the value:                                                    17
    subset_selection      the values of the subset, in increasing order:                3,17,40
    unary encodings       value 8 i + j is bit j of byte i, least significant first:    0010...04

The shape, CMS and HCMS records follow logs seen in public; which bit of the first digit is column 0 is not known from
them (here: the highest), and the other records are this project's own. The log holds what left the device and nothing
else. It does not hold the hash seed, so reading it back takes the mechanism. Records are made and read by the
mechanisms themselves (`Mechanism.log_records`, `read_records`); here is what they are wrapped in.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from privacy.mechanism import Mechanism, Reports

VERSION = 21


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


def segment_of(mechanism: Mechanism, reports: Reports, *, key: str) -> LogSegment:
    """The reports as a segment of the log. Raises ValueError for reports of another mechanism."""
    return LogSegment(
        algorithm=mechanism.log_name,
        key=key,
        parameters=mechanism.log_parameters,
        records=tuple(mechanism.log_records(reports)),
    )


def reports_of(segment: LogSegment, mechanism: Mechanism) -> Reports:
    """The reports of a segment, as `privatize` of the mechanism made them.

    Raises ValueError if the segment's algorithm or parameters are not the mechanism's, or for a malformed record.
    """
    logged = (segment.algorithm, dict(segment.parameters))
    own = (mechanism.log_name, mechanism.log_parameters)
    if logged != own:
        raise ValueError(f"the segment holds (algorithm, parameters) = {logged}; the mechanism is {own}")
    return mechanism.read_records(segment.records)


def _segment(entry: Any, where: str) -> LogSegment:
    _expect_keys(entry, where, {"algorithm", "key", "parameters", "records"})
    parameters, records = entry["parameters"], entry["records"]
    # A report that is private in a sum alone has no epsilon, but such mechanisms say how many values they have.
    if not isinstance(parameters, dict) or not {"epsilon", "domain_size"} & parameters.keys():
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
