#!/usr/bin/env python3
"""terminal_main_test.py BOXRUN: the caller's terminal and files, as the target sees them.

A pseudo terminal plays the user's: what is typed is written to its master side. Registered three
times: as whoever runs the tests, as an ordinary user, and with namespaces, capabilities and new
privileges taken away. Every wait is bounded. Ends only processes that it started.
"""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest

BOXRUN = None
BOUND = 30  # seconds that anything may take on a busy machine

# A shell with job control as the user's own: it makes its jobs' process groups, hands them the
# terminal, and tells what became of them.
SHELL = ["bash", "--norc", "--noprofile", "-i"]


class Terminal:
    """A process whose controlling terminal is new, and the master side of that terminal."""

    def __init__(self, *command, size=(24, 80)):
        self.seen = ""
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.environ["PS1"] = "outer> "
            os.environ["TERM"] = "dumb"
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
            os.execvp(command[0], command)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.pid is not None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        if self.master is not None:
            os.close(self.master)

    def type(self, text):
        os.write(self.master, text.encode())

    def expect(self, pattern):
        """Waits for output that matches, forgets all up to its end, and returns the match."""
        deadline = time.monotonic() + BOUND
        while True:
            match = re.search(pattern, self.seen)
            if match:
                self.seen = self.seen[match.end():]
                return match
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.master], [], [], left)[0]:
                raise AssertionError(f"no {pattern!r} in {self.seen!r}")
            try:
                self.seen += os.read(self.master, 4096).decode(errors="replace")
            except OSError:
                raise AssertionError(f"the terminal ended without {pattern!r}: {self.seen!r}, status {self.status()}") from None

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def hang_up(self):
        os.close(self.master)
        self.master = None

    def status(self):
        """What the process ended with, as a shell would tell it."""
        deadline = time.monotonic() + BOUND
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid != 0:
                self.pid = None
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
            if self.master is not None and select.select([self.master], [], [], 0.01)[0]:
                try:
                    self.seen += os.read(self.master, 4096).decode(errors="replace")
                except OSError:
                    pass
            else:
                time.sleep(0.01)
        raise AssertionError(f"it did not end: {self.seen!r}")


def boxed(*command, **settings):
    return Terminal(BOXRUN, "--report-on", "never", *command, **settings)


def outer_shell():
    shell = Terminal(*SHELL)
    shell.expect("outer> ")
    return shell


def wait_until_stopped(shell, reason):
    """Asks the shell until its job has been stopped for this reason."""
    deadline = time.monotonic() + BOUND
    listing = ""
    while f"Stopped ({reason})" not in listing:
        if time.monotonic() > deadline:
            raise AssertionError(f"not stopped ({reason}): {listing!r}")
        time.sleep(0.05)
        shell.type("jobs -l; echo lis''ted\n")
        listing = shell.expect(r"(?s)(.*?)listed\r\n").group(1)


class Streams(unittest.TestCase):
    """Redirections: the caller's open file, its offset and its O_APPEND."""

    def shell(self, script, out):
        subprocess.run(["sh", "-c", script.replace("BOXRUN", f"{BOXRUN} --report-on never")], stdout=out,
                       cwd="/", check=True, timeout=BOUND)

    def test_the_offset_is_shared(self):
        with tempfile.TemporaryFile("w+") as out:
            self.shell("(BOXRUN echo a; echo b; BOXRUN sh -c 'echo c; echo d'; echo e)", out)
            out.seek(0)
            self.assertEqual(out.read(), "a\nb\nc\nd\ne\n")

    def test_input_is_taken_from_the_shared_offset(self):
        with tempfile.TemporaryFile("w+") as text, tempfile.TemporaryFile("w+") as out:
            text.write("one\ntwo\nthree\n")
            text.flush()
            text.seek(0)
            subprocess.run(["sh", "-c", f"read a; {BOXRUN} --report-on never sh -c 'read b; echo $b'; read c; echo $a $c"],
                           stdin=text, stdout=out, cwd="/", check=True, timeout=BOUND)
            out.seek(0)
            self.assertEqual(out.read(), "two\none three\n")

    def test_appending_stays_appending(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "log")
            with open(path, "w", encoding="ascii") as log:
                log.write("0\n")
            first = os.open(path, os.O_WRONLY | os.O_APPEND)
            with open(path, "a", encoding="ascii") as other:
                self.shell("BOXRUN echo 1", first)
                other.write("2\n")
                other.flush()
                # Nothing but O_APPEND puts this behind what the other open file wrote.
                self.shell("BOXRUN sh -c 'echo 3; echo 4'", first)
            os.close(first)
            with open(path, encoding="ascii") as log:
                self.assertEqual(log.read(), "0\n1\n2\n3\n4\n")


