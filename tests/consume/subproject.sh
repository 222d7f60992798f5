#!/bin/sh
# Consumes the project as a Meson subproject: builds and runs a program that finds it with dependency('tpool').
# Usage: subproject.sh SOURCE_FOLDER WORK_FOLDER VERSION, with the C compiler in CC.
set -eu
source=$1 work=$2 version=$3

rm -rf "$work"
mkdir -p "$work/consumer/subprojects"
cp "$source/tests/consume/main.c" "$source/tests/consume/subproject/meson.build" "$work/consumer"
ln -s "$source" "$work/consumer/subprojects/tpool"

# A subproject that asked for C++, or for cmocka, would fail here: a consumer need not have either.
unset DESTDIR MESON_TEST_ITERATION || :
export CXX=false PKG_CONFIG_LIBDIR="$work/none" PKG_CONFIG_PATH=
meson setup --wrap-mode=forcefallback "$work/build" "$work/consumer"

targets=$(meson introspect --targets "$work/build" | tr ',' '\n' | grep -c '"filename"')
if [ "$targets" != 1 ]; then
    echo "the subproject brought targets of its own: $targets instead of 1" >&2
    exit 1
fi

meson compile -C "$work/build"
output=$("$work/build/consumer")
echo "$output"
[ "$output" = "$version 385" ]
