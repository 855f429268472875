"""The device's report log: written and read to the last bit."""

from __future__ import annotations

import json

import numpy as np
import pytest

from privacy.count_mean_sketch import CountMeanSketch
from privacy.device_log import LogSegment, read_log, reports_of, segment_of, write_log
from privacy.fragment_puzzle import SequenceFragmentPuzzle
from privacy.hadamard_response import HadamardResponse
from privacy.hadamard_sketch import HadamardCountMeanSketch
from privacy.hashing import hash_strings
from privacy.local_hashing import LocalHashing
from privacy.projective_geometry import ProjectiveGeometryResponse
from privacy.randomized_response import RandomizedResponse
from privacy.subset_selection import SubsetSelection
from privacy.unary_encoding import OptimizedUnaryEncoding, SymmetricUnaryEncoding
from tests.privacy.contract import same_reports, stream

CMS = CountMeanSketch(epsilon=4.0, rows=65536, columns=1024, hash_seed=1)
SMALL_CMS = CountMeanSketch(epsilon=8, rows=7, columns=37, hash_seed=1)
HCMS = HadamardCountMeanSketch(epsilon=4.0, rows=1024, columns=32768, hash_seed=2)
SFP = SequenceFragmentPuzzle(epsilon=8.0, rows=16, columns=64, hash_seed=3)


def reports_from(mechanism, n: int = 40) -> np.ndarray:
    if mechanism is SFP:
        values = SFP.codes.encode(["hello", "lol", "tomorrow", "a"] * (n // 4), unfit="refuse").codes
    else:
        values = hash_strings([f"{i % 5}" for i in range(n)])
    return mechanism.privatize(values, stream())


@pytest.mark.parametrize("mechanism", [CMS, SMALL_CMS, HCMS, SFP], ids=["cms", "small", "hcms", "sfp"])
@pytest.mark.parametrize("n", [0, 40])
def test_reports_survive_the_log_to_the_last_bit_and_text_to_the_last_letter(mechanism, n):
    reports = reports_from(mechanism, n)
    text = write_log([segment_of(mechanism, reports, key="emoji.en"), segment_of(mechanism, reports[:1], key="ключ")])
    segments = read_log(text)
    assert [segment.key for segment in segments] == ["emoji.en", "ключ"]
    assert same_reports(reports_of(segments[0], mechanism), reports)
    assert same_reports(reports_of(segments[1], mechanism), reports[:1])
    assert write_log(segments) == text
    assert write_log([segment_of(mechanism, reports_of(s, mechanism), key=s.key) for s in segments]) == text


def test_the_log_has_the_documented_shape():
    (record,) = segment_of(CMS, reports_from(CMS)[:1], key="k").records
    row, bits = record.split(",")
    assert int(row) < 65536
    assert len(bits) == 256
    reports = HCMS.join(np.array([686]), np.array([28635]), np.array([-1]))
    text = write_log([segment_of(HCMS, reports, key="domains")])
    assert json.loads(text) == {
        "version": 21,
        "segments": [
            {
                "algorithm": "HCMS",
                "key": "domains",
                "parameters": {"epsilon": 4.0, "k": 1024, "m": 32768},
                "records": ["686,28635,-1"],
            }
        ],
    }
    assert HCMS.split(reports_of(read_log(text)[0], HCMS))[1].tolist() == [28635]


def test_the_first_column_is_the_highest_bit_of_the_first_digit():
    bits = np.zeros((1, 5), dtype=np.uint8)
    bits[0, 0], bits[0, 4] = 0b1, 0b10000  # columns 0 and 36
    segment = segment_of(SMALL_CMS, SMALL_CMS.join(np.array([3]), bits), key="k")
    assert segment.records == ("3,8000000008",)
    upper = LogSegment("CMS", "k", {"epsilon": 8, "k": 7, "m": 37}, ("3,80000000F8",))
    rows, read = SMALL_CMS.split(reports_of(upper, SMALL_CMS))
    assert rows.tolist() == [3]
    assert read[0].tolist() == [1, 0, 0, 0, 0b11111]


@pytest.mark.parametrize(
    ("mechanism", "record", "message"),
    [
        (SMALL_CMS, "3,80000000", "record 0 has 8 hexadecimal digits; expected 10"),
        (SMALL_CMS, "3,800000000g", "record 0 is not of the form 'row,hexadecimal bits'"),
        (SMALL_CMS, "03,8000000008", "not of the form"),
        (SMALL_CMS, " 3,8000000008", "not of the form"),
        (SMALL_CMS, "3,8000000008\n", "not of the form"),
        (SMALL_CMS, "7,8000000008", "rows reach from 7 to 7"),
        (SMALL_CMS, "3,8000000007", "padding"),
        (HCMS, "686,28635", "not of the form 'row,coordinate,1 or -1'"),
        (HCMS, "686,28635,0", "not of the form"),
        (HCMS, "1024,28635,1", "a row is outside"),
        (HCMS, "1,32768,1", "a coordinate is outside"),
        (HCMS, "99999999999,1,1", "not of the form"),
        (SFP, "3;17,00", "not of the form 'position;piece;word'"),
        (SFP, "5;1,0000000000000000;1,0000000000000000", "name position 5"),
        (SFP, "4;16,0000000000000000;1,0000000000000000", "rows reach from 16"),
    ],
)
def test_malformed_records_are_refused(mechanism, record, message):
    empty = segment_of(mechanism, reports_from(mechanism, 0), key="k")
    with pytest.raises(ValueError, match=message):
        reports_of(LogSegment(empty.algorithm, "k", empty.parameters, (record,)), mechanism)


def test_a_segment_of_another_mechanism_is_refused():
    segment = segment_of(CMS, reports_from(CMS), key="k")
    with pytest.raises(ValueError, match=r"holds .*'CMS', .*65536.* the mechanism is .*'CMS', .*'k': 7, 'm': 37"):
        reports_of(segment, SMALL_CMS)
    with pytest.raises(ValueError, match="HCMS"):
        reports_of(segment, HCMS)
    with pytest.raises(ValueError, match="expected uint32"):
        segment_of(CMS, reports_from(SMALL_CMS), key="k")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the log is no JSON"),
        ("[]", "the log holds list"),
        ('{"version":21}', r"the log holds \['version'\]; expected the keys"),
        ('{"version":20,"segments":[]}', "version 20; expected 21"),
        ('{"version":21,"segments":{}}', "segments are no list"),
        ('{"version":21,"segments":[{"algorithm":"CMS"}]}', "segment 0 holds"),
        (
            '{"version":21,"segments":[{"algorithm":"CMS","key":"k","parameters":{"epsilon":4,"k":1,"m":"2"},'
            '"records":[]}]}',
            "segment 0 has m '2'",
        ),
        (
            '{"version":21,"segments":[{"algorithm":3,"key":"k","parameters":{"epsilon":4,"k":1,"m":2},"records":[]}]}',
            "no string",
        ),
        (
            '{"version":21,"segments":[{"algorithm":"CMS","key":"k","parameters":{"k":1,"m":2},"records":[]}]}',
            "have no epsilon",
        ),
        (
            '{"version":21,"segments":[{"algorithm":"CMS","key":"k","parameters":{"epsilon":4,"k":1,"m":2},'
            '"records":[1]}]}',
            "no list of strings",
        ),
    ],
)
def test_malformed_logs_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        read_log(text)