class Settings(unittest.TestCase):
    def test_it_is_a_terminal_of_the_users_size(self):
        with boxed("sh", "-c", "test -t 0 && test -t 1 && test -t 2 && stty size && tput -T dumb lines; "
                               "tput -T xterm cols", size=(17, 61)) as terminal:
            terminal.expect("17 61\r\n")
            terminal.expect("61\r\n")
            self.assertEqual(terminal.status(), 0)

    def test_a_new_size_is_told(self):
        # Blocked before it says that it is up: a handler would not run while input() is on its way to read(2).
        script = "import os,signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGWINCH})\nprint('up', flush=True)\n" \
                 "signal.sigwait({signal.SIGWINCH})\nprint('%d %d' % os.get_terminal_size(0)[:], flush=True)\ninput()"
        with boxed("python3", "-c", script) as terminal:
            terminal.expect("up\r\n")
            terminal.resize(33, 44)
            terminal.expect("44 33")
            terminal.type("\n")
            self.assertEqual(terminal.status(), 0)

    def test_raw_mode(self):
        script = "import sys,tty,termios\nold = termios.tcgetattr(0)\ntty.setraw(0)\nprint('raw', flush=True)\n" \
                 "keys = sys.stdin.buffer.raw.read(1) + sys.stdin.buffer.raw.read(1)\ntermios.tcsetattr(0, termios.TCSANOW, old)\n" \
                 "print(keys)"
        with boxed("python3", "-c", script) as terminal:
            terminal.expect("raw")
            terminal.type("\x03q")  # one byte at a time, and ^C is a byte
            terminal.expect(r"b'\\x03q'\r\n")
            self.assertEqual(terminal.status(), 0)

    def test_settings_are_the_users_own(self):
        with boxed("stty", "-echo", "rows", "9") as terminal:
            self.assertEqual(terminal.status(), 0)
            self.assertFalse(termios.tcgetattr(terminal.master)[3] & termios.ECHO)
            size = fcntl.ioctl(terminal.master, termios.TIOCGWINSZ, bytes(8))
            self.assertEqual(struct.unpack("HHHH", size)[0], 9)

    def test_lines_are_read_and_end(self):
        with boxed("python3", "-c", "print('got', input('name? '))\ntry: input()\nexcept EOFError: print('end')") as terminal:
            terminal.expect(r"name\? ")
            terminal.type("Ada\n")
            terminal.expect("got Ada")
            terminal.type("\x04")
            terminal.expect("end")
            self.assertEqual(terminal.status(), 0)

    def test_input_cannot_be_forged(self):
        script = "import fcntl,termios,errno\ntry: fcntl.ioctl(0, termios.TIOCSTI, b'x')\nexcept OSError as e: print(errno.errorcode[e.errno])"
        with boxed("python3", "-c", script) as terminal:
            terminal.expect("ENOTTY|EIO|EPERM")


class DevTty(unittest.TestCase):
    def test_it_is_the_controlling_terminal(self):
        with boxed("sh", "-c", "echo hello >/dev/tty; read x </dev/tty; echo got $x") as terminal:
            terminal.expect("hello")
            terminal.type("word\n")
            terminal.expect("got word")
            self.assertEqual(terminal.status(), 0)

    def test_a_password_is_not_echoed(self):
        with boxed("python3", "-c", "import getpass; print('len', len(getpass.getpass('secret? ')))") as terminal:
            terminal.expect(r"secret\? ")
            terminal.type("hunter2\n")
            match = terminal.expect(r"(?s)(.*)len 7")
            self.assertNotIn("hunter2", match.group(1))
            self.assertEqual(terminal.status(), 0)

    def test_without_a_terminal_there_is_none(self):
        for command in ("true </dev/tty", "setsid sh -c 'true </dev/tty'"):
            run = subprocess.run([BOXRUN, "--report-on", "never", "sh", "-c", command], cwd="/", stdin=subprocess.DEVNULL,
                                 capture_output=True, timeout=BOUND)
            self.assertNotEqual(run.returncode, 0)
            self.assertIn(b"No such device", run.stderr)

    def test_a_session_of_its_own_has_none(self):
        with boxed("setsid", "-w", "sh", "-c", "true </dev/tty") as terminal:
            terminal.expect("No such device")
            self.assertNotEqual(terminal.status(), 0)

    def test_no_more_than_the_streams_is_passed_on(self):
        # The terminal is the user's, but none of the streams is.
        script = f"{BOXRUN} --report-on never sh -c 'true </dev/tty' </dev/null 2>&1 | cat"
        with Terminal("sh", "-c", script) as terminal:
            terminal.expect("No such device")


