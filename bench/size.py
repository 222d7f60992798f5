#!/usr/bin/env python3
"""What tpool.h costs before it has run anything: bytes of code in a program, time to compile; and bytes a waiting task.

    bench/size.py                     this header
    bench/size.py --older 5           and five older versions of it, evenly spread over its history, where git has that
    bench/size.py --commits A B C     and these versions
    bench/size.py --why               what keeps code in the smallest program, the largest parts first

The program has create, submit, result, release and destroy, and nothing else; -Os -ffunction-sections -fdata-sections
-Wl,--gc-sections leave in it what these reach. Code is what `size` calls text: instructions, constant data, and the
tables by which debuggers and C++ unwind the stack (-fno-asynchronous-unwind-tables leaves those out). CC and CFLAGS as
for a build. Times are the least of three.
"""
import argparse
import collections
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(HERE)
CC = shlex.split(os.environ.get('CC', 'cc')) + shlex.split(os.environ.get('CFLAGS', '')) + ['-std=c11', '-pthread']
SMALL = ['-Os', '-ffunction-sections', '-fdata-sections', '-Wl,--gc-sections']
LARGEST = 64 * 1024     # what the smallest program should have at most, in bytes of text

PROGRAM = '''
#define TPOOL_IMPLEMENTATION
#include "tpool.h"
static void *half(void *arg) { return (void *)((intptr_t)arg / 2); }
int main(void) {
    tpool *pool;
    tpool_future *future;
    void *result;
    if (tpool_create(&pool, 0) != TPOOL_OK) return 1;
    if (tpool_submit(pool, half, (void *)84, &future) != TPOOL_OK) return 1;
    if (tpool_future_result(future, TPOOL_FOREVER, &result) != TPOOL_OK) return 1;
    tpool_future_release(future);
    return tpool_destroy(pool) != TPOOL_OK || result != (void *)42;
}
'''
# An empty program has some hundred bytes of its own, for the C library.
EMPTY = 'int main(void) { return 0; }\n'


