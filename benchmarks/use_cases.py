"""The classic use cases at full size, on real data: what is recovered, in which time and memory.

    python -m benchmarks.use_cases --emojis emojis.jsonl.gz --domains domains.tsv.gz --words words_by_locale.tsv.gz \
        --prompts prompts.jsonl.gz                                 every part whose data is given
    python -m benchmarks.use_cases oracles --emojis emojis.jsonl.gz --reports 1e6

Parts: emoji (two locales, CMS), sketches (HCMS and CMS of Apple's sizes on domains), new_words (SFP, with and without a
lexicon on the device), fragments (randomized response), oracles (every mechanism at equal epsilon). Each
measurement is a child process of its own: its seconds are wall seconds after everything is compiled, its memory is the
most that the process ever held. Prints Markdown.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import argparse
import itertools
import multiprocessing
import resource
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np

from aggregate.differences import difference
from benchmarks import use_case_parts as parts
from device_poll.sources.items import SourceError

SECONDS = {"HCMS": 60, "CMS": 300}
GIBIBYTES = {"HCMS": 2.0}
FULL = 10_000_000


def measured(work: Callable[..., dict[str, Any]], *args: Any) -> dict[str, Any]:
    """What `work` returns, from a process of its own, with the `memory` in GiB that the process held at most."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn) as pool:
        result = pool.submit(work, *args).result()
        return result | {"memory": pool.submit(_peak).result()}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def print_table(title: str, rows: list[dict[str, object]]) -> None:
    """A Markdown table; the keys of a row are the columns."""
    print(f"\n### {title}\n\n| {' | '.join(rows[0])} |\n|{'---|' * len(rows[0])}")
    for row in rows:
        print(f"| {' | '.join(str(cell) for cell in row.values())} |", flush=True)


def percent(share: float) -> str:
    """'-' where there is nothing to take a share of."""
    return "-" if np.isnan(share) else f"{share:.1%}"


def quality(one: dict[str, Any]) -> dict[str, object]:
    """What `parts.judged` found, as columns."""
    return {
        "released": len(one["histogram"].values),
        f"of the top {parts.TOP}": one["top"],
        "their rank correlation": f"{one['top_correlation']:.4f}",
        "of all released": f"{one['correlation']:.4f}",
        "held by none": one["held_by_none"],
        "95% intervals that cover": percent(one["coverage"]),
        "released ones, all at once": percent(one["covered_released"]),
    }


def cost(one: dict[str, Any]) -> dict[str, object]:
    """Seconds of both sides, and memory."""
    devices, server = one["seconds"]
    return {"devices s": f"{devices:.1f}", "server s": f"{server:.1f}", "GiB": f"{one['memory']:.2f}"}


def emoji(options: argparse.Namespace) -> None:
    """Two locales and their differences."""
    found = [
        measured(parts.emoji, options.emojis, locale, number, options.devices, options.seed, options.workers)
        for number, locale in enumerate(options.locales)
    ]
    print_table(
        f"emoji: CMS m=1024 k=65536, epsilon 4, one report a day, {options.devices:,} devices a locale",
        [
            {"locale": one["locale"], "emoji": one["d"], "reports": f"{one['histogram'].reports:,}"}
            | quality(one)
            | cost(one)
            for one in found
        ],
    )
    for first, second in itertools.pairwise(found):
        differences(first, second)


def differences(first: dict[str, Any], second: dict[str, Any], shown: int = 5) -> None:
    """The largest ones of two locales."""
    apart = difference(first["histogram"], second["histogram"])
    if not apart.compared:
        print(f"\nno emoji was released in both {first['locale']} and {second['locale']}")
        return
    truths = [one["truth"] for one in (first, second)]
    one, two = (np.array([truth.get(v, 0) for v in apart.values]) / sum(truth.values()) for truth in truths)
    covered = float(np.mean((apart.lower <= one - two) & (one - two <= apart.upper)))
    sure = int(((apart.lower > 0) | (apart.upper < 0)).sum())
    print_table(
        f"largest differences, {first['locale']} - {second['locale']}: {apart.compared} emoji compared, {sure} differ "
        f"at 95% for all at once, {percent(covered)} of the intervals cover",
        [
            {
                "emoji": apart.values[i],
                first["locale"]: f"{apart.first[i]:.3%}",
                second["locale"]: f"{apart.second[i]:.3%}",
                "difference": f"{apart.difference[i]:+.3%}",
                "interval": f"{apart.lower[i]:+.3%} to {apart.upper[i]:+.3%}",
                "truth": f"{one[i] - two[i]:+.3%}",
            }
            for i in range(min(shown, apart.compared))
        ],
    )


