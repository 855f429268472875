"""Reports a second of every mechanism beside other libraries and beside what the machine can do, in one run.

    make bench-mechanisms                              installs the other libraries into .venv-peers on first use
    make bench-mechanisms ARGS=--without-peers         without them

One thread; epsilon 4 (8 for words); compiled before the clock starts. Seconds are CPU seconds of the measuring thread,
the fastest of several calls, so that other work on the machine is not counted (it still takes cache and memory).
'both' is a report made and added to the tally. 'of AES' is the share of the cipher's rate that the device half draws,
'of read' the share of the read bandwidth that the reports pass through the server half at.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", NUMBA_NUM_THREADS="1")

import argparse
import inspect
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from rich.console import Console
from rich.table import Table

from privacy import (
    BinaryRandomizedResponse,
    CountMeanSketch,
    DeviceStream,
    HadamardCountMeanSketch,
    HadamardResponse,
    LocalHashing,
    OptimizedUnaryEncoding,
    ProjectiveGeometryResponse,
    RandomizedResponse,
    SequenceFragmentPuzzle,
    SubsetSelection,
    SymmetricUnaryEncoding,
)
from privacy.mechanism import Tally
from privacy.randomness import PIECE

PEERS = Path(".venv-peers/bin/python")
CALLS = 4
SKETCH_VALUES = 1000

Peers = dict[str, list[dict[str, Any]]]
"""Rows of benchmarks/mechanism_peers.py by mechanism."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One line of the table: `n` devices hold `values`; `targets` on (both halves, server half, estimation), as
    least millions of reports a second and most milliseconds."""

    name: str
    shape: str
    mechanism: Any
    values: np.ndarray
    estimate: Callable[[Any, Tally], object] = lambda mechanism, tally: mechanism.estimate(tally)
    both: float | None = None
    server: float | None = None
    milliseconds: float | None = None

    @property
    def target(self) -> str:
        """The targets in words."""
        parts = [f"both {self.both:g} M/s"] if self.both else []
        parts += [f"server {self.server:g} M/s"] if self.server else []
        parts += [f"estimate {self.milliseconds:g} ms"] if self.milliseconds else []
        return ", ".join(parts)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """CPU seconds a report of each half, of one estimation; random and report bytes of a report."""

    device: float
    server: float
    estimate: float
    random_bytes: float
    report_bytes: float


def cases() -> Iterator[Case]:
    """Every mechanism at the sizes of the targets."""
    rng, d = np.random.default_rng(0), 1000
    one = {"epsilon": 4.0, "domain_size": d}
    few, many = rng.integers(0, d, 1 << 17), rng.integers(0, d, 1 << 22)
    some = many[: 1 << 19]
    binary = BinaryRandomizedResponse(epsilon=4.0)
    yield Case(name="BRR", shape="d=2", mechanism=binary, values=many % 2)
    yield Case(name="GRR", shape="d=1000", mechanism=RandomizedResponse(**one), values=many, both=100)
    yield Case(name="OUE", shape="d=1000", mechanism=OptimizedUnaryEncoding(**one), values=few, both=3)
    yield Case(name="SUE", shape="d=1000", mechanism=SymmetricUnaryEncoding(**one), values=few)
    yield Case(name="OLH", shape="d=1000", mechanism=LocalHashing(**one), values=some, server=3)
    yield Case(name="SS", shape="d=1000", mechanism=SubsetSelection(**one), values=some, both=8)
    plane = ProjectiveGeometryResponse(epsilon=4.0, domain_size=3000)
    held = rng.integers(0, 3000, 1 << 21)
    yield Case(name="PGR", shape="d=3000", mechanism=plane, values=held, both=40, milliseconds=10)
    yield Case(name="HR", shape="d=1000", mechanism=HadamardResponse(**one), values=many)
    hashes = rng.integers(0, 1 << 63, SKETCH_VALUES, dtype=np.uint64)

    def of_hashes(mechanism: Any, tally: Tally) -> object:
        return mechanism.estimate(tally, hashes)

    held = hashes[rng.integers(0, SKETCH_VALUES, 1 << 25)]
    for k in (65_536, 1024):
        cms = CountMeanSketch(epsilon=4.0, rows=k, columns=1024, hash_seed=1)
        some = held[: 1 << 20]
        name = "CMS" if k == 65_536 else "CMS, few rows"  # only the first has peers of its size
        yield Case(name=name, shape=f"m=1024 k={k}", mechanism=cms, values=some, estimate=of_hashes, both=3)
    hcms = HadamardCountMeanSketch(epsilon=4.0, rows=1024, columns=32_768, hash_seed=1)
    for log2 in (23, 25):
        size, batch = f"m=32768 k=1024, batches of 2^{log2}", held[: 1 << log2]
        yield Case(name="HCMS", shape=size, mechanism=hcms, values=batch, estimate=of_hashes, both=100)
    sfp = SequenceFragmentPuzzle(
        epsilon=8.0, rows=64, columns=1024, hash_seed=1, alphabet="abcdefgh", word_length=4, fragment_length=2
    )
    codes = sfp.codes.encode(["".join(w) for w in itertools.product("abcdefgh", repeat=4)][:1000], unfit="refuse").codes
    yield Case(
        name="SFP",
        shape="8 letters, words of 4",
        mechanism=sfp,
        values=codes[rng.zipf(1.5, 1 << 17) % 1000],
        estimate=lambda mechanism, tally: mechanism.discover(tally),
    )


def best(work: Callable[[], object], calls: int = CALLS) -> float:
    """CPU seconds of the fastest of several calls."""
    took = []
    for _ in range(calls):
        start = time.thread_time()
        work()
        took.append(time.thread_time() - start)
    return min(took)


def measure(case: Case) -> Measured:
    """Both halves, after everything is compiled and the server's tally is in memory."""
    mechanism, n = case.mechanism, len(case.values)
    stream = DeviceStream.from_system()
    mechanism.privatize(case.values[:100], stream)
    reports = mechanism.privatize(case.values, stream)
    device = best(lambda: mechanism.privatize(case.values, stream))
    tally = mechanism.tally(reports)
    if "onto" in inspect.signature(mechanism.tally).parameters:  # sketches add in place, as a server does that streams
        server = best(lambda: mechanism.tally(reports, onto=Tally(tally.sums, 0, tally.parameters)))
        tally = Tally(tally.sums, n * (CALLS + 1), tally.parameters)
    else:
        server = best(lambda: mechanism.tally(reports))
    if isinstance(mechanism, SequenceFragmentPuzzle):  # its tally counts reports by position as well; do not repeat
        tally = mechanism.tally(reports)
    case.estimate(mechanism, tally)
    return Measured(
        device=device / n,
        server=server / n,
        estimate=best(lambda: case.estimate(mechanism, tally), calls=2),
        random_bytes=random_bytes(lambda rng: mechanism.privatize(case.values[:10_000], rng)) / 10_000,
        report_bytes=reports.nbytes / n,
    )


