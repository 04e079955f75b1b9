#!/usr/bin/env python3
"""report_main_test.py BOXRUN: what the reports and the status line of real runs say.

Registered three times, as launch_main_test.py is.
"""

import errno
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import unittest

BOXRUN = None
HELLO = pathlib.Path(__file__).resolve().parent.parent / "apps" / "hello.py"
BOUND = 60  # seconds that anything may take on a busy machine


class Done:
    """One run that has ended: status, output, text report, violations and status line."""

    def __init__(self, *words, cwd="/", **settings):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "report.json")
            read_end, write_end = os.pipe()
            command = [BOXRUN, "--report", "text", "--report", f"json={path}", "--status-fd", str(write_end), *words]
            done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=BOUND, pass_fds=[write_end], **settings)
            os.close(write_end)
            with os.fdopen(read_end) as pipe:
                self.event = json.loads(pipe.read())
            self.json = json.loads(path.read_text())
        self.status, self.output, self.text = done.returncode, done.stdout, done.stderr
        self.violations = self.json["violations"]

    def of_kind(self, kind, target=None):
        return [v for v in self.violations if v["kind"] == kind and target in (None, v["target"])]


class Reports(unittest.TestCase):
    def the_one(self, done, kind, target=None, **more):
        found = [v for v in done.of_kind(kind, target) if all(v[name] == value for name, value in more.items())]
        self.assertEqual(len(found), 1, done.text)
        self.assertIn(kind, done.text)
        self.assertIn(f"{found[0]['command']}[{found[0]['pid']}]", done.text)
        return found[0]

    def check(self, record, **expected):
        self.assertEqual({name: record[name] for name in expected}, expected)
        self.assertGreater(record["pid"], 1)
        self.assertTrue(record["command"])


