"""The fixtures of tests/experiments, for attacks on whole runs."""

from tests.experiments.conftest import compose_job, same_noise_in_every_folder, smoke

__all__ = ["compose_job", "same_noise_in_every_folder", "smoke"]
