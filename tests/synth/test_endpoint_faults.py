"""Everything that can go wrong at an endpoint: nothing is lost, and what can never work stops."""

from __future__ import annotations

import dataclasses
import json
import time
from collections import Counter
from email.utils import formatdate
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synth import endpoint_writer
from synth.endpoint_protocol import asked_wait
from synth.generator import GenerationError
from synth.writer import Answer, Failure
from tests.synth.endpoint_client import KEY, STREAM, ask, texts, writer
from tests.synth.endpoint_server import (
    EndpointServer,
    Exchange,
    Response,
    answer_of,
    answers,
    cut_off,
    hangs_up,
    is_silent,
    murmurs,
    never_finishes,
    raw,
    stalls,
    status,
    talks_for_ever,
    written,
)

pytestmark = pytest.mark.usefixtures("endpoint_key")

# Faults.

PASSING: dict[str, tuple[Response, str]] = {
    "500": (status(500), "endpoint: HTTP 500"),
    "502 in HTML": (lambda e: e.send(502, b"<html>bad gateway</html>", {}), "endpoint: HTTP 502"),
    "503": (status(503, Retry_After="0"), "endpoint: HTTP 503"),
    "408": (status(408), "endpoint: HTTP 408"),
    "429": (status(429, Retry_After="0.005"), "endpoint: rate limited"),
    "hangs up": (hangs_up, "endpoint: no connection"),
    "cut off": (cut_off, "endpoint: cut off"),
    "cut within an event": (raw(b'data: {"choices": [{"del'), "endpoint: cut off"),
    "no finish reason": (never_finishes, "endpoint: cut off"),
    "a web page": (raw(b"<html>welcome</html>", "text/html"), "endpoint: cut off"),
    "invalid JSON": (raw(b"data: {oops\n\n"), "endpoint: invalid JSON"),
    "deep JSON": (raw(b"data: " + b"[" * 100_000 + b"\n\n"), "endpoint: invalid JSON"),
    "invalid UTF-8": (raw(b"data: \xff\xfe\n\n"), "endpoint: invalid JSON"),
    "null": (raw(b"data: null\n\n"), "endpoint: unexpected JSON"),
    "a list": (raw(b"data: [1]\n\n"), "endpoint: unexpected JSON"),
    "choices of another type": (raw(b'data: {"choices": 7}\n\n'), "endpoint: unexpected JSON"),
    "a number for a text": (raw(b'data: {"choices": [{"delta": {"content": 5}}]}\n\n'), "endpoint: unexpected JSON"),
    "an error within the stream": (raw(b'data: {"error": {"message": "out of memory"}}\n\n'), "endpoint: server error"),
    "a bare error within the stream": (raw(b'data: {"error": "out of memory"}\n\n'), "endpoint: server error"),
    "unknown finish": (written("half", finish="error"), "endpoint: unusual finish"),
}
LASTING: dict[str, tuple[Response, str]] = {
    "400": (status(400), "endpoint: HTTP 400"),
    "403": (status(403), "endpoint: HTTP 403"),
    "422": (status(422), "endpoint: HTTP 422"),
    "content filter": (written("half", finish="content_filter"), "endpoint: content filter"),
    "empty": (written(), "endpoint: empty answer"),
    "endless": (talks_for_ever, "endpoint: endless"),
    "one endless event": (
        raw(b'data: {"choices": [{"delta": {"content": "%s"}}]}\n\n' % (b"x" * 5000)),
        "endpoint: endless",
    ),
}


def test_faults_that_pass_are_asked_again(tmp_path: Path) -> None:
    with EndpointServer({name: [fault, fault] for name, (fault, _) in PASSING.items()}) as server:
        got = writer(server, tmp_path).write([], [ask(name) for name in PASSING], STREAM)
        assert texts(got) == [answer_of(name) for name in PASSING]
        assert server.requests == Counter(dict.fromkeys(PASSING, 3))