class Files(Reports):
    def test_a_hidden_file(self):
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            secret = pathlib.Path(folder, ".env")
            secret.write_text("PASSWORD=1\n")
            done = Done("sh", "-c", "(cat .env); :", cwd=folder)
            record = self.the_one(done, "file.read", str(secret))
        self.check(record, syscall="openat", errno="ENOENT", detail="hidden", command="cat")
        home = os.environ.get("HOME", "")  # as_user's holds the folder
        shown = f"~{str(secret)[len(home):]}" if len(home) > 1 and str(secret).startswith(home + "/") else str(secret)
        self.assertEqual(record["allow"], f"--ro {shown}")
        self.assertEqual([process["command"] for process in record["chain"]][0], "sh")
        self.assertNotIn("PASSWORD", done.output)

    def test_a_hidden_mount_of_the_profile(self):
        for option, path in (("/etc", "/etc"), ("/etc", "/etc/hostname"), ("/et?", "/etc")):
            with self.subTest(option=option, path=path):
                done = Done("--hide", option, "ls", path, cwd="/usr")
                self.assertEqual((done.status, done.output), (2, ""))
                self.check(self.the_one(done, "file.read", "/etc"), errno="ENOENT", detail="hidden", rule=f"--hide {option}", allow="--ro /etc")
        done = Done("--hide", "/etc", "--ro", "/etc", "cat", "/etc/hostname", cwd="/usr")
        self.assertEqual((done.status, done.violations), (0, []))

    def test_a_pattern_through_a_symbolic_link(self):
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            os.mkdir(f"{folder}/real")
            os.symlink("real", f"{folder}/link")
            pathlib.Path(folder, "real", "secret").write_text("PASSWORD=1\n")
            for path in ("real/secret", "link/secret"):
                with self.subTest(path=path):
                    done = Done("--hide", f"{folder}/link/secret", "cat", path, cwd=folder)
                    self.assertEqual((done.status, done.output), (1, ""))
                    self.check(self.the_one(done, "file.read", f"{folder}/real/secret"), detail="hidden")

    # The record has the path of the file, the option the folder that would have to be writable.
    def test_a_write_to_what_is_read_only(self):
        for command, syscall, target, folder in (
            ("echo x > /usr/boxrun-test", "openat", "/usr/boxrun-test", "/usr"),
            ("mkdir /usr/share/boxrun-test", "mkdir", "/usr/share/boxrun-test", "/usr/share"),
            ("ln -s x /usr/share/../boxrun-test", "symlinkat", "/usr/boxrun-test", "/usr"),
            ("rm -f /etc/hostname", "unlinkat", "/etc/hostname", "/etc"),
            ("rmdir /usr/share", "rmdir", "/usr/share", "/usr"),
            ("python3 -c 'import os; os.rename(\"/etc/hostname\", \"/etc/host\")'", "rename", "/etc/hostname", "/etc"),
        ):
            with self.subTest(command=command):
                record = self.the_one(Done("sh", "-c", command + "; :"), "file.write")
                self.check(record, syscall=syscall, errno="EROFS", target=target, detail="read-only", allow=f"--rw {folder}")

    def test_a_change_of_a_read_only_file(self):
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            own = pathlib.Path(folder, "own")
            own.write_text("1\n")
            done = Done("--ro", folder, "sh", "-c", f"echo x >> {own}", cwd="/usr")
            record = self.the_one(done, "file.write", str(own))
            self.assertEqual(own.read_text(), "1\n")
        self.check(record, syscall="openat", errno="EROFS", detail="read-only", command="sh")
        self.assertTrue(record["allow"].startswith("--rw "), record["allow"])

    def test_a_write_to_what_is_not_mounted(self):
        done = Done("mkdir", "/boxrun-test", cwd="/usr")
        self.check(self.the_one(done, "file.write"), syscall="mkdir", errno="EROFS", target="/boxrun-test", command="mkdir", allow="--tmpfs /")
        done = Done("sh", "-c", "echo x > /boot/grub/boxrun-test; :", cwd="/usr")
        self.check(self.the_one(done, "file.write"), syscall="openat", errno="ENOENT", target="/boot/grub/boxrun-test",
                   detail="not mounted", allow="--rw /boot", command="sh")
        self.assertEqual(done.of_kind("file.read"), [])
        self.assertEqual(Done("sh", "-c", "echo x > /no-such-folder/x; :", cwd="/usr").violations, [])

    def test_the_advice_can_be_followed(self):
        for script in ("mkdir /boxrun-test", "echo x > /boxrun-test", "ln -s x /boxrun-test", "chmod 700 /", "mkdir -p /boxrun-test/x",
                       "ls /boot > /boxrun-test"):
            with self.subTest(script=script):
                options = []
                while (done := Done(*options, "sh", "-c", script, cwd="/usr")).violations:
                    self.assertNotEqual(done.status, 0)
                    self.assertLess(len(options), 8, done.text)
                    options += done.violations[0]["allow"].split()
                self.assertEqual(done.status, 0, done.text)
                self.assertIn("--tmpfs", options)
        self.assertFalse(os.path.exists("/boxrun-test"))

    def test_what_is_hidden_can_be_shown(self):
        for path in ("/etc/shadow", "/etc/ssh/ssh_host_rsa_key"):
            if not os.path.exists(path):
                continue
            with self.subTest(path=path):
                option = self.the_one(Done("cat", path, cwd="/usr"), "file.read")["allow"]
                self.assertEqual(option, "--ro " + path)
                done = Done(*option.split(), "sh", "-c", "test -e $0 && ls -l $0", path, cwd="/usr")
                self.assertEqual((done.status, done.violations), (0, []), done.text)

    def test_the_usual_names_of_run(self):
        for path in ("/var/run", "/var/lock"):
            native = subprocess.run(["readlink", path], capture_output=True, text=True).stdout
            self.assertEqual(Done("readlink", path, cwd="/usr").output, native)
        self.assertEqual(Done("id", cwd="/usr").violations, [])
        for options in (["--tmpfs", "/var"], ["--tmpfs", "/var/lock"], ["--ro", "/var"], ["--overlay", "/usr:/var/run/x"]):
            with self.subTest(options=options):
                self.assertEqual(Done(*options, "true", cwd="/usr").status, 0)

    def test_a_write_that_nothing_allows(self):
        self.check(self.the_one(Done("mkdir", "/sys/boxrun-test", cwd="/usr"), "file.write"), allow=None)

    def test_a_read_of_what_is_not_mounted(self):
        record = self.the_one(Done("ls", "/boot", cwd="/usr"), "file.read")
        self.check(record, errno="ENOENT", target="/boot", detail="not mounted", allow="--ro /boot", command="ls")

    def test_an_ordinary_error_is_no_violation(self):
        done = Done("ls", "/no-such-folder", "/var/no-such-folder", cwd="/usr")
        self.assertEqual(done.status, 2)
        self.assertNotIn("no-such", json.dumps(done.violations))


