/* Channels that processes share, whose users are killed at any instant: no item is lost with them or comes twice, no
   thread waits for the dead, no wake is lost.
   test_shared_channel_deaths [KILLS] */
#include "behaviour/shared_channels.h"
#if defined(__linux__) && (defined(__x86_64__) || defined(__i386__))
#include <sys/ptrace.h>
#define CAN_STEP (!SLOW_TOOL)
#else
#define CAN_STEP 0
#endif

static int kills = 200, stride = 3,
           far = 12; /* a process is killed at every so many instructions; where it takes long */

/* ---- Deaths ---- */

static void all_are_killed_at_a_full_channel(void **s) {
    (void)s;
    tpool_channel *channel = letters(2);
    for (int round = 0; round < COUNT(20); round++) {
        tpool_future *workers[WORKERS];
        posted(channel, 8, 1);
        posted(channel, 8, 2);
        atomic_store(&all->begun, 0);
        for (int i = 0; i < WORKERS; i++)
            workers[i] = ordered(sends, (order){ .channel = channel, .limit = TPOOL_FOREVER, .count = 1 });
        await_begun(WORKERS);
        if (round % 2) sleep_ms(3);
        assert_status(TPOOL_OK, tpool_kill_workers(pool));
        for (int i = 0; i < WORKERS; i++) assert_status(TPOOL_BROKEN, end_of(workers[i]));
        assert_int_equal(1, fetched(channel, LIMIT));
        assert_int_equal(2, fetched(channel, LIMIT));
        assert_int_equal(0, tpool_channel_count(channel));
    }
    end_channel(channel);
}
static void *getpid_and_receive(void *arg) {
    const order *o = arg;
    atomic_store(&o->all->stage, (int)getpid());
    return receives_one(arg);
}
/* A receiver is killed, or stopped, as it is woken: the item is another's. */
static void a_killed_sleepers_wake_goes_to_another(void **s) {
    (void)s;
    SKIP_UNDER_TSAN(); /* as above: the worker may have seen the item, and have said so, before it was killed */
    tpool_channel *channel = letters(4);
    for (int round = 0; round < COUNT(40); round++) {
        background waiter;
        atomic_store(&all->begun, 0);
        tpool_future *worker = ordered(getpid_and_receive, (order){ .channel = channel, .limit = TPOOL_FOREVER });
        await_begun(1);
        pid_t pid = (pid_t)atomic_load(&all->stage);
        sleep_ms(2); /* it comes first in line */
        background_start(&waiter, receives_here, channel);
        background_await_block(&waiter);
        int number = round % 4 == 3 ? SIGSTOP : SIGKILL;
        if (round % 2) assert_int_equal(0, kill(pid, number));
        posted(channel, 1, 1);
        if (round % 2 == 0) assert_int_equal(0, kill(pid, number));
        if (end_of(worker) == TPOOL_OK) posted(channel, 1, 2); /* it had received before the kill came */
        tpool_status status = TPOOL_TIMEOUT;
        for (int i = 0; i < 400 && !atomic_load(&waiter.returned); i++) sleep_ms(5);
        if (!atomic_load(&waiter.returned) && tpool_channel_count(channel) == 0)
            posted(channel, 1, 3); /* died with it */
        status = background_join(&waiter);
        assert_status(TPOOL_OK, status);
        while (fetched(channel, 0) >= 0) { }
    }
    end_channel(channel);
}

/* Numbered letters from workers that are killed at random: those that they knew to be sent have come, in order, no one
   twice, all whole. */
