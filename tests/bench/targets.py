"""What a workload can run in, and whether it works on this host."""
import os
import shutil
import signal
import subprocess

# Long enough for the slowest row of the slowest target, in seconds; never a measure of success.
TIMEOUT = 180


class Target:
    """One way to run a command. `prefix(cwd)` is what stands before it; `rows` names the only rows it is for (all of them if None)."""

    def __init__(self, name, program, prefix, rows=None):
        self.name = name
        self.program = program
        self.prefix = prefix
        self.rows = rows

    def command(self, words, cwd):
        return self.prefix(cwd) + words

    def run(self, words, cwd):
        """The finished process; its output is text. OSError if it cannot be started, TimeoutExpired if it does not end."""
        with self.start(words, cwd) as process:
            try:
                out, err = process.communicate(timeout=TIMEOUT)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise
            return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def start(self, words, cwd):
        return subprocess.Popen(self.command(words, cwd), cwd=cwd, env=environment(), stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)

    @staticmethod
    def end(process):
        """Ends a command that waits for the end of its input, by force if it does not listen."""
        process.stdin.close()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)

    def why_not(self, cwd):
        """Why this target cannot be measured here; None if it can."""
        if self.program is not None and shutil.which(self.program) is None:
            return f"{self.program} is not on PATH"
        try:
            done = self.run(["/bin/echo", "works"], cwd)
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        if done.returncode == 0 and done.stdout == "works\n":
            return None
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        return f"`echo works` ended with status {done.returncode}: {said}"


def environment():
    return {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/tmp", "LANG": "C.UTF-8", "TZ": "UTC"}


def boxrun(path, platform, workloads):
    words = [path, "--platform", platform, "--report-on", "never", "--ro", workloads, "--"]
    return Target(f"boxrun {platform}", path, lambda cwd: words)


def runsc(platform):
    # The host's root read-only below an overlay in memory, as `boxrun` has it; needs neither network nor image.
    rootless = [] if os.geteuid() == 0 else ["--rootless"]
    words = ["runsc", *rootless, "--network=none", "--ignore-cgroups", f"--platform={platform}", "do"]
    return Target(f"runsc {platform}", "runsc", lambda cwd: words + [f"--cwd={cwd}"])


def bwrap():
    words = ["bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"]
    return Target("bwrap", "bwrap", lambda cwd: words, rows=("start", "python-pass", "python-imports"))


def all_targets(boxrun_path, workloads):
    """Native first: everything is a ratio to it."""
    return [Target("native", None, lambda cwd: []), boxrun(boxrun_path, "systrap", workloads),
            boxrun(boxrun_path, "ptrace", workloads), runsc("ptrace"), runsc("systrap"), bwrap()]
