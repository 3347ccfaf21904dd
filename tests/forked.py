"""Start Python jobs from a process that has imported the large libraries already.

A workflow's test starts some hundred jobs, and each spends most of its time importing torch, transformers and
TransformerLens. Here the interpreter of a checkout's Snakemake is a client: it hands its arguments, environment, folder
and files to a server, which forks. The fork runs the command as Python would: acdc itself is imported afresh from the
checkout. Commands that are not `python -m acdc` go to the real Python.

Linux only; elsewhere jobs start as usual.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

LIBRARIES = ("matplotlib.figure", "pandas", "seaborn", "torch", "transformers", "transformer_lens.model_bridge")

# The hub's library reads its settings when it is imported: who asks the hub starts as usual too.
CLIENT = """#!{python} -IS
import json, os, socket, sys
if sys.argv[1:3] != ["-m", "acdc"] or "--hub" in sys.argv:
    os.execv("{python}", ["{python}", *sys.argv[1:]])
with socket.socket(socket.AF_UNIX) as server:
    server.connect("{socket}")
    said = json.dumps({{"arguments": sys.argv[3:], "environment": dict(os.environ), "folder": os.getcwd()}}).encode()
    socket.send_fds(server, [len(said).to_bytes(4, "big")], [0, 1, 2])
    server.sendall(said)
    sys.exit(int(server.recv(16) or b"1"))
"""


def start(folder: Path) -> subprocess.Popen:
    """Start a server and write its client as ``folder/python``; the server ends with the process that started it."""
    address = folder / "socket"
    client = folder / "python"
    client.write_text(CLIENT.format(python=sys.executable, socket=address))
    client.chmod(0o755)
    server = subprocess.Popen([sys.executable, __file__, str(address), str(os.getpid())], cwd=folder)
    while not address.exists():
        assert server.poll() is None, "the server of forked jobs did not start"
        time.sleep(0.02)
    return server


def serve(address: str, parent: int) -> None:
    """Fork for every client until the parent process is gone."""
    for library in LIBRARIES:
        __import__(library)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{address}.new")
        server.listen(16)
        os.rename(f"{address}.new", address)
        server.settimeout(1)
        while os.getppid() == parent:
            with contextlib.suppress(TimeoutError):
                client, _ = server.accept()
                if os.fork() == 0:
                    server.close()
                    answer(client)
                client.close()


def answer(client: socket.socket) -> None:
    """Run a client's command in this fork, and tell it the exit status."""
    import json

    client.setblocking(True)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, files, _, _ = socket.recv_fds(client, 4, 3)
    said = b""
    while len(said) < int.from_bytes(size, "big"):
        said += client.recv(2**16)
    command = json.loads(said)
    for here, there in enumerate(files):
        os.dup2(there, here)
    os.chdir(command["folder"])
    os.environ.clear()
    os.environ.update(command["environment"])
    sys.path[0] = command["folder"]  # as `python -m` has it
    sys.argv = ["acdc", *command["arguments"]]
    client.sendall(str(run()).encode())
    client.close()
    os._exit(0)


def run() -> int:
    """Run ``python -m acdc``, and return its exit status."""
    import runpy
    import traceback

    status = 0
    try:
        runpy.run_module("acdc", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return status


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
