// cxx_wrapper: from C++11: a pool that ends with its scope, and submit() for any callable, which gives a typed future.
//
//     tp::pool pool;
//     tp::future<double> area = pool.submit([=] { return width * height; });
//     std::cout << area.get();
//
// The implementation of tpool.h is C and is compiled as C: one .c file with "#define TPOOL_IMPLEMENTATION" and the
// #include, linked with this.
//
//     cc -std=c11 -O2 -pthread -c tpool.c && c++ -std=c++11 -O2 -pthread cxx_wrapper.cc tpool.o
//
// The rule that matters: no exception may leave a tpool_fn, since there is only C above it. The wrapper catches
// everything in the task and throws it again from get(). A callable must not end its thread (pthread_exit).
#include "tpool.h"

#include <exception>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

namespace tp {

// Any status but success and a failed task, whose own exception is thrown instead.
class error : public std::runtime_error {
public:
    error(tpool_status status, const char *message) : std::runtime_error(message), status_(status) { }
    explicit error(tpool_status status) : error(status, tpool_status_text(status)) { }
    tpool_status status() const noexcept { return status_; }

private:
    tpool_status status_;
};

inline void check(tpool_status status) {
    if (status == TPOOL_NO_MEMORY) throw std::bad_alloc();
    if (status != TPOOL_OK) throw error(status);
}

namespace detail {

// What a task and its future share. Whichever of the two lives longer frees it.
struct work {
    std::exception_ptr thrown;
    virtual ~work() { }
    virtual void run() = 0;

    // The body of every task.
    void run_caught() noexcept {
        try {
            run();
        } catch (const std::exception &e) {
            thrown = std::current_exception();
            tpool_raise(0, "%s", e.what()); // C callers, on_failure and the statistics see the failure too
        } catch (...) {
            thrown = std::current_exception();
            tpool_raise(0, "an exception that is no std::exception");
        }
    }
};

template <class R> struct outcome : work {
    // The result is made by the task and moved out by get(), so R needs no default constructor.
    alignas(R) unsigned char bytes[sizeof(R)];
    bool made = false;
    ~outcome() {
        if (made) value()->~R();
    }
    R *value() { return reinterpret_cast<R *>(bytes); }
    R take() { return std::move(*value()); }
    template <class F> void fill(F &callable) {
        ::new (static_cast<void *>(bytes)) R(callable());
        made = true;
    }
};
template <> struct outcome<void> : work {
    void take() { }
    template <class F> void fill(F &callable) { callable(); }
};

template <class F, class R> struct job final : outcome<R> {
    std::unique_ptr<F> callable;
    explicit job(F &&f) : callable(new F(std::move(f))) { }
    explicit job(const F &f) : callable(new F(f)) { }
    void run() override {
        std::unique_ptr<F> mine(std::move(callable)); // what it captured ends with the task, not with the future
        this->fill(*mine);
    }
};

extern "C" {
inline void *tp_run(void *arg) {
    static_cast<std::shared_ptr<work> *>(arg)->get()->run_caught();
    return nullptr;
}
// Called exactly once, also for a task that never ran.
inline void tp_free(void *arg) { delete static_cast<std::shared_ptr<work> *>(arg); }
}

}

template <class R> class future {
public:
    future() noexcept : handle_(nullptr) { }
    future(tpool_future *handle, std::shared_ptr<detail::outcome<R>> shared) noexcept
        : handle_(handle), shared_(std::move(shared)) { }
    future(future &&other) noexcept : handle_(other.handle_), shared_(std::move(other.shared_)) {
        other.handle_ = nullptr;
    }
    future &operator=(future &&other) noexcept {
        std::swap(handle_, other.handle_);
        std::swap(shared_, other.shared_);
        return *this;
    }
    future(const future &) = delete;
    future &operator=(const future &) = delete;
    ~future() { tpool_future_release(handle_); } // does not wait: the task keeps what it needs

    bool done() const { return tpool_future_done(handle_); }
    bool cancel() { return tpool_future_cancel(handle_); }
    void request_stop() { tpool_future_request_stop(handle_); }
    tpool_future *handle() const noexcept { return handle_; } // for tpool_wait and its kin

    // Waits; gives the result once, or throws what the task threw, or throws tp::error (a time-out, a cancelled
    // task). After a time-out it may be asked again.
    R get(int64_t timeout_ns = TPOOL_FOREVER) {
        tpool_status status = tpool_future_result(handle_, timeout_ns, nullptr);
        if (status == TPOOL_FAILED && shared_->thrown) std::rethrow_exception(shared_->thrown);
        if (status == TPOOL_FAILED) throw error(status, tpool_future_message(handle_));
        check(status);
        return shared_->take();
    }

private:
    tpool_future *handle_;
    std::shared_ptr<detail::outcome<R>> shared_;
};

class pool {
public:
    explicit pool(int max_workers = 0, const char *name = nullptr) {
        tpool_config config = tpool_config();
        config.max_workers = max_workers;
        config.name = name;
        check(tpool_create(&handle_, &config));
    }
    explicit pool(const tpool_config &config) { check(tpool_create(&handle_, &config)); }
    pool(const pool &) = delete;
    pool &operator=(const pool &) = delete;
    // Waits for all its tasks. (Destroyed within one of them it would wait for itself, and leaks instead.)
    ~pool() {
        tpool_status status = tpool_destroy(handle_);
        (void)status;
    }

