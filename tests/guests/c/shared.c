/* An ordinary program that maps files, shared, in its working directory, and prints what it finds in the mappings and in the
   files. With `random` SEED STEPS it does so in any order, as the seed has it, and with PARTS behind that it waits for a line between
   as many parts of the steps; the other words are single things to do, which
   `main` has. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 4096
#define PAGES 8 /* of a window */
#define WINDOWS 4

static uint64_t state;

static uint32_t any(uint32_t below) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (state >> 11) % below;
}

#define ONE_OF(list) list[any(sizeof list / sizeof *list)]

/* Two files, the first once more for reading alone, and one without a name. */
static int files[4];
static const char *const NAMES[] = {"a", "b"};
static long step;
static char bytes[PAGES * PAGE];
static sigjmp_buf back;

static char *window(int number) {
    return (char *)0x200000000 + number * 4L * PAGES * PAGE;
}

static void caught(int signal) {
    siglongjmp(back, signal);
}

static void say(const char *what, long one, long two, long three, long result) {
    printf("%ld %s %lx %lx %lx = %ld", step, what, one, two, three, result < 0 ? -1 : result);
    if (result < 0)
        printf(" %s", strerrorname_np(errno));
    putchar('\n');
}

static uint64_t sum(const char *from, long len) {
    uint64_t sum = 7;
    for (long i = 0; i < len; i++)
        sum = sum * 31 + (unsigned char)from[i];
    return sum;
}

static long size_of(int file) {
    struct stat status;
    return fstat(file, &status) ? 0 : status.st_size;
}

