/* An ordinary program that knows nothing of Ampoule. What it does is its first argument. */

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static int cat(size_t size) {
    char *buffer = malloc(size);
    ssize_t got;
    while ((got = read(0, buffer, size)) > 0)
        for (ssize_t done = 0, put; done < got; done += put)
            if ((put = write(1, buffer + done, got - done)) < 0)
                return 1;
    if (got < 0)
        perror("read");
    free(buffer);
    return got < 0;
}

static int upper(void) {
    char line[100];
    while (fgets(line, sizeof line, stdin)) {
        for (char *c = line; *c; c++)
            *c = toupper((unsigned char)*c);
        fputs(line, stdout);
    }
    return ferror(stdin) ? 1 : 0;
}

static int scattered(void) {
    char a[3], b[5000], c[1];
    struct iovec parts[] = {{a, sizeof a}, {b, 0}, {b, sizeof b}, {c, sizeof c}};
    ssize_t got;
    long total = 0, sum = 0;
    while ((got = readv(0, parts, 4)) > 0) {
        total += got;
        for (int part = 0; part < 4 && got > 0; part++)
            for (size_t i = 0; i < parts[part].iov_len && got > 0; i++, got--)
                sum = sum * 31 + (unsigned char)((char *)parts[part].iov_base)[i];
    }
    printf("%ld bytes, %lx\n", total, sum);
    return 0;
}

static int memory(void) {
    unsigned char *page = malloc(64 << 20);
    if (!page) {
        puts("none");
        return 3;
    }
    memset(page, 1, 64 << 20);
    puts("all");
    return 0;
}

static int bad_address(void) {
    /* The compiler is not to see that nothing lies there. */
    void *volatile nowhere = (void *)16;
    errno = 0;
    ssize_t got = read(0, nowhere, 4);
    printf("%zd %d\n", got, errno);
    char rest[10];
    got = read(0, rest, sizeof rest);
    printf("%zd %.*s\n", got, (int)got, rest);
    return 0;
}

/* As the C library does to look for the daemon that caches names. */
static int names(int code) {
    printf("socket %d\n", socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) < 0);
    return code;
}

static int refused(int code) {
    printf("open %d\n", open("/etc/passwd", O_RDONLY) < 0);
    printf("socket %d\n", socket(AF_INET, SOCK_STREAM, 0) < 0);
    printf("fork %d\n", fork() < 0);
    return code;
}

static int clocks(void) {
    struct timespec before, now;
    clock_gettime(CLOCK_MONOTONIC, &before);
    for (int i = 0; i < 1000; i++) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (now.tv_sec < before.tv_sec || (now.tv_sec == before.tv_sec && now.tv_nsec < before.tv_nsec))
            return 1;
        before = now;
    }
    return 0;
}

/* Writes until that fails; returns the error. */
static int yes(int ignores) {
    if (ignores) signal(SIGPIPE, SIG_IGN);
    while (write(1, "y\n", 2) > 0) {}
    return errno;
}

int main(int count, char **arguments, char **environment) {
    const char *mode = count > 1 ? arguments[1] : "";
    long number = count > 2 ? atol(arguments[2]) : 0;
    volatile int zero = 0;
    if (!strcmp(mode, "cat")) return cat(number ? number : 65536);
    if (!strcmp(mode, "upper")) return upper();
    if (!strcmp(mode, "scattered")) return scattered();
    if (!strcmp(mode, "bad-address")) return bad_address();
    if (!strcmp(mode, "yes")) return yes(0);
    if (!strcmp(mode, "yes-ignoring")) return yes(1);
    if (!strcmp(mode, "memory")) return memory();
    if (!strcmp(mode, "names")) return names(number);
    if (!strcmp(mode, "refused")) return refused(number);
    if (!strcmp(mode, "clocks")) return clocks();
    if (!strcmp(mode, "exit")) return number;
    if (!strcmp(mode, "raise")) return raise(number);
    if (!strcmp(mode, "abort")) abort();
    if (!strcmp(mode, "null")) return *(volatile int *)(long)zero;
    if (!strcmp(mode, "divide")) return (count + 5) / zero;
    if (!strcmp(mode, "illegal")) __builtin_trap();
    if (!strcmp(mode, "breakpoint")) __asm__("int3");
    if (!strcmp(mode, "spin")) for (;;) zero++;
    if (!strcmp(mode, "float")) printf("%.17g %.17g\n", sin(number), exp(number / 7.0));
    if (!strcmp(mode, "both")) {
        fputs("to stderr\n", stderr);
        fputs("to stdout without an end", stdout);
    }
    if (!strcmp(mode, "list") || (count > 2 && !strcmp(arguments[2], "list"))) {
        for (int i = 0; i < count; i++) printf("[%s]\n", i ? arguments[i] : "program");
        for (char **variable = environment; *variable; variable++) puts(*variable);
    }
    return 0;
}