def test_faults_that_do_not_pass_are_counted_by_reason(tmp_path: Path) -> None:
    with EndpointServer({name: [fault] * 9 for name, (fault, _) in PASSING.items()}) as server:
        got = writer(server, tmp_path, patience=100).write([], [ask("good"), *map(ask, PASSING)], STREAM)
        assert texts(got) == [answer_of("good"), *(reason for _, reason in PASSING.values())]
        assert server.requests == Counter(dict.fromkeys(PASSING, 3) | {"good": 1})
        # Failures are not kept: the next run tries again.
        server.plan.clear()
        got = writer(server, tmp_path).write([], [ask("good"), *map(ask, PASSING)], STREAM)
        assert texts(got) == [answer_of(name) for name in ("good", *PASSING)] and server.requests["good"] == 1


def test_lasting_faults_are_asked_once(tmp_path: Path) -> None:
    with EndpointServer({name: [fault] for name, (fault, _) in LASTING.items()}) as server:
        got = writer(server, tmp_path).write([], [ask(name) for name in LASTING], STREAM)
        assert texts(got) == [reason for _, reason in LASTING.values()]
        assert server.requests == Counter(dict.fromkeys(LASTING, 1))


def damaged(rng: np.random.Generator) -> bytes:
    """A good stream with one value replaced, one byte changed or its end missing."""
    token = {"token": "w", "logprob": -1.0}
    choice = {"index": 0, "delta": {"content": "word"}, "logprobs": {"content": [token]}, "finish_reason": "stop"}
    event: Any = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice]}
    kind = rng.integers(3)
    if kind == 0:
        parent: Any = event
        while True:
            key = rng.choice(sorted(parent)) if isinstance(parent, dict) else 0
            if not isinstance(parent[key], dict | list) or rng.random() < 0.2:
                break
            parent = parent[key]
        parent[key] = [None, 5, -0.5, True, "x", [], {}, [[]], [None], {"content": 1}][rng.integers(10)]
    stream = bytearray(b"data: " + json.dumps(event).encode() + b"\n\ndata: [DONE]\n\n")
    if kind == 1:
        stream[rng.integers(len(stream))] = rng.integers(256)
    return bytes(stream[: rng.integers(len(stream))] if kind == 2 else stream)


