/* An ordinary program that makes system calls on files, in its working directory, and prints what they give. With `random`
   SEED STEPS they are any calls in any order, as the seed has them; with `escape` they are attempts to get out. */

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

static uint64_t state;

static uint32_t any(uint32_t below) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (state >> 11) % below;
}

#define ONE_OF(list) list[any(sizeof list / sizeof *list)]

static const char *const PATHS[] = {
    "a", "b", "c", "d", "e", "d/a", "d/b", "d/e", "d/e/a", "d/e/c", "e/a", "l", "l/a", "d/l", "a/b", "no/a", ".", "..", "d/..",
    "d/.", "d/", "a/", "l/", "d//a", "./a", "d/../b", "../w/a", "", "d/e/..", "l2", "e/../d/a", "new/", "...", "d/a/.", "d/a/..",
};
static const char *const TARGETS[] = {"a", "d", "d/e", "l", "nowhere", "../w/b", ".", "d/", "./d/a", "l2/a", "e"};
static const uint64_t OFFSETS[] = {0, 1, 5, 100, 4095, 4096, 5000, 70000, 1 << 20, -1, INT64_MAX};

/* Descriptors that may be open, by place. */
static int files[6] = {-1, -1, -1, -1, -1, -1};
static char bytes[100000], other[sizeof bytes];
static long step;

/* Where the random steps begin. */
static char here[5000];

static void say(const char *what, const char *path, const char *second, long flags, long result) {
    printf("%ld %s(\"%s\", \"%s\", %lx) = %ld", step, what, path, second, flags, result);
    if (result < 0)
        printf(" %s", strerrorname_np(errno));
    putchar('\n');
}

static void show(const struct stat *status) {
    printf("   mode %o links %lu", status->st_mode, (long)status->st_nlink);
    if (!S_ISDIR(status->st_mode))
        printf(" size %ld", (long)status->st_size);
    printf(" rdev %lx\n", (long)status->st_rdev);
}

static uint64_t sum(const char *from, long len) {
    uint64_t sum = 7;
    for (long i = 0; i < len; i++)
        sum = sum * 31 + (unsigned char)from[i];
    return sum;
}

static int compare(const void *one, const void *other) {
    return strcmp(*(char *const *)one, *(char *const *)other);
}

/* Lists a directory by descriptor, in order of the names. */
static void list(int file) {
    char *names[200];
    int count = 0;
    long got;
    long first = lseek(file, 0, SEEK_SET);
    int room = any(2) ? 300 : 10000;
    while ((got = syscall(SYS_getdents64, file, bytes, room)) > 0)
        for (long at = 0; at < got;) {
            struct dirent64 *entry = (struct dirent64 *)(bytes + at);
            if (count < 200)
                asprintf(&names[count++], "%s:%d", entry->d_name, entry->d_type);
            at += entry->d_reclen;
        }
    say("list", "", "", first < 0, got);
    qsort(names, count, sizeof *names, compare);
    for (int i = 0; i < count; i++) {
        printf("   %s\n", names[i]);
        free(names[i]);
    }
    lseek(file, 0, SEEK_SET);
}

/* The place of a descriptor, mostly of one that is open. */
static int used(void) {
    int place = any(6);
    for (int tries = 0; tries < 8 && files[place] < 0; tries++)
        place = any(6);
    return place;
}

static int is_directory(int file) {
    struct stat status;
    return !fstat(file, &status) && S_ISDIR(status.st_mode);
}

static int base(void) {
    int file = any(4) ? -1 : files[used()];
    return file >= 0 || !any(20) ? file : AT_FDCWD;
}