class Syscalls(Reports):
    def test_a_denied_one(self):
        done = Done("--deny-syscall", "mkdir=EXDEV", "mkdir", "/tmp/x")
        record = self.the_one(done, "syscall.deny")
        self.check(record, syscall="mkdir", errno="EXDEV", allow="--deny-syscall mkdir=log", command="mkdir")
        self.assertIn('mkdir("/tmp/x"', record["call"])

    def test_one_that_does_not_exist(self):
        done = Done("python3", "-c", "import ctypes; ctypes.CDLL(None).syscall(600)")
        self.check(self.the_one(done, "syscall.unimplemented"), errno="ENOSYS", allow=None)


CONNECT = "import socket, sys\ntry: socket.socket(int(sys.argv[1]), {}).{}\nexcept OSError as error: print(error.errno)"
LATER = "not in this version"


class Network(Reports):
    def attempt(self, kind, call, family, script="python3 -c \"$0\" $1; :"):
        return Done("sh", "-c", script, CONNECT.format(f"socket.{kind}", call), str(int(family)))

    def test_a_connection_to_an_outside_address(self):
        done = self.attempt("SOCK_STREAM", "connect(('203.0.113.9', 443))", socket.AF_INET)
        self.assertEqual(done.output, f"{errno.ENETUNREACH}\n")
        record = self.the_one(done, "net.connect", "203.0.113.9:443")
        option = "--net allow --allow-host 203.0.113.9:443"
        self.check(record, syscall="connect", errno="ENETUNREACH", severity="high", command="python3", allow=option, allow_caveat=LATER)
        self.assertEqual([process["command"] for process in record["chain"]][0], "sh")
        self.assertRegex(done.text, r"(?m)^  HIGH  net\.connect +203\.0\.113\.9:443 +connect -> ENETUNREACH +python3\[\d+\] < sh\[2\]$")
        self.assertIn(f"allow with: {option}  ({LATER})\n", done.text)

    def test_a_datagram_to_an_outside_address(self):
        done = self.attempt("SOCK_DGRAM", "sendto(b'x', ('2001:db8::1', 53))", socket.AF_INET6)
        self.assertEqual(done.output, f"{errno.ENETUNREACH}\n")
        record = self.the_one(done, "net.connect", "[2001:db8::1]:53")
        self.check(record, syscall="sendto", errno="ENETUNREACH", command="python3", allow="--net allow --allow-host '[2001:db8::1]:53'")

    def test_repetitions_are_counted(self):
        script = "for i in 1 2 3; do python3 -c \"$0\" $1; done"
        done = self.attempt("SOCK_STREAM", "connect(('203.0.113.9', 443))", socket.AF_INET, script)
        self.assertEqual(self.the_one(done, "net.connect")["count"], 3)

    def test_this_host_is_not_outside(self):
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            done = self.attempt("SOCK_STREAM", f"connect(('{host}', 80))", family)
            self.assertEqual((done.output, done.violations), (f"{errno.ENETUNREACH}\n", []))


