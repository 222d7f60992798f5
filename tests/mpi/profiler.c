/* What a profiler does: it takes the place of MPI's function, writes its report, and calls MPI's. */
#define _GNU_SOURCE /* setenv */
#include <mpi.h>
#include <stdlib.h>
int MPI_Finalize(void) {
    setenv("REPORTED", "", 1);
    return PMPI_Finalize();
}
