/* Measures system calls from inside: a line for each kind, with nanoseconds for each call. The argument says how many there
   are in a batch. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long calls;
static char bytes[4096];
static int zero, null, file, channel[2];

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000ull + time.tv_nsec;
}

/* Makes a call so often, in batches, and prints what one takes in the shortest: others may interrupt a batch. Each call
   has to succeed. */
#define MEASURE(name, times, per_round, call)                                   \
    do {                                                                        \
        uint64_t least = UINT64_MAX;                                            \
        for (int batch = 0; batch < BATCHES; batch++) {                         \
            uint64_t start = now();                                             \
            for (long i = 0; i < (times); i++)                                  \
                if ((long)(call) < 0) {                                         \
                    perror(name);                                               \
                    return 1;                                                   \
                }                                                               \
            uint64_t time = (now() - start) / ((times) * (per_round));          \
            least = time < least ? time : least;                                \
        }                                                                       \
        printf("%s %lu\n", name, least);                                        \
    } while (0)

enum { BATCHES = 10 };

static long open_and_close(void) {
    int opened = open("/tmp/data", O_RDONLY);
    return opened < 0 ? -1 : close(opened);
}

static long map_and_unmap(void) {
    void *pages = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return pages == MAP_FAILED ? -1 : munmap(pages, 1 << 16);
}

static long through_pipe(void) {
    return write(channel[1], bytes, 64) < 0 ? -1 : read(channel[0], bytes, 64);
}

int main(int count, char **arguments) {
    calls = count > 1 ? atol(arguments[1]) : 20;
    zero = open("/dev/zero", O_RDONLY);
    null = open("/dev/null", O_WRONLY);
    file = open("/tmp/data", O_RDWR | O_CREAT, 0600);
    if (zero < 0 || null < 0 || file < 0 || pipe(channel) != 0 || write(file, bytes, sizeof bytes) < 0) {
        perror("getting ready");
        return 1;
    }
    struct stat found;
    struct timespec time;
    sigset_t none;
    sigemptyset(&none);
    MEASURE("getppid", calls, 1, syscall(SYS_getppid));
    MEASURE("clock_gettime, as a system call", calls, 1, syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &time));
    MEASURE("rt_sigprocmask", calls, 1, sigprocmask(SIG_SETMASK, &none, NULL));
    MEASURE("read of 4 KiB from /dev/zero", calls, 1, read(zero, bytes, sizeof bytes));
    MEASURE("write of 4 KiB to /dev/null", calls, 1, write(null, bytes, sizeof bytes));
    MEASURE("pread of 4 KiB from a file", calls, 1, pread(file, bytes, sizeof bytes, 0));
    MEASURE("pwrite of 4 KiB to a file", calls, 1, pwrite(file, bytes, sizeof bytes, 0));
    MEASURE("fstat", calls, 1, fstat(file, &found));
    MEASURE("stat", calls, 1, stat("/tmp/data", &found));
    MEASURE("open, close: each", calls, 2, open_and_close());
    MEASURE("mmap, munmap of 64 KiB: each", calls, 2, map_and_unmap());
    MEASURE("write, read through a pipe: each", calls, 2, through_pipe());
    MEASURE("poll", calls, 1, poll(&(struct pollfd){.fd = null, .events = POLLOUT}, 1, 0));
    MEASURE("clock_gettime, by the vDSO", 1000 * calls, 1, clock_gettime(CLOCK_MONOTONIC, &time));
    return 0;
}
