/* All workloads in one program, for one contestant. A new workload is a file and a line here: an array of cases, and
 * BENCH_WORKLOAD under it (see burst.c for a short one). What only ours can do stands within #if PEER_OURS. A
 * contestant in another language joins in by a case of the same name. */
#include "plain.c"
#include "futures.c"
#include "tree.c"
#include "roundtrip.c"
#include "forkjoin.c"
#include "for.c"
#include "completed.c"
#include "memory.c"
#include "burst.c"
#include "lifecycle.c"
#include "idle.c"
#include "manager.c"
#include "bounded.c"
#include "observation.c"
#include "loop.c"
#include "choosing.c"
