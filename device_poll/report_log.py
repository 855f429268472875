"""The report log of one device: what its owner would see under 'reports sent'.

It holds exactly what left the device, privatized, and nothing of what the device holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from device_poll.population import PopulationError
from privacy.mechanism import Mechanism, Reports
from privacy.poll import ReportBatch


@dataclass(frozen=True, kw_only=True)
class ReportLog:
    """Collects the reports of device number `device` until they are drained."""

    device: int
    _records: list[dict[str, object]] = field(default_factory=list, init=False, repr=False)

    @classmethod
    def of(cls, device_id: str, device_ids: Sequence[str]) -> ReportLog:
        """The log of the device with this id. Raises PopulationError if there is none (ids are private: not listed)."""
        if device_id not in device_ids:
            raise PopulationError(
                f"watch names a device that is not among the {len(device_ids)} devices; an id is the user's name "
                "(unit=user) or name/number (unit=item or split)"
            )
        return cls(device=device_ids.index(device_id))

    def note(self, batch: ReportBatch, mechanism: Mechanism, round: int) -> None:
        """Add the device's report if it is in this batch."""
        for position in np.flatnonzero(batch.senders == self.device):
            report = cast(Reports, batch.reports)[position]
            self._records.append(
                {
                    "round": round,
                    "use_case": batch.use_case,
                    **mechanism.parameters,
                    "report_bits": mechanism.report_bits,
                    "report": report.tobytes().hex() if report.ndim or report.dtype.names else int(report),
                }
            )

    def drain(self) -> list[dict[str, object]]:
        """The records so far; the log is empty afterwards."""
        records = list(self._records)
        self._records.clear()
        return records
