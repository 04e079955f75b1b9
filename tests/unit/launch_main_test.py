#!/usr/bin/env python3
"""launch_main_test.py BOXRUN: signals, limits and sudden deaths, on the program itself.

Registered three times: as whoever runs the tests, as an ordinary user, and with namespaces,
capabilities and new privileges taken away. Ends only processes that it started.
"""

import os
import pathlib
import pty
import re
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
import unittest

BOXRUN = None
BOUND = 30  # seconds that anything may take on a busy machine


class Run:
    """boxrun in the background, with pipes; `up()` waits for the target's first line."""

    def __init__(self, *words, cwd="/", **settings):
        self.process = subprocess.Popen(
            [BOXRUN, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd,
            # A group of its own that is not orphaned, whoever runs the tests: orphaned ones cannot be stopped.
            process_group=0,
            **settings,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def up(self):
        ready, _, _ = select.select([self.process.stdout], [], [], BOUND)
        line = self.process.stdout.readline() if ready else ""
        if line != "up\n":
            raise AssertionError(f"the target did not come up: {line!r}")
        return self

    def end(self):
        """(status, stderr). Its standard input stays open until it has ended by itself."""
        self.process.wait(timeout=BOUND)
        self.output, errors = self.process.communicate(timeout=BOUND)
        return self.process.returncode, errors

    def signal(self, number):
        self.process.send_signal(number)


def children(pid):
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        try:
            found += [int(word) for word in (task / "children").read_text().split()]
        except OSError:
            pass
    return found


def name_of(pid):
    return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()


def family(pid):
    """{"gofer": pid, "sentry": pid, "stubs": [pids]} of the boxrun with this pid."""
    named = {name_of(child): child for child in children(pid)}
    sentry = named["boxrun-sentry"]
    return {"gofer": named["boxrun-gofer"], "sentry": sentry, "stubs": descendants(sentry)}


def busiest(pids):
    """The one that has computed most: the guest's, where others only serve it."""
    time.sleep(0.2)

    def ticks(pid):
        return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11])

    return max(pids, key=ticks)


def newest_guest(pids):
    """The stub made last of those that a guest runs in: it has a thread besides the parked one."""
    def age(pid):
        try:
            if len(os.listdir(f"/proc/{pid}/task")) < 2:
                return -1, pid
            return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]), pid
        except OSError:  # gone since it was listed, as what an execve leaves behind is
            return -1, pid

    return max(pids, key=age)


def descendants(pid):
    found = []
    for child in children(pid):
        found += [child, *descendants(child)]
    return found


def may_see_descriptors():
    """Whether /proc shows what sealed processes hold open: they are not dumpable (ptrace(2))."""
    status = pathlib.Path("/proc/self/status").read_text()
    capabilities = int(re.search(r"^CapEff:\s*(\w+)", status, re.MULTILINE)[1], 16)
    return bool(capabilities >> 19 & 1)  # CAP_SYS_PTRACE


def nameless_files(pid, folder):
    """The sizes on the disk, in bytes, of the open files of `pid` that are in `folder` but have no name there."""
    found = []
    for link in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        # Seen from another mount namespace the path may lack its beginning.
        if f"/{pathlib.Path(folder).name}/" in os.readlink(link) and link.stat().st_nlink == 0:
            found.append(link.stat().st_blocks * 512)
    return found


def all_gone(pids):
    """Waits until none of the processes runs any more (a zombie of somebody else's does not)."""
    def runs(pid):
        try:
            return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
        except OSError:
            return False

    deadline = time.monotonic() + BOUND
    while time.monotonic() < deadline:
        if not any(runs(pid) for pid in pids):
            return True
        time.sleep(0.01)
    return False


# Reaches for something hidden, says so, and waits for its standard input to end.
VIOLATE_AND_WAIT = "true 2>/dev/null < /etc/shadow; echo up; read x"
VIOLATE_AND_SPIN = "true 2>/dev/null < /etc/shadow; echo up; while :; do :; done"
WAIT = "echo up; read x"
SLEEP = "python3 -c 'import time; print(\"up\", flush=True); time.sleep(1000)'"


