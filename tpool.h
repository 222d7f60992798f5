/* tpool.h - v0.1.0 - thread pools and futures for C11 - MIT or public domain, see the end of the file
 *
 *  Python's concurrent.futures for C, and more, in one file to copy: an executor, futures with values and errors, wait,
 *  as_completed, map, parallel loops, fork and join, two shared pools so that nested work cannot starve, and an answer
 *  to everything that makes pools hang: workers that wait for workers, cycles, refused threads, failed allocations,
 *  fork, exit.
 *
 *      In ONE .c file:     #define TPOOL_IMPLEMENTATION
 *                          #include "tpool.h"
 *      In all others:      #include "tpool.h"
 *
 *  Compile with -pthread; with mingw, for Windows, link with -lsynchronization. The implementation needs C11 with
 *  atomics. The declarations are C++11 too, and need no C library.
 *
 * ====================================================================================================================
 *  CONTENTS        search for the mark
 *
 *      >>first          a first program
 *      >>options        macros, and where they must be set
 *      >>contract       ownership, threads, errors, shutdown, fork, exit
 *      >>caveats        what people get wrong
 *      >>api            the public interface:  >>status  >>pool  >>task  >>future  >>many  >>map  >>dual
 *                       >>manager  >>resources  >>stats  >>observation  >>channels
 *      >>platform       threads, locks, waiting on a word:  >>atomics  >>cancel  >>park  >>spin  >>held  >>lock
 *                       >>spinlock  >>parker  >>event  >>scheduling
 *      >>protocol       the bits of each state word, the ordered pairs, why no wake is lost
 *      >>structures     >>task-object  >>lane  >>measure  >>backend  >>blocks  >>nested  >>expiries  >>times  >>heap
 *                       >>worker-list  >>waiter-nodes
 *      >>walk           >>submit  >>enqueue  >>workers  >>worker-loop  >>execute  >>finish  >>publish  >>raise
 *                       >>claims  >>wait  >>stops  >>result; then what is rare: >>full-queue  >>cycles  >>spares
 *                       >>idle  >>producing
 *      >>lifecycle      create, pause, drain, shut down, destroy
 *      >>many-futures   >>jobs  >>map-implementation  >>for-implementation  >>dual-implementation
 *                       >>manager-implementation  >>resources-implementation  >>channels-implementation  >>process
 *                       >>observation-implementation  >>unload  >>processes-implementation  >>texts
 *
 * ====================================================================================================================
 *  >>first  A first program
 *
 *  Four tasks on a pool; their results in the order in which they complete.
 *
    >>program first
    #define TPOOL_IMPLEMENTATION
    #include "tpool.h"
    #include <stdio.h>

    static void *count_primes(void *arg) {
        int limit = *(int *)arg, found = 0;
        if (limit < 2) return tpool_raise(1, "no primes below %d", limit);
        for (int n = 2; n < limit; n++) {
            int divisor = 2;
            while (divisor * divisor <= n && n % divisor) divisor++;
            found += divisor * divisor > n;
        }
        return tpool_return(&found, sizeof found);   // copied, and owned by the future
    }

    int main(void) {
        tpool *pool;
        tpool_completions *completions;
        tpool_future *future;
        void *found;
        int limits[] = { 20000, 10000, 1, 40000 }, bad = 0;

        if (tpool_create(&pool, NULL) != TPOOL_OK) return 1;
        if (tpool_as_completed(NULL, 0, &completions) != TPOOL_OK) return 1;
        for (int i = 0; i < 4; i++) {
            if (tpool_submit(pool, count_primes, &limits[i], &future) != TPOOL_OK) return 1;
            if (tpool_completions_add(completions, future) != TPOOL_OK) return 1;
            tpool_future_release(future);            // the iterator has its own reference
        }
        while (tpool_completions_next(completions, TPOOL_FOREVER, &future) == TPOOL_OK) {
            int limit = limits[tpool_completions_index(completions)];
            if (tpool_future_result(future, 0, &found) == TPOOL_OK)
                printf("below %d: %d\n", limit, *(int *)found);
            else
                bad += printf("below %d: %s\n", limit, tpool_future_message(future)) > 0;
        }
        tpool_completions_destroy(completions);
        tpool_destroy(pool);                         // after all its tasks
        return bad == 1 ? 0 : 1;
    }
    >>end
 *
 * ====================================================================================================================
 *  >>options  Macros
 *
 *      macro                    default       where            what it does
 *      TPOOL_IMPLEMENTATION     -             one .c file      the implementation comes with the declarations
 *      TPOOL_STATIC             -             any .c file      everything static, the implementation included: a
 *                                                              private copy for this file, e.g. within a library
 *      TPOOL_API                hidden        everywhere       how functions are declared; by default they are symbols
 *                                                              that no other shared object sees (two libraries may each
 *                                                              carry a copy, of different versions)
 *      TPOOL_MALLOC(size)       malloc        implementation   both or neither; may give NULL, as malloc: every failure
 *      TPOOL_FREE(ptr)          free          implementation   has a status; called from any thread, and under the
 *                                                              library's locks, so they may not call into it
 *      TPOOL_ASSERT(x)          nothing       implementation   checks the library's own rules, and that no future is
 *                                                              released too often
 *      TPOOL_THREADS_POSIX      automatic     implementation   POSIX threads in place of C11's; chosen where
 *                                                              <threads.h> is missing, and under sanitizers, which know
 *                                                              no others
 *      TPOOL_THREADS_WIN32      on Windows    implementation   Windows' own
 *      TPOOL_NO_PROCESSES       -             implementation   leaves process pools out
 *
 *  The implementation needs more than plain C from the system headers. In its file include tpool.h before all other
 *  headers, or compile with the compiler's default (gnu11 or later). Otherwise an #error says so.
 *
 *  Where TPOOL_API is not given, some symbols carry the version (tpool_create_0_1_0). So the linker refuses two static
 *  libraries with two versions inside, instead of letting them work on each other's structs.
 *
 * ====================================================================================================================
 *  >>contract  What holds
 *
 *  Statuses. Every call that can fail returns tpool_status; nothing aborts, prints or exits. A handle or result that a
 *  call hands out is NULL on every status but the one that hands it out. NULL for a pointer that is needed gives
 *  TPOOL_INVALID; destroy and release accept NULL.
 *
 *  Ownership. A submit hands out one reference to the future; tpool_future_release gives it back. An early release only
 *  gives up the result: the task runs all the same. Result bytes, owned results and errors live as long as your
 *  reference. Only on TPOOL_OK has the pool taken a task and its arg; it then calls arg_free exactly once, whatever
 *  becomes of the task, before the future is done.
 *
 *  Tools. Under AddressSanitizer, LeakSanitizer and valgrind's memcheck futures are not recycled: each tool reports a
 *  future that is never released, used after its last release or released too often, at the program's line.
 *
 *  Threads. Any thread may make any call, also from tasks and callbacks, unless the call's comment says otherwise; a
 *  signal handler may make none. Workers start when they are needed. They have asynchronous signals blocked, so that
 *  your handlers run on your own threads; only SIGPROF and SIGVTALRM, which profilers need, reach them. They have the
 *  CPU affinity, scheduling policy, priority and niceness of the thread that called tpool_create, whichever thread
 *  starts them; those of the shared and managed pools have the main thread's. (An unprivileged process may be refused
 *  when it takes a niceness back.) They begin with the default floating-point environment. With one worker, tasks of
 *  equal priority start in the order submitted, with more in about that order.
 *
 *  The end of a thread. Your code may end its thread wherever the library calls it, by thrd_exit, pthread_exit or
 *  ExitThread, or by cancelling it, in workers and in your own threads: in a task, a forked job, a loop's body, a map's
 *  item or source, a callback, arg_free, result_free, on_failure, an initializer or finalizer, whatever waits lie
 *  between. Everything under way on that stack ends:
 *    - Its tasks end as TPOOL_BROKEN. A task that joins a job whose thread has ended, a loop whose body has ended its
 *      thread, and the task that loops are TPOOL_BROKEN too.
 *    - If it was a callback, the future's remaining callbacks run; if a map's item, the other items of its chunk run;
 *      if an initializer, it has failed.
 *    - The worker is replaced, and its finalizer runs.
 *  A task whose jobs and helpers still run on other stacks ends after them. All this happens as the thread ends. On
 *  Windows your code that is called then may neither wait for a thread to begin or end, nor end its own thread again,
 *  as in any callback of FlsAlloc.
 *
 *  Time. Limits are relative, int64_t nanoseconds on the monotonic clock: TPOOL_MS(20), TPOOL_FOREVER; 0 only looks.
 *
 *  Expiry. An expired task is noticed when its turn comes, by any call that looks at its future, by a wait for it and
 *  an iterator at the moment it expires, by a full queue (before its policy applies, and at that moment by a submitter
 *  that is blocked there), and by an idle worker of a paused pool. The thread that notices it ends the task: arg_free
 *  and callbacks run there.
 *
 *  Errors. A task fails by calling tpool_raise and returning. Waiters get TPOOL_FAILED and read code and message from
 *  tpool_future_error. A failure whose future has no holder goes to config.on_failure.
 *
 *  Waiting inside a task is safe. In a wait without a limit, for one future or for all of several, a wanted task that
 *  has not started and is the same pool's runs right there; otherwise the pool may run a spare worker while this one is
 *  blocked. Unrelated tasks never run inside a wait. If tasks wait for each other in a circle, without a limit, the
 *  task that closes the circle gets TPOOL_DEADLOCK, and only that task. The search leaves out waits for the
 *  first of several, completions, resources, full queues, drains, and futures that the program completes.
 *    - Spare workers take the place of at most config.max_spares blocked ones, as long as they are needed.
 *    - More come only if work is queued and every worker of the pool is blocked. A task in the queue for which one of
 *      these waits, directly or over other tasks, gets a spare at once, which runs it and then only such tasks; so does
 *      a task that one of them submits into the full queue of its own pool. If there is none, one spare comes after
 *      10 ms in which none of the waits comes to what it waits for, then after 20, 40 and so on up to a second, while a
 *      worker waits for what is no task (a resource, a channel, another full queue, a future of the program); and one a
 *      second while all wait for tasks. So a pool of 4 whose 2,000 tasks queue up for one resource has 8 threads.
 *    - If the system refuses a spare, the pool asks again now and then. One wait gives TPOOL_NO_THREAD if all wait for
 *      what only the queue can bring, or if nothing moves for a second.
 *
 *  Shutdown. tpool_destroy finishes everything first. After tpool_shutdown the pool takes no more work, also from its
 *  own tasks; flags say whether to wait, to cancel what has not started, to ask running tasks to stop. A task or
 *  callback of a pool that waits for that pool's end gets TPOOL_DEADLOCK.
 *
 *  Cancelling threads. No call is a cancellation point, and none leaves a lock held; a function of yours that a call
 *  runs may be one. A worker that is cancelled, and meets no cancellation point before its task (or a map's item) ends,
 *  ends before the next task, which another worker runs. A thread with the asynchronous cancel type may not call the
 *  library.
 *
 *  fork. In the child every call on an object of the parent's (a pool, a future that was not done, an iterator, a
 *  manager, resources, a channel) gives TPOOL_BROKEN at once; tpool_future_cancel gives false, and a destroy frees
 *  nothing. The functions' comments do not repeat this. Futures that were done can be read and released; the shared
 *  pools and the global manager start afresh. The library holds no lock while your own fork handlers run. A thread that
 *  forks inside a task is no worker in the child. It ends there when it returns from the task, or from another function
 *  that the library called on the worker.
 *
 *  Unloading. A shared library that carries a copy of this header may be unloaded once its own pools are destroyed and
 *  no thread is inside a call. The unloading finishes the work of its shared pools and ends them; threads that called
 *  in may end later. Unloading waits for pools that were detached, unless an exit handler unloads the library after the
 *  library's own has run: detached pools may not have work then. The system holds the loader's lock meanwhile. So what
 *  still runs then may not want it: by dlopen, dlsym, getaddrinfo or iconv_open, by a first thread_local with a
 *  destructor in C++, or by being the first in the process to end its thread. On Windows a library that has detached a
 *  pool may not be unloaded; call tpool_dual_shutdown and tpool_manager_global_shutdown before. Call them also before
 *  the program exits if a DLL has the pools: a DLL learns of the exit when the system has ended all other threads.
 *
 *  exit. It drains the shared pools: the high-level one, those of the global manager, the low-level one. In your own
 *  pools no task starts any more, since it may point into a main that has returned; a wait for one that has not
 *  started gives TPOOL_BROKEN. Such tasks are lost, unless a later tpool_destroy, in an exit handler or a static
 *  destructor, finishes them as ever. A running task of such a pool itself executes the tasks of that pool that it
 *  waits for, whatever the kind and limit of the wait. Only where it cannot (a paused pool, processes, the end of its
 *  stack) it gets TPOOL_BROKEN. tpool_map_next in a task or callback instead gives TPOOL_CANCELLED for the items of a
 *  chunk that has not started, which a later tpool_destroy then does not run. exit called by a task waits for nothing.
 *
 *  Processes. With kind TPOOL_PROCESSES the same calls run each task in one of the pool's processes. A task that
 *  crashes, exits or is killed ends as TPOOL_BROKEN and takes no other with it; error.code is the exit code, or minus
 *  the signal, and the message names it. POSIX only.
 *    - tpool_create forks a helper process, the keeper. It forks the server, which starts all workers, and forks
 *      another if the server dies. So a worker sees memory as it was at create, whatever the program does later: fn
 *      must be code that was loaded by then, and constant data is there. No other process sees what a worker changes
 *      (except in memory that was mapped as shared before). Memory that the program frees or changes later takes its
 *      place twice while keeper or server lives. Create the pool early, at best before other threads: a lock that
 *      another thread holds at create stays held for ever in the workers. malloc, stdio and this library are safe.
 *    - An argument, result or item that a worker has no memory or addresses for (RLIMIT_AS in the initializer, say)
 *      fails alone, as TPOOL_FAILED with ENOMEM. An argument fails so only in a worker that has run nothing yet. If
 *      earlier tasks have taken the room, or have set limits (setrlimit), the worker ends instead, after its finalizer,
 *      and a new one runs the task. Limits that tasks have set cost no result. If the system does not let a process
 *      take them back (a lower hard limit), a large result travels in pieces, tpool_return gives the address of the
 *      original bytes, and the worker takes no further task or item.
 *    - arg travels by value: arg_size bytes, or arg NULL. Pointers in it mean what they meant at create. The result
 *      travels by tpool_return; a plain returned pointer arrives as its value; tpool_return_owned fails the task.
 *      arg_free, callbacks and on_failure run in the program, initializer and finalizer in each worker process. The
 *      initializer is the place for a worker's own connections, files and limits (setrlimit).
 *    - The program itself writes what is in the buffers of stdout and stderr at create. Flush other streams before:
 *      each worker that uses one whose descriptor is in config.descriptors begins with what was in its buffer.
 *    - A worker's stack is stack_size, or what a main thread has by default, whichever thread has created the pool. The
 *      tasks may run on a thread that was started in the worker, with thread-local variables of its own.
 *    - Workers inherit the descriptors 0, 1 and 2 and those in config.descriptors, no others; one of these that is not
 *      open is TPOOL_INVALID. Where 0, 1 or 2 is closed in the program a worker has /dev/null; if that cannot be
 *      opened, create gives TPOOL_NO_THREAD. The library's own descriptors have numbers above all that were open at
 *      create, so that code which still uses one of those as its own does no harm. A task that closes the library's own
 *      ends as TPOOL_BROKEN. If an item of a map's chunk does so, the next item of the chunk whose result needs more
 *      room than there is ends so, which may be a later one: a look after each item would cost a system call. An item
 *      that is a chunk of its own (chunk_size 1) harms no other.
 *    - Signals that the program catches have their default action in a worker, ignored ones stay ignored. Each worker
 *      has a process group of its own: what is typed at a terminal reaches the program only, and kill(0) in a task
 *      reaches no other worker. Workers end by _exit, so no atexit handler runs; stdout is flushed after each task.
 *    - A task may do in a worker what it could do outside any pool: tpool_current is NULL, and it may have pools of its
 *      own, also of processes. The program's pools give TPOOL_BROKEN. If it forks, the child ends where the task
 *      returns. Cancellation is disabled in its thread, since the thread that called tpool_create may have been
 *      cancelled before; a task may enable it.
 *    - tpool_future_request_stop and TPOOL_STOP_RUNNING reach the task as tpool_stop_requested, and as the wake of
 *      tpool_on_stop, for which a timekeeper starts in its process, a second thread. run_limit_ns, timeout_ns,
 *      tpool_run_with_timeout and tpool_kill_workers kill its process, also while that is still being started, runs its
 *      initializer or receives the argument. run_limit_ns counts from when a worker takes the task; a worker takes none
 *      while its initializer runs. If an initializer hangs, a task that waits for it ends by expires_ns, timeout_ns,
 *      tpool_run_with_timeout or a cancel, and tpool_kill_workers starts another worker. A process that stops (SIGSTOP)
 *      is killed too. One that the system does not let the pool kill, since its task has executed a set-uid program
 *      (sudo), is given up: the task ends as TPOOL_BROKEN, another process takes its place, and it ends by itself.
 *    - A worker that is killed, dies by a signal or exits with a code other than 0 takes along what it has started, if
 *      that is still in its group (setsid leaves it). A worker leads its group, so setsid in the task itself fails with
 *      EPERM: fork first.
 *    - If a worker dies before it has begun a task, the task is not lost: it runs on another. If a worker dies in a
 *      map's chunk, only the item at hand is lost. A worker is replaced at once. If the system refuses, the pool tries
 *      for a tenth of a second; then the work waits for the other workers, or, if none is left, ends as TPOOL_BROKEN.
 *      An initializer that gives false breaks the pool, and so does one in which eight workers in a row have died, or
 *      during which nine servers in a row have.
 *    - When the program ends, however it does, its workers are killed. If the server is killed, its workers go with it
 *      (their tasks end as TPOOL_BROKEN), and the keeper starts another; if the keeper is killed, the server goes on,
 *      but has no successor. If tasks need a server that gives no sign of life for ten seconds, as one that was
 *      stopped, it is killed likewise. If the system refuses another, they end as TPOOL_BROKEN after five seconds.
 *    - The program's own wait and waitpid(-1) see only one of these processes, at create, which ends at once. In a
 *      program that adopts orphans (process 1 of a container, PR_SET_CHILD_SUBREAPER) they also see the keeper, which
 *      lives as long as the pool; destroy leaves no zombie. There a loop until ECHILD ends only without pools.
 *    - No file or socket of a process pool has a name that another user could open. After unshare(CLONE_NEWPID) create
 *      gives TPOOL_NO_THREAD, since the system starts no thread either.
 *
 *  Limits. Nested waits may need as many threads as they are deep. A future has at most 2^55 references. Each worker
 *  process takes four descriptors, each pool of processes three; if the program lowers RLIMIT_NOFILE after that, what
 *  runs goes on, but no worker starts that has no room. Where pointers have 32 bits, a future has at most 2^23
 *  references, the statistics of one worker wrap at 2^32, a pool may not have 30,000 threads, and config.measure counts
 *  waits in steps of 1 us, and wrongly above nine minutes.
 *
 * ====================================================================================================================
 *  >>caveats  What people get wrong; each has a program in examples/caveats/ that gets it right
 *
 *      copied_argument        The task may start long after submit, and run on after a wait for it has timed out: pass
 *                             a copy (arg_size), or memory that arg_free frees.
 *      result_bytes           The bytes of tpool_return go with the future's last reference: copy them, or keep a
 *                             reference. (void **)&typed is undefined behaviour: give a void * variable.
 *      refused_submit         On anything but TPOOL_OK the argument is still yours. No submit may run beside
 *                             tpool_destroy: end the submitting threads first, or let tpool_shutdown refuse them.
 *      deadline               To share one deadline among several calls, keep the time at which it passes: tpool_until
 *                             gives what is left. ms * 1000000 overflows an int: write TPOOL_MS(ms).
 *      sigterm                The handler only sets a flag; main then calls shutdown, drain with a limit, cancel and
 *                             stop, destroy.
 *      pipeline               Each stage owns what it was given and hands on what it made; arg_free on every path.
 *      child_signals          Processes that a worker starts inherit its blocked signals: unblock them for the child.
 *      wait_without_the_lock  A wait may run the wanted task on this stack, under the locks held here: unlock first.
 *      join_on_every_path     A forked job lives on the caller's stack: join it on every path before the return.
 *      names_and_contexts     task.name is static text; contexts outlive the workers, or the map, that use them.
 *                             Exceptions must not leave a function that the library calls (examples/cxx_wrapper.cc).
 *      processes              Code that may crash belongs in a process; everything travels by value.
 *      dual                   Nested work goes to the high-level pool, the leaf calls that it makes to the low one.
 *      borrowed               A pool in each function starts threads at each call: borrow one from the manager.
 */

#ifndef TPOOL_H
#define TPOOL_H

/* ====================================================================================================================
 *  >>api  The public interface
 * ================================================================================================================= */

#define TPOOL_VERSION_MAJOR 0
#define TPOOL_VERSION_MINOR 1
#define TPOOL_VERSION_PATCH 0

/* The implementation needs more than plain C from the system headers; this must come before the first of them. */
#if (defined(TPOOL_IMPLEMENTATION) || defined(TPOOL_STATIC)) && !defined(_GNU_SOURCE) && !defined(__cplusplus)
#define _GNU_SOURCE 1
#endif

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(TPOOL_STATIC)
#if defined(__cplusplus)
#error "tpool.h: TPOOL_STATIC compiles the implementation, which is C11: define it in .c files, not in C++"
#endif
#ifndef TPOOL_IMPLEMENTATION
#define TPOOL_IMPLEMENTATION
#endif
#endif
#if defined(TPOOL_IMPLEMENTATION) && defined(__cplusplus)
#error "tpool.h: the implementation is C11: define TPOOL_IMPLEMENTATION in a .c file"
#endif
#if (defined(TPOOL_MALLOC) && !defined(TPOOL_FREE)) || (!defined(TPOOL_MALLOC) && defined(TPOOL_FREE))
#error "tpool.h: define both TPOOL_MALLOC and TPOOL_FREE, or neither"
#endif

#if defined(__MINGW32__) && !defined(__clang__) /* C's formats, not those of msvcrt */
#define TPOOL__PRINTF(text, first) __attribute__((format(gnu_printf, text, first)))
#elif defined(__GNUC__)
#define TPOOL__PRINTF(text, first) __attribute__((format(printf, text, first)))
#endif
#if defined(__GNUC__)
#define TPOOL__NODISCARD __attribute__((warn_unused_result))
#define TPOOL__UNUSED __attribute__((unused))
#else
#define TPOOL__PRINTF(text, first)
#define TPOOL__NODISCARD
#define TPOOL__UNUSED
#endif

#ifndef TPOOL_API
#if defined(TPOOL_STATIC)
#define TPOOL_API TPOOL__UNUSED static
#elif defined(__GNUC__) && !defined(_WIN32)
#define TPOOL_API __attribute__((visibility("hidden"))) extern
#else
#define TPOOL_API extern
#endif
#ifndef TPOOL_STATIC
/* The functions that hand out a handle or share a struct with the caller carry the version in their symbol: two static
 * archives with two versions then collide when they are linked, instead of working on each other's structs. */
#define tpool_create tpool_create_0_1_0
#define tpool_dual_configure tpool_dual_configure_0_1_0
#define tpool_high_level tpool_high_level_0_1_0
#define tpool_low_level tpool_low_level_0_1_0
#define tpool_default tpool_default_0_1_0
#define tpool_manager_create tpool_manager_create_0_1_0
#define tpool_manager_get tpool_manager_get_0_1_0
#define tpool_manager_get_stats tpool_manager_get_stats_0_1_0
#define tpool_with_pool tpool_with_pool_0_1_0
#define tpool_get_stats tpool_get_stats_0_1_0
#define tpool_submit_task tpool_submit_task_0_1_0
#define tpool_submit_many tpool_submit_many_0_1_0
#define tpool_submit_within tpool_submit_within_0_1_0
#define tpool_run_with_timeout tpool_run_with_timeout_0_1_0
#define tpool_future_create tpool_future_create_0_1_0
#define tpool_future_error tpool_future_error_0_1_0
#define tpool_map tpool_map_0_1_0
#define tpool_map_error tpool_map_error_0_1_0
#define tpool_fork tpool_fork_0_1_0
#define tpool_resources_create tpool_resources_create_0_1_0
#define tpool_channel_create tpool_channel_create_0_1_0
#endif
#endif

#ifdef __cplusplus
/* TPOOL_US, TPOOL_MS and TPOOL_SEC, without a C cast: smaller types are promoted to one of these. */
constexpr int64_t tpool__ns(int n, int64_t unit) { return n * unit; }
constexpr int64_t tpool__ns(unsigned n, int64_t unit) { return n * unit; }
constexpr int64_t tpool__ns(long n, int64_t unit) { return n * unit; }
constexpr int64_t tpool__ns(unsigned long n, int64_t unit) { return static_cast<int64_t>(n) * unit; }
constexpr int64_t tpool__ns(long long n, int64_t unit) { return n * unit; }
constexpr int64_t tpool__ns(unsigned long long n, int64_t unit) { return static_cast<int64_t>(n) * unit; }
constexpr int64_t tpool__ns(double n, int64_t unit) { return static_cast<int64_t>(n * static_cast<double>(unit)); }
constexpr int64_t tpool__ns(long double n, int64_t unit) {
    return static_cast<int64_t>(n * static_cast<long double>(unit));
}

extern "C" {
#endif

/* --------------------------------------------------------------------------------------------------------------------
 *  >>status  Status and time
 * ----------------------------------------------------------------------------------------------------------------- */

/* How a call or a task ended. The values are part of the interface and never change. */
typedef enum tpool_status {
    TPOOL_OK = 0,
    TPOOL_FAILED = 1,    /* the task raised an error */
    TPOOL_CANCELLED = 2, /* cancelled before it started */
    TPOOL_EXPIRED = 3,   /* its own time limit passed while it was queued */
    TPOOL_TIMEOUT = 4,   /* this wait's time limit passed */
    TPOOL_SHUTDOWN = 5,  /* the pool takes no more work */
    TPOOL_FULL = 6,      /* the queue is at its capacity */
    TPOOL_BROKEN = 7,    /* the worker died, or its initializer failed; or the pool is the parent process's */
    TPOOL_DEADLOCK = 8,  /* the wait could never end */
    TPOOL_END = 9,       /* an iteration has no more items */
    TPOOL_NO_MEMORY = 10,
    TPOOL_NO_THREAD = 11,     /* the system refused a thread or a process */
    TPOOL_INVALID = 12,       /* bad argument */
    TPOOL_INVALID_STATE = 13, /* the call does not fit the object's state */
    TPOOL_UNSUPPORTED = 14    /* not on this platform, or not on this kind of pool */
} tpool_status;

/* The status' name, "TPOOL_TIMEOUT", and one plain sentence about it. Static text; never NULL, whatever the value. */
TPOOL_API const char *tpool_status_name(tpool_status status);
TPOOL_API const char *tpool_status_text(tpool_status status);

/* No time limit. All times are int64_t nanoseconds on the monotonic clock, and relative; 0 or less: look, do not
 * wait. */
#define TPOOL_FOREVER INT64_MAX

/* n units as int64_t nanoseconds. n may be of any arithmetic type: TPOOL_MS(250), TPOOL_SEC(0.5). */
#ifndef __cplusplus
#define tpool__ns(n, unit) ((int64_t)((n) * (unit)))
#endif
#define TPOOL_US(n) tpool__ns((n), INT64_C(1000))
#define TPOOL_MS(n) tpool__ns((n), INT64_C(1000000))
#define TPOOL_SEC(n) tpool__ns((n), INT64_C(1000000000))

/* Now, in nanoseconds on the monotonic clock. Only differences mean something. */
TPOOL_API int64_t tpool_now(void);

/* The time left until deadline_ns (a value like tpool_now() + TPOOL_SEC(5)), never negative; TPOOL_FOREVER stays
 * TPOOL_FOREVER. One deadline for several calls: pass tpool_until(deadline) to each. */
TPOOL_API int64_t tpool_until(int64_t deadline_ns);

/* The version of the implementation that is linked in, "0.1.0". */
TPOOL_API const char *tpool_version(void);

/* --------------------------------------------------------------------------------------------------------------------
 *  >>pool  Pools (the executor)
 * ----------------------------------------------------------------------------------------------------------------- */

typedef struct tpool tpool;
typedef struct tpool_future tpool_future;
typedef struct tpool_error tpool_error;
typedef struct tpool_completions tpool_completions;

typedef enum tpool_kind { TPOOL_THREADS = 0, TPOOL_PROCESSES = 1 } tpool_kind;

/* How a submit proceeds when queue_capacity tasks are waiting already. */
typedef enum tpool_full_policy {
    TPOOL_FULL_BLOCK = 0,       /* wait for room */
    TPOOL_FULL_REJECT = 1,      /* give TPOOL_FULL */
    TPOOL_FULL_CALLER_RUNS = 2, /* run the task in the submitting thread; its future is done on return. Wait for room in
                                  a paused pool and one of processes, and many levels deep within such tasks, or near
                                  the end of a worker's stack */
    TPOOL_FULL_DROP_OLDEST = 3  /* cancel the task that has waited longest, and count it as dropped */
} tpool_full_policy;

/* The events of config.observer, with config.context. It is called on the thread concerned, in the order SUBMITTED,
 * READY, STARTED, ENDED of each task; no lock is held. It may call nothing here but tpool_now, and must return: it may
 * not end its thread, fork or exit. (If it meets a cancellation point in a thread that is cancelled, that ends there:
 * with SUBMITTED or READY nothing is submitted, and ENDED says TPOOL_BROKEN; with STARTED the task is broken; with
 * ENDED the task ends as it would have.) A task that ends without having run has no STARTED; one whose submit is
 * refused has an ENDED with the status of the submit, or no events where it is refused before there is a task
 * (TPOOL_INVALID, TPOOL_NO_MEMORY, or in a child of fork). The chunks of a map and the helpers of a loop are tasks too,
 * named "map" and "for"; items and forked jobs are not tasks. */
typedef enum tpool_event_kind {
    TPOOL_EVENT_SUBMITTED = 1, /* on the submitter's thread, before the task is queued */
    TPOOL_EVENT_READY = 2,     /* nothing holds it any more but a full queue: it waits for room or a worker only */
    TPOOL_EVENT_STARTED = 4,
    TPOOL_EVENT_ENDED = 8,    /* with its status, before its future is done */
    TPOOL_EVENT_BLOCKED = 16, /* a worker, of this or another pool, waits within the task; another may run meanwhile */
    TPOOL_EVENT_UNBLOCKED = 32,
    TPOOL_EVENT_WORKER_STARTED = 64,
    TPOOL_EVENT_WORKER_ENDED = 128
} tpool_event_kind;
typedef struct tpool_event {
    tpool_event_kind kind;
    int worker; /* the index of the calling worker of this pool; another thread: -1 */
    tpool_status status;
    int64_t now_ns;
    uint64_t task;    /* its number, which no other task of the process has (with 32-bit pointers it wraps at 2^31; a
                         thread takes up to 1024 of them at once) */
    uint64_t other;   /* SUBMITTED: the task that submits; BLOCKED: the one that is waited for; else, or none: 0 */
    const char *name; /* the task's, or NULL */
} tpool_event;

/* A zeroed config means the defaults. The pool copies it. Only context must stay valid: as long as workers live; with
 * on_failure or an observer until the pool is destroyed, since other threads may call these too. A pool that frees
 * itself (TPOOL_DETACH) does not report its end: for it context, names and functions must stay valid for good. */
typedef struct tpool_config {
    const char *name; /* workers are called name_0, name_1, ...; default "tpool1", "tpool2", ... */
    tpool_kind kind;
    int max_workers;         /* 0: tpool_workers_for(TPOOL_WORK_MIXED), or min_workers if that is more */
    int min_workers;         /* started workers kept when idle_timeout_ns passes */
    int64_t idle_timeout_ns; /* > 0: a worker idle this long ends, down to min_workers; 0: workers stay */
    size_t queue_capacity;   /* most tasks waiting to start; 0: no bound */
    tpool_full_policy on_full;
    bool (*initializer)(void *context); /* on each worker before its first task; false breaks the pool */
    void (*finalizer)(void *context);   /* on each worker after its last task, if its initializer gave true */
    void *context;
    size_t stack_size;                                           /* bytes per worker; 0: the platform's default */
    unsigned max_tasks_per_worker;                               /* > 0: a worker is replaced after this many tasks */
    bool measure;                                                /* collect the latency figures in tpool_stats */
    void (*on_failure)(const tpool_error *error, void *context); /* for a failed, expired or broken task whose future
                                                                    has no holder; on the thread that ended it */
    const int *descriptors; /* process pools: what workers inherit besides 0, 1 and 2; read by create only */
    size_t descriptor_count;
    int max_spares; /* most workers that run in place of blocked ones; 0: as many as max_workers; negative: none. More
                       only against a hang (>>contract, waiting inside a task) */
    void (*observer)(const tpool_event *event, void *context); /* receives the kinds in `observed`: see tpool_event */
    unsigned observed;                                         /* kinds added up */
} tpool_config;

/* Creates a pool; config NULL means all defaults. No thread is started yet.
 * TPOOL_OK: *pool is the caller's, for tpool_destroy. TPOOL_INVALID: pool NULL, max_workers or min_workers negative,
 * min_workers above max_workers (unless max_workers is 0), a negative idle time, an unknown kind or policy, descriptors
 * NULL with a count. TPOOL_UNSUPPORTED: no TPOOL_PROCESSES in this build. TPOOL_NO_THREAD: the system refuses the
 * helper process that TPOOL_PROCESSES needs, or a descriptor for it. TPOOL_NO_MEMORY. */
TPOOL_API TPOOL__NODISCARD tpool_status tpool_create(tpool **pool, const tpool_config *config);

#define TPOOL_WAIT 1u           /* until the workers have ended */
#define TPOOL_CANCEL_PENDING 2u /* what has not started is cancelled, in the calling thread */
#define TPOOL_STOP_RUNNING 4u   /* tpool_stop_requested() turns true in what runs */
#define TPOOL_DETACH 8u         /* the handle is given up: the pool frees itself when its work is done */

/* Takes no more work: from now on a submit gives TPOOL_SHUTDOWN, to tasks of the pool and to blocked submitters too.
 * Queued tasks still complete, unless flags hold TPOOL_CANCEL_PENDING. A paused pool is resumed. May be called again,
 * from any thread, and then adds its flags.
 * TPOOL_DETACH: the pool ends and frees itself when its work is done, as tpool_destroy would, in a thread that is
 * started for that; a result_free may run there. So a pool may be given up in its own task or callback, also while the
 * submit, map or loop of that task is still under way. From the call on the handle is the pool's own: only those calls
 * may come that may come beside a tpool_destroy, and iterators of its maps are used and closed as ever. A call of its
 * tasks that detaches it again, or detaches a pool that is being destroyed, only adds its flags. At exit it is a pool
 * that was never destroyed: nothing waits for it.
 * TPOOL_OK. TPOOL_DEADLOCK, and nothing changes: with TPOOL_WAIT in a task or callback of this pool. TPOOL_INVALID:
 * pool NULL, unknown flags, TPOOL_DETACH with TPOOL_WAIT. TPOOL_INVALID_STATE, and nothing changes: TPOOL_DETACH of a
 * dual or a managed pool. TPOOL_NO_THREAD: the system refuses the only worker for queued tasks, or, with TPOOL_WAIT, a
 * thread that the wait needs (a spare worker for the caller, a worker of another pool); the shutdown is under way, and
 * one more call tries again. With TPOOL_DETACH it means only that it refuses the thread that would free the pool: the
 * handle is still the caller's. (A refused worker is asked for again.) */
TPOOL_API tpool_status tpool_shutdown(tpool *pool, unsigned flags);

/* Resumes, drains, shuts down with TPOOL_WAIT, and frees the pool. No other call on the pool may be under way or come
 * later, except its tasks' own calls, submitters blocked on its full queue, drains, and cancels of its futures: all
 * these have left before it frees. Its futures stay valid.
 * TPOOL_OK, also for NULL. TPOOL_DEADLOCK, and nothing changes: in a task or callback of this pool.
 * TPOOL_INVALID_STATE: a dual or a managed pool. TPOOL_NO_THREAD: as tpool_shutdown; the pool is not freed, call
 * again. */
TPOOL_API tpool_status tpool_destroy(tpool *pool);

/* Waits until nothing is queued or running and the callbacks of what was cancelled have returned. Work submitted
 * meanwhile counts. A paused pool with work queued waits for a resume or for cancels. A drain that only looks may come
 * between a task's end and the moment in which its worker is done with it: then it gives TPOOL_TIMEOUT.
 * TPOOL_OK. TPOOL_TIMEOUT. TPOOL_DEADLOCK: in a task or callback of this pool. TPOOL_INVALID: pool NULL.
 * TPOOL_NO_THREAD: as tpool_shutdown. */
TPOOL_API tpool_status tpool_drain(tpool *pool, int64_t timeout_ns);

/* Starts workers until there are `workers` of them, at most max_workers. TPOOL_OK, TPOOL_NO_THREAD (those that could
 * be started stay), TPOOL_NO_MEMORY, TPOOL_SHUTDOWN, TPOOL_BROKEN, TPOOL_INVALID: pool NULL or workers negative. */
TPOOL_API tpool_status tpool_warm_up(tpool *pool, int workers);

/* Changes max_workers. A higher number takes effect at once, a lower one as workers become idle.
 * TPOOL_OK, TPOOL_SHUTDOWN, TPOOL_BROKEN, TPOOL_INVALID: pool NULL, below 1 or below min_workers. */
TPOOL_API tpool_status tpool_resize(tpool *pool, int max_workers);

/* Between pause and resume no new task starts; running ones go on, and submits are taken.
 * TPOOL_OK (also if it was so already), TPOOL_SHUTDOWN (pause only), TPOOL_BROKEN, TPOOL_INVALID. TPOOL_NO_THREAD
 * (resume only): it is resumed, but its workers have ended, work waits, and the system refuses another; call again. */
TPOOL_API tpool_status tpool_pause(tpool *pool);
TPOOL_API tpool_status tpool_resume(tpool *pool);

/* Ends the workers of a pool of processes now: running tasks end as TPOOL_BROKEN, waiting ones run on new workers. Does
 * not wait for them. TPOOL_OK; TPOOL_UNSUPPORTED: a pool of threads; TPOOL_INVALID: pool NULL. */
TPOOL_API tpool_status tpool_kill_workers(tpool *pool);

/* The calling worker's pool, else NULL; the calling worker's index in it, else -1. Indices are 0 to max_workers - 1,
 * those of spare workers are higher. In a task that TPOOL_FULL_CALLER_RUNS runs: that task's pool, and -1. */
TPOOL_API tpool *tpool_current(void);
TPOOL_API int tpool_current_worker(void);

/* --------------------------------------------------------------------------------------------------------------------
 *  >>task  Tasks
 * ----------------------------------------------------------------------------------------------------------------- */

typedef void *(*tpool_fn)(void *arg);

/* A task in which only fn is set is a plain one. The pool copies the struct; what name points to must stay. */
typedef struct tpool_task {
    tpool_fn fn;
    void *arg;
    size_t arg_size;             /* > 0: the bytes at arg are copied, and fn gets the copy (aligned for any type),
                                      which lives until the task ends */
    void (*arg_free)(void *arg); /* called exactly once when the pool is done with arg, before the future is done,
                                      whatever became of the task; gets what fn got or would have got: for a copy it
                                      frees what the copy points to, never the copy itself */
    const char *name;            /* static text; shown in errors and traces */
    int priority;                /* higher ones start first; a waiting task of any priority starts eventually */
    int64_t expires_ns;          /* > 0: if not started this long after the submit, it ends as TPOOL_EXPIRED */
    int64_t run_limit_ns;        /* > 0: after running this long tpool_stop_requested() turns true in it; in a pool of
                                      processes its worker is killed */
    int64_t timeout_ns;          /* > 0: a limit for both, as that of tpool_run_with_timeout, but nobody need wait: this
                                      long after the submit (time in line for room counts) the task expires if it has
                                      not started; else it is asked to stop, or killed, as by run_limit_ns */
    void *tag;                   /* the program's own, for tpool_future_tag; the library never looks at it */
    tpool_completions *completions; /* the submit adds the task's future to this iterator, see there */
} tpool_task;

/* Gives fn(arg) to the pool. future may be NULL: then no result is kept. Otherwise the caller owns one reference to
 * *future, for tpool_future_release. From any thread, tasks and callbacks included.
 * TPOOL_OK: the pool has taken the task. On anything else it has not, and arg is still the caller's.
 * TPOOL_INVALID: pool or fn NULL; in a pool of processes, arg not NULL without arg_size. TPOOL_SHUTDOWN. TPOOL_FULL:
 * on_full is TPOOL_FULL_REJECT. TPOOL_BROKEN: an initializer failed. TPOOL_DEADLOCK: it would block in an initializer
 * or finalizer of this pool. TPOOL_NO_MEMORY. TPOOL_NO_THREAD: no worker runs and the system refuses one; or the caller
 * is a worker, of this pool or another, that has to wait for room, and the system refuses a spare worker for it. */
TPOOL_API TPOOL__NODISCARD tpool_status tpool_submit(tpool *pool, tpool_fn fn, void *arg, tpool_future **future);

/* The same, with all that tpool_task has. Also TPOOL_INVALID: arg NULL with arg_size above 0.
 * task->completions: the iterator gets the future, with a reference of its own, in the moment in which the pool takes
 * the task: before the task can start, and only if it is taken. So nothing is lost between a submit and a
 * tpool_completions_add, whatever refuses one of the two; and a task that submits further ones is still in the iterator
 * when they come into it, so TPOOL_END means that all is done. future may be NULL. The submit counts as an add: the
 * iterator may not be destroyed before the submit has returned, or the future has been yielded. */
TPOOL_API TPOOL__NODISCARD tpool_status tpool_submit_task(tpool *pool, const tpool_task *task, tpool_future **future);

/* The same for fn with a copy of the arg_size bytes at arg. With arg_size 0 nothing is copied, and fn gets arg
 * itself. */
TPOOL_API TPOOL__NODISCARD tpool_status tpool_submit_copy(tpool *pool, tpool_fn fn, const void *arg, size_t arg_size,
                                                          tpool_future **future);

/* Submits tasks in order, stops at the first that cannot be taken, and gives its status. *submitted (may be NULL) is
 * how many were taken. futures (may be NULL) gets a reference for each of these, and NULL for the rest. Also
 * TPOOL_INVALID: tasks NULL and count not 0. */
TPOOL_API TPOOL__NODISCARD tpool_status tpool_submit_many(tpool *pool, const tpool_task *tasks, size_t count,
                                                          tpool_future **futures, size_t *submitted);

/* As tpool_submit_task, but whatever on_full says, it waits for room in a full queue, until timeout_ns has passed: then
 * TPOOL_TIMEOUT, and the task was not taken (0 or less: at once). In a worker it waits like any other call. Where a
 * pool of processes has none yet, it waits so for another submitter's launch of the first. Never TPOOL_FULL. */
TPOOL_API TPOOL__NODISCARD tpool_status tpool_submit_within(tpool *pool, const tpool_task *task, int64_t timeout_ns,
                                                            tpool_future **future);

/* Submits, waits, and gives the task's own end (TPOOL_OK, TPOOL_FAILED, ...), or why it was not taken, or
 * TPOOL_TIMEOUT. After TPOOL_TIMEOUT a task still queued is cancelled. A running one is asked to stop, and goes on
 * using arg (pass it by arg_size, or let arg_free free it); in a pool of processes its worker is killed, with only that
 * task. The limit counts from the call, time spent on a full queue included; if it passes there, the task was not
 * taken. pool NULL: the low-level pool. future (may be NULL) is given whenever the task was taken. TPOOL_DEADLOCK,
 * TPOOL_NO_THREAD: as tpool_future_result; the task is then cancelled or asked to stop. */
TPOOL_API TPOOL__NODISCARD tpool_status tpool_run_with_timeout(tpool *pool, const tpool_task *task, int64_t timeout_ns,
                                                               tpool_future **future);

/* The functions up to tpool_arg_size are for use inside a running task. Where no task runs, or in a callback, they do
 * nothing and give NULL, false or 0. In a forked job or a tpool_for body they act on the task that joins or loops. */

/* The task fails when it returns, with this code (any int) and message (printf, of any length). If called again, the
 * first call counts. Gives NULL, for `return tpool_raise(...)`. Without memory: code ENOMEM and a static message. */
TPOOL_API void *tpool_raise(int code, const char *format, ...) TPOOL__PRINTF(2, 3);

/* The same with a message that is taken as it is, for callers that cannot or may not pass a format: text is copied, and
 * a % in it means nothing. NULL: an empty message. */
TPOOL_API void *tpool_raise_text(int code, const char *text);

/* Copies bytes into memory that the future owns (aligned for any type), and gives its address, for `return
 * tpool_return(...)`. If called again, the last call counts, and the earlier bytes are freed at once. Without memory
 * the task fails with code ENOMEM, and the call gives NULL. */
TPOOL_API void *tpool_return(const void *bytes, size_t size);

/* The future owns result: result_free(result) is called with its last release (at once if the task has failed). Gives
 * result. Where no task runs it does nothing, gives NULL, and result is still the caller's. */
TPOOL_API void *tpool_return_owned(void *result, void (*result_free)(void *result));

/* True once this task should stop early: tpool_future_request_stop, tpool_run_with_timeout or a shutdown with
 * TPOOL_STOP_RUNNING has asked for it, its run_limit_ns or timeout_ns has passed, or its map is being closed. */
TPOOL_API bool tpool_stop_requested(void);

/* wake(context) is called once, as soon as tpool_stop_requested() turns true in this task, or at once if it has: for a
 * task that waits in calls of the program's own, which wake can end. It runs on the thread that asks; if that thread
 * runs a callback, when the callback has returned, or waits. When a time passes, and always in a worker process (there
 * within 20 ms or so), it runs on a thread of the library that keeps times. If the system refuses this thread, wake
 * runs where a worker of the process takes a task, or a call waits. It should be short.
 * A second call replaces the first, NULL withdraws it, and so does the end of the task. If wake runs meanwhile, these
 * wait until it has returned: do neither under a lock that wake takes. A forked job, a tpool_for body and a map's item
 * each have their own, which ends with them. The library keeps nothing for this in a join that began before the
 * process had called tpool_on_stop: what its job registers ends with the task. So a program whose forked jobs call it
 * first calls tpool_on_stop(NULL, NULL) once, anywhere.
 * wake is a callback, in which no task runs. It may call the library (tpool_future_set_result, tpool_channel_close). It
 * may not wait for a task, nor take a lock that this task holds: while wake runs, this task's worker may wait for it.
 * TPOOL_OK. TPOOL_INVALID_STATE: where no task runs, or in a callback. TPOOL_NO_MEMORY: nothing has changed. */
TPOOL_API tpool_status tpool_on_stop(void (*wake)(void *context), void *context);

/* How many bytes were copied for this task (arg_size), else 0. */
TPOOL_API size_t tpool_arg_size(void);

/* --------------------------------------------------------------------------------------------------------------------
 *  >>future  Futures
 * ----------------------------------------------------------------------------------------------------------------- */

typedef enum tpool_state {
    TPOOL_PENDING = 0, /* not started */
    TPOOL_RUNNING = 1,
    TPOOL_STATE_CANCELLED = 2,
    TPOOL_FINISHED = 3 /* with a result or an error: raised, expired or broken */
} tpool_state;

struct tpool_error {
    tpool_status status; /* TPOOL_FAILED, TPOOL_CANCELLED, TPOOL_EXPIRED or TPOOL_BROKEN */
    int code;            /* as raised; for a dead worker process: its exit code, or minus the signal */
    const char *message; /* never NULL */
    const char *task;    /* the task's name, or NULL */
    tpool_status cause;  /* the status of what went wrong first: as status */
};

/* Waits until the future is done and gives the task's end: TPOOL_OK and in *result (result may be NULL) what fn
 * returned; TPOOL_FAILED, TPOOL_CANCELLED, TPOOL_EXPIRED or TPOOL_BROKEN; or, about this wait, TPOOL_TIMEOUT,
 * TPOOL_DEADLOCK (the calling task waits for itself, directly or through others; or an initializer waits for its own
 * pool), TPOOL_NO_THREAD (the system refuses a spare worker for the one that waits), TPOOL_INVALID (future NULL).
 * *result is NULL on all but TPOOL_OK. Any number of times, from any thread. Bytes given by tpool_return or
 * tpool_return_owned live as long as the caller's reference. */
TPOOL_API tpool_status tpool_future_result(tpool_future *future, int64_t timeout_ns, void **result);

/* Waits likewise. TPOOL_OK with *error NULL: success. TPOOL_OK with *error set: failed, expired or broken.
 * TPOOL_CANCELLED with *error set: cancelled (a dropped task says so in the message). Else as above, *error NULL.
 * *error lives as long as the caller's reference. */
TPOOL_API tpool_status tpool_future_error(tpool_future *future, int64_t timeout_ns, const tpool_error **error);

/* How many bytes a task that has succeeded gave to tpool_return; else, and while it is not done, 0. */
TPOOL_API size_t tpool_future_result_size(tpool_future *future);

/* These look and do not wait. future NULL: TPOOL_PENDING, false. running is false again once the future is done; done
 * is true also for a cancelled one. */
TPOOL_API tpool_state tpool_future_state(tpool_future *future);
TPOOL_API bool tpool_future_done(tpool_future *future);
TPOOL_API bool tpool_future_running(tpool_future *future);
TPOOL_API bool tpool_future_cancelled(tpool_future *future);

/* Never NULL: the raised message, or how its worker process ended, else a sentence about the future's end or state. */
TPOOL_API const char *tpool_future_message(tpool_future *future);

/* True: it is cancelled, now or before. Only a pending future can be cancelled; its waiters, iterators and callbacks
 * learn at once, in the calling thread. Until arg_free has returned its state is still TPOOL_PENDING. */
TPOOL_API bool tpool_future_cancel(tpool_future *future);

/* tpool_stop_requested() turns true in the task. Nothing is forced. On a done future it does nothing. */
TPOOL_API void tpool_future_request_stop(tpool_future *future);

/* Runs callback(future, context) exactly once, when the future is done: in the thread that finishes it, in the order
 * added; at once in the calling thread if it is done already. No lock is held, and the future is valid until the
 * callback returns. The callback may call any function of the library. A future that it completes, cancels or releases
 * ends at once, arg_free included. But that future's own callbacks and result_free run later, in order and on this
 * thread: when this callback has returned or waits for something. So chains of any length need no stack. (The same
 * holds for what an arg_free, a result_free or on_failure ends; and, in callbacks and arg_frees many levels deep, for
 * a callback that they add to a done future and for a future that they cancel.) Waiters may return before callbacks
 * have run, tpool_drain and tpool_destroy return after them. TPOOL_OK; TPOOL_NO_MEMORY: it will not run;
 * TPOOL_INVALID: future or callback NULL. */
TPOOL_API tpool_status tpool_future_add_done_callback(tpool_future *future,
                                                      void (*callback)(tpool_future *future, void *context),
                                                      void *context);

/* retain adds a reference, release gives one back. The last release frees the future, with its result's bytes and its
 * error; the work itself goes on. retain gives its argument; both accept NULL. */
TPOOL_API tpool_future *tpool_future_retain(tpool_future *future);
TPOOL_API void tpool_future_release(tpool_future *future);

/* The producing side: a future that no pool runs and the program completes. Waiters, iterators and callbacks treat it
 * like any other.
 * create: TPOOL_OK, TPOOL_NO_MEMORY, TPOOL_INVALID: NULL. set_running, before the work starts: TPOOL_OK, from now on it
 * cannot be cancelled; TPOOL_CANCELLED: do not start; TPOOL_INVALID_STATE: running or done already, or a pool's own.
 * set_result and set_error complete a pending or running one: TPOOL_OK; TPOOL_INVALID_STATE: done or cancelled already,
 * or a pool's own; TPOOL_NO_MEMORY (set_error): it is completed all the same, with ENOMEM and a static message. All:
 * TPOOL_INVALID: NULL.
 * set_error_text takes the message as it is, as tpool_raise_text does. set_result_owned: the future owns result from
 * then on, and calls result_free(result) with its last release. TPOOL_NO_MEMORY: the future has failed with ENOMEM, and
 * result is freed before the call returns. On any other status but TPOOL_OK result is still the caller's. */
TPOOL_API TPOOL__NODISCARD tpool_status tpool_future_create(tpool_future **future);
TPOOL_API tpool_status tpool_future_set_running(tpool_future *future);
TPOOL_API tpool_status tpool_future_set_result(tpool_future *future, void *result);
TPOOL_API tpool_status tpool_future_set_error(tpool_future *future, int code, const char *format, ...)
    TPOOL__PRINTF(3, 4);
TPOOL_API tpool_status tpool_future_set_error_text(tpool_future *future, int code, const char *text);
TPOOL_API tpool_status tpool_future_set_result_owned(tpool_future *future, void *result,
                                                     void (*result_free)(void *result));

/* For the producer: tpool_future_request_stop was called before the future was done. It looks and does not wait; a
 * cancel is something else, see set_running. NULL: false. */
TPOOL_API bool tpool_future_stop_requested(tpool_future *future);

/* The tag of the task, from its submit to the last release; NULL for a task without one, a future of
 * tpool_future_create, and NULL. So the program knows which work an iterator or a callback hands out. */
TPOOL_API void *tpool_future_tag(tpool_future *future);

/* --------------------------------------------------------------------------------------------------------------------
 *  >>many  Many futures
 * ----------------------------------------------------------------------------------------------------------------- */

typedef enum tpool_return_when {
    TPOOL_ALL_COMPLETED = 0,
    TPOOL_FIRST_COMPLETED = 1,
    TPOOL_FIRST_EXCEPTION = 2 /* the first that failed, expired or broke (cancelled is no exception), else all */
} tpool_return_when;

/* Waits until the condition holds, then moves the done futures to the front of the array, keeping the order within
 * each part, and gives their number in *done. done NULL: the array stays as it is. A future that appears twice counts
 * twice. TPOOL_OK: the condition holds, for an empty array at once. TPOOL_TIMEOUT, TPOOL_DEADLOCK, TPOOL_NO_THREAD: as
 * tpool_future_result, with the same partition; but the two FIRST forms find no circle of several tasks.
 * TPOOL_NO_MEMORY: only with more than 16 futures, for ALL_COMPLETED only with more than 16 that can expire.
 * TPOOL_INVALID: a NULL among them, or an unknown when. */
TPOOL_API tpool_status tpool_wait(tpool_future **futures, size_t count, tpool_return_when when, int64_t timeout_ns,
                                  size_t *done);

/* An iterator (tpool_completions) over futures as they complete: those already done first, then in the order of
 * completion.
 *
 * Starts an iterator over the array (count may be 0). It holds references of its own. A future that the array holds
 * more than once is yielded once. TPOOL_OK; TPOOL_NO_MEMORY; TPOOL_INVALID: completions NULL, or a NULL among the
 * futures. */
TPOOL_API TPOOL__NODISCARD tpool_status tpool_as_completed(tpool_future *const *futures, size_t count,
                                                           tpool_completions **completions);

/* Adds a future, from any thread, also while another thread is in next. If it is added again after it was yielded, it
 * is yielded again. The caller may release its own reference at once. Statuses as tpool_as_completed. */
TPOOL_API tpool_status tpool_completions_add(tpool_completions *completions, tpool_future *future);

/* TPOOL_OK: *future is the next that is done, valid until the following next or the destroy (retain it to keep it).
 * TPOOL_END: all are yielded. TPOOL_TIMEOUT; TPOOL_NO_THREAD, TPOOL_DEADLOCK (in an initializer, on its own pool's
 * future): as tpool_future_result; TPOOL_INVALID: a NULL. One thread at a time. */
TPOOL_API tpool_status tpool_completions_next(tpool_completions *completions, int64_t timeout_ns,
                                              tpool_future **future);

/* The index of the future just yielded: its first place in the array; added futures continue the count. */
TPOOL_API size_t tpool_completions_index(tpool_completions *completions);

/* How many futures are still to be yielded. */
TPOOL_API size_t tpool_completions_remaining(tpool_completions *completions);

/* For an event loop: a file descriptor (Windows: an event) that is readable whenever tpool_completions_next with a
 * limit of 0 would give TPOOL_OK, level-triggered, and now and then when it would not. Poll it (epoll, kqueue, poll,
 * libuv, GLib), and call next until it gives TPOOL_TIMEOUT or TPOOL_END. Never read, write or close it: it is the
 * iterator's, and its destroy closes it. A next that finds nothing makes at most one system call, and the first future
 * that completes afterwards one more. A task that expires in its queue is noticed. Called again it gives the same.
 * TPOOL_OK; TPOOL_NO_THREAD: the system refuses a descriptor; TPOOL_NO_MEMORY; TPOOL_INVALID: a NULL;
 * TPOOL_INVALID_STATE: on_ready is set; TPOOL_UNSUPPORTED: neither POSIX nor Windows. As next: one thread at a time. */
TPOOL_API tpool_status tpool_completions_descriptor(tpool_completions *completions, intptr_t *descriptor);

/* Instead of a descriptor: calls wake(context) once after each next that gave TPOOL_TIMEOUT or TPOOL_END, and after
 * on_ready itself, as soon as there is something, on the thread that completes it; at once if there is something
 * already. For uv_async_send, PostQueuedCompletionStatus and the like. It is called as a callback of a future is, and
 * may not call into the iterator. An expiry is noticed, and wake called, on a thread of the library. A slow wake holds
 * up no timer, unless the system refuses another thread, or 16 are slow at once: then timers are late until one ends.
 * If a callback completes the future, wake comes once it returns or waits. A next that waits is woken itself, in
 * place of the call that was still to come; a call too many may come beside it. Once destroy has returned, no call
 * begins or still runs.
 * TPOOL_OK; TPOOL_NO_MEMORY; TPOOL_INVALID: a NULL; TPOOL_INVALID_STATE: it has a descriptor, or an on_ready. As next:
 * one thread at a time. */
TPOOL_API tpool_status tpool_completions_on_ready(tpool_completions *completions, void (*wake)(void *context),
                                                  void *context);

/* Frees the iterator and its references; the futures themselves go on. May not be called beside next or add. */
TPOOL_API void tpool_completions_destroy(tpool_completions *completions);

/* --------------------------------------------------------------------------------------------------------------------
 *  >>map  Map, loops, fork and join
 * ----------------------------------------------------------------------------------------------------------------- */

/* What tpool_map works on: an array (items, count, stride) or a source (next). */
typedef struct tpool_map_spec {
    void *(*fn)(void *item, void *context);
    void *context;
    void *items; /* an array: item i is at items + i * stride ... */
    size_t count, stride;
    bool (*next)(void *context, void **item);     /* ... or a source, asked for one item at a time, on the consumer's
                                                       thread; false: no more */
    size_t chunk_size;                            /* items per task; 0: chosen from the measured cost */
    size_t buffer_size;                           /* most items taken and not yet delivered; 0: no bound (needs an
                                                       array) */
    void (*item_free)(void *item, void *context); /* for each item taken from the source, once, run or not: in the
                                                       call after the one that delivered it, or in the close */
    size_t item_size, context_size;               /* process pools: how many bytes of each travel */
    bool unordered;                               /* map_next delivers chunk by chunk, in the order in which they end */
    int64_t run_limit_ns;                         /* > 0: each item's, as a task's; in a pool of processes items with a
                                                       limit are handed over one by one */
} tpool_map_spec;

typedef struct tpool_map_iter tpool_map_iter;

/* Starts fn over the items and gives an iterator over the results, in the order of the items, or with `unordered` in
 * that of completion: then tpool_map_index and tpool_map_item name the item that was delivered. Inside fn, tpool_raise
 * and tpool_return act on the one item. Items of a chunk run one after another and must not wait for the consumer; with
 * chunk_size 1 they may. TPOOL_OK; as tpool_submit; TPOOL_INVALID also: no fn, neither array nor source, both, or a
 * source without a buffer; in a pool of processes, item_size 0 or context_size without a context. There item_size bytes
 * of each item travel and context_size bytes of the context (0: fn gets NULL for it). */
TPOOL_API TPOOL__NODISCARD tpool_status tpool_map(tpool *pool, const tpool_map_spec *spec, tpool_map_iter **iter);

/* The next item's end: TPOOL_OK and *result; TPOOL_FAILED, TPOOL_CANCELLED or TPOOL_BROKEN (later items still come).
 * TPOOL_END: no more items, for good. TPOOL_TIMEOUT, TPOOL_DEADLOCK, TPOOL_NO_THREAD, TPOOL_NO_MEMORY: about this
 * wait, nothing is consumed; TPOOL_INVALID: iter NULL. If a chunk ends as a whole (the pool is shut down, or drops the
 * oldest task), so do all its items. Result bytes, owned results and errors live until the next call or the close. One
 * thread at a time. */
TPOOL_API tpool_status tpool_map_next(tpool_map_iter *iter, int64_t timeout_ns, void **result);

/* About the item just delivered. result_size: how many bytes it gave to tpool_return, else 0. error: TPOOL_OK and its
 * error, NULL if it has none; TPOOL_INVALID_STATE: no item has been delivered; TPOOL_INVALID: a NULL. */
TPOOL_API size_t tpool_map_result_size(tpool_map_iter *iter);
TPOOL_API size_t tpool_map_index(tpool_map_iter *iter); /* its number, from 0; 0 too before the first */

/* The item just delivered: its address in the array, or what the source gave. NULL before the first, and after a call
 * that delivered none. item_free for it comes with the next call or the close, so until then the item is valid. */
TPOOL_API void *tpool_map_item(tpool_map_iter *iter);
TPOOL_API tpool_status tpool_map_error(tpool_map_iter *iter, const tpool_error **error);

/* Cancels what has not started, asks what runs to stop, waits for it, frees; NULL is accepted. If an item waits for the
 * very task that closes, the close does not wait for that item. An item_free may close further maps, to any depth: they
 * are closed at once, except near the end of the stack: there their item_frees run a little later, on this thread. */
TPOOL_API void tpool_map_close(tpool_map_iter *iter);

/* Calls body(b, e, context) for parts that make up begin to end (end not included), in parallel, and returns when all
 * are done; the caller takes part. grain: the fewest indices of a part, 0: chosen. From any thread.
 * TPOOL_OK (an empty range too). TPOOL_FAILED: a body raised; parts not yet started were skipped; if a task made the
 * call, the error is that task's. TPOOL_INVALID: pool or body NULL, begin above end. TPOOL_SHUTDOWN, TPOOL_BROKEN: the
 * pool takes no work; nothing was run. TPOOL_BROKEN also: a body has ended its thread; parts not yet started were
 * skipped. TPOOL_UNSUPPORTED: a pool of processes. TPOOL_NO_MEMORY: nothing was run. A cycle of waits is reported to
 * the body whose wait closes it. */
TPOOL_API tpool_status tpool_for(tpool *pool, size_t begin, size_t end, size_t grain,
                                 void (*body)(size_t begin, size_t end, void *context), void *context);

/* A call that may run on another worker between its fork and its join. It lives on the caller's stack; its fields are
 * private. */
typedef struct tpool_job {
    tpool_fn fn;
    void *arg;
    struct tpool_job *older, *newer;
    void *worker, *context;
} tpool_job;

/* fork offers fn(arg) to the pool's other workers; join gives its result, and runs the job itself if no other worker
 * has started it. They allocate nothing and nest to any depth. They must pair up like brackets on every path out of
 * the block, on one thread. Outside a worker fork leaves the job to join, which runs it. An error raised in the job
 * belongs to the task that joins. A job that ends its thread elsewhere breaks that task, and join gives NULL.
 * NULL for job or fn: fork does nothing, join gives NULL. */
TPOOL_API void tpool_fork(tpool_job *job, tpool_fn fn, void *arg);
TPOOL_API void *tpool_join(tpool_job *job);

/* --------------------------------------------------------------------------------------------------------------------
 *  >>dual  The dual pools
 * ----------------------------------------------------------------------------------------------------------------- */

/* Two pools shared by the whole program, so that work which starts other work and waits for it (high level) cannot
 * starve the leaf calls that it makes (low level). Created on first use, max(4, tpool_cpu_count()) workers each, and
 * drained at exit, the high-level pool first. Valid to the end of the process; NULL only when the system refuses what
 * they need. */
TPOOL_API tpool *tpool_high_level(void);
TPOOL_API tpool *tpool_low_level(void);
TPOOL_API tpool *tpool_default(void); /* the low-level pool */

/* Sets how they will be created; NULL: as it was. TPOOL_OK; TPOOL_INVALID_STATE: one of them exists already;
 * TPOOL_INVALID, TPOOL_UNSUPPORTED, TPOOL_NO_MEMORY: as tpool_create. */
TPOOL_API tpool_status tpool_dual_configure(const tpool_config *high, const tpool_config *low);

/* Shuts both down. With TPOOL_WAIT the high-level pool is drained first, while the low-level one still takes work;
 * without it the call returns at once, and the low-level pool goes on taking work from the tasks of the high-level one
 * until that has ended. After it, submit gives TPOOL_SHUTDOWN. TPOOL_OK; TPOOL_DEADLOCK: with TPOOL_WAIT in one of
 * their tasks or callbacks; TPOOL_INVALID: unknown flags; TPOOL_NO_MEMORY; TPOOL_NO_THREAD as tpool_shutdown. */
TPOOL_API tpool_status tpool_dual_shutdown(unsigned flags);

/* --------------------------------------------------------------------------------------------------------------------
 *  >>manager  Managed pools
 *
 *  A manager lends pools, so that a program's parts share them instead of starting threads of their own: each get for
 *  the same number of workers and the same kind gives the same pool. A manager has no thread of its own: a pool that
 *  has been idle for long ends at the next get. In each call but tpool_manager_destroy NULL stands for the global
 *  manager.
 * ----------------------------------------------------------------------------------------------------------------- */
typedef struct tpool_manager tpool_manager;

/* A zeroed config means the defaults. */
typedef struct tpool_manager_config {
    int64_t idle_timeout_ns; /* a pool without a user that has had nothing queued or running for so long ends at a
                                  later get; 0: 300 s; negative: never */
    size_t max_pools;        /* a get that would pass it first ends the least recently used pools that are idle; with
                                  all of them in use it still gives one; 0: no bound */
} tpool_manager_config;

typedef struct tpool_manager_stats {
    size_t pools, in_use, idle;                  /* now: all; with a user; without (there may still be work) */
    uint64_t created, reused, evicted, replaced; /* ever; evicted: ended for idle_timeout_ns or max_pools */
} tpool_manager_stats;

#define TPOOL_FORCE_NEW 16u /* get: a new pool takes the place of the one that is there */

/* Creates a manager; config NULL means all defaults. TPOOL_OK: it is the caller's, for tpool_manager_destroy.
 * TPOOL_INVALID: manager NULL. TPOOL_NO_MEMORY. */
TPOOL_API TPOOL__NODISCARD tpool_status tpool_manager_create(tpool_manager **manager,
                                                             const tpool_manager_config *config);

/* Lends the pool for (workers, kind), as tpool_create makes it with max_workers = workers (0, the default, is a number
 * of its own). It is created if it is not there; replaced if it is shut down or broken, or flags hold TPOOL_FORCE_NEW:
 * the old one then lives until its users have released it. Each get needs a release. Until then the handle is valid,
 * whatever ended the pool; submit then gives TPOOL_SHUTDOWN. tpool_destroy of it gives TPOOL_INVALID_STATE; a pause,
 * resize or shutdown affects all its users; everything else works as on any pool.
 * TPOOL_OK; TPOOL_SHUTDOWN: the manager is shut down; TPOOL_INVALID: pool NULL, workers negative, an unknown kind or
 * flag; TPOOL_UNSUPPORTED, TPOOL_NO_MEMORY, TPOOL_NO_THREAD: as tpool_create. */
TPOOL_API TPOOL__NODISCARD tpool_status tpool_manager_get(tpool_manager *manager, int workers, tpool_kind kind,
                                                          unsigned flags, tpool **pool);

/* Gives a handle back; NULL is accepted. Queued tasks still run: the pool stays with the manager. A pool that was
 * replaced, or shut down, ends with its last release, or at a later get if it has work left then.
 * TPOOL_OK; TPOOL_INVALID: the manager has not handed it out, or has it back already. */
TPOOL_API tpool_status tpool_manager_release(tpool_manager *manager, tpool *pool);

/* Ends the idle pools now: those without a user and with nothing queued or running.
 * TPOOL_OK; TPOOL_DEADLOCK, and nothing changes: in a task or callback of a pool without a user. */
TPOOL_API tpool_status tpool_manager_clear(tpool_manager *manager);

/* Takes no more work from outside, waits for what is queued and running, and for what these tasks start on the
 * manager's pools; then shuts all the pools down. With force, what has not started is cancelled. After it, and while it
 * waits, get gives TPOOL_SHUTDOWN. May be called again.
 * TPOOL_OK; TPOOL_DEADLOCK, and nothing changes: in a task or callback of one of its pools; TPOOL_NO_THREAD: as
 * tpool_shutdown, the shutdown is under way; TPOOL_NO_MEMORY: for the global manager, which did not exist yet. */
TPOOL_API tpool_status tpool_manager_shutdown(tpool_manager *manager, bool force);

/* Shuts the manager down without force, and frees it; NULL does nothing. While pools are lent the manager still takes
 * their release (and gives TPOOL_SHUTDOWN for a get); the last one frees it. No other call may be under way or come
 * later. Does nothing in a task or callback of one of its pools, where it could not wait, and in a child of fork. Where
 * the system refuses threads that its work needs, waiting tasks are cancelled. On the global manager: as
 * tpool_manager_global_shutdown. */
TPOOL_API void tpool_manager_destroy(tpool_manager *manager);

/* TPOOL_OK; TPOOL_INVALID: stats NULL. */
TPOOL_API tpool_status tpool_manager_get_stats(tpool_manager *manager, tpool_manager_stats *stats);

/* The manager of the whole program, created on first use, once, whichever threads ask. The handle is valid to the end
 * of the process, and NULL only when the system refuses the memory. */
TPOOL_API tpool_manager *tpool_manager_global(void);

/* Shuts the global manager down without force. At its next use it comes back, empty and with its counts at zero; pools
 * that are still lent can be released as before. At exit it is shut down for good, between the dual pools: its work is
 * done, and may still use the low-level pool. Statuses as tpool_manager_shutdown. */
TPOOL_API tpool_status tpool_manager_global_shutdown(void);

/* Gets a pool, calls body with it, and releases it, on POSIX systems also if body ends its thread. Gives body's status;
 * if body is not called, TPOOL_INVALID for body NULL, or the status of tpool_manager_get. */
TPOOL_API tpool_status tpool_with_pool(tpool_manager *manager, int workers, tpool_kind kind,
                                       tpool_status (*body)(tpool *pool, void *context), void *context);

/* --------------------------------------------------------------------------------------------------------------------
 *  >>resources  Expensive things that tasks share: connections, contexts, licences
 * ----------------------------------------------------------------------------------------------------------------- */
typedef struct tpool_resources tpool_resources;

/* Makes count resources by make(context), in this thread, one after the other. destroy (may be NULL) gets each in the
 * end. TPOOL_OK: *resources is the caller's, for tpool_resources_destroy. TPOOL_BROKEN: make gave NULL; what was made
 * is destroyed again. TPOOL_INVALID: resources NULL, or make NULL and count not 0. TPOOL_NO_MEMORY. */
TPOOL_API TPOOL__NODISCARD tpool_status tpool_resources_create(tpool_resources **resources, size_t count,
                                                               void *(*make)(void *context),
                                                               void (*destroy)(void *resource, void *context),
                                                               void *context);

/* Takes one out, or waits for one: first come, first served. In a task it waits like any other call: a spare worker
 * runs other tasks meanwhile. The wait is not searched for cycles: two tasks that each hold one and wait for another
 * wait for ever, unless they give a limit.
 * TPOOL_OK: *resource is the caller's, for tpool_resources_put. TPOOL_TIMEOUT. TPOOL_NO_THREAD: the system refuses a
 * spare worker for the one that waits here. TPOOL_INVALID: a NULL. */
TPOOL_API TPOOL__NODISCARD tpool_status tpool_resources_get(tpool_resources *resources, int64_t timeout_ns,
                                                            void **resource);

/* Gives one back, from any thread; the caller that has waited longest gets it.
 * TPOOL_OK; TPOOL_INVALID: a NULL, or what is not out. */
TPOOL_API tpool_status tpool_resources_put(tpool_resources *resources, void *resource);

/* Destroys each resource and frees all. A destroy function may call this for further ones, as item_free may close
 * further maps (see tpool_map_close). A thread that waits in get (possible only where count was 0) is not woken, and
 * gives up when its limit passes; the last one frees what they need. Otherwise no call may be under way or come later.
 * TPOOL_OK, also for NULL; TPOOL_INVALID_STATE, and nothing changes: some are out. */
TPOOL_API tpool_status tpool_resources_destroy(tpool_resources *resources);

/* --------------------------------------------------------------------------------------------------------------------
 *  >>stats  Sizing and statistics
 * ----------------------------------------------------------------------------------------------------------------- */

typedef enum tpool_work { TPOOL_WORK_MIXED = 0, TPOOL_WORK_CPU = 1, TPOOL_WORK_IO = 2 } tpool_work;

/* CPUs this process may use, at least 1. Linux: those of its affinity mask, or fewer if a cgroup on the way from its
 * own up to the root, of version 1 or 2, has a smaller quota (1.5 CPUs count as 2). Windows: its affinity mask.
 * Elsewhere: those that are online. Reads files: ask once, not per task. */
TPOOL_API int tpool_cpu_count(void);

/* MIXED, CPU and unknown kinds: tpool_cpu_count(); IO: twice that, at most max(32, tpool_cpu_count()). */
TPOOL_API int tpool_workers_for(tpool_work work);

/* The times need config.measure, else they are 0. They are about all tasks run so far, except those that ended their
 * thread. wait: from the submit to the start. run: from there to the end of fn, its own waits included. p50 is the
 * median, p99 the time that 99 of 100 do not pass; both are at most 5 % off. busy: all the time that threads have spent
 * in tasks. Measuring costs about 50 ns a task and 15 KiB a worker. */
typedef struct tpool_stats {
    int max_workers, workers, active, idle; /* now */
    size_t queued;                          /* now */
    uint64_t submitted, completed, failed, cancelled, expired, rejected, dropped;
    uint64_t inlined, spared, stolen; /* run by their waiter; spare workers started; taken from others */
    int64_t wait_p50_ns, wait_p99_ns, run_p50_ns, run_p99_ns, busy_ns; /* with config.measure */
} tpool_stats;

/* A snapshot; exact at rest, when submitted == completed + failed + cancelled + expired + dropped (a broken task counts
 * as failed, a dropped one not as cancelled). TPOOL_OK; TPOOL_INVALID: NULL. */
TPOOL_API tpool_status tpool_get_stats(tpool *pool, tpool_stats *stats);

/* --------------------------------------------------------------------------------------------------------------------
 *  >>observation  What a pool is doing
 * ----------------------------------------------------------------------------------------------------------------- */

/* Takes a piece of text. False: it wants no more. */
typedef bool (*tpool_write)(const char *bytes, size_t size, void *context);

/* Writes as text, a line at a time: how many workers there are; what each of them runs, what it waits for and, with
 * config.measure, an observer of tasks or a trace, since when; how much is queued, and names of it. A task shows by its
 * name, or by the address of its function. Works beside every other call, also when all workers hang on a lock of the
 * program. Each line is true at a moment of its own. No lock is held while write runs, which may make any call.
 * TPOOL_OK. TPOOL_FAILED: write gave false, and was not called again. TPOOL_INVALID: NULL. */
TPOOL_API tpool_status tpool_describe(tpool *pool, tpool_write write, void *context);

/* From now on the pool keeps the events of its tasks and workers (tpool_event_kind), with or without an observer: the
 * newest ones, in bytes_per_worker of memory (0: 64 KiB; an event takes 32 bytes, a task three events) for each worker,
 * and once more for all other threads. What an earlier trace has kept is dropped. Meanwhile each submit makes a task
 * object. TPOOL_OK. TPOOL_INVALID: pool NULL. TPOOL_INVALID_STATE: there is a trace. TPOOL_NO_MEMORY: nothing has
 * changed. (A worker that gets no memory later uses that of the other threads.) */
TPOOL_API tpool_status tpool_trace_start(tpool *pool, size_t bytes_per_worker);

/* No further events are kept. Those that are stay until the next start, or the pool's end. TPOOL_OK. TPOOL_INVALID:
 * pool NULL. TPOOL_INVALID_STATE: there is no trace. */
TPOOL_API tpool_status tpool_trace_stop(tpool *pool);

/* Writes what is kept as JSON in Chrome's trace event format, which Perfetto (ui.perfetto.dev) and chrome://tracing
 * open: a line for each worker, with the time of its life, of its tasks and of its waits in them; what other threads
 * ran; where tasks were submitted, and ended without having run. ts is tpool_now() in microseconds. Works beside every
 * other call, also during the trace: then it writes of each worker what was kept when it came to it. A long name is
 * cut, and what is no UTF-8 in it is replaced. Forked jobs and items of a map are no tasks, and have no time of their
 * own. No lock is held while write runs, which may make any call.
 * TPOOL_OK. TPOOL_FAILED: write gave false, and was not called again. TPOOL_INVALID: NULL. TPOOL_INVALID_STATE: there
 * has been no trace. */
TPOOL_API tpool_status tpool_trace_write(tpool *pool, tpool_write write, void *context);

/* --------------------------------------------------------------------------------------------------------------------
 *  >>channels  Queues of a bounded size, between tasks and threads
 *
 *  First in, first out, with any number of senders and receivers. A receiver waits while the channel is empty, a sender
 *  while it is full; the longest wait comes first. A call that has to wait may spin for some microseconds first,
 *  and has no place in the line as long as it does. An item is received once, or is left over for destroy; a call that
 *  gives another status than TPOOL_OK has sent or received nothing.
 *
 *  In a task send and receive wait like any other call: a spare worker runs other tasks meanwhile. A stop of the task
 *  (tpool_stop_requested) ends the wait. Waits are not searched for cycles.
 * ----------------------------------------------------------------------------------------------------------------- */
typedef struct tpool_channel tpool_channel;

typedef struct tpool_channel_config {
    size_t capacity;               /* items; 0: 1 */
    size_t item_size;              /* bytes, copied in and out; 0: items are pointers, which may be NULL */
    void (*item_free)(void *item); /* of what is left at destroy: gets the address of the bytes, or the pointer */
    tpool *shared_with;            /* a pool of processes with memory to share; no pool has it yet: NULL */
} tpool_channel_config;

/* config NULL: one place, for pointers. TPOOL_OK: *channel is the caller's, for tpool_channel_destroy. TPOOL_INVALID:
 * channel NULL, or shared_with a pool without shared memory. TPOOL_NO_MEMORY. */
TPOOL_API TPOOL__NODISCARD tpool_status tpool_channel_create(tpool_channel **channel,
                                                             const tpool_channel_config *config);

/* Copies item_size bytes from item into the channel; if items are pointers, item itself is the item.
 * TPOOL_OK. TPOOL_SHUTDOWN: the channel is closed, or gets closed during the wait. TPOOL_TIMEOUT. TPOOL_CANCELLED: it
 * would have to wait, and the task is asked to stop, or gets asked meanwhile. TPOOL_NO_THREAD: the system refuses a
 * spare worker for the one that waits here. TPOOL_INVALID: channel NULL, or item NULL where items are bytes. */
TPOOL_API TPOOL__NODISCARD tpool_status tpool_channel_send(tpool_channel *channel, const void *item,
                                                           int64_t timeout_ns);

/* Copies the next item to item; if items are pointers, item is the address of a void *, which is NULL unless TPOOL_OK.
 * TPOOL_OK. TPOOL_END: the channel is closed and empty. The others as in tpool_channel_send. */
TPOOL_API TPOOL__NODISCARD tpool_status tpool_channel_receive(tpool_channel *channel, void *item, int64_t timeout_ns);

/* Refuses further items; receivers still get what is in the channel. All waits end. TPOOL_OK, also again;
 * TPOOL_INVALID: NULL. */
TPOOL_API tpool_status tpool_channel_close(tpool_channel *channel);

/* How many items are in it now; those of waiting senders do not count. NULL: 0. */
TPOOL_API size_t tpool_channel_count(tpool_channel *channel);

/* Calls item_free for each item that is left, in order, and frees the channel. No other call may be under way or come
 * later. An item_free may destroy further channels, as it may close further maps (see tpool_map_close).
 * TPOOL_OK, also for NULL; TPOOL_INVALID_STATE, and nothing changes: a thread waits in send or receive. */
TPOOL_API tpool_status tpool_channel_destroy(tpool_channel *channel);

#ifdef __cplusplus
}
#endif
#endif /* TPOOL_H */

/* ====================================================================================================================
 *  >>platform  Threads, locks, waiting on a word, time, memory: one small layer
 *
 *  Nothing below this section knows which system it runs on. Threads have three backends (C11, POSIX, Win32), waiting
 *  for a word to change has three (futex, WaitOnAddress, a table of mutexes and conditions). Locks and everything else
 *  that waits are built on waiting for a word.
 * ================================================================================================================= */
#if defined(TPOOL_IMPLEMENTATION) && !defined(TPOOL__IMPLEMENTED)
#define TPOOL__IMPLEMENTED

/* A project may ban declarations after statements in its own code, as C90 does; this file is C11. */
#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeclaration-after-statement"
#endif

#if !defined(__STDC_VERSION__) || __STDC_VERSION__ < 201112L || defined(__STDC_NO_ATOMICS__)
#error "tpool.h: the implementation needs C11 with <stdatomic.h>"
#endif

#include <errno.h>
#include <limits.h>
#include <stdalign.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Sanitizers know only POSIX threads: ThreadSanitizer crashes in thrd_create; AddressSanitizer mistakes what an ended
 * thread left on a stack for the next thread's. */
#if defined(__SANITIZE_ADDRESS__)
#define TPOOL__ADDRESS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TPOOL__ADDRESS_SANITIZED 1
#endif
#endif
#ifndef TPOOL__ADDRESS_SANITIZED
#define TPOOL__ADDRESS_SANITIZED 0
#endif
#if defined(__SANITIZE_THREAD__) || TPOOL__ADDRESS_SANITIZED
#define TPOOL__SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TPOOL__SANITIZED 1
#endif
#endif

#if TPOOL__ADDRESS_SANITIZED
#include <sanitizer/asan_interface.h>
#endif

#if !defined(TPOOL_THREADS_POSIX) && !defined(TPOOL_THREADS_WIN32)
#if defined(_WIN32)
#define TPOOL_THREADS_WIN32
#elif defined(TPOOL__SANITIZED) || defined(__STDC_NO_THREADS__) || defined(__APPLE__)
#define TPOOL_THREADS_POSIX
#elif defined(__has_include)
#if !__has_include(<threads.h>)
#define TPOOL_THREADS_POSIX
#endif
#endif
#endif

#if defined(__unix__) || defined(__APPLE__)
#define TPOOL__UNIX 1 /* POSIX calls exist, whichever backend starts the threads */
#endif

#if defined(TPOOL_THREADS_WIN32)
#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>
#if defined(_MSC_VER)
#pragma comment(lib, "Synchronization.lib")
#endif
#elif !defined(TPOOL_THREADS_POSIX)
#define TPOOL__THREADS_C11 1
#include <threads.h>
#endif

#if defined(TPOOL__UNIX)
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#endif
#if !defined(CLOCK_MONOTONIC) || (defined(__GLIBC__) && !defined(__USE_MISC)) /* __USE_MISC: syscall() and others */
#error "tpool.h: include tpool.h before the system headers in the implementation file, or use -D_GNU_SOURCE"
#endif
#if defined(__GLIBC__) && !defined(__USE_GNU) /* system headers came first, so these are not declared */
extern int pthread_getattr_np(pthread_t thread, pthread_attr_t *attributes);
extern int pipe2(int ends[2], int flags);
#endif
#endif

/* a test defines TPOOL__PLAIN_POSIX, to run the code of the plainest systems */
#if !defined(TPOOL__PLAIN_POSIX) && (defined(__linux__) || defined(__FreeBSD__) || defined(__NetBSD__) || \
                                     defined(__OpenBSD__) || defined(__DragonFly__) || defined(__sun))
#define TPOOL__PIPE2 1
#endif
#if defined(__EMSCRIPTEN__) || defined(__wasi__) /* there is no fork */
#undef TPOOL_NO_PROCESSES
#define TPOOL_NO_PROCESSES
#endif
#if defined(TPOOL__UNIX) && !defined(TPOOL_NO_PROCESSES)
#define TPOOL__PROCESSES 1
#if defined(__linux__) && !defined(TPOOL__PLAIN_POSIX)
#define TPOOL__LINUX_PROCESSES 1
#endif
/* On Android a system call that the system's C library does not know kills the process. So such a call is compiled in
 * only if the oldest Android that the program is built for (__ANDROID_API__) knows it. */
#if defined(TPOOL__LINUX_PROCESSES) && !defined(__ANDROID__)
#define TPOOL__SINCE_ANDROID(version) 1
#elif defined(TPOOL__LINUX_PROCESSES)
#define TPOOL__SINCE_ANDROID(version) (__ANDROID_API__ >= (version))
#else
#define TPOOL__SINCE_ANDROID(version) 0
#endif
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#if defined(__linux__) || defined(__sun)
#include <stdio_ext.h>
#if !defined(TPOOL__PLAIN_POSIX)
#define TPOOL__PURGE(stream) __fpurge(stream)
#endif
#elif defined(__APPLE__) || defined(__FreeBSD__) || defined(__NetBSD__) || defined(__OpenBSD__) || \
    defined(__DragonFly__)
#define TPOOL__PURGE(stream) ((void)fpurge(stream))
#endif
#endif

#ifdef TPOOL_ASSERT
#define TPOOL__ASSERTS 1
#else
#define TPOOL__ASSERTS 0
#define TPOOL_ASSERT(x) ((void)0)
#endif
#ifndef TPOOL_MALLOC
#define TPOOL__LIBC_MALLOC 1
#define TPOOL_MALLOC(size) malloc(size)
#define TPOOL_FREE(ptr) free(ptr)
#else
#define TPOOL__PROGRAM_ALLOCATES 1
#endif

#if defined(_MSC_VER) && !defined(__clang__)
#define TPOOL__THREAD_LOCAL __declspec(thread)
#define TPOOL__LIKELY(x) (x)
#define TPOOL__NOINLINE __declspec(noinline)
#define TPOOL__INLINE __forceinline
#elif defined(__GNUC__)
#define TPOOL__THREAD_LOCAL _Thread_local
#define TPOOL__LIKELY(x) __builtin_expect(!!(x), 1)
#define TPOOL__NOINLINE __attribute__((noinline))
#define TPOOL__INLINE inline __attribute__((always_inline))
#else
#define TPOOL__THREAD_LOCAL _Thread_local
#define TPOOL__LIKELY(x) (x)
#define TPOOL__NOINLINE
#define TPOOL__INLINE inline
#endif

#if defined(__GNUC__) && defined(__APPLE__)
#define TPOOL__FIRST_CONSTRUCTOR __attribute__((constructor))
#define TPOOL__LAST_DESTRUCTOR __attribute__((destructor))
#elif defined(__GNUC__)
#define TPOOL__FIRST_CONSTRUCTOR __attribute__((constructor(101)))
#define TPOOL__LAST_DESTRUCTOR __attribute__((destructor(101)))
#endif

#define TPOOL__CACHE_LINE 64
#if defined(__GNUC__)
#define TPOOL__PREFETCH_WRITE(address) __builtin_prefetch((address), 1)
#else
#define TPOOL__PREFETCH_WRITE(address) ((void)(address))
#endif

/* True if a tool checks this process for leaks and for use of freed memory: AddressSanitizer or LeakSanitizer (both
 * have this function; no macro of the compiler shows it), or valgrind's memcheck, which preloads its own library. */
#if defined(__GNUC__) && defined(__linux__) && !defined(__CYGWIN__)
extern void __lsan_do_leak_check(void) __attribute__((weak));
#define TPOOL__LEAK_SANITIZED (__lsan_do_leak_check != NULL)
#else
#define TPOOL__LEAK_SANITIZED (TPOOL__ADDRESS_SANITIZED)
#endif
static bool tpool__memory_is_checked(void) {
    if (TPOOL__LEAK_SANITIZED) return true;
#if defined(TPOOL__UNIX)
    const char *preloaded = getenv("LD_PRELOAD"); /* NOLINT(concurrency-mt-unsafe): once, and only read */
    return preloaded && strstr(preloaded, "vgpreload_memcheck");
#else
    return false;
#endif
}

/* A thread-local variable: declares name(), which gives the address of the calling thread's. White-box: a test that
 * runs threads as coroutines (tests/exploration/schedule.h) defines it otherwise. */
#ifndef TPOOL__PER_THREAD
#define TPOOL__PER_THREAD(type, name) \
    static TPOOL__THREAD_LOCAL type name##_storage; \
    static inline type *name(void) { return &name##_storage; } /* NOLINT(bugprone-macro-parentheses): a type */
#endif

/* --------------------------------------------------------------------------------------------------------------------
 *  >>atomics  Every atomic access goes through one of these names, which carry the order. A test that takes over
 *  scheduling defines TPOOL__SCHEDULE_POINT.
 * ----------------------------------------------------------------------------------------------------------------- */
#ifndef TPOOL__SCHEDULE_POINT
#define TPOOL__SCHEDULE_POINT() ((void)0)
#endif
/* White-box: a pool is about to be freed, and no other thread knows it. Tests walk it (tests/internals/check.h). */
#ifndef TPOOL__AT_REST
#define TPOOL__AT_REST(pool) ((void)(pool))
#endif

typedef _Atomic(uintptr_t) tpool__word; /* state words, counts */
typedef _Atomic(uint32_t) tpool__u32;   /* what threads sleep on */

#define tpool__load_relaxed(a) (TPOOL__SCHEDULE_POINT(), atomic_load_explicit((a), memory_order_relaxed))
#define tpool__load_acquire(a) (TPOOL__SCHEDULE_POINT(), atomic_load_explicit((a), memory_order_acquire))
#define tpool__store_relaxed(a, v) (TPOOL__SCHEDULE_POINT(), atomic_store_explicit((a), (v), memory_order_relaxed))
#define tpool__store_release(a, v) (TPOOL__SCHEDULE_POINT(), atomic_store_explicit((a), (v), memory_order_release))
#define tpool__add_relaxed(a, v) (TPOOL__SCHEDULE_POINT(), atomic_fetch_add_explicit((a), (v), memory_order_relaxed))
#define tpool__add_release(a, v) (TPOOL__SCHEDULE_POINT(), atomic_fetch_add_explicit((a), (v), memory_order_release))
#define tpool__sub_relaxed(a, v) (TPOOL__SCHEDULE_POINT(), atomic_fetch_sub_explicit((a), (v), memory_order_relaxed))
#define tpool__sub_acq_rel(a, v) (TPOOL__SCHEDULE_POINT(), atomic_fetch_sub_explicit((a), (v), memory_order_acq_rel))
#define tpool__or_relaxed(a, v) (TPOOL__SCHEDULE_POINT(), atomic_fetch_or_explicit((a), (v), memory_order_relaxed))
#define tpool__or_acquire(a, v) (TPOOL__SCHEDULE_POINT(), atomic_fetch_or_explicit((a), (v), memory_order_acquire))
#define tpool__and_relaxed(a, v) (TPOOL__SCHEDULE_POINT(), atomic_fetch_and_explicit((a), (v), memory_order_relaxed))
#define tpool__or_release(a, v) (TPOOL__SCHEDULE_POINT(), atomic_fetch_or_explicit((a), (v), memory_order_release))
#define tpool__and_release(a, v) (TPOOL__SCHEDULE_POINT(), atomic_fetch_and_explicit((a), (v), memory_order_release))
#define tpool__exchange_acquire(a, v) \
    (TPOOL__SCHEDULE_POINT(), atomic_exchange_explicit((a), (v), memory_order_acquire))
#define tpool__exchange_release(a, v) \
    (TPOOL__SCHEDULE_POINT(), atomic_exchange_explicit((a), (v), memory_order_release))
#define tpool__exchange_acq_rel(a, v) \
    (TPOOL__SCHEDULE_POINT(), atomic_exchange_explicit((a), (v), memory_order_acq_rel))
#define tpool__cas_relaxed(a, seen, v) \
    (TPOOL__SCHEDULE_POINT(), \
     atomic_compare_exchange_strong_explicit((a), (seen), (v), memory_order_relaxed, memory_order_relaxed))
#define tpool__cas_acquire(a, seen, v) \
    (TPOOL__SCHEDULE_POINT(), \
     atomic_compare_exchange_strong_explicit((a), (seen), (v), memory_order_acquire, memory_order_relaxed))
#define tpool__cas_release(a, seen, v) \
    (TPOOL__SCHEDULE_POINT(), \
     atomic_compare_exchange_strong_explicit((a), (seen), (v), memory_order_release, memory_order_relaxed))
#define tpool__cas_acq_rel(a, seen, v) \
    (TPOOL__SCHEDULE_POINT(), \
     atomic_compare_exchange_strong_explicit((a), (seen), (v), memory_order_acq_rel, memory_order_acquire))

static inline void tpool__cpu_pause(void) {
#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))
    __builtin_ia32_pause();
#elif defined(__GNUC__) && (defined(__aarch64__) || (defined(__arm__) && __ARM_ARCH >= 7))
    __asm__ __volatile__("yield");
#elif defined(TPOOL_THREADS_WIN32)
    YieldProcessor();
#elif defined(__GNUC__)
    __asm__ __volatile__("" ::: "memory"); /* keeps the compiler from removing a loop of these */
#endif
}

/* The pause between two looks at a word that another thread is about to write, in nanoseconds, about. It is a number of
 * CPU pauses, since reading the clock takes longer. A CPU pause takes 10 ns on some CPUs, 45 on others, and 1 where it
 * is only a hint, so tpool__time_pauses measures it. With a number that is right for 10 ns, a round trip took 0.85 us
 * instead of 0.4 where a CPU pause takes 44 ns, and 65 us (two sleeps) where it takes 1. */
#define TPOOL__PAUSE_TIME 22u
/* From bit 16: the number of CPU pauses; below: how long they take together, in ns. Set once. */
static tpool__u32 tpool__pauses = 1 << 16 | TPOOL__PAUSE_TIME;

/* Returns how long it takes, in ns. */
static inline uint32_t tpool__pause(void) {
    uint32_t pauses = tpool__load_relaxed(&tpool__pauses); /* relaxed: one word that publishes nothing else */
    for (uint32_t left = pauses >> 16; left > 0; left--) tpool__cpu_pause();
    return pauses & 0xffff;
}
static inline void tpool__pause_for(uint32_t time) {
    for (uint32_t spent = 0; spent < time; spent += tpool__pause()) { }
}

/* The logarithm of n to base 2, rounded down. n is not 0. */
static inline unsigned tpool__log2(uint64_t n) {
#if defined(__GNUC__)
    return 63 - (unsigned)__builtin_clzll(n);
#else
    unsigned power = 0;
    for (unsigned half = 32; half > 0; half /= 2)
        if (n >> power >> half) power += half;
    return power;
#endif
}

/* --------------------------------------------------------------------------------------------------------------------
 *  >>cancel  No call of the library is a cancellation point
 *
 *  A thread that is cancelled may hold one of our locks, or stand in one of our lists. So every POSIX cancellation
 *  point that we use (waiting on a condition, joining, files, pipes, processes) runs between tpool__cancel_off and
 *  tpool__cancel_back. The program's functions do not: they run with the thread's own cancel state. The only
 *  cancellation point on purpose is tpool__cancel_here, which a worker calls between two tasks, after each item of a
 *  map and after its initializer. A task may cancel its own thread and return before it meets a cancellation point; the
 *  thread then ends there, not during the next task.
 * ----------------------------------------------------------------------------------------------------------------- */
static inline int tpool__cancel_off(void) {
    int before = 0;
#if defined(TPOOL__UNIX) && !defined(__ANDROID__) /* elsewhere no thread can be cancelled */
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
#endif
    return before;
}
static inline void tpool__cancel_back(int before) {
#if defined(TPOOL__UNIX) && !defined(__ANDROID__)
    int off;
    pthread_setcancelstate(before, &off);
#endif
    (void)before;
}
static inline void tpool__cancel_here(void) {
#if defined(TPOOL__UNIX) && !defined(__ANDROID__)
    pthread_testcancel();
#endif
}

#if defined(TPOOL__PROGRAM_ALLOCATES) && defined(TPOOL__UNIX) && !defined(TPOOL__BARE_ALLOCATOR) /* a test defines it */
/* The program's allocator may be a cancellation point, and it runs under our locks. */
static void *tpool__program_malloc(size_t size) {
    int cancel = tpool__cancel_off();
    void *memory = TPOOL_MALLOC(size);
    tpool__cancel_back(cancel);
    return memory;
}
static void tpool__program_free(void *memory) {
    int cancel = tpool__cancel_off();
    TPOOL_FREE(memory);
    tpool__cancel_back(cancel);
}
#undef TPOOL_MALLOC
#undef TPOOL_FREE
#define TPOOL_MALLOC(size) tpool__program_malloc(size)
#define TPOOL_FREE(ptr) tpool__program_free(ptr)
#endif

/* --------------------------------------------------------------------------------------------------------------------
 *  Time
 * ----------------------------------------------------------------------------------------------------------------- */
static int64_t tpool__clock(void) {
#if defined(TPOOL_THREADS_WIN32)
    LARGE_INTEGER count, rate;
    QueryPerformanceCounter(&count);
    QueryPerformanceFrequency(&rate);
    int64_t whole = count.QuadPart / rate.QuadPart, rest = count.QuadPart % rate.QuadPart;
    return whole * 1000000000 + rest * 1000000000 / rate.QuadPart;
#elif defined(TPOOL__UNIX)
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + (int64_t)t.tv_nsec;
#else
    struct timespec t; /* C11 alone has no monotonic clock */
    timespec_get(&t, TIME_UTC);
    return (int64_t)t.tv_sec * 1000000000 + (int64_t)t.tv_nsec;
#endif
}
TPOOL_API int64_t tpool_now(void) { return tpool__clock(); }

static void tpool__yield(void) {
#if defined(TPOOL_THREADS_WIN32)
    SwitchToThread();
#elif defined(TPOOL__UNIX)
    sched_yield();
#else
    thrd_yield();
#endif
}
#if !defined(TPOOL__GIVE_WAY) /* only a hint: no loop depends on it. A test's own scheduler makes it empty. */
#define TPOOL__GIVE_WAY() tpool__yield()
#endif

/* --------------------------------------------------------------------------------------------------------------------
 *  >>park  Waiting for a word to change
 *
 *  tpool__word_wait returns when *word is not `expected`, when it is woken, after at most `ns` nanoseconds, or without
 *  a reason: callers loop. tpool__word_wake uses only the address, so the word may be gone by then.
 * ----------------------------------------------------------------------------------------------------------------- */
#if defined(__linux__) && (defined(SYS_futex) || defined(SYS_futex_time64)) && !defined(TPOOL__PARK_TABLE)
#define TPOOL__PARK_FUTEX 1
#elif defined(TPOOL_THREADS_WIN32)
#define TPOOL__PARK_WIN32 1
#endif

#if defined(TPOOL__PARK_FUTEX)
static void tpool__word_wait(tpool__u32 *word, uint32_t expected, int64_t ns) {
    int saved = errno;
#if defined(SYS_futex)
    struct {
        long sec, nsec;
    } t; /* the kernel's layout; the C library's struct timespec may differ */
#else
    struct {
        long long sec, nsec;
    } t;
#endif
    const void *limit = ns == TPOOL_FOREVER ? NULL : &t; /* no needless timer: it costs a tenth of a sleep */
    if (ns > INT64_C(1000000000) * 86400) ns = INT64_C(1000000000) * 86400;
    t.sec = (long)(ns / 1000000000);
    t.nsec = (long)(ns % 1000000000);
#if defined(SYS_futex)
    syscall(SYS_futex, word, 0 | 128 /* FUTEX_WAIT, private; relative, monotonic */, expected, limit, NULL, 0);
#else
    syscall(SYS_futex_time64, word, 0 | 128, expected, limit, NULL, 0);
#endif
    errno = saved;
}
static void tpool__word_wake(tpool__u32 *word) {
    int saved = errno;
#if defined(SYS_futex)
    syscall(SYS_futex, word, 1 | 128 /* FUTEX_WAKE, private */, 1, NULL, NULL, 0);
#else
    syscall(SYS_futex_time64, word, 1 | 128, 1, NULL, NULL, 0);
#endif
    errno = saved;
}
static void tpool__park_reset(void) { }
#elif defined(TPOOL__PARK_WIN32)
static void tpool__word_wait(tpool__u32 *word, uint32_t expected, int64_t ns) {
    int64_t ms = ns / 1000000 + (ns % 1000000 > 0);
    WaitOnAddress((volatile VOID *)word, &expected, sizeof expected, ms > 86400000 ? 86400000 : (DWORD)ms);
}
static void tpool__word_wake(tpool__u32 *word) { WakeByAddressSingle((PVOID)word); }
static void tpool__park_reset(void) { }
#else
/* A table of mutexes and conditions, indexed by address. Words may share an entry, so a wake wakes all its waiters. */
typedef struct tpool__park_entry {
#if defined(TPOOL__UNIX)
    pthread_mutex_t lock;
    pthread_cond_t changed;
#else
    mtx_t lock;
    cnd_t changed;
#endif
} tpool__park_entry;
static tpool__park_entry tpool__park_table[64];
static tpool__u32 tpool__park_state; /* 0: empty, 1: being initialized, 2: ready */
static void tpool__park_reset(void) {
    for (int i = 0; i < 64; i++) {
#if defined(TPOOL__UNIX)
        pthread_condattr_t attributes;
        pthread_condattr_init(&attributes);
#if !defined(__APPLE__)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
#endif
        pthread_mutex_init(&tpool__park_table[i].lock, NULL);
        pthread_cond_init(&tpool__park_table[i].changed, &attributes);
        pthread_condattr_destroy(&attributes);
#else
        mtx_init(&tpool__park_table[i].lock, mtx_plain);
        cnd_init(&tpool__park_table[i].changed);
#endif
    }
    tpool__store_release(&tpool__park_state, 2); /* P8 */
}
static tpool__park_entry *tpool__park_find(const void *address) {
    /* No pthread_once: if another thread is inside it at a fork, the child waits for it for ever. */
    uint32_t state = tpool__load_acquire(&tpool__park_state); /* P8 */
    if (state == 0 && tpool__cas_acquire(&tpool__park_state, &state, 1)) tpool__park_reset();
    while (tpool__load_acquire(&tpool__park_state) != 2) tpool__yield(); /* P8 */
    return &tpool__park_table[(((uintptr_t)address >> 4) ^ ((uintptr_t)address >> 12)) % 64];
}
static void tpool__word_wait(tpool__u32 *word, uint32_t expected, int64_t ns) {
    tpool__park_entry *entry = tpool__park_find(word);
    if (ns > INT64_C(3600000000000)) ns = INT64_C(3600000000000);
#if defined(TPOOL__UNIX)
    struct timespec t;
    int cancel = tpool__cancel_off();
    pthread_mutex_lock(&entry->lock);
    if (tpool__load_relaxed(word) == expected) { /* relaxed: the waker changes the word, then takes this mutex */
#if defined(__APPLE__)
        t.tv_sec = (time_t)(ns / 1000000000);
        t.tv_nsec = (long)(ns % 1000000000);
        pthread_cond_timedwait_relative_np(&entry->changed, &entry->lock, &t);
#else
        int64_t end = tpool__clock() + ns;
        t.tv_sec = (time_t)(end / 1000000000);
        t.tv_nsec = (long)(end % 1000000000);
        pthread_cond_timedwait(&entry->changed, &entry->lock, &t);
#endif
    }
    pthread_mutex_unlock(&entry->lock);
    tpool__cancel_back(cancel);
#else
    if (ns > 50000000) ns = 50000000; /* C11 waits by the civil clock: short waits limit what a jump does */
    struct timespec t;
    mtx_lock(&entry->lock);
    if (tpool__load_relaxed(word) == expected) { /* relaxed: the waker changes the word, then takes this mutex */
        timespec_get(&t, TIME_UTC);
        int64_t end = (int64_t)t.tv_nsec + ns;
        t.tv_sec += (time_t)(end / 1000000000);
        t.tv_nsec = (long)(end % 1000000000);
        cnd_timedwait(&entry->changed, &entry->lock, &t);
    }
    mtx_unlock(&entry->lock);
#endif
}
static void tpool__word_wake(tpool__u32 *word) {
    tpool__park_entry *entry = tpool__park_find(word);
#if defined(TPOOL__UNIX)
    pthread_mutex_lock(&entry->lock);
    pthread_cond_broadcast(&entry->changed);
    pthread_mutex_unlock(&entry->lock);
#else
    mtx_lock(&entry->lock);
    cnd_broadcast(&entry->changed);
    mtx_unlock(&entry->lock);
#endif
}
#endif

/* For loops that wait for another thread to leave a few instructions. Each look takes the cache line from a thread that
 * keeps writing to it, so the pauses double; after 0.7 us in all the thread yields, and in the end it naps. (Anderson,
 * "The Performance of Spin Lock Alternatives for Shared-Memory Multiprocessors", 1990.) */
static void tpool__backoff(unsigned *tries) {
    unsigned n = (*tries)++;
    if (n < 5) tpool__pause_for(TPOOL__PAUSE_TIME << n);
    else if (n < 1024) tpool__yield();
    else { /* our higher priority may keep the other thread off this CPU */ tpool__u32 nothing = 0;
        tpool__word_wait(&nothing, 0, 50000);
    }
}

/* --------------------------------------------------------------------------------------------------------------------
 *  >>spin  Looking for a moment before going to sleep
 *
 *  Sleeping and being woken costs 5 to 50 us, a look at a word tens of nanoseconds. So a thread that waits first spins
 *  on a budget: it looks at the word for about as long as a sleep would cost, if spinning has paid lately. Each failed
 *  spin halves the budget, down to what is free; one wait in 512 has the whole budget again. That one is needed: two
 *  threads that wake each other would never learn otherwise that spinning pays. (Karlin, Li, Manasse and Owicki,
 *  "Empirical Studies of Competitive Spinning", 1991.) A success beyond the free time resets the count of failed spins,
 *  one within it halves the count. (Rejected: to halve it always. Two threads that pass 8 futures at a time then took
 *  69 us each time instead of 5.)
 *
 *  Beyond TPOOL__FREE_TIME no more threads spin at a time than there are spare CPUs. On one CPU no thread spins: the
 *  thread that it waits for needs that CPU. The time of a spin is the sum of its pauses, so a spin reads no clock.
 *
 *  Nothing is free to a waiter that had to wake a worker, and little to a worker that was woken for one task. The
 *  system lets two such threads take turns on one CPU, where a spin of one keeps the other from running (a round trip
 *  after a pause: 5.8 us where all looks are free, 3.2 so, and a tenth less CPU time). Rejected: nothing free to the
 *  worker. It falls asleep again in the middle of a burst (1,000 tasks: 65 us instead of 58).
 * ----------------------------------------------------------------------------------------------------------------- */
#define TPOOL__FREE_TIME (40 * TPOOL__PAUSE_TIME)
#define TPOOL__LITTLE_TIME (8 * TPOOL__PAUSE_TIME)
#define TPOOL__LOOK_TIME 2u /* of a look at one worker; other looks are short beside a pause */
#define TPOOL__SPIN_BUDGET 65536u
#define TPOOL__SPIN_ONE_IN 512u

static tpool__u32 tpool__spare_cpus; /* the number of CPUs minus one; set once */
static tpool__u32 tpool__spinning;   /* threads that spin beyond TPOOL__FREE_TIME */

typedef struct tpool__spin {
    uint32_t *failed_spins;            /* the caller's count, kept from one wait to the next */
    uint32_t free_time, budget, spent; /* ns */
    bool counted;                      /* in tpool__spinning */
    int64_t deadline;                  /* the caller's */
} tpool__spin;

static inline tpool__spin tpool__spin_begin(uint32_t *failed_spins, uint32_t free_time, int64_t deadline) {
    uint32_t failed = *failed_spins;
    tpool__spin spin = { failed_spins, free_time, failed <= 16 ? TPOOL__SPIN_BUDGET >> failed : 0, 0, false, deadline };
    if (failed % TPOOL__SPIN_ONE_IN == 0) spin.budget = TPOOL__SPIN_BUDGET;
    if (spin.budget < free_time) spin.budget = free_time;
    if (tpool__load_relaxed(&tpool__spare_cpus) == 0) spin.budget = 0; /* relaxed: set before there was a pool */
    return spin;
}
/* Beyond TPOOL__FREE_TIME, which need not end at the deadline. */
static TPOOL__NOINLINE bool tpool__spin_on(tpool__spin *spin) {
    /* relaxed: a count of threads, which publishes nothing */
    spin->counted = tpool__add_relaxed(&tpool__spinning, 1) < tpool__load_relaxed(&tpool__spare_cpus);
    if (!spin->counted) tpool__sub_relaxed(&tpool__spinning, 1);
    if (!spin->counted || spin->deadline == TPOOL_FOREVER) return spin->counted;
    int64_t left = spin->deadline - tpool__clock();
    if (left < spin->budget - spin->spent) spin->budget = spin->spent + (uint32_t)(left > 0 ? left : 0);
    return left > 0;
}
/* Called after a look that found nothing. True: look again. */
static inline bool tpool__spin_again(tpool__spin *spin) {
    if (spin->spent >= spin->budget) return false;
    if (spin->spent >= TPOOL__FREE_TIME && !spin->counted && !tpool__spin_on(spin)) return false;
    spin->spent += tpool__pause();
    return true;
}
static void tpool__spin_end(tpool__spin *spin, bool came) {
    if (spin->counted) tpool__sub_relaxed(&tpool__spinning, 1); /* relaxed: as above */
    if (!came) ++*spin->failed_spins;
    else *spin->failed_spins = spin->spent > spin->free_time ? 0 : *spin->failed_spins / 2;
}

/* --------------------------------------------------------------------------------------------------------------------
 *  >>held  Which locks the calling thread holds. Noted only for TPOOL_ASSERT: a function that must be called under a
 *  lock asserts tpool__held; what must not happen under one asserts tpool__holds_none.
 * ----------------------------------------------------------------------------------------------------------------- */
#if TPOOL__ASSERTS
#define TPOOL__MOST_HELD 8u
typedef struct tpool__locks {
    const volatile void *held[TPOOL__MOST_HELD];
    unsigned count;
} tpool__locks;
TPOOL__PER_THREAD(tpool__locks, tpool__own_locks)

static bool tpool__held(const volatile void *lock) {
    const tpool__locks *own = tpool__own_locks();
    for (unsigned i = 0; i < own->count; i++)
        if (own->held[i] == lock) return true;
    return false;
}
static inline bool tpool__holds_none(void) { return tpool__own_locks()->count == 0; }
static void tpool__note_locked(const volatile void *lock) {
    tpool__locks *own = tpool__own_locks();
    TPOOL_ASSERT(own->count < TPOOL__MOST_HELD);
    if (own->count < TPOOL__MOST_HELD) own->held[own->count++] = lock;
}
static void tpool__note_unlocked(const volatile void *lock) {
    tpool__locks *own = tpool__own_locks();
    unsigned i = own->count;
    while (i > 0 && own->held[i - 1] != lock) i--;
    TPOOL_ASSERT(i > 0);
    if (i > 0) own->held[i - 1] = own->held[--own->count];
}
#else
#define tpool__note_locked(lock) ((void)(lock))
#define tpool__note_unlocked(lock) ((void)(lock))
#endif

/* --------------------------------------------------------------------------------------------------------------------
 *  >>lock  A lock of one word. (Drepper, "Futexes are tricky", 2011) Pair P1: the exchange in tpool__unlock releases,
 *  the one that takes the lock acquires.
 * ----------------------------------------------------------------------------------------------------------------- */
typedef tpool__u32 tpool__lock_word;
enum { TPOOL__LOCK_FREE, TPOOL__LOCK_HELD, TPOOL__LOCK_AWAITED }; /* awaited: a thread may sleep until it is free */

/* The pauses double, as in tpool__backoff: eight threads that ask a manager for pools take 101 ns each time instead of
 * 264. */
static TPOOL__NOINLINE void tpool__lock_slowly(tpool__lock_word *lock) {
    uint32_t longest = tpool__load_relaxed(&tpool__spare_cpus) ? TPOOL__PAUSE_TIME << 5 : 0; /* relaxed: as above */
    for (uint32_t time = TPOOL__PAUSE_TIME;; time *= 2) {
        uint32_t seen = TPOOL__LOCK_FREE;
        /* relaxed: a hint; taking it acquires */
        if (tpool__load_relaxed(lock) == TPOOL__LOCK_FREE && tpool__cas_acquire(lock, &seen, TPOOL__LOCK_HELD)) /* P1 */
            return;
        if (time > longest) break;
        tpool__pause_for(time);
    }
    while (tpool__exchange_acquire(lock, TPOOL__LOCK_AWAITED) != TPOOL__LOCK_FREE) /* P1 */
        tpool__word_wait(lock, TPOOL__LOCK_AWAITED, TPOOL_FOREVER);
}
static inline void tpool__lock(tpool__lock_word *lock) {
    uint32_t seen = TPOOL__LOCK_FREE;
    TPOOL_ASSERT(!tpool__held(lock));
    if (!TPOOL__LIKELY(tpool__cas_acquire(lock, &seen, TPOOL__LOCK_HELD))) tpool__lock_slowly(lock); /* P1 */
    tpool__note_locked(lock);
}
static inline void tpool__unlock(tpool__lock_word *lock) {
    tpool__note_unlocked(lock);
    if (!TPOOL__LIKELY(tpool__exchange_release(lock, TPOOL__LOCK_FREE) == TPOOL__LOCK_HELD)) /* P1 */
        tpool__word_wake(lock);
}

/* --------------------------------------------------------------------------------------------------------------------
 *  >>spinlock  Held for a few instructions: TPOOL__LOCK_FREE or TPOOL__LOCK_HELD. A thread that finds it held
 *  looks again, then yields, and in the end naps (tpool__backoff). So the unlock need not wake any thread: it is a
 *  plain store, and the holder's last touch. Pair P1 too.
 *
 *  Rejected for the lanes: the lock above. Its unlock is an exchange, which waits for every store before it. Those into
 *  a lane's slots miss the cache, so two thirds of a submit's time went there.
 * ----------------------------------------------------------------------------------------------------------------- */
typedef tpool__u32 tpool__spinlock;

static inline bool tpool__spin_try_lock(tpool__spinlock *spinlock) {
    uint32_t seen = TPOOL__LOCK_FREE;
    TPOOL_ASSERT(!tpool__held(spinlock));
    if (!TPOOL__LIKELY(tpool__cas_acquire(spinlock, &seen, TPOOL__LOCK_HELD))) return false; /* P1 */
    tpool__note_locked(spinlock);
    return true;
}
static TPOOL__NOINLINE void tpool__spin_lock_slowly(tpool__spinlock *spinlock) {
    unsigned tries = 0;
    do
        while (tpool__load_relaxed(spinlock) != TPOOL__LOCK_FREE) /* relaxed: a hint; taking it acquires */
            tpool__backoff(&tries);
    while (!tpool__spin_try_lock(spinlock));
}
static inline void tpool__spin_lock(tpool__spinlock *spinlock) {
    if (!TPOOL__LIKELY(tpool__spin_try_lock(spinlock))) tpool__spin_lock_slowly(spinlock);
}
static inline void tpool__spin_unlock(tpool__spinlock *spinlock) {
    tpool__note_unlocked(spinlock);
    tpool__store_release(spinlock, TPOOL__LOCK_FREE); /* P1 */
}
/* Older names, by which test programs outside of the project know these, and two members of tpool. */
#define tpool__latch tpool__spin_lock
#define tpool__unlatch tpool__spin_unlock

/* --------------------------------------------------------------------------------------------------------------------
 *  >>parker  A park token: one thread parks on it. Each worker has one, and each wait. tpool__unpark may come before
 *  or after tpool__park; its exchange is its last touch of the parker's memory. Pair P5: what one thread did before
 *  the unpark, the other sees after the park.
 * ----------------------------------------------------------------------------------------------------------------- */
typedef tpool__u32 tpool__parker;
enum { TPOOL__TOKEN_EMPTY, TPOOL__TOKEN_NOTIFIED, TPOOL__TOKEN_ASLEEP }; /* EMPTY is 0: a zeroed parker is ready */

/* True: notified, and the token is empty again. False: the deadline passed. */
static bool tpool__park(tpool__parker *parker, int64_t deadline) {
    uint32_t seen = TPOOL__TOKEN_EMPTY;
    TPOOL_ASSERT(tpool__holds_none());
    if (tpool__cas_acquire(parker, &seen, TPOOL__TOKEN_ASLEEP)) { /* acquire only for uniformity: the token was empty */
        for (;;) {
            int64_t left = TPOOL_FOREVER;
            if (deadline != TPOOL_FOREVER) {
                left = deadline - tpool__clock();
                if (left <= 0) {
                    seen = TPOOL__TOKEN_ASLEEP;
                    if (tpool__cas_acquire(parker, &seen, TPOOL__TOKEN_EMPTY)) return false;
                    break;
                }
            }
            tpool__word_wait(parker, TPOOL__TOKEN_ASLEEP, left);
            if (tpool__load_relaxed(parker) != TPOOL__TOKEN_ASLEEP) break; /* relaxed: the exchange below acquires */
        }
    }
    return tpool__exchange_acquire(parker, TPOOL__TOKEN_EMPTY) == TPOOL__TOKEN_NOTIFIED; /* P5 */
}
/* Unparking in two steps, for a caller that holds a lock which the woken thread wants at once. The first step, under
 * the lock, notifies, and returns the parker if its thread sleeps. The second, after the unlock, wakes the thread, by
 * the address alone, since the parker may be gone by then. (A thread woken under the lock would meet its waker at the
 * lock: a round trip after a pause took 3.0 us instead of 2.9, and 3 % more CPU time.) */
static inline tpool__parker *tpool__unpark_begin(tpool__parker *parker) {
    return tpool__exchange_release(parker, TPOOL__TOKEN_NOTIFIED) == TPOOL__TOKEN_ASLEEP ? parker : NULL; /* P5 */
}
static inline void tpool__unpark_end(tpool__parker *asleep) {
    if (asleep) tpool__word_wake(asleep);
}
static void tpool__unpark(tpool__parker *parker) { tpool__unpark_end(tpool__unpark_begin(parker)); }
/* The first step for one more thread: returns the sleeper that is still to be woken. If both sleep, it wakes the
 * earlier one at once, so of several only the last is woken after the unlock. */
static tpool__parker *tpool__unpark_begin_another(tpool__parker *asleep, tpool__parker *parker) {
    tpool__parker *another = tpool__unpark_begin(parker);
    if (another) tpool__unpark_end(asleep);
    return another ? another : asleep;
}

/* --------------------------------------------------------------------------------------------------------------------
 *  >>event  What an event loop polls: an object of the system that is set or not. On Linux an eventfd, elsewhere under
 *  POSIX a pipe, on Windows an event. Set and clear take turns, so a pipe holds at most one byte.
 * ----------------------------------------------------------------------------------------------------------------- */
typedef struct tpool__event {
#if defined(TPOOL_THREADS_WIN32)
    HANDLE handle;
#else
    int polled, written; /* the same, if it is an eventfd */
#endif
} tpool__event;

#if defined(TPOOL_THREADS_WIN32)
static tpool_status tpool__event_make(tpool__event *event) {
    event->handle = CreateEventA(NULL, TRUE, FALSE, NULL);
    return event->handle ? TPOOL_OK : TPOOL_NO_THREAD;
}
static intptr_t tpool__event_descriptor(const tpool__event *event) { return (intptr_t)event->handle; }
static void tpool__event_set(const tpool__event *event) { SetEvent(event->handle); }
static void tpool__event_clear(const tpool__event *event) { ResetEvent(event->handle); }
static void tpool__event_close(const tpool__event *event) { CloseHandle(event->handle); }
#elif defined(TPOOL__UNIX)
static tpool_status tpool__event_make(tpool__event *event) {
    int ends[2] = { -1, -1 }, saved = errno;
#if defined(SYS_eventfd2) && !defined(TPOOL__PLAIN_POSIX)
    ends[0] = ends[1] = (int)syscall(SYS_eventfd2, 0u, O_CLOEXEC | O_NONBLOCK);
#endif
#if defined(TPOOL__PIPE2) /* no child that another thread forks meanwhile inherits it */
    if (ends[0] < 0) (void)!pipe2(ends, O_CLOEXEC | O_NONBLOCK);
#else
    if (ends[0] < 0 && pipe(ends) == 0)
        for (int i = 0; i < 2; i++) {
            fcntl(ends[i], F_SETFD, FD_CLOEXEC);
            fcntl(ends[i], F_SETFL, O_NONBLOCK);
        }
#endif
    errno = saved;
    event->polled = ends[0];
    event->written = ends[1];
    return ends[0] >= 0 ? TPOOL_OK : TPOOL_NO_THREAD;
}
static intptr_t tpool__event_descriptor(const tpool__event *event) { return event->polled; }
static void tpool__event_set(const tpool__event *event) {
    uint64_t one = 1;
    int saved = errno, cancel = tpool__cancel_off();
    while (write(event->written, &one, event->written == event->polled ? sizeof one : 1) < 0 && errno == EINTR) { }
    tpool__cancel_back(cancel);
    errno = saved;
}
static void tpool__event_clear(const tpool__event *event) {
    uint64_t read_away;
    int saved = errno, cancel = tpool__cancel_off();
    while (read(event->polled, &read_away, sizeof read_away) < 0 && errno == EINTR) { }
    tpool__cancel_back(cancel);
    errno = saved;
}
static void tpool__event_close(const tpool__event *event) {
    int saved = errno, cancel = tpool__cancel_off();
    (void)close(event->polled);
    if (event->written != event->polled) (void)close(event->written);
    tpool__cancel_back(cancel);
    errno = saved;
}
#else
static tpool_status tpool__event_make(tpool__event *event) {
    event->polled = event->written = -1;
    return TPOOL_UNSUPPORTED;
}
static intptr_t tpool__event_descriptor(const tpool__event *event) { return event->polled; }
static void tpool__event_set(const tpool__event *event) { (void)event; }
static void tpool__event_clear(const tpool__event *event) { (void)event; }
static void tpool__event_close(const tpool__event *event) { (void)event; }
#endif

/* --------------------------------------------------------------------------------------------------------------------
 *  Threads
 * ----------------------------------------------------------------------------------------------------------------- */
typedef struct tpool__thread_handle {
#if defined(TPOOL_THREADS_WIN32)
    HANDLE win32;
#else
#if defined(TPOOL__THREADS_C11)
    thrd_t c11;
#endif
#if defined(TPOOL__UNIX)
    pthread_t posix;
    bool is_posix;
#endif
#endif
    bool valid;
    void (*main)(void *of); /* what the thread executes; it reads this as it begins */
    void *of;
} tpool__thread_handle;

#if defined(TPOOL__UNIX)
/* A worker blocks all signals but those that a thread causes itself, and those that profilers send to the thread they
 * sample. */
static void tpool__worker_signals(sigset_t *blocked) {
    static const int let_through[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT, SIGPROF, SIGVTALRM };
    sigfillset(blocked);
    for (size_t i = 0; i < sizeof let_through / sizeof *let_through; i++) sigdelset(blocked, let_through[i]);
}
#endif

static void tpool__thread_main(void *handle) {
    const tpool__thread_handle *begun = (const tpool__thread_handle *)handle;
    begun->main(begun->of);
}
#if defined(TPOOL_THREADS_WIN32)
static DWORD WINAPI tpool__thread_entry_win32(LPVOID handle) {
    tpool__thread_main(handle);
    return 0;
}
#else
#if defined(TPOOL__THREADS_C11)
static int tpool__thread_entry_c11(void *handle) {
    tpool__thread_main(handle);
    return 0;
}
#endif
#if defined(TPOOL__UNIX)
static void *tpool__thread_entry_posix(void *handle) {
    tpool__thread_main(handle);
    return NULL;
}
#endif
#endif

/* Starts a thread, with asynchronous signals blocked from its first instruction. False: refused. Meanwhile the starter
 * keeps blocked what it has blocked itself; the thread sets its own whole mask later (tpool__thread_begin). */
static bool tpool__thread_start(tpool__thread_handle *handle, void (*main)(void *of), void *of, size_t stack_size) {
    bool started = false;
    handle->main = main;
    handle->of = of;
#if defined(TPOOL__UNIX)
    sigset_t blocked, before;
    tpool__worker_signals(&blocked);
    pthread_sigmask(SIG_BLOCK, &blocked, &before);
#endif
#if defined(TPOOL_THREADS_WIN32)
    handle->win32 = CreateThread(NULL, stack_size, tpool__thread_entry_win32, handle,
                                 stack_size ? STACK_SIZE_PARAM_IS_A_RESERVATION : 0, NULL);
    started = handle->win32 != NULL;
#else
#if defined(TPOOL__THREADS_C11)
#if defined(TPOOL__UNIX)
    handle->is_posix = stack_size != 0; /* C11 cannot set a stack's size */
    if (!handle->is_posix)
#else
    (void)stack_size;
#endif
        started = thrd_create(&handle->c11, tpool__thread_entry_c11, handle) == thrd_success;
#elif defined(TPOOL__UNIX)
    handle->is_posix = true;
#endif
#if defined(TPOOL__UNIX)
    if (handle->is_posix) {
        pthread_attr_t attributes;
        if (pthread_attr_init(&attributes) == 0) {
            bool accepted = true;
            if (stack_size) {
                long page = sysconf(_SC_PAGESIZE);
                size_t unit = page > 0 ? (size_t)page : 4096, least = (size_t)PTHREAD_STACK_MIN;
                if (stack_size < least) stack_size = least;
                if (stack_size <= SIZE_MAX - unit) stack_size = (stack_size + unit - 1) / unit * unit;
                accepted = pthread_attr_setstacksize(&attributes, stack_size) == 0;
            }
            started = accepted && pthread_create(&handle->posix, &attributes, tpool__thread_entry_posix, handle) == 0;
            pthread_attr_destroy(&attributes);
        }
    }
#endif
#endif
#if defined(TPOOL__UNIX)
    pthread_sigmask(SIG_SETMASK, &before, NULL);
#endif
    handle->valid = started;
    return started;
}

static void tpool__thread_join(tpool__thread_handle *handle) {
    if (!handle->valid) return;
    handle->valid = false;
#if defined(TPOOL_THREADS_WIN32)
    WaitForSingleObject(handle->win32, INFINITE);
    CloseHandle(handle->win32);
#else
    int cancel = tpool__cancel_off();
#if defined(TPOOL__UNIX)
    if (handle->is_posix) pthread_join(handle->posix, NULL);
#endif
#if defined(TPOOL__THREADS_C11)
#if defined(TPOOL__UNIX)
    if (!handle->is_posix)
#endif
        thrd_join(handle->c11, NULL);
#endif
    tpool__cancel_back(cancel);
#endif
}
static void tpool__thread_detach(tpool__thread_handle *handle) {
    if (!handle->valid) return;
    handle->valid = false;
#if defined(TPOOL_THREADS_WIN32)
    CloseHandle(handle->win32);
#else
#if defined(TPOOL__UNIX)
    if (handle->is_posix) pthread_detach(handle->posix);
#endif
#if defined(TPOOL__THREADS_C11)
#if defined(TPOOL__UNIX)
    if (!handle->is_posix)
#endif
        thrd_detach(handle->c11);
#endif
#endif
}
/* The join in a thread's exit hook. While a hook runs, Windows lets no other thread end: it must not wait there. */
static void tpool__thread_join_in_hook(tpool__thread_handle *handle) {
#if defined(TPOOL_THREADS_WIN32)
    if (handle->valid) CloseHandle(handle->win32);
    handle->valid = false;
#else
    tpool__thread_join(handle);
#endif
}

/* --------------------------------------------------------------------------------------------------------------------
 *  >>scheduling  Workers are scheduled as the pool's creator is
 *
 *  A new thread inherits the scheduling of the thread that starts it, which may be any submitter or another worker. So
 *  a pool notes its creator's CPUs, policy, priority and niceness, and each worker takes on what differs as it begins.
 *  For a shared or managed pool the main thread counts: the thread that happens to ask first is no more its owner than
 *  the others. What the system refuses stays as it is: an unprivileged thread cannot take back an inherited niceness.
 *
 *  Rejected: a thread started at create, as a template from which the system makes all others. It would undo that
 *  niceness too, but costs one sleeping thread per pool.
 * ----------------------------------------------------------------------------------------------------------------- */
#if defined(__linux__)
typedef struct tpool__rank {
    int policy, priority, nice;
} tpool__rank; /* policy -1: not known */
typedef struct tpool__scheduling {
    tpool__rank rank;
    size_t size; /* bytes of the mask; 0: not known */
    unsigned long cpus[];
} tpool__scheduling;
enum { TPOOL__RESET_ON_FORK = 0x40000000, TPOOL__DEADLINE = 6 }; /* the kernel's: a bit of the policy; a policy */

#define TPOOL__MASK_WORDS (65536 / CHAR_BIT / sizeof(unsigned long)) /* 65,536 CPUs */

/* thread: its number, or 0 for the calling one. Returns how many bytes the kernel wrote, 0 if it refuses. */
static size_t tpool__cpus_of(int thread, unsigned long *mask, size_t size) {
    long bytes = syscall(SYS_sched_getaffinity, thread, size, mask);
    return bytes > 0 ? (size_t)bytes : 0;
}
/* Asks the kernel, since a C library may keep a copy of its own, or refuse. One system call tells everything about an
 * ordinary thread. Others serve where the kernel lacks it, and for a real-time thread's niceness, which it omits. */
static void tpool__rank_of(int thread, tpool__rank *rank) {
#if defined(SYS_sched_getattr)
    struct { /* the first version of the kernel's struct */
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } all;
    memset(&all, 0, sizeof all);
    if (syscall(SYS_sched_getattr, thread, &all, (unsigned)sizeof all, 0u) == 0) {
        bool resets = all.flags & 1;
        rank->policy = (int)all.policy | (resets ? TPOOL__RESET_ON_FORK : 0);
        rank->priority = (int)all.priority;
        rank->nice = all.nice;
        bool told = all.policy != SCHED_FIFO && all.policy != SCHED_RR && all.policy != TPOOL__DEADLINE;
        if (!told) rank->nice = getpriority(PRIO_PROCESS, (id_t)thread);
        return;
    }
#endif
    struct sched_param parameters;
    memset(&parameters, 0, sizeof parameters);
    int policy = (int)syscall(SYS_sched_getscheduler, thread);
    /* other policies have no priority */
    bool ranks = policy >= 0 && ((policy & 0xff) == SCHED_FIFO || (policy & 0xff) == SCHED_RR);
    if (ranks && syscall(SYS_sched_getparam, thread, &parameters) != 0) policy = -1;
    rank->policy = policy;
    rank->priority = parameters.sched_priority;
    rank->nice = getpriority(PRIO_PROCESS, (id_t)thread);
}

static tpool__scheduling *tpool__scheduling_note(bool of_process) {
    unsigned long mask[TPOOL__MASK_WORDS];
    int saved = errno, thread = of_process ? (int)getpid() : 0; /* the main thread has the process's number */
    size_t size = tpool__cpus_of(thread, mask, sizeof mask);
    tpool__scheduling *noted = TPOOL_MALLOC(sizeof *noted + size);
    if (noted) {
        tpool__rank *rank = &noted->rank;
        noted->size = size;
        if (size) memcpy(noted->cpus, mask, size);
        tpool__rank_of(thread, rank);
        if (rank->policy >= 0 && rank->policy & TPOOL__RESET_ON_FORK) { /* its new threads begin as ordinary ones */
            rank->policy &= ~TPOOL__RESET_ON_FORK;
            if (rank->priority > 0 || rank->policy == TPOOL__DEADLINE) rank->policy = rank->priority = SCHED_OTHER;
            if (rank->nice < 0) rank->nice = 0;
        }
    }
    errno = saved;
    return noted;
}
static void tpool__scheduling_take_on(const tpool__scheduling *noted) {
    unsigned long mask[16]; /* a longer mask is set without a comparison */
    tpool__rank mine;
    tpool__rank_of(0, &mine);
    if (noted->size &&
        (tpool__cpus_of(0, mask, sizeof mask) != noted->size || memcmp(mask, noted->cpus, noted->size) != 0))
        (void)syscall(SYS_sched_setaffinity, 0, noted->size, noted->cpus);
    if (noted->rank.policy >= 0 && (mine.policy != noted->rank.policy || mine.priority != noted->rank.priority)) {
        struct sched_param parameters;
        memset(&parameters, 0, sizeof parameters);
        parameters.sched_priority = noted->rank.priority;
        /* the C library's call, which renews its copy */
        (void)pthread_setschedparam(pthread_self(), noted->rank.policy, &parameters);
        mine.nice = getpriority(PRIO_PROCESS, 0);
    }
    if (mine.nice != noted->rank.nice) (void)setpriority(PRIO_PROCESS, 0, noted->rank.nice);
}
#elif defined(TPOOL_THREADS_WIN32) /* here a new thread has the process's scheduling, whichever thread starts it */
typedef struct tpool__scheduling {
    bool of_process, has_cpus;
    int priority;
    GROUP_AFFINITY cpus;
} tpool__scheduling;
static tpool__scheduling *tpool__scheduling_note(bool of_process) {
    tpool__scheduling *noted = TPOOL_MALLOC(sizeof *noted);
    if (!noted) return NULL;
    memset(noted, 0, sizeof *noted);
    noted->of_process = of_process;
    noted->priority = GetThreadPriority(GetCurrentThread());
    noted->has_cpus = GetThreadGroupAffinity(GetCurrentThread(), &noted->cpus) != 0;
    return noted;
}
static void tpool__scheduling_take_on(const tpool__scheduling *noted) {
    GROUP_AFFINITY mine;
    if (noted->of_process) return;
    if (noted->has_cpus && GetThreadGroupAffinity(GetCurrentThread(), &mine) &&
        (mine.Group != noted->cpus.Group || mine.Mask != noted->cpus.Mask))
        (void)SetThreadGroupAffinity(GetCurrentThread(), &noted->cpus, NULL);
    if (noted->priority != THREAD_PRIORITY_ERROR_RETURN && noted->priority != GetThreadPriority(GetCurrentThread()))
        (void)SetThreadPriority(GetCurrentThread(), noted->priority);
}
#elif defined(TPOOL__UNIX)
typedef struct tpool__scheduling {
    bool known;
    int policy;
    struct sched_param parameters;
} tpool__scheduling;
static tpool__scheduling *tpool__scheduling_note(bool of_process) {
    tpool__scheduling *noted = TPOOL_MALLOC(sizeof *noted);
    if (!noted) return NULL;
    (void)of_process; /* no call names the main thread */
    noted->known = pthread_getschedparam(pthread_self(), &noted->policy, &noted->parameters) == 0;
    return noted;
}
static void tpool__scheduling_take_on(const tpool__scheduling *noted) {
    int policy;
    struct sched_param parameters;
    if (noted->known && pthread_getschedparam(pthread_self(), &policy, &parameters) == 0 &&
        (policy != noted->policy || parameters.sched_priority != noted->parameters.sched_priority))
        (void)pthread_setschedparam(pthread_self(), noted->policy, &noted->parameters);
}
#else
typedef struct tpool__scheduling {
    bool of_process;
} tpool__scheduling;
static tpool__scheduling *tpool__scheduling_note(bool of_process) {
    tpool__scheduling *noted = TPOOL_MALLOC(sizeof *noted);
    if (noted) noted->of_process = of_process;
    return noted;
}
static void tpool__scheduling_take_on(const tpool__scheduling *noted) { (void)noted; }
#endif

/* Sets the default floating-point environment; a new thread inherits its starter's. Not by fesetenv, which may be in a
 * separate library. */
static inline void tpool__float_default(void) {
#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__)) && !defined(_WIN32)
#if defined(__SSE__)
    uint32_t mxcsr = 0x1f80;
    __asm__ __volatile__("ldmxcsr %0" : : "m"(mxcsr));
#endif
#if !(defined(__FreeBSD__) && defined(__i386__)) /* there the default rounds differently */
    uint16_t x87 = 0x037f;
    __asm__ __volatile__("fnclex\n\tfldcw %0" : : "m"(x87));
#endif
#elif defined(__GNUC__) && defined(__aarch64__)
    __asm__ __volatile__("msr fpcr, %0\n\tmsr fpsr, %0" : : "r"((uint64_t)0));
#elif defined(__GNUC__) && defined(__arm__) && defined(__VFP_FP__) && !defined(__SOFTFP__)
    __asm__ __volatile__("vmsr fpscr, %0" : : "r"(0));
#elif defined(__GNUC__) && defined(__riscv_flen)
    __asm__ __volatile__("fscsr zero");
#endif
}

/* A worker's thread calls this first. */
static void tpool__thread_begin(const tpool__scheduling *scheduling) {
#if defined(TPOOL__UNIX)
    sigset_t blocked; /* replaces the inherited mask; musl 1.2 starts a C11 thread with all signals blocked */
    tpool__worker_signals(&blocked);
    pthread_sigmask(SIG_SETMASK, &blocked, NULL);
#endif
    if (scheduling) tpool__scheduling_take_on(scheduling);
    tpool__float_default();
}

/* Names the calling thread "base_index"; cuts the base, never the index. */
static void tpool__thread_name(const char *base, int index) {
#if defined(__linux__) || defined(__APPLE__)
    char text[16], number[13];
    int digits = snprintf(number, sizeof number, "_%d", index);
    snprintf(text, sizeof text, "%.*s%s", 15 - digits, base, number);
#if defined(__APPLE__)
    pthread_setname_np(text);
#else
    prctl(PR_SET_NAME, (unsigned long)(uintptr_t)text, 0ul, 0ul, 0ul);
#endif
#elif defined(TPOOL_THREADS_WIN32)
    typedef HRESULT(WINAPI * set_description)(HANDLE, PCWSTR); /* only since Windows 10, so looked up */
    HMODULE module = GetModuleHandleA("kernel32.dll");
    FARPROC found = module ? GetProcAddress(module, "SetThreadDescription") : NULL;
    if (found) {
        WCHAR wide[96];
        char text[96];
        snprintf(text, sizeof text, "%.80s_%d", base, index);
        if (MultiByteToWideChar(CP_UTF8, 0, text, -1, wide, 96) > 0) {
            set_description set;
            memcpy(&set, &found, sizeof set);
            set(GetCurrentThread(), wide);
        }
    }
#else
    (void)base;
    (void)index;
#endif
}

/* An address on the real stack, to compare with tpool__stack_floor. */
static inline uintptr_t tpool__stack_position(void) {
#if defined(__GNUC__)
    const void *frame = __builtin_frame_address(0);
    return (uintptr_t)frame;
#else
    volatile char here = 0;
    return (uintptr_t)&here;
#endif
}

/* Returns the lowest address of the calling thread's stack, and its size in *whole. 0: the system does not know. */
static uintptr_t tpool__stack_end(size_t *whole) {
    uintptr_t low = 0;
    size_t size = 0;
#if defined(__linux__)
    pthread_attr_t attributes;
    if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
        void *base = NULL;
        if (pthread_attr_getstack(&attributes, &base, &size) == 0) low = (uintptr_t)base;
        pthread_attr_destroy(&attributes);
    }
#elif defined(__APPLE__)
    size = pthread_get_stacksize_np(pthread_self());
    low = (uintptr_t)pthread_get_stackaddr_np(pthread_self()) - size;
#elif defined(TPOOL_THREADS_WIN32)
    ULONG_PTR lowest = 0, highest = 0;
    GetCurrentThreadStackLimits(&lowest, &highest);
    low = (uintptr_t)lowest;
    size = (size_t)(highest - lowest);
#endif
    *whole = size;
    return low;
}
/* For a thread that was ended in the middle of something and goes on at an earlier place of its stack. The functions
 * beyond that place have not returned; AddressSanitizer would take their arrays for a part of what is called next. */
static inline void tpool__stack_left(void) {
#if TPOOL__ADDRESS_SANITIZED
    size_t whole;
    /* up to that place: the frames of this function and its callers lie where others lay */
    uintptr_t low = tpool__stack_end(&whole), here = tpool__stack_position() + 512;
    if (low != 0 && here - low > whole) here = low + whole;
    if (low != 0 && low < here) __asan_unpoison_memory_region((void *)low, here - low);
#endif
}
/* The lowest address of the calling thread's stack at which a nested task may start: a quarter of the stack stays free
 * for that task. Where the system does not tell, the stack is taken to begin at `top` and to have the configured size,
 * or 256 KiB. */
static uintptr_t tpool__stack_floor(uintptr_t top, size_t configured) {
    size_t size;
    uintptr_t low = tpool__stack_end(&size);
    if (low == 0) {
        size = configured ? configured : (size_t)256 * 1024;
        low = top > size ? top - size : 0;
    }
    return low + size / 4;
}

/* A hook that runs in a thread as it ends, if the thread has armed it. */
static void tpool__thread_ended(void *armed);
#if defined(TPOOL_THREADS_WIN32)
static DWORD tpool__exit_key;
#define TPOOL__HOOK_MAY_WAIT 0 /* for a thread to end: the hook runs under the loader's lock */
static tpool__u32 tpool__exit_hook_gone;
static VOID WINAPI tpool__thread_ended_win32(PVOID armed) {
    /* relaxed: FlsFree calls this for all threads, in the thread that has set the flag */
    if (armed && !tpool__load_relaxed(&tpool__exit_hook_gone)) tpool__thread_ended(armed);
}
static bool tpool__exit_hook_create(void) {
    tpool__exit_key = FlsAlloc(tpool__thread_ended_win32);
    return tpool__exit_key != FLS_OUT_OF_INDEXES;
}
TPOOL__UNUSED static void tpool__exit_hook_delete(void) {
    tpool__store_relaxed(&tpool__exit_hook_gone, 1);
    FlsFree(tpool__exit_key);
}
static bool tpool__exit_hook_arm(void *value) { return FlsSetValue(tpool__exit_key, value) != 0; }
#elif defined(TPOOL__THREADS_C11)
static tss_t tpool__exit_key;
static bool tpool__exit_hook_create(void) { return tss_create(&tpool__exit_key, tpool__thread_ended) == thrd_success; }
TPOOL__UNUSED static void tpool__exit_hook_delete(void) { tss_delete(tpool__exit_key); }
static bool tpool__exit_hook_arm(void *value) { return tss_set(tpool__exit_key, value) == thrd_success; }
#else
static pthread_key_t tpool__exit_key;
static bool tpool__exit_hook_create(void) { return pthread_key_create(&tpool__exit_key, tpool__thread_ended) == 0; }
TPOOL__UNUSED static void tpool__exit_hook_delete(void) { pthread_key_delete(tpool__exit_key); }
static bool tpool__exit_hook_arm(void *value) { return pthread_setspecific(tpool__exit_key, value) == 0; }
#endif
#if !defined(TPOOL__HOOK_MAY_WAIT)
#define TPOOL__HOOK_MAY_WAIT 1
#endif

/* True if the process ends and the system has ended all other threads already, as a DLL of Windows finds it at exit. */
static bool tpool__threads_are_gone(void) {
#if defined(TPOOL_THREADS_WIN32)
    typedef BOOLEAN(WINAPI * in_progress)(void);
    HMODULE module = GetModuleHandleA("ntdll.dll");
    FARPROC found = module ? GetProcAddress(module, "RtlDllShutdownInProgress") : NULL;
    in_progress ask = NULL;
    memcpy(&ask, &found, sizeof ask);
    return ask && ask();
#else
    return false;
#endif
}

/* The DLL that holds this copy, with one reference more; NULL: the program holds it. A thread of the library's own that
 * no destroy joins takes one, so that its code stays until it has ended, and gives it back as it ends. */
#if defined(TPOOL_THREADS_WIN32)
typedef HMODULE tpool__library;
static HMODULE tpool__library_here(DWORD flags) {
    HMODULE library = NULL;
    const void *here = (const void *)&tpool__exit_key;
    if (!GetModuleHandleExA(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | flags, (LPCSTR)here, &library)) return NULL;
    return library == GetModuleHandleA(NULL) ? NULL : library;
}
static HMODULE tpool__library_retain(void) { return tpool__library_here(0); }
static void tpool__library_release(HMODULE library) {
    if (library) FreeLibrary(library);
}
static void tpool__library_leave(HMODULE library) { /* the last that the thread does */
    if (library) FreeLibraryAndExitThread(library, 0);
}
static bool tpool__in_library(void) {
    return tpool__library_here(GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT) != NULL;
}
#else
typedef struct tpool__library {
    char unused;
} tpool__library;
static tpool__library tpool__library_retain(void) { return (tpool__library){ 0 }; }
static void tpool__library_release(tpool__library library) { (void)library; }
static void tpool__library_leave(tpool__library library) { (void)library; }
#endif

/* Ends the calling thread. For a child of fork whose one thread was a worker's: it has nowhere to return to. */
static void tpool__thread_exit(void) {
#if defined(TPOOL_THREADS_WIN32)
    ExitThread(0);
#elif defined(TPOOL__UNIX)
    pthread_exit(NULL);
#else
    thrd_exit(0);
#endif
}

/* function(argument) is called after what stands between the two, on POSIX systems also if the thread ends there. */
#if defined(TPOOL__FINALLY_BEGIN) /* white-box: tests/exploration/schedule.h */
#elif defined(TPOOL__UNIX)
#define TPOOL__FINALLY_BEGIN(function, argument) pthread_cleanup_push(function, argument)
#define TPOOL__FINALLY_END pthread_cleanup_pop(1);
#else
#define TPOOL__FINALLY_BEGIN(function, argument) \
    { \
        void (*tpool__last)(void *) = (function), *tpool__of = (argument);
#define TPOOL__FINALLY_END \
    tpool__last(tpool__of); \
    }
#endif

static bool tpool__fork_hooks(void (*prepare)(void), void (*parent)(void), void (*child)(void)) {
#if defined(TPOOL__UNIX)
    return pthread_atfork(prepare, parent, child) == 0;
#else
    (void)prepare;
    (void)parent;
    (void)child;
    return true;
#endif
}

/* --------------------------------------------------------------------------------------------------------------------
 *  Memory: zeroed; aligned by hand where that is asked for, since TPOOL_MALLOC promises no more than malloc
 * ----------------------------------------------------------------------------------------------------------------- */
/* With room behind it for `more` bytes, which are not zeroed. */
static void *tpool__alloc_with(size_t size, size_t more) {
    void *memory = more <= SIZE_MAX / 2 && size <= SIZE_MAX / 2 ? TPOOL_MALLOC(size + more) : NULL;
    if (memory) memset(memory, 0, size);
    return memory;
}
static void *tpool__alloc(size_t size) { return tpool__alloc_with(size, 0); }
static void *tpool__alloc_many(size_t count, size_t each) {
    return count <= SIZE_MAX / each ? tpool__alloc(count * each) : NULL;
}
static void tpool__dealloc(void *memory) { /* which may be NULL */
    if (memory) TPOOL_FREE(memory);
}
#if defined(TPOOL__LIBC_MALLOC) && defined(TPOOL__UNIX)
/* The pointer is the start of the allocation, so tools that look for leaks find it. */
static void *tpool__alloc_aligned(size_t size, size_t alignment) { /* a power of two, at least a cache line */
    void *aligned = NULL;
    if (posix_memalign(&aligned, alignment, size)) return NULL;
    memset(aligned, 0, size);
    return aligned;
}
static void tpool__free_aligned(void *aligned) { free(aligned); }
#else
static void *tpool__alloc_aligned(size_t size, size_t alignment) {
    if (size > SIZE_MAX - 2 * alignment) return NULL;
    void *whole = TPOOL_MALLOC(size + alignment + sizeof whole);
    if (!whole) return NULL;
    uintptr_t aligned = ((uintptr_t)whole + sizeof whole + alignment - 1) & ~(uintptr_t)(alignment - 1);
    memcpy((char *)aligned - sizeof whole, &whole, sizeof whole);
    memset((void *)aligned, 0, size);
    return (void *)aligned;
}
static void tpool__free_aligned(void *aligned) {
    void *whole;
    memcpy(&whole, (char *)aligned - sizeof whole, sizeof whole);
    TPOOL_FREE(whole);
}
#endif

/* Memory for many tasks, aligned to a cache line, and zero (tpool__slab.whole needs that). It comes from the system in
 * pages where that is possible and the program has no allocator of its own: pages go back whatever else is in use. (The
 * C library gives back only the end of its memory: all 64 MiB of a million futures stayed, because of a few that were
 * still alive.) */
#if defined(TPOOL__LIBC_MALLOC) && defined(TPOOL__UNIX) && defined(MAP_ANONYMOUS)
#define TPOOL__SLAB_SIZE ((size_t)64 << 10)
static void *tpool__slab_map(void) {
    void *slab = mmap(NULL, TPOOL__SLAB_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return slab == MAP_FAILED ? NULL : slab;
}
static void tpool__slab_unmap(void *slab) { munmap(slab, TPOOL__SLAB_SIZE); }
#define TPOOL__SLAB_STAYS true /* mapping, touching and unmapping one takes longer than the rest of a pool's life */
#else
#define TPOOL__SLAB_SIZE ((size_t)8 << 10)
static void *tpool__slab_map(void) { return tpool__alloc_aligned(TPOOL__SLAB_SIZE, TPOOL__CACHE_LINE); }
static void tpool__slab_unmap(void *slab) { tpool__free_aligned(slab); }
#define TPOOL__SLAB_STAYS false /* the program may count what it has allocated */
#endif

/* --------------------------------------------------------------------------------------------------------------------
 *  CPUs
 * ----------------------------------------------------------------------------------------------------------------- */
#if defined(__linux__)
#ifndef TPOOL__CGROUP_ROOT
#define TPOOL__CGROUP_ROOT "/sys/fs/cgroup"
#endif
#ifndef TPOOL__CGROUP_SELF
#define TPOOL__CGROUP_SELF "/proc/self/cgroup"
#endif
/* The CPUs that the quota of one cgroup allows, rounded up, at most `least`; `least` if it has no quota. Version 2
 * keeps "quota period" in one file, version 1 in two. */
static int tpool__quota_of(const char *folder, bool version2, int least) {
    char path[1200];
    long long quota = -1, period = 0;
    snprintf(path, sizeof path, "%s/%s", folder, version2 ? "cpu.max" : "cpu.cfs_quota_us");
    FILE *file = fopen(path, "re");
    if (!file) return least;
    int found = version2 ? fscanf(file, "%lld %lld", &quota, &period) : fscanf(file, "%lld", &quota);
    fclose(file);
    if (!version2 && found == 1) {
        snprintf(path, sizeof path, "%s/%s", folder, "cpu.cfs_period_us");
        file = fopen(path, "re");
        if (!file) return least;
        found += fscanf(file, "%lld", &period);
        fclose(file);
    }
    if (found != 2 || quota <= 0 || period <= 0) return least;
    long long cpus = quota / period + (quota % period != 0);
    return cpus < least ? (int)cpus : least;
}
/* The smallest quota on the way from the process's cgroups up to their roots. In a container the list may name its
 * group otherwise than the container sees it: then only the root exists, and that is the group itself. */
static int tpool__quota(int least) {
    FILE *file = fopen(TPOOL__CGROUP_SELF, "re");
    if (!file) return least;
    char line[1024], folder[1100];
    while (fgets(line, sizeof line, file)) {
        size_t end = strcspn(line, "\n");
        if (!line[end]) /* longer than any folder's path: the rest is skipped */
            for (int c = getc(file); c != '\n' && c != EOF;) c = getc(file);
        line[end] = 0;
        char *controllers = strchr(line, ':');
        char *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!path) continue;
        *controllers++ = 0;
        *path++ = 0;
        bool version2 = *controllers == 0;
        if (!version2) {
            size_t length = strlen(controllers);
            const char *cpu = strstr(controllers, "cpu");
            while (cpu && !((cpu == controllers || cpu[-1] == ',') && (cpu[3] == 0 || cpu[3] == ',')))
                cpu = cpu + 3 < controllers + length ? strstr(cpu + 3, "cpu") : NULL;
            if (!cpu) continue;
        }
        for (;;) {
            snprintf(folder, sizeof folder, "%s%s%s%s", TPOOL__CGROUP_ROOT, version2 ? "" : "/cpu",
                     *path == '/' ? "" : "/", path);
            least = tpool__quota_of(folder, version2, least);
            char *slash = strrchr(path, '/');
            if (!slash || path[0] == 0 || path[1] == 0) break;
            slash[slash == path] = 0; /* "/a/b", "/a", "/" */
        }
    }
    fclose(file);
    return least;
}
#endif

#if defined(__linux__)
static int tpool__count_cpus(int thread) {
    unsigned long mask[TPOOL__MASK_WORDS];
    size_t words = tpool__cpus_of(thread, mask, sizeof mask) / sizeof *mask;
    int count = 0;
    for (size_t i = 0; i < words; i++)
        for (unsigned long word = mask[i]; word; word &= word - 1) count++;
    return count;
}
#endif

TPOOL_API int tpool_cpu_count(void) {
    int count = 1;
#if defined(TPOOL_THREADS_WIN32)
    DWORD_PTR mine = 0, machine = 0;
    count = 0;
    if (GetProcessAffinityMask(GetCurrentProcess(), &mine, &machine))
        for (; mine; mine &= mine - 1) count++;
    if (count == 0) {
        SYSTEM_INFO info;
        GetSystemInfo(&info);
        count = (int)info.dwNumberOfProcessors;
    }
#elif defined(__linux__)
    int saved = errno, cancel = tpool__cancel_off();
    int main_thread = (int)getpid(), mine = tpool__count_cpus(0);
    /* the main thread stands for the process: another thread's mask may be narrower */
    count = tpool__count_cpus(main_thread);
    if (count < mine) count = mine;
    if (count == 0) count = (int)sysconf(_SC_NPROCESSORS_ONLN);
    count = tpool__quota(count);
    tpool__cancel_back(cancel);
    errno = saved;
#elif defined(TPOOL__UNIX)
    count = (int)sysconf(_SC_NPROCESSORS_ONLN);
#endif
    return count < 1 ? 1 : count;
}

TPOOL_API int tpool_workers_for(tpool_work work) {
    int cpus = tpool_cpu_count();
    if (work != TPOOL_WORK_IO) return cpus;
    int most = cpus > 32 ? cpus : 32;
    return cpus <= most / 2 ? 2 * cpus : most;
}

/* ====================================================================================================================
 *  >>protocol  What threads agree on
 *
 *  tests/internals/check.h states, as code, what of this holds for a pool at rest.
 *
 *  THE STATE WORD OF A TASK (tpool_future.state). Table and text leave out the prefixes TPOOL__PHASE_ and TPOOL__.
 *  The claimer is the thread that moves the phase from PENDING by a compare-and-swap (tpool__claim); it alone ends the
 *  task. A bare future has no pool, since the program completes it; its completer is the thread whose exchange sets
 *  RUNNING and END_RELEASED (tpool__claim_bare). The queue is the lane or the heap that holds the task's entry.
 *
 *      bits  name          set                                                  illegal
 *      0-3   PENDING       at birth                                             -
 *            RUNNING       by the claimer, to execute the task, in one          from anything but PENDING (a bare
 *                          exchange; before the task is shared, if it starts    future's completer: also from RUNNING)
 *                          at once; of a bare future also by the program
 *            CANCELLING    by the claimer, to cancel it; reads as pending       likewise
 *            EXPIRING      by the claimer, to end it as expired or broken;      likewise
 *                          reads as pending
 *            DONE+status   by the claimer, once (tpool__publish_end)            by anyone else; no other phase follows
 *      4     HAS_NODES     until the end, whenever `nodes` is not empty; may    to leave it clear with a node there:
 *                          stay a moment longer, under LOCKED                   the end would not notify that waiter
 *      5     LOCKED        by whoever changes or walks `nodes`, or keeps the    to hold it over a callback, a wait, or
 *                          end back while it uses the pool; briefly             the program's code
 *      6     STOP          by anyone, any time                                  -
 *      7     END_RELEASED  with the claim, if the claimer is a worker of the    to touch the pool after it, except as a
 *                          pool that has `busy` set; at the claim of a bare     busy worker
 *                          future; else when the end is complete
 *                          (tpool__release_outside_end)
 *      8     POPPED        when the entry has left the queue (not needed once   twice
 *                          END_RELEASED is set); if its submitter executes the
 *                          task, which then has no entry
 *      9..   references    one for each handle of the program, one for the      -
 *                          entry in the queue, one for the claimer
 *
 *      A thread that takes the entry out of the queue and claims the task takes over the entry's reference. Every other
 *      claimer adds a reference of its own, and the entry stays in the queue as a tombstone; the entry's reference goes
 *      when the tombstone is dropped. `enders` of the pool counts the tasks that are POPPED and not yet END_RELEASED.
 *
 *  THE GATE (tpool.gate). Bit 0 is ROOM: `active` is 0, or below most_active, and the pool is neither paused nor
 *  halted; it changes under pool->lock. most_active is max_workers less the blocked workers that no spare may replace.
 *  The bits from 1 up count the workers that search. A submit acts only if the word is just ROOM.
 *
 *  THE FLAGS WORD (tpool.flags): PAUSED, SHUT, BREAK, RANKED, HALTED, CLOSING, CANCELLED; from bit 8 up the count
 *  of stop requests. Every enqueue and dequeue reads it while it holds that lane's spinlock, and every theft of a job
 *  while it holds the victim's `jobs_lock`. A thread that changes a flag other than RANKED passes all those spinlocks
 *  afterwards (tpool__fence_lanes): from then on every thread acts on it. RANKED is a hint. The count is compared with
 *  its value at the start of a task. A worker takes from its own batch without the spinlock; closing the batch stops
 *  that (tpool__batch_open): for PAUSED and HALTED, and for BREAK and CANCELLED, whose setter ends all that waits and
 *  must know what has started.
 *
 *  ORDERED PAIRS
 *           the side that releases           the side that acquires             what the second side sees
 *      P1   tpool__unlock, tpool__spin_unlock    tpool__lock, tpool__spin_lock          all that they guard
 *      P2   tpool__publish_end: the          every look at a state that may be  the result, the outcome
 *           exchange                         done (tpool__is_done and others)
 *      P3   clearing LOCKED                  the exchange that sets it          `nodes`
 *      P4   each release of a reference,     the release that sees its own      all that the other holders did to the
 *           also by tpool__publish_end       reference as the last              task
 *      P5   tpool__unpark_begin: the         tpool__park: the exchange          what was done before the wake
 *           exchange
 *      P6   a worker joins or leaves the     walking that list                  the worker's lane and locks
 *           list of workers
 *      P7   `runner` is stored               the search for cycles loads it     that thread's record pointer
 *      P8   tpool__process.ready is stored;  every call that needs it loads it; hooks, keys, constants; what the child
 *           a pool is listed; a setting is   a child of fork loads what the     reads of its parent, whatever the
 *           marked as complete               parent had                         parent's threads were doing
 *      P9   an outcome is stored             it is loaded or replaced           the outcome's fields
 *      P10  a task is counted as ended;      tpool__is_quiet                    what the task did; what it submitted
 *           `busy` is cleared
 *      P11  the owner's swap of `batch`,     tpool__batch_open closes the       that what the owner took is claimed
 *           after it set `taking`;           batch;
 *           then clearing `taking`           then it waits for `taking`
 *      P12  the global manager is stored     tpool_manager_global loads it      what it points to
 *      P13  tpool__update_room, after        tpool__leave_search (E2)           that another worker is active; what it
 *           `active` has changed; a new                                         left in its lane and its jobs before
 *           worker's tpool__leave_search
 *      P14  a worker process stores its      the program loads it when the      the answers in the shared memory
 *           progress in its page;            process has answered or died;
 *           claims a task or an item there   revokes what it has not begun
 *      P15  an item goes into `arrived`;     next takes all items over;         the items;
 *           a waiter in next goes in;        the item, or the wake, that finds  the waiter;
 *                                            it there;
 *           `notified` is set                that waiter reads `notified`       that its notifier is done with it
 *           TPOOL__ARMED goes in, and out    as a waiter, with `notified`       the notifier
 *      P16  a thread leaves its exit hook    the unloading waits for that       that the thread needs the hook's code
 *                                                                               and data no more
 *      P17  an on_ready's call is listed,    the firing thread, the caller,     the notifier; which of them frees
 *           begins, ends                     and destroy change `state`         it
 *      P18  one end of a channel moves on    the other end loads its position   the item's bytes; that its place is
 *                                                                               free again
 *      P19  a worker stores its thread; a    tpool_describe loads them          that thread's contexts; the task's name
 *           context stores its task's
 *           function
 *      P20  `begun` is counted, then each    a reader of the trace loads the    in `begun`, that the record has been
 *           word of a record is stored;      words, then `begun`;               overwritten;
 *           `next` is stored                 loads `next` before                the record
 *
 *  WHY NO WAKE IS LOST
 *  Every task is put into a lane, and every job made public, under a spinlock; its submitter loads the gate (N) while
 *  it holds that, or afterwards. Every worker that stops looking first changes the gate (C) and then looks under each
 *  of those spinlocks (L), unless it sees work before. A thread that moves tasks between lanes holds both spinlocks and
 *  notifies afterwards.
 *      E1  A worker starts to search: it adds a searcher (tpool__start_searching), then looks itself.
 *      E2  A searcher that has found a task, or begins its initializer, leaves the searchers: C. If it was the last one
 *          and there is ROOM, L follows, and if anything is left, the worker does what a submitter would
 *          (tpool__stop_searching). If it is the only active worker, L passes the inject spinlock alone. Consider any
 *          other worker. If it becomes active later, it changes the gate after C; both are changes of one word, so it
 *          sees C. If it stopped being active and changed the gate before C, what it had added is seen (P13); if it
 *          changed the gate after C, it then looks itself (E3).
 *      E3  A worker goes to sleep, blocks in a wait, or ends: C (one searcher less, ROOM perhaps set; if it ends,
 *          `live` is lowered), then L. If it sees something, it comes back or wakes another worker. A worker that ends
 *          leaves out L in three cases. It retires and is not the last (tpool__retire): it looked when it went to
 *          sleep, or the pool is broken and nothing waits. The gate shows a searcher or no ROOM (tpool__replace). It
 *          has lost its process, or could not begin, and no worker sleeps (tpool__leave_pool): then others are active,
 *          or it asks for the blocked ones (tpool__ask). Where the spares are used up, to see something means to ask.
 *      Take a task put in under spinlock M, and a worker's L at the same M. If L comes later, it sees the task. If L
 *      came first, its unlock of M precedes the submitter's lock (P1), so C, which came before L, is visible to N: the
 *      submitter sees a gate without that searcher, or with ROOM, and wakes a worker. In the same way it sees `live` ==
 *      0 while it holds the spinlock, and takes tpool__enqueue_first. In neither case is the task left alone. So the
 *      gate and `live` need no order of their own, and a submit needs no fence: the spinlock that it takes anyway
 *      provides the order.
 *
 *  WHY NO WAITER IS FORGOTTEN. Every wait is the loop of tpool__wait. The waiter joins the lists of all that can end it
 *  (J), looks (L), and parks if it has seen nothing. A thread that ends the wait changes what L reads (D), and then
 *  unparks each waiter that it finds in its list (F). One lock orders J and F:
 *      E4  The end of a future: LOCKED (P3). Room and drainers: the inject spinlock. An iterator: the exchanges of
 *          `arrived` (P15). A stolen job: `jobs_lock`. A resource: its lock. A channel: the lock of the end at which
 *          the item or the room comes. A stop: tpool__stoppable.lock; for the wake of tpool_on_stop, too, J is its
 *          registration, and F lists it. A spare worker that is refused: pool->lock, or tpool__cycles.lock. The exit
 *          handler sets its flags before it passes these locks.
 *      If J came first, F finds the waiter, and its unpark (P5) ends the park or the next one. If F came first, its
 *      unlock precedes J's lock, so L, which comes after J, sees D. A waiter to which something can be handed (room, a
 *      resource, an item, the end of its one future) looks once more under the same lock as it leaves its lists, so
 *      nothing is lost. There are two exceptions. A worker that stops being busy reads `draining` without the
 *      spinlock, so drainers also look by themselves (TPOOL__DRAINER_LOOKS). The exit handler does not find every
 *      waiter in next, so these look by themselves once it has begun (tpool__next_look).
 *
 *  WHY NO EXPIRY IS MISSED where a thread waits for it. A task enters `expiring` before it is placed, under the same
 *  spinlock.
 *      Submitters that wait in line for room: the first sleeps only until the earliest expiry. It looks while it holds
 *      the inject spinlock. Under that spinlock tasks are placed, and a waiter that becomes the first is woken.
 *      Sleepers of a paused pool: one of them (`expiry_sleeper`, under pool->lock) sleeps only until the earliest
 *      expiry. Each looks under pool->lock before it sleeps, after it has joined the list of sleepers. A thread that
 *      pauses the pool, or places a task that may expire there, takes pool->lock afterwards and wakes one sleeper,
 *      unless the expiry sleeper wakes early enough. Either that thread comes first, and the sleeper sees the task; or
 *      it finds the sleeper.
 *
 *  WHY DESTROY FREES NOTHING TOO EARLY. A pool's end waits until: as many tasks have ended as were submitted; no worker
 *  is busy; the lanes and the heap are empty, tombstones counted; no submitter waits for room; no outside end is left
 *  (`enders`); no caller is left inside (`callers`); the threads are joined.
 *      Outside ends: a thread that ends a task outside the queue has claimed it first. So the tombstone is in the
 *      queue, or the thread that popped it found it not END_RELEASED and counted it in `enders`. That holds until
 *      tpool__release_outside_end, the ender's last touch of the pool.
 *      `callers` counts who is inside a call that may outlast the last task: a drain, a shutdown, a loop, and a submit
 *      of many, from their first step; a submit, from the step in which it finds the queue full; a submit by another
 *      thread than a worker of the pool that has to wake a worker or has placed a task that expires, from the step in
 *      which it places the task, which may be the one that gives the pool up; a map's consumer, as it queues a chunk;
 *      the exit handler, while it halts the pool. Each counts until its last touch of the pool.
 *      Both counts are guarded by the inject spinlock; the last touch is its unlock.
 *      No thread is started once the threads are joined: a pool that is shut down gets a worker only from a thread that
 *      finds work under pool->lock, and the last worker goes only if it finds none there.
 *
 *  bench/README.md says what each cache line costs, what the times are made of, and which designs were tried and
 *  dropped. tests/model/README.md says what machines have proved of this section, and what they have not.
 * ================================================================================================================= */

/* ====================================================================================================================
 *  >>structures  Tasks, lanes, workers, pools
 * ================================================================================================================= */
typedef struct tpool__worker tpool__worker;
typedef struct tpool__node tpool__node;
typedef struct tpool__extra tpool__extra;
typedef struct tpool__outcome tpool__outcome;
typedef struct tpool__context tpool__context;
typedef struct tpool__record tpool__record;
typedef struct tpool__backend tpool__backend;

/* --------------------------------------------------------------------------------------------------------------------
 *  >>task-object  A task and its future, 64 bytes where pointers have 8. The bits of `state` stand in >>protocol.
 * ----------------------------------------------------------------------------------------------------------------- */
#define TPOOL__PHASE ((uintptr_t)15)
#define TPOOL__PHASE_PENDING ((uintptr_t)0)
#define TPOOL__PHASE_RUNNING ((uintptr_t)1)
#define TPOOL__PHASE_CANCELLING ((uintptr_t)2)
#define TPOOL__PHASE_EXPIRING ((uintptr_t)3)
#define TPOOL__PHASE_DONE ((uintptr_t)8) /* plus the status, of which OK to EXPIRED and BROKEN fit in three bits */
#define TPOOL__HAS_NODES ((uintptr_t)1 << 4)
#define TPOOL__LOCKED ((uintptr_t)1 << 5)
#define TPOOL__STOP ((uintptr_t)1 << 6)
#define TPOOL__END_RELEASED ((uintptr_t)1 << 7)
#define TPOOL__POPPED ((uintptr_t)1 << 8)
#define TPOOL__REFERENCE ((uintptr_t)1 << 9)

typedef struct tpool__thread tpool__thread;
struct tpool_future {
    tpool__word state;
    union {
        tpool_fn fn;        /* until it is claimed */
        tpool_future *next; /* while it is free, or about to be */
        uintptr_t listed;   /* while it is in tpool__thread.listed: the next item */
    } u;
    void *value;            /* the argument; once done, the result */
    uintptr_t home;         /* its pool's `home`; of a bare future the generation of the process */
    tpool__word extra_word; /* what most tasks do not have (tpool__extra_of), or the task's number * 2 + 1, or 0. While
                                   the task is shared only its claimer changes it, from 0 to a number */
    tpool__node *nodes;     /* waiter nodes, newest first; under TPOOL__LOCKED. Once the task is done: the callbacks
                                   still to be called, in the order added; only its ender uses them */
    tpool__word outcome;    /* an error, with the lowest bit set, or the result's payload (tpool__outcome_of);
                                   before the task runs, its stamp (>>measure) */
    _Atomic(tpool__thread *) runner; /* the thread that executes it, or its arg_free; for the search for cycles. Once
                                   done: its pool's tag, which is odd; a later pool at that address has another */
};

/* Pools are aligned so that twelve bits of `home` are free for the generation of the process: the pool of a pending
 * future may be destroyed at any moment, so its generation cannot be read there. */
#define TPOOL__POOL_ALIGNMENT ((uintptr_t)4096)
#define TPOOL__GENERATIONS (TPOOL__POOL_ALIGNMENT - 1)
static inline tpool *tpool__pool_of(const tpool_future *future) {
    return (tpool *)(future->home & ~(TPOOL__POOL_ALIGNMENT - 1));
}

static inline bool tpool__state_is_done(uintptr_t state) { return (state & TPOOL__PHASE_DONE) != 0; }
static inline bool tpool__is_done(tpool_future *future) {
    return tpool__state_is_done(tpool__load_acquire(&future->state)); /* P2 */
}

/* How a task ended, if a result pointer alone does not say it. */
typedef enum tpool__outcome_kind { TPOOL__ERROR, TPOOL__BYTES, TPOOL__OWNED } tpool__outcome_kind;
struct tpool__outcome {
    tpool__outcome_kind kind;
    bool is_static; /* no allocation of its own: nothing to free */
    tpool_error error;
    void *payload;
    union {
        size_t size;
        uintptr_t listed; /* of an owned one in tpool__thread.listed: the next item */
    };
    void (*payload_free)(void *payload);
    bool is_timeout; /* an error: tpool_run_with_timeout killed the process when its time was over */
};

/* Why a task ended although it did not run to its end. */
typedef enum tpool__reason {
    TPOOL__WAS_CANCELLED,
    TPOOL__WAS_DROPPED,
    TPOOL__HAS_EXPIRED,
    TPOOL__SETUP_FAILED,
    TPOOL__ENDED_THREAD,
    TPOOL__IS_STRANDED,
    TPOOL__OUT_OF_MEMORY,
    TPOOL__LOST_PROCESS,
    TPOOL__OWNED_ELSEWHERE
} tpool__reason;

/* The lowest bit says that it is an error, without reading an outcome that another thread may replace and free. */
static inline tpool__outcome *tpool__outcome_of(uintptr_t word) { return (tpool__outcome *)(word & ~(uintptr_t)1); }
static inline uintptr_t tpool__outcome_word(const tpool__outcome *outcome) {
    return (uintptr_t)outcome | (outcome && outcome->kind == TPOOL__ERROR);
}

/* Which limit asks a running task to stop, or kills its process. */
typedef enum tpool__limit { TPOOL__RUN_LIMIT, TPOOL__TIMEOUT, TPOOL__RUN_WITH_TIMEOUT } tpool__limit;

/* What only some tasks have. The copied argument follows it. */
struct tpool__extra {
    void (*arg_free)(void *arg);
    const char *name;
    const char *shown; /* the name that observers and tpool_describe show (tpool__shown_name); never changes */
    void *tag;
    size_t arg_size;
    int priority;
    int64_t expires_at;    /* 0: never */
    size_t expiring_place; /* its index in the pool's expiries, plus one; 0: it has left them */
    int64_t run_limit_ns;
    int64_t stop_at;            /* the first of its limits, 0: none; run_limit_ns counts from its start on */
    tpool__limit limit;         /* which one that is */
    struct tpool__large *large; /* the copied argument, if it does not follow; the claimer gives it back */
    tpool__outcome ended;       /* the error, with the name, of a task that did not end by itself */
    tpool__word number;         /* the task's, in a pool that is observed or traced; else 0 */
};
static inline tpool__extra *tpool__extra_of_word(uintptr_t word) { return word & 1 ? NULL : (tpool__extra *)word; }
/* Relaxed: what it points to came with the task; a number says all by itself. */
static inline tpool__extra *tpool__extra_of(const tpool_future *task) {
    return tpool__extra_of_word(tpool__load_relaxed(&task->extra_word));
}
static inline uintptr_t tpool__number_of(const tpool_future *task) { /* 0: none */
    uintptr_t word = tpool__load_relaxed(&task->extra_word);         /* relaxed: as above */
    if (word & 1) return word >> 1;
    return word ? tpool__load_relaxed(&((tpool__extra *)word)->number) : 0;
}
#define TPOOL__ROUND_UP(n) (((n) + alignof(max_align_t) - 1) / alignof(max_align_t) * alignof(max_align_t))

/* A waiter node: something to notify at the end of a future. `done` is called under the future's LOCKED bit, with link
 * NULL, and may give the node back to its owner. It unparks through tpool__unpark_begin_another, because the woken
 * thread wants that lock. `done` NULL: a callback, which is called after the lock is released. */
struct tpool__node {
    tpool__node *next, **link; /* link NULL: not in the list */
    tpool__parker *(*done)(tpool__node *node, tpool_future *future, tpool__parker *asleep);
};
typedef struct tpool__callback {
    tpool__node node;
    void (*fn)(tpool_future *future, void *context);
    void *context;
} tpool__callback;
typedef struct tpool__due tpool__due;
struct tpool__due { /* another call of the program's code that is due where there is stack: see >>nested */
    uintptr_t listed;
    void (*call)(tpool__thread *self, tpool__due *due);
};
typedef struct tpool__late_callback { /* added to a done future, many levels deep (TPOOL__MOST_NESTED) */
    tpool__due due;
    tpool_future *future;
    void (*fn)(tpool_future *future, void *context);
    void *context;
} tpool__late_callback;

/* What a thread is doing, innermost first: one context for each call of the program's code, and one for each call of
 * the library that must not stay half done (TPOOL__IN_CALL). A context is never on the thread's stack: a job's thief
 * and a search for cycles read it, and when the thread ends, its frames are overwritten before its exit hook runs. The
 * hook then does what those frames would have done, through `left`, innermost first (tpool__leave_contexts). */
typedef enum tpool__context_kind {
    TPOOL__IN_TASK,
    TPOOL__IN_ITEM,
    TPOOL__IN_JOB,
    TPOOL__IN_CALLBACK,
    TPOOL__IN_SETUP,
    TPOOL__IN_CALL
} tpool__context_kind;
struct tpool__context {
    tpool__context_kind kind;
    uint32_t stops;         /* the pool's count of stop requests when the task started */
    tpool_future *task;     /* the task of raise and return; NULL in callbacks, initializers and finalizers */
    tpool *pool;            /* alive, or NULL */
    uintptr_t of_end;       /* of a callback on a done future: the tag of its pool, which may be gone; of an
                                   arg_free: the task whose end waits for it */
    tpool__context *outer;  /* the next outer one on this stack */
    uintptr_t serial;       /* of a job: tells it from a later one at the same address */
    tpool__context *origin; /* of a job or a part of a loop: the other thread's context to which it belongs */
    void (*left)(void *of); /* finishes what is unfinished if the thread ends here; NULL: nothing, or
                                   tpool__end_broken for a task */
    void *of;
    /* for tpool_describe, which reads them in another thread: */
    tpool__word shows; /* a task's function (P19); for every other kind the kind plus one; 0: not in use */
    tpool__word name;  /* the task's, static text, or NULL */
    tpool__word since; /* when the task started, in a pool that is measured or observed (tpool__since); else 0 */
};
#define TPOOL__CONTEXTS 16u      /* in each thread's own memory; deeper ones come in pieces */
#define TPOOL__CONTEXTS_A_TASK 4 /* no task begins within another unless so many are available */
typedef struct tpool__contexts {
    struct tpool__contexts *before;
    tpool__context *before_next, *before_first, *before_last;
    tpool__context all[64];
} tpool__contexts;

#define TPOOL__MAGAZINE 32u /* free memory blocks pass between threads so many at a time */

/* The state of each thread that has called the library. */
typedef struct tpool__stop_call tpool__stop_call;
struct tpool__thread {
    tpool__context *context;
    tpool__stop_call *stop_calls; /* what tpool_on_stop has registered on this stack, innermost first: see >>stops */
    tpool__context *context_next, *context_first, *context_last; /* the next to use, and the bounds of its piece */
    tpool__worker *worker;
    tpool *caller_pool;                /* the pool whose task this thread executes for TPOOL_FULL_CALLER_RUNS */
    uintptr_t listed, listed_last;     /* the program's functions that are due in this thread: see >>nested */
    unsigned callers, freeing, nested; /* how many are on this stack: TPOOL__MOST_CALLERS, _FREEING, _NESTED */
    bool waits; /* between tpool__wait_begin and tpool__wait_end: none of the program's code may run */
    bool fires; /* in a timer's `fire`: likewise */
    tpool_future *cache[2 * TPOOL__MAGAZINE]; /* free memory blocks, the last freed last */
    unsigned cached, cacheable;               /* how many there are, and may be: 0 until the thread is armed */
    uint32_t failed_spins;                    /* of its spins for the end of a task: see >>spin */
    bool woke;                                /* it woke a worker since its last spin */
    bool armed;                               /* the exit hook will run */
    bool ending;                              /* the exit hook runs, counted in tpool__process.ending */
    bool serves;                              /* a worker's thread, whose outermost function is the library's */
    tpool__thread_handle detacher;            /* of a thread that frees a detached pool; else not valid */
    struct tpool__keeper *keeper;             /* this thread may keep times, and has not left that; else NULL */
    uintptr_t stack_top;                      /* of a worker, roughly */
    uintptr_t stack_floor;             /* below it no code of the program begins that can wait; 0: not determined yet */
    tpool__record *blocked;            /* its wait, as other threads see it; under tpool__cycles.lock */
    uintptr_t number_next, number_end; /* numbers that it may give to tasks */
    tpool_future plain;                /* stands for a task without an object of its own */
    tpool__contexts *pieces, *spare_piece; /* of contexts: the innermost in use, and one kept */
    tpool__context unlisted;               /* for a call when memory has run out; nothing reads it */
    tpool__context contexts[TPOOL__CONTEXTS];
};

TPOOL__PER_THREAD(tpool__thread, tpool__self)

/* How long a thread always spins for the end of a task, even if its last spins failed. */
static inline uint32_t tpool__free_time(tpool__thread *self) {
    uint32_t time = self->woke ? 0 : TPOOL__FREE_TIME;
    self->woke = false;
    return time;
}

/* --------------------------------------------------------------------------------------------------------------------
 *  >>lane  A queue of tasks: first in, first out, slots in segments, under a spinlock.
 *
 *  An entry is one to three words. A task with an object (tpool_future) is one: the object's address with the lowest
 *  bit set. A task without a future is two words, function and argument. A word 1 before them announces an odd
 *  function, as on Arm in Thumb state. If times are measured, every such task has a word before it: its stamp, which
 *  ends in two bits set.
 *
 *  A task that is claimed elsewhere (cancelled, executed in place) leaves its entry behind as a tombstone. Tombstones
 *  are dropped when their turn comes, or by a sweep when a segment is needed and half of the entries may be dead: so
 *  the tasks that really wait bound the memory. A worker that awaits one of the last tasks that it put into its lane,
 *  as a parent awaits its children, takes the entry out. The lane's reference becomes the claimer's, which saves the
 *  tombstone and two read-modify-writes (a tree of tasks that await two children each: 29 ns instead of 48 a task; ten
 *  children: 31 instead of 50).
 *
 *  A one-word entry that comes into the empty inject lane goes to `front`, beside the spinlock and the count: a worker
 *  that looks for work has it with the cache line that it reads anyway. A slot costs both sides one more transfer; and
 *  while the submitter waits for the slot's line, under the spinlock, the worker takes the lane's line from it (a round
 *  trip: 0.39 us instead of 0.56 to 0.79).
 *
 *  A worker's lane has a batch before its segments: a segment of its own, filled with the entries that it fetched. The
 *  owner takes from it without the spinlock, by one compare-and-swap a task; all others take under the spinlock. It is
 *  filled under the spinlock too, when it is empty, so its words never change under a reader. Mostly a whole segment of
 *  another lane becomes the batch, and the empty one takes its place there: no entry is copied, and the spinlock of a
 *  lane that all submitters want is held for a few stores.
 *
 *      bits of `batch`  0-9 where the first entry begins, 10-19 where the last one ends, 20-29 how many entries,
 *                       30 CLOSED: the owner takes under the spinlock; a swap of its own that was under way fails
 *
 *  Rejected: a linked list of tasks (its consumer pays a cache miss a task). Rejected: a lock-free ring with one
 *  fetch-add a submit. It saves the second read-modify-write of the unlock, 5 ns; it loses the sweep, exact capacities,
 *  and the lock's order between queueing and looking for sleepers, for which it must pay with a fence.
 * ----------------------------------------------------------------------------------------------------------------- */
#define TPOOL__SEGMENT_WORDS 508u
#define TPOOL__ENTRY_WORDS 3u     /* most words of one entry */
#define TPOOL__SPARE_SEGMENTS 32u /* kept for the next burst, per lane */
#define TPOOL__LOOK_BACK 16u      /* how many words back from a lane's end an awaited entry is looked for */
typedef struct tpool__segment {
    struct tpool__segment *next;
    uint16_t end, entries; /* where its last entry ends, and how many are left; not valid in the tail */
    uintptr_t words[TPOOL__SEGMENT_WORDS];
} tpool__segment;

#define TPOOL__BATCH_BITS 10
#define TPOOL__BATCH_MASK (((uint32_t)1 << TPOOL__BATCH_BITS) - 1)
#define TPOOL__BATCH_ENTRY ((uint32_t)1 << 2 * TPOOL__BATCH_BITS)
#define TPOOL__BATCH_CLOSED ((uint32_t)1 << 3 * TPOOL__BATCH_BITS)

typedef struct tpool__lane { /* a submit and most fetches touch only the first cache line */
    tpool__spinlock lock;
    tpool__u32 batch;
    uint16_t head_position, tail_position, tail_entries;
    tpool__word count; /* entries outside the batch, with tombstones; a hint without the spinlock */
    tpool__segment *head, *tail;
    uint64_t submitted;
    uintptr_t front;               /* of a lane without a batch: the oldest entry, instead of a slot; or 0 */
    intptr_t dead;                 /* tasks claimed elsewhere minus tombstones dropped; valid as a sum over all lanes */
    tpool__segment *batch_segment; /* NULL: a lane without a batch */
    tpool__segment *spare;
    unsigned spares;
    tpool__word claims;        /* tasks ever claimed elsewhere under this spinlock; other lanes read it as a hint */
    uintptr_t claims_at_sweep; /* the sum of `claims` over the pool's lanes at the last sweep of this lane */
} tpool__lane;
_Static_assert(offsetof(tpool__lane, front) + sizeof(uintptr_t) <= TPOOL__CACHE_LINE, "one line hands a task over");

/* A task as it leaves a queue. */
typedef struct tpool__entry {
    tpool_fn fn; /* a plain task ... */
    void *arg;
    uintptr_t stamp;           /* when it was submitted, or 0 (>>measure) */
    tpool_future *task;        /* ... or a task with an object, claimed ... */
    struct tpool__stolen *job; /* ... or a forked job, whose function and argument are in fn and arg ... */
    tpool__worker *victim;     /* ... stolen from this worker */
    uint32_t stops;
} tpool__entry;

/* A queued task with a priority, or any queued task of a pool that drops the oldest. */
typedef struct tpool__ranked {
    int priority;
    uint64_t order;
    tpool_future *task;
} tpool__ranked;

/* --------------------------------------------------------------------------------------------------------------------
 *  >>measure  Times of waiting and running (config.measure)
 *
 *  Histograms of fixed size, with sixteen buckets to each doubling: the middle of a bucket is off by at most 1/32 of
 *  its values; below sixteen nanoseconds the buckets are exact. (The idea of Gil Tene's HdrHistogram,
 *  hdrhistogram.org.) Each worker has its own, which it alone writes; what other threads execute for the pool counts in
 *  the pool's, under the inject spinlock. A reader adds them all up.
 *
 *  The stamp is the time of the submit. It is in the lane before a plain task, which so needs no memory of its own,
 *  else in the task's `outcome`, which has no other use before the task runs. A task costs two reads of the clock, in
 *  the submit and at the end: a worker that goes straight from one task to the next uses the end of the first as the
 *  start of the second (`ended_at`).
 * ----------------------------------------------------------------------------------------------------------------- */
#define TPOOL__BUCKETS 960u /* sixteen below 16, and sixteen for each of 2^4 to 2^62 */
typedef struct tpool__measures {
    tpool__word waits[TPOOL__BUCKETS], runs[TPOOL__BUCKETS];
    tpool__word busy_low, busy_high; /* nanoseconds: 30 bits, and the rest */
} tpool__measures;

/* What a trace keeps (tpool_trace_start): a ring of the newest events of one worker, which alone writes it, or, the
 * pool's, of all other threads, which write it under its lock. A writer waits for no reader: one that finds out that a
 * record was overwritten while it was read drops it (P20). */
typedef struct tpool__traced {
    int64_t now;
    uint64_t task;
    uintptr_t about; /* of what has a name: the address of that; else the number of the other task */
    int worker;
    unsigned kind;
    tpool_status status;
    bool ran; /* ENDED: it has started before */
} tpool__traced;
#define TPOOL__RECORD_BYTES 32u
typedef struct tpool__record_words { /* a tpool__traced in a ring */
    tpool__word words[TPOOL__RECORD_BYTES / sizeof(uintptr_t)];
} tpool__record_words;
typedef struct tpool__ring {
    tpool__spinlock lock; /* readers hold it, and who changes these three: */
    uint32_t trace;       /* the number of the trace that the records are of */
    tpool__record_words *records;
    size_t size;             /* how many there is room for, a power of two; 0: none */
    tpool__word begun, next; /* how many there were, with the one that is written, and without it; these wrap */
} tpool__ring;

/* One task's times, on the stack of the thread that executes it. */
typedef struct tpool__stopwatch {
    int64_t waited, began, ended;
    bool outermost; /* not within a wait of another task: its time counts as busy */
} tpool__stopwatch;

/* --------------------------------------------------------------------------------------------------------------------
 *  >>worker
 * ----------------------------------------------------------------------------------------------------------------- */
/* A thread that waits, on its own stack: what the loop of all waits needs (tpool__wait). Each kind of wait embeds it in
 * a struct with what it waits for. */
typedef struct tpool__waiter tpool__waiter;
struct tpool__waiter {
    tpool__waiter *next_in_line; /* of those that wait for the same: `room`, `drainers`, a resource */
    const struct tpool__wait_kind *kind;
    tpool__thread *self;
    int64_t deadline;            /* of the whole wait */
    int64_t look_at;             /* set by kind->look: when to look again although no thread has notified this one */
    tpool_status status;         /* what the wait has come to; TPOOL_TIMEOUT as long as that is open */
    tpool__record *record;       /* the wait as the search for cycles sees it from piece to piece; or NULL */
    tpool_future *awaited;       /* for tpool_describe: the one future that is waited for; or NULL */
    int64_t since;               /* likewise, with config.measure: when the worker blocked; else 0 */
    tpool__waiter *next, **link; /* in `blocked_waiters` */
    bool can_refuse;             /* it may end with TPOOL_NO_THREAD ... */
    _Atomic(bool) refused;       /* ... and shall: the system refused a worker that is needed; then it is unparked */
    bool can_stop;               /* a stop of its task ends it with TPOOL_CANCELLED ... */
    tpool__waiter *next_stoppable, **link_stoppable; /* ... and it is in tpool__stoppable */
    tpool__parker parker;
};
struct tpool__record {
    tpool__record *next, **link;
    tpool__record *unexplored;
    tpool__thread *thread;
    tpool__waiter *waiter; /* while it is in a piece of its wait */
    tpool__context *context;
    tpool_future *const *futures;
    size_t count;
    tpool_completions *completions; /* instead of futures */
    bool may_end;                   /* by a limit, or by one of several: it closes no cycle */
    bool foreign;                   /* it waits in a job or a loop's part, so it also holds up tasks of other stacks */
    uint64_t visited;
};

/* A public job. Only the owner touches the tpool_job itself, which is on a stack that its thread may leave. */
typedef struct tpool__offer {
    const tpool_job *job; /* NULL: none */
    tpool_fn fn;
    void *arg;
    tpool__context *context; /* in which it was forked */
    uintptr_t serial;        /* of that context */
} tpool__offer;

/* A stolen job, in a memory block of a task's size, from the theft to its join. */
typedef enum tpool__job_state { TPOOL__JOB_STOLEN, TPOOL__JOB_DONE, TPOOL__JOB_BROKEN } tpool__job_state;
typedef struct tpool__stolen {
    struct tpool__stolen *next; /* the one stolen before it */
    tpool__context *origin;     /* the context in which it was forked */
    union {
        tpool__worker *victim; /* its owner */
        void *result;          /* once it is done */
    } u;
    tpool__job_state state;
    tpool__waiter *waiter;         /* its owner, blocked in the join */
    tpool__worker *thief;          /* executes it ... */
    const tpool__context *beneath; /* ... in this context ... */
    uintptr_t serial;              /* ... with this number */
} tpool__stolen;
_Static_assert(sizeof(tpool__stolen) <= sizeof(tpool_future), "a stolen job fits into a block");

enum { TPOOL__COMPLETED, TPOOL__FAILED_COUNT, TPOOL__INLINED, TPOOL__STOLEN_COUNT, TPOOL__OWN_COUNTS };

struct tpool__worker {
    tpool__lane lane;  /* what it submitted, and what it fetched */
    tpool__u32 taking; /* the owner is between taking a task from its batch and claiming it (P11) */
    alignas(TPOOL__CACHE_LINE) tpool *pool;
    void *backing;                 /* its backend's: see >>backend; never changes */
    _Atomic(tpool__worker *) next; /* in the list of workers that live or left something, by index (P6) */
    int index;
    bool searching;        /* counted in pool->gate; the owner's */
    bool in_setup;         /* in its initializer: counted in pool->starting, unless it is blocked; the owner's */
    uintptr_t jobs_stolen; /* the serial number of the last job that it stole */
    bool retired;          /* only its finalizer is left: counted only in pool->ending; the owner's */
    _Atomic(bool) busy;    /* has a task, or may have taken one (P10) */
    unsigned tasks_done;   /* for max_tasks_per_worker */
    unsigned turns, fair_turns, ranked_turns; /* tpool__find */
    uint32_t batch_delay;                     /* ns, before it looks into the inject lane (tpool__delay_batch) */
    uint32_t failed_spins;                    /* of its spins for work: see >>spin */
    size_t fetch_size;                        /* how many tasks it would fetch at a time */
    int64_t fetched_at;                       /* when it last fetched */
    bool set_up; /* its initializer has succeeded, its finalizer has not begun; the owner's */
    tpool_job *newest_job, *oldest_private_job; /* forked and not joined; the owner's */
    tpool__word counts[TPOOL__OWN_COUNTS];      /* written by the owner (P10) */
    tpool__measures *measures;                  /* likewise; NULL without config.measure */
    tpool__ring ring;                           /* what a trace keeps of it */
    int64_t ended_at; /* when its last task ended; 0 if it did something else since; the owner's */
    alignas(TPOOL__CACHE_LINE) tpool__spinlock jobs_lock;
    tpool__word public_jobs; /* 1: thieves may take `offer`; written under jobs_lock, else a hint */
    tpool__offer offer;
    tpool__stolen *stolen; /* jobs stolen from this worker, the last one first: the order of the joins */
    tpool__parker parker;
    /* under pool->lock: */
    bool asleep, timed, listed;
    tpool__worker *sleep_next, *sleep_previous; /* in the list of sleepers, or of leftovers */
    tpool__worker *previous;                    /* in the list of workers */
    tpool__worker *before;                      /* the worker with the next lower index; never changes */
    tpool__waiter *waiter;                      /* its wait, while it is blocked */
    _Atomic(tpool__thread *) thread; /* set as its thread begins (P19), cleared under pool->lock; NULL: none */
    tpool__thread_handle handle;
    tpool__thread_handle left; /* of an earlier thread of this worker: joined by the next one, or by the shutdown */
};

/* See >>times. */
typedef struct tpool__timer tpool__timer;
struct tpool__timer {
    tpool__timer *next, **link; /* in its slot, or among those that have come; link NULL: not armed */
    uint64_t tick;
    /* called without a lock; may arm the timer again, or free it; lists what calls the program's code */
    void (*fire)(tpool__timer *timer);
};

/* --------------------------------------------------------------------------------------------------------------------
 *  >>pools
 * ----------------------------------------------------------------------------------------------------------------- */
#define TPOOL__ROOM ((uintptr_t)1)     /* gate: one more worker may become active */
#define TPOOL__SEARCHER ((uintptr_t)2) /* gate: one worker looks for work */

#define TPOOL__MEASURED 1u /* observed: config.measure */
#define TPOOL__OBSERVED 2u /* tasks are, by config.observer; these two never change */
#define TPOOL__TRACED 4u
#define TPOOL__TRACES_SHIFT 8 /* from here up: the number of the trace, while there is one; so without one all is 0 */
#define TPOOL__NUMBERED (TPOOL__OBSERVED | TPOOL__TRACED) /* every submit makes a task object, with a number */

#define TPOOL__PAUSED 1u /* the flags word */
#define TPOOL__SHUT 2u
#define TPOOL__BREAK 4u
#define TPOOL__RANKED 8u     /* something waits in the heap */
#define TPOOL__HALTED 16u    /* the process ends */
#define TPOOL__CLOSING 32u   /* takes work only from callers that it waits for: see tpool__is_insider */
#define TPOOL__CANCELLED 64u /* shut down with TPOOL_CANCEL_PENDING */
#define TPOOL__STOPS_SHIFT 8 /* from here up: how often TPOOL_STOP_RUNNING was asked */

/* Times at which futures expire, of a pool's queue, a wait, or an iterator: a heap, the earliest first, so that only
 * that one is read. What may leave from the middle learns its index through `placed`: a pool's tasks leave with their
 * entries, an iterator's items when they are yielded. A wait's future that is no longer pending leaves when it comes
 * first. */
typedef struct tpool__expiry {
    int64_t at;
    void *of; /* a pool's or a wait's future, or an iterator's item */
} tpool__expiry;
typedef struct tpool__expiries {
    tpool__expiry *heap;
    size_t count, size;
    size_t promised;                        /* places beyond `count` that are kept for what enters later */
    void (*placed)(void *of, size_t place); /* NULL: none needs its index */
} tpool__expiries;

enum {
    TPOOL__CANCELLED_COUNT,
    TPOOL__EXPIRED_COUNT,
    TPOOL__REJECTED_COUNT,
    TPOOL__DROPPED_COUNT,
    TPOOL__SPARED_COUNT,
    TPOOL__POOL_COUNTS
};

/* What a pool knows of its being stalled: see >>spares. Under pool->lock, except for the timer. */
typedef struct tpool__stall {
    tpool__timer timer; /* asks again; armed and disarmed under no lock ... */
    int64_t armed_for;  /* ... by the thread that has set this; 0: not */
    int64_t since;      /* when it began; 0: there is none */
    int64_t before; /* how long those before it lasted, while no task and no wait, but by its limit, came to its end */
    uintptr_t executed; /* tasks, as the last look saw them */
    unsigned level;     /* how many spares time has brought */
} tpool__stall;

struct tpool {
    /* read by every thread, written rarely */
    union {
        tpool__u32 flags, attention; /* the second names of these unions: see tpool__latch */
    };
    tpool__word max_workers;
    tpool__word live;                 /* started workers that have not ended; written under lock */
    _Atomic(tpool__worker *) workers; /* the list: those that live, and those that ended and left an entry */
    uintptr_t generation;
    uintptr_t home; /* address and generation in one word */
    uintptr_t tag;  /* its number in this process, made odd */
    size_t capacity;
    bool ordered;                  /* every task goes through the heap */
    tpool__u32 observed;           /* TPOOL__MEASURED, TPOOL__OBSERVED, TPOOL__TRACED */
    bool shared;                   /* a dual pool */
    bool exit_exempt;              /* being destroyed, or ended by its manager; under tpool__process.lock */
    bool detached;                 /* a thread waits for its end, to free it; under tpool__process.lock */
    bool given_up;                 /* detached while a destroy is under way, which frees it; likewise */
    tpool__thread_handle detacher; /* that thread; likewise */
    tpool_map_iter *iterators;     /* under tpool__process.lock */
    tpool_manager *manager;        /* of a managed pool; never changes */
    tpool_config config;
    char name[64];
    tpool__scheduling *scheduling; /* of its workers; never changes */
    tpool *next, *previous;        /* all pools, under tpool__process.lock */
    tpool *heir;                   /* the pool to shut down, with heir_flags, when this one has ended */
    unsigned heir_flags;
    tpool *closing_for;            /* with TPOOL__CLOSING: the pool whose tasks may still submit */
    const tpool__backend *backend; /* NULL: a pool of threads (tpool__backend_of); never changes */
    void *backing;                 /* the backend's */

    alignas(TPOOL__CACHE_LINE) tpool__word gate;

    alignas(TPOOL__CACHE_LINE) tpool__lane inject; /* what other threads submit; its lock also guards: */
    tpool__ranked *heap;
    uint32_t *places; /* their index in the heap, by their order (>>heap) */
    size_t heap_count, heap_size;
    uint64_t heap_first, heap_order; /* no task in the heap has a lower order; the next order to give */
    size_t enders; /* tasks whose outside end is not released, and that are in no queue: see >>protocol */
    union {
        size_t callers, visitors; /* callers inside a call that may outlast the last task: see >>protocol */
    };
    tpool__waiter *room, **room_end; /* submitters that wait for room, in line (tpool__room_waiter) */
    tpool__waiter *drainers;         /* callers that wait for a condition of the whole pool (tpool__drainer) */
    tpool__word draining;            /* how many drainers; also read without the lock, as a hint */
    tpool__u32 destroying;           /* one of the drainers is a destroy; a hint, without the lock */
    unsigned finishing; /* > 0: nothing pauses it: see tpool__finish_begin; under pool->lock, not this one */

    alignas(TPOOL__CACHE_LINE) tpool__lock_word lock; /* guards: */
    tpool__word active;      /* live workers that are neither asleep nor blocked; a hint without the lock */
    tpool__word most_active; /* how many may be; 0: the spares are used up (tpool__update_room); likewise */
    uintptr_t blocked;
    uintptr_t blocked_in_setup;    /* those of the blocked that are in their initializer */
    uintptr_t granted;             /* spares beyond max_spares that time has brought */
    tpool__stall stall;            /* see >>spares */
    uintptr_t starting;            /* active workers in their initializer, which look for work when they leave it */
    uintptr_t ending;              /* ended workers that are still in their finalizer */
    bool launching;                /* a submitter launches the first worker's backing */
    tpool__worker *sleepers;       /* the last to sleep first */
    tpool__worker *expiry_sleeper; /* in a paused pool, the sleeper that wakes when the next task expires ... */
    int64_t expiry_sleeper_until;  /* ... at this time */
    tpool__waiter *blocked_waiters;
    int64_t idle_since;              /* of a managed pool: when a worker last went to sleep */
    tpool__thread_handle last_ended; /* the next worker that ends joins it, or the shutdown */
    tpool__worker *newest;           /* all workers that there ever were, linked by `before` */
    tpool__worker **unused;          /* those of them that have ended: a heap, the lowest index first */
    size_t unused_count, unused_size;
    tpool__worker *leftovers; /* those of the unused that are still in the list of workers */
    uint32_t traces;          /* how many have begun: the number of the last one */
    size_t trace_size;        /* of each ring of the last trace, in records */

    alignas(TPOOL__CACHE_LINE) tpool__spinlock expiring_lock; /* guards: */
    tpool__expiries expiring;                                 /* of the tasks in the queue */

    alignas(TPOOL__CACHE_LINE) tpool__word counts[TPOOL__POOL_COUNTS];
    tpool__word own_counts[TPOOL__OWN_COUNTS]; /* of tasks that end outside a worker, and of workers no longer listed */
    tpool__measures *measures;                 /* likewise; written under the inject spinlock */
    tpool__ring ring;                          /* what a trace keeps of events on other threads */
};

/* What the whole process shares. */
static struct {
    tpool__lock_word lock; /* guards the list of pools, the initialization, the dual pools and the global manager;
                                   taken before any lock of a pool */
    tpool__u32 ready;
    tpool__word generation; /* one more in each child of fork */
    tpool__word pool_count;
    tpool__word setups;  /* initializers and finalizers that run */
    tpool__word used_up; /* pools whose spares are used up: see >>spares */
    _Atomic(tpool *) pools;
    tpool *inherited; /* in a child of fork: the parent's pools, untouched, reachable for leak checkers */
    bool unpooled;    /* each task comes from TPOOL_MALLOC by itself, for tools that check memory; P8 */
    tpool__word named;
    tpool__word numbers;             /* how many numbers of tasks the threads have taken */
    size_t detached;                 /* threads that free detached pools and are not about to end; under the lock */
    tpool__thread_handle detacher;   /* the last that did; the next one joins it, the unloading or the exit; likewise */
    tpool__word ending;              /* threads in their exit hook */
    tpool__u32 exits;                /* the exit handler has begun */
    bool hooked, unloaded;           /* the threads' exit hook exists; this copy of the library is being unloaded */
    const tpool__backend *works_for; /* in a worker process; else NULL (tpool__works_for) */
} tpool__process;

static inline uint32_t tpool__observed(tpool *pool) {
    return tpool__load_relaxed(&pool->observed);
} /* relaxed: flags */
static inline tpool__worker *tpool__first_worker(tpool *pool) { return tpool__load_acquire(&pool->workers); } /* P6 */
static inline tpool__worker *tpool__next_worker(tpool__worker *worker) {
    return tpool__load_acquire(&worker->next); /* P6 */
}

static void tpool__wake_one(tpool *pool);
static void tpool__publish(tpool_future *future, tpool_status status);

/* What tpool__wait asks of a kind of wait. */
typedef struct tpool__wait_kind {
    bool (*expire)(tpool__waiter *waiter); /* ends what has expired; true: the wait is over. NULL: it ends nothing */
    bool (*enter)(tpool__waiter *waiter);  /* joins the lists of all that can wake it; true: it is over without that */
    bool (*look)(tpool__waiter *waiter);   /* true: the piece is over */
    void (*leave)(tpool__waiter *waiter);  /* leaves those lists; what has come by then counts */
    const char *what;                      /* what is waited for, as tpool_describe says it */
    bool hands_over; /* what the wait brings is the caller's: it is lost if a function that is listed ends the thread */
} tpool__wait_kind;
static tpool_status tpool__wait(tpool__waiter *waiter, const tpool__wait_kind *kind, int64_t deadline);
static inline bool tpool__wait_over(tpool__waiter *waiter, tpool_status status) {
    waiter->status = status;
    return true;
}

/* Gets the next piece of contexts, and with `use` switches to it. False: no memory. */
static TPOOL__NOINLINE bool tpool__contexts_more(tpool__thread *self, bool use) {
    if (!self->context_last) {
        self->context_first = self->context_next = self->contexts;
        self->context_last = self->contexts + TPOOL__CONTEXTS;
        return true;
    }
    tpool__contexts *piece = self->spare_piece;
    if (!piece) piece = TPOOL_MALLOC(sizeof *piece);
    self->spare_piece = use ? NULL : piece;
    if (!piece || !use) return piece != NULL;
    piece->before = self->pieces;
    piece->before_next = self->context_next;
    piece->before_first = self->context_first;
    piece->before_last = self->context_last;
    self->pieces = piece;
    self->context_first = self->context_next = piece->all;
    self->context_last = piece->all + sizeof piece->all / sizeof *piece->all;
    return true;
}
/* The first context of a piece was popped. One piece is kept until the thread is back in its own contexts. */
static TPOOL__NOINLINE void tpool__contexts_fewer(tpool__thread *self) {
    tpool__contexts *piece = self->pieces, *spare = self->spare_piece;
    if (piece) {
        self->pieces = piece->before;
        self->context_next = piece->before_next;
        self->context_first = piece->before_first;
        self->context_last = piece->before_last;
        self->spare_piece = piece;
    } else {
        self->spare_piece = NULL;
    }
    if (spare) TPOOL_FREE(spare);
}
/* Whether a task may begin: there are contexts for it, and for what the library calls for it. */
static inline bool tpool__contexts_ready(tpool__thread *self) {
    return TPOOL__LIKELY(self->context_last - self->context_next >= TPOOL__CONTEXTS_A_TASK) ||
           tpool__contexts_more(self, false);
}

/* Takes a context, of which nothing shows yet (tpool_describe). */
static inline tpool__context *tpool__context_take(tpool__thread *self, tpool__context_kind kind, tpool *pool) {
    TPOOL_ASSERT(!self->waits);
    TPOOL_ASSERT(kind == TPOOL__IN_CALL || (tpool__holds_none() && !self->fires));
    tpool__context *context = self->context_next;
    if (!TPOOL__LIKELY(context != self->context_last)) {
        if (!tpool__contexts_more(self, true)) return &self->unlisted;
        context = self->context_next;
    }
    self->context_next = context + 1;
    context->kind = kind;
    context->stops = 0;
    context->task = NULL;
    context->pool = pool;
    context->of_end = 0;
    context->outer = self->context;
    context->serial = 0;
    context->origin = NULL;
    context->left = NULL;
    self->context = context;
    return context;
}
/* Before a function of the program. */
static inline tpool__context *tpool__context_push(tpool__thread *self, tpool__context_kind kind, tpool *pool) {
    tpool__context *context = tpool__context_take(self, kind, pool);
    tpool__store_relaxed(&context->shows, (uintptr_t)kind + 1); /* relaxed: it says all by itself */
    return context;
}
static void tpool__stop_calls_end(tpool__thread *self, const tpool__context *context);
static inline void tpool__context_drop(tpool__thread *self, tpool__context *context) {
    if (!TPOOL__LIKELY(!self->stop_calls)) tpool__stop_calls_end(self, context);
    tpool__store_relaxed(&context->shows, 0); /* relaxed: as above */
    self->context = context->outer;
    self->context_next = context;
    if (!TPOOL__LIKELY(context != self->context_first) && (self->pieces || self->spare_piece))
        tpool__contexts_fewer(self);
}
static TPOOL__NOINLINE bool tpool__context_lost(tpool__thread *self, const tpool__context *context) {
    if (context == &self->unlisted) return self->context != NULL; /* it was within others; a child has none */
    if (self->serves && !context->outer) tpool__thread_exit();
    return false;
}
/* After a function of the program. False: that function forked, and this is the child of fork. There no lock of the
 * parent's pools may be taken, since a thread that the child does not have may hold it. A worker's thread ends then, if
 * it has no outer code of the program to return to; else the caller must return to the program by the shortest way. */
static inline bool tpool__context_pop(tpool__thread *self, tpool__context *context) {
    if (!TPOOL__LIKELY(self->context == context)) return tpool__context_lost(self, context);
    tpool__context_drop(self, context);
    return true;
}

static bool tpool__arm(tpool__thread *self);

/* Sets what to do if the thread ends in this context. It needs no more than `of`, which is on no stack. */
static void tpool__context_guard(tpool__thread *self, tpool__context *context, void (*left)(void *of), void *of) {
    if (left) (void)tpool__arm(self); /* refused: no memory for the thread's key; then `left` may never be called */
    context->left = left;
    context->of = of;
}
/* Begins a call of the library, in which the program's code still belongs to the task of the outer context. */
static tpool__context *tpool__call_push(tpool__thread *self, void (*left)(void *of), void *of) {
    const tpool__context *beneath = self->context;
    tpool__context *context = tpool__context_push(self, TPOOL__IN_CALL, beneath ? beneath->pool : NULL);
    context->task = beneath ? beneath->task : NULL;
    tpool__context_guard(self, context, left, of);
    return context;
}

/* Whether the thread is in the program's code: a task, a callback, or the like. */
static bool tpool__runs_program(const tpool__context *context) {
    while (context && context->kind == TPOOL__IN_CALL) context = context->outer;
    return context != NULL;
}

/* An initializer or finalizer runs between these two. */
static tpool__context *tpool__setup_push(tpool__thread *self, tpool *pool, void (*left)(void *of), void *of) {
    tpool__add_relaxed(&tpool__process.setups, 1); /* relaxed: see tpool__within_setup */
    tpool__context *context = tpool__context_push(self, TPOOL__IN_SETUP, pool);
    tpool__context_guard(self, context, left, of);
    return context;
}
static bool tpool__setup_pop(tpool__thread *self, tpool__context *context) {
    if (!tpool__context_pop(self, context)) return false;
    tpool__sub_relaxed(&tpool__process.setups, 1); /* relaxed: as above */
    return true;
}

/* Which process this is: one more in each child of fork. Relaxed: it changes only in the child's one thread, before
 * fork returns there. */
static inline uintptr_t tpool__generation(void) { return tpool__load_relaxed(&tpool__process.generation); }
static inline bool tpool__is_of_parent(uintptr_t generation) { return generation != tpool__generation(); }
/* The pool, iterator, manager or other object belongs to the parent process: a thread that this process does not have
 * may hold its lock. */
#define tpool__is_foreign(object) tpool__is_of_parent((object)->generation)

/* A line of waiters, which the lock of what they wait for guards: the first to come is the first to go. */
static void tpool__line_join(tpool__waiter ***end, tpool__waiter *waiter) {
    waiter->next_in_line = NULL;
    **end = waiter;
    *end = &waiter->next_in_line;
}
static void tpool__line_leave(tpool__waiter **first, tpool__waiter ***end, const tpool__waiter *waiter) {
    tpool__waiter **at = first;
    while (*at != waiter) at = &(*at)->next_in_line;
    *at = waiter->next_in_line;
    if (!*at) *end = at;
}

static void tpool__waiter_link(tpool__waiter **list, tpool__waiter *waiter) {
    waiter->next = *list;
    waiter->link = list;
    if (*list) (*list)->link = &waiter->next;
    *list = waiter;
}
static void tpool__waiter_unlink(tpool__waiter *waiter) {
    if (!waiter->link) return;
    *waiter->link = waiter->next;
    if (waiter->next) waiter->next->link = waiter->link;
    waiter->link = NULL;
}

/* --------------------------------------------------------------------------------------------------------------------
 *  >>backend  What stands behind a worker
 *
 *  In a pool of threads a worker executes its tasks itself. In a pool of any other kind each worker has a backing, for
 *  example a process, that executes them. The worker's thread, its proxy, takes tasks as every worker does, hands each
 *  one over, and waits for its end. The engine, which is all of the header but the backends' own sections, knows
 *  backings through this table only. config.kind chooses it in tpool_create; a pool of threads has none.
 *
 *  A backing need not see the program's memory. Arguments, items, a map's context and results travel by value: the
 *  engine refuses others before a backend sees them. The initializer, the tasks and the finalizer run in the backing;
 *  arg_free, item_free and callbacks run in the program. No submitter and no waiter executes a task, and tpool_for is
 *  unsupported.
 *
 *  One thread at a time calls a worker's operations: the one that starts the worker, then its proxy. From worker_new to
 *  the pool's end, `kill`, `request_stop` and `in_child_of_fork` find the worker in the pool's list, too. If nothing
 *  else is said, the caller holds no lock. Cancellation is off (>>cancel) where an operation may wait; it is not in
 *  worker_new, is_lost, request_stop, around_fork, and those of the last group. In the program, no operation runs code
 *  of the program other than fork handlers.
 *
 *  A new kind of pool needs: its value in tpool_kind, its table here and in tpool__backends, and a section of its own.
 *  If its backings do not have the program's functions at the same addresses, it needs an operation by which submit
 *  and map refuse a function that cannot be named there, beside their tests for what does not travel by value.
 * ----------------------------------------------------------------------------------------------------------------- */
struct tpool__chunk;
struct tpool__backend {
    int64_t chunk_ns; /* how long a chunk of a map should take: much more than handing it over costs */

    /* THE POOL
     * check: the first step of create; makes nothing. The fields that concern any kind have been checked.
     * start: makes what all workers share. May set max_workers, where config.max_workers is 0. The pool is in the list
     *     of pools, where a fork in another thread finds it, but no caller has it yet. Not TPOOL_OK: create returns
     *     that, after `stop`.
     * stop: unmakes it, also what a `start` that failed has left half made. No worker has a backing any more. On return
     *     nothing runs that the pool has started, except backings that the system does not let it end, and
     *     pool->backing is NULL. */
    tpool_status (*check)(const tpool_config *config);
    tpool_status (*start)(tpool *pool);
    void (*stop)(tpool *pool);

    /* ANY THREAD, ANY TIME between start and stop
     * kill: tpool_kill_workers. Ends what executes tasks and does not wait for that. Those tasks end as TPOOL_BROKEN.
     * request_stop: lets tpool_stop_requested return true in the task; task NULL: in all tasks of the pool. `cut`: the
     *     task is a chunk, and its further items are not wanted either. The caller has set the flag that says so before
     *     (STOP, the count of stop requests, the map's `closing`). So that no request is lost, a proxy first notes its
     *     task under a lock that this call passes, then checks these flags, then hands the task over. The caller may
     *     hold the task's LOCKED, so this call waits for nothing but that lock. */
    void (*kill)(tpool *pool);
    void (*request_stop)(tpool *pool, const tpool_future *task, bool cut);

    /* A WORKER, in this order
     * worker_new: sets worker->backing, a block of TPOOL_MALLOC, which the engine frees after `stop`. Once for each
     *     worker, before it is in the list, under pool->lock. worker->index stays. False: no memory.
     * launch: starts a backing, if a caller wants to know first whether the system provides one; it is no proxy. Other
     *     workers come to `ready` without it. Does not wait for the initializer. If the caller holds pool->lock, the
     *     deadline is near. TPOOL_NO_THREAD: the system refuses. TPOOL_OK: it does not, or at `deadline` nothing was
     *     known; then `ready` awaits it.
     * ready: starts a backing if the worker has none, and waits for its initializer to end. Called before the first
     *     task, and when is_lost. TPOOL_BROKEN: the initializer failed, the pool breaks. TPOOL_NO_THREAD: the system
     *     refuses for good, or the pool ends meanwhile and has no more work; then the proxy ends. No drain waits for
     *     the worker during this call, but a shutdown does: so it looks now and then whether the pool ends.
     * is_lost: whether the backing is gone or condemned (kill). Asked after each task, so it makes no system call.
     * execute, execute_items: see below; as often as there are tasks.
     * end: the last task has ended, or no thread was started for the worker. Has the finalizer run, if the backing has
     *     been ready, and waits for it; leaves no backing. There may be none. Another `launch` or `ready` may follow,
     *     since a later worker takes this one's place. */
    bool (*worker_new)(tpool__worker *worker);
    tpool_status (*launch)(tpool__worker *worker, int64_t deadline);
    tpool_status (*ready)(tpool__worker *worker);
    bool (*is_lost)(tpool__worker *worker);
    void (*end)(tpool__worker *worker);

    /* A TASK, claimed and running; self->worker is its proxy, self->context its context.
     * execute: calls fn(task->value) in the backing; the value is NULL, or the address of extra->arg_size bytes.
     *     Returns what fn returned. Results by tpool_return and errors become the task's outcome (tpool__set_outcome).
     *     A task whose backing is lost ends as TPOOL_BROKEN; if it had not begun, another backing may execute it. Kills
     *     the backing when extra->stop_at has come (if extra->limit is RUN_WITH_TIMEOUT, is_timeout is set in the
     *     outcome). If the initializer of a new backing fails, calls tpool__refuse_for_good; the engine ends what
     *     waits, after the task, once is_lost returns true.
     * execute_items: likewise for chunk->iter->spec.fn and the chunk's items. Fills chunk->slots; an item whose backing
     *     is lost, or killed when its run_limit_ns is over, ends as TPOOL_BROKEN, and those behind it go on. Returns
     *     how many items, from the first on, have ended: all, unless the map is being closed. Outcomes may lie in
     *     memory that it adds to chunk->results. */
    void *(*execute)(tpool__thread *self, tpool_future *task, tpool_fn fn);
    size_t (*execute_items)(tpool__thread *self, struct tpool__chunk *chunk);

    /* FORK, by any thread of the program, also while no pool has this backend
     * around_fork: right before a fork (begins), and right after it in the parent. Must not keep a lock over it.
     * in_child_of_fork: in the child, which has one thread. Drops all that leads to the parent's backings. `pools` are
     *     the parent's pools, of all kinds, which may be half changed; no lock of theirs may be taken. */
    void (*around_fork)(bool begins);
    void (*in_child_of_fork)(tpool *pools);

    /* IN THE BACKING, if that is a process which calls the library: it has set tpool__process.works_for to its table.
     * give_back: tpool_return in any task. Sets what that returns. False: it is not the task of this process (but, for
     *     example, one of a pool of its own), and the engine keeps the bytes.
     * should_stop: whether request_stop was called for the task.
     * thread_ends: a thread of the process ends, before anything else that the library does then. */
    bool (*give_back)(const tpool_future *task, const void *bytes, size_t size, void **payload);
    bool (*should_stop)(const tpool_future *task);
    void (*thread_ends)(tpool__thread *self);
};

/* By config.kind. NULL: TPOOL_THREADS, and what this build does not have. */
#define TPOOL__KINDS (TPOOL_PROCESSES + 1)
#if defined(TPOOL__PROCESSES) && !defined(TPOOL__BACKEND_OF_PROCESSES) /* a test brings another */
#define TPOOL__BACKEND_OF_PROCESSES tpool__processes
#endif
#if defined(TPOOL__BACKEND_OF_PROCESSES)
#define TPOOL__HAS_BACKENDS true
static const tpool__backend TPOOL__BACKEND_OF_PROCESSES;
static const tpool__backend *const tpool__backends[TPOOL__KINDS] = { NULL, &TPOOL__BACKEND_OF_PROCESSES };
#else
#define TPOOL__HAS_BACKENDS false
static const tpool__backend *const tpool__backends[TPOOL__KINDS] = { NULL, NULL };
#endif
static inline bool tpool__is_kind(tpool_kind kind) { return (unsigned)kind < TPOOL__KINDS; }

/* NULL for a pool of threads, so that it pays one test; where the build has no backends, not even that. */
static inline const tpool__backend *tpool__backend_of(const tpool *pool) {
    return TPOOL__HAS_BACKENDS ? pool->backend : NULL;
}
static inline bool tpool__executes_elsewhere(const tpool *pool) { return tpool__backend_of(pool) != NULL; }
/* Not NULL in a process that is a backing. */
static inline const tpool__backend *tpool__works_for(void) {
    return TPOOL__HAS_BACKENDS ? tpool__process.works_for : NULL;
}

/* --------------------------------------------------------------------------------------------------------------------
 *  >>blocks  Where blocks come from: slabs, cut once; a depot of magazines; a cache in each thread
 *
 *  A memory block holds one tpool_future. A thread takes and gives back whole magazines, of 32 blocks, so a producer
 *  and a consumer pass 32 blocks for one lock. (Bonwick and Adams, "Magazines and Vmem", 2001.) A slab is cut into
 *  blocks as they are needed.
 *
 *  All slabs are freed when the last pool is destroyed, or later, when the last future is released. If slabs are pages
 *  of the system, one is kept for the next pool; if they come from an allocator, none is.
 *
 *  Slabs that are not needed are freed earlier: when more than TPOOL__KEPT_TASKS blocks have been in the depot for
 *  TPOOL__KEPT_TIME, each slab whose blocks are all there is freed. The tidier does this, a worker that sleeps: it
 *  sleeps for that time if so many are there, or is woken once when they come. So this costs a burst nothing, and a
 *  program without bursts nothing at all. If no worker lives, the thread that brings so many blocks does it at once.
 * ----------------------------------------------------------------------------------------------------------------- */
#if !defined(TPOOL__KEPT_TIME)
#define TPOOL__KEPT_TASKS ((size_t)16384) /* a MiB */
#define TPOOL__KEPT_TIME TPOOL_MS(250)
#endif
typedef struct tpool__large {
    struct tpool__large *next;
    size_t size;
} tpool__large;
typedef struct tpool__slab {
    struct tpool__slab *next;
    size_t cut;   /* how many blocks have been cut from it */
    size_t whole; /* how many of these the tidier found in the depot; a slab that is mapped while it looks
                                   must have 0: slabs are zeroed */
    char pad[TPOOL__CACHE_LINE - 3 * sizeof(void *)];
    tpool_future tasks[];
} tpool__slab;
#define TPOOL__SLAB_TASKS ((TPOOL__SLAB_SIZE - sizeof(tpool__slab)) / sizeof(tpool_future))

static struct {
    tpool__lock_word lock;
    tpool_future *magazines; /* the first block of each, chained by the first of its links */
    tpool_future *loose;     /* single blocks, chained by u.next */
    size_t home;             /* how many blocks are in the depot */
    tpool__word total;       /* how many blocks have been cut; a hint without the lock */
    size_t unneeded;         /* the lowest `home` since the tidier began to wait */
    size_t enough;           /* the tidier looks again when `home` exceeds this */
    tpool__slab *slabs;      /* the newest first; only that one is not cut to its end */
    size_t slab_count;
    _Atomic(tpool__parker *) tidier; /* its park token; a hint without the lock */
    bool tidied;                     /* a thread is looking for slabs to free */
    tpool__large *large;             /* memory for large arguments of process pools, to be used again */
    size_t large_bytes;
} tpool__depot;

/* The addresses of a magazine's blocks are stored in its own first blocks, so that no thread follows a chain through
 * blocks that are in another CPU's cache. The first block holds the next magazine and the second to seventh block;
 * the second to fifth hold up to seven more each. The state words stay untouched. */
enum { TPOOL__LINKS = 7 };
typedef struct tpool__links {
    tpool_future *to[TPOOL__LINKS];
} tpool__links;
_Static_assert(offsetof(tpool_future, u) + sizeof(tpool__links) <= sizeof(tpool_future), "links fit into a block");
static inline tpool__links *tpool__links_of(tpool_future *task) { return (tpool__links *)(void *)&task->u; }

static void tpool__magazine_push(tpool_future **magazines, tpool_future *const *tasks) {
    tpool__links_of(tasks[0])->to[0] = *magazines;
    for (unsigned i = 1; i < TPOOL__LINKS; i++) tpool__links_of(tasks[0])->to[i] = tasks[i];
    for (unsigned i = TPOOL__LINKS; i < TPOOL__MAGAZINE; i++)
        tpool__links_of(tasks[i / TPOOL__LINKS])->to[i % TPOOL__LINKS] = tasks[i];
    *magazines = tasks[0];
}
static void tpool__magazine_pop(tpool_future **magazines, tpool_future **tasks) {
    tasks[0] = *magazines;
    for (unsigned i = 1; i < TPOOL__LINKS; i++) tasks[i] = tpool__links_of(tasks[0])->to[i];
    for (unsigned i = TPOOL__LINKS; i < TPOOL__MAGAZINE; i++)
        tasks[i] = tpool__links_of(tasks[i / TPOOL__LINKS])->to[i % TPOOL__LINKS];
    *magazines = tpool__links_of(tasks[0])->to[0];
}
static void tpool__slabs_unmap(tpool__slab *slabs) {
    while (slabs) {
        tpool__slab *next = slabs->next;
        tpool__slab_unmap(slabs);
        slabs = next;
    }
}

/* Frees all memory if no pool is left, and either every block is in the depot, or `all`. Unless `all`, one slab of
 * pages stays, uncut, for the next pool. */
static void tpool__depot_trim(bool all) {
    tpool__slab *slabs = NULL;
    tpool__large *large = NULL;
    tpool__lock(&tpool__depot.lock);
    /* relaxed: a pool that is being created takes this lock for its first block */
    if ((all || tpool__depot.home == tpool__load_relaxed(&tpool__depot.total)) &&
        tpool__load_relaxed(&tpool__process.pool_count) == 0) {
        slabs = tpool__depot.slabs;
        tpool__depot.slabs = NULL;
        large = tpool__depot.large;
        tpool__depot.large = NULL;
        tpool__depot.large_bytes = 0;
        tpool__depot.magazines = tpool__depot.loose = NULL;
        tpool__depot.home = tpool__depot.slab_count = tpool__depot.unneeded = tpool__depot.enough = 0;
        tpool__store_relaxed(&tpool__depot.total, 0); /* relaxed: under its lock */
        if (TPOOL__SLAB_STAYS && slabs && !all) {
            tpool__depot.slabs = slabs;
            tpool__depot.slab_count = 1;
            slabs = slabs->next;
            tpool__depot.slabs->next = NULL;
            tpool__depot.slabs->cut = 0;
        }
    }
    tpool__unlock(&tpool__depot.lock);
    tpool__slabs_unmap(slabs);
    while (large) {
        tpool__large *next = large->next;
        TPOOL_FREE(large);
        large = next;
    }
}

/* Large arguments for a backend are copied into memory that the next task uses again: fresh pages would cost more than
 * the copy (the rate fell to a third). Up to TPOOL__LARGE_KEPT is kept while there are pools. */
#define TPOOL__LARGE ((size_t)1 << 20)
#define TPOOL__LARGE_KEPT ((size_t)128 << 20)
static tpool__large *tpool__large_take(size_t size) {
    tpool__large *found = NULL;
    size = (size + TPOOL__LARGE - 1) / TPOOL__LARGE * TPOOL__LARGE;
    tpool__lock(&tpool__depot.lock);
    for (tpool__large **at = &tpool__depot.large; *at && !found; at = &(*at)->next) {
        if ((*at)->size < size || (*at)->size / 2 > size) continue;
        found = *at;
        *at = found->next;
        tpool__depot.large_bytes -= found->size;
        break;
    }
    tpool__unlock(&tpool__depot.lock);
    if (found) return found;
    found = TPOOL_MALLOC(TPOOL__ROUND_UP(sizeof *found) + size);
    if (found) found->size = size;
    return found;
}
static void tpool__large_give(tpool__extra *extra) {
    tpool__large *large = extra ? extra->large : NULL;
    if (!large) return;
    extra->large = NULL;
    tpool__lock(&tpool__depot.lock);
    bool kept = tpool__load_relaxed(&tpool__process.pool_count) > 0 && /* relaxed: trimmed under this lock */
                large->size <= TPOOL__LARGE_KEPT - tpool__depot.large_bytes;
    if (kept) {
        large->next = tpool__depot.large;
        tpool__depot.large = large;
        tpool__depot.large_bytes += large->size;
    }
    tpool__unlock(&tpool__depot.lock);
    if (!kept) TPOOL_FREE(large);
}

static void tpool__extra_free(tpool__extra *extra) {
    tpool__large_give(extra);
    tpool__dealloc(extra);
}

/* So many blocks are in the depot that the tidier must look. */
static bool tpool__depot_has_many(size_t home) {
    TPOOL_ASSERT(tpool__held(&tpool__depot.lock));
    return home > tpool__depot.enough && home > TPOOL__KEPT_TASKS && !tpool__depot.tidied;
}

static void tpool__depot_tidy(tpool__parker *tidier);

static void tpool__depot_give(tpool_future *const *tasks, unsigned count) {
    tpool__parker *asleep = NULL;
    tpool__lock(&tpool__depot.lock);
    bool had_many = tpool__depot_has_many(tpool__depot.home);
    tpool__depot.home += count;
    tpool__parker *tidier = tpool__load_relaxed(&tpool__depot.tidier); /* relaxed: under its lock */
    bool has_now = !had_many && tpool__depot_has_many(tpool__depot.home);
    if (tidier && has_now) asleep = tpool__unpark_begin(tidier);
    if (count == TPOOL__MAGAZINE) {
        tpool__magazine_push(&tpool__depot.magazines, tasks);
    } else {
        for (unsigned i = 0; i < count; i++) {
            tasks[i]->u.next = tpool__depot.loose;
            tpool__depot.loose = tasks[i];
        }
    }
    tpool__unlock(&tpool__depot.lock);
    tpool__unpark_end(asleep);
    if (!TPOOL__LIKELY(!has_now || tidier)) tpool__depot_tidy(NULL);
}

/* Cuts a magazine, or the rest, from the newest slab; the lowest address will be taken first. Gives the number. */
static unsigned tpool__depot_cut(tpool_future **tasks) {
    TPOOL_ASSERT(tpool__held(&tpool__depot.lock));
    tpool__slab *slab = tpool__depot.slabs;
    if (!slab || slab->cut == TPOOL__SLAB_TASKS) {
        slab = tpool__slab_map();
        if (!slab) return 0;
        slab->next = tpool__depot.slabs;
        slab->cut = 0;
        tpool__depot.slabs = slab;
        tpool__depot.slab_count++;
    }
    size_t left = TPOOL__SLAB_TASKS - slab->cut;
    unsigned count = left < TPOOL__MAGAZINE ? (unsigned)left : TPOOL__MAGAZINE;
    for (unsigned i = count; i > 0; i--) tasks[i - 1] = &slab->tasks[slab->cut++];
    /* relaxed: under its lock */
    tpool__store_relaxed(&tpool__depot.total, tpool__load_relaxed(&tpool__depot.total) + count);
    return count;
}

/* In a child of fork. If a thread of the parent was changing the depot, the child abandons the blocks in it, where leak
 * checkers still find them, and never frees the slabs that it cuts itself. What a tidier looked through is lost. */
static void tpool__depot_after_fork(void) {
    bool whole = tpool__load_relaxed(&tpool__depot.lock) == TPOOL__LOCK_FREE; /* relaxed: the child has one thread */
    tpool__store_relaxed(&tpool__depot.lock, TPOOL__LOCK_FREE);               /* relaxed: likewise */
    tpool__store_relaxed(&tpool__depot.tidier, NULL);                         /* relaxed: likewise */
    tpool__depot.tidied = !whole;
    if (whole) return;
    tpool__depot.magazines = tpool__depot.loose = NULL;
    tpool__depot.large = NULL;
    tpool__depot.large_bytes = 0;
    tpool__depot.home = 0;
    tpool__store_relaxed(&tpool__depot.total, SIZE_MAX / 2); /* relaxed: likewise. `home` never reaches it */
}

/* Gives how many it took, at most a magazine. */
static unsigned tpool__depot_take(tpool_future **tasks) {
    unsigned count = 0;
    tpool__lock(&tpool__depot.lock);
    if (tpool__depot.magazines) {
        tpool__magazine_pop(&tpool__depot.magazines, tasks);
        count = TPOOL__MAGAZINE;
    }
    while (tpool__depot.loose && count < TPOOL__MAGAZINE) {
        tasks[count++] = tpool__depot.loose;
        tpool__depot.loose = tpool__depot.loose->u.next;
    }
    tpool__depot.home -= count;
    if (count == 0) count = tpool__depot_cut(tasks);
    if (tpool__depot.home < tpool__depot.unneeded) tpool__depot.unneeded = tpool__depot.home;
    if (tpool__depot.enough > tpool__depot.home + TPOOL__KEPT_TASKS)
        tpool__depot.enough = tpool__depot.home + TPOOL__KEPT_TASKS;
    tpool__unlock(&tpool__depot.lock);
    return count;
}

static void tpool__cache_flush(tpool__thread *self) {
    while (self->cached > 0) { /* whole magazines stay whole */
        unsigned count = self->cached < TPOOL__MAGAZINE ? self->cached : TPOOL__MAGAZINE;
        self->cached -= count;
        tpool__depot_give(self->cache + self->cached, count);
    }
}

/* --------------------------------------------------------------------------------------------------------------------
 *  The tidier, and how it frees the slabs that are not needed
 * ----------------------------------------------------------------------------------------------------------------- */
static int tpool__slab_order(const void *a, const void *b) {
    uintptr_t first = (uintptr_t) * (tpool__slab *const *)a, second = (uintptr_t) * (tpool__slab *const *)b;
    return first < second ? -1 : first > second;
}
/* The slab of a block: in order, the last one that begins before it. */
static tpool__slab *tpool__slab_of(tpool__slab *const *slabs, size_t count, const tpool_future *task) {
    size_t low = 0;
    for (size_t high = count; high - low > 1;) {
        size_t middle = low + (high - low) / 2;
        if ((uintptr_t)slabs[middle] < (uintptr_t)task) low = middle;
        else high = middle;
    }
    return slabs[low];
}

/* What the tidier took out of the depot, to look through it without the lock. */
typedef struct tpool__stock {
    tpool_future *magazines, *loose;
    size_t home;
} tpool__stock;

/* Puts back what is left. What others gave meanwhile is little, and goes on top. The tidier looks again when half as
 * many more blocks have come, so that it looks at each block only a few times; or when half of the blocks that are out
 * have come, since those may be what keeps the slabs. True: so many have come already, and no other thread looks. */
static bool tpool__stock_return(tpool__stock *stock, bool looked_through, const tpool__parker *tidier) {
    tpool_future *tasks[TPOOL__MAGAZINE], *last = stock->loose;
    while (last && last->u.next) last = last->u.next;
    tpool__lock(&tpool__depot.lock);
    while (tpool__depot.magazines) {
        tpool__magazine_pop(&tpool__depot.magazines, tasks);
        tpool__magazine_push(&stock->magazines, tasks);
    }
    tpool__depot.magazines = stock->magazines;
    if (last) {
        last->u.next = tpool__depot.loose;
        tpool__depot.loose = stock->loose;
    }
    tpool__depot.home += stock->home;
    size_t out = (size_t)tpool__load_relaxed(&tpool__depot.total) - stock->home; /* relaxed: under its lock */
    size_t more = stock->home / 2 > TPOOL__KEPT_TASKS ? stock->home / 2 : TPOOL__KEPT_TASKS;
    if (more > out / 2) more = out / 2;
    tpool__depot.enough = looked_through ? stock->home + (more > 8 ? more : 8) : 0;
    tpool__depot.tidied = false;
    tpool__parker *asleep = NULL, *other = tpool__load_relaxed(&tpool__depot.tidier); /* relaxed: under its lock */
    bool many = tpool__depot_has_many(tpool__depot.home); /* given meanwhile; tpool__depot_give notified no tidier */
    if (many && other && other != tidier) asleep = tpool__unpark_begin(other);
    tpool__unlock(&tpool__depot.lock);
    tpool__unpark_end(asleep);
    return many && !other && !tidier; /* a worker looks again when it goes to sleep */
}

/* Counts for each slab how many of its blocks are in the stock. False: the tidier was notified and must stop. */
static bool tpool__stock_count(tpool__stock *stock, tpool__slab *const *slabs, size_t count, tpool__parker *tidier) {
    tpool_future *tasks[TPOOL__MAGAZINE], *counted = NULL, *oldest = NULL;
    unsigned looks = 0;
    /* relaxed: a hint that the tidier has been notified */
    while (stock->magazines && (++looks % 64 || !tidier || tpool__load_relaxed(tidier) == TPOOL__TOKEN_EMPTY)) {
        tpool__magazine_pop(&stock->magazines, tasks);
        for (unsigned i = 0; i < TPOOL__MAGAZINE; i++) tpool__slab_of(slabs, count, tasks[i])->whole++;
        tpool__magazine_push(&counted, tasks);
        if (!oldest) oldest = counted;
    }
    bool all = !stock->magazines;
    if (oldest) {
        tpool__links_of(oldest)->to[0] = stock->magazines;
        stock->magazines = counted;
    }
    for (tpool_future *task = stock->loose; task && all; task = task->u.next)
        tpool__slab_of(slabs, count, task)->whole++;
    return all;
}

/* Takes the slabs of which every block is in the stock; marks them with SIZE_MAX in `whole`. */
static tpool__slab *tpool__slabs_take_whole(void) {
    tpool__slab *whole = NULL;
    tpool__lock(&tpool__depot.lock);
    for (tpool__slab **at = &tpool__depot.slabs, *slab; (slab = *at) != NULL;) {
        if (slab->whole != slab->cut) {
            at = &slab->next;
            continue;
        }
        *at = slab->next;
        slab->next = whole;
        whole = slab;
        /* relaxed: under its lock */
        tpool__store_relaxed(&tpool__depot.total, tpool__load_relaxed(&tpool__depot.total) - slab->cut);
        tpool__depot.slab_count--;
        slab->whole = SIZE_MAX;
    }
    tpool__unlock(&tpool__depot.lock);
    return whole;
}

/* Leaves in the stock only the blocks that are in no such slab. */
static void tpool__stock_sort_out(tpool__stock *stock, tpool__slab *const *slabs, size_t count) {
    tpool_future *tasks[TPOOL__MAGAZINE], *kept[2 * TPOOL__MAGAZINE], *left = NULL, *loose = NULL;
    unsigned keeps = 0;
    stock->home = 0;
    while (stock->magazines) {
        tpool__magazine_pop(&stock->magazines, tasks);
        for (unsigned i = 0; i < TPOOL__MAGAZINE; i++)
            if (tpool__slab_of(slabs, count, tasks[i])->whole != SIZE_MAX) kept[keeps++] = tasks[i];
        if (keeps < TPOOL__MAGAZINE) continue;
        keeps -= TPOOL__MAGAZINE;
        tpool__magazine_push(&left, kept + keeps);
        stock->home += TPOOL__MAGAZINE;
    }
    for (tpool_future *task = stock->loose, *next; task; task = next) {
        next = task->u.next;
        if (tpool__slab_of(slabs, count, task)->whole == SIZE_MAX) continue;
        task->u.next = loose;
        loose = task;
        stock->home++;
    }
    for (; keeps > 0; stock->home++) {
        kept[--keeps]->u.next = loose;
        loose = kept[keeps];
    }
    stock->magazines = left;
    stock->loose = loose;
}

static bool tpool__depot_tidy_once(tpool__parker *tidier) {
    tpool__stock stock = { 0 };
    bool again = false;
    tpool__lock(&tpool__depot.lock);
    size_t count = tpool__depot.slab_count, sorted = 0;
    tpool__unlock(&tpool__depot.lock);
    tpool__slab **slabs = TPOOL_MALLOC((count + 1) * sizeof *slabs);
    if (!slabs) return false; /* tried again when the depot has many again */
    tpool__lock(&tpool__depot.lock);
    if (tpool__depot.slab_count <= count && !tpool__depot.tidied) { /* else the depot is in use */
        tpool__depot.tidied = true;
        for (tpool__slab *slab = tpool__depot.slabs; slab; slab = slab->next) {
            slab->whole = 0;
            slabs[sorted++] = slab;
        }
        stock.magazines = tpool__depot.magazines;
        stock.loose = tpool__depot.loose;
        stock.home = tpool__depot.home;
        tpool__depot.magazines = tpool__depot.loose = NULL;
        tpool__depot.home = 0;
    }
    tpool__unlock(&tpool__depot.lock);
    tpool__slab *whole = NULL;
    if (sorted > 0) {
        qsort(slabs, sorted, sizeof *slabs, tpool__slab_order);
        bool counted = tpool__stock_count(&stock, slabs, sorted, tidier);
        if (counted) {
            whole = tpool__slabs_take_whole();
            tpool__stock_sort_out(&stock, slabs, sorted);
        }
        again = tpool__stock_return(&stock, counted, tidier);
    }
    TPOOL_FREE(slabs);
    tpool__slabs_unmap(whole);
    return again;
}
static void tpool__depot_tidy(tpool__parker *tidier) {
    while (tpool__depot_tidy_once(tidier)) { }
}

/* A worker begins: it becomes the tidier if no worker is. */
static void tpool__tidier_begins(tpool__parker *parker) {
    if (TPOOL__LIKELY(tpool__load_relaxed(&tpool__depot.tidier) != NULL)) return; /* relaxed: a hint */
    tpool__lock(&tpool__depot.lock);
    tpool__store_relaxed(&tpool__depot.tidier, parker); /* relaxed: under its lock */
    tpool__unlock(&tpool__depot.lock);
}
/* A worker goes to sleep. Gives until when it may sleep as the tidier. It becomes the tidier if there is none, or if
 * there may be something to do, since another tidier may be busy for long. If there are not many blocks, this costs two
 * loads. */
static int64_t tpool__tidier_sleeps(tpool__thread *self, tpool__parker *parker) {
    /* relaxed: hints; with fewer blocks there is nothing to do */
    if (TPOOL__LIKELY(tpool__load_relaxed(&tpool__depot.total) <= TPOOL__KEPT_TASKS &&
                      tpool__load_relaxed(&tpool__depot.tidier)))
        return TPOOL_FOREVER;
    tpool__cache_flush(self); /* each block in the cache may keep a slab */
    tpool__lock(&tpool__depot.lock);
    tpool__store_relaxed(&tpool__depot.tidier, parker); /* relaxed: under its lock */
    bool many = tpool__depot_has_many(tpool__depot.home);
    if (many) tpool__depot.unneeded = tpool__depot.home;
    tpool__unlock(&tpool__depot.lock);
    return many ? tpool__clock() + TPOOL__KEPT_TIME : TPOOL_FOREVER;
}
/* The tidier has slept for that time, and had nothing else to do. */
static void tpool__tidier_looks(tpool__parker *parker) {
    tpool__lock(&tpool__depot.lock);
    /* relaxed: under its lock */
    bool tidies = tpool__load_relaxed(&tpool__depot.tidier) == parker && tpool__depot_has_many(tpool__depot.unneeded);
    tpool__unlock(&tpool__depot.lock);
    if (tidies) tpool__depot_tidy(parker);
}
/* A worker's thread ends. If it is the tidier, it looks now instead of later, unless its pool ends too (`looks`). */
static void tpool__tidier_leaves(tpool__thread *self, tpool__parker *parker, bool looks) {
    if (tpool__load_relaxed(&tpool__depot.tidier) != parker) return; /* relaxed: the worker itself has stored it */
    if (looks) tpool__cache_flush(self);
    tpool__lock(&tpool__depot.lock);
    /* relaxed: under its lock */
    if (tpool__load_relaxed(&tpool__depot.tidier) == parker) tpool__store_relaxed(&tpool__depot.tidier, NULL);
    looks = looks && tpool__depot_has_many(tpool__depot.home);
    tpool__unlock(&tpool__depot.lock);
    if (looks) tpool__depot_tidy(NULL);
}

/* Arms the exit hook, which gives the cache back when the thread ends. False: refused. */
static bool tpool__arm(tpool__thread *self) {
    if (!self->armed) {
        self->armed = tpool__exit_hook_arm(self);
        self->cacheable = self->armed && !tpool__process.unpooled ? 2 * TPOOL__MAGAZINE : 0;
    }
    return self->armed;
}

static TPOOL__NOINLINE tpool_future *tpool__task_new_slowly(tpool__thread *self) {
    if (!tpool__arm(self)) return NULL;
    if (tpool__process.unpooled) return TPOOL_MALLOC(sizeof(tpool_future));
    self->cached = tpool__depot_take(self->cache);
    return self->cached > 0 ? self->cache[--self->cached] : NULL;
}

static inline tpool_future *tpool__task_new(tpool__thread *self) {
    if (!TPOOL__LIKELY(self->cached > 0)) return tpool__task_new_slowly(self);
    unsigned left = --self->cached;
    if (left >= 4) TPOOL__PREFETCH_WRITE(self->cache[left - 4]); /* another thread wrote to it last */
    return self->cache[left];
}

static TPOOL__NOINLINE void tpool__task_free_slowly(tpool__thread *self, tpool_future *task) {
    if (tpool__process.unpooled) {
        TPOOL_FREE(task);
        return;
    }
    bool unused = tpool__load_relaxed(&tpool__process.pool_count) == 0; /* relaxed: tpool__depot_trim asks again */
    if (unused || !tpool__arm(self)) {
        tpool__depot_give(&task, 1);
        if (!unused) return;
        tpool__cache_flush(self);
        tpool__depot_trim(false);
        return;
    }
    if (self->cached == 2 * TPOOL__MAGAZINE) { /* give back those that were freed first */
        tpool__depot_give(self->cache, TPOOL__MAGAZINE);
        self->cached = TPOOL__MAGAZINE;
        memcpy(self->cache, self->cache + TPOOL__MAGAZINE, TPOOL__MAGAZINE * sizeof *self->cache);
    }
    self->cache[self->cached++] = task;
}
static inline void tpool__task_free(tpool_future *task) {
    tpool__thread *self = tpool__self();
    /* relaxed: a free block is its thread's own. No references: so a release too often is noticed */
    if (TPOOL__ASSERTS) tpool__store_relaxed(&task->state, 0);
    /* relaxed: a hint */
    if (TPOOL__LIKELY(self->cached < self->cacheable && tpool__load_relaxed(&tpool__process.pool_count) > 0))
        self->cache[self->cached++] = task;
    else tpool__task_free_slowly(self, task);
}

static void tpool__list(tpool__thread *self, uintptr_t item);
static void tpool__run_unless_held(tpool__thread *self);

/* Frees an outcome; the function for an owned payload is only listed (>>nested). True: it was; the caller must reach
 * tpool__run_unless_held when it holds no lock and no claim. */
static bool tpool__outcome_list(tpool__outcome *outcome) {
    if (!outcome) return false;
    bool calls = outcome->kind == TPOOL__OWNED && outcome->payload_free;
    if (calls) tpool__list(tpool__self(), (uintptr_t)outcome | 1);
    else if (!outcome->is_static) TPOOL_FREE(outcome);
    return calls;
}
static void tpool__outcome_free(tpool__outcome *outcome) {
    if (tpool__outcome_list(outcome)) tpool__run_unless_held(tpool__self());
}

/* The last reference is gone; no other thread can see the task. True: its result_free was listed, as above. */
static bool tpool__task_dispose(tpool_future *task) {
    /* relaxed: the threads that wrote these released their references before this one did, in the order of P4 */
    tpool__outcome *outcome = tpool__outcome_of(tpool__load_relaxed(&task->outcome));
    uintptr_t extra_word = tpool__load_relaxed(&task->extra_word); /* relaxed: likewise */
    tpool__node *node = task->nodes;
    tpool__task_free(task);
    while (node) { /* callbacks of a bare future that was never completed */
        tpool__node *next = node->next;
        TPOOL_FREE((void *)node);
        node = next;
    }
    if (TPOOL__LIKELY(!outcome && !extra_word)) return false;
    bool listed = tpool__outcome_list(outcome);
    tpool__extra_free(tpool__extra_of_word(extra_word));
    return listed;
}

/* Makes the tools that check memory report the mistake at the program's line that made it, without other harm. */
static TPOOL__NOINLINE void tpool__released_too_often(void) {
    TPOOL_ASSERT(false && "a future is released too often");
    if (!tpool__process.unpooled) return;
    char *volatile freed = TPOOL_MALLOC(1);
    if (!freed) return;
    TPOOL_FREE(freed);
    (void)*(volatile char *)freed; /* NOLINT: a use after free on purpose */
}

/* Pair P4: each release publishes what its holder did to the task to the thread that disposes of it. */
TPOOL_API void tpool_future_release(tpool_future *future) {
    if (!future) return;
    uintptr_t state = tpool__load_acquire(&future->state); /* P4 */
    TPOOL_ASSERT(state >= TPOOL__REFERENCE);
    if (state >= 2 * TPOOL__REFERENCE) { /* a release that sees only its own reference needs no read-modify-write */
        state = tpool__sub_acq_rel(&future->state, TPOOL__REFERENCE); /* P4 */
        if (state >= 2 * TPOOL__REFERENCE) return;
    } else if (!TPOOL__LIKELY(state & TPOOL__PHASE_DONE) && tpool__pool_of(future)) {
        tpool__released_too_often(); /* the reference is the queue's or the claimer's: until its end a task has one */
        return;
    }
    if (!TPOOL__LIKELY(!tpool__task_dispose(future))) tpool__run_unless_held(tpool__self());
}

TPOOL_API tpool_future *tpool_future_retain(tpool_future *future) {
    /* relaxed: the caller's own reference keeps the task; P4 orders the releases */
    if (future) tpool__add_relaxed(&future->state, TPOOL__REFERENCE);
    return future;
}

/* --------------------------------------------------------------------------------------------------------------------
 *  >>nested  Ends within ends
 *
 *  A callback completes the next future, whose callback completes the next; a result_free releases the next future; an
 *  arg_free cancels the next task; a map's item_free closes the next map. No such chain may need stack for each link. A
 *  function of the program that is called for an end (a callback, on_failure, arg_free, result_free, item_free, the
 *  destroy of resources: TPOOL__IN_CALLBACK) may itself end something. For other threads that ends at once. The
 *  functions to call for that second end are only put into the thread's own list, in order. They run when the first
 *  function has returned (tpool__run_unless_held: the outermost call runs the list down) or waits (tpool__wait).
 *
 *  An arg_free runs at once, because the end cannot be published before it. So do the item_frees of a map that is
 *  closed and the destroys of resources, because their context may be gone afterwards. They are listed only when the
 *  stack would not suffice: within TPOOL__MOST_FREEING others, and below the floor of the stack. A chunk's own arg_free
 *  calls no function of the program itself, and a close waits for it: it is never listed.
 *
 *  The list needs no memory: the links are in the listed items, a task, an iterator or the outcome that owns a payload.
 *      a task that is done       still has callbacks, and its ender's reference; its outside end is released after
 *                                them, so that its pool stays until then (or its worker is busy)
 *      a task that is not done   is claimed, to be cancelled or ended otherwise, and has its error: next are arg_free,
 *                                then publish
 *      an outcome (lowest bit)   has a payload to free; the outcome itself is freed before that
 *      a tpool__due (bit 1)      is in a map's iterator or in resources that no thread uses any more; in the notifier
 *                                of an iterator; in a wake of tpool_on_stop; or in a callback that was added to a done
 *                                future: those run at once, up to TPOOL__MOST_NESTED levels
 *  No code of the program runs while the library holds a lock or a claimed task that has not ended, or waits: what
 *  comes up there is listed too, and runs a little later.
 *
 *  A thread may end (thrd_exit) in one of these functions. The list stays, and a context says how to go on with the
 *  task whose function was just running; the exit hook does all that (tpool__thread_left).
 * ----------------------------------------------------------------------------------------------------------------- */
#define TPOOL__MOST_FREEING 8u
#define TPOOL__MOST_NESTED 16u /* runs of the list within waits of what it runs; deeper, a wait first only waits ... */
#define TPOOL__NESTED_PATIENCE TPOOL_MS(10) /* ... for this time */

static inline uintptr_t *tpool__listed_after(uintptr_t item) {
    if (item & 1) return &((tpool__outcome *)(item - 1))->listed;
    return item & 2 ? &((tpool__due *)(item - 2))->listed : &((tpool_future *)item)->u.listed;
}
static void tpool__list(tpool__thread *self, uintptr_t item) {
    *tpool__listed_after(item) = 0;
    if (self->listed) *tpool__listed_after(self->listed_last) = item;
    else self->listed = item;
    self->listed_last = item;
}

static void tpool__release_outside_end(tpool_future *task);
static void tpool__stop_searching_early(tpool__thread *self);
static void tpool__end_claimed(tpool__thread *self, tpool_future *task);

/* A callback of the future has ended the thread: the others go to the head of the list. */
static void tpool__callbacks_left(void *of) {
    tpool__thread *self = tpool__self();
    tpool_future *future = (tpool_future *)of;
    future->u.listed = self->listed;
    if (!self->listed) self->listed_last = (uintptr_t)future;
    self->listed = (uintptr_t)future;
}
/* Calls a done future's callbacks in the order added. */
static void tpool__run_callbacks(tpool__thread *self, tpool__context *context, tpool_future *future) {
    context->pool = tpool__pool_of(future);
    context->left = tpool__callbacks_left;
    context->of = future;
    while (future->nodes) {
        tpool__callback callback = *(tpool__callback *)(void *)future->nodes;
        TPOOL_FREE((void *)future->nodes); /* before, since it may not come back: it may call exit */
        future->nodes = callback.node.next;
        callback.fn(future, callback.context);
        if (!TPOOL__LIKELY(self->context == context)) return; /* it forked, and this is the child of fork */
    }
    context->left = NULL;
    context->pool = NULL;
    tpool__release_outside_end(future);
    tpool_future_release(future);
}
static void tpool__run_payload_free(tpool__thread *self, tpool__context *context, tpool__outcome *outcome) {
    void *payload = outcome->payload;
    void (*payload_free)(void *payload) = outcome->payload_free;
    if (!outcome->is_static) TPOOL_FREE(outcome);             /* before, since payload_free may not return */
    context->pool = self->worker ? self->worker->pool : NULL; /* in other threads nothing waits for it */
    payload_free(payload);
}

static void tpool__release_left(void *of) { tpool_future_release((tpool_future *)of); }

/* The tag of a done future's pool, which may be gone. Relaxed: the end was seen before (P2). */
static inline uintptr_t tpool__tag_of(tpool_future *done) { return (uintptr_t)tpool__load_relaxed(&done->runner); }

static void tpool__run_late_callback(tpool__thread *self, tpool__due *due) {
    tpool__context *context = self->context; /* the list's */
    tpool__late_callback callback = *(tpool__late_callback *)(void *)due;
    TPOOL_FREE(due); /* before, since the callback may not return */
    context->of_end = tpool__tag_of(callback.future);
    context->left = tpool__release_left;
    context->of = callback.future;
    callback.fn(callback.future, callback.context);
    if (!TPOOL__LIKELY(self->context == context)) return; /* it forked, and this is the child of fork */
    context->left = NULL;
    context->of_end = 0;
    tpool_future_release(callback.future);
}

/* Runs the list down. Its own context makes sure that what these functions end is listed. False: one of them forked,
 * and this is the child of fork. */
static TPOOL__NOINLINE bool tpool__run_listed(tpool__thread *self) {
    if (!self->listed) return true;
    (void)tpool__arm(self); /* refused: then the rest of the list is lost if a function ends the thread */
    tpool__stop_searching_early(self);
    tpool__context *context = tpool__context_push(self, TPOOL__IN_CALLBACK, NULL);
    if (context == &self->unlisted) return true; /* no memory, deep within others: an outer call runs the list */
    self->nested++;
    while (self->context == context && self->listed) {
        uintptr_t item = self->listed;
        self->listed = *tpool__listed_after(item);
        if (item & 1) tpool__run_payload_free(self, context, (tpool__outcome *)(item - 1));
        else if (item & 2) ((tpool__due *)(item - 2))->call(self, (tpool__due *)(item - 2));
        else if (tpool__is_done((tpool_future *)item)) tpool__run_callbacks(self, context, (tpool_future *)item);
        else tpool__end_claimed(self, (tpool_future *)item);
    }
    if (!tpool__context_pop(self, context)) return false;
    self->nested--;
    return true;
}

/* Whether the innermost function of the program was called for an end: then that function's caller runs the list. The
 * body of a loop counts as part of the code that called the loop. */
static inline bool tpool__is_held(const tpool__thread *self) {
    const tpool__context *context = self->context;
    while (context && (context->kind == TPOOL__IN_ITEM || context->kind == TPOOL__IN_CALL)) context = context->outer;
    return context && context->kind == TPOOL__IN_CALLBACK;
}
static void tpool__run_unless_held(tpool__thread *self) {
    if (self->listed && !tpool__is_held(self)) (void)tpool__run_listed(self);
}

/* Whether the thread is near the end of its stack. It asks the system for that end on the first use only. */
static inline bool tpool__is_deep(tpool__thread *self) {
    if (!TPOOL__LIKELY(self->stack_floor != 0))
        self->stack_floor = self->worker ? tpool__stack_floor(self->stack_top, self->worker->pool->config.stack_size)
                                         : tpool__stack_floor(tpool__stack_position(), 0);
    return tpool__stack_position() < self->stack_floor;
}
static inline bool tpool__must_list(tpool__thread *self) {
    return self->freeing >= TPOOL__MOST_FREEING && tpool__is_deep(self);
}
static void tpool__run_or_list(tpool__thread *self, tpool__due *due) {
    if (tpool__must_list(self)) tpool__list(self, (uintptr_t)due | 2);
    else due->call(self, due);
    tpool__run_unless_held(self);
}

/* The thread that moves the phase from PENDING owns the task. Relaxed: what the claimer reads of the task reached it
 * with the entry, through the lane's spinlock (P1), or with the handle, in the way in which the program passed it on.
 * */
static inline bool tpool__claim(tpool_future *task, uintptr_t addend) {
    uintptr_t state = tpool__load_relaxed(&task->state);
    while ((state & TPOOL__PHASE) == TPOOL__PHASE_PENDING)
        if (tpool__cas_relaxed(&task->state, &state, state + addend)) return true;
    return false;
}
static inline bool tpool__is_claimed(tpool_future *task) {
    /* relaxed: only the claim by another thread matters, and nothing that it wrote is read */
    return (tpool__load_relaxed(&task->state) & TPOOL__PHASE) != TPOOL__PHASE_PENDING;
}

/* --------------------------------------------------------------------------------------------------------------------
 *  >>expiries  What expires, the earliest first
 *
 *  `expiring_lock`, the innermost lock, guards those of a pool's queue. A task enters them just before its entry is
 *  placed and leaves them with its entry, before the queue releases its reference: no task among them can be freed. A
 *  task that was claimed outside the queue may stay as long as its tombstone. A task without an expiry never enters.
 * ----------------------------------------------------------------------------------------------------------------- */
static void tpool__expiry_put(tpool__expiries *expiries, size_t i, tpool__expiry expiry) {
    expiries->heap[i] = expiry;
    if (expiries->placed) expiries->placed(expiry.of, i);
}
static void tpool__expiry_up(tpool__expiries *expiries, size_t i, tpool__expiry expiry) {
    for (; i > 0 && expiry.at < expiries->heap[(i - 1) / 2].at; i = (i - 1) / 2)
        tpool__expiry_put(expiries, i, expiries->heap[(i - 1) / 2]);
    tpool__expiry_put(expiries, i, expiry);
}
static void tpool__expiry_down(tpool__expiries *expiries, size_t i, tpool__expiry expiry) {
    for (size_t child; (child = 2 * i + 1) < expiries->count; i = child) {
        if (child + 1 < expiries->count && expiries->heap[child + 1].at < expiries->heap[child].at) child++;
        if (expiries->heap[child].at >= expiry.at) break;
        tpool__expiry_put(expiries, i, expiries->heap[child]);
    }
    tpool__expiry_put(expiries, i, expiry);
}
static void *tpool__expiry_remove(tpool__expiries *expiries, size_t i) {
    void *removed = expiries->heap[i].of;
    tpool__expiry last = expiries->heap[--expiries->count];
    if (i == expiries->count) return removed;
    if (i > 0 && last.at < expiries->heap[(i - 1) / 2].at) tpool__expiry_up(expiries, i, last);
    else tpool__expiry_down(expiries, i, last);
    return removed;
}
static bool tpool__expiries_reserve(tpool__expiries *expiries) {
    if (expiries->count + expiries->promised < expiries->size) return true;
    size_t size = expiries->size ? 2 * expiries->size : 16;
    tpool__expiry *heap = size <= SIZE_MAX / sizeof *heap ? TPOOL_MALLOC(size * sizeof *heap) : NULL;
    if (!heap) return false;
    if (expiries->heap) {
        memcpy(heap, expiries->heap, expiries->count * sizeof *heap);
        TPOOL_FREE(expiries->heap);
    }
    expiries->heap = heap;
    expiries->size = size;
    return true;
}
static inline int64_t tpool__expires_at(const tpool_future *future) {
    const tpool__extra *extra = tpool__extra_of(future);
    return extra ? extra->expires_at : 0;
}
/* relaxed: a hint */
static bool tpool__is_pending(tpool_future *future) {
    return (tpool__load_relaxed(&future->state) & TPOOL__PHASE) == TPOOL__PHASE_PENDING;
}

static void tpool__task_placed(void *task, size_t place) {
    tpool__extra_of((tpool_future *)task)->expiring_place = place + 1;
}
static TPOOL__NOINLINE bool tpool__expiring_enter(tpool *pool, tpool_future *future) {
    tpool__expiry expiry = { tpool__extra_of(future)->expires_at, future };
    tpool__spin_lock(&pool->expiring_lock);
    pool->expiring.placed = tpool__task_placed;
    bool entered = tpool__expiries_reserve(&pool->expiring);
    if (entered) tpool__expiry_up(&pool->expiring, pool->expiring.count++, expiry);
    tpool__spin_unlock(&pool->expiring_lock);
    return entered;
}
static TPOOL__NOINLINE void tpool__expiring_leave(tpool *pool, tpool_future *task) {
    tpool__spin_lock(&pool->expiring_lock);
    size_t place = tpool__extra_of(task)->expiring_place;
    if (place) (void)tpool__expiry_remove(&pool->expiring, place - 1);
    tpool__extra_of(task)->expiring_place = 0;
    tpool__spin_unlock(&pool->expiring_lock);
}
/* When the next task in the queue expires; TPOOL_FOREVER if none does. */
static int64_t tpool__expires_next(tpool *pool) {
    tpool__expiries *expiring = &pool->expiring;
    tpool__spin_lock(&pool->expiring_lock);
    while (expiring->count > 0 && !tpool__is_pending((tpool_future *)expiring->heap[0].of))
        tpool__extra_of((tpool_future *)tpool__expiry_remove(expiring, 0))->expiring_place = 0;
    int64_t at = expiring->count > 0 ? expiring->heap[0].at : TPOOL_FOREVER;
    tpool__spin_unlock(&pool->expiring_lock);
    return at;
}
/* Claims one task that has expired and adds a reference for the claimer. Its entry stays behind as a tombstone. */
static tpool_future *tpool__claim_expired(tpool *pool) {
    tpool__expiries *expiring = &pool->expiring;
    tpool_future *expired = NULL;
    tpool__spin_lock(&pool->expiring_lock);
    int64_t now = expiring->count > 0 ? tpool__clock() : 0;
    while (!expired && expiring->count > 0 && expiring->heap[0].at <= now) {
        tpool_future *first = (tpool_future *)tpool__expiry_remove(expiring, 0);
        tpool__extra_of(first)->expiring_place = 0;
        if (tpool__claim(first, TPOOL__PHASE_EXPIRING + TPOOL__REFERENCE)) expired = first;
    }
    tpool__spin_unlock(&pool->expiring_lock);
    return expired;
}

/* --------------------------------------------------------------------------------------------------------------------
 *  >>times  One thread, the timekeeper, keeps the times of all pools
 *
 *  A timer is a member of what waits for a time. tpool__timer_arm puts it into a wheel; when its time comes, the
 *  timekeeper takes it out and calls its `fire`. It is never early, and late by up to a tick (33 us) and the wake of a
 *  thread (on Windows up to 16 ms). To arm and to disarm takes the same short time however many timers there are, and
 *  no memory; only the turn of the wheel moves all the timers of a slot.
 *
 *  The wheel (Varghese and Lauck, "Hashed and hierarchical timing wheels", 1987) has eight levels of 64 slots. A tick
 *  has 48 bits, six for each level. A timer stands at the level of the highest six bits in which its tick differs from
 *  `now`, the tick that the wheel has reached, in the slot that these six bits name. So all timers of a level come
 *  before all of the next, and the slots of a level come in order. When the wheel reaches a slot, the timers there
 *  have come, or go to lower levels.
 *
 *  A `fire` is short, and executes no code of the program. It lists that code (>>nested, a tpool__due), and the thread
 *  that has fired runs it afterwards. The timekeeper first hands its role over to another thread, so that no function
 *  of the program holds up a time: leader and followers (Schmidt et al., "Leader/Followers", PLoP 2000). Each of these
 *  threads is a tpool__keeper. One that comes back from the program's code waits for the role, idle, or takes it if no
 *  other has it. A role that no idle keeper can take starts another keeper, but only while there are timers.
 *
 *  A keeper ends when it has had nothing to do for a while. If the system refuses a keeper, or if all TPOOL__KEEPERS of
 *  them are in the program's code, the wheel is `unkept`, until one of them comes back: then workers look at it between
 *  tasks, waiters before they sleep, and both sleep only for a moment (tpool__times_bound). Workers that sleep, or wait
 *  in a task, are woken to do so (tpool__times_notify); a thread of the program that waits already is not. Each look
 *  and each timer tries again to start a keeper.
 *
 *  No wake is lost: an arm sets the timer and reads `sleeps_until` under `lock`; the timekeeper sets `sleeps_until`
 *  under `lock`, after it has looked at the wheel, and parks then. Either the arm comes first, and the look sees the
 *  timer; or it sees the time, and unparks if its timer comes earlier. A keeper that hands the role over does so under
 *  `lock`, too: the next one looks at the wheel before it parks, and an arm meanwhile finds that it has been chosen.
 *
 *  tpool__timer_disarm takes a timer out. False: it fires now, has fired, or was not armed; then tpool__timer_await
 *  waits until it does not fire any more.
 * ----------------------------------------------------------------------------------------------------------------- */
#define TPOOL__TICK_BITS 15
#define TPOOL__WHEEL_BITS 6
#define TPOOL__WHEEL_SLOTS 64
#define TPOOL__WHEEL_LEVELS 8
#define TPOOL__TIMEKEEPER_LINGERS TPOOL_MS(200)
#define TPOOL__KEEPERS 16              /* most threads: one keeps the times, the others run the program's functions */
#define TPOOL__LOOKS_EVERY TPOOL_MS(5) /* a thread about to sleep, while the wheel is unkept */

/* A thread that keeps the times, or waits for that role, or runs what timers have listed. */
typedef struct tpool__keeper {
    tpool__thread_handle handle;
    tpool__parker parker;
    bool used;   /* the thread is there */
    bool starts; /* its starter still writes the handle */
    bool idle;   /* another one keeps the times */
    bool busy;   /* it fires, or runs the program's functions, or one of these has ended its thread */
    bool rests;  /* it ends, and fires nothing any more (tpool__times_rest) */
    tpool__library library;
} tpool__keeper;

static struct {
    tpool__u32 lock;            /* guards the rest; P1 */
    tpool__u32 unkept;          /* 1: there are timers, and no thread keeps them */
    bool used_since;            /* a timer was armed since the timekeeper has found none */
    bool over;                  /* no keeper may be there any more */
    tpool__keeper *timekeeper;  /* which keeps the times, or has been chosen to; NULL: none does */
    uint64_t now, sleeps_until; /* ticks; 0: the timekeeper is awake, or does not exist */
    tpool__timer *come;         /* to be fired */
    tpool__timer *fires;        /* whose `fire` is being called, in `fires_in` */
    const tpool__thread *fires_in;
    unsigned starting;                  /* keepers whose starter has not returned */
    int64_t start_at;                   /* the system has refused a keeper: a look tries again then */
    tpool__thread_handle ended;         /* of the last keeper that ended: the next one that ends joins it */
    bool ended_by_function;             /* a function of the program has ended it: its destructors come after that */
    size_t count;                       /* in the slots */
    uint64_t used[TPOOL__WHEEL_LEVELS]; /* a bit for each slot that is not empty */
    tpool__timer *slots[TPOOL__WHEEL_LEVELS][TPOOL__WHEEL_SLOTS];
    tpool__keeper keepers[TPOOL__KEEPERS];
} tpool__times;

static uint64_t tpool__tick_of(int64_t at) { return (uint64_t)at >> TPOOL__TICK_BITS; }
static void tpool__timer_link(tpool__timer **first, tpool__timer *timer) {
    timer->next = *first;
    timer->link = first;
    if (timer->next) timer->next->link = &timer->next;
    *first = timer;
}
static void tpool__timer_unlink(tpool__timer *timer) {
    *timer->link = timer->next;
    if (timer->next) timer->next->link = timer->link;
    timer->link = NULL;
}
static void tpool__wheel_add(tpool__timer *timer) {
    uint64_t differs = timer->tick ^ tpool__times.now;
    if (timer->tick <= tpool__times.now) {
        tpool__timer_link(&tpool__times.come, timer);
        return;
    }
    unsigned level = tpool__log2(differs) / TPOOL__WHEEL_BITS;
    unsigned slot = (unsigned)(timer->tick >> level * TPOOL__WHEEL_BITS) % TPOOL__WHEEL_SLOTS;
    tpool__timer_link(&tpool__times.slots[level][slot], timer);
    tpool__times.used[level] |= (uint64_t)1 << slot;
    tpool__times.count++;
}
/* The slots are an array, so a link into it tells the slot. */
static void tpool__wheel_remove(tpool__timer *timer) {
    uintptr_t begin = (uintptr_t)tpool__times.slots, at = (uintptr_t)timer->link;
    bool alone = at >= begin && at < begin + sizeof tpool__times.slots && !timer->next;
    bool had_come = timer->tick <= tpool__times.now;
    tpool__timer_unlink(timer);
    if (had_come) return;
    tpool__times.count--;
    if (!alone) return;
    size_t slot = (at - begin) / sizeof(tpool__timer *);
    tpool__times.used[slot / TPOOL__WHEEL_SLOTS] &= ~((uint64_t)1 << slot % TPOOL__WHEEL_SLOTS);
}
/* When the next slot comes that is not empty; UINT64_MAX: none does. */
static uint64_t tpool__wheel_next(unsigned *level) {
    for (*level = 0; *level < TPOOL__WHEEL_LEVELS; ++*level) {
        uint64_t used = tpool__times.used[*level];
        if (!used) continue;
        unsigned shift = *level * TPOOL__WHEEL_BITS;
        uint64_t slot = tpool__log2(used & (0 - used));
        return ((tpool__times.now >> shift) / TPOOL__WHEEL_SLOTS * TPOOL__WHEEL_SLOTS + slot) << shift;
    }
    return UINT64_MAX;
}
/* Moves all whose time has come to `come`. Returns the tick at which the next slot comes. */
static uint64_t tpool__wheel_turn(uint64_t now) {
    unsigned level;
    uint64_t next;
    while ((next = tpool__wheel_next(&level)) <= now) {
        size_t slot = (size_t)(next >> level * TPOOL__WHEEL_BITS) % TPOOL__WHEEL_SLOTS;
        tpool__timer *timer = tpool__times.slots[level][slot];
        tpool__times.slots[level][slot] = NULL;
        tpool__times.used[level] &= ~((uint64_t)1 << slot);
        tpool__times.now = next;
        while (timer) {
            tpool__timer *after = timer->next;
            tpool__times.count--;
            tpool__wheel_add(timer);
            timer = after;
        }
    }
    return next;
}

/* No thread keeps the times. The workers that sleep, and those that wait in a task, wake, and look at them from then
 * on. */
static void tpool__times_notify(void) {
    tpool__lock(&tpool__process.lock);
    /* relaxed: under the lock */
    for (tpool *pool = tpool__load_relaxed(&tpool__process.pools); pool; pool = pool->next) {
        tpool__lock(&pool->lock);
        for (tpool__worker *worker = pool->sleepers; worker; worker = worker->sleep_next)
            tpool__unpark(&worker->parker);
        for (tpool__waiter *waiter = pool->blocked_waiters; waiter; waiter = waiter->next)
            tpool__unpark(&waiter->parker);
        tpool__unlock(&pool->lock);
    }
    tpool__unlock(&tpool__process.lock);
}
static bool tpool__times_pending(void) { return tpool__times.come || tpool__times.count > 0; }
static tpool__keeper *tpool__keeper_find(bool idle) {
    tpool__keeper *end = tpool__times.keepers + TPOOL__KEEPERS;
    for (tpool__keeper *keeper = tpool__times.keepers; keeper < end; keeper++)
        if (idle ? keeper->idle && !keeper->rests : !keeper->used) return keeper;
    return NULL;
}
static void tpool__keeper_main(void *of);
/* Starts a keeper, which becomes the timekeeper. Under the lock, which it gives up meanwhile. False: refused. */
static bool tpool__keeper_start(tpool__keeper *keeper) {
    tpool__times.timekeeper = keeper;
    keeper->used = keeper->starts = true;
    keeper->rests = false;
    tpool__times.starting++;
    tpool__unlock(&tpool__times.lock);
    int cancel = tpool__cancel_off();
    keeper->library = tpool__library_retain();
    bool started = tpool__thread_start(&keeper->handle, tpool__keeper_main, keeper, 0);
    if (!started) tpool__library_release(keeper->library);
    tpool__cancel_back(cancel);
    tpool__lock(&tpool__times.lock);
    tpool__times.starting--;
    keeper->starts = false;
    tpool__times.start_at = started ? 0 : tpool__clock() + TPOOL__LOOKS_EVERY;
    if (!started) tpool__times.timekeeper = NULL;
    if (!started) keeper->used = false;
    return started;
}
/* Makes sure that a thread keeps the times, if there are timers. Under the lock, which it gives up meanwhile. */
static void tpool__timekeeper_need(void) {
    TPOOL_ASSERT(tpool__held(&tpool__times.lock));
    bool refused = false;
    while (!tpool__times.timekeeper && tpool__times_pending() && !tpool__times.over) {
        tpool__keeper *keeper = tpool__keeper_find(true); /* also after a refusal: one may have come back meanwhile */
        if (keeper) {
            keeper->idle = false;
            tpool__times.timekeeper = keeper;
            tpool__unpark(&keeper->parker);
        } else if (refused || (keeper = tpool__keeper_find(false)) == NULL) {
            break;
        } else {
            refused = !tpool__keeper_start(keeper);
        }
    }
    bool unkept = !tpool__times.timekeeper && tpool__times_pending();
    bool notify = unkept && !tpool__load_relaxed(&tpool__times.unkept); /* relaxed: a hint */
    tpool__store_relaxed(&tpool__times.unkept, unkept);                 /* relaxed: a hint */
    if (!notify) return;
    tpool__unlock(&tpool__times.lock);
    tpool__times_notify();
    tpool__lock(&tpool__times.lock);
}

/* Fires those that have come: all, or until one has listed something. Under the lock, which it gives up meanwhile. */
static void tpool__times_fire(tpool__thread *self, bool all) {
    TPOOL_ASSERT(tpool__held(&tpool__times.lock));
    while (tpool__times.come && !tpool__times.fires && (all || !self->listed)) {
        tpool__timer *timer = tpool__times.come;
        tpool__timer_unlink(timer);
        tpool__times.fires = timer;
        tpool__times.fires_in = self;
        tpool__unlock(&tpool__times.lock);
        self->fires = true;
        timer->fire(timer); /* the timer may be gone afterwards */
        self->fires = false;
        tpool__lock(&tpool__times.lock);
        tpool__times.fires = NULL;
    }
}
/* Runs the program's functions that timers have listed: tpool__timer_await does not wait for these, and no timer does.
 * Under the lock, which it gives up meanwhile. False: one of them forked, and this is the child, without the lock. One
 * that has asked for the thread's cancellation ends it here, and not in the next one, which is another object's. */
static bool tpool__times_run_listed(tpool__thread *self) {
    tpool__unlock(&tpool__times.lock);
    tpool__context *call = tpool__call_push(self, NULL, NULL); /* see tpool__keeper_end */
    (void)tpool__run_listed(self);
    if (self->context == call) tpool__cancel_here();
    if (!tpool__context_pop(self, call)) return false;
    tpool__lock(&tpool__times.lock);
    return true;
}

/* The timekeeper fires those that have come. It stops at the first that lists something: the next timekeeper fires the
 * rest, so that no function of the program waits for another one. False: as tpool__times_run_listed. */
static bool tpool__keeper_fires(tpool__thread *self, tpool__keeper *keeper) {
    keeper->busy = true;
    tpool__times_fire(self, false);
    if (self->listed) {
        tpool__times.timekeeper = NULL;
        tpool__timekeeper_need();
        if (!tpool__times_run_listed(self)) return false;
        if (!tpool__times.timekeeper && !tpool__times.over) {
            tpool__times.timekeeper = keeper;
            tpool__store_relaxed(&tpool__times.unkept, 0); /* relaxed: a hint */
        }
    }
    keeper->busy = false;
    return true;
}
/* A keeper's thread is over, except for its join. Returns the thread that it must join: of the keeper that ended before
 * it. */
static tpool__thread_handle tpool__keeper_retire(tpool__keeper *keeper, bool by_function) {
    TPOOL_ASSERT(tpool__held(&tpool__times.lock));
    tpool__thread_handle before = tpool__times.ended;
    tpool__times.ended = keeper->handle; /* not valid: tpool__times_end joins it */
    tpool__times.ended_by_function = by_function;
    keeper->handle.valid = false;
    keeper->busy = keeper->used = false;
    return before;
}
static void tpool__keeper_life(tpool__thread *self, tpool__keeper *keeper) {
    int64_t idle_until = 0; /* 0: it keeps the times, and there are timers */
    tpool__lock(&tpool__times.lock);
    for (;;) {
        int64_t now = tpool__clock(), until;
        uint64_t next = UINT64_MAX;
        bool keeps = tpool__times.timekeeper == keeper;
        if (keeps) {
            next = tpool__wheel_turn(tpool__tick_of(now));
            if (tpool__times.come && !tpool__times.fires && !tpool__times.over && !keeper->rests) {
                if (!tpool__keeper_fires(self, keeper)) return;
                idle_until = 0;
                continue;
            }
        }
        if (next != UINT64_MAX) {
            idle_until = 0;
            until = (int64_t)(next << TPOOL__TICK_BITS);
        } else {
            if (!idle_until || (keeps && tpool__times.used_since)) idle_until = now + TPOOL__TIMEKEEPER_LINGERS;
            if (keeps) tpool__times.used_since = false;
            until = idle_until;
        }
        bool ends = tpool__times.over || keeper->rests || (idle_until && now >= idle_until);
        bool comes = keeps && tpool__times.come && !tpool__times.over && !keeper->rests; /* and another thread fires */
        if (comes || (ends && keeper->starts)) until = now + (1 << TPOOL__TICK_BITS);
        else if (ends) break; /* not before its starter has returned */
        if (keeps) tpool__times.sleeps_until = tpool__tick_of(until);
        keeper->idle = !keeps;
        tpool__unlock(&tpool__times.lock);
        (void)tpool__park(&keeper->parker, until);
        tpool__lock(&tpool__times.lock);
        if (keeps) tpool__times.sleeps_until = 0; /* awake */
        keeper->idle = false;
    }
    if (tpool__times.timekeeper == keeper) tpool__times.timekeeper = NULL;
    tpool__timekeeper_need(); /* at exit there is none any more: others must look */
    tpool__thread_handle before = tpool__keeper_retire(keeper, false);
    tpool__unlock(&tpool__times.lock);
    tpool__thread_join(&before);
}
static void tpool__thread_left(void *thread);
/* The last that a keeper's thread does which a function of the program has ended. It is busy until here; from here on
 * an unloading joins it. */
static void tpool__keeper_end(tpool__thread *self) {
    tpool__keeper *keeper = self->keeper;
    if (!keeper) return;
    unsigned tries = 0;
    self->keeper = NULL;
    tpool__lock(&tpool__times.lock);
    while (keeper->starts) { /* its starter still writes the handle */
        tpool__unlock(&tpool__times.lock);
        tpool__backoff(&tries);
        tpool__lock(&tpool__times.lock);
    }
    tpool__thread_handle before = tpool__keeper_retire(keeper, true);
    tpool__timekeeper_need();
    tpool__unlock(&tpool__times.lock);
    tpool__thread_join_in_hook(&before);
}
static void tpool__keeper_main(void *of) {
    tpool__thread *self = tpool__self();
    tpool__library library = ((tpool__keeper *)of)->library;
    tpool__scheduling *scheduling = tpool__scheduling_note(true); /* as the main thread: it serves all pools */
    tpool__thread_begin(scheduling);
    tpool__dealloc(scheduling);
    tpool__thread_name("tpool_times", 0);
    self->serves = true;
    self->keeper = (tpool__keeper *)of;
    TPOOL__FINALLY_BEGIN(tpool__thread_left, self)
    tpool__keeper_life(self, (tpool__keeper *)of);
    self->keeper = NULL; /* its place may be another's by now */
    TPOOL__FINALLY_END
    tpool__library_leave(library);
}

/* Any thread keeps the times while no timekeeper does: a worker between tasks, a waiter before it sleeps, and after. It
 * runs no code of the program: the caller runs what this has listed. True: it has listed something. */
static TPOOL__NOINLINE bool tpool__times_look(void) {
    tpool__thread *self = tpool__self();
    uintptr_t listed_last = self->listed ? self->listed_last : 0;
    int64_t now = tpool__clock();
    tpool__lock(&tpool__times.lock);
    (void)tpool__wheel_turn(tpool__tick_of(now));
    tpool__times_fire(self, true);
    if (now >= tpool__times.start_at) tpool__timekeeper_need();
    tpool__unlock(&tpool__times.lock);
    return self->listed && self->listed_last != listed_last;
}
/* Whether there is anything to fire. */
static TPOOL__NOINLINE bool tpool__times_due(void) {
    int64_t now = tpool__clock();
    tpool__lock(&tpool__times.lock);
    (void)tpool__wheel_turn(tpool__tick_of(now));
    bool due = tpool__times.come && !tpool__times.fires;
    tpool__unlock(&tpool__times.lock);
    return due;
}
static inline bool tpool__times_unkept(void) {
    /* relaxed: a hint; the wheel itself is read under its lock */
    return !TPOOL__LIKELY(!tpool__load_relaxed(&tpool__times.unkept));
}
/* Until when a thread may sleep, so that it looks again soon. */
static int64_t tpool__times_bound(int64_t until) {
    int64_t soon = tpool__times_unkept() ? tpool__clock() + TPOOL__LOOKS_EVERY : until;
    return soon < until ? soon : until;
}

/* Calls `fire` once the clock has reached `at`; if it is armed, the earlier time counts. The caller holds no lock,
 * since this may start a thread. */
static void tpool__timer_arm(tpool__timer *timer, int64_t at) {
    uint64_t longest = (uint64_t)INT64_MAX >> TPOOL__TICK_BITS;
    TPOOL_ASSERT(tpool__holds_none());
    uint64_t tick = at > 0 ? tpool__tick_of(at - 1) + 1 : 0; /* rounded up: never early */
    if (tick > longest) tick = longest;
    tpool__lock(&tpool__times.lock);
    if (timer->link && timer->tick < tick) tick = timer->tick;
    if (timer->link) tpool__wheel_remove(timer);
    uint64_t now = tpool__tick_of(tpool__clock());
    if (tpool__times.count == 0 && now > tpool__times.now) tpool__times.now = now;
    tpool__times.used_since = true;
    timer->tick = tick;
    tpool__wheel_add(timer);
    tpool__timekeeper_need(); /* the timer may fire meanwhile */
    tpool__parker *asleep = NULL;
    if (tick < tpool__times.sleeps_until) asleep = tpool__unpark_begin(&tpool__times.timekeeper->parker);
    tpool__unlock(&tpool__times.lock);
    tpool__unpark_end(asleep);
}
/* True: it was armed, and does not fire, unless its own fire has armed it again. */
static bool tpool__timer_disarm(tpool__timer *timer) {
    tpool__lock(&tpool__times.lock);
    tpool__parker *asleep = NULL;
    bool armed = timer->link != NULL;
    if (armed) tpool__wheel_remove(timer);
    /* if it sleeps for long, for a timer that is gone, it wakes, to linger and end */
    if (armed && tpool__times.count == 0 && tpool__times.sleeps_until > 0) {
        uint64_t soon = tpool__tick_of(tpool__clock() + TPOOL__TIMEKEEPER_LINGERS);
        if (tpool__times.sleeps_until > soon) {
            tpool__times.sleeps_until = soon;
            asleep = tpool__unpark_begin(&tpool__times.timekeeper->parker);
        }
    }
    tpool__unlock(&tpool__times.lock);
    tpool__unpark_end(asleep);
    return armed;
}
/* Afterwards it fires in no other thread. It is not armed meanwhile. */
static void tpool__timer_await(const tpool__timer *timer) {
    unsigned tries = 0;
    tpool__lock(&tpool__times.lock);
    while (tpool__times.fires == timer && tpool__times.fires_in != tpool__self()) {
        tpool__unlock(&tpool__times.lock);
        tpool__backoff(&tries);
        tpool__lock(&tpool__times.lock);
    }
    tpool__unlock(&tpool__times.lock);
}

static bool tpool__times_are_busy(void) {
    bool busy = tpool__times.fires || tpool__times.starting;
    for (int i = 0; i < TPOOL__KEEPERS && !busy; i++) busy = tpool__times.keepers[i].busy;
    return busy;
}
/* At exit and as the library is unloaded: no keeper stays. From here on none begins a function of the program. At exit
 * one that runs such functions, or was ended by one, is not joined, since these may wait for the caller. At an
 * unloading (`all`), when no thread of the program is in a call, it must come back from them, since its code goes. */
static void tpool__times_end(bool all) {
    tpool__thread_handle handles[TPOOL__KEEPERS];
    size_t count = 0;
    unsigned tries = 0;
    tpool__parker *asleep = NULL;
    tpool__lock(&tpool__times.lock);
    tpool__times.over = true;
    while (all && tpool__times_are_busy()) {
        tpool__unlock(&tpool__times.lock);
        tpool__backoff(&tries);
        tpool__lock(&tpool__times.lock);
    }
    for (tpool__keeper *keeper = tpool__times.keepers; keeper < tpool__times.keepers + TPOOL__KEEPERS; keeper++) {
        if (!keeper->used || keeper->starts) continue;
        asleep = tpool__unpark_begin_another(asleep, &keeper->parker);
        if (keeper->busy) continue;
        handles[count++] = keeper->handle;
        keeper->handle.valid = false;
    }
    tpool__thread_handle ended = { 0 };
    if (all || !tpool__times.ended_by_function) {
        ended = tpool__times.ended;
        tpool__times.ended.valid = false;
    }
    tpool__unlock(&tpool__times.lock);
    tpool__unpark_end(asleep);
    while (count > 0) tpool__thread_join(&handles[--count]);
    tpool__thread_join(&ended);
}
#if defined(TPOOL_THREADS_WIN32)
/* A pool has ended. If there are no timers, no keeper lingers: a DLL that holds this copy can be unloaded at once. One
 * that runs functions of the program comes back by itself. */
static void tpool__times_rest(void) {
    tpool__thread_handle handles[TPOOL__KEEPERS];
    size_t count = 0;
    tpool__parker *asleep = NULL;
    tpool__lock(&tpool__times.lock);
    bool rests = !tpool__times_pending() && !tpool__times.fires && !tpool__self()->keeper && !tpool__self()->ending;
    for (int i = 0; i < TPOOL__KEEPERS && rests; i++) {
        tpool__keeper *keeper = &tpool__times.keepers[i];
        if (!keeper->used || keeper->starts || keeper->busy) continue;
        keeper->rests = true;
        asleep = tpool__unpark_begin_another(asleep, &keeper->parker);
        handles[count++] = keeper->handle;
        keeper->handle.valid = false;
    }
    tpool__unlock(&tpool__times.lock);
    tpool__unpark_end(asleep);
    while (count > 0) tpool__thread_join(&handles[--count]);
}
#else
static inline void tpool__times_rest(void) { }
#endif
/* The child has no timekeeper, and the parent's timers stay the parent's. */
static void tpool__times_after_fork(void) {
    bool over = tpool__times.over;
    memset((void *)&tpool__times, 0, sizeof tpool__times);
    tpool__times.over = over;
}

/* --------------------------------------------------------------------------------------------------------------------
 *  Lanes. The caller holds the lane's spinlock unless a comment says otherwise.
 * ----------------------------------------------------------------------------------------------------------------- */
static inline uint32_t tpool__batch_entries(uint32_t batch) {
    return batch >> 2 * TPOOL__BATCH_BITS & TPOOL__BATCH_MASK;
}
static inline size_t tpool__batch_count(const tpool__lane *lane) {
    return tpool__batch_entries(tpool__load_relaxed(&lane->batch)); /* relaxed: a hint, the swap decides */
}
static inline size_t tpool__segments_count(const tpool__lane *lane) {
    return tpool__load_relaxed(&lane->count); /* relaxed: exact under the spinlock, elsewhere a hint */
}
static inline size_t tpool__lane_count(const tpool__lane *lane) {
    return tpool__segments_count(lane) + tpool__batch_count(lane);
}
static inline void tpool__lane_set_count(tpool__lane *lane, size_t count) {
    TPOOL_ASSERT(tpool__held(&lane->lock));
    tpool__store_relaxed(&lane->count, count); /* relaxed: the spinlock publishes it */
}

/* The first word of an entry is a task's address with bit 0 set; or a plain task's function; or what announces that
 * function: a stamp, or 1. Only these two functions know how a task's word differs from the others. */
static inline uintptr_t tpool__word_of_task(const tpool_future *task) { return (uintptr_t)task | 1; }
static inline tpool_future *tpool__task_of_word(uintptr_t first) { /* NULL: a plain task, or no entry */
    return (first & 3) == 1 && first != 1 ? (tpool_future *)(first - 1) : NULL;
}
/* Both return the number of words. */
static inline unsigned tpool__entry_write(uintptr_t *words, const tpool__entry *entry) {
    if (entry->task) {
        words[0] = tpool__word_of_task(entry->task);
        return 1;
    }
    unsigned announced = (unsigned)(((uintptr_t)entry->fn | entry->stamp) & 1);
    words[0] = entry->stamp | 1;
    words[announced] = (uintptr_t)entry->fn;
    words[announced + 1] = (uintptr_t)entry->arg;
    return announced + 2;
}
static inline unsigned tpool__entry_read(const uintptr_t *words, tpool__entry *entry) {
    entry->task = tpool__task_of_word(words[0]);
    if (entry->task) return 1;
    unsigned announced = (unsigned)(words[0] & 1);
    entry->stamp = (words[0] & 3) == 3 ? words[0] : 0; /* a function may end in binary 10 */
    entry->fn = (tpool_fn)words[announced];
    entry->arg = (void *)words[announced + 1];
    return announced + 2;
}

/* Takes the first entry of the batch. False: the batch is empty. The caller is the owner or holds the spinlock. The
 * owner passes TPOOL__BATCH_CLOSED: it takes nothing from a closed batch. */
static inline bool tpool__batch_pop(tpool__lane *lane, tpool__entry *entry, uint32_t closed) {
    uint32_t batch = tpool__load_relaxed(&lane->batch), next; /* relaxed: the owner filled it, or the lock orders */
    do {
        if (tpool__batch_entries(batch) == 0 || batch & closed) return false;
        const uintptr_t *words = &lane->batch_segment->words[batch & TPOOL__BATCH_MASK];
        next = batch + tpool__entry_read(words, entry) - TPOOL__BATCH_ENTRY;
    } while (!tpool__cas_release(&lane->batch, &batch, next)); /* P11 */
    return true;
}
static inline void tpool__batch_set(tpool__lane *lane, unsigned begin, unsigned end, unsigned entries) {
    /* relaxed: under the spinlock; the owner, which reads without it, is the caller or has not started */
    tpool__store_relaxed(&lane->batch, begin | (uint32_t)end << TPOOL__BATCH_BITS | entries * TPOOL__BATCH_ENTRY);
}

static void tpool__lane_drop_segment(tpool__lane *lane, tpool__segment *segment) {
    if (lane->spares >= TPOOL__SPARE_SEGMENTS) {
        TPOOL_FREE(segment);
        return;
    }
    segment->next = lane->spare;
    lane->spare = segment;
    lane->spares++;
}
static inline unsigned tpool__segment_end(const tpool__lane *lane, const tpool__segment *segment) {
    return segment == lane->tail ? lane->tail_position : segment->end;
}
static inline uint16_t *tpool__segment_entries(tpool__lane *lane, tpool__segment *segment) {
    return segment == lane->tail ? &lane->tail_entries : &segment->entries;
}

/* The segment that holds the first entry behind `front`. There must be one. */
static inline tpool__segment *tpool__lane_first(tpool__lane *lane) {
    TPOOL_ASSERT(tpool__held(&lane->lock));
    while (lane->head_position == tpool__segment_end(lane, lane->head)) {
        tpool__segment *gone = lane->head;
        lane->head = gone->next;
        lane->head_position = 0;
        tpool__lane_drop_segment(lane, gone);
    }
    return lane->head;
}
/* Takes the next entry, claimed or not. */
static inline bool tpool__lane_pop(tpool__lane *lane, tpool__entry *entry) {
    TPOOL_ASSERT(tpool__held(&lane->lock));
    if (lane->batch_segment && tpool__batch_pop(lane, entry, 0)) return true;
    size_t count = tpool__segments_count(lane);
    if (count == 0) return false;
    tpool__lane_set_count(lane, count - 1);
    if (lane->front) {
        (void)tpool__entry_read(&lane->front, entry);
        lane->front = 0;
        return true;
    }
    tpool__segment *first = tpool__lane_first(lane);
    lane->head_position += (uint16_t)tpool__entry_read(&first->words[lane->head_position], entry);
    --*tpool__segment_entries(lane, first);
    return true;
}

/* Fills an empty batch with up to `most` entries of the lane `from`: takes its first segment whole, or copies entries.
 * The caller holds both spinlocks and has just popped an entry of `from`, so that lane has no `front`. */
static unsigned tpool__batch_fill(tpool__lane *lane, tpool__lane *from, size_t most) {
    TPOOL_ASSERT(tpool__held(&lane->lock));
    TPOOL_ASSERT(tpool__held(&from->lock));
    if ((from == lane || tpool__batch_count(from) == 0) && tpool__segments_count(from) > 0) {
        tpool__segment *first = tpool__lane_first(from), *empty = lane->batch_segment;
        unsigned entries = *tpool__segment_entries(from, first);
        if (entries <= most) {
            unsigned begin = from->head_position, end = tpool__segment_end(from, first);
            if (first == from->tail) {
                empty->next = NULL;
                from->head = from->tail = empty;
                from->tail_position = from->tail_entries = 0;
            } else {
                from->head = first->next;
                tpool__lane_drop_segment(from, empty);
            }
            from->head_position = 0;
            tpool__lane_set_count(from, tpool__segments_count(from) - entries);
            lane->batch_segment = first;
            tpool__batch_set(lane, begin, end, entries);
            return entries;
        }
    }
    unsigned end = 0, filled = 0;
    tpool__entry entry = { 0 };
    while (filled < most && end + TPOOL__ENTRY_WORDS <= TPOOL__SEGMENT_WORDS && tpool__lane_pop(from, &entry)) {
        end += tpool__entry_write(&lane->batch_segment->words[end], &entry);
        filled++;
    }
    tpool__batch_set(lane, 0, end, filled);
    return filled;
}

/* Removes a tombstone that has left its queue, and releases the queue's reference. If the claimer has not ended the
 * task yet, the task becomes one of `enders`, under the inject spinlock, which the caller holds or this function takes.
 * A task whose last reference goes is chained to `unreferenced`: the caller disposes of that chain without locks and
 * then calls tpool__run_unless_held. */
static void tpool__tombstone_drop(tpool *pool, tpool__lane *lane, tpool_future *task, tpool_future **unreferenced) {
    TPOOL_ASSERT(tpool__held(&lane->lock));
    lane->dead--;
    if (!TPOOL__LIKELY(!tpool__expires_at(task))) tpool__expiring_leave(pool, task);
    /* relaxed: TPOOL__END_RELEASED came with the claim, which the caller has seen in this word, or comes under the
     * inject spinlock, under which it is read again */
    if (!(tpool__load_relaxed(&task->state) & TPOOL__END_RELEASED)) {
        if (lane != &pool->inject) tpool__spin_lock(&pool->inject.lock);
        if (!(tpool__or_relaxed(&task->state, TPOOL__POPPED) & TPOOL__END_RELEASED)) pool->enders++;
        if (lane != &pool->inject) tpool__spin_unlock(&pool->inject.lock);
    }
    if (tpool__sub_acq_rel(&task->state, TPOOL__REFERENCE) < 2 * TPOOL__REFERENCE) { /* P4 */
        task->u.next = *unreferenced;
        *unreferenced = task;
    }
}
/* Calls no function of the program's: tpool__task_dispose only lists them. */
static TPOOL__NOINLINE void tpool__dispose_chain(tpool_future *chain) {
    while (chain) {
        tpool_future *next = chain->u.next;
        (void)tpool__task_dispose(chain);
        chain = next;
    }
}
/* How many tasks were ever claimed outside a queue, over all lanes: a tombstone may lie in another lane than the one
 * whose spinlock its claimer held. */
static uintptr_t tpool__claims(tpool *pool) {
    uintptr_t sum = tpool__load_relaxed(&pool->inject.claims); /* relaxed: a hint for when to sweep */
    for (tpool__worker *w = tpool__first_worker(pool); w; w = tpool__next_worker(w))
        sum += tpool__load_relaxed(&w->lane.claims);
    return sum;
}

/* Drops all tombstones, of the batch only those at its head, and closes the gaps. The write position never passes the
 * read position, because the entries that stay are packed by the same rule. */
static void tpool__lane_sweep(tpool *pool, tpool__lane *lane, tpool_future **unreferenced) {
    TPOOL_ASSERT(tpool__held(&lane->lock));
    while (tpool__batch_count(lane) > 0) {
        uint32_t batch = tpool__load_relaxed(&lane->batch); /* relaxed: see tpool__batch_pop */
        tpool_future *first = tpool__task_of_word(lane->batch_segment->words[batch & TPOOL__BATCH_MASK]);
        if (!first || !tpool__is_claimed(first)) break;
        if (tpool__cas_relaxed(&lane->batch, &batch, batch + 1 - TPOOL__BATCH_ENTRY))
            tpool__tombstone_drop(pool, lane, first, unreferenced);
    }
    tpool_future *front = tpool__task_of_word(lane->front);
    if (front && tpool__is_claimed(front)) {
        tpool__tombstone_drop(pool, lane, front, unreferenced);
        tpool__lane_set_count(lane, tpool__segments_count(lane) - 1);
        lane->front = 0;
    }
    tpool__segment *from = lane->head, *to = from;
    if (!from) return;
    unsigned position = lane->head_position, kept = position, end = tpool__segment_end(lane, from);
    size_t alive = lane->front != 0;
    uint16_t entries = 0;
    for (size_t left = tpool__segments_count(lane) - alive; left > 0; left--) {
        while (position == end) {
            from = from->next;
            position = 0;
            end = tpool__segment_end(lane, from);
        }
        tpool__entry entry = { 0 };
        position += tpool__entry_read(&from->words[position], &entry);
        if (entry.task && tpool__is_claimed(entry.task)) {
            tpool__tombstone_drop(pool, lane, entry.task, unreferenced);
            continue;
        }
        if (kept + TPOOL__ENTRY_WORDS > TPOOL__SEGMENT_WORDS) {
            to->end = (uint16_t)kept;
            to->entries = entries;
            to = to->next;
            kept = entries = 0;
        }
        kept += tpool__entry_write(&to->words[kept], &entry);
        entries++;
        alive++;
    }
    while (to->next) {
        tpool__segment *gone = to->next;
        to->next = gone->next;
        tpool__lane_drop_segment(lane, gone);
    }
    lane->tail = to;
    lane->tail_position = (uint16_t)kept;
    lane->tail_entries = entries;
    lane->claims_at_sweep = tpool__claims(pool);
    tpool__lane_set_count(lane, alive);
}

/* For an empty lane: starts again in its last segment, which is in the cache. */
static inline void tpool__lane_rewind(tpool__lane *lane) {
    TPOOL_ASSERT(tpool__held(&lane->lock));
    while (lane->head != lane->tail) {
        tpool__segment *gone = lane->head;
        lane->head = gone->next;
        tpool__lane_drop_segment(lane, gone);
    }
    lane->head_position = lane->tail_position = lane->tail_entries = 0;
}
static TPOOL__NOINLINE bool tpool__lane_reserve_slowly(tpool *pool, tpool__lane *lane, tpool_future **unreferenced) {
    TPOOL_ASSERT(tpool__held(&lane->lock));
    if (lane->tail && (tpool__claims(pool) - lane->claims_at_sweep) * 2 >= tpool__segments_count(lane)) {
        tpool__lane_sweep(pool, lane, unreferenced);
        if (tpool__segments_count(lane) == 0) tpool__lane_rewind(lane);
        if (lane->tail_position + TPOOL__ENTRY_WORDS <= TPOOL__SEGMENT_WORDS) return true;
    }
    tpool__segment *segment = lane->spare;
    if (segment) {
        lane->spare = segment->next;
        lane->spares--;
    } else {
        segment = TPOOL_MALLOC(sizeof *segment);
    }
    if (!segment) return false;
    segment->next = NULL;
    if (lane->tail) {
        lane->tail->next = segment;
        lane->tail->end = lane->tail_position;
        lane->tail->entries = lane->tail_entries;
    } else {
        lane->head = segment;
        lane->head_position = 0;
    }
    lane->tail = segment;
    lane->tail_position = lane->tail_entries = 0;
    return true;
}
static inline bool tpool__lane_reserve(tpool *pool, tpool__lane *lane, tpool_future **unreferenced) {
    TPOOL_ASSERT(tpool__held(&lane->lock));
    if (TPOOL__LIKELY(lane->tail != NULL)) {
        if (tpool__segments_count(lane) == 0) tpool__lane_rewind(lane);
        if (TPOOL__LIKELY(lane->tail_position + TPOOL__ENTRY_WORDS <= TPOOL__SEGMENT_WORDS)) return true;
    }
    return tpool__lane_reserve_slowly(pool, lane, unreferenced);
}
static inline void tpool__lane_push(tpool__lane *lane, const tpool__entry *entry) {
    TPOOL_ASSERT(tpool__held(&lane->lock));
    size_t count = tpool__segments_count(lane);
    tpool__lane_set_count(lane, count + 1);
    if (count == 0 && entry->task && !lane->batch_segment) {
        (void)tpool__entry_write(&lane->front, entry);
        return;
    }
    uintptr_t *words = &lane->tail->words[lane->tail_position];
    TPOOL__PREFETCH_WRITE(words + 24); /* three cache lines ahead: another core read them last */
    lane->tail_position += (uint16_t)tpool__entry_write(words, entry);
    lane->tail_entries++;
}
/* Finds a task's entry if it is at the front or among the last of the lane, else returns NULL. The search goes
 * backwards. It needs a segment in which all entries are one word, since an argument may look like a task's word. */
static inline uintptr_t *tpool__lane_find(tpool__lane *lane, const tpool_future *task) {
    TPOOL_ASSERT(tpool__held(&lane->lock));
    uintptr_t word = tpool__word_of_task(task);
    if (lane->front == word) return &lane->front;
    if (!lane->tail) return NULL;
    unsigned begin = lane->head == lane->tail ? lane->head_position : 0, end = lane->tail_position;
    if (end - begin != lane->tail_entries) return NULL;
    if (end - begin > TPOOL__LOOK_BACK) begin = end - TPOOL__LOOK_BACK;
    while (end > begin && lane->tail->words[end - 1] != word) end--;
    return end > begin ? &lane->tail->words[end - 1] : NULL;
}
static inline void tpool__lane_remove(tpool__lane *lane, uintptr_t *found) {
    TPOOL_ASSERT(tpool__held(&lane->lock));
    tpool__lane_set_count(lane, tpool__segments_count(lane) - 1);
    if (found == &lane->front) {
        lane->front = 0;
        return;
    }
    const uintptr_t *last = &lane->tail->words[lane->tail_position - 1];
    for (; found < last; found++) found[0] = found[1];
    lane->tail_position--;
    lane->tail_entries--;
}
static void tpool__lane_free(tpool__lane *lane) {
    while (lane->head) {
        tpool__segment *next = lane->head->next;
        TPOOL_FREE(lane->head);
        lane->head = next;
    }
    while (lane->spare) {
        tpool__segment *next = lane->spare->next;
        TPOOL_FREE(lane->spare);
        lane->spare = next;
    }
    lane->tail = NULL;
    if (lane->batch_segment) TPOOL_FREE(lane->batch_segment);
}

/* --------------------------------------------------------------------------------------------------------------------
 *  >>heap  Tasks with priorities
 *
 *  A binary heap under the inject spinlock: highest priority first, among equals in the order submitted. A tombstone
 *  leaves when its turn comes, or when the heap is full, before it grows.
 *
 *  `places` maps a task's order number to its index in the heap, so that the task that has waited longest is found and
 *  removed without a search. It is a ring of twice as many order numbers as the heap has room for. When the numbers in
 *  use span the whole ring, they are renumbered: at least half of the ring is free then, so each push pays for two
 *  steps of renumbering.
 * ----------------------------------------------------------------------------------------------------------------- */
static inline bool tpool__ranks_before(const tpool__ranked *a, const tpool__ranked *b) {
    return a->priority != b->priority ? a->priority > b->priority : a->order < b->order;
}
/* The index plus one of the task with that order number; 0: the task has left. */
static inline uint32_t *tpool__heap_place(tpool *pool, uint64_t order) {
    return &pool->places[order & (2 * pool->heap_size - 1)];
}
static inline void tpool__heap_put(tpool *pool, size_t i, tpool__ranked ranked) {
    pool->heap[i] = ranked;
    *tpool__heap_place(pool, ranked.order) = (uint32_t)i + 1;
}
static void tpool__heap_up(tpool *pool, size_t i) {
    const tpool__ranked *heap = pool->heap, moving = heap[i];
    for (; i > 0 && tpool__ranks_before(&moving, &heap[(i - 1) / 2]); i = (i - 1) / 2)
        tpool__heap_put(pool, i, heap[(i - 1) / 2]);
    tpool__heap_put(pool, i, moving);
}
static void tpool__heap_down(tpool *pool, size_t i) {
    const tpool__ranked *heap = pool->heap, moving = heap[i];
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= pool->heap_count) break;
        if (child + 1 < pool->heap_count && tpool__ranks_before(&heap[child + 1], &heap[child])) child++;
        if (!tpool__ranks_before(&heap[child], &moving)) break;
        tpool__heap_put(pool, i, heap[child]);
        i = child;
    }
    tpool__heap_put(pool, i, moving);
}
/* relaxed: the flag is a hint; a caller that must not miss a task looks under the spinlock */
static void tpool__heap_emptied(tpool *pool) {
    pool->heap_first = pool->heap_order;
    tpool__and_relaxed(&pool->flags, ~TPOOL__RANKED);
}
static tpool_future *tpool__heap_remove(tpool *pool, size_t i) {
    TPOOL_ASSERT(tpool__held(&pool->inject.lock));
    tpool__ranked removed = pool->heap[i];
    *tpool__heap_place(pool, removed.order) = 0;
    pool->heap_count--;
    if (i < pool->heap_count) {
        pool->heap[i] = pool->heap[pool->heap_count];
        tpool__heap_down(pool, i);
        tpool__heap_up(pool, i);
    }
    if (pool->heap_count == 0) tpool__heap_emptied(pool);
    return removed.task;
}
static void tpool__heap_sweep(tpool *pool, tpool_future **unreferenced) {
    TPOOL_ASSERT(tpool__held(&pool->inject.lock));
    size_t alive = 0;
    for (size_t i = 0; i < pool->heap_count; i++) {
        *tpool__heap_place(pool, pool->heap[i].order) = 0;
        if (tpool__is_claimed(pool->heap[i].task))
            tpool__tombstone_drop(pool, &pool->inject, pool->heap[i].task, unreferenced);
        else tpool__heap_put(pool, alive++, pool->heap[i]);
    }
    pool->heap_count = alive;
    for (size_t i = alive / 2; i > 0; i--) tpool__heap_down(pool, i - 1);
    if (alive == 0) tpool__heap_emptied(pool);
}
static bool tpool__heap_grow(tpool *pool) {
    size_t size = pool->heap_size ? 2 * pool->heap_size : 64, each = sizeof *pool->heap + 2 * sizeof *pool->places;
    if (size > UINT32_MAX / 2 || size > SIZE_MAX / each) return false;
    tpool__ranked *heap = TPOOL_MALLOC(size * each), *before = pool->heap;
    if (!heap) return false;
    pool->heap = heap;
    pool->places = (uint32_t *)(void *)(heap + size);
    pool->heap_size = size;
    memset(pool->places, 0, 2 * size * sizeof *pool->places);
    for (size_t i = 0; i < pool->heap_count; i++) tpool__heap_put(pool, i, before[i]);
    if (before) TPOOL_FREE(before);
    return true;
}
static void tpool__heap_renumber(tpool *pool) {
    uint64_t order = pool->heap_first;
    for (uint64_t old = order; old != pool->heap_order; old++) {
        uint32_t place = *tpool__heap_place(pool, old);
        if (!place) continue;
        *tpool__heap_place(pool, old) = 0;
        pool->heap[place - 1].order = order;
        *tpool__heap_place(pool, order++) = place;
    }
    pool->heap_order = order;
}
static bool tpool__heap_reserve(tpool *pool, tpool_future **unreferenced) {
    TPOOL_ASSERT(tpool__held(&pool->inject.lock));
    if (pool->heap_count == pool->heap_size) {
        tpool__heap_sweep(pool, unreferenced);
        if (pool->heap_count >= pool->heap_size - pool->heap_size / 4 && !tpool__heap_grow(pool) &&
            pool->heap_count == pool->heap_size)
            return false;
    }
    if (pool->heap_order - pool->heap_first == 2 * pool->heap_size) tpool__heap_renumber(pool);
    return true;
}
static void tpool__heap_push(tpool *pool, tpool_future *task, int priority) {
    TPOOL_ASSERT(tpool__held(&pool->inject.lock));
    tpool__ranked *ranked = &pool->heap[pool->heap_count];
    ranked->priority = priority;
    ranked->order = pool->heap_order++;
    ranked->task = task;
    tpool__heap_up(pool, pool->heap_count++);
    tpool__or_relaxed(&pool->flags, TPOOL__RANKED); /* relaxed: a hint, as above */
}
/* The index of the task that has waited longest; there must be one. It skips each order number that has left once. */
static size_t tpool__heap_oldest(tpool *pool) {
    TPOOL_ASSERT(tpool__held(&pool->inject.lock));
    while (!*tpool__heap_place(pool, pool->heap_first)) pool->heap_first++;
    return *tpool__heap_place(pool, pool->heap_first) - 1;
}

/* --------------------------------------------------------------------------------------------------------------------
 *  config.measure: it adds a stamp at the submit, and a stopwatch around the task's function (>>measure)
 * ----------------------------------------------------------------------------------------------------------------- */
static tpool__measures *tpool__measures_new(void) { return tpool__alloc(sizeof(tpool__measures)); }

/* Adds an ended worker's figures to the pool's. The caller holds the inject spinlock, and pool->lock, which keeps out
 * readers that add up both. */
static void tpool__measures_hand_over(tpool__measures *to, tpool__measures *from) {
    /* relaxed: as in tpool__measures_add */
    for (unsigned i = 0; i < TPOOL__BUCKETS; i++) {
        tpool__store_relaxed(&to->waits[i], tpool__load_relaxed(&to->waits[i]) + tpool__load_relaxed(&from->waits[i]));
        tpool__store_relaxed(&to->runs[i], tpool__load_relaxed(&to->runs[i]) + tpool__load_relaxed(&from->runs[i]));
    }
    uint64_t low = (uint64_t)tpool__load_relaxed(&to->busy_low) + tpool__load_relaxed(&from->busy_low);
    uintptr_t high = tpool__load_relaxed(&to->busy_high) + tpool__load_relaxed(&from->busy_high);
    tpool__store_relaxed(&to->busy_low, (uintptr_t)(low & 0x3fffffff));
    tpool__store_relaxed(&to->busy_high, high + (uintptr_t)(low >> 30));
}

static unsigned tpool__bucket_of(int64_t ns) {
    if (ns < 16) return ns > 0 ? (unsigned)ns : 0;
    unsigned power = tpool__log2((uint64_t)ns);
    return (power - 3) * 16 + (unsigned)((uint64_t)ns >> (power - 4) & 15);
}
static int64_t tpool__middle_of(unsigned bucket) {
    if (bucket < 16) return (int64_t)bucket;
    unsigned shift = bucket / 16 - 1;
    return (((int64_t)16 + bucket % 16) << shift) + (((int64_t)1 << shift) >> 1);
}

/* A stamp is a time with the two lowest bits set, so it is never 0 and never a task's word. Where a word has 32 bits,
 * it counts steps of 1024 ns and wraps after eighteen minutes. */
#define TPOOL__STAMP_SHIFT (sizeof(uintptr_t) < sizeof(int64_t) ? 10 : 0)
static inline uintptr_t tpool__stamp(int64_t now) { return (uintptr_t)((uint64_t)now >> TPOOL__STAMP_SHIFT) << 2 | 3; }

/* A time as tpool_describe reads it, never 0: where a word has 32 bits, in steps of about a millisecond, good for 25
 * days, since just the task that hangs for long is asked about. */
#define TPOOL__SINCE_SHIFT (sizeof(uintptr_t) < sizeof(int64_t) ? 20 : 0)
static inline uintptr_t tpool__since(int64_t now) { return (uintptr_t)((uint64_t)now >> TPOOL__SINCE_SHIFT) | 1; }
static inline int64_t tpool__time_since(uintptr_t since, int64_t now) {
    intptr_t steps = (intptr_t)(tpool__since(now) - since);
    return steps > 0 ? (int64_t)steps << TPOOL__SINCE_SHIFT : 0;
}

static inline bool tpool__is_worker_of(const tpool__thread *self, const tpool *pool) {
    return self->worker && self->worker->pool == pool;
}
/* How long ago a stamp was made, at the time of another one. */
static inline int64_t tpool__age_of(uintptr_t stamp, uintptr_t now) {
    intptr_t age = (intptr_t)(now - stamp) / 4;
    return age > 0 ? (int64_t)age << TPOOL__STAMP_SHIFT : 0;
}
/* Whether the worker has observed each task since its last end: the others leave `ended_at` as it was. A trace begins
 * and ends at any time; it has observed all since the worker's ring became that trace's. */
static inline bool tpool__observed_since(const tpool__worker *worker, uint32_t observed) {
    return (observed & (TPOOL__MEASURED | TPOOL__OBSERVED)) || worker->ring.trace == observed >> TPOOL__TRACES_SHIFT;
}
/* In the task's context, unless there was no memory for it. */
static void tpool__measure_begin(tpool__thread *self, tpool *pool, const tpool__context *context, uintptr_t stamp,
                                 uint32_t observed, tpool__stopwatch *stopwatch) {
    stopwatch->outermost = !tpool__runs_program(self->context == context ? context->outer : self->context);
    stopwatch->began = 0;
    if (stopwatch->outermost && tpool__is_worker_of(self, pool)) {
        if (tpool__observed_since(self->worker, observed)) stopwatch->began = self->worker->ended_at;
        self->worker->ended_at = 0;
    }
    if (!stopwatch->began) stopwatch->began = tpool__clock();
    stopwatch->waited = tpool__age_of(stamp, tpool__stamp(stopwatch->began));
}

static void tpool__measures_add(tpool__measures *measures, const tpool__stopwatch *stopwatch, int64_t ran) {
    tpool__word *wait = &measures->waits[tpool__bucket_of(stopwatch->waited)];
    tpool__word *run = &measures->runs[tpool__bucket_of(ran)];
    /* relaxed: one writer at a time; a reader that needs exact figures has seen the tasks' ends (P2, P10) */
    tpool__store_relaxed(wait, tpool__load_relaxed(wait) + 1);
    tpool__store_relaxed(run, tpool__load_relaxed(run) + 1);
    if (!stopwatch->outermost) return;
    uint64_t low = (uint64_t)tpool__load_relaxed(&measures->busy_low) + (uint64_t)ran;
    tpool__store_relaxed(&measures->busy_low, (uintptr_t)(low & 0x3fffffff));
    if (low >> 30)
        tpool__store_relaxed(&measures->busy_high, tpool__load_relaxed(&measures->busy_high) + (uintptr_t)(low >> 30));
}
/* is_last: no function of the program's, such as arg_free or the observer, runs before the next task. */
static void tpool__measure_end(tpool__thread *self, tpool *pool, bool is_last, tpool__stopwatch *stopwatch) {
    int64_t now = stopwatch->ended = tpool__clock();
    bool measured = tpool__observed(pool) & TPOOL__MEASURED;
    if (tpool__is_worker_of(self, pool)) {
        if (stopwatch->outermost && is_last) self->worker->ended_at = now;
        if (measured) tpool__measures_add(self->worker->measures, stopwatch, now - stopwatch->began);
    } else if (measured) {
        tpool__spin_lock(&pool->inject.lock);
        tpool__measures_add(pool->measures, stopwatch, now - stopwatch->began);
        tpool__spin_unlock(&pool->inject.lock);
    }
}
/* Whether no observer receives the tasks' ends. */
static inline bool tpool__ends_untold(const tpool *pool) { return !(pool->config.observed & TPOOL_EVENT_ENDED); }
/* Called before something that takes time and is no task, so that the next task's time does not include it. */
static inline void tpool__forget_last_end(tpool__thread *self) {
    if (self->worker) self->worker->ended_at = 0;
}

/* --------------------------------------------------------------------------------------------------------------------
 *  Events of an observed pool. Called where no lock is held; tpool__observed says whether there is anything to do.
 * ----------------------------------------------------------------------------------------------------------------- */
#define TPOOL__NUMBERS 1024u /* a thread takes so many numbers at once */
static uintptr_t tpool__number_new(tpool__thread *self) {
    if (self->number_next == self->number_end) {
        /* relaxed: only numbers. 0 means no number; the highest bit is lost beside the mark of a number. */
        self->number_next = tpool__add_relaxed(&tpool__process.numbers, TPOOL__NUMBERS) & (UINTPTR_MAX >> 1);
        self->number_end = self->number_next + TPOOL__NUMBERS;
        if (self->number_next == 0) self->number_next = 1;
    }
    return self->number_next++;
}
/* For a task that is not shared, or by its claimer. */
static void tpool__number_give(tpool__thread *self, tpool_future *task) {
    tpool__extra *extra = tpool__extra_of(task);
    uintptr_t number = tpool__number_new(self);
    if (extra) tpool__store_relaxed(&extra->number, number);       /* relaxed: see tpool__extra_of */
    else tpool__store_relaxed(&task->extra_word, number << 1 | 1); /* relaxed: likewise */
}
/* The context of the task, or of the forked job, in which the thread is; NULL: none. A map's item and a part of a loop
 * run in the task that executes them. */
static const tpool__context *tpool__context_here(const tpool__thread *self) {
    const tpool__context *context = self->context;
    while (context && (context->kind == TPOOL__IN_ITEM || context->kind == TPOOL__IN_CALL)) context = context->outer;
    return context && context->task ? context : NULL;
}
static uintptr_t tpool__number_here(const tpool__thread *self) {
    const tpool__context *context = tpool__context_here(self);
    return context ? tpool__number_of(context->task) : 0;
}
/* The pool whose observer receives a worker's wait: that of the task, which may be another pool. */
static tpool *tpool__pool_here(const tpool__thread *self) {
    const tpool__context *context = tpool__context_here(self);
    return context && context->pool ? context->pool : self->worker->pool;
}

static void *tpool__loop_helper_execute(void *argument);
static void *tpool__chunk_execute(void *argument);
/* The library's own functions have names to show, which errors do not. */
static const char *tpool__shown_name(const char *name, tpool_fn fn) {
    if (name) return name;
    if (fn == tpool__chunk_execute) return "map";
    return fn == tpool__loop_helper_execute ? "for" : NULL;
}
/* The name by which a task is shown, or NULL. Anyone who may read the task may ask, whatever becomes of it. */
static const char *tpool__name_of(const tpool_future *task) {
    const tpool__extra *extra = tpool__extra_of(task);
    return extra ? extra->shown : NULL;
}

/* Gives the ring memory for a trace. The caller frees what the ring had. */
static tpool__record_words *tpool__ring_set(tpool__ring *ring, uint32_t trace, tpool__record_words *records,
                                            size_t size) {
    tpool__spin_lock(&ring->lock);
    tpool__record_words *before = ring->records;
    ring->trace = trace;
    ring->records = records;
    ring->size = records ? size : 0;
    tpool__store_relaxed(&ring->begun, 0); /* relaxed, here and below: only its writers change them, and readers wait */
    tpool__store_relaxed(&ring->next, 0);
    tpool__spin_unlock(&ring->lock);
    return before;
}
/* A worker's first record in this trace makes its ring. */
static TPOOL__NOINLINE void tpool__ring_begin(tpool *pool, tpool__ring *ring, uint32_t trace) {
    tpool__lock(&pool->lock);
    size_t size = pool->trace_size;
    tpool__unlock(&pool->lock);
    tpool__dealloc(tpool__ring_set(ring, trace, tpool__alloc_many(size, sizeof *ring->records), size));
}
/* By the ring's only writer, or under its lock. */
static inline void tpool__ring_add(tpool__ring *ring, tpool_event_kind kind, int worker, bool ran, uintptr_t task,
                                   uintptr_t about, tpool_status status, int64_t now) {
    uintptr_t next = tpool__load_relaxed(&ring->next); /* relaxed, here and below: no other thread writes */
    tpool__word *words = ring->records[next & (ring->size - 1)].words;
    tpool__store_relaxed(&ring->begun, next + 1);
    tpool__store_release(&words[0], task);  /* P20: a reader that sees this, or one of the next, sees `begun` */
    tpool__store_release(&words[1], about); /* P20 */
    tpool__store_release(&words[2], (uintptr_t)(worker + 1) << 16 | (ran ? 1u << 15 : 0u) | (unsigned)status << 8 |
                                        (unsigned)kind); /* P20 */
    for (size_t i = 0; i < sizeof now / sizeof(uintptr_t); i++)
        tpool__store_release(&words[3 + i], (uintptr_t)((uint64_t)now >> (i * 32))); /* P20 */
    tpool__store_release(&ring->next, next + 1); /* P20: a reader that sees this sees the record */
}
static TPOOL__NOINLINE void tpool__trace(const tpool__thread *self, tpool *pool, tpool_event_kind kind, int worker,
                                         bool ran, uintptr_t task, uintptr_t about, tpool_status status, int64_t now,
                                         uint32_t trace) {
    if (worker >= 0) {
        tpool__ring *ring = &self->worker->ring;
        if (!TPOOL__LIKELY(ring->trace == trace)) tpool__ring_begin(pool, ring, trace); /* only the worker changes it */
        if (TPOOL__LIKELY(ring->size > 0)) {
            tpool__ring_add(ring, kind, worker, ran, task, about, status, now);
            return;
        }
    }
    tpool__spin_lock(&pool->ring.lock);
    if (pool->ring.trace == trace) tpool__ring_add(&pool->ring, kind, worker, ran, task, about, status, now);
    tpool__spin_unlock(&pool->ring.lock);
}
/* `left`: if the observer ends the thread, the innermost context says how to go on. */
static void tpool__emit_left(tpool__thread *self, tpool *pool, tpool_event_kind kind, uintptr_t task, uintptr_t other,
                             tpool_status status, const char *name, int64_t now, bool ran) {
    TPOOL_ASSERT(tpool__holds_none());
    uint32_t flags = tpool__observed(pool);
    bool observed = pool->config.observed & (unsigned)kind;
    bool traced = (flags & TPOOL__TRACED) && kind != TPOOL_EVENT_READY; /* so far the moment of SUBMITTED */
    if (!(traced || observed) || tpool__is_foreign(pool)) return;       /* foreign: it forked, and this is the child */
    int worker = tpool__is_worker_of(self, pool) ? self->worker->index : -1;
    if (traced) {
        bool has_name = kind == TPOOL_EVENT_STARTED || kind == TPOOL_EVENT_ENDED;
        tpool__trace(self, pool, kind, worker, ran, task, has_name ? (uintptr_t)name : other, status, now,
                     flags >> TPOOL__TRACES_SHIFT);
    }
    if (!observed) return;
    tpool_event event = { kind, worker, status, now, task, other, name };
    pool->config.observer(&event, pool->config.context);
}
/* The observer may reach a cancellation point. Where no context can go on with the step, it must not end the thread. */
static void tpool__emit(tpool__thread *self, tpool *pool, tpool_event_kind kind, uintptr_t task, uintptr_t other,
                        tpool_status status, const char *name, int64_t now, bool ran) {
    bool called = pool->config.observed & (unsigned)kind;
    int cancel = called ? tpool__cancel_off() : 0;
    tpool__emit_left(self, pool, kind, task, other, status, name, now, ran);
    if (called) tpool__cancel_back(cancel);
}
static tpool__context *tpool__unplaced_push(tpool__thread *self, tpool_future *task);
static void tpool__executed_left(void *of);
/* Comes before the task is queued: from then on it may start. The submit of a task of the library's own must not end
 * its thread. False: this is a child of fork. */
static TPOOL__NOINLINE bool tpool__observe_submit(tpool__thread *self, tpool *pool, tpool_future *task, int64_t now) {
    bool is_own = task->u.fn == tpool__chunk_execute || task->u.fn == tpool__loop_helper_execute;
    bool called = pool->config.observed & (unsigned)(TPOOL_EVENT_SUBMITTED | TPOOL_EVENT_READY);
    tpool__number_give(self, task);
    uintptr_t number = tpool__number_of(task);
    const char *name = tpool__name_of(task);
    uintptr_t by = tpool__number_here(self);
    tpool__context *call = called && !is_own ? tpool__unplaced_push(self, task) : NULL;
    int cancel = called && is_own ? tpool__cancel_off() : 0;
    tpool__emit_left(self, pool, TPOOL_EVENT_SUBMITTED, number, by, TPOOL_OK, name, now, false);
    if (!called) return true;
    tpool__emit_left(self, pool, TPOOL_EVENT_READY, number, 0, TPOOL_OK, name, now, false);
    if (is_own) tpool__cancel_back(cancel);
    return is_own || tpool__context_pop(self, call);
}
/* In the task's context: if the observer ends the thread, the task has done so. Returns the stamp of the start. */
static TPOOL__NOINLINE uintptr_t tpool__observe_begin(tpool__thread *self, tpool *pool, tpool_future *task,
                                                      const tpool__context *context, uintptr_t stamp, uint32_t observed,
                                                      tpool__stopwatch *stopwatch) {
    tpool__measure_begin(self, pool, context, stamp, observed, stopwatch);
    if (observed & TPOOL__NUMBERED) {
        if (!tpool__number_of(task)) tpool__number_give(self, task); /* submitted before the trace began */
        tpool__emit_left(self, pool, TPOOL_EVENT_STARTED, tpool__number_of(task), 0, TPOOL_OK, tpool__name_of(task),
                         stopwatch->began, true);
        /* what the observer has taken is not the task's */
        if ((observed & TPOOL__MEASURED) && (pool->config.observed & TPOOL_EVENT_STARTED))
            stopwatch->began = tpool__clock();
    }
    return tpool__since(stopwatch->began);
}
/* A task that was executed has come to its end. This comes before the end is published: then the task may be gone.
 * False: this is a child of fork. */
static TPOOL__NOINLINE bool tpool__observe_end(tpool__thread *self, tpool *pool, tpool_future *task,
                                               tpool_status status, int64_t now) {
    bool called = pool->config.observed & TPOOL_EVENT_ENDED;
    tpool__context *call = called ? tpool__call_push(self, tpool__executed_left, task) : NULL;
    tpool__emit_left(self, pool, TPOOL_EVENT_ENDED, tpool__number_of(task), 0, status, tpool__name_of(task), now, true);
    return !called || tpool__context_pop(self, call);
}
static void tpool__observe_other_end(tpool__thread *self, tpool *pool, tpool_future *task, tpool_status status) {
    /* relaxed: the caller has claimed it, or nobody else knows it */
    bool ran = (tpool__load_relaxed(&task->state) & TPOOL__PHASE) == TPOOL__PHASE_RUNNING;
    tpool__emit(self, pool, TPOOL_EVENT_ENDED, tpool__number_of(task), 0, status, tpool__name_of(task), tpool__clock(),
                ran);
}
/* The same for a task that has its error, and has not run or has not run to its end. */
static void tpool__observe_unrun(tpool__thread *self, tpool_future *task) {
    tpool *pool = tpool__pool_of(task);
    if (TPOOL__LIKELY(!pool || !(tpool__observed(pool) & TPOOL__NUMBERED) || !tpool__number_of(task))) return;
    tpool_status status = tpool__outcome_of(tpool__load_acquire(&task->outcome))->error.status; /* P9 */
    tpool__observe_other_end(self, pool, task, status);
}
/* The same for a task that was submitted and not placed, while the pool is sure to be there: once. */
static TPOOL__NOINLINE void tpool__observe_unplaced(tpool__thread *self, tpool *pool, tpool_future *task,
                                                    tpool_status status) {
    if (TPOOL__LIKELY(!task || !tpool__number_of(task))) return;
    tpool__observe_other_end(self, pool, task, status);
    tpool__extra *extra = tpool__extra_of(task);
    if (extra) tpool__store_relaxed(&extra->number, 0); /* relaxed: not shared */
    else tpool__store_relaxed(&task->extra_word, 0);    /* relaxed: not shared */
}
static TPOOL__NOINLINE void tpool__observe_block(tpool__thread *self, tpool *pool, tpool__waiter *waiter) {
    waiter->since = tpool__clock();
    if (!(tpool__observed(pool) & TPOOL__NUMBERED)) return;
    uintptr_t other = waiter->awaited ? tpool__number_of(waiter->awaited) : 0;
    tpool__emit(self, pool, TPOOL_EVENT_BLOCKED, tpool__number_here(self), other, TPOOL_OK, NULL, waiter->since, false);
}
static TPOOL__NOINLINE void tpool__observe_unblock(tpool__thread *self, tpool *pool) {
    if (tpool__observed(pool) & TPOOL__NUMBERED)
        tpool__emit(self, pool, TPOOL_EVENT_UNBLOCKED, tpool__number_here(self), 0, TPOOL_OK, NULL, tpool__clock(),
                    false);
}
static void tpool__observe_worker(tpool__thread *self, tpool *pool, tpool_event_kind kind) {
    bool traced = tpool__observed(pool) & TPOOL__TRACED;
    if (TPOOL__LIKELY(!traced && !(pool->config.observed & (unsigned)kind))) return; /* before the clock is asked */
    tpool__emit(self, pool, kind, 0, 0, TPOOL_OK, NULL, tpool__clock(), false);
}

/* --------------------------------------------------------------------------------------------------------------------
 *  >>worker-list  The workers of a pool, by index
 * ----------------------------------------------------------------------------------------------------------------- */

/* The list of workers holds, in the order of their indices, those that live, and those that have ended and left an
 * entry in their lane; so a look does not pay for workers of long ago. Threads walk it without the lock. A walker at a
 * worker that leaves the list goes on through its `next` to a higher index. It misses none that was in the list all the
 * time: `next` leads to what came behind the worker when it left. It may miss one that comes later, as it may miss one
 * that comes behind the end of the list. So all workers' memory stays the pool's until its end. A new worker takes
 * the lowest index that is not in use: all lower ones are in the list, so its place is behind the next lower one. */
static void tpool__unused_push(tpool *pool, tpool__worker *worker) {
    TPOOL_ASSERT(tpool__held(&pool->lock));
    size_t i = pool->unused_count++;
    for (; i > 0 && pool->unused[(i - 1) / 2]->index > worker->index; i = (i - 1) / 2)
        pool->unused[i] = pool->unused[(i - 1) / 2];
    pool->unused[i] = worker;
}
static tpool__worker *tpool__unused_pop(tpool *pool) {
    TPOOL_ASSERT(tpool__held(&pool->lock));
    tpool__worker *lowest = pool->unused[0], *moving = pool->unused[--pool->unused_count];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < pool->unused_count; i = child) {
        if (child + 1 < pool->unused_count && pool->unused[child + 1]->index < pool->unused[child]->index) child++;
        if (pool->unused[child]->index > moving->index) break;
        pool->unused[i] = pool->unused[child];
    }
    pool->unused[i] = moving;
    return lowest;
}

/* Frees a worker, which may be half made: it was never started, or its thread is joined. */
static void tpool__worker_free(tpool__worker *worker) {
    tpool__lane_free(&worker->lane);
    tpool__dealloc((void *)worker->measures);
    tpool__dealloc(worker->ring.records);
    tpool__dealloc(worker->backing);
    tpool__free_aligned(worker);
}
/* Makes one more worker, and room in `unused` for it. */
static tpool__worker *tpool__worker_make(tpool *pool) {
    TPOOL_ASSERT(tpool__held(&pool->lock));
    int index = pool->newest ? pool->newest->index + 1 : 0;
    if ((size_t)index >= pool->unused_size) {
        size_t size = pool->unused_size ? 2 * pool->unused_size : 16;
        tpool__worker **unused = tpool__alloc_many(size, sizeof *unused);
        if (!unused) return NULL;
        tpool__dealloc(pool->unused); /* empty: all are in use */
        pool->unused = unused;
        pool->unused_size = size;
    }
    tpool__worker *worker = tpool__alloc_aligned(sizeof *worker, TPOOL__CACHE_LINE);
    if (!worker) return NULL;
    worker->pool = pool;
    worker->index = index;
    const tpool__backend *backend = tpool__backend_of(pool);
    if (backend && !backend->worker_new(worker)) {
        tpool__worker_free(worker);
        return NULL;
    }
    worker->before = pool->newest;
    pool->newest = worker;
    return worker;
}

/* Adds an ended worker's counts to the pool's, so that no look at the worker is needed any more. The caller holds the
 * spinlocks of both lanes, and pool->lock, which keeps out readers that add up all counts. */
static void tpool__counts_hand_over(tpool *pool, tpool__worker *worker) {
    TPOOL_ASSERT(tpool__held(&worker->lane.lock));
    TPOOL_ASSERT(tpool__held(&pool->inject.lock));
    TPOOL_ASSERT(tpool__held(&pool->lock));
    tpool__lane *lane = &worker->lane;
    for (int i = 0; i < TPOOL__OWN_COUNTS; i++) {
        /* relaxed: the worker has ended, and no reader adds the counts up meanwhile */
        tpool__add_release(&pool->own_counts[i], tpool__load_relaxed(&worker->counts[i])); /* P10 */
        tpool__store_relaxed(&worker->counts[i], 0);
    }
    pool->inject.submitted += lane->submitted;
    pool->inject.dead += lane->dead;
    uintptr_t claims = tpool__load_relaxed(&lane->claims); /* relaxed: a hint, rather too small than too large */
    tpool__store_relaxed(&lane->claims, 0);
    tpool__store_relaxed(&pool->inject.claims, tpool__load_relaxed(&pool->inject.claims) + claims);
    lane->submitted = 0;
    lane->dead = 0;
    if (worker->measures) tpool__measures_hand_over(pool->measures, worker->measures);
}

/* Takes an ended worker out of the list and frees what it had, unless something is left in its lane. */
static bool tpool__worker_unlist(tpool *pool, tpool__worker *worker) {
    TPOOL_ASSERT(tpool__held(&pool->lock));
    tpool__lane left = { 0 };
    tpool__spin_lock(&worker->lane.lock);
    /* relaxed: an ended worker publishes none */
    bool empty = tpool__lane_count(&worker->lane) == 0 && tpool__load_relaxed(&worker->public_jobs) == 0;
    if (empty) {
        tpool__spin_lock(&pool->inject.lock);
        tpool__counts_hand_over(pool, worker);
        tpool__spin_unlock(&pool->inject.lock);
        left.head = worker->lane.head;
        left.spare = worker->lane.spare;
        left.batch_segment = worker->lane.batch_segment;
        worker->lane.head = worker->lane.tail = worker->lane.spare = worker->lane.batch_segment = NULL;
        worker->lane.spares = 0;
    }
    tpool__spin_unlock(&worker->lane.lock);
    if (!empty) return false;
    tpool__worker *next = tpool__load_relaxed(&worker->next); /* relaxed: written under pool->lock, held here */
    if (next) next->previous = worker->previous;
    if (worker->previous) tpool__store_release(&worker->previous->next, next); /* P6 */
    else tpool__store_release(&pool->workers, next);                           /* P6 */
    worker->listed = false;
    tpool__lane_free(&left);
    tpool__dealloc((void *)worker->measures);
    worker->measures = NULL;
    return true;
}

static void tpool__link_first(tpool__worker **list, tpool__worker *worker) {
    worker->sleep_previous = NULL;
    worker->sleep_next = *list;
    if (*list) (*list)->sleep_previous = worker;
    *list = worker;
}
static void tpool__link_remove(tpool__worker **list, tpool__worker *worker) {
    if (worker->sleep_previous) worker->sleep_previous->sleep_next = worker->sleep_next;
    else *list = worker->sleep_next;
    if (worker->sleep_next) worker->sleep_next->sleep_previous = worker->sleep_previous;
}

/* Under pool->lock: frees the place of a worker that has ended or was not started. */
static void tpool__worker_put_away(tpool *pool, tpool__worker *worker) {
    TPOOL_ASSERT(tpool__held(&pool->lock));
    if (!tpool__worker_unlist(pool, worker)) tpool__link_first(&pool->leftovers, worker);
    tpool__unused_push(pool, worker);
}
/* Unlists leftovers without an entry. A worker that found nothing to do calls it: by then their entries are taken. */
static void tpool__put_leftovers_away(tpool *pool) {
    TPOOL_ASSERT(tpool__held(&pool->lock));
    for (tpool__worker *worker = pool->leftovers, *next; worker; worker = next) {
        next = worker->sleep_next;
        if (tpool__worker_unlist(pool, worker)) tpool__link_remove(&pool->leftovers, worker);
    }
}

/* Provides a worker that is in the list: the unused one of the lowest index, or a new one. */
static tpool__worker *tpool__worker_slot(tpool *pool) {
    TPOOL_ASSERT(tpool__held(&pool->lock));
    tpool__worker *worker = pool->unused_count > 0 ? tpool__unused_pop(pool) : tpool__worker_make(pool);
    if (!worker) return NULL;
    if (worker->listed) { /* with entries that an earlier one left */
        tpool__link_remove(&pool->leftovers, worker);
        return worker;
    }
    tpool__segment *batch = TPOOL_MALLOC(sizeof *batch);
    bool measured = tpool__observed(pool) & TPOOL__MEASURED;
    tpool__measures *measures = measured ? tpool__measures_new() : NULL;
    if (!batch || (measured && !measures)) {
        tpool__dealloc(batch);
        tpool__dealloc((void *)measures);
        tpool__unused_push(pool, worker);
        return NULL;
    }
    worker->measures = measures;
    tpool__spin_lock(&worker->lane.lock); /* a walker may still be at this worker */
    worker->lane.batch_segment = batch;
    worker->lane.head_position = worker->lane.tail_position = worker->lane.tail_entries = 0;
    worker->lane.claims_at_sweep = tpool__claims(pool);
    tpool__batch_set(&worker->lane, 0, 0, 0);
    tpool__spin_unlock(&worker->lane.lock);
    tpool__worker *before = worker->before;
    /* relaxed: written under pool->lock, held here */
    tpool__worker *next = before ? tpool__load_relaxed(&before->next) : tpool__load_relaxed(&pool->workers);
    worker->previous = before;
    if (next) next->previous = worker;
    tpool__store_release(&worker->next, next);               /* P6: for a walker at this worker */
    if (before) tpool__store_release(&before->next, worker); /* P6: thieves walk the list without the lock */
    else tpool__store_release(&pool->workers, worker);       /* P6 */
    worker->listed = true;
    return worker;
}

/* --------------------------------------------------------------------------------------------------------------------
 *  >>waiter-nodes  Adds and removes them. Pair P3: TPOOL__LOCKED is a lock; taking it acquires, clearing it releases.
 * ----------------------------------------------------------------------------------------------------------------- */

/* Clears LOCKED and what else goes with it. */
static inline void tpool__nodes_unlock(tpool_future *future, uintptr_t clear) {
    tpool__note_unlocked(&future->state);
    tpool__and_release(&future->state, ~clear); /* P3 */
}
/* False: the future is done. */
static bool tpool__node_add(tpool_future *future, tpool__node *node) {
    unsigned tries = 0;
    uintptr_t state = tpool__load_acquire(&future->state); /* P2 */
    for (;;) {
        if (tpool__state_is_done(state)) return false;
        if (state & TPOOL__LOCKED) {
            tpool__backoff(&tries);
            state = tpool__load_acquire(&future->state);                                                   /* P2 */
        } else if (tpool__cas_acq_rel(&future->state, &state, state | TPOOL__LOCKED | TPOOL__HAS_NODES)) { /* P3 */
            break;
        }
    }
    tpool__note_locked(&future->state);
    node->next = future->nodes;
    node->link = &future->nodes;
    if (node->next) node->next->link = &node->next;
    future->nodes = node;
    tpool__nodes_unlock(future, TPOOL__LOCKED);
    return true;
}

/* Locks the list of nodes; the future may be done. Returns the bits to clear for unlocking it. */
static uintptr_t tpool__nodes_lock(tpool_future *future) {
    unsigned tries = 0;
    uintptr_t state = tpool__load_relaxed(&future->state); /* relaxed: the exchange orders */
    for (;;) {
        if (state & TPOOL__LOCKED) {
            tpool__backoff(&tries);
            state = tpool__load_relaxed(&future->state);
        } else if (tpool__cas_acq_rel(&future->state, &state, state | TPOOL__LOCKED)) { /* P3 */
            tpool__note_locked(&future->state);
            return TPOOL__LOCKED;
        }
    }
}

/* Afterwards no other thread touches the node. */
static void tpool__node_remove(tpool_future *future, tpool__node *node) {
    uintptr_t clear = tpool__nodes_lock(future);
    if (node->link) {
        *node->link = node->next;
        if (node->next) node->next->link = node->link;
        node->link = NULL;
        if (!future->nodes) clear |= TPOOL__HAS_NODES;
    }
    tpool__nodes_unlock(future, clear);
}

/* ====================================================================================================================
 *  >>walk  The life of a task, from submit to result
 *
 *      W1   tpool_submit... (tpool__submit) makes a task object if one is needed: for a future, or any tpool__extra. It
 *           is task and future in one, 64 bytes, from a cache of the thread (tpool__task_new).
 *      W2   tpool__enqueue puts the task into a lane: the worker's own, or the inject lane; with a priority, or if the
 *           pool drops the oldest, into the heap. A full queue: tpool__enqueue_full.
 *      W3   tpool__notify: if no worker searches for work and another may be active, one is woken or started
 *           (tpool__wake_one).
 *      W4   A worker (tpool__work_loop) finds the task (tpool__find) and claims it (tpool__claim): by the one change
 *           of its phase from PENDING. A canceller (tpool_future_cancel), a call that finds it expired (tpool__expire)
 *           or a waiter (tpool__execute_in_place) may claim it first. It then leaves a tombstone in the lane, unless
 *           it finds the entry in its own.
 *      W5   tpool__execute_task calls fn. tpool_raise and tpool_return leave an outcome in the task.
 *      W6   arg_free is called, the result is stored, the statistics count, all before any thread can see the end.
 *      W7   tpool__publish moves the phase to done. If the task has no waiter nodes, and its outside end is released
 *           (END_RELEASED), the same step gives up the claimer's reference. Otherwise it then notifies the nodes
 *           (waiters, iterators), and runs the callbacks in the order added. If a callback ends another future, that
 *           future's callbacks run after the callback has returned, or in its next wait (>>nested).
 *      W8   A waiter (tpool__await_in) first spins a little, then adds a waiter node to the future and parks
 *           (tpool__wait). A worker that waits makes room for another first (tpool__wait_begin).
 *      W9   A worker that waits, without a limit, for a task of its own pool that has not started runs it in place
 *           (tpool__execute_in_place). Waits for the first of several, and next, do so only in a halted pool.
 *      W10  tpool_future_result reads the end. The last release frees the task (tpool__task_dispose).
 * ================================================================================================================= */

/* --------------------------------------------------------------------------------------------------------------------
 *  In which tasks, callbacks and pools the caller is
 * ----------------------------------------------------------------------------------------------------------------- */
/* Tests a context and everything on whose behalf it runs: the contexts beneath it on its stack, and the origins of jobs
 * and of parts of loops. Where the origin leads to the same context beneath, only the origin is followed. Otherwise
 * workers that help each other in turn (tpool_join) would make the number of paths exponential. */
typedef bool (*tpool__context_test)(const tpool__context *context, const void *what);
static bool tpool__any_context(const tpool__context *context, tpool__context_test is, const void *what) {
    for (const tpool__context *next; context; context = next) {
        if (is(context, what)) return true;
        next = context->outer;
        if (!context->origin) continue;
        if (context->origin->origin == next) next = context->origin;
        else if (tpool__any_context(context->origin, is, what)) return true;
    }
    return false;
}
static bool tpool__is_in_pool(const tpool__context *context, const void *pool) {
    return context->pool == pool || context->of_end == ((const tpool *)pool)->tag;
}
static bool tpool__is_setup_of(const tpool__context *context, const void *pool) {
    return context->kind == TPOOL__IN_SETUP && context->pool == pool;
}
static bool tpool__is_setup(const tpool__context *context, const void *any) {
    (void)any;
    return context->kind == TPOOL__IN_SETUP;
}
static bool tpool__is_of_task(const tpool__context *context, const void *task) {
    return context->task == task || context->of_end == (uintptr_t)task;
}
static bool tpool__is_in_manager(const tpool__context *context, const void *manager) {
    return context->pool && context->pool->manager == manager;
}
/* The caller is in a task, callback, initializer or finalizer of this pool, perhaps with another pool's on top. */
static bool tpool__within(const tpool *pool) {
    return pool && tpool__any_context(tpool__self()->context, tpool__is_in_pool, pool);
}
static bool tpool__within_setup(const tpool *pool) {
    /* relaxed: a thread in one of them, or in a job of one, has seen it counted. Other waits skip the walk. */
    return pool && tpool__load_relaxed(&tpool__process.setups) > 0 &&
           tpool__any_context(tpool__self()->context, tpool__is_setup_of, pool);
}

/* The caller is one of those that a closing pool waits for. */
static bool tpool__is_insider(tpool *pool) {
    return pool->manager ? tpool__any_context(tpool__self()->context, tpool__is_in_manager, pool->manager)
                         : tpool__within(pool->closing_for) || tpool__within(pool);
}

TPOOL_API tpool *tpool_current(void) {
    tpool__thread *self = tpool__self();
    if (self->caller_pool) return self->caller_pool;
    return self->worker ? self->worker->pool : NULL;
}
TPOOL_API int tpool_current_worker(void) {
    tpool__thread *self = tpool__self();
    return self->caller_pool || !self->worker ? -1 : self->worker->index;
}

static int64_t tpool__deadline(int64_t timeout_ns) {
    if (timeout_ns == TPOOL_FOREVER) return TPOOL_FOREVER;
    if (timeout_ns <= 0) return 0;
    int64_t now = tpool__clock();
    return timeout_ns < TPOOL_FOREVER - now ? now + timeout_ns : TPOOL_FOREVER;
}
TPOOL_API int64_t tpool_until(int64_t deadline_ns) {
    if (deadline_ns == TPOOL_FOREVER) return TPOOL_FOREVER;
    int64_t now = tpool__clock();
    return deadline_ns > now ? deadline_ns - now : 0;
}

/* --------------------------------------------------------------------------------------------------------------------
 *  Small helpers of the walk: flags, counts, drainers, the gate, outcomes
 * ----------------------------------------------------------------------------------------------------------------- */

static inline uint32_t tpool__flags(tpool *pool) {
    /* relaxed: flags change before tpool__fence_lanes passes all spinlocks of the lanes, and count under these */
    return tpool__load_relaxed(&pool->flags);
}

#define TPOOL__NO_BATCHES (TPOOL__PAUSED | TPOOL__HALTED | TPOOL__BREAK | TPOOL__CANCELLED)

static void tpool__count_own(tpool__worker *worker, int which) {
    /* relaxed load: only the owner writes it */
    tpool__store_release(&worker->counts[which], tpool__load_relaxed(&worker->counts[which]) + 1); /* P10 */
}

static void tpool__count(tpool *pool, int which) {
    tpool__worker *worker = tpool__self()->worker;
    if (worker && worker->pool == pool) tpool__count_own(worker, which);
    else tpool__add_release(&pool->own_counts[which], 1); /* P10 */
}

/* A caller that waits for a condition of the whole pool. */
typedef bool (*tpool__condition)(tpool *pool);
typedef struct tpool__drainer {
    tpool__waiter waiter;
    tpool *pool;
    tpool__condition over;
    bool until_ended;      /* it waits for the ends of workers, not only until they have no task */
    bool until_deserted;   /* it waits until `callers` is 0 */
    uintptr_t listed_last; /* what the thread had listed last when it went in */
} tpool__drainer;
/* Wakes the drainers; those that wait for workers to end only if `ended`. Under the inject spinlock. */
static tpool__parker *tpool__wake_drainers(tpool *pool, bool ended) {
    TPOOL_ASSERT(tpool__held(&pool->inject.lock));
    tpool__parker *asleep = NULL;
    for (tpool__waiter *waiter = pool->drainers; waiter; waiter = waiter->next_in_line)
        if (ended || !((tpool__drainer *)(void *)waiter)->until_ended)
            asleep = tpool__unpark_begin_another(asleep, &waiter->parker);
    return asleep;
}
/* Called when a worker has no task any more, or has ended. */
static void tpool__wake_drainers_if_any(tpool *pool, bool ended) {
    /* relaxed: a drainer registers under the inject spinlock before it looks, and looks again now and then */
    if (TPOOL__LIKELY(!tpool__load_relaxed(&pool->draining))) return;
    tpool__spin_lock(&pool->inject.lock);
    tpool__parker *asleep = tpool__wake_drainers(pool, ended);
    tpool__spin_unlock(&pool->inject.lock);
    tpool__unpark_end(asleep);
}

/* The caller knows that the pool exists, since something in it is not done. From now on it stays. */
static void tpool__caller_stays(tpool *pool) {
    tpool__spin_lock(&pool->inject.lock);
    pool->callers++;
    tpool__spin_unlock(&pool->inject.lock);
}
/* The last touch of the pool by a thread that counted itself in `callers`. */
static void tpool__caller_leaves(tpool *pool) {
    if (tpool__is_foreign(pool)) return; /* a program function forked, and this is the child */
    tpool__spin_lock(&pool->inject.lock);
    tpool__parker *asleep = NULL;
    if (--pool->callers == 0)
        for (tpool__waiter *waiter = pool->drainers; waiter; waiter = waiter->next_in_line)
            if (((tpool__drainer *)(void *)waiter)->until_deserted)
                asleep = tpool__unpark_begin_another(asleep, &waiter->parker);
    tpool__spin_unlock(&pool->inject.lock);
    tpool__unpark_end(asleep);
}
static void tpool__caller_left(void *of) { tpool__caller_leaves((tpool *)of); }
/* For a call of which a later step may come after the pool's last task. */
static tpool__context *tpool__caller_enters(tpool *pool) {
    tpool__caller_stays(pool);
    return tpool__call_push(tpool__self(), tpool__caller_left, pool);
}
static void tpool__active_add(tpool *pool, intptr_t n) {
    TPOOL_ASSERT(tpool__held(&pool->lock));
    /* relaxed: written under pool->lock */
    tpool__store_relaxed(&pool->active, tpool__load_relaxed(&pool->active) + (uintptr_t)n);
}
/* How many blocked workers spares may replace. */
static uintptr_t tpool__max_spares(const tpool *pool) {
    if (pool->config.max_spares < 0) return 0;
    /* relaxed: written under pool->lock */
    return pool->config.max_spares ? (uintptr_t)pool->config.max_spares : tpool__load_relaxed(&pool->max_workers);
}
/* So many workers are blocked that only need or time brings another one: see >>spares. */
static bool tpool__spares_used_up(const tpool *pool) {
    return tpool__load_relaxed(&pool->most_active) == 0; /* relaxed: written under pool->lock; else a hint */
}
/* Sets or clears ROOM: one more worker may become active if work comes. A paused pool needs none but its first. While
 * none is active there is ROOM, however many are blocked: so a submit notices a stalled pool (tpool__wake_one). */
static void tpool__update_room(tpool *pool) {
    TPOOL_ASSERT(tpool__held(&pool->lock));
    /* relaxed: all are written under pool->lock */
    uint32_t flags = tpool__flags(pool);
    uintptr_t most = tpool__load_relaxed(&pool->max_workers), before = tpool__load_relaxed(&pool->most_active);
    if (pool->blocked > 0) {
        uintptr_t spares = tpool__max_spares(pool) + pool->granted;
        uintptr_t unreplaced = pool->blocked > spares ? pool->blocked - spares : 0;
        most = unreplaced < most ? most - unreplaced : 0;
    }
    tpool__store_relaxed(&pool->most_active, most);
    /* relaxed: see tpool__ask_others */
    if ((most == 0) != (before == 0)) tpool__add_relaxed(&tpool__process.used_up, most == 0 ? 1 : (uintptr_t)-1);
    bool room = !(flags & (TPOOL__PAUSED | TPOOL__HALTED)) && tpool__load_relaxed(&pool->active) < (most ? most : 1);
    if (room) tpool__or_release(&pool->gate, TPOOL__ROOM); /* P13 */
    else tpool__and_release(&pool->gate, ~TPOOL__ROOM);    /* P13 */
}
/* A worker becomes active. `moves`: what stalled the pool has changed. */
static void tpool__stall_stops(tpool *pool, bool moves) {
    TPOOL_ASSERT(tpool__held(&pool->lock));
    tpool__stall *stall = &pool->stall;
    if (stall->since) stall->before += tpool__clock() - stall->since;
    if (moves) stall->before = 0;
    stall->since = 0;
}
/* The same by hints alone, which is cheap. */
static bool tpool__work_hinted(tpool *pool) {
    uint32_t flags = tpool__flags(pool);
    if (flags & (TPOOL__PAUSED | TPOOL__HALTED)) return false;
    if (flags & TPOOL__RANKED || tpool__lane_count(&pool->inject) > 0) return true;
    for (tpool__worker *w = tpool__first_worker(pool); w; w = tpool__next_worker(w))
        if (tpool__lane_count(&w->lane) > 0 || tpool__load_relaxed(&w->public_jobs) > 0) /* relaxed: a hint */
            return true;
    return false;
}
/* True if a worker could take something. Where hints show nothing, it looks under the spinlocks; see >>protocol. */
static bool tpool__work_visible(tpool *pool) {
    if (tpool__flags(pool) & (TPOOL__PAUSED | TPOOL__HALTED)) return false;
    if (tpool__work_hinted(pool)) return true;
    tpool__spin_lock(&pool->inject.lock);
    bool visible = tpool__lane_count(&pool->inject) > 0 || pool->heap_count > 0;
    tpool__spin_unlock(&pool->inject.lock);
    for (tpool__worker *w = tpool__first_worker(pool); w && !visible; w = tpool__next_worker(w)) {
        tpool__spin_lock(&w->lane.lock);
        visible = tpool__lane_count(&w->lane) > 0;
        tpool__spin_unlock(&w->lane.lock);
        if (visible) break;
        tpool__spin_lock(&w->jobs_lock);
        visible = tpool__load_relaxed(&w->public_jobs) > 0; /* relaxed: under the spinlock */
        tpool__spin_unlock(&w->jobs_lock);
    }
    return visible;
}

static size_t tpool__queued_hint(tpool *pool) {
    /* tasks with priorities, whose number is under another lock, count as one; so do a worker's forked jobs */
    size_t queued = tpool__lane_count(&pool->inject) + ((tpool__flags(pool) & TPOOL__RANKED) != 0);
    for (tpool__worker *w = tpool__first_worker(pool); w; w = tpool__next_worker(w))
        queued += tpool__lane_count(&w->lane) + tpool__load_relaxed(&w->public_jobs); /* relaxed: a hint */
    return queued;
}

/* A worker sets it before it can take a task: a thread that has passed the lanes' spinlocks since (tpool_pause) sees
 * every worker busy that has one. */
static inline void tpool__set_busy(tpool__worker *worker, bool busy) {
    /* relaxed load: only the owner writes it */
    if (tpool__load_relaxed(&worker->busy) != busy) tpool__store_release(&worker->busy, busy); /* P10 */
}

static void tpool__start_searching(tpool__worker *worker) {
    worker->searching = true;
    worker->ended_at = 0;
    tpool__add_relaxed(&worker->pool->gate, TPOOL__SEARCHER); /* relaxed: see >>protocol, E1 */
}
/* True: this was the last searcher, and there is ROOM: if work is left, the caller must notify. */
static bool tpool__leave_search(tpool__worker *worker) {
    worker->searching = false;
    /* P13: acquires; and releases, since a new worker may get here before its starter gets to tpool__update_room. For
     * the rest relaxed would do: see >>protocol, E2 */
    return tpool__sub_acq_rel(&worker->pool->gate, TPOOL__SEARCHER) == (TPOOL__SEARCHER | TPOOL__ROOM);
}
/* Called after leaving the searchers. While the caller is the only active worker, only submitters from outside can add
 * work, and the caller has seen with P13 what the others left: it need not pass their spinlocks. */
static bool tpool__work_left(tpool *pool) {
    if (tpool__load_relaxed(&pool->active) > 1) return tpool__work_visible(pool); /* relaxed: see P13 */
    if (tpool__work_hinted(pool)) return true;
    tpool__spin_lock(&pool->inject.lock);
    bool left = tpool__lane_count(&pool->inject) > 0 || pool->heap_count > 0;
    tpool__spin_unlock(&pool->inject.lock);
    return left;
}
#define TPOOL__FIXED(status, code, text) \
    { TPOOL__ERROR, true, { status, code, text, NULL, status }, NULL, { 0 }, NULL, false }
static const tpool__outcome tpool__fixed_errors[] = {
    /* indexed by tpool__reason */
    TPOOL__FIXED(TPOOL_CANCELLED, 0, "The task was cancelled before it started."),
    TPOOL__FIXED(TPOOL_CANCELLED, 0, "The task was dropped from a full queue."),
    TPOOL__FIXED(TPOOL_EXPIRED, 0, "The task's own time limit passed while it was queued."),
    TPOOL__FIXED(TPOOL_BROKEN, 0, "The worker could not be initialized."),
    TPOOL__FIXED(TPOOL_BROKEN, 0, "The task ended its thread."),
    TPOOL__FIXED(TPOOL_BROKEN, 0, "No worker is left, and none could be started."),
    TPOOL__FIXED(TPOOL_FAILED, ENOMEM, "Memory ran out while raising an error or returning a result."),
    TPOOL__FIXED(TPOOL_BROKEN, 0, "The worker process ended."),
    TPOOL__FIXED(TPOOL_FAILED, EINVAL, "tpool_return_owned does not reach out of a worker process: use tpool_return."),
};
static tpool__outcome *tpool__fixed(tpool__reason reason) {
    return (tpool__outcome *)(uintptr_t)&tpool__fixed_errors[reason]; /* is_static: never written */
}

/* An error that needs no memory. If the task has a name, its extra has room for the error with the name. */
static tpool__outcome *tpool__error_fixed(tpool_future *task, tpool__reason reason) {
    if (!tpool__extra_of(task) || !tpool__extra_of(task)->name) return tpool__fixed(reason);
    tpool__extra_of(task)->ended = tpool__fixed_errors[reason];
    tpool__extra_of(task)->ended.error.task = tpool__extra_of(task)->name;
    return &tpool__extra_of(task)->ended;
}

/* The last outcome wins, but an error is never replaced. */
static bool tpool__set_outcome(tpool_future *task, tpool__outcome *outcome) {
    /* P9: jobs on other threads may raise or return at once; the thread that takes an outcome out sees it whole */
    uintptr_t before = tpool__load_acquire(&task->outcome);
    do
        if (before & 1) return false;
    while (!tpool__cas_acq_rel(&task->outcome, &before, tpool__outcome_word(outcome)));
    tpool__outcome_free(tpool__outcome_of(before));
    return true;
}
static tpool__outcome *tpool__outcome_load(tpool_future *task) {
    return tpool__outcome_of(tpool__load_acquire(&task->outcome)); /* P9 */
}
static tpool__outcome *tpool__outcome_take(tpool_future *task) {
    return tpool__outcome_of(tpool__exchange_acq_rel(&task->outcome, 0)); /* P9 */
}
/* For a task of which a part was not done: that counts more than what it has raised. Returns the old outcome. */
static tpool__outcome *tpool__outcome_replace(tpool_future *task, tpool__outcome *error) {
    return tpool__outcome_of(tpool__exchange_acq_rel(&task->outcome, tpool__outcome_word(error))); /* P9 */
}
static bool tpool__has_failed(tpool_future *task) { return tpool__load_acquire(&task->outcome) & 1; } /* P9 */
static inline bool tpool__has_expired(const tpool_future *task) {
    return tpool__extra_of(task) && tpool__extra_of(task)->expires_at &&
           tpool__clock() >= tpool__extra_of(task)->expires_at;
}

/* --------------------------------------------------------------------------------------------------------------------
 *  >>submit  W1: the task object is made, if the task needs one
 * ----------------------------------------------------------------------------------------------------------------- */
static inline void tpool__task_init(tpool_future *task, tpool *pool, tpool_fn fn, void *value, tpool__extra *extra,
                                    uintptr_t state) {
    /* relaxed stores: the task is not shared yet; the lane's spinlock (P1) or the caller passes it on */
    tpool__store_relaxed(&task->state, state);
    task->u.fn = fn;
    task->value = value;
    /* relaxed: the generation changes only in a child of fork, in its one thread, before fork returns there */
    task->home = pool ? pool->home : tpool__load_relaxed(&tpool__process.generation) & TPOOL__GENERATIONS;
    tpool__store_relaxed(&task->extra_word, (uintptr_t)extra);
    task->nodes = NULL;
    tpool__store_relaxed(&task->outcome, 0);
    tpool__store_relaxed(&task->runner, NULL);
}

/* The task has one more limit. 0 is a time that has passed. */
static void tpool__limit_add(tpool__extra *extra, int64_t at, tpool__limit limit) {
    if (at == TPOOL_FOREVER || (extra->stop_at && extra->stop_at <= at)) return;
    extra->stop_at = at ? at : 1;
    extra->limit = limit;
}
/* Makes what most tasks do not have. With copied bytes *value becomes their address. */
static TPOOL__NOINLINE tpool__extra *tpool__extra_new(const tpool *pool, const tpool_task *task, void **value) {
    size_t head = TPOOL__ROUND_UP(sizeof(tpool__extra));
    bool apart = tpool__executes_elsewhere(pool) && task->arg_size >= TPOOL__LARGE;
    tpool__extra *extra = task->arg_size <= SIZE_MAX / 2 ? tpool__alloc_with(head, apart ? 0 : task->arg_size) : NULL;
    if (!extra) return NULL;
    if (apart && !(extra->large = tpool__large_take(task->arg_size))) {
        tpool__extra_free(extra);
        return NULL;
    }
    extra->arg_free = task->arg_free;
    extra->name = task->name;
    extra->shown = tpool__shown_name(task->name, task->fn);
    extra->tag = task->tag;
    extra->arg_size = task->arg_size;
    extra->priority = task->priority;
    extra->run_limit_ns = task->run_limit_ns > 0 ? task->run_limit_ns : 0;
    int64_t expires_at = task->expires_ns > 0 ? tpool__deadline(task->expires_ns) : TPOOL_FOREVER;
    int64_t timeout_at = task->timeout_ns > 0 ? tpool__deadline(task->timeout_ns) : TPOOL_FOREVER;
    if (timeout_at < expires_at) expires_at = timeout_at;
    extra->expires_at = expires_at == TPOOL_FOREVER ? 0 : expires_at;
    tpool__limit_add(extra, timeout_at, TPOOL__TIMEOUT);
    if (task->arg_size) {
        *value = apart ? (char *)extra->large + TPOOL__ROUND_UP(sizeof(tpool__large)) : (char *)extra + head;
        memcpy(*value, task->arg, task->arg_size);
    }
    return extra;
}
static inline bool tpool__needs_extra(const tpool_task *task) {
    return task && (task->arg_size || task->arg_free || task->name || task->priority || task->expires_ns > 0 ||
                    task->run_limit_ns > 0 || task->timeout_ns > 0 || task->tag);
}

/* How far a task may go past what forbids a submit. The program's own are AS_ASKED, WITHIN or TIMED, so is a map's
 * first chunk. The others are the library's: a second try of a submit, a map's further chunks, the helpers of a loop.
 * WITHIN waits for room whatever the policy. TIMED is AS_ASKED with a deadline that stays with the task: a backend
 * ends a task that runs then. */
typedef enum tpool__force {
    TPOOL__IF_ROOM, /* TPOOL_FULL without room, whatever the policy */
    TPOOL__AS_ASKED,
    TPOOL__WITHIN,
    TPOOL__TIMED,
    TPOOL__PAST_CAPACITY,
    TPOOL__PAST_SHUTDOWN
} tpool__force;

static tpool_status tpool__enqueue(tpool *pool, tpool__entry *entry, int64_t deadline, tpool__force force);

static tpool_status tpool__completions_reserve(tpool_completions *completions, tpool_future *task);
static void tpool__completions_unreserve(tpool_future *task);
/* Frees a task that was never placed: no other thread knows it. */
static void tpool__unplaced_free(tpool_future *task) {
    if (task->nodes) tpool__completions_unreserve(task);
    tpool__store_relaxed(&task->outcome, 0); /* it may be a stamp; relaxed: not shared */
    (void)tpool__task_dispose(task);         /* no result yet, so nothing is listed */
}

/* A chunk's function is the library's own: the worker's thread executes it, and it hands over the items. */
static inline bool tpool__is_chunk(tpool_fn fn) { return fn == tpool__chunk_execute; }

/* `task` holds what the task has besides function and argument, or is NULL. */
static TPOOL__NOINLINE bool tpool__run_after_submit(tpool_future *task, bool wanted, tpool_status status);
static tpool_status tpool__submit(tpool *pool, tpool_fn fn, void *arg, const tpool_task *task, tpool_future **future,
                                  int64_t deadline, tpool__force force) {
    bool copied = task && task->arg_size;
    if (!pool || !fn || (copied && !arg)) return TPOOL_INVALID;
    if (tpool__is_foreign(pool)) return TPOOL_BROKEN;
    if (tpool__executes_elsewhere(pool) && arg && !copied && !tpool__is_chunk(fn)) return TPOOL_INVALID; /* by value */
    tpool__entry entry;
    entry.fn = fn;
    entry.arg = arg;
    entry.task = NULL;
    uint32_t observed = tpool__observed(pool);
    bool numbered = (observed & TPOOL__NUMBERED) != 0;
    int64_t now = observed ? tpool__clock() : 0;
    entry.stamp = observed & TPOOL__MEASURED ? tpool__stamp(now) : 0;
    bool timed = force == TPOOL__TIMED && tpool__executes_elsewhere(pool) && deadline != TPOOL_FOREVER;
    tpool_completions *completions = task ? task->completions : NULL;
    if (future || tpool__needs_extra(task) || pool->ordered || completions || numbered) {
        tpool_future *taken = tpool__task_new(tpool__self());
        if (!taken) return TPOOL_NO_MEMORY;
        void *value = arg;
        tpool__extra *extra = NULL;
        if (tpool__needs_extra(task) || timed) {
            extra = tpool__extra_new(pool, task, &value);
            if (!extra) {
                tpool__task_free(taken);
                return TPOOL_NO_MEMORY;
            }
            if (timed) tpool__limit_add(extra, deadline, TPOOL__RUN_WITH_TIMEOUT);
        }
        tpool__task_init(taken, pool, fn, value, extra,
                         TPOOL__PHASE_PENDING | (future ? 2 * TPOOL__REFERENCE : TPOOL__REFERENCE));
        tpool__store_relaxed(&taken->outcome, entry.stamp); /* relaxed: as in tpool__task_init */
        entry.task = taken;
        tpool_status reserved = completions ? tpool__completions_reserve(completions, taken) : TPOOL_OK;
        if (reserved != TPOOL_OK) {
            tpool__unplaced_free(taken);
            return reserved;
        }
        if (!TPOOL__LIKELY(!numbered) && !tpool__observe_submit(tpool__self(), pool, taken, now)) return TPOOL_BROKEN;
    }
    tpool_status status = tpool__enqueue(pool, &entry, deadline, force);
    if (TPOOL__LIKELY(status == TPOOL_OK)) {
        if (future) *future = entry.task;
        if (!TPOOL__LIKELY(!completions) && force <= TPOOL__TIMED && tpool__self()->listed) /* an on_ready */
            (void)tpool__run_after_submit(entry.task, future != NULL, TPOOL_OK);
    } else if (entry.task) {
        if (numbered) tpool__observe_unplaced(tpool__self(), pool, entry.task, status);
        tpool__unplaced_free(entry.task);
    }
    return status;
}

static tpool_status tpool__submit_task(tpool *pool, const tpool_task *task, tpool_future **future, int64_t deadline,
                                       tpool__force force) {
    return tpool__submit(pool, task->fn, task->arg, task, future, deadline, force);
}

TPOOL_API tpool_status tpool_submit(tpool *pool, tpool_fn fn, void *arg, tpool_future **future) {
    if (future) *future = NULL;
    return tpool__submit(pool, fn, arg, NULL, future, TPOOL_FOREVER, TPOOL__AS_ASKED);
}
TPOOL_API tpool_status tpool_submit_task(tpool *pool, const tpool_task *task, tpool_future **future) {
    if (future) *future = NULL;
    return task ? tpool__submit_task(pool, task, future, TPOOL_FOREVER, TPOOL__AS_ASKED) : TPOOL_INVALID;
}
TPOOL_API tpool_status tpool_submit_within(tpool *pool, const tpool_task *task, int64_t timeout_ns,
                                           tpool_future **future) {
    if (future) *future = NULL;
    return task ? tpool__submit_task(pool, task, future, tpool__deadline(timeout_ns), TPOOL__WITHIN) : TPOOL_INVALID;
}
TPOOL_API tpool_status tpool_submit_copy(tpool *pool, tpool_fn fn, const void *arg, size_t arg_size,
                                         tpool_future **future) {
    if (future) *future = NULL;
    tpool_task task = { 0 };
    task.fn = fn;
    task.arg = (void *)(uintptr_t)arg; /* only read, to copy it */
    task.arg_size = arg_size;
    return tpool__submit_task(pool, &task, future, TPOOL_FOREVER, TPOOL__AS_ASKED);
}
TPOOL_API tpool_status tpool_submit_many(tpool *pool, const tpool_task *tasks, size_t count, tpool_future **futures,
                                         size_t *submitted) {
    tpool_status status = TPOOL_OK;
    size_t taken = 0;
    if (submitted) *submitted = 0;
    if (futures)
        for (size_t i = 0; i < count; i++) futures[i] = NULL;
    if (!pool || (!tasks && count)) return TPOOL_INVALID;
    if (tpool__is_foreign(pool)) return count > 0 ? TPOOL_BROKEN : TPOOL_OK;
    tpool__context *visit = tpool__caller_enters(pool); /* the first task may give the pool up */
    for (; taken < count && status == TPOOL_OK; taken += status == TPOOL_OK)
        status =
            tpool__submit_task(pool, &tasks[taken], futures ? &futures[taken] : NULL, TPOOL_FOREVER, TPOOL__AS_ASKED);
    if (submitted) *submitted = taken;
    if (tpool__context_pop(tpool__self(), visit)) tpool__caller_leaves(pool);
    return status;
}

/* --------------------------------------------------------------------------------------------------------------------
 *  >>enqueue  W2: the task goes into a lane
 *
 *  A worker of the pool submits into its own lane, any other thread into the inject lane; a task with a priority, and
 *  every task of a pool that drops the oldest (`ordered`), goes into the heap. A pool of one worker uses only the
 *  inject lane, which makes it exactly first in, first out. So does a bounded pool, which makes its count exact. A
 *  submit reads every flag that forbids it under the lane's spinlock: once tpool__fence_lanes has passed all
 *  spinlocks, no submitter acts on older flags.
 * ----------------------------------------------------------------------------------------------------------------- */
static tpool_status tpool__start_worker(tpool *pool);
static tpool_status tpool__enqueue_first(tpool *pool, tpool__entry *entry, int64_t deadline, tpool__force force);
static tpool_status tpool__enqueue_full(tpool *pool, tpool__entry *entry, int64_t deadline, tpool__force force);

static TPOOL__NOINLINE tpool_status tpool__refusal(tpool *pool, uint32_t flags) {
    if (flags & TPOOL__BREAK) return TPOOL_BROKEN;
    if (flags & TPOOL__SHUT) return TPOOL_SHUTDOWN;
    /* running tasks may go on to submit, for a destroy that comes later */
    if (flags & TPOOL__HALTED && !tpool__runs_program(tpool__self()->context)) return TPOOL_SHUTDOWN;
    if (flags & TPOOL__CLOSING && !tpool__is_insider(pool)) return TPOOL_SHUTDOWN;
    return TPOOL_OK;
}

/* How many tasks wait to start; exact in a bounded pool. Under the inject spinlock. */
static inline size_t tpool__waiting(tpool *pool) {
    TPOOL_ASSERT(tpool__held(&pool->inject.lock));
    return (size_t)((intptr_t)(tpool__lane_count(&pool->inject) + pool->heap_count) - pool->inject.dead);
}

static inline tpool__extra *tpool__entry_extra(const tpool__entry *entry) {
    return entry->task ? tpool__extra_of(entry->task) : NULL;
}
static inline bool tpool__entry_expires(const tpool__entry *entry) {
    const tpool__extra *extra = tpool__entry_extra(entry);
    return extra && extra->expires_at;
}
static bool tpool__completions_enter(tpool *pool, tpool_future *task);
/* A task that is about to be placed enters the pool's expiries and the iterator of its submit. False: no memory, and it
 * has entered neither. A task that is not placed yet has no waiter nodes but the one of that iterator. */
static TPOOL__NOINLINE bool tpool__enter_lists(tpool *pool, tpool_future *task) {
    return task->nodes ? tpool__completions_enter(pool, task) : tpool__expiring_enter(pool, task);
}
/* Queues a task without asking whether that is allowed. Under the lane's spinlock. */
static inline tpool_status tpool__place(tpool *pool, tpool__lane *lane, tpool__entry *entry,
                                        tpool_future **unreferenced) {
    TPOOL_ASSERT(tpool__held(&lane->lock));
    const tpool__extra *extra = tpool__entry_extra(entry);
    int priority = extra ? extra->priority : 0;
    bool lists = (extra && extra->expires_at) || (entry->task && entry->task->nodes);
    if (TPOOL__LIKELY(priority == 0 && !pool->ordered)) {
        if (!tpool__lane_reserve(pool, lane, unreferenced)) return TPOOL_NO_MEMORY;
        if (!TPOOL__LIKELY(!lists) && !tpool__enter_lists(pool, entry->task)) return TPOOL_NO_MEMORY;
        tpool__lane_push(lane, entry);
    } else {
        if (!tpool__heap_reserve(pool, unreferenced)) return TPOOL_NO_MEMORY;
        if (lists && !tpool__enter_lists(pool, entry->task)) return TPOOL_NO_MEMORY;
        tpool__heap_push(pool, entry->task, priority);
    }
    lane->submitted++;
    return TPOOL_OK;
}

/* The lane into which a worker submits tasks without a priority. */
static inline tpool__lane *tpool__lane_of(tpool__worker *worker) {
    tpool *pool = worker->pool;
    /* relaxed: after a resize the order is about the same either way */
    return !pool->capacity && tpool__load_relaxed(&pool->max_workers) > 1 ? &worker->lane : &pool->inject;
}

static inline tpool_full_policy tpool__when_full(const tpool *pool, tpool__force force) {
    return force == TPOOL__WITHIN ? TPOOL_FULL_BLOCK : pool->config.on_full;
}
/* For a task that is not placed yet: its submitter is to get a reference. The entry has one, and an iterator that is to
 * get the task has one. */
static inline bool tpool__is_wanted(tpool_future *task) {
    if (!task) return false;
    uintptr_t state = tpool__load_relaxed(&task->state); /* relaxed: not shared */
    return state >= (state & TPOOL__HAS_NODES ? 3 * TPOOL__REFERENCE : 2 * TPOOL__REFERENCE);
}
static inline bool tpool__has_room(tpool *pool);
static inline void tpool__notify(tpool *pool);
static TPOOL__NOINLINE void tpool__notify_expiry_sleeper(tpool *pool);

/* Past TPOOL__TIMED (a map's further chunks, helpers of a loop) it runs nothing that it lists: the submitter must
 * store the future first, and runs the list then. */
static tpool_status tpool__enqueue(tpool *pool, tpool__entry *entry, int64_t deadline, tpool__force force) {
    tpool__worker *worker = tpool__self()->worker;
    tpool__lane *lane = &pool->inject;
    const tpool__extra *extra = tpool__entry_extra(entry);
    if (worker && worker->pool == pool && !(extra && extra->priority)) lane = tpool__lane_of(worker);
    bool expires = extra && extra->expires_at, wanted = tpool__is_wanted(entry->task);
    tpool_future *unreferenced = NULL;
    tpool_status status = TPOOL_OK;

    tpool__spin_lock(&lane->lock);
    uint32_t flags = tpool__flags(pool);
    if (!TPOOL__LIKELY(!(flags & TPOOL__CANCELLED)) && force > TPOOL__TIMED) {
        tpool__spin_unlock(&lane->lock);
        return TPOOL_SHUTDOWN;
    }
    if (!TPOOL__LIKELY(!(flags & (TPOOL__SHUT | TPOOL__BREAK | TPOOL__CLOSING | TPOOL__HALTED))) &&
        (force != TPOOL__PAST_SHUTDOWN || flags & TPOOL__BREAK)) {
        status = tpool__refusal(pool, flags);
        if (status != TPOOL_OK) {
            tpool__spin_unlock(&lane->lock);
            return status;
        }
    }
    if (!TPOOL__LIKELY(tpool__load_relaxed(&pool->live) > 0)) { /* relaxed: see >>protocol, E3 */
        tpool__spin_unlock(&lane->lock);
        return tpool__enqueue_first(pool, entry, deadline, force);
    }
    if (pool->capacity && force <= TPOOL__TIMED && tpool__waiting(pool) >= pool->capacity) {
        if (force == TPOOL__IF_ROOM) {
            tpool__spin_unlock(&lane->lock);
            return TPOOL_FULL;
        }
        pool->callers++; /* from now on: a destroy may begin at any moment */
        tpool__spin_unlock(&lane->lock);
        return tpool__enqueue_full(pool, entry, deadline, force);
    }
    status = tpool__place(pool, lane, entry, &unreferenced);
    bool wakes = status == TPOOL_OK && tpool__has_room(pool);
    /* The task may be the one that gives the pool up: once the spinlock is open, the pool may be gone. */
    bool visits = (wakes || expires) && !(worker && worker->pool == pool);
    if (!TPOOL__LIKELY(!visits)) pool->callers++;
    tpool__spin_unlock(&lane->lock);

    if (wakes) tpool__wake_one(pool);
    if (!TPOOL__LIKELY(!expires)) tpool__notify_expiry_sleeper(pool);
    if (!TPOOL__LIKELY(!visits)) tpool__caller_leaves(pool);
    if (!TPOOL__LIKELY(unreferenced == NULL)) {
        tpool__dispose_chain(unreferenced);
        if (force <= TPOOL__TIMED) (void)tpool__run_after_submit(entry->task, wanted, status);
    }
    return status;
}

/* Starts a worker if none lives. That comes before a task is taken, since the system may refuse the thread, or the
 * backing. A submitter waits for the word on a backing until its own deadline, but not less than LAUNCH_LEAST, since a
 * fork takes a moment, and not more than LAUNCH_MOST: then the backing is the worker's to await. One submitter does so,
 * and the others wait for it, each until its deadline. */
#define TPOOL__LAUNCH_LEAST TPOOL_MS(20)
#define TPOOL__LAUNCH_MOST TPOOL_MS(200)
static tpool_status tpool__start_launched(tpool *pool, int workers, int64_t deadline);
/* Another submitter launches the first worker's backing, and there is nothing else to do but wait for that. */
static bool tpool__awaits_launch(tpool *pool) {
    TPOOL_ASSERT(tpool__held(&pool->lock));
    return pool->launching && tpool__load_relaxed(&pool->live) == 0 && /* relaxed: under its lock */
           !(tpool__flags(pool) & (TPOOL__SHUT | TPOOL__BREAK));
}
static tpool_status tpool__ensure_worker(tpool *pool, int64_t deadline) {
    tpool_status status = TPOOL_OK;
    unsigned tries = 0;
    tpool__lock(&pool->lock);
    while (tpool__awaits_launch(pool) && tpool__clock() < deadline) {
        tpool__unlock(&pool->lock);
        tpool__backoff(&tries);
        tpool__lock(&pool->lock);
    }
    /* relaxed: under its lock. Tasks forced past a shutdown come from a live worker. */
    bool lives = tpool__load_relaxed(&pool->live) > 0;
    if (!lives && tpool__flags(pool) & (TPOOL__SHUT | TPOOL__BREAK)) {
        status = tpool__refusal(pool, tpool__flags(pool));
    } else if (!lives && pool->launching) {
        status = TPOOL_TIMEOUT;
    } else if (!lives) {
        int64_t least = tpool__deadline(TPOOL__LAUNCH_LEAST), most = tpool__deadline(TPOOL__LAUNCH_MOST);
        pool->launching = true;
        status = tpool__start_launched(pool, 1, deadline < least ? least : deadline < most ? deadline : most);
        pool->launching = false;
        /* before the lock opens: a drainer may then find that the pool has ended, and free it */
        if (tpool__flags(pool) & TPOOL__SHUT) tpool__wake_drainers_if_any(pool, true);
    }
    tpool__unlock(&pool->lock);
    return status;
}
static TPOOL__NOINLINE tpool_status tpool__enqueue_first(tpool *pool, tpool__entry *entry, int64_t deadline,
                                                         tpool__force force) {
    tpool_status status = tpool__ensure_worker(pool, deadline);
    return status == TPOOL_OK ? tpool__enqueue(pool, entry, deadline, force) : status;
}


/* --------------------------------------------------------------------------------------------------------------------
 *  >>workers  Starting, waking, sleeping, ending. Lists of workers and their counts are under pool->lock. Looks at
 *  work (tpool__work_visible and the like) are under the spinlocks of lanes, or are hints; the count of searchers is
 *  in the gate.
 * ----------------------------------------------------------------------------------------------------------------- */

static void tpool__end_backing(tpool__worker *worker) {
    const tpool__backend *backend = tpool__backend_of(worker->pool);
    if (backend) backend->end(worker);
}

/* Starts a worker, which counts as searching from now on. Its own thread launches its backing, unless it is the pool's
 * first. */
static void tpool__worker_main(void *worker);
static tpool_status tpool__start_prepared(tpool *pool, tpool__worker *worker);

static void tpool__sleepers_remove(tpool *pool, tpool__worker *worker) {
    TPOOL_ASSERT(tpool__held(&pool->lock));
    tpool__link_remove(&pool->sleepers, worker);
    worker->asleep = false;
    if (pool->expiry_sleeper != worker) return;
    pool->expiry_sleeper = NULL;
    if (pool->sleepers) tpool__unpark(&pool->sleepers->parker); /* it may become the expiry sleeper */
}
static void tpool__wake_worker(tpool *pool, tpool__worker *worker) {
    TPOOL_ASSERT(tpool__held(&pool->lock));
    tpool__sleepers_remove(pool, worker);
    tpool__active_add(pool, 1);
    worker->searching = true;
    tpool__add_relaxed(&pool->gate, TPOOL__SEARCHER); /* relaxed: see >>protocol */
    tpool__stall_stops(pool, false);
    tpool__update_room(pool);
}

/* W3: if no worker searches and one more may become active, wakes or starts one. >>protocol says why relaxed will
 * do. */
static inline bool tpool__has_room(tpool *pool) { return tpool__load_relaxed(&pool->gate) == TPOOL__ROOM; }
static inline void tpool__notify(tpool *pool) {
    if (tpool__has_room(pool)) tpool__wake_one(pool);
}

static void tpool__ask(tpool *pool, bool refused);
static TPOOL__NOINLINE void tpool__wake_one(tpool *pool) {
    tpool__worker *woken = NULL;
    bool asks = false, refused = false;
    if (tpool__is_foreign(pool)) return; /* a caller's result_free forked, and this is the child */
    tpool__lock(&pool->lock);
    /* relaxed: ROOM changes under this lock. A searcher may have taken what was queued and left since. */
    if (tpool__load_relaxed(&pool->gate) == TPOOL__ROOM && tpool__work_visible(pool)) {
        asks = tpool__spares_used_up(pool);
        woken = asks ? NULL : pool->sleepers;
        if (woken) tpool__wake_worker(pool, woken);
        else if (!asks && tpool__queued_hint(pool) > pool->starting && tpool__start_worker(pool) != TPOOL_OK)
            asks = refused = tpool__load_relaxed(&pool->active) == 0; /* relaxed: under its lock */
        if (asks) tpool__caller_stays(pool);
    }
    tpool__unlock(&pool->lock);
    if (asks) {
        tpool__ask(pool, refused);
        tpool__caller_leaves(pool);
    }
    if (!woken) return;
    tpool__unpark(&woken->parker);
    tpool__self()->woke = true;
}
static tpool_status tpool__start_worker(tpool *pool) {
    TPOOL_ASSERT(tpool__held(&pool->lock));
    tpool__worker *worker = tpool__worker_slot(pool);
    if (!worker) return TPOOL_NO_MEMORY;
    /* The first of a pool whose work waits already: a caller that resumes or drains it learns whether the system
     * provides a backing. The launch has little time, since it is under the lock. relaxed: under its lock */
    const tpool__backend *backend = tpool__load_relaxed(&pool->live) == 0 ? tpool__backend_of(pool) : NULL;
    int cancel = tpool__cancel_off();
    tpool_status status = backend ? backend->launch(worker, tpool__deadline(TPOOL__LAUNCH_LEAST)) : TPOOL_OK;
    if (status == TPOOL_OK) {
        status = tpool__start_prepared(pool, worker);
        if (status != TPOOL_OK && backend) backend->end(worker);
    }
    tpool__cancel_back(cancel);
    if (status != TPOOL_OK) tpool__worker_put_away(pool, worker);
    return status;
}
static tpool_status tpool__start_prepared(tpool *pool, tpool__worker *worker) {
    TPOOL_ASSERT(tpool__held(&pool->lock));
    worker->tasks_done = 0;
    worker->searching = true;
    worker->retired = worker->in_setup = worker->set_up = false;
    worker->asleep = worker->timed = false;
    tpool__store_relaxed(&worker->parker, TPOOL__TOKEN_EMPTY); /* relaxed: its thread does not exist yet */
    tpool__active_add(pool, 1);                                /* P13: before it can add any work */
    tpool__add_relaxed(&pool->gate, TPOOL__SEARCHER);          /* relaxed: see >>protocol */
    if (!tpool__thread_start(&worker->handle, tpool__worker_main, worker, pool->config.stack_size)) {
        tpool__sub_relaxed(&pool->gate, TPOOL__SEARCHER);
        tpool__active_add(pool, -1);
        worker->searching = false;
        return TPOOL_NO_THREAD;
    }
    uintptr_t live = tpool__load_relaxed(&pool->live) + 1; /* relaxed: written under pool->lock; read: see E3 */
    tpool__store_relaxed(&pool->live, live);
    if (live > tpool__load_relaxed(&pool->max_workers))
        tpool__add_relaxed(&pool->counts[TPOOL__SPARED_COUNT], 1); /* relaxed: statistics */
    tpool__stall_stops(pool, false);
    tpool__update_room(pool);
    return TPOOL_OK;
}

/* True if fewer than `workers` live, and one more may. Under pool->lock. */
static bool tpool__may_warm_up(tpool *pool, int workers) {
    TPOOL_ASSERT(tpool__held(&pool->lock));
    uintptr_t live = tpool__load_relaxed(&pool->live); /* relaxed: under their lock */
    return live < (uintptr_t)workers && live < tpool__load_relaxed(&pool->max_workers);
}
static tpool_status tpool__closed_status(tpool *pool);
/* Starts a worker if fewer than `workers` live. Its backing is launched first, so that the caller learns whether the
 * system provides one. Under the lock, which it gives up meanwhile: others may be faster, and the pool may end. */
static tpool_status tpool__start_launched(tpool *pool, int workers, int64_t deadline) {
    TPOOL_ASSERT(tpool__held(&pool->lock));
    const tpool__backend *backend = tpool__backend_of(pool);
    if (!backend) return tpool__start_worker(pool);
    tpool__worker *worker = tpool__worker_slot(pool);
    if (!worker) return TPOOL_NO_MEMORY;
    int cancel = tpool__cancel_off();
    tpool__unlock(&pool->lock);
    tpool_status status = backend->launch(worker, deadline);
    tpool__lock(&pool->lock);
    if (status == TPOOL_OK) status = tpool__closed_status(pool);
    bool starts = status == TPOOL_OK && tpool__may_warm_up(pool, workers);
    if (starts) status = tpool__start_prepared(pool, worker);
    if (!starts || status != TPOOL_OK) {
        tpool__unlock(&pool->lock);
        tpool__end_backing(worker);
        tpool__lock(&pool->lock);
        tpool__worker_put_away(pool, worker);
    }
    tpool__cancel_back(cancel);
    return status;
}

/* Called after a change that lets work be taken again. */
static void tpool__notify_if_work(tpool *pool) {
    if (tpool__work_visible(pool)) tpool__notify(pool);
}

static void tpool__stop_searching(tpool__worker *worker) {
    if (worker->searching && tpool__leave_search(worker) && tpool__work_left(worker->pool)) tpool__notify(worker->pool);
}

/* Called after a task with an expiry was placed, or may have been, and after a pause. In a paused pool one sleeper,
 * sleeps only until the first expiry, and this one may be earlier. Each sleeper looks at the expiries
 * under pool->lock before it sleeps (tpool__keep_time): either it sees this task, or it is in the list of sleepers by
 * now. */
static TPOOL__NOINLINE void tpool__notify_expiry_sleeper(tpool *pool) {
    if (!(tpool__flags(pool) & TPOOL__PAUSED) || tpool__is_foreign(pool)) return;
    tpool__worker *woken = NULL;
    tpool__lock(&pool->lock);
    if (!pool->expiry_sleeper || tpool__expires_next(pool) < pool->expiry_sleeper_until)
        woken = pool->expiry_sleeper ? pool->expiry_sleeper : pool->sleepers;
    if (woken) tpool__unpark(&woken->parker);
    tpool__unlock(&pool->lock);
}

/* --------------------------------------------------------------------------------------------------------------------
 *  >>worker-loop  W4: a worker takes a task
 * ----------------------------------------------------------------------------------------------------------------- */

/* More workers are active than may be: spares that are not needed any more, or after a resize. */
static inline bool tpool__is_surplus(tpool *pool) {
    /* relaxed: a hint; tpool__sleep looks again under the lock */
    return tpool__load_relaxed(&pool->active) > tpool__load_relaxed(&pool->most_active);
}

/* A worker leaves that has not retired. If a task ended its thread, another worker can take its place. If its backing
 * is lost and the system refuses another, or if it was refused what it needs to begin, none can. */
typedef enum tpool__leaving { TPOOL__THREAD_ENDED, TPOOL__BACKING_LOST, TPOOL__THREAD_REFUSED } tpool__leaving;
static inline void tpool__delay_batch(tpool__worker *worker);
static void tpool__execute_entry(tpool__thread *self, const tpool__entry *entry);
static bool tpool__find(tpool__worker *worker, tpool__entry *entry);
static bool tpool__has_backing(tpool__worker *worker);
static void tpool__leave_pool(tpool__worker *worker, tpool__leaving why);
static inline void tpool__notify_idle(tpool__worker *worker);
static bool tpool__replace(tpool__worker *worker);
static bool tpool__sleep(tpool__worker *worker);
static bool tpool__spin_for_work(tpool__worker *worker, uint32_t free_time);
static inline bool tpool__take_own(tpool__worker *worker, tpool__entry *entry);
static TPOOL__NOINLINE bool tpool__take_needed(tpool__worker *worker, tpool__entry *entry);

static void tpool__work_loop(tpool__thread *self, tpool__worker *worker) {
    tpool *pool = worker->pool;
    tpool__entry entry;
    unsigned tasks = 0; /* since it slept */
    for (bool has_run = false;;) {
        if (tpool__times_unkept()) (void)tpool__times_look();
        if (!TPOOL__LIKELY(!self->listed)) (void)tpool__run_listed(self); /* of times, or results of tombstones */
        tpool__cancel_here(); /* a task has asked for it; nothing is claimed now */
        bool found = false;
        if (!TPOOL__LIKELY(!tpool__is_surplus(pool)) && !(found = tpool__take_needed(worker, &entry))) {
            tpool__notify_idle(worker);
            if (!tpool__sleep(worker)) return;
            continue;
        }
        /* a searcher that sees nothing does not become busy: a drain that only looks may come at any moment */
        if (!found && (!worker->searching || tpool__work_hinted(pool))) {
            tpool__set_busy(worker, true);
            found = tpool__take_own(worker, &entry);
            if (!found) {
                worker->ended_at = 0; /* what it does now takes time */
                tpool__delay_batch(worker);
                found = tpool__find(worker, &entry);
            }
        }
        if (found) {
            has_run = true;
            tasks++;
            tpool__stop_searching(worker);
            tpool__execute_entry(self, &entry);
            if (!TPOOL__LIKELY(!tpool__executes_elsewhere(pool)) && !tpool__has_backing(worker)) {
                tpool__run_unless_held(self); /* before it goes: no other thread has its list */
                tpool__leave_pool(worker, TPOOL__BACKING_LOST);
                return;
            }
            if (pool->config.max_tasks_per_worker && !entry.job &&
                ++worker->tasks_done >= pool->config.max_tasks_per_worker) {
                tpool__run_unless_held(self); /* likewise */
                if (tpool__replace(worker)) return;
            }
            continue;
        }
        tpool__notify_idle(worker);
        if (!worker->searching) tpool__start_searching(worker);
        /* a worker that was started in advance and has run nothing does not spin */
        if (has_run && tpool__spin_for_work(worker, tasks == 1 ? TPOOL__LITTLE_TIME : TPOOL__FREE_TIME)) continue;
        if (!tpool__sleep(worker)) return;
        tasks = 0;
    }
}

/* Claims the task of an entry just popped; the queue's reference is now the claimer's. A task that has expired is
 * claimed too, and the caller ends it. */
static inline bool tpool__claim_popped(tpool_future *task) {
    if (TPOOL__LIKELY(tpool__load_relaxed(&task->extra_word) == 0)) /* relaxed: see tpool__extra_of */
        return TPOOL__LIKELY(tpool__claim(task, TPOOL__PHASE_RUNNING + TPOOL__END_RELEASED + TPOOL__POPPED));
    uintptr_t phase = tpool__has_expired(task) ? TPOOL__PHASE_EXPIRING : TPOOL__PHASE_RUNNING;
    if (!tpool__claim(task, phase + TPOOL__END_RELEASED + TPOOL__POPPED)) return false;
    if (tpool__expires_at(task)) tpool__expiring_leave(tpool__pool_of(task), task);
    return true;
}

/* Takes the next task of the worker's own batch, without the spinlock. `taking` is set from before the swap until after
 * the claim: a thread that closes the batch waits for it, and so knows that nothing starts afterwards. */
static inline bool tpool__take_own(tpool__worker *worker, tpool__entry *entry) {
    tpool__lane *lane = &worker->lane;
    uint32_t flags = tpool__flags(worker->pool);
    if (!TPOOL__LIKELY(!(flags & (TPOOL__PAUSED | TPOOL__HALTED | TPOOL__RANKED)))) return false;
    entry->job = NULL;
    entry->stops = flags >> TPOOL__STOPS_SHIFT;
    for (;;) {
        tpool__store_relaxed(&worker->taking, 1); /* relaxed: the swap publishes it (P11) */
        bool popped = tpool__batch_pop(lane, entry, TPOOL__BATCH_CLOSED);
        bool taken = popped && (!entry->task || tpool__claim_popped(entry->task));
        tpool__store_release(&worker->taking, 0); /* P11 */
        if (TPOOL__LIKELY(taken) || !popped) return taken;
        tpool_future *unreferenced = NULL;
        tpool__spin_lock(&lane->lock);
        tpool__tombstone_drop(worker->pool, lane, entry->task, &unreferenced);
        tpool__spin_unlock(&lane->lock);
        tpool__dispose_chain(unreferenced);
    }
}

/* Where other threads submit one tiny task after the other, a worker lets some come together before it takes them,
 * since each look costs both sides a few transfers of cache lines. The delay grows while looks bring few tasks, up to a
 * few microseconds, and shrinks to nothing when they bring hardly any. */
#define TPOOL__LONGEST_BATCH_DELAY (120 * TPOOL__PAUSE_TIME)
static inline void tpool__set_batch_delay(tpool__worker *worker, unsigned taken) {
    uint32_t time = worker->batch_delay;
    if (taken < 4) time = time < 2 * TPOOL__PAUSE_TIME ? 0 : time / 2;
    else if (taken < 64) time = time * 2 + 4 * TPOOL__PAUSE_TIME;
    worker->batch_delay = time < TPOOL__LONGEST_BATCH_DELAY ? time : TPOOL__LONGEST_BATCH_DELAY;
}

/* The worker counts as searching during the delay. */
static inline void tpool__delay_batch(tpool__worker *worker) {
    if (TPOOL__LIKELY(worker->batch_delay == 0)) return;
    /* relaxed: a hint */
    if (!worker->searching && tpool__load_relaxed(&worker->pool->gate) & TPOOL__ROOM) tpool__start_searching(worker);
    tpool__pause_for(worker->batch_delay);
}

/* A pool of one worker keeps the order exactly: what another worker, a spare, has fetched comes before the rest.
 * Batches are filled from the inject lane only if this is false, and under its spinlock: under it a false stays. */
static bool tpool__others_have_batch(tpool__worker *worker) {
    for (tpool__worker *w = tpool__first_worker(worker->pool); w; w = tpool__next_worker(w))
        if (w != worker && tpool__lane_count(&w->lane) > 0) return true;
    return false;
}

/* How many tasks a worker fetches at once: twice as many as the last time if those took little time, else half as many.
 * So long tasks start in the order submitted, and tiny ones come by the hundred. */
#define TPOOL__FETCH_TIME TPOOL_US(50)
static size_t tpool__fetch_size(tpool__worker *worker) {
    int64_t now = tpool__clock();
    if (now - worker->fetched_at > TPOOL__FETCH_TIME) worker->fetch_size /= 2;
    else if (worker->fetch_size < TPOOL__SEGMENT_WORDS) worker->fetch_size = worker->fetch_size * 2 + 1;
    worker->fetched_at = now;
    return worker->fetch_size;
}

/* Moves what is left in `lane` into the worker's batch: as many as it fetches at once and, from another worker, at most
 * half. Its own lane must be empty or be `lane`. Both spinlocks are held, so that no entry is ever in neither lane. A
 * flag in TPOOL__NO_BATCHES forbids the move, so that a thread that ends what waits, lane by lane, misses nothing. The
 * own spinlock is only tried: another thief may hold it and want the other one. */
static unsigned tpool__fetch(tpool__worker *worker, tpool__lane *lane) {
    tpool *pool = worker->pool;
    tpool__lane *own = &worker->lane;
    size_t left = tpool__lane_count(lane), share = left;
    if (left == 0 || pool->capacity || tpool__batch_count(own) > 0) return 0;
    if (lane != own && lane != &pool->inject) {
        share = tpool__load_relaxed(&pool->max_workers) == 1 ? 0 : (left + 1) / 2; /* relaxed: any recent value */
    }
    size_t batch = tpool__fetch_size(worker);
    if (share > batch) share = batch;
    if (share == 0 || (lane != own && (tpool__lane_count(own) > 0 || !tpool__spin_try_lock(&own->lock)))) return 0;
    unsigned fetched = 0;
    if (!(tpool__flags(pool) & TPOOL__NO_BATCHES)) fetched = tpool__batch_fill(own, lane, share);
    if (lane != own) tpool__spin_unlock(&own->lock);
    return fetched;
}
static void tpool__grant_room(tpool *pool, tpool_future **unreferenced);

/* Takes one task from a lane. */
static bool tpool__take(tpool__worker *worker, tpool__lane *lane, tpool__entry *entry) {
    tpool *pool = worker->pool;
    tpool_future *unreferenced = NULL;
    unsigned fetched = 0;
    bool taken = false;

    tpool__spin_lock(&lane->lock);
    uint32_t flags = tpool__flags(pool);
    entry->job = NULL;
    entry->stops = flags >> TPOOL__STOPS_SHIFT;
    if (lane == &pool->inject && tpool__load_relaxed(&pool->max_workers) == 1 && /* relaxed: a resize takes time */
        tpool__others_have_batch(worker)) {
        tpool__spin_unlock(&lane->lock);
        return false;
    }
    while (!taken && !(flags & (TPOOL__PAUSED | TPOOL__HALTED)) && tpool__lane_pop(lane, entry)) {
        taken = !entry->task || tpool__claim_popped(entry->task);
        if (!taken) tpool__tombstone_drop(pool, lane, entry->task, &unreferenced);
    }
    if (taken) fetched = tpool__fetch(worker, lane);
    if (pool->capacity) tpool__grant_room(pool, &unreferenced);
    tpool__spin_unlock(&lane->lock);

    worker->turns += fetched + 1;
    if (lane == &pool->inject) tpool__set_batch_delay(worker, fetched + 1);
    if (fetched > 0) tpool__notify(pool);
    if (!TPOOL__LIKELY(unreferenced == NULL)) tpool__dispose_chain(unreferenced);
    return taken;
}

/* Takes from the heap: the first task if its priority is at least `least`, or the one that has waited longest. */
static bool tpool__take_ranked(tpool__worker *worker, tpool__entry *entry, int least, bool oldest) {
    tpool *pool = worker->pool;
    tpool_future *unreferenced = NULL;
    bool taken = false;
    tpool__spin_lock(&pool->inject.lock);
    uint32_t flags = tpool__flags(pool);
    entry->job = NULL;
    entry->stops = flags >> TPOOL__STOPS_SHIFT;
    while (!taken && !(flags & (TPOOL__PAUSED | TPOOL__HALTED)) && pool->heap_count > 0 &&
           (oldest || pool->heap[0].priority >= least)) {
        entry->task = tpool__heap_remove(pool, oldest ? tpool__heap_oldest(pool) : 0);
        taken = tpool__claim_popped(entry->task);
        if (!taken) tpool__tombstone_drop(pool, &pool->inject, entry->task, &unreferenced);
    }
    if (pool->capacity) tpool__grant_room(pool, &unreferenced);
    tpool__spin_unlock(&pool->inject.lock);
    tpool__dispose_chain(unreferenced);
    return taken;
}

static bool tpool__steal_job(tpool__worker *victim, const tpool__context *beneath, uintptr_t serial,
                             tpool__entry *entry);

static bool tpool__steal(tpool__worker *worker, tpool__entry *entry) {
    tpool *pool = worker->pool;
    tpool__worker *victim = tpool__next_worker(worker); /* starts behind itself, so that thieves spread */
    for (bool wrapped = false;; victim = tpool__next_worker(victim)) {
        if (!victim) {
            if (wrapped) return false;
            wrapped = true;
            victim = tpool__first_worker(pool);
        }
        if (victim == worker) {
            if (wrapped) return false;
            continue;
        }
        if ((tpool__lane_count(&victim->lane) > 0 && tpool__take(worker, &victim->lane, entry)) ||
            tpool__steal_job(victim, NULL, 0, entry)) {
            tpool__count_own(worker, TPOOL__STOLEN_COUNT);
            return true;
        }
    }
}

#define TPOOL__TURN 61u          /* after so many tasks a worker looks into the inject lane before its own, ... */
#define TPOOL__STEAL_TURN 16u    /* ... and one in so many of these times first at what others have fetched */
#define TPOOL__RANKED_TURN 1000u /* once in so many, lanes come before priorities, or the oldest of these first */

/* Now and then what would come last comes first, so that nothing waits for ever behind a stream of other tasks. */
static bool tpool__find_elsewhere(tpool__worker *worker, tpool__entry *entry) {
    tpool *pool = worker->pool;
    worker->turns = 0;
    if (++worker->fair_turns % TPOOL__STEAL_TURN == 0 && tpool__steal(worker, entry)) return true;
    return tpool__lane_count(&pool->inject) > 0 && tpool__take(worker, &pool->inject, entry);
}

/* The next task: high priorities, then the worker's own lane, the inject lane, others' lanes and jobs, low priorities.
 * In a pool of one worker, what another has fetched comes before the inject lane. */
static bool tpool__find(tpool__worker *worker, tpool__entry *entry) {
    tpool *pool = worker->pool;
    uint32_t flags = tpool__flags(pool);
    if (flags & (TPOOL__PAUSED | TPOOL__HALTED)) return false;
    bool ranked = (flags & TPOOL__RANKED) != 0, lanes_first = false;
    bool single = tpool__load_relaxed(&pool->max_workers) == 1; /* relaxed: a resize takes time */
    if (!TPOOL__LIKELY(!ranked)) {
        unsigned turn = worker->ranked_turns++ % (2 * TPOOL__RANKED_TURN);
        lanes_first = turn == 2 * TPOOL__RANKED_TURN - 1;
        if (turn == TPOOL__RANKED_TURN - 1 && tpool__take_ranked(worker, entry, 0, true)) return true;
        if (!lanes_first && tpool__take_ranked(worker, entry, 0, false)) return true;
    }
    if (worker->turns >= TPOOL__TURN && !single && tpool__find_elsewhere(worker, entry)) return true;
    if (tpool__lane_count(&worker->lane) > 0 && tpool__take(worker, &worker->lane, entry)) return true;
    if (single && tpool__steal(worker, entry)) return true;
    if (tpool__lane_count(&pool->inject) > 0 && tpool__take(worker, &pool->inject, entry)) return true;
    if (!single && tpool__steal(worker, entry)) return true;
    return ranked && tpool__take_ranked(worker, entry, INT_MIN, false);
}

static void tpool__execute_plain(tpool__thread *self, const tpool__entry *entry);
static bool tpool__execute_stolen_job(tpool__thread *self, const tpool__entry *entry);
static void tpool__end_unstarted(tpool_future *task, tpool__reason reason);
static bool tpool__execute_task(tpool__thread *self, tpool_future *task, uint32_t stops);

static void tpool__execute_entry(tpool__thread *self, const tpool__entry *entry) {
    if (entry->job) (void)tpool__execute_stolen_job(self, entry);
    else if (!entry->task) tpool__execute_plain(self, entry);
    /* relaxed: claimed by this thread */
    else if ((tpool__load_relaxed(&entry->task->state) & TPOOL__PHASE) == TPOOL__PHASE_EXPIRING)
        tpool__end_unstarted(entry->task, TPOOL__HAS_EXPIRED);
    else (void)tpool__execute_task(self, entry->task, entry->stops);
}

/* --------------------------------------------------------------------------------------------------------------------
 *  >>execute  W5: the task executes
 * ----------------------------------------------------------------------------------------------------------------- */

static void tpool__end_broken(void *of);
static void tpool__end_broken_rest(void *of);
static void tpool__publish_left(void *of);

/* Calls arg_free, and removes it from the task first: if it ends the thread, `left` goes on with the task. False, here
 * and below: the program's function forked, and this is the child (tpool__context_pop). */
static bool tpool__arg_done(tpool__thread *self, tpool_future *task, void (*left)(void *of)) {
    tpool__extra *extra = tpool__extra_of(task);
    void (*arg_free)(void *arg) = extra ? extra->arg_free : NULL;
    if (TPOOL__LIKELY(!arg_free)) return true;
    extra->arg_free = NULL;
    self->freeing++;
    tpool__context *context = tpool__context_push(self, TPOOL__IN_CALLBACK, tpool__pool_of(task));
    tpool__context_guard(self, context, left, task);
    context->of_end = (uintptr_t)task;         /* a wait for this task in there would never end */
    tpool__store_release(&task->runner, self); /* P7 */
    arg_free(task->value);
    if (!tpool__context_pop(self, context)) return false;
    self->freeing--;
    return true;
}

static bool tpool__report(tpool *pool, const tpool_error *error, void (*left)(void *of), void *of) {
    tpool__thread *self = tpool__self();
    tpool__forget_last_end(self); /* on_failure takes time, and is no part of the next task */
    tpool__context *context = tpool__context_push(self, TPOOL__IN_CALLBACK, pool);
    tpool__context_guard(self, context, left, of);
    pool->config.on_failure(error, pool->config.context);
    return tpool__context_pop(self, context);
}
/* The task has been counted, and its end is not published yet. */
static bool tpool__report_failure(tpool_future *task) {
    return tpool__report(tpool__pool_of(task), &tpool__outcome_load(task)->error, tpool__publish_left, task);
}

static TPOOL__NOINLINE void *tpool__call_elsewhere(tpool__thread *self, tpool_future *task, tpool_fn fn) {
    int cancel = tpool__cancel_off();
    void *result = tpool__backend_of(self->worker->pool)->execute(self, task, fn);
    tpool__cancel_back(cancel);
    return result;
}
static inline bool tpool__call(tpool__thread *self, tpool_future *task, tpool_fn fn, const tpool__extra *extra,
                               uint32_t stops, uintptr_t stamp, uint32_t observed, tpool__stopwatch *stopwatch,
                               void **result) {
    tpool *pool = tpool__pool_of(task);
    tpool__context *context = tpool__context_take(self, TPOOL__IN_TASK, pool);
    context->stops = stops;
    context->task = task;
    uintptr_t since = observed ? tpool__observe_begin(self, pool, task, context, stamp, observed, stopwatch) : 0;
    /* relaxed: the function's store publishes both */
    tpool__store_relaxed(&context->name, (uintptr_t)(extra ? extra->shown : NULL));
    tpool__store_relaxed(&context->since, since);
    tpool__store_release(&context->shows, (uintptr_t)fn); /* P19 */
    bool elsewhere = !TPOOL__LIKELY(!tpool__executes_elsewhere(pool)) && !tpool__is_chunk(fn);
    *result = elsewhere ? tpool__call_elsewhere(self, task, fn) : fn(task->value);
    return tpool__context_pop(self, context);
}

/* A worker with nothing else to do counts as searching before any thread can learn that its task is done, so that a
 * submit that follows starts no second worker. */
static inline void tpool__search_early(tpool__thread *self, tpool *pool) {
    tpool__worker *worker = self->worker;
    if (!worker || worker->pool != pool || self->context || worker->searching) return;
    /* relaxed: hints; being wrong starts a worker too many or too late by one task */
    if ((tpool__load_relaxed(&pool->gate) & TPOOL__ROOM) && tpool__lane_count(&worker->lane) == 0 &&
        tpool__lane_count(&pool->inject) == 0)
        tpool__start_searching(worker);
}

/* Continues with a task that has executed: the observer, which received its end, has ended the thread. */
static void tpool__executed_left(void *of) {
    tpool__thread *self = tpool__self();
    tpool_future *task = (tpool_future *)of;
    tpool *pool = tpool__pool_of(task);
    if (tpool__is_foreign(pool)) return;
    bool failed = tpool__has_failed(task);
    tpool__count(pool, failed ? TPOOL__FAILED_COUNT : TPOOL__COMPLETED);
    if (task != &self->plain) {
        tpool__publish(task, failed ? tpool__outcome_load(task)->error.status : TPOOL_OK);
        return;
    }
    if (failed && pool->config.on_failure && !tpool__report_failure(task)) return;
    tpool__outcome *outcome = tpool__outcome_take(task);
    if (outcome) (void)tpool__outcome_list(outcome);
}

/* A plain task has no future, so only its failure leaves anything to do. Compiled twice, here and for whole tasks: in a
 * pool without measure and observer no instruction tests for them. */
static TPOOL__INLINE void tpool__execute_plain_under(tpool__thread *self, const tpool__entry *entry,
                                                     uint32_t observed) {
    tpool_future *task = &self->plain;
    tpool *pool = self->worker->pool;
    void *result;
    tpool__task_init(task, pool, NULL, entry->arg, NULL, TPOOL__PHASE_RUNNING | TPOOL__END_RELEASED | TPOOL__REFERENCE);
    tpool__stopwatch stopwatch;
    if (!tpool__call(self, task, entry->fn, NULL, entry->stops, entry->stamp, observed, &stopwatch, &result)) return;
    if (observed) tpool__measure_end(self, pool, tpool__ends_untold(pool), &stopwatch);
    tpool__outcome *outcome = tpool__outcome_load(task);
    bool failed = outcome && outcome->kind == TPOOL__ERROR;
    if (!TPOOL__LIKELY(!(observed & TPOOL__NUMBERED)) &&
        !tpool__observe_end(self, pool, task, failed ? outcome->error.status : TPOOL_OK, stopwatch.ended))
        return;
    tpool__count_own(self->worker, failed ? TPOOL__FAILED_COUNT : TPOOL__COMPLETED);
    if (TPOOL__LIKELY(!outcome)) return;
    if (failed && pool->config.on_failure && !tpool__report_failure(task)) return;
    (void)tpool__outcome_list(outcome);
    tpool__run_unless_held(self);
}
static TPOOL__NOINLINE void tpool__execute_plain_observed(tpool__thread *self, const tpool__entry *entry) {
    tpool__execute_plain_under(self, entry, tpool__observed(self->worker->pool));
}
static void tpool__execute_plain(tpool__thread *self, const tpool__entry *entry) {
    if (TPOOL__LIKELY(!tpool__observed(self->worker->pool))) tpool__execute_plain_under(self, entry, 0);
    else tpool__execute_plain_observed(self, entry);
}

static TPOOL__INLINE bool tpool__execute_task_under(tpool__thread *self, tpool_future *task, uint32_t stops,
                                                    uint32_t observed) {
    tpool_fn fn = task->u.fn;
    void *result;
    tpool__extra *extra = tpool__extra_of(task);
    if (extra && extra->run_limit_ns) tpool__limit_add(extra, tpool__deadline(extra->run_limit_ns), TPOOL__RUN_LIMIT);
    tpool__store_release(&task->runner, self); /* P7 */
    tpool *pool = tpool__pool_of(task);
    tpool__stopwatch stopwatch;
    uintptr_t stamp = 0;
    if (observed) {
        /* relaxed: the stamp came with the entry; only this thread uses the word until the call */
        stamp = tpool__load_relaxed(&task->outcome);
        tpool__store_relaxed(&task->outcome, 0);
    }
    if (!tpool__call(self, task, fn, extra, stops, stamp, observed, &stopwatch, &result)) return false;
    if (observed) tpool__measure_end(self, pool, !extra && tpool__ends_untold(pool), &stopwatch);

    /* >>finish  W6: what the task leaves, in the order in which others may see it */
    bool failed = tpool__has_failed(task);
    if (!TPOOL__LIKELY(!extra)) {
        if (!tpool__arg_done(self, task, tpool__end_broken)) return false;
        tpool__large_give(extra);
    }
    task->value = failed ? NULL : result;
    if (!TPOOL__LIKELY(!(observed & TPOOL__NUMBERED)) &&
        !tpool__observe_end(self, pool, task, failed ? tpool__outcome_load(task)->error.status : TPOOL_OK,
                            extra ? tpool__clock() : stopwatch.ended))
        return false;
    tpool__count(tpool__pool_of(task), failed ? TPOOL__FAILED_COUNT : TPOOL__COMPLETED);
    tpool__search_early(self, tpool__pool_of(task));
    tpool__publish(task, failed ? tpool__outcome_load(task)->error.status : TPOOL_OK);
    if (!TPOOL__LIKELY(!extra)) tpool__run_unless_held(self); /* the ends that arg_free has listed */
    return true;
}
static TPOOL__NOINLINE bool tpool__execute_task_observed(tpool__thread *self, tpool_future *task, uint32_t stops) {
    return tpool__execute_task_under(self, task, stops, tpool__observed(tpool__pool_of(task)));
}
static bool tpool__execute_task(tpool__thread *self, tpool_future *task, uint32_t stops) {
    if (!TPOOL__LIKELY(!tpool__observed(tpool__pool_of(task)))) return tpool__execute_task_observed(self, task, stops);
    return tpool__execute_task_under(self, task, stops, 0);
}

/* --------------------------------------------------------------------------------------------------------------------
 *  >>publish  W7: publishes the end and notifies every waiter
 * ----------------------------------------------------------------------------------------------------------------- */
/* The last touch of the pool by a task that ended outside its queue: cancelled, expired, or executed by its submitter.
 * The later of this step and the pop of its entry (tpool__tombstone_drop) takes it out of the enders. */
static void tpool__release_outside_end(tpool_future *task) {
    tpool *pool = tpool__pool_of(task);
    /* relaxed: set at the claim, or here. In a child forked meanwhile there is nothing to release. */
    if (!pool || tpool__load_relaxed(&task->state) & TPOOL__END_RELEASED || tpool__is_foreign(pool)) return;
    tpool__spin_lock(&pool->inject.lock);
    /* relaxed: under the lock */
    if (tpool__or_relaxed(&task->state, TPOOL__END_RELEASED) & TPOOL__POPPED) pool->enders--;
    tpool__parker *asleep = tpool__wake_drainers(pool, true);
    tpool__spin_unlock(&pool->inject.lock);
    tpool__unpark_end(asleep);
}

/* Comes before a worker runs the program's code: it stops counting as searching (see tpool__search_early). */
static void tpool__stop_searching_early(tpool__thread *self) {
    tpool__forget_last_end(self);
    if (self->worker) tpool__stop_searching(self->worker);
}

static inline void tpool__publish_end(tpool_future *future, tpool_status status);

/* Publishes the end of a task that the caller has claimed, notifies all waiters, and gives up the claimer's reference.
 * Once an exchange has succeeded the future may be gone, unless the claimer's reference is still held. A failure goes
 * to on_failure first if no reference is left that could ask for it; a tombstone's does not count. */
static void tpool__publish(tpool_future *future, tpool_status status) {
    uintptr_t state = tpool__load_relaxed(&future->state); /* relaxed: the exchange orders */
    tpool *pool = tpool__pool_of(future);
    bool reported = false;
    if (status != TPOOL_OK && status != TPOOL_CANCELLED && pool && pool->config.on_failure &&
        state - ((state & (TPOOL__POPPED | TPOOL__END_RELEASED)) ? 0 : TPOOL__REFERENCE) < 2 * TPOOL__REFERENCE) {
        tpool__stop_searching_early(tpool__self());
        if (!tpool__report_failure(future)) return;
        reported = true;
    }
    tpool__publish_end(future, status);
    if (!TPOOL__LIKELY(!reported)) tpool__run_unless_held(tpool__self()); /* what on_failure has ended */
}
/* For the exit hook: on_failure has ended the thread. */
static void tpool__publish_left(void *of) {
    tpool_future *task = (tpool_future *)of;
    if (tpool__is_foreign(tpool__pool_of(task))) return;
    if (task == &tpool__self()->plain) tpool__outcome_free(tpool__outcome_take(task));
    else tpool__publish_end(task, tpool__outcome_load(task)->error.status);
}
/* The rest of tpool__publish, after on_failure. */
static inline void tpool__publish_end(tpool_future *future, tpool_status status) {
    uintptr_t end = TPOOL__PHASE_DONE + (uintptr_t)status;
    uintptr_t state = tpool__load_relaxed(&future->state); /* relaxed: the exchange below orders */
    const tpool *pool = tpool__pool_of(future);
    unsigned tries = 0;
    /* relaxed: published with the end. The tag is odd, which tells a search for cycles that it is no thread. */
    if (pool) tpool__store_relaxed(&future->runner, (tpool__thread *)pool->tag);
    for (;;) {
        if (TPOOL__LIKELY(!(state & TPOOL__HAS_NODES) && (state & TPOOL__END_RELEASED))) {
            /* P2: a thread that sees the end sees the result; P4: the last holder sees what we did */
            uintptr_t next = (state & ~TPOOL__PHASE) + end - TPOOL__REFERENCE;
            if (state & TPOOL__LOCKED) { /* another thread holds the nodes */
                tpool__backoff(&tries);
                state = tpool__load_relaxed(&future->state);
            } else if (tpool__cas_acq_rel(&future->state, &state, next)) {
                bool listed = next < TPOOL__REFERENCE && tpool__task_dispose(future);
                if (!TPOOL__LIKELY(!listed)) tpool__run_unless_held(tpool__self());
                return;
            }
        } else if (state & TPOOL__LOCKED) {
            tpool__backoff(&tries);
            state = tpool__load_relaxed(&future->state);
        } else if (tpool__cas_acq_rel(&future->state, &state, ((state & ~TPOOL__PHASE) | TPOOL__LOCKED) + end)) {
            break; /* P2, P3 */
        }
    }
    tpool__note_locked(&future->state);
    tpool__forget_last_end(tpool__self()); /* waking takes long, and is no part of the next task */
    tpool__node *node = future->nodes, *callbacks = NULL, *reversed = NULL;
    future->nodes = NULL;
    while (node) { /* the list has the newest first; callbacks run in the order added */
        tpool__node *next = node->next;
        node->next = reversed;
        reversed = node;
        node = next;
    }
    tpool__node **callbacks_end = &callbacks;
    tpool__parker *asleep = NULL;
    while (reversed) {
        node = reversed;
        reversed = node->next;
        node->link = NULL;
        if (node->done) {
            asleep = node->done(node, future, asleep);
        } else {
            node->next = NULL;
            *callbacks_end = node;
            callbacks_end = &node->next;
        }
    }
    future->nodes = callbacks;
    tpool__nodes_unlock(future, TPOOL__LOCKED | TPOOL__HAS_NODES);
    if (callbacks) { /* callbacks may take long, so the wakes come first */
        tpool__unpark_end(asleep);
        tpool__list(tpool__self(), (uintptr_t)future);
        tpool__run_unless_held(tpool__self());
        return;
    }
    tpool__release_outside_end(future);
    tpool_future_release(future);
    tpool__unpark_end(asleep);             /* last: the woken thread finds this one done with the future */
    tpool__run_unless_held(tpool__self()); /* an iterator's on_ready, or the result of a future that has gone */
}

static void tpool__count_unstarted(tpool *pool, tpool__reason reason) {
    tpool_status status = tpool__fixed_errors[reason].error.status;
    if (status == TPOOL_BROKEN) tpool__count(pool, TPOOL__FAILED_COUNT);
    else if (status == TPOOL_EXPIRED) tpool__add_release(&pool->counts[TPOOL__EXPIRED_COUNT], 1);      /* P10 */
    else if (reason == TPOOL__WAS_DROPPED) tpool__add_release(&pool->counts[TPOOL__DROPPED_COUNT], 1); /* P10 */
    else tpool__add_release(&pool->counts[TPOOL__CANCELLED_COUNT], 1);                                 /* P10 */
}

/* Ends a task that will never be executed. It has its error, and the caller holds the claimer's reference. */
static void tpool__end_claimed(tpool__thread *self, tpool_future *task) {
    if (!tpool__arg_done(self, task, tpool__end_broken_rest)) return;
    tpool__large_give(tpool__extra_of(task));
    task->value = NULL;
    tpool__observe_unrun(self, task);
    tpool__publish(task, tpool__outcome_load(task)->error.status);
}
static void tpool__chunk_ended(void *argument);
/* The caller has claimed the task. */
static void tpool__end_unstarted(tpool_future *task, tpool__reason reason) {
    tpool__thread *self = tpool__self();
    tpool *pool = tpool__pool_of(task);
    tpool__forget_last_end(self); /* its arg_free takes time, and is no part of the next task */
    if (pool) tpool__count_unstarted(pool, reason);
    tpool__store_release(&task->outcome, tpool__outcome_word(tpool__error_fixed(task, reason))); /* P9 */
    if (tpool__extra_of(task) && tpool__extra_of(task)->arg_free &&
        tpool__extra_of(task)->arg_free != tpool__chunk_ended && tpool__must_list(self))
        tpool__list(self, (uintptr_t)task);
    else tpool__end_claimed(self, task);
    tpool__run_unless_held(self); /* what arg_free has ended, and what the claim has listed */
}

/* Continues with a task that has its error and is counted, but not published. */
static void tpool__end_broken_rest(void *of) {
    tpool__thread *self = tpool__self();
    tpool_future *task = (tpool_future *)of;
    const tpool *pool = tpool__pool_of(task);
    if (pool && tpool__is_foreign(pool)) return;
    if (task != &self->plain) {
        tpool__end_claimed(self, task);
    } else {
        tpool__observe_unrun(self, task);
        if (pool->config.on_failure) (void)tpool__report_failure(task);
    }
}
/* Ends a task whose function or arg_free has ended the thread. */
static void tpool__end_broken(void *of) {
    tpool__thread *self = tpool__self();
    tpool_future *task = (tpool_future *)of;
    /* relaxed: this thread has claimed it */
    if ((tpool__load_relaxed(&task->state) & TPOOL__PHASE) == TPOOL__PHASE_RUNNING) {
        tpool__outcome *error = tpool__error_fixed(task, TPOOL__ENDED_THREAD);
        tpool__outcome *before = tpool__outcome_replace(task, error);
        if (before != error) (void)tpool__outcome_list(before);
        tpool__count(tpool__pool_of(task), TPOOL__FAILED_COUNT);
    }
    tpool__context *call = tpool__call_push(self, tpool__end_broken_rest, task);
    tpool__run_unless_held(self); /* what the task returned is freed before its end becomes visible */
    if (tpool__context_pop(self, call)) tpool__end_broken_rest(task);
}

/* --------------------------------------------------------------------------------------------------------------------
 *  >>raise  What a running task may call: raise, return, stop_requested
 * ----------------------------------------------------------------------------------------------------------------- */

/* An error with room for a message of this length, or the fixed one that says that there is no memory. */
static tpool__outcome *tpool__error_alloc(const tpool_future *task, int code, size_t length) {
    tpool__outcome *outcome = length < SIZE_MAX ? tpool__alloc_with(sizeof *outcome, length + 1) : NULL;
    if (!outcome) return tpool__fixed(TPOOL__OUT_OF_MEMORY);
    char *text = (char *)(outcome + 1);
    text[0] = 0;
    outcome->kind = TPOOL__ERROR;
    outcome->error.status = outcome->error.cause = TPOOL_FAILED;
    outcome->error.code = code;
    outcome->error.message = text;
    outcome->error.task = tpool__extra_of(task) ? tpool__extra_of(task)->name : NULL;
    return outcome;
}
static tpool__outcome *tpool__error_new(const tpool_future *task, int code, const char *format, va_list arguments) {
    va_list again;
    va_copy(again, arguments);
    int length = format ? vsnprintf(NULL, 0, format, again) : 0;
    va_end(again);
    if (length < 0) length = 0;
    tpool__outcome *outcome = tpool__error_alloc(task, code, (size_t)length);
    if (format && !outcome->is_static) vsnprintf((char *)(outcome + 1), (size_t)length + 1, format, arguments);
    return outcome;
}
static tpool__outcome *tpool__error_plain(const tpool_future *task, int code, const char *text) {
    size_t length = text ? strlen(text) : 0;
    tpool__outcome *outcome = tpool__error_alloc(task, code, length);
    if (length && !outcome->is_static) memcpy(outcome + 1, text, length + 1);
    return outcome;
}

static tpool_future *tpool__current_task(void) {
    tpool__context *context = tpool__self()->context;
    return context ? context->task : NULL;
}

TPOOL_API void *tpool_raise(int code, const char *format, ...) {
    tpool_future *task = tpool__current_task();
    if (!task || tpool__has_failed(task)) return NULL;
    va_list arguments;
    va_start(arguments, format);
    tpool__outcome *outcome = tpool__error_new(task, code, format, arguments);
    va_end(arguments);
    if (!tpool__set_outcome(task, outcome)) tpool__outcome_free(outcome);
    return NULL;
}
TPOOL_API void *tpool_raise_text(int code, const char *text) {
    tpool_future *task = tpool__current_task();
    if (!task || tpool__has_failed(task)) return NULL;
    tpool__outcome *outcome = tpool__error_plain(task, code, text);
    if (!tpool__set_outcome(task, outcome)) tpool__outcome_free(outcome);
    return NULL;
}

static tpool__outcome *tpool__bytes_new(const void *bytes, size_t size) {
    size_t head = TPOOL__ROUND_UP(sizeof(tpool__outcome));
    tpool__outcome *outcome = tpool__alloc_with(head, size ? size : 1);
    if (!outcome) return NULL;
    outcome->kind = TPOOL__BYTES;
    outcome->payload = (char *)outcome + head;
    outcome->size = size;
    if (size) memcpy(outcome->payload, bytes, size);
    return outcome;
}

TPOOL_API void *tpool_return(const void *bytes, size_t size) {
    tpool_future *task = tpool__current_task();
    if (!task || (!bytes && size) || tpool__has_failed(task)) return NULL;
    const tpool__backend *backend = tpool__works_for();
    void *payload;
    if (!TPOOL__LIKELY(!backend) && backend->give_back(task, bytes, size, &payload)) return payload;
    tpool__outcome *outcome = tpool__bytes_new(bytes, size);
    if (!outcome) {
        (void)tpool__set_outcome(task, tpool__fixed(TPOOL__OUT_OF_MEMORY));
        return NULL;
    }
    payload = outcome->payload;
    if (!tpool__set_outcome(task, outcome)) {
        tpool__outcome_free(outcome);
        return NULL;
    }
    return payload;
}

static tpool__outcome *tpool__owned_new(void *result, void (*result_free)(void *result)) {
    tpool__outcome *outcome = tpool__alloc(sizeof *outcome);
    if (!outcome) return NULL;
    outcome->kind = TPOOL__OWNED;
    outcome->payload = result;
    outcome->payload_free = result_free;
    return outcome;
}

TPOOL_API void *tpool_return_owned(void *result, void (*result_free)(void *result)) {
    tpool_future *task = tpool__current_task();
    if (!task) return NULL;
    tpool__outcome *outcome = tpool__has_failed(task) ? NULL : tpool__owned_new(result, result_free);
    if (!outcome) {
        if (!tpool__has_failed(task)) (void)tpool__set_outcome(task, tpool__fixed(TPOOL__OUT_OF_MEMORY));
        if (result_free) result_free(result);
        return NULL;
    }
    if (!tpool__set_outcome(task, outcome)) {
        tpool__outcome_free(outcome);
        return NULL;
    }
    return result;
}

#define TPOOL__STOP_LOOKS TPOOL_MS(10)
static bool tpool__limit_passed(int64_t stop_at, int64_t *again) {
    if (!stop_at) return false;
    if (stop_at < *again) *again = stop_at;
    return tpool__clock() >= stop_at;
}
static bool tpool__item_must_stop(const tpool__context *context, int64_t *again);
static const void *tpool__map_of_item(const tpool__context *context);
/* Whether what runs in the context is asked to stop. If not, *again is a time at which to look again although no thread
 * has asked: when a limit passes, or soon in a worker process, which the program asks through shared memory. Any
 * thread may call this as long as the context is not left. */
static bool tpool__is_asked_to_stop(const tpool__context *context, int64_t *again) {
    *again = TPOOL_FOREVER;
    /* a job or a part of a loop asks for the task that it belongs to, an item for its map and its chunk's task */
    while (context &&
           (context->kind == TPOOL__IN_ITEM || context->kind == TPOOL__IN_JOB || context->kind == TPOOL__IN_CALL)) {
        if (context->kind == TPOOL__IN_ITEM && tpool__item_must_stop(context, again)) return true;
        context = context->origin ? context->origin : context->outer;
    }
    if (!context || !context->task) return false;
    const tpool_future *task = context->task;
    if (tpool__load_relaxed(&task->state) & TPOOL__STOP) return true; /* relaxed: a flag and nothing else */
    const tpool__backend *backend = tpool__works_for();
    if (!TPOOL__LIKELY(!backend)) {
        if (backend->should_stop(task)) return true;
        int64_t soon = tpool__clock() + TPOOL__STOP_LOOKS;
        if (soon < *again) *again = soon;
    }
    if (context->pool && tpool__flags(context->pool) >> TPOOL__STOPS_SHIFT != context->stops) return true;
    return tpool__extra_of(task) && tpool__limit_passed(tpool__extra_of(task)->stop_at, again);
}
TPOOL_API bool tpool_stop_requested(void) {
    int64_t again;
    return tpool__is_asked_to_stop(tpool__self()->context, &again);
}

TPOOL_API size_t tpool_arg_size(void) {
    tpool_future *task = tpool__current_task();
    return task && tpool__extra_of(task) ? tpool__extra_of(task)->arg_size : 0;
}

/* --------------------------------------------------------------------------------------------------------------------
 *  >>claims  A task claimed outside its queue: cancelled, expired, executed in place
 * ----------------------------------------------------------------------------------------------------------------- */
/* The future is the parent process's. If it was pending at the fork, no thread of the child completes it. */
static bool tpool__is_orphan(tpool_future *future) {
    /* relaxed: as tpool__is_foreign. The number wraps when a child is 4,096 forks away. */
    return (future->home & TPOOL__GENERATIONS) !=
           (tpool__load_relaxed(&tpool__process.generation) & TPOOL__GENERATIONS);
}

/* A task claimed outside its queue no longer waits there. Under the lane's spinlock. */
static void tpool__lane_count_tombstone(tpool__lane *lane) {
    TPOOL_ASSERT(tpool__held(&lane->lock));
    lane->dead++;
    /* relaxed: under the lock, else a hint */
    tpool__store_relaxed(&lane->claims, tpool__load_relaxed(&lane->claims) + 1);
}

/* The same for a claimer that holds no lane's spinlock. A submitter may wait for just this room. */
static void tpool__inject_count_tombstone(tpool *pool) {
    tpool_future *unreferenced = NULL;
    tpool__spin_lock(&pool->inject.lock);
    tpool__lane_count_tombstone(&pool->inject);
    tpool__grant_room(pool, &unreferenced);
    tpool__spin_unlock(&pool->inject.lock);
    tpool__dispose_chain(unreferenced);
}

/* Ends a pending task from outside, for a caller that holds a reference. False: it is not pending any more. */
static bool tpool__claim_and_end(tpool_future *future, uintptr_t phase, tpool__reason reason) {
    tpool *pool = tpool__pool_of(future);
    if (!tpool__claim(future, phase + TPOOL__REFERENCE)) return false;
    if (pool) { /* its tombstone keeps the pool until tpool__release_outside_end */
        tpool__inject_count_tombstone(pool);
    } else {
        tpool__or_relaxed(&future->state, TPOOL__END_RELEASED); /* relaxed: no other thread reads it before the end */
    }
    tpool__end_unstarted(future, reason);
    return true;
}

/* Executes a pending task of any pool in this thread: only one that finds nothing to do, a finished loop's helper. */
static bool tpool__claim_in_place(tpool_future *future) {
    if (!tpool__contexts_ready(tpool__self())) return false;
    if (!tpool__claim(future, TPOOL__PHASE_RUNNING + TPOOL__REFERENCE)) return false;
    tpool *pool = tpool__pool_of(future);
    tpool__inject_count_tombstone(pool);
    if (tpool__execute_task(tpool__self(), future, 0)) tpool__run_unless_held(tpool__self());
    return true;
}

/* Every look at a future ends it here if it has expired in the queue. */
static inline void tpool__expire(tpool_future *future) {
    tpool__extra *extra = tpool__extra_of(future);
    if (TPOOL__LIKELY(!extra || !extra->expires_at)) return;
    /* relaxed: only a hint, the claim decides */
    if ((tpool__load_relaxed(&future->state) & TPOOL__PHASE) == TPOOL__PHASE_PENDING && tpool__has_expired(future) &&
        !tpool__is_orphan(future))
        (void)tpool__claim_and_end(future, TPOOL__PHASE_EXPIRING, TPOOL__HAS_EXPIRED);
}

/* W9: whether a worker may execute the task that it waits for: one of its own pool that has not started. A wait never
 * executes any other task: an unrelated task might want a lock that this one holds. */
static bool tpool__may_execute_in_place(tpool__thread *self, tpool_future *future) {
    tpool__worker *worker = self->worker;
    tpool *pool = tpool__pool_of(future);
    if (!worker || worker->pool != pool || tpool__executes_elsewhere(pool)) return false;
    /* relaxed: a hint, the claim decides */
    if ((tpool__load_relaxed(&future->state) & TPOOL__PHASE) != TPOOL__PHASE_PENDING) return false;
    return !tpool__is_deep(self) && tpool__contexts_ready(self);
}
static bool tpool__execute_in_place(tpool__thread *self, tpool_future *future) {
    tpool__worker *worker = self->worker;
    tpool *pool = tpool__pool_of(future);
    tpool__lane *lane = tpool__lane_of(worker);
    tpool__spin_lock(&lane->lock); /* tpool_pause passes this lock, so that nothing starts after it */
    uint32_t flags = tpool__flags(pool);
    uintptr_t *entry = tpool__lane_find(lane, future); /* if it is there, the lane's reference becomes the claimer's */
    /* HALTED does not forbid it: running tasks go on, and what they wait for is part of them. */
    bool claimed = !(flags & TPOOL__PAUSED) &&
                   tpool__claim(future, TPOOL__PHASE_RUNNING + TPOOL__END_RELEASED + (entry ? 0 : TPOOL__REFERENCE));
    tpool_future *unreferenced = NULL;
    if (claimed && tpool__expires_at(future)) tpool__expiring_leave(pool, future);
    if (claimed && entry) tpool__lane_remove(lane, entry);
    else if (claimed) tpool__lane_count_tombstone(lane);
    if (pool->capacity) tpool__grant_room(pool, &unreferenced);
    tpool__spin_unlock(&lane->lock);
    if (!TPOOL__LIKELY(unreferenced == NULL)) tpool__dispose_chain(unreferenced);
    if (!claimed) return false;
    if (worker->searching) tpool__stop_searching(worker);
    tpool__count_own(worker, TPOOL__INLINED);
    tpool *caller_pool = self->caller_pool; /* a task of another pool may lie beneath, run for its submitter */
    self->caller_pool = NULL;
    if (tpool__execute_task(self, future, flags >> TPOOL__STOPS_SHIFT)) self->caller_pool = caller_pool;
    tpool__run_unless_held(self); /* what the claim has listed */
    return true;
}

/* --------------------------------------------------------------------------------------------------------------------
 *  >>wait  W8: a thread waits for the end
 * ----------------------------------------------------------------------------------------------------------------- */

/* --------------------------------------------------------------------------------------------------------------------
 *  A wait for one future, which may be one of a set that must all be done
 * ----------------------------------------------------------------------------------------------------------------- */
typedef struct tpool__future_node {
    tpool__node node;
    tpool__waiter *waiter;
} tpool__future_node;
static tpool__parker *tpool__wake_waiter(tpool__node *node, tpool_future *future, tpool__parker *asleep) {
    (void)future;
    return tpool__unpark_begin_another(asleep, &((tpool__future_node *)(void *)node)->waiter->parker);
}

/* The expiry times of a wait's futures. Up to TPOOL__FEW of them need no memory. False: no memory. */
enum { TPOOL__FEW = 16 };
static bool tpool__expiries_begin(tpool__expiries *expiries, tpool__expiry *few, tpool_future *const *futures,
                                  size_t count) {
    size_t expiring = 0;
    memset(expiries, 0, sizeof *expiries);
    for (size_t i = 0; i < count; i++) expiring += tpool__expires_at(futures[i]) != 0 && !tpool__is_done(futures[i]);
    expiries->heap = few;
    if (expiring > TPOOL__FEW)
        expiries->heap = expiring <= SIZE_MAX / sizeof *few ? TPOOL_MALLOC(expiring * sizeof *few) : NULL;
    if (!expiries->heap) return false;
    for (size_t i = 0; i < count; i++) {
        tpool__expiry expiry = { tpool__expires_at(futures[i]), futures[i] };
        if (!expiry.at || tpool__is_done(futures[i]) || tpool__is_orphan(futures[i])) continue;
        tpool__expiry_up(expiries, expiries->count++, expiry);
    }
    return true;
}
/* Frees a wait's memory, where that is not on the stack, if what it runs ends the thread. NULL: nothing to guard. */
static void tpool__memory_left(void *of) { TPOOL_FREE(of); }
static tpool__context *tpool__memory_push(tpool__thread *self, void *memory, const void *few) {
    return memory != few ? tpool__call_push(self, tpool__memory_left, memory) : NULL;
}
static void tpool__memory_pop(tpool__thread *self, tpool__context *call, void *memory) {
    if (!call) return;
    (void)tpool__context_pop(self, call);
    TPOOL_FREE(memory);
}
/* The earliest expiry of those still pending, which may just have passed, or `until` if that comes first. */
static int64_t tpool__expiries_next(tpool__expiries *expiries, int64_t until) {
    if (!expiries) return until;
    while (expiries->count > 0 && !tpool__is_pending((tpool_future *)expiries->heap[0].of))
        (void)tpool__expiry_remove(expiries, 0);
    return expiries->count > 0 && expiries->heap[0].at < until ? expiries->heap[0].at : until;
}
static bool tpool__any_expired(const tpool__expiries *expiries) {
    return expiries && expiries->count > 0 && expiries->heap[0].at <= tpool__clock();
}
static void tpool__expire_all_due(tpool__expiries *expiries) {
    while (tpool__any_expired(expiries)) tpool__expire((tpool_future *)tpool__expiry_remove(expiries, 0));
}

/* The whole wait, of which tpool__await_in does one future. */
typedef struct tpool__wanted {
    tpool_future *const *futures; /* for the search for cycles: all that is waited for; NULL: its parts' records do */
    size_t count;
    tpool__expiries *expiries; /* the wait ends its futures when they expire */
    bool can_refuse;           /* it may end with TPOOL_NO_THREAD */
    tpool__record *record;     /* one for several waits in a row; NULL: each piece has its own */
} tpool__wanted;

/* Spins for the end. The first look comes late, and a moment passes between looks: each look takes the cache line from
 * the worker that is about to claim the task, or to write its result. A waiter that has woken a worker, and may not
 * spin at all, yields its CPU once, since the worker may be waiting for just that: this saves one sleep and wake. (A
 * round trip pinned to one CPU: 1.8 us instead of 2.15. Beside a thread that computes there 5.0 instead of 5.5; beside
 * two 11 instead of 8, mostly the system's time slices of 4 ms.) */
#define TPOOL__TIME_TO_CLAIM (7 * TPOOL__PAUSE_TIME)
#define TPOOL__TIME_TO_END (2 * TPOOL__PAUSE_TIME)
static TPOOL__NOINLINE bool tpool__spin_for_end(tpool__thread *self, tpool_future *future, int64_t deadline) {
    bool woke = self->woke, done = false, again = true;
    tpool__spin spin = tpool__spin_begin(&self->failed_spins, tpool__free_time(self), deadline);
    for (uint32_t next = TPOOL__TIME_TO_CLAIM; !done && again; next = spin.spent + TPOOL__TIME_TO_END) {
        while (again && spin.spent < next) again = tpool__spin_again(&spin);
        done = tpool__is_done(future);
    }
    tpool__spin_end(&spin, done);
    if (done || !woke || spin.spent > 0) return done;
    TPOOL__GIVE_WAY();
    return tpool__is_done(future);
}

/* The process exits, and the task is queued in the halted pool of this worker: no other worker executes it, and the
 * exit handler may wait for this one. So the worker executes it, whatever kind of wait it is in. */
static bool tpool__must_execute_halted(tpool__thread *self, tpool_future *future) {
    if (TPOOL__LIKELY(!tpool__load_relaxed(&tpool__process.exits))) return false; /* relaxed: as below */
    return tpool__may_execute_in_place(self, future) &&
           (tpool__flags(self->worker->pool) & (TPOOL__HALTED | TPOOL__PAUSED)) == TPOOL__HALTED;
}
/* The process exits, and the task is queued in a pool that was halted: no worker executes it unless that pool is
 * destroyed. The waiter gets TPOOL_BROKEN, unless it executes the task itself. No waiter misses it: the exit handler
 * sets both flags (`exits`, HALTED), then passes the lock of each queued task's nodes (tpool__notify_waiters), and the
 * waiter has passed that lock before it asks. */
static bool tpool__is_halted_for_good(tpool__thread *self, tpool_future *future) {
    if (TPOOL__LIKELY(!tpool__load_relaxed(&tpool__process.exits))) return false; /* relaxed: as above */
    tpool *pool = tpool__pool_of(future);
    if (!pool || tpool__is_done(future)) return false;
    bool may_execute = tpool__may_execute_in_place(self, future);
    uintptr_t clear = tpool__nodes_lock(future); /* while it is held, the pool of a task that is not done exists */
    bool given_up = false;
    if ((tpool__load_relaxed(&future->state) & TPOOL__PHASE) == TPOOL__PHASE_PENDING) { /* relaxed: P3 */
        uint32_t flags = tpool__flags(pool);
        given_up = flags & TPOOL__HALTED && !(may_execute && !(flags & TPOOL__PAUSED));
    }
    tpool__nodes_unlock(future, clear);
    return given_up;
}
static bool tpool__are_halted_for_good(tpool__thread *self, tpool_future *const *futures, size_t count) {
    if (TPOOL__LIKELY(!tpool__load_relaxed(&tpool__process.exits))) return false; /* relaxed: as above */
    for (size_t i = 0; i < count; i++)
        if (!tpool__is_done(futures[i]) && !tpool__is_halted_for_good(self, futures[i])) return false;
    return true;
}

/* A thread that waits for the end of a future. */
typedef struct tpool__end_waiter {
    tpool__waiter waiter;
    tpool_future *future;
    const tpool__wanted *wanted;
    tpool__future_node node;
    tpool__record own; /* for this piece alone, without wanted->record ... */
    bool is_recorded;  /* ... and if it is in use */
} tpool__end_waiter;
static TPOOL__NOINLINE void tpool__record_take_back(tpool__thread *self, tpool__record *record);
/* Comes before the program's code runs, which may wait, or end the thread. The next piece records the wait anew. */
static inline void tpool__record_suspend(tpool__thread *self, tpool__record *record) {
    if (record && record->thread) tpool__record_take_back(self, record);
}

static bool tpool__end_expire(tpool__waiter *waiter) {
    tpool__end_waiter *end = (tpool__end_waiter *)(void *)waiter;
    bool halted = tpool__must_execute_halted(waiter->self, end->future);
    if (TPOOL__LIKELY(!halted && !tpool__any_expired(end->wanted->expiries))) return false;
    tpool__record_suspend(waiter->self, waiter->record);
    if (halted) (void)tpool__execute_in_place(waiter->self, end->future);
    else tpool__expire_all_due(end->wanted->expiries);
    if (tpool__is_done(end->future)) return tpool__wait_over(waiter, TPOOL_OK);
    return tpool__is_orphan(end->future) && tpool__wait_over(waiter, TPOOL_BROKEN);
}
static void tpool__record_end(tpool__thread *self, tpool__record *record);
static void tpool__record_advance(tpool__record *record, tpool__waiter *waiter, tpool_future *const *futures,
                                  size_t count);
static void tpool__record_pause(tpool__record *record);
static bool tpool__record_wait(tpool__waiter *waiter, tpool__record *record, tpool_future *const *futures,
                               size_t count);
static bool tpool__end_enter(tpool__waiter *waiter) {
    tpool__end_waiter *end = (tpool__end_waiter *)(void *)waiter;
    const tpool__wanted *wanted = end->wanted;
    tpool__thread *self = waiter->self;
    if (tpool__is_done(end->future)) return tpool__wait_over(waiter, TPOOL_OK);
    bool records = wanted->futures && tpool__runs_program(self->context);
    tpool__record *record = waiter->record ? waiter->record : &end->own;
    if (records && waiter->record && record->thread)
        tpool__record_advance(record, waiter, wanted->futures, wanted->count);
    else if (records && !tpool__record_wait(waiter, record, wanted->futures, wanted->count))
        return tpool__wait_over(waiter, TPOOL_DEADLOCK);
    end->is_recorded = records && !waiter->record;
    if (tpool__node_add(end->future, &end->node.node)) return false;
    if (end->is_recorded) tpool__record_end(self, record);
    else if (records) tpool__record_pause(record);
    return tpool__wait_over(waiter, TPOOL_OK);
}
static bool tpool__end_look(tpool__waiter *waiter) {
    tpool__end_waiter *end = (tpool__end_waiter *)(void *)waiter;
    if (tpool__is_done(end->future)) return true;
    if (tpool__is_halted_for_good(waiter->self, end->future)) return tpool__wait_over(waiter, TPOOL_BROKEN);
    if (tpool__must_execute_halted(waiter->self, end->future)) return true;
    waiter->look_at = tpool__expiries_next(end->wanted->expiries, TPOOL_FOREVER);
    return waiter->look_at != TPOOL_FOREVER && tpool__clock() >= waiter->look_at;
}
static void tpool__end_leave(tpool__waiter *waiter) {
    tpool__end_waiter *end = (tpool__end_waiter *)(void *)waiter;
    tpool__node_remove(end->future, &end->node.node);
    if (end->is_recorded) tpool__record_end(waiter->self, &end->own);
    else if (waiter->record && waiter->record->thread) tpool__record_pause(waiter->record);
    if (tpool__is_done(end->future)) waiter->status = TPOOL_OK;
}
static const tpool__wait_kind tpool__wait_for_end = { tpool__end_expire, tpool__end_enter,          tpool__end_look,
                                                      tpool__end_leave,  "a future of the program", false };

/* TPOOL_OK: it is done. */
static tpool_status tpool__await_in(tpool_future *future, int64_t deadline, const tpool__wanted *wanted) {
    if (TPOOL__LIKELY(tpool__is_done(future))) return TPOOL_OK;
    tpool__thread *self = tpool__self();
    bool in_place = deadline == TPOOL_FOREVER && tpool__may_execute_in_place(self, future);
    if (in_place || tpool__expires_at(future)) tpool__record_suspend(self, wanted->record);
    tpool__expire(future);
    if (tpool__is_done(future)) return TPOOL_OK;
    if (tpool__is_orphan(future)) return TPOOL_BROKEN;
    if (deadline == 0) return TPOOL_TIMEOUT;
    if (wanted->futures && tpool__within_setup(tpool__pool_of(future))) return TPOOL_DEADLOCK;
    if (in_place && tpool__execute_in_place(self, future)) {
        if (tpool__is_done(future)) return TPOOL_OK;
        if (tpool__is_orphan(future)) return TPOOL_BROKEN; /* it forked, and this is the child */
    }
    if (!self->listed && tpool__spin_for_end(self, future, deadline)) return TPOOL_OK;
    tpool__end_waiter end;
    memset(&end.waiter, 0, sizeof end.waiter);
    end.waiter.can_refuse = wanted->can_refuse;
    end.waiter.record = wanted->record;
    end.waiter.awaited = future;
    end.future = future;
    end.wanted = wanted;
    end.node.node.link = NULL;
    end.node.node.done = tpool__wake_waiter;
    end.node.waiter = &end.waiter;
    return tpool__wait(&end.waiter, &tpool__wait_for_end, deadline);
}
static inline tpool_status tpool__await(tpool_future *future, int64_t deadline) {
    tpool__expiry one = { tpool__expires_at(future), future };
    tpool__expiries expiries = { &one, one.at != 0, 1, 0, NULL };
    tpool__wanted wanted = { &future, 1, &expiries, true, NULL };
    return tpool__await_in(future, deadline, &wanted);
}

/* --------------------------------------------------------------------------------------------------------------------
 *  The loop of all waits
 * ----------------------------------------------------------------------------------------------------------------- */

/* A worker that is about to sleep in a wait leaves its place among the active ones to another, which may have to be a
 * new spare worker. False: the caller is no worker, or is in its finalizer and no longer counts as one. */
static bool tpool__wait_begin(tpool__thread *self, tpool__waiter *waiter) {
    tpool__worker *worker = self->worker;
    if (!worker || worker->retired) return false;
    TPOOL_ASSERT(!self->waits);
    self->waits = true;
    tpool *pool = worker->pool;
    tpool__stop_searching(worker);
    waiter->since = 0;
    tpool *observed = tpool__pool_here(self);
    if (!TPOOL__LIKELY(!(tpool__observed(pool) | tpool__observed(observed))))
        tpool__observe_block(self, observed, waiter);
    tpool__lock(&pool->lock);
    worker->waiter = waiter;
    pool->blocked++;
    pool->starting -= worker->in_setup;
    pool->blocked_in_setup += worker->in_setup;
    tpool__active_add(pool, -1);
    tpool__waiter_link(&pool->blocked_waiters, waiter);
    tpool__update_room(pool);
    tpool__unlock(&pool->lock);
    if (!TPOOL__LIKELY(!tpool__spares_used_up(pool))) tpool__ask(pool, false);
    else if (tpool__work_visible(pool)) tpool__notify(pool);
    return true;
}
/* More workers live than the blocked ones and those that may be active. A sleeping one must wake, to start the time
 * after which it ends (TPOOL__LINGER); as it ends, it does this for the next one. */
static bool tpool__has_surplus(tpool *pool) {
    TPOOL_ASSERT(tpool__held(&pool->lock)); /* relaxed: both are written under it */
    return tpool__load_relaxed(&pool->live) - pool->blocked > tpool__load_relaxed(&pool->most_active);
}
static void tpool__time_surplus(tpool *pool) {
    if (!tpool__has_surplus(pool) || !pool->sleepers || pool->sleepers->timed) return;
    pool->sleepers->timed = true;
    tpool__unpark(&pool->sleepers->parker);
}
static void tpool__wait_end(tpool__thread *self, tpool__waiter *waiter) {
    tpool__worker *worker = self->worker;
    tpool *pool = worker->pool;
    self->waits = false;
    tpool__lock(&pool->lock);
    worker->waiter = NULL;
    pool->blocked--;
    pool->starting += worker->in_setup;
    pool->blocked_in_setup -= worker->in_setup;
    tpool__active_add(pool, 1);
    tpool__waiter_unlink(waiter);
    tpool__stall_stops(pool, waiter->status != TPOOL_TIMEOUT);
    /* relaxed: under its lock */
    if (pool->blocked < tpool__load_relaxed(&pool->max_workers) + tpool__max_spares(pool))
        pool->granted = pool->stall.level = 0;
    tpool__update_room(pool);
    tpool__time_surplus(pool);
    tpool__unlock(&pool->lock);
    tpool *observed = tpool__pool_here(self);
    if (!TPOOL__LIKELY(!tpool__observed(observed))) tpool__observe_unblock(self, observed);
}

/* Waits that a stop ends, and what tpool_on_stop has registered (>>stops). A thread that asks for a stop sets its flag,
 * then wakes the waiters whose task is asked now, and lists the calls. A waiter, or a call, first joins its list, then
 * looks: the lock orders the two (E4). */
static struct tpool__stoppable {
    tpool__lock_word lock; /* guards the lists, and the states of the calls; no other lock is taken under it */
    tpool__waiter *first;
    tpool__stop_call *calls;
} tpool__stoppable;
static void tpool__stoppable_join(tpool__waiter *waiter) {
    tpool__lock(&tpool__stoppable.lock);
    waiter->next_stoppable = tpool__stoppable.first;
    waiter->link_stoppable = &tpool__stoppable.first;
    if (waiter->next_stoppable) waiter->next_stoppable->link_stoppable = &waiter->next_stoppable;
    tpool__stoppable.first = waiter;
    tpool__unlock(&tpool__stoppable.lock);
}
static void tpool__stoppable_leave(const tpool__waiter *waiter) {
    tpool__lock(&tpool__stoppable.lock);
    *waiter->link_stoppable = waiter->next_stoppable;
    if (waiter->next_stoppable) waiter->next_stoppable->link_stoppable = waiter->link_stoppable;
    tpool__unlock(&tpool__stoppable.lock);
}
static void tpool__stop_calls_list(const void *of);
/* Called after each change of what tpool__is_asked_to_stop reads of a future, a pool or a map (`of`). The caller must
 * reach tpool__run_unless_held, when it holds no lock and before it waits for a task. */
static void tpool__wake_stopped(const void *of) {
    tpool__parker *asleep = NULL;
    tpool__lock(&tpool__stoppable.lock);
    for (tpool__waiter *waiter = tpool__stoppable.first; waiter; waiter = waiter->next_stoppable) {
        int64_t again; /* the waiter's concern */
        if (tpool__is_asked_to_stop(waiter->self->context, &again))
            asleep = tpool__unpark_begin_another(asleep, &waiter->parker);
    }
    tpool__stop_calls_list(of);
    tpool__unlock(&tpool__stoppable.lock);
    tpool__unpark_end(asleep);
}
static bool tpool__wait_stopped(tpool__waiter *waiter) {
    int64_t again;
    if (tpool__is_asked_to_stop(waiter->self->context, &again)) return tpool__wait_over(waiter, TPOOL_CANCELLED);
    if (again < waiter->look_at) waiter->look_at = again;
    return false;
}
static void tpool__ask_others(const tpool *own);

/* A piece of a wait: no code of the program runs in it. True: it ended before `until`. It keeps the times where no
 * other thread does, once it has slept and is not over; what they list is for the caller (*listed). */
static bool tpool__wait_piece(tpool__waiter *waiter, int64_t until, bool *listed) {
    tpool__thread *self = waiter->self;
    bool began = false, asked = false, slept = false, over = false, stops = waiter->can_stop && self->context;
    if (stops) tpool__stoppable_join(waiter);
    for (;;) {
        waiter->look_at = TPOOL_FOREVER;
        over = waiter->kind->look(waiter);
        if (!over && stops) over = tpool__wait_stopped(waiter);
        /* relaxed: see tpool__refuse */
        if (!over && tpool__load_relaxed(&waiter->refused)) over = tpool__wait_over(waiter, TPOOL_NO_THREAD);
        if (over || (until != TPOOL_FOREVER && tpool__clock() >= until)) break;
        /* The piece ends, and with it the place in a line, only if a time has listed something. What is listed must be
         * run by this thread, and a wait that hands over may not run it: it looks between its pieces. */
        if (slept && tpool__times_unkept())
            over = *listed = waiter->kind->hands_over ? tpool__times_due() : tpool__times_look();
        if (over) break;
        if (!began) began = tpool__wait_begin(self, waiter);
        if (!asked && self->blocked) tpool__ask_others(self->worker ? self->worker->pool : NULL);
        asked = true;
        int64_t bound = tpool__times_bound(waiter->look_at < until ? waiter->look_at : until);
        (void)tpool__park(&waiter->parker, bound);
        slept = true;
    }
    if (stops) tpool__stoppable_leave(waiter);
    waiter->kind->leave(waiter);
    if (began) tpool__wait_end(self, waiter);
    return over;
}

/* The loop of all waits. (A worker that has nothing to do is no wait: tpool__sleep.) It asks in one order:
 *      1  Is it ready? What has come is never lost to a limit that passes at the same moment. A waiter that gives up
 *         asks once more as it leaves its lists (kind->leave), where something may have been handed to it.
 *      2  Is it refused: by what it waits for (shut down, halted, closed), by a stop of its task (can_stop), or by the
 *         system (no spare worker)? A refusal says more than a passed time, which any wait may come to.
 *      3  Has its time passed?
 *      4  Then it parks. Only the first park of a piece gives up the worker's place (tpool__wait_begin).
 *
 * A wait consists of pieces. During a piece the waiter is in lists of other threads, and no code of the program runs.
 * Between pieces it is in no list, and runs what the thread has listed (>>nested), since it may wait for just that: so
 * the program's code may wait within a wait. A piece ends early if its look has listed something, or finds that
 * something has expired. Many levels deep, the first piece only waits, for TPOOL__NESTED_PATIENCE, so that callbacks
 * which end the next future and then wait do not use up the stack.
 *
 * >>protocol, E4, says why no wake is lost. */
static TPOOL__NOINLINE tpool_status tpool__wait(tpool__waiter *waiter, const tpool__wait_kind *kind, int64_t deadline) {
    tpool__thread *self = tpool__self();
    waiter->kind = kind;
    waiter->self = self;
    waiter->deadline = deadline;
    bool stuck = false; /* no memory to run the list (tpool__context_push) */
    for (bool again = false;; again = true) {
        int64_t until = deadline;
        waiter->status = TPOOL_TIMEOUT;
        if (kind->expire && kind->expire(waiter)) return waiter->status;
        if (tpool__times_unkept()) (void)tpool__times_look();
        if (!TPOOL__LIKELY(!self->listed)) {
            if (again || self->nested < TPOOL__MOST_NESTED) {
                tpool__record_suspend(self, waiter->record);
                if (!tpool__run_listed(self)) return TPOOL_BROKEN; /* a function forked, and this is the child */
                stuck = self->listed != 0;
            } else {
                int64_t soon = tpool__clock() + TPOOL__NESTED_PATIENCE;
                if (soon < until) until = soon;
            }
        }
        tpool__store_relaxed(&waiter->refused, false); /* relaxed: in no list yet */
        if (kind->enter(waiter)) return waiter->status;
        bool listed = false, early = tpool__wait_piece(waiter, until, &listed);
        if (waiter->status != TPOOL_TIMEOUT && listed && self->listed &&
            !kind->hands_over) { /* see tpool__wait_piece */
            tpool__record_suspend(self, waiter->record);
            if (self->listed && !tpool__is_held(self) && !tpool__run_listed(self)) return TPOOL_BROKEN; /* as above */
        }
        if (waiter->status != TPOOL_TIMEOUT) return waiter->status;
        if (!early && until == deadline && (!self->listed || stuck)) return TPOOL_TIMEOUT;
    }
}

/* --------------------------------------------------------------------------------------------------------------------
 *  >>stops  tpool_on_stop: the program's functions that a stop calls
 *
 *  Each registration is a tpool__stop_call. It belongs to the scope in which it was made: the innermost context of a
 *  task, an item or a stolen job. A job that its own join executes has no context: the join ends what the job leaves,
 *  and covers what was there before. The calls of a thread are a stack, as the scopes are. The end of a scope ends its
 *  calls before the context is dropped, and so before the task's end is published.
 *
 *  A thread that asks for a stop only lists the calls whose scope its request concerns (>>nested), and one that finds
 *  that a time has passed only lists that call: it may hold a lock. wake runs when that thread comes to its list. The
 *  state decides who frees the call:
 *      SET      in tpool__stoppable.calls
 *      LISTED   in a thread's list, to be called
 *      RUNS     wake is being called; the end of the scope waits for it
 *      OVER     it was called, or is withdrawn: the owner's, who frees it at the end of the scope
 *      DEAD     the scope has ended while it was LISTED: it is not called, and freed where it is listed. So no task
 *               waits for another one's wake, which may come first in that list.
 *  All states change under tpool__stoppable.lock; SET is left there, so each call is listed once.
 *
 *  What tpool__is_asked_to_stop reads of the scope and its outer contexts is written before the call is linked, and
 *  changes no more before it is unlinked: the inner scope ends first, and an origin's context outlives its jobs.
 * ----------------------------------------------------------------------------------------------------------------- */
/* tpool_on_stop was called: from then on joins look at what their jobs leave (tpool_join). A join that began before
 * does not: what its job leaves ends with the task. */
static tpool__u32 tpool__stops_used;

typedef enum tpool__stop_state {
    TPOOL__STOP_SET,
    TPOOL__STOP_LISTED,
    TPOOL__STOP_RUNS,
    TPOOL__STOP_OVER,
    TPOOL__STOP_DEAD
} tpool__stop_state;
struct tpool__stop_call {
    tpool__due due;
    tpool__stop_call *outer;     /* of the same thread; this and the next six: the owner's, and then never changed */
    const tpool__context *scope; /* NULL: the parent's, in a child of fork */
    bool covered;                /* made outside the job that runs now */
    bool is_timed;               /* the timer is, or was, armed */
    void (*wake)(void *argument);
    void *argument;
    tpool__stop_call *next, **link; /* in tpool__stoppable.calls, while it is SET */
    tpool__stop_state state;
    tpool__timer timer; /* for a time at which the scope is asked without a thread that asks */
};

/* The scope of the program's code that runs in the context; NULL: no task does. */
static const tpool__context *tpool__stop_scope(const tpool__context *context) {
    while (context && context->kind == TPOOL__IN_CALL) context = context->outer;
    return context && context->task ? context : NULL;
}
/* Under tpool__stoppable.lock, as the next four. */
static void tpool__stop_call_link(tpool__stop_call *call) {
    call->next = tpool__stoppable.calls;
    call->link = &tpool__stoppable.calls;
    if (call->next) call->next->link = &call->next;
    tpool__stoppable.calls = call;
}
static void tpool__stop_call_unlink(tpool__stop_call *call, tpool__stop_state state) {
    *call->link = call->next;
    if (call->next) call->next->link = call->link;
    call->state = state;
}
/* If the scope is asked, the call goes into the thread's list. */
static bool tpool__stop_call_list(tpool__stop_call *call, int64_t *again) {
    bool asked = tpool__is_asked_to_stop(call->scope, again);
    if (!asked) return false;
    tpool__stop_call_unlink(call, TPOOL__STOP_LISTED);
    tpool__list(tpool__self(), (uintptr_t)&call->due | 2);
    return true;
}
/* Whether the scope belongs to this future, pool or map. */
static bool tpool__stop_concerns(const tpool__context *context, const void *of) {
    while (context &&
           (context->kind == TPOOL__IN_ITEM || context->kind == TPOOL__IN_JOB || context->kind == TPOOL__IN_CALL)) {
        if (context->kind == TPOOL__IN_ITEM && tpool__map_of_item(context) == of) return true;
        context = context->origin ? context->origin : context->outer;
    }
    return context && (context->task == of || context->pool == of);
}
/* Lists the calls that this thread's request concerns. Another thread, which is about to come here for its own request,
 * lists those: their wakes are not for the locks and callbacks under which this thread may be. */
static void tpool__stop_calls_list(const void *of) {
    int64_t again; /* its timer's concern */
    for (tpool__stop_call *call = tpool__stoppable.calls, *next; call; call = next) {
        next = call->next;
        if (tpool__stop_concerns(call->scope, of)) (void)tpool__stop_call_list(call, &again);
    }
}

/* wake has returned, or has ended its thread. */
static void tpool__stop_call_over(void *of) {
    tpool__stop_call *call = (tpool__stop_call *)of;
    tpool__lock(&tpool__stoppable.lock);
    call->state = TPOOL__STOP_OVER; /* the owner may free it from the unlock on */
    tpool__unlock(&tpool__stoppable.lock);
}
static void tpool__stop_call_run(tpool__thread *self, tpool__due *due) {
    tpool__stop_call *call = (tpool__stop_call *)(void *)due;
    tpool__context *context = self->context; /* the list's */
    tpool__lock(&tpool__stoppable.lock);
    bool dead = call->state == TPOOL__STOP_DEAD;
    if (!dead) call->state = TPOOL__STOP_RUNS;
    tpool__unlock(&tpool__stoppable.lock);
    if (dead) {
        TPOOL_FREE(call);
        return;
    }
    context->pool = call->scope->pool; /* alive: the scope's end waits */
    context->left = tpool__stop_call_over;
    context->of = call;
    call->wake(call->argument);
    if (!TPOOL__LIKELY(self->context == context)) return; /* it forked, and this is the child of fork */
    context->left = NULL;
    context->pool = NULL;
    tpool__stop_call_over(call);
}
static void tpool__stop_call_timed(tpool__timer *timer) {
    tpool__stop_call *call = (tpool__stop_call *)(void *)((char *)timer - offsetof(tpool__stop_call, timer));
    int64_t again = TPOOL_FOREVER;
    tpool__lock(&tpool__stoppable.lock);
    bool waits = call->state == TPOOL__STOP_SET && !tpool__stop_call_list(call, &again);
    tpool__unlock(&tpool__stoppable.lock);
    if (waits && again != TPOOL_FOREVER) tpool__timer_arm(timer, again); /* a withdrawal waits for this, then disarms */
}

/* Withdraws a call that is in its thread's stack no more. If wake runs elsewhere, waits for its end. */
static void tpool__stop_call_end(tpool__stop_call *call) {
    unsigned tries = 0;
    tpool__lock(&tpool__stoppable.lock);
    if (call->state == TPOOL__STOP_SET) tpool__stop_call_unlink(call, TPOOL__STOP_OVER);
    if (call->is_timed) {
        tpool__unlock(&tpool__stoppable.lock);
        /* twice: a fire that had begun may arm the timer again; none that begins now does */
        for (int i = 0; i < 2; i++) {
            (void)tpool__timer_disarm(&call->timer);
            tpool__timer_await(&call->timer);
        }
        tpool__lock(&tpool__stoppable.lock);
    }
    while (call->state == TPOOL__STOP_RUNS) {
        tpool__unlock(&tpool__stoppable.lock);
        tpool__backoff(&tries);
        tpool__lock(&tpool__stoppable.lock);
    }
    bool over = call->state == TPOOL__STOP_OVER;
    if (!over) call->state = TPOOL__STOP_DEAD;
    tpool__unlock(&tpool__stoppable.lock);
    if (over) TPOOL_FREE(call);
}
static void tpool__stop_call_pop(tpool__thread *self) {
    tpool__stop_call *call = self->stop_calls;
    self->stop_calls = call->outer;
    tpool__stop_call_end(call);
}
/* The context is about to be dropped. NULL: frees only what came from the parent. */
static TPOOL__NOINLINE void tpool__stop_calls_end(tpool__thread *self, const tpool__context *context) {
    while (self->stop_calls && (self->stop_calls->scope == context || !self->stop_calls->scope))
        tpool__stop_call_pop(self);
}
/* The thread has been ended. A wake that ran in it is over. Its own calls are withdrawn before any code of the program
 * runs here: what their wakes may use lies on frames that are gone. */
static void tpool__stop_calls_left(tpool__thread *self) {
    for (tpool__context *context = self->context; context; context = context->outer) {
        if (context->left != tpool__stop_call_over) continue;
        context->left = NULL;
        context->pool = NULL; /* it may end now */
        tpool__stop_call_over(context->of);
    }
    while (self->stop_calls) tpool__stop_call_pop(self);
}
/* A join executes its own job. In a child that the job has forked there are no calls any more. */
static TPOOL__NOINLINE void *tpool__job_with_stop_calls(const tpool_job *job) {
    tpool__thread *self = tpool__self();
    tpool__stop_calls_end(self, NULL);
    tpool__stop_call *outer = self->stop_calls;
    bool covered = outer && outer->covered;
    if (outer) outer->covered = true;
    void *result = job->fn(job->arg);
    while (self->stop_calls && self->stop_calls != outer) tpool__stop_call_pop(self);
    if (outer && self->stop_calls == outer) outer->covered = covered;
    return result;
}
static void tpool__stop_calls_after_fork(tpool__thread *self) {
    tpool__store_relaxed(&tpool__stoppable.lock, TPOOL__LOCK_FREE); /* relaxed: the child has one thread */
    tpool__stoppable.first = NULL; /* the child lacks the threads that wait, and its thread has no task */
    tpool__stoppable.calls = NULL;
    /* The parent's: the next scope of this thread that ends frees them. Here the allocator may be locked. */
    for (tpool__stop_call *call = self->stop_calls; call; call = call->outer) {
        call->scope = NULL;
        call->is_timed = false;
        call->state = TPOOL__STOP_OVER;
    }
}

TPOOL_API tpool_status tpool_on_stop(void (*wake)(void *context), void *context) {
    tpool__thread *self = tpool__self();
    const tpool__context *scope = tpool__stop_scope(self->context);
    /* relaxed, twice: for this thread's joins; others see it with the next task that they take */
    if (!tpool__load_relaxed(&tpool__stops_used)) tpool__store_relaxed(&tpool__stops_used, 1);
    if (!scope) return TPOOL_INVALID_STATE;
    /* its exit hook ends the call if the task ends the thread */
    tpool__stop_call *call = wake && tpool__arm(self) ? tpool__alloc(sizeof *call) : NULL;
    if (wake && !call) return TPOOL_NO_MEMORY;
    if (self->stop_calls && self->stop_calls->scope == scope && !self->stop_calls->covered) tpool__stop_call_pop(self);
    if (!wake) return TPOOL_OK;
    int64_t again = TPOOL_FOREVER;
    call->due.call = tpool__stop_call_run;
    call->outer = self->stop_calls;
    call->scope = scope;
    call->wake = wake;
    call->argument = context;
    call->timer.fire = tpool__stop_call_timed;
    self->stop_calls = call;
    tpool__lock(&tpool__stoppable.lock);
    tpool__stop_call_link(call);
    bool asked = tpool__stop_call_list(call, &again);
    tpool__unlock(&tpool__stoppable.lock);
    call->is_timed = !asked && again != TPOOL_FOREVER;
    if (call->is_timed) tpool__timer_arm(&call->timer, again);
    tpool__run_unless_held(self);
    return TPOOL_OK;
}

/* --------------------------------------------------------------------------------------------------------------------
 *  >>result  W10: what it came to
 * ----------------------------------------------------------------------------------------------------------------- */
static inline tpool_status tpool__end_of(tpool_future *future) {
    uintptr_t state = tpool__load_acquire(&future->state); /* P2 */
    return (tpool_status)(state & (TPOOL__PHASE_DONE - 1));
}

TPOOL_API tpool_status tpool_future_result(tpool_future *future, int64_t timeout_ns, void **result) {
    if (result) *result = NULL;
    if (!future) return TPOOL_INVALID;
    if (!tpool__is_done(future)) {
        tpool_status status = tpool__await(future, tpool__deadline(timeout_ns));
        if (status != TPOOL_OK) return status;
    }
    tpool_status end = tpool__end_of(future);
    if (result && end == TPOOL_OK) *result = future->value;
    return end;
}

TPOOL_API tpool_status tpool_future_error(tpool_future *future, int64_t timeout_ns, const tpool_error **error) {
    if (error) *error = NULL;
    if (!future || !error) return TPOOL_INVALID;
    tpool_status status = tpool__await(future, tpool__deadline(timeout_ns));
    if (status != TPOOL_OK) return status;
    tpool_status end = tpool__end_of(future);
    if (end == TPOOL_OK) return TPOOL_OK;
    *error = &tpool__outcome_load(future)->error;
    return end == TPOOL_CANCELLED ? TPOOL_CANCELLED : TPOOL_OK;
}

TPOOL_API size_t tpool_future_result_size(tpool_future *future) {
    if (!future) return 0;
    tpool__expire(future);
    if (!tpool__is_done(future) || tpool__end_of(future) != TPOOL_OK) return 0;
    tpool__outcome *outcome = tpool__outcome_load(future);
    return outcome ? outcome->size : 0;
}

TPOOL_API tpool_state tpool_future_state(tpool_future *future) {
    if (!future) return TPOOL_PENDING;
    tpool__expire(future);
    uintptr_t phase = tpool__load_acquire(&future->state) & TPOOL__PHASE; /* P2 */
    if (phase == TPOOL__PHASE_RUNNING) return TPOOL_RUNNING;
    if (phase < TPOOL__PHASE_DONE) return TPOOL_PENDING;
    return phase == TPOOL__PHASE_DONE + TPOOL_CANCELLED ? TPOOL_STATE_CANCELLED : TPOOL_FINISHED;
}
TPOOL_API bool tpool_future_done(tpool_future *future) {
    tpool_state state = tpool_future_state(future);
    return state == TPOOL_FINISHED || state == TPOOL_STATE_CANCELLED;
}
TPOOL_API bool tpool_future_running(tpool_future *future) { return tpool_future_state(future) == TPOOL_RUNNING; }
TPOOL_API bool tpool_future_cancelled(tpool_future *future) {
    return tpool_future_state(future) == TPOOL_STATE_CANCELLED;
}

TPOOL_API const char *tpool_future_message(tpool_future *future) {
    if (!future) return tpool_status_text(TPOOL_INVALID);
    switch (tpool_future_state(future)) {
    case TPOOL_PENDING: return "the task has not started";
    case TPOOL_RUNNING: return "the task is running";
    case TPOOL_STATE_CANCELLED:
    case TPOOL_FINISHED:
    default: break;
    }
    tpool_status end = tpool__end_of(future);
    tpool__outcome *outcome = tpool__outcome_load(future);
    if (end != TPOOL_FAILED && end != TPOOL_CANCELLED && !(end == TPOOL_BROKEN && !outcome->is_static))
        return tpool_status_text(end); /* a dead process' message says how it died */
    return outcome->error.message;
}

TPOOL_API void *tpool_future_tag(tpool_future *future) {
    return future && tpool__extra_of(future) ? tpool__extra_of(future)->tag : NULL;
}

TPOOL_API bool tpool_future_cancel(tpool_future *future) {
    if (!future) return false;
    tpool__expire(future);
    if (!tpool__is_done(future) && tpool__is_orphan(future)) return false;
    if (tpool__claim_and_end(future, TPOOL__PHASE_CANCELLING, TPOOL__WAS_CANCELLED)) return true;
    uintptr_t phase = tpool__load_acquire(&future->state) & TPOOL__PHASE; /* P2 */
    return phase == TPOOL__PHASE_CANCELLING || phase == TPOOL__PHASE_DONE + TPOOL_CANCELLED;
}

/* Notifies what executes the task elsewhere: to stop, and with `cut` to skip the remaining items of its chunk. In this
 * process the task's STOP flag and the map's `closing` suffice. While LOCKED is held a task that runs cannot end, so
 * its pool exists. */
static void tpool__notify_to_stop(tpool_future *future, bool cut) {
    if (tpool__is_done(future) || tpool__is_orphan(future)) return;
    uintptr_t clear = tpool__nodes_lock(future);
    tpool *pool = tpool__pool_of(future);
    /* relaxed: no other thread ends it while LOCKED is set. If it does not run, its pool may be gone. */
    if (pool && (tpool__load_relaxed(&future->state) & TPOOL__PHASE) == TPOOL__PHASE_RUNNING) {
        const tpool__backend *backend = tpool__backend_of(pool);
        if (backend) backend->request_stop(pool, future, cut);
    }
    tpool__nodes_unlock(future, clear);
}

TPOOL_API void tpool_future_request_stop(tpool_future *future) {
    if (!future || tpool__is_done(future)) return;
    /* relaxed: a flag and nothing else */
    tpool__or_relaxed(&future->state, TPOOL__STOP);
    tpool__wake_stopped(future);
    tpool__notify_to_stop(future, false);
    tpool__run_unless_held(tpool__self());
}

TPOOL_API tpool_status tpool_future_add_done_callback(tpool_future *future,
                                                      void (*fn)(tpool_future *future, void *context), void *context) {
    if (!future || !fn) return TPOOL_INVALID;
    tpool__expire(future);
    if (!tpool__is_done(future)) {
        if (tpool__is_orphan(future)) return TPOOL_BROKEN;
        tpool__callback *callback = TPOOL_MALLOC(sizeof *callback);
        if (!callback) return TPOOL_NO_MEMORY;
        callback->node.done = NULL;
        callback->fn = fn;
        callback->context = context;
        if (tpool__node_add(future, &callback->node)) return TPOOL_OK;
        TPOOL_FREE(callback);
    }
    tpool__thread *self = tpool__self();
    if (!TPOOL__LIKELY(self->nested < TPOOL__MOST_NESTED)) {
        tpool__late_callback *late = TPOOL_MALLOC(sizeof *late);
        if (!late) return TPOOL_NO_MEMORY;
        late->due.call = tpool__run_late_callback;
        late->future = tpool_future_retain(future);
        late->fn = fn;
        late->context = context;
        tpool__list(self, (uintptr_t)late | 2);
        tpool__run_unless_held(self);
        return TPOOL_OK;
    }
    tpool__context *here = tpool__context_push(self, TPOOL__IN_CALLBACK, NULL);
    here->of_end = tpool__tag_of(future);
    tpool__context_guard(self, here, tpool__release_left, tpool_future_retain(future));
    self->nested++;
    fn(future, context);
    bool popped = tpool__context_pop(self, here);
    if (popped) self->nested--;
    tpool_future_release(future);
    if (popped) tpool__run_unless_held(self);
    return TPOOL_OK;
}

/* --------------------------------------------------------------------------------------------------------------------
 *  >>full-queue  W2 when the queue is full: expire, then the policy
 * ----------------------------------------------------------------------------------------------------------------- */

/* Frees a submitter's task if its thread ends before the task is placed. */
static void tpool__unplaced_left(void *of) {
    tpool_future *task = (tpool_future *)of;
    tpool *pool = tpool__pool_of(task);
    if (pool) tpool__observe_unplaced(tpool__self(), pool, task, TPOOL_BROKEN);
    tpool__unplaced_free(task);
}
static tpool__context *tpool__unplaced_push(tpool__thread *self, tpool_future *task) {
    return tpool__call_push(self, task ? tpool__unplaced_left : NULL, task);
}
/* Frees what the submitter loses if its thread ends once the task is placed or refused: the reference that it wanted,
 * or the whole task. */
static tpool__context *tpool__decided_push(tpool__thread *self, tpool_future *task, bool wanted, tpool_status status) {
    return status != TPOOL_OK ? tpool__unplaced_push(self, task)
                              : tpool__call_push(self, wanted ? tpool__release_left : NULL, task);
}
/* Runs what a submit has listed. False: a function of the program's forked, and this is the child. */
static TPOOL__NOINLINE bool tpool__run_after_submit(tpool_future *task, bool wanted, tpool_status status) {
    tpool__thread *self = tpool__self();
    tpool__context *call = tpool__decided_push(self, task, wanted, status);
    tpool__run_unless_held(self);
    return tpool__context_pop(self, call);
}

/* A function that ran within a submit has forked, and this is the child. A task that was placed is not the submitter's
 * to free: it is one of the parent's. */
static tpool_status tpool__submit_in_child(tpool_status status) { return status == TPOOL_OK ? TPOOL_OK : TPOOL_BROKEN; }

/* A submitter in a full queue. */
typedef struct tpool__room_waiter {
    tpool__waiter waiter;
    tpool *pool;
    tpool__entry *entry;
    bool granted; /* another thread placed its task, with the status `placed`, or executes it */
    bool leaves;  /* it has left the line by itself */
    tpool_status placed;
} tpool__room_waiter;

/* Another submitter is now at the head of the line: it is the one that wakes when a task in the queue expires. */
static void tpool__room_moved_up(tpool *pool) {
    TPOOL_ASSERT(tpool__held(&pool->inject.lock));
    if (pool->room && tpool__expires_next(pool) != TPOOL_FOREVER) tpool__unpark(&pool->room->parker);
}
/* Called when a bounded queue has room: places the tasks of the submitters at the head of the line, so that they keep
 * their order. If no worker lives, it wakes the first submitter instead, which starts a worker before its task is
 * placed (and passes the room on if the system refuses). Under the inject spinlock. */
static void tpool__grant_room(tpool *pool, tpool_future **unreferenced) {
    TPOOL_ASSERT(tpool__held(&pool->inject.lock));
    if (tpool__flags(pool) & (TPOOL__SHUT | TPOOL__BREAK)) return; /* the submitters are about to give up */
    const tpool__waiter *first = pool->room;
    while (pool->room && tpool__waiting(pool) < pool->capacity) {
        tpool__waiter *waiter = pool->room;
        tpool__room_waiter *room = (tpool__room_waiter *)(void *)waiter;
        if (tpool__load_relaxed(&pool->live) == 0) { /* relaxed: see >>protocol, E3 */
            tpool__unpark(&waiter->parker);
            return;
        }
        tpool__line_leave(&pool->room, &pool->room_end, waiter);
        room->placed = tpool__place(pool, &pool->inject, room->entry, unreferenced);
        room->granted = true;
        tpool__unpark(&waiter->parker);
    }
    if (pool->room != first) tpool__room_moved_up(pool);
}
/* Claims the tasks in the queue that have expired, which makes room, and lists their ends. No function of the program's
 * runs in here. True: there was one, and the caller must come to tpool__run_unless_held. */
static bool tpool__expire_waiting(tpool__thread *self, tpool *pool) {
    for (bool any = false;; any = true) {
        tpool_future *unreferenced = NULL;
        tpool__spin_lock(&pool->inject.lock); /* no submitter finds neither what has expired nor its room */
        tpool_future *expired = tpool__claim_expired(pool);
        if (expired) tpool__lane_count_tombstone(&pool->inject);
        if (expired) tpool__grant_room(pool, &unreferenced);
        tpool__spin_unlock(&pool->inject.lock);
        tpool__dispose_chain(unreferenced);
        if (!expired) return any;
        tpool__count_unstarted(pool, TPOOL__HAS_EXPIRED);
        tpool__outcome *error = tpool__error_fixed(expired, TPOOL__HAS_EXPIRED);
        tpool__store_release(&expired->outcome, tpool__outcome_word(error)); /* P9 */
        tpool__list(self, (uintptr_t)expired);
    }
}
/* Another thread may have claimed what had expired. */
static bool tpool__queue_has_room(tpool *pool) {
    tpool__spin_lock(&pool->inject.lock);
    bool has_room = tpool__waiting(pool) < pool->capacity;
    tpool__spin_unlock(&pool->inject.lock);
    return has_room;
}

static bool tpool__room_enter(tpool__waiter *waiter) {
    tpool *pool = ((tpool__room_waiter *)(void *)waiter)->pool;
    tpool__spin_lock(&pool->inject.lock);
    tpool__line_join(&pool->room_end, waiter);
    tpool__spin_unlock(&pool->inject.lock);
    return false;
}
/* The look may end what has expired, and start a worker. What it lists runs when the submitter has left the line. */
static bool tpool__room_look(tpool__waiter *waiter) {
    tpool__room_waiter *room = (tpool__room_waiter *)(void *)waiter;
    tpool *pool = room->pool;
    tpool_future *unreferenced = NULL;
    tpool_status status = TPOOL_OK;
    const tpool__thread *self = waiter->self;
    uintptr_t listed_last = self->listed ? self->listed_last : 0;
    bool lacks_worker = false;
    (void)tpool__expire_waiting(waiter->self, pool);
    tpool__spin_lock(&pool->inject.lock);
    if (!room->granted) status = tpool__refusal(pool, tpool__flags(pool));
    /* nothing makes room until a destroy, which may never come: the exit handler may wait for this thread */
    if (!room->granted && status == TPOOL_OK && tpool__flags(pool) & TPOOL__HALTED) status = TPOOL_SHUTDOWN;
    if (status == TPOOL_OK) tpool__grant_room(pool, &unreferenced); /* room may have come since the caller looked */
    bool granted = room->granted;
    if (!granted && pool->room == waiter) {
        /* relaxed: as in tpool__grant_room */
        lacks_worker = tpool__waiting(pool) < pool->capacity && tpool__load_relaxed(&pool->live) == 0;
        waiter->look_at = tpool__expires_next(pool);
    }
    tpool__spin_unlock(&pool->inject.lock);
    tpool__dispose_chain(unreferenced);
    if (granted) return true;
    if (status != TPOOL_OK) return tpool__wait_over(waiter, status);
    if (self->listed && self->listed_last != listed_last) return true; /* the look listed it */
    if (lacks_worker) {
        status = tpool__ensure_worker(pool, waiter->deadline);
        if (status == TPOOL_TIMEOUT) return false; /* its time has passed while another submitter launched */
        if (status != TPOOL_OK) return tpool__wait_over(waiter, status);
        waiter->look_at = 0; /* to be placed */
    }
    return false;
}
static void tpool__room_leave(tpool__waiter *waiter) {
    tpool__room_waiter *room = (tpool__room_waiter *)(void *)waiter;
    tpool *pool = room->pool;
    tpool_future *unreferenced = NULL;
    tpool__parker *asleep = NULL;
    tpool__spin_lock(&pool->inject.lock);
    if (!room->granted) {
        bool first = pool->room == waiter;
        room->leaves = true;
        tpool__line_leave(&pool->room, &pool->room_end, waiter);
        if (first) tpool__room_moved_up(pool);
        asleep = tpool__wake_drainers(pool, true); /* one may wait until no submitter waits */
        /* what it was woken for is the next one's: room came, or a worker that it has started meanwhile */
        if (!(tpool__flags(pool) & TPOOL__HALTED)) tpool__grant_room(pool, &unreferenced);
    }
    tpool__spin_unlock(&pool->inject.lock);
    tpool__unpark_end(asleep);
    tpool__dispose_chain(unreferenced);
    if (room->granted) waiter->status = room->placed;
}
static const tpool__wait_kind tpool__wait_for_room = {
    NULL, tpool__room_enter, tpool__room_look, tpool__room_leave, "room in a queue", true
};

/* Waits for a place in a full queue. The caller counts in `callers`. */
static tpool_status tpool__await_room(tpool *pool, tpool__entry *entry, int64_t deadline) {
    if (tpool__within_setup(pool)) return TPOOL_DEADLOCK;
    tpool__thread *self = tpool__self();
    tpool__room_waiter room = { .waiter = { .can_refuse = true }, .pool = pool, .entry = entry };
    bool wanted = tpool__is_wanted(entry->task), expires = tpool__entry_expires(entry);
    tpool__context *call = tpool__call_push(self, tpool__caller_left, pool);
    tpool__context *unplaced = tpool__unplaced_push(self, entry->task);
    tpool_status status = tpool__wait(&room.waiter, &tpool__wait_for_room, deadline);
    if (!tpool__context_pop(self, unplaced)) return TPOOL_BROKEN;
    if (status == TPOOL_OK) tpool__notify(pool);
    if (status == TPOOL_OK && expires) tpool__notify_expiry_sleeper(pool);
    /* what the last piece has listed */
    if (self->listed && !tpool__run_after_submit(entry->task, wanted, status)) return tpool__submit_in_child(status);
    return tpool__context_pop(self, call) ? status : tpool__submit_in_child(status); /* counted until here */
}

/* The most tasks that TPOOL_FULL_CALLER_RUNS runs within each other on one stack. They are counted, since the library
 * may not know where the stack of a thread ends that is no worker. */
#define TPOOL__MOST_CALLERS 16u
static inline bool tpool__may_run_for_caller(tpool__thread *self) {
    return self->callers < TPOOL__MOST_CALLERS && !(self->worker && tpool__is_deep(self));
}


/* Runs the task in the submitting thread, which counts in `callers` until it counts in `enders`. False: the pool is
 * paused or halted, so nothing may start. */
static bool tpool__caller_runs(tpool *pool, tpool__entry *entry, tpool_status *status) {
    tpool__thread *self = tpool__self();
    bool needs_task = !entry->task;
    if (needs_task) { /* for its error, and for what is left if it ends the thread */
        tpool_future *task = tpool__arm(self) ? tpool__task_new(self) : NULL;
        if (!task) {
            *status = TPOOL_NO_MEMORY;
            return true;
        }
        tpool__task_init(task, pool, entry->fn, entry->arg, NULL, TPOOL__REFERENCE);
        tpool__store_relaxed(&task->outcome, entry->stamp); /* relaxed: as in tpool__task_init */
        entry->task = task;
    } else if (!tpool__arm(self)) {
        *status = TPOOL_NO_MEMORY;
        return true;
    }
    tpool__spin_lock(&pool->inject.lock);
    uint32_t flags = tpool__flags(pool);
    *status = tpool__refusal(pool, flags);
    bool runs = *status == TPOOL_OK && !(flags & (TPOOL__PAUSED | TPOOL__HALTED));
    if (runs) {
        pool->inject.submitted++;
        pool->enders++;
        pool->callers--;
    }
    tpool__spin_unlock(&pool->inject.lock);
    if (!runs) {
        if (needs_task) {
            tpool__task_free(entry->task);
            entry->task = NULL;
        }
        return *status != TPOOL_OK;
    }
    bool expired = tpool__has_expired(entry->task);
    /* relaxed: not shared yet. POPPED without END_RELEASED: its end takes it from `enders`. */
    tpool__add_relaxed(&entry->task->state, (expired ? TPOOL__PHASE_EXPIRING : TPOOL__PHASE_RUNNING) | TPOOL__POPPED);
    bool wanted = tpool__is_wanted(entry->task); /* before the iterator shares it */
    if (entry->task->nodes) (void)tpool__completions_enter(NULL, entry->task);
    tpool *outer = self->caller_pool;
    tpool__context *call = tpool__decided_push(self, entry->task, wanted, TPOOL_OK);
    self->caller_pool = pool;
    self->callers++;
    if (expired) tpool__end_unstarted(entry->task, TPOOL__HAS_EXPIRED);
    if ((expired || tpool__execute_task(self, entry->task, flags >> TPOOL__STOPS_SHIFT)) &&
        tpool__context_pop(self, call)) {
        self->caller_pool = outer;
        self->callers--;
    }
    return true;
}

/* Claims the task that has waited longest and takes its place, in one step under the spinlock; then ends it. It claims
 * only one: the end of one runs functions of the program's, and these may wait for the end of another. So what was
 * forced past the capacity stays over it for a while. */
static tpool_status tpool__drop_oldest(tpool *pool, tpool__entry *entry, int64_t deadline) {
    tpool__thread *self = tpool__self();
    tpool_future *unreferenced = NULL, *dropped = NULL;
    tpool_status status = TPOOL_OK;
    bool wanted = tpool__is_wanted(entry->task);
    tpool__spin_lock(&pool->inject.lock);
    uint32_t flags = tpool__flags(pool);
    status = tpool__refusal(pool, flags);
    if (status == TPOOL_OK && tpool__load_relaxed(&pool->live) == 0) { /* relaxed: see >>protocol, E3 */
        tpool__spin_unlock(&pool->inject.lock);
        return tpool__enqueue_first(pool, entry, deadline, TPOOL__AS_ASKED);
    }
    bool expires = tpool__entry_expires(entry);
    if (status == TPOOL_OK && !tpool__heap_reserve(pool, &unreferenced)) status = TPOOL_NO_MEMORY;
    bool lists = expires || entry->task->nodes;
    if (status == TPOOL_OK && lists && !tpool__enter_lists(pool, entry->task)) status = TPOOL_NO_MEMORY;
    while (status == TPOOL_OK && !dropped && pool->heap_count > 0 && tpool__waiting(pool) >= pool->capacity) {
        tpool_future *oldest = tpool__heap_remove(pool, tpool__heap_oldest(pool));
        if (tpool__claim(oldest, TPOOL__PHASE_CANCELLING + TPOOL__POPPED)) dropped = oldest;
        else tpool__tombstone_drop(pool, &pool->inject, oldest, &unreferenced);
    }
    if (dropped && tpool__expires_at(dropped)) tpool__expiring_leave(pool, dropped);
    if (status == TPOOL_OK) {
        pool->enders += dropped != NULL;
        tpool__heap_push(pool, entry->task, tpool__extra_of(entry->task) ? tpool__extra_of(entry->task)->priority : 0);
        pool->inject.submitted++;
    }
    tpool__spin_unlock(&pool->inject.lock);
    tpool__dispose_chain(unreferenced);
    if (status == TPOOL_OK) tpool__notify(pool);
    if (status == TPOOL_OK && expires) tpool__notify_expiry_sleeper(pool);
    tpool__context *call = tpool__decided_push(self, entry->task, wanted, status);
    if (dropped) tpool__end_unstarted(dropped, TPOOL__WAS_DROPPED);
    else if (unreferenced) tpool__run_unless_held(self);
    (void)tpool__context_pop(self, call); /* false: a child of fork, where the caller does no more */
    return status;
}

/* The caller counts in `callers`. */
static TPOOL__NOINLINE tpool_status tpool__enqueue_full(tpool *pool, tpool__entry *entry, int64_t deadline,
                                                        tpool__force force) {
    tpool_status status = TPOOL_OK;
    tpool__thread *self = tpool__self();
    bool over = false;
    /* before any policy; the ends may fill it again */
    while (tpool__expire_waiting(self, pool) || tpool__queue_has_room(pool)) {
        tpool__context *call = tpool__call_push(self, tpool__caller_left, pool);
        tpool__context *unplaced = tpool__unplaced_push(self, entry->task);
        tpool__run_unless_held(self);
        if (!tpool__context_pop(self, unplaced) || tpool__is_foreign(pool)) return TPOOL_BROKEN;
        status = tpool__enqueue(pool, entry, deadline, TPOOL__IF_ROOM); /* still counted: it may run what it lists */
        if (!tpool__context_pop(self, call)) return tpool__submit_in_child(status);
        if (status == TPOOL_FULL) continue;
        if (status != TPOOL_OK) tpool__observe_unplaced(self, pool, entry->task, status);
        tpool__caller_leaves(pool);
        return status;
    }
    status = TPOOL_OK;
    switch (tpool__when_full(pool, force)) {
    case TPOOL_FULL_REJECT:
        tpool__add_relaxed(&pool->counts[TPOOL__REJECTED_COUNT], 1); /* relaxed: statistics */
        status = TPOOL_FULL;
        over = true;
        break;
    case TPOOL_FULL_CALLER_RUNS:
        /* too deep, or the caller cannot execute the pool's tasks: waits as with TPOOL_FULL_BLOCK */
        if (tpool__executes_elsewhere(pool) || !tpool__may_run_for_caller(self) || !tpool__contexts_ready(self)) break;
        over = tpool__caller_runs(pool, entry, &status);
        if (over && status == TPOOL_OK) return status; /* not counted any more */
        break;
    case TPOOL_FULL_DROP_OLDEST: {
        tpool__context *call = tpool__call_push(self, tpool__caller_left, pool);
        status = tpool__drop_oldest(pool, entry, deadline);
        if (!tpool__context_pop(self, call)) return tpool__submit_in_child(status);
        over = true;
        break;
    }
    case TPOOL_FULL_BLOCK:
    default: break;
    }
    if (!over && deadline != TPOOL_FOREVER && tpool__clock() >= deadline) status = TPOOL_TIMEOUT;
    else if (!over) status = tpool__await_room(pool, entry, deadline);
    if (status != TPOOL_OK) tpool__observe_unplaced(self, pool, entry->task, status);
    tpool__caller_leaves(pool);
    return status;
}

/* --------------------------------------------------------------------------------------------------------------------
 *  >>cycles  Tasks that wait for each other
 *
 *  A wait for tasks, in a task or a callback, is recorded while it sleeps. The search and the recording are one step
 *  under one lock, so the wait that closes a cycle finds it, and no other wait does. A wait that can end otherwise
 *  (may_end: it has a time limit, or waits for the first of several) closes no cycle; only the search for what a
 *  stalled pool needs follows it (>>spares). A recorded thread takes its record back, under the same lock, before it
 *  can finish any task on its stack. So while the lock is held, a task seen running on a recorded thread stays there,
 *  and ending a task retracts nothing.
 * ----------------------------------------------------------------------------------------------------------------- */
static struct {
    tpool__lock_word lock;
    tpool__record *foreign; /* those with `foreign` set */
    uint64_t searches;      /* 64 bits, never wraps: an old equal number would pass for visited */
    unsigned looks;         /* steps of the search for a need: it is bounded */
} tpool__cycles;

static bool tpool__context_has_origin(const tpool__context *context) {
    for (; context; context = context->outer)
        if (context->origin) return true;
    return false;
}

/* A search visits each record once. Adds it to those whose futures are still to be looked at. */
static void tpool__visit(tpool__record *record, tpool__record **unexplored) {
    TPOOL_ASSERT(tpool__held(&tpool__cycles.lock));
    if (record->visited == tpool__cycles.searches) return;
    record->visited = tpool__cycles.searches;
    record->unexplored = *unexplored;
    *unexplored = record;
}
static bool tpool__is_of_task_counted(const tpool__context *context, const void *future) {
    tpool__cycles.looks++;
    return tpool__is_of_task(context, future);
}
/* True: this wait holds up the task. `all`: also if it may end otherwise. */
static bool tpool__explore(tpool__record *record, const tpool_future *future, bool all, tpool__record **unexplored) {
    if (!record || (record->may_end && !all)) return false;
    if (!all && record->visited == tpool__cycles.searches) return true;
    if (!tpool__any_context(record->context, tpool__is_of_task_counted, future)) return false;
    tpool__visit(record, unexplored);
    return true;
}
/* Adds the waits that hold up this task, those in jobs and parts of loops: any of them? */
static bool tpool__explore_foreign(const tpool_future *future, bool all, tpool__record **unexplored) {
    bool any = false;
    for (tpool__record *other = tpool__cycles.foreign; other; other = other->next)
        any |= tpool__explore(other, future, all, unexplored);
    return any;
}
static bool tpool__explore_task(tpool_future *future, bool all, tpool__record **unexplored) {
    tpool__thread *runner = tpool__load_acquire(&future->runner); /* P7 */
    if ((uintptr_t)runner & 1) return false;                      /* a pool's tag: the task is about to be done */
    bool any = runner && tpool__explore(runner->blocked, future, all, unexplored);
    return tpool__explore_foreign(future, all, unexplored) || any;
}

/* True: the new record waits for one of its own tasks, directly or through other records. */
static bool tpool__closes_cycle(tpool__record *own) {
    tpool__record *unexplored = NULL;
    tpool__cycles.searches++;
    tpool__visit(own, &unexplored);
    while (unexplored) {
        tpool__record *record = unexplored;
        unexplored = record->unexplored;
        for (size_t i = 0; i < record->count; i++) {
            tpool_future *future = record->futures[i];
            /* relaxed: it cannot change for a task on a recorded thread, and does not matter for others */
            uintptr_t phase = tpool__load_relaxed(&future->state) & TPOOL__PHASE;
            if (phase == TPOOL__PHASE_PENDING || phase >= TPOOL__PHASE_DONE) continue;
            /* P7; a tag equals no thread */
            if ((tpool__load_acquire(&future->runner) == own->thread || own->foreign) &&
                tpool__any_context(own->context, tpool__is_of_task, future))
                return true;
            (void)tpool__explore_task(future, false, &unexplored);
        }
    }
    return false;
}

/* False: the wait would close a cycle. */
static bool tpool__record_enter(tpool__waiter *waiter, tpool__record *record) {
    tpool__thread *self = waiter->self;
    record->thread = self;
    record->waiter = waiter;
    record->context = self->context;
    record->foreign = tpool__context_has_origin(self->context);
    tpool__lock(&tpool__cycles.lock);
    bool cycle = !record->may_end && tpool__closes_cycle(record);
    if (!cycle) {
        self->blocked = record;
        if (record->foreign) {
            record->next = tpool__cycles.foreign;
            record->link = &tpool__cycles.foreign;
            if (record->next) record->next->link = &record->next;
            tpool__cycles.foreign = record;
        }
    }
    tpool__unlock(&tpool__cycles.lock);
    if (cycle) record->thread = NULL;
    return !cycle;
}
static bool tpool__record_wait(tpool__waiter *waiter, tpool__record *record, tpool_future *const *futures,
                               size_t count) {
    memset(record, 0, sizeof *record);
    record->futures = futures;
    record->count = count;
    record->may_end = waiter->deadline != TPOOL_FOREVER;
    return tpool__record_enter(waiter, record);
}
/* A wait for the first of several, in an array or in an iterator. */
static void tpool__record_first(tpool__waiter *waiter, tpool__record *record, tpool_future *const *futures,
                                size_t count, tpool_completions *completions) {
    memset(record, 0, sizeof *record);
    if (!tpool__runs_program(waiter->self->context)) return;
    record->futures = futures;
    record->count = count;
    record->completions = completions;
    record->may_end = true;
    (void)tpool__record_enter(waiter, record);
}
/* Fewer futures are left. No new search is needed: a cycle that formed since was found by the wait that closed it. */
static void tpool__record_advance(tpool__record *record, tpool__waiter *waiter, tpool_future *const *futures,
                                  size_t count) {
    tpool__lock(&tpool__cycles.lock);
    record->waiter = waiter;
    record->futures = futures;
    record->count = count;
    tpool__unlock(&tpool__cycles.lock);
}
/* The wait goes on with another waiter. */
static void tpool__record_pause(tpool__record *record) {
    tpool__lock(&tpool__cycles.lock);
    record->waiter = NULL;
    tpool__unlock(&tpool__cycles.lock);
}
static void tpool__record_end(tpool__thread *self, tpool__record *record) {
    tpool__lock(&tpool__cycles.lock);
    self->blocked = NULL;
    if (record->foreign && record->link) {
        *record->link = record->next;
        if (record->next) record->next->link = record->link;
    }
    tpool__unlock(&tpool__cycles.lock);
}
static TPOOL__NOINLINE void tpool__record_take_back(tpool__thread *self, tpool__record *record) {
    if (self->blocked == record) tpool__record_end(self, record); /* else this is a child of fork */
    record->thread = NULL;
}

/* --------------------------------------------------------------------------------------------------------------------
 *  >>spares  The next spare worker of a pool whose workers are all blocked
 *
 *  Spares that replace blocked workers, up to max_spares, come as any worker does: there is ROOM, and a submitter or
 *  the worker that blocks wakes or starts one (tpool__wake_one). Once that many are blocked, the spares are used up
 *  (most_active is 0), and no worker takes anything from the queue. Then tpool__ask brings one:
 *    - By need: a blocked worker of the pool waits, directly or over other recorded waits, for a task in its queue, and
 *      fewer than max_workers are active. The new worker comes at once, claims that task, looks whether another one is
 *      needed, executes its own, and looks for the next (tpool__take_needed). So nested waits need no more threads than
 *      they are deep. Likewise a worker may wait for room in its own pool's queue: the new one executes what that
 *      worker submits, which is not queued. The last submitter to block comes first, so that a tree of submits is
 *      walked depth first.
 *    - By time, while the pool is stalled: work is queued, and no worker is active. One more spare is granted until
 *      fewer are blocked than may be replaced: so the spares are not used up any more, and a worker goes on with the
 *      queue. It is granted once the pool was stalled for its patience, added up over waits that only their limit
 *      ended. Time in which a worker is active never counts. The patience is TPOOL__FIRST_PATIENCE, doubled with each
 *      grant; but TPOOL__LAST_PATIENCE if all workers wait for tasks.
 *  A worker in its initializer, active or blocked, is one that comes. While one is blocked there, the patience is
 *  TPOOL__LAST_PATIENCE, since the next one may come no further.
 *
 *  If the system refuses a worker to a stalled pool, it is asked again now and then. One wait, rather one without
 *  a limit, ends with TPOOL_NO_THREAD: at once if nothing that the workers wait for could come by itself, else once the
 *  pool was stalled for TPOOL__REFUSAL_PATIENCE.
 *
 *  A stalled pool in which a task is queued has its timer armed, or a thread is inside tpool__ask. For while it is
 *  stalled there is ROOM and no searcher: each thread that adds work, and each worker that stops being active (E2, E3),
 *  comes to tpool__wake_one or to tpool__ask, and these arm the timer if they bring no worker.
 *  A wait that begins elsewhere may close a chain to a queued task: then it asks the pools whose spares are used up
 *  (tpool__ask_others). Its record is entered before it looks at them; a pool asks after its spares are used up, and so
 *  after it is counted: one of the two sees the other, under tpool__cycles.lock. A pool whose need a search leaves out,
 *  because of its bound, gets its spare by time.
 *
 *  The timer is armed under no lock: to start a timekeeper joins the last one, whose exit takes tpool__cycles.lock. The
 *  thread that arms it is a worker, a caller, or in `fire`: so none is left when the pool is freed.
 * ----------------------------------------------------------------------------------------------------------------- */
#if !defined(TPOOL__FIRST_PATIENCE)
#define TPOOL__FIRST_PATIENCE TPOOL_MS(10)
#define TPOOL__LAST_PATIENCE TPOOL_SEC(1)
#endif
#if !defined(TPOOL__REFUSAL_PATIENCE)
#define TPOOL__REFUSAL_PATIENCE TPOOL__LAST_PATIENCE
#endif
#define TPOOL__PATIENCE_LEVELS 7 /* FIRST doubled so often reaches LAST */
#define TPOOL__MOST_NEEDED 64    /* tasks that one search finds; and futures of one wait at which it looks */
#define TPOOL__MOST_LOOKS 4000   /* waits, futures and contexts in one search: it holds locks that many threads want */

typedef struct tpool__need {
    tpool *pool;
    tpool_future *tasks[TPOOL__MOST_NEEDED]; /* in its queue, each waited for: `most` will do */
    uintptr_t count, most;
    tpool__record *record;    /* the wait for the last one of them */
    tpool__room_waiter *room; /* instead, with NULL in `tasks`: the last one is still its submitter's */
    bool outside;             /* a worker of the pool waits for what is no task, or the search has not seen all */
    bool open;                /* something that a worker waits for may come by itself */
} tpool__need;

static size_t tpool__completions_some(tpool_completions *completions, tpool_future **some, size_t most, bool *all);

/* The futures of a wait that are not done. `all`: there are no others. */
static size_t tpool__record_some(const tpool__record *record, tpool_future **some, size_t most, bool *all) {
    size_t count = 0, i = 0;
    if (record->completions) return tpool__completions_some(record->completions, some, most, all);
    for (; i < record->count && count < most && i < TPOOL__MOST_LOOKS; i++)
        if (!tpool__is_done(record->futures[i])) some[count++] = record->futures[i];
    tpool__cycles.looks += (unsigned)i;
    *all = i == record->count;
    return count;
}
static bool tpool__looks_end(tpool__need *need) {
    if (need->count < need->most && tpool__cycles.looks < TPOOL__MOST_LOOKS) return false;
    need->outside = need->open = true;
    return true;
}
/* Follows the waits from these records to tasks in the pool's queue: a pending task is in one, or is just put there. */
static void tpool__follow(tpool__record *unexplored, tpool__need *need) {
    tpool_future *some[TPOOL__MOST_NEEDED];
    while (unexplored && !tpool__looks_end(need)) {
        tpool__record *record = unexplored;
        unexplored = record->unexplored;
        bool own = record->thread->worker && record->thread->worker->pool == need->pool, all = true;
        size_t count = tpool__record_some(record, some, TPOOL__MOST_NEEDED, &all);
        need->open = need->open || record->may_end || count == 0;
        need->outside = need->outside || !all;
        for (size_t i = 0; i < count && !tpool__looks_end(need); i++) {
            uintptr_t phase = tpool__load_relaxed(&some[i]->state) & TPOOL__PHASE, known = 0; /* relaxed: as above */
            tpool *home = tpool__pool_of(some[i]);
            need->outside = need->outside || (!home && own);
            if (phase != TPOOL__PHASE_PENDING || home != need->pool) {
                bool held_up = home && phase != TPOOL__PHASE_PENDING && tpool__explore_task(some[i], true, &unexplored);
                need->open = need->open || !held_up;
                continue;
            }
            while (known < need->count && need->tasks[known] != some[i]) known++;
            if (known == need->count) need->tasks[need->count++] = some[i];
            need->record = record;
        }
    }
}
/* The waiter is a worker of the pool, and waits for room in the pool's queue. A task that expires has to go through the
 * queue. */
static bool tpool__is_own_submitter(tpool *pool, tpool__waiter *waiter) {
    tpool__room_waiter *room = (tpool__room_waiter *)(void *)waiter;
    if (waiter->kind != &tpool__wait_for_room || room->pool != pool) return false;
    tpool__spin_lock(&pool->inject.lock); /* a task that was granted its room may have ended */
    bool waits = !room->granted && !room->leaves && !tpool__entry_expires(room->entry);
    tpool__spin_unlock(&pool->inject.lock);
    return waits;
}
static const tpool__wait_kind tpool__wait_for_job;
/* Which tasks in its queue do the pool's blocked workers wait for? The last one to block is asked first: in nested
 * waits it is the one. */
static void tpool__need_of(tpool *pool, uintptr_t most, tpool__need *need) {
    TPOOL_ASSERT(tpool__held(&tpool__cycles.lock) && tpool__held(&pool->lock) && most <= TPOOL__MOST_NEEDED);
    need->pool = pool;
    need->most = most;
    tpool__cycles.searches++;
    tpool__cycles.looks = 0;
    for (tpool__waiter *waiter = pool->blocked_waiters; waiter && !tpool__looks_end(need); waiter = waiter->next) {
        tpool__record *unexplored = NULL;
        tpool__cycles.looks++;
        if (waiter->self->blocked) {
            tpool__visit(waiter->self->blocked, &unexplored);
        } else if (tpool__is_own_submitter(pool, waiter)) {
            need->tasks[need->count++] = NULL;
            need->room = (tpool__room_waiter *)(void *)waiter;
        } else if (waiter->kind != &tpool__wait_for_job && waiter->kind != &tpool__wait_for_end) {
            need->outside = need->open = true;
        } else { /* a join, or the end of a loop: others execute parts of this thread's tasks */
            bool held_up = false;
            for (const tpool__context *context = waiter->self->context; context; context = context->outer)
                held_up |= context->task && tpool__cycles.looks < TPOOL__MOST_LOOKS &&
                           tpool__explore_foreign(context->task, true, &unexplored);
            need->open = need->open || !held_up;
        }
        tpool__follow(unexplored, need);
    }
}

/* Not only tombstones are queued. */
static bool tpool__any_queued(tpool *pool) {
    intptr_t queued = 0;
    for (tpool__worker *w = tpool__first_worker(pool); w; w = tpool__next_worker(w)) {
        if (tpool__load_relaxed(&w->public_jobs) > 0) return true; /* relaxed: a hint */
        tpool__spin_lock(&w->lane.lock);
        queued += (intptr_t)tpool__lane_count(&w->lane) - w->lane.dead;
        tpool__spin_unlock(&w->lane.lock);
    }
    tpool__spin_lock(&pool->inject.lock);
    queued += (intptr_t)tpool__waiting(pool);
    tpool__spin_unlock(&pool->inject.lock);
    return queued > 0;
}
static uintptr_t tpool__executed(tpool *pool);
/* The pool is stalled. True: time brings a worker, or, if the system has refused one, ends a wait. Else `look_at` is
 * when to look again. */
static bool tpool__is_due(tpool *pool, const tpool__need *need, bool refused, int64_t *look_at) {
    TPOOL_ASSERT(tpool__held(&pool->lock));
    tpool__stall *stall = &pool->stall;
    int64_t now = tpool__clock(), patience = refused ? TPOOL__REFUSAL_PATIENCE : TPOOL__LAST_PATIENCE;
    uintptr_t executed = tpool__executed(pool);
    if (executed != stall->executed) stall->before = 0;
    stall->executed = executed;
    if (!stall->since) stall->since = now;
    if (need->outside && !refused && pool->blocked_in_setup == 0 && stall->level < TPOOL__PATIENCE_LEVELS)
        patience = TPOOL__FIRST_PATIENCE << stall->level;
    int64_t time = now - stall->since, left = patience - time - stall->before;
    if (refused && !need->open) left = 0;
    int64_t retry = time > TPOOL__FIRST_PATIENCE ? time : TPOOL__FIRST_PATIENCE;
    if (refused && left > retry) left = retry;
    *look_at = left < TPOOL_FOREVER - now ? now + left : TPOOL_FOREVER;
    if (left > 0) return false;
    stall->since = now;
    stall->before = 0;
    return true;
}
static void tpool__choose_refused(tpool__waiter *waiter, tpool__waiter **chosen) {
    const tpool__worker *worker = waiter->self->worker;
    if (!waiter->can_refuse || (worker && worker->in_setup)) return; /* an initializer would break the pool */
    if (!*chosen || waiter->deadline == TPOOL_FOREVER) *chosen = waiter;
}
/* The system refuses a worker: ends one wait, rather one of the pool's own, and one without a limit. */
static void tpool__refuse(tpool *pool, tpool__waiter *waiter) {
    tpool__waiter *chosen = NULL;
    for (tpool__waiter *own = pool->blocked_waiters; own; own = own->next) {
        if (tpool__load_relaxed(&own->refused)) return; /* relaxed: under its lock; it is about to be active */
        tpool__choose_refused(own, &chosen);
    }
    if (!chosen && waiter) tpool__choose_refused(waiter, &chosen);
    if (!chosen) return;
    tpool__store_relaxed(&chosen->refused, true); /* relaxed: the unpark publishes it (P5) */
    tpool__unpark(&chosen->parker);
}

/* Brings a worker into a pool whose workers are blocked if one is needed or due, or else arms the timer. The worker
 * itself finds what is needed (tpool__take_needed). `refused`: the system has just refused a worker. The pool exists:
 * the caller is its worker, a caller that is counted, or its timer. */
static void tpool__ask(tpool *pool, bool refused) {
    TPOOL_ASSERT(tpool__holds_none());
    tpool__worker *woken = NULL;
    int64_t look_at = 0;
    for (bool again = true; again;) {
        tpool__need need = { 0 };
        again = false;
        tpool__lock(&tpool__cycles.lock);
        tpool__lock(&pool->lock);
        /* relaxed: all are written under pool->lock, or a searcher asks when it has found a task, or sleeps */
        uintptr_t active = tpool__load_relaxed(&pool->active), coming = pool->starting + pool->blocked_in_setup;
        bool used_up = tpool__spares_used_up(pool), work = tpool__work_visible(pool), due = false;
        bool may = work && pool->blocked > 0 && (used_up || active == 0) &&
                   active < tpool__load_relaxed(&pool->max_workers) &&
                   tpool__load_relaxed(&pool->gate) < TPOOL__SEARCHER;
        bool many = refused || coming >= TPOOL__MOST_NEEDED; /* each of those that come asks for the next */
        if (may) tpool__need_of(pool, many ? TPOOL__MOST_NEEDED : coming + 1, &need);
        bool brings = may && !refused && (!used_up || need.count > coming), stalls = may && !brings && active == 0;
        if (!work || (stalls && !tpool__any_queued(pool))) {
            pool->stall.since = pool->stall.before = 0;
            stalls = false;
        }
        if (stalls) due = tpool__is_due(pool, &need, refused, &look_at);
        if (due && refused) tpool__refuse(pool, need.record ? need.record->waiter : NULL);
        tpool__unlock(&tpool__cycles.lock); /* to start a thread takes long */
        if (due && !refused) {              /* relaxed: under its lock */
            pool->granted = pool->blocked + 1 - tpool__load_relaxed(&pool->max_workers) - tpool__max_spares(pool);
            pool->stall.level++;
            tpool__update_room(pool);
        }
        if (brings || (due && !refused)) {
            look_at = 0;
            woken = pool->sleepers;
            if (woken) tpool__wake_worker(pool, woken);
            else again = refused = tpool__start_worker(pool) != TPOOL_OK && active == 0;
        }
        if (look_at && pool->stall.armed_for && pool->stall.armed_for <= look_at) look_at = 0;
        if (look_at) pool->stall.armed_for = look_at;
        tpool__unlock(&pool->lock);
    }
    if (woken) tpool__unpark(&woken->parker);
    if (look_at && look_at != TPOOL_FOREVER) tpool__timer_arm(&pool->stall.timer, look_at);
}
/* Takes a queued task that is waited for. The caller has a reference. */
static bool tpool__take_queued(tpool *pool, tpool_future *task, tpool__entry *entry) {
    tpool_future *unreferenced = NULL;
    tpool__spin_lock(&pool->inject.lock); /* tpool_pause passes this lock, so that nothing starts after it */
    uint32_t flags = tpool__flags(pool);
    uintptr_t phase = tpool__has_expired(task) ? TPOOL__PHASE_EXPIRING : TPOOL__PHASE_RUNNING;
    uintptr_t *found = tpool__lane_find(&pool->inject, task);
    bool claimed = !(flags & (TPOOL__PAUSED | TPOOL__HALTED)) && tpool__claim(task, phase + TPOOL__END_RELEASED);
    if (claimed && tpool__expires_at(task)) tpool__expiring_leave(pool, task);
    if (claimed && found) {
        tpool__lane_remove(&pool->inject, found);
        tpool__sub_relaxed(&task->state, TPOOL__REFERENCE); /* relaxed: the lane's, and not the last */
    } else if (claimed) {
        tpool__lane_count_tombstone(&pool->inject);
    }
    if (claimed && pool->capacity) tpool__grant_room(pool, &unreferenced);
    tpool__spin_unlock(&pool->inject.lock);
    if (!TPOOL__LIKELY(unreferenced == NULL)) tpool__dispose_chain(unreferenced);
    /* calls no function of the program's: the worker comes to tpool__run_listed. P4 */
    if (!claimed && tpool__sub_acq_rel(&task->state, TPOOL__REFERENCE) < 2 * TPOOL__REFERENCE)
        (void)tpool__task_dispose(task);
    entry->task = task;
    entry->stops = flags >> TPOOL__STOPS_SHIFT;
    return claimed;
}
/* Takes the task of a worker that waits for room. That one cannot go before pool->lock is free. */
static bool tpool__take_submitted(tpool *pool, tpool__room_waiter *room, tpool__entry *entry) {
    TPOOL_ASSERT(tpool__held(&pool->lock));
    tpool__spin_lock(&pool->inject.lock);
    uint32_t flags = tpool__flags(pool), closed = TPOOL__SHUT | TPOOL__BREAK | TPOOL__PAUSED | TPOOL__HALTED;
    bool taken = !room->granted && !room->leaves && !(flags & closed);
    if (taken) {
        *entry = *room->entry;
        entry->stops = flags >> TPOOL__STOPS_SHIFT;
        tpool__line_leave(&pool->room, &pool->room_end, &room->waiter);
        pool->inject.submitted++;
        if (entry->task) (void)tpool__claim_popped(entry->task); /* it succeeds: no other thread knows the task */
        if (entry->task && entry->task->nodes) (void)tpool__completions_enter(NULL, entry->task);
        room->placed = TPOOL_OK;
        room->granted = true;
        tpool__unpark(&room->waiter.parker);
    }
    tpool__spin_unlock(&pool->inject.lock);
    return taken;
}
/* A worker that is one too many looks for a task that its pool needs, since all others are blocked. */
static TPOOL__NOINLINE bool tpool__take_needed(tpool__worker *worker, tpool__entry *entry) {
    tpool *pool = worker->pool;
    tpool__need need = { 0 };
    bool taken = false;
    if (!tpool__spares_used_up(pool) || !tpool__work_hinted(pool)) return false;
    tpool__lock(&tpool__cycles.lock);
    tpool__lock(&pool->lock);
    /* relaxed: under its lock */
    if (tpool__spares_used_up(pool) && tpool__load_relaxed(&pool->active) <= tpool__load_relaxed(&pool->max_workers))
        tpool__need_of(pool, 1, &need);
    if (need.count > 0) tpool__set_busy(worker, true);
    if (need.count > 0 && need.tasks[0]) (void)tpool_future_retain(need.tasks[0]);
    else if (need.count > 0) taken = tpool__take_submitted(pool, need.room, entry);
    tpool__unlock(&pool->lock);
    tpool__unlock(&tpool__cycles.lock);
    if (need.count > 0 && need.tasks[0]) taken = tpool__take_queued(pool, need.tasks[0], entry);
    if (!taken) return false;
    worker->ended_at = 0;
    entry->job = NULL;
    tpool__stop_searching(worker);
    /* another worker's task may be needed as well. relaxed: both stay while this worker is active, or it asks again */
    if (tpool__load_relaxed(&pool->active) < tpool__load_relaxed(&pool->max_workers)) tpool__ask(pool, false);
    return true;
}
static void tpool__stall_lasts(tpool__timer *timer) {
    tpool *pool = (tpool *)(void *)((char *)timer - offsetof(tpool, stall.timer));
    tpool__lock(&pool->lock);
    pool->stall.armed_for = 0;
    tpool__unlock(&pool->lock);
    tpool__ask(pool, false);
}

/* A wait is recorded, or waits for one future more. It may close a chain to a task that is queued in a pool whose
 * spares are used up. relaxed: the hints were written before that pool asked under tpool__cycles.lock, which this
 * thread has passed since, or else the pool sees the record; likewise the lock of an iterator to which one is added. */
static void tpool__ask_others(const tpool *own) {
    if (TPOOL__LIKELY(!tpool__load_relaxed(&tpool__process.used_up))) return; /* relaxed: as above */
    tpool__lock(&tpool__process.lock);
    for (tpool *pool = tpool__load_relaxed(&tpool__process.pools); pool; pool = pool->next) {
        if (pool == own || !tpool__spares_used_up(pool) || !tpool__work_hinted(pool)) continue;
        tpool__caller_stays(pool); /* and so does its place in the list */
        tpool__unlock(&tpool__process.lock);
        tpool__ask(pool, false);
        tpool__lock(&tpool__process.lock);
        tpool__caller_leaves(pool);
    }
    tpool__unlock(&tpool__process.lock);
}

/* --------------------------------------------------------------------------------------------------------------------
 *  >>idle  A worker without a task: it spins, sleeps, ends, is replaced
 * ----------------------------------------------------------------------------------------------------------------- */

/* Spins for work before the worker sleeps, unless a drainer waits for the end of all work. */
static bool tpool__spin_for_work(tpool__worker *worker, uint32_t free_time) {
    tpool *pool = worker->pool;
    tpool__spin spin = tpool__spin_begin(&worker->failed_spins, free_time, TPOOL_FOREVER);
    uint32_t look = TPOOL__LOOK_TIME * (uint32_t)tpool__load_relaxed(&pool->live); /* relaxed: any recent value */
    if (tpool__load_relaxed(&pool->draining)) return tpool__work_hinted(pool);     /* relaxed: a hint */
    for (;;) {
        bool found = tpool__work_hinted(pool);
        bool over = (tpool__flags(pool) & (TPOOL__SHUT | TPOOL__BREAK | TPOOL__PAUSED | TPOOL__HALTED)) != 0;
        spin.spent += look;
        if (!found && !over && tpool__spin_again(&spin)) continue;
        tpool__spin_end(&spin, found);
        return found;
    }
}

static bool tpool__is_quiet(tpool *pool);

/* Called when a worker finds nothing to do. If a destroy waits for the end of all work, the worker that finds that end
 * shuts the pool down, which spares the destroy a wake and the worker a sleep. If two workers become idle at the same
 * time, the second to pass the inject spinlock sees (P1) that neither is busy. */
static inline void tpool__notify_idle(tpool__worker *worker) {
    tpool *pool = worker->pool;
    tpool__set_busy(worker, false);
    tpool__wake_drainers_if_any(pool, false);
    /* relaxed: a hint; the destroying thread looks now and then */
    if (!TPOOL__LIKELY(!tpool__load_relaxed(&pool->destroying)) && !(tpool__flags(pool) & TPOOL__SHUT) &&
        tpool__is_quiet(pool))
        (void)tpool_shutdown(pool, 0);
    tpool__run_unless_held(tpool__self()); /* what tpool__is_quiet has listed */
}
/* In a paused pool one sleeper ends what expires. Returns when it must wake, or TPOOL_FOREVER. */
static int64_t tpool__keep_time(tpool *pool, tpool__worker *worker) {
    TPOOL_ASSERT(tpool__held(&pool->lock));
    if (pool->expiry_sleeper && pool->expiry_sleeper != worker) return TPOOL_FOREVER;
    bool paused = (tpool__flags(pool) & (TPOOL__PAUSED | TPOOL__HALTED | TPOOL__SHUT)) == TPOOL__PAUSED;
    /* relaxed: both are written under pool->lock; a surplus worker ends, or another one sleeps soon */
    bool may = paused && tpool__load_relaxed(&pool->active) < tpool__load_relaxed(&pool->max_workers);
    int64_t at = may ? tpool__expires_next(pool) : TPOOL_FOREVER;
    pool->expiry_sleeper = at != TPOOL_FOREVER ? worker : NULL;
    pool->expiry_sleeper_until = at;
    return at;
}

/* Under pool->lock: no worker lives or runs its finalizer, and no work waits. In a pool that is shut down no worker
 * starts any more: its starter would first have to find work, under the same lock. */
static bool tpool__workers_are_gone(tpool *pool) {
    TPOOL_ASSERT(tpool__held(&pool->lock));
    /* relaxed: under its lock */
    return tpool__load_relaxed(&pool->live) == 0 && pool->ending == 0 && !tpool__work_visible(pool);
}

/* Under pool->lock: ends an active worker that does not search. False: it is the last one, and work is left for it. */
static bool tpool__retire(tpool *pool) {
    TPOOL_ASSERT(tpool__held(&pool->lock));
    /* relaxed: written under pool->lock; E3 says what its readers may rely on */
    uintptr_t live = tpool__load_relaxed(&pool->live);
    tpool__store_relaxed(&pool->live, live - 1);
    tpool__active_add(pool, -1);
    tpool__update_room(pool);
    if (live == 1 && tpool__work_visible(pool)) {
        tpool__store_relaxed(&pool->live, live);
        tpool__active_add(pool, 1);
        tpool__update_room(pool);
        return false;
    }
    pool->ending++;
    return true;
}

#define TPOOL__LINGER TPOOL_MS(20) /* how long a spare worker stays when it is not needed: starting one costs 20 us */

/* Sleeps. True: there may be work. False: the worker has ended. */
static bool tpool__sleep(tpool__worker *worker) {
    tpool *pool = worker->pool;
    int64_t idle_since = 0, surplus_since = 0;

    tpool__lock(&pool->lock);
    if (worker->searching) (void)tpool__leave_search(worker);
    tpool__active_add(pool, -1);
    if (pool->manager) pool->idle_since = tpool__clock();
    worker->asleep = true;
    worker->timed = false;
    tpool__link_first(&pool->sleepers, worker);
    if (!TPOOL__LIKELY(!pool->leftovers)) tpool__put_leftovers_away(pool);
    tpool__update_room(pool);
    tpool__unlock(&pool->lock);

    bool look = tpool__work_visible(pool);
    for (;;) {
        tpool__lock(&pool->lock);
        if (!worker->asleep) { /* woken; an unpark that comes only now makes the next sleep look once more */
            tpool__unlock(&pool->lock);
            return true;
        }
        uintptr_t live = tpool__load_relaxed(&pool->live); /* relaxed: under its lock */
        if (look && tpool__load_relaxed(&pool->active) < tpool__load_relaxed(&pool->most_active)) {
            tpool__wake_worker(pool, worker);
            tpool__unlock(&pool->lock);
            return true;
        }
        if (look && tpool__spares_used_up(pool)) {
            tpool__unlock(&pool->lock);
            look = false;
            tpool__ask(pool, false);
            continue;
        }
        look = false;
        bool surplus = tpool__has_surplus(pool);
        bool ends = (tpool__flags(pool) & (TPOOL__SHUT | TPOOL__BREAK)) != 0;
        int64_t deadline = TPOOL_FOREVER, expires_at = ends ? TPOOL_FOREVER : tpool__keep_time(pool, worker);
        if (expires_at != TPOOL_FOREVER && tpool__clock() >= expires_at) {
            tpool__unlock(&pool->lock); /* it stays the expiry sleeper meanwhile, so that no other wakes for the same */
            if (!tpool__expire_waiting(tpool__self(), pool)) continue;
            tpool__lock(&pool->lock);
            if (worker->asleep) tpool__wake_worker(pool, worker);
            tpool__unlock(&pool->lock);
            return true; /* to run what it has listed */
        }
        if (surplus || (pool->config.idle_timeout_ns > 0 && live > (uintptr_t)pool->config.min_workers)) {
            int64_t now = tpool__clock();
            if (!idle_since) idle_since = now;
            if (surplus && !surplus_since) surplus_since = now;
            if (surplus) deadline = surplus_since + TPOOL__LINGER;
            if (pool->config.idle_timeout_ns > 0 && live > (uintptr_t)pool->config.min_workers) {
                int64_t limit = pool->config.idle_timeout_ns < TPOOL_FOREVER - idle_since
                                    ? idle_since + pool->config.idle_timeout_ns
                                    : TPOOL_FOREVER;
                if (limit < deadline) deadline = limit;
            }
            if (expires_at != TPOOL_FOREVER) deadline = TPOOL_FOREVER; /* the last one idle may be this one */
            if (now >= deadline) ends = true;
        }
        if (ends) {
            tpool__sleepers_remove(pool, worker);
            tpool__active_add(pool, 1);
            bool ended = tpool__retire(pool);
            if (!ended) {
                tpool__start_searching(worker);
                tpool__update_room(pool);
            }
            tpool__time_surplus(pool);
            tpool__unlock(&pool->lock);
            return !ended;
        }
        worker->timed = surplus;
        if (expires_at < deadline) deadline = expires_at;
        tpool__unlock(&pool->lock);
        int64_t look_at = tpool__tidier_sleeps(tpool__self(), &worker->parker), bound = tpool__times_bound(deadline);
        if (look_at > bound) look_at = bound;
        if (!tpool__park(&worker->parker, look_at) && look_at < deadline) {
            if (look_at < bound) tpool__tidier_looks(&worker->parker);
            else look = true; /* it wakes, to look at the times */
        }
    }
}
/* After max_tasks_per_worker tasks a worker ends and another takes its place. False: it stays, since one is needed and
 * the system provides no other. */
static bool tpool__replace(tpool__worker *worker) {
    tpool *pool = worker->pool;
    tpool__worker *woken = NULL;
    bool retired = true;
    tpool__lock(&pool->lock);
    if (worker->searching) (void)tpool__leave_search(worker);
    /* relaxed: as in tpool__retire */
    uintptr_t live = tpool__load_relaxed(&pool->live) - 1;
    tpool__store_relaxed(&pool->live, live);
    tpool__active_add(pool, -1);
    tpool__update_room(pool);
    if (tpool__load_relaxed(&pool->gate) == TPOOL__ROOM && tpool__work_visible(pool)) {
        woken = pool->sleepers;
        if (woken) tpool__wake_worker(pool, woken);
        else if (tpool__start_worker(pool) != TPOOL_OK && tpool__load_relaxed(&pool->active) == 0) retired = false;
    }
    if (retired) {
        pool->ending++;
    } else {
        tpool__store_relaxed(&pool->live, live + 1);
        tpool__active_add(pool, 1);
        tpool__update_room(pool);
    }
    tpool__unlock(&pool->lock);
    if (woken) tpool__unpark(&woken->parker);
    worker->tasks_done = 0;
    return retired;
}

static void tpool__end_waiting(tpool *pool, tpool__reason reason);
static void tpool__break(tpool *pool);
static void tpool__leave_pool(tpool__worker *worker, tpool__leaving why) {
    tpool *pool = worker->pool;
    tpool__lock(&pool->lock);
    pool->starting -= worker->in_setup;
    worker->in_setup = false;
    worker->retired = true;
    if (worker->searching) (void)tpool__leave_search(worker);
    tpool__store_relaxed(&pool->live, tpool__load_relaxed(&pool->live) - 1); /* relaxed: under its lock */
    tpool__active_add(pool, -1);
    pool->ending++;
    tpool__update_room(pool);
    bool broken = (tpool__flags(pool) & TPOOL__BREAK) != 0; /* it may not have ended yet what waits */
    bool stranded = false; /* no worker is left for what waits, and the system refuses to replace this one */
    if (!broken && tpool__load_relaxed(&pool->live) == 0 && tpool__work_visible(pool)) /* relaxed: under its lock */
        stranded = why != TPOOL__THREAD_ENDED || tpool__start_worker(pool) != TPOOL_OK;
    bool others = why == TPOOL__THREAD_ENDED || pool->sleepers; /* they do what it would have done */
    tpool__unlock(&pool->lock);
    if (broken) tpool__break(pool);
    else if (stranded) tpool__end_waiting(pool, TPOOL__IS_STRANDED);
    else if (others) tpool__notify_if_work(pool);
    else tpool__ask(pool, true);
}

/* In its initializer a worker does not count as searching, so that a submit wakes a sleeper, or starts another worker
 * once there are more tasks than those in their initializers were started for (tpool__wake_one). */
static void tpool__begin_setup(tpool__worker *worker) {
    tpool *pool = worker->pool;
    tpool__lock(&pool->lock);
    (void)tpool__leave_search(worker);
    worker->in_setup = true;
    pool->starting++;
    tpool__unlock(&pool->lock);
    if (!TPOOL__LIKELY(!tpool__spares_used_up(pool))) tpool__ask(pool, false);
    else tpool__notify_if_work(pool);
}
static void tpool__end_setup(tpool__worker *worker) {
    tpool *pool = worker->pool;
    tpool__lock(&pool->lock);
    worker->in_setup = false;
    pool->starting--;
    tpool__start_searching(worker);
    tpool__unlock(&pool->lock);
}

/* Waits until the worker's backing takes tasks. No drain and no submitter waits for its initializer. */
static tpool_status tpool__make_ready(tpool__worker *worker) {
    tpool__begin_setup(worker);
    int cancel = tpool__cancel_off();
    tpool_status status = tpool__backend_of(worker->pool)->ready(worker);
    tpool__cancel_back(cancel);
    tpool__end_setup(worker);
    return status;
}
/* After a task: replaces the worker's backing if that is lost. False: the worker must end, since the system refuses
 * another one or the pool ends. The pool may be broken already, for example by the task, whose new backing was not to
 * be had: this function ends what waits, since a backend's operation runs none of the program's code. */
static bool tpool__has_backing(tpool__worker *worker) {
    tpool *pool = worker->pool;
    if (TPOOL__LIKELY(!tpool__backend_of(pool)->is_lost(worker))) return true;
    tpool__set_busy(worker, false);
    tpool__wake_drainers_if_any(pool, false);
    if (!worker->searching) tpool__start_searching(worker);
    tpool_status status = tpool__flags(pool) & TPOOL__BREAK ? TPOOL_BROKEN : tpool__make_ready(worker);
    if (status == TPOOL_BROKEN) tpool__break(pool);
    return status != TPOOL_NO_THREAD;
}

/* The thread ends in its initializer or finalizer. */
static void tpool__setup_left(void *of) {
    (void)of;
    tpool__sub_relaxed(&tpool__process.setups, 1); /* relaxed: see tpool__within_setup */
}
/* The worker's thread is over: what runs after its last task, and its join. The next worker that ends joins it, so
 * that a pool that shrinks keeps but one thread's stack; or the thread that waits for the end of a pool that is shut
 * down, since each join may be a sleep. If it ends in its exit hook (in_hook), the next worker with its index joins it,
 * when that ends and not when it begins: a destructor of the program's thread-local variables may wait for tasks. */
static void tpool__worker_ended(tpool__thread *self, tpool__worker *worker, bool in_hook) {
    tpool *pool = worker->pool;
    worker->retired = true;
    tpool__set_busy(worker, false); /* it has no task any more, and a drain does not wait for finalizers */
    tpool__wake_drainers_if_any(pool, false);
    int cancel = tpool__cancel_off();
    tpool__end_backing(worker); /* the finalizer runs there, if there is one */
    tpool__cancel_back(cancel);
    if (worker->set_up && pool->config.finalizer && !tpool__executes_elsewhere(pool)) {
        worker->set_up = false; /* once, even if it ends the thread */
        tpool__context *context = tpool__setup_push(self, pool, tpool__setup_left, NULL);
        pool->config.finalizer(pool->config.context);
        if (!tpool__setup_pop(self, context)) return;
    }
    tpool__observe_worker(self, pool, TPOOL_EVENT_WORKER_ENDED);
    self->worker = NULL;
    self->stack_floor = 0;
    tpool__tidier_leaves(self, &worker->parker, !in_hook && !(tpool__flags(pool) & TPOOL__SHUT));
    tpool__thread_handle before = { 0 };
    tpool__lock(&pool->lock);
    tpool__thread_handle left = worker->left; /* of an earlier thread of this worker */
    bool shut = (tpool__flags(pool) & TPOOL__SHUT) != 0;
    if (in_hook || (shut && tpool__load_relaxed(&pool->draining))) { /* relaxed: a hint, either will do */
        worker->left = worker->handle;
    } else {
        worker->left.valid = false;
        before = pool->last_ended;
        pool->last_ended = worker->handle;
    }
    worker->handle.valid = false;
    tpool__store_relaxed(&worker->thread, NULL); /* relaxed: its readers hold this lock */
    tpool__worker_put_away(pool, worker);
    bool last = --pool->ending == 0 && tpool__load_relaxed(&pool->live) == 0; /* relaxed: under its lock */
    tpool *heir = shut && tpool__workers_are_gone(pool) ? pool->heir : NULL;
    unsigned heir_flags = pool->heir_flags;
    tpool__unlock(&pool->lock);
    if (last || !shut) tpool__wake_drainers_if_any(pool, true); /* whoever frees the pool joins this thread first */
    tpool__thread_join(&before);                                /* it has long left its tasks, so this is short */
    if (in_hook) tpool__thread_join_in_hook(&left);
    else tpool__thread_join(&left);
    if (heir) (void)tpool_shutdown(heir, heir_flags);
}

/* An initializer that ends its thread has failed. */
static void tpool__initializer_left(void *of) {
    tpool__setup_left(NULL);
    tpool__break(((tpool__worker *)of)->pool);
}

static void tpool__worker_life(tpool__thread *self, tpool__worker *worker) {
    tpool *pool = worker->pool;
    bool refused = !tpool__arm(self); /* without its exit hook a task that ends the thread would go unnoticed */
    bool ready = !refused, lost = false;
    tpool__observe_worker(self, pool, TPOOL_EVENT_WORKER_STARTED);
    tpool__tidier_begins(&worker->parker);
    if (ready && tpool__executes_elsewhere(pool)) { /* the initializer runs there */
        tpool_status status = tpool__make_ready(worker);
        lost = status == TPOOL_NO_THREAD;
        ready = status == TPOOL_OK;
    } else if (ready && pool->config.initializer) {
        tpool__begin_setup(worker);
        tpool__context *context = tpool__setup_push(self, pool, tpool__initializer_left, worker);
        ready = pool->config.initializer(pool->config.context);
        tpool__cancel_here(); /* then the initializer has failed */
        if (!tpool__setup_pop(self, context)) return;
        tpool__end_setup(worker);
    }
    worker->set_up = ready;
    if (ready) {
        tpool__work_loop(self, worker);
    } else if (refused || lost) {
        tpool__leave_pool(worker, refused ? TPOOL__THREAD_REFUSED : TPOOL__BACKING_LOST);
    } else {
        tpool__break(pool);
        tpool__lock(&pool->lock);
        if (worker->searching) (void)tpool__leave_search(worker);
        (void)tpool__retire(pool); /* nothing waits in a broken pool */
        tpool__unlock(&pool->lock);
    }
    tpool__lock(&pool->lock); /* the starter of this thread has stored its handle when this is passed */
    tpool__unlock(&pool->lock);
    tpool__worker_ended(self, worker, false);
}

static void tpool__worker_main(void *argument) {
    tpool__worker *worker = (tpool__worker *)argument;
    tpool__thread *self = tpool__self();
    tpool__thread_begin(worker->pool->scheduling);
    tpool__thread_name(worker->pool->name, worker->index);
    self->worker = worker;
    self->serves = true;
    self->stack_top = tpool__stack_position();
    self->stack_floor = 0;
    tpool__store_release(&worker->thread, self); /* P19 */
    /* before the destructors of the program's thread-local variables, which may call the library */
    TPOOL__FINALLY_BEGIN(tpool__thread_left, self)
    tpool__worker_life(self, worker);
    TPOOL__FINALLY_END
}

/* --------------------------------------------------------------------------------------------------------------------
 *  >>producing  Futures that the program completes itself
 * ----------------------------------------------------------------------------------------------------------------- */
static bool tpool__process_ready(void);

TPOOL_API tpool_status tpool_future_create(tpool_future **future) {
    if (!future) return TPOOL_INVALID;
    *future = NULL;
    if (!tpool__process_ready()) return TPOOL_NO_MEMORY;
    tpool_future *task = tpool__task_new(tpool__self());
    if (!task) return TPOOL_NO_MEMORY;
    tpool__task_init(task, NULL, NULL, NULL, NULL, TPOOL__PHASE_PENDING | TPOOL__REFERENCE);
    *future = task;
    return TPOOL_OK;
}

TPOOL_API tpool_status tpool_future_set_running(tpool_future *future) {
    if (!future) return TPOOL_INVALID;
    if (tpool__is_orphan(future) && !tpool__is_done(future)) return TPOOL_BROKEN;
    if (tpool__pool_of(future)) return TPOOL_INVALID_STATE;
    if (tpool__claim(future, TPOOL__PHASE_RUNNING)) return TPOOL_OK;
    uintptr_t phase = tpool__load_acquire(&future->state) & TPOOL__PHASE; /* P2 */
    return phase == TPOOL__PHASE_CANCELLING || phase == TPOOL__PHASE_DONE + TPOOL_CANCELLED ? TPOOL_CANCELLED
                                                                                            : TPOOL_INVALID_STATE;
}

/* Makes the caller the completer of a bare future. END_RELEASED marks that: no bare future has it before its end. */
static bool tpool__claim_bare(tpool_future *future) {
    uintptr_t state = tpool__load_relaxed(&future->state); /* relaxed: as tpool__claim */
    for (;;) {
        uintptr_t phase = state & TPOOL__PHASE;
        if ((phase != TPOOL__PHASE_PENDING && phase != TPOOL__PHASE_RUNNING) || state & TPOOL__END_RELEASED)
            return false;
        uintptr_t next = ((state & ~TPOOL__PHASE) | TPOOL__PHASE_RUNNING | TPOOL__END_RELEASED) + TPOOL__REFERENCE;
        if (tpool__cas_relaxed(&future->state, &state, next)) return true;
    }
}

/* Completes a bare future that the caller has claimed: with a value, and with an error or a payload if there is one. */
static tpool_status tpool__complete(tpool_future *future, void *value, tpool__outcome *outcome) {
    bool failed = outcome && outcome->kind == TPOOL__ERROR, lacks_memory = failed && outcome->is_static;
    future->value = value;
    if (outcome) tpool__store_release(&future->outcome, tpool__outcome_word(outcome)); /* P9 */
    tpool__publish(future, failed ? TPOOL_FAILED : TPOOL_OK);
    return lacks_memory ? TPOOL_NO_MEMORY : TPOOL_OK;
}
/* TPOOL_OK: the caller has claimed the future and must complete it. */
static tpool_status tpool__complete_begin(tpool_future *future) {
    if (!future) return TPOOL_INVALID;
    if (tpool__is_orphan(future) && !tpool__is_done(future)) return TPOOL_BROKEN;
    return tpool__pool_of(future) || !tpool__claim_bare(future) ? TPOOL_INVALID_STATE : TPOOL_OK;
}

TPOOL_API tpool_status tpool_future_set_result(tpool_future *future, void *result) {
    tpool_status status = tpool__complete_begin(future);
    return status == TPOOL_OK ? tpool__complete(future, result, NULL) : status;
}
TPOOL_API tpool_status tpool_future_set_error(tpool_future *future, int code, const char *format, ...) {
    tpool_status status = tpool__complete_begin(future);
    if (status != TPOOL_OK) return status;
    va_list arguments;
    va_start(arguments, format);
    tpool__outcome *outcome = tpool__error_new(future, code, format, arguments);
    va_end(arguments);
    return tpool__complete(future, NULL, outcome);
}
TPOOL_API tpool_status tpool_future_set_error_text(tpool_future *future, int code, const char *text) {
    tpool_status status = tpool__complete_begin(future);
    return status == TPOOL_OK ? tpool__complete(future, NULL, tpool__error_plain(future, code, text)) : status;
}
TPOOL_API tpool_status tpool_future_set_result_owned(tpool_future *future, void *result,
                                                     void (*result_free)(void *result)) {
    tpool_status status = tpool__complete_begin(future);
    if (status != TPOOL_OK) return status;
    if (!result_free) return tpool__complete(future, result, NULL);
    tpool__outcome *outcome = tpool__owned_new(result, result_free);
    if (outcome) return tpool__complete(future, result, outcome);
    /* as an arg_free: before the end, which comes even if result_free ends the thread */
    outcome = tpool__fixed(TPOOL__OUT_OF_MEMORY);
    tpool__store_release(&future->outcome, tpool__outcome_word(outcome)); /* P9 */
    tpool__thread *self = tpool__self();
    tpool__context *context = tpool__context_push(self, TPOOL__IN_CALLBACK, NULL);
    tpool__context_guard(self, context, tpool__end_broken_rest, future);
    result_free(result);
    return tpool__context_pop(self, context) ? tpool__complete(future, NULL, outcome) : TPOOL_BROKEN;
}

TPOOL_API bool tpool_future_stop_requested(tpool_future *future) {
    return future && tpool__load_relaxed(&future->state) & TPOOL__STOP; /* relaxed: a flag and nothing else */
}

/* ====================================================================================================================
 *  >>lifecycle  Pools: create, pause, drain, shut down, destroy
 * ================================================================================================================= */
static tpool_status tpool__config_check(const tpool_config *config, int *max_workers) {
    if (config->max_workers < 0 || config->min_workers < 0 || config->idle_timeout_ns < 0 ||
        (config->max_workers > 0 && config->min_workers > config->max_workers) || !tpool__is_kind(config->kind) ||
        (unsigned)config->on_full > (unsigned)TPOOL_FULL_DROP_OLDEST)
        return TPOOL_INVALID;
    if (config->descriptor_count && !config->descriptors) return TPOOL_INVALID;
    if (config->kind != TPOOL_THREADS) {
        const tpool__backend *backend = tpool__backends[config->kind];
        tpool_status status = backend ? backend->check(config) : TPOOL_UNSUPPORTED;
        if (status != TPOOL_OK) return status;
    }
    *max_workers = config->max_workers;
    if (*max_workers == 0) {
        *max_workers = tpool_workers_for(TPOOL_WORK_MIXED);
        if (*max_workers < config->min_workers) *max_workers = config->min_workers;
    }
    return TPOOL_OK;
}

static bool tpool__unlist(tpool *pool);
static void tpool__free(tpool *pool);

/* Frees all that a pool consists of, which may be half made. It is in no list, and has no thread. */
static void tpool__unmake(tpool *pool) {
    for (tpool__worker *worker = pool->newest, *next; worker; worker = next) {
        next = worker->before;
        tpool__worker_free(worker);
    }
    tpool__lane_free(&pool->inject);
    tpool__dealloc(pool->unused);
    tpool__dealloc(pool->heap);
    tpool__dealloc(pool->expiring.heap);
    tpool__dealloc((void *)pool->measures);
    tpool__dealloc(pool->ring.records);
    tpool__dealloc(pool->scheduling);
    tpool__free_aligned(pool);
}

/* Still listed: a fork meanwhile must find what to close. */
static void tpool__stop_backend(tpool *pool) {
    const tpool__backend *backend = tpool__backend_of(pool);
    if (!backend) return;
    int cancel = tpool__cancel_off();
    backend->stop(pool);
    tpool__cancel_back(cancel);
}
/* Ends a pool that no caller uses. Until it leaves the list, the exit handler may be in it, counted in `callers`. */
static void tpool__discard(tpool *pool) {
    tpool__stop_backend(pool);
    while (!tpool__unlist(pool)) tpool__yield();
    tpool__free(pool);
}

/* The caller holds no lock: a backend may fork, and then the system runs the program's fork handlers. */
static tpool_status tpool__create(tpool **created, const tpool_config *config, bool shared, tpool_manager *manager) {
    static const tpool_config defaults = { 0 };
    int max_workers = 1;
    if (!config) config = &defaults;
    tpool_status status = tpool__config_check(config, &max_workers);
    if (status != TPOOL_OK) return status;
    tpool *pool = tpool__alloc_aligned(sizeof *pool, TPOOL__POOL_ALIGNMENT);
    if (!pool) return TPOOL_NO_MEMORY;
    pool->config = *config;
    pool->backend = tpool__backends[config->kind];
    if (!config->observer) pool->config.observed = 0;
    bool observed = pool->config.observed & ~(unsigned)(TPOOL_EVENT_WORKER_STARTED | TPOOL_EVENT_WORKER_ENDED);
    tpool__store_relaxed(&pool->observed, (config->measure ? TPOOL__MEASURED : 0) | (observed ? TPOOL__OBSERVED : 0));
    pool->scheduling = tpool__scheduling_note(shared || manager); /* any thread may be the first to ask */
    if (config->measure) pool->measures = tpool__measures_new();
    if (!pool->scheduling || (config->measure && !pool->measures)) {
        tpool__unmake(pool);
        return TPOOL_NO_MEMORY;
    }
    uintptr_t number = tpool__add_relaxed(&tpool__process.named, 1) + 1; /* relaxed: only a number */
    if (config->name) snprintf(pool->name, sizeof pool->name, "%s", config->name);
    else snprintf(pool->name, sizeof pool->name, "tpool%u", (unsigned)number);
    pool->config.name = pool->name;
    pool->capacity = config->queue_capacity;
    pool->ordered = pool->capacity && config->on_full == TPOOL_FULL_DROP_OLDEST;
    pool->shared = shared;
    pool->manager = manager;
    pool->room_end = &pool->room;
    /* relaxed: the pool is not shared yet; tpool__process.lock or the caller hands it on */
    tpool__store_relaxed(&pool->max_workers, (uintptr_t)max_workers);
    tpool__store_relaxed(&pool->gate, TPOOL__ROOM);
    pool->generation = tpool__generation();
    pool->home = (uintptr_t)pool | (pool->generation & TPOOL__GENERATIONS);
    pool->tag = number << 1 | 1;
    tpool__store_relaxed(&pool->most_active, (uintptr_t)max_workers); /* relaxed: as above */
    pool->stall.timer.fire = tpool__stall_lasts;
    tpool__lock(&tpool__process.lock);
    pool->next = tpool__load_relaxed(&tpool__process.pools); /* relaxed: under the lock */
    if (pool->next) pool->next->previous = pool;
    tpool__store_release(&tpool__process.pools, pool); /* P8: a fork may come at any moment */
    tpool__add_relaxed(&tpool__process.pool_count, 1); /* relaxed: read as a hint, or under the depot's lock */
    tpool__unlock(&tpool__process.lock);
    if (tpool__executes_elsewhere(pool)) {
        int cancel = tpool__cancel_off();
        status = tpool__backend_of(pool)->start(pool);
        tpool__cancel_back(cancel);
    }
    if (status != TPOOL_OK) tpool__discard(pool);
    else *created = pool;
    return status;
}

/* Opens or closes a batch to its owner. Once it is closed, the owner starts nothing of it: a swap under way fails, and
 * an earlier swap is followed by its claim, for which this waits (P11). Under the spinlock. */
static void tpool__batch_open(tpool__worker *worker, bool open) {
    TPOOL_ASSERT(tpool__held(&worker->lane.lock));
    unsigned tries = 0;
    if (open) {
        tpool__and_relaxed(&worker->lane.batch, ~TPOOL__BATCH_CLOSED); /* relaxed: it forbids nothing any more */
        return;
    }
    tpool__or_acquire(&worker->lane.batch, TPOOL__BATCH_CLOSED);         /* P11 */
    while (tpool__load_acquire(&worker->taking)) tpool__backoff(&tries); /* P11 */
}

/* Calls `visit` for each entry of a lane, in order, until it gives false. Under the spinlock: it must be short.
 * `owner`: the lane's, NULL for the inject lane. Its batch is closed meanwhile, so that no entry is taken from it. */
typedef bool (*tpool__entry_visit)(const tpool__entry *entry, void *of);
static void tpool__lane_walk(tpool *pool, tpool__lane *lane, tpool__worker *owner, tpool__entry_visit visit, void *of) {
    tpool__entry entry = { 0 };
    bool more = true;
    tpool__spin_lock(&lane->lock);
    if (owner) tpool__batch_open(owner, false); /* a destroy in another thread may have opened it again */
    if (lane->batch_segment) {
        /* relaxed: under the spinlock */
        uint32_t batch = tpool__load_relaxed(&lane->batch), position = batch & TPOOL__BATCH_MASK;
        for (uint32_t left = tpool__batch_entries(batch); more && left > 0; left--) {
            position += tpool__entry_read(&lane->batch_segment->words[position], &entry);
            more = visit(&entry, of);
        }
    }
    if (more && lane->front) {
        (void)tpool__entry_read(&lane->front, &entry);
        more = visit(&entry, of);
    }
    unsigned position = lane->head_position;
    tpool__segment *segment = lane->head;
    for (size_t left = tpool__segments_count(lane) - (lane->front != 0); more && segment && left > 0; left--) {
        while (position == tpool__segment_end(lane, segment)) {
            segment = segment->next;
            position = 0;
        }
        position += tpool__entry_read(&segment->words[position], &entry);
        more = visit(&entry, of);
    }
    if (owner) tpool__batch_open(owner, !(tpool__flags(pool) & TPOOL__NO_BATCHES));
    tpool__spin_unlock(&lane->lock);
}

/* Called after a flag was set: passes every spinlock under which the flags are read, so that from now on
 * every thread acts on it. */
static void tpool__fence_lanes(tpool *pool) {
    for (tpool__worker *w = tpool__first_worker(pool); w; w = tpool__next_worker(w)) {
        tpool__spin_lock(&w->lane.lock);
        tpool__batch_open(w, !(tpool__flags(pool) & TPOOL__NO_BATCHES));
        tpool__spin_unlock(&w->lane.lock);
        tpool__spin_lock(&w->jobs_lock);
        tpool__spin_unlock(&w->jobs_lock);
    }
    tpool__spin_lock(&pool->inject.lock);
    tpool__spin_unlock(&pool->inject.lock);
}

TPOOL_API tpool_status tpool_create(tpool **pool, const tpool_config *config) {
    if (!pool) return TPOOL_INVALID;
    *pool = NULL;
    return tpool__process_ready() ? tpool__create(pool, config, false, NULL) : TPOOL_NO_MEMORY;
}

/* Under pool->lock. From now on a worker that finds nothing ends, so a pause ends too: workers must find what it held
 * back. It stays if what waits is about to be cancelled, which must not start. */
static void tpool__take_no_more(tpool *pool, unsigned flags) {
    TPOOL_ASSERT(tpool__held(&pool->lock));
    /* relaxed: see tpool__flags */
    if (!(flags & TPOOL_CANCEL_PENDING)) tpool__and_relaxed(&pool->flags, ~TPOOL__PAUSED);
    tpool__or_relaxed(&pool->flags, TPOOL__SHUT | (flags & TPOOL_CANCEL_PENDING ? TPOOL__CANCELLED : 0));
    tpool__update_room(pool);
}
/* Sets and clears flags. On return every thread acts on them. */
static void tpool__set_flags(tpool *pool, uint32_t set, uint32_t clear) {
    tpool__lock(&pool->lock);
    /* relaxed: see tpool__flags */
    if (clear) tpool__and_relaxed(&pool->flags, ~clear);
    if (set) tpool__or_relaxed(&pool->flags, set);
    tpool__update_room(pool);
    tpool__unlock(&pool->lock);
    tpool__fence_lanes(pool);
}
static tpool_status tpool__closed_status(tpool *pool) {
    uint32_t flags = tpool__flags(pool);
    return flags & TPOOL__BREAK ? TPOOL_BROKEN : flags & TPOOL__SHUT ? TPOOL_SHUTDOWN : TPOOL_OK;
}
TPOOL_API tpool_status tpool_pause(tpool *pool) {
    if (!pool) return TPOOL_INVALID;
    if (tpool__is_foreign(pool)) return TPOOL_BROKEN;
    tpool__lock(&pool->lock);
    tpool_status status = tpool__closed_status(pool); /* a shutdown and a break happen under this lock */
    if (status == TPOOL_OK && (tpool__flags(pool) & TPOOL__CLOSING || pool->finishing > 0)) status = TPOOL_SHUTDOWN;
    if (status == TPOOL_OK) tpool__or_relaxed(&pool->flags, TPOOL__PAUSED); /* relaxed: see tpool__flags */
    tpool__stall_stops(pool, false);
    tpool__update_room(pool);
    tpool__unlock(&pool->lock);
    if (status == TPOOL_OK) tpool__fence_lanes(pool);
    if (status == TPOOL_OK) tpool__notify_expiry_sleeper(pool);
    return status;
}
/* True: work waits, no worker lives, and the system refuses to start one. The second look is under the lock under which
 * the last worker has looked before it left (tpool__retire, tpool__leave_pool). */
static bool tpool__is_stranded(tpool *pool) {
    if (tpool__load_relaxed(&pool->live) > 0) return false; /* relaxed: a hint, asked again under the lock */
    tpool__lock(&pool->lock);
    bool stranded = tpool__load_relaxed(&pool->live) == 0 && tpool__work_visible(pool) && /* relaxed: its lock */
                    tpool__start_worker(pool) != TPOOL_OK;
    tpool__unlock(&pool->lock);
    return stranded;
}

static tpool_status tpool__resume(tpool *pool) {
    if (tpool__is_foreign(pool)) return TPOOL_BROKEN;
    if (tpool__flags(pool) & TPOOL__BREAK) return TPOOL_BROKEN;
    if (tpool__flags(pool) & TPOOL__PAUSED) {
        tpool__set_flags(pool, 0, TPOOL__PAUSED);
        tpool__notify_if_work(pool);
    }
    return tpool__is_stranded(pool) ? TPOOL_NO_THREAD : TPOOL_OK;
}
TPOOL_API tpool_status tpool_resume(tpool *pool) {
    if (!pool) return TPOOL_INVALID;
    if (tpool__is_foreign(pool)) return TPOOL_BROKEN;
    tpool__context *visit = tpool__caller_enters(pool); /* a task that starts now may give the pool up */
    tpool_status status = tpool__resume(pool);
    if (tpool__context_pop(tpool__self(), visit)) tpool__caller_leaves(pool);
    return status;
}
TPOOL_API tpool_status tpool_kill_workers(tpool *pool) {
    if (!pool) return TPOOL_INVALID;
    if (tpool__is_foreign(pool)) return TPOOL_BROKEN;
    const tpool__backend *backend = tpool__backend_of(pool);
    if (!backend) return TPOOL_UNSUPPORTED;
    int cancel = tpool__cancel_off();
    backend->kill(pool);
    tpool__cancel_back(cancel);
    return TPOOL_OK;
}

TPOOL_API tpool_status tpool_warm_up(tpool *pool, int workers) {
    if (!pool || workers < 0) return TPOOL_INVALID;
    if (tpool__is_foreign(pool)) return TPOOL_BROKEN;
    tpool__lock(&pool->lock);
    tpool_status status = tpool__closed_status(pool);
    while (status == TPOOL_OK && tpool__may_warm_up(pool, workers))
        status = tpool__start_launched(pool, workers, TPOOL_FOREVER);
    tpool__unlock(&pool->lock);
    if (status != TPOOL_OK) tpool__notify_if_work(pool); /* submitters have seen a searcher that never came */
    return status;
}

TPOOL_API tpool_status tpool_resize(tpool *pool, int max_workers) {
    if (!pool) return TPOOL_INVALID;
    if (tpool__is_foreign(pool)) return TPOOL_BROKEN;
    if (max_workers < 1 || max_workers < pool->config.min_workers) return TPOOL_INVALID;
    tpool__context *visit = tpool__caller_enters(pool); /* as in tpool_resume */
    tpool__lock(&pool->lock);
    tpool_status status = tpool__closed_status(pool);
    if (status == TPOOL_OK) {
        tpool__store_relaxed(&pool->max_workers, (uintptr_t)max_workers); /* relaxed: under its lock, else a hint */
        tpool__update_room(pool);
        for (tpool__worker *w = pool->sleepers; w; w = w->sleep_next) tpool__unpark(&w->parker); /* to look again */
    }
    tpool__unlock(&pool->lock);
    if (status == TPOOL_OK) tpool__notify_if_work(pool);
    if (tpool__context_pop(tpool__self(), visit)) tpool__caller_leaves(pool);
    return status;
}

static void *tpool__pool_and(tpool *pool, tpool__reason reason) { return (char *)(void *)pool + reason; }
static void tpool__end_waiting_left(void *of) {
    uintptr_t both = (uintptr_t)of, reason = both & (TPOOL__POOL_ALIGNMENT - 1);
    tpool__end_waiting((tpool *)(both - reason), (tpool__reason)reason);
}
static void tpool__count_left(void *of) {
    uintptr_t both = (uintptr_t)of, reason = both & (TPOOL__POOL_ALIGNMENT - 1);
    tpool__count_unstarted((tpool *)(both - reason), (tpool__reason)reason);
}
/* Takes out all that waits and ends it, in the calling thread. What is stranded: only as long as no worker lives, since
 * what comes later starts one. */
static void tpool__end_all_waiting(tpool *pool, tpool__reason reason) {
    tpool__worker *worker = tpool__first_worker(pool);
    tpool__lane *lane = &pool->inject;
    while (!tpool__is_foreign(pool)) { /* foreign: a function called here forked, and this is the child */
        tpool_future *unreferenced = NULL;
        tpool__entry entry = { 0 };
        bool found = false, plain = false;
        const tpool_error *error = &tpool__fixed_errors[reason].error;
        uintptr_t phase = error->status == TPOOL_CANCELLED ? TPOOL__PHASE_CANCELLING : TPOOL__PHASE_EXPIRING;
        /* tpool__retire lowers `live` under this lock, sometimes only for a moment */
        if (reason == TPOOL__IS_STRANDED) tpool__lock(&pool->lock);
        bool has_worker = reason == TPOOL__IS_STRANDED && tpool__load_relaxed(&pool->live) > 0; /* relaxed: its lock */
        if (has_worker) {
            tpool__unlock(&pool->lock);
            return;
        }
        tpool__spin_lock(&lane->lock);
        for (;;) {
            if (tpool__lane_pop(lane, &entry)) {
            } else if (lane == &pool->inject && pool->heap_count > 0) entry.task = tpool__heap_remove(pool, 0);
            else break;
            plain = !entry.task;
            /* an ender until its callbacks have run, since this thread may be no worker */
            found = plain || tpool__claim(entry.task, phase + TPOOL__POPPED);
            if (found) break;
            tpool__tombstone_drop(pool, lane, entry.task, &unreferenced);
        }
        if (found && !plain) {
            if (tpool__expires_at(entry.task)) tpool__expiring_leave(pool, entry.task);
            if (lane != &pool->inject) tpool__spin_lock(&pool->inject.lock);
            pool->enders++;
            if (lane != &pool->inject) tpool__spin_unlock(&pool->inject.lock);
        }
        if (lane == &pool->inject && !(tpool__flags(pool) & (TPOOL__SHUT | TPOOL__BREAK)))
            tpool__grant_room(pool, &unreferenced);
        tpool__spin_unlock(&lane->lock);
        if (reason == TPOOL__IS_STRANDED) tpool__unlock(&pool->lock);
        tpool__dispose_chain(unreferenced);
        if (found && plain) {
            if (error->status == TPOOL_BROKEN && pool->config.on_failure &&
                !tpool__report(pool, error, tpool__count_left, tpool__pool_and(pool, reason)))
                return;
            tpool__count_unstarted(pool, reason); /* after on_failure, so that a drain waits for its return */
            tpool__run_unless_held(tpool__self());
        } else if (found) {
            tpool__end_unstarted(entry.task, reason);
        } else {
            tpool__run_unless_held(tpool__self()); /* what tombstones have listed */
            if (!worker) return;
            lane = &worker->lane;
            worker = tpool__next_worker(worker);
        }
    }
}

/* Submitters that wait for room, and drainers, look at the flags again. */
static void tpool__wake_room_and_drainers(tpool *pool) {
    tpool__spin_lock(&pool->inject.lock);
    tpool__parker *asleep = tpool__wake_drainers(pool, false);
    for (tpool__waiter *waiter = pool->room; waiter; waiter = waiter->next_in_line)
        asleep = tpool__unpark_begin_another(asleep, &waiter->parker);
    tpool__spin_unlock(&pool->inject.lock);
    tpool__unpark_end(asleep);
}
static void tpool__wake_sleepers(tpool *pool) {
    tpool__lock(&pool->lock);
    for (tpool__worker *w = pool->sleepers; w; w = w->sleep_next) tpool__unpark(&w->parker);
    tpool__unlock(&pool->lock);
}

/* If a function called there ends the thread, its exit hook goes on with the rest. */
static void tpool__end_waiting(tpool *pool, tpool__reason reason) {
    tpool__thread *self = tpool__self();
    tpool__context *call = tpool__call_push(self, tpool__end_waiting_left, tpool__pool_and(pool, reason));
    tpool__end_all_waiting(pool, reason);
    (void)tpool__context_pop(self, call); /* the caller checks whether this is a child */
}
/* An initializer failed: what comes later ends as TPOOL_BROKEN, at once also a submit that waits for room, and so does
 * what waits, by tpool__break. */
static void tpool__refuse_for_good(tpool *pool) {
    tpool__set_flags(pool, TPOOL__BREAK, 0);
    tpool__wake_room_and_drainers(pool);
}
/* An initializer failed: what waits and what comes later ends as TPOOL_BROKEN, what runs goes on. */
static void tpool__break(tpool *pool) {
    tpool__refuse_for_good(pool);
    tpool__end_waiting(pool, TPOOL__SETUP_FAILED);
    if (tpool__is_foreign(pool)) return; /* what it has ended forked, and this is the child */
    tpool__wake_sleepers(pool);
}

static uintptr_t tpool__submitted(tpool *pool) {
    tpool__spin_lock(&pool->inject.lock);
    uintptr_t submitted = (uintptr_t)pool->inject.submitted;
    tpool__spin_unlock(&pool->inject.lock);
    for (tpool__worker *w = tpool__first_worker(pool); w; w = tpool__next_worker(w)) {
        tpool__spin_lock(&w->lane.lock);
        submitted += (uintptr_t)w->lane.submitted;
        tpool__spin_unlock(&w->lane.lock);
    }
    return submitted;
}

/* Tasks that have run to their end. */
static uintptr_t tpool__executed(tpool *pool) {
    uintptr_t executed = tpool__load_acquire(&pool->own_counts[TPOOL__COMPLETED]) +
                         tpool__load_acquire(&pool->own_counts[TPOOL__FAILED_COUNT]); /* P10 */
    for (tpool__worker *w = tpool__first_worker(pool); w; w = tpool__next_worker(w))
        executed += tpool__load_acquire(&w->counts[TPOOL__COMPLETED]) +
                    tpool__load_acquire(&w->counts[TPOOL__FAILED_COUNT]); /* P10 */
    return executed;
}
static uintptr_t tpool__ended(tpool *pool) {
    static const int endings[] = { TPOOL__CANCELLED_COUNT, TPOOL__EXPIRED_COUNT, TPOOL__DROPPED_COUNT };
    uintptr_t ended = 0;
    for (int i = 0; i < 3; i++) ended += tpool__load_acquire(&pool->counts[endings[i]]); /* P10 */
    return ended + tpool__executed(pool);
}
static bool tpool__any_busy(tpool *pool) {
    for (tpool__worker *w = tpool__first_worker(pool); w; w = tpool__next_worker(w))
        if (tpool__load_acquire(&w->busy)) return true; /* P10 */
    return false;
}

/* True: all that was submitted before the call has ended, callbacks included. The counts of ended tasks are read first,
 * those of submitted tasks last: if they agree, every task had ended at a moment in between. A task counts as ended
 * before its end is published and its callbacks run; until they have run, its worker is busy, or it is an ender or a
 * tombstone. What the callbacks submit is in the lanes' counts, which are read later. (Mattern's idea of counting
 * twice, 1987.) */
static bool tpool__is_quiet(tpool *pool) {
    tpool_future *unreferenced = NULL;
    tpool__lock(&pool->lock); /* keeps every worker in the list, and so its counts */
    uintptr_t ended = tpool__ended(pool), submitted = 0;
    bool quiet = !tpool__any_busy(pool) && tpool__submitted(pool) == ended; /* mostly false; a sweep costs more */
    for (tpool__worker *w = tpool__first_worker(pool); w && quiet; w = tpool__next_worker(w)) {
        tpool__spin_lock(&w->lane.lock);
        tpool__lane_sweep(pool, &w->lane, &unreferenced);
        quiet = tpool__lane_count(&w->lane) == 0;
        submitted += (uintptr_t)w->lane.submitted;
        tpool__spin_unlock(&w->lane.lock);
    }
    if (quiet) {
        tpool__spin_lock(&pool->inject.lock);
        tpool__lane_sweep(pool, &pool->inject, &unreferenced);
        tpool__heap_sweep(pool, &unreferenced);
        submitted += (uintptr_t)pool->inject.submitted;
        quiet = tpool__lane_count(&pool->inject) == 0 && pool->heap_count == 0 && pool->enders == 0 && !pool->room;
        tpool__spin_unlock(&pool->inject.lock);
    }
    tpool__unlock(&pool->lock);
    tpool__dispose_chain(unreferenced);
    return quiet && submitted == ended;
}

/* No thread is in a call that may outlast the pool's last task. */
static bool tpool__is_deserted(tpool *pool) {
    tpool__spin_lock(&pool->inject.lock);
    bool deserted = pool->callers == 0;
    tpool__spin_unlock(&pool->inject.lock);
    return deserted;
}

/* A launch counts too: it uses what the backend's `stop` frees. */
static bool tpool__workers_ended(tpool *pool) {
    tpool__lock(&pool->lock);
    bool ended = tpool__workers_are_gone(pool) && !pool->launching;
    tpool__unlock(&pool->lock);
    return ended;
}

/* For a destroy: shuts the pool down once it is quiet. True: its workers have ended. */
static bool tpool__shut_when_quiet(tpool *pool) {
    if (!(tpool__flags(pool) & TPOOL__SHUT)) {
        if (!tpool__is_quiet(pool)) return false;
        (void)tpool_shutdown(pool, 0);
    }
    return tpool__workers_ended(pool);
}

/* Waits among the drainers, which are woken whenever a condition may have become true. They also look by themselves,
 * since a worker that stops being busy reads `draining` relaxed, and may miss them. */
#if !defined(TPOOL__DRAINER_LOOKS)
#define TPOOL__DRAINER_LOOKS TPOOL_MS(5)
#endif
static bool tpool__drainer_enter(tpool__waiter *waiter) {
    tpool__drainer *drainer = (tpool__drainer *)(void *)waiter;
    tpool *pool = drainer->pool;
    drainer->listed_last = waiter->self->listed ? waiter->self->listed_last : 0;
    tpool__spin_lock(&pool->inject.lock);
    waiter->next_in_line = pool->drainers;
    pool->drainers = waiter;
    tpool__add_relaxed(&pool->draining, 1); /* relaxed: see tpool__wake_drainers_if_any */
    tpool__spin_unlock(&pool->inject.lock);
    return false;
}
static bool tpool__drainer_look(tpool__waiter *waiter) {
    tpool__drainer *drainer = (tpool__drainer *)(void *)waiter;
    tpool *pool = drainer->pool;
    const tpool__thread *self = waiter->self;
    if (drainer->over(pool)) return tpool__wait_over(waiter, TPOOL_OK);
    if (tpool__flags(pool) & TPOOL__HALTED) return tpool__wait_over(waiter, TPOOL_BROKEN);
    if (tpool__is_stranded(pool)) return tpool__wait_over(waiter, TPOOL_NO_THREAD);
    waiter->look_at = tpool__deadline(TPOOL__DRAINER_LOOKS);
    return self->listed && self->listed_last != drainer->listed_last; /* the look listed it */
}
static void tpool__drainer_leave(tpool__waiter *waiter) {
    tpool *pool = ((tpool__drainer *)(void *)waiter)->pool;
    tpool__spin_lock(&pool->inject.lock);
    tpool__waiter **at = &pool->drainers;
    while (*at != waiter) at = &(*at)->next_in_line;
    *at = waiter->next_in_line;
    tpool__sub_relaxed(&pool->draining, 1); /* relaxed: a hint, and one wake too many does no harm */
    tpool__spin_unlock(&pool->inject.lock);
}
static const tpool__wait_kind tpool__wait_for_condition = {
    NULL, tpool__drainer_enter, tpool__drainer_look, tpool__drainer_leave, "the end of a pool's work", false
};
static tpool_status tpool__await_condition(tpool *pool, tpool__condition over, int64_t deadline) {
    tpool_status status = over(pool) ? TPOOL_OK : TPOOL_TIMEOUT;
    if (status == TPOOL_TIMEOUT && deadline != 0) {
        tpool__drainer drainer = { .waiter = { .can_refuse = true }, .pool = pool, .over = over };
        drainer.until_ended = over == tpool__shut_when_quiet || over == tpool__workers_ended;
        drainer.until_deserted = over == tpool__unlist;
        status = tpool__wait(&drainer.waiter, &tpool__wait_for_condition, deadline);
    }
    tpool__run_unless_held(tpool__self()); /* what the last look has listed */
    return tpool__is_foreign(pool) ? TPOOL_BROKEN : status;
}

/* Comes after the cancelling: a task that starts in place of a stopped one would miss the request. */
static void tpool__stop_running(tpool *pool, unsigned flags) {
    if (flags & TPOOL_STOP_RUNNING) {
        tpool__add_relaxed(&pool->flags, 1u << TPOOL__STOPS_SHIFT); /* relaxed: see tpool__flags */
        tpool__wake_stopped(pool);
    }
    const tpool__backend *backend = tpool__backend_of(pool);
    if (flags & TPOOL_STOP_RUNNING && backend) backend->request_stop(pool, NULL, false);
}

/* Two threads may shut the pool down at once, so each handle is taken first. */
static void tpool__join_once(tpool *pool, tpool__thread_handle *handle) {
    tpool__lock(&pool->lock);
    tpool__thread_handle ended = *handle;
    handle->valid = false;
    tpool__unlock(&pool->lock);
    tpool__thread_join(&ended);
}
/* All workers have ended. Joins those that no other worker has joined (tpool__worker_ended). */
static void tpool__join_ended(tpool *pool) {
    tpool__join_once(pool, &pool->last_ended);
    for (tpool__worker *w = pool->newest; w; w = w->before) tpool__join_once(pool, &w->left);
}

/* The rest of a shutdown, after the pool has closed and has cancelled what it was to cancel. */
static void tpool__shut_down(tpool *pool, unsigned flags) {
    tpool__stop_running(pool, flags);
    if (tpool__flags(pool) & TPOOL__PAUSED) tpool__set_flags(pool, 0, TPOOL__PAUSED);
    tpool__notify_if_work(pool);
    tpool__wake_sleepers(pool);
}
static tpool_status tpool__detach(tpool *pool);
/* A function called during a shutdown has ended the thread: does the rest. */
static void tpool__shutdown_left(void *of) {
    uintptr_t both = (uintptr_t)of, flags = both & (TPOOL__POOL_ALIGNMENT - 1);
    tpool *pool = (tpool *)(both - flags);
    if (tpool__is_foreign(pool)) return;
    tpool__shut_down(pool, (unsigned)flags);
    if (flags & TPOOL_DETACH) (void)tpool__detach(pool); /* refused: the pool has no owner, and stays */
}

static tpool_status tpool__shutdown(tpool *pool, unsigned flags) {
    tpool__lock(&pool->lock);
    tpool__take_no_more(pool, flags);
    tpool__unlock(&pool->lock);
    tpool__fence_lanes(pool);
    tpool__wake_room_and_drainers(pool);
    tpool__thread *self = tpool__self();
    char *pool_and_flags = (char *)(void *)pool + (flags & (TPOOL_STOP_RUNNING | TPOOL_DETACH));
    tpool__context *call = tpool__call_push(self, tpool__shutdown_left, pool_and_flags);
    if (flags & TPOOL_CANCEL_PENDING) tpool__end_waiting(pool, TPOOL__WAS_CANCELLED);
    if (!tpool__context_pop(self, call)) return TPOOL_BROKEN; /* forked there: this is the child */
    tpool__shut_down(pool, flags);
    tpool_status status = flags & TPOOL_DETACH ? tpool__detach(pool) : TPOOL_OK; /* first: a wake may end the thread */
    tpool__run_unless_held(self);
    if (tpool__is_foreign(pool)) return TPOOL_BROKEN; /* forked there: this is the child */
    if (flags & TPOOL_DETACH) return status;
    if (!(flags & TPOOL_WAIT)) return tpool__is_stranded(pool) ? TPOOL_NO_THREAD : TPOOL_OK;
    status = tpool__await_condition(pool, tpool__workers_ended, TPOOL_FOREVER);
    if (status != TPOOL_OK) return status;
    tpool__join_ended(pool);
    return TPOOL_OK;
}
TPOOL_API tpool_status tpool_shutdown(tpool *pool, unsigned flags) {
    if (!pool || flags & ~(TPOOL_WAIT | TPOOL_CANCEL_PENDING | TPOOL_STOP_RUNNING | TPOOL_DETACH)) return TPOOL_INVALID;
    if (flags & TPOOL_DETACH && flags & TPOOL_WAIT) return TPOOL_INVALID;
    if (tpool__is_foreign(pool)) return TPOOL_BROKEN;
    if (flags & TPOOL_DETACH && (pool->shared || pool->manager)) return TPOOL_INVALID_STATE;
    if (flags & TPOOL_WAIT && tpool__within(pool)) return TPOOL_DEADLOCK;
    tpool__context *visit = tpool__caller_enters(pool); /* a task that it cancels, or another thread, may detach it */
    tpool_status status = tpool__shutdown(pool, flags);
    if (!tpool__context_pop(tpool__self(), visit)) return status;
    tpool__caller_leaves(pool);
    if (flags & TPOOL_WAIT && status == TPOOL_OK) tpool__times_rest(); /* it may be a dual pool, which stays */
    return status;
}

TPOOL_API tpool_status tpool_drain(tpool *pool, int64_t timeout_ns) {
    if (!pool) return TPOOL_INVALID;
    if (tpool__is_foreign(pool)) return TPOOL_BROKEN;
    tpool__spin_lock(&pool->inject.lock);
    pool->callers++; /* before its first look: a destroy may free the pool once it is quiet */
    tpool__spin_unlock(&pool->inject.lock);
    tpool__thread *self = tpool__self();
    tpool__context *call = tpool__call_push(self, tpool__caller_left, pool);
    tpool_status status = TPOOL_DEADLOCK;
    if (!tpool__within(pool)) status = tpool__await_condition(pool, tpool__is_quiet, tpool__deadline(timeout_ns));
    if (!tpool__context_pop(self, call)) return TPOOL_BROKEN;
    tpool__caller_leaves(pool);
    return status;
}

/* Takes a pool that no caller is inside from the list of all. The exit handler, a caller too, no longer finds it. */
static bool tpool__unlist(tpool *pool) {
    tpool__lock(&tpool__process.lock);
    bool deserted = tpool__is_deserted(pool);
    if (deserted) {
        if (pool->previous) pool->previous->next = pool->next;
        else tpool__store_release(&tpool__process.pools, pool->next); /* P8: as in tpool__create */
        if (pool->next) pool->next->previous = pool->previous;
    }
    tpool__unlock(&tpool__process.lock);
    return deserted;
}

static void tpool__free(tpool *pool) {
    for (int i = 0; i < 2; i++) { /* a `fire` that saw the pool stalled may arm it once more; no other thread is left */
        (void)tpool__timer_disarm(&pool->stall.timer);
        tpool__timer_await(&pool->stall.timer);
    }
    TPOOL__AT_REST(pool);
    tpool__unmake(pool);
    if (tpool__sub_relaxed(&tpool__process.pool_count, 1) == 1) { /* relaxed: as in tpool__create */
        tpool__cache_flush(tpool__self());
        tpool__depot_trim(false);
    }
    tpool__times_rest();
}

/* The caller is about to drain the pool in order to end it. It resumes the pool, and nothing may pause it any more:
 * its tasks may try, and no other thread would resume it. Several may finish it at once: the exit handler, a destroy or
 * a shutdown of the dual pools. */
static void tpool__finish_begin(tpool *pool) {
    tpool__lock(&pool->lock);
    pool->finishing++;
    tpool__unlock(&pool->lock);
    (void)tpool__resume(pool);
}
/* The caller gives up, or its thread has ended. */
static void tpool__finish_failed(void *of) {
    tpool *pool = of;
    if (tpool__is_foreign(pool)) return; /* forked there: this is the child, and pool->lock may be held for ever */
    tpool__lock(&pool->lock);
    pool->finishing--;
    tpool__unlock(&pool->lock);
}
/* From now on the exit handler leaves the pool alone; what it has halted goes on. */
static void tpool__exempt_from_exit(tpool *pool) {
    tpool__lock(&tpool__process.lock);
    pool->exit_exempt = true;
    tpool__unlock(&tpool__process.lock);
    if (!(tpool__flags(pool) & TPOOL__HALTED)) return;
    tpool__set_flags(pool, 0, TPOOL__HALTED);
    tpool__notify_if_work(pool);
}

static void tpool__iters_outlive(tpool *pool);
/* A destroy gives up. True: the program has no handle any more, so the destroy must go on. */
static bool tpool__destroy_fails(tpool *pool) {
    tpool__store_relaxed(&pool->destroying, 0); /* relaxed: a hint */
    tpool__finish_failed(pool);
    tpool__lock(&tpool__process.lock);
    bool given_up = pool->given_up;
    /* a manager's shutdown exempts its pools for good */
    if (!pool->manager && !given_up) pool->exit_exempt = false;
    tpool__unlock(&tpool__process.lock);
    return given_up;
}
/* The thread of a destroy has ended: the pool goes on, and is the program's to destroy again, or frees itself. */
static void tpool__destroy_left(void *of) {
    tpool *pool = of;
    if (tpool__is_foreign(pool) || !tpool__destroy_fails(pool)) return;
    tpool__lock(&tpool__process.lock);
    pool->exit_exempt = pool->given_up = false;
    tpool__unlock(&tpool__process.lock);
    (void)tpool__detach(pool);
}
/* Waits for the pool's work, ends it, and frees it: the caller, who is in none of its tasks, has its only handle. If
 * *again, the system refuses what it needs, and the caller must go on. */
static TPOOL__NOINLINE tpool_status tpool__finish(tpool *pool, bool *again) {
    tpool__finish_begin(pool);
    tpool__store_relaxed(&pool->destroying, 1); /* relaxed: a hint */
    tpool__thread *self = tpool__self();
    tpool__context *call = tpool__call_push(self, tpool__destroy_left, pool);
    tpool_status status = tpool__await_condition(pool, tpool__shut_when_quiet, TPOOL_FOREVER);
    tpool__store_relaxed(&pool->destroying, 0); /* relaxed: a hint */
    if (status == TPOOL_OK) status = tpool_shutdown(pool, TPOOL_WAIT);
    /* A submitter may have begun to wait for room in between; the shutdown ended its wait. */
    if (status == TPOOL_OK) status = tpool__await_condition(pool, tpool__is_quiet, TPOOL_FOREVER);
    if (status == TPOOL_OK) tpool__stop_backend(pool);
    if (status == TPOOL_OK) tpool__iters_outlive(pool); /* who queues a chunk from now on is counted already */
    if (status == TPOOL_OK) status = tpool__await_condition(pool, tpool__unlist, TPOOL_FOREVER);
    if (!tpool__context_pop(self, call)) return TPOOL_BROKEN; /* forked there: this is the child */
    if (status == TPOOL_OK) tpool__free(pool);
    else *again = tpool__destroy_fails(pool) && status == TPOOL_NO_THREAD;
    return status;
}
/* Where the system refuses a worker that the work needs, a pool's end asks again, later each time. */
static void tpool__finish_pauses(int64_t *pause) {
    tpool__u32 nothing = 0;
    tpool__word_wait(&nothing, 0, *pause);
    if (*pause < TPOOL_SEC(1)) *pause *= 2;
}
static tpool_status tpool__destroy(tpool *pool) {
    if (tpool__within(pool)) return TPOOL_DEADLOCK;
    int64_t pause = TPOOL_MS(1);
    bool again;
    tpool_status status;
    do {
        again = false;
        tpool__exempt_from_exit(pool);
        status = tpool__finish(pool, &again);
        if (again) tpool__finish_pauses(&pause);
    } while (again);
    return status;
}
TPOOL_API tpool_status tpool_destroy(tpool *pool) {
    if (!pool) return TPOOL_OK;
    if (tpool__is_foreign(pool)) return TPOOL_BROKEN;
    return pool->shared || pool->manager ? TPOOL_INVALID_STATE : tpool__destroy(pool);
}

/* A detached pool: a thread of its own finishes and frees it. A worker cannot, since it must be joined; nor can a
 * thread that ends one of its tasks from outside, since the pool waits for it. Where the system refuses a worker that
 * the work needs, it asks again. At exit the pool is halted like any other that is not destroyed; then the thread gives
 * up. */
/* A result_free has ended the thread: another takes its place, since an exit hook may not wait for workers. Refused:
 * the pool has no owner, and stays. */
static void tpool__detached_left(void *of) {
    tpool *pool = (tpool *)of;
    if (tpool__is_foreign(pool)) return;
    tpool__lock(&tpool__process.lock);
    pool->detached = false;
    tpool__unlock(&tpool__process.lock);
    (void)tpool__detach(pool);
}
static void tpool__detached_finish(tpool *pool) {
    tpool__thread *self = tpool__self();
    tpool__u32 nothing = 0;
    int64_t pause = TPOOL_MS(1);
    while (!tpool__arm(self)) tpool__word_wait(&nothing, 0, pause); /* else nothing would follow a thread that ends */
    tpool__context *call = tpool__call_push(self, tpool__detached_left, pool); /* what is freed may end the thread */
    bool again; /* it has always been given up: only the status counts */
    while (tpool__finish(pool, &again) == TPOOL_NO_THREAD) tpool__finish_pauses(&pause);
    (void)tpool__context_pop(self, call);
}
static void tpool__detached_main(void *of) {
    tpool *pool = (tpool *)of;
    tpool__thread *self = tpool__self();
    tpool__lock(&tpool__process.lock); /* which the starter holds until the handle is valid */
    self->detacher = pool->detacher;
    tpool__unlock(&tpool__process.lock);
    tpool__thread_begin(pool->scheduling);
    self->serves = true;
    TPOOL__FINALLY_BEGIN(tpool__thread_left, self)
    tpool__detached_finish(pool);
    TPOOL__FINALLY_END
}
/* The last that such a thread does, also if it was ended. */
static void tpool__detached_end(tpool__thread *self) {
    if (!self->detacher.valid) return;
    tpool__lock(&tpool__process.lock);
    tpool__thread_handle before = tpool__process.detacher;
    tpool__process.detacher = self->detacher;
    if (tpool__load_relaxed(&tpool__process.exits)) /* relaxed: the exit handler takes the lock after it has set it */
        tpool__thread_detach(&tpool__process.detacher);
    tpool__process.detached--;
    tpool__unlock(&tpool__process.lock);
    self->detacher.valid = false;
    tpool__thread_join_in_hook(&before); /* that is about to end */
}
/* On TPOOL_OK the pool may be gone, unless the caller is one of its tasks. */
static tpool_status tpool__detach(tpool *pool) {
    int cancel = tpool__cancel_off();
    tpool__lock(&tpool__process.lock);
    bool is_new = !pool->detached && !pool->exit_exempt; /* a destroy that is under way frees it */
    if (is_new) pool->detached = tpool__thread_start(&pool->detacher, tpool__detached_main, pool, 0);
    bool detached = pool->detached || pool->exit_exempt;
    if (!pool->detached) pool->given_up = pool->exit_exempt;
    tpool__process.detached += is_new && detached;
    tpool__unlock(&tpool__process.lock);
    tpool__cancel_back(cancel);
    return detached ? TPOOL_OK : TPOOL_NO_THREAD;
}
/* For an unloading: until all detached pools are freed, and their threads have ended. */
static TPOOL__UNUSED void tpool__await_detached(void) {
    tpool__u32 nothing = 0;
    tpool__thread_handle last = { 0 };
    for (bool over = false; !over;) {
        tpool__lock(&tpool__process.lock);
        over = tpool__process.detached == 0;
        if (over) last = tpool__process.detacher;
        if (over) tpool__process.detacher.valid = false; /* a task of a shared pool may detach another one meanwhile */
        tpool__unlock(&tpool__process.lock);
        if (!over) tpool__word_wait(&nothing, 0, TPOOL_MS(1));
    }
    tpool__thread_join(&last);
}

static uint64_t tpool__in_bucket(tpool *pool, bool waits, unsigned bucket) {
    /* relaxed: as in tpool_get_stats */
    uint64_t count = tpool__load_relaxed(waits ? &pool->measures->waits[bucket] : &pool->measures->runs[bucket]);
    for (tpool__worker *w = tpool__first_worker(pool); w; w = tpool__next_worker(w))
        count += tpool__load_relaxed(waits ? &w->measures->waits[bucket] : &w->measures->runs[bucket]);
    return count;
}
static void tpool__percentiles(tpool *pool, bool waits, int64_t *p50, int64_t *p99) {
    uint64_t count = 0, seen = 0;
    for (unsigned i = 0; i < TPOOL__BUCKETS; i++) count += tpool__in_bucket(pool, waits, i);
    uint64_t half = count - count / 2, most = count - count / 100;
    *p50 = *p99 = 0;
    for (unsigned i = 0; i < TPOOL__BUCKETS && seen < most; i++) {
        uint64_t before = seen;
        seen += tpool__in_bucket(pool, waits, i);
        if (before < half && seen >= half) *p50 = tpool__middle_of(i);
        if (seen >= most) *p99 = tpool__middle_of(i);
    }
}
static int64_t tpool__busy_ns(const tpool__measures *measures) {
    return (int64_t)(((uint64_t)tpool__load_relaxed(&measures->busy_high) << 30) +
                     tpool__load_relaxed(&measures->busy_low));
}
static void tpool__get_times(tpool *pool, tpool_stats *stats) {
    tpool__percentiles(pool, true, &stats->wait_p50_ns, &stats->wait_p99_ns);
    tpool__percentiles(pool, false, &stats->run_p50_ns, &stats->run_p99_ns);
    stats->busy_ns = tpool__busy_ns(pool->measures);
    for (tpool__worker *w = tpool__first_worker(pool); w; w = tpool__next_worker(w))
        stats->busy_ns += tpool__busy_ns(w->measures);
}

/* Under pool->lock, as in tpool__is_quiet. */
static void tpool__get_counts(tpool *pool, tpool_stats *stats) {
    TPOOL_ASSERT(tpool__held(&pool->lock));
    /* relaxed throughout: the locks that brought a pool to rest brought its counts; else any recent value will do */
    uint64_t own[TPOOL__OWN_COUNTS];
    intptr_t queued = 0;
    for (int i = 0; i < TPOOL__OWN_COUNTS; i++) own[i] = tpool__load_relaxed(&pool->own_counts[i]);
    for (tpool__worker *w = tpool__first_worker(pool); w; w = tpool__next_worker(w)) {
        for (int i = 0; i < TPOOL__OWN_COUNTS; i++) own[i] += tpool__load_relaxed(&w->counts[i]);
        tpool__spin_lock(&w->lane.lock);
        stats->submitted += w->lane.submitted;
        queued += (intptr_t)tpool__lane_count(&w->lane) - w->lane.dead;
        tpool__spin_unlock(&w->lane.lock);
    }
    tpool__spin_lock(&pool->inject.lock);
    stats->submitted += pool->inject.submitted;
    queued += (intptr_t)tpool__waiting(pool);
    tpool__spin_unlock(&pool->inject.lock);
    stats->queued = queued > 0 ? (size_t)queued : 0;
    stats->completed = own[TPOOL__COMPLETED];
    stats->failed = own[TPOOL__FAILED_COUNT];
    stats->inlined = own[TPOOL__INLINED];
    stats->stolen = own[TPOOL__STOLEN_COUNT];
    stats->cancelled = tpool__load_relaxed(&pool->counts[TPOOL__CANCELLED_COUNT]);
    stats->expired = tpool__load_relaxed(&pool->counts[TPOOL__EXPIRED_COUNT]);
    stats->rejected = tpool__load_relaxed(&pool->counts[TPOOL__REJECTED_COUNT]);
    stats->dropped = tpool__load_relaxed(&pool->counts[TPOOL__DROPPED_COUNT]);
    stats->spared = tpool__load_relaxed(&pool->counts[TPOOL__SPARED_COUNT]);
    uintptr_t live = tpool__load_relaxed(&pool->live), busy = 0;
    for (tpool__worker *w = tpool__first_worker(pool); w; w = tpool__next_worker(w))
        busy += tpool__load_relaxed(&w->busy);
    stats->max_workers = (int)tpool__load_relaxed(&pool->max_workers);
    stats->workers = (int)live;
    stats->active = (int)busy;
    stats->idle = (int)(live > busy ? live - busy : 0);
}
TPOOL_API tpool_status tpool_get_stats(tpool *pool, tpool_stats *stats) {
    if (!stats) return TPOOL_INVALID;
    memset(stats, 0, sizeof *stats);
    if (!pool) return TPOOL_INVALID;
    if (tpool__is_foreign(pool)) return TPOOL_BROKEN;
    tpool__lock(&pool->lock);
    tpool__get_counts(pool, stats);
    if (tpool__observed(pool) & TPOOL__MEASURED) tpool__get_times(pool, stats);
    tpool__unlock(&pool->lock);
    return TPOOL_OK;
}

TPOOL_API tpool_status tpool_run_with_timeout(tpool *pool, const tpool_task *task, int64_t timeout_ns,
                                              tpool_future **future) {
    if (future) *future = NULL;
    if (!task || !task->fn || (task->arg_size && !task->arg)) return TPOOL_INVALID;
    int64_t deadline = tpool__deadline(timeout_ns);
    if (!pool) pool = tpool_low_level();
    if (!pool) return TPOOL_NO_MEMORY;
    tpool_future *own = NULL;
    tpool_status status = tpool__submit_task(pool, task, &own, deadline, TPOOL__TIMED);
    if (status != TPOOL_OK) return status;
    tpool__thread *self = tpool__self();
    tpool__context *call = tpool__call_push(self, tpool__release_left, own);
    status = tpool__await(own, deadline);
    if (status == TPOOL_OK) {
        status = tpool__end_of(own);
    } else if (!tpool_future_cancel(own)) {
        tpool_future_request_stop(own); /* a backend knows the limit from the start, and ends the task */
        if (tpool__is_done(own)) status = tpool__end_of(own);
    }
    if (status == TPOOL_BROKEN && tpool__is_done(own)) {
        const tpool__outcome *outcome = tpool__outcome_load(own);
        if (outcome && outcome->is_timeout) status = TPOOL_TIMEOUT;
    }
    (void)tpool__context_pop(self, call);
    if (future) *future = own;
    else tpool_future_release(own);
    return status;
}

/* ====================================================================================================================
 *  >>many-futures  tpool_wait and as_completed
 * ================================================================================================================= */
/* Moves the done futures to the front, each part in its order, without memory: sorts both halves, then swaps the undone
 * of the first with the done of the second by three reversals. Meanwhile the lowest bit of a pointer marks what counts
 * as done. */
static void tpool__reverse(tpool_future **from, tpool_future **to) {
    while (from < to) {
        tpool_future *swapped = *from;
        *from++ = *--to;
        *to = swapped;
    }
}
static size_t tpool__partition(tpool_future **futures, size_t count) {
    if (count == 1) return (uintptr_t)futures[0] & 1;
    size_t half = count / 2, left = tpool__partition(futures, half);
    size_t right = tpool__partition(futures + half, count - half);
    tpool__reverse(futures + left, futures + half);
    tpool__reverse(futures + half, futures + half + right);
    tpool__reverse(futures + left, futures + half + right);
    return left + right;
}
static size_t tpool__done_first(tpool_future **futures, size_t count) {
    for (size_t i = 0; i < count; i++) tpool__expire(futures[i]);
    size_t done = 0, before;
    do { /* until a pass finds no more: a future that stands there twice may end between its looks */
        before = done;
        for (size_t i = 0; i < count; i++) {
            if ((uintptr_t)futures[i] & 1 || !tpool__is_done(futures[i])) continue;
            futures[i] = (tpool_future *)((uintptr_t)futures[i] | 1);
            done++;
        }
    } while (done != before && done != count);
    if (count) (void)tpool__partition(futures, count);
    for (size_t i = 0; i < done; i++) futures[i] = (tpool_future *)((uintptr_t)futures[i] & ~(uintptr_t)1);
    return done;
}

static bool tpool__is_exception(tpool_future *future) {
    return tpool__is_done(future) && tpool__end_of(future) != TPOOL_OK && tpool__end_of(future) != TPOOL_CANCELLED;
}
static bool tpool__wait_is_over(tpool_future *const *futures, size_t count, tpool_return_when when) {
    size_t done = 0;
    for (size_t i = 0; i < count; i++) {
        if (!tpool__is_done(futures[i])) continue;
        if (when == TPOOL_FIRST_COMPLETED || (when == TPOOL_FIRST_EXCEPTION && tpool__is_exception(futures[i])))
            return true;
        done++;
    }
    return done == count;
}

/* The same, judged by a partition alone, without another look: what ends after it belongs to neither its count nor the
 * status. */
static bool tpool__is_over_with(tpool_future *const *futures, size_t done, size_t count, tpool_return_when when) {
    bool over = done == count || (done > 0 && when == TPOOL_FIRST_COMPLETED);
    for (size_t i = 0; i < done && !over && when == TPOOL_FIRST_EXCEPTION; i++) over = tpool__is_exception(futures[i]);
    return over;
}

static tpool_status tpool__wait_all(tpool_future *const *futures, size_t count, int64_t deadline) {
    tpool__thread *self = tpool__self();
    if (deadline == TPOOL_FOREVER && self->worker) /* in the order of the array, before it sleeps for any of them */
        for (size_t i = 0; i < count; i++)
            if (!tpool__is_done(futures[i]) && !tpool__is_orphan(futures[i]) &&
                !tpool__within_setup(tpool__pool_of(futures[i]))) {
                tpool__expire(futures[i]);
                if (tpool__may_execute_in_place(self, futures[i])) (void)tpool__execute_in_place(self, futures[i]);
            }
    tpool__expiry few[TPOOL__FEW];
    tpool__expiries expiries;
    tpool__record record;
    record.thread = NULL; /* not recorded */
    if (!tpool__expiries_begin(&expiries, few, futures, count)) return TPOOL_NO_MEMORY;
    tpool_status status = TPOOL_OK;
    tpool__context *call = tpool__memory_push(self, expiries.heap, few);
    for (size_t i = 0; i < count && status == TPOOL_OK; i++) {
        tpool__wanted wanted = { futures + i, count - i, &expiries, true, &record };
        status = tpool__await_in(futures[i], deadline, &wanted);
    }
    tpool__record_suspend(self, &record);
    tpool__memory_pop(self, call, expiries.heap);
    return status;
}

/* A wait for the first of several: a node on each future; all of them wake one waiter, which then looks. */
typedef struct tpool__first_node {
    tpool__node node;
    tpool__waiter *waiter;
    tpool_return_when when;
    tpool__word *left; /* how many are not done */
} tpool__first_node;
static tpool__parker *tpool__wake_first(tpool__node *node, tpool_future *future, tpool__parker *asleep) {
    tpool__first_node *first = (tpool__first_node *)(void *)node;
    /* relaxed: the waiter's park orders; it looks at the futures themselves */
    bool last = tpool__sub_relaxed(first->left, 1) == 1;
    if (!last && first->when != TPOOL_FIRST_COMPLETED && !tpool__is_exception(future)) return asleep;
    return tpool__unpark_begin_another(asleep, &first->waiter->parker);
}

/* A thread that waits for the first of several futures. */
typedef struct tpool__several_waiter {
    tpool__waiter waiter;
    tpool_future *const *futures;
    size_t count;
    tpool_return_when when;
    tpool__first_node *nodes;
    tpool__expiries expiries;
    tpool__word left; /* how many are not done */
    tpool__record record;
} tpool__several_waiter;

static tpool_future *tpool__several_halted(tpool__several_waiter *several) {
    for (size_t i = 0; i < several->count; i++)
        if (tpool__must_execute_halted(several->waiter.self, several->futures[i])) return several->futures[i];
    return NULL;
}
static bool tpool__several_expire(tpool__waiter *waiter) {
    tpool__several_waiter *several = (tpool__several_waiter *)(void *)waiter;
    tpool_future *halted = tpool__several_halted(several);
    if (!halted && !tpool__any_expired(&several->expiries)) return false;
    if (halted) (void)tpool__execute_in_place(waiter->self, halted);
    else tpool__expire_all_due(&several->expiries);
    if (tpool__wait_is_over(several->futures, several->count, several->when)) return tpool__wait_over(waiter, TPOOL_OK);
    for (size_t i = 0; i < several->count; i++)
        if (!tpool__is_done(several->futures[i]) && tpool__is_orphan(several->futures[i]))
            return tpool__wait_over(waiter, TPOOL_BROKEN);
    return false;
}
static bool tpool__several_enter(tpool__waiter *waiter) {
    tpool__several_waiter *several = (tpool__several_waiter *)(void *)waiter;
    /* relaxed: tpool__node_add shares it. One more until all are there. */
    tpool__store_relaxed(&several->left, several->count + 1);
    for (size_t i = 0; i < several->count; i++) {
        tpool__first_node *node = &several->nodes[i];
        node->node.done = tpool__wake_first;
        node->node.link = NULL;
        node->waiter = waiter;
        node->when = several->when;
        node->left = &several->left;
        if (tpool__node_add(several->futures[i], &node->node)) continue;
        node->node.done = NULL; /* not in its list: nothing to remove */
        tpool__sub_relaxed(&several->left, 1);
    }
    tpool__sub_relaxed(&several->left, 1);
    tpool__record_first(waiter, &several->record, several->futures, several->count, NULL);
    return false;
}
static bool tpool__several_look(tpool__waiter *waiter) {
    tpool__several_waiter *several = (tpool__several_waiter *)(void *)waiter;
    if (tpool__wait_is_over(several->futures, several->count, several->when)) return tpool__wait_over(waiter, TPOOL_OK);
    if (tpool__are_halted_for_good(waiter->self, several->futures, several->count))
        return tpool__wait_over(waiter, TPOOL_BROKEN);
    if (tpool__several_halted(several)) return true;
    waiter->look_at = tpool__expiries_next(&several->expiries, TPOOL_FOREVER);
    return waiter->look_at != TPOOL_FOREVER && tpool__clock() >= waiter->look_at;
}
static void tpool__several_leave(tpool__waiter *waiter) {
    tpool__several_waiter *several = (tpool__several_waiter *)(void *)waiter;
    for (size_t i = 0; i < several->count; i++)
        if (several->nodes[i].node.done) tpool__node_remove(several->futures[i], &several->nodes[i].node);
    tpool__record_suspend(waiter->self, &several->record);
}
static const tpool__wait_kind tpool__wait_for_first = {
    tpool__several_expire, tpool__several_enter,           tpool__several_look,
    tpool__several_leave,  "the first of several futures", false
};

/* True: the caller runs in all of these tasks, or for them (a job, a loop's part), so none ends while it waits. */
static bool tpool__caller_runs_all(tpool_future *const *futures, size_t count) {
    const tpool__context *context = tpool__self()->context;
    for (size_t i = 0; i < count; i++)
        if (!context || !tpool__any_context(context, tpool__is_of_task, futures[i])) return false;
    return true;
}

static tpool_status tpool__wait_first(tpool_future *const *futures, size_t count, tpool_return_when when,
                                      int64_t deadline) {
    if (tpool__wait_is_over(futures, count, when)) return TPOOL_OK;
    for (size_t i = 0; i < count; i++) {
        if (tpool__is_done(futures[i])) continue;
        if (tpool__is_orphan(futures[i])) return TPOOL_BROKEN;
        if (deadline != 0 && tpool__within_setup(tpool__pool_of(futures[i]))) return TPOOL_DEADLOCK;
    }
    if (deadline == 0) return TPOOL_TIMEOUT;
    if (deadline == TPOOL_FOREVER && tpool__caller_runs_all(futures, count)) return TPOOL_DEADLOCK;
    tpool__first_node few[TPOOL__FEW];
    tpool__expiry few_expiries[TPOOL__FEW];
    tpool__several_waiter several = {
        .waiter = { .can_refuse = true }, .futures = futures, .count = count, .when = when, .nodes = few
    };
    if (count > TPOOL__FEW) {
        several.nodes = count <= SIZE_MAX / sizeof *few ? TPOOL_MALLOC(count * sizeof *few) : NULL;
        if (!several.nodes) return TPOOL_NO_MEMORY;
    }
    if (!tpool__expiries_begin(&several.expiries, few_expiries, futures, count)) {
        if (several.nodes != few) TPOOL_FREE(several.nodes);
        return TPOOL_NO_MEMORY;
    }
    tpool__thread *self = tpool__self();
    tpool__context *nodes_call = tpool__memory_push(self, several.nodes, few);
    tpool__context *expiries_call = tpool__memory_push(self, several.expiries.heap, few_expiries);
    tpool_status status = tpool__wait(&several.waiter, &tpool__wait_for_first, deadline);
    tpool__memory_pop(self, expiries_call, several.expiries.heap);
    tpool__memory_pop(self, nodes_call, several.nodes);
    return status;
}

TPOOL_API tpool_status tpool_wait(tpool_future **futures, size_t count, tpool_return_when when, int64_t timeout_ns,
                                  size_t *done) {
    if (done) *done = 0;
    if ((!futures && count) || (unsigned)when > (unsigned)TPOOL_FIRST_EXCEPTION) return TPOOL_INVALID;
    for (size_t i = 0; i < count; i++)
        if (!futures[i]) return TPOOL_INVALID;
    for (size_t i = 0; i < count; i++) tpool__expire(futures[i]); /* all of them, whatever becomes of the wait */
    tpool_status status = TPOOL_OK;
    int64_t deadline = tpool__deadline(timeout_ns);
    if (count > 0 && when == TPOOL_ALL_COMPLETED) status = tpool__wait_all(futures, count, deadline);
    else if (count == 1) status = tpool__wait_all(futures, count, deadline); /* the first of one is all of it */
    else if (count > 0) status = tpool__wait_first(futures, count, when, deadline);
    if (!done) return status;
    *done = tpool__done_first(futures, count);
    return status == TPOOL_TIMEOUT && tpool__is_over_with(futures, *done, count, when) ? TPOOL_OK : status;
}

/* --------------------------------------------------------------------------------------------------------------------
 *  as_completed: a waiter node on each future puts an item into a list when it completes, with one exchange; next takes
 *  over all that has come, and yields it one by one. A hash table by the future's address knows which are in the set.
 *  An item lies in a task's memory, which is at hand and warm.
 *
 *  The list is a stack (Treiber, 1986) that is only emptied as a whole, so an address that comes again does no harm.
 *  Rejected: a list under the spinlock. With a consumer that keeps up with two workers on two CPUs, one run in six took
 *  0.4 to 0.9 us a future, for yields and sleeps at the lock; with the stack 0.08 to 0.1, one run in ten 0.13 to 0.2.
 * ----------------------------------------------------------------------------------------------------------------- */
typedef struct tpool__item {
    tpool__node node; /* `next`: among the ready, once the future is done */
    tpool_completions *owner;
    tpool_future *future;
    size_t index;
    struct tpool__item *chained; /* in its bucket */
} tpool__item;
_Static_assert(offsetof(tpool_future, u) + sizeof(tpool__item) <= sizeof(tpool_future), "an item fits into a block");
typedef struct tpool__expiring_item { /* of a future that may expire */
    tpool__item item;
    size_t place; /* among the iterator's expiries; SIZE_MAX: it has left them */
} tpool__expiring_item;
static void tpool__item_placed(void *item, size_t place) { ((tpool__expiring_item *)item)->place = place; }

/* What notifies the event loop that polls the iterator. Armed, it stands in `arrived` in place of a waiter, and the
 * item that comes first takes it out and fires it. Only next arms it, when it has found nothing. With a descriptor, one
 * of these holds outside of next: it is armed, and the event is not set; or the event is set, or about to be
 * (`notified`). So the event is set as long as next has something to give.
 *
 *  state of an on_ready:  IDLE     fire lists the call in the firing thread (see >>nested), and makes it LISTED
 *                         LISTED   the call has not begun; another fire has nothing to add
 *                         RUNS     wake runs; a fire makes it AGAIN
 *                         AGAIN    wake runs, and is called once more
 *                         DEAD     the iterator is gone; the thread that has it in its list, or runs it, frees it */
enum {
    TPOOL__NOTIFIER_IDLE,
    TPOOL__NOTIFIER_LISTED,
    TPOOL__NOTIFIER_RUNS,
    TPOOL__NOTIFIER_AGAIN,
    TPOOL__NOTIFIER_DEAD
};
typedef struct tpool__notifier {
    tpool__due due;              /* first */
    void (*wake)(void *context); /* NULL: it has a descriptor */
    void *context;
    tpool__u32 state;
    tpool__word runs_in; /* the thread */
    tpool__event event;
    tpool__timer timer; /* for the earliest expiry in the iterator; fires the notifier */
    int64_t timed_at;
    tpool_completions *completions;
} tpool__notifier;
#define TPOOL__ARMED ((uintptr_t)3)
/* Whether it is a waiter in next or TPOOL__ARMED, and no item. */
static inline bool tpool__is_waiter(uintptr_t arrived) { return (arrived & 1) != 0; }

struct tpool_completions {
    tpool__word arrived; /* items that have come, the last first; or the waiter in next, or TPOOL__ARMED */
    tpool__u32 notified; /* 1: the thread that took the waiter or ARMED out does not touch this iterator again */
    tpool__node *ready;  /* what next has taken over, the first first; next alone uses this and the two below */
    tpool_future *yielded;
    size_t index;
    tpool__spinlock lock; /* guards the rest */
    tpool__item **buckets;
    size_t bucket_count, remaining, positions;
    size_t halted_at;                 /* see tpool__halted_bucket */
    tpool__expiries expiries;         /* of those that were pending when added */
    size_t apart;                     /* at this count no future belonged to a pool whose initializer runs in ... */
    const tpool__context *apart_from; /* ... this context */
    tpool__notifier *notifier;        /* NULL: no event loop is to be notified */
    uintptr_t generation;
};

/* Tasks lie side by side in slabs, so their addresses spread by themselves, in the order in which they come. */
static size_t tpool__bucket(const tpool_completions *completions, const tpool_future *future) {
    return (size_t)((uintptr_t)future / sizeof(tpool_future)) & (completions->bucket_count - 1);
}

/* Runs wake, in the list of the thread that fired the notifier. */
static void tpool__notifier_left(void *of);
static void tpool__notifier_call(tpool__thread *self, tpool__due *due) {
    tpool__notifier *notifier = (tpool__notifier *)(void *)due;
    tpool__context *context = self->context; /* the list's */
    uint32_t state = TPOOL__NOTIFIER_LISTED;
    tpool__store_relaxed(&notifier->runs_in, (uintptr_t)self);                 /* relaxed: P17 publishes it */
    if (!tpool__cas_acq_rel(&notifier->state, &state, TPOOL__NOTIFIER_RUNS)) { /* P17 */
        TPOOL_FREE(notifier);                                                  /* DEAD */
        return;
    }
    context->left = tpool__notifier_left;
    context->of = notifier;
    context->pool = self->worker ? self->worker->pool : NULL; /* the end of that pool waits for this call */
    do {
        notifier->wake(notifier->context);
        if (!TPOOL__LIKELY(self->context == context)) return; /* it forked, and this is the child of fork */
        state = TPOOL__NOTIFIER_AGAIN;
    } while (tpool__cas_acq_rel(&notifier->state, &state, TPOOL__NOTIFIER_RUNS)); /* P17 */
    context->left = NULL;
    context->pool = NULL;
    tpool__notifier_left(notifier);
}
/* wake has returned, or has ended the thread. */
static void tpool__notifier_left(void *of) {
    tpool__notifier *notifier = (tpool__notifier *)of;
    uint32_t state = TPOOL__NOTIFIER_RUNS;
    if (tpool__cas_acq_rel(&notifier->state, &state, TPOOL__NOTIFIER_IDLE)) return; /* P17 */
    if (state == TPOOL__NOTIFIER_DEAD) {
        TPOOL_FREE(notifier);
        return;
    }
    tpool__store_release(&notifier->state, TPOOL__NOTIFIER_LISTED); /* P17: it was AGAIN */
    tpool__list(tpool__self(), (uintptr_t)&notifier->due | 2);
}
/* May be called under any lock: the program's function is only listed. */
static void tpool__notifier_fire(tpool__notifier *notifier) {
    if (!notifier->wake) {
        tpool__event_set(&notifier->event);
        return;
    }
    uint32_t state = tpool__load_relaxed(&notifier->state); /* relaxed: the exchange orders */
    while (state == TPOOL__NOTIFIER_IDLE || state == TPOOL__NOTIFIER_RUNS) {
        uint32_t next = state == TPOOL__NOTIFIER_IDLE ? TPOOL__NOTIFIER_LISTED : TPOOL__NOTIFIER_AGAIN;
        if (!tpool__cas_acq_rel(&notifier->state, &state, next)) continue; /* P17 */
        if (next == TPOOL__NOTIFIER_LISTED) tpool__list(tpool__self(), (uintptr_t)&notifier->due | 2);
        return;
    }
}

/* The caller has taken the waiter or ARMED out of `arrived`. Notifies, and then touches neither it nor the iterator. */
static tpool__parker *tpool__completions_notify(tpool_completions *completions, uintptr_t waits,
                                                tpool__parker *asleep) {
    if (waits == TPOOL__ARMED) tpool__notifier_fire(completions->notifier);
    else asleep = tpool__unpark_begin_another(asleep, &((tpool__waiter *)(waits - 1))->parker);
    tpool__store_release(&completions->notified, 1); /* P15 */
    return asleep;
}

/* After the exchange the item may be gone, and the iterator too unless a waiter was there. */
static tpool__parker *tpool__item_done(tpool__node *node, tpool_future *future, tpool__parker *asleep) {
    tpool_completions *completions = ((tpool__item *)(void *)node)->owner;
    (void)future;
    uintptr_t arrived = tpool__load_relaxed(&completions->arrived); /* relaxed: the exchange orders */
    do node->next = tpool__is_waiter(arrived) ? NULL : (tpool__node *)arrived;
    while (!tpool__cas_acq_rel(&completions->arrived, &arrived, (uintptr_t)node)); /* P15 */
    return tpool__is_waiter(arrived) ? tpool__completions_notify(completions, arrived, asleep) : asleep;
}

/* Notifies the thread in next although no item has come: one was added that expires before all others, or the
 * earliest has expired, or the pool is halted. */
static tpool__parker *tpool__completions_wake_begin(tpool_completions *completions) {
    /* relaxed: the waiter comes into `arrived` before it looks under the spinlock */
    uintptr_t arrived = tpool__load_relaxed(&completions->arrived);
    if (!tpool__is_waiter(arrived) || !tpool__cas_acquire(&completions->arrived, &arrived, 0)) return NULL; /* P15 */
    return tpool__completions_notify(completions, arrived, NULL);
}
static void tpool__completions_wake(tpool_completions *completions) {
    tpool__unpark_end(tpool__completions_wake_begin(completions));
}

static bool tpool__completions_grow(tpool_completions *completions, size_t least) {
    size_t count = completions->bucket_count ? completions->bucket_count * 2 : 64;
    while (count < least && count <= SIZE_MAX / 2) count *= 2;
    tpool__item **buckets = tpool__alloc_many(count, sizeof *buckets);
    if (!buckets) return completions->bucket_count > 0; /* the chains get longer instead */
    tpool__item **old = completions->buckets;
    size_t old_count = completions->bucket_count;
    completions->buckets = buckets;
    completions->bucket_count = count;
    for (size_t i = 0; i < old_count; i++) {
        while (old[i]) {
            tpool__item *item = old[i];
            old[i] = item->chained;
            size_t bucket = tpool__bucket(completions, item->future);
            item->chained = buckets[bucket];
            buckets[bucket] = item;
        }
    }
    if (old) TPOOL_FREE(old);
    return true;
}

/* Under the spinlock, which guards all that leads to an item. */
static tpool__item *tpool__item_new(tpool__expiries *expiries, const tpool_future *future) {
    if (tpool__expires_at(future)) {
        if (!tpool__expiries_reserve(expiries)) return NULL;
        tpool__expiring_item *expiring = TPOOL_MALLOC(sizeof *expiring);
        if (!expiring) return NULL;
        expiring->place = SIZE_MAX;
        return &expiring->item;
    }
    tpool_future *task = tpool__task_new(tpool__self());
    return task ? (tpool__item *)(void *)&task->u : NULL;
}
static void tpool__item_free(tpool__item *item) { /* while its future exists */
    if (tpool__expires_at(item->future)) TPOOL_FREE(item);
    else tpool__task_free((tpool_future *)(void *)((char *)item - offsetof(tpool_future, u)));
}
/* The item comes into the set. The bucket array exists, and so does a place among the expiries, if it needs one. True:
 * it expires before all others. */
static bool tpool__item_enter(tpool_completions *completions, tpool__item *item) {
    TPOOL_ASSERT(tpool__held(&completions->lock));
    size_t bucket = tpool__bucket(completions, item->future);
    item->index = completions->positions++;
    item->chained = completions->buckets[bucket];
    completions->buckets[bucket] = item;
    completions->remaining++;
    tpool__expiry expiry = { tpool__expires_at(item->future), item };
    if (!expiry.at || !tpool__is_pending(item->future)) return false;
    TPOOL_ASSERT(completions->expiries.count < completions->expiries.size);
    completions->expiries.placed = tpool__item_placed;
    tpool__expiry_up(&completions->expiries, completions->expiries.count++, expiry);
    return completions->expiries.heap[0].of == item;
}
static void tpool__item_leaves_expiries(tpool_completions *completions, tpool__item *item) {
    TPOOL_ASSERT(tpool__held(&completions->lock));
    if (!tpool__expires_at(item->future) || ((tpool__expiring_item *)(void *)item)->place == SIZE_MAX) return;
    (void)tpool__expiry_remove(&completions->expiries, ((tpool__expiring_item *)(void *)item)->place);
    ((tpool__expiring_item *)(void *)item)->place = SIZE_MAX;
}

static bool tpool__completions_room(tpool_completions *completions) {
    TPOOL_ASSERT(tpool__held(&completions->lock));
    return completions->remaining < completions->bucket_count || tpool__completions_grow(completions, 0);
}

/* A submit with task.completions gets the item, and all that it takes to enter it, before the task is placed. The item
 * is the first waiter node of the task, which no other thread knows yet; a reference is the item's. */
static tpool_status tpool__completions_reserve(tpool_completions *completions, tpool_future *task) {
    if (tpool__is_foreign(completions)) return TPOOL_BROKEN;
    tpool__spin_lock(&completions->lock);
    tpool__item *item = tpool__completions_room(completions) ? tpool__item_new(&completions->expiries, task) : NULL;
    if (item && tpool__expires_at(task)) completions->expiries.promised++;
    tpool__spin_unlock(&completions->lock);
    if (!item) return TPOOL_NO_MEMORY;
    item->node.done = tpool__item_done;
    item->node.next = NULL;
    item->node.link = &task->nodes;
    item->owner = completions;
    item->future = task;
    task->nodes = &item->node;
    tpool__add_relaxed(&task->state, TPOOL__REFERENCE + TPOOL__HAS_NODES); /* relaxed: not shared */
    return TPOOL_OK;
}
/* The task was not placed. */
static void tpool__completions_unreserve(tpool_future *task) {
    tpool__item *item = (tpool__item *)(void *)task->nodes;
    tpool_completions *completions = item->owner;
    task->nodes = NULL;
    if (tpool__is_foreign(completions)) return; /* a program function forked meanwhile, and this is the child */
    if (tpool__expires_at(task)) {
        tpool__spin_lock(&completions->lock);
        completions->expiries.promised--;
        tpool__spin_unlock(&completions->lock);
    }
    tpool__item_free(item);
}
/* The task is about to be placed, under the lane's spinlock, and its item comes into the set: no task runs that is not
 * in it, and none is in it that the pool has not taken. Once the lock is released another thread may end the task,
 * yield it, and destroy the iterator. pool NULL: the task runs in its submitter, and is in no queue. */
static bool tpool__completions_enter(tpool *pool, tpool_future *task) {
    tpool__item *item = (tpool__item *)(void *)task->nodes;
    tpool_completions *completions = item->owner;
    bool expires = tpool__expires_at(task) != 0;
    if (pool && expires && !tpool__expiring_enter(pool, task)) return false;
    tpool__spin_lock(&completions->lock);
    completions->expiries.promised -= expires;
    tpool__parker *asleep = tpool__item_enter(completions, item) ? tpool__completions_wake_begin(completions) : NULL;
    tpool__spin_unlock(&completions->lock);
    tpool__unpark_end(asleep);
    return true;
}

TPOOL_API tpool_status tpool_completions_add(tpool_completions *completions, tpool_future *future) {
    if (!completions || !future) return TPOOL_INVALID;
    if (tpool__is_foreign(completions)) return TPOOL_BROKEN;
    tpool__expire(future);
    if (!tpool__is_done(future) && tpool__is_orphan(future)) return TPOOL_BROKEN;
    tpool_status status = TPOOL_OK;
    tpool__item *item = NULL;
    bool expires = false, awaited = false;
    tpool__spin_lock(&completions->lock);
    if (!tpool__completions_room(completions)) {
        status = TPOOL_NO_MEMORY;
    } else {
        tpool__item *known = completions->buckets[tpool__bucket(completions, future)];
        while (known && known->future != future) known = known->chained;
        if (known) {
            completions->positions++;
        } else if ((item = tpool__item_new(&completions->expiries, future)) == NULL) {
            status = TPOOL_NO_MEMORY;
        } else {
            item->node.done = tpool__item_done;
            item->node.link = NULL;
            item->owner = completions;
            item->future = tpool_future_retain(future);
            expires = tpool__item_enter(completions, item);
            uintptr_t arrived = tpool__load_relaxed(&completions->arrived); /* relaxed: see tpool__ask_others */
            awaited = arrived & 1 && arrived != TPOOL__ARMED;
        }
    }
    tpool__spin_unlock(&completions->lock);
    if (expires) tpool__completions_wake(completions);
    if (item && !tpool__node_add(future, &item->node)) tpool__unpark_end(tpool__item_done(&item->node, future, NULL));
    if (awaited) tpool__ask_others(NULL);
    tpool__run_unless_held(tpool__self()); /* an on_ready */
    return status;
}

static void tpool__completions_free(void *of);
TPOOL_API tpool_status tpool_as_completed(tpool_future *const *futures, size_t count, tpool_completions **completions) {
    if (!completions) return TPOOL_INVALID;
    *completions = NULL;
    if (!futures && count) return TPOOL_INVALID;
    for (size_t i = 0; i < count; i++)
        if (!futures[i]) return TPOOL_INVALID;
    if (!tpool__process_ready()) return TPOOL_NO_MEMORY;
    tpool_completions *created = tpool__alloc(sizeof *created);
    if (!created) return TPOOL_NO_MEMORY;
    created->generation = tpool__generation();
    if (count > 0 && !tpool__completions_grow(created, count)) {
        tpool__completions_free(created);
        return TPOOL_NO_MEMORY;
    }
    tpool_status status = TPOOL_OK;
    tpool__thread *self = tpool__self(); /* each add may end what has expired, and an end this thread */
    tpool__context *call = count > 0 ? tpool__call_push(self, tpool__completions_free, created) : NULL;
    for (size_t i = 0; i < count && status == TPOOL_OK; i++) status = tpool_completions_add(created, futures[i]);
    if (call) (void)tpool__context_pop(self, call); /* in a child each add gives TPOOL_BROKEN */
    if (status == TPOOL_OK) *completions = created;
    else tpool_completions_destroy(created);
    return status;
}

/* The earliest expiry. Under the spinlock. */
static int64_t tpool__completions_expire_at(const tpool_completions *completions) {
    TPOOL_ASSERT(tpool__held(&completions->lock));
    return completions->expiries.count > 0 ? completions->expiries.heap[0].at : TPOOL_FOREVER;
}
/* Ends what has expired, earliest first, as any look would; there may be no other. What is not pending just leaves. */
static void tpool__completions_expire(tpool_completions *completions) {
    for (;;) {
        tpool_future *expired = NULL;
        tpool__spin_lock(&completions->lock);
        int64_t now = completions->expiries.count > 0 ? tpool__clock() : 0;
        while (!expired && completions->expiries.count > 0 && tpool__completions_expire_at(completions) <= now) {
            tpool__item *item = (tpool__item *)completions->expiries.heap[0].of;
            tpool__item_leaves_expiries(completions, item);
            if (tpool__is_pending(item->future)) expired = tpool_future_retain(item->future);
        }
        tpool__spin_unlock(&completions->lock);
        if (!expired) return;
        tpool__thread *self = tpool__self();
        tpool__context *call = tpool__call_push(self, tpool__release_left, expired);
        tpool__expire(expired);                      /* its end runs callbacks, and our own node's */
        if (!tpool__context_pop(self, call)) return; /* forked there: this is the child */
        tpool_future_release(expired);
    }
}

/* Takes over all that has come. */
static void tpool__completions_take(tpool_completions *completions) {
    tpool__node *newest = (tpool__node *)tpool__exchange_acquire(&completions->arrived, 0); /* P15 */
    while (newest) {
        tpool__node *older = newest->next;
        newest->next = completions->ready;
        completions->ready = newest;
        newest = older;
    }
}

static tpool_future *tpool__completions_yield(tpool_completions *completions) {
    tpool__item *item = (tpool__item *)(void *)completions->ready;
    tpool_future *future = item->future, *earlier = completions->yielded; /* yielded to a callback meanwhile */
    completions->ready = item->node.next;
    completions->yielded = future;
    tpool__spin_lock(&completions->lock);
    completions->index = item->index; /* a submit may just have set it, under the lock */
    tpool__item **at = &completions->buckets[tpool__bucket(completions, future)];
    while (*at != item) at = &(*at)->chained;
    *at = item->chained;
    completions->remaining--;
    tpool__item_leaves_expiries(completions, item);
    tpool__spin_unlock(&completions->lock);
    tpool__item_free(item);
    tpool_future_release(earlier);
    return future;
}

/* Whether an item has come. Relaxed: taking it over acquires. */
static inline bool tpool__has_arrived(tpool_completions *completions) {
    uintptr_t arrived = tpool__load_relaxed(&completions->arrived);
    return arrived && !tpool__is_waiter(arrived);
}

/* The event is not set. False: something has come, and the event is set again. */
static bool tpool__notifier_arm_cleared(tpool_completions *completions) {
    tpool__notifier *notifier = completions->notifier;
    uintptr_t seen = 0;
    tpool__store_relaxed(&completions->notified, 0); /* relaxed: the exchange releases it */
    if (tpool__cas_release(&completions->arrived, &seen, TPOOL__ARMED)) return true; /* P15 */
    tpool__store_relaxed(&completions->notified, 1); /* relaxed: no other thread has taken ARMED out */
    if (!notifier->wake) tpool__event_set(&notifier->event);
    return false;
}
static void tpool__await_notified(tpool_completions *completions) {
    unsigned tries = 0;
    while (!tpool__load_acquire(&completions->notified)) tpool__backoff(&tries); /* P15 */
}
static void tpool__notifier_timed(tpool__timer *timer) {
    void *notifier = (char *)timer - offsetof(tpool__notifier, timer);
    tpool__completions_wake(((tpool__notifier *)notifier)->completions);
}
/* The timer notices the earliest expiry. Only next arms it, so that an add, under whatever lock, need not. */
static void tpool__notifier_time(tpool_completions *completions) {
    tpool__notifier *notifier = completions->notifier;
    tpool__spin_lock(&completions->lock);
    int64_t at = tpool__completions_expire_at(completions);
    tpool__spin_unlock(&completions->lock);
    if (at == notifier->timed_at) return;
    (void)tpool__timer_disarm(&notifier->timer);
    tpool__timer_await(&notifier->timer);
    notifier->timed_at = at;
    if (at != TPOOL_FOREVER) tpool__timer_arm(&notifier->timer, at);
}
/* next has found nothing. False: something has come meanwhile. */
static TPOOL__NOINLINE bool tpool__notifier_arm(tpool_completions *completions) {
    tpool__notifier *notifier = completions->notifier;
    if (tpool__load_relaxed(&completions->arrived) != TPOOL__ARMED) { /* relaxed: only next arms */
        tpool__await_notified(completions);
        if (!notifier->wake) tpool__event_clear(&notifier->event);
        if (!tpool__notifier_arm_cleared(completions)) return false;
    }
    tpool__notifier_time(completions);
    return true;
}

/* The waiter goes into `arrived`, in place of the notifier if that is armed, as one with a descriptor is. An on_ready
 * is owed a call only after a next that gave nothing: while next waits it is not armed. False: something has come, or
 * an on_ready was just fired. */
static inline bool tpool__has_descriptor(const tpool_completions *completions) {
    return completions->notifier && !completions->notifier->wake;
}
static bool tpool__arrivals_enter(tpool_completions *completions, tpool__waiter *waiter) {
    /* relaxed: only next arms; the exchange decides */
    bool armed = completions->notifier && tpool__load_relaxed(&completions->arrived) == TPOOL__ARMED;
    uintptr_t seen = armed || tpool__has_descriptor(completions) ? TPOOL__ARMED : 0;
    /* relaxed: the exchange releases it. While ARMED stands it is 0; set here, it would hide that ARMED was taken */
    if (!seen && completions->notifier) tpool__await_notified(completions);
    if (!seen) tpool__store_relaxed(&completions->notified, 0);
    bool own = seen == 0;
    if (tpool__cas_release(&completions->arrived, &seen, (uintptr_t)waiter | 1)) return true; /* P15 */
    if (own) tpool__store_relaxed(&completions->notified, 1); /* relaxed: no other thread has taken anything out */
    return false;
}
/* Afterwards no arriving item finds the waiter: it has taken itself out, or was found and stays until `notified` is
 * set. */
static void tpool__arrivals_leave(tpool_completions *completions, tpool__waiter *waiter) {
    uintptr_t seen = (uintptr_t)waiter | 1;
    bool arms = tpool__has_descriptor(completions);
    /* relaxed: no other thread has found it; release: as tpool__arrivals_enter */
    bool alone = arms ? tpool__cas_release(&completions->arrived, &seen, TPOOL__ARMED)
                      : tpool__cas_relaxed(&completions->arrived, &seen, 0);
    if (alone && !arms) tpool__store_relaxed(&completions->notified, 1); /* relaxed: likewise */
    if (alone) return;
    tpool__await_notified(completions);
    if (arms) (void)tpool__notifier_arm_cleared(completions);
}

/* True: a future of the set is of a pool whose initializer the caller runs. Under the spinlock. Only within an
 * initializer are all futures looked at, and again only after others were added. */
static bool tpool__completions_within_setup(tpool_completions *completions, const tpool__thread *self) {
    TPOOL_ASSERT(tpool__held(&completions->lock));
    /* relaxed: as in tpool__within_setup */
    if (TPOOL__LIKELY(!tpool__load_relaxed(&tpool__process.setups)) || !self->context ||
        (completions->apart == completions->positions && completions->apart_from == self->context) ||
        !tpool__any_context(self->context, tpool__is_setup, NULL))
        return false;
    for (size_t i = 0; i < completions->bucket_count; i++)
        for (const tpool__item *item = completions->buckets[i]; item; item = item->chained)
            if (tpool__within_setup(tpool__pool_of(item->future))) return true;
    completions->apart = completions->positions;
    completions->apart_from = self->context;
    return false;
}

/* The nth bucket from where a thread found a task that it must execute: so all of them are found in one round. */
static tpool__item **tpool__halted_bucket(tpool_completions *completions, size_t n) {
    return &completions->buckets[(completions->halted_at + n) & (completions->bucket_count - 1)];
}
/* True: no worker will execute what is left: see tpool__is_halted_for_good. */
static bool tpool__completions_halted_for_good(tpool_completions *completions, tpool__thread *self) {
    bool given_up = tpool__load_relaxed(&tpool__process.exits) != 0; /* relaxed: as there */
    if (TPOOL__LIKELY(!given_up)) return false;
    tpool__spin_lock(&completions->lock);
    for (size_t i = 0; i < completions->bucket_count && given_up; i++)
        for (tpool__item *item = *tpool__halted_bucket(completions, i); item && given_up; item = item->chained)
            given_up = !tpool__is_done(item->future) && tpool__is_halted_for_good(self, item->future);
    tpool__spin_unlock(&completions->lock);
    return given_up;
}

/* One that the caller must execute, with a reference for the caller; or NULL. */
static tpool_future *tpool__completions_halted(tpool_completions *completions, tpool__thread *self) {
    tpool_future *halted = NULL;
    if (TPOOL__LIKELY(!tpool__load_relaxed(&tpool__process.exits))) return NULL; /* relaxed: as above */
    tpool__spin_lock(&completions->lock);
    for (size_t i = 0; i < completions->bucket_count && !halted; i++) {
        for (tpool__item *item = *tpool__halted_bucket(completions, i); item && !halted; item = item->chained)
            if (tpool__must_execute_halted(self, item->future)) halted = tpool_future_retain(item->future);
        if (halted) completions->halted_at += i;
    }
    tpool__spin_unlock(&completions->lock);
    return halted;
}

/* A thread in next. */
typedef struct tpool__next_waiter {
    tpool__waiter waiter;
    tpool_completions *completions;
    tpool__record record;
} tpool__next_waiter;

/* TPOOL_OK: something has come. TPOOL_TIMEOUT: it may come yet. */
static tpool_status tpool__completions_now(tpool_completions *completions, tpool__thread *self) {
    /* relaxed: taking it over acquires. A callback may have called next, and taken over more than it was given. */
    if (completions->ready || tpool__has_arrived(completions)) return TPOOL_OK;
    tpool__spin_lock(&completions->lock);
    bool none = completions->remaining == 0;
    tpool__spin_unlock(&completions->lock);
    if (none) return TPOOL_END;
    return tpool__completions_halted_for_good(completions, self) ? TPOOL_BROKEN : TPOOL_TIMEOUT;
}
static bool tpool__next_expire(tpool__waiter *waiter) {
    tpool_completions *completions = ((tpool__next_waiter *)(void *)waiter)->completions;
    tpool__spin_lock(&completions->lock);
    bool expiring = completions->expiries.count > 0;
    tpool__spin_unlock(&completions->lock);
    if (expiring) tpool__completions_expire(completions);
    tpool_future *halted = waiter->deadline > 0 ? tpool__completions_halted(completions, waiter->self) : NULL;
    if (halted) {
        (void)tpool__execute_in_place(waiter->self, halted);
        tpool_future_release(halted);
    }
    return tpool__is_foreign(completions) && tpool__wait_over(waiter, TPOOL_BROKEN);
}
/* Some of the futures that have not come, for the search for what a stalled pool needs. It takes no long look: what has
 * come leaves empty buckets, of which many are passed in a moment. */
static size_t tpool__completions_some(tpool_completions *completions, tpool_future **some, size_t most, bool *all) {
    enum { MOST_BUCKETS = 16384 };
    size_t count = 0, items = 0, bucket = 0;
    tpool__spin_lock(&completions->lock);
    for (; bucket < completions->bucket_count && bucket < MOST_BUCKETS && count < most &&
           items < 4 * (size_t)TPOOL__MOST_NEEDED;
         bucket++)
        for (tpool__item *item = completions->buckets[bucket]; item; item = item->chained, items++)
            if (count < most && !tpool__is_done(item->future)) some[count++] = item->future;
    *all = bucket == completions->bucket_count && count < most;
    tpool__spin_unlock(&completions->lock);
    return count;
}

static bool tpool__next_enter(tpool__waiter *waiter) {
    tpool_completions *completions = ((tpool__next_waiter *)(void *)waiter)->completions;
    tpool_status status = tpool__completions_now(completions, waiter->self);
    /* again if the notifier was fired without an item, between the two steps */
    while (status == TPOOL_TIMEOUT) {
        if (tpool__has_descriptor(completions) && !tpool__notifier_arm(completions)) status = TPOOL_OK;
        else if (tpool__arrivals_enter(completions, waiter)) break;
        else if (tpool__has_arrived(completions)) status = TPOOL_OK;
    }
    if (status != TPOOL_TIMEOUT) return tpool__wait_over(waiter, status);
    tpool__record_first(waiter, &((tpool__next_waiter *)(void *)waiter)->record, NULL, 0, completions);
    return false;
}
static bool tpool__next_look(tpool__waiter *waiter) {
    tpool_completions *completions = ((tpool__next_waiter *)(void *)waiter)->completions;
    /* relaxed: as in tpool__completions_now. 0: an item was added that expires before all others, or came and went. */
    uintptr_t arrived = tpool__load_relaxed(&completions->arrived);
    if (arrived != ((uintptr_t)waiter | 1)) return tpool__wait_over(waiter, arrived ? TPOOL_OK : TPOOL_TIMEOUT);
    if (tpool__completions_halted_for_good(completions, waiter->self)) return tpool__wait_over(waiter, TPOOL_BROKEN);
    tpool_future *halted = tpool__completions_halted(completions, waiter->self);
    if (halted) {
        tpool_future_release(halted);
        return true;
    }
    tpool__spin_lock(&completions->lock); /* a later add finds the waiter */
    int64_t soon = tpool__completions_expire_at(completions);
    tpool__spin_unlock(&completions->lock);
    if (soon != TPOOL_FOREVER && tpool__clock() >= soon) return true;
    waiter->look_at = soon;
    /* relaxed: the exit handler notifies the waiters that it finds; a later one looks by itself now and then */
    if (tpool__load_relaxed(&tpool__process.exits) && tpool__clock() + TPOOL_MS(20) < soon)
        waiter->look_at = tpool__clock() + TPOOL_MS(20);
    return false;
}
static void tpool__next_leave(tpool__waiter *waiter) {
    tpool_completions *completions = ((tpool__next_waiter *)(void *)waiter)->completions;
    tpool__record_suspend(waiter->self, &((tpool__next_waiter *)(void *)waiter)->record);
    tpool__arrivals_leave(completions, waiter);
    /* relaxed: as above */
    if (tpool__has_arrived(completions)) waiter->status = TPOOL_OK;
}
static const tpool__wait_kind tpool__wait_for_next = {
    tpool__next_expire, tpool__next_enter, tpool__next_look, tpool__next_leave, "the next future of an iterator", false
};

/* TPOOL_OK: something has come. */
static tpool_status tpool__completions_wait(tpool_completions *completions, int64_t deadline) {
    tpool__thread *self = tpool__self();
    tpool__next_waiter next = { .waiter = { .can_refuse = true }, .completions = completions };
    next.waiter.self = self;
    if (tpool__next_expire(&next.waiter)) return TPOOL_BROKEN; /* also before giving up */
    tpool_status status = tpool__completions_now(completions, self);
    if (status != TPOOL_TIMEOUT || deadline == 0) return status;
    tpool__spin_lock(&completions->lock);
    bool within_setup = tpool__completions_within_setup(completions, self);
    tpool__spin_unlock(&completions->lock);
    if (within_setup) return TPOOL_DEADLOCK;
    if (!self->listed) {
        tpool__spin spin = tpool__spin_begin(&self->failed_spins, tpool__free_time(self), deadline);
        bool found = false;
        /* relaxed: as in tpool__completions_now */
        while (!(found = tpool__has_arrived(completions)) && tpool__spin_again(&spin)) { }
        tpool__spin_end(&spin, found);
        if (found) return TPOOL_OK;
    }
    return tpool__wait(&next.waiter, &tpool__wait_for_next, deadline);
}

static tpool_status tpool__completions_next(tpool_completions *completions, int64_t deadline, tpool_future **future) {
    if (completions->yielded) {
        tpool_future *earlier = completions->yielded;
        completions->yielded = NULL; /* first, since its result_free may call next too */
        tpool_future_release(earlier);
    }
    while (!completions->ready) { /* a function that the wait has run may have taken what had come */
        tpool_status status = tpool__completions_wait(completions, deadline);
        bool arms = status != TPOOL_OK && completions->notifier && !tpool__is_foreign(completions);
        if (arms && !tpool__notifier_arm(completions)) status = TPOOL_OK; /* whatever else ended the wait */
        if (status != TPOOL_OK) return status;
        if (!completions->ready && tpool__has_arrived(completions)) tpool__completions_take(completions);
    }
    *future = tpool__completions_yield(completions);
    return TPOOL_OK;
}
TPOOL_API tpool_status tpool_completions_next(tpool_completions *completions, int64_t timeout_ns,
                                              tpool_future **future) {
    if (future) *future = NULL;
    if (!completions || !future) return TPOOL_INVALID;
    if (tpool__is_foreign(completions)) return TPOOL_BROKEN;
    return tpool__completions_next(completions, tpool__deadline(timeout_ns), future);
}

TPOOL_API size_t tpool_completions_index(tpool_completions *completions) {
    return completions ? completions->index : 0;
}
TPOOL_API size_t tpool_completions_remaining(tpool_completions *completions) {
    if (!completions || tpool__is_foreign(completions)) return 0;
    tpool__spin_lock(&completions->lock);
    size_t remaining = completions->remaining;
    tpool__spin_unlock(&completions->lock);
    return remaining;
}

static tpool_status tpool__notifier_make(tpool_completions *completions, void (*wake)(void *context), void *context) {
    tpool__notifier *made = tpool__alloc(sizeof *made);
    if (!made) return TPOOL_NO_MEMORY;
    if (!wake) {
        tpool_status status = tpool__event_make(&made->event);
        if (status != TPOOL_OK) {
            TPOOL_FREE(made);
            return status;
        }
    }
    made->due.call = tpool__notifier_call;
    made->wake = wake;
    made->context = context;
    made->completions = completions;
    made->timer.fire = tpool__notifier_timed;
    made->timed_at = TPOOL_FOREVER;
    completions->notifier = made;
    tpool__store_relaxed(&completions->notified, 1); /* relaxed: no other thread knows it yet */
    if (completions->ready || !tpool__notifier_arm(completions)) tpool__notifier_fire(made);
    tpool__run_unless_held(tpool__self());
    return TPOOL_OK;
}
TPOOL_API tpool_status tpool_completions_descriptor(tpool_completions *completions, intptr_t *descriptor) {
    if (descriptor) *descriptor = -1;
    if (!completions || !descriptor) return TPOOL_INVALID;
    if (tpool__is_foreign(completions)) return TPOOL_BROKEN;
    if (completions->notifier && completions->notifier->wake) return TPOOL_INVALID_STATE;
    tpool_status status = completions->notifier ? TPOOL_OK : tpool__notifier_make(completions, NULL, NULL);
    if (status == TPOOL_OK) *descriptor = tpool__event_descriptor(&completions->notifier->event);
    return status;
}
TPOOL_API tpool_status tpool_completions_on_ready(tpool_completions *completions, void (*wake)(void *context),
                                                  void *context) {
    if (!completions || !wake) return TPOOL_INVALID;
    if (tpool__is_foreign(completions)) return TPOOL_BROKEN;
    return completions->notifier ? TPOOL_INVALID_STATE : tpool__notifier_make(completions, wake, context);
}
/* Waits for the end of the call that another thread runs, without a call once more. A worker leaves its place
 * meanwhile: the call may wait for room in its pool. */
typedef struct tpool__call_waiter {
    tpool__waiter waiter;
    tpool__notifier *notifier;
} tpool__call_waiter;
/* relaxed: as the state, which the caller has loaded */
static bool tpool__call_is_elsewhere(tpool__notifier *notifier, uint32_t state) {
    const tpool__thread *self = tpool__self();
    return (state == TPOOL__NOTIFIER_RUNS || state == TPOOL__NOTIFIER_AGAIN) &&
           tpool__load_relaxed(&notifier->runs_in) != (uintptr_t)self;
}
static bool tpool__call_look(tpool__waiter *waiter) {
    tpool__notifier *notifier = ((tpool__call_waiter *)(void *)waiter)->notifier;
    uint32_t state = tpool__load_acquire(&notifier->state); /* P17 */
    if (!tpool__call_is_elsewhere(notifier, state)) return tpool__wait_over(waiter, TPOOL_OK);
    if (state == TPOOL__NOTIFIER_AGAIN)
        (void)tpool__cas_acq_rel(&notifier->state, &state, TPOOL__NOTIFIER_RUNS); /* P17 */
    waiter->look_at = tpool__clock() + TPOOL_US(200);                             /* the call's end wakes nobody */
    return false;
}
static void tpool__call_leave(tpool__waiter *waiter) { (void)waiter; }
static const tpool__wait_kind tpool__wait_for_call = {
    NULL, tpool__call_look, tpool__call_look, tpool__call_leave, "an on_ready", false
};
/* No item can fire it any more; another thread may still be about to. */
static void tpool__notifier_end(tpool_completions *completions) {
    tpool__call_waiter call = { .notifier = completions->notifier };
    tpool__notifier *notifier = completions->notifier;
    (void)tpool__timer_disarm(&notifier->timer);
    tpool__timer_await(&notifier->timer);
    if (tpool__load_relaxed(&completions->arrived) != TPOOL__ARMED)
        tpool__await_notified(completions); /* relaxed: as above */
    if (!notifier->wake) tpool__event_close(&notifier->event);
    for (unsigned tries = 0;;) {                                /* a call is short, mostly */
        uint32_t state = tpool__load_acquire(&notifier->state); /* P17 */
        if (state == TPOOL__NOTIFIER_IDLE) break;
        if (!tpool__call_is_elsewhere(notifier, state)) {
            if (tpool__cas_acq_rel(&notifier->state, &state, TPOOL__NOTIFIER_DEAD)) return; /* P17 */
        } else if (tries < 100) {
            tpool__backoff(&tries);
        } else {
            (void)tpool__wait(&call.waiter, &tpool__wait_for_call, TPOOL_FOREVER);
            if (tpool__is_foreign(completions)) return; /* forked there: this is the child */
        }
    }
    TPOOL_FREE(notifier);
}

/* If a result_free ends the thread, its exit hook frees the rest. */
static void tpool__completions_free(void *of) {
    tpool_completions *completions = (tpool_completions *)of;
    tpool__thread *self = tpool__self();
    tpool__context *call = tpool__call_push(self, tpool__completions_free, completions);
    while (completions->bucket_count > 0) {
        tpool__item *item = completions->buckets[completions->bucket_count - 1];
        if (!item) {
            completions->bucket_count--;
            continue;
        }
        completions->buckets[completions->bucket_count - 1] = item->chained;
        tpool__node_remove(item->future, &item->node);
        tpool_future *future = item->future;
        tpool__item_free(item);
        tpool_future_release(future);
    }
    tpool_future *yielded = completions->yielded;
    completions->yielded = NULL;
    tpool_future_release(yielded);
    if (completions->notifier) tpool__notifier_end(completions); /* may wait, and so run what ends the thread */
    if (!tpool__context_pop(self, call)) return;
    tpool__dealloc(completions->buckets);
    tpool__dealloc(completions->expiries.heap);
    TPOOL_FREE(completions);
}

TPOOL_API void tpool_completions_destroy(tpool_completions *completions) {
    if (completions && !tpool__is_foreign(completions)) tpool__completions_free(completions);
}

/* ====================================================================================================================
 *  >>jobs  fork and join
 *
 *  A worker's forked jobs are a list on its stack, oldest first, that no other thread touches: fork and join need no
 *  atomic for it. A fork that sees another worker searching, or asleep, copies the oldest job into the worker's
 *  `offer`, under a lock; there is one offer at a time. A thief takes it from there into a tpool__stolen of its own,
 *  which lies in a task's memory and keeps the result until the join (no memory: the job stays its owner's). A worker's
 *  stolen jobs are a list, last taken first: the order in which they are joined, since the oldest is always offered.
 *
 *  So a thread may end beneath its forks: when its exit hook runs, the frames that it has left are overwritten. The
 *  hook takes the offer back and waits for the stolen jobs, as the joins would have done, before it ends their task.
 *
 *  (The split of Wool's and Lace's task stacks, Faxen 2008, van Dijk and van de Pol 2014, for a list in place of an
 *  array: no bound on the depth, and nothing to allocate.)
 * ================================================================================================================= */
static TPOOL__NOINLINE void tpool__publish_job(tpool__worker *worker) {
    /* relaxed: a hint; only the owner raises it, and one job on offer is enough */
    if (tpool__load_relaxed(&worker->public_jobs) > 0 || tpool__flags(worker->pool) & TPOOL__PAUSED) return;
    tpool_job *job = worker->oldest_private_job;
    tpool__context *context = (tpool__context *)job->context;
    tpool__spin_lock(&worker->jobs_lock);
    bool offers = !worker->offer.job; /* else a thief without memory has left it there */
    if (offers) {
        worker->offer.job = job;
        worker->offer.fn = job->fn;
        worker->offer.arg = job->arg;
        worker->offer.context = context;
        worker->offer.serial = context->serial;
        tpool__store_relaxed(&worker->public_jobs, 1); /* relaxed: under the lock, else a hint */
    }
    tpool__spin_unlock(&worker->jobs_lock);
    if (!offers) return;
    worker->oldest_private_job = job == worker->newest_job ? NULL : job->newer;
    tpool__notify(worker->pool);
}

TPOOL_API void tpool_fork(tpool_job *job, tpool_fn fn, void *arg) {
    if (!job) return;
    tpool__thread *self = tpool__self();
    tpool__worker *worker = self->worker;
    job->fn = fn;
    job->arg = arg;
    if (!fn || !worker || self->caller_pool || !self->context || !self->context->task) {
        job->worker = NULL;
        return;
    }
    tpool_job *older = worker->newest_job;
    job->older = older;
    job->worker = worker;
    job->context = self->context;
    if (older) older->newer = job;
    worker->newest_job = job;
    if (!worker->oldest_private_job) worker->oldest_private_job = job;
    /* relaxed: a hint; a job that no thief sees is executed by its join */
    if (!TPOOL__LIKELY(tpool__load_relaxed(&worker->pool->gate) == 0)) tpool__publish_job(worker);
}

/* Takes the public job; with `beneath`, only one that was forked in that context. The job becomes the thief's under the
 * victim's lock, so its owner does not leave the join before it is done. */
static bool tpool__steal_job(tpool__worker *victim, const tpool__context *beneath, uintptr_t serial,
                             tpool__entry *entry) {
    if (tpool__load_relaxed(&victim->public_jobs) == 0) return false; /* relaxed: a hint */
    tpool__stolen *stolen = (tpool__stolen *)(void *)tpool__task_new(tpool__self());
    tpool__spin_lock(&victim->jobs_lock);
    tpool__offer *offer = &victim->offer;
    /* relaxed: under the lock */
    bool taken = tpool__load_relaxed(&victim->public_jobs) > 0 &&
                 !(tpool__flags(victim->pool) & (TPOOL__PAUSED | TPOOL__HALTED));
    /* a later context may have the address that the caller has read */
    if (beneath && (offer->context != beneath || offer->serial != serial)) taken = false;
    if (taken) tpool__store_relaxed(&victim->public_jobs, 0); /* relaxed: under the lock, else a hint */
    if (!stolen) taken = false; /* its join executes it; no thief shall look for it again */
    if (taken) {
        stolen->next = victim->stolen;
        stolen->origin = offer->context;
        stolen->u.victim = victim;
        stolen->state = TPOOL__JOB_STOLEN;
        stolen->waiter = NULL;
        stolen->thief = NULL;
        stolen->beneath = NULL;
        stolen->serial = 0;
        victim->stolen = stolen;
        entry->fn = offer->fn;
        entry->arg = offer->arg;
        entry->job = stolen;
        entry->victim = victim;
        entry->task = NULL;
        offer->job = NULL;
    }
    tpool__spin_unlock(&victim->jobs_lock);
    if (!taken && stolen) tpool__task_free((tpool_future *)(void *)stolen);
    return taken;
}

/* Hands a stolen job back to its owner, and does not touch it afterwards. */
static void tpool__end_stolen(tpool__stolen *job, tpool__worker *victim, tpool__job_state state, void *result) {
    tpool__spin_lock(&victim->jobs_lock);
    tpool__waiter *waiter = job->waiter;
    job->u.result = result;
    job->state = state;
    tpool__parker *asleep = waiter ? tpool__unpark_begin(&waiter->parker) : NULL;
    tpool__spin_unlock(&victim->jobs_lock); /* the job may be gone now */
    tpool__unpark_end(asleep);
}
static void tpool__stolen_left(void *of) {
    tpool__stolen *job = (tpool__stolen *)of;
    tpool__end_stolen(job, job->u.victim, TPOOL__JOB_BROKEN, NULL);
}

static bool tpool__execute_stolen_job(tpool__thread *self, const tpool__entry *entry) {
    tpool__stolen *job = entry->job;
    tpool__worker *victim = entry->victim;
    tpool__context *context = tpool__context_push(self, TPOOL__IN_JOB, job->origin->pool);
    context->task = job->origin->task;
    context->origin = job->origin;
    context->serial = ++self->worker->jobs_stolen;
    context->left = tpool__stolen_left;
    context->of = job;
    tpool__spin_lock(&victim->jobs_lock);
    job->thief = self->worker;
    job->beneath = context;
    job->serial = context->serial;
    tpool__spin_unlock(&victim->jobs_lock);
    void *result = entry->fn(entry->arg);
    if (!tpool__context_pop(self, context)) return false;
    tpool__end_stolen(job, victim, TPOOL__JOB_DONE, result);
    return true;
}

/* The owner of a stolen job, in its join. */
typedef struct tpool__job_waiter {
    tpool__waiter waiter;
    tpool__worker *worker;
    tpool__stolen *job;
} tpool__job_waiter;

static void tpool__job_set_waiter(tpool__waiter *waiter, tpool__waiter *to) {
    const tpool__job_waiter *join = (tpool__job_waiter *)(void *)waiter;
    tpool__spin_lock(&join->worker->jobs_lock);
    join->job->waiter = to;
    tpool__spin_unlock(&join->worker->jobs_lock);
}
static bool tpool__job_enter(tpool__waiter *waiter) {
    tpool__job_set_waiter(waiter, waiter);
    return false;
}
static bool tpool__job_look(tpool__waiter *waiter) {
    const tpool__job_waiter *join = (tpool__job_waiter *)(void *)waiter;
    tpool__spin_lock(&join->worker->jobs_lock);
    bool done = join->job->state != TPOOL__JOB_STOLEN;
    tpool__spin_unlock(&join->worker->jobs_lock);
    return done && tpool__wait_over(waiter, TPOOL_OK);
}
static void tpool__job_leave(tpool__waiter *waiter) {
    if (waiter->status != TPOOL_OK) tpool__job_set_waiter(waiter, NULL); /* else its end has found the waiter */
}
static const tpool__wait_kind tpool__wait_for_job = {
    NULL, tpool__job_enter, tpool__job_look, tpool__job_leave, "a forked job", false
};

/* Waits for the job that was stolen last. If `helps`, it first executes what the thief has forked in that job. False:
 * that code forked the process, and this is the child, without the thief of the job that is waited for. */
static TPOOL__NOINLINE bool tpool__await_stolen(tpool__thread *self, tpool__worker *worker, tpool__stolen *job,
                                                bool helps) {
    bool done = false, spins = true;
    if (self->listed && !tpool__run_listed(self)) return false;
    tpool__spin spin = tpool__spin_begin(&self->failed_spins, tpool__free_time(self), TPOOL_FOREVER);
    while (!done && spins) {
        tpool__spin_lock(&worker->jobs_lock);
        done = job->state != TPOOL__JOB_STOLEN;
        tpool__worker *thief = job->thief;
        const tpool__context *beneath = job->beneath;
        uintptr_t serial = job->serial;
        tpool__spin_unlock(&worker->jobs_lock);
        tpool__entry entry = { 0 };
        if (!done && helps && thief && tpool__contexts_ready(self) &&
            tpool__steal_job(thief, beneath, serial, &entry)) {
            tpool__count_own(worker, TPOOL__STOLEN_COUNT);
            if (!tpool__execute_stolen_job(self, &entry)) return false;
        } else {
            spins = done || tpool__spin_again(&spin);
        }
    }
    tpool__spin_end(&spin, done);
    if (done) return true;
    tpool__job_waiter join = { .worker = worker, .job = job };
    /* the look of jobs gives no TPOOL_BROKEN of its own: only a fork in a listed function does */
    return tpool__wait(&join.waiter, &tpool__wait_for_job, TPOOL_FOREVER) != TPOOL_BROKEN;
}

/* The error of a task whose job has ended its thread. Several threads may make one for the same task. */
static tpool__outcome *tpool__error_broken(const tpool_future *task) {
    const char *name = tpool__extra_of(task) ? tpool__extra_of(task)->name : NULL;
    tpool__outcome *error = name ? TPOOL_MALLOC(sizeof *error) : NULL;
    if (!error) return tpool__fixed(TPOOL__ENDED_THREAD);
    *error = tpool__fixed_errors[TPOOL__ENDED_THREAD];
    error->is_static = false;
    error->error.task = name;
    return error;
}

/* Takes back the job that was stolen last, when it is done. False: as above. */
static bool tpool__take_back(tpool__thread *self, tpool__worker *worker, bool helps, void **result) {
    tpool__spin_lock(&worker->jobs_lock);
    tpool__stolen *job = worker->stolen;
    tpool__spin_unlock(&worker->jobs_lock);
    if (!tpool__await_stolen(self, worker, job, helps)) return false;
    tpool__spin_lock(&worker->jobs_lock);
    worker->stolen = job->next;
    tpool__spin_unlock(&worker->jobs_lock);
    bool broken = job->state == TPOOL__JOB_BROKEN;
    *result = job->u.result;
    tpool__task_free((tpool_future *)(void *)job);
    if (broken) { /* in the context in which it was forked */
        tpool_future *task = self->context->task;
        tpool__outcome_free(tpool__outcome_replace(task, tpool__error_broken(task)));
    }
    return true;
}

/* Joins a public job. True: no thief has taken it, and the caller executes it. Else a thief has executed it. */
static TPOOL__NOINLINE bool tpool__join_public(tpool__worker *worker, const tpool_job *job, void **result) {
    tpool__thread *self = tpool__self();
    /* it forked in between, and this is the child, without the thief */
    if (self->worker != worker) return worker->offer.job == job;
    tpool__spin_lock(&worker->jobs_lock);
    bool mine = worker->offer.job == job;
    if (mine) {
        worker->offer.job = NULL;
        tpool__store_relaxed(&worker->public_jobs, 0); /* relaxed: under the lock, else a hint */
    }
    tpool__spin_unlock(&worker->jobs_lock);
    if (!mine) (void)tpool__take_back(self, worker, true, result);
    return mine;
}

/* The newest job leaves the list of private jobs. */
static inline void tpool__job_unlink(tpool__worker *worker, const tpool_job *job) {
    worker->newest_job = job->older;
    if (worker->oldest_private_job == job) worker->oldest_private_job = NULL;
}
static TPOOL__NOINLINE void *tpool__join_slowly(tpool_job *job) {
    tpool__worker *worker = (tpool__worker *)job->worker;
    if (!worker) return job->fn ? tpool__job_with_stop_calls(job) : NULL;
    TPOOL_ASSERT(worker->newest_job == job);
    void *result = NULL;
    bool runs_here = worker->oldest_private_job != NULL;
    if (runs_here) {
        tpool__job_unlink(worker, job);
    } else {
        runs_here = tpool__join_public(worker, job, &result);
        worker->newest_job = job->older;
    }
    return runs_here ? tpool__job_with_stop_calls(job) : result;
}

/* No frame of the join stays beneath the job: it would cost a fifth of the time of a fork and its join. So a program
 * that uses no tpool_on_stop does not pay for what a job may leave. */
TPOOL_API void *tpool_join(tpool_job *job) {
    if (!job) return NULL;
    tpool__worker *worker = (tpool__worker *)job->worker;
    /* relaxed: see >>stops. If there is a private job, then the newest is private */
    if (!TPOOL__LIKELY(worker && worker->oldest_private_job && !tpool__load_relaxed(&tpool__stops_used)))
        return tpool__join_slowly(job);
    TPOOL_ASSERT(worker->newest_job == job);
    tpool__job_unlink(worker, job);
    return job->fn(job->arg);
}

/* The thread ends: the jobs that it forked and no thief has taken are lost. */
static void tpool__forget_jobs(tpool__worker *worker) {
    worker->newest_job = worker->oldest_private_job = NULL;
    tpool__spin_lock(&worker->jobs_lock);
    worker->offer.job = NULL;
    tpool__store_relaxed(&worker->public_jobs, 0); /* relaxed: under the lock, else a hint */
    tpool__spin_unlock(&worker->jobs_lock);
}
/* Waits for the stolen jobs that were forked in this context, since they read it and use its task. */
static void tpool__await_jobs_of(tpool__thread *self, const tpool__context *context) {
    tpool__worker *worker = self->worker;
    for (;;) {
        void *result;
        tpool__spin_lock(&worker->jobs_lock);
        bool any = worker->stolen && worker->stolen->origin == context;
        tpool__spin_unlock(&worker->jobs_lock);
        if (!any || !tpool__take_back(self, worker, false, &result)) return;
    }
}

/* ====================================================================================================================
 *  >>map-implementation  map
 *
 *  Each chunk of items is one task. A chunk that starts takes its items, submits the next chunk, then runs its items.
 *  So one chunk is always queued while items are left: other work gets its turn, an item that blocks never keeps the
 *  next from starting, and the size of a chunk can follow the cost of the earlier ones. Chunks start in the order of
 *  their items. The consumer waits for the first chunk with undelivered items, as for any future. If the map is
 *  unordered, the chunks' futures are in an iterator of as_completed, which yields the one that has ended next.
 * ================================================================================================================= */
typedef struct tpool__slot {
    void *value;
    tpool__outcome *outcome; /* until the item ends: ENDED_THREAD, which stays if the item ends its thread */
} tpool__slot;

/* A place of the buffer, with an item of the source. The consumer fills it, a chunk takes it, the consumer delivers
 * from it and, when item_free has come, uses it again. So the consumer alone calls item_free. */
typedef struct tpool__source_item {
    void *item;
    struct tpool__source_item *next; /* in the list that it is in */
} tpool__source_item;

typedef struct tpool__chunk {
    struct tpool__chunk *next;
    tpool_map_iter *iter;
    tpool_future *future;
    size_t first; /* this and `count` are valid once the chunk has started, or ended without starting */
    size_t count;
    bool started;
    tpool__slot *slots, one;
    tpool__source_item *places; /* of its items that are not delivered, if there is a source */
    size_t delivered;           /* how many items are; the consumer's */
    size_t at;                  /* index of the running item ... */
    tpool__source_item *place;  /* ... and its place */
    int64_t stop_at;            /* the end of its time; 0: there is no run_limit_ns */
    tpool_future item;          /* stands for the running item: raise and return act on it */
    struct tpool__results *results;
} tpool__chunk;

/* Memory in which outcomes of a chunk's items lie (is_static), as a backend receives them. Freed with the chunk. */
typedef struct tpool__results {
    struct tpool__results *next;
    alignas(max_align_t) char bytes[];
} tpool__results;

struct tpool_map_iter {
    tpool__due due;         /* frees the iterator after the last reference is released */
    tpool__lock_word lock;  /* guards all fields except the consumer's */
    tpool__word references; /* one for the consumer, one for each chunk that has not ended */
    tpool *pool;
    tpool_map_spec spec;
    uintptr_t generation;
    /* Items that chunks may take, items that chunks have taken, and (the consumer's) items delivered. Of a source they
     * may wrap: only their differences count. */
    size_t available, taken, delivered;
    tpool__source_item *ready, **ready_end; /* places of the items that chunks may take */
    tpool_map_iter *next, **link;           /* in the pool's list, under tpool__process.lock */
    bool source_ended;
    tpool__chunk *waiting;          /* it is queued, and has not started; NULL: none is */
    tpool_completions *completions; /* of an unordered map */
    _Atomic(bool) closing;          /* set under the lock; read between items, as a hint */
    tpool_status aborted;           /* the pool takes no more chunks: the status of all items that no chunk has taken */
    tpool__chunk *front, **back;
    int64_t cost_ns; /* of `measured` items together */
    size_t measured;
    /* the consumer's: */
    tpool__chunk *reading;      /* the one that it delivers from, which has ended; NULL: none */
    tpool__source_item *places; /* of a source: buffer_size, and one for the item delivered last */
    size_t placed;              /* how many were ever used */
    tpool__source_item *unused; /* those of them that hold no item */
    tpool__source_item *shown;  /* that of the item delivered last, whose item_free is due */
    void *item;                 /* delivered last; NULL: none, or it is gone */
    size_t index;               /* its number */
    tpool_error aborted_error;
    tpool__outcome *current; /* of the item delivered last */
    const tpool_error *error;
    size_t result_size;
    bool any;
};

static void tpool__results_free(tpool__chunk *chunk) {
    for (tpool__results *first; (first = chunk->results) != NULL; TPOOL_FREE(first)) chunk->results = first->next;
}
/* Lists each result_free that is due, and calls none: see tpool__outcome_list. */
static void tpool__chunk_free(tpool__chunk *chunk) {
    for (size_t i = 0; i < chunk->count && chunk->started; i++) (void)tpool__outcome_list(chunk->slots[i].outcome);
    (void)tpool__outcome_list(tpool__outcome_of(tpool__load_relaxed(&chunk->item.outcome))); /* relaxed: it has ended */
    if (chunk->slots != &chunk->one) TPOOL_FREE(chunk->slots);
    tpool__results_free(chunk);
    tpool_future_release(chunk->future);
    TPOOL_FREE(chunk);
}
static void tpool__iter_list(tpool_map_iter *iter) {
    tpool__lock(&tpool__process.lock);
    iter->next = iter->pool->iterators;
    iter->link = &iter->pool->iterators;
    if (iter->next) iter->next->link = &iter->next;
    *iter->link = iter;
    tpool__unlock(&tpool__process.lock);
}
static void tpool__iter_unlist(tpool_map_iter *iter) {
    tpool__lock(&tpool__process.lock);
    if (iter->link) *iter->link = iter->next;
    if (iter->link && iter->next) iter->next->link = iter->link;
    iter->link = NULL;
    tpool__unlock(&tpool__process.lock);
}
/* The pool is destroyed. Its iterators still deliver what has ended, and queue no more chunks. */
static void tpool__iters_outlive(tpool *pool) {
    tpool__lock(&tpool__process.lock);
    while (pool->iterators) {
        tpool_map_iter *iter = pool->iterators;
        pool->iterators = iter->next;
        if (iter->next) iter->next->link = &pool->iterators;
        iter->link = NULL;
        tpool__lock(&iter->lock);
        if (!iter->aborted) iter->aborted = TPOOL_CANCELLED;
        tpool__unlock(&iter->lock);
    }
    tpool__unlock(&tpool__process.lock);
}

/* Calls item_free for the item of a place that is in no list any more. If item_free ends the thread, left(of) is
 * called. Returns false in the child, if item_free forked. */
static bool tpool__source_item_free(tpool_map_iter *iter, tpool__source_item *place, void (*left)(void *of), void *of) {
    tpool__thread *self = tpool__self();
    void *item = place->item;
    place->next = iter->unused; /* before the call: item_free may end the thread */
    iter->unused = place;
    if (!iter->spec.item_free) return true;
    self->freeing++;
    tpool__context *context = tpool__context_push(self, TPOOL__IN_CALLBACK, NULL);
    tpool__context_guard(self, context, left, of);
    iter->spec.item_free(item, iter->spec.context);
    if (!tpool__context_pop(self, context)) return false;
    self->freeing--;
    return true;
}
static tpool__source_item *tpool__source_item_pop(tpool__source_item **list) {
    tpool__source_item *place = *list;
    if (place) *list = place->next;
    return place;
}
/* When no chunk runs any more: a place whose item_free is due, in the order of delivery, or NULL. */
static tpool__source_item *tpool__source_item_owed(tpool_map_iter *iter) {
    tpool__source_item *place = iter->shown;
    iter->shown = NULL;
    for (tpool__chunk *chunk = iter->front; chunk && !place; chunk = chunk->next)
        place = tpool__source_item_pop(&chunk->places);
    return place ? place : tpool__source_item_pop(&iter->ready);
}

/* After the last release. */
static void tpool__iter_free(void *of) { tpool__run_or_list(tpool__self(), &((tpool_map_iter *)of)->due); }
static void tpool__iter_free_now(tpool__thread *self, tpool__due *due) {
    tpool_map_iter *iter = (tpool_map_iter *)(void *)due;
    (void)self;
    for (tpool__source_item *place; (place = tpool__source_item_owed(iter)) != NULL;)
        if (!tpool__source_item_free(iter, place, tpool__iter_free, iter)) return;
    (void)tpool__outcome_list(iter->current); /* before the chunks: it may lie in the memory of the first */
    while (iter->front) {
        tpool__chunk *next = iter->front->next;
        tpool__chunk_free(iter->front);
        iter->front = next;
    }
    tpool__iter_unlist(iter);
    tpool_completions_destroy(iter->completions);
    tpool__dealloc(iter->places);
    TPOOL_FREE(iter);
}
static void tpool__iter_release(tpool_map_iter *iter) {
    if (tpool__sub_acq_rel(&iter->references, 1) == 1) tpool__iter_free(iter); /* P4, for the iterator */
}
/* The consumer's thread ends within a call. */
static void tpool__iter_left(void *of) {
    tpool_map_iter *iter = (tpool_map_iter *)of;
    tpool__lock(&iter->lock);
    tpool__store_relaxed(&iter->closing, true); /* relaxed: as in tpool_map_close */
    tpool__unlock(&iter->lock);
    tpool__wake_stopped(iter);
    tpool__iter_release(iter);
}

#define TPOOL__CHUNK_NS 100000 /* target cost of a chunk: much more than a task's own cost, a short wait for others */

/* Returns how many items the next chunk takes, 0: none now. Under the iterator's lock. */
static size_t tpool__chunk_size(tpool_map_iter *iter) {
    TPOOL_ASSERT(tpool__held(&iter->lock));
    size_t left = iter->available - iter->taken, size = iter->spec.chunk_size;
    if (left == 0 || tpool__load_relaxed(&iter->closing)) return 0; /* relaxed: under its lock */
    if (size == 0) {
        uintptr_t workers = tpool__load_relaxed(&iter->pool->max_workers); /* relaxed: any recent value will do */
        size_t most = (iter->spec.buffer_size ? iter->spec.buffer_size : left) / (2 * workers) + 1;
        int64_t each = iter->measured ? iter->cost_ns / (int64_t)iter->measured : TPOOL__CHUNK_NS;
        const tpool__backend *backend = tpool__backend_of(iter->pool);
        int64_t wanted = backend ? backend->chunk_ns : TPOOL__CHUNK_NS;
        size = (size_t)(wanted / (each > 0 ? each : 1));
        if (size > most) size = most;
        if (size == 0) size = 1;
    } else if (iter->spec.buffer_size && size > iter->spec.buffer_size) {
        size = iter->spec.buffer_size;
    }
    if (left >= size) return size;
    /* Fewer than `size` are left. A source's are taken only if no more can come before these have been delivered. */
    return !iter->places || iter->source_ended || !iter->front ? left : 0;
}
/* Gives the next `count` items to the chunk. Under the iterator's lock. */
static void tpool__chunk_take(tpool__chunk *chunk, size_t count) {
    tpool_map_iter *iter = chunk->iter;
    TPOOL_ASSERT(tpool__held(&iter->lock));
    chunk->first = iter->taken;
    chunk->count = count;
    iter->taken += count;
    iter->waiting = NULL;
    if (!iter->places || count == 0) return;
    tpool__source_item *last = chunk->places = iter->ready;
    while (--count > 0) last = last->next;
    iter->ready = last->next;
    if (!iter->ready) iter->ready_end = &iter->ready;
    last->next = NULL;
}

/* Queues the next chunk if one is due. Under the iterator's lock, which it releases during the submit. As long as the
 * map is not aborted the pool is there (tpool__iters_outlive); a running chunk keeps it for its submit, every other
 * caller counts in `callers`. */
static tpool_status tpool__chunk_queue(tpool_map_iter *iter, tpool__force force) {
    TPOOL_ASSERT(tpool__held(&iter->lock));
    if (iter->waiting || iter->aborted || tpool__chunk_size(iter) == 0) return TPOOL_OK;
    tpool__chunk *chunk = tpool__alloc(sizeof *chunk);
    if (!chunk) return TPOOL_NO_MEMORY;
    chunk->iter = iter;
    chunk->slots = &chunk->one;
    tpool__store_relaxed(&chunk->item.outcome, 0); /* relaxed: handed on by the submit */
    tpool__chunk **at = iter->back;
    *at = chunk;
    iter->back = &chunk->next;
    iter->waiting = chunk;
    tpool__add_relaxed(&iter->references, 1); /* relaxed: the caller holds one */
    tpool_task task = { 0 };
    task.tag = chunk;
    task.completions = iter->completions;
    task.fn = tpool__chunk_execute;
    task.arg = chunk;
    task.arg_free = tpool__chunk_ended;
    tpool *pool = iter->pool;
    tpool__context *visit = force != TPOOL__PAST_SHUTDOWN ? tpool__caller_enters(pool) : NULL;
    tpool__unlock(&iter->lock);
    tpool_future *future = NULL;
    tpool_status status = tpool__submit_task(pool, &task, &future, TPOOL_FOREVER, force);
    if (visit && tpool__context_pop(tpool__self(), visit)) tpool__caller_leaves(pool);
    tpool__lock(&iter->lock);
    if (status == TPOOL_OK) {
        chunk->future = future;
        /* relaxed: under its lock. The close has not found this one, which may run already. */
        if (!TPOOL__LIKELY(!tpool__load_relaxed(&iter->closing))) tpool__notify_to_stop(future, true);
        return status;
    }
    /* The chunk is still the last one: `waiting` has kept others from queueing. `at` is still valid: the caller is
     * either the chunk before, which has not ended, or the consumer, and only the consumer unlinks ended chunks. */
    iter->waiting = NULL;
    *at = NULL;
    iter->back = at;
    TPOOL_FREE(chunk);
    tpool__sub_relaxed(&iter->references, 1); /* relaxed: not the last, as above */
    if (status == TPOOL_SHUTDOWN) iter->aborted = TPOOL_CANCELLED;
    if (status == TPOOL_BROKEN) iter->aborted = TPOOL_BROKEN;
    return status;
}

/* A chunk's arg_free. A chunk that ends without having started (cancelled with its pool, or dropped from a full queue)
 * takes its items, which end with it. The other items still run if the pool takes another chunk. */
static void tpool__chunk_ended(void *argument) {
    tpool__chunk *chunk = (tpool__chunk *)argument;
    tpool_map_iter *iter = chunk->iter;
    if (!chunk->started) {
        tpool__lock(&iter->lock);
        tpool__chunk_take(chunk, tpool__chunk_size(iter));
        (void)tpool__chunk_queue(iter, TPOOL__PAST_CAPACITY); /* if refused: aborted, or the consumer tries again */
        tpool__unlock(&iter->lock);
    }
    tpool__iter_release(iter);
}

/* An item of the chunk: of a source, that in `place`. */
static void *tpool__item_pointer(const tpool__chunk *chunk, size_t index, const tpool__source_item *place) {
    const tpool_map_spec *spec = &chunk->iter->spec;
    return place ? place->item : (void *)((char *)spec->items + (chunk->first + index) * spec->stride);
}

static void tpool__item_left(void *of);
static inline void tpool__chunk_advance(tpool__chunk *chunk) {
    chunk->at++;
    if (chunk->place) chunk->place = chunk->place->next;
}
/* Runs the items from chunk->at on. Returns false in the child, if one of them forked. */
static bool tpool__execute_items(tpool__thread *self, tpool__chunk *chunk) {
    tpool_map_iter *iter = chunk->iter;
    for (; chunk->at < chunk->count; tpool__chunk_advance(chunk)) {
        if (tpool__load_relaxed(&iter->closing)) break; /* relaxed: a hint, it may be seen later */
        tpool__slot *slot = &chunk->slots[chunk->at];
        tpool__context *context = tpool__context_push(self, TPOOL__IN_ITEM, iter->pool);
        context->task = &chunk->item;
        context->left = tpool__item_left;
        context->of = chunk;
        tpool__store_relaxed(&chunk->item.outcome, 0); /* relaxed: only this thread uses it */
        if (!TPOOL__LIKELY(iter->spec.run_limit_ns <= 0)) chunk->stop_at = tpool__deadline(iter->spec.run_limit_ns);
        void *value = iter->spec.fn(tpool__item_pointer(chunk, chunk->at, chunk->place), iter->spec.context);
        if (TPOOL__LIKELY(self->context == context)) { /* else it forked, and this is the child */
            slot->outcome = tpool__outcome_take(&chunk->item);
            slot->value = value;
            /* The item has asked for it, not the next one. In place, or for a submitter, the outer code may have. */
            if (self->worker && !context->outer->outer) tpool__cancel_here();
        }
        if (!tpool__context_pop(self, context)) return false;
    }
    return true;
}
/* An item has ended its thread, or has cancelled it and has returned. The rest of its chunk runs as the thread ends. */
static void tpool__item_left(void *of) {
    tpool__thread *self = tpool__self();
    tpool__chunk *chunk = (tpool__chunk *)of;
    (void)tpool__outcome_list(tpool__outcome_take(&chunk->item));
    tpool__chunk_advance(chunk);
    (void)tpool__execute_items(self, chunk);
}

/* Whether the context is that of a map's item, and the map is being closed or the item's time has passed. */
/* NULL: a part of a loop. */
static const void *tpool__map_of_item(const tpool__context *context) {
    return context->left == tpool__item_left ? ((const tpool__chunk *)context->of)->iter : NULL;
}
static bool tpool__item_must_stop(const tpool__context *context, int64_t *again) {
    if (context->left != tpool__item_left) return false;
    const tpool__chunk *chunk = (const tpool__chunk *)context->of;
    return tpool__load_relaxed(&chunk->iter->closing) || /* relaxed: a flag */
           tpool__limit_passed(chunk->stop_at, again);
}

/* The function of a chunk's task. */
static void *tpool__chunk_execute(void *argument) {
    tpool__chunk *chunk = (tpool__chunk *)argument;
    tpool_map_iter *iter = chunk->iter;
    tpool__thread *self = tpool__self();

    tpool__lock(&iter->lock);
    size_t count = tpool__chunk_size(iter);
    tpool__slot *slots = &chunk->one;
    if (count > 1) {
        slots = count <= SIZE_MAX / sizeof *slots ? TPOOL_MALLOC(count * sizeof *slots) : NULL;
        if (!slots) { /* no memory: a single item uses chunk->one */
            slots = &chunk->one;
            count = 1;
        }
    }
    for (size_t i = 0; i < count; i++) {
        slots[i].value = NULL;
        slots[i].outcome = tpool__fixed(TPOOL__ENDED_THREAD);
    }
    chunk->slots = slots;
    chunk->started = true;
    tpool__chunk_take(chunk, count);
    (void)tpool__chunk_queue(iter, TPOOL__PAST_SHUTDOWN); /* if refused, the consumer tries again */
    tpool__unlock(&iter->lock);

    uintptr_t number = tpool__number_here(self); /* the chunk's, which jobs that its items fork show */
    if (number) tpool__store_relaxed(&chunk->item.extra_word, number << 1 | 1); /* relaxed: only this thread uses it */
    int64_t begin = tpool__clock();
    size_t ran = 0;
    const tpool__backend *backend = tpool__backend_of(iter->pool);
    if (backend) {
        int cancel = tpool__cancel_off();
        ran = backend->execute_items(self, chunk);
        tpool__cancel_back(cancel);
    } else {
        chunk->at = 0;
        chunk->place = chunk->places;
        if (!tpool__execute_items(self, chunk)) return NULL;
        ran = chunk->at;
    }
    int64_t cost = tpool__clock() - begin;
    tpool__lock(&iter->lock);
    iter->cost_ns += cost;
    iter->measured += ran;
    if (iter->measured > 1000000) { /* recent items count more */
        iter->cost_ns /= 2;
        iter->measured /= 2;
    }
    tpool__unlock(&iter->lock);
    return NULL;
}

/* Takes items until buffer_size are ahead of the consumer. Called on the consumer's thread, without the lock. */
static void tpool__iter_fill(tpool_map_iter *iter) {
    for (;;) {
        tpool__lock(&iter->lock);
        bool aborted = iter->aborted != TPOOL_OK;
        tpool__unlock(&iter->lock);
        if (iter->source_ended || aborted || iter->available - iter->delivered >= iter->spec.buffer_size) return;
        void *item = NULL;
        bool more = iter->spec.next(iter->spec.context, &item);
        if (tpool__is_foreign(iter)) return;
        tpool__lock(&iter->lock);
        if (more) {
            tpool__source_item *place = tpool__source_item_pop(&iter->unused);
            if (!place) place = &iter->places[iter->placed++];
            place->item = item;
            place->next = NULL;
            *iter->ready_end = place;
            iter->ready_end = &place->next;
            iter->available++;
        } else {
            iter->source_ended = true;
        }
        tpool__unlock(&iter->lock);
    }
}
/* Makes more items available. Of an array with a buffer, at most buffer_size are ahead of the consumer. */
static void tpool__iter_advance(tpool_map_iter *iter) {
    if (iter->places) {
        tpool__iter_fill(iter);
    } else {
        tpool__lock(&iter->lock);
        iter->available = iter->spec.count;
        if (!iter->aborted && iter->spec.buffer_size && iter->spec.buffer_size < iter->spec.count - iter->delivered)
            iter->available = iter->delivered + iter->spec.buffer_size;
        tpool__unlock(&iter->lock);
    }
}

TPOOL_API tpool_status tpool_map(tpool *pool, const tpool_map_spec *spec, tpool_map_iter **iter) {
    if (!iter) return TPOOL_INVALID;
    *iter = NULL;
    if (!pool || !spec || !spec->fn || (spec->next && (spec->items || !spec->buffer_size)) ||
        (!spec->next && !spec->items))
        return TPOOL_INVALID;
    if (tpool__is_foreign(pool)) return TPOOL_BROKEN;
    if (tpool__executes_elsewhere(pool) && (!spec->item_size || (spec->context_size && !spec->context)))
        return TPOOL_INVALID;
    tpool_status status = tpool__refusal(pool, tpool__flags(pool));
    if (status != TPOOL_OK) return status;
    tpool_map_iter *created = tpool__alloc(sizeof *created);
    if (!created) return TPOOL_NO_MEMORY;
    created->due.call = tpool__iter_free_now;
    created->pool = pool;
    created->generation = pool->generation;
    created->spec = *spec;
    created->back = &created->front;
    created->ready_end = &created->ready;
    tpool__store_relaxed(&created->references, 1); /* relaxed: not shared yet */
    if (spec->next) {
        if (spec->buffer_size < SIZE_MAX)
            created->places = tpool__alloc_many(spec->buffer_size + 1, sizeof *created->places);
        if (!created->places) {
            tpool__iter_release(created);
            return TPOOL_NO_MEMORY;
        }
    }
    if (spec->unordered) {
        status = tpool_as_completed(NULL, 0, &created->completions);
        if (status != TPOOL_OK) {
            tpool__iter_release(created);
            return status;
        }
    }
    tpool__iter_list(created);
    tpool__thread *self = tpool__self();
    tpool__context *call = tpool__call_push(self, tpool__iter_left, created);
    tpool__iter_advance(created);
    tpool__lock(&created->lock);
    status = tpool__chunk_queue(created, TPOOL__AS_ASKED);
    tpool__unlock(&created->lock);
    (void)tpool__context_pop(self, call);
    if (status == TPOOL_OK) *iter = created;
    else tpool__iter_release(created);
    return status;
}

/* What the last call delivered is over. Returns false in the child, if its item_free forked. */
static inline bool tpool__iter_forget(tpool_map_iter *iter) {
    tpool__outcome *current = iter->current;
    tpool__source_item *shown = iter->shown;
    iter->current = NULL;
    iter->error = NULL;
    iter->item = NULL;
    iter->result_size = 0;
    if (current) tpool__outcome_free(current);
    if (TPOOL__LIKELY(!shown)) return true;
    iter->shown = NULL;
    if (!tpool__source_item_free(iter, shown, NULL, NULL)) return false;
    tpool__run_unless_held(tpool__self()); /* what item_free has ended */
    return !tpool__is_foreign(iter);
}

/* Counts an item as delivered: the next of the chunk, or with `chunk` NULL one that no chunk has taken. */
static inline void tpool__iter_show(tpool_map_iter *iter, tpool__chunk *chunk) {
    iter->any = true;
    iter->index = chunk ? chunk->first + chunk->delivered : iter->delivered;
    if (iter->places) {
        iter->shown = tpool__source_item_pop(chunk ? &chunk->places : &iter->ready);
        iter->item = iter->shown->item;
    } else {
        iter->item = (char *)iter->spec.items + iter->index * iter->spec.stride;
    }
    iter->delivered++;
    if (chunk) chunk->delivered++;
}
/* Delivers an item. The consumer now has one fewer ahead, so another may become available. */
static tpool_status tpool__iter_deliver(tpool_map_iter *iter, tpool__chunk *chunk, tpool_status status,
                                        const tpool_error *error) {
    tpool__iter_show(iter, chunk);
    iter->error = error;
    if (!iter->spec.buffer_size) return status; /* all are available; each chunk queues the next */
    if (!tpool__is_foreign(iter)) tpool__iter_advance(iter);
    if (tpool__is_foreign(iter)) return status;
    tpool__lock(&iter->lock);
    (void)tpool__chunk_queue(iter, TPOOL__PAST_CAPACITY); /* if refused, tpool_map_next tries again */
    tpool__unlock(&iter->lock);
    tpool__run_unless_held(tpool__self());
    return status;
}

/* Delivers an item that no chunk will take any more. */
static tpool_status tpool__iter_deliver_aborted(tpool_map_iter *iter, tpool_status aborted) {
    iter->aborted_error.status = iter->aborted_error.cause = aborted;
    iter->aborted_error.message = tpool_status_text(aborted);
    return tpool__iter_deliver(iter, NULL, aborted, &iter->aborted_error);
}

/* Delivers an item of a chunk that has ended. */
static tpool_status tpool__iter_deliver_from(tpool_map_iter *iter, tpool__chunk *chunk, void **result) {
    if (!chunk->started) { /* the whole chunk was cancelled, dropped or broken */
        const tpool_error *error = &tpool__outcome_load(chunk->future)->error;
        return tpool__iter_deliver(iter, chunk, error->status, error);
    }
    tpool__slot *slot = &chunk->slots[chunk->delivered];
    if (TPOOL__LIKELY(!slot->outcome && !iter->spec.buffer_size)) { /* the fast path of what follows */
        if (result) *result = slot->value;
        tpool__iter_show(iter, chunk);
        return TPOOL_OK;
    }
    iter->current = slot->outcome;
    slot->outcome = NULL;
    if (iter->current && iter->current->kind == TPOOL__ERROR)
        return tpool__iter_deliver(iter, chunk, iter->current->error.status, &iter->current->error);
    if (result) *result = slot->value;
    if (iter->current) iter->result_size = iter->current->size;
    return tpool__iter_deliver(iter, chunk, TPOOL_OK, NULL);
}

/* Waits for one chunk that has a future. */
static tpool_status tpool__chunk_await(const tpool__chunk *chunk, int64_t deadline) {
    tpool_status status = tpool__await(chunk->future, deadline);
    if (status == TPOOL_BROKEN && tpool__runs_program(tpool__self()->context) && tpool_future_cancel(chunk->future))
        status = tpool__await(chunk->future, deadline); /* queued in a halted pool, while exit waits for this task */
    return status;
}
/* Waits for the chunk that ends next, of those that are queued or run. `queued`: has not started, and has a future; or
 * NULL. `only`: no other can come before it. */
static tpool_status tpool__chunk_await_any(tpool_map_iter *iter, tpool__chunk *queued, tpool__chunk *only,
                                           int64_t deadline, tpool__chunk **ended) {
    tpool__thread *self = tpool__self();
    tpool_future *future = NULL;
    tpool_status status = tpool__completions_next(iter->completions, 0, &future);
    if (status == TPOOL_TIMEOUT && deadline == TPOOL_FOREVER && only) { /* a wait for one, searched for cycles */
        status = tpool__chunk_await(only, deadline);
        if (status != TPOOL_OK) return status;
        status = TPOOL_TIMEOUT; /* its end is published, and comes */
    } else if (status == TPOOL_TIMEOUT && deadline == TPOOL_FOREVER && queued && !tpool__within_setup(iter->pool) &&
               tpool__may_execute_in_place(self, queued->future)) {
        (void)tpool__execute_in_place(self, queued->future);
        if (tpool__is_foreign(iter)) return TPOOL_BROKEN;
    }
    if (status == TPOOL_TIMEOUT) status = tpool__completions_next(iter->completions, deadline, &future);
    if (status == TPOOL_BROKEN && queued && tpool__runs_program(self->context) && tpool_future_cancel(queued->future))
        status = tpool__completions_next(iter->completions, deadline, &future); /* as above */
    if (status != TPOOL_OK) return status;
    *ended = (tpool__chunk *)tpool_future_tag(future);
    for (unsigned tries = 0;; tpool__backoff(&tries)) { /* until its submitter is done with it */
        tpool__lock(&iter->lock);
        bool submitted = (*ended)->future != NULL;
        tpool__unlock(&iter->lock);
        if (submitted) return TPOOL_OK;
    }
}
/* Unlinks and frees a chunk whose items were all delivered. */
static void tpool__chunk_retire(tpool_map_iter *iter, tpool__chunk *chunk) {
    tpool__lock(&iter->lock);
    tpool__chunk **at = &iter->front;
    while (*at != chunk) at = &(*at)->next; /* unordered: past those that still run */
    *at = chunk->next;
    if (!*at) iter->back = at;
    (void)tpool__chunk_queue(iter, TPOOL__PAST_CAPACITY); /* it may have been refused before */
    tpool__unlock(&iter->lock);
    chunk->count = 0; /* the slots own nothing */
    tpool__chunk_free(chunk);
}

TPOOL_API tpool_status tpool_map_next(tpool_map_iter *iter, int64_t timeout_ns, void **result) {
    if (result) *result = NULL;
    if (!iter) return TPOOL_INVALID;
    if (tpool__is_foreign(iter)) return TPOOL_BROKEN;
    if (!TPOOL__LIKELY(tpool__iter_forget(iter))) return TPOOL_BROKEN;
    if (iter->reading && iter->reading->delivered < iter->reading->count)
        return tpool__iter_deliver_from(iter, iter->reading, result);
    int64_t deadline = tpool__deadline(timeout_ns);
    unsigned tries = 0;
    for (;;) {
        tpool_status status = TPOOL_OK;
        if (iter->reading) tpool__chunk_retire(iter, iter->reading);
        iter->reading = NULL;
        tpool__lock(&iter->lock);
        bool over = iter->delivered == iter->available &&
                    (iter->places ? iter->source_ended || iter->aborted : iter->delivered == iter->spec.count);
        if (!over) status = tpool__chunk_queue(iter, TPOOL__PAST_CAPACITY); /* it may have been refused before */
        tpool__chunk *chunk = iter->front, *queued = iter->waiting;
        bool submitted = chunk && chunk->future && (!iter->completions || !queued || queued->future);
        bool only = chunk && !chunk->next && chunk->started && iter->taken == iter->available;
        tpool_status aborted = iter->aborted;
        tpool__unlock(&iter->lock);
        tpool__run_unless_held(tpool__self());
        if (tpool__is_foreign(iter)) return TPOOL_BROKEN;
        if (!chunk) {
            if (over) return TPOOL_END;
            if (aborted) return tpool__iter_deliver_aborted(iter, aborted);
            if (status != TPOOL_OK) return status;
        }
        if (!submitted) { /* the chunk before is still submitting this one */
            tpool__backoff(&tries);
            continue;
        }
        if (iter->completions) status = tpool__chunk_await_any(iter, queued, only ? chunk : NULL, deadline, &chunk);
        else status = tpool__chunk_await(chunk, deadline);
        if (status != TPOOL_OK) return status;
        iter->reading = chunk;
        if (chunk->delivered < chunk->count) return tpool__iter_deliver_from(iter, chunk, result);
    }
}

TPOOL_API size_t tpool_map_result_size(tpool_map_iter *iter) { return iter ? iter->result_size : 0; }
TPOOL_API size_t tpool_map_index(tpool_map_iter *iter) { return iter && iter->any ? iter->index : 0; }
TPOOL_API void *tpool_map_item(tpool_map_iter *iter) { return iter ? iter->item : NULL; }
TPOOL_API tpool_status tpool_map_error(tpool_map_iter *iter, const tpool_error **error) {
    if (error) *error = NULL;
    if (!iter || !error) return TPOOL_INVALID;
    if (!iter->any) return TPOOL_INVALID_STATE;
    *error = iter->error;
    return TPOOL_OK;
}

TPOOL_API void tpool_map_close(tpool_map_iter *iter) {
    if (!iter || tpool__is_foreign(iter)) return;
    tpool__lock(&iter->lock);
    tpool__store_relaxed(&iter->closing, true); /* relaxed: decides only under the lock, elsewhere a hint */
    tpool__wake_stopped(iter);
    tpool__thread *self = tpool__self();
    tpool__context *call = tpool__call_push(self, tpool__iter_left, iter);
    unsigned tries = 0;
    tpool__chunk **at = &iter->front; /* stays valid: only the consumer unlinks ended chunks */
    /* all before it waits for one: their items may wait for each other's end */
    for (const tpool__chunk *chunk = iter->front; chunk; chunk = chunk->next)
        if (chunk->future) tpool__notify_to_stop(chunk->future, true);
    tpool__unlock(&iter->lock);
    tpool__run_unless_held(self);
    if (tpool__is_foreign(iter)) return; /* forked there: this is the child */
    tpool__lock(&iter->lock);
    for (;;) { /* waits for each chunk that is queued or runs; one that has started may be queueing another */
        tpool__chunk *chunk;
        while ((chunk = *at) != NULL && chunk->future && tpool__is_done(chunk->future)) at = &chunk->next;
        if (!chunk) break;
        tpool_future *future = chunk->future; /* stays valid as long as the consumer holds the iterator */
        tpool__unlock(&iter->lock);
        tpool_status status = TPOOL_OK;
        if (!future) {
            tpool__backoff(&tries);
        } else {
            (void)tpool_future_cancel(future);
            tpool__wanted wanted = { &future, 1, NULL, false, NULL };
            status = tpool__await_in(future, TPOOL_FOREVER, &wanted);
            if (tpool__is_foreign(iter)) return; /* forked there */
        }
        tpool__lock(&iter->lock);
        if (status != TPOOL_OK) break; /* the chunk cannot end during this wait; the last to end frees the iterator */
    }
    tpool__unlock(&iter->lock);
    (void)tpool__context_pop(self, call);
    tpool__iter_release(iter);
}

/* ====================================================================================================================
 *  >>for-implementation  tpool_for
 *
 *  The caller and its helpers advance one shared index. Each takes a share of what is left, large at first, then
 *  smaller, down to the grain (guided self-scheduling, Polychronopoulos and Kuck 1987). A helper is a task, and submits
 *  the next helper. A helper that starts too late finds nothing left and ends.
 * ================================================================================================================= */
typedef struct tpool__loop_helper {
    struct tpool__loop_helper *next;
    struct tpool__loop *loop;
    tpool_future *future;
} tpool__loop_helper;

typedef struct tpool__loop {
    bool visits; /* its caller is no worker of the pool: a body may give the pool up */
    tpool__word references;
    tpool__word next; /* the first index that is not taken */
    tpool__lock_word lock;
    tpool *pool;
    size_t end, grain;
    uintptr_t shares, helpers, most_helpers; /* helpers: under the lock */
    tpool__loop_helper *helper_list;
    void (*body)(size_t begin, size_t end, void *context);
    void *context;
    tpool__context *origin;
    tpool_future task; /* stands for the caller's task: an error raised in a body ends the loop */
} tpool__loop;

static void tpool__loop_release(tpool__loop *loop) {
    if (tpool__sub_acq_rel(&loop->references, 1) != 1) return; /* P4, for the loop */
    TPOOL_FREE(loop);
}
static void tpool__loop_helper_ended(void *argument) { tpool__loop_release(((tpool__loop_helper *)argument)->loop); }

static bool tpool__loop_take_any(tpool__loop *loop, size_t *begin, size_t *end) {
    uintptr_t next = tpool__load_relaxed(&loop->next); /* relaxed: results are published by the helpers' end */
    for (;;) {
        if (next >= loop->end || tpool__has_failed(&loop->task)) return false;
        size_t left = loop->end - next, part = left / loop->shares;
        if (part < loop->grain) part = loop->grain;
        if (part > left || left - part < loop->grain) part = left;
        if (!tpool__cas_relaxed(&loop->next, &next, next + part)) continue;
        *begin = next;
        *end = next + part;
        return true;
    }
}

/* A helper leaves the rest to the caller when the pool is paused or halted. It reads the flags under its lane's
 * spinlock, which the thread that sets a flag takes afterwards (tpool__fence_lanes). */
static bool tpool__loop_take(tpool__loop *loop, bool helps, size_t *begin, size_t *end) {
    tpool__worker *worker = tpool__self()->worker;
    if (!helps || !worker) return tpool__loop_take_any(loop, begin, end);
    tpool__spin_lock(&worker->lane.lock);
    bool taken =
        !(tpool__flags(loop->pool) & (TPOOL__PAUSED | TPOOL__HALTED)) && tpool__loop_take_any(loop, begin, end);
    tpool__spin_unlock(&worker->lane.lock);
    return taken;
}

/* Submits one more helper, if enough is left to do. A refusal does no harm. The caller or the helper before lists the
 * new one, and the caller waits for that helper too. So the caller, which waits for one after the other
 * (tpool__loop_end), misses none that may have taken a share. */
static void tpool__loop_add_helper(tpool__loop *loop, tpool__force force) {
    uintptr_t next = tpool__load_relaxed(&loop->next); /* relaxed: a hint */
    if (next >= loop->end || loop->end - next <= loop->grain || tpool__has_failed(&loop->task)) return;
    tpool__lock(&loop->lock);
    bool wanted = loop->helpers < loop->most_helpers;
    loop->helpers += wanted;
    tpool__unlock(&loop->lock);
    tpool__loop_helper *helper = wanted ? TPOOL_MALLOC(sizeof *helper) : NULL;
    if (!helper) return;
    helper->loop = loop;
    tpool__add_relaxed(&loop->references, 1); /* relaxed: the caller holds one */
    tpool_task task = { 0 };
    task.fn = tpool__loop_helper_execute;
    task.arg = helper;
    task.arg_free = tpool__loop_helper_ended;
    tpool_future *future = NULL;
    if (tpool__submit_task(loop->pool, &task, &future, TPOOL_FOREVER, force) == TPOOL_OK) {
        tpool__lock(&loop->lock);
        helper->future = future;
        helper->next = loop->helper_list;
        loop->helper_list = helper;
        tpool__unlock(&loop->lock);
        return;
    }
    TPOOL_FREE(helper);
    tpool__sub_relaxed(&loop->references, 1); /* relaxed: not the last, as above */
}

/* A body has ended its thread: what is not taken yet is skipped. */
static void tpool__loop_break(tpool__loop *loop) {
    tpool__outcome_free(tpool__outcome_replace(&loop->task, tpool__fixed(TPOOL__ENDED_THREAD)));
}
static void tpool__loop_left(void *of) { tpool__loop_break((tpool__loop *)of); }

/* Returns false in the child, if a body forked. */
static bool tpool__loop_execute(tpool__loop *loop, bool helps) {
    tpool__thread *self = tpool__self();
    size_t begin, end;
    while (tpool__loop_take(loop, helps, &begin, &end)) {
        tpool__context *context = tpool__context_push(self, TPOOL__IN_ITEM, loop->pool);
        context->task = &loop->task;
        if (loop->origin != context->outer) context->origin = loop->origin; /* a helper's: on the caller's thread */
        context->left = tpool__loop_left;
        context->of = loop;
        loop->body(begin, end, loop->context);
        if (!tpool__context_pop(self, context)) return false;
    }
    return true;
}

/* Waits for all helpers. */
static void tpool__loop_end(tpool__loop *loop) {
    tpool__wanted wanted = { NULL, 0, NULL, false, NULL };
    for (;;) {
        tpool__lock(&loop->lock);
        tpool__loop_helper *helper = loop->helper_list;
        if (helper) loop->helper_list = helper->next;
        tpool__unlock(&loop->lock);
        if (!helper) break;
        /* one that has not started would find nothing to do: it runs here */
        if (!tpool__claim_in_place(helper->future)) (void)tpool__await_in(helper->future, TPOOL_FOREVER, &wanted);
        if (tpool__is_foreign(loop->pool)) return; /* forked there: this is the child */
        tpool_future_release(helper->future);
        TPOOL_FREE(helper);
    }
}
/* The thread that called tpool_for ends. Its context still exists, since the helpers read it. */
static void tpool__for_left(void *of) {
    tpool__loop *loop = (tpool__loop *)of;
    tpool__loop_break(loop);
    tpool__loop_end(loop);
    if (loop->visits) tpool__caller_leaves(loop->pool);
    tpool__outcome_free(tpool__outcome_take(&loop->task));
    tpool__loop_release(loop);
}

static void *tpool__loop_helper_execute(void *argument) {
    tpool__loop_helper *helper = (tpool__loop_helper *)argument;
    tpool__loop_add_helper(helper->loop, TPOOL__PAST_SHUTDOWN);
    (void)tpool__loop_execute(helper->loop, true);
    return NULL;
}

TPOOL_API tpool_status tpool_for(tpool *pool, size_t begin, size_t end, size_t grain,
                                 void (*body)(size_t begin, size_t end, void *context), void *context) {
    if (!pool || !body || begin > end) return TPOOL_INVALID;
    if (tpool__is_foreign(pool)) return TPOOL_BROKEN;
    if (tpool__executes_elsewhere(pool)) return TPOOL_UNSUPPORTED;
    tpool_status status = tpool__refusal(pool, tpool__flags(pool));
    if (status != TPOOL_OK || begin == end) return status;
    tpool__thread *self = tpool__self();
    tpool__loop *loop = tpool__contexts_ready(self) ? tpool__alloc(sizeof *loop) : NULL;
    if (!loop) return TPOOL_NO_MEMORY;
    uintptr_t workers = tpool__load_relaxed(&pool->max_workers); /* relaxed: any recent value will do */
    bool is_worker = self->worker && self->worker->pool == pool;
    /* relaxed: not shared yet */
    tpool__store_relaxed(&loop->references, 1);
    tpool__store_relaxed(&loop->next, begin);
    tpool__task_init(&loop->task, pool, NULL, NULL, NULL,
                     TPOOL__PHASE_RUNNING | TPOOL__END_RELEASED | TPOOL__REFERENCE);
    loop->pool = pool;
    loop->end = end;
    loop->grain = grain ? grain : 1;
    loop->shares = workers <= UINTPTR_MAX / 4 ? 4 * workers : UINTPTR_MAX;
    loop->most_helpers = is_worker ? workers - 1 : workers;
    loop->body = body;
    loop->context = context;
    tpool_future *task = self->context ? self->context->task : NULL; /* the task that loops */
    /* relaxed: not shared yet */
    if (task) tpool__store_relaxed(&loop->task.extra_word, tpool__load_relaxed(&task->extra_word));
    loop->visits = !is_worker;
    if (loop->visits) {
        tpool__spin_lock(&pool->inject.lock);
        pool->callers++;
        tpool__spin_unlock(&pool->inject.lock);
    }
    tpool__context *call = tpool__call_push(self, tpool__for_left, loop);
    if (call->outer) loop->origin = call;

    if (!(tpool__flags(pool) & TPOOL__PAUSED) && !tpool__within_setup(pool))
        tpool__loop_add_helper(loop, TPOOL__PAST_CAPACITY);
    if (!tpool__loop_execute(loop, false)) return TPOOL_BROKEN;
    tpool__loop_end(loop);
    if (!tpool__context_pop(self, call)) return TPOOL_BROKEN;
    if (loop->visits) tpool__caller_leaves(pool);
    tpool__outcome *outcome = tpool__outcome_take(&loop->task), *before = NULL;
    if (outcome && outcome->kind == TPOOL__ERROR) status = outcome->error.status;
    if (status == TPOOL_BROKEN && task) before = tpool__outcome_replace(task, tpool__error_broken(task));
    else if (task && outcome && tpool__set_outcome(task, outcome)) outcome = NULL;
    tpool__loop_release(loop);
    tpool__outcome_free(outcome); /* an inner loop may have left an error that tpool__error_broken allocated */
    tpool__outcome_free(before);
    tpool__run_unless_held(self); /* what the submit of a helper has listed */
    return status;
}

/* ====================================================================================================================
 *  >>dual-implementation  The dual pools
 * ================================================================================================================= */
static struct {     /* under tpool__process.lock */
    tpool *pool[2]; /* 0: high level, 1: low level */
    tpool_config config[2];
    char name[2][64];
    int *descriptors[2]; /* copies, as the names */
    tpool__u32 configured[2];
    bool shut;
} tpool__dual;

static tpool *tpool__dual_get(int which) {
    if (!tpool__process_ready()) return NULL;
    tpool__lock(&tpool__process.lock);
    tpool *pool = tpool__dual.pool[which], *created = NULL;
    tpool_config config = { 0 };
    if (tpool__load_acquire(&tpool__dual.configured[which])) config = tpool__dual.config[which]; /* P8 */
    tpool__unlock(&tpool__process.lock);
    if (pool) return pool;
    if (!config.name) config.name = which == 0 ? "high" : "low";
    if (config.max_workers == 0) {
        int cpus = tpool_cpu_count();
        config.max_workers = cpus > 4 ? cpus : 4;
        if (config.max_workers < config.min_workers) config.max_workers = config.min_workers;
    }
    if (tpool__create(&created, &config, true, NULL) != TPOOL_OK) return NULL;
    tpool__lock(&tpool__process.lock);
    pool = tpool__dual.pool[which];
    if (!pool) {
        tpool__dual.pool[which] = pool = created;
        if (tpool__dual.shut) tpool__or_relaxed(&pool->flags, TPOOL__SHUT); /* relaxed: not shared yet */
    }
    tpool__unlock(&tpool__process.lock);
    if (pool != created) tpool__discard(created); /* another thread was faster */
    return pool;
}
TPOOL_API tpool *tpool_high_level(void) { return tpool__dual_get(0); }
TPOOL_API tpool *tpool_low_level(void) { return tpool__dual_get(1); }
TPOOL_API tpool *tpool_default(void) { return tpool__dual_get(1); }

static bool tpool__descriptors_copy(const tpool_config *config, int **copy) {
    size_t size = config->descriptor_count * sizeof **copy;
    *copy = size > 0 ? TPOOL_MALLOC(size) : NULL;
    if (*copy) memcpy(*copy, config->descriptors, size);
    return size == 0 || *copy;
}
TPOOL_API tpool_status tpool_dual_configure(const tpool_config *high, const tpool_config *low) {
    const tpool_config *config[2] = { high, low };
    int workers;
    for (int i = 0; i < 2; i++) {
        tpool_status status = config[i] ? tpool__config_check(config[i], &workers) : TPOOL_OK;
        if (status != TPOOL_OK) return status;
    }
    int *descriptors[2] = { NULL, NULL }; /* then: what is not needed any more */
    bool copied = tpool__process_ready();
    for (int i = 0; i < 2 && copied; i++) copied = !config[i] || tpool__descriptors_copy(config[i], &descriptors[i]);
    tpool__lock(&tpool__process.lock);
    bool used = tpool__dual.pool[0] || tpool__dual.pool[1];
    for (int i = 0; i < 2 && copied && !used; i++) {
        if (!config[i]) continue;
        int *before = tpool__dual.descriptors[i];
        tpool__store_release(&tpool__dual.configured[i], 0); /* P8 */
        tpool__dual.config[i] = *config[i];
        tpool__dual.config[i].descriptors = tpool__dual.descriptors[i] = descriptors[i];
        descriptors[i] = before;
        if (config[i]->name) {
            snprintf(tpool__dual.name[i], sizeof tpool__dual.name[i], "%s", config[i]->name);
            tpool__dual.config[i].name = tpool__dual.name[i];
        }
        tpool__store_release(&tpool__dual.configured[i], 1); /* P8: a fork may come at any moment */
    }
    tpool__unlock(&tpool__process.lock);
    for (int i = 0; i < 2; i++)
        if (descriptors[i]) TPOOL_FREE(descriptors[i]);
    return !copied ? TPOOL_NO_MEMORY : used ? TPOOL_INVALID_STATE : TPOOL_OK;
}

/* The end of the high-level pool gives up, or its thread has ended: a pool that is not shut goes on, and takes all work
 * again. */
static void tpool__dual_end_high_left(void *of) {
    tpool *high = of;
    if (tpool__is_foreign(high)) return;
    tpool__lock(&high->lock);
    /* relaxed: see tpool__flags */
    if (!(tpool__flags(high) & TPOOL__SHUT)) tpool__and_relaxed(&high->flags, ~TPOOL__CANCELLED);
    high->finishing--;
    tpool__unlock(&high->lock);
    tpool__fence_lanes(high);
}
/* With TPOOL_WAIT the high-level pool ends first, with all its work. */
static tpool_status tpool__dual_end_high(tpool *high, unsigned flags) {
    if (flags & TPOOL_CANCEL_PENDING) {
        tpool__set_flags(high, TPOOL__CANCELLED, 0);
        tpool__end_waiting(high, TPOOL__WAS_CANCELLED);
    }
    tpool__stop_running(high, flags); /* before the drain, not after it */
    tpool__finish_begin(high);
    tpool__thread *self = tpool__self();
    tpool__context *call = tpool__call_push(self, tpool__dual_end_high_left, high);
    tpool__run_unless_held(self);
    tpool_status status = tpool_drain(high, TPOOL_FOREVER);
    if (status == TPOOL_OK) status = tpool_shutdown(high, flags);
    if (!tpool__context_pop(self, call)) return TPOOL_BROKEN;
    if (status != TPOOL_OK) tpool__dual_end_high_left(high);
    return status;
}
/* Without TPOOL_WAIT the last worker of the high-level pool to end shuts the low-level pool down. False: there is
 * none. */
static bool tpool__dual_hand_over(tpool *high, tpool *low, unsigned flags) {
    tpool__lock(&high->lock);
    tpool__take_no_more(high, flags); /* under the same lock as `heir` is set, so that this worker sees both */
    bool inherits = !tpool__workers_are_gone(high);
    bool first = inherits && !high->heir;
    if (inherits) {
        high->heir_flags |= flags;
        high->heir = low;
    }
    tpool__unlock(&high->lock);
    if (!inherits) return false;
    if (first) low->closing_for = high;
    tpool__fence_lanes(low); /* so a thread that sees CLOSING, set next, sees closing_for too */
    tpool__set_flags(low, TPOOL__CLOSING, 0);
    tpool__wake_room_and_drainers(low);
    return true;
}
static tpool_status tpool__dual_shutdown_both(tpool *high, tpool *low, unsigned flags) {
    tpool__finish_begin(low); /* what ends in the high-level pool may wait for it */
    tpool__thread *self = tpool__self();
    tpool__context *call = tpool__call_push(self, tpool__finish_failed, low);
    bool waits = flags & TPOOL_WAIT, inherits = !waits && tpool__dual_hand_over(high, low, flags);
    tpool_status status = waits ? tpool__dual_end_high(high, flags) : tpool_shutdown(high, flags);
    if (status == TPOOL_OK && !inherits) status = tpool_shutdown(low, flags);
    if (!tpool__context_pop(self, call)) return TPOOL_BROKEN;
    if (status != TPOOL_OK) tpool__finish_failed(low);
    return status;
}
TPOOL_API tpool_status tpool_dual_shutdown(unsigned flags) {
    if (flags & ~(TPOOL_WAIT | TPOOL_CANCEL_PENDING | TPOOL_STOP_RUNNING)) return TPOOL_INVALID;
    if (!tpool__process_ready()) return TPOOL_NO_MEMORY;
    tpool *high, *low;
    bool refused, lacks_low;
    do {
        tpool__lock(&tpool__process.lock);
        high = tpool__dual.pool[0];
        low = tpool__dual.pool[1];
        refused = flags & TPOOL_WAIT && ((high && tpool__within(high)) || (low && tpool__within(low)));
        lacks_low = high && !low;
        if (!refused && !lacks_low) tpool__dual.shut = true; /* a pool created later is shut from the start */
        tpool__unlock(&tpool__process.lock);
        if (refused) return TPOOL_DEADLOCK;
        if (lacks_low && !tpool_low_level()) return TPOOL_NO_MEMORY; /* tasks of the high-level pool may yet want it */
    } while (lacks_low);
    if (high && low) return tpool__dual_shutdown_both(high, low, flags);
    return low ? tpool_shutdown(low, flags) : TPOOL_OK;
}

/* ====================================================================================================================
 *  >>manager-implementation  Managed pools
 *
 *  A manager keeps one entry for each pool, in two hash tables of chains, by key (workers and kind) and by the pool's
 *  address, and in a list, the least recently released first. One lock guards all of that. The manager looks into,
 *  drains, shuts down and destroys a pool without the lock: tasks of the pool may call the manager, and even a look may
 *  run the program's result_free. The thread that does so holds the entry meanwhile (tpool__step_on), so that it stays
 *  where it is in the list.
 *
 *  An entry is current first: a get finds it by its key. It is retired when it is replaced, evicted, cleared or shut
 *  down. A retired entry without users and holds ends, if its pool has nothing to do then (tpool__end_retired); else a
 *  later get looks again. Pools are created without the lock; of two threads that create one for the same key, the
 *  later discards its own.
 *
 *  With 500 pools a get costs about as much as with one: a hash, a short chain, a count. It checks how long pools have
 *  been idle only after `sweep_at`.
 * ================================================================================================================= */
typedef struct tpool__managed {
    struct tpool__managed *newer, *older; /* the list */
    struct tpool__managed *same_key;      /* its chain in the table of keys, while it is current */
    struct tpool__managed *same_address;  /* in the table of addresses, while it is current or has users */
    tpool_manager *manager;
    tpool *pool;
    int workers;
    tpool_kind kind;
    size_t users;         /* handed out and not released */
    uint64_t uses;        /* handed out, ever */
    int64_t released_at;  /* since when it has no user; orders the list */
    unsigned holds;       /* threads that work on it without the lock, or walk the list from it */
    bool retired, ending; /* ending: one thread may be destroying its pool; all others skip the entry */
} tpool__managed;

#define TPOOL__MANAGED_FEW 16u /* chains at first; later at least as many as entries */
#define TPOOL__IDLE_TIMEOUT TPOOL_SEC(300)
#define TPOOL__LOOK_AGAIN TPOOL_MS(10) /* until the next look at a retired pool that had work left */
#define TPOOL__MOMENT 1044u            /* tries of tpool__backoff: a millisecond or two */

struct tpool_manager {
    tpool__lock_word lock; /* guards what follows; taken before tpool__process.lock and the pools' locks */
    bool shut, destroyed;
    bool comes_back;    /* of the global manager: its next use undoes its shutdown */
    bool over;          /* of the global manager, at exit: nothing undoes its shutdown any more */
    unsigned shutdowns; /* under way */
    unsigned calls;     /* under way: the last frees a destroyed manager */
    uintptr_t generation;
    int64_t idle_timeout_ns; /* TPOOL_FOREVER: never */
    int64_t sweep_at;        /* no pool's idle time is over before */
    size_t max_pools, count;
    size_t coming;                         /* pools that gets are creating; they count against max_pools */
    size_t chains;                         /* a power of two */
    tpool__managed **by_key, **by_address; /* two halves of one array */
    tpool__managed *newest, *oldest;
    uint64_t created, reused, evicted, replaced;
    tpool_manager *inherited; /* the parent process' global managers, still reachable for leak checkers */
    tpool__managed *few[2 * TPOOL__MANAGED_FEW];
};

static tpool__managed **tpool__chain_of_key(tpool_manager *manager, int workers, tpool_kind kind) {
    uint32_t hash = ((uint32_t)workers * 2 + (uint32_t)kind) * UINT32_C(2654435769); /* the golden ratio's fraction */
    return &manager->by_key[(hash ^ hash >> 16) & (manager->chains - 1)];
}
static tpool__managed **tpool__chain_of_address(tpool_manager *manager, const tpool *pool) {
    uint32_t hash = (uint32_t)((uintptr_t)pool / TPOOL__POOL_ALIGNMENT) * UINT32_C(2654435769);
    return &manager->by_address[(hash ^ hash >> 16) & (manager->chains - 1)];
}
static void tpool__chain_in(tpool_manager *manager, tpool__managed *entry, bool current) {
    TPOOL_ASSERT(tpool__held(&manager->lock));
    tpool__managed **by_key = tpool__chain_of_key(manager, entry->workers, entry->kind);
    tpool__managed **by_address = tpool__chain_of_address(manager, entry->pool);
    if (current) {
        entry->same_key = *by_key;
        *by_key = entry;
    }
    entry->same_address = *by_address;
    *by_address = entry;
}
/* Without memory the chains only get longer. */
static void tpool__chains_double(tpool_manager *manager) {
    TPOOL_ASSERT(tpool__held(&manager->lock));
    size_t chains = 2 * manager->chains;
    tpool__managed **table = tpool__alloc_many(2 * chains, sizeof *table);
    if (!table) return;
    if (manager->by_key != manager->few) TPOOL_FREE(manager->by_key);
    manager->by_key = table;
    manager->by_address = table + chains;
    manager->chains = chains;
    for (tpool__managed *entry = manager->oldest; entry; entry = entry->newer)
        if (!entry->retired || entry->users) tpool__chain_in(manager, entry, !entry->retired);
}

/* Behind those that were released earlier; mostly it is the newest. */
static void tpool__list_in(tpool_manager *manager, tpool__managed *entry) {
    TPOOL_ASSERT(tpool__held(&manager->lock));
    tpool__managed *newer = NULL, *older = manager->newest;
    for (; older && older->released_at > entry->released_at; older = older->older) newer = older;
    entry->newer = newer;
    entry->older = older;
    if (older) older->newer = entry;
    else manager->oldest = entry;
    if (newer) newer->older = entry;
    else manager->newest = entry;
}
static void tpool__list_out(tpool_manager *manager, tpool__managed *entry) {
    TPOOL_ASSERT(tpool__held(&manager->lock));
    if (entry->newer) entry->newer->older = entry->older;
    else manager->newest = entry->older;
    if (entry->older) entry->older->newer = entry->newer;
    else manager->oldest = entry->newer;
}

static void tpool__forget_address(tpool_manager *manager, tpool__managed *entry) {
    TPOOL_ASSERT(tpool__held(&manager->lock));
    tpool__managed **at = tpool__chain_of_address(manager, entry->pool);
    while (*at != entry) at = &(*at)->same_address;
    *at = entry->same_address;
}
/* From now on no get finds the entry. */
static void tpool__retire_entry(tpool_manager *manager, tpool__managed *entry) {
    TPOOL_ASSERT(tpool__held(&manager->lock));
    tpool__managed **at = tpool__chain_of_key(manager, entry->workers, entry->kind);
    while (*at != entry) at = &(*at)->same_key;
    *at = entry->same_key;
    entry->retired = true;
    if (!entry->users) tpool__forget_address(manager, entry);
}
/* Frees an entry that is in no list, and its pool if that was made. */
static void tpool__entry_free(tpool__managed *entry) {
    if (entry->pool) tpool__discard(entry->pool);
    TPOOL_FREE(entry);
}

/* Creates an entry with its pool. The caller does not hold the lock, since the program's fork handlers may run. */
static tpool_status tpool__entry_new(tpool_manager *manager, int workers, tpool_kind kind, tpool__managed **created) {
    TPOOL_ASSERT(tpool__holds_none()); /* the program's fork handlers run where a process is started */
    tpool__managed *entry = tpool__alloc(sizeof *entry);
    if (!entry) return TPOOL_NO_MEMORY;
    tpool_config config = { 0 };
    entry->manager = manager;
    entry->workers = config.max_workers = workers;
    entry->kind = config.kind = kind;
    tpool_status status = tpool__create(&entry->pool, &config, false, manager);
    if (status == TPOOL_OK) *created = entry;
    else tpool__entry_free(entry);
    return status;
}
/* From now on a get finds it. */
static void tpool__entry_in(tpool_manager *manager, tpool__managed *entry) {
    TPOOL_ASSERT(tpool__held(&manager->lock));
    entry->released_at = tpool__clock();
    if (manager->count == manager->chains) tpool__chains_double(manager);
    tpool__list_in(manager, entry);
    manager->count++;
    manager->created++;
    tpool__chain_in(manager, entry, true);
}

static void tpool__manager_free(tpool_manager *manager) {
    if (manager->by_key != manager->few) TPOOL_FREE(manager->by_key);
    TPOOL_FREE(manager);
}
/* Every call works between these two. They lock the manager, and it is not freed before the last leaves. */
static void tpool__manager_enter(tpool_manager *manager) {
    tpool__lock(&manager->lock);
    manager->calls++;
}
static void tpool__manager_leave(tpool_manager *manager) {
    TPOOL_ASSERT(tpool__held(&manager->lock));
    bool last = --manager->calls == 0 && manager->destroyed && manager->count == 0;
    tpool__unlock(&manager->lock);
    if (!last) return;
    tpool__manager_free(manager);
}

/* True: nothing is queued or running, nor any callback. A task's end may be seen before its worker has left the task;
 * the loop gives the worker a moment. */
static bool tpool__has_nothing_to_do(tpool *pool) {
    tpool_stats stats;
    for (unsigned tries = 0; tries < TPOOL__MOMENT && !tpool__within(pool); tpool__backoff(&tries)) {
        if (tpool_drain(pool, 0) == TPOOL_OK) return true;
        if (tpool_get_stats(pool, &stats) != TPOOL_OK ||
            stats.submitted > stats.completed + stats.failed + stats.cancelled + stats.expired + stats.dropped)
            return false;
    }
    return false;
}

static void tpool__sweep_not_later_than(tpool_manager *manager, int64_t since, int64_t after) {
    TPOOL_ASSERT(tpool__held(&manager->lock));
    int64_t at = after < TPOOL_FOREVER - since ? since + after : TPOOL_FOREVER;
    if (at < manager->sweep_at) manager->sweep_at = at;
}

/* Gives up a hold. An entry that was released while a thread held it goes to its place in the list now. Those that are
 * held may be out of place; all others are in order. */
static void tpool__let_go(tpool_manager *manager, tpool__managed *entry) {
    TPOOL_ASSERT(tpool__held(&manager->lock));
    entry->ending = false;
    if (--entry->holds > 0) return;
    const tpool__managed *newer = entry->newer;
    while (newer && newer->holds > 0) newer = newer->newer;
    if (!newer || newer->released_at >= entry->released_at) return;
    tpool__list_out(manager, entry);
    tpool__list_in(manager, entry);
}
static bool tpool__end_retired(tpool_manager *manager);
/* The thread has ended in a step. */
static void tpool__step_left(void *of) {
    tpool__managed *entry = of;
    tpool_manager *manager = entry->manager;
    tpool__lock(&manager->lock);
    tpool__let_go(manager, entry);
    if (tpool__end_retired(manager)) tpool__manager_leave(manager);
}
/* Calls `step` for the pool of a held entry, without the lock, since it may run the program's code. False: that forked,
 * and this is the child, where the manager's lock may be held by a thread that is not there; the caller returns at
 * once. */
static bool tpool__step_on(tpool__managed *entry, tpool_status (*step)(tpool *pool), tpool_status *status) {
    TPOOL_ASSERT(tpool__held(&entry->manager->lock));
    tpool__thread *self = tpool__self();
    tpool__unlock(&entry->manager->lock);
    tpool__context *call = tpool__call_push(self, tpool__step_left, entry);
    *status = step(entry->pool);
    if (!tpool__context_pop(self, call)) return false;
    tpool__lock(&entry->manager->lock);
    return true;
}
static tpool_status tpool__look_whether_idle(tpool *pool) {
    return tpool__has_nothing_to_do(pool) ? TPOOL_OK : TPOOL_TIMEOUT;
}
static tpool_status tpool__destroy_if_idle(tpool *pool) {
    return tpool__has_nothing_to_do(pool) ? tpool__destroy(pool) : TPOOL_TIMEOUT;
}

/* Ends the retired entries without users and holds whose pools are idle. Releases the lock meanwhile. False: as
 * tpool__step_on. */
static bool tpool__end_retired(tpool_manager *manager) {
    TPOOL_ASSERT(tpool__held(&manager->lock));
    tpool__managed *next;
    if (!TPOOL__HOOK_MAY_WAIT && tpool__self()->ending) { /* a later get does it */
        tpool__sweep_not_later_than(manager, tpool__clock(), TPOOL__LOOK_AGAIN);
        return true;
    }
    for (tpool__managed *entry = manager->oldest; entry; entry = next) {
        next = entry->newer;
        if (!entry->retired || entry->users || entry->holds) continue;
        tpool_status status;
        entry->holds++;
        entry->ending = true;
        if (!tpool__step_on(entry, tpool__destroy_if_idle, &status)) return false;
        next = entry->newer;
        tpool__let_go(manager, entry);
        if (status == TPOOL_OK) {
            tpool__list_out(manager, entry);
            manager->count--;
            TPOOL_FREE(entry);
        } else {
            tpool__sweep_not_later_than(manager, tpool__clock(), TPOOL__LOOK_AGAIN);
        }
    }
    return true;
}
/* One step of a walk of the list: holds the entry after `held`, or the first, and lets go of `held`. */
static tpool__managed *tpool__hold_next(tpool_manager *manager, tpool__managed *held) {
    TPOOL_ASSERT(tpool__held(&manager->lock));
    tpool__managed *next = held ? held->newer : manager->oldest;
    while (next && next->ending) next = next->newer;
    if (next) next->holds++;
    if (held) tpool__let_go(manager, held);
    return next;
}

/* Returns when a pool without a user will have been idle for idle_timeout_ns, if it is idle now. */
static int64_t tpool__idle_until(tpool_manager *manager, tpool__managed *entry) {
    TPOOL_ASSERT(tpool__held(&manager->lock));
    tpool__lock(&entry->pool->lock);
    /* relaxed: under its lock. An active worker has had work until now, or looks for it. */
    int64_t since = tpool__load_relaxed(&entry->pool->active) > 0 ? tpool__clock() : entry->pool->idle_since;
    tpool__unlock(&entry->pool->lock);
    if (since < entry->released_at) since = entry->released_at;
    return manager->idle_timeout_ns < TPOOL_FOREVER - since ? since + manager->idle_timeout_ns : TPOOL_FOREVER;
}

/* Why idle pools end. */
typedef enum tpool__eviction { TPOOL__IDLE_TOO_LONG, TPOOL__TOO_MANY, TPOOL__CLEARED } tpool__eviction;

/* Retires a held entry that has no user, if it is due to end and its pool has nothing to do. False: as
 * tpool__step_on. */
static bool tpool__evict_one(tpool_manager *manager, tpool__managed *entry, tpool__eviction why) {
    TPOOL_ASSERT(tpool__held(&manager->lock));
    int64_t now = tpool__clock(), until = why == TPOOL__IDLE_TOO_LONG ? tpool__idle_until(manager, entry) : now;
    uint64_t uses = entry->uses;
    tpool_status status = TPOOL_TIMEOUT;
    if (until <= now && !tpool__step_on(entry, tpool__look_whether_idle, &status)) return false;
    bool is_unused = !entry->retired && !entry->users && entry->uses == uses; /* no get has used it meanwhile */
    if (status == TPOOL_OK && is_unused) {
        tpool__retire_entry(manager, entry);
        manager->evicted += why != TPOOL__CLEARED;
    } else {
        tpool__sweep_not_later_than(manager, until <= now ? now : until, until <= now ? manager->idle_timeout_ns : 0);
    }
    return true;
}
/* Ends idle pools. Releases the lock meanwhile. False: as tpool__step_on. */
static bool tpool__evict(tpool_manager *manager, tpool__eviction why) {
    TPOOL_ASSERT(tpool__held(&manager->lock));
    if (why == TPOOL__IDLE_TOO_LONG) manager->sweep_at = TPOOL_FOREVER;
    if (!tpool__end_retired(manager)) return false;
    size_t count = manager->count;
    for (tpool__managed *entry = tpool__hold_next(manager, NULL); entry; entry = tpool__hold_next(manager, entry)) {
        if (entry->users || entry->retired) continue;
        if (why == TPOOL__TOO_MANY && count + manager->coming < manager->max_pools) continue;
        if (!tpool__evict_one(manager, entry, why)) return false;
        count -= entry->retired;
    }
    return tpool__end_retired(manager);
}

static bool tpool__is_living(tpool *pool) {
    return !(tpool__flags(pool) & (TPOOL__SHUT | TPOOL__BREAK | TPOOL__CLOSING | TPOOL__HALTED));
}
static tpool__managed *tpool__find_key(tpool_manager *manager, int workers, tpool_kind kind) {
    TPOOL_ASSERT(tpool__held(&manager->lock));
    tpool__managed *entry = *tpool__chain_of_key(manager, workers, kind);
    while (entry && (entry->workers != workers || entry->kind != kind)) entry = entry->same_key;
    return entry;
}

static tpool_manager *tpool__manager_or_global(tpool_manager *manager) {
    return manager ? manager : tpool_manager_global();
}

static tpool_manager *tpool__manager_new(const tpool_manager_config *config) {
    tpool_manager *manager = tpool__alloc(sizeof *manager);
    if (!manager) return NULL;
    int64_t timeout = config && config->idle_timeout_ns ? config->idle_timeout_ns : TPOOL__IDLE_TIMEOUT;
    manager->idle_timeout_ns = timeout < 0 ? TPOOL_FOREVER : timeout;
    manager->max_pools = config ? config->max_pools : 0;
    manager->sweep_at = TPOOL_FOREVER;
    manager->chains = TPOOL__MANAGED_FEW;
    manager->by_key = manager->few;
    manager->by_address = manager->few + TPOOL__MANAGED_FEW;
    manager->generation = tpool__generation();
    return manager;
}

TPOOL_API tpool_status tpool_manager_create(tpool_manager **manager, const tpool_manager_config *config) {
    if (!manager) return TPOOL_INVALID;
    *manager = NULL;
    if (!tpool__process_ready()) return TPOOL_NO_MEMORY;
    *manager = tpool__manager_new(config);
    return *manager ? TPOOL_OK : TPOOL_NO_MEMORY;
}

/* The global manager is one object for the whole process. Its shutdown can be undone. P12: a thread that sees the
 * pointer sees what it points to. Created under tpool__process.lock. */
static _Atomic(tpool_manager *) tpool__global_manager;
static tpool_manager *tpool__inherited_managers;
static bool tpool__global_over;

TPOOL_API tpool_manager *tpool_manager_global(void) {
    if (!tpool__process_ready()) return NULL;
    tpool_manager *manager = tpool__load_acquire(&tpool__global_manager); /* P12 */
    if (manager) return manager;
    tpool_manager *created = tpool__manager_new(NULL);
    if (!created) return NULL;
    tpool__lock(&tpool__process.lock);
    manager = tpool__load_relaxed(&tpool__global_manager); /* relaxed: written under the lock */
    if (!manager) {
        manager = created;
        manager->shut = manager->over = tpool__global_over;
        tpool__store_release(&tpool__global_manager, manager); /* P12 */
    }
    tpool__unlock(&tpool__process.lock);
    if (manager != created) tpool__manager_free(created); /* another thread was faster */
    return manager;
}

/* True: the manager lends no pools. False: it does; a global manager that was shut down has come back by this call. */
static bool tpool__is_shut(tpool_manager *manager) {
    TPOOL_ASSERT(tpool__held(&manager->lock));
    if (!manager->shut) return false;
    if (!manager->comes_back || manager->over || manager->shutdowns) return true;
    manager->shut = manager->comes_back = false;
    manager->created = manager->reused = manager->evicted = manager->replaced = 0;
    return false;
}

/* The thread has ended, and its caller has not got the pool, or cannot release it. */
static void tpool__loan_left(void *of) { (void)tpool_manager_release(((tpool *)of)->manager, (tpool *)of); }

/* What a get has found: the pool that it shares, or a fresh one, and the one that this replaces, if any. */
typedef struct tpool__found {
    tpool__managed *shared, *fresh, *old;
} tpool__found;

static void tpool__look_for(tpool_manager *manager, int workers, tpool_kind kind, unsigned flags, tpool__found *found) {
    tpool__managed *entry = tpool__find_key(manager, workers, kind);
    bool is_old = entry && ((flags & TPOOL_FORCE_NEW) || !tpool__is_living(entry->pool));
    found->shared = is_old ? NULL : entry;
    found->old = is_old ? entry : NULL;
}
/* Whether one more pool passes max_pools. An old pool without a user makes room. */
static bool tpool__has_too_many(const tpool_manager *manager, const tpool__managed *old) {
    TPOOL_ASSERT(tpool__held(&manager->lock));
    size_t more = old && !old->users ? 0 : 1;
    return manager->max_pools > 0 && manager->count + manager->coming + more > manager->max_pools;
}
/* Finds the pool of a get, or creates it. Whatever releases the lock looks again: so a get that is refused a fresh pool
 * may share the one that another get has created meanwhile. False: as tpool__step_on. */
static bool tpool__obtain(tpool_manager *manager, int workers, tpool_kind kind, unsigned flags, tpool__found *found,
                          tpool_status *status) {
    TPOOL_ASSERT(tpool__held(&manager->lock));
    *status = TPOOL_OK;
    for (bool evicted = false, created = false;;) {
        tpool__look_for(manager, workers, kind, flags, found);
        if (tpool__is_shut(manager)) {
            *status = TPOOL_SHUTDOWN;
        } else if (found->shared) {
            *status = TPOOL_OK;
        } else if (!created && !evicted && tpool__has_too_many(manager, found->old)) {
            if (!tpool__evict(manager, TPOOL__TOO_MANY)) return false;
            evicted = true;
            continue;
        } else if (!created) {
            manager->coming++;
            tpool__unlock(&manager->lock);
            *status = tpool__entry_new(manager, workers, kind, &found->fresh);
            tpool__lock(&manager->lock);
            manager->coming--;
            created = true;
            continue;
        }
        if (*status != TPOOL_OK) found->old = NULL;
        return true;
    }
}
/* Counts the new user of the pool that a get has found. A fresh one becomes the current one of its key. */
static tpool *tpool__lend(tpool_manager *manager, tpool__found *found) {
    TPOOL_ASSERT(tpool__held(&manager->lock));
    tpool__managed *entry = found->shared;
    if (entry) {
        manager->reused++;
    } else {
        if (found->old) {
            tpool__retire_entry(manager, found->old);
            manager->replaced++;
        }
        entry = found->fresh;
        found->fresh = NULL;
        tpool__entry_in(manager, entry);
    }
    entry->users++;
    entry->uses++;
    return entry->pool;
}

TPOOL_API tpool_status tpool_manager_get(tpool_manager *manager, int workers, tpool_kind kind, unsigned flags,
                                         tpool **pool) {
    if (!pool) return TPOOL_INVALID;
    *pool = NULL;
    if (workers < 0 || !tpool__is_kind(kind) || flags & ~TPOOL_FORCE_NEW) return TPOOL_INVALID;
    manager = tpool__manager_or_global(manager);
    if (!manager) return TPOOL_NO_MEMORY;
    if (tpool__is_foreign(manager)) return TPOOL_BROKEN;
    tpool__manager_enter(manager);
    if (manager->sweep_at != TPOOL_FOREVER && tpool__clock() >= manager->sweep_at &&
        !tpool__evict(manager, TPOOL__IDLE_TOO_LONG))
        return TPOOL_BROKEN;
    tpool__found found = { NULL, NULL, NULL };
    tpool_status status;
    if (!tpool__obtain(manager, workers, kind, flags, &found, &status)) return TPOOL_BROKEN;
    if (status == TPOOL_OK) *pool = tpool__lend(manager, &found);
    if (found.old) { /* if ending it ends the thread, the loan is released */
        tpool__thread *self = tpool__self();
        tpool__context *call = tpool__call_push(self, tpool__loan_left, *pool);
        if (!tpool__end_retired(manager) || !tpool__context_pop(self, call)) {
            *pool = NULL;
            return TPOOL_BROKEN;
        }
    }
    tpool__manager_leave(manager);
    if (found.fresh) tpool__entry_free(found.fresh); /* another thread was faster, or has shut the manager down */
    return status;
}

TPOOL_API tpool_status tpool_manager_release(tpool_manager *manager, tpool *pool) {
    if (!pool) return TPOOL_OK;
    manager = tpool__manager_or_global(manager);
    if (!manager) return TPOOL_INVALID;
    if (tpool__is_foreign(manager)) return TPOOL_BROKEN;
    tpool_status status = TPOOL_INVALID;
    tpool__manager_enter(manager);
    tpool__managed *entry = *tpool__chain_of_address(manager, pool);
    while (entry && entry->pool != pool) entry = entry->same_address;
    if (entry && entry->users > 0) {
        status = TPOOL_OK;
        if (--entry->users == 0) {
            entry->holds++;
            entry->released_at = tpool__clock();
            tpool__sweep_not_later_than(manager, entry->released_at, manager->idle_timeout_ns);
            if (entry->retired) tpool__forget_address(manager, entry);
            else if (!tpool__is_living(pool)) tpool__retire_entry(manager, entry);
            bool retired = entry->retired;
            tpool__let_go(manager, entry);
            if (retired && !tpool__end_retired(manager)) return TPOOL_BROKEN;
        }
    }
    tpool__manager_leave(manager);
    return status;
}

/* True: the caller is in a task or callback of one of the pools: of those without a user, or of all. */
static bool tpool__is_within_any(tpool_manager *manager, bool unused_only) {
    TPOOL_ASSERT(tpool__held(&manager->lock));
    for (tpool__managed *entry = manager->oldest; entry; entry = entry->newer)
        if (!(unused_only && entry->users) && !entry->ending && tpool__within(entry->pool)) return true;
    return false;
}

TPOOL_API tpool_status tpool_manager_clear(tpool_manager *manager) {
    manager = tpool__manager_or_global(manager);
    if (!manager) return TPOOL_OK;
    if (tpool__is_foreign(manager)) return TPOOL_BROKEN;
    tpool__manager_enter(manager);
    bool within = tpool__is_within_any(manager, true);
    if (!within && !tpool__evict(manager, TPOOL__CLEARED)) return TPOOL_BROKEN;
    tpool__manager_leave(manager);
    return within ? TPOOL_DEADLOCK : TPOOL_OK;
}

/* The steps of a shutdown, which is what finishes the work of a pool at exit too. No pool stays paused once the first
 * is drained, since the tasks of one may wait for those of another. */
static tpool_status tpool__close_to_others(tpool *pool) {
    tpool__exempt_from_exit(pool);
    tpool__set_flags(pool, TPOOL__CLOSING, 0);
    tpool__wake_room_and_drainers(pool);
    (void)tpool_resume(pool); /* the drain says why it fails, if it does */
    return TPOOL_OK;
}
static tpool_status tpool__cancel_waiting(tpool *pool) {
    tpool__exempt_from_exit(pool);
    return tpool_shutdown(pool, TPOOL_CANCEL_PENDING);
}
static tpool_status tpool__finish_work(tpool *pool) {
    tpool__exempt_from_exit(pool);
    return tpool_drain(pool, TPOOL_FOREVER);
}
static tpool_status tpool__end_workers(tpool *pool) {
    tpool__exempt_from_exit(pool);
    tpool_status status = tpool_shutdown(pool, TPOOL_WAIT);
    return status == TPOOL_OK ? tpool_drain(pool, TPOOL_FOREVER) : status; /* for callbacks that other threads run */
}

/* Calls `step` for each pool, without the lock, and sets *all to its first status that is not TPOOL_OK. False: as
 * tpool__step_on. */
static bool tpool__each(tpool_manager *manager, tpool_status (*step)(tpool *pool), bool retires, tpool_status *all) {
    TPOOL_ASSERT(tpool__held(&manager->lock));
    for (tpool__managed *entry = tpool__hold_next(manager, NULL); entry; entry = tpool__hold_next(manager, entry)) {
        tpool_status status;
        if (!tpool__step_on(entry, step, &status)) return false;
        if (*all == TPOOL_OK) *all = status;
        if (retires && !entry->retired) tpool__retire_entry(manager, entry);
    }
    return tpool__end_retired(manager);
}
static uint64_t tpool__submitted_to_all(tpool_manager *manager) {
    TPOOL_ASSERT(tpool__held(&manager->lock));
    uint64_t submitted = 0;
    tpool_stats stats;
    for (tpool__managed *entry = manager->oldest; entry; entry = entry->newer)
        if (!entry->ending && tpool_get_stats(entry->pool, &stats) == TPOOL_OK) submitted += stats.submitted;
    return submitted;
}

/* The thread has ended in a shutdown, which another call must finish. */
static void tpool__manager_shutdown_left(void *of) {
    tpool_manager *manager = of;
    tpool__manager_enter(manager);
    manager->shutdowns--;
    tpool__manager_leave(manager);
}
/* Each step is done for every pool before the next step begins. False: as tpool__step_on. */
static bool tpool__shut_all(tpool_manager *manager, bool force, tpool_status *status) {
    TPOOL_ASSERT(tpool__held(&manager->lock));
    if (!tpool__each(manager, force ? tpool__cancel_waiting : tpool__close_to_others, false, status)) return false;
    uint64_t before = 0, after = force ? 0 : tpool__submitted_to_all(manager);
    while (!force && *status == TPOOL_OK && after != before) {
        before = after; /* tasks of one pool may submit to a drained one, so repeat until nothing is added */
        if (!tpool__each(manager, tpool__finish_work, false, status)) return false;
        after = tpool__submitted_to_all(manager);
    }
    tpool_status ended = TPOOL_OK;
    if (!tpool__each(manager, tpool__end_workers, true, &ended)) return false;
    if (*status == TPOOL_OK) *status = ended;
    return true;
}
static tpool_status tpool__manager_shutdown(tpool_manager *manager, bool force, bool comes_back) {
    tpool_status status = TPOOL_DEADLOCK;
    tpool__manager_enter(manager);
    if (!tpool__is_within_any(manager, false)) {
        tpool__thread *self = tpool__self();
        status = TPOOL_OK;
        manager->shut = true;
        /* once no shutdown is under way; another kind of shutdown after that is a use of its own */
        manager->comes_back = comes_back || (manager->shutdowns > 0 && manager->comes_back);
        manager->shutdowns++;
        tpool__context *call = tpool__call_push(self, tpool__manager_shutdown_left, manager);
        bool here = tpool__shut_all(manager, force, &status);
        if (!here || !tpool__context_pop(self, call)) return TPOOL_BROKEN;
        manager->shutdowns--;
    }
    tpool__manager_leave(manager);
    return status;
}

TPOOL_API tpool_status tpool_manager_shutdown(tpool_manager *manager, bool force) {
    manager = tpool__manager_or_global(manager);
    if (!manager) return TPOOL_NO_MEMORY;
    return tpool__is_foreign(manager) ? TPOOL_BROKEN : tpool__manager_shutdown(manager, force, false);
}

TPOOL_API tpool_status tpool_manager_global_shutdown(void) {
    tpool_manager *manager = tpool__load_acquire(&tpool__global_manager); /* P12 */
    return manager ? tpool__manager_shutdown(manager, false, true) : TPOOL_OK;
}

TPOOL_API void tpool_manager_destroy(tpool_manager *manager) {
    if (!manager || tpool__is_foreign(manager)) return;
    bool global = manager == tpool__load_acquire(&tpool__global_manager); /* P12 */
    tpool_status status = tpool__manager_shutdown(manager, false, global);
    if (status == TPOOL_DEADLOCK || global) return;
    if (status != TPOOL_OK && !tpool__is_foreign(manager)) (void)tpool__manager_shutdown(manager, true, false);
    if (tpool__is_foreign(manager)) return; /* forked there: this is the child */
    tpool__manager_enter(manager);
    manager->destroyed = true;
    tpool__manager_leave(manager);
}

TPOOL_API tpool_status tpool_manager_get_stats(tpool_manager *manager, tpool_manager_stats *stats) {
    if (!stats) return TPOOL_INVALID;
    memset(stats, 0, sizeof *stats);
    manager = tpool__manager_or_global(manager);
    if (!manager) return TPOOL_OK;
    if (tpool__is_foreign(manager)) return TPOOL_BROKEN;
    tpool__manager_enter(manager);
    (void)tpool__is_shut(manager); /* this is a use: a global manager may come back */
    for (tpool__managed *entry = manager->oldest; entry; entry = entry->newer) {
        if (entry->ending) continue;
        stats->pools++;
        stats->in_use += entry->users > 0;
    }
    stats->idle = stats->pools - stats->in_use;
    stats->created = manager->created;
    stats->reused = manager->reused;
    stats->evicted = manager->evicted;
    stats->replaced = manager->replaced;
    tpool__manager_leave(manager);
    return TPOOL_OK;
}

TPOOL_API tpool_status tpool_with_pool(tpool_manager *manager, int workers, tpool_kind kind,
                                       tpool_status (*body)(tpool *pool, void *context), void *context) {
    if (!body) return TPOOL_INVALID;
    manager = tpool__manager_or_global(manager);
    if (!manager) return TPOOL_NO_MEMORY;
    tpool *pool = NULL;
    tpool_status status = tpool_manager_get(manager, workers, kind, 0, &pool);
    if (status != TPOOL_OK) return status;
    tpool__thread *self = tpool__self();
    tpool__context *call = tpool__call_push(self, tpool__loan_left, pool); /* releases it if body ends the thread */
    status = body(pool, context);
    (void)tpool__context_pop(self, call);
    (void)tpool_manager_release(manager, pool);
    return status;
}

/* ====================================================================================================================
 *  >>resources-implementation
 *
 *  Under the lock, a put hands its resource to the caller that has waited longest. So no later caller can get it first,
 *  and a caller whose time passes meanwhile finds that it has one. No caller waits while a resource is free.
 * ================================================================================================================= */
typedef struct tpool__resource {
    void *resource;
    bool out;
} tpool__resource;

struct tpool_resources {
    tpool__due due;        /* for tpool__resources_free_now */
    tpool__lock_word lock; /* guards what follows */
    bool destroyed;        /* the last of the gets that wait frees the object */
    size_t gets;           /* that wait: between two pieces of its wait a get is in no line */
    uintptr_t generation;
    size_t count, made, free_count;
    tpool__waiter *first, **end; /* the line */
    void (*destroy)(void *resource, void *context);
    void *context;
    void **free;           /* a stack: the one used last is the warmest */
    tpool__resource all[]; /* sorted by address */
};

static int tpool__by_address(const void *left, const void *right) {
    uintptr_t a = (uintptr_t)((const tpool__resource *)left)->resource;
    uintptr_t b = (uintptr_t)((const tpool__resource *)right)->resource;
    return (a > b) - (a < b);
}
/* Finds an entry of the resource that is out, or one that is not: make may have returned an address more than once. */
static tpool__resource *tpool__find_resource(tpool_resources *resources, const void *resource, bool out) {
    size_t from = 0, to = resources->count;
    while (from < to) {
        size_t middle = from + (to - from) / 2;
        if ((uintptr_t)resources->all[middle].resource < (uintptr_t)resource) from = middle + 1;
        else to = middle;
    }
    for (; from < resources->count && resources->all[from].resource == resource; from++)
        if (resources->all[from].out == out) return &resources->all[from];
    return NULL;
}

static void tpool__resources_free(void *of) { tpool__run_or_list(tpool__self(), &((tpool_resources *)of)->due); }
static void tpool__resources_free_now(tpool__thread *self, tpool__due *due) {
    tpool_resources *resources = (tpool_resources *)(void *)due;
    while (resources->made > 0) {
        void *resource = resources->all[--resources->made].resource; /* before the call: destroy may end the thread */
        if (!resources->destroy) continue;
        self->freeing++;
        tpool__context *context = tpool__context_push(self, TPOOL__IN_CALLBACK, NULL);
        tpool__context_guard(self, context, tpool__resources_free, resources);
        resources->destroy(resource, resources->context);
        if (!tpool__context_pop(self, context)) return; /* it forked, and this is the child */
        self->freeing--;
    }
    tpool__lock(&resources->lock);
    resources->destroyed = true;
    bool last = resources->gets == 0;
    tpool__unlock(&resources->lock);
    if (last) TPOOL_FREE(resources);
}

TPOOL_API tpool_status tpool_resources_create(tpool_resources **resources, size_t count, void *(*make)(void *context),
                                              void (*destroy)(void *resource, void *context), void *context) {
    if (!resources) return TPOOL_INVALID;
    *resources = NULL;
    if (!make && count) return TPOOL_INVALID;
    if (count > SIZE_MAX / 2 / (sizeof(tpool__resource) + sizeof(void *)) - sizeof(tpool_resources) ||
        !tpool__process_ready())
        return TPOOL_NO_MEMORY;
    size_t size = sizeof(tpool_resources) + count * (sizeof(tpool__resource) + sizeof(void *));
    tpool_resources *fresh = tpool__alloc(size);
    if (!fresh) return TPOOL_NO_MEMORY;
    fresh->due.call = tpool__resources_free_now;
    fresh->generation = tpool__generation();
    fresh->count = count;
    fresh->end = &fresh->first;
    fresh->destroy = destroy;
    fresh->context = context;
    fresh->free = (void **)(void *)(fresh->all + count);
    tpool__thread *self = tpool__self();
    tpool__context *call = tpool__call_push(self, tpool__resources_free, fresh);
    while (fresh->made < count && (fresh->all[fresh->made].resource = make(context)) != NULL) fresh->made++;
    (void)tpool__context_pop(self, call);
    if (fresh->made < count) {
        tpool__resources_free(fresh);
        return TPOOL_BROKEN;
    }
    for (size_t i = count; i > 0; i--) /* the one made first comes on top */
        fresh->free[fresh->free_count++] = fresh->all[i - 1].resource;
    qsort(fresh->all, count, sizeof *fresh->all, tpool__by_address);
    *resources = fresh;
    return TPOOL_OK;
}

/* Returns a free resource, or NULL. It overtakes no waiter: callers wait only while none is free. Under the lock. */
static void *tpool__take_resource(tpool_resources *resources) {
    TPOOL_ASSERT(tpool__held(&resources->lock));
    if (resources->free_count == 0) return NULL;
    void *resource = resources->free[--resources->free_count];
    tpool__find_resource(resources, resource, false)->out = true;
    return resource;
}

/* A caller in line for a resource. */
typedef struct tpool__resource_waiter {
    tpool__waiter waiter;
    tpool_resources *resources;
    void *resource; /* handed over */
} tpool__resource_waiter;

static bool tpool__resource_enter(tpool__waiter *waiter) {
    tpool__resource_waiter *claimant = (tpool__resource_waiter *)(void *)waiter;
    tpool_resources *resources = claimant->resources;
    tpool__lock(&resources->lock);
    void *taken = tpool__take_resource(resources); /* in line, a put may write `resource` after the unlock */
    claimant->resource = taken;
    if (!taken) tpool__line_join(&resources->end, waiter);
    tpool__unlock(&resources->lock);
    return taken && tpool__wait_over(waiter, TPOOL_OK);
}
static bool tpool__resource_look(tpool__waiter *waiter) {
    const tpool__resource_waiter *claimant = (tpool__resource_waiter *)(void *)waiter;
    tpool__lock(&claimant->resources->lock);
    bool has = claimant->resource != NULL;
    tpool__unlock(&claimant->resources->lock);
    return has;
}
static void tpool__resource_leave(tpool__waiter *waiter) {
    tpool__resource_waiter *claimant = (tpool__resource_waiter *)(void *)waiter;
    tpool_resources *resources = claimant->resources;
    tpool__lock(&resources->lock);
    if (claimant->resource) waiter->status = TPOOL_OK;
    else tpool__line_leave(&resources->first, &resources->end, waiter);
    tpool__unlock(&resources->lock);
}
static const tpool__wait_kind tpool__wait_for_resource = {
    NULL, tpool__resource_enter, tpool__resource_look, tpool__resource_leave, "a resource", true
};

/* A get that waits has returned, or has ended its thread. */
static void tpool__get_left(void *of) {
    tpool_resources *resources = (tpool_resources *)of;
    tpool__lock(&resources->lock);
    bool last = --resources->gets == 0 && resources->destroyed;
    tpool__unlock(&resources->lock);
    if (last) TPOOL_FREE(resources);
}

TPOOL_API tpool_status tpool_resources_get(tpool_resources *resources, int64_t timeout_ns, void **resource) {
    if (resource) *resource = NULL;
    if (!resources || !resource) return TPOOL_INVALID;
    if (tpool__is_foreign(resources)) return TPOOL_BROKEN;
    tpool__lock(&resources->lock);
    *resource = tpool__take_resource(resources);
    bool waits = !*resource && timeout_ns > 0;
    resources->gets += waits;
    tpool__unlock(&resources->lock);
    if (!waits) return *resource ? TPOOL_OK : TPOOL_TIMEOUT; /* without a wait nothing that is listed runs */
    tpool__thread *self = tpool__self();
    tpool__context *call = tpool__call_push(self, tpool__get_left, resources);
    tpool__resource_waiter claimant = { .waiter = { .can_refuse = true }, .resources = resources };
    tpool_status status = tpool__wait(&claimant.waiter, &tpool__wait_for_resource, tpool__deadline(timeout_ns));
    if (!tpool__context_pop(self, call)) return TPOOL_BROKEN; /* it forked, and this is the child */
    tpool__get_left(resources);
    *resource = claimant.resource;
    return status;
}

TPOOL_API tpool_status tpool_resources_put(tpool_resources *resources, void *resource) {
    if (!resources || !resource) return TPOOL_INVALID;
    if (tpool__is_foreign(resources)) return TPOOL_BROKEN;
    tpool__lock(&resources->lock);
    tpool__resource *found = tpool__find_resource(resources, resource, true);
    tpool__waiter *claimant = resources->first;
    tpool__parker *asleep = NULL;
    if (found && claimant) { /* it stays out, and goes to the first in line */
        tpool__line_leave(&resources->first, &resources->end, claimant);
        ((tpool__resource_waiter *)(void *)claimant)->resource = resource;
        asleep = tpool__unpark_begin(&claimant->parker); /* under the lock: after it the waiter may be gone */
    } else if (found) {
        found->out = false;
        resources->free[resources->free_count++] = resource;
    }
    tpool__unlock(&resources->lock);
    tpool__unpark_end(asleep);
    return found ? TPOOL_OK : TPOOL_INVALID;
}

TPOOL_API tpool_status tpool_resources_destroy(tpool_resources *resources) {
    if (!resources) return TPOOL_OK;
    if (tpool__is_foreign(resources)) return TPOOL_BROKEN;
    tpool__lock(&resources->lock);
    bool whole = resources->free_count == resources->count;
    if (whole) resources->free_count = 0; /* a get between two pieces of its wait takes none that is being destroyed */
    tpool__unlock(&resources->lock);
    if (!whole) return TPOOL_INVALID_STATE;
    tpool__resources_free(resources);
    return TPOOL_OK;
}

/* ====================================================================================================================
 *  >>channels-implementation
 *
 *  A ring with two ends. Senders work at `in`, under its lock: a sender writes the item's bytes beyond `in.at`, then
 *  one store of `in.at` makes them an item. Receivers work at `out`, under its lock. An end reads the position of the
 *  other end only when what it has seen of it does not suffice, so that one sender and one receiver seldom meet at a
 *  cache line (P18).
 *
 *  Callers wait in line at the end where the awaited thing comes, under that end's lock: receivers at `in`, where items
 *  come, senders at `out`, where places become free.
 *      Receivers are in line only while the ring is empty. A sender that finds one gives its item to the first.
 *      Senders are in line only while the ring is full. A receiver that finds one puts the item of the first into the
 *      ring as it takes its own out, under both locks, so that no later sender comes between.
 *  Both hold because a caller joins its line under the lock without which the ring cannot cease to be empty, or full.
 *  So no later caller overtakes one in line. Lock order: `out`, then `in`. `closed` changes under both, so that either
 *  shows it.
 *
 *  Nothing in the ring is a pointer, and no thread repairs what another began: in memory that processes share the ring
 *  needs only other locks, whose owner is a number, and another way to wake.
 * ================================================================================================================= */
typedef struct tpool__channel_end {
    alignas(2 * TPOOL__CACHE_LINE) tpool__lock_word lock; /* guards what follows; two lines, since CPUs fetch pairs */
    tpool__u32 failed_spins;                              /* of those that wait in this line: see >>spin */
    tpool__word at;               /* a number below 2 * capacity: the difference of both ends tells full from empty */
    uintptr_t seen;               /* the other end's position when this end last looked */
    bool closed;                  /* of both ends alike */
    tpool__waiter *first, **last; /* the line */
} tpool__channel_end;

struct tpool_channel {
    tpool__due due; /* for tpool__channel_free_now */
    uintptr_t generation;
    size_t capacity, item_size;
    bool of_pointers;
    void (*item_free)(void *item);
    tpool__channel_end in, out;
    alignas(max_align_t) unsigned char ring[];
};

static inline size_t tpool__channel_distance(const tpool_channel *channel, uintptr_t from, uintptr_t to) {
    return to >= from ? to - from : to + 2 * channel->capacity - from;
}
static inline uintptr_t tpool__channel_after(const tpool_channel *channel, uintptr_t at) {
    return at + 1 < 2 * channel->capacity ? at + 1 : 0;
}
static inline void *tpool__channel_slot(tpool_channel *channel, uintptr_t at) {
    return channel->ring + (at < channel->capacity ? at : at - channel->capacity) * channel->item_size;
}
static inline void tpool__channel_copy(const tpool_channel *channel, void *to, const void *from) {
    if (channel->item_size == sizeof(void *)) memcpy(to, from, sizeof(void *)); /* one move */
    else memcpy(to, from, channel->item_size);
}

/* A caller in line. */
typedef enum tpool__channel_fate { TPOOL__IN_LINE, TPOOL__SERVED, TPOOL__TURNED_AWAY } tpool__channel_fate;
typedef struct tpool__channel_waiter {
    tpool__waiter waiter;
    tpool_channel *channel;
    tpool__channel_end *end;  /* where it stands in line: &channel->in, then it receives, or &channel->out */
    tpool__channel_fate fate; /* under the lock of that end, as what `item` points to */
    void *item;
} tpool__channel_waiter;

/* Takes the first one out of the line. Its `item` is copied; it may be gone after the unlock. */
static tpool__parker *tpool__channel_serve(tpool__channel_end *end) {
    TPOOL_ASSERT(tpool__held(&end->lock));
    tpool__waiter *waiter = end->first;
    tpool__line_leave(&end->first, &end->last, waiter);
    ((tpool__channel_waiter *)(void *)waiter)->fate = TPOOL__SERVED;
    return tpool__unpark_begin(&waiter->parker);
}
static inline void *tpool__channel_first_item(const tpool__channel_end *end) {
    return ((tpool__channel_waiter *)(void *)end->first)->item;
}

/* TPOOL_OK, TPOOL_SHUTDOWN; TPOOL_TIMEOUT: full. */
static tpool_status tpool__channel_try_send(tpool_channel *channel, const void *item) {
    tpool__channel_end *in = &channel->in;
    tpool_status status = TPOOL_OK;
    tpool__parker *asleep = NULL;
    tpool__lock(&in->lock);
    uintptr_t at = tpool__load_relaxed(&in->at); /* relaxed: under the lock */
    if (!TPOOL__LIKELY(!in->closed)) {
        status = TPOOL_SHUTDOWN;
    } else if (!TPOOL__LIKELY(!in->first)) {
        tpool__channel_copy(channel, tpool__channel_first_item(in), item);
        asleep = tpool__channel_serve(in);
    } else {
        if (tpool__channel_distance(channel, in->seen, at) == channel->capacity)
            in->seen = tpool__load_acquire(&channel->out.at); /* P18 */
        if (tpool__channel_distance(channel, in->seen, at) == channel->capacity) {
            status = TPOOL_TIMEOUT;
        } else {
            tpool__channel_copy(channel, tpool__channel_slot(channel, at), item);
            tpool__store_release(&in->at, tpool__channel_after(channel, at)); /* P18 */
        }
    }
    tpool__unlock(&in->lock);
    tpool__unpark_end(asleep);
    return status;
}

/* TPOOL_OK, TPOOL_END; TPOOL_TIMEOUT: empty. */
static tpool_status tpool__channel_try_receive(tpool_channel *channel, void *item) {
    tpool__channel_end *out = &channel->out, *in = &channel->in;
    tpool_status status = TPOOL_OK;
    tpool__parker *asleep = NULL;
    tpool__lock(&out->lock);
    uintptr_t at = tpool__load_relaxed(&out->at);                  /* relaxed: under the lock */
    if (at == out->seen) out->seen = tpool__load_acquire(&in->at); /* P18; once it is closed, no item comes later */
    if (at == out->seen) {
        status = out->closed ? TPOOL_END : TPOOL_TIMEOUT;
    } else {
        tpool__channel_copy(channel, item, tpool__channel_slot(channel, at));
        if (!TPOOL__LIKELY(!out->first)) { /* the ring is full: the first in line gets the place at once */
            tpool__lock(&in->lock);
            uintptr_t end = tpool__load_relaxed(&in->at); /* relaxed: under its lock */
            tpool__channel_copy(channel, tpool__channel_slot(channel, end), tpool__channel_first_item(out));
            tpool__store_release(&out->at, tpool__channel_after(channel, at)); /* P18 */
            tpool__store_release(&in->at, tpool__channel_after(channel, end)); /* P18 */
            in->seen = tpool__channel_after(channel, at); /* else `in.at` gets more than a ring ahead of it */
            tpool__unlock(&in->lock);
            asleep = tpool__channel_serve(out);
        } else {
            tpool__store_release(&out->at, tpool__channel_after(channel, at)); /* P18 */
        }
    }
    tpool__unlock(&out->lock);
    tpool__unpark_end(asleep);
    return status;
}
static inline tpool_status tpool__channel_try(tpool__channel_waiter *caller) {
    tpool_channel *channel = caller->channel;
    return caller->end == &channel->in ? tpool__channel_try_receive(channel, caller->item)
                                       : tpool__channel_try_send(channel, caller->item);
}
/* Whether the ring does not let the caller go on. Exact if so and the caller's end is locked; else a hint: the other
 * end may have moved. */
static inline bool tpool__channel_is_stuck(const tpool__channel_waiter *caller) {
    tpool_channel *channel = caller->channel;
    /* relaxed: what a try reads then, it acquires */
    uintptr_t from = tpool__load_relaxed(&channel->out.at), to = tpool__load_relaxed(&channel->in.at);
    return tpool__channel_distance(channel, from, to) == (caller->end == &channel->in ? 0 : channel->capacity);
}
static inline tpool_status tpool__channel_closed(const tpool__channel_waiter *caller) {
    return caller->end == &caller->channel->in ? TPOOL_END : TPOOL_SHUTDOWN;
}

static bool tpool__channel_enter(tpool__waiter *waiter) {
    tpool__channel_waiter *caller = (tpool__channel_waiter *)(void *)waiter;
    tpool__channel_end *end = caller->end;
    for (;;) {
        tpool__lock(&end->lock);
        bool stuck = tpool__channel_is_stuck(caller), joins = stuck && !end->closed;
        if (joins) {
            caller->fate = TPOOL__IN_LINE;
            tpool__line_join(&end->last, waiter);
        }
        tpool__unlock(&end->lock);
        if (joins) return false;
        tpool_status status = tpool__channel_try(caller);
        if (status != TPOOL_TIMEOUT) return tpool__wait_over(waiter, status);
    }
}
static bool tpool__channel_look(tpool__waiter *waiter) {
    tpool__channel_waiter *caller = (tpool__channel_waiter *)(void *)waiter;
    tpool__lock(&caller->end->lock);
    tpool__channel_fate fate = caller->fate;
    tpool__unlock(&caller->end->lock);
    return fate != TPOOL__IN_LINE;
}
static void tpool__channel_leave(tpool__waiter *waiter) {
    tpool__channel_waiter *caller = (tpool__channel_waiter *)(void *)waiter;
    tpool__channel_end *end = caller->end;
    tpool__lock(&end->lock);
    if (caller->fate == TPOOL__SERVED) waiter->status = TPOOL_OK;
    else if (caller->fate == TPOOL__TURNED_AWAY) waiter->status = tpool__channel_closed(caller);
    else tpool__line_leave(&end->first, &end->last, waiter);
    tpool__unlock(&end->lock);
}
static const tpool__wait_kind tpool__wait_for_channel = {
    NULL, tpool__channel_enter, tpool__channel_look, tpool__channel_leave, "the other end of a channel", true
};

/* Spins for a while before the caller joins the line. */
static tpool_status tpool__channel_spin(tpool__channel_waiter *caller, int64_t deadline) {
    uint32_t failed = tpool__load_relaxed(&caller->end->failed_spins); /* relaxed, here and below: a hint */
    tpool_status status = TPOOL_TIMEOUT;
    tpool__spin spin = tpool__spin_begin(&failed, TPOOL__FREE_TIME, deadline);
    while (status == TPOOL_TIMEOUT && tpool__spin_again(&spin))
        if (!tpool__channel_is_stuck(caller)) status = tpool__channel_try(caller);
    tpool__spin_end(&spin, status != TPOOL_TIMEOUT);
    tpool__store_relaxed(&caller->end->failed_spins, failed);
    return status;
}

/* The first try has found the channel full, or empty. */
static TPOOL__NOINLINE tpool_status tpool__channel_wait(tpool_channel *channel, tpool__channel_end *end, void *item,
                                                        int64_t timeout_ns) {
    tpool__channel_waiter caller = {
        .waiter = { .can_refuse = true, .can_stop = true }, .channel = channel, .end = end, .item = item
    };
    const tpool__thread *self = tpool__self();
    if (self->context && tpool_stop_requested()) return TPOOL_CANCELLED;
    if (timeout_ns <= 0) return TPOOL_TIMEOUT;
    int64_t deadline = tpool__deadline(timeout_ns);
    if (!self->listed) {
        tpool_status status = tpool__channel_spin(&caller, deadline);
        if (status != TPOOL_TIMEOUT) return status;
    }
    return tpool__wait(&caller.waiter, &tpool__wait_for_channel, deadline);
}

TPOOL_API tpool_status tpool_channel_send(tpool_channel *channel, const void *item, int64_t timeout_ns) {
    if (!channel || (!item && !channel->of_pointers)) return TPOOL_INVALID;
    if (tpool__is_foreign(channel)) return TPOOL_BROKEN;
    const void *pointer = item;
    if (channel->of_pointers) item = &pointer;
    tpool_status status = tpool__channel_try_send(channel, item);
    if (TPOOL__LIKELY(status != TPOOL_TIMEOUT)) return status;
    return tpool__channel_wait(channel, &channel->out, (void *)(uintptr_t)item, timeout_ns); /* only read */
}

TPOOL_API tpool_status tpool_channel_receive(tpool_channel *channel, void *item, int64_t timeout_ns) {
    if (!channel || !item) return TPOOL_INVALID;
    if (channel->of_pointers) memset(item, 0, sizeof(void *));
    if (tpool__is_foreign(channel)) return TPOOL_BROKEN;
    tpool_status status = tpool__channel_try_receive(channel, item);
    if (TPOOL__LIKELY(status != TPOOL_TIMEOUT)) return status;
    return tpool__channel_wait(channel, &channel->in, item, timeout_ns);
}

/* Turns away all in line at this end. The last sleeper is still to be woken. */
static tpool__parker *tpool__channel_close_end(tpool__channel_end *end, tpool__parker *asleep) {
    TPOOL_ASSERT(tpool__held(&end->lock));
    end->closed = true;
    for (tpool__waiter *waiter; (waiter = end->first) != NULL;) {
        tpool__line_leave(&end->first, &end->last, waiter);
        ((tpool__channel_waiter *)(void *)waiter)->fate = TPOOL__TURNED_AWAY;
        asleep = tpool__unpark_begin_another(asleep, &waiter->parker);
    }
    return asleep;
}
TPOOL_API tpool_status tpool_channel_close(tpool_channel *channel) {
    if (!channel) return TPOOL_INVALID;
    if (tpool__is_foreign(channel)) return TPOOL_BROKEN;
    tpool__lock(&channel->out.lock);
    tpool__lock(&channel->in.lock);
    tpool__parker *asleep = tpool__channel_close_end(&channel->in, NULL);
    asleep = tpool__channel_close_end(&channel->out, asleep);
    tpool__unlock(&channel->in.lock);
    tpool__unlock(&channel->out.lock);
    tpool__unpark_end(asleep);
    return TPOOL_OK;
}

TPOOL_API size_t tpool_channel_count(tpool_channel *channel) {
    if (!channel || tpool__is_foreign(channel)) return 0;
    tpool__lock(&channel->in.lock);                         /* while it is held `out` moves at most up to `in` */
    uintptr_t to = tpool__load_relaxed(&channel->in.at);    /* relaxed: under its lock */
    uintptr_t from = tpool__load_relaxed(&channel->out.at); /* relaxed: a number; no item is read */
    tpool__unlock(&channel->in.lock);
    return tpool__channel_distance(channel, from, to);
}

static void tpool__channel_free(void *of) { tpool__run_or_list(tpool__self(), &((tpool_channel *)of)->due); }
static void tpool__channel_free_now(tpool__thread *self, tpool__due *due) {
    tpool_channel *channel = (tpool_channel *)(void *)due;
    uintptr_t at =
        tpool__load_relaxed(&channel->out.at); /* relaxed, here and below: no other thread uses it any more */
    while (at != tpool__load_relaxed(&channel->in.at)) {
        void *item = tpool__channel_slot(channel, at);
        if (channel->of_pointers) memcpy(&item, item, sizeof item);
        at = tpool__channel_after(channel, at);
        tpool__store_relaxed(&channel->out.at, at); /* before the call: item_free may end the thread */
        if (!channel->item_free) continue;
        self->freeing++;
        tpool__context *context = tpool__context_push(self, TPOOL__IN_CALLBACK, NULL);
        tpool__context_guard(self, context, tpool__channel_free, channel);
        channel->item_free(item);
        if (!tpool__context_pop(self, context)) return; /* it forked, and this is the child */
        self->freeing--;
    }
    tpool__free_aligned(channel);
}

TPOOL_API tpool_status tpool_channel_create(tpool_channel **channel, const tpool_channel_config *config) {
    if (!channel) return TPOOL_INVALID;
    *channel = NULL;
    if (config && config->shared_with) return tpool__is_foreign(config->shared_with) ? TPOOL_BROKEN : TPOOL_INVALID;
    size_t capacity = config && config->capacity ? config->capacity : 1;
    size_t item_size = config && config->item_size ? config->item_size : sizeof(void *);
    if (capacity > SIZE_MAX / 4 || capacity > (SIZE_MAX / 4 - sizeof(tpool_channel)) / item_size ||
        !tpool__process_ready())
        return TPOOL_NO_MEMORY;
    tpool_channel *fresh = tpool__alloc_aligned(sizeof *fresh + capacity * item_size, alignof(tpool_channel));
    if (!fresh) return TPOOL_NO_MEMORY;
    fresh->due.call = tpool__channel_free_now;
    fresh->generation = tpool__generation();
    fresh->capacity = capacity;
    fresh->item_size = item_size;
    fresh->of_pointers = !config || !config->item_size;
    fresh->item_free = config ? config->item_free : NULL;
    fresh->in.last = &fresh->in.first;
    fresh->out.last = &fresh->out.first;
    *channel = fresh;
    return TPOOL_OK;
}

TPOOL_API tpool_status tpool_channel_destroy(tpool_channel *channel) {
    if (!channel) return TPOOL_OK;
    if (tpool__is_foreign(channel)) return TPOOL_BROKEN;
    tpool__lock(&channel->out.lock);
    tpool__lock(&channel->in.lock);
    bool awaited = channel->in.first || channel->out.first;
    tpool__unlock(&channel->in.lock);
    tpool__unlock(&channel->out.lock);
    if (awaited) return TPOOL_INVALID_STATE;
    tpool__channel_free(channel);
    return TPOOL_OK;
}

/* ====================================================================================================================
 *  >>observation-implementation  tpool_describe, and traces
 *
 *  A reader that must work while every worker hangs takes only locks that no code of the program holds up: pool->lock,
 *  and the lanes' spinlocks. Under pool->lock no worker's thread ends, so its contexts may be read. They change
 *  meanwhile; so each word that is read there says something by itself: a name, or a function without a name, is what
 *  ran there at that moment. The task itself is never read, unless the worker is blocked in a wait for it (then it has
 *  a reference, and leaves the wait only under pool->lock) or the task is in a lane (under its spinlock).
 * ================================================================================================================= */
/* A line of text. What does not fit is cut. */
typedef struct tpool__text {
    size_t used;
    char bytes[2000];
} tpool__text;
static void tpool__put_byte(tpool__text *text, char byte) {
    if (text->used < sizeof text->bytes - 1) text->bytes[text->used++] = byte; /* one stays for the end of the line */
}
static inline void tpool__put(tpool__text *text, const char *string) {
    size_t length = strlen(string), room = sizeof text->bytes - 1 - text->used;
    if (length > room) length = room;
    memcpy(text->bytes + text->used, string, length);
    text->used += length;
}
static inline void tpool__put_digits(tpool__text *text, uint64_t number, unsigned base, unsigned least) {
    char digits[24];
    unsigned count = 0;
    for (; number > 0 || count < least; number /= base) digits[count++] = "0123456789abcdef"[number % base];
    while (count > 0) tpool__put_byte(text, digits[--count]);
}
static void tpool__put_number(tpool__text *text, uint64_t number) { tpool__put_digits(text, number, 10, 1); }
/* A name may hold anything. It may not end the line or its quotes, and leaves room for what else the line says: a long
 * one is cut, at the end of a character of UTF-8. */
#define TPOOL__SHOWN_BYTES 60
#define TPOOL__TRACED_BYTES 120 /* in a trace, where one may take six */
static void tpool__put_plain(tpool__text *text, const char *name) {
    for (int used = 0;
         *name && (used < TPOOL__SHOWN_BYTES || (used < TPOOL__SHOWN_BYTES + 3 && (*name & 0xc0) == 0x80));
         name++, used++)
        tpool__put_byte(text, (char)((unsigned char)*name < ' ' || *name == 127 || *name == '"' ? '?' : *name));
    if (*name) tpool__put(text, "...");
}
static void tpool__put_name(tpool__text *text, const char *name) {
    tpool__put_byte(text, '"');
    tpool__put_plain(text, name);
    tpool__put_byte(text, '"');
}
static void tpool__put_time(tpool__text *text, int64_t ns) {
    bool long_one = ns >= TPOOL_SEC(1);
    uint64_t thousandths = (uint64_t)(ns > 0 ? ns : 0) / (long_one ? 1000000u : 1000u);
    tpool__put(text, " for ");
    tpool__put_number(text, thousandths / 1000);
    tpool__put_byte(text, '.');
    tpool__put_digits(text, thousandths % 1000, 10, 3);
    tpool__put(text, long_one ? " s" : " ms");
}
static void tpool__put_worker(tpool__text *text, const tpool *pool, int index) {
    tpool__put_plain(text, pool->name);
    tpool__put_byte(text, '_');
    tpool__put_number(text, (uint64_t)index);
}

/* What a context shows: an item of the line that names what a worker does, from the outside inwards. */
static void tpool__put_context(tpool__text *text, const tpool__context *context, uintptr_t shows, int64_t now) {
    switch (shows) {
    case TPOOL__IN_ITEM + 1: tpool__put(text, "an item"); return;
    case TPOOL__IN_JOB + 1: tpool__put(text, "a forked job"); return;
    case TPOOL__IN_CALLBACK + 1: tpool__put(text, "a callback"); return;
    case TPOOL__IN_SETUP + 1: tpool__put(text, "its initializer or finalizer"); return;
    case TPOOL__IN_TASK + 1: tpool__put(text, "a task"); return; /* which is about to begin */
    default: break;
    }
    /* relaxed: P19 came before */
    const char *name = (const char *)tpool__load_relaxed(&context->name);
    uintptr_t since = tpool__load_relaxed(&context->since);
    tpool__put(text, name ? "task " : "task at 0x");
    if (name) tpool__put_name(text, name);
    else tpool__put_digits(text, shows, 16, 1);
    if (since) tpool__put_time(text, tpool__time_since(since, now));
}
/* The task that a blocked worker waits for. Under pool->lock. */
static void tpool__put_awaited(tpool__text *text, tpool *pool, tpool_future *future) {
    TPOOL_ASSERT(tpool__held(&pool->lock));
    const char *name = tpool__name_of(future);
    uintptr_t phase = tpool__load_relaxed(&future->state) & TPOOL__PHASE; /* relaxed: a hint */
    tpool__put(text, name ? "task " : "a task");
    if (name) tpool__put_name(text, name);
    if (phase == TPOOL__PHASE_PENDING) {
        tpool__put(text, " (queued)");
    } else if (phase == TPOOL__PHASE_RUNNING) {
        const tpool__thread *runner = tpool__load_acquire(&future->runner); /* P7 */
        tpool__worker *worker = tpool__first_worker(pool);
        while (worker && tpool__load_relaxed(&worker->thread) != runner) /* relaxed: only compared */
            worker = tpool__next_worker(worker);
        tpool__put(text, worker && runner ? " (on " : " (elsewhere");
        if (worker && runner) tpool__put_worker(text, pool, worker->index);
        tpool__put_byte(text, ')');
    }
}
/* What one worker does. Under pool->lock. Without a line: it has no thread. */
static void tpool__put_doings(tpool__text *text, tpool *pool, tpool__worker *worker) {
    TPOOL_ASSERT(tpool__held(&pool->lock));
    tpool__thread *thread = tpool__load_acquire(&worker->thread); /* P19 */
    const tpool__waiter *waiter = worker->waiter;
    int64_t now = tpool__clock();
    bool any = false;
    if (!thread) return;
    tpool__put_worker(text, pool, worker->index);
    if ((uintptr_t)worker->index >= tpool__load_relaxed(&pool->max_workers)) /* relaxed: under its lock */
        tpool__put(text, " (spare)");
    tpool__put(text, ": ");
    unsigned i = 0;
    for (; i < TPOOL__CONTEXTS; i++) {
        uintptr_t shows = tpool__load_acquire(&thread->contexts[i].shows); /* P19 */
        if (!shows) break;
        if (shows == TPOOL__IN_CALL + 1) continue;
        if (any) tpool__put(text, ", in it ");
        tpool__put_context(text, &thread->contexts[i], shows, now);
        any = true;
    }
    if (i == TPOOL__CONTEXTS) tpool__put(text, ", in it more");
    if (!any) tpool__put(text, worker->asleep ? "sleeps" : worker->in_setup ? "its initializer" : "between tasks");
    if (!waiter) return;
    tpool__put(text, ", waits for ");
    if (waiter->awaited && tpool__pool_of(waiter->awaited)) tpool__put_awaited(text, pool, waiter->awaited);
    else tpool__put(text, waiter->kind->what);
    if (waiter->since) tpool__put_time(text, now - waiter->since);
}

#define TPOOL__SHOWN_NAMES 8u
#define TPOOL__SHOWN_TASKS 64u /* only so many of the queued tasks are looked at: that is under spinlocks */
typedef struct tpool__queued_names {
    const char *names[TPOOL__SHOWN_NAMES];
    unsigned counts[TPOOL__SHOWN_NAMES];
    unsigned used, unnamed, seen;
} tpool__queued_names;
static bool tpool__name_queued(const tpool__entry *entry, void *of) {
    tpool__queued_names *queued = (tpool__queued_names *)of;
    if (++queued->seen > TPOOL__SHOWN_TASKS) return false;
    if (entry->task && tpool__is_claimed(entry->task)) return true; /* a tombstone */
    /* nothing else of the task: a canceller may be writing to it */
    const char *name = entry->task ? tpool__name_of(entry->task) : NULL;
    unsigned i = 0;
    while (i < queued->used && queued->names[i] != name) i++;
    if (name && i == queued->used && i < TPOOL__SHOWN_NAMES) {
        queued->names[queued->used++] = name;
        queued->counts[i] = 0;
    }
    if (name && i < queued->used) queued->counts[i]++;
    else queued->unnamed += !name;
    return true;
}
static void tpool__put_queued(tpool__text *text, tpool *pool, size_t count) {
    tpool__queued_names queued = { 0 };
    tpool__spin_lock(&pool->inject.lock);
    for (size_t i = 0; i < pool->heap_count; i++) {
        tpool__entry entry = { .task = pool->heap[i].task };
        if (!tpool__name_queued(&entry, &queued)) break;
    }
    tpool__spin_unlock(&pool->inject.lock);
    tpool__lane_walk(pool, &pool->inject, NULL, tpool__name_queued, &queued);
    for (tpool__worker *w = tpool__first_worker(pool); w && queued.seen < TPOOL__SHOWN_TASKS; w = tpool__next_worker(w))
        if (tpool__lane_count(&w->lane) > 0) tpool__lane_walk(pool, &w->lane, w, tpool__name_queued, &queued);
    size_t shown = queued.unnamed;
    tpool__put(text, "queued: ");
    for (unsigned i = 0; i < queued.used; i++) {
        if (i > 0) tpool__put(text, ", ");
        tpool__put_name(text, queued.names[i]);
        tpool__put(text, " x ");
        tpool__put_number(text, queued.counts[i]);
        shown += queued.counts[i];
    }
    if (queued.unnamed > 0) {
        if (queued.used > 0) tpool__put(text, ", ");
        tpool__put_number(text, queued.unnamed);
        tpool__put(text, " without a name");
    }
    if (shown >= count) return;
    if (shown > 0) tpool__put(text, ", ");
    tpool__put_number(text, count - shown);
    tpool__put(text, " more");
}
static void tpool__put_pool(tpool__text *text, tpool *pool, const tpool_stats *stats) {
    uint32_t flags = tpool__flags(pool);
    tpool__put(text, "pool ");
    tpool__put_name(text, pool->name);
    tpool__put(text, ": ");
    tpool__put_number(text, (uint64_t)stats->workers);
    tpool__put(text, " of ");
    tpool__put_number(text, (uint64_t)stats->max_workers);
    tpool__put(text, " workers, ");
    tpool__put_number(text, (uint64_t)stats->idle);
    tpool__put(text, " idle, ");
    tpool__put_number(text, (uint64_t)pool->blocked);
    tpool__put(text, " blocked; ");
    tpool__put_number(text, (uint64_t)stats->queued);
    tpool__put(text, " queued");
    if (flags & TPOOL__PAUSED) tpool__put(text, "; paused");
    if (flags & TPOOL__SHUT) tpool__put(text, "; shut down");
    if (flags & TPOOL__BREAK) tpool__put(text, "; broken");
}
/* Hands a line over, unless it is empty. No lock is held. */
static tpool_status tpool__write_line(const tpool *pool, tpool__text *text, tpool_write write, void *context) {
    TPOOL_ASSERT(tpool__holds_none());
    if (text->used == 0) return TPOOL_OK;
    text->bytes[text->used++] = '\n';
    size_t size = text->used;
    text->used = 0;
    bool more = write(text->bytes, size, context);
    if (tpool__is_foreign(pool)) return TPOOL_BROKEN; /* it forked, and this is the child */
    return more ? TPOOL_OK : TPOOL_FAILED;
}
TPOOL_API tpool_status tpool_describe(tpool *pool, tpool_write write, void *context) {
    if (!pool || !write) return TPOOL_INVALID;
    if (tpool__is_foreign(pool)) return TPOOL_BROKEN;
    tpool_stats stats;
    tpool__text text;
    text.used = 0;
    memset(&stats, 0, sizeof stats);
    tpool__lock(&pool->lock);
    tpool__get_counts(pool, &stats);
    tpool__put_pool(&text, pool, &stats);
    tpool__unlock(&pool->lock);
    tpool_status status = tpool__write_line(pool, &text, write, context);
    /* a walker may stay at a worker that leaves the list (P6) */
    for (tpool__worker *w = tpool__first_worker(pool); w && status == TPOOL_OK; w = tpool__next_worker(w)) {
        tpool__lock(&pool->lock);
        tpool__put_doings(&text, pool, w);
        tpool__unlock(&pool->lock);
        status = tpool__write_line(pool, &text, write, context);
    }
    if (status == TPOOL_OK && stats.queued > 0) {
        tpool__put_queued(&text, pool, stats.queued);
        status = tpool__write_line(pool, &text, write, context);
    }
    return status;
}

/* --------------------------------------------------------------------------------------------------------------------
 *  Traces
 * ----------------------------------------------------------------------------------------------------------------- */
TPOOL_API tpool_status tpool_trace_start(tpool *pool, size_t bytes_per_worker) {
    if (!pool) return TPOOL_INVALID;
    if (tpool__is_foreign(pool)) return TPOOL_BROKEN;
    size_t least = (bytes_per_worker ? bytes_per_worker : (size_t)64 * 1024) / TPOOL__RECORD_BYTES, size = 1;
    while (size <= least / 2) size *= 2;
    tpool__record_words *records = tpool__alloc_many(size, sizeof *records);
    if (!records) return TPOOL_NO_MEMORY;
    tpool__lock(&pool->lock);
    bool begins = !(tpool__observed(pool) & TPOOL__TRACED);
    if (begins) {
        if (++pool->traces > UINT32_MAX >> TPOOL__TRACES_SHIFT) pool->traces = 1;
        pool->trace_size = size;
        records = tpool__ring_set(&pool->ring, pool->traces, records, size);
        /* relaxed: flags; each ring has its lock */
        tpool__or_relaxed(&pool->observed, pool->traces << TPOOL__TRACES_SHIFT | TPOOL__TRACED);
    }
    tpool__unlock(&pool->lock);
    tpool__dealloc(records);
    return begins ? TPOOL_OK : TPOOL_INVALID_STATE;
}
TPOOL_API tpool_status tpool_trace_stop(tpool *pool) {
    if (!pool) return TPOOL_INVALID;
    if (tpool__is_foreign(pool)) return TPOOL_BROKEN;
    /* The number goes too: from now on a task costs what it costs where no trace was. relaxed: flags, nothing else */
    return tpool__and_relaxed(&pool->observed, TPOOL__MEASURED | TPOOL__OBSERVED) & TPOOL__TRACED ? TPOOL_OK
                                                                                                  : TPOOL_INVALID_STATE;
}

/* How many bytes the character of UTF-8 at `at` has. 0: it is none (Unicode 15, table 3-7). */
static unsigned tpool__utf8_size(const unsigned char *at) {
    if (at[0] < 0x80) return 1;
    if (at[0] < 0xc2 || at[0] > 0xf4) return 0;
    unsigned size = at[0] >= 0xf0 ? 4 : at[0] >= 0xe0 ? 3 : 2;
    unsigned char least = at[0] == 0xe0 ? 0xa0 : at[0] == 0xf0 ? 0x90 : 0x80;
    unsigned char most = at[0] == 0xed ? 0x9f : at[0] == 0xf4 ? 0x8f : 0xbf;
    if (at[1] < least || at[1] > most) return 0;
    for (unsigned i = 2; i < size; i++)
        if ((at[i] & 0xc0) != 0x80) return 0;
    return size;
}
/* A string of JSON. */
static void tpool__put_string(tpool__text *text, const char *name) {
    const unsigned char *at = (const unsigned char *)name, *end = at + TPOOL__TRACED_BYTES;
    tpool__put_byte(text, '"');
    while (*at && at < end) {
        unsigned size = tpool__utf8_size(at);
        if (size == 1 && (*at < ' ' || *at == '"' || *at == '\\')) {
            tpool__put(text, "\\u00");
            tpool__put_digits(text, *at++, 16, 2);
        } else if (size == 0) {
            tpool__put(text, "\\ufffd");
            at++;
        } else {
            for (; size > 0; size--) tpool__put_byte(text, (char)*at++);
        }
    }
    tpool__put(text, *at ? "...\"" : "\"");
}

/* A trace as it is written. */
typedef struct tpool__trace_report {
    const tpool *pool;
    tpool_write output;
    void *context;
    uint32_t trace;
    tpool_status status; /* TPOOL_OK: it goes on */
    tpool__text text;    /* lines that are not written yet */
    bool nests;          /* what began last ends first: so it is on a worker's own line */
    unsigned open;       /* what has begun there, and has no end yet */
} tpool__trace_report;
/* Hands over what there is, if that is so much. No lock is held. */
static void tpool__trace_flush(tpool__trace_report *to, size_t least) {
    TPOOL_ASSERT(tpool__holds_none());
    size_t size = to->text.used;
    if (size <= least) return;
    to->text.used = 0;
    if (to->status != TPOOL_OK) return;
    if (!to->output(to->text.bytes, size, to->context)) to->status = TPOOL_FAILED;
    if (tpool__is_foreign(to->pool)) to->status = TPOOL_BROKEN; /* it forked, and this is the child */
}
/* A line begins. Half of the text is free for it, and none takes more. */
static void tpool__put_line(tpool__trace_report *to, const char *phase, int worker) {
    tpool__trace_flush(to, sizeof to->text.bytes / 2);
    tpool__put(&to->text, ",\n{\"ph\":\"");
    tpool__put(&to->text, phase);
    tpool__put(&to->text, "\",\"pid\":1,\"tid\":"); /* 0, and the number of the process, mean something else */
    tpool__put_number(&to->text, (uint64_t)worker + 3);
}
static void tpool__put_key(tpool__trace_report *to, const char *key, uint64_t number) {
    tpool__put(&to->text, key);
    tpool__put_number(&to->text, number);
}
static void tpool__put_event(tpool__trace_report *to, const tpool__traced *record, const char *phase) {
    bool of_wait = record->kind & (TPOOL_EVENT_BLOCKED | TPOOL_EVENT_UNBLOCKED);
    bool of_task = record->kind & (TPOOL_EVENT_STARTED | TPOOL_EVENT_ENDED);
    const char *category = of_wait ? "wait" : of_task ? "task" : "worker";
    if (record->kind == TPOOL_EVENT_SUBMITTED) category = "submit";
    tpool__text *text = &to->text;
    tpool__put_line(to, phase, record->worker);
    tpool__put_key(to, ",\"ts\":", (uint64_t)record->now / 1000);
    tpool__put_byte(text, '.');
    tpool__put_digits(text, (uint64_t)record->now % 1000, 10, 3);
    if (*phase != 'E') { /* the end of what began last */
        tpool__put(text, ",\"cat\":\"");
        tpool__put(text, category);
        tpool__put(text, "\",\"name\":");
        tpool__put_string(text, of_task && record->about ? (const char *)record->about : category);
        tpool__put_key(to, ",\"id\":", record->task);
        if (*phase == 'i') tpool__put(text, ",\"s\":\"t\"");
    }
    tpool__put(text, ",\"args\":{");
    if (record->kind == TPOOL_EVENT_ENDED) {
        tpool__put(text, "\"status\":\"");
        tpool__put(text, tpool_status_name((tpool_status)record->status));
        tpool__put(text, "\"");
    } else if (*phase != 'E' && *phase != 'e') {
        tpool__put_key(to, "\"task\":", record->task);
        if (!of_task && record->about) tpool__put_key(to, of_wait ? ",\"for\":" : ",\"by\":", record->about);
    }
    tpool__put(text, "}}");
    TPOOL_ASSERT(text->used < sizeof text->bytes - 1);
}
/* On a worker's line an end whose beginning the ring has lost is left out. */
static void tpool__put_traced(tpool__trace_report *to, const tpool__traced *record) {
    bool begins = record->kind & (TPOOL_EVENT_STARTED | TPOOL_EVENT_BLOCKED | TPOOL_EVENT_WORKER_STARTED);
    bool unrun = record->kind == TPOOL_EVENT_ENDED && !record->ran;
    if (record->kind == TPOOL_EVENT_SUBMITTED || unrun) {
        tpool__put_event(to, record, "i");
    } else if (!to->nests) {
        tpool__put_event(to, record, begins ? "b" : "e");
    } else if (begins) {
        to->open++;
        tpool__put_event(to, record, "B");
    } else if (to->open > 0) {
        to->open--;
        tpool__put_event(to, record, "E");
    }
}
static void tpool__record_read(const tpool__record_words *record, tpool__traced *traced) {
    uintptr_t packed = tpool__load_acquire(&record->words[2]); /* P20, all of them */
    uint64_t now = 0;
    traced->task = tpool__load_acquire(&record->words[0]);
    traced->about = tpool__load_acquire(&record->words[1]);
    for (size_t i = 0; i < sizeof now / sizeof(uintptr_t); i++)
        now |= (uint64_t)tpool__load_acquire(&record->words[3 + i]) << (i * 32);
    traced->now = (int64_t)now;
    traced->kind = packed & 255;
    traced->status = (tpool_status)(packed >> 8 & 127);
    traced->ran = packed >> 15 & 1;
    traced->worker = (int)(packed >> 16) - 1;
}
/* Takes up to `most` records from `next` on, or later where these are lost. Gives the place in `records` of the first
 * that is whole. */
static size_t tpool__ring_read(tpool__ring *ring, uint32_t trace, uintptr_t *next, uintptr_t end,
                               tpool__traced *records, size_t most, size_t *count) {
    size_t torn = 0;
    *count = 0;
    tpool__spin_lock(&ring->lock); /* keeps the memory */
    if (ring->trace == trace && ring->size > 0) {
        uintptr_t first = *next, begun = tpool__load_relaxed(&ring->begun); /* relaxed: a hint */
        if (begun - first > ring->size) first = begun - ring->size;
        if (end - first > ring->size) first = end; /* all are lost */
        for (*next = first; *count < most && *next != end; ++*next)
            tpool__record_read(&ring->records[*next & (ring->size - 1)], &records[(*count)++]);
        begun = tpool__load_relaxed(&ring->begun); /* relaxed: P20 came before */
        while (torn < *count && begun - (first + torn) > ring->size) torn++;
    }
    tpool__spin_unlock(&ring->lock);
    return torn;
}
static void tpool__put_ring(tpool__trace_report *to, tpool__ring *ring) {
    tpool__traced records[32], last = { .kind = TPOOL_EVENT_WORKER_ENDED };
    tpool__spin_lock(&ring->lock);
    bool has_some = ring->trace == to->trace;
    uintptr_t end = tpool__load_acquire(&ring->next), next = end - ring->size; /* P20 */
    tpool__traced oldest = { .kind = 0 };
    if (ring->size > 0) tpool__record_read(&ring->records[end & (ring->size - 1)], &oldest);
    if (!oldest.kind) next = 0; /* it has not gone round yet */
    tpool__spin_unlock(&ring->lock);
    to->open = 0;
    while (has_some && to->status == TPOOL_OK) { /* what comes later is not written: it might never end */
        uintptr_t wanted = next;
        size_t count, first = tpool__ring_read(ring, to->trace, &next, end, records, 32, &count);
        if (next - count + first != wanted)
            while (to->open > 0) tpool__put_traced(to, &last); /* its end is lost */
        if (count == 0) break;
        for (size_t i = first; i < count; i++)
            if (records[i].kind) tpool__put_traced(to, &records[i]); /* 0: there were not so many yet */
        if (first == count || !records[count - 1].kind) continue;
        last.now = records[count - 1].now;
        last.worker = records[count - 1].worker;
    }
}
static void tpool__put_track(tpool__trace_report *to, const char *what, int worker, const char *name) {
    tpool__put_line(to, "M", worker);
    tpool__put(&to->text, ",\"name\":\"");
    tpool__put(&to->text, what);
    tpool__put(&to->text, "\",\"args\":{\"name\":");
    tpool__put_string(&to->text, name);
    tpool__put(&to->text, "}}");
}
TPOOL_API tpool_status tpool_trace_write(tpool *pool, tpool_write write, void *context) {
    if (!pool || !write) return TPOOL_INVALID;
    if (tpool__is_foreign(pool)) return TPOOL_BROKEN;
    tpool__trace_report to = { .pool = pool, .output = write, .context = context };
    tpool__lock(&pool->lock);
    tpool__worker *worker = pool->newest; /* their memory stays the pool's until its end */
    to.trace = pool->traces;
    tpool__unlock(&pool->lock);
    if (to.trace == 0) return TPOOL_INVALID_STATE;
    tpool__put(&to.text, "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n{\"ph\":\"M\",\"pid\":1,\"tid\":2,"
                         "\"name\":\"thread_name\",\"args\":{\"name\":\"other threads\"}}");
    tpool__put_track(&to, "process_name", -1, pool->name);
    tpool__put_ring(&to, &pool->ring);
    to.nests = true;
    for (; worker && to.status == TPOOL_OK; worker = worker->before) {
        char name[sizeof pool->name + 32];
        bool spare = (uintptr_t)worker->index >= tpool__load_relaxed(&pool->max_workers); /* relaxed: for a name */
        (void)snprintf(name, sizeof name, "%s_%d%s", pool->name, worker->index, spare ? " (spare)" : "");
        tpool__put_track(&to, "thread_name", worker->index, name);
        tpool__put_ring(&to, &worker->ring);
    }
    tpool__put(&to.text, "\n]}\n");
    tpool__trace_flush(&to, 0);
    return to.status;
}

/* ====================================================================================================================
 *  >>process  What the process does at fork and at exit, and when a thread ends
 * ================================================================================================================= */
/* The library holds no lock across fork: the program's own fork handlers run meanwhile, and may take a lock under which
 * another thread calls the library. So the child finds half done what the parent's other threads were doing. It makes
 * afresh all that it needs, and abandons the parent's. What it still reads of that is whole at any moment: the list of
 * pools, the settings of the dual pools (`configured` is set last). */
static void tpool__around_fork(bool begins) {
    for (size_t i = 0; i < TPOOL__KINDS; i++)
        if (tpool__backends[i]) tpool__backends[i]->around_fork(begins);
}
static void tpool__before_fork(void) {
    TPOOL_ASSERT(tpool__holds_none());
    tpool__around_fork(true);
}
static void tpool__after_fork_in_parent(void) { tpool__around_fork(false); }
static void tpool__after_fork_in_child(void) {
    tpool__thread *self = tpool__self();
    int cancel = tpool__cancel_off();
    tpool__park_reset();
    tpool__depot_after_fork();
    /* relaxed, here and below: the child has one thread */
    tpool__store_relaxed(&tpool__cycles.lock, TPOOL__LOCK_FREE);
    tpool__store_relaxed(&tpool__process.lock, TPOOL__LOCK_FREE);
    tpool *pools = tpool__load_acquire(&tpool__process.pools); /* P8 */
    for (size_t i = 0; i < TPOOL__KINDS; i++)
        if (tpool__backends[i]) tpool__backends[i]->in_child_of_fork(pools);
    tpool__process.works_for = NULL;
    tpool__process.detached = 0;
    tpool__process.detacher.valid = false;
    tpool__cancel_back(cancel);
    tpool__add_relaxed(&tpool__process.generation, 1);
    tpool__store_relaxed(&tpool__process.setups, 0);
    tpool__store_relaxed(&tpool__process.used_up, 0);
    tpool__store_relaxed(&tpool__process.pool_count, 0);
    tpool__store_relaxed(&tpool__process.ending, self->ending); /* the child lacks the other threads that end */
    tpool__store_relaxed(&tpool__spinning, 0);                  /* the child lacks the threads that spun */
    tpool **last = &pools; /* the parent's pools stay untouched: they may be half changed */
    while (*last) last = &(*last)->next;
    *last = tpool__process.inherited;
    tpool__process.inherited = pools;
    tpool__store_relaxed(&tpool__process.pools, NULL); /* relaxed: as above */
    tpool__dual.pool[0] = tpool__dual.pool[1] = NULL;
    tpool__dual.shut = false;
    tpool__global_over = false;
    tpool_manager *manager = tpool__load_relaxed(&tpool__global_manager);
    if (manager) {
        manager->inherited = tpool__inherited_managers;
        tpool__inherited_managers = manager;
        tpool__store_relaxed(&tpool__global_manager, NULL);
    }
    tpool__times_after_fork();
    tpool__stop_calls_after_fork(self);
    tpool__cycles.foreign = NULL;
    self->context = NULL; /* even if a task has forked, the child's thread is no worker and runs no task */
    self->worker = NULL;
    self->caller_pool = NULL;
    self->blocked = NULL;
    self->listed = 0; /* the parent runs what is listed */
    self->callers = self->freeing = self->nested = 0;
    self->waits = self->fires = false;
    self->detacher.valid = false;
    self->keeper = NULL;
}

static void tpool__resume_global_manager(void) {
    tpool_status ignored = TPOOL_OK;
    tpool_manager *manager = tpool__load_acquire(&tpool__global_manager); /* P12 */
    if (!manager) return;
    tpool__manager_enter(manager);
    if (tpool__each(manager, tpool_resume, false, &ignored)) tpool__manager_leave(manager);
}
/* For good. Called after the high-level pool has ended: its last tasks may be the first to ask for the manager. */
static void tpool__end_global_manager(void) {
    tpool__lock(&tpool__process.lock);
    tpool__global_over = true;
    tpool_manager *manager = tpool__load_relaxed(&tpool__global_manager); /* relaxed: under the lock */
    tpool__unlock(&tpool__process.lock);
    if (!manager) return;
    tpool__lock(&manager->lock);
    manager->over = true;
    tpool__unlock(&manager->lock);
    (void)tpool__manager_shutdown(manager, false, false);
}

/* Sets HALTED in one more of the program's own pools and returns it, or NULL. The caller counts in `callers`, which
 * keeps the pool alive without the list's lock: what ends there may run the program's code, which may call the
 * library. */
static tpool *tpool__halt_one(void) {
    tpool__lock(&tpool__process.lock);
    tpool *pool = tpool__load_relaxed(&tpool__process.pools);            /* relaxed: under the lock */
    tpool_manager *global = tpool__load_relaxed(&tpool__global_manager); /* relaxed: under the lock */
    while (pool && (pool->shared || pool->exit_exempt || (global && pool->manager == global) ||
                    tpool__flags(pool) & TPOOL__HALTED))
        pool = pool->next;
    if (pool) {
        tpool__or_relaxed(&pool->flags, TPOOL__HALTED); /* relaxed: see tpool__flags */
        tpool__spin_lock(&pool->inject.lock);
        pool->callers++;
        tpool__spin_unlock(&pool->inject.lock);
    }
    tpool__unlock(&tpool__process.lock);
    return pool;
}

static tpool *tpool__dual_pool(int which) {
    tpool__lock(&tpool__process.lock);
    tpool *pool = tpool__dual.pool[which];
    tpool__unlock(&tpool__process.lock);
    return pool;
}
/* From now on no shared pool is paused: tasks of one may wait for those of another. */
static void tpool__resume_shared(void) {
    for (int which = 0; which < 2; which++) {
        tpool *pool = tpool__dual_pool(which);
        if (pool) tpool__finish_begin(pool);
    }
    tpool__resume_global_manager();
}
/* Drains the dual pools and those of the global manager, and ends their workers. The low-level pool comes last, and is
 * looked up last: tasks of the others may be the first to ask for it. */
static void tpool__end_shared(void) {
    tpool__resume_shared();
    tpool *high = tpool__dual_pool(0);
    if (high && tpool_drain(high, TPOOL_FOREVER) == TPOOL_OK) (void)tpool_shutdown(high, TPOOL_WAIT);
    tpool__end_global_manager();
    tpool *low = tpool__dual_pool(1);
    if (low) tpool__finish_begin(low);
    if (low && tpool_drain(low, TPOOL_FOREVER) == TPOOL_OK) (void)tpool_shutdown(low, TPOOL_WAIT);
}

/* Wakes every thread that waits for the task, so that it checks tpool__is_halted_for_good. */
static void tpool__notify_waiters(tpool_future *task) {
    if (!task) return;
    tpool__parker *asleep = NULL;
    uintptr_t clear = tpool__nodes_lock(task);
    for (tpool__node *node = task->nodes; node; node = node->next) {
        void *of = (void *)node;
        if (node->done == tpool__wake_waiter)
            asleep = tpool__unpark_begin_another(asleep, &((tpool__future_node *)of)->waiter->parker);
        else if (node->done == tpool__wake_first)
            asleep = tpool__unpark_begin_another(asleep, &((tpool__first_node *)of)->waiter->parker);
        else if (node->done == tpool__item_done) tpool__completions_wake(((tpool__item *)of)->owner);
    }
    tpool__nodes_unlock(task, clear);
    tpool__unpark_end(asleep);
}
static bool tpool__notify_waiters_of(const tpool__entry *entry, void *of) {
    (void)of;
    tpool__notify_waiters(entry->task);
    return true;
}
static void tpool__notify_waiters_in(tpool *pool, tpool__lane *lane, tpool__worker *owner) {
    tpool__lane_walk(pool, lane, owner, tpool__notify_waiters_of, NULL);
}
static void tpool__halt(tpool *pool) {
    tpool__fence_lanes(pool);
    tpool__notify_waiters_in(pool, &pool->inject, NULL);
    for (tpool__worker *w = tpool__first_worker(pool); w; w = tpool__next_worker(w))
        tpool__notify_waiters_in(pool, &w->lane, w);
    tpool__spin_lock(&pool->inject.lock);
    for (size_t i = 0; i < pool->heap_count; i++) tpool__notify_waiters(pool->heap[i].task);
    tpool__spin_unlock(&pool->inject.lock);
    tpool__wake_room_and_drainers(pool);
}

/* The exit handler. In the program's own pools nothing starts any more: a task may use variables of main, which has
 * returned or is about to be left. A destroy that comes later lets its pool go on (tpool__exempt_from_exit). Then the
 * shared pools are drained: the high-level one, the global manager's, the low-level one. If a task or a callback calls
 * exit, nothing is drained: that task would never end. */
static void tpool__at_exit(void) {
    if (tpool__process.unloaded || tpool__threads_are_gone()) return;
#if defined(TPOOL_THREADS_WIN32)
    if (tpool__in_library()) return; /* it is unloaded, under the loader's lock, which a thread that ends wants */
#endif
    tpool__store_relaxed(&tpool__process.exits, 1); /* relaxed: see tpool__is_halted_for_good */
    for (tpool *pool; (pool = tpool__halt_one()) != NULL; tpool__caller_leaves(pool)) tpool__halt(pool);
    if (!tpool__runs_program(tpool__self()->context)) tpool__end_shared();
    tpool__lock(&tpool__process.lock);
    tpool__dual.shut = true; /* nobody would wait for the work of one that a later handler is the first to use */
    tpool__thread_handle detacher = tpool__process.detacher;
    tpool__process.detacher.valid = false;
    tpool__unlock(&tpool__process.lock);
    tpool__thread_join(&detacher); /* that is about to end; what frees a pool from now on is not joined */
    tpool__times_end(false);
}

/* The thread was ended, by thrd_exit or the like. Its stack frames are gone. This does what they still had to do: `all`
 * of them, or those above the first. The context of a call of the library's own stays until its `left` returns: threads
 * that work for the call read it. */
static void tpool__leave_contexts(tpool__thread *self, bool all) {
    while (self->context && (all || self->context->outer)) { /* NULL in a child, if what is called forks */
        tpool__context *context = self->context, before = *context;
        if (self->worker) tpool__await_jobs_of(self, context);
        tpool__stop_calls_end(self, context); /* before `left` changes, which an item's call reads */
        context->left = NULL;
        if (before.kind == TPOOL__IN_CALL) {
            if (before.left) before.left(before.of);
            if (self->context != context) return;
        }
        tpool__context_drop(self, context);
        if (before.kind == TPOOL__IN_TASK) tpool__end_broken(before.task);
        else if (before.kind != TPOOL__IN_CALL && before.left) before.left(before.of);
    }
}

/* Each call of the program's code may end the thread again. Then the hook runs once more, and does the rest. */
static void tpool__thread_left(void *thread) {
    tpool__thread *self = (tpool__thread *)thread;
    if (!self->context && !self->worker) {
        tpool__keeper_end(self);
        tpool__detached_end(self);
        return;
    }
    tpool__stack_left();
    tpool__stop_calls_left(self);
    self->callers = self->freeing = self->nested = 0;
    self->armed = false;
    (void)tpool__arm(self); /* a hook that runs is called again only if it is armed again */
    self->serves = false;   /* the thread is ending already */
    self->caller_pool = NULL;
    if (self->worker) tpool__forget_jobs(self->worker);
    tpool__leave_contexts(self, true);
    tpool__run_unless_held(self);
    if (self->worker && !self->worker->retired) tpool__leave_pool(self->worker, TPOOL__THREAD_ENDED);
    if (self->worker) tpool__worker_ended(self, self->worker, true); /* NULL in a child that was forked meanwhile */
    tpool__keeper_end(self);
    tpool__detached_end(self);
}

static void tpool__thread_ended(void *armed) {
    tpool__thread *self = (tpool__thread *)armed;
    if (!self->ending) tpool__add_relaxed(&tpool__process.ending, 1); /* relaxed: see tpool__unload */
    self->ending = true; /* counts once, even if the thread ends again below */
    self->armed = false;
    self->cacheable = 0;
    self->serves = false;
    if (tpool__works_for()) tpool__works_for()->thread_ends(self);
    tpool__thread_left(self);
    tpool__cache_flush(self);
    self->cacheable = 0;
    if (self->armed) (void)tpool__exit_hook_arm(NULL);
    self->armed = false;
    for (tpool__contexts *piece; (piece = self->pieces) != NULL; TPOOL_FREE(piece)) self->pieces = piece->before;
    if (self->spare_piece) TPOOL_FREE(self->spare_piece);
    self->spare_piece = NULL;
    self->context_next = self->context_first = self->context_last = NULL;
    /* passing the lock waits for a search for cycles that has seen a task of this thread */
    tpool__lock(&tpool__cycles.lock);
    tpool__unlock(&tpool__cycles.lock);
    if (tpool__load_relaxed(&tpool__process.pool_count) == 0) tpool__depot_trim(false); /* relaxed: a hint */
    self->ending = false;
    tpool__sub_acq_rel(&tpool__process.ending, 1); /* P16 */
}

/* `some` pauses took `took` ns: returns how many take TPOOL__PAUSE_TIME, and their time, packed as in tpool__pauses. */
static uint32_t tpool__pauses_for(int64_t took, uint32_t some) {
    uint64_t time = (uint64_t)took, number = ((uint64_t)TPOOL__PAUSE_TIME * some + time / 2) / time;
    if (number < 1) number = 1;
    if (number > 1000) number = 1000;
    time = number * time / some;
    return (uint32_t)(number << 16 | (time > 0 ? time : 1));
}
/* Measures as many as the clock shows well. The least of three times counts: the system may take the CPU away. */
static void tpool__time_pauses(void) {
    int64_t least;
    uint32_t some = 16;
    do {
        some *= 4;
        least = INT64_MAX;
        for (int i = 0; i < 3; i++) {
            int64_t began = tpool__clock();
            for (uint32_t pauses = 0; pauses < some; pauses++) tpool__cpu_pause();
            int64_t took = tpool__clock() - began;
            if (took < least) least = took;
        }
    } while (least < TPOOL_US(2) && some < 4096);
    if (least > 0 && least < (int64_t)some * 200) /* else the clock shows nothing. relaxed: as in tpool__pause */
        tpool__store_relaxed(&tpool__pauses, tpool__pauses_for(least, some));
}

/* Called as the program, or the library that holds this copy, is loaded. A fork under way in another thread runs no
 * handler that is registered meanwhile, and its child would take the parent's pools and locks for its own. The
 * constructor is the module's first, so that the others may use pools. */
static bool tpool__hook_forks(void) {
    static bool done;
    if (!done) done = tpool__fork_hooks(tpool__before_fork, tpool__after_fork_in_parent, tpool__after_fork_in_child);
    return done;
}
#if defined(TPOOL__UNIX) && defined(__GNUC__) && !defined(TPOOL__NOT_AT_LOAD) /* which a test defines */
TPOOL__FIRST_CONSTRUCTOR static void tpool__loaded(void) { (void)tpool__hook_forks(); }
#endif

/* Sets up, once, what the process needs. P8: a thread that sees `ready` sees it done. */
static bool tpool__process_ready(void) {
    if (TPOOL__LIKELY(tpool__load_acquire(&tpool__process.ready) == 1)) return true; /* P8 */
    int cpus = tpool_cpu_count();
    if (cpus > 1) tpool__time_pauses(); /* with one CPU no wait spins */
    bool watched = tpool__memory_is_checked();
    tpool__lock(&tpool__process.lock);
    bool ready = tpool__load_relaxed(&tpool__process.ready) == 1; /* relaxed: under the lock */
    if (!ready) {
        tpool__store_relaxed(&tpool__spare_cpus, (uint32_t)cpus - 1); /* relaxed: P8 publishes it */
        tpool__process.unpooled = watched;
        static bool exits; /* atexit has succeeded; a later try does not repeat what succeeded */
        if (!tpool__process.hooked) tpool__process.hooked = tpool__exit_hook_create();
        if (tpool__process.hooked && tpool__hook_forks() && !exits) exits = atexit(tpool__at_exit) == 0;
        ready = exits;
        if (ready) tpool__store_release(&tpool__process.ready, 1); /* P8 */
    }
    tpool__unlock(&tpool__process.lock);
    return ready;
}

/* --------------------------------------------------------------------------------------------------------------------
 *  >>unload  A shared library that holds this copy is unloaded (or the process ends: then the exit handler has run)
 *
 *  The exit handler runs at an unloading, too: after the library's ordinary destructors, before its last. So if an
 *  ordinary destructor runs before the handler, the library is unloaded. The last destructor does the work, since the
 *  other destructors, and those of C++ objects, may use the shared pools. An unloading by another exit handler, after
 *  ours has run, counts as the end of the process: the work is done, and the system frees the memory.
 *
 *  Threads that called the library live on, and the code of their exit hook would be gone. So the hook is deleted, and
 *  their caches are freed with all memory blocks. The C library removes the fork handlers by itself. The unloading
 *  waits for threads that are in the hook. It cannot see them return from it, so it waits a moment more. (P16)
 * ----------------------------------------------------------------------------------------------------------------- */
#if defined(__GNUC__) && !defined(TPOOL__NOT_AT_LOAD)
#if !defined(TPOOL_THREADS_WIN32) /* on Windows no thread can end meanwhile; the program has shut the pools down */
static void tpool__unload_shared(void) {
    tpool__resume_shared();
    tpool__await_detached(); /* their tasks may use the shared pools */
    tpool__end_shared();
    tpool__await_detached(); /* of tasks of the shared pools */
    tpool__times_end(true);  /* what timers call may use them, too */
    for (int which = 0; which < 2; which++) {
        tpool__lock(&tpool__process.lock);
        tpool *pool = tpool__dual.pool[which];
        tpool__dual.pool[which] = NULL;
        tpool__dual.shut = true;
        tpool__unlock(&tpool__process.lock);
        if (pool) (void)tpool__destroy(pool);
    }
    tpool_manager *manager = tpool__load_relaxed(&tpool__global_manager); /* relaxed: no other thread is in a call */
    if (!manager) return;
    tpool__store_relaxed(&tpool__global_manager, NULL); /* relaxed: likewise */
    tpool__manager_enter(manager);
    manager->destroyed = true;
    tpool__manager_leave(manager);
}
#endif
__attribute__((destructor)) static void tpool__unload_begins(void) {
    /* relaxed: the exit handler runs on the same thread */
    tpool__process.unloaded = !tpool__load_relaxed(&tpool__process.exits) && !tpool__threads_are_gone();
}
TPOOL__LAST_DESTRUCTOR static void tpool__unload(void) {
    if (!tpool__process.hooked) return;
    int cancel = tpool__cancel_off();
#if !defined(TPOOL_THREADS_WIN32)
    if (tpool__process.unloaded) tpool__unload_shared();
#endif
    tpool__exit_hook_delete();
#if defined(TPOOL_THREADS_WIN32)
    tpool__thread_detach(&tpool__times.ended);
#endif
    if (tpool__process.unloaded) {
        tpool__u32 nothing = 0;
        while (tpool__load_acquire(&tpool__process.ending) > 0) tpool__yield(); /* P16 */
        tpool__word_wait(&nothing, 0, 200000);
        tpool__cache_flush(tpool__self());
        tpool__depot_trim(true);
        for (int i = 0; i < 2; i++)
            if (tpool__dual.descriptors[i]) TPOOL_FREE(tpool__dual.descriptors[i]);
    }
    tpool__cancel_back(cancel);
}
#endif

/* ====================================================================================================================
 *  >>processes-implementation  Process pools
 *
 *  A process pool is a thread pool whose workers own one process each. The program is the process that created the
 *  pool. A proxy is a worker thread of the pool, in the program: it sends a task to its worker process and waits for
 *  the end. A worker process executes the tasks of its proxy, one at a time. The server, a process of one thread, forks
 *  the worker processes and waits for their ends. The keeper, a process too, only forks the server, and a new one when
 *  it dies. The server learns from waitid that a worker process has died, and sends the cause to the proxy. The keeper
 *  learns from waitpid that the server has died, and the proxies learn it from the end of their status sockets. Server
 *  and keeper learn that the program has died from the end of their sockets and, on Linux, from a pidfd; they then kill
 *  all that they have started. Nothing watches the keeper: without it the server goes on, but has no successor.
 *
 *      program -- keeper socket ----------> keeper -- fork --> server
 *              -- control socket ----------------------------> server -- fork --> worker process
 *      proxy   -- status socket -----------------------------> server    (per worker; down: KILL; up: FORKED, ENDED)
 *      proxy   -- requests pipe, replies socket, memory ------------------------> worker process
 *
 *  The rest of the header knows only their words (LOST_PROCESS, OWNED_ELSEWHERE, is_timeout, tpool__limit): it calls
 *  the operations of the table at the end (>>backend).
 *
 *  STARTING AND KILLING  tpool_create forks twice, so that the keeper is no child of the program: the program's own
 *  waitpid(-1) sees only the process between the two forks, which ends at once. The parent of a process kills it before
 *  it reaps it: so the number cannot belong to another process (the one exception: tpool__server_kill). The server
 *  kills its workers, each with its process group; it gives up one that it may not kill: for the proxy that is its end
 *  (GIVEN_UP), and no thread waits for it. The keeper kills the server, and the workers of a server that has
 *  died: Linux makes them the keeper's children; elsewhere the keeper checks that they are still what they were. On
 *  Linux the kernel also kills the workers with their server.
 *
 *  DEATHS  When the server has reaped a worker, it sends a notice with the cause on the status socket, and then a GONE
 *  message on the worker's replies socket, where the proxy waits. So a proxy waits in one read, and no descriptor that
 *  another process has kept can hide a death. GONE without the notice is a forgery. The server keeps a copy of that
 *  socket's far end until then: so the cause comes before the end of the socket, even when a task has closed all its
 *  descriptors. Only the server holds the far ends of the status sockets, so their end shows that the server has died.
 *  A proxy's read has a time limit (SO_RCVTIMEO): when nothing has come for that long, it looks at its status socket.
 *
 *  A SERVER THAT HANGS  The server counts its steps in memory that the program sees (tpool__life): its sign of life. A
 *  proxy that waits for a notice or a message asks for a sign after half of TPOOL__PATIENCE_MS. If none has come after
 *  the whole, it asks the keeper to kill that server, by its generation, so that its successor is not killed instead.
 *  If that does not help either, the proxy kills the server of a keeper that is dead, which the end of the keeper's
 *  socket shows. It never kills a living keeper, but continues it (SIGCONT): it is slow, or was stopped, and the pool
 *  has no other. After four times TPOOL__PATIENCE_MS, or when the keeper notes that the system refuses it another
 *  server, the proxy gives the process up. The keeper kills a server that stays stopped for TPOOL__PATIENCE_MS.
 *
 *  ORDERS TO KILL  An order to kill is a byte on the status socket. It stays there until the server reads it; if the
 *  server dies first, the worker dies with it. A proxy knows its task's time limits from the start, and obeys them
 *  while it starts the process, waits for the initializer, and copies the argument. It looks now and then whether the
 *  process that it prepares is still wanted (the pool may end, the map may be closed): so no thread has to wake it.
 *
 *  MESSAGES AND MEMORY  A message is one write of less than PIPE_BUF bytes. The bytes of arguments and results lie in a
 *  file without a name. The program makes it, so that no worker can take it away; it is shared with this worker alone:
 *
 *      page | the argument, which the task uses in place | the result
 *
 *  The program places the result behind the largest argument so far, and starts again when it has given back the memory
 *  of a rare large one: so the file is as long as one request needs, however many there were. Each side maps as much as
 *  it has addresses for, and reads and writes the file beyond that. Both see the same bytes, whatever they have mapped:
 *  the program can read every answer that a worker could write. The writer pays for the memory: the program for
 *  arguments, the worker for results. A write fails where the system refuses memory: that is TPOOL_FAILED with ENOMEM,
 *  and no SIGBUS. A worker in which an earlier task has lowered a hard limit may not write or map so much: it asks the
 *  program to write its result, in pieces (tpool__put_by_program). The two sides speak in turns, so a writer knows that
 *  the other side reads: they never wait for each other with both directions full.
 *
 *  WHAT A WORKER MAY DO  The program does not trust a worker, which may write anything to its socket and to the shared
 *  memory at any time. The program first checks a message's length, number and kind. It compares sizes and counts with
 *  what it knows of the file and the chunk, in a copy that no other process can change, and uses it. It allocates
 *  memory for a result once it has seen that the worker has written it (tpool__child_has_written). The memory is
 *  sealed, so that a worker cannot truncate it; without seals, one that does kills the program by SIGBUS. A pipe that
 *  is full when it should be empty is an error, not a wait.
 *
 *  Figures, and what was tried instead: bench/README.md.
 * ================================================================================================================= */
/* Lies at the beginning of the shared memory and survives the worker. Outside the #if, since tests/model/page.c needs
 * it without processes. */
typedef struct tpool__page {
    tpool__u32 stop;        /* the number of the request that should stop early */
    tpool__u32 cut;         /* the number of the request whose further items are not wanted */
    tpool__u32 begun;       /* the number of the request whose fn has been called: a claim */
    tpool__u32 items_begun; /* of a chunk, since the program last read its results: each a claim */
    tpool__u32 items_done;  /* likewise, no claim */
    tpool__word items_used; /* bytes of their answers */
} tpool__page;
static inline void tpool__page_write(tpool__page *page, uint32_t done, uintptr_t used) {
    tpool__store_relaxed(&page->items_used, used); /* relaxed: the next store publishes it */
    tpool__store_release(&page->items_done, done); /* P14 */
}
/* The worker claims a task or an item right before it calls fn. The program revokes what it gives to another worker: so
 * fn is called once, even if the worker outlives the server that was to report its end. False: revoked. Pair P14:
 * the claim of the next item publishes the answers of those before it. */
static inline bool tpool__page_claim(tpool__u32 *begun, uint32_t before, uint32_t now) {
    return tpool__cas_release(begun, &before, now); /* P14 */
}
static inline uint32_t tpool__page_revoke(tpool__u32 *begun, uint32_t no_claim) {
    return tpool__exchange_acquire(begun, no_claim); /* P14 */
}
#define TPOOL__NO_ITEM UINT32_MAX
static inline uint32_t tpool__page_read(tpool__page *page, uintptr_t *used) {
    uint32_t done = tpool__load_acquire(&page->items_done); /* P14 */
    *used = tpool__load_relaxed(&page->items_used); /* relaxed: covers the answers that the acquire saw, or more */
    return done;
}

#if defined(TPOOL__PROCESSES)

/* Tests replace these. */
#ifndef TPOOL__FORK
#define TPOOL__FORK() fork()
#endif
#ifndef TPOOL__PATIENCE_MS
#define TPOOL__PATIENCE_MS 10000 /* all that the server does is quick: one that is silent for so long hangs */
#endif
#ifndef TPOOL__SERVER_CHECK_MS
#define TPOOL__SERVER_CHECK_MS 500 /* how often a wait without a limit checks whether the server is lost */
#endif
#ifndef TPOOL__PROCESS_POINT
#define TPOOL__PROCESS_POINT(where) ((void)0) /* in the worker process */
#endif

enum { /* program to worker */
       TPOOL__RUN = 1,
       TPOOL__RUN_ITEMS,
       TPOOL__GO_ON,
       TPOOL__END,
       /* worker to program */
       TPOOL__READY,
       TPOOL__UNREADY,
       TPOOL__DONE,
       TPOOL__ITEMS_FULL,
       TPOOL__TOO_LARGE, /* a worker that has executed nothing yet cannot map the argument */
       TPOOL__PIECE,     /* a piece of a result, for the program to store: limits keep the worker from that */
       /* server to program, in the worker's place */
       TPOOL__GONE
};
enum { /* how a task, or an item of a map, ended */
       TPOOL__A_VALUE = 1,
       TPOOL__SOME_BYTES,
       TPOOL__BYTES_AT,
       TPOOL__AN_ERROR,
       TPOOL__NO_ROOM
};
typedef struct tpool__answer {
    uint64_t value; /* what fn returned; with BYTES_AT an offset into the bytes */
    uint32_t kind;
    int32_t code;
    uint64_t size;   /* of the bytes, or of the error's message; a plain value's answer ends before it */
    uint64_t unused; /* aligns the bytes behind it */
} tpool__answer;
/* The room that one item's answer takes among those of a chunk. A plain value takes as much as it needs. An answer with
 * bytes takes as much as an outcome: the program copies the answers and makes the outcome in the answer's place. */
#define TPOOL__PLAIN_ANSWER offsetof(tpool__answer, size)
#define TPOOL__ANSWER_ROOM TPOOL__ROUND_UP(sizeof(tpool__outcome))
_Static_assert(TPOOL__ANSWER_ROOM >= sizeof(tpool__answer), "an outcome takes the place of an answer");
typedef struct tpool__message {
    uint32_t number; /* of the request; the program rejects a reply with another */
    uint32_t kind;
    uint64_t fn;
    uint64_t arg;       /* not 0: there are bytes in the argument's window */
    uint64_t size;      /* of the argument, a PIECE; in a DONE: of the result's mapped window */
    uint64_t result_at; /* where the result's window begins */
    uint64_t count, item_size, context_size;
    uint64_t from, to; /* of a PIECE: where in the result's window it is, and where it belongs */
    tpool__answer answer;
} tpool__message;
_Static_assert(sizeof(tpool__message) <= 512, "a message is written in one piece");

#define TPOOL__PAGE_SIZE ((size_t)65536) /* a multiple of every page size in use, and of what mmap wants */
#define TPOOL__WINDOW_KEPT ((size_t)64 << 20)

/* A process's view of a part of the shared memory, which begins at `start`. */
typedef struct tpool__window {
    size_t start, mapped;
    char *bytes; /* the first `mapped` ones; they have memory (in a worker's argument: to its end) */
} tpool__window;

typedef struct tpool__notice { /* server to proxy */
    int32_t kind, status, stopped;
} tpool__notice;
enum {
    TPOOL__FORKED = 1,
    TPOOL__NOT_FORKED,
    TPOOL__ENDED,
    TPOOL__GIVEN_UP /* it should be killed, and the system does not permit that */
};
static inline bool tpool__notice_is_last(const tpool__notice *notice) { return notice->kind >= TPOOL__ENDED; }

/* Shared by the program, the keeper and the server, but not by workers. All accesses are relaxed: a message, or the end
 * of a process, notifies the others that there is something to see. */
enum { TPOOL__LIFE_WORKERS = 65000 };
typedef struct tpool__life {
    tpool__u32 beats;      /* the server counts its steps: its sign of life */
    tpool__u32 generation; /* counts the servers that the keeper has forked, from 1 */
    tpool__u32 refused;    /* 1: the system refuses the keeper another; it tries on */
    tpool__u32 workers;    /* how many the server has; these are the first LIFE_WORKERS: */
    tpool__u32 pids[TPOOL__LIFE_WORKERS];
    tpool__u32 stream_lost; /* 1: a child could not begin (tpool__streams_of_child); its end orders this */
} tpool__life;

/* The program's view of the server and of one worker. */
typedef struct tpool__server {
    int control, keeper; /* sockets */
    int far[3];          /* while the keeper starts, its descriptors: the far ends of these two, and `program` */
    const tpool__thread *starter; /* the thread that forks the keeper: only its child keeps `far` */
    pid_t pid, keeper_pid;        /* keeper_pid 0: there is no keeper */
    int keeper_process;           /* its pidfd, whose process and group no other can be; -1: the system has none */
    tpool__life *life;
} tpool__server;
typedef enum tpool__killed_for {
    TPOOL__NOT_KILLED,
    TPOOL__KILLED_LATE, /* its run limit; this one and the next two as tpool__limit has them */
    TPOOL__KILLED_TIMEOUT,
    TPOOL__KILLED_RUN_WITH_TIMEOUT,
    TPOOL__KILLED_ALL,
    TPOOL__KILLED_DAMAGED
} tpool__killed_for;
_Static_assert(TPOOL__KILLED_LATE + TPOOL__RUN_WITH_TIMEOUT == TPOOL__KILLED_RUN_WITH_TIMEOUT, "the same order");
typedef struct tpool__child {
    tpool__server *server;                 /* never changes */
    tpool__lock_word lock;                 /* guards: */
    tpool_future *task;                    /* the one that the worker process executes, or will */
    bool cut;                              /* its further items are not wanted */
    tpool__killed_for killed_for;          /* why this process was killed: kept until it is known to be gone */
    int requests, replies, status, memory; /* -1: none */
    tpool__page *page;                     /* set and cleared under the lock */
    /* the proxy's: */
    bool ordered; /* the server has not said yet whether it has forked the process */
    bool greeted;
    unsigned died_unready; /* how many processes in a row have died before they were ready */
    uint32_t number;
    tpool__window argument, result; /* result.start 0: the result has no place yet */
} tpool__child;
static inline tpool__server *tpool__server_of(const tpool *pool) { return pool->backing; }
static inline tpool__child *tpool__child_of(const tpool__worker *worker) { return worker->backing; }

/* The limits that bound a worker's room for results. */
enum { TPOOL__LIMITS = 2 };
#if defined(RLIMIT_AS)
#define TPOOL__LIMIT_ADDRESSES RLIMIT_AS
#else
#define TPOOL__LIMIT_ADDRESSES RLIMIT_DATA
#endif
static int tpool__limit_get(int i, struct rlimit *is) {
    return i == 0 ? getrlimit(RLIMIT_FSIZE, is) : getrlimit(TPOOL__LIMIT_ADDRESSES, is);
}
static int tpool__limit_set(int i, const struct rlimit *to) {
    return i == 0 ? setrlimit(RLIMIT_FSIZE, to) : setrlimit(TPOOL__LIMIT_ADDRESSES, to);
}

/* The state of a worker process. */
static struct {
    tpool_future *task;    /* &own; NULL: this process is no worker */
    tpool__thread *thread; /* the one that executes tasks */
    tpool_future own;
    tpool__extra extra;
    int requests, replies, memory;
    pid_t server; /* its parent */
    uint32_t number;
    tpool__page *page;
    tpool__window argument, result;
    size_t base;             /* where in the result's window the bytes of this task, or item, go */
    size_t returned;         /* how many bytes there are */
    const char *returned_at; /* their address for the task */
    bool has_returned;
    bool must_finalize; /* its initializer has succeeded, and its finalizer has not begun */
    bool is_spent;      /* a task's limits leave no room for results: this worker takes no more tasks */
    const volatile uint32_t *is_original; /* 1; 0 in a process that this one forks, also by the bare system call */
    struct rlimit limits[TPOOL__LIMITS];  /* as they were before the first task */
} tpool__in_child;

/* --------------------------------------------------------------------------------------------------------------------
 *  Descriptors and shared memory
 * ----------------------------------------------------------------------------------------------------------------- */
/* The lock is held while descriptors are made or closed, so that a child of fork can close all that there are. It is
 * not held over a fork, since the program's fork handlers run there. While a fork is under way, no thread
 * makes descriptors for TPOOL__FORK_TAKES; not longer, since a handler may wait for a lock that the calling
 * thread holds. A child keeps a copy of what is made beside its fork after that. */
static struct {
    tpool__lock_word lock;
    unsigned forks; /* under way */
} tpool__descriptors;
#define TPOOL__FORK_TAKES TPOOL_MS(200)

static void tpool__descriptors_lock(void) {
    int64_t deadline = tpool__deadline(TPOOL__FORK_TAKES);
    for (;;) {
        tpool__lock(&tpool__descriptors.lock);
        if (tpool__descriptors.forks == 0 || tpool__clock() >= deadline) return;
        tpool__unlock(&tpool__descriptors.lock);
        tpool__u32 nothing = 0;
        tpool__word_wait(&nothing, 0, 100000);
    }
}
static void tpool__descriptors_unlock(void) { tpool__unlock(&tpool__descriptors.lock); }
static void tpool__descriptors_fork(bool begins) {
    tpool__lock(&tpool__descriptors.lock);
    tpool__descriptors.forks = begins ? tpool__descriptors.forks + 1 : tpool__descriptors.forks - 1;
    tpool__unlock(&tpool__descriptors.lock);
}

/* The library's descriptors begin here, out of the way of the program's own, which take the lowest free numbers. In the
 * keeper, the server and the workers they lie above all that were open at create: there the program's code may go on to
 * use numbers that it believes to be its own (syslog's socket, a FILE), although they are closed. */
static int tpool__descriptors_from;
static int tpool__lowest_descriptor(void) {
    struct rlimit limit;
    int from = 512;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < 1024)
        from = (int)(limit.rlim_cur / 2);
    if (from < tpool__descriptors_from) from = tpool__descriptors_from;
    return from < 3 ? 3 : from;
}
/* Moves a descriptor there, if there is room. Else it stays where it is, but never at 0, 1 or 2. */
static int tpool__move_up(int fd) {
    int from = tpool__lowest_descriptor();
    if (fd >= 0 && fd < from) {
        int higher = fcntl(fd, F_DUPFD_CLOEXEC, from);
        if (higher < 0 && fd < 3) higher = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        if (higher >= 0 || fd < 3) {
            close(fd);
            fd = higher;
        }
    }
#if !defined(TPOOL__LINUX_PROCESSES) /* Linux makes them so */
    if (fd >= 0) fcntl(fd, F_SETFD, FD_CLOEXEC);
#endif
    return fd;
}
static void tpool__close(int *fd) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
}
/* -1: the system has none, or there is no such process. */
static int tpool__pidfd_open(pid_t pid) {
#if defined(SYS_pidfd_open) && TPOOL__SINCE_ANDROID(31)
    return tpool__move_up((int)syscall(SYS_pidfd_open, pid, 0u));
#else
    (void)pid;
    return -1;
#endif
}
static bool tpool__both(int ends[2], int failed) {
    ends[0] = failed ? -1 : tpool__move_up(ends[0]);
    ends[1] = failed ? -1 : tpool__move_up(ends[1]);
    if (ends[0] >= 0 && ends[1] >= 0) return true;
    tpool__close(&ends[0]);
    tpool__close(&ends[1]);
    return false;
}
static bool tpool__pipe(int ends[2]) {
#if defined(TPOOL__PIPE2)
    return tpool__both(ends, pipe2(ends, O_CLOEXEC));
#else
    return tpool__both(ends, pipe(ends));
#endif
}
static bool tpool__socket_pair(int ends[2]) {
#if defined(SOCK_CLOEXEC) && !defined(TPOOL__PLAIN_POSIX)
    bool made = tpool__both(ends, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends));
#else
    bool made = tpool__both(ends, socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
#endif
#if defined(SO_NOSIGPIPE) /* for systems without MSG_NOSIGNAL */
    int on = 1;
    for (int i = 0; made && i < 2; i++) (void)setsockopt(ends[i], SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on);
#endif
    return made;
}

/* A file that cannot be sealed: a worker that truncates it kills the program by SIGBUS. */
static inline int tpool__memory_file(void) {
    const char *own = getenv("TMPDIR"); /* NOLINT(concurrency-mt-unsafe): only read */
    const char *folders[] = { "/tmp", own ? own : "/var/tmp" };
    int fd = -1;
    for (int i = 0; i < 2 && fd < 0; i++) {
        char path[1024];
        if (snprintf(path, sizeof path, "%s/tpoolXXXXXX", folders[i]) >= (int)sizeof path) continue;
        fd = mkstemp(path); /* only its owner may open it, and its name goes at once */
        if (fd >= 0) unlink(path);
    }
    return tpool__move_up(fd);
}
/* Memory without a name. */
static int tpool__memory_create(void) {
    int fd = -1;
#if defined(SYS_memfd_create) && TPOOL__SINCE_ANDROID(30)
    fd = tpool__move_up((int)syscall(SYS_memfd_create, "tpool", 1u | 2u /* MFD_CLOEXEC, MFD_ALLOW_SEALING */));
    /* F_ADD_SEALS: F_SEAL_SHRINK and F_SEAL_SEAL. A worker that truncated it would kill the program by SIGBUS. */
    if (fd >= 0) fcntl(fd, 1033, 0x0001 | 0x0002);
    else if (errno != EMFILE && errno != ENFILE) fd = tpool__memory_file(); /* a sandbox forbids the system call */
#elif !defined(TPOOL__PLAIN_POSIX) && defined(MFD_ALLOW_SEALING) && defined(F_ADD_SEALS)
    fd = tpool__move_up(memfd_create("tpool", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (fd >= 0) fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK);
#else
    fd = tpool__memory_file();
#endif
    return fd;
}
/* Where the system does not keep a file's mappings and its reads and writes coherent, all access goes by mappings. */
#if defined(__OpenBSD__) && !defined(TPOOL__MAPPED_FILES)
#define TPOOL__MAPPED_FILES
#endif
#if defined(TPOOL__MAPPED_FILES)
/* Copies from a file to `to`, or from `from` to the file. Returns how many bytes, which may be fewer than `size`. */
static size_t tpool__file_move(int file, uint64_t at, char *to, const char *from, size_t size) {
    size_t before = (size_t)(at % TPOOL__PAGE_SIZE), most = ((size_t)16 << 20) - before;
    if (size > most) size = most;
    void *mapped = mmap(NULL, before + size, PROT_READ | PROT_WRITE, MAP_SHARED, file, (off_t)(at - before));
    if (mapped == MAP_FAILED) return 0;
    if (to) memcpy(to, (char *)mapped + before, size);
    else memcpy((char *)mapped + before, from, size);
    munmap(mapped, before + size);
    return size;
}
#endif
/* Writes to the shared file. This takes memory for exactly the bytes that exist. If the system has no memory, a write
 * fails, where a store into a mapping would be SIGBUS. Bytes that do not exist (EFAULT) take no memory. Every system
 * can do it. Returns how many bytes were written. */
static size_t tpool__file_write(int file, uint64_t at, const void *bytes, size_t size) {
    size_t written = 0;
    struct rlimit limit; /* a write beyond it is SIGXFSZ */
    bool limited = getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
    if (size > INT64_MAX - at || (limited && at + size > limit.rlim_cur) ||
        (sizeof(off_t) == 4 && at + size > INT32_MAX)) {
        errno = EFBIG;
        return 0;
    }
#if defined(TPOOL__MAPPED_FILES)
    struct stat is;
    if (fstat(file, &is) != 0) return 0;
    if ((uint64_t)is.st_size < at + size && ftruncate(file, (off_t)(at + size)) != 0) return 0;
    for (size_t part; written < size; written += part) {
        part = tpool__file_move(file, at + written, NULL, (const char *)bytes + written, size - written);
        if (part == 0) break;
    }
#else
    while (written < size) {
        size_t part = size - written < (size_t)1 << 30 ? size - written : (size_t)1 << 30; /* some systems' limit */
        ssize_t n = pwrite(file, (const char *)bytes + written, part, (off_t)(at + written));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        written += (size_t)n;
    }
#endif
    return written;
}
static bool tpool__file_fill(int file, uint64_t at, uint64_t end) {
    static const char zeros[4096];
    for (size_t part; at < end; at += part) {
        part = end - at < sizeof zeros ? (size_t)(end - at) : sizeof zeros;
        if (tpool__file_write(file, at, zeros, part) != part) return false;
    }
    return true;
}
static bool tpool__file_read(int file, uint64_t at, void *bytes, size_t size) {
    for (size_t got = 0; got < size;) {
#if defined(TPOOL__MAPPED_FILES)
        size_t part = tpool__file_move(file, at + got, (char *)bytes + got, NULL, size - got);
        if (part == 0) return false;
        got += part;
#else
        size_t part = size - got < (size_t)1 << 30 ? size - got : (size_t)1 << 30;
        ssize_t n = pread(file, (char *)bytes + got, part, (off_t)(at + got));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        got += (size_t)n;
#endif
    }
    return true;
}
/* Gives back the memory from `at` on. A sealed file keeps its length. */
static void tpool__file_release_from(int file, uint64_t at) {
#if defined(TPOOL__LINUX_PROCESSES) && defined(SYS_fallocate)
    struct stat is;
    if (fstat(file, &is) != 0 || (uint64_t)is.st_size <= at) return;
    enum { PUNCH_HOLE = 3 }; /* with FALLOC_FL_KEEP_SIZE */
    long from = (long)at, size = (long)((uint64_t)is.st_size - at), failed;
#if ULONG_MAX > UINT32_MAX
    failed = syscall(SYS_fallocate, file, PUNCH_HOLE, from, size);
#elif defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ /* each 64-bit argument in two words */
    failed = syscall(SYS_fallocate, file, PUNCH_HOLE, 0l, from, 0l, size);
#else
    failed = syscall(SYS_fallocate, file, PUNCH_HOLE, from, 0l, size, 0l);
#endif
    if (!failed) return;
#endif
    if (ftruncate(file, (off_t)at) != 0) return; /* sealed, and no hole is possible: it stays until the worker ends */
}

static void *tpool__map_part(int file, size_t from, size_t size) {
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, (off_t)from);
    return at == MAP_FAILED ? NULL : at;
}
/* Unmaps all behind the first `size` bytes. */
static void tpool__window_shrink(tpool__window *window, size_t size) {
    if (window->mapped <= size) return;
    munmap(window->bytes + size, window->mapped - size);
    window->mapped = size;
    if (size == 0) window->bytes = NULL;
}
/* Maps enough of a window for `size` bytes, whether or not they have memory. False: there are not enough addresses, and
 * the window stays as it was (empty, if even that cannot be mapped again). The file's contents stay. */
static bool tpool__window_map(int memory, tpool__window *window, size_t size) {
    size_t before = window->mapped;
    if (size <= before) return true;
    if (size > SIZE_MAX / 2) return false;
    size_t mapped = (size + TPOOL__PAGE_SIZE - 1) / TPOOL__PAGE_SIZE * TPOOL__PAGE_SIZE;
    char *bytes = (char *)tpool__map_part(memory, window->start, mapped);
    bool both = bytes || before == 0;
    if (!both) { /* a limit may have room for either mapping alone; if it has not, the old one must stay */
        void *more = tpool__map_part(memory, window->start + before, mapped - before);
        if (!more) return false;
        munmap(more, mapped - before);
        tpool__window_shrink(window, 0);
        bytes = (char *)tpool__map_part(memory, window->start, mapped);
    }
    bool grown = bytes != NULL;
    if (!grown && !both) bytes = (char *)tpool__map_part(memory, window->start, mapped = before);
    if (!bytes) return false;
    tpool__window_shrink(window, 0);
    window->bytes = bytes;
    window->mapped = mapped;
    return grown;
}
/* The same for bytes that have been written. What is mapped behind them gets memory too. */
static bool tpool__window_map_filled(int memory, tpool__window *window, size_t size) {
    size_t before = window->mapped;
    if (!tpool__window_map(memory, window, size)) return false;
    if (window->mapped == before ||
        tpool__file_fill(memory, (uint64_t)window->start + size, (uint64_t)window->start + window->mapped))
        return true;
    tpool__window_shrink(window, before);
    return false;
}
/* Copies bytes into a window: those before `held` into the mapping, the rest into the file. Returns how many. */
static size_t tpool__window_put(int memory, const tpool__window *window, size_t held, size_t at, const void *bytes,
                                size_t size) {
    size_t here = at >= held ? 0 : size < held - at ? size : held - at;
    if (here) memmove(window->bytes + at, bytes, here);
    if (here == size) return size;
    const char *rest = (const char *)bytes + here;
    return here + tpool__file_write(memory, (uint64_t)window->start + at + here, rest, size - here);
}
/* Reads all of it. False: the other side is gone. */
static bool tpool__read_all(int fd, void *bytes, size_t size) {
    while (size > 0) {
        ssize_t n = read(fd, bytes, size);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        bytes = (char *)bytes + n;
        size -= (size_t)n;
    }
    return true;
}
/* False: the other side is gone; with errno EAGAIN the pipe is full, which it never is while both take turns. */
static bool tpool__write_message(int fd, const tpool__message *message) {
    ssize_t n;
    do n = write(fd, message, sizeof *message);
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)sizeof *message;
}
/* The same on a thread of the program, where SIGPIPE is blocked. The signal must not stay pending there for the
 * program's code to find. */
static bool tpool__write_quietly(int fd, const tpool__message *message) {
    if (tpool__write_message(fd, message)) return true;
    int error = errno, number;
    sigset_t pipe, pending;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    if (error == EPIPE && sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE) == 1)
        (void)sigwait(&pipe, &number);
    errno = error;
    return false;
}
/* The time left, for poll: in milliseconds, rounded up, and capped. */
static int tpool__poll_time(int64_t deadline) {
    int64_t left = tpool_until(deadline);
    if (left == TPOOL_FOREVER) return -1;
    return left > TPOOL_SEC(1000) ? 1000000 : (int)((left + 999999) / 1000000);
}

/* Of a call that may not wait. The two numbers are one on most systems. */
static bool tpool__would_wait(int error) {
#if EAGAIN != EWOULDBLOCK
    if (error == EWOULDBLOCK) return true;
#endif
    return error == EAGAIN;
}
/* What poll would find in a socket: POLLIN, at its end POLLHUP too. No limit forbids this. Other files give 0. */
static short tpool__socket_look(int socket) {
    char byte;
    ssize_t n;
    if (socket < 0) return 0;
    do n = recv(socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n >= 0) return n > 0 ? POLLIN : POLLIN | POLLHUP;
    return tpool__would_wait(errno) || errno == ENOTSOCK ? 0 : POLLIN | POLLERR;
}
/* poll. The system refuses to look at more descriptors than RLIMIT_NOFILE allows, which may have been lowered since
 * they were opened (to 0, by a sandbox). Then this function looks at the sockets alone, for what there is to read, and
 * returns after a moment at the latest. 0 or less: the caller finds nothing in `revents`, and looks at the clock. */
static int tpool__poll(struct pollfd *polled, size_t count, int64_t deadline) {
    int ready = poll(polled, (nfds_t)count, tpool__poll_time(deadline));
    if (ready >= 0) return ready;
    bool refused = errno != EINTR;
    ready = 0;
    for (size_t i = 0; i < count; i++) {
        polled[i].revents = 0;
        if (refused && (polled[i].events & POLLIN)) polled[i].revents = tpool__socket_look(polled[i].fd);
        ready += polled[i].revents != 0;
    }
    struct timespec pause = { 0, 1000000 };
    if (refused && ready == 0 && tpool__clock() < deadline) nanosleep(&pause, NULL);
    return ready;
}

#if defined(MSG_NOSIGNAL)
#define TPOOL__NO_SIGNAL MSG_NOSIGNAL
#else
#define TPOOL__NO_SIGNAL 0
#endif

/* Sends without waiting. Either there is room for all that is ever sent so, or enough waits to be read already. */
static void tpool__send(int socket, const void *bytes, size_t size) {
    ssize_t n;
    do n = send(socket, bytes, size, TPOOL__NO_SIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
}

#define TPOOL__PASSED 4 /* descriptors that travel with an order: requests, replies, memory, status */
static bool tpool__send_order(int control, uint32_t index, const int fds[TPOOL__PASSED]) {
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(TPOOL__PASSED * sizeof(int))];
    } control_data;
    struct iovec bytes = { &index, sizeof index };
    struct msghdr message;
    memset(&message, 0, sizeof message);
    memset(&control_data, 0, sizeof control_data);
    message.msg_iov = &bytes;
    message.msg_iovlen = 1;
    message.msg_control = control_data.room;
    message.msg_controllen = sizeof control_data.room;
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(TPOOL__PASSED * sizeof(int));
    memcpy(CMSG_DATA(head), fds, TPOOL__PASSED * sizeof(int));
    ssize_t n;
    do n = sendmsg(control, &message, TPOOL__NO_SIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)sizeof index;
}
/* 1: received; 0: the program is gone; -1: nothing came, or the system refused its descriptors. */
static int tpool__receive_order(int control, uint32_t *index, int fds[TPOOL__PASSED]) {
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(TPOOL__PASSED * sizeof(int))];
    } control_data;
    struct iovec bytes = { index, sizeof *index };
    struct msghdr message;
    memset(&message, 0, sizeof message);
    message.msg_iov = &bytes;
    message.msg_iovlen = 1;
    message.msg_control = control_data.room;
    message.msg_controllen = sizeof control_data.room;
#if defined(TPOOL__LINUX_PROCESSES)
    ssize_t n = recvmsg(control, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
#else
    ssize_t n = recvmsg(control, &message, MSG_DONTWAIT);
#endif
    if (n == 0) return 0;
    if (n != (ssize_t)sizeof *index) return n < 0 && (errno == EAGAIN || errno == EINTR) ? -1 : n < 0 ? 0 : -1;
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    if (!head || head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) return -1;
    size_t count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < TPOOL__PASSED; i++) {
        fds[i] = -1;
        if (i < count) memcpy(&fds[i], CMSG_DATA(head) + i * sizeof(int), sizeof(int));
        fds[i] = tpool__move_up(fds[i]);
    }
    if (count == TPOOL__PASSED) return 1;
    for (size_t i = 0; i < TPOOL__PASSED; i++) tpool__close(&fds[i]);
    return -1;
}

/* --------------------------------------------------------------------------------------------------------------------
 *  stdout and stderr across fork. Only glibc frees their locks in the child. Elsewhere a child that is forked while
 *  another thread prints finds a lock that stays held for ever: that child ends, and the program forks again. No lock
 *  is held over the fork, since the program's fork handlers run there. The program alone writes what is in the buffers:
 *  the child discards it or, where that is impossible, the program writes it before the fork.
 * ----------------------------------------------------------------------------------------------------------------- */
static FILE *tpool__stream(int i) { return i == 0 ? stdout : stderr; }
/* Does not wait for a thread that holds the stream's lock. */
static void tpool__stream_flush(FILE *stream) {
    if (ftrylockfile(stream) != 0) return;
    fflush(stream);
    funlockfile(stream);
}
static bool tpool__streams_are_free(void) {
#if !defined(__GLIBC__)
    for (int i = 0; i < 2; i++) {
        if (ftrylockfile(tpool__stream(i)) != 0) return false;
        funlockfile(tpool__stream(i));
    }
#endif
    return true;
}
/* Waits until no thread holds a stream's lock. False: one held it for a second, and may be waiting for this thread. */
static bool tpool__streams_await(void) {
    int64_t until = tpool__deadline(TPOOL_SEC(1));
    bool are_free;
    tpool__u32 never;
    tpool__store_relaxed(&never, 0); /* relaxed: a local variable */
    while (!(are_free = tpool__streams_are_free()) && tpool__clock() < until)
        tpool__word_wait(&never, 0, TPOOL_US(20)); /* no cancellation point; not in step with the printing threads */
#if !defined(TPOOL__PURGE)
    for (int i = 0; i < 2; i++) tpool__stream_flush(tpool__stream(i));
#endif
    return are_free;
}
static bool tpool__streams_of_child(void) {
    if (!tpool__streams_are_free()) return false;
#if defined(TPOOL__PURGE)
    for (int i = 0; i < 2; i++) TPOOL__PURGE(tpool__stream(i));
#endif
    return true;
}

/* --------------------------------------------------------------------------------------------------------------------
 *  The worker process
 * ----------------------------------------------------------------------------------------------------------------- */
static TPOOL__NOINLINE void tpool__exit_child(int code) {
    tpool__stream_flush(stdout);
    tpool__stream_flush(stderr);
    _exit(code);
}
static void tpool__reply(tpool__message *reply, uint32_t kind) {
    reply->number = tpool__in_child.number;
    reply->kind = kind;
    /* fails when the task has closed it, or the program is gone */
    if (!tpool__write_message(tpool__in_child.replies, reply)) tpool__exit_child(1);
}
/* Maps a request's argument, and the place that the program has chosen for its result. Unmaps first what a rare large
 * one took. False: there are not enough addresses for the argument. */
static bool tpool__map_request(const tpool__message *request) {
    tpool__window *argument = &tpool__in_child.argument, *result = &tpool__in_child.result;
    if (argument->mapped > TPOOL__WINDOW_KEPT) tpool__window_shrink(argument, TPOOL__PAGE_SIZE);
    if (result->start != request->result_at) tpool__window_shrink(result, 0);
    else if (result->mapped > TPOOL__WINDOW_KEPT) tpool__window_shrink(result, TPOOL__PAGE_SIZE);
    result->start = (size_t)request->result_at;
    if (!tpool__window_map(tpool__in_child.memory, result, TPOOL__PAGE_SIZE) || request->size > SIZE_MAX / 2)
        return false;
    if (tpool__window_map(tpool__in_child.memory, argument, (size_t)request->size)) return true;
    tpool__window_shrink(result, TPOOL__PAGE_SIZE);
    return tpool__window_map(tpool__in_child.memory, argument, (size_t)request->size);
}

/* Swaps this process's limits with `limits`, as far as the system permits. True: one of them differed. */
static bool tpool__limits_exchange(struct rlimit limits[TPOOL__LIMITS]) {
    bool changed = false;
    for (int i = 0; i < TPOOL__LIMITS; i++) {
        struct rlimit before, *to = &limits[i];
        if (tpool__limit_get(i, &before) != 0) continue;
        if (before.rlim_cur == to->rlim_cur && before.rlim_max == to->rlim_max) continue;
        if (tpool__limit_set(i, to) != 0) { /* a hard limit was lowered, which is for ever */
            struct rlimit most = { to->rlim_cur < before.rlim_max ? to->rlim_cur : before.rlim_max, before.rlim_max };
            (void)tpool__limit_set(i, &most);
        }
        *to = before;
        changed = true;
    }
    return changed;
}
static char *tpool__try_put_in_child(const void *bytes, size_t size) {
    tpool__window *window = &tpool__in_child.result;
    size_t at = tpool__in_child.base, held = window->mapped, end = at + size + (size == 0);
    int memory = tpool__in_child.memory;
    if (size > SIZE_MAX / 4 || !tpool__window_map(memory, window, end)) return NULL;
    size_t put = tpool__window_put(memory, window, held, at, bytes, size);
    if (put < size && errno == EFAULT) { /* no such bytes exist: crash, as a copy in the program would */
        const volatile char *read = (const volatile char *)bytes;
        for (; put < size; put += 4096) (void)read[put];
        (void)read[size - 1];
        put = 0;
    }
    uint64_t start = window->start;
    if (put == size && (window->mapped == held || tpool__file_fill(memory, start + end, start + window->mapped)))
        return window->bytes + at;
    tpool__window_shrink(window, held);
    tpool__file_release_from(memory, (uint64_t)window->start + held);
    return NULL;
}
/* Lets the program write the bytes into the file, piece by piece. Each piece but the first passes through what is
 * mapped from `base` on; the first stays there. This takes no memory, no addresses and no right to write to files. */
static bool tpool__put_by_program(const char *bytes, size_t size) {
    const tpool__window *window = &tpool__in_child.result;
    size_t base = tpool__in_child.base;
    if (window->mapped <= base) return false;
    size_t room = window->mapped - base < TPOOL__PAGE_SIZE ? window->mapped - base : TPOOL__PAGE_SIZE;
    for (size_t at = room, part; at < size; at += part) {
        tpool__message message;
        part = size - at < room ? size - at : room;
        memcpy(window->bytes + base, bytes + at, part);
        memset(&message, 0, sizeof message);
        message.from = base;
        message.to = base + at;
        message.size = TPOOL__ROUND_UP(part);
        tpool__reply(&message, TPOOL__PIECE);
        if (!tpool__read_all(tpool__in_child.requests, &message, sizeof message)) tpool__exit_child(1);
        if (!message.count) return false;
    }
    memcpy(window->bytes + base, bytes, size < room ? size : room);
    return true;
}
/* Copies bytes to `base` in the result's window, and gives their address. NULL: memory or addresses are missing; what
 * is in the window before `base` stays, where the program looks for it. Limits that this task or an earlier one has set
 * do not apply to results: this function lifts them meanwhile. If the system does not allow that (a lower hard limit),
 * the program stores the bytes, and their address is that of the original. (To check after each task whether it has set
 * any would cost a quarter of a round trip, where a system call takes 1 us.) */
static const char *tpool__put_in_child(const void *bytes, size_t size) {
    struct rlimit limits[TPOOL__LIMITS];
    const char *place = tpool__try_put_in_child(bytes, size);
    if (place) return place;
    /* this task or an earlier item of its chunk has closed the memory: no result has room any more */
    if (fcntl(tpool__in_child.memory, F_GETFD) < 0) tpool__exit_child(1);
    memcpy(limits, tpool__in_child.limits, sizeof limits);
    if (!tpool__limits_exchange(limits)) return NULL;
    place = tpool__try_put_in_child(bytes, size);
    (void)tpool__limits_exchange(limits);
    if (place) return place;
    tpool__in_child.is_spent = true;
    return tpool__put_by_program((const char *)bytes, size) ? (const char *)bytes : NULL;
}

/* tpool_return and tpool_return_owned in a task of this worker process. */
static inline bool tpool__is_in_child(const tpool_future *task) {
    return tpool__in_child.task && task == tpool__in_child.task && *tpool__in_child.is_original;
}
static void *tpool__return_in_child(const void *bytes, size_t size) {
    const char *place = tpool__put_in_child(bytes, size);
    if (!place) {
        (void)tpool__set_outcome(tpool__in_child.task, tpool__fixed(TPOOL__OUT_OF_MEMORY));
        return NULL;
    }
    if (tpool__load_acquire(&tpool__in_child.task->outcome)) /* P9: a loop's body may have left another payload */
        tpool__outcome_free(tpool__outcome_take(tpool__in_child.task));
    tpool__in_child.returned = size;
    tpool__in_child.returned_at = place;
    tpool__in_child.has_returned = true;
    return (void *)(uintptr_t)place;
}
static bool tpool__give_back_in_child(const tpool_future *task, const void *bytes, size_t size, void **payload) {
    if (!tpool__is_in_child(task)) return false;
    *payload = tpool__return_in_child(bytes, size);
    return true;
}
static bool tpool__should_stop_in_child(const tpool_future *task) {
    /* relaxed: a flag */
    return tpool__is_in_child(task) && tpool__load_relaxed(&tpool__in_child.page->stop) == tpool__in_child.number;
}

/* Makes the answer of the task or item that has just ended, in the message or (NULL) before the bytes, which are at
 * `base` in the result's window. It writes the answer in place, field by field: a copy of the whole, right after its
 * fields were written, would wait for these stores (13 ns). */
static const tpool__answer *tpool__answer_in_child(void *value, tpool__answer *answer) {
    uint64_t size = 0;
    uint32_t kind = TPOOL__A_VALUE;
    int32_t code = 0;
    tpool__outcome *outcome = NULL;
    if (tpool__load_acquire(&tpool__in_child.task->outcome)) /* P9 */
        outcome = tpool__outcome_take(tpool__in_child.task);
    if (outcome && outcome->kind == TPOOL__BYTES) { /* a loop's body returned it */
        if (tpool__return_in_child(outcome->payload, outcome->size) && value == outcome->payload)
            value = (void *)(uintptr_t)tpool__in_child.returned_at;
        tpool__outcome_free(outcome);
        outcome = tpool__outcome_take(tpool__in_child.task);
    } else if (outcome && outcome->kind == TPOOL__OWNED) {
        tpool__outcome_free(outcome);
        outcome = tpool__fixed(TPOOL__OWNED_ELSEWHERE);
    }
    if (outcome) {
        const char *message = outcome->error.message;
        size = strlen(message);
        kind = tpool__put_in_child(message, (size_t)size) ? TPOOL__AN_ERROR : TPOOL__NO_ROOM;
        if (kind == TPOOL__NO_ROOM) size = 0;
        value = NULL;
        code = outcome->error.code;
        tpool__outcome_free(outcome);
    } else if (tpool__in_child.has_returned) {
        uintptr_t offset = (uintptr_t)value - (uintptr_t)tpool__in_child.returned_at;
        bool within = value && offset <= tpool__in_child.returned;
        kind = within ? TPOOL__BYTES_AT : TPOOL__SOME_BYTES;
        if (within) value = (void *)offset;
        size = tpool__in_child.returned;
    }
    if (!answer)
        answer = (tpool__answer *)(void *)(tpool__in_child.result.bytes + tpool__in_child.base - TPOOL__ANSWER_ROOM);
    answer->value = (uint64_t)(uintptr_t)value;
    answer->kind = kind;
    answer->code = code;
    answer->size = size;
    return answer;
}

/* The program's function, or those of a chunk's items, run between these two. A process that such a function forks ends
 * when it returns. */
static tpool__context *tpool__begin_in_child(tpool__thread *self, void *arg, size_t size) {
    tpool__task_init(&tpool__in_child.own, NULL, NULL, arg, &tpool__in_child.extra,
                     TPOOL__PHASE_RUNNING | TPOOL__END_RELEASED | TPOOL__REFERENCE);
    tpool__in_child.extra.arg_size = size;
    tpool__in_child.has_returned = false;
    tpool__context *context = tpool__context_push(self, TPOOL__IN_TASK, NULL);
    context->task = &tpool__in_child.own; /* a task that ends the thread ends the process */
    return context;
}
/* If the program's function has forked, and this is the child, the process ends. Fork handlers do not run for _Fork or
 * the bare system call, so that the contexts alone do not tell: two processes would read the requests. */
static inline void tpool__end_if_forked(const tpool__thread *self, const tpool__context *context) {
    if (self->context != context || !*tpool__in_child.is_original) _exit(0);
}
static inline void tpool__end_in_child(tpool__thread *self, const tpool__context *context) {
    tpool__end_if_forked(self, context);
    if (!TPOOL__LIKELY(!self->stop_calls)) tpool__stop_calls_end(self, context); /* each item has its own */
#if defined(__linux__)
    if (__fpending(stdout) > 0) tpool__stream_flush(stdout); /* a later task may crash */
#else
    tpool__stream_flush(stdout);
#endif
}

static void tpool__execute_in_child(const tpool__message *request) {
    tpool__thread *self = tpool__self();
    tpool__message reply;
    tpool_fn fn = (tpool_fn)(uintptr_t)request->fn;
    void *arg = request->arg ? tpool__in_child.argument.bytes : NULL;
    memset(&reply, 0, sizeof reply);
    tpool__in_child.base = 0;
    tpool__context *context = tpool__begin_in_child(self, arg, (size_t)request->size);
    if (!tpool__page_claim(&tpool__in_child.page->begun, request->number - 1, request->number)) tpool__exit_child(1);
    void *value = fn(arg);
    tpool__end_in_child(self, context);
    tpool__context_pop(self, context);
    (void)tpool__answer_in_child(value, &reply.answer);
    reply.size = tpool__in_child.result.mapped;
    tpool__reply(&reply, TPOOL__DONE);
}

/* Executes a chunk of a map. The answers follow each other in the result's window and are counted in the page, where
 * the program finds those of the items that are done, even if the next item kills the process. False: limits that an
 * item has set for ever leave no room for results; another process executes the rest. */
typedef void *(*tpool__item_fn)(void *item, void *context);
static bool tpool__execute_items_in_child(const tpool__message *request) {
    tpool__thread *self = tpool__self();
    tpool__message message;
    tpool__page *page = tpool__in_child.page;
    char *items = tpool__in_child.argument.bytes;
    void *map_context = request->context_size ? items : NULL;
    size_t used = 0;
    uint32_t done = 0;
    if (items) items += TPOOL__ROUND_UP((size_t)request->context_size);
    tpool__item_fn fn = (tpool__item_fn)(uintptr_t)request->fn;
    tpool__context *context = tpool__begin_in_child(self, NULL, 0);
    for (uint64_t i = 0; i < request->count; i++) {
        if (tpool__load_relaxed(&page->cut) == request->number) break; /* relaxed: a flag */
        if (done > 0 && used + TPOOL__ANSWER_ROOM + 256 > tpool__in_child.result.mapped) {
            memset(&message, 0, sizeof message);
            tpool__reply(&message, TPOOL__ITEMS_FULL);
            if (!tpool__read_all(tpool__in_child.requests, &message, sizeof message)) tpool__exit_child(1);
            used = done = 0;
        }
        tpool__in_child.base = used + TPOOL__ANSWER_ROOM;
        if (!tpool__page_claim(&page->items_begun, done, done + 1)) tpool__exit_child(1);
        void *value = fn(request->item_size ? items + i * request->item_size : NULL, map_context);
        tpool__end_in_child(self, context);
        /* P9: threads that raised or returned for the item have been joined, so one look shows whether any has */
        if (TPOOL__LIKELY(!tpool__in_child.has_returned && !tpool__load_acquire(&tpool__in_child.own.outcome))) {
            tpool__answer *answer = (tpool__answer *)(void *)(tpool__in_child.result.bytes + used);
            answer->value = (uint64_t)(uintptr_t)value;
            answer->kind = TPOOL__A_VALUE;
            used += TPOOL__PLAIN_ANSWER;
        } else {
            const tpool__answer *answer = tpool__answer_in_child(value, NULL);
            used += answer->kind == TPOOL__A_VALUE ? TPOOL__PLAIN_ANSWER
                                                   : TPOOL__ANSWER_ROOM + TPOOL__ROUND_UP((size_t)answer->size);
            tpool__in_child.has_returned = false;
        }
        tpool__page_write(page, ++done, used);
        if (!TPOOL__LIKELY(!tpool__in_child.is_spent)) break;
    }
    tpool__context_pop(self, context);
    if (tpool__in_child.is_spent) return false;
    memset(&message, 0, sizeof message);
    message.size = tpool__in_child.result.mapped;
    tpool__reply(&message, TPOOL__DONE);
    return true;
}

static tpool *tpool__child_pool; /* as it was when the pool was created */
static void tpool__end_with_server(pid_t server);

static void tpool__finalize_in_child(tpool__thread *self, const tpool_config *config) {
    if (!config->finalizer || !tpool__in_child.must_finalize) return;
    tpool__in_child.must_finalize = false; /* it may end the thread */
    tpool__context *context = tpool__context_push(self, TPOOL__IN_SETUP, NULL);
    config->finalizer(config->context);
    tpool__end_if_forked(self, context);
    tpool__context_pop(self, context);
}

static void *tpool__child_main(void *unused) {
    const tpool_config *config = &tpool__child_pool->config;
    tpool__thread *self = tpool__self();
    tpool__message message;
    (void)unused;
    memset(&message, 0, sizeof message);
    tpool__in_child.thread = self;
    tpool__float_default();
    (void)tpool__arm(self);
    tpool__context *context = tpool__context_push(self, TPOOL__IN_SETUP, NULL);
    bool ready = !config->initializer || config->initializer(config->context);
    tpool__end_if_forked(self, context);
    tpool__context_pop(self, context);
    if (config->initializer) tpool__end_with_server(tpool__in_child.server); /* it may have changed credentials */
    for (int i = 0; i < TPOOL__LIMITS; i++) (void)tpool__limit_get(i, &tpool__in_child.limits[i]);
    bool has_run = false;
    tpool__in_child.must_finalize = ready;
    tpool__reply(&message, ready ? TPOOL__READY : TPOOL__UNREADY);
    while (ready && tpool__read_all(tpool__in_child.requests, &message, sizeof message)) {
        tpool__in_child.number = message.number;
        TPOOL__PROCESS_POINT(message.kind);
        if (message.kind == TPOOL__END) { /* before any mapping: it brings no bytes, and addresses may be missing */
            tpool__finalize_in_child(self, config);
            tpool__stream_flush(stdout);
            tpool__stream_flush(stderr);
            memset(&message, 0, sizeof message);
            tpool__reply(&message, TPOOL__DONE);
            break;
        }
        bool fits = !tpool__in_child.is_spent && tpool__map_request(&message), goes_on = fits || !has_run;
        if (!fits && goes_on) {
            tpool__reply(&message, TPOOL__TOO_LARGE);
        } else if (fits && message.kind == TPOOL__RUN) {
            has_run = true;
            tpool__execute_in_child(&message);
        } else if (fits && message.kind == TPOOL__RUN_ITEMS) {
            has_run = true;
            goes_on = tpool__execute_items_in_child(&message);
        }
        if (goes_on) continue;
        tpool__finalize_in_child(self, config); /* tasks have used up the room, or set limits: a new process goes on */
        break;
    }
    tpool__exit_child(0);
    return NULL;
}

/* A task has ended this process's thread: that ends the process, after its finalizer, which may end the thread again.
 * Before the finalizer uses the stack that the task has left, threads that still use it must leave it too: those of a
 * pool of the task's own. A process forked by bare system calls has this thread, and is no worker. */
static void tpool__thread_ends_in_child(tpool__thread *self) {
    if (!tpool__in_child.task || tpool__in_child.thread != self) return;
    if (!*tpool__in_child.is_original) _exit(0);
    tpool__stack_left();
    tpool__stop_calls_left(self);
    self->callers = self->freeing = self->nested = 0;
    self->caller_pool = NULL;
    (void)tpool__arm(self);
    tpool__leave_contexts(self, false);
    tpool__finalize_in_child(self, &tpool__child_pool->config);
    tpool__exit_child(0);
}

/* In a process that a worker process has forked: it is no worker. */
static void tpool__forget_child(void) {
    if (!tpool__in_child.task) return;
    close(tpool__in_child.requests);
    close(tpool__in_child.replies);
    close(tpool__in_child.memory);
    memset(&tpool__in_child, 0, sizeof tpool__in_child); /* the mappings stay: the argument may be in use */
}

/* --------------------------------------------------------------------------------------------------------------------
 *  The keeper and the server
 * ----------------------------------------------------------------------------------------------------------------- */
typedef struct tpool__served {
    pid_t pid;
    int status, replies; /* status -1: the proxy has closed its end; both -1: given up */
    int32_t stopped;
} tpool__served;

/* The state of the keeper and of the server. */
static struct {
    int control, program;         /* program: the pidfd; -1: the system has no pidfds */
    int children, children_write; /* a pipe: the handler of SIGCHLD writes to it */
    tpool__life *life;
    tpool__served *served;
    struct pollfd *polled;
    size_t count, room;
    int highest; /* of its descriptors: so a child need not close every possible number */
} tpool__serving;

static void tpool__on_child(int number) {
    int saved = errno;
    char byte = (char)number;
    ssize_t n;
    do n = write(tpool__serving.children_write, &byte, 1); /* when it is full, the reader will look anyway */
    while (n < 0 && errno == EINTR);
    errno = saved;
}

/* Closes all descriptors up to `highest`, except the standard ones and those in `keep`, which it sorts. */
static void tpool__close_others(int *keep, size_t count, int highest) {
    for (size_t i = 1; i < count; i++)
        for (size_t j = i; j > 0 && keep[j - 1] > keep[j]; j--) {
            int swapped = keep[j];
            keep[j] = keep[j - 1];
            keep[j - 1] = swapped;
        }
    int first = 3, end = highest + 1;
    for (size_t i = 0; i <= count; i++) {
        int next = i < count ? keep[i] : end; /* close what lies before it */
        if (next < first) continue;
        bool closed = false;
#if defined(SYS_close_range) && TPOOL__SINCE_ANDROID(34)
        unsigned last = i < count ? (unsigned)next - 1 : ~0u;
        closed = next == first || syscall(SYS_close_range, (unsigned)first, last, 0u) == 0;
#endif
        for (int fd = first; !closed && fd < next; fd++) close(fd);
        first = next + 1;
    }
}
/* The system refuses this process what it needs to begin. It ends as if killed for lack of memory: so the proxy does
 * not take it for a failed initializer, and tries again (tpool__child_await_ready). */
static _Noreturn void tpool__refuse_in_child(void) {
    for (;;) (void)raise(SIGKILL);
}

/* Closes all but the standard descriptors, `own`, and the configuration's. A worker has few, since its server has. */
static void tpool__close_inherited(const tpool_config *config, const int *own, size_t own_count, int highest) {
    enum { FEW = 32 };
    int few[FEW], *keep = few;
    size_t count = own_count + config->descriptor_count;
    if (count > FEW) keep = TPOOL_MALLOC(count * sizeof *keep);
    if (!keep) {
        tpool__refuse_in_child();
        return;
    }
    memcpy(keep, own, own_count * sizeof *keep);
    if (config->descriptor_count)
        memcpy(keep + own_count, config->descriptors, config->descriptor_count * sizeof *keep);
    tpool__close_others(keep, count, highest);
    if (keep != few) TPOOL_FREE(keep);
}

static void tpool__note_descriptors(const int *fds, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (fds[i] > tpool__serving.highest) tpool__serving.highest = fds[i];
}

/* The highest descriptor that is open in this process. No other thread of it may open any. */
static int tpool__highest_descriptor(void) {
    struct rlimit limit;
    int end = 65536, highest = 2;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < (rlim_t)end) end = (int)limit.rlim_cur;
#if defined(TPOOL__LINUX_PROCESSES)
    char text[4096];
    int status = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    ssize_t size = status < 0 ? -1 : read(status, text, sizeof text - 1);
    if (status >= 0) close(status);
    text[size < 0 ? 0 : size] = 0;
    const char *slots = strstr(text, "FDSize:");
    if (slots) end = (int)strtol(slots + 7, NULL, 10); /* the limit may have been lowered since */
#endif
    for (int fd = 3; fd < end; fd++)
        if (fcntl(fd, F_GETFD) >= 0) highest = fd;
    return highest;
}

/* As after exec: signals that were caught get their default action, ignored ones stay ignored, except SIGCHLD. Called
 * before any signal is unblocked. */
static void tpool__signals_to_default(void) {
    for (int number = 1; number < 65; number++) {
        struct sigaction action;
        if (number == SIGKILL || number == SIGSTOP || sigaction(number, NULL, &action) != 0) continue;
        if (action.sa_handler == SIG_DFL || (action.sa_handler == SIG_IGN && number != SIGCHLD)) continue;
        memset(&action, 0, sizeof action);
        action.sa_handler = SIG_DFL;
        sigaction(number, &action, NULL);
    }
}

/* Asks the kernel to kill this process with the server. A change of credentials undoes it, as in an initializer. */
static void tpool__end_with_server(pid_t server) {
#if defined(TPOOL__LINUX_PROCESSES)
    prctl(PR_SET_PDEATHSIG, (unsigned long)SIGKILL, 0ul, 0ul, 0ul);
#endif
    if (getppid() != server) _exit(1); /* the server died before that call */
}
/* When the system runs out of memory, it kills a worker rather than the program: that costs one task. */
static void tpool__offer_to_be_killed(void) {
#if defined(__linux__)
    int file = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (file < 0) return;
    ssize_t n;
    do n = write(file, "1000", 4);
    while (n < 0 && errno == EINTR);
    close(file);
#endif
}

/* A word that is 1, and that a forked process finds to be 0. Systems that cannot do that let every process find 1. */
static const volatile uint32_t *tpool__word_of_this_process(void) {
    static const uint32_t always = 1;
    uint32_t *word = NULL;
#if defined(TPOOL__LINUX_PROCESSES) && defined(MADV_WIPEONFORK)
    void *page = mmap(NULL, sizeof *word, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page != MAP_FAILED && madvise(page, sizeof *word, MADV_WIPEONFORK) == 0) word = (uint32_t *)page;
    else if (page != MAP_FAILED) munmap(page, sizeof *word);
#endif
    if (!word) return &always;
    *word = 1;
    return word;
}

/* Becomes a worker; never returns. */
static void tpool__become_worker(tpool *pool, pid_t server, uint32_t index, int fds[TPOOL__PASSED]) {
    tpool__in_child.requests = fds[0];
    tpool__in_child.replies = fds[1];
    tpool__in_child.memory = fds[2];
    tpool__in_child.server = server;
    (void)setpgid(0, 0); /* killed with what it starts; a signal to its group reaches no other worker */
    tpool__end_with_server(server);
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = SIG_DFL;
    sigaction(SIGCHLD, &action, NULL);
    (void)munmap((void *)tpool__serving.life, sizeof *tpool__serving.life);
    tpool__close_inherited(&pool->config, fds, 3, tpool__serving.highest);
    tpool__thread_name(pool->name, (int)index);
    tpool__offer_to_be_killed();
    /* maps all that small requests need, before an initializer can set limits */
    tpool__in_child.page = (tpool__page *)tpool__map_part(tpool__in_child.memory, 0, TPOOL__PAGE_SIZE);
    tpool__in_child.is_original = tpool__word_of_this_process();
    tpool__in_child.argument.start = TPOOL__PAGE_SIZE;
    tpool__in_child.result.start = 2 * TPOOL__PAGE_SIZE;
    if (!tpool__in_child.page ||
        !tpool__window_map(tpool__in_child.memory, &tpool__in_child.argument, TPOOL__PAGE_SIZE) ||
        !tpool__window_map(tpool__in_child.memory, &tpool__in_child.result, TPOOL__PAGE_SIZE))
        tpool__refuse_in_child();
    tpool__in_child.task = &tpool__in_child.own;
    tpool__process.works_for = &tpool__processes;
    tpool__child_pool = pool;
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL); /* NOLINT(concurrency-mt-unsafe): a process of one thread */
    (void)tpool__child_main(NULL);
}

static void tpool__notify_proxy(int status, int32_t kind, int32_t how, int32_t stopped) {
    tpool__notice notice = { kind, how, stopped };
    if (status >= 0) tpool__send(status, &notice, sizeof notice); /* two per worker: there is room */
}

static bool tpool__serving_room(void) {
    if (tpool__serving.count < tpool__serving.room) return true;
    size_t room = tpool__serving.room ? 2 * tpool__serving.room : 16;
    tpool__served *served = TPOOL_MALLOC(room * sizeof *served);
    struct pollfd *polled = TPOOL_MALLOC((room + 3) * sizeof *polled);
    if (!served || !polled) {
        TPOOL_FREE(served);
        TPOOL_FREE(polled);
        return false;
    }
    if (tpool__serving.count) memcpy(served, tpool__serving.served, tpool__serving.count * sizeof *served);
    if (tpool__serving.served) TPOOL_FREE(tpool__serving.served);
    if (tpool__serving.polled) TPOOL_FREE(tpool__serving.polled);
    tpool__serving.served = served;
    tpool__serving.polled = polled;
    tpool__serving.room = room;
    return true;
}

/* The server's part of tpool__life (relaxed: see there). It lists a worker's number as long as that is a child. */
static void tpool__beat(void) { tpool__add_relaxed(&tpool__serving.life->beats, 1); }
static void tpool__note_worker(size_t i) {
    tpool__life *life = tpool__serving.life;
    if (i < tpool__serving.count && i < TPOOL__LIFE_WORKERS)
        tpool__store_relaxed(&life->pids[i], (uint32_t)tpool__serving.served[i].pid);
    tpool__store_relaxed(&life->workers, (uint32_t)tpool__serving.count);
}

static void tpool__serve_order(tpool *pool, uint32_t index, int fds[TPOOL__PASSED]) {
    pid_t server = getpid(), pid = -1;
    int error = ENOMEM;
    tpool__note_descriptors(fds, TPOOL__PASSED);
    struct pollfd proxy = { fds[3], 0, 0 };
    if (poll(&proxy, 1, 0) > 0 && proxy.revents & POLLHUP) { /* it has given the process up */
        for (int i = 0; i < TPOOL__PASSED; i++) tpool__close(&fds[i]);
        return;
    }
    if (tpool__serving_room()) {
        pid = TPOOL__FORK();
        if (pid == 0) tpool__become_worker(pool, server, index, fds);
        error = errno;
    }
    close(fds[0]);
    close(fds[2]);
    if (pid < 0) {
        tpool__notify_proxy(fds[3], TPOOL__NOT_FORKED, error, 0);
        close(fds[1]);
        close(fds[3]);
        return;
    }
    (void)setpgid(pid, pid); /* the worker does so too: the first of the two counts */
    tpool__served *served = &tpool__serving.served[tpool__serving.count++];
    served->pid = pid;
    served->replies = fds[1];
    served->status = fds[3];
    served->stopped = 0;
    tpool__note_worker(tpool__serving.count - 1);
    tpool__notify_proxy(served->status, TPOOL__FORKED, (int32_t)pid, 0);
}

/* Kills a worker with all that it has started and that has not left its group. The caller's child, which it has not
 * reaped: so the number still is the worker's and its group's. False: the system does not permit it, since the worker
 * has become another user, as a set-uid program does. (A zombie may not be killed either; some systems say ESRCH.) */
static bool tpool__kill_worker(pid_t pid) {
    siginfo_t end;
    (void)kill(-pid, SIGKILL);
    if (kill(pid, SIGKILL) == 0 || errno == ESRCH) return true; /* it may have changed its group */
    memset(&end, 0, sizeof end);
    return waitid(P_PID, (id_t)pid, &end, WEXITED | WNOHANG | WNOWAIT) != 0 || end.si_pid == pid;
}

/* Sends the last notice about a worker. The proxy gets it twice: as a notice, and as a message on the replies socket,
 * where it waits. The end of that socket would not do, since a process that the task has left behind may hold it open.
 * A worker that was given up stays listed until it has ended by itself; its proxy goes on with another. */
static void tpool__serve_last(tpool__served *served, int32_t kind, int how) {
    tpool__message message;
    if (served->replies < 0) return;
    memset(&message, 0, sizeof message);
    message.kind = TPOOL__GONE;
    tpool__notify_proxy(served->status, kind, how, served->stopped);
    tpool__close(&served->status);
    (void)tpool__write_message(served->replies, &message); /* when it is full, there is something to read */
    tpool__close(&served->replies);
}
static void tpool__serve_kill(tpool__served *served) {
    if (!tpool__kill_worker(served->pid)) tpool__serve_last(served, TPOOL__GIVEN_UP, 0);
}
static void tpool__serve_end(tpool__served *served, int how) {
    tpool__serve_last(served, TPOOL__ENDED, how);
    *served = tpool__serving.served[--tpool__serving.count];
    tpool__note_worker((size_t)(served - tpool__serving.served));
}

/* Handles all changes of the server's children. It kills a stopped worker, since nothing would ever continue it. It
 * kills the group that a worker leaves behind which did not exit with 0, before the number can be another's. */
static void tpool__reap(void) {
    for (;;) {
        siginfo_t change;
        int how;
        memset(&change, 0, sizeof change);
        if (waitid(P_ALL, 0, &change, WEXITED | WSTOPPED | WNOHANG | WNOWAIT) != 0 || change.si_pid <= 0) return;
        pid_t pid = change.si_pid;
        bool stopped = change.si_code == CLD_STOPPED;
        size_t i = 0;
        while (i < tpool__serving.count && tpool__serving.served[i].pid != pid) i++;
        if (i < tpool__serving.count && stopped) tpool__serving.served[i].stopped = change.si_status;
        if (i < tpool__serving.count && (stopped || change.si_code != CLD_EXITED || change.si_status != 0))
            tpool__serve_kill(&tpool__serving.served[i]);
        if (waitpid(pid, &how, WNOHANG | WUNTRACED) != pid || i == tpool__serving.count) continue;
        if (!WIFSTOPPED(how)) tpool__serve_end(&tpool__serving.served[i], how);
        tpool__beat();
    }
}

/* The program or its pool is gone: so the server ends, with all its workers that it may kill. */
static void tpool__end_serving(void) {
    for (size_t i = 0; i < tpool__serving.count; i++) {
        tpool__served *served = &tpool__serving.served[i];
        if (!tpool__kill_worker(served->pid)) served->pid = -1;
    }
    for (size_t i = 0; i < tpool__serving.count; i++)
        while (tpool__serving.served[i].pid > 0 && waitpid(tpool__serving.served[i].pid, NULL, 0) < 0 &&
               errno == EINTR) { }
    _exit(0);
}

static bool tpool__has_ended(const struct pollfd *polled) {
    return (polled->revents & (POLLHUP | POLLERR | POLLNVAL)) != 0;
}
static void tpool__drain_children(void) {
    char bytes[64];
    while (read(tpool__serving.children, bytes, sizeof bytes) > 0) { }
}

/* A proxy's bytes to the server on the status socket. The socket's end means KILL_IT too. */
enum { TPOOL__KILL_IT = 'K', TPOOL__ARE_YOU_THERE = '?' };

static void tpool__serve(tpool *pool) {
    pid_t self = getpid();
    tpool__send(tpool__serving.control, &self, sizeof self);
    for (;;) {
        struct pollfd *polled = tpool__serving.polled;
        size_t count = tpool__serving.count;
        polled[0] = (struct pollfd){ tpool__serving.control, POLLIN, 0 };
        polled[1] = (struct pollfd){ tpool__serving.children, POLLIN, 0 };
        polled[2] = (struct pollfd){ tpool__serving.program, POLLIN, 0 };
        for (size_t i = 0; i < count; i++)
            polled[3 + i] = (struct pollfd){ tpool__serving.served[i].status, POLLIN, 0 };
        if (tpool__poll(polled, 3 + count, TPOOL_FOREVER) <= 0) polled[1].revents = POLLIN; /* it was SIGCHLD */
        tpool__beat();
        if (tpool__has_ended(&polled[0]) || (polled[2].fd >= 0 && polled[2].revents)) tpool__end_serving();
        for (size_t i = 0; i < count; i++) { /* before tpool__reap, which moves entries */
            tpool__served *served = &tpool__serving.served[i];
            char byte = TPOOL__KILL_IT;
            if (!polled[3 + i].revents) continue;
            if (recv(served->status, &byte, 1, MSG_DONTWAIT) <= 0) tpool__close(&served->status);
            if (byte == TPOOL__KILL_IT) tpool__serve_kill(served);
        }
        if (polled[1].revents) {
            tpool__drain_children();
            tpool__reap();
        }
        if (polled[0].revents & POLLIN) {
            uint32_t index;
            int fds[TPOOL__PASSED], got = tpool__receive_order(tpool__serving.control, &index, fds);
            if (got == 0) tpool__end_serving();
            if (got > 0) tpool__serve_order(pool, index, fds);
            tpool__beat();
        }
    }
}

/* Makes what the keeper and each server need for themselves. */
static bool tpool__serving_prepare(void) {
    int ends[2];
    if (!tpool__pipe(ends)) return false;
    tpool__note_descriptors(ends, 2);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    fcntl(ends[1], F_SETFL, O_NONBLOCK);
    tpool__serving.children = ends[0];
    tpool__serving.children_write = ends[1];
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = tpool__on_child;
    action.sa_flags = SA_RESTART;
    sigaction(SIGCHLD, &action, NULL);
    sigset_t all;
    sigfillset(&all);
    sigdelset(&all, SIGCHLD);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    return true;
}

/* Forks a server. Returns its number, or -1. */
enum { TPOOL__NOT_PREPARED = 1 }; /* its exit code if the system refuses it what it needs */
static pid_t tpool__keeper_forks(tpool *pool, int keeper) {
    tpool__life *life = tpool__serving.life;
    tpool__store_relaxed(&life->workers, 0); /* relaxed, all four: see tpool__life */
    pid_t pid = TPOOL__FORK();
    if (pid > 0) tpool__add_relaxed(&life->generation, 1);
    if (pid < 0) tpool__store_relaxed(&life->refused, 1);
    if (pid != 0) return pid;
    close(keeper);
    tpool__close(&tpool__serving.children);
    tpool__close(&tpool__serving.children_write);
    if (!tpool__serving_prepare()) _exit(TPOOL__NOT_PREPARED);
    tpool__store_relaxed(&life->refused, 0);
    tpool__serve(pool);
    _exit(0);
}
/* Kills the workers of a server that has died. On Linux they are the keeper's children now, so their numbers belong to
 * no other. Elsewhere their group and session are compared. */
static void tpool__end_orphans(void) {
    tpool__life *life = tpool__serving.life;
    uint32_t count = tpool__load_relaxed(&life->workers); /* relaxed: see tpool__life */
    for (uint32_t i = 0; i < count && i < TPOOL__LIFE_WORKERS; i++) {
        pid_t pid = (pid_t)tpool__load_relaxed(&life->pids[i]); /* relaxed: as above */
        siginfo_t change;
        memset(&change, 0, sizeof change);
        if (pid <= 1) continue;
#if defined(TPOOL__LINUX_PROCESSES)
        bool own = waitid(P_PID, (id_t)pid, &change, WEXITED | WNOHANG | WNOWAIT) == 0;
#else
        bool own = getpgid(pid) == pid && getsid(pid) == getsid(0);
#endif
        if (own) (void)tpool__kill_worker(pid);
    }
    tpool__store_relaxed(&life->workers, 0);
}

/* The keeper's loop: it forks a new server when the last has died, and ends the server when the program asks for that
 * or is gone. It does nothing else, so that nothing can happen to it. */
static _Noreturn void tpool__keeper_loop(tpool *pool, int keeper, pid_t server) {
    int64_t stopped_until = TPOOL_FOREVER; /* then a server that stays stopped is killed */
    int64_t next = 0; /* no fork before it: servers that die at once must not make the keeper fork all the time */
    bool is_first = true;
    for (;;) {
        if (server < 0 && tpool__clock() >= next) {
            next = tpool__deadline(TPOOL_MS(50));
            server = tpool__keeper_forks(pool, keeper);
        }
        struct pollfd polled[3] = { { tpool__serving.children, POLLIN, 0 },
                                    { keeper, POLLIN, 0 },
                                    { tpool__serving.program, POLLIN, 0 } };
        if (tpool__poll(polled, 3, server < 0 ? tpool__deadline(TPOOL_MS(50)) : stopped_until) <= 0)
            polled[0].revents = POLLIN; /* it was SIGCHLD */
        bool over = polled[2].fd >= 0 && polled[2].revents;
        if (polled[1].revents) {
            uint32_t generation;
            ssize_t got = recv(keeper, &generation, sizeof generation, MSG_DONTWAIT);
            /* relaxed: see tpool__life */
            if (got == (ssize_t)sizeof generation && server > 0 &&
                generation == tpool__load_relaxed(&tpool__serving.life->generation))
                kill(server, SIGKILL); /* a child, not reaped yet */
            over = over || got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
        }
        if (server > 0 && (over || tpool__clock() >= stopped_until)) kill(server, SIGKILL);
        if (polled[0].revents) tpool__drain_children();
        for (int how; !over;) { /* reaps adopted children too */
            pid_t pid = waitpid(-1, &how, WNOHANG | WUNTRACED | WCONTINUED);
            if (pid <= 0) break;
            if (pid != server) continue;
            stopped_until = WIFSTOPPED(how) ? tpool__deadline(TPOOL_MS(TPOOL__PATIENCE_MS)) : TPOOL_FOREVER;
            if (WIFSTOPPED(how) || WIFCONTINUED(how)) continue;
            if (WIFEXITED(how) && WEXITSTATUS(how) == TPOOL__NOT_PREPARED) {
                if (is_first) _exit(1);                                 /* create fails */
                tpool__store_relaxed(&tpool__serving.life->refused, 1); /* relaxed: see tpool__life */
            }
            tpool__end_orphans();
            server = -1;
            is_first = false;
        }
        if (!over) continue;
        if (server > 0)
            while (waitpid(server, NULL, 0) < 0 && errno == EINTR) { }
        tpool__end_orphans();
        _exit(0);
    }
}

/* Becomes the keeper. All signals are blocked. */
static void tpool__become_keeper(tpool *pool, int control, int keeper, int program) {
    memset(&tpool__serving, 0, sizeof tpool__serving);
    tpool__serving.control = control;
    tpool__serving.program = program;
    tpool__serving.life = tpool__server_of(pool)->life;
    setpgid(0, 0); /* only the program gets the signals of its terminal */
    tpool__signals_to_default();
#if defined(TPOOL__LINUX_PROCESSES)
    prctl(PR_SET_NAME, (unsigned long)(uintptr_t) "tpool_server", 0ul, 0ul, 0ul);
    prctl(PR_SET_CHILD_SUBREAPER, 1ul, 0ul, 0ul, 0ul);
#endif
    int keep[] = { control, keeper, program < 0 ? control : program }, highest = tpool__highest_descriptor();
    tpool__descriptors_from = highest + 1;
    tpool__close_inherited(&pool->config, keep, 3, highest);
    tpool__note_descriptors(keep, 3);
    tpool__note_descriptors(pool->config.descriptors, pool->config.descriptor_count);
    for (int fd = 0; fd < 3; fd++) /* so that no other descriptor gets these numbers */
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0) _exit(1);
    pid_t self = getpid(), server = -1;
    if (!tpool__serving_room() || !tpool__serving_prepare()) _exit(1);
    if ((server = tpool__keeper_forks(pool, keeper)) < 0) _exit(1);
    tpool__send(keeper, &self, sizeof self);
    tpool__keeper_loop(pool, keeper, server);
}

/* --------------------------------------------------------------------------------------------------------------------
 *  The program's side: starting and ending
 * ----------------------------------------------------------------------------------------------------------------- */
static tpool_status tpool__processes_check(const tpool_config *config) {
    for (size_t i = 0; i < config->descriptor_count; i++)
        if (fcntl(config->descriptors[i], F_GETFD) < 0) return TPOOL_INVALID;
    return TPOOL_OK;
}
/* After unshare(CLONE_NEWPID) this process can start no thread. The first process that it forks would take the
 * namespace with it when it ends, and then no further fork would succeed. */
static bool tpool__children_are_elsewhere(void) {
#if defined(TPOOL__LINUX_PROCESSES)
    struct stat own, childrens;
    if (lstat("/proc/self/ns/pid_for_children", &own) != 0 || stat("/proc/self/ns/pid", &own) != 0) return false;
    return stat("/proc/self/ns/pid_for_children", &childrens) != 0 || own.st_ino != childrens.st_ino;
#else
    return false;
#endif
}
/* The stack size of the pool's processes, all of which run on copies of the keeper's stack. 0: the calling thread has
 * enough left of its own, as the main thread has in most programs. The default is the size of a main thread's stack,
 * not what the creating thread happens to have. */
static size_t tpool__stack_wanted(size_t configured) {
    struct rlimit limit;
    size_t whole, size = configured, most = sizeof(void *) > 4 ? (size_t)1 << 30 : (size_t)64 << 20;
    if (!size) {
        size = (size_t)8 << 20;
        if (getrlimit(RLIMIT_STACK, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur <= most)
            size = (size_t)limit.rlim_cur;
        uintptr_t here = tpool__stack_position(), end = tpool__stack_end(&whole);
        if (end && here > end && here - end >= size - size / 8) return 0;
    }
    if (size < (size_t)PTHREAD_STACK_MIN) size = (size_t)PTHREAD_STACK_MIN;
    return size > SIZE_MAX - 65535 ? size : (size + 65535) / 65536 * 65536;
}
typedef struct tpool__birth {
    tpool *pool;
    int control, keeper, program;
} tpool__birth;
static void *tpool__keeper_begins(void *given) {
    const tpool__birth *birth = (const tpool__birth *)given;
    tpool__become_keeper(birth->pool, birth->control, birth->keeper, birth->program);
    return NULL;
}
/* In the process that becomes the keeper: goes on with a stack of that size. */
static _Noreturn void tpool__keeper_own_stack(tpool__birth *birth, size_t stack) {
    pthread_attr_t attributes;
    pthread_t thread;
    if (stack == 0) {
        (void)tpool__keeper_begins(birth);
    } else if (pthread_attr_init(&attributes) == 0 && pthread_attr_setstacksize(&attributes, stack) == 0 &&
               pthread_create(&thread, &attributes, tpool__keeper_begins, birth) == 0) {
        (void)pthread_join(thread, NULL);
    }
    _exit(1);
}

/* Opens the keeper's pidfd. The number is the keeper's, if that lives afterwards. */
static void tpool__keeper_watch(tpool__server *server) {
    tpool__descriptors_lock();
    server->keeper_process = tpool__pidfd_open(server->keeper_pid);
    if (tpool__socket_look(server->keeper) & (POLLHUP | POLLERR)) tpool__close(&server->keeper_process);
    tpool__descriptors_unlock();
}
/* Forks a process that forks the keeper and ends. */
static tpool_status tpool__processes_start(tpool *pool) {
    int control[2] = { -1, -1 }, keeper[2] = { -1, -1 }, program = -1;
    if (tpool__children_are_elsewhere()) return TPOOL_NO_THREAD;
    int memory = tpool__memory_create(); /* without memory for workers there is no pool */
    if (memory < 0) return TPOOL_NO_THREAD;
    /* the last byte that tpool__child_order needs: RLIMIT_FSIZE may forbid it */
    bool has_room = tpool__file_fill(memory, 3 * TPOOL__PAGE_SIZE - 1, 3 * TPOOL__PAGE_SIZE);
    close(memory);
    if (!has_room) return TPOOL_NO_MEMORY;
    tpool__server *server = TPOOL_MALLOC(sizeof *server);
    if (!server) return TPOOL_NO_MEMORY;
    memset(server, 0, sizeof *server);
    void *life = mmap(NULL, sizeof(tpool__life), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    server->life = life == MAP_FAILED ? NULL : (tpool__life *)life;
    server->starter = tpool__self();
    server->keeper_process = -1;
    tpool__descriptors_lock();
    bool made = server->life && tpool__socket_pair(control) && tpool__socket_pair(keeper);
    /* shows the program's end even if another process holds `control` */
    if (made) program = tpool__pidfd_open(getpid());
    server->control = control[0];
    server->keeper = keeper[0];
    server->far[0] = control[1];
    server->far[1] = keeper[1];
    server->far[2] = program;
    pool->backing = server;
    tpool__descriptors_unlock();
    if (!made) return server->life ? TPOOL_NO_THREAD : TPOOL_NO_MEMORY;
    size_t stack = tpool__stack_wanted(pool->config.stack_size);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* the program's handlers must not run in the keeper */
    int64_t until = tpool__deadline(TPOOL_SEC(10));
    pid_t first;
    do {
        bool are_free = tpool__streams_await();
        tpool__store_relaxed(&server->life->stream_lost, 0); /* relaxed, and below: see tpool__life */
        first = TPOOL__FORK(); /* the child closes the program's ends (tpool__close_parents) */
        if (first == 0) {
            if (!tpool__streams_of_child() && are_free && tpool__clock() < until) {
                tpool__store_relaxed(&server->life->stream_lost, 1);
                _exit(0);
            }
            pid_t second = TPOOL__FORK();
            if (second != 0) _exit(0);
            tpool__birth birth = { pool, control[1], keeper[1], program };
            tpool__keeper_own_stack(&birth, stack);
        }
        /* ECHILD: the program has reaped it, or ignores SIGCHLD */
        while (first > 0 && waitpid(first, NULL, 0) < 0 && errno == EINTR) { }
    } while (first > 0 && tpool__load_relaxed(&server->life->stream_lost));
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    tpool__descriptors_lock();
    for (int i = 0; i < 3; i++) tpool__close(&server->far[i]);
    tpool__descriptors_unlock();
    bool begun = first > 0 && tpool__read_all(server->keeper, &server->keeper_pid, sizeof server->keeper_pid) &&
                 tpool__read_all(server->control, &server->pid, sizeof server->pid);
    if (begun) tpool__keeper_watch(server);
    return begun ? TPOOL_OK : TPOOL_NO_THREAD;
}
/* If the program adopts orphans, as process 1 of a container does, then a process of the pool that has lost its parent
 * is its child, and must be reaped. */
static void tpool__reap_adopted(pid_t pid, bool has_ended) {
    int adopts = getpid() == 1;
#if defined(TPOOL__LINUX_PROCESSES)
    if (!adopts) prctl(PR_GET_CHILD_SUBREAPER, (unsigned long)(uintptr_t)&adopts, 0ul, 0ul, 0ul);
#endif
    if (adopts && pid > 0)
        while (waitpid(pid, NULL, has_ended ? 0 : WNOHANG) < 0 && errno == EINTR) { }
}

/* Asks the keeper to kill a server that does not answer, unless there is a new one by now. */
static void tpool__server_replace(const tpool__server *server, uint32_t generation) {
    tpool__send(server->keeper, &generation, sizeof generation);
}
/* Signals the keeper, or the group of keeper and server, by the keeper's pidfd. False: the system has no such call. */
static bool tpool__keeper_signal(const tpool__server *server, int number, unsigned flags) {
#if defined(SYS_pidfd_send_signal) && TPOOL__SINCE_ANDROID(31)
    if (server->keeper_process >= 0)
        return syscall(SYS_pidfd_send_signal, server->keeper_process, number, NULL, flags) == 0 || errno == ESRCH;
#endif
    (void)server;
    (void)number;
    (void)flags;
    return false;
}
/* Kills server and keeper by their group. Where that has no pidfd (before Linux 6.9): while one of the two lives, no
 * other process has that group's number; and one lives as long as the control socket has no end. If poll does not show
 * that (see tpool__poll), nothing is killed. */
enum { TPOOL__PROCESS_GROUP = 4 }; /* PIDFD_SIGNAL_PROCESS_GROUP */
static void tpool__server_kill(const tpool__server *server) {
    if (tpool__keeper_signal(server, SIGKILL, TPOOL__PROCESS_GROUP)) return;
    struct pollfd polled = { server->control, 0, 0 };
    if (poll(&polled, 1, 0) == 0) kill(-server->keeper_pid, SIGKILL);
}
/* The keeper has not replaced the server in time. Only the end of its socket shows that it is dead: then this call
 * kills the server. Else it is slow, or was stopped, and does what it is asked to when it runs: the pool has no
 * other. */
static void tpool__keeper_urge(const tpool__server *server) {
    if (tpool__socket_look(server->keeper) & (POLLHUP | POLLERR)) tpool__server_kill(server);
    else if (!tpool__keeper_signal(server, SIGCONT, 0)) kill(server->keeper_pid, SIGCONT);
}

/* For a server without workers. Returns when it and its keeper are gone. */
static void tpool__server_end(tpool__server *server) {
    (void)shutdown(server->keeper, SHUT_WR);
    (void)shutdown(server->control, SHUT_WR);
    bool ended = false;
    for (int patience = 2; patience > 0 && !ended; patience--) {
        int64_t deadline = tpool__deadline(TPOOL_MS(TPOOL__PATIENCE_MS));
        while (!ended) {
            struct pollfd polled = { server->control, POLLIN, 0 };
            pid_t pid;
            int n = tpool__poll(&polled, 1, deadline);
            if (n <= 0 && tpool__clock() >= deadline) break; /* a signal does not restart the wait */
            if (n <= 0) continue;
            ssize_t got = recv(server->control, &pid, sizeof pid, MSG_DONTWAIT);
            if (got == (ssize_t)sizeof pid) server->pid = pid; /* a new server's first message */
            else ended = got >= 0 || (errno != EINTR && errno != EAGAIN);
        }
        if (!ended) tpool__server_kill(server);
    }
    tpool__reap_adopted(server->keeper_pid, ended);
    tpool__reap_adopted(server->pid, ended); /* usually the keeper has reaped it */
}
/* Unmakes also what is half made. The descriptors' lock: a child of fork finds either these descriptors or none. */
static void tpool__processes_stop(tpool *pool) {
    tpool__server *server = tpool__server_of(pool);
    if (!server) return;
    if (server->keeper_pid) tpool__server_end(server);
    tpool__descriptors_lock();
    tpool__close(&server->control);
    tpool__close(&server->keeper);
    tpool__close(&server->keeper_process);
    for (int i = 0; i < 3; i++) tpool__close(&server->far[i]);
    pool->backing = NULL;
    tpool__descriptors_unlock();
    if (server->life) munmap((void *)server->life, sizeof *server->life);
    TPOOL_FREE(server);
}

static bool tpool__child_new(tpool__worker *worker) {
    tpool__child *child = TPOOL_MALLOC(sizeof *child);
    if (!child) return false;
    memset(child, 0, sizeof *child);
    child->server = tpool__server_of(worker->pool);
    child->requests = child->replies = child->status = child->memory = -1;
    worker->backing = child;
    return true;
}

/* Closes and unmaps all that leads to the process. If that lives, the server kills it. */
static void tpool__child_close(tpool__child *child) {
    tpool__descriptors_lock();
    tpool__lock(&child->lock);
    tpool__page *page = child->page;
    child->page = NULL;
    tpool__close(&child->requests);
    tpool__close(&child->replies);
    tpool__close(&child->status);
    tpool__close(&child->memory);
    tpool__unlock(&child->lock);
    tpool__descriptors_unlock();
    tpool__window_shrink(&child->argument, 0);
    tpool__window_shrink(&child->result, 0);
    if (page) munmap(page, TPOOL__PAGE_SIZE);
    child->result.start = 0;
    child->greeted = child->ordered = false;
}

/* LOST: the process has died, or its server. SILENT: nothing is known of them, and the wait for the server is over. */
typedef enum tpool__received {
    TPOOL__RECEIVED,
    TPOOL__LATE,
    TPOOL__LOST,
    TPOOL__SILENT,
    TPOOL__DAMAGED
} tpool__received;

/* How long a proxy waits for the server: as long as the server gives signs of life, whichever proxy it works for. A new
 * server is no sign: where each dies at once, the wait has an end too. */
typedef struct tpool__server_watchdog {
    uint32_t beats, generation, replaced; /* `replaced`: the last generation that the keeper was asked to kill */
    int64_t until;
    int misses;
} tpool__server_watchdog;
static void tpool__server_watchdog_begin(tpool__server_watchdog *patience, const tpool__server *server) {
    /* relaxed, both: see tpool__life */
    patience->beats = tpool__load_relaxed(&server->life->beats);
    patience->generation = tpool__load_relaxed(&server->life->generation);
    patience->until = tpool__deadline(TPOOL_MS(TPOOL__PATIENCE_MS) / 2); /* then the proxy asks for a sign */
}
/* Looks whenever half of TPOOL__PATIENCE_MS has passed. First it asks the server for a sign through `socket` (-1: does
 * not ask), then the keeper for another server. False: the wait is over, since neither has come, or since the system
 * refuses another server. */
static bool tpool__server_watchdog_waits(tpool__server_watchdog *patience, const tpool__server *server, int socket) {
    enum { ASK_KEEPER = 2, MOST = 7 };
    char byte = TPOOL__ARE_YOU_THERE;
    if (tpool__clock() < patience->until) return true;
    tpool__server_watchdog before = *patience;
    tpool__server_watchdog_begin(patience, server);
    bool silent = before.beats == patience->beats, is_new = before.generation != patience->generation;
    patience->misses = silent ? before.misses + 1 : 0;
    /* relaxed: see tpool__life */
    if (silent && (patience->misses > MOST || tpool__load_relaxed(&server->life->refused))) return false;
    if (patience->misses >= ASK_KEEPER && !is_new && patience->replaced != patience->generation)
        tpool__server_replace(server, patience->replaced = patience->generation);
    else if (patience->misses > ASK_KEEPER) tpool__keeper_urge(server);
    if (socket >= 0) tpool__send(socket, &byte, 1);
    return true;
}

/* Waits for the server's next notice. LOST: the server is gone. */
static tpool__received tpool__child_notice(tpool__child *child, tpool__notice *notice, int64_t deadline) {
    tpool__server_watchdog patience = { 0, 0, 0, 0, 0 };
    tpool__server_watchdog_begin(&patience, child->server);
    do {
        struct pollfd polled = { child->status, POLLIN, 0 };
        if (tpool__poll(&polled, 1, deadline < patience.until ? deadline : patience.until) > 0)
            return tpool__read_all(child->status, notice, sizeof *notice) ? TPOOL__RECEIVED : TPOOL__LOST;
        if (tpool__clock() >= deadline) return TPOOL__LATE;
    } while (tpool__server_watchdog_waits(&patience, child->server, child->status));
    return TPOOL__SILENT;
}

/* The result of one attempt to start a process, or else an errno. */
enum {
    TPOOL__STARTED = 0,
    TPOOL__SERVER_LOST = -1,
    TPOOL__SERVER_BUSY = -2,
    TPOOL__TOO_LATE = -3,
    TPOOL__SERVER_SILENT = -4
};

/* Places the result's window behind an argument of `size` bytes, and takes memory for what is mapped of it. So a large
 * argument takes what it needs, and the next one takes the same place. False: there is not enough memory. */
static bool tpool__child_place(tpool__child *child, uint64_t size) {
    tpool__window *result = &child->result;
    if (size > SIZE_MAX / 2) return false;
    size_t end = (size_t)size > child->argument.mapped ? (size_t)size : child->argument.mapped;
    end = child->argument.start + (end + TPOOL__PAGE_SIZE - 1) / TPOOL__PAGE_SIZE * TPOOL__PAGE_SIZE;
    if (end <= result->start) return true;
    if (!tpool__file_fill(child->memory, end, (uint64_t)end + TPOOL__PAGE_SIZE)) return false;
    tpool__window_shrink(result, 0);
    result->start = end;
    (void)tpool__window_map(child->memory, result, TPOOL__PAGE_SIZE); /* when it fails, reads from the file will do */
    return true;
}

/* Asks the server for a process. */
static int tpool__child_order(tpool__worker *worker) {
    tpool__child *child = tpool__child_of(worker);
    int requests[2] = { -1, -1 }, replies[2] = { -1, -1 }, status[2] = { -1, -1 }, error = 0;
    tpool__descriptors_lock();
    int memory = tpool__memory_create();
    bool made = memory >= 0 && tpool__pipe(requests) && tpool__socket_pair(replies) && tpool__socket_pair(status);
    if (!made) error = errno > 0 ? errno : EMFILE;
    else fcntl(requests[1], F_SETFL, O_NONBLOCK);     /* no wait when a damaged worker fills its requests pipe */
    if (made) fcntl(replies[1], F_SETFL, O_NONBLOCK); /* nor, in the server, when it fills its replies */
    struct timeval pause = { TPOOL__SERVER_CHECK_MS / 1000, TPOOL__SERVER_CHECK_MS % 1000 * 1000L };
    if (made) (void)setsockopt(replies[0], SOL_SOCKET, SO_RCVTIMEO, &pause, sizeof pause);
    tpool__lock(&child->lock);
    child->memory = memory;
    child->requests = requests[1];
    child->replies = replies[0];
    child->status = status[0];
    child->killed_for = TPOOL__NOT_KILLED;
    child->number = 0; /* under the lock: tpool__processes_request_stop reads it */
    if (made) {
        child->argument.start = TPOOL__PAGE_SIZE;
        if (tpool__file_fill(memory, 0, sizeof(tpool__page)) &&
            tpool__file_fill(memory, TPOOL__PAGE_SIZE, 2 * TPOOL__PAGE_SIZE) &&
            tpool__window_map(memory, &child->argument, TPOOL__PAGE_SIZE) && tpool__child_place(child, 0))
            child->page = (tpool__page *)tpool__map_part(memory, 0, TPOOL__PAGE_SIZE);
        if (!child->page) error = ENOMEM;
    }
    tpool__unlock(&child->lock);
    if (!error) {
        int passed[TPOOL__PASSED] = { requests[0], replies[1], memory, status[1] };
        if (!tpool__send_order(child->server->control, (uint32_t)worker->index, passed))
            error = errno == EPIPE ? TPOOL__SERVER_LOST : tpool__would_wait(errno) ? TPOOL__SERVER_BUSY : errno;
    }
    tpool__close(&requests[0]);
    tpool__close(&replies[1]);
    tpool__close(&status[1]);
    tpool__descriptors_unlock();
    child->ordered = !error;
    if (error) tpool__child_close(child);
    return error;
}
/* Waits for the server's answer to that. TOO_LATE: it may still come, and the next call awaits it. */
static int tpool__child_hear_fork(tpool__child *child, int64_t deadline) {
    tpool__notice notice = { 0, 0, 0 };
    int error = TPOOL__STARTED;
    switch (tpool__child_notice(child, &notice, deadline)) {
    case TPOOL__RECEIVED:
        if (notice.kind != TPOOL__FORKED) error = notice.status > 0 ? notice.status : EAGAIN;
        break;
    case TPOOL__LATE: return TPOOL__TOO_LATE;
    case TPOOL__SILENT: error = TPOOL__SERVER_SILENT; break;
    case TPOOL__DAMAGED:
    case TPOOL__LOST:
    default: error = TPOOL__SERVER_LOST;
    }
    child->ordered = false;
    if (error) tpool__child_close(child);
    return error;
}

/* Starts a worker's process. It tries again when the server has just died, since a new one takes over, and when the
 * server's socket is full, since there will be room. */
static int tpool__child_start(tpool__worker *worker, int64_t deadline) {
    tpool__server *server = tpool__server_of(worker->pool);
    tpool__child *child = tpool__child_of(worker);
    tpool__server_watchdog patience = { 0, 0, 0, 0, 0 };
    int error = TPOOL__SERVER_LOST;
    tpool__server_watchdog_begin(&patience, server);
    for (int tries = 0; tries < 3;) {
        error = child->ordered ? TPOOL__STARTED : tpool__child_order(worker);
        if (error == TPOOL__STARTED) error = tpool__child_hear_fork(child, deadline);
        if (error == TPOOL__SERVER_LOST) tries++;
        else if (error != TPOOL__SERVER_BUSY) break;
        else {
            struct pollfd polled = { server->control, POLLOUT, 0 };
            (void)tpool__poll(&polled, 1, deadline < patience.until ? deadline : patience.until);
            if (tpool__clock() >= deadline) return TPOOL__TOO_LATE;
            if (!tpool__server_watchdog_waits(&patience, server, -1)) return TPOOL__SERVER_SILENT;
        }
    }
    return error;
}
static tpool_status tpool__child_launch(tpool__worker *worker, int64_t deadline) {
    tpool__child *child = tpool__child_of(worker);
    int error = tpool__child_start(worker, deadline);
    /* relaxed: see tpool__life. There is no server, and none is to be had. */
    if (error == TPOOL__TOO_LATE && child->ordered && tpool__load_relaxed(&child->server->life->refused)) {
        child->ordered = false;
        tpool__child_close(child);
        error = TPOOL__SERVER_LOST;
    }
    return error == TPOOL__STARTED || error == TPOOL__TOO_LATE ? TPOOL_OK : TPOOL_NO_THREAD;
}

static bool tpool__child_runs(const tpool__child *child) { return child->status >= 0; }

/* Asks the server to kill the process. Under the child's lock. */
static void tpool__child_kill(tpool__child *child, tpool__killed_for why) {
    char byte = TPOOL__KILL_IT;
    if (child->status < 0) return;
    if (child->killed_for == TPOOL__NOT_KILLED) child->killed_for = why;
    tpool__send(child->status, &byte, 1);
}

/* How a worker process ended, for the error of its task. */
typedef struct tpool__death {
    bool known, stopped;
    bool given_up; /* it lives: the system did not permit to kill it */
    int status, signal;
    tpool__killed_for killed_for;
} tpool__death;

/* Waits for the last notice about a process. RECEIVED: it is in *notice (may be NULL). */
static tpool__received tpool__child_await_end(tpool__child *child, tpool__notice *notice, int64_t deadline) {
    tpool__notice next = { 0, 0, 0 };
    tpool__received heard;
    do heard = tpool__child_notice(child, &next, deadline);
    while (heard == TPOOL__RECEIVED && !tpool__notice_is_last(&next));
    if (notice) *notice = next;
    return heard;
}
/* Has the process killed, waits for its end, and closes all that leads to it. One that may not be killed is left to
 * itself. `heard`: what led to this call. After LOST it orders no kill at once: the process is about to be reaped,
 * and what it leaves behind, if it exits with 0, is to live on. With SILENT one goes out, though there is no reason
 * `why`: a server that could neither answer nor be killed may come back, and the process with it. */
static tpool__death tpool__child_collect(tpool__child *child, tpool__received heard, tpool__killed_for why) {
    tpool__death death;
    tpool__notice notice;
    memset(&death, 0, sizeof death);
    tpool__lock(&child->lock);
    if (heard != TPOOL__LOST) tpool__child_kill(child, heard == TPOOL__SILENT ? TPOOL__NOT_KILLED : why);
    death.killed_for = child->killed_for;
    tpool__unlock(&child->lock);
    bool is_bounded = heard == TPOOL__LOST || heard == TPOOL__SILENT;
    int64_t patience = is_bounded ? tpool__deadline(TPOOL_MS(TPOOL__PATIENCE_MS)) : TPOOL_FOREVER;
    bool late = tpool__child_await_end(child, &notice, patience) == TPOOL__LATE;
    if (late && heard == TPOOL__LOST) { /* it has closed its end, and lives */
        tpool__lock(&child->lock);
        tpool__child_kill(child, TPOOL__NOT_KILLED); /* what it had not begun, another one executes */
        death.killed_for = child->killed_for;
        tpool__unlock(&child->lock);
        (void)tpool__child_await_end(child, &notice, TPOOL_FOREVER);
    }
    death.stopped = notice.stopped != 0;
    if (notice.kind == TPOOL__GIVEN_UP) {
        death.known = death.given_up = true;
        death.signal = SIGKILL;
    } else if (notice.kind == TPOOL__ENDED) {
        death.known = true;
        death.status = WIFEXITED(notice.status) ? WEXITSTATUS(notice.status) : 0;
        death.signal = WIFSIGNALED(notice.status) ? WTERMSIG(notice.status) : 0;
        if (death.stopped) death.signal = notice.stopped;
    } else {
        death.signal = SIGKILL;
    }
    tpool__child_close(child);
    return death;
}

/* Waits for a worker's message, and checks only its length, number and kind. When the worker has died, the server
 * writes GONE in its place, after the notice that proves it. When the server is lost with its workers, the status
 * socket ends, perhaps alone: a process that a task has left behind may hold `replies` open. So a wait without a limit
 * checks the status socket when nothing has come for a while. It returns an earlier message first. Nothing ends when
 * the server hangs, and no keeper kills it (as one that is dead): so each wait asks the server for a sign of life. One
 * that consists of many short ones keeps its `patience` from one to the next. */
static tpool__received tpool__child_receive_patiently(tpool__child *child, tpool__message *message, int64_t deadline,
                                                      tpool__server_watchdog *patience) {
    bool limited = deadline != TPOOL_FOREVER;
    ssize_t n;
    if (limited && patience->until == 0) tpool__server_watchdog_begin(patience, child->server);
    for (bool over = false;;) {
        if (limited && !over) {
            struct pollfd polled[2] = { { child->replies, POLLIN, 0 }, { child->status, POLLIN, 0 } };
            int ready = tpool__poll(polled, 2, deadline < patience->until ? deadline : patience->until);
            if (ready <= 0 && tpool__clock() >= deadline) return TPOOL__LATE;
            if (ready <= 0 && tpool__server_watchdog_waits(patience, child->server, child->status)) continue;
            if (ready <= 0) return TPOOL__SILENT;
        }
        n = recv(child->replies, message, sizeof *message, limited || over ? MSG_DONTWAIT : 0);
        if (n >= 0 || (errno != EINTR && !tpool__would_wait(errno))) break;
        if (over && errno != EINTR) return TPOOL__LOST;
        over = tpool__socket_look(child->status) != 0; /* also after a signal, since they may come all the time */
        if (limited || over) continue;
        if (patience->until == 0) tpool__server_watchdog_begin(patience, child->server); /* most waits end before */
        else if (!tpool__server_watchdog_waits(patience, child->server, child->status)) return TPOOL__SILENT;
    }
    if (n <= 0) return TPOOL__LOST;
    if (n != (ssize_t)sizeof *message) return TPOOL__DAMAGED;
    if (message->kind == TPOOL__GONE) return tpool__socket_look(child->status) ? TPOOL__LOST : TPOOL__DAMAGED;
    return message->number == child->number ? TPOOL__RECEIVED : TPOOL__DAMAGED;
}
static tpool__received tpool__child_receive(tpool__child *child, tpool__message *message, int64_t deadline) {
    tpool__server_watchdog patience = { 0, 0, 0, 0, 0 };
    return tpool__child_receive_patiently(child, message, deadline, &patience);
}

/* Whether the process that this proxy prepares has become useless: its pool ends and has no work left, or the map
 * whose items it would execute is being closed. */
static bool tpool__child_unwanted(tpool__worker *worker) {
    tpool__child *child = tpool__child_of(worker);
    tpool__lock(&child->lock);
    bool has_task = child->task != NULL, cut = child->cut;
    tpool__unlock(&child->lock);
    if (has_task) return cut;
    uint32_t flags = tpool__flags(worker->pool);
    return flags & TPOOL__BREAK || (flags & TPOOL__SHUT && !tpool__work_visible(worker->pool));
}

/* When so many processes of one proxy in a row have died before they were ready, the initializer counts as failed. */
#ifndef TPOOL__DIED_UNREADY_MOST
#define TPOOL__DIED_UNREADY_MOST 8
#endif

/* Waits until the initializer has ended. It looks now and then whether the process is still wanted, so that no one need
 * wake it: an initializer is short, or else late already. TPOOL_BROKEN: the initializer failed. TPOOL_NO_THREAD: the
 * process died before it was ready, or its pool ends and it was killed. TPOOL_TIMEOUT: the deadline has passed, and it
 * was killed. TPOOL_CANCELLED: the map that needs it is being closed; the process goes on. */
static tpool_status tpool__child_await_ready(tpool__worker *worker, int64_t deadline) {
    tpool__child *child = tpool__child_of(worker);
    tpool__message message;
    if (child->greeted) return TPOOL_OK;
    tpool__received heard = TPOOL__LATE;
    tpool__killed_for why = TPOOL__NOT_KILLED;
    bool unwanted = false;
    tpool__server_watchdog patience = { 0, 0, 0, 0, 0 };
    for (int64_t pause = TPOOL_MS(1); heard == TPOOL__LATE && !unwanted && tpool__clock() < deadline;) {
        int64_t next = tpool__clock() + pause;
        heard = tpool__child_receive_patiently(child, &message, next < deadline ? next : deadline, &patience);
        unwanted = heard == TPOOL__LATE && tpool__child_unwanted(worker);
        pause = pause < TPOOL_MS(25) ? 2 * pause : TPOOL_MS(50);
    }
    if (heard == TPOOL__LATE && unwanted && child->task) return TPOOL_CANCELLED; /* no lock: only this thread sets it */
    if (heard == TPOOL__LATE) why = unwanted ? TPOOL__KILLED_ALL : TPOOL__KILLED_LATE;
    child->greeted = heard == TPOOL__RECEIVED && message.kind == TPOOL__READY;
    if (child->greeted) child->died_unready = 0;
    if (child->greeted) return TPOOL_OK;
    bool refused = heard == TPOOL__RECEIVED && message.kind == TPOOL__UNREADY;
    if (heard == TPOOL__RECEIVED || heard == TPOOL__DAMAGED) why = TPOOL__KILLED_DAMAGED;
    tpool__death death = tpool__child_collect(child, heard, why);
    if (why == TPOOL__KILLED_LATE) return TPOOL_TIMEOUT;
    if (refused) return TPOOL_BROKEN;
    /* a process that ended with the server or by tpool_kill_workers does not count */
    bool counts = death.known && heard != TPOOL__SILENT && death.killed_for != TPOOL__KILLED_ALL;
    if (counts && ++child->died_unready >= TPOOL__DIED_UNREADY_MOST) return TPOOL_BROKEN;
    return TPOOL_NO_THREAD;
}

/* Makes sure that there is a process that takes tasks: starts a new one if the last has died. If the system refuses, it
 * tries for 100 ms; where it refuses a server, half of TPOOL__PATIENCE_MS has been time enough. It replaces processes
 * that die before they are ready, up to TPOOL__DIED_UNREADY_MOST in a row. */
static tpool_status tpool__child_ensure_until(tpool__worker *worker, int64_t deadline) {
    static const int pauses_ms[] = { 1, 3, 10, 30, 60 };
    tpool__child *child = tpool__child_of(worker);
    tpool__lock(&child->lock);
    bool condemned = child->killed_for != TPOOL__NOT_KILLED;
    tpool__unlock(&child->lock);
    if (tpool__child_runs(child) && condemned) { /* the order to kill it has been sent */
        if (tpool__child_await_end(child, NULL, deadline) == TPOOL__LATE) return TPOOL_TIMEOUT;
        tpool__child_close(child);
    }
    for (int refusals = 0, lost = 0;;) {
        bool runs = tpool__child_runs(child) && !child->ordered;
        if (!runs && tpool__child_unwanted(worker)) return child->task ? TPOOL_CANCELLED : TPOOL_NO_THREAD;
        int error = runs ? TPOOL__STARTED : tpool__child_start(worker, deadline);
        if (error == TPOOL__TOO_LATE) return TPOOL_TIMEOUT;
        bool no_server = tpool__load_relaxed(&child->server->life->refused); /* relaxed: see tpool__life */
        if (error && (refusals == 5 || no_server || error == TPOOL__SERVER_SILENT)) return TPOOL_NO_THREAD;
        if (error) {
            struct timespec pause = { 0, pauses_ms[refusals++] * 1000000L };
            nanosleep(&pause, NULL);
            if (tpool__clock() >= deadline) return TPOOL_TIMEOUT;
            continue;
        }
        tpool_status status = tpool__child_await_ready(worker, deadline);
        if (status != TPOOL_NO_THREAD) return status;
        /* It died, which tpool__child_await_ready bounds, or was killed on request, or was lost with its server. */
        if (child->killed_for == TPOOL__NOT_KILLED && child->died_unready == 0 && ++lost > 8) return TPOOL_BROKEN;
    }
}
/* For a worker that has no task. */
static tpool_status tpool__child_ready(tpool__worker *worker) {
    return tpool__child_ensure_until(worker, TPOOL_FOREVER);
}

/* After the worker's last task: has the process run its finalizer, and waits for its end. */
static void tpool__child_end(tpool__worker *worker) {
    tpool__child *child = tpool__child_of(worker);
    if (!child->greeted) tpool__child_close(child); /* it has executed nothing, so its end need not be awaited */
    if (!tpool__child_runs(child)) return;
    tpool__message message;
    memset(&message, 0, sizeof message);
    message.number = ++child->number;
    message.kind = TPOOL__END;
    bool sent = tpool__write_quietly(child->requests, &message);
    bool ends = sent || errno == EPIPE;
    if (ends) {
        /* until the finalizer has ended, or the process is gone */
        if (sent) (void)tpool__child_receive(child, &message, TPOOL_FOREVER);
        int64_t deadline = tpool__deadline(TPOOL_MS(TPOOL__PATIENCE_MS)); /* the process has only to exit */
        ends = tpool__child_await_end(child, NULL, deadline) == TPOOL__RECEIVED;
    }
    if (ends) tpool__child_close(child);
    else (void)tpool__child_collect(child, TPOOL__LATE, TPOOL__KILLED_ALL);
}

/* In a child of fork: closes what leads to the parent's workers, so that they see the parent's end. Unless the child
 * becomes the keeper, it also closes that keeper's descriptors, so that the parent sees the keeper's end. */
static void tpool__close_parents(tpool *pools) {
    for (tpool *pool = pools; pool; pool = pool->next) {
        tpool__server *server = pool->backend == &tpool__processes ? tpool__server_of(pool) : NULL;
        if (!server) continue;
        for (int i = 0; i < 3 && server->starter != tpool__self(); i++) tpool__close(&server->far[i]);
        tpool__close(&server->control);
        tpool__close(&server->keeper);
        tpool__close(&server->keeper_process);
        for (tpool__worker *w = tpool__first_worker(pool); w; w = tpool__next_worker(w)) {
            tpool__child *child = tpool__child_of(w);
            tpool__close(&child->requests);
            tpool__close(&child->replies);
            tpool__close(&child->status);
            tpool__close(&child->memory);
        }
    }
}
static void tpool__processes_in_child_of_fork(tpool *pools) {
    tpool__store_relaxed(&tpool__descriptors.lock, TPOOL__LOCK_FREE); /* relaxed: the child has one thread */
    tpool__descriptors.forks = 0;
    tpool__close_parents(pools);
    tpool__forget_child();
}

/* --------------------------------------------------------------------------------------------------------------------
 *  The program's side: running
 * ----------------------------------------------------------------------------------------------------------------- */
static tpool__outcome *tpool__error_text(tpool_future *task, tpool_status status, int code, const char *format, ...)
    TPOOL__PRINTF(4, 5);
static tpool__outcome *tpool__error_text(tpool_future *task, tpool_status status, int code, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    tpool__outcome *outcome = tpool__error_new(task, code, format, arguments);
    va_end(arguments);
    if (!outcome->is_static) outcome->error.status = outcome->error.cause = status;
    else if (status == TPOOL_BROKEN) outcome = tpool__fixed(TPOOL__LOST_PROCESS);
    return outcome;
}

static const char *tpool__signal_name(int number) {
    static const struct {
        int number;
        const char *name;
    } names[] = {
        { SIGABRT, "SIGABRT" }, { SIGALRM, "SIGALRM" }, { SIGBUS, "SIGBUS" },   { SIGFPE, "SIGFPE" },
        { SIGHUP, "SIGHUP" },   { SIGILL, "SIGILL" },   { SIGINT, "SIGINT" },   { SIGKILL, "SIGKILL" },
        { SIGPIPE, "SIGPIPE" }, { SIGQUIT, "SIGQUIT" }, { SIGSEGV, "SIGSEGV" }, { SIGSTOP, "SIGSTOP" },
        { SIGSYS, "SIGSYS" },   { SIGTERM, "SIGTERM" }, { SIGTRAP, "SIGTRAP" }, { SIGTSTP, "SIGTSTP" },
        { SIGTTIN, "SIGTTIN" }, { SIGTTOU, "SIGTTOU" }, { SIGUSR1, "SIGUSR1" }, { SIGUSR2, "SIGUSR2" },
        { SIGXCPU, "SIGXCPU" }, { SIGXFSZ, "SIGXFSZ" },
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].number == number) return names[i].name;
    return "a signal";
}
static tpool__outcome *tpool__error_text_of_death(tpool_future *task, const tpool__death *death) {
    const char *name = tpool__signal_name(death->signal);
    if (!death->known)
        return tpool__error_text(task, TPOOL_BROKEN, -SIGKILL, "The worker process was lost with its server process.");
    static const char *const reasons[] = { "",
                                           ", since the task ran longer than its run_limit_ns",
                                           ", since the task's timeout_ns had passed",
                                           ", since a tpool_run_with_timeout ended",
                                           " by tpool_kill_workers",
                                           ", since it sent a damaged result" };
    if (death->given_up)
        return tpool__error_text(task, TPOOL_BROKEN, -SIGKILL,
                                 "The worker process %s%s, but may not be killed: it has become another user's.",
                                 death->stopped ? "was stopped" : "was to be killed", reasons[death->killed_for]);
    if (death->stopped)
        return tpool__error_text(task, TPOOL_BROKEN, -death->signal,
                                 "The worker process was stopped by signal %d (%s), and killed.", death->signal, name);
    if (!death->signal)
        return tpool__error_text(task, TPOOL_BROKEN, death->status, "The worker process exited with code %d.",
                                 death->status);
    return tpool__error_text(task, TPOOL_BROKEN, -death->signal, "The worker process was killed by signal %d (%s)%s.",
                             death->signal, name, death->signal == SIGKILL ? reasons[death->killed_for] : "");
}
/* is_timeout: so tpool_run_with_timeout returns TPOOL_TIMEOUT, whether it or the proxy first sees the limit pass. */
static tpool__outcome *tpool__error_of_death(tpool_future *task, const tpool__death *death) {
    tpool__outcome *outcome = tpool__error_text_of_death(task, death);
    if (!outcome->is_static) outcome->is_timeout = death->killed_for == TPOOL__KILLED_RUN_WITH_TIMEOUT;
    return outcome;
}

/* Whether the worker has paid for `size` bytes in the result's window: a mere claim must not make the program allocate
 * memory. On a disk, which may compress the file or write it later, the file's length must do. */
static bool tpool__child_has_written(const tpool__child *child, uint64_t size) {
    const tpool__window *window = &child->result;
    struct stat is;
    if (size <= window->mapped) return true;
    if (size > SIZE_MAX / 2 || fstat(child->memory, &is) != 0) return false;
    if ((uint64_t)is.st_size < size || (uint64_t)is.st_size - size < window->start) return false;
#if defined(TPOOL__LINUX_PROCESSES) /* F_GET_SEALS: succeeds for memory, fails for a disk */
    if (fcntl(child->memory, 1034) >= 0) return (uint64_t)is.st_blocks >= size / 512;
#endif
    return true;
}
/* Copies what the worker has written, so that the worker cannot change it any more. */
static bool tpool__child_copy(const tpool__child *child, void *to, uint64_t at, size_t size) {
    const tpool__window *window = &child->result;
    size_t here = at >= window->mapped ? 0 : size < window->mapped - at ? size : window->mapped - (size_t)at;
    if (here) memcpy(to, window->bytes + at, here);
    return here == size || tpool__file_read(child->memory, window->start + at + here, (char *)to + here, size - here);
}

/* Turns an answer, in the caller's copy, and its bytes into an outcome and the future's value. `in_place`: where the
 * outcome goes, right before the bytes, which are a copy too; NULL: the bytes are still at the beginning of the window.
 * False: the answer is damaged. */
static bool tpool__answer_read(const tpool__child *child, tpool_future *task, const tpool__answer *answer,
                               tpool__outcome *in_place, tpool__outcome **outcome, void **value) {
    *outcome = NULL;
    *value = (void *)(uintptr_t)answer->value;
    if (answer->kind == TPOOL__A_VALUE) return answer->size == 0;
    if (answer->kind == TPOOL__NO_ROOM) {
        *value = NULL;
        *outcome = tpool__fixed(TPOOL__OUT_OF_MEMORY);
        return answer->size == 0;
    }
    bool is_error = answer->kind == TPOOL__AN_ERROR;
    if (!is_error && answer->kind != TPOOL__SOME_BYTES && answer->kind != TPOOL__BYTES_AT) return false;
    if ((is_error && answer->size > INT_MAX) || (answer->kind == TPOOL__BYTES_AT && answer->value > answer->size))
        return false;
    size_t size = (size_t)answer->size, head = TPOOL__ROUND_UP(sizeof(tpool__outcome));
    tpool__outcome *made = in_place;
    if (!made) {
        if (!tpool__child_has_written(child, answer->size)) return false;
        made = TPOOL_MALLOC(head + size + 1);
        if (made && !tpool__child_copy(child, (char *)made + head, 0, size)) {
            TPOOL_FREE(made);
            return false;
        }
    }
    if (!made) {
        *outcome = tpool__fixed(TPOOL__OUT_OF_MEMORY);
        *value = NULL;
        return true;
    }
    char *bytes = (char *)made + head;
    if (is_error) {
        *value = NULL;
        *outcome = tpool__error_text(task, TPOOL_FAILED, answer->code, "%.*s", (int)size, bytes);
        if (!in_place) TPOOL_FREE(made);
        return true;
    }
    memset(made, 0, sizeof *made);
    made->kind = TPOOL__BYTES;
    made->is_static = in_place != NULL;
    made->payload = bytes;
    made->size = size;
    *outcome = made;
    if (answer->kind == TPOOL__BYTES_AT) *value = bytes + answer->value;
    return true;
}

/* From here to tpool__child_leave a call that stops the task finds it, with or without a process. */
static void tpool__child_take(const tpool__thread *self, tpool__child *child) {
    tpool__lock(&child->lock);
    child->task = self->context->task;
    child->cut = false;
    tpool__unlock(&child->lock);
}
/* Right before the request is sent. */
static void tpool__child_enter(tpool__thread *self, tpool__child *child) {
    const tpool__context *context = self->context;
    tpool__lock(&child->lock);
    child->number++;
    /* relaxed: a thread that sets these looks for the task under this lock afterwards */
    bool stop = child->cut || tpool__load_relaxed(&context->task->state) & TPOOL__STOP ||
                tpool__flags(context->pool) >> TPOOL__STOPS_SHIFT != context->stops;
    /* relaxed: the pipe orders. Clears what earlier requests left, since their numbers come again. */
    tpool__store_relaxed(&child->page->stop, stop ? child->number : child->number - 1);
    tpool__store_relaxed(&child->page->cut, child->cut ? child->number : child->number - 1);
    tpool__store_relaxed(&child->page->begun, child->number - 1);
    tpool__unlock(&child->lock);
}
static void tpool__child_leave(tpool__child *child) {
    tpool__lock(&child->lock);
    child->task = NULL;
    tpool__unlock(&child->lock);
}

/* Asks a running task to stop, and with `cut` a chunk to leave out its further items. task NULL: the whole pool's. */
static void tpool__processes_request_stop(tpool *pool, const tpool_future *task, bool cut) {
    for (tpool__worker *w = tpool__first_worker(pool); w; w = tpool__next_worker(w)) {
        tpool__child *child = tpool__child_of(w);
        tpool__lock(&child->lock);
        if (child->task && (!task || child->task == task)) {
            child->cut |= cut;
            if (child->page) tpool__store_relaxed(&child->page->stop, child->number);       /* relaxed: a flag */
            if (child->page && cut) tpool__store_relaxed(&child->page->cut, child->number); /* relaxed: likewise */
        }
        tpool__unlock(&child->lock);
    }
}
/* Copies bytes into the argument's window. False: there is not enough memory. */
static bool tpool__child_put(const tpool__child *child, size_t at, const void *bytes, size_t size) {
    const tpool__window *window = &child->argument;
    return tpool__window_put(child->memory, window, window->mapped, at, bytes, size) == size;
}
/* After a request: keeps an argument's memory for the next one, and maps it, up to TPOOL__WINDOW_KEPT. Gives back the
 * memory that a larger argument took, or a larger result, by what the worker reports. */
static void tpool__child_trim(tpool__child *child, uint64_t argument, uint64_t result) {
    tpool__window *window = &child->argument;
    if (argument > window->mapped &&
        (argument > TPOOL__WINDOW_KEPT || !tpool__window_map_filled(child->memory, window, (size_t)argument))) {
        tpool__window_shrink(&child->result, 0);
        child->result.start = 0; /* the next request places it */
        tpool__file_release_from(child->memory, window->start + window->mapped);
    } else if (result > TPOOL__WINDOW_KEPT) {
        tpool__file_release_from(child->memory, child->result.start + child->result.mapped);
    }
}
/* Sends a request. */
static tpool__received tpool__child_ask(tpool__child *child, tpool__message *message, uint32_t kind) {
    message->number = child->number;
    message->kind = kind;
    message->result_at = child->result.start;
    if (tpool__write_quietly(child->requests, message)) return TPOOL__RECEIVED;
    return errno == EAGAIN ? TPOOL__DAMAGED : TPOOL__LOST;
}

/* Stores a piece of a result where it belongs. False: there is not so much memory. */
static bool tpool__child_store(const tpool__child *child, const tpool__message *piece) {
    char bytes[4096];
    uint64_t from = piece->from, to = piece->to, left = piece->size;
    if (from > SIZE_MAX / 4 || to > SIZE_MAX / 4 || left > TPOOL__PAGE_SIZE) return false;
    for (size_t part; left > 0; left -= part, from += part, to += part) {
        part = left < sizeof bytes ? (size_t)left : sizeof bytes;
        if (!tpool__child_copy(child, bytes, from, part) ||
            tpool__file_write(child->memory, child->result.start + to, bytes, part) != part)
            return false;
    }
    return true;
}
/* Hears the answer to a request. A worker that may not write has stored it piece by piece before. */
static tpool__received tpool__child_hear_answer(tpool__child *child, tpool__message *message, int64_t deadline) {
    uint64_t stored = 0;
    for (;;) {
        tpool__received heard = tpool__child_receive(child, message, deadline);
        if (heard == TPOOL__RECEIVED && message->kind == TPOOL__DONE && message->size < stored) message->size = stored;
        if (heard != TPOOL__RECEIVED || TPOOL__LIKELY(message->kind != TPOOL__PIECE)) return heard;
        message->count = tpool__child_store(child, message);
        if (message->count && message->to + message->size > stored) stored = message->to + message->size;
        heard = tpool__child_ask(child, message, TPOOL__GO_ON);
        if (heard != TPOOL__RECEIVED) return heard;
    }
}

static inline bool tpool__clock_passed(int64_t deadline) {
    return deadline != TPOOL_FOREVER && tpool__clock() >= deadline;
}
/* Hands over an argument. TPOOL_TIMEOUT: copying a large one counts against the task's time limit. */
static tpool_status tpool__child_give(const tpool__child *child, const void *bytes, size_t size, int64_t deadline) {
    size_t most = deadline == TPOOL_FOREVER ? size : (size_t)4 << 20;
    for (size_t at = 0, part; at < size; at += part) {
        part = size - at < most ? size - at : most;
        if (at > 0 && tpool__clock_passed(deadline)) return TPOOL_TIMEOUT;
        if (!tpool__child_put(child, at, (const char *)bytes + at, part)) return TPOOL_NO_MEMORY;
    }
    return TPOOL_OK;
}

/* When the time of a task is over, and why its worker is killed then. */
typedef struct tpool__time_limit {
    int64_t deadline;
    tpool__killed_for why;
} tpool__time_limit;
static tpool__time_limit tpool__time_limit_of(const tpool_future *task) {
    tpool__time_limit limit = { TPOOL_FOREVER, TPOOL__KILLED_LATE };
    const tpool__extra *extra = tpool__extra_of(task);
    if (!extra || !extra->stop_at) return limit;
    limit.deadline = extra->stop_at;
    limit.why = (tpool__killed_for)(TPOOL__KILLED_LATE + extra->limit);
    return limit;
}

/* No process is started, or killed, for a task whose time has passed. */
static tpool_status tpool__child_in_time(tpool__worker *worker, int64_t deadline) {
    return tpool__clock_passed(deadline) ? TPOOL_TIMEOUT : tpool__child_ensure_until(worker, deadline);
}
/* The error of a task or an item that got no process, or none in its time. */
static tpool__outcome *tpool__error_of_refusal(tpool__worker *worker, tpool_future *task, tpool_status status,
                                               tpool__killed_for why_late) {
    if (status == TPOOL_TIMEOUT) {
        tpool__death late = { .known = true, .signal = SIGKILL, .killed_for = why_late };
        return tpool__error_of_death(task, &late);
    }
    if (status == TPOOL_BROKEN) tpool__refuse_for_good(worker->pool);
    return tpool__error_text(task, TPOOL_BROKEN, 0,
                             status == TPOOL_BROKEN ? "The worker process could not be initialized."
                                                    : "No worker process could be started.");
}
/* Before the request for a task: makes sure that a process runs, and that it has the argument. NULL: it is so. Else the
 * error with which the task ends. */
static tpool__outcome *tpool__child_prepare(tpool__worker *worker, tpool_future *task, size_t size,
                                            const tpool__time_limit *limit) {
    tpool__child *child = tpool__child_of(worker);
    tpool_status status = tpool__child_in_time(worker, limit->deadline);
    if (status != TPOOL_OK) return tpool__error_of_refusal(worker, task, status, limit->why);
    status = tpool__clock_passed(limit->deadline) ? TPOOL_TIMEOUT
             : !tpool__child_place(child, size)   ? TPOOL_NO_MEMORY
                                                  : tpool__child_give(child, task->value, size, limit->deadline);
    if (status == TPOOL_OK) return NULL;
    if (status == TPOOL_TIMEOUT) {
        tpool__death death = tpool__child_collect(child, TPOOL__LATE, limit->why);
        return tpool__error_of_death(task, &death);
    }
    tpool__child_trim(child, size, 0);
    return tpool__error_text(task, TPOOL_FAILED, ENOMEM, "Memory ran out while handing over the argument.");
}
/* Sends the request for a task, whose argument the process has, and reads the answer: the value and, if there is one,
 * the outcome. */
static tpool__received tpool__talk(tpool__thread *self, tpool_future *task, tpool_fn fn, size_t size, int64_t deadline,
                                   tpool__outcome **outcome, void **value) {
    tpool__child *child = tpool__child_of(self->worker);
    tpool__message message;
    memset(&message, 0, sizeof message);
    message.fn = (uint64_t)(uintptr_t)fn;
    message.arg = size > 0;
    message.size = size;
    tpool__child_enter(self, child);
    tpool__received heard = tpool__child_ask(child, &message, TPOOL__RUN);
    if (heard == TPOOL__RECEIVED) heard = tpool__child_hear_answer(child, &message, deadline);
    if (heard != TPOOL__RECEIVED) return heard;
    if (message.kind == TPOOL__TOO_LARGE)
        *outcome =
            tpool__error_text(task, TPOOL_FAILED, ENOMEM, "The argument is more than the worker process has room for.");
    else if (message.kind != TPOOL__DONE || !tpool__answer_read(child, task, &message.answer, NULL, outcome, value))
        return TPOOL__DAMAGED;
    tpool__child_trim(child, size, message.kind == TPOOL__DONE ? message.size : 0);
    return TPOOL__RECEIVED;
}
/* Executes one task in the worker's process. Returns the future's value; stores the outcome, if any, in the task. */
static void *tpool__child_execute(tpool__thread *self, tpool_future *task, tpool_fn fn) {
    tpool__worker *worker = self->worker;
    tpool__child *child = tpool__child_of(worker);
    const tpool__time_limit limit = tpool__time_limit_of(task);
    size_t size = tpool__extra_of(task) ? tpool__extra_of(task)->arg_size : 0;
    tpool__outcome *outcome = NULL;
    void *value = NULL;
    tpool__child_take(self, child);
    for (int tries = 0; tries < 3; tries++) {
        outcome = tpool__child_prepare(worker, task, size, &limit);
        if (outcome) break;
        tpool__received heard = tpool__talk(self, task, fn, size, limit.deadline, &outcome, &value);
        if (heard == TPOOL__RECEIVED) break;
        bool begun = tpool__page_revoke(&child->page->begun, child->number + 1) == child->number;
        tpool__death death =
            tpool__child_collect(child, heard, heard == TPOOL__LATE ? limit.why : TPOOL__KILLED_DAMAGED);
        outcome = NULL;
        value = NULL;
        if (begun || death.killed_for != TPOOL__NOT_KILLED || tries == 2) {
            outcome = tpool__error_of_death(task, &death);
            break;
        } /* else the process died before the task began: another can take it */
    }
    tpool__child_leave(child);
    if (outcome && !tpool__set_outcome(task, outcome)) tpool__outcome_free(outcome);
    return value;
}

static bool tpool__child_is_lost(tpool__worker *worker) {
    tpool__child *child = tpool__child_of(worker);
    tpool__lock(&child->lock);
    bool lost = child->status < 0 || child->killed_for != TPOOL__NOT_KILLED || !child->greeted;
    tpool__unlock(&child->lock);
    return lost;
}

static void tpool__processes_kill(tpool *pool) {
    for (tpool__worker *w = tpool__first_worker(pool); w; w = tpool__next_worker(w)) {
        tpool__child *child = tpool__child_of(w);
        tpool__lock(&child->lock);
        tpool__child_kill(child, TPOOL__KILLED_ALL);
        tpool__unlock(&child->lock);
    }
}

/* Reads an answer with bytes, in the copy. Returns how many bytes it takes, 0 if it is damaged. */
static uint64_t tpool__item_read(tpool__chunk *chunk, tpool__slot *slot, char *at, uint64_t left) {
    tpool__answer answer;
    if (left < TPOOL__ANSWER_ROOM) return 0;
    left -= TPOOL__ANSWER_ROOM;
    memcpy(&answer, at, sizeof answer);
    if (answer.kind == TPOOL__A_VALUE || answer.size > left ||
        !tpool__answer_read(NULL, &chunk->item, &answer, (tpool__outcome *)(void *)at, &slot->outcome, &slot->value))
        return 0;
    uint64_t size = TPOOL__ROUND_UP((size_t)answer.size);
    return TPOOL__ANSWER_ROOM + (size > left ? left : size);
}

/* Reads the answers of `done` items. Returns how many of them are sound. The worker may change them at any time: so
 * each field of a plain value's answer is read once (volatile: the compiler may not read it again), and the rest, from
 * the first answer with bytes on, is copied before it is examined. */
static size_t tpool__read_items(tpool__child *child, tpool__chunk *chunk, size_t first, size_t done, uint64_t used) {
    uint64_t at = 0;
    tpool__slot *slots = chunk->slots + first;
    size_t i = 0;
    if (!tpool__child_has_written(child, used)) return 0;
    uint64_t here = used < child->result.mapped ? used : child->result.mapped;
    for (; i < done && here - at >= TPOOL__PLAIN_ANSWER; i++, at += TPOOL__PLAIN_ANSWER) {
        const volatile tpool__answer *answer = (const volatile tpool__answer *)(void *)(child->result.bytes + at);
        if (answer->kind != TPOOL__A_VALUE) break;
        slots[i].value = (void *)(uintptr_t)answer->value;
        slots[i].outcome = NULL;
    }
    if (i == done) return done;
    used -= at;
    tpool__results *answers = used <= SIZE_MAX / 2 ? TPOOL_MALLOC(sizeof *answers + (size_t)used) : NULL;
    if (!answers) {
        for (; i < done; i++) slots[i].outcome = tpool__fixed(TPOOL__OUT_OF_MEMORY);
        return done;
    }
    answers->next = chunk->results;
    chunk->results = answers;
    if (!tpool__child_copy(child, answers->bytes, at, (size_t)used)) return i;
    for (at = 0; i < done; i++) {
        tpool__answer plain;
        if (used - at < TPOOL__PLAIN_ANSWER) return i;
        memcpy(&plain, answers->bytes + at, TPOOL__PLAIN_ANSWER);
        if (plain.kind == TPOOL__A_VALUE) {
            slots[i].value = (void *)(uintptr_t)plain.value;
            slots[i].outcome = NULL;
            at += TPOOL__PLAIN_ANSWER;
            continue;
        }
        uint64_t taken = tpool__item_read(chunk, &slots[i], answers->bytes + at, used - at);
        if (!taken) return i;
        at += taken;
    }
    return done;
}

/* Hands over the map's context and `count` items from `first` on. False: there is not enough memory. */
static bool tpool__pack_items(tpool__child *child, tpool__chunk *chunk, size_t first, size_t count,
                              tpool__message *message) {
    tpool_map_iter *iter = chunk->iter;
    const tpool_map_spec *spec = &iter->spec;
    size_t size = spec->item_size, at = TPOOL__ROUND_UP(spec->context_size);
    if (at < spec->context_size || (size && count > (SIZE_MAX / 2 - at) / size)) return false;
    message->arg = 1;
    message->fn = (uint64_t)(uintptr_t)spec->fn;
    message->size = at + count * size;
    message->count = count;
    message->item_size = size;
    message->context_size = spec->context_size;
    if (!tpool__child_place(child, message->size)) return false;
    if (spec->context_size && !tpool__child_put(child, 0, spec->context, spec->context_size)) return false;
    if (size == 0) return true;
    if (!iter->places && spec->stride == size)
        return tpool__child_put(child, at, tpool__item_pointer(chunk, first, NULL), count * size);
    const tpool__source_item *place = chunk->places;
    for (size_t i = 0; i < first && place; i++) place = place->next;
    char gathered[4096]; /* so that small items do not cost a call each */
    size_t filled = 0;
    for (size_t i = 0; i < count; i++, place = place ? place->next : NULL) {
        const char *item = (const char *)tpool__item_pointer(chunk, first + i, place);
        for (size_t done = 0; done < size;) {
            size_t part = size - done < sizeof gathered - filled ? size - done : sizeof gathered - filled;
            if (item) memcpy(gathered + filled, item + done, part);
            else memset(gathered + filled, 0, part);
            filled += part;
            done += part;
            if (filled < sizeof gathered && (done < size || i + 1 < count)) continue;
            if (!tpool__child_put(child, at, gathered, filled)) return false;
            at += filled;
            filled = 0;
        }
    }
    return true;
}

/* What has become of the items of a chunk. */
typedef struct tpool__items {
    size_t first, most; /* the first that has not ended; so many go at once, less if memory is short */
    int tries;          /* processes in a row that have died before they began an item */
    int64_t deadline;   /* of the item, if the map limits that */
    int64_t patience;   /* beside the limit: how long an item may wait for a process */
    bool begun;         /* when the process was lost: an item that it had not ended */
    bool is_over;       /* the map is being closed */
} tpool__items;

static bool tpool__child_is_cut(tpool__child *child) {
    tpool__lock(&child->lock);
    bool cut = child->cut;
    tpool__unlock(&child->lock);
    return cut;
}
/* Sends the next `count` items, which the message describes. Reads the answers of those that end (*done). When the
 * process is lost, revokes the others before the last look: it may live on. One that is not to be believed executes no
 * more either. Only a chunk that is cut ends before its last item. */
static tpool__received tpool__talk_items(tpool__thread *self, tpool__child *child, tpool__chunk *chunk,
                                         tpool__items *items, size_t count, tpool__message *message, size_t *done) {
    tpool__child_enter(self, child);
    tpool__page *page = child->page;
    tpool__store_relaxed(&page->items_begun, 0); /* relaxed: the pipe orders */
    tpool__store_relaxed(&page->items_done, 0);
    *done = 0;
    items->begun = false;
    tpool__received heard = tpool__child_ask(child, message, TPOOL__RUN_ITEMS);
    bool over = heard != TPOOL__RECEIVED;
    while (!over) {
        heard = tpool__child_hear_answer(child, message, items->deadline);
        if (heard == TPOOL__RECEIVED && message->kind == TPOOL__TOO_LARGE && *done == 0) break;
        bool lost = heard != TPOOL__RECEIVED;
        uint32_t begun = lost ? tpool__page_revoke(&page->items_begun, TPOOL__NO_ITEM) : 0;
        uintptr_t used;
        size_t ended = tpool__page_read(page, &used), left = count - *done;
        items->begun = begun > ended; /* by this look: a process that outlives its server may end the item yet */
        if (ended > left) ended = left;
        size_t read = tpool__read_items(child, chunk, items->first + *done, ended, used);
        *done += read;
        if (read < ended) heard = TPOOL__DAMAGED;
        over = heard != TPOOL__RECEIVED || message->kind != TPOOL__ITEMS_FULL;
        if (heard == TPOOL__RECEIVED && over && message->kind != TPOOL__DONE) heard = TPOOL__DAMAGED;
        if (over) break;
        tpool__store_relaxed(&page->items_begun, 0); /* relaxed: the pipe orders */
        tpool__store_relaxed(&page->items_done, 0);
        heard = tpool__child_ask(child, message, TPOOL__GO_ON);
        over = heard != TPOOL__RECEIVED;
    }
    bool ended_early = heard == TPOOL__RECEIVED && message->kind == TPOOL__DONE && *done < count;
    if (ended_early && !tpool__child_is_cut(child)) heard = TPOOL__DAMAGED;
    if (heard != TPOOL__RECEIVED) (void)tpool__page_revoke(&page->items_begun, TPOOL__NO_ITEM);
    return heard;
}

/* The process has died, or is not to be believed, after `done` of `count` items. The next one takes the blame if it had
 * begun. NULL: another process can execute it. */
static tpool__outcome *tpool__items_lost(tpool__child *child, tpool__chunk *chunk, const tpool__items *items,
                                         tpool__received heard, bool all_done) {
    bool begun = items->begun; /* tpool__child_collect closes the page */
    tpool__death death =
        tpool__child_collect(child, heard, heard == TPOOL__LATE ? TPOOL__KILLED_LATE : TPOOL__KILLED_DAMAGED);
    if (all_done || !(begun || items->tries == 3 || heard == TPOOL__DAMAGED || death.killed_for != TPOOL__NOT_KILLED))
        return NULL;
    return tpool__error_of_death(&chunk->item, &death);
}
/* Lets the worker's process, which runs, execute the next items. The error of the item that has ended with one, or
 * NULL. */
static tpool__outcome *tpool__child_execute_some(tpool__thread *self, tpool__chunk *chunk, tpool__items *items) {
    tpool__child *child = tpool__child_of(self->worker);
    tpool__message message;
    size_t done = 0, left = chunk->count - items->first, count = left < items->most ? left : items->most;
    memset(&message, 0, sizeof message);
    bool fits = tpool__pack_items(child, chunk, items->first, count, &message);
    uint64_t size = message.size;
    tpool__received heard = TPOOL__RECEIVED;
    if (fits) heard = tpool__talk_items(self, child, chunk, items, count, &message, &done);
    items->first += done;
    items->tries = done > 0 ? 0 : items->tries + 1;
    if (heard != TPOOL__RECEIVED) return tpool__items_lost(child, chunk, items, heard, done == count);
    fits = fits && message.kind != TPOOL__TOO_LARGE;
    tpool__child_trim(child, size, fits ? message.size : 0);
    if (fits) {
        items->is_over = done < count;
        return NULL;
    }
    if (count == 1)
        return tpool__error_text(&chunk->item, TPOOL_FAILED, ENOMEM, "Memory ran out while handing over the items.");
    items->most = (count + 1) / 2;
    items->tries = 0;
    return NULL;
}
/* Executes a chunk's items in the worker's process. If an item kills it, a new process executes those behind it. If
 * memory is short, the items go in smaller parts. Returns how many have ended: all, unless the map is being closed. */
static size_t tpool__child_execute_items(tpool__thread *self, tpool__chunk *chunk) {
    tpool__worker *worker = self->worker;
    tpool__child *child = tpool__child_of(worker);
    int64_t limit = chunk->iter->spec.run_limit_ns;
    tpool__child_take(self, child);
    /* relaxed: a thread that sets it looks for the chunk under the child's lock afterwards */
    tpool__items items = { .most = limit > 0 ? 1 : chunk->count, /* each item's time is its own */
                           .deadline = TPOOL_FOREVER,
                           .patience = TPOOL_MS(TPOOL__PATIENCE_MS),
                           .is_over = tpool__load_relaxed(&chunk->iter->closing) };
    tpool_status status = TPOOL_OK;
    while (!items.is_over && items.first < chunk->count) {
        /* An item's time begins when there is a process for it. Else one that replaces its predecessor's, and whose
         * initializer takes longer than that, would cost it its time, and so on to the last. But an initializer that
         * hangs has its end: it gets TPOOL__PATIENCE_MS beside the item's time, once in a chunk. What the system
         * refuses, and an initializer that has failed, is not tried again for each item. */
        bool begins = items.tries == 0;
        if (limit > 0 && begins)
            items.deadline = tpool__deadline(limit < TPOOL_FOREVER - items.patience ? limit + items.patience : limit);
        if (status == TPOOL_OK || status == TPOOL_TIMEOUT)
            status = begins ? tpool__child_ensure_until(worker, items.deadline)
                            : tpool__child_in_time(worker, items.deadline);
        if (status == TPOOL_TIMEOUT) items.patience = 0;
        if (limit > 0 && begins) items.deadline = tpool__deadline(limit);
        if (status == TPOOL_CANCELLED) break;
        tpool__outcome *error = status == TPOOL_OK
                                    ? tpool__child_execute_some(self, chunk, &items)
                                    : tpool__error_of_refusal(worker, &chunk->item, status, TPOOL__KILLED_LATE);
        if (!error) continue;
        chunk->slots[items.first++].outcome = error;
        items.tries = 0;
    }
    tpool__child_leave(child);
    return items.first;
}

static const tpool__backend tpool__processes = {
    .chunk_ns = (int64_t)10 * TPOOL__CHUNK_NS, /* a message costs about 20 us */
    .check = tpool__processes_check,
    .start = tpool__processes_start,
    .stop = tpool__processes_stop,
    .kill = tpool__processes_kill,
    .request_stop = tpool__processes_request_stop,
    .worker_new = tpool__child_new,
    .launch = tpool__child_launch,
    .ready = tpool__child_ready,
    .is_lost = tpool__child_is_lost,
    .end = tpool__child_end,
    .execute = tpool__child_execute,
    .execute_items = tpool__child_execute_items,
    .around_fork = tpool__descriptors_fork,
    .in_child_of_fork = tpool__processes_in_child_of_fork,
    .give_back = tpool__give_back_in_child,
    .should_stop = tpool__should_stop_in_child,
    .thread_ends = tpool__thread_ends_in_child,
};
#endif

/* ====================================================================================================================
 *  >>texts
 * ================================================================================================================= */
static const struct {
    const char *name, *text;
} tpool__status_texts[] = {
    { "TPOOL_OK", "It succeeded." },
    { "TPOOL_FAILED", "The task raised an error." },
    { "TPOOL_CANCELLED", "The task was cancelled before it started." },
    { "TPOOL_EXPIRED", "The task's own time limit passed while it was queued." },
    { "TPOOL_TIMEOUT", "The time limit of this wait passed." },
    { "TPOOL_SHUTDOWN", "The pool takes no more work." },
    { "TPOOL_FULL", "The queue is at its capacity." },
    { "TPOOL_BROKEN", "The worker died or its initializer failed, or the pool belongs to the parent process." },
    { "TPOOL_DEADLOCK", "The wait could never end." },
    { "TPOOL_END", "The iteration has no more items." },
    { "TPOOL_NO_MEMORY", "Memory ran out." },
    { "TPOOL_NO_THREAD", "The system refused a thread or a process." },
    { "TPOOL_INVALID", "An argument is not valid." },
    { "TPOOL_INVALID_STATE", "The call does not fit the state of the object." },
    { "TPOOL_UNSUPPORTED", "This is not supported on this platform or by this kind of pool." },
};
#define TPOOL__STATUSES (sizeof tpool__status_texts / sizeof *tpool__status_texts)

TPOOL_API const char *tpool_status_name(tpool_status status) {
    return (size_t)status < TPOOL__STATUSES ? tpool__status_texts[status].name : "TPOOL_UNKNOWN";
}
TPOOL_API const char *tpool_status_text(tpool_status status) {
    return (size_t)status < TPOOL__STATUSES ? tpool__status_texts[status].text : "This is no status.";
}

#define TPOOL__TEXT(x) #x
#define TPOOL__NUMBER(x) TPOOL__TEXT(x)
TPOOL_API const char *tpool_version(void) {
    return TPOOL__NUMBER(TPOOL_VERSION_MAJOR) "." TPOOL__NUMBER(TPOOL_VERSION_MINOR) "." TPOOL__NUMBER(
        TPOOL_VERSION_PATCH);
}

#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif
#endif /* TPOOL_IMPLEMENTATION */

/* ====================================================================================================================
 *  LICENCE: either of these, at your choice.
 *
 *  A. MIT License. Copyright (c) 2026 the tpool.h authors.
 *  Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
 *  documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
 *  rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to
 *  permit persons to whom the Software is furnished to do so, subject to the following conditions: The above copyright
 *  notice and this permission notice shall be included in all copies or substantial portions of the Software. THE
 *  SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
 *  WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS
 *  OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
 *  OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
 *
 *  B. Public domain (www.unlicense.org). This is free and unencumbered software released into the public domain. Anyone
 *  is free to copy, modify, publish, use, compile, sell, or distribute this software, either in source code form or as
 *  a compiled binary, for any purpose, commercial or non-commercial, and by any means. THE SOFTWARE IS PROVIDED "AS
 *  IS", WITHOUT WARRANTY OF ANY KIND.
 * ================================================================================================================= */
