#!/usr/bin/env python3
"""Runs the workloads of bench/ for every contestant that was built, interleaved, and reports.

    bench/report.py --build build                        everything: table, CSV, chart
    bench/report.py --build build --only plain/1 tree    some workloads or cases
    bench/report.py --build build --ours-only            only tpool.h (and the floors)
    bench/report.py --build build --readme README.md --page bench/README.md
                                                         and put the tables between their marks: one of a dozen rows and
                                                         eight columns into the README, all figures into the page
    bench/report.py --from bench/results.csv --svg bench/results.svg --readme README.md --page bench/README.md
                                                         tables and chart anew from what was measured, without measuring
    bench/report.py --header new/tpool.h --against old/tpool.h --only plain
                                                         two versions of the header, each compiled here, side by side
    bench/report.py --build build --resume FILE          goes on where a run was stopped that had the same FILE
    bench/report.py --build build --quick                that everything runs and is right; the figures mean nothing

A round runs each contestant once, each in a process of its own, so that the contestants take turns (ours, peer, ours,
peer, ...) and whatever the machine does meanwhile meets all of them. The floor of an uncontended atomic
read-modify-write is measured in every round too. A figure is the median over the rounds. A run whose results are wrong,
or that does not end, is a failure of the whole report, and what other rounds of it gave is not used.
"""
import argparse
import csv
import json
import math
import os
import platform
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time

HERE = os.path.dirname(os.path.abspath(__file__))
NOT_THERE = 77        # the exit code of a contestant without the workload
FLOOR = ('floor/rmw', 'time')
BEGIN_MARK = '<!-- bench: begin, written by bench/report.py -->'
END_MARK = '<!-- bench: end -->'


class Contestant:
    """A program that runs cases: our header, a peer, or the floors."""

    def __init__(self, name, title, version, command):
        self.name, self.title, self.version, self.command = name, title, version, command

    def list(self):
        """[(case, title)]"""
        try:
            done = subprocess.run(self.command + ['--list'], check=True, text=True, stdout=subprocess.PIPE)
        except (OSError, subprocess.CalledProcessError) as error:
            raise SystemExit('%s cannot run (%s): meson compile -C BUILD bench-programs builds all contestants'
                             % (self.name, error))
        return [tuple(line.split('\t')[:2]) for line in done.stdout.splitlines()]

    def run(self, case, quick, limit):
        """{(case, figure): (unit, value)}, {} when there is no such case; raises what went wrong."""
        command = self.command + (['--quick'] if quick else []) + [case]
        done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=limit,
                              preexec_fn=pin_to_one if 'pinned' in case else None)
        if done.returncode == NOT_THERE:
            return {}
        if done.returncode != 0:
            raise RuntimeError('ended with %d: %s' % (done.returncode, done.stderr.strip()[-500:]))
        figures = {}
        for line in done.stdout.splitlines():
            name, figure, unit, value = line.split('\t')
            if name != case:
                raise RuntimeError('ran %s' % name)
            figures[name, figure] = unit, float(value)
        if not figures:
            raise RuntimeError('reported nothing')
        return figures


