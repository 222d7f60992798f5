/* What an event loop polls, where the system has no eventfd: a pipe, level-triggered, that no other process inherits.
   The implementation is included without the number of that system call, so that its pipe comes here. */
#include "support.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#undef SYS_eventfd2

static int plain_pipes;
__attribute__((unused)) static int counted_pipe(int ends[2]) {
    plain_pipes++;
    return pipe(ends);
}
#define pipe(ends) counted_pipe(ends)
#include "internals/check.h"

static bool is_set(const tpool__event *event) {
    struct pollfd asked = { .fd = (int)tpool__event_descriptor(event), .events = POLLIN };
    return poll(&asked, 1, 0) == 1;
}
static void a_pipe_is_an_event(void **state) {
    (void)state;
    tpool__event event;
    assert_int_equal(TPOOL_OK, tpool__event_make(&event));
    assert_true(event.polled != event.written);
    for (int i = 0; i < 3; i++) {
        assert_false(is_set(&event));
        tpool__event_clear(&event); /* it does not block */
        tpool__event_set(&event);
        assert_true(is_set(&event));
        tpool__event_clear(&event);
    }
    tpool__event_close(&event);
}
static void no_other_process_inherits_it(void **state) {
    (void)state;
    tpool__event event;
    plain_pipes = 0;
    assert_int_equal(TPOOL_OK, tpool__event_make(&event));
    int ends[2] = { event.polled, event.written };
    for (int i = 0; i < 2; i++) {
        assert_true(fcntl(ends[i], F_GETFD) & FD_CLOEXEC);
        assert_true(fcntl(ends[i], F_GETFL) & O_NONBLOCK);
    }
#if defined(TPOOL__PIPE2) /* not for a moment either */
    assert_int_equal(0, plain_pipes);
#endif
    tpool__event_close(&event);
}
static void a_refused_pipe_is_refused(void **state) {
    (void)state;
    tpool__event event;
    int high = 3, descriptors[4096], count = 0; /* all that there may be */
    struct rlimit limit, few;
    assert_int_equal(0, getrlimit(RLIMIT_NOFILE, &limit));
    few = limit;
    few.rlim_cur = 64;
    assert_int_equal(0, setrlimit(RLIMIT_NOFILE, &few));
    while ((high = dup(0)) >= 0) descriptors[count++] = high;
    errno = 77;
    assert_int_equal(TPOOL_NO_THREAD, tpool__event_make(&event));
    assert_int_equal(77, errno);
    while (count > 0) close(descriptors[--count]);
    assert_int_equal(0, setrlimit(RLIMIT_NOFILE, &limit));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pipe_is_an_event),
        cmocka_unit_test(no_other_process_inherits_it),
        cmocka_unit_test(a_refused_pipe_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