class Work:
    """A folder with the programs, and the versions of the header in folders of their own."""

    def __init__(self, folder):
        self.folder = folder
        for name, text in (('small.c', PROGRAM), ('empty.c', EMPTY), ('declarations.c', '#include "tpool.h"\n'),
                           ('whole.c', '#define TPOOL_IMPLEMENTATION\n#include "tpool.h"\n')):
            with open(self.path(name), 'w') as file:
                file.write(text)

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def built(self, source, header, *flags):
        """The program, or the object with -c; None where this version does not build so."""
        out = self.path('out.o' if '-c' in flags else 'out')
        done = subprocess.run(CC + list(flags) + ['-I' + header, '-o', out, self.path(source)],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return out if done.returncode == 0 else None

    def text(self, source, header, *flags):
        out = self.built(source, header, *flags)
        if not out:
            return None
        told = subprocess.run(['size', out], check=True, text=True, stdout=subprocess.PIPE).stdout
        return int(told.splitlines()[1].split()[0])

    def seconds(self, source, header, *flags):
        least = None
        for _ in range(3):
            began = time.perf_counter()
            if not self.built(source, header, '-c', *flags):
                return None
            took = time.perf_counter() - began
            least = took if least is None else min(least, took)
        return least


def row(what, value):
    print('| %s | %s |' % (what, value))


def size_of(value):
    return '-' if value is None else '%.1f KiB' % (value / 1024)


def seconds_of(value):
    return '-' if value is None else '%.2f s' % value


def bytes_a_task(work):
    """{case: bytes}, by the bench's own workload."""
    figures = {}
    out = work.path('bench')
    subprocess.run(CC + ['-std=gnu11', '-O2', '-I' + TOP, '-o', out, os.path.join(HERE, 'all.c')], check=True)
    for case in ('memory/plain', 'memory/futures'):
        told = subprocess.run([out, case], check=True, text=True, stdout=subprocess.PIPE, timeout=120).stdout
        for line in told.splitlines():
            name, figure, unit, value = line.split('\t')
            if figure == 'resident':
                figures[name] = float(value)
    return figures


def older(count, commits, folder):
    """[(commit, date, its header's folder)]: those asked for, and `count` of all, evenly spread."""
    def git(*words):
        done = subprocess.run(['git', '-C', TOP] + list(words), text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE)
        return done.stdout if done.returncode == 0 else ''
    if count:
        every = git('log', '--first-parent', '--reverse', '--format=%h', '--', 'tpool.h').split()
        commits = [every[i * len(every) // count] for i in range(min(count, len(every)))] + commits
    for commit in commits:
        text = git('show', commit + ':tpool.h')
        if text:
            header = os.path.join(folder, commit)
            os.makedirs(header, exist_ok=True)
            with open(os.path.join(header, 'tpool.h'), 'w') as file:
                file.write(text)
            yield commit, git('log', '-1', '--format=%ad', '--date=short', commit).strip(), header


def why(work):
    """What would go from the smallest program if nothing referred to a function: the code that only it refers to,
    directly or over others (its subtree of the dominator tree over the relocations of the object)."""
    obj = work.built('small.c', TOP, '-c', *SMALL[:3])
    refers, sizes = collections.defaultdict(set), {}
    told = subprocess.run(['objdump', '-h', obj], check=True, text=True, stdout=subprocess.PIPE).stdout
    for line in told.splitlines():
        words = line.split()
        if len(words) >= 7 and words[0].isdigit() and re.match(r'\.(text|rodata|data)', words[1]):
            sizes[words[1]] = int(words[2], 16)
    section_of = {}
    told = subprocess.run(['objdump', '-t', obj], check=True, text=True, stdout=subprocess.PIPE).stdout
    for line in told.splitlines():
        found = re.match(r'[0-9a-f]+ .{7} (\S+)\s+[0-9a-f]+ (?:\.hidden )?(\S+)$', line)
        if found:
            section_of[found.group(2)] = found.group(1)
    section, told = None, subprocess.run(['objdump', '-r', obj], check=True, text=True, stdout=subprocess.PIPE).stdout
    for line in told.splitlines():
        found = re.match(r'RELOCATION RECORDS FOR \[(.*)\]', line)
        if found:
            section = found.group(1)
        elif section in sizes and len(line.split()) == 3:
            name = re.sub(r'[+-]0x[0-9a-f]+$', '', line.split()[2])
            to = section_of.get(name, name)
            if to in sizes and to != section:
                refers[section].add(to)
    root = '.text.startup.main' if '.text.startup.main' in sizes else '.text.main'

    def reached(without=None):
        seen, stack = {root}, [root]
        while stack:
            for to in refers[stack.pop()] - seen - {without}:
                seen.add(to)
                stack.append(to)
        return seen
    everything = reached()
    total = sum(sizes[name] for name in everything)
    print('\n%s reached; without a function:\n' % size_of(total))
    gone = {name: total - sum(sizes[other] for other in reached(name)) for name in everything - {root}}
    for name, size in sorted(gone.items(), key=lambda item: -item[1])[:60]:
        by = sorted(other.split('.')[-1] for other in everything if name in refers[other])
        print('%8d  %-40s  referred to by %s' % (size, name.split('.', 2)[-1],
                                                 ', '.join(by[:4]) + (', ...' if len(by) > 4 else '')))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--older', type=int, default=0, metavar='N')
    parser.add_argument('--commits', nargs='+', default=[], metavar='COMMIT')
    parser.add_argument('--why', action='store_true')
    parser.add_argument('--text-only', action='store_true', help='no times and no memory')
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Work(folder)
        if arguments.why:
            return why(work)
        no_tables, no_processes = '-fno-asynchronous-unwind-tables', '-DTPOOL_NO_PROCESSES'
        print('| Code in a program | |\n|---|--:|')
        smallest = work.text('small.c', TOP, *SMALL)
        empty = work.text('empty.c', TOP, *SMALL)
        row('create, submit, result, destroy: -Os, what nothing reaches dropped', size_of(smallest - empty))
        row('the same with `-DTPOOL_NO_PROCESSES`', size_of(work.text('small.c', TOP, no_processes, *SMALL) - empty))
        row('and with `-fno-asynchronous-unwind-tables`',
            size_of(work.text('small.c', TOP, no_processes, no_tables, *SMALL) - empty))
        row('all of it, -Os', size_of(work.text('whole.c', TOP, '-c', '-Os')))
        row('all of it, -O2', size_of(work.text('whole.c', TOP, '-c', '-O2')))
        if not arguments.text_only:
            print('\n| Time to compile | |\n|---|--:|')
            for flag in ('-O0', '-Os', '-O2'):
                row('the implementation, %s' % flag, seconds_of(work.seconds('whole.c', TOP, flag)))
            row('the declarations, in each other file', seconds_of(work.seconds('declarations.c', TOP, '-O2')))
            print('\n| Memory of a waiting task | |\n|---|--:|')
            for case, value in bytes_a_task(work).items():
                row('with a future' if case == 'memory/futures' else 'plain', '%.1f bytes' % value)
        versions = list(older(arguments.older, arguments.commits, folder))
        if versions:
            print('\n| The smallest program with older versions | | -Os | without processes |\n|---|---|--:|--:|')
            for commit, date, header in versions:
                with_all, without = (work.text('small.c', header, *flags, *SMALL) for flags in ([], [no_processes]))
                print('| %s | %s | %s | %s |' % (commit, date, size_of(with_all and with_all - empty),
                                                 size_of(without and without - empty)))
        if smallest - empty > LARGEST:
            print('\nThe smallest program has %.2f times the %d KiB that it should have at most.'
                  % ((smallest - empty) / LARGEST, LARGEST // 1024))
    return 0


if __name__ == '__main__':
    sys.exit(main())
