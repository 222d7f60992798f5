#!/usr/bin/env python3
"""Makes the man pages from the comments of tpool.h: tpool.3 of what stands before the interface, and one for each
section of the interface, named after its mark (>>task is tpool_task.3).

    man_pages.py tpool.h VERSION PAGE.3 ...    writes these pages, each named by its path
    man_pages.py --list tpool.h                prints the names of all pages there are
    man_pages.py --functions tpool.h           prints the public functions, each with its page
"""
import os
import re
import sys

RULE = re.compile(r'^(?:/\*)?[ *]*[-=]{60,}')
MARK = re.compile(r'^ \*  >>([a-z]+)  (.*)$')
FUNCTION = re.compile(r'\b(tpool_[a-z_]+)\(')
NAME = re.compile(r'\b(tpool_[a-z_]+|TPOOL_[A-Z_]+)\b')


def escaped(text):
    text = text.replace('\\', '\\e').replace('-', '\\-')
    return '\\&' + text if text[:1] in (".", "'") else text


def prose(text):
    """A line of a comment, with the library's names in bold."""
    parts = NAME.split(text)
    line = ''.join('\\fB%s\\fR' % part if i % 2 else part.replace('\\', '\\e') for i, part in enumerate(parts))
    return '\\&' + line if line[:1] in (".", "'") else line


def paragraphs(lines, width=1):
    """Lines of a comment without its frame. What is blank ends a paragraph; "- " begins an item; what is indented
    further than the text around it is kept as it is."""
    out, literal, item = [], False, False
    for line in lines:
        depth = len(line) - len(line.lstrip())
        text = line.strip()
        as_it_is = depth >= width + 4 and not item
        if literal and not as_it_is:
            out.append('.fi')
            literal = False
        if not text:
            if out and out[-1] != '.PP':
                out.append('.PP')
            item = False
        elif text.startswith('- '):
            out += ['.IP \\(bu 2', prose(text[2:])]
            item = True
        elif as_it_is:
            if not literal:
                out.append('.nf')
                literal = True
            out.append(escaped(line[width:]))
        else:
            if item and depth <= width:                       # the item is over, though no blank line says so
                out.append('.PP')
                item = False
            out.append(prose(text))
    if literal:
        out.append('.fi')
    while out and out[-1] == '.PP':
        out.pop()
    return out


def without_macros(code):
    """Declarations as a user reads them. What goes on in further lines moves to the left with the parenthesis."""
    out, shift = [], 0
    for line in code:
        if re.match(r'#(?:if|else|endif)|#define tpool__', line):
            continue
        if line.startswith('TPOOL_API '):
            shown = re.sub(r'^TPOOL_API (?:TPOOL__NODISCARD )?', '', line)
            shift = len(line) - len(shown)
        else:
            shown = line[shift:] if line.startswith(' ' * shift) else line
        shown = re.sub(r'\s*TPOOL__PRINTF\([^)]*\)', '', shown)
        if shown.strip() == ';':
            out[-1] += ';'
        elif shown.strip():
            out.append(shown)
        if ';' in line:
            shift = 0
    return out


class Section:
    def __init__(self, mark, title):
        self.mark, self.title, self.about, self.blocks = mark, title, [], []    # blocks: (comment, code)

    def functions(self):
        names = []
        for comment, code in self.blocks:
            text = re.sub(r'/\*.*?\*/', '', '\n'.join(code), flags=re.S)
            if 'TPOOL_API' in text:
                for declaration in text.split('TPOOL_API')[1:]:
                    names.append(FUNCTION.search(declaration).group(1))
        return names


def comment_text(lines):
    """The lines of a comment without its frame, indented by one."""
    out = []
    for line in lines:
        line = re.sub(r'^/\* ?', ' ', line)
        line = re.sub(r'^ \*(?!/) ?', ' ', line)
        out.append(re.sub(r' ?\*/\s*$', '', line).rstrip())
    return out


def sections_of(lines):
    """Those of the interface: from >>status to the end of the declarations."""
    begin = next(i for i, line in enumerate(lines) if MARK.match(line) and MARK.match(line).group(1) == 'status')
    end = next(i for i, line in enumerate(lines) if '#endif /* TPOOL_H */' in line)
    sections, i = [], begin
    while i < end:
        line = lines[i]
        mark = MARK.match(line)
        if mark:
            sections.append(Section(mark.group(1), mark.group(2)))
            i += 1
            about = []
            while not RULE.match(lines[i]):
                about.append(re.sub(r'^ \* ?', '', lines[i]).rstrip())
                i += 1
            sections[-1].about = about
            i += 1
        elif RULE.match(line) or not line.strip():
            i += 1
        elif line.startswith('/*'):
            comment = []
            while True:
                comment.append(lines[i])
                i += 1
                if '*/' in comment[-1]:
                    break
            sections[-1].blocks.append((comment_text(comment), []))
        else:
            code = []
            while i < end and lines[i].strip() and not lines[i].startswith('/*'):
                code.append(lines[i].rstrip())
                depth = sum(l.count('{') - l.count('}') for l in code)
                i += 1
                while depth > 0:
                    code.append(lines[i].rstrip())
                    depth += lines[i].count('{') - lines[i].count('}')
                    i += 1
            if re.match(r'#ifdef __cplusplus', code[0]):
                break
            if not sections[-1].blocks or sections[-1].blocks[-1][1]:
                sections[-1].blocks.append(([], []))
            sections[-1].blocks[-1][1].extend(code)
    return sections