static void *sends_on(void *arg) {
    const order *o = arg;
    atomic_store(&o->all->tried[o->from], atomic_load(&o->all->tried[o->from]) + 1); /* what a dead one was about */
    atomic_fetch_add(&o->all->begun, 1);
    for (;;) {
        int number = atomic_load(&o->all->tried[o->from]);
        if (number >= MOST - 1) ENDS(TPOOL_OK);
        tpool_status status = post(o->channel, o->from, number, LIMIT);
        if (status != TPOOL_OK) ENDS(status);
        o->all->sent[o->from][number] = 1;
        atomic_store(&o->all->tried[o->from], number + 1);
    }
}
static unsigned seed = 1;
static unsigned by_chance(unsigned below) {
    seed = seed * 1103515245u + 12345u;
    return (seed >> 16) % below;
}
/* Lets a moment pass, of up to 200 us. */
static void a_moment(void) {
    int64_t until = tpool_now() + by_chance(200) * 1000;
    while (tpool_now() < until) { }
}
typedef struct account {
    tpool_channel *channel;
    unsigned char came[WORKERS][MOST];
    int last[WORKERS];
    atomic_int bad, letters;
} account;
static tpool_status takes_account(void *context) {
    account *a = context;
    letter l;
    for (;;) {
        tpool_status status = tpool_channel_receive(a->channel, &l, LIMIT);
        if (status != TPOOL_OK) return status;
        if (!is_whole(&l) || l.from < 0 || l.from >= WORKERS || l.number < 0 || l.number >= MOST ||
            l.number <= a->last[l.from]) {
            atomic_fetch_add(&a->bad, 1);
            continue;
        }
        a->last[l.from] = l.number;
        a->came[l.from][l.number] = 1;
        atomic_fetch_add(&a->letters, 1);
    }
}
static bool most_is_sent(void) {
    bool most = false;
    for (int i = 0; i < WORKERS; i++) most = most || atomic_load(&all->tried[i]) >= MOST / 2;
    return most;
}
/* A kill counts if it ends a task that sends. */
static void a_storm_of_kills_in_send(void **s) {
    (void)s;
    for (int left = COUNT(kills); left > 0;) {
        static account a;
        memset(&a, 0, sizeof a);
        memset((void *)all, 0, sizeof *all);
        a.channel = letters(1 + by_chance(8));
        background reader;
        tpool_future *workers[WORKERS];
        background_start(&reader, takes_account, &a);
        int begun = WORKERS;
        for (int i = 0; i < WORKERS; i++) workers[i] = ordered(sends_on, (order){ .channel = a.channel, .from = i });
        for (int round = 0; round < 100 && left > 0 && !most_is_sent(); round++) {
            EVENTUALLY(atomic_load(&all->begun) == begun);
            a_moment();
            assert_status(TPOOL_OK, tpool_kill_workers(pool));
            for (int i = 0; i < WORKERS; i++) {
                tpool_status status = end_of(workers[i]);
                assert_true(status == TPOOL_BROKEN || status == TPOOL_OK);
                left -= status == TPOOL_BROKEN;
                workers[i] = ordered(sends_on, (order){ .channel = a.channel, .from = i });
            }
            begun += WORKERS;
        }
        EVENTUALLY(atomic_load(&all->begun) == begun);
        int before = atomic_load(&a.letters);
        bool over = true;
        for (int i = 0; i < WORKERS; i++) over = over && atomic_load(&all->tried[i]) >= MOST - 1;
        if (!over) EVENTUALLY(atomic_load(&a.letters) > before + 10 || atomic_load(&all->tried[0]) >= MOST - 1);
        assert_status(TPOOL_OK, tpool_kill_workers(pool));
        for (int i = 0; i < WORKERS; i++) (void)end_of(workers[i]);
        assert_status(TPOOL_OK, tpool_channel_close(a.channel));
        assert_status(TPOOL_END, background_join(&reader));
        assert_int_equal(0, atomic_load(&a.bad));
        for (int i = 0; i < WORKERS; i++)
            for (int n = 0; n < MOST; n++)
                if (all->sent[i][n] && !a.came[i][n]) fail_msg("letter %d of %d is lost", n, i);
        end_channel(a.channel);
    }
}
/* The program sends, and the receivers are killed: no letter comes twice, and at most one is lost with each. */
static void *receives_on(void *arg) {
    const order *o = arg;
    letter l;
    atomic_fetch_add(&o->all->begun, 1);
    for (;;) {
        tpool_status status = tpool_channel_receive(o->channel, &l, LIMIT);
        if (status != TPOOL_OK) ENDS(status);
        if (!is_whole(&l) || l.number < 0 || l.number >= MOST) atomic_fetch_add(&o->all->bad, 1);
        else atomic_fetch_add(&o->all->got[l.number], 1);
        atomic_fetch_add(&o->all->done, 1);
    }
}
typedef struct flow {
    tpool_channel *channel;
    atomic_int next;
} flow;
static tpool_status sends_letters(void *context) {
    flow *f = context;
    for (;;) {
        int number = atomic_load(&f->next);
        if (number >= MOST) return TPOOL_OK;
        tpool_status status = post(f->channel, 0, number, LIMIT);
        if (status != TPOOL_OK) return status;
        atomic_store(&f->next, number + 1);
    }
}
static void a_storm_of_kills_in_receive(void **s) {
    (void)s;
    for (int left = COUNT(kills); left > 0;) {
        memset((void *)all, 0, sizeof *all);
        flow f = { letters(1 + by_chance(8)), 0 };
        background writer;
        tpool_future *workers[WORKERS];
        int killed = 0, begun = WORKERS;
        for (int i = 0; i < WORKERS; i++) workers[i] = ordered(receives_on, (order){ .channel = f.channel });
        background_start(&writer, sends_letters, &f);
        for (int round = 0; round < 100 && left > 0 && atomic_load(&f.next) < MOST / 2; round++) {
            EVENTUALLY(atomic_load(&all->begun) == begun);
            a_moment();
            assert_status(TPOOL_OK, tpool_kill_workers(pool));
            left -= WORKERS;
            killed += WORKERS;
            begun += WORKERS;
            for (int i = 0; i < WORKERS; i++) {
                assert_status(TPOOL_BROKEN, end_of(workers[i]));
                workers[i] = ordered(receives_on, (order){ .channel = f.channel });
            }
        }
        EVENTUALLY(atomic_load(&all->begun) == begun);
        int done = atomic_load(&all->done);
        EVENTUALLY(atomic_load(&all->done) > done + 10 || atomic_load(&f.next) >= MOST);
        assert_status(TPOOL_OK, tpool_channel_close(f.channel));
        tpool_status status = background_join(&writer);
        assert_true(status == TPOOL_SHUTDOWN || status == TPOOL_OK);
        for (int i = 0; i < WORKERS; i++) assert_status(TPOOL_END, status_of(workers[i]));
        int sent = atomic_load(&f.next), lost = 0;
        assert_int_equal(0, atomic_load(&all->bad));
        for (int n = 0; n < sent; n++) {
            if (atomic_load(&all->got[n]) > 1) fail_msg("letter %d came twice", n);
            lost += atomic_load(&all->got[n]) == 0;
        }
        if (lost > killed) fail_msg("%d letters are lost with %d receivers", lost, killed);
        end_channel(f.channel);
    }
}

