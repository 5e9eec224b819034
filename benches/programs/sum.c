/* Adds up the bytes of a file, eight at a time: `sum read FILE` or `sum mmap FILE`, or eight bytes of every 16 MiB: `sum parts
   FILE`. Prints the way, and nanoseconds. */

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000ull + time.tv_nsec;
}

static uint64_t sum_of(const uint64_t *words, size_t bytes) {
    uint64_t sum = 0;
    for (size_t at = 0; at < bytes / 8; at++)
        sum += words[at];
    return sum;
}

int main(int count, char **arguments) {
    struct stat found;
    if (count < 3)
        return 2;
    uint64_t start = now(), sum = 0;
    int file = open(arguments[2], O_RDONLY);
    if (file < 0 || fstat(file, &found) != 0) {
        perror(arguments[2]);
        return 1;
    }
    if (strcmp(arguments[1], "read") != 0) {
        const void *bytes = mmap(NULL, found.st_size, PROT_READ, MAP_PRIVATE, file, 0);
        if (bytes == MAP_FAILED) {
            perror("mmap");
            return 1;
        }
        if (strcmp(arguments[1], "mmap") == 0)
            sum = sum_of(bytes, found.st_size);
        else
            for (off_t at = 0; at < found.st_size; at += 16 << 20)
                sum += *(const uint64_t *)((const char *)bytes + at);
    } else {
        static uint64_t buffer[1 << 17];
        ssize_t got;
        while ((got = read(file, buffer, sizeof buffer)) > 0)
            sum += sum_of(buffer, got);
        if (got < 0) {
            perror("read");
            return 1;
        }
    }
    uint64_t time = now() - start;
    fprintf(stderr, "%lx\n", sum);
    printf("%s %lu\n", arguments[1], time);
    return 0;
}