def part_before(lines, mark):
    """What stands in the first comment under a mark, without its frame."""
    i = next(i for i, line in enumerate(lines) if MARK.match(line) and MARK.match(line).group(1) == mark) + 1
    part = []
    while not RULE.match(lines[i]) and not lines[i].startswith(' */'):
        part.append(re.sub(r'^ \* ?', '', lines[i]).rstrip())
        i += 1
    return part


def head(name, version):
    return ['.\\" Made from the comments of tpool.h by man_pages.py.',
            '.TH %s 3 "" "tpool.h %s"' % (name.upper(), version), '.nh', '.ad l', '.SH NAME']


def see_also(sections, own):
    names = ['tpool'] + ['tpool_' + section.mark for section in sections]
    return ['.SH SEE ALSO', ',\n'.join('.BR %s (3)' % name for name in names if name != own).replace(',\n', ' ,\n')]


def page_of(section, sections, version):
    name = 'tpool_' + section.mark
    functions = section.functions()
    names = functions if name in functions else [name] + functions
    out = head(name, version) + [', '.join(names) + ' \\- ' + section.title]
    out += ['.SH SYNOPSIS', '.nf', '#include "tpool.h"']
    for comment, code in section.blocks:
        if code and any('TPOOL_API' in line for line in code):
            out += ['.PP'] + ['.B ' + escaped(line) if not line.startswith(' ') else '\\fB' + escaped(line) + '\\fR'
                              for line in without_macros(code)]
    out += ['.fi', '.SH DESCRIPTION'] + paragraphs(section.about, 1)
    for comment, code in section.blocks:
        shown = without_macros(code)
        if shown:
            out += ['.PP', '.nf'] + ['\\fB' + escaped(line) + '\\fR' for line in shown] + ['.fi']
        if comment:
            out += (['.RS 4'] if shown else ['.PP']) + paragraphs(comment) + (['.RE'] if shown else [])
    return out + see_also(sections, name)


def page_of_the_whole(lines, sections, version):
    begin = next(i for i, line in enumerate(lines) if not line.strip(' *\n')) + 1
    about = [re.sub(r'^ \* ?', '', line).rstrip() for line in lines[begin:begin + 40]]
    about = about[:next(i for i, line in enumerate(about) if '====' in line)]
    out = head('tpool', version) + ['tpool \\- ' + 'thread pools and futures for C11', '.SH SYNOPSIS', '.nf',
                                    '#include "tpool.h"', '.fi', '.SH DESCRIPTION'] + paragraphs(about)
    for mark, title in (('options', 'MACROS'), ('contract', 'WHAT HOLDS'), ('caveats', 'WHAT PEOPLE GET WRONG')):
        out += ['.SH ' + title] + paragraphs(part_before(lines, mark))
    return out + see_also(sections, 'tpool')


def main():
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    listing = sys.argv[1] if sys.argv[1].startswith('--') else ''
    with open(sys.argv[2] if listing else sys.argv[1], encoding='utf-8') as file:
        lines = file.read().split('\n')
    sections = sections_of(lines)
    if listing == '--list':
        print('\n'.join(['tpool.3'] + ['tpool_%s.3' % section.mark for section in sections]))
    elif listing == '--functions':
        for section in sections:
            for name in section.functions():
                print(name, 'tpool_%s.3' % section.mark)
    else:
        by_name = {'tpool_%s.3' % section.mark: section for section in sections}
        for path in sys.argv[3:]:
            name = os.path.basename(path)
            if name == 'tpool.3':
                out = page_of_the_whole(lines, sections, sys.argv[2])
            elif name in by_name:
                out = page_of(by_name[name], sections, sys.argv[2])
            else:
                raise SystemExit('tpool.h has no section for %s' % name)
            # a blank line is a request of its own
            text = '\n'.join(line if line else '.PP' for line in out)
            text = re.sub(r'(\n\.S[HS] .*)((?:\n\.PP)+)', r'\1', text)
            with open(path, 'w', encoding='utf-8') as file:
                file.write(text + '\n')


if __name__ == '__main__':
    main()
