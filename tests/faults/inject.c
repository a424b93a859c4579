/* Breaks one file operation of a process. Build: gcc -shared -fPIC -O2 -o inject.so inject.c -ldl;
 * load: LD_PRELOAD=inject.so. The calls that change files are numbered from 1; only those on paths
 * that begin with $FAULT_FOLDER count. The process reads what to do from its environment:
 *
 *   FAULT_LOG    a file that receives one line for each operation: its number, its name, its path
 *   FAULT_AT     the number of the operation to break
 *   FAULT_KIND   before | after   kill the process (SIGKILL) before or after the operation
 *                torn             write the first half of the bytes, then kill the process
 *                once             this operation fails with FAULT_ERRNO
 *                always           this operation and all later ones fail with FAULT_ERRNO
 *   FAULT_ERRNO  a number of errno.h
 *
 * The method is that of SQLite's crash tests: https://sqlite.org/testing.html, section 3.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum action { GO_ON, FAIL, TEAR, KILL_AFTER };

static int operations = 0;

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

static int is_counted(const char *path) {
    const char *folder = getenv("FAULT_FOLDER");
    return folder && path && strncmp(path, folder, strlen(folder)) == 0;
}

/* The path of an open file, or of a name relative to an open folder; 1 if it is counted. */
static int path_of_file(int fd, char *path) {
    char link[64];
    if (!getenv("FAULT_FOLDER")) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
    return is_counted(path);
}

static int path_of_name(int folder, const char *name, char *path) {
    char base[PATH_MAX] = "";
    if (!getenv("FAULT_FOLDER")) return 0;
    if (name[0] == '/') {
        snprintf(path, PATH_MAX, "%s", name);
    } else {
        if (folder != AT_FDCWD) path_of_file(folder, base);
        else if (!getcwd(base, sizeof base)) base[0] = 0;
        if (snprintf(path, PATH_MAX, "%s/%s", base, name) >= PATH_MAX) return 0;
    }
    return is_counted(path);
}

static void write_log(int number, const char *operation, const char *path) {
    const char *log = getenv("FAULT_LOG");
    char line[PATH_MAX + 64];
    if (!log) return;
    int file = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND, 0644);
    int length = snprintf(line, sizeof line, "%d %s %s\n", number, operation, path);
    syscall(SYS_write, file, line, length);
    syscall(SYS_close, file);
}

/* Count one operation, and say what happens to it. */
static enum action count(const char *operation, const char *path) {
    int number = __sync_add_and_fetch(&operations, 1);
    const char *at = getenv("FAULT_AT"), *kind = getenv("FAULT_KIND");
    write_log(number, operation, path);
    if (!at || !kind || number < atoi(at)) return GO_ON;
    if (!strcmp(kind, "always")) return FAIL;
    if (number > atoi(at)) return GO_ON;
    if (!strcmp(kind, "once")) return FAIL;
    if (!strcmp(kind, "before")) die();
    return strcmp(kind, "torn") ? KILL_AFTER : TEAR;
}

static int fail(void) {
    const char *number = getenv("FAULT_ERRNO");
    errno = number ? atoi(number) : EIO;
    return -1;
}

#define REAL(name, parameters, result)                                                             \
    static result(*real) parameters;                                                               \
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, #name);

