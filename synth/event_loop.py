"""Asynchronous work for callers that are not: `run(work())` returns its result, also below a running event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, TypeVar

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """asyncio.run in a thread of its own: works below a running event loop (a notebook). An interrupt ends the work."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(work)

    def finish() -> T:
        try:
            return loop.run_until_complete(task)
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())

    with closing(loop), ThreadPoolExecutor(1) as thread:
        done = thread.submit(finish)
        try:
            return done.result()
        finally:
            loop.call_soon_threadsafe(task.cancel)  # without effect, but after an interrupt
