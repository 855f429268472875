"""What the polls of a run depended on, written down before their first report leaves: none is played again otherwise.

    fleet = SimulatedFleet(..., closing=ClosedPolls(folder=folder, repeats=True).close)

A run that was killed plays its poll again and sends the very same reports. If anything has changed since, what devices
hold, who can pay, who agreed, its devices would send a second report with other noise for one debit. The names of what
polls depended on are keyed with the run's noise, and lie under oracle/.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from device_poll.population import PopulationError
from experiments.folder.layout import POLLS
from experiments.folder.store import RunFolder


@dataclass(frozen=True, kw_only=True)
class ClosedPolls:
    """The polls of the run in `folder`; `repeats`: a poll that is played again releases the same.

    `reads`: nothing is written, for who only looks at reports of a run.
    """

    folder: RunFolder = field(repr=False)
    repeats: bool = True
    reads: bool = False

    def close(self, poll: str, told: str) -> None:
        """See device_poll.accounts.Closing. Raises PopulationError for a poll that must not be sent again."""
        place, closed = self.folder.path / POLLS, self._closed()
        if poll not in closed:
            if self.reads:
                raise PopulationError(f"{place} has no poll '{poll}'; its reports are not known")
            self.folder.write_json(POLLS, {**closed, poll: told})
        elif closed[poll] != told:
            raise PopulationError(
                f"the reports of poll '{poll}' have left before, and what they depend on has changed since (what "
                "devices hold, which of them agreed or can pay, or the ledger): "
                + (
                    "they cannot be made again; look where the devices are as they were"
                    if self.reads
                    else "a second poll would cost its devices anew; restore it, or begin another run with out=DIR"
                )
            )
        elif not (self.repeats or self.reads):
            raise PopulationError(
                f"the reports of poll '{poll}' have left before (see {place}); their sum was lost, and its noise does "
                "not repeat, so a second poll would cost its devices anew: begin another run with out=DIR"
            )

    def _closed(self) -> dict[str, str]:
        return dict(self.folder.read_json(POLLS)) if self.folder.has(POLLS) else {}
