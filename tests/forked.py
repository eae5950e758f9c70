"""``deploykit`` for the shell scripts that tests run: each command is a fork of one process that has its libraries loaded.

A fresh interpreter spends seconds on importing torch and its like before it does anything. The fork imports deploykit
itself anew, and has the arguments, folder, environment and streams of its caller, who ends with its exit code.
"""

from __future__ import annotations

import json
import os
import socket
import sys

LIBRARIES = (
    "torch",
    "torchvision",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "sklearn.datasets",
    "scipy.stats",
    "PIL.Image",
)
DIED = 70


def call(place: str, words: list[str]) -> int:
    """Have ``deploykit WORDS`` done by the server at ``place``; its exit code."""
    request = json.dumps({"words": words, "folder": os.getcwd(), "environment": dict(os.environ)}).encode()
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(place)
        socket.send_fds(server, [len(request).to_bytes(4, "big")], [0, 1, 2])
        server.sendall(request)
        code = server.recv(1)  # empty where the fork died
    return code[0] if code else DIED


def serve(place: str) -> None:
    """Load the libraries, say so, and answer calls until terminated."""
    import importlib

    for name in LIBRARIES:
        importlib.import_module(name)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(place)
        listening.listen()
        print("ready", flush=True)
        while True:
            caller, _ = listening.accept()
            _reap()
            if os.fork() == 0:
                listening.close()
                _answer(caller)
            caller.close()


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _answer(caller: socket.socket) -> None:
    import atexit

    length, streams, _, _ = socket.recv_fds(caller, 4, 3)
    with caller.makefile("rb") as file:
        request = json.loads(file.read(int.from_bytes(length, "big")))
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = ["deploykit", *request["words"]]
    code: object = 0
    try:
        from deploykit.cli.main import main

        main()
    except SystemExit as end:
        code = end.code
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    number = code if isinstance(code, int) else int(code is not None)
    caller.sendall(bytes([number]))
    os._exit(number)


if __name__ == "__main__":
    verb, place, *words = sys.argv[1:]
    sys.exit(call(place, words) if verb == "call" else serve(place))