    template <class F> auto submit(F &&f) -> future<typename std::decay<decltype(f())>::type> {
        typedef typename std::decay<decltype(f())>::type R;
        typedef typename std::decay<F>::type callable;
        std::shared_ptr<detail::outcome<R>> shared = std::make_shared<detail::job<callable, R>>(std::forward<F>(f));
        std::unique_ptr<std::shared_ptr<detail::work>> arg(new std::shared_ptr<detail::work>(shared));
        tpool_task task = tpool_task();
        task.fn = detail::tp_run;
        task.arg = arg.get();
        task.arg_free = detail::tp_free;
        tpool_future *handle;
        check(tpool_submit_task(handle_, &task, &handle)); // refused: arg is still ours, and goes with this scope
        arg.release();
        return future<R>(handle, std::move(shared));
    }

    void drain() { check(tpool_drain(handle_, TPOOL_FOREVER)); }
    tpool *handle() const noexcept { return handle_; }

private:
    tpool *handle_;
};

}

// What follows shows it, and checks it: the exit status is 0 when all of it holds.

#include <atomic>
#include <cstdlib>
#include <iostream>
#include <vector>

namespace {

void expect(bool holds, const char *what) {
    std::cout << (holds ? "ok: " : "WRONG: ") << what << "\n";
    if (!holds) std::exit(EXIT_FAILURE);
}

struct tracked { // counts how many of it live
    static std::atomic<int> alive;
    tracked() { ++alive; }
    tracked(const tracked &) { ++alive; }
    tracked(tracked &&) { ++alive; }
    ~tracked() { --alive; }
};
std::atomic<int> tracked::alive(0);

int fibonacci(tp::pool &pool, int n) {
    if (n < 2) return n;
    // A task may wait for the tasks that it submits, however deep: the pool never runs dry.
    tp::future<int> less = pool.submit([&pool, n] { return fibonacci(pool, n - 1); });
    int lesser = fibonacci(pool, n - 2);
    return less.get() + lesser;
}

}

int main() {
    {
        tp::pool pool(4, "cxx");

        std::vector<tp::future<long>> squares;
        for (long i = 1; i <= 100; i++) squares.push_back(pool.submit([i] { return i * i; }));
        long sum = 0;
        for (tp::future<long> &square : squares) sum += square.get();
        expect(sum == 338350, "the squares of 1 to 100 add up");

        std::string who = "world";
        tp::future<std::string> greeting = pool.submit([who] { return "hello, " + who; });
        expect(greeting.get() == "hello, world", "a result of a class type arrives");

        tp::future<std::unique_ptr<int>> owned = pool.submit([] { return std::unique_ptr<int>(new int(42)); });
        expect(*owned.get() == 42, "a result that can only be moved arrives");

        std::atomic<bool> ran(false);
        tp::future<void> nothing = pool.submit([&ran] { ran = true; });
        nothing.get();
        expect(ran, "a task without a result runs");

        tp::future<int> bad = pool.submit([]() -> int { throw std::out_of_range("there are only nine"); });
        bool caught = false;
        try {
            bad.get();
        } catch (const std::out_of_range &e) {
            caught = std::string(e.what()) == "there are only nine";
        }
        expect(caught, "an exception comes out of get() as it was thrown");
        expect(std::string(tpool_future_message(bad.handle())) == "there are only nine",
               "and the C functions see its text");

        tp::future<void> odd = pool.submit([] { throw 7; });
        caught = false;
        try {
            odd.get();
        } catch (int n) {
            caught = n == 7;
        }
        expect(caught, "so does one that is no std::exception");

        tp::future<int> deep = pool.submit([&pool] { return fibonacci(pool, 12); });
        expect(deep.get() == 144, "tasks wait for their own tasks");

        // While the pool is paused nothing starts, so that this can be cancelled for certain.
        expect(tpool_pause(pool.handle()) == TPOOL_OK, "the pool pauses");
        tp::future<int> late = pool.submit([] { return 1; });
        tpool_status status = TPOOL_OK;
        try {
            late.get(TPOOL_MS(1));
        } catch (const tp::error &e) {
            status = e.status();
        }
        expect(status == TPOOL_TIMEOUT, "a wait that takes too long throws a time-out");
        expect(late.cancel(), "a task that has not started can be cancelled");
        try {
            late.get();
        } catch (const tp::error &e) {
            status = e.status();
        }
        expect(status == TPOOL_CANCELLED, "and its get() says so");

        {
            tracked captured;
            tp::future<void> dropped = pool.submit([captured] { (void)captured; });
            dropped.cancel();
        }
        expect(tracked::alive == 0, "what a cancelled task captured is gone with its future");
        expect(tpool_resume(pool.handle()) == TPOOL_OK, "the pool resumes");

        tp::future<void> last = pool.submit([] {
            tracked local;
            (void)local;
        });
        last = tp::future<void>(); // nobody asks: it runs all the same
    }
    expect(tracked::alive == 0, "nothing is left when the pool has gone");
    std::cout << "all is well\n";
    return 0;
}
