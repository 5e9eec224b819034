/* What a program finds of its processor: a line for each leaf and subleaf of `cpuid` that it is asked for. And whether it can use
 * the registers of AVX. */

#include <cpuid.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void no_such_instruction(int signal) {
    (void)signal;
    puts("no AVX");
    exit(0);
}

int main(int count, char **arguments) {
    if (count == 2 && strcmp(arguments[1], "avx") == 0) {
        signal(SIGILL, no_such_instruction);
        __asm__ volatile("vpxor %%ymm0, %%ymm0, %%ymm0" ::: "xmm0");
        puts("AVX");
        return 0;
    }
    for (int at = 1; at + 1 < count; at += 2) {
        unsigned leaf = strtoul(arguments[at], NULL, 16), subleaf = strtoul(arguments[at + 1], NULL, 16);
        unsigned a, b, c, d;
        __cpuid_count(leaf, subleaf, a, b, c, d);
        printf("%x %x %x %x\n", a, b, c, d);
    }
    return 0;
}
