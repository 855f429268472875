"""`synthpoll device-log RUN --device ID`: what a device sent in a run, in the shape in which it would show its owner.

    device_log(Path("runs/emoji/seed0-1a2b3c4d"), 7)
    {"version":21,"segments":[{"algorithm":"CMS","key":"emoji.en","parameters":{...},"records":["50211,0010..."]}]}

Nothing is stored for this: with the source of the run's noise the device's reports are made again, bit for bit. Of a
run of the main job, only the device that was watched has a log. The log holds what the mechanism made and left the
device, and nothing of what the device holds; under secure aggregation it is what was split into shares.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from device_poll.events.held import SentReport
from device_poll.population import PopulationError
from experiments.accounts import accounts_to_read
from experiments.closed_polls import ClosedPolls
from experiments.count.counting import build_groups
from experiments.count.job import CountJob
from experiments.count.segments import DeviceNames
from experiments.finished import Run, load_run
from experiments.folder import layout
from experiments.folder.layout import STATEMENT, WATCHED
from experiments.folder.store import StoreError
from experiments.noise import noise_of
from experiments.refine.job import RefineJob
from privacy.device_log import LogSegment, segment_of, write_log
from privacy.mechanism import Mechanism

_ENVELOPE = {"round", "use_case", "report_bits", "report"}


def device_log(folder: Path, device: int | str, ledger: str | None = None) -> str:
    """The log as JSON text. `ledger` is the file that the run debited, if it did; nothing is written to it.

    Raises StoreError for a folder that is no run, PopulationError for no such device or where reports cannot be told
    without a ledger, LedgerError for a file that is not the run's ledger.
    """
    run = load_run(folder, ledger)
    if isinstance(run.job, CountJob):
        return _of_count(run, run.job, device)
    if isinstance(run.job, RefineJob):
        return _of_refinement(run, run.job, str(device))
    raise TypeError(f"the job is a {type(run.job).__name__}; expected a RefineJob or a CountJob")


def _of_count(run: Run, job: CountJob, device: int | str) -> str:
    number = _number(job, device)
    if job.exact:
        raise PopulationError(
            f"this run drew its tallies from their exact law, without reports (population={job.devices} is above "
            f"exact_above={int(job.exact_above)}); run it with exact_above={job.devices} to have logs"
        )
    statement = run.folder.read_json(STATEMENT)
    if "noise" not in statement:
        raise StoreError(
            f"{run.folder.path} is a run of an earlier version, whose reports had other noise; its reports cannot be "
            "made again"
        )
    if statement["ledger"]["kept"] == "file" and job.ledger is None:
        raise PopulationError(
            f"{run.folder.path} debited a ledger file, which alone knows which reports were refused for lack of "
            "budget; give it with --ledger FILE"
        )
    job.check()
    noise = noise_of(job, run.folder, run.config)
    groups, _ = build_groups(job, noise, ClosedPolls(folder=run.folder, reads=True).close)
    (group,) = (group for group in groups if number in group.devices)
    with ExitStack() as stack:
        # A ledger of the run's own refused nothing: the plan fits the caps (Job).
        accounts = None
        if job.ledger is not None:
            accounts = accounts_to_read(job, run.config, noise, DeviceNames(job.devices), stack)
        return write_log(_segments(group.sent_by(number, accounts), group.mechanisms))


def _number(job: CountJob, device: int | str) -> int:
    text = str(device)
    if not (text.isascii() and text.isdecimal()) or int(text) >= job.devices:
        raise PopulationError(f"--device is {text}; expected the number of a device, 0 to {job.devices - 1}")
    return int(text)


def _segments(sent: Sequence[SentReport], mechanisms: Mapping[str, Mechanism]) -> Iterable[LogSegment]:
    for key, mechanism in mechanisms.items():
        reports = [each.report for each in sent if each.key == key]
        if reports:
            yield segment_of(mechanism, np.stack(reports), key=key)


def _of_refinement(run: Run, job: RefineJob, device: str) -> str:
    """The records that a watched device left in oracle/report_log.json of every round."""
    if not run.folder.has(WATCHED) or run.folder.read_json(WATCHED)["device"] != device:
        raise PopulationError(
            "this run did not watch the device, and a run of the main job keeps the reports of a watched device only; "
            "run it again with watch=ID and out=DIR"
        )
    segments: dict[str, LogSegment] = {}
    for path in layout.rounds(run.folder.path, lambda step: step.report_log):
        name = run.folder.relative(path)
        for entry in run.folder.read_json(name):
            mechanism = job.randomizer(entry["domain_size"])
            if dict(mechanism.parameters) != {key: value for key, value in entry.items() if key not in _ENVELOPE}:
                raise StoreError(f"{path} has a report of another mechanism than the run's; give the run's folder")
            key, own = entry["use_case"], _logged(entry, mechanism)
            before = segments.get(key)
            records = own.records if before is None else (*before.records, *own.records)
            segments[key] = LogSegment(own.algorithm, key, own.parameters, records)
    return write_log(segments.values())


def _logged(entry: Mapping[str, Any], mechanism: Mechanism) -> LogSegment:
    """One entry of a report_log.json: a number, or the bytes of a report, whose form its mechanism knows."""
    form, content = mechanism.no_reports(), entry["report"]
    one = np.frombuffer(bytes.fromhex(content), form.dtype) if isinstance(content, str) else np.array([content])
    return segment_of(mechanism, one.astype(form.dtype).reshape(1, *form.shape[1:]), key=entry["use_case"])
