/* How many CPUs the process may use: real affinity masks, and cgroup files under a root of the test's own, of version 1
   and 2, nested, with quotas that are whole, broken, missing or nonsense. The implementation is included, so that its
   roots are those. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
static char cgroup_root[256], cgroup_self[256];
#define TPOOL__CGROUP_ROOT cgroup_root
#define TPOOL__CGROUP_SELF cgroup_self
#include <stdbool.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/syscall.h>
static bool mask_refused; /* as by a filter on system calls */
#define syscall(number, ...) (mask_refused && (number) == SYS_sched_getaffinity ? -1 : syscall(number, __VA_ARGS__))
#endif
#include "internals/check.h"
#undef syscall

#include "support.h"
#include <sched.h>
#include <sys/stat.h>

#if defined(__linux__)
static cpu_set_t allowed; /* at the start */
static int most;

static int remove_all(void **state) {
    (void)state;
    char command[600];
    snprintf(command, sizeof command, "rm -rf '%s' && mkdir '%s'", cgroup_root, cgroup_root);
    assert_int_equal(0, system(command));
    unlink(cgroup_self);
    return sched_setaffinity(0, sizeof allowed, &allowed);
}
/* Writes a file under the root, and the folders to it. */
static void file(const char *path, const char *text) {
    char whole[800];
    snprintf(whole, sizeof whole, "%s/%s", cgroup_root, path);
    for (char *slash = whole + strlen(cgroup_root) + 1; (slash = strchr(slash, '/')) != NULL; *slash++ = '/') {
        *slash = 0;
        mkdir(whole, 0700);
    }
    FILE *f = fopen(whole, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}
static void self_is(const char *text) {
    FILE *f = fopen(cgroup_self, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}
/* A group's quota by version 1: so many microseconds of each period. */
static void quota_by_version_1(const char *group, const char *period, const char *quota) {
    char path[100];
    snprintf(path, sizeof path, "%s/cpu.cfs_period_us", group);
    file(path, period);
    snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", group);
    file(path, quota);
}
static void run_only_on(int cpu) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    assert_int_equal(0, sched_setaffinity(0, sizeof one, &one));
}
/* What the quotas say where there are this many CPUs. */
static int quota_of(int cpus) { return tpool__quota(cpus); }

static void without_cgroups_it_is_the_affinity_mask(void **state) {
    (void)state;
    assert_int_equal(most, tpool_cpu_count());
}

static void a_narrower_mask_counts(void **state) {
    (void)state;
    int narrowed = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed)) continue;
        run_only_on(cpu);
        assert_int_equal(1, tpool_cpu_count());
        narrowed++;
        if (narrowed == most || narrowed == 4) break;
    }
    cpu_set_t growing;
    CPU_ZERO(&growing);
    int count = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE && count < 8; cpu++) {
        if (!CPU_ISSET(cpu, &allowed)) continue;
        CPU_SET(cpu, &growing);
        assert_int_equal(0, sched_setaffinity(0, sizeof growing, &growing));
        assert_int_equal(++count, tpool_cpu_count());
    }
}

/* nproc of the GNU tools counts the mask, and since version 9.8 the quota; ours has none here. */
static int nproc(void) {
    FILE *f = popen("env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc", "r");
    int cpus = -1;
    assert_non_null(f);
    if (fscanf(f, "%d", &cpus) != 1) cpus = -1;
    return pclose(f) == 0 ? cpus : -1;
}
static void nproc_says_the_same(void **state) {
    (void)state;
    int theirs = nproc();
    if (theirs < 0) skip(); /* there is no such program */
    assert_true(theirs <= tpool_cpu_count());
    if (tpool__quota(most) == most) assert_int_equal(theirs, tpool_cpu_count());
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed)) continue;
        run_only_on(cpu);
        assert_int_equal(nproc(), tpool_cpu_count());
        break;
    }
}

static void version_2_quotas(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int cpus;
    } cases[] = {
        { "max 100000\n", 64 },     { "100000 100000\n", 1 },
        { "150000 100000\n", 2 },   { "200000 100000\n", 2 },
        { "200001 100000\n", 3 },   { "50000 100000\n", 1 },
        { "1000 1000000\n", 1 },    { "6400000 100000\n", 64 },
        { "9000000 100000\n", 64 }, { "", 64 },
        { "nonsense\n", 64 },       { "100000\n", 64 },
        { "100000 0\n", 64 },       { "-1 100000\n", 64 },
        { "0 100000\n", 64 },       { "9223372036854775807 1\n", 64 },
    };
    self_is("0::/app\n");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        file("app/cpu.max", cases[i].text);
        if (quota_of(64) != cases[i].cpus) fail_msg("\"%s\" gave %d", cases[i].text, quota_of(64));
    }
    file("app/cpu.max", "150000 100000\n");
    assert_int_equal(most < 2 ? most : 2, tpool_cpu_count());
    file("app/cpu.max", "100000 100000\n");
    assert_int_equal(1, tpool_cpu_count());
    assert_int_equal(1, tpool_workers_for(TPOOL_WORK_CPU));
    assert_int_equal(2, tpool_workers_for(TPOOL_WORK_IO));
}

