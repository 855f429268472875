"""The endpoint writer as its tests use it: short prompts, short waits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from synth.endpoint_writer import EndpointWriter
from synth.writer import Answer, Failure, Prompt
from tests.synth.endpoint_server import EndpointServer

KEY = "sk-test-0123456789-never-to-be-seen"
STREAM = np.random.SeedSequence(7)


def writer(server: EndpointServer, cache: Path, **changes: Any) -> EndpointWriter:
    """With a timeout that no healthy request meets; the backoff is small enough to be waited for."""
    usual: dict[str, Any] = {"timeout": 60.0, "retries": 2, "backoff_base": 0.001, "backoff_max": 0.01}
    return EndpointWriter(base_url=server.url, model="m", cache=cache, **(usual | changes))


def ask(text: str, **changes: Any) -> Prompt:
    return Prompt(turns=({"role": "user", "content": text},), **({"limit": 20} | changes))


def texts(entries: list[Answer | Failure]) -> list[str]:
    return [entry.text if isinstance(entry, Answer) else entry.reason for entry in entries]