#if CAN_STEP
/* ---- Killed after each instruction ---- */

static void *steps_into_send(void *arg) {
    const order *o = arg;
    letter l = letter_of(1, 1);
    atomic_store(&o->all->begun, (int)getpid());
    while (!atomic_load(&o->all->gate.open)) { }
    atomic_store(&o->all->stage, 1);
    tpool_status status = tpool_channel_send(o->channel, &l, LIMIT);
    atomic_store(&o->all->done, (int)status + 1);
    atomic_store(&o->all->stage, 2);
    for (;;) pause();
    ENDS(status);
}
static void *steps_into_receive(void *arg) {
    const order *o = arg;
    letter l;
    atomic_store(&o->all->begun, (int)getpid());
    while (!atomic_load(&o->all->gate.open)) { }
    atomic_store(&o->all->stage, 1);
    tpool_status status = tpool_channel_receive(o->channel, &l, LIMIT);
    atomic_store(&o->all->stage, 2);
    for (;;) pause();
    ENDS(status);
}
static bool step(pid_t pid) {
    int status = 0;
    return ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) == 0 && waitpid(pid, &status, __WALL) == pid &&
           WIFSTOPPED(status);
}
static bool attach(pid_t pid) {
    int status = 0;
    return ptrace(PTRACE_ATTACH, pid, NULL, NULL) == 0 && waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status);
}
static void kill_traced(pid_t pid) {
    int status = 0;
    kill(pid, SIGKILL);
    while (waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status)) ptrace(PTRACE_CONT, pid, NULL, NULL);
}
/* A worker that stands after so many instructions of the call. 1: within it; 0: it has returned; -1: may not be traced.
   The future is its task's. */