/* Nothing is mapped in a window afterwards but a guard at either end. */
static void clear(int number) {
    munmap(window(number), 3L * PAGES * PAGE);
    mmap(window(number) + 3 * PAGES * PAGE, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

/* What each file holds, and what is found at each page of the windows. */
static void show(void) {
    for (int file = 0; file < 4; file++) {
        long got = pread(files[file], bytes, sizeof bytes, 0);
        printf("   file %d: %ld of %ld, %lx\n", file, got, size_of(files[file]), got > 0 ? sum(bytes, got) : 0);
    }
    for (int number = 0; number < WINDOWS; number++) {
        printf("   window %d:", number);
        for (int page = 0; page < 2 * PAGES; page++) {
            volatile int signal = sigsetjmp(back, 1);
            if (!signal)
                printf(" %lx", sum(window(number) + page * PAGE, PAGE) & 0xffffff);
            else
                printf(" %s", signal == SIGBUS ? "bus" : "-");
        }
        putchar('\n');
    }
}

static void fill(char *into, long len) {
    for (long i = 0; i < len; i++)
        into[i] = i * step + i / 100;
}

static void random_step(void) {
    static const int PROTECTIONS[] = {PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_WRITE, PROT_NONE};
    static const int SHARED[] = {MAP_SHARED, MAP_SHARED, MAP_SHARED_VALIDATE, MAP_SHARED | MAP_POPULATE, MAP_SHARED | MAP_NORESERVE};
    int number = any(WINDOWS), which = any(4), file = files[which], other = files[any(4)];
    long page = any(PAGES), pages = 1 + any(PAGES);
    char *at = window(number) + page * PAGE;
    off_t offset = any(3) ? any(PAGES * PAGE) : any(PAGES) * PAGE;
    size_t len = any(3) ? any(300) : any(2 * PAGE);
    switch (any(26)) {
    case 0: case 1: case 2: case 3: case 4: {
        int protection = ONE_OF(PROTECTIONS), flags = ONE_OF(SHARED);
        void *got = mmap(at, pages * PAGE, protection, flags | MAP_FIXED, file, any(PAGES) * PAGE);
        say("map", which, page, pages, got == at ? 0 : -1);
        break;
    }
    case 5: {
        char *got = mmap(0, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, page * PAGE);
        say("private", which, page, pages, got != MAP_FAILED ? 0 : -1);
        volatile int signal = sigsetjmp(back, 1);
        if (!signal && got != MAP_FAILED) {
            printf("   %lx\n", sum(got, PAGE));
            got[5] = 1;
        }
        munmap(got, pages * PAGE);
        break;
    }
    case 6: case 7: case 8: case 9: case 10: case 11: {
        volatile int signal = sigsetjmp(back, 1);
        if (!signal)
            for (int i = any(6) ? 1 : 40; i > 0; i--)
                at[any(900)] = step + i;
        say("store", number, page, 0, signal);
        break;
    }
    case 12: case 13:
        fill(bytes, len);
        say("pwrite", which, offset, len, pwrite(file, bytes, len, offset));
        break;
    case 14:
        fill(bytes, len);
        lseek(file, 0, SEEK_END);
        say("append", which, len, 0, size_of(file) < PAGES * PAGE ? write(file, bytes, len) : 0);
        break;
    case 15: case 16:
        say("ftruncate", which, offset, 0, ftruncate(file, any(4) ? offset / PAGE * PAGE + 1000 : offset / PAGE * PAGE));
        break;
    case 17: {
        int mode = any(2) || which == 3 ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE : FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
        say("fallocate", which, offset, len, any(3) ? fallocate(file, mode, offset, len + 1) : 0);
        break;
    }
    case 18: {
        long from = offset;
        lseek(other, any(PAGES) * PAGE, SEEK_SET);
        say("sendfile", which, offset, len, sendfile(other, file, &from, len));
        break;
    }
    case 19: {
        long from = offset, to = any(PAGES) * PAGE + 50;
        say("copy", which, offset, len, file != other && file != files[3] && other != files[3] ? copy_file_range(file, &from, other, &to, len, 0) : 0);
        break;
    }
    case 20:
        len = any(900);
        say("read", which, offset, page, pread(file, at, len, offset));
        break;
    case 21: {
        len = any(900);
        volatile int signal = sigsetjmp(back, 1);
        /* What a write of memory that is not there leaves in the file depends on the file system. */
        if (!signal) {
            long written = sum(at, len);
            say("write", which, offset, written, pwrite(file, at, len, offset));
        }
        break;
    }
    case 22: {
        int flags = any(2) ? MS_SYNC : any(2) ? MS_ASYNC : MS_SYNC | MS_INVALIDATE;
        say("msync", number, page, pages, msync(at, pages * PAGE, flags));
        if (!any(3))
            say("fsync", which, 0, 0, fsync(file));
        break;
    }
    case 23:
        if (any(3))
            say("munmap", number, page, pages, munmap(at, pages * PAGE));
        else
            say("madvise", number, page, pages, madvise(at, pages * PAGE, any(2) ? MADV_DONTNEED : MADV_WILLNEED));
        break;
    case 24: {
        int to = any(WINDOWS), moves = any(2);
        if (to == number || !moves) {
            char *got = mremap(at, PAGE, pages * PAGE, 0);
            say("mremap", number, page, pages, got == at ? 0 : -1);
        } else {
            clear(to);
            char *got = mremap(at, (any(4) ? 1 : 0) * PAGE, pages * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, window(to));
            say("move", number, page, pages, got == window(to) ? 0 : -1);
        }
        break;
    }
    default: {
        /* Where a part is not mapped, or may not be written, Linux changes what lies before it. */
        int protection = ONE_OF(PROTECTIONS);
        if (protection & PROT_WRITE)
            pages = 1;
        if (!msync(at, pages * PAGE, MS_ASYNC))
            say("mprotect", number, page, pages, mprotect(at, pages * PAGE, protection));
    }
    }
}

/* Waits for a line each time that it has taken another part of the steps, if there are parts. */
static void rest(long steps, long parts) {
    char line[10];
    if (parts && (step - 1) % (steps / parts) == 0) {
        fflush(stdout);
        fgets(line, sizeof line, stdin);
    }
}

static void random_steps(long steps, long parts) {
    for (int number = 0; number < WINDOWS; number++)
        clear(number);
    files[0] = open("a", O_RDWR | O_CREAT, 0600);
    files[1] = open("b", O_RDWR | O_CREAT, 0600);
    files[2] = open("a", O_RDONLY);
    files[3] = memfd_create("c", 0);
    for (step = 1; step <= steps; step++) {
        rest(steps, parts);
        random_step();
        /* What is stored behind the end of a file within its last page has no meaning, so that the end is not where stores are. */
        for (int file = 0; file < 4; file++)
            if (size_of(files[file]) % PAGE && size_of(files[file]) % PAGE < 900)
                ftruncate(files[file], size_of(files[file]) / PAGE * PAGE + 1000);
        if (!any(4))
            show();
        if (!any(50)) {
            const char *name = ONE_OF(NAMES);
            say("truncate", 0, 0, 0, any(2) ? truncate(name, 5000) : close(open(name, O_RDWR | O_TRUNC)));
        }
        if (!any(60))
            clear(any(WINDOWS));
    }
    show();
    for (int number = 0; number < WINDOWS; number++)
        munmap(window(number), 3 * PAGES * PAGE);
    show();
}

/* What seals and mappings have to do with each other. */
static void seals(void) {
    int file = memfd_create("sealed", MFD_ALLOW_SEALING);
    ftruncate(file, PAGE);
    char *at = mmap(0, PAGE, PROT_READ, MAP_SHARED, file, 0);
    say("seal", 0, 0, 0, fcntl(file, F_ADD_SEALS, F_SEAL_WRITE));
    munmap(at, PAGE);
    at = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    strcpy(at, "before");
    say("seal", 1, 0, 0, fcntl(file, F_ADD_SEALS, F_SEAL_WRITE));
    say("seal", 2, 0, 0, fcntl(file, F_ADD_SEALS, F_SEAL_FUTURE_WRITE));
    strcpy(at, "sealed");
    say("pwrite", 0, 0, 0, pwrite(file, "x", 1, 0));
    say("map", 0, 0, 0, mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0) != MAP_FAILED ? 0 : -1);
    munmap(at, PAGE);
    say("seal", 3, 0, 0, fcntl(file, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW));
    at = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    printf("%s\n", at);
}

/* Which protections a mapping can have, by what the file is open for. */
static void permissions(void) {
    close(open("p", O_RDWR | O_CREAT, 0600));
    truncate("p", PAGE);
    static const int FLAGS[] = {O_RDONLY, O_WRONLY, O_RDWR};
    for (int flags = 0; flags < 3; flags++) {
        int file = open("p", FLAGS[flags]);
        for (int protection = 0; protection < 4; protection++) {
            void *at = mmap(0, PAGE, protection, MAP_SHARED, file, 0);
            say("map", flags, protection, 0, at != MAP_FAILED ? 0 : -1);
            if (at != MAP_FAILED)
                say("mprotect", flags, protection, 0, mprotect(at, PAGE, PROT_READ | PROT_WRITE));
        }
    }
    int file = open("p", O_RDWR);
    say("sync", 0, 0, 0, mmap(0, PAGE, PROT_READ, MAP_SHARED_VALIDATE | MAP_SYNC, file, 0) != MAP_FAILED ? 0 : -1);
    char *at = mmap(0, 2 * PAGE, PROT_READ, MAP_SHARED, file, 0);
    say("msync", 0, 0, 0, msync(at, PAGE, MS_SYNC | MS_ASYNC));
    say("msync", 1, 0, 0, msync(at + 1, PAGE, MS_SYNC));
    say("msync", 2, 0, 0, msync(at, PAGE, 64));
    say("read", 0, 0, 0, pread(file, at, 10, 0));
    say("write", 0, 0, 0, pwrite(file, at + PAGE, 10, 0));
}

/* Maps a file and counts in it each time that it reads a line: in the mapping, and then through the file. */
static void count(const char *name) {
    int file = open(name, O_RDWR | O_CREAT, 0600);
    ftruncate(file, PAGE);
    char *at = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    char line[100];
    while (fgets(line, sizeof line, stdin)) {
        at[0]++;
        char now;
        pread(file, &now, 1, 0);
        printf("%d %d\n", at[0], now);
        fflush(stdout);
        if (!strcmp(line, "fault\n"))
            raise(SIGSEGV);
        while (!strcmp(line, "spin\n"))
            at[1]++;
    }
}

/* Gives private copies up, which are then what the file is. */
static void copies(void) {
    int file = open("y", O_RDWR | O_CREAT, 0600);
    step = 7;
    fill(bytes, sizeof bytes);
    pwrite(file, bytes, sizeof bytes, 0);
    char *at = mmap(0, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, PAGE);
    char *shared = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 2 * PAGE);
    for (int page = 0; page < 4; page++)
        at[page * PAGE + page] = 99;
    pwrite(file, "written", 7, PAGE);
    strcpy(shared, "stored");
    printf("%lx\n", sum(at + 1 * PAGE + 100, 3 * PAGE - 100));
    say("madvise", 0, 0, 0, madvise(at, 3 * PAGE, MADV_DONTNEED));
    printf("%.7s %.6s %lx\n", at, at + PAGE, sum(at, 4 * PAGE));
    close(file);
    munmap(at, PAGE);
    munmap(shared, PAGE);
    at[PAGE] = 1;
    say("madvise", 1, 0, 0, madvise(at + PAGE, PAGE, MADV_DONTNEED));
    printf("%.6s\n", at + PAGE);

    /* Copies that grow have what the file holds by then. */
    int growing = open("g", O_RDWR | O_CREAT, 0600);
    pwrite(growing, bytes, 2 * PAGE, 0);
    char *copy = mmap(0, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, growing, 0);
    copy[5] = 77;
    pwrite(growing, bytes + PAGE, 4 * PAGE - 100, 2 * PAGE);
    shared = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, growing, 2 * PAGE);
    strcpy(shared, "stored");
    copy = mremap(copy, 2 * PAGE, 4 * PAGE, MREMAP_MAYMOVE);
    if (copy == MAP_FAILED)
        return perror("mremap");
    copy[2 * PAGE + 8] = 78;
    printf("%.6s %lx\n", copy + 2 * PAGE, sum(copy, 4 * PAGE));
    char *to = mmap(0, 6 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    copy = mremap(copy, 4 * PAGE, 6 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to);
    if (copy != to)
        return perror("mremap");
    printf("%lx\n", sum(copy, 6 * PAGE));
    say("madvise", 2, 0, 0, madvise(copy, 6 * PAGE, MADV_DONTNEED));
    printf("%lx\n", sum(copy, 6 * PAGE));
}

