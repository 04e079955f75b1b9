#!/usr/bin/env python3
"""Runs the guest programs natively and under boxrun and compares status, output and file effects.

  run.py --native [FILTER...]                          the specification checks itself on this kernel
  run.py --boxrun PATH --platform ptrace [FILTER...]   the same programs under boxrun, compared with the native run

A filter is a part of PROGRAM or PROGRAM:CASE. A program is run whole first; only where that differs, or where a case of it
is a known failure, it is run case by case, so that one crash does not hide the rest.
"""
import argparse
import concurrent.futures
import dataclasses
import hashlib
import os
import pathlib
import shutil
import signal
import stat
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SKIPPED = 77
ORDINARY_UID = 1000
OUTPUT_SHOWN = 4000

# How programs are run besides "no arguments, exit 0": arguments and the status the native run must have.
RUNS = {
    "hello_asm": [([], 42)],
    "hello_static": [([], 42)],
    "hello_static_pie": [([], 42)],
    "hello_dynamic": [([], 42), (["one", "two"], 42)],
    "exit_status": [
        ([], 0),
        (["--role", "code", "7"], 7),
        (["--role", "code", "255"], 255),
        (["--role", "code", "256"], 0),
        (["--role", "raw_exit", "9"], 9),
        (["--role", "unflushed"], 0),
        (["--role", "abort"], 128 + signal.SIGABRT),
        (["--role", "segv"], 128 + signal.SIGSEGV),
        (["--role", "signal", "15"], 128 + signal.SIGTERM),
        (["--role", "signal", "9"], 128 + signal.SIGKILL),
        (["--role", "signal", "13"], 128 + signal.SIGPIPE),
        (["--role", "signal", "40"], 128 + 40),
    ],
}

