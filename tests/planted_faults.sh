#!/bin/sh
# planted_faults.sh HEADER TESTS WORK [FAULT... | --apply]: plants faults in copies of the header, one at a time (all of
# them, or those named), and fails unless each is found by the check that it names. $CC compiles. With --apply all are
# planted and none is looked for.
# Those named genmc_* weaken an order; the model checker that finds them is asked if $GENMC names it (tests/model/README.md).
# Those named mpi_* are looked for if $MPI is openmpi or mpich.
# Those named windows_* are looked for if $WINDOWS names the folder where platforms.sh (--work) has run the row windows;
# one that names `unload` in a plug-in that has the fault, loaded and unloaded by tests/unload/windows.c. Its argument
# says what does the work at an unloading: destructors, or the exit_handler, as with Microsoft's compiler.
# Those named musl_* are looked for with musl's stdio if $MUSL names the folder where platforms.sh (--work) has run the row
# musl.
# Those named android_* are looked for in the code for Android, with tests/support/android.c.
#
# A fault is a file tests/faults/NAME.fault: what it is, in a line; `check:` and a program of tests/ with the arguments
# that must find it, of a program of cmocka's tests a pattern of their names; then edits. An edit is `@ TEXT`, a line that
# the header must have once, forward declarations apart, and behind that line the first place where the lines marked `-`
# stand one after another, which become those marked `+`; more such pairs may follow behind the same line. Leading blanks
# do not count, so that an edit survives whatever moves; one that does not apply any more is a failure.
set -u
header=$1 tests=$2 work=$3
shift 3
apply_only=
if [ "${1-}" = --apply ]; then
    apply_only=yes
    set -- $(cd "$tests/faults" && ls *.fault | sed 's/\.fault$//')
