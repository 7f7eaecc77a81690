"""What the workers of test_executor.py are asked to do; imported by them as `tasks`."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aero_core.models import Report

Tell = Callable[[Report], None]


def execute(task: Mapping[str, Any], report: Tell | None = None) -> dict[str, Any]:
    """Do what the task names, as if it were a function."""
    tell: Tell = report or (lambda _: None)
    for step in task.get("steps", ["pull", "function"]):
        tell(Report("a", step))
    answer = globals()["do_" + task["do"]](task, tell)
    return {"failure": None, "answer": answer}


def broken(task: Mapping[str, Any], report: Tell | None = None) -> dict[str, Any]:
    raise RuntimeError("no such luck")


def do_nothing(task: Mapping[str, Any], tell: Tell) -> Any:
    return os.getpid()


def do_exit(task: Mapping[str, Any], tell: Tell) -> Any:
    print("last words")
    os._exit(task["code"])


def do_signal(task: Mapping[str, Any], tell: Tell) -> Any:
    os.kill(os.getpid(), task["signal"])


def do_segfault(task: Mapping[str, Any], tell: Tell) -> Any:
    ctypes.string_at(0)


def do_hang(task: Mapping[str, Any], tell: Tell) -> Any:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    time.sleep(600)


def do_hold_the_interpreter(task: Mapping[str, Any], tell: Tell) -> Any:
    Path(task["mark"]).write_text(str(os.getpid()))
    ctypes.PyDLL(None).sleep(600)


def do_child(task: Mapping[str, Any], tell: Tell) -> Any:
    child = subprocess.Popen(["sleep", "600"])
    Path(task["mark"]).write_text(f"{os.getpid()} {child.pid}")
    if task["hang"]:
        time.sleep(600)
    return child.pid


def do_daemon(task: Mapping[str, Any], tell: Tell) -> Any:
    """An orphan in a session of its own, and its child."""
    mark = task["mark"]
    inner = f"sleep 600 & echo {os.getpid()} $$ $! > {mark}.part; mv {mark}.part {mark}; wait"
    subprocess.run(["sh", "-c", 'sh -c "$0" &', inner], start_new_session=True, check=True)
    while not Path(mark).exists():
        time.sleep(0.005)
    if task["hang"]:
        time.sleep(600)
    return int(Path(mark).read_text().split()[2])


def do_orphan(task: Mapping[str, Any], tell: Tell) -> Any:
    done = subprocess.run(
        ["sh", "-c", "sleep 600 >/dev/null 2>&1 & echo $!"], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def do_fork_and_exit(task: Mapping[str, Any], tell: Tell) -> Any:
    """A child that holds everything of its parent's, as a library written in C would make it."""
    if ctypes.CDLL(None).fork() == 0:
        time.sleep(600)
    os._exit(4)


def do_thread(task: Mapping[str, Any], tell: Tell) -> Any:
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    return os.getpid()


def do_eat(task: Mapping[str, Any], tell: Tell) -> Any:
    eaten = []
    try:
        while True:
            eaten.append(bytearray(1 << 20))
    except MemoryError:
        size = len(eaten)
        del eaten
        return size


def do_speak(task: Mapping[str, Any], tell: Tell) -> Any:
    print("printed", task.get("word", ""))
    sys.stderr.write("complained\n")
    os.write(1, b"written\n")
    subprocess.run(["echo", "echoed"], check=True)
    sys.stdout.write("no newline")


def do_speak_without_end(task: Mapping[str, Any], tell: Tell) -> Any:
    """Until what was written is less than what stands in the log."""
    print("the beginning")
    size = 0
    while os.fstat(1).st_size >= size:
        size = os.fstat(1).st_size
        subprocess.run([sys.executable, "-c", "print('babble ' * 1000)"], check=True)
        print("babble " * 1000)
    if task.get("end"):
        print("the end")


def do_fail(task: Mapping[str, Any], tell: Tell) -> Any:
    raise SystemExit(3)


def do_make_a_mess(task: Mapping[str, Any], tell: Tell) -> Any:
    os.chdir("/")
    os.environ["MESS"] = "1"
    os.umask(0)
    sys.path.insert(0, "/mess")
    sys.argv[:] = ["mess"]
    logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 500)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    sys.stdout.close()
    os.close(0)
    os.close(2)
    return os.getpid()


def do_look_around(task: Mapping[str, Any], tell: Tell) -> Any:
    umask = os.umask(0o022)
    os.umask(umask)
    return {
        "folder": str(Path.cwd()),
        "mess": os.environ.get("MESS"),
        "backend": os.environ.get("MPLBACKEND"),
        "umask": umask,
        "path": list(sys.path),
        "argv": list(sys.argv),
        "loggers": len(logging.root.handlers),
        "term": signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,
        "interrupt": signal.getsignal(signal.SIGINT) == signal.SIG_IGN,
        "timer": signal.getitimer(signal.ITIMER_REAL)[0],
        "blocked": len(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "stdin": sys.stdin.read(),
        "session": os.getsid(0) == os.getpid(),
    }


def do_report(task: Mapping[str, Any], tell: Tell) -> Any:
    for number in range(2000):
        tell(Report("a", "function", number, 1999))
    tell(Report("a", "store", 7))


def do_wait_for(task: Mapping[str, Any], tell: Tell) -> Any:
    """Say that it is here, and wait until all others are."""
    folder = Path(task["folder"])
    (folder / task["name"]).touch()
    deadline = time.monotonic() + 30
    while len(list(folder.iterdir())) < task["count"]:
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.005)


def do_wait_for_file(task: Mapping[str, Any], tell: Tell) -> Any:
    while not Path(task["file"]).exists():
        time.sleep(0.005)


def do_answer_much(task: Mapping[str, Any], tell: Tell) -> Any:
    return task["text"][::-1]


def do_answer_what_json_cannot(task: Mapping[str, Any], tell: Tell) -> Any:
    return {1, 2}
