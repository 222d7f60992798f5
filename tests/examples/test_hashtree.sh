#!/bin/sh
# examples/hashtree.c: what it prints is what sha256sum prints, in the order of the names; a large file takes no more
# memory than a small one; on a terminal there is a progress line; Ctrl-C ends it in order.
#     test_hashtree.sh HASHTREE PYTHON
set -u
hashtree=$1 python=$2
case $hashtree in /*) ;; *) hashtree=$PWD/$hashtree ;; esac
LC_ALL=C
export LC_ALL
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
fail() { echo "failed: $*"; exit 1; }

cd "$work" || exit 1
mkdir -p tree/b tree/a.d tree/a/deep/er tree/empty
head -c 300000 /dev/urandom >random
for size in 0 1 54 55 56 57 63 64 65 119 120 127 128 65535 65536 65537 300000; do
    head -c $size random >"tree/a/deep/size $size"
done
i=0
while [ $i -lt 300 ]; do
    head -c $((i * 7)) random >"tree/b/$i"
    i=$((i + 1))
done
cp random tree/a.d/last
cp random "tree/odd \\ name
of two lines"
ln -s a/deep tree/link
"$hashtree" tree >found || fail "it gave $?"
sha256sum --quiet -c found || fail "not what sha256sum gives"
[ "$(wc -l <found)" -eq 319 ] || fail "$(wc -l <found) files"
"$python" - <<'END' || fail "the order"
import re
paths = [line[66:] if line[0] != "\\" else line[67:] for line in open("found").read().splitlines()]
assert paths == sorted(paths, key=lambda path: path.split("/")), paths
assert "tree/link/size 0" not in paths
END
"$hashtree" tree/b/1 tree/a.d | cut -c 67- >found
printf 'tree/b/1\ntree/a.d/last\n' | cmp - found || fail "arguments: $(cat found)"
"$hashtree" 2>/dev/null && fail "no argument is no error"
"$hashtree" missing tree/b/1 >found 2>said && fail "a missing file is no error"
[ "$(cat said)" = "hashtree: missing: No such file or directory" ] || fail "it said: $(cat said)"
[ "$(wc -l <found)" -eq 1 ] || fail "the file behind a missing one"

# A file of 80 MiB in 60 MiB; a terminal; and files that take longer than anyone waits, which Ctrl-C ends.
truncate -s 80M large
"$python" - "$hashtree" <<'END' || fail "memory, the progress line, or Ctrl-C"
import os, pty, re, sys
hashtree = sys.argv[1]
pid = os.spawnv(os.P_NOWAIT, hashtree, [hashtree, "large"])
_, status, usage = os.wait4(pid, 0)
assert status == 0 and usage.ru_maxrss < 60 * 1024, usage.ru_maxrss
def run(names, interrupt):
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(hashtree, [hashtree] + names)
    said, asked = b"", False
    try:
        while piece := os.read(terminal, 1000):
            said += piece
            if interrupt and not asked and said.count(b" files, ") >= 2:
                os.write(terminal, b"\x03")
                asked = True
    except OSError:
        pass
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said.decode()
os.truncate("large", 10**12)
status, said = run(["tree", "large", "large"], True)
assert status == 130 and "hashtree: stopped after 319 files" in said, (status, said)
assert re.search(r"\r319 files, \d+\.\d MiB, \d+\.\d MiB/s", said), said
assert len(re.findall(r"[0-9a-f]{64}  ", said)) == 319, said
END