static int stopped_after(tpool_fn fn, tpool_channel *channel, int steps, pid_t *pid, tpool_future **future) {
    memset((void *)all, 0, sizeof *all);
    *future = ordered(fn, (order){ .channel = channel });
    EVENTUALLY(atomic_load(&all->begun) > 0);
    *pid = (pid_t)atomic_load(&all->begun);
    int found = 1;
    if (!attach(*pid)) {
        kill(*pid, SIGKILL);
        (void)end_of(*future);
        return -1;
    }
    atomic_store(&all->gate.open, 1);
    while (atomic_load(&all->stage) == 0) assert_true(step(*pid));
    for (int i = 0; i < steps && found; i++) {
        assert_true(step(*pid));
        found = atomic_load(&all->stage) == 1;
    }
    return found;
}
/* The same, and it is killed there. */
static int killed_after(tpool_fn fn, tpool_channel *channel, int steps) {
    pid_t pid;
    tpool_future *future;
    int found = stopped_after(fn, channel, steps, &pid, &future);
    if (found < 0) return -1;
    kill_traced(pid);
    assert_status(TPOOL_BROKEN, end_of(future));
    return found;
}
static void assert_goes_on(tpool_channel *channel) {
    posted(channel, 3, 77);
    assert_int_equal(77, fetched(channel, LIMIT));
    assert_int_equal(0, tpool_channel_count(channel));
}
static void killed_after_each_instruction_of_send(void **s) {
    (void)s;
    tpool_channel *channel = letters(3);
    int found = 1, came = 0, steps = 0;
    while (found && (steps += stride) < 20000) {
        found = killed_after(steps_into_send, channel, steps);
        if (found < 0) skip();
        size_t count = tpool_channel_count(channel);
        assert_true(count <= 1);
        came = (int)count; /* the number of steps to it differs a little, with the place in the ring */
        if (count) assert_int_equal(1, fetched(channel, LIMIT));
        assert_goes_on(channel);
    }
    assert_int_equal(1, came);
    assert_true(steps > 20 && steps < 20000);
    end_channel(channel);
}
static void killed_after_each_instruction_of_receive(void **s) {
    (void)s;
    tpool_channel *channel = letters(3);
    int found = 1, taken = 0, steps = 0;
    while (found && (steps += stride) < 20000) {
        posted(channel, 1, 1);
        posted(channel, 1, 2);
        found = killed_after(steps_into_receive, channel, steps);
        if (found < 0) skip();
        size_t count = tpool_channel_count(channel);
        assert_true(count == 1 || count == 2);
        taken = count == 1;
        if (!taken) assert_int_equal(1, fetched(channel, LIMIT));
        assert_int_equal(2, fetched(channel, LIMIT));
        assert_goes_on(channel);
    }
    assert_int_equal(1, taken);
    end_channel(channel);
}
/* A thread sleeps at the other end: if the item is sent, or taken, it is told, also where the wake did not come. */
static void killed_before_the_wake(void **s) {
    (void)s;
    tpool_channel *channel = letters(1);
    for (int full = 0; full < 2; full++) {
        int found = 1;
        for (int steps = 1; found && steps < 20000; steps += far) {
            background sleeper;
            if (full) posted(channel, 1, 2);
            background_start(&sleeper, full ? sends_here : receives_here, channel);
            background_await_block(&sleeper);
            found = killed_after(full ? steps_into_receive : steps_into_send, channel, steps);
            if (found < 0) {
                assert_status(TPOOL_OK, tpool_channel_close(channel));
                (void)background_join(&sleeper);
                skip();
            }
            if (full && tpool_channel_count(channel) == 1 && !atomic_load(&sleeper.returned)) {
                /* it is the first item that is there, or the sleeper's */
                sleep_ms(1);
                if (!atomic_load(&sleeper.returned)) (void)fetched(channel, LIMIT);
            } else if (!full && tpool_channel_count(channel) == 0 && !atomic_load(&sleeper.returned)) {
                sleep_ms(1);
                if (!atomic_load(&sleeper.returned)) posted(channel, 1, 3);
            }
            assert_status(TPOOL_OK, background_join(&sleeper));
            while (fetched(channel, 0) >= 0) { }
        }
    }
    end_channel(channel);
}
/* The same, and how long it takes. The process may have died with the lock, or with the wake. Every other time the server
   stands still, so that the system has to tell of the death. If others want the CPUs, a try may take longer. */
