"""Other libraries' mechanisms, timed. Runs inside their own environment; benchmarks/mechanisms.py starts it.

    .venv-peers/bin/python benchmarks/mechanism_peers.py             seconds, as JSON
    .venv-peers/bin/python benchmarks/mechanism_peers.py --defects   what is wrong with some of them, as JSON

Imports nothing of synthpoll. Seconds are CPU seconds, the best of several calls; epsilon is 4 (8 for words).
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", NUMBA_NUM_THREADS="1")

import numpy as np
from multi_freq_ldpy.pure_frequency_oracles import GRR, LH, SS, UE
from pure_ldp.frequency_oracles import (
    CMSClient,
    CMSServer,
    DEClient,
    DEServer,
    HadamardMechClient,
    HadamardMechServer,
    HadamardResponseClient,
    HadamardResponseServer,
    LHClient,
    LHServer,
    RAPPORClient,
    UEClient,
    UEServer,
)
from pure_ldp.frequency_oracles.local_hashing import FastLHClient, FastLHServer
from pure_ldp.heavy_hitters import SFPClient, SFPServer
from xxhash import xxh32

EPSILON, D = 4.0, 1000
SKETCH_VALUES = 1000  # benchmarks/mechanisms.py estimates so many values of a sketch

Row = dict[str, Any]
"""mechanism, library, and seconds: `device` and `server` a report, `estimate` of all values (None: not measured)."""


def best(work: Callable[[], object], calls: int = 3) -> float:
    """CPU seconds of the fastest of several calls."""
    took = []
    for _ in range(calls):
        start = time.thread_time()
        work()
        took.append(time.thread_time() - start)
    return min(took)


def row(mechanism: str, library: str, device: float, server: float, estimate: float | None, note: str = "") -> Row:
    """What is reported of one mechanism."""
    return {
        "mechanism": mechanism,
        "library": library,
        "device": device,
        "server": server,
        "estimate": estimate,
        "note": note,
    }


def pure_ldp(name: str, client: Any, server: Any, n: int, *, values: int = D, asked: int = D, note: str = "") -> Row:
    """pure-ldp: one report a call. Its values count from 1. `asked` estimates stand for those of all `values`."""
    held = np.random.default_rng(0).integers(1, values + 1, n).tolist()
    reports = [client.privatise(v) for v in held]
    device = best(lambda: [client.privatise(v) for v in held])
    added = best(lambda: server.aggregate_all(reports), calls=2)

    def estimate() -> None:
        server.last_estimated = 0  # it keeps estimates until another report comes
        server.estimate_all(list(range(1, asked + 1)), suppress_warnings=True)

    return row(name, "pure-ldp", device / n, added / n, best(estimate, calls=2) * values / asked, note)


def multi_freq(name: str, client: Callable[[int], Any], server: Callable[[list[Any]], Any], n: int) -> Row:
    """multi-freq-ldpy: one report a call; its server adds up and estimates (and clips) in one call."""
    held = np.random.default_rng(0).integers(0, D, n).tolist()
    reports = [client(v) for v in held]  # compiles
    device = best(lambda: [client(v) for v in held])
    return row(name, "multi-freq-ldpy", device / n, best(lambda: server(reports), calls=2) / n, None)


def rows() -> Iterator[Row]:
    """Every mechanism that a peer has."""
    e, d = EPSILON, D
    yield pure_ldp("GRR", DEClient(e, d), DEServer(e, d), 50_000)
    yield multi_freq("GRR", lambda v: GRR.GRR_Client(v, d, e), lambda r: GRR.GRR_Aggregator_MI(r, d, e), 20_000)
    for name, optimal in (("OUE", True), ("SUE", False)):
        yield pure_ldp(name, UEClient(e, d, use_oue=optimal), UEServer(e, d, use_oue=optimal), 3000)
        client, server = unary_of_multi_freq(optimal)
        yield multi_freq(name, client, server, 3000)
    yield pure_ldp("OLH", LHClient(e, d, use_olh=True), LHServer(e, d, use_olh=True), 600)
    yield multi_freq("OLH", lambda v: LH.LH_Client(v, d, e), lambda r: LH.LH_Aggregator_MI(r, d, e), 600)
    yield multi_freq("SS", lambda v: SS.SS_Client(v, d, e), lambda r: SS.SS_Aggregator_MI(r, d, e), 5000)
    response = HadamardResponseServer(e, d)
    yield pure_ldp("HR", HadamardResponseClient(e, d, response.get_hash_funcs()), response, 5000)
    sketch = CMSServer(e, 65_536, 1024)
    client = CMSClient(e, sketch.get_hash_funcs(), 1024)
    yield pure_ldp("CMS", client, sketch, 2000, values=SKETCH_VALUES, asked=5)
    sketch = CMSServer(e, 1024, 1024, is_hadamard=True)
    client = CMSClient(e, sketch.get_hash_funcs(), 1024, is_hadamard=True)
    note = "peer at m=1024: at 32,768 its m x m matrix takes 8 GiB"
    yield pure_ldp("HCMS", client, sketch, 3000, values=SKETCH_VALUES, asked=SKETCH_VALUES, note=note)
    yield words()


def unary_of_multi_freq(optimal: bool) -> tuple[Callable[[int], Any], Callable[[list[Any]], Any]]:
    """Both halves of its unary encoding."""
    return (lambda v: UE.UE_Client(v, D, EPSILON, optimal), lambda r: UE.UE_Aggregator_MI(r, EPSILON, optimal))


def words(n: int = 1000) -> Row:
    """The sequence fragment puzzle over count mean sketches, its hash fixed to 8 bits."""
    alphabet, held = set("abcdefgh"), ["".join(w) for w in itertools.product("abcdefgh", repeat=4)][:n]
    sketch = CMSServer(8.0, 64, 1024)
    client = SFPClient(8.0, 2, 4, alphabet, fo_client=CMSClient(8.0, sketch.get_hash_funcs(), 1024))
    server = SFPServer(8.0, 2, 4, alphabet, fo_server=sketch)
    reports = [client.privatise(w) for w in held]
    device = best(lambda: [client.privatise(w) for w in held])
    added = best(lambda: [server.aggregate(r) for r in reports], calls=2)
    one = best(lambda: server.fragment_fo_list[0].estimate("7_ab", suppress_warnings=True))
    pieces = 2 * 256 * 9**2
    return row("SFP", "pure-ldp", device / n, added / n, one * pieces, f"{pieces} pieces, from the time of one")


def defects() -> dict[str, Any]:
    """Known faults, shown. Each is explained in docs/mechanisms.md."""
    found: dict[str, Any] = {}
    client = RAPPORClient(0.5, 16, [[lambda data: 3]], num_of_cohorts=1)
    own = [client.privatise(1)[0][3] for _ in range(10_000)]
    expected = 10_000 * client.f / 2
    found["RAPPOR: own bit sent as 0, of 10,000 reports (expected)"] = [own.count(0), expected]

    held = np.repeat([0, 1], [9_900, 100])
    estimates = [
        GRR.GRR_Aggregator_MI([GRR.GRR_Client(int(v), 100, 1.0) for v in held], 100, 1.0)[2] for _ in range(50)
    ]
    found["multi-freq-ldpy: mean estimate of a value nobody holds, lowest of 50 polls"] = [
        float(10_000 * np.mean(estimates)),
        float(10_000 * np.min(estimates)),
    ]

    found["Hadamard mechanism, first and last of d estimates of 1000"] = {
        f"d={d}": outcome(lambda d=d: one_poll_of_hm(d)) for d in (7, 8)
    }
    found["Hadamard response at B (2^j - 1) and beside it, estimate of the first value"] = {
        f"epsilon={e:g} d={d}": outcome(lambda e=e, d=d: one_poll_of_hr(e, d))
        for e, middle in ((2.0, 252), (4.0, 224))
        for d in (middle - 1, middle, middle + 1)
    }
    found["FastLH, 1,000 hash functions: error / OLH's formula, 100,000 devices, 200 values at rank^-s"] = {
        f"s={s:g}": round(error_of_fast_lh(4.0, 100_000, 200, s), 2) for s in (1.0, 1.5)
    }
    found["SFP with its defaults"] = outcome(lambda: SFPClient(8.0, 2, 4))
    return found


def one_poll_of_hm(d: int) -> list[float]:
    """First and last of d estimates at epsilon 1, 1000 devices each."""
    client, server = HadamardMechClient(1.0, d, 1), HadamardMechServer(1.0, d, 1)
    server.aggregate_all([client.privatise(v) for v in range(1, d + 1) for _ in range(1000)])
    counts = server.estimate_all(list(range(1, d + 1)), suppress_warnings=True)
    return [round(float(counts[i])) for i in (0, -1)]


def one_poll_of_hr(e: float, d: int) -> list[float]:
    """The first value's estimate; every value is held by 20 devices."""
    server = HadamardResponseServer(e, d)
    client = HadamardResponseClient(e, d, server.get_hash_funcs())
    server.aggregate_all([client.privatise(v) for v in range(1, d + 1) for _ in range(20)])
    return [round(float(server.estimate(1, suppress_warnings=True)))]