/* Maps a file in the place of a part of the heap, stores there, and gives that part up. */
static void heap(void) {
    int file = open("h", O_RDWR | O_CREAT, 0600);
    ftruncate(file, PAGE);
    char *end = sbrk(0), *page = (char *)(((uintptr_t)end + PAGE - 1) / PAGE * PAGE);
    int grown = !brk(page + PAGE);
    char *at = mmap(page, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0);
    strcpy(at, "stored");
    int shrunk = !brk(end);
    char text[7] = "";
    pread(file, text, 6, 0);
    printf("%d %d %s\n", grown, shrunk, text);
}

/* Maps a file many times, and stores in each mapping. */
static void many(long mappings) {
    int file = open("m", O_RDWR | O_CREAT, 0600);
    ftruncate(file, PAGE);
    long sum = 0;
    for (long i = 0; i < mappings; i++) {
        char *at = mmap(0, PAGE, PROT_READ | PROT_WRITE, i % 2 ? MAP_SHARED : MAP_PRIVATE, file, 0);
        sum += at == MAP_FAILED ? 1 << 20 : (unsigned char)++at[i % 7];
    }
    printf("%ld\n", sum);
}

/* `mov eax, value; ret` */
static void put_code(char *at, int value) {
    at[0] = (char)0xb8;
    memcpy(at + 1, &value, sizeof value);
    at[5] = (char)0xc3;
}

