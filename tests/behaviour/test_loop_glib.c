/* An iterator in GLib's main loop: g_unix_fd_add on its descriptor, a source that its on_ready makes ready. */
#include "loops.h"
#include <glib-unix.h>

struct event_loop {
    GMainLoop *main;
    GSource *woken;
    guint polled;
    void (*ready)(void *of);
    void *of;
};
static gboolean on_readable(gint descriptor, GIOCondition condition, gpointer of) {
    event_loop *loop = of;
    (void)descriptor;
    REQUIRE(condition == G_IO_IN);
    loop->ready(loop->of);
    return G_SOURCE_CONTINUE;
}
static gboolean dispatch(GSource *source, GSourceFunc callback, gpointer of) {
    g_source_set_ready_time(source, -1); /* before the look: what comes from now on makes it ready again */
    return callback(of);
}
static gboolean on_wake(gpointer of) {
    event_loop *loop = of;
    loop->ready(loop->of);
    return G_SOURCE_CONTINUE;
}
static event_loop *loop_new(void (*ready)(void *of), void *of) {
    static GSourceFuncs functions = { .dispatch = dispatch };
    event_loop *loop = g_new0(event_loop, 1);
    loop->main = g_main_loop_new(NULL, FALSE);
    loop->woken = g_source_new(&functions, sizeof(GSource));
    g_source_set_callback(loop->woken, on_wake, loop, NULL);
    g_source_attach(loop->woken, NULL);
    loop->ready = ready;
    loop->of = of;
    return loop;
}
static void loop_poll(event_loop *loop, intptr_t descriptor) {
    loop->polled = g_unix_fd_add((gint)descriptor, G_IO_IN, on_readable, loop);
}
static void loop_wake(void *of) { g_source_set_ready_time(((program *)of)->loop->woken, 0); }
static void loop_run(event_loop *loop) { g_main_loop_run(loop->main); }
static void loop_stop(event_loop *loop) { g_main_loop_quit(loop->main); }
static void loop_free(event_loop *loop) {
    if (loop->polled) REQUIRE(g_source_remove(loop->polled));
    g_source_destroy(loop->woken);
    g_source_unref(loop->woken);
    g_main_loop_unref(loop->main);
    g_free(loop);
}
int main(void) { return run_loop_tests(); }
