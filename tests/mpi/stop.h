/* Stops a process that has threads. */
#ifndef TPOOL_TESTS_STOP_H
#define TPOOL_TESTS_STOP_H
#include <dirent.h>
#include <signal.h>

/* Whether all threads of a process are stopped. */
static inline bool is_stopped(pid_t pid) {
    char path[64];
    bool all = true;
    snprintf(path, sizeof path, "/proc/%ld/task", (long)pid);
    DIR *threads = opendir(path);
    assert_non_null(threads);
    for (struct dirent *entry; all && (entry = readdir(threads)) != NULL;) {
        char name[400], state = 0;
        if (entry->d_name[0] == '.') continue;
        snprintf(name, sizeof name, "%s/%s/stat", path, entry->d_name);
        FILE *file = fopen(name, "r");
        if (!file) continue; /* the thread has ended */
        all = fscanf(file, "%*d (%*[^)]) %c", &state) == 1 && state == 'T';
        fclose(file);
    }
    closedir(threads);
    return all;
}
/* Stops a process and waits until it stands still. One thread takes the signal; the others go on until that has run,
 * which may take long on a loaded machine. */
static inline void stop_process(pid_t pid) {
    assert_int_equal(0, kill(pid, SIGSTOP));
    while (!is_stopped(pid)) sleep_ms(1);
}
#endif
