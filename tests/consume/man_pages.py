"""The man pages: each public function in the page of its group, in NAME and SYNOPSIS; no word of the comments lost; no
warning from groff and mandoc, where these are.     man_pages.py SOURCE_FOLDER BUILD_FOLDER"""
import os
import re
import shutil
import subprocess
import sys

source, build = sys.argv[1:]
script, header = os.path.join(source, '.packaging', 'man_pages.py'), os.path.join(source, 'tpool.h')


def told(*words):
    return subprocess.run([sys.executable, script] + list(words), check=True, text=True, stdout=subprocess.PIPE).stdout


with open(header, encoding='utf-8') as file:
    text = file.read()
interface = text[text.index('>>api  The public interface'):text.index('#endif /* TPOOL_H */')]
failures = []

# Functions, found otherwise than the script finds them.
declared = re.findall(r'(\btpool_[a-z_]+)\(', ' '.join(re.sub(r'\([^()]*\)(?=[^;]*;)', '()', declaration).split(';')[0]
                      for declaration in re.sub(r'/\*.*?\*/', '', interface, flags=re.S).split('TPOOL_API')[1:]))
declared = [name for name in dict.fromkeys(declared) if '__' not in name]
page_of = dict(line.split() for line in told('--functions', header).splitlines())
if len(declared) < 100 or set(declared) != set(page_of):
    failures.append('declared, and in pages: %s' % sorted(set(declared) ^ set(page_of)))
pages = told('--list', header).split()
built = sorted(name for name in os.listdir(build) if name.endswith('.3'))
if sorted(pages) != built:
    failures.append('meson.build has other pages than the header: %s' % sorted(set(pages) ^ set(built)))


def plain(page):
    page = re.sub(r'\\f[BR]|\\&', '', page)
    return page.replace('\\-', '-').replace('\\(bu', '').replace('\\e', '\\')


everything = ''
for name in built:
    path = os.path.join(build, name)
    with open(path, encoding='utf-8') as file:
        page = plain(file.read())
    everything += page
    names = page.split('.SH NAME')[1].split('.SH')[0]
    synopsis = page.split('.SH SYNOPSIS')[1].split('.SH')[0]
    for function in [function for function, own in page_of.items() if own == name]:
        if not re.search(r'\b%s\b' % function, names) or not re.search(r'\b%s\(' % function, synopsis):
            failures.append('%s does not name %s' % (name, function))
    if 'TPOOL_API' in synopsis or 'TPOOL__' in synopsis:
        failures.append('%s shows macros of the library' % name)
    for tool, words in (('groff', ['-man', '-Tutf8', '-ww', '-z']), ('mandoc', ['-T', 'lint', '-W', 'error'])):
        if shutil.which(tool):
            done = subprocess.run([tool] + words + [path], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            if done.stdout.strip():
                failures.append('%s: %s' % (tool, done.stdout.strip()[:500]))

# Each sentence of the comments, by its words.
wanted = re.findall(r'/\*(?! =)(.*?)\*/', interface[interface.index('>>status'):], flags=re.S)
words = re.sub(r'\s+', ' ', re.sub(r'\n\.(?:PP|IP[^\n]*|nf|fi|RS[^\n]*|RE)', '', everything))
for comment in wanted:
    comment = re.sub(r'-{60,}|>>\w+ +[^\n]*|\n \*', ' ', comment)
    for sentence in re.split(r'(?<=[.:;]) ', re.sub(r'\s+', ' ', comment).strip()):
        if sentence.strip(' -') and sentence.strip(' -') not in words:
            failures.append('lost: %s' % sentence)

print('%d functions in %d pages' % (len(page_of), len(pages)))
for failure in failures[:20]:
    print('FAILED:', failure)
sys.exit(1 if failures else 0)
