// Makes the N-th system call fail, or end the process, that writes below a folder: opening to write, write, fsync, close,
// rename, mkdir.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char folder[PATH_MAX];
static int failing = 0, fired = 0;  // failing: an error, or a signal as a negative number
static int left = -1;  // calls before the one that fails; negative: none does
static int given = 0;

void fail_call(const char* below, int number, int error) {
    strncpy(folder, below, sizeof folder - 1);
    failing = error;
    fired = 0;
    given = number;
    __atomic_store_n(&left, number, __ATOMIC_SEQ_CST);
}

int calls_failed(void) { return fired; }

int calls_made(void) { return given - left; }  // of which one may have failed

static int fails(void) {
    if (__atomic_load_n(&left, __ATOMIC_SEQ_CST) < 0 || __atomic_fetch_sub(&left, 1, __ATOMIC_SEQ_CST) != 0) return 0;
    fired = 1;
    if (failing < 0) {
        kill(getpid(), -failing);
        return 0;
    }
    errno = failing;
    return 1;
}

static int is_below(const char* path) {
    return left >= 0 && path != NULL && folder[0] && strncmp(path, folder, strlen(folder)) == 0;
}

static int is_written_below(int file) {
    char link[64], path[PATH_MAX];
    if (left < 0 || (fcntl(file, F_GETFL) & O_ACCMODE) == O_RDONLY) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return is_below(path);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define ON_FILE(type, name, parameters, arguments) \
    type name parameters { return is_written_below(file) && fails() ? -1 : REAL(name) arguments; }

ON_FILE(ssize_t, write, (int file, const void* data, size_t size), (file, data, size))
ON_FILE(ssize_t, writev, (int file, const struct iovec* parts, int count), (file, parts, count))
ON_FILE(ssize_t, pwrite, (int file, const void* data, size_t size, off_t at), (file, data, size, at))
ON_FILE(ssize_t, pwrite64, (int file, const void* data, size_t size, off64_t at), (file, data, size, at))
ON_FILE(int, ftruncate, (int file, off_t size), (file, size))
ON_FILE(int, ftruncate64, (int file, off64_t size), (file, size))
ON_FILE(int, fsync, (int file), (file))
ON_FILE(int, fdatasync, (int file), (file))

int close(int file) {
    int failed = is_written_below(file) && fails();
    int result = REAL(close)(file);  // it is closed whatever it says
    if (failed) errno = failing;
    return failed ? -1 : result;
}

#define ON_OPEN(name, before, given)                            \
    int name before {                                                    \
        mode_t mode = 0;                                                 \
        if (flags & (O_CREAT | O_TMPFILE)) {                             \
            va_list rest;                                                \
            va_start(rest, flags);                                       \
            mode = va_arg(rest, mode_t);                                 \
            va_end(rest);                                                \
        }                                                                \
        int writes = (flags & O_ACCMODE) != O_RDONLY && is_below(path);  \
        return writes && fails() ? -1 : REAL(name) given;                \
    }

ON_OPEN(open, (const char* path, int flags, ...), (path, flags, mode))
ON_OPEN(open64, (const char* path, int flags, ...), (path, flags, mode))
ON_OPEN(openat, (int at, const char* path, int flags, ...), (at, path, flags, mode))
ON_OPEN(openat64, (int at, const char* path, int flags, ...), (at, path, flags, mode))

int rename(const char* from, const char* to) { return is_below(to) && fails() ? -1 : REAL(rename)(from, to); }
int mkdir(const char* path, mode_t mode) { return is_below(path) && fails() ? -1 : REAL(mkdir)(path, mode); }
