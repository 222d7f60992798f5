"""Calls the shared library from Python: a task that calls back into Python, its result, a failure, and the statistics.

Usage: use.py LIBRARY DECLARATIONS, the latter being tpool.h as the preprocessor leaves it.
"""
import sys

import cffi

library, declarations = sys.argv[1:]
ffi = cffi.FFI()
with open(declarations, encoding="utf-8") as file:
    ffi.cdef(file.read())
tpool = ffi.dlopen(library)


@ffi.callback("tpool_fn")
def double(arg):
    return ffi.cast("void *", 2 * int(ffi.cast("intptr_t", arg)))


@ffi.callback("tpool_fn")
def fail(_arg):
    return tpool.tpool_raise(7, b"no %s", ffi.new("char[]", b"luck"))


pool = ffi.new("tpool **")
assert tpool.tpool_create(pool, ffi.NULL) == tpool.TPOOL_OK
future = ffi.new("tpool_future **")
result = ffi.new("void **")
total = 0
for n in range(10):
    assert tpool.tpool_submit(pool[0], double, ffi.cast("void *", n), future) == tpool.TPOOL_OK
    assert tpool.tpool_future_result(future[0], 2**63 - 1, result) == tpool.TPOOL_OK
    total += int(ffi.cast("intptr_t", result[0]))
    tpool.tpool_future_release(future[0])
assert total == 90
assert tpool.tpool_submit(pool[0], fail, ffi.NULL, future) == tpool.TPOOL_OK
assert tpool.tpool_future_result(future[0], 2**63 - 1, result) == tpool.TPOOL_FAILED
assert ffi.string(tpool.tpool_future_message(future[0])) == b"no luck"
tpool.tpool_future_release(future[0])
assert tpool.tpool_future_create(future) == tpool.TPOOL_OK
assert tpool.tpool_future_set_error_text(future[0], 7, b"100 %s") == tpool.TPOOL_OK
assert ffi.string(tpool.tpool_future_message(future[0])) == b"100 %s"
tpool.tpool_future_release(future[0])
stats = ffi.new("tpool_stats *")
assert tpool.tpool_get_stats(pool[0], stats) == tpool.TPOOL_OK
assert (stats.submitted, stats.failed) == (11, 1)
assert tpool.tpool_destroy(pool[0]) == tpool.TPOOL_OK
print(ffi.string(tpool.tpool_version()).decode(), "from Python")
