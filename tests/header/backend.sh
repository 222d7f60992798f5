#!/bin/sh
# Tells by the functions that a program needs which thread backend it was built with.
# Usage: backend.sh c11|posix PROGRAM, with nm in NM.
set -eu
wanted=$1 program=$2
c11='thrd_create|mtx_lock|cnd_wait|tss_create|call_once'
if "${NM:-nm}" -u "$program" | grep -E " ($c11)(@|\$)"; then found=c11; else found=posix; fi
echo "$program uses the $found backend"
[ "$found" = "$wanted" ]
