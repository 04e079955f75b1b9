#!/usr/bin/env python3
"""cli_main_test.py BOXRUN MAN_PAGE: the program boxrun as far as it runs nothing; its manual page."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

BOXRUN, MAN_PAGE = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])


def boxrun(*arguments, **more):
    return subprocess.run([BOXRUN, *arguments], capture_output=True, text=True, timeout=60, **more)


class Main(unittest.TestCase):
    def refused(self, status, message, *arguments, **more):
        done = boxrun(*arguments, **more)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (status, "", f"boxrun: {message}\n"))

    def test_version_and_help(self):
        self.assertRegex(boxrun("version").stdout, r"^boxrun \d+\.\d+\.\d+\n$")
        self.assertEqual(boxrun("--version").stdout, boxrun("version").stdout)
        for arguments in (["help"], ["--help"], ["-h"], ["run", "--help"], ["-m", "1G", "--help"]):
            done = boxrun(*arguments)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertTrue(done.stdout.startswith("usage: boxrun "))

    def test_usage_errors(self):
        see = "; see `boxrun --help`"
        self.refused(125, "no COMMAND was given" + see)
        self.refused(125, "no COMMAND was given" + see, "run")
        self.refused(125, "unknown option '--memroy'; did you mean '--memory'?" + see, "--memroy", "1G", "ls")
        self.refused(125, "unknown option '--evn'; did you mean '--env'?" + see, "--evn", "A=1", "ls")
        self.refused(125, "option '-t': 'soon' is no duration; write it as in 500ms, 30s, 1.5m or 2h" + see, "-t", "soon", "ls")
        self.refused(125, "option '--trace': 'openat' is a system call, not a group; it is in the group 'file'" + see, "--trace=openat", "ls")
        self.refused(125, "version takes no argument" + see, "version", "x")
        self.refused(125, "help takes no argument" + see, "help", "x")
        done = boxrun("--trace=signl", "ls")
        self.assertEqual(done.returncode, 125)
        self.assertTrue(done.stderr.startswith("boxrun: option '--trace': 'signl' is none of io, "), done.stderr)
        self.assertTrue(done.stderr.endswith("; did you mean 'signal'?" + see + "\n"), done.stderr)
        done = boxrun("learn", "ls")
        self.assertEqual(done.returncode, 125)
        self.assertIn("`boxrun -- learn` runs a program of that name", done.stderr)

    def test_profiles(self):
        self.refused(125, "there is no profile 'defualt'; did you mean 'default'?", "-p", "defualt", "ls")
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
            file.write("schema = 1\n[limits]\nmemroy = '1G'\n[env]\npasss = []\n")
            file.flush()
            done = boxrun("-p", file.name, "ls")
            self.assertEqual(done.returncode, 125)
            self.assertEqual(
                done.stderr,
                f"boxrun: {file.name}:3:1: unknown key 'memroy'; did you mean 'memory'?\n"
                f"boxrun: {file.name}:5:1: unknown key 'passs'; did you mean 'pass'?\n",
            )

    def test_commands_that_cannot_be_run(self):
        self.refused(127, "'boxrun-no-such-program': command not found", "boxrun-no-such-program")
        self.refused(127, "'/no/such': No such file or directory", "/no/such")
        self.refused(126, "'/etc/passwd': Permission denied", "/etc/passwd")
        self.refused(126, "'/etc': Permission denied", "/etc")
        self.refused(127, "'': command not found", "")

    def test_hostile_text_in_messages(self):
        self.refused(127, r"'a\x1b[31m\nboxrun: fine': command not found", "a\x1b[31m\nboxrun: fine")

    def test_a_current_directory_that_is_gone(self):
        def from_there(*words):
            script = 'cd "$1" && rmdir "$1" && shift && exec "$@"'
            return subprocess.run(["sh", "-c", script, "sh", tempfile.mkdtemp(), BOXRUN, *words], capture_output=True, text=True, timeout=60)

        for words in (["ls"], ["-C", "x", "ls"]):
            done = from_there(*words)
            self.assertEqual(done.returncode, 125)
            self.assertEqual(done.stderr, "boxrun: the current directory cannot be found: No such file or directory; "
                             "change to another one, or name one with --cwd\n")
        done = from_there("-C", "/usr", "--ro", "share:/share", "sh", "-c", "pwd; ls -d /share bin")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "/usr\n/share\nbin\n", ""))
        self.assertIn("usage: boxrun", from_there("--help").stdout)

    def test_dry_run_says_what_would_be(self):
        done = boxrun("--dry-run", "-m", "1G", "-t", "90s", "--ro", "/usr/share:/share", "sh", "-c", "echo 'a'")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("argv      sh -c 'echo '\\''a'\\'''\n", done.stdout)
        self.assertIn("mount     /share from /usr/share ro exclusive", done.stdout)
        self.assertIn("timeout 90s", done.stdout)
        self.assertIn("memory 1G", done.stdout)

    def test_a_full_stdout_is_no_success(self):
        with open("/dev/full", "w") as full:
            done = subprocess.run([BOXRUN, "version"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
        self.assertEqual(done.returncode, 125)
        self.assertEqual(done.stderr, "boxrun: cannot write to stdout: No space left on device\n")

    def test_syscalls(self):
        table = boxrun("syscalls").stdout
        self.assertRegex(table, r"(?m)^ +0 read ")
        self.assertRegex(table, r"\d+ full, \d+ partial, \d+ refused, \d+ none\n$")
        rows = json.loads(boxrun("syscalls", "--format", "json").stdout)["syscalls"]
        self.assertGreater(len(rows), 350)
        self.assertEqual(len({row["number"] for row in rows}), len(rows))
        self.assertEqual(boxrun("syscalls", "--format=jsn").returncode, 125)

    def test_doctor(self):
        report = json.loads(boxrun("doctor", "--json").stdout)
        names = [check["name"] for check in report["checks"]]
        self.assertEqual(names[:5], ["kernel", "platform systrap", "platform ptrace", "platform auto", "seccomp"])
        for check in report["checks"]:
            if check["name"] in ("platform systrap", "platform ptrace") and check["ok"]:
                self.assertRegex(check["detail"], r"^\d+\.\d\d us per system call$")
        text = boxrun("doctor")
        self.assertEqual(text.returncode, 0 if report["usable"] else 125)
        for name in names:
            self.assertIn(f" {name} ", text.stdout)


class PlatformChoice(unittest.TestCase):
    def setUp(self):
        checks = {check["name"]: check for check in json.loads(boxrun("doctor", "--json").stdout)["checks"]}
        for kind in ("systrap", "ptrace"):
            if not checks[f"platform {kind}"]["ok"]:
                self.skipTest(f"platform {kind}: {checks[f'platform {kind}']['detail']}")
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.file = os.path.join(self.folder.name, f"boxrun-platform-{os.geteuid()}")

    def platform(self, **settings):
        report = os.path.join(self.folder.name, "report")
        environment = {**os.environ, "XDG_RUNTIME_DIR": self.folder.name, **settings}
        subprocess.run([BOXRUN, "--report", f"json={report}", "--report-on", "always", "true"], cwd="/", env=environment,
                       check=True, capture_output=True, timeout=60)
        with open(report, encoding="utf-8") as file:
            return json.load(file)["platform"]

    def remembered(self):
        with open(self.file, encoding="utf-8") as file:
            return file.read().splitlines()

    def remember(self, lines):
        with open(self.file, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")

    def test_the_choice_is_measured_once_and_kept(self):
        chosen = self.platform()
        lines = self.remembered()
        self.assertEqual(lines[1:], [chosen])
        self.assertEqual(os.stat(self.file).st_mode & 0o777, 0o600)
        self.assertEqual(os.listdir(self.folder.name).count(os.path.basename(self.file)), 1)
        for kind in ("ptrace", "systrap"):
            self.remember([lines[0], kind])
            self.assertEqual(self.platform(), kind)

    def test_what_is_not_ours_or_not_of_now_is_measured_again(self):
        chosen = self.platform()
        lines = self.remembered()
        other = "ptrace" if chosen == "systrap" else "systrap"
        for wrong in ([lines[0] + "0", other], [lines[0], "abacus"], ["", other], [lines[0], other, other]):
            self.remember(wrong)
            self.platform()
            self.assertEqual(self.remembered()[0], lines[0])
            self.assertEqual(len(self.remembered()), 2)
        self.remember([lines[0] + "0", other])
        os.chmod(self.file, 0o666)
        self.platform()
        self.assertEqual(os.stat(self.file).st_mode & 0o777, 0o600)
        os.rename(self.file, self.file + "-elsewhere")
        os.symlink(self.file + "-elsewhere", self.file)
        self.platform()
        self.assertFalse(os.path.islink(self.file))

    def test_nothing_is_kept_where_nothing_can_be(self):
        self.assertIn(self.platform(XDG_RUNTIME_DIR="/nonexistent"), ("systrap", "ptrace"))
        self.assertEqual([name for name in os.listdir(self.folder.name) if name.startswith("boxrun")], [])


class Manual(unittest.TestCase):
    def test_it_has_the_options_of_the_program(self):
        with open(MAN_PAGE, encoding="utf-8") as file:
            page = file.read()
        documented = re.findall(r"^\.It (?:Fl (\w) , )?Fl -([\w-]+)", page, re.M)
        known = re.findall(r"^  (?:-(\w), |    )--([\w-]+)", boxrun("--help").stdout, re.M)
        self.assertEqual(documented, known)

    @unittest.skipUnless(shutil.which("mandoc"), "mandoc is not installed")
    def test_it_is_clean(self):
        done = subprocess.run(["mandoc", "-T", "lint", MAN_PAGE], capture_output=True, text=True, timeout=60)
        # Whether other pages are installed says nothing about this one.
        findings = [line for line in done.stdout.splitlines() if "referenced manual not found" not in line]
        self.assertEqual(findings, [])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
