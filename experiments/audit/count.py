"""The canary of a count: all that it sends in the run is of one value, or all of another.

    (poll,) = canary_polls(folder, job)

The key with the worst reports is attacked, and the canary sends its full number of reports, every day up to the cap,
for this one key: the run claims for all of them together. Its two values are the first that are different to the
mechanism. The others answer evenly, and as many reports come as the statement claims for (`reports_claimed`): those
that came, or, where how many depends on what devices hold (nulls=never) and is not told, the fewest that a poll may
have. More would hide the canary better than the claim says. Whose reports they are is in no run folder, and does not
matter: the claim is for any data of so many.
"""

from __future__ import annotations

import numpy as np

from experiments.audit.polls import CanaryPoll, evenly
from experiments.count.counting import build_groups, devices_facts
from experiments.count.job import CountJob
from experiments.folder.layout import DEVICES
from experiments.folder.layout import Key as Step
from experiments.folder.store import RunFolder, StoreError
from experiments.statement.count import claimed_of
from privacy.randomness import NoiseSource


def canary_polls(folder: RunFolder, job: CountJob) -> list[CanaryPoll]:
    """The key that reveals most, with the canary. Raises StoreError if the run is not complete, or if its devices
    hold something else by now or no two values that a canary could have; and what loading frequencies raises.
    """
    job.check()
    groups, left_out = build_groups(job, NoiseSource.seeded(job.seed))  # not drawn from: a play has noise of its own
    keys = {key.key: (group, key) for group in groups for key in group.keys}
    if not all(folder.is_complete(Step(key)) for key in keys):
        raise StoreError(f"{folder.path} is not a complete run; give its run command again, then audit it")
    elsewhere = f"{folder.path} polled devices that held something else (see {DEVICES}); audit it where they are"
    told = folder.read_json(DEVICES)
    if any(told.get(name) != now for name, now in devices_facts(left_out, [key for _, key in keys.values()]).items()):
        raise StoreError(elsewhere)
    came = {name: folder.read_json(Step(name).mark)["reports"] for name in keys}
    worst, reports = claimed_of(job, [key for _, key in keys.values()], came)
    group, key = keys[worst.key]
    values, _ = group.true_reports(key)
    others = reports - job.reports
    if others < 0:
        raise StoreError(
            f"{key.key} has {reports} reports, fewer than the {job.reports} that one device may send in the run; ask "
            "more devices"
        )
    named = len(values) if key.values is None else len(key.values)  # without 'none of these'
    different = np.sort(np.unique(values[:named], axis=0, return_index=True)[1])
    if len(different) < 2:
        raise StoreError(f"{key.key} has no two values that are different to {key.mechanism.name}; there is no canary")
    pair = different[:2]
    first, second = (np.repeat(values[i : i + 1], job.reports, axis=0) for i in pair)
    return [
        CanaryPoll(
            key=key.key,
            mechanism=key.mechanism,
            values=values,
            counts=evenly(others, len(values)),
            worlds=(first, second),
            asked=values[pair],
            drawn=job.exact,
            fewest=not job.always_reports,
        )
    ]