# limit, option, what to run, status, errno or None where it kills, the option that raises it
OPEN_MANY = "import os\nwhile True: os.open('/', os.O_RDONLY)"
FORK_MANY = "import os, signal\nwhile True:\n  if os.fork() == 0: signal.pause()"
LIMITS = {
    "open_files": (["--open-files", "20"], ["python3", "-c", OPEN_MANY], 1, "EMFILE", "20", "--open-files N"),
    "processes": (["--pids", "5"], ["python3", "-c", FORK_MANY], 1, "EAGAIN", "5", "--pids N"),
    "file_size": (["--fsize", "1M"], ["dd", "if=/dev/zero", "of=/tmp/x", "bs=64k"], 153, "EFBIG", "1048576", "--fsize SIZE"),
    "output": (["--output-limit", "1M"], ["dd", "if=/dev/zero", "bs=64k"], 153, "EFBIG", "1048576", "--output-limit SIZE"),
    "tmp_size": (["--tmp-size", "1M"], ["dd", "if=/dev/zero", "of=/tmp/x", "bs=64k"], 1, "ENOSPC", "1048576", "--tmp-size SIZE"),
    "overlay_size": (["--overlay-size", "1M"], ["dd", "if=/dev/zero", "of=x", "bs=64k"], 1, "ENOSPC", "1048576", "--overlay-size SIZE"),
    "memory": (["-m", "64M"], ["python3", "-c", "x = []\nwhile True: x.append(b'x' * 4000)"], 137, "ENOMEM", str(64 << 20), "--memory SIZE"),
    "cpu_time": (["--cpu-time", "500ms"], ["sh", "-c", "(while :; do :; done) & while :; do :; done"], 137, None, "0.5s", "--cpu-time TIME"),
    "timeout": (["--timeout", "500ms"], ["sleep", "1000"], 124, None, "0.5s", "--timeout TIME"),
}


# More than there is, asked for by mmap, mprotect and mremap, by brk, which answers with the old break, and by a write.
REFUSED_MEMORY = """
import ctypes, errno, mmap, os
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = libc.mremap.restype = libc.sbrk.restype = ctypes.c_void_p
RW, ANON, BIG = 3, 0x22, 1 << 30
def call(function, *words):
    ctypes.set_errno(0)
    function(*map(ctypes.c_size_t, words))
    print(errno.errorcode.get(ctypes.get_errno(), "fine"))
call(libc.mmap, 0, BIG, RW, ANON, 2**64 - 1, 0)
reserved = libc.mmap(None, ctypes.c_size_t(BIG), 0, ANON, -1, ctypes.c_size_t(0))
call(libc.mprotect, reserved, BIG, RW)
small = libc.mmap(None, ctypes.c_size_t(4096), RW, ANON, -1, ctypes.c_size_t(0))
call(libc.mremap, small, 4096, BIG, 1)
before = libc.sbrk(0)
libc.brk(ctypes.c_void_p(before + BIG))
print("same" if libc.sbrk(0) == before else "moved")
try:
    with open("/tmp/big", "wb", buffering=0) as file:
        while True: file.write(bytes(1 << 20))
except OSError as error:
    os.unlink("/tmp/big")
    print(errno.errorcode[error.errno])
"""


