#!/bin/sh
# warnings.sh FOLDER FILE: FILE of this folder, which holds the implementation, compiles with FOLDER/tpool.h without a
# warning. $CC is a gcc. For planted faults; the suite compiles these files with more flags.
here=$(cd "$(dirname "$0")" && pwd)
"${CC:-cc}" -std=gnu11 -O1 -Wall -Wextra -Werror=implicit-function-declaration -Werror -pthread -I"$1" \
    -c "$here/$2" -o /dev/null || { echo "FAILED: $2"; exit 1; }
