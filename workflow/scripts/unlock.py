"""Clear what a Snakemake that was killed outright (kill -9, out of memory) left behind. Run from the repository's root.

Such a Snakemake leaves its lock, which stops every later run, and its running jobs, which would go on writing to the
files of the next run. While a Snakemake works in this directory nothing is touched and the exit status is 1. Jobs are
known by ACDC_WORKFLOW_PID, which the Snakefile puts into their environment: the process id of their Snakemake.
Only this machine's processes are seen: on a shared file system a Snakemake of another host goes unnoticed.
"""

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

WORKFLOW_PID = "ACDC_WORKFLOW_PID"
SECONDS_TO_STOP = 10


def main() -> None:
    locks = list(Path(".snakemake/locks").glob("*.lock"))
    if not locks:
        return
    users = {os.getuid()}
    for lock in locks:
        with contextlib.suppress(FileNotFoundError):  # a workflow that ends takes its lock away
            users.add(lock.stat().st_uid)
    workflow = next(live_workflows(users), None)
    if workflow is not None:
        sys.exit(f"Snakemake is already running here (process {workflow.pid}): wait until it ends, or stop it first.")
    stop_orphans()
    remove_lock()


def live_workflows(users: set[int]) -> Iterator[psutil.Process]:
    """Yield the Snakemakes of these users that work in this directory, or may: some directories cannot be read."""
    for process in other_processes(users):
        try:
            # A Snakemake with a workflow's id in its environment is itself a job.
            if is_snakemake(process) and is_here(process, if_unknown=True) and workflow_of(process) is None:
                yield process
        except psutil.NoSuchProcess:
            continue


def stop_orphans() -> None:
    """End the jobs here whose workflow is gone, and then what they may have started meanwhile."""
    for _ in range(3):
        found = list(orphans())
        if not found:
            return
        for process, workflow in found:
            print(f"Stopping process {process.pid}: its Snakemake (process {workflow}) is gone.", flush=True)
        stop([process for process, _ in found])


def orphans() -> Iterator[tuple[psutil.Process, int]]:
    for process in other_processes({os.getuid()}):
        try:
            workflow = workflow_of(process)
            if workflow is not None and is_here(process, if_unknown=False) and not started(workflow, process):
                yield process, workflow
        except psutil.NoSuchProcess:
            continue


def started(workflow: int, job: psutil.Process) -> bool:
    """Return whether the Snakemake that started `job` still lives, and its number is not that of a later process."""
    try:
        process = psutil.Process(workflow)
        return is_snakemake(process) and process.create_time() <= job.create_time()
    except psutil.NoSuchProcess:
        return False


def stop(processes: list[psutil.Process]) -> None:
    """Terminate, wait, kill what is left. Jobs keep checkpoints: nothing is lost."""
    for send in (psutil.Process.terminate, psutil.Process.kill):
        for process in processes:
            with contextlib.suppress(psutil.Error):
                send(process)
        end = time.monotonic() + SECONDS_TO_STOP
        while (processes := [process for process in processes if lives(process)]) and time.monotonic() < end:
            time.sleep(0.1)


def lives(process: psutil.Process) -> bool:
    """Return whether a process can still write. A zombie cannot, though in some containers it stays for good."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def remove_lock() -> None:
    command = [sys.executable, "-m", "snakemake", "--unlock", "--cores", "1"]
    unlocking = subprocess.run(command, capture_output=True, text=True)
    if unlocking.returncode != 0:
        sys.exit(f"{unlocking.stderr}The lock of a Snakemake that is gone could not be removed: see above.")
    print("Removed the lock of a Snakemake that is gone.", flush=True)


def other_processes(users: set[int]) -> Iterator[psutil.Process]:
    """Yield the processes of these users, without this one and those that it was started from (make, shells)."""
    this = psutil.Process()
    own = {this.pid, *(parent.pid for parent in this.parents())}
    for process in psutil.process_iter():
        try:
            if process.pid not in own and process.uids().real in users:
                yield process
        except psutil.Error:
            continue


def is_snakemake(process: psutil.Process) -> bool:
    """Return whether a process was started as `python .../snakemake ...`, as the command is, or as a module."""
    try:
        interpreter, *arguments = process.cmdline() or [""]
    except psutil.AccessDenied:
        return False
    while arguments and arguments[0].startswith("-"):
        arguments.pop(0)
    return "python" in Path(interpreter).name.lower() and bool(arguments) and Path(arguments[0]).name == "snakemake"


def is_here(process: psutil.Process, if_unknown: bool) -> bool:
    try:
        return Path(process.cwd()).resolve() == Path.cwd().resolve()
    except psutil.AccessDenied:
        return if_unknown


def workflow_of(process: psutil.Process) -> int | None:
    """Return the process id of the workflow whose job this is; None where it is no job or cannot be known."""
    try:
        # A shell that sets the variable itself has it in its command, not in the environment that it was started with.
        variables = [f"{name}={value}" for name, value in process.environ().items()]
        found = re.search(rf"\b{WORKFLOW_PID}=(\d+)", "\n".join([*variables, *process.cmdline()]))
    except psutil.AccessDenied:
        return None
    return int(found[1]) if found else None


if __name__ == "__main__":
    main()
