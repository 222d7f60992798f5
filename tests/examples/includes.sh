#!/bin/sh
# Each example includes what it uses: it compiles, without a warning, where the header gives it declarations alone and
# brings none of the system's headers that the implementation needs. One that needs a library which is not here is left
# out.     includes.sh SOURCE_FOLDER, with the C compiler in CC.
set -u
source=$1 failed=0 count=0
for example in "$source"/examples/*.c "$source"/examples/caveats/*.c; do
    flags=
    for library in libcurl sqlite3 glib-2.0; do
        case $library in
            libcurl) header='<curl/curl.h>' ;;
            sqlite3) header='<sqlite3.h>' ;;
            glib-2.0) header='<glib-unix.h>' ;;
        esac
        grep -qF "#include $header" "$example" || continue
        flags=$(pkg-config --cflags $library 2>/dev/null) || { echo "left out: $example"; continue 2; }
    done
    # shellcheck disable=SC2086
    if ! sed '/^#define TPOOL_IMPLEMENTATION/d' "$example" |
        ${CC:-cc} -std=gnu11 -Wall -Wextra -Werror -fsyntax-only -pthread -I"$source" $flags -x c -; then
        echo "FAILED: $example"
        failed=1
    fi
    count=$((count + 1))
done
echo "$count examples"
[ "$count" -gt 20 ] && exit $failed
