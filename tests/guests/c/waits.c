/* Waits for its standard input in all the ways that there are. The tests run it natively and in a sandbox. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <unistd.h>

static int instance;

/* Waits for standard input at most so long, or for ever: what the call gives. */
static int wait_for(const char *way, int milliseconds) {
    struct timespec precise = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    struct timeval coarse = {milliseconds / 1000, milliseconds % 1000 * 1000};
    struct pollfd entry = {0, POLLIN, 0};
    struct epoll_event event;
    fd_set set;
    FD_ZERO(&set);
    FD_SET(0, &set);
    if (!strcmp(way, "poll")) return poll(&entry, 1, milliseconds);
    if (!strcmp(way, "ppoll")) return ppoll(&entry, 1, milliseconds < 0 ? NULL : &precise, NULL);
    if (!strcmp(way, "select")) return select(1, &set, NULL, NULL, milliseconds < 0 ? NULL : &coarse);
    if (!strcmp(way, "pselect")) return pselect(1, &set, NULL, NULL, milliseconds < 0 ? NULL : &precise, NULL);
    if (!strcmp(way, "nested")) {
        entry.fd = instance;
        return poll(&entry, 1, milliseconds);
    }
    return epoll_wait(instance, &event, 1, milliseconds);
}

static void prepare(const char *way) {
    struct epoll_event event = {.events = EPOLLIN | (strcmp(way, "edge") ? 0 : EPOLLET)};
    instance = epoll_create1(0);
    epoll_ctl(instance, EPOLL_CTL_ADD, 0, &event);
}

/* Prints what it reads, and waits before each read. Triggered by the edge, it reads all that there is. */
static int echo(const char *way) {
    char buffer[100];
    prepare(way);
    if (!strcmp(way, "edge")) fcntl(0, F_SETFL, O_NONBLOCK);
    for (;;) {
        if (wait_for(way, -1) != 1) return 1;
        for (;;) {
            ssize_t count = read(0, buffer, sizeof buffer);
            if (count == 0) return 0;
            if (count < 0) {
                if (errno == EAGAIN) break;
                return 2;
            }
            if (write(1, buffer, count) != count) return 3;
            if (strcmp(way, "edge")) break;
        }
    }
}

/* Nothing comes. */
static void timeouts(void) {
    static const char *const ways[] = {"poll", "ppoll", "select", "pselect", "epoll", "edge", "nested"};
    for (size_t index = 0; index < sizeof ways / sizeof *ways; index++) {
        struct timespec before, after;
        prepare(ways[index]);
        clock_gettime(CLOCK_MONOTONIC, &before);
        int none = wait_for(ways[index], 0), later = wait_for(ways[index], 30);
        clock_gettime(CLOCK_MONOTONIC, &after);
        long passed = (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000;
        printf("%s %d %d %d\n", ways[index], none, later, passed >= 30);
        close(instance);
    }
    int held = -1;
    printf("%d", ioctl(0, FIONREAD, &held));
    printf(" %d\n", held);
    fcntl(0, F_SETFL, O_NONBLOCK);
    char byte;
    printf("%zd", read(0, &byte, 1));
    printf(" %d\n", errno == EAGAIN);
}

static void handle(int signal) { (void)signal; }

/* Together with a timer, a counter and a pipe. */
static void together(void) {
    int timer = timerfd_create(CLOCK_MONOTONIC, 0), counter = eventfd(0, 0), ends[2];
    struct itimerspec soon = {.it_value = {0, 20000000}};
    if (pipe(ends)) return;
    struct pollfd entries[] = {{0, POLLIN, 0}, {timer, POLLIN, 0}, {counter, POLLIN, 0}, {ends[0], POLLIN, 0}};
    uint64_t one = 1;
    timerfd_settime(timer, 0, &soon, NULL);
    printf("%d", poll(entries, 4, -1));
    printf(" %d %d\n", entries[0].revents, entries[1].revents);
    if (read(timer, &one, 8) != 8) return;
    if (write(counter, &one, 8) != 8) return;
    printf("%d", poll(entries, 4, -1));
    printf(" %d %d %d\n", entries[0].revents, entries[1].revents, entries[2].revents);

    prepare("epoll");
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = 7};
    epoll_ctl(instance, EPOLL_CTL_ADD, timer, &event);
    timerfd_settime(timer, 0, &soon, NULL);
    event.data.u32 = 0;
    printf("%d", epoll_wait(instance, &event, 1, -1));
    printf(" %d\n", event.data.u32);

    static const char *const ways[] = {"poll", "select", "epoll"};
    struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART};
    struct itimerval alarm = {.it_value = {0, 20000}};
    sigaction(SIGALRM, &action, NULL);
    for (size_t index = 0; index < 3; index++) {
        prepare(ways[index]);
        for (int limit = -1; limit < 100000; limit += 90000) {
            setitimer(ITIMER_REAL, &alarm, NULL);
            int result = wait_for(ways[index], limit);
            printf("%s %d %d\n", ways[index], result, errno == EINTR);
        }
    }
}

/* What there is of an input that has come in full. */
static void complete(void) {
    char buffer[1000];
    int held = -1;
    struct pollfd entry = {0, POLLIN | POLLOUT | POLLPRI, 0};
    /* Until the last byte has come. */
    while (ioctl(0, FIONREAD, &held) == 0 && held < 300) usleep(1000);
    printf("%d", poll(&entry, 1, -1));
    printf(" %d %d\n", entry.revents & POLLIN, held);
    printf("%zd", read(0, buffer, 299));
    ioctl(0, FIONREAD, &held);
    printf(" %d %d\n", poll(&entry, 1, -1), held);
    printf("%zd", read(0, buffer, sizeof buffer));
    printf(" %d", poll(&entry, 1, -1));
    printf(" %d %zd\n", entry.revents, read(0, buffer, sizeof buffer));
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    setvbuf(stdout, NULL, _IONBF, 0);
    if (!strcmp(what, "echo")) return echo(argv[2]);
    if (!strcmp(what, "timeouts")) timeouts();
    else if (!strcmp(what, "together")) together();
    else if (!strcmp(what, "complete")) complete();
    else if (!strcmp(what, "patient")) return wait_for("poll", 3600000) == 1 ? echo("poll") : 4;
    else return 5;
    return 0;
}
