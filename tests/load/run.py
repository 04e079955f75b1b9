#!/usr/bin/env python3
"""Keeps sandboxes busy with a bit of everything and looks that nothing gets stuck and memory stays flat.

  run.py BOXRUN LOAD SECONDS [PLATFORM...]

8 threads for each CPU make system calls, faults, forks, signals to each other and files (load.cpp), which checks what it gets
back and that each thread gets on. Meanwhile the memory of all processes of the sandbox is measured from outside.
"""
import os
import pathlib
import subprocess
import sys
import tempfile
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "fixtures"))
from processes import family, pss_kib  # noqa: E402

PER_CPU = 8
# What may come on top of the first quarter: caches that fill, threads that happen to be there.
SLACK_KIB = 16 * 1024


def memory_kib(pid):
    """Of all processes of a sandbox; None where this user may not look."""
    try:
        return sum(pss_kib(process) for process in family(pid))
    except PermissionError:
        return None


def watch(process, samples, done):
    while not done.wait(1):
        samples.append(memory_kib(process.pid))


def run(boxrun, load, seconds, platform):
    threads = PER_CPU * len(os.sched_getaffinity(0))
    words = [boxrun, "--platform", platform, "--report-on", "never", "--ro", os.path.dirname(load), "--", load, str(threads), str(seconds)]
    samples, done = [], threading.Event()
    with tempfile.TemporaryDirectory() as cwd:
        with subprocess.Popen(words, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            watcher = threading.Thread(target=watch, args=(process, samples, done))
            watcher.start()
            try:
                out, err = process.communicate(timeout=seconds + 120)
            except subprocess.TimeoutExpired:
                process.kill()
                out, err = process.communicate()
                err += "it did not end"
            done.set()
            watcher.join()
    if not samples or None in samples:
        print(f"{platform}: MEMORY NOT MEASURED: only root may look at sealed processes", flush=True)
        samples = [0]
    quarter = max(len(samples) // 4, 1)
    first, last = max(samples[:quarter], default=0), max(samples[-quarter:], default=0)
    flat = last <= first + SLACK_KIB
    print(f"{platform}: {threads} threads, {seconds} s: {' '.join(out.split()[1:]) or 'no result'}; "
          f"memory {first // 1024} -> {last // 1024} MiB{'' if flat else ': GROWS'}", flush=True)
    if process.returncode != 0:
        print(f"{platform}: status {process.returncode}: {err.strip()}", flush=True)
    return process.returncode == 0 and flat


def main():
    boxrun, load, seconds = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]), int(sys.argv[3])
    results = [run(boxrun, load, seconds, platform) for platform in sys.argv[4:] or ("systrap", "ptrace")]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
