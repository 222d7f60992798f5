#!/bin/sh
# fuzz.sh libfuzzer|afl [SECONDS [FOLDER]]: fuzzes the calls of tpool.h (fuzz_calls.c) from the corpus here on, 60 seconds
# unless told otherwise, in FOLDER (build_fuzz), where what was found stays: inputs that fail in FOLDER/found. Needs clang
# with libclang-rt-dev, or afl++. Fails when it has found something, and when it has not fuzzed.
#
# By hand, for hours:  tests/fuzz/fuzz.sh libfuzzer 14400      tests/fuzz/fuzz.sh afl 14400
# Again, with any compiler:  cc -g -pthread -I. -Itests tests/fuzz/fuzz_calls.c -o fuzz_calls && ./fuzz_calls build_fuzz/found
# A failure of several threads may need many of these: while ./fuzz_calls build_fuzz/found; do :; done
set -eu
engine=${1:-libfuzzer} seconds=${2:-60} folder=${3:-build_fuzz}
here=$(cd "$(dirname "$0")" && pwd)
header=$(cd "$here/../.." && pwd)
mkdir -p "$folder/corpus" "$folder/found"
folder=$(cd "$folder" && pwd)
flags="-std=c11 -O1 -g -DFUZZ_ENGINE -pthread -I$header -I$header/tests"

case $engine in
libfuzzer)
    # 77: skipped, to Meson; a failure to everybody else
    echo 'int LLVMFuzzerTestOneInput(const void *bytes, unsigned long size) { return bytes && size > 9; }' |
        ${CLANG:-clang} -w -fsanitize=fuzzer,address -x c -o "$folder/libfuzzer" - ||
        { echo "no clang with libclang-rt-dev"; exit 77; }
    # shellcheck disable=SC2086
    ${CLANG:-clang} $flags -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined \
        -o "$folder/libfuzzer" "$here/fuzz_calls.c"
    status=0
    "$folder/libfuzzer" -max_total_time="$seconds" -max_len=400 -len_control=0 -timeout=60 -rss_limit_mb=4096 -print_final_stats=1 \
        -artifact_prefix="$folder/found/" "$folder/corpus" "$here/corpus" >"$folder/log" 2>&1 || status=$?
    [ "$status" -eq 0 ] || { tail -n 60 "$folder/log"; exit "$status"; }
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$folder/log")
    ;;
afl)
    # shellcheck disable=SC2086
    AFL_QUIET=1 ${AFL_CC:-afl-clang-fast} $flags -fsanitize=fuzzer -o "$folder/afl" "$here/fuzz_calls.c"
    AFL_NO_UI=1 AFL_NO_AFFINITY=1 AFL_SKIP_CPUFREQ=1 AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES=1 AFL_AUTORESUME=1 \
        afl-fuzz -t 20000 -V "$seconds" -i "$here/corpus" -o "$folder/afl_out" -- "$folder/afl" >"$folder/log" 2>&1 ||
        { tail -n 60 "$folder/log"; exit 1; }
    runs=$(sed -n 's/^execs_done *: *//p' "$folder/afl_out/default/fuzzer_stats")
    find "$folder/afl_out/default/crashes" "$folder/afl_out/default/hangs" -type f -name 'id*' \
        -exec cp {} "$folder/found/" \;
    ;;
*) echo "libfuzzer or afl?" >&2; exit 2 ;;
esac
echo "$engine: ${runs:-0} inputs in $seconds s"
[ "${runs:-0}" -ge "$((seconds * 20))" ] || { echo "FAILED: hardly any inputs"; exit 1; }
found=$(find "$folder/found" -type f | wc -l)
[ "$found" -eq 0 ] || { echo "FAILED: $found inputs in $folder/found"; exit 1; }
