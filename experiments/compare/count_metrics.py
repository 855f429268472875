"""What the metrics of a count are called, which way is better, and what those of several keys make together.

totals([{"released": 9, "stderr": 38.0}, {"released": 10, "stderr": 39.0}], oracle=False)
                                                    # {"released": 19, "stderr": 39.0}: a sum, the largest
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

# Name, title, which way is better, form, meaning, and how keys are put together: a sum, the largest, the mean.
_Columns = tuple[tuple[str, str, str, str, str, Callable[[Sequence[float]], float]], ...]

RELEASED: _Columns = (
    ("released", "Elements released", "up", "count", "that the release rule let out", sum),
    ("withheld", "Elements withheld", "", "count", "looked at, and below the rule's threshold", sum),
    ("looked_at", "Elements looked at", "", "count", "on the server's list, or found", sum),
    ("reports", "Reports", "", "count", "that came", sum),
    ("refused_reports", "Refused reports", "", "count", "that no honest device sends; they are not counted", sum),
    ("stderr", "Standard error of a count", "down", "count", "of a rare element, in reports", max),
    ("count_needed", "Count that is released", "down", "count", "with 95% probability, in reports", max),
    ("new_words", "New words", "up", "count", "released, and in no dictionary of the devices", sum),
    ("no_match", "No match", "", "percent", "estimated share that no candidate is close to", fmean),
    ("nothing", "Nothing to report", "", "percent", "estimated share of reports that say so", fmean),
    ("nothing_stderr", "Standard error of 'nothing to report'", "down", "percent", "of that share", max),
    ("no_match_stderr", "Standard error of 'no match'", "down", "percent", "of the share without a match", max),
    ("pieces_estimated", "Pieces estimated", "", "count", "of words on nobody's list", sum),
    ("pieces_kept", "Pieces kept", "", "count", "frequent enough to be joined", sum),
    ("joined", "Words joined", "", "count", "of pieces with the same puzzle", sum),
    ("wrong_joins", "Wrong joins dropped", "", "count", "whose puzzle does not fit the word", sum),
    ("candidates", "Words tested", "", "count", "joined words whose puzzle fits", sum),
    ("bytes_up", "Upload of a report", "down", "bytes", "one report", max),
)
ORACLE: _Columns = (
    ("rank_correlation", "Rank correlation", "up", "number", "Spearman, of the released, with the truth", fmean),
    ("recall", "Recall", "up", "percent", "share released of elements with the minimum count", fmean),
    ("top_recovered", "True top 20 released", "up", "percent", "share of the most frequent", fmean),
    ("coverage", "Intervals that hold the truth", "", "percent", "of all elements, each by itself", fmean),
    ("coverage_released", "Released intervals that hold", "up", "percent", "share that holds the truth", fmean),
    ("coverage_stderr", "Standard error of coverage", "", "percent", "that it has where the claim is right", max),
    ("error_in_stderr", "Error in standard errors", "", "number", "near 1 where claimed errors are right", fmean),
    ("false_releases", "False releases", "down", "count", "released elements that nobody sent", sum),
    ("below_minimum", "Below the minimum count", "down", "count", "released, with fewer true reports", sum),
    ("held_by_fewer", "Held by too few", "down", "count", "released, and held by fewer devices", sum),
    ("dropped_unfit", "Dropped: unfit", "", "count", "events that the mechanism cannot take", sum),
    ("nothing_sent", "Sent: nothing to report", "", "count", "reports that say so", sum),
    ("reports_sent", "Sent", "", "count", "reports, which are not told where nulls are never sent", sum),
    ("dropped_over_cap", "Dropped: over the daily cap", "", "count", "events that were not picked", sum),
    ("dropped_over_budget", "Dropped: over the budget", "", "count", "events of devices whose budget is spent", sum),
    ("largest_spent", "Most that a device spent", "", "number", "in its ledger, in epsilons", max),
)

# What a table has room for, in this order.
HEADLINES = (
    "reports", "released", "stderr", "count_needed", "new_words", "no_match", "recall", "rank_correlation", "coverage",
    "false_releases",
)  # fmt: skip

BETWEEN = ": "
"""Between the key and the name of a metric of one key."""


def totals(rows: Sequence[Mapping[str, float]], *, oracle: bool) -> dict[str, float]:
    """What several keys make together, of the metrics that all of them have."""
    return {
        name: together([row[name] for row in rows])
        for name, *_, together in (ORACLE if oracle else RELEASED)
        if all(name in row for row in rows)
    }
