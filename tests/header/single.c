/* The implementation in the one file of a program; built several times with different options, set by the build. */
#define TPOOL_IMPLEMENTATION
#include "tpool.h"
#include "smoke.h"

int main(void) {
#ifdef PROJECT_VERSION
    /* The header's version, its parts and the project's version are one. */
    char parts[64];
    snprintf(parts, sizeof parts, "%d.%d.%d", TPOOL_VERSION_MAJOR, TPOOL_VERSION_MINOR, TPOOL_VERSION_PATCH);
    printf("project %s, header %s, parts %s\n", PROJECT_VERSION, tpool_version(), parts);
    SMOKE(strcmp(tpool_version(), parts) == 0);
    SMOKE(strcmp(tpool_version(), PROJECT_VERSION) == 0);
#endif
#ifdef TPOOL_NO_PROCESSES
    tpool_config config;
    memset(&config, 0, sizeof config);
    config.kind = TPOOL_PROCESSES;
    tpool *pool = NULL;
    SMOKE(tpool_create(&pool, &config) == TPOOL_UNSUPPORTED);
    SMOKE(pool == NULL);
#endif
    return smoke();
}
