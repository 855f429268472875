"""The endpoint writer against a real server of the protocol, through the real client: every fault, and nothing lost."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synth import endpoint_writer
from synth.endpoint_protocol import asked_wait
from synth.endpoint_writer import EndpointWriter
from synth.generator import GenerationError
from synth.writer import Answer, Failure, Prompt, Writer
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

KEY = "sk-test-0123456789-never-to-be-seen"
ROOT = Path(__file__).parents[2]
STREAM = np.random.SeedSequence(7)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().endswith("_PROXY") or name.startswith("OPENAI_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SYNTHPOLL_API_KEY", KEY)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waiting times, which are not waited for."""
    waited: list[float] = []

    async def pause(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(endpoint_writer, "_pause", pause)
    return waited


@pytest.fixture
def server() -> Iterator[EndpointServer]:
    with EndpointServer() as endpoint:
        yield endpoint


def writer(server: EndpointServer, cache: Path, **changes: Any) -> EndpointWriter:
    """With a timeout that no healthy request meets; the backoff is small enough to be waited for."""
    usual: dict[str, Any] = {"timeout": 60.0, "retries": 2, "backoff_base": 0.001, "backoff_max": 0.01}
    return EndpointWriter(base_url=server.url, model="m", cache=cache, **(usual | changes))


def ask(text: str, **changes: Any) -> Prompt:
    return Prompt(turns=({"role": "user", "content": text},), **({"limit": 20} | changes))


def texts(entries: list[Answer | Failure]) -> list[str]:
    return [entry.text if isinstance(entry, Answer) else entry.reason for entry in entries]


# What is sent, and what comes back.


def test_a_prompt_is_sent_behind_the_shared_turns_and_its_answer_comes_back(
    server: EndpointServer, tmp_path: Path
) -> None:
    shared = [{"role": "system", "content": "You write emails."}]
    parent = ({"role": "user", "content": "before"}, {"role": "assistant", "content": "an email"})
    prompt = Prompt(turns=(*parent, {"role": "user", "content": "now"}), limit=33)
    endpoint: Writer = writer(server, tmp_path, temperature=0.5, top_p=0.9)
    endpoint.check()
    assert texts(endpoint.write(shared, [prompt], STREAM)) == [answer_of("now")]
    [body] = server.bodies
    assert body["messages"] == [*shared, *prompt.turns]
    assert {name: body[name] for name in ("model", "temperature", "top_p", "max_tokens", "stream")} == {
        "model": "m",
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 33,
        "stream": True,
    }
    assert 0 <= body["seed"] < 2**31
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    assert endpoint.name == "m endpoint T=0.5 top_p=0.9" and "seed" in str(endpoint.reproducible)


def test_no_prompts_no_requests(server: EndpointServer, tmp_path: Path) -> None:
    assert writer(server, tmp_path).write([], [], STREAM) == [] and not server.requests


def test_seeds_depend_on_stream_and_place_only(server: EndpointServer, tmp_path: Path) -> None:
    def seeds(cache: str, stream: np.random.SeedSequence, **changes: Any) -> dict[str, int]:
        server.bodies.clear()
        prompts = [ask(f"p{i}") for i in range(6)]
        writer(server, tmp_path / cache, **changes).write([], prompts, stream)
        return {body["messages"][-1]["content"]: body["seed"] for body in server.bodies}

    first = seeds("a", STREAM, max_concurrent=1)
    assert len(set(first.values())) == 6
    STREAM.spawn(1)  # a stream that was used elsewhere is still the same stream
    assert seeds("b", STREAM, max_concurrent=6) == first
    assert not set(seeds("c", np.random.SeedSequence(8)).values()) & set(first.values())


def test_what_differs_between_servers_is_sent_as_configured(server: EndpointServer, tmp_path: Path) -> None:
    for changes, prompt, expected in (
        ({"seeded": False}, ask("a"), {"max_tokens": 20}),
        ({"seeded": False, "limit_field": "max_completion_tokens"}, ask("a"), {"max_completion_tokens": 20}),
        ({"seeded": False, "logprobs": True}, ask("a"), {"max_tokens": 20, "logprobs": True}),
        (
            {"seeded": False, "prefill": True},
            ask("a", begin="Dear"),
            {"max_tokens": 20, "continue_final_message": True, "add_generation_prompt": False},
        ),
    ):
        server.bodies.clear()
        writer(server, tmp_path, **changes).write([], [prompt], STREAM)
        [body] = server.bodies
        assert {k: v for k, v in body.items() if k not in ("model", "messages", "stream", "temperature", "top_p")} == (
            expected
        )


def test_a_begun_answer_is_continued_where_the_server_can(tmp_path: Path) -> None:
    with EndpointServer(default=written(" there, all well?")) as server:
        prompts = [ask("greet", begin="Hello")]
        got = writer(server, tmp_path, prefill=True).write([], prompts, STREAM)
        assert texts(got) == ["Hello there, all well?"]
        assert writer(server, tmp_path, prefill=True).continues and not writer(server, tmp_path).continues
        assert server.bodies[0]["messages"][-1] == {"role": "assistant", "content": "Hello"}
        with pytest.raises(GenerationError, match=r"writer\.prefill is false; set it to true"):
            writer(server, tmp_path).write([], prompts, STREAM)
        assert server.requests.total() == 1


def test_the_stop_pattern_ends_an_answer(tmp_path: Path) -> None:
    with EndpointServer(default=written("Body", " one.", "\n#", "##", " Email two", finish="length")) as server:
        assert texts(writer(server, tmp_path).write([], [ask("a", stop="\n###")], STREAM)) == ["Body one.\n###"]
        assert texts(writer(server, tmp_path).write([], [ask("a")], STREAM)) == ["Body one.\n### Email two"]


def test_log_probabilities_become_nats_per_token(tmp_path: Path) -> None:
    def respond(exchange: Exchange) -> None:
        exchange.open_stream()
        for word, logprob in (("Two", -1.0), (" words", -2.0)):
            exchange.say(word, logprobs={"content": [{"token": word, "logprob": logprob, "top_logprobs": []}]})
        exchange.end("stop")
        exchange.close_stream()

    with EndpointServer(default=respond) as server:
        for _ in range(2):  # the second time from disk
            got = writer(server, tmp_path, logprobs=True).write([], [ask("a")], STREAM)
            assert got == [Answer(text="Two words", log_likelihood=-1.5)]
        assert server.requests.total() == 1


def test_halves_of_a_character_are_joined(tmp_path: Path) -> None:
    with EndpointServer({"one": [written("a \ud83d", "\ude00")], "half": [written("a \ud83d")]}) as server:
        assert texts(writer(server, tmp_path).write([], [ask("one"), ask("half")], STREAM)) == [
            "a \U0001f600",
            "a \ufffd",
        ]


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
        got = writer(server, tmp_path).write([], [ask("good"), *map(ask, PASSING)], STREAM)
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


# Order and concurrency.


def test_order_is_kept_and_the_bound_is_reached_but_not_passed(tmp_path: Path) -> None:
    together = threading.Barrier(3)

    def respond(exchange: Exchange) -> None:
        together.wait(timeout=60)  # nobody is answered before three ask
        answers(exchange)

    with EndpointServer(default=respond) as server:
        prompts = [ask(f"p{i}") for i in range(12)]
        got = writer(server, tmp_path, max_concurrent=3, retries=0).write([], prompts, STREAM)
        assert texts(got) == [answer_of(f"p{i}") for i in range(12)]
        assert server.most_at_once == 3


def test_answers_that_come_in_reverse_are_put_in_order(tmp_path: Path) -> None:
    done = {f"p{i}": threading.Event() for i in range(5)}
    done["p4"].set()

    def respond(exchange: Exchange) -> None:
        number = int(exchange.asked[1:])
        done[f"p{min(number + 1, 4)}"].wait(timeout=60)
        answers(exchange)
        done[exchange.asked].set()

    with EndpointServer(default=respond) as server:
        got = writer(server, tmp_path, max_concurrent=5).write([], [ask(f"p{i}") for i in range(5)], STREAM)
        assert texts(got) == [answer_of(f"p{i}") for i in range(5)]


def test_it_works_in_a_notebook(server: EndpointServer, tmp_path: Path) -> None:
    async def cell() -> list[Answer | Failure]:
        return writer(server, tmp_path).write([], [ask("a")], STREAM)

    assert texts(asyncio.run(cell())) == [answer_of("a")]


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


# The key.


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


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"base_url": "localhost:8000/v1"}, "base_url is no plain address"),
        ({"base_url": "ftp://host/v1"}, "base_url is no plain address"),
        ({"base_url": "http:///v1"}, "base_url is no plain address"),
        ({"base_url": "http://host:eighty/v1"}, "base_url is no plain address"),
        ({"base_url": "http://host:99999/v1"}, "base_url is no plain address"),
        ({"base_url": f"http://user:{KEY}@host/v1"}, "base_url is no plain address"),
        ({"base_url": f"http://host/v1?key={KEY}"}, "base_url is no plain address"),
        ({"key_variable": KEY}, "key_variable is not the NAME"),
        ({"key_variable": ""}, "key_variable is not the NAME"),
        ({"model": ""}, "model is ''"),
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_p": 0.0}, r"top_p is 0.0; expected a value in \(0, 1\]"),
        ({"chunk": 0}, "chunk is 0"),
        ({"max_concurrent": 0}, "max_concurrent is 0"),
        ({"timeout": 0.0}, "timeout is 0.0"),
        ({"timeout": float("inf")}, "timeout is inf"),
        ({"retries": -1}, "retries is -1"),
        ({"backoff_base": 0.0}, "backoff_base is 0.0"),
        ({"backoff_max": 0.5}, "backoff_max is 0.5; expected writer.backoff_base seconds or more"),
        ({"patience": 0}, "patience is 0"),
        ({"limit_field": "max"}, "limit_field is 'max'; expected one of max_tokens, max_completion_tokens"),
    ],
)
def test_values_out_of_range_are_named(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=rf"writer\.{expected}") as caught:
        EndpointWriter(**({"base_url": "http://host/v1", "model": "m", "cache": "c"} | changes))
    assert KEY not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["https://host/v1", "http://[::1]:8000/v1/", "http://localhost:8000", "HTTP://h-1.x/a/b"]
)
def test_plain_addresses_are_taken(url: str) -> None:
    EndpointWriter(base_url=url, model="m", cache="c")


