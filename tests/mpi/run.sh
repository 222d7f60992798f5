#!/bin/sh
# Runs a program over MPI's ranks, as root and with more ranks than CPUs too, and checks its exit code. Whatever hangs
# is killed after a while, with all that it has started.     run.sh openmpi|mpich EXIT_CODE RANKS PROGRAM ARGUMENT...
# A second program for half of the ranks: OTHER=PROGRAM. RANKS 0: without mpiexec.
mpi=$1 expected=$2 ranks=$3
shift 3
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none
limit="timeout -k 10 ${LIMIT:-150}"
if [ "$ranks" = 0 ]; then $limit "$@"
elif [ "$OTHER" ]; then
    half=$((ranks / 2))
    $limit "mpiexec.$mpi" -n "$half" "$@" : -n $((ranks - half)) "$OTHER" "$2"
else $limit "mpiexec.$mpi" -n "$ranks" "$@"
fi
status=$?
[ "$status" -eq "$expected" ] || { echo "FAILED: it ended with $status, not $expected"; exit 1; }
