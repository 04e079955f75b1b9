#!/usr/bin/env python3
"""layering.py [--self-test]: who may include whom, how long files may be, which targets may link.

The rules are the folder list of the design: lower layers know nothing of upper ones, the Gofer's
server half is never seen by the Sentry, heavy third-party headers stay out of our headers.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Modules inside the Sentry, lowest first; those of one row may include each other, without cycles.
SENTRY = [
    ["wait", "time", "cred"],
    ["mm"],
    ["vfs"],
    ["fs", "net"],
    ["kernel"],
    ["loader", "policy", "trace", "syscalls"],
    ["boot"],
]
SENTRY_RANK = {f"sentry/{name}": rank for rank, row in enumerate(SENTRY) for name in row}

BASE = {"src/base"}
ABI = BASE | {"src/abi"}
BELOW_SENTRY = ABI | {"src/host", "src/report", "platforms", "gofer/client"}
ALLOWED = {
    "src/base": set(),
    "src/abi": BASE,
    "src/host": ABI,
    "src/report": ABI,
    "src/profile": ABI | {"src/report"},
    "platforms": ABI | {"src/host"},  # the filters that stubs run under
    "gofer/client": ABI,
    "gofer/server": ABI | {"src/host", "gofer/client"},
    "src/cli": ABI | {"src/host", "src/report", "src/profile", "platforms", "gofer/client", "gofer/server"} | set(SENTRY_RANK),
}
for _name, _rank in SENTRY_RANK.items():
    ALLOWED[_name] = BELOW_SENTRY | {n for n, r in SENTRY_RANK.items() if r <= _rank and n != _name}

HEAVY = re.compile(r"(fmt/(format|ranges|chrono|std|color)\.h|toml\+\+/|CLI/|nlohmann/|doctest/)")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)
MAX_LINES = {".cpp": 500, ".h": 250}


def module(path):
    """The layer a source file belongs to; None for what has no rules (tests)."""
    parts = path.split("/")
    if parts[0] == "src":
        return "/".join(parts[:2])
    if parts[0] == "platforms":
        return "platforms"
    if parts[0] == "gofer":
        stem = parts[-1].split(".")[0]
        return "gofer/client" if re.match(r"(protocol|channel|client)", stem) else "gofer/server"
    if parts[0] == "sentry":
        return f"sentry/{parts[1]}" if len(parts) > 2 else "sentry/boot"
    return None


def check_includes(files):
    problems, edges = [], {}
    for path, text in files.items():
        mine = module(path)
        for kind, name in INCLUDE.findall(text):
            if path.endswith(".h") and kind == "<" and HEAVY.match(name) and mine:
                problems.append(f"{path}: heavy header <{name}> in a header")
            theirs = module(name) if kind == '"' else None
            if mine is None or theirs is None or mine == theirs:
                continue
            if mine not in ALLOWED or theirs not in ALLOWED:
                problems.append(f"{path}: {mine} or {theirs} is no folder of the design")
            elif theirs not in ALLOWED[mine]:
                problems.append(f'{path}: {mine} must not include "{name}"')
            else:
                edges.setdefault(mine, {}).setdefault(theirs, path)
    return problems + check_cycles(edges)


def check_cycles(edges):
    problems, done = [], set()

    def visit(node, trail):
        if node in trail:
            cycle = trail[trail.index(node) :] + [node]
            files = ", ".join(edges[a][b] for a, b in zip(cycle, cycle[1:]))
            problems.append(f"cycle {' -> '.join(cycle)} (by {files})")
            return
        if node in done:
            return
        for below in sorted(edges.get(node, {})):
            visit(below, trail + [node])
        done.add(node)

    for start in sorted(edges):
        visit(start, [])
    return problems


def check_sizes(files):
    problems = []
    for path, text in files.items():
        limit = MAX_LINES.get(pathlib.PurePath(path).suffix)
        lines = text.count("\n")
        if limit and lines > limit:
            problems.append(f"{path}: {lines} lines, at most {limit} are allowed: split it by idea")
    return problems


def parse_targets(lists):
    """{target: (modules of its sources, targets it links)} from the texts of the CMakeLists.txt files."""
    targets = {}
    for path, text in lists.items():
        folder = str(pathlib.PurePath(path).parent)
        text = re.sub(r"#[^\n]*", "", text)
        for name, body in re.findall(r"add_(?:library|executable)\(\s*(\w+)([^)]*)\)", text):
            sources = [w for w in body.split() if re.search(r"\.(cpp|S)$", w)]
            found = {module(str(pathlib.PurePath(folder, s))) for s in sources} - {None}
            if not sources and "INTERFACE" in body:
                found = {module(f"{folder}/x.h")} - {None}
            targets[name] = (found, set())
    for path, text in lists.items():
        folder = str(pathlib.PurePath(path).parent)
        text = re.sub(r"#[^\n]*", "", text)
        for name, body in re.findall(r"target_sources\(\s*(\w+)([^)]*)\)", text):
            sources = [w for w in body.split() if re.search(r"\.(cpp|S)$", w)]
            if name in targets:
                targets[name][0].update({module(str(pathlib.PurePath(folder, s))) for s in sources} - {None})
        for name, body in re.findall(r"target_link_libraries\(\s*(\w+)([^)]*)\)", text):
            if name in targets:
                targets[name][1].update(body.split())
    return targets


def check_links(lists):
    problems = []
    targets = parse_targets(lists)
    for name, (mine, links) in targets.items():
        for link in sorted(links & set(targets)):
            for theirs in sorted(targets[link][0] - mine):
                if mine and not any(theirs in ALLOWED.get(m, set()) for m in mine):
                    problems.append(f"target {name} ({', '.join(sorted(mine))}) must not link {link} ({theirs})")
    return problems


def check(files, lists):
    return check_includes(files) + check_sizes(files) + check_links(lists)


def project_files(*patterns):
    # Also files that are not committed yet, so that the check is useful before a commit.
    command = ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", *patterns]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")
    return {n: (ROOT / n).read_text() for n in names if n and (ROOT / n).exists()}


def self_test():
    def problems(files, lists=None):
        return check(files, lists or {})

    good = {
        "src/abi/linux.h": '#include "src/base/errno.h"\n#include <fmt/core.h>\n',
        "sentry/mm/fault.cpp": '#include "sentry/wait/sleeper.h"\n#include "platforms/platform.h"\n#include <fmt/format.h>\n',
        "sentry/syscalls/io.cpp": '#include "sentry/policy/policy.h"\n',
        "src/cli/launch.cpp": '#include "gofer/server.h"\n#include "src/profile/profile.h"\n',
        "tests/unit/x_test.cpp": '#include "sentry/boot.h"\n#include "gofer/tree.h"\n',
    }
    assert problems(good) == [], problems(good)
    bad = [
        ("src/base/x.h", "src/abi/linux.h"),
        ("src/report/x.cpp", "src/profile/profile.h"),
        ("sentry/fs/p9.cpp", "src/profile/profile.h"),
        ("platforms/fake/fake.cpp", "sentry/mm/memory_file.h"),
        ("platforms/ptrace/stub.cpp", "gofer/client.h"),
        ("sentry/fs/p9.cpp", "gofer/server.h"),
        ("sentry/boot.cpp", "gofer/tree.h"),
        ("gofer/client.cpp", "gofer/tree.h"),
        ("gofer/server.cpp", "sentry/vfs/inode.h"),
        ("sentry/mm/fault.cpp", "sentry/vfs/inode.h"),
        ("sentry/kernel/task.cpp", "sentry/syscalls/table.h"),
        ("sentry/vfs/walk.cpp", "sentry/nonsense/x.h"),
    ]
    for path, include in bad:
        assert len(problems({path: f'#include "{include}"\n'})) == 1, (path, include)
    assert problems({"sentry/mm/a.h": "#include <fmt/format.h>\n"})
    assert problems({"src/cli/a.h": "#include <CLI/CLI.hpp>\n"})
    cycle = {"sentry/fs/a.h": '#include "sentry/net/b.h"\n', "sentry/net/b.h": '#include "sentry/fs/a.h"\n'}
    assert len(problems(cycle)) == 1 and "cycle" in problems(cycle)[0]
    assert problems({"gofer/tree.cpp": "\n" * 501}) and not problems({"gofer/tree.cpp": "\n" * 500})
    assert problems({"gofer/tree.h": "\n" * 251})
    lists = {
        "gofer/CMakeLists.txt": "add_library(g_client STATIC client.cpp)\nadd_library(g_server STATIC tree.cpp)\n",
        "sentry/fs/CMakeLists.txt": "add_library(s_fs STATIC p9.cpp)\ntarget_link_libraries(s_fs PUBLIC g_client)\n",
    }
    assert problems({}, lists) == []
    lists["sentry/mm/CMakeLists.txt"] = "target_sources(s_fs PRIVATE fault.cpp)\n"
    assert problems({}, lists) == []
    lists["sentry/fs/CMakeLists.txt"] += "target_link_libraries(s_fs PRIVATE g_server)\n"
    assert len(problems({}, lists)) == 1
    print("layering self-test: ok")


def main():
    if sys.argv[1:] == ["--self-test"]:
        self_test()
        return 0
    problems = check(project_files("*.cpp", "*.h", "*.S"), project_files("*CMakeLists.txt"))
    for problem in problems:
        print(f"layering: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