static void killed_it_holds_up_the_others_for_50_ms_at_most(void **s) {
    (void)s;
#if defined(TPOOL__PLAIN_POSIX)
    enum { MOST_TRIES = 8, CAN_ASK = false };
#else
    enum { MOST_TRIES = 8, CAN_ASK = true };
#endif
    tpool_channel *channel = letters(1);
    pid_t server = living_server_of(pool);
    for (int full = 0; full < 2; full++) {
        int found = 1, tries = 1;
        for (int steps = 1; found && steps < 20000;) {
            background sleeper;
            pid_t pid;
            tpool_future *future;
            if (full) posted(channel, 1, 2);
            background_start(&sleeper, full ? sends_and_notes_when : receives_and_notes_when, channel);
            background_await_block(&sleeper);
            found = stopped_after(full ? steps_into_receive : steps_into_send, channel, steps, &pid, &future);
            bool asks = CAN_ASK && found >= 0 && steps / far % 2;
            if (asks) assert_int_equal(0, kill(server, SIGSTOP));
            int64_t began = tpool_now();
            if (found >= 0) kill_traced(pid);
            /* not sent, or not taken (or the sleeper has been faster): this call needs the lock that the dead may have */
            if (full && tpool_channel_count(channel) == 1) (void)fetched(channel, LIMIT);
            else if (!full && tpool_channel_count(channel) == 0) posted(channel, 1, 3);
            tpool_status status = background_join(&sleeper);
            if (asks) assert_int_equal(0, kill(server, SIGCONT));
            assert_status(TPOOL_OK, status);
            if (found < 0) skip();
            assert_status(TPOOL_BROKEN, end_of(future));
            while (fetched(channel, 0) >= 0) { }
            bool soon = atomic_load(&last_returned) - began < TPOOL_MS(50);
            if (!soon && tries++ == MOST_TRIES) fail_msg("full %d, after %d steps: too late", full, steps);
            if (!soon) continue;
            steps += far;
            tries = 1;
        }
    }
    end_channel(channel);
}
/* One that has slept in its call goes on, since what it waits for has come, or to look about; and is killed there. What it
   has not taken is another's, which is told of what comes later, too. */
static void killed_after_each_instruction_of_a_wait(void **s) {
    (void)s;
    tpool_channel *channel = letters(1);
    for (int kind = 0; kind < 4; kind++) {
        bool full = kind & 1, comes = kind & 2;
        int found = 1;
        for (int steps = 1; found && steps < (comes ? 20000 : 400); steps += 2 * far) {
            background sleeper;
            process_stat stat = { 0 };
            if (full) posted(channel, 1, 2);
            memset((void *)all, 0, sizeof *all);
            tpool_future *future = ordered(full ? steps_into_send : steps_into_receive, (order){ .channel = channel });
            EVENTUALLY(atomic_load(&all->begun) > 0);
            pid_t pid = (pid_t)atomic_load(&all->begun);
            atomic_store(&all->gate.open, 1);
            EVENTUALLY(atomic_load(&all->stage) == 1 && read_process_stat(pid, &stat) && stat.state == 'S');
            if (attach(pid)) {
                if (comes && full) assert_int_equal(2, fetched(channel, LIMIT));
                else if (comes) posted(channel, 1, 3);
                for (int i = 0; i < steps && found; i++) {
                    assert_true(step(pid));
                    found = atomic_load(&all->stage) == 1;
                }
            } else {
                found = -1;
            }
            kill_traced(pid);
            assert_status(TPOOL_BROKEN, end_of(future));
            if (found < 0) skip();
            size_t count = tpool_channel_count(channel);
            if (!comes) assert_int_equal(full, count);
            background_start(&sleeper, full ? sends_here : receives_here, channel);
            if (full && count == 1) assert_int_equal(comes ? 1 : 2, fetched(channel, LIMIT));
            else if (!full && count == 0) posted(channel, 1, 4);
            assert_status(TPOOL_OK, background_join(&sleeper));
            assert_int_equal(full ? 9 : -1, fetched(channel, 0));
            assert_goes_on(channel);
        }
        assert_int_equal(!comes, found);
    }
    end_channel(channel);
}
/* One stands still anywhere in its call: the calls of others end as the channel allows, or with their limits. Then it goes
   on, and all that was sent is received. */