def error_of_fast_lh(e: float, n: int, d: int, skew: float, families: int = 4, k: int = 1000) -> float:
    """Root mean square over values and hash families of error / standard error of OLH. A family is k hash functions;
    values are numbered from another place for each.
    """
    weights = 1 / np.arange(1, d + 1) ** skew
    truth = np.floor(weights / weights.sum() * n).astype(np.int64)
    truth[0] += n - truth.sum()
    squares = []
    for family in range(families):
        client = FastLHClient(e, d, k, use_olh=True, index_mapper=lambda x, first=family * d: x - 1 + first)
        server = FastLHServer(e, 1, k, use_olh=True)  # its own matrix hashes from 0: it gets the family's instead
        hashes = [[xxh32(str(family * d + j), seed=i).intdigest() % server.g for j in range(d)] for i in range(k)]
        server.d, server.hash_matrix = d, np.array(hashes, dtype=float)
        server.aggregate_all([client.privatise(v) for v in np.repeat(np.arange(1, d + 1), truth).tolist()])
        counts = np.array(server.estimate_all(list(range(1, d + 1)), suppress_warnings=True))
        p, q = server.p, 1 / server.g
        variance = (truth * p * (1 - p) + (n - truth) * q * (1 - q)) / (p - q) ** 2
        squares.append(np.mean((counts - truth) ** 2 / variance))
    return float(np.sqrt(np.mean(squares)))


def outcome(work: Callable[[], object]) -> object:
    """The result, or the error as one line: an error is what is looked for here."""
    try:
        return work() or "works"
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"


def main() -> None:
    """JSON on stdout."""
    warnings.simplefilter("ignore")
    versions = {name: version(name) for name in ("pure-ldp", "multi-freq-ldpy", "numpy")}
    result = defects() if "--defects" in sys.argv else list(rows())
    print(json.dumps({"versions": versions, "result": result}, indent=1))


if __name__ == "__main__":
    main()