def sketches(options: argparse.Namespace) -> None:
    """Apple's sizes against the clock."""
    rows = []
    for name in ("HCMS", "CMS"):
        one = measured(parts.sketch, options.domains, name, options.reports, options.seed)
        total = sum(one["seconds"])
        reached = total <= SECONDS[name] and one["memory"] <= GIBIBYTES.get(name, np.inf)
        rows.append(
            {"sketch": name, "reports": f"{options.reports:,}", "domains": f"{one['d']:,}"}
            | quality(one)
            | cost(one)
            | {
                "estimating s": f"{one['estimating']:.1f}",
                "in all s": f"{total:.1f}",
                "target": f"{SECONDS[name]} s" + (f", {GIBIBYTES[name]:g} GiB" if name in GIBIBYTES else ""),
                "reached": "yes" if reached else "NO",
            }
        )
    print_table("domains: HCMS m=32768 k=1024 and CMS m=1024 k=65536, epsilon 4", rows)


def new_words(options: argparse.Namespace) -> None:
    """All typed words, then only those that a device's lexicon does not have."""
    sizes = options.devices, options.seed, options.workers, options.rows, options.fragment_share, options.fragment_z
    for lexicon in (False, True):
        one = measured(parts.new_words, options.words, *sizes, lexicon)
        print_table(
            f"new words: SFP epsilon 8 ({options.fragment_share:.0%} for pieces), m=1024 k={options.rows}, "
            f"two reports a day, {options.devices:,} devices, which "
            + ("report words outside their lexicon" if lexicon else "report every word"),
            [
                {
                    "share of reports, at least": f"{step['share']:g}",
                    "words": step["words"],
                    "recall": percent(step["recall"]),
                    "found": step["found"],
                    "precision": percent(step["precision"]),
                }
                for step in one["steps"]
            ],
        )
        found, (devices, server) = one["search"], one["seconds"]
        dropped = ", ".join(f"{reason} {count:,}" for reason, count in one["dropped"].items())
        print(
            f"\n{one['reports']:,} reports; {one['released']} words released, {one['held_by_none']} held by none. "
            f"Words that do not fit: {one['unfit']}. Events not sent: {dropped}.\n"
            f"Search: {found['pieces_estimated']:,} of {one['pieces']:,} pieces estimated, "
            f"{found['pieces_kept']:,} kept; {found['joined']:,} words joined, "
            f"{found['wrong_joins']:,} of them wrongly; {found['candidates']:,} candidates.\n"
            f"Devices {devices:.1f} s, server {server:.1f} s, {one['memory']:.2f} GiB.\n\n"
            f"In no dictionary ({len(one['new'])}): {', '.join(one['new'][:60]) or '-'}"
        )


def fragments(options: argparse.Namespace) -> None:
    """Counts needed, and what was released over all seeds."""
    sizes = options.candidates, options.minimum_count, options.seeds
    found = [
        measured(parts.fragments, options.prompts, epsilon, devices, *sizes)
        for devices in options.fragment_devices
        for epsilon in options.epsilons
    ]
    print_table(
        f"genmoji fragments: {options.candidates} fragments and 'no match', released from {options.minimum_count} "
        f"devices on, {options.seeds} seeds",
        [
            {
                "devices": f"{one['devices']:,}",
                "epsilon": f"{one['epsilon']:g}",
                "count needed for 95%": "none is enough" if np.isinf(one["need"]) else f"{one['need']:,.0f}",
                "detected at that count": percent(one["detected"]),
                "reports that must name it": f"{one['cutoff']:,}",
                "released a poll": f"{one['released']:.1f}",
                "of those with the count": percent(one["seen"]),
                "released but answered by fewer": one["answered_by_fewer"],
                "released but held by fewer": one["held_by_fewer"],
            }
            for one in found
        ],
    )


