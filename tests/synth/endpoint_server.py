"""A real HTTP server of the OpenAI chat protocol, on localhost, that fails as it is told.

    with EndpointServer({"hello": [status(500), cut_off]}) as server:
        ...    # 'hello' gets a 500, then a broken stream, then answers; everything else gets answers

A plan names prompts by their last user turn. What a server of this kind knows for sure is what it was asked: every
request is counted when it arrives, and how many were being answered at once.
"""

from __future__ import annotations

import json
import socketserver
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any


class Exchange(BaseHTTPRequestHandler):
    """One connection. `body` is what was asked."""

    protocol_version = "HTTP/1.1"  # connections are reused, and a stream has chunks
    server: _Server
    body: dict[str, Any]

    @property
    def asked(self) -> str:
        return next(str(turn["content"]) for turn in reversed(self.body["messages"]) if turn["role"] == "user")

    def do_GET(self) -> None:
        self.server.endpoint.on_models(self)

    def do_POST(self) -> None:
        self.body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.endpoint.counted(self) as respond:
            respond(self)

    def send(self, code: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.server.endpoint.over(self)
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def open_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def piece(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def event(self, choice: Mapping[str, Any] | None, **more: Any) -> None:
        """One event of the protocol; without a choice, one that holds only what `more` says."""
        choices = [] if choice is None else [{"index": 0, **choice}]
        data = {"id": "chat-1", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": choices}
        self.piece(b"data: " + json.dumps(data | more).encode() + b"\n\n")

    def say(self, text: str, **more: Any) -> None:
        self.event({"delta": {"content": text}, "finish_reason": None, **more})

    def end(self, reason: str) -> None:
        self.event({"delta": {}, "finish_reason": reason})

    def close_stream(self) -> None:
        self.server.endpoint.over(self)
        self.piece(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def hang_up(self) -> None:
        self.close_connection = True

    def wait(self) -> None:
        """Until the server closes."""
        self.server.endpoint.closing.wait()
        self.hang_up()

    def log_message(self, format: str, *args: Any) -> None:
        pass


Response = Callable[[Exchange], None]


def answer_of(asked: str) -> str:
    """What the server says if nothing else is planned."""
    return f"Subject: {asked}\n\nHere is what you asked for, about {asked}."


def answers(exchange: Exchange) -> None:
    """Everything as it should be, word by word."""
    written(answer_of(exchange.asked))(exchange)


def written(*pieces: str, finish: str = "stop") -> Response:
    def respond(exchange: Exchange) -> None:
        exchange.open_stream()
        exchange.event({"delta": {"role": "assistant", "content": ""}, "finish_reason": None})
        for piece in pieces:
            exchange.say(piece)
        exchange.end(finish)
        exchange.event(
            None, usage={"prompt_tokens": 1, "completion_tokens": len(pieces), "total_tokens": 1 + len(pieces)}
        )
        exchange.close_stream()

    return respond


def status(code: int, message: str = "no", **headers: str) -> Response:
    """An error with a JSON body; headers are spelled with underscores."""

    def respond(exchange: Exchange) -> None:
        body = json.dumps({"error": {"message": message, "type": "error", "param": None, "code": None}}).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        exchange.send(code, body, {"Content-Type": "application/json", **named})

    return respond


def raw(body: bytes, content_type: str = "text/event-stream") -> Response:
    """A success that holds just these bytes."""
    return lambda exchange: exchange.send(200, body, {"Content-Type": content_type})


def no_models(exchange: Exchange) -> None:
    raw(b'{"object": "list", "data": []}', "application/json")(exchange)


def stalls(exchange: Exchange) -> None:
    """Half an answer, and then nothing."""
    exchange.open_stream()
    exchange.say("Subject: half")
    exchange.wait()


def murmurs(exchange: Exchange) -> None:
    """Half an answer, and then signs of life without content: comments, which no client shows."""
    exchange.open_stream()
    exchange.say("Subject: half")
    while not exchange.server.endpoint.closing.wait(0.02):
        try:
            exchange.piece(b": still here\n\n")
        except OSError:
            break
    exchange.hang_up()


def is_silent(exchange: Exchange) -> None:
    """Not even a status."""
    exchange.wait()


def cut_off(exchange: Exchange) -> None:
    """The server dies within the stream."""
    exchange.open_stream()
    exchange.say("Subject: half")
    exchange.hang_up()


def hangs_up(exchange: Exchange) -> None:
    """The server dies before it says anything."""
    exchange.hang_up()


def never_finishes(exchange: Exchange) -> None:
    """The stream ends in good order, but nobody said that the answer did."""
    exchange.open_stream()
    exchange.say("Subject: half")
    exchange.close_stream()


def talks_for_ever(exchange: Exchange) -> None:
    exchange.open_stream()
    while True:
        try:
            exchange.say("and so on ")
        except OSError:
            break
    exchange.hang_up()


class EndpointServer:
    """`plan`: for a prompt, what happens at its first, second, ... request; then, and for other prompts, `default`.

    With listening=False the port is taken, but connections are refused until `listen` is called.
    """

    def __init__(
        self,
        plan: Mapping[str, Sequence[Response]] | None = None,
        *,
        default: Response = answers,
        on_models: Response = no_models,
        listening: bool = True,
    ) -> None:
        self.plan, self.default, self.on_models = dict(plan or {}), default, on_models
        self.closing = threading.Event()
        self.requests: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.most_at_once = 0
        self.mistakes: list[str] = []
        self._open: set[Exchange] = set()
        self._lock = threading.Lock()
        self._listening = False
        self._http = _Server(self)
        if listening:
            self.listen()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def listen(self) -> None:
        self._listening = True
        self._http.server_activate()
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @contextmanager
    def counted(self, exchange: Exchange) -> Iterator[Response]:
        """What to do about this request."""
        asked = exchange.asked
        with self._lock:
            before = self.requests[asked]
            self.requests[asked] += 1
            self.bodies.append(exchange.body)
            self.headers.append(dict(exchange.headers.items()))
            self._open.add(exchange)
            self.most_at_once = max(self.most_at_once, len(self._open))
        planned = self.plan.get(asked, ())
        try:
            with suppress(OSError):  # the client may go whenever it likes
                yield planned[before] if before < len(planned) else self.default
        finally:
            self.over(exchange)

    def over(self, exchange: Exchange) -> None:
        """Called before the last bytes are sent: the client may ask again before the sender's thread goes on."""
        with self._lock:
            self._open.discard(exchange)

    def __enter__(self) -> EndpointServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.closing.set()
        if self._listening:
            self._http.shutdown()
        self._http.server_close()
        if kind is None and self.mistakes:
            raise AssertionError(self.mistakes)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that the client broke is no mistake of the test; anything else is, and is shown at the end."""
        if not isinstance(error := sys.exception(), OSError):
            self.endpoint.mistakes.append(repr(error))

    def __init__(self, endpoint: EndpointServer) -> None:
        self.endpoint = endpoint
        super().__init__(("127.0.0.1", 0), Exchange, bind_and_activate=False)
        socketserver.TCPServer.server_bind(self)  # not HTTPServer's: that asks for the machine's name
