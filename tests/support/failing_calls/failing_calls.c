/* Makes the n-th call that changes files below a folder fail, in real processes (LD_PRELOAD), and logs all of them.
 *
 * Counted are calls that create, open for writing, write, sync, rename or delete. Each process counts its own; which
 * process is meant says a role: "supervisor", "worker", or "command" for every other one. From the environment:
 *
 *   FAILING_BELOW   the folder
 *   FAILING_SHARED  a file of three 32-bit numbers that all processes share: whether the disk stays broken, the errno,
 *                   and how many calls have failed
 *   FAILING_LOG     gets a line a call; absent for none
 *   FAILING_ROLE, FAILING_CALL, FAILING_ERRNO   the n-th call of that role fails with that errno
 *   FAILING_MODE    once; stays (all later calls of all processes that need the disk fail too); full (as stays, but
 *                   what needs no new block works); short (half of a write, once); short-full (half of a write, then
 *                   full); kill (SIGKILL before the call)
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BLOCK 4096

enum mode { ONCE, STAYS, FULL, SHORT, SHORT_FULL, KILL };
enum effect { PASS, FAIL, HALF };
struct shared { atomic_int broken, number, fired; };

static struct shared nothing, *shared = &nothing;
static char below[4096], role[16];
static size_t below_length;
static int target, number, log_descriptor = -1;
static enum mode mode;
static atomic_int count;

static const char *name_of_role(void) {
    char line[65536];
    int descriptor = syscall(SYS_openat, AT_FDCWD, "/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t size = descriptor < 0 ? 0 : read(descriptor, line, sizeof line - 1);
    if (descriptor >= 0) close(descriptor);
    for (ssize_t i = 0; i < size; i++) if (!line[i]) line[i] = ' ';
    line[size > 0 ? size : 0] = 0;
    /* The supervisor's command has that of the worker behind it. */
    if (strstr(line, "dpo_tui.runs.supervisor")) return "supervisor";
    return strstr(line, "faked_training") ? "worker" : "command";
}

/* Read the environment again: in a process that was forked for a new case. */
void failing_calls_configure(void) {
    const char *folder = getenv("FAILING_BELOW"), *file = getenv("FAILING_SHARED"), *wanted = getenv("FAILING_ROLE");
    const char *call = getenv("FAILING_CALL"), *error = getenv("FAILING_ERRNO"), *how = getenv("FAILING_MODE");
    const char *own = name_of_role(), *log = getenv("FAILING_LOG");
    snprintf(below, sizeof below, "%s", folder ? folder : "");
    below_length = strlen(below);
    snprintf(role, sizeof role, "%s", own);
    target = wanted && call && !strcmp(wanted, own) ? atoi(call) : 0;
    number = error ? atoi(error) : EIO;
    mode = !how || !strcmp(how, "once") ? ONCE : !strcmp(how, "stays") ? STAYS : !strcmp(how, "full") ? FULL
        : !strcmp(how, "short") ? SHORT : !strcmp(how, "short-full") ? SHORT_FULL : KILL;
    atomic_store(&count, 0);
    shared = &nothing;
    if (file) {
        int descriptor = syscall(SYS_openat, AT_FDCWD, file, O_RDWR | O_CLOEXEC);
        void *mapped = descriptor < 0 ? MAP_FAILED
            : mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
        if (mapped != MAP_FAILED) shared = mapped;
        if (descriptor >= 0) close(descriptor);
    }
    if (log_descriptor >= 0) close(log_descriptor);
    log_descriptor = -1;
    if (log && *log) {
        int descriptor = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        /* A high number: low ones are counted on by programs that close and open their own. */
        log_descriptor = fcntl(descriptor, F_DUPFD_CLOEXEC, 700);
        close(descriptor);
    }
}

__attribute__((constructor)) static void begin(void) { failing_calls_configure(); }

static int is_below(const char *path) {
    return below_length && !strncmp(path, below, below_length) && (path[below_length] == '/' || !path[below_length]);
}

static int path_of_descriptor(int descriptor, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t size = readlink(link, path, 4095);
    path[size > 0 ? size : 0] = 0;
    return is_below(path);
}