elif [ $# -eq 0 ]; then
    set -- $(cd "$tests/faults" && ls *.fault | sed 's/\.fault$//' |
        grep -v -e "^${GENMC:+no_such_}genmc_" -e "^${WINDOWS:+no_such_}windows_" -e "^${MPI:+no_such_}mpi_" \
            -e "^${MUSL:+no_such_}musl_")
fi
: "${CC:=cc}"

# apply FAULT HEADER: writes the header with the fault.
apply() {
    awk '
        function bare(text) { sub(/^[ \t]+/, "", text); sub(/[ \t\r]+$/, "", text); return text }
        function fail(text) { print FILENAME ": " text | "cat >&2"; failed = 1; exit 1 }
        function edit(    i, k, at) {
            if (!wanted) return
            for (i = 1; i <= lines; i++) {
                if (declares[i] || !index(line[i], anchor)) continue
                if (at) fail("more than one such line: " anchor)
                at = i
            }
            if (!at) fail("no such line any more: " anchor)
            for (i = at; i <= lines; i++) {
                for (k = 1; k <= wanted && bare(line[i + k - 1]) == want[k]; k++) { }
                if (k > wanted) break
            }
            if (i > lines) fail("no such lines any more: " want[1])
            line[i] = become
            for (k = 2; k <= wanted; k++) line[i + k - 1] = ""
            wanted = replaced = 0; become = ""; edits++
        }
        FNR == NR {
            line[++lines] = $0
            if (/^static .*\(/ && !/[={]/) head = lines
            if (head && /;$/) for (; head <= lines; head++) declares[head] = 1
            if (/[;{]$/) head = 0
            next
        }
        /^@ / { edit(); anchor = substr($0, 3); next }
        /^- / { if (replaced) edit(); want[++wanted] = bare(substr($0, 3)); next }
        /^\+/ { replaced = 1; become = become substr($0, 3) " "; next }
        END {
            if (failed) exit 1
            edit()
            if (!edits) fail("no edit")
            for (i = 1; i <= lines; i++) print line[i]
        }' "$2" "$1"
}

# The ThreadSanitizer of some compilers does not start where the kernel randomizes addresses over more bits than it expects.
plain=
if command -v setarch >/dev/null && setarch -R true 2>/dev/null; then plain='setarch -R'; fi

status=0
mkdir -p "$work"
for fault in "$@"; do
    file=$tests/faults/$fault.fault folder=$work/$fault
    check=$(sed -n 's/^check: *//p' "$file")
    program=${check%% *} arguments=${check#* }
    rm -rf "$folder" && mkdir -p "$folder"
    if ! apply "$file" "$header" >"$folder/tpool.h"; then
        echo "$fault: FAILED: the edit does not apply"
        status=1
        continue
    fi
    if [ "$apply_only" ]; then
        rm -r "$folder"
        continue
    fi
    flags= libraries=
    source=$tests/$program.c
    case $program in
    fuzz_*) source=$tests/fuzz/$program.c ;;
    schedule_* | chaos | stress_*) source=$tests/exploration/$program.c ;;
    test_*) source=$tests/behaviour/$program.c ;;
    white_*) source=$tests/internals/$program.c ;;
    esac
    case $program in
    stress_*) flags=-std=gnu11 libraries=-lcmocka ;;
    model_*) source=$tests/model/${program#model_}.c flags='-fsanitize=thread -DTPOOL_THREADS_POSIX' ;;
    test_unload) libraries="$tests/impl.c -lcmocka -ldl"
        export UNLOAD_PLUGIN="$folder/plugin.so"
        $CC -std=c11 -O1 -g -w -shared -fPIC -pthread -I"$folder" -o "$UNLOAD_PLUGIN" "$tests/unload/plugin.c" ;;
    test_*) libraries="$tests/impl.c -lcmocka -lm" ;;
    white_*) libraries=-lcmocka ;;
    esac
    run="$folder/$program"
    compile=$CC
    case $fault in
    mpi_*)
        compile="mpicc.$MPI -DTPOOL_MPI -D_GNU_SOURCE -Wl,--build-id=none"
        source=$tests/mpi/$program.c flags=-O0 # compiles in half the time
        case $program in
        white_*) ;;
        *) libraries="$tests/impl.c -lcmocka" ;;
        esac
        run="env LIMIT=30 sh $tests/mpi/run.sh $MPI 0 4 $run" ;;
    windows_*)
        compile="x86_64-w64-mingw32-gcc -static -I$WINDOWS/cmocka/include"
        libraries="${libraries%%-lcmocka*} $WINDOWS/windows/cmocka.o -lsynchronization"
        flags=-O0 # compiles in half the time
        run="timeout 60 wine $folder/$program.exe"
        cp "$WINDOWS/windows/start_module.dll" "$folder"
        export WINEPREFIX="$WINDOWS/wine" WINEDEBUG=-all
        if [ "$program" = unload ]; then
            source=$tests/unload/windows.c libraries=
            destructors=
            [ "$arguments" = exit_handler ] && destructors=-DTPOOL__NOT_AT_LOAD
            arguments=$folder/plugin.dll run="timeout 90 wine $folder/unload.exe"
            # shellcheck disable=SC2086
            $compile -std=c11 -O0 -g -w $destructors -I"$folder" -shared "$tests/unload/plugin.c" -o "$arguments" \
                -lsynchronization -lpthread
        fi ;;
    musl_*)
        compile="musl-gcc -static -I$MUSL/cmocka/include"
        libraries="${libraries%%-lcmocka*} $MUSL/musl/cmocka.o" ;;
    android_*) flags="-D__ANDROID__ -D__ANDROID_API__=24" libraries="$tests/support/android.c $libraries" ;;
    esac
    if [ "$program" = static ]; then
        run="sh $tests/static.sh $folder" # nothing to build: the check reads the header
    elif [ "$program" = mistakes ]; then
        run="sh $tests/tools/mistakes.sh $arguments $folder $folder"
        arguments=
    elif [ "$program" = warnings ]; then
        run="sh $tests/header/warnings.sh $folder $arguments"
        arguments=
    elif [ "$program" = two_versions ]; then
        run="sh $tests/header/two_versions.sh $folder/tpool.h $folder/work"
        arguments=
    elif [ "$program" = genmc ]; then
        run="sh $tests/model/genmc.sh $folder"
    elif ! $compile -std=c11 -O1 -g -w -DLIMIT_SECONDS=4 $flags -pthread -I"$folder" -I"$tests" \
        -o "$folder/$program" "$source" $libraries >"$folder/log" 2>&1; then
        echo "$fault: FAILED: it does not compile"
        cat "$folder/log"
        status=1
        continue
    fi
    filter=
    case $fault:$arguments in
    mpi_*:is_one_of_two_*) # beside a second program, from the same header
        other=-DOTHER_BUILD
        [ "$arguments" = is_one_of_two_builds ] || other="-DOTHER_VERSION=\"version.h\""
        sed -f "$tests/mpi/version.sed" "$folder/tpool.h" >"$folder/version.h"
        [ "$arguments" = is_one_of_two_builds ] || libraries=-lcmocka
        # shellcheck disable=SC2086
        $compile -std=c11 $flags -w "$other" -pthread -I"$folder" -I"$tests" -o "$folder/other" "$source" $libraries
        run="env OTHER=$folder/other $run" ;;
    esac
    case $program in
    test_* | white_*) filter=$arguments arguments= ;;
    esac
    # shellcheck disable=SC2086
    if env ${filter:+"TEST_FILTER=$filter"} $plain $run $arguments >"$folder/log" 2>&1; then
        echo "$fault: FAILED: $check does not find it"
        status=1
    elif grep -q -e 'FAILED:' -e '^\[  FAILED  \]' -e 'WARNING: ThreadSanitizer' "$folder/log"; then
        echo "$fault: found: $(sed -n -e 's/.*FAILED: //p' -e 's/^.*WARNING: //p' -e 's/^\[  FAILED  \] //p' "$folder/log" |
            head -n 1)"
    else
        echo "$fault: FAILED: $check ended otherwise:"
        tail -n 20 "$folder/log"
        status=1
    fi
done
exit $status
