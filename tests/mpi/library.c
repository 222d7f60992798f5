/* A library with a function to run on ranks; a build of its own for each VALUE. */
void *in_the_library(void *unused);
void *in_the_library(void *unused) {
    (void)unused;
    return (void *)VALUE;
}