# What the host would answer these depends on its configuration; under boxrun they must exit 0 (boxrun_only/).
BOXRUN_ONLY = {"foreign_abi", "inet_unreachable", "stub_text"}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Everything of a run that must be equal."""
    status: object  # as a shell shows it: 128+N for signal N; "timeout"
    stdout: bytes
    stderr: bytes
    tree: tuple

    def differences(self, other):
        for field in dataclasses.fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if mine != theirs:
                yield field.name, mine, theirs


@dataclasses.dataclass
class Job:
    program: str
    args: list
    status: int
    case: str = ""

    @property
    def name(self):
        if self.case:
            return f"{self.program}:{self.case}"
        return " ".join([self.program] + [a for a in self.args if a != "--role"])

    @property
    def has_cases(self):
        return not self.args and not self.program.startswith("hello_")


def read_known_failures(path, mode, platform):
    """PROGRAM:CASE -> reason. The list only shrinks: a listed case that passes is an error. One that ends in `@` and a mode
    or a platform is listed for that alone."""
    known = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        line = line.split("#", 1)[0].strip()
        if not line:
            continue
        name, _, reason = line.partition(" ")
        if ":" not in name or not reason.strip():
            sys.exit(f"{path}:{number}: expected `program:case reason`")
        name, _, only = name.partition("@")
        if only not in ("", "rw", "overlay", "ptrace", "systrap"):
            sys.exit(f"{path}:{number}: there is no mode or platform '{only}'")
        if only in ("", mode, platform):
            known[name] = reason.strip()
    return known


def snapshot(directory):
    """Names, types, permissions and contents below directory. Times, owners and inode numbers are not compared."""
    entries = []
    for folder, names, files in os.walk(directory):
        for name in sorted(names + files):
            path = os.path.join(folder, name)
            info = os.lstat(path)
            kind = stat.S_IFMT(info.st_mode)
            what = ""
            if kind == stat.S_IFLNK:
                what = os.readlink(path)
            elif kind == stat.S_IFREG:
                with open(path, "rb") as file:
                    what = f"{info.st_size} {hashlib.sha256(file.read()).hexdigest()[:16]}"
            entries.append((os.path.relpath(path, directory), oct(info.st_mode), what))
    return tuple(sorted(entries))


class Runner:
    def __init__(self, options):
        self.options = options
        self.as_user = options.identity == "user" and os.getuid() == 0

    def prefix(self, work):
        """The words before the guest's own command line."""
        words = []
        if self.options.identity == "restricted":
            words.append(str(self.options.restricted))
        if self.options.native:
            return words
        words += [self.options.boxrun, "--platform", self.options.platform, "--report-on", "never"]
        if self.options.mode == "rw":
            words += ["--rw", work]
        # The build folder is no place that the default profile shows.
        words += ["--ro", str(self.options.guests), "--pass-env", "*"]
        return words + self.options.boxrun_option + ["--"]

    def run(self, job, native):
        base = tempfile.mkdtemp(prefix="boxrun-guest-")
        work = os.path.join(base, "work")
        os.mkdir(work)
        ids = {}
        if self.as_user:
            os.chmod(base, 0o755)
            os.chown(work, ORDINARY_UID, ORDINARY_UID)
            ids = {"user": ORDINARY_UID, "group": ORDINARY_UID, "extra_groups": []}
        command = [str(self.options.guests / job.program)] + job.args + ([job.case] if job.case else [])
        if not native or self.options.identity == "restricted":
            command = (self.prefix(work) if not native else self.prefix(work)[:1]) + command
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": work, "LANG": "C", "TZ": "UTC"}
        try:
            return self.finish(command, work, environment, ids, native)
        finally:
            subprocess.run(["chmod", "-R", "u+rwX", base], stderr=subprocess.DEVNULL, check=False)
            shutil.rmtree(base, ignore_errors=True)

    def finish(self, command, work, environment, ids, native):
        process = subprocess.Popen(command, cwd=work, env=environment, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, **ids)
        limit = self.options.timeout * (1 if native else 2)
        try:
            out, err = process.communicate(timeout=limit)
            status = process.returncode if process.returncode >= 0 else 128 - process.returncode
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            try:
                out, err = process.communicate(timeout=5)
            except subprocess.TimeoutExpired:
                out, err = b"", b"output held open by a process that survived"
            status = "timeout"
        tree = snapshot(work)
        if not native and self.options.mode == "overlay":
            # The host directory must be as it was; what the guest saw of its own changes is in its output.
            if tree:
                err += f"the overlay let {len(tree)} entries through, first {tree[0]}\n".encode()
            tree = ()
        elif self.options.mode == "overlay":
            tree = ()
        return Outcome(status, out, err, tree)

    def cases(self, job):
        listing = subprocess.run([str(self.options.guests / job.program), "--list"], stdout=subprocess.PIPE, check=True,
                                 timeout=20)
        return [dataclasses.replace(job, case=name) for name in listing.stdout.decode().split()]

    def judge(self, job):
        """None when the run is as it should be, else what is wrong; a native skip counts as its own outcome."""
        if job.program in BOXRUN_ONLY:
            inside = self.run(job, native=False)
            return ("pass", "") if inside.status == 0 else ("fail", f"status {inside.status}\n{shown(inside.stdout + inside.stderr)}")
        native = self.run(job, native=True)
        if native.status == SKIPPED:
            return "skip", native.stdout.decode(errors="replace").strip()
        if native.status != job.status:
            return "fail", f"native status {native.status}, expected {job.status}\n{shown(native.stdout + native.stderr)}"
        if self.options.native:
            return "pass", ""
        inside = self.run(job, native=False)
        wrong = [f"{field}:\n{shown_difference(mine, theirs)}" for field, mine, theirs in native.differences(inside)]
        return ("fail", "\n".join(wrong)) if wrong else ("pass", "")


def shown(data):
    lines = data.decode(errors="replace").splitlines()
    text = "\n".join(line for line in lines if not (line.startswith("case ") and line.endswith(" ok")))
    return text if len(text) <= OUTPUT_SHOWN else text[:OUTPUT_SHOWN] + f"... ({len(text)} characters)"


def shown_difference(native, inside):
    if isinstance(native, bytes):
        mine, theirs = native.decode(errors="replace").splitlines(), inside.decode(errors="replace").splitlines()
        extra = [f"    inside {line}" for line in theirs if line not in mine]
        missing = [f"    native {line}" for line in mine if line not in theirs]
        return shown("\n".join(missing[:20] + extra[:20]).encode()) or "    the same lines in another order or number"
    if isinstance(native, tuple):
        return "\n".join([f"    native {e}" for e in native if e not in inside][:20] +
                         [f"    inside {e}" for e in inside if e not in native][:20])
    return f"    native {native}\n    inside {inside}"


