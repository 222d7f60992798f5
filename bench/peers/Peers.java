// Java, as the workloads of bench/ want it: the same cases, the same lines of output. --peer=executor: a
// ThreadPoolExecutor of fixed size; --peer=forkjoinpool: a ForkJoinPool in its asynchronous mode. Each workload runs some
// times before it counts, since the compiler needs that. Memory is the heap's, after a collection.
import java.util.Arrays;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.*;
import java.util.concurrent.atomic.AtomicLong;
import java.util.stream.IntStream;

public final class Peers {
    static boolean quick;
    static boolean forkJoin;
    static final int PASSES = 8;   // the last one counts

    static int countOf(int full) { return Math.max(8, quick ? full / 100 : full); }
    static void report(String name, String figure, String unit, double value) {
        System.out.printf(java.util.Locale.ROOT, "%s\t%s\t%s\t%s%n", name, figure, unit,
            java.math.BigDecimal.valueOf(value).round(new java.math.MathContext(6)).toPlainString());
    }
    static void reportSamples(String name, long[] samples, String unit, double unitNs) {
        Arrays.sort(samples);
        report(name, "mean", unit, Arrays.stream(samples).average().getAsDouble() / unitNs);
        report(name, "p50", unit, samples[samples.length / 2] / unitNs);
        report(name, "p99", unit, samples[(int)((long)samples.length * 99 / 100)] / unitNs);
    }
    static void check(boolean condition) {
        if (condition) return;
        System.err.println("a result is wrong");
        Runtime.getRuntime().halt(1);
    }
    static long cpu() {
        return ((com.sun.management.OperatingSystemMXBean)
            java.lang.management.ManagementFactory.getOperatingSystemMXBean()).getProcessCpuTime();
    }
    static void pause(long ns) {
        long until = System.nanoTime() + ns;
        for (long left = ns; left > 0; left = until - System.nanoTime())
            java.util.concurrent.locks.LockSupport.parkNanos(left);
    }

    // --- the tiny task adds its argument to a tally of the thread that runs it

    static class Tally { long count, sum; long p1, p2, p3, p4, p5, p6, p7, p8, p9, p10, p11, p12, p13, p14; }
    static final List<Tally> tallies = new CopyOnWriteArrayList<>();
    static final AtomicLong otherCount = new AtomicLong(), otherSum = new AtomicLong();   // of threads outside
    static Tally newTally() {
        Tally tally = new Tally();
        tallies.add(tally);
        return tally;
    }
    static final class PlainWorker extends Thread {
        final Tally tally = newTally();
        PlainWorker(Runnable body) { super(body); }
    }
    static final class ForkJoinWorker extends ForkJoinWorkerThread {
        final Tally tally = newTally();
        ForkJoinWorker(ForkJoinPool pool) { super(pool); }
    }
    static void add(long value) {
        Thread thread = Thread.currentThread();
        Tally tally;
        if (thread instanceof PlainWorker) tally = ((PlainWorker)thread).tally;
        else if (thread instanceof ForkJoinWorker) tally = ((ForkJoinWorker)thread).tally;
        else {
            otherCount.incrementAndGet();
            otherSum.addAndGet(value);
            return;
        }
        tally.count++;
        tally.sum += value;
    }
    static void verify(int count) {   // after the pool has ended
        long ran = otherCount.getAndSet(0), sum = otherSum.getAndSet(0);
        for (Tally tally : tallies) { ran += tally.count; sum += tally.sum; }
        tallies.clear();
        check(ran == count && sum == (long)count * (count - 1) / 2);
    }
    static final class Tiny implements Runnable {
        final int value;
        Tiny(int value) { this.value = value; }
        public void run() { add(value); }
    }
    static final class TinyAction extends RecursiveAction {
        private static final long serialVersionUID = 1;
        final int value;
        TinyAction(int value) { this.value = value; }
        protected void compute() { add(value); }
    }
    static final class TinyValue implements Callable<Long> {
        final int value;
        TinyValue(int value) { this.value = value; }
        public Long call() { return value * 3L; }
    }
    static final class TinyValueTask extends RecursiveTask<Long> {
        private static final long serialVersionUID = 1;
        final int value;
        TinyValueTask(int value) { this.value = value; }
        protected Long compute() { return value * 3L; }
    }