def oracles(options: argparse.Namespace) -> None:
    """Nine years on one page."""
    for epsilon in options.epsilons:
        found = [
            measured(parts.oracle, options.emojis, name, epsilon, options.reports, options.seed)
            for name in parts.ORACLES
        ]
        best = min(one["error"] for one in found)
        print_table(
            f"English emoji ({found[0]['d']} values), {options.reports:,} reports, epsilon {epsilon:g}",
            [
                {
                    "mechanism": one["name"],
                    "error of a count": f"{one['error']:,.1f}",
                    "as claimed": f"{one['claimed']:,.1f}",
                    "x best": f"{one['error'] / best:.2f}",
                    "released": one["released"],
                    f"of the top {parts.TOP}": one["top"],
                    "bits a report": f"{one['bits']:,}",
                    "devices CPU s": f"{one['device']:.2f}",
                    "server CPU s": f"{one['server']:.2f}",
                    "GiB": f"{one['memory']:.2f}",
                }
                for one in found
            ],
        )


PARTS: dict[str, tuple[Callable[[argparse.Namespace], None], str]] = {
    "emoji": (emoji, "emojis"),
    "sketches": (sketches, "domains"),
    "new_words": (new_words, "words"),
    "fragments": (fragments, "prompts"),
    "oracles": (oracles, "emojis"),
}


def number(text: str) -> int:
    """A size such as 1e6."""
    size = int(float(text))
    if size < 1 or size != float(text):
        raise argparse.ArgumentTypeError(f"{text} is no whole number above 0")
    return size


def main() -> int:
    """Print the tables of all parts asked for. Status 2 for data that is missing or cannot be read."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("part", nargs="*", metavar="part", help=f"{', '.join(PARTS)}; all whose data is given if none")
    for data in ("emojis", "domains", "words", "prompts"):
        parser.add_argument(f"--{data}", help="file, as device_poll/events reads it")
    parser.add_argument("--devices", type=number, default=FULL, help="of each locale (emoji, new_words)")
    parser.add_argument("--reports", type=number, default=FULL, help="of each mechanism (sketches, oracles)")
    parser.add_argument("--fragment-devices", type=number, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--locales", nargs="+", default=["en", "fr"])
    parser.add_argument("--epsilons", type=float, nargs="+", default=[1.0, 2.0, 4.0, 8.0], help="fragments, oracles")
    parser.add_argument("--candidates", type=number, default=100, help="fragments asked for")
    parser.add_argument("--minimum-count", type=number, default=300, help="devices that must share a fragment")
    parser.add_argument("--seeds", type=number, default=100, help="polls of fragments")
    parser.add_argument("--rows", type=number, default=4096, help="rows of the sketches of new_words")
    parser.add_argument("--fragment-share", type=float, default=0.64, help="of epsilon, for the pieces of new_words")
    parser.add_argument("--fragment-z", type=float, default=3.0, help="standard errors from which a piece is kept")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=number, default=1, help="threads of the simulated devices")
    options = parser.parse_args()
    wanted = options.part or [name for name, (_, data) in PARTS.items() if getattr(options, data)]
    for name in wanted:
        if name not in PARTS or not getattr(options, PARTS[name][1]):
            need = f"give --{PARTS[name][1]} FILE" if name in PARTS else f"expected {', '.join(PARTS)}"
            print(f"part {name}: {need}", file=sys.stderr)
            return 2
    if not wanted:
        print("no data is given; give --emojis, --domains, --words or --prompts FILE", file=sys.stderr)
        return 2
    for name in wanted:
        try:
            PARTS[name][0](options)
        except SourceError as error:
            print(f"part {name}: {error}", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
