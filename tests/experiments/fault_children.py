"""The other side of fault_driver.py: a process that forks a child for each command, and what befalls a child.

    python -m tests.experiments.fault_children      # requests on standard input, answers on standard output, JSON lines

A child calls `step` before every change that it makes on disk: files opened to be written, flushed, renamed, linked or
removed, and statements of databases. There it is killed, stopped or given an error.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import time
import types
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.experiments.fault_driver import Outcome, small_job

WORDS = ("river", "stone", "garden", "window", "letter", "morning", "train", "kitchen", "summer", "bridge", "paper")


def plain_local_writer(**fields: Any) -> Any:
    """A LocalWriter with its caching and without torch: a model that draws words by the uniform numbers it is given."""
    from synth.local_writer import LocalWriter
    from synth.writer import Answer

    @dataclass(frozen=True)
    class Plain:
        temperature: float

    class PlainWriter(LocalWriter):
        _runtime = "plain"  # type: ignore[assignment]
        _loaded = (None, set())  # type: ignore[assignment]
        _tokenizer = types.SimpleNamespace(chat_template="plain")
        _folder = str(fields["source"].model)  # type: ignore[assignment]
        _sampling = Plain(0.8)  # type: ignore[assignment]

        def check(self) -> None: ...

        def _rendered(self, turns: Any, *, answer: Any = None) -> str:
            return json.dumps([turns, answer])

    def decode(engine: object, tokenizer: object, start: str, parts: Sequence[str], uniforms: Any, *_: object) -> Any:
        step("a chunk is written")
        for numbers in uniforms:
            drawn = [WORDS[int(number * len(WORDS))] for number in numbers[:12]]
            yield Answer(text=" ".join(["", *drawn, f"{int(numbers[0] * 1e9)}."]), log_likelihood=float(numbers[1]))

    sys.modules["synth.decoding"] = types.SimpleNamespace(decode=decode)  # type: ignore[assignment]
    return PlainWriter(**fields)


_HANGING = 900.0  # seconds, of commands that take one or two
_STEP: Callable[[str], None] | None = None


def step(name: str) -> None:
    """Called by the child before every change that it makes on disk."""
    if _main()._STEP is not None:
        _main()._STEP(name)


def _main() -> Any:
    # Hydra imports this file a second time, under its own name.
    return sys.modules["__main__"]


def serve() -> None:
    """Answer requests until there are no more."""
    replies, sys.stdout = sys.stdout, io.StringIO()
    _warm_up()
    children: dict[int, _Child] = {}
    for line in sys.stdin:
        request = json.loads(line)
        reply: object = None
        if "start" in request:
            child = _Child(request)
            children[child.process] = child
            reply = child.process
        elif "wait" in request:
            reply = vars(children.pop(request["wait"]).wait())
        elif "stopped" in request:
            _, status = os.waitpid(request["stopped"], os.WUNTRACED)
            assert os.WIFSTOPPED(status), "it has ended"
        elif "signal" in request:
            os.kill(*request["signal"])
        elif "mount" in request:
            subprocess.run(["mount", *request["mount"]], check=True)
        else:
            folder = Path(request["contents"])
            reply = {
                str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
                for path in sorted(folder.rglob("*"))
                if path.is_file() and path.name != "timings.csv"
            }
        replies.write(json.dumps(reply) + "\n")
        replies.flush()
    for process in children:  # a test has failed: they may have stopped themselves
        os.kill(process, signal.SIGKILL)


def _warm_up() -> None:
    """Import and compile everything once: one run in this process."""
    import matplotlib as mpl

    mpl.use("Agg")
    import hydra  # noqa: F401
    import matplotlib.pyplot  # noqa: F401

    import experiments.cli
    import experiments.compare.command
    import experiments.generate
    import experiments.refine.refinement
    import synth.language_model  # noqa: F401
    from device_poll.town import build

    build.read_grammar = cache(build.read_grammar)  # type: ignore[attr-defined]
    experiments.refine.refinement.write_plots = _plain_pictures
    with tempfile.TemporaryDirectory() as place:
        sys.argv = ["synthpoll", *small_job(Path(place), "run")]
        experiments.cli.main()


def _plain_pictures(folder: Any, job: Any) -> None:
    """In place of the pictures, which take half of a small run's time, the numbers that they show."""
    from experiments.refine.report import rounds_of

    for name in ("oracle/rounds.png", "oracle/shares.png"):
        folder.write_text(name, repr(rounds_of(folder)))


