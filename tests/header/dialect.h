/* Included before all else (-include), makes the compiler pose as one without GNU's extensions, on Windows as MSVC's:
   tpool.h then takes that way. The system's headers come first, since these know only what the compiler really is. With
   CLANG_CL it poses as clang-cl, which has GNU's extensions, and does not say so. */
#ifndef DIALECT_H
#define DIALECT_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdalign.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <wchar.h>
#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#undef __MINGW32__
#undef __MINGW64__
#undef __forceinline /* a keyword with -fms-extensions */
#define _MSC_VER 1940
#else
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <threads.h>
#include <unistd.h>
#endif
#undef __GNUC__
#if !defined(CLANG_CL)
#undef __clang__
#pragma GCC poison __attribute__ __attribute __asm__ __asm asm __extension__ __typeof__ typeof __auto_type __label__
#pragma GCC poison __builtin_expect __builtin_frame_address __builtin_prefetch __builtin_clz __builtin_clzll
#pragma GCC poison __builtin_ctz __builtin_ctzll __builtin_popcount __builtin_popcountll __builtin_ia32_pause
#pragma GCC poison __builtin_unreachable __builtin_types_compatible_p __builtin_constant_p __builtin_choose_expr
#pragma GCC poison __sync_synchronize __int128 __thread
#endif
#endif
