"""What README.md says is there is there: each public function stands in its index and each function of the index in the
header; each test that it names exists, and each file that README.md, bench/README.md or tests/README.md links to; each
example stands in the index, and says in its first line what it is for.     documentation.py SOURCE_FOLDER"""
import os
import re
import subprocess
import sys

top = sys.argv[1]
failures = []


def read(*names):
    with open(os.path.join(top, *names), encoding='utf-8') as file:
        return file.read()


def section(text, title):
    return text.split('\n## %s\n' % title)[1].split('\n## ')[0]


readme = read('README.md')
index = section(readme, 'I want to ...')
told = subprocess.run([sys.executable, os.path.join(top, '.packaging', 'man_pages.py'), '--functions',
                       os.path.join(top, 'tpool.h')], check=True, text=True, stdout=subprocess.PIPE).stdout
functions = {line.split()[0] for line in told.splitlines()}
indexed = set(re.findall(r'`(tpool_[a-z_]+)`', index))
failures += ['%s is not in the index' % name for name in sorted(functions - indexed)]
failures += ['the index has %s, the header has not' % name for name in sorted(indexed - functions)]
for row in [line for line in index.splitlines() if line.startswith('| ') and 'examples/' in line]:
    wanted = re.findall(r'`(?:config\.|task\.)?([a-z_]+)(?: = [A-Z_]+)?`', row.split('|')[2])
    for example in re.findall(r'\((examples/[a-z_/]+\.c)\)', row):
        if not any(re.search(r'\b%s\b' % word, read(example)) for word in wanted):
            failures.append('%s has nothing of: %s' % (example, row.split('|')[1].strip()))
header = read('tpool.h')
for struct, fields in (('tpool_config', 'config'), ('tpool_task', 'task')):
    text = re.search(r'typedef struct %s \{.*?\} %s;' % (struct, struct), header, re.S).group(0)
    for field in sorted(set(re.findall(r'`%s\.([a-z_]+)' % fields, readme))):
        if not re.search(r'\b%s\b' % field, re.sub(r'/\*.*?\*/', '', text, flags=re.S)):
            failures.append('%s has no %s' % (struct, field))

# `test_queue_full: a_drop_holds_no_other_task_while_it_ends_one`
tests = {}
for folder, _, names in os.walk(os.path.join(top, 'tests')):
    for name in names:
        if name.endswith('.c'):
            tests[name[:-2]] = read(folder, name)
named = re.findall(r'`(\w+): (\w+)`', section(readme, 'What users of other pools report'))
for file, name in named:
    if not re.search(r'^static (?:void|int) %s\(' % name, tests.get(file, ''), re.M):
        failures.append('there is no test %s in %s' % (name, file))
    elif len(re.findall(r'\b%s\b' % name, tests[file])) < 2:
        failures.append('%s in %s is not called' % (name, file))
rows = [line for line in section(readme, 'What users of other pools report').splitlines() if line.startswith('| ')]
failures += ['a row without a test: %s' % row for row in rows[1:] if not re.search(r'`\w+: \w+` \|$|`\w+: \w+`', row)]
failures += ['a row without a report: %s' % row for row in rows[1:] if 'https://github.com/' not in row]

for page in ('README.md', 'bench/README.md', 'tests/README.md', 'tests/model/README.md'):
    for link in re.findall(r'\]\(([^)#\s]+)(?:#[^)]*)?\)', read(page)):
        if '://' not in link and not os.path.exists(os.path.join(top, os.path.dirname(page), link)):
            failures.append('%s links to %s, which is not there' % (page, link))

# GitHub's anchor of a heading: small letters, no punctuation, hyphens for blanks.
anchors = {re.sub(r'[^\w -]', '', title.lower()).replace(' ', '-') for title in re.findall(r'^#+ (.*)$', readme, re.M)}
failures += ['README.md has no heading for #%s' % anchor for anchor in re.findall(r'\]\(#([^)]+)\)', readme)
             if anchor not in anchors]

for name in sorted(os.listdir(os.path.join(top, 'examples'))):
    if name.endswith(('.c', '.cc')):
        if '(examples/%s)' % name not in readme:
            failures.append('examples/%s does not stand in the README' % name)
        text = read('examples', name)
        if not re.match(r'/\* %s: [^\n]{20,}|// %s: [^\n]{20,}' % (name[:-2], name.split('.')[0]), text):
            failures.append('examples/%s does not say in its first line what it is for' % name)
        if name.endswith('.c') and '-pthread' not in text[:1500]:
            failures.append('examples/%s does not say that it needs -pthread' % name)

# Whoever opens the file comes to the functions soon.
before = read('tpool.h').split('#ifndef TPOOL_H\n')[0].count('\n') + 1
if before >= 300:
    failures.append('the API begins in line %d of tpool.h, after line 299' % before)

if len(functions) < 100 or len(named) < 20:
    failures.append('found only %d functions and %d tests: this script cannot read them' % (len(functions), len(named)))
print('%d functions, %d tests' % (len(functions), len(named)))
for failure in failures:
    print('FAILED:', failure)
sys.exit(1 if failures else 0)