def random_bytes(draw: Callable[[DeviceStream], object]) -> int:
    """How many bytes are drawn from a stream and its companions."""
    drawn, fill = 0, DeviceStream._fill

    def count(self: DeviceStream, out: memoryview) -> None:
        nonlocal drawn
        drawn += len(out)
        fill(self, out)

    with mock.patch.object(DeviceStream, "_fill", count):
        draw(DeviceStream.from_system())
    return drawn


def machine() -> dict[str, float]:
    """Bytes a second: the device stream, the system's generator, reading memory."""
    words, stream = np.empty(PIECE // 8, dtype=np.uint64), DeviceStream.from_system()
    memory = np.ones(1 << 26, dtype=np.float32)
    return {
        "AES-256-CTR, the device stream": 100 * PIECE / best(lambda: [stream.fill(words) for _ in range(100)]),
        "os.urandom": (1 << 23) / best(lambda: os.urandom(1 << 23)),
        "reading memory (numpy dot)": memory.nbytes / best(lambda: np.dot(memory, memory)),
    }


def peers(python: Path) -> Peers:
    """What the other libraries take, from their own environment. Raises RuntimeError with one line if it is not so."""
    if not python.exists():
        raise RuntimeError(f"{python} does not exist; `make bench-mechanisms` installs it, if a package index answers")
    script = Path(__file__).with_name("mechanism_peers.py")
    done = subprocess.run([python, script], capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"{python} {script.name} failed: {last}")
    result: Peers = {}
    for row in json.loads(done.stdout)["result"]:
        result.setdefault(row["mechanism"], []).append(row)
    return result


def ratio(own: float, rows: list[dict[str, Any]], part: str) -> str:
    """How many times faster than the fastest other library."""
    others = [row[part] for row in rows if row[part] is not None]
    return f"{min(others) / own:,.0f}x" if others else "-"


def speed(seconds: float) -> str:
    """Millions of reports a second."""
    return f"{1e-6 / seconds:.3g}" if seconds > 1e-8 else f"{1e-6 / seconds:.0f}"


def reached(case: Case, got: Measured) -> str:
    """Each target's verdict."""
    verdicts = []
    if case.both:
        verdicts.append(1e-6 / (got.device + got.server) >= case.both)
    if case.server:
        verdicts.append(1e-6 / got.server >= case.server)
    if case.milliseconds:
        verdicts.append(1e3 * got.estimate <= case.milliseconds)
    return ", ".join("yes" if v else "no" for v in verdicts) or "-"


def print_table(measured: list[tuple[Case, Measured]], limits: dict[str, float], others: Peers) -> None:
    """One table, with the machine's limits under it."""
    load = f"{os.getloadavg()[0]:.1f} processes wanted {os.cpu_count()} CPUs at the end"
    table = Table(title="Millions of reports a second on one core, epsilon 4 (SFP: 8)", caption_justify="left")
    columns = ["mechanism", "size", "device", "server", "both", "estimate ms", "of AES", "of read", "target", "reached"]
    for column in [*columns, "device vs", "server vs", "estimate vs"]:
        table.add_column(column, justify="left" if column in ("mechanism", "size", "target", "reached") else "right")
    random_rate, _, read_rate = limits.values()
    for case, got in measured:
        rows = others.get(case.name, [])
        table.add_row(
            case.name,
            case.shape,
            speed(got.device),
            speed(got.server),
            speed(got.device + got.server),
            f"{1e3 * got.estimate:.3g}",
            f"{got.random_bytes / got.device / random_rate:.0%}",
            f"{got.report_bytes / got.server / read_rate:.0%}",
            case.target,
            reached(case, got),
            *(ratio(own, rows, part) for part, own in vars(got).items() if part in ("device", "server", "estimate")),
        )
    lines = [f"{name}: {rate / 1e9:.2f} GB/s" for name, rate in limits.items()]
    notes = [f"{name}: {row['note']}" for name, rows in others.items() for row in rows if row["note"]]
    table.caption = "\n".join([*lines, load, *notes, "'vs': against the fastest other library"])
    console = Console(width=160)
    console.print(table)
    if others:
        slow = Table(title="Other libraries, reports a second on one core")
        for column in ("mechanism", "library", "device", "server", "estimate ms"):
            slow.add_column(column, justify="left" if column in ("mechanism", "library") else "right")
        for row in itertools.chain.from_iterable(others.values()):
            estimate = "in server" if row["estimate"] is None else f"{1e3 * row['estimate']:,.1f}"
            rates = (f"{1 / row[part]:,.0f}" for part in ("device", "server"))
            slow.add_row(row["mechanism"], row["library"], *rates, estimate)
        console.print(slow)


def main() -> int:
    """Print the tables. Status 1 if the other libraries were wanted and could not be measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--without-peers", action="store_true", help="measure this project only")
    parser.add_argument("--peers", type=Path, default=PEERS, help="python of the other libraries' environment")
    options = parser.parse_args()
    missing, others = None, {}
    if not options.without_peers:
        try:
            others = peers(options.peers)
        except RuntimeError as error:
            missing = str(error)
    limits = machine()
    print_table([(case, measure(case)) for case in cases()], limits, others)
    if missing:
        print(f"without the other libraries: {missing} (--without-peers leaves them out on purpose)", file=sys.stderr)
    return int(missing is not None)


if __name__ == "__main__":
    sys.exit(main())
