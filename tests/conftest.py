"""Tests that take minutes are marked `soak`: they are skipped unless SYNTHPOLL_SOAK=1, which `make soak` sets."""

from __future__ import annotations

import os

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("SYNTHPOLL_SOAK") == "1":
        return
    for item in items:
        if item.get_closest_marker("soak"):
            item.add_marker(pytest.mark.skip(reason="takes minutes; run it with make soak, or with SYNTHPOLL_SOAK=1"))
