/* connections: expensive objects that many tasks share: four SQLite connections for sixteen tasks, on a real database.
 *
 *     cc -std=c11 -pthread -I. examples/connections.c -lsqlite3 -o connections && ./connections
 *
 * To open a connection reads the schema and prepares statements; so four are opened once, and a task takes one, uses it
 * and gives it back. The task that has waited longest gets the next. Each task moves money between accounts, many
 * times, in transactions; in the end no money may have been made or lost. */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONNECTIONS = 4, TASKS = 16, TRANSFERS = 25, ACCOUNTS = 50, MONEY = 1000 };

typedef struct connection {
    sqlite3 *db;
    sqlite3_stmt *give, *take, *total;
} connection;

static void close_connection(void *resource, void *context) {
    connection *c = resource;
    (void)context;
    sqlite3_finalize(c->give);
    sqlite3_finalize(c->take);
    sqlite3_finalize(c->total);
    sqlite3_close(c->db);
    free(c);
}
static bool prepare(connection *c, const char *sql, sqlite3_stmt **statement) {
    return sqlite3_prepare_v2(c->db, sql, -1, statement, NULL) == SQLITE_OK;
}
static void *open_connection(void *context) {
    connection *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    if (sqlite3_open(context, &c->db) == SQLITE_OK && sqlite3_busy_timeout(c->db, 20000) == SQLITE_OK &&
        sqlite3_exec(c->db, "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF", NULL, NULL, NULL) == SQLITE_OK &&
        prepare(c, "UPDATE account SET money = money + ?1 WHERE id = ?2", &c->give) &&
        prepare(c, "UPDATE account SET money = money - ?1 WHERE id = ?2", &c->take) &&
        prepare(c, "SELECT sum(money) FROM account", &c->total))
        return c;
    fprintf(stderr, "%s: %s\n", (const char *)context, sqlite3_errmsg(c->db));
    close_connection(c, NULL);
    return NULL; /* and tpool_resources_create gives TPOOL_BROKEN, with the others closed again */
}

static bool execute(connection *c, const char *sql) { return sqlite3_exec(c->db, sql, NULL, NULL, NULL) == SQLITE_OK; }
static bool change(sqlite3_stmt *statement, int amount, int account) {
    sqlite3_bind_int(statement, 1, amount);
    sqlite3_bind_int(statement, 2, account);
    bool done = sqlite3_step(statement) == SQLITE_DONE;
    sqlite3_reset(statement);
    return done;
}
static long total(connection *c) {
    long sum = sqlite3_step(c->total) == SQLITE_ROW ? (long)sqlite3_column_int64(c->total, 0) : -1;
    sqlite3_reset(c->total);
    return sum;
}

typedef struct job {
    tpool_resources *connections;
    int number;
} job;

static void *transfer(void *arg) {
    job *j = arg;
    long waited = 0;
    for (int i = 0; i < TRANSFERS; i++) {
        void *resource;
        int64_t asked = tpool_now();
        if (tpool_resources_get(j->connections, TPOOL_SEC(30), &resource) != TPOOL_OK)
            return tpool_raise(1, "task %d got no connection", j->number);
        connection *c = resource;
        waited += (long)((tpool_now() - asked) / 1000);
        int from = (j->number * 7 + i) % ACCOUNTS, to = (j->number + i * 3) % ACCOUNTS;
        bool good =
            execute(c, "BEGIN IMMEDIATE") && change(c->take, 5, from) && change(c->give, 5, to) && execute(c, "COMMIT");
        long sum = good ? total(c) : -1;
        if (!good) (void)execute(c, "ROLLBACK");
        tpool_resources_put(j->connections, c); /* on every path */
        if (!good) return tpool_raise(2, "task %d: transfer %d failed", j->number, i);
        if (sum != (long)ACCOUNTS * MONEY) return tpool_raise(3, "task %d saw %ld", j->number, sum);
    }
    return tpool_return(&waited, sizeof waited);
}

static bool set_up(const char *path) {
    sqlite3 *db = NULL;
    char sql[300];
    snprintf(sql, sizeof sql,
             "CREATE TABLE account(id INTEGER PRIMARY KEY, money INTEGER);"
             "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < %d)"
             "INSERT INTO account SELECT i, %d FROM n",
             ACCOUNTS - 1, MONEY);
    bool good = sqlite3_open(path, &db) == SQLITE_OK && sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK;
    sqlite3_close(db);
    return good;
}

int main(void) {
    char folder[] = "/tmp/connections_XXXXXX", path[64];
    if (!mkdtemp(folder)) return 1;
    snprintf(path, sizeof path, "%s/bank.db", folder);
    if (!set_up(path)) return 1;

    tpool_resources *connections;
    tpool *pool;
    tpool_config config = { .name = "teller", .max_workers = TASKS };
    if (tpool_create(&pool, &config) != TPOOL_OK) return 1;
    if (tpool_resources_create(&connections, CONNECTIONS, open_connection, close_connection, path) != TPOOL_OK)
        return 1;

    tpool_future *futures[TASKS];
    int failed = 0;
    for (int i = 0; i < TASKS; i++) {
        job j = { connections, i };
        if (tpool_submit_copy(pool, transfer, &j, sizeof j, &futures[i]) != TPOOL_OK) return 1;
    }
    for (int i = 0; i < TASKS; i++) {
        void *waited;
        if (tpool_future_result(futures[i], TPOOL_FOREVER, &waited) == TPOOL_OK)
            printf("task %2d: %d transfers, waited %ld us for a connection\n", i, TRANSFERS, *(long *)waited);
        else failed += printf("task %2d: %s\n", i, tpool_future_message(futures[i])) > 0;
        tpool_future_release(futures[i]);
    }

    void *resource;
    long sum = -1;
    if (tpool_resources_get(connections, 0, &resource) == TPOOL_OK) {
        sum = total(resource);
        tpool_resources_put(connections, resource);
    }
    printf("%d accounts hold %ld\n", ACCOUNTS, sum);
    tpool_destroy(pool);
    bool closed = tpool_resources_destroy(connections) == TPOOL_OK;
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    if (system(command) != 0) failed++;
    return failed == 0 && closed && sum == (long)ACCOUNTS * MONEY ? 0 : 1;
}