static void random_step(void) {
    static const int OPEN[] = {O_CREAT, O_CREAT, O_EXCL, O_TRUNC, O_APPEND, O_DIRECTORY, O_NOFOLLOW, O_PATH, O_NONBLOCK, 0, 0, 0};
    const char *path = ONE_OF(PATHS), *second = ONE_OF(PATHS);
    int place = used(), file = files[place], from = files[used()];
    uint64_t offset = ONE_OF(OFFSETS);
    size_t len = any(4) ? any(300) : any(sizeof bytes);
    struct stat status;
    long result;
    switch (any(44)) {
    case 0: case 1: case 2: case 3: case 4: case 5: {
        int flags = any(4);
        for (int i = any(4); i > 0; i--)
            flags |= ONE_OF(OPEN);
        place = any(6);
        if (files[place] >= 0)
            close(files[place]);
        result = files[place] = openat(base(), path, flags, 0700 | any(0100));
        say("open", path, "", flags, result >= 0 ? 0 : -1);
        if (result >= 0)
            printf("   flags %x\n", fcntl(result, F_GETFL));
        break;
    }
    case 6: case 7: case 8:
        for (size_t i = 0; i < len; i++)
            bytes[i] = i * step;
        say("write", "", "", len, write(file, bytes, len));
        break;
    case 9: case 10: case 11:
        result = read(file, bytes, len);
        say("read", "", "", len, result);
        printf("   %lx\n", sum(bytes, result));
        break;
    case 12:
        result = pread(file, bytes, len, offset);
        say("pread", "", "", offset, result);
        printf("   %lx\n", sum(bytes, result));
        break;
    case 13:
        if (offset == INT64_MAX)
            break;
        memset(bytes, step, len);
        say("pwrite", "", "", offset, pwrite(file, bytes, len, offset));
        break;
    case 14: case 15:
        /* Each file system has positions of its own in directories. */
        if (offset != INT64_MAX && !is_directory(file))
            say("lseek", "", "", offset, lseek(file, offset, any(3)));
        break;
    case 16:
        say("ftruncate", "", "", offset, offset == INT64_MAX ? 0 : ftruncate(file, offset));
        break;
    case 17:
        say("truncate", path, "", offset, offset == INT64_MAX ? 0 : truncate(path, offset));
        break;
    case 18:
        result = fstat(file, &status);
        say("fstat", "", "", 0, result);
        if (!result)
            show(&status);
        break;
    case 19: case 20: case 21: {
        int flags = (any(2) ? AT_SYMLINK_NOFOLLOW : 0) | (any(4) ? 0 : AT_EMPTY_PATH);
        result = fstatat(base(), path, &status, flags);
        say("stat", path, "", flags, result);
        if (!result)
            show(&status);
        break;
    }
    case 22: {
        int mode = any(9);
        say("access", path, "", mode, syscall(SYS_faccessat2, base(), path, mode & ~2, 0));
        break;
    }
    case 23: case 24: {
        int mode = 0700 | any(0100);
        say("mkdir", path, "", mode, mkdirat(base(), path, mode));
        break;
    }
    case 25: say("rmdir", path, "", 0, unlinkat(base(), path, AT_REMOVEDIR)); break;
    case 26: case 27: say("unlink", path, "", 0, unlinkat(base(), path, 0)); break;
    case 28: case 29: case 30: {
        int flags = any(3) ? 0 : any(4);
        say("rename", path, second, flags, syscall(SYS_renameat2, base(), path, AT_FDCWD, second, flags));
        break;
    }
    case 31: {
        int flags = any(2) ? AT_SYMLINK_FOLLOW : 0;
        say("link", path, second, flags, linkat(base(), path, base(), second, flags));
        break;
    }
    case 32: {
        const char *target = any(12) ? ONE_OF(TARGETS) : "";
        say("symlink", target, path, 0, symlinkat(target, base(), path));
        break;
    }
    case 33:
        result = readlinkat(base(), path, bytes, any(3) ? 100 : 2);
        say("readlink", path, "", 0, result);
        if (result > 0)
            printf("   %.*s\n", (int)result, bytes);
        break;
    case 34: {
        int mode = 0700 | any(0100);
        say("chmod", path, "", mode, fchmodat(base(), path, mode, 0));
        break;
    }
    case 35: {
        struct timespec times[2] = {{any(2000000000), any(2) ? any(1000000000) : UTIME_OMIT}, {any(2000000000), any(1000000000)}};
        int flags = any(2) ? AT_SYMLINK_NOFOLLOW : 0;
        int start = base();
        result = utimensat(start, path, times, flags);
        say("utimensat", path, "", flags, result);
        if (!result && !fstatat(start, path, &status, flags))
            printf("   %ld.%ld\n", (long)status.st_mtim.tv_sec, status.st_mtim.tv_nsec);
        break;
    }
    case 36: case 37: list(file); break;
    case 38:
        result = any(2) ? chdir(path) : fchdir(file);
        say("chdir", path, "", 0, result);
        /* What is outside is not the same everywhere. */
        result = getcwd(bytes, sizeof bytes) ? 0 : -1;
        int is_within = !result && !strncmp(bytes, here, strlen(here));
        say("getcwd", is_within ? bytes + strlen(here) : "", "", is_within, result);
        if (!is_within && chdir(here))
            exit(9);
        break;
    case 39:
        if (file >= 0 && from >= 0) {
            loff_t at = any(3) ? any(6000) : 0, into = any(6000);
            int given = any(4);
            result = copy_file_range(from, given & 1 ? &at : NULL, file, given & 2 ? &into : NULL, len, 0);
            say("copy_file_range", "", "", given, result);
            printf("   %ld %ld\n", (long)at, (long)into);
        }
        break;
    case 40:
        if (file >= 0 && from >= 0) {
            off_t at = any(6000);
            int given = any(2);
            result = sendfile(file, from, given ? &at : NULL, len);
            say("sendfile", "", "", given, result);
            printf("   %ld %ld %ld\n", (long)at, (long)lseek(file, 0, SEEK_CUR), (long)lseek(from, 0, SEEK_CUR));
        }
        break;
    case 41: {
        static const int OPERATIONS[] = {LOCK_SH | LOCK_NB, LOCK_EX | LOCK_NB, LOCK_UN, LOCK_NB, LOCK_SH | LOCK_EX};
        int operation = ONE_OF(OPERATIONS);
        say("flock", "", "", operation, flock(file, operation));
        break;
    }
    case 42: {
        static const int COMMANDS[] = {F_SETLK, F_GETLK, F_OFD_SETLK, F_OFD_GETLK};
        struct flock lock = {.l_type = any(3), .l_whence = any(4), .l_start = (long)any(200) - 50, .l_len = (long)any(100) - 30};
        int command = ONE_OF(COMMANDS);
        /* Newer kernels look for a lock of any kind then. */
        if (command == F_OFD_GETLK && lock.l_type == F_UNLCK)
            break;
        if (is_directory(file))
            break;
        result = fcntl(file, command, &lock);
        say("lock", "", "", command, result);
        if (!result)
            printf("   %d %d %ld %ld\n", lock.l_type, lock.l_whence, (long)lock.l_start, (long)lock.l_len);
        break;
    }
    case 43: {
        struct iovec parts[] = {{bytes, any(50)}, {other, any(5000)}, {bytes, 0}, {bytes + 50, any(50)}};
        int write = any(2);
        memset(bytes, write ? step : 0, 100);
        memset(other, write ? step + 1 : 0, 5000);
        result = write ? pwritev2(file, parts, 4, -1, any(2) ? RWF_APPEND : 0) : preadv2(file, parts, 4, any(2) ? -1 : 3, 0);
        say("vector", "", "", write, result);
        printf("   %lx %lx %ld\n", sum(bytes, 100), sum(other, 5000), (long)lseek(file, 0, SEEK_CUR));
        break;
    }
    }
    fflush(stdout);
}

