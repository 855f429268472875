"""From a finished run to its released data set, dataset/ in the run folder."""

from __future__ import annotations

import numpy as np

from device_poll.population import DeviceUnit
from experiments.job import Job
from experiments.store import RunFolder
from synth.corpus import Corpus
from synth.export import Release


def release(folder: RunFolder, job: Job, corpus: Corpus) -> None:
    """Write dataset/: reads only what the server has (run.json, next_weights), never oracle/."""
    run = folder.read_json("run.json")
    privacy, resolution = run["privacy"], run["resolution"]
    weights = np.load(folder.round(job.rounds - 1) / "next_weights.npy", allow_pickle=False)
    unit = DeviceUnit(run["devices"]["unit"])
    result = Release(
        title=f"synthpoll {job.name}, seed {job.seed}",
        corpus=corpus,
        weights=weights,
        test_share=job.test_share,
        facts={
            "generator": run["generator"],
            "encoder": run["encoder"],
            "rounds": str(job.rounds),
            "reports per round": str(resolution["reports_per_round"]),
            "mechanism": privacy["mechanism"]["mechanism"],
            "epsilon of a report": f"{privacy['epsilon_per_report']:g}",
            "standard error of a count": f"{resolution['stderr_of_a_count']:.1f} devices",
            "commit": run["commit"],
        },
        privacy=(
            f"Every report satisfies pure local differential privacy with epsilon = {privacy['epsilon_per_report']:g}; "
            f"each device reported at most once, so its total is the same. Protected unit: {privacy['unit']}. "
            + ("" if unit is DeviceUnit.USER else "This unit is smaller than a person. ")
            + "This run was a simulation whose noise comes from a seed: the statement holds for the mechanism, and for "
            "real devices that draw from the operating system."
        ),
    )
    for name, content in result.files().items():
        folder.write_bytes(f"dataset/{name}", content)