def examine(runner, job, known):
    """Runs a job and yields (name, verdict, detail), one per job or, where it matters, one per case."""
    listed = {name for name in known if name.split(":")[0] == job.program}
    if not job.has_cases:
        yield (job.name, *runner.judge(job))
        return
    whole = ""
    if not listed:
        verdict, whole = runner.judge(job)
        if verdict != "fail" or runner.options.native:
            yield job.name, verdict, whole
            return
    seen_failure = False
    for case in runner.cases(job):
        verdict, detail = runner.judge(case)
        if case.name in known and not runner.options.native:
            if verdict == "pass":
                verdict, detail = "fail", "passes although it is a known failure: take it off the list"
            elif verdict == "fail":
                verdict, detail = "known", known[case.name]
        seen_failure |= verdict == "fail"
        yield case.name, verdict, detail
    if not listed and not seen_failure:
        yield job.name, "fail", "differs when run whole, though each case passes alone:\n" + whole


def select(options):
    programs = sorted(entry.name for entry in options.guests.iterdir()
                      if entry.is_file() and "." not in entry.name and os.access(entry, os.X_OK)
                      and not (options.native and entry.name in BOXRUN_ONLY))
    jobs = [Job(name, args, status) for name in programs for args, status in RUNS.get(name, [([], 0)])]
    if options.exact:
        return [job for job in jobs if job.program in options.filter]
    chosen = []
    for job in jobs:
        wanted = [f for f in options.filter if f.partition(":")[0] in job.program]
        cases = [f for f in wanted if ":" in f]
        if cases and job.has_cases and len(cases) == len(wanted):
            runner = Runner(options)
            chosen += [case for case in runner.cases(job) if any(c.partition(":")[2] in case.case for c in cases)]
        elif wanted or not options.filter:
            chosen.append(job)
    return chosen


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("filter", nargs="*")
    parser.add_argument("--guests", type=pathlib.Path, default=ROOT / "build" / "dev" / "tests" / "guest")
    parser.add_argument("--native", action="store_true", help="only check the programs against this kernel")
    parser.add_argument("--boxrun", help="the executable under test")
    parser.add_argument("--platform", default="ptrace")
    parser.add_argument("--mode", choices=["overlay", "rw"], default="overlay",
                        help="the working directory is the default overlay, or written through and compared")
    parser.add_argument("--as", dest="identity", choices=["self", "root", "user", "restricted"], default="self")
    parser.add_argument("--boxrun-option", action="append", default=[], help="one more option for boxrun")
    parser.add_argument("--exact", action="store_true", help="filters are whole program names")
    parser.add_argument("--repeat", type=int, default=1, help="to hunt flakes")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=60)
    parser.add_argument("--quiet", action="store_true", help="only failures and the closing line")
    options = parser.parse_args()
    options.guests = options.guests.resolve()
    options.boxrun = options.boxrun and os.path.abspath(options.boxrun)
    if not options.native and not options.boxrun:
        parser.error("--native or --boxrun PATH")
    if options.identity == "root" and os.getuid() != 0:
        print("skip: not root")
        return SKIPPED
    options.restricted = options.guests.parent / "fixtures" / "restricted"
    if options.identity == "restricted" and not options.restricted.exists():
        print(f"skip: {options.restricted} is not built")
        return SKIPPED

    known = read_known_failures(HERE / "known_failures.txt", options.mode, options.platform)
    runner = Runner(options)
    jobs = select(options) * options.repeat
    if not jobs:
        parser.error("nothing matches the filter")
    count = {"pass": 0, "fail": 0, "skip": 0, "known": 0}
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for verdicts in pool.map(lambda job: list(examine(runner, job, known)), jobs):
            for name, verdict, detail in verdicts:
                count[verdict] += 1
                if verdict == "fail" or not options.quiet:
                    print(f"{verdict.upper():5} {name}" + (f"  {detail}" if detail else ""), flush=True)
    print(f"{count['pass']} passed, {count['fail']} failed, {count['skip']} skipped" +
          (f", {count['known']} known failures" if count["known"] else ""))
    return 1 if count["fail"] else 0


if __name__ == "__main__":
    sys.exit(main())
