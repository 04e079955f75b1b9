#!/usr/bin/env python3
"""Runs real programs natively and under boxrun and compares status and output.

  run.py --native [FILTER...]                        check that the cases themselves are deterministic
  run.py --boxrun PATH [--platform ptrace] [--as root|user|restricted] [FILTER...]

A case is a script in cases/ (.sh for bash, .py, .pl). It is copied into an empty working directory, whose path is the same
for both runs, and executed there. Comments in its head say what it needs: `# needs: git gcc`, `# timeout: 300` (seconds),
`# status: 5` (which it exits with, if not 0).
"""
import argparse
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SKIPPED = 77
ORDINARY_UID = 1000
INTERPRETERS = {".sh": "bash", ".py": "python3", ".pl": "perl"}


class Case:
    def __init__(self, path):
        self.path = path
        self.name = path.stem
        head = path.read_text()[:500]
        needs = re.search(r"^# needs: (.*)$", head, re.M)
        self.needs = needs.group(1).split() if needs else []
        timeout = re.search(r"^# timeout: (\d+)$", head, re.M)
        self.timeout = int(timeout.group(1)) if timeout else 60
        status = re.search(r"^# status: (\d+)$", head, re.M)
        self.status = int(status.group(1)) if status else 0

    def missing(self):
        return [tool for tool in self.needs + [INTERPRETERS[self.path.suffix]] if shutil.which(tool) is None]


class Runner:
    def __init__(self, options):
        self.options = options
        self.as_user = options.identity == "user" and os.getuid() == 0

    def command(self, case, native):
        words = []
        if self.options.identity == "restricted":
            words.append(str(self.options.fixtures / "restricted"))
        if not native:
            words += [self.options.boxrun, "--platform", self.options.platform, "--report-on", "never"] + self.options.boxrun_option + ["--"]
        return words + [INTERPRETERS[case.path.suffix], case.path.name]

    def run(self, case, base, native):
        work = os.path.join(base, "work")
        shutil.rmtree(work, ignore_errors=True)
        os.mkdir(work)
        shutil.copy(case.path, work)
        ids = {}
        if self.as_user:
            for path in (base, work, os.path.join(work, case.path.name)):
                os.chown(path, ORDINARY_UID, ORDINARY_UID)
            ids = {"user": ORDINARY_UID, "group": ORDINARY_UID, "extra_groups": []}
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": work, "LANG": "C.UTF-8", "TZ": "UTC"}
        process = subprocess.Popen(self.command(case, native), cwd=work, env=environment, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, **ids)
        try:
            out, err = process.communicate(timeout=case.timeout * (1 if native else 3))
            status = process.returncode if process.returncode >= 0 else 128 - process.returncode
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            status = "timeout"
        return {"status": status, "stdout": out, "stderr": err}

    def judge(self, case):
        missing = case.missing()
        if missing:
            return "skip", "missing: " + " ".join(missing)
        base = tempfile.mkdtemp(prefix="boxrun-app-")
        try:
            first = self.run(case, base, native=True)
            if first["status"] != case.status:
                return "fail", f"  native status {first['status']}, expected {case.status}: {first['stderr'][-500:]}"
            second = self.run(case, base, native=self.options.native)
        finally:
            subprocess.run(["chmod", "-R", "u+rwX", base], stderr=subprocess.DEVNULL, check=False)
            shutil.rmtree(base, ignore_errors=True)
        if self.options.native and first["stderr"] and not self.options.quiet:
            sys.stdout.write(first["stderr"].decode(errors="replace"))
        wrong = [difference(field, first[field], second[field]) for field in first if first[field] != second[field]]
        return ("fail", "\n".join(wrong)) if wrong else ("pass", f"(status {first['status']})")


def difference(field, native, inside):
    if not isinstance(native, bytes):
        return f"  {field}: native {native}, inside {inside}"
    mine, theirs = native.decode(errors="replace").splitlines(), inside.decode(errors="replace").splitlines()
    for number, (a, b) in enumerate(zip(mine + [None] * len(theirs), theirs + [None] * len(mine)), 1):
        if a != b:
            rest = "\n".join(f"      then {line[:300]}" for line in theirs[number:number + 5])
            return f"  {field} line {number}: native {str(a)[:300]!r}\n      inside {str(b)[:300]!r}\n{rest}"
    return f"  {field} differs"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("filter", nargs="*")
    parser.add_argument("--native", action="store_true", help="run each case twice natively")
    parser.add_argument("--boxrun")
    parser.add_argument("--platform", default="ptrace")
    parser.add_argument("--as", dest="identity", choices=["self", "root", "user", "restricted"], default="self")
    parser.add_argument("--fixtures", type=pathlib.Path, default=ROOT / "build" / "dev" / "tests" / "fixtures")
    parser.add_argument("--boxrun-option", action="append", default=[])
    parser.add_argument("--exact", action="store_true", help="filters are whole names")
    parser.add_argument("--quiet", action="store_true", help="only failures and the closing line")
    options = parser.parse_args()
    options.boxrun = options.boxrun and os.path.abspath(options.boxrun)
    if not options.native and not options.boxrun:
        parser.error("--native or --boxrun PATH")
    if options.identity == "root" and os.getuid() != 0:
        print("skip: not root")
        return SKIPPED
    if options.identity == "restricted" and not (options.fixtures / "restricted").exists():
        print(f"skip: {options.fixtures / 'restricted'} is not built")
        return SKIPPED

    cases = [Case(path) for path in sorted((HERE / "cases").iterdir()) if path.suffix in INTERPRETERS]
    if options.filter:
        cases = [c for c in cases if any(f == c.name if options.exact else f in c.name for f in options.filter)]
    if not cases:
        parser.error("nothing matches the filter")
    runner = Runner(options)
    count = {"pass": 0, "fail": 0, "skip": 0}
    for case in cases:
        verdict, detail = runner.judge(case)
        count[verdict] += 1
        if verdict != "pass" or not options.quiet:
            separator = "\n" if "\n" in detail or detail.startswith("  ") else "  "
            print(f"{verdict.upper():5} {case.name}{separator}{detail}", flush=True)
    print(f"{count['pass']} passed, {count['fail']} failed, {count['skip']} skipped")
    if count["fail"]:
        return 1
    return SKIPPED if not count["pass"] else 0


if __name__ == "__main__":
    sys.exit(main())
