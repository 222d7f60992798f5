/* Tests about the state of the whole process, or about its end: each is a story, played by a process of its own, which
   is this program again with the story's name as its argument. What it says goes to its standard output, one letter
   each, also after main has returned; the test compares that and the exit code, and a story that hangs is killed. */
#ifndef TPOOL_TESTS_STORY_H
#define TPOOL_TESTS_STORY_H
#define IN_STORIES
#include "support.h"
#if defined(_WIN32)
#include <fcntl.h>
#include <io.h>
#include <process.h>
#endif

#define STORY_SECONDS LIMIT_SECONDS

/* play gives the exit code. said: the letters in alphabetical order, NULL: whatever it is. */
typedef struct story {
    const char *name;
    int (*play)(void);
    int code;
    const char *said;
} story;

/* ThreadSanitizer waits for a second at each exit beside other threads, which is long for so many processes. And the
   worker of a pool that is never destroyed is never joined, which is a leak to it if the worker has ended by then. */
#if SLOW_TOOL
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) { return "atexit_sleep_ms=50 report_thread_leaks=0"; }
#endif

static const char *story_program;

static int story_by_letter(const void *left, const void *right) { return *(const char *)left - *(const char *)right; }

static void the_story_ends_as_told(void **state) {
    const story *s = (const story *)*state;
    char said[256];
    size_t length = 0;
#if defined(_WIN32)
    /* not by _popen, which starts a shell before the program: that takes as long again */
    int ends[2], ended = -1, output = _dup(STDOUT_FILENO);
    assert_int_equal(0, _pipe(ends, 4096, _O_BINARY | _O_NOINHERIT));
    fflush(stdout);
    assert_int_equal(0, _dup2(ends[1], STDOUT_FILENO));
    intptr_t child = _spawnl(_P_NOWAIT, story_program, story_program, s->name, NULL);
    assert_int_equal(0, _dup2(output, STDOUT_FILENO));
    _close(output);
    _close(ends[1]);
    assert_true(child != -1);
    int got;
    while (length < sizeof said - 1 && (got = _read(ends[0], said + length, (unsigned)(sizeof said - 1 - length))) > 0)
        length += (size_t)got;
    _close(ends[0]);
    assert_true(_cwait(&ended, child, 0) == child);
#else
    int ends[2];
    assert_int_equal(0, pipe(ends));
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        close(ends[1]);
        alarm(STORY_SECONDS);
        become_program(story_program, s->name);
    }
    assert_true(child > 0);
    close(ends[1]);
    ssize_t got;
    while (length < sizeof said - 1 && (got = read(ends[0], said + length, sizeof said - 1 - length)) > 0) {
        length += (size_t)got;
    }
    close(ends[0]);
    int ended;
    assert_int_equal(child, waitpid(child, &ended, 0));
    if (WIFSIGNALED(ended)) fail_msg("ended by signal %d, having said \"%.*s\"", WTERMSIG(ended), (int)length, said);
    assert_true(WIFEXITED(ended));
    ended = WEXITSTATUS(ended);
#endif
    said[length] = '\0';
    qsort(said, length, 1, story_by_letter);
    if (s->said && ended != s->code) print_message("said \"%s\"\n", said);
    assert_int_equal(s->code, ended);
    if (s->said) assert_string_equal(s->said, said);
}

/* The program's main: plays the story that it is told to, or tests them all. */
static int play_stories(int argc, char **argv, const story *stories, size_t count) {
    enum { MOST = 64 };
    struct CMUnitTest tests[MOST];
    if (argc == 2) {
#if defined(_WIN32) /* elsewhere it is set before */
        alarm(STORY_SECONDS);
#endif
        for (size_t i = 0; i < count; i++)
            if (strcmp(argv[1], stories[i].name) == 0) return stories[i].play();
        fprintf(stderr, "no story is called %s\n", argv[1]);
        return 2;
    }
    if (count > MOST) return 2;
    story_program = argv[0];
    memset(tests, 0, sizeof tests);
    for (size_t i = 0; i < count; i++) {
        tests[i].name = stories[i].name;
        tests[i].test_func = the_story_ends_as_told;
        tests[i].initial_state = (void *)(uintptr_t)&stories[i];
    }
    return _cmocka_run_group_tests("stories", tests, count, NULL, NULL);
}
#endif