/* Everything that is there in the end. */
static void walk(const char *path) {
    struct stat status;
    if (lstat(path, &status))
        return;
    printf("%s\n", path);
    show(&status);
    if (S_ISLNK(status.st_mode)) {
        long got = readlink(path, bytes, sizeof bytes);
        printf("   -> %.*s\n", (int)got, bytes);
    }
    if (S_ISREG(status.st_mode)) {
        int file = open(path, O_RDONLY);
        long got;
        while ((got = read(file, bytes, sizeof bytes)) > 0)
            printf("   %ld %lx\n", got, sum(bytes, got));
        close(file);
    }
    if (S_ISDIR(status.st_mode)) {
        struct dirent **names;
        int count = scandir(path, &names, NULL, alphasort);
        for (int i = 0; i < count; i++)
            if (strcmp(names[i]->d_name, ".") && strcmp(names[i]->d_name, "..")) {
                char *below;
                asprintf(&below, "%s/%s", path, names[i]->d_name);
                walk(below);
                free(below);
            }
    }
}

static int random_steps(uint64_t seed, long steps) {
    state = seed * 0x9e3779b97f4a7c15 + 1;
    umask(any(0100));
    for (int i = 0; i < 3; i++)
        if (mkdir("w", 0755) || chdir("w") || !getcwd(here, sizeof here))
            return 1;
    for (step = 0; step < steps; step++)
        random_step();
    if (chdir(here))
        return 2;
    walk(".");
    return 0;
}

