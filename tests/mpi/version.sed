# Makes of tpool.h another version of itself: with longer letters, and one more kind of them.
s/TPOOL__PASSPORT = 1 /TPOOL__PASSPORT = 2 /
s/^    tpool__name fn;$/    uint64_t more[30];\n    tpool__name fn;/
s/^       TPOOL__L_READY,$/       TPOOL__L_MORE,\n       TPOOL__L_READY,/