def pin_to_one():
    """In the child, before its program starts: some runtimes count their CPUs only then."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def built_contestants(build):
    """As bench/meson.build has written them down: name, title, version, command, separated by tabs."""
    with open(os.path.join(build, 'bench', 'contestants.txt')) as lines:
        for line in lines:
            if line.strip():
                name, title, version, command = line.rstrip('\n').split('\t')
                yield Contestant(name, title, version, shlex.split(command))


def compiled_contestant(name, header, folder):
    """Our workloads, compiled here against the given header."""
    if os.path.isdir(header):
        header = os.path.join(header, 'tpool.h')
    include = os.path.join(folder, name + '_include')
    os.mkdir(include)
    shutil.copy(header, os.path.join(include, 'tpool.h'))
    program = os.path.join(folder, name)
    compiler = shlex.split(os.environ.get('CC', 'cc')) + shlex.split(os.environ.get('CFLAGS', '-O2'))
    subprocess.run(compiler + ['-std=gnu11', '-pthread', '-I' + include, os.path.join(HERE, 'all.c'), '-o', program],
                   check=True)
    return Contestant(name, name, header, [program])


def compiled_floors(folder):
    program = os.path.join(folder, 'floors')
    compiler = shlex.split(os.environ.get('CC', 'cc')) + ['-O2']
    subprocess.run(compiler + ['-std=gnu11', '-pthread', os.path.join(HERE, 'floors.c'), '-o', program], check=True)
    return Contestant('floors', 'floors', '', [program])


def selected(cases, only):
    return [name for name in cases if not only or any(name == word or name.startswith(word + '/') for word in only)]


def contestants_of(case, contestants, floors):
    """An idle pool is looked at for ten seconds a time, and only ours is held against anything."""
    if case.startswith('floor/'):
        return [floors]
    return contestants[:1] if case.startswith('idle/') else list(contestants)


class Results:
    """samples[case, figure][contestant] = [value of each round]; floors_of[case] = [the floor in each round]"""

    def __init__(self):
        self.samples, self.units, self.titles, self.failures, self.floors_of = {}, {}, {}, [], {}

    def add(self, contestant, figures):
        for key, (unit, value) in figures.items():
            self.units[key] = unit
            self.samples.setdefault(key, {}).setdefault(contestant, []).append(value)

    def drop(self, contestant, case):
        for key in self.samples:
            if key[0] == case:
                self.samples[key].pop(contestant, None)

    def save(self, path, case):
        """What came of a case: a line."""
        keys = [key for key in self.samples if key[0] == case]
        with open(path, 'a') as file:
            file.write('\n')    # behind what a stop may have cut
            json.dump({'case': case, 'floors': self.floors_of.get(case, []),
                       'figures': [[key[1], self.units[key], self.samples[key]] for key in keys],
                       'failures': [failure for failure in self.failures if failure[0] == case]}, file)

    def load(self, path):
        """The cases that an earlier run has saved. A line that was cut is as if it were not there."""
        done = set()
        if not os.path.exists(path):
            return done
        with open(path) as file:
            for line in file:
                try:
                    saved = json.loads(line)
                except ValueError:
                    continue
                case = saved['case']
                done.add(case)
                if saved['floors']:
                    self.floors_of[case] = saved['floors']
                self.failures += [tuple(failure) for failure in saved['failures']]
                for figure, unit, samples in saved['figures']:
                    self.units[case, figure], self.samples[case, figure] = unit, samples
        return done

    def median(self, key, contestant):
        values = self.samples.get(key, {}).get(contestant)
        return statistics.median(values) if values else None


def measure(contestants, floors, bars, arguments):
    results = Results()
    cases, begun = [], time.monotonic()
    done = results.load(arguments.resume) if arguments.resume else set()
    for contestant in contestants + [floors]:
        for name, title in contestant.list():
            if name not in results.titles:
                results.titles[name] = title
                cases.append((name, title))
    # The floors first, then our cases in the order of the workloads.
    cases.sort(key=lambda case: not case[0].startswith('floor/'))
    wanted = selected([name for name, title in cases], arguments.only)
    referred = {word for key, bar in bars.items() if key[0] in wanted for word in bar.split()}
    for case in [name for name, title in cases if (name in wanted or name in referred) and name not in done]:
        able = contestants_of(case, contestants, floors)
        for turn in range(arguments.rounds):
            if floors not in able:
                figures = floors.run(FLOOR[0], arguments.quick, arguments.limit)
                results.floors_of.setdefault(case, []).append(figures[FLOOR][1])
            for contestant in list(able):
                try:
                    figures = contestant.run(case, arguments.quick, arguments.limit)
                except (RuntimeError, ValueError, subprocess.TimeoutExpired, OSError) as error:
                    results.failures.append((case, contestant.name, str(error)))
                    results.drop(contestant.name, case)
                    figures = {}
                if not figures:
                    able.remove(contestant)   # it cannot, or it failed
                results.add(contestant.name, figures)
        if arguments.resume:
            results.save(arguments.resume, case)
        if not arguments.silent:
            print('%5.0f s  %-24s %s' % (time.monotonic() - begun, case, ', '.join(c.name for c in able)),
                  file=sys.stderr, flush=True)
    return results


# --- what the figures are held against

def read_bars(path):
    """{(case, figure): text}; see bars.txt."""
    bars = {}
    with open(path) as lines:
        for line in lines:
            words = line.split('#')[0].split(None, 2)
            if words:
                bars[words[0], words[1]] = words[2].strip()
    return bars


def bar_of(key, bars, results):
    """(value, 'most' or 'least'), or None where the run does not have what the bar refers to. A bar in nanoseconds
    scales with the floor of its own run."""
    match = re.fullmatch(r'(most|least) ([0-9.]+)(?: \* (\S+)(?: (\S+))?)?', bars.get(key, ''))
    if not match:
        return None
    sense, factor, other, figure = match.groups()
    value = float(factor)
    if other and figure:           # a floor
        reference = results.median((other, figure), 'floors')
        if reference is None:
            return None
        scale = 0.001 if results.units[key] == 'us' and results.units[other, figure] == 'ns' else 1
        value *= reference * scale
    elif other:                    # a peer in the same case
        reference = results.median(key, other)
        if reference is None:
            return None
        value *= reference
    elif results.units[key].startswith('ns') and results.floors_of.get(key[0]):
        value *= statistics.median(results.floors_of[key[0]]) / 5
    return value, sense


# --- output

def number(value):
    if value is None:
        return '-'
    if value == 0:
        return '0'
    if abs(value) >= 99.5:
        return '{:,.0f}'.format(value)
    return '%.3g' % value


def keys_in_order(results):
    cases = list(results.titles)
    return sorted(results.samples, key=lambda key: cases.index(key[0]))


def print_table(results, contestants, bars, out):
    """For a terminal: every figure of ours with its spread and its bar, what it was compiled against, and the peers,
    the best first, as multiples of ours."""
    ours = contestants[0].name
    for case in results.titles:
        keys = [key for key in keys_in_order(results) if key[0] == case]
        if not keys:
            continue
        floor = statistics.median(results.floors_of[case]) if results.floors_of.get(case) else None
        out.write('\n%s: %s%s\n' % (case, results.titles[case], ' (floor %.2f ns)' % floor if floor else ''))
        for key in keys:
            samples, bar, reference = results.samples[key], bar_of(key, bars, results), results.median(key, ours)
            for name in (ours, 'against', 'floors'):
                if name not in samples:
                    continue
                median = statistics.median(samples[name])
                out.write('  %-13s %-8s %10s %-10s  %10s .. %-10s' % (
                    key[1], name, number(median), results.units[key], number(min(samples[name])),
                    number(max(samples[name]))))
                if results.units[key].startswith('ns') and floor:
                    out.write(' %7s floors' % number(median / floor))
                if name == 'against' and reference:
                    out.write('  %.3f times ours' % (median / reference))
                if name == ours and bar:
                    met = median <= bar[0] if bar[1] == 'most' else median >= bar[0]
                    out.write('  at %s %s: %s' % (bar[1], number(bar[0]), 'met' if met else 'NOT MET'))
                out.write('\n')
            peers = {name: statistics.median(values) for name, values in samples.items()
                     if name not in (ours, 'against', 'floors')}
            best_first = sorted(peers.items(), key=lambda item: item[1], reverse=results.units[key] == 'times')
            told = ['%s %s%s' % (name, number(value), ' (x%s)' % number(value / reference) if reference else '')
                    for name, value in best_first]
            if told:
                indent = ' ' * 16
                out.write(textwrap.fill(', '.join(told), 118, initial_indent=indent, subsequent_indent=indent) + '\n')
    for case, name, error in results.failures:
        out.write('\nFAILED: %s, %s: %s\n' % (case, name, error))


def write_csv(results, contestants, where, path):
    """A comment about the machine, one for each run that failed, and a row for each figure of each contestant."""
    about = {contestant.name: contestant for contestant in contestants}
    with open(path, 'w', newline='') as file:
        file.write('# machine: %s\n' % where)
        for case, name in sorted({failure[:2] for failure in results.failures}):
            file.write('# failed: %s %s\n' % (case, name))
        rows = csv.writer(file, lineterminator='\n')
        rows.writerow(['case', 'title', 'figure', 'unit', 'contestant', 'version', 'rounds', 'median', 'min', 'max',
                       'floor_rmw_ns', 'median_per_floor', 'times_ours', 'contestant_title'])
        for key in keys_in_order(results):
            floor = results.floors_of.get(key[0])
            floor = statistics.median(floor) if floor else None
            ours = results.median(key, contestants[0].name)
            for name, values in results.samples[key].items():
                median = statistics.median(values)
                in_ns = results.units[key].startswith('ns')
                rows.writerow([key[0], results.titles[key[0]], key[1], results.units[key], name,
                               about[name].version if name in about else '', len(values), '%.6g' % median,
                               '%.6g' % min(values), '%.6g' % max(values), '%.4g' % floor if floor else '',
                               '%.4g' % (median / floor) if floor and in_ns else '',
                               '%.4g' % (median / ours) if ours else '', about[name].title if name in about else ''])


def read_csv(path):
    """(results, contestants, machine) as write_csv has written them. Of a figure it has the median, the least and the
    most; the rounds between are taken for medians. A file of an earlier version has no comments, so that machine is '',
    and no titles of contestants: their names stand for them."""
    results, contestants, where, lines = Results(), {}, '', []
    with open(path, newline='') as file:
        for line in file:
            if line.startswith('# machine: '):
                where = line[len('# machine: '):].strip()
            elif line.startswith('# failed: '):
                results.failures.append((*line.split()[2:4], 'it failed when this was measured'))
            elif not line.startswith('#'):
                lines.append(line)
    for row in csv.DictReader(lines):
        key, rounds = (row['case'], row['figure']), int(row['rounds'])
        median, least, most = (float(row[column]) for column in ('median', 'min', 'max'))
        results.titles.setdefault(row['case'], row['title'])
        results.units[key] = row['unit']
        results.samples.setdefault(key, {})[row['contestant']] = (
            [median] if rounds == 1 else [least] + [median] * (rounds - 2) + [most])
        if row['floor_rmw_ns']:
            results.floors_of[row['case']] = [float(row['floor_rmw_ns'])]
        if row['contestant'] != 'floors' and row['contestant'] not in contestants:
            title = row.get('contestant_title') or row['contestant']
            contestants[row['contestant']] = Contestant(row['contestant'], title, row['version'], [])
    if not contestants:
        raise SystemExit('%s holds no figures' % path)
    return results, sorted(contestants.values(), key=lambda contestant: contestant.name != 'ours'), where


def machine():
    """One paragraph about where and with what."""
    model, virtual, memory = platform.processor() or platform.machine(), '', ''
    try:
        with open('/proc/cpuinfo') as file:
            text = file.read()
        found = re.search(r'^model name\s*: (.*)$', text, re.M)
        model = found.group(1) if found else model
        virtual = ', a virtual machine' if re.search(r'^flags\s*:.*\bhypervisor\b', text, re.M) else ''
        with open('/proc/meminfo') as file:
            memory = ', %.0f GiB' % (int(re.search(r'MemTotal:\s*(\d+)', file.read()).group(1)) / 2 ** 20)
    except OSError:
        pass
    system = platform.system() + ' ' + platform.release().split('-')[0]
    try:
        with open('/etc/os-release') as file:
            system = re.search(r'^PRETTY_NAME="?([^"\n]*)', file.read(), re.M).group(1) + ', ' + system
    except (OSError, AttributeError):
        pass
    libc = ' '.join(platform.libc_ver())
    return '%s, %d CPUs%s%s; %s, %s' % (model, len(os.sched_getaffinity(0)), virtual, memory, system, libc)


# Of workloads that have many figures, those that the page shows; the CSV file has all.
PAGE_FIGURES = {'roundtrip/pinned': ['mean'], 'roundtrip/paused': ['p50', 'cpu'], 'for': ['speedup'],
                'completed': ['time'], 'memory': ['resident'], 'burst': ['p50', 'cpu'], 'lifecycle': ['p50'],
                'manager': ['get', 'idle', 'pair', 'entry', 'ratio'], 'bounded': ['most'],
                'observation': ['call', 'trace', 'time', 'p50'], 'loop': ['ratio']}

# The README's table and chart: what is asked for most. A column is a project; of one that has two ways of running a
# task it shows the better one, row by row.
README_COLUMNS = [('tpool.h', ['ours']), ('TBB', ['tbb_group', 'tbb_enqueue']), ('OpenMP', ['openmp']),
                  ('libuv', ['libuv']), ('Boost.Asio', ['asio']), ('Go', ['goroutine', 'channel']),
                  ('Java', ['executor', 'forkjoinpool'])]
README_ROWS = [('plain/1', 'time', 'a tiny task, one thread submits, ns'),
               ('plain/4', 'time', 'the same, four threads submit, ns'),
               ('plain/1-workers-64', 'time', 'the same, one thread, 64 workers, ns'),
               ('futures/1', 'time', 'a tiny task with a future, read and released, ns'),
               ('tree/2', 'time', 'a task that awaits its two children, ns'),
               ('forkjoin/2', 'time', 'fork and join, ns'),
               ('roundtrip/free', 'p50', 'submit and wait for the result, p50, ns'),
               ('for/20us', 'speedup', 'a loop of 20 us on two CPUs, times as fast as on one'),
               ('for/even', 'speedup', 'a loop of 0.25 s on two CPUs, times as fast as on one'),
               ('burst/1000', 'p50', 'a burst of 1,000 tasks, p50, us'),
               ('burst/1000', 'cpu', 'bursts every 2 ms for 2 s, CPU seconds'),
               ('lifecycle/2', 'p50', 'create a pool of 2, one task, destroy, p50, us'),
               ('memory/plain', 'resident', 'a waiting task, bytes')]
CHART_PANELS = [('plain/1', 'time'), ('futures/1', 'time'), ('tree/2', 'time'), ('burst/1000', 'p50')]


def on_page(key):
    figures = PAGE_FIGURES.get(key[0]) or PAGE_FIGURES.get(key[0].split('/')[0])
    return not figures or key[1] in figures


def better(key, values, results):
    return max(values) if results.units.get(key) == 'times' else min(values)


def of_columns(key, results):
    """[median of the column's better contestant, 'failed' where none is left of those that ran, or None]"""
    failed = {name for case, name, error in results.failures if case == key[0]}
    row = []
    for title, names in README_COLUMNS:
        medians = [results.median(key, name) for name in names if results.median(key, name) is not None]
        row.append(better(key, medians, results) if medians else 'failed' if failed & set(names) else None)
    return row


def measured(results, where):
    count = max((len(values) for by in results.samples.values() for values in by.values()), default=0)
    return 'Medians of %d interleaved runs on %s.' % (count, where or 'a machine that the figures do not name')


def readme_section(results, where, chart):
    """The README's: the machine, the chart, a dozen rows."""
    lines = [BEGIN_MARK, '', measured(results, where) + ' Of a project with two ways of running a task the better one '
             'counts, row by row. "-": it has no such thing. The best of a row is bold.', '']
    if chart:
        lines += ['![Some of these figures as bars, on a logarithmic scale](%s)' % chart, '']
    lines += ['| | ' + ' | '.join(title for title, names in README_COLUMNS) + ' |',
              '|---|' + '--:|' * len(README_COLUMNS)]
    for case, figure, text in README_ROWS:
        row = of_columns((case, figure), results)
        values = [value for value in row if isinstance(value, float)]
        if isinstance(row[0], float):
            best = better((case, figure), values, results)
            lines.append('| %s | %s |' % (text, ' | '.join(
                value if value == 'failed' else '**%s**' % number(value) if value == best else number(value)
                for value in row)))
    return '\n'.join(lines + ['', END_MARK])


def page_section(results, contestants, where):
    """The page's: the machine, the figures, those that only we have, the floors."""
    failed_somewhere = {name for case, name, error in results.failures}
    shown = [c for c in contestants if c.name in failed_somewhere
             or any(c.name in values for values in results.samples.values())]
    ours, peers = shown[0], shown[1:]
    floor = [value for values in results.floors_of.values() for value in values]
    lines = [BEGIN_MARK, '', '%s An uncontended atomic read-modify-write took %s ns in the same runs. In brackets the '
             'least and the most of our runs; "-" where a contestant has no such thing.'
             % (measured(results, where), number(statistics.median(floor)) if floor else '?'), '']
    lines += ['| | | tpool.h | ' + ' | '.join(c.title for c in peers) + ' |' if peers else '| | | tpool.h |',
              '|---|---|--:|' + '--:|' * len(peers)]
    last, alone = None, []
    for key in keys_in_order(results):
        if key[0].startswith('floor/') or ours.name not in results.samples[key] or not on_page(key):
            continue
        values = results.samples[key][ours.name]
        title = results.titles[key[0]] if key[0] != last else ''
        last = key[0]
        figure = results.units[key] if key[1] == 'time' else '%s, %s' % (key[1], results.units[key])
        own = '**%s** (%s–%s)' % (number(statistics.median(values)), number(min(values)), number(max(values)))
        failed = {name for case, name, error in results.failures if case == key[0]}
        others = ['failed' if c.name in failed else number(results.median(key, c.name)) for c in peers]
        if failed or len(results.samples[key]) > 1 or not peers:
            lines.append('| ' + ' | '.join([title, figure, own] + others) + ' |')
        else:
            alone.append('| %s | %s | %s |' % (title or results.titles[key[0]], figure, own))
    if alone:
        lines += ['', '| Without a peer | | tpool.h |', '|---|---|--:|'] + alone
    lines += ['', '| Floor of the machine, in the same run | median | |', '|---|--:|---|']
    for key in keys_in_order(results):
        if key[0].startswith('floor/') and key[1] in ('time', 'p50', 'cpu', 'speed'):
            lines.append('| %s | %s | %s |' % (results.titles[key[0]], number(results.median(key, 'floors')),
                                               results.units[key] + (', p50' if key[1] == 'p50' else '')))
    versions = ', '.join('%s %s' % (c.title, c.version) for c in peers if c.version)
    if versions:
        lines += ['', 'Versions: %s.' % versions]
    return '\n'.join(lines + ['', END_MARK])


def machine_in(path):
    """What an earlier section of this file says about the machine, or ''."""
    with open(path) as file:
        found = re.search(r'^Medians of \d+ interleaved runs on (.*?)\. ', file.read(), re.M)
    return found.group(1) if found else ''


def put_into(path, section):
    with open(path) as file:
        text = file.read()
    begin, end = text.find(BEGIN_MARK), text.find(END_MARK)
    if begin < 0 or end < begin:
        raise SystemExit('%s has no lines "%s" and "%s" to put the table between' % (path, BEGIN_MARK, END_MARK))
    with open(path, 'w') as file:
        file.write(text[:begin] + section + text[end + len(END_MARK):])


def draw(results, path):
    """A panel for each of some rows of the README, one below the other: a bar for each of its columns, the fastest on
    top, on a logarithmic scale. As wide as a page shows it unscaled. False where gnuplot is not installed."""
    gnuplot = shutil.which('gnuplot')
    panels = []
    for case, figure, text in README_ROWS:
        row = of_columns((case, figure), results) if (case, figure) in CHART_PANELS else []
        bars = [(title, value) for (title, names), value in zip(README_COLUMNS, row)
                if isinstance(value, float) and value > 0]
        if bars:
            panels.append((text, sorted(bars, key=lambda bar: bar[1])))
    if not gnuplot or not panels:
        return False
    most = max(len(bars) for text, bars in panels)
    height = (22 * most + 50) * len(panels)
    script = ['set terminal svg size 760,%d font "sans,13" background "white" noenhanced' % height,
              'set output "%s"' % path.replace('"', ''),
              'set multiplot layout %d,1' % len(panels),
              'set logscale x', 'unset xtics', 'unset key', 'unset border', 'set ytics nomirror scale 0',
              'set lmargin 14', 'set rmargin 3', 'set tmargin 2', 'set bmargin 0.5']
    for number_of, (text, bars) in enumerate(panels):
        least = bars[0][1] * 0.3                                      # the shortest bar has a length, too
        rows = ['%d %.6g %d "%s" "%s"' % (-i, value, 0x1b6e3c if title == README_COLUMNS[0][0] else 0x9aa7b5,
                                          title.replace('"', ''), number(value))
                for i, (title, value) in enumerate(bars)]
        script += ['$panel%d << END_OF_DATA' % number_of] + rows + [
            'END_OF_DATA', 'set title "%s" offset 0,-0.4' % text,
            'set xrange [%g:%g]' % (least, (bars[-1][1] / least) ** 1.15 * least), 'set yrange [%g:0.7]' % (0.3 - most),
            'plot $panel%d using 2:1:(%g):2:($1-0.38):($1+0.38):3:ytic(4) with boxxyerror fs solid noborder '
            'lc rgb variable, $panel%d using 2:1:5 with labels left offset 0.5,0' % (number_of, least, number_of)]
    subprocess.run([gnuplot, '-'], input='\n'.join(script) + '\n', text=True, check=True)
    return True


def measure_all(arguments, bars):
    """(results, contestants, the machine and the compiler)"""
    with tempfile.TemporaryDirectory() as folder:
        contestants, floors = [], None
        if arguments.build:
            for contestant in built_contestants(arguments.build):
                if contestant.name == 'floors':
                    floors = contestant
                else:
                    contestants.append(contestant)
        if arguments.header:
            contestants = [c for c in contestants if c.name != 'ours']
            contestants.insert(0, compiled_contestant('ours', arguments.header, folder))
        if arguments.against:
            contestants.insert(1, compiled_contestant('against', arguments.against, folder))
        if arguments.ours_only:
            contestants = [c for c in contestants if c.name in ('ours', 'against')]
        if arguments.peers is not None:
            wanted = ['ours', 'against'] + arguments.peers.split(',')
            contestants = [c for c in contestants if c.name in wanted]
        floors = floors or compiled_floors(folder)
        results = measure(contestants, floors, bars, arguments)
    return results, contestants, machine() + ('; ' + floors.version + ' -O2' if floors.version else '')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--build', help='a Meson build folder configured with -Dbench=true')
    parser.add_argument('--header', help='compile our workloads here, against this tpool.h')
    parser.add_argument('--against', help='and against this one, as another contestant')
    parser.add_argument('--only', nargs='+', default=[], metavar='CASE', help='workloads, or workload/variant')
    parser.add_argument('--ours-only', action='store_true')
    parser.add_argument('--peers', help='only these peers, by name, separated by commas')
    parser.add_argument('--rounds', type=int, help='default 7; in a quick run 1')
    parser.add_argument('--quick', action='store_true', help='tiny sizes: does everything run, and is it right?')
    parser.add_argument('--limit', type=float, default=120, help='seconds that one run may take')
    parser.add_argument('--csv', metavar='FILE')
    parser.add_argument('--svg', metavar='FILE', help='a chart, where gnuplot is installed')
    parser.add_argument('--readme', metavar='FILE', help='put the short table and the chart between its marks')
    parser.add_argument('--page', metavar='FILE', help='put all figures and the floors between its marks')
    parser.add_argument('--from', dest='measured_before', metavar='CSV', help='measure nothing, take these figures')
    parser.add_argument('--resume', metavar='FILE', help='keep what each case gave here, and do not measure it again')
    parser.add_argument('--silent', action='store_true', help='no progress, and no table unless something failed')
    arguments = parser.parse_args()
    if arguments.measured_before and (arguments.build or arguments.header or arguments.csv):
        parser.error('--from measures nothing: give neither --build, --header nor --csv')
    if not arguments.build and not arguments.header and not arguments.measured_before:
        parser.error('give --build, --header, or --from')
    if arguments.rounds is None:
        arguments.rounds = 1 if arguments.quick else 7
    bars = read_bars(os.path.join(HERE, 'bars.txt'))

    if arguments.measured_before:
        results, contestants, where = read_csv(arguments.measured_before)
    else:
        results, contestants, where = measure_all(arguments, bars)

    if not arguments.silent or (results.failures and not arguments.measured_before):
        print_table(results, contestants, bars, sys.stdout)
    if not results.samples:
        print('no such case')
        return 1
    if arguments.csv:
        write_csv(results, contestants, where, arguments.csv)
    drawn = False
    if arguments.svg:
        drawn = draw(results, arguments.svg)
        if not drawn:
            print('no chart: gnuplot is not installed, or there is nothing to draw', file=sys.stderr)
    # A peer that failed is shown as that; when ours or a floor did, the old tables stay.
    if not {name for case, name, error in results.failures} & {contestants[0].name, 'floors'}:
        for path in (arguments.readme, arguments.page):
            if path and not where:
                where = machine_in(path)
        if arguments.readme:
            folder = os.path.dirname(os.path.abspath(arguments.readme))
            chart = os.path.relpath(arguments.svg, folder) if drawn else None
            put_into(arguments.readme, readme_section(results, where, chart))
        if arguments.page:
            put_into(arguments.page, page_section(results, contestants, where))
    return 1 if results.failures and not arguments.measured_before else 0


if __name__ == '__main__':
    sys.exit(main())
