#!/bin/sh
# Builds the header as a shared library with visible functions (-DTPOOL_API=extern) and calls it from another language.
# Usage: bindings.sh python|rust SOURCE_FOLDER WORK_FOLDER [PYTHON], with the C compiler in CC.
set -eu
language=$1 source=$2 work=$3
rm -rf "$work"
mkdir -p "$work"
# shellcheck disable=SC2086
${CC:-cc} -std=c11 -O2 -fPIC -shared -pthread -DTPOOL_API=extern -I"$source" -o "$work/libtpool.so" "$source/tests/impl.c"
case $language in
    python)
        # What cffi reads: declarations alone, without attributes.
        ${CC:-cc} -E -P -std=c11 -DTPOOL_API=extern "-D__attribute__(x)=" -I"$source" -include tpool.h -x c /dev/null |
            awk '/^typedef enum tpool_status/ { on = 1 } on' >"$work/tpool.i"
        "$4" "$source/tests/consume/bindings/use.py" "$work/libtpool.so" "$work/tpool.i"
        ;;
    rust)
        cp "$source/tests/consume/bindings/use.rs" "$work"
        bindgen --no-layout-tests --allowlist-function 'tpool_.*' --allowlist-type 'tpool_.*' "$source/tpool.h" \
            -o "$work/tpool.rs" -- -std=c11 -DTPOOL_API=extern
        rustc -O -o "$work/use" -L "$work" -l tpool -C link-arg=-Wl,-rpath,"$work" "$work/use.rs"
        "$work/use"
        ;;
esac
