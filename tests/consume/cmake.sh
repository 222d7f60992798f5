#!/bin/sh
# Consumes the project from CMake: builds and runs a program that gets the header by find_package, from what was
# installed below PREFIX, or by FetchContent, in the three lines of the README, from a repository with the source.
# Usage: cmake.sh SOURCE_FOLDER WORK_FOLDER VERSION find_package|fetch [PREFIX], with the C compiler in CC.
set -eu
source=$1 work=$2 version=$3 way=$4 prefix=${5-}
rm -rf "$work"
mkdir -p "$work"
cp "$source/tests/consume/main.c" "$source/tests/consume/cmake/CMakeLists.txt" "$work"
unset CC_ENV DESTDIR || :
if [ "$way" = fetch ]; then
    "$source/tests/consume/repository.sh" "$source" "$work/origin"
    awk '/^```cmake$/ { inside = 1; next } /^```$/ { if (inside) exit } inside' "$source/README.md" |
        sed "s|https://[^ ]*\.git|file://$work/origin|" >"$work/readme.cmake"
    cat "$work/readme.cmake"
    [ "$(wc -l <"$work/readme.cmake")" -eq 3 ]
    grep -q "file://$work/origin" "$work/readme.cmake"
fi
cmake -S "$work" -B "$work/build" -DWAY="$way" ${prefix:+-DCMAKE_PREFIX_PATH="$prefix"}
cmake --build "$work/build"
output=$("$work/build/program")
echo "$output"
[ "$output" = "$version 385" ]