ORACLES = [
    RandomizedResponse(epsilon=2.0, domain_size=9),
    OptimizedUnaryEncoding(epsilon=2.0, domain_size=19),
    SymmetricUnaryEncoding(epsilon=2.0, domain_size=8),
    SubsetSelection(epsilon=1.0, domain_size=19),
    LocalHashing(epsilon=2.0, domain_size=19),
    HadamardResponse(epsilon=2.0, domain_size=19),
    ProjectiveGeometryResponse(epsilon=2.0, domain_size=19),
]


@pytest.mark.parametrize("mechanism", ORACLES, ids=lambda mechanism: f"{mechanism.name}-{mechanism.parameters}")
def test_every_frequency_oracle_has_records_that_are_read_back(mechanism):
    reports = mechanism.privatize(np.arange(40) % 8, stream())
    segment = segment_of(mechanism, reports, key="health")
    (read,) = read_log(write_log([segment]))
    assert read.algorithm == mechanism.name
    assert read.parameters["domain_size"] == mechanism.domain_size
    assert same_reports(reports_of(read, mechanism), reports)
    empty = segment_of(mechanism, reports[:0], key="health")
    assert same_reports(reports_of(empty, mechanism), reports[:0])


@pytest.mark.parametrize(
    ("mechanism", "record", "message"),
    [
        (ORACLES[0], "9", "9"),
        (ORACLES[0], "1,2", "record 0 is not 1 numbers"),
        (ORACLES[0], "-1", "record 0 is not 1 numbers"),
        (ORACLES[0], "99999999999999999999", "that int64 cannot hold"),
        (ORACLES[1], "00", "record 0 is not 3 bytes"),
        (ORACLES[1], "00000g", "record 0 is not 3 bytes"),
        (ORACLES[1], "0000ff", "padding"),
        (ORACLES[3], "1", "record 0 is not"),
        (ORACLES[4], "1", "record 0 is not 2 numbers"),
    ],
)
def test_malformed_records_of_oracles_are_refused(mechanism, record, message):
    empty = segment_of(mechanism, mechanism.privatize(np.zeros(0, dtype=np.int64), stream()), key="k")
    with pytest.raises(ValueError, match=message):
        reports_of(LogSegment(empty.algorithm, "k", empty.parameters, (record,)), mechanism)