def test_whatever_a_server_says_every_prompt_ends_as_a_text_or_a_counted_failure(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    streams = {f"p{i}": damaged(rng) for i in range(150)}
    with EndpointServer({name: [raw(stream)] for name, stream in streams.items()}) as server:
        endpoint = writer(server, tmp_path, retries=0, patience=1000)
        got = endpoint.write([], [ask(name) for name in streams], STREAM)
    assert len(got) == 150
    for entry in got:
        assert isinstance(entry, Answer) or entry.reason in {reason for _, reason in (PASSING | LASTING).values()}
    assert 10 < sum(isinstance(entry, Failure) for entry in got) < 140  # both were seen


@pytest.mark.parametrize("fault", [stalls, murmurs])
def test_a_stalled_stream_is_noticed_and_half_a_text_is_no_text(fault: Response, tmp_path: Path) -> None:
    with EndpointServer({"bad": [fault] * 2, "once": [fault]}) as server:
        endpoint = writer(server, tmp_path, timeout=0.3, retries=1)
        assert texts(endpoint.write([], [ask("bad")], STREAM)) == ["endpoint: stalled"]
        # On a machine so slow that a good request meets this timeout too, it is asked again.
        got = dataclasses.replace(endpoint, retries=30).write([], [ask("once")], STREAM)
        assert texts(got) == [answer_of("once")] and server.requests["once"] >= 2


def test_a_server_that_accepts_and_says_nothing_is_not_there(pauses: list[float], tmp_path: Path) -> None:
    with EndpointServer(default=is_silent) as server, pytest.raises(GenerationError, match=r"nothing came for 0\.2 s"):
        writer(server, tmp_path, timeout=0.2).write([], [ask("a")], STREAM)


def test_a_cut_text_is_a_text_if_the_server_says_so(tmp_path: Path) -> None:
    with EndpointServer(default=written("One. Two", finish="length")) as server:
        assert texts(writer(server, tmp_path).write([], [ask("a")], STREAM)) == ["One. Two"]


def test_a_finished_answer_stays_whatever_the_connection_does_then(tmp_path: Path) -> None:
    def respond(exchange: Exchange) -> None:
        exchange.open_stream()
        exchange.say("All there.")
        exchange.end("stop")
        exchange.piece(b"data: {oops\n\n")

    with EndpointServer(default=respond) as server:
        assert texts(writer(server, tmp_path).write([], [ask("a")], STREAM)) == ["All there."]


def test_a_slow_answer_that_goes_on_is_not_stalled(tmp_path: Path) -> None:
    """Ten pauses of 0.1 s: together twice the timeout."""

    def respond(exchange: Exchange) -> None:
        exchange.open_stream()
        for _ in range(10):
            time.sleep(0.1)
            exchange.say("word ")
        exchange.end("stop")
        exchange.close_stream()

    with EndpointServer(default=respond) as server:
        got = writer(server, tmp_path, timeout=0.5, retries=30).write([], [ask("a")], STREAM)
        assert texts(got) == ["word " * 10]


# Waiting.


def test_the_backoff_doubles_with_jitter_up_to_its_bound_and_repeats(pauses: list[float], tmp_path: Path) -> None:
    def waits(cache: str, stream: np.random.SeedSequence) -> list[float]:
        pauses.clear()
        with EndpointServer({"a": [status(500)] * 9}) as server:
            endpoint = writer(server, tmp_path / cache, retries=6, backoff_base=1.0, backoff_max=10.0)
            assert texts(endpoint.write([], [ask("a")], stream)) == ["endpoint: HTTP 500"]
        return list(pauses)

    first = waits("a", STREAM)
    assert len(first) == 6
    for seconds, most in zip(first, (1, 2, 4, 8, 10, 10), strict=True):
        assert most / 2 <= seconds <= most
    assert waits("b", STREAM) == first != waits("c", np.random.SeedSequence(8))


def test_retry_after_is_honoured(pauses: list[float], tmp_path: Path) -> None:
    def until(exchange: Exchange) -> None:
        status(503, Retry_After=formatdate(time.time() + 30, usegmt=True))(exchange)

    plan = [status(429, Retry_After="7"), status(503, Retry_After="59.9"), until, status(429, Retry_After="0")]
    with EndpointServer({"a": plan}) as server:
        endpoint = writer(server, tmp_path, backoff_base=1.0, backoff_max=60.0, retries=4)
        assert texts(endpoint.write([], [ask("a")], STREAM)) == [answer_of("a")]
    assert 7 <= pauses[0] <= 8 and 59.9 <= pauses[1] <= 60 and 2 < pauses[2] <= 31
    assert 4 <= pauses[3] <= 8 and len(pauses) == 4  # "at once" is not taken at its word


def test_who_is_asked_to_wait_too_long_fails_instead_of_asking_early(pauses: list[float], tmp_path: Path) -> None:
    with EndpointServer({"a": [status(429, Retry_After="3600")]}) as server:
        got = writer(server, tmp_path, backoff_max=60.0).write([], [ask("a"), ask("b")], STREAM)
        assert texts(got) == ["endpoint: rate limited", answer_of("b")]
        assert pauses == [] and server.requests["a"] == 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "120"}, 120.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:30 GMT", "date": "Wed, 21 Oct 2015 07:28:00 GMT"}, 30.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),  # long ago by our own clock
        ({}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
    ],
)
def test_retry_after_is_read(headers: dict[str, str], seconds: float | None) -> None:
    assert asked_wait(headers) == seconds


def test_retry_after_as_a_date_is_read_by_our_clock_if_the_server_tells_no_time() -> None:
    asked = asked_wait({"retry-after": formatdate(time.time() + 1000, usegmt=True)})
    assert asked is not None and 0 < asked <= 1000


# What stops a run.


def test_a_refused_connection_is_tried_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with EndpointServer(listening=False) as server:

        async def pause(seconds: float) -> None:
            if pause.calls == 1:  # type: ignore[attr-defined]
                server.listen()
            pause.calls += 1  # type: ignore[attr-defined]

        pause.calls = 0  # type: ignore[attr-defined]
        monkeypatch.setattr(endpoint_writer, "_pause", pause)
        got = writer(server, tmp_path, max_concurrent=1).write([], [ask("a"), ask("b")], STREAM)
        assert texts(got) == [answer_of("a"), answer_of("b")]
        assert pause.calls == 2  # type: ignore[attr-defined]


