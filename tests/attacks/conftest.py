"""The fixtures of tests/experiments, for attacks on whole runs."""

from tests.experiments.conftest import compose_job, smoke

__all__ = ["compose_job", "smoke"]
