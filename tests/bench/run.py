#!/usr/bin/env python3
"""Runs the same workloads natively, under boxrun and under its peers, and prints ratios to native of one run.

  run.py [--quick | --rounds N] [--json FILE] [--target NAME]... [ROW...]

ROW: only the rows whose names contain one of these words. README.md says what the rows are.
"""
import argparse
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import page
import rows as bench_rows
import targets as bench_targets

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
RELEASE = ROOT / "build" / "release"


def host():
    """What the figures were taken on: no name, no path."""
    cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo", encoding="utf-8") if line.startswith("model name")), "?")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    return {"kernel": platform.release(), "cpu": cpu, "cpus": os.cpu_count(), "load": os.getloadavg()[0], "commit": commit,
            "date": time.strftime("%Y-%m-%d", time.gmtime())}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("row", nargs="*")
    parser.add_argument("--rounds", type=int, default=5, help="how often each row is run in each target (5)")
    parser.add_argument("--quick", action="store_true", help="3 rounds")
    parser.add_argument("--target", action="append", help="only native and targets whose names contain this")
    parser.add_argument("--json", type=pathlib.Path, help="write every sample to this file")
    parser.add_argument("--page", type=pathlib.Path, help="write the table to PERFORMANCE.md and PERFORMANCE.svg in this folder")
    parser.add_argument("--boxrun", default=str(RELEASE / "src/cli/boxrun"))
    parser.add_argument("--workload", default=str(RELEASE / "tests/bench/bench_workload"))
    return parser.parse_args()


class Directory:
    """An empty working directory whose path is the same length for every run; gone afterwards."""

    def __enter__(self):
        self.path = tempfile.mkdtemp(prefix="boxrun-bench-")
        return self.path

    def __exit__(self, *_):
        shutil.rmtree(self.path, ignore_errors=True)


def usable(chosen):
    """The targets that work here; says why others do not."""
    found = []
    for target in chosen:
        with Directory() as cwd:
            reason = target.why_not(cwd)
        if reason is None:
            found.append(target)
        else:
            print(f"NOT MEASURED: {target.name}: {reason}", file=sys.stderr)
    return found


def measure(row, chosen, rounds, workload):
    """{target name: samples or the reason of the first failure}. Rounds are interleaved and begin with another target each time."""
    wanted = [target for target in chosen if target.rows is None or row.name in target.rows]
    results = {target.name: [] for target in wanted}
    for number in range(rounds):
        for i in range(len(wanted)):
            target = wanted[(i + number) % len(wanted)]
            if isinstance(results[target.name], str):
                continue
            try:
                with Directory() as cwd:
                    results[target.name].append(row.measure(target, cwd, workload))
            except bench_rows.Failed as failure:
                results[target.name] = str(failure)
                print(f"FAILED: {row.name} in {target.name}: {failure}", file=sys.stderr)
    return results


def summary(row, results):
    native = results.get("native")
    base = statistics.median(native) if isinstance(native, list) and native else None
    columns = {}
    for name, samples in results.items():
        if isinstance(samples, str):
            columns[name] = {"failed": samples}
        else:
            median = statistics.median(samples)
            columns[name] = {"median": median, "samples": samples, "ratio": median / base if base else None}
    return {"row": row.name, "unit": row.unit, "targets": columns}


def quantity(value, unit):
    if unit == "KiB":
        return f"{value / 1024:.1f} MiB"
    for size, name in ((1e9, "s"), (1e6, "ms"), (1e3, "us")):
        if value >= size:
            return f"{value / size:.3g} {name}"
    return f"{value:.0f} ns"


def cell(line, name):
    column = line["targets"].get(name)
    if column is None:
        return "-"
    if "failed" in column:
        return "FAILED"
    if name == "native" or line["unit"] == "KiB":
        return quantity(column["median"], line["unit"])
    return f"{column['ratio']:.2f}x" if column["ratio"] is not None else "?"


def print_line(line, names):
    print(f"{line['row']:<16}" + "".join(f"{cell(line, name):>16}" for name in names), flush=True)


def median_of(line, name):
    return line["targets"].get(name, {}).get("median")


def compare(lines, ours, theirs):
    """On how many rows ours needs less than theirs; a statement, not an assertion."""
    pairs = [(line["row"], median_of(line, ours), median_of(line, theirs)) for line in lines]
    pairs = [(row, a / b) for row, a, b in pairs if a and b]
    if not pairs:
        return
    behind = [f"{row} {ratio:.2f}x" for row, ratio in pairs if ratio > 1]
    print(f"{ours} needs less than {theirs} on {len(pairs) - len(behind)} of {len(pairs)} rows"
          + (f"; not on: {', '.join(behind)}" if behind else ""))


def conclude(lines):
    compare(lines, "boxrun ptrace", "runsc ptrace")
    compare(lines, "boxrun systrap", "runsc systrap")
    for line in lines:
        ours, bwrap = median_of(line, "boxrun systrap"), median_of(line, "bwrap")
        if ours and bwrap:
            print(f"{line['row']}: boxrun systrap takes {ours / bwrap:.2f}x bwrap")


def main():
    options = arguments()
    rounds = 3 if options.quick else options.rounds
    for program in (options.boxrun, options.workload):
        if not os.access(program, os.X_OK):
            sys.exit(f"bench: {program} is not built; ./dev bench builds it")
    chosen = bench_targets.all_targets(options.boxrun, os.path.dirname(options.workload))
    if options.target:
        chosen = [t for t in chosen if t.name == "native" or any(word in t.name for word in options.target)]
    chosen = usable(chosen)
    wanted = [row for row in bench_rows.all_rows() if not options.row or any(word in row.name for word in options.row)]
    if not wanted:
        sys.exit(f"bench: no row is named like {' or '.join(options.row)}")
    names = [target.name for target in chosen]
    print(f"{platform.release()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}; medians of {rounds} rounds; ratios to native")
    print(f"{'':<16}" + "".join(f"{name:>16}" for name in names), flush=True)
    lines = []
    for row in wanted:
        missing = bench_rows.missing_for(row)
        if missing is not None:
            print(f"NOT MEASURED: {row.name}: {missing}", file=sys.stderr)
            continue
        lines.append(summary(row, measure(row, chosen, rounds, options.workload)))
        print_line(lines[-1], names)
    conclude(lines)
    result = {"v": 1, "host": host(), "rounds": rounds, "rows": lines}
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    if options.page is not None:
        page.write(options.page, result, [[cell(line, name) for name in names] for line in lines], names)
    return 1 if any("failed" in column for line in lines for column in line["targets"].values()) else 0


if __name__ == "__main__":
    sys.exit(main())
