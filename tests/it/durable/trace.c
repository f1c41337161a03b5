/* Loaded into a program before the C library: writes to the file that TRACE names which directory entries the program
 * makes, and what it syncs. One line each: "make PATH" or "sync PATH". */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static void note(const char *what, const char *path) {
    const char *file = getenv("TRACE");
    char line[PATH_MAX + 8], whole[PATH_MAX], here[PATH_MAX];
    if (!file) return;
    if (path[0] != '/' && getcwd(here, sizeof here)) {
        snprintf(whole, sizeof whole, "%s/%s", here, path);
        path = whole;
    }
    int length = snprintf(line, sizeof line, "%s %s\n", what, path);
    int out = NEXT(open)(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (out < 0 || write(out, line, length) != length) abort();
    close(out);
}

static int synced(int result, int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (result == 0 && length > 0) {
        path[length] = 0;
        note("sync", path);
    }
    return result;
}

int fsync(int fd) { return synced(NEXT(fsync)(fd), fd); }
int fdatasync(int fd) { return synced(NEXT(fdatasync)(fd), fd); }

#define OPENS(name)                                          \
    int name(const char *path, int flags, ...) {             \
        va_list rest;                                        \
        va_start(rest, flags);                               \
        mode_t mode = va_arg(rest, mode_t);                  \
        va_end(rest);                                        \
        int is_new = (flags & O_CREAT) && access(path, F_OK); \
        int fd = NEXT(name)(path, flags, mode);              \
        if (fd >= 0 && is_new) note("make", path);           \
        return fd;                                           \
    }
OPENS(open)
OPENS(open64)

int mkdir(const char *path, mode_t mode) {
    int result = NEXT(mkdir)(path, mode);
    if (result == 0) note("make", path);
    return result;
}

int rename(const char *from, const char *to) {
    int result = NEXT(rename)(from, to);
    if (result == 0) note("make", to);
    return result;
}

int link(const char *from, const char *to) {
    int result = NEXT(link)(from, to);
    if (result == 0) note("make", to);
    return result;
}

int linkat(int from_fd, const char *from, int to_fd, const char *to, int flags) {
    int result = NEXT(linkat)(from_fd, from, to_fd, to, flags);
    if (result == 0) note("make", to);
    return result;
}
