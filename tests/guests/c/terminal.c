/* Uses its terminal. The tests run it natively and in a sandbox, on a pseudo-terminal. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

static void size(const char *what) {
    struct winsize window = {0};
    int result = ioctl(0, TIOCGWINSZ, &window);
    printf("%s %d: %d %d\n", what, result, window.ws_row, window.ws_col);
}

static void look(void) {
    struct stat status;
    struct termios settings;
    struct pollfd entry = {0, POLLIN | POLLOUT, 0};
    struct epoll_event event = {.events = EPOLLIN};
    char byte;
    int tty = open("/dev/tty", O_RDWR | O_CLOEXEC);
    for (int number = 0; number < 3; number++) {
        printf("%d %d", isatty(number), fstat(number, &status));
        printf(" %d\n", S_ISCHR(status.st_mode));
    }
    size("window");
    printf("tty %d %d\n", tty >= 0, isatty(tty));
    printf("foreground %d\n", tcgetpgrp(0) == getpgrp());
    printf("settings %d", tcgetattr(0, &settings));
    printf(" %d %d %d\n", !!(settings.c_lflag & ICANON), !!(settings.c_lflag & ECHO), !!(settings.c_lflag & ISIG));
    printf("erase %d, speed %d\n", settings.c_cc[VERASE], (int)cfgetospeed(&settings));
    printf("poll %d", poll(&entry, 1, 0));
    printf(" %d\n", entry.revents == POLLOUT);
    printf("epoll %d\n", epoll_ctl(epoll_create1(0), EPOLL_CTL_ADD, 0, &event));
    printf("seek %d", (int)lseek(0, 0, SEEK_CUR));
    printf(" %d\n", errno == ESPIPE);
    printf("pread %d", (int)pread(0, &byte, 1, 0));
    printf(" %d\n", errno == ESPIPE);
    printf("write %d\n", (int)write(tty, "by name\n", 8));
    printf("flush %d %d\n", tcflush(0, TCIFLUSH), tcflush(0, 7));
    /* Reads that need not give anything, and wait for a tenth of a second at most. */
    for (int tenths = 0; tenths < 2; tenths++) {
        struct termios hasty = settings;
        hasty.c_lflag &= ~ICANON;
        hasty.c_cc[VMIN] = 0;
        hasty.c_cc[VTIME] = tenths;
        tcsetattr(0, TCSANOW, &hasty);
        printf("nothing %d\n", (int)read(0, &byte, 1));
    }
    tcsetattr(0, TCSANOW, &settings);
}

/* Reads keys one by one, and then lines again until their end. */
static void keys(void) {
    struct termios before, raw;
    char line[100];
    tcgetattr(0, &before);
    raw = before;
    cfmakeraw(&raw);
    tcsetattr(0, TCSANOW, &raw);
    write(1, "ready\r\n", 7);
    for (int count = 0; count < 3; count++) {
        unsigned char key;
        if (read(0, &key, 1) != 1) exit(1);
        printf("key %d\r\n", key);
    }
    tcsetattr(0, TCSANOW, &before);
    printf("line\n");
    for (;;) {
        ssize_t count = read(0, line, sizeof line);
        if (count <= 0) {
            printf("end %zd\n", count);
            break;
        }
        printf("%.*s", (int)count, line);
    }
    /* Its end was one, and is not there for ever. */
    printf("%zd\n", read(0, line, sizeof line));
}

/* Reads what comes, of which it wants ten bytes, or those that come without 25 seconds between them. */
static void patient(void) {
    struct termios raw;
    char bytes[10];
    tcgetattr(0, &raw);
    cfmakeraw(&raw);
    raw.c_cc[VMIN] = sizeof bytes;
    raw.c_cc[VTIME] = 255;
    tcsetattr(0, TCSANOW, &raw);
    write(1, "ready\r\n", 7);
    for (;;) {
        ssize_t count = read(0, bytes, sizeof bytes);
        printf("%zd %.*s\r\n", count, (int)count, bytes);
    }
}

static void handle(int signal) {
    if (signal == SIGINT) write(1, "interrupted\n", 12);
    if (signal == SIGWINCH) {
        /* Not by `printf`, which it may have interrupted. */
        struct winsize window = {0};
        char text[64];
        int got = ioctl(0, TIOCGWINSZ, &window);
        int len = snprintf(text, sizeof text, "resized %d: %d %d\n", got, window.ws_row, window.ws_col);
        write(1, text, len);
    }
}

/* Sleeps, or waits for a signal, until one comes. */
static void sleeps(int pauses) {
    struct sigaction action = {.sa_handler = handle};
    sigaction(SIGINT, &action, NULL);
    printf("ready\n");
    if (pauses) {
        printf("%d", pause());
        printf(" %d\n", errno == EINTR);
    } else {
        printf("%d\n", sleep(3600) > 3000);
    }
}

/* Waits for signals, or computes until one comes. */
static void signals(int computes) {
    struct sigaction action = {.sa_handler = handle};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGWINCH, &action, NULL);
    printf("ready\n");
    for (;;) {
        char byte;
        for (volatile long step = 0; computes;) step++;
        ssize_t count = read(0, &byte, 1);
        if (count < 0) printf("%d\n", errno == EINTR);
    }
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    setvbuf(stdout, NULL, _IONBF, 0);
    if (!strcmp(what, "look")) look();
    else if (!strcmp(what, "keys")) keys();
    else if (!strcmp(what, "patient")) patient();
    else if (!strcmp(what, "signals")) signals(0);
    else if (!strcmp(what, "computes")) signals(1);
    else if (!strcmp(what, "sleeps")) sleeps(0);
    else if (!strcmp(what, "pauses")) sleeps(1);
    else return 5;
    return 0;
}
