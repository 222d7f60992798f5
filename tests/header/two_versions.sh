#!/bin/sh
# two_versions.sh HEADER WORK: two static archives, each with a copy of the header inside, in one program: of the same
# version they link and share one copy, of two versions the linker refuses them. $CC compiles.
set -eu
header=$1 work=$2
: "${CC:=cc}"
rm -rf "$work" && mkdir -p "$work"
number() { sed -n "s/^#define TPOOL_VERSION_$1 //p" "$header"; }
version=$(number MAJOR)_$(number MINOR)_$(number PATCH)
grep -q "^#define tpool_create tpool_create_$version\$" "$header" || { echo "symbols are not of version $version"; exit 1; }

# archive NAME VERSION: a library with the header inside, and a function of its own that uses it.
archive() {
    mkdir "$work/$1"
    sed "s/_$version\$/_$2/" "$header" >"$work/$1/tpool.h"
    printf '#define TPOOL_IMPLEMENTATION\n#include "tpool.h"\n' >"$work/$1/pool_of_$1.c"
    cat >"$work/$1/use.c" <<END
#include "tpool.h"
int $1(void);
int $1(void) {
    tpool *pool;
    return tpool_create(&pool, NULL) == TPOOL_OK && tpool_destroy(pool) == TPOOL_OK ? 0 : 1;
}
END
    # shellcheck disable=SC2086
    (cd "$work/$1" && $CC -std=c11 -pthread -c ./*.c && ar rcs "../lib$1.a" ./*.o)
}
link() {
    printf 'int %s(void), %s(void);\nint main(void) { return %s() + %s(); }\n' "$1" "$2" "$1" "$2" >"$work/main.c"
    # shellcheck disable=SC2086
    $CC -pthread -o "$work/main" "$work/main.c" "$work/lib$1.a" "$work/lib$2.a"
}
archive one "$version"
archive same "$version"
archive other 99_9_9
link one same && "$work/main" || { echo "two archives of one version do not work together"; exit 1; }
if link one other 2>"$work/log"; then echo "FAILED: two archives of two versions link"; exit 1; fi
grep -q 'multiple definition\|duplicate symbol' "$work/log" || { cat "$work/log"; exit 1; }
