"""`synthpoll audit RUN`: attack a finished run of whichever kind, and bound its epsilon from below.

    result = audit_run_folder(load_run(path), trials=1000, seed=0, screen=console())
    result.sentence                  # also in audit.json, privacy.json and privacy.md, behind those of earlier audits

How a run is attacked: experiments/audit/polls.py. Who the canary is: refine.py and count.py beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from rich.console import Console

from experiments.audit import count, refine
from experiments.audit.polls import CanaryPoll, audit_polls, how_played
from experiments.count.job import CountJob
from experiments.finished import Run
from experiments.folder.store import RunFolder
from experiments.job import Job
from experiments.progress import bar
from experiments.refine.job import RefineJob
from experiments.refine.release import PublicRun, release
from experiments.statement.audits import audited_statement, kept_audits
from experiments.statement.facts import add_audit
from privacy.audit import AuditResult

Plays = Iterable[tuple[bool, int]]


def audit_run_folder(run: Run, *, trials: int, seed: int, screen: Console) -> AuditResult:
    """Attack a finished run, hold the bound against the claim of its statement, and add it there.

    A run that is refuted has its data set labelled as not for release. Raises StoreError if the folder is in use, has
    no complete run with a statement of this version, or its devices are not there any more.
    """
    with run.folder.reopened() as folder:
        return _audit(folder, run.job, trials, seed, screen)


def _audit(folder: RunFolder, job: Job, trials: int, seed: int, screen: Console) -> AuditResult:
    statement, number = audited_statement(folder.files), len(kept_audits(folder.files)) + 1
    polls = _polls(folder, job)
    # What is released of a local epsilon is no more than the devices' reports tell; else what the trust model claims.
    claim = statement["central"] or {"epsilon": statement["spent"]["run"], "delta": 0.0}
    with bar(screen, "Auditing: plays") as advance:

        def counted(play: Callable[[tuple[bool, int]], Any], plays: Plays) -> Iterator[Any]:
            for done, each in enumerate(plays, 1):
                yield play(each)
                advance(done, 2 * trials)

        result = audit_polls(
            polls,
            job.trust,
            minimum_batch=job.least_reports,
            claimed=(claim["epsilon"], claim["delta"]),
            trials=trials,
            seed=seed,
            number=number,
            map=counted,
        )
    add_audit(
        folder,
        {
            "number": number,
            "kind": how_played(polls, job.trust),
            "plays": 2 * trials,
            "rounds_played": len(polls),
            "reports_per_round": [poll.reports for poll in polls],
            "keys": [poll.key for poll in polls],
            "reports_of_the_canary": [len(poll.worlds[0]) for poll in polls],
            "seed": seed,
            "epsilon_lower": result.epsilon_lower,
            "most_that_could_be_shown": result.ceiling,
            "claimed_epsilon": result.claimed_epsilon,
            "delta": result.delta,
            "confidence": result.confidence,
            "refuting_error": result.refuting_error,
            "epsilon_refuting": result.epsilon_refuting,
            "most_that_could_refute": result.refuting_ceiling,
            "refutes_claim": result.refutes_claim,
            "sentence": result.sentence,
        },
    )
    if result.refutes_claim and isinstance(job, RefineJob):
        release(folder, job, PublicRun(folder.path).corpus(job.rounds))
    return result


def _polls(folder: RunFolder, job: Job) -> Sequence[CanaryPoll]:
    if isinstance(job, RefineJob):
        return refine.canary_polls(folder, job)
    if isinstance(job, CountJob):
        return count.canary_polls(folder, job)
    raise TypeError(f"the job is a {type(job).__name__}; expected a RefineJob or a CountJob")
