"""Commands without Python's start: one process has imported the program, and forks a child for each command.

A test runs dozens of commands, and most of what a short one costs is to import the program. Here each is a process of
its own as ever, child of the test, with its own arguments, environment, directory and standard streams, and runs the
program's own `main`; signals, exit codes and /proc are those of a process that was executed. What differs is what the
interpreter does before `main`: commands whose environment is about that are executed, and so are all of `make bench`.
"""

import ast
import atexit
import ctypes
import gc
import importlib
import inspect
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
_OF_THE_INTERPRETER = ("PYTHON", "LC_", "LANG", "TZ")  # variables that it reads at its start


# Forked takes the place of a private method of subprocess.Popen: these are its arguments in CPython 3.11 to 3.14. Where
# they are others, commands are executed, and tests/unit/test_forks.py says so.
EXECUTE_CHILD = (
    "self", "args", "executable", "preexec_fn", "close_fds", "pass_fds", "cwd", "env", "startupinfo", "creationflags",
    "shell", "p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite",
)  # fmt: skip


@cache
def popen_is_known() -> bool:
    """Return whether this Python's Popen is one that `Forked` knows."""
    arguments = tuple(inspect.signature(subprocess.Popen._execute_child).parameters)  # type: ignore[attr-defined]
    return arguments[: len(EXECUTE_CHILD)] == EXECUTE_CHILD and hasattr(subprocess.Popen, "_close_pipe_fds")


class ForkServer:
    """The process that forks, and the way to ask it. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket, its = socket.socketpair()
        with its:
            command = [sys.executable, "-P", __file__, str(its.fileno())]  # -P: as for the installed program
            # It ends when there is nobody who could ask it.
            self._process = subprocess.Popen(command, pass_fds=[its.fileno()], stdin=subprocess.DEVNULL)
        self._answers = self._socket.makefile("rb")

    def begin(self, argv: list[str], env: dict[str, str], cwd: Path, streams: tuple[int, int, int]) -> int:
        """Let a command begin; return its process id. It is a child of this process."""
        request = pickle.dumps(([os.fsencode(word) for word in argv], env, str(cwd)))
        with self._lock:
            # The command's first parent is a child of the server that ends at once: who adopts it then is this process.
            _adopt(True)
            try:
                socket.send_fds(self._socket, [b"!"], streams)
                self._socket.sendall(request)
                return int(self._answers.readline())
            finally:
                _adopt(False)


@cache
def fork_server() -> ForkServer:
    """Return the server of this process; it ends with it."""
    return ForkServer()


def can_fork(environment: dict[str, str]) -> bool:
    """Return whether a command in this environment says what it would say if it were executed."""

    def asked(variables: dict[str, str]) -> dict[str, str]:
        return {name: value for name, value in variables.items() if name.startswith(_OF_THE_INTERPRETER)}

    return popen_is_known() and asked(environment) == asked(dict(os.environ))


class Forked(subprocess.Popen[str]):
    """A command that a fork server begins; all else is as with every other process."""

    def __init__(self, server: ForkServer, argv: list[str], **options: Any) -> None:
        self._server = server
        super().__init__(argv, **options)

    def _execute_child(self, args: list[str], *options: Any) -> None:  # where Popen forks and executes
        cwd, env, pipes = options[4], options[5], options[9:15]
        try:
            self.pid = self._server.begin(args, env, cwd, (pipes[0], pipes[3], pipes[5]))
            self._child_created = True
        finally:
            self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


def _adopt(wanted: bool) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0)


# The server


def _imports(package: str) -> Iterator[str]:
    """Yield the modules that the modules of a package import anywhere, so also when they are called only."""
    folder = Path(importlib.import_module(package).__path__[0])
    for path in sorted(folder.rglob("*.py")):
        if "migrations" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Import(names=names):
                    yield from (name.name for name in names)
                case ast.ImportFrom(module=str(module), names=names):
                    yield module
                    yield from (f"{module}.{name.name}" for name in names)


def _import_all(package: str) -> None:
    for name in dict.fromkeys(_imports(package)):
        try:
            importlib.import_module(name)
        except ImportError:  # a class or function
            continue


def _serve(requests: socket.socket) -> list[str]:
    """Fork for each request; return in the command's own process, which is as the request wants it: its arguments."""
    while True:
        mark, streams, _, _ = socket.recv_fds(requests, 1, 3)
        if not mark:
            os._exit(0)
        with requests.makefile("rb") as file:
            argv, environment, directory = pickle.load(file)  # noqa: S301  (from the test)
        told, tell = os.pipe()
        between = os.fork()
        if between == 0:
            command = os.fork()
            if command == 0:
                for number in (requests.fileno(), told, tell):
                    os.close(number)
                _become(streams, environment, directory)
                return [os.fsdecode(word) for word in argv]
            os.write(tell, b"%d\n" % command)
            os._exit(0)
        os.waitpid(between, 0)  # from here on the command is the test's own child
        requests.sendall(os.read(told, 100))
        for number in (*streams, told, tell):
            os.close(number)


def _become(streams: list[int], environment: dict[str, str], directory: str) -> None:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    for name, mode, buffering in (("stdin", "r", -1), ("stdout", "w", -1), ("stderr", "w", 1)):
        given = getattr(sys, name)  # made by the interpreter for the server: it has the encoding, and the wrong buffer
        made = open(  # noqa: SIM115
            given.fileno(), mode, buffering, encoding=given.encoding, errors=given.errors, closefd=False
        )
        setattr(sys, name, made)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)


def _end_with(main: Callable[[], None]) -> NoReturn:
    """End as the interpreter does, but for taking all modules apart: that would copy every page of the server."""
    code: Any = 0
    try:
        main()
    except SystemExit as error:
        code = error.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code or 0)


if __name__ == "__main__":
    _import_all("provisioner")
    from sqlalchemy.orm import configure_mappers

    from provisioner.cli.app import main

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests, which end the server
    configure_mappers()
    gc.collect()
    gc.freeze()  # the collector of a child leaves these objects alone, so that their pages stay shared
    sys.argv = _serve(socket.socket(fileno=int(sys.argv[1])))
    _end_with(main)