static void one_that_stands_still_keeps_nobody_beyond_a_limit(void **s) {
    (void)s;
    for (int receives = 0; receives < 2; receives++) {
        for (int steps = 1, found = 1; found && steps < 20000; steps += far) {
            tpool_channel *channel = letters(3);
            pid_t pid;
            tpool_future *future;
            int in = 0, out = 0;
            bool as_they_should = true;
            for (; receives && in < 2; in++) posted(channel, 3, in);
            found = stopped_after(receives ? steps_into_receive : steps_into_send, channel, steps, &pid, &future);
            if (found < 0) skip();
            int64_t began = tpool_now();
            for (int i = 0; i < 4; i++) {
                letter l;
                int64_t limit = i < 2 ? 0 : TPOOL_MS(5);
                tpool_status status = i % 2 ? tpool_channel_receive(channel, &l, limit) : post(channel, 2, i, limit);
                as_they_should = as_they_should && (status == TPOOL_OK || status == TPOOL_TIMEOUT);
                if (status == TPOOL_OK && i % 2) out++;
                else if (status == TPOOL_OK) in++;
            }
            int64_t took = tpool_now() - began;
            ptrace(PTRACE_DETACH, pid, NULL, NULL); /* before anything fails */
            for (int64_t end = tpool_now() + LIMIT; atomic_load(&all->stage) != 2 && tpool_now() < end;) sleep_ms(1);
            kill(pid, SIGKILL);
            assert_status(TPOOL_BROKEN, end_of(future));
            assert_true(as_they_should);
            assert_true(took < TPOOL_SEC(2));
            assert_int_equal(2, atomic_load(&all->stage));
            while (fetched(channel, 0) >= 0) out++;
            assert_int_equal(in + !receives, out + receives);
            end_channel(channel);
        }
    }
}
/* A sender stands still anywhere in its call, and the channel is closed, at once: what it sends is received before the
   END, or is not sent. */
