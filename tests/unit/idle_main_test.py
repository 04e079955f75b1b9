#!/usr/bin/env python3
"""idle_main_test.py BOXRUN: a sandbox whose program waits uses no CPU: none of its threads runs in ten seconds."""

import glob
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "fixtures"))
from processes import family  # noqa: E402

# Hot first, so that whatever speeds calls up has to come to rest again.
HOT = "import os, sys\nfor i in range(200000): os.getppid()\nprint('idle', flush=True)\n"
THREADS = HOT + """
import select, threading, time
threading.Thread(target=time.sleep, args=(100,), daemon=True).start()
locked = threading.Lock()
locked.acquire()
threading.Thread(target=locked.acquire, daemon=True).start()
end, _ = os.pipe()
poll = select.epoll()
poll.register(end, select.EPOLLIN)
poll.poll(100)
"""
PROGRAMS = {
    "sleep": ["sh", "-c", "echo idle; exec sleep 100"],
    "wait": ["sh", "-c", "echo idle; sleep 100; true"],
    "read": [sys.executable, "-c", HOT + "sys.stdin.read()"],
    "threads": [sys.executable, "-c", THREADS],
}
SECONDS = 10
STRAY = 3


def switches(pid):
    """{thread: how often it was switched to or from}"""
    counts = {}
    for process in family(pid):
        for status in glob.glob(f"/proc/{process}/task/*/status"):
            try:
                with open(status, encoding="utf-8") as file:
                    lines = file.read().splitlines()
            except OSError:
                continue
            counts[status, lines[0].split()[1]] = sum(int(line.split()[1]) for line in lines if "ctxt_switches:" in line)
    return counts


class Idle(unittest.TestCase):
    def test_nothing_runs(self):
        running = {}
        with tempfile.TemporaryDirectory() as cwd:
            for platform in ("systrap", "ptrace"):
                for name, words in PROGRAMS.items():
                    process = subprocess.Popen([BOXRUN, "--platform", platform, "--report-on", "never", "--", *words], cwd=cwd,
                                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                    self.addCleanup(process.communicate)
                    self.addCleanup(process.kill)
                    running[platform, name] = process
            for process in running.values():
                self.assertEqual(process.stdout.readline(), "idle\n")
            time.sleep(3)
            before = {key: switches(process.pid) for key, process in running.items()}
            time.sleep(SECONDS)
            for key, process in running.items():
                with self.subTest(platform=key[0], program=key[1]):
                    after = switches(process.pid)
                    self.assertGreater(len(after), 4)
                    self.assertEqual(after.keys(), before[key].keys())
                    # Whatever the host does to everybody (a CPU comes, a freezer passes) is not ours.
                    self.assertLessEqual(sum(after.values()) - sum(before[key].values()), STRAY)


if __name__ == "__main__":
    BOXRUN = os.path.abspath(sys.argv.pop(1))
    unittest.main()