# What is kept.


def test_answers_are_kept_by_everything_they_depend_on(server: EndpointServer, tmp_path: Path) -> None:
    base = writer(server, tmp_path)
    base.write([], [ask("a"), ask("a")], STREAM)
    assert server.requests["a"] == 2  # two equal prompts ask for two texts
    again = dataclasses.replace(base, base_url=f"{base.base_url}/", timeout=9.0, retries=0, max_concurrent=1, chunk=3)
    again.write([], [ask("a"), ask("a")], STREAM)
    assert server.requests["a"] == 2
    for changes in ({"model": "n"}, {"temperature": 0.7}, {"top_p": 0.9}, {"seeded": False}, {"logprobs": True}):
        before = server.requests["a"]
        dataclasses.replace(base, **changes).write([], [ask("a")], STREAM)
        assert server.requests["a"] == before + 1, changes
    for shared, prompt, stream in (
        ([{"role": "system", "content": "s"}], ask("a"), STREAM),
        ([], ask("a", limit=21), STREAM),
        ([], ask("a", stop="x"), STREAM),
        ([], ask("a"), np.random.SeedSequence(8)),
    ):
        before = server.requests["a"]
        base.write(shared, [prompt], stream)
        assert server.requests["a"] == before + 1


def test_a_damaged_answer_is_asked_for_again(server: EndpointServer, tmp_path: Path) -> None:
    for damage in (b"", b'{"text": "ha', b"\xff", b"[]", b'{"words": "no"}'):
        writer(server, tmp_path).write([], [ask("a")], STREAM)
        [path] = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert json.loads(path.read_text("utf-8"))["text"] == answer_of("a")
        path.write_bytes(damage)
        before = server.requests["a"]
        assert texts(writer(server, tmp_path).write([], [ask("a")], STREAM)) == [answer_of("a")]
        assert server.requests["a"] == before + 1


