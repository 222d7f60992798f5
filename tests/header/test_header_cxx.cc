// The declarations as C++, built once for each of C++11, C++17 and C++20 and linked with the implementation in C.
#include "tpool.h"
#include "tpool.h" // twice does no harm
#include "smoke.h"

#include <cstddef>
#include <cstdint>
#include <type_traits>

static_assert(std::is_trivial<tpool_job>::value, "a job lives on the stack without a constructor");
static_assert(alignof(tpool_job) <= alignof(std::max_align_t), "a job needs no aligned new");
static_assert(TPOOL_OK == 0 && TPOOL_THREADS == 0 && TPOOL_FULL_BLOCK == 0 && TPOOL_ALL_COMPLETED == 0 &&
                  TPOOL_WORK_MIXED == 0,
              "zero means the default");
static_assert(TPOOL_FOREVER == INT64_MAX, "no limit is the largest time");
static_assert(std::is_same<decltype(TPOOL_MS(1)), std::int64_t>::value, "times are int64_t");
static_assert(std::is_same<decltype(TPOOL_SEC(0.5)), std::int64_t>::value, "times are int64_t");

namespace {

std::int64_t milliseconds(int n) { return TPOOL_MS(n); } // no warning with -Wconversion

void *item_plus(void *item, void *context) {
    static int results[100];
    int number = *static_cast<int *>(item);
    results[number] = number + *static_cast<int *>(context);
    return &results[number];
}

int maps() {
    tpool *pool = nullptr;
    tpool_config config = {};
    config.max_workers = 2;
    SMOKE(tpool_create(&pool, &config) == TPOOL_OK);
    int numbers[100], ten = 10;
    for (int i = 0; i < 100; i++) numbers[i] = i;
    tpool_map_spec spec = {};
    spec.fn = item_plus;
    spec.context = &ten;
    spec.items = numbers;
    spec.count = 100;
    spec.stride = sizeof numbers[0];
    tpool_map_iter *iter = nullptr;
    SMOKE(tpool_map(pool, &spec, &iter) == TPOOL_OK);
    void *result = nullptr;
    int n = 0;
    tpool_status status;
    while ((status = tpool_map_next(iter, TPOOL_FOREVER, &result)) == TPOOL_OK) {
        SMOKE(*static_cast<int *>(result) == n + 10);
        n++;
    }
    SMOKE(status == TPOOL_END);
    SMOKE(n == 100);
    tpool_map_close(iter);
    SMOKE(tpool_destroy(pool) == TPOOL_OK);
    return 0;
}

}

int main() {
    SMOKE(TPOOL_US(1) == 1000);
    SMOKE(TPOOL_MS(0.5) == 500000);
    SMOKE(TPOOL_SEC(5000000000LL) == 5000000000LL * 1000000000LL);
    SMOKE(milliseconds(3000000) == 3000000LL * 1000000LL); // more than an int of nanoseconds holds
    SMOKE(maps() == 0);
    return smoke();
}
