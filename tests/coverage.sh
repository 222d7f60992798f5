#!/bin/sh
# coverage.sh [FOLDER]: builds the tests with gcc's coverage in FOLDER (build_coverage), runs the quick suite, and prints
# the percentages of lines and branches of tpool.h that ran, and the lines that did not. Needs gcovr. Fails below 95 % of
# the lines or 80 % of the branches; what remains, and why, stands at the end of this file.
#
# The programs under the schedule explorer are not counted: in them the platform layer is another one, and gcovr 5 cannot
# merge the two. What only they reach is therefore missing here.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-build_coverage}
[ -e "$folder/build.ninja" ] || CC=gcc CXX=g++ meson setup -Db_coverage=true --buildtype=debug "$folder" "$root" >/dev/null
folder=$(cd "$folder" && pwd)
ninja --quiet -C "$folder"
find "$folder" -name '*.gcda' -delete
meson test -C "$folder" --no-rebuild -t 4 >"$folder/suite.log" || { tail -n 20 "$folder/suite.log"; exit 1; }

cd "$folder"
report() {
    gcovr -r "$root" --object-directory . -f '.*tpool\.h$' --exclude-unreachable-branches \
        --exclude-directories '.*(schedule|clash|header_).*' "$@" .
}
report
echo "Lines with a branch never taken:"
report --branches | grep '^tpool.h'
report --print-summary --fail-under-line 95 --fail-under-branch 80 | grep -E '^(lines|branches)'
exit 0

Not covered by the quick suite:

- What another system or backend would run: fallbacks where futexes, membarrier, the stack's bounds or a cgroup are not to
  be had; version 1 control groups.
- Failures that the fault tests reach by macros of their own, in white-box programs whose every position is not a line.
- The moments of a race that one run of the tests does not hit, which the schedules (tests/schedule_*.c) go through
  exhaustively; they are not counted, see above.
- Overflows of size_t, and numbers of threads that no test starts.
