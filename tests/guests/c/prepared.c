/* An ordinary program that gets ready and then serves one request from its standard input: commands, one a line. How it waits
   for the request is its first argument. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define TABLE (1 << 18)

static char request[1 << 20];
static unsigned char *table;
static long sum;

static void wait_by_poll(int precisely) {
    struct pollfd wanted[] = {{-1, POLLIN, 0}, {0, POLLIN, 0}};
    struct timespec hour = {3600, 0};
    while ((precisely ? ppoll(wanted, 2, &hour, NULL) : poll(wanted, 2, -1)) < 1);
    if (!(wanted[1].revents & POLLIN)) exit(10);
}

static void wait_by_select(void) {
    fd_set readable;
    do {
        FD_ZERO(&readable);
        FD_SET(0, &readable);
    } while (select(1, &readable, NULL, NULL, NULL) < 1);
    if (!FD_ISSET(0, &readable)) exit(11);
}

static void wait_by_epoll(unsigned how) {
    int outer = epoll_create1(0), inner = epoll_create1(0);
    struct epoll_event input = {EPOLLIN | how, {.u64 = 7}}, nested = {EPOLLIN, {.u64 = 9}}, found;
    if (epoll_ctl(inner, EPOLL_CTL_ADD, 0, &input) || epoll_ctl(outer, EPOLL_CTL_ADD, inner, &nested)) exit(12);
    while (epoll_wait(outer, &found, 1, -1) < 1);
    if (found.data.u64 != 9 || epoll_wait(inner, &found, 1, 0) != 1 || found.data.u64 != 7) exit(13);
    close(outer);
    close(inner);
}

static size_t read_request(const char *how) {
    size_t length = 0;
    if (!strcmp(how, "poll")) wait_by_poll(0);
    if (!strcmp(how, "select")) wait_by_select();
    if (!strcmp(how, "epoll")) wait_by_epoll(0);
    if (!strcmp(how, "edge")) wait_by_epoll(EPOLLET);
    if (!strcmp(how, "hour")) wait_by_poll(1);
    for (;;) {
        struct iovec parts[] = {{request + length, 3}, {request + length + 3, sizeof request - length - 4}};
        ssize_t got = strcmp(how, "readv") ? read(0, request + length, sizeof request - length - 1) : readv(0, parts, 2);
        if (got < 0) {
            perror("read");
            exit(14);
        }
        if (got == 0) return length;
        length += got;
    }
}

/* All that a request can have changed. */
static void show(void) {
    long filled = 0;
    for (long i = 0; i < TABLE; i += 64) filled += table[i];
    char directory[100] = "?";
    getcwd(directory, sizeof directory);
    mode_t mask = umask(0);
    umask(mask);
    int lowest = dup(1);
    close(lowest);
    const char *variable = getenv("CHANGED");
    printf("sum %ld, table %ld, in %s, mask %o, next %d, variable %s\n", sum, filled, directory, mask, lowest,
           variable ? variable : "none");
}

static void obey(const char *word, long number) {
    if (!strcmp(word, "add")) printf("%ld\n", sum += number);
    if (!strcmp(word, "fill")) memset(table, number, TABLE);
    if (!strcmp(word, "directory")) printf("%d\n", chdir("/dev"));
    if (!strcmp(word, "mask")) umask(number);
    if (!strcmp(word, "variable")) setenv("CHANGED", "yes", 1);
    if (!strcmp(word, "show")) show();
    if (!strcmp(word, "pipe")) {
        int ends[2], failed = pipe(ends);
        printf("%d %d\n", failed, ends[0]);
        dprintf(ends[1], "left in it");
    }
    if (!strcmp(word, "close")) printf("%d\n", close(number));
    if (!strcmp(word, "allocate")) {
        char *memory = malloc(number);
        if (memory) memset(memory, 1, number);
        printf("%d\n", !!memory);
    }
    if (!strcmp(word, "random")) {
        unsigned long random = 0;
        getrandom(&random, sizeof random, 0);
        printf("%lx\n", random);
    }
    if (!strcmp(word, "clock")) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        printf("%lld\n", now.tv_sec * 1000000000LL + now.tv_nsec);
    }
    if (!strcmp(word, "flush")) fflush(stdout);
    if (!strcmp(word, "complain")) fprintf(stderr, "%ld is wrong\n", number);
    if (!strcmp(word, "print"))
        while (number-- > 0) putchar('x');
    if (!strcmp(word, "exit")) exit(number);
    if (!strcmp(word, "abort")) abort();
    if (!strcmp(word, "null")) printf("%d\n", *(volatile int *)(sum - sum));
    if (!strcmp(word, "spin"))
        for (;;) ++*(volatile long *)&sum;
}

int main(int count, char **arguments) {
    const char *how = count > 1 ? arguments[1] : "read";
    if (!strcmp(how, "early")) {
        puts("too early");
        return 3;
    }
    if (!strcmp(how, "never"))
        for (;;) ++*(volatile long *)&sum;
    if (!(table = calloc(1, TABLE))) return 15;
    memset(table, 1, TABLE);
    puts("ready");
    fflush(stdout);
    size_t length = read_request(how);
    request[length] = 0;
    for (char *line = strtok(request, "\n"); line; line = strtok(NULL, "\n")) {
        char word[20] = "";
        long number = 0;
        sscanf(line, "%19s %ld", word, &number);
        obey(word, number);
    }
    return 0;
}