class Limits(Reports):
    def test_each_is_kept_and_reported(self):
        for name, (options, command, status, error, target, raise_with) in LIMITS.items():
            with self.subTest(limit=name):
                with tempfile.TemporaryDirectory() as folder:
                    os.chmod(folder, 0o755)
                    done = Done(*options, *command, cwd=folder, errors="replace")
                self.assertEqual(done.status, status, done.text)
                verdict = "killed" if error is None or status == 137 else "denied"
                record = self.the_one(done, f"limit.{name}", verdict=verdict)
                self.assertEqual((record["errno"], record["target"], record["allow"]), (error, target, raise_with))
                self.assertEqual(record["command"], os.path.basename(command[0]))

    def test_memory_that_a_call_could_not_have(self):
        done = Done("-m", "64M", "python3", "-c", REFUSED_MEMORY)
        self.assertEqual(done.output.split(), ["ENOMEM"] * 3 + ["same", "ENOSPC"], done.text)
        record = self.the_one(done, "limit.memory")
        self.check(record, syscall="mmap", errno="ENOMEM", verdict="denied", target=str(64 << 20), count=5, command="python3")
        self.assertEqual(record["allow"], "--memory SIZE")

    def test_what_names_need_is_of_the_memory(self):
        script = "import os\nfor i in range(10**6): os.symlink('x' * 4000, f'/tmp/{i}')"
        done = Done("-m", "64M", "python3", "-c", script)
        self.assertEqual(done.status, 1, done.text)
        self.check(self.the_one(done, "limit.memory"), syscall="symlink", errno="ENOSPC", target=str(64 << 20), command="python3")

    def test_shared_memory_is_a_tmpfs(self):
        done = Done("--tmp-size", "1M", "sh", "-c", "head -c 3M /dev/zero > /dev/shm/x; head -c 500k /dev/zero > /tmp/x")
        self.assertEqual(done.status, 0, done.text)
        self.check(self.the_one(done, "limit.tmp_size"), errno="ENOSPC", target="1048576", command="head", count=1)

    def test_a_full_overlay_mapped_is_a_bus_error(self):
        script = "import mmap, os\nf = os.open('x', os.O_RDWR | os.O_CREAT)\nos.ftruncate(f, 4 << 20)\nm = mmap.mmap(f, 0)\nm[:] = bytes(4 << 20)"
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            self.assertEqual(Done("--overlay-size", "1M", "python3", "-c", script, cwd=folder).status, 135)

    def test_a_limit_of_the_programs_own_is_not_the_sandboxs(self):
        done = Done("sh", "-c", "ulimit -n 20; python3 -c \"$1\"", "sh", OPEN_MANY)
        self.assertEqual((done.status, done.of_kind("limit.open_files")), (1, []))
        done = Done("sh", "-c", "echo x > /dev/full")
        self.assertEqual(done.violations, [])


class Status(Reports):
    def event(self, *words, **settings):
        done = Done(*words, **settings)
        self.assertEqual(done.event["event"], "exit")
        return done.event["source"], done.event["code"], done.status

    def test_who_decided(self):
        self.assertEqual(self.event("sh", "-c", "exit 125"), ("target", 125, 125))
        self.assertEqual(self.event("sh", "-c", "kill -9 $$"), ("target", 137, 137))
        self.assertEqual(self.event("-t", "200ms", "sleep", "1000"), ("timeout", 124, 124))
        self.assertEqual(self.event("--fail-on", "medium", "sh", "-c", "! cat /etc/shadow"), ("policy", 122, 122))
        self.assertEqual(self.event("--fail-on", "medium", "--violation-exit-code", "9", "sh", "-c", "! cat /etc/shadow"), ("policy", 9, 9))
        self.assertEqual(self.event("--fail-on", "medium", "cat", "/etc/shadow"), ("target", 1, 1))
        self.assertEqual(self.event("--fail-on", "high", "sh", "-c", "! cat /etc/shadow"), ("target", 0, 0))

    def test_a_start_that_fails(self):
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as profile:
            profile.write("schema = 2\n")
            profile.flush()
            for words, status in (
                (["/no/such/command"], 127),
                (["/etc/passwd"], 126),
                (["--ro", "/no/such:/x", "true"], 125),
                (["--report", "json=/no/such/report", "true"], 125),
                (["--deny-syscall", "no_such_call", "true"], 125),
                (["-p", profile.name, "true"], 125),
                (["--memory", "much", "true"], 125),
                (["--memroy", "1G", "true"], 125),
                ([], 125),
            ):
                with self.subTest(words=words):
                    read_end, write_end = os.pipe()
                    command = [BOXRUN, "--status-fd", str(write_end), *words]
                    done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=BOUND, pass_fds=[write_end])
                    os.close(write_end)
                    with os.fdopen(read_end) as pipe:
                        self.assertEqual(pipe.read(), f'{{"event":"exit","source":"boxrun","code":{status}}}\n')
                    self.assertEqual(done.returncode, status)

    def test_a_command_that_the_loader_refuses(self):
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            path = pathlib.Path(folder, "broken")
            path.write_bytes(b"\x7fELF" + bytes(60))
            path.chmod(0o755)
            self.assertEqual(self.event("./broken", cwd=folder), ("boxrun", 126, 126))
            path = pathlib.Path(folder, "orphan")
            path.write_text("#!/no/such/interpreter\n")
            path.chmod(0o755)
            self.assertEqual(self.event("./orphan", cwd=folder), ("boxrun", 127, 127))


