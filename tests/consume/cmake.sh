#!/bin/sh
# Consumes the project from CMake: builds and runs a program that gets the header by find_package, from what was
# installed below PREFIX, or by FetchContent, from the source.
# Usage: cmake.sh SOURCE_FOLDER WORK_FOLDER VERSION find_package|fetch [PREFIX], with the C compiler in CC.
set -eu
source=$1 work=$2 version=$3 way=$4 prefix=${5-}
rm -rf "$work"
mkdir -p "$work"
cp "$source/tests/consume/main.c" "$source/tests/consume/cmake/CMakeLists.txt" "$work"
unset CC_ENV DESTDIR || :
cmake -S "$work" -B "$work/build" -DWAY="$way" -DTPOOL_SOURCE="$source" -DFETCHCONTENT_SOURCE_DIR_TPOOL="$source" \
    ${prefix:+-DCMAKE_PREFIX_PATH="$prefix"}
cmake --build "$work/build"
output=$("$work/build/consumer")
echo "$output"
[ "$output" = "$version 385" ]
