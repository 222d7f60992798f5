/* Boost's message_queue for channels.c. */
#include <boost/interprocess/ipc/message_queue.hpp>
#include <cstdio>
#include <cstdlib>

using boost::interprocess::message_queue;
extern "C" {
void *boost_queue(const char *name, size_t capacity, size_t size, int create);
void boost_send(void *queue, const void *item, size_t size);
void boost_receive(void *queue, void *item, size_t size);
void boost_remove(void *queue, const char *name);

void *boost_queue(const char *name, size_t capacity, size_t size, int create) {
    if (create) message_queue::remove(name);
    return new message_queue(boost::interprocess::open_or_create, name, capacity, size);
}
void boost_send(void *queue, const void *item, size_t size) {
    static_cast<message_queue *>(queue)->send(item, size, 0);
}
void boost_receive(void *queue, void *item, size_t size) {
    message_queue::size_type got = 0;
    unsigned priority = 0;
    static_cast<message_queue *>(queue)->receive(item, size, got, priority);
    if (got != size) std::abort();
}
void boost_remove(void *queue, const char *name) {
    delete static_cast<message_queue *>(queue);
    message_queue::remove(name);
}
}
