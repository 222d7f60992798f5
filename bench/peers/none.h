/* No contestant: for the floors. */
typedef void peer_pool;
