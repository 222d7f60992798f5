#!/usr/bin/env python3
"""coverage.py HEADER FOLDER REASONS: how much of HEADER the programs built in FOLDER with gcc's coverage have run.

Prints the percentages of lines and branches, and what did not run, function by function. REASONS lists the functions of
which something never runs in the quick suite, and why (see there). Fails below 95 % of the lines or 85 % of the branches,
if a function has lines that did not run and is not listed, and if one is listed that the header does not have.

The same line is compiled in many programs, in some of them with other macros around its calls or atomic accesses, which
may have branches of their own. So the branches of a line are merged among programs in which it has the same number of
them, and the one that tells most counts.
"""
import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

LEAST_LINES, LEAST_BRANCHES = 95.0, 85.0


def reports(folder, header):
    """What gcov says of the header, of each object that ran."""
    for data in sorted(folder.rglob("*.gcda")):
        out = subprocess.run(["gcov", "--json-format", "--branch-probabilities", "--stdout", str(data)], cwd=folder,
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False).stdout
        for text in out.splitlines():
            report = json.loads(text)
            for file in report["files"]:
                if (folder / file["file"]).resolve() == header:
                    yield file


def has_code(text):
    """Branches of a line of brackets alone are the compiler's."""
    return re.search(r"\w", re.sub(r"/\*.*?\*/|//.*|\belse\b", "", text)) is not None


def merge(folder, header):
    counts = defaultdict(int)                            # of runs, by line
    shapes = defaultdict(lambda: defaultdict(list))      # of branches, by line and their number
    functions = {}
    for file in reports(folder, header):
        for function in file["functions"]:
            functions[(function["start_line"], function["end_line"])] = function["name"]
        instances = defaultdict(list)                    # an inlined line may come more than once
        for line in file["lines"]:
            instances[line["line_number"]].append(line)
        for number, same in instances.items():
            counts[number] += sum(line["count"] for line in same)
            taken = [b["count"] for line in same for b in line["branches"]]
            merged = shapes[number][len(taken)]
            shapes[number][len(taken)] = [a + b for a, b in zip(merged, taken)] if merged else taken
    return counts, shapes, functions


def function_of(functions, number):
    inside = [(end - start, name) for (start, end), name in functions.items() if start <= number <= end]
    return min(inside)[1] if inside else "?"


def read_reasons(path):
    """{function: reason}; a reason stands above the functions that it is of."""
    reasons, reason, names = {}, "", True
    for text in path.read_text().splitlines():
        if text.startswith("#") or not text.strip():
            continue
        if not text.startswith(" "):
            reason = text if names else reason + " " + text
            names = False
        else:
            names = True
            for name in text.split():
                if name in reasons:
                    sys.exit(f"{path}: {name} twice")
                reasons[name] = reason
    return reasons


def main():
    header, folder, reasons_file = (Path(argument).resolve() for argument in sys.argv[1:4])
    source = [""] + header.read_text().splitlines()
    counts, shapes, functions = merge(folder, header)
    reasons = read_reasons(reasons_file)

    missed_lines, missed_branches = defaultdict(list), defaultdict(list)
    branches = branches_taken = 0
    for number in sorted(counts):
        name = function_of(functions, number)
        if counts[number] == 0:
            missed_lines[name].append(number)
        if not has_code(source[number]):
            continue
        best = max(shapes[number].values(), key=lambda s: (sum(b > 0 for b in s) / len(s) if s else 1, len(s)))
        branches += len(best)
        branches_taken += sum(b > 0 for b in best)
        if any(b == 0 for b in best):
            missed_branches[name].append((number, sum(b == 0 for b in best), len(best)))

    for name in sorted(set(missed_lines) | set(missed_branches)):
        print(f"{name}: {reasons.get(name, 'NOT LISTED' if name in missed_lines else 'branches only')}")
        for number in missed_lines.get(name, []):
            print(f"    {number:5} did not run       {source[number].strip()}")
        for number, missed, of in missed_branches.get(name, []):
            if number not in missed_lines.get(name, []):
                print(f"    {number:5} {missed:2} of {of:2} branches {source[number].strip()}")

    lines = 100 * sum(count > 0 for count in counts.values()) / len(counts)
    taken = 100 * branches_taken / branches
    print(f"lines: {lines:.1f}% ({sum(c > 0 for c in counts.values())} of {len(counts)})")
    print(f"branches: {taken:.1f}% ({branches_taken} of {branches})")
    unlisted = sorted(name for name in missed_lines if name not in reasons)
    unknown = sorted(set(reasons) - set(functions.values()))
    for name in unlisted:
        print(f"FAILED: lines of {name} did not run, and {reasons_file.name} does not say why")
    for name in unknown:
        print(f"FAILED: {reasons_file.name} lists {name}, which the header does not have")
    if lines < LEAST_LINES or taken < LEAST_BRANCHES:
        print(f"FAILED: below {LEAST_LINES:.0f}% of the lines or {LEAST_BRANCHES:.0f}% of the branches")
    return bool(unlisted or unknown) or lines < LEAST_LINES or taken < LEAST_BRANCHES


if __name__ == "__main__":
    sys.exit(main())