def test_if_nothing_ever_answers_the_run_stops_after_one_prompts_retries(pauses: list[float], tmp_path: Path) -> None:
    with EndpointServer(listening=False) as server:
        endpoint = writer(server, tmp_path, max_concurrent=1)
        with pytest.raises(
            GenerationError, match=rf"nothing answers at {server.url} \(.+\); start the server"
        ) as caught:
            endpoint.write([], [ask(f"p{i}") for i in range(50)], STREAM)
        assert "\n" not in str(caught.value) and len(pauses) == 2
        with pytest.raises(GenerationError, match="nothing answers at"):
            endpoint.check()


def test_a_server_that_goes_away_is_counted_and_what_came_is_kept(tmp_path: Path) -> None:
    with EndpointServer({"b": [hangs_up] * 9}) as server:
        prompts = [ask("a"), ask("b")]
        got = writer(server, tmp_path, max_concurrent=1).write([], prompts, STREAM)
        assert texts(got) == [answer_of("a"), "endpoint: no connection"]
    # Nothing listens there any more, and nothing needs to.
    assert texts(writer(server, tmp_path).write([], prompts[:1], STREAM)) == [answer_of("a")]


def test_401_stops_the_run_and_says_which_variable_to_set(tmp_path: Path) -> None:
    with EndpointServer({"b": [status(401, f"the key {KEY} is unknown")]}, default=answers) as server:
        with pytest.raises(GenerationError, match="environment variable SYNTHPOLL_API_KEY"):
            writer(server, tmp_path, max_concurrent=1).write([], [ask(name) for name in "abcdef"], STREAM)
        assert server.requests == Counter(a=1, b=1)
        server.on_models = status(401, KEY)
        with pytest.raises(GenerationError, match="does not accept the key in the environment variable SYNTHPOLL"):
            writer(server, tmp_path).check()
        with pytest.raises(GenerationError, match=r"wants a key \(401\); set writer.key_variable"):
            writer(server, tmp_path, key_variable=None).check()


def test_404_stops_the_run_and_names_the_model(tmp_path: Path) -> None:
    with EndpointServer(default=status(404)) as server:
        with pytest.raises(GenerationError, match=r"knows no model 'm' .* set writer.model or writer.base_url"):
            writer(server, tmp_path).write([], [ask("a")], STREAM)
        server.on_models = status(404)
        writer(server, tmp_path).check()  # it is alive; not every endpoint lists its models


def test_a_run_without_answers_stops_when_patience_is_over(tmp_path: Path) -> None:
    told = f"unknown\nfield 'seed' for {KEY}"
    with EndpointServer({"p0": [answers]}, default=status(400, told)) as server:
        endpoint = writer(server, tmp_path, patience=5, max_concurrent=1)
        with pytest.raises(GenerationError) as caught:
            endpoint.write([], [ask(f"p{i}") for i in range(50)], STREAM)
        said = str(caught.value)
        assert "5 prompts in a row got no answer" in said and "(unknown field 'seed' for ...)" in said
        assert "'endpoint: HTTP 400'" in said and "\n" not in said and server.requests.total() == 6
        # An answer between failures sets the count back.
        server.plan = {f"q{i}": [answers] for i in range(4, 20, 5)}
        got = endpoint.write([], [ask(f"q{i}") for i in range(20)], STREAM)
        assert texts(got).count("endpoint: HTTP 400") == 16


@pytest.mark.parametrize("body", [b'{"error": {"message": "out of\\nmemory"}}', b'{"error": "out of memory"}'])
def test_what_the_server_says_within_the_stream_is_told(body: bytes, tmp_path: Path) -> None:
    said = r"for 'endpoint: server error' \(out of memory\); finished answers"
    with EndpointServer(default=raw(b"data: " + body + b"\n\n")) as server, pytest.raises(GenerationError, match=said):
        writer(server, tmp_path, patience=1).write([], [ask("a")], STREAM)
