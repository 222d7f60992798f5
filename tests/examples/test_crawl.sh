#!/bin/sh
# examples/crawl.c against two servers of its own: each page once, no host asked for more at a time than it may be, both
# at once; a page that does not come is given up in its time.     test_crawl.sh CRAWL PYTHON
set -u
crawl=$1 python=$2
unset http_proxy https_proxy all_proxy ALL_PROXY
"$python" - "$crawl" <<'END' || exit 1
import http.server, re, subprocess, sys, threading, time
crawl = sys.argv[1]
guard = threading.Lock()
gone = threading.Event()

class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    def __init__(self):
        super().__init__(("127.0.0.1", 0), Page)
        self.now, self.most, self.asked = 0, 0, []
        threading.Thread(target=self.serve_forever, daemon=True).start()
    def url(self, path):
        return f"http://127.0.0.1:{self.server_port}{path}"

together = [0, 0]                       # requests to all servers, now and at most
class Page(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *unused): pass
    def do_GET(self):
        server = self.server
        with guard:
            server.now += 1
            together[0] += 1
            server.most, together[1] = max(server.most, server.now), max(together)
            server.asked.append(self.path)
        number = re.fullmatch(r"/page/(\d+)", self.path)
        body, status = b"", 200
        if self.path == "/":
            body = b"<a HREF='page/1'>1</a> <a href=\"/page/2#part\">2</a> <a href=mailto:x>x</a>" \
                   b"<a href=\"http://elsewhere.invalid/\">x</a><a href=\"\">self</a>" + server.further
        elif number and int(number[1]) <= 40:
            n = int(number[1])
            body = f"<a href='{2 * n}'>a</a><a href=\"../page/{2 * n + 1}\">b</a><a href='/'>up</a>".encode()
        elif self.path == "/never":
            gone.wait(60)
        else:
            status = 404
        time.sleep(0.01)
        with guard:
            server.now -= 1
            together[0] -= 1
        try:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            pass

one, two = Server(), Server()
one.further, two.further = f"<a href='{two.url('/page/3')}'>other</a>".encode(), b""
done = subprocess.run([crawl, "-p", "3", one.url("/"), two.url("/")], text=True, capture_output=True, timeout=50)
assert done.returncode == 0, done
lines = done.stdout.splitlines()
wanted = {server.url("/") for server in (one, two)}
wanted |= {server.url(f"/page/{n}") for server in (one, two) for n in range(1, 82)}
assert {line.split()[2] for line in lines} == wanted and len(lines) == len(wanted), set(lines)
assert all(line.startswith("200 " if int(re.search(r"\d*$", line)[0] or 1) <= 40 else "404 0 ") for line in lines), lines
for server in (one, two):
    assert len(server.asked) == len(set(server.asked)) == 82
    assert server.most <= 3, server.most
assert together[1] > 3, together     # both hosts at once

done = subprocess.run([crawl, "-n", "10", two.url("/")], text=True, capture_output=True, timeout=50)
assert done.returncode == 0 and len(done.stdout.splitlines()) == 10, done

began = time.monotonic()
done = subprocess.run([crawl, "-t", "3", two.url("/never"), one.url("/page/40")], text=True, capture_output=True,
                      timeout=50)
assert done.returncode == 1 and f"failed {two.url('/never')}: took too long" in done.stdout, done
assert f"404 0 {one.url('/page/80')}" in done.stdout, done
gone.set()
for words in ([], ["-p", "0", one.url("/")], ["ftp://127.0.0.1/"]):
    assert subprocess.run([crawl] + words, capture_output=True, timeout=50).returncode in (1, 2)
END