    static ExecutorService create(int workers) {
        if (forkJoin) return new ForkJoinPool(workers, ForkJoinWorker::new, null, true);
        return new ThreadPoolExecutor(workers, workers, 0, TimeUnit.SECONDS, new LinkedBlockingQueue<>(),
            PlainWorker::new);
    }
    static void submit(ExecutorService pool, int value) {
        if (forkJoin) ((ForkJoinPool)pool).execute(new TinyAction(value));
        else pool.execute(new Tiny(value));
    }
    static Future<Long> submitFuture(ExecutorService pool, int value) {
        return forkJoin ? ((ForkJoinPool)pool).submit(new TinyValueTask(value)) : pool.submit(new TinyValue(value));
    }
    static long result(Future<Long> future) throws Exception {
        return forkJoin ? ((ForkJoinTask<Long>)future).join() : future.get();
    }
    static void end(ExecutorService pool) throws InterruptedException {
        pool.shutdown();
        check(pool.awaitTermination(1, TimeUnit.MINUTES));
    }

    interface Body { void run(int begin, int end) throws Exception; }
    // Shares 0 .. count-1 out to threads, of which one is the caller. When they began.
    static long submitFrom(int submitters, int count, Body body) throws Exception {
        if (submitters == 1) {
            long began = System.nanoTime();
            body.run(0, count);
            return began;
        }
        CyclicBarrier start = new CyclicBarrier(submitters + 1);
        Thread[] threads = new Thread[submitters];
        for (int i = 0; i < submitters; i++) {
            int begin = (int)((long)count * i / submitters), end = (int)((long)count * (i + 1) / submitters);
            threads[i] = new Thread(() -> {
                try {
                    start.await();
                    body.run(begin, end);
                } catch (Exception e) { check(false); }
            });
            threads[i].start();
        }
        Thread.sleep(1);
        long began = System.nanoTime();
        start.await();
        for (Thread thread : threads) thread.join();
        return began;
    }

    // --- workloads

    // Drained by ending, which the time includes.
    static void plain(String name, int submitters, int workers) throws Exception {
        int count = countOf(1000000);
        for (int pass = 1; pass <= PASSES; pass++) {
            ExecutorService pool = create(workers);
            for (int i = 0; i < workers; i++) submitFuture(pool, i).get();   // its threads are there
            long began = submitFrom(submitters, count, (begin, end) -> {
                for (int i = begin; i < end; i++) submit(pool, i);
            });
            end(pool);
            long ended = System.nanoTime();
            verify(count);
            if (pass == PASSES) report(name, "time", "ns/task", (double)(ended - began) / count);
        }
    }

    static void futures(String name, int submitters) throws Exception {
        int count = countOf(1000000);
        ExecutorService pool = create(2);
        for (int pass = 1; pass <= PASSES; pass++) {
            List<Future<Long>> all = new ArrayList<>(java.util.Collections.nCopies(count, null));
            AtomicLong total = new AtomicLong();
            long began = submitFrom(submitters, count, (begin, end) -> {
                long sum = 0;
                for (int i = begin; i < end; i++) all.set(i, submitFuture(pool, i));
                for (int i = begin; i < end; i++) {
                    sum += result(all.get(i));
                    all.set(i, null);
                }
                total.addAndGet(sum);
            });
            long ended = System.nanoTime();
            check(total.get() == (long)count * (count - 1) / 2 * 3);
            if (pass == PASSES) report(name, "time", "ns/task", (double)(ended - began) / count);
        }
        end(pool);
    }

    static void roundtrip(String name, long pauseNs) throws Exception {
        int count = pauseNs > 0 ? countOf(5000) : countOf(200000), warm = Math.max(count / 20, quick ? 8 : 20000);
        if (pauseNs > 0) warm = Math.max(count / 20, 8);
        long[] samples = new long[count];
        long used = 0;
        ExecutorService pool = create(2);
        for (int i = 0; i < (quick ? 0 : 20000); i++) result(submitFuture(pool, i));
        for (int i = 0; i < warm + count; i++) {
            if (i == warm) used = cpu();
            if (pauseNs > 0) pause(pauseNs);
            long began = System.nanoTime();
            check(result(submitFuture(pool, i)) == i * 3L);
            if (i >= warm) samples[i - warm] = System.nanoTime() - began;
        }
        used = cpu() - used;
        reportSamples(name, samples, "ns", 1);
        report(name, "cpu", "ns/trip", (double)used / count);
        end(pool);
    }

