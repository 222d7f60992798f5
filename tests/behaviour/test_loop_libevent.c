/* An iterator in libevent's loop: a persistent EV_READ event on its descriptor, event_active in its on_ready. */
#include "loops.h"
#include <event2/event.h>
#include <event2/thread.h>

struct event_loop {
    struct event_base *base;
    struct event *woken, *polled;
    void (*ready)(void *of);
    void *of;
};
static void on_event(evutil_socket_t descriptor, short what, void *of) {
    event_loop *loop = of;
    (void)descriptor;
    REQUIRE(what == EV_READ);
    loop->ready(loop->of);
}
static event_loop *loop_new(void (*ready)(void *of), void *of) {
    event_loop *loop = calloc(1, sizeof *loop);
    REQUIRE(loop && evthread_use_pthreads() == 0);
    loop->base = event_base_new();
    loop->woken = event_new(loop->base, -1, EV_PERSIST, on_event, loop);
    REQUIRE(loop->base && loop->woken && event_add(loop->woken, NULL) == 0);
    loop->ready = ready;
    loop->of = of;
    return loop;
}
static void loop_poll(event_loop *loop, intptr_t descriptor) {
    loop->polled = event_new(loop->base, (evutil_socket_t)descriptor, EV_READ | EV_PERSIST, on_event, loop);
    REQUIRE(loop->polled && event_add(loop->polled, NULL) == 0);
}
static void loop_wake(void *of) { event_active(((program *)of)->loop->woken, EV_READ, 0); }
static void loop_run(event_loop *loop) { (void)event_base_loop(loop->base, EVLOOP_NO_EXIT_ON_EMPTY); }
static void loop_stop(event_loop *loop) { (void)event_base_loopbreak(loop->base); }
static void loop_free(event_loop *loop) {
    if (loop->polled) event_free(loop->polled);
    event_free(loop->woken);
    event_base_free(loop->base);
    free(loop);
}
int main(void) { return run_loop_tests(); }