/* Makes a call that must not reach anything outside, and says where it got. */
static void attempt(const char *what, long result) {
    printf("%s: %s\n", what, result < 0 ? strerrorname_np(errno) : "done");
    fflush(stdout);
}

static void look(const char *path) {
    int file = open(path, O_RDONLY);
    long got = file < 0 ? -1 : read(file, bytes, 100);
    printf("%s: %s%.*s\n", path, file < 0 ? strerrorname_np(errno) : "", (int)(got < 0 ? 0 : got), bytes);
    fflush(stdout);
    if (file >= 0)
        close(file);
}

static int escape(const char *secret) {
    char path[5000];
    look(secret);
    for (int i = 0; i < 10; i++) {
        strcpy(path, "");
        for (int up = 0; up <= i; up++)
            strcat(path, "../");
        strcat(path, secret + 1);
        look(path);
    }
    /* By links of its own, absolute and relative, and by one that is followed by more. */
    attempt("symlink", symlink(secret, "absolute"));
    look("absolute");
    snprintf(path, sizeof path, "../../../../../../../..%s", secret);
    attempt("symlink", symlink(path, "relative"));
    look("relative");
    attempt("symlink", symlink("../..", "up"));
    snprintf(path, sizeof path, "up/up/up/..%s", secret);
    look(path);
    look("outside");
    look("/proc/self/root/etc/passwd");
    snprintf(path, sizeof path, "/proc/self/root%s", secret);
    look(path);
    snprintf(path, sizeof path, "/proc/self/cwd/../../../../..%s", secret);
    look(path);
    look("/proc/1/root/etc/passwd");
    int here = open(".", O_RDONLY | O_DIRECTORY);
    snprintf(path, sizeof path, "/proc/self/fd/%d/../../../..%s", here, secret);
    look(path);
    attempt("openat", openat(here, secret, O_RDONLY));
    attempt("create through a link", open("absolute", O_WRONLY | O_CREAT | O_TRUNC, 0600));
    attempt("link", link(secret, "hard"));
    attempt("linkat", linkat(AT_FDCWD, "absolute", AT_FDCWD, "hard", AT_SYMLINK_FOLLOW));
    attempt("rename", rename(secret, "moved"));
    attempt("unlink", unlink(secret));
    attempt("truncate", truncate(secret, 0));
    attempt("chmod", chmod(secret, 0777));
    attempt("chroot", chroot("."));
    attempt("mknod", mknod("device", S_IFBLK | 0600, 0x0800));
    attempt("mkfifo", mkfifo("fifo", 0600));
    /* A directory that is moved away while it is the working directory. */
    attempt("mkdir", mkdir("one", 0700));
    attempt("mkdir", mkdir("one/two", 0700));
    attempt("chdir", chdir("one/two"));
    attempt("rename", rename("../../one/two", "../../three"));
    look("../../../../../../etc/passwd");
    snprintf(path, sizeof path, "../../../../../..%s", secret);
    look(path);
    return 0;
}

/* What a descriptor leads to, of what `resolutions` has made. */
static const char *found(int file) {
    static const char *const KNOWN[] = {"a", "d", "d/a", ".", "..", "/", "/proc/self/", "new", "d/new"};
    struct stat status, known;
    if (fstat(file, &status))
        return "nothing";
    if (S_ISLNK(status.st_mode))
        return "a link";
    for (int i = 0; i < sizeof KNOWN / sizeof *KNOWN; i++)
        if (!stat(KNOWN[i], &known) && known.st_ino == status.st_ino && known.st_dev == status.st_dev)
            return KNOWN[i];
    return "something else";
}

