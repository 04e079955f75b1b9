#!/usr/bin/env python3
"""tidy.py BUILD_DIR JOBS [PATH_PREFIX...]: clang-tidy over the compile database of a clang build.

A file is checked again only when its preprocessed text, its flags, the configuration or clang-tidy
itself changed: the cache holds one empty file per hash that was clean.
"""

import concurrent.futures
import hashlib
import json
import os
import pathlib
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "boxrun" / "tidy"


def arguments(entry):
    args = shlex.split(entry["command"])
    if args[0].endswith("ccache"):
        args = args[1:]
    return args


def fingerprint(entry, salt):
    args = arguments(entry)
    if "-o" in args:
        at = args.index("-o")
        del args[at : at + 2]
    args = [a for a in args if a != "-c"] + ["-E", "-o", "-"]
    done = subprocess.run(args, cwd=entry["directory"], capture_output=True)
    if done.returncode != 0:
        return None
    # The line markers hold paths of this clone; the text and the flags are what matters.
    text = done.stdout.replace(str(ROOT).encode(), b"")
    flags = " ".join(args).replace(str(ROOT), "")
    return hashlib.sha256(salt + flags.encode() + text).hexdigest()


def check(entry, build, salt):
    """Returns (file, output of a failed check or None, was cached)."""
    name = os.path.relpath(entry["file"], ROOT)
    key = fingerprint(entry, salt)
    if key and (CACHE / key).exists():
        return name, None, True
    done = subprocess.run(["clang-tidy", "--quiet", "-p", build, entry["file"]], cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        return name, done.stdout.strip() or done.stderr.strip(), False
    if key:
        (CACHE / key).touch()
    return name, None, False


def is_ours(path, prefixes):
    return not path.startswith(("build/", "..")) and path.startswith(prefixes)


def main():
    build, jobs, prefixes = sys.argv[1], int(sys.argv[2]), tuple(sys.argv[3:]) or ("",)
    CACHE.mkdir(parents=True, exist_ok=True)
    version = subprocess.run(["clang-tidy", "--version"], capture_output=True).stdout
    salt = version + (ROOT / ".clang-tidy").read_bytes()
    entries = json.loads((ROOT / build / "compile_commands.json").read_text())
    entries = [e for e in entries if e["file"].endswith(".cpp") and is_ours(os.path.relpath(e["file"], ROOT), prefixes)]
    bad, cached = 0, 0
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for name, output, hit in pool.map(lambda e: check(e, build, salt), entries):
            cached += hit
            if output is not None:
                bad += 1
                print(f"-- {name}\n{output}", flush=True)
    print(f"tidy: {len(entries)} files, {cached} unchanged since they were clean, {bad} with findings")
    return 1 if bad else 0


sys.exit(main())