static int path_at(int folder, const char *name, char *path) {
    if (name[0] == '/') {
        snprintf(path, 4096, "%s", name);
    } else {
        char start[4096];
        if (folder == AT_FDCWD) {
            if (syscall(SYS_getcwd, start, sizeof start) < 0) start[0] = 0;
        } else {
            path_of_descriptor(folder, start);
        }
        snprintf(path, 4096, "%.2000s/%.2000s", start, name);
    }
    return is_below(path);
}

static void write_log(const char *call, int nth, const char *path, const char *more, long place,
                      const void *data, size_t size, const char *result) {
    if (log_descriptor < 0) return;
    char *line = malloc(2 * size + 9000), *end = line;
    if (!line) return;
    end += sprintf(end, "%s\t%d\t%d\t%s\t%.4000s\t%.4000s\t%ld\t", role, (int)getpid(), nth, call, path, more, place);
    for (size_t i = 0; i < size; i++) end += sprintf(end, "%02x", ((const unsigned char *)data)[i]);
    end += sprintf(end, "\t%s\n", result);
    ssize_t ignored = syscall(SYS_write, log_descriptor, line, end - line);
    (void)ignored;
    free(line);
}

/* Count a call and say what becomes of it. `needs`: 2 needs new blocks of the disk, 1 only changes it. */
static enum effect decide(const char *call, const char *path, int needs, int is_write, int *nth) {
    *nth = atomic_fetch_add(&count, 1) + 1;
    if (target && *nth == target) {
        atomic_fetch_add(&shared->fired, 1);
        if (mode == KILL) {
            write_log(call, *nth, path, "", 0, "", 0, "KILL");
            raise(SIGKILL);
        }
        if (mode == STAYS || mode == FULL || mode == SHORT_FULL) {
            atomic_store(&shared->number, mode == SHORT_FULL ? ENOSPC : number);
            atomic_store(&shared->broken, mode == STAYS ? 1 : 2);
        }
        if (mode == SHORT || mode == SHORT_FULL) return is_write ? HALF : PASS;
        if (mode != FULL || needs == 2) {
            errno = number;
            return FAIL;
        }
        return PASS;
    }
    int broken = atomic_load(&shared->broken);
    if (broken == 1 || (broken == 2 && needs == 2)) {
        atomic_fetch_add(&shared->fired, 1);
        errno = atomic_load(&shared->number);
        return FAIL;
    }
    return PASS;
}

static const char *words(long result) { return result < 0 ? "failed" : "ok"; }

#define FAILED(call, path, more) \
    do { int kept = errno; write_log(call, nth, path, more, 0, "", 0, "failed"); errno = kept; return -1; } while (0)

static int open_at(int folder, const char *name, int flags, mode_t permissions) {
    char path[4096];
    int writes = (flags & O_ACCMODE) != O_RDONLY || (flags & O_CREAT);
    if (!writes || !path_at(folder, name, path))
        return syscall(SYS_openat, folder, name, flags, permissions);
    struct stat there;
    int is_new = (flags & O_CREAT) && fstatat(folder, name, &there, 0) < 0, nth;
    if (decide("open", path, is_new ? 2 : 1, 0, &nth) == FAIL) FAILED("open", path, "");
    int result = syscall(SYS_openat, folder, name, flags, permissions), kept = errno;
    write_log("open", nth, path, is_new ? "new" : flags & O_TRUNC ? "truncated" : "", 0, "", 0, words(result));
    errno = kept;
    return result;
}

#define OPEN_BODY(folder) \
    mode_t permissions = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { va_list rest; va_start(rest, flags); permissions = va_arg(rest, int); va_end(rest); } \
    return open_at(folder, name, flags, permissions);
int open(const char *name, int flags, ...) { OPEN_BODY(AT_FDCWD) }
int open64(const char *name, int flags, ...) { OPEN_BODY(AT_FDCWD) }
int openat(int folder, const char *name, int flags, ...) { OPEN_BODY(folder) }
int openat64(int folder, const char *name, int flags, ...) { OPEN_BODY(folder) }