/* A call that is broken as a whole. COUNTED says whether it counts, and sets `path`. */
#define WHOLE(result, name, parameters, arguments, COUNTED)                                        \
    result name parameters {                                                                       \
        REAL(name, parameters, result)                                                             \
        char path[PATH_MAX];                                                                       \
        if (!(COUNTED)) return real arguments;                                                     \
        enum action action = count(#name, path);                                                   \
        if (action == FAIL) return fail();                                                         \
        result value = real arguments;                                                             \
        if (action != GO_ON) die();                                                                \
        return value;                                                                              \
    }

/* A call that writes `size` bytes: half of them where it is torn. */
#define BYTES(name, parameters, arguments, half)                                                   \
    ssize_t name parameters {                                                                      \
        REAL(name, parameters, ssize_t)                                                            \
        char path[PATH_MAX];                                                                       \
        if (!path_of_file(fd, path)) return real arguments;                                        \
        enum action action = count(#name, path);                                                   \
        if (action == FAIL) return fail();                                                         \
        if (action == TEAR) { real half; die(); }                                                  \
        ssize_t value = real arguments;                                                            \
        if (action == KILL_AFTER) die();                                                           \
        return value;                                                                              \
    }

#define NAMED(folder, name) path_of_name(folder, name, path)
WHOLE(int, rename, (const char *a, const char *b), (a, b), NAMED(AT_FDCWD, b))
WHOLE(int, renameat, (int f, const char *a, int g, const char *b), (f, a, g, b), NAMED(g, b))
WHOLE(int, renameat2, (int f, const char *a, int g, const char *b, unsigned u), (f, a, g, b, u), NAMED(g, b))
WHOLE(int, link, (const char *a, const char *b), (a, b), NAMED(AT_FDCWD, b))
WHOLE(int, linkat, (int f, const char *a, int g, const char *b, int u), (f, a, g, b, u), NAMED(g, b))
WHOLE(int, symlink, (const char *a, const char *b), (a, b), NAMED(AT_FDCWD, b))
WHOLE(int, unlink, (const char *a), (a), NAMED(AT_FDCWD, a))
WHOLE(int, unlinkat, (int f, const char *a, int u), (f, a, u), NAMED(f, a))
WHOLE(int, rmdir, (const char *a), (a), NAMED(AT_FDCWD, a))
WHOLE(int, mkdir, (const char *a, mode_t m), (a, m), NAMED(AT_FDCWD, a))
WHOLE(int, mkdirat, (int f, const char *a, mode_t m), (f, a, m), NAMED(f, a))
WHOLE(int, fsync, (int fd), (fd), path_of_file(fd, path))
WHOLE(int, fdatasync, (int fd), (fd), path_of_file(fd, path))
WHOLE(int, ftruncate, (int fd, off_t n), (fd, n), path_of_file(fd, path))
WHOLE(int, ftruncate64, (int fd, off64_t n), (fd, n), path_of_file(fd, path))

BYTES(write, (int fd, const void *b, size_t n), (fd, b, n), (fd, b, n / 2))
BYTES(pwrite, (int fd, const void *b, size_t n, off_t o), (fd, b, n, o), (fd, b, n / 2, o))
BYTES(pwrite64, (int fd, const void *b, size_t n, off64_t o), (fd, b, n, o), (fd, b, n / 2, o))
BYTES(writev, (int fd, const struct iovec *v, int n), (fd, v, n), (fd, v, n / 2))
BYTES(sendfile, (int fd, int from, off_t *o, size_t n), (fd, from, o, n), (fd, from, o, n / 2))
BYTES(sendfile64, (int fd, int from, off64_t *o, size_t n), (fd, from, o, n), (fd, from, o, n / 2))
BYTES(copy_file_range, (int from, off64_t *o, int fd, off64_t *p, size_t n, unsigned u),
      (from, o, fd, p, n, u), (from, o, fd, p, n / 2, u))

/* Opening counts where it can change a file or make one. */
#define WRITES(flags) ((flags) & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC))
#define OPEN(name, parameters, arguments, NAME)                                                    \
    int name parameters {                                                                          \
        static int(*real) parameters;                                                              \
        if (!real) *(void **)&real = dlsym(RTLD_NEXT, #name);                                      \
        char path[PATH_MAX];                                                                       \
        mode_t mode = 0;                                                                           \
        if (flags & (O_CREAT | __O_TMPFILE)) {                                                     \
            va_list more;                                                                          \
            va_start(more, flags);                                                                 \
            mode = va_arg(more, mode_t);                                                           \
            va_end(more);                                                                          \
        }                                                                                          \
        if (!WRITES(flags) || !(NAME)) return real arguments;                                      \
        enum action action = count(#name, path);                                                   \
        if (action == FAIL) return fail();                                                         \
        int value = real arguments;                                                                \
        if (action != GO_ON) die();                                                                \
        return value;                                                                              \
    }
OPEN(open, (const char *a, int flags, ...), (a, flags, mode), NAMED(AT_FDCWD, a))
OPEN(open64, (const char *a, int flags, ...), (a, flags, mode), NAMED(AT_FDCWD, a))
OPEN(openat, (int f, const char *a, int flags, ...), (f, a, flags, mode), NAMED(f, a))
OPEN(openat64, (int f, const char *a, int flags, ...), (f, a, flags, mode), NAMED(f, a))
