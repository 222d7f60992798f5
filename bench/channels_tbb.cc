/* TBB's bounded queue for channels.c. */
#include <tbb/concurrent_queue.h>
#include <cstddef>
#include <cstdint>

using queue = tbb::concurrent_bounded_queue<std::uint64_t>;
extern "C" {
void *tbb_create(std::size_t capacity);
void tbb_send(void *to, std::uint64_t item);
std::uint64_t tbb_receive(void *from);
void tbb_destroy(void *of);

void *tbb_create(std::size_t capacity) {
    queue *created = new queue;
    created->set_capacity(static_cast<queue::size_type>(capacity));
    return created;
}
void tbb_send(void *to, std::uint64_t item) { static_cast<queue *>(to)->push(item); }
std::uint64_t tbb_receive(void *from) {
    std::uint64_t item = 0;
    static_cast<queue *>(from)->pop(item);
    return item;
}
void tbb_destroy(void *of) { delete static_cast<queue *>(of); }
}