    static final class Tree extends RecursiveTask<Long> {
        private static final long serialVersionUID = 1;
        final int number, count, fanOut;
        Tree(int number, int count, int fanOut) { this.number = number; this.count = count; this.fanOut = fanOut; }
        protected Long compute() {
            long first = (long)number * fanOut + 1, sum = number;
            int children = (int)Math.max(0, Math.min(fanOut, count - first));
            Tree[] tasks = new Tree[children];
            for (int i = 0; i < children; i++) (tasks[i] = new Tree((int)first + i, count, fanOut)).fork();
            for (int i = children - 1; i >= 0; i--) sum += tasks[i].join();   // the last forked is the first at hand
            return sum;
        }
    }
    static void tree(String name, int fanOut) throws Exception {
        int count = countOf(1000000);
        ForkJoinPool pool = new ForkJoinPool(2);
        for (int pass = 1; pass <= PASSES; pass++) {
            long began = System.nanoTime();
            long sum = pool.invoke(new Tree(0, count, fanOut));
            long ended = System.nanoTime();
            check(sum == (long)count * (count - 1) / 2);
            if (pass == PASSES) report(name, "time", "ns/task", (double)(ended - began) / count);
        }
        end(pool);
    }

    static final class Fib extends RecursiveAction {
        private static final long serialVersionUID = 1;
        final int n;
        int result;
        Fib(int n) { this.n = n; }
        protected void compute() {
            if (n < 2) { result = n; return; }
            Fib left = new Fib(n - 1), right = new Fib(n - 2);
            left.fork();
            right.compute();
            left.join();
            result = left.result + right.result;
        }
    }
    static void fib(String name, int workers) throws Exception {
        int n = quick ? 18 : 30, wanted = 0, next = 1;
        for (int i = 0; i < n; i++) { int sum = wanted + next; wanted = next; next = sum; }
        ForkJoinPool pool = new ForkJoinPool(workers);
        for (int pass = 1; pass <= PASSES; pass++) {
            Fib root = new Fib(n);
            long began = System.nanoTime();
            pool.invoke(root);
            long ended = System.nanoTime();
            check(root.result == wanted);
            if (pass == PASSES) report(name, "time", "ns/spawn", (double)(ended - began) / (next - 1));
        }
        end(pool);
    }

    // The items of bench/for.c.
    static long item(long x, long steps) {
        x = x * 2 + 1;
        for (long i = 0; i < steps; i++) {
            x *= 0x9E3779B97F4A7C15L;
            x ^= x >>> 29;
        }
        return x >>> 8 & 0xFFFFFFFEL;
    }
    static long stepsOf(boolean skewed, int i, int count) { return skewed ? 38L * i / count : 19; }
    static void loop(String name, boolean skewed) throws Exception {
        int count = countOf(10000000);
        ForkJoinPool pool = new ForkJoinPool(2);
        for (int pass = 1; pass <= 3; pass++) {
            long began = System.nanoTime(), serial = 0;
            for (int i = 0; i < count; i++) serial += item(i, stepsOf(skewed, i, count));
            long serialNs = System.nanoTime() - began;
            began = System.nanoTime();
            long parallel = pool.submit(() -> IntStream.range(0, count).parallel()
                .mapToLong(i -> item(i, stepsOf(skewed, i, count))).sum()).get();
            long parallelNs = System.nanoTime() - began;
            check(parallel == serial);
            if (pass < 3) continue;
            report(name, "speedup", "times", (double)serialNs / parallelNs);
            report(name, "time", "ns/item", (double)parallelNs / count);
            report(name, "serial", "ns/item", (double)serialNs / count);
        }
        end(pool);
    }