def test_a_folder_that_cannot_be_written_is_named_before_anything_is_paid(
    server: EndpointServer, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    endpoint = writer(server, tmp_path / "file")
    for call in (endpoint.check, lambda: endpoint.write([], [ask("a")], STREAM)):
        with pytest.raises(GenerationError, match=r"answers cannot be kept in .* set writer.cache"):
            call()
    assert not server.requests


def start(server: EndpointServer, cache: Path, prompts: int) -> subprocess.Popen[str]:
    """Another process that writes p0, p1, ... one after the other."""
    program = f"""
import signal
import numpy as np
from synth.endpoint_writer import EndpointWriter
from synth.writer import Prompt
endpoint = EndpointWriter(base_url={server.url!r}, model="m", cache={str(cache)!r}, max_concurrent=1, timeout=600)
prompts = [Prompt(turns=({{"role": "user", "content": f"p{{i}}"}},), limit=20) for i in range({prompts})]
# A test run in the background of a shell hands down a SIGINT that is ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    endpoint.write([], prompts, np.random.SeedSequence(7))
except KeyboardInterrupt:
    print("interrupted")
"""
    return subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("how", "said"), [(signal.SIGKILL, ""), (signal.SIGINT, "interrupted\n")])
def test_a_killed_run_does_not_pay_twice(how: signal.Signals, said: str, tmp_path: Path) -> None:
    reached = threading.Event()

    def stop_here(exchange: Exchange) -> None:
        reached.set()
        stalls(exchange)

    with EndpointServer({"p4": [stop_here]}) as server:
        process = start(server, tmp_path, 8)
        try:
            assert reached.wait(timeout=120)
            process.send_signal(how)
            assert process.communicate(timeout=120)[0] == said  # long before the 600 seconds of its timeout
        finally:
            process.kill()
        assert server.requests == Counter(p0=1, p1=1, p2=1, p3=1, p4=1)
        got = writer(server, tmp_path).write([], [ask(f"p{i}") for i in range(8)], STREAM)
        assert texts(got) == [answer_of(f"p{i}") for i in range(8)]
        assert server.requests == Counter(p0=1, p1=1, p2=1, p3=1, p4=2, p5=1, p6=1, p7=1)


def test_two_processes_may_share_a_folder(server: EndpointServer, tmp_path: Path) -> None:
    for process in [start(server, tmp_path, 5) for _ in range(2)]:
        process.communicate(timeout=120)
        assert process.returncode == 0
    before = server.requests.total()
    writer(server, tmp_path).write([], [ask(f"p{i}") for i in range(5)], STREAM)
    assert server.requests.total() == before <= 10


@pytest.mark.parametrize(("turns", "limit"), [((), 5), (({"role": "assistant", "content": "x"},), 5), (None, 0)])
def test_a_prompt_ends_with_a_request_and_has_a_limit(turns: Any, limit: int) -> None:
    with pytest.raises(ValueError, match=r"prompt\.(turns|limit)"):
        Prompt(turns=({"role": "user", "content": "x"},) if turns is None else turns, limit=limit)
