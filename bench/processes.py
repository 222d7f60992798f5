"""What bench/processes.c is held against: Python's own process pool. Usage: processes.py WORKERS CHUNK
Prints how many items a second it maps; a chunk of 1 is a task each."""
import sys
import time
from concurrent.futures import ProcessPoolExecutor


def triple(n):
    return 3 * n


def main():
    workers, chunk = int(sys.argv[1]), int(sys.argv[2])
    count = 5000 if chunk == 1 else 200000 if chunk == 100 else 1000000
    with ProcessPoolExecutor(workers) as executor:
        list(executor.map(triple, range(100)))          # they have started
        began = time.perf_counter()
        results = list(executor.map(triple, range(count), chunksize=chunk))
        took = time.perf_counter() - began
    assert results[-1] == 3 * (count - 1) and len(results) == count
    print(count / took)


if __name__ == "__main__":
    main()
