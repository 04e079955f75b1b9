"""The rows of DESIGN chapter 14: what is run in every target, and how the figure is had.

A row prepares an empty working directory (untimed), then runs a command there. Either the whole command is timed from
outside, start of the sandbox included, or the workload times itself inside and prints its figures.
"""
import os
import pathlib
import select
import shutil
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "fixtures"))
from processes import family, pss_kib  # noqa: E402

IMPORTS = "import json, asyncio, http.client, sqlite3, decimal"
GIT = """set -e
git init -q .
git config user.name bench; git config user.email bench@localhost
git add .
git commit -qm all
git gc -q
git clone -q . copy
test "$(ls copy/files | wc -l)" = 300
"""


class Failed(Exception):
    pass


class Row:
    """`figure` names the figure of the workload's output; None: the command is timed from outside."""
    unit = "ns"

    def __init__(self, name, words, figure=None, prepare=None, cpus=None):
        self.name = name
        self.words = words
        self.figure = figure
        self.prepare = prepare
        self.cpus = cpus

    def measure(self, target, cwd, workload):
        if self.prepare is not None:
            self.prepare(pathlib.Path(cwd))
        words = [workload if word == "WORKLOAD" else word for word in self.words]
        before = os.sched_getaffinity(0)
        try:
            if self.cpus is not None:
                os.sched_setaffinity(0, self.cpus)
            start = time.perf_counter_ns()
            done = target.run(words, cwd)
            took = time.perf_counter_ns() - start
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Failed(str(error)) from error
        finally:
            os.sched_setaffinity(0, before)
        if done.returncode != 0:
            raise Failed(f"status {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")
        return took if self.figure is None else figure_of(done.stdout, self.figure)


class MemoryRow(Row):
    """Proportional set size of all processes of an idle sandbox, the monitor included."""
    unit = "KiB"

    def measure(self, target, cwd, workload):
        with target.start([workload, "idle"], cwd) as process:
            try:
                ready, _, _ = select.select([process.stdout], [], [], 60)
                if not ready or process.stdout.readline() != "ready\n":
                    raise Failed("the workload never became ready")
                return sum(pss_kib(pid) for pid in family(process.pid))
            finally:
                target.end(process)


class CrowdRow(Row):
    """From the start of the first of many sandboxes to the end of the last, all at once."""
    count = 50

    def measure(self, target, cwd, workload):
        start = time.perf_counter_ns()
        processes = [target.start(self.words, cwd) for _ in range(self.count)]
        statuses = [process.communicate(timeout=120) and process.returncode for process in processes]
        took = time.perf_counter_ns() - start
        if any(statuses):
            raise Failed(f"{sum(1 for status in statuses if status)} of {self.count} failed")
        return took


def figure_of(output, name):
    for line in output.splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == name:
            return float(words[1])
    raise Failed(f"no figure '{name}' in {output[-300:]!r}")


def make_tree(cwd):
    """1,600 files of 4 KiB in 40 directories."""
    for d in range(40):
        directory = cwd / "tree" / f"dir{d:02}"
        directory.mkdir(parents=True)
        for f in range(40):
            (directory / f"file{f:02}").write_bytes(bytes([d, f]) * 2048)


def make_c_project(cwd):
    """200 C files that include the usual headers, a main() that calls all of them, a Makefile."""
    objects = []
    for i in range(200):
        (cwd / f"part{i}.c").write_text(f"#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n"
                                        f"int part{i}(int x) {{ char b[64]; snprintf(b, sizeof b, \"%d\", x); return (int)strlen(b) + {i}; }}\n")
        objects.append(f"part{i}.o")
    calls = "".join(f"int part{i}(int);\n" for i in range(200))
    total = " + ".join(f"part{i}(1)" for i in range(200))
    (cwd / "main.c").write_text(f"{calls}int main(void) {{ return ({total}) == 0; }}\n")
    (cwd / "Makefile").write_text(f"program: main.o {' '.join(objects)}\n\tcc -o $@ $^\n%.o: %.c\n\tcc -O1 -c -o $@ $<\n")