/* Opens paths with every condition of how to resolve them. */
static int resolutions(void) {
    static const char *const TRIED[] = {
        "a", "d", "d/a", "./a", ".", "..", "d/..", "d/../..", "d/../a", "../a", "link", "d/out", "d/far", "absolute", "absolute/a",
        "loop", "no", "no/a", "a/", "a/b", "/", "/a", "/..", "/d/a", "/proc", "/proc/self", "/proc/self/", "/proc/self/root",
        "/proc/self/cwd", "/proc/self/cwd/a", "", "d/out/.", "link/", "d/link",
    };
    static const uint64_t FLAGS[] = {O_RDONLY, O_RDONLY | O_NOFOLLOW, O_PATH | O_NOFOLLOW, O_RDONLY | O_DIRECTORY};
    mkdir("w", 0700), mkdir("w/v", 0700), chdir("w/v");
    close(open("a", O_CREAT | O_WRONLY, 0600)), mkdir("d", 0700), close(open("d/a", O_CREAT | O_WRONLY, 0600));
    symlink("a", "link"), symlink("../a", "d/out"), symlink("../../v/a", "d/far"), symlink("/", "absolute");
    symlink("loop", "loop"), symlink("a", "d/link");
    int within = open("d", O_RDONLY | O_DIRECTORY);
    for (uint64_t resolve = 0; resolve <= 64; resolve += resolve == 31 ? 33 : 1)
        for (int flags = 0; flags < 4; flags++)
            for (int from = 0; from < 2; from++)
                for (int path = 0; path < sizeof TRIED / sizeof *TRIED; path++) {
                    /* Whether the root is in another mount depends on the system. */
                    if (resolve & RESOLVE_NO_XDEV && !strncmp(TRIED[path], "absolute", 8))
                        continue;
                    struct open_how how = {.flags = FLAGS[flags], .resolve = resolve};
                    int file;
                    /* A rename anywhere on the system is a reason to try again. */
                    do
                        file = syscall(SYS_openat2, from ? within : AT_FDCWD, TRIED[path], &how, sizeof how);
                    while (file < 0 && errno == EAGAIN);
                    const char *what = file < 0 ? strerrorname_np(errno) : found(file);
                    printf("%lx %d %d \"%s\" %s\n", (long)resolve, flags, from, TRIED[path], what);
                    close(file);
                }
    /* What is made goes where the path leads. */
    for (int way = 0; way < 4; way++) {
        static const char *const MADE[] = {"/new", "d/../new", "absolute/d/new", "d/far/new"};
        struct open_how how = {.flags = O_CREAT | O_EXCL | O_RDWR, .mode = 0600, .resolve = RESOLVE_IN_ROOT};
        int file;
        do
            file = syscall(SYS_openat2, AT_FDCWD, MADE[way], &how, sizeof how);
        while (file < 0 && errno == EAGAIN);
        printf("create %s %s\n", MADE[way], file < 0 ? strerrorname_np(errno) : found(file));
        close(file), unlink("new"), unlink("d/new");
    }
    return 0;
}

/* Asks for pipes, sockets, devices and directories where none can be made. */
static int nodes(void) {
    static const char *const TRIED[] = {"a", "d", "d/", "a/", "a/b", "no/a", ".", "..", "/", "", "link", "new/"};
    static const mode_t KINDS[] = {S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK, S_IFDIR, S_IFLNK, S_IFREG};
    close(open("a", O_CREAT | O_WRONLY, 0600)), mkdir("d", 0700), symlink("nowhere", "link");
    for (int kind = 0; kind < 7; kind++)
        for (int path = 0; path < sizeof TRIED / sizeof *TRIED; path++)
            say("mknod", TRIED[path], "", KINDS[kind], mknod(TRIED[path], KINDS[kind] | 0600, 0));
    return 0;
}

/* Moves a directory in which something is mounted, and looks for that in the list of what is mounted. */
static int moved_mount(const char *from, const char *to, const char *mount) {
    char line[1000];
    int found = rename(from, to) ? -errno : 0;
    for (FILE *file = fopen("/proc/mounts", "r"); file && fgets(line, sizeof line, file);)
        found += !!strstr(line, mount);
    printf("%d\n", found);
    return 0;
}

int main(int count, char **arguments) {
    if (count > 1 && !strcmp(arguments[1], "resolutions"))
        return resolutions();
    if (count > 1 && !strcmp(arguments[1], "nodes"))
        return nodes();
    if (count > 4 && !strcmp(arguments[1], "moved-mount"))
        return moved_mount(arguments[2], arguments[3], arguments[4]);
    if (count > 3 && !strcmp(arguments[1], "random"))
        return random_steps(atol(arguments[2]), atol(arguments[3]));
    if (count > 2 && !strcmp(arguments[1], "escape"))
        return escape(arguments[2]);
    return 3;
}
