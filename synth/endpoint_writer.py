"""Writing through an endpoint: any server of the OpenAI chat protocol (vLLM, llama.cpp's server, a provider).

    writer = EndpointWriter(base_url="http://localhost:8000/v1", model="my-model", cache="cache", key_variable=None)
    writer.check()
    prompt = Prompt(turns=({"role": "user", "content": "Write an email about a late train."},), limit=150)
    [answer] = writer.write([], [prompt], np.random.SeedSequence(0))

Endpoints fail, so every prompt ends as an answer or as a counted failure, and what can never work stops the run with
one line. An answer is on disk before its worker sends the next prompt: a killed run does not pay for it again.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from synth.endpoint_address import EndpointAddress
from synth.endpoint_protocol import NoAnswerError, Reading, asked_wait
from synth.endpoint_retry import Backoff, Health
from synth.event_loop import run
from synth.generator import GenerationError
from synth.kept_answers import explained, keep, kept
from synth.writer import Answer, Failure, Prompt, Turn

if TYPE_CHECKING:
    import openai

LimitField = Literal["max_tokens", "max_completion_tokens"]

_OWN = {"messages", "model", "seed", "stream", "temperature", "top_p", *get_args(LimitField)}
_ITEM = 0x454E4450  # keeps the items' streams apart from children that the caller spawns of the same stream


@dataclass(frozen=True, kw_only=True)
class EndpointWriter:
    """Chat completions, streamed, at most `max_concurrent` at once.

    `base_url` ends where the protocol's paths begin, usually in /v1. The key is read from the environment variable
    `key_variable` (None: the server wants none) when it is used, and is kept nowhere else.

    A request that brings nothing for `timeout` seconds has stalled. What may pass (no connection, stalls, broken
    streams, invalid JSON, 408, 409, 425, 429, 5xx) is asked again up to `retries` times, after about
    `backoff_base` * 2^k seconds or what Retry-After asks for, never after more than `backoff_max` seconds: a prompt
    that would have to wait longer has failed. After `patience` prompts in a row without an answer, the run stops.

    What differs between servers: `seeded` sends each item's seed; `logprobs` asks for log-probabilities (the fluency
    filter); `prefill` continues a begun answer (vLLM, llama.cpp); `limit_field` names the limit on new tokens;
    `extra` are further fields of every request, such as {"top_k": 50}; they are kept in the run's configuration.

    Finished answers are kept under `cache` by content hash. Raises ValueError for values out of range.
    """

    base_url: str
    model: str
    cache: str | Path
    temperature: float = 0.8
    top_p: float = 0.95
    chunk: int = 64
    max_concurrent: int = 8
    timeout: float = 60.0
    retries: int = 5
    backoff_base: float = 1.0
    backoff_max: float = 60.0
    patience: int = 20
    key_variable: str | None = "SYNTHPOLL_API_KEY"
    seeded: bool = True
    logprobs: bool = False
    prefill: bool = False
    limit_field: LimitField = "max_tokens"
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        EndpointAddress(base_url=self.base_url, key_variable=self.key_variable)  # raises for what is none
        if own := sorted(_OWN & set(self.extra)):  # without its value, which may be anything
            raise ValueError(f"writer.extra has {own[0]!r}, which the writer itself sets; remove it from writer.extra")
        for name, fits, expected in (
            ("model", self.model != "", "the name under which the endpoint serves its model"),
            ("temperature", 0 <= self.temperature <= 2, "a value in [0, 2]"),
            ("top_p", 0 < self.top_p <= 1, "a value in (0, 1]"),
            ("chunk", self.chunk >= 1, "1 or more prompts"),
            ("max_concurrent", self.max_concurrent >= 1, "1 or more requests"),
            ("timeout", 0 < self.timeout < math.inf, "seconds above 0"),
            ("retries", self.retries >= 0, "0 or more"),
            ("backoff_base", 0 < self.backoff_base < math.inf, "seconds above 0"),
            ("backoff_max", self.backoff_base <= self.backoff_max < math.inf, "writer.backoff_base seconds or more"),
            ("patience", self.patience >= 1, "1 or more prompts"),
            ("limit_field", self.limit_field in get_args(LimitField), f"one of {', '.join(get_args(LimitField))}"),
        ):
            if not fits:
                raise ValueError(f"writer.{name} is {getattr(self, name)!r}; expected {expected}")

    @property
    def name(self) -> str:
        """Model and sampling, for lineage and cards."""
        return f"{self.model} endpoint T={self.temperature:g} top_p={self.top_p:g}"

    @property
    def continues(self) -> bool:
        """If `prefill` says so."""
        return self.prefill

    @property
    def reproducible(self) -> str:
        """Why a second run without this one's cache may get other texts."""
        sent = "is sent but does not bind" if self.seeded else "is not sent to"
        return f"the seed {sent} the endpoint, whose batching, software and weights may change; kept answers are reused"

    def check(self) -> None:
        """Raise GenerationError if the client, the key or the endpoint is missing, or the key is not accepted."""
        if find_spec("openai") is None:
            raise GenerationError("openai is not installed; install with: pip install 'synthpoll[endpoint]'")
        self._address.key()
        with explained(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        run(self._knock(self._client()))

    def write(
        self, shared: Sequence[Turn], prompts: Sequence[Prompt], stream: np.random.SeedSequence
    ) -> list[Answer | Failure]:
        """One entry per prompt, in order; item i's seed and waiting times depend on (stream, i) only.

        Raises GenerationError if the endpoint refuses the key, does not know the model or is not there, if `patience`
        prompts in a row got no answer, or if answers cannot be kept.
        """
        if not self.prefill and any(prompt.begin for prompt in prompts):
            raise GenerationError(
                "a begun answer is to be continued, but writer.prefill is false; set it to true if the server can do "
                "that (vLLM, llama.cpp), or set generator.operators.shares.continuation=0"
            )
        items = [self._item(shared, prompt, stream, place) for place, prompt in enumerate(prompts)]
        settled: list[Answer | Failure | None] = []
        for item in items:
            before = kept(item.path, 1)
            settled.append(before[0] if before else None)
        missing = {place: items[place] for place, entry in enumerate(settled) if entry is None}
        if missing:
            run(self._settle_all(self._client(), missing, settled))
        return [entry for entry in settled if entry is not None]

    def _item(self, shared: Sequence[Turn], prompt: Prompt, stream: np.random.SeedSequence, place: int) -> _Item:
        own = np.random.SeedSequence(entropy=stream.entropy, spawn_key=(*stream.spawn_key, _ITEM, place))
        seed = int(own.generate_state(1)[0]) >> 1  # 31 bits: some servers keep it in an int32
        request: dict[str, Any] = {
            "model": self.model,
            "messages": [dict(turn) for turn in (*shared, *prompt.turns)],
            "temperature": self.temperature,
            "top_p": self.top_p,
            self.limit_field: prompt.limit,
        }
        extra = dict(self.extra)
        if prompt.begin:
            request["messages"].append({"role": "assistant", "content": prompt.begin})
            extra |= {"continue_final_message": True, "add_generation_prompt": False}
        if extra:
            request["extra_body"] = extra
        if self.seeded:
            request["seed"] = seed
        if self.logprobs:
            request["logprobs"] = True
        # The seed is part of the key even where it is not sent: equal prompts ask for different texts.
        identity = json.dumps([2, self.base_url.rstrip("/"), request, seed, prompt.stop], sort_keys=True)
        digest = hashlib.sha256(identity.encode()).hexdigest()
        return _Item(prompt=prompt, request=request, stream=own, path=self._folder / digest[:2] / f"{digest}.json")

    async def _settle_all(
        self, idle: openai.AsyncOpenAI, missing: Mapping[int, _Item], settled: list[Answer | Failure | None]
    ) -> None:
        """Fill the missing places, `max_concurrent` at a time."""
        health, waiting = Health(), iter(missing.items())
        async with idle as client:

            async def work() -> None:
                for place, item in waiting:
                    settled[place] = await self._settle(client, item, health)

            tasks = [asyncio.create_task(work()) for _ in range(min(self.max_concurrent, len(missing)))]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _settle(self, client: openai.AsyncOpenAI, item: _Item, health: Health) -> Answer | Failure:
        """Ask until there is an answer or no hope."""
        rng = np.random.default_rng(item.stream)
        backoff = Backoff(base=self.backoff_base, most=self.backoff_max, retries=self.retries)
        for attempt in itertools.count():
            try:
                answer = await self._ask(client, item, health)
            except NoAnswerError as error:
                fault = error
            else:
                keep(item.path, [answer])
                health.misses = 0
                return answer
            wait = backoff.wait(attempt, fault, rng)
            if wait is None:
                break
            await _pause(wait)
        health.misses += 1
        if not health.heard:
            raise self._address.silent(fault.told)
        if health.misses >= self.patience:
            raise GenerationError(
                f"{health.misses} prompts in a row got no answer from {self.base_url}, the last for '{fault.reason}'"
                f"{f' ({fault.told})' if fault.told else ''}; finished answers are kept: run again when the endpoint "
                "works. If it does not know a field: see writer.seeded, logprobs, prefill, limit_field and extra; if "
                "it is slow: writer.max_concurrent and timeout"
            )
        return Failure(reason=fault.reason)

    async def _ask(self, client: openai.AsyncOpenAI, item: _Item, health: Health) -> Answer:
        """One attempt. Raises NoAnswerError, or GenerationError if no other prompt could fare better."""
        import httpx2
        import openai

        reading = Reading(item.prompt)
        broken, fault = "no connection", NoAnswerError("cut off")  # the latter: no finish reason at the stream's end
        try:
            async with asyncio.timeout(self.timeout) as stall:
                async with await client.chat.completions.create(
                    **item.request, stream=True, extra_headers=self._headers()
                ) as events:
                    health.heard, broken = True, "cut off"
                    async for event in events:
                        reading.take(event)
                        if reading.stopped:
                            break
                        stall.reschedule(asyncio.get_running_loop().time() + self.timeout)
        except (TimeoutError, openai.APITimeoutError):
            fault = NoAnswerError("stalled", told=f"nothing came for {self.timeout:g} s")
        except openai.APIConnectionError as error:
            fault = NoAnswerError(broken, told=str(error.__cause__ or ""))
        except openai.APIStatusError as error:
            health.heard = True
            fault = self._refusal(error)
        except openai.APIError as error:  # an error event within the stream
            fault = NoAnswerError("server error", told=self._told(error))
        except httpx2.HTTPError:  # what breaks within the body of an error is not translated by the client
            health.heard = True
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
            fault = NoAnswerError("invalid JSON")
        # Whatever the connection did after the answer was finished does not matter.
        return reading.answer(otherwise=fault)

    def _refusal(self, error: openai.APIStatusError) -> NoAnswerError:
        status, wait = error.status_code, asked_wait(error.response.headers)
        if status == 401:
            raise self._address.unauthorized() from None
        if status == 404:
            raise GenerationError(
                f"the endpoint {self.base_url} knows no model {self.model!r} or has another address (404); "
                "set writer.model or writer.base_url"
            ) from None
        told = [] if status == 403 else [self._told(error)]
        told += [] if wait is None else [f"Retry-After {wait:g} s"]
        return NoAnswerError(
            "rate limited" if status == 429 else f"HTTP {status}",
            passing=status >= 500 or status in (408, 409, 425, 429),
            wait=wait,
            told=", ".join(filter(None, told)),
        )

    def _told(self, error: openai.APIError) -> str:
        """The server's own words, which come in an object or bare."""
        body = error.body
        said = body.get("message") or body.get("detail") if isinstance(body, dict) else body
        return self._address.without_key(said if isinstance(said, str) else "")

    async def _knock(self, idle: openai.AsyncOpenAI) -> None:
        import httpx2
        import openai

        async with idle as client:
            try:
                async with asyncio.timeout(self.timeout):
                    await client.models.with_raw_response.list(extra_headers=self._headers())
            except openai.APIStatusError as error:
                # Any other status is a sign of life too: not every endpoint lists its models.
                if error.status_code == 401:
                    raise self._address.unauthorized() from None
            except (TimeoutError, openai.APIConnectionError, httpx2.HTTPError) as error:
                raise self._address.silent(str(error.__cause__ or "")) from None

    def _client(self) -> openai.AsyncOpenAI:
        # With what the client would import at its first request, within that request's time.
        import openai.resources.chat
        import openai.resources.models

        # A key is given even where there is none: the client would send OPENAI_API_KEY, to whomever.
        key = self._address.key() or "none"
        return openai.AsyncOpenAI(base_url=self.base_url, api_key=key, timeout=self.timeout, max_retries=0)

    def _headers(self) -> dict[str, str | openai.Omit]:
        import openai

        return {"Authorization": openai.omit} if self.key_variable is None else {}

    @property
    def _address(self) -> EndpointAddress:
        return EndpointAddress(base_url=self.base_url, key_variable=self.key_variable)

    @property
    def _folder(self) -> Path:
        return Path(self.cache).expanduser() / "generation" / "endpoint"


@dataclass(frozen=True, kw_only=True)
class _Item:
    """One prompt on its way: what is sent, its own randomness, and where its answer is kept."""

    prompt: Prompt
    request: Mapping[str, Any]
    stream: np.random.SeedSequence
    path: Path


async def _pause(seconds: float) -> None:
    await asyncio.sleep(seconds)
