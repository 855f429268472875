"""`synthpoll device-log RUN --device ID`: what a device sent in a run, in the shape in which it would show its owner.

    device_log(Path("runs/emoji/seed0-1a2b3c4d"), 7)
    {"version":21,"segments":[{"algorithm":"CMS","key":"emoji.en","parameters":{...},"records":["50211,0010..."]}]}

Nothing is stored for this: a use case is a seeded simulation, so the device's reports are made again, bit for bit. Of a
run of the main job, only the device that was watched has a log. The log holds what left the device, and nothing of what
the device holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from device_poll.events.held import SentReport
from device_poll.population import PopulationError
from experiments.store import RunFolder, StoreError
from experiments.use_cases.fragments import FragmentGroup
from experiments.use_cases.groups import EventGroup
from experiments.use_cases.job import UseCaseJob
from experiments.use_cases.population import fleet_of, ledger_of
from experiments.use_cases.run import build_groups, check
from privacy.device_log import LogSegment, segment_of, write_log

_ENVELOPE = {"round", "use_case", "report_bits", "report"}
_TARGET = "experiments.use_cases.job.UseCaseJob"


def device_log(folder: Path, device: int | str) -> str:
    """The log as JSON text. Raises StoreError for a folder that is no run, PopulationError for no such device."""
    from omegaconf import DictConfig, OmegaConf

    path = folder / "config.yaml"
    if not path.is_file():
        raise StoreError(f"{folder} has no config.yaml; give the folder of a run")
    config = OmegaConf.load(path)
    if isinstance(config, DictConfig) and config.get("_target_") == _TARGET:
        return _of_use_case(config, device)
    return _of_main_job(RunFolder(folder), config, str(device))


def _of_use_case(config: Any, device: int | str) -> str:
    from hydra.utils import instantiate

    job: UseCaseJob = instantiate(config, _convert_="object")
    number = _number(job, device)
    if job.exact:
        raise PopulationError(
            f"this run drew its tallies from their exact law, without reports (population={job.devices} is above "
            f"exact_above={int(job.exact_above)}); run it with exact_above={job.devices} to have logs"
        )
    check(job)
    groups, _ = build_groups(job)
    for group in groups:
        if isinstance(group, FragmentGroup):
            return write_log(_segments(group.report_log(number), {group.name: group.mechanism}))
        if isinstance(group, EventGroup) and 0 <= number - group.segment.first_device < group.segment.devices:
            return write_log(_segments(_sent(job, group, number), _mechanisms(group)))
    raise PopulationError(f"device is {number}; it is in no segment of this run")


def _number(job: UseCaseJob, device: int | str) -> int:
    text = str(device)
    if not (text.isascii() and text.isdecimal()) or int(text) >= job.devices:
        raise PopulationError(f"--device is {text}; expected the number of a device, 0 to {job.devices - 1}")
    return int(text)


def _sent(job: UseCaseJob, group: EventGroup, device: int) -> list[SentReport]:
    """All days of the device, by playing its block of devices alone."""
    ledger = ledger_of(job, group.segment)
    fleet = fleet_of(job, group.segment, ledger)
    fleet.enroll()
    return [sent for day in range(job.days) for sent in fleet.report_log(day, device)]


def _mechanisms(group: EventGroup) -> dict[str, Any]:
    """Of every key that devices send, also of those that the server does not ask for: the owner sees them all."""
    return {dictionary.key: dictionary.mechanism for dictionary in group.segment.dictionaries.values()}


def _segments(sent: Sequence[SentReport], mechanisms: Mapping[str, Any]) -> Iterable[LogSegment]:
    for key, mechanism in mechanisms.items():
        reports = [each.report for each in sent if each.key == key]
        if reports:
            yield segment_of(mechanism, np.stack(reports), key=key)


def _of_main_job(folder: RunFolder, config: Any, device: str) -> str:
    """The records that a watched device left in oracle/report_log.json of every round."""
    if str(config.get("watch")) != device:
        raise PopulationError(
            "this run did not watch the device, and a run of the main job keeps the reports of a watched device only; "
            "run it again with watch=ID"
        )
    segments: dict[str, LogSegment] = {}
    for path in sorted(folder.path.glob("rounds/*/oracle/report_log.json")):
        for entry in folder.read_json(folder.relative(path)):
            key, own = entry["use_case"], _logged(entry, config)
            before = segments.get(key)
            records = own.records if before is None else (*before.records, *own.records)
            segments[key] = LogSegment(own.algorithm, key, own.parameters, records)
    return write_log(segments.values())


def _logged(entry: Mapping[str, Any], config: Any) -> LogSegment:
    """One entry of a report_log.json: a number, or the bytes of a report, whose form its mechanism knows."""
    from hydra.utils import instantiate

    told = {name: value for name, value in entry.items() if name not in _ENVELOPE}
    mechanism = instantiate(config.mechanism, _convert_="object")(domain_size=entry["domain_size"])
    if dict(mechanism.parameters) == told:
        form = mechanism.privatize(np.zeros(0, dtype=np.int64), np.random.default_rng(0))
        content = entry["report"]
        one = np.frombuffer(bytes.fromhex(content), form.dtype) if isinstance(content, str) else np.array([content])
        return segment_of(mechanism, one.astype(form.dtype).reshape(1, *form.shape[1:]), key=entry["use_case"])
    # What devices send under secure aggregation are bytes of another mechanism, written as they are.
    numbers = {name: value for name, value in told.items() if not isinstance(value, str)}
    return LogSegment(entry["mechanism"], entry["use_case"], numbers, (str(entry["report"]),))
