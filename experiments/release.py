"""From a finished run to its released data set, dataset/ in the run folder."""

from __future__ import annotations

import numpy as np

from experiments.job import Job
from experiments.store import RunFolder
from synth.corpus import Corpus
from synth.export import Release


def release(folder: RunFolder, job: Job, corpus: Corpus) -> None:
    """Write dataset/: reads only what the server has (run.json, privacy.json, next_weights), never oracle/."""
    run, statement = folder.read_json("run.json"), folder.read_json("privacy.json")
    privacy, resolution = run["privacy"], run["resolution"]
    weights = np.load(folder.round(job.rounds - 1) / "next_weights.npy", allow_pickle=False)
    baseline = " (baseline, not for release)" if statement["trust"]["baseline"] else ""
    result = Release(
        title=f"synthpoll {job.name}, seed {job.seed}{baseline}",
        corpus=corpus,
        weights=weights,
        test_share=job.test_share,
        facts={
            "generator": run["generator"],
            "encoder": run["encoder"],
            "rounds": str(job.rounds),
            "reports per round": str(resolution["reports_per_round"]),
            "mechanism": privacy["mechanism"]["mechanism"],
            **statement["facts"],
            "standard error of a count": f"{resolution['stderr_of_a_count']:.1f} devices",
            "commit": run["commit"],
        },
        privacy=statement["summary"],
    )
    for name, content in result.files().items():
        folder.write_bytes(f"dataset/{name}", content)