    // 100 equal items that together take so long, again and again, and the plain loop in turn; nested: 10 loops of 10.
    static long plainLoop(int from, int to, long steps) {
        long sum = 0;
        for (int i = from; i < to; i++) sum += item(i, steps);
        return sum;
    }
    static long parallelLoop(int from, int to, long steps) {
        return IntStream.range(from, to).parallel().mapToLong(i -> item(i, steps)).sum();
    }
    static void smallLoop(String name, long ns, boolean nested) throws Exception {
        ForkJoinPool pool = new ForkJoinPool(2);
        long best = Long.MAX_VALUE;
        for (int i = 0; i < 300; i++) {
            long began = System.nanoTime();
            check(plainLoop(0, 100, 1000) != 0);
            best = Math.min(best, System.nanoTime() - began);
        }
        long steps = Math.max(1, ns * 1000 / best);
        int rounds = quick ? 9 : ns >= 1000000 ? 100 : 2000;
        double[] ratios = new double[rounds], times = new double[rounds];
        for (int pass = 0; pass < (quick ? 1 : 5); pass++)
            for (int i = 0; i < rounds; i++) {
                long began = System.nanoTime(), serial = plainLoop(0, 100, steps), between = System.nanoTime();
                long parallel = pool.submit(() -> nested
                    ? IntStream.range(0, 10).parallel().mapToLong(k -> parallelLoop(10 * k, 10 * k + 10, steps)).sum()
                    : parallelLoop(0, 100, steps)).get();
                long ended = System.nanoTime();
                check(parallel == serial);
                ratios[i] = (double)(between - began) / (ended - between);
                times[i] = ended - between;
            }
        java.util.Arrays.sort(ratios);
        java.util.Arrays.sort(times);
        report(name, "speedup", "times", ratios[rounds / 2]);
        report(name, "time", "ns", times[rounds / 2]);
        end(pool);
    }

    static void completed(String name) throws Exception {
        int count = countOf(100000);
        ExecutorService pool = create(2);
        for (int pass = 1; pass <= PASSES; pass++) {
            ExecutorCompletionService<Long> service = new ExecutorCompletionService<>(pool);
            long began = System.nanoTime(), sum = 0;
            for (int i = 0; i < count; i++) service.submit(new TinyValue(i));
            for (int i = 0; i < count; i++) sum += service.take().get();
            long ended = System.nanoTime();
            check(sum == (long)count * (count - 1) / 2 * 3);
            if (pass == PASSES) report(name, "time", "ns/future", (double)(ended - began) / count);
        }
        end(pool);
    }

    // Right to a megabyte: what a thread was given to allocate from counts as used (-XX:TLABSize).
    static long heap() {
        for (int i = 0; i < 3; i++) System.gc();
        return java.lang.management.ManagementFactory.getMemoryMXBean().getHeapMemoryUsage().getUsed();
    }
    static void memory(String name, boolean withFutures) throws Exception {
        int count = countOf(1000000);
        CountDownLatch arrived = new CountDownLatch(2), gate = new CountDownLatch(1);
        ExecutorService pool = create(2);
        @SuppressWarnings({"unchecked", "rawtypes"}) Future<Long>[] all = new Future[withFutures ? count : 0];
        for (int i = 0; i < 2; i++) pool.execute(() -> {
            arrived.countDown();
            try { gate.await(); } catch (InterruptedException e) { check(false); }
        });
        arrived.await();
        long before = heap();
        for (int i = 0; i < count; i++) {
            if (withFutures) all[i] = submitFuture(pool, i);
            else submit(pool, i);
        }
        report(name, "resident", "bytes/task", (double)(heap() - before) / count);
        gate.countDown();
        long sum = 0;
        for (Future<Long> future : all) sum += result(future);
        end(pool);
        if (withFutures) check(sum == (long)count * (count - 1) / 2 * 3);
        else verify(count);
    }

    // The tasks of a burst count down; who waits for the last one waits for a latch.
    static void burst(String name) throws Exception {
        int bursts = quick ? 20 : 1000, warm = quick ? 5 : 500;
        long[] samples = new long[bursts];
        long used = 0;
        ExecutorService pool = create(2);
        long next = System.nanoTime();
        for (int i = 0; i < warm + bursts; i++) {
            if (i == warm) used = cpu();
            next += 2000000;
            if (next > System.nanoTime()) pause(next - System.nanoTime());
            CountDownLatch latch = new CountDownLatch(1000);
            long began = System.nanoTime();
            for (int j = 0; j < 1000; j++) {
                int value = j;
                pool.execute(() -> { add(value); latch.countDown(); });
            }
            latch.await();
            if (i >= warm) samples[i - warm] = System.nanoTime() - began;
        }
        used = cpu() - used;
        end(pool);
        long ran = 0, sum = 0;
        for (Tally tally : tallies) { ran += tally.count; sum += tally.sum; }
        check(ran == 1000L * (warm + bursts) && sum == 499500L * (warm + bursts));
        reportSamples(name, samples, "us", 1000);
        report(name, "cpu", "s", used / 1e9);
    }

