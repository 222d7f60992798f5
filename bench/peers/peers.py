"""Python's concurrent.futures.ThreadPoolExecutor, as the workloads of bench/ want it: the same cases, the same lines of
output. A fiftieth of the tasks, since each costs ten microseconds and more; figures are by the task."""
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed

QUICK = '--quick' in sys.argv
FEWER_TASKS = 50


def count_of(full):
    return max(8, full // FEWER_TASKS // (100 if QUICK else 1))


def report(case, figure, unit, value):
    print('%s\t%s\t%s\t%.6g' % (case, figure, unit, value))


def report_samples(case, samples, unit, unit_ns):
    samples.sort()
    report(case, 'mean', unit, sum(samples) / len(samples) / unit_ns)
    report(case, 'p50', unit, samples[len(samples) // 2] / unit_ns)
    report(case, 'p99', unit, samples[len(samples) * 99 // 100] / unit_ns)


def check(condition):
    if not condition:
        sys.exit('a result is wrong')


# The tiny task: a list's append is atomic, and the lists are one a thread.
mine = threading.local()
tallies = []


def tiny(value):
    try:
        mine.values.append(value)
    except AttributeError:
        mine.values = [value]
        tallies.append(mine.values)


def tiny_value(value):
    return value * 3


def submit_from(submitters, body, count):
    """Shares range(count) out to threads, of which one is the caller. When they began."""
    if submitters == 1:
        began = time.perf_counter_ns()
        body(0, count)
        return began
    start = threading.Barrier(submitters + 1)

    def run(i):
        start.wait()
        body(count * i // submitters, count * (i + 1) // submitters)
    threads = [threading.Thread(target=run, args=(i,)) for i in range(submitters)]
    for thread in threads:
        thread.start()
    began = time.perf_counter_ns()
    start.wait()
    for thread in threads:
        thread.join()
    return began


def plain(case, submitters, workers):
    """It drains by ending: the time includes that."""
    count = count_of(1000000)
    for timed in (False, True):
        pool = ThreadPoolExecutor(workers)
        list(pool.map(tiny_value, range(workers * 100)))

        def body(begin, end):
            for i in range(begin, end):
                pool.submit(tiny, i)
        began = submit_from(submitters, body, count)
        pool.shutdown()
        ended = time.perf_counter_ns()
        values = [value for tally in tallies for value in tally]
        check(len(values) == count and sum(values) == count * (count - 1) // 2)
        for tally in tallies:
            tally.clear()
        if timed:
            report(case, 'time', 'ns/task', (ended - began) / count)


def futures(case, submitters, workers):
    count = count_of(1000000)
    with ThreadPoolExecutor(workers) as pool:
        for timed in (False, True):
            sums = []

            def body(begin, end):
                ours = [pool.submit(tiny_value, i) for i in range(begin, end)]
                sums.append(sum(future.result() for future in ours))
            began = submit_from(submitters, body, count)
            ended = time.perf_counter_ns()
            check(sum(sums) == count * (count - 1) // 2 * 3)
            if timed:
                report(case, 'time', 'ns/task', (ended - began) / count)


def roundtrip(case, pause):
    count = max(8, (5000 if pause else 200000 // FEWER_TASKS) // (100 if QUICK else 1))
    samples = []
    with ThreadPoolExecutor(2) as pool:
        for i in range(count // 20 + 4):
            check(pool.submit(tiny_value, i).result() == i * 3)
        cpu = time.process_time_ns()
        for i in range(count):
            if pause:
                time.sleep(pause)
            began = time.perf_counter_ns()
            check(pool.submit(tiny_value, i).result() == i * 3)
            samples.append(time.perf_counter_ns() - began)
        cpu = time.process_time_ns() - cpu
    report_samples(case, samples, 'ns', 1)
    report(case, 'cpu', 'ns/trip', cpu / count)


def pinned(case):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    roundtrip(case, 0)


def completed(case):
    count = max(8, 100000 // (100 if QUICK else 1))
    with ThreadPoolExecutor(2) as pool:
        for timed in (False, True):
            began = time.perf_counter_ns()
            total = 0
            for future in as_completed([pool.submit(tiny_value, i) for i in range(count)]):
                total += future.result()
            ended = time.perf_counter_ns()
            check(total == count * (count - 1) // 2 * 3)
            if timed:
                report(case, 'time', 'ns/future', (ended - began) / count)


def burst(case):
    """1,000 every 2 ms are more than it can do: as fast as it can."""
    bursts = 5 if QUICK else 100
    samples = []
    with ThreadPoolExecutor(2) as pool:
        cpu = time.process_time_ns()
        due = time.perf_counter_ns()
        for _ in range(bursts):
            due = max(due + 2000000, time.perf_counter_ns())
            while time.perf_counter_ns() < due:
                time.sleep(max(0, due - time.perf_counter_ns()) / 1e9)
            began = time.perf_counter_ns()
            ours = [pool.submit(tiny_value, i) for i in range(1000)]
            check(sum(future.result() for future in ours) == 1498500)
            samples.append(time.perf_counter_ns() - began)
        cpu = time.process_time_ns() - cpu
    report_samples(case, samples, 'us', 1000)
    report(case, 'cpu', 's', cpu / 1e9 * 1000 / bursts)   # by 1,000 bursts, as the others


def lifecycle(case, workers):
    samples = []
    for i in range(10 if QUICK else 1000):
        began = time.perf_counter_ns()
        with ThreadPoolExecutor(workers) as pool:
            future = pool.submit(tiny_value, i)
        samples.append(time.perf_counter_ns() - began)
        check(future.result() == i * 3)
    report_samples(case, samples, 'us', 1000)


def resident():
    with open('/proc/self/smaps_rollup') as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith('Rss:'))


def memory(case):
    """Its tasks have futures, kept or not: these are kept."""
    count = count_of(1000000)
    gate, arrived = threading.Event(), threading.Semaphore(0)

    def wait_at_gate():
        arrived.release()
        gate.wait()
    with ThreadPoolExecutor(2) as pool:
        for _ in range(2):
            pool.submit(wait_at_gate)
        for _ in range(2):
            arrived.acquire()
        ours = [None] * count
        arguments = list(range(count))
        before = resident()
        for i in range(count):
            ours[i] = pool.submit(tiny_value, arguments[i])
        report(case, 'resident', 'bytes/task', (resident() - before) / count)
        gate.set()
        check(sum(future.result() for future in ours) == count * (count - 1) // 2 * 3)


CASES = {
    'plain/1': lambda case: plain(case, 1, 2),
    'plain/4': lambda case: plain(case, 4, 2),
    'plain/1-workers-1': lambda case: plain(case, 1, 1),
    'plain/1-workers-8': lambda case: plain(case, 1, 8),
    'plain/1-workers-64': lambda case: plain(case, 1, 64),
    'futures/1': lambda case: futures(case, 1, 2),
    'futures/4': lambda case: futures(case, 4, 2),
    'roundtrip/free': lambda case: roundtrip(case, 0),
    'roundtrip/pinned': pinned,
    'roundtrip/paused': lambda case: roundtrip(case, 200e-6),
    'completed/100000': completed,
    'memory/futures': memory,
    'burst/1000': burst,
    'lifecycle/2': lambda case: lifecycle(case, 2),
    'lifecycle/8': lambda case: lifecycle(case, 8),
}

if __name__ == '__main__':
    words = [word for word in sys.argv[1:] if not word.startswith('-')]
    wanted = [case for case in CASES if not words or case in words or case.split('/')[0] in words]
    if '--list' in sys.argv:
        for name in wanted:
            print('%s\t%s' % (name, name))
        sys.exit(0)
    if not wanted:
        sys.exit(77)
    if len(wanted) == 1:
        CASES[wanted[0]](wanted[0])
        sys.exit(0)
    # Of several, each in a process of its own.
    flags = [word for word in sys.argv[1:] if word.startswith('-')]
    sys.exit(max(subprocess.call([sys.executable, __file__] + flags + [name]) for name in wanted))
