#!/usr/bin/env python3
"""Pools over MPI's ranks against mpi4py.futures and a farm of plain MPI (ranks.c), by turns; medians of the rounds.

    bench/ranks.py PROGRAM [ROUNDS [MPIEXEC ARGUMENT...]]

Round trips with two ranks, the rest with three. mpi4py (Debian: python3-mpi4py) is left out unless it is of the MPI
library that MPIEXEC is of."""
import os
import statistics
import subprocess
import sys
import time


def triple(n):
    return 3 * n


def pid_of(_):
    return os.getpid()


def cpu_of(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def of_mpi4py():
    from mpi4py.futures import MPIPoolExecutor

    def say(name, unit, value):
        print(name, unit, value, sep="\t", flush=True)

    with MPIPoolExecutor() as executor:
        list(executor.map(triple, range(100)))
        trips = []
        for i in range(1000):
            began = time.perf_counter()
            assert executor.submit(triple, i).result() == 3 * i
            trips.append(time.perf_counter() - began)
        say("round trip", "us", statistics.median(trips) * 1e6)
        for name, chunk, count in (("tasks", 1, 5000), ("items in chunks of 1", 1, 5000),
                                   ("items in chunks of 100", 100, 200000), ("items in chunks of 1000", 1000, 1000000),
                                   ("items in chunks of 10000", 10000, 1000000)):
            began = time.perf_counter()
            if name == "tasks":
                results = [future.result() for future in [executor.submit(triple, i) for i in range(count)]]
            else:
                results = list(executor.map(triple, range(count), chunksize=chunk))
            took = time.perf_counter() - began
            assert results[-1] == 3 * (count - 1) and len(results) == count
            say(name, "/s", count / took)
        pid = executor.submit(pid_of, 0).result()
        time.sleep(1)
        before = cpu_of(pid), cpu_of(os.getpid())
        time.sleep(3)
        say("CPU of an idle rank", "%", (cpu_of(pid) - before[0]) / 3 * 100)
        say("CPU of rank 0 meanwhile", "%", (cpu_of(os.getpid()) - before[1]) / 3 * 100)


def mpi4py_is_of(mpiexec):
    asked = subprocess.run([sys.executable, "-c", "import mpi4py.MPI as M; print(M.Get_library_version())"],
                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    return asked.returncode == 0 and ("Open MPI" in asked.stdout) == ("mpich" not in os.path.basename(mpiexec))


def main():
    program, rounds = os.path.abspath(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 7
    mpiexec = sys.argv[3:] or ["mpiexec"]
    environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
                       OMPI_MCA_rmaps_base_oversubscribe="1", OMPI_MCA_hwloc_base_binding_policy="none")
    ways = {"ours": [program, "ours"], "plain MPI": [program, "floor"],
            "mpi4py": [sys.executable, "-m", "mpi4py.futures", os.path.abspath(__file__), "--mpi4py"]}
    if not mpi4py_is_of(mpiexec[0]):
        del ways["mpi4py"]
    found = {}
    for _ in range(rounds):
        for ranks in (2, 3):
            for way, command in ways.items():
                run = subprocess.run(mpiexec + ["-n", str(ranks)] + command, env=environment, stdout=subprocess.PIPE,
                                     text=True, check=True, timeout=300)
                for line in run.stdout.splitlines():
                    name, unit, value = line.split("\t")
                    if (name == "round trip") == (ranks == 2):
                        found.setdefault((name, unit), {}).setdefault(way, []).append(float(value))
    print(f"{'':28}" + "".join(f"{way:>16}" for way in ways))
    for (name, unit), values in found.items():
        medians = [f"{statistics.median(values[way]):>16,.4g}" if way in values else f"{'-':>16}" for way in ways]
        print(f"{name + ', ' + unit:28}" + "".join(medians))


if __name__ == "__main__":
    if "--mpi4py" in sys.argv:
        of_mpi4py()
    else:
        main()
