/* An iterator in libuv's loop: uv_poll_t on its descriptor, uv_async_send in its on_ready. */
#include "loops.h"
#include <uv.h>

struct event_loop {
    uv_loop_t uv;
    uv_async_t async;
    uv_poll_t poll;
    bool polls;
    void (*ready)(void *of);
    void *of;
};
static void on_async(uv_async_t *async) {
    event_loop *loop = async->data;
    loop->ready(loop->of);
}
static void on_readable(uv_poll_t *poll, int status, int events) {
    event_loop *loop = poll->data;
    REQUIRE(status == 0 && events == UV_READABLE);
    loop->ready(loop->of);
}
static event_loop *loop_new(void (*ready)(void *of), void *of) {
    event_loop *loop = calloc(1, sizeof *loop);
    REQUIRE(loop && uv_loop_init(&loop->uv) == 0 && uv_async_init(&loop->uv, &loop->async, on_async) == 0);
    loop->async.data = loop;
    loop->ready = ready;
    loop->of = of;
    return loop;
}
static void loop_poll(event_loop *loop, intptr_t descriptor) {
    REQUIRE(uv_poll_init(&loop->uv, &loop->poll, (int)descriptor) == 0);
    loop->poll.data = loop;
    loop->polls = true;
    REQUIRE(uv_poll_start(&loop->poll, UV_READABLE, on_readable) == 0);
}
static void loop_wake(void *of) { REQUIRE(uv_async_send(&((program *)of)->loop->async) == 0); }
static void loop_run(event_loop *loop) { (void)uv_run(&loop->uv, UV_RUN_DEFAULT); }
static void loop_stop(event_loop *loop) { uv_stop(&loop->uv); }
static void loop_free(event_loop *loop) {
    uv_close((uv_handle_t *)&loop->async, NULL);
    if (loop->polls) uv_close((uv_handle_t *)&loop->poll, NULL);
    (void)uv_run(&loop->uv, UV_RUN_DEFAULT);
    REQUIRE(uv_loop_close(&loop->uv) == 0);
    free(loop);
}
int main(void) { return run_loop_tests(); }
