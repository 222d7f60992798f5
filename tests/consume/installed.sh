#!/bin/sh
# Installs the header below a folder and consumes it there through pkg-config, with the C compiler alone, and through
# CMake's find_package, if CMake is there.
# Usage: installed.sh SOURCE_FOLDER BUILD_FOLDER WORK_FOLDER VERSION, with the C compiler in CC.
set -eu
source=$1 build=$2 work=$3 version=$4

if ! command -v pkg-config >/dev/null; then
    echo "no pkg-config here" >&2
    exit 77
fi

rm -rf "$work"
mkdir -p "$work"
# Nothing that is installed needs a build: without --no-rebuild the tests would be built from within a test.
DESTDIR="$work/root" meson install --no-rebuild -C "$build"

header=$(find "$work/root" -name tpool.h)
cmp "$source/tpool.h" "$header"
installed=$(find "$work/root" -type f | grep -vc '/man/man3/tpool[_a-z]*\.3$')
pages=$(find "$work/root" -name '*.3' | wc -l)
if [ "$installed" -ne 4 ] || [ "$pages" -lt 10 ]; then
    echo "other than the header, its pkg-config file, two for CMake and the man pages was installed:" >&2
    find "$work/root" -type f >&2
    exit 1
fi
for function in tpool_submit tpool_map tpool_future_tag tpool_shared_unlock; do
    page=$(find "$work/root" -name "$function.3")
    grep -q "\\b$function\\b" "$page"
done

pc=$(find "$work/root" -name tpool.pc)
unset PKG_CONFIG_PATH || :
export PKG_CONFIG_LIBDIR="${pc%/*}" PKG_CONFIG_SYSROOT_DIR="$work/root"
modversion=$(pkg-config --modversion tpool)
if [ "$modversion" != "$version" ]; then
    echo "pkg-config says version $modversion, not $version" >&2
    exit 1
fi
flags=$(pkg-config --cflags --libs tpool)
echo "flags: $flags"

cp "$source/tests/consume/main.c" "$work"
# CC and the flags are lists of words.
${CC:-cc} -std=c11 -Wall -Wextra -Werror -o "$work/consumer" "$work/main.c" $flags
output=$("$work/consumer")
echo "$output"
[ "$output" = "$version 385" ]

if command -v cmake >/dev/null; then
    prefix=$(dirname "$(dirname "$header")")
    "$source/tests/consume/cmake.sh" "$source" "$work/cmake" "$version" find_package "$prefix"
    mv "$prefix/share/cmake/tpool" "$prefix/share/tpool" # as vcpkg does
    "$source/tests/consume/cmake.sh" "$source" "$work/cmake_moved" "$version" find_package "$prefix"
fi