static void no_item_comes_after_an_end(void **s) {
    (void)s;
    for (int steps = 1, found = 1; found && steps < 20000; steps += 2 * stride) {
        tpool_channel *channel = letters(3);
        pid_t pid;
        tpool_future *future;
        found = stopped_after(steps_into_send, channel, steps, &pid, &future);
        if (found < 0) skip();
        tpool_status closed = tpool_channel_close(channel), status = TPOOL_OK; /* does not wait for that one */
        int came = 0;
        for (letter l; (status = tpool_channel_receive(channel, &l, TPOOL_SEC(20))) == TPOOL_OK; came++)
            (void)is_whole(&l);
        tpool_status later = post(channel, 2, 2, TPOOL_SEC(20)); /* the lock that it needs may be that one's */
        ptrace(PTRACE_DETACH, pid, NULL, NULL);                  /* before anything fails */
        for (int64_t end = tpool_now() + LIMIT; atomic_load(&all->stage) != 2 && tpool_now() < end;) sleep_ms(1);
        kill(pid, SIGKILL);
        assert_status(TPOOL_BROKEN, end_of(future));
        assert_status(TPOOL_OK, closed);
        assert_true(came <= 1);
        assert_status(TPOOL_END, status);
        assert_status(TPOOL_SHUTDOWN, later);
        assert_int_equal(1 + (int)(came ? TPOOL_OK : TPOOL_SHUTDOWN), atomic_load(&all->done));
        assert_int_equal(-1, fetched(channel, 0));
        assert_int_equal(0, tpool_channel_count(channel));
        end_channel(channel);
    }
}
/* A receiver stands still anywhere in its call, and the empty channel is closed: the others learn of it. */
static void a_close_is_known_beside_a_receiver_that_stands_still(void **s) {
    (void)s;
    for (int steps = 1, found = 1; found && steps < 200; steps += 2 * stride) {
        tpool_channel *channel = letters(3);
        letter l;
        pid_t pid;
        tpool_future *future;
        found = stopped_after(steps_into_receive, channel, steps, &pid, &future);
        if (found < 0) skip();
        tpool_status closed = tpool_channel_close(channel);
        tpool_status ends = tpool_channel_receive(channel, &l, TPOOL_SEC(20));
        kill_traced(pid);
        assert_status(TPOOL_BROKEN, end_of(future));
        assert_status(TPOOL_OK, closed);
        assert_status(TPOOL_END, ends);
        end_channel(channel);
    }
}
#if !defined(TPOOL__PLAIN_POSIX)
/* The server is killed at any instruction after it has learned of the death of a worker, which has a mutex. */
static void *locks_and_tells(void *arg) {
    shared *at = ((const order *)arg)->all;
    (void)!tpool_shared_lock(&at->mutex, LIMIT);
    atomic_store(&at->begun, (int)getpid());
    for (;;) pause();
    return NULL;
}
/* The next instruction, with the signal that came before it. False: it sleeps in the system. */
static bool step_with(pid_t pid, int *number) {
    int status = 0;
    assert_int_equal(0, ptrace(PTRACE_SINGLESTEP, pid, NULL, (void *)(intptr_t)*number));
    for (int i = 0; i < 100; i++) {
        pid_t changed = waitpid(pid, &status, __WALL | WNOHANG);
        if (changed == 0 && i < 90) sched_yield();
        else if (changed == 0) sleep_ms(1);
        if (changed != pid) continue;
        assert_true(WIFSTOPPED(status));
        *number = WSTOPSIG(status) == SIGTRAP || WSTOPSIG(status) == SIGSTOP ? 0 : WSTOPSIG(status);
        return true;
    }
    return false;
}
static void the_server_is_killed_as_it_notes_a_death(void **s) {
    (void)s;
    assert_status(TPOOL_OK, tpool_resize(pool, 1));
    bool found = true;
    int steps = 1;
    pid_t server = 0;
    for (; found && steps < 20000; steps += 30 * stride) {
        server = other_server_of(pool, server);
        atomic_store(&all->begun, 0);
        tpool_future *holder = ordered(locks_and_tells, (order){ 0 });
        EVENTUALLY(atomic_load(&all->begun) > 0);
        if (!attach(server)) {
            kill((pid_t)atomic_load(&all->begun), SIGKILL);
            (void)end_of(holder);
            skip();
        }
        kill((pid_t)atomic_load(&all->begun), SIGKILL);
        EVENTUALLY(!is_alive(atomic_load(&all->begun)));
        int number = 0;
        for (int i = 0; i < steps && found; i++) found = step_with(server, &number);
        kill_traced(server);
        int64_t began = tpool_now();
        tpool_status status = tpool_shared_lock(&all->mutex, LIMIT);
        assert_status(TPOOL_BROKEN, status);
        assert_true(tpool_now() - began < TPOOL_SEC(8));
        assert_status(TPOOL_OK, tpool_shared_unlock(&all->mutex));
        assert_status(TPOOL_BROKEN, end_of(holder));
    }
    assert_true(steps > 150); /* else the server has hardly begun */
}
#endif
#endif

int main(int argc, char **argv) {
    if (argc > 1) {
        kills = atoi(argv[1]);
        stride = far = 1;
    }
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(all_are_killed_at_a_full_channel),
        T(a_killed_sleepers_wake_goes_to_another),
        T(a_storm_of_kills_in_send),
        T(a_storm_of_kills_in_receive),
#if CAN_STEP
        T(killed_after_each_instruction_of_send),
        T(killed_after_each_instruction_of_receive),
        T(killed_before_the_wake),
        T(killed_it_holds_up_the_others_for_50_ms_at_most),
        T(killed_after_each_instruction_of_a_wait),
        T(one_that_stands_still_keeps_nobody_beyond_a_limit),
        T(no_item_comes_after_an_end),
        T(a_close_is_known_beside_a_receiver_that_stands_still),
#if !defined(TPOOL__PLAIN_POSIX)
        T(the_server_is_killed_as_it_notes_a_death),
#endif
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
