"""The key of an endpoint comes from the environment and is seen nowhere else."""

from __future__ import annotations

import dataclasses
import logging
import traceback
from pathlib import Path

import pytest

from synth import endpoint_writer
from synth.generator import GenerationError
from tests.synth.endpoint_client import KEY, STREAM, ask, texts, writer
from tests.synth.endpoint_server import (
    EndpointServer,
    answer_of,
    status,
)

pytestmark = pytest.mark.usefixtures("endpoint_key")


def everything_said(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error) + repr(error.__cause__)


def test_the_key_is_nowhere(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level(logging.DEBUG)
    plan = {"bad": [status(400, f"you sent {KEY}")] * 9, "worse": [status(403, KEY)], "key": [status(401, KEY)]}
    with EndpointServer(plan) as server:
        endpoint = writer(server, tmp_path, patience=1)
        endpoint.write([], [ask("good")], STREAM)
        said = [repr(endpoint), endpoint.name, endpoint.reproducible, repr(dataclasses.asdict(endpoint))]
        for prompt in plan:
            with pytest.raises(GenerationError) as caught:
                endpoint.write([], [ask(prompt)], STREAM)
            said.append(everything_said(caught.value))
        assert all(headers["authorization"] == f"Bearer {KEY}" for headers in server.headers)
    said += [record.getMessage() + repr(record.__dict__) for record in caplog.records]
    assert len(caplog.records) > 3, "nothing was logged, so this test shows nothing"
    written_files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written_files) == 1
    said += [path.read_text("utf-8") + str(path) for path in written_files]
    assert not [text for text in said if KEY in text or KEY[:12] in text]


@pytest.mark.parametrize("key", [f"{KEY}\n", f"{KEY} ", f"{KEY}\u00e9", f"\r{KEY}"])
def test_a_key_that_cannot_be_sent_is_refused_without_being_shown(
    key: str, server: EndpointServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SYNTHPOLL_API_KEY", key)
    for call in (writer(server, tmp_path).check, lambda: writer(server, tmp_path).write([], [ask("a")], STREAM)):
        with pytest.raises(GenerationError, match="SYNTHPOLL_API_KEY has a space, a line break") as caught:
            call()
        assert KEY not in everything_said(caught.value)


def test_a_missing_key_is_named_before_any_request(
    server: EndpointServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("SYNTHPOLL_API_KEY")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)  # another service's: it must not be sent to this one
    for call in (writer(server, tmp_path).check, lambda: writer(server, tmp_path).write([], [ask("a")], STREAM)):
        with pytest.raises(GenerationError, match=r"SYNTHPOLL_API_KEY is not set; .* writer\.key_variable=null"):
            call()
    assert not server.requests
    keyless = writer(server, tmp_path, key_variable=None)
    keyless.check()
    assert texts(keyless.write([], [ask("a")], STREAM)) == [answer_of("a")]
    assert not [name for name in server.headers[0] if name.lower() == "authorization"]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, server: EndpointServer, tmp_path: Path) -> None:
    monkeypatch.setattr(endpoint_writer, "find_spec", lambda name: None)
    with pytest.raises(GenerationError, match=r"pip install 'synthpoll\[endpoint\]'"):
        writer(server, tmp_path).check()