static void of_nested_groups_the_smallest_quota_counts(void **state) {
    (void)state;
    self_is("0::/outer/middle/inner\n");
    file("outer/cpu.max", "800000 100000\n");
    file("outer/middle/cpu.max", "300000 100000\n");
    file("outer/middle/inner/cpu.max", "max 100000\n");
    assert_int_equal(3, quota_of(64));
    file("outer/middle/inner/cpu.max", "150000 100000\n");
    assert_int_equal(2, quota_of(64));
    file("outer/cpu.max", "10000 100000\n");
    assert_int_equal(1, quota_of(64));
}

static void the_root_counts_as_a_container_sees_it(void **state) {
    (void)state;
    self_is("0::/\n");
    file("cpu.max", "250000 100000\n");
    assert_int_equal(3, quota_of(64));
    self_is("0::/docker/0123456789abcdef\n"); /* a path of the host's that is not here */
    assert_int_equal(3, quota_of(64));
    self_is("0::/../../neighbour\n");
    assert_int_equal(3, quota_of(64));
}

static void version_1_quotas(void **state) {
    (void)state;
    self_is("12:pids:/a\n5:cpuset:/narrow\n4:cpu,cpuacct:/a/b\n1:name=systemd:/x\n0::/unified\n");
    quota_by_version_1("cpu/a/b", "100000\n", "-1\n");
    assert_int_equal(64, quota_of(64));
    file("cpu/a/b/cpu.cfs_quota_us", "150000\n");
    assert_int_equal(2, quota_of(64));
    quota_by_version_1("cpu/a", "50000\n", "50000\n");
    assert_int_equal(1, quota_of(64));
    file("cpu/a/cpu.cfs_quota_us", "-1\n");
    quota_by_version_1("cpu", "100000\n", "700000\n");
    file("cpu/a/b/cpu.cfs_quota_us", "-1\n");
    assert_int_equal(7, quota_of(64));
    self_is("4:cpuacct,cpu:/a\n");
    file("cpu/a/cpu.cfs_quota_us", "125000\n");
    assert_int_equal(3, quota_of(64));
}

static void controllers_that_only_begin_like_cpu_are_not_it(void **state) {
    (void)state;
    self_is("3:cpuset:/a\n4:cpuacct:/a\n5:xcpu:/a\n");
    quota_by_version_1("cpu/a", "100000\n", "100000\n");
    assert_int_equal(64, quota_of(64));
}

static void both_versions_at_once(void **state) {
    (void)state;
    self_is("4:cpu:/a\n0::/b\n");
    quota_by_version_1("cpu/a", "100000\n", "500000\n");
    file("b/cpu.max", "300000 100000\n");
    assert_int_equal(3, quota_of(64));
    file("cpu/a/cpu.cfs_quota_us", "100000\n");
    assert_int_equal(1, quota_of(64));
}

/* What the limits of memory leave of so much. */
static int64_t memory_of(int64_t bytes) { return tpool__cgroups("memory", tpool__memory_of, bytes); }
static void memory_that_groups_leave(void **state) {
    (void)state;
    self_is("9:memory:/a/b\n0::/c/d\n");
    assert_int_equal(1 << 30, memory_of(1 << 30)); /* there are no files */
    file("memory/a/b/memory.limit_in_bytes", "9223372036854771712\n");
    file("memory/a/b/memory.usage_in_bytes", "5000\n");
    assert_int_equal(1 << 30, memory_of(1 << 30));
    file("memory/a/b/memory.limit_in_bytes", "100000\n");
    assert_int_equal(95000, memory_of(1 << 30));
    assert_int_equal(95000, memory_of(95000));
    assert_int_equal(10, memory_of(10));
    file("memory/a/b/memory.usage_in_bytes", "200000\n");
    assert_int_equal(0, memory_of(1 << 30));
    file("memory/a/b/memory.stat", "inactive_file 7000\ntotal_cache 90\ntotal_inactive_file 110000\n"
                                   "total_active_file 20000\n");
    assert_int_equal(30000, memory_of(1 << 30)); /* the cache of files goes first */
    file("memory/a/memory.limit_in_bytes", "1000\n");
    file("memory/a/memory.usage_in_bytes", "600\n");
    assert_int_equal(400, memory_of(1 << 30));
    file("c/d/memory.max", "max\n");
    file("c/d/memory.current", "600\n");
    assert_int_equal(400, memory_of(1 << 30));
    file("c/memory.max", "1000\n");
    file("c/memory.current", "900\n");
    file("c/memory.stat", "anon 5\nfile 1000\ninactive_file 30\nactive_file 20\n");
    assert_int_equal(150, memory_of(1 << 30));
    file("c/memory.max", "nonsense\n");
    assert_int_equal(400, memory_of(1 << 30));
    assert_int_equal(64, quota_of(64)); /* of memory only */
}