static ssize_t write_at(int descriptor, const void *data, size_t size, off_t place, int has_place) {
    char path[4096];
    struct stat found;
    if (!size || !path_of_descriptor(descriptor, path) || fstat(descriptor, &found) < 0 || !S_ISREG(found.st_mode))
        return has_place ? syscall(SYS_pwrite64, descriptor, data, size, place)
                         : syscall(SYS_write, descriptor, data, size);
    int appends = fcntl(descriptor, F_GETFL) & O_APPEND, nth;
    off_t start = has_place ? place : appends ? found.st_size : lseek(descriptor, 0, SEEK_CUR);
    /* What fits into the last block of the file needs no new one. */
    off_t room = (found.st_size + BLOCK - 1) / BLOCK * BLOCK;
    enum effect effect = decide("write", path, start + (off_t)size > room ? 2 : 1, 1, &nth);
    if (effect == FAIL) FAILED("write", path, "");
    size_t wanted = effect == HALF ? size / 2 : size;
    ssize_t result = has_place ? syscall(SYS_pwrite64, descriptor, data, wanted, place)
                               : syscall(SYS_write, descriptor, data, wanted);
    int kept = errno;
    write_log("write", nth, path, "", start, data, result > 0 ? result : 0, effect == HALF ? "short" : words(result));
    errno = kept;
    return result;
}

ssize_t write(int descriptor, const void *data, size_t size) { return write_at(descriptor, data, size, 0, 0); }
ssize_t pwrite(int descriptor, const void *data, size_t size, off_t place) {
    return write_at(descriptor, data, size, place, 1);
}
ssize_t pwrite64(int descriptor, const void *data, size_t size, off_t place) {
    return write_at(descriptor, data, size, place, 1);
}

static int sync_file(int descriptor) {
    char path[4096];
    int nth;
    if (!path_of_descriptor(descriptor, path)) return 0;
    if (decide("fsync", path, 1, 0, &nth) == FAIL) FAILED("fsync", path, "");
    /* No power is cut: the log says what would be on the disk, and waiting for it would take most of the time. */
    write_log("fsync", nth, path, "", 0, "", 0, "ok");
    return 0;
}
int fsync(int descriptor) { return sync_file(descriptor); }
int fdatasync(int descriptor) { return sync_file(descriptor); }

#define TWO_PATHS(call, from_folder, from, to_folder, to, real_call) \
    char path[4096], other[4096]; \
    int first = path_at(from_folder, from, path), second = path_at(to_folder, to, other), nth; \
    if (!first && !second) return real_call; \
    if (decide(call, path, 1, 0, &nth) == FAIL) FAILED(call, path, other); \
    int result = real_call, kept = errno; \
    write_log(call, nth, path, other, 0, "", 0, words(result)); \
    errno = kept; \
    return result;
int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    TWO_PATHS("rename", from_folder, from, to_folder, to, syscall(SYS_renameat2, from_folder, from, to_folder, to, 0))
}
int rename(const char *from, const char *to) { return renameat(AT_FDCWD, from, AT_FDCWD, to); }

static int one_path(const char *call, int needs, int folder, const char *name, int flags, int system_call) {
    char path[4096];
    int nth;
    if (!path_at(folder, name, path)) return syscall(system_call, folder, name, flags);
    if (decide(call, path, needs, 0, &nth) == FAIL) FAILED(call, path, "");
    int result = syscall(system_call, folder, name, flags), kept = errno;
    write_log(call, nth, path, "", 0, "", 0, words(result));
    errno = kept;
    return result;
}
int unlinkat(int folder, const char *name, int flags) {
    return one_path(flags & AT_REMOVEDIR ? "rmdir" : "unlink", 1, folder, name, flags, SYS_unlinkat);
}
int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }
int mkdirat(int folder, const char *name, mode_t permissions) {
    return one_path("mkdir", 2, folder, name, permissions, SYS_mkdirat);
}
int mkdir(const char *name, mode_t permissions) { return mkdirat(AT_FDCWD, name, permissions); }
