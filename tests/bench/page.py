"""The page and the picture of one run of the benchmarks."""
import math

# Ratios to native that stand in DESIGN chapter 14 for systrap; None: no figure there.
BUDGETS = {
    "python-pass": "1.6", "python-imports": "1.5", "getppid": "1", "read-zero": "1.5", "pread-512": "1.5", "stat-usr": "1", "stat-cwd": "1",
    "open-usr": "1.5", "open-cwd": "1.5", "create": "0.5", "mmap-1m": "1", "fork": "3", "spawn": "3", "pipe-same-cpu": "4", "pipe-across": "1.5",
    "walk-cold": "2.5", "walk-warm": "1.2", "compile-j1": "1.3", "compile-j2": "1.5", "git": "2", "tree-copy": "1.6", "git-status": "1.6",
    "tar": "1.6", "compute-1": "1.02", "compute-2": "1.3", "compute-4": "1.02", "compute-8": "1.3", "start": "bwrap", "memory": "5 MiB",
}
COLORS = {"boxrun systrap": "#1f77b4", "boxrun ptrace": "#9ecae1", "runsc systrap": "#d62728", "runsc ptrace": "#ff9896", "bwrap": "#7f7f7f"}


def write(folder, result, cells, names):
    """`cells`: of each row, as run.py prints them."""
    host = result["host"]
    lines = ["# What boxrun costs", "",
             "Medians of interleaved rounds of one run; ratios to native, which is given as it is. Smaller is better. Figures of other machines",
             "or runs do not compare. `README.md` says what the rows are and how each is timed.", "",
             f"- machine: {host['cpu']}, {host['cpus']} CPUs, Linux {host['kernel']}; load {host['load']:.1f} at the end",
             f"- {host['date']}, commit {host['commit']}, {result['rounds']} rounds",
             "- again: `./dev bench --page tests/bench`", "",
             "![ratios to native](PERFORMANCE.svg)", "",
             "| row | budget | " + " | ".join(names) + " |", "|---|---|" + "---|" * len(names)]
    for line, row in zip(result["rows"], cells):
        lines.append(f"| {line['row']} | {BUDGETS.get(line['row'], '')} | " + " | ".join(row) + " |")
    (folder / "PERFORMANCE.md").write_text("\n".join(lines) + "\n")
    (folder / "PERFORMANCE.svg").write_text(picture(result, [name for name in names if name != "native"]))


def picture(result, names):
    """Bars from native (1x) on a logarithmic scale, one group for each row."""
    rows = [line for line in result["rows"] if line["unit"] == "ns"]
    bar, gap, left, width = 7, 8, 130, 760
    group = bar * len(names) + gap
    height = 60 + group * len(rows)
    low, high = 0.25, 1024

    def x_of(ratio):
        return left + (math.log2(min(max(ratio, low), high)) - math.log2(low)) / (math.log2(high) - math.log2(low)) * (width - left - 20)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="11">',
           f'<rect width="{width}" height="{height}" fill="white"/>']
    for i, name in enumerate(names):
        out.append(f'<rect x="{left + i * 120}" y="8" width="10" height="10" fill="{COLORS.get(name, "#333")}"/>'
                   f'<text x="{left + i * 120 + 14}" y="17">{name}</text>')
    for power in range(-2, 11, 2):
        x = x_of(2.0 ** power)
        out.append(f'<line x1="{x:.1f}" y1="40" x2="{x:.1f}" y2="{height - 10}" stroke="{"#000" if power == 0 else "#ddd"}"/>'
                   f'<text x="{x:.1f}" y="36" text-anchor="middle">{2.0 ** power:g}x</text>')
    for i, line in enumerate(rows):
        top = 48 + i * group
        out.append(f'<text x="{left - 6}" y="{top + bar * len(names) / 2 + 4:.1f}" text-anchor="end">{line["row"]}</text>')
        for j, name in enumerate(names):
            ratio = line["targets"].get(name, {}).get("ratio")
            if ratio is None:
                continue
            start, end = sorted((x_of(1), x_of(ratio)))
            out.append(f'<rect x="{start:.1f}" y="{top + j * bar}" width="{max(end - start, 1):.1f}" height="{bar - 1}" '
                       f'fill="{COLORS.get(name, "#333")}"><title>{line["row"]}, {name}: {ratio:.2f}x</title></rect>')
    out.append("</svg>")
    return "\n".join(out) + "\n"