    static void lifecycle(String name, int workers, boolean warm) throws Exception {
        int count = quick ? 10 : 1000, first = quick ? 2 : 1000;
        long[] samples = new long[count];
        for (int i = -first; i < count; i++) {
            long began = System.nanoTime();
            ExecutorService pool = create(workers);
            if (warm) ((ThreadPoolExecutor)pool).prestartAllCoreThreads();
            submit(pool, 0);
            end(pool);
            if (i >= 0) samples[i] = System.nanoTime() - began;
        }
        reportSamples(name, samples, "us", 1000);
    }

    interface Run { void run(String name) throws Exception; }
    public static void main(String[] arguments) throws Exception {
        boolean list = false;
        List<String> words = new ArrayList<>(), flags = new ArrayList<>();
        for (String word : arguments) {
            if (!word.startsWith("-")) { words.add(word); continue; }
            flags.add(word);
            list |= word.equals("--list");
            quick |= word.equals("--quick");
            forkJoin |= word.equals("--peer=forkjoinpool");
        }
        Map<String, Run> cases = new LinkedHashMap<>();
        cases.put("plain/1", n -> plain(n, 1, 2));
        cases.put("plain/4", n -> plain(n, 4, 2));
        cases.put("plain/1-workers-1", n -> plain(n, 1, 1));
        cases.put("plain/1-workers-8", n -> plain(n, 1, 8));
        cases.put("plain/1-workers-64", n -> plain(n, 1, 64));
        cases.put("futures/1", n -> futures(n, 1));
        cases.put("futures/4", n -> futures(n, 4));
        cases.put("roundtrip/free", n -> roundtrip(n, 0));
        cases.put("roundtrip/pinned", n -> roundtrip(n, 0));   // pinned by whoever starts it
        cases.put("roundtrip/paused", n -> roundtrip(n, 200000));
        cases.put("completed/100000", Peers::completed);
        cases.put("memory/plain", n -> memory(n, false));
        cases.put("memory/futures", n -> memory(n, true));
        cases.put("burst/1000", Peers::burst);
        cases.put("lifecycle/2", n -> lifecycle(n, 2, false));
        cases.put("lifecycle/8", n -> lifecycle(n, 8, false));
        if (forkJoin) {
            cases.put("tree/2", n -> tree(n, 2));
            cases.put("tree/10", n -> tree(n, 10));
            cases.put("groups/tree-2", n -> tree(n, 2));   // what a parent waits for is what it has forked
            cases.put("groups/tree-10", n -> tree(n, 10));
            cases.put("forkjoin/2", n -> fib(n, 2));
            cases.put("forkjoin/1", n -> fib(n, 1));
            cases.put("for/1us", n -> smallLoop(n, 1000, false));
            cases.put("for/5us", n -> smallLoop(n, 5000, false));
            cases.put("for/20us", n -> smallLoop(n, 20000, false));
            cases.put("for/100us", n -> smallLoop(n, 100000, false));
            cases.put("for/1ms", n -> smallLoop(n, 1000000, false));
            cases.put("for/nested-1us", n -> smallLoop(n, 1000, true));
            cases.put("for/nested-20us", n -> smallLoop(n, 20000, true));
            cases.put("for/nested-100us", n -> smallLoop(n, 100000, true));
            cases.put("for/nested-1ms", n -> smallLoop(n, 1000000, true));
            cases.put("for/even", n -> loop(n, false));
            cases.put("for/skewed", n -> loop(n, true));
        } else {
            cases.put("lifecycle/2-warm", n -> lifecycle(n, 2, true));
            cases.put("lifecycle/8-warm", n -> lifecycle(n, 8, true));
        }
        List<String> wanted = new ArrayList<>();
        for (String name : cases.keySet())
            if (words.isEmpty() || words.contains(name) || words.contains(name.split("/")[0])) wanted.add(name);
        if (list) { for (String name : wanted) System.out.println(name + "\t" + name); return; }
        if (wanted.isEmpty()) System.exit(77);
        for (String name : wanted) cases.get(name).run(name);   // of several, in one process: start them one by one
    }
}