class Ends(unittest.TestCase):
    def status(self, *words, **settings):
        return subprocess.run([BOXRUN, *words], cwd="/", stderr=subprocess.DEVNULL, timeout=BOUND, **settings).returncode

    def test_the_status_is_the_targets(self):
        self.assertEqual(self.status("sh", "-c", "exit 3"), 3)
        self.assertEqual(self.status("sh", "-c", "kill -9 $$"), 137)
        self.assertEqual(self.status("sh", "-c", "kill -SEGV $$"), 139)
        self.assertEqual(self.status("no-such-command"), 127)
        self.assertEqual(self.status("/etc/hostname"), 126)

    def test_a_timeout_is_124(self):
        self.assertEqual(self.status("--timeout", "200ms", "sleep", "1000"), 124)
        obeys = "trap 'exit 9' TERM; echo up; while :; do sleep 1000 & wait; done"
        self.assertEqual(self.status("--timeout", "200ms", "--kill-after", "100s", "sh", "-c", obeys, stdout=subprocess.DEVNULL), 124)
        ignores = "trap '' TERM; sleep 1000"
        self.assertEqual(self.status("--timeout", "200ms", "--kill-after", "100ms", "sh", "-c", ignores), 124)

    def test_a_memory_of_less_than_a_page_is_too_little(self):
        done = subprocess.run([BOXRUN, "-m", "1K", "true"], cwd="/", capture_output=True, text=True, timeout=BOUND)
        self.assertEqual(done.returncode, 125)
        self.assertTrue(done.stderr.endswith("; try a larger --memory\n"), done.stderr)

    def test_few_descriptors_are_enough(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))

        self.assertEqual(self.status("sh", "-c", "exit 4", preexec_fn=limit), 4)

    def test_closed_streams_stay_closed(self):
        for redirection in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
            for command in ("echo hello", "cat"):
                with self.subTest(redirection=redirection, command=command):
                    def run(prefix):
                        return subprocess.run(["sh", "-c", f"{prefix}{command} {redirection}"], cwd="/",
                                              stdin=subprocess.DEVNULL, capture_output=True, timeout=BOUND)

                    native, boxed = run(""), run(f"{BOXRUN} --report-on never ")
                    self.assertEqual((native.returncode, native.stdout), (boxed.returncode, boxed.stdout))

    def test_the_streams_are_the_callers_own(self):
        with tempfile.TemporaryFile("w+") as out:
            subprocess.run(["sh", "-c", f"echo a; {BOXRUN} echo b; echo c"], cwd="/", stdout=out, timeout=BOUND, check=True)
            out.seek(0)
            self.assertEqual(out.read(), "a\nb\nc\n")

    def test_a_status_fd_that_nobody_reads(self):
        def status(*words):
            read_end, write_end = os.pipe()
            os.close(read_end)
            done = subprocess.run([BOXRUN, "--status-fd", str(write_end), *words], cwd="/", capture_output=True, text=True,
                                  pass_fds=[write_end], timeout=BOUND)
            os.close(write_end)
            return done.returncode, done.stderr.count("\n")

        self.assertEqual(status("sh", "-c", "exit 3"), (3, 0))
        self.assertEqual(status("true"), (0, 0))
        self.assertEqual(status("--no-such-option", "true"), (125, 1))
        self.assertEqual(status("--report", "json=/no-such-folder/report", "true"), (125, 1))
        self.assertEqual(status("no-such-command"), (127, 1))

    def test_a_status_fd_that_is_a_standard_stream(self):
        line = '{"event":"exit","source":"target","code":3}\n'
        command = [BOXRUN, "-q", "--status-fd", "1", "sh", "-c", "echo out; exit 3"]
        done = subprocess.run(command, cwd="/", stdout=subprocess.PIPE, text=True, timeout=BOUND)
        self.assertEqual((done.returncode, done.stdout), (3, "out\n" + line))
        read_end, write_end = os.pipe()
        command[3] = "0"
        done = subprocess.run(command, cwd="/", stdin=write_end, stdout=subprocess.DEVNULL, timeout=BOUND)
        os.close(write_end)
        with os.fdopen(read_end) as events:
            self.assertEqual((done.returncode, events.read()), (3, line))

    def test_a_report_or_trace_that_nobody_reads(self):
        def status(*words):
            read_end, write_end = os.pipe()
            os.close(read_end)
            done = subprocess.run([BOXRUN, *words], cwd="/", stderr=write_end, timeout=BOUND)
            os.close(write_end)
            return done.returncode

        self.assertEqual(status("--report-on", "always", "sh", "-c", "exit 3"), 3)
        self.assertEqual(status("--report-on", "always", "true"), 0)
        self.assertEqual(status("--trace", "true"), 0)
        self.assertEqual(status("--trace", "sh", "-c", "exit 3"), 3)
        self.assertEqual(status("--no-such-option", "true"), 125)
        self.assertEqual(status("no-such-command"), 127)

    def test_verbose_says_what_was_decided(self):
        def run(*words):
            return subprocess.run([BOXRUN, *words, "true"], cwd="/", capture_output=True, text=True, timeout=BOUND)

        decided = run("--dry-run").stdout
        self.assertIn("loopback, so far without an interface", decided)
        self.assertEqual((run("-v").stderr, run("-v").stdout), (decided, ""))
        self.assertEqual(run("-vq").stderr, "")

    def test_a_text_that_nobody_reads(self):
        for words in (["--help"], ["--dry-run", "true"]):
            read_end, write_end = os.pipe()
            os.close(read_end)
            done = subprocess.run([BOXRUN, *words], cwd="/", stdout=write_end, stderr=subprocess.PIPE, timeout=BOUND)
            os.close(write_end)
            self.assertEqual((done.returncode, done.stderr), (-signal.SIGPIPE, b""))

    def test_a_mistyped_system_call_has_a_suggestion(self):
        done = subprocess.run([BOXRUN, "--deny-syscall", "opne", "true"], cwd="/", capture_output=True, text=True, timeout=BOUND)
        self.assertEqual(done.returncode, 125)
        self.assertIn("did you mean open?", done.stderr)

    def test_the_target_ignores_what_the_caller_ignores(self):
        for number in (signal.SIGPIPE, signal.SIGHUP, signal.SIGUSR1):
            for disposition in (signal.SIG_DFL, signal.SIG_IGN):
                with self.subTest(signal=number, disposition=disposition):
                    def ignored(*prefix):
                        text = subprocess.run([*prefix, "grep", "SigIgn", "/proc/self/status"], cwd="/", capture_output=True, text=True,
                                              timeout=BOUND, restore_signals=False,
                                              preexec_fn=lambda: signal.signal(number, disposition)).stdout
                        return int(text.split()[1], 16)

                    self.assertEqual(ignored(BOXRUN), ignored())
                    self.assertEqual(ignored(BOXRUN) >> (number - 1) & 1, int(disposition == signal.SIG_IGN))

    def test_shared_descriptions_are_not_changed(self):
        read_end, write_end = os.pipe()
        self.status("echo", "hello", stdout=write_end)
        self.assertTrue(os.get_blocking(write_end))
        os.close(read_end)
        os.close(write_end)