static int run(const char *code) {
    return ((int (*)(void))code)();
}

static char *mapped(int protection, int flags, int file) {
    char *at = mmap(0, PAGE, protection, flags, file, 0);
    if (at == MAP_FAILED) {
        printf("mmap: %s\n", strerrorname_np(errno));
        exit(1);
    }
    return at;
}

/* Writes code to a file through one descriptor or mapping, and runs it in other mappings. */
static void run_file(int file, int only_read) {
    enum { READ_WRITE = PROT_READ | PROT_WRITE, READ_EXECUTE = PROT_READ | PROT_EXEC };
    char code[6];
    put_code(code, 1);
    pwrite(file, code, sizeof code, 0);
    char *executable = mapped(READ_EXECUTE, MAP_SHARED, only_read);
    printf("%d", run(executable));
    char *writable = mapped(READ_WRITE, MAP_SHARED, file);
    for (int value = 2; value < 5; value++) {
        put_code(writable, value);
        printf(" %d", run(executable));
    }
    put_code(code, 5);
    pwrite(file, code, sizeof code, 0);
    printf(" %d\n", run(executable));

    /* The writable one becomes executable, and is written again. */
    say("execute", 0, 0, 0, mprotect(writable, PAGE, READ_EXECUTE));
    printf("%d\n", run(writable));
    say("write", 0, 0, 0, mprotect(writable, PAGE, READ_WRITE));
    put_code(writable, 6);
    printf("%d", run(executable));

    /* A copy is what the file was, as with a library that the program has made. */
    char *copy = mapped(READ_EXECUTE, MAP_PRIVATE, only_read);
    printf(" %d\n", run(copy));
    munmap(copy, PAGE), munmap(writable, PAGE), munmap(executable, PAGE);
}

