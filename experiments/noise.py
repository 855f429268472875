"""Where the noise of a run comes from: the operating system, or a seed in a simulation that is labelled so.

    noise = noise_of(job, folder, config)        # privacy.randomness.NoiseSource

A key of the operating system is made once for a run folder and kept under oracle/, so that a run that was killed sends
the very same reports again. It is the devices' secret: nothing that may be released holds it or anything from which it
could be computed, and whoever has it can take the noise off.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from aggregate.trust import Words
from experiments.folder.layout import FACTS, NOISE_KEY
from experiments.folder.store import RunFolder, StoreError
from experiments.job import Job
from privacy.randomness import NoiseSource

SEEDED = "from the seed: a simulation, since whoever knows the seed can take the noise off"
EXACT_LAW = "NumPy's PCG64, no cryptographic source, since tallies are drawn from their law and no device reports"
SYSTEM = "from the operating system, for this run folder alone; it is kept under oracle/ and is never released"


def noise_of(job: Job, folder: RunFolder, config: str) -> NoiseSource:
    """The source of the noise of the job in this folder; made now if the run begins.

    It is bound to the whole configuration, the text `config`, as a debit is: runs that differ in any key, whether it
    can matter or not, share no noise of devices, shufflers, aggregators or servers. Raises StoreError if the key of a
    run that was begun is gone or damaged.
    """
    configuration = configuration_digest(config)
    if not job.system_noise:
        return NoiseSource.seeded(job.seed).of("configuration", configuration)
    path = folder.path / NOISE_KEY
    if not path.exists():
        if folder.has(FACTS):
            raise StoreError(
                f"{path} is missing: the noise of this run cannot be drawn again, so it can be neither continued nor "
                "looked into; restore the file, or begin another run with out=DIR, which costs the devices anew"
            )
        folder.write_secret(NOISE_KEY, NoiseSource.system().secret.hex())
    try:
        secret = NoiseSource(bytes.fromhex(path.read_text(encoding="ascii")), simulated=False)
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{path} cannot be read (damaged: {type(error).__name__}); restore it, or begin another run with out=DIR, "
            "which costs the devices anew"
        ) from None
    return secret.of("configuration", configuration)


def configuration_digest(config: str) -> str:
    """What the noise is bound to, of the configuration as text."""
    return hashlib.sha256(config.encode()).hexdigest()


def words_of(job: Job) -> Words:
    """The trust model in words that are true of the run: where tallies are drawn, no device sends or draws anything."""
    words = job.trust.words
    if not job.exact:
        return words
    return replace(
        words,
        noise_from=f"in a deployment {words.noise_from}",
        server_sees=f"{words.server_sees}, in a deployment",
        randomness=EXACT_LAW,
        floating_point=f"tallies were drawn from their law in floats; in a deployment {words.floating_point}",
    )


def noise_in_words(job: Job) -> str:
    """What the noise is drawn with, and where the key comes from."""
    words = words_of(job)
    key = "the key" if words.repeats else "the key of the devices' masks"
    return f"{words.randomness}; {key} comes {SYSTEM if job.system_noise else SEEDED}"
