// TPOOL_US, TPOOL_MS and TPOOL_SEC of numbers of any type, constant too, under warnings that a C cast would meet.
#include "tpool.h"

namespace {
constexpr int64_t half = TPOOL_SEC(0.5);
static_assert(half == 500000000 && TPOOL_MS(250) == 250000000 && TPOOL_US(7u) == 7000, "units");
static_assert(TPOOL_SEC(INT64_C(9000000000)) == INT64_C(9000000000000000000), "64 bits");
enum unscoped { some = 3 };
template <typename... Numbers> int64_t all(Numbers... numbers) {
    int64_t sum = 0;
    const int64_t each[] = { TPOOL_US(numbers)... };
    for (int64_t one : each) sum += one;
    return sum;
}
}

int main() {
    const short s = 1;
    const unsigned short us = 1;
    const signed char c = 1;
    const int64_t sum = all(s, us, c, true, some, 1, 1u, 1l, 1ul, 1ll, 1ull, 1.0f, 1.0, 1.0l);
    return sum == 16000 ? 0 : 1;
}
