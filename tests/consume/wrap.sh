#!/bin/sh
# Consumes the project from Meson by a wrap file: the one of examples/packaging, from a repository with the source; or
# one like it, from an archive with the source, as a release would have it.
# Usage: wrap.sh SOURCE_FOLDER WORK_FOLDER VERSION git|archive, with the C compiler in CC.
set -eu
source=$1 work=$2 version=$3 way=$4

rm -rf "$work"
mkdir -p "$work/consumer/subprojects"
cp "$source/tests/consume/main.c" "$source/tests/consume/subproject/meson.build" "$work/consumer"
"$source/tests/consume/repository.sh" "$source" "$work/origin"
wrap=$work/consumer/subprojects/tpool.wrap
case $way in
    git)
        sed "s|^url = .*|url = file://$work/origin|" "$source/examples/packaging/tpool.wrap" >"$wrap"
        grep -q "file://$work/origin" "$wrap"
        ;;
    archive)
        (cd "$work/origin" && git archive --format=tar.gz --prefix="tpool-$version/" -o "$work/tpool.tar.gz" main)
        cat >"$wrap" <<END
[wrap-file]
directory = tpool-$version
source_url = file://$work/tpool.tar.gz
source_filename = tpool.tar.gz
source_hash = $(sha256sum "$work/tpool.tar.gz" | cut -d ' ' -f 1)

[provide]
dependency_names = tpool
END
        ;;
esac
cat "$wrap"

unset DESTDIR MESON_TEST_ITERATION GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE || :
export PKG_CONFIG_LIBDIR="$work/none" PKG_CONFIG_PATH=
meson setup "$work/build" "$work/consumer"
meson compile -C "$work/build"
output=$("$work/build/consumer")
echo "$output"
[ "$output" = "$version 385" ]
