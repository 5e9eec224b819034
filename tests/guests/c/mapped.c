/* An ordinary program that uses a file of three pages and more: it reads it, maps it in the ways that there are, and prints what
   it finds, without addresses. With `write` it writes to the file through a mapping and through its descriptor, with
   `everything` it maps it in ways that it may be refused, and with `where` it prints where its mapping is. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 4096

static uint64_t sum(const unsigned char *bytes, size_t len) {
    uint64_t sum = 0;
    for (size_t at = 0; at < len; at++)
        sum = sum * 31 + bytes[at];
    return sum;
}

static void say(const char *what, long result) {
    printf("%s: %ld%s%s\n", what, result, result < 0 ? " " : "", result < 0 ? strerrorname_np(errno) : "");
}

static void use(const char *path) {
    struct stat found;
    int file = open(path, O_RDONLY);
    say("stat", fstat(file, &found));
    size_t len = found.st_size, pages = (len + PAGE - 1) / PAGE * PAGE;
    printf("%zu bytes in %ld blocks, a file: %d\n", len, (long)found.st_blocks, S_ISREG(found.st_mode));

    unsigned char *copy = malloc(pages);
    say("read", read(file, copy, 100));
    say("read all", read(file, copy + 100, pages));
    say("at the end", read(file, copy, 1));
    uint64_t expected = sum(copy, len);
    printf("sum %lx\n", expected);
    say("pread", pread(file, copy, 50, len - 20));
    say("pread behind", pread(file, copy, 50, len + 20));
    say("seek to the end", lseek(file, 0, SEEK_END));
    say("seek to data", lseek(file, 5, SEEK_DATA));
    say("seek to a hole", lseek(file, 5, SEEK_HOLE));
    say("seek behind", lseek(file, len, SEEK_DATA));

    unsigned char *all = mmap(NULL, len, PROT_READ, MAP_SHARED, file, 0);
    unsigned char *last = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, file, pages - PAGE);
    printf("mapped: %d, the last page: %d\n", sum(all, len) == expected, !memcmp(last, all + pages - PAGE, PAGE));
    printf("zeros behind the end: %d\n", len == pages || (all[len] == 0 && all[pages - 1] == 0));
    say("advise", madvise(all, pages, MADV_SEQUENTIAL) | madvise(all, pages, MADV_WILLNEED));
    say("forget", madvise(all, pages, MADV_DONTNEED));
    say("sync", msync(all, pages, MS_SYNC));
    say("protect", mprotect(all, pages, PROT_READ));
    say("make writable", mprotect(all, pages, PROT_READ | PROT_WRITE));
    say("map to write", mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0) == MAP_FAILED ? -1 : 0);
    say("map at an odd offset", mmap(NULL, len, PROT_READ, MAP_SHARED, file, 5) == MAP_FAILED ? -1 : 0);

    unsigned char *own = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    printf("a copy: %d\n", sum(own, len) == expected);
    own[PAGE + 1] ^= 1;
    printf("is another one: %d\n", sum(own, len) != expected && sum(all, len) == expected);
    say("forget the copy", madvise(own, pages, MADV_DONTNEED));
    printf("it is the file's again: %d\n", sum(own, len) == expected);
    unsigned char *there = mmap(own + PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, file, 0);
    printf("at an address: %d\n", there == own + PAGE && !memcmp(there, all, PAGE));
    say("unmap the copy", munmap(own, pages));
    own = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    own[1] ^= 1;
    own = mremap(own, PAGE, 2 * PAGE, MREMAP_MAYMOVE);
    printf("a copy has grown: %d\n", own[1] == (all[1] ^ 1) && !memcmp(own + PAGE, all + PAGE, PAGE));
    say("unmap", munmap(last, PAGE));
    printf("the other mapping: %d\n", sum(all, len) == expected);
    say("unmap", munmap(all, len));
    close(file);
    file = open(path, O_RDONLY);
    all = mmap(NULL, len, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    printf("again, and closed: %d\n", sum(all, len) == expected);
}

static void store(const char *path) {
    int file = open(path, O_RDWR);
    struct stat found;
    fstat(file, &found);
    size_t len = found.st_size;
    unsigned char *all = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    all[3] = 'm';
    say("write", pwrite(file, "dd", 2, PAGE + 1));
    unsigned char read[2];
    say("read", pread(file, read, 1, 3));
    printf("%c %c%c\n", read[0], all[PAGE + 1], all[PAGE + 2]);
    say("sync", fsync(file) | msync(all, len, MS_SYNC));
    say("seek", lseek(file, len - 1, SEEK_SET));
    say("write at the end", write(file, "e", 1));
    printf("%c\n", all[len - 1]);
}

/* All that a mapping can be at once, of which no mapping of the application's is everything. */
static void everything(const char *path) {
    int file = open(path, O_RDONLY);
    int all = PROT_READ | PROT_WRITE | PROT_EXEC;
    unsigned char *own = mmap(NULL, PAGE, all, MAP_PRIVATE, file, 0);
    if (own == MAP_FAILED)
        say("a copy", -1);
    else
        own[0] ^= 1;
    say("shared", mmap(NULL, PAGE, all, MAP_SHARED, file, 0) == MAP_FAILED ? -1 : 0);
    unsigned char read;
    say("read", pread(file, &read, 1, 0));
    printf("%c\n", read);
}

static void where(const char *path, size_t len) {
    int file = open(path, O_RDONLY);
    printf("%p\n", mmap(NULL, len, PROT_READ, MAP_SHARED, file, 0));
    say("behind the end", mmap(NULL, len + PAGE, PROT_READ, MAP_SHARED, file, 0) == MAP_FAILED ? -1 : 0);
    say("open to write", open(path, O_RDWR));
    say("open to cut off", open(path, O_RDONLY | O_TRUNC));
    say("remove", unlink(path));
    say("rename", rename(path, "/dev/ampoule/other"));
    say("create", open("/dev/ampoule/other", O_RDWR | O_CREAT, 0600));
    fflush(stdout);
    char line[300];
    FILE *maps = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, maps))
        if (strstr(line, "7ff"))
            fputs(line, stdout);
}

int main(int count, char **arguments) {
    if (count == 3 && !strcmp(arguments[1], "use"))
        use(arguments[2]);
    else if (count == 3 && !strcmp(arguments[1], "write"))
        store(arguments[2]);
    else if (count == 3 && !strcmp(arguments[1], "everything"))
        everything(arguments[2]);
    else if (count == 4 && !strcmp(arguments[1], "where"))
        where(arguments[2], strtoul(arguments[3], NULL, 10));
    else
        return 2;
    return 0;
}