def make_git_files(cwd):
    (cwd / "files").mkdir()
    for i in range(300):
        (cwd / "files" / f"f{i}.txt").write_text("".join(f"line {line} of file {i}\n" for line in range(100)))


def make_many_files(cwd, count, each):
    """`count` files of a few bytes, `each` in a directory."""
    for i in range(count):
        directory = cwd / "many" / f"d{i // each:03}"
        if i % each == 0:
            directory.mkdir(parents=True)
        (directory / f"f{i:05}").write_text(f"file {i}\n")


def make_repository(cwd):
    make_many_files(cwd, 5000, 100)
    settings = ["-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "gc.auto=0"]
    for words in (["init", "-q", "."], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run(["git", *settings, *words], cwd=cwd, check=True, capture_output=True)


def make_small_file(cwd):
    (cwd / "small").write_text("a small file of the working directory\n")


def calls():
    """One system call or a few of them, hot. Those of /usr are names that nobody changes, those of the working directory may change."""
    return [
        Row("getppid", ["WORKLOAD", "getppid"], "getppid"),
        Row("read-zero", ["WORKLOAD", "read"], "read"),
        Row("pread-512", ["WORKLOAD", "pread"], "pread"),
        Row("stat-usr", ["WORKLOAD", "stat", "/usr/bin/env"], "stat"),
        Row("stat-cwd", ["WORKLOAD", "stat", "small"], "stat", make_small_file),
        Row("open-usr", ["WORKLOAD", "open", "/usr/bin/env"], "open"),
        Row("open-cwd", ["WORKLOAD", "open", "small"], "open", make_small_file),
        Row("create", ["WORKLOAD", "create"], "create"),
        Row("mmap-1m", ["WORKLOAD", "mmap"], "mmap"),
        Row("fork", ["WORKLOAD", "fork", "60"], "fork"),
        Row("spawn", ["WORKLOAD", "spawn"], "spawn"),
    ]


def all_rows():
    cpus = sorted(os.sched_getaffinity(0))
    rows = [
        Row("start", ["/bin/true"]),
        Row("python-pass", ["python3", "-c", "pass"]),
        Row("python-imports", ["python3", "-c", IMPORTS]),
        *calls(),
        Row("pipe-same-cpu", ["WORKLOAD", "pipe", "same"], "pipe", cpus={cpus[0]}),
        Row("pipe-across", ["WORKLOAD", "pipe", "across"], "pipe"),
        Row("walk-cold", ["WORKLOAD", "walk", "tree"], "cold", make_tree),
        Row("walk-warm", ["WORKLOAD", "walk", "tree"], "warm", make_tree),
        Row("compile-j1", ["make", "-s", "-j1"], prepare=make_c_project),
        Row("compile-j2", ["make", "-s", "-j2"], prepare=make_c_project),
        Row("git", ["sh", "-c", GIT], prepare=make_git_files),
        Row("tree-copy", ["cp", "-r", "many", "copy"], prepare=lambda cwd: make_many_files(cwd, 20000, 200)),
        Row("git-status", ["sh", "-c", "git status --porcelain"], prepare=make_repository),
        Row("tar", ["tar", "cf", "many.tar", "many"], prepare=lambda cwd: make_many_files(cwd, 2000, 100)),
        *(Row(f"compute-{n}", ["WORKLOAD", "compute", str(n)], "compute") for n in (1, 2, 4, 8)),
        *(Row(f"calls-{n}", ["WORKLOAD", "calls", str(n)], "calls") for n in (1, 2, 4, 8)),
        *(Row(f"forks-{n}", ["WORKLOAD", "processes", str(n)], "processes") for n in (100, 2000)),
        CrowdRow("start-50", ["/bin/true"]),
        MemoryRow("memory", ["WORKLOAD", "idle"]),
    ]
    return rows


def missing_for(row):
    """Why a row cannot be run on this host; None if it can."""
    program = row.words[0]
    for need in {"make": ["make", "cc"], "sh": ["git"]}.get(program, [] if program == "WORKLOAD" else [program]):
        if shutil.which(need) is None:
            return f"{need} is not on PATH"
    if row.name == "pipe-across" and len(os.sched_getaffinity(0)) < 2:
        return "there is only one CPU"
    return None
