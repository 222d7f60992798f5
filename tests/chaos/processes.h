#ifndef TPOOL_TESTS_CHAOS_PROCESSES_H
#define TPOOL_TESTS_CHAOS_PROCESSES_H
#include "world.h"
static void play_processes(uint64_t seed) { play_world(seed, 10); }
#endif