class Mounts(unittest.TestCase):
    def output(self, *words):
        done = subprocess.run([BOXRUN, "-q", *words], cwd="/", capture_output=True, text=True, timeout=BOUND)
        return done.returncode, done.stdout, done.stderr

    def test_a_tmpfs_in_the_place_of_a_mount(self):
        self.assertEqual(self.output("--tmpfs", "/opt", "sh", "-c", "touch /opt/x && ls /opt"), (0, "x\n", ""))
        self.assertEqual(self.output("--tmpfs", "/etc", "ls", "/etc"), (0, "", ""))

    def test_a_pattern_of_either_path_of_a_mount(self):
        with tempfile.TemporaryDirectory() as folder:
            for name in ("x", "y"):
                pathlib.Path(folder, name).touch()
            for hide in ("/m/x", f"{folder}/x"):
                self.assertEqual(self.output("--ro", f"{folder}:/m", "--hide", hide, "ls", "/m"), (0, "y\n", ""))


class OverlayData(unittest.TestCase):
    """--overlay-data disk: changes do not count against --memory, and are as good as in memory."""

    SCRIPT = """
import mmap, os, shutil, subprocess
block = os.urandom(1 << 20)
with open("big", "wb") as big:
    for i in range(160):
        big.write(block)
with open("big", "r+b") as big:
    with mmap.mmap(big.fileno(), 0) as view:
        assert view[159 << 20 : 160 << 20] == block
        view[5] = 7
    big.seek(5)
    assert big.read(1) == b"\\7"
os.truncate("big", 4097)
assert os.path.getsize("big") == 4097 and open("big", "rb").read()[4096] == block[4096]
shutil.copy("/bin/echo", "say")
assert subprocess.run(["./say", "hi"], capture_output=True).stdout == b"hi\\n"
with open("old", "a") as old:
    old.write("changed")
assert open("old").read() == "first changed"
print("done")
"""

    def run_it(self, *options, tmpdir="/var/tmp"):
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            pathlib.Path(folder, "old").write_text("first ")
            done = subprocess.run(
                [BOXRUN, "-q", *options, "python3", "-c", self.SCRIPT.replace("\\\\", "\\")],
                cwd=folder, capture_output=True, text=True, timeout=BOUND, env=os.environ | {"TMPDIR": tmpdir})
            self.assertEqual(pathlib.Path(folder, "old").read_text(), "first ")
            self.assertEqual(os.listdir(folder), ["old"])
        return done

    def test_it_is_no_memory(self):
        with tempfile.TemporaryDirectory(dir="/var/tmp") as disk:
            done = self.run_it("-m", "96M", "--overlay-data", "disk", tmpdir=disk)
            self.assertEqual((done.returncode, done.stdout), (0, "done\n"), done.stderr)
            self.assertEqual(os.listdir(disk), [])

    def written(self, data, look):
        """What `look(sentry, disk)` finds while a target has written 8 MiB to an overlay."""
        script = "head -c 8388608 /dev/urandom > big; echo up; read x"
        with tempfile.TemporaryDirectory(dir="/var/tmp") as disk, tempfile.TemporaryDirectory() as folder:
            settings = {"cwd": folder, "env": os.environ | {"TMPDIR": disk}}
            with Run("--overlay-data", data, "sh", "-c", script, **settings) as run:
                return look(family(run.up().process.pid)["sentry"], disk)

    def test_its_file_has_no_name(self):
        self.assertEqual(self.written("disk", lambda _, disk: os.listdir(disk)), [])

    @unittest.skipUnless(may_see_descriptors(), "needs CAP_SYS_PTRACE to see what the Sentry holds open")
    def test_its_file_is_where_it_should_be(self):
        (size,) = self.written("disk", nameless_files)
        self.assertGreaterEqual(size, 8 << 20)
        self.assertEqual(self.written("memory", nameless_files), [])

    def test_in_memory_it_is(self):
        done = self.run_it("-m", "96M", "--overlay-data", "memory")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("No space left on device", done.stderr)

    def test_it_has_the_limit_of_overlays(self):
        done = self.run_it("--overlay-size", "32M", "--overlay-data", "disk")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("No space left on device", done.stderr)

    def test_a_place_where_it_cannot_be(self):
        done = self.run_it("--overlay-data", "disk", tmpdir="/no-such-directory")
        self.assertEqual(done.returncode, 125)
        self.assertIn("cannot keep the overlays' data in /no-such-directory: No such file or directory", done.stderr)
        self.assertIn("--overlay-data memory", done.stderr)