static void a_file_half_there_is_none(void **state) {
    (void)state;
    self_is("4:cpu:/a\n");
    file("cpu/a/cpu.cfs_quota_us", "100000\n"); /* without its period */
    assert_int_equal(64, quota_of(64));
    self_is("nonsense\n::\n4:cpu\n\n0::/a"); /* the last line without its end */
    file("a/cpu.max", "200000 100000");
    assert_int_equal(2, quota_of(64));
}

static void a_line_too_long_does_not_hide_the_next(void **state) {
    (void)state;
    static char text[5000];
    memcpy(text, "9:memory:/", 10);
    memset(text + 10, 'm', 4000);
    memcpy(text + 4010, ":0::/trap\n0::/a\n", 17);
    self_is(text);
    file("a/cpu.max", "200000 100000\n");
    file("trap/cpu.max", "100000 100000\n");
    assert_int_equal(2, quota_of(64));
}

static void where_the_mask_is_not_told_it_is_what_is_online(void **state) {
    (void)state;
    mask_refused = true;
    int cpus = tpool_cpu_count();
    self_is("0::/a\n");
    file("a/cpu.max", "100000 100000\n");
    int with_quota = tpool_cpu_count();
    mask_refused = false;
    assert_int_equal(sysconf(_SC_NPROCESSORS_ONLN), cpus);
    assert_int_equal(1, with_quota);
}

static void errno_is_left_alone(void **state) {
    (void)state;
    self_is("0::/not/there\n");
    errno = 12345;
    (void)tpool_cpu_count();
    assert_int_equal(12345, errno);
}

static void work_that_waits_gets_more_workers(void **state) {
    (void)state;
    assert_int_equal(most, tpool_workers_for(TPOOL_WORK_MIXED));
    assert_int_equal(most, tpool_workers_for(TPOOL_WORK_CPU));
    int expected = 2 * most < 32 ? 2 * most : most > 32 ? most : 32;
    assert_int_equal(expected, tpool_workers_for(TPOOL_WORK_IO));
}

int main(void) {
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return 1;
    most = CPU_COUNT(&allowed);
    char folder[] = "/tmp/tpool_sizing_XXXXXX";
    if (!mkdtemp(folder)) return 1;
    snprintf(cgroup_root, sizeof cgroup_root, "%s/cgroup", folder);
    snprintf(cgroup_self, sizeof cgroup_self, "%s/self", folder);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(without_cgroups_it_is_the_affinity_mask, remove_all),
        cmocka_unit_test_setup(a_narrower_mask_counts, remove_all),
        cmocka_unit_test_setup(nproc_says_the_same, remove_all),
        cmocka_unit_test_setup(version_2_quotas, remove_all),
        cmocka_unit_test_setup(of_nested_groups_the_smallest_quota_counts, remove_all),
        cmocka_unit_test_setup(the_root_counts_as_a_container_sees_it, remove_all),
        cmocka_unit_test_setup(version_1_quotas, remove_all),
        cmocka_unit_test_setup(controllers_that_only_begin_like_cpu_are_not_it, remove_all),
        cmocka_unit_test_setup(both_versions_at_once, remove_all),
        cmocka_unit_test_setup(memory_that_groups_leave, remove_all),
        cmocka_unit_test_setup(a_file_half_there_is_none, remove_all),
        cmocka_unit_test_setup(a_line_too_long_does_not_hide_the_next, remove_all),
        cmocka_unit_test_setup(where_the_mask_is_not_told_it_is_what_is_online, remove_all),
        cmocka_unit_test_setup(errno_is_left_alone, remove_all),
        cmocka_unit_test_setup(work_that_waits_gets_more_workers, remove_all),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    char command[600];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command) == 0 ? failed : 1;
}
#else
int main(void) { return 77; } /* skipped: no masks and no cgroups here */
#endif
