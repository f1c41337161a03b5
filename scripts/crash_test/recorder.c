/* Loaded into a program before the C library: records in the file RECORD what the program writes below the directory
 * RECORD_BELOW, which directory entries it makes, and what it syncs. A record is appended after the call has succeeded, so
 * what a sync made durable stands before it.
 *
 * A record: struct record, then the path, then the data (of a write) or the second path (of a rename or link). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

struct record {
    uint64_t at;     /* nanoseconds of CLOCK_MONOTONIC */
    uint64_t inode;  /* of the file that is written or synced, or of the entry that is made */
    int64_t offset;  /* of a write; the new length of a truncation */
    uint32_t kind;   /* a letter: see the callers of `note` */
    uint32_t path;   /* length */
    uint32_t data;   /* length */
    uint32_t zero;
};

static void note(char kind, uint64_t inode, int64_t offset, const char *path, const void *data, size_t length) {
    static int out = -1;
    struct timespec now;
    int error = errno;
    if (out < 0) out = NEXT(open)(getenv("RECORD"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    clock_gettime(CLOCK_MONOTONIC, &now);
    struct record record = {
        .at = now.tv_sec * 1000000000ull + now.tv_nsec, .inode = inode, .offset = offset, .kind = kind,
        .path = strlen(path), .data = length,
    };
    struct iovec parts[] = {{&record, sizeof record}, {(void *)path, record.path}, {(void *)data, length}};
    if (out < 0 || NEXT(writev)(out, parts, 3) != (ssize_t)(sizeof record + record.path + length)) abort();
    errno = error;
}

/* The whole path, if it is below the directory. */
static const char *below(const char *path, char whole[PATH_MAX]) {
    const char *directory = getenv("RECORD_BELOW");
    char here[PATH_MAX];
    if (!directory || !getenv("RECORD")) return NULL;
    if (path[0] != '/' && getcwd(here, sizeof here)) {
        snprintf(whole, PATH_MAX, "%s/%s", here, path);
        path = whole;
    }
    size_t length = strlen(directory);
    return strncmp(path, directory, length) == 0 && (path[length] == '/' || !path[length]) ? path : NULL;
}

/* The path of an open file, if it is below the directory. */
static const char *path_of(int fd, char whole[PATH_MAX]) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, whole, PATH_MAX - 1);
    if (length <= 0) return NULL;
    whole[length] = 0;
    return below(whole, whole);
}

static uint64_t inode_of(int fd) {
    struct stat found;
    return fstat(fd, &found) == 0 ? found.st_ino : 0;
}

static void wrote(int fd, const void *data, ssize_t length, int64_t offset) {
    char whole[PATH_MAX];
    int error = errno;
    const char *path = length > 0 ? path_of(fd, whole) : NULL;
    if (path && offset < 0) offset = lseek(fd, 0, SEEK_CUR) - length;
    if (path) note('w', inode_of(fd), offset, path, data, length);
    errno = error;
}

ssize_t write(int fd, const void *data, size_t length) {
    ssize_t done = NEXT(write)(fd, data, length);
    wrote(fd, data, done, -1);
    return done;
}

#define PWRITES(name)                                                       \
    ssize_t name(int fd, const void *data, size_t length, off_t offset) {   \
        ssize_t done = NEXT(name)(fd, data, length, offset);                \
        wrote(fd, data, done, offset);                                      \
        return done;                                                        \
    }
PWRITES(pwrite)
PWRITES(pwrite64)

ssize_t writev(int fd, const struct iovec *parts, int count) {
    ssize_t done = NEXT(writev)(fd, parts, count);
    char whole[PATH_MAX];
    if (done <= 0 || !path_of(fd, whole)) return done;
    int64_t offset = lseek(fd, 0, SEEK_CUR) - done;
    size_t left = done;
    for (int i = 0; i < count && left > 0; i++) {
        size_t length = parts[i].iov_len < left ? parts[i].iov_len : left;
        wrote(fd, parts[i].iov_base, length, offset);
        offset += length;
        left -= length;
    }
    return done;
}

#define TRUNCATES(name)                                                       \
    int name(int fd, off_t length) {                                          \
        char whole[PATH_MAX];                                                 \
        int result = NEXT(name)(fd, length);                                  \
        const char *path = result == 0 ? path_of(fd, whole) : NULL;           \
        if (path) note('t', inode_of(fd), length, path, NULL, 0);             \
        return result;                                                        \
    }
TRUNCATES(ftruncate)
TRUNCATES(ftruncate64)

#define SYNCS(name)                                                           \
    int name(int fd) {                                                        \
        char whole[PATH_MAX];                                                 \
        int result = NEXT(name)(fd);                                          \
        const char *path = result == 0 ? path_of(fd, whole) : NULL;           \
        if (path) note('s', inode_of(fd), 0, path, NULL, 0);                  \
        return result;                                                        \
    }
SYNCS(fsync)
SYNCS(fdatasync)

#define OPENS(name)                                                           \
    int name(const char *path, int flags, ...) {                              \
        char whole[PATH_MAX];                                                 \
        va_list rest;                                                         \
        va_start(rest, flags);                                                \
        mode_t mode = va_arg(rest, mode_t);                                   \
        va_end(rest);                                                         \
        const char *found = flags & (O_CREAT | O_TRUNC) ? below(path, whole) : NULL; \
        int is_new = found && (flags & O_CREAT) && access(path, F_OK);        \
        int fd = NEXT(name)(path, flags, mode);                               \
        if (fd >= 0 && is_new) note('c', inode_of(fd), 0, found, NULL, 0);    \
        else if (fd >= 0 && found && (flags & O_TRUNC)) note('t', inode_of(fd), 0, found, NULL, 0); \
        return fd;                                                            \
    }
OPENS(open)
OPENS(open64)

int mkdir(const char *path, mode_t mode) {
    char whole[PATH_MAX];
    struct stat found;
    int result = NEXT(mkdir)(path, mode);
    const char *made = result == 0 ? below(path, whole) : NULL;
    if (made && stat(path, &found) == 0) note('d', found.st_ino, 0, made, NULL, 0);
    return result;
}

static void entry(char kind, const char *from, const char *to) {
    char whole[PATH_MAX], other[PATH_MAX];
    const char *first = below(from, whole), *second = below(to, other);
    if (first && second) note(kind, 0, 0, first, second, strlen(second));
}

int rename(const char *from, const char *to) {
    int result = NEXT(rename)(from, to);
    if (result == 0) entry('r', from, to);
    return result;
}

int link(const char *from, const char *to) {
    int result = NEXT(link)(from, to);
    if (result == 0) entry('l', from, to);
    return result;
}

int linkat(int from_fd, const char *from, int to_fd, const char *to, int flags) {
    int result = NEXT(linkat)(from_fd, from, to_fd, to, flags);
    if (result == 0) entry('l', from, to);
    return result;
}

int unlink(const char *path) {
    char whole[PATH_MAX];
    int result = NEXT(unlink)(path);
    const char *gone = result == 0 ? below(path, whole) : NULL;
    if (gone) note('u', 0, 0, gone, NULL, 0);
    return result;
}
