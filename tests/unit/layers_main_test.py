#!/usr/bin/env python3
"""layers_main_test.py BOXRUN: which layers are in force is told, and too few of them are no run.

Registered three times: as whoever runs the tests, as an ordinary user, and with namespaces,
capabilities and new privileges taken away. Landlock is taken away here, by a filter.
"""

import ctypes
import json
import os
import struct
import subprocess
import sys
import tempfile
import unittest

BOXRUN = None
BOUND = 60
ALWAYS = {"resource limits", "non-dumpable", "no capabilities", "no new privileges", "seccomp filter"}
NAMESPACES = {"user namespace", "mount namespace"}


def without_landlock():
    """In a child: landlock_create_ruleset(2), number 444, answers ENOSYS as on Linux 5.12."""
    libc = ctypes.CDLL(None, use_errno=True)
    load, jump_if_equal, answer = 0x20, 0x15, 0x06
    allow, enosys = 0x7FFF0000, 0x00050000 | 38
    program = b"".join(struct.pack("HBBI", *row) for row in (
        (load, 0, 0, 0), (jump_if_equal, 0, 1, 444), (answer, 0, 0, enosys), (answer, 0, 0, allow)))
    code = ctypes.create_string_buffer(program)
    filter_program = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
    no_new_privileges, set_seccomp, mode_filter = 38, 22, 2
    if libc.prctl(no_new_privileges, 1, 0, 0, 0) != 0 or libc.prctl(set_seccomp, mode_filter, filter_program) != 0:
        os._exit(99)


def namespaces_are_to_be_had():
    return subprocess.run([sys.executable, "-c", "import os; os._exit(0 if __import__('ctypes').CDLL(None)"
                           ".unshare(0x10000000) == 0 else 1)"], timeout=BOUND).returncode == 0


class Layers(unittest.TestCase):
    def run_and_report(self, **settings):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "report")
            run = subprocess.run([BOXRUN, "--report", f"json={path}", "--report-on", "always", "true"], cwd="/",
                                 capture_output=True, text=True, timeout=BOUND, **settings)
            with open(path, encoding="utf-8") as report:
                return run, {name.split(" (")[0] for name in json.load(report)["layers"]}

    def doctor(self, **settings):
        run = subprocess.run([BOXRUN, "doctor", "--json"], cwd="/", capture_output=True, text=True, timeout=BOUND, **settings)
        told = json.loads(run.stdout)
        return told["usable"], {check["name"]: check["ok"] for check in told["checks"]}

    def test_the_layers_in_force_are_named(self):
        run, layers = self.run_and_report()
        self.assertEqual(run.returncode, 0)
        self.assertLessEqual(ALWAYS, layers)
        self.assertEqual(NAMESPACES <= layers, namespaces_are_to_be_had())
        usable, checks = self.doctor()
        self.assertTrue(usable)
        self.assertEqual(checks["landlock"], "landlock" in layers)
        self.assertEqual(checks["namespaces"], NAMESPACES <= layers)

    def test_without_landlock_the_empty_root_is_needed(self):
        usable, checks = self.doctor(preexec_fn=without_landlock)
        run, layers = self.run_and_report(preexec_fn=without_landlock)
        self.assertFalse(checks["landlock"])
        self.assertNotIn("landlock", layers)
        self.assertEqual(usable, namespaces_are_to_be_had())
        if namespaces_are_to_be_had():
            self.assertEqual(run.returncode, 0)
            self.assertIn("empty root", layers)
        else:
            # Neither file boundary: nothing runs.
            self.assertEqual(run.returncode, 125)
            self.assertIn("close the file system", run.stderr)


if __name__ == "__main__":
    os.environ["PATH"] = "/usr/bin:/bin"
    BOXRUN = os.path.abspath(sys.argv.pop(1))
    unittest.main()