class Keys(unittest.TestCase):
    def test_interrupt_and_quit(self):
        for key, number in (("\x03", signal.SIGINT), ("\x1c", signal.SIGQUIT)):
            with self.subTest(signal=number), boxed("sh", "-c", "echo up; read x") as terminal:
                terminal.expect("up")
                terminal.type(key)
                self.assertEqual(terminal.status(), 128 + number)

    def test_they_go_to_the_foreground_only(self):
        # The inner shell makes its job the foreground; it must not be interrupted itself.
        with boxed(*SHELL) as terminal:
            terminal.type("PS1='inner''> '\n")
            terminal.expect("inner> ")
            terminal.type("sh -c 'echo u''p; exec sleep 1000'\n")
            terminal.expect("up\r\n")
            terminal.type("\x03")
            terminal.expect("inner> ")
            terminal.type("echo status=$?\n")
            terminal.expect("status=130")
            terminal.type("exit 5\n")
            self.assertEqual(terminal.status(), 5)

    def test_job_control_inside(self):
        with boxed(*SHELL) as terminal:
            terminal.type("PS1='inner''> '\n")
            terminal.expect("inner> ")
            self.assertNotIn("no job control", terminal.seen)
            terminal.type("sh -c 'echo u''p; read x; echo got=$x'\n")
            terminal.expect("up\r\n")
            terminal.type("\x1a")
            terminal.expect("Stopped")
            terminal.type("jobs\n")
            terminal.expect(r"\[1\]\+\s+Stopped")
            terminal.type("fg\n")
            terminal.expect("sh -c")
            terminal.type("word\n")
            terminal.expect("got=word")
            terminal.type("cat &\n")
            terminal.expect(r"\[1\] \d+")
            wait_until_stopped(terminal, "tty input")
            terminal.type("exec sh -c 'exit 6'\n")
            self.assertEqual(terminal.status(), 6)

    def test_hang_up(self):
        with boxed("sh", "-c", "echo up; while :; do sleep 1; done") as terminal:
            terminal.expect("up")
            terminal.hang_up()
            self.assertEqual(terminal.status(), 128 + signal.SIGHUP)


class Jobs(unittest.TestCase):
    """boxrun itself as a job of the user's shell."""

    def command(self, script):
        return f"{BOXRUN} --report-on never sh -c '{script}'\n"

    def test_stop_and_continue(self):
        with outer_shell() as shell:
            shell.type(self.command("echo u\"\"p; read x; echo got=$x; exit 7"))
            shell.expect("up\r\n")
            shell.type("\x1a")
            shell.expect(r"\[1\]\+\s+Stopped")
            shell.type("echo still here\n")
            shell.expect("here\r\n.*outer> ")
            shell.type("fg\n")
            shell.expect("sh -c")
            shell.type("word\n")
            shell.expect("got=word")
            shell.type("echo status=$?\n")
            shell.expect("status=7")

    def test_reading_in_the_background_stops_the_job(self):
        with outer_shell() as shell:
            shell.type(self.command("read x; echo got=$x").rstrip() + " &\n")
            shell.expect(r"\[1\] \d+")
            wait_until_stopped(shell, "tty input")
            shell.type("fg\n")
            shell.expect("sh -c")
            shell.type("word\n")
            shell.expect("got=word")

    def test_the_background_does_not_change_the_terminal(self):
        with outer_shell() as shell:
            shell.type(f"{BOXRUN} --report-on never stty -echo &\n")
            shell.expect(r"\[1\] \d+")
            wait_until_stopped(shell, "tty output")
            shell.type("kill -9 %1; wait\n")

    def test_the_background_writes_unless_the_terminal_says_otherwise(self):
        with outer_shell() as shell:
            shell.type(self.command("echo said=$((1+1))").rstrip() + " &\n")
            shell.expect("said=2")
            shell.type("wait; stty tostop\n")
            shell.type(self.command("echo again=$((1+1))").rstrip() + " &\n")
            wait_until_stopped(shell, "tty output")
            shell.type("fg\n")
            shell.expect("again=2")

    def test_an_orphaned_job_is_not_stopped(self):
        # The leader of a session has no shell that would continue it: Linux ignores ^Z there.
        with boxed("sh", "-c", "echo up; read x; echo got=$x") as terminal:
            terminal.expect("up")
            terminal.type("\x1a")
            terminal.type("word\n")
            terminal.expect("got=.*word")
            self.assertEqual(terminal.status(), 0)


if __name__ == "__main__":
    # As execvp has it, a folder of PATH that cannot be searched makes a missing command a forbidden one.
    os.environ["PATH"] = "/usr/bin:/bin"
    os.environ["HOME"] = "/"
    os.chdir("/")
    BOXRUN = os.path.abspath(sys.argv.pop(1))
    unittest.main()
