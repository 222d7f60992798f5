#!/bin/sh
# examples/checksums.c: what it prints is what cksum prints; on a terminal there is a progress line; Ctrl-C ends it in
# order.     test_checksums.sh CHECKSUMS PYTHON
set -u
checksums=$1 python=$2
case $checksums in /*) ;; *) checksums=$PWD/$checksums ;; esac
LC_ALL=C
export LC_ALL
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
fail() { echo "failed: $*"; exit 1; }

mkdir "$work/data" && cd "$work/data" || exit 1
: >empty
head -c 3000000 /dev/urandom >random
i=0
while [ $i -lt 60 ]; do
    head -c $((i * 1111)) random >"part $i"
    i=$((i + 1))
done
cksum ./* | sort >"$work/wanted"
"$checksums" ./* >"$work/found" || fail "it gave $?"
sort "$work/found" | cmp - "$work/wanted" || fail "not what cksum gives"
"$checksums" </dev/null || fail "no files: $?"
"$checksums" empty missing >"$work/found" 2>"$work/said" && fail "a missing file is no error"
grep -qx '4294967295 0 empty' "$work/found" || fail "an empty file: $(cat "$work/found")"
grep -qx 'checksums: missing: No such file or directory' "$work/said" || fail "it said $(cat "$work/said")"

# A terminal, and a file without an end, which only Ctrl-C ends.
"$python" - "$checksums" <<'END' || fail "the progress line, or Ctrl-C"
import os, pty, re, sys
checksums = sys.argv[1]
def run(names, interrupt):
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(checksums, [checksums] + names)
    said, asked = b"", False
    try:
        while piece := os.read(terminal, 1000):
            said += piece
            if interrupt and not asked and said.count(b" files") >= 3:
                os.write(terminal, b"\x03")
                asked = True
    except OSError:
        pass
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said.decode()
status, said = run([f"part {i}" for i in range(60)], False)
assert status == 0, said
assert "[#########################] 100 %, 60 of 60 files" in said, said
assert len(re.findall(r"^(?:.*\x1b\[K)?\d+ \d+ .*part \d+\r$", said, re.M)) == 60, said
status, said = run(["/dev/zero"] * 2 + ["random"] + ["/dev/zero"] * (100 + 2 * os.cpu_count()), True)
assert status == 1 and "checksums: /dev/zero: stopped" in said and "/dev/zero: The task was cancelled" in said, said
END