class Hello(Reports):
    def test_its_work_is_done_and_its_attempts_are_reported(self):
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            script = pathlib.Path(folder, "hello.py")
            script.write_text(HELLO.read_text())
            done = Done("python3", "hello.py", cwd=folder)
            native = subprocess.run(["python3", "hello.py"], cwd=folder, capture_output=True, text=True, timeout=BOUND, check=True)
        self.assertEqual(done.status, 0, done.text)
        self.assertEqual(done.output.splitlines()[:3], native.stdout.splitlines()[:3])
        self.assertIn("read /etc/shadow: ENOENT", done.output)
        self.assertIn("connect to 203.0.113.9:443: ENETUNREACH", done.output)
        self.assertIn("call bpf(2): EPERM", done.output)
        self.check(self.the_one(done, "file.read"), target="/etc/shadow", detail="hidden", command="python3")
        self.check(self.the_one(done, "net.connect"), target="203.0.113.9:443", syscall="connect", errno="ENETUNREACH", command="python3")
        self.check(self.the_one(done, "syscall.deny"), syscall="bpf", errno="EPERM", command="python3")


class BadInput(unittest.TestCase):
    def refused(self, message, *words):
        done = subprocess.run([BOXRUN, *words, "true"], cwd="/", capture_output=True, text=True, timeout=BOUND)
        self.assertEqual((done.returncode, done.stdout), (125, ""), done.stderr)
        self.assertIn(message, done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)

    def test_mount_sources_that_cannot_be(self):
        self.refused("/no/such/source", "--ro", "/no/such/source:/data")
        self.refused("/proc", "--ro", "/proc:/data")
        self.refused("/sys", "--ro", "/sys:/data")
        self.refused("/proc/self/fd", "--rw", "/proc/self/fd:/data")

    def full_disk(self, path):
        read_end, write_end = os.pipe()
        command = [BOXRUN, "--report", f"json={path}", "--report-on", "always", "--status-fd", str(write_end), "true"]
        done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=BOUND, pass_fds=[write_end])
        os.close(write_end)
        with os.fdopen(read_end) as pipe:
            self.assertEqual(json.loads(pipe.read()), {"event": "exit", "source": "boxrun", "code": 125})
        self.assertEqual(done.returncode, 125)
        self.assertIn(f"the report to '{path}' is incomplete", done.stderr)
        self.assertIn("No space left on device", done.stderr)

    def test_a_full_disk(self):
        self.full_disk("/dev/full")

    @unittest.skipUnless(os.geteuid() == 0, "mounting a file system takes root")
    def test_a_small_disk_that_is_full(self):
        with tempfile.TemporaryDirectory() as folder:
            mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", folder], capture_output=True)
            if mounted.returncode != 0:
                self.skipTest("this root may not mount")
            try:
                pathlib.Path(folder, "filling").write_bytes(bytes(4096))
                self.full_disk(f"{folder}/report.json")
            finally:
                subprocess.run(["umount", folder], check=True)

    def test_a_closed_stdout(self):
        done = subprocess.run(["sh", "-c", '"$0" --report json echo hello >&-', BOXRUN], cwd="/", capture_output=True, text=True, timeout=BOUND)
        self.assertEqual((done.returncode, done.stdout), (1, ""))