/* Makes code in files that it maps more than once, and in memory that is first writable and then executable. */
static void code(void) {
    int file = memfd_create("code", 0);
    ftruncate(file, PAGE);
    run_file(file, file);
    close(open("x", O_RDWR | O_CREAT, 0600));
    truncate("x", PAGE);
    int only_read = open("x", O_RDONLY);
    run_file(open("x", O_RDWR), only_read);
    char *at = mapped(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    for (int value = 1; value < 4; value++) {
        put_code(at, value);
        say("execute", 0, 0, 0, mprotect(at, PAGE, PROT_READ | PROT_EXEC));
        printf("%d\n", run(at));
        mprotect(at, PAGE, PROT_READ | PROT_WRITE);
    }
}

/* Changes code that a file has had since before it was opened. */
static void change_code(void) {
    int only_read = open("x", O_RDONLY);
    char *executable = mapped(PROT_READ | PROT_EXEC, MAP_SHARED, only_read);
    printf("%d\n", run(executable));
    run_file(open("x", O_RDWR), only_read);
    printf("%d\n", run(executable));
}

/* Asks for what is writable and executable at once, and for what is executable, in every way. */
static void ask_for_code(void) {
    enum { ALL = PROT_READ | PROT_WRITE | PROT_EXEC };
    int file = memfd_create("code", 0);
    ftruncate(file, PAGE);
    static const int SHARES[] = {MAP_SHARED, MAP_PRIVATE, MAP_PRIVATE | MAP_ANONYMOUS};
    for (int way = 0; way < 3; way++) {
        void *both = mmap(0, PAGE, ALL, SHARES[way], file, 0);
        say("map both", way, 0, 0, both != MAP_FAILED ? 0 : -1);
        char *at = mapped(PROT_READ | PROT_WRITE, SHARES[way], file);
        put_code(at, 7);
        say("execute, too", way, 0, 0, mprotect(at, PAGE, ALL));
        put_code(at, 8);
        void *executable = mmap(0, PAGE, PROT_READ | PROT_EXEC, SHARES[way], file, 0);
        say("map executable", way, 0, 0, executable != MAP_FAILED ? 0 : -1);
        long changed = mprotect(at, PAGE, PROT_READ | PROT_EXEC);
        say("execute", way, 0, 0, changed);
        say("write, too", way, 0, 0, mprotect(at, PAGE, ALL));
        if (!changed)
            printf("%d\n", run(at));
    }
}

/* Has code for each line that it reads, which counts. */
static void count_in_code(void) {
    int file = memfd_create("code", 0);
    ftruncate(file, PAGE);
    char *writable = mapped(PROT_READ | PROT_WRITE, MAP_SHARED, file);
    char *executable = mapped(PROT_READ | PROT_EXEC, MAP_SHARED, file);
    put_code(writable, 0);
    char line[100];
    while (fgets(line, sizeof line, stdin)) {
        put_code(writable, run(executable) + 1);
        printf("%d\n", run(executable));
        fflush(stdout);
        if (!strcmp(line, "fault\n")) {
            memcpy(writable, "\x0f\x0b", 2); /* ud2 */
            run(executable);
        }
    }
}

/* Has code in memory that is writable and executable at once, which counts in itself for each line that it reads. */
static void count_in_itself(void) {
    char *at = mapped(PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    /* `add dword ptr [rip + 1], 1` changes the value of what follows it: `mov eax, 0; ret`. */
    static const char COUNTS[] = "\x83\x05\x01\0\0\0\x01\xb8\0\0\0\0\xc3";
    memcpy(at, COUNTS, sizeof COUNTS);
    char line[100];
    while (fgets(line, sizeof line, stdin)) {
        printf("%d\n", run(at));
        fflush(stdout);
        while (!strcmp(line, "spin\n"))
            run(at);
        if (!strcmp(line, "fault\n")) {
            memcpy(at, "\x0f\x0b", 2); /* ud2 */
            run(at);
        }
    }
}

int main(int argc, char **argv) {
    struct sigaction action = {.sa_handler = caught};
    if (argc < 2)
        return 2;
    if (!strcmp(argv[1], "count")) {
        count(argv[2]);
        return 0;
    }
    if (!strcmp(argv[1], "count-in-code")) {
        count_in_code();
        return 0;
    }
    if (!strcmp(argv[1], "count-in-itself")) {
        count_in_itself();
        return 0;
    }
    sigaction(SIGBUS, &action, 0);
    sigaction(SIGSEGV, &action, 0);
    if (!strcmp(argv[1], "random")) {
        state = 88172645463325252 + 1234567 * atol(argv[2]);
        random_steps(atol(argv[3]), argc > 4 ? atol(argv[4]) : 0);
    } else if (!strcmp(argv[1], "seals"))
        seals();
    else if (!strcmp(argv[1], "permissions"))
        permissions();
    else if (!strcmp(argv[1], "copies"))
        copies();
    else if (!strcmp(argv[1], "heap"))
        heap();
    else if (!strcmp(argv[1], "many"))
        many(atol(argv[2]));
    else if (!strcmp(argv[1], "code"))
        code();
    else if (!strcmp(argv[1], "change-code"))
        change_code();
    else if (!strcmp(argv[1], "ask-for-code"))
        ask_for_code();
    return 0;
}
