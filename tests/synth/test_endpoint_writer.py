"""The endpoint writer against a real server of the protocol, through the real client."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import signal
import subprocess
import sys
import threading
from collections import Counter
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from synth.endpoint_writer import EndpointWriter
from synth.generator import GenerationError
from synth.writer import Answer, Failure, Prompt, Writer
from tests.synth.endpoint_client import KEY, STREAM, ask, texts, writer
from tests.synth.endpoint_server import (
    EndpointServer,
    Exchange,
    answer_of,
    answers,
    stalls,
    written,
)

pytestmark = pytest.mark.usefixtures("endpoint_key")

ROOT = Path(__file__).parents[2]

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
        (
            {"seeded": False, "extra": {"top_k": 50, "min_p": 0.1}},
            ask("a"),
            {"max_tokens": 20, "top_k": 50, "min_p": 0.1},
        ),
        ({"seeded": False, "limit_field": "max_completion_tokens"}, ask("a"), {"max_completion_tokens": 20}),
        ({"seeded": False, "logprobs": True}, ask("a"), {"max_tokens": 20, "logprobs": True}),
        (
            {"seeded": False, "prefill": True, "extra": {"top_k": 50}},
            ask("a", begin="So"),
            {"max_tokens": 20, "continue_final_message": True, "add_generation_prompt": False, "top_k": 50},
        ),
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
        for reused in (False, True):  # the second time from disk
            got = writer(server, tmp_path, logprobs=True).write([], [ask("a")], STREAM)
            assert got == [Answer(text="Two words", log_likelihood=-1.5, tokens=2)] and [one.reused for one in got] == [
                reused
            ]
        assert server.requests.total() == 1


def test_tokens_are_counted_by_the_server_or_by_events(tmp_path: Path) -> None:
    def respond(exchange: Exchange) -> None:
        exchange.open_stream()
        exchange.say("Two")
        exchange.say(" words")
        if exchange.asked == "count":
            exchange.event(None, usage={"completion_tokens": 3})
        exchange.end("stop")
        exchange.close_stream()

    with EndpointServer(default=respond) as server:
        got = writer(server, tmp_path).write([], [ask("count"), ask("do not"), ask("count", stop="Two")], STREAM)
    assert [one.tokens for one in got if isinstance(one, Answer)] == [3, 2, 1]


def test_halves_of_a_character_are_joined(tmp_path: Path) -> None:
    with EndpointServer({"one": [written("a \ud83d", "\ude00")], "half": [written("a \ud83d")]}) as server:
        assert texts(writer(server, tmp_path).write([], [ask("one"), ask("half")], STREAM)) == [
            "a \U0001f600",
            "a \ufffd",
        ]


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
        ({"extra": {"seed": "sk-secret"}}, "extra has 'seed', which the writer itself sets"),
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


def test_every_setting_is_in_the_config() -> None:
    """Hydra refuses to set on the command line what the file does not name."""
    settings = yaml.safe_load((files("conf") / "writer" / "endpoint.yaml").read_text("utf-8"))
    values = {field.name: field.default for field in dataclasses.fields(EndpointWriter)}
    assert set(settings) == {"_target_", *values}
    for name in set(values) - {"base_url", "model", "cache", "extra"}:
        assert settings[name] == values[name], name


# What is kept.


def test_answers_are_kept_by_everything_they_depend_on(server: EndpointServer, tmp_path: Path) -> None:
    base = writer(server, tmp_path)
    base.write([], [ask("a"), ask("a")], STREAM)
    assert server.requests["a"] == 2  # two equal prompts ask for two texts
    again = dataclasses.replace(base, base_url=f"{base.base_url}/", timeout=9.0, retries=0, max_concurrent=1, chunk=3)
    again.write([], [ask("a"), ask("a")], STREAM)
    assert server.requests["a"] == 2
    for changes in (
        {"model": "n"},
        {"temperature": 0.7},
        {"top_p": 0.9},
        {"seeded": False},
        {"logprobs": True},
        {"extra": {"top_k": 5}},
    ):
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
    for damage in (
        b"",
        b'[{"text": "ha',
        b"\xff",
        b"[]",
        b"{}",
        b'[{"words": "no"}]',
        b'[{"text": 3}]',
        b'[{"text": "a", "tokens": "b"}]',
    ):
        writer(server, tmp_path).write([], [ask("a")], STREAM)
        [path] = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert json.loads(path.read_text("utf-8"))[0]["text"] == answer_of("a")
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