class Signals(unittest.TestCase):
    def test_they_reach_the_target(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1):
            with self.subTest(signal=number), Run("sh", "-c", WAIT) as run:
                run.up().signal(number)
                self.assertEqual(run.end()[0], 128 + number)

    def test_the_target_may_handle_them(self):
        with Run("sh", "-c", "trap 'exit 42' USR2; echo up; read x; read x") as run:
            run.up().signal(signal.SIGUSR2)
            self.assertEqual(run.end()[0], 42)

    def test_the_terminals_keys_reach_the_target(self):
        for key, number in ((b"\x03", signal.SIGINT), (b"\x1c", signal.SIGQUIT)):
            pid, terminal = pty.fork()
            if pid == 0:
                os.execv(BOXRUN, [BOXRUN, "--report-on", "never", "sh", "-c", WAIT])
            self.addCleanup(os.close, terminal)
            self.assertTrue(select.select([terminal], [], [], BOUND)[0])
            self.assertEqual(os.read(terminal, 100), b"up\r\n")
            os.write(terminal, key)
            self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 128 + number)

    def test_a_stop_stops_boxrun_too(self):
        with Run("sh", "-c", WAIT) as run:
            run.up().signal(signal.SIGTSTP)
            _, status = os.waitpid(run.process.pid, os.WUNTRACED)
            self.assertTrue(os.WIFSTOPPED(status))
            run.signal(signal.SIGCONT)
            run.signal(signal.SIGTERM)
            self.assertEqual(run.end()[0], 128 + signal.SIGTERM)