class Trace(unittest.TestCase):
    def test_calls_and_results(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "trace")
            command = [BOXRUN, "--trace", "--trace-file", str(path), "cat", "/etc/hostname", "/no/such"]
            subprocess.run(command, cwd="/", capture_output=True, timeout=BOUND)
            lines = path.read_text()
        self.assertRegex(lines, r'(?m)^\[2\] openat\(AT_FDCWD, "/etc/hostname", .*\) = 0x[0-9a-f]+$')
        self.assertRegex(lines, r'(?m)^\[2\] openat\(AT_FDCWD, "/no/such", .*\) = ENOENT$')

    def test_lines_that_are_lost(self):
        full = "not all of it could be written: No space left on device\n"
        with open("/dev/full", "w") as device:
            fd = device.fileno()
            for command, status in (("true", 125), ("exit 3", 3)):
                for options, said in ((["--trace-file", "/dev/full"], f"boxrun: --trace-file /dev/full: {full}"),
                                      (["--status-fd", str(fd)], f"boxrun: --status-fd {fd}: {full}")):
                    with self.subTest(options=options, command=command):
                        done = subprocess.run([BOXRUN, *options, "sh", "-c", command], cwd="/", capture_output=True, text=True,
                                              timeout=BOUND, pass_fds=[fd])
                        self.assertEqual((done.returncode, done.stderr), (status, said))
            done = subprocess.run([BOXRUN, "--status-fd", str(fd), "no-such-command"], cwd="/", capture_output=True, text=True,
                                  timeout=BOUND, pass_fds=[fd])
            self.assertEqual(done.returncode, 127)
            self.assertIn(f"boxrun: --status-fd {fd}: {full}", done.stderr)

    def test_the_status_line_says_that_the_trace_is_lost(self):
        done = Done("--trace-file", "/dev/full", "true")
        self.assertEqual((done.status, done.event), (125, {"event": "exit", "source": "boxrun", "code": 125}))


class Statistics(unittest.TestCase):
    CALLS = "import os\nfor i in range(20000): os.getppid()\nopen('/usr/bin/env', 'rb').read(1)"

    def statistics(self, platform):
        done = subprocess.run([BOXRUN, "--platform", platform, "--report-on", "never", "--stats", "python3", "-c", self.CALLS], cwd="/",
                              capture_output=True, text=True, timeout=BOUND, check=True)
        lines = done.stderr.splitlines()
        self.assertEqual(lines[0], "boxrun: statistics")
        return {line[:-13].strip(): int(line[-13:]) for line in lines[1:]}

    def test_calls_are_counted(self):
        for platform in ("systrap", "ptrace"):
            with self.subTest(platform=platform):
                counts = self.statistics(platform)
                calls = sum(value for name, value in counts.items() if name.startswith("calls below") or name == "calls of 1 ms or more")
                self.assertGreater(calls, 20000)
                self.assertLess(calls, 30000)
                self.assertGreater(counts["round trips to the gofer"], 0)
                if platform == "systrap":
                    self.assertGreater(counts["calls patched"], 19000)
                    # What a context counted last is there, too: it has ended.
                    self.assertAlmostEqual(counts["calls trapped"] + counts["calls patched"], calls, delta=50)


if __name__ == "__main__":
    os.environ["PATH"] = "/usr/bin:/bin"
    BOXRUN = os.path.abspath(sys.argv.pop(1))
    unittest.main()
