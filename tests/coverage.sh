#!/bin/sh
# coverage.sh [FOLDER]: builds the tests with gcc's coverage in FOLDER (build_coverage), runs the quick suite, and tells what
# of tpool.h ran, by tests/coverage.py: the percentages of lines and branches, and what did not run, by function. Fails
# below 95 % of the lines or 85 % of the branches, and if something did not run that tests/coverage.txt does not explain.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-build_coverage}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)

# A process that ends by _exit, as children do, leaves no counts behind, unless they are written before.
cat >"$folder/exit.c" <<'END'
void __gcov_dump(void);
void __real__exit(int status);
void __wrap__exit(int status);
void __wrap__exit(int status) {
    __gcov_dump();
    __real__exit(status);
}
END
gcc -c -o "$folder/exit.o" "$folder/exit.c"
wrap="['-Wl,--wrap=_exit', '$folder/exit.o', '--coverage']"
[ -e "$folder/build.ninja" ] || CC=gcc CXX=g++ meson setup --buildtype=debug -Db_coverage=true -Dbench=false -Dexamples=false \
    -Dc_link_args="$wrap" -Dcpp_link_args="$wrap" "$folder" "$root" >/dev/null
ninja --quiet -C "$folder"
find "$folder" -name '*.gcda' -delete
meson test -C "$folder" --no-rebuild -t 4 >"$folder/suite.log" || { tail -n 20 "$folder/suite.log"; exit 1; }
python3 "$root/tests/coverage.py" "$root/tpool.h" "$folder" "$root/tests/coverage.txt"