class Deaths(unittest.TestCase):
    def kill_one(self, who, script=VIOLATE_AND_WAIT):
        with Run("sh", "-c", script) as run:
            members = family(run.up().process.pid)
            everybody = [members["gofer"], members["sentry"], *members["stubs"]]
            victim = busiest(members["stubs"]) if who == "stub" else members[who]
            os.kill(victim, signal.SIGKILL)
            status, errors = run.end()
            self.assertTrue(all_gone(everybody))
            return status, errors

    def test_a_killed_gofer(self):
        status, errors = self.kill_one("gofer")
        self.assertEqual(status, 125)
        self.assertIn("the gofer was killed by SIGKILL", errors)
        self.assertIn("/etc/shadow", errors)

    def test_a_killed_sentry(self):
        status, errors = self.kill_one("sentry")
        self.assertEqual(status, 125)
        self.assertIn("the sentry was killed by SIGKILL", errors)
        self.assertIn("/etc/shadow", errors)

    def test_a_killed_stub(self):
        # The guest's process ends as if it had been killed itself.
        status, errors = self.kill_one("stub", VIOLATE_AND_SPIN)
        self.assertEqual(status, 137)
        self.assertIn("/etc/shadow", errors)
        self.assertRegex(errors, r"process\.lost +sh\[2\] \(its host process was killed\) +-> killed")

    def kill_newest(self, script):
        """(status, output): of a run whose youngest process loses its stub. It says itself, by a line, that
        it is what it is going to be, and may have that line from its standard input."""
        with Run("sh", "-c", script) as run:
            run.process.stdin.write("up\n")
            run.process.stdin.flush()
            run.up()
            members = family(run.process.pid)
            os.kill(newest_guest(members["stubs"]), signal.SIGKILL)
            status, errors = run.end()
            self.assertTrue(all_gone([members["gofer"], members["sentry"], *members["stubs"]]))
            self.assertRegex(errors, r"process\.lost +\w+\[\d+\] \(its host process was killed\) +-> killed")
            return status, run.output

    def test_a_stub_killed_while_the_target_waits(self):
        for script in (f"exec {SLEEP}", "read x; echo $x; read x", "exec cat"):
            with self.subTest(script=script):
                self.assertEqual(self.kill_newest(script)[0], 137)

    def test_a_stub_of_one_process_is_not_the_others(self):
        script = f"{SLEEP} & wait $!; echo child $?; sh -c 'exit 3'"
        self.assertEqual(self.kill_newest(script), (3, "child 137\n"))

    def test_a_killed_monitor(self):
        with Run("sh", "-c", WAIT) as run:
            members = family(run.up().process.pid)
            run.signal(signal.SIGKILL)
            self.assertTrue(all_gone([members["gofer"], members["sentry"], *members["stubs"]]))


if __name__ == "__main__":
    # As execvp has it, a folder of PATH that cannot be searched makes a missing command a forbidden one.
    os.environ["PATH"] = "/usr/bin:/bin"
    BOXRUN = os.path.abspath(sys.argv.pop(1))
    unittest.main()
