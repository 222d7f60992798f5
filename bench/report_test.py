"""What report.py makes of contestants whose figures are known: little programs that say what they are told to."""
import csv
import os
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
MARKS = ['<!-- bench: begin, written by bench/report.py -->', '<!-- bench: end -->']

# argv: the file to count runs in, then for each case its name, its exit code and its values, one a run.
PROGRAM = '''
import sys, time
count_file, *rest = sys.argv[1:]
flags = [word for word in rest if word in ("--list", "--quick")]
words = [word for word in rest if word not in flags]
asked = words.pop() if "--list" not in flags else None
cases = [words[i:i + 4] for i in range(0, len(words), 4)]
if "--list" in flags:
    for name, figure, code, values in cases: print(name + "\\ttitle of " + name)
    sys.exit(0)
for name, figure, code, values in cases:
    if name != asked: continue
    with open(count_file, "a") as file: file.write(sys.argv[1].rsplit("/", 1)[1] + "\\n")
    with open(count_file) as file: run = len(file.readlines()) - 1
    if code == "hang": time.sleep(60)
    values = values.split(",")
    if values[0]: print("\\t".join([name, figure, "ns/task", values[run % len(values)]]))
    sys.exit(int(code))
sys.exit(77)
'''


class Report(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = lambda *names: os.path.join(self.folder.name, *names)
        os.mkdir(self.path('bench'))
        with open(self.path('program.py'), 'w') as file:
            file.write(PROGRAM)
        self.lines = []
        self.contestant('floors', ['floor/rmw', 'time', '0', '10'])

    def tearDown(self):
        self.folder.cleanup()

    def contestant(self, name, *cases):
        words = [sys.executable, '-ISB', self.path('program.py'), self.path(name)] + [word for case in cases for word in case]
        self.lines.append('\t'.join([name, name.capitalize(), '1.0', ' '.join("'%s'" % word for word in words)]))

    def report(self, *arguments):
        with open(self.path('bench', 'contestants.txt'), 'w') as file:
            file.write('\n'.join(self.lines) + '\n\n')
        return subprocess.run([sys.executable, os.path.join(HERE, 'report.py'), '--build', self.folder.name,
                               '--csv', self.path('out.csv'), '--rounds', '1'] + list(arguments),
                              text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def again(self, *arguments):
        """From what was measured, without measuring."""
        return subprocess.run([sys.executable, os.path.join(HERE, 'report.py'), '--from', self.path('out.csv')]
                              + list(arguments), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def rows(self):
        with open(self.path('out.csv')) as file:
            rows = csv.DictReader(line for line in file if not line.startswith('#'))
            return {(row['case'], row['contestant']): row for row in rows}

    def marked(self, name='page.md', between=''):
        """A file with the marks and nothing else."""
        with open(self.path(name), 'w') as file:
            file.write('before\n%s\n%s%s\nafter\n' % (MARKS[0], between, MARKS[1]))
        return self.path(name)

    def text(self, name='page.md'):
        with open(self.path(name)) as file:
            return file.read()

    def test_median_least_and_most_of_the_rounds(self):
        self.contestant('ours', ['plain/1', 'time', '0', '50,10,20'])
        self.assertEqual(0, self.report('--rounds', '3').returncode)
        row = self.rows()['plain/1', 'ours']
        self.assertEqual(('20', '10', '50', '3'), (row['median'], row['min'], row['max'], row['rounds']))
        self.assertEqual(('10', '2'), (row['floor_rmw_ns'], row['median_per_floor']))

    def test_contestants_take_turns(self):
        log = []
        self.contestant('ours', ['plain/1', 'time', '0', '1,2,3'])
        self.contestant('peer', ['plain/1', 'time', '0', '10,20,30'])
        self.assertEqual(0, self.report('--rounds', '2').returncode)
        for name in ('ours', 'peer'):
            with open(self.path(name)) as file:
                log.append(len(file.readlines()))
        self.assertEqual([2, 2], log)
        self.assertEqual('10', self.rows()['plain/1', 'peer']['times_ours'])

    def test_a_case_that_a_peer_does_not_have_is_no_failure(self):
        self.contestant('ours', ['plain/1', 'time', '0', '1'], ['tree/2', 'time', '0', '1'])
        self.contestant('peer', ['plain/1', 'time', '0', '10'])
        self.assertEqual(0, self.report().returncode)
        self.assertIn(('plain/1', 'peer'), self.rows())
        self.assertNotIn(('tree/2', 'peer'), self.rows())

    def test_a_wrong_result_of_a_peer_fails_the_report_and_is_shown(self):
        self.contestant('ours', ['plain/1', 'time', '0', '12'])
        self.contestant('peer', ['plain/1', 'time', '1', '345'])
        self.contestant('other', ['plain/1', 'time', '0', '67'])
        done = self.report('--page', self.marked())
        self.assertEqual(1, done.returncode, done.stderr)
        self.assertIn('FAILED: plain/1, peer', done.stdout)
        self.assertNotIn(('plain/1', 'peer'), self.rows())
        self.assertIn('| **12** (12–12) | failed | 67 |', self.text())
        self.marked()
        self.assertEqual(0, self.again('--page', self.path('page.md')).returncode)
        self.assertIn('| **12** (12–12) | 67 |', self.text())    # of which only the figures are left

    def test_what_only_we_have_stands_in_a_table_of_its_own_on_the_page(self):
        self.contestant('ours', ['plain/1', 'time', '0', '12'], ['tree/2', 'time', '0', '34'])
        self.contestant('peer', ['plain/1', 'time', '0', '67'])
        done = self.report('--page', self.marked())
        self.assertEqual(0, done.returncode, done.stderr)
        beside, alone = self.text().split('| Without a peer |')
        self.assertIn('| **12** (12–12) | 67 |', beside)
        self.assertNotIn('**34**', beside)
        self.assertIn('| **34** (34–34) |', alone)

    def test_a_wrong_result_of_ours_fails_the_report_and_leaves_the_texts(self):
        self.contestant('ours', ['plain/1', 'time', '1', '1'])
        self.contestant('peer', ['plain/1', 'time', '0', '10'])
        texts = [self.marked(name, 'as it was\n') for name in ('README.md', 'page.md')]
        done = self.report('--readme', texts[0], '--page', texts[1])
        self.assertEqual(1, done.returncode, done.stderr)
        self.assertIn('FAILED: plain/1, ours', done.stdout)
        self.assertNotIn(('plain/1', 'ours'), self.rows())
        for name in ('README.md', 'page.md'):
            self.assertIn('as it was', self.text(name))

    def test_the_readme_gets_a_short_table_in_which_a_project_has_one_column(self):
        self.contestant('ours', ['plain/1', 'time', '0', '50'], ['for/even', 'speedup', '0', '1.5'],
                        ['plain/9', 'time', '0', '1'])
        self.contestant('tbb_group', ['plain/1', 'time', '0', '30'])
        self.contestant('tbb_enqueue', ['plain/1', 'time', '0', '20'], ['for/even', 'speedup', '0', '1.25'])
        self.contestant('ring', ['plain/1', 'time', '0', '7'])           # none that is asked for
        self.contestant('libuv', ['plain/1', 'time', '1', '9'])
        self.assertEqual(1, self.report('--readme', self.marked()).returncode)
        lines = [line for line in self.text().splitlines() if line.startswith('| ')]
        self.assertEqual('| | tpool.h | TBB | OpenMP | libuv | Boost.Asio | Go | Java |', lines[0])
        self.assertTrue(all(len(line.split('|')) - 2 <= 8 for line in lines))
        self.assertEqual(['| a tiny task, one thread submits, ns | 50 | **20** | - | failed | - | - | - |'],
                         [line for line in lines if 'one thread submits' in line])
        self.assertNotIn('plain/9', self.text())
        self.assertEqual(3, len(lines), lines)

    def test_figures_are_kept_as_they_were_measured(self):
        self.contestant('ours', ['plain/1', 'time', '0', '50,10,20'], ['plain/4', 'time', '0', '30,40'])
        self.contestant('libuv', ['plain/1', 'time', '0', '70'])
        first = self.report('--rounds', '3', '--page', self.marked(), '--readme', self.marked('README.md'))
        self.assertEqual(0, first.returncode, first.stderr)
        measured = [self.text(), self.text('README.md')]
        done = self.again('--page', self.marked(), '--readme', self.marked('README.md'))
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertEqual(measured, [self.text(), self.text('README.md')])
        self.assertIn('| title of plain/1 | ns/task | **20** (10–50) | 70 |', measured[0])
        self.assertRegex(measured[1], r'Medians of 3 interleaved runs on .*CPU')
        for name in ('ours', 'libuv', 'floors'):
            with open(self.path(name)) as file:
                runs = len(file.readlines())
            self.again()
            with open(self.path(name)) as file:
                self.assertEqual(runs, len(file.readlines()))

    def test_a_file_of_an_earlier_version_gives_tables_too(self):
        with open(self.path('out.csv'), 'w') as file:
            file.write('case,title,figure,unit,contestant,version,rounds,median,min,max,floor_rmw_ns,median_per_floor,'
                       'times_ours\nplain/1,"a title, with a comma",time,ns/task,ours,0.1.0,7,24.5,19.4,33,5,4.9,1\n'
                       'plain/1,"a title, with a comma",time,ns/task,asio,1.74,7,388,343,415,5,77,16\n')
        earlier = 'Medians of 7 interleaved runs on a PDP-11; gcc. Then\n'
        done = self.again('--readme', self.marked('README.md', earlier),
                          '--page', self.marked())
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertIn('| a title, with a comma | ns/task | **24.5** (19.4–33) | 388 |', self.text())
        for name in ('page.md', 'README.md'):
            self.assertIn('Medians of 7 interleaved runs on a PDP-11; gcc. ', self.text(name))

    def test_measuring_and_what_was_measured_are_one_or_the_other(self):
        self.contestant('ours', ['plain/1', 'time', '0', '50'])
        self.assertEqual(2, self.report('--from', self.path('out.csv')).returncode)

    def test_a_run_that_does_not_end_fails_the_report(self):
        self.contestant('ours', ['plain/1', 'time', 'hang', '1'])
        self.assertEqual(1, self.report('--limit', '1').returncode)

    def test_a_run_that_says_nothing_fails_the_report(self):
        self.contestant('ours', ['plain/1', 'time', '0', ''])
        self.assertEqual(1, self.report().returncode)

    def test_a_bar_scales_with_the_floor(self):
        # 30 ns where the floor is 5 are 60 where it is 10.
        self.contestant('ours', ['plain/1', 'time', '0', '59'], ['plain/4', 'time', '0', '81'])
        told = self.report().stdout
        self.assertRegex(told, r'at most 60: met')
        self.assertRegex(told, r'at most 80: NOT MET')

    def test_a_bar_that_is_a_peers_figure(self):
        self.contestant('ours', ['tree/2', 'time', '0', '26'])
        self.contestant('tbb_group', ['tree/2', 'time', '0', '100'])
        self.assertRegex(self.report().stdout, r'at most 25: NOT MET')

    def test_a_bar_that_is_a_floor_brings_the_floor_along(self):
        self.lines.clear()
        self.contestant('floors', ['floor/rmw', 'time', '0', '10'], ['floor/futex-pinned', 'mean', '0', '1000'])
        self.contestant('ours', ['roundtrip/pinned', 'mean', '0', '1249'])
        self.assertRegex(self.report('--only', 'roundtrip').stdout, r'at most 1,250: met')

    def test_only_and_peers_select(self):
        self.contestant('ours', ['plain/1', 'time', '0', '1'], ['plain/4', 'time', '0', '1'], ['plainer', 'time', '0', '1'])
        self.contestant('one', ['plain/1', 'time', '0', '10'])
        self.contestant('two', ['plain/1', 'time', '0', '10'])
        self.report('--only', 'plain', '--peers', 'two')
        self.assertEqual({('plain/1', 'ours'), ('plain/4', 'ours'), ('plain/1', 'two')}, set(self.rows()))
        self.report('--only', 'plain/4', '--ours-only')
        self.assertEqual({('plain/4', 'ours')}, set(self.rows()))
        self.assertEqual(1, self.report('--only', 'plai').returncode)

    def test_a_stopped_run_goes_on_where_it_was(self):
        self.contestant('ours', ['plain/1', 'time', '0', '12,99'], ['plain/4', 'time', '0', '34'])
        self.contestant('peer', ['plain/1', 'time', '0', '345,999'])
        self.report('--only', 'plain/1', '--resume', self.path('kept'))
        with open(self.path('kept'), 'a') as file:
            file.write('\n{"case": "plain/4", "fig')    # it was stopped while it wrote
        self.report('--resume', self.path('kept'))
        rows = self.rows()
        self.assertEqual({('plain/1', 'ours'): '12', ('plain/1', 'peer'): '345', ('plain/4', 'ours'): '34'},
                         {key: row['median'] for key, row in rows.items() if key[0].startswith('plain')})
        self.assertEqual('10', rows['plain/1', 'ours']['floor_rmw_ns'])

    def test_the_table_goes_between_the_marks(self):
        self.contestant('ours', ['plain/1', 'time', '0', '12'])
        self.contestant('peer', ['plain/1', 'time', '0', '345'])
        self.marked('page.md', 'old\n')
        for _ in range(2):
            done = self.report('--page', self.path('page.md'))
            self.assertEqual(0, done.returncode, done.stderr)
            text = self.text()
            self.assertTrue(text.startswith('before\n' + MARKS[0]) and text.endswith(MARKS[1] + '\nafter\n'))
            self.assertIn('| title of plain/1 | ns/task | **12** (12–12) | 345 |', text)
            self.assertNotIn('old', text)
        with open(self.path('page.md'), 'w') as file:
            file.write('no marks')
        self.assertNotEqual(0, self.report('--page', self.path('page.md')).returncode)


if __name__ == '__main__':
    unittest.main()
