// Java's ArrayBlockingQueue for channels.c: `java Channels CASE COUNT` prints the ns an item, or a trip: of the last of
// five passes, since the compiler needs the others.
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicLong;

public final class Channels {
    interface Body { void run() throws InterruptedException; }
    static void check(boolean right) {
        if (right) return;
        System.err.println("a result is wrong");
        Runtime.getRuntime().halt(1);
    }
    static Thread start(Body body) {
        Thread thread = new Thread(() -> {
            try {
                body.run();
            } catch (InterruptedException e) { check(false); }
        });
        thread.start();
        return thread;
    }
    static double stream(int pairs, int count) throws InterruptedException {
        ArrayBlockingQueue<Integer> items = new ArrayBlockingQueue<>(1024);
        Thread[] threads = new Thread[2 * pairs];
        AtomicLong sum = new AtomicLong();
        CountDownLatch begin = new CountDownLatch(1);
        for (int p = 0; p < pairs; p++) {
            threads[2 * p] = start(() -> {
                begin.await();
                for (int i = 1; i <= count; i++) items.put(i);
            });
            threads[2 * p + 1] = start(() -> {
                long own = 0;
                begin.await();
                for (int i = 0; i < count; i++) own += items.take();
                sum.addAndGet(own);
            });
        }
        long began = System.nanoTime();
        begin.countDown();
        for (Thread thread : threads) thread.join();
        double took = System.nanoTime() - began;
        check(sum.get() == pairs * ((long)count * (count + 1) / 2));
        return took / ((double)pairs * count);
    }
    static double trips(int count) throws InterruptedException {
        ArrayBlockingQueue<Integer> there = new ArrayBlockingQueue<>(1), back = new ArrayBlockingQueue<>(1);
        Thread thread = start(() -> { for (int i = 0; i < count; i++) back.put(there.take()); });
        long began = System.nanoTime();
        for (int i = 1; i <= count; i++) {
            there.put(i);
            check(back.take() == i);
        }
        double took = System.nanoTime() - began;
        thread.join();
        return took / count;
    }
    public static void main(String[] words) throws InterruptedException {
        int count = Integer.parseInt(words[1]);
        double last = 0;
        for (int pass = 0; pass < 5; pass++) {
            if (words[0].equals("channels/1-1")) last = stream(1, count);
            else if (words[0].equals("channels/2-2")) last = stream(2, count);
            else if (words[0].equals("channels/ping-pong")) last = trips(count);
            else System.exit(77);   // not there
        }
        System.out.println(last);
    }
}