class _Child:
    def __init__(self, request: dict[str, Any]) -> None:
        pipes = [os.pipe() for _ in range(3)]
        self._start = time.monotonic()
        self._deadline: float | None = self._start + request.get("after", _HANGING)
        self.process = os.fork()
        if self.process == 0:
            _become(request, *(write for _, write in pipes))
        for _, write in pipes:
            os.close(write)
        self._read = [read for read, _ in pipes]

    def wait(self) -> Outcome:
        content: dict[int, bytes] = dict.fromkeys(self._read, b"")
        with selectors.DefaultSelector() as open_pipes:
            for pipe in self._read:
                open_pipes.register(pipe, selectors.EVENT_READ)
            while open_pipes.get_map():
                left = None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
                ready = open_pipes.select(left)
                if not ready:
                    os.kill(self.process, signal.SIGKILL)
                    self._deadline = None
                for key, _ in ready:
                    if block := os.read(key.fd, 1 << 16):
                        content[key.fd] += block
                    else:
                        open_pipes.unregister(key.fd)
                        os.close(key.fd)
        _, status = os.waitpid(self.process, 0)
        out, error, steps = (content[pipe].decode() for pipe in self._read)
        code = os.waitstatus_to_exitcode(status)
        return Outcome(code, out, error, steps.splitlines(), time.monotonic() - self._start)


def _become(request: dict[str, Any], out: int, error: int, steps: int) -> None:
    """The child: runs the command and does not return."""
    global _STEP  # noqa: PLW0603 - one command a process
    code = 70
    try:
        sys.stdout = os.fdopen(out, "w", buffering=1)
        sys.stderr = os.fdopen(error, "w", buffering=1)
        if "largest" in request:
            import resource

            resource.setrlimit(resource.RLIMIT_FSIZE, (request["largest"], request["largest"]))
        if request.get("sabotage"):
            SABOTAGE[request["sabotage"]]()
        _STEP = _Steps(request, steps).take
        _watch()
        sys.argv = ["synthpoll", *request["start"]]
        from experiments.cli import main

        main()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter does
        import traceback

        traceback.print_exc()
        code = 1
    finally:
        _STEP = None
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class _Steps:
    def __init__(self, request: dict[str, Any], log: int) -> None:
        self._request, self._log, self._number = request, log, -1
        self._found: Counter[str] = Counter()

    def _now(self, what: str, name: str) -> bool:
        wanted = self._request.get(what)
        if not isinstance(wanted, list):
            return bool(wanted == self._number)
        found, later = re.search(wanted[0], name) is not None, wanted[1] if len(wanted) > 1 else 0
        self._found[what] += found
        return found and self._found[what] == later + 1

    def take(self, name: str, file: int | None = None) -> None:
        self._number += 1
        if self._now("kill", name):
            if file is not None and self._request.get("tear"):
                os.ftruncate(file, os.fstat(file).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        if self._now("stop", name):
            os.kill(os.getpid(), signal.SIGSTOP)
        os.write(self._log, f"{name}\n".encode())
        first, number = self._request.get("fail", (None, 0))
        if first is not None and self._number >= first:
            full = number == errno.ENOSPC and name.startswith("os.remove")  # a full disk lets go of files
            if name.startswith("database"):
                import sqlite3

                raise sqlite3.OperationalError("database or disk is full")
            if not full and not name.startswith("a chunk"):
                raise OSError(number, os.strerror(number))


_CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.link")


def _watch() -> None:
    """Have `step` called before files are opened to be written, flushed, renamed, linked or removed."""
    import sqlite3

    def see(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _CHANGES:
            path = arguments[1 if event in ("os.rename", "os.link") else 0]
            if event != "os.mkdir" or not Path(path).exists():
                step(f"{event} {_short(path)}")
        elif event == "open" and isinstance(arguments[0], str) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
            step(f"open {_short(arguments[0])}")

    flush = os.fsync

    def fsync(file: int) -> None:
        if _STEP is not None:
            _STEP(f"flush {_short(Path(f'/proc/self/fd/{file}').readlink())}", file)  # type: ignore[call-arg]
        flush(file)

    connect = sqlite3.connect

    class Watched(sqlite3.Connection):
        def execute(self, *arguments: Any) -> Any:
            words = arguments[0].lower().split()
            if words[0] in ("begin", "insert", "update", "delete", "commit"):
                step(f"database {' '.join(words[:3])}")
            return super().execute(*arguments)

        def executemany(self, *arguments: Any) -> Any:
            step(f"database {' '.join(arguments[0].lower().split()[:5])}")
            return super().executemany(*arguments)

        def __exit__(self, *arguments: Any) -> Any:
            step("database commit")
            done = super().__exit__(*arguments)
            step("database committed")
            return done

    os.fsync = fsync
    sqlite3.connect = lambda *arguments, **named: connect(*arguments, **named, factory=Watched)  # type: ignore
    sys.addaudithook(see)


def _short(path: object) -> str:
    return "/".join(Path(os.fsdecode(path) if isinstance(path, str | bytes) else str(path)).parts[-3:])


def _write_in_place() -> None:
    """A writer that is not atomic: the mistake that these tests are there to find."""
    from experiments.folder.store import RunFolder

    def write_bytes(self: RunFolder, name: str, content: bytes) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    RunFolder.write_bytes = write_bytes  # type: ignore[method-assign]


def _forget_rounds() -> None:
    """A resume that trusts every folder of a round, complete or not."""
    from experiments.folder.store import RunFolder

    RunFolder.completed_rounds = lambda self: max(0, len(list(self.path.glob("rounds/*"))) - 1)  # type: ignore


SABOTAGE = {"write in place": _write_in_place, "trust every round": _forget_rounds}

if __name__ == "__main__":
    serve()
